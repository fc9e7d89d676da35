"""Times and memory of every notebook, beside the budgets: `make bench`, or `make bench TOPIC=rnn`.

Each solved notebook runs once from top to bottom in a Jupyter kernel with one thread, and is graded once in a process of its
own, one after the other, so that nothing else of ours competes for the cores. Times are wall-clock times and depend on the
machine and on what else runs on it; the budgets are meant for two CPU cores. The table is kept in
benchmarks/results/notebooks.md. Exit status 1 if a budget is exceeded.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import nbformat
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from rich.console import Console
from rich.progress import track

from autograde.build import build
from autograde.course import lesson_ids, read_course, root
from autograde.progress import write_atomically
from autograde.run import grade_notebook

RESULT = root() / "benchmarks" / "results" / "notebooks.md"
SOLVED, MEAN, GRADED, CHECK, MEMORY = 45.0, 15.0, 10.0, 2.0, 2000.0
"""Budgets: seconds of a solved notebook, of their mean over a series, of the graded part, of one check; megabytes."""
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
"""The largest resident memory of the kernel, in kB (Linux)."""


@dataclass(frozen=True)
class Measured:
    """One notebook: seconds solved, graded and of its slowest check, the name of that check, and peak megabytes."""

    lesson: str
    solved: float
    graded: float
    check: float
    slowest: str
    memory: float

    def over(self) -> list[str]:
        """The budgets that are exceeded."""
        limits = (
            ("solved run", self.solved, SOLVED, "s"),
            ("graded run", self.graded, GRADED, "s"),
            (f"check of {self.slowest}", self.check, CHECK, "s"),
            ("peak memory", self.memory, MEMORY, "MB"),
        )
        return [
            f"{self.lesson}: the {what} took {value:.1f} {unit}, the budget is {budget:g} {unit}"
            for what, value, budget, unit in limits
            if value > budget
        ]


def measure(lesson: str, sources: dict[str, str], folder: Path) -> Measured:
    """Run and grade one solved notebook, which lies beside the others of its series."""
    path = folder / f"{lesson}.ipynb"
    notebook = nbformat.reads(sources[f"{lesson}.ipynb"], as_version=4)
    notebook.cells.append(new_code_cell(PEAK, id="peak"))
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    began = time.perf_counter()
    client.execute()
    solved = time.perf_counter() - began
    checks = {
        cell.id.removeprefix("check_"): _seconds(cell)
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    }
    slowest = max(checks, key=lambda name: checks[name])
    peak = int(notebook.cells[-1].outputs[-1].text) / 1000
    began = time.perf_counter()
    result = grade_notebook(path, root())
    graded = time.perf_counter() - began
    if result.score != result.max_score:
        raise SystemExit(f"{lesson}: the solved notebook scores only {result.score} of {result.max_score}.")
    return Measured(lesson, solved, graded, checks[slowest], slowest, peak)


def _seconds(cell: nbformat.NotebookNode) -> float:
    """How long a cell ran."""
    times = cell.metadata.execution
    begin, end = (
        datetime.datetime.fromisoformat(times[key].replace("Z", "+00:00"))
        for key in ("iopub.execute_input", "shell.execute_reply")
    )
    return (end - begin).total_seconds()


def as_markdown(rows: list[Measured]) -> str:
    """The table that is kept."""
    lines = [
        "# What every notebook takes",
        "",
        f"Made by `make bench` on {datetime.date.today()}: {os.cpu_count()} CPU cores, no GPU used, Python "
        f"{platform.python_version()}, torch {torch.__version__}, one thread.",
        "Times depend on the machine and on what else runs on it.",
        "",
        "| notebook | solved run | graded run | slowest check | peak memory |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| *budget* | {SOLVED:g} s | {GRADED:g} s | {CHECK:g} s | {MEMORY / 1000:g} GB |",
    ]
    for row in rows:
        lines.append(
            f"| {row.lesson} | {row.solved:.1f} s | {row.graded:.1f} s | {row.check:.2f} s ({row.slowest}) "
            f"| {row.memory / 1000:.2f} GB |"
        )
    lines += ["", "| series | mean of the solved runs |", "| --- | ---: |", f"| *budget* | {MEAN:g} s |"]
    lines += [f"| {topic} | {mean:.1f} s |" for topic, mean in means(rows).items()]
    return "\n".join(lines) + "\n"


def means(rows: list[Measured]) -> dict[str, float]:
    """Mean seconds of the solved runs of each series."""
    topics = dict.fromkeys(row.lesson.split("/")[0] for row in rows)
    runs = {t: [row.solved for row in rows if row.lesson.startswith(f"{t}/")] for t in topics}
    return {topic: sum(values) / len(values) for topic, values in runs.items()}


def main() -> None:
    """Measure, print, keep the table, and say what is over its budget."""
    course = read_course()
    topics = [topic.name for topic in course.topics if not topic.planned]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topic", choices=topics, help="only this series; the kept table is left alone")
    chosen = parser.parse_args().topic
    sources = build(root()).sources
    lessons = [name for name in lesson_ids(root() / "solutions", "*.py") if f"{name}.ipynb" in sources]
    console = Console(stderr=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, text in sources.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        wanted = [name for name in lessons if chosen in (None, name.split("/")[0])]
        for name in track(wanted, "notebooks", console=console):
            rows.append(measure(name, sources, folder))
    text = as_markdown(rows)
    print(text)
    if chosen is None:
        write_atomically(RESULT, text)
    over = [line for row in rows for line in row.over()]
    over += [
        f"{topic}: the solved runs take {mean:.1f} s on average, the budget is {MEAN:g} s"
        for topic, mean in means(rows).items()
        if mean > MEAN
    ]
    for line in over:
        print(line, file=sys.stderr)
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
