"""Grading a class: what is graded, what is written down, and what happens when something goes wrong in between."""

import contextlib
import json
import multiprocessing
import os
import shutil
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor

import nbformat
import pytest
from engine.helpers import TOPIC
from toyclass import ONE, TWO, Here, autograde, hand_in, new_class

from autograde.classroom import again, grader, grading, recorder
from autograde.classroom.book import opened
from autograde.classroom.folder import ClassFolder, convert, in_folder
from autograde.classroom.grader import Outcome, unreadable
from autograde.classroom.grading import Progress, grade_class
from autograde.classroom.records import Records
from autograde.course import CourseError

SMALL_ONLY = "def double(x):\n    return 2 * x.clamp(max=50.0)\n"
"""2 of 3 points."""
WRONG = "def double(x):\n    return x\n"
FULL = 9.0
LATE = "2031-01-02 00:00:00 UTC"
EARLY = "2030-12-31 00:00:00 UTC"


@pytest.fixture(scope="module")
def empty(toys, quick, tmp_path_factory):
    """A class of the made-up course; nobody has handed anything in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "sandbox_or_reason", lambda settings: "")
        patch.setattr(again, "sandbox_or_reason", lambda settings: "")
        patch.setattr(again, "start_process", lambda topic, settings: None)
        yield new_class(tmp_path_factory.mktemp("empty") / "class")


@pytest.fixture
def made(empty, tmp_path):
    """A class of three: everything right, a part right, one notebook only."""
    folder = tmp_path / "class"
    shutil.copytree(empty.root, folder)
    made = ClassFolder(folder, empty.topic)
    hand_in(made, "ann", ONE, TWO)
    hand_in(made, "ben", ONE, TWO, double=SMALL_ONLY)
    hand_in(made, "cy", TWO)
    return made


def grades(made):
    """Automatic scores, by student and exercise."""
    with opened(made) as book:
        return {
            (submission.student.id, grade.name.removeprefix("check_")): grade.auto_score
            for submission in book.assignment_submissions(made.topic)
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


def totals(made):
    found = {}
    for (student, _), score in grades(made).items():
        found[student] = found.get(student, 0) + score
    return found


def details(made):
    """What nbgrader's own way must give, too: scores, comments, penalties."""
    with opened(made) as book:
        found = {}
        for submission in book.assignment_submissions(made.topic):
            for notebook in submission.notebooks:
                key = (submission.student.id, notebook.name)
                found[key, "penalty"] = notebook.late_submission_penalty
                found[key, "stamp"] = submission.timestamp
                for grade in notebook.grades:
                    found[key, grade.name] = (grade.auto_score, grade.manual_score, grade.needs_manual_grade)
                for comment in notebook.comments:
                    found[key, comment.name] = (comment.auto_comment, comment.manual_comment)
        return found


def verdicts_of(made, student):
    return {name: entry["verdict"] for name, entry in Records(made).read(student)["notebooks"].items()}


def logged(made):
    return (Records(made).folder / "grading.log").read_text()


# --- what is graded, and what is written down ---------------------------------------------------------------------------------


def test_everybody_gets_what_the_notebooks_earn(made):
    seen = []
    done = grade_class(
        made.root, TOPIC, progress=Progress(lambda n: seen.append(n), lambda *a: seen.append(a))
    )
    assert totals(made) == {"ann": FULL, "ben": FULL - 1, "cy": 6.0}
    assert (done.total, done.skipped, done.done) == (3, 0, 3)
    assert done.verdicts == {"ok": 4, "wrong": 1, "missing": 1}
    assert seen[0] == 3
    assert sorted(seen[1:]) == [(1, "ok"), (2, "mixed"), (3, "mixed")]


