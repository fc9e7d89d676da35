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
# **Claim.** A network of 337 numbers, trained only on numbers of at most 8 bits, adds numbers of 200 bits without a
# single wrong bit. No network that looks at a window of $w$ bits can do that, however large it is and however long it
# is trained, and you will compute how often it must be wrong. The forward pass that you write is the one of
# `torch.nn.RNN`, equal up to rounding.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes |
# | **You need** | matrix products, tanh, the idea of a training loop in PyTorch. Nothing about recurrent networks. |
# | **Graded** | six exercises; each has its own check cell, which tells you what is wrong |
# | **You leave with** | a recurrent layer that you wrote, one that you built without any training, and the reason why they remember |

# %% setup
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import trange

import utils
from autograde import open_lesson
from utils import data, plotting, widgets

utils.setup()
check = open_lesson("rnn/01_vanilla_rnn")

# %% [markdown]
# ## The problem: a network that cannot carry
#
# Two binary numbers are to be added. We read them in the order in which we add at school: the least significant bit
# first. At time $t$ the network sees bit $t$ of both numbers, and has to say bit $t$ of their sum.
#
# The usual way to feed a sequence to a network that has a fixed number of inputs is a **window**: at each position,
# show it the last $w$ pairs of bits. A convolution along time, with a kernel of width $w$, is exactly this. Here is
# such a network with $w = 4$, and a training loop that shows it random sums of 1 to 8 bits.


# %%
def windows(x: Float[Tensor, "batch time 2"], w: int) -> Float[Tensor, "batch time 2*w"]:
    """At every position the last w pairs of bits, with zeros in front of the first."""
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
    """1000 steps of Adam on sums of 1 to 8 bits. `logits(x, lengths)` returns one number per position."""
    gen = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam([p.requires_grad_() for p in parameters], lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=1000)
    for _ in trange(1000, desc=label):
        x, s, _ = data.additions(128, 8, gen)
        lengths = torch.randint(1, 9, (128,), generator=gen)
        inside = data.length_mask(lengths, 8)
        loss = F.binary_cross_entropy_with_logits(logits(x, lengths)[inside], s[inside])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def wrong_bits(logits: Callable, n: int = 5000, bits: int = 200) -> Float[Tensor, "n bits"]:
    """1 where a model says the wrong bit, on n random sums of two numbers of `bits` bits."""
    x, s, _ = data.additions(n, bits, torch.Generator().manual_seed(99))
    return ((logits(x, torch.full((n,), bits)) > 0) != (s > 0.5)).float()


# %% tags=["demo"]
network_4 = window_network(4)
train(window_logits(network_4, 4), list(network_4.parameters()), seed=0, label="window of 4")
wrong_4 = wrong_bits(window_logits(network_4, 4))

ones_plus_1 = data.pairs(2**11 - 1, 1, 13)
right, _ = data.add_bits(ones_plus_1.int())
said = (network_4(windows(ones_plus_1, 4)) > 0).int()

fig, (left, bottom) = plotting.figure(1, 2, width=11, height=3.3, width_ratios=[1, 1.35])
left.plot(range(40), wrong_4.mean(0)[:40], "o", color=plotting.VERMILLION)
left.axhline(1 / 16, color=plotting.GREY, linewidth=1, linestyle="--")
left.annotate("one in sixteen", (39, 1 / 16), (39, 0.071), ha="right", color=plotting.GREY)
left.set(xlabel="bit position t", ylabel="wrong answers (fraction)", ylim=(-0.003, 0.085))
rows = {"a": ones_plus_1[0, :, 0], "b": ones_plus_1[0, :, 1], "a + b": right[0], "network": said[0]}
plotting.bit_rows(bottom, rows, truth={"network": right[0]})
plotting.caption(
    fig,
    "Left: 5000 random sums; the first four bits are right, then about one bit in sixteen is wrong. "
    "Right: the sum 2047 + 1; wrong bits are orange-red.",
)
print(
    f"wrong bits at positions 0 to 3: {wrong_4[:, :4].mean():.4f}, from position 8 on: {wrong_4[:, 8:].mean():.4f}"
)

