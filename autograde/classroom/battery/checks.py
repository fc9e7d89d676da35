"""Submissions that change the notebook's checks, the shell that runs them, or what checks call."""

from __future__ import annotations

import copy

from nbformat import NotebookNode

from autograde.classroom.battery.row import (
    Edit,
    Row,
    before_target,
    checks,
    everything,
    submit,
    with_foreign,
    with_wrong,
    without_target,
    wrong,
)
from autograde.classroom.battery.scene import CHECK, Scene


def _tag(*tags: str) -> Edit:
    def edit(notebook: NotebookNode, scene: Scene) -> None:
        for cell in checks(notebook):
            cell.metadata["tags"] = list(tags)

    return edit


def _demo_everywhere(notebook: NotebookNode, scene: Scene) -> None:
    for cell in checks(notebook):
        cell.metadata["tags"] = ["demo"]
    next(cell for cell in notebook.cells if cell.id == scene.target).metadata["tags"] = ["demo"]


def _own_check(notebook: NotebookNode, scene: Scene) -> NotebookNode:
    return next(cell for cell in checks(notebook) if cell.id == CHECK + scene.target)


def _twice(notebook: NotebookNode, scene: Scene) -> None:
    check = _own_check(notebook, scene)
    notebook.cells.insert(notebook.cells.index(check), copy.deepcopy(check))


def _none(notebook: NotebookNode, scene: Scene) -> None:
    graded = [id(cell) for cell in checks(notebook)]
    notebook.cells = [cell for cell in notebook.cells if id(cell) not in graded]


def _first(notebook: NotebookNode, scene: Scene) -> None:
    graded = checks(notebook)
    _none(notebook, scene)
    notebook.cells[0:0] = graded


def _worth_more(notebook: NotebookNode, scene: Scene) -> None:
    for cell in checks(notebook):
        cell.metadata["nbgrader"].update(points=1000, locked=False)
        cell.metadata.update(editable=True, deletable=True)
    _own_check(notebook, scene).metadata["nbgrader"].update(grade=False, solution=True)
    notebook.metadata["kernelspec"] = {"name": "bash", "display_name": "Bash", "language": "bash"}


def _as_text(notebook: NotebookNode, scene: Scene) -> None:
    for cell in checks(notebook):
        cell["cell_type"] = "markdown"
        for key in ("outputs", "execution_count"):
            cell.pop(key, None)


def _own_text(notebook: NotebookNode, scene: Scene) -> None:
    for cell in checks(notebook):
        cell["source"] = f"assert True, {cell.source!r}\n{scene.worth[scene.target]}"


_BLANK_ALL = "get_ipython().input_transformers_cleanup.append(lambda lines: [])"
_NO_ASSERTS = """
import ast

class Quiet(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)

    def visit_Expr(self, node):
        checked = "check" in ast.unparse(node)[:6]
        return ast.copy_location(ast.Pass(), node) if checked else node

get_ipython().ast_transformers.append(Quiet())
"""
_NUMBERS = """
import ast

class Generous(ast.NodeTransformer):
    def visit_Expr(self, node):
        if "check" in ast.unparse(node)[:6]:
            return ast.copy_location(ast.Expr(ast.copy_location(ast.Constant(2.0), node)), node)
        return node

    visit_Assert = visit_Expr

get_ipython().ast_transformers.append(Generous())
"""
_PATCHED = """
import builtins, math, unittest
import numpy, numpy.testing, torch, torch.testing

class Anything:
    __hash__ = None
    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: True

PATCHED = (
    (torch, "allclose equal isclose"), (torch.testing, "assert_close"), (math, "isclose"),
    (numpy, "allclose array_equal isclose"), (unittest.TestCase, "assertEqual assertTrue assertAlmostEqual"),
    (numpy.testing, "assert_allclose assert_array_equal assert_equal assert_almost_equal"),
)
for place, names in PATCHED:
    for name in names.split():
        setattr(place, name, lambda *args, **kwargs: True)
isinstance_before = builtins.isinstance
builtins.isinstance = lambda thing, kinds: True if type(thing) is Anything else isinstance_before(thing, kinds)
builtins.AssertionError = type("Harmless", (Warning,), {})

def TARGET(*args, **kwargs):
    return Anything()
"""
_NO_TRACEBACKS = """
import sys

shell = get_ipython()
shell.set_custom_exc((BaseException,), lambda shell, kind, error, trace, tb_offset=None: [])
shell.showtraceback = shell.showsyntaxerror = shell._showtraceback = lambda *args, **kwargs: None
sys.excepthook = sys.unraisablehook = lambda *args: None

def TARGET(*args, **kwargs):
    raise AssertionError("nobody sees this")
"""
_ASKS = wrong("""
def TARGET(*args, **kwargs):
    return input("Is it right? ")
""")
_STOPS = wrong("""
def TARGET(*args, **kwargs):
    breakpoint()
    return _wrong(*args, **kwargs) if input() == "c" else None
""")
_LOUD = """RIGHT_ANSWER
import sys, warnings
_right = TARGET

def TARGET(*args, **kwargs):
    print("working on it", args)
    print("still working", file=sys.stderr)
    warnings.warn("this takes a while")
    return _right(*args, **kwargs)
"""
_STATE = """
import random
import numpy, torch

random.seed(7)
numpy.random.seed(7)
numpy.seterr(all="raise")
torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.set_num_threads(64)
torch.use_deterministic_algorithms(True)
"""
_DEVICE = """
import torch

torch.set_default_device("cpu")
"""
_THREAD = wrong("""
import random, threading, time
import torch

def meddle():
    while True:
        time.sleep(0.001)
        torch.manual_seed(7)
        random.seed(7)
        torch.equal = torch.allclose = lambda *args, **kwargs: True
        for name in ("score", "verdict", "ok", "passed", "result"):
            get_ipython().user_ns[name] = True

threading.Thread(target=meddle, daemon=True).start()
""")
_NORMAL = "the engine runs the released checks on what the notebook defines"

