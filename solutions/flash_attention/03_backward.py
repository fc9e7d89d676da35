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
# # The backward pass without the matrix
#
# *Exact attention in tiles, part 3 of 4: gradients from one number per query.*
#
# **Claim.** The gradients of attention need neither the scores nor the weights of the forward pass. From the inputs, the output and one number per query, the
# log-sum-exp, your backward pass makes every weight again, tile by tile, and agrees with automatic differentiation in float64 up to rounding. What is kept between
# the passes grows in proportion to $N$, where automatic differentiation keeps matrices of $N \times N$.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for a few seconds |
# | **You need** | [notebook 02](02_tiling.ipynb); the chain rule for matrix products |
# | **Graded** | four exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | exact attention with both passes, connected to autograd, whose memory is linear in $N$ |

# %% setup
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import utils
from autograde import open_lesson, yours
from autograde.meters import AllocationMeter
from utils import plotting

utils.setup()
check = open_lesson("flash_attention/03_backward")

# %% [markdown]
# ## The problem: what autograd keeps
#
# A network is trained with gradients, and automatic differentiation keeps what the backward pass will need. For attention by its formula these are the weights, an $N \times N$ matrix.
# One might think that the tiled forward pass helps by itself. It does not: autograd keeps the exponentials of *every* tile. Here are the bytes that are kept
# besides inputs and output.


# %%
def standard(
    q: Float[Tensor, "N d"], k: Float[Tensor, "N d"], v: Float[Tensor, "N d"]
) -> Float[Tensor, "N d"]:
    """Attention by its formula."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def kept(attention: Callable, N: int, d: int = 32) -> int:
    """Bytes that are kept for the backward pass, besides the inputs and the output."""
    gen = torch.Generator().manual_seed(N)
    q, k, v = (torch.randn(N, d, generator=gen).requires_grad_() for _ in range(3))
    with AllocationMeter([q, k, v]) as meter:
        o = attention(q, k, v)
        return meter.alive(besides=[o])


LENGTHS = (128, 256, 512, 1024)

# %% tags=["demo"]
flash_forward = yours("flash_attention/02_tiling", "flash_forward")


def tiled_by_autograd(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The forward pass of notebook 02, left to autograd."""
    return flash_forward(q, k, v, 128, 128, False)[0]


standard_kept = [kept(standard, N) for N in LENGTHS]
tiled_kept = [kept(tiled_by_autograd, N) for N in LENGTHS]
for N, a, b in zip(LENGTHS, standard_kept, tiled_kept, strict=True):
    print(f"N = {N:4}: standard keeps {a / 2**20:6.2f} MiB, the tiled forward pass {b / 2**20:6.2f} MiB")

# %% [markdown]
# Both grow four times when $N$ doubles, and the tiled one is worse. To gain anything, the backward pass has to be written by hand.
#
# ## Notation
#
# | symbol | meaning | shape |
# |---|---|---|
# | $S,\ P$ | scores $q k^\top / \sqrt d$, weights $P = e^{S - \text{lse}}$; only one tile at a time exists | `[N, M]` |
# | $o = P v$ | output | `[N, d]` |
# | $\text{lse}$ | log-sum-exp of each query's scores, from the forward pass | `[N]` |
# | $L$ | the loss; no formula needs its value | one number |
# | $dX$ | gradient of $L$ by $X$; in code `do`, `dq`, `dp`, `ds` | as $X$ |
# | $D_i$ | $\sum_j P_{ij}\, dP_{ij}$; in code `delta` | `[N]` |
# | $\circ$ | product element by element | |
# | $B_r,\ B_c$ | queries and keys in a tile; in code `Br`, `Bc` | |
#
# The mask is that of notebook 02: query $i$ sees the keys $j \le i + M - N$; a query that sees nothing has $\text{lse} = -\infty$, and gets and gives no gradient. Gradients
# are accumulated and returned in float32 for bfloat16 inputs.

# %% [markdown]
# ## Through the softmax
#
# The product $o = P v$ gives two gradients at once, by the rule for matrix products:
#
# $$ dv = P^\top do , \qquad dP = do\, v^\top . $$
#
# Now the softmax of one row, $p_j = e^{s_j} / \sum_k e^{s_k}$. If score $k$ grows a little, weight $k$ grows, and all weights shrink because the sum grows:
#
# $$ \frac{\partial p_j}{\partial s_k} = p_j (\delta_{jk} - p_k) , \qquad \delta_{jk} = 1 \text{ if } j = k, \text{ else } 0 . $$
#
# Multiply by $dp_j$ and sum over $j$. What comes out for $ds_k$?
#
# ### Exercise 1 · softmax_backward  ●●○  8 minutes
#
# Write $ds$ from $p$ and $dp$. The Jacobian of a row has $M \times M$ entries: do not make it. Its two parts, a diagonal and a product of two vectors, can be multiplied by
# $dp$ without it.


