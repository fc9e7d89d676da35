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
# # Twenty steps on real digits, and back again
#
# *Sampling in few steps, part 4 of 4: quality against cost, with a trained network; inversion and interpolation.*
#
# **Claim.** With one small network trained on handwritten digits, sampling without fresh noise in 20 to 100 steps gives digits that are as close to the data as those of DDPM with 1000 steps, or closer: 10 to 50 times fewer calls, counted. With fresh noise as in DDPM the
# same 20 steps are several times further away. And without noise the way can be walked back: from a digit to its noise, and to the digit again.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for about half a minute |
# | **You need** | [notebook 03](03_sampler.ipynb), and the steps of [notebook 02](02_ddim_derivation.ipynb) |
# | **Graded** | three exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | a distance between sets of samples, an inversion, an interpolation, and the headline of the paper on your own screen |

# %% setup
from collections.abc import Callable
from functools import cache

import ipywidgets
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import tqdm, trange

import utils
from autograde import open_lesson, yours
from utils import data, plotting, training, widgets
from utils.device import best_device

utils.setup()
check = open_lesson("ddim/04_quality_inversion")

# %% [markdown]
# ## The problem: which samples are better?
#
# Two sets of pictures. In one row are real digits. The other row was drawn from a Gaussian with the same mean and the same covariance of all pixels as the digits. You see at once which is which. But a number that compares means, or means and covariances, does not: they are equal by construction.


# %%
@cache
def pictures() -> tuple[Float[Tensor, "n 64"], Int[Tensor, "n"]]:
    """The digits between -1 and 1, and what they show."""
    return data.digits()


def gaussian_pictures(n: int) -> Float[Tensor, "n 64"]:
    """Pictures from a Gaussian with the digits' mean and covariance."""
    clean, _ = pictures()
    covariance = torch.cov(clean.T) + 1e-6 * torch.eye(64)
    noise = torch.randn(n, 64, generator=torch.Generator().manual_seed(0))
    return clean.mean(0) + noise @ torch.linalg.cholesky(covariance).T


def show_rows(
    ax: Axes, rows: list[Float[Tensor, "n 64"]], labels: list[str], *, xlabel: str, ylabel: str
) -> None:
    """Rows of digits as one image, with a name beside each row."""
    framed = [nn.functional.pad(row.cpu().reshape(-1, 8, 8), (1, 1, 1, 1), value=-0.7) for row in rows]
    ax.imshow(torch.cat([torch.cat(list(row), 1) for row in framed]), cmap="Greys", vmin=-1, vmax=1)
    ax.set(
        xticks=[],
        yticks=[10 * k + 4.5 for k in range(len(rows))],
        yticklabels=labels,
        xlabel=xlabel,
        ylabel=ylabel,
    )
    ax.tick_params(length=0)


# %% tags=["demo"]
clean, fake = pictures()[0], gaussian_pictures(1797)
fig, ax = plotting.figure(width=9.5, height=2.7)
show_rows(
    ax, [clean[40:50], fake[:10]], ["digits", "Gaussian"], xlabel="ten pictures of 8 by 8 pixels", ylabel=""
)
plotting.caption(
    fig, "Above: digits. Below: pictures with the same mean and covariance. Which number tells them apart?"
)
gap = (torch.cov(clean.T) - torch.cov(fake.T)).abs().max()
print(
    f"largest difference of the means {(clean.mean(0) - fake.mean(0)).abs().max():.2f}, of the covariances {gap:.2f}"
)

# %% [markdown]
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $a_i,\ b_j$ | points of two sets | `[N, dim]`, `[M, dim]` |
# | $\mathcal{E}$ | energy distance of two distributions | 0 for equal ones only |
# | $x_0,\ x_T$ | clean picture, and pure noise | `[batch, dim]` |
# | $\tau_k$ | the times of the schedule, falling; `times` | `[S]` |
# | $\bar\alpha_t$ | share of the picture's variance left at time $t$; `ab` | `[T]` |
# | $\eta$ | amount of fresh noise: 0 none, 1 as DDPM | 0 to 1 |
# | $\theta$ | angle between two noises | 0 to $\pi$ |
# | $S$ | steps, and calls of the network | 1 to 1000 |

