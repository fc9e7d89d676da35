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
# # What gating changes
#
# *Recurrent networks, part 3 of 4: keep until told otherwise.*
#
# **Claim.** One bit, 32 to 39 steps of noise, 150 training steps, about 400 numbers. An LSTM and a GRU keep the bit and replace
# it when a new one comes. The Elman network of notebook 01 does not learn this, neither from PyTorch's start nor from one that keeps its
# gradient alive. And the gates alone do not explain it: the same LSTM, with the same random weights, answers as a coin would until
# *one number* $b$ is set, the bias $+b$ of its forget gates and $-b$ of its input gates. You will derive its value.
#
# | | |
# |---|---|
# | **Time** | about 60 minutes; the code runs for less than half a minute |
# | **You need** | notebook 01; of notebook 02 that the gradient through $T$ steps is a product of $T$ Jacobians and behaves like $\rho^T$ |
# | **Graded** | five exercises, one to three dots for how hard they are; each has its own check cell, which says what differs, and often why |
# | **You leave with** | an LSTM and a GRU that equal PyTorch's, a formula for their most important bias, and the reason for both |

# %% setup
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import trange

import utils
from autograde import open_lesson, yours
from utils import plotting, training, widgets

utils.setup()
check = open_lesson("rnn/03_gates")

# %% [markdown]
# ## The problem: a bit that has to wait
#
# At time 0 a network reads one bit, as $-1$ or $+1$, beside a **mark** of 1. Then it reads noise without a mark. After the last
# step it is asked for the bit. Nothing else has to be done: store one bit, ignore the rest.
#
# Later we make it harder, with a second marked bit at one of the times 1 to 7 that replaces the first. The generator below
# draws both versions.


# %%
def marked_bits(
    n: int, steps: int, replace: float, generator: torch.Generator
) -> tuple[Float[Tensor, "n steps 2"], Float[Tensor, "n"], Tensor]:
    """Sequences of (value, mark), the last marked bit (0 or 1), and where a second bit replaced the first.

    A second bit comes with probability `replace`, at a time between 1 and 7.
    """
    x = torch.randn(n, steps, 2, generator=generator)
    x[:, :, 1] = 0.0
    bits = torch.randint(0, 2, (n, 2), generator=generator).float()
    second = torch.randint(1, 8, (n,), generator=generator)
    replaced = torch.rand(n, generator=generator) < replace
    x[:, 0] = torch.stack([2 * bits[:, 0] - 1, torch.ones(n)], dim=1)
    rows = replaced.nonzero()[:, 0]
    x[rows, second[rows]] = torch.stack([2 * bits[rows, 1] - 1, torch.ones(len(rows))], dim=1)
    return x, torch.where(replaced, bits[:, 1], bits[:, 0]), replaced


# %% [markdown]
# We shall train many small networks, and one after the other they would take long: 40 steps, each of which waits for the one
# before, cost about the same for one network as for ten. So we put several networks **side by side** into one wide cell. Their
# weights become one matrix in which only the blocks on the diagonal are not zero, so no network hears another one. A wide cell
# of three networks with 18 units has 54 units, and every cell that you write today runs it without knowing about it.
# <!-- not printed: 54 (three times 18) -->


# %%
def new_networks(gates: int, hidden: int, n: int, seed: int) -> dict[str, Tensor]:
    """n networks, uniform in +-1/sqrt(hidden) as in PyTorch; the first dimension of every tensor counts them."""
    gen, rows = torch.Generator().manual_seed(seed), gates * hidden
    shapes = {
        "W_ih": (n, rows, 2),
        "W_hh": (n, rows, hidden),
        "b_ih": (n, rows),
        "b_hh": (n, rows),
        "w_out": (n, hidden),
        "b_out": (n,),
    }
    return {name: hidden**-0.5 * (2 * torch.rand(shape, generator=gen) - 1) for name, shape in shapes.items()}


