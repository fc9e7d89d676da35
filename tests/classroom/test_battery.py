"""The battery: every hostile submission in one class, beside honest students whose scores must not move."""

import hashlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from autograde.classroom import battery
from autograde.classroom.battery import ROWS
from autograde.classroom.battery.row import MISSING
from autograde.classroom.demo import cast
from autograde.classroom.demo import hand_in as hand_in_honestly
from autograde.classroom.folder import convert, make_class

TOPIC, NOTEBOOK = "rnn", "01_vanilla_rnn"
TABLE = range(1, 50)
ABOUT_THE_GRADER = {42, 45, 46, 49}
"""Rows of the table that are no submissions; their tests are in test_battery_grader.py."""
HONEST = list(cast(TOPIC, 12, NOTEBOOK))
SECRET = "SECRET-of-the-one-who-grades"
LIMITS = """
c.RunAndCheck.cell_seconds = 15.0
c.RunAndCheck.look_seconds = 8.0
"""
VERDICTS = {"ok", "wrong", "timeout", "oom", "output-limit", "crash", "tampered", "malformed", "grader-error"}
LONGEST = 1800
"""Seconds for the whole class on a busy machine; it takes a few minutes on one that is not."""
LONGEST_PAUSE = 100
"""Seconds between two submissions that are done. All limits of one submission together are less."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LONGEST)]


@dataclass(frozen=True)
class Graded:
    """The class after it was graded, and what was seen around it.

    ``scores`` are those of the gradebook, ``quiet`` those of the same class without the hostile submissions.
    """

    made: object
    scene: object
    said: str
    touched: list
    left: list
    scores: dict
    quiet: dict

    def verdicts(self, student):
        """What was recorded for a student's notebook, with notes about files beside it."""
        path = self.made.root / "verdicts" / TOPIC / f"{student}.json"
        record = json.loads(path.read_text())
        assert record["student"] == student
        entry = record["notebooks"][NOTEBOOK]
        return entry | {"notes": [*entry["notes"], *record["left_out"]]}

    def outputs(self, student):
        """What a submission showed, as text."""
        path = self.made.autograded(student) / f"{NOTEBOOK}.ipynb"
        if not path.is_file():
            return ""
        cells = nbformat.read(path, as_version=4).cells
        return "\n".join(json.dumps(output) for cell in cells for output in cell.get("outputs", ()))


def grade(made):
    """`autograde grade` as an instructor types it; what it printed."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "BATTERY_SECRET": SECRET,
        "NBGRADER_SECRET_TOKEN": SECRET,
    }
    command = [sys.executable, "-m", "autograde", "grade", TOPIC, "--class", str(made.root), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=environment)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1), said[-5000:]
    assert "Traceback" not in said, said[-5000:]
    return said


def scores(made):
    """By student: the score in the gradebook; None where nothing was recorded."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{made.root / 'gradebook.db'}") as book:
        return {entry.student.id: float(entry.score) for entry in book.assignment_submissions(TOPIC)}


def new_class(folder):
    made = make_class(folder, TOPIC, notebook=NOTEBOOK)
    made.config.write_text(made.config.read_text() + LIMITS)
    for student in HONEST:
        hand_in_honestly(made, student)
    return made


def fingerprints(folder):
    """By path below it: what it is, how large, when changed, and its bytes where they are few. Nothing is opened but files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = ""
        if info.st_nlink > 1 and stat.S_ISREG(info.st_mode):
            continue  # a hard link to a file of the grader's, which changes for a good reason
        if stat.S_ISREG(info.st_mode) and info.st_size < 5_000_000:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (info.st_mode, info.st_size, info.st_mtime_ns, content)
    return found


def left_behind():
    """Processes and files of the battery's that are still there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, line = (process / "comm").read_text(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(battery.TRACE[:15]) or line.startswith(battery.TRACE.encode()):
            found.append(f"process {process.name}: {line[:80]!r}")
    return found + [
        str(path) for place in ("/tmp", "/dev/shm") for path in Path(place).glob(f"{battery.TRACE}*")
    ]


