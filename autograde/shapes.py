"""Names of dimensions, from the jaxtyping annotations of a reference."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]


def dimension_names(annotation: object) -> tuple[str, ...] | None:
    """("batch", "hidden") for ``Float[Tensor, "batch hidden"]``; None where there are no plain names."""
    text = getattr(annotation, "dim_str", None)
    if not isinstance(text, str):
        return None
    names = tuple(text.split())
    return names if all(name.isidentifier() for name in names) else None


def returned_names(reference: Callable[..., Any]) -> dict[str, tuple[str, ...]]:
    """Dimension names of what ``reference`` returns, by the path of the leaf ("" or "[0]", "[1]", ...)."""
    try:
        annotation = typing.get_type_hints(reference).get("return")
    except Exception:  # an annotation that cannot be resolved names no dimension
        return {}
    parts = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    labelled = [(f"[{i}]", part) for i, part in enumerate(parts)] or [("", annotation)]
    return {path: names for path, part in labelled if (names := dimension_names(part)) is not None}


def show(shape: Sequence[int], names: tuple[str, ...] | None = None) -> str:
    """``(batch=4, hidden=8)`` with names, ``(4, 8)`` without."""
    if names is not None and len(names) == len(shape):
        return "(" + ", ".join(f"{name}={size}" for name, size in zip(names, shape, strict=True)) + ")"
    return str(tuple(shape)) if len(shape) != 0 else "() (a scalar)"


def explain(expected: Shape, got: Shape, names: tuple[str, ...] | None) -> str:
    """ "expected (batch=4, hidden=8), got (8, 4): transposed?" """
    text = f"expected {show(expected, names)}, got {show(got)}"
    return text + _guess(expected, got, names)


def _guess(expected: Shape, got: Shape, names: tuple[str, ...] | None) -> str:
    label = (
        names
        if names is not None and len(names) == len(expected)
        else tuple(f"dimension {i}" for i in range(9))
    )
    if len(got) == len(expected) and sorted(got) == sorted(expected):
        for order in itertools.permutations(range(len(expected))):
            if tuple(expected[i] for i in order) == got:
                return (
                    ": transposed?"
                    if len(got) == 2
                    else f": is its order {', '.join(label[i] for i in order)}?"
                )
    if len(got) == len(expected) - 1:
        for i in range(len(expected)):
            if expected[:i] + expected[i + 1 :] == got:
                return f": {label[i]} is missing"
    if len(got) == len(expected) + 1:
        for i in range(len(got)):
            if got[:i] + got[i + 1 :] == expected:
                return f": there is one dimension too many, number {i} of size {got[i]}"
    return ""
