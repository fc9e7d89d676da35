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
# # How much each pixel counts
#
# *Receptive fields, part 3 of 3: the effective receptive field.*
#
# **Claim.** In a stack of $n$ layers with kernel $k$ and stride 1 the influence of pixels on a unit is a bell of standard deviation $\sqrt{n\,(k^2-1)/12}$. With equal weights this standard deviation is
# exact; with random weights, with ReLU or without, it holds for the *squares* of the gradient, off by at most 9 % in our table. The square that notebooks 01 and 02 computed grows with $n$, the bell with $\sqrt n$, so a unit uses
# a smaller and smaller part of what it could see. And training moves the bell: residual networks that read digits end with a
# wider view than the same networks when they report one pixel.
#
# | | |
# |---|---|
# | **Time** | about 55 minutes; the code runs for about fifteen seconds |
# | **You need** | [notebook 01](01_formulas.ipynb), mean and variance of a distribution; [notebook 02](02_probe.ipynb) for the gradient by the image |
# | **Graded** | five exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | the number of paths from every pixel, the width of the bell on paper, and three measures of a real network |

# %% setup
import math
from collections.abc import Callable
from functools import cache

import ipywidgets
import torch
import torch.nn.functional as F
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from skimage import data as photographs
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm.auto import trange

import utils
from autograde import open_lesson
from utils import plotting, widgets

utils.setup()
check = open_lesson("receptive_field/03_effective")

# %% [markdown]
# ## The problem: most of the square does not matter
#
# Twenty layers of kernel $3 \times 3$ see a square of 41 by 41 pixels. Take patches of that size from one photograph, and put a unit on top of them, with random weights and ReLU. Now replace
# everything outside a central window by pixels of *another* photograph. How much does the unit change, compared with the change when all pixels are
# replaced?


# %%
def grey(name: str) -> Float[Tensor, "height width"]:
    """One of scikit-image's photographs in grey, with mean 0 and standard deviation 1."""
    picture = torch.tensor(getattr(photographs, name)()).float().mean(2)
    return (picture - picture.mean()) / picture.std()


def patches(name: str, n: int, side: int, seed: int = 0) -> Float[Tensor, "n 1 side side"]:
    """Square patches from random places of a photograph."""
    picture, gen = grey(name), torch.Generator().manual_seed(seed)
    corners = [torch.randint(0, length - side, (n,), generator=gen).tolist() for length in picture.shape]
    return torch.stack([picture[y : y + side, x : x + side] for y, x in zip(*corners, strict=True)])[:, None]


def random_stack(
    layers: list[tuple[int, int, int, int]], seed: int, relu: bool = True, channels: int = 8
) -> nn.Sequential:
    """Convolutions without padding and bias, with random weights that keep the size of their input, and one channel at the end."""
    gen, blocks = torch.Generator().manual_seed(seed), []
    for at, (k, s, _, d) in enumerate(layers):
        sizes = 1 if at == 0 else channels, 1 if at == len(layers) - 1 else channels
        convolution = nn.Conv2d(*sizes, k, s, dilation=d, bias=False)
        gain = 2 if relu and at else 1
        convolution.weight.data = (
            torch.randn(convolution.weight.shape, generator=gen) * (gain / (sizes[0] * k * k)) ** 0.5
        )
        blocks += [nn.ReLU(), convolution] if relu and at else [convolution]
    return nn.Sequential(*blocks)


Layer = tuple[int, int, int, int]  # kernel, stride, padding in front, dilation
THREE: Layer = (3, 1, 0, 1)

# %% tags=["demo"]
here, elsewhere = patches("astronaut", 24, 41), patches("coffee", 24, 41)
sides, mixtures, changes = list(range(1, 42, 4)), [], []
for side in sides:
    edge = (41 - side) // 2
    mixed = elsewhere.clone()
    mixed[:, :, edge : 41 - edge, edge : 41 - edge] = here[:, :, edge : 41 - edge, edge : 41 - edge]
    mixtures.append(mixed)
for seed in range(12):
    with torch.no_grad():
        values = random_stack([THREE] * 20, seed)(torch.cat([*mixtures, elsewhere])).reshape(-1, 24)
    change = (values - values[-2]).abs().mean(1)  # the last mixture is all `here`
    changes.append(change[:-1] / change[-1])
changes = torch.stack(changes, 1)
median = changes.median(1).values
for side in (37, 33, 29, 25):
    print(
        f"window of {side} by {side}: {1 - side**2 / 41**2:4.0%} of the pixels replaced, the unit changes by {median[sides.index(side)]:.1%}"
    )
fig, ax = plotting.figure(width=8.5, height=3.3)
ax.plot(sides, changes, color=plotting.SKY, linewidth=0.8)
ax.plot(sides, median, "o-", color=plotting.BLUE)
ax.plot(sides, [1 - side**2 / 41**2 for side in sides], "--", color=plotting.GREY)
plotting.label(ax, 30, 0.62, "share of pixels replaced", plotting.GREY)
ax.set(
    xlabel="side of the central window that is kept (pixels)", ylabel="change of the unit", ylim=(-0.05, 2)
)
plotting.caption(
    fig,
    "1 is the change when all pixels are replaced. Thin lines: 12 networks with random weights; dots: their median; dashed: the share of pixels that are "
    "replaced. On the right the outer pixels are replaced, and nearly nothing happens.",
)

# %% [markdown]
# A third of the pixels can be replaced, and the unit hardly notices. (On the left the change exceeds 1: a border between two photographs is itself a strong pattern. The dashed line only counts pixels, and
# is no prediction for such networks.) All of them are in its receptive field. The box of notebook 02 says which pixels *can* matter. We now ask how much they do.
#
# ## Notation
#
# | symbol | meaning | values |
# |---|---|---|
# | $n$ | number of layers, where all are equal | |
# | $k, s, d$ | kernel, stride, dilation of a layer | |
# | $r$ | receptive field of notebook 01, also called the *theoretical* one | pixels |
# | $c_q$ | number of paths from pixel $q$ to the unit | at least 0 |
# | $g_q$ | gradient of the unit by pixel $q$ | |
# | $v$ | variance of the position of a path, along one axis | pixels² |
# | $\sigma$ | standard deviation, $\sqrt v$ | pixels |
# | influence | a map over pixels: the mean of $\lvert g_q \rvert$ (power 1) or of $g_q^2$ (power 2), scaled to sum 1 | |
# | effective receptive field | where the influence is not small; how large it is depends on the measure | pixels |

