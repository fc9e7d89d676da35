"""The exercise ``posterior`` of the lesson ddim/01_ddpm_posterior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import short_betas
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference

Result = tuple[Tensor, Tensor]


def _batch(batch: int, dim: int, T: int = 20) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x0": source.normal(batch, dim),
            "xt": source.normal(batch, dim),
            "t": source.integers(batch, low=2, high=T - 2),
            "betas": short_betas(source, T),
        }

    return draw


def _first_step(source: Draw) -> Inputs:
    """Time 0, beside other times: before it is the clean picture."""
    return {**_batch(4, 3)(source), "t": torch.tensor([0, 5, 0, 1])}


def _last_step(source: Draw) -> Inputs:
    return {**_batch(3, 4)(source), "t": torch.tensor([19, 18, 19])}


def _only_one_step(source: Draw) -> Inputs:
    return {**_batch(2, 3)(source), "t": torch.tensor([0, 0]), "betas": short_betas(source, 1)}


def _strided(source: Draw) -> Inputs:
    return {
        "x0": source.normal(4, 6).t(),
        "xt": source.normal(12, 4)[::2],
        "t": source.integers(12, low=1, high=19)[::2],
        "betas": short_betas(source, 20),
    }


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _bright(source: Draw) -> Inputs:
    """Values far beyond 1, which a clipped answer loses."""
    drawn = _batch(4, 3)(source)
    return {**drawn, "x0": 30 * drawn["x0"], "xt": 30 * drawn["xt"]}


def _solve(
    x0: Tensor,
    xt: Tensor,
    t: Tensor,
    betas: Tensor,
    *,
    var: str = "posterior",
    before: str = "shifted",
    mean: str = "right",
    bar: bool = True,
) -> Result:
    """The posterior, with switches for what goes wrong."""
    ab = (1 - betas).cumprod(0) if bar else 1 - betas
    shifted = torch.cat([torch.ones_like(ab[:1]), ab[:-1]])
    s = {
        "shifted": shifted[t],
        "wraps": ab[t - 1],
        "clamped": ab[(t - 1).clamp(min=0)],
        "now": ab[t],
        "after": ab[(t + 1).clamp(max=len(ab) - 1)],
    }[before]
    beta, now = betas[t], ab[t]
    alpha = 1 - beta
    of_x0, of_xt = {
        "right": (s.sqrt() * beta / (1 - now), alpha.sqrt() * (1 - s) / (1 - now)),
        "no roots": (s * beta / (1 - now), alpha * (1 - s) / (1 - now)),
        "swapped": (alpha.sqrt() * (1 - s) / (1 - now), s.sqrt() * beta / (1 - now)),
        "bar for alpha": (s.sqrt() * beta / (1 - now), now.sqrt() * (1 - s) / (1 - now)),
        "alpha for bar": (alpha.sqrt() * beta / (1 - now), alpha.sqrt() * (1 - s) / (1 - now)),
        "not divided": (s.sqrt() * beta, alpha.sqrt() * (1 - s)),
        "x0 alone": (s.sqrt(), torch.zeros_like(s)),
        "xt alone": (torch.zeros_like(s), 1 / alpha.sqrt()),
    }[mean]
    value = {
        "posterior": (1 - s) / (1 - now) * beta,
        "beta": beta,
        "std": ((1 - s) / (1 - now) * beta).sqrt(),
        "ratio upside down": (1 - now) / (1 - s).clamp(min=1e-6) * beta,
        "marginal": 1 - s,
        "ratio": (1 - s) / (1 - now),
        "precision": 1 / ((1 - s) / (1 - now) * beta).clamp(min=1e-6),
        "log": ((1 - s) / (1 - now) * beta).clamp(min=1e-20).log(),
    }[var]
    return of_x0[:, None] * x0 + of_xt[:, None] * xt, value


def _clipped(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    mean, var = _solve(x0, xt, t, betas)
    return mean.clamp(-4, 4), var


def _beta_for_variance(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="beta")


def _standard_deviation(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="std")


def _log_variance(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="log")


def _upside_down(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="ratio upside down")


def _marginal_variance(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="marginal")


def _ratio_alone(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="ratio")


def _precision(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, var="precision")


def _wraps_around(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, before="wraps")


def _clamped_at_zero(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, before="clamped")


def _now_for_before(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, before="now")


def _no_roots(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="no roots")


def _swapped(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="swapped")


def _bar_for_alpha(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="bar for alpha")


def _alpha_for_bar(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="alpha for bar")


def _not_divided(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="not divided")


def _prior_mean(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="x0 alone")


def _step_turned_round(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, mean="xt alone")


def _alphas_without_product(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, t, betas, bar=False)


def _other_order(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    mean, var = _solve(x0, xt, t, betas)
    return var, mean


def _by_precisions(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    """B / A and 1 / A as they stand: at time 0 A and B are infinite."""
    ab = (1 - betas).cumprod(0)
    s = torch.cat([torch.ones_like(ab[:1]), ab[:-1]])[t]
    beta = betas[t]
    A = (1 - beta) / beta + 1 / (1 - s)
    B = ((1 - beta).sqrt() / beta)[:, None] * xt + (s.sqrt() / (1 - s))[:, None] * x0
    return B / A[:, None], 1 / A


def _noisy_at_zero(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    mean, var = _solve(x0, xt, t, betas)
    return torch.where((t == 0)[:, None], xt, mean), var


def _variance_as_column(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    mean, var = _solve(x0, xt, t, betas)
    return mean, var[:, None]


def _one_step_early(x0: Tensor, xt: Tensor, t: Tensor, betas: Tensor) -> Result:
    return _solve(x0, xt, (t - 1).clamp(min=0), betas)


posterior = Exercise(
    reference.posterior,
    requirements=(
        Requirement(
            "mean and variance",
            (
                Case("4 pictures of 3 numbers", _batch(4, 3)),
                Case("as many pictures as numbers in each", _batch(5, 5)),
                Case("a batch of one", _batch(1, 6)),
                Case("the last times of the schedule", _last_step),
                Case("pictures in float64", _in_double),
                Case("values far beyond 1", _bright),
                Case("9 pictures of 2 numbers", _batch(9, 2), shown=False),
            ),
            points=3,
        ),
        Requirement(
            "at time 0 the clean picture is known",
            (
                Case("times 0, 5, 0 and 1", _first_step),
                Case("a schedule of a single step", _only_one_step),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 pictures", _batch(4, 3)),
                Case("gradients, inputs that are not contiguous", _strided),
                Case("gradients, 7 pictures of 5 numbers", _batch(7, 5), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You return beta_t for the variance. That is the variance of the step forward; knowing x0 makes it smaller by "
            "(1 - ab_{t-1}) / (1 - ab_t).",
            _beta_for_variance,
        ),
        Mistake("You return the standard deviation. Return the variance.", _standard_deviation),
        Mistake("You return the logarithm of the variance. Return the variance itself.", _log_variance),
        Mistake(
            "The ratio in your variance is upside down: it is (1 - ab_{t-1}) / (1 - ab_t), which is below 1.",
            _upside_down,
        ),
        Mistake(
            "Your variance is 1 - ab_{t-1}, that of x_{t-1} given x0 alone. x_t is known as well, and narrows it.",
            _marginal_variance,
        ),
        Mistake("Your variance lacks the factor beta_t.", _ratio_alone),
        Mistake(
            "You return the precision, the sum of the two inverse variances. The variance is 1 over it.",
            _precision,
        ),
        Mistake(
            "At t = 0 your ab[t - 1] wraps round to the last element. Before time 0 alpha-bar is 1.",
            _wraps_around,
        ),
        Mistake(
            "At t = 0 you use ab[0] for the time before. Before time 0 alpha-bar is 1.", _clamped_at_zero
        ),
        Mistake("You use alpha-bar of time t where that of t - 1 is needed.", _now_for_before),
        Mistake(
            "Both factors of your mean lack the square root of alpha: amplitudes are roots of shares.",
            _no_roots,
        ),
        Mistake(
            "You swapped the factors of the mean, or x0 and xt. For a small beta_t the mean is near x_t, not near x0.",
            _swapped,
        ),
        Mistake(
            "The factor of x_t holds sqrt(alpha-bar_t). It is sqrt(alpha_t) of the one step, sqrt(1 - beta_t).",
            _bar_for_alpha,
        ),
        Mistake(
            "The factor of x0 holds sqrt(alpha_t) of one step. It is sqrt(alpha-bar_{t-1}).", _alpha_for_bar
        ),
        Mistake(
            "You did not divide the mean by 1 - alpha-bar_t, or the precisions by their sum.", _not_divided
        ),
        Mistake("Your mean is that of x_{t-1} given x0 alone. It has to use x_t too.", _prior_mean),
        Mistake(
            "Your mean turns the step round, x_t / sqrt(alpha_t), and does not use x0.", _step_turned_round
        ),
        Mistake(
            "You use 1 - beta of single steps for alpha-bar. Take the running product.",
            _alphas_without_product,
        ),
        Mistake("You return the variance first. The order is (mean, var).", _other_order),
        Mistake(
            "At t = 0 you divide by 1 - ab_{t-1} = 0, and the mean is NaN. Multiply A and B out first: the factors of x0 and x_t are "
            "divided by 1 - ab_t.",
            _by_precisions,
        ),
        Mistake(
            "At t = 0 your mean is x_t. The picture before is the clean one: the mean is x0.", _noisy_at_zero
        ),
        Mistake(
            "Your variance has a second dimension. Return one number for each picture, [batch].",
            _variance_as_column,
        ),
        Mistake(
            "You look up everything at t - 1. beta and alpha-bar belong to t, only ab_{t-1} to the time before.",
            _one_step_early,
        ),
        Mistake(
            "You clip the mean. Values far beyond 1 may come in, and their mean is needed as it is.", _clipped
        ),
    ),
    returns=("the mean", "the variance"),
)
