"""One exercise of one student, graded again with the seed that the grade records: any grade can be reproduced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from autograde.classroom import notebooks
from autograde.classroom.folder import ClassFolder, open_class
from autograde.classroom.grader import record_of, sandbox_or_reason, start_process
from autograde.classroom.grading import settings_of, worth_of
from autograde.classroom.handed_in import collect
from autograde.classroom.records import Record, Records
from autograde.classroom.seeds import recorded_seeds
from autograde.course import CourseError, root
from autograde.lessons import read_lesson
from autograde.report import as_text
from autograde.submission import CannotGrade, Submission

CHANGED = "What was handed in has changed since it was graded."


@dataclass(frozen=True)
class Again:
    """What came of it.

    Attributes:
        report: the full report, with the numbers of hidden cases.
        comparison: one line: whether it is what was recorded.
    """

    report: str
    comparison: str
    same: bool


def grade_again(folder: Path, student: str, assignment: str, exercise: str, unsafe: bool = False) -> Again:
    """Draw the same cases again, and look at the same submission.

    Raises:
        CourseError: there is no such grade, or the notebook cannot be read.
    """
    made = open_class(folder, assignment)
    notebook, before = _recorded(made, student, exercise)
    settings = settings_of(made, unsafe)
    reason = sandbox_or_reason(settings)
    if reason:
        raise CourseError(reason)
    worth = worth_of(made)
    handed_in = collect(made.submitted(student), worth)
    lesson = f"{assignment}/{notebook}"
    try:
        given = notebooks.read(handed_in.notebooks.get(notebook) or b"", f"{notebook}.ipynb")
    except CannotGrade as error:
        raise CourseError(f"{student}'s notebook cannot be graded: {error}") from None
    whole = notebooks.whole(given, lesson, read_lesson(root(), lesson), worth[notebook], root())
    with TemporaryDirectory(prefix="rederive-") as place:
        result = notebooks.run(
            _only(whole, exercise),
            recorded_seeds({exercise: before["seed"]}),
            start_process(assignment, settings),
            settings.patience,
            handed_in.files,
            Path(place),
        )
    now = record_of(result, worth[notebook])["exercises"][exercise]
    again = _compared(as_text(result.exercises[exercise], assignment), before, now)
    digest = (Records(made).read(student) or {}).get("handed_in")
    changed = bool(digest) and digest != handed_in.digest
    return replace(again, comparison=f"{again.comparison} {CHANGED}") if changed else again


def _recorded(made: ClassFolder, student: str, exercise: str) -> tuple[str, Record]:
    """The notebook that has the exercise, and what was recorded of it."""
    record = Records(made).read(student)
    if record is None:
        raise CourseError(f"There is no grade of {student!r} for {made.topic}. See verdicts/{made.topic}/.")
    for notebook, entry in record["notebooks"].items():
        if exercise in entry["exercises"]:
            found: Record = entry["exercises"][exercise]
            if found["seed"] is None:
                raise CourseError(f"{exercise} was not looked at: {found['message']}")
            return notebook, found
    known = [name for entry in record["notebooks"].values() for name in entry["exercises"]]
    raise CourseError(f"{made.topic} has no graded exercise {exercise!r}. There are: {', '.join(known)}.")


def _only(submission: Submission, exercise: str) -> Submission:
    """All cells, and of the checks only the one of an exercise."""
    steps = tuple(step for step in submission.steps if not step.check or step.exercise == exercise)
    return replace(submission, steps=steps)


def _compared(report: str, before: Record, now: Record) -> Again:
    told = {key: (before[key], now[key]) for key in ("score", "verdict", "diagnosis")}
    changed = {key: pair for key, pair in told.items() if pair[0] != pair[1]}
    if not changed:
        line = f"The same as was recorded: {now['verdict']}, {now['score']:g} of {now['max_score']:g} points."
        return Again(report, line, True)
    parts = ", ".join(f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items())
    return Again(report, f"Not what was recorded: {parts}.", False)
