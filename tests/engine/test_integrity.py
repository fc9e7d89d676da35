"""Whether meters were tampered with, and whether work was done where they do not see it."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading

import pytest
import torch

import autograde.run
from autograde import integrity, meters, observe, process, wire
from autograde.classroom.sandbox import SEEN, Sandbox, why_not
from autograde.integrity import Alone, Seal
from autograde.observe import Stopped
from autograde.probes import outputs
from autograde.session import Session


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr(process, "GRACE", 1.5)


# --- the seal -------------------------------------------------------------------------------------------------------------------


def test_nothing_is_broken_at_first():
    assert Seal(integrity).broken() == ""


PATCHES = [
    (observe, "observe"),
    (observe, "seen"),
    (observe.Counted, "__call__"),
    (meters, "measure_memory"),
    (meters.AllocationMeter, "__torch_dispatch__"),
    (meters.AllocationMeter, "alive"),
    (wire, "encode"),
    (torch.utils._python_dispatch.TorchDispatchMode, "__enter__"),
]


@pytest.mark.parametrize(("place", "name"), PATCHES, ids=[f"{p.__name__}.{n}" for p, n in PATCHES])
def test_a_part_that_was_replaced_is_named(monkeypatch, place, name):
    seal = Seal()
    monkeypatch.setattr(place, name, lambda *a, **k: None)
    assert seal.broken() == f"{place.__name__}.{name} was replaced."
    monkeypatch.undo()
    assert seal.broken() == ""


def test_other_code_in_the_same_function_is_seen(monkeypatch):
    seal = Seal()
    monkeypatch.setattr(meters.measure_memory, "__code__", (lambda call, given: None).__code__)
    assert seal.broken() == "autograde.meters.measure_memory was replaced."


def test_a_part_that_was_deleted_is_seen(monkeypatch):
    seal = Seal()
    monkeypatch.delattr(observe, "copy_inputs")
    assert seal.broken() == "autograde.observe.copy_inputs was replaced."


def test_the_seal_covers_what_makes_observations():
    """Modules that run in the sandbox and are not sealed hold nothing that measures."""
    sealed = {
        place.__name__.removeprefix("autograde.") for place, _ in Seal()._places if hasattr(place, "__file__")
    }
    others = {"confine", "handover", "integrity", "nests", "student", "version", "warm"}
    assert sealed | others == set(SEEN) - {"integrity"} | {"integrity"}


# --- work elsewhere -------------------------------------------------------------------------------------------------------------


def thread():
    made = threading.Thread(target=int)
    made.start()
    made.join()


def bare_thread():
    import _thread

    _thread.start_new_thread(int, ())


def pool():
    with concurrent.futures.ThreadPoolExecutor(1) as made:
        made.submit(int).result()


def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def program():
    subprocess.run([sys.executable, "-c", ""], check=False)


def forked_process():
    made = multiprocessing.get_context("fork").Process(target=int)
    made.start()
    made.join()


WAYS = [thread, bare_thread, pool, fork, program, forked_process]


@pytest.mark.parametrize("way", WAYS)
def test_work_in_a_thread_or_process_is_noted(way):
    with Alone(True) as alone:
        way()
    assert "The meters do not see what is done there." in alone.left


@pytest.mark.parametrize("way", WAYS)
def test_where_it_is_allowed_it_is_not_noted(way):
    with Alone(False) as alone:
        way()
    assert alone.left == ""


def test_only_what_happens_inside_is_noted():
    with Alone(True) as alone:
        torch.ones(10).sum()
    thread()
    assert alone.left == ""


def test_two_at_once_both_note():
    with Alone(True) as outer:
        with Alone(True) as inner:
            thread()
        assert inner.left
    assert outer.left


def test_a_progress_bar_is_allowed():
    from tqdm import tqdm

    before = tqdm.monitor
    if before is not None:
        before.exit()
        tqdm.monitor = None
    with Alone(True) as alone:
        for _ in tqdm(range(3), file=open(os.devnull, "w")):  # noqa: SIM115
            pass
        assert tqdm.monitor is not None, "it has started its thread"
    assert alone.left == ""


def test_newer_pythons_have_another_event_for_threads():
    """From 3.13 on threading calls start_joinable_thread."""
    alone = Alone(True)
    alone.note("_thread.start_joinable_thread", (int, False, None))
    assert "started a thread" in alone.left
    assert {"_thread.start_new_thread", "_thread.start_joinable_thread"} <= set(integrity.ELSEWHERE)


# --- through a whole process ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box():
    """Children of a warm process: each test has a notebook's process of its own, without importing torch each time."""
    if why_not() and not os.environ.get("CI"):
        pytest.skip(f"no sandbox: {why_not()}")
    made = Sandbox(["torch", "numpy"])
    yield made
    made.close()


@pytest.fixture
def session(box, tmp_path):
    with Session(tmp_path, "rnn", 30.0, 30.0, box.start) as opened:
        yield opened


def look(session, source, alone=False):
    assert session.run(source).raised is None
    return session.look("f", outputs, {"x": torch.ones(3)}, (), alone)


def verdict(session, source, alone=False):
    with pytest.raises(Stopped) as stopped:
        look(session, source, alone)
    return stopped.value.verdict, stopped.value.alive


HONEST = [
    "torch.set_default_device('cpu')",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_grad_enabled(False)",
    "torch.set_num_threads(2)",
    "import logging, warnings; warnings.simplefilter('error')",
    "with torch.no_grad(), torch.device('cpu'): torch.ones(1)",
    "from torch.utils.flop_counter import FlopCounterMode\nwith FlopCounterMode(display=False): torch.ones(1)",
]


