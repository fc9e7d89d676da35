"""What students get: it works on its own, and holds no solution."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from toyclass import answered

from autograde.build import build
from autograde.classroom import pack
from autograde.classroom.pack import make_pack, reduced_makefile
from autograde.course import CourseError, read_course, root
from autograde.coursemap import map_notebook
from autograde.lessons import all_lessons
from autograde.sources import read_sources

ALONE = """
import runpy, sys
from pathlib import Path

# An editable install of the course would fill in what is missing here.
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in repr(finder)]
try:
    runpy.run_module("autograde", run_name="__main__")
finally:
    here = Path.cwd().resolve()
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("autograde", "utils") and getattr(module, "__file__", None):
            assert Path(module.__file__).resolve().is_relative_to(here), module.__file__
"""
"""Runs the command in the current folder, and checks that every module of the course is from there."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The pack of the real course, and the list of its files."""
    place = tmp_path_factory.mktemp("pack") / "for-students"
    return place, make_pack(place)


@pytest.fixture(scope="module")
def work(made, tmp_path_factory):
    """A copy to work in."""
    return shutil.copytree(made[0], tmp_path_factory.mktemp("student") / "rederive")


def alone(place, *arguments):
    """The command as a student runs it, with this interpreter."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("REDERIVE", "NBGRADER", "JUPYTER"))
    }
    return subprocess.run(
        [sys.executable, "-c", ALONE, *arguments],
        cwd=place, capture_output=True, text=True, timeout=280, env=environment | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_nothing_but_what_students_need_is_inside(made):
    _, files = made
    allowed = r"(lessons/|utils/|autograde/)|(LICENSE(-TEXT)?|Makefile|README.md|constraints.txt|course.toml|environment.yml|pyproject.toml)$"
    assert [name for name in files if not re.match(allowed, name)] == []
    unwanted = (
        r"solution|(^|/)tests?/|classroom|build\.py|killrate|docs|\.git|__pycache__|checkpoint|\.db$|work/"
    )
    assert [name for name in files if re.search(unwanted, name)] == []
    for name in (
        "autograde/exercises/rnn/rnn_step.py",
        "utils/reference/rnn/elman.py",
        "lessons/start.ipynb",
    ):
        assert name in files


def body(cell):
    """The lines of a solution cell between the two marks, without indentation; short ones say nothing."""
    inside = cell.source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
    return [line.strip() for line in inside.splitlines() if len(line.strip()) > 12]


def solutions():
    """Every solution of the course, by lesson and exercise; without lines that the lessons' other cells have, too."""
    cells = [
        (source, cell)
        for source in read_sources(root() / "solutions", read_course())
        for cell in source.cells
    ]
    common = {
        line.strip()
        for _, cell in cells
        if "### BEGIN SOLUTION" not in cell.source
        for line in cell.source.splitlines()
    }
    return {
        (source.name, cell.title): [line for line in body(cell) if line not in common]
        for source, cell in cells
        if "### BEGIN SOLUTION" in cell.source
    }


def leaks(place):
    """Lines of solutions in a pack, outside of what students may read: the references and the known mistakes."""
    readable = ("utils/reference/", "autograde/exercises/")
    lines: dict[str, set[str]] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and not name.startswith(readable):
            text = path.read_text(encoding="utf-8")
            cells = json.loads(text)["cells"] if path.suffix == ".ipynb" else [{"source": text}]
            for line in (line for cell in cells for line in "".join(cell["source"]).splitlines()):
                lines.setdefault(line.strip(), set()).add(name)
    return {
        (lesson, exercise, line): lines[line]
        for (lesson, exercise), body in solutions().items()
        for line in body
        if line in lines
    }


def test_no_line_of_a_solution_is_inside(made):
    assert sum(len(body) for body in solutions().values()) >= 20
    assert leaks(made[0]) == {}