# %% [markdown]
# The first four bits are right. After them about one bit in sixteen is wrong, at every position, although the network
# was trained on bits 4 to 7 too. The sum on the right shows how it goes wrong: when 1 is added to 11111111111, a carry
# is made at bit 0 and travels through all ones. Four positions later the network no longer sees where it was made.
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
# | $h_t$ | state after time $t$ | `[batch, hidden]` |
# | $W_{ih},\ W_{hh}$ | weights from the input and from the previous state | `[hidden, input]`, `[hidden, hidden]` |
# | $b_{ih},\ b_{hh}$ | two bias vectors | `[hidden]` |
# | $T,\ I,\ H$ | time steps, inputs, hidden units | |
# | $g$ | gain of the adder that we build by hand | positive |

# %% [markdown]
# ## How often must a window be wrong?
#
# We look for the smallest error that *any* function of the window can have, when all bits of both numbers are random.
#
# **Only the carry is hidden.** The rule taught at school is
#
# $$ s_t = a_t \oplus b_t \oplus c_t , \qquad c_{t+1} = 1 \ \text{ if at least two of } a_t, b_t, c_t \text{ are } 1 . $$
#
# The window contains $a_t$ and $b_t$. If $c_t$ flips, $s_t$ flips. So to guess $s_t$ is to guess $c_t$, no more and
# no less.
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
# ### Exercise 1 · window_error  ●●○  8 minutes
#
# Now put the pieces together. How large is the smallest possible probability of a wrong bit at position $t$, for a
# model that sees the last $w$ pairs? You need three things: the probability that the window does not know the carry,
# what the model should then say, and how often this is wrong. Write $p_n$ as a closed form, or run its recursion.
# Take care of the first positions, where a window reaches below bit 0 and nothing is hidden.


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
# **See it.** The lines are your formula. The dots are measured: 200,000 sums, each bit guessed by the best possible model,
# which adds inside its window and assumes that no carry comes in from below. The crosses are the network from above.


# %%
def guess_from_window(x: Int[Tensor, "n bits 2"], w: int) -> Int[Tensor, "n bits"]:
    """The best guess of every sum bit from the last w pairs: add them, with no carry coming in."""
    guesses = [data.add_bits(x[:, max(0, t - w + 1) : t + 1])[0][:, -1] for t in range(x.shape[1])]
    return torch.stack(guesses, dim=1)


# %% tags=["demo"]
x, s, _ = data.additions(200_000, 24, torch.Generator().manual_seed(0))
positions = range(24)
fig, ax = plotting.figure(width=8.5, height=3.9)
for w, color in zip((1, 2, 4, 8), plotting.PALETTE, strict=False):
    measured = (guess_from_window(x.int(), w) != s).float().mean(0)
    floor = [window_error(w, t) or float("nan") for t in positions]
    ax.semilogy(positions, floor, color=color)
    ax.semilogy(positions[w:], measured[w:], "o", color=color)
    ax.annotate(f"w = {w}", (23.4, floor[-1]), color=color, va="center")
ax.semilogy(
    positions[4:], wrong_4.mean(0)[4:24], "x", color=plotting.BLACK, markersize=7, label="trained, w = 4"
)
ax.legend(loc="center right", bbox_to_anchor=(0.99, 0.71))
ax.set(xlabel="bit position t", ylabel="wrong answers (fraction)", xlim=(0, 26), ylim=(1e-3, 1))
plotting.caption(
    fig,
    "Dots (best possible guess, measured) lie on the lines (window_error). Crosses: the network that "
    "you saw above lies on the line for w = 4. Each line is zero for t < w, and tends to $2^{-w}$.",
)
print(f"window_error(4, 100) = {window_error(4, 100):.6f} = 1/{1 / window_error(4, 100):.0f}")

