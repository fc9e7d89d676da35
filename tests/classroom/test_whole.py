"""Repairing a notebook that was handed in: every check once, as released, where it belongs; the rest as it was written."""

import copy
import json

import nbformat
import pytest
from engine.helpers import TOPIC
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toyclass import TWO, answered

from autograde.build import build, write
from autograde.classroom import notebooks
from autograde.classroom.notebooks import read, whole
from autograde.lessons import read_lesson
from autograde.submission import CannotGrade, grade_id

LESSON = f"{TOPIC}/{TWO}"
WORTH = {"triple": 4.0, "halve": 20.0}
"""halve is worth more in this class than in the lesson."""
NAMED = {"triple", "halve", "check_triple", "check_halve"}
"""The cells that nbgrader knows."""
DEMO = """
# %% tags=["demo"]
print(triple(torch.ones(2)))
"""


@pytest.fixture(scope="module")
def course(toys):
    """(root, the released lesson, the solved notebook as parsed JSON). The lesson ends with a demo cell."""
    source = toys / "solutions" / TOPIC / f"{TWO}.py"
    source.write_text(source.read_text() + DEMO)
    write(build(toys), toys)
    released = read_lesson(toys, LESSON)
    return toys, released, json.loads(build(toys).sources[f"{LESSON}.ipynb"])


def made_whole(course, data, worth=WORTH):
    root, released, _ = course
    return whole(read(json.dumps(data).encode(), "it.ipynb"), LESSON, released, worth, root)


def cell(data, name):
    return next(c for c in data["cells"] if c.get("id") == name)


def place(data, name):
    return data["cells"].index(cell(data, name))


def order(submission):
    """What is done, in order: sources that run, and names of exercises that are looked at."""
    return [step.exercise if step.check else step.source for step in submission.steps]


def checks(notebook):
    return [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]


def agrees(course, data, worth=WORTH):
    """What must hold of every repaired notebook; returns it."""
    submission = made_whole(course, data, worth)
    notebook, released = submission.notebook, course[1]
    nbformat.validate(notebook)
    ids = [c.id for c in notebook.cells]
    assert len(set(ids)) == len(ids)
    found = {c.metadata.nbgrader.grade_id: c for c in checks(notebook)}
    assert sorted(c.metadata.nbgrader.grade_id for c in checks(notebook)) == sorted(
        f"check_{n}" for n in worth
    )
    for name, points in worth.items():
        check, original = found[f"check_{name}"], cell(released, f"check_{name}")
        assert check.source == original.source
        assert check.metadata.nbgrader == original.metadata.nbgrader | {"points": points}
        assert "tags" not in check.metadata
    known = {c["id"] for c in released.cells if "nbgrader" in c.metadata and c.metadata.nbgrader.grade}
    mine = [c.source for c in read(json.dumps(data).encode(), "it").cells if grade_id(c, NAMED) not in known]
    assert [c.source for c in notebook.cells if c.id not in known] == mine
    for step in submission.steps:
        if step.check:
            assert notebook.cells[step.cell].id == f"check_{step.exercise}"
        else:
            assert notebook.cells[step.cell].source == step.source
            assert notebook.cells[step.cell].cell_type == "code"
    assert notebook.metadata == released.metadata
    return submission


def stable(course, submission):
    """A repaired notebook is left as it is; nbgrader repairs it in one step, and reads it again in the next."""
    again = made_whole(course, submission.notebook)
    assert again.notebook == submission.notebook
    assert order(again) == order(submission)


def test_a_solved_notebook_stays_what_it_is(course):
    submission = agrees(course, course[2])
    assert submission.notes == ()
    assert [c.id for c in submission.notebook.cells] == [c["id"] for c in course[2]["cells"]]
    assert [x for x in order(submission) if x in WORTH] == ["triple", "halve"]
    stable(course, submission)


def test_an_answer_keeps_its_name_and_nbgraders_marks(course):
    """By its name the gradebook finds its comment, and we see whether it is still as released."""
    notebook = agrees(course, course[2]).notebook
    answer = next(c for c in notebook.cells if c.id == "triple")
    assert answer.metadata.nbgrader.solution
    assert answer.metadata.nbgrader.grade_id == "triple"


def test_a_deleted_check_comes_back_behind_its_exercise(course):
    data = copy.deepcopy(course[2])
    data["cells"].remove(cell(data, "check_triple"))
    submission = agrees(course, data)
    ids = [c.id for c in submission.notebook.cells]
    assert ids.index("check_triple") == ids.index("triple") + 1
    assert submission.notes == ("The check cell check_triple was missing; it was put back.",)
    stable(course, submission)


def test_a_doubled_check_counts_once(course):
    data = copy.deepcopy(course[2])
    data["cells"].append(copy.deepcopy(cell(data, "check_triple")))
    submission = agrees(course, data)
    assert submission.notes == ("The check cell check_triple stands twice; it counts once.",)
    stable(course, submission)


