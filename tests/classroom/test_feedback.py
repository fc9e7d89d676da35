"""What students read: hidden cases in words only, shown cases with their numbers, never a seed."""

import json
import re

import pytest
from engine.helpers import exercise, toy_topic

from autograde.classroom.feedback import INSTRUCTOR, STUDENT, for_instructors, for_students
from autograde.classroom.notebooks import Trim, as_node, fill
from autograde.compare import Finding
from autograde.exercise import Bound, Case, Requirement
from autograde.grade import ExerciseResult, failed, grade
from autograde.observe import LocalObserver
from autograde.probes import outputs
from autograde.report import as_html, as_text
from autograde.run import NotebookResult

SEED = 193_700_411


def double(x):
    return 2 * x


def shown(draw):
    return {"x": draw.uniform(2, 3, low=100.0, high=200.0)}


def hidden(draw):
    return {"x": draw.uniform(2, 3, low=7000.0, high=8000.0)}


CASES = (Case("a shown case", shown), Case("large numbers", hidden, shown=False))
MADE = exercise(double, requirements=(Requirement("formula", CASES),))


def public(implementation, made=MADE):
    return for_students(grade(made, LocalObserver(implementation, quiet=True), graded=True, seed=SEED), made)


def read(implementation, made=MADE):
    """What a student reads about an implementation: text and HTML."""
    found = public(implementation, made)
    return as_text(found, "toytopic") + "\n" + as_html(found, "toytopic")


def numbers(text):
    """Numbers in a text that could come from a case: those with a fraction, and large ones."""
    return [word for word in re.findall(r"\d[\d,]*\.?\d*", re.sub(r"<[^>]*>", " ", text)) if len(word) > 3]


def only_hidden(x):
    return 2 * x + (x > 1000).float()


def only_shown(x):
    return 2 * x + (x < 1000).float()


def test_a_hidden_case_is_described_without_numbers():
    text = read(only_hidden)
    assert "large numbers" in text
    assert "The values are wrong." in text
    assert numbers(text) == []


def test_a_shown_case_has_its_numbers():
    text = read(only_shown)
    assert "a shown case" in text
    assert numbers(text) != []


def test_no_seed_is_shown():
    for answer in (only_hidden, only_shown, lambda x: x, lambda x: None):
        assert str(SEED) not in read(answer).replace(",", "")
        assert "seed" not in read(answer)


def raises(x):
    if x[0, 0] > 1000:
        raise ValueError(f"cannot double {x.tolist()}")
    return 2 * x


WAYS = {
    "a message": raises,
    "a shape": lambda x: 2 * x if x[0, 0] < 1000 else (2 * x)[:1],
    "a dtype": lambda x: 2 * x if x[0, 0] < 1000 else (2 * x).double(),
    "not finite": lambda x: 2 * x if x[0, 0] < 1000 else x / 0,
    "another type": lambda x: 2 * x if x[0, 0] < 1000 else x.tolist(),
    "nothing": lambda x: 2 * x if x[0, 0] < 1000 else None,
    "a text": lambda x: 2 * x if x[0, 0] < 1000 else str(x.tolist()),
    "in place": lambda x: 2 * x if x[0, 0] < 1000 else x.mul_(2).clone(),
}


@pytest.mark.parametrize("answer", WAYS.values(), ids=list(WAYS))
def test_no_kind_of_finding_tells_the_numbers_of_a_hidden_case(answer):
    text = read(answer)
    assert "large numbers" in text
    assert numbers(text) == []


def test_a_cost_is_told_with_its_reason_only():
    def count(implementation, inputs):
        return {"value": implementation(**inputs), "calls": 1234.5}

    bound = Bound(lambda inputs: 1.0, "calls", "One call serves the whole batch.")
    asked = Requirement("cost", CASES[1:], count, bounds={"calls": bound})
    text = read(double, exercise(double, requirements=(asked,)))
    assert "It costs too much. One call serves the whole batch." in text
    assert numbers(text) == []


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;"])
def test_what_a_student_wrote_is_escaped(text):
    def answer(x):
        raise ValueError(text)

    page = as_html(
        for_students(grade(MADE, LocalObserver(answer, quiet=True), graded=True, seed=1), MADE), "toytopic"
    )
    assert "<script" not in page
    assert "<img" not in page


def test_a_class_with_markup_in_its_name_is_escaped():
    def answer(x):
        raise type("<script>alert(1)</script>", (ValueError,), {})()

    assert "<script" not in as_html(public(answer), "toytopic")


