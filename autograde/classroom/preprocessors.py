"""nbgrader's Execute and SaveAutoGrades with our verdicts: cells run in a process of their own, grades are made here.

A class's ``nbgrader_config.py`` sets ``c.Autograde.autograde_preprocessors = AUTOGRADE_STEPS``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbformat.v4 import output_from_msg
from nbgrader import utils
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades

from autograde.course import root
from autograde.notebook import GRADED_SEED, CheckFailed, NotWritten
from autograde.report import as_html, as_text, headline
from autograde.run import NotebookResult, grade_submission
from autograde.submission import plan

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


class RunAndCheck(NbGraderPreprocessor):  # type: ignore[misc]
    """Runs the notebook in a process of its own, and puts outputs and reports into its cells."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Grade the notebook; the scores by check cell go into ``resources``."""
        name = f"{resources['nbgrader']['assignment']}/{resources['nbgrader']['notebook']}"
        submission = plan(nb, Path(f"{name}.ipynb"), root())
        result = grade_submission(submission, Path(resources["metadata"]["path"]), GRADED_SEED)
        for index, outputs in result.outputs.items():
            nb.cells[index].outputs = [_as_node(output) for output in outputs]
        for cell in nb.cells:
            if utils.is_grade(cell):
                _report(cell, result)
        resources[KEY] = {f"check_{exercise}": graded.score for exercise, graded in result.exercises.items()}
        return nb, resources


def _as_node(output: dict[str, Any]) -> NotebookNode:
    kind = output["output_type"]
    content = {key: value for key, value in output.items() if key != "output_type"}
    message = {"header": {"msg_type": kind}, "content": content, "msg_type": kind}
    node: NotebookNode = output_from_msg(message)
    return node


def _report(cell: NotebookNode, result: NotebookResult) -> None:
    """The report as the check cell's output, and an error where it failed, as a check in a notebook leaves it."""
    name = cell.metadata.nbgrader.grade_id.removeprefix("check_")
    graded = result.exercises.get(name)
    if graded is None:
        cell.outputs = []
        return
    topic = result.lesson.split("/")[0]
    bundle = {"text/plain": as_text(graded, topic), "text/html": as_html(graded, topic)}
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
