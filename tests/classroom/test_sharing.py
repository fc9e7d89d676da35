"""Answers that are equal: to the course's own, or to each other's. A hint, which must not accuse anybody of nothing."""

import shutil

import pytest
from engine.helpers import TOPIC
from toyclass import ONE, TWO, hand_in, new_class

from autograde.classroom.grading import grade_class
from autograde.classroom.sharing import COURSE, fingerprint, shared_answers

LONG = """
def double(x, scale=2.0):
    \"\"\"Twice x.\"\"\"
    total = torch.zeros_like(x)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            total[row, column] = scale * x[row, column]  # one by one
    if total.isnan().any():
        raise ValueError("not a number")
    return total
"""
RENAMED = """
def double(values: "Tensor", factor: float = 2.0) -> "Tensor":
    result = torch.zeros_like(values)

    for i in range(values.shape[0]):
        for j in range(values.shape[1]): result[i, j] = factor * values[i, j]
    if result.isnan().any():
        raise ValueError('not a number')
    return result
"""
OTHER = LONG.replace("scale * x[row, column]", "x[row, column] + x[row, column]")


def test_names_comments_annotations_and_layout_do_not_count():
    assert fingerprint(LONG) == fingerprint(RENAMED) is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [("scale * x[row, column]", "x[row, column] + x[row, column]"), ("2.0", "3.0"), ("isnan", "isinf")],
)
def test_what_is_done_counts(before, after):
    assert before in LONG
    assert fingerprint(LONG) != fingerprint(LONG.replace(before, after))


def test_two_names_are_not_one():
    assert fingerprint(LONG) != fingerprint(
        LONG.replace("column in range(x.shape[1])", "row in range(x.shape[1])")
    )


@pytest.mark.parametrize(
    "source",
    ["", "def f(x): return 2 * x", "def f(", "x = '" + "\0" + "'", "(" * 5000, "1" * 9999, "é = '\ud800'"],
)
def test_short_and_broken_answers_have_none(source):
    assert fingerprint(source) is None


@pytest.fixture(scope="module")
def made(toys, quick, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autograde.classroom.grading.sandbox_or_reason", lambda settings: "")
        made = new_class(tmp_path_factory.mktemp("sharing") / "class")
        for name, answer in (("ann", LONG), ("ben", RENAMED), ("cy", OTHER)):
            hand_in(made, name, ONE, TWO, double=answer)
        grade_class(made.root, TOPIC)
        yield made


def test_students_who_share_an_answer_are_listed(made):
    assert shared_answers(made) == [
        "Answers that differ at most in names and layout (a hint, not a verdict):",
        f"{ONE}, double: the same answer from ann, ben.",
    ]


def test_the_courses_own_answer_is_listed(made, tmp_path):
    import nbformat

    source = made.source / f"{ONE}.ipynb"
    kept = source.read_text()
    notebook = nbformat.read(source, as_version=4)
    next(cell for cell in notebook.cells if cell.id == "double").source = LONG
    nbformat.write(notebook, source)
    try:
        assert f"{ONE}, double: the same answer from {COURSE}, ann, ben." in shared_answers(made)
    finally:
        source.write_text(kept)


def test_an_answer_that_many_of_a_large_class_have_is_not_listed(made):
    for number in range(12):
        name = f"s{number:02d}"
        hand_in(made, name, ONE, TWO, double=LONG)
        place = made.autograded(name)
        shutil.copytree(made.autograded("ann"), place)
        shutil.copy(
            made.root / "verdicts" / TOPIC / "ann.json", made.root / "verdicts" / TOPIC / f"{name}.json"
        )
    assert shared_answers(made) == []
