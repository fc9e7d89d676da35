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


def predict_x0_numbers(xt, eps, ab_t):
    keep, noise = math.sqrt(ab_t), math.sqrt(1 - ab_t)
    pairs = (zip(x, e, strict=True) for x, e in zip(xt, eps, strict=True))
    return torch.stack([torch.stack([(p - noise * q) / keep for p, q in row]) for row in pairs])


def predict_x0_single(xt, eps, ab_t):
    level = torch.tensor(ab_t)
    return torch.sub(xt, (1 - level).sqrt() * eps).mul(level.rsqrt())


def sigma_single(ab_t, ab_s, eta):
    t, s = torch.tensor(ab_t), torch.tensor(ab_s)
    return eta * ((1 - s) / (1 - t)).sqrt() * (1 - t / s).sqrt()


def sigma_by_precisions(ab_t, ab_s, eta):
    if ab_s == 1 or eta == 0:
        return 0
    step = ab_t / ab_s
    return eta / math.sqrt(step / (1 - step) + 1 / (1 - ab_s))


def ddim_step_single(xt, eps, ab_t, ab_s, eta, noise):
    a, b = torch.tensor(ab_t), torch.tensor(ab_s)
    var = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    x0 = (xt - (1 - a).sqrt() * eps) / a.sqrt()
    return b.sqrt() * x0 + (1 - b - var).clamp(min=0).sqrt() * eps + var.sqrt() * noise


def ddim_step_by_cases(xt, eps, ab_t, ab_s, eta, noise):
    x0 = predict_x0_two_terms(xt, eps, ab_t)
    if ab_s == 1:
        return x0
    room = (1 - ab_s) * (1 - eta**2 * (1 - ab_t / ab_s) / (1 - ab_t))
    return ab_s**0.5 * x0 + room**0.5 * eps + (1 - ab_s - room) ** 0.5 * noise


def ddim_step_einsum(xt, eps, ab_t, ab_s, eta, noise):
    sd, keep = sigma_two_roots(ab_t, ab_s, eta), (ab_s / ab_t) ** 0.5
    factors = [keep, (1 - ab_s - sd**2) ** 0.5 - keep * (1 - ab_t) ** 0.5, sd]
    terms = torch.stack([xt, eps, noise]).double()
    return torch.einsum("k,kbd->bd", torch.tensor(factors, dtype=torch.float64), terms).to(xt.dtype)


def marginal_moments_single(x0, mean_t, var_t, ab_t, ab_s, sd):
    k = torch.sqrt(torch.tensor((1 - ab_s - sd * sd) / (1 - ab_t)))
    return ab_s**0.5 * x0 + k * (mean_t - ab_t**0.5 * x0), k**2 * torch.tensor(var_t) + sd**2


def marginal_moments_numbers(x0, mean_t, var_t, ab_t, ab_s, sd):
    left = 1 - ab_s - sd**2
    shift = [m - math.sqrt(ab_t) * x for x, m in zip(x0, mean_t, strict=True)]
    mean = [math.sqrt(ab_s) * x + math.sqrt(left / (1 - ab_t)) * d for x, d in zip(x0, shift, strict=True)]
    return [torch.stack(mean), np.float32(left * var_t / (1 - ab_t) + sd**2)]


def ode_step_angles(xt, eps, ab_t, ab_s):
    """sqrt(ab) is the cosine of an angle, and r its tangent."""
    t, s = math.acos(math.sqrt(ab_t)), math.acos(math.sqrt(ab_s))
    return math.cos(s) * (xt / math.cos(t) + (math.tan(s) - math.tan(t)) * eps)


def ode_step_ratios(xt, eps, ab_t, ab_s):
    r_t, r_s = (1 / ab_t - 1) ** 0.5, (1 / ab_s - 1) ** 0.5
    return ((xt.double() * math.sqrt(1 + r_t**2) + (r_s - r_t) * eps) / math.sqrt(1 + r_s**2)).to(xt.dtype)


def ode_step_in_two(xt, eps, ab_t, ab_s):
    """With one eps, two steps are one."""
    half = (ab_t + ab_s) / 2
    return ode_step_factors(ode_step_factors(xt, eps, ab_t, half), eps, half, ab_s)


