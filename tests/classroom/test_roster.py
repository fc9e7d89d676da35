"""Rosters of nbgrader's, Canvas's and Moodle's form go into a real gradebook, or nothing does."""

import shutil
from pathlib import Path

import pytest

from autograde.classroom import folder as class_folder
from autograde.classroom.book import opened
from autograde.classroom.folder import ClassFolder
from autograde.classroom.roster import import_roster, read_roster, unsafe
from autograde.classroom.tables import harmless
from autograde.course import CourseError

CANVAS = (
    "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,rnn (4711),Current Score\r\n"
    ",,,,,Manual Posting,\r\n"
    "    Points Possible,,,,,23,(read only)\r\n"
    '"Lovelace, Ada",101,S-1,ada,Monday,,\r\n'
    '"Žižek, Bob ""the"" =1+1",102,S-2,bob@example.org,"Monday, late",20,87\r\n'
    '"Student, Test",103,,f00d,Monday,,\r\n'
)
MOODLE = (
    "First name;Surname;ID number;Institution;Department;Email address\n"
    "Ada;Lovelace;101;;;ada@example.org\n"
    "\n"
    "José María;Núñez;102;;;jose@example.org\n"
    ";;;;;\n"
)
NBGRADER = "id,first_name,last_name,email\nada,Ada,Lovelace,ada@example.org\nbob,,,\n"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A class folder with an empty gradebook; no lessons are needed."""
    made = ClassFolder(tmp_path_factory.mktemp("roster") / "class", "")
    made.root.mkdir()
    shutil.copy(Path(class_folder.__file__).with_name("nbgrader_config.py"), made.config)
    with opened(made):
        pass
    return made.root


@pytest.fixture
def made(empty, tmp_path):
    """A fresh copy of it."""
    return ClassFolder(Path(shutil.copytree(empty, tmp_path / "class")), "")


def people(made):
    with opened(made) as book:
        return {s.id: (s.first_name, s.last_name, s.email, s.lms_user_id) for s in book.students}


def put(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "roster.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_canvas(made, tmp_path):
    came = import_roster(put(tmp_path, CANVAS), made.root)
    assert (came.kind, came.column, came.added) == ("Canvas", "SIS Login ID", ["ada", "bob@example.org"])
    assert came.skipped == ["roster.csv, line 6: Canvas's test student is left out."]
    assert people(made) == {
        "ada": ("Ada", "Lovelace", None, "101"),
        "bob@example.org": ('Bob "the" =1+1', "Žižek", "bob@example.org", "102"),
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_moodle(made, tmp_path, encoding):
    came = import_roster(put(tmp_path, MOODLE, encoding), made.root)
    assert (came.kind, came.column) == ("Moodle", "ID number")
    assert people(made) == {
        "101": ("Ada", "Lovelace", "ada@example.org", "101"),
        "102": ("José María", "Núñez", "jose@example.org", "102"),
    }


def test_moodle_with_a_username_and_a_last_name(tmp_path):
    text = "First name\tLast name\tUsername\tEmail address\nAda\tLovelace\tada\ta@example.org\n"
    (entry,), _ = read_roster(put(tmp_path, text))
    assert (entry.id, entry.last_name, entry.line) == ("ada", "Lovelace", 2)


def test_the_id_can_be_another_column(tmp_path):
    entries, roster = read_roster(put(tmp_path, CANVAS), "sis user id")
    assert [entry.id for entry in entries] == ["S-1", "S-2"]
    assert roster.column == "SIS User ID"
    with pytest.raises(CourseError, match=r"has no column 'nope'. There are: Student, ID"):
        read_roster(put(tmp_path, CANVAS), "nope")


def test_a_second_time_changes_nothing_and_nobody_is_removed(made, tmp_path, command):
    path = put(tmp_path, NBGRADER)
    assert import_roster(path, made.root).added == ["ada", "bob"]
    before = people(made)
    again = import_roster(path, made.root)
    assert (again.added, again.changed, again.unchanged, again.absent) == ([], [], ["ada", "bob"], [])
    assert people(made) == before
    path.write_text("id,first_name,last_name,email\nada,Augusta Ada,,\nnew,,,\n")
    status, out, _ = command("roster", path, "--class", made.root)
    assert status == 0
    for line in (
        "1 added: new",
        "1 changed: ada",
        "0 unchanged",
        "1 in the gradebook, but not in the file; kept: bob",
    ):
        assert line in out
    assert people(made)["ada"] == ("Augusta Ada", "Lovelace", "ada@example.org", None), (
        "empty cells delete nothing"
    )
    assert "bob" in people(made)


WRONG = {
    "a duplicate": ("id\nada\nbob\nada\n", "line 4, column id: the id 'ada' stands in line 2 already"),
    "a duplicate but for case": ("id\nada\nADA\n", "line 3, column id: the id 'ADA' stands in line 2"),
    "an empty id": ("id,first_name\nada,Ada\n,Bob\n", "line 3, column id: the id is empty"),
    "a slash": ("id\na/b\n", "line 2, column id: the id 'a/b' contains '/'"),
    "the folder above": ("id\n..\n", "begins or ends with"),
    "a hidden folder": ("id\n.ada\n", "begins or ends with"),
    "an option": ("id\n-rf\n", "begins or ends with"),
    "a pattern": ("id\na*\n", "contains '*'"),
    "a comma": ('id\n"a,b"\n', "contains ','"),
    "a formula": ("id\n=1\n", "looks like a formula"),
    "a formula in the address": ("id,email\nada,@SUM(1)\n", "looks like a formula"),
    "after a cell of two lines": ('id,first_name\nada,"A\nda"\n..,\n', "line 4, column id"),
    "too many cells": ("id,email\nada,a,b,c\n", "line 2: 4 cells, but the header has 2"),
    "an open quote": ('id,email\nada,"a\n', "line 2"),
    "unknown columns": ("name,matrikel\nada,1\n", "Canvas: Student, ID"),
    "an empty file": ("", "is empty"),
    "a header alone": ("id\n", "has a header, but no students"),
    "too long": (f"id,last_name\nada,{'x' * 129}\n", "last_name has more than 128 characters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line_and_nothing_is_written(made, tmp_path, command, name):
    text, message = WRONG[name]
    status, _, shown = command("roster", put(tmp_path, "\r\n".join(text.split("\n"))), "--class", made.root)
    assert status == 2
    assert message in " ".join(shown.split()), shown
    assert people(made) == {}


def test_a_file_in_another_encoding_is_refused_with_its_line(tmp_path):
    with pytest.raises(CourseError, match="line 3: this is not UTF-8"):
        read_roster(put(tmp_path, "id,last_name\nada,L\njose,Núñez\n", "latin-1"))


def test_a_file_that_is_not_there_is_one_sentence(made, command, tmp_path):
    status, _, shown = command("roster", tmp_path / "none.csv", "--class", made.root)
    assert status == 2
    assert "cannot be read: No such file" in " ".join(shown.split())


def test_an_id_that_differs_from_the_gradebooks_in_case_is_refused(made, tmp_path):
    import_roster(put(tmp_path, "id\nAda\n"), made.root)
    with pytest.raises(CourseError, match="line 3: the gradebook has 'Ada', which is 'ada' but for"):
        import_roster(put(tmp_path, "id\nbob\nada\n"), made.root)
    assert list(people(made)) == ["Ada"]


def test_an_interrupted_import_writes_nothing(made, tmp_path, monkeypatch):
    import nbgrader.api

    built = []

    class Breaks(nbgrader.api.Student):
        def __init__(self, **fields):
            built.append(fields)
            if len(built) == 2:
                raise KeyboardInterrupt
            super().__init__(**fields)

    monkeypatch.setattr(nbgrader.api, "Student", Breaks)
    with pytest.raises(KeyboardInterrupt):
        import_roster(put(tmp_path, "id\nada\nbob\n"), made.root)
    assert people(made) == {}


def test_ordinary_ids_are_safe():
    assert [unsafe(name) for name in ("ada", "ada.l", "a_b-1", "ada@example.org", "Žižek", "101")] == [
        None
    ] * 6


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1"])
def test_no_text_is_a_formula(text):
    assert harmless(text) == f"'{text}"


def test_ordinary_texts_are_left_alone():
    assert [harmless(text) for text in ("Ada", "a-b", "", "O'Hara")] == ["Ada", "a-b", "", "O'Hara"]
