"""Stacks of layers that several exercises of the series use. A layer is (kernel, stride, padding in front, dilation)."""

from __future__ import annotations

from collections.abc import Callable

from autograde.exercise import Draw
from autograde.observe import Inputs

Layer = tuple[int, int, int, int]

ALEXNET: list[Layer] = [
    (11, 4, 2, 1), (3, 2, 0, 1), (5, 1, 2, 1), (3, 2, 0, 1), (3, 1, 1, 1), (3, 1, 1, 1), (3, 1, 1, 1), (3, 2, 0, 1),
]  # fmt: skip
STRIDED: list[Layer] = [(5, 2, 1, 1), (2, 3, 0, 1), (4, 1, 2, 1)]
DILATED: list[Layer] = [(3, 1, 1, 1), (3, 1, 2, 2), (5, 1, 8, 4), (2, 1, 3, 3)]
MIXED: list[Layer] = [(3, 2, 2, 3), (4, 3, 5, 2), (1, 2, 0, 1), (3, 1, 0, 2)]


def layers(stack: list[Layer]) -> Callable[[Draw], Inputs]:
    """A given stack as the only input."""
    return lambda source: {"layers": list(stack)}


def random_stack(source: Draw, most: int = 6) -> list[Layer]:
    """Three to ``most`` layers, the first with stride 2 or 3 and dilation 2 or 3, so that every mistake shows."""
    stack = [(source.integer(2, 5), source.integer(2, 3), source.integer(1, 4), source.integer(2, 3))]
    for _ in range(source.integer(2, most - 1)):
        stack.append((source.integer(2, 5), source.integer(1, 3), source.integer(0, 4), source.integer(1, 3)))
    return stack


def random_layers(source: Draw) -> Inputs:
    """A random stack as the only input."""
    return {"layers": random_stack(source)}