RIGHT = {
    "predict_x0": [
        predict_x0_two_terms,
        predict_x0_tensors,
        predict_x0_rows,
        predict_x0_numbers,
        predict_x0_single,
    ],
    "sigma": [
        sigma_two_roots,
        sigma_by_beta,
        sigma_in_numpy,
        sigma_in_tensors,
        sigma_single,
        sigma_by_precisions,
    ],
    "ddim_step": [
        ddim_step_linear,
        ddim_step_addcmul,
        ddim_step_by_posterior,
        ddim_step_single,
        ddim_step_by_cases,
        ddim_step_einsum,
    ],
    "marginal_moments": [
        marginal_moments_expanded,
        marginal_moments_linear,
        marginal_moments_single,
        marginal_moments_numbers,
    ],
    "ode_step": [ode_step_as_ddim, ode_step_factors, ode_step_angles, ode_step_ratios, ode_step_in_two],
}

LAZY = {
    "predict_x0": [
        lambda xt, eps, ab_t: xt,
        lambda xt, eps, ab_t: torch.zeros_like(xt),
        lambda xt, eps, ab_t: None,
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps, max(ab_t, 0.01)),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps, min(ab_t, 0.9999)),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps[:1], ab_t),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps, ab_t).detach(),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt.bfloat16(), eps.bfloat16(), ab_t).to(xt.dtype),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt.float(), eps.float(), ab_t),
        lambda xt, eps, ab_t: predict_x0_two_terms(xt, eps, ab_t).clamp(-5, 5),
    ],
    "sigma": [
        lambda ab_t, ab_s, eta: 0.0,
        lambda ab_t, ab_s, eta: eta,
        lambda ab_t, ab_s, eta: None,
        lambda ab_t, ab_s, eta: max(sigma_two_roots(ab_t, ab_s, eta), 1e-5),
        lambda ab_t, ab_s, eta: sigma_two_roots(ab_t, ab_s, int(eta)),
        lambda ab_t, ab_s, eta: float(torch.tensor(sigma_two_roots(ab_t, ab_s, eta)).half()),
        lambda ab_t, ab_s, eta: round(sigma_two_roots(ab_t, ab_s, eta), 3),
        lambda ab_t, ab_s, eta: sigma_two_roots(ab_t, ab_s, 1.0) * (eta > 0),
    ],
    "ddim_step": [
        lambda xt, eps, ab_t, ab_s, eta, noise: xt,
        lambda xt, eps, ab_t, ab_s, eta, noise: torch.zeros_like(xt),
        lambda xt, eps, ab_t, ab_s, eta, noise: predict_x0_two_terms(xt, eps, ab_t),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, ab_s, eta, noise[:1]),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, ab_s, eta, -noise),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, min(ab_s, 1 - 1e-4), eta, noise),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, ab_s, round(eta), noise),
        lambda xt, eps, ab_t, ab_s, eta, noise: ddim_step_linear(xt, eps, ab_t, ab_s, eta, noise).detach(),
    ],
    "marginal_moments": [
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: (mean_t, var_t),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: (ab_s**0.5 * x0, var_t),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: None,
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: marginal_moments_expanded(x0, mean_t, max(var_t, 1e-4), ab_t, ab_s, sigma),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: marginal_moments_expanded(x0, mean_t, var_t, ab_t, ab_s, min(sigma, 0.5)),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: marginal_moments_expanded(x0, mean_t.mean(), var_t, ab_t, ab_s, sigma),
        lambda x0, mean_t, var_t, ab_t, ab_s, sigma: (torch.zeros_like(x0), 0.0),
    ],
    "ode_step": [
        lambda xt, eps, ab_t, ab_s: xt,
        lambda xt, eps, ab_t, ab_s: ode_step_factors(xt, eps, ab_t, min(ab_s, 0.999)),
        lambda xt, eps, ab_t, ab_s: ode_step_factors(xt, eps, ab_t, ab_s).clamp(-3, 3),
        lambda xt, eps, ab_t, ab_s: ode_step_factors(xt, eps, ab_t, 1.0),
        lambda xt, eps, ab_t, ab_s: torch.zeros_like(xt),
        lambda xt, eps, ab_t, ab_s: ddim_step_linear(xt, eps, ab_t, ab_s, 1.0, torch.zeros_like(xt)),
        lambda xt, eps, ab_t, ab_s: ode_step_factors(xt, eps, min(ab_t, ab_s), max(ab_t, ab_s)),
    ],
}  # fmt: skip