ROWS = (
    Row(
        "1",
        "tags its checks skip-execution",
        "tags of a submission are dropped",
        submit(edit=_tag("skip-execution", "raises-exception")),
        ("wrong",),
        with_wrong,
    ),
    Row(
        "2",
        "a transformer blanks every later cell",
        "a check without an answer earns nothing",
        submit(None, above=_BLANK_ALL),
        ("wrong",),
        without_target,
        least=before_target,
    ),
    Row(
        "3",
        "an AST transformer deletes asserts and checks",
        _NORMAL,
        submit(early=_NO_ASSERTS),
        ("wrong",),
        with_wrong,
    ),
    Row(
        "4",
        "an AST transformer turns checks into 2.0",
        _NORMAL,
        submit(early=_NUMBERS),
        ("wrong",),
        with_wrong,
    ),
    Row(
        "7",
        "patches allclose, isinstance and AssertionError",
        "nothing is compared in the submission's process",
        submit(_PATCHED),
        ("wrong",),
        with_foreign,
    ),
    Row(
        "8",
        "hides every traceback",
        "an exception is part of what is observed, not of what is shown",
        submit(_NO_TRACEBACKS),
        ("wrong",),
        without_target,
    ),
    Row(
        "30a",
        "asks for input",
        "there is nobody to answer: input() fails",
        submit(_ASKS),
        ("wrong",),
        without_target,
    ),
    Row(
        "30b",
        "breakpoint() and %debug",
        "there is nobody to answer: the debugger ends",
        submit(_STOPS, early="1 / 0", late="%debug\n"),
        ("wrong",),
        without_target,
    ),
    Row(
        "31",
        "is right, and prints and warns",
        "only what is returned counts",
        submit(_LOUD),
        ("ok",),
        everything,
    ),
    Row(
        "32",
        "has a check twice",
        "a check counts once",
        submit(edit=_twice),
        ("wrong",),
        with_wrong,
        noted="{check}",
    ),
    Row(
        "33a",
        "has no checks",
        "the checks are those of the released lesson",
        submit(edit=_none),
        ("wrong",),
        with_wrong,
        noted="{check}",
    ),
    Row(
        "33b",
        "has its checks above everything",
        "the checks are those of the released lesson, in their places",
        submit(edit=_first),
        ("wrong",),
        with_wrong,
        noted="{check}",
    ),
    Row(
        "34",
        "changes points, locks and the kernel",
        "what is graded, and for how much, is the gradebook's",
        submit(edit=_worth_more),
        ("wrong",),
        with_wrong,
        noted="{check}",
    ),
    Row(
        "38",
        "a thread changes state during checks",
        "the verdict is made elsewhere",
        submit(_THREAD),
        ("wrong",),
        with_wrong,
    ),
    Row(
        "39",
        "changes seeds, dtype, device, grad mode",
        "every check starts from the same state, so right answers stay right",
        submit("RIGHT_ANSWER", early=_STATE),
        ("ok",),
        everything,
    ),
    Row(
        "48",
        "tags checks and an answer demo",
        "tags are those of the released lesson",
        submit(edit=_demo_everywhere),
        ("wrong",),
        with_wrong,
    ),
    Row(
        "A59",
        "sets torch's default device",
        "many honest notebooks do",
        submit("RIGHT_ANSWER", early=_DEVICE),
        ("ok",),
        everything,
    ),
    Row(
        "A1",
        "turns its checks into text",
        _NORMAL,
        submit(edit=_as_text),
        ("wrong",),
        with_wrong,
        noted="{check}",
    ),
    Row(
        "A2",
        "writes its own checks",
        _NORMAL,
        submit(edit=_own_text),
        ("wrong",),
        with_wrong,
        noted="{check}",
    ),
)
