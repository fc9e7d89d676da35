"""Grading a whole notebook: its cells run in a process of their own, verdicts are made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograde.compare import Finding
from autograde.course import exercises
from autograde.earlier import asked_for
from autograde.exercise import Exercise
from autograde.expect import CaseError
from autograde.grade import ExerciseResult, failed, grade, went_on
from autograde.notebook import GRADED_SEED
from autograde.observe import Inputs, Observation, Probe, Stopped
from autograde.session import CellRun, Session
from autograde.submission import Step, Submission, plan, read_notebook

Progress = Callable[[str], None]


@dataclass(frozen=True)
class NotebookResult:
    """How a notebook came out.

    Attributes:
        exercises: by name, in the order of the lesson.
        outputs: by index of a cell: what it showed when it ran.
        notes: what was repaired, and cells that stopped.
    """

    lesson: str
    exercises: dict[str, ExerciseResult]
    outputs: dict[int, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> int:
        """The points earned."""
        return sum(result.score for result in self.exercises.values())

    @property
    def max_score(self) -> int:
        """The points that there are."""
        return sum(result.max_score for result in self.exercises.values())

    def as_json(self, notebook: str) -> dict[str, Any]:
        """The form that ``autograde check --json`` prints."""
        return {
            "notebook": notebook,
            "lesson": self.lesson,
            "score": self.score,
            "max_score": self.max_score,
            "exercises": {name: _exercise_json(result) for name, result in self.exercises.items()},
            "notes": list(self.notes),
        }


def _exercise_json(result: ExerciseResult) -> dict[str, Any]:
    return {
        "score": result.score,
        "max_score": result.max_score,
        "verdict": result.verdict,
        "requirements": {
            requirement.name: {
                "score": requirement.score,
                "max_score": requirement.points,
                "message": requirement.findings[0].message if requirement.findings else None,
            }
            for requirement in result.requirements
        },
        "diagnosis": result.diagnosis,
    }


@dataclass
class RemoteObserver:
    """Looks at a function of the notebook that runs in ``session``; ``alive`` is False once the process is gone."""

    session: Session
    name: str
    alive: bool = True

    def __call__(self, probe: Probe, inputs: Inputs, watch: tuple[str, ...] = ()) -> Observation:
        try:
            return self.session.look(self.name, probe, inputs, watch)
        except Stopped as stop:
            self.alive = stop.alive
            raise


@dataclass
class _Run:
    """One submission while it is graded. A process that dies is started again without the cell that killed it."""

    submission: Submission
    bank: dict[str, Exercise]
    seed: int
    on_progress: Progress
    results: dict[str, ExerciseResult] = field(default_factory=dict)
    outputs: dict[int, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skip: set[int] = field(default_factory=set)
    why: dict[str, str] = field(default_factory=dict)
    """By exercise: why the cell that should define it did not run to its end."""

    def hand_over(self, session: Session) -> bool:
        """Give the notebook the references that it asks for, for which it gets no points. False when the process is gone."""
        sources = [step.source for step in self.submission.steps if not step.check]
        for name, reference in asked_for(sources, self.submission.topic).items():
            self.results[name] = went_on(self.bank[name], self.seed)
            try:
                session.give(name, reference)
            except Stopped:
                return False
        return True

    def through(self, session: Session) -> bool:
        """All steps in one process; False when it died and has to be started again."""
        if not self.hand_over(session):
            return False
        for number, step in enumerate(self.submission.steps):
            if step.check and step.exercise is not None and step.exercise not in self.results:
                self.on_progress(step.exercise)
                if not self.look(session, step.exercise):
                    return False
            elif not step.check and number not in self.skip and not self.run(session, number, step):
                return False
        return True

    def run(self, session: Session, number: int, step: Step) -> bool:
        """One cell. False when the process is gone."""
        try:
            shown = session.run(step.source)
        except Stopped as stop:
            self._stopped_cell(step, stop)
            self.skip.add(number)
            return stop.alive
        self.outputs[step.cell] = shown.outputs
        self._note_error(step, shown)
        return True

    def _note_error(self, step: Step, shown: CellRun) -> None:
        if shown.raised is None or shown.raised.not_written:
            return
        text = f"{shown.raised.kind}: {shown.raised.message.splitlines()[0] if shown.raised.message else ''}".rstrip(
            ": "
        )
        if step.exercise is not None:
            self.why[step.exercise] = f"its cell stopped with {text}"
        note = f"Cell {step.cell + 1} stopped with {text}."
        if note not in self.notes:
            self.notes.append(note)

    def _stopped_cell(self, step: Step, stop: Stopped) -> None:
        if step.exercise is not None:
            self.why[step.exercise] = f"its cell did not run to its end: {stop}"
        self.notes.append(f"Cell {step.cell + 1} was left out ({stop.verdict}): {stop}")

    def look(self, session: Session, name: str) -> bool:
        """Grade one exercise. False when the process is gone."""
        exercise = self.bank[name]
        observer = RemoteObserver(session, name)
        try:
            if session.has(name):
                self.results[name] = grade(exercise, observer, graded=True, seed=self.seed)
            else:
                self.results[name] = failed(exercise, _missing(name, self.why.get(name)), self.seed)
        except Stopped as stop:
            finding = Finding(stop.verdict, str(stop))
            self.results[name] = failed(exercise, finding, self.seed, stop.verdict)
            return stop.alive
        except CaseError as error:
            self.results[name] = _ours(exercise, str(error), self.seed)
        except Exception as error:  # a mistake of ours must not end a batch, nor be a silent zero
            self.results[name] = _ours(exercise, f"{type(error).__name__}: {error}", self.seed)
        return observer.alive


def _ours(exercise: Exercise, why: str, seed: int) -> ExerciseResult:
    finding = Finding("grader-error", f"The check itself is broken, which is not your fault: {why}")
    return failed(exercise, finding, seed, "grader-error")


def _missing(name: str, why: str | None) -> Finding:
    reason = f": {why}" if why else ". Was its cell deleted, or renamed?"
    return Finding("missing", f"There is no function {name}{reason}")


def grade_notebook(
    path: Path, root: Path, seed: int = GRADED_SEED, on_progress: Progress | None = None
) -> NotebookResult:
    """Grade a notebook file with all cases.

    Args:
        path: the notebook.
        root: the course.
        seed: the cases are drawn with it.
        on_progress: is told each exercise before it is looked at.

    Raises:
        CannotGrade: the file is none of our lessons.
    """
    return grade_submission(plan(read_notebook(path), path, root), path.resolve().parent, seed, on_progress)


def grade_submission(
    submission: Submission, folder: Path, seed: int = GRADED_SEED, on_progress: Progress | None = None
) -> NotebookResult:
    """Grade a notebook that has been read; its code runs with ``folder`` as the working directory."""
    bank = exercises(submission.topic)
    work = _Run(submission, bank, seed, on_progress or (lambda name: None), notes=list(submission.notes))
    names = [step.exercise for step in submission.steps if step.check and step.exercise is not None]
    for _ in range(
        len(submission.steps) + 1
    ):  # every new start leaves out one more cell, or has one more result
        with Session(folder, submission.topic) as session:
            if work.through(session):
                break
    ended = {name: work.results.get(name) or _never(bank[name], seed) for name in names}
    order = [name for name in bank if name in ended]
    return NotebookResult(submission.lesson, {n: ended[n] for n in order}, work.outputs, tuple(work.notes))


def _never(exercise: Exercise, seed: int) -> ExerciseResult:
    return failed(exercise, Finding("crash", "The notebook never came to this exercise."), seed, "crash")