# %% softmax_backward tags=["exercise"]
def softmax_backward(p: Float[Tensor, "*rows M"], dp: Float[Tensor, "*rows M"]) -> Float[Tensor, "*rows M"]:
    """The gradient by the scores, from the weights and the gradient by the weights.

    Arguments:
        p: weights; each row is a softmax of its own.
        dp: gradient of the loss by p.

    Returns:
        ds, the gradient of the loss by the scores.

    Example:
        softmax_backward([0.5, 0.25, 0.25], [1, 2, 0]) is [0, 0.25, -0.25].
    """
    ### BEGIN SOLUTION
    return p * (dp - (p * dp).sum(-1, keepdim=True))
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# $ds_k = \sum_j dp_j\, p_j \delta_{jk} - \sum_j dp_j\, p_j\, p_k$. In the first sum one term is left. In the second, $p_k$ does not depend on $j$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $ds = p \circ (dp - \sum_j p_j\, dp_j)$, with the sum over the last dimension and `keepdim=True`.
#
# </details>
#
# <details>
# <summary>"My ds do not add up to zero in a row"</summary>
#
# They have to: adding the same number to all scores changes nothing. The sum that you subtract has to be weighted with `p`, and the bracket is multiplied by `p` as a whole.
#
# </details>

# %% check_softmax_backward tags=["check"]
check.softmax_backward(softmax_backward)

# %% tags=["demo"]
gen = torch.Generator().manual_seed(0)
s = torch.randn(6, generator=gen, dtype=torch.float64)
dp = torch.randn(6, generator=gen, dtype=torch.float64)
ds = softmax_backward(torch.softmax(s, 0), dp)
nudged = torch.softmax(s + 1e-6 * torch.eye(6, dtype=torch.float64), 1)
slope = (nudged - torch.softmax(s, 0)) @ dp / 1e-6
print("softmax_backward       ", "  ".join(f"{value:7.4f}" for value in ds))
print("by nudging each score  ", "  ".join(f"{value:7.4f}" for value in slope))
print(f"sum of the row: {abs(ds.sum()):.0e}")

# %% [markdown]
# ## A sum over all keys that no tile knows
#
# $ds_{ij} = p_{ij} (dp_{ij} - D_i)$ with $D_i = \sum_k p_{ik}\, dp_{ik}$. The first factor and $dp_{ij} = do_i \cdot v_j$ belong to one pair of a query and a key: a tile can make them. $D_i$
# is a sum over *all* keys. A tile sees only some of them. Two passes over the keys would do, but there is a better way:
#
# $$ D_i = \sum_k p_{ik}\, (do_i \cdot v_k) = do_i \cdot \sum_k p_{ik} v_k = do_i \cdot o_i . $$
#
# The sum over the keys has been made already: it is the output. So $D$ costs $d$ multiplications per query, before any tile.
#
# ### Exercise 2 · delta  ●○○  4 minutes
#
# One number for each query. For bfloat16 inputs multiply and sum in float32.


# %% delta tags=["exercise"]
def delta(do: Float[Tensor, "*heads N d"], o: Float[Tensor, "*heads N d"]) -> Float[Tensor, "*heads N"]:
    """D_i, the sum over all keys of p_ij dp_ij, without p and dp.

    Arguments:
        do: gradient of the loss by the output.
        o: the output.

    Returns:
        One number per query, in float32 for inputs with fewer digits.

    Example:
        delta([[1., 2.]], [[3., 4.]]) is [11.].
    """
    ### BEGIN SOLUTION
    wide = torch.promote_types(o.dtype, torch.float32)
    return (do.to(wide) * o.to(wide)).sum(-1)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Row $i$ of `do` meets row $i$ of `o`: multiply element by element, and sum over the channels.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `(do * o).sum(-1)`, after both were converted with `.to(torch.promote_types(o.dtype, torch.float32))`.
#
# </details>
#
# <details>
# <summary>"Only the bfloat16 case fails"</summary>
#
# A product of two bfloat16 numbers is rounded to bfloat16 again. Convert before you multiply, not after.
#
# </details>

# %% check_delta tags=["check"]
check.delta(delta)