def test_a_record_says_what_was_found(made):
    grade_class(made.root, TOPIC)
    record = json.loads((made.root / "verdicts" / TOPIC / "ben.json").read_text())
    assert record["student"] == "ben"
    assert record["recorded"] is True
    assert record["unsafe"] is False
    assert record["graded_with"] == grader.fingerprint()
    entry = record["notebooks"][ONE]
    assert (entry["verdict"], entry["score"], entry["max_score"]) == ("wrong", 2.0, 3.0)
    double = entry["exercises"]["double"]
    assert double["requirements"]["small"] == {"score": 2, "max_score": 2, "message": None}
    assert double["requirements"]["large"]["score"] == 0
    assert double["requirements"]["large"]["message"]
    assert isinstance(double["seed"], int)
    missing = Records(made).read("cy")["notebooks"][ONE]
    assert (missing["verdict"], missing["score"]) == ("missing", 0.0)
    assert missing["exercises"]["double"]["seed"] is None


def test_students_have_different_seeds(made):
    grade_class(made.root, TOPIC)
    seeds = [
        Records(made).read(name)["notebooks"][TWO]["exercises"]["triple"]["seed"] for name in ("ann", "cy")
    ]
    assert len(set(seeds)) == 2


def test_the_log_names_no_student(made):
    grade_class(made.root, TOPIC)
    text = logged(made)
    assert "submission 1: 9 of 9 points, ok, ok" in text
    assert not any(name in text for name in ("ann", "ben", "cy"))


def test_the_autograded_folder_has_notebooks_and_what_lay_beside_them(made):
    place = made.submitted("ann")
    (place / "deep").mkdir()
    (place / "deep" / "x.csv").write_text("1")
    (place / "timestamp.txt").write_text(EARLY)
    grade_class(made.root, TOPIC)
    found = made.autograded("ann")
    assert sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()) == [
        f"{ONE}.ipynb", f"{TWO}.ipynb", "deep/x.csv", "timestamp.txt",
    ]  # fmt: skip
    nbformat.validate(nbformat.read(found / f"{ONE}.ipynb", as_version=4))


def test_what_has_not_changed_is_not_graded_again(made):
    grade_class(made.root, TOPIC)
    again = grade_class(made.root, TOPIC)
    assert (again.total, again.skipped) == (0, 3)
    hand_in(made, "ben", ONE, TWO)
    changed = grade_class(made.root, TOPIC)
    assert (changed.total, changed.skipped) == (1, 2)
    assert totals(made)["ben"] == FULL


def test_a_file_beside_the_notebook_counts_as_a_change(made):
    grade_class(made.root, TOPIC)
    (made.submitted("ann") / "data.csv").write_text("1")
    assert grade_class(made.root, TOPIC).total == 1


def test_force_grades_everything_again_with_the_same_seeds(made):
    grade_class(made.root, TOPIC)
    before = {name: Records(made).read(name) for name in ("ann", "ben", "cy")}
    assert grade_class(made.root, TOPIC, force=True).total == 3
    for name, record in before.items():
        now = Records(made).read(name)
        assert now["notebooks"] == record["notebooks"]
        assert now["number"] == record["number"]


def test_only_one_student(made):
    assert grade_class(made.root, TOPIC, ["ben"]).total == 1
    assert totals(made) == {"ben": FULL - 1}


@pytest.mark.parametrize("name", ["nobody", "an", "*", "../ann", ""])
def test_an_unknown_student_is_an_error(made, command, name):
    status, _, err = command("grade", TOPIC, "--class", made.root, "--student", name)
    assert status == 2
    assert "has not handed in" in err
    assert not (made.root / "verdicts").exists()


def test_nothing_handed_in(empty, command):
    status, _, err = command("grade", TOPIC, "--class", empty.root)
    assert status == 2
    assert "Nobody has handed in" in err


@pytest.mark.parametrize("name", ["later", "nothing", "", ".."])
def test_no_such_assignment(made, command, name):
    status, _, err = command("grade", name, "--class", made.root)
    assert (status, bool(err)) == (2, True)


