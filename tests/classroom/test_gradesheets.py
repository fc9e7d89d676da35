"""Grades leave a real gradebook in the forms of a plain table, Canvas and Moodle."""

import csv
import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autograde.classroom import folder as class_folder
from autograde.classroom.book import opened
from autograde.classroom.folder import ClassFolder, in_folder
from autograde.classroom.gradesheets import number, read_grades, write_sheet
from autograde.course import CourseError

CANVAS = (
    "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Essay (1),RNN (4711),Current Score\n"
    ",,,,,,Manual Posting,\n"
    "    Points Possible,,,,,10,20,(read only)\n"
    '"Lovelace, Ada",101,S-1,ada,Monday,9,,90\n'
    '"=HYPERLINK(1), Bob",102,S-2,bob,Monday,8,3,80\n'
    '"Nobody, Known",999,S-9,nobody,Monday,1,4,10\n'
    '"Gone, Carl",103,S-3,carl,Tuesday,,7,\n'
    '"Ill, Dora",104,S-4,dora,Tuesday,,EX,\n'
)
MOODLE = (
    "First name,Last name,ID number,Email address,Assignment: Essay (Real),Assignment: rnn (Real),Course total (Real)\n"
    "Ada,Lovelace,,ADA@example.org,9,-,9\n"
    "Bob,B,102,other@example.org,-,-,-\n"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two assignments. ada: all of rnn but late with a penalty; bob: a third, and flows; carl: nothing; dora: a point."""
    made = ClassFolder(tmp_path_factory.mktemp("grades") / "class", "rnn")
    made.root.mkdir()
    shutil.copy(Path(class_folder.__file__).with_name("nbgrader_config.py"), made.config)
    with opened(made) as book:
        for name, points in (("flows", (5,)), ("rnn", (10, 13))):
            book.add_assignment(name, duedate=datetime.now(UTC).replace(tzinfo=None))
            for number, most in enumerate(points):
                book.add_notebook(f"{number:02d}", name)
                book.add_grade_cell(
                    f"check_{number}", f"{number:02d}", name, max_score=most, cell_type="code"
                )
        book.add_student(
            "ada", first_name="Ada", last_name="Lovelace", email="ada@example.org", lms_user_id="101"
        )
        book.add_student(
            "bob", first_name="Bob", last_name="=HYPERLINK(1)", email="bob@example.org", lms_user_id="102"
        )
        book.add_student("carl", last_name="Gone")
        book.add_student("dora", first_name="@Dora", last_name="Ill")
        for student, name, scores in (
            ("ada", "rnn", (10, 13)), ("bob", "rnn", (1 / 3, 7)), ("bob", "flows", (5,)), ("dora", "rnn", (1, None)),
        ):  # fmt: skip
            book.add_submission(name, student)
            for number, score in enumerate(scores):
                grade = book.find_grade(f"check_{number}", f"{number:02d}", name, student)
                grade.auto_score = score
        book.find_submission_notebook("00", "rnn", "ada").late_submission_penalty = 2.5
        book.db.commit()
    return made


def rows(text):
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def nbgraders_export(made):
    """Scores by student and assignment, from nbgrader's own plugin."""
    from nbgrader.plugins import CsvExportPlugin

    plugin = CsvExportPlugin()
    plugin.to = str(made.root / "nbgrader.csv")
    with opened(made) as book, in_folder(made.root):
        plugin.export(book)
    with open(plugin.to, newline="") as file:
        return {(row["student_id"], row["assignment"]): float(row["score"]) for row in csv.DictReader(file)}


def test_totals_are_nbgraders_own(made):
    theirs = nbgraders_export(made)
    grades = read_grades(made.root)
    assert len(theirs) == 8
    for student in grades.students:
        for assignment in grades.assignments:
            assert student.scores.get(assignment, 0.0) == theirs[student.id, assignment]
    assert theirs["ada", "rnn"] == 20.5


def test_the_plain_table(made, tmp_path, command):
    path = tmp_path / "table.csv"
    status, out, _ = command("grades", "--class", made.root, "--out", path)
    assert status == 0
    assert "Not graded to the end, what is missing counts as 0: dora/rnn" in " ".join(out.split())
    assert rows(path.read_bytes().decode()) == [
        ["student_id", "last_name", "first_name", "email", "flows", "rnn", "total", "out_of"],
        ["bob", "'=HYPERLINK(1)", "Bob", "bob@example.org", "5", "7.3333", "12.3333", "28"],
        ["carl", "Gone", "", "", "", "", "0", "28"],
        ["dora", "Ill", "'@Dora", "", "", "1", "1", "28"],
        ["ada", "Lovelace", "Ada", "ada@example.org", "", "20.5", "20.5", "28"],
    ]


def by_student(text, column=0):
    return {row[column]: row for row in rows(text)[1:]}


def test_nothing_handed_in_is_empty_or_zero_when_asked_for(made, tmp_path):
    assert by_student(write_sheet(made.root, "csv", tmp_path / "a.csv").text)["carl"][4:7] == ["", "", "0"]
    zero = write_sheet(made.root, "csv", tmp_path / "a.csv", missing_as_zero=True)
    assert by_student(zero.text)["carl"][4:7] == ["0", "0", "0"]


def test_canvas_without_a_template(made, tmp_path):
    header, points, *people = rows(write_sheet(made.root, "canvas", tmp_path / "c.csv").text)
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "flows", "rnn"]
    assert points == ["    Points Possible", "", "", "", "", "5", "23"]
    assert ["Lovelace, Ada", "101", "", "ada", "", "", "20.5"] in people
    assert ["'=HYPERLINK(1), Bob", "102", "", "bob", "", "5", "7.3333"] in people


