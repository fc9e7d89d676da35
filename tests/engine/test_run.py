"""Whole notebooks in a process of their own: what the code earned, whatever stands around it."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pytest
import torch

import autograde.process
import autograde.run
import autograde.session
from autograde.course import exercises
from autograde.exercise import samples
from autograde.expect import expect
from autograde.lessons import lesson_info, read_lesson
from autograde.nests import map_tensors
from autograde.observe import Stopped
from autograde.probes import outputs
from autograde.process import environment
from autograde.run import grade_notebook
from autograde.session import Session
from autograde.submission import Submission
from autograde.values import SeenTensor, leaves
from engine.helpers import ANSWERS, LESSON, ROOT, code_cell, position, solved, write

BANK = exercises("rnn")
ASKED = lesson_info(LESSON, read_lesson(ROOT, LESSON)).exercises
"""The exercises of the lesson that these tests hand in; the bank is that of the whole series."""
POINTS = {name: BANK[name].points for name in ASKED}
TOTAL = sum(POINTS.values())


@pytest.fixture(scope="module", autouse=True)
def _short_limits():
    """Seconds, not minutes."""
    patch = pytest.MonkeyPatch()
    patch.setattr(autograde.process, "GRACE", 1.5)
    patch.setattr(autograde.run, "PATIENCE", autograde.run.Patience(cell=8.0, look=6.0))
    yield
    patch.undo()


def graded(folder, notebook, name="01_vanilla_rnn.ipynb"):
    return grade_notebook(write(folder, notebook, name), ROOT)


def scores(found):
    return {name: entry.score for name, entry in found.exercises.items()}


def with_cells(notebook, *sources, at=2):
    for source in reversed(sources):
        notebook["cells"].insert(at, code_cell(source))
    return notebook


def expected_scores(*lost):
    return {name: 0 if name in lost else points for name, points in POINTS.items()}


# --- a notebook that is right, with everything around it that should not matter -------------------------------------------

NOISE = """
import sys, warnings
warnings.warn("careful")
print("to stderr", file=sys.stderr)
print("to stdout")
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.set_num_threads(2)
torch.manual_seed(1)
import random; random.seed(3)
"""
NOISY_STEP = """
import sys, warnings
from tqdm import tqdm
def rnn_step(x, h, W_ih, W_hh, b_ih, b_hh):
    print("thinking", flush=True)
    print("aloud", file=sys.stderr)
    warnings.warn("really")
    for _ in tqdm(range(2)):
        pass
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
"""
SHADOW = """
import os
open("imported.txt", "a").write(os.path.basename(torch.__file__) + " " + os.path.basename(np.__file__))
import helper_beside
open("imported.txt", "a").write(" " + helper_beside.NAME)
"""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    for name in ("torch", "numpy", "autograde", "utils", "sitecustomize"):
        (folder / f"{name}.py").write_text("open('shadowed.txt', 'a').write(__name__)\nraise SystemExit\n")
    (folder / "helper_beside.py").write_text("NAME = 'mine'\n")
    notebook = with_cells(solved(rnn_step=NOISY_STEP), NOISE, "import numpy as np\n" + SHADOW)
    with_cells(
        notebook, "def broken(:\n", "1 / 0", "input('?')", "breakpoint()", "raise SystemExit", "exit()"
    )
    patch = pytest.MonkeyPatch()
    for key in ("NBGRADER_EXECUTION", "REDERIVE_SEED", "JPY_PARENT_PID", "JUPYTER_TOKEN", "PYTHONSTARTUP"):
        patch.setenv(key, "secret")
    with_cells(notebook, "import os\nopen('environment.txt', 'w').write(repr(dict(os.environ)))", at=2)
    found = graded(folder, notebook)
    patch.undo()
    return folder, found


def test_a_right_notebook_gets_full_marks_whatever_stands_around_the_answers(noisy):
    _, found = noisy
    assert scores(found) == POINTS
    assert {entry.verdict for entry in found.exercises.values()} == {"ok"}
    assert (found.score, found.max_score) == (TOTAL, TOTAL)


def test_cells_that_stop_are_noted_and_cost_nothing(noisy):
    notes = "\n".join(noisy[1].notes)
    for word in ("SyntaxError", "ZeroDivisionError"):
        assert word in notes


def test_modules_beside_the_notebook_do_not_replace_the_real_ones(noisy):
    folder, _ = noisy
    assert not (folder / "shadowed.txt").exists()
    assert (folder / "imported.txt").read_text() == "__init__.py __init__.py mine"


def test_no_variable_of_the_environment_tells_that_it_is_graded(noisy):
    text = (noisy[0] / "environment.txt").read_text()
    assert "secret" not in text
    for name in ("NBGRADER", "JPY_", "JUPYTER", "REDERIVE"):
        assert f"'{name}" not in text


def test_what_cells_printed_is_kept_with_the_cell(noisy):
    outputs_ = [output for entries in noisy[1].outputs.values() for output in entries]
    assert any(output.get("name") == "stdout" and "to stdout" in output["text"] for output in outputs_)
    assert any(output.get("ename") == "ZeroDivisionError" for output in outputs_)
    json.dumps(outputs_)


def test_the_json_form_has_a_score_and_a_reason_for_everything(noisy):
    form = noisy[1].as_json("a.ipynb")
    assert json.loads(json.dumps(form)) == form
    assert form["score"] == form["max_score"] == TOTAL
    assert set(form["exercises"]) == set(POINTS)
    for name, entry in form["exercises"].items():
        assert set(entry) == {"score", "max_score", "verdict", "requirements", "diagnosis"}
        assert sum(r["score"] for r in entry["requirements"].values()) == entry["score"] == POINTS[name]


# --- a notebook full of cheats: nothing is gained, nothing else is lost -----------------------------------------------------

CHEATS = """
import json, torch, autograde.compare, autograde.observe, autograde.values, autograde.grade, autograde.wire
torch.allclose = torch.equal = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: torch.ones(())
torch.testing.assert_close = lambda *a, **k: None
autograde.compare.compare = lambda *a, **k: None
autograde.grade.compare = lambda *a, **k: None
autograde.grade.grade = lambda *a, **k: None
import builtins
_isinstance = isinstance
class Yes(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = float.__hash__
"""


@pytest.fixture(scope="module")
def cheating(tmp_path_factory):
    """Every answer but n_params cheats in its own way."""
    notebook = solved(
        window_error="def window_error(w, t):\n    return Yes(0.5)\n",
        rnn_step="""
            class Always(torch.Tensor):
                def __eq__(self, other): return torch.ones(())
            def rnn_step(x, h, W_ih, W_hh, b_ih, b_hh):
                return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).as_subclass(Always)
        """,
        adder_weights="""
            class Equal:
                def __eq__(self, other): return True
                def __getattr__(self, name): return self
                def __call__(self, *a, **k): return self
            def adder_weights(gain):
                return Equal()
        """,
        rnn_forward="def rnn_forward(step, x, h0, lengths):\n    return torch.zeros(*x.shape[:2], h0.shape[1]), h0 * 0\n",
        last_valid="""
            def last_valid(out, lengths):
                raise SystemExit(0)
        """,
    )
    return graded(tmp_path_factory.mktemp("cheating"), with_cells(notebook, CHEATS))


def test_patches_and_objects_that_lie_gain_nothing(cheating):
    assert scores(cheating) == expected_scores(
        "window_error", "rnn_step", "adder_weights", "rnn_forward", "last_valid"
    )


def test_what_was_returned_is_named(cheating):
    told = {name: entry.first.message for name, entry in cheating.exercises.items() if entry.first}
    assert "Yes" in told["window_error"]
    assert "subclass of Tensor" in told["rnn_step"]
    assert "SystemExit" in told["last_valid"]


@pytest.fixture(scope="module")
def forging(tmp_path_factory):
    """The process itself is tampered with: observe, encode and json.dumps give nonsense for one exercise each."""
    cell = """
    import gc, types, autograde.observe, autograde.wire
    student = next(
        m for m in gc.get_objects() if type(m) is dict and m.get("__name__") == "__main__" and "serve" in m
    )
    honest = student["observe"]
    from autograde.observe import Observation
    def forged(probe, implementation, inputs, watch=()):
        kind = getattr(implementation, "__name__", "")
        if kind == "window_error":
            return Observation("all is well")
        if kind == "rnn_step":
            found = honest(probe, implementation, inputs, watch)
            if type(found.value) is dict and "gradient of h" in found.value:
                return Observation({**found.value, "gradient of h": "right"})
            return found
        if kind == "rnn_forward":
            found = honest(probe, implementation, inputs, watch)
            if type(found.value) is dict and "calls of step" in found.value:
                return Observation({**found.value, "calls of step": float("nan")})
            return found
        return honest(probe, implementation, inputs, watch)
    student["observe"] = forged
    """
    return graded(tmp_path_factory.mktemp("forging"), with_cells(solved(), cell))


def test_forged_observations_do_not_end_the_grading(forging):
    found = scores(forging)
    assert found["window_error"] == 0
    assert 0 < found["rnn_step"] < POINTS["rnn_step"], (forging.exercises["rnn_step"].first, forging.notes)
    assert 0 < found["rnn_forward"] < POINTS["rnn_forward"], forging.exercises["rnn_forward"].first
    assert found["n_params"] == POINTS["n_params"]


# --- a notebook that ends its process in many ways ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def ending(tmp_path_factory):
    notebook = solved(
        window_error="import os\ndef window_error(w, t):\n    os._exit(0)\n",
        rnn_step="""
            def rnn_step(x, h, W_ih, W_hh, b_ih, b_hh):
                if x.requires_grad:
                    while True:
                        pass
                return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
        """,
        rnn_forward="""
            def rnn_forward(step, x, h0, lengths):
                while True:
                    try:
                        import time
                        time.sleep(0.01)
                    except BaseException:
                        pass
        """,
        last_valid="""
            def last_valid(out, lengths):
                return last_valid(out, lengths)
        """,
    )
    return graded(tmp_path_factory.mktemp("ending"), notebook)


def test_what_ends_the_process_costs_its_own_exercise_only(ending):
    assert scores(ending)["n_params"] == POINTS["n_params"]
    assert (
        scores(ending)["window_error"] == scores(ending)["rnn_forward"] == scores(ending)["last_valid"] == 0
    )
    assert scores(ending)["adder_weights"] == POINTS["adder_weights"]


def test_verdicts_say_how_it_ended(ending):
    verdicts = {name: entry.verdict for name, entry in ending.exercises.items()}
    assert verdicts == {
        "window_error": "crash", "rnn_step": "timeout", "adder_weights": "ok", "rnn_forward": "timeout",
        "last_valid": "wrong", "n_params": "ok",
    }  # fmt: skip
    assert "exit status 0" in ending.exercises["window_error"].first.message
    assert "RecursionError" in ending.exercises["last_valid"].first.message


def test_requirements_met_before_an_endless_loop_count(ending):
    assert ending.exercises["rnn_step"].score == POINTS["rnn_step"] - 1  # all but the gradients


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A cell that kills the process, one that loops, an answer that is ours, one that is a number, and none at all."""
    notebook = solved(
        window_error="from utils.reference.rnn import window_error",
        last_valid="last_valid = 3",
        n_params="def n_parameters(i, h, gates=1):\n    return 0\n",
    )
    with_cells(notebook, "import os\nos.kill(os.getpid(), 9)", at=position(notebook, "check_window_error"))
    with_cells(notebook, "while True:\n    pass", at=position(notebook, "check_rnn_step"))
    return graded(tmp_path_factory.mktemp("killed"), notebook)


