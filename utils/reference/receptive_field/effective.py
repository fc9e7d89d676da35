"""How strongly the pixels of a receptive field count: the effective receptive field.

Source: Luo, Li, Urtasun, Zemel, Understanding the Effective Receptive Field in Deep Convolutional Neural Networks, NIPS 2016.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from utils.reference.receptive_field.formulas import Layer


def path_counts(layers: list[Layer]) -> Float[Tensor, "pixels"]:
    """How many paths lead from each pixel of the receptive field to one unit: from the top, spread by s, add K shifted copies.

    float64; the result has as many elements as the receptive field has pixels.
    """
    counts = torch.ones(1, dtype=torch.float64)
    for k, s, _, d in reversed(layers):
        spread = counts.new_zeros((len(counts) - 1) * s + 1)
        spread[::s] = counts
        counts = sum(F.pad(spread, (d * tap, d * (k - 1 - tap))) for tap in range(k))  # type: ignore[assignment]
    return counts


def predicted_std(layers: list[Layer]) -> float:
    """Standard deviation in pixels of the influence under uniform weights: v <- v s^2 + d^2 (k^2 - 1) / 12 from the top.

    Luo et al., section 2.2, for layers of stride 1; here with stride and dilation.
    """
    variance = 0.0
    for k, s, _, d in reversed(layers):
        variance = variance * s**2 + d**2 * (k**2 - 1) / 12
    return float(variance**0.5)


def erf_map(
    net: Callable[[Tensor], Tensor], x: Float[Tensor, "images channels height width"], power: int
) -> Float[Tensor, "height width"]:
    """|gradient|^power of the central output unit at each pixel: summed over channels, averaged over images, of sum 1."""
    x = x.detach().requires_grad_()
    out = net(x)
    value = out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(value, x)
    influence = (gradient.abs() ** power).sum(1).mean(0)
    return influence / influence.sum()


def erf_std(influence: Float[Tensor, "height width"]) -> float:
    """Standard deviation of a map in pixels, taken as a distribution: root of the mean of both axes' variances."""
    variances = []
    for profile in (influence.sum(1), influence.sum(0)):
        weight = profile / profile.sum()
        position = torch.arange(len(weight), dtype=weight.dtype, device=weight.device)
        centre = (weight * position).sum()
        variances.append((weight * (position - centre) ** 2).sum())
    return float((sum(variances) / 2) ** 0.5)


def erf_size(influence: Float[Tensor, "height width"], frac: float) -> float:
    """Root of the number of pixels above (1 - frac) of the largest value: the side of a square of that area.

    Luo et al., section 3, with frac = 0.9545.
    """
    return float((influence > (1 - frac) * influence.max()).sum() ** 0.5)
