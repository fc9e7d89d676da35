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
# # Attention without the matrix
#
# *Exact attention in tiles, part 2 of 4: the forward pass, one tile of scores at a time.*
#
# **Claim.** Attention does not need the $N \times N$ matrix of scores. The forward pass that you write here gives the same output up to rounding, and its
# largest tensor is as large as the output: it doubles when $N$ doubles, from 256 to 8192 queries, where that of standard attention grows four times. With a causal
# mask it visits little more than half of the tiles.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for about ten seconds |
# | **You need** | [notebook 01](01_online_softmax.ipynb): the running maximum, and what is rescaled when it rises |
# | **Graded** | three exercises, one to three dots for how hard they are; each has its own check cell, which measures memory and work too |
# | **You leave with** | `flash_forward`: exact attention with any tile size, any lengths, a causal mask, and the log-sum-exp that the backward pass needs |

# %% setup
import math

import torch
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

import utils
from autograde import open_lesson
from autograde.meters import AllocationMeter
from utils import plotting

utils.setup()
check = open_lesson("flash_attention/02_tiling")

# %% [markdown]
# ## The problem: a matrix that grows four times when the text doubles
#
# Here is attention as its formula says it, and the largest tensor that it makes. The meter counts bytes of memory that are allocated; it is the one that your
# checks use.


