"""Students from a CSV file into the gradebook: nbgrader's own columns, Canvas's gradebook, Moodle's participants."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autograde.classroom.book import opened
from autograde.classroom.folder import open_class
from autograde.classroom.tables import FORMULA, Table, read_table
from autograde.course import CourseError

FIELDS = ("first_name", "last_name", "email", "lms_user_id")
UNSAFE = re.compile(r'[/\\:*?"<>|\[\],{}+\x00-\x1f\x7f]')
"""In folder names, in nbgrader's search patterns, in its CSV export, or in its exchange these have a meaning."""
LONGEST = 100
SHOWN = 20


@dataclass(frozen=True)
class Entry:
    """One student, as a file or the gradebook has them; what is empty is not known.

    Attributes:
        id: nbgrader's id of the student, which is the name of a folder in ``submitted/``.
        lms_user_id: the number by which the learning platform knows them: Canvas's ID, Moodle's ID number.
        line: in the file.
    """

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_user_id: str = ""
    line: int = 0


@dataclass
class Roster:
    """What came of a roster file: ids by what happened to them.

    Attributes:
        kind: "nbgrader", "Canvas" or "Moodle".
        column: the column that the ids were taken from.
        skipped: lines that hold no student, with the reason.
    """

    kind: str
    column: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """How one program names its columns, in lower case; the first of ``ids`` that is there is taken."""

    name: str
    needs: tuple[str, ...]
    ids: tuple[str, ...]


KINDS = (
    Kind("Canvas", ("student", "id"), ("sis login id", "sis user id", "id")),
    Kind("Moodle", ("first name", "email address"), ("username", "id number", "email address")),
    Kind("nbgrader", ("id",), ("id",)),
)
COLUMNS = (
    "nbgrader: id (and first_name, last_name, email). Canvas: Student, ID, SIS Login ID. Moodle: First name, Last name "
    "(or Surname), Email address, and Username or ID number"
)


def import_roster(path: Path, folder: Path, id_column: str | None = None) -> Roster:
    """Add the students of a file to a class's gradebook, and bring those that are there up to date.

    Nobody is removed, and what the file leaves empty is not deleted.

    Args:
        path: the CSV file.
        folder: the class.
        id_column: the column with the students' ids; otherwise the usual one of the file's kind.

    Raises:
        CourseError: something in the file is wrong; the message has one line for each thing. Nothing is written then.
    """
    made = open_class(folder)
    entries, roster = read_roster(path, id_column)
    from nbgrader.api import Student

    with opened(made) as book:
        there = {student.id: student for student in book.students}
        _same_but_for_case(entries, there, path.name)
        for entry in entries:
            known = {name: getattr(entry, name) for name in FIELDS if getattr(entry, name)}
            student = there.get(entry.id)
            if student is None:
                book.db.add(Student(id=entry.id, **known))
                roster.added.append(entry.id)
            elif any((getattr(student, name) or "") != value for name, value in known.items()):
                for name, value in known.items():
                    setattr(student, name, value)
                roster.changed.append(entry.id)
            else:
                roster.unchanged.append(entry.id)
        book.db.commit()  # all of them, or none
    roster.absent = sorted(there.keys() - {entry.id for entry in entries})
    return roster


def _same_but_for_case(entries: list[Entry], there: Iterable[str], file: str) -> None:
    by_case = {name.casefold(): name for name in there}
    wrong = [
        f"{file}, line {entry.line}: the gradebook has {by_case[entry.id.casefold()]!r}, which is {entry.id!r} but for "
        "small and capital letters. Write it the same way."
        for entry in entries
        if by_case.get(entry.id.casefold(), entry.id) != entry.id
    ]
    _stop(wrong)


def _stop(wrong: list[str]) -> None:
    if wrong:
        more = [f"... and {len(wrong) - SHOWN} more."] if len(wrong) > SHOWN else []
        raise CourseError("\n".join([*wrong[:SHOWN], *more, "Nothing was written."]))


def kind_of(header: Iterable[str]) -> Kind | None:
    """Which program wrote a file with these columns (in lower case)."""
    names = set(header)
    return next((kind for kind in KINDS if names.issuperset(kind.needs)), None)


