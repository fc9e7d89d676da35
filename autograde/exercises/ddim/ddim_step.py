"""The exercise ``ddim_step`` of the lesson ddim/02_ddim_derivation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import pair
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference


def _batch(batch: int, dim: int, eta: float) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        ab_t, ab_s = pair(source)
        return {
            "xt": source.normal(batch, dim),
            "eps": source.normal(batch, dim),
            "ab_t": ab_t,
            "ab_s": ab_s,
            "eta": eta,
            "noise": source.normal(batch, dim),
        }

    return draw


def _last(eta: float) -> Callable[[Draw], Inputs]:
    """The step to the clean picture."""
    return lambda source: {**_batch(4, 3, eta)(source), "ab_s": 1.0}


def _neighbours(source: Draw) -> Inputs:
    """A single step of a schedule, from one time to the one before."""
    drawn = _batch(4, 3, 1.0)(source)
    return {**drawn, "ab_s": drawn["ab_t"] / (1 - 0.05)}


def _strided(source: Draw) -> Inputs:
    drawn = _batch(6, 4, 0.7)(source)
    return {**drawn, "xt": source.normal(4, 6).t(), "eps": source.normal(12, 4)[::2]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4, 0.6)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _step(
    xt: Tensor,
    eps: Tensor,
    ab_t: float,
    ab_s: float,
    eta: float,
    noise: Tensor,
    *,
    fresh: str = "right",
    left: str = "right",
    picture: str = "right",
    direction: str = "eps",
    scale: str = "right",
    outer: str = "root",
) -> Tensor:
    """The step, with switches for what goes wrong."""
    unit = math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))
    sd = {
        "right": eta * unit,
        "eta squared": eta**2 * unit,
        "forward": eta * math.sqrt(1 - ab_t / ab_s),
        "none": 0.0,
        "always": unit,
        "variance": (eta * unit) ** 2,
    }[fresh]
    rest = {
        "right": 1 - ab_s - sd**2,
        "not subtracted": 1 - ab_s,
        "not squared": 1 - ab_s - sd,
        "of t": 1 - ab_t - sd**2,
        "no root": (1 - ab_s - sd**2) ** 2,
        "hat": 1 - ab_s - (eta * unit) ** 2,
    }[left]
    x0 = (xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    x0 = {"right": x0, "clipped": x0.clamp(-1, 1), "xt": xt, "not divided": x0 * math.sqrt(ab_t)}[picture]
    towards = {"eps": eps, "noise": noise, "xt": xt}[direction]
    factor = {"right": sd, "variance": sd**2, "one": 1.0 if ab_s < 1 else sd, "half": sd / 2}[scale]
    outside = {"root": math.sqrt(ab_s), "no root": ab_s, "of t": math.sqrt(ab_t), "none": 1.0}[outer]
    return outside * x0 + math.sqrt(max(rest, 0.0)) * towards + factor * noise


def _sigma_not_subtracted(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, left="not subtracted")


def _sigma_not_squared(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, left="not squared")


def _variance_times_noise(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, scale="variance")


def _eta_squared(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, fresh="eta squared")


def _forward_noise(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    """sigma-hat of the paper in both places; at the last step it adds noise to the finished picture."""
    return _step(xt, eps, ab_t, ab_s, eta, noise, fresh="forward")


def _sigma_hat(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, fresh="forward", left="hat")


def _no_noise(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, scale="half") * 0 + _step(
        xt, eps, ab_t, ab_s, eta, torch.zeros_like(noise)
    )


def _always_ddim(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, fresh="none")


def _always_ddpm(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, fresh="always")


def _noise_of_t(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, left="of t")


def _direction_without_root(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, left="no root")


def _clipped_picture(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, picture="clipped")


def _noisy_for_picture(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, picture="xt")


def _picture_not_divided(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, picture="not divided")


def _fresh_direction(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, direction="noise")


def _noisy_direction(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, direction="xt")


def _noise_not_scaled(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, scale="one")


def _picture_without_root(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, outer="no root")


def _picture_at_level_t(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, outer="of t")


def _picture_at_full_strength(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, noise, outer="none")


def _own_noise(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return _step(xt, eps, ab_t, ab_s, eta, torch.randn_like(noise))


def _deviations_subtracted(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    sd = reference.sigma(ab_t, ab_s, eta)
    x0 = reference.predict_x0(xt, eps, ab_t)
    return math.sqrt(ab_s) * x0 + (math.sqrt(1 - ab_s) - sd) * eps + sd * noise


def _share_of_all_noise(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    x0 = reference.predict_x0(xt, eps, ab_t)
    mixed = math.sqrt(1 - eta**2) * eps + eta * noise
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * mixed


def _direction_of_ddpm(
    xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor
) -> Tensor:
    ddpm = reference.ddim_step(xt, eps, ab_t, ab_s, 1.0, noise * 0)
    return ddpm + reference.sigma(ab_t, ab_s, eta) * noise


def _inputs_exchanged(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return reference.ddim_step(eps, xt, ab_t, ab_s, eta, noise)


def _noisy_at_the_end(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return reference.ddim_step(xt, eps, ab_t, ab_s, eta, noise) if ab_s < 1 else xt


def _detached_picture(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    x0 = reference.predict_x0(xt, eps, ab_t)
    return reference.ddim_step(xt, eps, ab_t, ab_s, eta, noise) + math.sqrt(ab_s) * (x0.detach() - x0)


def _in_place(xt: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    return xt.copy_(_step(xt.clone(), eps, ab_t, ab_s, eta, noise))


ddim_step = Exercise(
    reference.ddim_step,
    requirements=(
        Requirement(
            "any eta between 0 and 1",
            (
                Case("eta = 0.5, 4 pictures of 3 numbers", _batch(4, 3, 0.5)),
                Case("eta = 0: no fresh noise", _batch(5, 5, 0.0)),
                Case("eta = 1, a step over many", _batch(3, 4, 1.0)),
                Case("eta = 1, a single step of the schedule", _neighbours),
                Case("a batch of one", _batch(1, 6, 0.8)),
                Case("pictures in float64", _in_double),
                Case("eta = 0.3", _batch(7, 2, 0.3), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "the last step ends at the predicted picture",
            (
                Case("ab_s = 1, eta = 1", _last(1.0)),
                Case("ab_s = 1, eta = 0", _last(0.0)),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, eta = 0.5", _batch(4, 3, 0.5)),
                Case("gradients, inputs that are not contiguous", _strided),
                Case("gradients, 7 pictures", _batch(7, 5, 0.9), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "The direction keeps sqrt(1 - ab_s), and fresh noise comes on top: the variance is too large by sigma^2. Subtract it "
            "under the root.",
            _sigma_not_subtracted,
        ),
        Mistake("Under the root you subtract sigma. Variances add: subtract sigma^2.", _sigma_not_squared),
        Mistake(
            "You multiply the noise by sigma^2. sigma is its standard deviation already.",
            _variance_times_noise,
        ),
        Mistake("You squared eta. The standard deviation grows with eta itself.", _eta_squared),
        Mistake(
            "Your sigma is that of the way forward, sqrt(1 - ab_t / ab_s), which adds noise even to the finished picture. Multiply by "
            "the root of (1 - ab_s) / (1 - ab_t).",
            _forward_noise,
        ),
        Mistake(
            "Your direction is right, but the noise that you add is larger: its standard deviation has to be the same sigma.",
            _sigma_hat,
        ),
        Mistake(
            "You make room for fresh noise under the root, and then add none. Add sigma times noise.",
            _no_noise,
        ),
        Mistake("You ignore eta and add no noise: that is eta = 0.", _always_ddim),
        Mistake("You ignore eta: your step is the one of eta = 1.", _always_ddpm),
        Mistake("The direction has the noise level of t. Its variance is 1 - ab_s - sigma^2.", _noise_of_t),
        Mistake(
            "The factor of the direction lacks its root: sqrt(1 - ab_s - sigma^2).", _direction_without_root
        ),
        Mistake("You clip the predicted picture. Here nothing is clipped.", _clipped_picture),
        Mistake("You use x_t for the picture. Predict x0 from x_t and eps first.", _noisy_for_picture),
        Mistake("Your predicted picture is not divided by sqrt(ab_t).", _picture_not_divided),
        Mistake(
            "The direction uses fresh noise. It has to point along eps, the noise that is in x_t already.",
            _fresh_direction,
        ),
        Mistake("The direction is x_t. It has to be eps, the predicted noise.", _noisy_direction),
        Mistake("You add noise at full strength. Multiply it by sigma.", _noise_not_scaled),
        Mistake("The factor of the picture is sqrt(ab_s), not ab_s.", _picture_without_root),
        Mistake(
            "The factor of the picture is sqrt(ab_t). The step ends at s: sqrt(ab_s).", _picture_at_level_t
        ),
        Mistake("The picture enters at full strength. Its factor is sqrt(ab_s).", _picture_at_full_strength),
        Mistake("You draw noise of your own. Use the noise that comes in.", _own_noise),
        Mistake("You write the result into xt. The caller still needs it: return a new tensor.", _in_place),
        Mistake(
            "The direction has the factor sqrt(1 - ab_s) - sigma. Variances are subtracted, under the root: 1 - ab_s - sigma^2.",
            _deviations_subtracted,
        ),
        Mistake(
            "Your sigma is eta sqrt(1 - ab_s). That keeps the marginals too, but for eta = 1 it is not DDPM's: use your function sigma.",
            _share_of_all_noise,
        ),
        Mistake(
            "Only your fresh noise depends on eta, and the direction is that of eta = 1. Both need the same sigma.",
            _direction_of_ddpm,
        ),
        Mistake("You exchanged xt and eps. The noisy picture comes first.", _inputs_exchanged),
        Mistake(
            "At ab_s = 1 you return x_t. The last step ends at the predicted picture.", _noisy_at_the_end
        ),
        Mistake(
            "The values are right, but the predicted picture is detached, which changes the gradients.",
            _detached_picture,
        ),
    ),
)
