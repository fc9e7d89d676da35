"""Runs a solved notebook with nbval, and keeps what it showed: one execution serves every test that looks at it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from filelock import FileLock
from nbformat import NotebookNode

from autograde.build import build
from autograde.course import root

BOTH_ENDS = """
import itertools
from pathlib import Path
import matplotlib.pyplot as plt
from utils.widgets import Explorer

found = {id(v): v for v in [*globals().values(), *Out.values()] if isinstance(v, Explorer)}
calls = 0
for explorer in found.values():
    ends = {
        name: (control.min, control.max) if hasattr(control, "min") else [value for _, value in control.options]
        if control.options and isinstance(control.options[0], tuple) else list(getattr(control, "options", (True, False)))
        for name, control in explorer.controls.items()
    }
    for values in itertools.product(*ends.values()):
        called = f"{explorer.callback.__name__}({', '.join(f'{k}={v}' for k, v in zip(ends, values))})"
        try:
            figure = explorer.callback(**dict(zip(ends, values)))
        except Exception as error:
            raise AssertionError(f"the interactive figure fails at the end of a control: {called}") from error
        assert figure.axes, f"{called} has to return a figure with something in it"
        plt.close(figure)
        calls += 1
Path("widgets.txt").write_text(f"{len(found)} {calls}")
"""
"""A last cell that calls the callback of every interactive figure at all corners of its controls."""
SECONDS = 280
COLORS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Executed:
    """A solved notebook that ran.

    ``notebook`` has the outputs of its own cells; ``report`` is what nbval said; ``widgets`` counts the interactive
    figures, ``calls`` the calls of their callbacks.
    """

    ok: bool
    report: str
    notebook: NotebookNode
    widgets: int
    calls: int


Execute = Callable[[str, str], Executed]


def execute(text: str, folder: Path, name: str = "lesson") -> Executed:
    """Run a notebook, given as text, in an empty folder."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(BOTH_ENDS, id="both-ends"))
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    search = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    options = ["--nbval-lax", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "keep_outputs"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, search))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, cwd=folder, env=environment
        )
        ok, said = done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        ok, said = False, f"{name} ran for more than {SECONDS} seconds and was stopped."
    report = {"ok": ok, "report": COLORS.sub("", said)}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return read(folder, name)


def put_the_series_beside(lesson: str, folder: Path) -> None:
    """The other solved notebooks of the series, from which this one takes functions."""
    for other, text in build(root()).sources.items():
        if other != lesson and Path(other).parent == Path(lesson).parent:
            (folder / Path(other).name).write_text(text, encoding="utf-8")


def read(folder: Path, name: str) -> Executed:
    """What an earlier execution left in a folder."""
    kept = folder / f"{name}.executed.ipynb"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert kept.exists(), f"keep_outputs.py, the plugin for nbval, kept nothing:\n{report['report']}"
    notebook = nbformat.read(kept, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "both-ends"]
    counts = folder / "widgets.txt"
    widgets, calls = map(int, counts.read_text().split()) if counts.exists() else (0, 0)
    return Executed(report["ok"], report["report"], notebook, widgets, calls)


def execute_once(shared: Path) -> Execute:
    """A function that runs a lesson's notebook, or waits while another worker runs it, or reads what that one left."""

    def run(lesson: str, text: str) -> Executed:
        name = Path(lesson).stem
        folder = shared / "executed" / lesson.replace("/", "-").removesuffix(".ipynb")
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (folder / "report.json").exists():
                return read(folder, name)
            if "yours(" in text:
                put_the_series_beside(lesson, folder)
            return execute(text, folder, name)

    return run
