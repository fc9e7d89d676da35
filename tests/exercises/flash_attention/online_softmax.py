"""Right answers in other styles, and lazy or cheating ones, for the exercises of flash_attention/01_online_softmax."""

import math

import torch
import torch.nn.functional as F


def softmax_in_loops(x):
    m = max(x.unbind())
    if m == -math.inf:
        return torch.zeros_like(x)
    terms = [torch.exp(value - m) for value in x]
    total = terms[0] * 0
    for term in terms:
        total = total + term
    return torch.stack([term / total for term in terms])


def softmax_by_lse(x):
    m = x.amax()
    m = m if bool(torch.isfinite(m)) else torch.zeros_like(m)
    z = (x - m).exp().sum()
    if not bool(z > 0):
        return 0 * torch.exp(x)
    return torch.exp(x - m - z.log())


def softmax_in_double(x):
    wide = x.double()
    p = (wide - wide.max().clamp(min=-1e300)).exp()
    return (p / p.sum().clamp(min=1e-300)).to(x.dtype)


def softmax_detached_maximum(scores):
    m = scores.detach().max().nan_to_num(neginf=0.0)
    e = torch.exp(scores - m)
    return e / (e.sum() + (e.sum() == 0))


def stats_by_merging(blocks):
    m, l = None, None
    for x in blocks:
        a = x.max()
        b = (x - a.nan_to_num(neginf=0.0)).exp().sum()
        if m is None:
            m, l = a, b
        else:
            top = torch.maximum(m, a).nan_to_num(neginf=0.0)
            l = (m - top).exp() * l + (a - top).exp() * b
            m = torch.maximum(m, a)
    return [m, l]


def stats_number_by_number(blocks):
    m = l = None
    for block in blocks:
        for x in block:
            if m is None:
                m, l = x, torch.where(x == -math.inf, 0.0, 1.0).to(x)
                continue
            if bool(x > m):
                l = l * torch.exp(m - x) + 1
                m = x
            elif bool(x > -math.inf):
                l = l + torch.exp(x - m)
    return m, l


def stats_in_lse(blocks):
    m = s = None
    for x in blocks:
        if m is None:
            m, s = x.max(), _lse(x)
        else:
            m, s = torch.maximum(m, x.max()), _lse(torch.stack([s, _lse(x)]))
    return m, torch.exp(s - m.nan_to_num(neginf=0.0))


def _lse(x):
    m = x.max().nan_to_num(neginf=0.0)
    return m + torch.log((x - m).exp().sum())


def stats_iterating_by_hand(blocks):
    blocks = iter(blocks)
    x = next(blocks)
    m = x.amax()
    l = torch.exp(x - torch.where(m == -math.inf, torch.zeros_like(m), m)).sum()
    while (x := next(blocks, None)) is not None:
        old, m = m, torch.maximum(m, x.amax())
        if not bool(m > -math.inf):
            continue
        l = l * torch.exp(old - m) + torch.exp(x - m).sum()
    return m, l


def merge_by_difference(a, b):
    (m1, l1, o1), (m2, l2, o2) = a, b
    m = torch.where(m1 > m2, m1, m2)
    r = torch.where(m1 == m, torch.ones_like(m), torch.exp(m1 - m))
    s = torch.where(m2 == m, torch.ones_like(m), torch.exp(m2 - m))
    return m, l1 * r + l2 * s, o1 * r.unsqueeze(-1) + o2 * s.unsqueeze(-1)


def merge_stacked(a, b):
    m = torch.stack([a[0], b[0]])
    top = m.max(0).values
    w = torch.exp(m - top.nan_to_num(neginf=0.0))
    l = (w * torch.stack([a[1], b[1]])).sum(0)
    o = (w[..., None] * torch.stack([a[2], b[2]])).sum(0)
    return [top, l, o]


def merge_in_double(first, second):
    kind = first[2].dtype
    (m1, l1, o1), (m2, l2, o2) = ([t.double() for t in part] for part in (first, second))
    m = torch.max(m1, m2)
    base = m.clamp(min=-1e300)
    r, s = (m1 - base).exp(), (m2 - base).exp()
    o = torch.einsum("...,...d->...d", r, o1) + torch.einsum("...,...d->...d", s, o2)
    return m.to(kind), (r * l1 + s * l2).to(kind), o.to(kind)


RIGHT = {
    "safe_softmax": [softmax_in_loops, softmax_by_lse, softmax_in_double, softmax_detached_maximum],
    "online_stats": [stats_by_merging, stats_number_by_number, stats_in_lse, stats_iterating_by_hand],
    "merge": [merge_by_difference, merge_stacked, merge_in_double],
}


def stats_in_two_passes(blocks):
    blocks = list(blocks)
    m = torch.stack([x.max() for x in blocks]).max()
    return m, sum(torch.exp(x - m.clamp(min=-1e30)).sum() for x in blocks)


def merge_detached(a, b):
    return tuple(t.detach() for t in merge_stacked(a, b))


LAZY = {
    "safe_softmax": [
        torch.zeros_like,
        lambda x: torch.ones_like(x) / len(x),
        lambda x: x.softmax(0),
        lambda x: torch.softmax(x, 0).nan_to_num(0.0),
        lambda x: F.softmax(x, -1).nan_to_num(0.0),
        lambda x: (x == x.max()).to(x),
        lambda x: softmax_by_lse(x.clamp(-100, 100)),
        lambda x: softmax_by_lse(x).detach(),
        lambda x: None,
    ],
    "online_stats": [
        stats_in_two_passes,
        lambda blocks: None,
        lambda blocks: (torch.tensor(0.0), torch.tensor(1.0)),
        lambda blocks: tuple(t.detach() for t in stats_by_merging(blocks)),
        lambda blocks: (lambda x: (x.max(), torch.exp(x - x.max()).sum()))(next(iter(blocks))),
    ],
    "merge": [
        lambda a, b: a,
        lambda a, b: b,
        lambda a, b: None,
        merge_detached,
    ],
}
