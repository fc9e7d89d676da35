"""Right answers in other styles, and lazy or cheating ones, for the exercises of flash_attention/04_io_and_gpu.

Kernels in Triton are graded in ``tests/reference/flash_attention``, in a process that may interpret them; here stand functions
that write what such kernels write.
"""

import math
from functools import reduce
from itertools import pairwise

import torch
import torch.nn.functional as F


def standard_by_steps(N, d):
    scores = N * d + N * d + N * N
    softmax = N * N + N * N
    output = N * N + N * d + N * d
    return scores + softmax + output


def standard_factored(N, d):
    return 4 * N * (N + d)


def flash_by_loops(N, d, M):
    rows, total = M // (4 * d), 0
    for start in range(0, N, rows):
        size = min(rows, N - start)
        total += size * d + 2 * N * d + size * d + size
    return total


def flash_in_integers(N, d, M):
    Br = M // d // 4
    return N * (2 * d + 1) + (N + Br - 1) // Br * (N * d * 2)


def standard_in_floats(N, d):
    return int(sum((2.0 * N * d, 2.0 * N * d, 4.0 * N * N)))


def flash_tile_by_tile(N, d, M):
    rows = M // (4 * d)
    queries = [min(rows, N - i) for i in range(0, N, rows)]
    keys = [min(rows, N - j) for j in range(0, N, rows)]
    return sum(n * d + sum(2 * m * d for m in keys) + n * d + n for n in queries)


def _part(q, k, v):
    wide = torch.promote_types(q.dtype, torch.float32)
    s = (q.to(wide) @ k.to(wide).transpose(-1, -2)) / math.sqrt(q.shape[-1])
    m = s.max(-1).values
    p = (s - m.unsqueeze(-1)).exp()
    return m, p.sum(-1), p @ v.to(wide)


def decode_by_tensor_split(q, k, v, splits, merge):
    parts = [
        _part(q, a, b)
        for a, b in zip(k.tensor_split(splits, -2), v.tensor_split(splits, -2), strict=True)
        if a.shape[-2]
    ]
    m, l, o = parts[0]
    for part in parts[1:]:
        m, l, o = merge((m, l, o), part)
    return o / l[..., None]