def test_a_check_above_its_exercise_moves_behind_it(course):
    data = copy.deepcopy(course[2])
    check = cell(data, "check_triple")
    data["cells"].remove(check)
    data["cells"].insert(0, check)
    submission = agrees(course, data)
    done = order(submission)
    assert done.index("triple") > next(i for i, step in enumerate(done) if "def triple" in step)
    stable(course, submission)


@pytest.mark.parametrize(
    "source", ["pass", "check.triple(lambda x: 3 * x)", "", "check.triple(triple)\nprint(1)"]
)
def test_an_edited_check_is_the_original_again(course, source):
    data = copy.deepcopy(course[2])
    cell(data, "check_triple")["source"] = source
    submission = agrees(course, data)
    assert submission.notes == ("The check cell check_triple was edited; the original counts.",)
    stable(course, submission)


@pytest.mark.parametrize("kind", ["markdown", "raw", "heading", 7, None])
def test_a_check_of_another_type_is_code_again(course, kind):
    data = copy.deepcopy(course[2])
    cell(data, "check_triple")["cell_type"] = kind
    assert next(c for c in agrees(course, data).notebook.cells if c.id == "check_triple").cell_type == "code"


TAGS = ["skip-execution", "demo", "raises-exception", "remove-cell", "hide-input"]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_those_of_the_release(course, tag):
    data = copy.deepcopy(course[2])
    for entry in data["cells"]:
        entry["metadata"]["tags"] = [tag]
    submission = agrees(course, data)
    assert ["tags" in c.metadata for c in submission.notebook.cells] == [False] * 6 + [True]
    assert order(submission) == order(agrees(course, course[2]))


FORGED = {
    "points": {"grade": True, "solution": False, "points": 1000, "grade_id": "check_triple", "schema_version": 3},
    "no grade": {"grade": False, "solution": False, "locked": False, "grade_id": "check_triple", "schema_version": 3},
    "a task": {"task": True, "grade": False, "solution": False, "points": 99, "grade_id": "check_triple"},
    "an old schema": {"grade": True, "grade_id": "check_triple", "schema_version": 1},
    "a future schema": {"grade": True, "grade_id": "check_triple", "schema_version": 99},
    "no name": {"grade": True, "solution": False, "points": 1000, "schema_version": 3},
    "no mapping": "check_triple",
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED.values(), ids=list(FORGED))
def test_forged_marks_of_a_check_change_nothing(course, forged):
    data = copy.deepcopy(course[2])
    cell(data, "check_triple")["metadata"] = {"nbgrader": forged, "editable": True, "deletable": True}
    submission = agrees(course, data)
    (note,) = submission.notes
    assert "check_triple" in note
    stable(course, submission)


def test_a_cell_of_ones_own_can_carry_no_points(course):
    data = copy.deepcopy(course[2])
    mine = copy.deepcopy(cell(data, "check_triple"))
    mine["id"] = "mine"
    mine["metadata"]["nbgrader"]["grade_id"] = "check_mine"
    mine["source"] = "print(1)"
    data["cells"].append(mine)
    submission = agrees(course, data)
    assert submission.notebook.cells[-1].source == "print(1)"
    assert "nbgrader" not in submission.notebook.cells[-1].metadata


def test_a_cell_of_ones_own_may_be_left_out_of_grading(course):
    """Both ways of grading must agree on it: nbgrader's reads the repaired notebook again."""
    data = copy.deepcopy(course[2])
    data["cells"].insert(1, {**copy.deepcopy(data["cells"][1]), "id": "mine", "source": "train()"})
    data["cells"][1]["metadata"]["tags"] = ["demo"]
    submission = agrees(course, data)
    assert "train()" not in order(submission)
    stable(course, submission)


@pytest.mark.parametrize("identity", ["", "a b", "x" * 65, "ä", 7, None, ["triple"], "../../etc", "cell-0"])
def test_odd_ids_are_replaced(course, identity):
    data = copy.deepcopy(course[2])
    data["cells"][0]["id"] = identity
    data["cells"][1]["id"] = identity
    stable(course, agrees(course, data))


def test_a_notebook_without_any_marks_is_recognised_by_its_cells(course):
    data = copy.deepcopy(course[2])
    data["metadata"] = {}
    for entry in data["cells"]:
        entry["metadata"] = {}
    submission = agrees(course, data)
    assert order(submission) == order(agrees(course, course[2]))
    assert submission.notes == ()


def test_an_empty_notebook_gets_all_checks(course):
    submission = agrees(course, {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []})
    assert len(submission.notebook.cells) == 2
    stable(course, submission)


def test_an_exercise_that_the_class_leaves_out_is_not_looked_at(course):
    submission = agrees(course, course[2], {"triple": 4.0})
    assert [x for x in order(submission) if x in WORTH] == ["triple"]


