"""The exercise ``q_sample`` of the lesson ddim/01_ddpm_posterior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import levels
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference


def _batch(batch: int, dim: int, T: int = 20) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        t = source.integers(batch, low=1, high=T - 2)
        return {
            "x0": source.normal(batch, dim),
            "t": t,
            "eps": source.normal(batch, dim),
            "ab": levels(source, T),
        }

    return draw


def _ends(source: Draw) -> Inputs:
    """The first and the last of all times."""
    return {**_batch(4, 3)(source), "t": torch.tensor([0, 19, 0, 19])}


def _strided(source: Draw) -> Inputs:
    return {
        "x0": source.normal(4, 6).t(),
        "t": source.integers(12, low=0, high=19)[::2],
        "eps": source.normal(12, 4)[::2],
        "ab": levels(source, 20),
    }


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _all_noise(source: Draw) -> Inputs:
    """alpha-bar ends at 0: nothing of the picture is left."""
    drawn = _batch(3, 4)(source)
    return {**drawn, "ab": torch.cat([drawn["ab"][:-1], torch.zeros(1)]), "t": torch.tensor([19, 3, 19])}


def _bright(source: Draw) -> Inputs:
    """Values far beyond 1, which a clipped answer loses."""
    drawn = _batch(4, 3)(source)
    return {**drawn, "x0": 30 * drawn["x0"], "eps": 30 * drawn["eps"]}


def _mix(x0: Tensor, eps: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
    return keep[:, None] * x0 + noise[:, None] * eps


def _no_roots(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, ab[t], 1 - ab[t])


def _noise_without_root(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, ab[t].sqrt(), 1 - ab[t])


def _picture_without_root(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, ab[t], (1 - ab[t]).sqrt())


def _one_minus_root(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, ab[t].sqrt(), 1 - ab[t].sqrt())


def _swapped(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, (1 - ab[t]).sqrt(), ab[t].sqrt())


def _alpha_of_the_step(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    alpha = ab / torch.cat([torch.ones_like(ab[:1]), ab[:-1]])
    return _mix(x0, eps, alpha[t].sqrt(), (1 - alpha[t]).sqrt())


def _accumulated_twice(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    again = ab.cumprod(0)
    return _mix(x0, eps, again[t].sqrt(), (1 - again[t]).sqrt())


def _one_step_early(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    before = ab[(t - 1).clamp(min=0)]
    return _mix(x0, eps, before.sqrt(), (1 - before).sqrt())


def _one_step_late(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    after = ab[(t + 1).clamp(max=len(ab) - 1)]
    return _mix(x0, eps, after.sqrt(), (1 - after).sqrt())


def _first_time_for_all(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return ab[t[0]].sqrt() * x0 + (1 - ab[t[0]]).sqrt() * eps


def _across_dimensions(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return ab[t].sqrt() * x0 + (1 - ab[t]).sqrt() * eps


def _picture_not_shrunk(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return x0 + (1 - ab[t]).sqrt()[:, None] * eps


def _noise_not_scaled(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return ab[t].sqrt()[:, None] * x0 + eps


def _subtracted(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, ab[t].sqrt(), -(1 - ab[t]).sqrt())


def _own_noise(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, torch.randn_like(x0), ab[t].sqrt(), (1 - ab[t]).sqrt())


def _mean_only(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return ab[t].sqrt()[:, None] * x0


def _in_place(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    keep, noise = ab[t].sqrt()[:, None], (1 - ab[t]).sqrt()[:, None]
    return x0.mul_(keep).add_(noise * eps)


def _clipped(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _mix(x0, eps, ab[t].sqrt(), (1 - ab[t]).sqrt()).clamp(-1, 1)


def _level_of_noise(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    level = (1 - ab).cumprod(0)[t]
    return _mix(x0, eps, level.sqrt(), (1 - level).sqrt())


q_sample = Exercise(
    reference.q_sample,
    requirements=(
        Requirement(
            "matches the formula",
            (
                Case("4 pictures of 3 numbers", _batch(4, 3)),
                Case("as many pictures as numbers in each", _batch(5, 5)),
                Case("a batch of one", _batch(1, 6)),
                Case("pictures of one number", _batch(6, 1)),
                Case("the first and the last time", _ends),
                Case("pictures in float64", _in_double),
                Case("a time at which nothing of the picture is left", _all_noise),
                Case("values far beyond 1", _bright),
                Case("9 pictures of 2 numbers", _batch(9, 2), shown=False),
            ),
            points=2,
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
            "You left out both square roots. alpha-bar is a share of variance; amplitudes are its roots.",
            _no_roots,
        ),
        Mistake(
            "The factor of the noise lacks its root: 1 - alpha-bar is a variance, its root the standard deviation.",
            _noise_without_root,
        ),
        Mistake("The factor of the picture lacks its root: it is sqrt(alpha-bar).", _picture_without_root),
        Mistake(
            "The factor of the noise is 1 - sqrt(alpha-bar). It has to be sqrt(1 - alpha-bar), so that variances add to 1.",
            _one_minus_root,
        ),
        Mistake(
            "You swapped the two factors: the picture gets sqrt(alpha-bar), the noise the other.", _swapped
        ),
        Mistake(
            "You used alpha_t of one step. ab holds alpha-bar, the product of all steps up to t: use it as it is.",
            _alpha_of_the_step,
        ),
        Mistake(
            "You multiplied ab once more. It holds products already; the element at t is what you need.",
            _accumulated_twice,
        ),
        Mistake("You look up time t - 1. ab[t] is the level after step t, counted from 0.", _one_step_early),
        Mistake("You look up time t + 1. ab[t] is the level after step t, counted from 0.", _one_step_late),
        Mistake("You use the first time for all pictures. Each picture has its own t.", _first_time_for_all),
        Mistake(
            "Your factors run along the numbers of a picture, not along the batch. Give them a last dimension: ab[t][:, None].",
            _across_dimensions,
        ),
        Mistake(
            "You add noise and do not shrink the picture. Multiply x0 by sqrt(alpha-bar).",
            _picture_not_shrunk,
        ),
        Mistake("You add the noise at full strength. Multiply it by sqrt(1 - alpha-bar).", _noise_not_scaled),
        Mistake("You subtract the noise. It is added; the network learns this sign.", _subtracted),
        Mistake(
            "You draw noise of your own. The noise comes in as eps: the loss compares with it later.",
            _own_noise,
        ),
        Mistake("You return the mean alone, without the noise eps.", _mean_only),
        Mistake("You write the noisy picture into x0. The caller still needs the clean one.", _in_place),
        Mistake(
            "You clip the result to [-1, 1]. A noisy picture is larger than that: clip nothing.", _clipped
        ),
        Mistake(
            "You treat ab as betas and compute alpha-bar from it. ab is alpha-bar already: look it up at t.",
            _level_of_noise,
        ),
    ),
)
