"""Exact attention in tiles, in PyTorch: the references of the series ``flash_attention``.

N queries, M keys, head size d, scale 1 / sqrt(d). With ``causal``, query i sees the keys j <= i + M - N: the last query sees all
keys. A row that sees nothing has the output zero and the log-sum-exp -inf. Sums are accumulated in float32 (float64 for float64
inputs), and results are returned in that type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def safe_softmax(x: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """exp(x_i - m) / sum_j exp(x_j - m) with m = max_j x_j: three passes over x. All zero where every x is -inf."""
    p = torch.exp(x - _shift(x.max()))
    return p / _divisor(p.sum())


def online_stats(blocks: Iterable[Float[Tensor, "block"]]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """m = max_j x_j and l = sum_j exp(x_j - m) in one pass: Milakov and Gimelshein 2018, algorithm 3, a block at a time."""
    m = l = None
    for x in blocks:
        new = x.max() if m is None else torch.maximum(m, x.max())
        part = torch.exp(x - _shift(new)).sum()
        l = part if l is None or m is None else torch.exp(m - _shift(new)) * l + part
        m = new
    assert m is not None
    assert l is not None
    return m, l


def merge(
    a: tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows d"]],
    b: tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows d"]],
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows d"]]:
    """(m, l, o) of two sets of keys together, where m is the maximum, l = sum exp(s - m) and o = sum exp(s - m) v."""
    m = torch.maximum(a[0], b[0])
    r, s = torch.exp(a[0] - _shift(m)), torch.exp(b[0] - _shift(m))
    return m, r * a[1] + s * b[1], r[..., None] * a[2] + s[..., None] * b[2]


def block_scores(
    q: Float[Tensor, "*heads N d"],
    k: Float[Tensor, "*heads M d"],
    scale: float,
    causal: bool,
    i: int,
    j: int,
    Br: int,
    Bc: int,
) -> Float[Tensor, "*heads rows cols"]:
    """Tile (i, j) of scale * q k^T, with -inf where a query does not see a key."""
    N, M = q.shape[-2], k.shape[-2]
    rows = torch.arange(i * Br, min((i + 1) * Br, N), device=q.device)
    cols = torch.arange(j * Bc, min((j + 1) * Bc, M), device=q.device)
    s = scale * _wide(q[..., i * Br : (i + 1) * Br, :]) @ _wide(k[..., j * Bc : (j + 1) * Bc, :]).mT
    hidden = cols[None, :] > rows[:, None] + M - N
    return s.masked_fill(hidden, -math.inf) if causal else s


def visible_tiles(N: int, M: int, Br: int, Bc: int) -> int:
    """Tiles of N / Br times M / Bc in which at least one query sees a key, with the causal mask j <= i + M - N."""
    last = (min(i + Br, N) - 1 + M - N for i in range(0, N, Br))
    return sum(max(0, key // Bc + 1) for key in last)


def flash_forward(
    q: Float[Tensor, "*heads N d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    Br: int,
    Bc: int,
    causal: bool,
) -> tuple[Float[Tensor, "*heads N d"], Float[Tensor, "*heads N"]]:
    """(o, lse) with one tile of scores at a time: FlashAttention-2 (Dao 2023), algorithm 1."""
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    outputs, sums = [], []
    for i in range(math.ceil(N / Br)):
        rows = _wide(q[..., i * Br : (i + 1) * Br, :])
        m = torch.full_like(rows[..., 0], -math.inf)
        l, acc = torch.zeros_like(m), torch.zeros_like(rows)
        end = min((i + 1) * Br, N) + M - N if causal else M
        for j in range(math.ceil(max(end, 0) / Bc)):
            s = block_scores(q, k, d**-0.5, causal, i, j, Br, Bc)
            new = torch.maximum(m, s.amax(-1))
            p, r = torch.exp(s - _shift(new)[..., None]), torch.exp(m - _shift(new))
            l = r * l + p.sum(-1)
            acc = r[..., None] * acc + p @ _wide(v[..., j * Bc : (j + 1) * Bc, :])
            m = new
        outputs.append(acc / _divisor(l)[..., None])
        sums.append(m + torch.log(l))
    return torch.cat(outputs, -2), torch.cat(sums, -1)


def softmax_backward(p: Float[Tensor, "*rows M"], dp: Float[Tensor, "*rows M"]) -> Float[Tensor, "*rows M"]:
    """The gradient by s of a loss whose gradient by p = softmax(s) is dp: ds_j = p_j (dp_j - sum_k p_k dp_k)."""
    return p * (dp - (p * dp).sum(-1, keepdim=True))


def delta(do: Float[Tensor, "*heads N d"], o: Float[Tensor, "*heads N d"]) -> Float[Tensor, "*heads N"]:
    """D_i = do_i . o_i, which is sum_j p_ij dp_ij without p (FlashAttention-2, algorithm 2, line 4)."""
    return (_wide(do) * _wide(o)).sum(-1)


def flash_backward(
    q: Float[Tensor, "*heads N d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    o: Float[Tensor, "*heads N d"],
    lse: Float[Tensor, "*heads N"],
    do: Float[Tensor, "*heads N d"],
    Br: int,
    Bc: int,
    causal: bool,
) -> tuple[Float[Tensor, "*heads N d"], Float[Tensor, "*heads M d"], Float[Tensor, "*heads M d"]]:
    """(dq, dk, dv) with one tile of p and ds at a time, from what the forward pass left: o and lse."""
    N, M, scale = q.shape[-2], k.shape[-2], q.shape[-1] ** -0.5
    D = delta(do, o)
    dq, dk, dv = (torch.zeros_like(_wide(t)) for t in (q, k, v))
    for i in range(math.ceil(N / Br)):
        r = slice(i * Br, min((i + 1) * Br, N))
        end = r.stop + M - N if causal else M
        for j in range(math.ceil(max(end, 0) / Bc)):
            c = slice(j * Bc, (j + 1) * Bc)
            s = block_scores(q, k, scale, causal, i, j, Br, Bc)
            p = torch.exp(s - _shift(lse[..., r, None]))
            dp = _wide(do[..., r, :]) @ _wide(v[..., c, :]).mT
            ds = p * (dp - D[..., r, None])
            dv[..., c, :] += p.mT @ _wide(do[..., r, :])
            dk[..., c, :] += scale * ds.mT @ _wide(q[..., r, :])
            dq[..., r, :] += scale * ds @ _wide(k[..., c, :])
    return dq, dk, dv


def flash_attention(
    q: Float[Tensor, "*heads N d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
) -> Float[Tensor, "*heads N d"]:
    """The output of forward(q, k, v) = (o, lse), whose gradients are backward(q, k, v, o, lse, do)."""

    class Flash(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v):  # type: ignore
            o, lse = forward(q, k, v)
            ctx.save_for_backward(q, k, v, o, lse)
            return o

        @staticmethod
        def backward(ctx, do):  # type: ignore
            return backward(*ctx.saved_tensors, do)

    result: Tensor = Flash.apply(q, k, v)  # type: ignore[no-untyped-call]
    return result


def hbm_standard(N: int, d: int) -> int:
    """Numbers that standard attention moves: q, k in, s out; s in, p out; p, v in, o out."""
    return 4 * N * d + 4 * N * N


def hbm_flash(N: int, d: int, M: int) -> int:
    """Numbers that ``flash_forward`` moves with tiles of M // (4 d) rows, so that tiles of q, k, v and o fit into M numbers."""
    Br = M // (4 * d)
    return 2 * N * d + N + math.ceil(N / Br) * 2 * N * d


