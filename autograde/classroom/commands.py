"""The commands of an instructor; ``autograde.cli`` takes them over."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from autograde.course import CourseError

if TYPE_CHECKING:
    from autograde.classroom.regrade import Regraded

app = typer.Typer()
out = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
err = Console(stderr=True, highlight=False)
WRONG = 1
SHOWN = 40

ClassOption = Annotated[Path, typer.Option("--class", help="The class's folder.")]


class Form(StrEnum):
    """For which program grades are written."""

    csv = "csv"
    canvas = "canvas"
    moodle = "moodle"


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=err, transient=True)


def say(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


@app.command()
def new_class(
    folder: Annotated[Path, typer.Argument(help="A new folder for the class.")],
    topic: Annotated[
        list[str] | None,
        typer.Option(help="A series to hand out; can be given several times.", show_default="rnn"),
    ] = None,
) -> None:
    """Make a class folder for nbgrader: its configuration, the source notebooks and a gradebook."""
    from autograde.classroom.folder import make_class

    topics = topic or ["rnn"]
    made = make_class(folder, *topics)
    say(
        [
            f"The class is in {folder}. Which exercises it does, and for how many points, is in {made.choice.name}."
        ]
    )
    say([f"Hand out release/{topics[0]}/, collect into submitted/STUDENT/{topics[0]}/, then, in {folder}:"])
    say(
        [
            f"  nbgrader autograde {topics[0]}",
            f"  nbgrader generate_feedback {topics[0]}",
            "  autograde grades",
        ]
    )


@app.command()
def update_class(folder: ClassOption = Path()) -> None:
    """Build a class's notebooks again, after class.toml was changed."""
    from autograde.classroom.update import update_class as update

    done = update(folder)
    say(done.changes or ["Nothing changed; source/ and release/ were built again."])
    say(done.advice)


@app.command()
def student_pack(
    folder: Annotated[Path, typer.Argument(help="A new folder, to be zipped and handed to students.")],
    topic: Annotated[
        list[str] | None,
        typer.Option(help="A series to put in; can be given several times.", show_default="all"),
    ] = None,
) -> None:
    """Make a folder for students: lessons and what checks them, without solutions and the instructor's side."""
    from autograde.classroom.pack import make_pack

    files = make_pack(folder, topic or ())
    say([f"{len(files)} files in {folder}. Zip it and hand it out; its README.md says how to begin."])
    say(
        [
            "Students can read the references, the known mistakes and the cases in it: checks run on their own machine."
        ]
    )


@app.command()
def roster(
    file: Annotated[Path, typer.Argument(help="A CSV file of nbgrader's, Canvas's or Moodle's form.")],
    folder: ClassOption = Path(),
    id_column: Annotated[
        str | None, typer.Option("--id", help="The column with the students' ids, otherwise the usual one.")
    ] = None,
) -> None:
    """Add students to a class's gradebook, and bring those that are there up to date. Nobody is removed."""
    from autograde.classroom.roster import import_roster

    came = import_roster(file, folder, id_column)
    say([f"{file.name} is a file of {came.kind}'s; ids are from its column {came.column!r}."])
    say(came.skipped)
    for label, names in (("added", came.added), ("changed", came.changed), ("unchanged", came.unchanged)):
        say([f"{len(names):5} {label}{_listed(names) if label != 'unchanged' else ''}"])
    if came.absent:
        say([f"{len(came.absent):5} in the gradebook, but not in the file; kept{_listed(came.absent)}"])


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f": {shown}" if names else ""


@app.command()
def grades(
    folder: ClassOption = Path(),
    form: Annotated[Form, typer.Option("--for", help="The program that will read the file.")] = Form.csv,
    template: Annotated[
        Path | None,
        typer.Option(help="A gradebook that Canvas or Moodle has exported; its students are kept."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file to write; otherwise grades-table.csv, grades-canvas.csv or grades-moodle.csv in the class's folder.",
        ),
    ] = None,
    missing_as_zero: Annotated[
        bool, typer.Option("--missing-as-zero", help="Write 0, not nothing, where nothing was handed in.")
    ] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="What an assignment is called there, such as rnn='Homework 3'.")
    ] = None,
) -> None:
    """Write the grades as a table, or as Canvas and Moodle import them."""
    from autograde.classroom.gradesheets import write_sheet

    path = to or folder / f"grades-{'table' if form is Form.csv else form.value}.csv"
    sheet = write_sheet(folder, form.value, path, template, missing_as_zero, _names(name or []))
    say([f"Written: {path}", *sheet.notes])


def _names(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if not all(pair.partition("=")):
            raise CourseError(f"--name takes ASSIGNMENT=NAME, such as rnn='Homework 3', not {pair!r}.")
    return {assignment: name for assignment, _, name in (pair.partition("=") for pair in pairs)}


@app.command()
def regrade_all(
    assignment: Annotated[str, typer.Argument(help="The assignment, such as rnn.")],
    folder: ClassOption = Path(),
) -> None:
    """Grade every submission again with today's exercises and points, and say whose scores changed.

    The old grades are kept in regraded/. Exit status 1 if a submission could not be graded; its old grades stay.
    """
    from autograde.classroom.grading import Progress as Told
    from autograde.classroom.regrade import regrade_all as regrade

    with _progress() as bar:
        task = bar.add_task("grading again", total=None)

        def advance(number: int, verdict: str) -> None:
            bar.update(task, description=f"submission {number}: {verdict}", advance=1)

        done = regrade(folder, assignment, Told(lambda total: bar.update(task, total=total), advance))
    _print_regraded(done)
    if done.failed:
        raise typer.Exit(WRONG)


def _print_regraded(done: Regraded) -> None:
    if done.changes:
        table = Table("student", "exercise", "before", "after", "")
        for change in done.changes[:SHOWN]:
            before, after = (
                "-" if value is None else f"{value:g}" for value in (change.before, change.after)
            )
            table.add_row(
                change.student,
                change.exercise,
                before,
                after,
                "a manual score counts" if change.manual else "",
            )
        out.print(table)
    if len(done.changes) > SHOWN:
        say([f"... and {len(done.changes) - SHOWN} more."])
    changed = len({change.student for change in done.changes})
    say([f"{done.students} submissions graded again; {changed} students have another score."])
    say([f"The old grades are in {done.kept}, the changes beside it."])
    for student, reason in done.failed.items():
        err.print(f"{student} was not graded again: {reason}", markup=False, soft_wrap=True)
