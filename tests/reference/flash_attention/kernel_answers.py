"""Answers to the exercise flash_kernel as learners write them: Triton kernels, with the lesson's helpers."""

import triton
import triton.language as tl


@triton.jit
def load_tile(x, head, start, length, D: tl.constexpr, B: tl.constexpr):
    rows = start + tl.arange(0, B)
    where = (head * length + rows)[:, None] * D + tl.arange(0, D)[None, :]
    return tl.load(x + where, mask=rows[:, None] < length, other=0.0)


@triton.jit
def store_tile(x, tile, head, start, length, D: tl.constexpr, B: tl.constexpr):
    rows = start + tl.arange(0, B)
    where = (head * length + rows)[:, None] * D + tl.arange(0, D)[None, :]
    tl.store(x + where, tile, mask=rows[:, None] < length)


@triton.jit
def store_row(x, values, head, start, length, B: tl.constexpr):
    rows = start + tl.arange(0, B)
    tl.store(x + head * length + rows, values, mask=rows < length)


@triton.jit
def every_tile(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    for j in range(0, M, BC):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)), input_precision="ieee") * scale
        cols = j + tl.arange(0, BC)
        seen = cols[None, :] < M
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + M - N)
        s = tl.where(seen, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(s - base[:, None])
        r = tl.exp(m - base)
        l = r * l + tl.sum(p, 1)
        acc = r[:, None] * acc + tl.dot(p, load_tile(v, head, j, M, D, BC), input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, m + tl.log(l), head, start, N, BR)


@triton.jit
def in_powers_of_two(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    i, head = tl.program_id(0), tl.program_id(1)
    queries = load_tile(q, head, i * BR, N, D, BR) * (scale * 1.4426950408889634)
    m = tl.zeros((BR,), tl.float32) - 1e30
    l = tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    last = tl.minimum(i * BR + BR, N) - 1 + M - N
    end = tl.minimum(last + 1, M) if CAUSAL else M
    for j in range(0, tl.cdiv(tl.maximum(end, 0), BC)):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j * BC, M, D, BC)), input_precision="ieee")
        cols = j * BC + tl.arange(0, BC)[None, :]
        limit = i * BR + tl.arange(0, BR)[:, None] + M - N if CAUSAL else M
        s = tl.where((cols < M) & (cols <= limit), s, float("-inf"))
        new = tl.maximum(m, tl.max(s, axis=1))
        r = tl.exp2(m - new)
        p = tl.exp2(s - new[:, None])
        acc *= r[:, None]
        acc += tl.dot(p, load_tile(v, head, j * BC, M, D, BC), input_precision="ieee")
        l = l * r + tl.sum(p, axis=1)
        m = new
    nothing = l == 0
    l = tl.where(nothing, 1.0, l)
    store_tile(o, acc / l[:, None], head, i * BR, N, D, BR)
    store_row(
        lse, tl.where(nothing, float("-inf"), (m + tl.log2(l)) / 1.4426950408889634), head, i * BR, N, BR
    )


@triton.jit
def accumulated_in_place(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    for j in range(0, M, BC):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)), input_precision="ieee") * scale
        cols = j + tl.arange(0, BC)
        seen = cols[None, :] < M
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + M - N)
        s = tl.where(seen, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(s - base[:, None])
        r = tl.exp(m - base)
        l *= r
        l += tl.sum(p, 1)
        acc *= r[:, None]
        acc = tl.dot(p, load_tile(v, head, j, M, D, BC), acc=acc, input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, m + tl.log(l), head, start, N, BR)


@triton.jit
def maximum_from_a_thousand(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), -1000.0, tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    for j in range(0, M, BC):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)), input_precision="ieee") * scale
        cols = j + tl.arange(0, BC)
        seen = cols[None, :] < M
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + M - N)
        s = tl.where(seen, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(s - base[:, None])
        r = tl.exp(m - base)
        l = r * l + tl.sum(p, 1)
        acc = r[:, None] * acc + tl.dot(p, load_tile(v, head, j, M, D, BC), input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, m + tl.log(l), head, start, N, BR)


@triton.jit
def maximum_from_ten_thousand(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), -1e4, tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    for j in range(0, M, BC):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)), input_precision="ieee") * scale
        cols = j + tl.arange(0, BC)
        seen = cols[None, :] < M
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + M - N)
        s = tl.where(seen, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(s - base[:, None])
        r = tl.exp(m - base)
        l = r * l + tl.sum(p, 1)
        acc = r[:, None] * acc + tl.dot(p, load_tile(v, head, j, M, D, BC), input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, tl.where(l == 0, float("-inf"), m + tl.log(l)), head, start, N, BR)


@triton.jit
def sizes_exchanged(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BC, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BC)
    m, l = tl.full((BC,), float("-inf"), tl.float32), tl.zeros((BC,), tl.float32)
    acc = tl.zeros((BC, D), tl.float32)
    rows = start + tl.arange(0, BC)
    for j in range(0, M, BR):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BR)), input_precision="ieee") * scale
        cols = j + tl.arange(0, BR)
        seen = cols[None, :] < M
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + M - N)
        s = tl.where(seen, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(s - base[:, None])
        r = tl.exp(m - base)
        l = r * l + tl.sum(p, 1)
        acc = r[:, None] * acc + tl.dot(p, load_tile(v, head, j, M, D, BR), input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BC)
    store_row(lse, m + tl.log(l), head, start, N, BC)


@triton.jit
def not_rescaled(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    for j in range(0, M, BC):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)), input_precision="ieee") * scale
        cols = j + tl.arange(0, BC)
        seen = cols[None, :] < M
        if CAUSAL:
            seen = seen & (cols[None, :] <= rows[:, None] + M - N)
        s = tl.where(seen, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p = tl.exp(s - base[:, None])
        l = tl.exp(m - base) * l + tl.sum(p, 1)
        acc = acc + tl.dot(p, load_tile(v, head, j, M, D, BC), input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, m + tl.log(l), head, start, N, BR)


@triton.jit
def zeros_count(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    for j in range(0, M, BC):
        s = tl.dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)), input_precision="ieee") * scale
        if CAUSAL:
            s = tl.where((j + tl.arange(0, BC))[None, :] <= rows[:, None] + M - N, s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        p, r = tl.exp(s - base[:, None]), tl.exp(m - base)
        l = r * l + tl.sum(p, 1)
        acc = r[:, None] * acc + tl.dot(p, load_tile(v, head, j, M, D, BC), input_precision="ieee")
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, m + tl.log(l), head, start, N, BR)


@triton.jit
def crashes(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    queries = load_tile(q, tl.program_id(1), 0, N, D, BR)
    store_tile(o, queries.no_such_method(), 0, 0, N, D, BR)


def undecorated(q, k, v, o, lse, N, M, scale, CAUSAL, D, BR, BC):
    o.zero_()


@triton.jit
def stub(
    q, k, v, o, lse, N, M, scale, CAUSAL: tl.constexpr, D: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):
    raise NotImplementedError


RIGHT = [every_tile, in_powers_of_two, accumulated_in_place]
WRONG = {
    maximum_from_a_thousand: "Your maximum starts at a number",
    maximum_from_ten_thousand: "Your maximum starts at a number",
    sizes_exchanged: "You exchange BR and BC",
    not_rescaled: "You rescale l and not the accumulator",
    zeros_count: "Keys past the end are read as zeros",
    crashes: "no_such_method",
    undecorated: "keep the line @triton.jit",
}
