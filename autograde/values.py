"""What a probe may return, put into one form.

An implementation is looked at through values alone: tensors, numbers, texts and nests of them. ``seen`` turns
whatever a probe returned into that form, in the process in which the implementation runs. Everything else becomes a
``Foreign`` with the name of its type. So a comparison never calls a method of an object that somebody else wrote.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Value = Any
"""None, bool, int, float, str, ``SeenTensor``, ``Foreign``, or a tuple, or a dict with text keys, of these."""

MAX_DEPTH = 16
MAX_LEAVES = 10_000
MAX_NUMBERS = 20_000_000
MAX_BITS = 1000
"""Whole numbers beyond are no answer to anything, and do not fit into a float."""
DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SeenTensor:
    """A tensor as it was seen: a detached, contiguous copy on the CPU, and the device it was on."""

    data: Tensor
    device: str = "cpu"


@dataclass(frozen=True)
class Foreign:
    """An object of a type that no requirement accepts; ``why`` completes the sentence "you returned ..."."""

    why: str


def seen(value: object) -> Value:
    """``value`` in the form of ``Value``, read past whatever methods its class may have of its own."""
    try:
        return _seen(value, 0, itertools.count(1))
    except _TooMany:
        return Foreign(f"a nest of more than {MAX_LEAVES:,} parts")


class _TooMany(Exception):
    """More parts than anybody needs: the nest may hold itself."""


def _seen(value: object, depth: int, counter: Iterator[int]) -> Value:
    kind = type(value)
    if next(counter) > MAX_LEAVES:
        raise _TooMany
    if kind is int and value.bit_length() > MAX_BITS:  # type: ignore[attr-defined]
        return Foreign(f"a whole number of more than {MAX_BITS} bits")
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is Tensor or kind is torch.nn.Parameter:
        return _seen_tensor(value)  # type: ignore[arg-type]
    if kind in _NUMPY_SCALARS or (kind is np.ndarray and value.ndim == 0):  # type: ignore[attr-defined]
        return _seen(value.item(), depth, counter)  # type: ignore[attr-defined]
    if depth >= MAX_DEPTH:
        return Foreign(f"a nest more than {MAX_DEPTH} levels deep")
    if issubclass(kind, tuple):  # a named tuple, too
        items: Iterator[object] = tuple.__iter__(value)  # type: ignore[arg-type]
        return tuple(_seen(item, depth + 1, counter) for item in items)
    if issubclass(kind, list):
        items = list.__iter__(value)  # type: ignore[arg-type]
        return tuple(_seen(item, depth + 1, counter) for item in items)
    if issubclass(kind, dict):
        return _seen_dict(dict.items(value), depth, counter)  # type: ignore[arg-type]
    return Foreign(_describe(value))


_NUMPY_SCALARS = frozenset(
    {np.bool_, np.float16, np.float32, np.float64, np.longdouble}
    | {np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64}
)


def _seen_tensor(tensor: Tensor) -> SeenTensor | Foreign:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return Foreign("a sparse or quantised tensor")
    if tensor.is_nested:
        return Foreign("a nested tensor")
    if tensor.dtype not in DTYPES:
        return Foreign(f"a tensor of dtype {dtype_name(tensor.dtype)}")
    if tensor.numel() > MAX_NUMBERS:
        return Foreign(f"a tensor of {tensor.numel():,} numbers")
    if tensor.is_meta:
        return Foreign("a tensor on the meta device, which has no values")
    plain = tensor.detach().to("cpu").contiguous().clone()
    return SeenTensor(plain, str(tensor.device))


def _seen_dict(items: Iterable[tuple[Any, Any]], depth: int, counter: Iterator[int]) -> Value:
    found = {}
    for key, item in items:
        if type(key) not in (str, int) or (type(key) is int and key.bit_length() > MAX_BITS):
            return Foreign("a dict with keys that are not texts")
        found[str(key)] = _seen(item, depth + 1, counter)
    return found


def _describe(value: object) -> str:
    kind = type(value)
    if kind is np.ndarray:
        return "a numpy.ndarray"
    if isinstance(value, Tensor):
        return f"a subclass of Tensor ({kind.__module__}.{kind.__qualname__})"
    if callable(value):
        return f"a function or class ({kind.__name__}); did you forget to call it?"
    return f"an object of type {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def leaves(value: Value, path: str = "") -> Iterator[tuple[str, Value]]:
    """Every leaf of a nest with its path, such as ``[0]`` or ``gradient of x``, in order."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    else:
        yield path, value


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def kind_name(value: Value) -> str:
    """How a report names what was returned: "a Tensor", "a float", "None"."""
    if isinstance(value, SeenTensor):
        return "a Tensor"
    if isinstance(value, Foreign):
        return value.why
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple or list of {len(value)}"
    if isinstance(value, dict):
        return f"a dict with the keys {', '.join(value) or '(none)'}"
    article = "an" if isinstance(value, int) and not isinstance(value, bool) else "a"
    return f"{article} {type(value).__name__}"
