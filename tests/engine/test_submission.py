"""Which lesson a file is, and what is run and looked at: decided by the released lesson, not by the file."""

import copy
import json
import os

import pytest

from autograde.submission import CannotGrade, plan, read_notebook
from engine.helpers import ANSWERS, LESSON, ROOT, code_cell, grade_id, position, released, solved, write

NAMES = list(ANSWERS)
CHECKS = [f"check_{name}" for name in NAMES]


def planned(folder, notebook, name="01_vanilla_rnn.ipynb"):
    path = write(folder, notebook, name)
    return plan(read_notebook(path), path, ROOT)


def checked(submission):
    """The exercises that are looked at, in order."""
    return [step.exercise for step in submission.steps if step.check]


def defined_before_check(submission):
    """The exercises whose own cell runs before they are looked at."""
    ran, fine = set(), set()
    for step in submission.steps:
        if step.check and step.exercise in ran:
            fine.add(step.exercise)
        elif step.exercise and not step.check:
            ran.add(step.exercise)
    return fine


def without(notebook, *names):
    notebook["cells"] = [cell for cell in notebook["cells"] if grade_id(cell) not in names]
    return notebook


def test_the_released_lesson_is_planned_as_it_stands(tmp_path):
    submission = planned(tmp_path, released())
    assert submission.lesson == LESSON
    assert checked(submission) == NAMES
    assert defined_before_check(submission) == set(NAMES)
    assert submission.notes == ()


def test_demo_cells_are_left_out_and_others_are_run(tmp_path):
    sources = [step.source for step in planned(tmp_path, released()).steps if not step.check]
    for cell in released()["cells"]:
        if cell["cell_type"] == "code" and grade_id(cell) not in CHECKS:
            text = "".join(cell["source"])
            assert (text in sources) == ("demo" not in cell["metadata"].get("tags", []))


def test_an_exercise_cell_tagged_demo_or_skip_execution_is_run(tmp_path):
    notebook = solved()
    for name in ("rnn_step", "setup"):
        index = position(notebook, name) if name in NAMES else 1
        notebook["cells"][index]["metadata"]["tags"] = ["demo", "skip-execution"]
    sources = [step.source for step in planned(tmp_path, notebook).steps]
    assert ANSWERS["rnn_step"] in sources
    assert any("open_lesson" in source for source in sources)


def test_a_check_cell_tagged_demo_or_skip_execution_is_looked_at(tmp_path):
    notebook = solved()
    for name in CHECKS:
        notebook["cells"][position(notebook, name)]["metadata"]["tags"] = ["demo", "skip-execution"]
    assert checked(planned(tmp_path, notebook)) == NAMES


def test_a_demo_cell_whose_tag_was_taken_away_is_still_left_out(tmp_path):
    notebook = released()
    for cell in notebook["cells"]:
        cell["metadata"].pop("tags", None)
    assert len(planned(tmp_path, notebook).steps) == len(planned(tmp_path, released(), "b.ipynb").steps)


def test_deleted_checks_are_put_back_behind_their_exercise(tmp_path):
    submission = planned(tmp_path, without(solved(), *CHECKS))
    assert sorted(checked(submission)) == sorted(NAMES)
    assert defined_before_check(submission) == set(NAMES)
    assert len([note for note in submission.notes if "put back" in note]) == len(NAMES)


def test_an_edited_check_counts_as_the_original(tmp_path):
    notebook = solved()
    notebook["cells"][position(notebook, "check_rnn_step")]["source"] = "pass"
    submission = planned(tmp_path, notebook)
    assert checked(submission) == NAMES
    assert any("check_rnn_step was edited" in note for note in submission.notes)
    assert "pass" not in [step.source for step in submission.steps]


def test_a_duplicated_check_counts_once(tmp_path):
    notebook = solved()
    index = position(notebook, "check_rnn_step")
    notebook["cells"].insert(index + 1, copy.deepcopy(notebook["cells"][index]))
    submission = planned(tmp_path, notebook)
    assert checked(submission) == NAMES
    assert any("twice" in note for note in submission.notes)


@pytest.mark.parametrize("kind", ["metadata", "typed by hand"])
def test_a_copy_of_a_check_above_its_exercise_does_not_cost_the_points(tmp_path, kind):
    notebook = solved()
    copied = copy.deepcopy(notebook["cells"][position(notebook, "check_rnn_step")])
    notebook["cells"].insert(2, copied if kind == "metadata" else code_cell("check.rnn_step(rnn_step)"))
    submission = planned(tmp_path, notebook)
    assert checked(submission).count("rnn_step") == 1
    assert defined_before_check(submission) == set(NAMES)


def test_a_check_that_was_moved_above_its_exercise_does_not_cost_the_points(tmp_path):
    notebook = solved()
    notebook["cells"].insert(2, notebook["cells"].pop(position(notebook, "check_rnn_forward")))
    assert defined_before_check(planned(tmp_path, notebook)) == set(NAMES)


