"""A lesson of a class, as the author of a hostile submission knows it: the right answers, and known wrong ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode

from autograde.classroom.demo import _earned, _printable, answer_cells
from autograde.classroom.folder import ClassFolder
from autograde.course import CourseError, exercises
from autograde.exercise import Exercise
from autograde.grade import grade
from autograde.lessons import lesson_info
from autograde.notebook import GRADED_SEED
from autograde.observe import LocalObserver

CHECK = "check_"


@dataclass(frozen=True)
class Wrong:
    """A known wrong answer to one exercise, as the text of its cell; ``earned``: the points that it gets honestly."""

    exercise: str
    text: str
    earned: float


@dataclass(frozen=True, eq=False)
class Scene:
    """What a submission is made from.

    Attributes:
        lesson: ``topic/notebook``.
        source: the notebook with all right answers, as JSON.
        released: the notebook as it is handed out, as JSON.
        worth: the points in this class, by exercise in the order of the lesson.
        wrong: the answer that hostile submissions hand in and want points for; its exercise is the target.
        costly: an answer that is right but for what it costs; None where no exercise counts anything.
    """

    lesson: str
    source: str
    released: str
    worth: Mapping[str, float]
    wrong: Wrong
    costly: Wrong | None
    _measured: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        """The series."""
        return self.lesson.split("/")[0]

    @property
    def file(self) -> str:
        """The notebook's file name."""
        return f"{self.lesson.split('/')[1]}.ipynb"

    @property
    def target(self) -> str:
        """The exercise that is answered wrongly."""
        return self.wrong.exercise

    @property
    def total(self) -> float:
        """The points that there are."""
        return sum(self.worth.values())

    @cached_property
    def right(self) -> dict[str, str]:
        """The right answers: the texts of the exercises' cells."""
        cells = {cell.id: cell.source for cell in nbformat.reads(self.source, as_version=4).cells}
        return {name: cells[name] for name in self.worth}

    def before(self, name: str) -> float:
        """The points of the exercises that come before this one."""
        names = list(self.worth)
        return sum(self.worth[other] for other in names[: names.index(name)])

    def notebook(self, answers: Mapping[str, str | None]) -> NotebookNode:
        """The released notebook, filled in: right answers, but for these texts; None leaves the cell as it was handed out."""
        made: NotebookNode = nbformat.reads(self.released, as_version=4)
        answer_cells(made, nbformat.reads(self.source, as_version=4), dict(answers))
        return made

    def measured(self, text: str, name: str = "") -> float:
        """What an answer earns that ``text`` makes out of the right one, measured on the function itself.

        Only for harmless texts: this runs them here. In it the exercise's name stands for the course's reference.
        """
        name = name or self.target
        if (text, name) not in self._measured:
            exercise = exercises(self.topic)[name]
            space: dict[str, Any] = {"torch": torch, "__name__": "answer", name: exercise.reference}
            exec(text, space)
            look = LocalObserver(space[name], quiet=True)
            score = grade(exercise, look, graded=True, seed=GRADED_SEED).score
            self._measured[text, name] = score * self.worth[name] / exercise.points
        return self._measured[text, name]


def scene_of(made: ClassFolder, notebook: str = "") -> Scene:
    """The scene of one notebook of a class: of its first, unless ``notebook`` names another one.

    Raises:
        CourseError: the notebook is not there, or has no exercise with a known wrong answer that can be written down.
    """
    path = (
        made.source / f"{notebook}.ipynb"
        if notebook
        else min(made.source.glob("*.ipynb"), default=made.source)
    )
    if not path.is_file():
        raise CourseError(f"{made.root.name} has no notebook {notebook or made.topic} in source/.")
    source = path.read_text(encoding="utf-8")
    lesson = f"{made.topic}/{path.stem}"
    points = lesson_info(lesson, nbformat.reads(source, as_version=4)).exercises
    bank = {name: exercises(made.topic)[name] for name in points}
    worth = {name: float(value) for name, value in points.items()}
    return Scene(
        lesson,
        source,
        (made.release / path.name).read_text(encoding="utf-8"),
        worth,
        _clearly_wrong(bank, worth, lesson),
        _costly(bank, worth),
    )


def _known_wrong(exercise: Exercise, worth: float) -> list[Wrong]:
    scale = worth / exercise.points
    return [
        Wrong(exercise.name, text, _earned(exercise, mistake) * scale)
        for mistake, text in _printable(exercise)
    ]


def _clearly_wrong(bank: dict[str, Exercise], worth: dict[str, float], lesson: str) -> Wrong:
    """A wrong answer that loses at least half of its points, to an exercise that has others before and behind it."""
    names = list(bank)[1:-1] or list(bank)
    known = [wrong for name in names for wrong in _known_wrong(bank[name], worth[name])]
    if not known:
        raise CourseError(f"{lesson} has no exercise with a known wrong answer that a cell can hold.")
    partly = [wrong for wrong in known if 0 < wrong.earned <= worth[wrong.exercise] / 2]
    return partly[0] if partly else min(known, key=lambda wrong: wrong.earned / worth[wrong.exercise])


def _costly(bank: dict[str, Exercise], worth: dict[str, float]) -> Wrong | None:
    """A known wrong answer that fails in nothing but in a requirement that counts something."""
    for name, exercise in bank.items():
        counted = sum(requirement.points for requirement in exercise.requirements if requirement.bounds)
        values = (exercise.points - counted) * worth[name] / exercise.points
        for wrong in _known_wrong(exercise, worth[name]) if counted else ():
            if wrong.earned == values:
                return wrong
    return None


def aimed_at_cost(scene: Scene) -> Scene | None:
    """The same lesson with the costly answer as the one that wants points; None where nothing is counted."""
    return None if scene.costly is None else dataclasses.replace(scene, wrong=scene.costly)
