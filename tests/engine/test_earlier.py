"""given(): going on with the course's version. yours(): the learner's own functions from another notebook."""

import json
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import autograde.earlier
import autograde.notebook
from autograde import CheckFailed, given, open_lesson, yours
from autograde.build import build
from autograde.course import CourseError, root
from autograde.earlier import asked_for, definitions
from autograde.run import grade_notebook
from utils.reference import rnn as reference

BUILT = build(root())
LESSON = "rnn/01_vanilla_rnn"


@pytest.fixture
def check():
    return open_lesson(LESSON)


def test_given_is_the_reference_and_scores_nothing(check, capsys):
    check.n_params(given("n_params"))
    assert "the course's version is used (0 of" in capsys.readouterr().out


def test_a_wrapped_given_scores_nothing_either(check, capsys):
    course = given("n_params")
    check.n_params(lambda *sizes, **named: course(*sizes, **named))
    assert "the course's version is used" in capsys.readouterr().out


def test_after_given_ones_own_function_passes(check, capsys):
    check.n_params(given("n_params"))
    check.n_params(
        lambda input_size, hidden_size, gates=1: reference.n_params(input_size, hidden_size, gates)
    )
    assert "met (" in capsys.readouterr().out


def test_one_given_function_does_not_cost_another_exercise(check, capsys):
    step = given("rnn_step")

    def n_params(input_size, hidden_size, gates=1):
        assert callable(step)
        return reference.n_params(input_size, hidden_size, gates)

    check.n_params(n_params)
    assert "met (" in capsys.readouterr().out


