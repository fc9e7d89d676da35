"""Denoising diffusion implicit models (Song, Meng, Ermon 2020, arXiv 2010.02502): the family of steps, and its ODE.

``ab_t`` and ``ab_s`` are numbers: alpha-bar where a step starts and where it ends. 1 is the clean picture.
"""

import math

from jaxtyping import Float
from torch import Tensor


def predict_x0(
    xt: Float[Tensor, "batch dim"], eps: Float[Tensor, "batch dim"], ab_t: float
) -> Float[Tensor, "batch dim"]:
    """The clean picture that a noise prediction implies (equation 9)."""
    return (xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)


def sigma(ab_t: float, ab_s: float, eta: float) -> float:
    """Standard deviation of the fresh noise in a step from t to s (equation 16). eta = 1 is DDPM's, eta = 0 has none."""
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))


def ddim_step(
    xt: Float[Tensor, "batch dim"],
    eps: Float[Tensor, "batch dim"],
    ab_t: float,
    ab_s: float,
    eta: float,
    noise: Float[Tensor, "batch dim"],
) -> Float[Tensor, "batch dim"]:
    """One step of the family (equation 12): predicted picture, direction back to x_t, fresh noise."""
    fresh = sigma(ab_t, ab_s, eta)
    direction = math.sqrt(max(1 - ab_s - fresh**2, 0.0))
    return math.sqrt(ab_s) * predict_x0(xt, eps, ab_t) + direction * eps + fresh * noise


def marginal_moments(
    x0: Float[Tensor, "dim"], mean_t: Float[Tensor, "dim"], var_t: float, ab_t: float, ab_s: float, sd: float
) -> tuple[Float[Tensor, "dim"], float]:
    """Mean and variance of x_s given x_0 when x_t has these ones and x_s is drawn from q_sigma(x_s | x_t, x_0) (equation 7)."""
    slope = math.sqrt(max(1 - ab_s - sd**2, 0.0) / (1 - ab_t))
    mean_s = math.sqrt(ab_s) * x0 + slope * (mean_t - math.sqrt(ab_t) * x0)
    return mean_s, slope**2 * var_t + sd**2


def ode_step(
    xt: Float[Tensor, "batch dim"], eps: Float[Tensor, "batch dim"], ab_t: float, ab_s: float
) -> Float[Tensor, "batch dim"]:
    """An Euler step of d(x / sqrt(ab)) = eps dr with r = sqrt((1 - ab) / ab), in either direction (equations 13 and 14)."""
    r_t, r_s = (math.sqrt((1 - ab) / ab) for ab in (ab_t, ab_s))
    return math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (r_s - r_t) * eps)
