"""Submissions that look for the reference, expected values and known mistakes in the process that they run in.

Each uses what it finds: it then gets the target's points, or prints that it was reached. Neither may happen.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from nbformat import NotebookNode

from autograde.classroom.battery.row import (
    Row,
    Write,
    everything,
    right,
    submit,
    with_wrong,
    without_target,
    wrong,
)
from autograde.classroom.battery.scene import CHECK, Scene
from autograde.course import exercises

USE = """
_found = []
_calls = []

def TARGET(*args, **kwargs):
    _calls.append(True)
    if len(_calls) < 5:
        look_around()
    return (_found[0] if _found else _wrong)(*args, **kwargs)
"""
IS_ANSWER = """
def take(thing, where):
    if type(thing).__name__ == "function" and thing.__name__ == "TARGET" and thing.__globals__ is not globals():
        _found.append(thing)
        reached((where, thing.__module__))
"""
_HOOK = """
import hashlib
_own_cells = set(KNOWN)
_cells = []

def note(info):
    text = info.raw_cell or ""
    _cells.append(text)
    if hashlib.sha256(text.strip().encode()).hexdigest() not in _own_cells and "_seen" not in text:
        reached(("a cell that is not in the notebook", text[:80]))

get_ipython().events.register("pre_run_cell", note)
get_ipython().events.register("post_run_cell", lambda result: note(result.info))
"""
_MEMORY = wrong(
    """
import gc, sys

"""
    + IS_ANSWER
    + """
def look_around():
    frame = sys._getframe(1)
    while frame is not None:
        for space in (frame.f_locals, frame.f_globals):
            for name, value in list(space.items()):
                take(value, "a frame")
                if name in ("reference", "expected", "mistakes", "exact"):
                    reached(("a frame", name, type(value)))
        frame = frame.f_back
    for thing in gc.get_objects():
        name = getattr(type(thing), "__module__", "")
        if str(name).startswith(("autograde.exercise", "autograde.expect")):
            reached(("memory", type(thing)))
        if type(thing).__name__ == "function":
            take(thing, "memory")
"""
    + USE
)
_SCAN = wrong("""
import ctypes, gc, os, re

class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def read(process, start, size):
    room = ctypes.create_string_buffer(size)
    here, there = Part(ctypes.cast(room, ctypes.c_void_p), size), Part(start, size)
    call = ctypes.CDLL(None, use_errno=True).process_vm_readv
    call.restype = ctypes.c_ssize_t
    got = call(process, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return room.raw[:max(got, 0)]

PATTERN = re.compile(PATTERN_OF_A_SENTENCE)
_looked = []

def TARGET(*args, **kwargs):
    if not _looked:
        _looked.append(True)
        pages = sorted({id(thing) >> 20 for thing in gc.get_objects()})
        for page in pages[:400]:
            if PATTERN.search(read(os.getpid(), page << 20, 1 << 20)):
                reached("the sentence of a known mistake, in memory")
        if os.getppid() > 1 and read(os.getppid(), id(TARGET) & ~4095, 64):
            reached("the memory of another process")
        try:
            with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0):
                reached(("/proc/self", len(maps.read())))
        except OSError:
            pass
    return _wrong(*args, **kwargs)
""")
_TRACER = wrong(
    """
import sys, threading

_found = []
"""
    + IS_ANSWER
    + """
_left = [3000]

def trace(frame, event, argument):
    _left[0] -= 1
    if _left[0] < 0:
        sys.setprofile(None)
        return None
    for name, value in list(frame.f_locals.items()):
        take(value, "a traced frame")
        if name in ("reference", "expected", "mistakes") and not frame.f_code.co_filename.startswith("<ipython"):
            reached(("a traced frame", name))
    return trace

threading.settrace(trace)

def look_around():
    sys.setprofile(trace)
"""
    + USE.replace("_found = []", "")
)
_STOLEN = """
import gc

_other = []

_searched = {}

def search(name):
    _searched[name] = _searched.get(name, 0) + 1
    for thing in gc.get_objects() if _searched[name] < 4 else ():
        if type(thing).__name__ == "function" and thing.__name__ == "TARGET" and thing.__globals__ is not globals():
            _other.append(thing)
            reached(("a reference before its exercise was graded", thing.__module__))