def clear():
    """Delete what an earlier run may have left, so that only this one is seen."""
    for place in ("/tmp", "/dev/shm"):
        for path in Path(place).glob(f"{battery.TRACE}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """One class with everybody in it, graded in one run; and a second one with the honest students alone."""
    folder = tmp_path_factory.mktemp("battery")
    quiet = new_class(folder / "quiet")
    made = type(quiet)(folder / "class", TOPIC)
    shutil.copytree(quiet.root, made.root)
    scene = battery.scene_of(made)
    for row in battery.rows(scene):
        battery.hand_in(made, scene, row)
    grade(quiet)
    clear()
    before = fingerprints(made.root / "submitted")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{battery.TRACE}")
        listener.listen()
        said = grade(made)
    left = left_behind()
    clear()
    after = fingerprints(made.root / "submitted")
    touched = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return Graded(made, scene, said, touched, left, scores(made), scores(quiet))


def own_scene(graded, row):
    found = row.scene(graded.scene)
    if found is None:
        pytest.skip(f"{graded.scene.lesson} has nothing that row {row.number} could attack")
    return found


def test_every_row_of_the_table_is_here():
    numbers = {int(re.match(r"\d+", row.number)[0]) for row in ROWS if not row.number.startswith("A")}
    assert numbers == set(TABLE) - ABOUT_THE_GRADER
    assert all(count == 1 for count in Counter(row.number for row in ROWS).values())
    assert all(count == 1 for count in Counter(row.student for row in ROWS).values())
    assert len({row.number for row in ROWS if row.number.startswith("A")}) >= 15
    assert all(set(row.verdicts) <= VERDICTS | {MISSING} for row in ROWS)


def test_the_wrong_answers_are_wrong_and_the_rows_distinguish_them(graded):
    """A row that tries to get points for a wrong answer could not fail if the answer earned them anyway."""
    scene = graded.scene
    assert scene.wrong.earned < scene.worth[scene.target]
    assert scene.costly is None or scene.costly.earned < scene.worth[scene.costly.exercise]
    tried = [row for row in ROWS if row.scene(scene) is not None and row.verdicts[0] != "ok"]
    assert [row.number for row in tried if row.range(row.scene(scene))[1] == scene.total] == ["47a", "47b"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_verdict(graded, row):
    scene, entry = own_scene(graded, row), graded.verdicts(row.student)
    found = entry["exercises"].get(scene.target, entry)
    verdict = entry["verdict"] if row.whole else found["verdict"]
    assert verdict in row.verdicts, f"{row.title}: {row.reason}\n{json.dumps(entry, indent=1)[:3000]}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_score(graded, row):
    """In the gradebook, which is what counts, and in the record of verdicts."""
    least, most = row.range(own_scene(graded, row))
    entry = graded.verdicts(row.student)
    assert least - 1e-9 <= entry["score"] <= most + 1e-9, f"{row.title}: {json.dumps(entry, indent=1)[:3000]}"
    assert graded.scores.get(row.student, 0.0) == pytest.approx(entry["score"])


@pytest.mark.parametrize("row", [row for row in ROWS if row.noted], ids=lambda row: row.number)
def test_what_was_repaired_is_noted(graded, row):
    words, notes = row.note(own_scene(graded, row)), graded.verdicts(row.student)["notes"]
    assert any(words in note for note in notes), (words, notes)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_nothing_was_reached(graded, row):
    own_scene(graded, row)
    shown = graded.outputs(row.student) + json.dumps(graded.verdicts(row.student))
    assert battery.REACHED not in shown, shown[max(0, shown.index(battery.REACHED) - 100) :][:600]


def test_honest_students_have_what_they_have_without_the_others(graded):
    found = graded.scores
    expected = {student.name: student.expected for student in HONEST if not student.missing}
    assert {name: graded.quiet[name] for name in expected} == expected
    assert {name: found[name] for name in expected} == expected


def test_what_was_handed_in_is_as_it_was(graded):
    assert graded.touched == []


def test_no_process_and_no_file_is_left_behind(graded):
    assert graded.left == []
    escaped = [path for path in graded.made.root.rglob("*escaped*") if "submitted" not in path.parts]
    assert not escaped, "an archive was unpacked, or a name led elsewhere"


def test_nothing_hangs(graded):
    """No submission keeps the grader busy for long, whatever it takes to read it, to run it and to write it down."""
    log = (graded.made.root / "verdicts" / TOPIC / "grading.log").read_text().splitlines()
    times = [datetime.fromisoformat(line[:19]) for line in log]
    assert len(times) >= len(ROWS)
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert max(pauses) < LONGEST_PAUSE, log[pauses.index(max(pauses)) : pauses.index(max(pauses)) + 2]


def test_every_verdict_is_one_of_the_known_ones(graded):
    for row in battery.rows(graded.scene):
        entry = graded.verdicts(row.student)
        found = {entry["verdict"], *(exercise["verdict"] for exercise in entry["exercises"].values())}
        assert found <= VERDICTS | {MISSING}, row.number
        assert "grader-error" not in found, (
            f"{row.number}: a student's doing was taken for an error of ours: {entry}"
        )


def test_each_student_has_cases_of_their_own(graded):
    """Two submissions print the inputs of their checks: what one learns there does not help the other."""
    told = [re.search(r"CALLS \d+ \w{64}", graded.outputs(f"hostile-a5{letter}")) for letter in "ab"]
    assert all(told), "the submission's own output is shown to its author"
    assert told[0][0] != told[1][0]
    seeds = [
        graded.verdicts(f"hostile-a5{letter}")["exercises"][graded.scene.target]["seed"] for letter in "ab"
    ]
    assert seeds[0] != seeds[1]


def test_feedback_holds_no_script_and_no_terminal_code(graded):
    student = next(row.student for row in ROWS if row.number == "41")
    convert("GenerateFeedback", graded.made, student)
    page = (graded.made.root / "feedback" / student / TOPIC / f"{NOTEBOOK}.html").read_text()
    assert "rederive_battery" in page, "what the student wrote is shown"
    for active in ("<script>rederive_battery", "<img src=x onerror", "\x1b", "<svg><script"):
        assert active not in page, active
