"""The course's own solution, shown beside the learner's once that has passed."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from html import escape
from pathlib import Path
from typing import Any

from autograde.course import root
from autograde.exercise import Exercise

_PANE = "flex:1 1 24em;min-width:0"
_CODE = (
    "font-family:var(--jp-code-font-family,monospace);font-size:12px;white-space:pre;overflow-x:auto;"
    "background:transparent;color:inherit;margin:2px 0"
)


def beside(lesson: str, exercise: Exercise, implementation: Any) -> str:
    """HTML that is closed until the learner opens it: their own function and the course's, side by side."""
    panes = (("Yours", _source(implementation)), ("The course's", course_solution(lesson, exercise)))
    columns = "".join(
        f'<div style="{_PANE}"><strong>{heading}</strong><pre tabindex="0" style="{_CODE}">{escape(code)}</pre></div>'
        for heading, code in panes
    )
    return (
        '<details style="margin:6px 0"><summary style="cursor:pointer">Your solution and the course\'s, side by side'
        f'</summary><div style="display:flex;flex-wrap:wrap;gap:8px 32px;margin-top:6px">{columns}</div></details>'
    )


def course_solution(lesson: str, exercise: Exercise) -> str:
    """The solution of the lesson's source where that is at hand, otherwise the reference."""
    path = root() / "solutions" / f"{lesson}.py"
    code = _solution(path, exercise.name) if path.is_file() else None
    return _source(exercise.reference) if code is None else _without_docstring(code)


def _solution(path: Path, name: str) -> str | None:
    """An exercise's cell in a lesson's source, found without Jupytext: importing that takes seconds."""
    from autograde.sources import BEGIN, END  # a student's pack has neither solutions nor this module

    cell = re.search(
        rf'^# %% {name} tags=\["exercise"\]$(.*?)(?=^# %%|\Z)',
        path.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    if cell is None:
        return None
    return "\n".join(line for line in cell[1].strip().splitlines() if line.strip() not in (BEGIN, END))


def _source(function: Any) -> str:
    try:
        return _without_docstring(inspect.getsource(function).rstrip())
    except (OSError, TypeError):
        return "(its source is not at hand)"


def _without_docstring(code: str) -> str:
    """The source of a function without its docstring, which the lesson shows already."""
    try:
        function = ast.parse(textwrap.dedent(code)).body[0]
    except (SyntaxError, IndexError):
        return code
    if not isinstance(function, ast.FunctionDef) or ast.get_docstring(function) is None:
        return code
    docstring, lines = function.body[0], code.splitlines()
    if docstring.lineno == function.lineno:
        return code
    return "\n".join(lines[: docstring.lineno - 1] + lines[docstring.end_lineno :])
