"""Grades out of the gradebook, in the forms that Canvas and Moodle import, and as a plain table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograde.classroom.book import opened
from autograde.classroom.folder import open_class
from autograde.classroom.tables import Table, as_csv, harmless, read_table
from autograde.course import CourseError
from autograde.progress import write_atomically

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE = ("First name", "Last name", "ID number", "Email address")
PLAIN = ("student_id", "last_name", "first_name", "email")
WHO = {
    "canvas": ("student", "id", "sis user id", "sis login id", "integration id", "root account", "section"),
    "moodle": ("first name", "last name", "surname", "id number", "email address", "username"),
}
"""Columns of a template that say who somebody is, in lower case; they are kept as they are."""
MATCH = {
    "canvas": ("sis login id", "sis user id", "id"),
    "moodle": ("username", "id number", "email address"),
}
"""Columns of a template that are looked up among the gradebook's students, in this order."""
NAMES = ("student", "first name", "last name", "surname", "section")
EXCUSED = "EX"


@dataclass(frozen=True)
class Student:
    """A student with scores by assignment; an assignment without a submission is not among them."""

    id: str
    first_name: str
    last_name: str
    email: str
    lms_user_id: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Grades:
    """What the gradebook holds.

    Attributes:
        assignments: by name: the points that there are.
        unfinished: submissions ("student/assignment") with a check that was never graded; it counts as 0.
    """

    assignments: dict[str, float]
    students: tuple[Student, ...]
    unfinished: tuple[str, ...] = ()


@dataclass
class Sheet:
    """A finished file, and what there is to say about it."""

    text: str
    notes: list[str] = field(default_factory=list)


def read_grades(folder: Path) -> Grades:
    """Every student's score for every assignment, as nbgrader's own export counts it: late penalties are taken off.

    Raises:
        CourseError: this is no class folder, or its gradebook is empty.
    """
    with opened(open_class(folder)) as book:
        assignments = {entry.name: float(entry.max_score) for entry in book.assignments}
        scores: dict[str, dict[str, float]] = {}
        unfinished = []
        for name in assignments:
            for submission in book.assignment_submissions(name):
                score = max(0.0, submission.score - submission.late_submission_penalty)
                scores.setdefault(submission.student.id, {})[name] = score
                if any(_ungraded(grade) for notebook in submission.notebooks for grade in notebook.grades):
                    unfinished.append(f"{submission.student.id}/{name}")
        students = tuple(_student(entry, scores.get(entry.id, {})) for entry in book.students)
    if not students:
        raise CourseError("The gradebook has no students yet. Add them first: autograde roster FILE.csv")
    return Grades(assignments, students, tuple(sorted(unfinished)))


def _ungraded(grade: Any) -> bool:
    return grade.auto_score is None and grade.manual_score is None


def _student(entry: Any, scores: dict[str, float]) -> Student:
    first, last = entry.first_name or "", entry.last_name or ""
    return Student(entry.id, first, last, entry.email or "", entry.lms_user_id or "", scores)


def write_sheet(
    folder: Path,
    form: str,
    out: Path,
    template: Path | None = None,
    missing_as_zero: bool = False,
    names: dict[str, str] | None = None,
) -> Sheet:
    """Write the grades of a class.

    Args:
        folder: the class.
        form: "csv", "canvas" or "moodle".
        out: the file to write; it appears whole or not at all.
        template: a file that the learning platform has exported; its students and its order are kept.
        missing_as_zero: write 0, not an empty cell, where nothing was handed in.
        names: by assignment: what it is called on the learning platform.

    Raises:
        CourseError: the template cannot be used, or a name is given to an assignment that does not exist.
    """
    grades = read_grades(folder)
    called = {name: name for name in grades.assignments} | (names or {})
    unknown = called.keys() - grades.assignments.keys()
    if unknown:
        there = ", ".join(grades.assignments) or "none"
        raise CourseError(f"There is no assignment {min(unknown)!r} in the gradebook. There are: {there}.")
    if template is not None and form == "csv":
        raise CourseError("A template is for --for canvas or --for moodle.")
    if template is not None and out.exists() and out.samefile(template):
        raise CourseError(f"{out} is the template. Name another file with --out.")
    if template is not None:
        sheet = _filled(_read_template(template, form), form, grades, called, missing_as_zero)
    else:
        sheet = {"csv": _plain, "canvas": _canvas, "moodle": _moodle}[form](grades, called, missing_as_zero)
    if grades.unfinished:
        sheet.notes.append(
            f"Not graded to the end, what is missing counts as 0: {_some(grades.unfinished)}. Grade them again."
        )
    write_atomically(out, sheet.text)
    return sheet


