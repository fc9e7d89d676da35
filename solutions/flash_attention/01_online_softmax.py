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
# # Softmax in one pass
#
# *Exact attention in tiles, part 1 of 4: two numbers that replace a row of scores.*
#
# **Claim.** The attention output of a query can be computed in one pass over the keys, in blocks of any size and in any order,
# from three things that do not grow with the number of keys: a maximum, a sum and a vector. The result is exact up to
# rounding, also where scores reach 10,000 and where the maximum rises in every block. A version that does not rescale is wrong
# there by as much as the output itself.
#
# | | |
# |---|---|
# | **Time** | about 35 minutes; the code runs for a few seconds |
# | **You need** | softmax, exponentials, matrix products in PyTorch |
# | **Graded** | three exercises, one to three dots for how hard they are; each has its own check cell, which says what differs, and often why. Most look at gradients, too: stay with tensors |
# | **You leave with** | a safe softmax, its one-pass version, and `merge`, the operation from which the next three notebooks build attention |

# %% setup
import functools
import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

import utils
from autograde import open_lesson
from utils import plotting, widgets

utils.setup()
check = open_lesson("flash_attention/01_online_softmax")

# %% [markdown]
# ## The problem: a formula that overflows, and a row that has to wait
#
# Attention gives a query a weighted mean of values. With scores $s_j$ for the keys $j$, the weights are
#
# $$ p_j = \frac{e^{s_j}}{\sum_k e^{s_k}} , \qquad \text{output} = \sum_j p_j v_j . $$
#
# Two things are wrong with this formula on a computer. First, $e^{s}$ leaves the range of float32 early. If the same number is added to all
# scores, the weights do not change on paper: the factor cancels. Here is what the formula gives for ten scores, with a number added.


