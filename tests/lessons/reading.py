"""What the contract's rules look at: a lesson's source, its headings and exercises, its text without code and formulas."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from autograde.sources import Source, SourceCell, read_source

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?:(?!\n\n).)+?\1", re.DOTALL)
FORMULA = re.compile(r"\$\$.*?\$\$|(?<!\\)\$(?:(?!\n\n)[^$])+\$", re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) +(.*\S)[ \t]*$", re.MULTILINE)
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)


@dataclass(frozen=True)
class Complaint:
    """What is wrong in a cell, and what to do; ``at`` is the place in the cell's text."""

    cell: int
    reason: str
    at: int = 0


@dataclass(frozen=True)
class Heading:
    """A heading: in which cell, where in its text."""

    cell: int
    at: int
    level: int
    text: str


@dataclass(frozen=True)
class Part:
    """The part of a lesson about one exercise: the numbers of its cells. ``end`` is the cell where the next part begins."""

    name: str
    heading: Heading | None
    cell: int
    check: int
    end: int


def blank(pattern: re.Pattern[str], text: str) -> str:
    """The text with every match made of spaces, so that places and lines stay what they are."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


@cache
def prose(markdown: str) -> str:
    """A markdown cell without comments, code and formulas."""
    for pattern in (COMMENT, FENCE, CODE, FORMULA):
        markdown = blank(pattern, markdown)
    return markdown


@cache
def parsed(code: str) -> ast.Module:
    """A code cell's syntax tree."""
    return ast.parse(code)


@dataclass(frozen=True)
class Lesson:
    """One lesson as its author wrote it."""

    source: Source

    @property
    def cells(self) -> tuple[SourceCell, ...]:
        """All cells."""
        return self.source.cells

    @cached_property
    def code(self) -> list[tuple[int, SourceCell]]:
        """The code cells with their numbers."""
        return [(k, cell) for k, cell in enumerate(self.cells) if cell.kind == "code"]

    @cached_property
    def markdown(self) -> list[tuple[int, str]]:
        """The texts of the markdown cells with their numbers."""
        return [(k, cell.source) for k, cell in enumerate(self.cells) if cell.kind == "markdown"]

    @cached_property
    def headings(self) -> list[Heading]:
        """All headings, in order."""
        return [
            Heading(k, match.start(), len(match[1]), match[2])
            for k, text in self.markdown
            for match in HEADING.finditer(blank(FENCE, blank(COMMENT, text)))
        ]

    @cached_property
    def parts(self) -> list[Part]:
        """The exercises, in order."""
        cells = [k for k, cell in self.code if "exercise" in cell.tags]
        headings = [heading for heading in self.headings if heading.text.startswith("Exercise")]
        return [self._part(cell, before, cells, headings) for before, cell in pairwise([-1, *cells])]

    def _part(self, cell: int, before: int, cells: list[int], headings: list[Heading]) -> Part:
        name = self.cells[cell].title
        own = [heading for heading in headings if before < heading.cell < cell]
        begins = {heading.cell for heading in headings} | set(cells)
        end = min((k for k in begins if k > cell), default=len(self.cells))
        checks = [
            k for k, other in self.code if "check" in other.tags and other.exercise == name and k > cell
        ]
        return Part(name, own[-1] if own else None, cell, min(checks, default=end), end)

    def section(self, title: str) -> list[tuple[int, int, int]]:
        """Where a section's text stands, up to the next heading of its level: cell, start, end. Empty if there is none."""
        found = [heading for heading in self.headings if heading.text == title]
        if not found:
            return []
        first = found[0]
        later = [heading for heading in self.headings if (heading.cell, heading.at) > (first.cell, first.at)]
        stops = [(heading.cell, heading.at) for heading in later if heading.level <= first.level]
        cell, at = stops[0] if stops else (len(self.cells), 0)
        spans = [
            (k, first.at if k == first.cell else 0, at if k == cell else len(text))
            for k, text in self.markdown
            if first.cell <= k <= cell
        ]
        return [(k, start, stop) for k, start, stop in spans if stop > start]

    def section_text(self, title: str) -> str:
        """A section's text; empty if there is none."""
        return "\n\n".join(self.cells[k].source[start:stop] for k, start, stop in self.section(title))

    def details(self, part: Part) -> list[str]:
        """The summaries of the foldable texts between an exercise and its check."""
        texts = [text for k, text in self.markdown if part.cell < k < part.check]
        return [match[1].strip() for text in texts for match in DETAILS.finditer(text) if match[2].strip()]

    @cached_property
    def _begins(self) -> list[int]:
        """The line of the file, counted from 1, after each cell's marker."""
        lines = self.source.path.read_text(encoding="utf-8").splitlines()
        return [number + 1 for number, line in enumerate(lines, 1) if re.match(r"# %%(\s|$)", line)]

    def readable(self, complaint: Complaint) -> str:
        """A complaint with file, line and cell."""
        cell = self.cells[complaint.cell]
        where = f"solutions/{self.source.name}.py"
        if len(self._begins) == len(self.cells):
            where += f":{self._begins[complaint.cell] + cell.source.count(chr(10), 0, complaint.at)}"
        return f"{where}, cell {cell.label!r}: {complaint.reason}"


def read_lesson(path: Path, name: str) -> Lesson:
    """Read one lesson with the reader that the build uses. CourseError if Jupytext cannot read it."""
    return Lesson(read_source(path, name))


def words_at(text: str, at: int) -> str:
    """A few words around a place, for a message."""
    start, stop = max(0, at - 30), at + 40
    return " ".join(text[start:stop].split())


def find_all(lesson: Lesson, pattern: re.Pattern[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Matches in the text of the lesson, without comments, code and formulas."""
    for k, text in lesson.markdown:
        for match in pattern.finditer(prose(text)):
            yield k, match