@pytest.fixture
def canvas(tmp_path):
    path = tmp_path / "canvas.csv"
    path.write_text(CANVAS, encoding="utf-8")
    return path


def test_canvas_with_its_own_export_as_a_template(made, tmp_path, canvas, command):
    out = tmp_path / "for-canvas.csv"
    status, shown, _ = command(
        "grades", "--class", made.root, "--for", "canvas", "--template", canvas, "--out", out
    )
    assert status == 0
    text = out.read_bytes().decode()
    assert text.startswith("\ufeff"), "as the template"
    assert rows(text) == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "flows", "RNN (4711)"],
        ["", "", "", "", "", "", "Manual Posting"],
        ["    Points Possible", "", "", "", "", "5", "20"],
        ["Lovelace, Ada", "101", "S-1", "ada", "Monday", "", "20.5"],
        ["'=HYPERLINK(1), Bob", "102", "S-2", "bob", "Monday", "5", "7.3333"],
        ["Nobody, Known", "999", "S-9", "nobody", "Monday", "", "4"],
        ["Gone, Carl", "103", "S-3", "carl", "Tuesday", "", "7"],
        ["Ill, Dora", "104", "S-4", "dora", "Tuesday", "", "EX"],
    ]
    said = " ".join(shown.split())
    assert "Canvas has 20 points for 'RNN (4711)', the gradebook 23." in said
    assert "In the template, but not in the gradebook; left as they were: Nobody, Known 999." in said
    assert "Excused on Canvas, and left so: dora." in said


def test_an_assignment_can_have_another_name_there(made, tmp_path, canvas):
    sheet = write_sheet(made.root, "canvas", tmp_path / "c.csv", canvas, names={"flows": "Essay"})
    assert rows(sheet.text)[0][5:] == ["Essay (1)", "RNN (4711)"]
    assert by_student(sheet.text, 3)["bob"][5] == "5"
    assert by_student(sheet.text, 3)["ada"][5] == "9", "what Canvas has stays where nothing was handed in"


def test_moodle_with_and_without_a_template(made, tmp_path):
    path = tmp_path / "moodle.csv"
    path.write_text(MOODLE)
    filled = rows(write_sheet(made.root, "moodle", tmp_path / "m.csv", path).text)
    assert filled == [
        ["First name", "Last name", "ID number", "Email address", "flows", "Assignment: rnn (Real)"],
        ["Ada", "Lovelace", "", "ADA@example.org", "", "20.5"],
        ["Bob", "B", "102", "other@example.org", "5", "7.3333"],
    ]
    sheet = write_sheet(made.root, "moodle", tmp_path / "m.csv")
    assert rows(sheet.text)[0] == ["First name", "Last name", "ID number", "Email address", "flows", "rnn"]
    assert ["Bob", "'=HYPERLINK(1)", "102", "bob@example.org", "5", "7.3333"] in rows(sheet.text)
    assert sheet.notes[0] == "Without an address and an ID number, so Moodle cannot know them: carl, dora."


WRONG = {
    "no gradebook": ("a,b\n1,2\n", "is no gradebook exported by Canvas"),
    "twice the same column": (
        "Student,ID,rnn,rnn (2)\nx,101,,\n",
        "several columns for 'rnn': 'rnn', 'rnn (2)'",
    ),
    "nobody in common": ("Student,ID\nx,5\n", "no student in common, so nothing was written"),
    "one line, two students": ("Student,ID,SIS Login ID\nx,101,bob\n", "line 2: this line fits two students"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_template_that_cannot_be_used_is_refused_and_nothing_written(made, tmp_path, command, name):
    text, message = WRONG[name]
    (tmp_path / "t.csv").write_text(text)
    out = tmp_path / "out.csv"
    status, _, shown = command(
        "grades", "--class", made.root, "--for", "canvas", "--template", tmp_path / "t.csv", "--out", out
    )
    assert status == 2
    assert message in " ".join(shown.split())
    assert not out.exists()


def test_other_mistakes_are_one_sentence(made, tmp_path, canvas):
    with pytest.raises(CourseError, match="is the template"):
        write_sheet(made.root, "canvas", canvas, canvas)
    assert canvas.read_text(encoding="utf-8") == CANVAS
    with pytest.raises(CourseError, match=r"no assignment 'ddim' in the gradebook. There are: flows, rnn"):
        write_sheet(made.root, "csv", tmp_path / "x.csv", names={"ddim": "x"})
    with pytest.raises(CourseError, match="A template is for"):
        write_sheet(made.root, "csv", tmp_path / "x.csv", canvas)


def test_the_name_option_needs_both_sides(made, command):
    status, _, shown = command("grades", "--class", made.root, "--name", "rnn")
    assert status == 2
    assert "--name takes ASSIGNMENT=NAME" in shown


def test_numbers_are_short_and_not_rounded_to_less_than_four_digits():
    assert [number(v) for v in (5.0, 7.5, 25 / 3, 0.0, 1234.5678)] == ["5", "7.5", "8.3333", "0", "1234.5678"]
