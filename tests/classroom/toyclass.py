"""A made-up course with two notebooks in one series, and a class that does it; a command line in this process."""

import contextlib
import json
import sys
from concurrent.futures import Future
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/, for what the engine's tests share

from engine.helpers import TOPIC, exercise, requirement, toy_course, toy_topic

from autograde import cli, course
from autograde.build import build, write
from autograde.classroom import grader, grading, notebooks, preprocessors
from autograde.classroom.book import opened
from autograde.classroom.folder import ClassFolder, convert, make_class
from autograde.compare import Finding
from autograde.grade import failed, grade
from autograde.observe import LocalObserver
from autograde.run import NotebookResult

START = grader.start_process
ONE = "01_toys"
TWO = "02_more"
LESSON = """\
# %% [markdown]
# # {title}
#
# About 12 minutes.

# %% setup
import torch

from autograde import open_lesson

check = open_lesson("toytopic/{name}")

"""
CELLS = '''
# %% {name} tags=["exercise"]
def {name}(x):
    """Times {factor}."""
    ### BEGIN SOLUTION
    return {factor} * x
    ### END SOLUTION


# %% check_{name} tags=["check"]
check.{name}({name})

'''


def double(x):
    return 2.0 * x


def triple(x):
    return 3.0 * x


def halve(x):
    return 0.5 * x


def small(draw):
    return {"x": draw.uniform(4, 3)}


def large(draw):
    return {"x": draw.uniform(4, 3, low=100.0, high=200.0)}


def bank():
    """double: 2 points for small numbers and 1 for large ones. triple: 4 points. halve: 2 points."""
    asked = (requirement(small, name="small", points=2), requirement(large, name="large", points=1))
    return (
        exercise(double, requirements=asked),
        exercise(triple, small, requirement={"points": 4}),
        exercise(halve, small, requirement={"points": 2}),
    )


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The made-up course, in place of the real one for the tests of one file."""
    folder = tmp_path_factory.mktemp("toys")
    with pytest.MonkeyPatch.context() as patch:
        toy_topic(patch, *bank())
        patch.setenv("REDERIVE_ROOT", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        first = LESSON.format(title="Toys", name=ONE) + CELLS.format(name="double", factor=2)
        second = LESSON.format(title="More", name=TWO) + CELLS.format(name="triple", factor=3)
        toy_course(folder, first, name=ONE)
        toy_course(folder, second + CELLS.format(name="halve", factor=0.5), name=TWO)
        write(build(folder), folder)
        yield folder
    course.exercises.cache_clear()


def grade_here(submission, folder, seeds, **how):
    """In place of `grade_submission`: in this process, which saves starting another one and importing torch there.

    What decides is the same. That a sandbox gives the same results is tested elsewhere.
    """
    space, results = {}, {}
    for step in submission.steps:
        if step.check:
            made = course.exercises(submission.topic)[step.exercise]
            if step.exercise in space:
                look = LocalObserver(space[step.exercise], quiet=True)
                results[step.exercise] = grade(made, look, graded=True, seed=next(seeds(step.exercise)))
            else:
                results[step.exercise] = failed(made, Finding("missing", "not there"), 1)
        elif "open_lesson" not in step.source:
            exec(step.source, space)
        else:
            exec("import torch", space)
    return NotebookResult(submission.lesson, results)


class Here:
    """A pool whose only worker is this process."""

    width = 1

    def submit(self, job):
        future = Future()
        try:
            future.set_result(grader.grade_job(job))
        except Exception as error:
            future.set_exception(error)
        return future

    def renew(self):
        pass


@pytest.fixture(scope="module")
def quick():
    """Notebooks are graded in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "local", lambda *arguments: contextlib.nullcontext(Here()))
        patch.setattr(grader, "start_process", lambda topic, settings: None)
        patch.setattr(notebooks, "grade_submission", grade_here)
        patch.setattr(preprocessors, "start_process", lambda topic, settings: None)
        yield


def answered(path, **answers):
    """A notebook file with other texts in the cells of these exercises."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.id in answers:
            cell.source = answers[cell.id]
    return json.dumps(notebook)


def hand_in(made: ClassFolder, student, *names, **answers):
    """Put solved notebooks into a student's folder, with other answers where there are some."""
    place = made.submitted(student)
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        (place / f"{name}.ipynb").write_text(answered(made.source / f"{name}.ipynb", **answers))


def new_class(folder) -> ClassFolder:
    """A class that does the made-up course."""
    return make_class(folder, TOPIC)


def autograde(made: ClassFolder, *students):
    """What `nbgrader autograde` does."""
    for student in students:
        convert("Autograde", made, student, force=True)


def graded(made: ClassFolder):
    """Every grade and comment in the gradebook: by student, notebook and cell."""
    with opened(made) as book:
        submissions = book.assignment_submissions(made.topic)
        notebooks = [notebook for submission in submissions for notebook in submission.notebooks]
        grades = {
            (grade.student.id, grade.notebook.name, grade.name): (
                grade.auto_score,
                grade.max_score,
                grade.needs_manual_grade,
            )
            for notebook in notebooks
            for grade in notebook.grades
        }
        comments = {
            (comment.student.id, comment.notebook.name, comment.name): comment.auto_comment
            for notebook in notebooks
            for comment in notebook.comments
        }
    return grades, comments


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process: (status, stdout, stderr). A traceback is never right."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["autograde", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as leaving:
            status = leaving.code or 0
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return status, shown.out, shown.err

    return run
