# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Memory traffic, and a kernel for a GPU
#
# *Exact attention in tiles, part 4 of 4: why it is fast, and how it is written for the machine that it was made for.*
#
# **Claim.** Tiled attention does the same operations as standard attention and moves fewer numbers between the slow and the fast memory of a GPU, as soon as the fast memory holds more than about $2 d^2$
# numbers. For 4096 tokens and 64 channels your formulas give 68.2 million numbers for standard attention and 23.1 million for tiles in a fast memory of 25,000; a simulated memory counts exactly as many. And the kernel that you write at the end
# gives the same output as the formula in float64, up to rounding.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for a few seconds |
# | **You need** | [notebook 01](01_online_softmax.ipynb) and [notebook 02](02_tiling.ipynb). No GPU: without one, the kernel runs in an interpreter. |
# | **Graded** | four exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | the count that explains FlashAttention, decoding in parts, and a Triton kernel of your own |

# %% setup
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import utils
from autograde import open_lesson, yours
from utils import plotting

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton looks at this when it is imported
utils.setup()
check = open_lesson("flash_attention/04_io_and_gpu")

# %% [markdown]
# ## The problem: a processor that waits
#
# A GPU has two memories. The large one (HBM) holds tens of gigabytes, and is outside of the chip's arithmetic units. The small one (SRAM, "shared memory") is beside them, holds about 200 kilobytes per
# unit, and is many times faster. An operation takes as long as the slower of two things: its arithmetic, or the numbers that it moves to and from the large memory. Here is how many
# operations each part of attention does for each number that it moves.
#
# <!-- not printed: 200 (kilobytes of shared memory of one unit, between those of an A100 and of an H100) -->

# %% tags=["demo"]
N, d = 4096, 64
parts = {
    "scores  q k^T": (2 * N * N * d, 2 * N * d + N * N),
    "softmax": (5 * N * N, 2 * N * N),
    "output  p v": (2 * N * N * d, N * N + 2 * N * d),
}
for name, (operations, moved) in parts.items():
    print(
        f"{name:14} {operations / 1e9:6.2f} billion operations, {moved / 1e6:6.2f} million numbers moved: {operations / moved:6.1f} per number"
    )
peak, bandwidth = 989e12, 3.35e12 / 2
print(f"an H100 needs {peak / bandwidth:.0f} operations in bfloat16 per number moved to be busy")

# %% [markdown]
# All three parts are far below what keeps the processor busy. It waits for the memory. Doing the same operations while moving fewer numbers is therefore faster, even if some operations are done twice.
#
# (The H100's numbers are from its data sheet, for the SXM5 version: 989 TFLOP/s in bfloat16 without sparsity, 3.35 TB/s.)
#
# <!-- not printed: 3.35 (data sheet of the H100) -->
#
# ## Notation
#
# | symbol | meaning | shape |
# |---|---|---|
# | $N$ | tokens: as many queries as keys in the counts | |
# | $d$ | channels | |
# | $M$ | in the counts: numbers that fit into the fast memory. Elsewhere: keys | |
# | $B_r$ | queries in a tile | |
# | HBM | the large, slow memory; what is read from it or written to it is counted | |
# | $S,\ P$ | scores and weights | `[N, N]` |
# | $(m, l, o)$ | maximum, sum, and undivided output of a part of the keys | `[..., 1]`, `[..., 1]`, `[..., 1, d]` |
#
# ## What standard attention moves
#
# Three kernels run one after the other, and each reads its inputs from the slow memory and writes its result there:
#
# 1. $S = q k^\top / \sqrt d$: reads $q$ and $k$, writes $S$.
# 2. $P = \text{softmax}(S)$: reads $S$, writes $P$; a row is read once.
# 3. $o = P v$: reads $P$ and $v$, writes $o$.
#
# ### Exercise 1 · hbm_standard  ●○○  4 minutes
#
# Add up the numbers that are read and written.