def test_given_fails_where_nbgrader_grades(check, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("REDERIVE_STOCK_GRADING", "1")
    with pytest.raises(CheckFailed, match="0 of"):
        check.n_params(given("n_params"))


def test_given_is_not_remembered_as_passed(check, tmp_path, monkeypatch):
    (tmp_path / ".rederive").mkdir()
    monkeypatch.chdir(tmp_path)
    check.n_params(given("n_params"))
    (file,) = (tmp_path / ".rederive").rglob("n_params.json")
    assert json.loads(file.read_text())["passed"] is False


def test_given_with_an_unknown_name_says_what_there_is(check):
    with pytest.raises(CourseError, match=r"no exercise 'rnn_stop'.*rnn_step"):
        given("rnn_stop")


def test_given_before_a_lesson_was_opened_says_so(monkeypatch):
    monkeypatch.setattr(autograde.notebook, "OPENED", [])
    with pytest.raises(CourseError, match="first cell"):
        given("rnn_step")


def _solved(tmp_path, **replaced):
    notebook = nbformat.reads(BUILT.sources[f"{LESSON}.ipynb"], as_version=4)
    for cell in notebook.cells:
        if cell.id in replaced:
            cell.source = replaced[cell.id]
    path = tmp_path / "01_vanilla_rnn.ipynb"
    nbformat.write(notebook, path)
    return path


def test_a_graded_notebook_gets_the_reference_and_no_points_for_it(tmp_path):
    path = _solved(
        tmp_path,
        rnn_step='from autograde import given\nrnn_step = given("rnn_step")',
        n_params="def n_params(input_size, hidden_size, gates=1):\n"
        "    assert rnn_step.__name__ == 'rnn_step'\n"
        "    return gates * hidden_size * (input_size + hidden_size + 2)",
    )
    result = grade_notebook(path, root())
    assert result.exercises["rnn_step"].score == 0
    assert result.exercises["rnn_step"].given
    others = [exercise for name, exercise in result.exercises.items() if name != "rnn_step"]
    assert all(exercise.ok for exercise in others)


def test_a_graded_notebook_gets_no_points_for_a_wrapped_reference(tmp_path):
    path = _solved(
        tmp_path,
        n_params='import autograde\ncourse = autograde.given("n_params")\ndef n_params(*sizes):\n    return course(*sizes)',
    )
    result = grade_notebook(path, root())
    assert result.exercises["n_params"].score == 0


def test_a_name_that_is_put_together_gets_nothing(tmp_path):
    path = _solved(
        tmp_path,
        n_params='from autograde import given\nname = "n_" + "params"\nn_params = given(name)',
    )
    result = grade_notebook(path, root())
    assert result.exercises["n_params"].score == 0
    assert any("given('n_params') finds nothing" in note for note in result.notes)


def test_yours_in_a_graded_cell_is_refused(tmp_path):
    path = _solved(
        tmp_path, n_params=f'from autograde import yours\nn_params = yours("{LESSON}", "n_params")'
    )
    result = grade_notebook(path, root())
    assert result.exercises["n_params"].score == 0
    assert any("yours() is for cells that grading skips" in note for note in result.notes)


def inner(x):
    return x


def helper(x):
    return inner(x)


def outer(x):
    return helper(x)


def test_a_reference_that_uses_another_one_costs_both(monkeypatch):
    for function in (inner, helper, outer):
        monkeypatch.setattr(function, "__module__", "utils.reference.toy")
    bank = {f.__name__: SimpleNamespace(reference=f) for f in (inner, outer)}
    monkeypatch.setattr(autograde.earlier, "exercises", lambda topic: bank)
    assert set(asked_for(['f = given("outer")'], "toy")) == {"inner", "outer"}
    assert set(asked_for(['f = given("inner")'], "toy")) == {"inner"}


def test_only_plain_names_of_exercises_are_handed_over():
    assert set(asked_for(['f = given("rnn_step")'], "rnn")) == {"rnn_step"}
    assert asked_for(["given(name)", "given()", "1 +", 'given("nothing")'], "rnn") == {}


def test_yours_takes_functions_that_pass_and_replaces_the_others(tmp_path, monkeypatch, capsys):
    _solved(tmp_path, n_params="def n_params(input_size, hidden_size, gates=1):\n    return 3")
    monkeypatch.chdir(tmp_path)
    step, count = yours(LESSON, "rnn_step", "n_params")
    assert step is not reference.rnn_step
    assert step.__name__ == "rnn_step"
    assert count is reference.n_params
    said = capsys.readouterr().out
    assert f"Your own code from {LESSON}: rnn_step." in said
    assert f"The course's version of n_params (not right yet in {LESSON})." in said


def test_yours_without_that_notebook_gives_the_courses_version(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert yours(LESSON, "rnn_step") is reference.rnn_step
    assert "was not found" in capsys.readouterr().out


def test_yours_finds_the_notebook_of_another_series(tmp_path, monkeypatch):
    for folder in ("rnn", "ddim"):
        (tmp_path / folder).mkdir()
    _solved(tmp_path / "rnn")
    monkeypatch.chdir(tmp_path / "ddim")
    assert yours(LESSON, "n_params") is not reference.n_params


def test_yours_with_an_unknown_exercise_says_what_there_is():
    with pytest.raises(CourseError, match="There are: window_error"):
        yours(LESSON, "nothing")


def test_definitions_leave_out_what_runs_and_what_fails(tmp_path):
    cells = [
        new_markdown_cell("text"),
        new_code_cell("%matplotlib inline\nimport math\nSIZE = 3\nLATER = open('forbidden', 'w')"),
        new_code_cell("def broken(:"),
        new_code_cell(
            "import nothing_of_that_name\ndef area(r):\n    return SIZE * math.pi * r\nprint('trained')"
        ),
    ]
    path = tmp_path / "mine.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    found = definitions(path)
    assert found["area"](1.0) == pytest.approx(3 * 3.14159265)
    assert "LATER" not in found
    assert not (tmp_path / "forbidden").exists()


def test_definitions_of_a_broken_file_are_none(tmp_path):
    path = tmp_path / "mine.ipynb"
    path.write_text("{")
    assert definitions(path) == {}