def test_reversing_all_cells_still_looks_at_every_exercise_once(tmp_path):
    notebook = solved()
    notebook["cells"].reverse()
    assert sorted(checked(planned(tmp_path, notebook))) == sorted(NAMES)


def test_a_renamed_file_is_recognised_by_its_metadata(tmp_path):
    assert planned(tmp_path, solved(), "homework (3) final.ipynb").lesson == LESSON


def test_without_any_metadata_it_is_recognised_by_its_cells(tmp_path):
    notebook = solved()
    notebook["metadata"] = {}
    for cell in notebook["cells"]:
        cell["metadata"] = {}
    submission = planned(tmp_path, notebook, "homework.ipynb")
    assert submission.lesson == LESSON
    assert defined_before_check(submission) == set(NAMES)


def test_without_metadata_and_ids_it_is_recognised_by_its_checks(tmp_path):
    notebook = solved()
    notebook["metadata"] = {}
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id")
    notebook["nbformat_minor"] = 4
    submission = planned(tmp_path, notebook, "homework.ipynb")
    assert submission.lesson == LESSON
    assert checked(submission) == NAMES


def test_source_as_a_list_of_lines_is_read(tmp_path):
    notebook = solved()
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
    assert ANSWERS["rnn_step"] in [step.source for step in planned(tmp_path, notebook).steps]


def test_a_false_claim_about_points_and_locks_changes_nothing(tmp_path):
    notebook = solved()
    entry = notebook["cells"][position(notebook, "check_rnn_step")]["metadata"]["nbgrader"]
    entry.update(points=1000, grade=False, locked=False, solution=True)
    assert checked(planned(tmp_path, notebook)) == NAMES


@pytest.mark.parametrize(
    "odd",
    [
        {"id": []}, {"id": {}}, {"id": 3}, {"metadata": None}, {"metadata": []}, {"metadata": {"nbgrader": 3}},
        {"metadata": {"nbgrader": {"grade_id": []}}}, {"metadata": {"nbgrader": {"grade_id": {}}}},
        {"metadata": {"tags": "demo"}}, {"source": None}, {"cell_type": []}, {"cell_type": "heading"}, {"outputs": 3},
    ],
    ids=str,
)  # fmt: skip
def test_odd_cells_are_run_or_refused_in_one_sentence(tmp_path, odd):
    notebook = solved()
    notebook["cells"].insert(3, {**code_cell("x = 1"), **odd})
    try:
        found = checked(planned(tmp_path, notebook))
    except CannotGrade as error:
        found = str(error).splitlines()
    assert found == NAMES or len(found) == 1


@pytest.mark.parametrize(
    "metadata",
    [None, [], 3, {"rederive": 3}, {"rederive": {"lesson": []}}, {"rederive": {"lesson": "../x"}}],
    ids=str,
)
def test_odd_metadata_of_the_notebook_does_not_matter(tmp_path, metadata):
    assert planned(tmp_path, {**solved(), "metadata": metadata}).lesson == LESSON


# --- files that cannot be graded --------------------------------------------------------------------------------------


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


OTHER = {"cells": [code_cell("print(1)")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not valid JSON"), (b"{", "not valid JSON"), (json.dumps(released()).encode()[:5000], "not valid JSON"),
        (b"\x89PNG\r\n\x1a\n", "not valid JSON"), (b"[" * 100_000, "not valid JSON"), (b"\xff\xfe{}", "no notebook"),
        (b"[]", "no list of cells"), (b"3", "no list of cells"), (b"null", "no list of cells"),
        (b'"text"', "no list of cells"), (b"{}", "no list of cells"), (b'{"cells": 3, "nbformat": 4}', "no list of cells"),
        (b'{"cells": [3], "nbformat": 4}', "no list of cells"), (b'{"nbformat": [4], "cells": []}', "no list of cells"),
        (json.dumps(OTHER).encode(), "not one of this course's lessons"),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_file_that_is_no_lesson_gets_one_sentence(tmp_path, content, words):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(CannotGrade) as caught:
        plan(read_notebook(path), path, ROOT)
    assert words in one_sentence(caught)


def test_missing_files_folders_and_odd_names_get_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "fifo.ipynb")
    (tmp_path / "loop.ipynb").symlink_to(tmp_path / "loop.ipynb")
    for path in (tmp_path, tmp_path / "none.ipynb", tmp_path / "fifo.ipynb", tmp_path / "loop.ipynb"):
        with pytest.raises(CannotGrade) as caught:
            read_notebook(path)
        one_sentence(caught)


def test_a_name_that_is_too_long_gets_one_sentence(tmp_path):
    with pytest.raises(CannotGrade) as caught:
        read_notebook(tmp_path / ("x" * 300 + ".ipynb"))
    one_sentence(caught)


def test_a_file_that_is_too_large_gets_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("autograde.submission.MAX_BYTES", 100)
    path = write(tmp_path, released())
    with pytest.raises(CannotGrade) as caught:
        read_notebook(path)
    assert "Clear its outputs" in one_sentence(caught)
