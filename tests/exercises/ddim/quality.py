"""Right answers in other styles, and lazy ones, for the exercises of ddim/04_quality_inversion."""

import itertools
import math

import numpy as np
import torch

from utils.reference.ddim import ddim_invert, energy_distance, slerp


def energy_cdist(a, b):
    def within(x):
        return torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))

    return (2 * torch.cdist(a, b).mean() - within(a) - within(b)).item()


def energy_pairs(a, b):
    between = sum((x - y).norm().item() for x in a for y in b) / (len(a) * len(b))
    inside = [
        np.mean([(x - y).norm().item() for x, y in itertools.combinations(points, 2)]) for points in (a, b)
    ]
    return 2 * between - inside[0] - inside[1]


def energy_pdist(a, b):
    between = torch.linalg.vector_norm(a[:, None] - b[None], dim=2).mean()
    return 2 * between - torch.pdist(a.contiguous()).mean() - torch.pdist(b.contiguous()).mean()


def energy_in_numpy(a, b):
    x, y = a.double().cpu().numpy(), b.double().cpu().numpy()

    def mean(p, q, pairs):
        return np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1)).sum() / pairs

    n, m = len(x), len(y)
    return 2 * mean(x, y, n * m) - mean(x, x, n * (n - 1)) - mean(y, y, m * (m - 1))


def invert_lists(model, step, x0, times, ab):
    up = times.tolist()[::-1]
    x, level = x0, 1.0
    for here, there in zip([up[0], *up[:-1]], up, strict=True):
        eps = model(x, torch.full((len(x),), here, device=x.device))
        x = step(x, eps, level, ab[there].item())
        level = ab[there].item()
    return x


def invert_indices(model, step, x0, times, ab):
    x, S = x0.clone(), len(times)
    for k in range(S - 1, -1, -1):
        told = times[min(k + 1, S - 1)].repeat(len(x))
        start = 1.0 if k == S - 1 else float(ab[times[k + 1]])
        x = step(x, model(x, told), start, float(ab[times[k]]))
    return x


def slerp_rows(z0, z1, a):
    rows = []
    for p, q in zip(z0, z1, strict=True):
        angle = torch.acos((p.dot(q) / (p.norm() * q.norm())).clamp(-1.0, 1.0))
        if angle.item() < 1e-3:
            rows.append((1 - a) * p + a * q)
        else:
            rows.append((torch.sin((1 - a) * angle) * p + torch.sin(a * angle) * q) / torch.sin(angle))
    print("a print is not an error")
    return torch.stack(rows)


def slerp_basis(z0, z1, a):
    """cos and sin in the plane of the two, in float64."""
    p, q = z0.double(), z1.double()
    n0, n1 = p.norm(dim=1, keepdim=True), q.norm(dim=1, keepdim=True)
    u, v = p / n0, q / n1
    half = ((u - v).norm(dim=1, keepdim=True) / 2).clamp(max=1)
    small = half < 1e-4
    angle = 2 * torch.asin(torch.where(small, torch.full_like(half, 0.5), half))
    arc = (torch.sin((1 - a) * angle) * p + torch.sin(a * angle) * q) / torch.sin(angle)
    return torch.where(small, p + a * (q - p), arc).to(z0.dtype)


def slerp_masked(z0, z1, a):
    cosine = torch.nn.functional.cosine_similarity(z0, z1)
    out = torch.lerp(z0, z1, a)
    keep = cosine.abs() < 1 - 1e-6
    theta = cosine[keep].arccos()[:, None]
    arc = z0[keep] * torch.sin(theta - a * theta) / torch.sin(theta) + z1[keep] * torch.sin(
        a * theta
    ) / torch.sin(theta)
    result = out.clone()
    result[keep] = arc
    return result


def energy_joined(a, b):
    """All distances of both sets in one table."""
    points, n, m = torch.cat([a, b]), len(a), len(b)
    table = (points[:, None] - points[None]).norm(dim=-1)
    return 2 * table[:n, n:].mean() - table[:n, :n].sum() / (n * n - n) - table[n:, n:].sum() / (m * m - m)


def energy_bias_taken_out(a, b):
    def mean(x, y):
        away = x[:, None] - y
        return float(torch.einsum("ijk,ijk->ij", away, away).sqrt().mean())

    return 2 * mean(a, b) - mean(a, a) * len(a) / (len(a) - 1) - mean(b, b) * len(b) / (len(b) - 1)


def energy_in_python(a, b):
    def mean(distances):
        found = list(distances)
        return math.fsum(found) / len(found)

    x, y = a.tolist(), b.tolist()
    within = [mean(math.dist(p, q) for p, q in itertools.permutations(points, 2)) for points in (x, y)]
    return 2 * mean(math.dist(p, q) for p in x for q in y) - sum(within)


def invert_recursive(model, step, x0, times, ab, level=1.0, here=None):
    if len(times) == 0:
        return x0
    here, target = times[-1] if here is None else here, ab[times[-1]].item()
    x = step(x0, eps=model(x=x0, t=here.repeat(len(x0))), ab_t=level, ab_s=target)
    return invert_recursive(model, step, x, times[:-1], ab, target, times[-1])


def invert_tables(model, step, x0, times, ab):
    levels = torch.cat([ab[times], ab.new_ones(1)]).flip(0).tolist()
    told = torch.cat([times[-1:], times.flip(0)])
    for k in range(len(times)):
        x0 = step(
            x0, model(x0, told[k] + torch.zeros_like(x0[:, 0], dtype=torch.long)), levels[k], levels[k + 1]
        )
    return x0