def side_by_side(weights: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """W_ih, W_hh, b_ih, b_hh of one wide cell that holds all networks; within a gate, network by network."""
    n, rows, hidden = weights["W_hh"].shape
    apart = torch.einsum("nrk,nm->nrmk", weights["W_hh"], torch.eye(n)).flatten(2)  # zeros between networks
    return tuple(
        values.unflatten(1, (rows // hidden, hidden)).transpose(0, 1).flatten(0, 2)
        for values in (weights["W_ih"], apart, weights["b_ih"], weights["b_hh"])
    )


def run(step: Callable, weights: dict[str, Tensor], x: Float[Tensor, "batch time 2"]) -> tuple[Tensor, list]:
    """The logit of every network after the last step [batch, n], and the states: h, or (h, c) for four gates."""
    n, rows, hidden = weights["W_hh"].shape
    wide, lstm = side_by_side(weights), rows == 4 * hidden
    h = torch.zeros(len(x), n * hidden)
    states = [(h, h) if lstm else h]
    for x_t in x.unbind(dim=1):
        states.append(step(x_t, states[-1], *wide))
    h = states[-1][0] if lstm else states[-1]
    return (h.unflatten(1, (n, hidden)) * weights["w_out"]).sum(2) + weights["b_out"], states[1:]


def second_differs(x: Float[Tensor, "batch time 2"], bit: Float[Tensor, "batch"]) -> Tensor:
    """Where a second bit came and is not the same as the first."""
    return (x[:, 0, 0] > 0) != (bit > 0.5)


def train(
    step: Callable,
    weights: dict[str, Tensor],
    steps: int,
    replace: float,
    lr: float,
    label: str,
    updates: int = 200,
    seed: int = 0,
) -> tuple[Float[Tensor, "updates n"], Float[Tensor, "updates n"]]:
    """Updates with Adam for all networks at once, in batches of 32; the rate falls linearly to a twentieth.

    Returns the fractions of right answers in every batch: of all sequences, and where the bit is not the first one.
    """
    gen, right, right_second = torch.Generator().manual_seed(100 + seed), [], []
    optimiser = training.Adam([value.requires_grad_() for value in weights.values()], lr, updates)
    for _ in trange(updates, desc=label):
        x, bit, _ = marked_bits(32, steps, replace, gen)
        logits, _ = run(step, weights, x)
        target = bit[:, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(0).sum()
        loss.backward()
        optimiser.step()
        answers = ((logits > 0) == (target > 0.5)).float()
        right.append(answers.mean(0))
        right_second.append(answers[second_differs(x, bit)].mean(0))
    return torch.stack(right), torch.stack(right_second)


def smooth(right: Float[Tensor, "updates n"], width: int = 20) -> Float[Tensor, "averages n"]:
    """Averages over `width` updates."""
    return right.unfold(0, width, 1).mean(-1)


# %% [markdown]
# The loss is a sum over the networks, and Adam treats every number for itself, so each network is trained as if it were alone.
# Here are three Elman networks with 18 units each, for sequences of 6, 11 and 40 steps. The cell is your `rnn_step`: `yours` reads it
# from your notebook 01, and takes the course's version where there is none.

# %% tags=["demo"]
rnn_step = yours("rnn/01_vanilla_rnn", "rnn_step")
fig, ax = plotting.figure(width=8.5, height=3.3)
for steps, color in ((6, plotting.BLUE), (11, plotting.GREEN), (40, plotting.VERMILLION)):
    right, _ = train(
        rnn_step, new_networks(1, 18, 3, seed=0), steps, 0.0, lr=0.01, label=f"Elman, {steps} steps"
    )
    for curve in smooth(right).T:
        ax.plot(torch.arange(20, 201), curve, color=color, linewidth=1.4)
    x, y = {6: (44, 0.92), 11: (112, 0.92), 40: (203, 0.49)}[steps]
    plotting.label(ax, x, y, f"{steps} steps", color)
    print(
        f"{steps:2} steps, right answers in the last 20 batches:",
        *(f"{value:.2f}" for value in smooth(right)[-1]),
    )
ax.axhline(0.5, color=plotting.GREY, linewidth=1, linestyle="--")
ax.set(xlabel="training step", ylabel="right answers (fraction)", xlim=(20, 200), ylim=(0.4, 1.03))
plotting.caption(
    fig,
    "Three Elman networks for each length, averages over 20 batches. Short sequences are learned; with 40 steps all three stay "
    "at the dashed line, where a coin is.",
)

# %% [markdown]
# Six steps are learned at once, eleven more slowly, and with 40 steps nothing happens. Is the network too weak for the task? Or does
# the training not find the weights?
#
# (The learning rate is 0.01 here. With 0.02 and 0.03 it is a matter of luck: four and five of nine networks find the bit within 200
# steps, the others stay at the coin. In the harder task none found it, at any of three rates:
# [`benchmarks/results/rnn_gates.md`](../../benchmarks/results/rnn_gates.md).)
#
# <!-- not printed: 0.01, 0.02, 0.03 (benchmarks/results/rnn_gates.md) -->
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $T,\ I,\ H$ | time steps, inputs, hidden units; $t = 0, \dots, T-1$ | |
# | $x_t,\ h_t$ | input and state at time $t$ | `[batch, input]`, `[batch, hidden]` |
# | $c_t$ | **cell state**: the memory of an LSTM | `[batch, hidden]` |
# | $f_t,\ i_t,\ o_t$ | forget, input and output gate of the LSTM | 0 to 1, `[batch, hidden]` |
# | $g_t$ | candidate: the value that may be written into the cell | −1 to 1, `[batch, hidden]` |
# | $r_t,\ z_t,\ n_t$ | reset gate, update gate and candidate of the GRU | `[batch, hidden]` |
# | $\sigma(a)$ | sigmoid, $1/(1 + e^{-a})$. (In notebook 01 a singular value.) | 0 to 1 |
# | $\odot$ | product element by element | |
# | $\rho$ | spectral radius of $W_{hh}$: the largest absolute value of its eigenvalues, as in notebook 02 | |
# | $u$ | weight of an Elman unit to itself, as in notebook 01 | |
# | $D_t$ | what is left of $c_t$ in the last state: $\partial c_{T-1} / \partial c_t$ along the cell path | `[batch, hidden]` |
# | $b_f,\ b_i$ | biases of the forget and the input gate, $b_{ih}$ and $b_{hh}$ together; $b$ where both have the same size | |
# | keep | share of a value that is left after a number of steps | 0 to 1 |
# | $n_{1/2}$ | half-life: steps after which half of a value is left | |
# | $W_{ih},\ W_{hh},\ b_{ih},\ b_{hh}$ | as in notebook 01, with one block of $H$ rows for each gate and for the candidate (GRU: three blocks) | `[4H, I]`, `[4H, H]`, `[4H]`, `[4H]` |
#
# Four letters are taken over from the papers and meant something else in notebook 01: $c_t$ (there a carry), $f$ (one step), $g$ (a gain) and $\sigma$.

# %% [markdown]
# ## Able to keep, not able to learn it
#
# **The network is not too weak.** Three tanh units solve even the harder task, by hand. Two of them look for a mark: with an input
# weight of 20 for the mark and a bias of $-20$, both say $-1$ whatever the noise is. At a mark one says the value, and the other
# one the opposite. The third unit is the carry unit of notebook 01, with a weight $u > 1$ to itself. It reads the *difference* of
# the first two: zero in noise, and a push to the new side after a mark.


# %%
def elman_latch(u: float) -> tuple[Tensor, ...]:
    """W_ih, W_hh, b_ih, b_hh of an Elman network with three units: two that find marks, one that keeps the bit."""
    W_ih = torch.tensor([[3.0, 20.0], [-3.0, 20.0], [0.0, 0.0]])  # columns: value, mark
    W_hh = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, -2.0, u]])
    return W_ih, W_hh, torch.tensor([-20.0, -20.0, 0.0]), torch.zeros(3)


def keep_by_hand(step: Callable, u: float, steps: int) -> tuple[float, float]:
    """Right answers of the three units on 2000 sequences, and the derivative of the last state by the one after step 1."""
    x, bit, _ = marked_bits(2000, steps, 2 / 3, torch.Generator().manual_seed(1))
    h, weights, states = torch.zeros(2000, 3, requires_grad=True), elman_latch(u), []
    for x_t in x.unbind(dim=1):
        h = step(x_t, h, *weights)
        states.append(h)
    (grad,) = torch.autograd.grad(h[:, 2].sum(), states[1])
    return ((h[:, 2] > 0) == (bit > 0.5)).float().mean().item(), grad[:, 2].median().item()


# %% tags=["demo"]
for u in (1.1, 1.5):
    (right_40, gradient), (right_400, _) = keep_by_hand(rnn_step, u, 40), keep_by_hand(rnn_step, u, 400)
    print(f"u = {u}: right for {right_40:.1%} (40 steps), {right_400:.1%} (400 steps); ", end="")
    print(f"derivative of the last state by the one after step 1, 40 steps: {gradient:.0e}")

# %% [markdown]
# Every answer is right, and almost no gradient comes back. Both have the same reason. From one step to the next, an Elman network
# multiplies a small change of its state by
#
# $$ \frac{\partial h_t}{\partial h_{t-1}} = \mathrm{diag}(1 - h_t^2)\, W_{hh} , $$
#
# and over $T$ steps these factors multiply. In the unit that keeps the bit the factor is $u\,(1 - h_t^2)$, which is below 1 in both
# states at rest. So a disturbance shrinks: that is why the bit is safe. But a gradient is multiplied by the *same* factors, and shrinks too.
# Bengio, Simard and Frasconi (1994) found this: an Elman network that keeps a bit safely hides it from its own training.
#
# Nor does a gradient come through at the start of training. The state is small there, the slopes of tanh are a little below 1, and the
# gradient behaves about like $\rho^T$ (notebook 02). PyTorch draws the entries of $W_{hh}$ uniformly from $\pm 1/\sqrt H$. Their variance is
# $1/(3H)$, and the eigenvalues of such a large matrix fill a disc with the radius $\sqrt{H \cdot 1/(3H)} = 1/\sqrt3 \approx 0.58$. With
# $0.58^{39} \approx 6 \cdot 10^{-10}$ left, the end cannot tell the first step what to store. Clipping is no help: it bounds a step that is too
# large and does not bring back what has faded.
#
# **Repair 1: make the factor 1.** For instance with an orthogonal $W_{hh}$ and a small state, where tanh is nearly a straight line. Then the
# bit survives, and the gradient does. But what has a factor of 1 at every step keeps *everything*: a new bit is added to the old one and does not
# replace it, and the noise is added too.
#
# **Repair 2: let the factor depend on the input.** While noise comes in, it should be near 1. When a new bit comes, it should be
# near 0, so that the old bit makes room. The slope of a tanh does depend on the input, but it is small where the state is firm. A weight
# has one value for all steps. What is needed is a factor that the network computes anew at every step, and no tanh on the way: a **gate**.
#
# ## A cell that is left alone
#
# Give each unit a second state, the cell state $c_t$, with the rule
#
# $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t . $$
#
# The forget gate $f_t$ says how much of the old value stays, the input gate $i_t$ how much of the candidate $g_t$ is written. Both
# lie between 0 and 1. There is no matrix between $c_{t-1}$ and $c_t$, and no tanh. Where $f_t = 1$ and $i_t = 0$, the value passes
# unchanged.
#
# **One step.** Hold the gates and the candidate fixed. Then $c_t$ is linear in $c_{t-1}$, unit by unit, and
#
# $$ \frac{\partial c_t}{\partial c_{t-1}} = f_t . $$
#
# **Many steps.** Insert the rule into itself. With $c_{-1}$ for the state before the first step,
#
# $$ c_1 = f_1 f_0\, c_{-1} + f_1\, i_0 g_0 + i_1 g_1 , \qquad
#    c_2 = f_2 f_1 f_0\, c_{-1} + f_2 f_1\, i_0 g_0 + f_2\, i_1 g_1 + i_2 g_2 . $$
#
# Look at $i_0 g_0$, what was written at time 0. It is multiplied by the gates that come *after* its own step. So the last state is
# a weighted sum of everything that was ever written,
#
# $$ c_{T-1} = \Big( \prod_{s=0}^{T-1} f_s \Big)\, c_{-1} + \sum_{t=0}^{T-1} D_t\, i_t g_t ,
#    \qquad D_t = \frac{\partial c_{T-1}}{\partial c_t} . $$
#
# (What does "fixed" leave out? The gates are computed from $h_{t-1}$, and $h_{t-1}$ from $c_{t-1}$. So there is a second path, through
# $W_{hh}$. We measure it in the last section.)
#
# ### Exercise 1 · cell_gradient  ●●○  8 minutes
#
# Write $D_t$ for all $t$ at once. For which gates is $D_t$ the product? What is $D_{T-1}$? Gates may be exactly 0 or exactly 1
# (in float32, $\sigma(20)$ is 1), and gradients have to flow back to the gates, also then. Do not change f, and return a new tensor at each
# call.


# %% cell_gradient tags=["exercise"]
def cell_gradient(f: Float[Tensor, "time batch hidden"]) -> Float[Tensor, "time batch hidden"]:
    """How much of each cell state is left in the last one, along the cell path.

    Arguments:
        f: the forget gates, time first. Values from 0 to 1, both included.

    Returns:
        D with D[t] = the derivative of the last cell state with respect to the one after step t, with all gates
        held fixed; in the shape and dtype of f. Where the derivative is too small for the dtype, it is 0. Gates in float64
        are computed in float64 throughout. Behind a gate of exactly 0, exactly 0 is left.

    Example:
        One sequence, one unit: f = [[[0.3]], [[0.5]], [[0.8]]] gives [[[0.4]], [[0.8]], [[1.0]]]. What was written
        at step 0 meets the gates 0.5 and 0.8. The gate 0.3 came before it.
    """
    ### BEGIN SOLUTION
    left = [torch.ones_like(f[0])]
    for f_t in f[1:].flip(0):  # from the last gate back to the second
        left.append(left[-1] * f_t)
    return torch.stack(left[::-1])
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# By the chain rule, $D_t = \partial c_{T-1} / \partial c_t$ is the product of the derivatives of the single steps between $t$ and
# $T - 1$. The first of these steps leads from $c_t$ to $c_{t+1}$. After the last step there is none, and a product without
# factors is 1. Compare $D_t$ with $D_{t+1}$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $D_{T-1} = 1$ and $D_t = f_{t+1} D_{t+1}$: start with ones, go through `f[1:].flip(0)`, collect in a list, turn the list
# round, and stack. Or with `cumprod` on the flipped gates.
#
# </details>
#
# <details>
# <summary>"Right for open gates, but NaN when a gate is 0"</summary>
#
# Dividing one product by another gives 0/0 there, and the logarithm of 0 is $-\infty$, with a gradient of 0 times infinity. Both
# are detours. Multiplying backwards from the end needs neither. (A sum of logarithms does not save you from underflow either:
# if $D_t$ is $10^{-60}$, float32 has no number for it, and 0 is the honest answer.)
#
# </details>

# %% [markdown]
# <details>
# <summary>"RuntimeError: one of the variables needed for gradient computation has been modified by an inplace operation"</summary>
#
# You fill one tensor step by step, and read from it again. The backward pass needs the values that you multiplied. Collect the
# steps in a list and stack them.
#
# </details>

# %% check_cell_gradient tags=["check"]
check.cell_gradient(cell_gradient)

# %% [markdown]
# In one line: $D_t = \prod_{s=t+1}^{T-1} f_s$, and $D_{T-1} = 1$. The gate of the same step is not in it.
#
# **See it.** Your $D_t$ for 40 steps and four sets of gates. In the last one a single gate, at step 12, is closed. Below the figure
# your $D$ puts the last cell state together from what was written, and is compared with the rule applied 40 times.


# %%
def last_cell(f: Float[Tensor, "time batch hidden"], written: Float[Tensor, "time batch hidden"]) -> Tensor:
    """The cell state after the last step, by the rule c = f c + written, from zero."""
    c = torch.zeros_like(f[0])
    for f_t, written_t in zip(f, written, strict=True):
        c = f_t * c + written_t
    return c


# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=3.2)
gates = {
    name: torch.full((40, 1, 1), f) for name, f in (("f = 0.5", 0.5), ("f = 0.9", 0.9), ("f = 0.98", 0.98))
}
gates["0.98, closed at 12"] = gates["f = 0.98"].clone()
gates["0.98, closed at 12"][12] = 0.0
for (name, f), color, style in zip(gates.items(), plotting.PALETTE, ("-", "-", "-", "--"), strict=False):
    kept = cell_gradient(f)[:, 0, 0]
    ax.plot(kept, color=color, linestyle=style)
    at = {"f = 0.5": (32.2, 0.13), "f = 0.9": (24.5, 0.33), "f = 0.98": (20, 0.76)}.get(name, (12, 0.3))
    plotting.label(ax, *at, name, color)
    print(f"{name:18}: what was written at step 0 is left with the share {kept[0]:.2g}")
ax.set(
    xlabel="step t at which a value is written",
    ylabel="share left at the end, $D_t$",
    xlim=(0, 39),
    ylim=(-0.03, 1.05),
)
plotting.caption(
    fig,
    "What is left of a value at step 39, by the step at which it was written. Half-open gates keep about five steps. One closed gate "
    "(dashed) cuts off everything before it and changes nothing after it.",
)

gen = torch.Generator().manual_seed(0)
f, written = torch.rand(40, 5, 8, generator=gen), torch.randn(40, 5, 8, generator=gen)
difference = ((cell_gradient(f) * written).sum(0) - last_cell(f, written)).abs().max()
print(f"largest difference between the weighted sum and the rule applied 40 times: {difference:.0e}")

# %% [markdown]
# Two things are in this picture. A gate of 0.5, which is where a sigmoid starts, keeps a value for about five steps: no better than the
# Elman network. And a single closed gate removes the past completely, in one step. Nothing has to be added or subtracted for
# that.
#
# ## How open is open enough?
#
# A gate is $f = \sigma(b_f + \dots)$, where the dots depend on the input and the state. At the start of training they are small, so the
# bias decides. A gate that stays at $f$ leaves the share $f^n$ after $n$ steps; half of a value is left after
#
# $$ n_{1/2} = \frac{-\ln 2}{\ln f} \quad \text{steps.} $$
#
# We want the converse: the value has to last for a given number of steps, and at the end a given share must be left. Which bias
# does that?
#
# ### Exercise 2 · forget_bias  ●○○  5 minutes
#
# Solve $\sigma(b)^{\,\text{steps}} = \text{keep}$ for $b$. Take paper: first find $f$, then invert the sigmoid.


# %% forget_bias tags=["exercise"]
def forget_bias(steps: int, keep: float) -> float:
    """The bias of a forget gate that leaves a given share of the cell state after a given number of steps.

    Arguments:
        steps: how often the gate is applied, at least 1.
        keep: the share that is left after the last step, between 0 and 1, both excluded.

    Returns:
        b with sigmoid(b) ** steps == keep, as an exact formula, for any number of steps, neither rounded nor clamped. It
        may be negative: a single step that keeps 0.000001 needs about -13.8.

    Example:
        forget_bias(2, 0.25) is 0.0, up to rounding: the gate is 0.5, and half of a half is a quarter.
        forget_bias(10, 0.5) is about 2.6342.
    """
    ### BEGIN SOLUTION
    f = keep ** (1 / steps)
    return math.log(f / (1 - f))
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The gate itself is the root $f = \text{keep}^{1/\text{steps}}$. From $f = 1/(1 + e^{-b})$ follows $1 + e^{-b} = 1/f$. Solve for $b$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $b = \ln \dfrac{f}{1 - f}$, which is called the logit of $f$: `math.log(f / (1 - f))` with `f = keep ** (1 / steps)`.
#
# </details>
#
# <details>
# <summary>"My bias is negative, or it does not grow with the number of steps"</summary>
#
# More steps need a gate closer to 1, so a larger bias. If yours falls, look at the sign: $\sigma$ is near 1 for large *positive*
# arguments. A negative bias is right only where the gate is below one half, for instance for one step that keeps a quarter.
#
# </details>

# %% check_forget_bias tags=["check"]
check.forget_bias(forget_bias)

# %% [markdown]
# In one line, with $f = \text{keep}^{1/T}$ and $f/(1-f) = 1/(1/f - 1)$,
#
# $$ b = -\ln\!\left( \text{keep}^{-1/T} - 1 \right) \;\approx\; \ln \frac{T}{\ln(1/\text{keep})} \quad \text{for large } T , $$
#
# because $e^{a} - 1 \approx a$ for a small $a = \ln(1/\text{keep})/T$.
#
# **See it.** Your bias against the number of steps, for three shares, and the half-lives of a few biases.

# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=3.3)
lengths = [round(10 ** (k / 20)) for k in range(61)]
for keep, color in ((0.9, plotting.BLUE), (0.5, plotting.ORANGE), (0.1, plotting.GREEN)):
    ax.semilogx(lengths, [forget_bias(steps, keep) for steps in lengths], color=color)
    plotting.label(ax, 1080, forget_bias(1000, keep), f"keeps {keep:.0%}", color)
    ax.semilogx(
        lengths,
        [math.log(steps / math.log(1 / keep)) for steps in lengths],
        ":",
        color=plotting.GREY,
        linewidth=1,
    )
ax.set(xlabel="steps", ylabel="bias of the forget gate", xlim=(1, 1000), xticks=[1, 10, 100, 1000])
ax.set_xticklabels(["1", "10", "100", "1000"])
plotting.caption(
    fig,
    "The bias that leaves a share of 90, 50 or 10 percent. Dotted: the approximation ln(T / ln(1/keep)). Ten times as many steps "
    "need a bias that is larger by 2.3.",
)
print("bias    gate    half is left after    left after 39 steps")
for bias in (0.0, 1.0, forget_bias(39, 0.5), 8.0):
    f = 1 / (1 + math.exp(-bias))
    print(f"{bias:4.2f}  {f:.4f} {-math.log(2) / math.log(f):13.1f} steps {f**39:22.2g}")

# %% [markdown]
# A random start has $b_f$ near 0: the half-life is one step. A bias of 1, which is common advice, gives 2.2 steps. Neither has
# anything to do with 39 steps. The bias that you derived for them is 4.02.
#
# ## The LSTM
#
# What are the gates computed from? From what the network has: the input and the previous output. Each of them is a small Elman layer,
# with a sigmoid where a number between 0 and 1 is wanted. This is the LSTM as `torch.nn.LSTM` computes it:
#
# $$
# \begin{aligned}
# i_t &= \sigma( W_{ii} x_t + b_{ii} + W_{hi} h_{t-1} + b_{hi} ) &
# f_t &= \sigma( W_{if} x_t + b_{if} + W_{hf} h_{t-1} + b_{hf} ) \\
# g_t &= \tanh( W_{ig} x_t + b_{ig} + W_{hg} h_{t-1} + b_{hg} ) &
# o_t &= \sigma( W_{io} x_t + b_{io} + W_{ho} h_{t-1} + b_{ho} ) \\
# c_t &= f_t \odot c_{t-1} + i_t \odot g_t &
# h_t &= o_t \odot \tanh(c_t)
# \end{aligned}
# $$
#
# Why an output gate and a tanh on the way out? A cell state that is kept, and written to, can leave $(-1, 1)$; tanh brings what others see
# back. And a unit that holds something for later need not disturb the others meanwhile: $o_t$ can hide it. What is hidden is
# kept all the same, since $c_t$ does not pass through $o_t$.
#
# PyTorch stores the four blocks on top of each other, in the order **i, f, g, o**: `W_ih` is `[4H, I]`, and its first $H$ rows
# belong to $i$. So two matrix products serve all four.
#
# ### Exercise 3 · lstm_step  ●●○  8 minutes
#
# Write one step for a batch. Use `torch.sigmoid` and `torch.tanh`: large arguments have to saturate, without overflow, in the gradients
# too. Gradients flow back to all inputs: $x$, the state, weights and biases. Do not change the state that comes in, whoever calls you still
# needs it: return new tensors.


# %% lstm_step tags=["exercise"]
def lstm_step(
    x: Float[Tensor, "batch input"],
    state: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]],
    W_ih: Float[Tensor, "4*hidden input"],
    W_hh: Float[Tensor, "4*hidden hidden"],
    b_ih: Float[Tensor, "4*hidden"],
    b_hh: Float[Tensor, "4*hidden"],
) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
    """One step of an LSTM, for every sequence of a batch.

    Arguments:
        x: the input at this time. state: the pair (h, c) after the previous time; it is not changed.
        W_ih, W_hh, b_ih, b_hh: weights and biases in PyTorch's layout, blocks in the order i, f, g, o.

    Returns:
        The new pair (h, c), in the dtype of the inputs; with float64 everything in between is float64, too.

    Example:
        One unit, one input: x = [[1.0]], h = [[0.5]], c = [[2.0]], W_ih = [[1.0], [2.0], [0.5], [0.0]],
        W_hh = [[0.0], [-1.0], [1.0], [2.0]], b_ih and b_hh four zeros each. The arguments of i, f, g, o are 1.0, 1.5, 1.0, 1.0;
        c = 0.8176 * 2.0 + 0.7311 * 0.7616 = 2.1919 and h = 0.7311 * tanh(2.1919) = 0.7131.
    """
    ### BEGIN SOLUTION
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The argument of all four is what was inside the tanh of `rnn_step`, with $4H$ columns. Cut it into four pieces along the
# last dimension. Three pieces go through the sigmoid, one through tanh.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)`, then the last line of the equations as it stands. Write
# `c = f * c + ...`, not `c *= f`.
#
# </details>
#
# <details>
# <summary>"The values are wrong, and all shapes are right"</summary>
#
# The four blocks have the same shape, so no mix-up of them raises an error. Look at the order (i, f, g, o), at which one gets tanh
# (g, the third), and at which cell state the output is made from (the new one).
#
# </details>