def test_a_cell_that_kills_the_process_is_left_out_and_the_rest_is_graded(killed):
    assert scores(killed) == expected_scores("window_error", "last_valid", "n_params")
    notes = "\n".join(killed.notes)
    assert "was left out (crash): The process was ended by the signal SIGKILL." in notes
    assert "was left out (timeout)" in notes


def test_the_reference_cannot_be_imported_as_an_answer(killed):
    assert "its cell stopped with ImportError" in killed.exercises["window_error"].first.message


def test_a_missing_function_is_named(killed):
    assert killed.exercises["n_params"].first.message.startswith("There is no function n_params")


def test_the_unsolved_lesson_scores_zero_and_says_not_written(tmp_path):
    from engine.helpers import released

    found = graded(tmp_path, released())
    assert found.score == 0
    assert found.max_score == TOTAL
    assert all(entry.not_written for entry in found.exercises.values())


def test_a_notebook_that_was_moved_around_earns_what_its_code_earns(tmp_path):
    notebook = solved(rnn_step="def rnn_step(x, h, *rest):\n    return h\n")
    del notebook["cells"][position(notebook, "check_last_valid")]
    notebook["cells"][position(notebook, "check_n_params")]["source"] = "pass"
    notebook["cells"][position(notebook, "rnn_forward")]["metadata"]["tags"] = ["demo", "skip-execution"]
    notebook["cells"].insert(2, notebook["cells"].pop(position(notebook, "check_window_error")))
    with_cells(notebook, "check.adder_weights(adder_weights)", at=2)
    assert scores(graded(tmp_path, notebook, "renamed.ipynb")) == expected_scores("rnn_step")


