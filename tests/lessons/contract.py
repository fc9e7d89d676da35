"""The contract of a lesson: what every lesson has, as far as a machine can see it in the source.

Each rule is a function whose docstring is the rule. Text that is printed is compared in ``claimed_numbers``.
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from nbgrader.preprocessors import ClearSolutions
from reading import (
    CODE,
    COMMENT,
    FENCE,
    FORMULA,
    Complaint,
    Heading,
    Lesson,
    Part,
    blank,
    find_all,
    parsed,
    prose,
    words_at,
)

from autograde.build import source_notebook
from autograde.course import exercises, root
from autograde.sources import BEGIN, END, defined_names, used_names

Rule = Callable[[Lesson], Iterator[Complaint]]
Function = ast.FunctionDef | ast.AsyncFunctionDef
RULES: dict[str, Rule] = {}
MOST_LINES = 20

FILLERS = (
    r"simply",
    r"obvious(?:ly)?",
    r"clearly",
    r"(?<!\bhas )(?<!\bhave )(?<!\bhad )just(?! (?:above|below|before|after|inside|outside)\b)",  # time, place
    r"(?<!\bas )easy",  # "as easy to read as before" compares
    r"easily",
    r"trivial(?:ly)?",
    r"of course",
    r"needless to say",
)
"""Words that say that the reader should find something easy. What is left out of a pattern is no filler."""
MACHINE = re.compile(
    r"(?<![\w.])/(?:home|work|tmp|root|mnt|Users)/|[A-Za-z]:\\\\?Users|\blocalhost\b|127\.0\.0\.1"
)
FOLDERS = ("autograde", "benchmarks", "docs", "lessons", "solutions", "tests", "utils")


def rule(function: Rule) -> Rule:
    """Add a rule to those that every lesson has to keep."""
    RULES[function.__name__] = function
    return function


def body(lesson: Lesson) -> list[tuple[int, str]]:
    """The markdown cells without code and formulas."""
    return [(k, prose(text)) for k, text in lesson.markdown]


@rule
def one_title(lesson: Lesson) -> Iterator[Complaint]:
    """A lesson begins with its title, the only heading with one #."""
    titles = [heading for heading in lesson.headings if heading.level == 1]
    if not titles or (titles[0].cell, titles[0].at) != (0, 0):
        yield Complaint(0, "the first line of the first cell has to be the title: # and a space before it.")
    for heading in titles[1:]:
        yield Complaint(heading.cell, f"{heading.text!r} is a second title; use ## or ###.", heading.at)


@rule
def claim_and_facts(lesson: Lesson) -> Iterator[Complaint]:
    """The first cell says what the lesson will prove, how long it takes, what it needs and what is graded."""
    text = lesson.cells[0].source
    if not re.search(r"^\*\*Claim\.\*\* \S", text, re.MULTILINE):
        yield Complaint(0, "a paragraph that begins with **Claim.** is missing.")
    for row in ("Time", "You need", "Graded"):
        if not re.search(rf"^\| \*\*{row}\*\* \| *\S.*\|$", text, re.MULTILINE):
            yield Complaint(0, f"the table has no row | **{row}** | ... |.")
    if "**Time**" in text and stated_minutes(lesson) is None:
        yield Complaint(0, "the row **Time** has to say how many minutes.")


@rule
def notation(lesson: Lesson) -> Iterator[Complaint]:
    """A section ## Notation with a table of at least three symbols stands before the first exercise."""
    found = [heading for heading in lesson.headings if heading.text == "Notation" and heading.level == 2]
    if not found:
        yield Complaint(0, "there is no section ## Notation.")
        return
    rows = re.findall(r"^\|(.+)\|$", lesson.section_text("Notation"), re.MULTILINE)
    symbols = [row for row in rows[2:] if row.split("|")[0].strip()]
    if len(symbols) < 3:
        yield Complaint(
            found[0].cell, f"the table under ## Notation has {len(symbols)} symbols, not 3 or more."
        )
    if lesson.parts and lesson.parts[0].cell < found[0].cell:
        yield Complaint(found[0].cell, "## Notation has to stand before the first exercise.")


