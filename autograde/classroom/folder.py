"""A class folder for nbgrader: configuration, source notebooks, release, gradebook."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograde.build import build
from autograde.classroom.settings import install
from autograde.course import CourseError, read_course, root

CONFIG = "nbgrader_config.py"


@dataclass(frozen=True)
class ClassFolder:
    """Where things are in a class folder, in nbgrader's own structure."""

    root: Path
    topic: str

    @property
    def config(self) -> Path:
        """nbgrader's configuration."""
        return self.root / CONFIG

    @property
    def source(self) -> Path:
        """Notebooks with solutions."""
        return self.root / "source" / self.topic

    @property
    def release(self) -> Path:
        """What is handed out."""
        return self.root / "release" / self.topic

    def submitted(self, student: str) -> Path:
        """Where a student's notebooks are put."""
        return self.root / "submitted" / student / self.topic

    def autograded(self, student: str) -> Path:
        """What nbgrader ran."""
        return self.root / "autograded" / student / self.topic

    def settings(self) -> Config:
        """The configuration as traitlets reads it."""
        return PyFileConfigLoader(CONFIG, path=str(self.root)).load_config()


def make_class(folder: Path, topic: str) -> ClassFolder:
    """Make a class folder, and register and release the notebooks of a series in it.

    Raises:
        CourseError: the folder is not empty, or the topic has no lessons.
    """
    course = read_course()
    built_topics = [entry.name for entry in course.topics if not entry.planned]
    if topic not in built_topics:
        raise CourseError(
            f"There are no lessons for the topic {topic!r}. There are: {', '.join(built_topics)}."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder} is there already and not empty. Name a new folder.")
    made = ClassFolder(folder.resolve(), topic)
    made.source.mkdir(parents=True)
    for name, text in build(root()).sources.items():
        if name.startswith(f"{topic}/"):
            (made.root / "source" / name).write_text(text, encoding="utf-8")
    shutil.copyfile(Path(__file__).parent / CONFIG, made.config)
    install()
    convert("GenerateAssignment", made)
    return made


def convert(converter: str, folder: ClassFolder, student: str = "*") -> list[str]:
    """Run one of nbgrader's converters in a class folder, as its command line would.

    Returns:
        nbgrader's warnings.

    Raises:
        CourseError: nbgrader stopped; the message holds its errors.
    """
    from nbgrader import converters
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory

    config = folder.settings()
    config.CourseDirectory.assignment_id = folder.topic
    config.CourseDirectory.student_id = student
    messages: list[tuple[int, str]] = []
    kind: Any = getattr(converters, converter)
    work = kind(coursedir=CourseDirectory(config=config), config=config, parent=None)
    work.log = _collect(messages)
    try:
        with in_folder(folder.root), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SQLAlchemy's, about nbgrader's own sessions
            work.start()
    except (NbGraderException, SystemExit) as error:
        errors = [text for level, text in messages if level >= logging.ERROR]
        raise CourseError("\n".join([f"nbgrader's {converter} stopped: {error}", *errors])) from None
    return [text for level, text in messages if level == logging.WARNING]


def _collect(messages: list[tuple[int, str]]) -> logging.Logger:
    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # As text at once: a record of nbgrader's may hold a database object, which is gone later.
            messages.append((record.levelno, record.getMessage()))

    logger = logging.Logger("rederive.nbgrader", logging.WARNING)
    logger.addHandler(Keep())
    return logger


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """nbgrader works in the current folder, and does not always go back; its programs must be found."""
    before, path = os.getcwd(), os.environ.get("PATH", "")
    os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + path  # alembic makes the gradebook
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ["PATH"] = path
