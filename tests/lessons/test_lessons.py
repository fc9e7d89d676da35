"""Solved notebooks run, unsolved ones stop only where something is not written yet, lessons are what the build gives."""

import nbformat
import pytest
from nbclient import NotebookClient

from autograde.build import build, differences
from autograde.course import read_course, root
from autograde.lessons import all_lessons, of_topic
from autograde.run import grade_notebook

BUILT = build(root())
LESSONS = sorted(BUILT.sources)


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_lessons_are_exactly_what_the_build_gives():
    assert differences(BUILT, root()) == []


def test_a_second_build_gives_the_same_bytes():
    assert build(root()) == BUILT


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solved_notebook_runs_from_top_to_bottom(lesson, executed):
    ran = executed(lesson, BUILT.sources[lesson])
    assert ran.ok, ran.report[-4000:]
    code = [cell for cell in ran.notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == [
        cell.source for cell in nbformat.reads(BUILT.sources[lesson], 4).cells if cell.cell_type == "code"
    ]
    assert any(cell.outputs for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_interactive_figures_can_be_drawn_at_both_ends_of_every_control(lesson, executed):
    ran = executed(lesson, BUILT.sources[lesson])
    assert ran.ok, ran.report[-4000:]
    assert ran.widgets == BUILT.sources[lesson].count("widgets.explore(")
    assert ran.calls >= 2 * ran.widgets


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


def test_the_course_states_the_minutes_that_its_lessons_state():
    lessons = all_lessons(root())
    for topic in read_course().topics:
        if not topic.planned:
            assert topic.minutes == sum(lesson.minutes for lesson in of_topic(lessons, topic.name)), topic.name
