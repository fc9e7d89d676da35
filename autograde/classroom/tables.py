"""CSV files as learning platforms and spreadsheets write and read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from autograde.course import CourseError

DELIMITERS = (",", ";", "\t")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins with one of these for a formula, and runs it."""


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Attributes:
        rows: each with the number of its line in the file, and with as many cells as the header.
        marked: whether the file began with a byte-order mark.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    delimiter: str = ","
    marked: bool = False


def read_table(path: Path, known: Callable[[set[str]], bool]) -> Table:
    """Read a CSV file; commas, semicolons and tabs are told apart by the header.

    Args:
        path: the file, in UTF-8 or (with a byte-order mark) UTF-16. Empty lines are left out.
        known: whether a header is one that the caller understands, given its names in lower case.

    Raises:
        CourseError: the file cannot be read, its header is unknown, or a line has too many cells.
    """
    text, marked = _decode(path)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines: list[tuple[int, list[str]]] = []
        try:
            before = 0
            for cells in reader:
                lines.append((before + 1, cells))
                before = reader.line_num
                if len(lines) == 1 and not known({cell.strip().casefold() for cell in cells}):
                    break
            else:
                if lines:
                    return _table(path, lines, delimiter, marked)
        except csv.Error as error:
            if lines and known({cell.strip().casefold() for cell in lines[0][1]}):
                raise CourseError(f"{path.name}, line {reader.line_num}: {error}.") from None
    header = text.splitlines()[0][:200] if text.strip() else ""
    if not header:
        raise CourseError(f"{path.name} is empty.")
    raise CourseError(f"{path.name}: the first line does not name columns that are known here: {header!r}.")


def _table(path: Path, lines: list[tuple[int, list[str]]], delimiter: str, marked: bool) -> Table:
    header = tuple(cell.strip() for cell in lines[0][1])
    rows = []
    for number, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            raise CourseError(
                f"{path.name}, line {number}: {len(cells)} cells, but the header has {len(header)}. Is a quote missing?"
            )
        rows.append((number, tuple([*cells, *[""] * len(header)][: len(header)])))
    return Table(path.name, header, tuple(rows), delimiter, marked)


def _decode(path: Path) -> tuple[str, bool]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror}.") from None
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CourseError(
            f"{path.name}, line {line}: this is not UTF-8. Save the file again as CSV in UTF-8."
        ) from None
    if "\0" in text:
        raise CourseError(f"{path.name} is no CSV file.")
    return text, encoding != "utf-8"


def as_csv(
    header: Iterable[str], rows: Iterable[Iterable[str]], delimiter: str = ",", marked: bool = False
) -> str:
    """A table as the text of a CSV file, with Windows line ends, as RFC 4180 wants it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(list(header))
    writer.writerows(list(row) for row in rows)
    return ("\ufeff" if marked else "") + out.getvalue()


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that looks like one begins with an apostrophe."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text