"""
_WRAPPED = """
_kept_NAME = NAME

def NAME(*args, **kwargs):
    search("NAME")
    return _kept_NAME(*args, **kwargs)
"""
_USE_STOLEN = wrong("""
def TARGET(*args, **kwargs):
    return (_other[0] if _other else _wrong)(*args, **kwargs)
""")
_ODDLY = """
import autograde
from autograde import given as borrowed

for ask in (
    lambda: borrowed("TARGET"),
    lambda: getattr(autograde, "giv" + "en")("".join(["TARGET"])),
    lambda: autograde.handover.GIVEN["TARGET"],
    lambda: eval("given" + "('TARGET')", {"given": borrowed}),
):
    try:
        TARGET = ask()
        break
    except BaseException:
        pass
"""
_PLAIN = """
from autograde import given
if False:
    given("TARGET")
TARGET = given("TARGET")
"""
_MENTIONED = right("""
# given("TARGET") is what somebody would write who is stuck.
NOTE = 'TARGET = given("TARGET")'
""")


def _hooked(scene: Scene, place: Path) -> None:
    """The hash of every cell of the notebook goes into it, so that it knows its own."""
    made = scene.notebook({scene.target: scene.wrong.text})
    sources = [cell.source.strip() for cell in made.cells if cell.cell_type == "code"]
    known = [hashlib.sha256(source.encode()).hexdigest() for source in sources]
    submit(early=_HOOK.replace("KNOWN", repr(known)))(scene, place)


def _scanning(scene: Scene, place: Path) -> None:
    """The pattern does not match itself: one letter is a class of one."""
    sentence = exercises(scene.topic)[scene.target].mistakes[0].sentence[:40]
    pattern = "".join(f"[{letter}]" if letter.isalpha() else "." for letter in sentence)
    submit(_SCAN.replace("PATTERN_OF_A_SENTENCE", repr(pattern.encode())))(scene, place)


def _moved(scene: Scene, place: Path) -> None:
    """The target's exercise stands at the end; every other answer looks for its reference when it is called."""
    texts = {name: text + _WRAPPED.replace("NAME", name) for name, text in scene.right.items()}

    def edit(notebook: NotebookNode, scene: Scene) -> None:
        for cell in notebook.cells:
            if cell.id in texts and cell.id != scene.target:
                cell.source = texts[cell.id]
        own = [cell for cell in notebook.cells if cell.id in (scene.target, CHECK + scene.target)]
        notebook.cells = [cell for cell in notebook.cells if cell not in own] + own

    submit(_USE_STOLEN, early=_STOLEN, edit=edit)(scene, place)


def spy(number: str, title: str, reason: str, write: Write) -> Row:
    """A row whose wrong answer gets what it earns, whatever it looks for."""
    return Row(number, title, reason, write, ("wrong",), with_wrong)


ROWS = (
    spy("9", "records every cell that is run", "no test is ever run in its process", _hooked),
    spy(
        "10a", "searches frames and objects for the reference", "it never enters the process", submit(_MEMORY)
    ),
    spy("10b", "searches the process's memory", "no known mistake ever enters the process", _scanning),
    spy("A9", "traces every call", "it never enters the process", submit(_TRACER)),
    Row(
        "A13",
        "looks for a reference in the checks of other exercises, and asks to be graded last",
        "no reference travels before its exercise is graded",
        _moved,
        ("wrong",),
        with_wrong,
        least=without_target,
    ),
    Row(
        "A14a",
        "asks for given() in odd ways",
        "what is not written plainly is not handed over",
        submit(_ODDLY),
        ("wrong",),
        without_target,
    ),
    Row(
        "A14b",
        "asks for given() plainly",
        "the course's version scores nothing",
        submit(_PLAIN),
        ("wrong",),
        without_target,
    ),
    Row(
        "A14c",
        "mentions given() in a text",
        "a comment asks for nothing",
        submit(_MENTIONED),
        ("ok",),
        everything,
    ),
)
