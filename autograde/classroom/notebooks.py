"""One notebook that somebody handed in: made whole again, run, and filled with what it showed and earned.

Which cells are graded, what they say and what they are worth comes from the released lesson and from the class, never from
what was handed in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, output_from_msg

from autograde.classroom.choice import CHECK
from autograde.classroom.feedback import for_students
from autograde.course import exercises
from autograde.grade import ExerciseResult
from autograde.notebook import CheckFailed, NotWritten
from autograde.observe import plain_text
from autograde.process import Start
from autograde.report import as_html, as_text, headline
from autograde.run import NotebookResult, Patience, Seeds, grade_submission
from autograde.submission import CannotGrade, Submission, as_notebook, grade_id, plan

MAX_BYTES = 50_000_000
MAX_CELLS = 2_000
MAX_SOURCE = 1_000_000
MARK = "nbgrader"
HARMLESS = ("text/plain", "image/png", "image/jpeg")
"""Kinds of output that are kept. HTML, SVG and scripts of a student's would run in the browser of who reads the feedback."""
TAG = re.compile(r"<(?=[A-Za-z/!?])")
CONTROL = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters, but for the colours of a terminal."""
IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}")
Worth = Mapping[str, float]
"""By exercise: the points that it is worth in a class."""


@dataclass(frozen=True)
class Trim:
    """How much of a cell's output is kept for the feedback: lines of text, and characters of one output."""

    lines: int = 500
    characters: int = 2_000_000


def read(data: bytes, name: str) -> NotebookNode:
    """A notebook from the bytes of a file.

    Raises:
        CannotGrade: it is none, or larger than any honest one.
    """
    if len(data) > MAX_BYTES:
        raise CannotGrade(
            f"{name} has {len(data) / 1e6:.0f} MB, and {MAX_BYTES // 1_000_000} are the most. Clear its outputs and save it again."
        )
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        raise CannotGrade(f"{name} is no notebook: it is not valid JSON. Is the file complete?") from None
    notebook = as_notebook(parsed, name)
    if len(notebook.cells) > MAX_CELLS:
        raise CannotGrade(f"{name} has {len(notebook.cells):,} cells, and {MAX_CELLS:,} are the most.")
    if sum(len(cell.source) for cell in notebook.cells) > MAX_SOURCE:
        raise CannotGrade(f"The cells of {name} hold more than {MAX_SOURCE:,} characters.")
    return notebook


@dataclass
class _Repair:
    """Builds the notebook that is graded out of the one that was handed in."""

    released: NotebookNode
    worth: Worth
    names: set[str] = field(default_factory=set)
    """Ids that are taken."""

    def __post_init__(self) -> None:
        self.known = {
            cell.metadata[MARK].grade_id: cell for cell in self.released.cells if MARK in cell.metadata
        }
        self.released_ids = {cell.id for cell in self.released.cells}
        self.tags = {
            cell.id: cell.metadata["tags"] for cell in self.released.cells if "tags" in cell.metadata
        }

        self.texts = {cell.source for cell in self.released.cells}

    def check(self, exercise: str) -> NotebookNode:
        """The check cell of an exercise, as it was released."""
        cell = self.known[f"{CHECK}{exercise}"]
        self.names.add(cell.id)
        made = new_code_cell(cell.source, id=cell.id)
        if exercise in self.worth:
            made.metadata = NotebookNode(
                deletable=False, editable=False, nbgrader=NotebookNode(cell.metadata[MARK])
            )
            made.metadata.nbgrader.points = self.worth[exercise]
        return NotebookNode(made)

    def other(self, cell: NotebookNode, name: str | None, marked: bool) -> NotebookNode:
        """A cell that is no check: its text, and of its metadata only what the released lesson has.

        A cell that the lesson does not have keeps the tag by which its author leaves it out of grading.

        ``marked``: whether it is the cell that holds the answer ``name``.
        """
        kind = cell.cell_type if cell.cell_type in ("code", "markdown", "raw") else "raw"
        identity = cell.get("id")
        text = cell.source
        if kind != "code" and text not in self.texts:
            text = TAG.sub("&lt;", text)  # text of the student's own: HTML in it is shown, not run
        made = NotebookNode(cell_type=kind, source=text, metadata=NotebookNode())
        if kind == "code":
            made.update(outputs=[], execution_count=None)
        if marked and name is not None:
            made.metadata = NotebookNode(
                deletable=False, nbgrader=NotebookNode(self.known[name].metadata[MARK])
            )
            made.id = self.known[name].id
            return made
        if identity in self.released_ids:
            made.metadata.update({"tags": list(self.tags[identity])} if identity in self.tags else {})
        elif _is_demo(cell):
            made.metadata.tags = ["demo"]
        made.id = self._free(identity)
        return made

    def _free(self, wanted: object) -> str:
        if isinstance(wanted, str) and IDENTITY.fullmatch(wanted) and wanted not in self.names:
            chosen = wanted
        else:
            numbers = (f"cell-{i}" for i in range(len(self.names) + 1))
            chosen = next(name for name in numbers if name not in self.names)
        self.names.add(chosen)
        return chosen