# %% [markdown]
# ## A distance between sets
#
# Take two points from different sets, and two from the same set. If the distributions are equal, both pairs are equally far apart on average. If they are not, points of different sets are further apart. This is the **energy distance**:
#
# $$ \mathcal{E} = 2\, \mathbb{E}|a - b| - \mathbb{E}|a - a'| - \mathbb{E}|b - b'| \;\ge 0 . $$
#
# It is 0 for equal distributions only, because $|\cdot|$ is the Euclidean distance and not its square: with squares all that remains is the distance of the means.
#
# Its **unbiased** estimate replaces each mean by the average over pairs of *different* points. A point and itself are no pair: counting them makes the averages within a set too small and the distance too large, by an amount that depends on $N$.
#
# Subtract two points before you square. The expanded form $|a|^2 + |b|^2 - 2\, a \cdot b$ is equal on paper, but far from the origin its terms are large and nearly cancel: in float32 little is left of a small distance, and a point's distance to itself is not 0. The check has points far from the origin. (`torch.cdist` subtracts, and needs no table of all differences. For large sets it expands by itself, unless it is told `compute_mode="donot_use_mm_for_euclid_dist"`; the digits are near enough to the origin.)
#
# ### Exercise 1 · energy_distance  ●●○  8 minutes


# %% energy_distance tags=["exercise"]
def energy_distance(a: Float[Tensor, "N dim"], b: Float[Tensor, "M dim"]) -> float:
    """The unbiased estimate of the energy distance between two distributions.

    Arguments:
        a, b: points drawn from each; at least two of both.

    Returns:
        Twice the mean distance between a point of a and one of b, less the mean distances within a and within b, each over
        pairs of different points (by position; equal points at different positions are a pair). It may be negative.

    Example:
        For a = [[0.0], [1.0]] and b = [[0.0], [3.0]] the means are 6 / 4 = 1.5 between, 1 and 3 within: 3 - 1 - 3 = -1.0.
    """
    ### BEGIN SOLUTION
    between = torch.cdist(a, b).mean()
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * between - within[0] - within[1])
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# `torch.cdist(a, b)` is the table of all distances. In the table of a set with itself the diagonal is 0 up to rounding. So it adds nothing to the sum: all that needs care is the number to divide by.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# Within a set: `torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))`.
#
# </details>
#
# <details>
# <summary>"The distance of a set to a copy of itself is negative"</summary>
#
# That is right. Between the two copies each point meets itself, and within a set it does not. For *independent* sets of the same distribution the estimate is 0 on average, so it has to be negative now and then.
#
# </details>

# %% check_energy_distance tags=["check"]
check.energy_distance(energy_distance)

# %% tags=["demo"]
clean, _ = pictures()
order = torch.randperm(1797, generator=torch.Generator().manual_seed(1))
print(f"half of the digits and the other half: {energy_distance(clean[order[:898]], clean[order[898:]]):.4f}")
print(
    f"digits and the Gaussian with equal mean and covariance: {energy_distance(gaussian_pictures(1797), clean):.4f}"
)
print(f"digits and two copies of their mean: {energy_distance(clean.mean(0).expand(2, 64), clean):.4f}")
print(
    f"digits and pure noise: {energy_distance(torch.randn(1797, 64, generator=torch.Generator().manual_seed(2)), clean):.4f}"
)

# %% [markdown]
# That is the scale: about 0 for new digits, 2 and more for a grey cloud or noise. The second line is a warning. The Gaussian is told apart from the digits, as it has to be, but its distance is small: far apart in 64 dimensions, points differ mainly by contrast and covariance, and a wrong stroke counts little. So we need a second number, one that looks for strokes.
#
# ## The network
#
# The network is that of notebook 01, a little larger and trained longer; its weights are averaged over the last few hundred steps. Where there is a GPU it is much larger and sees more pictures. Beside it a small classifier, trained on two thirds of the digits. It gives two numbers for samples: how many it is **sure** about (more than
# 90 %), and how **many kinds** of digits there are, as the exponential of the entropy of its answers: 10 if all ten are equally frequent, 1 if all samples show the same digit.
#
# <!-- not printed: 90 % (a choice) -->

# %%
DEVICE = best_device()
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
AB = torch.cumprod(1 - BETAS, 0)
SMALL, LARGE = {"hidden": 192, "steps": 2500, "batch": 96}, {"hidden": 768, "steps": 10_000, "batch": 512}


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


