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
# # Measuring what a unit sees
#
# *Receptive fields, part 2 of 3: a probe that needs no formula, and a tool for real networks.*
#
# **Claim.** The interval of rows that notebook 01 computes is the one that gradients span, row for row, in AlexNet, VGG-16,
# both versions of ResNet-50 and a U-Net. Two popular wrong formulas are refuted by the same probe. And a function of about
# fifteen lines prints layer, size, jump, receptive field and start for a network that it has never seen.
#
# | | |
# |---|---|
# | **Time** | about 60 minutes; the code runs for about ten seconds |
# | **You need** | [notebook 01](01_formulas.ipynb), what `torch.autograd.grad` returns |
# | **Graded** | five exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | a probe for any network, and `rf_of_module`, a tool to take away |

# %% setup
import copy
import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from skimage import data as photographs
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

import utils
from autograde import open_lesson, yours
from utils import plotting

utils.setup()
check = open_lesson("receptive_field/02_probe")

# %% [markdown]
# ## The problem: three measurements, three answers
#
# A formula can be applied to the wrong list of layers, so measure. The idea is old and good: a unit depends on a pixel if its
# value changes when the pixel does. The derivative of the unit by the pixel says so, and one backward pass gives the derivatives by *all*
# pixels.
#
# Here is AlexNet up to its last pooling layer, with 4 channels in every layer, because the number of channels does not enter any of our formulas. Three seeds for the
# random weights, the same photograph, the same unit in the middle. Notebook 01 says 195 by 195 pixels.


# %%
Layer = tuple[int, int, int, int]  # kernel, stride, padding in front, dilation