# %% [markdown]
# ## Count the paths
#
# Start with the simplest network that can be: one channel, no ReLU, all weights 1. The gradient of the unit by a pixel is then the number of paths from the pixel to the unit, because each path
# contributes a product of ones. Rows and columns are independent here, so one axis is enough.
#
# Go from the top to the image, as in exercise 2 of notebook 01, but carry along *how many* paths lead from the unit to each position, and not only which positions there are.
#
# - At the top there is one position with one path.
# - **Stride.** Neighbouring units of a layer place their first taps $s$ positions apart in the layer below. So the counts are spread out: $s - 1$ zeros between each two of them.
# - **Kernel.** Each unit reads $k$ taps, $d$ apart. So the position at distance $t\,d$ from each first tap receives the same count, for $t = 0, \dots, k - 1$: the sum of $k$ copies of the spread counts, each $d$ further.
#
# ### Exercise 1 · path_counts  ●●○  10 minutes
#
# Write the loop. The result has as many elements as the receptive field has pixels, and its length obeys $m \leftarrow (m - 1)\,s + K$ by itself.


# %% path_counts tags=["exercise"]
def path_counts(layers: list[Layer]) -> Float[Tensor, "pixels"]:
    """The number of paths from each pixel of a unit's receptive field to the unit, along one axis.

    Arguments:
        layers: (kernel, stride, padding, dilation) of each layer, the one next to the image first. May be empty. The padding
            does not matter: the unit is far from the border.

    Returns:
        One count for every pixel of the receptive field, from its first pixel to its last, as a float64 tensor. Pixels inside that no
        path reaches have count 0. Without layers it is [1].

    Example:
        path_counts([(3, 1, 1, 1), (3, 1, 1, 1)]) is [1, 2, 3, 2, 1]. path_counts([(3, 2, 1, 1), (2, 1, 0, 1)]) is [1, 1, 2, 1, 1]:
        two units, 2 pixels apart, read 3 pixels each.
    """
    ### BEGIN SOLUTION
    counts = torch.ones(1, dtype=torch.float64)
    for k, s, _, d in reversed(layers):
        spread = torch.zeros((len(counts) - 1) * s + 1, dtype=torch.float64)
        spread[::s] = counts
        counts = torch.zeros(len(spread) + d * (k - 1), dtype=torch.float64)
        for tap in range(k):
            counts[tap * d : tap * d + len(spread)] += spread
    return counts
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Two steps per layer, the layer at the top first. `spread` has length $(m - 1)\,s + 1$, with the counts at every $s$-th place. The new counts have $d\,(k - 1)$ places more, and `spread` is
# added to them $k$ times, each time $d$ places further.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `spread[::s] = counts`, then `for tap in range(k): new[tap * d : tap * d + len(spread)] += spread`. Start with `torch.ones(1, dtype=torch.float64)`.
#
# </details>
#
# <details>
# <summary>"The length is right, and the counts are wrong for strides"</summary>
#
# Two things to check. Between the counts are zeros, not repeated counts: a stride skips positions. And a layer spreads *before* its kernel adds, because its stride belongs to its own units, its kernel
# to the layer below.
#
# </details>

# %% check_path_counts tags=["check"]
check.path_counts(path_counts)

# %% [markdown]
# **See it.** How the counts change with the depth, and what strides and dilation make of them.

# %% tags=["demo"]
fig, (left, right) = plotting.figure(1, 2, width=10.5, height=3.5)
places = {1: (-6.5, 0.335), 2: (1.3, 0.335), 5: (2.2, 0.19), 20: (4.6, 0.08)}
for n, color in ((1, plotting.GREY), (2, plotting.SKY), (5, plotting.BLUE), (20, plotting.VERMILLION)):
    counts = path_counts([THREE] * n)
    pixels = torch.arange(len(counts)) - len(counts) // 2
    left.plot(pixels, counts / counts.sum(), ".-", color=color)
    plotting.label(left, *places[n], f"n = {n}", color)
left.set(xlabel="pixel, from the middle", ylabel="share of all paths", xlim=(-21, 21))
for name, layers, color in (
    ("strides 2, 2, 1, 1", [(3, 2, 0, 1)] * 2 + [THREE] * 2, plotting.BLUE),
    ("dilation 1, 2, 4", [(3, 1, 0, 1), (3, 1, 0, 2), (3, 1, 0, 4)], plotting.GREEN),
    ("dilation 4, 4, 4", [(3, 1, 0, 4)] * 3, plotting.VERMILLION),
):
    counts = path_counts(layers)
    right.plot(
        torch.arange(len(counts)) - len(counts) // 2, counts / counts.sum(), ".-", color=color, label=name
    )
    print(f"{name:19} {len(counts):3} pixels, {int((counts == 0).sum()):2} of them without a path")
right.legend(loc="upper left")
right.set(xlabel="pixel, from the middle", ylabel="share of all paths", xlim=(-21, 21), ylim=(-0.01, 0.5))
plotting.caption(
    fig,
    "Left: kernel 3, n times: the counts become a bell. Right: dilation by the same number leaves most pixels without any path.",
)
counts = path_counts([THREE] * 20)
print(
    f"kernel 3, 20 times: {counts[0]:.0f} path from a pixel at the rim, {counts.max():,.0f} from the one in the middle"
)