# %%
def standard(
    q: Float[Tensor, "N d"], k: Float[Tensor, "M d"], v: Float[Tensor, "M d"]
) -> Float[Tensor, "N d"]:
    """Attention by its formula: scores, weights, output."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def largest_tensor(attention, N: int, d: int = 64) -> int:
    """Bytes of the largest tensor that attention over N queries and keys makes."""
    q, k, v = (torch.randn(N, d, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    with AllocationMeter([q, k, v]) as meter:
        attention(q, k, v)
    return meter.largest


LENGTHS = (256, 512, 1024, 2048, 4096, 8192)

# %% tags=["demo"]
standard_bytes = [largest_tensor(standard, N) for N in LENGTHS]
for N, size in zip(LENGTHS, standard_bytes, strict=True):
    print(f"N = {N:5}: largest tensor {size / 2**20:8.2f} MiB, output {N * 64 * 4 / 2**20:6.2f} MiB")
ahead = 131072
print(f"N = {ahead}: {ahead**2 * 4 / 2**30:.0f} GiB, for one head of one sequence")

# %% [markdown]
# The output of 8192 queries takes 2 MiB, and the scores on the way to it take 256 MiB. At 131,072 tokens one head would need 64 GiB, most of the memory of a large
# GPU, for numbers that are thrown away.
#
# Notebook 01 removed the reason. A query needs the maximum, the sum and the output of what it has seen; scores can come in blocks and be forgotten. Now we do this
# for many queries at once, because a processor is fast at products of *matrices*: a **tile** of queries meets a tile of keys.
#
# ## Notation
#
# | symbol | meaning | shape |
# |---|---|---|
# | $N,\ M$ | queries, keys | |
# | $d$ | channels | |
# | $q,\ k,\ v$ | queries, keys, values; heads and batches may stand in front | `[..., N, d]`, `[..., M, d]` |
# | $B_r,\ B_c$ | queries and keys in a tile; in code `Br`, `Bc` | |
# | $S_{ij}$ | tile of scores, $q_i k_j^\top / \sqrt d$; $i$ counts tiles of queries, $j$ tiles of keys | `[Br, Bc]` |
# | $q_i$; $k_j,\ v_j$ | tile of queries; tiles of keys and values | `[Br, d]`; `[Bc, d]` |
# | $m,\ l$ | running maximum and sum of each query | `[..., Br]` |
# | $o$ | output | `[..., N, d]` |
# | $\text{lse}$ | $m + \ln l$ at the end: log-sum-exp of each query's scores | `[..., N]` |
#
# **The mask.** With `causal`, query $i$ sees the keys $j \le i + M - N$. The *last* query sees all keys. For $N = M$ this is the usual triangle. For $N = 1$ it is what
# happens when a model writes text: one new query, and all keys. Where $N > M$, the first queries see nothing: their output is zero, and their lse is $-\infty$.
#
# **Number formats.** Inputs may be bfloat16. It has only 8 significant binary digits, so a sum of many terms loses too much in it. Convert tiles to float32 before you multiply, and
# return what was accumulated, in float32; whoever calls may round. Inputs in float64 stay in float64, with all their digits.

# %% [markdown]
# ## A tile of scores
#
# The tile $(i, j)$ has the queries from $i B_r$ on, at most $B_r$ of them, and the keys from $j B_c$ on. The last tiles are smaller where the lengths do not divide evenly; a slice
# that goes past the end gives that for free. What does not come for free is the mask: inside of a tile, row 0 is query $i B_r$.
#
# ### Exercise 1 · block_scores  ●●○  10 minutes
#
# Cut, multiply, scale, and hide. Hidden scores are $-\infty$. The check looks at the largest tensor: cut first, multiply afterwards.


# %% block_scores tags=["exercise"]
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
    """One tile of scale * q k^T.

    Arguments:
        q, k: queries and keys; any number of dimensions in front.
        scale: the factor of the scores.
        causal: hide the keys j > i + M - N from query i (numbers of single queries and keys).
        i, j: which tile of queries, which tile of keys, counted from 0.
        Br, Bc: queries and keys in a tile.

    Returns:
        The tile, in float32 for inputs with fewer digits; smaller at the ends; -inf where a key is hidden.

    Example:
        For q = k = [[1.], [2.], [3.]], scale 1, causal, Br = Bc = 2, the tile (0, 0) is [[1, -inf], [2, 4]].
    """
    ### BEGIN SOLUTION
    N, M = q.shape[-2], k.shape[-2]
    wide = torch.promote_types(q.dtype, torch.float32)
    queries, keys = q[..., i * Br : (i + 1) * Br, :].to(wide), k[..., j * Bc : (j + 1) * Bc, :].to(wide)
    s = scale * queries @ keys.mT
    rows = i * Br + torch.arange(s.shape[-2], device=q.device)
    cols = j * Bc + torch.arange(s.shape[-1], device=q.device)
    hidden = cols[None, :] > rows[:, None] + M - N
    return s.masked_fill(hidden, -math.inf) if causal else s
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Make two ranges: the numbers of the queries in this tile, and those of its keys. A column of the one against a row of the other gives the mask of the tile.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `hidden = cols[None, :] > rows[:, None] + M - N`, with `rows = i * Br + torch.arange(...)`. For the product, `.mT` exchanges the last two dimensions.
#
# </details>
#
# <details>
# <summary>"My mask is right in the tile (0, 0) and wrong in others"</summary>
#
# Then it compares positions inside of the tile. Row 0 of the tile is query `i * Br`, column 0 is key `j * Bc`.
#
# </details>

# %% check_block_scores tags=["check"]
check.block_scores(block_scores)

# %% tags=["demo"]
gen = torch.Generator().manual_seed(2)
q, k = torch.randn(10, 8, generator=gen), torch.randn(14, 8, generator=gen)
fig, axes = plotting.figure(3, 4, width=8.5, height=5.2, width_ratios=[4, 4, 4, 2], height_ratios=[4, 4, 2])
for i in range(3):
    for j in range(4):
        tile = block_scores(q, k, 8**-0.5, True, i, j, 4, 4)
        ax = axes[i][j]
        ax.imshow(tile.masked_fill(tile == -math.inf, math.nan), cmap=plotting.DIVERGING, vmin=-3, vmax=3)
        ax.set(xticks=[], yticks=[], xlabel=f"keys {4 * j} to {4 * j + tile.shape[1] - 1}")
        ax.set(ylabel=f"queries {4 * i}\nto {4 * i + tile.shape[0] - 1}" if j == 0 else "")
plotting.caption(
    fig,
    "The twelve tiles of 10 queries and 14 keys. Grey: hidden. The tiles at the right and at the bottom are smaller; three tiles at the top right are hidden as a whole.",
)
print(f"tile (2, 3) has the shape {tuple(tile.shape)}")

# %% [markdown]
# ## Which tiles count?
#
# A tile in which every score is hidden adds nothing: all its exponentials are zero. With a causal mask these are about half of all tiles, and a kernel that visits them
# does twice the work. But which ones are they? A row of tiles has several queries, and they see different numbers of keys. A tile counts as soon as
# *one* pair in it is visible.
#
# ### Exercise 2 · visible_tiles  ●●○  8 minutes
#
# Count the tiles in which at least one query sees a key. Mind the ends: the last row of tiles may be smaller, and where $N > M$ whole rows of tiles see nothing.


# %% visible_tiles tags=["exercise"]
def visible_tiles(N: int, M: int, Br: int, Bc: int) -> int:
    """How many tiles a causal kernel has to visit.

    Arguments:
        N, M: queries and keys. Query i sees the keys j <= i + M - N.
        Br, Bc: queries and keys in a tile.

    Returns:
        The number of tiles with at least one visible pair.

    Example:
        visible_tiles(4, 4, 2, 2) is 3: of four tiles, the one at the top right is hidden.
    """
    ### BEGIN SOLUTION
    total = 0
    for i in range(0, N, Br):
        last_key = min(i + Br, N) - 1 + M - N
        total += max(0, last_key // Bc + 1)
    return total
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# In a row of tiles, the last query sees most. Let $c$ be the last key that it sees. All tiles up to the one that contains $c$ count.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# The last query is `min(i + Br, N) - 1` for a row of tiles that begins at query `i`. It sees up to key `c = last + M - N`, which is in tile `c // Bc`. Negative `c`: no tile.
#
# </details>
#
# <details>
# <summary>"I get one tile too few where Br is larger than Bc"</summary>
#
# Then you probably go by the first query of each row of tiles. With tall tiles, the last query sees some tiles more.
#
# </details>

# %% check_visible_tiles tags=["check"]
check.visible_tiles(visible_tiles)


# %% tags=["demo"]
settings = [(64, 64, 8, 8), (64, 64, 16, 4), (48, 80, 10, 12)]
fig, axes = plotting.figure(1, 3, width=10, height=3.6)
for ax, (N, M, Br, Bc) in zip(axes, settings, strict=True):
    rows, cols = torch.arange(N)[:, None], torch.arange(M)[None]
    ax.imshow(
        torch.where(cols <= rows + M - N, 0.35, 0.0),
        cmap="Blues",
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=(0, M, N, 0),
    )
    drawn = 0
    for i in range(0, N, Br):
        for j in range(0, M, Bc):
            if j <= min(i + Br, N) - 1 + M - N:
                ax.add_patch(
                    Rectangle((j, i), min(Bc, M - j), min(Br, N - i), fill=False, edgecolor=plotting.BLUE)
                )
                drawn += 1
    share = visible_tiles(N, M, Br, Bc) / (math.ceil(N / Br) * math.ceil(M / Bc))
    ax.set(xlabel="key", ylabel="query", title=f"{visible_tiles(N, M, Br, Bc)} tiles, {share:.0%}")
    print(f"N = {N}, M = {M}, tiles of {Br} by {Bc}: counted {visible_tiles(N, M, Br, Bc)}, drawn {drawn}")
plotting.caption(
    fig,
    "Blue: visible pairs. Frames: tiles with at least one. The title has visible_tiles, and its share of all tiles.",
)

# %% [markdown]
# ## The forward pass
#
# Everything is there. For each tile of queries:
#
# 1. Start with $m = -\infty$, $l = 0$ and an accumulator $\text{acc}$ of zeros, one row per query.
# 2. For each tile of keys that counts (decide this from the positions, before the product): make the scores $S$; the new maximum $m' = \max(m, \text{rowmax}\, S)$; the terms $P = e^{S - m'}$; the factor $r = e^{m - m'}$. Then
#
# $$ l \leftarrow r\, l + \text{rowsum}\, P , \qquad \text{acc} \leftarrow r\, \text{acc} + P\, v_j , \qquad m \leftarrow m' . $$
#
# 3. At the end, $o = \text{acc} / l$ and $\text{lse} = m + \ln l$.
#
# This is algorithm 1 of FlashAttention-2. The log-sum-exp is one number per query. The backward pass will make the weights again from it, $p = e^{s - \text{lse}}$, so nothing else
# has to be kept.
#
# **Where a row has seen nothing yet**, $m' = -\infty$, and $S - m'$ is NaN. This happens inside of tiles that count, as soon as they have several rows. Subtract 0 there. **Where a row sees nothing at all**, $l = 0$ at the
# end: divide by 1, and the output is zero.
#
# ### Exercise 3 · flash_forward  ●●●  22 minutes
#
# Write it with two loops, over tiles of queries and over tiles of keys. Your `block_scores` gives $S$; the scale is $1 / \sqrt d$. The check looks at the
# results and measures the largest tensor, the multiplications, and how many exponentials are taken at once: those of one tile. It also counts the tiles, with $B_r$ and
# $B_c$ far apart, so that it sees which of the two counts queries and which counts keys. Lengths that do not divide evenly, maxima that rise in every tile, scores of 10,000 and bfloat16 inputs are among the cases.
#
# <!-- not printed: 10,000 (the size of scores in a case of the check) -->


# %% flash_forward tags=["exercise"]
def flash_forward(
    q: Float[Tensor, "*heads N d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    Br: int,
    Bc: int,
    causal: bool,
) -> tuple[Float[Tensor, "*heads N d"], Float[Tensor, "*heads N"]]:
    """Exact attention that holds one tile of scores at a time.

    Arguments:
        q, k, v: queries, keys and values; any number of dimensions in front.
        Br, Bc: queries and keys in a tile.
        causal: query i sees the keys j <= i + M - N only.

    Returns:
        o, the output, and lse, the log-sum-exp of each query's scores; in float32 for inputs with fewer digits. A query that sees no
        key has o = 0 and lse = -inf.

    Example:
        For q = [[0.]], k = [[1.], [2.]], v = [[3.], [5.]]: o is [[4.]] and lse is [0.6931], ln 2, with any tiles.
    """
    ### BEGIN SOLUTION
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    outputs, sums = [], []
    for i in range(math.ceil(N / Br)):
        rows = q[..., i * Br : (i + 1) * Br, :].to(torch.promote_types(q.dtype, torch.float32))
        m = torch.full_like(rows[..., 0], -math.inf)
        l, acc = torch.zeros_like(m), torch.zeros_like(rows)
        keys = max(0, min((i + 1) * Br, N) + M - N) if causal else M
        for j in range(math.ceil(keys / Bc)):
            s = block_scores(q, k, d**-0.5, causal, i, j, Br, Bc)
            new = torch.maximum(m, s.amax(-1))
            shift = torch.where(new == -math.inf, 0.0, new)
            p, r = torch.exp(s - shift[..., None]), torch.exp(m - shift)
            l = r * l + p.sum(-1)
            acc = r[..., None] * acc + p @ v[..., j * Bc : (j + 1) * Bc, :].to(p.dtype)
            m = new
        outputs.append(acc / torch.where(l == 0, 1.0, l)[..., None])
        sums.append(m + torch.log(l))
    return torch.cat(outputs, -2), torch.cat(sums, -1)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The inner loop is the body of `online_stats` from notebook 01 with a matrix in place of a row, and with one more thing that is rescaled. A causal tile of queries needs
# the keys up to the last one that its last query sees.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `keys = max(0, min((i + 1) * Br, N) + M - N) if causal else M`, then `for j in range(math.ceil(keys / Bc))`. Inside:
# `p, r = torch.exp(s - shift[..., None]), torch.exp(m - shift)` with `shift = torch.where(new == -math.inf, 0.0, new)`.
#
# </details>
#
# <details>
# <summary>"NaN, but only with the causal mask"</summary>
#
# Some row of a tile has seen nothing yet, and `-inf - -inf` is NaN. One NaN in the accumulator stays there: 0 times NaN is NaN.
#
# </details>
#
# <details>
# <summary>"Right for random inputs, wrong where the maximum rises in every tile"</summary>
#
# With scores of normal size the maximum hardly moves after the first tile, and a missing factor hides. Look at which of `l` and `acc` is multiplied by `r`, and whether `m` is overwritten too early.
#
# </details>

# %% check_flash_forward tags=["check"]
check.flash_forward(flash_forward)

# %% [markdown]
# ## The claim, measured
#
# **Exact.** Beside float64, for lengths and tiles that fit badly, and for a row of keys that is sorted so that the maximum rises in every tile. The **negative control** is the same
# loop without rescaling, through the same measurement.


# %%
def exact(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Float[Tensor, "N d"]:
    """Attention in float64 by its formula."""
    q, k, v = q.double(), k.double(), v.double()
    s = q @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        N, M = s.shape
        s = s.masked_fill(torch.arange(M) > torch.arange(N)[:, None] + M - N, -math.inf)
    return torch.softmax(s, -1).nan_to_num(0.0) @ v


def not_rescaled(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int) -> Float[Tensor, "N d"]:
    """The tiles' exponentials and outputs, each with the maximum so far, added as they are."""
    outputs = []
    for i in range(math.ceil(len(q) / Br)):
        m, l, acc = torch.tensor(-math.inf), torch.tensor(0.0), torch.tensor(0.0)
        for j in range(math.ceil(len(k) / Bc)):
            s = block_scores(q, k, q.shape[-1] ** -0.5, False, i, j, Br, Bc)
            m = torch.maximum(m, s.amax(-1))
            p = torch.exp(s - m[:, None])
            l, acc = l + p.sum(-1), acc + p @ v[j * Bc : (j + 1) * Bc]
        outputs.append(acc / l[:, None])
    return torch.cat(outputs)


