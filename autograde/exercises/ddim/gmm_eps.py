"""The exercise ``gmm_eps`` of the lesson ddim/03_sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.exercises.ddim.inputs import number
from autograde.nests import map_floats
from autograde.observe import Inputs, Observation
from autograde.probes import gradients
from autograde.values import SeenTensor, leaves
from utils.reference import ddim as reference


def _mixture(batch: int, dim: int, K: int, low: float = 0.3, high: float = 0.8) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        weights = source.uniform(K, low=0.5, high=3.0)
        return {
            "x": source.normal(batch, dim),
            "ab_t": number(source, low, high),
            "means": source.normal(K, dim),
            "stds": source.uniform(K, low=0.3, high=1.2),
            "weights": weights / weights.sum(),
        }

    return draw


def _far(source: Draw) -> Inputs:
    """So far away that the density of every component is 0 in float32; each point has one component that is much nearer."""
    drawn = _mixture(4, 2, 3)(source)
    far = torch.tensor([[64.0, 0.0], [-64.0, 2.0], [64.0, -1.0], [-60.0, 0.5]]) + 0.25 * drawn["x"]
    means = torch.tensor([[8.0, 0.0], [-8.0, 0.0], [0.0, 1.0]])
    return {**drawn, "x": far, "ab_t": 0.5, "means": means, "stds": torch.tensor([0.5, 0.5, 0.25])}


def _narrow(source: Draw) -> Inputs:
    """Little noise and narrow components: each point near one of them, with variances below 0.01."""
    drawn = _mixture(5, 2, 3)(source)
    means = torch.tensor([[0.25, 0.0], [-0.25, 0.125], [0.0, -0.25]])
    x = means[torch.tensor([0, 1, 2, 1, 0])] + 0.04 * drawn["x"]
    return {**drawn, "x": x, "ab_t": 0.995, "means": means, "stds": 0.05 * drawn["stds"]}


def _clean(source: Draw) -> Inputs:
    return {**_mixture(4, 3, 3)(source), "ab_t": 1.0}


def _strided(source: Draw) -> Inputs:
    return {
        **_mixture(6, 4, 3)(source),
        "x": source.normal(4, 6).t(),
        "means": source.normal(6, 4)[::2],
    }


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_mixture(5, 3, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _solve(
    x: Tensor,
    ab_t: float,
    means: Tensor,
    stds: Tensor,
    weights: Tensor,
    *,
    centre: str = "shrunk",
    spread: str = "right",
    log_p: str = "right",
    factor: str = "right",
    share: str = "components",
    divided: bool = True,
    sign: float = 1.0,
) -> Tensor:
    """The expected noise, with switches for what goes wrong."""
    mu = {"shrunk": math.sqrt(ab_t) * means, "full": means, "squared": ab_t * means}[centre]
    var = {
        "right": ab_t * stds**2 + 1 - ab_t,
        "no noise": ab_t * stds**2 + 1e-9,
        "noise alone": (1 - ab_t) * torch.ones_like(stds) + 1e-6,
        "not shrunk": stds**2 + 1 - ab_t,
        "deviation": ab_t * stds + 1 - ab_t,
        "deviations added": (math.sqrt(ab_t) * stds + math.sqrt(1 - ab_t)) ** 2,
    }[spread]
    away = x[:, None] - mu
    square = away.square().sum(-1)
    dim = x.shape[1]
    logits = {
        "right": weights.log() - 0.5 * dim * var.log() - square / (2 * var),
        "no weights": -0.5 * dim * var.log() - square / (2 * var),
        "no volume": weights.log() - square / (2 * var),
        "volume of one": weights.log() - 0.5 * var.log() - square / (2 * var),
        "no half": weights.log() - 0.5 * dim * var.log() - square / var,
        "distance": weights.log() - 0.5 * dim * var.log() - (square + 1e-12).sqrt() / (2 * var),
        "prior": weights.log().expand(square.shape),
    }[log_p]
    if share == "components":
        r = logits.softmax(1)
    elif share == "batch":
        r = logits.softmax(0)
    elif share == "largest":
        r = torch.nn.functional.one_hot(logits.argmax(1), len(weights)).to(x)
    else:
        p = logits.exp()
        r = p / p.sum(1, keepdim=True)
    outer = {
        "right": math.sqrt(1 - ab_t),
        "none": 1.0,
        "no root": 1 - ab_t,
        "inverse": 1 / max(math.sqrt(1 - ab_t), 1e-3),
        "signal": math.sqrt(ab_t),
    }[factor]
    inner = away / var[:, None] if divided else away
    return sign * outer * (r[..., None] * inner).sum(1)


def _score(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, factor="none", sign=-1.0)


def _variance_floored(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var = (ab_t * stds**2 + 1 - ab_t).clamp(min=1e-2)
    away = x[:, None] - math.sqrt(ab_t) * means
    log_p = weights.log() - 0.5 * x.shape[1] * var.log() - away.square().sum(-1) / (2 * var)
    return math.sqrt(1 - ab_t) * (log_p.softmax(1)[..., None] * away / var[:, None]).sum(1)


def _sign(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, sign=-1.0)


def _factor_missing(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, factor="none")


def _factor_without_root(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, factor="no root")


def _factor_divided(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, factor="inverse")


def _factor_of_signal(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, factor="signal")


def _means_not_shrunk(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, centre="full")


def _means_by_level(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, centre="squared")


def _noise_missing(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, spread="no noise")


def _points_for_components(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, spread="noise alone")


def _spread_not_shrunk(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, spread="not shrunk")


def _deviation_for_variance(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, spread="deviation")


def _deviations_added(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, spread="deviations added")


def _weights_missing(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, log_p="no weights")


def _volume_missing(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, log_p="no volume")


def _volume_of_one(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, log_p="volume of one")


def _half_missing(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, log_p="no half")


def _distance_not_squared(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, log_p="distance")


def _weights_for_shares(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, log_p="prior")


def _over_the_batch(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, share="batch")


def _nearest_only(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, share="largest")


def _underflows(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x.float(), ab_t, means.float(), stds.float(), weights.float(), share="exp").to(x.dtype)


def _not_divided(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return _solve(x, ab_t, means, stds, weights, divided=False)


def _by_the_picture(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    """The expected picture first; its noise is 0 / 0 where nothing was added."""
    eps = reference.gmm_eps(x, ab_t, means, stds, weights)
    picture = (x - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    nothing = torch.full_like(x, float("nan")) if ab_t == 1 else torch.zeros_like(x)
    return (x - math.sqrt(ab_t) * picture) / math.sqrt(max(1 - ab_t, 1e-9)) + nothing


def _infinite_without_noise(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Infinity or NaN in the case without noise, and in no other."""
    finite = {
        case: bool(leaf.data.isfinite().all())
        for (_, case), one in observed.items()
        if one.raised is None
        for _, leaf in leaves(one.value)
        if isinstance(leaf, SeenTensor)
    }
    return not finite.pop("no noise, ab_t = 1") and all(finite.values())


