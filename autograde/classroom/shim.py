"""What a notebook imports as ``autograde`` in the sandbox, where this file is the package's ``__init__``.

It hands nothing out and decides nothing: the process that grades looks at the notebook's functions from outside. It holds
no exercise, no reference and no expected value. Without a process that grades, every call raises: a check that is
silently skipped would look like one that passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograde import handover
from autograde.version import __version__

__all__ = ["CheckFailed", "NotWritten", "__version__", "given", "open_lesson", "yours"]


class CheckFailed(AssertionError):
    """A check did not pass."""


class NotWritten(CheckFailed, NotImplementedError):
    """The exercise is not written yet."""


class HandedOver:
    """The checks of a lesson, which do nothing here."""

    def __getattr__(self, exercise: str) -> Callable[..., None]:
        if exercise.startswith("_"):
            raise AttributeError(exercise)
        return lambda *implementation: None


def _only_when_graded() -> None:
    if not handover.ACTIVE:
        raise RuntimeError("This is the sandbox's autograde, and no process grades. Nothing was checked.")


def open_lesson(name: str) -> HandedOver:
    """The checks of a lesson."""
    _only_when_graded()
    return HandedOver()


def given(name: str) -> Callable[..., Any]:
    """The course's version of an exercise; the exercise then scores nothing."""
    _only_when_graded()
    if name not in handover.GIVEN:
        raise RuntimeError(
            f"given({name!r}) finds nothing. Write the name of an exercise of this series in quotes."
        )
    return handover.GIVEN[name]


def yours(lesson: str, *names: str) -> Any:
    """Functions of another notebook, which is not here."""
    raise RuntimeError("yours() is for cells that grading skips. In an exercise, write the function itself.")
