"""The exercise ``merge`` of the lesson flash_attention/01_online_softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import double
from autograde.observe import Implementation, Inputs
from autograde.probes import gradients
from utils.reference import flash_attention as reference

Part = tuple[Tensor, Tensor, Tensor]
_EMPTY = "an empty part changes nothing"


def grouped(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Three parts, put together from the left and from the right."""
    a, b, c = inputs["a"], inputs["b"], inputs["c"]
    return {
        "(a b) c": implementation(implementation(a, b), c),
        "a (b c)": implementation(a, implementation(b, c)),
        "c (b a)": implementation(c, implementation(b, a)),
    }


def _part(source: Draw, rows: tuple[int, ...], d: int, mean: float = 0.0, spread: float = 2.0) -> Part:
    m = source.normal(*rows, scale=spread) + mean
    return m, source.uniform(*rows, low=1, high=6), 3 * source.normal(*rows, d)


def _two(rows: tuple[int, ...], d: int, above: float = 0.0, spread: float = 2.0) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "a": _part(source, rows, d, spread=spread),
        "b": _part(source, rows, d, above, spread),
    }


def _three(rows: tuple[int, ...], d: int, rise: float) -> Callable[[Draw], Inputs]:
    return lambda source: {name: _part(source, rows, d, k * rise) for k, name in enumerate(("a", "b", "c"))}


def _equal_maxima(source: Draw) -> Inputs:
    a, b = _part(source, (3,), 2), _part(source, (3,), 2)
    return {"a": a, "b": (a[0].clone(), b[1], b[2])}


def _far_below(source: Draw) -> Inputs:
    """The second part has the larger maxima, by thousands; both are far below zero."""
    return {"a": _part(source, (3,), 2, -5e4), "b": _part(source, (3,), 2, -4.6e4)}


def _nothing(rows: tuple[int, ...], d: int) -> Part:
    return torch.full(rows, -math.inf), torch.zeros(rows), torch.zeros(*rows, d)


def _one_empty(first: bool) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        parts = [_nothing((3,), 2), _part(source, (3,), 2)]
        a, b = parts if first else parts[::-1]
        return {"a": a, "b": b}

    return draw


def _some_empty(source: Draw) -> Inputs:
    a, b = _part(source, (4,), 3), _part(source, (4,), 3)
    for part, rows in ((a, [0, 1]), (b, [1, 2])):
        part[0][rows], part[1][rows], part[2][rows] = -math.inf, 0.0, 0.0
    return {"a": a, "b": b}


def _shift(m: Tensor) -> Tensor:
    return torch.where(m == -math.inf, 0.0, m)


def _joined(
    a: Part,
    b: Part,
    scale_l: bool = True,
    scale_o: bool = True,
    swapped: bool = False,
    inverse: bool = False,
    guard: bool = True,
) -> Part:
    m = torch.maximum(a[0], b[0])
    base = _shift(m) if guard else m
    r, s = torch.exp(a[0] - base), torch.exp(b[0] - base)
    if swapped:
        r, s = s, r
    if inverse:
        r, s = torch.exp(base - _shift(a[0])), torch.exp(base - _shift(b[0]))
    l = r * a[1] + s * b[1] if scale_l else a[1] + b[1]
    o = r[..., None] * a[2] + s[..., None] * b[2] if scale_o else a[2] + b[2]
    return m, l, o


def _nothing_rescaled(a: Part, b: Part) -> Part:
    return _joined(a, b, scale_l=False, scale_o=False)


def _only_sum_rescaled(a: Part, b: Part) -> Part:
    return _joined(a, b, scale_o=False)


def _only_output_rescaled(a: Part, b: Part) -> Part:
    return _joined(a, b, scale_l=False)


def _factors_swapped(a: Part, b: Part) -> Part:
    return _joined(a, b, swapped=True)


def _inverse_factors(a: Part, b: Part) -> Part:
    return _joined(a, b, inverse=True)


def _first_assumed_larger(a: Part, b: Part) -> Part:
    s = torch.exp(b[0] - _shift(a[0]))
    return a[0], a[1] + s * b[1], a[2] + s[..., None] * b[2]


def _second_assumed_larger(a: Part, b: Part) -> Part:
    r = torch.exp(a[0] - _shift(b[0]))
    return b[0], r * a[1] + b[1], r[..., None] * a[2] + b[2]


def _normalised(a: Part, b: Part) -> Part:
    m, l, o = _joined(a, b)
    return m, l, o / torch.where(l == 0, 1.0, l)[..., None]


def _weighted_by_sums(a: Part, b: Part) -> Part:
    m = torch.maximum(a[0], b[0])
    r, s = torch.exp(a[0] - _shift(m)) * a[1], torch.exp(b[0] - _shift(m)) * b[1]
    return m, r + s, r[..., None] * a[2] + s[..., None] * b[2]


def _averaged(a: Part, b: Part) -> Part:
    m, l, _ = _joined(a, b)
    return m, l, (a[2] + b[2]) / 2


