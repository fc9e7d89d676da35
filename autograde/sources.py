"""The sources of lessons: ``solutions/<topic>/NN_name.py`` in Jupytext's percent format, and what may not be in them."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograde.course import Course, CourseError, exercises

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
TAGS = frozenset({"exercise", "check", "demo"})


@dataclass(frozen=True)
class SourceCell:
    """One cell of a lesson's source."""

    kind: str
    """ "markdown" or "code"."""
    title: str
    tags: frozenset[str]
    source: str

    @property
    def label(self) -> str:
        """How a message names the cell."""
        first = self.source.strip().splitlines()[0] if self.source.strip() else "(empty)"
        return self.title or first[:60]

    @property
    def exercise(self) -> str | None:
        """The exercise that this cell holds or checks."""
        if "exercise" in self.tags:
            return self.title
        return self.title.removeprefix("check_") if "check" in self.tags else None


@dataclass(frozen=True)
class Source:
    """One lesson's source. ``name`` is ``topic/notebook``."""

    name: str
    path: Path
    cells: tuple[SourceCell, ...]

    @property
    def topic(self) -> str:
        """The topic's short name."""
        return self.name.split("/")[0]

    def tagged(self, tag: str) -> Iterator[SourceCell]:
        """The cells with a tag, in order."""
        return (cell for cell in self.cells if tag in cell.tags)


def read_source(path: Path, name: str) -> Source:
    """Parse one source.

    Raises:
        CourseError: Jupytext cannot read it.
    """
    import jupytext

    try:
        notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, ValueError, SyntaxError) as error:
        raise CourseError(f"{path.name} cannot be read: {error}") from None
    cells = tuple(
        SourceCell(
            cell.cell_type,
            str(cell.metadata.get("title", "")),
            frozenset(cell.metadata.get("tags", ())),
            cell.source,
        )
        for cell in notebook.cells
    )
    return Source(name, path, cells)


def read_sources(solutions: Path, course: Course) -> list[Source]:
    """Every lesson's source, in the order of the course."""
    order = {topic.name: topic.order for topic in course.topics}
    paths = [path for path in sorted(solutions.glob("*/*.py")) if path.parent.name in order]
    sources = [read_source(path, f"{path.parent.name}/{path.stem}") for path in paths]
    return sorted(sources, key=lambda source: (order[source.topic], source.name))


def complaints(sources: list[Source], course: Course, solutions: Path) -> list[str]:
    """Everything that keeps the lessons from being built: file, cell and reason, one line each."""
    found = list(_folders(course, solutions))
    for source in sources:
        where = f"solutions/{source.name}.py"
        found += [f"{where}, cell {label!r}: {reason}" for label, reason in _in_source(source)]
    for topic in sorted({source.topic for source in sources}):
        found += _unchecked(topic, [source for source in sources if source.topic == topic])
    return found


def _folders(course: Course, solutions: Path) -> Iterator[str]:
    built = {path.parent.name for path in solutions.glob("*/*.py")}
    for topic in course.topics:
        if topic.planned and topic.name in built:
            yield f"course.toml: the topic {topic.name!r} is planned, but solutions/{topic.name} has lessons."
        if not topic.planned and topic.name not in built:
            yield (
                f"course.toml: the topic {topic.name!r} has no lesson in solutions/{topic.name}. "
                "If it is not built yet, say planned = true."
            )
    known = {topic.name for topic in course.topics}
    for name in sorted(built - known):
        yield f"solutions/{name}: there is no entry for it in course.toml."


def _in_source(source: Source) -> Iterator[tuple[str, str]]:
    yield from _duplicates(source)
    known = _known_exercises(source.topic)
    for cell in source.cells:
        unknown = cell.tags - TAGS
        if unknown:
            yield cell.label, f"unknown tag {sorted(unknown)[0]!r}; there are {', '.join(sorted(TAGS))}."
        if cell.kind != "code" and cell.tags & {"exercise", "check"}:
            yield cell.label, "only a code cell can be an exercise or a check."
        if len(cell.tags & TAGS) > 1:
            yield cell.label, "has more than one of the tags exercise, check and demo."
        if cell.kind == "code":
            yield from ((cell.label, reason) for reason in _in_code(cell, known))
    yield from _order(source)
    yield from _lesson_opened(source)
    yield from _needs_demo(source)


def _known_exercises(topic: str) -> frozenset[str] | None:
    try:
        return frozenset(exercises(topic))
    except CourseError:
        return None


def _in_code(cell: SourceCell, known: frozenset[str] | None) -> Iterator[str]:
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        yield f"is no valid Python (no magics in sources): {error.msg}, line {error.lineno}."
        return
    has_markers = BEGIN in cell.source or END in cell.source
    if "exercise" in cell.tags:
        yield from _exercise(cell, tree)
    elif has_markers:
        yield "has solution markers, but not the tag exercise."
    if "check" in cell.tags:
        name = cell.exercise
        if known is None or name not in known:
            yield f"the exercise {name!r} does not exist in autograde/exercises."
        elif cell.source.strip() != f"check.{name}({name})":
            yield f"has to be the one line check.{name}({name})."


