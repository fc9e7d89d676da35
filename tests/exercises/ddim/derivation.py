"""Right answers in other styles, and lazy ones, for the exercises of ddim/02_ddim_derivation."""

import math

import numpy as np
import torch


def predict_x0_two_terms(xt, eps, ab_t):
    return xt / ab_t**0.5 - eps * (1 / ab_t - 1) ** 0.5


def predict_x0_tensors(xt, eps, ab_t):
    ab = torch.tensor(ab_t, dtype=torch.float64, device=xt.device)
    return ((xt - torch.sqrt(1 - ab) * eps) / torch.sqrt(ab)).to(xt.dtype)


def predict_x0_rows(xt, eps, ab_t):
    return torch.stack([(x - np.sqrt(1 - ab_t) * e) / np.sqrt(ab_t) for x, e in zip(xt, eps, strict=True)])


def sigma_two_roots(ab_t, ab_s, eta):
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)


def sigma_by_beta(ab_t, ab_s, eta):
    beta = (ab_s - ab_t) / ab_s
    return eta * ((1 - ab_s) * beta / (1 - ab_t)) ** 0.5


def sigma_in_numpy(ab_t, ab_s, eta):
    return np.float64(eta) * np.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))


def sigma_in_tensors(ab_t, ab_s, eta):
    t, s = torch.tensor([ab_t, ab_s], dtype=torch.float64)
    return eta * torch.sqrt((1 - s) / (1 - t) * (1 - t / s))


def ddim_step_linear(xt, eps, ab_t, ab_s, eta, noise):
    sd = sigma_two_roots(ab_t, ab_s, eta)
    keep = math.sqrt(ab_s / ab_t)
    return keep * xt + (max(1 - ab_s - sd * sd, 0) ** 0.5 - keep * math.sqrt(1 - ab_t)) * eps + sd * noise


def ddim_step_addcmul(x, e, a, b, eta, z):
    var = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    x0 = x.sub(e, alpha=(1 - a) ** 0.5).div(a**0.5)
    print("a print is not an error")
    return x0.mul(b**0.5).add(e, alpha=max(1 - b - var, 0) ** 0.5).add(z, alpha=var**0.5)


def ddim_step_by_posterior(xt, eps, ab_t, ab_s, eta, noise):
    sd = eta * math.sqrt((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s))
    x0 = predict_x0_two_terms(xt, eps, ab_t)
    slope = math.sqrt(max(1 - ab_s - sd**2, 0.0)) / math.sqrt(1 - ab_t)
    return ab_s**0.5 * x0 + slope * (xt - ab_t**0.5 * x0) + sd * noise


def marginal_moments_expanded(x0, mean_t, var_t, ab_t, ab_s, sigma):
    left = (1 - ab_s - sigma**2) / (1 - ab_t)
    return (ab_s**0.5 - (left * ab_t) ** 0.5) * x0 + left**0.5 * mean_t, left * var_t + sigma * sigma


def marginal_moments_linear(x0, mean_t, var_t, ab_t, ab_s, sigma):
    def draw(x, z):
        back = math.sqrt(1 - ab_s - sigma**2) * (x - math.sqrt(ab_t) * x0) / math.sqrt(1 - ab_t)
        return math.sqrt(ab_s) * x0 + back + sigma * z

    centre = draw(mean_t, torch.zeros_like(mean_t))
    slope = math.sqrt(1 - ab_s - sigma**2) / math.sqrt(1 - ab_t)
    return [centre, np.float64(slope**2 * var_t + sigma**2)]


def ode_step_as_ddim(xt, eps, ab_t, ab_s):
    x0 = (xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps


def ode_step_factors(xt, eps, ab_t, ab_s):
    return (ab_s / ab_t) ** 0.5 * xt + ((1 - ab_s) ** 0.5 - (ab_s * (1 - ab_t) / ab_t) ** 0.5) * eps


RIGHT = {
    "predict_x0": [predict_x0_two_terms, predict_x0_tensors, predict_x0_rows],
    "sigma": [sigma_two_roots, sigma_by_beta, sigma_in_numpy, sigma_in_tensors],
    "ddim_step": [ddim_step_linear, ddim_step_addcmul, ddim_step_by_posterior],
    "marginal_moments": [marginal_moments_expanded, marginal_moments_linear],
    "ode_step": [ode_step_as_ddim, ode_step_factors],
}

LAZY = {
    "predict_x0": [
        lambda xt, eps, ab_t: xt,
        lambda xt, eps, ab_t: torch.zeros_like(xt),
        lambda xt, eps, ab_t: None,
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps, ab_t).detach(),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt.bfloat16(), eps.bfloat16(), ab_t).to(xt.dtype),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt.float(), eps.float(), ab_t),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps, ab_t).clamp(-5, 5),
    ],
    "sigma": [
        lambda ab_t, ab_s, eta: 0.0,
        lambda ab_t, ab_s, eta: eta,
        lambda ab_t, ab_s, eta: None,
        lambda ab_t, ab_s, eta: round(sigma_two_roots(ab_t, ab_s, eta), 3),
        lambda ab_t, ab_s, eta: sigma_two_roots(ab_t, ab_s, 1.0) * (eta > 0),
    ],
    "ddim_step": [
        lambda xt, eps, ab_t, ab_s, eta, noise: xt,
        lambda xt, eps, ab_t, ab_s, eta, noise: torch.zeros_like(xt),
        lambda xt, eps, ab_t, ab_s, eta, noise: predict_x0_two_terms(xt, eps, ab_t),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, ab_s, round(eta), noise),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, ab_s, eta, noise).detach(),
    ],
    "marginal_moments": [
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: (mean_t, var_t),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: (ab_s**0.5 * x0, var_t),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: None,
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: (torch.zeros_like(x0), 0.0),
    ],
    "ode_step": [
        lambda xt, eps, ab_t, ab_s: xt,
        lambda xt, eps, ab_t, ab_s: torch.zeros_like(xt),
        lambda xt, eps, ab_t, ab_s: ddim_step_linear(xt, eps, ab_t, ab_s, 1.0, torch.zeros_like(xt)),
        lambda xt, eps, ab_t, ab_s: ode_step_factors(xt, eps, min(ab_t, ab_s), max(ab_t, ab_s)),
    ],
}  # fmt: skip
