"""Grading one submission: what a worker does, in this process, in another one or on another machine.

A worker imports once and keeps a warm sandbox. It gets everything that it needs with the job, and needs neither the class's
folder nor its gradebook.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from nbformat import NotebookNode

from autograde import diagnose, expect
from autograde.classroom import notebooks
from autograde.classroom.feedback import for_instructors
from autograde.classroom.notebooks import Trim, Worth, scaled
from autograde.classroom.sandbox import NoSandbox, Sandbox, imports
from autograde.classroom.seeds import seeds
from autograde.confine import Limits
from autograde.course import root
from autograde.grade import ExerciseResult
from autograde.lessons import read_lesson
from autograde.process import Plain, Start
from autograde.run import NotebookResult, Patience, Seeds
from autograde.submission import CannotGrade
from autograde.version import __version__

UNSAFE = "Graded without a sandbox."
ORDER = ("tampered", "grader-error", "oom", "timeout", "output-limit", "crash", "malformed", "wrong", "ok")
"""A notebook's verdict is the first of these that one of its exercises has."""


@dataclass(frozen=True)
class Settings:
    """How a class is graded; ``nbgrader_config.py`` sets these as ``c.RunAndCheck``."""

    patience: Patience = field(default_factory=Patience)
    limits: Limits = field(default_factory=Limits)
    trim: Trim = field(default_factory=Trim)
    unsafe: bool = False


@dataclass(frozen=True)
class Job:
    """One submission to grade.

    Attributes:
        number: stands for the student in logs.
        assignment: the series.
        notebooks: by name: the file that was handed in. Empty: none. None: too large.
        files: what lies beside them.
        worth: by notebook and exercise: the points in this class.
        key: what the seeds are derived from.
        again: by exercise: the seed of an earlier grading; otherwise new ones are derived.
    """

    number: int
    assignment: str
    notebooks: Mapping[str, bytes | None]
    files: Mapping[str, bytes]
    worth: Mapping[str, Worth]
    key: bytes
    settings: Settings = field(default_factory=Settings)
    again: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        records: by notebook: verdicts and points, as ``verdicts/`` keeps them.
        texts: by notebook: the notebook with outputs and reports, as ``autograded/`` keeps it.
    """

    number: int
    records: dict[str, dict[str, Any]]
    texts: dict[str, str]


_ONE_AT_A_TIME = threading.Lock()
"""Grading sets torch's global state: a worker with several threads does one submission after the other."""


def grade_job(job: Job) -> Outcome:
    """Grade a submission. Never raises for what is in it."""
    with _ONE_AT_A_TIME:
        records: dict[str, dict[str, Any]] = {}
        texts: dict[str, str] = {}
        for name, worth in job.worth.items():
            records[name], text = _notebook(job, name, worth)
            texts |= {} if records[name]["verdict"] == "missing" else {name: text}
        expect.forget()
        diagnose.forget()
        return Outcome(job.number, records, texts)


def _notebook(job: Job, name: str, worth: Worth) -> tuple[dict[str, Any], str]:
    lesson = f"{job.assignment}/{name}"
    released = read_lesson(root(), lesson)
    missing = name not in job.notebooks
    data = job.notebooks.get(name)
    try:
        if missing:
            raise CannotGrade(f"{name}.ipynb was not handed in.")
        if data is None:
            raise CannotGrade(f"{name}.ipynb is too large. Clear its outputs and save it again.")
        given = notebooks.read(data, f"{name}.ipynb")
        submission = notebooks.whole(given, lesson, released, worth, root())
    except CannotGrade as error:
        verdict = "missing" if missing else "malformed"
        record = unreadable(lesson, worth, verdict, str(error))
        if not missing:  # as nbgrader's way has it: the released lesson takes its place
            record["unchanged"] = _unchanged(released, released)
        return record, placeholder(released, worth, str(error))
    with tempfile.TemporaryDirectory(prefix="rederive-") as folder:
        start = start_process(job.assignment, job.settings)
        result = notebooks.run(
            submission, seeds_of(job, data), start, job.settings.patience, job.files, Path(folder)
        )
    remark = UNSAFE if job.settings.unsafe else ""
    notebooks.fill(submission.notebook, result, worth, job.settings.trim, remark)
    record = record_of(result, worth) | {"unchanged": _unchanged(submission.notebook, released)}
    return record, as_text(submission.notebook)


def _unchanged(notebook: NotebookNode, released: NotebookNode) -> list[str]:
    """The answers that are still as they were released."""
    before = {cell.id: cell.source for cell in released.cells}
    return [
        cell.id
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution") and cell.source == before.get(cell.id)
    ]


def seeds_of(job: Job, data: bytes) -> Seeds:
    """The recorded seeds where there are some; new ones for the rest."""
    fresh = seeds(job.key, data)
    return lambda exercise: iter((job.again[exercise],)) if exercise in job.again else fresh(exercise)