def train(loss: Callable, size: dict[str, int], seed: int = 0, decay: float = 0.995) -> NoiseNetwork:
    """A network that has learned to predict the noise in digits, with averaged weights."""
    torch.manual_seed(seed)
    network, gen = NoiseNetwork(64, size["hidden"]).to(DEVICE), torch.Generator().manual_seed(seed)
    clean, ab, batch = pictures()[0], AB.float().to(DEVICE), size["batch"]
    weights = list(network.parameters())
    average = [p.detach().clone() for p in weights]
    optimiser = training.Adam(weights, lr=1e-3, steps=size["steps"])
    for _ in trange(size["steps"], desc="noise network"):
        x0 = clean[torch.randint(len(clean), (batch,), generator=gen)].to(DEVICE)
        t = torch.randint(1000, (batch,), generator=gen).to(DEVICE)
        loss(network, x0, t, torch.randn(batch, 64, generator=gen).to(DEVICE), ab).backward()
        optimiser.step()
        for kept, p in zip(average, weights, strict=True):
            kept.lerp_(p.detach(), 1 - decay)
    with torch.no_grad():
        for kept, p in zip(average, weights, strict=True):
            p.copy_(kept)
    return network.requires_grad_(False)


def train_classifier(steps: int = 400) -> tuple[nn.Module, float]:
    """A classifier of digits, and the share of held-out digits that it gets right."""
    torch.manual_seed(0)
    clean, labels = pictures()
    order = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))
    seen, held_out = order[:1200], order[1200:]
    network, gen = (
        nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
        torch.Generator().manual_seed(0),
    )
    optimiser = training.Adam(network.parameters(), lr=3e-3, steps=steps)
    for _ in range(steps):
        chosen = seen[torch.randint(len(seen), (96,), generator=gen)]
        noisy = clean[chosen] + 0.2 * torch.randn(96, 64, generator=gen)
        nn.functional.cross_entropy(network(noisy), labels[chosen]).backward()
        optimiser.step()
    network.requires_grad_(False)
    right = (network(clean[held_out]).argmax(1) == labels[held_out]).float().mean()
    return network, float(right)


def judge(samples: Float[Tensor, "n 64"], classifier: nn.Module) -> tuple[float, float]:
    """The share of samples that the classifier is sure about, and how many kinds of digits it sees."""
    p = classifier(samples.cpu()).softmax(1)
    shares = torch.bincount(p.argmax(1), minlength=10) / len(p)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    return float((p.amax(1) > 0.9).float().mean()), float(entropy.exp())


# %% tags=["demo"]
NETWORK = train(yours("ddim/01_ddpm_posterior", "eps_loss"), LARGE if DEVICE.type == "cuda" else SMALL)
CLASSIFIER, held_out_right = train_classifier()
print(f"parameters of the noise network: {sum(p.numel() for p in NETWORK.parameters()):,}")
print(f"classifier: right on {held_out_right:.1%} of the held-out digits")
for name, samples in (
    ("digits", pictures()[0]),
    ("Gaussian with equal mean and covariance", gaussian_pictures(1797)),
):
    sure_share, kinds_seen = judge(samples, CLASSIFIER)
    print(f"{name}: sure about {sure_share:.0%}, {kinds_seen:.1f} kinds")

# %% [markdown]
# ## Test the claim
#
# The $\eta$ are those of the paper's Table 1, the steps go from 5 to 100, and the controls are those of notebook 03: **sigma-hat**, and as **negative control** DDPM's own step from $t$ to $t - 1$ at the same $S$ times. 300 samples each, from the same pure noise; all functions of earlier notebooks are yours.


# %%
class Counting:
    """A network that counts its calls, without gradients."""

    def __init__(self, network: Callable) -> None:
        self.network, self.calls = network, 0

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x, t)


def starting_noise(n: int, S: int, seed: int = 0) -> tuple[Float[Tensor, "n 64"], Float[Tensor, "S n 64"]]:
    """Pure noise, the same for every S, and fresh noise for S steps."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(n, 64, generator=gen).to(DEVICE), torch.randn(S, n, 64, generator=gen).to(DEVICE)


def sigma_hat_step(x: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
    """The step with eta = 1 and the fresh noise of the way forward."""
    forward = 1 - ab_t / ab_s
    x0 = (x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5
    return ab_s**0.5 * x0 + (1 - ab_s - (1 - ab_s) / (1 - ab_t) * forward) ** 0.5 * eps + forward**0.5 * noise


def own_step(x: Tensor, eps: Tensor, t: int, z: Tensor) -> Tensor:
    """DDPM's step from t to t - 1, whatever the next time is."""
    beta, ab, before = float(BETAS[t]), float(AB[t]), float(AB[t - 1]) if t else 1.0
    return (x - beta / (1 - ab) ** 0.5 * eps) / (1 - beta) ** 0.5 + (
        (1 - before) / (1 - ab) * beta
    ) ** 0.5 * z