# %% tags=["demo"]
gen = torch.Generator().manual_seed(4)
print(f"{'N':>5} {'M':>5} {'tiles':>9} {'keys':>8} {'causal':>7} {'error':>9} {'not rescaled':>13}")
for N, M, Br, Bc, order, causal in (
    (300, 300, 32, 32, "random", False),
    (301, 517, 33, 50, "random", False),
    (301, 517, 33, 50, "sorted", False),
    (301, 517, 33, 50, "random", True),
    (517, 301, 50, 33, "random", True),
):
    q, k, v = (
        torch.randn(N, 64, generator=gen),
        torch.randn(M, 64, generator=gen),
        torch.randn(M, 64, generator=gen),
    )
    if order == "sorted":
        q = 2 * q.abs()
        k = k[(q @ k.mT).mean(0).argsort()]
    o, _ = flash_forward(q, k, v, Br, Bc, causal)
    error = (o - exact(q, k, v, causal)).abs().max()
    control = "" if causal else f"{(not_rescaled(q, k, v, Br, Bc) - exact(q, k, v, causal)).abs().max():.1e}"
    print(f"{N:5} {M:5} {f'{Br} x {Bc}':>9} {order:>8} {causal!s:>7} {error:9.1e} {control:>13}")

# %% [markdown]
# **Linear memory.** The meter from above, on your function, with tiles of 128 by 128.


