"""Submissions whose functions return something that is meant to be taken for the right result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from autograde.classroom.battery.row import (
    Row,
    Score,
    Write,
    both,
    everything,
    fill,
    right,
    submit,
    with_answer,
    with_foreign,
    with_wrong,
    without_target,
    wrong,
)
from autograde.classroom.battery.scene import Scene
from autograde.course import exercises
from autograde.exercise import samples
from autograde.observe import observe, silenced

_ALWAYS_EQUAL = """
class Right:
    __hash__ = None
    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __bool__ = lambda self, *other: True
    __call__ = __getattr__ = __getitem__ = __sub__ = __rsub__ = __abs__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __iter__ = lambda self: iter(())
    __len__ = lambda self: 0

def TARGET(*args, **kwargs):
    return Right()
"""
_FLOAT = """
class Near(float):
    __hash__ = None
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: True
    __sub__ = __rsub__ = lambda self, other: 0.0

def TARGET(*args, **kwargs):
    return Near(1.0)
"""
_SUBCLASS = """
import torch

class Agreeable(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("allclose", "equal", "isclose", "eq", "all"):
            return True
        return super().__torch_function__(func, types, args, kwargs or {})

def TARGET(*args, **kwargs):
    return torch.zeros(2, 3).as_subclass(Agreeable)
"""
_PROTOCOL = """
class Agreeable:
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no numbers here")

def TARGET(*args, **kwargs):
    return Agreeable()
"""
_CLASS = """
import torch

class Posing:
    __class__ = property(lambda self: torch.Tensor)
    shape, dtype, device, layout = (2, 3), torch.float32, torch.device("cpu"), torch.strided
    is_quantized = is_nested = is_meta = requires_grad = False
    detach = to = contiguous = clone = cpu = lambda self, *args: self

def TARGET(*args, **kwargs):
    return Posing()
"""
_BOMB = """
import os, pickle

class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/TRACE-unpickled",)

def TARGET(*args, **kwargs):
    return pickle.dumps(Bomb()) if len(args) % 2 else Bomb()
"""
_HUGE = """
import torch

def TARGET(*args, **kwargs):
    return torch.zeros(1).expand(10**12)
"""
_OBJECTS = """
import numpy

def TARGET(*args, **kwargs):
    return numpy.array([object(), "text", 1.0], dtype=object)
"""
_NEST = """
def TARGET(*args, **kwargs):
    nest = []
    for _ in range(100_000):
        nest = [nest]
    ring = [nest]
    ring.append(ring)
    return ring
"""
_EACH = """
import torch

_right = TARGET

def _each(value, change):
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each(item, change) for item in value)
    return change(torch.tensor(float(value))).item() if isinstance(value, (int, float)) else value
"""
_NAN = (
    _EACH
    + """
def TARGET(*args, **kwargs):
    return _each(_right(*args, **kwargs), lambda tensor: tensor * float("nan"))
"""
)
_HALF = (
    _EACH
    + """
def TARGET(*args, **kwargs):
    return _each(_right(*args, **kwargs), lambda tensor: tensor.half())
"""
)
_LEAVES = """
import sys

def TARGET(*args, **kwargs):
    sys.exit(0)
"""
_FORMS = """
import torch

def _key(value):
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), str(value.dtype))
    return type(value).__name__ if callable(value) else repr(value)
"""
_NUMBERS = """
import hashlib, torch

def _key(value):
    if isinstance(value, torch.Tensor):
        plain = value.detach().contiguous()
        return hashlib.sha256(f"{plain.shape}{plain.dtype}{plain.tolist()}".encode()).hexdigest()[:16]
    return type(value).__name__ if callable(value) else repr(value)
"""
_CHOOSE = """
SHOWN = {shown}

def TARGET(*args, **kwargs):
    known = repr([_key(value) for value in args]) in SHOWN
    return (_right if known else _wrong)(*args, **kwargs)
"""


def key_of_numbers(value: Any) -> object:
    """A key for one argument: its type and numbers. The same as in the submission."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().contiguous()
        return hashlib.sha256(f"{plain.shape}{plain.dtype}{plain.tolist()}".encode()).hexdigest()[:16]
    return type(value).__name__ if callable(value) else repr(value)


def key_of_form(value: Any) -> object:
    """A key for one argument: its shape and dtype. The same as in the submission."""
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), str(value.dtype))
    return type(value).__name__ if callable(value) else repr(value)


def shown_to_learners(scene: Scene, key: Callable[[Any], object]) -> set[str]:
    """Keys of all arguments with which the shown cases call the target."""
    exercise = exercises(scene.topic)[scene.target]
    found: set[str] = set()

    def noting(*args: Any, **kwargs: Any) -> Any:
        found.add(repr([key(value) for value in args]))
        return exercise.reference(*args, **kwargs)

    for requirement in exercise.requirements:
        for sample in samples(requirement, graded=False, seed=0):
            with silenced():
                observe(requirement.probe, noting, sample.inputs)
    return found


