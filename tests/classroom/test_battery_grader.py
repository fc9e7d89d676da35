"""The rows of the battery that are about the one who grades: our own mistakes, a kill, a broken configuration, two at once."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

import autograde
from autograde.classroom.demo import cast
from autograde.classroom.demo import hand_in as hand_in_honestly
from autograde.classroom.folder import make_class

TOPIC, NOTEBOOK = "rnn", "01_vanilla_rnn"
STUDENTS = list(cast(TOPIC, 16, NOTEBOOK))
EXPECTED = {student.name: student.expected for student in STUDENTS if not student.missing}
COURSE = Path(autograde.__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def environment(course=COURSE):
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(course),
        "OMP_NUM_THREADS": "1",
    }


def start(made, *more, course=COURSE):
    """`autograde grade` in a process group of its own."""
    command = [sys.executable, "-m", "autograde", "grade", TOPIC, "--class", str(made.root), *more]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(course),
        cwd=made.root,
        start_new_session=True,
    )


def grade(made, *more, course=COURSE):
    """Grade; (exit status, what was printed)."""
    process = start(made, *more, course=course)
    said, _ = process.communicate(timeout=400)
    return process.returncode, said


def run(made, *command):
    return subprocess.run(
        command, cwd=made.root, capture_output=True, text=True, timeout=280, env=environment()
    )


def scores(made):
    """By student: the score in the gradebook, of everybody who has one."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{made.root / 'gradebook.db'}") as book:
        return {entry.student.id: float(entry.score) for entry in book.assignment_submissions(TOPIC)}


def recorded(made):
    return sorted((made.root / "verdicts" / TOPIC).glob("*.json"))


def new_class(folder, students=STUDENTS):
    made = make_class(folder, TOPIC, notebook=NOTEBOOK)
    for student in students:
        hand_in_honestly(made, student)
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_class(tmp_path_factory.mktemp("template") / "class")


@pytest.fixture
def made(template, tmp_path):
    """A class of honest students that nobody has graded yet."""
    shutil.copytree(template.root, tmp_path / "class")
    return type(template)(tmp_path / "class", TOPIC)


BROKEN = '''

def _broken(exercise, number):
    """Row 42: the reference of the first exercise and a probe of the second one fail."""
    from dataclasses import replace

    def fails(*args):
        raise ZeroDivisionError("a mistake of the course's own")

    if number == 0:
        fails.__name__ = exercise.name
        return replace(exercise, reference=fails)
    first, *others = exercise.requirements
    return replace(exercise, requirements=(replace(first, probe=fails), *others))


EXERCISES = [_broken(exercise, n) if n < 2 else exercise for n, exercise in enumerate(EXERCISES)]
'''


@pytest.fixture
def broken_course(tmp_path):
    """A copy of the course in which two exercises of the notebook have a mistake of ours."""
    place = tmp_path / "course"
    for name in ("autograde", "utils", "lessons", "solutions"):
        shutil.copytree(COURSE / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(COURSE / "course.toml", place)
    module = place / "autograde" / "exercises" / TOPIC / "__init__.py"
    module.write_text(module.read_text() + BROKEN)
    return place


def test_row_42_a_mistake_of_ours_is_never_a_students_zero(made, broken_course):
    """It is recorded as grader-error, said aloud, and everything else is graded as ever."""
    status, said = grade(made, "--student", "student-01", course=broken_course)
    entry = json.loads((made.root / "verdicts" / TOPIC / "student-01.json").read_text())["notebooks"][
        NOTEBOOK
    ]
    verdicts = {name: exercise["verdict"] for name, exercise in entry["exercises"].items()}
    first, second, *others = verdicts
    assert verdicts[first] == verdicts[second] == "grader-error"
    assert {verdicts[name] for name in others} == {"ok"}
    assert status != 0
    assert "grader-error" in said, said[-3000:]


def test_row_45_a_grader_that_was_killed_goes_on_where_it_stopped(made):
    """Killed when half is done, and started again: everybody has the right score, and what was done is not done again."""
    process = start(made, "--workers", "2")
    deadline = time.monotonic() + 300
    while len(recorded(made)) < len(EXPECTED) // 2:
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in recorded(made)}
    assert len(EXPECTED) // 2 <= len(done) < len(EXPECTED), "killed too late to show anything"
    whole = {path for path in done if _is_json(path)}
    assert whole == set(done), "half a record was left"
    status, said = grade(made, "--workers", "2")
    assert status == 0, said[-3000:]
    found = scores(made)
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    again = [path.name for path, when in done.items() if path.stat().st_mtime_ns != when]
    assert len(again) <= 2, (
        f"graded twice: {again}"
    )  # recorded, but killed before the gradebook had it: one for each worker
    assert _submissions_in_the_gradebook(made) == sorted(EXPECTED)


