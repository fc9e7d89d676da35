"""nbgrader's Execute and SaveAutoGrades with our verdicts: cells run in a process of their own, grades are made here.

A class's ``nbgrader_config.py`` sets ``c.Autograde.sanitize_preprocessors`` and ``autograde_preprocessors`` to the two
lists here. What an exercise is worth is read from the gradebook, which has it from ``class.toml``: so a score and the
points that it is out of always belong together.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbformat.v4 import output_from_msg
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades

from autograde.classroom.choice import CHECK
from autograde.course import root
from autograde.notebook import GRADED_SEED, CheckFailed, NotWritten
from autograde.report import as_html, as_text, headline
from autograde.run import NotebookResult, grade_submission
from autograde.submission import plan

SANITIZE_STEPS = [
    "autograde.classroom.preprocessors.OnlyKnownCells",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
AUTOGRADE_STEPS = [
    "autograde.classroom.preprocessors.RunAndCheck",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "autograde.classroom.preprocessors.SaveVerdicts",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
KEY = "rederive"


class OnlyKnownCells(NbGraderPreprocessor):  # type: ignore[misc]
    """Takes nbgrader's marks off cells that the gradebook does not know.

    A notebook that was fetched before an exercise was left out still marks its check as graded. nbgrader would refuse
    the whole submission.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Leave the marks of source cells alone, and delete all others."""
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as book:
            known = {
                cell.name for cell in book.find_notebook(where["notebook"], where["assignment"]).source_cells
            }
        for cell in nb.cells:
            entry = cell.metadata.get("nbgrader")
            if entry is not None and not (isinstance(entry, dict) and entry.get("grade_id") in known):
                del cell.metadata["nbgrader"]
        return nb, resources


class RunAndCheck(NbGraderPreprocessor):  # type: ignore[misc]
    """Runs the notebook in a process of its own, and puts outputs and reports into its cells."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Grade the notebook; the scores by check cell go into ``resources``."""
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as book:
            cells = book.find_notebook(where["notebook"], where["assignment"]).grade_cells
            worth = {cell.name.removeprefix(CHECK): float(cell.max_score) for cell in cells}
        submission = plan(nb, Path(f"{where['assignment']}/{where['notebook']}.ipynb"), root())
        steps = tuple(step for step in submission.steps if not step.check or step.exercise in worth)
        submission = replace(submission, steps=steps)
        result = grade_submission(submission, Path(resources["metadata"]["path"]), GRADED_SEED)
        for index, outputs in result.outputs.items():
            nb.cells[index].outputs = [_as_node(output) for output in outputs]
        for cell in nb.cells:
            if utils.is_grade(cell):
                _report(cell, result, worth)
        resources[KEY] = {
            f"{CHECK}{name}": scaled(graded.score, graded.max_score, worth[name])
            for name, graded in result.exercises.items()
        }
        return nb, resources


def scaled(score: float, max_score: float, worth: float) -> float:
    """A score out of ``max_score`` points as one out of ``worth``."""
    return float(score) if worth == max_score else score * worth / max_score


def _as_node(output: dict[str, Any]) -> NotebookNode:
    kind = output["output_type"]
    content = {key: value for key, value in output.items() if key != "output_type"}
    message = {"header": {"msg_type": kind}, "content": content, "msg_type": kind}
    node: NotebookNode = output_from_msg(message)
    return node


def _report(cell: NotebookNode, result: NotebookResult, worth: dict[str, float]) -> None:
    """The report as the check cell's output, and an error where it failed, as a check in a notebook leaves it."""
    name = cell.metadata.nbgrader.grade_id.removeprefix(CHECK)
    graded = result.exercises.get(name)
    if graded is None:
        cell.outputs = []
        return
    topic = result.lesson.split("/")[0]
    text, html = as_text(graded, topic), as_html(graded, topic)
    if worth[name] != graded.max_score:
        points = scaled(graded.score, graded.max_score, worth[name])
        note = f"In this class the exercise is worth {worth[name]:g} points: this earns {points:.4g}."
        text, html = f"{text}\n  {note}", f"{html}\n<p>{note}</p>"
    bundle = {"text/plain": text, "text/html": html}
    cell.outputs = [_as_node({"output_type": "display_data", "data": bundle, "metadata": {}})]
    if not graded.ok:
        kind = NotWritten if graded.not_written else CheckFailed
        line = headline(graded)
        error = {"ename": kind.__name__, "evalue": line, "traceback": [f"{kind.__name__}: {line}"]}
        cell.outputs.append(_as_node({"output_type": "error", **error}))


class SaveVerdicts(SaveAutoGrades):  # type: ignore[misc]
    """Writes the scores that ``RunAndCheck`` found; a check cell without one gets zero."""

    def _add_score(self, cell: NotebookNode, resources: ResourcesDict) -> None:
        grade = self.gradebook.find_grade(
            cell.metadata["nbgrader"]["grade_id"], self.notebook_id, self.assignment_id, self.student_id
        )
        grade.auto_score = float(resources.get(KEY, {}).get(cell.metadata["nbgrader"]["grade_id"], 0))
        grade.needs_manual_grade = grade.manual_score is not None
        self.gradebook.db.commit()
