"""What a class's folder keeps of every grading, beside nbgrader's gradebook: ``verdicts/ASSIGNMENT/STUDENT.json``.

The gradebook has room for points only. A record has the verdict of each exercise, what is said about it, the seed that its
cases were drawn with, and whether the gradebook has the points already, so that a grading that was killed can go on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograde.classroom.folder import ClassFolder
from autograde.course import CourseError
from autograde.progress import write_atomically

FOLDER = "verdicts"
NUMBERS = ".numbers"
LOG = "grading.log"
Record = dict[str, Any]


class Records:
    """The records of one assignment."""

    def __init__(self, made: ClassFolder) -> None:
        self.folder = made.root / FOLDER / made.topic

    def path(self, student: str) -> Path:
        """Where a student's record is."""
        return self.folder / f"{student}.json"

    def read(self, student: str) -> Record | None:
        """A student's record; None if there is none, or it is not readable."""
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(self.path(student).read_text(encoding="utf-8"))
            if isinstance(record, dict) and isinstance(record.get("notebooks"), dict):
                return record
        return None

    def write(self, student: str, record: Record) -> None:
        """Keep a record, in the place of an earlier one."""
        write_atomically(self.path(student), json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def all(self) -> dict[str, Record]:
        """Every record, by student."""
        names = sorted(path.stem for path in self.folder.glob("*.json"))
        found = {name: self.read(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def numbers(self, students: Iterable[str]) -> dict[str, int]:
        """A number for each student, which stays the same: logs name numbers only."""
        path = self.folder / NUMBERS
        known: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            known = {str(k): int(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
        new = [student for student in students if student not in known]
        if new:
            begin = max(known.values(), default=0) + 1
            known |= {student: number for number, student in enumerate(new, begin)}
            write_atomically(path, json.dumps(known, indent=1) + "\n")
        return known

    def log(self, line: str) -> None:
        """Add a line to the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {line}\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process grades an assignment.

        Raises:
            CourseError: another one does.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                _lock(file.fileno())
            except OSError:
                raise CourseError(
                    f"{self.folder.name} is being graded by another process. Wait until it is done; nothing was changed."
                ) from None
            yield


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
