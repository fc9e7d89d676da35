"""FlashAttention as Triton kernels: forward and backward pass, float32 accumulation, any lengths, grouped-query heads.

``flash_attention`` takes q[batch, heads, N, d] and k, v[batch, kv_heads, M, d] in bf16, fp16 or fp32; head h reads the keys of
head h // (heads / kv_heads). d is 16, 32, 64 or 128. On a machine without a GPU, set the environment variable TRITON_INTERPRET
to 1 before Triton is imported. Algorithms: FlashAttention-2 (Dao 2023, arXiv 2307.08691), algorithms 1 and 2.
"""
# mypy: ignore-errors

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

LOG2E = tl.constexpr(1.4426950408889634)  # exp(x) = 2^(x log2 e), and the hardware has 2^x
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr):
    """a b in float32. Triton's interpreter multiplies bf16 as if it were integers, so it gets float32."""
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision=PRECISION)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _tile(x, start, length, D: tl.constexpr, B: tl.constexpr):
    """Rows start to start + B - 1 of x[length, D]; zeros past the end."""
    rows = start + tl.arange(0, B)
    return tl.load(x + rows[:, None] * D + tl.arange(0, D)[None, :], mask=rows[:, None] < length, other=0.0)


@triton.jit
def _store(x, start, length, tile, D: tl.constexpr, B: tl.constexpr):
    rows = start + tl.arange(0, B)
    where = x + rows[:, None] * D + tl.arange(0, D)[None, :]
    tl.store(where, tile.to(x.dtype.element_ty), mask=rows[:, None] < length)