# %% tags=["demo"]
q, k, v, do = (torch.randn(5, 8, generator=gen, dtype=torch.float64) for _ in range(4))
p = torch.softmax(q @ k.mT / math.sqrt(8), 1)
print("do . o            ", "  ".join(f"{value:7.4f}" for value in delta(do, p @ v)))
print("sum over the keys ", "  ".join(f"{value:7.4f}" for value in (p * (do @ v.mT)).sum(1)))

# %% [markdown]
# ## One tile, five products
#
# The weights come back from the scores and the log-sum-exp: $p_{ij} = e^{s_{ij} - \text{lse}_i}$. There is no maximum to look for and nothing to rescale, because lse is final. For each tile that counts,
# with $c = 1 / \sqrt d$:
#
# $$ P = e^{c\, q_i k_j^\top - \text{lse}_i} , \quad dv_j \mathrel{+}= P^\top do_i , \quad dP = do_i v_j^\top , \quad dS = P \circ (dP - D_i) , $$
# $$ dk_j \mathrel{+}= c\, dS^\top q_i , \qquad dq_i \mathrel{+}= c\, dS\, k_j . $$
#
# These are five matrix products, where the forward pass had two: the scores are made a second time. That costs operations and saves memory. Each of $dq$, $dk$, $dv$ is a sum over tiles, so it
# starts at zero and is added to. The factor $c$ stands in $dq$ and $dk$ because the scores contain it.
#
# ### Exercise 3 · flash_backward  ●●●  22 minutes
#
# Write the loops over tiles. Hidden pairs have $P = 0$. A query that sees nothing has $\text{lse} = -\infty$, and $-\infty - (-\infty)$ is NaN. The check measures the largest tensor, the multiplications, the exponentials at once and the number of tiles, as before:
# $B_r$ counts queries, $B_c$ counts keys.


# %% flash_backward tags=["exercise"]
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
    """The gradients of attention, one tile of weights at a time.

    Arguments:
        q, k, v: the inputs of the forward pass.
        o, lse: its results.
        do: gradient of the loss by o.
        Br, Bc: queries and keys in a tile.
        causal: query i sees the keys j <= i + M - N only.

    Returns:
        (dq, dk, dv), in float32 for inputs with fewer digits.

    Example:
        For q = [[0.]], k = [[1.], [2.]], v = [[3.], [5.]], o = [[4.]], lse = [ln 2], do = [[1.]]: dq is [[0.5]], dk is
        [[0.], [0.]], dv is [[0.5], [0.5]].
    """
    ### BEGIN SOLUTION
    N, M, scale = q.shape[-2], k.shape[-2], q.shape[-1] ** -0.5
    q, k, v, o, lse, do = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, k, v, o, lse, do))
    D, base = delta(do, o), torch.where(lse == -math.inf, 0.0, lse)
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for i in range(0, N, Br):
        r = slice(i, min(i + Br, N))
        for j in range(0, max(0, r.stop + M - N) if causal else M, Bc):
            c = slice(j, min(j + Bc, M))
            s = scale * q[..., r, :] @ k[..., c, :].mT
            rows, cols = torch.arange(i, r.stop, device=q.device), torch.arange(j, c.stop, device=q.device)
            if causal:
                s = s.masked_fill(cols[None, :] > rows[:, None] + M - N, -math.inf)
            p = torch.exp(s - base[..., r, None])
            ds = p * (do[..., r, :] @ v[..., c, :].mT - D[..., r, None])
            dv[..., c, :] += p.mT @ do[..., r, :]
            dk[..., c, :] += scale * ds.mT @ q[..., r, :]
            dq[..., r, :] += scale * ds @ k[..., c, :]
    return dq, dk, dv
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# `D` first, for all queries. Then two loops: make the tile's scores with the mask, `p` from `lse`, `dp`, `ds`, and add to the rows of `dv`, `dk` and `dq` to which the tile belongs. Which loop is outside does not matter.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `p = torch.exp(s - base[..., r, None])` with `base = torch.where(lse == -math.inf, 0.0, lse)`; `ds = p * (do_i @ v_j.mT - D_i)`;
# `dk[..., c, :] += scale * ds.mT @ q_i`. Here `r` and `c` are slices, the tile's queries and keys. For a causal mask the loop over keys ends at `max(0, min(i + Br, N) + M - N)`.
#
# </details>
#
# <details>
# <summary>"dv is right, dq and dk are not"</summary>
#
# Then `p` is right, and `ds` is not, or the factor is missing. Compare `D` with the sum of `p * dp` over all keys, for one row, and look whether $1 / \sqrt d$ stands in both.
#
# </details>