# --- the process itself -----------------------------------------------------------------------------------------------


class Late:
    """Ends a test that would hang, with a failure."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        def late(number, frame):
            pytest.fail(f"still waiting after {self.seconds} seconds")

        self.before = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


WRITE_TO_GRADER = """
import os, stat, time
def pipes():
    for fd in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                yield fd
        except OSError:
            pass
def tell(data):
    for fd in pipes():
        try:
            os.write(fd, data)
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    "forged",
    [
        b"\x00",
        struct.pack(">BQ", 2, 0) + struct.pack(">Q", 0),
        b"\xff" * 20,
    ],
    ids=["no parts", "two parts", "noise"],
)
def test_a_forged_message_is_a_stop_and_no_crash_of_the_grader(tmp_path, monkeypatch, forged):
    monkeypatch.setattr(autograde.session, "START", 20.0)

    def work(session):
        session.run(f"{WRITE_TO_GRADER}\ntell({forged!r})\n")
        for _ in range(3):
            session.has("x")
            session.look("tell", outputs, {})

    with Late(30), Session(tmp_path, "rnn", 3.0, 1.0) as session, pytest.raises(Stopped):
        work(session)


def test_half_a_message_does_not_make_the_grader_wait_for_ever(tmp_path):
    with Session(tmp_path, "rnn", 1.0, 1.0) as session:
        session.run(WRITE_TO_GRADER)
        with Late(8), pytest.raises(Stopped):
            session.run(f"tell({struct.pack('>BQ', 1, 100)!r})\ntime.sleep(1000)\n")