def repaired(submission: Submission, released: NotebookNode, worth: Worth) -> tuple[NotebookNode, Submission]:
    """The notebook with each check once, as released, where it belongs; and the submission that says so.

    Outputs, tags, kernel and all other metadata are the released lesson's.
    """
    work = _Repair(released, worth)
    work.names |= {cell.id for cell in work.known.values()}
    cells: list[NotebookNode] = []
    moved: dict[int, int] = {}
    placed: dict[str, int] = {}
    checks = [step for step in submission.steps if step.check and step.exercise is not None]
    holder = _holders(submission.notebook, work.known, {step.exercise: step.cell for step in checks})
    for index, cell in enumerate(submission.notebook.cells):
        name = grade_id(cell, work.known)
        if name is None or not name.startswith(CHECK):
            moved[index] = len(cells)
            cells.append(work.other(cell, name, name is not None and holder[name] == index))
        for step in checks:
            if step.cell == index and step.exercise is not None:
                placed[step.exercise] = len(cells)
                cells.append(work.check(step.exercise))
    for step in checks:  # a notebook without cells
        if step.exercise is not None and step.exercise not in placed:
            placed[step.exercise] = len(cells)
            cells.append(work.check(step.exercise))
    notebook = NotebookNode(nbformat=4, nbformat_minor=5, cells=cells, metadata=_metadata(released))
    steps = tuple(
        replace(step, cell=placed[step.exercise] if step.check and step.exercise else moved.get(step.cell, 0))
        for step in submission.steps
    )
    return notebook, replace(submission, notebook=notebook, steps=steps)


def _holders(
    notebook: NotebookNode, known: Mapping[str, NotebookNode], checked: Mapping[str | None, int]
) -> dict[str, int]:
    """By name of an answer: the cell that holds it, of those that claim to. That is the last one above its check.

    Code comes before text. ``checked``: by exercise: the cell behind or at which its check stands.
    """
    found: dict[str, tuple[bool, bool, int]] = {}
    for index, cell in enumerate(notebook.cells):
        name = grade_id(cell, known)
        if name is not None:
            rank = (cell.cell_type == "code", index <= checked.get(name, -1), index)
            found[name] = max(found.get(name, rank), rank)
    return {name: index for name, (_, _, index) in found.items()}


def _is_demo(cell: NotebookNode) -> bool:
    tags = cell.metadata.get("tags")
    return isinstance(tags, list) and "demo" in tags


def _metadata(released: NotebookNode) -> NotebookNode:
    return NotebookNode(json.loads(json.dumps(released.metadata)))


def whole(
    notebook: NotebookNode, lesson: str, released: NotebookNode, worth: Worth, root: Path
) -> Submission:
    """A repaired submission of a lesson, of which only what the class does is looked at."""
    submission = plan(notebook, Path(f"{lesson}.ipynb"), root, lesson)
    submission = replace(submission, notes=(*submission.notes, *_changed_marks(notebook, released, worth)))
    _, submission = repaired(submission, released, worth)
    steps = tuple(step for step in submission.steps if not step.check or step.exercise in worth)
    return replace(submission, steps=steps)


def _changed_marks(notebook: NotebookNode, released: NotebookNode, worth: Worth) -> Iterator[str]:
    """Notes about checks whose type, or nbgrader's marks on them, are not as they were released."""
    known = {cell.metadata[MARK].grade_id: cell for cell in released.cells if MARK in cell.metadata}
    for cell in notebook.cells:
        name = grade_id(cell, known)
        if name is None or not name.startswith(CHECK):
            continue
        mark, wanted = cell.metadata.get(MARK), dict(known[name].metadata[MARK])
        points = {wanted["points"], worth.get(name.removeprefix(CHECK))}
        same = isinstance(mark, dict) and all(
            mark.get(key) == wanted.get(key) for key in ("grade", "locked", "solution")
        )
        if cell.cell_type != "code" or (
            mark is not None and not (same and isinstance(mark, dict) and mark.get("points") in points)
        ):
            yield f"The marks or the type of {name} were changed; it counts as it was released."