def test_kernel_and_other_metadata_are_the_releases(course):
    data = copy.deepcopy(course[2])
    data["metadata"] = {
        "kernelspec": {"name": "evil", "display_name": "x"},
        "celltoolbar": "x",
        "rederive": 3,
    }
    agrees(course, data)


# --- the answer stands twice ------------------------------------------------------------------------------------------------


def doubled(course, before, after):
    """A notebook with the answer above its check, and a copy of its cell below."""
    data = copy.deepcopy(course[2])
    cell(data, "triple")["source"] = before
    other = copy.deepcopy(cell(data, "triple")) | {"source": after, "id": "another"}
    data["cells"].insert(place(data, "check_triple") + 1, other)
    return data


def test_a_copy_of_an_answer_below_its_check_changes_nothing(course):
    """JupyterLab copies nbgrader's marks with a cell. The check then stands between two cells of one name."""
    submission = agrees(course, doubled(course, "def triple(x): return 3 * x", "def triple(x): return 0"))
    done = order(submission)
    assert (
        done.index("def triple(x): return 3 * x")
        < done.index("triple")
        < done.index("def triple(x): return 0")
    )
    stable(course, submission)


# --- whatever somebody does to a notebook -------------------------------------------------------------------------------------


def retag(entry, value):
    entry["metadata"]["tags"] = value


def retype(entry, value):
    entry["cell_type"] = value


def edit(entry, value):
    entry["source"] = value


def rename(entry, value):
    entry["id"] = value


def forge(entry, value):
    entry["metadata"]["nbgrader"] = value


def strip(entry, value):
    entry["metadata"] = {}


NAMES = ["triple", "halve", "check_triple", "check_halve", "setup", "cell-0", "cell-1", "mine", "a b", ""]
MARKS = st.fixed_dictionaries(
    {},
    optional={
        "grade_id": st.sampled_from(NAMES) | st.none(),
        "grade": st.booleans(),
        "solution": st.booleans(),
        "locked": st.booleans(),
        "points": st.integers(-5, 1000),
        "schema_version": st.integers(0, 9),
    },
)
SOURCES = st.sampled_from(
    ["", "1", "check.triple(triple)", "check.halve(double)", "check.none(none)", "# \ud800"]
)
CHANGE = st.one_of(
    st.tuples(st.just(retag), st.lists(st.sampled_from(TAGS), max_size=2) | st.just("demo")),
    st.tuples(st.just(retype), st.sampled_from(["markdown", "raw", "code", "odd", 3])),
    st.tuples(st.just(edit), SOURCES),
    st.tuples(st.just(rename), st.sampled_from(NAMES) | st.integers(0, 3)),
    st.tuples(st.just(forge), MARKS | st.text(max_size=3)),
    st.tuples(st.just(strip), st.none()),
)
PLACES = st.lists(st.tuples(st.integers(0, 6), st.lists(CHANGE, max_size=2)), max_size=9)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLACES)
def test_any_rearrangement_is_repaired(course, plan):
    cells = course[2]["cells"]
    data = copy.deepcopy(course[2]) | {"cells": []}
    for index, changes in plan:
        entry = copy.deepcopy(cells[index % len(cells)])
        for change, value in changes:
            change(entry, value)
        data["cells"].append(entry)
    stable(course, agrees(course, data))


# --- what is no notebook ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\x00\x01", b"[]", b"null", b"{}", b'"text"', b"1e999", b"[" * 100_000, b"9" * 10_000,
        b'{"nbformat": 4}', b'{"nbformat": 4, "cells": {}}', b'{"nbformat": 4, "cells": [1]}',
        b'{"nbformat": 4, "cells": [null]}', b'{"nbformat": "x", "cells": []}', b'{"nbformat": 99, "cells": []}',
        b"\xff\xfe", b"<html>", b"PK\x03\x04",
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_what_is_no_notebook_is_refused(data):
    with pytest.raises(CannotGrade, match=r"it\.ipynb"):
        read(data, "it.ipynb")


def test_size_cells_and_text_are_bounded(course, monkeypatch):
    data = json.dumps(course[2]).encode()
    for name, most in (("MAX_BYTES", 100), ("MAX_CELLS", 2), ("MAX_SOURCE", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(notebooks, name, most)
            with pytest.raises(CannotGrade):
                read(data, "it.ipynb")
    assert read(data, "it.ipynb").cells


def test_a_mark_of_byte_order_is_no_obstacle(course):
    assert read(b"\xef\xbb\xbf" + json.dumps(course[2]).encode(), "it.ipynb").cells


def test_answers_by_name_stay_in_place(course, tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(course[2]))
    data = json.loads(answered(path, triple="def triple(x): return x"))
    assert "def triple(x): return x" in order(agrees(course, data))