@rule
def exercise_headings(lesson: Lesson) -> Iterator[Complaint]:
    """Each exercise has a heading "### Exercise 2 · its_name  ●●○  10 minutes", counted from 1, one to three dots filled."""
    used = {(part.heading.cell, part.heading.at) for part in lesson.parts if part.heading}
    for heading in lesson.headings:
        if heading.text.startswith("Exercise") and (heading.cell, heading.at) not in used:
            yield Complaint(
                heading.cell, f"no exercise cell follows the heading {heading.text!r}.", heading.at
            )
    for number, part in enumerate(lesson.parts, 1):
        if part.heading is None:
            yield Complaint(
                part.cell, f"no heading ### Exercise {number} · {part.name} stands before this cell."
            )
            continue
        match = re.fullmatch(
            r"Exercise (\d+) · (\w+) {2}(●{1,3}○{0,2}) {2}([1-9]\d*) minutes?", part.heading.text
        )
        if part.heading.level != 3 or match is None or len(match[3]) != 3:
            wanted = f"### Exercise {number} · {part.name}  ●●○  10 minutes"
            yield Complaint(part.heading.cell, f"the heading has to look like {wanted!r}.", part.heading.at)
            continue
        if int(match[1]) != number:
            yield Complaint(part.heading.cell, f"this is exercise {number}, not {match[1]}.", part.heading.at)
        if match[2] != part.name:
            yield Complaint(
                part.heading.cell,
                f"the cell that follows is {part.name!r}, not {match[2]!r}.",
                part.heading.at,
            )


@rule
def check_follows(lesson: Lesson) -> Iterator[Complaint]:
    """An exercise, its hints and its check stand together, before the next exercise and with no other code between."""
    for part in lesson.parts:
        between = [k for k, _ in lesson.code if part.cell < k < part.check]
        if part.check >= part.end:
            yield Complaint(part.cell, "its check has to stand before the next exercise.")
        elif between:
            yield Complaint(
                between[0], f"stands between the exercise {part.name} and its check; move it after the check."
            )


@rule
def hints(lesson: Lesson) -> Iterator[Complaint]:
    """Between an exercise and its check are two <details>, "Hint 1: ..." and "Hint 2: ..."."""
    for part in lesson.parts:
        found = [summary[:7] for summary in lesson.details(part) if summary.startswith("Hint")]
        if found != ["Hint 1:", "Hint 2:"]:
            yield Complaint(
                part.cell,
                f"two <details> with <summary>Hint 1: ... and <summary>Hint 2: ... have to follow; there are {found}.",
            )


@rule
def symptoms(lesson: Lesson) -> Iterator[Complaint]:
    """Between an exercise and its check is at least one <details> headed with what a learner would say, in quotation marks."""
    for part in lesson.parts:
        if not any(summary.startswith(('"', "“")) for summary in lesson.details(part)):
            yield Complaint(
                part.cell,
                'a <details> with <summary>"what is seen when it is wrong"</summary> has to follow.',
            )