# %% check_flash_backward tags=["check"]
check.flash_backward(flash_backward)

# %% [markdown]
# **See it.** Beside automatic differentiation in float64, for sizes that fit badly. The **negative control** leaves $D$ out, through the same measurement.


# %%
def exact(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """(o, lse) by the formula."""
    s = q @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        N, M = s.shape[-2:]
        s = s.masked_fill(torch.arange(M) > torch.arange(N)[:, None] + M - N, -math.inf)
    return torch.softmax(s, -1).nan_to_num(0.0) @ v, torch.logsumexp(s, -1)


def gradient_errors(N: int, M: int, Br: int, Bc: int, causal: bool, zero_delta: bool = False) -> list[float]:
    """The largest errors of dq, dk and dv, relative to the largest entry of each."""
    gen = torch.Generator().manual_seed(N + M)
    q, k, v, do = (torch.randn(2, size, 32, generator=gen) for size in (N, M, M, N))
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    o, lse = exact(*leaves, causal)
    wanted = torch.autograd.grad(o[lse > -math.inf].mul(do.double()[lse > -math.inf]).sum(), leaves)
    o, lse = o.detach().float(), lse.detach().float()
    found = flash_backward(q, k, v, 0 * o if zero_delta else o, lse, do, Br, Bc, causal)
    return [
        float((a - b.nan_to_num(0.0)).abs().max() / b.nan_to_num(0.0).abs().max())
        for a, b in zip(found, wanted, strict=True)
    ]


# %% tags=["demo"]
print(f"{'N':>4} {'M':>4} {'tiles':>8} {'causal':>7} {'dq':>9} {'dk':>9} {'dv':>9}")
for N, M, Br, Bc, causal, control in (
    (100, 100, 16, 16, False, False),
    (101, 75, 17, 9, False, False),
    (75, 101, 9, 17, True, False),
    (101, 75, 17, 9, True, False),
    (100, 100, 16, 16, False, True),
):
    errors = gradient_errors(N, M, Br, Bc, causal, zero_delta=control)
    columns = " ".join(f"{error:9.1e}" for error in errors)
    print(
        f"{N:4} {M:4} {f'{Br} x {Bc}':>8} {causal!s:>7} {columns}{'   D = 0: the control' if control else ''}"
    )

# %% [markdown]
# With $D = 0$ the gradient of $v$ is still right, because it does not use $D$, and those of $q$ and $k$ are far off. A check that looks at one gradient only would have missed it.
#
# ## Connect the two passes
#
# `torch.autograd.Function` tells autograd: for this step, do not look inside; here is how the gradient is made. Its `forward` runs without recording, and says what to keep. Its `backward` gets
# the gradient of the output and returns one gradient per input.
#
# ### Exercise 4 · flash_attention  ●●○  8 minutes
#
# Both passes are handed in as functions, with tile sizes and mask already chosen. Connect them. The check counts what is kept besides inputs and output: lse, and nothing else.


# %% flash_attention tags=["exercise"]
def flash_attention(
    q: Float[Tensor, "*heads N d"],
    k: Float[Tensor, "*heads M d"],
    v: Float[Tensor, "*heads M d"],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
) -> Float[Tensor, "*heads N d"]:
    """Attention through which gradients flow, made of a forward and a backward pass.

    Arguments:
        q, k, v: the inputs.
        forward: forward(q, k, v) returns (o, lse).
        backward: backward(q, k, v, o, lse, do) returns (dq, dk, dv).

    Returns:
        o. Its gradients are those that `backward` makes.

    Example:
        With forward = lambda q, k, v: (2 * q, q[..., 0]) and backward = lambda q, k, v, o, lse, do: (2 * do, 0 * k, 0 * v),
        the result for q = [[1.]] is [[2.]], and the gradient of its sum by q is [[2.]].
    """

    ### BEGIN SOLUTION
    class Flash(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v):
            o, lse = forward(q, k, v)
            ctx.save_for_backward(q, k, v, o, lse)
            return o

        @staticmethod
        def backward(ctx, do):
            return backward(*ctx.saved_tensors, do)

    return Flash.apply(q, k, v)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Define a class inside of the function, so that its two static methods can call `forward` and `backward`. What the first one saves, the second one finds in `ctx.saved_tensors`.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# In the class: `@staticmethod`, `def forward(ctx, q, k, v):` with `ctx.save_for_backward(q, k, v, o, lse)`, and `def backward(ctx, do):` with
# `return backward(*ctx.saved_tensors, do)`. At the end `return Flash.apply(q, k, v)`.
#
# </details>
#
# <details>
# <summary>"I get an object of my class and not a tensor", or "no gradient arrives"</summary>
#
# A `Function` is not called and not instantiated. Use `Flash.apply(q, k, v)`, and hand over the tensors themselves, not detached copies.
#
# </details>

# %% check_flash_attention tags=["check"]
check.flash_attention(flash_attention)

# %% [markdown]
# ## The claim, measured
#
# Your two passes together, and what is kept between them. The second negative control is the one from the beginning: the tiled forward pass left to autograd.

# %% tags=["demo"]
flash_forward = yours("flash_attention/02_tiling", "flash_forward")
tiles = {"Br": 128, "Bc": 128, "causal": False}
passes = functools.partial(flash_forward, **tiles), functools.partial(flash_backward, **tiles)
flash_kept = [kept(lambda q, k, v: flash_attention(q, k, v, *passes), N) for N in LENGTHS]
standard_kept = [kept(standard, N) for N in LENGTHS]
tiled_kept = [kept(lambda q, k, v: flash_forward(q, k, v, **tiles)[0], N) for N in LENGTHS]
fig, ax = plotting.figure(width=8.5, height=3.6)
for sizes, color, name in (
    (tiled_kept, plotting.ORANGE, "tiles, by autograd"),
    (standard_kept, plotting.VERMILLION, "standard"),
    (flash_kept, plotting.BLUE, "flash_attention"),
):
    ax.loglog(LENGTHS, [size / 1024 for size in sizes], "o-", base=2, color=color)
    plotting.label(ax, 1120, sizes[-1] / 1024, name, color)
ax.set(
    xlabel="queries and keys N",
    ylabel="kept for the backward pass (KiB)",
    xlim=(115, 2200),
    xticks=LENGTHS,
    xticklabels=LENGTHS,
)
plotting.caption(
    fig,
    "Bytes kept besides inputs and output, head size 32, float32. See the slopes: the upper two lines rise four times at each doubling, the lowest twice.",
)
for N, a, b, c in zip(LENGTHS, standard_kept, tiled_kept, flash_kept, strict=True):
    print(
        f"N = {N:4}: standard {a / 1024:8.1f} KiB, tiles by autograd {b / 1024:8.1f} KiB, flash_attention {c / 1024:4.1f} KiB"
    )

gen = torch.Generator().manual_seed(7)
q, k, v, do = (torch.randn(256, 32, generator=gen).requires_grad_() for _ in range(4))
ours = torch.autograd.grad(flash_attention(q, k, v, *passes), (q, k, v), do)
leaves = [t.detach().double().requires_grad_() for t in (q, k, v)]
wanted = torch.autograd.grad(standard(*leaves), leaves, do.double())
theirs = torch.autograd.grad(standard(q, k, v), (q, k, v), do)
for name, found in (("flash_attention", ours), ("the formula in float32", theirs)):
    error = max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))
    print(f"largest gradient error beside float64, {name:23}: {error:.1e}")