def sample_digits(
    kind: str,
    S: int,
    network: Callable,
    sample: Callable,
    schedule: Callable,
    step: Callable,
    n: int = 300,
    seed: int = 0,
) -> tuple[Float[Tensor, "n 64"], int]:
    """Samples of one kind, and the calls of the network. `kind` is "own step", "sigma-hat", or an eta."""
    x, noise = starting_noise(n, S, seed)
    model, times = Counting(network), schedule(1000, S).to(DEVICE)
    if kind == "own step":
        for t, z in zip(times, noise, strict=True):
            x = own_step(x, model(x, t.expand(n)), int(t), z)
        return x, model.calls
    chosen, eta = (sigma_hat_step, 1.0) if kind == "sigma-hat" else (step, float(kind))
    return sample(model, chosen, x, times, AB.to(DEVICE), eta, noise), model.calls


# %% tags=["demo"]
schedule, sample = yours("ddim/03_sampler", "sub_schedule", "ddim_sample")
step, ode = yours("ddim/02_ddim_derivation", "ddim_step", "ode_step")
clean, tools = pictures()[0], (NETWORK, sample, schedule, step)
plan = {kind: (5, 10, 20, 50, 100) for kind in ("0", "0.2", "0.5", "1", "sigma-hat", "own step")}
plan["1"] += (1000,)
distance, sure, kinds, contrast, calls = {}, {}, {}, {}, {}
for kind, S in tqdm([(kind, S) for kind, steps in plan.items() for S in steps], desc="digits"):
    samples, calls[kind, S] = sample_digits(kind, S, *tools)
    distance[kind, S] = energy_distance(samples.cpu(), clean)
    sure[kind, S], kinds[kind, S] = judge(samples, CLASSIFIER)
    contrast[kind, S] = float(samples.std(0).mean())
for title, table, form in (
    ("energy distance to the digits", distance, ".3f"),
    ("sure", sure, ".0%"),
    ("kinds of digits", kinds, ".1f"),
):
    print(f"{title}\nsteps = calls" + "".join(f"{S:8}" for S in (5, 10, 20, 50, 100, 1000)))
    for kind, steps in plan.items():
        name = kind if kind[0] in "so" else f"eta = {kind}"
        print(f"{name:13}" + "".join(f"{table[kind, S]:8{form}}" for S in steps))
    print()
print(
    f"contrast (spread of a pixel) with 20 steps: eta = 0 {contrast['0', 20]:.2f}, eta = 1 {contrast['1', 20]:.2f}, "
    f"sigma-hat {contrast['sigma-hat', 20]:.2f}; digits {clean.std(0).mean():.2f}"
)
print(
    f"DDPM with {calls['1', 1000]} calls: {distance['1', 1000]:.3f}.  eta = 0 with {calls['0', 20]} calls: {distance['0', 20]:.3f}, with {calls['0', 100]} calls: {distance['0', 100]:.3f}"
)

# %% tags=["demo"]
fig, (left, right) = plotting.figure(1, 2, width=10.5, height=3.8, sharex=True)
colors = (plotting.BLUE, plotting.SKY, plotting.GREEN, plotting.ORANGE, plotting.PURPLE, plotting.VERMILLION)
gaussian = energy_distance(gaussian_pictures(1797), clean)
for (kind, steps), color in zip(plan.items(), colors, strict=True):
    name = kind if kind[0] in "so" else f"eta = {kind}"
    left.loglog(steps, [distance[kind, S] for S in steps], "o-", color=color, label=name)
    right.semilogx(steps, [sure[kind, S] for S in steps], "o-", color=color)
left.axhline(distance["1", 1000], color=plotting.GREY, linestyle="--", linewidth=1)
left.axhline(gaussian, color=plotting.GREY, linestyle=":", linewidth=1)
left.set(xlabel="steps (calls of the network)", ylabel="energy distance")
right.set(xlabel="steps (calls of the network)", ylabel="samples that are surely a digit", ylim=(0, 1))
right.legend(*left.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1, 1))
plotting.caption(
    fig,
    "Left: lower is better. Dashed: DDPM with 1000 steps; see where each line crosses it. Dotted: the Gaussian with the digits' mean and covariance. Right: higher is better.",
)

