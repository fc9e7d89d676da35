"""The steps of nbgrader's that are replaced: that they are still what we replace, and that the replacements trust nothing."""

import inspect
import os

import nbformat
import pytest
from engine.helpers import TOPIC
from nbgrader.converters.autograde import Autograde
from nbgrader.converters.base import BaseConverter
from toyclass import ONE, TWO, autograde, hand_in, new_class

from autograde.classroom import guard
from autograde.classroom.book import opened
from autograde.classroom.records import Records


@pytest.fixture(scope="module")
def made(toys, quick, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autograde.classroom.preprocessors.sandbox_or_reason", lambda settings: "")
        yield new_class(tmp_path_factory.mktemp("guard") / "class")


# --- canaries: which of nbgrader's private parts we lean on -------------------------------------------------------------------


def test_the_replaced_methods_are_there_with_their_arguments():
    asked = list(inspect.signature(BaseConverter.init_assignment).parameters)
    assert asked == ["self", "assignment_id", "student_id"]
    assert list(inspect.signature(BaseConverter.convert_single_notebook).parameters) == [
        "self",
        "notebook_filename",
    ]
    assert list(inspect.signature(BaseConverter.start).parameters) == ["self"]
    assert "start" not in vars(Autograde)
    assert issubclass(Autograde, BaseConverter)


@pytest.mark.parametrize(
    "name", ["init_single_notebook_resources", "write_single_notebook", "_format_source", "_format_dest"]
)
def test_what_the_replacements_call_is_there(name):
    assert callable(getattr(BaseConverter, name))


def test_nbgrader_calls_what_is_replaced():
    assert "self.init_assignment(" in inspect.getsource(BaseConverter.convert_notebooks)
    assert "self.convert_single_notebook(" in inspect.getsource(BaseConverter.convert_notebooks)
    assert "super(Autograde, self).init_assignment(" in inspect.getsource(Autograde.init_assignment)
    assert "_sanitizing" in inspect.getsource(Autograde.convert_single_notebook)


def test_installing_twice_replaces_once(made):
    guard.install()
    before = BaseConverter.init_assignment, BaseConverter.convert_single_notebook
    guard.install()
    assert (BaseConverter.init_assignment, BaseConverter.convert_single_notebook) == before
    assert before[0].__module__ == guard.__name__


# --- what nbgrader would have followed or stopped at --------------------------------------------------------------------------


@pytest.fixture
def submission(made, request):
    """A student's folder with both notebooks."""
    name = f"s{abs(hash(request.node.name)) % 10**6}"
    hand_in(made, name, ONE, TWO)
    return name, made.submitted(name)


def score(made, student):
    with opened(made) as book:
        found = book.find_submission(TOPIC, student)
        return sum(grade.auto_score or 0 for notebook in found.notebooks for grade in notebook.grades)


def test_links_are_not_followed(made, submission, tmp_path):
    name, place = submission
    (tmp_path / "secret").write_text("secret")
    (place / "link.txt").symlink_to(tmp_path / "secret")
    (place / "folder").symlink_to(tmp_path, target_is_directory=True)
    os.link(tmp_path / "secret", place / "hard.txt")
    autograde(made, name)
    there = {path.name for path in made.autograded(name).rglob("*")}
    assert there == {f"{ONE}.ipynb", f"{TWO}.ipynb"}
    assert score(made, name) == 9.0


def test_a_notebook_that_is_a_link_is_not_followed(made, submission, tmp_path):
    name, place = submission
    (place / f"{ONE}.ipynb").rename(tmp_path / "elsewhere.ipynb")
    (place / f"{ONE}.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
    autograde(made, name)
    assert score(made, name) == 6.0


@pytest.mark.timeout(60)
def test_a_pipe_does_not_hang(made, submission):
    name, place = submission
    os.mkfifo(place / "pipe")
    autograde(made, name)
    assert score(made, name) == 9.0


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\x00\xff", b"[]", b"[" * 50_000, b'{"nbformat": 3, "worksheets": []}']
)
def test_a_malformed_notebook_has_a_grade_of_zero_and_the_other_its_own(made, submission, data):
    name, place = submission
    (place / f"{ONE}.ipynb").write_bytes(data)
    autograde(made, name)
    assert score(made, name) == 6.0
    written = nbformat.read(made.autograded(name) / f"{ONE}.ipynb", as_version=4)
    assert "Not graded" in written.cells[0].source
    assert Records(made).read(name)["notebooks"][TWO]["verdict"] == "ok"


def test_a_folder_in_the_place_of_a_notebook(made, submission):
    name, place = submission
    (place / f"{ONE}.ipynb").unlink()
    (place / f"{ONE}.ipynb").mkdir()
    (place / f"{ONE}.ipynb" / "x.txt").write_text("x")
    autograde(made, name)
    assert score(made, name) == 6.0


def test_what_is_no_text_can_be_written(made, submission):
    """A lone half of a character, which no file takes."""
    name, place = submission
    path = place / f"{ONE}.ipynb"
    path.write_text(path.read_text().replace("Times 2", "Times \\\\ud800 2".replace("\\\\", "\\")))
    autograde(made, name)
    assert score(made, name) == 9.0