def _exercise(cell: SourceCell, tree: ast.Module) -> Iterator[str]:
    if not cell.title.isidentifier():
        yield "an exercise cell needs a title, the name of the function to write."
    if cell.source.count(BEGIN) == 0 or cell.source.count(BEGIN) != cell.source.count(END):
        yield f"has no pair of lines {BEGIN} and {END}."
        return
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lines = cell.source.splitlines()
    for number, line in enumerate(lines, 1):
        inside = any(node.lineno < number <= _last_line(node, lines) for node in functions)
        if line.strip() in (BEGIN, END) and not inside:
            yield f"line {number}: solution markers belong inside the body of a function."
    yield from _pairs(lines, functions)
    defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    if cell.title.isidentifier() and cell.title not in defined:
        yield f"does not define {cell.title}."


def _pairs(lines: list[str], functions: list[ast.FunctionDef | ast.AsyncFunctionDef]) -> Iterator[str]:
    """BEGIN and END alternate, and each pair lies in one function."""
    marks = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() in (BEGIN, END)]
    if [mark for _, mark in marks] != [BEGIN, END] * (len(marks) // 2):
        yield f"the lines {BEGIN} and {END} do not alternate."
        return
    for (begin, _), (end, _) in zip(marks[::2], marks[1::2], strict=True):
        around = [
            {node for node in functions if node.lineno < n <= _last_line(node, lines)} for n in (begin, end)
        ]
        if around[0] != around[1] or any(
            begin < node.lineno < end for node in functions if node.col_offset == 0
        ):
            yield f"line {begin}: a pair of solution markers reaches beyond its function."


def _last_line(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """The last line of a function, with comments that follow at its indentation."""
    last = node.end_lineno or node.lineno
    indent = node.body[0].col_offset
    while last < len(lines) and lines[last].startswith(" " * indent) and lines[last].strip().startswith("#"):
        last += 1
    return last


def _duplicates(source: Source) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for cell in source.cells:
        if cell.title and cell.title in seen:
            yield cell.label, "this title is used twice; titles are the cells' names."
        seen.add(cell.title)


def _order(source: Source) -> Iterator[tuple[str, str]]:
    written: set[str] = set()
    checked: set[str] = set()
    for cell in source.cells:
        if "exercise" in cell.tags:
            written.add(cell.title)
        if "check" in cell.tags and cell.exercise is not None:
            if not cell.title.startswith("check_"):
                yield cell.label, "the title of a check cell is check_ and the name of the exercise."
            elif cell.exercise not in written:
                yield (
                    cell.label,
                    f"checks {cell.exercise!r}, but no exercise cell of that title stands before it.",
                )
            checked.add(cell.exercise)
    for name in sorted(written - checked):
        yield name, f"no cell checks this exercise; add one titled check_{name}."


def _lesson_opened(source: Source) -> Iterator[tuple[str, str]]:
    opened = re.findall(r'open_lesson\("([^"]*)"\)', "\n".join(cell.source for cell in source.cells))
    if opened != [source.name]:
        yield "setup", f'the lesson has to call open_lesson("{source.name}") once; it calls it for {opened}.'


def _unchecked(topic: str, sources: list[Source]) -> list[str]:
    known = _known_exercises(topic)
    if known is None:
        return [f"autograde/exercises/{topic} is missing, but solutions/{topic} has lessons."]
    checked = [cell.exercise for source in sources for cell in source.tagged("check")]
    found = [
        f"autograde/exercises/{topic}: no lesson of solutions/{topic} checks the exercise {name!r}."
        for name in sorted(known - set(checked))
    ]
    twice = sorted({name for name in checked if name is not None and checked.count(name) > 1})
    return found + [f"solutions/{topic}: the exercise {name!r} is checked more than once." for name in twice]


def _needs_demo(source: Source) -> Iterator[tuple[str, str]]:
    """Cells that run when a notebook is graded, and use a name that only a demo cell defines."""
    graded = [cell for cell in source.cells if cell.kind == "code" and "demo" not in cell.tags]
    demo = [cell for cell in source.tagged("demo") if cell.kind == "code"]
    try:
        available = set().union(*(defined_names(cell.source) for cell in graded)) | set(dir(builtins))
        only_demo = set().union(*(defined_names(cell.source) for cell in demo)) - available
        for cell in graded:
            for name in sorted(used_names(cell.source) & only_demo):
                yield (
                    cell.label,
                    f"runs when the notebook is graded, but uses {name!r}, which only a demo cell defines.",
                )
    except SyntaxError:
        return  # reported for its own cell


def defined_names(code: str) -> set[str]:
    """Names that a cell binds at its top level."""
    table = symtable.symtable(code, "cell", "exec")
    return {
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    } | {child.get_name() for child in table.get_children()}


def used_names(code: str) -> set[str]:
    """Global names that a cell reads, at its top level or inside functions."""
    return set(_used(symtable.symtable(code, "cell", "exec")))


def _used(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        top = table.get_type() == "module"
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _used(child)
