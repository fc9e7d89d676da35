"""From measured runs to the table in benchmarks/results/grading.md."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from grading_meter import Cost

VERSIONS = ("torch", "nbgrader", "nbclient", "ipykernel", "distributed")


@dataclass
class Runs:
    """What one engine took: runs with a few and with many submissions, one of each in every round."""

    name: str
    few_count: int
    many_count: int
    few: list[Cost] = field(default_factory=list)
    many: list[Cost] = field(default_factory=list)

    def _line(self, kind: str) -> tuple[float, float]:
        """(start, seconds for each submission) of ``wall`` or ``cpu``: the straight line through the two medians."""
        few, many = (median(getattr(cost, kind) for cost in costs) for costs in (self.few, self.many))
        each = (many - few) / (self.many_count - self.few_count)
        start = few - self.few_count * each
        # What else runs on the machine can bend the line; a start below zero, or a submission for nothing, is not true.
        return (start, each) if each > 0 and start > 0 else (0.0, many / self.many_count)

    def each(self, kind: str) -> float:
        """Seconds (``wall`` or ``cpu``) that one more submission takes."""
        return self._line(kind)[1]

    def start(self, kind: str) -> float:
        """Seconds that it takes whatever the number of submissions."""
        return self._line(kind)[0]

    def of_class(self, kind: str, count: int) -> float:
        """Seconds for a class of ``count``."""
        start, each = self._line(kind)
        return start + count * each

    def memory(self) -> float:
        """MB, of all processes together."""
        return median(cost.memory for cost in self.many)


@dataclass(frozen=True)
class Step:
    """One amount of graded work: CPU seconds a notebook as measured, and the wall seconds that a submission takes."""

    asked: float
    floor: float
    ours: float | None
    stock: float | None


@dataclass
class Measured:
    """Everything that was measured.

    Attributes:
        runs: by engine's name: "one worker", "two workers", "Dask", "stock", "otter".
        floors: what ``grading_floor`` gave, once for each round.
        missing: by engine: why it is not in the table.
    """

    count: int
    rounds: int
    runs: dict[str, Runs] = field(default_factory=dict)
    floors: list[Mapping[str, float]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    otter: str = ""

    def floor(self, kind: str) -> float:
        """The median of the rounds."""
        return median(entry[kind] for entry in self.floors)


LABELS = {
    "one worker": "`autograde grade --workers 1`",
    "two workers": "`autograde grade --workers 2`",
    "Dask": "`autograde grade --scheduler`, two `dask worker`",
    "stock": "stock `nbgrader autograde`",
    "otter": "`otter run`'s engine",
}


def as_markdown(measured: Measured) -> str:
    """The whole page."""
    parts = [_header(measured), _engines(measured), _floor(measured), _ratios(measured), _steps(measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _header(measured: Measured) -> str:
    versions = [f"{name} {version(name)}" for name in VERSIONS]
    versions += [f"otter-grader {measured.otter}"] if measured.otter else []
    return "\n".join(
        [
            "# Grading a class",
            "",
            f"Made by `python benchmarks/grading.py` on {datetime.date.today()}. {_machine()}, Python "
            f"{platform.python_version()}, {', '.join(versions)}. One thread in every process.",
            "",
            f"A class of {measured.count}: each submission is the first notebook of the series `rnn`, with six checks; every "
            "third has one of the known mistakes, the others are right. Every engine has to find the scores that the submissions "
            "have earned, otherwise it is not in the table (stock nbgrader and otter give all points of a check or none).",
            "",
            f"{measured.rounds} round{'s' if measured.rounds > 1 else ''}, in which the engines take turns; medians. In each round "
            "an engine grades a few submissions and then many. The straight line through the two gives what an engine takes to "
            f"start and what each submission adds; engines that are slow get fewer than {measured.count}, and their figures for "
            "the class are from that line. Times depend on the machine and on what else runs on it.",
        ]
    )


def _machine() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} CPU cores ({model}), {memory:.0f} GB of memory"


def _engines(measured: Measured) -> str:
    rows = []
    for name, label in LABELS.items():
        if name in measured.missing:
            rows.append([label, "not measured: " + measured.missing[name].replace("|", "/"), *[""] * 6])
        elif name in measured.runs:
            rows.append([label, *_figures(measured.runs[name], measured.count)])
    head = (
        "engine",
        "submissions run",
        "to start",
        "each submission",
        f"a minute, class of {measured.count}",
        "a minute, without the start",
        "CPU s each",
        "peak memory",
    )
    said = (
        "CPU seconds count everything that an engine starts, each without the start. They are the kernel's account of the "
        "processes that were waited for, or, where sandboxes are killed and for the cluster (whose processes the command did not "
        "start), what /proc showed twice a second, whichever is larger. Peak memory is the largest sum over all processes at one "
        "moment, with pages that several share counted once; with Dask, the peaks of the command and of the cluster are added. The "
        "cluster runs before the clock starts."
    )
    return _table(head, rows) + "\n\n" + said


def _figures(runs: Runs, count: int) -> list[str]:
    return [
        f"{runs.few_count} and {runs.many_count}",
        f"{runs.start('wall'):.1f} s",
        f"{runs.each('wall'):.2f} s",
        f"{60 * count / runs.of_class('wall', count):.1f}",
        f"{60 / runs.each('wall'):.1f}",
        f"{runs.each('cpu'):.2f}",
        f"{runs.memory() / 1000:.2f} GB",
    ]


def _floor(measured: Measured) -> str:
    if not measured.floors:
        return ""
    rows = [
        ["the students' code, the probes, the comparison", f"{measured.floor('shared'):.3f} s"],
        ["the same, with the references run again for every submission", f"{measured.floor('own'):.3f} s"],
        ["the references, once for the class", f"{measured.floor('once'):.2f} s"],
        ["beside it: other cells (imports, data)", f"{measured.floor('other cells'):.3f} s"],
        ["beside it: recognising known mistakes", f"{measured.floor('diagnosis'):.3f} s"],
    ]
    said = (
        "The floor: the same submissions in one warm process with one thread, in which nothing but the graded work is done. A "
        "reference is run six times a case, for the tolerance; with one seed for the class this is done once, with a seed for "
        "every student again and again."
    )
    return said + "\n\n" + _table(("CPU seconds a submission", "median"), rows)


def _ratios(measured: Measured) -> str:
    runs, count = measured.runs, measured.count
    rows = []
    for name in ("one worker", "two workers", "Dask"):
        for other in ("stock", "otter"):
            if name in runs and other in runs:
                whole = runs[other].of_class("wall", count) / runs[name].of_class("wall", count)
                steady = runs[other].each("wall") / runs[name].each("wall")
                what = f"{LABELS[name]}: submissions a minute, against {LABELS[other]}"
                rows.append([what, f"{steady:.1f}", f"{whole:.1f}"])
        if name in runs and measured.floors:
            for kind, said in (("shared", "references once"), ("own", "references each time")):
                floor = measured.floor(kind)
                each, whole = runs[name].each("cpu"), runs[name].of_class("cpu", count) / count
                what = f"{LABELS[name]}: CPU seconds, against the floor with {said}"
                rows.append([what, f"{each / floor:.2f}", f"{whole / floor:.2f}"])
    if {"one worker", "two workers"} <= runs.keys():
        one, two = runs["one worker"], runs["two workers"]
        whole = one.of_class("wall", count) / two.of_class("wall", count)
        steady = one.each("wall") / two.each("wall")
        rows.append(["two workers against one: submissions a minute", f"{steady:.2f}", f"{whole:.2f}"])
    head = ("ratio", "without the start", f"class of {count}, with the start")
    return _table(head, rows) if rows else ""


def _steps(measured: Measured) -> str:
    if not measured.steps:
        return ""
    rows = []
    for step in measured.steps:
        ours = "-" if step.ours is None else f"{60 / step.ours:.1f}"
        stock = "-" if step.stock is None else f"{60 / step.stock:.1f}"
        ratio = "-" if step.ours is None or step.stock is None else f"{step.stock / step.ours:.1f}"
        rows.append([f"{step.asked:g} s", f"{step.floor:.2f} s", ours, stock, ratio])
    said = (
        "Against the amount of graded work. Every notebook has the one exercise `n_params`, whose check takes milliseconds, and its "
        "cell burns CPU seconds once, so that the graded work is what it is set to be; the text of the notebook is all there. Two "
        "workers, submissions a minute without the start (the start is the one of the first table)."
    )
    head = ("graded work a notebook", "measured floor", "ours, a minute", "stock, a minute", "ratio")
    return said + "\n\n" + _table(head, rows)
