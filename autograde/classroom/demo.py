"""A class of made-up students: what each hands in, what it earns, and what the gradebook says in the end."""

from __future__ import annotations

import ast
import builtins
import csv
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograde.classroom.folder import ClassFolder, convert, in_folder, make_class
from autograde.classroom.grading import Progress, grade_class
from autograde.course import exercises, root
from autograde.exercise import Exercise, Mistake
from autograde.grade import grade
from autograde.lessons import lesson_info, read_lesson
from autograde.notebook import GRADED_SEED
from autograde.observe import LocalObserver
from autograde.sources import used_names


@dataclass(frozen=True)
class Student:
    """One student's submission.

    Attributes:
        answers: by exercise: the text of its cell, where it is not the right answer; None means the untouched stub.
        expected: what it earns, measured on the functions themselves, without any notebook.
        late: hours after the due date.
        missing: nothing was handed in but a note.
    """

    name: str
    what: str
    expected: float
    answers: dict[str, str | None]
    late: int = 0
    missing: bool = False


@dataclass(frozen=True)
class Row:
    """A student's line in the final table."""

    student: str
    what: str
    expected: float
    score: float

    @property
    def right(self) -> bool:
        """Whether the score is what was earned."""
        return abs(self.expected - self.score) < 1e-9


def demo(
    folder: Path,
    topic: str,
    count: int,
    progress: Progress | None = None,
    notebook: str | None = None,
    workers: int | None = None,
) -> list[Row]:
    """Make the class, grade it, write feedback and ``grades.csv``.

    Args:
        folder: a new folder.
        count: how many students, at least 6.
        progress: is told how far it is.
        notebook: the only one of the series that is handed out; otherwise all of them.
        workers: processes that grade.

    Raises:
        CourseError: the folder is not empty, the topic has no lessons, or nbgrader stopped.
    """
    made, students = make_demo(folder, topic, count, notebook)
    grade_class(folder, topic, workers=workers, progress=progress)
    convert("GenerateFeedback", made)
    return rows(made, students)


def make_demo(
    folder: Path, topic: str, count: int, notebook: str | None = None
) -> tuple[ClassFolder, list[Student]]:
    """A class with what its students have handed in, not graded yet."""
    made = make_class(folder, topic, notebook=notebook)
    students = list(cast(topic, count, notebook))
    for student in students:
        hand_in(made, student)
    _register(made, students)
    return made, students


def rows(made: ClassFolder, students: list[Student]) -> list[Row]:
    """What the students have earned, beside what the gradebook says."""
    scores = export(made)
    return [Row(s.name, s.what, s.expected, scores.get(s.name, 0.0)) for s in students]


def cast(topic: str, count: int, notebook: str | None = None) -> Iterator[Student]:
    """The students: one perfect, one who wrote nothing, one late, one without a notebook, and mistakes."""
    bank = exercises(topic)
    if notebook is not None:
        asked = lesson_info(notebook, read_lesson(root(), f"{topic}/{notebook}")).exercises
        bank = {name: exercise for name, exercise in bank.items() if name in asked}
    everything = float(sum(exercise.points for exercise in bank.values()))
    yield Student("student-01", "everything right", everything, {})
    yield Student("student-02", "nothing written", 0.0, dict.fromkeys(bank))
    yield Student("student-03", "everything right, 30 hours late", everything, {}, late=30)
    yield Student("student-04", "no notebook in the folder", 0.0, {}, missing=True)
    first_half = list(bank)[: len(bank) // 2]
    rest = {name: None for name in bank if name not in first_half}
    earned = float(sum(bank[name].points for name in first_half))
    yield Student("student-05", f"only {', '.join(first_half)}", earned, dict(rest))
    known = _in_turn({name: list(_printable(exercise)) for name, exercise in bank.items()})
    for number in range(6, count + 1):
        name, mistake, code = known[(number - 6) % len(known)]
        lost = bank[name].points - _earned(bank[name], mistake)
        yield Student(
            f"student-{number:02d}", f"{name}: {mistake.name.strip('_')}", everything - lost, {name: code}
        )


def _in_turn(by_exercise: dict[str, list[tuple[Mistake, str]]]) -> list[tuple[str, Mistake, str]]:
    """One mistake of each exercise, then the second of each, and so on."""
    longest = max(len(entries) for entries in by_exercise.values())
    return [
        (name, *entries[i])
        for i in range(longest)
        for name, entries in by_exercise.items()
        if i < len(entries)
    ]


def _printable(exercise: Exercise) -> Iterator[tuple[Mistake, str]]:
    """Those mistakes that need nothing but torch, as the text of a notebook's cell."""
    for mistake in exercise.mistakes:
        source = textwrap.dedent(inspect.getsource(mistake.implementation))
        if source.startswith("def "):
            code = as_answer(source, exercise.name)
            if used_names(code) <= set(dir(builtins)) | {"torch", "Tensor"}:
                yield mistake, code


def as_answer(source: str, name: str) -> str:
    """A function under another name, without annotations, as a student might write it."""
    tree = ast.parse(source)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.name, function.returns = name, None
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.unparse(tree) + "\n"


def _earned(exercise: Exercise, mistake: Mistake) -> int:
    return grade(
        exercise, LocalObserver(mistake.implementation, quiet=True), graded=True, seed=GRADED_SEED
    ).score


def hand_in(made: ClassFolder, student: Student) -> None:
    """Write a student's submission, as the exchange would."""
    place = made.submitted(student.name)
    place.mkdir(parents=True)
    if student.missing:
        (place / "note.txt").write_text("I could not save my notebook.\n", encoding="utf-8")
        return
    stamp = datetime.now(UTC) + timedelta(hours=student.late)
    (place / "timestamp.txt").write_text(stamp.strftime("%Y-%m-%d %H:%M:%S UTC"), encoding="utf-8")
    for path in sorted(made.source.glob("*.ipynb")):
        right = nbformat.read(path, as_version=4)
        notebook = nbformat.read(made.release / path.name, as_version=4)
        answer_cells(notebook, right, student.answers)
        nbformat.write(notebook, place / path.name)


def answer_cells(notebook: NotebookNode, right: NotebookNode, answers: dict[str, str | None]) -> None:
    """Fill in a released notebook: the right answers, but for the exercises in ``answers``."""
    solutions = {cell.id: cell.source for cell in right.cells}
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            text = answers.get(cell.id, solutions[cell.id])
            cell.source = cell.source if text is None else text


def _register(made: ClassFolder, students: list[Student]) -> None:
    """Everybody is in the gradebook, also who hands in nothing; the work is due a day from now."""
    from nbgrader.api import Gradebook

    with in_folder(made.root), Gradebook(f"sqlite:///{made.root / 'gradebook.db'}") as gradebook:
        due = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
        gradebook.update_or_create_assignment(made.topic, duedate=due)
        for student in students:
            gradebook.update_or_create_student(student.name)


def export(made: ClassFolder) -> dict[str, float]:
    """nbgrader's own export to ``grades.csv``; the scores by student."""
    from nbgrader.api import Gradebook
    from nbgrader.plugins import CsvExportPlugin

    path = made.root / "grades.csv"
    with in_folder(made.root), Gradebook(f"sqlite:///{made.root / 'gradebook.db'}") as gradebook:
        plugin = CsvExportPlugin()
        plugin.to = str(path)
        plugin.export(gradebook)
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