def definition(code: str, name: str) -> Function | ast.ClassDef | None:
    """The function, or class, that a cell defines under a name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return next((node for node in parsed(code).body if isinstance(node, kinds) and node.name == name), None)


def function_of(lesson: Lesson, part: Part) -> Function | ast.ClassDef | None:
    """The function, or class, that an exercise cell defines."""
    return definition(lesson.cells[part.cell].source, part.name)


def methods_of(node: Function | ast.ClassDef | None) -> list[Function]:
    """The function itself, or the methods of a class."""
    if isinstance(node, ast.ClassDef):
        return [item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [] if node is None else [node]


def arguments_of(function: Function) -> list[ast.arg]:
    """All arguments but self."""
    given = function.args
    stars = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
    return [arg for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs, *stars] if arg.arg != "self"]


@rule
def docstrings(lesson: Lesson) -> Iterator[Complaint]:
    """An exercise's docstring says what it does, its Arguments, what it Returns, and an Example with numbers."""
    for part in lesson.parts:
        node = function_of(lesson, part)
        owners = [node, *methods_of(node)] if isinstance(node, ast.ClassDef) else methods_of(node)
        text = "\n".join(ast.get_docstring(owner) or "" for owner in owners)
        for names in (("Arguments", "Args"), ("Returns",), ("Example", "Examples")):
            if not re.search(rf"^ *(?:{'|'.join(names)}):[ \n]*\S", text, re.MULTILINE):
                yield Complaint(part.cell, f"the docstring has no part '{names[0]}:'.")
        example = re.search(r"^ *Examples?:(.*)", text, re.MULTILINE | re.DOTALL)
        if example and not re.search(r"\d", example[1]):
            yield Complaint(part.cell, "the docstring's example has no numbers.")


@rule
def annotations(lesson: Lesson) -> Iterator[Complaint]:
    """Every argument of an exercise and what it returns have an annotation, with shapes where they are tensors."""
    for part in lesson.parts:
        for function in methods_of(function_of(lesson, part)):
            bare = [argument.arg for argument in arguments_of(function) if argument.annotation is None]
            if function.returns is None and function.name != "__init__":
                bare.append("what it returns")
            for name in bare:
                yield Complaint(part.cell, f"{function.name} has no annotation for {name}.")


@rule
def answer_length(lesson: Lesson) -> Iterator[Complaint]:
    """An answer has about 15 lines, and never more than 20."""
    for part in lesson.parts:
        inside, lines = False, 0
        for line in map(str.strip, lesson.cells[part.cell].source.splitlines()):
            inside = line == BEGIN or (inside and line != END)
            lines += inside and bool(line) and not line.startswith("#")
        if lines > MOST_LINES:
            yield Complaint(
                part.cell,
                f"the answer has {lines} lines of code, more than {MOST_LINES}; split the exercise.",
            )


@rule
def three_to_six_exercises(lesson: Lesson) -> Iterator[Complaint]:
    """A lesson has three to six exercises."""
    if not 3 <= len(lesson.parts) <= 6:
        yield Complaint(0, f"the lesson has {len(lesson.parts)} exercises, not three to six.")


def stated_minutes(lesson: Lesson) -> int | None:
    """The minutes that the first cell states; the smaller number of a range."""
    match = re.search(r"\*\*Time\*\*[^\n]*?(\d+)(?:\s*(?:to|–|-)\s*\d+)? minutes", lesson.cells[0].source)
    return int(match[1]) if match else None


@rule
def minutes(lesson: Lesson) -> Iterator[Complaint]:
    """The exercises' minutes together are not more than the time that the first cell states."""
    stated = stated_minutes(lesson)
    texts = [part.heading.text for part in lesson.parts if part.heading]
    total = sum(int(found[-1]) for found in (re.findall(r"(\d+) minutes?", text) for text in texts) if found)
    if stated is not None and total > stated:
        yield Complaint(
            0, f"the exercises take {total} minutes together, and the row **Time** says {stated}."
        )


@rule
def something_is_seen(lesson: Lesson) -> Iterator[Complaint]:
    """After each check, before the next exercise, a cell shows something made with the learner's function."""
    for part in lesson.parts:
        if not any(part.check < k < part.end for k in shown_cells(lesson, part)):
            yield Complaint(
                min(part.check, len(lesson.cells) - 1),
                f"no cell between this check and the next exercise prints or draws something with {part.name}.",
            )


