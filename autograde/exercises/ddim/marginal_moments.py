"""The exercise ``marginal_moments`` of the lesson ddim/02_ddim_derivation."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import number, pair
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference

Result = tuple[Tensor, float]


def _drawn(dim: int, share: float | None = None) -> Callable[[Draw], Inputs]:
    """Any moments of x_t. ``share``: sigma as a share of the largest possible one."""

    def draw(source: Draw) -> Inputs:
        ab_t, ab_s = pair(source)
        part = number(source, 0.3, 0.9) if share is None else share
        return {
            "x0": source.normal(dim),
            "mean_t": source.normal(dim),
            "var_t": number(source, 0.1, 2.0),
            "ab_t": ab_t,
            "ab_s": ab_s,
            "sd": part * math.sqrt(1 - ab_s),
        }

    return draw


def _kept(dim: int) -> Callable[[Draw], Inputs]:
    """x_t has the marginal of the forward process."""

    def draw(source: Draw) -> Inputs:
        drawn = _drawn(dim)(source)
        ab_t = drawn["ab_t"]
        return {**drawn, "mean_t": math.sqrt(ab_t) * drawn["x0"], "var_t": 1 - ab_t}

    return draw


def _known(source: Draw) -> Inputs:
    return {**_drawn(4)(source), "var_t": 0.0}


def _clean(source: Draw) -> Inputs:
    return {**_drawn(4)(source), "ab_s": 1.0, "sd": 0.0}


def _bright(source: Draw) -> Inputs:
    """Means far beyond 1, and a variance beyond it."""
    drawn = _drawn(4)(source)
    far = {name: 30 * drawn[name] for name in ("x0", "mean_t")}
    return {**drawn, **far, "var_t": number(source, 20.0, 30.0), "sd": 0.2 * drawn["sd"]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_drawn(5)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _moments(
    x0: Tensor,
    mean_t: Tensor,
    var_t: float,
    ab_t: float,
    ab_s: float,
    sd: float,
    *,
    slope: str = "right",
    var: str = "right",
    mean: str = "right",
) -> Result:
    """The moments, with switches for what goes wrong."""
    left = 1 - ab_s - sd**2
    k = {
        "right": math.sqrt(left / (1 - ab_t)),
        "not subtracted": math.sqrt((1 - ab_s) / (1 - ab_t)),
        "not squared": math.sqrt(max(1 - ab_s - sd, 0.0) / (1 - ab_t)),
        "no division": math.sqrt(left),
        "no root": left / (1 - ab_t),
    }[slope]
    mean_s = {
        "right": math.sqrt(ab_s) * x0 + k * (mean_t - math.sqrt(ab_t) * x0),
        "marginal": math.sqrt(ab_s) * x0,
        "not centred": math.sqrt(ab_s) * x0 + k * mean_t,
        "x0 taken away": math.sqrt(ab_s) * x0 + k * (mean_t - x0),
        "no roots": ab_s * x0 + k * (mean_t - ab_t * x0),
        "slope alone": k * mean_t,
    }[mean]
    value = {
        "right": k**2 * var_t + sd**2,
        "slope not squared": k * var_t + sd**2,
        "sigma not squared": k**2 * var_t + sd,
        "no sigma": k**2 * var_t,
        "sigma alone": sd**2,
        "marginal": 1 - ab_s,
        "deviation": math.sqrt(k**2 * var_t + sd**2),
        "deviations added": (k * math.sqrt(var_t) + sd) ** 2,
        "deviation came in": k**2 * var_t**2 + sd**2,
    }[var]
    return mean_s, value


def _mean_clipped(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    mean, var = _moments(x0, mean_t, var_t, ab_t, ab_s, sd)
    return mean.clamp(-5, 5), var


def _variance_at_most_one(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    mean, var = _moments(x0, mean_t, var_t, ab_t, ab_s, sd)
    return mean, min(var, 1.0)


def _sigma_not_subtracted(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, slope="not subtracted")


def _sigma_subtracted_unsquared(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, slope="not squared")


def _not_divided(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, slope="no division")


def _slope_without_root(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, slope="no root")


def _marginal_mean(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, mean="marginal")


def _both_claimed(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, mean="marginal", var="marginal")


def _marginal_variance(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="marginal")


def _not_centred(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, mean="not centred")


def _centred_at_picture(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, mean="x0 taken away")


def _mean_without_roots(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, mean="no roots")


def _slope_alone(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, mean="slope alone")


def _slope_not_squared(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="slope not squared")


def _sigma_added_unsquared(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="sigma not squared")


def _noise_forgotten(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="no sigma")


def _conditional_variance(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="sigma alone")


def _deviation(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="deviation")


def _deviations_added(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="deviations added")


def _variance_squared(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, sd, var="deviation came in")


def _centred_at_s(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    k = math.sqrt((1 - ab_s - sd**2) / (1 - ab_t))
    return math.sqrt(ab_s) * x0 + k * (mean_t - math.sqrt(ab_s) * x0), k**2 * var_t + sd**2


def _divided_by_variance(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> Result:
    k = math.sqrt(1 - ab_s - sd**2) / (1 - ab_t)
    return math.sqrt(ab_s) * x0 + k * (mean_t - math.sqrt(ab_t) * x0), k**2 * var_t + sd**2


def _slope_of_one(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return math.sqrt(ab_s) * x0 + mean_t - math.sqrt(ab_t) * x0, var_t + sd**2


def _exchanged(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(mean_t, x0, var_t, ab_t, ab_s, sd)


def _no_sd(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t, var_t, ab_t, ab_s, 0.0)


def _mean_detached(x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float) -> Result:
    return _moments(x0, mean_t.detach(), var_t, ab_t, ab_s, sd)


def _other_order(
    x0: Tensor, mean_t: Tensor, var_t: float, ab_t: float, ab_s: float, sd: float
) -> tuple[float, Tensor]:
    mean, var = _moments(x0, mean_t, var_t, ab_t, ab_s, sd)
    return var, mean


marginal_moments = Exercise(
    reference.marginal_moments,
    requirements=(
        Requirement(
            "moments of any x_t are carried over",
            (
                Case("5 numbers, any moments", _drawn(5)),
                Case("a single number", _drawn(1)),
                Case("no fresh noise, sigma = 0", _drawn(4, 0.0)),
                Case("the largest sigma", _drawn(4, 0.999)),
                Case("x_t is known, its variance is 0", _known),
                Case("the last step, ab_s = 1", _clean),
                Case("means in float64", _in_double),
                Case("means and a variance far beyond 1", _bright),
                Case("8 numbers, any moments", _drawn(8), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "the marginals of the forward process are kept",
            (
                Case("x_t as the forward process makes it", _kept(4)),
                Case("the same with 7 numbers", _kept(7), shown=False),
            ),
        ),
        Requirement("gradients", (Case("gradients, 4 numbers", _drawn(4)),), gradients),
    ),
    mistakes=(
        Mistake(
            "Your slope keeps sqrt(1 - ab_s). The fresh noise needs its share of it: 1 - ab_s - sigma^2 under the root.",
            _sigma_not_subtracted,
        ),
        Mistake(
            "Under the root of the slope you subtract sigma. Variances add: subtract sigma^2.",
            _sigma_subtracted_unsquared,
        ),
        Mistake("Your slope is not divided by sqrt(1 - ab_t), the size of the noise in x_t.", _not_divided),
        Mistake("Your slope lacks its square root.", _slope_without_root),
        Mistake(
            "Your mean is that of the forward process, whatever x_t is. Carry mean_t over: a wrong x_t has to show.",
            _marginal_mean,
        ),
        Mistake(
            "You return what is to be shown, sqrt(ab_s) x0 and 1 - ab_s. Carry the moments of x_t over instead.",
            _both_claimed,
        ),
        Mistake(
            "Your variance is 1 - ab_s, whatever that of x_t is. Carry it over: slope^2 var_t + sigma^2.",
            _marginal_variance,
        ),
        Mistake("The slope multiplies x_t - sqrt(ab_t) x0. You left out what is taken away.", _not_centred),
        Mistake(
            "The slope multiplies x_t - sqrt(ab_t) x0. You take away x0 at full strength.",
            _centred_at_picture,
        ),
        Mistake("Your mean uses ab_s and ab_t where their roots are needed.", _mean_without_roots),
        Mistake("Your mean lacks the picture: sqrt(ab_s) x0 comes first.", _slope_alone),
        Mistake(
            "A factor in front of a random number multiplies its variance by the square: slope^2.",
            _slope_not_squared,
        ),
        Mistake("You add sigma to a variance. Add sigma^2.", _sigma_added_unsquared),
        Mistake("You forgot the fresh noise: it adds sigma^2 to the variance.", _noise_forgotten),
        Mistake(
            "Your variance is that for a known x_t. x_t is random too, and adds slope^2 var_t.",
            _conditional_variance,
        ),
        Mistake("You return the standard deviation. Return the variance.", _deviation),
        Mistake(
            "You add standard deviations. The two parts are independent: add variances.", _deviations_added
        ),
        Mistake("var_t is a variance already. You squared it.", _variance_squared),
        Mistake("You return the variance first. The order is (mean, var).", _other_order),
        Mistake("The slope multiplies x_t - sqrt(ab_t) x0. You take away sqrt(ab_s) x0.", _centred_at_s),
        Mistake("Your slope is divided by the variance 1 - ab_t. Divide by its root.", _divided_by_variance),
        Mistake("Your slope is 1. It is sqrt((1 - ab_s - sigma^2) / (1 - ab_t)).", _slope_of_one),
        Mistake("You exchanged x0 and mean_t. The clean picture comes first.", _exchanged),
        Mistake("You ignore sd, as if there were no fresh noise.", _no_sd),
        Mistake("The values are right, but mean_t is detached, and its gradient is lost.", _mean_detached),
        Mistake(
            "You clip the mean. x_t may have any mean, also far beyond 1: leave it as it is.", _mean_clipped
        ),
        Mistake(
            "You keep the variance at 1 at most. x_t may have any variance: carry it over as it is.",
            _variance_at_most_one,
        ),
    ),
    returns=("the mean", "the variance"),
)