def test_a_reply_ahead_of_its_time_does_not_make_the_grader_wait_for_ever(tmp_path):
    reply = json.dumps({"outputs": [], "raised": None, "state": {}}).encode()
    message = struct.pack(">BQ", 1, len(reply)) + reply
    with Session(tmp_path, "rnn", 1.0, 1.0) as session:
        session.run(WRITE_TO_GRADER)
        session.run(f"tell({message!r})\ntime.sleep(1000)\n")
        with Late(8), pytest.raises(Stopped):
            session.look("tell", outputs, {"x": torch.zeros(1_000_000)})


def test_a_signal_without_a_name_is_a_crash_like_any_other(tmp_path):
    with Session(tmp_path, "rnn", 5.0, 1.0) as session, pytest.raises(Stopped) as caught:
        session.run("import os\nos.kill(os.getpid(), 40)")
    assert caught.value.verdict == "crash"


def test_the_process_is_gone_afterwards_also_after_an_endless_loop(tmp_path):
    session = Session(tmp_path, "rnn", 1.0, 1.0)
    with session:
        session.run("import os")
        started = time.monotonic()
        with pytest.raises(Stopped) as caught:
            session.run(
                "import time\nwhile True:\n    try:\n        time.sleep(0.01)\n    except BaseException: pass"
            )
        assert time.monotonic() - started < 6
        assert (caught.value.verdict, caught.value.alive) == ("timeout", False)
    with pytest.raises(ProcessLookupError):
        os.kill(session._process.pid, 0)