# %% [markdown]
# One path from the rim, and 377,379,369 from the middle, along one axis; in the plane the corner of the square has one path, and the middle the square of that number. (The right panel shows why dilation rates of one network
# should differ: with 4, 4, 4 only every fourth pixel is seen. Even with 1, 2, 4 the counts jump from pixel to pixel, and the middle has one path where its neighbours have three; a few steps of different size make no bell.)
#
# ## A path is a random walk
#
# Why a bell? Divide the counts by their sum. They are now the probabilities of a random experiment: start at the unit, and choose in every layer one of the $k$ taps, each with probability $1/k$. Every path is equally likely, so
# $c_q$ divided by the sum is the probability to arrive at pixel $q$. The pixel is a **sum of independent steps**, one for each layer. Two facts about such sums are all we need: their variances add, and for many steps of similar size
# their distribution approaches a Gaussian (the central limit theorem).
#
# **One layer.** The tap $t$ is $0, 1, \dots, k - 1$ with probability $1/k$ each. Its mean is $(k-1)/2$. The mean of its square is $\tfrac1k \sum t^2 = (k-1)(2k-1)/6$. The variance is the second minus the square of the first:
#
# $$ \frac{(k-1)(2k-1)}{6} - \frac{(k-1)^2}{4} = \frac{(k-1)\,\big( (4k-2) - (3k-3) \big)}{12} = \frac{k^2 - 1}{12} . $$
#
# **$n$ equal layers** without stride: variances add, so
#
# $$ \sigma = \sqrt{ \frac{n\,(k^2 - 1)}{12} } , $$
#
# for kernel 3 this is $\sqrt{2/3}\,\sqrt n$, about $0.816 \sqrt n$. The theoretical field $1 + n\,(k-1)$ grows with $n$. Their ratio falls like $1/\sqrt n$: this is the main result of Luo et al. (2016).
#
# **Strides and dilation.** Walk down once more. A path that is at unit $u$ of a layer goes to position $u\,s + t\,d - p$ of the layer below. What happens to the variance of $u$ when it is multiplied by $s$? What is the variance of $t\,d$?
#
# ### Exercise 2 · predicted_std  ●●○  8 minutes
#
# Write the recursion for the variance, from the top to the image, and return its root. It looks like the recursion of notebook 01, with other powers.


# %% predicted_std tags=["exercise"]
def predicted_std(layers: list[Layer]) -> float:
    """Standard deviation of the pixel at which a random path ends, along one axis, in pixels.

    Arguments:
        layers: (kernel, stride, padding, dilation) of each layer, the one next to the image first. May be empty. In every layer each of the
            kernel's taps is taken with the same probability.

    Returns:
        The standard deviation, a float; 0.0 without layers.

    Example:
        predicted_std([(3, 1, 1, 1)] * 6) is 2.0: six times the variance (9 - 1) / 12. predicted_std([(3, 2, 0, 1), (3, 1, 0, 1)]) is
        the root of 4 * 8/12 + 8/12, about 1.826.
    """
    ### BEGIN SOLUTION
    variance = 0.0
    for k, s, _, d in reversed(layers):
        variance = variance * s**2 + d**2 * (k**2 - 1) / 12
    return math.sqrt(variance)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The variance of $s\,u$ is $s^2$ times that of $u$. The two parts of the sum are independent, so their variances add. A constant such as $p$ changes nothing.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $v \leftarrow v\, s^2 + d^2\, (k^2 - 1)/12$, from $v = 0$ at the top, in `for k, s, p, d in reversed(layers)`. At the end the root.
#
# </details>
#
# <details>
# <summary>"Without strides it is right, with strides it is too large"</summary>
#
# The order matters, as in notebook 01: multiply by $s^2$ first, then add the layer's own kernel. A layer's kernel steps over the layer below, so its own stride does not stretch it.
#
# </details>

# %% check_predicted_std tags=["check"]
check.predicted_std(predicted_std)

# %% [markdown]
# In one line: $v \leftarrow v\, s^2 + d^2\, (k^2 - 1)/12$. Compare $e \leftarrow e\, s + d\, (k - 1)$ of notebook 01. The same walk, once with widths and once with variances.
#
# **See it.** Your two functions against each other: the predicted $\sigma$, and the one of the counted paths.

# %% tags=["demo"]
print("stack                              field r   predicted   of the paths   r / sigma")
for name, layers in (
    ("kernel 3, 5 times", [THREE] * 5),
    ("kernel 3, 20 times", [THREE] * 20),
    ("kernel 3, 80 times", [THREE] * 80),
    ("kernel 11, 4 times", [(11, 1, 0, 1)] * 4),
    ("strides 2, 2, 1, 1", [(3, 2, 0, 1)] * 2 + [THREE] * 2),
    ("dilation 1, 2, 4, 8", [(3, 1, 0, 2**at) for at in range(4)]),
):
    counts = path_counts(layers)
    place, share = torch.arange(len(counts)), counts / counts.sum()
    mean = (share * place).sum()
    measured = (share * (place - mean) ** 2).sum().sqrt()
    print(
        f"{name:32}{len(counts):9}{predicted_std(layers):12.3f}{measured:15.3f}{len(counts) / predicted_std(layers):12.1f}"
    )
fig, ax = plotting.figure(width=8.5, height=3.1)
for n, color in ((5, plotting.BLUE), (20, plotting.VERMILLION)):
    counts, sigma = path_counts([THREE] * n), predicted_std([THREE] * n)
    pixels = torch.arange(len(counts)) - n
    fine = torch.linspace(-n, n, 201)
    ax.plot(pixels, counts / counts.sum(), "o", color=color)
    ax.plot(
        fine,
        torch.exp(-(fine**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)),
        color=color,
        linewidth=1,
    )
    plotting.label(ax, 1.3 * sigma, 0.2 / sigma, f"n = {n}", color)
ax.set(xlabel="pixel, from the middle", ylabel="share of all paths", xlim=(-21, 21))
plotting.caption(
    fig, "Dots: counted paths. Lines: Gaussians of your predicted width. At 5 layers they nearly agree."
)

# %% [markdown]
# ## Random weights: what adds up
#
# Real weights have both signs. Then the gradient $g_q$ is a sum over paths of products of weights, and its mean over random weights is zero: the bell seems to be gone. But look at the *square*. Let all weights be independent, with mean 0 and
# variance $w$. In the mean of
#
# $$ g_q^2 = \Big( \sum_{\text{paths}} \prod \text{weights} \Big)^2 $$
#
# a product of two *different* paths contains at least one weight that stands in it only once, and so has mean zero. What remains is each path with itself: $w^n$ for every path,
#
# $$ \text{mean of } g_q^2 = w^n \cdot (\text{number of paths from } q) . $$
#
# Up to a factor this is the map that equal weights gave to $g_q$ itself. **With weights of one sign, sizes add; with weights of random sign, squares add.** So there are two powers to look at: $\lvert g \rvert$ for the first kind, $g^2$ for the
# second. Who looks at $\lvert g \rvert$ with random weights sees roughly the *root* of the bell. The root of $e^{-q^2/2\sigma^2}$ is $e^{-q^2/4\sigma^2}$, a bell that is $\sqrt 2$ times as wide. Published pictures use either of them, which explains a part of the
# disagreement among them.
#
# ReLU multiplies each path by 0 or 1, depending on the image. If the gates were independent of the weights, it would only change the factor. They are not quite, so we measure.
#
# ### Exercise 3 · erf_map  ●●○  10 minutes
#
# Write the measurement: the gradient of the central output unit by the image, for several images at once, in either power.


