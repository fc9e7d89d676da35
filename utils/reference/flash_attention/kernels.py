"""FlashAttention as Triton kernels: forward and backward pass, float32 accumulation, any lengths, grouped-query heads.

``flash_attention`` takes q[batch, heads, N, d] and k, v[batch, kv_heads, M, d] in bf16, fp16 or fp32; head h reads the keys of
head h // (heads / kv_heads). d is 16, 32, 64 or 128. On a machine without a GPU, set the environment variable TRITON_INTERPRET
to 1 before Triton is imported. Algorithms: FlashAttention-2 (Dao 2023, arXiv 2307.08691), algorithms 1 and 2.
"""
# mypy: ignore-errors

from __future__ import annotations

import functools
import math
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
def _tile(x, start, length, D: tl.constexpr, B: tl.constexpr, RAGGED: tl.constexpr):
    """Rows start to start + B - 1 of x[length, D]; where RAGGED, zeros past the end."""
    rows = start + tl.arange(0, B)
    where = x + rows[:, None] * D + tl.arange(0, D)[None, :]
    return tl.load(where, mask=rows[:, None] < length, other=0.0) if RAGGED else tl.load(where)


@triton.jit
def _store(x, start, length, tile, D: tl.constexpr, B: tl.constexpr):
    rows = start + tl.arange(0, B)
    where = x + rows[:, None] * D + tl.arange(0, D)[None, :]
    tl.store(where, tile.to(x.dtype.element_ty), mask=rows[:, None] < length)


@triton.jit
def _hide(s, rows, cols, N, M, CAUSAL: tl.constexpr):
    """-inf where there is no such query or key, or where the query does not see the key."""
    visible = (rows < N) & (cols < M)
    if CAUSAL:
        visible &= cols <= rows + M - N
    return tl.where(visible, s, float("-inf"))


@triton.jit
def _my_queries(BR: tl.constexpr, CAUSAL: tl.constexpr):
    """The first query of this program's tile. Where causal, later tiles see more keys: they begin first, so that none is left over."""
    tile = tl.program_id(0)
    return (tl.num_programs(0) - 1 - tile if CAUSAL else tile) * BR


