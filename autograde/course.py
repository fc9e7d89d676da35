"""The course: its topics from ``course.toml``, its folders, its lessons and its exercises."""

from __future__ import annotations

import importlib
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autograde.exercise import Exercise


class CourseError(Exception):
    """The course's own files contradict each other; the message says which and how."""


@dataclass(frozen=True)
class Topic:
    """One series of notebooks, as ``course.toml`` describes it.

    Attributes:
        name: the short name, which is the folder's name.
        prerequisites: the topics to do first.
        minutes: a learner's time for the whole series; an estimate for one that is planned.
        planned: whether its notebooks are still to be written.
    """

    name: str
    title: str
    family: str
    about: str
    order: int
    prerequisites: tuple[str, ...] = ()
    minutes: int = 0
    planned: bool = False


@dataclass(frozen=True)
class Course:
    """The course as a whole."""

    title: str
    families: tuple[tuple[str, str], ...]
    topics: tuple[Topic, ...]

    def topic(self, name: str) -> Topic:
        """The topic with this short name; KeyError if there is none."""
        return next(topic for topic in self.topics if topic.name == name)


def root() -> Path:
    """The folder that holds ``course.toml``: of an editable install, the checkout; or ``REDERIVE_ROOT``."""
    return Path(os.environ.get("REDERIVE_ROOT") or Path(__file__).resolve().parents[1])


def read_course(folder: Path | None = None) -> Course:
    """``course.toml``.

    Raises:
        CourseError: it is missing, is not TOML, or an entry lacks something or names what does not exist.
    """
    path = (folder or root()) / "course.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"There is no {path.name} in {path.parent}.") from None
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{path.name} is not valid TOML: {error}.") from None
    families = tuple((key, str(title)) for key, title in data.get("families", {}).items())
    topics = tuple(_topic(name, entry) for name, entry in data.get("topics", {}).items())
    course = Course(
        str(data.get("title", "")), families, tuple(sorted(topics, key=lambda topic: topic.order))
    )
    _check(course)
    return course


def _topic(name: str, entry: dict[str, object]) -> Topic:
    known = {"title", "family", "about", "order", "prerequisites", "minutes", "planned"}
    unknown = set(entry) - known
    if unknown:
        raise CourseError(f"course.toml, topic {name!r}: unknown key {', '.join(sorted(unknown))}.")
    missing = {"title", "family", "about", "order"} - set(entry)
    if missing:
        raise CourseError(f"course.toml, topic {name!r}: {', '.join(sorted(missing))} is missing.")
    return Topic(name=name, **{**entry, "prerequisites": tuple(entry.get("prerequisites", ()))})  # type: ignore[arg-type]


def _check(course: Course) -> None:
    names = {topic.name for topic in course.topics}
    families = {key for key, _ in course.families}
    for topic in course.topics:
        if topic.family not in families:
            raise CourseError(f"course.toml, topic {topic.name!r}: there is no family {topic.family!r}.")
        unknown = set(topic.prerequisites) - names
        if unknown:
            raise CourseError(
                f"course.toml, topic {topic.name!r} needs {sorted(unknown)[0]!r}, which is no topic."
            )


@cache
def exercises(topic: str) -> dict[str, Exercise]:
    """The exercises of a topic by name, in the order of its list ``EXERCISES``, which is the order of its lessons.

    Raises:
        CourseError: the topic has no module of exercises, or that has no such list.
    """
    try:
        module = importlib.import_module(f"autograde.exercises.{topic}")
    except ModuleNotFoundError as error:
        if error.name != f"autograde.exercises.{topic}":
            raise
        raise CourseError(
            f"There are no exercises for the topic {topic!r} (autograde/exercises/{topic}.py)."
        ) from None
    listed = getattr(module, "EXERCISES", ())
    found = {exercise.name: exercise for exercise in listed}
    if not found or len(found) != len(listed):
        raise CourseError(
            f"autograde/exercises/{topic}: EXERCISES has to list the exercises, each name once."
        )
    return found


def lesson_ids(folder: Path, pattern: str) -> list[str]:
    """``rnn/01_vanilla_rnn`` for every file ``rnn/01_vanilla_rnn.*`` below ``folder`` that matches ``*/pattern``."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob(f"*/{pattern}"))