# %% erf_map tags=["exercise"]
def erf_map(
    net: Callable[[Tensor], Tensor], x: Float[Tensor, "images channels height width"], power: int
) -> Float[Tensor, "height width"]:
    """How much each pixel influences the central output unit.

    Arguments:
        net: a module or any function from x to a map [images, channels of the output, rows, columns]. Images do not influence each other.
        x: the images. Their values are not changed.
        power: 1 for the size of the gradient, 2 for its square.

    Returns:
        |gradient| ** power of the unit at [rows // 2, columns // 2] of the output (the sum over all its channels), summed over the
        channels of the image, averaged over the images, and divided by its sum, so that it sums to 1. In the dtype of x. Where no pixel has a
        gradient, the result is nan. The parameters of net hold no gradient afterwards (their .grad stays None).

    Example:
        For net = nn.Conv2d(1, 1, 3) with all weights 1 and images of 5 by 5, the central 3 by 3 pixels have 1/9 each, for both
        powers, and the others 0.
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    out = net(x)
    value = out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(value, x)
    influence = (gradient.abs() ** power).sum(1).mean(0)
    return influence / influence.sum()
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Images do not influence each other, so one backward pass from the sum over all images gives the gradient of each image by itself. Then, in this order: size, power, sum over channels, mean over images, division by the sum.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()` is the number to differentiate. With its `gradient`, `(gradient.abs() ** power).sum(1).mean(0)`, divided by its sum.
#
# </details>
#
# <details>
# <summary>"My map looks like noise around zero"</summary>
#
# You average gradients that have signs, over images or over channels, and they cancel. Take the absolute value of every single gradient first.
#
# </details>

# %% check_erf_map tags=["check"]
check.erf_map(erf_map)

# %% [markdown]
# **See it.** Twenty layers of kernel 3, on patches of a photograph: equal weights, random weights, and random weights with ReLU. The square is the theoretical field.


# %%
def uniform_stack(layers: list[Layer]) -> Callable[[Tensor], Tensor]:
    """One channel, all weights equal, no ReLU."""

    def net(x: Tensor) -> Tensor:
        for k, s, _, d in layers:
            x = F.conv2d(x, x.new_full((1, 1, k, k), 1 / k**2), stride=s, dilation=d)
        return x

    return net


def mean_map(
    build: Callable[[int], Callable[[Tensor], Tensor]],
    x: Float[Tensor, "images 1 side side"],
    power: int,
    seeds: int = 20,
) -> Float[Tensor, "side side"]:
    """Your map, averaged over networks with other random weights. Networks whose ReLUs are all closed have no map and are left out."""
    maps = [erf_map(build(seed), x, power) for seed in range(seeds)]
    return torch.stack([found for found in maps if found.isfinite().all()]).mean(0)


@cache
def map_of(kind: str, n: int, power: int) -> Float[Tensor, "side side"]:
    """The map of n layers of kernel 3, on one patch as large as their field; weights "equal", "random", or "ReLU" for random with ReLU."""
    x, layers = patches("astronaut", 1, 2 * n + 1), [THREE] * n
    if kind == "equal":
        return erf_map(uniform_stack(layers), x, power)
    return mean_map(lambda seed: random_stack(layers, seed, relu=kind == "ReLU", channels=4), x, power)


def bell_picture(influence: Float[Tensor, "side side"]) -> Float[Tensor, "side side"]:
    """For drawing: the root, so that small values can be seen, with a maximum of 1."""
    return (influence / influence.max()).sqrt()


# %% tags=["demo"]
x = patches("astronaut", 4, 41)
layers = [THREE] * 20
fig, axes = plotting.figure(1, 4, width=11, height=3.2, sharey=True)
for ax, (name, influence) in zip(
    axes,
    {
        "equal weights, |g|": erf_map(uniform_stack(layers), x, 1),
        "random weights, |g|": mean_map(lambda seed: random_stack(layers, seed, relu=False), x, 1),
        "random weights, g²": mean_map(lambda seed: random_stack(layers, seed, relu=False), x, 2),
        "random, ReLU, g²": mean_map(lambda seed: random_stack(layers, seed), x, 2),
    }.items(),
    strict=True,
):
    ax.imshow(bell_picture(influence), cmap="Blues", vmin=0, vmax=1)
    ax.add_patch(Rectangle((-0.5, -0.5), 41, 41, fill=False, edgecolor=plotting.VERMILLION, linewidth=2))
    ax.set(title=name, xlabel="column")
axes[0].set(ylabel="row")
plotting.caption(
    fig,
    "Influence of each pixel (dark is much; the root is drawn). Square: the theoretical field of 41 pixels. With |g| and random weights the spot is wider.",
)

# %% [markdown]
# ## Put numbers on it
#
# Two measures. The first is the **standard deviation** of the map, taken as a distribution over pixels; it can be compared with the prediction. Real maps are not quite round and not quite centred, so measure
# from the map's own mean position, and take the mean of the variances of both axes.
#
# ### Exercise 4 · erf_std  ●●○  6 minutes


# %% erf_std tags=["exercise"]
def erf_std(influence: Float[Tensor, "height width"]) -> float:
    """Standard deviation of a map in pixels, per axis.

    Arguments:
        influence: values of at least 0, not all of them 0. They need not sum to 1.

    Returns:
        The root of the mean of two variances: that of the row and that of the column of a pixel that is drawn with a probability in
        proportion to its value. A float. Rounding does not spoil it, also for a narrow peak far from the corner of a large map.

    Example:
        [[1.0, 0.0, 1.0]] gives 0.7071: the row does not vary, the column is 0 or 2 and has variance 1, and the root of (0 + 1) / 2 is 0.7071.
    """
    ### BEGIN SOLUTION
    variances = []
    for profile in (influence.sum(1), influence.sum(0)):
        share = profile / profile.sum()
        place = torch.arange(len(share), dtype=share.dtype)
        mean = (share * place).sum()
        variances.append((share * (place - mean) ** 2).sum())
    return float(((variances[0] + variances[1]) / 2).sqrt())
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Sum over one axis: the result is a distribution along the other. Its mean is the sum of position times share, its variance the sum of squared distance times share.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# For `profile` in `influence.sum(1)` and `influence.sum(0)`: `share = profile / profile.sum()`, `mean = (share * place).sum()`, variance `(share * (place - mean) ** 2).sum()`.
#
# </details>
#
# <details>
# <summary>"I get a small number such as 0.01"</summary>
#
# `influence.std()` says how much the *values* differ from each other. Here the values are weights, and what varies is the position.
#
# </details>

# %% check_erf_std tags=["check"]
check.erf_std(erf_std)

# %% [markdown]
# **See it.** The measured $\sigma$ divided by $\sqrt n$, for $n$ layers of kernel 3. The formula says $\sqrt{2/3}$ for equal weights and for squares, and $\sqrt 2$ times that for sizes of random weights. The last column is the **negative control**: a unit to which all pixels of
# its theoretical square count alike, put through the same measurement.

# %% tags=["demo"]
print(f"sqrt(2/3) = {math.sqrt(2 / 3):.3f}, sqrt(4/3) = {math.sqrt(4 / 3):.3f}\n")
print("           equal     random    random,     random    random,     all pixels")
print("  n        |g|       g²        ReLU, g²    |g|       ReLU, |g|   alike")
worst = 0.0
for n in (5, 10, 20, 40):
    kinds = (("equal", 1), ("random", 2), ("ReLU", 2), ("random", 1), ("ReLU", 1))
    row = [erf_std(map_of(kind, n, power)) / math.sqrt(n) for kind, power in kinds]
    worst = max(worst, *(abs(value / math.sqrt(2 / 3) - 1) for value in row[1:3]))
    row.append(erf_std(torch.ones(2 * n + 1, 2 * n + 1)) / math.sqrt(n))
    print(f"{n:3}   " + "".join(f"{value:10.3f}" for value in row))
print(f"\nfarthest of the g² columns from sqrt(2/3): {worst:.0%}")

# %% [markdown]
# With equal weights the formula holds to every digit. With random weights the squares follow it, with ReLU and without, off by at most 9 %: 20 random networks are not many, and gates are not quite independent. The sizes $\lvert g \rvert$ come near $\sqrt{4/3}$ with the depth; at small
# depths they lie below, because the square cuts the wider bell off. The control misses, and more so with every layer: if all pixels counted alike, $\sigma / \sqrt n$ would grow as in the last column, from 1.414 to 3.697, and it stays.
#
# The second measure is a **size** that can be compared with the theoretical one. After Luo et al., we count the pixels whose influence is more than $1 - 95.45\,\%$ of the largest one, and take the side of a square with so many pixels. (95.45 % is the probability
# that a Gaussian gives to $\pm 2\sigma$. Here it is a threshold on the height, so the name is a coincidence, but it is the definition that is in use.)
# <!-- not printed: 95.45 % (the threshold of the paper) -->
#
# ### Exercise 5 · erf_size  ●○○  4 minutes


# %% erf_size tags=["exercise"]
def erf_size(influence: Float[Tensor, "height width"], frac: float) -> float:
    """Side of a square that has as many pixels as the map has above a threshold.

    Arguments:
        influence: values of at least 0, not all of them 0. They need not sum to 1.
        frac: between 0 and 1; 0.9545 in the paper.

    Returns:
        The root of the number of pixels whose value is greater than (1 - frac) times the largest value of the map. A float, not rounded.

    Example:
        [[0.0, 0.2, 1.0], [0.04, 0.5, 0.2]] with frac = 0.9545 gives 2.0: four values are greater than 0.0455.
    """
    ### BEGIN SOLUTION
    return math.sqrt(int((influence > (1 - frac) * influence.max()).sum()))
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# A comparison gives a table of true and false, its sum is the number of pixels, and the side of a square is the root of its area.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `(influence > (1 - frac) * influence.max()).sum()`, then the root.
#
# </details>
#
# <details>
# <summary>"My size is 0 or 1"</summary>
#
# The map sums to 1, so its largest value may be 0.01. The threshold is a part of *that*, not of 1. And with 95.45 % it is low: 4.55 % of the largest value.
# <!-- not printed: 95.45 %, 4.55 % (the threshold of the paper, and the rest to 100 %) -->
#
# </details>

# %% check_erf_size tags=["check"]
check.erf_size(erf_size)

# %% [markdown]
# For a Gaussian this size can be computed: $e^{-q^2/2\sigma^2} = 1 - f$ at the radius $q = \sigma \sqrt{2 \ln \frac{1}{1-f}}$, and the disc of that radius has the area
#
# $$ 2 \pi \sigma^2 \ln \tfrac{1}{1-f} , \qquad \text{so the size is } \sigma \sqrt{2\pi \ln \tfrac{1}{1-f}} \approx 4.41\, \sigma \text{ for } f = 0.9545 . $$
#
# **See it.** The headline of the paper: absolute size and share of the theoretical field, against the depth, in logarithmic axes.

# %% tags=["demo"]
depths = (3, 5, 10, 20, 40)
kinds = {"equal": plotting.BLUE, "random": plotting.ORANGE, "ReLU": plotting.GREEN}
names = {"equal": "equal weights, |g|", "random": "random, |g|", "ReLU": "random, ReLU, |g|"}
fig, (left, right) = plotting.figure(1, 2, width=10.5, height=3.7)
theory = [2 * n + 1 for n in depths]
left.loglog(depths, theory, "s--", color=plotting.VERMILLION)
right.loglog(depths, [1] * len(depths), "s--", color=plotting.VERMILLION)
plotting.label(left, 7.5, 44, "theoretical", plotting.VERMILLION)
print(
    "share of the theoretical field     "
    + "".join(f"n = {n:<6}" for n in depths)
    + "slope of size from 5 to 40"
)
for kind, color in kinds.items():
    sizes = [erf_size(map_of(kind, n, 1), 0.9545) for n in depths]
    shares = [size / whole for size, whole in zip(sizes, theory, strict=True)]
    left.loglog(depths, sizes, "o-", color=color)
    right.loglog(depths, shares, "o-", color=color, label=names[kind])
    slope = math.log(sizes[-1] / sizes[1]) / math.log(depths[-1] / depths[1])
    print(f"{names[kind]:34} " + "".join(f"{share:<10.2f}" for share in shares) + f"{slope:.2f}")
slope = math.log(theory[-1] / theory[1]) / math.log(8)
print(f"{'theoretical field':75}          {slope:.2f}")
for ax, label in ((left, "size (pixels)"), (right, "share of the theoretical field")):
    ax.set(xlabel="layers n", ylabel=label)
    ax.set_xticks(depths, [str(n) for n in depths])
    ax.minorticks_off()
left.set_yticks([5, 10, 20, 40, 80], ["5", "10", "20", "40", "80"])
right.set_yticks([0.25, 0.5, 1], ["0.25", "0.5", "1"])
right.legend(loc="lower left")
plotting.caption(
    fig,
    "Left: the effective size grows with slope 1/2, the theoretical one with slope 1. Right: so the share that is used falls with slope -1/2.",
)

# %% [markdown]
# The theoretical field grows with slope close to 1, the effective size with slope close to one half, for all three kinds of weights. With 40 layers a unit uses 28 % of the side of its square if all weights are equal, which is 8 % of its area. With random weights and $\lvert g \rvert$ the spot is about $\sqrt 2$ times as
# wide, and its share falls at the same rate once the spot is smaller than the square.
# <!-- not printed: 8 % (the square of 28 %) -->
#
# ## What widens and what narrows the bell
#
# Each of these is one line of theory, and one measurement below.
#
# - **ReLU** closes gates, and multiplies paths by 0 or 1. If they close independently of the place, nothing changes but the factor.
# - **Dilation** multiplies a layer's share of the variance by $d^2$, and **stride** multiplies everything above it by $s^2$. Both widen the bell with the same depth.
# - A **skip connection** $y = x + \text{conv}(x)$ offers a step of size zero. If half of the influence goes each way, a layer contributes half its variance: $\sigma$ shrinks by $\sqrt 2$.


# %%
def with_skips(n: int, seed: int, channels: int = 8) -> Callable[[Tensor], Tensor]:
    """n blocks x + conv(ReLU(x)), scaled so that both ways carry the same; between two 1 x 1 convolutions."""
    gen = torch.Generator().manual_seed(seed)
    first, last = torch.randn(channels, 1, 1, 1, generator=gen), torch.randn(1, channels, 1, 1, generator=gen)
    weights = torch.randn(n, channels, channels, 3, 3, generator=gen) * (2 / (9 * channels)) ** 0.5

    def net(x: Tensor) -> Tensor:
        x = F.conv2d(x, first)
        for weight in weights:
            x = (x[:, :, 1:-1, 1:-1] + F.conv2d(F.relu(x), weight)) / math.sqrt(2)
        return F.conv2d(x, last)

    return net


# %% tags=["demo"]
plain = predicted_std([THREE] * 12)
variants: dict[str, tuple[list[Layer], float, Callable[[int], Callable[[Tensor], Tensor]]]] = {}
for name, layers in (
    ("12 layers, kernel 3", [THREE] * 12),
    ("dilation 2 in all", [(3, 1, 0, 2)] * 12),
    ("dilation 1, 2, 4, again", [(3, 1, 0, 2 ** (at % 3)) for at in range(12)]),
    ("stride 2 in layer 4", [*[THREE] * 3, (3, 2, 0, 1), *[THREE] * 8]),
    ("stride 2 in layer 10", [*[THREE] * 9, (3, 2, 0, 1), *[THREE] * 2]),
):
    variants[name] = (
        layers,
        predicted_std(layers),
        lambda seed, stack=layers: random_stack(stack, seed, True, 8),
    )
variants["12 blocks with a skip"] = [THREE] * 12, plain / math.sqrt(2), lambda seed: with_skips(12, seed)
print("                            field r    predicted    measured    measured / predicted")
for name, (layers, predicted, build) in variants.items():
    side = len(path_counts(layers))
    measured = erf_std(mean_map(build, patches("astronaut", 2, side), 2))
    print(f"{name:26}{side:9}{predicted:13.2f}{measured:12.2f}{measured / predicted:16.2f}")

# %% [markdown]
# The predictions, made for equal weights, hold within 5 % for random weights with ReLU, on a photograph. Twelve layers of the same kernel have predicted standard deviations between 2.00 and 7.48 pixels. A stride early in the network works on many layers above it, a late one on few. And a
# residual network *starts* with a narrower view than a plain one of the same depth.
#
# ## Play: build a stack
#
# Below is an editor for a stack of layers: add and remove layers, and choose kernel, stride and dilation of each. The square is the theoretical field on the photograph, the circle has the radius $2\sigma$ of your prediction, and the spot is measured: your `erf_map` of
# random networks with ReLU on this photograph.
#
# **Question.** Find three stacks with a theoretical field of 31 pixels: one without strides and dilation, one with strides of 2, one with dilation only. Which has the widest spot, and how much wider is it than the narrowest? For which of them is the profile on the right
# furthest from a bell?


# %%
CHOICES = {"kernel": (1, 3, 5, 7), "stride": (1, 2), "dilation": (1, 2, 4, 8)}


class StackEditor(ipywidgets.VBox):
    """Rows with kernel, stride and dilation, and two buttons. `value` is the stack, the layer next to the image first."""

    value = traitlets.Tuple()

    def __init__(self, stack: tuple[tuple[int, int, int], ...], most: int = 6) -> None:
        super().__init__()
        self.most, self.rows = most, []
        self.options = [("shortest", ((3, 1, 1),)), ("longest", ((7, 2, 8),) * most), ("a usual one", stack)]
        add, remove = (ipywidgets.Button(description=text) for text in ("add a layer", "remove the last"))
        self.buttons = ipywidgets.HBox([add, remove])
        add.on_click(lambda _: self.append((3, 1, 1)))
        remove.on_click(lambda _: self.remove())
        for layer in stack:
            self.append(layer)

    def append(self, layer: tuple[int, int, int]) -> None:
        """One more layer at the top."""
        if len(self.rows) < self.most:
            layout = ipywidgets.Layout(width="9.5em")
            boxes = [
                ipywidgets.Dropdown(
                    options=options,
                    value=number,
                    description=name,
                    layout=layout,
                    style={"description_width": "initial"},
                )
                for (name, options), number in zip(CHOICES.items(), layer, strict=True)
            ]
            for box in boxes:
                box.observe(self._read, names="value")
            self.rows.append(ipywidgets.HBox(boxes))
            self._read()

    def remove(self) -> None:
        """Take the top layer off, unless it is the only one."""
        if len(self.rows) > 1:
            self.rows.pop()
            self._read()

    def _read(self, _change: object = None) -> None:
        self.children = (*self.rows, self.buttons)
        self.value = tuple(tuple(box.value for box in row.children) for row in self.rows)


def draw_stack(stack: tuple[tuple[int, int, int], ...]) -> Figure:
    """The theoretical square, the predicted circle and the measured spot on a photograph, and profiles along the columns."""
    layers = [(k, s, 0, d) for k, s, d in stack]
    counts, sigma = path_counts(layers), predicted_std(layers)
    r = len(counts)
    half = r // 2
    picture = grey("astronaut")[0:221, 115:336]  # 221 by 221 pixels around the face
    fig, (left, right) = plotting.figure(1, 2, width=10.5, height=4.3, width_ratios=[1, 1.35])
    left.imshow(picture, cmap="Greys_r", extent=(-110.5, 110.5, 110.5, -110.5), alpha=0.75)
    pixels = torch.arange(r) - half
    if r <= 221:
        x = picture[110 - half : 111 + half, 110 - half : 111 + half][None, None]
        influence = mean_map(lambda seed: random_stack(layers, seed, True, 4), x, 2, seeds=10)
        spot = torch.zeros(r, r, 4)
        spot[..., :3], spot[..., 3] = torch.tensor([0.84, 0.37, 0.0]), bell_picture(influence)
        left.imshow(spot, extent=(-half - 0.5, half + 0.5, half + 0.5, -half - 0.5))
        right.plot(
            pixels,
            influence.sum(0),
            ".",
            color=plotting.VERMILLION,
            label=f"measured, standard deviation {erf_std(influence):.2f}",
        )
    else:
        right.plot([], [], ".", color=plotting.VERMILLION, label="wider than the photograph: not measured")
    left.add_patch(
        Rectangle((-half - 0.5, -half - 0.5), r, r, fill=False, edgecolor=plotting.BLUE, linewidth=2)
    )
    left.add_patch(Circle((0, 0), 2 * sigma, fill=False, edgecolor=plotting.YELLOW, linewidth=2))
    reach = min(110, max(30, int(0.75 * r)))
    left.set(
        xlabel="column, from the unit's centre",
        ylabel="row",
        xlim=(-reach, reach),
        ylim=(reach, -reach),
        title=f"theoretical field: {r} pixels",
    )
    right.plot(
        pixels, counts / counts.sum(), color=plotting.BLUE, label=f"counted paths, predicted {sigma:.2f}"
    )
    right.set(xlabel="column, from the unit's centre", ylabel="influence of a column", xlim=(-reach, reach))
    right.set_ylim(0, 1.45 * float((counts / counts.sum()).max()))
    right.legend(loc="upper left")
    plotting.caption(
        fig,
        "Blue square: what the unit can see. Yellow circle: two predicted standard deviations. Orange: what it uses, measured. Right: summed over rows.",
    )
    return fig


# %% tags=["demo"]
editor = widgets.explore(
    draw_stack, stack=StackEditor(((5, 1, 1), (3, 2, 1), (5, 1, 1), (3, 1, 2), (3, 1, 1)))
)
editor

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# Many stacks solve this. For example: five layers of kernel 7, $\sigma = 4.47$; kernel 3 with strides 2, 2, 2, 1: 7.53; kernel 3 with dilation 1, 2, 4, 8: 7.53 as well, because the sum is the same. So among these, for the same square, the
# widest spot is 1.7 times as wide as the narrowest. (Fifteen layers of kernel 3, more than the editor holds, have 3.16, and 7.53 is 2.4 times that.) The widest that the editor allows is 8.25, for example kernel 7 twice, with dilation 4 and 1.
#
# The strided stack of the example and the one with doubled dilation have the same counts, pixel for pixel, and are furthest from a bell: the profile is a zigzag under a broad roof. The pixel in the very middle has 1 path, like the one at the rim, while
# the pixels 3 and 5 away from it have 5. Four steps of very different size are not many steps of similar size, and the central limit theorem does not apply yet.
#
# </details>

# %% tags=["demo"]
for name, layers in (
    ("kernel 7, 5 times", [(7, 1, 0, 1)] * 5),
    ("kernel 3, 15 times", [THREE] * 15),
    ("kernel 3, strides 2, 2, 2, 1", [*[(3, 2, 0, 1)] * 3, THREE]),
    ("kernel 3, dilation 1, 2, 4, 8", [(3, 1, 0, 2**at) for at in range(4)]),
    ("kernel 7, dilation 4, 1", [(7, 1, 0, 4), (7, 1, 0, 1)]),
):
    sigma, narrow, narrowest = (predicted_std(stack) for stack in (layers, [(7, 1, 0, 1)] * 5, [THREE] * 15))
    print(
        f"{name:30} field {len(path_counts(layers))}, predicted {sigma:.2f}, {sigma / narrow:.1f} times kernel 7, "
        f"{sigma / narrowest:.1f} times fifteen layers"
    )
doubled = path_counts([(3, 1, 0, 2**at) for at in range(4)])
print("paths with dilation 1, 2, 4, 8:", *doubled.int().tolist())
print("strides 2, 2, 2, 1 have the same:", torch.equal(doubled, path_counts([*[(3, 2, 0, 1)] * 3, THREE])))

# %% [markdown]
# ## Test the claim: training
#
# Luo et al. report that training makes the effective field larger. A bell that depends only on kernels and depth cannot do that, so the weights must leave the random regime. Does it always happen? We train small networks on real images, handwritten digits
# of 8 by 8 pixels, drawn at 13 by 13, and read the answer from **one unit** whose theoretical field is the whole image. To say which digit it is, that unit has to look at all of it.
#
# Two kinds of networks with three blocks of two convolutions: *residual* (the block is added to its input, and its last convolution starts at 0.3 of the usual size, so that a block begins near the identity) and *plain* (the same without the addition, at the usual size). And a
# control task on the same images: report the brightness of the **central pixel**. It needs one pixel.


# %%
def digit_images(side: int) -> tuple[Float[Tensor, "n 1 side side"], Tensor]:
    """The 1797 digits of scikit-learn in random order, enlarged, with mean 0 and standard deviation 1; and what they show."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    x = F.interpolate(torch.tensor(digits.images).float()[order, None], size=(side, side), mode="bilinear")
    return (x - x.mean()) / x.std(), torch.tensor(digits.target)[order]