def test_what_is_gone_from_the_gradebook_is_written_there_again(made):
    grade_class(made.root, TOPIC)
    with opened(made) as book:
        book.remove_submission(TOPIC, "ann")
    assert grade_class(made.root, TOPIC).total == 1
    assert totals(made)["ann"] == FULL


def test_an_unreadable_record_is_no_obstacle(made):
    grade_class(made.root, TOPIC)
    path = Records(made).path("ann")
    for text in ("", "{", "[]", '{"notebooks": 3}'):
        path.write_text(text)
        assert grade_class(made.root, TOPIC).total == 1
    assert Records(made).read("ann")["recorded"]


def test_the_command_says_what_was_done(made, command):
    status, out, _ = command("grade", TOPIC, "--class", made.root)
    assert status == 0
    assert "3 submissions graded" in out
    assert "Notebooks: 1 missing, 4 ok, 1 wrong." in out


# --- submissions that are no submissions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "verdict"),
    [(b"", "malformed"), (b"{", "malformed"), (b"\x00" * 99, "malformed"), (None, "missing")],
)
def test_what_is_no_notebook_has_no_points_and_the_batch_goes_on(made, data, verdict):
    path = made.submitted("ann") / f"{ONE}.ipynb"
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    grade_class(made.root, TOPIC)
    assert verdicts_of(made, "ann") == {ONE: verdict, TWO: "ok"}
    assert totals(made) == {"ann": FULL - 3, "ben": FULL - 1, "cy": 6.0}
    kept = made.autograded("ann") / f"{ONE}.ipynb"
    assert kept.exists() == (verdict != "missing")
    assert verdict == "missing" or "Not graded" in kept.read_text()


def test_a_folder_in_the_place_of_a_notebook_stops_nothing(made):
    path = made.submitted("ann") / f"{ONE}.ipynb"
    path.unlink()
    path.mkdir()
    (path / "x.txt").write_text("x")
    grade_class(made.root, TOPIC)
    assert verdicts_of(made, "ann") == {ONE: "missing", TWO: "ok"}
    assert "it is a folder" in Records(made).read("ann")["left_out"][0]
    assert totals(made)["ben"] == FULL - 1


def test_a_link_is_left_out_and_named(made, tmp_path):
    path = made.submitted("ann") / f"{ONE}.ipynb"
    path.rename(tmp_path / "elsewhere.ipynb")
    path.symlink_to(tmp_path / "elsewhere.ipynb")
    grade_class(made.root, TOPIC)
    assert verdicts_of(made, "ann")[ONE] == "missing"
    assert Records(made).read("ann")["left_out"] == [f"'{ONE}.ipynb' was left out: it is a link."]


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "9999-99-99", "1", "\x00", "2030-01-01 00:00:00 UTC" * 50, "0001-01-01 00:00:00 +23:59"],
)
def test_a_broken_timestamp_is_no_timestamp(made, text):
    (made.submitted("ann") / "timestamp.txt").write_text(text)
    grade_class(made.root, TOPIC)
    assert totals(made)["ann"] == FULL


def test_a_students_folder_whose_name_is_no_text_is_named(made):
    name = os.fsdecode(b"m\xfcller")
    made.submitted("ann").parent.rename(made.root / "submitted" / name)
    with pytest.raises(CourseError, match="ller"):
        grade_class(made.root, TOPIC)


# --- without a sandbox --------------------------------------------------------------------------------------------------------


def test_without_a_sandbox_nothing_is_graded(made, command, monkeypatch):
    monkeypatch.setattr(grading, "sandbox_or_reason", grader.sandbox_or_reason)
    monkeypatch.setattr("autograde.classroom.sandbox.why_not", lambda: "bubblewrap is not installed")
    status, _, err = command("grade", TOPIC, "--class", made.root)
    assert status == 2
    said = " ".join(err.split())
    assert "graded in a sandbox only, and bubblewrap is not installed" in said
    assert "--unsafe" in said
    assert grades(made) == {}
    assert not (made.root / "verdicts").exists()


