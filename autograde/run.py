"""Grading a whole notebook: its cells run in a process of their own, verdicts are made here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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
from autograde.observe import Inputs, Lost, Observation, Probe, Stopped
from autograde.process import Plain, Start
from autograde.session import CellRun, Session
from autograde.submission import Step, Submission, plan, read_notebook

Progress = Callable[[str], None]
Seeds = Callable[[str], Iterator[int]]
"""By exercise: the seed to draw its cases with, and others in case that one of them is unusable."""
MOST_SEEDS = 5
MOST_LOST = 3
MAX_OUTPUTS = 30_000_000
"""Characters of output that are kept of a whole notebook."""


@dataclass(frozen=True)
class Patience:
    """Seconds of the clock that a cell, one look at a function, and a whole notebook may take."""

    cell: float = 60.0
    look: float = 20.0
    notebook: float = 900.0


PATIENCE = Patience()


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
    """Looks at a function of the notebook that runs in ``session``; ``alive`` is False once the process is gone.

    ``alone`` refuses work where meters do not see it. After ``until`` (of ``time.monotonic``) nothing is looked at.
    """

    session: Session
    name: str
    alone: bool = False
    until: float = float("inf")
    alive: bool = True

    def __call__(self, probe: Probe, inputs: Inputs, watch: tuple[str, ...] = ()) -> Observation:
        if time.monotonic() > self.until:
            raise Stopped("timeout", "The whole notebook took too long.", True)
        try:
            return self.session.look(self.name, probe, inputs, watch, self.alone)
        except Stopped as stop:
            self.alive = stop.alive
            raise


@dataclass
class _Run:
    """One submission while it is graded. A process that dies is started again without the cell that killed it."""

    submission: Submission
    bank: dict[str, Exercise]
    seeds: Seeds
    on_progress: Progress
    until: float
    files: Mapping[str, bytes] = field(default_factory=dict)
    results: dict[str, ExerciseResult] = field(default_factory=dict)
    outputs: dict[int, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skip: set[int] = field(default_factory=set)
    why: dict[str, str] = field(default_factory=dict)
    """By exercise: why the cell that should define it did not run to its end."""
    size: int = 0
    lost: int = 0
    """How often the sandbox was stopped from outside."""

    def hand_over(self, session: Session) -> bool:
        """Give the notebook the references that it asks for, for which it gets no points. False when the process is gone."""
        sources = [step.source for step in self.submission.steps if not step.check]
        for name, reference in asked_for(sources, self.submission.topic).items():
            self.results[name] = went_on(self.bank[name], self.first_seed(name))
            try:
                session.give(name, reference)
            except Stopped:
                return False
        return True

    def first_seed(self, name: str) -> int:
        """The seed for an exercise that is not looked at."""
        return next(self.seeds(name))

    def through(self, session: Session) -> bool:
        """All steps in one process; False when it died and has to be started again."""
        try:
            return self._through(session)
        except Lost:  # not the notebook's doing: it starts again as if nothing had been
            self.lost += 1
            return False

    def _through(self, session: Session) -> bool:
        try:
            if self.files:
                session.put(self.files)
        except Stopped:
            return False
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
        if time.monotonic() > self.until:
            self._stopped_cell(step, Stopped("timeout", "The whole notebook took too long.", True))
            return True
        try:
            shown = session.run(step.source)
        except Stopped as stop:
            self._stopped_cell(step, stop)
            self.skip.add(number)
            return stop.alive
        self._keep(step.cell, shown.outputs)
        self._note_error(step, shown)
        return True

    def _keep(self, cell: int, outputs: tuple[dict[str, Any], ...]) -> None:
        self.size += len(str(outputs))
        if self.size <= MAX_OUTPUTS:
            self.outputs[cell] = outputs
        elif not any("outputs" in note for note in self.notes):
            self.notes.append(f"From cell {cell + 1} on, outputs were not kept: there are too many.")

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

    def never(self, name: str) -> ExerciseResult:
        """The result of an exercise that the notebook did not come to."""
        exercise, seed = self.bank[name], self.first_seed(name)
        if self.lost >= MOST_LOST:
            return _ours(exercise, "the sandbox was stopped from outside, again and again", seed)
        return failed(exercise, Finding("crash", "The notebook never came to this exercise."), seed, "crash")

    def look(self, session: Session, name: str) -> bool:
        """Grade one exercise. False when the process is gone."""
        exercise = self.bank[name]
        observer = RemoteObserver(session, name, exercise.counted, self.until)
        seed = 0
        for attempt, seed in enumerate(self.seeds(name)):
            try:
                self.results[name] = self._grade(session, observer, exercise, seed)
            except Lost:
                raise
            except Stopped as stop:
                finding = Finding(stop.verdict, str(stop))
                self.results[name] = failed(exercise, finding, seed, stop.verdict)
                return stop.alive
            except CaseError as error:  # these numbers are unusable: others may be fine
                self.results[name] = _ours(exercise, str(error), seed)
                if attempt + 1 < MOST_SEEDS and observer.alive:
                    continue
            except Exception as error:  # a mistake of ours must not end a batch, nor be a silent zero
                self.results[name] = _ours(exercise, f"{type(error).__name__}: {error}", seed)
            break
        return observer.alive

    def _grade(
        self, session: Session, observer: RemoteObserver, exercise: Exercise, seed: int
    ) -> ExerciseResult:
        if session.has(exercise.name):
            return grade(exercise, observer, graded=True, seed=seed)
        return failed(exercise, _missing(exercise.name, self.why.get(exercise.name)), seed)


def _ours(exercise: Exercise, why: str, seed: int) -> ExerciseResult:
    finding = Finding("grader-error", f"The check itself is broken, which is not your fault: {why}")
    return failed(exercise, finding, seed, "grader-error")


def _missing(name: str, why: str | None) -> Finding:
    reason = f": {why}" if why else ". Was its cell deleted, or renamed?"
    return Finding("missing", f"There is no function {name}{reason}")


def grade_notebook(
    path: Path, root: Path, seed: int = GRADED_SEED, on_progress: Progress | None = None
) -> NotebookResult:
    """Grade a notebook file of one's own with all cases, in a process with the caller's rights.

    Args:
        path: the notebook.
        root: the course.
        seed: the cases are drawn with it.
        on_progress: is told each exercise before it is looked at.

    Raises:
        CannotGrade: the file is none of our lessons.
    """
    submission = plan(read_notebook(path), path, root)
    return grade_submission(submission, path.resolve().parent, one_seed(seed), on_progress)


def one_seed(seed: int) -> Seeds:
    """The same seed for every exercise, and no other."""
    return lambda name: iter((seed,))


def grade_submission(
    submission: Submission,
    folder: Path,
    seeds: Seeds | None = None,
    on_progress: Progress | None = None,
    *,
    start: Start = Plain,
    patience: Patience | None = None,
    files: Mapping[str, bytes] | None = None,
) -> NotebookResult:
    """Grade a notebook that has been read.

    Args:
        folder: the working directory of a process with the caller's rights; a sandbox has its own.
        seeds: what the cases are drawn with; otherwise all with the same.
        start: starts the process in which the notebook runs.
        files: is put into the working directory.
    """
    bank, limits = exercises(submission.topic), patience or PATIENCE
    until = time.monotonic() + limits.notebook
    work = _Run(
        submission,
        bank,
        seeds or one_seed(GRADED_SEED),
        on_progress or (lambda name: None),
        until,
        files or {},
        notes=list(submission.notes),
    )
    names = [step.exercise for step in submission.steps if step.check and step.exercise is not None]
    for _ in range(
        len(submission.steps) + MOST_LOST
    ):  # every new start leaves out one more cell, or has one more result
        with Session(folder, submission.topic, limits.cell, limits.look, start) as session:
            if work.through(session) or work.lost >= MOST_LOST or time.monotonic() > until:
                break
    ended = {name: work.results.get(name) or work.never(name) for name in names}
    order = [name for name in bank if name in ended]
    return NotebookResult(submission.lesson, {n: ended[n] for n in order}, work.outputs, tuple(work.notes))
