"""A class of made-up students with the battery of hostile submissions beside them, to see what each of those gets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograde.classroom import battery
from autograde.classroom.demo import Row, make_demo, rows
from autograde.classroom.folder import ClassFolder, convert
from autograde.classroom.grading import Progress, grade_class
from autograde.classroom.records import Records
from autograde.course import lesson_ids, root

LIMITS = """
# Short limits, so that submissions which never end do not take long here.
c.RunAndCheck.cell_seconds = 10.0
c.RunAndCheck.look_seconds = 5.0
"""


@dataclass(frozen=True)
class Attack:
    """What one hostile submission got.

    Attributes:
        verdict: of the exercise that it aims at, or of the whole notebook.
        right: whether verdict and points are what they should be.
    """

    number: str
    title: str
    verdict: str
    score: float
    most: float
    right: bool


@dataclass(frozen=True)
class Siege:
    """The class after it was graded.

    Attributes:
        honest: every honest student, with the score beside the hostile ones.
        alone: the honest students' scores in the same class without the hostile ones.
        seconds: how long grading took, with them.
    """

    honest: list[Row]
    alone: dict[str, float]
    attacks: list[Attack]
    seconds: float

    @property
    def moved(self) -> list[Row]:
        """Honest students whose score is another one than without the hostile ones."""
        return [row for row in self.honest if row.score != self.alone[row.student]]


def besieged(
    folder: Path, topic: str, count: int, progress: Progress, notebook: str | None, workers: int | None
) -> Siege:
    """Grade a class without and then with the hostile submissions, everything anew.

    Args:
        folder: a new folder.
        count: how many honest students.
        notebook: the only one that is handed out, by default the first of the series: hostile submissions aim at one.

    Raises:
        CourseError: as ``demo``.
    """
    lesson = notebook or _first(topic)
    made, students = make_demo(folder, topic, count, lesson)
    made.config.write_text(made.config.read_text(encoding="utf-8") + LIMITS, encoding="utf-8")
    grade_class(folder, topic, workers=workers, progress=progress)
    alone = {row.student: row.score for row in rows(made, students)}
    scene = battery.scene_of(made)
    hostile = battery.rows(scene)
    for row in hostile:
        battery.hand_in(made, scene, row)
    began = time.monotonic()
    grade_class(folder, topic, workers=workers, progress=progress, force=True)
    seconds = time.monotonic() - began
    convert("GenerateFeedback", made)
    attacks = [_attack(made, row, row.scene(scene), lesson) for row in hostile]
    return Siege(rows(made, students), alone, attacks, seconds)


def _first(topic: str) -> str:
    lessons = lesson_ids(root() / "lessons", "*.ipynb")
    return next(name.split("/")[1] for name in lessons if name.split("/")[0] == topic)


def _attack(made: ClassFolder, row: battery.Row, scene: Any, lesson: str) -> Attack:
    record = Records(made).read(row.student)
    entry = (record or {"notebooks": {}})["notebooks"].get(lesson)
    least, most = row.range(scene)
    if entry is None:
        return Attack(row.number, row.title, "no record", 0.0, most, False)
    verdict = entry["verdict"] if row.whole else entry["exercises"][scene.target]["verdict"]
    score = float(entry["score"])
    right = verdict in row.verdicts and least - 1e-9 <= score <= most + 1e-9
    return Attack(row.number, row.title, verdict, score, most, right)
