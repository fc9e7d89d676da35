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
# # What one unit can see
#
# *Receptive fields, part 1 of 3: two recursions, and why they are one.*
#
# **Claim.** From kernels, strides, dilations and padding alone you compute, to the pixel, what one unit of a network can depend
# on. A network that is trained to report the pixels around it reports every pixel inside the computed interval, and tosses a coin
# for the first pixel outside. The same few lines give 195 pixels for AlexNet, 212 for VGG-16, and 427 or 483 for ResNet-50,
# depending on where its strides sit.
#
# | | |
# |---|---|
# | **Time** | about 65 minutes; the code runs for about fifteen seconds |
# | **You need** | what a convolution with a stride does; loops in Python. No calculus. |
# | **Graded** | six exercises, one to three dots for how hard they are; each has its own check cell, which says what differs, and often why |
# | **You leave with** | two recursions and a closed form that you derived, and a rule for networks with branches and upsampling |

# %% setup
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from tqdm.auto import trange

import utils
from autograde import open_lesson
from utils import plotting

utils.setup()
check = open_lesson("receptive_field/01_formulas")

# %% [markdown]
# ## The problem: how far do three layers reach?
#
# A strip of 41 pixels, each $+1$ or $-1$ at random. Above it three convolutions along the strip, each with 3 taps and stride 2.
# We pick **one unit** of the top layer and ask it for the whole strip: 41 readouts, trained to report the 41 pixels, all from
# this one unit. A pixel that the unit cannot see can only be guessed, and a guess is right half of the time.
#
# How many pixels will it report? Three rules that people use give three answers:
#
# - every layer adds one pixel on each side: $1 + 3 \cdot 2 = 7$;
# - three taps, three times: $3 \cdot 3 \cdot 3 = 27$;
# - every layer adds two steps of its own stride, and strides multiply: $1 + 2 \cdot 2 + 2 \cdot 4 + 2 \cdot 8 = 29$.

# %%
Layer = tuple[int, int, int, int]  # kernel, stride, padding in front, dilation: the order of torch.nn.Conv2d

STRIDED: list[Layer] = [(3, 2, 1, 1)] * 3