def test_what_honest_notebooks_do_is_no_tampering(session):
    for line in HONEST:
        seen = look(session, f"import torch\n{line}\ndef f(x): return 2 * x", alone=True)
        assert seen.value.data.tolist() == [2.0] * 3, line


TAMPERED = [
    "import autograde.meters as m; m.measure_memory = lambda call, given: (call(), None)",
    "import autograde.observe as o; o.observe = lambda *a: None",
    "import autograde.values as v; v._seen_tensor.__code__ = (lambda t: 1).__code__",
]


@pytest.mark.parametrize("line", TAMPERED)
def test_a_patched_meter_is_tampering(session, line):
    assert verdict(session, f"{line}\ndef f(x): return 2 * x") == ("tampered", True)
    with pytest.raises(Stopped) as stopped:
        session.look("f", outputs, {"x": torch.ones(3)})
    assert "was replaced" in str(stopped.value)


def test_a_meter_that_is_patched_while_it_measures_is_tampering(session):
    source = "def f(x):\n    import autograde.meters as m\n    m.measure_memory = None\n    return 2 * x"
    assert verdict(session, source) == ("tampered", True)


def test_a_thread_while_it_is_measured_is_tampering(session):
    source = "import threading\ndef f(x):\n    t = threading.Thread(target=int)\n    t.start()\n    t.join()\n    return 2 * x"
    assert verdict(session, source, alone=True) == ("tampered", True)
    assert session.look("f", outputs, {"x": torch.ones(3)}).value.data.tolist() == [2.0] * 3


@pytest.mark.xfail(strict=True, reason="a thread that was started before the look is not seen")
def test_a_thread_that_waits_for_work_is_tampering(session):
    source = (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(int).result()\n"
        "def f(x): return pool.submit(lambda: 2 * x).result()"
    )
    assert verdict(session, source, alone=True) == ("tampered", True)


def test_an_answer_before_the_question_is_tampering(session):
    """Somebody who writes into the pipe by hand."""
    code = "import os, stat\nfor i in range(3, 64):\n    try:\n        if stat.S_ISFIFO(os.fstat(i).st_mode): os.write(i, b'x' * 9)\n    except OSError: pass"
    with pytest.raises(Stopped) as stopped:
        session.run(code)
    assert stopped.value.verdict in ("tampered", "malformed")
    assert not stopped.value.alive


# --- limits -----------------------------------------------------------------------------------------------------------------------


FLOODS = [
    "while True: print('x' * 1000)",
    "print('x' * 10**7)",
    "import sys\nwhile True: print('x', file=sys.stderr)",
    "from IPython.display import HTML, display\nwhile True: display(HTML('x' * 10**6))",
    "import warnings\nwarnings.simplefilter('always')\nwhile True:\n    warnings.warn('x' * 1000)",
]


def test_output_without_end_is_stopped(session):
    for code in FLOODS:
        with pytest.raises(Stopped) as stopped:
            session.run(code)
        assert (stopped.value.verdict, stopped.value.alive) == ("output-limit", True), code
        assert "and was stopped" in str(stopped.value)
    assert session.run("print('fine')").outputs[0]["text"] == "fine\n"


def test_output_without_end_while_it_is_looked_at(session):
    assert verdict(session, "def f(x):\n    while True: print('x' * 1000)") == ("output-limit", True)


def test_output_of_many_cells_has_a_limit_for_each(session):
    for _ in range(3):
        assert len(session.run("print('x' * 900_000)").outputs[0]["text"]) == 900_001


def test_a_flood_that_is_caught_counts_all_the_same(session):
    code = "try:\n    while True: print('x' * 1000)\nexcept BaseException: pass"
    with pytest.raises(Stopped) as stopped:
        session.run(code)
    assert stopped.value.verdict == "output-limit"


def test_more_memory_than_there_is(session):
    for code in (
        "x = bytearray(10**15)",
        "import torch\ntorch.ones(10**14)",
        "import numpy\nnumpy.ones(10**14)",
        "raise MemoryError",
    ):
        with pytest.raises(Stopped) as stopped:
            session.run(code)
        assert (stopped.value.verdict, stopped.value.alive) == ("oom", True), code


def test_more_memory_than_there_is_while_it_is_looked_at(session):
    assert verdict(session, "import torch\ndef f(x): return torch.ones(10**14)") == ("oom", True)


@pytest.mark.slow
def test_in_a_whole_notebook_the_next_exercise_is_graded(tmp_path, monkeypatch):
    from engine.helpers import ANSWERS, ROOT, solved, write

    monkeypatch.setattr(autograde.run, "PATIENCE", autograde.run.Patience(cell=8.0, look=6.0))
    notebook = solved(
        rnn_step="def rnn_step(*a):\n    while True: print('x' * 1000)",
        adder_weights="def adder_weights(gain): return torch.ones(10**14)",
        last_valid=f"import autograde.observe as o\n{ANSWERS['last_valid']}",
    )
    found = autograde.run.grade_notebook(write(tmp_path, notebook), ROOT)
    verdicts = {name: result.verdict for name, result in found.exercises.items()}
    assert verdicts["rnn_step"] == "output-limit"
    assert verdicts["adder_weights"] == "oom"
    assert verdicts["n_params"] == verdicts["last_valid"] == "ok"
