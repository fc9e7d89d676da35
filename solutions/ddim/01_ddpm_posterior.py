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
# # From noise to a picture, one small step at a time
#
# *Sampling in few steps, part 1 of 4: what DDPM learns, and what it pays.*
#
# **Claim.** The step back from a noisy picture to a slightly less noisy one, when the clean picture is known, is a Gaussian whose mean and
# variance you compute on paper: they equal Bayes' rule on a grid up to rounding. With it, a network that has learned nothing but to predict
# noise draws handwritten digits, and pays for each of them with 1000 calls.
#
# | | |
# |---|---|
# | **Time** | about 40 minutes; the code runs for about ten seconds |
# | **You need** | the density of a Gaussian, Bayes' rule, a training loop in PyTorch |
# | **Graded** | four exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | the forward process, its posterior, the loss, and a sampler that works and is slow |

# %% setup
import math
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import trange

import utils
from autograde import open_lesson
from utils import data, plotting, training

utils.setup()
check = open_lesson("ddim/01_ddpm_posterior")

# %% [markdown]
# ## The problem: one guess is not enough
#
# We want to draw new pictures from the distribution that a data set comes from. Our data are the 1797 handwritten digits of 8 by 8 pixels
# of scikit-learn, with values from $-1$ to $1$.
#
# An idea: mix a picture with noise, and learn to guess the picture from the mixture. Then hand in pure noise, and the guess is a new picture. For a
# finite set of pictures the best guess, the one with the smallest mean squared error, needs no network. It is the average of all
# pictures, each weighted with the probability that it is the one behind the noise.


# %%
@cache
def pictures() -> tuple[Float[Tensor, "n 64"], Int[Tensor, "n"]]:
    """The digits between -1 and 1, and what they show."""
    return data.digits()


def best_guess(x: Float[Tensor, "batch 64"], signal: float, noise: float) -> Float[Tensor, "batch 64"]:
    """The mean of all digits, weighted by how probable each is behind x = signal * digit + noise * standard normal."""
    clean, _ = pictures()
    square = torch.cdist(x, signal * clean).square()
    return (-square / (2 * noise**2)).softmax(1) @ clean


