"""Numbers that a lesson's text claims, and whether its cells print them to the precision written."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from nbformat import NotebookNode
from reading import CODE, COMMENT, DETAILS, FENCE, FORMULA, Complaint, Lesson, blank, words_at

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
NUMBER = re.compile(
    r"""
    (?<![\w.])                                      # W_2, h100, float32 and the 3 of 1.2.3 are no numbers
    (?P<sign>(?<![\])%])[-−+])?                     # a range as in 5-10 has no sign
    (?P<digits>\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+(?!\d)|\d+)
    (?P<decimals>\.\d+)?
    (?:
        [eE](?P<e>[-−+]?\d+)
      | \s?[·×*x]\s?10(?:\^\{?(?P<ten>[-−+]?\d+)\}?|\*\*(?P<stars>[-−+]?\d+)|(?P<small>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))
    )?
    (?P<percent>\s?%|\ percent\b|\ per\ cent\b)?
    """,
    re.VERBOSE,
)
MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
NAMES = (
    "appendix|algorithm|arXiv|chapter|CUDA|doi|equation|eq|exercise|figure|fig|hint|lemma|notebook|NumPy|page|part|pp"
    "|Python|PyTorch|section|sec|seed|table|theorem|version|volume|vol"
)
NUMBERED = r"\(?\d[\d.:]*(?:/\d+)?\)?"
NO_CLAIMS = (
    re.compile(r"https?://\S+"),
    re.compile(r"(?<=\])\([^)]*\)"),  # where a link leads to
    re.compile(r"^\s*\d+[.)]\s", re.MULTILINE),  # numbered lists
    re.compile(r"(?<![\w.])v?\d+\.\d+\.\d+[\w.]*"),  # versions
    re.compile(rf"\b\d{{1,2}}\.? {MONTH}(?: \d{{4}})?\b|\b{MONTH} \d{{4}}\b|\b\d{{4}}-\d\d-\d\d\b"),
    re.compile(r"\((?:[^()\d]*[\s,])?(?:1[89]|20)\d\d[a-z]?\)"),  # (1990), (Elman, 1990)
    re.compile(r"\b(?:in|since|until) (?:1[89]|20)\d\d(?=[.,;:)](?:\s|$))"),  # in 1990,
    re.compile(
        rf"(?:\b(?:{NAMES})s?\.?[\s:]\s*|§§?\s?){NUMBERED}(?:(?:\s?[-–,]\s?|\s(?:to|and|or|of)\s){NUMBERED})*(?![\w%])",
        re.IGNORECASE,
    ),
)
DECLARATION = re.compile(r"<!--\s*not printed:(?P<entries>[^()]*)\((?P<reason>.*?)\)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Number:
    """A number as it is written: its value, the value of one unit of its last digit, and whether it is a percentage."""

    value: Decimal
    unit: Decimal
    percent: bool = False

    @property
    def is_claim(self) -> bool:
        """Whether it has to be supported: decimals, percentages and integers of at least two digits."""
        return self.percent or self.unit < 1 or abs(self.value) >= 10

    def means(self, other: "Number") -> bool:
        """Whether ``other``, rounded to the precision in which this one is written, is this one."""
        mine, theirs = (
            number.fraction if self.percent != other.percent else number for number in (self, other)
        )
        return theirs.unit <= mine.unit and abs(theirs.value - mine.value) * 2 <= mine.unit

    @property
    def fraction(self) -> "Number":
        """A percentage as a fraction."""
        return Number(self.value / 100, self.unit / 100) if self.percent else self


def numbers(text: str) -> Iterator[tuple[int, str, Number]]:
    """All numbers in a text: place, as written, number."""
    for match in NUMBER.finditer(text):
        exponent = (
            match["e"] or match["ten"] or match["stars"] or (match["small"] or "0").translate(SUPERSCRIPTS)
        )
        minus = "-" if match["sign"] in ("-", "−") else ""
        digits = re.sub(r"\D", "", match["digits"]) + (match["decimals"] or "")
        value = Decimal(f"{minus}{digits}E{exponent.replace('−', '-')}")
        unit = Decimal(1).scaleb(int(value.as_tuple().exponent))
        yield match.start(), match[0].strip(), Number(value, unit, bool(match["percent"]))


def without_exceptions(text: str) -> str:
    """A markdown text without what claims no number: code, formulas, links, versions, dates, references, hints."""
    text = blank(COMMENT, text)
    text = DETAILS.sub(
        lambda found: " " * len(found[0]) if found[1].strip().startswith("Hint ") else found[0], text
    )
    for pattern in (FENCE, CODE, FORMULA, *NO_CLAIMS):
        text = blank(pattern, text)
    return text


@dataclass(frozen=True)
class Claims:
    """What the text of one markdown cell claims, and what it declares as not printed."""

    text: str

    @cached_property
    def found(self) -> list[tuple[int, str, Number]]:
        """The numbers that need support."""
        return [entry for entry in numbers(without_exceptions(self.text)) if entry[2].is_claim]

    def declared(self) -> tuple[list[Number], list[tuple[int, str]]]:
        """The numbers declared as not printed, and what is wrong with declarations: place and reason."""
        entries: list[Number] = []
        wrong: list[tuple[int, str]] = []
        claimed = [number for _, _, number in self.found]
        for comment in COMMENT.finditer(self.text):
            if not re.match(r"<!--\W*not[\s-]*printed", comment[0], re.IGNORECASE):
                continue
            match = DECLARATION.fullmatch(comment[0])
            if match is None or not match["reason"].strip():
                wrong.append(
                    (
                        comment.start(),
                        f"write {comment[0]!r} as <!-- not printed: 0.95, 3.2 (the reason) -->.",
                    )
                )
                continue
            for entry in re.split(r"[,;]\s+", match["entries"].strip()):
                parsed = list(numbers(entry))
                if len(parsed) != 1 or parsed[0][1] != entry.strip():
                    wrong.append(
                        (comment.start(), f"{entry!r} in a 'not printed' comment is not one number.")
                    )
                elif parsed[0][2] not in claimed:
                    wrong.append(
                        (
                            comment.start(),
                            f"{entry!r} is declared as not printed, but this cell does not claim it.",
                        )
                    )
                else:
                    entries.append(parsed[0][2])
        return entries, wrong


def printed(notebook: NotebookNode) -> list[Number]:
    """All numbers in what an executed notebook printed: no check's report, no progress bar, no standard error."""
    checks = {"grade", "solution"}
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and not any(cell.metadata.get("nbgrader", {}).get(key) for key in checks)
    ]
    return [number for cell in cells for text in _texts(cell.outputs) for _, _, number in numbers(text)]