def run(
    submission: Submission,
    seeds: Seeds,
    start: Start,
    patience: Patience,
    files: Mapping[str, bytes],
    folder: Path,
) -> NotebookResult:
    """Run a submission and grade it."""
    return grade_submission(submission, folder, seeds, start=start, patience=patience, files=files)


def fill(notebook: NotebookNode, result: NotebookResult, worth: Worth, trim: Trim, remark: str = "") -> None:
    """Put what the cells showed, and the reports for the student, into a repaired notebook.

    Args:
        remark: stands in every report.
    """
    for index, outputs in result.outputs.items():
        notebook.cells[index].outputs = list(_kept(outputs, trim))
    for cell in notebook.cells:
        mark = cell.metadata.get(MARK, {})
        if mark.get("grade"):
            _report(cell, result, worth, remark)


def _kept(outputs: tuple[dict[str, Any], ...], trim: Trim) -> Iterator[NotebookNode]:
    room = trim.lines
    for output in map(_harmless, map(_as_text, outputs)):
        if output.get("output_type") == "stream":
            lines = str(output.get("text", ""))[: trim.characters].split("\n")
            if room >= 0 and len(lines) > room:
                lines = [*lines[: max(room - 1, 0)], "... Output truncated ..."]
            if room == 0:
                continue
            room = room - len(lines) if room > 0 else room
            output = {**output, "text": "\n".join(lines)}
        elif len(json.dumps(output, default=str)) > trim.characters:
            text = "An output of this cell was left out: it is too large.\n"
            output = {"output_type": "stream", "name": "stdout", "text": text}
        try:
            yield as_node(output)
        except Exception:  # the notebook's process may send anything
            continue


def _as_text(part: Any) -> Any:
    """The same with texts that every file takes."""
    if isinstance(part, dict):
        return {_as_text(key): _as_text(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_as_text(item) for item in part]
    return CONTROL.sub("", plain_text(part)) if isinstance(part, str) else part


def _harmless(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data")
    if not isinstance(data, dict):
        return output
    kept = {kind: value for kind, value in data.items() if kind in HARMLESS}
    return {**output, "data": kept or {"text/plain": "(an output that is not shown here)"}, "metadata": {}}


def as_node(output: Mapping[str, Any]) -> NotebookNode:
    """An output in notebook format."""
    kind = output["output_type"]
    content = {key: value for key, value in output.items() if key != "output_type"}
    message = {"header": {"msg_type": kind}, "content": content, "msg_type": kind}
    node: NotebookNode = output_from_msg(message)
    return node


def scaled(score: float, max_score: float, worth: float) -> float:
    """A score out of ``max_score`` points as one out of ``worth``."""
    return float(score) if worth == max_score else score * worth / max_score


def _report(cell: NotebookNode, result: NotebookResult, worth: Worth, remark: str) -> None:
    """The report as the check cell's output, and an error where it failed, as a check in a notebook leaves it."""
    name = cell.metadata.nbgrader.grade_id.removeprefix(CHECK)
    full = result.exercises.get(name)
    if full is None:
        cell.outputs = []
        return
    topic = result.lesson.split("/")[0]
    graded = for_students(full, exercises(topic)[name])
    text, html = as_text(graded, topic), as_html(graded, topic)
    notes = [remark] if remark else []
    if worth[name] != graded.max_score:
        points = scaled(graded.score, graded.max_score, worth[name])
        notes.append(f"In this class the exercise is worth {worth[name]:g} points: this earns {points:.4g}.")
    for note in notes:
        text, html = f"{text}\n  {note}", f"{html}\n<p>{note}</p>"
    bundle = {"text/plain": text, "text/html": html}
    cell.outputs = [as_node({"output_type": "display_data", "data": bundle, "metadata": {}})]
    if not graded.ok:
        cell.outputs.append(as_node(_error(graded)))


def _error(graded: ExerciseResult) -> dict[str, Any]:
    kind = NotWritten if graded.not_written else CheckFailed
    line = headline(graded)
    return {
        "output_type": "error",
        "ename": kind.__name__,
        "evalue": line,
        "traceback": [f"{kind.__name__}: {line}"],
    }
