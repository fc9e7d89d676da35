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
# # A family of ways back
#
# *Sampling in few steps, part 2 of 4: what training does not fix, and how DDIM uses it.*
#
# **Claim.** The loss of DDPM fits a whole family of ways back, one for each amount $\eta$ of fresh noise, and to steps of any length. You derive the family. $\eta = 1$ is DDPM up to rounding in float64, $\eta = 0$ is
# an Euler step of an ordinary differential equation, and with 20 steps both come much closer to the data than DDPM's own step taken 20 times.
#
# | | |
# |---|---|
# | **Time** | about 50 minutes; the code runs for some seconds |
# | **You need** | [notebook 01](01_ddpm_posterior.ipynb): alpha-bar, the jump, the posterior |
# | **Graded** | five exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | the step of DDIM for every $\eta$, derived and checked |

# %% setup
import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

import utils
from autograde import open_lesson, yours
from utils import plotting

utils.setup()
check = open_lesson("ddim/02_ddim_derivation")

# %% [markdown]
# ## The problem: leave out steps, and the noise stays
#
# To see the method without the errors of a network, take data for which the best prediction of the noise is known: numbers from a Gaussian with mean 0 and standard deviation $c = 0.5$. Then $x_t$ and $\epsilon$ are Gaussian together. $x_t$ has variance
# $\bar\alpha_t c^2 + 1 - \bar\alpha_t$, and its covariance with $\epsilon$ is $\sqrt{1 - \bar\alpha_t}$. So the mean of the noise given $x_t$ is $x_t$ times the covariance over the variance. Samples are right when they have standard deviation 0.5.
#
# DDPM's step back is the posterior of notebook 01 with the predicted picture in it. Its mean is then $\big( x_t - \beta_t\, \hat\epsilon / \sqrt{1 - \bar\alpha_t} \big) / \sqrt{1 - \beta_t}$. Use it at 100 or 20 of the 1000 times only.

# %%
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
AB = torch.cumprod(1 - BETAS, 0).tolist()
SPREAD = 0.5


def exact_eps(x: Tensor, ab_t: float) -> Tensor:
    """The mean of the noise in x, for data with mean 0 and standard deviation SPREAD."""
    return math.sqrt(1 - ab_t) * x / (ab_t * SPREAD**2 + 1 - ab_t)


def some_times(S: int) -> list[int]:
    """S times from 999 down to 0, evenly spaced."""
    return [999 * (S - 1 - k) // (S - 1) for k in range(S)]


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def own_step(S: int, n: int = 4000) -> Tensor:
    """Samples by DDPM's step from t to t - 1, taken at S times only."""
    x, noise = normal(n, 1, seed=0), normal(S, n, 1, seed=1)
    for t, z in zip(some_times(S), noise, strict=True):
        beta, ab, before = float(BETAS[t]), AB[t], AB[t - 1] if t else 1.0
        mean = (x - beta / math.sqrt(1 - ab) * exact_eps(x, ab)) / math.sqrt(1 - beta)
        x = mean + math.sqrt((1 - before) / (1 - ab) * beta) * z
    return x


for S in (1000, 100, 20):
    print(
        f"DDPM's own step at {S:4} times: standard deviation {own_step(S).std():.2f}, right is {SPREAD:.2f}"
    )

# %% [markdown]
# With all steps the result is right. With 20 the samples have hardly moved: each step takes away as much noise as the way forward adds in *one* step, and most of these are missing. A step over many times has to know that it is one.
# But the posterior of notebook 01 was built from neighbours.
#
# ## Notation
#
# | symbol | meaning | values |
# |---|---|---|
# | $t,\ s$ | where a step starts, and where it ends; any $s < t$ | times |
# | $\bar\alpha_t,\ \bar\alpha_s$ | share of the picture's variance at both; `ab_t`, `ab_s` | numbers; 1 is the clean picture |
# | $\sigma$ | standard deviation of the fresh noise in a step; `sd` | $0$ to $\sqrt{1 - \bar\alpha_s}$ |
# | $\eta$ | $\sigma$ as a share of DDPM's; `eta` | 0 to 1 |
# | $\epsilon,\ \hat\epsilon$ | the noise in $x_t$, and a prediction of it; `eps` | `[batch, dim]` |
# | $\hat x_0$ | the clean picture that $\hat\epsilon$ implies | `[batch, dim]` |
# | $z$ | fresh noise, standard normal; `noise` | `[batch, dim]` |
# | $k$ | factor of the old noise: slope of the mean of $x_s$ in $x_t$ | 0 or more |
# | $c$ | standard deviation of the data in this notebook; `SPREAD` | 0.5 |
# | $\bar x$ | $x_t / \sqrt{\bar\alpha_t}$, the picture at full strength with noise | |
# | $r$ | $\sqrt{(1 - \bar\alpha_t)/\bar\alpha_t}$, the noise in $\bar x$ for one unit of picture | $0$ to infinity |
#
# From here on levels come in as numbers and not as tensors: all pictures of a batch are at the same time when we sample. The paper (Song, Meng and Ermon, 2020) writes $\alpha_t$ for our $\bar\alpha_t$.

# %% [markdown]
# ## What training does not fix
#
# Look at the loss again. It draws a time, makes $x_t$ in *one jump* from $x_0$, and asks for the noise. It never looks at two times together. So the trained network depends on the **marginals** only,
#
# $$ q(x_t \mid x_0) = \text{Gaussian with mean } \sqrt{\bar\alpha_t}\, x_0 \text{ and variance } 1 - \bar\alpha_t . $$
#
# That $x_t$ came from $x_{t-1}$ by a small step was *our* way to get these marginals. Any other joint distribution with the same marginals has the same loss, and the same network. So let us look for all Gaussian steps back
#
# $$ x_s = \sqrt{\bar\alpha_s}\, x_0 + k\, \big( x_t - \sqrt{\bar\alpha_t}\, x_0 \big) + \sigma z $$
#
# that lead from the marginal at $t$ to the marginal at $s$. The bracket is the noise in $x_t$; it has mean 0 and variance $1 - \bar\alpha_t$. So the mean of $x_s$ is right for every $k$. For the variance we need
#
# $$ k^2 (1 - \bar\alpha_t) + \sigma^2 = 1 - \bar\alpha_s \qquad\Longrightarrow\qquad k = \sqrt{\frac{1 - \bar\alpha_s - \sigma^2}{1 - \bar\alpha_t}} . $$
#
# One equation, two unknowns: $\sigma$ is free. That is the family. Nothing in it asks for $s = t - 1$, and nothing for a Markov chain.
#
# ### Exercise 1 · marginal_moments  ●●○  10 minutes
#
# Convince yourself. Let $x_t$ have *any* mean and variance (given $x_0$), take one step of the family, and return mean and variance of $x_s$. With the right moments at $t$ you must get the right ones at $s$; with wrong ones you see what becomes of an error.


# %% marginal_moments tags=["exercise"]
def marginal_moments(
    x0: Float[Tensor, "dim"],
    mean_t: Float[Tensor, "dim"],
    var_t: float,
    ab_t: float,
    ab_s: float,
    sd: float,
) -> tuple[Float[Tensor, "dim"], float]:
    """Mean and variance of x_s, given x_0, after one step of the family.

    Arguments:
        x0: the clean picture.
        mean_t: the mean of x_t given x_0; any values.
        var_t: the variance of every pixel of x_t given x_0; any value from 0 on.
        ab_t, ab_s: alpha-bar where the step starts and where it ends.
        sd: standard deviation of the fresh noise, at least 0, with sd**2 no larger than 1 - ab_s.

    Returns:
        (mean_s, var_s), a tensor and a number.

    Example:
        For x0 = [1.0], mean_t = [0.5], var_t = 0.75, ab_t = 0.25, ab_s = 0.64 and sd = 0.0 the result is ([0.8], 0.36).
    """
    ### BEGIN SOLUTION
    k = math.sqrt((1 - ab_s - sd**2) / (1 - ab_t))
    mean_s = math.sqrt(ab_s) * x0 + k * (mean_t - math.sqrt(ab_t) * x0)
    return mean_s, k**2 * var_t + sd**2
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# $x_s$ is a linear function of two independent random things, $x_t$ and $z$. Put the mean of $x_t$ in the place of $x_t$, and 0 in the place of $z$. Variances are multiplied by squares of factors.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# With `k = math.sqrt((1 - ab_s - sd**2) / (1 - ab_t))` the variance is `k**2 * var_t + sd**2`, and the mean is the formula for $x_s$ without its last term.
#
# </details>
#
# <details>
# <summary>"The variance is right only if I return 1 - ab_s"</summary>
#
# That is the statement, not its proof. The check hands in wrong moments of $x_t$ as well, and for them the result is not $1 - \bar\alpha_s$.
#
# </details>

# %% check_marginal_moments tags=["check"]
check.marginal_moments(marginal_moments)

# %% [markdown]
# **See it.** Start at the marginal of time 999 and step down through 20 times, each step with the largest, half of the largest, or no fresh noise. The **negative control** keeps all the old noise, $k = \sqrt{(1 - \bar\alpha_s)/(1 - \bar\alpha_t)}$, and adds the fresh
# noise on top.

# %% tags=["demo"]
x0, times = torch.tensor([0.8], dtype=torch.float64), some_times(20)
fig, ax = plotting.figure(width=8.5, height=3.3)
ax.plot(
    times, [1 - AB[t] for t in times], color=plotting.GREY, linewidth=6, alpha=0.35, label="1 - alpha-bar"
)
for share, color, style in (
    (0.0, plotting.BLUE, "-"),
    (0.5, plotting.ORANGE, "--"),
    (1.0, plotting.GREEN, ":"),
):
    mean, var = math.sqrt(AB[999]) * x0, 1 - AB[999]
    variances, worst = [var], 0.0
    for t, s in pairwise(times):
        sd = share * math.sqrt((1 - AB[s]) * (1 - 1e-12))
        mean, var = marginal_moments(x0, mean, var, AB[t], AB[s], sd)
        variances.append(var)
        worst = max(worst, abs(var - 1 + AB[s]), float((mean - math.sqrt(AB[s]) * x0).abs()))
    ax.plot(times, variances, style, color=color, label=f"{share:.0%} of the largest")
    print(
        f"sigma {share:4.0%} of the largest: largest error of mean and variance on the way down {worst:.0e}"
    )
wrong = [1 - AB[999]]
for t, s in pairwise(times):
    wrong.append((1 - AB[s]) / (1 - AB[t]) * wrong[-1] + 0.25 * (1 - AB[s]))
ax.plot(times, wrong, color=plotting.VERMILLION, label="50%, old noise kept")
ax.set(xlabel="time t (steps go from right to left)", ylabel="variance of x given $x_0$", ylim=(0, 4))
ax.legend(loc="upper left")
plotting.caption(
    fig,
    "Wide and pale: the marginal of the way forward. All members of the family lie on it. The control leaves it at the first step.",
)
print(
    f"old noise kept: variance at time {times[-8]} is {wrong[-8] / (1 - AB[times[-8]]):.1f} times too large"
)

# %% [markdown]
# ## Which sigma is DDPM's?
#
# The posterior of notebook 01 keeps the marginals, so it must be one of the family. For which $\sigma$? Its variance is $\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t$. Write $s$ for $t - 1$, and note that $1 - \beta_t = \bar\alpha_t / \bar\alpha_s$.
# This form makes sense for any $s < t$: $1 - \bar\alpha_t/\bar\alpha_s$ is the variance that the way forward adds between $s$ and $t$. Then scale the standard deviation by a number $\eta$:
#
# $$ \sigma(\eta) = \eta\, \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}}\, \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_s}} . $$
#
# ### Exercise 2 · sigma  ●○○  5 minutes
#
# Write this formula for two levels and an $\eta$, all plain numbers.


# %% sigma tags=["exercise"]
def sigma(ab_t: float, ab_s: float, eta: float) -> float:
    """Standard deviation of the fresh noise in a step from t to s.

    Arguments:
        ab_t: alpha-bar where the step starts, below 1.
        ab_s: alpha-bar where it ends, from ab_t to 1. 1 is the clean picture.
        eta: 1 gives the standard deviation of DDPM's posterior, 0 gives 0; in between it grows in proportion.

    Returns:
        A number.

    Example:
        sigma(0.4, 0.8, 1.0) is 0.4082: sqrt(0.2 / 0.6) * sqrt(1 - 0.5). sigma(0.4, 0.8, 0.5) is half of that.
    """
    ### BEGIN SOLUTION
    return eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Replace $\beta_t$ in $\tilde\beta_t$ by $1 - \bar\alpha_t/\bar\alpha_s$, take the root, multiply by $\eta$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)`
#
# </details>
#
# <details>
# <summary>"math domain error"</summary>
#
# One of your two fractions is upside down: $\bar\alpha_s$ is larger than $\bar\alpha_t$, because there is less noise at $s$.
#
# </details>

# %% check_sigma tags=["check"]
check.sigma(sigma)

# %% tags=["demo"]
print("step          sigma, eta = 1   largest possible   forward alone, sqrt(1 - ab_t / ab_s)")
for t, s in ((999, 998), (500, 499), (10, 9), (999, 946), (525, 473), (52, 0)):
    print(
        f"{t:3} to {s:3} {sigma(AB[t], AB[s], 1.0):16.4f}{math.sqrt(1 - AB[s]):19.4f}{math.sqrt(1 - AB[t] / AB[s]):16.4f}"
    )
print(f"  0 to clean {sigma(AB[0], 1.0, 1.0):11.4f}{0:19.4f}{math.sqrt(1 - AB[0]):16.4f}")

# %% [markdown]
# At the last step $\sigma$ is 0 for every $\eta$: no noise is added to a finished picture. The last column, which the paper calls $\hat\sigma$, does not have this, and will be one of our controls in notebook 03.
#
# ## A prediction for the picture
#
# The family needs $x_0$. Solve the jump for it, with the predicted noise in the place of the true one.
#
# ### Exercise 3 · predict_x0  ●○○  4 minutes
#
# Return $\hat x_0$ for a batch of pictures at one level.


# %% predict_x0 tags=["exercise"]
def predict_x0(
    xt: Float[Tensor, "batch dim"], eps: Float[Tensor, "batch dim"], ab_t: float
) -> Float[Tensor, "batch dim"]:
    """The clean picture that a prediction of the noise implies.

    Arguments:
        xt: noisy pictures.
        eps: the noise in them, true or predicted.
        ab_t: alpha-bar of their time, above 0.

    Returns:
        The picture x_0 for which sqrt(ab_t) x_0 + sqrt(1 - ab_t) eps is xt. Nothing is clipped.

    Example:
        predict_x0(torch.tensor([[2.0]]), torch.tensor([[1.0]]), 0.64) is [[1.75]]: (2 - 0.6) / 0.8.
    """
    ### BEGIN SOLUTION
    return (xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Take the noise away, with its factor. What remains is the picture, with its factor.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `(xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)`
#
# </details>
#
# <details>
# <summary>"My predicted picture has values far beyond 1"</summary>
#
# At late times that is right: a small error of the noise is divided by a small number. Many programs clip the picture to $[-1, 1]$. That helps bad networks, and it leaves the family: here nothing is clipped.
#
# </details>

# %% check_predict_x0 tags=["check"]
check.predict_x0(predict_x0)

# %% tags=["demo"]
clean, noise = normal(1, 1, seed=4), normal(1, 1, seed=5)
print("time   error of the picture when the noise is wrong by 0.01")
for t in (0, 100, 300, 500, 700, 999):
    noisy = math.sqrt(AB[t]) * clean + math.sqrt(1 - AB[t]) * noise
    print(f"{t:4}   {float((predict_x0(noisy, noise + 0.01, AB[t]) - clean).abs()):.4f}")

# %% [markdown]
# ## The step
#
# Insert $\hat x_0$ into the family. The bracket $x_t - \sqrt{\bar\alpha_t}\, \hat x_0$ is $\sqrt{1 - \bar\alpha_t}\, \hat\epsilon$, its factor cancels against that in $k$, and what is left has three terms:
#
# $$ x_s = \underbrace{\sqrt{\bar\alpha_s}\, \hat x_0}_{\text{predicted picture}} + \underbrace{\sqrt{1 - \bar\alpha_s - \sigma^2}\; \hat\epsilon}_{\text{old noise, less of it}} + \underbrace{\sigma z}_{\text{fresh noise}} . $$
#
# ### Exercise 4 · ddim_step  ●●○  8 minutes
#
# Write it. You may call your `sigma` and `predict_x0`.


# %% ddim_step tags=["exercise"]
def ddim_step(
    xt: Float[Tensor, "batch dim"],
    eps: Float[Tensor, "batch dim"],
    ab_t: float,
    ab_s: float,
    eta: float,
    noise: Float[Tensor, "batch dim"],
) -> Float[Tensor, "batch dim"]:
    """One step from noisy pictures to less noisy ones.

    Arguments:
        xt: pictures at time t. Not changed.
        eps: the predicted noise in them.
        ab_t, ab_s: alpha-bar where the step starts and where it ends; ab_s is the larger one, 1 for the clean picture.
        eta: amount of fresh noise, 0 to 1.
        noise: fresh noise, standard normal.

    Returns:
        Pictures at time s.

    Example:
        For xt = [[2.0]], eps = [[1.0]], ab_t = 0.64, ab_s = 1.0 and any eta and noise: [[1.75]], the predicted picture.
    """
    ### BEGIN SOLUTION
    sd = eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)
    x0 = (xt - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s - sd**2) * eps + sd * noise
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Three lines: the fresh noise's standard deviation, the predicted picture, the sum of three terms.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s - sd**2) * eps + sd * noise`
#
# </details>
#
# <details>
# <summary>"With eta = 0 it is right, with eta = 1 the pictures are noisy"</summary>
#
# The old noise has to make room for the fresh one: $\sigma^2$ is subtracted under the root, and it is a square.
#
# </details>

# %% check_ddim_step tags=["check"]
check.ddim_step(ddim_step)

# %% [markdown]
# **See it.** First: is $\eta = 1$ with neighbours DDPM? `yours` fetches your `posterior` of notebook 01. (One that is missing there, or wrong, is replaced by the course's, and a line says so.) Then the measurement of the beginning, with your step.


# %%
def family_steps(step, S: int, eta: float, n: int = 4000) -> Tensor:
    """Samples with S steps of the family, the last one to alpha-bar 1."""
    x, noise, times = normal(n, 1, seed=0), normal(S, n, 1, seed=1), some_times(S)
    levels = [*(AB[t] for t in times), 1.0]
    for k, z in enumerate(noise):
        x = step(x, exact_eps(x, levels[k]), levels[k], levels[k + 1], eta, z)
    return x


# %% tags=["demo"]
posterior = yours("ddim/01_ddpm_posterior", "posterior")
worst = 0.0
for t in range(1, 1000):
    xt, eps, z = normal(3, 4, seed=t), normal(3, 4, seed=t + 1), normal(3, 4, seed=t + 2)
    mean, var = posterior(predict_x0(xt, eps, AB[t]), xt, torch.full((3,), t), BETAS)
    ours = ddim_step(xt, eps, AB[t], AB[t - 1], 1.0, z)
    worst = max(worst, float((ours - mean - var.sqrt()[:, None] * z).abs().max()))