@triton.jit
def _key_range(i, N, M, BR: tl.constexpr, BC: tl.constexpr, CAUSAL: tl.constexpr):
    """Every query of the tile from i on sees the keys before ``full``, which is a multiple of BC; none sees keys from ``end`` on."""
    full, end = M // BC * BC, M
    if CAUSAL:
        full = tl.maximum(tl.minimum(full, (i + M - N + 1) // BC * BC), 0)
        end = tl.minimum(M, i + BR + M - N)
    return full, end


@triton.jit
def _forward_tiles(q, acc, m, l, k, v, i, start, end, N, M, scale,
                   MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
                   D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """The keys start to end - 1, for the queries of one tile. m is scaled, in units of log 2; s is not: exp2's argument is one operation."""
    for j in range(start, end, BC):
        s = _dot(q, tl.trans(_tile(k, j, M, D, BC, MASKED)), PRECISION)
        if MASKED:
            s = _hide(s, i + tl.arange(0, BR)[:, None], j + tl.arange(0, BC)[None, :], N, M, CAUSAL)
        new = tl.maximum(m, tl.max(s, 1) * (scale * LOG2E))
        shift = tl.where(new == float("-inf"), 0.0, new) if MASKED else new
        p, r = tl.exp2(s * (scale * LOG2E) - shift[:, None]), tl.exp2(m - shift)
        values = _tile(v, j, M, D, BC, MASKED)
        l = r * l + tl.sum(p, 1)
        acc = acc * r[:, None] + _dot(p.to(values.dtype), values, PRECISION)
        m = new
    return acc, m, l


@triton.jit
def _forward(q, k, v, o, lse, group, N, M, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
             D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """One program per tile of queries and head. Tiles that everybody sees need no mask and come first."""
    i, head = _my_queries(BR, CAUSAL), tl.program_id(1).to(tl.int64)
    kv_head = head // group
    k, v = k + kv_head * M * D, v + kv_head * M * D
    queries = _tile(q + head * N * D, i, N, D, BR, True)
    acc = tl.zeros((BR, D), tl.float32)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    full, end = _key_range(i, N, M, BR, BC, CAUSAL)
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
def _q_tiles(q, do, dq, k, v, lse2, delta, i, start, end, N, M, scale,
             MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
             D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """dq of one tile of queries, from the keys start to end - 1: p = exp(s - lse) is made again, and ds = p (dp - D)."""
    for j in range(start, end, BC):
        keys = _tile(k, j, M, D, BC, MASKED)
        s = _dot(q, tl.trans(keys), PRECISION)
        if MASKED:
            s = _hide(s, i + tl.arange(0, BR)[:, None], j + tl.arange(0, BC)[None, :], N, M, CAUSAL)
        p = tl.exp2(s * (scale * LOG2E) - lse2[:, None])
        dp = _dot(do, tl.trans(_tile(v, j, M, D, BC, MASKED)), PRECISION)
        ds = p * (dp - delta[:, None])
        dq += _dot(ds.to(keys.dtype), keys, PRECISION)
    return dq


@triton.jit
def _backward_q(q, k, v, o, do, lse, delta, dq, group, N, M, scale, CAUSAL: tl.constexpr,
                PRECISION: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """dq, and D = sum(do o), which _backward_kv reads afterwards. One program per tile of queries and head."""
    i, head = _my_queries(BR, CAUSAL), tl.program_id(1).to(tl.int64)
    kv_head = head // group
    k, v = k + kv_head * M * D, v + kv_head * M * D
    rows = i + tl.arange(0, BR)
    grad, out = _tile(do + head * N * D, i, N, D, BR, True), _tile(o + head * N * D, i, N, D, BR, True)
    D_i = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
    tl.store(delta + head * N + rows, D_i, mask=rows < N)
    lse2 = tl.load(lse + head * N + rows, mask=rows < N, other=0.0) * LOG2E
    lse2 = tl.where(lse2 == float("-inf"), 0.0, lse2)  # a row that sees nothing: p = exp(-inf) = 0
    queries = _tile(q + head * N * D, i, N, D, BR, True)
    dqueries = tl.zeros((BR, D), tl.float32)
    full, end = _key_range(i, N, M, BR, BC, CAUSAL)
    dqueries = _q_tiles(
        queries, grad, dqueries, k, v, lse2, D_i, i, 0, full, N, M, scale, False, CAUSAL, PRECISION, D, BR, BC
    )
    dqueries = _q_tiles(
        queries,
        grad,
        dqueries,
        k,
        v,
        lse2,
        D_i,
        i,
        full,
        end,
        N,
        M,
        scale,
        True,
        CAUSAL,
        PRECISION,
        D,
        BR,
        BC,
    )
    _store(dq + head * N * D, i, N, dqueries * scale, D, BR)


@triton.jit
def _kv_tiles(k, v, dk, dv, q, do, lse, delta, j, start, end, N, M, scale,
              MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
              D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """dk and dv of one tile of keys, from the queries start to end - 1.

    Scores stand transposed, keys by queries: so p and ds are the left factors of both sums, and stay in registers. Queries past the
    end have q = do = 0 and add nothing; keys past the end fill rows that are not stored.
    """
    for i in range(start, end, BR):
        rows = i + tl.arange(0, BR)
        queries = _tile(q, i, N, D, BR, True)
        lse2 = tl.load(lse + rows, mask=rows < N, other=0.0) * LOG2E
        s = _dot(k, tl.trans(queries), PRECISION)
        if MASKED:
            s = _hide(s, rows[None, :], j + tl.arange(0, BC)[:, None], N, M, CAUSAL)
            lse2 = tl.where(lse2 == float("-inf"), 0.0, lse2)
        p = tl.exp2(s * (scale * LOG2E) - lse2[None, :])
        grad = _tile(do, i, N, D, BR, True)
        dv += _dot(p.to(grad.dtype), grad, PRECISION)
        dp = _dot(v, tl.trans(grad), PRECISION)
        ds = p * (dp - tl.load(delta + rows, mask=rows < N, other=0.0)[None, :])
        dk += _dot(ds.to(queries.dtype), queries, PRECISION)
    return dk, dv


@triton.jit
def _backward_kv(q, k, v, do, lse, delta, dk, dv, group, N, M, scale, CAUSAL: tl.constexpr,
                 PRECISION: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """One program per tile of keys and kv head: it alone writes its rows of dk and dv, so nothing is added atomically."""
    j, kv_head = tl.program_id(0) * BC, tl.program_id(1).to(tl.int64)
    keys = _tile(k + kv_head * M * D, j, M, D, BC, True)
    values = _tile(v + kv_head * M * D, j, M, D, BC, True)
    dkeys, dvalues = tl.zeros((BC, D), tl.float32), tl.zeros((BC, D), tl.float32)
    first, full = 0, 0
    if CAUSAL:  # queries before ``first`` see none of these keys, those from ``full`` on see all of them
        first = tl.maximum(j - (M - N), 0) // BR * BR
        full = tl.minimum(tl.maximum(tl.cdiv(j + BC - 1 - (M - N), BR) * BR, 0), N)
    for member in range(0, group):
        head = kv_head * group + member
        queries, grads, rows = q + head * N * D, do + head * N * D, head * N
        if CAUSAL:
            dkeys, dvalues = _kv_tiles(
                keys, values, dkeys, dvalues, queries, grads, lse + rows, delta + rows, j, first, full, N, M, scale,
                True, CAUSAL, PRECISION, D, BR, BC,
            )  # fmt: skip
        dkeys, dvalues = _kv_tiles(
            keys, values, dkeys, dvalues, queries, grads, lse + rows, delta + rows, j, full, N, N, M, scale,
            False, CAUSAL, PRECISION, D, BR, BC,
        )  # fmt: skip
    _store(dk + kv_head * M * D, j, M, dkeys * scale, D, BC)
    _store(dv + kv_head * M * D, j, M, dvalues, D, BC)


@functools.cache
def _shared_memory(device: torch.device) -> float:
    """Bytes that one program may use; no limit in the interpreter."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def _sizes(kernel: str, dtype: torch.dtype, d: int, shared: float) -> dict[str, Any]:
    """Rows of queries and of keys in a tile, warps, and pipeline stages: the fastest on an H100, smaller where that does not fit.

    In shared memory lie the tiles that a program keeps, and those that it reads in turn, once for each stage.
    """
    if dtype == torch.float32:  # no tensor cores at full precision: small tiles
        rows, cols, warps, stages = (32, 32, 4, 2) if d > 64 or kernel != "forward" else (64, 32, 4, 2)
    elif kernel == "backward_kv":
        rows, cols, warps, stages = (64, 64, 4, 2) if d > 64 else (128, 64, 4, 2)
    else:
        rows, cols, warps, stages = 128, 64, 8, 3

    def needed() -> int:
        kept = {"forward": rows, "backward_q": 2 * rows, "backward_kv": 2 * cols}[kernel]
        read = 2 * (rows if kernel == "backward_kv" else cols)
        return (kept + stages * read) * d * dtype.itemsize + 4096

    while needed() > shared and max(rows, cols) > 16:
        if stages > 2:
            stages = 2
        elif rows >= cols:
            rows, warps = rows // 2, 4
        else:
            cols //= 2
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
    chosen = _sizes("forward", q.dtype, d, _shared_memory(q.device)) | sizes
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
    """dq, dk, dv in the dtype of the inputs. Seven products where five would do: adding to dq atomically was slower on an H100."""
    q, k, v, o, do = (x.contiguous() for x in (q, k, v, o, do))
    (batch, heads, N, d), (kv_heads, M) = q.shape, k.shape[1:3]
    dq, dk, dv, delta = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(lse)
    shared = _shared_memory(q.device)
    size = heads // kv_heads, N, M, d**-0.5
    fixed = {"CAUSAL": causal, "PRECISION": _precision(q), "D": d}
    chosen = _sizes("backward_q", q.dtype, d, shared) | sizes
    q_grid = triton.cdiv(N, chosen["BR"]), batch * heads
    _backward_q[q_grid](q, k, v, o, do, lse, delta, dq, *size, **fixed, **chosen)
    chosen = _sizes("backward_kv", q.dtype, d, shared) | sizes
    kv_grid = triton.cdiv(M, chosen["BC"]), batch * kv_heads
    _backward_kv[kv_grid](q, k, v, do, lse, delta, dk, dv, *size, **fixed, **chosen)
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