# %%
def tiled(q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "N d"]:
    """Your forward pass, without the log-sum-exp."""
    return flash_forward(q, k, v, 128, 128, False)[0]


# %% tags=["demo"]
tiled_bytes = [largest_tensor(tiled, N) for N in LENGTHS]
fig, ax = plotting.figure(width=8.5, height=3.6)
for sizes, color, name in (
    (standard_bytes, plotting.VERMILLION, "standard"),
    (tiled_bytes, plotting.BLUE, "flash_forward"),
):
    ax.loglog(LENGTHS, [size / 2**20 for size in sizes], "o-", base=2, color=color)
    plotting.label(ax, 9200, sizes[-1] / 2**20, name, color)
ax.loglog(LENGTHS, [N * 64 * 4 / 2**20 for N in LENGTHS], "--", base=2, color=plotting.BLACK, linewidth=1.5)
plotting.label(ax, 9200, 0.9, "output (dashed)", plotting.BLACK)
ax.set(
    xlabel="queries and keys N",
    ylabel="largest tensor (MiB)",
    xlim=(230, 20000),
    xticks=LENGTHS,
    xticklabels=LENGTHS,
)
plotting.caption(
    fig,
    "Head size 64, float32. Both axes are logarithmic: see that the upper line is twice as steep, and that the lower one is the output itself.",
)
for name, sizes in (("standard", standard_bytes), ("flash_forward", tiled_bytes)):
    growth = sizes[-1] / sizes[-2]
    print(
        f"{name:14} from {sizes[0] / 2**20:.4f} to {sizes[-1] / 2**20:.0f} MiB; the last doubling of N: {growth:.0f} times"
    )