class OneUnit(nn.Module):
    """Blocks of two convolutions without padding, down to a single unit; with or without skip connections."""

    def __init__(self, residual: bool, outputs: int, seed: int, blocks: int = 3, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.residual, self.first = residual, nn.Conv2d(1, channels, 1)
        self.a = nn.ModuleList(nn.Conv2d(channels, channels, 3) for _ in range(blocks))
        self.b = nn.ModuleList(nn.Conv2d(channels, channels, 3) for _ in range(blocks))
        self.last = nn.Conv2d(channels, outputs, 1)
        for convolution in (self.first, *self.a, *self.b, self.last):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
        if residual:
            for convolution in self.b:
                convolution.weight.data *= 0.3

    def forward(self, x: Float[Tensor, "images 1 13 13"]) -> Float[Tensor, "images outputs 1 1"]:
        x = self.first(x)
        for a, b in zip(self.a, self.b, strict=True):
            inside = b(F.relu(a(F.relu(x))))
            x = x[:, :, 2:-2, 2:-2] + inside if self.residual else inside
        return self.last(x)


def train_unit(net: OneUnit, task: str, steps: int, seed: int = 0) -> float:
    """Train on 1500 digits. Returns the fraction of right digits, or the mean squared error of the pixel, on the other 297."""
    x, digit = digit_images(13)
    middle, gen = x[:, 0, 6, 6], torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.005)
    for _ in trange(steps, desc=task):
        i = torch.randint(0, 1500, (64,), generator=gen)
        out = net(x[i])[:, :, 0, 0]
        loss = F.cross_entropy(out, digit[i]) if task == "digit" else F.mse_loss(out[:, 0], middle[i])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        out = net(x[1500:])[:, :, 0, 0]
    return (
        (out.argmax(1) == digit[1500:]).float().mean()
        if task == "digit"
        else F.mse_loss(out[:, 0], middle[1500:])
    ).item()


