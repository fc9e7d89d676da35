"""Building a class's notebooks again after ``class.toml`` was changed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nbformat

from autograde.build import build
from autograde.classroom.book import Recorded, opened, recorded
from autograde.classroom.choice import CHECK, Choice, changed_by_hand, read_choice
from autograde.classroom.folder import ClassFolder, chosen_sources, convert, lessons_in, open_class
from autograde.course import CourseError, root
from autograde.progress import write_atomically


@dataclass
class Update:
    """What was done, in sentences: ``changes``, and ``advice`` on what to do next."""

    changes: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def update_class(folder: Path) -> Update:
    """Write ``source/`` and ``release/`` again as ``class.toml`` says, and tell the gradebook.

    A source notebook that somebody has edited is first copied to ``set-aside/``.

    Raises:
        CourseError: this is no class folder, ``class.toml`` is wrong, or submissions were graded already and the change
            adds or removes exercises. Nothing has been changed then.
    """
    made = open_class(folder)
    sources = build(root()).sources
    done = Update()
    choice = read_choice(made.choice, lessons_in(sources))
    planned: list[tuple[ClassFolder, dict[str, str], Recorded]] = []
    with opened(made) as book:
        for topic in choice.topics:
            texts = chosen_sources(sources, choice, topic)
            before = recorded(book, topic) or Recorded()
            _refuse_what_nbgrader_cannot(topic, texts, before)
            planned.append((ClassFolder(made.root, topic), texts, before))
    for assignment, texts, before in planned:
        _rebuild(assignment, texts, done)
        _tell(assignment, choice, before, done)
    dropped = {path.name for path in (made.root / "source").glob("*/")} - set(choice.topics)
    for topic in sorted(dropped):
        done.advice.append(
            f"{topic} is no longer in class.toml. What was handed out and graded of it is left alone."
        )
    return done


def differences(choice: Choice, topic: str, before: Recorded) -> list[str]:
    """Where the gradebook does not have what ``class.toml`` says, one sentence for each exercise."""
    wanted = choice.of(topic)
    changes = [f"{topic}/{name} is handed out." for name in wanted if name not in before.points]
    changes += [f"{topic}/{name} is no longer handed out." for name in before.points if name not in wanted]
    for notebook, points in wanted.items():
        had = {name.removeprefix(CHECK): value for name, value in before.points.get(notebook, {}).items()}
        if notebook not in before.points:
            continue
        for name in sorted(points.keys() | had.keys()):
            if name not in points:
                changes.append(f"{name} is not graded any more.")
            elif name not in had:
                changes.append(f"{name} is graded, for {points[name]} points.")
            elif had[name] != points[name]:
                changes.append(f"{name} is worth {points[name]} points, not {had[name]:g}.")
    return changes


def _refuse_what_nbgrader_cannot(topic: str, texts: dict[str, str], before: Recorded) -> None:
    """nbgrader cannot add or remove cells once there are submissions; it would stop half-way."""
    if not before.submissions:
        return
    many = f"{before.submissions} submission{'s were' if before.submissions > 1 else ' was'} graded already"
    names = {name.removesuffix(".ipynb") for name in texts}
    if names != before.points.keys():
        notebooks = ", ".join(sorted(names ^ before.points.keys()))
        raise CourseError(
            f"{topic}: {many}, and nbgrader can then neither add nor remove a notebook ({notebooks}). Undo that in "
            "class.toml; a notebook counts nothing when its exercises have 0 points."
        )
    for file, text in texts.items():
        name = file.removesuffix(".ipynb")
        graded, solutions, cells = _cells(text)
        changed = (
            graded ^ before.points[name].keys()
            | solutions ^ before.solutions[name]
            | cells ^ before.cells[name]
        )
        if changed:
            exercises = ", ".join(sorted({cell.removeprefix(CHECK) for cell in changed}))
            raise CourseError(
                f"{topic}: {many}, and nbgrader can then neither add nor remove an exercise ({exercises}). Undo that in "
                "class.toml; an exercise counts nothing when it has 0 points."
            )


def _cells(text: str) -> tuple[set[str], set[str], set[str]]:
    """The names of the graded cells, of the solution cells, and of all cells that nbgrader records."""
    marks = [cell.metadata.get("nbgrader") for cell in nbformat.reads(text, as_version=4).cells]
    entries = [mark for mark in marks if mark]
    graded = {entry.grade_id for entry in entries if entry.grade}
    solutions = {entry.grade_id for entry in entries if entry.solution}
    return graded, solutions, {entry.grade_id for entry in entries}


def _rebuild(assignment: ClassFolder, texts: dict[str, str], done: Update) -> None:
    """Write the sources and let nbgrader release them; the old sources come back if it stops."""
    before = {path: path.read_text(encoding="utf-8") for path in sorted(assignment.source.glob("*.ipynb"))}
    for path in before:
        if before[path] != texts.get(path.name) and changed_by_hand(path):
            done.advice.append(
                f"{path.relative_to(assignment.root)} was edited; the edited one is in {_keep(path, assignment)}."
            )
    try:
        _write(assignment.source, texts)
        convert("GenerateAssignment", assignment, force=True)
    except BaseException:
        _write(assignment.source, {path.name: text for path, text in before.items()})
        raise


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        write_atomically(folder / name, text)
    for path in folder.glob("*.ipynb"):
        if path.name not in texts:
            path.unlink()


def _keep(path: Path, assignment: ClassFolder) -> str:
    """Copy a file to ``set-aside/``; where it is now."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    kept = assignment.root / "set-aside" / stamp / path.relative_to(assignment.root)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, kept)
    return kept.relative_to(assignment.root).as_posix()


def _tell(assignment: ClassFolder, choice: Choice, before: Recorded, done: Update) -> None:
    changes = differences(choice, assignment.topic, before)
    done.changes += [f"{assignment.topic}: {change}" for change in changes]
    if changes and before.submissions:
        done.advice.append(
            f"{before.submissions} of the submissions of {assignment.topic} were graded with the old points. "
            f"Grade them again: autograde regrade-all {assignment.topic}"
        )
    elif changes and before.points:
        done.advice.append(f"Hand out release/{assignment.topic} again, if students have it already.")