# %% [markdown]
# Read the first table by columns. At 10 and 20 steps the distance grows with $\eta$ from 0.2 on, as in the paper's Table 1. At 50 and 100 steps the three smaller $\eta$ differ by about as much as chance makes 300 samples differ. Without fresh noise, 20 steps are already closer to the digits than DDPM with 1000. With $\eta = 1$ the same 20 steps are several times further away, and it takes hundreds of steps to come back. DDPM's own step, the negative control, is
# more than a hundred times further away than $\eta = 0$ from 10 steps on: what it returns is noise. The second table agrees in the order of the $\eta$. From 10 steps on no row loses kinds of digits. (Noise has many kinds, too: this number only finds samples that are all alike.) The second table also says what the samples are worth: those of $\eta = 0$ are surely digits about half as often as the data, and more often than the Gaussian. That is this network, and no sampler can mend it.
#
# Two observations do not fit a simple story. **Sigma-hat does well here** from 10 steps on, better than $\eta = 1$, while on CIFAR-10 it is by far the worst of Table 1 with 10 to 100 steps. The line about contrast gives a reason: in 20 steps with $\eta = 1$ the samples lose contrast, and the larger noise puts it back. On the plane of notebook 03, where the model is exact, sigma-hat was behind at 10 and 20
# steps. And **more than 20 steps of DDIM bring little**: what is left is the network's error, not the sampler's.
#
# The full grid with three networks: [`benchmarks/results/ddim.md`](../../benchmarks/results/ddim.md).
#
# **With a GPU** the cells above train the large network, and your tables are others. Three networks of each size, 500 samples each, the large ones on an H100:
#
# | | energy distance, small | large | sure, small | large |
# |---|---:|---:|---:|---:|
# | $\eta = 0$, 20 calls | 0.008 | 0.025 | 44 % | 74 % |
# | $\eta = 0$, 100 calls | 0.008 | 0.009 | 44 % | 78 % |
# | $\eta = 1$, 20 calls | 0.101 | 0.030 | 24 % | 79 % |
# | $\eta = 1$, 100 calls | 0.040 | 0.010 | 29 % | 85 % |
# | $\eta = 1$, 1,000 calls (DDPM) | 0.030 | 0.004 | 33 % | 86 % |
#
# The large network shows the claim and its price. With 100 calls in place of 1,000 both $\eta$ come near DDPM, and with 20 calls not far behind it. But now that the network is good, more steps *do* help, and the best samples of all are DDPM's with 1,000 calls. The usual explanation (Karras and others, 2022): fresh noise in every step washes out errors of earlier steps, which a curve without noise keeps. The paper's Table 1 ends in the same way, with sigma-hat ahead at 1,000
# steps. All of it: [`benchmarks/results/ddim_gpu.md`](../../benchmarks/results/ddim_gpu.md).
#
# <!-- not printed: 500, 20, 100, 1,000, 0.008, 0.025, 0.009, 0.101, 0.030, 0.040, 0.010, 0.004, 44 %, 74 %, 78 %, 24 %, 79 %, 29 %, 85 %, 33 %, 86 % (benchmarks/results/ddim.md and ddim_gpu.md) -->
#
# ## The same noise, the same digit
#
# Without fresh noise the sampler follows a curve, and more steps follow the same curve more closely. So the digit belongs to the noise, whatever the number of steps. With $\eta = 1$ there is no such thing.

# %% tags=["demo"]
schedule, sample = yours("ddim/03_sampler", "sub_schedule", "ddim_sample")
SHOWN, ETAS = (5, 10, 20, 50, 100), ("0", "0.5", "1")
SAMPLES = {(S, eta): sample_digits(eta, S, *tools, n=60)[0].cpu() for S in SHOWN for eta in ETAS}
fig, axes = plotting.figure(1, 2, width=11, height=3.3)
for ax, eta in zip(axes, ("0", "1"), strict=True):
    rows = [SAMPLES[S, eta][:10] for S in SHOWN]
    show_rows(ax, rows, [f"{S}" for S in SHOWN], xlabel=f"ten samples, eta = {eta}", ylabel="steps")
plotting.caption(
    fig,
    "Each column starts from the same noise. Left, eta = 0: see how a column keeps its digit. Right, eta = 1: it does not.",
)
for eta in ("0", "1"):
    gaps = [(SAMPLES[S, eta] - SAMPLES[100, eta]).square().mean().sqrt() for S in SHOWN[:-1]]
    print(
        f"eta = {eta}: root mean square difference to 100 steps: "
        + ", ".join(f"{S} steps {gap:.2f}" for S, gap in zip(SHOWN, gaps, strict=False))
    )

