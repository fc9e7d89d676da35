"""The command line: exit statuses, the JSON form, and one sentence for a user's mistake."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

import autograde.run
from autograde import cli
from autograde.compare import Finding
from autograde.grade import failed
from autograde.run import NotebookResult
from engine.helpers import LESSON, ROOT, exercise, matrix, released, result, scaled, solved, write

TOY = exercise(scaled, matrix)


@pytest.fixture
def graded(monkeypatch):
    """Puts a result in place of grading, so that no process is started."""

    def put(*found, notes=()):
        made = NotebookResult(LESSON, {entry.name: entry for entry in found}, {}, tuple(notes))
        monkeypatch.setattr(autograde.run, "grade_notebook", lambda *args, **kwargs: made)

    return put


def test_right_wrong_and_unusable_have_a_status_each(command, graded, tmp_path):
    path = write(tmp_path, solved())
    graded(result(TOY, scaled))
    assert command("check", path)[0] == 0
    graded(result(TOY, lambda x: x))
    status, out, _ = command("check", path)
    assert status == 1
    assert "32 of 32 values of the result differ" in " ".join(out.split())
    graded(failed(TOY, Finding("grader-error", "The check itself is broken"), 1, "grader-error"))
    assert command("check", path)[0] == 2


def test_the_json_form_is_json_and_nothing_else(command, graded, tmp_path):
    path = write(tmp_path, solved())
    graded(result(TOY, lambda x: x), notes=("a note",))
    status, out, _ = command("check", path, "--json")
    data = json.loads(out)
    assert status == 1
    assert data["notebook"] == str(path)
    assert (data["lesson"], data["score"], data["max_score"]) == (LESSON, 0, 1)
    entry = data["exercises"]["scaled"]
    assert set(entry) == {"score", "max_score", "verdict", "requirements", "diagnosis"}
    assert entry["verdict"] == "wrong"
    assert "values of the result differ" in entry["requirements"]["the requirement"]["message"]
    assert data["notes"] == ["a note"]


def test_brackets_in_messages_are_no_markup(command, graded, tmp_path):
    def stops(x):
        raise ValueError("[red]shape [/red] [4, 8] [/nonsense]")

    graded(result(TOY, stops), notes=("[bold]note[/x]",))
    _, out, _ = command("check", write(tmp_path, solved()))
    assert "[red]shape [/red] [4, 8] [/nonsense]" in " ".join(out.split())
    assert "[bold]note[/x]" in out


def test_a_message_that_no_terminal_can_show_does_not_end_the_command(tmp_path, monkeypatch):
    import io
    import sys

    def stops(x):
        raise ValueError("\udcff")

    made = NotebookResult(LESSON, {"scaled": result(TOY, stops)}, {}, ("\ud800",))
    monkeypatch.setattr(autograde.run, "grade_notebook", lambda *args, **kwargs: made)
    monkeypatch.setattr("sys.argv", ["autograde", "check", str(write(tmp_path, solved()))])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    monkeypatch.setattr(cli, "out", Console(highlight=False))  # what it could not write is not written later
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        b"[" * 100_000,
    ],
    ids=range(6),
)
def test_a_file_that_cannot_be_graded_is_status_2_with_one_sentence(command, tmp_path, content):
    path = tmp_path / "a [red].ipynb"
    path.write_bytes(content)
    for extra in ((), ("--json",)):
        status, out, err = command("check", path, *extra)
        assert (status, out) == (2, "")
        assert "a [red].ipynb" in " ".join(err.split())


@pytest.mark.parametrize("name", [".", "nothing.ipynb", "x" * 300 + ".ipynb"])
def test_a_wrong_path_is_status_2_with_one_sentence(command, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    status, _, err = command("check", name)
    assert status == 2
    assert err.strip()


def test_wrong_options_are_status_2(command, tmp_path):
    assert command("check")[0] == 2
    assert command("check", "a.ipynb", "--seed", "0")[0] == 2
    assert command("chekc")[0] == 2


def test_version_and_help_are_status_0(command):
    assert command("--version")[1].startswith("rederive ")
    assert "Grade one notebook" in command("--help")[1]


def test_a_course_that_is_not_there_is_status_2(command, tmp_path, monkeypatch):
    monkeypatch.setenv("REDERIVE_ROOT", str(tmp_path / "nowhere"))
    assert command("build")[0] == 2
    assert command("check", write(tmp_path, released()))[0] == 2


def test_a_result_is_remembered_in_the_work_folder(command, graded, tmp_path):
    from autograde.progress import results

    (tmp_path / ".rederive").mkdir()
    graded(result(TOY, scaled))
    command("check", write(tmp_path / "rnn", solved()))
    assert results(tmp_path, LESSON)["scaled"].passed


def test_a_whole_notebook_from_the_command_line(command, tmp_path):
    """The one test here that starts the process."""
    status, out, _ = command("check", write(tmp_path, solved(), "mine.ipynb"), "--json")
    data = json.loads(out)
    assert status == 0, data["notes"]
    assert data["score"] == data["max_score"] > 0
    assert {entry["verdict"] for entry in data["exercises"].values()} == {"ok"}
    assert ROOT.is_dir()


def test_the_start_of_a_command_compiles_no_grammars_of_addresses():
    """It would take over a second each time. In a process that needs them they are still there."""
    program = (
        "import autograde.cli, nbformat, sys\nprint('rfc3987_syntax' in sys.modules)\nimport rfc3987_syntax"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