# %% [markdown]
# That answers two of the three questions. One in sixteen is $2^{-4}$, what your formula tends to for $w = 4$. The
# network already makes the best guess that its window allows, so neither size nor training can help. Each further pair
# in the window halves the error, and no window makes it zero:
#
# $$ \lim_{t \to \infty} \text{error}(w, t) = 2^{-w} . $$
#
# ## A state
#
# What would help? The derivation says it: of everything below position $t$, only *one bit* matters for the rest
# of the sum, the carry. A model that hands this one bit from each position to the next needs no window at all.
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
# Two things come with it. The number of weights does not depend on the length of the sequence, because every position
# uses the same $f$. And $f$ meets every position under the same conditions, so what it learns at position 3 is
# valid at position 150. We do not tell the network to store the carry. It has to find out what is worth keeping.
#
# The simplest choice of $f$ is a linear map of both arguments and a tanh. It is the network of Elman (1990), and
# `torch.nn.RNN` computes
#
# $$ h_t = \tanh\!\left( W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh} \right) . $$
#
# Two biases are one too many: only their sum matters. PyTorch has two to be compatible with cuDNN, the
# library of NVIDIA that runs this layer on a GPU. We keep them as well, so that weights can be copied between your code and PyTorch's.
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
        The new state.

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
# panel starts your `rnn_step` from seven states. In which panel can you tell after 30 steps where a line started?

# %% tags=["demo"]
fig, axes = plotting.figure(1, 3, width=9.5, height=3.1, sharey=True)
for ax, u in zip(axes, (0.5, 1.0, 1.5), strict=True):
    h = torch.tensor([[-1.0], [-0.6], [-0.2], [0.0], [0.2], [0.6], [1.0]])
    path = [h]
    for _ in range(30):
        path.append(
            rnn_step(torch.zeros(7, 1), path[-1], torch.zeros(1, 1), u * torch.ones(1, 1), *torch.zeros(2, 1))
        )
    for line, start in zip(torch.cat(path, dim=1), h[:, 0], strict=True):
        color = plotting.GREY if start == 0 else plotting.BLUE if start > 0 else plotting.VERMILLION
        ax.plot(line, color=color)
    ax.set(title=f"u = {u}", xlabel="step")
axes[0].set(ylabel="state h", ylim=(-1.05, 1.05))
plotting.caption(
    fig,
    "Blue lines start above zero, orange-red ones below. With u = 0.5 all lines meet within a few steps, "
    "with u = 1 slowly, with u = 1.5 never: the last unit keeps one bit, the sign of its start.",
)

# %% [markdown]
# A unit whose weight to itself is larger than 1 keeps one bit for as long as you like. One bit is what addition needs.
# The next exercise builds the whole adder from such units, without any training.
#
# ## An adder, by hand
#
# Let $n_t = a_t + b_t + c_t$ be the number of ones that meet at position $t$. It is 0, 1, 2 or 3, and it decides
# everything. Take three units that count: unit $k$ is **on** ($h_k \approx +1$) when $n_t \ge k$ and **off**
# ($h_k \approx -1$) otherwise.
#
# | $n_t$ | $h_1$ | $h_2$ | $h_3$ | sum bit $s_t$ | carry $c_{t+1}$ |
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
# must switch between $n = k - 1$ and $n = k$, so put the threshold halfway:
#
# $$ h_k \leftarrow \tanh\!\big( g\,( a + b + c - (k - \tfrac12) ) \big) , \qquad c = \frac{h_2 + 1}{2} . $$
#
# ### Exercise 3 · adder_weights  ●●●  8 minutes
#
# Turn this into the weights of an Elman network with 2 inputs and 3 units. Take paper: insert $c$, sort the terms, and
# read off what multiplies $a$ and $b$ (that is `W_ih`), what multiplies each state (`W_hh`), and what is left
# (the biases). Two more decisions: the state before the first bit, and the readout, which says 1 when
# `h @ w_out + b_out > 0.5`.


