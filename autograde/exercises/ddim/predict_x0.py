"""The exercise ``predict_x0`` of the lesson ddim/02_ddim_derivation."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import number
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference


def _batch(batch: int, dim: int, low: float = 0.1, high: float = 0.8) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "xt": source.normal(batch, dim),
            "eps": source.normal(batch, dim),
            "ab_t": number(source, low, high),
        }

    return draw


def _clean(source: Draw) -> Inputs:
    """alpha-bar is exactly 1: nothing to take away."""
    return {**_batch(3, 4)(source), "ab_t": 1.0}


def _strided(source: Draw) -> Inputs:
    return {**_batch(6, 4)(source), "xt": source.normal(4, 6).t(), "eps": source.normal(12, 4)[::2]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _no_root_below(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - math.sqrt(1 - ab_t) * eps) / ab_t


def _no_root_above(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - (1 - ab_t) * eps) / math.sqrt(ab_t)


def _no_roots(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - (1 - ab_t) * eps) / ab_t


def _not_divided(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return xt - math.sqrt(1 - ab_t) * eps


def _multiplied(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return math.sqrt(ab_t) * (xt - math.sqrt(1 - ab_t) * eps)


def _added(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt + math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)


def _one_minus_root(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - (1 - math.sqrt(ab_t)) * eps) / math.sqrt(ab_t)


def _clipped(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return ((xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)).clamp(-1, 1)


def _noise_not_scaled(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - eps) / math.sqrt(ab_t)


def _only_first_divided(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return xt / math.sqrt(ab_t) - math.sqrt(1 - ab_t) * eps


def _swapped(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - math.sqrt(ab_t) * eps) / max(math.sqrt(1 - ab_t), 1e-3)


def _exchanged(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (eps - math.sqrt(1 - ab_t) * xt) / math.sqrt(ab_t)


def _forward(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return math.sqrt(ab_t) * xt + math.sqrt(1 - ab_t) * eps


def _detached(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return (xt - math.sqrt(1 - ab_t) * eps.detach()) / math.sqrt(ab_t)


def _root_of_t_everywhere(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return xt - math.sqrt(1 - ab_t) / math.sqrt(ab_t) * eps


def _velocity(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return math.sqrt(ab_t) * xt - math.sqrt(1 - ab_t) * eps


def _in_place(xt: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    return xt.sub_(math.sqrt(1 - ab_t) * eps).div_(math.sqrt(ab_t))


predict_x0 = Exercise(
    reference.predict_x0,
    requirements=(
        Requirement(
            "solved for the picture",
            (
                Case("4 pictures of 3 numbers", _batch(4, 3)),
                Case("a batch of one", _batch(1, 6)),
                Case("much noise, results far beyond 1", _batch(5, 4, 0.001, 0.003)),
                Case("pictures in float64", _in_double),
                Case("no noise at all, ab_t = 1", _clean),
                Case("9 pictures of 2 numbers", _batch(9, 2), shown=False),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 pictures", _batch(4, 3)),
                Case("gradients, inputs that are not contiguous", _strided),
                Case("gradients, 7 pictures", _batch(7, 5), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You divide by alpha-bar. The picture was multiplied by its root: divide by sqrt(ab_t).",
            _no_root_below,
        ),
        Mistake("You take (1 - ab_t) eps away. The noise has the factor sqrt(1 - ab_t).", _no_root_above),
        Mistake(
            "Both square roots are missing: subtract sqrt(1 - ab_t) eps, divide by sqrt(ab_t).", _no_roots
        ),
        Mistake(
            "You took the noise away and did not divide by sqrt(ab_t): the picture is still dark.",
            _not_divided,
        ),
        Mistake("You multiply by sqrt(ab_t). To undo the factor, divide by it.", _multiplied),
        Mistake("You add the noise. It was added in x_t, so take it away.", _added),
        Mistake("The factor of the noise is sqrt(1 - ab_t), not 1 - sqrt(ab_t).", _one_minus_root),
        Mistake(
            "You clip the picture to [-1, 1]. Here nothing is clipped: the step would no longer keep the marginals.",
            _clipped,
        ),
        Mistake(
            "You take the noise away at full strength. Its factor in x_t is sqrt(1 - ab_t).",
            _noise_not_scaled,
        ),
        Mistake("You divide x_t alone. Divide the whole difference by sqrt(ab_t).", _only_first_divided),
        Mistake("You exchanged the two factors: sqrt(1 - ab_t) belongs to the noise.", _swapped),
        Mistake("You exchanged xt and eps. The noisy picture comes first.", _exchanged),
        Mistake("You add noise once more: that is the way forward. Solve it for x0.", _forward),
        Mistake("The values are right, but eps is detached, so no gradient reaches the network.", _detached),
        Mistake("You compute in place, in the caller's x_t. Make a new tensor.", _in_place),
        Mistake(
            "You divide the noise alone. Divide the whole difference by sqrt(ab_t).", _root_of_t_everywhere
        ),
        Mistake(
            "You multiply x_t by sqrt(ab_t). Take the noise away from x_t, then divide by sqrt(ab_t).",
            _velocity,
        ),
    ),
)
