"""The classes that are graded: copies of one class of made-up students, and one whose notebooks burn a given time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat

from autograde.classroom.demo import Student, cast, hand_in
from autograde.classroom.folder import ClassFolder, make_class
from autograde.classroom.update import update_class
from autograde.course import exercises

TOPIC, NOTEBOOK = "rnn", "01_vanilla_rnn"
SPECIAL = 5
"""So many students of the cast are special: late, without a notebook, and so on. The others have one mistake each."""
LIGHT = "n_params"
"""The exercise of the class that burns time: its check takes a few milliseconds."""
NOTHING = "_seconds = 0.0"
BURN = f"""import time as _time

{NOTHING}
_until = _time.process_time() + _seconds
while _time.process_time() < _until:
    pass
"""
STOCK_CONFIG = """\
from pathlib import Path

c = get_config()
c.CourseDirectory.root = str(Path(__file__).parent.resolve())
c.CourseDirectory.course_id = "rederive"
c.Execute.skip_cells_with_tag = "demo"
c.Execute.timeout = 120
"""
"""What stock nbgrader gets: none of our steps; demo cells are skipped, as ours does."""


@dataclass(frozen=True)
class Class:
    """A class that nobody has graded.

    Attributes:
        students: everybody, in the order in which they hand in.
        partial, whole: by student: the points earned, with credit for each requirement; and without.
    """

    made: ClassFolder
    students: tuple[str, ...]
    partial: dict[str, float]
    whole: dict[str, float]

    def copy(self, folder: Path, students: Iterable[str], *, stock: bool = False) -> ClassFolder:
        """A copy in which only these students have handed in; with ``stock``, none of our configuration."""
        shutil.copytree(self.made.root, folder, ignore=shutil.ignore_patterns("submitted"))
        copied = ClassFolder(folder, self.made.topic)
        for student in students:
            shutil.copytree(self.made.submitted(student), copied.submitted(student))
        if stock:
            copied.config.write_text(STOCK_CONFIG, encoding="utf-8")
        return copied


def usual_class(folder: Path, count: int) -> Class:
    """Every third student has one mistake, another one each; all others have everything right."""
    made = make_class(folder, TOPIC, notebook=NOTEBOOK)
    students = list(_students(count))
    for student in students:
        hand_in(made, student)
    bank = exercises(TOPIC)
    full = max(student.expected for student in students)
    whole = {s.name: full - sum(bank[name].points for name in s.answers) for s in students}
    return Class(made, tuple(whole), {s.name: s.expected for s in students}, whole)


def _students(count: int) -> Iterator[Student]:
    known = list(cast(TOPIC, SPECIAL + (count + 1) // 3, NOTEBOOK))
    right, wrong = known[0], iter(known[SPECIAL:])
    for number in range(1, count + 1):
        student = next(wrong) if number % 3 == 2 else right
        yield replace(student, name=f"student-{number:03d}")


def burning_class(folder: Path, count: int) -> Class:
    """Everybody has one exercise, right, whose cell burns the CPU seconds that ``burn`` sets; none so far.

    The other exercises' cells, their checks and the demo cells are not in the notebooks that are handed in; all text is.
    """
    made = make_class(folder, TOPIC, notebook=NOTEBOOK)
    made.choice.write_text(f"[{TOPIC}.{NOTEBOOK}]\n{LIGHT} = 4\n", encoding="utf-8")
    update_class(made.root)
    notebook = nbformat.read(made.source / f"{NOTEBOOK}.ipynb", as_version=4)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "markdown" or cell.id in ("setup", LIGHT, f"check_{LIGHT}")
    ]
    cell = next(cell for cell in notebook.cells if cell.id == LIGHT)
    cell.source = BURN + cell.source
    students = tuple(f"student-{number:03d}" for number in range(1, count + 1))
    for student in students:
        place = made.submitted(student)
        place.mkdir(parents=True)
        nbformat.write(notebook, place / f"{NOTEBOOK}.ipynb")
    points = dict.fromkeys(students, 4.0)
    return Class(made, students, points, points)


def burn(copied: ClassFolder, seconds: float) -> None:
    """Let every notebook of a copy of the burning class burn so many CPU seconds, once, when its exercise's cell runs."""
    for path in copied.root.glob(f"submitted/*/{TOPIC}/*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert NOTHING in text
        path.write_text(text.replace(NOTHING, f"_seconds = {seconds}"), encoding="utf-8")