def _is_json(path):
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


def _submissions_in_the_gradebook(made):
    """Students with a graded notebook, each as often as it is in the database."""
    with sqlite3.connect(made.root / "gradebook.db") as book:
        rows = book.execute(
            "select assignment.student_id from submitted_notebook "
            "join submitted_assignment assignment on submitted_notebook.assignment_id = assignment.id"
        ).fetchall()
    return sorted(name for (name,) in rows if name in EXPECTED)


CONFIGURATIONS = {
    "no Python": "c.CourseDirectory.root = (\n",
    "raises": "raise RuntimeError('a plain mistake')\n",
    "a step that is not there": "c.Autograde.autograde_preprocessors = ['autograde.classroom.nowhere.Nothing']\n",
    "an import that is not there": "import a_module_that_is_nowhere\n",
}


@pytest.mark.parametrize("command", ["autograde", "nbgrader"])
@pytest.mark.parametrize("text", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_row_46_a_broken_configuration_gives_nobody_points(made, text, command):
    made.config.write_text(made.config.read_text() + "\n" + text)
    one = ("--student", "student-01")
    if command == "autograde":
        status, said = grade(made, *one)
    else:
        done = run(made, "nbgrader", "autograde", TOPIC, *one)
        status, said = done.returncode, done.stdout + done.stderr
    assert status != 0
    assert any(score > 0 for score in scores(made).values()) is False
    assert re.search("Error|cannot be used|no grade|mistake", said), said[-3000:]


def test_row_46_stock_nbgrader_without_our_steps_gives_nobody_points(made):
    """The lines that set our steps are gone: zero for everybody, and an error that says why. Never full marks."""
    kept = [line for line in made.config.read_text().splitlines() if "_preprocessors" not in line]
    made.config.write_text("\n".join(kept))
    tagged = made.submitted("tagged")
    shutil.copytree(made.submitted("student-02"), tagged)
    notebook = nbformat.read(tagged / f"{NOTEBOOK}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata["tags"] = ["skip-execution", "demo"]
    nbformat.write(notebook, tagged / f"{NOTEBOOK}.ipynb")
    done = run(made, "nbgrader", "autograde", TOPIC, "--student", "tagged")
    right = run(made, "nbgrader", "autograde", TOPIC, "--student", "student-01")
    found = scores(made)
    assert found.get("tagged", 0.0) == 0
    assert found.get("student-01", 0.0) == 0, "our engine did not look at it"
    assert re.search("rederive|autograde grade|our", done.stderr + right.stderr, re.IGNORECASE)


def test_row_49_two_graders_at_once_lose_nothing(made):
    """Both end; the second one waits, or says that somebody is grading already. Nothing is graded twice."""
    both = [start(made, "--workers", "1") for _ in range(2)]
    said = [process.communicate(timeout=400)[0] for process in both]
    assert any(process.returncode == 0 for process in both), said[0][-2000:] + said[1][-2000:]
    assert not any("Traceback" in text for text in said), said[0][-2000:] + said[1][-2000:]
    found = scores(made)
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert _submissions_in_the_gradebook(made) == sorted(EXPECTED)


def test_row_49_a_gradebook_that_is_locked_for_ten_seconds_loses_nothing(made):
    def hold():
        with sqlite3.connect(made.root / "gradebook.db", isolation_level=None) as book:
            book.execute("begin exclusive")
            locked.set()
            time.sleep(10)
            book.execute("rollback")

    locked = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    status, said = grade(made, "--workers", "1")
    holder.join()
    if (
        status != 0
    ):  # it may give up, if it says why; then nothing may be lost, and a second run ends the work
        assert "locked" in said, said[-3000:]
        status, said = grade(made, "--workers", "1")
    assert status == 0, said[-3000:]
    found = scores(made)
    assert {name: found[name] for name in EXPECTED} == EXPECTED