# %% check_lstm_step tags=["check"]
check.lstm_step(lstm_step)

# %% [markdown]
# **See it: a latch, by hand.** One unit solves the task, the harder version too, without any training. Nothing goes through $W_{hh}$. While
# noise is read, the forget gate has the argument $b_f$ (open) and the input gate $b_i$ (closed). The mark turns both round: to $-8$ and
# to $+8$. The candidate is $\tanh(3 \cdot \text{value})$, and the output gate is open.


# %%
def latch(b_f: float, b_i: float) -> tuple[Tensor, ...]:
    """W_ih, W_hh, b_ih, b_hh of an LSTM with one unit. Columns of W_ih: value, mark. Rows: i, f, g, o."""
    W_ih = torch.tensor([[0.0, 8.0 - b_i], [0.0, -8.0 - b_f], [3.0, 0.0], [0.0, 0.0]])
    return W_ih, torch.zeros(4, 1), torch.tensor([b_i, b_f, 0.0, 8.0]), torch.zeros(4)


def run_latch(x: Float[Tensor, "batch time 2"], b_f: float, b_i: float) -> Float[Tensor, "time batch"]:
    """The cell state of the latch after every step."""
    weights, state, cells = latch(b_f, b_i), (torch.zeros(len(x), 1), torch.zeros(len(x), 1)), []
    for x_t in x.unbind(dim=1):
        state = lstm_step(x_t, state, *weights)
        cells.append(state[1][:, 0])
    return torch.stack(cells)