def test_a_solution_would_be_found(made, tmp_path):
    place = shutil.copytree(made[0], tmp_path / "pack")
    for name, text in build(root()).sources.items():
        (place / "lessons" / name).write_text(text)
    assert {exercise for _, exercise, _ in leaks(place)} == {exercise for _, exercise in solutions()}


def test_the_same_course_gives_the_same_files(made, tmp_path):
    place, files = made
    assert make_pack(tmp_path / "again") == files
    assert all((place / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_its_course_holds_its_topics_only(made):
    course = read_course(made[0])
    built = [topic.name for topic in read_course().topics if not topic.planned]
    assert [topic.name for topic in course.topics] == built
    assert {lesson.topic for lesson in all_lessons(made[0])} == set(built)
    assert "not&nbsp;built&nbsp;yet" not in str(map_notebook(course, made[0]))


@pytest.mark.slow
def test_checking_works_there(work):
    """The unsolved lesson, and the solved one, with nothing but the pack."""
    lesson = "rnn/01_vanilla_rnn"
    unsolved = alone(work, "check", f"lessons/{lesson}.ipynb", "--json")
    assert unsolved.returncode == 1, unsolved.stderr
    assert json.loads(unsolved.stdout)["score"] == 0
    answers = {
        cell.title: cell.source
        for source in read_sources(root() / "solutions", read_course())
        for cell in source.cells
        if "exercise" in cell.tags and source.name == lesson
    }
    path = work / "work" / f"{lesson}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(answered(work / "lessons" / f"{lesson}.ipynb", **answers))
    solved = alone(work, "check", str(path.relative_to(work)))
    assert solved.returncode == 0, solved.stdout + solved.stderr


def test_the_commands_there_are_the_students(work):
    shown = alone(work, "--help").stdout
    for name in ("check", "doctor", "lab"):
        assert re.search(rf"│ {name} ", shown), shown
    for name in ("build", "killrate", "roster", "new-class", "student-pack"):
        assert not re.search(rf"│ {name} ", shown), shown


@pytest.mark.slow
def test_the_doctor_works_there(work):
    done = alone(work, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_target_of_the_makefile_works_there(work):
    text = (work / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert targets == {"help", "setup", "lab", "clean", "not-moved"}
    assert re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split() == [
        "help",
        "setup",
        "lab",
        "clean",
        "not-moved",
    ]
    for target in sorted(targets):
        done = subprocess.run(["make", "-n", target], cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "make test" not in text
    assert "tests" not in subprocess.run(["make", "help"], cwd=work, capture_output=True, text=True).stdout


def test_a_makefile_that_changed_is_noticed():
    with pytest.raises(CourseError, match="has no target test; mend NO_TARGETS"):
        reduced_makefile("help:\n\techo\n")


def test_its_readme_says_what_students_can_see(made):
    text = " ".join((made[0] / "README.md").read_text().split())
    for words in (
        "reference implementations (`utils/reference/`)",
        "`GRADED_SEED` in `autograde/notebook.py`",
        "It is no exam",
    ):
        assert words in text
    assert f"autograde check work/{all_lessons(made[0])[0].name}.ipynb" in text
    assert "GRADED_SEED = 1" in (made[0] / "autograde" / "notebook.py").read_text(), "the README says so"


def test_a_folder_that_is_not_empty_is_refused_and_an_empty_one_is_filled(tmp_path, command):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, shown = command("student-pack", tmp_path)
    assert status == 2
    assert "is there already and not empty" in " ".join(shown.split())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert command("student-pack", empty, "--topic", "rnn")[0] == 0
    assert (empty / "README.md").is_file()


def test_an_unknown_topic_is_refused(tmp_path, command):
    status, _, shown = command("student-pack", tmp_path / "pack", "--topic", "yolo")
    assert status == 2
    assert "There are no lessons for the topic 'yolo'" in shown
    assert not (tmp_path / "pack").exists()


def test_it_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "README.md")

    monkeypatch.setattr(pack, "_readme", full)
    with pytest.raises(CourseError, match="could not be made: No space left on device"):
        make_pack(tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []
