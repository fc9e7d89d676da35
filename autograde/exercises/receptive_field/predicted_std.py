"""The exercise ``predicted_std`` of the lesson receptive_field/03_effective."""

from __future__ import annotations

import math
from collections.abc import Callable

from autograde.exercise import Case, Exercise, Mistake, Requirement
from autograde.exercises.receptive_field.stacks import DILATED, MIXED, STRIDED, Layer, layers, random_layers
from utils.reference import receptive_field as reference


def _variance(
    layers: list[Layer],
    *,
    kernel: Callable[[int], float] = lambda k: (k**2 - 1) / 12,
    dilation: Callable[[int], int] = lambda d: d**2,
    stride: Callable[[int], int] = lambda s: s**2,
    own_stride: bool = False,
) -> float:
    """The recursion from the top, with switches for what goes wrong."""
    variance = 0.0
    for k, s, _, d in reversed(layers):
        added = dilation(d) * kernel(k)
        variance = (variance + added) * stride(s) if own_stride else variance * stride(s) + added
    return variance


def _not_rooted(layers: list[Layer]) -> float:
    return _variance(layers)


def _continuous(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, kernel=lambda k: k**2 / 12))


def _unbiased(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, kernel=lambda k: k * (k + 1) / 12))


def _steps(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, kernel=lambda k: (k - 1) ** 2 / 12))


def _dilation_ignored(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, dilation=lambda d: 1))


def _dilation_not_squared(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, dilation=lambda d: d))


def _stride_ignored(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, stride=lambda s: 1))


def _stride_not_squared(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, stride=lambda s: s))


def _own_stride(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, own_stride=True))


def _from_the_image(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers[::-1]))


def _stds_added(layers: list[Layer]) -> float:
    std = 0.0
    for k, s, _, d in reversed(layers):
        std = std * s + d * math.sqrt((k**2 - 1) / 12)
    return std


def _holes_filled(layers: list[Layer]) -> float:
    return math.sqrt(_variance([(d * (k - 1) + 1, s, p, 1) for k, s, p, d in layers]))


def _uniform_over_all(layers: list[Layer]) -> float:
    return math.sqrt((reference.rf_top_down(layers) ** 2 - 1) / 12)


def _both_axes(layers: list[Layer]) -> float:
    return math.sqrt(2 * _variance(layers))


def _mean_variance(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers) / max(len(layers), 1))


def _twelfth_missing(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers, kernel=lambda k: k**2 - 1))


def _half_of_it(layers: list[Layer]) -> float:
    return math.sqrt(_variance(layers) / 2)


predicted_std = Exercise(
    reference.predicted_std,
    requirements=(
        Requirement(
            "the standard deviation in pixels",
            (
                Case("one layer, kernel 3", layers([(3, 1, 1, 1)])),
                Case("20 equal layers, kernel 3", layers([(3, 1, 1, 1)] * 20)),
                Case("6 equal layers, kernel 2", layers([(2, 1, 0, 1)] * 6)),
                Case("strides", layers(STRIDED)),
                Case("dilation", layers(DILATED)),
                Case("strides and dilation", layers(MIXED)),
                Case("no layers: all on one pixel", layers([])),
                Case("drawn at random", random_layers, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake("You return the variance. The standard deviation is its root.", _not_rooted),
        Mistake(
            "Your variance of one kernel is k^2 / 12, which is that of a continuous interval. For k whole positions it is (k^2 - 1) / 12.",
            _continuous,
        ),
        Mistake(
            "Your variance of one kernel is k (k + 1) / 12: you divided by k - 1. All k positions are known: divide by k.",
            _unbiased,
        ),
        Mistake(
            "Your variance of one kernel is (k - 1)^2 / 12. For k whole positions it is (k^2 - 1) / 12.",
            _steps,
        ),
        Mistake(
            "You left out the dilation. Positions d apart have d^2 times the variance.", _dilation_ignored
        ),
        Mistake(
            "You multiply the variance by d. Positions d times as far apart have d^2 times the variance.",
            _dilation_not_squared,
        ),
        Mistake(
            "You left out the strides. Going down, positions are s times as far apart: variance times s^2.",
            _stride_ignored,
        ),
        Mistake(
            "You multiply the variance by s. Positions s times as far apart have s^2 times the variance.",
            _stride_not_squared,
        ),
        Mistake(
            "You add the kernel before you multiply by s^2. The layer's own kernel reads neighbours of the layer below: multiply, then add.",
            _own_stride,
        ),
        Mistake(
            "You start at the image. Going down from the top, the last layer of the list comes first.",
            _from_the_image,
        ),
        Mistake("You add standard deviations. Of independent steps the variances add.", _stds_added),
        Mistake(
            "Your kernel has taps in its holes. It is k positions, d apart: d^2 (k^2 - 1) / 12.",
            _holes_filled,
        ),
        Mistake(
            "You take the whole receptive field as uniform. Its pixels are reached on different numbers of paths: add up the layers' variances.",
            _uniform_over_all,
        ),
        Mistake(
            "You return the distance in the plane. Asked is the standard deviation along one axis.",
            _both_axes,
        ),
        Mistake("You divide by the number of layers. Variances add; they are not averaged.", _mean_variance),
        Mistake("You left out the 12: the variance of one kernel is (k^2 - 1) / 12.", _twelfth_missing),
        Mistake(
            "You halve the variance. That belongs to squared influence; with uniform weights nothing is squared.",
            _half_of_it,
        ),
    ),
)