@triton.jit
def _visible(i, j, N, M, CAUSAL: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """Which queries i to i + BR - 1 see which keys j to j + BC - 1."""
    rows, cols = i + tl.arange(0, BR), j + tl.arange(0, BC)
    inside = (rows[:, None] < N) & (cols[None, :] < M)
    return inside & (cols[None, :] <= rows[:, None] + M - N) if CAUSAL else inside


@triton.jit
def _forward_tiles(q, acc, m, l, k, v, i, start, end, N, M, scale,
                   MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
                   D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """The keys start to end - 1, for the queries of one tile; scores in units of log 2."""
    for j in range(start, end, BC):
        s = _dot(q, tl.trans(_tile(k, j, M, D, BC)), PRECISION) * (scale * LOG2E)
        if MASKED:
            s = tl.where(_visible(i, j, N, M, CAUSAL, BR, BC), s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        shift = tl.where(new == float("-inf"), 0.0, new) if MASKED else new
        p, r = tl.exp2(s - shift[:, None]), tl.exp2(m - shift)
        values = _tile(v, j, M, D, BC)
        l = r * l + tl.sum(p, 1)
        acc = acc * r[:, None] + _dot(p.to(values.dtype), values, PRECISION)
        m = new
    return acc, m, l


@triton.jit
def _forward(q, k, v, o, lse, group, N, M, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
             D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """One program per tile of queries and head. Tiles that everybody sees need no mask and come first."""
    i, head = tl.program_id(0) * BR, tl.program_id(1).to(tl.int64)
    kv_head = head // group
    k, v = k + kv_head * M * D, v + kv_head * M * D
    queries = _tile(q + head * N * D, i, N, D, BR)
    acc = tl.zeros((BR, D), tl.float32)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    full, end = M // BC * BC, M
    if CAUSAL:
        full = tl.maximum(tl.minimum(full, (i + M - N + 1) // BC * BC), 0)
        end = tl.minimum(M, i + BR + M - N)
    acc, m, l = _forward_tiles(
        queries, acc, m, l, k, v, i, 0, full, N, M, scale, False, CAUSAL, PRECISION, D, BR, BC
    )
    acc, m, l = _forward_tiles(
        queries, acc, m, l, k, v, i, full, end, N, M, scale, True, CAUSAL, PRECISION, D, BR, BC
    )
    l = tl.where(l == 0, 1.0, l)  # a row that sees nothing: o = 0, and lse = m = -inf
    _store(o + head * N * D, i, N, acc / l[:, None], D, BR)
    rows = i + tl.arange(0, BR)
    tl.store(lse + head * N + rows, (m + tl.log2(l)) / LOG2E, mask=rows < N)


@triton.jit
def _p_and_ds(q, k, v, do, lse, delta, i, j, N, M, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
              BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """One tile of p = exp(s - lse), made again from q, k and lse, and of ds = p (dp - D)."""
    rows = i + tl.arange(0, BR)
    lse = tl.load(lse + rows, mask=rows < N, other=0.0)
    D_i = tl.load(delta + rows, mask=rows < N, other=0.0)
    s = _dot(q, tl.trans(k), PRECISION) * (scale * LOG2E)
    s = tl.where(_visible(i, j, N, M, CAUSAL, BR, BC), s, float("-inf"))
    p = tl.exp2(s - tl.where(lse == float("-inf"), 0.0, lse)[:, None] * LOG2E)
    dp = _dot(do, tl.trans(v), PRECISION)
    return p, p * (dp - D_i[:, None])


@triton.jit
def _backward_kv(q, k, v, do, lse, delta, dk, dv, group, N, M, scale, CAUSAL: tl.constexpr,
                 PRECISION: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """One program per tile of keys and kv head: it alone writes its rows of dk and dv, so nothing is added atomically."""
    j, kv_head = tl.program_id(0) * BC, tl.program_id(1).to(tl.int64)
    keys = _tile(k + kv_head * M * D, j, M, D, BC)
    values = _tile(v + kv_head * M * D, j, M, D, BC)
    dkeys, dvalues = tl.zeros((BC, D), tl.float32), tl.zeros((BC, D), tl.float32)
    first = tl.maximum(j - (M - N), 0) // BR * BR if CAUSAL else 0
    for head in range(kv_head * group, (kv_head + 1) * group):
        for i in range(first, N, BR):
            queries, grad = _tile(q + head * N * D, i, N, D, BR), _tile(do + head * N * D, i, N, D, BR)
            p, ds = _p_and_ds(
                queries, keys, values, grad, lse + head * N, delta + head * N, i, j, N, M, scale, CAUSAL, PRECISION, BR, BC
            )  # fmt: skip
            dvalues += _dot(tl.trans(p).to(grad.dtype), grad, PRECISION)
            dkeys += _dot(tl.trans(ds).to(queries.dtype), queries, PRECISION)
    _store(dk + kv_head * M * D, j, M, dkeys * scale, D, BC)
    _store(dv + kv_head * M * D, j, M, dvalues, D, BC)


@triton.jit
def _backward_q(q, k, v, do, lse, delta, dq, group, N, M, scale, CAUSAL: tl.constexpr,
                PRECISION: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """One program per tile of queries and head."""
    i, head = tl.program_id(0) * BR, tl.program_id(1).to(tl.int64)
    kv_head = head // group
    queries, grad = _tile(q + head * N * D, i, N, D, BR), _tile(do + head * N * D, i, N, D, BR)
    dqueries = tl.zeros((BR, D), tl.float32)
    end = tl.minimum(M, i + BR + M - N) if CAUSAL else M
    for j in range(0, end, BC):
        keys, values = _tile(k + kv_head * M * D, j, M, D, BC), _tile(v + kv_head * M * D, j, M, D, BC)
        _, ds = _p_and_ds(
            queries, keys, values, grad, lse + head * N, delta + head * N, i, j, N, M, scale, CAUSAL, PRECISION, BR, BC
        )  # fmt: skip
        dqueries += _dot(ds.to(keys.dtype), keys, PRECISION)
    _store(dq + head * N * D, i, N, dqueries * scale, D, BR)


def _sizes(dtype: torch.dtype, d: int, backward: bool) -> dict[str, Any]:
    """Rows of queries and of keys in a tile, warps and pipeline stages; chosen for Hopper, correct everywhere."""
    if dtype == torch.float32:
        rows, cols, warps, stages = (32, 32, 4, 2) if d > 64 or backward else (64, 32, 4, 2)
    elif backward:
        rows, cols, warps, stages = (64, 64, 4, 2) if d > 64 else (64, 128, 8, 2)
    else:
        rows, cols, warps, stages = (128, 64, 8, 3) if d > 64 else (128, 128, 8, 3)
    return {"BR": rows, "BC": cols, "num_warps": warps, "num_stages": stages}


def forward(
    q: Float[Tensor, "batch heads N d"],
    k: Float[Tensor, "batch kv_heads M d"],
    v: Float[Tensor, "batch kv_heads M d"],
    causal: bool = False,
    **sizes: Any,
) -> tuple[Float[Tensor, "batch heads N d"], Float[Tensor, "batch heads N"]]:
    """o in q's dtype, and lse in float32. ``sizes`` (BR, BC, num_warps, num_stages) replaces the choice of tiles."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    (batch, heads, N, d), M = q.shape, k.shape[2]
    o, lse = torch.empty_like(q), q.new_empty(batch, heads, N, dtype=torch.float32)
    chosen = _sizes(q.dtype, d, backward=False) | sizes
    grid = triton.cdiv(N, chosen["BR"]), batch * heads
    _forward[grid](
        q, k, v, o, lse, heads // k.shape[1], N, M, d**-0.5,
        CAUSAL=causal, PRECISION=_precision(q), D=d, **chosen,
    )  # fmt: skip
    return o, lse


def backward(
    q: Float[Tensor, "batch heads N d"],
    k: Float[Tensor, "batch kv_heads M d"],
    v: Float[Tensor, "batch kv_heads M d"],
    o: Float[Tensor, "batch heads N d"],
    lse: Float[Tensor, "batch heads N"],
    do: Float[Tensor, "batch heads N d"],
    causal: bool = False,
    **sizes: Any,
) -> tuple[
    Float[Tensor, "batch heads N d"], Float[Tensor, "batch kv_heads M d"], Float[Tensor, "batch kv_heads M d"]
]:
    """dq, dk, dv in the dtype of the inputs."""
    q, k, v, do = q.contiguous(), k.contiguous(), v.contiguous(), do.contiguous()
    (batch, heads, N, d), (kv_heads, M) = q.shape, k.shape[1:3]
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    delta = (do.float() * o.float()).sum(-1)
    chosen = _sizes(q.dtype, d, backward=True) | sizes
    size = heads // kv_heads, N, M, d**-0.5
    fixed = {"CAUSAL": causal, "PRECISION": _precision(q), "D": d}
    kv_grid = triton.cdiv(M, chosen["BC"]), batch * kv_heads
    _backward_kv[kv_grid](q, k, v, do, lse, delta, dk, dv, *size, **fixed, **chosen)
    q_grid = triton.cdiv(N, chosen["BR"]), batch * heads
    _backward_q[q_grid](q, k, v, do, lse, delta, dq, *size, **fixed, **chosen)
    return dq, dk, dv


def _precision(q: Tensor) -> str:
    return "ieee" if q.dtype == torch.float32 else "tf32"  # which matters for float32 only


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, causal):
        o, lse = forward(q, k, v, causal)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.causal = causal
        return o

    @staticmethod
    def backward(ctx, do):
        return *backward(*ctx.saved_tensors, do, ctx.causal), None


def flash_attention(
    q: Float[Tensor, "batch heads N d"],
    k: Float[Tensor, "batch kv_heads M d"],
    v: Float[Tensor, "batch kv_heads M d"],
    causal: bool = False,
) -> Float[Tensor, "batch heads N d"]:
    """Exact attention that never holds N x M numbers, forward and backward."""
    result: Tensor = _FlashAttention.apply(q, k, v, causal)
    return result