# %% tags=["demo"]
x, bit, replaced = marked_bits(2000, 40, 2 / 3, torch.Generator().manual_seed(1))
cells = run_latch(x, b_f=8.0, b_i=-8.0)
row = int(
    (replaced & (x[:, 0, 0] < 0) & (bit > 0) & (x[:, 5, 1] > 0)).nonzero()[0]
)  # first -1, then +1 at time 5

fig, (top, bottom) = plotting.figure(2, 1, width=8.5, height=4.2, sharex=True)
marked = x[row, :, 1] > 0
times = torch.arange(40)
top.bar(times[~marked], x[row, ~marked, 0], color=plotting.GREY, width=0.5)
top.bar(times[marked], x[row, marked, 0], color=plotting.ORANGE, width=0.5)
top.set(ylabel="value read")
bottom.plot(times, cells[:, row], "-o", color=plotting.BLUE)
bottom.axhline(0, color=plotting.GREY, linewidth=1)
bottom.set(xlabel="time step t", ylabel="cell state $c_t$", ylim=(-1.2, 1.2))
plotting.caption(
    fig,
    "One sequence. Orange: marked values, grey: noise. The cell takes over the first marked value, drops it for the second one in a "
    "single step, and is not moved by the noise.",
)
for length in (40, 400):
    x, bit, _ = marked_bits(2000, length, 2 / 3, torch.Generator().manual_seed(1))
    right = ((run_latch(x, 8.0, -8.0)[-1] > 0) == (bit > 0.5)).float().mean()
    print(f"latch by hand, {length:3} steps: right for {right:.1%} of 2000 sequences")

# %% [markdown]
# One unit is enough, its weights are not delicate, and both gates are needed. But the three tanh units solved the task too. The difference is
# the way back: with a bias of 8 the share 0.99 is left after 39 steps (last line of your table), and a gradient is multiplied by the same product.
# The cell that keeps the bit is one through which the gradient passes.
#
# ## Play: keeping is half of it
#
# The latch above has $b_f = 8$ and $b_i = -8$. How much of that is needed? The noise is not only read. At every step the share
# $\sigma(b_i)$ of it is written into the cell, and what is written is *kept*, as the bit is: by the sum of exercise 1 the noise in
# the last state is $\sum_t D_t\, i_t g_t$, with the same $D_t$. The noise terms are independent and have the mean 0, so their variances
# add up. With $s$ for the standard deviation of one candidate in noise, which is 0.86 here, and a constant input gate,
#
# $$ \text{noise in the last state} = i\, s\, \sqrt{ \textstyle\sum_t D_t^2 } , $$
#
# which is $i\, s\, \sqrt T$ if all of it is kept. The answer is wrong when the noise is larger than what is left of the bit, and has the other sign.
#
# **Question.** Set the delay to 100 and the input bias to 0. Raise the forget bias to 8, so that nearly nothing fades. How many answers
# are right? Now lower the input bias until 99 % are right: where is that? (A normal random number exceeds 2.33 times its standard
# deviation in 1 % of the cases. Predict the place before you move the control.) And with this input bias, how small may the forget
# bias be?
# <!-- not printed: 2.33 (the 99 percent quantile of the normal distribution) -->

# %%
NOISE = torch.randn(400, 201, generator=torch.Generator().manual_seed(7))
HALF = torch.arange(400) % 2 == 0  # the sequences whose bit is +1


def written_and_kept(b_f: float, b_i: float, delay: int) -> Float[Tensor, "time batch"]:
    """Cell states of 400 sequences, half of them with the bit +1 at time 0, half with -1, then noise."""
    x = torch.stack([NOISE[:, : delay + 1], torch.zeros(400, delay + 1)], dim=2)
    x[:, 0, 0], x[:, 0, 1] = torch.where(HALF, 1.0, -1.0), 1.0
    return run_latch(x, b_f, b_i)


def right_share(cells: Float[Tensor, "time batch"]) -> float:
    """How many of the 400 bits are the sign of the last cell state."""
    return ((cells[-1] > 0) == HALF).float().mean().item()


