"""Denoising diffusion (Ho, Jain, Abbeel 2020, arXiv 2006.11239): forward process, posterior and loss. Times run from 0 to T - 1."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def alpha_bar(betas: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """Share of the data's variance that is left after each step: the product of 1 - beta up to it (section 2)."""
    return (1 - betas).cumprod(0)


def q_sample(
    x0: Float[Tensor, "batch dim"],
    t: Int[Tensor, "batch"],
    eps: Float[Tensor, "batch dim"],
    ab: Float[Tensor, "T"],
) -> Float[Tensor, "batch dim"]:
    """The noisy picture at time t, in one jump (equation 4): sqrt(ab_t) x0 + sqrt(1 - ab_t) eps."""
    ab_t = ab[t][:, None]
    return ab_t.sqrt() * x0 + (1 - ab_t).sqrt() * eps


def posterior(
    x0: Float[Tensor, "batch dim"],
    xt: Float[Tensor, "batch dim"],
    t: Int[Tensor, "batch"],
    betas: Float[Tensor, "T"],
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch"]]:
    """Mean and variance of q(x_{t-1} | x_t, x_0) (equations 6 and 7). Before time 0 nothing is noisy: alpha-bar is 1."""
    ab = alpha_bar(betas)
    before = torch.cat([torch.ones_like(ab[:1]), ab[:-1]])[t]
    beta, now = betas[t], ab[t]
    from_x0 = before.sqrt() * beta / (1 - now)
    from_xt = (1 - beta).sqrt() * (1 - before) / (1 - now)
    return from_x0[:, None] * x0 + from_xt[:, None] * xt, (1 - before) / (1 - now) * beta


def eps_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    x0: Float[Tensor, "batch dim"],
    t: Int[Tensor, "batch"],
    eps: Float[Tensor, "batch dim"],
    ab: Float[Tensor, "T"],
) -> Float[Tensor, ""]:
    """The mean squared error of the predicted noise (equation 14, divided by the number of dimensions)."""
    return (model(q_sample(x0, t, eps, ab), t) - eps).square().mean()
