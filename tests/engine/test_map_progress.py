"""The course map, and what is remembered of a learner's progress."""

import json
import os
import re

import nbformat
import pytest

from autograde import progress
from autograde.course import read_course
from autograde.coursemap import (
    map_notebook,
    progress_html,
    progress_rows,
    progress_text,
    refresh,
    show_progress,
)
from autograde.progress import Record, find_work, record, results, write_atomically
from engine.helpers import LESSON, ROOT, released


@pytest.fixture
def course(tmp_path):
    """The real course, with the released lesson as it was when the tests began."""
    folder = tmp_path / "course"
    path = folder / "lessons" / f"{LESSON}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(released()))
    (folder / "course.toml").write_text((ROOT / "course.toml").read_text())
    return folder


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    (folder / ".rederive").mkdir(parents=True)
    return folder


def passed(name="rnn_step", ok=True, score=4.0):
    return Record(name, score, 4.0, ok, "0.1")


def file(work, name="rnn_step"):
    return work / ".rederive" / "progress" / LESSON / f"{name}.json"


# --- the map ----------------------------------------------------------------------------------------------------------


def test_the_map_lists_every_topic_and_marks_those_that_are_not_built(course):
    made = read_course(course)
    text = "\n".join(cell.source for cell in map_notebook(made, course).cells)
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and "do first" not in line and ":---" not in line
    ]
    assert len(rows) == len(made.topics) == 33
    for topic in made.topics:
        (row,) = [line for line in rows if line.startswith(f"| {topic.title} |")]
        assert ("not built yet" in row.replace("&nbsp;", " ")) == (topic.name != "rnn")
        assert topic.about in row
        for needed in topic.prerequisites:
            assert made.topic(needed).title in row


def test_links_of_the_map_lead_to_lessons(course):
    text = "\n".join(cell.source for cell in map_notebook(read_course(course), course).cells)
    links = re.findall(r"\]\(([^)]+\.ipynb)\)", text)
    assert links == [f"{LESSON}.ipynb"]
    assert all((course / "lessons" / link).is_file() for link in links)


def test_no_cell_of_a_table_breaks_the_table(course):
    for cell in map_notebook(read_course(course), course).cells:
        for table in re.findall(r"(?:^\|.*\n?)+", cell.source, re.MULTILINE):
            counts = {line.count("|") for line in table.splitlines()}
            assert len(counts) == 1, table


def test_the_map_is_a_valid_notebook_and_the_same_every_time(course):
    first, second = (nbformat.writes(map_notebook(read_course(course), course)) for _ in range(2))
    nbformat.validate(nbformat.reads(first, 4))
    assert first == second


# --- progress on the map ----------------------------------------------------------------------------------------------


def test_a_recorded_pass_is_counted(course, work):
    assert [row.passed for row in progress_rows(course, work)] == [0]
    assert "not begun" in progress_html(course, work)
    record(work, LESSON, passed())
    record(work, LESSON, passed("n_params", ok=False, score=0.0))
    record(work, LESSON, passed("no_such_exercise"))
    assert [row.passed for row in progress_rows(course, work)] == [1]
    assert "1 of 6 exercises passed" in progress_text(course, work)
    assert 'aria-label="1 of 6 exercises passed"' in progress_html(course, work)
    assert "5 to go" in progress_html(course, work)


def test_the_map_is_refreshed_with_the_progress_in_it(course, work):
    path = refresh(course, work)
    record(work, LESSON, passed())
    assert refresh(course, work) == path == work / "start.ipynb"
    notebook = nbformat.read(path, 4)
    (cell,) = [c for c in notebook.cells if c.id == "progress"]
    assert "1 of 6" in cell.outputs[0].data["text/html"]
    assert "1 of 6" in cell.outputs[0].data["text/plain"]


def test_a_map_that_the_learner_edited_is_left_alone(course, work):
    path = refresh(course, work)
    data = json.loads(path.read_text())
    data["cells"][0]["source"] = "# My own notes"
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    refresh(course, work)
    assert path.read_bytes() == before


