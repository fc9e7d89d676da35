"""The engines that are compared: each grades a class once, is measured, and has to find the right scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grading_classes import NOTEBOOK, TOPIC, Class, burn
from grading_cluster import dask_cluster
from grading_meter import Cost, Watch, cost_of
from grading_otter import as_otter, write_autograder

from autograde.classroom.book import opened
from autograde.classroom.folder import ClassFolder
from autograde.course import root

HERE = Path(__file__).parent
GRADE = (sys.executable, "-m", "autograde", "grade", TOPIC)
STOCK = (sys.executable, "-m", "nbgrader", "autograde", TOPIC)


class WrongScores(Exception):
    """An engine gave other scores than the submissions have earned: its time means nothing."""


def environment(**more: str) -> dict[str, str]:
    """What every engine gets: one thread for each process, this environment's programs and this course."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(root()), "OMP_NUM_THREADS": "1", **more}


@dataclass(frozen=True)
class Engine:
    """A way to grade a class.

    Attributes:
        whole: it gives all points of a check or none, and does without our configuration.
    """

    name: str
    whole: bool = False

    def grade(self, lesson: Class, students: Sequence[str], seconds: float | None = None) -> Cost:
        """Grade these students' submissions in a fresh copy of their class.

        Args:
            seconds: what the notebooks of the burning class burn.

        Raises:
            RuntimeError: the engine stopped.
            WrongScores: it found other scores than were earned.
        """
        with tempfile.TemporaryDirectory(prefix="rederive-bench-") as temporary:
            made = lesson.copy(Path(temporary) / "class", students, stock=self.whole)
            if seconds is not None:
                burn(made, seconds)
            cost = self.run(made, students)
            scores = self.scores(made, students)
        earned = lesson.whole if self.whole else lesson.partial
        wrong = {s: scores.get(s) for s in students if abs(scores.get(s, -1.0) - earned[s]) > 1e-6}
        if wrong:
            raise WrongScores(f"{self.name} gave other scores than were earned: {wrong}")
        return cost

    def run(self, made: ClassFolder, students: Sequence[str]) -> Cost:
        """Grade what was handed in."""
        raise NotImplementedError

    def scores(self, made: ClassFolder, students: Sequence[str]) -> Mapping[str, float]:
        """By student: what the engine's result is."""
        with opened(made) as book:
            return {
                submission.student.id: float(submission.score)
                for submission in book.assignment_submissions(made.topic)
            }


@dataclass(frozen=True)
class Command(Engine):
    """A command that grades a class folder."""

    command: tuple[str, ...] = ()

    def run(self, made: ClassFolder, students: Sequence[str]) -> Cost:
        return cost_of(self.command, made.root, environment(REDERIVE_STOCK_GRADING="1" if self.whole else ""))


@dataclass(frozen=True)
class OnCluster(Engine):
    """Ours on a Dask cluster that was started beforehand; the cluster's own CPU seconds are read from /proc."""

    workers: int = 2

    def run(self, made: ClassFolder, students: Sequence[str]) -> Cost:
        with dask_cluster(self.workers, made.root.parent) as cluster:
            watch = Watch(*cluster.pids)
            watch.start()
            cost = cost_of((*GRADE, "--scheduler", cluster.address), made.root, environment())
            watch.stop()
        return replace(cost, cpu=cost.cpu + watch.cpu, memory=cost.memory + watch.memory)


@dataclass(frozen=True)
class Otter(Engine):
    """The engine of `otter run`, in the environment that has it."""

    python: Path = field(default_factory=Path)

    def run(self, made: ClassFolder, students: Sequence[str]) -> Cost:
        with opened(made) as book:
            cells = book.find_notebook(NOTEBOOK, TOPIC).grade_cells
            points = {cell.name.removeprefix("check_"): float(cell.max_score) for cell in cells}
        write_autograder(made.root / "autograder.zip", points)
        papers = [made.root / "otter" / student / f"{NOTEBOOK}.ipynb" for student in students]
        for student, paper in zip(students, papers, strict=True):
            as_otter(made.submitted(student) / f"{NOTEBOOK}.ipynb", paper)
        driver = (str(self.python), str(HERE / "grading_otter.py"), "autograder.zip", "otter.json")
        command = (*driver, *(str(paper) for paper in papers))
        return cost_of(
            command, made.root, environment(NBGRADER_EXECUTION="autograde", REDERIVE_STOCK_GRADING="1")
        )

    def scores(self, made: ClassFolder, students: Sequence[str]) -> Mapping[str, float]:
        found = json.loads((made.root / "otter.json").read_text())
        return {Path(path).parent.name: score for path, score in found.items()}


def floor(lesson: Class, students: Sequence[str], own: int, seconds: float | None = None) -> dict[str, float]:
    """CPU seconds of the graded work alone, for each submission: see ``grading_floor``."""
    with tempfile.TemporaryDirectory(prefix="rederive-bench-") as temporary:
        made = lesson.copy(Path(temporary) / "class", students)
        if seconds is not None:
            burn(made, seconds)
        command = [sys.executable, str(HERE / "grading_floor.py"), str(made.root), TOPIC, str(own)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"the floor could not be measured:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))
