"""Submissions whose files are not what they should be: broken notebooks, and what lies beside them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograde.classroom.battery.row import (
    MISSING,
    REACHED,
    Row,
    Score,
    Write,
    everything,
    nothing,
    save,
    submit,
    with_wrong,
    without_target,
    wrong,
)
from autograde.classroom.battery.scene import CHECK, Scene


def _beside(add: Callable[[Scene, Path], None], write: Write | None = None) -> Write:
    """A submission with the wrong answer, and more beside it."""

    def both(scene: Scene, place: Path) -> None:
        (write or submit())(scene, place)
        add(scene, place)

    return both


def _links(scene: Scene, place: Path) -> None:
    book = place.parents[2] / "gradebook.db"
    (place / "passwords.txt").symlink_to("/etc/passwd")
    (place / "book.txt").symlink_to(book)
    (place / "loop").symlink_to(place)
    with contextlib.suppress(OSError):
        (place / "book.db").hardlink_to(book)


def _specials(scene: Scene, place: Path) -> None:
    """A FIFO, a socket, and, where that is allowed, a device; /dev/null, which can be copied without harm."""
    os.mkfifo(place / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as line, _inside(place):
        line.bind("line.txt")
    with contextlib.suppress(OSError):
        os.mknod(place / "device.txt", 0o644 | stat.S_IFCHR, os.makedev(1, 3))


@contextlib.contextmanager
def _inside(place: Path) -> Any:
    """A socket's path has to be short."""
    before = os.getcwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


_READS_LINKS = wrong("""
from pathlib import Path

for name in ("passwords.txt", "book.txt", "book.db"):
    try:
        text = Path(name).read_bytes()[:16]
    except OSError:
        continue
    if text:
        reached(("through a link", name, text))
""")


def _right_somewhere(scene: Scene, place: Path) -> Path:
    """A right notebook of another student's, where no grader looks."""
    path = place.parent / "kept.ipynb"
    save(scene.notebook({}), path)
    return path


def _notebook_is_link(scene: Scene, place: Path) -> None:
    (place / scene.file).symlink_to(_right_somewhere(scene, place))


def _folder_is_link(scene: Scene, place: Path) -> None:
    elsewhere = place.parent / "elsewhere"
    elsewhere.mkdir()
    save(scene.notebook({}), elsewhere / scene.file)
    for path in place.iterdir():
        path.rename(elsewhere / path.name)
    place.rmdir()
    place.symlink_to("elsewhere", target_is_directory=True)


def _notebook_is_folder(scene: Scene, place: Path) -> None:
    (place / scene.file).mkdir()
    (place / scene.file / "inside.txt").write_text("nothing", encoding="utf-8")


def _content(make: Callable[[Scene], bytes]) -> Write:
    def write(scene: Scene, place: Path) -> None:
        (place / scene.file).write_bytes(make(scene))

    return write


def _json_of(scene: Scene) -> str:
    return json.dumps(scene.notebook({scene.target: scene.wrong.text}))


