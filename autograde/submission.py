"""A notebook that somebody hands in: which lesson it is, and in which order its cells are run and looked at.

The order of checks and what they check come from the released lesson, never from the notebook: a check cell that was
deleted, duplicated, edited or tagged otherwise changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograde.course import lesson_ids
from autograde.lessons import read_lesson
from autograde.observe import plain_text
from autograde.version import __version__

MAX_BYTES = 50_000_000


class CannotGrade(Exception):
    """The file cannot be graded; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Step:
    """Run a cell, or (``check``) look at the function of an exercise; ``cell`` is the cell's index in the notebook."""

    cell: int
    source: str = ""
    exercise: str | None = None
    check: bool = False


@dataclass(frozen=True)
class Submission:
    """A notebook that was recognised as a lesson.

    Attributes:
        lesson: ``topic/notebook``.
        steps: what to do, in order.
        notes: what was repaired on the way, for the person who grades.
    """

    lesson: str
    notebook: NotebookNode
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        """The topic's short name."""
        return self.lesson.split("/")[0]


def read_notebook(path: Path) -> NotebookNode:
    """A notebook from a file.

    Raises:
        CannotGrade: there is no such file, it is too large, or it is no notebook.
    """
    try:
        there, regular = path.exists(), path.is_file()
    except OSError as error:
        raise CannotGrade(f"{path.name[:60]} cannot be read: {error.strerror}.") from None
    if not there:
        raise CannotGrade(f"There is no file {path}.")
    if not regular:
        raise CannotGrade(f"{path} is not a file. Name one notebook, such as work/rnn/01_vanilla_rnn.ipynb.")
    if path.stat().st_size > MAX_BYTES:
        raise CannotGrade(
            f"{path.name} has more than {MAX_BYTES // 1_000_000} MB. Clear its outputs and save it again."
        )
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise CannotGrade(
            f"{path.name} is no notebook: it is not valid JSON. Is the file complete?"
        ) from None
    except OSError as error:
        raise CannotGrade(f"{path.name} cannot be read: {error.strerror}.") from None
    return as_notebook(data, path.name)


def as_notebook(data: Any, name: str) -> NotebookNode:
    """A notebook from parsed JSON; anything that is not needed to grade it may be broken.

    Raises:
        CannotGrade: it has no cells.
    """
    try:
        notebook: NotebookNode = nbformat.from_dict(data)
        if int(notebook.get("nbformat", 0)) != 4:
            notebook = nbformat.convert(notebook, 4)
        for cell in _listed(notebook.cells):
            source = cell.get("source", "")
            cell["source"] = plain_text("".join(source) if isinstance(source, list) else str(source))
            cell["metadata"] = (
                cell.get("metadata") if isinstance(cell.get("metadata"), dict) else NotebookNode()
            )
            if not isinstance(cell.get("id"), str):
                cell.pop("id", None)
            cell["cell_type"] = str(cell.get("cell_type", "raw"))
    except Exception:
        raise CannotGrade(f"{name} is no notebook: it has no list of cells.") from None
    return notebook


def _listed(cells: Any) -> list[NotebookNode]:
    if not isinstance(cells, list):
        raise TypeError
    return cells


def recognise(notebook: NotebookNode, path: Path, root: Path) -> str:
    """The lesson that a notebook is, by its metadata, else by its name and the names of its cells.

    Raises:
        CannotGrade: it is none of our lessons.
    """
    known = lesson_ids(root / "lessons", "*.ipynb")
    metadata = notebook.get("metadata")
    entry = metadata.get("rederive") if isinstance(metadata, dict) else None
    stated = entry.get("lesson") if isinstance(entry, dict) else None
    if stated in known:
        return str(stated)
    ids = {grade_id(cell) for cell in notebook.cells} - {None}
    for name in known:
        graded = {
            c.metadata.nbgrader.grade_id for c in read_lesson(root, name).cells if "nbgrader" in c.metadata
        }
        if graded and (
            len(graded & ids) >= len(graded) / 2 or (Path(name).name == path.stem and graded & ids)
        ):
            return name
    lessons = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
    raise CannotGrade(f"{path.name} is not one of this course's lessons ({lessons}).")


def grade_id(cell: NotebookNode, known: Collection[str] | None = None) -> str | None:
    """The name of a graded or solution cell: a check's own text, else nbgrader's metadata, else the cell's id.

    Args:
        known: the names that the lesson has; others do not count.
    """
    entry = cell.metadata.get("nbgrader")
    check = re.fullmatch(r"check\.(\w+)\(\w+\)", cell.source.strip())
    names = (
        f"check_{check[1]}" if check is not None else None,
        entry.get("grade_id") if isinstance(entry, dict) else None,
        cell.get("id"),
    )
    for name in names:
        if isinstance(name, str) and name.isidentifier() and (known is None or name in known):
            return name
    return None


