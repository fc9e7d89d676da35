"""The exercise ``rf_bottom_up`` of the lesson receptive_field/01_formulas."""

from __future__ import annotations

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

Triple = tuple[int, int, int]


def _run(
    layers: list[Layer],
    *,
    own_stride: bool = False,
    own_padding: bool = False,
    dilation: bool = True,
    padding: int = -1,
    padding_jump: bool = True,
) -> Triple:
    """The recursion, with switches for what goes wrong."""
    r, j, start = 1, 1, 0
    for k, s, p, d in layers:
        before, j = j, j * s
        r += (k - 1) * (d if dilation else 1) * (j if own_stride else before)
        start += padding * p * ((j if own_padding else before) if padding_jump else 1)
    return r, j, start


def _own_stride(layers: list[Layer]) -> Triple:
    return _run(layers, own_stride=True)


def _own_stride_for_padding(layers: list[Layer]) -> Triple:
    return _run(layers, own_padding=True)


def _own_stride_for_both(layers: list[Layer]) -> Triple:
    return _run(layers, own_stride=True, own_padding=True)


def _padding_to_the_right(layers: list[Layer]) -> Triple:
    return _run(layers, padding=1)


def _padding_ignored(layers: list[Layer]) -> Triple:
    return _run(layers, padding=0)


def _padding_twice(layers: list[Layer]) -> Triple:
    return _run(layers, padding=-2)


def _padding_in_units(layers: list[Layer]) -> Triple:
    return _run(layers, padding_jump=False)


def _dilation_ignored(layers: list[Layer]) -> Triple:
    return _run(layers, dilation=False)


def _from_the_top(layers: list[Layer]) -> Triple:
    return _run(layers[::-1])


def _kernel_added(layers: list[Layer]) -> Triple:
    r, j, start = 1, 1, 0
    for k, s, p, d in layers:
        r += (d * (k - 1) + 1) * j
        start -= p * j
        j *= s
    return r, j, start


def _dilation_multiplies(layers: list[Layer]) -> Triple:
    r, j, start = 1, 1, 0
    for k, s, p, d in layers:
        r += (k * d - 1) * j
        start -= p * j
        j *= s
    return r, j, start


def _last_stride(layers: list[Layer]) -> Triple:
    r, j, start = 1, 1, 0
    for k, s, p, d in layers:
        r += d * (k - 1) * j
        start -= p * j
        j = s
    return r, j, start


def _strides_added(layers: list[Layer]) -> Triple:
    r, j, start = 1, 1, 0
    for k, s, p, d in layers:
        r += d * (k - 1) * j
        start -= p * j
        j += s - 1
    return r, j, start


def _strides_forgotten(layers: list[Layer]) -> Triple:
    return _run([(k, 1, p, d) for k, _, p, d in layers])


def _dilated_padding(layers: list[Layer]) -> Triple:
    rf, jump, _ = _run(layers)
    return rf, jump, _run([(k, s, p * d, d) for k, s, p, d in layers])[2]


def _padding_counted(layers: list[Layer]) -> Triple:
    rf, jump, start = _run(layers)
    return rf - 2 * start, jump, start


def _centre(layers: list[Layer]) -> tuple[int, int, float]:
    rf, jump, start = _run(layers)
    return rf, jump, start + (rf - 1) / 2


def _other_order(layers: list[Layer]) -> Triple:
    rf, jump, start = _run(layers)
    return jump, rf, start


def _from_zero(layers: list[Layer]) -> Triple:
    rf, jump, start = _run(layers)
    return rf - 1, jump, start


def _last_pixel(layers: list[Layer]) -> Triple:
    rf, jump, start = _run(layers)
    return rf, jump, start + rf - 1


def _only_the_width(layers: list[Layer]) -> int:
    return _run(layers)[0]


rf_bottom_up = Exercise(
    reference.rf_bottom_up,
    requirements=(
        Requirement(
            "receptive field, jump and start",
            (
                Case("one layer, kernel 3, padding 1", layers([(3, 1, 1, 1)])),
                Case("three layers with strides and padding", layers(STRIDED)),
                Case("dilation, no stride", layers(DILATED)),
                Case("strides, dilation and padding", layers(MIXED)),
                Case("AlexNet up to pool5", layers(ALEXNET)),
                Case("no layers: a pixel sees itself", layers([])),
                Case("more padding than the kernel reaches", layers([(1, 2, 2, 1), (3, 1, 4, 1)])),
                Case("a stack drawn at random", random_layers, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You multiply the jump by the layer's own stride before you use it for the receptive field. The kernel "
            "steps over the units of the layer below, which are the old jump apart.",
            _own_stride,
        ),
        Mistake(
            "Your padding moves by the new jump. Padding is put on the layer below, whose units are the old jump apart.",
            _own_stride_for_padding,
        ),
        Mistake(
            "You use the new jump for the receptive field and for the start. Multiply the jump by s last.",
            _own_stride_for_both,
        ),
        Mistake(
            "Your start moves to the right. Padding in front moves unit 0 to the left: subtract.",
            _padding_to_the_right,
        ),
        Mistake(
            "Your start ignores the padding, or is cut off at 0. Unit 0 begins p old jumps further left, also left of the image.",
            _padding_ignored,
        ),
        Mistake("You subtract the padding twice. Only the padding in front moves unit 0.", _padding_twice),
        Mistake(
            "You subtract p pixels. The padding is p units of the layer below, each of them the old jump wide: p j.",
            _padding_in_units,
        ),
        Mistake("You left out the dilation: K - 1 = d (k - 1).", _dilation_ignored),
        Mistake("You start at the top. Going up, the first layer of the list comes first.", _from_the_top),
        Mistake("You add K jumps. From the first tap to the last there are K - 1.", _kernel_added),
        Mistake("Your kernel spans k d positions. It is d (k - 1) + 1.", _dilation_multiplies),
        Mistake("Your jump is the last stride alone. Jumps multiply: j s.", _last_stride),
        Mistake("You add strides. Each step of this layer is s steps of the one below: j s.", _strides_added),
        Mistake("You left out the strides. The jump is their product.", _strides_forgotten),
        Mistake(
            "You multiply the padding by the dilation. Dilation moves the taps apart, not the padding.",
            _dilated_padding,
        ),
        Mistake(
            "You added the padding to the receptive field. Padding moves it and gives it no pixels.",
            _padding_counted,
        ),
        Mistake("You return the middle of unit 0. Asked is its first pixel.", _centre),
        Mistake("You return the jump first. The order is receptive field, jump, start.", _other_order),
        Mistake("Your receptive field starts at 0. Without any layer, a pixel sees one pixel.", _from_zero),
        Mistake("You return the last pixel of unit 0. Asked is its first.", _last_pixel),
        Mistake(
            "You return the receptive field alone. Asked is a tuple of receptive field, jump and start.",
            _only_the_width,
        ),
    ),
    returns=("the receptive field", "the jump", "the start"),
)
