"""Grading a whole class: which submissions there are, who grades them, and writing down what came of each, once.

A batch never stops at a bad submission. Killed and started again it goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograde.classroom.book import opened, recorded
from autograde.classroom.choice import CHECK, read_choice
from autograde.classroom.folder import ClassFolder, course_directory, open_class
from autograde.classroom.grader import (
    Job,
    Outcome,
    Settings,
    fingerprint,
    placeholder,
    sandbox_or_reason,
)
from autograde.classroom.guard import has_our_steps
from autograde.classroom.handed_in import HandedIn, collect
from autograde.classroom.notebooks import Worth
from autograde.classroom.pools import Pool, cluster, local
from autograde.classroom.recorder import Recorder
from autograde.classroom.records import Record, Records
from autograde.classroom.sandbox import NoSandbox
from autograde.classroom.seeds import class_secret, submission_key
from autograde.classroom.update import differences
from autograde.course import CourseError, root
from autograde.lessons import all_lessons, read_lesson
from autograde.notebook import WITHOUT_OUR_STEPS
from autograde.observe import plain_text

TRIES = 2
"""How often a submission is graded whose worker died."""


@dataclass
class Progress:
    """Who is told how far it is. Each is called from the process that writes."""

    begin: Callable[[int], None] = lambda total: None
    done: Callable[[int, str], None] = lambda number, verdict: None
    say: Callable[[str], None] = lambda line: None


@dataclass
class Ticket:
    """One submission on its way."""

    student: str
    job: Job
    handed_in: HandedIn
    tries: int = 0


@dataclass
class Graded:
    """What came of a run.

    Attributes:
        total: submissions that were to be graded.
        skipped: submissions that were graded before, and have not changed.
        verdicts: how many notebooks had each verdict.
        kept: by student: why the old grades were kept, where that was asked for.
        stopped: whether somebody stopped it.
    """

    total: int = 0
    skipped: int = 0
    done: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def worth_of(made: ClassFolder) -> dict[str, dict[str, float]]:
    """By notebook and exercise: the points that the gradebook has.

    Raises:
        CourseError: the class has no such assignment, or ``class.toml`` says something else than the gradebook.
    """
    with opened(made) as book:
        known = recorded(book, made.topic)
        there = ", ".join(entry.name for entry in book.assignments) or "none"
    if known is None:
        raise CourseError(f"There is no assignment {made.topic!r} in the gradebook. There are: {there}.")
    if made.choice.exists():
        choice = read_choice(made.choice, all_lessons(root()))
        changes = differences(choice, made.topic, known) if made.topic in choice.topics else []
        if changes:
            raise CourseError(
                f"class.toml was changed ({changes[0]}). First bring the class up to date: autograde update-class"
            )
    return {
        notebook: {name.removeprefix(CHECK): points for name, points in cells.items()}
        for notebook, cells in known.points.items()
    }


def settings_of(made: ClassFolder, unsafe: bool = False) -> Settings:
    """How a class is graded, from its ``nbgrader_config.py``.

    Raises:
        CourseError: the configuration cannot be used, or has lost the steps that grade.
    """
    from autograde.classroom.preprocessors import RunAndCheck

    config = made.settings()
    steps = config.Autograde
    if not has_our_steps(
        (*steps.get("sanitize_preprocessors", ()), *steps.get("autograde_preprocessors", ()))
    ):
        raise CourseError(f"{made.config.name} cannot be used. {WITHOUT_OUR_STEPS}")
    return RunAndCheck(config=config).grading_settings(unsafe)


def grade_class(
    folder: Path,
    assignment: str,
    students: Sequence[str] = (),
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    force: bool = False,
    unsafe: bool = False,
    keep_old: bool = False,
    progress: Progress | None = None,
) -> Graded:
    """Grade what was handed in, and write points, notebooks and records.

    Args:
        folder: the class.
        assignment: the series.
        students: only these; otherwise everybody who has handed something in.
        workers: processes on this machine; otherwise one for each processor.
        scheduler: the address of a Dask scheduler, whose workers grade instead.
        force: grade again what was graded before and has not changed.
        unsafe: without a sandbox.
        keep_old: who has grades keeps them when the submission cannot be graded now.

    Raises:
        CourseError: there is nothing to grade, no sandbox, or no such student; nothing was changed then. Or the gradebook
            cannot be written.
    """
    made, told = open_class(folder, assignment), progress or Progress()
    settings = settings_of(made, unsafe)
    worth = worth_of(made)
    chosen = _chosen(made, students)
    reason = "" if scheduler else sandbox_or_reason(settings)
    if reason:
        raise CourseError(reason)
    with Records(made).locked(), Recorder(made, told.say, keep_old) as recorder:
        tickets = list(_tickets(made, chosen, worth, settings, recorder, force))
        done = Graded(total=len(tickets), skipped=len(chosen) - len(tickets))
        told.begin(len(tickets))
        if settings.unsafe and tickets:
            recorder.records.log("UNSAFE: grading without a sandbox")
        if tickets:
            _grade_all(made, tickets, recorder, settings, workers, scheduler, told, done)
    return done


def submissions(made: ClassFolder) -> list[str]:
    """Everybody who has a folder for the assignment in ``submitted/``.

    Raises:
        CourseError: nobody has.
    """
    where = course_directory(made)
    pattern = Path(where.format_path(where.submitted_directory, "*", made.topic))
    depth = pattern.parts.index("*")
    places = Path(*pattern.parts[:depth]).glob(str(Path(*pattern.parts[depth:])))
    everybody = sorted(place.parts[depth] for place in places if place.is_dir())
    if not everybody:
        raise CourseError(f"Nobody has handed in {made.topic}: there is no submitted/STUDENT/{made.topic}.")
    odd = [name for name in everybody if plain_text(name) != name]
    if odd:
        raise CourseError(
            f"The name of the folder {plain_text(odd[0])} in submitted/ is not UTF-8. Rename it."
        )
    return everybody


def _chosen(made: ClassFolder, students: Sequence[str]) -> list[str]:
    everybody = submissions(made)
    unknown = [name for name in students if name not in everybody]
    if unknown:
        raise CourseError(f"{unknown[0]!r} has not handed in {made.topic}. See submitted/.")
    return [name for name in everybody if not students or name in students]


def _tickets(
    made: ClassFolder,
    students: Sequence[str],
    worth: dict[str, dict[str, float]],
    settings: Settings,
    recorder: Recorder,
    force: bool,
) -> Iterator[Ticket]:
    """The submissions that have to be graded. Those that only the gradebook lacks are written there now."""
    secret = class_secret(made.root)
    numbers = recorder.records.numbers(students)
    in_book = recorder.graded()
    for student in students:
        handed_in = collect(made.submitted(student), worth)
        before = None if force else recorder.records.read(student)
        done = before is not None and _same(before, handed_in, worth, settings)
        if done and before is not None and before["recorded"] and student in in_book:
            continue
        yield Ticket(
            student,
            Job(
                numbers[student],
                made.topic,
                handed_in.notebooks,
                handed_in.files,
                worth,
                submission_key(secret, made.topic, student),
                settings,
            ),
            handed_in,
        )


def _same(
    before: Record, handed_in: HandedIn, worth: dict[str, dict[str, float]], settings: Settings
) -> bool:
    """Whether a record is of just this submission, with these points."""
    points = {
        name: {exercise: float(graded["max_score"]) for exercise, graded in entry["exercises"].items()}
        for name, entry in before["notebooks"].items()
    }
    same = before.get("handed_in") == handed_in.digest and before.get("unsafe") == settings.unsafe
    ours = any(entry["verdict"] == "grader-error" for entry in before["notebooks"].values())
    return same and points == worth and not ours


def _grade_all(
    made: ClassFolder,
    tickets: list[Ticket],
    recorder: Recorder,
    settings: Settings,
    workers: int | None,
    scheduler: str | None,
    told: Progress,
    done: Graded,
) -> None:
    opened_pool: AbstractContextManager[Any]
    if scheduler:
        opened_pool = cluster(scheduler, made.topic, settings)
    else:
        opened_pool = local(min(workers or os.cpu_count() or 1, len(tickets)), made.topic, settings)
    with opened_pool as pool:
        run = _Batch(pool, recorder, told, done)
        try:
            run.all(tickets)
        except KeyboardInterrupt:
            done.stopped = True
            run.finished_ones()
            raise


class _Batch:
    """Submissions in flight: at most two for each worker, so that memory stays bounded."""

    def __init__(self, pool: Pool, recorder: Recorder, told: Progress, done: Graded) -> None:
        self._pool, self._recorder, self._told, self._done = pool, recorder, told, done
        self._flying: dict[Future[Outcome], Ticket] = {}

    def all(self, tickets: list[Ticket]) -> None:
        waiting = list(reversed(tickets))
        while waiting or self._flying:
            while waiting and self._room_for(waiting[-1]):
                ticket = waiting.pop()
                self._flying[self._submit(ticket.job)] = ticket
            ready, _ = wait(self._flying, return_when=FIRST_COMPLETED)
            lost = [left for future in ready if (left := self._land(future)) is not None]
            if lost:
                lost += list(self._flying.values())
                self._flying.clear()
                self._pool.renew()
                waiting += [ticket for ticket in reversed(lost) if not self._given_up(ticket)]

    def _room_for(self, ticket: Ticket) -> bool:
        """One that was in flight when a worker died flies alone the next time: then it is known who did it."""
        if not self._flying:
            return True
        alone = ticket.tries > 0 or any(other.tries for other in self._flying.values())
        return not alone and len(self._flying) < 2 * self._pool.width

    def _submit(self, job: Job) -> Future[Outcome]:
        try:
            return self._pool.submit(job)
        except BrokenProcessPool as error:  # a worker has died since the last look
            broken: Future[Outcome] = Future()
            broken.set_exception(error)
            return broken

    def finished_ones(self) -> None:
        """After Ctrl-C: write what is done."""
        for future in [future for future in self._flying if future.done() and not future.cancelled()]:
            self._land(future)

    def _land(self, future: Future[Outcome]) -> Ticket | None:
        """Write an outcome; the ticket again when its worker died."""
        ticket = self._flying.pop(future)
        try:
            outcome = future.result()
        except (BrokenProcessPool, CancelledError):
            return ticket
        except NoSandbox as error:
            raise CourseError(f"A worker has no sandbox: {error}.") from None
        except Exception as error:  # a mistake of ours must neither end the batch nor be a silent zero
            outcome = _ours(ticket.job, f"{type(error).__name__}: {error}")
        self._write(ticket, outcome)
        return None

    def _given_up(self, ticket: Ticket) -> bool:
        ticket.tries += 1
        if ticket.tries < TRIES:
            return False
        self._write(ticket, _ours(ticket.job, "The worker process died each time while it graded this."))
        return True

    def _write(self, ticket: Ticket, outcome: Outcome) -> None:
        record = new_record(ticket, outcome)
        kept = self._recorder.write(ticket.student, record, outcome.texts, ticket.handed_in)
        if kept:
            self._done.kept[ticket.student] = kept
        verdicts = [entry["verdict"] for entry in outcome.records.values()]
        for verdict in verdicts:
            self._done.verdicts[verdict] = self._done.verdicts.get(verdict, 0) + 1
        self._done.done += 1
        score = sum(entry["score"] for entry in outcome.records.values())
        most = sum(entry["max_score"] for entry in outcome.records.values())
        self._recorder.records.log(
            f"submission {outcome.number}: {score:g} of {most:g} points, {', '.join(verdicts)}"
        )
        self._told.done(outcome.number, verdicts[0] if len(set(verdicts)) == 1 else "mixed")


def new_record(ticket: Ticket, outcome: Outcome) -> Record:
    """What is kept of a grading."""
    return {
        "student": ticket.student,
        "number": outcome.number,
        "assignment": ticket.job.assignment,
        "graded_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "graded_with": fingerprint(),
        "unsafe": ticket.job.settings.unsafe,
        "handed_in": ticket.handed_in.digest,
        "left_out": list(ticket.handed_in.notes),
        "notebooks": outcome.records,
    }


def _ours(job: Job, why: str) -> Outcome:
    """The outcome when grading itself failed."""
    records, texts = {}, {}
    for name, worth in job.worth.items():
        records[name] = _no_points(f"{job.assignment}/{name}", worth, why)
        released = read_lesson(root(), f"{job.assignment}/{name}")
        texts[name] = placeholder(released, worth, "Grading failed, which is not your fault.")
    return Outcome(job.number, records, texts)


def _no_points(lesson: str, worth: Worth, why: str) -> Record:
    from autograde.classroom.grader import unreadable

    return unreadable(lesson, worth, "grader-error", why)


def verdict_counts(records: Collection[Record]) -> dict[str, int]:
    """How many exercises of these records have each verdict."""
    counts: dict[str, int] = {}
    for record in records:
        for entry in record["notebooks"].values():
            for graded in entry["exercises"].values():
                counts[graded["verdict"]] = counts.get(graded["verdict"], 0) + 1
    return counts