print(f"eta = 1 and the posterior of DDPM, 999 pairs of neighbours: largest difference {worst:.0e}\n")
print("standard deviation of 4000 samples (right: 0.50)")
print("steps     eta = 0   eta = 0.5   eta = 1   DDPM's own step")
for S in (5, 10, 20, 100, 1000):
    row = [float(family_steps(ddim_step, S, eta).std()) for eta in (0.0, 0.5, 1.0)]
    print(f"{S:5} {row[0]:11.3f}{row[1]:12.3f}{row[2]:10.3f}{float(own_step(S).std()):18.3f}")

# %% [markdown]
# Up to rounding, $\eta = 1$ *is* DDPM. With 20 steps the members of the family reach 0.43 and 0.39, where DDPM's own step, the negative control of this notebook, stays at 0.97: with 100 steps it is still further from 0.50 than they are with 5. The family is not exact either, because it steps with a
# predicted picture, and with fresh noise it is further off than without. How much that matters for real samples is the question of notebooks 03 and 04.
#
# ## No noise at all
#
# For $\eta = 0$ the step has no randomness left. Divide it by $\sqrt{\bar\alpha_s}$, and write $\hat x_0$ out:
#
# $$ \frac{x_s}{\sqrt{\bar\alpha_s}} = \frac{x_t}{\sqrt{\bar\alpha_t}} + \left( \sqrt{\frac{1 - \bar\alpha_s}{\bar\alpha_s}} - \sqrt{\frac{1 - \bar\alpha_t}{\bar\alpha_t}} \right) \hat\epsilon . $$
#
# With $\bar x = x / \sqrt{\bar\alpha}$ and $r = \sqrt{(1 - \bar\alpha)/\bar\alpha}$ it says $\bar x_s = \bar x_t + (r_s - r_t)\, \hat\epsilon$. This is **Euler's method** for the ordinary differential equation
#
# $$ \frac{d \bar x}{d r} = \hat\epsilon\Big( \frac{\bar x}{\sqrt{1 + r^2}},\ t(r) \Big) , $$
#
# because $\sqrt{\bar\alpha} = 1/\sqrt{1 + r^2}$. Three things follow. More steps follow *the same* curve more closely, so the result depends on the starting noise alone. The equation can be run upwards too, from a picture to its noise: notebook 04 does it. And where $\hat\epsilon$ hardly changes along the
# way, one large step is as good as many small ones. That is why few steps are enough.
#
# ### Exercise 5 · ode_step  ●●○  10 minutes
#
# Write the Euler step, in either direction: divide, step, multiply. (Do not call `ddim_step`: upwards, $\bar\alpha_s < \bar\alpha_t$, its `sigma` has no root.)