# %% [markdown]
# **Play.** All pictures here are computed once; the slider only chooses. **Question:** at which number of steps do the digits of $\eta = 0$ stop changing their kind, and do those of $\eta = 1$ ever stop?

# %% tags=["demo"]
HALVES = energy_distance(clean[order[:898]], clean[order[898:]])


def draw_digits(steps: int, eta: str) -> Figure:
    """Sixty digits from the same noise, and their distance to the data."""
    fig, ax = plotting.figure(width=9, height=3.4)
    rows = list(SAMPLES[steps, eta].split(15))
    show_rows(ax, rows, ["", "", "", ""], xlabel=f"60 samples, {steps} calls each", ylabel=f"eta = {eta}")
    plotting.caption(
        fig,
        f"60 samples with {steps} steps and eta = {eta}, always from the same noise. Energy distance of 300: {distance[eta, steps]:.3f}; of two halves of the data: {HALVES:.3f}.",
    )
    return fig


explorer = widgets.explore(
    draw_digits,
    steps=ipywidgets.SelectionSlider(options=SHOWN, value=20, description="steps"),
    eta=ipywidgets.SelectionSlider(options=ETAS, value="0", description="eta"),
)
explorer

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# For $\eta = 0$ most digits have their kind at 5 to 10 steps, and from 20 on only shades change. For $\eta = 1$ the digits at 50 and at 100 steps are as different as any two: each number of steps uses other noise on the way.
#
# </details>
#
# ## The way back
#
# An ordinary differential equation can be followed in both directions. Start with a clean picture at $\bar\alpha = 1$, and step *up* the schedule, to pure noise. Each step is an Euler step, your `ode_step`, from the level where $x$ is to the next, noisier level.
#
# There is one catch. Downwards, the step from $t$ to $s$ asks the model at $t$. Upwards, $x_t$ is not known yet: ask the model at $s$, where $x$ is. The two predictions differ a little, and so the way back is not exact. And the clean picture has no time: let it count as the lowest of the times, $\tau_{S-1}$.
#
# ### Exercise 2 · ddim_invert  ●●○  12 minutes


# %% ddim_invert tags=["exercise"]
def ddim_invert(
    model: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[Tensor, Tensor, float, float], Tensor],
    x0: Float[Tensor, "batch dim"],
    times: Int[Tensor, "S"],
    ab: Float[Tensor, "T"],
) -> Float[Tensor, "batch dim"]:
    """From pictures to the noise that makes them.

    Arguments:
        model: model(x, t) predicts the noise in x; t has one time for each picture, int64 [batch].
        step: step(x, eps, ab_t, ab_s) goes from the level ab_t to ab_s; both are Python floats.
        x0: clean pictures, at level 1.0. Not changed.
        times: the schedule as for sampling, falling. They are visited from the last to the first.
        ab: alpha-bar for every time of training.

    Returns:
        The pictures at times[0]. The model is called once per step, for the time at which x is; for the first step that is
        times[-1].

    Example:
        For times = [5, 2]: the first step goes from 1.0 to ab[2] and asks for time 2, the second from ab[2] to ab[5] and asks
        for time 2 again.
    """
    ### BEGIN SOLUTION
    x, level, here = x0, 1.0, times[-1]
    for t in times.flip(0):
        eps = model(x, here.expand(len(x)))
        x = step(x, eps, level, float(ab[t]))
        level, here = float(ab[t]), t
    return x
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Keep two things beside x: the level where it is, and the time that you tell the model. At the start they are 1.0 and the last of the times. Both follow x up.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `for t in times.flip(0):` ask the model with `here`, step from `level` to `float(ab[t])`, then set `level` and `here` for the next round.
#
# </details>
#
# <details>
# <summary>"math domain error in my step"</summary>
#
# `ddim_step` cannot go up, its `sigma` has no root there. Here the step that comes in takes four arguments, like `ode_step`.
#
# </details>

# %% check_ddim_invert tags=["check"]
check.ddim_invert(ddim_invert)

# %% [markdown]
# **See it.** 100 digits up to noise and down again, with the same number of steps both ways. The control: mix the digit with *random* noise up to time 999, as the way forward does, and sample.

