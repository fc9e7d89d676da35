"""The exercise ``ode_step`` of the lesson ddim/02_ddim_derivation."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import pair
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference


def _batch(batch: int, dim: int, up: bool = False) -> Callable[[Draw], Inputs]:
    """``up``: towards more noise."""

    def draw(source: Draw) -> Inputs:
        ab_t, ab_s = pair(source)[:: -1 if up else 1]
        return {
            "xt": source.normal(batch, dim),
            "eps": source.normal(batch, dim),
            "ab_t": ab_t,
            "ab_s": ab_s,
        }

    return draw


def _to_clean(source: Draw) -> Inputs:
    return {**_batch(4, 3)(source), "ab_s": 1.0}


def _from_clean(source: Draw) -> Inputs:
    return {**_batch(4, 3, up=True)(source), "ab_t": 1.0}


def _bright(source: Draw) -> Inputs:
    """Values far beyond 1, which a clipped answer loses."""
    drawn = _batch(4, 3)(source)
    return {**drawn, "xt": 30 * drawn["xt"], "eps": 30 * drawn["eps"]}


def _strided(source: Draw) -> Inputs:
    return {**_batch(6, 4)(source), "xt": source.normal(4, 6).t(), "eps": source.normal(12, 4)[::2]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _ratio(ab: float) -> float:
    return math.sqrt((1 - ab) / ab)


def _result_clipped(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return (math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (_ratio(ab_s) - _ratio(ab_t)) * eps)).clamp(-6, 6)


def _left_scaled(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return xt / math.sqrt(ab_t) + (_ratio(ab_s) - _ratio(ab_t)) * eps


def _not_scaled(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return xt + (_ratio(ab_s) - _ratio(ab_t)) * eps


def _scaled_back_only(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt + (_ratio(ab_s) - _ratio(ab_t)) * eps)


def _scaled_back_by_t(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_t) * (xt / math.sqrt(ab_t) + (_ratio(ab_s) - _ratio(ab_t)) * eps)


def _wrong_way(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) - (_ratio(ab_s) - _ratio(ab_t)) * eps)


def _squared_ratio(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (_ratio(ab_s) ** 2 - _ratio(ab_t) ** 2) * eps)


def _noise_for_ratio(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (math.sqrt(1 - ab_s) - math.sqrt(1 - ab_t)) * eps)


def _level_for_ratio(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (ab_t - ab_s) * eps)


def _upside_down(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    r_t, r_s = (math.sqrt(ab / max(1 - ab, 1e-2)) for ab in (ab_t, ab_s))
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (r_s - r_t) * eps)


def _no_roots(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return ab_s * (xt / ab_t + (_ratio(ab_s) - _ratio(ab_t)) * eps)


def _noise_in_plain_units(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * xt / math.sqrt(ab_t) + (_ratio(ab_s) - _ratio(ab_t)) * eps


def _half(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + 0.5 * (_ratio(ab_s) - _ratio(ab_t)) * eps)


def _only_downwards(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) - abs(_ratio(ab_s) - _ratio(ab_t)) * eps)


def _levels_exchanged(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return reference.ode_step(xt, eps, ab_s, ab_t)


def _clipped_picture(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    picture = reference.predict_x0(xt, eps, ab_t).clamp(-1, 1)
    return math.sqrt(ab_s) * picture + math.sqrt(1 - ab_s) * eps


def _no_step(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s / ab_t) * xt


def _score_for_noise(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return reference.ode_step(xt, -math.sqrt(1 - ab_t) * eps, ab_t, ab_s)


def _ratio_without_inner_root(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    r_t, r_s = (math.sqrt(1 - ab) / ab for ab in (ab_t, ab_s))
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (r_s - r_t) * eps)


def _in_place(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return xt.copy_(reference.ode_step(xt.clone(), eps, ab_t, ab_s))


def _detached(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (_ratio(ab_s) - _ratio(ab_t)) * eps.detach())


ode_step = Exercise(
    reference.ode_step,
    requirements=(
        Requirement(
            "towards less noise",
            (
                Case("4 pictures of 3 numbers", _batch(4, 3)),
                Case("a batch of one", _batch(1, 6)),
                Case("pictures in float64", _in_double),
                Case("to the clean picture, ab_s = 1", _to_clean),
                Case("values far beyond 1", _bright),
                Case("9 pictures of 2 numbers", _batch(9, 2), shown=False),
            ),
        ),
        Requirement(
            "towards more noise",
            (
                Case("5 pictures of 4 numbers, upwards", _batch(5, 4, up=True)),
                Case("from the clean picture, ab_t = 1", _from_clean),
                Case("2 pictures of 7 numbers, upwards", _batch(2, 7, up=True), shown=False),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 pictures", _batch(4, 3)),
                Case("gradients, inputs that are not contiguous", _strided),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You return x / sqrt(alpha-bar). Multiply by sqrt(ab_s) at the end, to have x_s again.",
            _left_scaled,
        ),
        Mistake("You add the Euler step to x_t itself. The ODE holds for x_t / sqrt(ab_t).", _not_scaled),
        Mistake("You did not divide x_t by sqrt(ab_t) before the step.", _scaled_back_only),
        Mistake("You scale back by sqrt(ab_t). At the end of the step it is sqrt(ab_s).", _scaled_back_by_t),
        Mistake(
            "Your step goes the wrong way: add (r_s - r_t) eps, where r_s is the ratio at the end.",
            _wrong_way,
        ),
        Mistake("You use r^2 = (1 - ab) / ab for the ODE's time. It is the root, r.", _squared_ratio),
        Mistake(
            "You use sqrt(1 - ab) for the ODE's time. In x / sqrt(ab) the noise has the size sqrt((1 - ab) / ab).",
            _noise_for_ratio,
        ),
        Mistake("You use alpha-bar for the ODE's time. It is r = sqrt((1 - ab) / ab).", _level_for_ratio),
        Mistake(
            "Your ratio is upside down: r = sqrt((1 - ab) / ab), which is 0 for a clean picture.",
            _upside_down,
        ),
        Mistake("You scale by ab where sqrt(ab) is needed, at both ends of the step.", _no_roots),
        Mistake(
            "You scale x_t back, but not the step. Multiply the whole sum by sqrt(ab_s).",
            _noise_in_plain_units,
        ),
        Mistake("You take half of the step. Euler takes the slope at the start for the whole way.", _half),
        Mistake(
            "Your step always goes towards less noise. The difference r_s - r_t is positive on the way up: leave its sign.",
            _only_downwards,
        ),
        Mistake("The values are right, but eps is detached, so no gradient reaches the network.", _detached),
        Mistake("You exchanged the two levels. The step starts at ab_t and ends at ab_s.", _levels_exchanged),
        Mistake(
            "You clip the predicted picture. The ODE has no clipping: leave the values as they are.",
            _clipped_picture,
        ),
        Mistake(
            "You rescale x_t and make no step. Add (r_s - r_t) eps before you multiply by sqrt(ab_s).",
            _no_step,
        ),
        Mistake(
            "You step along -sqrt(1 - ab_t) eps. In these units the slope is eps itself.", _score_for_noise
        ),
        Mistake(
            "Your ratio divides by ab. It is sqrt((1 - ab) / ab): both are under the root.",
            _ratio_without_inner_root,
        ),
        Mistake("You write the result into xt. The caller still needs it: return a new tensor.", _in_place),
        Mistake(
            "You clip the result. The ODE has no bounds: return x at level ab_s as it is.", _result_clipped
        ),
    ),
)
