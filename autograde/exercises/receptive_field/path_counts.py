"""The exercise ``path_counts`` of the lesson receptive_field/03_effective."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.receptive_field.stacks import Layer, layers
from autograde.observe import Inputs
from utils.reference import receptive_field as reference

STRIDED: list[Layer] = [(3, 2, 1, 1), (2, 3, 0, 1), (3, 1, 1, 1)]
DILATED: list[Layer] = [(3, 1, 1, 1), (2, 1, 2, 3)]
MIXED: list[Layer] = [(2, 2, 2, 2), (3, 1, 5, 3), (4, 2, 0, 1)]


def _random(source: Draw) -> Inputs:
    """Three small layers, so that counts stay small numbers and every one of them tells."""
    stack = [(source.integer(2, 3), 2, source.integer(0, 2), source.integer(2, 3))]
    stack += [(source.integer(2, 4), source.integer(1, 3), 0, source.integer(1, 2)) for _ in range(2)]
    return {"layers": stack}


def _counts(
    layers: list[Layer],
    *,
    stride: bool = True,
    dilation: bool = True,
    filled: bool = False,
    repeated: bool = False,
    trailing: bool = False,
    kernel_first: bool = False,
    square: bool = False,
) -> Tensor:
    """The recursion from the top, with switches for what goes wrong."""
    counts = torch.ones(1, dtype=torch.float64)
    for k, s, _, d in reversed(layers):
        s, d = s if stride else 1, d if dilation else 1
        if not kernel_first:
            counts = _spread(counts, s, repeated, trailing)
        kernel = torch.zeros(d * (k - 1) + 1, dtype=torch.float64)
        kernel[:: 1 if filled else d] = 1.0
        counts = F.conv1d(F.pad(counts, (len(kernel) - 1,) * 2)[None, None], kernel[None, None])[0, 0]
        if kernel_first:
            counts = _spread(counts, s, repeated, trailing)
    return counts**2 if square else counts


def _spread(counts: Tensor, s: int, repeated: bool, trailing: bool) -> Tensor:
    if repeated:
        return counts.repeat_interleave(s)
    spread = counts.new_zeros(len(counts) * s if trailing else (len(counts) - 1) * s + 1)
    spread[::s] = counts
    return spread


def _stride_ignored(layers: list[Layer]) -> Tensor:
    return _counts(layers, stride=False)


def _dilation_ignored(layers: list[Layer]) -> Tensor:
    return _counts(layers, dilation=False)


def _holes_filled(layers: list[Layer]) -> Tensor:
    return _counts(layers, filled=True)


def _repeated(layers: list[Layer]) -> Tensor:
    return _counts(layers, repeated=True)


def _zeros_behind(layers: list[Layer]) -> Tensor:
    return _counts(layers, trailing=True)


def _kernel_first(layers: list[Layer]) -> Tensor:
    return _counts(layers, kernel_first=True)


def _from_the_image(layers: list[Layer]) -> Tensor:
    return _counts(layers[::-1])


def _squared(layers: list[Layer]) -> Tensor:
    return _counts(layers, square=True)


def _all_equal(layers: list[Layer]) -> Tensor:
    return torch.ones(reference.rf_top_down(layers), dtype=torch.float64)


def _single_precision(layers: list[Layer]) -> Tensor:
    return _counts(layers).float()


def _counted_in_float32(layers: list[Layer]) -> Tensor:
    counts = torch.ones(1)
    for k, s, _, d in reversed(layers):
        spread = _spread(counts, s, False, False)
        counts = spread.new_zeros(len(spread) + d * (k - 1))
        for tap in range(k):
            counts[tap * d : tap * d + len(spread)] += spread
    return counts.double()


def _counted_in_integers(layers: list[Layer]) -> Tensor:
    counts = torch.ones(1, dtype=torch.int64)
    for k, s, _, d in reversed(layers):
        spread = _spread(counts, s, False, False)
        counts = spread.new_zeros(len(spread) + d * (k - 1))
        for tap in range(k):
            counts[tap * d : tap * d + len(spread)] += spread
    return counts.double()


def _whole_numbers(layers: list[Layer]) -> Tensor:
    return _counts(layers).long()


def _sum_one(layers: list[Layer]) -> Tensor:
    counts = _counts(layers)
    return counts / counts.sum()


def _largest_one(layers: list[Layer]) -> Tensor:
    counts = _counts(layers)
    return counts / counts.max()


def _holes_left_out(layers: list[Layer]) -> Tensor:
    counts = _counts(layers)
    return counts[counts > 0]


def _touched(layers: list[Layer]) -> Tensor:
    return (_counts(layers) > 0).double()


def _first_layer_missing(layers: list[Layer]) -> Tensor:
    return _counts(layers[1:])


def _one_tap_left_out(layers: list[Layer]) -> Tensor:
    return reference.path_counts([layer for layer in layers if layer[0] > 1])


path_counts = Exercise(
    reference.path_counts,
    requirements=(
        Requirement(
            "how many paths lead to each pixel",
            (
                Case("three layers, kernel 3", layers([(3, 1, 1, 1)] * 3)),
                Case("strides", layers(STRIDED)),
                Case("dilation", layers(DILATED)),
                Case("strides and dilation", layers(MIXED)),
                Case("one layer with holes", layers([(3, 1, 0, 2)])),
                Case(
                    "layers with one tap and a stride",
                    layers([(3, 1, 1, 1), (1, 2, 0, 1), (2, 1, 0, 1), (1, 3, 0, 1)]),
                ),
                Case("no layers: one path", layers([])),
                Case("100 layers, kernel 3", layers([(3, 1, 1, 1)] * 100)),
                Case("drawn at random", _random, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You leave out layers with one tap. Their stride counts: it moves the pixels apart that the layers above read.",
            _one_tap_left_out,
        ),
        Mistake(
            "You left out the strides: neighbouring units read s units apart, so the counts are spread by s first.",
            _stride_ignored,
        ),
        Mistake("You left out the dilation: the copies are d positions apart.", _dilation_ignored),
        Mistake(
            "Your kernel has taps in its holes. It has k taps, d apart, and zeros between them.",
            _holes_filled,
        ),
        Mistake(
            "You repeat each count s times. Between two units that are read s apart there are zeros.",
            _repeated,
        ),
        Mistake(
            "You put zeros behind the last count as well. Between n counts there are n - 1 gaps: (n - 1) s + 1 positions.",
            _zeros_behind,
        ),
        Mistake(
            "You add the copies before you spread. Going down, a layer first places its units s apart, then each of them reads k taps.",
            _kernel_first,
        ),
        Mistake(
            "You start at the image. Going down from the top, the last layer of the list comes first.",
            _from_the_image,
        ),
        Mistake("You return the squares of the counts.", _squared),
        Mistake(
            "You return ones. Pixels in the middle are reached on more paths than those at the rim.",
            _all_equal,
        ),
        Mistake(
            "Your counts are float32. Asked is float64, because counts grow like k to the number of layers.",
            _single_precision,
        ),
        Mistake(
            "You count in float32 and convert at the end. Counts above 10^38 are infinite by then: begin with float64.",
            _counted_in_float32,
        ),
        Mistake(
            "You count in integers and convert at the end. They overflow in deep stacks: begin with float64.",
            _counted_in_integers,
        ),
        Mistake(
            "Your counts are whole numbers. Asked is float64, as integers overflow in deep stacks.",
            _whole_numbers,
        ),
        Mistake(
            "You divide the counts by their sum, or by k in every layer. Those are the shares of pixels; asked is the number of paths.",
            _sum_one,
        ),
        Mistake("You divide by the largest count. Return the counts as they are.", _largest_one),
        Mistake(
            "You left out the pixels that no path reaches. They are part of the receptive field, with a count of 0.",
            _holes_left_out,
        ),
        Mistake("You say whether there is a path. Asked is how many there are.", _touched),
        Mistake("You left out the first layer of the list, the one nearest the image.", _first_layer_missing),
    ),
)
