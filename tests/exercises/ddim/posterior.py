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


def alpha_bar_by_logarithms(betas):
    return torch.log1p(-betas).cumsum(-1).exp()


def alpha_bar_triangle(betas):
    n = len(betas)
    return torch.where(torch.ones(n, n).tril().bool(), (1 - betas)[None], 1.0).prod(1)


def q_sample_one_hot(x0, t, eps, ab):
    level = F.one_hot(t, len(ab)).to(ab) @ ab
    return torch.addcmul(level.sqrt().unsqueeze(1) * x0, (1 - level).sqrt().unsqueeze(1), eps)


def q_sample_in_double(x0, t, eps, ab):
    a, x, e = ab.double()[t], x0.double(), eps.double()
    return (torch.diag(a.sqrt()) @ x + torch.diag((1 - a).sqrt()) @ e).to(x0.dtype)


def posterior_by_division(x0, xt, t, betas):
    """alpha-bar of the time before, by dividing the last factor out."""
    now = (1 - betas).cumprod(0)[t]
    before = now / (1 - betas[t])
    mean = (before.sqrt() * betas[t] / (1 - now)).view(-1, 1) * x0
    mean = mean + ((1 - betas[t]).sqrt() * (1 - before) / (1 - now)).view(-1, 1) * xt
    return mean, (1 - before) / (1 - now) * betas[t]


def posterior_by_the_noise(x0, xt, t, betas):
    """Through the noise that x0 and x_t imply."""
    now = (1 - betas).cumprod(0)[t][:, None]
    before = torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)])[t]
    eps = (xt - now.sqrt() * x0) / (1 - now).sqrt()
    beta = betas[t][:, None]
    mean = (xt - beta / (1 - now).sqrt() * eps) / (1 - beta).sqrt()
    return mean, betas[t] * (1 - before) / (1 - now[:, 0])


def eps_loss_expanded(model, x0, t, eps, ab):
    guess = model(x=q_sample_gather(x0, t, eps, ab), t=t.clone())
    return (guess * guess - 2 * guess * eps + eps * eps).mean(0).mean()


def eps_loss_einsum(model, x0, t, eps, ab):
    error = (eps - model(q_sample_gather(x0, t, eps, ab), t)).double()
    return (torch.einsum("bd,bd->", error, error) / error.numel()).to(x0.dtype)


def eps_loss_norm(model, x0, t, eps, ab):
    return torch.linalg.vector_norm(model(q_sample_gather(x0, t, eps, ab), t).sub_(eps)) ** 2 / eps.numel()


RIGHT = {
    "alpha_bar": [
        alpha_bar_loop,
        alpha_bar_recursion,
        alpha_bar_in_double,
        alpha_bar_products,
        alpha_bar_by_logarithms,
        alpha_bar_triangle,
    ],
    "q_sample": [q_sample_rows, q_sample_gather, q_sample_tables, q_sample_one_hot, q_sample_in_double],
    "posterior": [
        posterior_precisions,
        posterior_rows,
        posterior_where,
        posterior_by_division,
        posterior_by_the_noise,
    ],
    "eps_loss": [
        eps_loss_library,
        eps_loss_by_sums,
        eps_loss_rows,
        eps_loss_expanded,
        eps_loss_einsum,
        eps_loss_norm,
    ],
}

LAZY = {
    "alpha_bar": [
        torch.ones_like,
        lambda betas: torch.zeros_like(betas),
        lambda betas: torch.cumprod(1 - betas.bfloat16(), 0).to(betas.dtype),
        lambda betas: torch.cumprod(1 - betas.float(), 0),
        lambda betas: alpha_bar_in_double(betas.clamp(max=0.999)),
        lambda betas: alpha_bar_in_double(betas).clamp(min=1e-4),
        lambda betas: torch.tensor(alpha_bar_in_double(betas).tolist()),
    ],
    "q_sample": [
        lambda x0, t, eps, ab: x0,
        lambda x0, t, eps, ab: q_sample_gather(x0, t, eps, ab).clamp(-3, 3),
        lambda x0, t, eps, ab: q_sample_gather(x0, t, eps, ab.clamp(min=1e-3)),
        lambda x0, t, eps, ab: q_sample_gather(x0, t.sort().values, eps, ab),
        lambda x0, t, eps, ab: q_sample_gather(x0, t, eps.detach(), ab),
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
        lambda x0, xt, t, betas: (posterior_rows(x0, xt, t, betas)[0], posterior_rows(x0, xt, t, betas)[1].clamp(min=1e-5)),
        lambda x0, xt, t, betas: (posterior_rows(x0, xt, t, betas)[0], posterior_rows(x0, xt, t, betas)[1].detach()),
        lambda x0, xt, t, betas: posterior_rows(x0, xt, t[:1].expand_as(t), betas),
    ],
    "eps_loss": [
        lambda model, x0, t, eps, ab: eps.square().mean(),
        lambda model, x0, t, eps, ab: torch.zeros(()),
        lambda model, x0, t, eps, ab: eps_loss_library(lambda x, s: model(x, s.float()), x0, t, eps, ab),
        lambda model, x0, t, eps, ab: eps_loss_library(lambda x, s: model(x, s[:, None]), x0, t, eps, ab),
        lambda model, x0, t, eps, ab: eps_loss_library(lambda x, s: model(x.detach(), s), x0, t, eps, ab),
        lambda model, x0, t, eps, ab: eps_loss_library(model, x0, t, eps, ab).item(),
        lambda model, x0, t, eps, ab: eps_loss_library(model, x0, t.flip(0), eps, ab),
        lambda model, x0, t, eps, ab: eps_loss_library(lambda x, s: model(x, 0 * s), x0, t, eps, ab),
    ],
}  # fmt: skip