def _texts(outputs: Iterable[NotebookNode]) -> Iterator[str]:
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            yield output.text
        elif output.output_type in ("execute_result", "display_data"):
            text = output.data.get("text/plain", "")
            if not text.startswith("<Figure size") and "it/s]" not in text:
                yield text


def literals(lesson: Lesson) -> list[Number]:
    """The whole numbers that stand in the code."""
    values = {
        node.value
        for _, cell in lesson.code
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Constant) and type(node.value) in (int, float)
    }
    whole = [int(value) for value in values if isinstance(value, int) or value.is_integer()]
    return [Number(Decimal(sign * value), Decimal(1)) for value in whole for sign in (1, -1)]


def unsupported(lesson: Lesson, notebook: NotebookNode) -> Iterator[Complaint]:
    """Every number in the text is one that the notebook prints, to the precision written, or is declared as not printed."""
    outputs, code = printed(notebook), literals(lesson)
    for k, text in claiming(lesson):
        claims = Claims(text)
        declared, wrong = claims.declared()
        yield from (Complaint(k, reason, at) for at, reason in wrong)
        for at, written, number in claims.found:
            whole = number.unit == 1 and not number.percent
            supported = (
                number in declared
                or any(number.means(other) for other in outputs)
                or (whole and any(number.value == other.value for other in code))
            )
            if not supported:
                yield Complaint(
                    k,
                    f"no cell prints {written!r} (in '… {words_at(text, at)} …'). Print it, correct it, or declare it: "
                    f"<!-- not printed: {written} (where it comes from) -->.",
                    at,
                )


def claiming(lesson: Lesson) -> Iterator[tuple[int, str]]:
    """The markdown cells without the notation's table, the sources, the exercises' headings and the stated time."""
    skipped = {k: text for k, text in lesson.markdown}
    for title in ("Notation", "Sources"):
        for k, start, stop in lesson.section(title):
            whole = (
                re.compile(r"^\|.*$", re.MULTILINE) if title == "Notation" else re.compile(r".+", re.DOTALL)
            )
            part = blank(whole, skipped[k][start:stop])
            skipped[k] = skipped[k][:start] + part + skipped[k][stop:]
    lines = re.compile(r"^### Exercise \d.*$|^\|\s*\*\*Time\*\*.*$", re.MULTILINE)
    return ((k, blank(lines, text)) for k, text in skipped.items())
