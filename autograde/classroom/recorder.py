"""Writing what came of a submission: the record, the notebook with outputs and reports, the gradebook. One process does it.

The order makes it safe to be killed anywhere: first the record and the notebook, then the gradebook in one transaction,
then a mark in the record. What has no mark is written again, with the same result.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from autograde.classroom.choice import CHECK
from autograde.classroom.folder import ClassFolder, course_directory, in_folder
from autograde.classroom.handed_in import HandedIn
from autograde.classroom.records import Record, Records
from autograde.course import CourseError

PATIENCE = 120.0
"""Seconds to wait for a gradebook that somebody else has locked."""
PASSING = (
    "locked",
    "timeout",
    "deadlock",
    "closed the connection",
    "connection already closed",
    "terminating connection",
)
"""Words in a database's errors that say that the next try may succeed."""
READ_ONLY = 0o444
T = TypeVar("T")


class Recorder:
    """The only writer of an assignment's gradebook while a class is graded. Use it as a context manager."""

    def __init__(
        self, made: ClassFolder, say: Callable[[str], None] = lambda line: None, keep_old: bool = False
    ) -> None:
        self._made = made
        self._keep_old = keep_old
        self._say = say
        self.records = Records(made)
        self._where = course_directory(made)
        self._config = made.settings()

    def __enter__(self) -> Recorder:
        from nbgrader.api import Gradebook

        with in_folder(self._made.root):
            self._book = self._patiently(lambda: Gradebook(self._where.db_url, self._where.course_id))
        return self

    def __exit__(self, *_: object) -> None:
        self._book.close()

    def graded(self) -> set[str]:
        """The students whose submission the gradebook has."""
        return self._patiently(self._graded)

    def _graded(self) -> set[str]:
        book = self._book
        try:
            return {entry.student_id for entry in book.assignment_submissions(self._made.topic)}
        finally:
            book.db.rollback()

    def write(self, student: str, record: Record, texts: Mapping[str, str], handed_in: HandedIn) -> str:
        """Keep everything that came of a submission.

        Returns:
            Why the old grades were kept instead; empty when they were not.

        Raises:
            CourseError: the gradebook stayed locked.
        """
        unusable = _unusable(record) if self._keep_old and student in self.graded() else ""
        if unusable:
            return unusable
        self.records.write(student, record | {"recorded": False})
        self._files(student, texts, handed_in)
        self._gradebook(student, record)
        self.records.write(student, record | {"recorded": True})
        return ""

    def _files(self, student: str, texts: Mapping[str, str], handed_in: HandedIn) -> None:
        place = self._made.autograded(student)
        fresh = place.with_name(f".{place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        stamp = _stamp(self._made.submitted(student))
        contents: dict[str, bytes] = {
            f"{name}.ipynb": text.encode("utf-8", "backslashreplace") for name, text in texts.items()
        }
        contents |= {name: data for name, data in handed_in.files.items() if name not in contents}
        contents |= {"timestamp.txt": stamp.encode()} if stamp else {}
        for name, data in contents.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(READ_ONLY)
        if place.exists():
            shutil.rmtree(place)
        fresh.rename(place)

    def _gradebook(self, student: str, record: Record) -> None:
        self._patiently(lambda: self._transaction(student, record))

    def _transaction(self, student: str, record: Record) -> None:
        book, assignment = self._book, self._made.topic
        try:
            book.update_or_create_student(student)
            stamp = _as_time(_stamp(self._made.submitted(student)))
            more = {} if stamp is None else {"timestamp": stamp}
            submission = book.update_or_create_submission(assignment, student, **more)
            late = submission.total_seconds_late > 0
            for notebook in submission.notebooks:
                entry = record["notebooks"].get(notebook.name)
                for grade in notebook.grades:
                    _set_grade(grade, entry)
                for comment in notebook.comments:
                    unchanged = entry is not None and comment.name in entry.get("unchanged", ())
                    comment.auto_comment = "No response." if unchanged else None
                if late:
                    self._penalty(submission, notebook)
            book.db.commit()
        except BaseException:
            book.db.rollback()
            raise
        finally:
            book.db.expire_all()

    def _penalty(self, submission: Any, notebook: Any) -> None:
        """What nbgrader's AssignLatePenalties does, with the class's own plugin; a penalty given by hand stays."""
        from nbgrader.preprocessors import AssignLatePenalties

        step = AssignLatePenalties(config=self._config)
        step.init_plugin()
        self._book.db.flush()
        self._book.db.refresh(notebook)
        penalty = step.plugin_inst.late_submission_penalty(
            submission.student.id, notebook.score, submission.total_seconds_late
        )
        if penalty is not None:
            notebook.late_submission_penalty = step._check_late_penalty(notebook, penalty)

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do it again while the database is locked."""
        from nbgrader.api import InvalidEntry
        from sqlalchemy.exc import OperationalError

        deadline, told = time.monotonic() + PATIENCE, False
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # SQLAlchemy's, about nbgrader's own sessions
                    return work()
            except (OperationalError, InvalidEntry) as error:  # nbgrader turns the first into the second
                if not any(word in str(error) for word in PASSING):
                    why = getattr(error, "orig", None) or str(error).splitlines()[0]
                    raise CourseError(f"The gradebook cannot be written: {why}.") from None
                if time.monotonic() > deadline:
                    raise CourseError(
                        "The gradebook is locked by another program, or cannot be reached. Mend that, then run the same command "
                        "again: it goes on where it stopped."
                    ) from None
                if not told:
                    told = True
                    self._say(
                        "The gradebook is locked by another program, or cannot be reached; waiting for it."
                    )
                time.sleep(0.5)


def _set_grade(grade: Any, entry: Record | None) -> None:
    set_grade(grade, entry["exercises"].get(grade.name.removeprefix(CHECK)) if entry is not None else None)


def set_grade(grade: Any, exercise: Record | None) -> None:
    """Write an exercise's points into the gradebook.

    Where grading itself failed, what was there stays, or nothing is written: our mistake is never a student's zero. nbgrader
    then lists the exercise as one that needs to be graded by hand.
    """
    failed = exercise is not None and exercise["verdict"] == "grader-error"
    if not failed:
        grade.auto_score = 0.0 if exercise is None else float(exercise["score"])
    grade.needs_manual_grade = failed or grade.manual_score is not None


def _unusable(record: Record) -> str:
    """Why a submission could not be graded as it should; empty when it could."""
    entries = record["notebooks"].values()
    bad = next((e for e in entries if e["verdict"] in ("malformed", "grader-error")), None)
    return "" if bad is None else str(bad["message"])


def _stamp(folder: Path) -> str:
    """The text of ``timestamp.txt``, if it is a small regular file."""
    path = folder / "timestamp.txt"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not path.is_symlink() and path.is_file() and path.stat().st_size < 200:
            return path.read_text(encoding="utf-8").strip()
    return ""


def _as_time(text: str) -> Any:
    from nbgrader.utils import parse_utc

    with contextlib.suppress(ValueError, OverflowError, TypeError):
        return parse_utc(text) if text else None
    return None