# %% tags=["demo"]
steps, errors, spread = (5, 10, 20, 50, 100, 200), [], []
originals, model, ab = pictures()[0][:100].to(DEVICE), Counting(NETWORK), AB.to(DEVICE)
shown = {}
for S in tqdm(steps, desc="there and back"):
    times = schedule(1000, S).to(DEVICE)
    z = ddim_invert(model, ode, originals, times, ab)
    back = sample(model, step, z, times, ab, 0.0, torch.zeros(S, *z.shape, device=DEVICE))
    errors.append(float((back - originals).square().mean().sqrt()))
    spread.append(float(z.std()))
    shown[S] = back
INVERTED = z
mixed = (ab[999].sqrt() * originals + (1 - ab[999]).sqrt() * starting_noise(100, 1)[0]).float()
random = sample(model, step, mixed, times, ab, 0.0, torch.zeros(S, *z.shape, device=DEVICE))
fig, (left, right) = plotting.figure(1, 2, width=9.5, height=3.3, width_ratios=[1, 1.2])
left.loglog(steps, errors, "o-", color=plotting.BLUE)
left.set(xlabel="steps in each direction", ylabel="root mean square error")
rows = [originals[:8], shown[10][:8], shown[100][:8], random[:8]]
show_rows(right, rows, ["digit", "10 steps", "100 steps", "random noise"], xlabel="eight digits", ylabel="")
plotting.caption(
    fig,
    "Left: error after the way to the noise and back. Right: digits, two returns, and the control, which returns other digits.",
)
print("steps                    " + "".join(f"{S:8}" for S in steps))
print("error                    " + "".join(f"{error:8.3f}" for error in errors))
print("spread of the noise      " + "".join(f"{value:8.3f}" for value in spread))
print(f"control, random noise: error {float((random - originals).square().mean().sqrt()):.3f}")

# %% [markdown]
# Twice the number of steps, half the error: that is Euler's method, whose error falls as $1/S$. The control has lost the digit, for the noise that belongs to it is one in particular. The noise that belongs to a real digit has a spread below 1. With few steps that is partly the error of Euler's method. What is left with many is the network's: it has not learned the distribution exactly.
#
# ## Between two digits
#
# If each noise has its digit, what lies between two noises? Not the straight line. A standard normal vector of $D$ numbers has a length near $\sqrt D$, nearly always. Half way on the straight line between two of them the length is $\sqrt{D/2}$: no noise of this kind was ever seen in training. So walk along the arc, **spherical linear interpolation** (Shoemake, 1985):
#
# $$ \text{slerp}(z_0, z_1; a) = \frac{\sin\big((1 - a)\,\theta\big)}{\sin\theta}\, z_0 + \frac{\sin(a\,\theta)}{\sin\theta}\, z_1 , \qquad \cos\theta = \frac{z_0 \cdot z_1}{|z_0|\,|z_1|} . $$
#
# ### Exercise 3 · slerp  ●●○  10 minutes
#
# Each row of the batch has its own angle. Where two rows are parallel, $\sin\theta = 0$: there the arc is a straight line. Take a cosine above $1 - 5 \cdot 10^{-7}$, an angle below 0.001, for parallel. (Rounding can make it larger than 1, which has no angle. Opposite rows, $\theta = \pi$, have no unique arc; they do not occur.) The check also looks at the gradients of equal and parallel rows: they are those of the straight line, and never NaN.
#
# <!-- not printed: 0.001 (a choice) -->


# %% slerp tags=["exercise"]
def slerp(
    z0: Float[Tensor, "batch dim"], z1: Float[Tensor, "batch dim"], a: float
) -> Float[Tensor, "batch dim"]:
    """A point on the arc from z0 to z1, row by row.

    Arguments:
        z0, z1: the ends, not zero and not opposite; rows may be equal or parallel.
        a: how far, from 0 (z0) to 1 (z1).

    Returns:
        The formula above for each row; (1 - a) z0 + a z1 where the rows are parallel. Never NaN, and its gradients never NaN.

    Example:
        slerp([[1.0, 0.0]], [[0.0, 1.0]], 0.5) is [[0.7071, 0.7071]].
    """
    ### BEGIN SOLUTION
    cosine = (z0 * z1).sum(1, keepdim=True) / (z0.norm(dim=1, keepdim=True) * z1.norm(dim=1, keepdim=True))
    parallel = cosine > 1 - 5e-7
    theta = torch.where(parallel, 0.0, cosine).acos()
    arc = (((1 - a) * theta).sin() * z0 + (a * theta).sin() * z1) / theta.sin()
    return torch.where(parallel, (1 - a) * z0 + a * z1, arc)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Sums over the last dimension with `keepdim=True` give one number per row, `[batch, 1]`. Compute arc and straight line for all rows, and choose with `torch.where`.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `parallel = cosine > 1 - 5e-7`, then `theta = torch.where(parallel, 0.0, cosine).acos()`, and at the end `torch.where(parallel, (1 - a) * z0 + a * z1, arc)`.