def test_unsafe_grading_is_marked_everywhere(made, command, monkeypatch):
    monkeypatch.setattr(grading, "sandbox_or_reason", grader.sandbox_or_reason)
    monkeypatch.setattr("autograde.classroom.sandbox.why_not", lambda: "bubblewrap is not installed")
    assert command("grade", TOPIC, "--class", made.root, "--unsafe")[0] == 0
    assert Records(made).read("ann")["unsafe"] is True
    assert "UNSAFE: grading without a sandbox" in logged(made)
    assert "Graded without a sandbox." in (made.autograded("ann") / f"{ONE}.ipynb").read_text()
    _, out, _ = command("verdicts", TOPIC, "--class", made.root)
    assert out.count("Graded without a sandbox.") == 3
    monkeypatch.setattr(grading, "sandbox_or_reason", lambda settings: "")
    assert grade_class(made.root, TOPIC).total == 3, "with a sandbox it is graded anew"
    assert Records(made).read("ann")["unsafe"] is False


# --- what goes wrong on our side ----------------------------------------------------------------------------------------------


def test_a_mistake_of_ours_is_no_zero_and_ends_no_batch(made, command, monkeypatch):
    real = grader.grade_job

    def grade(job):
        if job.number == 2:
            raise ValueError("the reference is broken")
        return real(job)

    with monkeypatch.context() as patch:
        patch.setattr(grader, "grade_job", grade)
        status, _, err = command("grade", TOPIC, "--class", made.root)
    assert status == 1
    assert "Checks of the course itself failed" in err
    assert verdicts_of(made, "ben") == {ONE: "grader-error", TWO: "grader-error"}
    assert "ValueError: the reference is broken" in Records(made).read("ben")["notebooks"][ONE]["message"]
    assert {score for (name, _), score in grades(made).items() if name == "ben"} == {None}, "no zero"
    assert "the reference is broken" not in (made.autograded("ben") / f"{ONE}.ipynb").read_text()
    assert grade_class(made.root, TOPIC).total == 1, "it is graded again the next time"
    assert totals(made)["ben"] == FULL - 1


def fake(job):
    """An outcome without grading; the worker that gets number 1 dies."""
    if job.number == 1:
        os._exit(3)
    time.sleep(0.05)
    records = {n: unreadable(f"{job.assignment}/{n}", worth, "ok", "") for n, worth in job.worth.items()}
    return Outcome(job.number, records, dict.fromkeys(records, "{}"))


class Dying:
    """Real worker processes that do not grade."""

    width = 2

    def __init__(self):
        self.renewed = -1
        self.renew()

    def submit(self, job):
        return self.executor.submit(fake, job)

    def renew(self):
        self.renewed += 1
        self.executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


def test_a_submission_that_kills_its_worker_takes_nobody_along(made, monkeypatch):
    for name in ("dee", "eve", "fay"):
        hand_in(made, name, ONE)
    pool = Dying()
    monkeypatch.setattr(grading, "local", lambda *_: contextlib.nullcontext(pool))
    done = grade_class(made.root, TOPIC)
    pool.executor.shutdown()
    assert done.done == 6
    assert verdicts_of(made, "ann") == {ONE: "grader-error", TWO: "grader-error"}
    assert "died each time" in Records(made).read("ann")["notebooks"][ONE]["message"]
    for name in ("ben", "cy", "dee", "eve", "fay"):
        assert verdicts_of(made, name) == {ONE: "ok", TWO: "ok"}
    assert pool.renewed == 2


def test_a_pool_that_breaks_between_two_looks_is_renewed(made, monkeypatch):
    """A worker may die when nothing is waited for; the pool then refuses the next job at once."""
    from concurrent.futures.process import BrokenProcessPool

    class Broken(Here):
        renewed = 0

        def submit(self, job):
            if job.number == 2 and not self.renewed:
                raise BrokenProcessPool("a child process terminated abruptly")
            return super().submit(job)

        def renew(self):
            self.renewed += 1

    pool = Broken()
    monkeypatch.setattr(grading, "local", lambda *_: contextlib.nullcontext(pool))
    grade_class(made.root, TOPIC)
    assert totals(made) == {"ann": FULL, "ben": FULL - 1, "cy": 6.0}
    assert pool.renewed == 1


