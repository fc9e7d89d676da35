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
# # Twenty calls instead of a thousand
#
# *Sampling in few steps, part 3 of 4: the sampler, tested where the network cannot be blamed.*
#
# **Claim.** On a mixture of eight Gaussians, with the exact prediction of the noise, 20 steps without fresh noise give samples nearly as close to the data as 1000 steps of DDPM do, with 50 times fewer calls of the
# model, counted. DDPM's own step at the same 20 times leaves a cloud of noise, more than 50 times further away.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for about ten seconds |
# | **You need** | [notebook 02](02_ddim_derivation.ipynb): the step of the family and its $\eta$ |
# | **Graded** | three exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | a sampler for any model, any number of steps and any $\eta$, and an exact model to test it with |

# %% setup
import math
from collections.abc import Callable
from functools import cache

import ipywidgets
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

import utils
from autograde import open_lesson, yours
from utils import data, plotting, widgets

utils.setup()
check = open_lesson("ddim/03_sampler")

# %% [markdown]
# ## The problem: DDPM's step does not know how far it goes
#
# The data of this notebook are points in the plane: eight Gaussians on a circle of radius 2, each with standard deviation 0.1. For a *finite* set of points the best prediction of the noise can be written down at once: the clean point is a weighted mean of all points, as in the beginning of notebook 01.
# With 2000 points from the mixture in the place of a network, we run DDPM's step from $t$ to $t - 1$: at 20 of the 1000 times, then at 250 of them.

# %%
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
AB = torch.cumprod(1 - BETAS, 0)
MEANS, STDS, WEIGHTS = data.eight_gaussians()


@cache
def data_points(n: int, seed: int) -> Float[Tensor, "n 2"]:
    """Points of the mixture."""
    return data.draw_mixture(n, MEANS, STDS, WEIGHTS, torch.Generator().manual_seed(seed))


def noise_of_points(
    x: Float[Tensor, "batch 2"], t: int, points: Float[Tensor, "n 2"]
) -> Float[Tensor, "batch 2"]:
    """The mean of the noise in x, if the data were these points."""
    signal, noise = math.sqrt(AB[t]), math.sqrt(1 - AB[t])
    clean = (-torch.cdist(x, signal * points).square() / (2 * noise**2)).softmax(1) @ points
    return (x - signal * clean) / noise


def own_step(x: Tensor, eps: Tensor, t: int, z: Tensor) -> Tensor:
    """DDPM's step from t to t - 1, whatever the next time is."""
    beta, ab, before = float(BETAS[t]), float(AB[t]), float(AB[t - 1]) if t else 1.0
    mean = (x - beta / math.sqrt(1 - ab) * eps) / math.sqrt(1 - beta)
    return mean + math.sqrt((1 - before) / (1 - ab) * beta) * z


def show_points(ax: Axes, points: Tensor, color: str, title: str) -> None:
    """Points in the plane."""
    ax.plot(*points.T, ".", color=color, markersize=2.5)
    ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", title=title)


