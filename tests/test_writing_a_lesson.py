"""docs/writing-a-lesson.md: its example, typed as it stands, makes a topic, in the places that it names and nowhere else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "writing-a-lesson.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"<!-- (file|append to|run|not run)(?:: ([^\n]*?))? -->\n```\w+\n(.*?)```\n", DOCUMENT, re.DOTALL
)
PLACES = {
    "course.toml",
    "utils/reference/running_mean.py",
    "autograde/exercises/running_mean.py",
    "solutions/running_mean/01_running_mean.py",
    "tests/exercises/running_mean.py",
}
MADE = {"lessons/running_mean/01_running_mean.ipynb", "lessons/start.ipynb", "README.md"}


def run(folder, *command):
    """One command in the copy of the project, which is the one that is imported."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


def contents(folder):
    """Every file with what is in it, without caches."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    folder.mkdir()
    for name in ("autograde", "docs", "lessons", "solutions", "tests", "utils"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("course.toml", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_the_example_makes_a_topic_in_its_places_and_nowhere_else_and_goes_away_again(project):
    before = contents(project)
    for kind, name, text in BLOCKS:
        if kind == "file":
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(text, encoding="utf-8")
        elif kind == "append to":
            with (project / name).open("a", encoding="utf-8") as file:
                file.write(f"\n{text}")
        elif kind == "run":
            for line in text.splitlines():
                status, said = run(project, *line.split())
                assert status == 0, said

    after = contents(project)
    assert {name for name in after if after[name] != before.get(name)} == PLACES | MADE
    assert before.keys() <= after.keys()
    check_the_topic(project)

    for name in PLACES - {"course.toml"}:
        (project / name).unlink()
    (project / "solutions" / "running_mean").rmdir()
    (project / "course.toml").write_bytes(before["course.toml"])
    status, said = run(project, "autograde", "build")
    assert status == 0, said
    assert contents(project) == before
    assert not (project / "lessons" / "running_mean").exists()


def check_the_topic(project):
    """The released notebook scores nothing, a solved one everything, and a wrong one reads its mistake's sentence."""
    lesson = "lessons/running_mean/01_running_mean.ipynb"
    status, said = run(project, "autograde", "check", lesson)
    assert status == 1
    assert "0 of 3" in said
    text = (project / lesson).read_text(encoding="utf-8")
    for answer, expected, sentence in (
        ("return x.cumsum(0) / torch.arange(1, len(x) + 1)", 0, "3 of 3"),
        ("return x.cumsum(0)", 1, "You return the sum so far"),
    ):
        written = project.parent / "answer.ipynb"
        written.write_text(text.replace("raise NotImplementedError()", answer), encoding="utf-8")
        status, said = run(project, "autograde", "check", written)
        assert status == expected, said
        assert sentence in said


def test_every_block_of_the_document_is_marked():
    fences = [part for part in re.findall(r"^```(\w+)$", DOCUMENT, re.MULTILINE)]
    assert len(fences) == len(BLOCKS)
    assert all(reason for kind, reason, _ in BLOCKS if kind == "not run")