def draw_latch(b_f: float, b_i: float, delay: int) -> Figure:
    """Left: cell states over time, with the share that is kept. Right: the last cell states of both groups."""
    cells = written_and_kept(b_f, b_i, delay)
    f = torch.sigmoid(torch.tensor(b_f)).expand(delay + 1, 1, 1)
    kept = math.tanh(3.0) * cell_gradient(f)[:, 0, 0].flip(
        0
    )  # all gates are equal, so the share falls like D backwards
    fig, (left, right) = plotting.figure(1, 2, width=10.5, height=3.9, width_ratios=[1.6, 1])
    for group, color, sign in ((~HALF, plotting.VERMILLION, -1), (HALF, plotting.BLUE, 1)):
        low, high = torch.quantile(cells[:, group], torch.tensor([0.05, 0.95]), dim=1)
        left.fill_between(range(delay + 1), low, high, color=color, alpha=0.3, linewidth=0)
        left.plot(cells[:, group][:, :3], color=color, linewidth=0.8)
        left.plot(sign * kept, "--", color=plotting.BLACK, linewidth=1.4)
    left.set(
        xlabel="steps since the bit was read", ylabel="cell state $c_t$", ylim=(-2.6, 2.6), xlim=(0, delay)
    )
    left.set_title(f"share of the bit that is left: {float(kept[-1]) / math.tanh(3.0):.2g}")
    last = cells[-1].clamp(-2.49, 2.49)
    plotting.two_histograms(
        right,
        {"bit was -1": last[~HALF], "bit was +1": last[HALF]},
        torch.linspace(-2.5, 2.5, 31),
        xlabel=f"cell state after {delay} steps",
        ylabel="sequences (count)",
    )
    right.set(title=f"right answers: {right_share(cells):.1%}", ylim=(0, 1.35 * right.get_ylim()[1]))
    plotting.caption(
        fig,
        "Left: the bands hold 90 % of 200 sequences each, with three single ones; dashed is what your cell_gradient leaves of the bit. "
        "Right: see whether the two groups are apart (what lies beyond 2.5 is drawn at the edge).",
    )
    return fig


# %% tags=["demo"]
widgets.explore(
    draw_latch,
    b_f=widgets.slider("forget bias", 3.0, 0.0, 10.0, 0.25),
    b_i=widgets.slider("input bias", -1.0, -8.0, 2.0, 0.25),
    delay=widgets.slider("delay", 60, 10, 200, 10),
)


# %%
def predicted(b_f: float, b_i: float, delay: int) -> float:
    """The share of right answers, if the noise in the last state is normal: your cell_gradient weighs bit and noise."""
    f, i = torch.sigmoid(torch.tensor([b_f, b_i]))
    kept = cell_gradient(f.expand(delay + 1, 1, 1))[:, 0, 0]
    noise = i * torch.tanh(3 * NOISE).std() * kept[1:].norm()
    return torch.special.ndtr(math.tanh(3.0) * kept[0] / noise).item()


# %% tags=["demo"]
print(f"standard deviation of a candidate in noise: {torch.tanh(3 * NOISE).std():.2f}")
print(f"delay 100, forget bias 8, input bias 0: {right_share(written_and_kept(8.0, 0.0, 100)):.1%} right")
ticks = [k / 4 for k in range(-32, 9)]
b_i = max(b for b in ticks if right_share(written_and_kept(8.0, b, 100)) >= 0.99)
print(f"largest input bias with 99 % right:  {b_i:.2f}, where i = {1 / (1 + math.exp(-b_i)):.3f}")
b_f = min(k / 4 for k in range(41) if right_share(written_and_kept(k / 4, b_i, 100)) >= 0.99)
share = cell_gradient(torch.sigmoid(torch.tensor(b_f)).expand(101, 1, 1))[0].item()
print(f"smallest forget bias with it:        {b_f:.2f}, where {share:.2g} of the bit is left")
for biases in ((8.0, 0.0), (8.0, b_i), (b_f, b_i), (4.0, b_i), (4.0, -4.0)):
    found, expected = right_share(written_and_kept(*biases, 100)), predicted(*biases, 100)
    print(
        f"forget bias {biases[0]:.2f}, input bias {biases[1]:5.2f}: {expected:6.1%} predicted, {found:6.1%} found"
    )

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# With $b_i = 0$ half of every noise value is written, and an open forget gate keeps it all: 56.0 % are right, hardly better than a coin. The
# bit itself is there, hidden under the noise, which has the size $0.5 \cdot 0.86 \cdot \sqrt{100} \approx 4$. For 99 % the noise has to be smaller by a
# factor of about ten: $i \cdot 0.86 \cdot 10 = 1/2.33$ gives $i = 0.05$ and $b_i = \ln(0.05/0.95) = -2.9$. The control finds $-3.00$.
# With it, the forget bias may fall to 5.75: 73 % of the bit is left. With a still lower input bias it may fall further. What has to be large is the
# *ratio* of what is left of the bit to what is left of the noise.
#
# </details>
#
# So a cell that keeps its values for long has to write little. If the forget gate starts at $+b$, let the input gate start at $-b$. Since
# $\sigma(-b) = 1 - \sigma(b)$, the two then add up to 1,
#
# $$ b_i = -b_f \quad \Rightarrow \quad i = 1 - f , $$
#
# and the cell state is a *weighted mean* instead of a growing sum: for constant gates the candidates have the weights
# $D_t\, i = f^{T-1-t} (1 - f)$, which add up to $1 - f^T$, and $c_{-1}$ has the rest. The noise in the state can no longer grow without
# bound: $\sum_t D_t^2 < 1/(1 - f^2)$, so it stays below $s \sqrt{(1 - f)/(1 + f)}$ for any $T$. Tallec and Ollivier (2018) propose this start, with a
# different $b$ for each unit. For $T_{max} = 40$ their largest is $\ln 39 = 3.66$, which leaves 37 % after 39 steps; yours is 4.02 and leaves one half.
# <!-- not printed: 37 % (39/40 to the power of 39) -->
#
# ### Exercise 4 · gate_biases  ●○○  5 minutes
#
# Write this start into the biases of an LSTM. Two traps wait here. The blocks: which rows belong to $f$ and $i$? And the two biases:
# each gate sees the *sum* of its parts of `b_ih` and `b_hh`, and both hold random numbers already.


# %% gate_biases tags=["exercise"]
def gate_biases(
    b_ih: Float[Tensor, "4*hidden"], b_hh: Float[Tensor, "4*hidden"], bias: float
) -> tuple[Float[Tensor, "4*hidden"], Float[Tensor, "4*hidden"]]:
    """Biases of an LSTM whose forget gates start at +bias and whose input gates start at -bias.

    Arguments:
        b_ih, b_hh: the biases of an LSTM, blocks in the order i, f, g, o; they are not changed.
        bias: what the two biases of every forget gate have to add up to.

    Returns:
        New (b_ih, b_hh), of the same shapes and dtypes; float64 is not rounded to float32 on the way, and a later call does not
        change the result of an earlier one. Their sum is +bias for every forget gate, -bias for every input gate, and what
        it was for g and o. How a sum is split between the two does not matter.

    Example:
        One unit: b_ih = [0.1, 0.2, 0.3, 0.4], b_hh = [0.5, 0.6, 0.7, 0.8] and bias = 4.0 may give
        [-4.0, 4.0, 0.3, 0.4] and [0.0, 0.0, 0.7, 0.8], whose sum is [-4.0, 4.0, 1.0, 1.2].
    """
    ### BEGIN SOLUTION
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[: 2 * hidden] = 0.0
    return b_ih, b_hh
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# With $H$ = a quarter of the length, the rows `0:H` belong to $i$ and the rows `H:2*H` to $f$. Put the whole bias into one vector and 0
# into the same rows of the other one.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `b_ih = b_ih.clone()`, then `b_ih[:H] = -bias` and `b_ih[H:2*H] = bias`. For `b_hh`: a clone with `b_hh[:2*H] = 0`.
#
# </details>
#
# <details>
# <summary>"My gates start at twice the bias"</summary>
#
# You wrote it into both vectors. In frameworks with a single bias the advice "set the forget bias to 1" is one assignment; with
# PyTorch's two, doing the same to both gives 2.
#
# </details>

# %% check_gate_biases tags=["check"]
check.gate_biases(gate_biases)

# %% [markdown]
# **See it.** The gates of a fresh `torch.nn.LSTM` with 8 units on 200 of our sequences, before and after your biases.


# %%
def gates_at_start(layer: nn.LSTM, x: Float[Tensor, "batch time 2"]) -> tuple[Tensor, Tensor]:
    """Input and forget gates [time, batch, hidden] of a layer, run step by step with your lstm_step."""
    weights = [value.detach() for value in layer.parameters()]
    W_ih, W_hh, b_ih, b_hh = weights
    state, found = (torch.zeros(len(x), layer.hidden_size),) * 2, []
    for x_t in x.unbind(dim=1):
        found.append(torch.sigmoid(x_t @ W_ih.T + b_ih + state[0] @ W_hh.T + b_hh))
        state = lstm_step(x_t, state, *weights)
    i, f, _, _ = torch.stack(found).chunk(4, dim=2)
    return i, f


# %% tags=["demo"]
torch.manual_seed(0)
layer = nn.LSTM(2, 8)
x, _, _ = marked_bits(200, 40, 2 / 3, torch.Generator().manual_seed(2))
before = gates_at_start(layer, x)
with torch.no_grad():
    b_ih, b_hh = gate_biases(layer.bias_ih_l0, layer.bias_hh_l0, forget_bias(39, 0.5))
    layer.bias_ih_l0.copy_(b_ih)
    layer.bias_hh_l0.copy_(b_hh)
after = gates_at_start(layer, x)

fig, axes = plotting.figure(1, 2, width=9, height=3, sharey=True)
for ax, (i, f), title in zip(axes, (before, after), ("as torch starts it", "with your biases"), strict=True):
    plotting.two_histograms(
        ax,
        {"input gate i": i.flatten(), "forget gate f": f.flatten()},
        torch.linspace(0, 1, 51),
        xlabel="value of the gate",
        ylabel="",
    )
    ax.set(title=title, yscale="log", ylim=(0.5, 3e7))
    left = cell_gradient(f)[0].mean()
    print(
        f"{title:18}: mean of f {f.mean():.3f}, of i {i.mean():.3f}; share of step 0 left at step 39: {left:.1e}"
    )