def number(value: float) -> str:
    """A score as text: 5, 7.5, 8.3333."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _some(names: Iterable[str], most: int = 10) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _cells(student: Student, assignments: Iterable[str], missing_as_zero: bool) -> list[str]:
    empty = "0" if missing_as_zero else ""
    return [number(student.scores[name]) if name in student.scores else empty for name in assignments]


def _plain(grades: Grades, called: dict[str, str], missing_as_zero: bool) -> Sheet:
    header = [*PLAIN, *(called[name] for name in grades.assignments), "total", "out_of"]
    most = number(sum(grades.assignments.values()))
    rows = [
        [
            *(harmless(text) for text in (s.id, s.last_name, s.first_name, s.email)),
            *_cells(s, grades.assignments, missing_as_zero),
            number(sum(s.scores.values())),
            most,
        ]
        for s in grades.students
    ]
    return Sheet(as_csv(header, rows))


def _canvas(grades: Grades, called: dict[str, str], missing_as_zero: bool) -> Sheet:
    header = [*CANVAS, *(called[name] for name in grades.assignments)]
    most = ["    Points Possible", "", "", "", "", *map(number, grades.assignments.values())]
    rows = [
        [
            harmless(_last_first(s)),
            s.lms_user_id,
            "",
            s.id,
            "",
            *_cells(s, grades.assignments, missing_as_zero),
        ]
        for s in grades.students
    ]
    note = "Canvas recognises students by ID or SIS Login ID. Surer is --template, with the gradebook that Canvas exports."
    return Sheet(as_csv(header, [most, *rows]), [note])


def _last_first(student: Student) -> str:
    return ", ".join(filter(None, (student.last_name, student.first_name))) or student.id


def _moodle(grades: Grades, called: dict[str, str], missing_as_zero: bool) -> Sheet:
    header = [*MOODLE, *(called[name] for name in grades.assignments)]
    rows = [
        [
            *(harmless(text) for text in (s.first_name, s.last_name)),
            *(s.lms_user_id, s.email),
            *_cells(s, grades.assignments, missing_as_zero),
        ]
        for s in grades.students
    ]
    nobody = [s.id for s in grades.students if not s.email and not s.lms_user_id]
    notes = (
        [f"Without an address and an ID number, so Moodle cannot know them: {_some(nobody)}."]
        if nobody
        else []
    )
    return Sheet(as_csv(header, rows), notes)


def _read_template(path: Path, form: str) -> Table:
    needed = {"canvas": {"student", "id"}, "moodle": {"email address"}}[form]
    try:
        return read_table(path, lambda names: names >= needed)
    except CourseError as error:
        if "columns that are known" in str(error):
            raise CourseError(
                f"{path.name} is no gradebook exported by {form.title()}: it needs the columns "
                f"{' and '.join(sorted(needed))}."
            ) from None
        raise


def _filled(table: Table, form: str, grades: Grades, called: dict[str, str], missing_as_zero: bool) -> Sheet:
    """The template's students and identifying columns, with one column for each assignment."""
    names = [name.casefold() for name in table.header]
    kept = [i for i, name in enumerate(names) if name in WHO[form]]
    columns = {name: _column(table, called[name]) for name in grades.assignments}
    notes = _other_points(table, columns, grades) if form == "canvas" else []
    header = [table.header[i] for i in kept]
    header += [table.header[at] if at is not None else called[name] for name, at in columns.items()]
    rows, met, unknown, excused = [], set(), [], []
    for line, cells in table.rows:
        before = {name: cells[at].strip() if at is not None else "" for name, at in columns.items()}
        who = [harmless(cells[i]) if names[i] in NAMES else cells[i] for i in kept]
        student = None
        if _is_student(names, cells, form):
            student = _find(names, cells, form, grades, f"{table.name}, line {line}")
            if student is None:
                unknown.append(" ".join(cells[i].strip() for i in kept[:2]))
        if student is None:
            rows.append([*who, *_not_a_student(names, cells, form, before, grades)])
            continue
        met.add(student.id)
        values = _cells(student, grades.assignments, False)
        for i, name in enumerate(grades.assignments):
            if before[name].upper() == EXCUSED:
                values[i] = before[name]
                excused.append(student.id)
            elif not values[i]:
                values[i] = before[name] or ("0" if missing_as_zero else "")
        rows.append([*who, *values])
    if not met:
        raise CourseError(
            f"{table.name} and the gradebook have no student in common, so nothing was written."
        )
    if form == "canvas" and not any(_points_row(names, cells) for _, cells in table.rows):
        points = [number(value) for value in grades.assignments.values()]
        rows.insert(0, [("    Points Possible" if names[i] == "student" else "") for i in kept] + points)
    absent = [student.id for student in grades.students if student.id not in met and student.scores]
    for sentence, people in (
        ("In the template, but not in the gradebook; left as they were", unknown),
        ("Graded, but not in the template, so their grades are not in the file", absent),
        ("Excused on Canvas, and left so", excused),
    ):
        if people:
            notes.append(f"{sentence}: {_some(people)}.")
    return Sheet(as_csv(header, rows, table.delimiter, table.marked), notes)


