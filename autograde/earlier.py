"""Functions that a notebook takes over: the learner's own from an earlier notebook, or the course's version."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from autograde import handover, notebook
from autograde.course import CourseError, exercises
from autograde.exercise import Exercise
from autograde.grade import grade
from autograde.observe import LocalObserver
from autograde.progress import find_work

Function = Callable[..., Any]


def yours(lesson: str, *names: str) -> Any:
    """The learner's own functions from another notebook of the course, without running that notebook.

    The notebook lies beside the one that asks, or in the work folder. Only its imports, functions, classes and constants
    are taken. A function that is missing, or does not pass its check, is replaced by the course's version; one printed
    line says which were.

    Args:
        lesson: such as ``rnn/03_gates``.
        names: names of its exercises.

    Returns:
        One function, or a tuple of them where several are asked for.

    Raises:
        CourseError: there is no such exercise.
        RuntimeError: a notebook that is graded asked; there is no other notebook beside it.
    """
    if handover.ACTIVE:
        raise RuntimeError(
            "yours() is for cells that grading skips. In an exercise, write the function itself."
        )
    topic = lesson.split("/")[0]
    bank = {name: _exercise(topic, name) for name in names}
    path = _find(lesson)
    written = {} if path is None else definitions(path)
    chosen = {name: _choose(exercise, written.get(name)) for name, exercise in bank.items()}
    print(_summary(lesson, path is not None, {name: own for name, (_, own) in chosen.items()}))
    functions = tuple(function for function, _ in chosen.values())
    return functions[0] if len(functions) == 1 else functions


def _exercise(topic: str, name: str) -> Exercise:
    known = exercises(topic)
    if name not in known:
        raise CourseError(
            f"There is no exercise {name!r} in the series {topic!r}. There are: {', '.join(known)}."
        )
    return known[name]


def _find(lesson: str) -> Path | None:
    work = find_work()
    name = lesson.split("/")[1]
    places = [Path(f"{name}.ipynb"), Path("..", f"{lesson}.ipynb")]
    places += [] if work is None else [work / f"{lesson}.ipynb"]
    return next((place for place in places if place.is_file()), None)


def definitions(path: Path) -> dict[str, Any]:
    """What the imports, functions, classes and constants of a notebook define. What fails is left out."""
    sources = _code(path)
    namespace: dict[str, Any] = {"__name__": path.stem} if sources else {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for source in sources:
            for statement in _kept(source):
                with contextlib.suppress(Exception):
                    exec(compile(ast.Module([statement], []), str(path), "exec"), namespace)
    return namespace


def _code(path: Path) -> list[str]:
    """The code cells of a notebook. Read as JSON, because importing nbformat takes seconds."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # no notebook, or none of version 4
        return []


def _kept(source: str) -> Iterator[ast.stmt]:
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        statements = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError):
        return
    for statement in statements:
        definition = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
        if isinstance(statement, definition) or (isinstance(statement, ast.Assign) and _literal(statement)):
            yield statement


def _literal(statement: ast.Assign) -> bool:
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _choose(exercise: Exercise, written: Function | None) -> tuple[Function, bool]:
    """The learner's function if it passes its check, otherwise the course's; and whether it is the learner's."""
    if callable(written) and grade(exercise, LocalObserver(written, quiet=True)).ok:
        return written, True
    return exercise.reference, False


def _summary(lesson: str, found: bool, own: dict[str, bool]) -> str:
    yes = ", ".join(name for name, mine in own.items() if mine)
    no = ", ".join(name for name, mine in own.items() if not mine)
    why = f"not right yet in {lesson}" if found else f"the notebook {lesson} was not found"
    parts = [f"Your own code from {lesson}: {yes}."] if yes else []
    parts += [f"The course's version of {no} ({why})."] if no else []
    return " ".join(parts)


def given(name: str) -> Function:
    """The course's version of an exercise of this lesson's series, to go on with. The exercise then scores nothing.

    Args:
        name: the exercise, such as ``"rnn_step"``. Write it as plain text: when a notebook is graded, it is read from there.

    Raises:
        CourseError: no lesson was opened yet, or its series has no such exercise.
    """
    if handover.ACTIVE:
        if name not in handover.GIVEN:
            raise CourseError(
                f"given({name!r}) finds nothing. Write the name of an exercise of this series in quotes."
            )
        return handover.GIVEN[name]
    if not notebook.OPENED:
        raise CourseError("Run the first cell of the lesson before given(...): it opens the lesson.")
    reference = _exercise(notebook.OPENED[-1].split("/")[0], name).reference

    @functools.wraps(reference)
    def course_version(*args: Any, **kwargs: Any) -> Any:
        notebook.GIVEN_CALLED.add(name)
        return reference(*args, **kwargs)

    return course_version


def asked_for(sources: Iterable[str], topic: str) -> dict[str, Function]:
    """The references that cells of a notebook ask for with ``given("name")``, and others that these make use of."""
    bank = exercises(topic)
    by_reference = {id(exercise.reference): name for name, exercise in bank.items()}
    wanted = [name for source in sources for name in _given_names(source) if name in bank]
    found: dict[str, Function] = {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = bank[name].reference
            wanted += [by_reference[id(used)] for used in _uses(found[name]) if id(used) in by_reference]
    return found


def _uses(function: Function) -> Iterator[Function]:
    """The functions of references that a function calls by name, directly or through others."""
    pending, seen = [function], {id(function)}
    while pending:
        for value in inspect.getclosurevars(pending.pop()).globals.values():
            ours = inspect.isfunction(value) and value.__module__.startswith("utils.reference")
            if ours and id(value) not in seen:
                seen.add(id(value))
                pending.append(value)
                yield value


def _given_names(source: str) -> Iterator[str]:
    if "given" not in source:
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "given" and isinstance(node.args[0].value, str):
                yield node.args[0].value
