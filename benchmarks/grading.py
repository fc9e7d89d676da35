"""How fast a class is graded: `python benchmarks/grading.py`, about 12 minutes; `--quick`, about one, only shows that it works.

Compares `autograde grade` (one worker, two, a Dask cluster of two) with stock `nbgrader autograde` and with the engine of `otter
run` on the same graded work, and with the floor: the graded work alone. Then the ratio to stock against the amount of graded work.
The table is kept in benchmarks/results/grading.md, which says how each figure is measured. otter-grader is installed into
build/otter; it is needed by nothing else. Exit status 1 if an engine failed or gave other scores than were earned.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from grading_classes import Class, burning_class, usual_class
from grading_engines import (
    GRADE,
    STOCK,
    Command,
    Engine,
    OnCluster,
    Otter,
    WrongScores,
    floor,
)
from grading_otter import NotThere, install, version
from grading_table import Measured, Runs, Step, as_markdown
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from autograde.course import root
from autograde.progress import write_atomically

RESULT = root() / "benchmarks" / "results" / "grading.md"
ERRORS = (RuntimeError, WrongScores, TimeoutError, subprocess.TimeoutExpired)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        count: submissions in the class, all of which ours grades.
        ours, stock, otter: how many submissions in a run with few, and in one with many.
        own: submissions for the floor with references of their own.
        work: amounts of graded work, in CPU seconds.
        burning: how many of those notebooks ours grades, and stock.
    """

    count: int = 40
    rounds: int = 3
    ours: tuple[int, int] = (4, 40)
    stock: tuple[int, int] = (1, 6)
    otter: tuple[int, int] = (1, 4)
    own: int = 6
    work: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0)
    burning: tuple[int, int] = (12, 2)


QUICK = Plan(4, 1, (2, 4), (1, 2), (1, 2), 1, (0.2,), (2, 1))


def engines(measured: Measured, left_out: list[str]) -> dict[str, Engine]:
    """The engines that are there; the others get a reason in ``measured.missing``."""
    found: dict[str, Engine] = {
        "stock": Command("stock", True, STOCK),
        "one worker": Command("one worker", command=(*GRADE, "--workers", "1")),
        "two workers": Command("two workers", command=(*GRADE, "--workers", "2")),
        "Dask": OnCluster("Dask"),
    }
    for name in left_out:
        measured.missing[name] = "left out"
        found.pop(name, None)
    if "otter" not in left_out:
        try:
            python = install(root() / "build" / "otter")
            measured.otter = version(python)
            found["otter"] = Otter("otter", True, python)
        except NotThere as error:
            measured.missing["otter"] = f"otter-grader cannot be installed: {error}"
    return found


class Steps:
    """The progress display: a bar on a terminal, otherwise a line for each step."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("")
        self._began = time.perf_counter()

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expect(self, total: int) -> None:
        """How many steps there will be."""
        self._bar.update(self._task, total=total)

    def begin(self, text: str) -> None:
        """A step begins, and so the one before has ended."""
        self._bar.update(self._task, description=text, advance=1)
        if not self._console.is_terminal:
            self._console.print(f"{time.perf_counter() - self._began:5.0f} s  {text}", markup=False)


class Bench:
    """One run of the benchmark."""

    def __init__(self, plan: Plan, folder: Path, tell: Callable[[str], None]) -> None:
        self.plan, self.folder, self.tell = plan, folder, tell
        self.measured = Measured(plan.count, plan.rounds)
        self.failed: list[str] = []

    def compare(self, lesson: Class, found: dict[str, Engine]) -> None:
        """The rounds of the main comparison."""
        sizes = {"stock": self.plan.stock, "otter": self.plan.otter}
        for number in range(self.plan.rounds):
            for name, engine in found.items():
                few, many = sizes.get(name, self.plan.ours)
                if name not in self.measured.missing:
                    self._take_turn(name, engine, lesson, few, many, number)
            self.tell(f"round {number + 1}, the floor")
            self.measured.floors.append(floor(lesson, lesson.students, self.plan.own))

    def _take_turn(self, name: str, engine: Engine, lesson: Class, few: int, many: int, number: int) -> None:
        """One engine, with few submissions and with many; slow engines get other students in each round."""
        runs = self.measured.runs.setdefault(name, Runs(name, few, many))
        order = lesson.students[3 * number :] + lesson.students[: 3 * number]
        try:
            for count, costs in ((few, runs.few), (many, runs.many)):
                self.tell(f"round {number + 1}, {name}: {count} submissions")
                costs.append(engine.grade(lesson, order[:count]))
        except ERRORS as error:
            self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        self.failed.append(f"{name}: {error}")
        self.measured.missing[name] = str(error).splitlines()[0]
        self.measured.runs.pop(name, None)

    def against_work(self, lesson: Class, found: dict[str, Engine]) -> None:
        """The ratio to stock for each amount of graded work."""
        base = floor(lesson, lesson.students[:2], 0, 0.0)["shared"]
        for asked in self.plan.work:
            seconds = max(0.0, asked - base)
            self.tell(f"{asked:g} s of graded work")
            measured = floor(lesson, lesson.students[:2], 0, seconds)["shared"]
            each = {
                name: self._each(name, found[name], lesson, count, seconds)
                for name, count in zip(("two workers", "stock"), self.plan.burning, strict=True)
                if name in self.measured.runs
            }
            self.measured.steps.append(Step(asked, measured, each.get("two workers"), each.get("stock")))

    def _each(self, name: str, engine: Engine, lesson: Class, count: int, seconds: float) -> float | None:
        """Wall seconds that a submission takes, without the start."""
        self.tell(f"{name}: {count} submissions")
        try:
            wall = engine.grade(lesson, lesson.students[:count], seconds).wall
        except ERRORS as error:
            self.failed.append(f"{name}, {seconds:.2f} s of graded work: {error}")
            return None
        return max(1e-3, wall - self.measured.runs[name].start("wall")) / count


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few submissions, once; the kept table is left alone"
    )
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=["one worker", "Dask", "otter"],
        help="engines to leave out; stock nbgrader and two workers are always measured",
    )
    parser.add_argument(
        "--out", type=Path, help="write the table there, not to benchmarks/results/grading.md"
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print, keep the table, and say what failed."""
    asked = parse()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started is stopped
    plan = QUICK if asked.quick else Plan()
    with tempfile.TemporaryDirectory(prefix="rederive-bench-") as temporary, Steps() as steps:
        bench = Bench(plan, Path(temporary), steps.begin)
        steps.begin("making the classes")
        usual = usual_class(bench.folder / "usual", plan.count)
        burning = burning_class(bench.folder / "burning", max(*plan.burning, 2))
        steps.begin("looking for the engines")
        found = engines(bench.measured, asked.without)
        steps.expect(2 + plan.rounds * (2 * len(found) + 1) + 3 * len(plan.work))
        bench.compare(usual, found)
        bench.against_work(burning, found)
    text = as_markdown(bench.measured)
    print(text)
    if asked.out or not asked.quick:
        write_atomically(asked.out or RESULT, text)
    for line in bench.failed:
        print(line, file=sys.stderr)
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
