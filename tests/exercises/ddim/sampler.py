"""Right answers in other styles, and lazy ones, for the exercises of ddim/03_sampler."""

import math
from fractions import Fraction
from functools import reduce

import numpy as np
import torch

from utils.reference.ddim import ddim_sample, gmm_eps, sub_schedule


def sub_schedule_integers(T, S):
    k = torch.arange(S - 1, -1, -1)
    return (T - 1) * k // (S - 1) if S > 1 else torch.tensor([T - 1])


def sub_schedule_numpy(T, S):
    if S == 1:
        return torch.full((1,), T - 1)
    return torch.from_numpy(np.arange(S)[::-1] * (T - 1) // (S - 1)).long()


def sub_schedule_loop(T, S):
    times = [T - 1]
    for k in reversed(range(S - 1)):
        times += [math.floor((T - 1) * k / (S - 1) + 1e-9)]
    return torch.tensor(times)


def sample_pairs(model, step, x, times, ab, eta, noise):
    ends = [float(ab[t]) for t in times[1:]] + [1]
    for t, ab_s, z in zip(times.tolist(), ends, noise, strict=True):
        eps = model(x, torch.full((x.size(0),), t, dtype=torch.long, device=x.device))
        x = step(x, eps, ab[t].item(), ab_s, eta, z)
    return x


def sample_padded(model, step, x_T, times, ab, eta, noise):
    levels = torch.cat([ab[times], ab.new_ones(1)])
    x = x_T.clone()
    for k in range(len(times)):
        t = times[k].repeat(len(x))
        x = step(x, model(x, t), levels[k].item(), levels[k + 1].item(), eta, noise[k])
    return x


def sample_recursive(model, step, x_T, times, ab, eta, noise):
    print("a print is not an error")
    if len(times) == 0:
        return x_T
    s = float(ab[times[1]]) if len(times) > 1 else 1.0
    eps = model(x_T, times[:1].expand(len(x_T)))
    return sample_recursive(
        model, step, step(x_T, eps, float(ab[times[0]]), s, eta, noise[0]), times[1:], ab, eta, noise[1:]
    )


def gmm_by_autograd(x, ab_t, means, stds, weights):
    with torch.enable_grad():
        y = x if x.requires_grad else x.detach().requires_grad_()
        var = ab_t * stds**2 + (1 - ab_t)
        square = ((y[:, None, :] - ab_t**0.5 * means[None]) ** 2).sum(2)
        log_p = torch.logsumexp(weights.log() - x.shape[1] / 2 * torch.log(var) - square / 2 / var, 1)
        (score,) = torch.autograd.grad(log_p.sum(), y, create_graph=True)
    eps = -((1 - ab_t) ** 0.5) * score
    return eps if x.requires_grad else eps.detach()


def gmm_by_denoising(x, ab_t, means, stds, weights):
    var = ab_t * stds.square() + 1 - ab_t
    away = x.unsqueeze(1) - ab_t**0.5 * means
    shares = torch.softmax(weights.log() - x.shape[1] * var.log() / 2 - (away**2).sum(2) / (2 * var), dim=1)
    return torch.einsum("bk,bkd,k->bd", shares, away, 1 / var) * (1 - ab_t) ** 0.5


def gmm_in_rows(x, ab_t, means, stds, weights):
    rows = []
    for point in x:
        logs, noises = [], []
        for mu, std, w in zip(means, stds, weights, strict=True):
            var = ab_t * std**2 + 1 - ab_t
            away = point - ab_t**0.5 * mu
            logs.append(torch.log(w) - len(point) / 2 * torch.log(var) - away.dot(away) / (2 * var))
            noises.append((1 - ab_t) ** 0.5 * away / var)
        shares = torch.stack(logs).softmax(0)
        rows.append((shares[:, None] * torch.stack(noises)).sum(0))
    return torch.stack(rows)


def gmm_one_component(x, ab_t, means, stds, weights):
    return gmm_eps(x, ab_t, means[:1], stds[:1], torch.ones_like(weights[:1]))


def sub_schedule_ints(T, S):
    return torch.LongTensor([int((T - 1) * k / (S - 1)) for k in reversed(range(S))] if S > 1 else [T - 1])


def sub_schedule_fractions(T, S):
    gap = Fraction(T - 1, max(S - 1, 1))
    return torch.tensor([math.floor(T - 1 if S == 1 else (S - 1 - k) * gap) for k in range(S)])


def sample_by_name(model, step, x_T, times, ab, eta, noise):
    x, ends = x_T, [*ab[times].tolist(), 1]
    for k in range(len(times)):
        now = times[k] * torch.ones(len(x), dtype=torch.long, device=x.device)
        x = step(x, eps=model(x=x, t=now), ab_t=ends[k], ab_s=ends[k + 1], eta=eta, noise=noise[k])
    return x


def sample_reduced(model, step, x_T, times, ab, eta, noise):
    levels = ab[times].tolist()
    parts = zip(times, levels, [*levels[1:], 1.0], noise, strict=True)
    return reduce(lambda x, p: step(x, model(x, p[0].repeat(len(x))), p[1], p[2], eta, p[3]), parts, x_T)


def gmm_by_products(x, ab_t, means, stds, weights):
    """Squared distances from products, in float64, and the largest logit taken away by hand."""
    y, mu, s = x.double(), ab_t**0.5 * means.double(), stds.double()
    var = ab_t * s**2 + 1 - ab_t
    square = (y * y).sum(1)[:, None] - 2 * y @ mu.T + (mu * mu).sum(1)
    logits = weights.double().log() - x.shape[1] / 2 * var.log() - square / (2 * var)
    p = (logits - logits.amax(1, keepdim=True)).exp()
    shares = p / p.sum(1, keepdim=True) / var
    return ((1 - ab_t) ** 0.5 * (shares.sum(1, keepdim=True) * y - shares @ mu)).to(x.dtype)


def gmm_by_distributions(x, ab_t, means, stds, weights):
    var, mu = ab_t * stds**2 + 1 - ab_t, ab_t**0.5 * means
    normal = torch.distributions.Normal(mu, var.sqrt()[:, None].expand_as(mu))
    logits = weights.log() + torch.distributions.Independent(normal, 1).log_prob(x[:, None])
    shares = (logits - logits.logsumexp(1, keepdim=True)).exp()
    return math.sqrt(1 - ab_t) * torch.einsum("bk,bkd->bd", shares / var, x[:, None] - mu)


def gmm_by_the_picture(x, ab_t, means, stds, weights):
    """The expected picture, then the noise that it leaves."""
    if ab_t == 1:
        return 0 * gmm_eps(x, ab_t, means, stds, weights)
    y, mu, s, w = (tensor.double() for tensor in (x, means, stds, weights))
    var, away = ab_t * s**2 + 1 - ab_t, y[:, None] - ab_t**0.5 * mu
    shares = (w.log() - x.shape[1] / 2 * var.log() - away.square().sum(-1) / (2 * var)).softmax(1)
    picture = (shares[..., None] * (mu + (ab_t**0.5 * s**2 / var)[:, None] * away)).sum(1)
    return ((y - ab_t**0.5 * picture) / (1 - ab_t) ** 0.5).to(x.dtype)


RIGHT = {
    "sub_schedule": [
        sub_schedule_integers,
        sub_schedule_numpy,
        sub_schedule_loop,
        sub_schedule_ints,
        sub_schedule_fractions,
    ],
    "ddim_sample": [sample_pairs, sample_padded, sample_recursive, sample_by_name, sample_reduced],
    "gmm_eps": [
        gmm_by_autograd,
        gmm_by_denoising,
        gmm_in_rows,
        gmm_by_products,
        gmm_by_distributions,
        gmm_by_the_picture,
    ],
}

LAZY = {
    "sub_schedule": [
        lambda T, S: torch.arange(T),
        lambda T, S: torch.zeros(S, dtype=torch.long),
        lambda T, S: sub_schedule(1000, S),
        lambda T, S: None,
        lambda T, S: torch.linspace(0, T - 1, S).long().flip(0) if S > 1 else torch.tensor([T - 1]),
        lambda T, S: torch.linspace(T - 1, 0, S, dtype=torch.float64).long(),
        lambda T, S: torch.from_numpy(np.linspace(T - 1, 0, S)).long(),
        lambda T, S: torch.tensor([int((T - 1) / (S - 1) * (S - 1 - k)) for k in range(S)] if S > 1 else [T - 1]),
        lambda T, S: torch.tensor([int((T - 1) * (1 - k / (S - 1))) for k in range(S)] if S > 1 else [T - 1]),
        lambda T, S: sub_schedule_integers(T, max(S, 2)),
    ],
    "ddim_sample": [
        lambda model, step, x_T, times, ab, eta, noise: x_T,
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(lambda x, t: model(x, int(t[0])), step, x_T, times, ab, eta, noise),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(lambda x, t: model(x, t[:1]), step, x_T, times, ab, eta, noise),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(model, step, x_T, times, ab, eta, noise).clamp(-3, 3),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(model, step, x_T, sub_schedule(len(ab), len(times)), ab, eta, noise),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(model, step, x_T, times, ab, eta, noise[:, :1].expand_as(noise)),
        lambda model, step, x_T, times, ab, eta, noise: torch.zeros_like(x_T),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(model, step, x_T, times[:1], ab, eta, noise),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(model, step, x_T, times, ab, eta, noise).detach(),
        lambda model, step, x_T, times, ab, eta, noise: ddim_sample(model, step, x_T, times, ab, round(eta), noise),
    ],
    "gmm_eps": [
        lambda x, ab_t, means, stds, weights: x,
        lambda x, ab_t, means, stds, weights: torch.zeros_like(x),
        lambda x, ab_t, means, stds, weights: (1 - ab_t) ** 0.5 * x,
        lambda x, ab_t, means, stds, weights: gmm_eps(x, ab_t, means, stds.mean().expand_as(stds), weights),
        lambda x, ab_t, means, stds, weights: gmm_eps(x.detach(), ab_t, means, stds, weights),
        gmm_one_component,
        lambda x, ab_t, means, stds, weights: gmm_eps(x, min(ab_t, 0.999), means, stds, weights),
        lambda x, ab_t, means, stds, weights: gmm_eps(x, ab_t, means, stds, weights.clamp(min=0.2)),
        lambda x, ab_t, means, stds, weights: gmm_eps(x.clamp(-10, 10), ab_t, means, stds, weights),
        lambda x, ab_t, means, stds, weights: gmm_eps(x, ab_t, means, stds, weights.detach()),
    ],
}  # fmt: skip
