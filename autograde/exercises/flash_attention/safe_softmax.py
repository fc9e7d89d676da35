"""The exercise ``safe_softmax`` of the lesson flash_attention/01_online_softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import LIBRARY, double, nan_in
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import flash_attention as reference

_LARGE = "large scores, of either sign"
_HIDDEN = "hidden scores, -inf"


def _scores(n: int, mean: float = 0.0) -> Callable[[Draw], Inputs]:
    return lambda source: {"x": source.normal(n) + mean}


def _some_large(source: Draw) -> Inputs:
    x = source.normal(11)
    return {"x": torch.where(torch.arange(11) % 4 == 1, x + 150, x)}


def _saturated(source: Draw) -> Inputs:
    return {"x": torch.linspace(-1e4, 1e4, 9)[torch.argsort(source.uniform(9))]}


def _far_below(source: Draw) -> Inputs:
    return {"x": torch.linspace(-5e4, -2e4, 7)[torch.argsort(source.uniform(7))]}


def _hidden(source: Draw) -> Inputs:
    return {"x": torch.where(torch.arange(8) % 3 == 0, -math.inf, source.normal(8))}


def _no_maximum(x: Tensor) -> Tensor:
    p = torch.exp(x)
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _not_divided(x: Tensor) -> Tensor:
    return torch.exp(x - x.max().clamp(min=-1e30))


def _mean_subtracted(x: Tensor) -> Tensor:
    seen = torch.isfinite(x)
    p = torch.exp(x - (x[seen].mean() if bool(seen.any()) else 0.0))
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _minimum_subtracted(x: Tensor) -> Tensor:
    p = torch.exp(x - x.min().clamp(min=-1e30))
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _largest_magnitude(x: Tensor) -> Tensor:
    p = torch.exp(x - x.abs().max().clamp(max=1e30))
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _from_zero(x: Tensor) -> Tensor:
    p = torch.exp(x - x.max().clamp(min=0))
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _logarithm(x: Tensor) -> Tensor:
    m = x.max().clamp(min=-1e30)
    return x - m - torch.log(torch.exp(x - m).sum().clamp(min=1e-30))


def _sum_without_maximum(x: Tensor) -> Tensor:
    p = torch.exp(x - x.max().clamp(min=-1e30))
    return p / torch.where(torch.exp(x).sum() == 0, 1.0, torch.exp(x).sum())


def _constant_added(x: Tensor) -> Tensor:
    p = torch.exp(x - x.max().clamp(min=-1e30))
    return p / (p.sum() + 1e-2)


def _divided_by_number(x: Tensor) -> Tensor:
    return torch.exp(x - x.max().clamp(min=-1e30)) / len(x)


def _base_two(x: Tensor) -> Tensor:
    p = torch.exp2(x - x.max().clamp(min=-1e30))
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _evenly_where_hidden(x: Tensor) -> Tensor:
    if bool((x == -math.inf).all()):
        return torch.ones_like(x) / len(x)
    p = torch.exp(x - x.max())
    return p / p.sum()


def _maximum_from_a_number(x: Tensor) -> Tensor:
    p = torch.exp(x - x.max().clamp(min=-1e4))
    return p / torch.where(p.sum() == 0, 1.0, p.sum())


def _nan_where_hidden(x: Tensor) -> Tensor:
    p = torch.exp(x - x.max())
    return p / p.sum()


safe_softmax = Exercise(
    reference.safe_softmax,
    requirements=(
        Requirement(
            "matches the formula",
            (
                Case("7 scores", _scores(7)),
                Case("a single score", _scores(1)),
                Case("every second of 12 scores", lambda source: {"x": source.normal(12)[::2]}),
                Case("scores in float64", double(_scores(5))),
                Case("1000 scores", _scores(1000), shown=False),
            ),
            points=2,
        ),
        Requirement(
            _LARGE,
            (
                Case("some scores near 150, where exp overflows", _some_large),
                Case("all scores near -200, where exp is zero", _scores(9, -200.0)),
                Case("scores between -1e4 and 1e4", _saturated),
                Case("all scores near 300", _scores(6, 300.0), shown=False),
                Case("scores between -5e4 and -2e4", _far_below),
            ),
        ),
        Requirement(
            _HIDDEN,
            (
                Case("some are hidden", _hidden),
                Case("all are hidden", lambda source: {"x": torch.full((4,), -math.inf)}),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 6 scores", _scores(6)),
                Case("gradients, scores near -150", _scores(5, -150.0)),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You take exp of the scores as they are, which overflows at 89. First subtract the maximum.",
            _no_maximum,
        ),
        Mistake("You do not divide by the sum, so the results do not add up to 1.", _not_divided),
        Mistake(
            "You subtract the mean. A score far above it still overflows: subtract the maximum.",
            _mean_subtracted,
        ),
        Mistake(
            "You subtract the minimum, which makes all exponents positive. Subtract the maximum.",
            _minimum_subtracted,
        ),
        Mistake(
            "You subtract the largest magnitude. For negative scores this is far above all of them, and every exp becomes zero: "
            "subtract the maximum, with its sign.",
            _largest_magnitude,
        ),
        Mistake(
            "Your maximum starts at 0. If all scores are far below 0, every exp becomes zero: start at -inf, or take x.max().",
            _from_zero,
        ),
        Mistake(
            "You return the logarithm of the softmax. Return the weights, which add up to 1.", _logarithm
        ),
        Mistake(
            "You subtract the maximum above the fraction line, and not in the sum below it. Both need the same exponents.",
            _sum_without_maximum,
        ),
        Mistake(
            "You add a constant to the sum. It is not needed: one of the terms is exp(0), so the sum is at least 1.",
            _constant_added,
        ),
        Mistake(
            "You divide by the number of scores. Divide by the sum of the exponentials.", _divided_by_number
        ),
        Mistake("You take powers of two. exp(x) is torch.exp, and exp2 is 2 to the power of x.", _base_two),
        Mistake(
            "Where all scores are hidden you share the weight evenly. A row that sees nothing has the weights zero in this course.",
            _evenly_where_hidden,
        ),
        Mistake(
            "Your maximum is never below a number that you chose. Scores far below it all become zero: start at -inf, and treat a "
            "maximum of -inf on its own.",
            _maximum_from_a_number,
        ),
        Mistake(
            "Where all scores are hidden you get NaN, because -inf - -inf is NaN. Subtract 0 there, and do not divide by zero.",
            _nan_where_hidden,
            recognise=nan_in((_HIDDEN, "all are hidden")),
        ),
    ),
    forbids=(
        *LIBRARY,
        "softmax",
        "_softmax",
        "_safe_softmax",
        "log_softmax",
        "_log_softmax",
        "softmin",
        "special_softmax",
        "logsumexp",
        "logaddexp",
        "logcumsumexp",
        "_logcumsumexp",
    ),
)