# %%
def formula(x: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The softmax as it is written."""
    return torch.exp(x) / torch.exp(x).sum()


def largest_errors(softmax, shifts: Tensor) -> Tensor:
    """The largest error of a softmax beside float64, for scores to which a number was added."""
    x = torch.randn(10, generator=torch.Generator().manual_seed(0))
    exact = torch.softmax(x.double(), 0)
    return torch.stack([(softmax(x + shift) - exact).abs().max() for shift in shifts])


# %% tags=["demo"]
shifts = torch.arange(-130, 131, 2).float()
errors = largest_errors(formula, shifts)
good = shifts[errors < 1e-3]
fig, ax = plotting.figure(width=8.5, height=3)
ax.semilogy(shifts, errors, ".", color=plotting.VERMILLION)
for side in (-1, 1):
    broken = shifts[errors.isnan() & (shifts * side > 0)]
    ax.axvspan(float(broken.min()), float(broken.max()), color=plotting.PALE)
    plotting.label(ax, float(broken.mean()) - 5, 1e-4, "NaN", plotting.GREY)
ax.set(
    xlabel="number added to all scores", ylabel="largest error of a weight", xlim=(-130, 130), ylim=(1e-9, 2)
)
plotting.caption(
    fig,
    "Each dot is a softmax of the same ten scores. Grey: the formula gives NaN. See how narrow the rest is.",
)
print(f"errors below 0.001 only between {good.min():.0f} and {good.max():.0f}")

# %% [markdown]
# Second, the sum below the fraction line needs *all* scores. Before the last score is known, no weight is known. So standard attention
# writes down all scores of a query, then all weights, and multiplies by the values at the end. For $N$ queries and as many keys this makes two
# matrices of $N \times N$ numbers that nobody asked for. The next notebooks remove them. This one removes the reason for which they were made.
#
# ## Notation
#
# | symbol | meaning | shape |
# |---|---|---|
# | $q,\ k_j$ | a query, and the key number $j$ | `[d]` |
# | $x_j,\ s_j$ | scores: one number for each key, $s_j = q \cdot k_j / \sqrt d$; $x_j$ where it does not matter how they were made | `[N]` |
# | $m$ | maximum of the scores seen so far | one number |
# | $l$ | sum of $e^{s_j - m}$ over the scores seen so far | one number |
# | $o$ | sum of $e^{s_j - m} v_j$ over the keys seen so far, not divided by $l$; the output is $o / l$ | `[d]` |
# | $v_j$ | value of key $j$ | `[d]` |
# | $d$ | channels of a query, a key or a value | |
# | $p_j$ | weight of key $j$, from 0 to 1 | `[N]` |
# | $\text{lse}$ | logarithm of the sum of exponentials, $\ln \sum_j e^{s_j} = m + \ln l$ | one number |
#
# A score of $-\infty$ means that a key is **hidden**: its weight is zero. If *all* keys are hidden, the formula is 0 divided by 0. In this course
# such a row has the weights zero, the output zero and $\text{lse} = -\infty$.

# %% [markdown]
# ## Three passes that are safe
#
# Take any number $m$, and multiply numerator and denominator by $e^{-m}$:
#
# $$ p_j = \frac{e^{x_j - m}}{\sum_k e^{x_k - m}} . $$
#
# The value does not depend on $m$. The largest exponent is $\max_j x_j - m$. With $m = \max_j x_j$ it is 0, so nothing overflows, and one term of
# the sum is $e^0 = 1$, so the sum is at least 1 and never rounds to zero. That costs three passes over the scores: one for the maximum, one
# for the sum, one for the weights.
#
# ### Exercise 1 · safe_softmax  ●○○  7 minutes
#
# Write the three passes. Mind hidden scores: where *all* scores are $-\infty$, the maximum is $-\infty$ too, and $-\infty - (-\infty)$ is NaN.
# The weights have to be zero there.


# %% safe_softmax tags=["exercise"]
def safe_softmax(x: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The weights exp(x_j) / sum_k exp(x_k), without overflow.

    Arguments:
        x: scores of any size; -inf for hidden ones.

    Returns:
        The weights. They add up to 1, or are all zero where every score is -inf.

    Example:
        safe_softmax(torch.tensor([1000.0, 1000.0])) is [0.5, 0.5].
    """
    ### BEGIN SOLUTION
    m = x.max()
    p = torch.exp(x - torch.where(m == -math.inf, 0.0, m))
    total = p.sum()
    return p / torch.where(total == 0, 1.0, total)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Subtract the maximum before you take the exponential. A hidden score stays $-\infty$, and $e^{-\infty} = 0$. Only a row without a visible score
# needs care: subtract 0 there, and divide by 1.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `p = torch.exp(x - torch.where(m == -math.inf, 0.0, m))` with `m = x.max()`. Divide by `torch.where(total == 0, 1.0, total)`, where `total` is the sum of `p`.
#
# </details>
#
# <details>
# <summary>"I get NaN only in the case where all scores are hidden"</summary>
#
# There are two traps. `x - x.max()` is $-\infty - (-\infty)$, which is NaN. When that is mended, the sum is 0, and 0 / 0 is NaN as well.
#
# </details>

# %% check_safe_softmax tags=["check"]
check.safe_softmax(safe_softmax)

# %% tags=["demo"]
sizes = torch.tensor([0.0, 100.0, 1000.0, 10000.0])
print("added to the scores      " + "".join(f"{size:>12.0f}" for size in sizes))
print("error of the formula     " + "".join(f"{error:>12.1e}" for error in largest_errors(formula, sizes)))
print(
    "error of safe_softmax    " + "".join(f"{error:>12.1e}" for error in largest_errors(safe_softmax, sizes))
)

# %% [markdown]
# What is left is not an error of the softmax. The number 10,000 uses up most of the 24 binary digits of a float32, so the scores themselves are
# rounded when it is added.
#
# ## One pass: correct what was said too early
#
# The first two passes can be one. Suppose that we have read some scores, and have their maximum $m$ and the sum $l = \sum_j e^{x_j - m}$. Now a block of new
# scores arrives. The new maximum is
#
# $$ m' = \max(m, \max_{j \in \text{block}} x_j) . $$
#
# Every old term $e^{x_j - m}$ should have been $e^{x_j - m'}$. Both differ by a factor that is the same for all of them, $e^{m - m'}$. So it can be
# applied to the sum, and the terms need not be kept:
#
# $$ l' = e^{m - m'}\, l + \sum_{j \in \text{block}} e^{x_j - m'} . $$
#
# The factor is at most 1, so nothing overflows. This is the **online softmax** of Milakov and Gimelshein (2018), here with blocks in place of single scores.
#
# ### Exercise 2 · online_stats  ●●○  10 minutes
#
# Scores arrive in blocks, one after the other, and each block can be had once: after the next one has come, it is gone. Return the maximum and the sum. The
# blocks may differ in size. The check counts how much memory is in use at once: keep two numbers, and no block.
#
# Blocks of hidden scores may come first. Then $m = m' = -\infty$, and $e^{m - m'}$ would be NaN.


# %% online_stats tags=["exercise"]
def online_stats(blocks: Iterable[Float[Tensor, "block"]]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Maximum and sum of exponentials of scores that arrive in blocks, in one pass.

    Arguments:
        blocks: at least one block of scores; a `for` loop over them can be run once.

    Returns:
        m, the maximum, and l, the sum of exp(x - m), as tensors without dimensions. (-inf, 0) if all scores are -inf.

    Example:
        online_stats([torch.tensor([0.0]), torch.tensor([math.log(2), math.log(2)])]) is (0.6931, 2.5).
    """
    ### BEGIN SOLUTION
    m = l = None
    for x in blocks:
        new = x.max() if m is None else torch.maximum(m, x.max())
        shift = torch.where(new == -math.inf, 0.0, new)
        part = torch.exp(x - shift).sum()
        l = part if l is None else torch.exp(m - shift) * l + part
        m = new
    return m, l
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Three steps for each block: the new maximum; the factor for the old sum, from the old and the new maximum; the new terms, with the new
# maximum. Overwrite `m` last, because the factor needs the old one.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `l = torch.exp(m - shift) * l + torch.exp(x - shift).sum()`, where `shift` is the new maximum, or 0 where that is `-inf`.
# The first block has no old sum: start with `m = -inf` and `l = 0` in its dtype, or treat it apart.
#
# </details>
#
# <details>
# <summary>"My sum is too large when the scores rise, and right when they fall"</summary>
#
# Then the old sum is not rescaled. When scores fall, the first maximum stays, the factor is 1, and the mistake does not show. Always test with
# rising scores.
#
# </details>

# %% check_online_stats tags=["check"]
check.online_stats(online_stats)

# %% [markdown]
# **See it.** A stream of scores, with the maximum and the sum after each block. The sum falls where a new maximum arrives: it is the same sum, in
# a new unit. What does not depend on the unit is $m + \ln l$.

# %% tags=["demo"]
x = torch.randn(24 * 8, generator=torch.Generator().manual_seed(3)) + torch.linspace(0, 5, 24 * 8)
blocks = x.split(8)
states = [online_stats(iter(blocks[: n + 1])) for n in range(24)]
m, l = (torch.stack(part) for part in zip(*states, strict=True))
lse = torch.stack([torch.logsumexp(x[: 8 * n + 8], 0) for n in range(24)])
fig, (top, bottom) = plotting.figure(1, 2, width=10, height=3.2)
top.plot(x.view(24, 8).max(1).values, "o", color=plotting.GREY, label="maximum of the block")
top.step(range(24), m, where="post", color=plotting.VERMILLION, label="m")
top.plot(m + l.log(), color=plotting.BLUE, label="m + ln l")
top.plot(lse, "x", color=plotting.BLACK, label="log-sum-exp so far")
top.set(xlabel="block", ylabel="score")
top.legend(loc="upper left")
top.set(ylim=(1, 13))
bottom.plot(l, "o-", color=plotting.ORANGE)
bottom.set(xlabel="block", ylabel="l")
plotting.caption(
    fig,
    "Left: the crosses (all scores so far at once) lie on the line (one pass). Right: l jumps down where m jumps up.",
)
print(f"largest difference between m + ln l and the log-sum-exp: {(m + l.log() - lse).abs().max():.1e}")

# %% [markdown]
# ## Carry the output along, and put parts together
#
# The third pass made the weights, and the weights were needed for the output $\sum_j p_j v_j$. But the output is a sum of the same kind as $l$, with the values as
# factors. So carry it along, not yet divided:
#
# $$ m = \max_j s_j , \qquad l = \sum_j e^{s_j - m} , \qquad o = \sum_j e^{s_j - m}\, v_j . $$
#
# The division by $l$ is done once, at the very end. Now nothing is left of the order, either. Let $a$ and $b$ be two sets of keys, each with its own
# $(m, l, o)$. What are the three for both sets together? The same factor as above moves each part to the common maximum.
#
# ### Exercise 3 · merge  ●●○  10 minutes
#
# Put two parts together. Both have any number of rows (one query each), so `m` and `l` have the shape `[...]` and `o` has `[..., d]`. An empty part is
# $(-\infty, 0, 0)$. It has to change nothing, also where both parts are empty.


# %% merge tags=["exercise"]
def merge(
    a: tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows d"]],
    b: tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows d"]],
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Float[Tensor, "*rows d"]]:
    """What two sets of keys give together.

    Arguments:
        a, b: (m, l, o) of each set: the maximum of its scores s, the sum of exp(s - m), and the sum of exp(s - m) v.

    Returns:
        (m, l, o) of both sets together. o is not divided by l.

    Example:
        With one query and one channel: merge((0, 1, [4]), (ln 2, 1, [6])) is (ln 2, 1.5, [8]).
    """
    ### BEGIN SOLUTION
    m = torch.maximum(a[0], b[0])
    shift = torch.where(m == -math.inf, 0.0, m)
    r, s = torch.exp(a[0] - shift), torch.exp(b[0] - shift)
    return m, r * a[1] + s * b[1], r[..., None] * a[2] + s[..., None] * b[2]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The terms of part $a$ are $e^{s - m_a}$ and should be $e^{s - m}$. The factor is $e^{m_a - m}$, for $l$ and for $o$. The same for part $b$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `r = torch.exp(a[0] - shift)`, where `shift` is the common maximum, or 0 where that is `-inf`. For `o`, one more dimension: `r[..., None] * a[2]`.
#
# </details>
#
# <details>
# <summary>"The shapes do not fit for o"</summary>
#
# The factor has one number per row, `o` has `d` numbers per row. Give the factor a last dimension of size 1: `r[..., None]`.
#
# </details>

# %% check_merge tags=["check"]
check.merge(merge)

# %% [markdown]
# Is $\text{merge}(\text{merge}(a, b), c)$ the same as $\text{merge}(a, \text{merge}(b, c))$? Write out both: in each, $m$ is the largest of three
# numbers, and the factors of part $a$ multiply to $e^{m_a - m_{ab}} e^{m_{ab} - m} = e^{m_a - m}$. The intermediate maximum cancels. So the operation is
# **associative**, it is commutative too, and the empty part is its neutral element.
#
# That is more than a curiosity. It says that keys may be divided into parts, that each part may be worked on by another processor, that
# the parts may be put together in a tree, and that a part may come late. Notebook 02 uses it for tiles, notebook 04 for keys that are spread over a GPU.


# %%
def state(
    q: Float[Tensor, "d"], k: Float[Tensor, "M d"], v: Float[Tensor, "M d"]
) -> tuple[Tensor, Tensor, Tensor]:
    """(m, l, o) of one query and one block of keys."""
    s = k @ q / math.sqrt(len(q))
    p = torch.exp(s - s.max())
    return s.max(), p.sum(), p @ v


def tree(parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours are put together, until one is left."""
    while len(parts) > 1:
        parts = [
            merge(*pair) if len(pair) > 1 else pair[0]
            for pair in (parts[n : n + 2] for n in range(0, len(parts), 2))
        ]
    return parts[0]


def output(part: tuple[Tensor, Tensor, Tensor]) -> Float[Tensor, "d"]:
    """The only division."""
    return part[2] / part[1]


# %% tags=["demo"]
gen = torch.Generator().manual_seed(1)
q, k, v = (
    3 * torch.randn(16, generator=gen),
    torch.randn(1000, 16, generator=gen),
    torch.randn(1000, 16, generator=gen),
)
parts = [state(q, *block) for block in zip(k.split(64), v.split(64), strict=True)]
shuffled = [parts[n] for n in torch.randperm(len(parts), generator=gen)]
exact = torch.softmax(k.double() @ q.double() / 4, 0) @ v.double()
for name, part in {
    "from left to right": functools.reduce(merge, parts),
    "from right to left": functools.reduce(merge, parts[::-1]),
    "shuffled": functools.reduce(merge, shuffled),
    "in a tree": tree(parts),
}.items():
    print(
        f"{len(parts)} parts, {name:20} largest error beside float64: {(output(part) - exact).abs().max():.1e}"
    )

# %% [markdown]
# ## Play: one query, block by block
#
# Choose in which order the keys arrive, and step through the blocks. The scores are the same ones in every order.
#
# The version without rescaling takes new terms with the new maximum, and leaves old ones as they were. Two questions that only moving the figure answers:
# in which order is the rescale factor always 1, and what does the version without rescaling get in that order? In which order is its output worst?

# %%
ORDERS = ("rising", "falling", "random")


def keys_in_order(order: str, blocks: int = 8, size: int = 6) -> tuple[Tensor, Tensor]:
    """The scores and values of one query, in blocks [blocks, size], sorted by score or not."""
    gen = torch.Generator().manual_seed(5)
    s = 2.5 * torch.randn(blocks * size, generator=gen)
    v = torch.stack([torch.cos(s), 0.4 * s, torch.randn(len(s), generator=gen)], 1)
    rank = s.sort(descending=order == "falling").indices if order != "random" else torch.arange(len(s))
    return s[rank].view(blocks, size), v[rank].view(blocks, size, 3)


def run(s: Tensor, v: Tensor, rescale: bool = True) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(m, l, o) after each block. Without rescaling, new terms have the new maximum and old ones stay as they were."""
    found = []
    for scores, values in zip(s, v, strict=True):
        m = scores.max() if rescale or not found else torch.maximum(found[-1][0], scores.max())
        p = torch.exp(scores - m)
        part = m, p.sum(), p @ values
        if found and rescale:
            part = merge(found[-1], part)
        elif found:
            part = m, found[-1][1] + part[1], found[-1][2] + part[2]
        found.append(part)
    return found


def draw_step(order: str, step: int) -> Figure:
    """Scores, running maximum and sum, rescale factor and output after some blocks."""
    s, v = keys_in_order(order)
    states, wrong = run(s, v), run(s, v, rescale=False)
    m, l, o = (torch.stack(part) for part in zip(*states, strict=True))
    factor = torch.exp(torch.cat([m[:1] - m[:1], m[:-1] - m[1:]]))
    exact = torch.softmax(s.flatten(), 0) @ v.flatten(0, 1)
    fig, (left, middle, right) = plotting.figure(1, 3, width=11, height=3.5, width_ratios=[1.5, 1, 1])
    read = torch.arange(s.numel()) < 6 * step
    left.plot(torch.arange(s.numel())[read], s.flatten()[read], "o", color=plotting.BLUE)
    left.plot(torch.arange(s.numel())[~read], s.flatten()[~read], "o", color=plotting.PALE)
    left.step([6 * n for n in range(step + 1)], [float(m[0]), *m[:step].tolist()], color=plotting.VERMILLION)
    left.set(xlabel="key", ylabel="score", title=f"m = {m[step - 1]:.2f}", ylim=(-8, 8))
    middle.bar(range(1, step + 1), factor[:step], color=plotting.ORANGE)
    middle.plot(range(1, step + 1), l[:step] / l.max(), "o-", color=plotting.GREEN)
    middle.set(
        xlabel="block",
        ylabel="factor (bars), l / largest l (line)",
        title=f"l = {l[step - 1]:.2f}",
        xlim=(0.3, 8.7),
        ylim=(0, 1.05),
    )
    places = torch.arange(3)
    right.bar(places - 0.25, output(states[step - 1]), 0.25, color=plotting.BLUE, label="o / l")
    right.bar(places, output(wrong[step - 1]), 0.25, color=plotting.VERMILLION, label="not rescaled")
    right.bar(places + 0.25, exact, 0.25, color=plotting.GREY, label="all keys")
    right.axhline(0, color=plotting.GREY, linewidth=0.8)
    right.set(xlabel="channel", ylabel="output", xticks=[0, 1, 2], ylim=(-2.2, 5.6))
    right.legend(loc="upper center", ncols=1)
    plotting.caption(
        fig,
        f"Keys in {order} order, {step} of 8 blocks read. Left: scores, and the running maximum. Middle: how much is left of what was summed "
        "before. Right: the output so far; after the last block blue and grey agree.",
    )
    return fig


# %% tags=["demo"]
steps = widgets.explore(
    draw_step,
    order=widgets.ipywidgets.Dropdown(options=ORDERS, value="rising", description="keys"),
    step=widgets.slider("blocks read", 4, 1, 8, 1),
)
steps

# %% [markdown]
# ## The claim, measured
#
# One query, up to 65,536 keys, scores that rise to 10,000. One pass in blocks of 256 beside float64, and two others through the same measurement:
# the formula with exponentials of the scores as they are, and the **negative control**, one pass that adds parts without rescaling them.


# %%
def rising_problem(M: int, top: float) -> tuple[Tensor, Tensor, Tensor]:
    """A query and keys whose scores rise from -top to top, but for noise."""
    gen = torch.Generator().manual_seed(M)
    q = torch.ones(16)
    k = torch.linspace(-top, top, M)[:, None] / 4 + torch.randn(M, 16, generator=gen)
    return q, k, torch.randn(M, 16, generator=gen)


def one_pass(q: Tensor, k: Tensor, v: Tensor, rescale: bool = True) -> Float[Tensor, "d"]:
    """The output of one query, 256 keys at a time."""
    total = None
    for block in zip(k.split(256), v.split(256), strict=True):
        part = state(q, *block)
        if total is not None and rescale:
            part = merge(total, part)
        elif total is not None:
            part = part[0], total[1] + part[1], total[2] + part[2]
        total = part
    return output(total)


# %% tags=["demo"]
rows = []
print("largest error beside float64, and size of the output")
print(f"{'keys':>8} {'scores to':>10} {'one pass':>10} {'formula':>10} {'not rescaled':>13} {'output':>8}")
for M, top in ((1024, 10.0), (4096, 100.0), (16384, 1000.0), (65536, 10000.0)):
    q, k, v = rising_problem(M, top)
    s = k.double() @ q.double() / 4
    exact = torch.softmax(s, 0) @ v.double()
    by_formula = formula(k @ q / 4) @ v
    errors = [
        (found - exact).abs().max()
        for found in (one_pass(q, k, v), by_formula, one_pass(q, k, v, rescale=False))
    ]
    print(
        f"{M:8,} {top:10,.0f} {errors[0]:10.1e} {errors[1]:10.1e} {errors[2]:13.1e} {exact.abs().max():8.2f}"
    )
kept = sum(t.numel() for t in state(*rising_problem(256, 1.0)))
print(f"numbers carried from block to block: {kept}, for any number of keys")

# %% [markdown]
# One pass stays at the rounding of the scores themselves, which grows with their size. The formula is gone as soon as scores pass 89, where $e^{s}$ leaves
# the range of float32. The negative control is as far off as the output is large, because the keys that matter come last, and what came before counts too
# much.
#
# <!-- not printed: 89 (the logarithm of the largest float32) -->
#
# ## What you built
#
# 1. A softmax that is safe for scores of any size, and says what a row is that sees nothing.
# 2. Its statistics in one pass: $m' = \max(m, \cdot)$, $l' = e^{m - m'} l + \dots$
# 3. `merge`, associative and commutative, with an empty part that changes nothing: attention of one query is a *sum*, and may be split like one.
#
# **Limits.** Exact means exact up to rounding: another order of summation rounds differently in the last digits. The weights $p_j$ themselves are never
# there; whoever wants to look at them has to make them. And so far it is one query at a time, which no processor likes.
#
# **Cost.** One exponential more for each block and row, and a multiplication of $d + 1$ numbers by it. In return the scores need not be stored: memory
# $d + 2$ numbers per query in place of one for each key.
#
# ## Sources
#
# - M. Milakov, N. Gimelshein, *Online normalizer calculation for softmax*, 2018, arXiv:1805.02867: the safe softmax is its algorithm 2, the one-pass version its
#   algorithm 3; section 3.1 states that the operation on pairs $(m, d)$ is associative and commutative.
# - T. Dao, D. Fu, S. Ermon, A. Rudra, C. Ré, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*, 2022, arXiv:2205.14135, section 3.1: the
#   same for the output of attention.
# - T. Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning*, 2023, arXiv:2307.08691, section 3.1: the output is divided once, at the end.