def _nan_where_empty(a: Part, b: Part) -> Part:
    return _joined(a, b, guard=False)


def _sum_of_maxima(a: Part, b: Part) -> Part:
    m, l, o = _joined(a, b)
    return torch.logaddexp(a[0], b[0]), l, o


def _equal_maxima_lost(a: Part, b: Part) -> Part:
    d = torch.exp(-(a[0] - b[0]).abs()).nan_to_num(0.0)
    r = torch.where(a[0] > b[0], 1.0, d)
    s = torch.where(b[0] > a[0], 1.0, torch.where(a[0] > b[0], d, 0.0))
    m = torch.maximum(a[0], b[0])
    return m, r * a[1] + s * b[1], r[..., None] * a[2] + s[..., None] * b[2]


def _maximum_from_a_number(a: Part, b: Part) -> Part:
    m = torch.maximum(a[0], b[0])
    r, s = (torch.exp(part[0] - m.clamp(min=-1e4)) for part in (a, b))
    return m, r * a[1] + s * b[1], r[..., None] * a[2] + s[..., None] * b[2]


def _always_minus_larger_only(a: Part, b: Part) -> Part:
    m = torch.maximum(a[0], b[0])
    larger = a[0] >= b[0]
    return m, torch.where(larger, a[1], b[1]), torch.where(larger[..., None], a[2], b[2])


merge = Exercise(
    reference.merge,
    requirements=(
        Requirement(
            "two parts together",
            (
                Case("3 rows, 4 channels", _two((3,), 4)),
                Case("the second part has the larger maxima", _two((5,), 2, above=6)),
                Case("the first part has the larger maxima", _two((5,), 2, above=-6)),
                Case("a single row", _two((), 3)),
                Case("2 heads of 3 rows", _two((2, 3), 3)),
                Case("maxima that differ by thousands", _two((4,), 3, above=3e3)),
                Case("in float64", lambda source: double(_two((2,), 3))(source)),
                Case("equal maxima", _equal_maxima),
                Case("64 rows, one channel", _two((64,), 1), shown=False),
                Case("maxima near -5e4", _far_below),
            ),
            points=2,
        ),
        Requirement(
            "the same from the left and from the right",
            (
                Case("three parts", _three((3,), 2, 0.0)),
                Case("three parts with rising maxima", _three((2,), 3, 4.0)),
            ),
            grouped,
        ),
        Requirement(
            _EMPTY,
            (
                Case("the first part is empty", _one_empty(True)),
                Case("the second part is empty", _one_empty(False)),
                Case("some rows of each are empty, one row of both", _some_empty),
            ),
        ),
        Requirement("gradients", (Case("gradients, 3 rows", _two((3,), 2)),), gradients),
    ),
    mistakes=(
        Mistake(
            "You add sums and outputs as they are. Each was made with its own maximum: rescale both to the common one first.",
            _nothing_rescaled,
        ),
        Mistake(
            "You rescale l and not o. Both are sums of exp(s - m), so both need the factor.",
            _only_sum_rescaled,
        ),
        Mistake(
            "You rescale o and not l. Both are sums of exp(s - m), so both need the factor.",
            _only_output_rescaled,
        ),
        Mistake(
            "Your factors are exchanged: part a needs exp(m_a - m), part b needs exp(m_b - m).",
            _factors_swapped,
        ),
        Mistake(
            "Your factors are inverse: they have to be exp(m_a - m) and exp(m_b - m), at most 1.",
            _inverse_factors,
        ),
        Mistake(
            "You keep the maximum of the first part, also where the second one is larger.",
            _first_assumed_larger,
        ),
        Mistake(
            "You keep the maximum of the second part, also where the first one is larger.",
            _second_assumed_larger,
        ),
        Mistake(
            "You divide o by l. Here o is the sum without the division, which is done once, at the very end.",
            _normalised,
        ),
        Mistake(
            "You multiply each o by its l, as if o had been divided by it. Here o is the sum without the division.",
            _weighted_by_sums,
        ),
        Mistake("You average the outputs. They are sums: rescale them, then add.", _averaged),
        Mistake(
            "You get NaN where both parts are empty: -inf - -inf is NaN. Subtract 0 where the common maximum is -inf.",
            _nan_where_empty,
        ),
        Mistake("Your m is the log-sum-exp of the maxima. It is the larger one of the two.", _sum_of_maxima),
        Mistake(
            "Where both maxima are equal you lose a part. Both factors are 1 there: compare with >= on one side, or use exp(m_a - m).",
            _equal_maxima_lost,
        ),
        Mistake(
            "What you subtract is never below a number that you chose. Parts far below it become zero: subtract m, and 0 only where "
            "m is -inf.",
            _maximum_from_a_number,
        ),
        Mistake(
            "You keep the part with the larger maximum and forget the other one.", _always_minus_larger_only
        ),
    ),
    returns=("m", "l", "o"),
)