def show_digits(axes: list, rows: Float[Tensor, "n 64"], *, xlabel: str = "", ylabel: str = "") -> None:
    """One digit on each of the axes."""
    for ax, row in zip(axes, rows, strict=True):
        ax.imshow(row.reshape(8, 8).detach(), cmap="Greys", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
    axes[0].set(xlabel=xlabel, ylabel=ylabel)


# %% tags=["demo"]
clean, _ = pictures()
gen = torch.Generator().manual_seed(0)
shares = (0.95, 0.7, 0.4, 0.2, 0.08, 0.02, 0.0)
noisy = torch.stack(
    [math.sqrt(s) * clean[5] + math.sqrt(1 - s) * torch.randn(64, generator=gen) for s in shares]
)
guessed = torch.cat(
    [best_guess(x[None], math.sqrt(s), math.sqrt(1 - s)) for x, s in zip(noisy, shares, strict=True)]
)
fig, axes = plotting.figure(2, 7, width=9, height=3.4)
show_digits(axes[0], noisy, ylabel="noisy")
show_digits(axes[1], guessed, ylabel="best guess")
for ax, share in zip(axes[1], shares, strict=True):
    ax.set(xlabel=f"{share:.0%} signal")
plotting.caption(
    fig,
    "A digit with more and more noise, and the best guess of the clean one. The share of signal is that of the variance. On the right there is "
    "nothing but noise: see what the guess is there.",
)
from_noise = best_guess(torch.randn(100, 64, generator=gen), 0.0, 1.0)
print(
    f"{len(clean)} digits; spread of a pixel over the digits {clean.std(0).mean():.2f}, over guesses from pure noise {from_noise.std(0).mean():.2f}"
)

# %% [markdown]
# While there is signal, the guess is a digit. From pure noise it is the average of all digits, a grey cloud, whatever the noise: nothing
# in it tells which digit to prefer. One large step cannot decide. Many small ones can: each removes a little noise, keeps the
# rest, and lets the decision grow. This is denoising diffusion (DDPM, Ho, Jain and Abbeel, 2020). We need three things: the way from picture to noise, the
# way back *if the picture were known*, and a network that stands in for the picture.
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $x_0$ | clean picture | `[batch, dim]` |
# | $T$ | number of steps of the way to noise | 1000 |
# | $t$ | time: $0$ has the least noise, $T - 1$ is nearly pure noise | whole numbers |
# | $x_t$ | noisy picture after step $t$ | `[batch, dim]` |
# | $\beta_t$ | variance of the noise that step $t$ adds; `betas` | between 0 and 1, `[T]` |
# | $\alpha_t$ | $1 - \beta_t$, the share of variance that step $t$ keeps | |
# | $\bar\alpha_t$ | share of the picture's variance that is left after step $t$; `ab` | `[T]` |
# | $\epsilon$ | the noise in $x_t$, standard normal; `eps` | `[batch, dim]` |
# | $\tilde\mu_t,\ \tilde\beta_t$ | mean and variance of the step back when $x_0$ is known | |
# | $q$ | probabilities of the way forward, which is chosen and not learned | |
#
# The papers count times from 1 to $T$. We count from 0, as tensors do. Before time 0 stands the clean picture, with $\bar\alpha = 1$. And the paper of the notebooks that
# follow writes $\alpha_t$ for what is $\bar\alpha_t$ here.

# %% [markdown]
# ## The way to noise
#
# Each step shrinks what is there and adds fresh noise $z_t$, standard normal:
#
# $$ x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; z_t . $$
#
# If $x_{t-1}$ has variance 1, so has $x_t$, because $(1 - \beta_t) + \beta_t = 1$. Insert the step before into this one:
#
# $$ x_t = \sqrt{\alpha_t \alpha_{t-1}}\; x_{t-2} + \sqrt{\alpha_t \beta_{t-1}}\; z_{t-1} + \sqrt{\beta_t}\; z_t . $$
#
# The two noises are independent, so their variances add: $\alpha_t (1 - \alpha_{t-1}) + 1 - \alpha_t = 1 - \alpha_t \alpha_{t-1}$. The form is that of a single step, with the
# product of the alphas. Go on like this down to $x_0$.
#
# ### Exercise 1 · alpha_bar  ●○○  4 minutes
#
# Return the share of the picture's variance that is left after each step.


# %% alpha_bar tags=["exercise"]
def alpha_bar(betas: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """Share of the picture's variance that is left after each step.

    Arguments:
        betas: variance of the noise that each step adds, between 0 and 1.

    Returns:
        Element t is what is left after the steps 0 to t. Same dtype; gradients flow to betas.

    Example:
        alpha_bar(torch.tensor([0.5, 0.2])) is [0.5, 0.4].
    """
    ### BEGIN SOLUTION
    return torch.cumprod(1 - betas, dim=0)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The first step leaves $1 - \beta_0$. The second leaves $1 - \beta_1$ of that.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `torch.cumprod` of `1 - betas`.
#
# </details>
#
# <details>
# <summary>"My values become negative"</summary>
#
# You subtract sums of betas. Each step takes its share of what the steps before have left, not of the whole: multiply.
#
# </details>

# %% check_alpha_bar tags=["check"]
check.alpha_bar(alpha_bar)

# %% [markdown]
# **See it.** The schedule of DDPM has $T = 1000$ steps, with $\beta$ rising evenly from 0.0001 to 0.02. We compute it in float64, because $1 - \bar\alpha_0 = 0.0001$ is a small
# difference of large numbers.

# %%
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)

# %% tags=["demo"]
levels = alpha_bar(BETAS)
fig, ax = plotting.figure(width=8.5, height=3)
ax.plot(levels, color=plotting.BLUE)
ax.plot(1 - levels, color=plotting.ORANGE)
plotting.label(ax, 1010, float(levels[-1]), "picture", plotting.BLUE)
plotting.label(ax, 1010, float(1 - levels[-1]), "noise", plotting.ORANGE)
ax.set(xlabel="time t", ylabel="share of the variance", xlim=(0, 1130))
plotting.caption(
    fig, "alpha-bar and what it leaves to the noise. See where picture and noise are equally strong."
)
print(f"beta from {BETAS[0]:.4f} to {BETAS[-1]:.2f}; 1 - alpha-bar at time 0 is {1 - levels[0]:.4f}")
print(f"left after 1000 steps: {levels[-1]:.1e}; half is left after {int((levels > 0.5).sum())} steps")

# %% [markdown]
# ### Exercise 2 · q_sample  ●○○  5 minutes
#
# By the same argument $t + 1$ steps can be made in one jump:
#
# $$ x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \epsilon . $$
#
# Training needs only this line: any time is reached without the times before it. Each picture of the batch has its own time.


# %% q_sample tags=["exercise"]
def q_sample(
    x0: Float[Tensor, "batch dim"],
    t: Int[Tensor, "batch"],
    eps: Float[Tensor, "batch dim"],
    ab: Float[Tensor, "T"],
) -> Float[Tensor, "batch dim"]:
    """Noisy pictures at given times, in one jump.

    Arguments:
        x0: clean pictures, not changed.
        t: a time for each picture.
        eps: the noise, standard normal.
        ab: alpha-bar for every time, in the dtype of x0.

    Returns:
        x_t for each picture.

    Example:
        For x0 = [[1.0]], t = [0], eps = [[2.0]] and ab = [0.64]: 0.8 * 1 + 0.6 * 2 = [[2.0]].
    """
    ### BEGIN SOLUTION
    left = ab[t][:, None]
    return left.sqrt() * x0 + (1 - left).sqrt() * eps
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# `ab[t]` has one number per picture. It has to multiply whole rows.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `left = ab[t][:, None]` has the shape `[batch, 1]`. Then write the formula.
#
# </details>
#
# <details>
# <summary>"The sizes of my tensors do not match", or wrong values where the batch is as large as a picture</summary>
#
# A vector of length batch is laid along the *last* dimension, that of the pixels. Where the lengths differ, PyTorch stops. Where they are equal nothing stops, and
# the values are wrong. Give the vector a last dimension of length 1.
#
# </details>

# %% check_q_sample tags=["check"]
check.q_sample(q_sample)

# %% tags=["demo"]
ab, gen = alpha_bar(BETAS).float(), torch.Generator().manual_seed(1)
times = torch.tensor([0, 100, 200, 300, 500, 700, 999])
noisy = q_sample(pictures()[0][9].expand(7, 64), times, torch.randn(7, 64, generator=gen), ab)
fig, axes = plotting.figure(1, 7, width=9, height=1.9)
show_digits(axes, noisy, ylabel="$x_t$")
for ax, t in zip(axes, times, strict=True):
    ax.set(xlabel=f"t = {t}")
plotting.caption(fig, "A digit at seven times. See until when you can read it.")
short, x = torch.linspace(0.02, 0.2, 10), torch.full((200_000, 1), 1.5)
for beta in short:
    x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(len(x), 1, generator=gen)
jump = q_sample(
    torch.full((200_000, 1), 1.5),
    torch.full((200_000,), 9),
    torch.randn(200_000, 1, generator=gen),
    alpha_bar(short),
)
print(
    f"10 steps one by one: mean {x.mean():.2f}, variance {x.var():.2f}; in one jump: mean {jump.mean():.2f}, variance {jump.var():.2f}"
)

# %% [markdown]
# ## The way back, if the picture were known
#
# What is $x_{t-1}$, given $x_t$ *and* $x_0$? By Bayes' rule its density is proportional to the product of two Gaussians:
#
# $$ q(x_{t-1} \mid x_t, x_0) \;\propto\; \underbrace{q(x_t \mid x_{t-1})}_{\text{one step}}\; \underbrace{q(x_{t-1} \mid x_0)}_{\text{one jump}} . $$
#
# (In general the first factor is $q(x_t \mid x_{t-1}, x_0)$. Here it does not depend on $x_0$, because each step of the way forward looks only at the step before: the chain is *Markov*. Notebook 02 gives this up.) Take
# $-2 \log$ of the product, for one pixel, and keep what depends on $x_{t-1}$:
#
# $$ \frac{(x_t - \sqrt{\alpha_t}\, x_{t-1})^2}{\beta_t} + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\, x_0)^2}{1 - \bar\alpha_{t-1}}
# = A\, x_{t-1}^2 - 2 B\, x_{t-1} + \dots $$
#
# $$ A = \frac{\alpha_t}{\beta_t} + \frac{1}{1 - \bar\alpha_{t-1}} , \qquad
# B = \frac{\sqrt{\alpha_t}\, x_t}{\beta_t} + \frac{\sqrt{\bar\alpha_{t-1}}\, x_0}{1 - \bar\alpha_{t-1}} . $$
#
# **Complete the square**: $A x^2 - 2 B x = A (x - B/A)^2 + \dots$, which is a Gaussian with mean $B/A$ and variance $1/A$. For $A$, bring both fractions over one denominator, and use
# $\alpha_t (1 - \bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$.
#
# ### Exercise 3 · posterior  ●●○  12 minutes
#
# Finish it on paper, and return $\tilde\mu_t = B/A$ and $\tilde\beta_t = 1/A$. Each picture has its own time. At $t = 0$ the picture before is the clean one, $\bar\alpha_{-1} = 1$:
# the mean is $x_0$, the variance 0, and $A$ is infinite. So use the form that you get after dividing, in which nothing is infinite.


# %% posterior tags=["exercise"]
def posterior(
    x0: Float[Tensor, "batch dim"],
    xt: Float[Tensor, "batch dim"],
    t: Int[Tensor, "batch"],
    betas: Float[Tensor, "T"],
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch"]]:
    """Mean and variance of x_{t-1} when x_t and x_0 are known.

    Arguments:
        x0: clean pictures.
        xt: the pictures at time t.
        t: a time for each picture, from 0 on.
        betas: variance of the noise that each step adds.

    Returns:
        (mean, var): a mean for every pixel, one variance for each picture. At t = 0 they are x0 and 0.

    Example:
        For betas = [0.5, 0.5], t = [1], x0 = [[1.0]] and xt = [[0.0]]: ab is [0.5, 0.25], the mean is
        0.7071 * 0.5 / 0.75 = [[0.4714]] and the variance 0.5 / 0.75 * 0.5 = [0.3333].
    """
    ### BEGIN SOLUTION
    ab = torch.cumprod(1 - betas, dim=0)
    ab_before = torch.cat([torch.ones_like(ab[:1]), ab[:-1]])
    beta, now, before = betas[t], ab[t], ab_before[t]
    from_x0 = before.sqrt() * beta / (1 - now)
    from_xt = (1 - beta).sqrt() * (1 - before) / (1 - now)
    mean = from_x0[:, None] * x0 + from_xt[:, None] * xt
    return mean, (1 - before) / (1 - now) * beta
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# $A = \dfrac{1 - \bar\alpha_t}{\beta_t (1 - \bar\alpha_{t-1})}$. Multiply $B$ by $1/A$ term by term: in each of the two, one factor cancels.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# The factor of $x_0$ is $\sqrt{\bar\alpha_{t-1}}\, \beta_t / (1 - \bar\alpha_t)$, that of $x_t$ is $\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t)$. For $\bar\alpha_{t-1}$ put a 1 in
# front of `ab`, drop its last element, and look up `t`.
#
# </details>
#
# <details>
# <summary>"Everything is right, except at t = 0"</summary>
#
# `ab[t - 1]` with `t = 0` is `ab[-1]`, the *last* element: nearly pure noise. Before time 0 alpha-bar is 1.
#
# </details>

# %% check_posterior tags=["check"]
check.posterior(posterior)

# %% [markdown]
# **See it.** Bayes' rule by brute force, on a grid of 20,001 values of $x_{t-1}$, for one pixel. The **negative control** is a Gaussian with the right mean and the variance $\beta_t$ of the way forward,
# which is also in use (the paper tries both).


# %%
def gaussian(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """The density of a Gaussian."""
    return (-((x - mean) ** 2) / (2 * var)).exp() / (2 * math.pi * var).sqrt()


# %% tags=["demo"]
betas = torch.linspace(0.05, 0.3, 10, dtype=torch.float64)
ab, t = alpha_bar(betas), 2
x0, xt = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[-0.3]], dtype=torch.float64)
grid = torch.linspace(-4, 4, 20_001, dtype=torch.float64)
product = gaussian(xt, (1 - betas[t]).sqrt() * grid, betas[t]) * gaussian(
    grid, ab[t - 1].sqrt() * x0, 1 - ab[t - 1]
)
brute = (product / product.sum() / (grid[1] - grid[0]))[0]
mean, var = posterior(x0, xt, torch.tensor([t]), betas)
fig, ax = plotting.figure(width=8.5, height=3.3)
ax.plot(grid, brute, color=plotting.BLACK, linewidth=4, alpha=0.35)
ax.plot(grid, gaussian(grid, mean[0], var), color=plotting.BLUE)
ax.plot(grid, gaussian(grid, mean[0], betas[t]), color=plotting.VERMILLION, linestyle="--")
ax.plot(grid, gaussian(grid, ab[t - 1].sqrt() * x0[0], 1 - ab[t - 1]), color=plotting.GREY, linewidth=1)
plotting.label(ax, 1.45, 0.75, "known: $x_0$ alone", plotting.GREY)
plotting.label(ax, 0.45, 1.5, "known: $x_0$ and $x_t$ (yours, and the grid)", plotting.BLUE)
plotting.label(ax, -0.75, 0.55, "variance beta", plotting.VERMILLION)
ax.set(xlabel="$x_{t-1}$", ylabel="density", xlim=(-1.6, 2.6))
plotting.caption(
    fig,
    "Wide and pale: the product of the two densities, on a grid. Blue lies on it. See that knowing $x_t$ as well narrows the density.",
)
by_grid = (brute * grid).sum() / brute.sum()
spread = (brute * (grid - by_grid) ** 2).sum() / brute.sum()
print(f"mean: grid {by_grid:.9f}, posterior {mean.item():.9f}")
print(f"variance: grid {spread:.9f}, posterior {var.item():.9f}, beta {betas[t]:.3f}")

# %% [markdown]
# ## A network for what is not known
#
# When we sample, $x_0$ is not known: it is what we want. But if the noise in $x_t$ were known, $x_0$ would be too: solve the jump for it. So let a network look at $x_t$ and
# $t$, and predict the noise. The target has variance 1 at every time, which is convenient for a network.
#
# ### Exercise 4 · eps_loss  ●○○  6 minutes
#
# Write the loss: the mean squared error of the predicted noise. Times and noise come in, so that the result can be compared.
#
# Why the square? The prediction with the smallest mean square is the *mean* of all noises that may be in $x_t$; notebooks 02 and 03 need exactly this.


# %% eps_loss tags=["exercise"]
def eps_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    x0: Float[Tensor, "batch dim"],
    t: Int[Tensor, "batch"],
    eps: Float[Tensor, "batch dim"],
    ab: Float[Tensor, "T"],
) -> Float[Tensor, ""]:
    """The mean squared error of a model that predicts the noise.

    Arguments:
        model: model(x_t, t) returns a prediction of the noise, [batch, dim]. Call it once.
        x0: clean pictures.
        t: a time for each picture.
        eps: the noise that is mixed in, standard normal.
        ab: alpha-bar for every time.

    Returns:
        One number: the mean over pictures and pixels.

    Example:
        A model that returns zeros has the loss mean(eps**2): for eps = [[1.0, -3.0]] it is 5.0.
    """
    ### BEGIN SOLUTION
    left = ab[t][:, None]
    xt = left.sqrt() * x0 + (1 - left).sqrt() * eps
    return (model(xt, t) - eps).square().mean()
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Make the noisy pictures as in exercise 2, ask the model, compare with the noise.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `(model(xt, t) - eps).square().mean()`, where `xt` is what `q_sample` returns. You may call your `q_sample`.
#
# </details>
#
# <details>
# <summary>"My loss is nearly 0 after a minute, and the samples are grey"</summary>
#
# The model saw the clean picture, or the noise itself. Then there is nothing to learn. It has to see $x_t$.
#
# </details>