def test_two_graders_at_once(made, command):
    with Records(made).locked():
        status, _, err = command("grade", TOPIC, "--class", made.root)
    assert status == 2
    assert "is being graded by another process" in " ".join(err.split())
    assert grades(made) == {}
    assert command("grade", TOPIC, "--class", made.root)[0] == 0


@contextlib.contextmanager
def locked(made):
    """Another program writes to the gradebook, until it is told to stop. Others wait only a moment for it."""
    config = made.config.read_text()
    address = f"sqlite:///{made.root}/gradebook.db?timeout=0.1"
    made.config.write_text(f"{config}\nc.CourseDirectory.db_url = {address!r}\n")
    other = sqlite3.connect(made.root / "gradebook.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield lambda: other.execute("ROLLBACK")
    finally:
        other.close()


def test_a_gradebook_that_is_locked_for_a_while(made):
    said = []
    with locked(made) as release:
        grade_class(made.root, TOPIC, progress=Progress(say=lambda line: (said.append(line), release())))
    assert said == ["The gradebook is locked by another program, or cannot be reached; waiting for it."]
    assert totals(made) == {"ann": FULL, "ben": FULL - 1, "cy": 6.0}


def test_a_gradebook_that_stays_locked(made, monkeypatch):
    monkeypatch.setattr(recorder, "PATIENCE", 0.5)
    with locked(made), pytest.raises(CourseError, match="locked by another program"):
        grade_class(made.root, TOPIC)
    assert grade_class(made.root, TOPIC).total == 3
    assert totals(made) == {"ann": FULL, "ben": FULL - 1, "cy": 6.0}


@pytest.mark.parametrize("step", ["_files", "_gradebook"])
def test_killed_while_writing_it_is_written_the_next_time(made, monkeypatch, step):
    """Whatever stands half-written, the next run completes."""

    class Killed(BaseException):
        pass

    real, count = getattr(recorder.Recorder, step), [0]

    def killed(self, *arguments):
        count[0] += 1
        if count[0] == 2:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, step, killed)
        with pytest.raises(Killed):
            grade_class(made.root, TOPIC)
    written = [record["recorded"] for record in Records(made).all().values()]
    assert sorted(written) == [False, True]
    assert grade_class(made.root, TOPIC).total == 2
    assert totals(made) == {"ann": FULL, "ben": FULL - 1, "cy": 6.0}
    assert len(details(made)) == len(grades(made)) * 2 + 3 * 2 * 2, "each submission once"


def test_stopped_by_hand_what_is_done_is_written(made, command, monkeypatch):
    class Stopped(Here):
        width = 2

        def submit(self, job):
            if job.number == 3:
                raise KeyboardInterrupt
            return super().submit(job)

    with monkeypatch.context() as patch:
        patch.setattr(grading, "local", lambda *_: contextlib.nullcontext(Stopped()))
        status, _, err = command("grade", TOPIC, "--class", made.root)
    assert status == 130
    assert "What is done is written. The same command goes on with the rest." in " ".join(err.split())
    assert totals(made) == {"ann": FULL, "ben": FULL - 1}
    done = grade_class(made.root, TOPIC)
    assert (done.total, done.skipped) == (1, 2)


# --- as nbgrader does it --------------------------------------------------------------------------------------------------------


def due(made):
    from datetime import datetime

    with opened(made) as book:
        book.update_or_create_assignment(TOPIC, duedate=datetime(2031, 1, 1))


def by_hand(made):
    """What somebody gave by hand in the formgrader."""
    with opened(made) as book:
        grade = book.find_grade("check_double", ONE, TOPIC, "ben")
        grade.manual_score, grade.extra_credit = 2.5, 0.5
        comment = book.find_comment("double", ONE, TOPIC, "ben")
        comment.manual_comment = "Nearly."
        book.db.commit()


