"""The command ``autograde``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from autograde.course import CourseError, exercises, lesson_ids, read_course, root
from autograde.progress import write_atomically
from autograde.startup import import_nbformat
from autograde.version import __version__

import_nbformat()
app = typer.Typer(
    help="Builds, checks and grades the notebooks of the course.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
WIDE = None if sys.stdout.isatty() else 110
"""Columns of tables: the terminal's, or enough for every table in a file or a pipe."""
out = Console(highlight=False, width=WIDE)
err = Console(stderr=True, highlight=False)

RIGHT, WRONG, UNUSABLE = 0, 1, 2


def _version(asked: bool) -> None:
    if asked:
        print(f"rederive {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@app.command()
def build(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if lessons/ is not what the build gives.")
    ] = False,
) -> None:
    """Make lessons/ from solutions/, and the README's table from course.toml."""
    from autograde.build import build as make
    from autograde.build import differences, write

    folder = root()
    built = make(folder)
    if not check:
        changes = write(built, folder)
        out.print("\n".join(changes) or "Everything is up to date.")
        return
    changes = differences(built, folder)
    if changes:
        err.print("These are not what the build gives; run `autograde build` and commit the result:")
        err.print("\n".join(f"  {name}" for name in changes))
        raise typer.Exit(WRONG)
    out.print("lessons/ and the README's table are exactly what the build gives.")


