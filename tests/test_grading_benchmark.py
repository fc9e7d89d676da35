"""benchmarks/grading.py: what it measures is what was used, a wrong score is no result, and the table says what is missing."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from autograde.classroom.folder import ClassFolder
from autograde.course import exercises, root

sys.path.insert(0, str(root() / "benchmarks"))

from grading_classes import BURN, NOTEBOOK, TOPIC, Class, burn
from grading_engines import Engine, WrongScores
from grading_meter import Cost, Watch, cost_of
from grading_otter import as_otter, write_autograder
from grading_table import Measured, Runs, Step, as_markdown

SPIN = "import time\nwhile time.process_time() < {}: pass\n"
PYTHON = (sys.executable, "-I", "-S", "-c")


def test_the_cpu_time_of_children_and_orphans_counts(tmp_path):
    """Not counted, they would make an engine that starts processes look fast."""
    orphan = [*PYTHON, SPIN.format(0.6)]
    program = (
        f"import subprocess\nsubprocess.Popen({orphan!r})\nsubprocess.run({[*PYTHON, SPIN.format(0.3)]!r})\n"
    )
    cost = cost_of([*PYTHON, program + SPIN.format(0.2)], tmp_path, os.environ)
    assert 1.1 <= cost.cpu < 1.6
    assert cost.memory > 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_cpu_time_of_a_killed_sandbox_counts(tmp_path):
    """The kernel forgets what runs in a namespace whose first process is killed."""
    box = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent"]
    inner = [*box, *PYTHON, SPIN.format(1.0) + "print(flush=True)\ntime.sleep(60)"]
    program = f"import subprocess, time\np = subprocess.Popen({inner!r}, stdout=-1)\np.stdout.readline()\ntime.sleep(1)\np.kill()\np.wait()"
    cost = cost_of([*PYTHON, program], tmp_path, os.environ)
    assert 0.95 <= cost.cpu < 1.6


def test_what_runs_already_is_watched_from_then_on():
    program = (
        SPIN.format(0.3) + "print(flush=True)\ninput()\n" + SPIN.format(0.8) + "print(flush=True)\ninput()"
    )
    process = subprocess.Popen([*PYTHON, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        watch = Watch(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        watch.start()
        assert 0.4 <= watch.stop().cpu < 0.65
    finally:
        process.kill()
        process.communicate()


def test_a_command_that_fails_is_no_result(tmp_path):
    with pytest.raises(RuntimeError, match="ended with 3:\nno"):
        cost_of([*PYTHON, "print('no'); raise SystemExit(3)"], tmp_path, os.environ)


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path):
    program = f"import subprocess\nsubprocess.run({[*PYTHON, 'import time; time.sleep(98.7)']!r})"
    with pytest.raises(subprocess.TimeoutExpired):
        cost_of([*PYTHON, program], tmp_path, os.environ, patience=1)
    time.sleep(0.2)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "time.sleep(98.7)" not in running


@dataclass(frozen=True)
class Says(Engine):
    """An engine that does nothing, and has an opinion."""

    opinion: dict = field(default_factory=dict)

    def run(self, made, students):
        return Cost(1.0, 1.0, 1.0)

    def scores(self, made, students):
        return self.opinion


@pytest.fixture
def lesson(tmp_path):
    made = ClassFolder(tmp_path / "class", TOPIC)
    for student in ("a", "b"):
        made.submitted(student).mkdir(parents=True)
        (made.submitted(student) / f"{NOTEBOOK}.ipynb").write_text(json.dumps(BURN))
    return Class(made, ("a", "b"), {"a": 3.0, "b": 2.0}, {"a": 3.0, "b": 0.0})


def test_an_engine_with_other_scores_than_were_earned_is_not_measured(lesson):
    assert Says("x", opinion=lesson.partial).grade(lesson, lesson.students).cpu == 1.0
    assert Says("x", True, opinion=lesson.whole).grade(lesson, lesson.students).cpu == 1.0
    for opinion in ({}, {"a": 3.0}, {"a": 3.0, "b": 3.0}, lesson.whole):
        with pytest.raises(WrongScores, match="x gave other scores"):
            Says("x", opinion=opinion).grade(lesson, lesson.students)


def test_a_copy_has_only_the_students_that_were_asked_for_and_burns_what_it_is_told_to(lesson, tmp_path):
    copied = lesson.copy(tmp_path / "copy", ["b"], stock=True)
    assert [path.name for path in (copied.root / "submitted").iterdir()] == ["b"]
    assert "autograde" not in copied.config.read_text()
    burn(copied, 0.25)
    text = json.loads((copied.submitted("b") / f"{NOTEBOOK}.ipynb").read_text())
    began = time.process_time()
    exec(text, {})
    assert 0.25 <= time.process_time() - began < 0.5


def test_otter_gets_every_check_as_a_test_at_its_place(tmp_path):
    lesson = root() / "lessons" / TOPIC / f"{NOTEBOOK}.ipynb"
    released = json.loads(lesson.read_text())["cells"]
    as_otter(lesson, tmp_path / "a" / "n.ipynb")
    cells = json.loads((tmp_path / "a" / "n.ipynb").read_text())["cells"]
    tested = {cell["id"]: cell["metadata"]["otter"]["tests"] for cell in cells if "otter" in cell["metadata"]}
    checks = [cell["id"] for cell in released if cell["metadata"].get("nbgrader", {}).get("grade")]
    assert [f"check_{name}" for name in tested] == checks
    assert all(tests == [name] for name, tests in tested.items())
    assert len(cells) == len(released) - len(checks)
    assert not any(cell["source"][0].startswith("check.") for cell in cells if cell["source"])
    ignored = sum("otter_ignore" in cell["metadata"].get("tags", []) for cell in cells)
    assert ignored == sum("demo" in cell["metadata"].get("tags", []) for cell in released) > 0
    write_autograder(tmp_path / "a.zip", {name: exercises(TOPIC)[name].points for name in tested})
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "unpacked")
    text = (tmp_path / "unpacked" / "tests" / "rnn_step.py").read_text()
    assert "check.rnn_step(rnn_step)" in text
    assert f"points = {exercises(TOPIC)['rnn_step'].points}" in text


def costs(*pairs):
    return [Cost(wall, cpu, 500.0) for wall, cpu in pairs]


def test_what_a_submission_adds_is_told_from_what_the_start_takes():
    runs = Runs("x", 2, 12, costs((9, 8), (7, 6), (8, 7)), costs((28, 12), (27, 11), (90, 50)))
    assert runs.each("wall") == pytest.approx(2.0)
    assert runs.start("wall") == pytest.approx(4.0)
    assert runs.of_class("wall", 40) == pytest.approx(84.0)
    assert runs.each("cpu") == pytest.approx(0.5)
    assert runs.start("cpu") == pytest.approx(6.0)
    bent = Runs("x", 2, 12, costs((30, 1)), costs((24, 2)))
    assert (bent.start("wall"), bent.each("wall")) == (0.0, 2.0)


def test_the_table_has_the_ratios_and_says_what_is_missing():
    measured = Measured(40, 1, otter="7.0.0")
    measured.runs = {
        "one worker": Runs("one worker", 4, 40, costs((6, 6)), costs((42, 24))),
        "two workers": Runs("two workers", 4, 40, costs((4, 6)), costs((22, 24))),
        "stock": Runs("stock", 1, 6, costs((8, 8)), costs((33, 33))),
    }
    measured.missing = {"Dask": "it stopped | so", "otter": "there is no network"}
    floor = {"once": 1.0, "shared": 0.4, "own": 0.5, "other cells": 0.01, "diagnosis": 0.02}
    measured.floors = [floor]
    measured.steps = [Step(0.2, 0.21, 0.5, 5.0), Step(1.0, 1.01, 0.6, None)]
    text = as_markdown(measured)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    found = {row[0]: row[1:] for row in rows}
    assert found["stock `nbgrader autograde`"][:4] == ["1 and 6", "3.0 s", "5.00 s", "11.8"]
    assert found["`otter run`'s engine"][0] == "not measured: there is no network"
    assert found["`autograde grade --scheduler`, two `dask worker`"][0] == "not measured: it stopped / so"
    ours = "`autograde grade --workers 2`"
    against = f"{ours}: submissions a minute, against stock `nbgrader autograde`"
    assert found[against] == ["10.0", "9.2"]
    assert found[f"{ours}: CPU seconds, against the floor with references each time"] == ["1.00", "1.20"]
    assert found["two workers against one: submissions a minute"] == ["2.00", "1.91"]
    assert found["0.2 s"] == ["0.21 s", "120.0", "12.0", "10.0"]
    assert found["1 s"] == ["1.01 s", "100.0", "-", "-"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_run_measures_the_engines_that_are_not_left_out(tmp_path):
    table = tmp_path / "table.md"
    command = [
        sys.executable,
        str(root() / "benchmarks" / "grading.py"),
        "--quick",
        "--out",
        str(table),
        "--without",
        "one worker",
        "Dask",
        "otter",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line for line in table.read_text().splitlines() if line.startswith(("| `autograde", "| stock"))]
    assert len([row for row in rows if " and " in row]) == 2, "two workers, and stock"
    assert [row.split("|")[2].strip() for row in rows if "not measured" in row] == [
        "not measured: left out"
    ] * 2