def _truncated(scene: Scene) -> bytes:
    text = _json_of(scene).encode()
    return text[: len(text) // 2]


def _large(scene: Scene, place: Path) -> None:
    """500 MB without taking 500 MB of the disk."""
    path = place / scene.file
    path.write_text(_json_of(scene), encoding="utf-8")
    os.truncate(path, 500_000_000)


def _many_cells(scene: Scene) -> bytes:
    cell = '{"cell_type":"raw","id":"x","metadata":{},"source":""}'
    head = json.dumps(
        {"metadata": {"rederive": {"lesson": scene.lesson}}, "nbformat": 4, "nbformat_minor": 5}
    )
    return f'{head[:-1]}, "cells": [{",".join([cell] * 850_000)}]}}'.encode()


def _deep(scene: Scene) -> bytes:
    depth = 200_000
    return _json_of(scene)[:-1].encode() + b', "deep": ' + b"[" * depth + b"]" * depth + b"}"


def _odd_numbers(notebook: NotebookNode, scene: Scene) -> None:
    odd = {"nan": float("nan"), "inf": float("-inf"), "large": 10**400, "text": "\ud800", "": None}
    notebook.metadata["odd"] = odd
    notebook.metadata["rederive"]["version"] = float("nan")
    for cell in notebook.cells:
        cell.metadata["odd"] = odd
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"]["points"] = float("nan")
            cell.metadata["collapsed"] = "perhaps"
            cell["execution_count"] = 10**30


def _no_schema(notebook: NotebookNode, scene: Scene) -> None:
    for cell in notebook.cells:
        cell.metadata.get("nbgrader", {}).pop("schema_version", None)


def _old_schema(notebook: NotebookNode, scene: Scene) -> None:
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"]["schema_version"] = 1


def _no_metadata(notebook: NotebookNode, scene: Scene) -> None:
    notebook["metadata"] = {}
    for cell in notebook.cells:
        cell["metadata"] = {}


def _odd_ids(notebook: NotebookNode, scene: Scene) -> None:
    """The check's name has a Cyrillic letter, an invisible one, and a copy that differs in case."""
    for cell in notebook.cells:
        if cell.id == CHECK + scene.target:
            cell["id"] = cell.metadata["nbgrader"]["grade_id"] = "сheck_\u200b" + scene.target + "\u202e"
    notebook.cells[0]["id"] = (CHECK + scene.target).upper()


def _empty_objects(notebook: NotebookNode, scene: Scene) -> None:
    """15 MB of JSON that take more than 2 GB once every object is one of Python's."""
    notebook.metadata["objects"] = [{}] * 5_000_000


def _outputs(notebook: NotebookNode, scene: Scene) -> None:
    """30 MB of outputs that were saved with the notebook, and a score among them."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"] = [
                {"output_type": "stream", "name": "stdout", "text": "x" * 1_000_000},
                {
                    "output_type": "execute_result",
                    "data": {"text/plain": "100.0"},
                    "metadata": {},
                    "execution_count": 1,
                },
            ]


def _other_lesson(notebook: NotebookNode, scene: Scene) -> None:
    notebook.metadata["rederive"].update(lesson=f"{scene.topic}/99_easier", version="99", digest="0")


def _format_5(notebook: NotebookNode, scene: Scene) -> None:
    notebook.update(nbformat=10**30, nbformat_minor=-1)


def _no_code(notebook: NotebookNode, scene: Scene) -> None:
    next(cell for cell in notebook.cells if cell.id == scene.target)["cell_type"] = "raw"


def _other_case(scene: Scene, place: Path) -> None:
    save(scene.notebook({}), place / scene.file.swapcase().replace(".IPYNB", ".ipynb"))


def _more_notebooks(scene: Scene, place: Path) -> None:
    save(scene.notebook({}), place / "solved.ipynb")
    (place / "folder").mkdir()
    save(scene.notebook({}), place / "folder" / scene.file)
    (place / ".ipynb_checkpoints").mkdir()
    save(scene.notebook({}), place / ".ipynb_checkpoints" / scene.file)


def _archives(scene: Scene, place: Path) -> None:
    """An archive of 200 MB of zeros in 0.2 MB, and names that lead out of a folder."""
    with zipfile.ZipFile(place / "answers.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../rederive-battery-escaped.txt", "here")
        archive.writestr(scene.file, b"\0" * 200_000_000)
    with tarfile.open(place / "answers.tar.gz", "w:gz") as archive_of_links:
        entry = tarfile.TarInfo("/tmp/rederive-battery-escaped")
        entry.size = 4
        archive_of_links.addfile(entry, BytesIO(b"here"))
    for name in (
        "..\\..\\rederive-battery-escaped.ipynb",
        "-rf",
        "a\nb.txt",
        "~",
        "$(touch here).txt",
        "....txt",
    ):
        (place / name).write_text("a name", encoding="utf-8")
    for raw in (b"\xff\xfe.txt", b"\xed\xa0\x80.ipynb"):
        with contextlib.suppress(OSError):
            Path(os.fsdecode(bytes(place) + b"/" + raw)).write_text("no UTF-8", encoding="utf-8")


def _many_files(scene: Scene, place: Path) -> None:
    folder = place
    for depth in range(60):
        folder = folder / f"folder{depth}"
        folder.mkdir()
    for number in range(3_000):
        (place / f"note-{number}.txt").touch()


def _timestamp(scene: Scene, place: Path) -> None:
    (place / "timestamp.txt").write_text("a day that never was \x00\ud7ff", encoding="utf-8")


_SHADOW = (
    f'print("{REACHED[:3]}" + "{REACHED[3:]} a file beside the notebook")\nraise SystemExit("shadowed")\n'
)
_SHADOWS = {
    name: _SHADOW
    for name in (
        *(
            "torch.py",
            "numpy.py",
            "json.py",
            "random.py",
            "sitecustomize.py",
            "usercustomize.py",
            "conftest.py",
        ),
        *(
            "utils/__init__.py",
            "utils/reference/__init__.py",
            "autograde/__init__.py",
            "safetensors/__init__.py",
        ),
    )
}
_SETTINGS = {
    "nbgrader_config.py": _SHADOW,
    "jupyter_config.py": _SHADOW,
    "ipython_config.py": _SHADOW,
    "profile_default/startup/00.py": _SHADOW,
    "pyproject.toml": "[project\n",
    "course.toml": "[topics\n",
    "class.toml": "points = 1000\n",
}
_REWRITES = wrong("""
import glob, os

for path in glob.glob("*.ipynb") + ["timestamp.txt"]:
    try:
        with open(path, "w") as file:
            file.write("1999-01-01 00:00:00 UTC" if path.endswith("txt") else "{}")
    except OSError:
        pass
for name in ("feedback.html", "score.json", "verdict.json", "grades.csv"):
    try:
        with open(name, "w") as file:
            file.write('{"score": 100}')
    except OSError:
        pass
""")
_SCRIPT = "<script>rederive_battery()</script>"
_SHOWS_SCRIPTS = f"""
from IPython.display import HTML, Javascript, Markdown, SVG, display

SCRIPT = "{_SCRIPT}"
print("\\x1b[2J\\x1b]0;title\\x07\\x1b[31m" + SCRIPT)
display(HTML(SCRIPT), Markdown(SCRIPT), Javascript("rederive_battery()"))
display({{"image/svg+xml": f"<svg>{{SCRIPT}}</svg>", "text/latex": SCRIPT, SCRIPT: SCRIPT}}, raw=True)

def TARGET(*args, **kwargs):
    raise type(SCRIPT, (Exception,), {{}})(SCRIPT + "<img src=x onerror=rederive_battery()>")
"""


def _scripts(scene: Scene, place: Path) -> None:
    def edit(notebook: NotebookNode, scene: Scene) -> None:
        notebook.cells[0]["source"] = f"{_SCRIPT}\n<img src=x onerror=rederive_battery()>"
        notebook.metadata["title"] = _SCRIPT

    submit(_SHOWS_SCRIPTS, edit=edit)(scene, place)
    (place / "<img src=x onerror=rederive_battery()>.txt").write_text(_SCRIPT, encoding="utf-8")


def _broken(number: str, title: str, write: Write) -> Row:
    reason = "a file that is no notebook is named, and the batch goes on"
    return Row(number, title, reason, write, ("malformed",), nothing, whole=True)


def _repaired(
    number: str, title: str, write: Write, verdicts: tuple[str, ...] = ("wrong", "malformed")
) -> Row:
    reason = "what is not needed is repaired, or the file is refused"
    return Row(number, title, reason, write, verdicts, with_wrong, least=nothing)


def _clutter(
    number: str, title: str, reason: str, write: Write, noted: str = "", score: Score = with_wrong
) -> Row:
    return Row(number, title, reason, write, ("wrong",), score, noted=noted)


_IGNORED = "only the notebooks that were handed out are looked at"
_REGULAR = "only regular files are taken over"
ROWS = (
    _clutter(
        "13a",
        "has links to files of the grader's",
        _REGULAR,
        _beside(_links, submit(_READS_LINKS)),
        "book.txt",
    ),
    _clutter("13b", "has a FIFO, a socket and a device", _REGULAR, _beside(_specials), "pipe.txt"),
    Row(
        "13c",
        "its notebook is a link",
        _REGULAR,
        _notebook_is_link,
        (MISSING, "malformed"),
        nothing,
        whole=True,
    ),
    _repaired("35a", "has no schema version", submit(edit=_no_schema)),
    _repaired("35b", "has no metadata", submit(edit=_no_metadata)),
    _repaired("35c", "has an old schema version", submit(edit=_old_schema)),
    _broken("36a", "is cut off in the middle", _content(_truncated)),
    _broken("36b", "is binary", _content(lambda scene: bytes(range(256)) * 100)),
    _broken("36c", "is empty", _content(lambda scene: b"")),
    _broken("36d", "has 500 MB", _large),
    _clutter(
        "37", "has a torch.py, a utils/ and more beside it", "trusted modules win", submit(files=_SHADOWS)
    ),
    _clutter("41", "shows scripts and terminal codes", "they are escaped", _scripts, score=without_target),
    _clutter("43", "has archives and odd names", "nothing is unpacked", _beside(_archives)),
    _clutter("A40", "has configuration files beside it", _IGNORED, submit(files=_SETTINGS)),
    _repaired("A41", "has 30 MB of outputs, with scores", submit(edit=_outputs)),
    Row(
        "A42",
        "has 850,000 cells",
        "a notebook has a largest number of cells",
        _content(_many_cells),
        ("malformed", "wrong"),
        nothing,
        whole=True,
    ),
    _broken("A43", "is nested 200,000 deep", _content(_deep)),
    _repaired("A44", "has NaN and numbers of 400 digits in its metadata", submit(edit=_odd_numbers)),
    _repaired("A45", "has look-alike letters in its names", submit(edit=_odd_ids)),
    _clutter("A46", "has a second notebook whose name differs in case", _IGNORED, _beside(_other_case)),
    _clutter(
        "A47", "has right notebooks under other names", _IGNORED, _beside(_more_notebooks), "solved.ipynb"
    ),
    _clutter("A48", "has 3,000 files and 60 nested folders", _IGNORED, _beside(_many_files)),
    _repaired("A49", "says that it is another lesson", submit(edit=_other_lesson)),
    _repaired("A50", "says that its format is 10^30", submit(edit=_format_5)),
    _clutter(
        "A51",
        "its answer is no code cell",
        "what is no code is not run",
        submit(edit=_no_code),
        score=without_target,
    ),
    Row(
        "A52",
        "its notebook is a folder",
        _REGULAR,
        _notebook_is_folder,
        (MISSING, "malformed"),
        nothing,
        whole=True,
    ),
    Row(
        "A53", "its folder is a link", _REGULAR, _folder_is_link, (MISSING, "malformed"), nothing, whole=True
    ),
    _clutter("A54", "has a timestamp that is none", "a broken timestamp stops nobody", _beside(_timestamp)),
    _clutter(
        "A55", "rewrites its files while it is graded", "what was handed in is read once", submit(_REWRITES)
    ),
    _repaired("A56", "has five million empty objects in its metadata", submit(edit=_empty_objects)),
    Row(
        "A60",
        "has a folder with data beside it",
        "an honest notebook may",
        submit("RIGHT_ANSWER", files={"data/numbers.txt": "1 2 3\n", "data/more/names.txt": "a b c\n"}),
        ("ok",),
        everything,
    ),
)
