"""A class's gradebook: nbgrader's own database, opened as the class's configuration says."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from autograde.classroom.folder import ClassFolder, course_directory, in_folder
from autograde.course import CourseError


@contextlib.contextmanager
def opened(folder: ClassFolder) -> Iterator[Any]:
    """nbgrader's ``Gradebook`` of a class.

    Raises:
        CourseError: the database cannot be opened, or is locked by somebody else.
    """
    from nbgrader.api import Gradebook
    from sqlalchemy.exc import DBAPIError

    where = course_directory(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's, about nbgrader's own sessions
        try:
            with in_folder(folder.root):
                book = Gradebook(where.db_url, where.course_id)
            try:
                yield book
            finally:
                book.close()
        except ModuleNotFoundError as error:
            raise CourseError(
                f"The gradebook's database needs the Python module {error.name!r}: install its driver."
            ) from None
        except DBAPIError as error:
            raise CourseError(f"The gradebook of {folder.root.name} cannot be used: {error.orig}.") from None


@dataclass(frozen=True)
class Recorded:
    """What the gradebook knows of one assignment.

    Attributes:
        points: by notebook and graded cell: the points that there are.
        solutions, cells: by notebook: the names of its solution cells, and of all cells that nbgrader knows.
        submissions: how many have been graded, or begun.
    """

    submissions: int = 0
    points: dict[str, dict[str, float]] = field(default_factory=dict)
    solutions: dict[str, set[str]] = field(default_factory=dict)
    cells: dict[str, set[str]] = field(default_factory=dict)


def recorded(book: Any, assignment: str) -> Recorded | None:
    """What the gradebook knows of an assignment; None if it has no such assignment."""
    from nbgrader.api import MissingEntry

    try:
        entry = book.find_assignment(assignment)
    except MissingEntry:
        return None
    found = Recorded(len(entry.submissions))
    for notebook in entry.notebooks:
        found.points[notebook.name] = {cell.name: float(cell.max_score) for cell in notebook.grade_cells}
        found.solutions[notebook.name] = {cell.name for cell in notebook.solution_cells}
        found.cells[notebook.name] = {cell.name for cell in notebook.source_cells}
    return found