def test_a_long_message_is_cut():
    def answer(x):
        raise ValueError("x" * 100_000)

    assert len(read(answer)) < 10_000


@pytest.mark.parametrize("verdict", sorted(STUDENT))
def test_every_verdict_has_a_sentence_for_both(verdict):
    result = failed(MADE, Finding(verdict, "0x7f at line 1"), SEED, verdict)
    assert for_students(result, MADE).note == STUDENT[verdict]
    assert INSTRUCTOR[verdict] in for_instructors(result)
    assert "0x7f at line 1" in for_instructors(result)


def test_right_and_wrong_need_no_sentence_for_the_instructor():
    assert for_instructors(ExerciseResult("double", ())) == ""
    assert for_instructors(failed(MADE, Finding("values", "1.0 instead of 2.0"), SEED)) == ""


# --- the notebook in autograded/ ------------------------------------------------------------------------------------------------


WHOLE = Trim()


@pytest.fixture
def filled(monkeypatch):
    """A notebook's cells after these outputs of a cell, and a report."""
    toy_topic(monkeypatch, MADE)

    def run(outputs, trim=WHOLE):
        from nbformat.v4 import new_code_cell, new_notebook

        check = new_code_cell(
            "check.double(double)", metadata={"nbgrader": {"grade": True, "grade_id": "check_double"}}
        )
        notebook = new_notebook(cells=[new_code_cell("double"), check])
        graded = {"double": grade(MADE, LocalObserver(only_hidden, quiet=True), graded=True, seed=SEED)}
        result = NotebookResult("toytopic/it", graded, {0: tuple(outputs)})
        fill(notebook, result, {"double": 30.0}, trim, "Graded without a sandbox.")
        return notebook

    return run


def test_the_report_is_the_checks_output(filled):
    import nbformat

    notebook = filled([])
    nbformat.validate(notebook)
    report, error = notebook.cells[1].outputs
    text = report.data["text/plain"]
    assert "In this class the exercise is worth 30 points: this earns 0." in text
    assert "Graded without a sandbox." in text
    assert error.ename == "CheckFailed"
    assert numbers(text.replace("30", "")) == []
    assert str(SEED) not in json.dumps(notebook)


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def test_long_outputs_are_cut(filled):
    cells = filled([stream("line\n" * 100), stream("more\n")], Trim(lines=10)).cells
    assert cells[0].outputs[0].text.count("\n") == 9
    assert cells[0].outputs[0].text.endswith("... Output truncated ...")
    assert len(cells[0].outputs) == 1
    wide = filled([stream("x" * 10_000)], Trim(characters=100)).cells
    assert len(wide[0].outputs[0].text) == 100


def test_a_huge_picture_is_left_out_and_named(filled):
    picture = {"output_type": "display_data", "data": {"image/png": "A" * 10_000}, "metadata": {}}
    assert "it is too large" in filled([picture], Trim(characters=100)).cells[0].outputs[0].text


NONSENSE = [
    {},
    {"output_type": "nothing"},
    {"output_type": "stream"},
    {"output_type": "stream", "name": 7, "text": {}},
    {"output_type": "error", "ename": None, "evalue": [], "traceback": "x"},
    {"output_type": "display_data", "data": 3, "metadata": 4},
    {"output_type": ["stream"]},
    {"output_type": "execute_result", "data": {"text/plain": {"a": [1]}}, "execution_count": "x", "metadata": {}},
    {"output_type": "display_data", "data": {"text/html": ["<b>"]}, "metadata": {"a": {}}, "odd": 1},
]  # fmt: skip


@pytest.mark.parametrize("output", NONSENSE, ids=lambda output: json.dumps(output)[:40])
def test_nonsense_from_a_notebooks_process_gives_a_valid_notebook(filled, output):
    import nbformat

    nbformat.validate(filled([output]))


def test_half_characters_in_an_output_can_be_written(filled):
    text = stream("a \ud800 b")
    shown = {"output_type": "display_data", "data": {"text/plain": "\udfff"}, "metadata": {"\ud800": 1}}
    error = {"output_type": "error", "ename": "\ud800", "evalue": "\ud800", "traceback": ["\ud800"]}
    json.dumps(filled([text, shown, error]), ensure_ascii=False).encode()


def test_an_output_as_it_should_be_is_kept():
    assert as_node(stream("x")).text == "x"
    assert outputs(double, {"x": 1}) == 2