def test_scores_and_comments_given_by_hand_are_kept(made):
    grade_class(made.root, TOPIC)
    by_hand(made)
    hand_in(made, "ben", ONE, TWO, double=WRONG)
    grade_class(made.root, TOPIC)
    found = details(made)
    key = ("ben", ONE)
    assert found[key, "check_double"] == (0.0, 2.5, True)
    assert found[key, "double"] == (None, "Nearly.")
    with opened(made) as book:
        grade = book.find_grade("check_double", ONE, TOPIC, "ben")
        assert (grade.score, grade.extra_credit) == (3.0, 0.5)


def as_released(made, student):
    place = made.submitted(student)
    place.mkdir(parents=True, exist_ok=True)
    for name in (ONE, TWO):
        shutil.copy(made.release / f"{name}.ipynb", place)


def test_an_answer_that_is_as_released_is_no_response(made):
    as_released(made, "dee")
    grade_class(made.root, TOPIC)
    found = details(made)
    assert found[("dee", ONE), "double"] == ("No response.", None)
    assert found[("ann", ONE), "double"] == (None, None)
    hand_in(made, "dee", ONE, TWO)
    grade_class(made.root, TOPIC)
    assert details(made)[("dee", ONE), "double"] == (None, None)


@pytest.mark.parametrize("method", ["none", "zero"])
def test_nbgraders_own_command_gives_the_same(made, tmp_path, method):
    """Scores, comments, penalties, timestamps, notebooks; late, missing, malformed, untouched and repaired ones."""
    with made.config.open("a") as file:
        file.write(f"\nc.LateSubmissionPlugin.penalty_method = {method!r}\n")
    due(made)
    (made.submitted("ann") / "timestamp.txt").write_text(LATE)
    (made.submitted("ben") / "timestamp.txt").write_text(EARLY)
    (made.submitted("ann") / "data.csv").write_text("1")
    as_released(made, "dee")
    hand_in(made, "eve", ONE, TWO)
    (made.submitted("eve") / f"{ONE}.ipynb").write_text("{")
    hand_in(made, "fay", ONE, TWO)
    rearranged(made.submitted("fay") / f"{TWO}.ipynb")
    other = ClassFolder(tmp_path / "other", TOPIC)
    shutil.copytree(made.root, other.root)
    grade_class(made.root, TOPIC)
    autograde(other, "ann", "ben", "cy", "dee", "eve", "fay")
    assert details(made) == details(other)
    assert details(made)[("ann", ONE), "penalty"] == (3.0 if method == "zero" else None)
    for student in ("ann", "ben", "dee", "fay"):
        ours = sorted(p.name for p in made.autograded(student).iterdir())
        assert ours == sorted(p.name for p in other.autograded(student).iterdir())
        for name in (ONE, TWO):
            assert cells(made, student, name) == cells(other, student, name), (student, name)
    for student in ("ann", "ben", "dee", "fay"):
        assert verdicts_of(made, student) == verdicts_of(other, student)


def rearranged(path):
    """No first check, a copy of the second answer below its check, a cell of one's own that grading leaves out."""
    notebook = nbformat.read(path, as_version=4)
    by_id = {cell.id: cell for cell in notebook.cells}
    copied = nbformat.from_dict(by_id["halve"] | {"id": "another", "source": "def halve(x):\n    return x"})
    mine = nbformat.v4.new_code_cell("def triple(x):\n    return 0", metadata={"tags": ["demo"]})
    notebook.cells = [c for c in notebook.cells if c.id != "check_triple"]
    notebook.cells.insert(3, mine)
    notebook.cells.append(copied)
    path.write_text(json.dumps(notebook))


