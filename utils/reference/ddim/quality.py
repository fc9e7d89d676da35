"""How far samples are from the data; the way back from a picture to its noise; the way between two noises."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def energy_distance(a: Float[Tensor, "N dim"], b: Float[Tensor, "M dim"]) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'|, each mean over pairs of different points (Székely and Rizzo 2013): unbiased."""
    exact = "donot_use_mm_for_euclid_dist"
    between = torch.cdist(a, b, compute_mode=exact).mean()
    within = [torch.cdist(x, x, compute_mode=exact).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * between - within[0] - within[1])


def ddim_invert(
    model: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[Tensor, Tensor, float, float], Tensor],
    x0: Float[Tensor, "batch dim"],
    times: Int[Tensor, "S"],
    ab: Float[Tensor, "T"],
) -> Float[Tensor, "batch dim"]:
    """From pictures to the noise that makes them: the ODE of the sampler, upwards. ``times`` descend, as for sampling.

    The model gets the time at which x is; the clean picture, which has none, counts as the lowest of the times.
    """
    x, level, now = x0, 1.0, times[-1]
    for t in times.flip(0):
        target = float(ab[t])
        x = step(x, model(x, now.expand(len(x))), level, target)
        level, now = target, t
    return x


def slerp(
    z0: Float[Tensor, "batch dim"], z1: Float[Tensor, "batch dim"], a: float
) -> Float[Tensor, "batch dim"]:
    """Along the arc from z0 (a = 0) to z1 (a = 1), row by row (Shoemake 1985); straight where the rows are nearly parallel."""
    cosine = torch.nn.functional.cosine_similarity(z0, z1, dim=1)[:, None]
    parallel = cosine > 1 - 5e-7
    angle = torch.where(parallel, 0.0, cosine).acos()  # acos has an infinite slope at 1
    first, second = ((share * angle).sin() / angle.sin() for share in (1 - a, a))
    return torch.where(parallel, (1 - a) * z0 + a * z1, first * z0 + second * z1)
