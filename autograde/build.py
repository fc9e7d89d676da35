"""From the sources of lessons to what learners open: ``solutions/`` to nbgrader's source notebooks to ``lessons/``."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograde.course import CourseError, exercises, read_course
from autograde.coursemap import MAP, map_notebook
from autograde.lessons import METADATA, digest, edited, lesson_info
from autograde.progress import write_atomically
from autograde.readme import with_topics
from autograde.sources import Source, SourceCell, complaints, read_sources
from autograde.version import __version__

README = "README.md"
LESSONS = "lessons"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "name": "python",
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "pygments_lexer": "ipython3",
}


class BuildRefused(CourseError):
    """The lessons cannot be built; ``reasons`` has one line for each thing to mend."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Built:
    """What a build would write: texts by path relative to ``lessons/``."""

    lessons: dict[str, str]
    """Released notebooks and the course map."""
    sources: dict[str, str]
    """nbgrader's source notebooks, with solutions, by path relative to the source folder."""
    readme: str
    """README.md with its table of topics."""


def build(root: Path) -> Built:
    """Build everything in memory.

    Raises:
        BuildRefused: something in the sources or in ``course.toml`` has to be mended first.
    """
    course = read_course(root)
    solutions = root / "solutions"
    sources = read_sources(solutions, course)
    reasons = complaints(sources, course, solutions)
    if reasons:
        raise BuildRefused(reasons)
    with_solutions = {f"{source.name}.ipynb": to_text(source_notebook(source)) for source in sources}
    lessons = release(with_solutions)
    infos = [
        lesson_info(name.removesuffix(".ipynb"), nbformat.reads(text, 4)) for name, text in lessons.items()
    ]
    lessons[MAP] = to_text(map_notebook(course, root, infos))
    try:
        text = (root / README).read_text(encoding="utf-8")
    except OSError:
        raise CourseError(f"There is no {README} in {root}.") from None
    readme = with_topics(text, course, infos)
    return Built(lessons, with_solutions, readme)


def source_notebook(source: Source) -> NotebookNode:
    """The notebook with solutions, with nbgrader's metadata; cell ids depend on titles and texts alone."""
    seen: dict[str, int] = {}
    cells = [_cell(cell, source, seen) for cell in source.cells]
    metadata = {
        "kernelspec": KERNEL,
        "language_info": LANGUAGE,
        METADATA: {"lesson": source.name, "version": __version__},
    }
    notebook: NotebookNode = new_notebook(cells=cells, metadata=metadata)
    return notebook


def _cell(cell: SourceCell, source: Source, seen: dict[str, int]) -> Any:
    identity = cell.title if cell.title else _hashed_id(cell, seen)
    if cell.kind == "markdown":
        return new_markdown_cell(cell.source, id=identity)
    metadata: dict[str, Any] = {}
    if "demo" in cell.tags:
        metadata["tags"] = ["demo"]
    if "exercise" in cell.tags:
        metadata["nbgrader"] = _nbgrader(identity, solution=True)
    if "check" in cell.tags and cell.exercise is not None:
        metadata["nbgrader"] = _nbgrader(identity, points=exercises(source.topic)[cell.exercise].points)
    return new_code_cell(cell.source, id=identity, metadata=metadata)


def _hashed_id(cell: SourceCell, seen: dict[str, int]) -> str:
    digest = hashlib.sha256(f"{cell.kind}\0{cell.source}".encode()).hexdigest()[:12]
    seen[digest] = seen.get(digest, 0) + 1
    return f"{digest}-{seen[digest]}"


def _nbgrader(grade_id: str, *, solution: bool = False, points: int | None = None) -> dict[str, Any]:
    grade = points is not None
    entry: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": grade,
        "solution": solution,
        "locked": grade,
        "task": False,
    }
    return entry | ({"points": points} if grade else {})


def release(with_solutions: dict[str, str]) -> dict[str, str]:
    """What nbgrader's own GenerateAssignment makes of the source notebooks."""
    with tempfile.TemporaryDirectory(prefix="rederive-build-") as folder:
        root = Path(folder)
        for name, text in with_solutions.items():
            path = root / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for topic in sorted({name.split("/")[0] for name in with_solutions}):
            _generate(root, topic)
        return {name: _released(root / "release" / name) for name in with_solutions}


def _generate(root: Path, topic: str) -> None:
    from nbgrader import preprocessors as steps
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.assignment_id = topic
    config.GenerateAssignment.no_database = True
    config.GenerateAssignment.preprocessors = [
        steps.LockCells,
        steps.ClearSolutions,
        steps.ClearOutput,
        steps.CheckCellMetadata,
        steps.ComputeChecksums,
        steps.ClearHiddenTests,
        steps.ClearMarkScheme,
        steps.ComputeChecksums,
        steps.CheckCellMetadata,
    ]
    messages: list[str] = []
    converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config, parent=None)
    converter.log = _logger(messages)
    try:
        with _same_folder():
            converter.start()
    except (NbGraderException, SystemExit) as error:
        raise BuildRefused([f"nbgrader could not release {topic}: {error}", *messages]) from None


def _logger(messages: list[str]) -> logging.Logger:
    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.Logger("rederive.build", logging.ERROR)
    logger.addHandler(Keep())
    return logger


@contextlib.contextmanager
def _same_folder() -> Iterator[None]:
    """nbgrader changes the working directory, and does not always change it back."""
    before = os.getcwd()
    try:
        yield
    finally:
        os.chdir(before)


def _released(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata[METADATA]["digest"] = digest(notebook)
    return to_text(notebook)


def worked_in(path: Path) -> bool:
    """Whether somebody has changed a cell of this lesson, or run it."""
    if edited(path):
        return True
    return any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)


def to_text(notebook: NotebookNode) -> str:
    """A notebook as text: the same cells give the same bytes."""
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook, version=4)).rstrip("\n") + "\n"


def write(built: Built, root: Path) -> list[str]:
    """Write the lessons and the README's table where they changed, and remove lessons without a source.

    Returns:
        The paths that were written or removed, relative to ``root``.

    Raises:
        BuildRefused: somebody has worked in a file that would be replaced. Nothing has been written then.
    """
    lessons, changes = root / LESSONS, differences(built, root)
    busy = [name for name in changes if name != README and (root / name).exists() and worked_in(root / name)]
    if busy:
        raise BuildRefused(
            [
                f"{name} has been worked in, and building would overwrite it. Move it into work/ (it opens there as "
                f"well), then run `git checkout {name}` and build again."
                for name in busy
            ]
        )
    texts = _texts(built)
    for name in changes:
        if name in texts:
            write_atomically(root / name, texts[name])
        else:
            (root / name).unlink()
    for folder in lessons.glob("*/"):
        if not any(folder.iterdir()):
            folder.rmdir()
    return changes


def _texts(built: Built) -> dict[str, str]:
    """Every file of a build by its path relative to the course's folder."""
    return {f"{LESSONS}/{name}": text for name, text in built.lessons.items()} | {README: built.readme}


def differences(built: Built, root: Path) -> list[str]:
    """Paths, relative to ``root``, whose content is not exactly what the build gives."""
    texts = _texts(built)
    there = {path.relative_to(root).as_posix() for path in (root / LESSONS).glob("**/*.ipynb")}
    there = {name for name in there if ".ipynb_checkpoints" not in name}
    return [name for name in sorted(there | set(texts)) if not _equal(root / name, texts.get(name))]


def _equal(path: Path, text: str | None) -> bool:
    return text is not None and path.is_file() and path.read_text(encoding="utf-8") == text
