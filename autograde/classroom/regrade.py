"""Grading everybody again, after a requirement was mended or points were changed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograde.classroom.book import opened, recorded
from autograde.classroom.choice import CHECK, read_choice
from autograde.classroom.folder import ClassFolder, convert, course_directory, open_class
from autograde.classroom.tables import as_csv, harmless
from autograde.classroom.update import differences
from autograde.course import CourseError, root
from autograde.lessons import all_lessons
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


def submitters(made: ClassFolder) -> list[str]:
    """Everybody who has a folder for the assignment in ``submitted/``."""
    where = course_directory(made)
    pattern = Path(where.format_path(where.submitted_directory, "*", made.topic))
    depth = pattern.parts.index("*")
    places = Path(*pattern.parts[:depth]).glob(str(Path(*pattern.parts[depth:])))
    return sorted(place.parts[depth] for place in places if place.is_dir())


def regrade_all(
    folder: Path,
    assignment: str,
    begin: Callable[[int], None] = lambda total: None,
    on_student: Callable[[str], None] = lambda name: None,
) -> Regraded:
    """Grade all submissions again, as ``nbgrader autograde --force`` does, one by one.

    Manual scores, extra credit and comments stay; so does a late penalty that was given by hand.

    Args:
        folder: the class.
        assignment: the series.
        begin: is told how many submissions there are.
        on_student: is told each student who has been dealt with.

    Raises:
        CourseError: there is no such assignment, nothing was handed in, or ``class.toml`` says something else than the
            gradebook. Nothing has been graded then.
    """
    made = open_class(folder, assignment)
    with opened(made) as book:
        refuse_other_points(made, book)
        before, penalties = _scores(book, assignment), _penalties(book, assignment)
    students = submitters(made)
    if not students:
        raise CourseError(f"Nobody has handed in {assignment}: there is no submitted/STUDENT/{assignment}.")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    done = Regraded(kept=f"{FOLDER}/{assignment}-{stamp}-before.csv")
    write_atomically(made.root / done.kept, _as_table(before, penalties))
    begin(len(students))
    try:
        for student in students:
            try:
                with _set_aside(made.autograded(student)):
                    convert("Autograde", made, student, force=True)
                done.students += 1
            except Exception as error:  # one bad submission must not stop the others
                done.failed[student] = _first_line(error)
            on_student(student)
    finally:  # also when somebody stops it
        with opened(made) as book:
            _restore(book, assignment, before, penalties, done.failed)
            after = _scores(book, assignment)
    done.changes = _changes(before, after)
    write_atomically(made.root / done.kept.replace("-before", "-changes"), _changes_table(done.changes))
    return done


def refuse_other_points(made: ClassFolder, book: Any) -> None:
    """Refuse to grade when ``class.toml`` and the gradebook do not agree.

    Raises:
        CourseError: they do not, or the gradebook has no such assignment.
    """
    known = recorded(book, made.topic)
    if known is None:
        there = ", ".join(entry.name for entry in book.assignments) or "none"
        raise CourseError(f"There is no assignment {made.topic!r} in the gradebook. There are: {there}.")
    if made.choice.exists():
        choice = read_choice(made.choice, all_lessons(root()))
        changes = differences(choice, made.topic, known) if made.topic in choice.topics else []
        if changes:
            raise CourseError(
                f"class.toml was changed ({changes[0]}). First bring the class up to date: autograde update-class"
            )


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


def _restore(
    book: Any,
    assignment: str,
    scores: dict[Key, Scored],
    penalties: dict[tuple[str, str], float],
    failed: dict[str, str],
) -> None:
    """Put back penalties that nbgrader forgot, and all scores of those who could not be graded again.

    nbgrader forgets a penalty unless its plugin gives one again; one that was given by hand has to come back.
    """
    for submission in book.assignment_submissions(assignment):
        student = submission.student.id
        for notebook in submission.notebooks:
            penalty = penalties.get((student, notebook.name))
            if penalty is not None and (notebook.late_submission_penalty is None or student in failed):
                notebook.late_submission_penalty = penalty
            for grade in notebook.grades if student in failed else ():
                old = scores.get((student, notebook.name, grade.name.removeprefix(CHECK)))
                if old is not None:
                    grade.auto_score = old.auto
    book.db.commit()


@contextlib.contextmanager
def _set_aside(place: Path) -> Iterator[None]:
    """nbgrader deletes what it graded before; when it fails this time, that comes back."""
    aside = place.parent / f".{place.name}.before"
    if aside.exists():  # an earlier run was killed
        if place.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(place)
    there = place.exists()
    if there:
        place.rename(aside)
    try:
        yield
    except BaseException:
        if there:
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)
        raise
    if there:
        shutil.rmtree(aside)


def _first_line(error: Exception) -> str:
    """What nbgrader says last is that there was an error; what went wrong stands above it, at the end of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "Traceback" not in line and not line.startswith(("There was an error", "Please"))
    ]
    reasons = [line for line in telling if ": " in line and line.split(": ")[0].split(".")[-1].isidentifier()]
    chosen = (reasons or telling or lines or [""])[-1]
    return chosen[:300] if str(error) else type(error).__name__


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
