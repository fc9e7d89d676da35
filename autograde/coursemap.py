"""The course map: every topic, what it needs first, how long it takes, and how far the learner has come."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograde.course import Course, Topic, read_course, root
from autograde.lessons import (
    METADATA,
    LessonInfo,
    all_lessons,
    digest,
    edited,
    of_topic,
    outdated,
    working_copy,
)
from autograde.progress import find_work, results, write_atomically
from autograde.version import __version__

MAP = "start.ipynb"
CODE = "from autograde.coursemap import show_progress\n\nshow_progress()"

INTRODUCTION = """\
# {title}

Each topic is a series of notebooks. In each notebook you derive a method, write its parts yourself, have them checked,
and reproduce its headline result with your own code.

- **Begin** with any lesson whose name is a link. It opens in a new tab above this page.
- **Write** your code in the cells that say `YOUR CODE HERE`. Run a cell with <kbd>Shift</kbd> + <kbd>Enter</kbd>.
- **Check** it with the cell below it, the one that starts with `check.`. The report says what is wrong, and where.
- **Stuck?** Open the hints. To go on without an exercise, write `rnn_step = given("rnn_step")` in its cell (after
  `from autograde import given`): it takes the course's version, and the exercise counts as not done.
- **Passed?** Below the report, the course's own solution opens beside yours.
- **Again?** `autograde reset rnn/01_vanilla_rnn` in a terminal gives you a fresh copy and sets yours aside.
- Your work stays in this folder, with your progress: copy the folder, and you go on elsewhere. Nothing is sent anywhere."""


def map_notebook(course: Course, folder: Path, lessons: list[LessonInfo] | None = None) -> NotebookNode:
    """``start.ipynb``: an introduction, the learner's progress (a code cell) and a table for each family."""
    known = all_lessons(folder) if lessons is None else lessons
    cells = [
        new_markdown_cell(INTRODUCTION.format(title=course.title), id="introduction"),
        new_markdown_cell(
            "## Your progress\n\nRun the cell below to bring this table up to date (<kbd>Shift</kbd> + "
            "<kbd>Enter</kbd>).",
            id="progress-heading",
        ),
        new_code_cell(CODE, id="progress"),
        new_markdown_cell("## The topics", id="topics"),
    ]
    for key, title in course.families:
        topics = [topic for topic in course.topics if topic.family == key]
        cells.append(new_markdown_cell(_family(title, topics, course, known), id=f"family-{key}"))
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        METADATA: {"version": __version__},
    }
    notebook: NotebookNode = new_notebook(cells=cells, metadata=metadata)
    notebook.metadata[METADATA]["digest"] = digest(notebook)
    return notebook


def _family(title: str, topics: list[Topic], course: Course, lessons: list[LessonInfo]) -> str:
    lines = [
        f"### {title}",
        "",
        "| topic | lessons | what it covers | do first | time |",
        "| :--- | :--- | :--- | :--- | ---: |",
    ]
    for topic in topics:
        links = [f"[{lesson.title}]({lesson.name}.ipynb)" for lesson in of_topic(lessons, topic.name)]
        first = ", ".join(course.topic(name).title for name in topic.prerequisites) or "nothing"
        opened = "<br>".join(links) or "*not&nbsp;built&nbsp;yet*"
        minutes = sum(lesson.minutes for lesson in of_topic(lessons, topic.name))
        time = f"{minutes}&nbsp;min" if links else f"*{topic.minutes}&nbsp;min*"
        lines.append(f"| {topic.title} | {opened} | {topic.about} | {first} | {time} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Row:
    """How far a learner has come in one lesson.

    Attributes:
        passed: exercises that have passed their check at least once.
        outdated: the learner's copy comes from an older release.
    """

    lesson: LessonInfo
    passed: int
    outdated: bool

    @property
    def state(self) -> str:
        """In words."""
        total = len(self.lesson.exercises)
        if self.passed == total:
            return "finished"
        return "not begun" if self.passed == 0 else f"{total - self.passed} to go"


def progress_rows(folder: Path, work: Path) -> list[Row]:
    """One row for each lesson of the course."""
    rows = []
    for lesson in all_lessons(folder):
        known = results(work, lesson.name)
        passed = sum(1 for name in lesson.exercises if name in known and known[name].passed)
        rows.append(Row(lesson, passed, outdated(folder, work, lesson.name)))
    return rows


def progress_html(folder: Path, work: Path) -> str:
    """The progress table as HTML that takes the page's own colours, and an offer where a lesson has changed."""
    cell = "text-align:left;padding:3px 18px 3px 0"
    rows = []
    for row in progress_rows(folder, work):
        total = len(row.lesson.exercises)
        link = f'<a href="{escape(row.lesson.name)}.ipynb">{escape(row.lesson.title)}</a>'
        bar = (
            f'<progress max="{total}" value="{row.passed}" aria-label="{row.passed} of {total} exercises passed">'
            f"</progress> {row.passed} of {total}"
        )
        offer = f"<br>{_offer(row.lesson, '<code>', '</code>')}" if row.outdated else ""
        cells = "".join(f'<td style="{cell}">{item}</td>' for item in (link, bar, row.state + offer))
        rows.append(f"<tr>{cells}</tr>")
    heads = "".join(
        f'<th scope="col" style="{cell}">{head}</th>' for head in ("lesson", "exercises passed", "state")
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def progress_text(folder: Path, work: Path) -> str:
    """The progress table as plain text."""
    lines = []
    for row in progress_rows(folder, work):
        lines.append(f"{row.lesson.title}: {row.passed} of {len(row.lesson.exercises)} exercises passed")
        lines += [f"    {_offer(row.lesson, '', '')}"] if row.outdated else []
    return "\n".join(lines)


def _offer(lesson: LessonInfo, begin: str, end: str) -> str:
    return (
        f"There is a newer version. {begin}autograde reset {lesson.name}{end} in a terminal takes it, and sets your copy "
        "aside."
    )


def _bundle(folder: Path, work: Path) -> dict[str, str]:
    return {"text/plain": progress_text(folder, work), "text/html": progress_html(folder, work)}


def show_progress() -> None:
    """Display the learner's progress, below a notebook cell."""
    from IPython.display import display

    work = find_work()
    if work is None:
        print(
            "Progress is remembered in the folder work/. Open this page with `make lab`, or run `autograde lab`."
        )
        return
    display(_bundle(root(), work), raw=True)


def refresh(folder: Path, work: Path) -> Path:
    """Write the map into the learner's folder, with the progress in it; a map that they have edited is left alone."""
    path = work / MAP
    if path.exists() and edited(path):
        return path
    notebook = map_notebook(read_course(folder), folder)
    for cell in notebook.cells:
        if cell.id == "progress":
            data: dict[str, Any] = _bundle(folder, work)
            cell.outputs = [new_output("display_data", data=data)]
    text = working_copy(str(nbformat.writes(notebook, version=4)))
    write_atomically(path, text)
    _trust(nbformat.reads(text, as_version=4))
    return path


def _trust(notebook: NotebookNode) -> None:
    """Sign the map, so that JupyterLab shows its table without asking. Without a signature it still shows it."""
    with contextlib.suppress(Exception):
        from nbformat.sign import NotebookNotary

        NotebookNotary().sign(notebook)
