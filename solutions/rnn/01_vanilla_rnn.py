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
# # Why a sequence needs a state
#
# *Recurrent networks, part 1 of 4: the smallest network that remembers.*
#
# **Claim.** A network of 337 numbers, trained only on numbers of at most 8 bits, adds numbers of 200 bits: in all our
# tests without a single wrong bit. No network that sees only the last $w$ pairs of bits, with $w < 200$, can do that,
# however large it is and however long it is trained. You will compute how often it must be wrong. The forward pass
# that you write is the one of `torch.nn.RNN`, equal up to rounding.
#
# | | |
# |---|---|
# | **Time** | about 60 minutes; the code runs for about half a minute |
# | **You need** | matrix products, tanh, the idea of a training loop in PyTorch. Nothing about recurrent networks. |
# | **Graded** | six exercises, one to three dots for how hard they are; each has its own check cell, which says what differs, and often why |
# | **You leave with** | a recurrent layer that you wrote, one that you built without any training, and the reason why they remember |

# %% setup
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import trange

import utils
from autograde import open_lesson
from utils import data, plotting, training, widgets

utils.setup()
check = open_lesson("rnn/01_vanilla_rnn")

# %% [markdown]
# ## The problem: a network that cannot carry
#
# Two binary numbers are to be added. We read them in the order in which we add at school: the least significant bit
# first. At time $t$ the network sees bit $t$ of both numbers, and has to say bit $t$ of their sum.
#
# The usual way to feed a sequence to a network with a fixed number of inputs is a **window**: at each position, show it
# the last $w$ pairs of bits. A convolution along time, with a kernel of width $w$, is exactly this. Here is such a
# network with $w = 4$, and a training loop that shows it random sums of 1 to 8 bits.
#
# An annotation such as `Float[Tensor, "batch time 2"]` names the dimensions of a tensor; it is not checked at run time. A **logit** is the number before the sigmoid; positive means 1.


# %%
def windows(x: Float[Tensor, "batch time 2"], w: int) -> Float[Tensor, "batch time 2*w"]:
    """At every position the last w bits of a, then the last w bits of b; zeros in front of bit 0."""
    return F.pad(x, (0, 0, w - 1, 0)).unfold(1, w, 1).flatten(2)


def window_network(w: int, seed: int = 0) -> nn.Module:
    """A network with about 340 numbers that sees 2 w bits and returns one logit for the sum bit."""
    torch.manual_seed(seed)
    hidden = 340 // (2 * w + 2)
    return nn.Sequential(nn.Linear(2 * w, hidden), nn.Tanh(), nn.Linear(hidden, 1), nn.Flatten(-2))