def cells(made, student, name):
    """A notebook in autograded/ without the numbers that a seed gives."""
    notebook = nbformat.read(made.autograded(student) / f"{name}.ipynb", as_version=4)
    return [
        (cell.id, cell.source, {**cell.metadata, "nbgrader": {**cell.metadata.get("nbgrader", {})}}, len(cell.get("outputs", [])))
        for cell in notebook.cells
    ]  # fmt: skip


def test_either_way_may_follow_the_other(made):
    """A record of nbgrader's is not taken for ours, and grades stay one for each exercise."""
    autograde(made, "ann", "ben")
    assert grade_class(made.root, TOPIC).total == 3
    autograde(made, "ann")
    assert totals(made) == {"ann": FULL, "ben": FULL - 1, "cy": 6.0}


def test_feedback_can_be_made_of_what_was_graded(made):
    grade_class(made.root, TOPIC)
    convert("GenerateFeedback", made)
    for student in ("ann", "ben", "cy"):
        assert (made.root / "feedback" / student / TOPIC / f"{TWO}.html").is_file()


# --- afterwards -----------------------------------------------------------------------------------------------------------------


def test_verdicts_names_what_is_unusual(made, command):
    (made.submitted("ann") / "link").symlink_to("/etc/passwd")
    (made.submitted("ben") / f"{ONE}.ipynb").write_text("{")
    grade_class(made.root, TOPIC)
    status, out, _ = command("verdicts", TOPIC, "--class", made.root)
    assert status == 0
    said = " ".join(out.split())
    assert "left out" in said
    assert "malformed" in said
    assert "missing" in said
    _, everything, _ = command("verdicts", TOPIC, "--class", made.root, "--all")
    assert len(everything) > len(out)


def test_verdicts_before_anything_was_graded(made, command):
    status, _, err = command("verdicts", TOPIC, "--class", made.root)
    assert status == 2
    assert "Nothing of toytopic was graded yet." in " ".join(err.split())


def test_a_name_with_markup_is_shown_as_it_is(made, command):
    made.submitted("ann").parent.rename(made.root / "submitted" / "[red]ann")
    (made.submitted("[red]ann") / "link").symlink_to("/etc/passwd")
    grade_class(made.root, TOPIC)
    _, out, _ = command("verdicts", TOPIC, "--class", made.root)
    assert "[red]ann" in out


def test_a_grade_can_be_reproduced(made, command):
    grade_class(made.root, TOPIC)
    before = details(made)
    status, out, _ = command("regrade", "ben", TOPIC, "double", "--class", made.root)
    assert status == 0
    assert "The same as was recorded: wrong, 2 of 3 points." in " ".join(out.split())
    seed = Records(made).read("ben")["notebooks"][ONE]["exercises"]["double"]["seed"]
    assert f"seed {seed}" in out
    assert details(made) == before


def test_a_grade_that_cannot_be_reproduced_says_so(made, command):
    grade_class(made.root, TOPIC)
    record = Records(made).read("ben")
    record["notebooks"][ONE]["exercises"]["double"]["score"] = 3.0
    Records(made).write("ben", record)
    status, out, _ = command("regrade", "ben", TOPIC, "double", "--class", made.root)
    assert status == 1
    assert "Not what was recorded: score was 3.0 and is 2.0." in " ".join(out.split())


@pytest.mark.parametrize(
    ("student", "exercise", "why"),
    [
        ("nobody", "double", "There is no grade of 'nobody'"),
        ("ben", "nothing", "has no graded exercise 'nothing'"),
        ("cy", "double", "double was not looked at"),
    ],
)
def test_what_cannot_be_graded_again(made, command, student, exercise, why):
    grade_class(made.root, TOPIC)
    status, _, err = command("regrade", student, TOPIC, exercise, "--class", made.root)
    assert status == 2
    assert why in " ".join(err.split())


def test_the_class_is_left_where_it_was(made):
    before = os.getcwd()
    grade_class(made.root, TOPIC)
    with in_folder(made.root):
        assert grade_class(made.root, TOPIC).total == 0
    assert os.getcwd() == before