# %% [markdown]
# What is kept is one number per query. The gradients are as good as those of the formula in float32: exact means that nothing is approximated, only the order of the sums is another one.
#
# ## What you built
#
# 1. The gradient through a softmax without its Jacobian: $dS = P \circ (dP - D)$.
# 2. The identity that makes it possible in tiles: $D_i = \sum_j P_{ij}\, dP_{ij} = do_i \cdot o_i$.
# 3. A backward pass that makes the weights again from one number per query, and its connection to autograd: memory linear in $N$ for training, too.
#
# **Limits.** No second derivatives: `backward` itself is not recorded. And no dropout: a real kernel makes the same random mask again from a seed.
#
# **Cost.** Five matrix products per tile in place of four that a backward pass with stored weights needs: the scores are made again. Together with the forward pass seven products in place
# of six. In return $N$ numbers are kept in place of $N^2$ or more.
#
# ## Sources
#
# - T. Dao, D. Fu, S. Ermon, A. Rudra, C. Ré, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*, 2022, arXiv:2205.14135, appendix B.2: the backward pass with memory linear in $N$, and
#   $D_i = do_i \cdot o_i$; appendix B.4: its algorithm in tiles.
# - T. Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning*, 2023, arXiv:2307.08691, algorithm 2: the backward pass with the log-sum-exp alone.
# - PyTorch, [Extending autograd](https://pytorch.org/docs/stable/notes/extending.html): `torch.autograd.Function`.