def shown_cells(lesson: Lesson, part: Part) -> Iterator[int]:
    """The cells after an exercise that print or draw, and use its function or something that was made with it."""
    made_with_it = {part.name}
    for k, cell in lesson.code:
        if k <= part.cell or "check" in cell.tags:
            continue
        uses = False
        for statement in parsed(cell.source).body:
            text = ast.unparse(statement)
            if used_names(text) & made_with_it:
                uses = True
                made_with_it |= defined_names(text)
        if uses and shows(cell.source):
            yield k


def shows(code: str) -> bool:
    """Whether a cell prints, draws, or ends with a value."""
    tree = parsed(code)
    seen = {"print", "display", "widgets.explore", *plotting_helpers()[0]}
    return any(name in seen or name.startswith("plt.") for name in top_level_calls(tree)) or (
        bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
    )


def top_level_calls(tree: ast.Module) -> Iterator[str]:
    """Names of what a cell calls itself, not in the functions that it defines."""
    for statement in tree.body:
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from (name for name, _ in calls(statement))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """All calls with the names that they call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@rule
def widget_question(lesson: Lesson) -> Iterator[Complaint]:
    """The text right before or right after an interactive figure asks a question that it answers."""
    for k, cell in lesson.code:
        if "widgets.explore" not in {name for name, _ in calls(parsed(cell.source))}:
            continue
        before = [text for j, text in body(lesson) if j < k][-1:]
        after = [text for j, text in body(lesson) if j > k][:1]
        if not any("?" in text for text in before + after):
            yield Complaint(
                k, "the markdown cell before or after this interactive figure has to ask a question."
            )


@rule
def negative_control(lesson: Lesson) -> Iterator[Complaint]:
    """The text names the negative control: the naive version, measured in the same way, which misses the mark."""
    if not any(find_all(lesson, re.compile(r"\bnegative\s+controls?\b", re.IGNORECASE))):
        yield Complaint(len(lesson.cells) - 1, 'no text says what the "negative control" is.')


@rule
def what_you_built(lesson: Lesson) -> Iterator[Complaint]:
    """The section ## What you built names **Limits.** and **Cost.**"""
    text, found = lesson.section_text("What you built"), lesson.section("What you built")
    if not found:
        yield Complaint(len(lesson.cells) - 1, "there is no section ## What you built.")
        return
    for word in ("Limits", "Cost"):
        if not re.search(rf"^\*\*{word}\.\*\* \S", text, re.MULTILINE):
            yield Complaint(found[0][0], f"## What you built has no paragraph **{word}.**", found[0][1])


@rule
def sources_last(lesson: Lesson) -> Iterator[Complaint]:
    """The last section is ## Sources, with at least two entries that have a year."""
    last = lesson.headings[-1] if lesson.headings else Heading(0, 0, 1, "")
    if (last.text, last.level) != ("Sources", 2):
        yield Complaint(last.cell, f"the last section has to be ## Sources, not {last.text!r}.", last.at)
        return
    entries = re.split(r"^- ", lesson.section_text("Sources"), flags=re.MULTILINE)[1:]
    dated = [entry for entry in entries if re.search(r"\b(?:1[89]|20)\d\d\b", entry)]
    if len(dated) < 2:
        yield Complaint(
            last.cell, f"## Sources has {len(dated)} entries with a year, not two or more.", last.at
        )


@rule
def no_exclamation(lesson: Lesson) -> Iterator[Complaint]:
    """The text does not exclaim."""
    for k, match in find_all(lesson, re.compile(r"!(?!\[)")):
        yield Complaint(
            k,
            f"no exclamation marks (in '… {words_at(lesson.cells[k].source, match.start())} …').",
            match.start(),
        )


@rule
def no_fillers(lesson: Lesson) -> Iterator[Complaint]:
    """The text does not tell the reader that something is easy: no word of the list FILLERS."""
    for filler in FILLERS:
        # A lookbehind wants one blank, and text is wrapped: look at the text with line ends as blanks.
        pattern = re.compile(rf"\b{filler}\b", re.IGNORECASE)
        for k, text in body(lesson):
            for match in pattern.finditer(text.replace("\n", " ")):
                near = words_at(lesson.cells[k].source, match.start())
                yield Complaint(k, f"the word {match[0]!r} is a filler (in '… {near} …').", match.start())