# %% check_eps_loss tags=["check"]
check.eps_loss(eps_loss)

# %% [markdown]
# ## Train, and draw
#
# The network is small: three residual layers of 160 units on the 64 pixels. The time comes in as sines and cosines of 16 frequencies. We keep a running average of the weights (**EMA**, exponential moving average): the
# weights of the last step jump about, their average does not. 1500 steps, some seconds.


# %%
class NoiseNetwork(nn.Module):
    """Predicts the noise in x [batch, dim] at times t [batch]."""

    def __init__(self, dim: int, hidden: int, layers: int = 3, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer("rates", torch.logspace(0, 3, frequencies) / 1000)
        self.enter, self.leave = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.at_time = nn.ModuleList(nn.Linear(2 * frequencies, hidden) for _ in range(layers + 1))

    def forward(self, x: Float[Tensor, "batch dim"], t: Int[Tensor, "batch"]) -> Float[Tensor, "batch dim"]:
        angle = t[:, None] * self.rates
        clock = torch.cat([angle.sin(), angle.cos()], dim=1)
        h = self.enter(x) + self.at_time[0](clock)
        for layer, at_time in zip(self.layers, self.at_time[1:], strict=True):
            h = h + nn.functional.silu(layer(nn.functional.silu(h)) + at_time(clock))
        return self.leave(h)


def train(loss: Callable, steps: int = 1500, batch: int = 96, decay: float = 0.995) -> NoiseNetwork:
    """A network that has learned to predict the noise in digits, with averaged weights."""
    torch.manual_seed(0)
    network, gen = NoiseNetwork(64, 160), torch.Generator().manual_seed(0)
    clean, ab = pictures()[0], torch.cumprod(1 - BETAS, 0).float()
    weights = list(network.parameters())
    average = [p.detach().clone() for p in weights]
    optimiser = training.Adam(weights, lr=1e-3, steps=steps)
    for _ in trange(steps, desc="noise network"):
        x0 = clean[torch.randint(len(clean), (batch,), generator=gen)]
        t = torch.randint(1000, (batch,), generator=gen)
        loss(network, x0, t, torch.randn(batch, 64, generator=gen), ab).backward()
        optimiser.step()
        for kept, p in zip(average, weights, strict=True):
            kept.lerp_(p.detach(), 1 - decay)
    with torch.no_grad():
        for kept, p in zip(average, weights, strict=True):
            p.copy_(kept)
    return network.requires_grad_(False)


@cache
def trained() -> NoiseNetwork:
    """The network, trained once through your loss."""
    return train(eps_loss)


# %% [markdown]
# Sampling puts everything together. Start with pure noise. At each time from 999 down: ask the network for the noise, solve the jump for $x_0$, and draw $x_{t-1}$ from the posterior with this $x_0$.


# %%
@torch.no_grad()
def ddpm(network: Callable, x: Float[Tensor, "batch 64"], gen: torch.Generator) -> tuple[Tensor, int]:
    """Pictures, and the number of calls of the network that they cost."""
    ab, calls = torch.cumprod(1 - BETAS, 0), 0
    for t in trange(999, -1, -1, desc="sampling"):
        times = torch.full((len(x),), t)
        eps, calls = network(x, times), calls + 1
        x0 = ((x - (1 - ab[t]).sqrt() * eps) / ab[t].sqrt()).float()
        mean, var = posterior(x0, x, times, BETAS)
        x = (mean + var.sqrt()[:, None] * torch.randn(x.shape, generator=gen)).float()
    return x, calls


# %% tags=["demo"]
network, gen = trained(), torch.Generator().manual_seed(3)
start, last = torch.randn(100, 64, generator=gen), torch.full((100,), 999)
drawn, calls = ddpm(network, start, gen)
ab = torch.cumprod(1 - BETAS, 0)
at_once = ((start - (1 - ab[-1]).sqrt() * network(start, last)) / ab[-1].sqrt()).float()
fig, axes = plotting.figure(3, 10, width=9.5, height=4)
show_digits(axes[0], pictures()[0][:10], ylabel="data")
show_digits(axes[1], drawn[:10], ylabel="1000 steps")
show_digits(axes[2], at_once[:10].clamp(-1, 1), ylabel="1 step", xlabel="")
axes[2][0].set(xlabel="8 by 8 pixels")
plotting.caption(
    fig,
    "Above: real digits. Middle: drawn with the posterior, 1000 calls. Below, the negative control: the same network asked once, from the same noise.",
)
clean = pictures()[0]
nearest = lambda x: torch.cdist(x, clean).min(1).values.mean()  # noqa: E731
print(f"calls of the network: {calls} for 1000 steps, 1 for one step")
print(
    f"contrast (spread of a pixel over pictures): data {clean.std(0).mean():.2f}, 1000 steps {drawn.std(0).mean():.2f}"
)
print(
    f"distance to the nearest real digit: 1000 steps {nearest(drawn):.1f}, 1 step {nearest(at_once):.1f}, pure noise {nearest(start):.1f}"
)

# %% [markdown]
# With 1000 small steps the network draws digits. Some can be read and some cannot, because this network is tiny. Asked once, it does not even return the grey cloud of the
# beginning: a small error in the noise is divided by $\sqrt{\bar\alpha_{999}}$, which is below 0.01, and covers everything.
#
# <!-- not printed: 0.01 (the root of the printed 4.0e-05) -->
#
# ## What you built
#
# 1. The way to noise in one jump, $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$, from a thousand small steps.
# 2. The posterior of a step back, by completing the square: mean and variance in closed form.
# 3. A loss that teaches a network the noise, and a sampler that draws digits.
#
# **Limits.** The posterior is that of *neighbouring* times. Nothing here says how to go from time 999 to a time far below it in one step. And the step back without $x_0$ is a Gaussian only if it is small: this is why $T$ is large.
#
# **Cost.** One call of the network for each of the $T$ steps: 1000 calls for a batch of pictures, one after the other. Training pays one call per step, at a random time. The next three notebooks bring the 1000 down to 20, with the same trained network.
#
# <!-- not printed: 20 (notebooks 03 and 04) -->
#
# ## Sources
#
# - J. Sohl-Dickstein, E. Weiss, N. Maheswaranathan, S. Ganguli, *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, ICML 2015, arXiv:1503.03585: diffusion as a generative model.
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020, arXiv:2006.11239: the jump is equation (4), the posterior equations (6) and (7), the loss equation (14); section 4 for $T = 1000$ and the
#   schedule; section 3.2 for the two choices of the variance.
# - E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998: the digits, as scikit-learn ships them.