# %% hbm_standard tags=["exercise"]
def hbm_standard(N: int, d: int) -> int:
    """Numbers that standard attention reads from and writes to the slow memory.

    Arguments:
        N: queries, and as many keys.
        d: channels of q, k, v and o.

    Returns:
        How many numbers (not bytes) are moved by the three kernels.

    Example:
        hbm_standard(1000, 64) is 4256000.
    """
    ### BEGIN SOLUTION
    scores = 2 * N * d + N * N
    softmax = 2 * N * N
    output = N * N + N * d + N * d
    return scores + softmax + output
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# $S$ and $P$ go out and come in again: that is four passes over $N^2$ numbers.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $q$, $k$, $v$ and $o$ are moved once each: $4 N d + 4 N^2$.
#
# </details>
#
# <details>
# <summary>"My number is too small by a multiple of N squared"</summary>
#
# A matrix that is written by one kernel and read by the next counts twice.
#
# </details>

# %% check_hbm_standard tags=["check"]
check.hbm_standard(hbm_standard)

# %% tags=["demo"]
for N in (1024, 4096, 16384):
    total = hbm_standard(N, 64)
    print(
        f"N = {N:5}, d = 64: {total / 1e6:8.1f} million numbers, {4 * N * N / total:.1%} of them for S and P"
    )

# %% [markdown]
# ## What tiles move
#
# Now the two loops of `flash_forward`. A tile of queries is read once and stays in the fast memory, with its accumulator. Then *all* keys and values pass by, tile by tile. Scores and weights never leave.
# At the end the tile's output and its log-sum-exp are written.
#
# So keys and values are read again for every tile of queries: the larger the tiles, the less traffic. How large can they be? Tiles of $q$, $k$, $v$ and of the output have $B_r \times d$ numbers
# each (let $B_c = B_r$), and all four are there at once: $4 B_r d \le M$. We count these four. The tile of scores and the statistics live in registers on a GPU, and
# are left out, as in the paper.
#
# ### Exercise 2 · hbm_flash  ●●○  9 minutes
#
# With the largest $B_r$ that fits: how many numbers are read and written? Count $q$, $k$, $v$, $o$ and lse. The last tile of queries may be smaller; it reads all keys and values all the same.


# %% hbm_flash tags=["exercise"]
def hbm_flash(N: int, d: int, M: int) -> int:
    """Numbers that flash_forward reads from and writes to the slow memory, without a mask.

    Arguments:
        N: queries, and as many keys.
        d: channels.
        M: numbers that fit into the fast memory, at least 4 d. Tiles have M // (4 d) rows.

    Returns:
        How many numbers (not bytes) are moved.

    Example:
        hbm_flash(1000, 64, 25600) is 1409000: ten tiles of 100 queries.
    """
    ### BEGIN SOLUTION
    Br = M // (4 * d)
    once = N * d + N * d + N
    tiles = math.ceil(N / Br)
    return once + tiles * 2 * N * d
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Moved once: $q$ in, $o$ out, lse out. Moved once for each tile of queries: all keys and all values.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `math.ceil(N / (M // (4 * d))) * 2 * N * d`, and $2 N d + N$ in addition.
#
# </details>
#
# <details>
# <summary>"My number is right for the first case and too small where N is no multiple of the tile"</summary>
#
# Round the number of tiles up. A tile of one query has to see all keys, too.
#
# </details>

# %% check_hbm_flash tags=["check"]
check.hbm_flash(hbm_flash)

# %% [markdown]
# **See it.** The same numbers, counted: a class that stands for the slow memory notes what is read and written while attention is computed. The **negative control** is standard
# attention in the same memory.


# %%
class SlowMemory:
    """Counts the numbers that pass."""

    def __init__(self) -> None:
        self.moved = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        self.moved += tensor.numel()
        return tensor


