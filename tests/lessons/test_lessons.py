"""Solved notebooks run, unsolved ones stop only where something is not written yet, lessons are what the build gives."""

import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from autograde.build import build, differences
from autograde.course import root
from autograde.run import grade_notebook

BUILT = build(root())
LESSONS = sorted(BUILT.sources)


BOTH_ENDS = """
import itertools
from pathlib import Path
import matplotlib.pyplot as plt
from utils.widgets import Explorer

found = {id(v): v for v in [*globals().values(), *Out.values()] if isinstance(v, Explorer)}
before = plt.get_fignums()
calls = 0
for explorer in found.values():
    ends = {
        name: (control.min, control.max) if hasattr(control, "min") else [value for _, value in control.options]
        if control.options and isinstance(control.options[0], tuple) else list(getattr(control, "options", (True, False)))
        for name, control in explorer.controls.items()
    }
    for values in itertools.product(*ends.values()):
        figure = explorer.callback(**dict(zip(ends, values)))
        assert figure.axes, "the callback has to return a figure with something in it"
        plt.close(figure)
        calls += 1
Path("widgets.txt").write_text(f"{len(found)} {calls}")
"""
"""Calls the callback of every interactive figure at all corners of its controls."""


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_lessons_are_exactly_what_the_build_gives():
    assert differences(BUILT, root()) == []


def test_a_second_build_gives_the_same_bytes():
    assert build(root()) == BUILT


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solved_notebook_runs_from_top_to_bottom(lesson, tmp_path, one_thread):
    path = tmp_path / os.path.basename(lesson)
    notebook = nbformat.reads(BUILT.sources[lesson], as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(BOTH_ENDS, id="both-ends"))
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    widgets, calls = map(int, (tmp_path / "widgets.txt").read_text().split())
    assert calls >= 2 * widgets


def test_each_series_has_an_interactive_figure():
    for topic in sorted({lesson.split("/")[0] for lesson in LESSONS}):
        texts = [text for lesson, text in BUILT.sources.items() if lesson.startswith(f"{topic}/")]
        assert any("widgets.explore(" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_unsolved_notebook_stops_only_where_something_is_not_written(lesson, one_thread):
    notebook = nbformat.reads(BUILT.lessons[lesson], as_version=4)
    NotebookClient(notebook, timeout=120, allow_errors=True, kernel_name="python3").execute()
    errors = [
        (cell.source[:80], output.ename)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert errors, "an unsolved notebook that stops nowhere asks for nothing"
    assert [entry for entry in errors if entry[1] not in ("NotImplementedError", "NotWritten")] == []
    checks = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    for cell in checks:
        (error,) = [output for output in cell.outputs if output.output_type == "error"]
        assert error.ename == "NotWritten"
        assert len(error.traceback) == 1, "one line, no pages of traceback"


@pytest.mark.parametrize("lesson", LESSONS)
def test_graded_solved_and_unsolved(lesson, tmp_path):
    solved, unsolved = tmp_path / "solved.ipynb", tmp_path / "unsolved.ipynb"
    solved.write_text(BUILT.sources[lesson], encoding="utf-8")
    unsolved.write_text(BUILT.lessons[lesson], encoding="utf-8")
    full, nothing = grade_notebook(solved, root()), grade_notebook(unsolved, root())
    assert full.score == full.max_score > 0
    assert full.notes == ()
    assert nothing.score == 0
    assert all(result.not_written for result in nothing.exercises.values())


@pytest.mark.parametrize("lesson", LESSONS)
def test_released_notebooks_have_no_outputs_and_no_solutions(lesson):
    released = nbformat.reads(BUILT.lessons[lesson], as_version=4)
    solved = {cell.id: cell for cell in nbformat.reads(BUILT.sources[lesson], as_version=4).cells}
    for cell in released.cells:
        assert not cell.get("outputs")
        if cell.metadata.get("nbgrader", {}).get("solution"):
            body = solved[cell.id].source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
            lines = [line.strip() for line in body.splitlines() if len(line.strip()) > 12]
            assert "raise NotImplementedError()" in cell.source
            assert not any(line in cell.source for line in lines)
