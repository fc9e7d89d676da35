"""Grading everybody again, after a requirement was mended or points were changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograde.classroom.book import opened
from autograde.classroom.choice import CHECK
from autograde.classroom.folder import open_class
from autograde.classroom.grading import Progress, grade_class, submissions, worth_of
from autograde.classroom.tables import as_csv, harmless
from autograde.progress import write_atomically

FOLDER = "regraded"
HEADER = (
    *(
        "student_id",
        "notebook",
        "exercise",
        "auto_score",
        "manual_score",
        "extra_credit",
        "score",
        "max_score",
    ),
    "late_penalty_of_the_notebook",
)
Key = tuple[str, str, str]
"""Student, notebook, exercise."""


@dataclass(frozen=True)
class Scored:
    """One grade as the gradebook has it; None is "not given". ``score`` is what counts: the manual one, if there is one."""

    auto: float | None
    manual: float | None
    extra: float | None
    score: float
    most: float


@dataclass(frozen=True)
class Change:
    """An exercise for which a student now has another score; ``manual`` when a score given by hand counts instead."""

    student: str
    exercise: str
    before: float | None
    after: float | None
    manual: bool = False


@dataclass
class Regraded:
    """What came of it.

    Attributes:
        students: how many were graded again.
        failed: by student: why they were not. Their old grades are as they were.
        kept: the file with the old grades, relative to the class folder.
    """

    students: int = 0
    changes: list[Change] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    kept: str = ""


def regrade_all(folder: Path, assignment: str, progress: Progress | None = None, **how: Any) -> Regraded:
    """Grade all submissions again.

    Manual scores, extra credit and comments stay; so does a late penalty that was given by hand.

    Args:
        folder: the class.
        assignment: the series.
        progress: is told how far it is.
        how: ``workers``, ``scheduler`` and ``unsafe`` of ``grade_class``.

    Raises:
        CourseError: there is no such assignment, nothing was handed in, or ``class.toml`` says something else than the
            gradebook. Nothing has been graded then.
    """
    made = open_class(folder, assignment)
    worth_of(made)
    submissions(made)
    with opened(made) as book:
        before, penalties = _scores(book, assignment), _penalties(book, assignment)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    done = Regraded(kept=f"{FOLDER}/{assignment}-{stamp}-before.csv")
    write_atomically(made.root / done.kept, _as_table(before, penalties))
    graded = grade_class(folder, assignment, force=True, keep_old=True, progress=progress, **how)
    with opened(made) as book:
        after = _scores(book, assignment)
    done.failed, done.students = graded.kept, graded.done - len(graded.kept)
    done.changes = _changes(before, after)
    write_atomically(made.root / done.kept.replace("-before", "-changes"), _changes_table(done.changes))
    return done


def _scores(book: Any, assignment: str) -> dict[Key, Scored]:
    return {
        (submission.student.id, notebook.name, grade.name.removeprefix(CHECK)): Scored(
            grade.auto_score,
            grade.manual_score,
            grade.extra_credit,
            float(grade.score),
            float(grade.max_score),
        )
        for submission in book.assignment_submissions(assignment)
        for notebook in submission.notebooks
        for grade in notebook.grades
    }


def _penalties(book: Any, assignment: str) -> dict[tuple[str, str], float]:
    return {
        (submission.student.id, notebook.name): notebook.late_submission_penalty
        for submission in book.assignment_submissions(assignment)
        for notebook in submission.notebooks
        if notebook.late_submission_penalty is not None
    }


def _changes(before: dict[Key, Scored], after: dict[Key, Scored]) -> list[Change]:
    changes = []
    for key in sorted(after):
        old, new = before.get(key), after[key]
        if old is None or old.auto != new.auto or old.score != new.score:
            was = None if old is None else old.auto
            changes.append(Change(key[0], key[2], was, new.auto, new.manual is not None))
    return changes


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _as_table(scores: dict[Key, Scored], penalties: dict[tuple[str, str], float]) -> str:
    rows = [
        [
            *(harmless(key[0]), *key[1:]),
            *map(_text, (s.auto, s.manual, s.extra, s.score, s.most, penalties.get(key[:2]))),
        ]
        for key, s in sorted(scores.items())
    ]
    return as_csv(HEADER, rows)


def _changes_table(changes: list[Change]) -> str:
    header = ("student_id", "exercise", "before", "after", "manual_score_counts")
    rows = [
        [harmless(c.student), c.exercise, _text(c.before), _text(c.after), "yes" if c.manual else ""]
        for c in changes
    ]
    return as_csv(header, rows)
