"""A class chooses its exercises and points; submissions are graded, and graded again, accordingly."""

import csv

import nbformat
import pytest
from engine.helpers import TOPIC, exercise, requirement, toy_topic
from toyclass import ONE, START, TWO, answered, autograde, bank, hand_in, new_class

from autograde import run
from autograde.classroom import notebooks, preprocessors, regrade
from autograde.classroom.book import opened
from autograde.classroom.choice import read_choice
from autograde.classroom.grading import Progress
from autograde.classroom.notebooks import scaled
from autograde.classroom.regrade import regrade_all
from autograde.classroom.update import update_class
from autograde.course import CourseError
from autograde.lessons import all_lessons

CLAMPED = "def double(x):\n    return 2 * x.clamp(max=50.0)\n"
"""Right for small numbers only: 2 of 3 points."""


def scores(made):
    """Scores by (student, exercise)."""
    with opened(made) as book:
        return {
            (submission.student.id, grade.name.removeprefix("check_")): grade.score
            for submission in book.assignment_submissions(made.topic)
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


def choose(made, **changes):
    """Change lines of class.toml; None deletes one."""
    lines = made.choice.read_text().splitlines()
    for name, points in changes.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name} ="))
        lines[at] = f"# {lines[at]}" if points is None else f"{name} = {points}"
    made.choice.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def chosen(toys, quick, tmp_path_factory):
    """double is worth 30 instead of 3 points, halve is left out. Notebooks of two students were fetched before that."""
    made = new_class(tmp_path_factory.mktemp("chosen") / "class")
    before = made.choice.read_text()
    hand_in(made, "early", ONE, TWO, double=CLAMPED)
    choose(made, double=30, halve=None)
    done = update_class(made.root)
    hand_in(made, "late", ONE)
    (made.submitted("late") / "notes.txt").write_text("my notes")
    autograde(made, "early", "late")
    return made, done, before


def test_a_new_class_does_everything_for_the_usual_points(chosen):
    made, _, text = chosen
    path = made.root / "as-written.toml"
    path.write_text(text)
    usual = {f"{TOPIC}/{ONE}": {"double": 3}, f"{TOPIC}/{TWO}": {"triple": 4, "halve": 2}}
    assert read_choice(path, all_lessons_of(chosen)).notebooks == usual


def all_lessons_of(chosen):
    from autograde.course import root

    return all_lessons(root())


def test_the_update_says_what_it_did(chosen):
    _, done, _ = chosen
    assert done.changes == [
        "toytopic: double is worth 30 points, not 3.",
        "toytopic: halve is not graded any more.",
    ]
    assert done.advice == ["Hand out release/toytopic again, if students have it already."]


def test_partial_credit_stays_proportional(chosen):
    made, _, _ = chosen
    assert scores(made) == {
        ("early", "double"): 20.0, ("early", "triple"): 4.0, ("late", "double"): 30.0, ("late", "triple"): 0.0
    }  # fmt: skip
    assert scaled(5, 6, 10) == pytest.approx(25 / 3)
    assert scaled(0, 3, 0) == scaled(3, 3, 0) == 0


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same(chosen, monkeypatch):
    made, _, _ = chosen
    before = scores(made)
    monkeypatch.setattr(notebooks, "grade_submission", run.grade_submission)
    monkeypatch.setattr(preprocessors, "start_process", START)
    autograde(made, "late")
    assert scores(made) == before


def test_feedback_says_what_the_exercise_is_worth_in_this_class(chosen):
    made, _, _ = chosen
    text = (made.autograded("early") / f"{ONE}.ipynb").read_text()
    assert "In this class the exercise is worth 30 points: this earns 20." in text