def slerp_sinc(z0, z1, a):
    """sin(x) / x has no hole at 0, so no straight line is needed."""
    cosine = torch.nn.functional.cosine_similarity(z0, z1)[:, None]
    angle = torch.where(cosine > 1 - 5e-7, torch.ones_like(cosine), cosine).acos() / math.pi
    weights = (1 - a) * torch.sinc((1 - a) * angle), a * torch.sinc(a * angle)
    return (weights[0] * z0 + weights[1] * z1) / torch.sinc(angle)


def slerp_frame(z0, z1, a):
    """Turn z0 towards the part of z1 that is perpendicular to it."""
    cosine = torch.nn.functional.cosine_similarity(z0, z1).clamp(-1, 1)[:, None]
    near = cosine > 1 - 5e-7
    angle = torch.where(near, torch.zeros_like(cosine), cosine).acos()
    arc = (a * angle).cos() * z0 + (a * angle).sin() / angle.sin() * (z1 - angle.cos() * z0)
    return torch.where(near, torch.lerp(z0, z1, a), arc)


def slerp_clamped(z0, z1, a):
    cosine = (z0 * z1).sum(1) / (z0.square().sum(1) * z1.square().sum(1)).sqrt()
    angle = cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos()[:, None]
    return (torch.sin((1 - a) * angle) * z0 + torch.sin(a * angle) * z1) / torch.sin(angle)


def slerp_by_atan2(z0, z1, a):
    """The angle from sine and cosine, which has a finite slope everywhere but for equal directions."""
    u, v = (z / torch.linalg.vector_norm(z, dim=1, keepdim=True) for z in (z0, z1))
    dot = torch.einsum("ij,ij->i", u, v)[:, None]
    across = v - dot * u
    flat = across.detach().norm(dim=1, keepdim=True) < 1e-3
    sine = torch.where(flat, torch.ones_like(across), across).norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, dot)
    weights = [torch.where(flat, share, torch.sin(share * angle) / torch.sin(angle)) for share in (1 - a, a)]
    return weights[0] * z0 + weights[1] * z1


def slerp_threshold_of_others(z0, z1, a):
    """Straight above a cosine of 0.9995, as many programs do."""
    rows = []
    for p, q in zip(z0, z1, strict=True):
        cosine = torch.dot(p, q) / torch.linalg.norm(p) / torch.linalg.norm(q)
        angle = torch.acos(cosine) if cosine < 0.9995 else None
        rows.append(
            torch.lerp(p, q, a)
            if angle is None
            else torch.sin(angle - a * angle) / torch.sin(angle) * p
            + torch.sin(a * angle) / torch.sin(angle) * q
        )
    return torch.stack(rows)


RIGHT = {
    "energy_distance": [
        energy_cdist,
        energy_pairs,
        energy_pdist,
        energy_in_numpy,
        energy_joined,
        energy_bias_taken_out,
        energy_in_python,
    ],
    "ddim_invert": [invert_lists, invert_indices, invert_recursive, invert_tables],
    "slerp": [
        slerp_rows,
        slerp_basis,
        slerp_masked,
        slerp_sinc,
        slerp_frame,
        slerp_clamped,
        slerp_by_atan2,
        slerp_threshold_of_others,
    ],
}

LAZY = {
    "energy_distance": [
        lambda a, b: 0.0,
        lambda a, b: None,
        lambda a, b: energy_distance(a.unique(dim=0), b.unique(dim=0)),
        lambda a, b: energy_distance(a.sort(0).values, b),
        lambda a, b: 0.0 if torch.equal(a.sort(0).values, b.sort(0).values) else energy_distance(a, b),
        lambda a, b: torch.tensor([energy_distance(a, b)]),
        lambda a, b: float(energy_distance(a[:2], b[:2])),
        lambda a, b: round(float(energy_distance(a, b)), 2),
        lambda a, b: float(energy_distance(a.bfloat16().float(), b.bfloat16().float())),
        lambda a, b: (a.mean() - b.mean()).abs().item(),
    ],
    "ddim_invert": [
        lambda model, step, x0, times, ab: x0,
        lambda model, step, x0, times, ab: ddim_invert(lambda x, t: model(x, int(t[0])), step, x0, times, ab),
        lambda model, step, x0, times, ab: ddim_invert(lambda x, t: model(x, t[:1]), step, x0, times, ab),
        lambda model, step, x0, times, ab: ddim_invert(model, step, x0, times, ab).clamp(-3, 3),
        lambda model, step, x0, times, ab: ddim_invert(lambda x, t: model(x, t - 1), step, x0, times, ab),
        lambda model, step, x0, times, ab: ddim_invert(lambda x, t: model(x, t).detach(), step, x0, times, ab),
        lambda model, step, x0, times, ab: torch.zeros_like(x0),
        lambda model, step, x0, times, ab: ddim_invert(model, step, x0, times[-1:], ab),
        lambda model, step, x0, times, ab: ddim_invert(model, step, x0, times, ab).detach(),
    ],
    "slerp": [
        lambda z0, z1, a: z0,
        lambda z0, z1, a: slerp(z0, z1, min(max(a, 0.01), 0.99)),
        lambda z0, z1, a: slerp(z0, z1.detach(), a),
        lambda z0, z1, a: slerp_masked(z0, z1, a).nan_to_num() if len(z0) > 1 else z0,
        lambda z0, z1, a: slerp(z0[:1], z1[:1], a).expand_as(z0),
        lambda z0, z1, a: z1,
        lambda z0, z1, a: z0 if a < 0.5 else z1,
        lambda z0, z1, a: slerp(z0, z1, a).detach(),
        lambda z0, z1, a: slerp(z0, z1, math.floor(a * 4) / 4),
    ],
}  # fmt: skip
