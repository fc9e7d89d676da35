"""The exercise ``sigma`` of the lesson ddim/02_ddim_derivation."""

from __future__ import annotations

import math
from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.exercises.ddim.inputs import pair
from autograde.observe import Inputs
from utils.reference import ddim as reference


def _given(eta: float) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        ab_t, ab_s = pair(source)
        return {"ab_t": ab_t, "ab_s": ab_s, "eta": eta}

    return draw


def _last(source: Draw) -> Inputs:
    return {**_given(1.0)(source), "ab_s": 1.0}


def _one_small_step(source: Draw) -> Inputs:
    """A single step of the long schedule, where eta = 1 is the posterior of DDPM."""
    ab_s = pair(source)[0]
    return {"ab_t": ab_s * (1 - 0.05), "ab_s": ab_s, "eta": 1.0}


def _variance(ab_t: float, ab_s: float, eta: float) -> float:
    return eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)


def _variance_eta_once(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)


def _eta_squared(ab_t: float, ab_s: float, eta: float) -> float:
    return eta**2 * math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))


def _eta_inside(ab_t: float, ab_s: float, eta: float) -> float:
    return math.sqrt(eta * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))


def _no_eta(ab_t: float, ab_s: float, eta: float) -> float:
    return math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))


def _upside_down(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt((1 - ab_t) / max(1 - ab_s, 1e-3) * (1 - ab_t / ab_s))


def _step_variance_alone(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt(1 - ab_t / ab_s)


def _ratio_alone(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t))


def _all_the_noise(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt(1 - ab_s)


def _difference(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t) * (ab_s - ab_t))


def _no_root_of_ratio(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * (1 - ab_s) / (1 - ab_t) * math.sqrt(1 - ab_t / ab_s)


def _root_of_ratio_only(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * (1 - ab_t / ab_s)


def _roots_inside(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - math.sqrt(ab_t / ab_s))


def _ratio_of_levels_upside_down(ab_t: float, ab_s: float, eta: float) -> float:
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t) * (ab_s / ab_t - 1))


def _sign_turned(ab_t: float, ab_s: float, eta: float) -> float:
    return -eta * math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))


def _only_ends(ab_t: float, ab_s: float, eta: float) -> float:
    return _no_eta(ab_t, ab_s, eta) if eta > 0 else 0.0


_SINGLE = Tolerance(
    8.0, "1 - ab_t / ab_s of a short step cancels: an answer in float32 tensors loses a digit, and is right."
)

sigma = Exercise(
    reference.sigma,
    requirements=(
        Requirement(
            "eta = 1 is the posterior of DDPM",
            (
                Case("a single step of the long schedule", _one_small_step),
                Case("a step over many", _given(1.0)),
                Case("the last step, ab_s = 1", _last),
            ),
            points=2,
            tolerance=_SINGLE,
        ),
        Requirement(
            "eta scales the standard deviation",
            (
                Case("eta = 0.5", _given(0.5)),
                Case("eta = 0", _given(0.0)),
                Case("eta = 0.2", _given(0.2)),
                Case("eta = 0.85", _given(0.85), shown=False),
            ),
            tolerance=_SINGLE,
        ),
    ),
    mistakes=(
        Mistake("You return the variance. Return its root, the standard deviation.", _variance),
        Mistake(
            "You return eta times the variance. Take the root of the variance, then multiply by eta.",
            _variance_eta_once,
        ),
        Mistake("You squared eta. The standard deviation grows with eta itself.", _eta_squared),
        Mistake(
            "eta is under the root. It multiplies the standard deviation, so it stands outside.", _eta_inside
        ),
        Mistake("You left out eta. With eta = 0 no noise is added at all.", _no_eta),
        Mistake("The ratio is upside down: (1 - ab_s) / (1 - ab_t), which is below 1.", _upside_down),
        Mistake(
            "You use 1 - ab_t / ab_s, the variance of the way forward from s to t. The posterior's is smaller, by the factor "
            "(1 - ab_s) / (1 - ab_t).",
            _step_variance_alone,
        ),
        Mistake("You left out the factor 1 - ab_t / ab_s, the variance of the way forward.", _ratio_alone),
        Mistake(
            "Your result is sqrt(1 - ab_s), all of the noise in x_s. From s to t only the share 1 - ab_t / ab_s is replaced.",
            _all_the_noise,
        ),
        Mistake("You use the difference ab_s - ab_t. The forward variance is 1 - ab_t / ab_s.", _difference),
        Mistake("The ratio of the two noise variances lacks its root.", _no_root_of_ratio),
        Mistake("The factor 1 - ab_t / ab_s lacks its root.", _root_of_ratio_only),
        Mistake(
            "You took the root of ab_t / ab_s as well. Under the root stands 1 - ab_t / ab_s.", _roots_inside
        ),
        Mistake(
            "The ratio of the levels is upside down: the variance of the way forward is 1 - ab_t / ab_s, with the smaller one above.",
            _ratio_of_levels_upside_down,
        ),
        Mistake("Your sign is turned. A standard deviation is never negative.", _sign_turned),
        Mistake(
            "You switch the noise on and off. eta is a factor: half of eta is half of sigma.", _only_ends
        ),
    ),
)