def split_k_decode(
    q: Float[Tensor, "*heads 1 d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    splits: int,
    merge: Callable[..., Any],
) -> Float[Tensor, "*heads 1 d"]:
    """Attention of one query whose keys are divided into ``splits`` parts that know nothing of each other."""
    size = math.ceil(k.shape[-2] / splits)
    parts = []
    for keys, values in zip(k.split(size, -2), v.split(size, -2), strict=True):
        s = q.shape[-1] ** -0.5 * _wide(q) @ _wide(keys).mT
        m = s.amax(-1)
        p = torch.exp(s - m[..., None])
        parts.append((m, p.sum(-1), p @ _wide(values)))
    _, l, o = reduce(merge, parts)
    result: Tensor = o / l[..., None]
    return result


def flash_kernel(
    q: "pointer",  # type: ignore
    k: "pointer",  # type: ignore
    v: "pointer",  # type: ignore
    o: "pointer",  # type: ignore
    lse: "pointer",  # type: ignore
    N: "i32",  # type: ignore
    M: "i32",  # type: ignore
    scale: "fp32",  # type: ignore
    CAUSAL: tl.constexpr,  # type: ignore
    D: tl.constexpr,  # type: ignore
    BR: tl.constexpr,  # type: ignore
    BC: tl.constexpr,  # type: ignore
) -> None:
    """What all programs of the Triton kernel of notebook 04 write into o[heads, N, D] and lse[heads, N]."""
    values, sums = flash_forward(q * (scale * D**0.5), k, v, BR, BC, CAUSAL)
    o.copy_(values)
    lse.copy_(sums)


flash_kernel.stands_for_a_kernel = True  # type: ignore[attr-defined]


def _shift(m: Tensor) -> Tensor:
    """What to subtract before exp: the maximum, or 0 where there is none, because -inf - -inf is NaN."""
    return torch.where(m == -math.inf, 0.0, m)


def _divisor(l: Tensor) -> Tensor:
    return torch.where(l == 0, 1.0, l)


def _wide(x: Tensor) -> Tensor:
    """At least float32, for sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
