"""What a learner has passed, remembered beside their work.

One small file for each exercise below ``work/.rederive/progress``, so that two notebooks never write the same one.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = ".rederive"


@dataclass(frozen=True)
class Record:
    """The latest result of one exercise, and whether it ever passed."""

    exercise: str
    score: float
    max_score: float
    passed: bool
    version: str


def find_work(start: Path | None = None) -> Path | None:
    """The learner's work folder: the nearest one upwards from ``start`` that holds ``.rederive``."""
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / FOLDER).is_dir()), None)


def record(work: Path, lesson: str, result: Record) -> None:
    """Remember a result. An exercise that was passed once stays passed. Never raises for a disk that is full."""
    path = work / FOLDER / "progress" / lesson / f"{result.exercise}.json"
    before = _read(path)
    passed = result.passed or (before is not None and before.passed)
    kept = Record(result.exercise, result.score, result.max_score, passed, result.version)
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(asdict(kept)))


def results(work: Path, lesson: str) -> dict[str, Record]:
    """The remembered results of a lesson, by exercise."""
    folder = work / FOLDER / "progress" / lesson
    found = (_read(path) for path in sorted(folder.glob("*.json")))
    return {entry.exercise: entry for entry in found if entry is not None}


def _read(path: Path) -> Record | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Record(
            str(data["exercise"]),
            float(data["score"]),
            float(data["max_score"]),
            bool(data["passed"]),
            str(data["version"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