def alexnet(channels: int) -> nn.Sequential:
    """AlexNet up to pool5, without its number of channels."""
    c = channels
    return nn.Sequential(
        *(nn.Conv2d(3, c, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c, c, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c, c, 3, 1, 1), nn.ReLU(), nn.Conv2d(c, c, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(c, c, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


def photograph() -> Float[Tensor, "1 3 512 512"]:
    """A photograph of 512 by 512 pixels, between 0 and 1."""
    return torch.tensor(photographs.astronaut()).float().permute(2, 0, 1)[None] / 255


# %% tags=["demo"]
photo = photograph()
fig, axes = plotting.figure(1, 3, width=10, height=3.6, sharey=True)
for seed, ax in enumerate(axes):
    torch.manual_seed(seed)
    x = photo.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(alexnet(4)(x)[0, :, 7, 7].sum(), x)
    touched = (gradient[0] != 0).any(0)
    ax.imshow(touched, cmap="Greys", interpolation="nearest")
    ax.add_patch(Rectangle((157.5, 157.5), 195, 195, fill=False, edgecolor=plotting.VERMILLION))
    height, width = (torch.where(touched)[axis].unique().tolist() for axis in (0, 1))
    found = f"{height[-1] - height[0] + 1} by {width[-1] - width[0] + 1}" if height else "nothing"
    ax.set(title=f"seed {seed}: {found}", xlabel="column", xlim=(130, 380), ylim=(380, 130))
    print(f"seed {seed}: {found}; pixels with a gradient: {int(touched.sum()):,} of {195 * 195:,}")
axes[0].set(ylabel="row")
plotting.caption(
    fig,
    "Black: pixels with a gradient. The square is the one of 195 by 195 pixels that notebook 01 computes.",
)

# %% [markdown]
# One measurement says 163 by 163, one 179 by 195, and one finds nothing at all. Nothing outside of the square has a gradient in any of them. So the
# gradient does not contradict the formula, but it does not show it either: it shows which pixels matter *for these weights and this photograph*, not
# which pixels can matter. (With 64 channels there are so many paths that the square is found all the same, by luck and not by proof.)
#
# To turn the gradient into a probe we need two things: a careful reading of the gradient, and weights for which nothing hides.
#
# ## Notation
#
# | symbol | meaning | values |
# |---|---|---|
# | $k, s, p, d$ | kernel, stride, padding in front, dilation of a layer, as in notebook 01 | |
# | $r, j, a$ | receptive field, jump, start, along one axis | pixels |
# | $K$ | effective kernel $d\,(k - 1) + 1$ | |
# | unit | (row, column) in the last map, all channels together | |
# | $y, x$ | middle of a unit's receptive field, in pixels from the middle of pixel 0 | may end in .5 |
# | box | (top, left, bottom, right): the first and last row and column, all included | pixels |
# | path | a way from a pixel to a unit that takes one tap in every layer | |
# | period | number of units after which receptive fields repeat; 1 without upsampling | |

# %% [markdown]
# ## Read the gradient with care
#
# The value of a unit is one number per channel. We take their sum. Its gradient by the image has the shape of the image, and
# a pixel is *touched* if any of its channels has a gradient that is not zero. From the touched pixels we keep the smallest rectangle that holds them.
#
# Four places where this goes wrong in practice: one looks at the wrong unit; channels of opposite sign cancel when they are added; a threshold
# such as $10^{-8}$ cuts off pixels that are reached on few paths; and `backward()` leaves gradients in the weights of the network
# that one wanted to look at only.
#
# ### Exercise 1 · rf_by_gradient  ●●○  10 minutes
#
# Write the probe. Where no pixel is touched, there is no rectangle: return `None`.


# %% rf_by_gradient tags=["exercise"]
def rf_by_gradient(
    net: Callable[[Tensor], Tensor], x: Float[Tensor, "1 channels height width"], unit: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """The smallest rectangle of pixels with a gradient that is not zero.

    Arguments:
        net: a module or any function from x to a map [1, channels of the output, rows, columns] that is computed from x. Not changed.
        x: the image. Its values are not changed.
        unit: (row, column) of the unit in the output. Its value is the sum over all channels of the output there.

    Returns:
        (top, left, bottom, right), four ints: the first row and column and the last row and column (included) that hold
        a pixel of which some channel has a gradient other than exactly 0, however small, in the dtype of x. None where
        there is no such pixel. The parameters of net hold no gradient afterwards (their .grad stays None).

    Example:
        For net = nn.Conv2d(1, 1, 3, padding=1) and an image of 8 by 8, unit (0, 4) gives (0, 3, 1, 5): the row above the
        image is padding.
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    value = net(x)[0, :, unit[0], unit[1]].sum()
    (gradient,) = torch.autograd.grad(value, x)
    touched = (gradient[0] != 0).any(0)
    if not touched.any():
        return None
    rows, columns = touched.any(1).nonzero()[:, 0], touched.any(0).nonzero()[:, 0]
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Three steps: `torch.autograd.grad` of one number by the image; a table of true and false with one entry for each pixel; the first and last row and column
# with something true in it.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `x = x.detach().requires_grad_()`, `(gradient,) = torch.autograd.grad(net(x)[0, :, row, column].sum(), x)`, `touched = (gradient[0] != 0).any(0)`. The touched rows are
# `touched.any(1).nonzero()[:, 0]`, in rising order.
#
# </details>
#
# <details>
# <summary>"One of the tensors does not require grad", or the gradient is None</summary>
#
# The image that comes in is data: nobody has asked for its gradient. Make a copy that asks for it, `x.detach().requires_grad_()`, *before* you call the network with
# that copy.
#
# </details>

# %% check_rf_by_gradient tags=["check"]
check.rf_by_gradient(rf_by_gradient)

# %% [markdown]
# **See it.** A network without ReLU and without max pooling, where nothing can hide, beside the formula of notebook 01 for each axis. Unit (0, 0) reads padding, which is no
# part of the image. (`yours` fetches a function from your notebook 01. One that is missing there, or wrong, is replaced by the course's, and a line says so.)


# %%
def size_of(box: tuple[int, int, int, int] | None) -> str:
    """A box as "height by width"."""
    return "nothing" if box is None else f"{box[2] - box[0] + 1} by {box[3] - box[1] + 1}"


# %% tags=["demo"]
rf_bottom_up = yours("receptive_field/01_formulas", "rf_bottom_up")
torch.manual_seed(0)
uneven = nn.Sequential(
    nn.Conv2d(1, 2, (3, 5), (1, 2), (1, 2)), nn.Conv2d(2, 1, (3, 2), (2, 1), dilation=(2, 1))
)
rows, columns = [(3, 1, 1, 1), (3, 2, 0, 2)], [(5, 2, 2, 1), (2, 1, 0, 1)]
image = torch.rand(1, 1, 30, 30)
print("unit       measured box            size       formula")
for unit in ((5, 6), (3, 2), (0, 0)):
    box = rf_by_gradient(uneven, image, unit)
    (r1, j1, a1), (r2, j2, a2) = rf_bottom_up(rows), rf_bottom_up(columns)
    print(
        f"{unit!s:9}  {box!s:22}  {size_of(box):9}  rows {a1 + unit[0] * j1} on, {r1} of them; columns {a2 + unit[1] * j2} on, {r2} of them"
    )

# %% [markdown]
# ## When a gradient is zero although there is a path
#
# The gradient of a unit by a pixel is a sum over all *paths* from the pixel to the unit; each path contributes the product of its weights and of the slopes
# that it passes. The sum can be zero, or look like zero, for five reasons besides "there is no path":
#
# 1. a **weight** on the way is zero;
# 2. a **ReLU** on the way is closed, because its argument is negative, for instance through a negative bias;
# 3. a **max pooling** passes the gradient to the largest of its inputs, and to no other;
# 4. paths of opposite sign **cancel**;
# 5. the product is smaller than the smallest number of its dtype, and is rounded to zero. In float32 this happens below $10^{-45}$: the corner of 48 layers of kernel $3 \times 3$
#    has a share of $9^{-48}$.
# <!-- not printed: 48 (9^-48 is 1.6e-46) -->
#
# All five disappear in a network of the same geometry in which all weights are positive, biases are zero, maxima are means, and numbers are float64. With
# a positive image every activation is positive then, so that every ReLU is open; every path contributes a positive number; and positive numbers do not cancel.
# Weights that *average*, one divided by the number of terms, keep everything near 1. A batch norm multiplies by a factor that may be negative; let it do nothing. And a
# dropout throws paths away as long as the network is in training mode.
#
# ### Exercise 2 · open_paths  ●●○  10 minutes
#
# Make this network out of a given one. Work on a copy: nobody wants to lose trained weights to a measurement. `net.named_modules()` lists all modules with their names, also those
# inside of blocks; `net.set_submodule(name, new)` puts another one in a place. (A network may use one pool at two places. `named_modules(remove_duplicate=False)` lists both.)


# %% open_paths tags=["exercise"]
@torch.no_grad()
def open_paths(net: nn.Module) -> nn.Module:
    """A copy of a network in which every path from a positive image to a unit contributes a positive gradient.

    Arguments:
        net: a network of nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d and nn.Dropout, in
            blocks inside of blocks, with additions and concatenations. Pools have no dilation; net itself is not one of
            these layers alone. It is not changed.

    Returns:
        A copy of the same geometry, in float64 and in evaluation mode. Weights of convolutions are positive, of a size that neither
        vanishes nor overflows in three hundred layers, and biases zero. Each nn.MaxPool2d is an nn.AvgPool2d with the same kernel_size,
        stride, padding and ceil_mode. Batch norms do nothing.

    Example:
        In a copy of nn.Conv2d(2, 4, 3) each of the 4 * 2 * 9 weights may be 1 / 18, so that a constant image of 1.0 becomes a
        constant map of 1.0.
    """
    ### BEGIN SOLUTION
    net = copy.deepcopy(net).double().eval()
    for name, module in list(net.named_modules(remove_duplicate=False)):  # one pool may stand at two places
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            net.set_submodule(name, mean)
    return net
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# One loop over the modules of a deep copy, with three cases: a convolution of either kind gets new numbers in place; a batch norm forgets what it has learned
# (`reset_parameters()`); a max pooling is replaced. Make a list of the modules first, because the loop changes the network. ReLU needs no case.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `module.weight.fill_(1 / module.weight[0].numel())`, and `module.bias.zero_()` where there is a bias. (For an `nn.ConvTranspose2d` this counts output channels and taps, which is not exactly the
# number of terms. It does not matter: any positive number of that size will do.) For a pool `net.set_submodule(name, nn.AvgPool2d(module.kernel_size, module.stride,
# module.padding, module.ceil_mode))`.
#
# </details>
#
# <details>
# <summary>"Some pixels are still missing"</summary>
#
# The case of the check says which kind of layer it has. `children()` sees the top level only, `modules()` everything. An `nn.ConvTranspose2d` is no `nn.Conv2d`. If
# only the deep case fails, look at the dtype: `.double()` converts weights, and the weights that you fill in afterwards must not be too small.
#
# </details>

# %% check_open_paths tags=["check"]
check.open_paths(open_paths)

# %% [markdown]
# **See it.** AlexNet with the three seeds of the beginning, as it is and with open paths. Then deeper and deeper stacks, with strides: your probe against three formulas. The
# two wrong ones are the **negative control** of this series: they count the padding, $r + 2 \sum p_\ell\, j_{\ell-1}$, or they multiply by the layer's own stride first,
# $1 + \sum (K_\ell - 1)\, j_\ell$.


# %%
def convolutions(layers: list[Layer]) -> nn.Sequential:
    """Convolutions with 2 channels, the same along both axes, with a ReLU behind each."""
    blocks = [(nn.Conv2d(2 if at else 1, 2, k, s, p, d), nn.ReLU()) for at, (k, s, p, d) in enumerate(layers)]
    return nn.Sequential(*[layer for block in blocks for layer in block])


# %% tags=["demo"]
rf_bottom_up = yours("receptive_field/01_formulas", "rf_bottom_up")
for seed in range(3):
    torch.manual_seed(seed)
    net = alexnet(4)
    closed = rf_by_gradient(net, photograph(), (7, 7))
    opened = rf_by_gradient(open_paths(net), torch.ones(1, 3, 512, 512, dtype=torch.float64), (7, 7))
    print(f"AlexNet, seed {seed}: {size_of(closed)} as it is, {size_of(opened)} with open paths")

stack = [
    (5, 1, 2, 1),
    (3, 2, 1, 1),
    (3, 1, 2, 2),
    (3, 2, 1, 1),
    (3, 1, 1, 1),
    (3, 1, 2, 2),
    (3, 2, 1, 1),
    (3, 1, 1, 1),
]
measured, formula, padded, own_stride = [], [], [], []
for depth in range(1, 9):
    layers = stack[:depth]
    rf, jump, start = rf_bottom_up(layers)
    box = rf_by_gradient(
        open_paths(convolutions(layers)), torch.ones(1, 1, 200, 200, dtype=torch.float64), (100 // jump,) * 2
    )
    measured.append(box[2] - box[0] + 1)
    formula.append(rf)
    padded.append(rf - 2 * start)
    jumps = [rf_bottom_up(layers[: at + 1])[1] for at in range(depth)]
    own_stride.append(1 + sum(d * (k - 1) * j for (k, _, _, d), j in zip(layers, jumps, strict=True)))
print("\ndepth          ", *(f"{depth:4}" for depth in range(1, 9)))
for name, values in (
    ("measured", measured),
    ("formula", formula),
    ("padding counted", padded),
    ("own stride first", own_stride),
):
    print(f"{name:16}", *(f"{value:4}" for value in values))
fig, ax = plotting.figure(width=8.5, height=3.4)
for values, name, color in (
    (formula, "formula", plotting.BLUE),
    (padded, "padding counted", plotting.VERMILLION),
    (own_stride, "own stride first", plotting.ORANGE),
):
    ax.plot(range(1, 9), values, color=color)
    plotting.label(ax, 8.15, values[-1], name, color)
ax.plot(range(1, 9), measured, "o", color=plotting.BLACK, markersize=7)
ax.set(xlabel="layers", ylabel="receptive field (pixels)", xlim=(0.7, 9.8))
plotting.caption(
    fig,
    "Dots: height of the box that the gradient fills. They lie on one of the three lines, at every depth.",
)

# %% [markdown]
# With open paths all three seeds give 195 by 195. And the probe decides between the formulas: at depth 8 it measures 67 pixels, which is what the formula says; the other two promise 133 and
# 81. They are wrong from the first layer with padding on, and from the first layer with a stride.
#
# ## Where a unit looks
#
# A detector places a box around what a unit has found, and a segmentation paints a pixel: both need to know *where* a unit looks. For this the middle of the receptive field is the natural
# answer. Unit $u$ reads pixels $a + u\,j$ to $a + u\,j + r - 1$. If $r$ is even, the middle lies between two pixels, and a rounded answer is wrong by half a pixel, for
# every unit.
#
# ### Exercise 3 · unit_center  ●○○  5 minutes
#
# Return the middle along both axes. You may run the recursion for $r$, $j$, $a$ and combine them. Or do it on paper first: insert the three sums, and find a sum
# in which every layer contributes $\tfrac{K_\ell - 1}{2} - p_\ell$ old jumps.


# %% unit_center tags=["exercise"]
def unit_center(rows: list[Layer], columns: list[Layer], unit: tuple[int, int]) -> tuple[float, float]:
    """The middle of a unit's receptive field, in pixels.

    Arguments:
        rows, columns: (kernel, stride, padding in front, dilation) of each layer along the rows (vertical) and along the columns, the
            layer next to the image first. Either may be empty.
        unit: (row, column) of the unit in the last layer.

    Returns:
        (y, x): half the way from the first pixel that the unit reads to the last, along each axis. Pixel 0 has its middle at 0.0. Padding
        counts as it does in notebook 01: nothing is cut off at the border, and the result may be negative.

    Example:
        rows = columns = [(2, 2, 0, 1)] and unit (3, 0) give (6.5, 0.5): unit 3 reads pixels 6 and 7, unit 0 reads 0 and 1.
    """
    ### BEGIN SOLUTION
    centre = []
    for layers, u in ((rows, unit[0]), (columns, unit[1])):
        place, jump = 0.0, 1
        for k, s, p, d in layers:
            place += (d * (k - 1) / 2 - p) * jump
            jump *= s
        centre.append(place + u * jump)
    return centre[0], centre[1]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The middle of the numbers from `first` to `last` is `(first + last) / 2`. For unit $u$ this is $a + u\,j + (r - 1)/2$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# In the loop of the recursion, `place += (d * (k - 1) / 2 - p) * jump` before `jump *= s`; at the end `place + u * jump`. Do it for the rows with `unit[0]`, for the columns with `unit[1]`.
#
# </details>
#
# <details>
# <summary>"I am off by exactly half a pixel"</summary>
#
# The middle of pixels 6 and 7 lies half a pixel before 7. From the first pixel to the middle it is half the way to the *last* pixel, $(r - 1)/2$, not half the number of pixels.
#
# </details>

# %% check_unit_center tags=["check"]
check.unit_center(unit_center)

# %% [markdown]
# In one line, along each axis: the middle is
#
# $$ u\, j_L + \sum_{\ell=1}^{L} \Big( \frac{K_\ell - 1}{2} - p_\ell \Big)\, j_{\ell-1} . $$
#
# Layers with $p = (K - 1)/2$ contribute nothing: unit $u$ looks at pixel $u\,j$. This is what "same" padding is good for.
#
# **See it.** Four units of AlexNet's last map on the photograph, with your probe's boxes and your centres; and two networks of two layers with even kernels, 4 and 2, without padding and
# with padding 1: the centre moves by 3 pixels, 1 for the first layer and 2 for the second, whose old jump is 2.


# %%
def show_box(ax: Axes, box: tuple[int, int, int, int], color: str) -> None:
    """The outline of a box of pixels on an image."""
    top, left, bottom, right = box
    ax.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            right - left + 1,
            bottom - top + 1,
            fill=False,
            edgecolor=color,
            linewidth=2,
        )
    )


# %% tags=["demo"]
layers = [(11, 4, 2, 1), (3, 2, 0, 1), (5, 1, 2, 1), (3, 2, 0, 1), *[(3, 1, 1, 1)] * 3, (3, 2, 0, 1)]
fig, ax = plotting.figure(width=6.4, height=5.2)
ax.imshow(photographs.astronaut())
ones = torch.ones(1, 3, 512, 512, dtype=torch.float64)
opened = open_paths(alexnet(1))
for unit, color in (
    ((4, 6), plotting.ORANGE),
    ((7, 11), plotting.SKY),
    ((10, 5), plotting.YELLOW),
    ((0, 0), plotting.PURPLE),
):
    box, (y, x) = rf_by_gradient(opened, ones, unit), unit_center(layers, layers, unit)
    show_box(ax, box, color)
    ax.plot([x], [y], "+", color=color, markersize=12, markeredgewidth=2)
    print(
        f"unit {unit!s:8} centre ({y}, {x}); measured box {box}, middle of it ({(box[0] + box[2]) / 2}, {(box[1] + box[3]) / 2})"
    )
ax.set(xlabel="column (pixels)", ylabel="row (pixels)")
plotting.caption(
    fig,
    "Boxes: what four units of pool5 see, measured. Crosses: your centres. At the corner the box is cut off by the border, the centre is not.",
)
even = [(4, 2, 0, 1), (2, 2, 0, 1)], [(4, 2, 1, 1), (2, 2, 1, 1)]
print(
    "even kernels: centres of unit (5, 5) without padding",
    unit_center(even[0], even[0], (5, 5)),
    "and with padding 1",
    unit_center(even[1], even[1], (5, 5)),
)

# %% [markdown]
# ## How deep must it be?
#
# The question in practice is usually the other way round: an object, a face, a word is so many pixels wide. How many layers must a network have so that one unit can see
# all of it?
#
# ### Exercise 4 · min_depth_for  ●●○  6 minutes
#
# Find the smallest number of equal layers (no dilation) whose receptive field has at least `rf` pixels. You may invert the closed form of notebook 01, or count. Two things to decide: what holds
# where the field is reached exactly, and what to do when no depth is enough.


# %% min_depth_for tags=["exercise"]
def min_depth_for(rf: int, k: int, s: int) -> int:
    """The smallest number of equal layers whose receptive field has at least rf pixels.

    Arguments:
        rf: pixels to be seen, at least 1. k: kernel, at least 1. s: stride, at least 1. The dilation is 1.

    Returns:
        The number of layers, an int; 0 for rf = 1. Exact for large numbers too.

    Raises:
        ValueError: if k is 1 and rf is more than 1: no number of such layers is enough.

    Example:
        min_depth_for(31, 3, 2) is 4, because 4 layers see 31 pixels. min_depth_for(32, 3, 2) is 5.
    """
    ### BEGIN SOLUTION
    if k == 1 and rf > 1:
        raise ValueError("layers with one tap never see more than one pixel")
    n, seen, jump = 0, 1, 1
    while seen < rf:
        seen += (k - 1) * jump
        jump *= s
        n += 1
    return n
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Run the recursion from the image, one layer at a time, and stop as soon as `rf` pixels are seen. Before the loop, refuse the case in which it would never end.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `while seen < rf: seen += (k - 1) * jump; jump *= s; n += 1`, with `seen = jump = 1` and `n = 0` at the start.
#
# </details>
#
# <details>
# <summary>"One layer too many, and only for some numbers"</summary>
#
# A logarithm of whole numbers is rounded: `math.log(125, 5)` is a little more than 3, and rounds up to 4. Compare whole numbers instead.
#
# </details>

# %% check_min_depth_for tags=["check"]
check.min_depth_for(min_depth_for)

# %% tags=["demo"]
print("layers needed to see      32 pixels   224 pixels   1024 pixels")
for k, s in ((3, 1), (5, 1), (7, 1), (2, 2), (3, 2), (3, 4)):
    depths = [min_depth_for(pixels, k, s) for pixels in (32, 224, 1024)]
    print(f"kernel {k}, stride {s}        {depths[0]:11}{depths[1]:13}{depths[2]:14}")

# %% [markdown]
# Without a stride, a network of kernel 3 needs 112 layers to see an image of 224 pixels, with stride 2 it needs 7. This is the reason why classifiers shrink their
# maps early, and why networks that must not shrink them dilate.
#
# ## A tool: read the layers off a real network
#
# So far somebody typed the list of layers, and lists have typing errors. A module can tell by itself. `torch.fx.symbolic_trace(net)` runs the forward method with a stand-in for the image, and
# writes down every operation, in the order of execution, as the nodes of a graph. Here are the nodes of a residual block.


# %%
class Block(nn.Module):
    """A convolution beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


for node in fx.symbolic_trace(Block()).graph.nodes:
    inputs = [str(before) for before in node.all_input_nodes]
    print(f"name {node.name:7} op {node.op:14} target {node.target!s:30.30} inputs {inputs}")

# %% [markdown]
# That is nearly the graph of notebook 01: names, and the names of the inputs. What is missing is what each node *reads*. The function below knows the usual layers, and refuses what it does not know:
# an unknown operation that is taken for "reads one position" would make the table wrong without a word. There is nothing to write here; read it as a summary of notebook 01.

# %%
Reads = Callable[[int, int], tuple[int, int]]
Graph = dict[str, tuple[list[str], Reads | None]]
SAME = (operator.add, operator.iadd, operator.mul, torch.add, torch.cat, torch.relu, F.relu)
SAME_MODULES = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)


def same(first: int, last: int) -> tuple[int, int]:
    """Unit u reads unit u."""
    return first, last


def layer_reads(node: fx.Node, traced: fx.GraphModule, axis: int) -> Reads | None:
    """What a node of a traced module reads along axis 0 (rows) or 1 (columns): a function as in notebook 01; None for the image."""
    if node.op == "placeholder":
        return None
    if node.op == "call_function" and node.target in SAME:
        if node.target is torch.cat and (*node.args[1:], *node.kwargs.values())[:1] not in ((1,), (-3,)):
            raise ValueError(f"{node.name} does not join along the channels")
        return same
    if node.op != "call_module":
        raise ValueError(f"do not know what {node.name} reads")
    return module_reads(traced.get_submodule(node.target), axis)


def module_reads(module: nn.Module, axis: int) -> Reads:
    """The same for a layer."""

    def along(name: str) -> int:
        value = getattr(module, name, 1)
        value = value[axis] if isinstance(value, tuple) else value
        if isinstance(value, str) or value != int(value):
            raise ValueError(f"do not know what {type(module).__name__} with {name} {value} reads")
        return int(value)

    if isinstance(module, SAME_MODULES):
        return same
    if isinstance(module, nn.ZeroPad2d):
        front = module.padding[2 if axis == 0 else 0]  # left, right, top, bottom
        return lambda first, last: (first - front, last - front)
    if (
        isinstance(module, nn.Upsample) and module.mode == "nearest" and module.scale_factor is not None
    ):  # unit u reads u // s
        s = along("scale_factor")
        return lambda first, last: (first // s, last // s)
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)):
        raise ValueError(f"do not know what {type(module).__name__} reads")
    if getattr(module, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"do not know what {module.padding_mode} padding reads")
    k, s, p, d = along("kernel_size"), along("stride"), along("padding"), along("dilation")
    if isinstance(module, nn.ConvTranspose2d):
        if d != 1:
            raise ValueError("do not know what a dilated transposed convolution reads")
        return lambda first, last: (-((k - 1 - p - first) // s), (last + p) // s)
    return lambda first, last: (first * s - p, last * s - p + d * (k - 1))


# %% [markdown]
# ### Exercise 5 · rf_of_module  ●●●  20 minutes
#
# Write the tool. For each node in turn:
#
# 1. add it to the graph; it is the last node now, so `field(graph, unit)`, which is your `rf_dag` of notebook 01, answers for *this* node. Nodes that come later are not there yet.
# 2. ask for the units 0 to `period`. The receptive field is the largest width among the units 0 to `period - 1`, because after upsampling units may differ; the start is the first pixel of unit
#    0; the jump is the way from the first pixel of unit 0 to the first pixel of unit `period`, divided by `period`. Who calls the tool chooses `period`: the product of
#    the strides of all upsampling layers is always enough, $2 \cdot 2 \cdot 2 \cdot 2 = 16$ for a U-Net of four levels.
# 3. write a row. `ShapeProp(traced).propagate(torch.zeros(1, *input_shape))` runs an image through the network. In training mode that would move the statistics of batch norms, so
#    trace `copy.deepcopy(net).eval()`. After it, `node.meta["tensor_meta"].shape` is the shape of each node's output.


# %% rf_of_module tags=["exercise"]
def rf_of_module(
    net: nn.Module,
    input_shape: tuple[int, int, int],
    field: Callable[[Graph, int], tuple[int, int]],
    axis: int = 0,
    period: int = 1,
) -> list[tuple[str, int, float, int, int]]:
    """Layer, size, jump, receptive field and start of everything in a network, along one axis.

    Arguments:
        net: a module with one input, built of the layers and functions that `layer_reads` above knows. It is not changed.
        input_shape: (channels, height, width) of one image.
        field: field(graph, unit) -> (first, last): rf_dag of notebook 01. It answers for the last node of the graph.
        axis: 0 along the rows (height), 1 along the columns (width).
        period: how many units to look at, at least 1; after so many, receptive fields have to repeat. The product of the strides of all
            upsampling layers is always enough.

    Returns:
        One row (name, size, jump, rf, start) for each node of the traced graph but the output, the input first, in order.
        name is node.name; size is the number of rows (axis 0) or columns (axis 1) of its map; jump is a float, the other three are ints
        as above. For the input: (its name, height or width, 1.0, 1, 0).

    Example:
        For nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1)) and (1, 8, 8) the rows are ("input_1", 8, 1.0, 1, 0) and
        ("_0", 4, 2.0, 3, -1).
    """
    ### BEGIN SOLUTION
    traced = fx.symbolic_trace(copy.deepcopy(net).eval())
    ShapeProp(traced).propagate(torch.zeros(1, *input_shape))
    graph, rows = {}, []
    for node in traced.graph.nodes:
        if node.op == "output":
            break
        inputs = [source.name for source in node.all_input_nodes]
        graph[node.name] = inputs, layer_reads(node, traced, axis)
        fields = [field(graph, unit) for unit in range(period + 1)]
        rf = max(last - first + 1 for first, last in fields[:period])
        start = fields[0][0]
        jump = (fields[period][0] - start) / period
        rows.append((node.name, node.meta["tensor_meta"].shape[2 + axis], jump, rf, start))
    return rows
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# One loop over `traced.graph.nodes`, a dict that grows by one entry per round, and `field` called in every round. All three numbers come from the list of the intervals of units 0 to `period`.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `graph[node.name] = [source.name for source in node.all_input_nodes], layer_reads(node, traced, axis)`, then `fields = [field(graph, unit) for unit in range(period + 1)]`. The width of an interval
# is `last - first + 1`, the jump `(fields[period][0] - fields[0][0]) / period`, the size `node.meta["tensor_meta"].shape[2 + axis]`.
#
# </details>
#
# <details>
# <summary>"All rows show the same receptive field"</summary>
#
# You filled the graph first, and asked afterwards: then the last node answers every time. Ask inside the loop, right after the node was added. Also, a node with op
# "output" is no layer: stop there.
#
# </details>

# %% check_rf_of_module tags=["check"]
check.rf_of_module(rf_of_module)

# %% [markdown]
# **See it.** VGG-16 with its 13 convolutions and 5 pools. Channels do not matter, so they are few here; the shape of the image matters for the sizes only.


# %%
def vgg16(channels: int) -> nn.Sequential:
    """VGG-16 up to pool5."""
    layers: list[nn.Module] = []
    for group, depth in enumerate((2, 2, 3, 3, 3)):
        for at in range(depth):
            layers += [nn.Conv2d(channels if group + at else 3, channels, 3, 1, 1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def print_table(table: list[tuple[str, int, float, int, int]], net: nn.Module, every: bool = True) -> None:
    """The rows, with the kind of the layer; without those that change nothing unless `every` is given."""
    print("node            layer               size    jump   receptive field   start")
    modules = {name.replace(".", "_"): type(module).__name__ for name, module in net.named_modules()}
    last = None
    for name, size, jump, rf, start in table:
        if every or (size, jump, rf, start) != last:
            kind = modules.get(name.removeprefix("_"), "")
            print(f"{name:14}  {kind:16}{size:8}{jump:8.4g}{rf:18}{start:8}")
        last = (size, jump, rf, start)


# %% tags=["demo"]
rf_dag = yours("receptive_field/01_formulas", "rf_dag")
net = vgg16(2)
print_table(rf_of_module(net, (3, 224, 224), rf_dag), net, every=False)

# %% [markdown]
# The last row says what notebook 01 computed, 212. And for the first time the list of layers is the network's own.
#
# ## Test the claim
#
# Four more networks, written out as modules: AlexNet, ResNet-50 with its stride in one place or the other, and a U-Net. Each goes through the tool, and through your probe, which knows nothing of kernels and strides. A
# U-Net (Ronneberger et al., 2015) goes down four times, comes up four times by transposed convolutions of kernel 2 and stride 2, and hands each map on the way down to its
# partner on the way up. We pad every convolution, so that all maps fit.


# %%
class Bottleneck(nn.Module):
    """The block of ResNet-50: kernels 1, 3, 1 beside a shortcut. The stride sits in the first or in the second of them."""

    def __init__(self, channels: int, stride: int, stride_in_3x3: bool) -> None:
        super().__init__()
        s1, s3 = (1, stride) if stride_in_3x3 else (stride, 1)
        self.conv1, self.conv3 = nn.Conv2d(channels, channels, 1, s1), nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, s3, 1)
        self.short = nn.Conv2d(channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return torch.relu(self.conv3(inside) + self.short(x))


def resnet50(channels: int, stride_in_3x3: bool) -> nn.Sequential:
    """ResNet-50 up to its last block, without batch norm."""
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for group, blocks in enumerate((3, 4, 6, 3)):
        strides = [2 if group else 1, *[1] * (blocks - 1)]
        layers += [Bottleneck(channels, stride, stride_in_3x3) for stride in strides]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two convolutions per level, `depth` levels down and up, with skip connections."""

    def __init__(self, channels: int, depth: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList(self._twice(channels if level else 3, channels) for level in range(depth))
        self.bottom, self.pool = self._twice(channels, channels), nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(channels, channels, 2, 2) for _ in range(depth))
        self.right = nn.ModuleList(self._twice(2 * channels, channels) for _ in range(depth))

    @staticmethod
    def _twice(inside: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inside, out, 3, 1, 1), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for up, right, skip in zip(self.up, self.right, reversed(skips), strict=True):
            x = right(torch.cat([skip, up(x)], 1))
        return x


# %% tags=["demo"]
rf_dag = yours("receptive_field/01_formulas", "rf_dag")
net = UNet(1)
print(
    "U-Net along the rows: the last node of each level, and the upsampling layers; of 16 units the largest field\n"
)
table = rf_of_module(net, (3, 256, 256), rf_dag, period=16)
shown = [
    row
    for row, after in zip(table, [*table[1:], (None, None)], strict=True)
    if row[1] != after[1] or "up" in row[0]
]
print_table(shown, net)

# %% [markdown]
# Read the table downwards. The field grows to 140 pixels at the bottom, and goes on growing on the way up, to 204, because convolutions at a low resolution step in large jumps; the last
# level adds nothing to the largest field. At the end the units are one pixel apart on average, and see up to 204 pixels each. Up to: units differ. Now everything beside the probe.

# %% tags=["demo"]
rf_dag = yours("receptive_field/01_formulas", "rf_dag")
networks = {
    "AlexNet": (alexnet(1), 400, (5, 6)),
    "VGG-16": (vgg16(1), 320, (5, 4)),
    "ResNet-50, stride in 1x1": (resnet50(1, False), 576, (8, 9)),
    "ResNet-50, stride in 3x3": (resnet50(1, True), 512, (7, 8)),
}
print("                            tool: rf   rows of the unit     probe: rows           columns")
for name, (net, pixels, unit) in networks.items():
    _, _, jump, rf, start = rf_of_module(net, (3, pixels, pixels), rf_dag)[-1]
    top = round(start + unit[0] * jump)
    box = rf_by_gradient(open_paths(net), torch.ones(1, 3, pixels, pixels, dtype=torch.float64), unit)
    print(
        f"{name:25}{rf:11}   {top:6} to {top + rf - 1:<10}{box[0]:6} to {box[2]:<4} = {box[2] - box[0] + 1:<7}"
        f"{box[1]} to {box[3]} = {box[3] - box[1] + 1}"
    )

# %% tags=["demo"]
rf_dag = yours("receptive_field/01_formulas", "rf_dag")
opened, ones, units = open_paths(UNet(1)), torch.ones(1, 3, 320, 320, dtype=torch.float64), range(144, 160)
boxes = [rf_by_gradient(opened, ones, (unit, unit)) for unit in units]
probe = [box[2] - box[0] + 1 for box in boxes]
traced = fx.symbolic_trace(UNet(1))
graph = {
    node.name: ([source.name for source in node.all_input_nodes], layer_reads(node, traced, 0))
    for node in traced.graph.nodes
    if node.op != "output"
}
tool = [last - first + 1 for first, last in (rf_dag(graph, unit) for unit in units)]
print("U-Net, units 144 to 159")
print("tool ", *tool)
print("probe", *probe)
print(
    f"largest: tool {max(tool)}, probe {max(probe)}; table above: {rf_of_module(UNet(1), (3, 256, 256), rf_dag, period=16)[-1][3]}"
)

views: dict[tuple[int, int], list[int]] = {}
for unit, box in zip(units, boxes, strict=True):
    views.setdefault((box[0], box[2]), []).append(unit)
for (first, last), group in views.items():
    middle = (first + last) / 2
    print(
        f"units {group[0]} to {group[-1]}: rows {first} to {last}, middle {middle}, "
        f"at most {max(abs(unit - middle) for unit in group)} rows away"
    )

fig, ax = plotting.figure(width=8.5, height=3.2)
for unit, box in zip(units, boxes, strict=True):
    ax.plot([unit, unit], [box[0], box[2]], color=plotting.BLUE, linewidth=7, solid_capstyle="butt")
    first, last = rf_dag(graph, unit)
    ax.plot([unit, unit], [first, last], "_", color=plotting.VERMILLION, markersize=14, markeredgewidth=2)
ax.plot(units, units, ".", color=plotting.BLACK)
ax.set(xlabel="row of the unit in the output", ylabel="rows of the image")
plotting.caption(
    fig,
    "Bars: rows that the gradient spans, for 16 neighbouring units of a U-Net. Ticks: first and last row by your rf_dag. Dots: the unit itself. "
    "Groups of neighbours share one view, and most of them do not sit in its middle.",
)

# %% [markdown]
# The tool and the probe agree in every row, for every network, and for each of the 16 units of the U-Net. Two of these numbers deserve a second look.
#
# **427 or 483.** Same blocks, same table in most people's notes, and both are right, for their network: see the end of exercise 6 in notebook 01. A list of kernels and strides that somebody typed does not say
# which of the two you have. The module does.
#
# **The U-Net.** Its units do not see the same number of pixels, and most do not sit in the middle of what they see: units that come from one unit at the bottom share nearly the same view. Units 146 to 157
# have the very same one, rows 50 to 253, whose middle is 151.5: they sit up to 5.5 rows away from it. No single number and no
# "effective stride" describes this. An interval for each unit does.
#
# To keep the tool, copy the cells of `layer_reads`, `module_reads`, `rf_of_module` and your `rf_dag` into a file.
#
# ## What you built
#
# 1. A probe that finds the receptive field of any network by one backward pass, and a copy of the network in which nothing hides from it.
# 2. The middle of every unit's view, to half a pixel, and the depth that a given field needs.
# 3. A tool that reads the layers off a module, handles branches and upsampling, and refuses what it does not know.
#
# **Limits.** `symbolic_trace` needs a forward method whose course does not depend on the values or shapes of tensors. `layer_reads` knows a dozen operations; a new one must be added by hand, which is the safe way. Both the tool
# and the probe say where influence is *possible*. How much of it there is, is the question of notebook 03.
#
# **Cost.** The probe: one forward and one backward pass. The tool: for $N$ nodes about $N^2 / 2$ questions times the period plus one, which is a second for a few hundred nodes.
#
# ## Sources
#
# - W. Luo, Y. Li, R. Urtasun, R. Zemel, *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks* (2016), arXiv:1701.04128: a unit's gradient by the image as the measure of its receptive field.
# - A. Araujo, W. Norris, J. Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill (2019), doi 10.23915/distill.00021: graphs, alignment of branches, centres.
# - O. Ronneberger, P. Fischer, T. Brox, *U-Net: Convolutional Networks for Biomedical Image Segmentation* (2015), arXiv:1505.04597.
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition* (2016), arXiv:1512.03385, table 1.
# - A. Odena, V. Dumoulin, C. Olah, *Deconvolution and Checkerboard Artifacts*, Distill (2016): outputs that see unequally many inputs.
# - PyTorch, [`torch.fx`](https://pytorch.org/docs/stable/fx.html): the graph of a module.