print(f"visible tiles at N = {LENGTHS[-1]}: {visible_tiles(8192, 8192, 128, 128) / 64**2:.1%} of all")

# %% [markdown]
# The largest tensor of `flash_forward` is the output, and nothing on the way is larger. Standard attention makes the scores, and four times as many of them at each
# doubling.
#
# ## What you built
#
# 1. A tile of scores with its mask, for any lengths: query $i$ sees key $j$ if $j \le i + M - N$.
# 2. The number of tiles that a causal kernel has to visit.
# 3. `flash_forward`: exact attention with one tile of scores at a time, safe for scores of any size, and with lse, all that the backward pass will need.
#
# **Limits.** In Python this gains little or no time: each tile is several calls. What it saves on a real processor is memory *traffic*, which is notebook 04. The outputs are in
# float32 here; a kernel rounds them to the type of the inputs at its end.
#
# **Cost.** The same two matrix products as before, $4 N M d$ operations, half of them with a causal mask. In addition one exponential and $d + 1$ multiplications per query and tile of keys, for
# rescaling. Memory $N d$ for the output and $N$ for lse.
#
# ## Sources
#
# - T. Dao, D. Fu, S. Ermon, A. Rudra, C. Ré, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*, 2022, arXiv:2205.14135, algorithm 1: the tiled forward pass, keys
#   in the outer loop.
# - T. Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning*, 2023, arXiv:2307.08691, algorithm 1: queries in the outer loop, one division at the end, the log-sum-exp; section 3.1: causal masks skip tiles.
# - M. N. Rabe, C. Staats, *Self-attention Does Not Need $O(n^2)$ Memory*, 2021, arXiv:2112.05682: the same sums in blocks, for memory.