# %% adder_weights tags=["exercise"]
def adder_weights(gain: float) -> dict[str, Tensor]:
    """Weights of a recurrent network with three units that adds binary numbers, least significant bit first.

    Arguments:
        gain: how steep the switches are; it multiplies W_ih, W_hh and the biases. From 8 on, all sums must be right.

    Returns:
        float32 tensors: "W_ih" [3, 2], "W_hh" [3, 3], "b_ih" [3], "b_hh" [3] for the step, "h0" [3] for the state before
        the first bit, "w_out" [3] and "b_out" (no dimensions) for the readout. The sum bit is 1 where
        h @ w_out + b_out > 0.5. Other weights than the ones derived above pass the check too, if they add correctly.

    Example:
        With gain 8, the pair a = b = 1 takes h0 to about (1, 1, -1): two ones have met. The readout is then
        about 0.0007, so the sum bit is 0, and the carry is in unit 2.
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
    fig, "Blue: unit on. Follow the row of $h_2$: it is the carry that the next position receives."
)

x, s, _ = data.additions(5000, 200, torch.Generator().manual_seed(99))
chain = data.pairs(2**199 - 1, 1, 200)
wrong = int((run_adder(x, adder_weights(8.0))[1] != s).sum())
wrong_chain = int((run_adder(chain, adder_weights(8.0))[1] != data.add_bits(chain.int())[0]).sum())
print(f"27 + 14 = {data.from_bits(said[0])}")
print(f"wrong bits in 5000 random sums of 200 bits: {wrong} of {s.numel():,}")
print(f"wrong bits in (2^199 - 1) + 1, whose carry travels through 199 positions: {wrong_chain}")

# %% [markdown]
# Twenty-five numbers and a starting state add numbers of any length. So the network *can* represent the solution. Whether
# training finds one is another question, which we answer below.
#
# ## A batch of sequences of different lengths
#
# To train, we need many sequences at once, and sequences have different lengths. A tensor has not: shorter sequences are
# filled up with **padding**. The padding is not data, and must change nothing:
#
# - after its last element a sequence's state is **frozen**, so that the final state is the state at its own end;
# - its outputs past the end are **zero**, so that nobody takes them for results.
#
# ### Exercise 4 · rnn_forward  ●●○  7 minutes
#
# Unroll a cell over time. The cell comes in as a function `step(x_t, h) -> h` with its weights filled in, so the same code
# will run the gated cells of notebook 03. Time steps cannot be computed at once, because each one needs the state before
# it; sequences can. So call `step` exactly once per time step, with the whole batch, never once per sequence: one matrix
# product with many rows is far cheaper than many products with one row.


# %% rnn_forward tags=["exercise"]
def rnn_forward(
    step: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "batch time input"],
    h0: Float[Tensor, "batch hidden"],
    lengths: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "batch hidden"]]:
    """Run a recurrent cell over a padded batch.

    Arguments:
        step: step(x_t, h) -> h, for x_t [batch, input] and h [batch, hidden]. Called once per time step.
        x: inputs; x[b, lengths[b]:] is padding and may hold anything.
        h0: the states before the first step.
        lengths: how long each sequence is, from 1 to time. The longest may be shorter than time.

    Returns:
        out: the state after every step, zero past the end of each sequence.
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
# Often only the outputs are at hand (`torch.nn.RNN` stacked in layers, a library that returns nothing else), and a
# classifier needs the state at the end of each sequence. `out[:, -1]` is the last *column* of the batch, which for
# most sequences is padding. Write the selection that takes each sequence's own last output.