def window_logits(network: nn.Module, w: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The network as a function of a padded batch. It has no use for the lengths."""
    return lambda x, lengths: network(windows(x, w))


def train(logits: Callable, parameters: list[Tensor], seed: int, label: str) -> None:
    """400 steps of Adam on sums of 1 to 8 bits. `logits(x, lengths)` returns one number per position.

    Adam's rate falls linearly to a twentieth.
    """
    gen = torch.Generator().manual_seed(seed)
    optimiser = training.Adam([p.requires_grad_() for p in parameters], lr=0.04, steps=400)
    for _ in trange(400, desc=label):
        x, s, _ = data.additions(128, 8, gen)
        lengths = torch.randint(1, 9, (128,), generator=gen)
        inside = data.length_mask(lengths, 8)
        loss = F.binary_cross_entropy_with_logits(logits(x, lengths)[inside], s[inside])
        loss.backward()
        optimiser.step()


@cache
def test_sums() -> tuple[Float[Tensor, "n bits 2"], Float[Tensor, "n bits"], Float[Tensor, "n bits"]]:
    """5000 random sums of two numbers of 200 bits, the same ones throughout: pairs, bits of the sums, carries."""
    return data.additions(5000, 200, torch.Generator().manual_seed(99))


@torch.no_grad()
def wrong_bits(logits: Callable) -> Float[Tensor, "n bits"]:
    """1 where a model says the wrong bit, on the test sums."""
    x, s, _ = test_sums()
    return ((logits(x, torch.full((len(x),), x.shape[1])) > 0) != (s > 0.5)).float()


# %% tags=["demo"]
network_4 = window_network(4)
train(window_logits(network_4, 4), list(network_4.parameters()), seed=0, label="window of 4")
wrong_4 = wrong_bits(window_logits(network_4, 4))
for where, part in (("0 to 3", wrong_4[:, :4]), ("4", wrong_4[:, 4]), ("8 to 199", wrong_4[:, 8:])):
    print(f"wrong answers, bits {where:8}: {part.mean():.3f}")

# %% tags=["demo"]
ones_plus_1 = data.pairs(2**11 - 1, 1, 13)
right = data.add_bits(ones_plus_1.int())[0][0]
said = (network_4(windows(ones_plus_1, 4)) > 0).int()[0]

fig, (left, bottom) = plotting.figure(1, 2, width=11, height=3.3, width_ratios=[1, 1.35])
left.plot(wrong_4.mean(0)[:40], "o", color=plotting.VERMILLION)
left.axhline(1 / 16, color=plotting.GREY, linewidth=1, linestyle="--")
plotting.label(left, 29, 0.075, "one in sixteen", plotting.GREY)
left.set(xlabel="bit position t", ylabel="wrong answers (fraction)", ylim=(-0.003, 0.085))
rows = {"a": ones_plus_1[0, :, 0], "b": ones_plus_1[0, :, 1], "a + b": right, "network": said}
plotting.bit_rows(bottom, rows, truth={"network": right})
plotting.caption(
    fig,
    "Left: 5000 random sums; the first four bits are right, then the mistakes begin. "
    "Right: the sum 2047 + 1; wrong bits are orange-red.",
)

# %% [markdown]
# The first four bits are right. At bit 4 about one answer in thirty is wrong. The fraction grows to about one in sixteen by
# bit 8 and stays there. Bits 4 to 7 were in the training data, and still the network is wrong there. The sum on the right
# shows how it goes wrong: when 1 is added to `11111111111`, a carry is made at bit 0 and travels through all ones. Four
# positions later the network no longer sees where it was made.
#
# Three questions follow. Why one in sixteen, and not more or less? Would a larger network, or a longer training, help?
# What would?
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $a_t,\ b_t$ | bit $t$ of the two numbers, $t = 0$ is the least significant | 0 or 1 |
# | $c_t$ | carry **into** position $t$; $c_0 = 0$ | 0 or 1 |
# | $s_t$ | bit $t$ of the sum | 0 or 1 |
# | $w$ | pairs that a window sees: positions $t-w+1$ to $t$ | at least 1 |
# | $p_n$ | probability that $c_n = 1$ for random numbers | 0 to 1 |
# | $x_t$ | input at time $t$; here $(a_t, b_t)$ | `[batch, input]` |
# | $h_t$ | state after time $t$; in the adder $h_k$ is its unit $k$ | `[batch, hidden]` |
# | $f$ | one step: it makes $h_t$ from $x_t$ and $h_{t-1}$ | |
# | $W_{ih},\ W_{hh}$ | weights from the input and from the previous state | `[hidden, input]`, `[hidden, hidden]` |
# | $b_{ih},\ b_{hh}$ | two bias vectors | `[hidden]` |
# | `w_out`, `b_out` | the **readout**: a linear map from the state to the answer | `[hidden]`, one number |
# | $T,\ I,\ H$ | time steps, inputs, hidden units | |
# | $m_t$ | ones that meet at position $t$: $a_t + b_t + c_t$ | 0 to 3 |
# | $g$ | gain of the adder that we build by hand | positive |
# | $u$ | weight from a unit to itself; $g/2$ in the adder | |
# | $h^*$ | the state at rest above zero: $h^* = \tanh(u h^*)$ | 0 to 1 |
# | $L$ | bits of the first number in the chain $(2^L - 1) + 1$ | at least 2 |
# | $\sigma$ | largest singular value of $W_{hh}$ | |

# %% [markdown]
# ## How often must a window be wrong?
#
# We look for the smallest error that *any* function of the window can have, when all bits of both numbers are random.
#
# **Only the carry is hidden.** The rule taught at school is
#
# $$ s_t = a_t \oplus b_t \oplus c_t , \qquad c_{t+1} = 1 \ \text{ if at least two of } a_t, b_t, c_t \text{ are } 1 . $$
#
# The window contains $a_t$ and $b_t$. If $c_t$ flips, $s_t$ flips. So to guess $s_t$ is to guess $c_t$.
#
# **A pair decides the carry, or it passes it on.** If $a_t = b_t = 0$, no carry leaves position $t$, whatever came in.
# If $a_t = b_t = 1$, a carry leaves it, whatever came in. These pairs *decide*. If $a_t \ne b_t$, then
# $c_{t+1} = c_t$: the pair *propagates* the carry. For random bits each of the two happens with probability 1/2.
#
# **What the window knows.** Before position $t$ the window shows $w - 1$ earlier pairs. If one of them decides, the
# carry into $t$ follows from what is seen, and a good network makes no mistake. If all of them propagate, then
# $c_t$ equals the carry that came into the window from below, $c_n$ with $n = t - w + 1$. The pairs that made $c_n$
# are out of sight, and the bits in the window are independent of them: they tell nothing about $c_n$.
#
# **What is known about a carry that nobody sees.** A carry leaves position $n$ if the pair is $(1, 1)$, with
# probability 1/4, or if the pair propagates and a carry came in, with probability $\tfrac12 p_n$:
#
# $$ p_{n+1} = \tfrac14 + \tfrac12\, p_n , \qquad p_0 = 0 . $$
#
# This gives $0,\ \tfrac14,\ \tfrac38,\ \tfrac7{16}, \dots$: it grows, and stays below one half.
#
# ### Exercise 1 · window_error  ●●○  10 minutes
#
# How large is the smallest possible probability of a wrong bit at position $t$, for a model that sees the last $w$ pairs?
# You need three things: the probability that the window does not know the carry, what the model should then say, and how
# often this is wrong. Write $p_n$ as a closed form, or run its recursion. Take care of the first positions, where a window
# reaches below bit 0 and nothing is hidden.


# %% window_error tags=["exercise"]
def window_error(w: int, t: int) -> float:
    """Smallest probability of a wrong sum bit for a model that sees only the last w pairs of bits.

    Arguments:
        w: pairs in the window, at least 1. The window covers the positions t - w + 1 to t.
        t: the position of the sum bit, counted from 0 (the least significant).

    Returns:
        The error probability of the best such model, for uniformly random numbers.

    Example:
        window_error(1, 1) is 0.25: only the pair at position 1 is seen, the carry into it is 1 when both lowest
        bits are 1, and the best model always says "no carry". window_error(4, 3) is 0.0: all pairs are seen.
    """
    ### BEGIN SOLUTION
    n = t - w + 1  # positions below the window
    if n <= 0:
        return 0.0
    p_carry = (1 - 2.0**-n) / 2
    return 2.0 ** -(w - 1) * p_carry
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The error needs two things at once: all $w - 1$ earlier pairs in the window propagate, *and* the guess about the
# carry from below is wrong. The first depends on bits inside the window, the second on bits below it, so their
# probabilities multiply. As $p_n < \tfrac12$, the best guess is always "no carry", which is wrong with probability $p_n$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# The distance of $p_n$ from $\tfrac12$ halves at every step and starts at $\tfrac12$, so $p_n = (1 - 2^{-n})/2$. With
# `n = t - w + 1`, the answer is `2.0 ** -(w - 1)` times that, and 0 when `n <= 0`.
#
# </details>
#
# <details>
# <summary>"My value for w = 1 at a late position is 0.25, and I expected something near 0.5"</summary>
#
# The pair at position $t$ itself does not need to propagate. Of the $w$ pairs that the window sees, only the $w - 1$
# *before* position $t$ stand between the hidden carry and $c_t$. For $w = 1$ there is none.
#
# </details>

# %% check_window_error tags=["check"]
check.window_error(window_error)

# %% [markdown]
# In one line: for $t \ge w$,
#
# $$ \text{error}(w, t) = 2^{-(w-1)} \cdot \frac{1 - 2^{-(t-w+1)}}{2} = 2^{-w} \left( 1 - 2^{-(t-w+1)} \right) , $$
#
# and 0 before. Far from bit 0 it tends to $2^{-w}$.
#
# **See it.** The lines are your function. The dots are measured: 200,000 sums, each bit guessed by the best possible model,
# which adds inside its window and assumes that no carry comes in from below. The crosses are the network from above. Below
# the figure that network is compared with the best guess, on all windows of 4 pairs.


# %%
def guess_from_window(x: Int[Tensor, "n bits 2"], w: int) -> Int[Tensor, "n bits"]:
    """The best guess of every sum bit from the last w pairs: add them, with no carry coming in."""
    a, b = x.bool().unbind(dim=2)
    carry = torch.zeros_like(a)
    for back in range(w - 1, 0, -1):  # all positions t at once; a pair before bit 0 counts as (0, 0)
        old_a, old_b = (F.pad(bits, (back, 0))[:, : x.shape[1]] for bits in (a, b))  # at t - back
        carry = (old_a & old_b) | (carry & (old_a | old_b))
    return (a ^ b ^ carry).int()


# %% tags=["demo"]
x, s, _ = data.additions(200_000, 24, torch.Generator().manual_seed(0))
fig, ax = plotting.figure(width=8.5, height=3.9)
for w, color in zip((1, 2, 4, 8), plotting.PALETTE, strict=False):
    positions = range(w, 24)  # before position w nothing is hidden
    measured = (guess_from_window(x.int(), w) != s).float().mean(0)
    ax.semilogy(positions, [window_error(w, t) for t in positions], color=color)
    ax.semilogy(positions, measured[w:], "o", color=color)
    plotting.label(ax, 23.5, window_error(w, 23), f"w = {w}", color)
ax.semilogy(range(4, 24), wrong_4.mean(0)[4:24], "x", color=plotting.BLACK, markersize=7)
plotting.label(ax, 25.4, window_error(4, 23), "× trained", plotting.BLACK)
ax.set(xlabel="bit position t", ylabel="wrong answers (fraction)", xlim=(0, 28), ylim=(1e-3, 1))
plotting.caption(
    fig,
    "Dots (best possible guess, measured) lie on the lines (window_error). Crosses: the network that "
    "you saw above lies on the line for w = 4. Each line is zero for t < w, and tends to $2^{-w}$.",
)

all_windows = torch.cartesian_prod(*[torch.tensor([0, 1])] * 8).reshape(256, 4, 2)
trained_says = network_4(windows(all_windows.float(), 4))[:, -1] > 0
differ = int((trained_says != (guess_from_window(all_windows, 4)[:, -1] > 0)).sum())
print(f"window_error(4, 100) = {window_error(4, 100):.6f} = 1/{1 / window_error(4, 100):.0f}")
print(f"window of 4: {differ} of {len(all_windows)} windows differ from the best guess")

# %% [markdown]
# That answers two of the three questions. One in sixteen is $2^{-4}$, what your formula tends to for $w = 4$. The network
# already makes the best guess on all windows, so neither size nor training can help. Far from bit 0 each
# further pair in the window halves the error, and no window makes it zero.
#
# ## A state
#
# What would help? Of everything below position $t$, only *one bit* matters for the rest of the sum: the carry. A model that
# hands this one bit from each position to the next needs no window.
#
# So we give the network a **state** $h_t$, and let the same function $f$ produce it at every position:
#
# $$ h_t = f(x_t,\ h_{t-1}) . $$
#
# ```text
#              x_0          x_1          x_2
#               |            |            |
#  h_start --> [f] -- h_0 -> [f] -- h_1 -> [f] -- h_2 -> ...
#               |            |            |
#              s_0          s_1          s_2
# ```
#
# As in the window network, the same weights serve every position, so the number of weights does not depend on the length.
# New is the second argument: through $h_{t-1}$ the network can receive something from every earlier position. We do not
# tell it to store the carry. It has to find out what is worth keeping.
#
# The simplest choice of $f$ is a linear map of both arguments and a tanh. It is the network of Elman (1990), and
# `torch.nn.RNN` computes
#
# $$ h_t = \tanh\!\left( W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh} \right) . $$
#
# Two biases are one too many: only their sum matters. PyTorch has two to be compatible with cuDNN, the library of NVIDIA that
# runs this layer on a GPU. We keep both, so that weights can be copied between your code and PyTorch's.
#
# ### Exercise 2 · rnn_step  ●○○  4 minutes
#
# Write one step for a whole batch. The equation is for column vectors, $W x$. In a batch every *row* is one
# sequence's vector, so the product becomes `x @ W.T`.


# %% rnn_step tags=["exercise"]
def rnn_step(
    x: Float[Tensor, "batch input"],
    h: Float[Tensor, "batch hidden"],
    W_ih: Float[Tensor, "hidden input"],
    W_hh: Float[Tensor, "hidden hidden"],
    b_ih: Float[Tensor, "hidden"],
    b_hh: Float[Tensor, "hidden"],
) -> Float[Tensor, "batch hidden"]:
    """One step of a recurrent network with tanh, for every sequence of a batch.

    Arguments:
        x: the input at this time. h: the state after the previous time.
        W_ih, W_hh, b_ih, b_hh: weights and biases in PyTorch's layout; W_hh[i, j] leads from unit j to unit i.

    Returns:
        The new state, in the dtype of the inputs; with float64 everything in between is float64, too.

    Example:
        One unit, one input: x = [[1.0]], h = [[0.5]], W_ih = [[2.0]], W_hh = [[-1.0]], b_ih = [0.1], b_hh = [0.2]
        gives tanh(2.0 + 0.1 - 0.5 + 0.2) = tanh(1.8), that is [[0.9468]].
    """
    ### BEGIN SOLUTION
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Four terms are added, each of shape `[batch, hidden]` (a bias is broadcast over the batch). The tanh comes last, once.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `torch.tanh(x @ W_ih.T + b_ih + ...)`, where the dots stand for the same two terms with `h`, `W_hh` and `b_hh`.
#
# </details>
#
# <details>
# <summary>"mat1 and mat2 shapes cannot be multiplied", or no error at all but wrong values</summary>
#
# Both come from a missing transpose. `x @ W_ih` stops with this message, because `W_ih` is `[hidden, input]`. `h @ W_hh`
# does *not* stop, because `W_hh` is square: it silently uses the weights from unit i to unit j the wrong way round.
#
# </details>

# %% check_rnn_step tags=["check"]
check.rnn_step(rnn_step)

# %% [markdown]
# **See it.** One unit, no input, no bias: $h \leftarrow \tanh(u\,h)$, where $u$ is the weight from the unit to itself. Each
# panel starts your `rnn_step` from seven states. After 30 steps, what can you still say about where a line started? And
# after 3000?


# %%
def one_unit(u: float, starts: Float[Tensor, "lines"], steps: int) -> Float[Tensor, "steps+1 lines"]:
    """The states of a unit with weight u to itself, from several starts."""
    nothing, path = torch.zeros(len(starts), 1), [starts[:, None]]
    weights = torch.zeros(1, 1), torch.full((1, 1), u), torch.zeros(1), torch.zeros(1)
    for _ in range(steps):
        path.append(rnn_step(nothing, path[-1], *weights))
    return torch.cat(path, dim=1).T


# %% tags=["demo"]
starts = torch.tensor([-1.0, -0.6, -0.2, 0.0, 0.2, 0.6, 1.0])
colors = [plotting.VERMILLION] * 3 + [plotting.GREY] + [plotting.BLUE] * 3
fig, axes = plotting.figure(1, 3, width=9.5, height=3.1, sharey=True)
for ax, u in zip(axes, (0.5, 1.0, 1.5), strict=True):
    path = one_unit(u, starts, 3000)
    for line, color in zip(path[:31].T, colors, strict=True):
        ax.plot(line, color=color)
    ax.set(title=f"u = {u}", xlabel="step")
    for step in (30, 3000):
        print(f"u = {u}, step {step:4}: from 0.2 to {path[step, 4]:.3f}, from 1.0 to {path[step, 6]:.3f}")
axes[0].set(ylabel="state h", ylim=(-1.05, 1.05))
plotting.caption(
    fig,
    "Blue lines start above zero, orange-red ones below. Grey starts at exactly 0 and stays there. See whether the blue "
    "lines meet the orange-red ones.",
)

# %% [markdown]
# With $u = 0.5$ nothing: all states are zero to the digits shown. With $u = 1$ you can still say after 30 steps on which side
# of zero a line started, and a little more. After 3000 only the side is left, in a state of size 0.022, and a disturbance of
# that size removes it. With $u = 1.5$ the blue lines never meet the orange-red ones: the side is as easy to read after 3000
# steps as after 30, and it is all that is left.
#
# A unit whose weight to itself is larger than 1 keeps one bit for as long as you like. One bit is what addition needs. The
# next exercise builds the whole adder from such units, without any training.
#
# ## An adder, by hand
#
# Let $m_t = a_t + b_t + c_t$ be the number of ones that meet at position $t$. It is 0, 1, 2 or 3, and it decides
# everything. Take three units that count: unit $k$ is **on** ($h_k \approx +1$) when $m_t \ge k$ and **off**
# ($h_k \approx -1$) otherwise.
#
# | $m_t$ | $h_1$ | $h_2$ | $h_3$ | sum bit $s_t$ | carry $c_{t+1}$ |
# |---|---|---|---|---|---|
# | 0 | − | − | − | 0 | 0 |
# | 1 | + | − | − | 1 | 0 |
# | 2 | + | + | − | 0 | 1 |
# | 3 | + | + | + | 1 | 1 |
#
# Read the table by columns. **Unit 2 is the carry.** It is in the state, so the next step receives it as $h_2$, and
# recovers it as a number with $c = (h_2 + 1)/2$. **The sum bit** goes up, down and up again: it is the number of units
# 1 and 3 that are on, less unit 2, which is linear in the state:
#
# $$ s = \frac{h_1 + 1}{2} - \frac{h_2 + 1}{2} + \frac{h_3 + 1}{2} . $$
#
# **A tanh as a switch.** For a large gain $g$, $\tanh(g z)$ is close to $+1$ for $z > 0$ and to $-1$ for $z < 0$. Unit $k$
# must switch between $m = k - 1$ and $m = k$, so put the threshold halfway:
#
# $$ h_k \leftarrow \tanh\!\big( g\,( a + b + c - (k - \tfrac12) ) \big) , \qquad c = \frac{h_2 + 1}{2} . $$
#
# ### Exercise 3 · adder_weights  ●●●  12 minutes
#
# Turn this into the weights of an Elman network with 2 inputs and 3 units. Take paper: insert $c$, sort the terms, and
# read off what multiplies $a$ and $b$ (that is `W_ih`), what multiplies each state (`W_hh`), and what is left
# (the biases). Two more decisions: the state before the first bit, and the readout, which says 1 when
# `h @ w_out + b_out > 0.5`.


# %% adder_weights tags=["exercise"]
def adder_weights(gain: float) -> dict[str, Tensor]:
    """Weights of a recurrent network with three units that adds binary numbers, least significant bit first.

    Arguments:
        gain: how steep the switches are; it multiplies W_ih, W_hh and the sum of the two biases. For every gain of
            at least 8, all sums must be right.

    Returns:
        float32 tensors: "W_ih" [3, 2], "W_hh" [3, 3], "b_ih" [3], "b_hh" [3] for the step, "h0" [3] for the state before
        the first bit, "w_out" [3] and "b_out" (no dimensions) for the readout. The sum bit is 1 where
        h @ w_out + b_out > 0.5. Other weights than the ones derived above pass the check too, if they add correctly.

    Example:
        Gain 8, the first pair is a = b = 1. There is no carry yet, so two ones meet, and the arguments of the tanh are
        8 * (2 - 0.5), 8 * (2 - 1.5) and 8 * (2 - 2.5), that is 12, 4 and -4. The new state is about (1, 1, -1): unit 2
        holds the carry. The readout gives about 0.0007, so the sum bit is 0.
    """
    ### BEGIN SOLUTION
    W_hh = torch.zeros(3, 3)
    W_hh[:, 1] = gain / 2  # every unit hears unit 2, which is the carry
    return {
        "W_ih": torch.full((3, 2), float(gain)),
        "W_hh": W_hh,
        "b_ih": gain * torch.tensor([0.0, -1.0, -2.0]),  # gain (1/2 - (k - 1/2)) for k = 1, 2, 3
        "b_hh": torch.zeros(3),
        "h0": -torch.ones(3),
        "w_out": torch.tensor([0.5, -0.5, 0.5]),
        "b_out": torch.tensor(0.5),
    }
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# With $c = (h_2 + 1)/2$ the argument of the tanh is $g\,a + g\,b + \tfrac g2 h_2 + \tfrac g2 - g\,(k - \tfrac12)$. No unit
# listens to $h_1$ or $h_3$. All three units have the same weights; only their biases differ. At the start there is no carry.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `W_ih` is `gain` everywhere. `W_hh` is `gain / 2` in the *column* of unit 2 (`W_hh[:, 1]`), zero elsewhere. The total bias
# of unit $k$ is `gain * (1 - k)`. All of `h0` is -1. The readout is $\tfrac12 h_1 - \tfrac12 h_2 + \tfrac12 h_3 + \tfrac12$.
#
# </details>
#
# <details>
# <summary>"Sums without a carry are right, all others are wrong"</summary>
#
# Look at three places. If the carry weight is in the row `W_hh[1, :]`, only unit 2 hears anything, and it hears all three
# units. If it is `gain` instead of `gain / 2`, an absent carry ($h_2 = -1$) counts as minus one and a present one as plus one.
# If `gain / 2` is missing from the bias, an absent carry counts as minus one half.
#
# </details>

# %% check_adder_weights tags=["check"]
check.adder_weights(adder_weights)

# %% [markdown]
# **See it.** Your weights in your `rnn_step`: first one sum, step by step, then 5000 sums of 200 bits, and the longest
# chain of carries that 200 bits allow.


# %%
def bind(weights: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Your rnn_step with its weights filled in: a function step(x_t, h) -> h."""
    return lambda x_t, h: rnn_step(x_t, h, *(weights[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")))


def run_adder(
    x: Float[Tensor, "batch time 2"], weights: dict[str, Tensor]
) -> tuple[Float[Tensor, "batch time hidden"], Int[Tensor, "batch time"]]:
    """All states of the adder, and the bits that it says."""
    step, h, states = bind(weights), weights["h0"].expand(len(x), -1), []
    for x_t in x.unbind(dim=1):
        h = step(x_t, h)
        states.append(h)
    states = torch.stack(states, dim=1)
    return states, (states @ weights["w_out"] + weights["b_out"] > 0.5).int()


# %% tags=["demo"]
x = data.pairs(27, 14, 7)
states, said = run_adder(x, adder_weights(8.0))
fig, (top, middle) = plotting.figure(2, 1, width=7, height=4.2, sharex=True)
plotting.bit_rows(top, {"a = 27": x[0, :, 0], "b = 14": x[0, :, 1], "network": said[0]})
top.set_xlabel("")
names = ["$h_1$: at least 1", "$h_2$: at least 2", "$h_3$: at least 3"]
plotting.heatmap(
    middle,
    states[0].T,
    xlabel="bit position t (bit 0 comes first)",
    ylabel="",
    row_labels=names,
    bar_label="state",
)
plotting.caption(
    fig,
    "Blue: unit on. Follow the row of $h_2$: it is the carry that the next position receives. Each blue square of $h_2$ counts "
    "as a 1 one position further right.",
)

x, s, _ = test_sums()
chain = data.pairs(2**199 - 1, 1, 200)
wrong = int((run_adder(x, adder_weights(8.0))[1] != s).sum())
wrong_chain = int((run_adder(chain, adder_weights(8.0))[1] != data.add_bits(chain.int())[0]).sum())
size = sum(value.numel() for name, value in adder_weights(8.0).items() if name != "h0")
print(f"weights and biases of the adder: {size} numbers")
print(f"27 + 14 = {data.from_bits(said[0])}")
print(f"wrong bits in 5000 random sums of 200 bits: {wrong} of {s.numel():,}")
print(f"wrong bits in (2^199 - 1) + 1, whose carry travels through 199 positions: {wrong_chain}")

# %% [markdown]
# Twenty-five numbers and a starting state add numbers of any length. So the network *can* represent the solution. Whether
# training finds one, we ask below.
#
# ## A batch of sequences of different lengths
#
# To train, we need many sequences at once, and sequences have different lengths: the batch is **ragged**. A tensor is not, so
# shorter sequences are filled up with **padding**. The padding is not data, and must change nothing:
#
# - after its last element a sequence's state is **frozen**, so that the final state is the state at its own end;
# - its outputs past the end are **zero**, so that nobody takes them for results.
#
# ### Exercise 4 · rnn_forward  ●●○  8 minutes
#
# Unroll a cell over time. The cell comes in as a function `step(x_t, h) -> h` with its weights filled in, so the same code
# will run the gated cells of notebook 03. Time steps cannot be computed at once, because each needs the state before it;
# sequences can. So call `step` exactly once per time step, with the whole batch or with those of its rows that are still
# running, never once per sequence: one matrix product with many rows is far cheaper than many products with one row.


# %% rnn_forward tags=["exercise"]
def rnn_forward(
    step: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "batch time input"],
    h0: Float[Tensor, "batch hidden"],
    lengths: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "batch hidden"]]:
    """Run a recurrent cell over a padded batch.

    Arguments:
        step: step(x_t, h) -> h, for x_t [batch, input] and h [batch, hidden]. Called once per time step, with the whole
            batch or those of its rows that are still running.
        x: inputs; x[b, lengths[b]:] is padding and may hold anything, also NaN.
        h0: the states before the first step.
        lengths: how long each sequence is, from 1 to time. The longest may be shorter than time.

    Returns:
        out: the state after every step, zero past the end of each sequence; in the dtype of h0.
        h_last: the state of each sequence after its own last element.

    Example:
        With step = (x_t + h), x = [[[1], [2], [3]], [[4], [5], [6]]], h0 = [[0], [0]] and lengths = [3, 1]:
        out is [[[1], [3], [6]], [[4], [0], [0]]] and h_last is [[6], [4]].
    """
    ### BEGIN SOLUTION
    h, out = h0, []
    for t in range(x.shape[1]):
        inside = (t < lengths)[:, None]
        h_new = step(x[:, t], h)
        h = torch.where(inside, h_new, h)
        out.append(torch.where(inside, h_new, 0.0))
    return torch.stack(out, dim=1), h
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# At time $t$ compute the new state for all sequences, also for those that have ended. Then choose row by row: where
# `t < lengths`, take the new state; elsewhere keep the old one. The output is the new state or zero by the same choice.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `inside = (t < lengths)[:, None]` has shape `[batch, 1]`, and `h = torch.where(inside, h_new, h)` freezes the others. Collect
# the outputs in a list and end with `torch.stack(out, dim=1)`.
#
# </details>
#
# <details>
# <summary>"My state keeps changing after the sequence has ended", or it becomes NaN</summary>
#
# If `h` is replaced by the result of `step` without a choice, padding flows into the state. If you choose by *multiplying*
# with a mask, a NaN in the padding survives, because `0 * nan` is `nan`: `torch.where` does not look at the value that it
# does not take. If `h_last` is zero for short sequences, you returned the last output, not the last state.
#
# </details>

# %% check_rnn_forward tags=["check"]
check.rnn_forward(rnn_forward)

# %% [markdown]
# **See it.** Your adder on seven sums of different lengths in one batch: `out` for unit 2, the carry. The padding of `x` holds
# random bits here; none of them reaches the picture.

# %% tags=["demo"]
x, _, _ = data.additions(7, 16, torch.Generator().manual_seed(3))
lengths = torch.tensor([16, 13, 10, 8, 5, 3, 1])
adder = adder_weights(8.0)
out, h_last = rnn_forward(bind(adder), x, adder["h0"].expand(7, -1), lengths)
picture = torch.where(data.length_mask(lengths, 16), out[:, :, 1], torch.nan)
fig, (left, right) = plotting.figure(1, 2, width=8.5, height=3.2, width_ratios=[16, 1.2], sharey=True)
plotting.heatmap(
    left, picture, xlabel="time step t", ylabel="sequence", row_labels=[f"length {n}" for n in lengths]
)
plotting.heatmap(right, h_last[:, 1:2], xlabel="h_last", ylabel="")
right.set_xticks([])
plotting.caption(
    fig,
    "Blue: carry, orange-red: no carry, grey: past the end (your outputs are zero there). The right column "
    "repeats the last coloured square of each row.",
)
print("largest output past the end of a sequence:", out[~data.length_mask(lengths, 16)].abs().max().item())

# %% [markdown]
# ### Exercise 5 · last_valid  ●○○  3 minutes
#
# Often you have only the outputs, or a final state that ran on through the padding (`torch.nn.RNN` on a padded batch that was
# not packed), and a classifier needs the state at the end of each sequence. `out[:, -1]` is the last *column* of the batch,
# which for most sequences is padding. Write the selection that takes each sequence's own last output.


# %% last_valid tags=["exercise"]
def last_valid(
    out: Float[Tensor, "batch time hidden"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch hidden"]:
    """The output at the last position of each sequence.

    Arguments:
        out: outputs of a padded batch; what stands past the end of a sequence may be anything, also NaN.
        lengths: how long each sequence is, at least 1.

    Returns:
        out[b, lengths[b] - 1] for every b.

    Example:
        out = [[[1], [3], [6]], [[4], [0], [0]]] with lengths = [3, 1] gives [[6], [4]].
    """
    ### BEGIN SOLUTION
    return out[torch.arange(len(lengths), device=out.device), lengths - 1]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Two index tensors of the same shape are read in pairs: `out[rows, columns]` takes one vector for each pair.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# The rows are `torch.arange(len(lengths))`, on the device of `out`. The columns are `lengths - 1`.
#
# </details>
#
# <details>
# <summary>"My result has the shape [batch, batch, hidden]"</summary>
#
# A slice is not paired with an index: `out[:, lengths - 1]` takes *all* those columns for *every* row. Use an index tensor
# for the rows as well.
#
# </details>

# %% check_last_valid tags=["check"]
check.last_valid(last_valid)

# %% [markdown]
# **See it, on real text.** 64 lines drawn from the documentation that ships with Python, one character per time step, run
# through your `rnn_forward` with random weights. How much of such a batch is padding, and what would `out[:, -1]` give?

# %% tags=["demo"]
lines = sorted(data.pydoc_lines(64), key=len, reverse=True)
codes, lengths = data.pad_lines(lines)
inside = data.length_mask(lengths, codes.shape[1])
torch.manual_seed(0)
cell = nn.RNNCell(128, 16)
text_step = bind({"W_ih": cell.weight_ih, "W_hh": cell.weight_hh, "b_ih": cell.bias_ih, "b_hh": cell.bias_hh})
with torch.no_grad():
    out, h_last = rnn_forward(text_step, F.one_hot(codes, 128).float(), torch.zeros(64, 16), lengths)

fig = plotting.text_rows(lines[::9], xlabel="time step t (one character each)", ylabel="every ninth line")
plotting.caption(fig, "Part of the batch. Grey is padding: time steps that are computed and thrown away.")
print(f"padding: {1 - inside.float().mean():.0%} of the batch")
print(f"lines for which out[:, -1] is all zeros: {int((out[:, -1] == 0).all(1).sum())} of 64")
print(
    f"lines for which last_valid is h_last:    {int((last_valid(out, lengths) == h_last).all(1).sum())} of 64"
)

# %% [markdown]
# A classifier that reads `out[:, -1]` sees a vector of zeros for nearly every line, and no error is raised: it trains, badly.
#
# ### Exercise 6 · n_params  ●○○  2 minutes
#
# How many numbers does a recurrent layer have? Count $W_{ih}$, $W_{hh}$ and both biases. Then multiply: the gated cells of
# notebook 03 hold several such blocks of weights, 3 in a GRU and 4 in an LSTM.


# %% n_params tags=["exercise"]
def n_params(input_size: int, hidden_size: int, gates: int = 1) -> int:
    """Numbers in one recurrent layer, both biases counted.

    Arguments:
        input_size: I. hidden_size: H. gates: blocks of weights; 1 for the RNN, 3 for the GRU, 4 for the LSTM.

    Returns:
        How many weights and biases the layer has.

    Example:
        n_params(2, 3) is 21: 6 for W_ih, 9 for W_hh, 3 for each bias.
    """
    ### BEGIN SOLUTION
    return gates * (hidden_size * input_size + hidden_size * hidden_size + 2 * hidden_size)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Read the four shapes in the signature of `rnn_step`, and add the sizes.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $H I + H^2 + 2H$, times `gates`.
#
# </details>
#
# <details>
# <summary>"I think the number of time steps is missing"</summary>
#
# It is missing on purpose: every time step uses the same weights. That is the point of the layer.
#
# </details>

# %% check_n_params tags=["check"]
check.n_params(n_params)

# %% [markdown]
# **See it.** What it costs to see $T$ bits back: a window network with 16 hidden units, and a recurrent network with 16.

# %% tags=["demo"]
print("bits back   window network   recurrent network")
for T in (8, 50, 200, 1000):
    window_size = sum(p.numel() for p in nn.Sequential(nn.Linear(2 * T, 16), nn.Linear(16, 1)).parameters())
    print(f"{T:9,}   {window_size:14,}   {n_params(2, 16) + 17:17,}")
for name, kind, gates in (("RNN", nn.RNN, 1), ("GRU", nn.GRU, 3), ("LSTM", nn.LSTM, 4)):
    size = sum(p.numel() for p in kind(2, 16).parameters())
    print(
        f"torch.nn.{name + '(2, 16)':11} {size:5,} numbers, n_params(2, 16, {gates}) = {n_params(2, 16, gates):,}"
    )

# %% [markdown]
# ## Play: what memory is
#
# Why does the adder by hand not lose its carry over 199 positions? Follow unit 2 through pairs that propagate. There
# $a + b = 1$, so
#
# $$ h_2 \leftarrow \tanh\!\Big( g \big( 1 + \tfrac{h_2 + 1}{2} - \tfrac32 \big) \Big) = \tanh\!\big( \tfrac g2\, h_2 \big) . $$
#
# This is the unit of exercise 2 with $u = g/2$. Its states at rest (fixed points) are the solutions of $h = \tanh(u h)$:
#
# - **$g < 2$.** Then $u < 1$. As $|\tanh z| \le |z|$, every step makes the state smaller by at least the factor $u$, so after
#   $j$ steps at most $(g/2)^j$ is left. The only state at rest is 0. The carry **fades**.
# - **$g = 2$.** The slope at zero is exactly 1, and $\tanh h \approx h - h^3/3$. The carry still fades, but slowly: after $j$
#   steps about $\sqrt{3/(2j)}$ is left. You saw it in the middle panel of exercise 2.
# - **$g > 2$.** At zero the curve $\tanh(u h)$ is steeper than the diagonal, and far away it is below it, so it crosses it twice
#   more, at $\pm h^*$. The derivative of $\tanh(u h)$ is $u\,(1 - \tanh^2(u h))$, and at $h^*$ the tanh equals $h^*$. For $h > 0$
#   the curve bends downwards and starts above the diagonal, so it crosses it with a smaller slope: $u\,(1 - h^{*2}) < 1$.
#   Whatever pushes the state away, rounding for example, is made smaller at the next step. The carry is not kept like a
#   number on paper. It is **renewed** at every step.
#
# So this unit stores a bit in the choice between two states at rest, and has them only if the way back to itself amplifies.
#
# Here your adder computes $(2^L - 1) + 1$: a carry is made at bit 0, travels through $L - 1$ pairs and comes out at bit $L$,
# where the pair is $(0, 0)$ and the answer is 1. **Question:** for $L = 5$, what is the smallest gain on the slider at which all
# bits are right? And for $L = 20$, for $L = 80$? Where does this gain go as $L$ grows?


# %%
def carry_chain(gain: float, length: int) -> tuple[Float[Tensor, "time hidden"], Int[Tensor, "time"]]:
    """States of the adder while it computes (2^length - 1) + 1, and 1 at each bit that it gets wrong."""
    x = data.pairs(2**length - 1, 1, length + 4)
    states, said = run_adder(x, adder_weights(gain))
    return states[0], (said[0] != data.add_bits(x.int())[0][0]).int()


def draw_memory(gain: float, length: int) -> Figure:
    """Left: the map of the carry unit, and the path that it takes. Right: all units over time."""
    states, wrong = carry_chain(gain, length)
    fig, (left, right) = plotting.figure(1, 2, width=10.5, height=4, width_ratios=[1, 1.5])
    h = torch.linspace(-1, 1, 201)
    plotting.step_map(left, h, torch.tanh(gain / 2 * h), path=states[:length, 1])
    left.set(
        xlabel="carry unit $h_2$ before the step", ylabel="and after it", title=f"tanh({gain / 2:.3g} h)"
    )
    plotting.unit_states(right, states, ["$h_1$", "$h_2$", "$h_3$"], bold=1, marks=wrong)
    right.set(title=f"$(2^{{{length}}} - 1) + 1$, wrong bits: {int(wrong.sum())}")
    plotting.caption(
        fig,
        "Left: blue is one step of the carry unit, grey the diagonal; they cross at the states at rest. Orange is the path "
        "that the carry takes, from the dot. Right: the orange line is the carry; see whether it lasts to bit L. A tick at the "
        "bottom marks a wrong bit.",
    )
    return fig


# %% tags=["demo"]
memory = widgets.explore(
    draw_memory,
    gain=widgets.slider("gain g", 1.7, 0.5, 8.0, 0.05),
    length=widgets.slider("chain L", 20, 2, 120, 1),
)
memory

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# On the slider: 1.50 for $L = 5$, 1.85 for $L = 20$, 2.00 for $L = 80$. Below 2 the carry fades, and a longer chain needs a gain
# closer to 2, so that enough is left at the end to be read. At 2.00 it fades so slowly that the slider shows no failure, and
# yet it fades: the next cell goes to longer chains, and $L = 1280$ needs 2.05. For longer chains the gain that you need
# stops just above 2: there a state at rest exists that is large enough to be read.
#
# </details>

# %% tags=["demo"]
ticks = 10  # of the slider, 0.05 each; a longer chain never needs a smaller gain
for length in (5, 20, 80, 320, 1280):
    while carry_chain(0.05 * ticks, length)[1].any():
        ticks += 1
    print(f"L = {length:4}: right from gain {0.05 * ticks:.2f} on")

# %% tags=["demo"]
x, s, c = test_sums()
run, longest = torch.zeros(5000), 0
for t in range(200):
    run = torch.where((x[:, t].sum(1) == 1) & (c[:, t] == 1), run + 1, 0)
    longest = max(longest, int(run.max()))
wrong = int((run_adder(x, adder_weights(1.9))[1] != s).sum())
first = next(length for length in range(2, 200) if carry_chain(1.9, length)[1].any())
print(f"gain 1.9: wrong bits in 5000 random sums of 200 bits: {wrong}")
print(f"propagating pairs in the longest chain of these sums: {longest}")
print(f"propagating pairs in the shortest chain (2^L - 1) + 1 that fails: {first - 1}")

# %% [markdown]
# The last three lines hold a warning. At gain 1.9 the carry fades: a chain of 39 propagating pairs is too long. And yet 5000
# random sums show no mistake, because the longest chain among them passes 18 such pairs. A random test does not test memory.
# From here on we measure long chains as well.
#
# ## Test the claim
#
# Now nothing is set by hand. A recurrent network with 16 units starts from random weights, as PyTorch would set them, and is
# trained through *your* `rnn_step` and `rnn_forward`, with the loop and the data that trained the window network: 400 steps,
# sums of 1 to 8 bits. Three seeds. The **negative control** is the window network with 2, 4 and 8 pairs: about as many numbers,
# the same loop, the same data, the same measurement, and no state.


# %%
def new_rnn(hidden: int, seed: int) -> dict[str, Tensor]:
    """Random weights of a recurrent network with a linear readout, uniform in +-1/sqrt(hidden) as in PyTorch."""
    gen = torch.Generator().manual_seed(seed)
    shapes = {
        "W_ih": (hidden, 2),
        "W_hh": (hidden, hidden),
        "b_ih": (hidden,),
        "b_hh": (hidden,),
        "w_out": (hidden,),
        "b_out": (),
    }
    bound = hidden**-0.5
    return {name: bound * (2 * torch.rand(shape, generator=gen) - 1) for name, shape in shapes.items()}


def rnn_logits(weights: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The network as a function of a padded batch: states by your rnn_forward, then the readout."""

    def logits(x: Tensor, lengths: Tensor) -> Tensor:
        h0 = torch.zeros(len(x), len(weights["w_out"]))
        out, _ = rnn_forward(bind(weights), x, h0, lengths)
        return out @ weights["w_out"] + weights["b_out"]

    return logits


# %% tags=["demo"]
trained = [new_rnn(16, seed) for seed in range(3)]
models = {
    f"RNN, seed {k}": (rnn_logits(weights), list(weights.values()), None) for k, weights in enumerate(trained)
}
for w in (2, 4, 8):
    network = network_4 if w == 4 else window_network(w)  # that one is trained already
    models[f"window of {w}"] = (window_logits(network, w), list(network.parameters()), w)
for k, (name, (logits, parameters, w)) in enumerate(models.items()):
    if w != 4:
        train(logits, parameters, seed=k, label=name)

# %% tags=["demo"]
chains = torch.cat([data.pairs(2**199 - 1, 1, 200), data.pairs(2**199 - 1, 0, 200)])
chain_sums, _ = data.add_bits(chains.int())
wrong = {name: wrong_4 if w == 4 else wrong_bits(logits) for name, (logits, _, w) in models.items()}
print("               numbers    wrong bits    window_error    wrong sums    wrong bits in the two chains")
for name, (logits, parameters, w) in models.items():
    size = sum(p.numel() for p in parameters)
    floor = f"{sum(window_error(w, t) for t in range(200)) / 200:.4%}" if w else "-"
    in_chains = int(((logits(chains, torch.tensor([200, 200])) > 0) != chain_sums).sum())
    bits, sums = wrong[name].mean(), wrong[name].amax(1).mean()
    print(f"{name:15}{size:7}    {bits:10.4%}    {floor:>12}    {sums:10.2%}    {in_chains:4} of 400")

# %% tags=["demo"]
lines = {w: [window_error(w, t) for t in range(200)] for w in (2, 4, 8)}
fig, (near, far) = plotting.figure(1, 2, width=10.5, height=4.2, width_ratios=[1, 1.6], sharey=True)
near.axvspan(-0.7, 7.5, color=plotting.PALE, zorder=0)
plotting.label(near, -0.3, 0.7, "trained on these bits", plotting.BLACK)
colors = [plotting.BLUE] * 3 + list(plotting.PALETTE[1:4])
for (name, (_, _, w)), color in zip(models.items(), colors, strict=True):
    per_bit = wrong[name].mean(0)
    averages = per_bit[16:].reshape(-1, 8).mean(1)
    if w:
        near.plot(range(17), lines[w][:17], color=plotting.BLACK, linewidth=1, zorder=1)
        far.plot(range(17, 200), lines[w][17:], color=plotting.BLACK, linewidth=1, zorder=1)
        plotting.label(far, 203, float(averages[-1]), name, color)
    near.plot(range(17), per_bit[:17], "o", color=color)
    far.plot(torch.arange(19.5, 200, 8), averages, "o", color=color)
plotting.label(far, 203, 0, "RNN, three seeds", plotting.BLUE)
plotting.fractions(near)
near.set(
    xlabel="bit position t", ylabel="wrong answers (fraction)", xlim=(-0.7, 16.5), xticks=range(0, 17, 4)
)
far.set(xlabel="bit position t", xlim=(12, 203), xticks=[50, 100, 150, 200])
plotting.caption(
    fig,
    "Black lines: your window_error. Dots: measured, on the right averages over 8 bits. Windows lie on or above their lines, up to noise. The "
    "recurrent networks lie at zero, up to 25 times further out than they were trained. Below 0.001 the axis is linear.",
)

# %% [markdown]
# The three recurrent networks make no mistake in a million bits each. Every window stays on or above your line, up to the
# noise of the measurement. The window of 8 is above its line, even at bits 4 to 7, where its line is zero. There are $2^{16}$
# different windows, and this small network has not learned them all in 400 steps. More training could bring it down to its
# line, not below it. It makes the fewest mistakes of the three windows, and still most of its long sums contain one.
#
# The last column holds the long chains: $(2^{199} - 1) + 1$ and $(2^{199} - 1) + 0$. From position $w$ on, both look the same
# to a window, and the right bits differ. Whatever it says, it is wrong in one of the two at each of these
# positions: at least 198, 196 and 192 times.
# <!-- not printed: 192 (the chains have 200 positions, from position 8 on there are 192) -->
#
# Try two numbers of your own. The network has been trained on no number of more than 8 bits.

# %% tags=["demo"]
a = 271828182845904523536028747135266249775724709369995957496696
b = 314159265358979323846264338327950288419716939937510582097494
bits = rnn_logits(trained[0])(data.pairs(a, b, 200), torch.tensor([200]))[0] > 0
print(f"  {a}\n+ {b}\n= {data.from_bits(bits)}   according to the network\n  {a + b}   according to Python")

# %% [markdown]
# ### The same layer as PyTorch's
#
# `torch.nn.RNN` handles ragged batches with `pack_padded_sequence`, which lays the sequences out without padding. Give it
# your trained weights and a ragged batch, and compare. If the two differ only by the order in which sums are rounded, the
# difference is a few times $2^{-24}$ in float32, the largest relative error of one rounding, and shrinks by $2^{29}$ in
# float64.


# %%
def torch_outputs(
    weights: dict[str, Tensor], x: Float[Tensor, "batch time 2"], lengths: Int[Tensor, "batch"]
) -> tuple[Tensor, Tensor]:
    """Outputs and final states of torch.nn.RNN with these weights, on a padded batch."""
    layer = nn.RNN(2, len(weights["w_out"]), batch_first=True, dtype=x.dtype)
    layer.load_state_dict(
        {
            "weight_ih_l0": weights["W_ih"],
            "weight_hh_l0": weights["W_hh"],
            "bias_ih_l0": weights["b_ih"],
            "bias_hh_l0": weights["b_hh"],
        }
    )
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    out, h_last = layer(packed)
    out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
    return out, h_last[0]


# %% tags=["demo"]
gen = torch.Generator().manual_seed(5)
x, _, _ = data.additions(32, 60, gen)
lengths = torch.randint(1, 61, (32,), generator=gen)
for dtype, rounding in ((torch.float32, 2.0**-24), (torch.float64, 2.0**-53)):
    weights = {name: value.to(dtype) for name, value in trained[0].items()}
    with torch.no_grad():
        ours = rnn_forward(bind(weights), x.to(dtype), torch.zeros(32, 16, dtype=dtype), lengths)
        theirs = torch_outputs(weights, x.to(dtype), lengths)
    largest = max((mine - other).abs().max().item() for mine, other in zip(ours, theirs, strict=True))
    print(
        f"{dtype}: largest difference {largest:.1e}; one rounding {rounding:.1e}; ratio {largest / rounding:.0f}"
    )

# %% [markdown]
# ### What did it learn to keep?
#
# Nobody told the network about carries. Look for the carry in its 16-dimensional state: fit one direction to it, on sums of
# 8 bits, and project the states of 200-bit sums on that direction. Then run two copies of each network. One has just made a
# carry, the other has not, and both read the same propagating pairs. How far apart do their states stay? The networks before
# training are the control.


# %%
@torch.no_grad()
def all_states(
    weights: dict[str, Tensor], x: Float[Tensor, "batch time 2"]
) -> Float[Tensor, "batch time hidden"]:
    """States on a batch without padding, from h0 where the weights have one, otherwise from zero."""
    h0 = weights.get("h0", torch.zeros(len(weights["w_out"]))).expand(len(x), -1)
    return rnn_forward(bind(weights), x, h0, torch.full((len(x),), x.shape[1]))[0]


def fit_carry(weights: dict[str, Tensor]) -> Float[Tensor, "hidden+1"]:
    """Least squares: the linear function of the state that comes nearest to the carry (-1 or +1) into the next bit."""
    x, _, c = data.additions(500, 9, torch.Generator().manual_seed(1))
    h = all_states(weights, x[:, :8]).reshape(-1, 16)
    return torch.linalg.lstsq(F.pad(h, (0, 1), value=1.0), 2 * c[:, 1:].reshape(-1, 1) - 1).solution[:, 0]


def carry_in_state(weights: dict[str, Tensor]) -> tuple[Float[Tensor, "states"], Tensor]:
    """States of 500 sums of 200 bits, projected on that direction, and whether there is a carry."""
    x, _, c = data.additions(500, 201, torch.Generator().manual_seed(2))
    h = all_states(weights, x[:, :200]).reshape(-1, 16)
    return F.pad(h, (0, 1), value=1.0) @ fit_carry(weights), c[:, 1:].reshape(-1) > 0.5


split = torch.zeros(2, 200, 2)
split[:, 1:, 0] = 1  # propagate from bit 1 on
split[0, 0] = 1  # bit 0: one copy makes a carry, the other does not

# %% tags=["demo"]
projected, carry = carry_in_state(trained[0])
found = ((projected > 0) == carry).float().mean()
print(f"carry read off that direction: right for {found:.2%} of {len(carry):,} states")

fig, (left, right) = plotting.figure(1, 2, width=10, height=3.5)
groups = {"no carry": projected[~carry], "carry": projected[carry]}
plotting.two_histograms(
    left,
    groups,
    torch.linspace(-1.5, 1.5, 41),
    xlabel="state, projected on the direction",
    ylabel="states (count)",
)
untrained = [new_rnn(16, seed) for seed in range(3)]
for when, networks, color, height in (
    ("before training", untrained, plotting.GREY, 1e-6),
    ("trained", trained, plotting.BLUE, 30),
):
    for weights in networks:
        with_carry, without = all_states(weights, split)
        right.semilogy((with_carry - without).norm(dim=1).clamp(min=1e-8), color=color, linewidth=1.2)
    plotting.label(right, 90, height, when, color)
right.set(xlabel="step", ylabel="distance of the two states", ylim=(1e-8, 100))
plotting.caption(
    fig,
    "Left: the carry splits the states of 200-bit sums into two groups that do not overlap. Right, three seeds: two states "
    "that differ in the carry stay apart for all 200 steps when trained. Before training they merge; about 1e-7 is rounding.",
)

# %% [markdown]
# Two groups of states, one for each value of the carry, that do not mix. What keeps them apart? For your adder you saw it in
# one curve. Draw the same curve for the trained networks: take the two states after step 100, $h_+$ with the carry and $h_-$
# without, and the line through them,
#
# $$ h(\alpha) = m + \alpha\, d , \qquad m = \tfrac12 (h_+ + h_-) , \quad d = \tfrac12 (h_+ - h_-) . $$
#
# At $\alpha = 1$ there is a carry, at $\alpha = -1$ there is none. Let every state on the line read one propagating pair, project
# the result back on the line, and draw the new $\alpha$ against the old one. The first panel does the same with your adder.


# %%
@torch.no_grad()
def step_along_line(weights: dict[str, Tensor], alpha: Float[Tensor, "points"]) -> Float[Tensor, "points"]:
    """The new alpha after one propagating pair, for states on the line through the two states after step 100."""
    with_carry, without = all_states(weights, split)[:, 100]
    m, d = (with_carry + without) / 2, (with_carry - without) / 2
    propagate = torch.tensor([1.0, 0.0]).expand(len(alpha), 2)
    return (bind(weights)(propagate, m + alpha[:, None] * d) - m) @ d / (d @ d)


# %% tags=["demo"]
alpha = torch.linspace(-1.3, 1.3, 2601)
networks = {"your adder, g = 3": adder_weights(3.0)} | {f"RNN, seed {k}": trained[k] for k in range(3)}
fig, axes = plotting.figure(1, 4, width=11, height=3.4, sharey=True)
print("                      middle crossing    slope there    slopes at -1 and +1")
for ax, (name, weights) in zip(axes, networks.items(), strict=True):
    new = step_along_line(weights, alpha)
    slope = torch.gradient(new, spacing=0.001)[0]
    middle = 400 + int((new - alpha)[400:2200].abs().argmin())  # alpha[300] is -1, alpha[2300] is +1
    print(f"{name:17}{alpha[middle]:20.2f}{slope[middle]:15.2f}{slope[300]:15.2f}{slope[2300]:8.2f}")
    plotting.step_map(ax, alpha, new)
    ax.plot(alpha[[300, middle, 2300]], new[[300, middle, 2300]], "o", color=plotting.BLACK)
    ax.set(title=name, xlabel="$\\alpha$ before the step")
axes[0].set(ylabel="and after it")
plotting.caption(
    fig,
    "One step (blue) along the line through the two carry states. The trained networks do what your adder does: three crossings "
    "with the diagonal (dots), less steep than it at the outer ones, steeper at the middle one. Nobody put this curve there.",
)

# %% [markdown]
# Training found what you built by hand. At both ends the slope is below 1, so a disturbance along the line shrinks; at the
# crossing between, it is above 1, so the state is pushed to one of the two ends. This is why 8 bits were enough: a state that
# is renewed at every step is renewed at step 7 and at step 200. (It is a cut through 16 dimensions: between the ends a step
# also leads off the line, which the picture does not show.) Before training there is no such line: the two states have
# merged.
#
# Can you tell from $W_{hh}$ alone whether a network forgets? In one direction. The slope of tanh is never more than 1, so for
# equal inputs
#
# $$ \lVert h_t - h'_t \rVert \le \sigma \, \lVert h_{t-1} - h'_{t-1} \rVert , $$
#
# with $\sigma$ the largest singular value of $W_{hh}$. If $\sigma < 1$, two states that read the same inputs come together: the
# network forgets for certain.

# %% tags=["demo"]
for when, networks in (("before training", [new_rnn(16, seed) for seed in range(3)]), ("trained", trained)):
    sigma = [torch.linalg.matrix_norm(weights["W_hh"], 2).item() for weights in networks]
    print(f"largest singular value of W_hh, {when}: " + ", ".join(f"{value:.2f}" for value in sigma))

# %% [markdown]
# The converse is false. Our three networks start at 0.98, 1.07 and 1.00, and all three forget before training, because they
# shrink more than this bound says: tanh is mostly flatter than 1, and $\sigma$ belongs to one direction only. After training
# $\sigma$ is between 4 and 6. This permits memory, but does not prove it.
#
# ## What you built
#
# 1. A recurrent layer that equals `torch.nn.RNN` on ragged batches, and an adder of 25 numbers that needs no training.
# 2. A proof that every model that sees only $w$ pairs is wrong with probability at least
#    $2^{-w} \left( 1 - 2^{-(t-w+1)} \right)$ at position $t \ge w$, which tends to $2^{-w}$; and a network that is not bound by
#    it, because it has a state.
# 3. A condition for memory: a tanh unit has two states at rest beside zero only if its weight to itself is larger than 1; a
#    whole layer forgets for certain if the largest singular value of $W_{hh}$ is below 1.
#
# **Limits.** The state has a fixed size, so what it can keep is limited: with finite precision an RNN is a machine with finitely
# many states. Addition needs two. Multiplication does not fit: in $2^j \cdot 2^j$ both ones come at bit $j$, and the machine must
# wait exactly $j$ more steps before it says 1. It would have to be in a different state for each $j$. And our memory lasted
# because training was kind: chains of 8 were enough to find it. When a signal must travel over 100 steps before it matters
# for the *first* time, the gradient has to travel as far, and it fades by the same rule $(g/2)^j$ as the carry. That is
# notebook 02.
#
# **Cost.** $H I + H^2 + 2H$ numbers at any length. About $T\,(H I + H^2)$ multiplications per sequence, and $T$ steps that must
# wait for each other: a GPU can work on many sequences at once, not on many time steps of one. Memory for training grows with
# $T$, because backpropagation needs every state.
#
# ## Sources
#
# - J. L. Elman, *Finding Structure in Time*, Cognitive Science 14 (1990), pages 179–211: the network, and what its state learns to
#   represent.
# - D. E. Rumelhart, G. E. Hinton, R. J. Williams, *Learning internal representations by error propagation*, in Parallel
#   Distributed Processing, volume 1, chapter 8 (1986): among its examples, a network without a state that learns to add two
#   numbers of two bits. In short: *Learning representations by back-propagating errors*, Nature 323 (1986), pages 533–536.
# - G. W. Cottrell, F.-S. Tsung, *Learning Simple Arithmetic Procedures*, doi 10.4324/9781315799650-8: two kinds of simple
#   recurrent networks, Elman's among them, learn to add two numbers of several digits.
# - H. T. Siegelmann, E. D. Sontag, *On the Computational Power of Neural Nets*, Journal of Computer and System Sciences 50 (1995),
#   pages 132–150: with rational weights and exact arithmetic, recurrent networks simulate every Turing machine. The limit named above is
#   one of precision.
# - PyTorch, [`torch.nn.RNN`](https://pytorch.org/docs/stable/generated/torch.nn.RNN.html): the formula and the layout of the weights.