def _column(table: Table, wanted: str) -> int | None:
    """The column of an assignment: its name alone, Canvas's "Name (id)" or Moodle's "Assignment: Name (Real)"."""
    found = [i for i, name in enumerate(table.header) if wanted.casefold() in _plain_names(name)]
    if len(found) > 1:
        same = ", ".join(repr(table.header[i]) for i in found)
        raise CourseError(
            f"{table.name} has several columns for {wanted!r}: {same}. Delete all but one of them."
        )
    return found[0] if found else None


def _plain_names(header: str) -> set[str]:
    name = header.strip().casefold()
    bare = re.sub(r"\s*\((\d+|real)\)$", "", name)
    return {name, bare, bare.removeprefix("assignment:").strip()}


def _points_row(names: list[str], cells: tuple[str, ...]) -> bool:
    return cells[names.index("student")].strip().startswith("Points Possible")


def _is_student(names: list[str], cells: tuple[str, ...], form: str) -> bool:
    if form == "canvas" and _points_row(names, cells):
        return False
    return any(cells[names.index(name)].strip() for name in MATCH[form] if name in names)


def _not_a_student(
    names: list[str], cells: tuple[str, ...], form: str, before: dict[str, str], grades: Grades
) -> list[str]:
    """The cells of Canvas's line of points (filled in where it is empty), and of lines that are left as they are."""
    if form == "canvas" and _points_row(names, cells):
        return [before[name] or number(most) for name, most in grades.assignments.items()]
    return list(before.values())


def _other_points(table: Table, columns: dict[str, int | None], grades: Grades) -> list[str]:
    """Where Canvas has other points for an assignment than the gradebook."""
    names = [name.casefold() for name in table.header]
    notes = []
    for _, cells in table.rows:
        for name, at in columns.items() if _points_row(names, cells) else ():
            most = cells[at].strip() if at is not None else ""
            if (
                most
                and most != number(grades.assignments[name])
                and _as_number(most) != grades.assignments[name]
            ):
                notes.append(
                    f"Canvas has {most} points for {table.header[at or 0]!r}, the gradebook "
                    f"{number(grades.assignments[name])}. The scores are written as the gradebook has them."
                )
    return notes


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _find(names: list[str], cells: tuple[str, ...], form: str, grades: Grades, where: str) -> Student | None:
    """The student of a line, by every column that identifies somebody.

    Raises:
        CourseError: two columns name two students.
    """
    ids = {student.id.casefold(): student for student in grades.students}
    numbers = {student.lms_user_id: student for student in grades.students if student.lms_user_id}
    emails = {student.email.casefold(): student for student in grades.students if student.email}
    found: dict[str, Student] = {}
    for column in MATCH[form]:
        text = cells[names.index(column)].strip() if column in names else ""
        match = ids.get(text.casefold())
        if match is None and column in ("id", "id number"):
            match = numbers.get(text)
        if match is None and column == "email address":
            match = emails.get(text.casefold())
        if text and match is not None:
            found[match.id] = match
    if len(found) > 1:
        raise CourseError(
            f"{where}: this line fits two students of the gradebook, {' and '.join(sorted(found))}."
        )
    return next(iter(found.values()), None)
