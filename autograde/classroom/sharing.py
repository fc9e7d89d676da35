"""Answers that are equal to the course's own solution, or to each other's: a hint for the instructor, never a verdict.

Two answers are equal when only names of variables, comments, docstrings, annotations and layout differ. Short answers often
are: for many exercises there is one natural way to write them. So an answer counts from a certain size on, and answers that
more than a quarter of a larger class share are left out.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import nbformat

from autograde.classroom.folder import ClassFolder
from autograde.classroom.records import Records

SMALLEST = 60
"""Parts of the syntax tree that an answer needs in order to count."""
COMMON = 0.25
LARGE = 12
COURSE = "the course's solution"
Key = tuple[str, str]
"""Notebook and exercise."""


class _Plain(ast.NodeTransformer):
    """Names in the order in which they appear; no annotations and no docstrings."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def _name(self, name: str) -> str:
        if hasattr(builtins, name):
            return name
        return self._names.setdefault(name, f"n{len(self._names)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._name(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._name(node.arg), None)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.visit(ast.Assign([node.target], node.value))  # type: ignore[no-any-return]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        node = ast.FunctionDef(
            self._name(node.name), node.args, body or [ast.Pass()], node.decorator_list, None
        )
        return self.generic_visit(node)


def fingerprint(source: str) -> str | None:
    """The same text for answers that differ in names and layout only; None for one that is too small, or no Python."""
    try:
        tree = _Plain().visit(ast.parse(source))
        text = ast.dump(tree)
        size = sum(1 for _ in ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest() if size >= SMALLEST else None


def shared_answers(made: ClassFolder) -> list[str]:
    """One line for each answer that several students share, or that is the course's own."""
    students = list(Records(made).all())
    found: dict[Key, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, mark in _answers(made.source):
        found[key][mark].append(COURSE)
    for student in students:
        for key, mark in _answers(made.autograded(student)):
            found[key][mark].append(student)
    lines = []
    for (notebook, exercise), marks in sorted(found.items()):
        for names in marks.values():
            own = [name for name in names if name != COURSE]
            common = len(students) >= LARGE and len(own) > COMMON * len(students)
            if own and len(names) > 1 and not common:
                lines.append(f"{notebook}, {exercise}: the same answer from {', '.join(names)}.")
    if lines:
        lines.insert(0, "Answers that differ at most in names and layout (a hint, not a verdict):")
    return lines


def _answers(folder: Path) -> Iterator[tuple[Key, str]]:
    for path in sorted(folder.glob("*.ipynb")):
        try:
            notebook = nbformat.read(path, as_version=4)
        except Exception:  # nbformat raises many kinds of errors for a broken file
            continue
        for cell in notebook.cells:
            mark = cell.metadata.get("nbgrader", {})
            if mark.get("solution") and cell.cell_type == "code":
                equal = fingerprint(cell.source)
                if equal is not None:
                    yield (path.stem, str(mark.get("grade_id"))), equal