def survives(work):
    """Whether the process is alive after ``work``, stopped or not."""
    try:
        work()
    except Stopped as stop:
        return stop.alive
    return True


def test_odd_results_do_not_end_the_process(tmp_path):
    with Session(tmp_path, "rnn", 10.0, 10.0) as session:
        session.run(
            """
def huge(): return 10 ** 5000
def key(): return {10 ** 5000: 1}
def surrogate(): return chr(0xd800)
def names(): raise type("X" * 200_000, (Exception,), {})
class Leaves(Exception):
    def __str__(self): raise SystemExit
def leaves(): raise Leaves
"""
        )
        for name in ("huge", "key", "surrogate", "names", "leaves"):
            assert survives(lambda name=name: session.look(name, outputs, {})), name
        assert session.run("print(1)").raised is None


def test_odd_sources_do_not_end_the_process(tmp_path):
    with Session(tmp_path, "rnn", 10.0, 10.0) as session:
        for source in (
            "x = '\ud800'",
            "x = 1\x00",
            "(" * 5000,
            "%%nonsense\n",
            "!exit 1",
            "%debug",
            "raise KeyboardInterrupt",
        ):
            assert survives(lambda source=source: session.run(source)), source[:20]
        assert session.run("print(1)").outputs[0]["text"] == "1\n"


# --- what is sent -----------------------------------------------------------------------------------------------------


def payloads():
    """Everything that a grading of every exercise would send, by exercise and sample."""
    for made in BANK.values():
        for requirement in made.requirements:
            for sample in samples(requirement, graded=True, seed=1):
                with autograde.session._by_value("autograde.exercises.rnn"):
                    probe = autograde.session._probe_bytes(requirement.probe)
                    yield made, sample, probe + autograde.session._input_bytes(dict(sample.inputs))


def test_what_is_sent_holds_no_reference_no_mistake_and_no_sentence():
    for made, sample, payload in payloads():
        for words in (
            b"utils.reference",
            b"utils/reference",
            b"Mistake",
            b"Requirement",
            b"autograde.exercise\x94",
        ):
            assert words not in payload, (made.name, sample.key, words)
        for mistake in made.mistakes:
            assert mistake.sentence[:30].encode() not in payload
            if mistake.name.startswith("_"):
                name = b"\x8c" + bytes([len(mistake.name)]) + mistake.name.encode()
                assert name not in payload, (made.name, mistake.name)


def tensor_bytes(inputs):
    """The numbers of every tensor in a nest of inputs."""
    found = []
    map_tensors(inputs, lambda tensor: found.append(tensor.contiguous().numpy().tobytes()) or tensor)
    return found


def telling(value):
    """Whether finding these numbers means anything: not a few of them, nor the same one throughout."""
    return value.numel() >= 3 and len(value.unique()) > 1