# %% ode_step tags=["exercise"]
def ode_step(
    xt: Float[Tensor, "batch dim"], eps: Float[Tensor, "batch dim"], ab_t: float, ab_s: float
) -> Float[Tensor, "batch dim"]:
    """One Euler step of the ODE in x / sqrt(alpha-bar), from level ab_t to level ab_s.

    Arguments:
        xt: pictures at level ab_t.
        eps: the predicted noise in them.
        ab_t, ab_s: alpha-bar where the step starts and where it ends, above 0 and at most 1. Either may be the larger one.

    Returns:
        Pictures at level ab_s, no longer divided by a root.

    Example:
        For xt = [[2.0]], eps = [[1.0]], ab_t = 0.64 and ab_s = 1.0: 2 / 0.8 + (0 - 0.75) * 1 = [[1.75]].
    """
    ### BEGIN SOLUTION
    r_t, r_s = math.sqrt((1 - ab_t) / ab_t), math.sqrt((1 - ab_s) / ab_s)
    x_bar = xt / math.sqrt(ab_t) + (r_s - r_t) * eps
    return math.sqrt(ab_s) * x_bar
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# $\bar x$ starts at $x_t / \sqrt{\bar\alpha_t}$, moves by $(r_s - r_t)\, \hat\epsilon$, and is multiplied by $\sqrt{\bar\alpha_s}$ at the end.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `math.sqrt(ab_s) * (xt / math.sqrt(ab_t) + (r_s - r_t) * eps)`, with `r_t = math.sqrt((1 - ab_t) / ab_t)`.
#
# </details>
#
# <details>
# <summary>"My step makes the noise larger"</summary>
#
# Towards the clean picture $r$ falls, so $r_s - r_t$ is negative. If you wrote $r_t - r_s$, the noise is added instead of taken away.
#
# </details>