class Reporter(nn.Module):
    """Convolutions along a strip; one unit of the last layer, with a readout for every pixel of the strip."""

    def __init__(self, layers: list[Layer], unit: int, pixels: int, channels: int = 32) -> None:
        super().__init__()
        sizes = [1, *[channels] * len(layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(sizes[at], channels, k, s, p, d) for at, (k, s, p, d) in enumerate(layers)
        )
        self.unit, self.readout = unit, nn.Linear(channels, pixels)

    def forward(self, x: Float[Tensor, "batch 1 pixels"]) -> Float[Tensor, "batch pixels"]:
        for convolution in self.convolutions:
            x = torch.tanh(convolution(x))
        return self.readout(x[:, :, self.unit])


def reported(
    layers: list[Layer], unit: int, pixels: int, seed: int = 0, steps: int = 160
) -> Float[Tensor, "pixels"]:
    """Train a reporter on random strips; the fraction of right answers for every pixel, on 2000 new strips."""
    torch.manual_seed(seed)
    network, gen = Reporter(layers, unit, pixels), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.005)
    for _ in trange(steps, desc=f"{len(layers)} layers"):
        x = torch.randint(0, 2, (96, 1, pixels), generator=gen).float() * 2 - 1
        loss = F.softplus(-network(x) * x[:, 0]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.randint(0, 2, (2000, 1, pixels), generator=gen).float() * 2 - 1
    with torch.no_grad():
        return ((network(x) > 0) == (x[:, 0] > 0)).float().mean(0)


def draw_reported(ax: Axes, right: Float[Tensor, "pixels"]) -> None:
    """Dots: the fraction of right answers for each pixel, against guessing."""
    ax.axhline(0.5, color=plotting.GREY, linewidth=1, linestyle="--")
    ax.plot(right, "o", color=plotting.BLUE)
    ax.set(ylim=(0.4, 1.06))


# %% tags=["demo"]
right = reported(STRIDED, unit=2, pixels=41)
fig, ax = plotting.figure(width=8.5, height=3.4)
draw_reported(ax, right)
ax.set(xlabel="pixel", ylabel="right answers (share)")
for row, (name, width) in enumerate((("rule 1", 7), ("rule 2", 27), ("rule 3", 29))):
    height = 0.62 + 0.1 * row
    ax.plot([16 - width // 2, 16 + width // 2], [height] * 2, color=plotting.VERMILLION, linewidth=3)
    plotting.label(ax, 31, height, f"{name}: {width}", plotting.VERMILLION)
plotting.caption(
    fig,
    "Dots: one unit reports 41 pixels after training. Bars: how far it should see according to three rules; their height has no meaning. All three are wrong.",
)
seen = (right > 0.75).nonzero()[:, 0]
print(f"pixels reported: {len(seen)}, from {int(seen[0])} to {int(seen[-1])}")
print(f"right answers, worst pixel among them: {right[seen].min():.3f}")
print(f"right answers, best pixel outside: {right[right <= 0.75].max():.3f}")

# %% [markdown]
# The unit reports 15 pixels nearly without a mistake, pixels 9 to 23, and guesses all others. There is nothing between. No rule
# said 15. These pixels are the unit's **receptive field**: those that its value can depend on. No training, no loss and no number
# of channels can make it larger, so it is worth knowing before a network is trained.
#
# ## Notation
#
# We look at one axis at a time. An image has two, which do not mix, so everything holds for rows and for columns, each with its
# own numbers.
#
# | symbol | meaning | values |
# |---|---|---|
# | $\ell$ | layer: 1 is next to the image, $L$ is at the top; 0 is the image itself | 0 to $L$ |
# | $k_\ell,\ s_\ell,\ d_\ell$ | kernel (number of taps), stride, dilation (distance between taps) | at least 1 |
# | $p_\ell$ | padding in front of the first unit (left, or above) | at least 0 |
# | $K_\ell$ | effective kernel: positions from the first tap to the last, both counted | at least 1 |
# | $u$ | number of a unit in its layer, from 0 | an integer |
# | $m$ | width of an interval of neighbouring units; $e = m - 1$ is the number of steps in it | $m \ge 1$ |
# | $r_\ell$ | receptive field of one unit of layer $\ell$, in pixels | at least 1 |
# | $j_\ell$ | jump: pixels from one unit of layer $\ell$ to the next | at least 1 |
# | $a_\ell$ | start: first pixel of the receptive field of unit 0; negative where it lies in the padding | an integer |
#
# In code a layer is the tuple `(k, s, p, d)`, in the order of the arguments of `nn.Conv2d`. A stack is a list of layers, the one next to
# the image first. A pooling layer is a layer like any other: max-pooling over 3 positions with stride 2 reads what a convolution with
# $k = 3$, $s = 2$ reads. A ReLU or a batch norm reads one position, and can be left out.

# %% [markdown]
# ## One layer reads an interval
#
# Unit $u$ of a layer places its first tap at position $u s - p$ of the layer below: each unit starts $s$ further, and the padding
# shifts all of them to the left. The other taps follow at distance $d$:
#
# $$ u s - p , \quad u s - p + d , \quad \dots , \quad u s - p + d\,(k - 1) . $$
#
# For everything that follows we need the first and the last of these positions, and how many positions they span. Dilation leaves
# holes between the taps. We count them in: the effective kernel $K$ is the distance that a kernel *covers*.
#
# ### Exercise 1 · effective_kernel  ●○○  3 minutes
#
# How many positions lie between the first tap and the last, both of them counted?


# %% effective_kernel tags=["exercise"]
def effective_kernel(k: int, d: int) -> int:
    """Positions that a dilated kernel covers, from its first tap to its last, both counted.

    Arguments:
        k: number of taps, at least 1.
        d: dilation: the distance between neighbouring taps, at least 1. With d = 1 the taps are neighbours.

    Returns:
        The number of positions, an int.

    Example:
        effective_kernel(3, 2) is 5: the taps are at positions 0, 2 and 4. effective_kernel(1, 6) is 1.
    """
    ### BEGIN SOLUTION
    return d * (k - 1) + 1
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Put the first tap at position 0. Where is the last one? Positions 0 to $n$ are $n + 1$ positions.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# Between $k$ taps there are $k - 1$ distances of $d$ positions each, so the last tap is at $d\,(k - 1)$. Add one.
#
# </details>
#
# <details>
# <summary>"For kernel 3 and dilation 2 I get 6"</summary>
#
# That is $k \cdot d$: three distances. Draw the taps: `x . x . x` are five positions. A fence with 3 posts has 2 gaps.
#
# </details>

# %% check_effective_kernel tags=["check"]
check.effective_kernel(effective_kernel)

# %% [markdown]
# **See it.** Kernels of the same 3 taps. Dilation buys width with holes.

# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=2.6)
for row, (k, d) in enumerate(((3, 1), (3, 2), (3, 4), (5, 2))):
    width = effective_kernel(k, d)
    ax.barh(row, width, left=-0.5, height=0.55, color=plotting.PALE)
    ax.plot(range(0, k * d, d), [row] * k, "o", color=plotting.BLUE)
    plotting.label(ax, width + 0.2, row, f"K = {width}", plotting.BLACK)
    print(f"k = {k}, d = {d}: K = {width}")
ax.set(xlabel="position in the layer below", xlim=(-1, 14), ylim=(3.6, -0.6))
ax.set_yticks(range(4), ["k = 3, d = 1", "k = 3, d = 2", "k = 3, d = 4", "k = 5, d = 2"])
ax.set_ylabel("kernel and dilation")
plotting.caption(fig, "Dots are taps, the grey bar is the effective kernel: from the first tap to the last.")

# %% [markdown]
# In one line: $K = d\,(k - 1) + 1$. From here on only $K$ appears, and dilation is done with: a dilated layer has the first and the last
# position of a layer with kernel $K$. (The holes do matter for *which* pixels inside the interval count. Notebook 03 returns to them.)
#
# ## From the top to the image
#
# Take one unit at the top and ask which units of the layer below it reads. It is an interval of $K$ units. Which units does *that
# interval* read, one layer further down? So we need the step for an interval, not only for one unit.
#
# Let $m$ neighbouring units of a layer be given: units $u$ to $u + m - 1$.
#
# - The first of them places its first tap at $u s - p$.
# - The last of them places its first tap at $(u + m - 1)\, s - p$, and its last tap $K - 1$ further.
#
# Everything that the units between them read lies between these two. What is the width of the interval from the one position to the
# other, both counted? Does $p$ matter? Does $u$?
#
# ### Exercise 2 · rf_top_down  ●●○  8 minutes
#
# Write the width of that interval as a function of $m$, $s$ and $K$: this is the recursion. Start at the top with one unit, and
# apply it layer by layer until you arrive at the image. Watch the order of the list: the layer at the top comes last in it.


# %% rf_top_down tags=["exercise"]
def rf_top_down(layers: list[Layer]) -> int:
    """Receptive field of one unit of the last layer, along one axis, computed from the top to the image.

    Arguments:
        layers: (kernel, stride, padding, dilation) of each layer, the one next to the image first. May be empty.

    Returns:
        The number of pixels from the first that the unit reads to the last, both counted, an int. Without layers a pixel
        sees itself: 1. Pixels that lie in the padding are counted like all others: the unit may be far from the border.

    Example:
        rf_top_down([(5, 2, 2, 1), (3, 1, 1, 1)]) is 9: the top unit reads 3 units, and these read 9 pixels.
    """
    ### BEGIN SOLUTION
    m = 1
    for k, s, _, d in reversed(layers):
        m = (m - 1) * s + d * (k - 1) + 1
    return m
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Subtract the two positions of the text, then add one. The terms $u s$ and $p$ appear in both and cancel. Think of a window of
# width $K$ that is moved $m - 1$ times by $s$ positions: how long is its trace?
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# $m \leftarrow (m - 1)\, s + K$, starting with `m = 1`, in `for k, s, p, d in reversed(layers)`.
#
# </details>
#
# <details>
# <summary>"With all strides 1 it is right, with strides it is too large"</summary>
#
# Check what you multiply by $s$. Ten posts have nine gaps: $m$ units have $m - 1$ steps between them. With $m\,s + K - 1$ or
# $m\,s + K$ the last unit makes a step that nobody asked for. If the result is wrong only for stacks with *different* layers, the
# list is read from the wrong end.
#
# </details>

# %% check_rf_top_down tags=["check"]
check.rf_top_down(rf_top_down)

# %% [markdown]
# In one line: $m \leftarrow (m - 1)\, s + K$. Multiply by the stride first, then add the kernel.
#
# **See it.** Below is the strip of the beginning, and another stack. Every dot is a unit, every line a tap. At each layer, the
# number on the right is your function, called with the layers above.


# %%
def draw_tree(ax: Axes, layers: list[Layer], unit: int) -> None:
    """A unit at the top, all units that it depends on, layer by layer, and the taps between them."""
    place = {0: (1, 0)}  # layer: pixels between its units, pixel at which unit 0 has its middle
    for at, (k, s, p, d) in enumerate(layers, 1):
        step, origin = place[at - 1]
        place[at] = step * s, origin + step * (d * (k - 1) / 2 - p)
    units = {unit}
    for at in range(len(layers), -1, -1):
        step, origin = place[at]
        ax.plot([origin + step * u for u in units], [at] * len(units), "o", color=plotting.BLUE, zorder=2)
        width = rf_top_down(layers[at:])
        plotting.label(ax, ax.get_xlim()[1], at, f"m = {width}", plotting.BLACK)
        if at:
            k, s, p, d = layers[at - 1]
            below, first = place[at - 1]
            taps = [(u, u * s - p + d * tap) for u in units for tap in range(k)]
            for u, v in taps:
                ax.plot(
                    [origin + step * u, first + below * v],
                    [at, at - 1],
                    color=plotting.SKY,
                    linewidth=0.8,
                    zorder=1,
                )
            units = {v for _, v in taps}


# %% tags=["demo"]
mixed: list[Layer] = [(4, 2, 0, 1), (3, 1, 1, 2), (2, 2, 0, 1)]
fig, axes = plotting.figure(1, 2, width=11, height=3, sharey=True)
for ax, layers, unit in ((axes[0], STRIDED, 2), (axes[1], mixed, 3)):
    ax.set(xlim=(5, 27), xlabel="pixel", xticks=range(6, 27, 4))
    draw_tree(ax, layers, unit)
    ax.set_yticks(range(4), ["image", "layer 1", "layer 2", "layer 3"])
    print(f"{layers}: {rf_top_down(layers)} pixels")
axes[0].set(ylabel="layer", title="kernel 3, stride 2, three times")
axes[1].set(title="kernels 4, 3 (dilation 2), 2; strides 2, 1, 2")
plotting.caption(
    fig,
    "From the top dot down to the pixels. The strip of the beginning ends with 15 pixels, the number that the trained unit reported.",
)

# %% [markdown]
# 15 pixels, which is what the trained unit could report. Note what did not appear in the recursion: the padding. It moves the
# interval and does not widen it.
#
# ## From the image to the top
#
# The first recursion answers one question for one top. Often you want the receptive field after *every* layer of a network. Then go the
# other way: suppose that for layer $\ell - 1$ everything is known, namely three numbers,
#
# - $r_{\ell-1}$: the receptive field of each of its units,
# - $j_{\ell-1}$: the jump, in pixels, from one unit to the next,
# - $a_{\ell-1}$: the first pixel of its unit 0.
#
# Now layer $\ell$ is put on top.
#
# **Receptive field.** A unit of layer $\ell$ reads from one unit of layer $\ell - 1$ to the unit $K_\ell - 1$ further. The first of them
# sees $r_{\ell-1}$ pixels. The last one sees as many, but shifted. By how much?
#
# **Jump.** Neighbouring units of layer $\ell$ start $s_\ell$ units of layer $\ell - 1$ apart. How many pixels are these?
#
# **Start.** Unit 0 of layer $\ell$ places its first tap $p_\ell$ units of layer $\ell - 1$ in front of unit 0. How many pixels is this, and
# in which direction?
#
# All three questions have the same factor in their answer, and it is not the new jump.
#
# ### Exercise 3 · rf_bottom_up  ●●○  10 minutes
#
# Answer the three questions, and write the loop. Begin with the image: a pixel sees itself, the next pixel is one pixel away, and pixel
# 0 is at 0.


# %% rf_bottom_up tags=["exercise"]
def rf_bottom_up(layers: list[Layer]) -> tuple[int, int, int]:
    """Receptive field, jump and start of the last layer's units, along one axis, computed from the image to the top.

    Arguments:
        layers: (kernel, stride, padding, dilation) of each layer, the one next to the image first. May be empty.

    Returns:
        (rf, jump, start), three ints. Unit u reads `rf` pixels, from pixel start + u * jump on. `start` is negative
        where unit 0 reads padding. Without layers (1, 1, 0).

    Example:
        rf_bottom_up([(5, 2, 2, 1), (3, 1, 1, 1)]) is (9, 2, -4): unit 0 reads pixels -4 to 4, unit 1 reads -2 to 6.
    """
    ### BEGIN SOLUTION
    rf, jump, start = 1, 1, 0
    for k, s, p, d in layers:
        rf += d * (k - 1) * jump
        start -= p * jump
        jump *= s
    return rf, jump, start
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Steps in layer $\ell - 1$ are $j_{\ell-1}$ pixels long. The kernel makes $K_\ell - 1$ such steps, the stride $s_\ell$ of them, the padding
# $p_\ell$ of them, to the left. So the old jump stands in all three lines, and it is replaced last.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `rf += d * (k - 1) * jump`, then `start` changes by `p * jump`, then `jump *= s`.
#
# </details>
#
# <details>
# <summary>"The jump is right, and the receptive field is too large"</summary>
#
# You have multiplied the jump by the layer's own stride before you used it. The stride says how far apart this layer's *own* units
# are. Its kernel steps over the units of the layer *below*. The own stride first widens what comes on top.
#
# </details>

# %% check_rf_bottom_up tags=["check"]
check.rf_bottom_up(rf_bottom_up)

# %% [markdown]
# In three lines:
#
# $$ r_\ell = r_{\ell-1} + (K_\ell - 1)\, j_{\ell-1} , \qquad j_\ell = s_\ell\, j_{\ell-1} , \qquad a_\ell = a_{\ell-1} - p_\ell\, j_{\ell-1} . $$
#
# Unit $u$ reads pixels $a_\ell + u\, j_\ell$ to $a_\ell + u\, j_\ell + r_\ell - 1$. For the strip of the beginning and its unit 2 these are:

# %% tags=["demo"]
rf, jump, start = rf_bottom_up(STRIDED)
print(f"receptive field {rf}, jump {jump}, start {start}")
print(f"unit 2 reads pixels {start + 2 * jump} to {start + 2 * jump + rf - 1}")

ALEXNET: list[Layer] = [
    (11, 4, 2, 1),
    (3, 2, 0, 1),
    (5, 1, 2, 1),
    (3, 2, 0, 1),
    *[(3, 1, 1, 1)] * 3,
    (3, 2, 0, 1),
]
names = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]
print("\nAlexNet   k  s  p  d    jump    rf  start")
for at, (name, layer) in enumerate(zip(names, ALEXNET, strict=True), 1):
    rf, jump, start = rf_bottom_up(ALEXNET[:at])
    print(f"{name:7}  {layer[0]:2} {layer[1]:2} {layer[2]:2} {layer[3]:2}  {jump:6} {rf:5} {start:6}")

# %% [markdown]
# Pixels 9 to 23: also the *place* agrees with what the trained unit reported. And one unit of AlexNet's last pooling layer sees 195 pixels.
# Three more details can be read off the formulas.
#
# - **Padding** stands in the start only. And only the padding *in front* does: padding behind the last unit adds units there, and moves
#   nothing. With $p = (K - 1)/2$ at every layer, unit $u$ stays centred on pixel $u\, j$.
# - **Even kernels** have no middle. With padding $p$ on both sides the interval is lopsided by half a step, and the errors add up over layers.
# - **Asymmetric kernels**, such as $1 \times 7$, need nothing new: run the recursion with $k = 1$ along the one axis and $k = 7$ along the other.
#
# ## Why both give the same number
#
# Two recursions, one from above and one from below, and they agree in every case. This is no accident. Write the first one for the number of
# *steps* $e = m - 1$ instead of the number of units. From $m \leftarrow (m - 1)\, s + K$, subtract 1 on both sides:
#
# $$ e \leftarrow e\, s + (K - 1) , \qquad e = 0 \text{ at the top.} $$
#
# For three layers, from the top down, this is
#
# $$ e = \big( (K_3 - 1)\, s_2 + (K_2 - 1) \big)\, s_1 + (K_1 - 1) = (K_1 - 1) + (K_2 - 1)\, s_1 + (K_3 - 1)\, s_1 s_2 . $$
#
# The stride of the top layer, $s_3$, is multiplied by $e = 0$ and disappears. For $L$ layers each $K_\ell - 1$ enters once, and is then multiplied by
# the strides of all layers below it:
#
# $$ r_L = 1 + \sum_{\ell=1}^{L} (K_\ell - 1) \prod_{i < \ell} s_i . $$
#
# Now read the second recursion. It starts with $r_0 = 1$ and adds $(K_\ell - 1)\, j_{\ell-1}$ for each layer, where $j_{\ell-1} = s_1 \cdots s_{\ell-1}$ is
# the product of the strides below. Term by term it is the same sum. From below you add its terms one after the other. From above you evaluate it by
# nesting, as one evaluates a polynomial with Horner's rule. So the two recursions are two ways to compute one sum, and the sum shows
# what a layer is worth: **its steps, $K_\ell - 1$, times all strides below it, and never its own stride**.
#
# ## Equal layers
#
# Take $n$ layers with the same $k$, $s$, $d$. All $K_\ell - 1$ are equal and can be taken out of the sum. What remains is a sum that you know from school:
#
# $$ r = 1 + (K - 1) \left( 1 + s + s^2 + \dots + s^{n-1} \right) . $$
#
# ### Exercise 4 · rf_equal_layers  ●●○  8 minutes
#
# Write the closed form, without a loop: the check compares the lines of Python that run for 400 layers and for 40, and a loop runs too many more. One value of $s$
# needs a formula of its own. Keep whole numbers whole.
# <!-- not printed: 400, 40 (the cases of the check) -->


# %% rf_equal_layers tags=["exercise"]
def rf_equal_layers(n: int, k: int, s: int, d: int) -> int:
    """Receptive field of n equal layers in a closed form.

    Arguments:
        n: number of layers, at least 0. k: kernel. s: stride. d: dilation. All but n are at least 1.

    Returns:
        The receptive field in pixels, an int that is exact also when it is large (no float on the way). The number of
        steps that the function needs does not grow with n.

    Example:
        rf_equal_layers(5, 3, 2, 1) is 63: 1 + 2 * (1 + 2 + 4 + 8 + 16). rf_equal_layers(20, 3, 1, 1) is 41.
    """
    ### BEGIN SOLUTION
    series = n if s == 1 else (s**n - 1) // (s - 1)
    return 1 + d * (k - 1) * series
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Multiply the sum $1 + s + \dots + s^{n-1}$ by $s$, and subtract the sum from the result: nearly everything cancels. What if $s = 1$?
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# The sum is $(s^n - 1) / (s - 1)$, and $n$ for $s = 1$. The division has no rest, so `//` is exact; `/` makes a float, which holds about
# 16 digits. Then $1 + d\,(k - 1)$ times the sum.
#
# </details>
#
# <details>
# <summary>"ZeroDivisionError"</summary>
#
# With $s = 1$ the formula divides 0 by 0. Each of the $n$ terms is 1 then, so the sum is $n$.
#
# </details>

# %% check_rf_equal_layers tags=["check"]
check.rf_equal_layers(rf_equal_layers)

# %% [markdown]
# In one line, for $s > 1$ and for $s = 1$:
#
# $$ r = 1 + (K - 1)\, \frac{s^n - 1}{s - 1} , \qquad r = 1 + n\,(K - 1) . $$
#
# **See it.** How the receptive field grows with the depth. The dashed line has no stride at all: its layers double the dilation, $d = 1, 2, 4, \dots$, and
# so add $2 \cdot 2^{\ell-1}$ pixels each, as layers of stride 2 do. Dilation widens the field without losing positions.

# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=3.6)
depths = range(0, 13)
for (k, s, d), color in zip(((3, 1, 1), (7, 1, 1), (3, 2, 1), (2, 2, 1)), plotting.PALETTE, strict=False):
    ax.semilogy(depths, [rf_equal_layers(n, k, s, d) for n in depths], "o-", color=color)
    plotting.label(ax, 12.3, rf_equal_layers(12, k, s, d), f"k = {k}, s = {s}", color)
doubling = [rf_top_down([(3, 1, 2**at, 2**at) for at in range(n)]) for n in depths]
ax.semilogy(depths, doubling, "--", color=plotting.BLACK, linewidth=1)
plotting.label(ax, 2.1, 1500, "dashed: k = 3, s = 1, dilation doubles", plotting.BLACK)
ax.axhline(224, color=plotting.GREY, linewidth=1)
plotting.label(ax, 0, 290, "224 pixels, a usual image", plotting.GREY)
ax.set(xlabel="layers n", ylabel="receptive field (pixels)", xlim=(-0.3, 15))
plotting.caption(
    fig,
    "With stride 1 the field grows by the same amount per layer, with stride 2 or doubled dilation it doubles.",
)
print(
    f"12 layers with kernel 3: stride 1 sees {rf_equal_layers(12, 3, 1, 1)} pixels, stride 2 sees {rf_equal_layers(12, 3, 2, 1):,}"
)
print(f"doubled dilation, 12 layers: {doubling[-1]:,}")

# %% [markdown]
# ## Through an upsampling layer
#
# A decoder makes its map larger with **transposed convolutions**. Such a layer turns the rule round: an *input* $i$ writes to $k$ neighbouring outputs,
#
# $$ i\, s - p , \quad \dots , \quad i\, s - p + k - 1 , $$
#
# where a convolution's output $i$ would have read them. Where several inputs write to the same output, the sum is taken. (In PyTorch, `padding=p` of
# `nn.ConvTranspose2d` removes $p$ outputs in front, which is the $-p$ above.)
#
# We need the same as before: given outputs `first` to `last`, from which input to which input do they depend? The answer contains roundings, and
# they are the point. An output can be reached by 1 input while its neighbour is reached by 2, so **after upsampling, units of the same layer can have
# receptive fields of different size.** A single number per layer is no longer enough, while an interval per unit still is.
#
# ### Exercise 5 · upsampling_reads  ●●●  10 minutes
#
# An input $i$ matters if the outputs that it writes to overlap the interval from `first` to `last`. Which is the smallest such $i$, which the largest? Write
# each condition as an inequality for $i$, and round to the right side.


# %% upsampling_reads tags=["exercise"]
def upsampling_reads(k: int, s: int, p: int, first: int, last: int) -> tuple[int, int]:
    """The inputs on which some neighbouring outputs of a transposed convolution depend.

    Input i writes to the outputs i * s - p to i * s - p + k - 1.

    Arguments:
        k: kernel, s: stride, p: padding. k is at least s, so that every output is written to.
        first, last: the first and the last of the outputs, first <= last. They may be negative.

    Returns:
        The smallest and the largest input that writes to one of these outputs, two ints. Inputs in front of input 0 are
        not cut off: the result may be negative.

    Example:
        upsampling_reads(4, 2, 1, 6, 9) is (2, 5): input 2 writes to the outputs 3 to 6, and so reaches 6 with its last tap;
        input 5 writes to 9 to 12, and reaches 9 with its first. Inputs 1 and 6 reach none of 6 to 9.
    """
    ### BEGIN SOLUTION
    smallest = -((k - 1 - p - first) // s)  # rounded up
    return smallest, (last + p) // s
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The largest $i$ must still begin inside: $i\, s - p \le$ `last`. The smallest $i$ must still reach in: $i\, s - p + k - 1 \ge$ `first`. Solve both for $i$. A
# largest whole number is rounded down, a smallest one is rounded up.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `last`: $(\text{last} + p) / s$, rounded down, which is `(last + p) // s`. `first`: $(\text{first} + p - k + 1) / s$, rounded up; in Python, `-(-a // s)` rounds $a / s$ up,
# also for negative $a$.
#
# </details>
#
# <details>
# <summary>"Right for positive positions, wrong near the border"</summary>
#
# `int(a / s)` cuts the fraction off, which rounds towards zero: up for negative numbers, down for positive ones. `//` rounds down always, and `math.ceil` up
# always.
#
# </details>

# %% check_upsampling_reads tags=["check"]
check.upsampling_reads(upsampling_reads)

# %% [markdown]
# **See it.** Three usual transposed convolutions that double the size. How many inputs does each output see?

# %% tags=["demo"]
print("outputs     0  1  2  3  4  5  6  7")
for k, s, p in ((2, 2, 0), (3, 2, 1), (4, 2, 1)):
    intervals = [upsampling_reads(k, s, p, out, out) for out in range(8)]
    print(
        f"k={k} s={s} p={p} "
        + "".join(f"{last - first + 1:3}" for first, last in intervals)
        + "   inputs seen"
    )

# %% [markdown]
# With $k = 3$ and stride 2, outputs take turns between one input and two. This is the uneven overlap that is known for its checkerboard patterns. With $k$ a
# multiple of $s$ all outputs see equally many.
#
# ## Branches
#
# A residual block adds its input to the output of two convolutions. An inception block lays three branches side by side. A U-Net hands early maps to late
# layers. A unit behind such a point depends on *every* branch, so its pixels are the **union** of what the branches see.
#
# We keep intervals, and take the smallest one that contains the union: the smaller first pixel, and the larger last. If all branches are centred, the widest
# one decides, and people say "take the maximum". It is not quite the rule: a branch that reaches further to the left and one that reaches further to the
# right make an interval that is wider than each of them.
#
# How do we compute it? Following every path from the top to the image works, and takes forever: each residual block doubles the number of paths,
# and ResNet-50 has 16 blocks. The first recursion shows how to do better. Go from the top to the image, node by node, and keep for each node **what is
# needed of it**: the interval of its units on which the top unit depends. When you arrive at a node, all nodes that read it have been visited, and have
# left their needs there. Ask its layer once what the whole interval reads, and add that to the needs of its inputs.
#
# A graph is a dict from names to pairs `(inputs, reads)`, each node after its inputs:
#
# - `inputs` is the list of the nodes that it reads;
# - `reads(first, last)` returns the first and the last position that the units `first` to `last` of the node read, from *each* of its inputs. You have
#   met both kinds: a convolution's first and last position stand in the text before exercise 2, and the one for an upsampling layer is your
#   exercise 5.
#
# The image comes first, as `([], None)`, and the node that is asked for last. The graphs below have no upsampling layer; notebook 02 puts your exercise 5's rule
# into the graph of a U-Net.


# %%
Reads = Callable[[int, int], tuple[int, int]]
Graph = dict[str, tuple[list[str], Reads | None]]


def convolution(k: int, s: int = 1, p: int = 0, d: int = 1) -> Reads:
    """What a convolution or a pooling layer reads."""
    return lambda first, last: (first * s - p, last * s - p + d * (k - 1))


def same(first: int, last: int) -> tuple[int, int]:
    """An addition, a concatenation, a ReLU: unit u reads unit u."""
    return first, last


residual: Graph = {
    "image": ([], None),
    "stem": (["image"], convolution(7, 2, 3)),
    "conv1": (["stem"], convolution(3, 1, 1)),
    "conv2": (["conv1"], convolution(3, 1, 1)),
    "sum": (["stem", "conv2"], same),
}

# %% [markdown]
# ### Exercise 6 · rf_dag  ●●●  12 minutes
#
# Write the walk. It has to ask each layer about once: with 8 residual blocks the check counts the questions.


# %% rf_dag tags=["exercise"]
def rf_dag(graph: Graph, unit: int) -> tuple[int, int]:
    """The first and the last pixel on which one unit of a graph's last node depends.

    Arguments:
        graph: name -> (names of its inputs, reads), every node after its inputs. The image is the first node and has
            ([], None). For all others reads(first, last) gives the first and the last unit that its units first to last
            read, the same for each input. Nodes that do not lead to the last one may be there, and do not count. The graph is not
            changed. Layers are asked at most about once for each of their inputs, not once for each path.
        unit: which unit of the last node.

    Returns:
        (first, last): the smallest interval of pixels that contains all on which the unit depends, two ints. Pixels in
        front of pixel 0 are not cut off. For a graph of the image alone it is (unit, unit).

    Example:
        For the graph `residual` above and unit 4: the sum needs stem 4 directly, and stem 2 to 6 through the two
        convolutions. Together 2 to 6, which reads the pixels 1 to 15: the result is (1, 15).
    """
    ### BEGIN SOLUTION
    names = list(graph)
    need = {names[-1]: (unit, unit)}
    for name in reversed(names):
        inputs, reads = graph[name]
        if name in need and reads is not None:
            first, last = reads(*need[name])
            for source in inputs:
                low, high = need.get(source, (first, last))
                need[source] = min(low, first), max(high, last)
    return need[names[0]]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# A dict `need` from names to intervals, which begins with the last node and `(unit, unit)`. Visit the nodes from the last to the first. A node that is not in
# `need` is read by nobody: skip it. For the others call `reads` once, and merge the answer into the need of every input.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# With `first, last = reads(*need[name])`, for each source: `low, high = need.get(source, (first, last))`, then
# `need[source] = min(low, first), max(high, last)`. At the end return the need of the first name.
#
# </details>
#
# <details>
# <summary>"It is right for a chain, and the check says 'too costly' for blocks"</summary>
#
# A function that calls itself for every input walks along every path: $2^8$ paths for 8 blocks. The order of the dict does the work for you: from the last
# node to the first, everybody who reads a node comes before it, so that its need is complete when you arrive.
#
# </details>

# %% check_rf_dag tags=["check"]
check.rf_dag(rf_dag)

# %% [markdown]
# **See it.** ResNet-50 as a graph: 16 blocks, each a shortcut beside a bottleneck of three convolutions with kernels 1, 3, 1. Four groups of blocks, called
# conv2 to conv5, hold 3, 4, 6 and 3 of them. The first block of each group but the first has stride 2. The question on which two implementations differ is
# *where* this stride sits: in the first $1 \times 1$ convolution, as in the paper, or in the $3 \times 3$, as in torchvision.


# %%
def resnet50(stride_in_3x3: bool) -> Graph:
    """ResNet-50 up to its last block, with all shortcuts."""
    graph: Graph = {
        "image": ([], None),
        "conv1": (["image"], convolution(7, 2, 3)),
        "pool": (["conv1"], convolution(3, 2, 1)),
    }
    top = "pool"
    for group, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for block in range(1, blocks + 1):
            s, name = 2 if block == 1 and group > 2 else 1, f"conv{group}_{block}"
            s1, s3 = (1, s) if stride_in_3x3 else (s, 1)
            graph[f"{name}.1"] = [top], convolution(1, s1)
            graph[f"{name}.2"] = [f"{name}.1"], convolution(3, s3, 1)
            graph[f"{name}.3"] = [f"{name}.2"], convolution(1)
            graph[f"{name}.short"] = [top], convolution(1, s)
            graph[f"{name}.sum"] = [f"{name}.short", f"{name}.3"], same
            top = f"{name}.sum"
    return graph


def up_to(graph: Graph, name: str) -> Graph:
    """The part of a graph that ends with a node."""
    names = list(graph)
    return {key: graph[key] for key in names[: names.index(name) + 1]}


def width(graph: Graph, unit: int = 0) -> int:
    """The receptive field of one unit of a graph, with your rf_dag."""
    first, last = rf_dag(graph, unit)
    return last - first + 1


# %% tags=["demo"]
lopsided: Graph = {
    "image": ([], None),
    "left": (["image"], convolution(4, 1, 3)),
    "right": (["image"], convolution(6, 1, 0)),
    "both": (["left", "right"], same),
}
print(
    f"a branch of 4 pixels to the left and one of 6 to the right: unit 3 sees {rf_dag(lopsided, 3)}, {width(lopsided)} pixels"
)
in_1x1, in_3x3 = resnet50(stride_in_3x3=False), resnet50(stride_in_3x3=True)
print("\nafter      stride in 1x1    stride in 3x3")
for name in (
    "pool",
    "conv2_3.sum",
    "conv3_1.sum",
    "conv3_4.sum",
    "conv4_1.sum",
    "conv4_6.sum",
    "conv5_1.sum",
    "conv5_3.sum",
):
    print(f"{name:12}{width(up_to(in_1x1, name)):12}{width(up_to(in_3x3, name)):17}")

# %% [markdown]
# 483 and 427 pixels, and the sum that you derived explains the difference. A layer is worth its steps times the strides *below* it. In conv3_1 the stride of 2 is
# either below the $3 \times 3$ convolution, which then steps with the new jump of 8 pixels, or in it, and it steps with the old jump of 4. Its two steps are worth 16
# pixels or 8. The same happens in conv4_1 (32 or 16) and conv5_1 (64 or 32). The differences, $8 + 16 + 32 = 56$, are all that separates 483 from 427. The wider field is not
# free: a $1 \times 1$ convolution with stride 2 looks at one of four units, and throws three quarters of its input away.
# <!-- not printed: 64 (two steps of the new jump of 32) -->
#
# ## Test the claim
#
# First the numbers. The last column is from Araujo, Norris and Sim (2019), who computed the receptive fields of many networks.

# %% tags=["demo"]
VGG16: list[Layer] = [layer for depth in (2, 2, 3, 3, 3) for layer in [*[(3, 1, 1, 1)] * depth, (2, 2, 0, 1)]]
alexnet: list[Layer] = [
    (11, 4, 2, 1),
    (3, 2, 0, 1),
    (5, 1, 2, 1),
    (3, 2, 0, 1),
    *[(3, 1, 1, 1)] * 3,
    (3, 2, 0, 1),
]
print("                            top down   bottom up    published")
print(f"AlexNet, pool5            {rf_top_down(alexnet):10}{rf_bottom_up(alexnet)[0]:12}          195")
print(f"VGG-16, conv5_3           {rf_top_down(VGG16[:-1]):10}{rf_bottom_up(VGG16[:-1])[0]:12}            -")
print(f"VGG-16, pool5             {rf_top_down(VGG16):10}{rf_bottom_up(VGG16)[0]:12}          212")
for name, graph, published in (("1x1", resnet50(False), "483"), ("3x3", resnet50(True), "-")):
    print(f"ResNet-50, stride in {name}  {width(graph):10}{'-':>12}{published:>13}")

# %% [markdown]
# Then the trained units. Three stacks, three strips, one unit each: no stride, doubled dilation, and a lopsided one with unequal kernels and little padding. The blue band is
# your formula: from $a + u\,j$ on, $r$ pixels. The two bars are the **negative control**: two wrong formulas, tested on the same strips. The first counts the padding as
# if it were pixels, $r + 2 \sum p_\ell\, j_{\ell-1}$. The second multiplies by the layer's own stride first, $1 + \sum (K_\ell - 1)\, j_\ell$.


# %%
def padding_counted(layers: list[Layer]) -> int:
    """A wrong formula: padding on both sides as if it widened the field."""
    rf, _, start = rf_bottom_up(layers)
    return rf - 2 * start


def own_stride_first(layers: list[Layer]) -> int:
    """A wrong formula: the jump is multiplied by the layer's own stride before it is used."""
    rf, jump = 1, 1
    for k, s, _, d in layers:
        jump *= s
        rf += d * (k - 1) * jump
    return rf


STACKS: dict[str, tuple[list[Layer], int, int]] = {
    "kernel 3, five times": ([(3, 1, 1, 1)] * 5, 15, 31),
    "dilation 1, 2, 4": ([(3, 1, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4)], 15, 31),
    "kernels 4, 2, 3": ([(4, 3, 1, 1), (2, 1, 0, 2), (3, 1, 1, 1)], 4, 37),
}

# %% tags=["demo"]
fig, axes = plotting.figure(1, 3, width=11, height=3.4, sharey=True)
print("                           formula      reported     worst    best     padding    own stride")
print("                           pixels       pixels       inside   outside  counted    first")
for ax, (name, (layers, unit, pixels)) in zip(axes, STACKS.items(), strict=True):
    rf, jump, start = rf_bottom_up(layers)
    first, last = start + unit * jump, start + unit * jump + rf - 1
    ax.add_patch(Rectangle((first - 0.5, 0.4), rf, 0.66, color=plotting.SKY, alpha=0.3, linewidth=0))
    right = reported(layers, unit, pixels)
    draw_reported(ax, right)
    for height, wrong in ((0.66, padding_counted(layers)), (0.6, own_stride_first(layers))):
        middle = (first + last) / 2
        ax.plot(
            [middle - (wrong - 1) / 2, middle + (wrong - 1) / 2],
            [height] * 2,
            color=plotting.VERMILLION,
            linewidth=3,
        )
    ax.set(title=name, xlabel="pixel", xlim=(-0.7, pixels - 0.3))
    seen, inside = (right > 0.75).nonzero()[:, 0].tolist(), right[first : last + 1]
    outside = torch.cat([right[:first], right[last + 1 :]])
    print(
        f"{name:22}{first:8} to {last:2}{seen[0]:9} to {seen[-1]:2}{inside.min():11.3f}{outside.max():10.3f}"
        f"{padding_counted(layers):11}{own_stride_first(layers):11}"
    )
axes[0].set(ylabel="right answers (share)")
plotting.caption(
    fig,
    "Blue band: your formula. Dots: pixels that one trained unit reports. Upper bar: padding counted. Lower bar: own stride first; without strides it is right. The height of the bars has no meaning.",
)

# %% [markdown]
# In all three stacks the unit reports exactly the computed pixels: inside, every pixel is right in more than 99 of 100 cases; outside, all
# stay near a coin's one half. Both controls miss wherever what they get wrong is there. Counting the padding promises 21 pixels to the first stack, and it reports 11. The
# own stride first is right by luck where all strides are 1, and wrong in the third stack: 22 instead of 16 pixels.
# <!-- not printed: 99, 100 (a bound: the table prints the worst pixel inside with three digits) -->
#
# ## What you built
#
# 1. One step for an interval of units, $m \leftarrow (m - 1)\, s + K$, and its counterpart from below, $r \leftarrow r + (K - 1)\, j$. Both evaluate
#    $1 + \sum_\ell (K_\ell - 1) \prod_{i<\ell} s_i$, and for $n$ equal layers $1 + (K - 1)(s^n - 1)/(s - 1)$.
# 2. The place of every unit: $a + u\, j$, where only padding in front moves $a$.
# 3. A walk that handles branches and upsampling, and asks every layer once.
#
# **Limits.** The interval says what a unit *can* depend on, not what it does depend on: with dilation or strided $1 \times 1$ convolutions there are pixels inside that no tap
# reaches, and weights may be zero. Nor does it say how *much* a pixel counts, which is the subject of notebook 03. Layers that look at everything (global
# pooling, attention, a fully connected layer, batch norm while it trains) have the whole image as their field. And a formula can be applied to the wrong list:
# notebook 02 measures instead, and reads the list off a real network.
#
# **Cost.** A few additions per layer; for a graph, one question per layer, not one per path.
#
# ## Sources
#
# - A. Araujo, W. Norris, J. Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill (2019), doi 10.23915/distill.00021: both recursions, the sum, graphs, and a table of
#   networks.
# - V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning* (2016), arXiv:1603.07285: which positions a convolution and a transposed convolution read.
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition* (2016), arXiv:1512.03385, table 1: ResNet-50.
# - K. Simonyan, A. Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition* (2015), arXiv:1409.1556, section 2.3: three layers of kernel 3 see as much as one of kernel 7.
# - A. Krizhevsky, I. Sutskever, G. E. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks* (2012): AlexNet. The layers here are those of its one-column version.