def _added_below(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var = ab_t * stds**2 + 1 - ab_t
    away = x[:, None] - math.sqrt(ab_t) * means
    p = (weights.log() - 0.5 * x.shape[1] * var.log() - away.square().sum(-1) / (2 * var)).float().exp()
    shares = (p / (p.sum(1, keepdim=True) + 1e-12)).to(x)
    return math.sqrt(1 - ab_t) * (shares[..., None] * away / var[:, None]).sum(1)


def _deviation_divides(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, shares = _parts(x, ab_t, means, stds, weights)
    return math.sqrt(1 - ab_t) * (shares[..., None] * away / var.sqrt()[:, None]).sum(1)


def _averages_first(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, shares = _parts(x, ab_t, means, stds, weights)
    return math.sqrt(1 - ab_t) * (shares[..., None] * away).sum(1) / (shares @ var)[:, None]


def _mean_over_components(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, shares = _parts(x, ab_t, means, stds, weights)
    return math.sqrt(1 - ab_t) * (shares[..., None] * away / var[:, None]).mean(1)


def _weights_without_logarithm(
    x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor
) -> Tensor:
    return reference.gmm_eps(x, ab_t, means, stds, weights.exp())


def _weights_after_softmax(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, shares = _parts(x, ab_t, means, stds, torch.ones_like(weights))
    return math.sqrt(1 - ab_t) * ((shares * weights)[..., None] * away / var[:, None]).sum(1)


def _mean_square_distance(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, _ = _parts(x, ab_t, means, stds, weights)
    logits = weights.log() - 0.5 * x.shape[1] * var.log() - away.square().mean(-1) / (2 * var)
    return math.sqrt(1 - ab_t) * (logits.softmax(1)[..., None] * away / var[:, None]).sum(1)


def _shares_per_dimension(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, _ = _parts(x, ab_t, means, stds, weights)
    logits = (weights.log() - 0.5 * var.log())[:, None] - away.square() / (2 * var[:, None])
    return math.sqrt(1 - ab_t) * (logits.softmax(1) * away / var[:, None]).sum(1)


def _number_of_components(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var, away, _ = _parts(x, ab_t, means, stds, weights)
    logits = weights.log() - 0.5 * len(means) * var.log() - away.square().sum(-1) / (2 * var)
    return math.sqrt(1 - ab_t) * (logits.softmax(1)[..., None] * away / var[:, None]).sum(1)


def _parts(
    x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Variances, differences and shares."""
    var = ab_t * stds**2 + 1 - ab_t
    away = x[:, None] - math.sqrt(ab_t) * means
    logits = weights.log() - 0.5 * x.shape[1] * var.log() - away.square().sum(-1) / (2 * var)
    return var, away, logits.softmax(1)


def _detached_shares(x: Tensor, ab_t: float, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    var = ab_t * stds**2 + 1 - ab_t
    away = x[:, None] - math.sqrt(ab_t) * means
    logits = weights.log() - 0.5 * x.shape[1] * var.log() - away.square().sum(-1) / (2 * var)
    return math.sqrt(1 - ab_t) * (logits.softmax(1).detach()[..., None] * away / var[:, None]).sum(1)


def _nan_far_away(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """NaN in the far points, and in no others."""
    nan = {
        case: bool(leaf.data.isnan().any())
        for (_, case), one in observed.items()
        if one.raised is None
        for _, leaf in leaves(one.value)
        if isinstance(leaf, SeenTensor)
    }
    return nan.pop(_FAR) and not any(nan.values())


_EDGES, _FAR = "far away, and without noise", "points 60 away from the origin"

gmm_eps = Exercise(
    reference.gmm_eps,
    requirements=(
        Requirement(
            "the expected noise",
            (
                Case("5 points in the plane, 3 components", _mixture(5, 2, 3)),
                Case("as many points as components as dimensions", _mixture(4, 4, 4)),
                Case("a batch of one", _mixture(1, 3, 5)),
                Case("a single component", _mixture(6, 2, 1)),
                Case("nearly all noise", _mixture(5, 2, 4, 0.02, 0.05)),
                Case("points in float64", _in_double),
                Case("7 points of 5 numbers, 2 components", _mixture(7, 5, 2), shown=False),
            ),
            points=3,
        ),
        Requirement(
            _EDGES,
            (
                Case(_FAR, _far),
                Case("no noise, ab_t = 1", _clean),
                Case("little noise, narrow components", _narrow),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 points", _mixture(4, 2, 3)),
                Case("gradients, inputs that are not contiguous", _strided),
                Case("gradients, 6 points of 3 numbers", _mixture(6, 3, 4), shown=False),
            ),
            gradients,
            tolerance=Tolerance(
                4.0,
                "The terms of a gradient cancel; added in another order in float32 they were up to 9 units away.",
            ),
        ),
    ),
    mistakes=(
        Mistake("You return the score. The noise is -sqrt(1 - ab_t) times the score.", _score),
        Mistake("Your sign is turned: the score points towards the data, the noise away from it.", _sign),
        Mistake("The factor sqrt(1 - ab_t) is missing.", _factor_missing),
        Mistake("The factor of the score is the root, sqrt(1 - ab_t).", _factor_without_root),
        Mistake(
            "You divide by sqrt(1 - ab_t). Multiply by it: the score is -eps / sqrt(1 - ab_t).",
            _factor_divided,
        ),
        Mistake("The factor of the score is sqrt(1 - ab_t), not sqrt(ab_t).", _factor_of_signal),
        Mistake(
            "Your means are those of the clean data. At time t they have shrunk to sqrt(ab_t) mu_k.",
            _means_not_shrunk,
        ),
        Mistake("Your means shrink by ab_t. Amplitudes shrink by its root.", _means_by_level),
        Mistake("Your variance lacks the noise that was added: ab_t stds^2 + 1 - ab_t.", _noise_missing),
        Mistake(
            "Your variance is 1 - ab_t alone, as if each component were a point. Add ab_t stds^2.",
            _points_for_components,
        ),
        Mistake("The components' own variance shrinks too: ab_t stds^2 + 1 - ab_t.", _spread_not_shrunk),
        Mistake("You use stds for a variance. Square it.", _deviation_for_variance),
        Mistake("You add standard deviations. Variances of independent parts add.", _deviations_added),
        Mistake(
            "The responsibilities ignore the weights of the components: add their logarithms.",
            _weights_missing,
        ),
        Mistake(
            "The responsibilities lack the volume: a wide Gaussian is lower. Add -(D / 2) log var_k.",
            _volume_missing,
        ),
        Mistake("The volume of a Gaussian in D dimensions is var^(D/2). You have D = 1.", _volume_of_one),
        Mistake(
            "The exponent is the squared distance divided by 2 var_k. You left out the 2.", _half_missing
        ),
        Mistake("The exponent needs the squared distance. You took its root.", _distance_not_squared),
        Mistake(
            "You average with the weights alone. At x the components have other shares: weight times density.",
            _weights_for_shares,
        ),
        Mistake(
            "Your softmax runs over the points. For each point, the shares of the components add to 1.",
            _over_the_batch,
        ),
        Mistake("You take the nearest component alone. All take part, each with its share.", _nearest_only),
        Mistake(
            "Far from all components your densities underflow to 0, and 0 / 0 is NaN. Work with logarithms and a softmax.",
            _underflows,
            recognise=_nan_far_away,
        ),
        Mistake("You did not divide x - mean by the variance of its component.", _not_divided),
        Mistake(
            "The values are right, but the shares are detached, which changes the gradients.",
            _detached_shares,
        ),
        Mistake(
            "You divide by sqrt(1 - ab_t), which is 0 where no noise was added. Write the noise with that root as a factor.",
            _by_the_picture,
            recognise=_infinite_without_noise,
        ),
        Mistake(
            "Far from all components your densities underflow to 0, and a small number below the fraction makes all shares 0. Work "
            "with logarithms and a softmax.",
            _added_below,
        ),
        Mistake(
            "You divide x - mean by a standard deviation. The score of a Gaussian divides by its variance.",
            _deviation_divides,
        ),
        Mistake(
            "You average differences and variances apart, then divide. Divide each difference by its own variance first.",
            _averages_first,
        ),
        Mistake(
            "You take the mean over the components. The shares add to 1 already: add up.",
            _mean_over_components,
        ),
        Mistake(
            "You add the weights themselves to the logits. Add their logarithms.", _weights_without_logarithm
        ),
        Mistake(
            "You multiply by the weights after the softmax, and the shares no longer add to 1. Add log weights before it.",
            _weights_after_softmax,
        ),
        Mistake(
            "You average the squared differences. The exponent needs their sum over the dimensions.",
            _mean_square_distance,
        ),
        Mistake(
            "You compute shares for each dimension apart. A point has one share per component: add squares over the dimensions first.",
            _shares_per_dimension,
        ),
        Mistake(
            "In the volume you use the number of components. It is the number of dimensions, x.shape[1].",
            _number_of_components,
        ),
        Mistake(
            "You keep the variance from getting small. With little noise and narrow components it is small: use ab s^2 + 1 - ab as it is.",
            _variance_floored,
        ),
    ),
)
