"""Which notebooks and exercises a class does, and for how many points: ``class.toml`` in the class folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat

from autograde.build import to_text
from autograde.course import CourseError
from autograde.lessons import LessonInfo, digest, of_topic

FILE = "class.toml"
CHECK = "check_"
"""What the names of graded cells begin with; the exercise's name follows."""

HEAD = """\
# What this class does, and for how many points. After a change run, in this folder:  autograde update-class
#
# - Another number changes what an exercise is worth; partial credit stays proportional.
# - An exercise whose line is deleted, or begins with #, stays in the notebook as practice without a grade.
# - 0 points: it is still looked at and reported in the feedback, but counts nothing.
# - A notebook whose section is deleted is not handed out.
#
# Once submissions were graded, nbgrader can change points, but can neither add nor remove an exercise: give it 0 points.
"""


@dataclass(frozen=True)
class Choice:
    """What a class does: by notebook (``topic/notebook``) the points of its graded exercises by name."""

    notebooks: dict[str, dict[str, int]]

    @property
    def topics(self) -> list[str]:
        """The series from which something is handed out; each is an assignment of nbgrader's."""
        return sorted({name.split("/")[0] for name in self.notebooks})

    def of(self, topic: str) -> dict[str, dict[str, int]]:
        """The notebooks of one series, by the name without the topic."""
        split = ((name.split("/"), points) for name, points in self.notebooks.items())
        return {notebook: points for (series, notebook), points in split if series == topic}


def default_text(lessons: Iterable[LessonInfo], topics: Iterable[str]) -> str:
    """A ``class.toml`` with every exercise of these series, and its usual points."""
    known = list(lessons)
    sections = [
        f"[{lesson.name.replace('/', '.')}]  # {lesson.title}\n"
        + "".join(f"{name} = {points}\n" for name, points in lesson.exercises.items())
        for topic in topics
        for lesson in of_topic(known, topic)
    ]
    return "\n".join([HEAD, *sections])


def read_choice(path: Path, lessons: Iterable[LessonInfo]) -> Choice:
    """A class's choice.

    Raises:
        CourseError: the file is missing or no TOML, names what the course does not have, or has impossible points.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise CourseError(
            f"There is no {FILE} in {path.parent}. Copy the one of a new class (autograde new-class) there."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError(f"{FILE} is not valid TOML: {error}.") from None
    known = {lesson.name: lesson for lesson in lessons}
    chosen: dict[str, dict[str, int]] = {}
    for topic, notebooks in data.items():
        offered = [name.split("/")[1] for name in known if name.startswith(f"{topic}/")]
        if not offered:
            series = sorted({name.split("/")[0] for name in known})
            raise CourseError(
                f"{FILE}, {topic}: there is no series of this name with lessons. {_there_are(series)}"
            )
        for notebook, points in _table(notebooks, topic).items():
            if notebook not in offered:
                raise CourseError(
                    f"{FILE}, {topic}.{notebook}: the series has no such notebook. {_there_are(offered)}"
                )
            lesson = known[f"{topic}/{notebook}"]
            chosen[lesson.name] = _points(_table(points, f"{topic}.{notebook}"), lesson, topic)
    if not chosen:
        raise CourseError(
            f"{FILE} chooses no notebook. It needs at least one section, such as [{_any(known)}]."
        )
    return Choice(chosen)


def _any(known: dict[str, LessonInfo]) -> str:
    return next(iter(sorted(known)), "topic/notebook").replace("/", ".")


def _there_are(names: Iterable[str]) -> str:
    return f"There are: {', '.join(names)}."


def _table(value: object, key: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise CourseError(f"{FILE}, {key}: this has to be a section in brackets, not the value {value!r}.")
    return value


def _points(given: dict[str, object], lesson: LessonInfo, topic: str) -> dict[str, int]:
    """The points by exercise, in the order of the lesson."""
    for name, points in given.items():
        key = f"{lesson.name.replace('/', '.')}.{name}"
        if name not in lesson.exercises:
            raise CourseError(
                f"{FILE}, {key}: the notebook has no such exercise. {_there_are(lesson.exercises)}"
            )
        if isinstance(points, bool) or not isinstance(points, int) or points < 0:
            raise CourseError(f"{FILE}, {key}: points are a whole number, 0 or more, not {points!r}.")
    return {name: int(str(given[name])) for name in lesson.exercises if name in given}


def with_points(text: str, points: dict[str, int]) -> str:
    """A source notebook with the points of a class; the check of an exercise that is left out is not graded."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        entry = cell.metadata.get("nbgrader", {})
        if entry.get("grade"):
            name = entry["grade_id"].removeprefix(CHECK)
            if name in points:
                entry["points"] = points[name]
            else:
                del cell.metadata["nbgrader"]
    notebook.metadata["rederive"]["source_digest"] = digest(notebook)
    return to_text(notebook)


def changed_by_hand(path: Path) -> bool:
    """Whether somebody has edited a source notebook in a class folder since it was written there."""
    try:
        notebook = nbformat.read(path, as_version=4)
        return bool(notebook.metadata["rederive"]["source_digest"] != digest(notebook))
    except Exception:  # no notebook, or none of ours
        return True