def test_a_left_out_exercise_stays_as_practice(chosen):
    made, _, _ = chosen
    notebook = nbformat.read(made.release / f"{TWO}.ipynb", as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    assert cells["check_halve"].source == "check.halve(halve)"
    assert "nbgrader" not in cells["check_halve"].metadata
    assert cells["check_triple"].metadata.nbgrader.grade
    assert "NotImplementedError" in cells["halve"].source
    assert "0.5 * x" not in cells["halve"].source


def test_a_notebook_that_was_fetched_before_is_graded_and_its_practice_is_not(chosen):
    """Its check of halve is still marked as graded. Stock nbgrader would refuse the whole submission."""
    made, _, _ = chosen
    handed_in = (made.submitted("early") / f"{TWO}.ipynb").read_text()
    assert '"grade_id": "check_halve"' in handed_in
    graded = nbformat.read(made.autograded("early") / f"{TWO}.ipynb", as_version=4)
    cell = next(cell for cell in graded.cells if cell.id == "check_halve")
    assert "nbgrader" not in cell.metadata
    assert cell.outputs == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[toytopic.01_toys]\ndouble = -1\n", "toytopic.01_toys.double: points are a whole number, 0 or more, not -1."),
        ("[toytopic.01_toys]\ndouble = 1.5\n", "not 1.5"),
        ("[toytopic.01_toys]\ndouble = true\n", "not True"),
        ('[toytopic.01_toys]\ndouble = "3"\n', "not '3'"),
        ("[toytopic.01_toys]\ndubble = 3\n", "toytopic.01_toys.dubble: the notebook has no such exercise. There are: double."),
        ("[toytopic.03_none]\n", "toytopic.03_none: the series has no such notebook. There are: 01_toys, 02_more."),
        ("[later.01_toys]\n", "later: there is no series of this name with lessons. There are: toytopic."),
        ("toytopic = 3\n", "toytopic: this has to be a section in brackets, not the value 3."),
        ("[toytopic]\n01_toys = 3\n", "toytopic.01_toys: this has to be a section"),
        ("# nothing\n", "chooses no notebook"),
        ("[toytopic.01_toys]\ndouble = = 3\n", "is not valid TOML"),
        ("[toytopic.01_toys]\ndouble = 1\ndouble = 2\n", "is not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_choice_is_refused_by_name_and_changes_nothing(chosen, command, text, message):
    made, _, _ = chosen
    before, source = made.choice.read_text(), (made.source / f"{ONE}.ipynb").read_bytes()
    made.choice.write_text(text)
    try:
        status, _, shown = command("update-class", "--class", made.root)
    finally:
        made.choice.write_text(before)
    assert status == 2
    assert message in " ".join(shown.split()), shown
    assert (made.source / f"{ONE}.ipynb").read_bytes() == source


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("triple = 4", "# triple = 4", "neither add nor remove an exercise (triple)"),
        ("# halve = 2", "halve = 2", "neither add nor remove an exercise (halve)"),
        ("[toytopic.02_more]  # More\ntriple = 4", "", "neither add nor remove a notebook (02_more)"),
    ],
)
def test_what_nbgrader_cannot_do_after_grading_is_refused_beforehand(chosen, old, new, message):
    made, _, _ = chosen
    before, source = made.choice.read_text(), (made.source / f"{TWO}.ipynb").read_bytes()
    assert old in before
    made.choice.write_text(before.replace(old, new))
    try:
        with pytest.raises(CourseError) as refused:
            update_class(made.root)
    finally:
        made.choice.write_text(before)
    assert message in str(refused.value)
    assert "2 submissions were graded already" in str(refused.value)
    assert (made.source / f"{TWO}.ipynb").read_bytes() == source


def test_an_edited_source_is_set_aside_before_it_is_replaced(chosen):
    made, _, _ = chosen
    path = made.source / f"{TWO}.ipynb"
    path.write_text(path.read_text().replace("About 12 minutes", "Hello, class"))
    done = update_class(made.root)
    (kept,) = (made.root / "set-aside").glob(f"*/source/{TOPIC}/{TWO}.ipynb")
    assert "Hello, class" in kept.read_text()
    assert "Hello, class" not in path.read_text()
    assert f"was edited; the edited one is in set-aside/{kept.parts[-4]}" in done.advice[0]


# --- grading everybody again ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regraded(chosen):
    """A class that is graded, worked on by hand, and graded again after three changes.

    The points of double go from 30 to 6, its requirement "large" is mended to accept what "early" wrote, and one
    submission has become unreadable.
    """
    made, _, _ = chosen
    hand_in(made, "manual", TWO, triple="def triple(x):\n    return x\n")
    hand_in(made, "bad", TWO)
    autograde(made, "manual", "bad")
    (made.submitted("bad") / f"{TWO}.ipynb").write_text('{"cells": [')
    with opened(made) as book:
        grade = book.find_grade("check_triple", TWO, TOPIC, "manual")
        grade.manual_score, grade.extra_credit = 3.0, 0.5
        book.find_comment("triple", TWO, TOPIC, "manual").manual_comment = "We talked about it."
        book.find_submission_notebook(TWO, TOPIC, "manual").late_submission_penalty = 1.5
        book.db.commit()
    choose(made, double=6)
    with pytest.raises(CourseError, match=r"First bring the class up to date: autograde update-class"):
        regrade_all(made.root, TOPIC)
    advice = update_class(made.root).advice
    with pytest.MonkeyPatch.context() as patch:
        mended = (
            requirement(lambda d: {"x": d.uniform(4, 3)}, name="large", points=1),
            *bank()[0].requirements[:1],
        )
        toy_topic(patch, exercise(bank()[0].reference, requirements=mended), *bank()[1:])
        told = []
        done = regrade_all(made.root, TOPIC, Progress(told.append, lambda *done: told.append(done)))
    return made, done, advice, told


