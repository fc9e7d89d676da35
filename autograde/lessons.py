"""The built lessons: what stands in ``lessons/``, as the course map and the graders need it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograde.course import CourseError, lesson_ids

METADATA = "rederive"
"""The key of our own metadata in a notebook."""


@dataclass(frozen=True)
class LessonInfo:
    """One lesson: its name ``topic/notebook``, its title, a learner's minutes and its exercises with their points."""

    name: str
    title: str
    minutes: int
    exercises: dict[str, int]

    @property
    def topic(self) -> str:
        """The topic's short name."""
        return self.name.split("/")[0]


def digest(notebook: NotebookNode) -> str:
    """Changes when anybody changes a cell; metadata and outputs do not count."""
    text = "\0".join(f"{cell.cell_type}\0{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def edited(path: Path) -> bool:
    """Whether somebody has changed a cell of this notebook since it was built."""
    try:
        notebook = nbformat.read(path, as_version=4)
        return bool(digest(notebook) != notebook.metadata[METADATA]["digest"])
    except Exception:  # no notebook, or none of ours
        return True  # not ours to judge, so not ours to overwrite


def outdated(root: Path, work: Path, name: str) -> bool:
    """Whether the learner's copy of a lesson comes from an older release than the one in ``lessons/``."""
    try:
        copy = nbformat.read(work / f"{name}.ipynb", as_version=4)
        copied_from = copy.metadata[METADATA]["digest"]
    except Exception:  # there is none, or it is not readable: nothing to offer
        return False
    return bool(copied_from != read_lesson(root, name).metadata[METADATA]["digest"])


def working_copy(text: str) -> str:
    """A notebook with the description of the language that this machine's kernel gives.

    JupyterLab completes that description when a kernel starts, and a notebook that was only looked at would count as
    changed. A text that is no notebook is returned as it is.
    """
    from ipykernel.ipkernel import IPythonKernel

    try:
        notebook = nbformat.reads(text, as_version=4)
    except (ValueError, nbformat.ValidationError):
        return text
    notebook.metadata["language_info"] = IPythonKernel.language_info
    return str(nbformat.writes(notebook, version=4)).rstrip("\n") + "\n"


def lesson_info(name: str, notebook: NotebookNode) -> LessonInfo:
    """Read a built lesson: the first heading, the stated minutes, the check cells."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    minutes = re.search(r"(\d+) minutes", text)
    points = {
        cell.metadata.nbgrader.grade_id.removeprefix("check_"): int(cell.metadata.nbgrader.points)
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    }
    return LessonInfo(
        name, heading[1].strip() if heading else name, int(minutes[1]) if minutes else 0, points
    )


def read_lesson(root: Path, name: str) -> NotebookNode:
    """The released notebook of a lesson.

    Raises:
        CourseError: there is none, or it cannot be read.
    """
    path = root / "lessons" / f"{name}.ipynb"
    try:
        found = path.stat()
        return deepcopy(_read(path, found.st_mtime_ns, found.st_size))
    except FileNotFoundError:
        raise CourseError(f"There is no lesson {name!r} in {path.parent.parent.name}/.") from None
    except (OSError, ValueError) as error:
        raise CourseError(f"The lesson {name!r} cannot be read: {error}") from None


@lru_cache(maxsize=32)
def _read(path: Path, changed: int, size: int) -> NotebookNode:
    """A notebook file as it was when it had this time and size; graders read the same ones again and again."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def all_lessons(root: Path) -> list[LessonInfo]:
    """Every lesson in ``lessons/``, by name."""
    return [lesson_info(name, read_lesson(root, name)) for name in lesson_ids(root / "lessons", "*.ipynb")]


def of_topic(lessons: Iterable[LessonInfo], topic: str) -> list[LessonInfo]:
    """The lessons of one topic, in order."""
    return sorted((lesson for lesson in lessons if lesson.topic == topic), key=lambda lesson: lesson.name)
