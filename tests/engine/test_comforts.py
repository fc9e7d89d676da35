"""What makes a learner's life easier: progress, a fresh copy, a newer version, the course's solution after a pass."""

import json
import shutil

import nbformat
import pytest

from autograde import lab, open_lesson
from autograde.course import exercises
from autograde.coursemap import progress_html, progress_text
from autograde.lessons import digest, outdated
from autograde.progress import Record, record
from autograde.reveal import beside, course_solution
from engine.helpers import LESSON, ROOT, released
from utils.reference import rnn as reference


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course with one lesson, and a learner's folder that has been prepared."""
    folder = tmp_path / "course"
    path = folder / "lessons" / f"{LESSON}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(released()))
    (folder / "course.toml").write_text((ROOT / "course.toml").read_text())
    lab.prepare(folder, folder / "work")
    (folder / "work" / ".rederive").mkdir()
    monkeypatch.setenv("REDERIVE_ROOT", str(folder))
    monkeypatch.chdir(folder)
    return folder


def my_copy(course):
    return course / "work" / f"{LESSON}.ipynb"


def write_in(path, text):
    notebook = nbformat.read(path, 4)
    notebook.cells[2].source = text
    nbformat.write(notebook, path)


def release_again(course):
    path = course / "lessons" / f"{LESSON}.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[0].source += "\n\nMended."
    notebook.metadata["rederive"]["digest"] = digest(notebook)
    nbformat.write(notebook, path)


# --- reset ------------------------------------------------------------------------------------------------------------


def test_reset_sets_the_old_copy_aside_and_keeps_progress(course, command):
    write_in(my_copy(course), "my work")
    record(course / "work", LESSON, Record("rnn_step", 4, 4, True, "0.1"))
    status, shown, _ = command("reset", LESSON)
    assert status == 0
    (aside,) = (course / "work" / "set-aside" / "rnn").glob("01_vanilla_rnn *.ipynb")
    assert str(aside) in shown.replace("\n", "")
    assert nbformat.read(aside, 4).cells[2].source == "my work"
    assert nbformat.read(my_copy(course), 4).cells[2].source == "".join(released()["cells"][2]["source"])
    assert "1 of 6" in command("progress")[1]


def test_two_resets_in_one_minute_keep_both_copies(course, command):
    for text in ("first", "second"):
        write_in(my_copy(course), text)
        command("reset", LESSON)
    kept = {
        nbformat.read(path, 4).cells[2].source for path in (course / "work" / "set-aside").rglob("*.ipynb")
    }
    assert kept == {"first", "second"}


@pytest.mark.parametrize("name", [LESSON, "rnn/01", "work/rnn/01_vanilla_rnn.ipynb", "rnn"])
def test_reset_understands_names_paths_and_beginnings(course, command, name):
    assert command("reset", name)[0] == 0


def test_reset_of_a_lesson_that_does_not_exist_names_those_that_do(course, command):
    status, _, said = command("reset", "rnn/99")
    assert status == 2
    assert LESSON in said
    assert my_copy(course).exists()


def test_reset_gives_a_lesson_that_was_deleted(course, command):
    my_copy(course).unlink()
    assert command("reset", LESSON)[0] == 0
    assert my_copy(course).exists()
    assert not (course / "work" / "set-aside").exists()


def test_a_reset_that_fails_gives_the_old_copy_back(course, command, monkeypatch):
    write_in(my_copy(course), "my work")

    def full(source, target):
        raise OSError("No space left on device")

    monkeypatch.setattr(lab, "_copy_new", full)
    status, _, said = command("reset", LESSON)
    assert status == 2
    assert "nothing was lost" in said
    assert nbformat.read(my_copy(course), 4).cells[2].source == "my work"


# --- a newer version --------------------------------------------------------------------------------------------------


def test_a_lesson_that_changed_is_offered_and_never_imposed(course, command):
    work = course / "work"
    write_in(my_copy(course), "my work")
    assert not outdated(course, work, LESSON)
    assert "newer version" not in progress_html(course, work)
    release_again(course)
    assert outdated(course, work, LESSON)
    for shown in (progress_html(course, work), progress_text(course, work), command("progress")[1]):
        assert "newer version" in shown
        assert f"autograde reset {LESSON}" in shown
    lab.prepare(course, work)
    assert nbformat.read(my_copy(course), 4).cells[2].source == "my work"
    command("reset", LESSON)
    assert not outdated(course, work, LESSON)


def test_a_broken_copy_is_not_called_outdated(course):
    my_copy(course).write_text("{")
    assert not outdated(course, course / "work", LESSON)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_a_table_or_json(course, command):
    record(course / "work", LESSON, Record("rnn_step", 4, 4, True, "0.1"))
    status, shown, _ = command("progress")
    assert status == 0
    assert "1 of 6" in shown
    assert "5 to go" in shown
    (row,) = json.loads(command("progress", "--json")[1])
    assert row == {"lesson": LESSON, "passed": 1, "exercises": 6, "outdated": False}


def test_work_and_progress_move_to_another_machine_as_one_folder(course, command, tmp_path, monkeypatch):
    write_in(my_copy(course), "my work")
    record(course / "work", LESSON, Record("rnn_step", 4, 4, True, "0.1"))
    other = tmp_path / "elsewhere"
    shutil.copytree(course, other, ignore=shutil.ignore_patterns("work"))
    shutil.move(course / "work", other / "work")
    monkeypatch.setenv("REDERIVE_ROOT", str(other))
    monkeypatch.chdir(other)
    assert "1 of 6" in command("progress")[1]
    assert lab.prepare(other, other / "work") == []
    assert nbformat.read(my_copy(other), 4).cells[2].source == "my work"
    inside = [path for path in (other / "work").rglob("*") if path.is_file()]
    assert not any(str(course) in path.read_text(encoding="utf-8") for path in inside)


def test_progress_without_any_work_says_how_to_begin(course, command):
    shutil.rmtree(course / "work")
    status, shown, _ = command("progress")
    assert status == 0
    assert "make lab" in shown


# --- the course's solution --------------------------------------------------------------------------------------------


def last_valid(out, lengths):
    # <b>mine</b>
    return reference.last_valid(out, lengths)


def test_after_a_pass_both_solutions_stand_side_by_side():
    html = beside(LESSON, exercises("rnn")["last_valid"], last_valid)
    assert html.startswith("<details")
    assert "# &lt;b&gt;mine&lt;/b&gt;" in html
    assert "torch.arange(" in html
    assert "Arguments:" not in html
    assert "BEGIN SOLUTION" not in html


def test_the_solution_is_shown_only_after_a_pass(monkeypatch):
    shown = []
    monkeypatch.setattr("autograde.notebook._display", lambda text, html: shown.append(html))
    check = open_lesson(LESSON)
    with pytest.raises(AssertionError):
        check.last_valid(lambda out, lengths: out[:, -1])
    check.last_valid(last_valid)
    assert ["<details" in html for html in shown] == [False, True]
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("REDERIVE_STOCK_GRADING", "1")
    check.last_valid(last_valid)
    assert "<details" not in shown[2]


def test_without_the_solutions_folder_the_reference_is_shown(course):
    shown = course_solution(LESSON, exercises("rnn")["last_valid"])
    assert shown.startswith("def last_valid(")
    assert "lengths - 1" in shown


def test_a_function_without_source_is_no_error():
    assert "not at hand" in beside(LESSON, exercises("rnn")["n_params"], len)