def read_roster(path: Path, id_column: str | None = None) -> tuple[list[Entry], Roster]:
    """The students in a file, and what kind of file it is.

    Raises:
        CourseError: with one line for each thing that is wrong, and its line in the file.
    """
    try:
        table = read_table(path, lambda names: kind_of(names) is not None)
    except CourseError as error:
        if "columns that are known" in str(error):
            raise CourseError(f"{error}\nKnown are: {COLUMNS}.") from None
        raise
    names = [name.casefold() for name in table.header]
    kind = kind_of(names)
    assert kind is not None
    column = _id_column(table, names, kind, id_column)
    roster = Roster(kind.name, table.header[column])
    entries = []
    for line, cells in table.rows:
        row = {name: cells[i].strip() for i, name in reversed(list(enumerate(names)))}
        why = _no_student(row) if kind.name == "Canvas" else None
        if why is None:
            entries.append(_entry(kind, row, cells[column].strip(), line))
        elif why:
            roster.skipped.append(f"{path.name}, line {line}: {why}")
    wrong = _complaints(entries, path.name, table.header[column])
    _stop(wrong)
    if not entries:
        raise CourseError(f"{path.name} has a header, but no students.")
    return entries, roster


def _id_column(table: Table, names: list[str], kind: Kind, wanted: str | None) -> int:
    if wanted is not None:
        if wanted.casefold() not in names:
            raise CourseError(f"{table.name} has no column {wanted!r}. There are: {', '.join(table.header)}.")
        return names.index(wanted.casefold())
    there = [names.index(name) for name in kind.ids if name in names]
    filled = [i for i in there if any(cells[i].strip() for _, cells in table.rows)]
    return (filled or there)[0]


def _no_student(row: dict[str, str]) -> str | None:
    """Why a line of Canvas's holds no student; an empty reason is not worth saying, None means that it holds one."""
    name = row["student"]
    if name.startswith("Points Possible"):
        return ""
    if not name and not row["id"]:
        return ""  # Canvas's line about posting policies
    if name == "Student, Test" and not row.get("sis user id", ""):
        return "Canvas's test student is left out."
    return None


def _entry(kind: Kind, row: dict[str, str], name: str, line: int) -> Entry:
    if kind.name == "Canvas":
        last, comma, first = row["student"].partition(",")
        login = row.get("sis login id", "")
        return Entry(name, first.strip(), last.strip(), login if "@" in login else "", row["id"], line)
    if kind.name == "Moodle":
        last = row.get("last name") or row.get("surname", "")
        return Entry(name, row["first name"], last, row["email address"], row.get("id number", ""), line)
    return Entry(name, line=line, **{key: row.get(key, "") for key in FIELDS})


def unsafe(name: str) -> str | None:
    """Why an id cannot be the name of a student's folder; None if it can."""
    if not name:
        return "the id is empty"
    if name.startswith((".", "-")) or name.endswith((".", " ")):
        return f"the id {name!r} begins or ends with a character that folder names must not have there"
    found = UNSAFE.search(name)
    if found:
        return f"the id {name!r} contains {found[0]!r}, which a folder's name must not have"
    if name.startswith(FORMULA):
        return f"the id {name!r} looks like a formula to a spreadsheet"
    if len(name) > LONGEST:
        return f"the id {name[:20]!r}... has more than {LONGEST} characters"
    return None


def _complaints(entries: list[Entry], file: str, column: str) -> list[str]:
    wrong: list[str] = []
    lines: dict[str, int] = {}
    for entry in entries:
        where = f"{file}, line {entry.line}"
        reason = unsafe(entry.id)
        if reason:
            wrong.append(f"{where}, column {column}: {reason}.")
            continue
        key = unicodedata.normalize("NFC", entry.id).casefold()
        if key in lines:
            wrong.append(
                f"{where}, column {column}: the id {entry.id!r} stands in line {lines[key]} already."
            )
        lines.setdefault(key, entry.line)
        if entry.email.startswith(FORMULA):
            wrong.append(f"{where}: the address {entry.email!r} looks like a formula to a spreadsheet.")
        for name in FIELDS:
            if len(getattr(entry, name)) > 128:
                wrong.append(
                    f"{where}: {name} has more than 128 characters, the most that the gradebook holds."
                )
    return wrong
