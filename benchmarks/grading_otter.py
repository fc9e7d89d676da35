"""otter-grader: its environment, its form of our notebooks and checks, and (as a program) `otter run`'s engine on many of them.

otter-grader is needed by nothing else, so it gets a virtual environment of its own in build/otter, in which the packages of this
environment can be imported, too. As a program, with that environment's Python: `grading_otter.py AUTOGRADER.zip RESULT.json
NOTEBOOK ...` calls `otter.api.grade_submission`, which is what the command `otter run` does, for one notebook after the other in
one process. That spares otter the start of a process for each of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path

TEST = """\
from otter.test_files import test_case

OK_FORMAT = False
name = "{name}"
points = {points}


@test_case()
def looks_right({name}, check):
    check.{name}({name})
"""


class NotThere(Exception):
    """otter-grader cannot be installed; the message says why."""


def install(folder: Path) -> Path:
    """Put otter-grader into a virtual environment in ``folder``, if it is not there yet; its Python.

    Raises:
        NotThere: it cannot be installed, for example without a network.
    """
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            _run(sys.executable, "-m", "venv", str(folder))
            packages = next(folder.glob("lib/python*/site-packages"))
            (packages / "course.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        if not any(folder.glob("lib/python*/site-packages/otter_grader-*")):
            _run(str(python), "-m", "pip", "install", "--quiet", "otter-grader")
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
        raise NotThere(" ".join(last) or str(error)) from None
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


def version(python: Path) -> str:
    """The version of otter-grader in an environment."""
    command = [python, "-c", "from importlib.metadata import version; print(version('otter-grader'))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def as_otter(notebook: Path, to: Path) -> None:
    """Write a notebook in otter's form: its checks are named in the metadata of the exercises' cells.

    otter runs a test after the cell that names it, so every check is made where its cell stood. Demo cells are skipped.
    """
    data = json.loads(notebook.read_text(encoding="utf-8"))
    solutions = {}
    cells = []
    for cell in data["cells"]:
        entry = cell["metadata"].get("nbgrader", {})
        if entry.get("grade"):
            name = entry["grade_id"].removeprefix("check_")
            solutions[name]["metadata"]["otter"] = {"tests": [name]}
            continue
        if entry.get("solution"):
            solutions[entry["grade_id"]] = cell
        if "demo" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("otter_ignore")
        cells.append(cell)
    data["cells"] = cells
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(data), encoding="utf-8")


def write_autograder(path: Path, points: dict[str, float]) -> None:
    """otter's description of an assignment: one test for each check, which makes the same call as its cell."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("otter_config.json", json.dumps({"lang": "python"}))
        for name, most in points.items():
            archive.writestr(f"tests/{name}.py", TEST.format(name=name, points=most))


def grade_all(autograder: str, notebooks: Iterable[str]) -> dict[str, float]:
    """In otter's environment: the score of each notebook."""
    from otter.api import grade_submission  # type: ignore[import-not-found, unused-ignore]

    return {path: float(grade_submission(path, autograder, quiet=True).total) for path in notebooks}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(grade_all(sys.argv[1], sys.argv[3:])))
