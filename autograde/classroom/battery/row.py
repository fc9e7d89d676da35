"""One hostile submission: what it hands in, and what has to come of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograde.classroom.battery.scene import CHECK, Scene, aimed_at_cost

Score = Callable[[Scene], float]
Write = Callable[[Scene, Path], None]
Edit = Callable[[NotebookNode, Scene], None]

REACHED = "REACHED"
"""A submission prints this word and what it got hold of, where that should have been out of its reach."""
TRACE = "rederive-battery"
"""Files in /tmp and processes that a submission leaves behind carry this name, so that a test can look for them."""

MISSING = "missing"
"""The verdict of a notebook that was not handed in, or left out."""

_PRELUDE = '''
_seen = globals().get("_seen", [])
def reached(what):
    """Says so in this cell's output, and again in the last one: what is printed during a check may not be kept."""
    line = "REA" + "CHED " + ascii(what)[:200]
    if line not in _seen:
        _seen.append(line)
        print(line)
'''
_LAST_CELL = 'print("\\n".join(globals().get("_seen", [])))\n'


@dataclass(frozen=True)
class Row:
    """A hostile submission and its right outcome.

    Attributes:
        number: as in the table of the battery; our own ones begin with A.
        title: what it does, for a class's table.
        reason: why the outcome is right.
        write: writes the files that are handed in into a folder that is there and empty.
        verdicts: of the target exercise; any of these is right.
        score: the points that it gets.
        least: where less than that is right, too: the fewest points.
        whole: the verdict is the notebook's, not that of one exercise.
        noted: words that a note to the grader has to contain; {check}, {target} and {file} are filled in.
        harms: without a sandbox it would do harm to the machine, or to whoever grades.
        costly: the answer is the one that is right but for what it costs.
    """

    number: str
    title: str
    reason: str
    write: Write
    verdicts: tuple[str, ...]
    score: Score
    least: Score | None = None
    whole: bool = False
    noted: str = ""
    harms: bool = False
    costly: bool = False

    @property
    def student(self) -> str:
        """The student who hands it in."""
        return f"hostile-{self.number.lower()}"

    def scene(self, scene: Scene) -> Scene | None:
        """The lesson as this row uses it; None where the lesson has nothing that the row could attack."""
        return aimed_at_cost(scene) if self.costly else scene

    def range(self, scene: Scene) -> tuple[float, float]:
        """The fewest and the most points that are right."""
        most = self.score(scene)
        return (most if self.least is None else self.least(scene)), most

    def note(self, scene: Scene) -> str:
        """The words that a note has to contain."""
        return self.noted.format(check=CHECK + scene.target, target=scene.target, file=scene.file)


def everything(scene: Scene) -> float:
    """All points."""
    return scene.total


def with_wrong(scene: Scene) -> float:
    """What the wrong answer earns, and everything else."""
    return scene.total - scene.worth[scene.target] + scene.wrong.earned


def without_target(scene: Scene) -> float:
    """Everything but the target."""
    return scene.total - scene.worth[scene.target]


def before_target(scene: Scene) -> float:
    """What was graded before the target."""
    return scene.before(scene.target)


def nothing(scene: Scene) -> float:
    """No points."""
    return 0.0


def with_answer(text: str) -> Score:
    """What the target earns with this harmless text behind the right answer, and everything else; measured."""

    def score(scene: Scene) -> float:
        return without_target(scene) + scene.measured(fill(text, scene))

    return score


with_foreign = with_answer("def TARGET(*args, **kwargs):\n    return object()\n")
"""What an answer earns that returns an object of no accepted type, and everything else."""
with_none = with_answer("def TARGET(*args, **kwargs):\n    return None\n")
"""What an answer earns that returns None, and everything else."""


def fill(text: str, scene: Scene) -> str:
    """A submission's code for one scene."""
    words = {
        "TARGET": scene.target,
        "LESSON": scene.lesson,
        "TOPIC": scene.topic,
        "FILE": scene.file,
        "TRACE": TRACE,
    }
    filled = re.sub(r"\b(?:TARGET|LESSON|TOPIC|FILE|TRACE)\b", lambda found: words[found[0]], text).lstrip(
        "\n"
    )
    return _PRELUDE.lstrip("\n") + "\n" + filled if "reached(" in filled else filled


def wrong(code: str) -> str:
    """The wrong answer, kept as ``_wrong``, and code that may take its place."""
    return f"WRONG_ANSWER\n_wrong = TARGET\n{code}"


def both(code: str) -> str:
    """The right answer as ``_right``, the wrong one as ``_wrong``, and code that chooses."""
    return f"RIGHT_ANSWER\n_right = TARGET\n{wrong(code)}"


def right(code: str) -> str:
    """The right answer as ``_right``, and code that takes its place."""
    return f"RIGHT_ANSWER\n_right = TARGET\n{code}"


def submit(
    answer: str | None = "WRONG_ANSWER",
    early: str = "",
    late: str = "",
    above: str = "",
    edit: Edit | None = None,
    files: Mapping[str, str] | None = None,
) -> Write:
    """A solved notebook with one answer of another kind, and more cells.

    Args:
        answer: the text of the target's cell; None leaves it as it was handed out.
        early: a cell behind the first code cell.
        late: a cell at the end.
        above: a cell right above the target's.
        edit: changes the notebook afterwards.
        files: more files, by name.
    """

    def write(scene: Scene, place: Path) -> None:
        text = None if answer is None else _answer(answer, scene)
        made = scene.notebook({scene.target: text})
        codes = [index for index, cell in enumerate(made.cells) if cell.cell_type == "code"]
        target = next(index for index, cell in enumerate(made.cells) if cell.id == scene.target)
        if late or "reached(" in f"{answer}{early}{above}":
            made.cells.append(code_cell(fill(late, scene) + _LAST_CELL, "late"))
        if above:
            made.cells.insert(target, code_cell(fill(above, scene), "above"))
        if early:
            made.cells.insert(codes[0] + 1, code_cell(fill(early, scene), "early"))
        if edit is not None:
            edit(made, scene)
        save(made, place / scene.file)
        for name, content in (files or {}).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(fill(content, scene), encoding="utf-8")

    return write


def _answer(text: str, scene: Scene) -> str:
    texts = {"WRONG_ANSWER": scene.wrong.text, "RIGHT_ANSWER": scene.right[scene.target]}
    return re.sub("WRONG_ANSWER|RIGHT_ANSWER", lambda found: texts[found[0]], fill(text, scene))


def code_cell(source: str, name: str) -> NotebookNode:
    """A code cell of the student's own."""
    cell: NotebookNode = nbformat.v4.new_code_cell(source, id=f"own-{name}")
    return cell


def save(notebook: Any, path: Path) -> None:
    """Write a notebook as it is, valid or not."""
    path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def checks(notebook: NotebookNode) -> list[NotebookNode]:
    """The check cells."""
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
