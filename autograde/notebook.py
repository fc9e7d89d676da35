"""``check`` in a notebook: ``check.rnn_step(rnn_step)`` looks at the learner's function and reports."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from autograde import handover
from autograde.course import CourseError, exercises
from autograde.exercise import Exercise
from autograde.grade import ExerciseResult, grade, went_on
from autograde.observe import Implementation, LocalObserver, own_frames
from autograde.progress import Record, find_work, record
from autograde.report import as_html, as_text, headline
from autograde.reveal import beside
from autograde.version import __version__

GRADED_SEED = 1
PATIENCE = 15
STOCK = "REDERIVE_STOCK_GRADING"
"""Set to 1 in the environment, nbgrader may grade without the course's own steps."""
WITHOUT_OUR_STEPS = (
    "This is no grade: nbgrader runs without the course's own steps. In the class's nbgrader_config.py put back the lines with "
    "SANITIZE_STEPS and AUTOGRADE_STEPS (`autograde new-class` writes them into a new class), or use `autograde grade`. "
    f"To grade all the same in the student's own kernel, which can forge its points, set {STOCK}=1 in the environment."
)
OPENED: list[str] = []
"""The lessons that were opened in this process, the latest last."""
GIVEN_CALLED: set[str] = set()
"""Exercises whose course version, handed out by ``given``, was called since the set was emptied."""


class CheckFailed(AssertionError):
    """A check did not pass. The report has been shown; a notebook prints this one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class NotWritten(CheckFailed, NotImplementedError):
    """The exercise is not written yet."""


@dataclass(frozen=True)
class Lesson:
    """The checks of one lesson: its exercises are attributes."""

    name: str

    def __getattr__(self, exercise: str) -> Callable[[Implementation], None]:
        if exercise.startswith("_"):
            raise AttributeError(exercise)
        if handover.ACTIVE:
            return lambda implementation: None
        found = exercises(self.name.split("/")[0])
        if exercise not in found:
            known = ", ".join(found)
            raise AttributeError(f"There is no exercise {exercise!r} in this series. There are: {known}.")
        return Check(self.name, found[exercise])

    def __dir__(self) -> list[str]:
        return list(exercises(self.name.split("/")[0]))


@dataclass(frozen=True)
class Check:
    """The check of one exercise. Called with an implementation, it reports, and raises CheckFailed if it is wrong."""

    lesson: str
    exercise: Exercise

    def __call__(self, implementation: Implementation) -> None:
        try:
            with _patience():
                result = self.result(implementation)
        except KeyboardInterrupt as stop:
            frames = own_frames(stop.__traceback__)
            where = f", at {frames[-1]}" if frames else ""
            raise CheckFailed(f"{self.exercise.name}: you stopped it while it was running{where}.") from None
        topic = self.lesson.split("/")[0]
        more = beside(self.lesson, self.exercise, implementation) if result.ok and not _grading() else ""
        _display(as_text(result, topic), as_html(result, topic, more))
        if not _grading():
            self._remember(result)
        if result.not_written:
            raise NotWritten(headline(result))
        if not result.ok and (_grading() or not result.given):
            raise CheckFailed(headline(result))

    def result(self, implementation: Implementation) -> ExerciseResult:
        """Look at the implementation: the shown cases, or all cases where nbgrader grades."""
        graded = os.environ.get("NBGRADER_EXECUTION") == "autograde"
        if graded and os.environ.get(STOCK) != "1":
            raise CheckFailed(WITHOUT_OUR_STEPS)
        GIVEN_CALLED.clear()
        result = grade(self.exercise, LocalObserver(implementation), graded=graded, seed=GRADED_SEED)
        return went_on(self.exercise, result.seed or 0) if self.exercise.name in GIVEN_CALLED else result

    def _remember(self, result: ExerciseResult) -> None:
        work = find_work()
        if work is not None:
            entry = Record(result.name, result.score, result.max_score, result.ok, __version__)
            record(work, self.lesson, entry)


def open_lesson(name: str) -> Lesson:
    """The checks of the lesson ``name``, such as ``rnn/01_vanilla_rnn``.

    Raises:
        CourseError: there is no such topic.
    """
    if not handover.ACTIVE:
        if name.count("/") != 1:
            raise CourseError(f"{name!r} is no lesson; its name has the form topic/notebook.")
        exercises(name.split("/")[0])
    OPENED.append(name)
    return Lesson(name)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Says after a while how a check is stopped, for somebody whose loop never ends."""
    note = f"This check has been running for {PATIENCE} seconds. If your code never ends, stop it with the ■ button."
    timer = threading.Timer(PATIENCE, print, [note], {"flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _grading() -> bool:
    return "NBGRADER_EXECUTION" in os.environ


def _display(text: str, html: str) -> None:
    """HTML where there is a notebook, text everywhere else."""
    shell = _shell()
    if shell is None:
        print(text)
        return
    from IPython.display import display

    display({"text/plain": text, "text/html": html}, raw=True)


def _shell() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if shell is not None and type(shell).__name__ == "ZMQInteractiveShell" else None
