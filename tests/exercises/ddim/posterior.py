"""Right answers in other styles, and lazy ones, for the exercises of ddim/01_ddpm_posterior."""

import torch
import torch.nn.functional as F


def alpha_bar_loop(betas):
    left, out = torch.ones((), dtype=betas.dtype, device=betas.device), []
    for beta in betas:
        left = left * (1 - beta)
        out.append(left)
    return torch.stack(out)


def alpha_bar_recursion(betas):
    out = [1 - betas[0]]
    for t in range(1, len(betas)):
        out.append(out[-1] - out[-1] * betas[t])
    return torch.stack(out)


def alpha_bar_in_double(betas):
    return torch.cumprod(1 - betas.double(), dim=0).to(betas.dtype)


def alpha_bar_products(betas):
    return torch.stack([(1 - betas[: t + 1]).prod() for t in range(len(betas))])


def q_sample_rows(x0, t, eps, ab):
    return torch.stack(
        [ab[k] ** 0.5 * x + (1 - ab[k]) ** 0.5 * e for x, k, e in zip(x0, t, eps, strict=True)]
    )


def q_sample_gather(x0, t, eps, ab):
    keep = ab.gather(0, t).view(-1, 1)
    return torch.sqrt(keep) * x0 + torch.sqrt(1.0 - keep) * eps


def q_sample_tables(x0, t, eps, ab):
    print("a print is not an error")
    return torch.einsum("b,bd->bd", ab.sqrt()[t], x0) + torch.einsum("b,bd->bd", (1 - ab).sqrt()[t], eps)


def posterior_precisions(x0, xt, t, betas):
    ab = F.pad(torch.cumprod(1 - betas, 0), (1, 0), value=1.0)
    prior, beta = (1 - ab[t])[:, None], betas[t][:, None]
    var = prior * beta / (beta + (1 - beta) * prior)
    gain = (1 - beta).sqrt() * prior / (beta + (1 - beta) * prior)
    start = ab[t].sqrt()[:, None] * x0
    return start + gain * (xt - (1 - beta).sqrt() * start), var[:, 0]


def posterior_rows(x0, xt, t, betas):
    alphas = 1 - betas
    means, variances = [], []
    for x, y, k in zip(x0, xt, t.tolist(), strict=True):
        now = alphas[: k + 1].prod()
        before = alphas[:k].prod()
        means.append((before.sqrt() * betas[k] * x + alphas[k].sqrt() * (1 - before) * y) / (1 - now))
        variances.append(betas[k] * (1 - before) / (1 - now))
    return torch.stack(means), torch.stack(variances)


def posterior_where(x0, xt, t, betas):
    ab = (1 - betas).cumprod(0)
    before = torch.where(t > 0, ab[t - 1], 1.0)
    c0 = before.sqrt() * betas[t] / (1 - ab[t])
    c1 = (1 - betas[t]).sqrt() * (1 - before) / (1 - ab[t])
    return [c0.unsqueeze(1) * x0 + c1.unsqueeze(1) * xt, betas[t] * (1 - before) / (1 - ab[t])]


def eps_loss_library(model, x0, t, eps, ab):
    a = ab[t].unsqueeze(-1)
    return F.mse_loss(model(a.sqrt() * x0 + (1 - a).sqrt() * eps, t), eps)


def eps_loss_by_sums(model, x0, t, eps, ab):
    keep, noise = ab.sqrt()[t], (1 - ab).sqrt()[t]
    difference = eps - model((keep * x0.T + noise * eps.T).T, t)
    return (difference**2).sum() / difference.numel()


def eps_loss_rows(model, x0, t, eps, ab):
    xt = torch.stack([ab[k].sqrt() * x + (1 - ab[k]).sqrt() * e for x, k, e in zip(x0, t, eps, strict=True)])
    return torch.stack([(p - e).pow(2).mean() for p, e in zip(model(xt, t), eps, strict=True)]).mean()


RIGHT = {
    "alpha_bar": [alpha_bar_loop, alpha_bar_recursion, alpha_bar_in_double, alpha_bar_products],
    "q_sample": [q_sample_rows, q_sample_gather, q_sample_tables],
    "posterior": [posterior_precisions, posterior_rows, posterior_where],
    "eps_loss": [eps_loss_library, eps_loss_by_sums, eps_loss_rows],
}

LAZY = {
    "alpha_bar": [
        torch.ones_like,
        lambda betas: torch.zeros_like(betas),
        lambda betas: torch.cumprod(1 - betas.bfloat16(), 0).to(betas.dtype),
        lambda betas: torch.cumprod(1 - betas.float(), 0),
    ],
    "q_sample": [
        lambda x0, t, eps, ab: x0,
        lambda x0, t, eps, ab: torch.zeros_like(x0),
        lambda x0, t, eps, ab: ab[t].mean().sqrt() * x0 + (1 - ab[t].mean()).sqrt() * eps,
        lambda x0, t, eps, ab: (ab[t].half().sqrt()[:, None] * x0 + (1 - ab[t]).half().sqrt()[:, None] * eps).to(x0),
        lambda x0, t, eps, ab: (ab[t].sqrt()[:, None] * x0 + (1 - ab[t]).sqrt()[:, None] * eps).detach(),
    ],
    "posterior": [
        lambda x0, xt, t, betas: (x0, betas[t]),
        lambda x0, xt, t, betas: (torch.zeros_like(x0), torch.zeros_like(betas[t])),
        lambda x0, xt, t, betas: (xt, torch.zeros_like(betas[t])),
        lambda x0, xt, t, betas: posterior_rows(x0, xt, t.clamp(min=1), betas),
        lambda x0, xt, t, betas: None,
    ],
    "eps_loss": [
        lambda model, x0, t, eps, ab: eps.square().mean(),
        lambda model, x0, t, eps, ab: torch.zeros(()),
        lambda model, x0, t, eps, ab: eps_loss_library(model, x0, t, eps, ab).item(),
        lambda model, x0, t, eps, ab: eps_loss_library(model, x0, t.flip(0), eps, ab),
        lambda model, x0, t, eps, ab: eps_loss_library(lambda x, s: model(x, 0 * s), x0, t, eps, ab),
    ],
}  # fmt: skip