# %% tags=["demo"]
held_out = digit_images(13)[0][1500:]
fig, axes = plotting.figure(2, 3, width=8.2, height=5.6, sharex=True, sharey=True)
print(f"predicted for 6 layers of kernel 3: {predicted_std([THREE] * 6):.2f}\n")
print("network    task      standard deviation: before   after     size: before   after    result")
for column, (residual, task) in zip(
    axes.T, ((True, "digit"), (True, "pixel"), (False, "digit")), strict=True
):
    net = OneUnit(residual, 10 if task == "digit" else 1, seed=0)
    before = erf_map(net, held_out, 2)
    result = train_unit(net, task, steps=120)
    after = erf_map(net, held_out, 2)
    kind = "residual" if residual else "plain"
    for ax, influence in zip(column, (before, after), strict=True):
        ax.imshow(bell_picture(influence), cmap="Blues", vmin=0, vmax=1)
    column[0].set(title=f"{kind}, {task}")
    column[1].set(xlabel="column")
    outcome = f"{result:.0%} right" if task == "digit" else f"squared error {result:.3f}"
    print(
        f"{kind:10} {task:8}{erf_std(before):27.2f}{erf_std(after):8.2f}{erf_size(before, 0.9545):15.1f}{erf_size(after, 0.9545):8.1f}    {outcome}"
    )
