"""The folder for students: lessons and what checks them, without solutions, tests and the instructor's side."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from autograde.build import to_text
from autograde.course import Course, CourseError, Topic, read_course, root
from autograde.coursemap import MAP, map_notebook
from autograde.lessons import LessonInfo, all_lessons, of_topic
from autograde.version import __version__

AS_THEY_ARE = ("LICENSE", "LICENSE-TEXT", "constraints.txt", "environment.yml", "pyproject.toml")
PACKAGES = ("autograde", "utils")
BY_TOPIC = ("autograde/exercises", "utils/reference")
"""Below these folders each topic has a folder, or a module, of its own."""
NOT_FOR_STUDENTS = (
    "autograde/classroom",
    "autograde/build.py",
    "autograde/killrate.py",
    "autograde/readme.py",
    "autograde/sources.py",
)
SKIPPED = re.compile(r"__pycache__|\.pyc$|/\.|\.egg-info")
NO_TARGETS = ("test", "bench", "constraints", "$(BIN)/uv", "$(TESTING)")
"""Targets of the Makefile that need the tests, or a maintainer."""

README = """\
# {title}

Hands-on notebooks with checks, for students. You derive a method, write its parts yourself, and have them checked.

{lessons}

## Start

You need Python 3.11 or later, and `make`. On Debian and Ubuntu also the package `python3-venv`.

```sh
make lab     # set everything up in .venv/, then open JupyterLab on the course map
```

The first run downloads about 0.4 GB, and PyTorch on top of it: up to 0.2 GB for a CPU-only build, about 2.6 GB for the
usual build on Linux. For a CPU-only PyTorch give the index address that pytorch.org shows for "CPU" once:
`make lab TORCH_INDEX=<that address>`. Later runs start in seconds and need no network.

Without `make`, in a virtual environment: `pip install -c constraints.txt -e .`, then `autograde lab`. With conda:
`conda env create -f environment.yml`, `conda activate rederive`, `autograde lab`.

Your notebooks are in `work/`; nothing ever overwrites them. `autograde doctor` says what is missing on your machine (first
activate the environment: `. .venv/bin/activate`).

## Check your work

Run the cell that begins with `check.` below each exercise. It uses a few shown cases. The whole notebook is checked, with
more cases and other numbers, by

```sh
{check}
```

Stuck? Open the hints. To go on without an exercise, write `from autograde import given` and `rnn_step = given("rnn_step")` in its
cell, with the exercise's name: the course's version is used, and the exercise scores nothing. `autograde progress` says what you have
passed, and `autograde reset LESSON` gives you a fresh copy and sets yours aside.

## Hand in

Hand in the notebook from `work/`, under its own name, where your instructor says. Do not delete or rename the check cells.

## What you can see here, and what you cannot

The checks run on your own machine. So everything that they need is in this folder, and you can read it:

- the reference implementations (`utils/reference/`) and the known mistakes with their sentences
  (`autograde/exercises/`);
- the cases on which you are checked, and the seed that `autograde check` draws them with (`GRADED_SEED` in
  `autograde/notebook.py`). When a class is graded, the same cases are drawn with other, secret seeds.

Not here: the solved notebooks, the course's own tests, other people's work, and your class's points and gradebook.

A check is there to tell you what is wrong while you learn. It is no exam. When your instructor grades what you handed in, your
notebook runs without the references: a notebook that imports them gets no points for it.