@app.command()
def check(
    notebook: Annotated[
        Path, typer.Argument(help="A lesson's notebook, such as work/rnn/01_vanilla_rnn.ipynb.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    seed: Annotated[int, typer.Option(help="The seed that the cases are drawn with.", min=1)] = 1,
) -> None:
    """Grade one notebook with all cases, in a process of its own. Demo cells are skipped.

    Exit status 0: everything is right. 1: something is wrong or not written yet. 2: the file cannot be graded.
    """
    from autograde.run import grade_notebook
    from autograde.submission import plan, read_notebook

    submission = plan(read_notebook(notebook), notebook, root())
    total = sum(1 for step in submission.steps if step.check)
    with _progress(quiet=as_json) as bar:
        task = bar.add_task(submission.lesson, total=total)

        def advance(name: str) -> None:
            bar.update(task, description=name, advance=1)

        result = grade_notebook(notebook, root(), seed, advance)
    _remember(notebook, result)
    if as_json:
        print(json.dumps(result.as_json(str(notebook)), indent=2))
    else:
        _print_result(result)
    if any(exercise.verdict == "grader-error" for exercise in result.exercises.values()):
        raise typer.Exit(UNUSABLE)
    raise typer.Exit(RIGHT if result.score == result.max_score else WRONG)


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=err, transient=True, disable=quiet)


def _remember(notebook: Path, result: object) -> None:
    from autograde.progress import Record, find_work, record
    from autograde.run import NotebookResult

    assert isinstance(result, NotebookResult)
    work = find_work(notebook.resolve().parent)
    if work is not None:
        for name, exercise in result.exercises.items():
            record(
                work,
                result.lesson,
                Record(name, exercise.score, exercise.max_score, exercise.ok, __version__),
            )


def _print_result(result: object) -> None:
    from autograde.observe import plain_text
    from autograde.report import as_text
    from autograde.run import NotebookResult

    assert isinstance(result, NotebookResult)
    topic = result.lesson.split("/")[0]
    table = Table(title=result.lesson, title_justify="left")
    for heading, justify in (("exercise", "left"), ("result", "left"), ("points", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, exercise in result.exercises.items():
        state = "not written yet" if exercise.not_written else "given" if exercise.given else exercise.verdict
        table.add_row(name, state, f"{exercise.score} of {exercise.max_score}")
    table.add_section()
    table.add_row("all", "", f"{result.score} of {result.max_score}")
    out.print(table)
    for exercise in result.exercises.values():
        if not exercise.ok and not exercise.not_written:
            out.print()
            out.print(plain_text(as_text(exercise, topic)), markup=False)
    for note in result.notes:
        out.print(plain_text(f"Note: {note}"), markup=False)


@app.command()
def killrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if docs/kill-rate.md is out of date.")
    ] = False,
    topic: Annotated[str | None, typer.Option(help="Only this topic; the document is left alone.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes at once; otherwise one for each core.", min=1)
    ] = None,
) -> None:
    """Test the tests: every known mistake must fail and be named, every right answer must pass.

    Prints the table and writes docs/kill-rate.md. Exit status 1 below 100 %.
    """
    from autograde.killrate import as_markdown, cells, measure

    course = read_course()
    names = [entry.name for entry in course.topics if not entry.planned]
    if topic is not None:
        if topic not in names:
            raise CourseError(f"There is no topic {topic!r} with exercises. There are: {', '.join(names)}.")
        names = [topic]
    rows = []
    with _progress(quiet=False) as bar:
        task = bar.add_task("exercises", total=sum(len(exercises(name)) for name in names))
        for row in measure(names, workers or os.cpu_count() or 1):
            rows.append(row)
            bar.update(task, description=f"{row.topic}.{row.exercise}", advance=1)
    table = Table(
        *(["topic", "exercise", "mistakes"]), "kill rate", "right answers", "worst right", "nearest mistake"
    )
    for row in rows:
        table.add_row(*cells(row))
    out.print(table)
    for row in rows:
        for complaint in row.complaints:
            err.print(f"{row.topic}.{row.exercise}: {complaint}", markup=False)
    document, text = root() / "docs" / "kill-rate.md", as_markdown(rows)
    stale = not document.is_file() or document.read_text(encoding="utf-8") != text
    if topic is None and stale and check:
        err.print("docs/kill-rate.md is out of date; run `autograde killrate` and commit the result.")
    elif topic is None and stale:
        write_atomically(document, text)
    if any(row.complaints for row in rows) or (check and topic is None and stale):
        raise typer.Exit(WRONG)


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it."""
    from autograde.doctor import failed, findings, render

    found = findings()
    out.print(render(found))
    raise typer.Exit(WRONG if failed(found) else RIGHT)


@app.command()
def progress(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """Say which exercises of which lessons have passed, from the folder that you are in, or from work/."""
    from autograde.coursemap import progress_rows

    folder, work = root(), _work()
    rows = progress_rows(folder, work)
    if as_json:
        print(json.dumps([_progress_json(row) for row in rows], indent=2))
        return
    table = Table(title=f"Progress in {work}", title_justify="left")
    for heading, justify in (("lesson", "left"), ("exercises passed", "right"), ("state", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        begun = (work / f"{row.lesson.name}.ipynb").exists()
        state = row.state if begun else "no copy in work/ yet: make lab"
        table.add_row(row.lesson.name, f"{row.passed} of {len(row.lesson.exercises)}", state)
    out.print(table)
    for row in rows:
        if row.outdated:
            out.print(
                f"{row.lesson.name}: there is a newer version. `autograde reset {row.lesson.name}` takes it, and sets "
                "your copy aside.",
                markup=False,
            )


def _progress_json(row: Any) -> dict[str, Any]:
    return {
        "lesson": row.lesson.name,
        "passed": row.passed,
        "exercises": len(row.lesson.exercises),
        "outdated": row.outdated,
    }


def _work() -> Path:
    from autograde.progress import find_work

    return find_work() or root() / "work"


@app.command()
def reset(
    lesson: Annotated[str, typer.Argument(help="Such as rnn/01_vanilla_rnn.")],
) -> None:
    """Take a fresh copy of a lesson. Your own copy is set aside, never deleted; what you have passed stays passed."""
    from autograde import lab as laboratory
    from autograde.progress import FOLDER

    work = _work()
    name = _lesson_name(lesson, work)
    try:
        aside = laboratory.reset(root(), work, name, datetime.now())
        (work / FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise CourseError(f"{name} could not be replaced; nothing was lost: {error}.") from None
    out.print(f"A fresh copy is in {work / name}.ipynb.", markup=False, soft_wrap=True)
    if aside is not None:
        out.print(f"Your own copy is now {aside}.", markup=False, soft_wrap=True)
        out.print(
            "If it is open in JupyterLab, close its tab, and open the fresh copy from the file browser.",
            markup=False,
        )


def _lesson_name(text: str, work: Path) -> str:
    """``rnn/01_vanilla_rnn`` from that name, from a path to its notebook, or from a beginning that fits only one.

    Raises:
        CourseError: it fits no lesson, or several.
    """
    known = lesson_ids(root() / "lessons", "*.ipynb")
    stem = text.removesuffix(".ipynb").replace("\\", "/").rstrip("/")
    if stem in known:
        return stem
    with contextlib.suppress(ValueError):
        stem = Path(text).resolve().relative_to(work.resolve()).with_suffix("").as_posix()
    fits = [name for name in known if name == stem] or [name for name in known if name.startswith(stem)]
    if len(fits) != 1:
        found = "fits several lessons" if fits else "is no lesson"
        raise CourseError(f"{text!r} {found}. Choose from: {', '.join(fits or known)}.")
    return fits[0]


@app.command()
def lab(
    port: Annotated[int | None, typer.Option(help="The port; otherwise 8888 or the next free one.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Copy lessons that are not there yet into work/, and open JupyterLab on the course map."""
    from autograde.lab import launch, prepare

    folder = root()
    work = folder / "work"
    copied = prepare(folder, work)
    if copied:
        out.print(
            f"New in {work}: {', '.join(path.relative_to(work).as_posix() for path in copied)}", markup=False
        )
    raise typer.Exit(launch(folder, work, port, not no_browser))


if (Path(__file__).parent / "classroom").is_dir():
    from autograde.classroom.commands import app as classroom
    from autograde.classroom.grading_commands import app as grading

    app.registered_commands += [*classroom.registered_commands, *grading.registered_commands]
else:  # the folder that students get holds neither the instructor's side nor what makes lessons
    app.registered_commands = [c for c in app.registered_commands if c.callback not in (build, killrate)]


def main() -> None:
    """Run the command; a mistake of the user's gets one sentence, not a traceback."""
    from autograde.expect import CaseError
    from autograde.submission import CannotGrade

    try:
        app()
    except (CourseError, CannotGrade, CaseError) as error:
        err.print(str(error), markup=False, style="red")
        sys.exit(UNUSABLE)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