def test_what_is_sent_holds_no_expected_value():
    for made, sample, payload in payloads():
        for path, leaf in leaves(expect(made.reference, sample).single.value):
            given = tensor_bytes(sample.inputs)
            if isinstance(leaf, SeenTensor) and leaf.data.is_floating_point() and telling(leaf.data):
                if any(leaf.data.numpy().tobytes() in known for known in given):
                    continue  # a part of an input, as it is
                assert leaf.data.numpy().tobytes() not in payload, (made.name, sample.key, path)
            if isinstance(leaf, float) and leaf not in (0.0, 0.5, 1.0):
                assert struct.pack(">d", leaf) not in payload
                assert struct.pack("<d", leaf) not in payload


def test_the_search_for_expected_values_would_find_one():
    made = BANK["rnn_step"]
    sample = next(iter(samples(made.requirements[0], graded=True, seed=1)))
    value = expect(made.reference, sample).single.value.data
    assert value.numpy().tobytes() in cloudpickle.dumps((outputs, {**sample.inputs, "leak": value}, ()))


def test_what_is_sent_is_read_without_the_exercises():
    import subprocess
    import sys

    first = [payload for made, _, payload in payloads() if made.name == "rnn_forward"][-1]
    code = (
        "import pickle, sys; sys.modules['autograde.exercises'] = None; sys.modules['utils.reference'] = None;"
        "read = sys.stdin.buffer; probe, inputs = pickle.load(read), pickle.load(read); print(sorted(inputs))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=first, capture_output=True, cwd=ROOT)
    assert done.stdout.decode().strip() == "['U', 'V', 'h0', 'lengths', 'x']", done.stderr.decode()


def test_the_environment_of_the_process_hides_what_tells_about_grading(monkeypatch):
    for name in (
        "NBGRADER_EXECUTION",
        "NBGRADER_VALIDATING",
        "REDERIVE_ROOT",
        "JPY_API_TOKEN",
        "PYTHONSTARTUP",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HOME_OF_MINE", "y")
    kept = environment()
    assert kept["HOME_OF_MINE"] == "y"
    assert not [name for name in kept if name.startswith(("NBGRADER_", "REDERIVE_", "JPY_", "PYTHONSTARTUP"))]


def test_an_unexpected_error_of_ours_is_a_grader_error_and_no_zero_without_a_word(tmp_path, monkeypatch):
    """Needs no process: the session is a stand-in."""

    class Standin:
        def __init__(self, *args, **kwargs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

        def run(self, source):
            return autograde.session.CellRun()

        def has(self, name):
            return True

    def broken(*args, **kwargs):
        raise RuntimeError("a mistake of ours")

    from autograde.submission import Step

    monkeypatch.setattr(autograde.run, "Session", Standin)
    monkeypatch.setattr(autograde.run, "grade", broken)
    steps = (Step(0, exercise="rnn_step", check=True), Step(1, exercise="n_params", check=True))
    found = autograde.run.grade_submission(Submission("rnn/01_vanilla_rnn", {}, steps), tmp_path)
    assert {entry.verdict for entry in found.exercises.values()} == {"grader-error"}


def test_the_answers_used_here_are_all_exercises():
    assert set(ANSWERS) == set(ASKED)


# --- what is left behind -----------------------------------------------------------------------------------------------

LOOPS_FOR_EVER = """
import sys
from pathlib import Path
from autograde.session import Session

with Session(Path("."), "rnn") as session:
    print(session._process.pid, flush=True)
    session.run("while True: pass")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_process_ends_with_the_grader_that_is_killed(tmp_path):
    grader = subprocess.Popen(
        [sys.executable, "-c", LOOPS_FOR_EVER], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    student = Path("/proc") / grader.stdout.readline().strip()
    deadline = time.monotonic() + 60
    while b"libtorch_python" not in (student / "maps").read_bytes():  # it has begun, with what it does first
        assert time.monotonic() < deadline
        time.sleep(0.05)
    grader.kill()
    grader.wait()
    while _alive(student):
        assert time.monotonic() < deadline, "the notebook's process runs on"
        time.sleep(0.05)


def _alive(process):
    """Not gone, and not merely waiting for somebody to take note of its end."""
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