# %% tags=["demo"]
fig, axes = plotting.figure(1, 3, width=9.5, height=3.8, sharey=True)
show_points(axes[0], data_points(500, 1), plotting.BLUE, "data")
for ax, S in zip(axes[1:], (20, 250), strict=True):
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(500, 2, generator=gen)
    for t in range(999, -1, -1000 // S):
        x = own_step(x, noise_of_points(x, t, data_points(2000, 0)), t, torch.randn(500, 2, generator=gen))
    show_points(ax, x, plotting.VERMILLION, f"DDPM's step, {S} times")
for ax in axes:
    ax.set(xlabel="$x_1$")
axes[0].set(ylabel="$x_2$")
plotting.caption(
    fig,
    "Data, and what DDPM's own step makes of noise at 20 and at 250 of the 1000 times. See that even 250 steps do not reach the data.",
)

# %% [markdown]
# The step of notebook 02 knows where it starts and where it ends. Three things are missing for a sampler: which times to visit, the loop, and a model. We want a model without errors, so that what remains is the sampler's own.
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $T,\ S$ | times of training, and steps of the sampler | 1000, and $1 \le S \le T$ |
# | $\tau_k$ | time of step $k$; `times` | falls from $T - 1$ to $0$, `[S]` |
# | $\bar\alpha_t$ | share of the data's variance left at time $t$; `ab` | `[T]` |
# | $\eta$ | amount of fresh noise: 0 none, 1 as DDPM | 0 to 1 |
# | $\epsilon$ | noise, and the model's prediction of it; `eps` | `[batch, dim]` |
# | $\mu_k,\ s_k,\ w_k$ | mean, standard deviation and weight of component $k$ of the mixture | `[K, dim]`, `[K]`, `[K]` |
# | $v_k$ | variance of component $k$ at time $t$ | positive |
# | $p_t$ | density of $x_t$ | |
# | $\nabla \log p_t$ | the **score**: the direction in which the density grows | `[batch, dim]` |

# %% [markdown]
# ## Which times
#
# Spread $S$ times evenly: the first is $T - 1$, where the pure noise is, and the last is 0. Between $S$ times there are $S - 1$ gaps:
#
# $$ \tau_k = \left\lfloor \frac{(T - 1)(S - 1 - k)}{S - 1} \right\rfloor , \qquad k = 0, \dots, S - 1 , $$
#
# and $\tau_0 = T - 1$ alone for $S = 1$.
#
# ### Exercise 1 · sub_schedule  ●○○  6 minutes
#
# Return these times, exactly: no gap may be off by one because of rounding.


# %% sub_schedule tags=["exercise"]
def sub_schedule(T: int, S: int) -> Int[Tensor, "S"]:
    """The times at which the sampler asks the model.

    Arguments:
        T: times of training; they run from 0 to T - 1.
        S: steps of the sampler, from 1 to T.

    Returns:
        S whole numbers (int64) from T - 1 down to 0, evenly spaced and rounded down; T - 1 alone for S = 1.

    Example:
        sub_schedule(10, 4) is [9, 6, 3, 0]; sub_schedule(10, 3) is [9, 4, 0].
    """
    ### BEGIN SOLUTION
    if S == 1:
        return torch.tensor([T - 1])
    return torch.tensor([(T - 1) * (S - 1 - k) // (S - 1) for k in range(S)])
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Whole numbers do not need floats: `//` divides and rounds down.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `torch.tensor([(T - 1) * (S - 1 - k) // (S - 1) for k in range(S)])`, and `S == 1` before it.
#
# </details>
#
# <details>
# <summary>"One of my times is too small by 1"</summary>
#
# `torch.linspace(999, 0, S).long()` cuts off: where the exact value is 333, its float may be a little less, and becomes 332. It happens for $S = 220$, for example, and for most $S$ it does not. Count with whole numbers.
#
# <!-- not printed: 332 (float32; another version of PyTorch may round otherwise) -->
#
# </details>

# %% check_sub_schedule tags=["check"]
check.sub_schedule(sub_schedule)

# %% tags=["demo"]
print("S     times                                     alpha-bar at these times")
for S in (1, 2, 5, 10):
    times = sub_schedule(1000, S)
    print(
        f"{S:2}    {' '.join(map(str, times.tolist())):40}  {' '.join(f'{value:.3f}' for value in AB[times])}"
    )

# %% [markdown]
# ## A model that is exact
#
# **From noise to score.** Given $x_0$, $x_t$ is Gaussian, and the score of *this* density at $x_t$ is $-(x_t - \sqrt{\bar\alpha_t}\, x_0)/(1 - \bar\alpha_t) = -\epsilon / \sqrt{1 - \bar\alpha_t}$. The score of the density of $x_t$, without $x_0$, is the average of
# these over all $x_0$ that may be behind $x_t$ (differentiate $\log \int q(x_t \mid x_0)\, p(x_0)\, dx_0$ to see it). So the mean of the noise is
#
# $$ \mathbb{E}[\epsilon \mid x_t] = - \sqrt{1 - \bar\alpha_t}\; \nabla \log p_t(x_t) , $$
#
# and the mean is what a perfect network would say, as the loss is a mean square.
#
# **The score of a mixture.** A point of component $k$ is $\mu_k$ plus Gaussian noise of variance $s_k^2$. After shrinking and adding noise it is Gaussian with mean $\sqrt{\bar\alpha_t}\, \mu_k$ and variance $v_k = \bar\alpha_t s_k^2 + 1 - \bar\alpha_t$ along every axis. So $p_t$ is a mixture again:
#
# $$ p_t(x) = \sum_k w_k\, N_k(x) , \qquad \nabla \log p_t(x) = - \sum_k \rho_k(x)\, \frac{x - \sqrt{\bar\alpha_t}\, \mu_k}{v_k} , \qquad \rho_k = \frac{w_k N_k}{\sum_j w_j N_j} . $$
#
# $N_k$ is the density of component $k$ in $D$ dimensions, so $\log (w_k N_k) = \log w_k - \tfrac{D}{2} \log v_k - |x - \sqrt{\bar\alpha_t}\, \mu_k|^2 / (2 v_k)$ plus a constant. The shares $\rho_k$ are a softmax of these.
#
# ### Exercise 2 · gmm_eps  ●●●  15 minutes
#
# Return the mean of the noise for a mixture of round Gaussians (the same standard deviation along every axis). Far from all components every $N_k$ is 0 in float32: work with logarithms.


# %% gmm_eps tags=["exercise"]
def gmm_eps(
    x: Float[Tensor, "batch dim"],
    ab_t: float,
    means: Float[Tensor, "K dim"],
    stds: Float[Tensor, "K"],
    weights: Float[Tensor, "K"],
) -> Float[Tensor, "batch dim"]:
    """The mean of the noise in x, for data from a mixture of round Gaussians.

    Arguments:
        x: noisy points.
        ab_t: alpha-bar of their time, above 0 and at most 1, where there is no noise.
        means, stds: mean and standard deviation of each component of the clean data.
        weights: how probable each component is, positive; they add to 1.

    Returns:
        The expected noise in each point. Gradients flow to all tensors.

    Example:
        One component at 0 with standard deviation 1 stays as it is under noise: for ab_t = 0.64 and x = [[2.0, 0.0]] the
        result is 0.6 * x = [[1.2, 0.0]].
    """
    ### BEGIN SOLUTION
    var = ab_t * stds**2 + 1 - ab_t
    away = x[:, None] - math.sqrt(ab_t) * means
    logits = weights.log() - x.shape[1] / 2 * var.log() - away.square().sum(-1) / (2 * var)
    share = logits.softmax(dim=1)
    return math.sqrt(1 - ab_t) * (share[..., None] * away / var[:, None]).sum(1)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Build one tensor of differences, `[batch, K, dim]`. From its squared lengths come the logits `[batch, K]`, from these the shares. Then average the differences, each divided by its variance.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `away = x[:, None] - math.sqrt(ab_t) * means`; logits as in the text with `x.shape[1]` for $D$; `share = logits.softmax(1)`; at the end `math.sqrt(1 - ab_t) * (share[..., None] * away / var[:, None]).sum(1)`. The two minus signs cancel.
#
# </details>
#
# <details>
# <summary>"It is right for equal standard deviations, and wrong for others"</summary>
#
# A wide Gaussian is lower than a narrow one. The factor $v_k^{-D/2}$ of its density belongs in the shares.
#
# </details>

# %% check_gmm_eps tags=["check"]
check.gmm_eps(gmm_eps)


# %% [markdown]
# **See it.** Arrows point against the expected noise, to where a step back leads. Early in sampling (left) they point to the middle: nothing is decided. Later each region of the plane has its component. Below: your formula beside an average over many draws, with the standard error of this average.


# %% tags=["demo"]
axis = torch.linspace(-2.6, 2.6, 14)
grid = torch.cartesian_prod(axis, axis)
fig, axes = plotting.figure(1, 3, width=9.5, height=3.8, sharey=True)
for ax, t in zip(axes, (800, 400, 150), strict=True):
    arrows = -gmm_eps(grid, float(AB[t]), MEANS, STDS, WEIGHTS)
    ax.quiver(*grid.T, *arrows.T, color=plotting.BLUE, scale=40, width=0.006)
    ax.plot(*(AB[t].sqrt() * MEANS).T, "o", color=plotting.VERMILLION, markersize=4)
    ax.set(title=f"t = {t}", xlabel="$x_1$", aspect="equal")
axes[0].set(ylabel="$x_2$")
plotting.caption(
    fig,
    "Minus the expected noise at three times. Dots: the means, shrunk as the data are. See when the arrows begin to choose a dot.",
)
gen, t = torch.Generator().manual_seed(2), 400
clean, noise = data.draw_mixture(400_000, MEANS, STDS, WEIGHTS, gen), torch.randn(400_000, 2, generator=gen)
noisy = AB[t].sqrt().float() * clean + (1 - AB[t]).sqrt().float() * noise
for place in ((0.6, 0.3), (1.2, 0.9)):
    near = (noisy - torch.tensor(place)).norm(dim=1) < 0.1
    found = gmm_eps(torch.tensor([place]), float(AB[t]), MEANS, STDS, WEIGHTS)[0]
    average = ", ".join(f"{value:.2f}" for value in noise[near].mean(0))
    error = noise[near].std(0).max() / int(near.sum()) ** 0.5
    print(
        f"noise at {place}, time 400: average of {int(near.sum()):,} draws ({average}), each to {error:.2f}; gmm_eps ({found[0]:.2f}, {found[1]:.2f})"
    )

# %% [markdown]
# ## The loop
#
# Go down the times. At each ask the model once, and step to the level of the *next* time. The last step ends at $\bar\alpha = 1$, the clean data.
#
# ### Exercise 3 · ddim_sample  ●●○  12 minutes
#
# The model and the step come in as functions; `step` is your `ddim_step` of notebook 02, or any other with the same arguments. The noise comes in as a tensor, one slice for each step. The model was trained on times, so it wants a time for each
# point, not an index and not a level.


# %% ddim_sample tags=["exercise"]
def ddim_sample(
    model: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[Tensor, Tensor, float, float, float, Tensor], Tensor],
    x_T: Float[Tensor, "batch dim"],
    times: Int[Tensor, "S"],
    ab: Float[Tensor, "T"],
    eta: float,
    noise: Float[Tensor, "S batch dim"],
) -> Float[Tensor, "batch dim"]:
    """Samples, from pure noise.

    Arguments:
        model: model(x, t) predicts the noise in x; t has one time for each point, int64 [batch].
        step: step(x, eps, ab_t, ab_s, eta, noise) goes from level ab_t to level ab_s; both are Python floats.
        x_T: pure noise. Not changed.
        times: the times to visit, falling.
        ab: alpha-bar for every time of training.
        eta: handed on to the step.
        noise: noise[k] is for step k.

    Returns:
        Clean samples: the last step ends at alpha-bar 1. The model is called once per time.

    Example:
        For times = [5, 2] the steps go from ab[5] to ab[2], and from ab[2] to 1.0; the model gets the times 5, then 2.
    """
    ### BEGIN SOLUTION
    x, levels = x_T, [*ab[times].tolist(), 1.0]
    for k, t in enumerate(times):
        eps = model(x, t.expand(len(x)))
        x = step(x, eps, levels[k], levels[k + 1], eta, noise[k])
    return x
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Make a list of levels with one entry more than there are times: `ab` at the times, then 1.0. Step $k$ goes from entry $k$ to entry $k + 1$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `levels = [*ab[times].tolist(), 1.0]`, and in the loop `x = step(x, model(x, t.expand(len(x))), levels[k], levels[k + 1], eta, noise[k])`.
#
# </details>
#
# <details>
# <summary>"The samples are right for S = T, and garbage for S = 20"</summary>
#
# Your step ends at $\tau_k - 1$, the neighbour in the long schedule, or the model gets the number of steps that remain in the place of the time $\tau_k$. With all steps these are the right values.
#
# </details>

# %% check_ddim_sample tags=["check"]
check.ddim_sample(ddim_sample)

# %% [markdown]
# ## Play: steps and noise
#
# The same 400 starting points each time. **Question:** with how few steps do you see eight separate groups, for $\eta = 0$ and for $\eta = 1$? And which of the two keeps the *paths* when you add steps?


# %%
class Exact:
    """The exact model of the mixture, which counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return gmm_eps(x, float(AB[t[0]]), MEANS, STDS, WEIGHTS)


def starting_noise(n: int, S: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pure noise, the same for every S, and fresh noise for S steps."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=gen), torch.randn(S, n, 2, generator=gen)


STEPS, ETAS = (1, 2, 3, 5, 8, 10, 20, 50, 100), (0.0, 0.2, 0.5, 1.0)


def all_paths(step: Callable) -> dict[tuple[int, float], Float[Tensor, "steps points 2"]]:
    """The path of 400 points for every number of steps and every eta."""
    found = {}
    for S in STEPS:
        for eta in ETAS:
            x_T, noise = starting_noise(400, S, 5)
            path = [x_T]

            def noted(*given: object, path: list[Tensor] = path) -> Tensor:
                path.append(step(*given))
                return path[-1]

            ddim_sample(Exact(), noted, x_T, sub_schedule(1000, S), AB, eta, noise)
            found[S, eta] = torch.stack(path)
    return found


# %% tags=["demo"]
PATHS = all_paths(yours("ddim/02_ddim_derivation", "ddim_step"))


def draw_paths(steps: int, eta: float) -> Figure:
    """Left: the paths of twelve points. Right: where all points end."""
    path = PATHS[steps, eta]
    fig, (left, right) = plotting.figure(1, 2, width=9, height=4.6, sharey=True)
    show_points(left, path[-1], plotting.PALE, f"{steps} steps, eta = {eta:g}")
    for k in range(12):
        left.plot(*path[:, k].T, "-", color=plotting.PALETTE[k % 6], linewidth=1.2)
        left.plot(*path[-1, k], "o", color=plotting.PALETTE[k % 6], markersize=5)
    show_points(right, path[-1], plotting.BLUE, f"{steps} calls of the model")
    right.plot(*MEANS.T, "+", color=plotting.VERMILLION, markersize=9)
    left.set(xlabel="$x_1$", ylabel="$x_2$")
    right.set(xlabel="$x_1$")
    plotting.caption(
        fig,
        "Left: the paths of twelve points, a dot where each ends. Right: the ends of all 400; crosses are the means of the data.",
    )
    return fig


explorer = widgets.explore(
    draw_paths,
    steps=ipywidgets.SelectionSlider(options=STEPS, value=10, description="steps"),
    eta=ipywidgets.SelectionSlider(options=ETAS, value=0.0, description="eta"),
)
explorer

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# For both $\eta$, groups can be seen from about 8 steps on, with many points between them; the next cell counts these. With 20 steps hardly any are left, with 50 none. But the paths differ. For $\eta = 0$ they are smooth, and each colour ends in the same group whatever the number of steps: a start belongs to an end. For $\eta = 1$ they are
# walks, and another number of steps, which has other noise at each time, leads most points to another group.
#
# </details>

# %% tags=["demo"]
PATHS = all_paths(yours("ddim/02_ddim_derivation", "ddim_step"))
distance = {key: torch.cdist(path[-1], MEANS) for key, path in PATHS.items()}
print("points that end more than 0.4 from every mean, and points in the same group as with 100 steps")
print("steps      " + "".join(f"{S:7}" for S in STEPS))
for eta in (0.0, 1.0):
    strays = [(distance[S, eta].amin(1) > 0.4).float().mean() for S in STEPS]
    same = [(distance[S, eta].argmin(1) == distance[100, eta].argmin(1)).float().mean() for S in STEPS]
    print(f"eta = {eta:g}    " + "".join(f"{share:7.1%}" for share in strays))
    print("           " + "".join(f"{share:7.0%}" for share in same))

# %% [markdown]
# ## Test the claim
#
# How good are samples? We compare them with new data by their **energy distance**, which is 0 for equal distributions only; you will write it in notebook 04, here it is called. Two independent sets of data give the floor: what 2000 points can tell. Two controls go through the same measurement:
#
# - **sigma-hat**, which the paper includes too: the step with $\eta = 1$, but with fresh noise of standard deviation $\sqrt{1 - \bar\alpha_t / \bar\alpha_s}$, the larger of the variances that DDPM may use;
# - **own step**, the **negative control**: DDPM's step to $t - 1$, at the $S$ times only.


# %%
def sigma_hat_step(x: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    """The step with eta = 1 and the fresh noise of the way forward."""
    x0 = (x - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    var = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    return math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s - var) * eps + math.sqrt(1 - ab_t / ab_s) * noise


def sample_plane(
    kind: str, S: int, step: Callable, n: int = 2000, seed: int = 0
) -> tuple[Float[Tensor, "n 2"], int]:
    """Samples of one kind, and the calls of the model that they cost. `kind` is "own step", "sigma-hat", or an eta."""
    x, noise = starting_noise(n, S, seed)
    model, times = Exact(), sub_schedule(1000, S)
    if kind == "own step":
        for t, z in zip(times, noise, strict=True):
            x = own_step(x, model(x, t.expand(n)), int(t), z)
        return x, model.calls
    chosen, eta = (sigma_hat_step, 1.0) if kind == "sigma-hat" else (step, float(kind))
    return ddim_sample(model, chosen, x, times, AB, eta, noise), model.calls


# %% tags=["demo"]
ddim_step = yours("ddim/02_ddim_derivation", "ddim_step")
energy_distance = yours("ddim/04_quality_inversion", "energy_distance")
target = data_points(4000, 7)
floor = [float(energy_distance(data_points(2000, 20 + k), target)) for k in range(3)]
plan = {kind: (5, 10, 20, 50, 100) for kind in ("0", "0.2", "0.5", "1", "sigma-hat", "own step")}
runs = [(kind, S) for kind, steps in plan.items() for S in steps] + [("1", 1000)]
results, calls = {}, {}
for kind, S in tqdm(runs, desc="plane"):
    samples, calls[kind, S] = sample_plane(kind, S, ddim_step)
    results[kind, S] = float(energy_distance(samples, target))
print(f"energy distance of two sets of data (floor): {min(floor):.4f} to {max(floor):.4f}")
print(f"DDPM, eta = 1, {calls['1', 1000]} calls: {results['1', 1000]:.4f}\n")
print("steps = calls" + "".join(f"{S:10}" for S in plan["0"]))
for kind, steps in plan.items():
    name = kind if kind[0] in "so" else f"eta = {kind}"
    print(f"{name:13}" + "".join(f"{results[kind, S]:10.4f}" for S in steps))
print(
    f"\ncalls at S = 20: {calls['0', 20]}; fewer than DDPM's by the factor {calls['1', 1000] / calls['0', 20]:.0f}"
)

# %% tags=["demo"]
ddim_step = yours("ddim/02_ddim_derivation", "ddim_step")
fig, axes = plotting.figure(1, 4, width=11, height=3.6, sharey=True)
show_points(axes[0], sample_plane("1", 1000, ddim_step, 500)[0], plotting.BLACK, "DDPM, 1000 calls")
for ax, kind, title in zip(
    axes[1:], ("0", "sigma-hat", "own step"), ("eta = 0", "sigma-hat", "own step"), strict=True
):
    color = plotting.BLUE if kind == "0" else plotting.VERMILLION
    show_points(ax, sample_plane(kind, 20, ddim_step, 500)[0], color, f"{title}, 20 calls")
for ax in axes:
    ax.set(xlabel="$x_1$")
axes[0].set(ylabel="$x_2$")
plotting.caption(
    fig, "500 samples each. See which of the three with 20 calls has the size of the groups on the left."
)

# %% [markdown]
# With 20 steps and no fresh noise the distance is within a few thousandths of the floor, where DDPM with 1000 is. Distances may be below 0: the estimate is unbiased, so for equal distributions it is on both sides of 0. DDPM's own step stays above 0.1, even with 100 steps. Sigma-hat is behind at 10 and 20 steps, and catches up with many. Among the $\eta$ the differences are small
# here, about the size of the chance in 2000 points: the model is exact, and eight narrow groups do not ask for much. (A few points between the groups, which you can see in the picture, do not move this distance much.) [`benchmarks/results/ddim.md`](../../benchmarks/results/ddim.md) has the grid with five seeds.
#
# The paper's claim (abstract) is 10 to 50 times faster than DDPM for samples of high quality. Its Table 1 gives Fréchet inception distances (FID) of a network on CIFAR-10, where smaller is better:
#
# | steps | 10 | 20 | 50 | 100 | 1000 |
# |---|---|---|---|---|---|
# | $\eta = 0$ | 13.36 | 6.84 | 4.67 | 4.16 | 4.04 |
# | $\eta = 1$ | 41.07 | 18.36 | 8.01 | 5.78 | 4.73 |
# | $\hat\sigma$ | 367.43 | 133.37 | 32.72 | 9.99 | 3.17 |
#
# <!-- not printed: 13.36, 6.84, 4.67, 4.16, 4.04, 41.07, 18.36, 8.01, 5.78, 4.73, 367.43, 133.37, 32.72, 9.99, 3.17 (Table 1 of the paper, CIFAR-10) -->
#
# There $\eta$ matters a great deal, and $\hat\sigma$ is the worst with few steps and the best with all. Whether it does because of the network or because of the pictures is a question that you can answer in the next notebook, with a network on digits.
#
# ## What you built
#
# 1. A schedule of $S$ times, and a sampler that asks a model $S$ times.
# 2. The exact noise of a mixture: minus $\sqrt{1 - \bar\alpha_t}$ times its score.
# 3. A measurement in which 20 calls do what 1000 do, and in which the naive way fails.
#
# **Limits.** An exact model exists for toys only. Evenly spaced times are one choice; the paper also spaces them by squares. With five steps or fewer every member of the family is far off.
#
# **Cost.** $S$ calls of the model, one after the other; nothing else counts for a large network. The calls cannot be made at the same time, because each needs the result of the one before.
#
# ## Sources
#
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, ICLR 2021, arXiv:2010.02502 (2020): abstract; section 4.2 for the sampler on a part of the times; Table 1; appendix D.2 for the choice of times and D.3 for $\hat\sigma$.
# - P. Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, Neural Computation 23 (2011), pages 1661–1674: the mean of the noise is a score.
# - G. J. Székely, M. L. Rizzo, *Energy statistics: A class of statistics based on distances*, Journal of Statistical Planning and Inference 143 (2013), pages 1249–1272.
