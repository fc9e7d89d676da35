"""The exercise ``rf_top_down`` of the lesson receptive_field/01_formulas."""

from __future__ import annotations

import math

from autograde.exercise import Case, Exercise, Mistake, Requirement
from autograde.exercises.receptive_field.stacks import (
    ALEXNET,
    DILATED,
    MIXED,
    STRIDED,
    Layer,
    layers,
    random_layers,
)
from utils.reference import receptive_field as reference


def _wide(layer: Layer) -> int:
    k, _, _, d = layer
    return d * (k - 1) + 1


def _stride_times_units(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = m * layer[1] + _wide(layer)
    return m


def _stride_first(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = m * layer[1] + _wide(layer) - 1
    return m


def _from_the_image(layers: list[Layer]) -> int:
    m = 1
    for layer in layers:
        m = (m - 1) * layer[1] + _wide(layer)
    return m


def _dilation_ignored(layers: list[Layer]) -> int:
    m = 1
    for k, s, _, _ in reversed(layers):
        m = (m - 1) * s + k
    return m


def _dilation_multiplies(layers: list[Layer]) -> int:
    m = 1
    for k, s, _, d in reversed(layers):
        m = (m - 1) * s + k * d
    return m


def _stride_ignored(layers: list[Layer]) -> int:
    return 1 + sum(_wide(layer) - 1 for layer in layers)


def _padding_counted(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = (m - 1) * layer[1] + _wide(layer) + 2 * layer[2]
    return m


def _padding_taken_off(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = (m - 1) * layer[1] + _wide(layer) - 2 * layer[2]
    return m


def _padding_once(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = (m - 1) * layer[1] + _wide(layer) + layer[2]
    return m


def _from_nothing(layers: list[Layer]) -> int:
    m = 0
    for layer in reversed(layers):
        m = (m - 1) * layer[1] + _wide(layer)
    return m


def _added_before(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = (m - 1 + _wide(layer)) * layer[1]
    return m


def _product(layers: list[Layer]) -> int:
    return math.prod(_wide(layer) for layer in layers)


def _kernels_added(layers: list[Layer]) -> int:
    return sum(_wide(layer) for layer in layers)


def _squared(layers: list[Layer]) -> int:
    return reference.rf_top_down(layers) ** 2


def _kernels_lost(layers: list[Layer]) -> int:
    m = 1
    for layer in reversed(layers):
        m = max((m - 1) * layer[1] + 1, _wide(layer))
    return m


def _one_less(layers: list[Layer]) -> int:
    return reference.rf_top_down(layers) - 1


def _turned_in_place(layers: list[Layer]) -> int:
    m = 1
    layers.reverse()
    for layer in layers:
        m = (m - 1) * layer[1] + _wide(layer)
    return m


def _first_layer_missing(layers: list[Layer]) -> int:
    return reference.rf_top_down(layers[1:])


def _last_layer_missing(layers: list[Layer]) -> int:
    return reference.rf_top_down(layers[:-1])


rf_top_down = Exercise(
    reference.rf_top_down,
    requirements=(
        Requirement(
            "the width of the receptive field",
            (
                Case("one layer, kernel 3", layers([(3, 1, 1, 1)])),
                Case("three layers with strides", layers(STRIDED)),
                Case("dilation, no stride", layers(DILATED)),
                Case("strides and dilation, padding", layers(MIXED)),
                Case("AlexNet up to pool5", layers(ALEXNET)),
                Case("no layers: a pixel sees itself", layers([])),
                Case("a stack drawn at random", random_layers, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You multiply m by s and add K. Between m neighbouring units there are m - 1 steps: (m - 1) s + K.",
            _stride_times_units,
        ),
        Mistake(
            "You multiply m by s and add K - 1. The last unit needs no step of its own: (m - 1) s + K.",
            _stride_first,
        ),
        Mistake(
            "You start at the image. Going down from the top, the last layer of the list comes first.",
            _from_the_image,
        ),
        Mistake(
            "You left out the dilation. A kernel spans K = d (k - 1) + 1 positions, not k.", _dilation_ignored
        ),
        Mistake(
            "Your kernel spans k d positions. With k - 1 distances it is d (k - 1) + 1.", _dilation_multiplies
        ),
        Mistake(
            "You left out the strides. Each step between two units is s units of the layer below.",
            _stride_ignored,
        ),
        Mistake(
            "You added the padding on both sides. Padding moves the receptive field and gives it no pixels: "
            "zeros are no part of the image.",
            _padding_counted,
        ),
        Mistake(
            "You took the padding off. Padding changes how many units there are, not how much one of them reads.",
            _padding_taken_off,
        ),
        Mistake(
            "You added the padding once. Padding moves the receptive field and does not change its width.",
            _padding_once,
        ),
        Mistake("You start with m = 0. At the top there is one unit: m = 1.", _from_nothing),
        Mistake(
            "You add the kernel before you multiply. First the m - 1 steps become (m - 1) s, then K is added.",
            _added_before,
        ),
        Mistake(
            "You multiply the kernels. Windows of neighbouring units overlap, so widths do not multiply.",
            _product,
        ),
        Mistake("You add the kernels. Each layer adds K - 1, times the strides below it.", _kernels_added),
        Mistake("You return the area. Asked is the width along one axis.", _squared),
        Mistake(
            "You take the larger of the steps and the kernel. The interval is as long as the steps and one kernel together.",
            _kernels_lost,
        ),
        Mistake(
            "You return the distance from the first pixel to the last. The width is one more.", _one_less
        ),
        Mistake(
            "You turn the list round in place, and whoever called you finds it changed. Use reversed(layers).",
            _turned_in_place,
        ),
        Mistake("You left out the first layer of the list, the one nearest the image.", _first_layer_missing),
        Mistake("You left out the last layer of the list, the one at the top.", _last_layer_missing),
    ),
)
