"""The battery: hostile submissions, each with its right outcome, made for any lesson of a class.

    scene = scene_of(made)                   # made: the folder of a class
    for row in rows(scene):
        hand_in(made, scene, row)

The numbers are those of the table in the documentation; own ones begin with A. Four rows of the table concern the one who
grades and are tests of their own: 42 (an exception of ours), 45 (the grader is killed), 46 (a broken configuration) and 49
(two graders at once).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from autograde.classroom.battery import checks, files, inside, line, outside, patches, resources, results
from autograde.classroom.battery.row import REACHED, TRACE, Row
from autograde.classroom.battery.scene import Scene, Wrong, scene_of
from autograde.classroom.folder import ClassFolder

__all__ = ["REACHED", "ROWS", "TRACE", "Row", "Scene", "Wrong", "hand_in", "rows", "scene_of"]


def _in_order(row: Row) -> tuple[bool, int, str]:
    found = re.fullmatch(r"(A?)(\d+)(\w?)", row.number)
    assert found is not None, row.number
    return found[1] == "A", int(found[2]), found[3]


MODULES = (checks, files, inside, line, outside, patches, resources, results)
ROWS: tuple[Row, ...] = tuple(sorted((row for module in MODULES for row in module.ROWS), key=_in_order))
"""Every row, in the order of the table."""


def rows(scene: Scene) -> list[Row]:
    """The rows that apply to a lesson."""
    return [row for row in ROWS if row.scene(scene) is not None]


def hand_in(made: ClassFolder, scene: Scene, row: Row, student: str = "") -> Path:
    """Write a row's submission into a class folder, as the exchange would.

    Args:
        made: the class.
        scene: its lesson; other notebooks of the series are not handed in.
        row: one that applies to the scene.
        student: who hands it in, otherwise the row's own student.

    Returns:
        The submission's folder.
    """
    own = row.scene(scene)
    assert own is not None, f"row {row.number} does not apply to {scene.lesson}"
    place = made.submitted(student or row.student)
    place.mkdir(parents=True)
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    (place / "timestamp.txt").write_text(stamp, encoding="utf-8")
    row.write(own, place)
    return place
