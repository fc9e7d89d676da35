"""The sampler on a part of the schedule (Song, Meng, Ermon 2020, arXiv 2010.02502, section 4.2), and a model that is exact."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sub_schedule(T: int, S: int) -> Int[Tensor, "S"]:
    """S times from T - 1 down to 0, evenly spaced and rounded down; T - 1 alone for S = 1."""
    if S == 1:
        return torch.tensor([T - 1])
    return torch.tensor([(T - 1) * (S - 1 - k) // (S - 1) for k in range(S)])


def ddim_sample(
    model: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[Tensor, Tensor, float, float, float, Tensor], Tensor],
    x_T: Float[Tensor, "batch dim"],
    times: Int[Tensor, "S"],
    ab: Float[Tensor, "T"],
    eta: float,
    noise: Float[Tensor, "S batch dim"],
) -> Float[Tensor, "batch dim"]:
    """From pure noise to clean pictures, one call of the model for each of the times; the last step ends at alpha-bar 1."""
    x, levels = x_T, [*ab[times].tolist(), 1.0]
    for k, t in enumerate(times):
        eps = model(x, t.expand(len(x)))
        x = step(x, eps, levels[k], levels[k + 1], eta, noise[k])
    return x


def gmm_eps(
    x: Float[Tensor, "batch dim"],
    ab_t: float,
    means: Float[Tensor, "K dim"],
    stds: Float[Tensor, "K"],
    weights: Float[Tensor, "K"],
) -> Float[Tensor, "batch dim"]:
    """The expected noise in x at a noise level, for a mixture of round Gaussians: -sqrt(1 - ab) times the score."""
    var = ab_t * stds**2 + 1 - ab_t
    away = x[:, None] - math.sqrt(ab_t) * means
    log_p = weights.log() - 0.5 * x.shape[1] * var.log() - away.square().sum(-1) / (2 * var)
    return math.sqrt(1 - ab_t) * (log_p.softmax(1)[..., None] * away / var[:, None]).sum(1)
