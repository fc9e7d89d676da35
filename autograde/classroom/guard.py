"""Steps of nbgrader's ``Autograde`` that trust what was handed in, replaced by ones that do not.

nbgrader copies a submission's files and follows links while it does so, and a notebook that is no valid JSON ends the
grading of that student without a grade. A class's configuration calls ``install``. From then on a configuration that has lost the
course's steps grades nobody. These are methods of nbgrader's that
are not meant to be replaced: ``tests/classroom/test_guard.py`` tells when they change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograde.classroom import notebooks
from autograde.classroom.handed_in import collect
from autograde.course import root
from autograde.lessons import read_lesson
from autograde.notebook import STOCK, WITHOUT_OUR_STEPS
from autograde.submission import CannotGrade

_INSTALLED: list[bool] = []


def install() -> None:
    """Replace the steps in this process, once."""
    from nbgrader.converters.autograde import Autograde
    from nbgrader.converters.base import BaseConverter

    if _INSTALLED:
        return
    _INSTALLED.append(True)
    starts = BaseConverter.start
    copies, converts = BaseConverter.init_assignment, BaseConverter.convert_single_notebook

    def start(self: Any) -> None:
        if isinstance(self, Autograde):
            refuse_without_our_steps(self)
        starts(self)

    def init_assignment(self: Any, assignment_id: str, student_id: str) -> None:
        if isinstance(self, Autograde):
            copy_files(self, assignment_id, student_id)
        else:
            copies(self, assignment_id, student_id)

    def convert_single_notebook(self: Any, notebook_filename: str) -> None:
        if isinstance(self, Autograde) and self._sanitizing:
            resources = self.init_single_notebook_resources(notebook_filename)
            node = read_or_replace(Path(notebook_filename), resources["nbgrader"], self.log)
            self.write_single_notebook(*self.exporter.from_notebook_node(node, resources=resources))
        else:
            converts(self, notebook_filename)

    BaseConverter.start = start
    BaseConverter.init_assignment = init_assignment
    BaseConverter.convert_single_notebook = convert_single_notebook


def has_our_steps(named: Iterable[Any]) -> bool:
    """Whether these steps of a configuration include all of the course's own."""
    from autograde.classroom.preprocessors import AUTOGRADE_STEPS, SANITIZE_STEPS

    ours = {step for step in (*SANITIZE_STEPS, *AUTOGRADE_STEPS) if step.startswith("autograde.")}
    return ours <= set(map(str, named))


def refuse_without_our_steps(converter: Any) -> None:
    """Stop nbgrader where its own steps would grade: they give full marks to a check that was never run.

    Raises:
        NbGraderException: the course's steps are not in the configuration.
    """
    from nbgrader.converters.base import NbGraderException

    named = (*converter.sanitize_preprocessors, *converter.autograde_preprocessors)
    if not has_our_steps(named) and os.environ.get(STOCK) != "1":
        converter.log.error(WITHOUT_OUR_STEPS)
        raise NbGraderException(WITHOUT_OUR_STEPS)


def copy_files(converter: Any, assignment: str, student: str) -> None:
    """Copy a submission's regular files; what is left out is logged."""
    source = Path(converter._format_source(assignment, student))
    place = Path(converter._format_dest(assignment, student))
    found = collect(source, [Path(name).stem for name in converter.notebooks])
    for note in found.notes:
        converter.log.warning(note)
    for name, data in found.files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    stamp = source / "timestamp.txt"
    if stamp.is_file() and not stamp.is_symlink():
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stamp, place / stamp.name, follow_symlinks=False)


def read_or_replace(path: Path, where: dict[str, str], log: Any) -> NotebookNode:
    """The notebook of a file; where it cannot be read, the released lesson with nothing written."""
    found = collect(path.parent, [path.stem])
    try:
        data = found.notebooks.get(path.stem)
        if data is None:
            raise CannotGrade(f"{path.name} is too large, or no regular file.")
        return notebooks.read(data, path.name)
    except CannotGrade as error:
        log.error("malformed: %s", error)
        node = read_lesson(root(), f"{where['assignment']}/{where['notebook']}")
        node.cells.insert(
            0,
            NotebookNode(
                cell_type="markdown", id="not-graded", metadata={}, source=f"**Not graded.** {error}"
            ),
        )
        return node
