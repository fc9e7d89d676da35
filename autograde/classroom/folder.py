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

import nbformat
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograde.build import build
from autograde.classroom.choice import FILE, Choice, default_text, read_choice, with_points
from autograde.classroom.settings import install
from autograde.course import CourseError, read_course, root
from autograde.lessons import LessonInfo, lesson_info
from autograde.progress import write_atomically

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
    def choice(self) -> Path:
        """Which exercises the class does."""
        return self.root / FILE

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
        """The configuration as traitlets reads it.

        Raises:
            CourseError: it is no Python, or stops with an error.
        """
        try:
            return PyFileConfigLoader(CONFIG, path=str(self.root)).load_config()
        except Exception as error:  # it is a program, and may fail in any way
            raise CourseError(f"{CONFIG} cannot be used: {type(error).__name__}: {error}.") from None


def make_class(folder: Path, topic: str, *more: str, notebook: str | None = None) -> ClassFolder:
    """Make a class folder, and register and release the notebooks of one or more series in it.

    Args:
        folder: a new folder.
        topic, more: the series.
        notebook: hand out only this one of the first series, such as ``01_vanilla_rnn``.

    Raises:
        CourseError: the folder is not empty, or a topic has no lessons, or not this one.
    """
    course = read_course()
    built_topics = [entry.name for entry in course.topics if not entry.planned]
    topics = list(dict.fromkeys((topic, *more)))
    for name in topics:
        if name not in built_topics:
            raise CourseError(
                f"There are no lessons for the topic {name!r}. There are: {', '.join(built_topics)}."
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder} is there already and not empty. Name a new folder.")
    made = ClassFolder(folder.resolve(), topic)
    sources = build(root()).sources
    offered = lessons_in(sources)
    if notebook is not None:
        offered = [lesson for lesson in offered if lesson.name == f"{topic}/{notebook}"]
        if not offered:
            raise CourseError(f"The series {topic!r} has no notebook {notebook!r}.")
    made.root.mkdir(parents=True, exist_ok=True)
    write_atomically(made.choice, default_text(offered, topics))
    shutil.copyfile(Path(__file__).parent / CONFIG, made.config)
    install()
    choice = read_choice(made.choice, lessons_in(sources))
    for name in topics:
        assignment = ClassFolder(made.root, name)
        for notebook, text in chosen_sources(sources, choice, name).items():
            write_atomically(assignment.source / notebook, text)
        convert("GenerateAssignment", assignment)
    return made


def lessons_in(sources: dict[str, str]) -> list[LessonInfo]:
    """What the source notebooks offer."""
    return [
        lesson_info(name.removesuffix(".ipynb"), nbformat.reads(text, 4)) for name, text in sources.items()
    ]


def chosen_sources(sources: dict[str, str], choice: Choice, topic: str) -> dict[str, str]:
    """The source notebooks of one series as a class does them, by file name."""
    return {
        f"{notebook}.ipynb": with_points(sources[f"{topic}/{notebook}.ipynb"], points)
        for notebook, points in choice.of(topic).items()
    }


def open_class(folder: Path, topic: str = "") -> ClassFolder:
    """A class folder that is there.

    Raises:
        CourseError: it is none.
    """
    if not (folder / CONFIG).is_file():
        raise CourseError(
            f"{folder.resolve()} is no class folder: it has no {CONFIG}. Go to the class's folder, or name it with "
            "--class."
        )
    return ClassFolder(folder.resolve(), topic)


def course_directory(folder: ClassFolder) -> Any:
    """nbgrader's ``CourseDirectory`` of a class: where it keeps submissions and the gradebook."""
    from nbgrader.coursedir import CourseDirectory

    return CourseDirectory(config=folder.settings())


def convert(converter: str, folder: ClassFolder, student: str = "*", *, force: bool = False) -> list[str]:
    """Run one of nbgrader's converters in a class folder, as its command line would.

    Args:
        converter: such as ``Autograde``.
        folder: the class, and the assignment.
        student: only this one.
        force: do again what was done before, as ``--force`` does.

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
    if force:
        config[converter].force = True
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