@dataclass
class _Plan:
    """Builds the steps of a submission."""

    graded: dict[str, str]
    """By grade_id of a check cell: the exercise."""
    names: frozenset[str]
    """Of all cells that nbgrader knows."""
    solutions: frozenset[str]
    known: frozenset[str]
    demo: frozenset[str]
    """Ids of the released lesson's cells, and of its demo cells."""
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)

    def add(self, index: int, cell: NotebookNode, canonical: dict[str, str]) -> None:
        """One cell of the submission."""
        name = grade_id(cell, self.names)
        if name in self.graded:
            if name in self.checked:
                self.notes.append(f"The check cell {name} stands twice; it counts once.")
                self.steps = [s for s in self.steps if not (s.check and s.exercise == self.graded[name])]
            if cell.source.strip() != canonical[name].strip():
                self.notes.append(f"The check cell {name} was edited; the original counts.")
            self.checked.add(name)
            self.steps.append(Step(index, exercise=self.graded[name], check=True))
        elif cell.cell_type == "code" and not self._skipped(cell, name):
            exercise = name if name in self.solutions else None
            self.steps.append(Step(index, cell.source, exercise))

    def _skipped(self, cell: NotebookNode, name: str | None) -> bool:
        """Demo cells of the released lesson are skipped, and its other cells run, whatever a tag says.

        A cell that the lesson does not have (its author's own, or one of another version) is skipped on its own word.
        """
        identity = cell.get("id")
        if identity in self.known or name in self.solutions:
            return identity in self.demo
        tags = cell.metadata.get("tags")
        return isinstance(tags, list) and "demo" in tags

    def restore(self, order: list[str]) -> None:
        """Put back the checks that are missing, and move those that stand above their exercise's cell behind it."""
        for name in order:
            exercise = self.graded[name]
            if name in self.checked and not self._too_early(exercise):
                continue
            if name in self.checked:
                self.steps = [s for s in self.steps if not (s.check and s.exercise == exercise)]
                self.notes.append(f"The check cell {name} stood above its exercise; it was moved behind it.")
                self._behind(exercise)
                continue
            self.notes.append(f"The check cell {name} was missing; it was put back.")
            self._behind(exercise)

    def _too_early(self, exercise: str) -> bool:
        places = [i for i, step in enumerate(self.steps) if step.exercise == exercise and not step.check]
        looked = [i for i, step in enumerate(self.steps) if step.exercise == exercise and step.check]
        return bool(places and looked) and looked[0] < places[0]

    def _behind(self, exercise: str) -> None:
        places = [i for i, step in enumerate(self.steps) if step.exercise == exercise]
        place = places[-1] + 1 if places else len(self.steps)
        cell = self.steps[place - 1].cell if place else 0
        self.steps.insert(place, Step(cell, exercise=exercise, check=True))


def _other_version(notebook: NotebookNode) -> list[str]:
    metadata = notebook.get("metadata")
    entry = metadata.get("rederive") if isinstance(metadata, dict) else None
    version = entry.get("version") if isinstance(entry, dict) else None
    if version in (None, __version__):
        return []
    return [
        f"The notebook was made for version {str(version)[:20]} of the course; it is graded by {__version__}."
    ]


def plan(notebook: NotebookNode, path: Path, root: Path, lesson: str | None = None) -> Submission:
    """What to run and to look at, for a notebook that was handed in.

    Args:
        lesson: what it has to be; otherwise it is recognised.

    Raises:
        CannotGrade: it is none of our lessons.
    """
    lesson = lesson or recognise(notebook, path, root)
    released = read_lesson(root, lesson)
    nbgrader = [(cell, cell.metadata["nbgrader"]) for cell in released.cells if "nbgrader" in cell.metadata]
    graded = {entry.grade_id: entry.grade_id.removeprefix("check_") for _, entry in nbgrader if entry.grade}
    work = _Plan(
        graded,
        frozenset(entry.grade_id for _, entry in nbgrader),
        frozenset(entry.grade_id for _, entry in nbgrader if entry.solution),
        frozenset(cell.id for cell in released.cells),
        frozenset(cell.id for cell in released.cells if "demo" in cell.metadata.get("tags", [])),
    )
    canonical = {entry.grade_id: cell.source for cell, entry in nbgrader}
    work.notes += _other_version(notebook)
    for index, cell in enumerate(notebook.cells):
        work.add(index, cell, canonical)
    work.restore(list(graded))
    return Submission(lesson, notebook, tuple(work.steps), tuple(work.notes))