#
# </details>
#
# <details>
# <summary>"The values are right, and the gradients are NaN"</summary>
#
# `torch.where` passes a gradient of zero to the branch that is not taken, and zero times infinity is NaN. `acos` has an infinite slope at 1, and so has the division by a sine of 0. Replace the cosines of parallel rows, by 0 for example, before you take
# their angle.
#
# </details>

# %% check_slerp tags=["check"]
check.slerp(slerp)

# %% tags=["demo"]
pairs, ways = [(0, 1), (3, 8), (4, 9)], {"slerp": slerp, "straight": lambda p, q, a: (1 - a) * p + a * q}
east, north = torch.eye(2).split(1)
print(f"half way from east to north: slerp {slerp(east, north, 0.5).tolist()}")
times = schedule(1000, 100).to(DEVICE)
rows, names = [], []
for i, j in pairs:
    for name, way in ways.items():
        path = torch.cat([way(INVERTED[i : i + 1], INVERTED[j : j + 1], a / 8) for a in range(9)])
        rows.append(sample(model, step, path, times, ab, 0.0, torch.zeros(100, *path.shape, device=DEVICE)))
        names.append(name)
fig, ax = plotting.figure(width=8, height=5.4)
show_rows(ax, rows, names, xlabel="a, from 0 (left) to 1 (right)", ylabel="")
plotting.caption(
    fig,
    "Three pairs of real digits, inverted, and what lies between their noises: along the arc, and along the straight line. See the contrast in the middle columns.",
)
p, q = starting_noise(200, 1, 1)[0], starting_noise(200, 1, 2)[0]
for name, way in ways.items():
    middle = sample(model, step, way(p, q, 0.5), times, ab, 0.0, torch.zeros(100, *p.shape, device=DEVICE))
    share, _ = judge(middle, CLASSIFIER)
    print(
        f"{name:9} half way between 200 pairs of noises: length {float(way(p, q, 0.5).norm(dim=1).mean()):.1f}, "
        f"energy distance {energy_distance(middle.cpu(), pictures()[0]):.3f}, sure {share:.0%}"
    )
print(f"length of pure noise: {float(p.norm(dim=1).mean()):.1f}")

# %% [markdown]
# Half way on the straight line the noise is too short, and the digits are further from the data. On the arc they are nearly as good as any.
#
# ## What you built
#
# 1. The unbiased energy distance, and with it a table of quality against calls, for six kinds of steps on digits.
# 2. The way from a picture to its noise, and its error against steps.
# 3. Interpolation along the arc, between noises.
#
# **Limits.** Digits of 8 by 8 pixels and a network of three layers are a toy: the order of the $\eta$ agrees with the paper's, the place of sigma-hat does not, and numbers cannot. The energy distance in the space of pixels is blunt: it sees missing contrast sooner than a wrong stroke. Inversion is exact only in the limit of many steps.
#
# **Cost.** One call of the network per step: 20 for a digit, 20 more for its noise. On a GPU the step itself can be one kernel (`utils/reference/ddim/fused.py`): on an H100 3.4 to 6.3 times as fast as the line of PyTorch, for large batches at the speed of a copy. So the network is what counts.
#
# <!-- not printed: 3.4, 6.3 (benchmarks/results/ddim_gpu.md) -->
#
# ## Sources
#
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, ICLR 2021, arXiv:2010.02502 (2020): Table 1; section 5.2 for the same noise at different numbers of steps, section 5.3 for interpolation, section 5.4 with Table 2 for reconstruction.
# - T. Karras, M. Aittala, T. Aila, S. Laine, *Elucidating the Design Space of Diffusion-Based Generative Models*, NeurIPS 2022, arXiv:2206.00364: section 4, what fresh noise is good for.
# - G. J. Székely, M. L. Rizzo, *Energy statistics: A class of statistics based on distances*, Journal of Statistical Planning and Inference 143 (2013), pages 1249–1272.
# - K. Shoemake, *Animating Rotation with Quaternion Curves*, SIGGRAPH 1985: slerp.
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020, arXiv:2006.11239: the sampler with 1000 steps.