def decode_from_nothing(q, k, v, splits, merge):
    wide = torch.promote_types(q.dtype, torch.float32)
    row = q.to(wide)
    state = torch.full_like(row[..., 0], -math.inf), torch.zeros_like(row[..., 0]), torch.zeros_like(row)
    edges = [s * k.shape[-2] // splits for s in range(splits + 1)]
    for a, b in pairwise(edges):
        if b > a:
            part = _part(q, k[..., a:b, :], v[..., a:b, :])
            state = part if bool((state[1] == 0).all()) else merge(state, part)
    return state[2] / state[1].unsqueeze(-1)


def decode_as_a_tree(q, k, v, splits, merge):
    size = -(-k.shape[-2] // splits)
    parts = [_part(q, a, b) for a, b in zip(k.split(size, -2), v.split(size, -2), strict=True)]
    while len(parts) > 1:
        parts = [
            merge(*parts[n : n + 2]) if n + 1 < len(parts) else parts[n] for n in range(0, len(parts), 2)
        ]
    return torch.einsum("...d,...->...d", parts[0][2], 1 / parts[0][1])


def decode_from_zeros_like_q(q, k, v, splits, merge):
    """Every splits-th key makes a part; an empty part to start from."""
    wide = torch.promote_types(q.dtype, torch.float32)
    o = torch.zeros_like(q, dtype=wide)
    state = torch.full_like(o[..., 0], -math.inf), o[..., 0].clone(), o
    for s in range(splits):
        m, l, o = _part(q, k[..., s::splits, :], v[..., s::splits, :])
        state = merge((m, l, o), state) if s % 2 else merge(state, (m, l, o))
    return (state[-1].mT / state[1][..., None, :]).mT


def decode_in_double(q, k, v, splits, merge):
    wide = torch.promote_types(q.dtype, torch.float32)
    bounds = torch.linspace(0, k.size(-2), splits + 1).round().int().tolist()
    total = None
    for a, b in pairwise(bounds):
        s = torch.einsum("...qd,...kd->...qk", q.double(), k[..., a:b, :].double()) / q.size(-1) ** 0.5
        m, _ = s.max(dim=-1)
        e = torch.exp(s - m[..., None])
        part = [m, e.sum(-1), torch.einsum("...qk,...kd->...qd", e, v[..., a:b, :].double())]
        total = part if total is None else merge(total, part)
    return (total[2] / total[1].unsqueeze(-1)).to(wide)


def _plain(q, k, v, scale, causal):
    N, M = q.shape[-2], k.shape[-2]
    s = scale * q @ k.mT
    if causal:
        rows, cols = torch.arange(N, device=q.device), torch.arange(M, device=q.device)
        s = s.masked_fill(cols > rows[:, None] + M - N, -math.inf)
    lse = torch.logsumexp(s, -1)
    return torch.exp(s - lse.nan_to_num(neginf=0.0)[..., None]) @ v, lse


def writes_by_the_definition(q, k, v, o, lse, N, M, scale, CAUSAL, D, BR, BC):
    values, sums = _plain(q.double(), k.double(), v.double(), scale, CAUSAL)
    o.copy_(values)
    lse.copy_(sums)


def writes_program_by_program(q, k, v, o, lse, N, M, scale, CAUSAL, D, BR, BC):
    for head in range(len(q)):
        for i in range(0, N, BR):
            rows = torch.arange(i, min(i + BR, N), device=q.device)
            m = torch.full((len(rows),), -math.inf, device=q.device)
            l, acc = torch.zeros_like(m), torch.zeros(len(rows), D, device=q.device)
            for j in range(0, M, BC):
                cols = torch.arange(j, min(j + BC, M), device=q.device)
                s = q[head, rows] @ k[head, cols].T * scale
                if CAUSAL:
                    s = torch.where(cols[None] <= rows[:, None] + M - N, s, -math.inf)
                new = torch.maximum(m, s.amax(1))
                base = torch.where(new == -math.inf, 0.0, new)
                p, r = torch.exp(s - base[:, None]), torch.exp(m - base)
                l, acc, m = r * l + p.sum(1), r[:, None] * acc + p @ v[head, cols], new
            o[head, rows] = acc / torch.where(l == 0, 1.0, l)[:, None]
            lse[head, rows] = m + torch.log(l)


def not_a_kernel(q, k, v, o, lse, N, M, scale, CAUSAL, D, BR, BC):
    writes_by_the_definition(q, k, v, o, lse, N, M, scale, CAUSAL, D, BR, BC)


def writes_zeros(q, k, v, o, lse, N, M, scale, CAUSAL, D, BR, BC):
    o.zero_()
    lse.zero_()


for function in (writes_by_the_definition, writes_program_by_program, writes_zeros):
    function.stands_for_a_kernel = True

RIGHT = {
    "hbm_standard": [standard_by_steps, standard_factored, standard_in_floats],
    "hbm_flash": [flash_by_loops, flash_in_integers, flash_tile_by_tile],
    "split_k_decode": [
        decode_by_tensor_split,
        decode_from_nothing,
        decode_as_a_tree,
        decode_from_zeros_like_q,
        decode_in_double,
    ],
    "flash_kernel": [writes_by_the_definition, writes_program_by_program],
}


def decode_by_library(q, k, v, splits, merge):
    wide = torch.promote_types(q.dtype, torch.float32)
    reduce(merge, [_part(q, k, v)] * splits)
    return F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide))


def decode_with_softmax(q, k, v, splits, merge):
    wide = torch.promote_types(q.dtype, torch.float32)
    reduce(merge, [_part(q, k, v)] * splits)
    return torch.softmax(q.to(wide) @ k.to(wide).mT * q.shape[-1] ** -0.5, -1) @ v.to(wide)


def decode_without_merge(q, k, v, splits, merge):
    _, l, o = _part(q, k, v)
    return o / l[..., None]


def decode_one_key_first(q, k, v, splits, merge):
    """The first part has one key; the others divide the rest, but for one that has it all."""
    M = k.shape[-2]
    edges = [0, *(min(n, M - 1) for n in range(M - splits + 1, M)), M]
    parts = [_part(q, k[..., a:b, :], v[..., a:b, :]) for a, b in pairwise(edges)]
    _, l, o = reduce(merge, parts)
    return o / l[..., None]


def decode_with_merges_for_show(q, k, v, splits, merge):
    size = -(-k.shape[-2] // splits)
    reduce(merge, [_part(q, a, b) for a, b in zip(k.split(size, -2), v.split(size, -2), strict=True)])
    return decode_without_merge(q, k, v, splits, merge)


LAZY = {
    "hbm_standard": [lambda N, d: 0, lambda N, d: N * N, lambda N, d: None],
    "hbm_flash": [lambda N, d, M: 0, lambda N, d, M: 4 * N * d, lambda N, d, M: None],
    "split_k_decode": [
        lambda q, k, v, splits, merge: torch.zeros_like(q),
        lambda q, k, v, splits, merge: None,
        decode_by_library,
        decode_with_softmax,
        decode_without_merge,
        decode_one_key_first,
        decode_with_merges_for_show,
    ],
    "flash_kernel": [not_a_kernel, writes_zeros],
}