# %% last_valid tags=["exercise"]
def last_valid(
    out: Float[Tensor, "batch time hidden"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch hidden"]:
    """The output at the last position of each sequence.

    Arguments:
        out: outputs of a padded batch. lengths: how long each sequence is, at least 1.

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

fig = plotting.text_rows(lines[::5], xlabel="time step t (one character each)", ylabel="every fifth line")
plotting.caption(fig, "Part of the batch. Grey is padding: time steps that are computed and thrown away.")
print(f"padding: {1 - inside.float().mean():.0%} of the batch")
print(f"lines for which out[:, -1] is all zeros: {int((out[:, -1] == 0).all(1).sum())} of 64")
print(
    f"lines for which last_valid is h_last:    {int((last_valid(out, lengths) == h_last).all(1).sum())} of 64"
)

# %% [markdown]
# A classifier that reads `out[:, -1]` sees a vector of zeros for nearly every line, and no error is raised: it trains, badly.
# This is the most common mistake with padded sequences.
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
# This is the unit of exercise 2 with $u = g/2$. Its states at rest are the solutions of $h = \tanh(u h)$:
#
# - **$g < 2$.** Then $u < 1$. As $|\tanh z| \le |z|$, every step makes the state smaller by at least the factor $u$, so after
#   $n$ steps at most $(g/2)^n$ is left. The only state at rest is 0. The carry **fades**.
# - **$g > 2$.** At zero the curve $\tanh(u h)$ is steeper than the diagonal, and far away it is below it, so it crosses it twice
#   more, at $\pm h^*$. There its slope $u\,(1 - h^{*2})$ is smaller than 1, so whatever pushes the state away, rounding
#   for example, is made smaller at the next step. The carry is not kept like a number on paper. It is **renewed** at every step.
#
# So a vanilla RNN stores a bit in the choice between two states at rest. It has them only if the way from a unit back to
# itself amplifies.
#
# Here your adder computes $(2^n - 1) + 1$: a carry is made at bit 0, travels through $n - 1$ pairs and comes out at bit $n$, where
# the pair is $(0, 0)$ and the answer is 1. **Question:** for $n = 5$, what is the smallest gain on the slider at which all bits
# are right? And for $n = 20$, for $n = 80$? Where does this gain go as $n$ grows?


# %%
def carry_chain(gain: float, n: int) -> tuple[Float[Tensor, "time hidden"], Int[Tensor, "time"]]:
    """States of the adder while it computes (2^n - 1) + 1, and 1 at each bit that it gets wrong."""
    x = data.pairs(2**n - 1, 1, n + 4)
    states, said = run_adder(x, adder_weights(gain))
    return states[0], (said[0] != data.add_bits(x.int())[0][0]).int()


def draw_memory(gain: float, n: int) -> Figure:
    """Left: the map of the carry unit, and the path that it takes. Right: all units over time."""
    states, wrong = carry_chain(gain, n)
    fig, (left, right) = plotting.figure(1, 2, width=10.5, height=4, width_ratios=[1, 1.5])
    h = torch.linspace(-1, 1, 201)
    left.plot(h, h, color=plotting.GREY, linewidth=1)
    left.plot(h, torch.tanh(gain / 2 * h), color=plotting.BLUE)
    carry = states[:n, 1]
    left.plot(
        carry.repeat_interleave(2)[:-1], carry.repeat_interleave(2)[1:], color=plotting.ORANGE, linewidth=1.2
    )
    left.plot(carry[:1], carry[:1], "o", color=plotting.ORANGE)
    left.set(
        xlabel="carry unit $h_2$ before the step", ylabel="and after it", title=f"tanh({gain / 2:.3g} h)"
    )
    left.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    for k, color in enumerate((plotting.SKY, plotting.ORANGE, plotting.GREEN)):
        right.plot(states[:, k], color=color, label=f"$h_{k + 1}$", linewidth=2.5 if k == 1 else 1.3)
    where = wrong.nonzero()[:, 0]
    right.plot(where, torch.full(where.shape, -1.2), "|", color=plotting.VERMILLION, markersize=9)
    verdict = f"wrong bits: {len(where)}, marked below" if len(where) else "all bits right"
    right.set(
        xlabel="bit position t", ylabel="state", ylim=(-1.3, 1.1), title=f"$(2^{{{n}}} - 1) + 1$: {verdict}"
    )
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    plotting.caption(
        fig,
        "Left: blue is one step of the carry unit, grey the diagonal; they cross at the states at rest. Orange is the path "
        "that the carry takes, from the dot. Right: the orange line is the carry; see whether it lasts to bit n.",
    )
    return fig


# %% tags=["demo"]
memory = widgets.explore(
    draw_memory,
    gain=widgets.slider("gain g", 1.7, 0.5, 8.0, 0.05),
    n=widgets.slider("chain n", 20, 2, 120, 1),
)
memory

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# On the slider: 1.50 for $n = 5$, 1.85 for $n = 20$, 2.00 for $n = 80$. Below 2 the carry fades, and a longer chain needs a gain
# closer to 2, so that enough is left at the end to be read. From 2.05 on no chain is too long: the gain that you need
# rises to the threshold $g = 2$ of the derivation, and stops there, because beyond it nothing fades any more. The next cell
# measures it.
#
# </details>

# %% tags=["demo"]
for n in (5, 20, 80, 320):
    gains = [0.5 + 0.05 * k for k in range(60)]
    smallest = next(g for g in gains if not carry_chain(g, n)[1].any())
    print(f"chain of {n:3} bits: right from gain {smallest:.2f} on")

x, s, _ = data.additions(5000, 200, torch.Generator().manual_seed(99))
for gain in (1.8, 8.0):
    wrong = int((run_adder(x, adder_weights(gain))[1] != s).sum())
    long_chain = int(carry_chain(gain, 200)[1].sum())
    print(
        f"gain {gain}: wrong bits in 5000 random sums of 200 bits: {wrong}; in (2^200 - 1) + 1: {long_chain}"
    )

# %% [markdown]
# The last two lines hold a warning. At gain 1.8 the carry fades, and yet 5000 random sums show nothing: their chains
# of propagating pairs are short. A random test does not test memory. From here on we measure long chains as well.
#
# ## Prove the claim
#
# Now nothing is set by hand. A recurrent network with 16 units starts from random weights, as PyTorch would set them, and is
# trained through *your* `rnn_step` and `rnn_forward`, with the loop and the data that trained the window network: 1000 steps, sums
# of 1 to 8 bits. Three seeds. Beside it stand windows of 2, 4 and 8 pairs, with about as many numbers.


# %%
def new_rnn(hidden: int, seed: int) -> dict[str, Tensor]:
    """Random weights of a recurrent network with a linear readout, uniform in +-1/sqrt(hidden) as in PyTorch."""
    gen = torch.Generator().manual_seed(seed)
    square, vector = (hidden, hidden), (hidden,)
    shapes = {
        "W_ih": (hidden, 2),
        "W_hh": square,
        "b_ih": vector,
        "b_hh": vector,
        "w_out": vector,
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
    network = window_network(w)
    models[f"window of {w}"] = (window_logits(network, w), list(network.parameters()), w)
for k, (name, (logits, parameters, _)) in enumerate(models.items()):
    train(logits, parameters, seed=k, label=name)

# %% tags=["demo"]
chains = torch.cat([data.pairs(2**199 - 1, 1, 200), data.pairs(2**199 - 1, 0, 200)])
chain_sums, _ = data.add_bits(chains.int())
wrong = {name: wrong_bits(logits) for name, (logits, _, _) in models.items()}
print("               numbers    wrong bits    window_error    wrong sums    wrong bits in the two chains")
for name, (logits, parameters, w) in models.items():
    size = sum(p.numel() for p in parameters)
    floor = f"{sum(window_error(w, t) for t in range(200)) / 200:.4%}" if w else "-"
    in_chains = int(((logits(chains, torch.tensor([200, 200])) > 0) != chain_sums).sum())
    bits, sums = wrong[name].mean(), wrong[name].amax(1).mean()
    print(f"{name:15}{size:7}    {bits:10.4%}    {floor:>12}    {sums:10.2%}    {in_chains:4} of 400")

# %% tags=["demo"]
floors = {w: [window_error(w, t) for t in range(w, 200)] for w in (2, 4, 8)}
fig, ax = plotting.figure(width=9, height=4.2)
for (name, (_, _, w)), color in zip(
    models.items(), [plotting.BLUE] * 3 + list(plotting.PALETTE[1:4]), strict=True
):
    per_bit = wrong[name].mean(0)
    averaged = per_bit[8:].reshape(-1, 8).mean(1)
    ax.plot(range(8), per_bit[:8], ".", color=color, markersize=4)
    ax.plot(torch.arange(12, 200, 8), averaged, "o-", color=color, linewidth=0.8, markersize=3)
    if w:
        ax.plot(range(w, 200), floors[w], color=plotting.BLACK, linewidth=1.2)
    ax.annotate(name if w else "RNN, three seeds", (203, averaged[-1]), color=color, va="center")
ax.axvspan(-1, 7.5, color=plotting.PALE, zorder=0)
ax.annotate("trained on these bits", (7, 0.6), (22, 0.6), va="center", arrowprops={"arrowstyle": "->"})
ax.set_yscale("symlog", linthresh=1e-3, linscale=0.6)
ax.set_yticks([0, 0.001, 0.01, 0.1, 1], ["0", "0.001", "0.01", "0.1", "1"])
ax.set(xlabel="bit position t", ylabel="wrong answers (fraction)", xlim=(-1, 240), ylim=(-2e-4, 1.2))
ax.set_xticks([0, 50, 100, 150, 200])
plotting.caption(
    fig,
    "Black lines: your window_error. Dots: measured (from bit 8 on, averages over 8 positions). The windows lie on or above "
    "their lines. The recurrent networks lie at zero, 25 times further out than they were trained.",
)

# %% [markdown]
# The three recurrent networks make no mistake in a million bits each. Every window stays on or above your line, up to the noise of
# the measurement. The window of 8 sees every bit that it is trained on; it makes the fewest mistakes, and still most of its long
# sums contain one.
#
# The last column holds the long chains: $(2^{199} - 1) + 1$ and $(2^{199} - 1) + 0$. From position $w$ on, both look the same to a
# window, and the right bits differ. Whatever it says, it is wrong in one of the two: at 198, 196 and 192 positions at least.
#
# Try two numbers of your own. The network has been trained on no number above 255.

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
# difference is a few times $2^{-24}$ in float32, the largest relative error of one rounding, and shrinks by $2^{29}$ in float64.


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
# Nobody told the network about carries. Look for the carry in its state: fit one direction of the 16-dimensional state to it,
# on sums of 8 bits, and project the states of 200-bit sums on that direction. Then repeat the experiment of
# exercise 2: two copies of the network, one has just made a carry, the other has not. Both then read the same propagating
# pairs. How far apart do their states stay? The network before training is the control.


# %%
@torch.no_grad()
def all_states(
    weights: dict[str, Tensor], x: Float[Tensor, "batch time 2"]
) -> Float[Tensor, "batch time hidden"]:
    """States on a batch without padding."""
    return rnn_forward(bind(weights), x, torch.zeros(len(x), 16), torch.full((len(x),), x.shape[1]))[0]


def fit_carry(weights: dict[str, Tensor]) -> Float[Tensor, "hidden+1"]:
    """Least squares: the linear function of the state that comes nearest to the carry (-1 or +1) into the next bit."""
    x, _, c = data.additions(500, 9, torch.Generator().manual_seed(1))
    h = all_states(weights, x[:, :8]).reshape(-1, 16)
    return torch.linalg.lstsq(F.pad(h, (0, 1), value=1.0), 2 * c[:, 1:].reshape(-1, 1) - 1).solution[:, 0]


# %% tags=["demo"]
x, _, c = data.additions(500, 201, torch.Generator().manual_seed(2))
h = all_states(trained[0], x[:, :200]).reshape(-1, 16)
carry = c[:, 1:].reshape(-1) > 0.5
projected = F.pad(h, (0, 1), value=1.0) @ fit_carry(trained[0])
print(
    f"carry read off that direction: right for {((projected > 0) == carry).float().mean():.2%} of {len(h):,} states"
)

split = torch.zeros(2, 200, 2)
split[:, 1:, 0] = 1  # propagate from bit 1 on
split[0, 0] = 1  # bit 0: one copy makes a carry, the other does not
fig, (left, right) = plotting.figure(1, 2, width=10, height=3.5)
bins = torch.linspace(-2, 2, 81).numpy()
left.hist(projected[~carry], bins, color=plotting.VERMILLION, alpha=0.75, label="no carry")
left.hist(projected[carry], bins, color=plotting.BLUE, alpha=0.75, label="carry")
left.set(xlabel="state, projected on the direction", ylabel="states (count)")
left.legend(loc="upper center")
for name, weights, color in (
    ("trained", trained[0], plotting.BLUE),
    ("before training", new_rnn(16, 0), plotting.GREY),
):
    with_carry, without = all_states(weights, split)
    right.semilogy((with_carry - without).norm(dim=1).clamp(min=1e-8), label=name, color=color)
    factor = torch.linalg.matrix_norm(weights["W_hh"], 2)
    print(f"largest singular value of W_hh, {name}: {factor:.2f}")
right.set(xlabel="step", ylabel="distance of the two states", ylim=(1e-8, 20))
right.legend(loc="center right")
plotting.caption(
    fig,
    "Left: the carry splits the states of 200-bit sums into two groups that do not overlap. Right: two states "
    "that differ in the carry stay apart for as long as the trained network runs; before training they merge, up to "
    "rounding.",
)

# %% [markdown]
# Training found what you built by hand: two groups of states, one for each value of the carry, that do not mix and that
# renew themselves. This is why 8 bits were enough: a state that returns to one of two groups at every step does so at step 7
# and at step 2000.
#
# It had to cross a threshold for this, as your gain had to. The slope of tanh is never more than 1, so for equal inputs
#
# $$ \lVert h_t - h'_t \rVert \le \sigma \, \lVert h_{t-1} - h'_{t-1} \rVert , $$
#
# where $\sigma$ is the largest singular value of $W_{hh}$. For one unit $\sigma$ is the size of its weight to itself. With $\sigma < 1$, two
# states that read the same inputs come together whatever the other weights are, and the network forgets. The untrained
# network starts just below 1. The trained one is far above.
#
# ## What you built
#
# 1. A recurrent layer that equals `torch.nn.RNN` on ragged batches, and an adder of 25 numbers that needs no training.
# 2. A proof that a window of $w$ pairs is wrong with probability $2^{-w}$ at least, far from the start, and a network that is not
#    bound by it because it has a state.
# 3. A condition for memory: a tanh unit has two states at rest only if its weight to itself is larger than 1; a whole layer
#    forgets for certain if the largest singular value of $W_{hh}$ is below 1.
#
# **Limits.** The state has a fixed size, so what it can keep is limited: with finite precision an RNN is a machine with finitely
# many states. Addition needs two. Multiplication does not fit: in $2^n \cdot 2^n$ both ones
# come at bit $n$, and the machine must wait exactly $n$ more steps before it says 1. It would have to be in a different state for each
# $n$. And our memory lasted because training
# was kind: chains of 8 were enough to find it. When a signal must travel over 100 steps before it matters for the *first* time, the gradient has
# to travel as far, and it fades by the same rule $(g/2)^n$ as the carry. That is notebook 02.
#
# **Cost.** $H I + H^2 + 2H$ numbers at any length. About $T\,(H I + H^2)$ multiplications per sequence, and $T$ steps that must wait
# for each other: a GPU can work on many sequences at once, not on many time steps of one. Memory for training grows with $T$,
# because backpropagation needs every state.
#
# ## Sources
#
# - J. L. Elman, *Finding Structure in Time*, Cognitive Science 14 (1990), pages 179–211: the network, and what its state learns to
#   represent.
# - D. E. Rumelhart, G. E. Hinton, R. J. Williams, *Learning internal representations by error propagation*, in Parallel Distributed
#   Processing, volume 1 (1986), pages 318–362: among its examples, a network without a state that learns to add two numbers of two bits.
#   In short: *Learning representations by back-propagating errors*, Nature 323 (1986), pages 533–536.
# - G. W. Cottrell, F.-S. Tsung, *Learning Simple Arithmetic Procedures*, doi 10.4324/9781315799650-8: recurrent networks that learn to add
#   numbers of several digits.
# - H. T. Siegelmann, E. D. Sontag, *On the Computational Power of Neural Nets*, Journal of Computer and System Sciences 50 (1995),
#   pages 132–150: with rational weights and exact arithmetic, recurrent networks simulate every Turing machine. The limit named above is
#   one of precision.
# - PyTorch, [`torch.nn.RNN`](https://pytorch.org/docs/stable/generated/torch.nn.RNN.html): the formula and the layout of the weights.
