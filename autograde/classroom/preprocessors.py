"""nbgrader's steps with our verdicts, so that ``nbgrader autograde`` and the formgrader's button use them, too.

A class's ``nbgrader_config.py`` sets ``c.Autograde.sanitize_preprocessors`` and ``autograde_preprocessors`` to the two
lists here. What an exercise is worth is read from the gradebook, which has it from ``class.toml``: so a score and the
points that it is out of always belong together. ``autograde grade`` does the same for a whole class, and faster.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import LimitOutput, NbGraderPreprocessor, SaveAutoGrades
from traitlets import Bool, Float, Integer

from autograde.classroom import notebooks
from autograde.classroom.choice import CHECK
from autograde.classroom.folder import ClassFolder
from autograde.classroom.grader import UNSAFE, Settings, as_text, record_of, sandbox_or_reason, start_process
from autograde.classroom.handed_in import collect
from autograde.classroom.notebooks import Trim, Worth
from autograde.classroom.recorder import set_grade
from autograde.classroom.records import Records
from autograde.classroom.seeds import class_secret, seeds, submission_key
from autograde.confine import Limits
from autograde.course import CourseError, root
from autograde.lessons import read_lesson
from autograde.run import Patience
from autograde.submission import Submission

SANITIZE_STEPS = ["autograde.classroom.preprocessors.MakeWhole"]
AUTOGRADE_STEPS = [
    "autograde.classroom.preprocessors.RunAndCheck",
    "nbgrader.preprocessors.IgnorePattern",
    "nbgrader.preprocessors.LimitOutput",
    "autograde.classroom.preprocessors.SaveVerdicts",
    "nbgrader.preprocessors.AssignLatePenalties",
]
KEY = "rederive"
NOTES = "rederive_notes"


def _worth(where: Any) -> Worth:
    """By exercise: the points that the gradebook has."""
    with Gradebook(where["db_url"]) as book:
        cells = book.find_notebook(where["notebook"], where["assignment"]).grade_cells
        return {cell.name.removeprefix(CHECK): float(cell.max_score) for cell in cells}


def _submission(nb: NotebookNode, where: Any) -> Submission:
    lesson = f"{where['assignment']}/{where['notebook']}"
    return notebooks.whole(nb, lesson, read_lesson(root(), lesson), _worth(where), root())


class MakeWhole(NbGraderPreprocessor):  # type: ignore[misc]
    """Each check stands once, as released, where it belongs; outputs, tags and other metadata are the lesson's own."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Put the repaired notebook in the place of the one that was handed in."""
        submission = _submission(nb, resources["nbgrader"])
        for note in submission.notes:
            self.log.warning(note)
        submission.notebook.metadata[NOTES] = list(
            submission.notes
        )  # for the next step, which reads the file again
        return submission.notebook, resources


class RunAndCheck(NbGraderPreprocessor):  # type: ignore[misc]
    """Runs the notebook in a sandbox, and puts outputs and reports into its cells. Its settings are those of a class."""

    cell_seconds = Float(60.0, help="Seconds that a cell may run.").tag(config=True)
    look_seconds = Float(20.0, help="Seconds that one look at a function may take.").tag(config=True)
    notebook_seconds = Float(900.0, help="Seconds that a whole notebook may take.").tag(config=True)
    cpu_seconds = Integer(300, help="Seconds of the processor that a notebook may use.").tag(config=True)
    memory_gb = Float(2.0, help="Memory that a notebook may use, in GB.").tag(config=True)
    processes = Integer(128, help="Processes and threads that a notebook may have.").tag(config=True)
    disk_mb = Integer(200, help="What a notebook may write, in MB.").tag(config=True)
    unsafe = Bool(
        False, help="Grade without a sandbox: what students hand in runs with your rights. It is marked."
    ).tag(config=True)

    def grading_settings(self, unsafe: bool = False) -> Settings:
        """These settings as the grader takes them."""
        lines = int(LimitOutput(config=self.config).max_lines)
        return Settings(
            Patience(self.cell_seconds, self.look_seconds, self.notebook_seconds),
            Limits(self.cpu_seconds, int(self.memory_gb * 1e9), self.processes, self.disk_mb * 1_000_000),
            Trim(lines=lines),
            unsafe or self.unsafe,
        )

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Grade the notebook; its record goes into ``resources``."""
        where, settings = resources["nbgrader"], self.grading_settings()
        reason = sandbox_or_reason(settings)
        if reason:
            raise CourseError(reason)
        if settings.unsafe:
            self.log.warning("UNSAFE: grading without a sandbox.")
        worth, submission = _worth(where), _submission(nb, where)
        folder = Path(resources["metadata"]["path"])
        key = submission_key(class_secret(Path.cwd()), where["assignment"], where["student"])
        with tempfile.TemporaryDirectory(prefix="rederive-") as place:
            result = notebooks.run(
                submission,
                seeds(key, as_text(nb).encode("utf-8", "backslashreplace")),
                start_process(where["assignment"], settings),
                settings.patience,
                collect(folder, [where["notebook"]]).files,
                Path(place),
            )
        remark = UNSAFE if settings.unsafe else ""
        notebooks.fill(submission.notebook, result, worth, settings.trim, remark)
        entry = record_of(result, worth)
        entry["notes"] = [*nb.metadata.get(NOTES, ()), *entry["notes"]]
        resources[KEY] = entry
        _keep(where, resources[KEY], settings)
        return submission.notebook, resources


def _keep(where: Any, entry: dict[str, Any], settings: Settings) -> None:
    """Add a notebook's record to those of its student."""
    records = Records(ClassFolder(Path.cwd(), where["assignment"]))
    student = where["student"]
    before = records.read(student) or {"notebooks": {}}
    kept = {
        "student": student,
        "number": records.numbers([student])[student],
        "assignment": where["assignment"],
        "unsafe": settings.unsafe,
        "handed_in": "",  # by nbgrader: `autograde grade` does not take it for its own
        "left_out": [],
        "recorded": True,
        "notebooks": before["notebooks"] | {where["notebook"]: entry},
    }
    records.write(student, json.loads(json.dumps(kept)))


class SaveVerdicts(SaveAutoGrades):  # type: ignore[misc]
    """Writes the scores that ``RunAndCheck`` found; a check cell without one gets zero."""

    def _add_score(self, cell: NotebookNode, resources: ResourcesDict) -> None:
        name = cell.metadata["nbgrader"]["grade_id"]
        grade = self.gradebook.find_grade(name, self.notebook_id, self.assignment_id, self.student_id)
        entry = resources.get(KEY, {}).get("exercises", {}).get(name.removeprefix(CHECK))
        set_grade(grade, entry)
        self.gradebook.db.commit()