def test_everybody_is_graded_with_the_mended_requirement_and_the_new_points(regraded):
    made, done, advice, told = regraded
    assert advice[0].startswith("4 of the submissions of toytopic were graded with the old points.")
    assert told[0] == 4
    assert sorted(number for number, _ in told[1:]) == [1, 2, 3, 4]
    assert done.students == 3
    found = scores(made)
    assert found["early", "double"] == found["late", "double"] == 6.0
    changed = [(c.student, c.exercise, c.before, c.after) for c in done.changes]
    assert changed == [("early", "double", 20.0, 6.0), ("late", "double", 30.0, 6.0)]


def test_what_was_given_by_hand_survives(regraded):
    made, _, _, _ = regraded
    with opened(made) as book:
        grade = book.find_grade("check_triple", TWO, TOPIC, "manual")
        assert (grade.auto_score, grade.manual_score, grade.extra_credit, grade.score) == (0.0, 3.0, 0.5, 3.5)
        assert book.find_comment("triple", TWO, TOPIC, "manual").manual_comment == "We talked about it."
        assert book.find_submission_notebook(TWO, TOPIC, "manual").late_submission_penalty == 1.5


def test_a_bad_submission_keeps_its_old_grades_and_what_was_graded(regraded):
    made, done, _, _ = regraded
    assert list(done.failed) == ["bad"]
    assert "JSON" in done.failed["bad"]
    assert scores(made)["bad", "triple"] == 4.0
    assert (made.autograded("bad") / f"{TWO}.ipynb").is_file()
    assert not list(made.root.rglob("*.before"))


def test_the_old_grades_are_kept_in_a_file(regraded):
    made, done, _, _ = regraded
    with (made.root / done.kept).open(newline="", encoding="utf-8") as file:
        rows = {(row["student_id"], row["exercise"]): row for row in csv.DictReader(file)}
    assert rows["early", "double"]["score"] == "20"
    assert rows["early", "double"]["max_score"] == "6"
    assert rows["manual", "triple"]["manual_score"] == "3"
    assert rows["manual", "triple"]["late_penalty_of_the_notebook"] == "1.5"
    changes = (made.root / done.kept.replace("-before", "-changes")).read_text()
    assert "early,double,20,6," in changes


def test_the_command_says_who_changed_and_fails_for_the_bad_one(regraded, command, monkeypatch):
    made, done, _, _ = regraded
    monkeypatch.setattr(regrade, "regrade_all", lambda *arguments: done)
    status, out, shown = command("regrade-all", TOPIC, "--class", made.root)
    assert status == 1
    assert "3 submissions graded again; 2 students have another score." in out
    assert "early" in out
    assert "bad was not graded again" in shown


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("nope", "There is no assignment 'nope' in the gradebook. There are: toytopic.")],
)
def test_an_unknown_assignment_is_refused(regraded, command, assignment, message):
    status, _, shown = command("regrade-all", assignment, "--class", regraded[0].root)
    assert status == 2
    assert message in shown


def test_a_folder_that_is_no_class_is_refused(command, tmp_path):
    for name in ("update-class", "grades"):
        status, _, shown = command(name, "--class", tmp_path)
        assert status == 2
        assert "is no class folder" in " ".join(shown.split())


def test_a_configuration_that_is_no_python_is_one_sentence(chosen, command):
    made, _, _ = chosen
    before = made.config.read_text()
    made.config.write_text(before + "c.X = = 3\n")
    try:
        status, _, shown = command("grades", "--class", made.root)
    finally:
        made.config.write_text(before)
    assert status == 2
    assert "nbgrader_config.py cannot be used: SyntaxError" in shown


def test_what_was_given_by_hand_survives_when_somebody_stops_it(regraded, monkeypatch):
    made, _, _, _ = regraded

    def stop(number, verdict):
        if number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        regrade_all(made.root, TOPIC, Progress(done=stop))
    with opened(made) as book:
        assert book.find_submission_notebook(TWO, TOPIC, "manual").late_submission_penalty == 1.5


def test_a_class_without_a_choice_is_one_sentence(chosen, command):
    made, _, _ = chosen
    before = made.choice.read_text()
    made.choice.unlink()
    try:
        status, _, shown = command("update-class", "--class", made.root)
    finally:
        made.choice.write_text(before)
    assert status == 2
    assert "There is no class.toml" in shown


def test_an_answer_can_be_read_back(chosen, tmp_path):
    """The helper that breaks answers does what it says."""
    made, _, _ = chosen
    path = tmp_path / "x.ipynb"
    path.write_text(answered(made.source / f"{ONE}.ipynb", double=CLAMPED))
    assert CLAMPED in [cell.source for cell in nbformat.read(path, as_version=4).cells]