@functools.cache
def plotting_helpers() -> tuple[frozenset[str], frozenset[str]]:
    """The functions of utils.plotting that make a figure, and those that label the axes themselves."""
    tree = ast.parse((root() / "utils" / "plotting.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    figures = [
        node.name for node in functions if node.returns is not None and "Figure" in ast.unparse(node.returns)
    ]
    label = [node.name for node in functions if labels(node, "x")]
    return frozenset(f"plotting.{name}" for name in figures), frozenset(f"plotting.{name}" for name in label)


def labels(tree: ast.AST, axis: str) -> bool:
    """Whether code names an axis, with set(xlabel=...) or a function of that name."""
    return any(
        any(word.arg == f"{axis}label" for word in call.keywords)
        or name.endswith((f".set_{axis}label", f"plt.{axis}label"))
        for name, call in calls(tree)
    )


def figures(tree: ast.AST) -> list[str]:
    """What makes figures in a cell."""
    names = [name for name, _ in calls(tree)]
    made = [name for name in names if name in plotting_helpers()[0] or name in ("plt.figure", "plt.subplots")]
    drawn = [
        name for name in names if name.startswith("plt.") and name not in ("plt.close", "plt.rcParams.update")
    ]
    return made or drawn[:1]


@rule
def captions(lesson: Lesson) -> Iterator[Complaint]:
    """Every figure has a caption that says what to look at."""
    for k, cell in lesson.code:
        tree = parsed(cell.source)
        found = [name for name, _ in calls(tree) if name == "plotting.caption"]
        if len(found) < len(figures(tree)):
            yield Complaint(
                k, f"makes {len(figures(tree))} figure(s) and calls plotting.caption {len(found)} times."
            )


@rule
def axis_labels(lesson: Lesson) -> Iterator[Complaint]:
    """Every figure has axis labels: xlabel and ylabel are set, or a helper of utils.plotting sets them."""
    for k, cell in lesson.code:
        tree = parsed(cell.source)
        if not figures(tree) or any(name in plotting_helpers()[1] for name, _ in calls(tree)):
            continue
        for axis in "xy":
            if not labels(tree, axis):
                yield Complaint(k, f"draws a figure without {axis}label.")


@rule
def links(lesson: Lesson) -> Iterator[Complaint]:
    """Links and names of files in the text lead to something that exists, and notebooks are numbered within the series."""
    for k, text in lesson.markdown:
        visible = blank(FENCE, blank(COMMENT, text))
        for match in re.finditer(r"\]\(\s*([^)\s]+)[^)]*\)", blank(FORMULA, blank(CODE, visible))):
            if not link_exists(lesson, match[1]):
                yield Complaint(k, f"the link to {match[1]!r} leads nowhere.", match.start())
        for match in re.finditer(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", visible):
            if not exists(root() / match[1]):
                yield Complaint(k, f"{match[1]!r} does not exist.", match.start())
    yield from _notebook_numbers(lesson)


def _notebook_numbers(lesson: Lesson) -> Iterator[Complaint]:
    series = re.search(r"part \d+ of (\d+)", lesson.cells[0].source)
    for k, match in find_all(lesson, re.compile(r"\bnotebook (\d\d)\b")):
        known = series and 1 <= int(match[1]) <= int(series[1])
        if not known and not list(lesson.source.path.parent.glob(f"{match[1]}_*.py")):
            yield Complaint(k, f"there is no {match[0]} in this series.", match.start())


def link_exists(lesson: Lesson, target: str) -> bool:
    """Whether a link in a notebook of lessons/<topic>/ leads to something in the course. Web pages are not looked at."""
    path = target.partition("#")[0]
    if not path or re.match(r"(https?|mailto):", target):
        return True
    return not path.startswith("/") and exists((root() / "lessons" / lesson.source.topic / path).resolve())


def exists(path: Path) -> bool:
    """Whether a file of the course is there, or will be after the next build."""
    written = root().resolve() / "solutions" / path.parent.name / f"{path.stem}.py"
    return path.exists() or (path.suffix == ".ipynb" and "lessons" in path.parts and written.exists())


def released(lesson: Lesson) -> list[str]:
    """The exercise cells as learners get them: what the build gives to nbgrader, and what nbgrader makes of it."""
    cells = tuple(cell for cell in lesson.cells if "exercise" in cell.tags)
    notebook = source_notebook(dataclasses.replace(lesson.source, cells=cells))
    return [cell.source for cell in ClearSolutions().preprocess(notebook, {})[0].cells]


@rule
def stub_and_solution(lesson: Lesson) -> Iterator[Complaint]:
    """What is released has the signature and the docstring of the solution."""
    for part, stub in zip(lesson.parts, released(lesson), strict=True):
        solved, shown = function_of(lesson, part), definition(stub, part.name)
        pairs = list(zip(methods_of(solved), methods_of(shown), strict=False))
        if not pairs or any(_outside(ours) != _outside(theirs) for ours, theirs in pairs):
            yield Complaint(
                part.cell,
                f"the released cell has another signature or docstring; both have to stand before {BEGIN}.",
            )


def _outside(function: Function) -> tuple[str, str | None, str | None]:
    returns = None if function.returns is None else ast.unparse(function.returns)
    return ast.unparse(function.args), returns, ast.get_docstring(function)


@rule
def like_the_reference(lesson: Lesson) -> Iterator[Complaint]:
    """An exercise has the reference's parameters, in its order, with its defaults and its annotations."""
    known = exercises(lesson.source.topic)
    for part in lesson.parts:
        node = function_of(lesson, part)
        if part.name not in known or node is None:
            continue  # refused by the build
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(known[part.name].reference)))
        reference = ast.parse(source).body[0]
        pairs = zip(methods_of(reference), methods_of(node), strict=False)
        for theirs, ours in pairs:
            yield from (Complaint(part.cell, reason) for reason in _differences(ours, theirs))