def test_a_map_that_was_only_run_is_refreshed(course, work):
    path = refresh(course, work)
    data = json.loads(path.read_text())
    data["cells"][2]["outputs"] = []
    data["cells"][2]["execution_count"] = 7
    path.write_text(json.dumps(data))
    refresh(course, work)
    assert json.loads(path.read_text())["cells"][2]["outputs"]


def test_a_notebook_of_the_learners_own_with_the_maps_name_is_left_alone(course, work):
    mine = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    mine["cells"].append(
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "my notes of three weeks"}
    )
    (work / "start.ipynb").write_text(json.dumps(mine))
    refresh(course, work)
    assert "my notes of three weeks" in (work / "start.ipynb").read_text()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "null", "{}", '{"cells": null, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
     '{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {"rederive": "x"}}'],
)  # fmt: skip
def test_a_map_that_is_no_notebook_is_left_alone_and_no_crash(course, work, content):
    (work / "start.ipynb").write_text(content)
    refresh(course, work)
    assert (work / "start.ipynb").read_text() == content


def test_without_a_work_folder_the_progress_cell_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    show_progress()
    assert "make lab" in capsys.readouterr().out


def test_names_in_the_progress_table_are_escaped(course, work):
    path = course / "lessons" / f"{LESSON}.ipynb"
    notebook = released()
    notebook["cells"][0] = {
        "cell_type": "markdown",
        "id": "t",
        "metadata": {},
        "source": "# <script>x</script>",
    }
    path.write_text(json.dumps(notebook))
    assert "<script>" not in progress_html(course, work)


# --- records ----------------------------------------------------------------------------------------------------------


def test_the_nearest_work_folder_upwards_is_found(work, tmp_path):
    deep = work / "rnn" / "more"
    deep.mkdir(parents=True)
    assert find_work(deep) == work.resolve()
    assert find_work(tmp_path) is None


def test_passed_stays_passed_and_the_latest_score_is_kept(work):
    record(work, LESSON, passed())
    record(work, LESSON, passed(ok=False, score=1.0))
    kept = results(work, LESSON)["rnn_step"]
    assert (kept.passed, kept.score) == (True, 1.0)


def test_not_passed_does_not_become_passed(work):
    record(work, LESSON, passed(ok=False, score=1.0))
    assert not results(work, LESSON)["rnn_step"].passed


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"3", b'"x"', b"{}", b"\xff\xfe", b'{"exercise": "rnn_step"}', b"[" * 100_000,
        b'{"exercise": "a", "score": "x", "max_score": 1, "passed": true, "version": "1"}',
        b'{"exercise": "a", "score": null, "max_score": 1, "passed": true, "version": "1"}',
        b'{"exercise": "a", "score": 1' + b"0" * 400 + b', "max_score": 1, "passed": true, "version": "1"}',
    ],
    ids=range(13),
)  # fmt: skip
def test_a_broken_progress_file_is_ignored_and_replaced(work, content):
    record(work, LESSON, passed("n_params"))
    file(work).write_bytes(content)
    assert set(results(work, LESSON)) == {"n_params"}
    record(work, LESSON, passed())
    assert set(results(work, LESSON)) == {"n_params", "rnn_step"}


def test_a_folder_where_the_file_should_be_is_ignored(work):
    file(work).mkdir(parents=True)
    record(work, LESSON, passed())
    assert results(work, LESSON) == {}


def test_a_full_disk_does_not_disturb_a_check(work, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress.tempfile, "mkstemp", full)
    record(work, LESSON, passed())


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_crash_between_write_and_rename_leaves_the_old_file(tmp_path, monkeypatch, kind):
    path = tmp_path / "a" / "b.json"
    write_atomically(path, "old")

    def stop(*args):
        raise kind

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(kind):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "b.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]