def standard_in(hbm: SlowMemory, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Three kernels, each from slow memory to slow memory."""
    s = hbm(hbm(q) @ hbm(k).mT / math.sqrt(q.shape[-1]))
    p = hbm(torch.softmax(hbm(s), -1))
    return hbm(hbm(p) @ hbm(v))


def tiles_in(hbm: SlowMemory, q: Tensor, k: Tensor, v: Tensor, M: int) -> Tensor:
    """Tiles of queries; all keys and values pass by each of them."""
    Br = M // (4 * q.shape[-1])
    outputs = []
    for rows in q.split(Br):
        rows = hbm(rows)
        m, l, acc = torch.full((len(rows), 1), -math.inf), torch.zeros(len(rows), 1), torch.zeros_like(rows)
        for keys, values in zip(k.split(Br), v.split(Br), strict=True):
            s = rows @ hbm(keys).mT / math.sqrt(q.shape[-1])
            new = torch.maximum(m, s.amax(1, keepdim=True))
            p, r = torch.exp(s - new), torch.exp(m - new)
            m, l, acc = new, r * l + p.sum(1, keepdim=True), r * acc + p @ hbm(values)
        hbm(m + l.log())
        outputs.append(hbm(acc / l))
    return torch.cat(outputs)


# %% tags=["demo"]
gen = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(4096, 64, generator=gen) for _ in range(3))
memory = SlowMemory()
o = standard_in(memory, q, k, v)
print(
    f"standard:            counted {memory.moved / 1e6:6.1f} million, hbm_standard {hbm_standard(4096, 64) / 1e6:6.1f} million"
)
for M in (6_000, 12_500, 25_000, 50_000):
    memory = SlowMemory()
    difference = (tiles_in(memory, q, k, v, M) - o).abs().max()
    ratio = hbm_standard(4096, 64) / memory.moved
    print(
        f"tiles, M = {M:6,}:   counted {memory.moved / 1e6:6.1f} million, hbm_flash {hbm_flash(4096, 64, M) / 1e6:9.1f} million, standard moves {ratio:.2f} times as many; outputs differ by {difference:.0e}"
    )

# %% [markdown]
# A fast memory of 6000 numbers is too small: tiles then move more than the formula does. Where is the **break-even point**? For large $N$ the counts are about $4 N^2$ and $2 N^2 d / B_r$. They are equal for $B_r = d / 2$, which is
#
# $$ M = 4 B_r d = 2 d^2 . $$
#
# Beyond that, traffic falls like $8 N^2 d^2 / M$. Theorem 2 of FlashAttention states this order, $\Theta(N^2 d^2 M^{-1})$, for its own loop order (keys outside, where $q$, $o$ and the statistics move in each round). Its proposition 3 says that no exact attention does better
# for all sizes $M$ between $d$ and $N d$.

# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=3.8)
for d, color in ((32, plotting.GREEN), (64, plotting.BLUE), (128, plotting.ORANGE)):
    sizes = torch.logspace(math.log10(16 * d), math.log10(120_000), 60).int().tolist()
    ax.loglog(sizes, [hbm_flash(4096, d, M) / hbm_standard(4096, d) for M in sizes], color=color)
    ax.plot(2 * d * d, 1, "o", color=color, markersize=7)
    plotting.label(ax, 125_000, hbm_flash(4096, d, 120_000) / hbm_standard(4096, d), f"d = {d}", color)
    better = next(M for M in range(4 * d, 200_000, 4 * d) if hbm_flash(4096, d, M) < hbm_standard(4096, d))
    print(f"d = {d:3}: fewer numbers from M = {better:6,} on; 2 d^2 = {2 * d * d:6,}")
ax.axhline(1, color=plotting.GREY, linewidth=1, linestyle="--")
ax.set(
    xlabel="fast memory M (numbers)",
    ylabel="traffic, relative to standard",
    xlim=(400, 240_000),
    yticks=[0.1, 1, 10],
    yticklabels=["0.1", "1", "10"],
)
plotting.caption(
    fig,
    "4096 tokens. Dots: the break-even point 2 d². See that every line crosses the dashed one near its dot, and falls like 1 / M.",
)

# %% [markdown]
# ## One query, many keys
#
# When a model writes text, there is *one* new query at a time, and thousands of keys. There is one tile of queries for each head, so one unit of the GPU would work for each head, and most of the more than a hundred units would wait. But `merge` is associative: the keys can
# be divided into parts, each part is worked on by another unit, and the parts are put together. The name of this is split-K, or Flash-Decoding.
#
# ### Exercise 3 · split_k_decode  ●●○  8 minutes
#
# Divide the keys into `splits` parts of about the same size. Make $(m, l, o)$ of each, with the maximum of the part and $o$ *not* divided; put them together with `merge`, which is handed in; divide once. For bfloat16 inputs compute in float32. The check hands in
# merges of its own: they note which keys each part has, and whether the output is made of what they return.


# %% split_k_decode tags=["exercise"]
def split_k_decode(
    q: Float[Tensor, "*heads 1 d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    splits: int,
    merge: Callable[..., Any],
) -> Float[Tensor, "*heads 1 d"]:
    """Attention of one query, with the keys in parts that know nothing of each other.

    Arguments:
        q: one query for each head; k, v: its keys and values.
        splits: into how many parts the keys are divided, at most M.
        merge: merge(a, b) puts two parts (m, l, o) together, as in notebook 01; m and l have the shape [..., 1].

    Returns:
        The output, in float32 for inputs with fewer digits.

    Example:
        For q = [[0.]], k = [[1.], [2.]], v = [[3.], [5.]] and two splits the output is [[4.]].
    """
    ### BEGIN SOLUTION
    q, k, v = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, k, v))
    parts = []
    for keys, values in zip(k.tensor_split(splits, -2), v.tensor_split(splits, -2), strict=True):
        s = q @ keys.mT * q.shape[-1] ** -0.5
        m = s.amax(-1)
        p = torch.exp(s - m[..., None])
        parts.append((m, p.sum(-1), p @ values))
    _, l, o = functools.reduce(merge, parts)
    return o / l[..., None]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# `tensor_split(splits, -2)` divides along the keys, also where it does not come out even. Each part is one block of notebook 01.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# In a part: `m = s.amax(-1)`, `p = torch.exp(s - m[..., None])`, and `(m, p.sum(-1), p @ values)`. Then `functools.reduce(merge, parts)`.
#
# </details>
#
# <details>
# <summary>"Close, but not right, and worse with more parts"</summary>
#
# Outputs that were divided by their own $l$ cannot be added. Hand the sums to `merge`, and divide at the end.
#
# </details>

# %% check_split_k_decode tags=["check"]
check.split_k_decode(split_k_decode)

# %% tags=["demo"]
merge = yours("flash_attention/01_online_softmax", "merge")
gen = torch.Generator().manual_seed(1)
q, k, v = (torch.randn(2, 8, length, 64, generator=gen) for length in (1, 5000, 5000))
exact = torch.softmax(q.double() @ k.double().mT / 8, -1) @ v.double()
for splits in (1, 2, 16, 128):
    error = (split_k_decode(q, k, v, splits, merge) - exact).abs().max()
    print(
        f"{splits:4} parts: {2 * 8 * splits:5} units of a GPU could work at once, largest error beside float64 {error:.0e}"
    )

# %% [markdown]
# ## A kernel
#
# PyTorch cannot keep a tile in the fast memory from one call to the next: every call reads and writes the slow one. For that one writes a **kernel**. Triton is a language for kernels that looks like Python. The differences:
#
# - A kernel is started as a **grid** of programs that run at the same time. Each asks which one it is: `tl.program_id(0)`. Here it is the tile of queries, and `tl.program_id(1)` is the head.
# - A program works on whole tiles. What it loads, it keeps in the fast memory or in registers: variables *are* the fast memory.
# - Arguments are addresses in the slow memory. `tl.load` and `tl.store` are the only traffic. The sizes of tiles are constants (`tl.constexpr`), and powers of two.
#
# | in PyTorch | in Triton |
# |---|---|
# | `torch.arange(n)` | `tl.arange(0, n)`, with a constant `n` |
# | `torch.zeros(n, d)`, `torch.full((n,), x)` | `tl.zeros((n, d), tl.float32)`, `tl.full((n,), x, tl.float32)` |
# | `a @ b.mT` | `dot(a, tl.trans(b))`, given below |
# | `s.amax(1)`, `s.sum(1)` | `tl.max(s, 1)`, `tl.sum(s, 1)` |
# | `torch.where`, `torch.maximum`, `torch.exp`, `torch.log` | `tl.where`, `tl.maximum`, `tl.exp`, `tl.log` |
#
# All tensors here are float32 and contiguous. Addresses are given as helpers: `load_tile` reads rows of one head and puts *zeros* where it goes past the end, `store_tile` and `store_row` write back what lies inside. On a machine without a GPU all of this runs in Triton's interpreter, slowly and
# with the same results.

# %% helpers
try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The last exercise needs Triton, which runs on Linux: pip install triton") from error


@triton.jit
def load_tile(x, head, start, length, D: tl.constexpr, B: tl.constexpr):
    """Rows start to start + B - 1 of a head of x[heads, length, D]; zeros past the end."""
    rows = start + tl.arange(0, B)
    where = (head * length + rows)[:, None] * D + tl.arange(0, D)[None, :]
    return tl.load(x + where, mask=rows[:, None] < length, other=0.0)


@triton.jit
def store_tile(x, tile, head, start, length, D: tl.constexpr, B: tl.constexpr):
    """Write tile[B, D] to the rows from start on; what lies past the end is not written."""
    rows = start + tl.arange(0, B)
    where = (head * length + rows)[:, None] * D + tl.arange(0, D)[None, :]
    tl.store(x + where, tile, mask=rows[:, None] < length)


@triton.jit
def store_row(x, values, head, start, length, B: tl.constexpr):
    """Write values[B] to x[head, start] and after; what lies past the end is not written."""
    rows = start + tl.arange(0, B)
    tl.store(x + head * length + rows, values, mask=rows < length)


@triton.jit
def dot(a, b):
    """The matrix product in full float32."""
    return tl.dot(a, b, input_precision="ieee")


# %% [markdown]
# ### Exercise 4 · flash_kernel  ●●●  20 minutes
#
# Write what one program does: `flash_forward` for one tile of queries of one head. The helpers move the numbers; the loop, the mask and the rescaling are yours.
#
# Mind three things. `load_tile` fills with zeros, so keys past the end have the score 0 and not $-\infty$: hide the columns from `M` on, with or without a causal mask. A row that has seen nothing yet would give NaN. And with `CAUSAL`, the loop ends at the last
# key that the tile's last query sees (to let it run to `M` is right, too, and slower).


# %% flash_kernel tags=["exercise"]
@triton.jit
def flash_kernel(
    q: "pointer",
    k: "pointer",
    v: "pointer",
    o: "pointer",
    lse: "pointer",
    N: "i32",
    M: "i32",
    scale: "fp32",
    CAUSAL: tl.constexpr,
    D: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
) -> None:
    """Attention of one tile of queries of one head. Started with one program per tile (axis 0) and head (axis 1).

    Arguments:
        q, k, v: where q[heads, N, D], k[heads, M, D] and v[heads, M, D] begin.
        o, lse: where o[heads, N, D] and lse[heads, N] begin; both are to be written.
        N, M: queries and keys.
        scale: the factor of the scores.
        CAUSAL: query i sees the keys j <= i + M - N only.
        D, BR, BC: channels; queries and keys in a tile.

    Returns:
        Nothing: the results are stored. A query that sees no key gets o = 0 and lse = -inf.

    Example:
        For one head, q = 0 and two keys with the values 3 and 5 in every channel: o is 4 and lse is 0.6931.
    """
    ### BEGIN SOLUTION
    start, head = tl.program_id(0) * BR, tl.program_id(1)
    queries = load_tile(q, head, start, N, D, BR)
    m, l = tl.full((BR,), float("-inf"), tl.float32), tl.zeros((BR,), tl.float32)
    acc = tl.zeros((BR, D), tl.float32)
    rows = start + tl.arange(0, BR)
    last = tl.minimum(M, start + BR + M - N) if CAUSAL else M
    for j in range(0, last, BC):
        cols = j + tl.arange(0, BC)
        limit = rows[:, None] + M - N if CAUSAL else M - 1
        s = scale * dot(queries, tl.trans(load_tile(k, head, j, M, D, BC)))
        s = tl.where((cols[None, :] < M) & (cols[None, :] <= limit), s, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        shift = tl.where(new == float("-inf"), 0.0, new)
        p, r = tl.exp(s - shift[:, None]), tl.exp(m - shift)
        l = r * l + tl.sum(p, 1)
        acc = r[:, None] * acc + dot(p, load_tile(v, head, j, M, D, BC))
        m = new
    l = tl.where(l == 0, 1.0, l)
    store_tile(o, acc / l[:, None], head, start, N, D, BR)
    store_row(lse, m + tl.log(l), head, start, N, BR)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Take `flash_forward` from notebook 02. Its outer loop becomes the grid: `start = tl.program_id(0) * BR`, `head = tl.program_id(1)`. Its inner loop stays, with `load_tile` in place of slices.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `for j in range(0, M, BC):`, `cols = j + tl.arange(0, BC)`, and `s = tl.where(visible, s, float("-inf"))` with `visible = cols[None, :] < M`, and in the causal case `& (cols[None, :] <= rows[:, None] + M - N)`.
# At the end `store_tile(o, acc / l[:, None], head, start, N, D, BR)` and `store_row(lse, m + tl.log(l), head, start, N, BR)`, after `l = tl.where(l == 0, 1.0, l)`.
#
# </details>
#
# <details>
# <summary>"The output is a little too small where M is no multiple of BC"</summary>
#
# The zeros past the end count as keys with the score 0, and each adds `exp(0 - m)` to `l`. Hide them.
#
# </details>
#
# <details>
# <summary>"On a GPU it does not compile, and the interpreter accepts it"</summary>
#
# A variable has to keep its type and shape through the loop: `m`, `l` and `acc` begin in float32 with the shapes that they will have. And only `tl` functions, helpers with `@triton.jit` and constants exist inside of a kernel.
#
# </details>

# %% check_flash_kernel tags=["check"]
check.flash_kernel(flash_kernel)


# %% tags=["demo"]
def launch(q: Tensor, k: Tensor, v: Tensor, causal: bool, B: int = 32) -> tuple[Tensor, Tensor]:
    """Your kernel on q[heads, N, D], k and v, in float32; (o, lse)."""
    (heads, N, D), M = q.shape, k.shape[1]
    o, lse = torch.empty_like(q), torch.empty_like(q[..., 0])
    arguments = (q, k, v, o, lse, N, M, D**-0.5, causal, D, B, B)
    if hasattr(flash_kernel, "run"):
        if "NotImplementedError" in flash_kernel.fn.__code__.co_names:  # on a GPU this does not compile
            raise NotImplementedError("flash_kernel is not written yet")
        try:
            flash_kernel[(math.ceil(N / B), heads)](*arguments)
        except Exception as error:  # the interpreter wraps what goes wrong inside
            raise error.__cause__ or error from None
    else:  # the course's version, where you asked for it
        flash_kernel(*arguments)
    return o, lse


device = "cuda" if torch.cuda.is_available() else "cpu"
gen = torch.Generator().manual_seed(3)
for N, M, causal in ((100, 100, False), (100, 100, True), (70, 130, True)):
    q, k, v = (torch.randn(2, size, 32, generator=gen).to(device) for size in (N, M, M))
    o, lse = launch(q, k, v, causal)
    s = q.double() @ k.double().mT / math.sqrt(32)
    if causal:
        hidden = torch.arange(M, device=device) > torch.arange(N, device=device)[:, None] + M - N
        s = s.masked_fill(hidden, -math.inf)
    errors = (o - torch.softmax(s, -1) @ v.double()).abs().max(), (lse - torch.logsumexp(s, -1)).abs().max()
    print(
        f"N = {N:3}, M = {M:3}, causal {causal!s:5}: errors beside float64: output {errors[0]:.0e}, lse {errors[1]:.0e}"
    )

# %% [markdown]
# Your kernel and float64 agree up to rounding. The course's own kernels, with a backward pass, heads that share keys, and bfloat16, are in
# [`utils/reference/flash_attention/kernels.py`](../../utils/reference/flash_attention/kernels.py), where the same loop is made fast:
#
# - Tiles that every query sees come first, and skip the mask. Only the last ones, on the diagonal and at the ragged end, pay for it.
# - Powers of two replace exponentials, because the hardware has those; the factor $\log_2 e$ goes into the scale.
# - In the backward pass the scores of a tile stand transposed, keys by queries. Then $P^T$ and $dS^T$ are the left factors of $dV = P^T dO$ and $dK = dS^T Q$, and need not leave the registers in between.
# - One kernel goes along the queries for $dK$ and $dV$, another along the keys for $dQ$. Both make $S$ and $dP$ again: seven matrix products in place of five. One kernel that adds its parts of $dQ$ to the slow memory does five, and was slower.
#
# ### On a GPU
#
# Beside PyTorch's own kernels on an H100, in bfloat16, for 16,384 tokens of 16 heads with 128 channels, without a causal mask. TFLOP/s count the two products of the forward pass, and the five of the backward pass. Memory is what both passes need beside their inputs.
#
# | | forward, TFLOP/s | backward, TFLOP/s | memory, MiB |
# |---|---:|---:|---:|
# | the formula, with all scores in memory (`MATH`) | 24 | 43 | 65,984 |
# | FlashAttention-2 (`FLASH_ATTENTION`) | 328 | 272 | 514 |
# | the course's kernels | 480 | 393 | 258 |
# | cuDNN (`CUDNN_ATTENTION`) | 606 | 552 | 387 |
#
# Two things to see. The formula loses by a factor of twenty in the forward pass although it does no more operations: it waits for its 64 GiB of scores, as your count of traffic says. And a few pages of Triton are between 1.20 and 1.64 times as fast as FlashAttention-2 in the forward pass (1.08 and 1.64 backward), over twenty settings from 1,024 to 16,384 tokens; they reach 0.69 to 0.93
# of cuDNN's speed (0.69 to 1.00). What cuDNN, and FlashAttention-3, do beyond that: some warps only copy, others only multiply, and the softmax of one tile runs while the next one is multiplied. All settings: [`benchmarks/results/flash_attention.md`](../../benchmarks/results/flash_attention.md), made by
# [`benchmarks/flash_attention.py`](../../benchmarks/flash_attention.py), which counts memory on any machine, too.
#
# <!-- not printed: 16,384, 16, 128, 24, 43, 65,984, 328, 272, 514, 480, 393, 258, 606, 552, 387, 64, 1.20, 1.64, 1.08, 0.69, 0.93, 1.00, 1,024 (benchmarks/results/flash_attention.md, an H100 on 26 November 2026) -->
#
# ## What you built
#
# 1. The traffic of both algorithms: $4 N d + 4 N^2$, and $2 N d + N + \lceil N / B_r \rceil\, 2 N d$ with $B_r = \lfloor M / 4d \rfloor$; equal at about $M = 2 d^2$.
# 2. Decoding in parts, which works because `merge` is associative.
# 3. A kernel in Triton, with ragged ends and a causal mask with an offset.
#
# **Limits.** The count looks at one unit with its own fast memory; a real GPU has many units and a cache between the memories, which makes reading keys again cheaper than counted. And the fastest kernels are written for one generation of
# hardware: copies that run in the background, and special matrix instructions. Triton uses some of them by itself; the rest is the distance to cuDNN in the table.
#
# **Cost.** Operations as before, $4 N^2 d$. Traffic falls like $1 / M$. Split-K adds $2 (d + 2)$ numbers of traffic for each part and query: they are written by one kernel and read by the next.
#
# ## Sources
#
# - T. Dao, D. Fu, S. Ermon, A. Rudra, C. Ré, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*, 2022, arXiv:2205.14135, section 3.2: theorem 2 (memory accesses of both algorithms) and proposition 3 (the lower bound).
# - T. Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning*, 2023, arXiv:2307.08691, section 3.2: work is divided over tiles of queries.
# - T. Dao, D. Haziza, F. Massa, G. Sizov, *Flash-Decoding for long-context inference*, 2023, [crfm.stanford.edu/2023/10/12/flashdecoding.html](https://crfm.stanford.edu/2023/10/12/flashdecoding.html): split-K for one query.
# - J. Shah, G. Bikshandi, Y. Zhang, V. Thakkar, P. Ramani, T. Dao, *FlashAttention-3: Fast and Accurate Attention with Asynchrony and Low-precision*, 2024, arXiv:2407.08608: warps with different tasks.
# - P. Tillet, H. T. Kung, D. Cox, *Triton: An Intermediate Language and Compiler for Tiled Neural Network Computations*, MAPL 2019.