axes[0].set(ylabel="gates (count)")
plotting.caption(
    fig,
    "All gates of all steps, sequences and units. Left: everything is half open. Right: see where the two groups have moved. Logarithmic "
    "counts.",
)

# %% [markdown]
# ## The GRU: one gate for both
#
# If $i$ and $f$ belong together, why have two gates? The **GRU** ties them: one update gate $z_t$ mixes the old state with the candidate,
#
# $$ h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1} . $$
#
# Compare with the cell rule: $z_t$ is the forget gate, $1 - z_t$ the input gate. As $h_t$ is a mean of $h_{t-1}$ and of a value
# in $(-1, 1)$, it stays in $(-1, 1)$ by itself. So it needs no tanh on the way out and serves as the output as it is: there is one state
# instead of two, and no output gate that could hide it. Along this path, with $z_t$ and $n_t$ held fixed,
# $\partial h_t / \partial h_{t-1} = z_t$, and your `cell_gradient` serves it as well. What the output gate did for the other units, a
# **reset gate** $r_t$ does for the candidate. It decides how much of the old state the candidate may see:
#
# $$
# \begin{aligned}
# r_t &= \sigma( W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr} ) \\
# z_t &= \sigma( W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz} ) \\
# n_t &= \tanh\!\big( W_{in} x_t + b_{in} + r_t \odot ( W_{hn} h_{t-1} + b_{hn} ) \big)
# \end{aligned}
# $$
#
# **Where does $r$ stand?** In the first paper (Cho et al., 2014) it multiplies the *state*, before the product:
# $W_{hn} ( r_t \odot h_{t-1} )$. PyTorch, like cuDNN, multiplies the *result of the product*, with its bias. These are two different
# functions: in the first, $r$ weighs the old units that are listened to; in the second, the new units that listen. The reason for
# the second is speed. $W_{hr} h$, $W_{hz} h$ and $W_{hn} h$ can be computed in one matrix product, because none of them has to wait for
# $r$. Weights trained with one variant are wrong for the other. (The first paper also gives $z$ to $h_{t-1}$, as here; others turn it
# round.)
#
# ### Exercise 5 · gru_step  ●●○  8 minutes
#
# Write PyTorch's variant. The blocks are in the order **r, z, n**. Here the two biases are not interchangeable: $b_{hn}$ stands inside
# the bracket that $r$ multiplies. As before: no overflow for large arguments, also in the gradients, which flow back to all inputs; $h$ is not
# changed, and the result is a new tensor.


# %% gru_step tags=["exercise"]
def gru_step(
    x: Float[Tensor, "batch input"],
    h: Float[Tensor, "batch hidden"],
    W_ih: Float[Tensor, "3*hidden input"],
    W_hh: Float[Tensor, "3*hidden hidden"],
    b_ih: Float[Tensor, "3*hidden"],
    b_hh: Float[Tensor, "3*hidden"],
) -> Float[Tensor, "batch hidden"]:
    """One step of a GRU, for every sequence of a batch.

    Arguments:
        x: the input at this time. h: the state after the previous time; it is not changed.
        W_ih, W_hh, b_ih, b_hh: weights and biases in PyTorch's layout, blocks in the order r, z, n.

    Returns:
        The new state, in the dtype of the inputs; with float64 everything in between is float64, too.

    Example:
        One unit, one input: x = [[1.0]], h = [[0.5]], W_ih = [[1.0], [2.0], [0.5]], W_hh = [[0.0], [-2.0], [1.0]],
        b_ih = [0.0, 0.0, 0.0], b_hh = [0.0, 0.0, 0.2]. Then r = z = sigmoid(1.0) = 0.7311, n = tanh(0.5 + 0.7311 * 0.7) = 0.7665
        and h = 0.2689 * 0.7665 + 0.7311 * 0.5 = 0.5717.
    """
    ### BEGIN SOLUTION
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Compute $x W_{ih}^T + b_{ih}$ and $h W_{hh}^T + b_{hh}$, and do *not* add them: for the candidate they must be apart, because $r$
# multiplies only the second. Cut both into three blocks.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)`, the same for `h`; then `n = torch.tanh(n_x + r * n_h)`.
#
# </details>
#
# <details>
# <summary>"It is right as long as all biases are zero"</summary>
#
# Then $b_{hn}$ stands outside of the bracket. If it is wrong with zero biases too, look at where $r$ stands: at the product, not at the
# state. For $h = 0$ and zero biases all variants agree.
#
# </details>

# %% check_gru_step tags=["check"]
check.gru_step(gru_step)

# %% [markdown]
# **See it.** Your two cells, unrolled over 50 steps, beside `torch.nn.LSTM` and `torch.nn.GRU` with the same weights, in float32
# and in float64. One rounding is $2^{-24}$ and $2^{-53}$; a difference of a few roundings is a difference in the order of sums. The lines
# named "r before the product" run the GRU of the first paper with the same weights: it is another function.


# %%
def unrolled(
    step: Callable, layer: nn.RNNBase, x: Float[Tensor, "time batch input"]
) -> Float[Tensor, "time batch hidden"]:
    """The outputs of your step with the weights of a torch layer, from zero states."""
    weights = [value.detach() for value in layer.parameters()]
    h = torch.zeros(x.shape[1], layer.hidden_size, dtype=x.dtype)
    state, out = ((h, h) if isinstance(layer, nn.LSTM) else h), []
    for x_t in x:
        state = step(x_t, state, *weights)
        out.append(state[0] if isinstance(layer, nn.LSTM) else state)
    return torch.stack(out)