axes[0, 0].set(ylabel="before training\nrow")
axes[1, 0].set(ylabel="after training\nrow")
plotting.caption(
    fig,
    "Influence on the one unit. Read each column downwards: it widens, it shrinks to one pixel, it stays about as it was.",
)

# %% [markdown]
# The residual network starts with a narrow view, and widens it to learn digits. The same network, from the same kind of start, narrows it to a single pixel when one pixel is all that is asked for. The plain network starts about as wide as the prediction
# and keeps its width. We did not train it for the pixel here.
#
# One run proves little. `benchmarks/results/receptive_field_training.md` holds five seeds of each kind, 400 steps, and residual networks that start at the usual size as well. For digits, nine of ten residual networks end wider than they began, and the tenth keeps its width. For the pixel, nine of
# ten end narrower, and the tenth had begun narrower than most end. Wherever they started: after training, *every* residual network that reads digits has a wider view than *every* one that reads the pixel. The plain ones change little for digits and narrow for the pixel. So the
# observation of the paper holds in networks like those in which it was made, residual networks that need a wide view, and it is no law: **training moves the view to where the task is.** The start decides in which direction that is.
# <!-- not printed: 400 (steps of the benchmark) -->
#
# ## What you built
#
# 1. The exact number of paths from every pixel, and the variance of a random path: $v \leftarrow v\,s^2 + d^2 (k^2-1)/12$, for equal layers $\sigma = \sqrt{n\,(k^2-1)/12}$.
# 2. The reason why the same bell appears with random weights, in the squares of gradients, and why pictures of $\lvert g \rvert$ are $\sqrt 2$ times as wide.
# 3. Three measures of real networks, and what strides, dilation, skip connections and training do to them.
#
# **Limits.** The prediction holds for weights that are equal or independent. Trained weights are neither. The gradient measures influence of *small* changes at one image; a pixel with a small gradient can matter through a large change. The bell needs many
# layers of similar size; stacks with few layers, or with dilation that doubles, have other shapes. All of it is about convolutions: attention has no bell.
#
# **Cost.** The prediction: a few operations per layer. The map: one forward and one backward pass for each batch of images.
#
# ## Sources
#
# - W. Luo, Y. Li, R. Urtasun, R. Zemel, *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks* (2016), arXiv:1701.04128: sections 2.2 and 2.3 (equal and random weights), 3 (measurements, the threshold of 95.45 %, training).
# - A. Araujo, W. Norris, J. Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill (2019), doi 10.23915/distill.00021: the theoretical field.
# - F. Yu, V. Koltun, *Multi-Scale Context Aggregation by Dilated Convolutions* (2016), arXiv:1511.07122: dilation that doubles from layer to layer.
# - K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers* (2015), arXiv:1502.01852: the size of random weights that keeps activations alive under ReLU.
# - E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository (1998): the images in scikit-learn's `load_digits`.
