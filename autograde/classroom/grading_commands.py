"""The commands that grade what was handed in; ``autograde.cli`` takes them over."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autograde.classroom.commands import WRONG, ClassOption, err, out, say
from autograde.course import CourseError

if TYPE_CHECKING:
    from autograde.classroom.demo import Row
    from autograde.classroom.grading import Graded
    from autograde.classroom.hostile import Siege

app = typer.Typer()
STOPPED = 130


@app.command()
def grade(
    assignment: Annotated[str, typer.Argument(help="The assignment, such as rnn.")],
    folder: ClassOption = Path(),
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine.", min=1, show_default="one a processor")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Grade on a Dask cluster: its address, such as tcp://host:8786.")
    ] = None,
    student: Annotated[
        list[str] | None,
        typer.Option(help="Only this student; can be given several times.", show_default="all"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Grade again what was graded before and has not changed.")
    ] = False,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Without a sandbox: what students hand in runs with your rights.")
    ] = False,
) -> None:
    """Grade everything that was handed in, in a sandbox, several submissions at once.

    Killed or stopped, the same command goes on where it was. Exit status 1 if a check of the course itself failed.
    """
    from autograde.classroom.grading import Progress as Told
    from autograde.classroom.grading import grade_class

    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} not ok"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(f"grading {assignment}", total=None, failed=0)
        failed = 0

        def advance(number: int, verdict: str) -> None:
            nonlocal failed
            failed += verdict != "ok"
            bar.update(task, description=f"submission {number}: {verdict}", advance=1, failed=failed)

        told = Told(lambda total: bar.update(task, total=total), advance, lambda line: err.print(line))
        try:
            done = grade_class(
                folder,
                assignment,
                student or (),
                workers=workers,
                scheduler=scheduler,
                force=force,
                unsafe=unsafe,
                progress=told,
            )
        except KeyboardInterrupt:
            bar.stop()
            err.print("Stopped. What is done is written. The same command goes on with the rest.")
            raise typer.Exit(STOPPED) from None
    _say_graded(done, assignment, folder, time.monotonic() - began)
    if done.verdicts.get("grader-error"):
        raise typer.Exit(WRONG)


def _say_graded(done: Graded, assignment: str, folder: Path, seconds: float) -> None:
    say([f"{done.done} submissions graded in {seconds:.1f} s, {done.skipped} were done before."])
    if done.verdicts:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(done.verdicts.items()))
        say([f"Notebooks: {counts}."])
    say([f"See: autograde verdicts {assignment}"])
    if done.verdicts.get("grader-error"):
        err.print(
            "Checks of the course itself failed for some; see verdicts/. Those submissions have no points yet."
        )


@app.command()
def verdicts(
    assignment: Annotated[str, typer.Argument(help="The assignment, such as rnn.")],
    folder: ClassOption = Path(),
    everything: Annotated[bool, typer.Option("--all", help="Also what is right, or plainly wrong.")] = False,
) -> None:
    """Say what was unusual: verdicts other than right and wrong, repairs, files left out, answers that are shared."""
    from autograde.classroom.folder import open_class
    from autograde.classroom.records import Records
    from autograde.classroom.sharing import shared_answers

    made = open_class(folder, assignment)
    records = Records(made).all()
    if not records:
        raise CourseError(f"Nothing of {assignment} was graded yet. Grade it: autograde grade {assignment}")
    table = Table("student", "notebook", "exercise", "verdict", "for you")
    for student, record in records.items():
        for row in _unusual(record, everything):
            table.add_row(escape(student), *map(escape, row))
    if table.row_count:
        out.print(table)
    else:
        say(["Nothing unusual: every exercise is right or wrong."])
    say(shared_answers(made))


def _unusual(record: dict[str, Any], everything: bool) -> Iterable[tuple[str, str, str, str]]:
    if record.get("unsafe"):
        yield "", "", "unsafe", "Graded without a sandbox."
    for note in record.get("left_out", ()):
        yield "", "", "left out", note
    for notebook, entry in record["notebooks"].items():
        if entry["verdict"] in ("missing", "malformed"):
            yield notebook, "", entry["verdict"], entry["message"]
            continue
        for name, graded in entry["exercises"].items():
            if everything or graded["verdict"] not in ("ok", "wrong"):
                yield notebook, name, graded["verdict"], graded["for_instructor"] or graded["message"]
        for note in entry["notes"]:
            yield notebook, "", "note", note


@app.command()
def regrade(
    student: Annotated[str, typer.Argument(help="The student's id.")],
    assignment: Annotated[str, typer.Argument(help="The assignment, such as rnn.")],
    exercise: Annotated[str, typer.Argument(help="The exercise, such as rnn_step.")],
    folder: ClassOption = Path(),
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Without a sandbox.")] = False,
) -> None:
    """Grade one exercise of one student again with the seed that its grade records, and show the full report.

    Nothing is written. Exit status 1 if the result is another one than was recorded.
    """
    from autograde.classroom.again import grade_again

    again = grade_again(folder, student, assignment, exercise, unsafe)
    say([again.report, "", again.comparison])
    if not again.same:
        raise typer.Exit(WRONG)


@app.command()
def demo_class(
    folder: Annotated[Path, typer.Argument(help="A new folder for the class.")],
    students: Annotated[int, typer.Option(help="How many students.", min=6, max=400)] = 12,
    topic: Annotated[str, typer.Option(help="The series they hand in.")] = "rnn",
    notebook: Annotated[
        str | None, typer.Option(help="Only this notebook of the series, such as 01_vanilla_rnn.")
    ] = None,
    hostile: Annotated[
        bool, typer.Option("--hostile", help="Add the battery of hostile submissions, for one notebook.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that grade.", min=1, show_default="one a processor")
    ] = None,
) -> None:
    """Make a class of made-up students, grade it, write feedback and grades.csv, and print the table.

    Exit status 1 if anybody's score is not what their submission earned.
    """
    from autograde.classroom.demo import demo
    from autograde.classroom.grading import Progress as Told

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("making the class", total=None)

        def begin(total: int) -> None:
            bar.reset(task, total=total, description="grading")

        def advance(number: int, verdict: str) -> None:
            bar.update(task, description=f"submission {number}: {verdict}", advance=1)

        if hostile:
            from autograde.classroom.hostile import besieged

            siege = besieged(folder, topic, students, Told(begin, advance), notebook, workers)
        else:
            rows = demo(folder, topic, students, Told(begin, advance), notebook, workers)
    wrong = _say_siege(siege) if hostile else _say_scores(rows, topic)
    say([f"Grades: {folder / 'grades.csv'}. Feedback: {folder / 'feedback'}."])
    if wrong:
        err.print(f"{wrong} scores or verdicts are not what they should be.")
        raise typer.Exit(WRONG)


def _say_scores(rows: list[Row], topic: str) -> int:
    table = Table(title=f"{topic}: {len(rows)} students", title_justify="left")
    for heading in ("student", "handed in"):
        table.add_column(heading)
    for heading in ("expected", "score"):
        table.add_column(heading, justify="right")
    for row in rows:
        score = f"{row.score:g}" + ("" if row.right else "  WRONG")
        table.add_row(row.student, row.what, f"{row.expected:g}", score)
    out.print(table)
    return sum(not row.right for row in rows)


def _say_siege(siege: Siege) -> int:
    wrong = _say_scores(siege.honest, "honest")
    table = Table(title=f"{len(siege.attacks)} hostile submissions", title_justify="left")
    for heading in ("", "what it does", "verdict"):
        table.add_column(heading)
    for heading in ("score", "right"):
        table.add_column(heading, justify="right")
    for attack in siege.attacks:
        mark = "" if attack.right else "  WRONG"
        table.add_row(
            attack.number, attack.title, attack.verdict, f"{attack.score:g}{mark}", f"{attack.most:g}"
        )
    out.print(table)
    moved = siege.moved
    say(
        [
            f"{len(siege.honest)} honest students: {len(moved)} scores differ from those without the hostile ones.",
            f"Graded in {siege.seconds:.0f} s.",
        ]
    )
    return wrong + len(moved) + sum(not attack.right for attack in siege.attacks)