def as_text(notebook: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def placeholder(released: NotebookNode, worth: Worth, why: str) -> str:
    """The released lesson with a note on top, where a notebook could not be read."""
    submission = notebooks.whole(released, released.metadata["rederive"]["lesson"], released, worth, root())
    text = f"**Not graded.** {why}"
    note = NotebookNode(cell_type="markdown", id="not-graded", metadata=NotebookNode(), source=text)
    submission.notebook.cells.insert(0, note)
    return as_text(submission.notebook)


def unreadable(lesson: str, worth: Worth, verdict: str, message: str) -> dict[str, Any]:
    """The record of a notebook that could not be graded at all."""
    nothing: dict[str, Any] = {
        exercise: {
            "score": 0.0,
            "max_score": points,
            "verdict": verdict,
            "requirements": {},
            "diagnosis": None,
            "seed": None,
            "message": message,
            "for_instructor": message,
        }
        for exercise, points in worth.items()
    }
    return {
        "lesson": lesson,
        "verdict": verdict,
        "message": message,
        "score": 0.0,
        "max_score": float(sum(worth.values())),
        "exercises": nothing,
        "notes": [],
        "unchanged": [],
    }


def record_of(result: NotebookResult, worth: Worth) -> dict[str, Any]:
    """A result as ``verdicts/`` keeps it, with the points of a class."""
    entries = {name: _exercise(graded, worth[name]) for name, graded in result.exercises.items()}
    verdicts = {graded.verdict for graded in result.exercises.values()}
    verdict = next((name for name in ORDER if name in verdicts), "ok")
    first = next((e["message"] for e in entries.values() if e["verdict"] == verdict and verdict != "ok"), "")
    return {
        "lesson": result.lesson,
        "verdict": verdict,
        "message": first,
        "score": sum(entry["score"] for entry in entries.values()),
        "max_score": float(sum(worth.values())),
        "exercises": entries,
        "notes": list(result.notes),
    }


def _exercise(graded: ExerciseResult, worth: float) -> dict[str, Any]:
    return {
        "score": scaled(graded.score, graded.max_score, worth),
        "max_score": worth,
        "verdict": graded.verdict,
        "requirements": {
            requirement.name: {
                "score": requirement.score,
                "max_score": requirement.points,
                "message": requirement.findings[0].message[:600] if requirement.findings else None,
            }
            for requirement in graded.requirements
        },
        "diagnosis": graded.diagnosis,
        "seed": graded.seed,
        "message": graded.first.message[:600] if graded.first is not None else "",
        "for_instructor": for_instructors(graded),
    }


_SANDBOXES: dict[tuple[str, Limits], Sandbox] = {}


def start_process(topic: str, settings: Settings) -> Start:
    """What starts the process of a notebook: in this worker's warm sandbox of the series, or unprotected.

    Raises:
        NoSandbox: there is none on this machine.
    """
    if settings.unsafe:
        return Plain
    key = (topic, settings.limits)
    if key not in _SANDBOXES:
        for other in list(_SANDBOXES.values()):  # one at a time: a warm process takes 0.4 GB
            other.close()
        _SANDBOXES.clear()
        _SANDBOXES[key] = Sandbox(imports(topic), settings.limits)
    return _SANDBOXES[key].start


def warm_up(topic: str, settings: Settings) -> str:
    """Import what a worker needs and start its sandbox; the fingerprint of what it grades with.

    Raises:
        NoSandbox: there is none on this machine.
    """
    from autograde.course import exercises

    torch.set_num_threads(1)
    exercises(topic)
    start = start_process(topic, settings)
    if not settings.unsafe:
        with tempfile.TemporaryDirectory() as folder:
            child = start(Path(folder))
            child.kill()
            child.pipe.close()
    return fingerprint()


@cache
def fingerprint() -> str:
    """What must be the same wherever one class is graded: versions, exercises, references and lessons."""
    found = hashlib.sha256()
    package = Path(__file__).resolve().parents[1]
    for folder, pattern in (
        (package, "**/*.py"),
        (package.parent / "utils", "**/*.py"),
        (root() / "lessons", "*/*.ipynb"),
    ):
        for path in sorted(folder.glob(pattern)):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    return (
        f"rederive {__version__}, Python {python}, torch {torch.__version__}, course {found.hexdigest()[:12]}"
    )


def sandbox_or_reason(settings: Settings) -> str:
    """Why other people's notebooks cannot be graded here; empty when they can."""
    from autograde.classroom.sandbox import why_not

    reason = "" if settings.unsafe else why_not()
    if not reason:
        return ""
    return (
        f"Notebooks of other people are graded in a sandbox only, and {reason}. To grade them with your own rights all the "
        "same (whatever they contain can then read and change what you can), use --unsafe, or set "
        "c.RunAndCheck.unsafe = True in nbgrader_config.py."
    )


def close_sandboxes() -> None:
    """End this process's warm sandboxes."""
    for sandbox in _SANDBOXES.values():
        with contextlib.suppress(OSError, NoSandbox):
            sandbox.close()
    _SANDBOXES.clear()