def _differences(ours: Function, theirs: Function) -> Iterator[str]:
    mine, wanted = ([argument.arg for argument in arguments_of(function)] for function in (ours, theirs))
    if mine != wanted:
        yield f"{ours.name} takes ({', '.join(mine)}), the reference ({', '.join(wanted)})."
        return
    defaults = [[ast.unparse(value) for value in function.args.defaults] for function in (ours, theirs)]
    if defaults[0] != defaults[1]:
        yield f"{ours.name} has the defaults {defaults[0]}, the reference {defaults[1]}."
    types = [
        (a.arg, a.annotation, b.annotation)
        for a, b in zip(arguments_of(ours), arguments_of(theirs), strict=True)
    ]
    for name, mine, wanted in [*types, ("what it returns", ours.returns, theirs.returns)]:
        if mine is not None and wanted is not None and ast.unparse(mine) != ast.unparse(wanted):
            yield f"{ours.name} annotates {name} with {ast.unparse(mine)}, the reference with {ast.unparse(wanted)}."


@rule
def no_machine(lesson: Lesson) -> Iterator[Complaint]:
    """Nothing in a lesson belongs to one machine: no absolute path, no address of a local server."""
    for k, cell in enumerate(lesson.cells):
        for match in MACHINE.finditer(cell.source):
            near = words_at(cell.source, match.start())
            yield Complaint(k, f"{match[0]!r} belongs to one machine (in '… {near} …').", match.start())


def has_widget(lesson: Lesson) -> bool:
    """Whether a lesson has an interactive figure: in each series at least one has."""
    return any(
        "widgets.explore" in {name for name, _ in calls(parsed(cell.source))} for _, cell in lesson.code
    )