Version {version}. The code is under the MIT licence (LICENSE), text and figures under CC BY 4.0 (LICENSE-TEXT).
"""


def make_pack(target: Path, topics: Iterable[str] = (), folder: Path | None = None) -> list[str]:
    """Make the folder that students get. The same course gives the same files, byte for byte.

    Args:
        target: a new or empty folder; it appears whole or not at all.
        topics: the series in it; all that are built, if none is named.
        folder: the course.

    Returns:
        The files, relative to ``target``, sorted.

    Raises:
        CourseError: ``target`` is not empty, a topic has no lessons, or the course lacks a file.
    """
    source = folder or root()
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise CourseError(f"{target} is there already and not empty. Name a new folder.")
    chosen = _chosen(read_course(source), list(dict.fromkeys(topics)))
    lessons = [lesson for lesson in all_lessons(source) if lesson.topic in {topic.name for topic in chosen}]
    course = _reduced(read_course(source), chosen)
    place = target.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        _fill(beside, source, course, lessons)
        files = sorted(path.relative_to(beside).as_posix() for path in beside.rglob("*") if path.is_file())
        os.chmod(beside, 0o755)
        os.replace(beside, place)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError):
            raise CourseError(f"{target} could not be made: {error.strerror}: {error.filename}.") from None
        raise
    return files


def _chosen(course: Course, names: list[str]) -> list[Topic]:
    built = [topic for topic in course.topics if not topic.planned]
    for name in names:
        if name not in [topic.name for topic in built]:
            raise CourseError(
                f"There are no lessons for the topic {name!r}. There are: {', '.join(t.name for t in built)}."
            )
    return [topic for topic in built if not names or topic.name in names]


def _reduced(course: Course, topics: list[Topic]) -> Course:
    """The course with these topics only; what they build on is left out where it is not inside."""
    names = {topic.name for topic in topics}
    kept = tuple(
        Topic(**{**vars(t), "prerequisites": tuple(p for p in t.prerequisites if p in names)}) for t in topics
    )
    families = tuple(entry for entry in course.families if entry[0] in {topic.family for topic in topics})
    return Course(course.title, families, kept)


def _fill(place: Path, source: Path, course: Course, lessons: list[LessonInfo]) -> None:
    topics = [topic.name for topic in course.topics]
    for name in (
        *AS_THEY_ARE,
        *_code(source, topics),
        *(f"lessons/{lesson.name}.ipynb" for lesson in lessons),
    ):
        _copy(source / name, place / name)
    texts = {
        "course.toml": course_toml(course),
        f"lessons/{MAP}": to_text(map_notebook(course, source, lessons)),
        "Makefile": reduced_makefile((source / "Makefile").read_text(encoding="utf-8")),
        "README.md": _readme(course, lessons),
    }
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
        os.chmod(place / name, 0o644)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    os.chmod(target, 0o644)


def _code(source: Path, topics: list[str]) -> Iterator[str]:
    """The files of both packages that students need."""
    for package in PACKAGES:
        for path in sorted((source / package).rglob("*")):
            name = path.relative_to(source).as_posix()
            if path.is_file() and not SKIPPED.search(name) and _needed(name, topics):
                yield name


def _needed(name: str, topics: list[str]) -> bool:
    if any(name == other or name.startswith(f"{other}/") for other in NOT_FOR_STUDENTS):
        return False
    for folder in BY_TOPIC:
        if name.startswith(f"{folder}/"):
            below = name.removeprefix(f"{folder}/").split("/")[0].removesuffix(".py")
            return below == "__init__" or below in topics
    return True


def course_toml(course: Course) -> str:
    """``course.toml`` with what is in a course; strings of JSON are strings of TOML, too."""
    lines = [
        "# The topics in this folder. The course map reads it.",
        "",
        f"title = {_value(course.title)}",
        "",
    ]
    lines += ["[families]", *(f"{key} = {_value(title)}" for key, title in course.families)]
    for topic in course.topics:
        lines += ["", f"[topics.{topic.name}]"]
        for key in ("title", "family", "about", "order", "prerequisites", "minutes"):
            value = getattr(topic, key)
            lines.append(f"{key} = {_value(list(value) if isinstance(value, tuple) else value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def reduced_makefile(text: str) -> str:
    """The Makefile without the targets that need the tests.

    Raises:
        CourseError: one of them is not there any more, so this list has to be mended.
    """
    blocks = text.split("\n\n")
    for target in NO_TARGETS:
        rest = [block for block in blocks if not block.startswith(f"{target}:")]
        if len(rest) == len(blocks):
            raise CourseError(
                f"The Makefile has no target {target}; mend NO_TARGETS in {Path(__file__).name}."
            )
        blocks = rest
    lines = [
        line
        for line in "\n\n".join(blocks).splitlines()
        if not re.match(r"\t@echo \"(make (test|bench|constraints) | +TOPIC=)|TESTING :=|UV \?=", line)
    ]
    short = [
        re.sub(r" (test|bench|constraints)(?= )", "", line) if line.startswith(".PHONY") else line
        for line in lines
    ]
    return "\n".join(short).rstrip("\n") + "\n"


def _readme(course: Course, lessons: list[LessonInfo]) -> str:
    lines = ["| lesson | about | minutes |", "| :--- | :--- | ---: |"]
    for topic in course.topics:
        for lesson in of_topic(lessons, topic.name):
            lines.append(f"| {lesson.title} | {topic.title} | {lesson.minutes or ''} |")
    first = f"work/{lessons[0].name}.ipynb" if lessons else "work/TOPIC/NOTEBOOK.ipynb"
    return README.format(
        title=course.title, lessons="\n".join(lines), check=f"autograde check {first}", version=__version__
    )