# %% check_ode_step tags=["check"]
check.ode_step(ode_step)

# %% [markdown]
# **See it.** For our numbers the differential equation has a solution on paper. Here $\hat\epsilon = r \bar x / (c^2 + r^2)$, so $\bar x$ is proportional to $\sqrt{c^2 + r^2}$, and the curve from any noise ends at a number that we know. Dots and squares are your steps.

# %% tags=["demo"]
pairs = [(999, 998), (999, 0), (500, 450), (52, 0)]
difference = 0.0
for t, s in pairs:
    xt, eps = normal(3, 4, seed=t), normal(3, 4, seed=s + 7)
    difference = max(
        difference,
        float((ode_step(xt, eps, AB[t], AB[s]) - ddim_step(xt, eps, AB[t], AB[s], 0.0, 0 * xt)).abs().max()),
    )
print(f"eta = 0 and the Euler step: largest difference {difference:.0e}")

starts = torch.tensor([[-1.6], [-0.6], [0.4], [1.3]], dtype=torch.float64)
fig, ax = plotting.figure(width=8.5, height=3.6)
ratio = lambda ab: math.sqrt((1 - ab) / ab)  # noqa: E731
r = torch.linspace(0, 3, 200, dtype=torch.float64)
top = ratio(AB[999])
exact_end = starts / math.sqrt(AB[999]) * SPREAD / math.sqrt(SPREAD**2 + top**2)
for end in exact_end:
    ax.plot(r, end * (1 + (r / SPREAD) ** 2).sqrt(), color=plotting.GREY, linewidth=1)