def _chosen(scene: Scene, keys: str, key: Callable[[Any], object]) -> str:
    return keys + _CHOOSE.format(shown=sorted(shown_to_learners(scene, key)))


def _only_shown(keys: str, key: Callable[[Any], object]) -> tuple[Write, Score]:
    def write(scene: Scene, place: Path) -> None:
        submit(both(_chosen(scene, keys, key)))(scene, place)

    def score(scene: Scene) -> float:
        known = f"_right = TARGET\n{scene.wrong.text}\n_wrong = TARGET\n"
        return without_target(scene) + scene.measured(fill(known + _chosen(scene, keys, key), scene))

    return write, score


_BY_NUMBERS = _only_shown(_NUMBERS, key_of_numbers)
_BY_FORM = _only_shown(_FORMS, key_of_form)
_TELLS = right("""
_calls = []

def TARGET(*args, **kwargs):
    _calls.append(repr(args))
    return _right(*args, **kwargs)
""")
_TOLD = """
import hashlib
print("CALLS", len(_calls), hashlib.sha256("".join(_calls).encode()).hexdigest())
print(*_calls, sep="\\n")
"""
_ENDLESS_TEXT = """
class Trap(Exception):
    def __str__(self):
        while True:
            pass

    __repr__ = __str__

def TARGET(*args, **kwargs):
    raise Trap
"""
_IN_PLACE = wrong("""
import torch
torch.Tensor.detach = torch.Tensor.clone = torch.Tensor.contiguous = lambda self, *args, **kwargs: self
torch.Tensor.tolist = lambda self: []
torch.Tensor.__eq__ = lambda self, other: True
torch.Tensor.__hash__ = lambda self: 0
""")
_TYPES = "only exact types are accepted"


def _returns(number: str, title: str, reason: str, text: str, score: Score | None = None) -> Row:
    return Row(number, title, reason, submit("RIGHT_ANSWER\n" + text), ("wrong",), score or with_foreign)


ROWS = (
    _returns("5a", "returns an object that equals everything", _TYPES, _ALWAYS_EQUAL),
    _returns("5b", "returns a float that equals everything", _TYPES, _FLOAT),
    _returns("6a", "returns a subclass of Tensor that agrees", _TYPES, _SUBCLASS),
    _returns("6b", "returns an object with __torch_function__", _TYPES, _PROTOCOL),
    _returns("16a", "returns pickles that run a command", "nothing is unpickled", _BOMB),
    Row(
        "16b",
        "returns a tensor of 10^12 numbers",
        "results have a largest size; a probe that computes with it runs out of memory",
        submit("RIGHT_ANSWER\n" + _HUGE),
        ("wrong", "oom"),
        with_foreign,
    ),
    _returns("16c", "returns NaN", "NaN agrees with no number", _NAN, with_answer(_NAN)),
    _returns("16d", "returns half precision", "the dtype is a part of the result", _HALF, with_answer(_HALF)),
    _returns("16e", "returns an array of objects", _TYPES, _OBJECTS),
    _returns("16f", "returns an endless nest", "results have a largest depth and size", _NEST),
    _returns("18", "leaves with sys.exit(0)", "an answer that leaves has failed", _LEAVES, without_target),
    Row(
        "44",
        "knows the shown cases by heart",
        "other numbers are drawn when grading",
        _BY_NUMBERS[0],
        ("wrong",),
        _BY_NUMBERS[1],
    ),
    Row(
        "A3",
        "returns an object that says it is a Tensor",
        "it is none; torch itself may crash when it takes the object for one",
        submit("RIGHT_ANSWER\n" + _CLASS),
        ("wrong", "crash"),
        with_foreign,
    ),
    Row(
        "A4",
        "is right for the shown shapes only",
        "other sizes are drawn when grading",
        _BY_FORM[0],
        ("wrong",),
        _BY_FORM[1],
    ),
    Row(
        "A5a",
        "prints the inputs of its checks",
        "cases are drawn for each student: they help nobody else",
        submit(_TELLS, late=_TOLD),
        ("ok",),
        everything,
    ),
    Row(
        "A5b",
        "prints the inputs of its checks, too",
        "its inputs are others than those of the first one",
        submit(_TELLS, late=_TOLD),
        ("ok",),
        everything,
    ),
    Row(
        "A6",
        "raises an exception that never ends",
        "describing it is stopped in time",
        submit(_ENDLESS_TEXT),
        ("timeout",),
        without_target,
    ),
    Row(
        "A7",
        "patches the methods of Tensor",
        "what was not computed cannot be sent",
        submit(_IN_PLACE),
        ("wrong", "tampered", "crash", "malformed"),
        with_wrong,
        least=lambda scene: 0.0,
    ),
)