def gru_of_the_first_paper(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    """The variant with r at the state, before the product."""
    n = len(b_ih) // 3
    r, z = torch.sigmoid(x @ W_ih[: 2 * n].T + b_ih[: 2 * n] + h @ W_hh[: 2 * n].T + b_hh[: 2 * n]).chunk(
        2, dim=1
    )
    candidate = torch.tanh(x @ W_ih[2 * n :].T + b_ih[2 * n :] + (r * h) @ W_hh[2 * n :].T + b_hh[2 * n :])
    return (1 - z) * candidate + z * h


# %% tags=["demo"]
for dtype, rounding in ((torch.float32, 2.0**-24), (torch.float64, 2.0**-53)):
    torch.manual_seed(0)
    x = torch.randn(50, 16, 5, dtype=dtype)
    for name, kind, step in (
        ("lstm_step", nn.LSTM, lstm_step),
        ("gru_step", nn.GRU, gru_step),
        ("r before the product", nn.GRU, gru_of_the_first_paper),
    ):
        layer = kind(5, 32, dtype=dtype)
        largest = (unrolled(step, layer, x) - layer(x)[0]).abs().max().item()
        print(
            f"{str(dtype)[6:]}, {name:20}: largest difference {largest:.1e}, or {largest / rounding:.2g} roundings"
        )

# %% [markdown]
# ## Test the claim
#
# Now the harder task: 40 steps, and in two of three sequences a second marked bit, at one of the times 1 to 7, replaces the first.
# So the bit that is asked for has to wait for 32 to 39 steps, and an old bit has to go. Three ways to do it badly:
#
# | strategy | right over all sequences | right where the second bit is not the first |
# |---|---|---|
# | a coin | $\tfrac12$ | $\tfrac12$ |
# | keep the first bit, never replace it | $\tfrac13 + \tfrac23 \cdot \tfrac12 = \tfrac23$ | $0$ |
# | keep both and add them; a coin where they cancel | $\tfrac13 + \tfrac23 \left( \tfrac12 + \tfrac12 \cdot \tfrac12 \right) = \tfrac56$ | $\tfrac12$ |
#
# All networks have about 400 numbers; the Elman networks have the most. There are three networks of each kind, and all get the same batches, 150 of them.
# Adam's learning rate starts at 0.01 for the Elman networks and at 0.06 for the others.
# <!-- not printed: 0.06 (it stands in the code of the training) -->
#
# - **Elman**, with PyTorch's start, and with an orthogonal $W_{hh}$ (factor 1): *negative controls*.
# - **LSTM** with your `gate_biases` at 0 and at 1: *negative controls*. Half-lives of 1.0 and 2.2 steps.
# - **LSTM, forget only**: the forget gates have the bias `forget_bias(39, 0.5)`, the input gates the bias 0. They keep the bit, and
#   they write half of the noise.
# - **LSTM, bias derived**: `gate_biases` at `forget_bias(39, 0.5)`. Half of what is written at time 0 is left at time 39. All four kinds
#   of LSTM start with the same random numbers. Only the biases of two gates differ.
# - **GRU** with the same bias at its update gate. It learns faster, so it gets the first 100 batches only.


# %%
def elman_orthogonal(n: int, hidden: int, seed: int) -> dict[str, Tensor]:
    """Elman networks whose W_hh is a random orthogonal matrix: every direction keeps its length."""
    weights, gen = new_networks(1, hidden, n, seed), torch.Generator().manual_seed(seed)
    weights["W_hh"] = torch.linalg.qr(torch.randn(n, hidden, hidden, generator=gen))[0]
    return weights


def lstms(biases: list[tuple[float, float]], n: int, hidden: int, seed: int) -> dict[str, Tensor]:
    """For each pair of biases n LSTMs that start with the same weights: +first at the forget, -second at the input gates."""
    same = new_networks(4, hidden, n, seed)
    weights = {name: torch.cat([value] * len(biases)) for name, value in same.items()}
    for k, (forget, write) in enumerate(pair for pair in biases for _ in range(n)):
        given = weights["b_ih"][k], weights["b_hh"][k]
        both = zip(gate_biases(*given, write), gate_biases(*given, forget), strict=True)
        for values, (for_input, others) in zip(given, both, strict=True):
            values.copy_(torch.cat([for_input[:hidden], others[hidden:]]))
    return weights


def grus(bias: float, n: int, hidden: int, seed: int) -> dict[str, Tensor]:
    """GRUs whose update gate starts at a bias; it is the second block."""
    weights = new_networks(3, hidden, n, seed)
    weights["b_ih"][:, hidden : 2 * hidden], weights["b_hh"][:, hidden : 2 * hidden] = bias, 0.0
    return weights


def gradient_profile(step: Callable, weights: dict[str, Tensor], steps: int) -> Float[Tensor, "steps n"]:
    """The size of d logit / d state after each step, for every network, relative to the last step.

    The state is c for an LSTM and h otherwise. All paths count, also the one through the gates.
    """
    x, _, _ = marked_bits(64, steps, 2 / 3, torch.Generator().manual_seed(5))
    logits, states = run(step, {name: value.detach().requires_grad_() for name, value in weights.items()}, x)
    cells = [state[1] if isinstance(state, tuple) else state for state in states]
    grads = torch.autograd.grad(logits.sum(), cells)
    sizes = torch.stack([grad.unflatten(1, (logits.shape[1], -1)).norm(dim=2).mean(0) for grad in grads])
    return sizes / sizes[-1]


@torch.no_grad()
def right_answers(step: Callable, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Fractions of right answers on new sequences, for every network: all, and where the second bit is not the first."""
    x, bit, _ = marked_bits(2000, 40, 2 / 3, torch.Generator().manual_seed(6))
    right = ((run(step, weights, x)[0] > 0) == (bit[:, None] > 0.5)).float()
    return right.mean(0), right[second_differs(x, bit)].mean(0)


# %%
def all_networks(elman_step: Callable, seed: int = 0) -> dict[str, tuple[Callable, dict[str, Tensor]]]:
    """The step and the untrained weights, three networks of each kind; all Elman networks and all LSTMs side by side."""
    bias = forget_bias(39, 0.5)
    starts = new_networks(1, 18, 3, seed), elman_orthogonal(3, 18, seed)
    biases = [(0.0, 0.0), (1.0, 1.0), (bias, 0.0), (bias, bias)]
    return {
        "Elman": (elman_step, {name: torch.cat([start[name] for start in starts]) for name in starts[0]}),
        "LSTM": (lstm_step, lstms(biases, 3, 8, seed)),
        "GRU": (gru_step, grus(bias, 3, 9, seed)),
    }


COLORS = {
    "Elman": plotting.VERMILLION,
    "Elman, orthogonal": plotting.PURPLE,
    "LSTM, bias 0": plotting.ORANGE,
    "LSTM, bias 1": plotting.SKY,
    "LSTM, forget only": plotting.BLACK,
    "LSTM, bias derived": plotting.BLUE,
    "GRU, bias derived": plotting.GREEN,
}


def by_name(results: dict[str, Tensor]) -> dict[str, Tensor]:
    """Results [..., networks] taken apart, three networks for each name."""
    parts = [part for result in results.values() for part in result.split(3, -1)]
    return dict(zip(COLORS, parts, strict=True))


# %% [markdown]
# First a measurement before training. How large is the gradient of the answer with respect to the state at each step? Automatic
# differentiation takes *all* paths, also the one through $h_{t-1}$ and the gates that the product leaves out. Beside it (dashed)
# the product alone: your `cell_gradient` of the gate $\sigma(b)$.

# %% tags=["demo"]
networks = all_networks(rnn_step)
BIASES = {
    "bias 0": 0.0,
    "bias 1": 1.0,
    "bias derived": forget_bias(39, 0.5),
    "forget only": forget_bias(39, 0.5),
}
profiles = by_name({name: gradient_profile(step, weights, 40) for name, (step, weights) in networks.items()})
fig, ax = plotting.figure(width=8.5, height=4)
for name, profile in profiles.items():
    style = ":" if name.startswith("GRU") else "-"
    ax.semilogy(
        profile.log().mean(1).exp(),
        style,
        color=COLORS[name],
        label=name,
        linewidth=3 if style == ":" else 1.8,
    )
for bias in BIASES.values():
    product = cell_gradient(torch.full((40, 1, 1), bias).sigmoid())[:, 0, 0]
    ax.semilogy(product, "--", color=plotting.GREY, linewidth=1.2)
ax.semilogy([], [], "--", color=plotting.GREY, linewidth=1.2, label="cell_gradient")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
ends = {name: float(profile[0].log().mean().exp()) for name, profile in profiles.items()}
ax.set(xlabel="time step t", ylabel="gradient, relative to the last step", xlim=(0, 39), ylim=(1e-12, 10))
plotting.caption(
    fig,
    "Before training, geometric means over three networks. Coloured and black: the gradient through all paths. Dashed: cell_gradient alone, "
    "for the biases 0, 1 and the derived one. At step 0 the bit is read: see how much of the gradient arrives there.",
)
print("gradient at step 0, before training, relative to the last step     cell_gradient")
for name, value in ends.items():
    bias = BIASES.get(name.partition(", ")[2])
    product = "" if bias is None else f"{cell_gradient(torch.full((40, 1, 1), bias).sigmoid())[0].item():.1e}"
    print(f"{name:20} {value:30.1e} {product:>30}")
cold_open = gradient_profile(rnn_step, new_networks(1, 18, 3, seed=0), 11)[0]
print(f"{'Elman, 11 steps':20} {float(cold_open.log().mean().exp()):30.1e}")

# %% [markdown]
# Of the gradient that the last step receives, $5.5 \cdot 10^{-11}$ arrives at the first step of the Elman network. With the derived bias about half
# arrives, in the LSTM and in the GRU, as you computed: their lines lie on the dashed one. So the path that the product leaves
# out adds little there.
#
# For the bias 0 it is the other way round: the whole gradient is $2.6 \cdot 10^{-9}$, and the cell path alone gives $1.8 \cdot 10^{-12}$. Nearly
# all of it came the long way, through $W_{hh}$, and faded as in an Elman network. "An LSTM has no vanishing gradients" is true only for
# open gates.
#
# Two lines should make you curious. The orthogonal Elman network receives 1 % of the gradient. That is ten times as much as the Elman network for
# 11 steps had, and that one learned its task. And the LSTM with nothing but an open forget gate receives no less than the one with both
# biases. If the gradient were all, both would have to succeed.

# %% tags=["demo"]
networks = all_networks(rnn_step)
curves, curves_second, all_right, second_right = {}, {}, {}, {}
for name, (step, weights) in networks.items():
    rate = 0.01 if step is rnn_step else 0.06
    updates = 100 if name == "GRU" else 150  # the GRUs have learned it by then
    curves[name], curves_second[name] = train(step, weights, 40, 2 / 3, lr=rate, label=name, updates=updates)
    all_right[name], second_right[name] = right_answers(step, weights)
numbers = {
    name: sum(value[0].numel() for value in weights.values()) for name, (_, weights) in networks.items()
}
print("right answers, three networks each            all sequences  second is not first")
second = by_name(second_right)
for name, right in by_name(all_right).items():
    size = numbers[name.partition(",")[0]]
    columns = ["  ".join(f"{value:.3f}" for value in part) for part in (right, second[name])]
    print(f"{name:20} {size} numbers {columns[0]:>28}  {columns[1]:>19}")
early = [by_name(found)["LSTM, bias derived"][40:50].mean() for found in (curves, curves_second)]
print(
    f"LSTM, bias derived, training steps 41 to 50: {early[0]:.2f} of all, {early[1]:.2f} where the second is not the first"
)

fig, (old, new) = plotting.figure(1, 2, width=10.5, height=3.9, sharey=True)
for name, right in by_name(curves).items():
    ax = old if name.startswith("Elman") else new
    for curve in smooth(right).T:
        ax.plot(torch.arange(20, 20 + len(curve)), curve, color=COLORS[name], linewidth=1.3)
for ax, title in ((old, "without gates"), (new, "with gates")):
    for level, style in ((1 / 2, "--"), (2 / 3, ":"), (5 / 6, "-.")):
        ax.axhline(level, color=plotting.GREY, linewidth=1, linestyle=style)
    ax.set(title=title, xlabel="training step", xlim=(20, 150), ylim=(0.38, 1.03))
    for name in COLORS:
        if name.startswith("Elman") == (ax is old):
            ax.plot([], [], color=COLORS[name], label=name)
old.legend(loc="upper left", bbox_to_anchor=(0, 0.97))
new.legend(loc="upper left", bbox_to_anchor=(1, 1))
old.set(ylabel="right answers (fraction)")
plotting.caption(
    fig,
    "Averages over 20 batches, one line for each network. Dashed: a coin. Dotted: keep the first bit. Dash-dotted: keep both and add. "
    "All networks with both derived biases leave the three lines behind. See where they rest before.",
)

# %% [markdown]
# The LSTMs and GRUs with the derived bias make hardly a mistake, whether the bit was replaced or not. The same LSTMs with the bias 0 or 1 stay
# where the coin is, and so do the Elman networks from PyTorch's start. (The coin often shows 0.507 because this share of the 2000 test
# sequences has the same bit, and a network that knows nothing mostly gives the same answer throughout.)
#
# **Keeping alone.** The best of the orthogonal Elman networks comes near $\tfrac23$. Where the second bit is not the first, it is mostly *wrong*,
# so it is no coin: it keeps the first bit and has not learned to replace it. The gradient reached it. What it lacks is a factor that is near 1 in
# noise and near 0 at a mark. The LSTMs with an open forget gate alone have that, and most of them stay at the coin too: the bit is kept, in
# the noise that the half-open input gates write. One gets as far as keeping both bits and adding them. A gate for keeping is half of
# it, as with the latch.
#
# **Keeping, then replacing.** The LSTMs with both biases first rest at about 0.8. There, where the second bit is not the first, about 0.4 of the answers
# are right, not far from a coin; so in all other sequences nearly all are. This is close to the last row of the table: both bits are kept and added,
# as by a factor of 1. Then the network learns what only a gate can do, and the line goes to 1.
#
# We repeated this with two more seeds, and for the Elman networks with the learning rates 0.003 and 0.03
# ([`benchmarks/results/rnn_gates.md`](../../benchmarks/results/rnn_gates.md)). All nine LSTMs and all nine GRUs with the derived bias
# are right in more than 99 %, all eighteen LSTMs with the bias 0 or 1 are at the coin. Of the nine LSTMs with open forget gates alone
# one succeeded, and one stayed at adding both bits; rounding decides which ones. Of 54 Elman networks none came above 0.71, and none
# above 0.55 where the second bit is not the first.
#
# <!-- not printed: 0.003, 0.03, 99 %, 54, 0.71, 0.55 (benchmarks/results/rnn_gates.md) -->
#
# ### What did it learn?
#
# Take one of the trained LSTMs and look inside while it reads a sequence with two bits.


# %%
@torch.no_grad()
def inside(
    weights: dict[str, Tensor], k: int, x: Float[Tensor, "batch time 2"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Input gates, forget gates and cell states [time, batch, hidden] of network k."""
    W_ih, W_hh, b_ih, b_hh = (weights[name][k] for name in ("W_ih", "W_hh", "b_ih", "b_hh"))
    state, found = (torch.zeros(len(x), W_hh.shape[1]),) * 2, []
    for x_t in x.unbind(dim=1):
        i, f, _, _ = torch.sigmoid(x_t @ W_ih.T + b_ih + state[0] @ W_hh.T + b_hh).chunk(4, dim=1)
        state = lstm_step(x_t, state, W_ih, W_hh, b_ih, b_hh)
        found.append(torch.stack([i, f, state[1]]))
    return torch.stack(found, dim=1).unbind(0)


# %% tags=["demo"]
x, bit, replaced = marked_bits(1000, 40, 2 / 3, torch.Generator().manual_seed(8))
by_hand = run_latch(x, 8.0, -8.0) > 0
i, f, c = inside(networks["LSTM"][1], 9, x)
row = int(
    (replaced & (x[:, 0, 0] < 0) & (bit > 0) & (x[:, 5, 1] > 0)).nonzero()[0]
)  # first -1, then +1 at time 5
fig, axes = plotting.figure(1, 2, width=10, height=3.5, sharey=True)
for ax, values, title in zip(axes, (i, c), ("input gate i", "cell state c"), strict=True):
    plotting.heatmap(
        ax,
        values[:, row].T.clamp(-1, 1),
        xlabel="time step t",
        ylabel="",
        row_labels=[f"unit {k}" for k in range(8)],
        bar_label="",
    )
    ax.set(title=title)
plotting.caption(
    fig,
    "One sequence: the bit is $-1$ at time 0, and $+1$ from time 5 on. Left: see which input gates open at times 0 and 5. Right: blue is positive, "
    "orange-red negative, the colours end at 1. See which units change there, and which ones grow later.",
)
marks = x[:, :, 1].T > 0
tells = [
    ((c[t] > 0) == (bit[:, None] > 0.5)).float().mean(0).sub(0.5).abs() + 0.5 for t in (7, 39)
]  # either sign
unit = int(tells[0].argmax())
print(
    f"the latch by hand tells the bit at step 39 in {(by_hand[39] == (bit > 0.5)).float().mean():.1%} of 1000 sequences"
)
print(
    f"unit {unit}: its sign tells the bit at step 7 in {tells[0][unit]:.1%}, at step 39 in {tells[1][unit]:.1%}"
)
for name, gate in (("input", i), ("forget", f)):
    print(
        f"its {name} gate: at marks {gate[marks][:, unit].mean():.2f}, in noise {gate[~marks][:, unit].mean():.2f}"
    )

# %% [markdown]
# Here is your latch, found by training: a unit whose input gate opens at the marks, more than in noise, and whose forget gate falls there. It tells
# the bit at step 7 nearly always, and at step 39 in most sequences. Two things differ from the latch by hand. Several units share
# the work. And some units start late and then grow and grow. They hardly react to the marks, so they hear of the bit from other units,
# through $W_{hh}$: the network also *amplifies* the bit, as the carry unit of notebook 01 did. Keeping by a gate came first; without it there
# would have been no gradient to find the rest.
#
# ## What you built
#
# 1. An LSTM and a GRU step that equal PyTorch's up to rounding, and the reason for the difference between the two GRUs.
# 2. The derivative along the cell path, $D_t = \prod_{s>t} f_s$: the gradient fades as fast as the gates let it, and the network sets
#    the gates. From it a bias, $b = -\ln( \text{keep}^{-1/T} - 1 )$, that decided between a coin and the solution.
# 3. A cell that keeps much must write little: $b_i = -b_f$, and the GRU has it built in.
#
# **Limits.** A product of gates below 1 still fades exponentially; the gate moves the half-life, it does not remove it. The bias needs
# a guess of how long the memory has to be. 150 training steps are few: data that contain short delays too may help the networks that fail here,
# as they helped the adder of notebook 01. (More steps alone did not: the LSTMs with the bias 0 or 1 and the Elman networks did not have it after 1000.) The
# argument covers the path along the cell. The path through $W_{hh}$ remains, and it can explode: clipping, from notebook 02, is
# still needed. And the state has a fixed size: what does not fit is lost, whatever the gates do. Attention, later in the
# course, stores everything instead.
#
# <!-- not printed: 1000 (benchmarks/results/rnn_gates.md) -->
#
# **Cost.** An Elman layer has $HI + H^2 + 2H$ numbers; an LSTM with the same $H$ has four times as many, a GRU three times, and the multiplications
# per step grow in the same way. Memory for training grows with $T$ as before. For each step the LSTM needs about seven vectors of
# length $H$ for the backward pass ($i, f, g, o, c, \tanh c, h$), where the Elman layer needs one. The steps still wait for each other.
#
# ## Sources
#
# - Y. Bengio, P. Simard, P. Frasconi, *Learning Long-Term Dependencies with Gradient Descent is Difficult*, IEEE Transactions on Neural
#   Networks 5 (1994), pages 157–166: what a network keeps safely, its gradient does not see.
# - S. Hochreiter, J. Schmidhuber, *Long Short-Term Memory*, Neural Computation 9 (1997), pages 1735–1780: the cell with a fixed factor
#   of 1, input gate and output gate.
# - F. A. Gers, J. Schmidhuber, F. Cummins, *Learning to Forget: Continual Prediction with LSTM*, Neural Computation 12 (2000), pages
#   2451–2471: the forget gate.
# - K. Cho et al., *Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine Translation*, 2014,
#   arXiv:1406.1078, section 2.3: the gated unit that is now called GRU, with $r$ before the product.
# - R. Jozefowicz, W. Zaremba, I. Sutskever, *An Empirical Exploration of Recurrent Network Architectures*, ICML 2015: the advice to start
#   the forget bias at 1.
# - C. Tallec, Y. Ollivier, *Can recurrent neural networks warp time?*, ICLR 2018, arXiv:1804.11188: $b_f$ is the logarithm
#   of a number drawn uniformly from 1 to $T_{max} - 1$, and $b_i = -b_f$.
# - PyTorch, [`torch.nn.LSTM`](https://pytorch.org/docs/stable/generated/torch.nn.LSTM.html) and
#   [`torch.nn.GRU`](https://pytorch.org/docs/stable/generated/torch.nn.GRU.html): formulas, order of the blocks, and a note on where $r$ stands.