for S, color, marker in ((5, plotting.VERMILLION, "s"), (20, plotting.BLUE, "o")):
    x, levels = starts, [*(AB[t] for t in some_times(S)), 1.0]
    path = [(ratio(levels[0]), x / math.sqrt(levels[0]))]
    for a, b in pairwise(levels):
        x = ode_step(x, exact_eps(x, a), a, b)
        path.append((ratio(b), x / math.sqrt(b)))
    for k in range(len(starts)):
        ax.plot([at for at, _ in path], [float(row[k]) for _, row in path], marker, color=color, markersize=5)
    print(f"{S:2} steps: largest error at the end {float((x - exact_end).abs().max()):.3f}")
    ax.plot([], [], marker, color=color, label=f"{S} steps")
ax.plot([], [], color=plotting.GREY, label="exact")
ax.set(
    xlabel="r, noise for one unit of picture (sampling goes from right to left)",
    ylabel="$\\bar x$",
    xlim=(-0.05, 3),
    ylim=(-4.5, 4.5),
)
ax.legend(loc="upper left")
plotting.caption(
    fig,
    "The ends of four curves, from r = 3 down to the clean number at r = 0. Far out the curves are nearly straight, and few steps do; see where they bend.",
)

# %% [markdown]
# ## What you built
#
# 1. The family of all steps back that keep the marginals: $\sigma$ is free, $k$ follows.
# 2. Its step for a predicted noise, $\sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\, \hat\epsilon + \sigma z$, for any $s < t$.
# 3. $\eta = 1$ is DDPM, to rounding; $\eta = 0$ is an Euler step in $\bar x$ against $r$.
#
# **Limits.** The marginals are kept exactly when $x_0$ is known. With $\hat x_0$ in its place each step makes an error that grows with its length, and we have not said how fast. And every step of the family is Gaussian, while the true $x_s$ given $x_t$ alone may have a distribution of any form.
#
# **Cost.** A step costs one call of the network and about eight passes over the pixels, whatever $\eta$ is. Its three coefficients can be computed beforehand, so one pass is enough: `utils/reference/ddim/fused.py` is that, as a kernel for a GPU.
#
# ## Sources
#
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, ICLR 2021, arXiv:2010.02502 (2020): section 3 for the family, equation (7), and that the loss is the same; equation (12) for the step, equation (16) for $\sigma(\eta)$; section 4.3
#   with equations (13) and (14) for the differential equation.
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020, arXiv:2006.11239: equations (6) and (7) and algorithm 2.
# - Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations*, ICLR 2021, arXiv:2011.13456: the same differential equation, derived from a stochastic one.
