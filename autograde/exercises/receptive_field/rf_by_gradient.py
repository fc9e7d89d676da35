"""The exercise ``rf_by_gradient`` of the lesson receptive_field/02_probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import receptive_field as reference

Box = tuple[int, int, int, int]
Net = Callable[[Tensor], Tensor]
_NOTHING = "None where no pixel matters"
_CLEAN = "leaves no gradients in the network"


class Stack(nn.Module):
    """Convolutions with given weights; ``geometry`` holds stride, padding and dilation of each along both axes."""

    def __init__(self, weights: list[Tensor], geometry: list[Any], shift: float) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(weight.detach().clone()) for weight in weights)
        self.geometry, self.shift = geometry, shift

    def forward(self, x: Tensor) -> Tensor:
        """The output of the stack; a shift below zero goes through a ReLU at the end."""
        for weight, (stride, padding, dilation) in zip(self.weights, self.geometry, strict=True):
            x = F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
        return F.relu(x + self.shift) if self.shift else x


def _stack(inputs: Inputs) -> Stack:
    return Stack(inputs["weights"], inputs["geometry"], inputs["shift"])


def box(implementation: Implementation, inputs: Inputs) -> Any:
    """The rectangle."""
    net = _stack(inputs)
    return implementation(net if inputs["module"] else net.forward, inputs["x"], inputs["unit"])


def left_behind(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Whether the parameters hold gradients afterwards, and whether the network is as it was."""
    net = _stack(inputs)
    implementation(net, inputs["x"], inputs["unit"])
    as_it_was = net.training and all(
        weight.dtype == given.dtype and weight.requires_grad and torch.equal(weight, given)
        for weight, given in zip(net.weights, inputs["weights"], strict=True)
    )
    return {
        "gradients left in the network": any(weight.grad is not None for weight in net.weights),
        "the network given": "as it was" if as_it_was else "changed",
    }


def _inputs(
    source: Draw,
    weights: list[Tensor],
    geometry: list[Any],
    size: tuple[int, int],
    unit: tuple[int, int],
    **more: Any,
) -> Inputs:
    x = source.normal(1, weights[0].shape[1], *size)
    drawn = {"weights": weights, "geometry": geometry, "shift": 0.0, "x": x, "unit": unit, "module": True}
    return drawn | more


def _plain(source: Draw) -> Inputs:
    """Two layers, unequal height and width, a unit off the diagonal."""
    weights = [source.normal(3, 1, 3, 3), source.normal(2, 3, 3, 3)]
    return _inputs(source, weights, [((1, 1), (0, 0), (1, 1))] * 2, (9, 14), (1, 6))


def _uneven(source: Draw) -> Inputs:
    """Kernel, stride, padding and dilation differ between the axes; dilation leaves holes."""
    weights = [source.normal(2, 2, 3, 2), source.normal(1, 2, 2, 3)]
    geometry = [((2, 1), (1, 0), (1, 2)), ((1, 2), (0, 1), (3, 1))]
    return _inputs(source, weights, geometry, (19, 16), (2, 3))


def _at_the_edge(source: Draw) -> Inputs:
    weights = [source.normal(2, 1, 5, 5), source.normal(1, 2, 3, 3)]
    return _inputs(source, weights, [((1, 1), (2, 2), (1, 1)), ((1, 1), (1, 1), (1, 1))], (11, 12), (0, 10))


def _corner(source: Draw) -> Inputs:
    """Only the pixel at the very corner counts."""
    weight = torch.zeros(1, 1, 4, 4)
    weight[0, 0, 0, 0] = 2.0
    return _inputs(source, [weight], [((1, 1), (0, 0), (1, 1))], (7, 8), (0, 0))


def _cancelling(source: Draw) -> Inputs:
    """Two input channels with opposite weights: their gradients add up to zero."""
    half = source.normal(1, 1, 3, 3)
    return _inputs(source, [torch.cat([half, -half], 1)], [((1, 1), (0, 0), (1, 1))], (7, 9), (2, 5))


def _negative(source: Draw) -> Inputs:
    weight = -source.uniform(1, 1, 3, 4, low=0.5, high=1.5)
    return _inputs(source, [weight], [((1, 1), (0, 0), (1, 1))], (8, 8), (3, 2))


def _wide_channel(out: int, channel: int) -> Callable[[Draw], Inputs]:
    """Two channels in, two out; only one pair has a wide kernel, all others one tap in the middle."""

    def draw(source: Draw) -> Inputs:
        weight = torch.zeros(2, 2, 5, 5)
        weight[:, :, 2, 2] = 1.0
        weight[out, channel] = source.uniform(5, 5, low=0.5, high=1.5)
        return _inputs(source, [weight], [((1, 1), (0, 0), (1, 1))], (10, 11), (4, 1))

    return draw


def _tiny(source: Draw) -> Inputs:
    """Outer taps that weigh 1e-15 as much as the middle, twice."""
    weight = torch.full((1, 1, 3, 3), 1e-15)
    weight[0, 0, 1, 1] = 1.0
    return _inputs(source, [weight, weight], [((1, 1), (0, 0), (1, 1))] * 2, (9, 9), (3, 2))


def _tiny_in_double(source: Draw) -> Inputs:
    """In float64, outer taps of 1e-60."""
    drawn = dict(_tiny(source))
    weight = drawn["weights"][0].double()
    weight[weight < 1] = 1e-60
    return drawn | {"weights": [weight, weight], "x": drawn["x"].double()}


def _black(source: Draw) -> Inputs:
    """An image of zeros."""
    drawn = dict(_plain(source))
    return drawn | {"x": torch.zeros_like(drawn["x"])}


def _half_black(source: Draw) -> Inputs:
    """Black on the left, and a function in place of a module."""
    drawn = dict(_plain(source))
    x = drawn["x"].clone()
    x[..., :8] = 0.0
    return drawn | {"x": x, "module": False}


def _slanted(source: Draw) -> Inputs:
    """Three taps from the upper right to the lower left: the first pixel in reading order is not the leftmost."""
    weight = torch.zeros(1, 1, 3, 3)
    for row, column in ((0, 2), (1, 1), (2, 0)):
        weight[0, 0, row, column] = float(source.uniform(low=0.5, high=1.5))
    return _inputs(source, [weight], [((1, 1), (0, 0), (1, 1))], (8, 8), (3, 2))


def _this_image(source: Draw) -> Inputs:
    """A ReLU that this image opens, and zeros or ones do not."""
    drawn = dict(_negative(source))
    return drawn | {"x": -drawn["x"].abs() - 0.1, "shift": -0.01}


def _asleep(source: Draw) -> Inputs:
    """A ReLU that lets nothing through."""
    return dict(_negative(source)) | {"shift": -1000.0}


def _random(source: Draw) -> Inputs:
    weights = [source.normal(2, 1, source.integer(2, 5), source.integer(2, 5)), source.normal(1, 2, 3, 2)]
    geometry = [
        ((source.integer(1, 2), 1), (source.integer(0, 2), 0), (1, 1)),
        ((1, 2), (0, 0), (source.integer(1, 2), 1)),
    ]
    return _inputs(source, weights, geometry, (23, 27), (source.integer(1, 4), source.integer(5, 8)))


def _gradient(net: Net, x: Tensor, unit: tuple[int, int]) -> Tensor:
    x = x.detach().requires_grad_()
    value = net(x)[0, :, unit[0], unit[1]].sum()
    return torch.autograd.grad(value, x)[0][0]


def _box(touched: Tensor) -> Box | None:
    if not bool(touched.any()):
        return None
    rows, columns = touched.any(1).nonzero()[:, 0], touched.any(0).nonzero()[:, 0]
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])


def _right(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box((_gradient(net, x, unit) != 0).any(0))


def _all_units(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    x = x.detach().requires_grad_()
    return _box((torch.autograd.grad(net(x).sum(), x)[0][0] != 0).any(0))


def _unit_swapped(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _right(net, x, unit[::-1])


def _first_output_channel(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _right(lambda image: net(image)[:, :1], x, unit)


def _first_input_channel(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box(_gradient(net, x, unit)[0] != 0)


def _channels_cancel(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box(_gradient(net, x, unit).sum(0) != 0)


def _every_channel(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box((_gradient(net, x, unit) != 0).all(0))


def _positive_only(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box((_gradient(net, x, unit) > 0).any(0))


def _threshold(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box((_gradient(net, x, unit).abs() > 1e-8).any(0))


def _single_precision(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box((_gradient(net, x, unit).float() != 0).any(0))


def _times_input(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _box((_gradient(net, x, unit) * x[0] != 0).any(0))


def _sizes_summed(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _right(lambda image: net(image).abs(), x, unit)


def _reading_order(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    where = (_gradient(net, x, unit) != 0).any(0).nonzero().tolist()
    return (*where[0], *where[-1]) if where else None


def _ones_for_the_image(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _right(net, torch.ones_like(x), unit)


def _end_excluded(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    found = _right(net, x, unit)
    return None if found is None else (found[0], found[1], found[2] + 1, found[3] + 1)


def _columns_first(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    found = _right(net, x, unit)
    return None if found is None else (found[1], found[0], found[3], found[2])


def _rows_then_columns(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    found = _right(net, x, unit)
    return None if found is None else (found[0], found[2], found[1], found[3])


def _with_size(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    found = _right(net, x, unit)
    return None if found is None else (found[0], found[1], found[2] - found[0] + 1, found[3] - found[1] + 1)


def _size_alone(net: Net, x: Tensor, unit: tuple[int, int]) -> tuple[int, int] | None:
    found = _right(net, x, unit)
    return None if found is None else (found[2] - found[0] + 1, found[3] - found[1] + 1)


def _counted(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    touched = (_gradient(net, x, unit) != 0).any(0)
    found = _box(touched)
    if found is None:
        return None
    rows, columns = int(touched.any(1).sum()), int(touched.any(0).sum())
    return found[0], found[1], found[0] + rows - 1, found[1] + columns - 1


def _zeros_for_nothing(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _right(net, x, unit) or (0, 0, 0, 0)


def _whole_image_for_nothing(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    return _right(net, x, unit) or (0, 0, x.shape[2] - 1, x.shape[3] - 1)


def _no_case_for_nothing(net: Net, x: Tensor, unit: tuple[int, int]) -> Box:
    touched = (_gradient(net, x, unit) != 0).any(0)
    rows, columns = touched.any(1).nonzero()[:, 0], touched.any(0).nonzero()[:, 0]
    return int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max())


def _backward(net: Net, x: Tensor, unit: tuple[int, int]) -> Box | None:
    x = x.detach().requires_grad_()
    net(x)[0, :, unit[0], unit[1]].sum().backward()
    assert x.grad is not None
    return _box((x.grad[0] != 0).any(0))


def _stumbles(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """An exception where there is no gradient, and nowhere else."""
    stopped = {requirement for (requirement, _), entry in observed.items() if entry.raised is not None}
    return stopped == {_NOTHING}


rf_by_gradient = Exercise(
    reference.rf_by_gradient,
    requirements=(
        Requirement(
            "the smallest rectangle with all gradients",
            (
                Case("two layers, height and width unequal", _plain),
                Case("everything differs between the axes", _uneven),
                Case("a unit at the edge, with padding", _at_the_edge),
                Case("one pixel in the corner", _corner),
                Case("input channels of opposite sign", _cancelling),
                Case("only negative gradients", _negative),
                Case("a wide kernel from the second input channel", _wide_channel(0, 1)),
                Case("a wide kernel to the second output channel", _wide_channel(1, 0)),
                Case("gradients of 1e-30", _tiny),
                Case("gradients of 1e-120 in float64", _tiny_in_double),
                Case("a black image", _black),
                Case("half of the image black, the network a function", _half_black),
                Case("taps on a slanted line", _slanted),
                Case("a ReLU that only this image opens", _this_image),
                Case("drawn at random", _random, shown=False),
            ),
            box,
            points=2,
        ),
        Requirement(_NOTHING, (Case("a ReLU that lets nothing through", _asleep),), box),
        Requirement(_CLEAN, (Case("after the call", _plain),), left_behind),
    ),
    mistakes=(
        Mistake("You sum over all units of the output. Take the one at `unit`.", _all_units),
        Mistake(
            "You mixed up row and column of the unit: unit is (row, column), and out is [1, channels, rows, columns].",
            _unit_swapped,
        ),
        Mistake(
            "You look at the first output channel only. Sum over all channels of the unit.",
            _first_output_channel,
        ),
        Mistake(
            "You look at the first input channel only. A pixel counts if any of its channels does.",
            _first_input_channel,
        ),
        Mistake(
            "You add the channels' gradients before you compare with zero, and opposite signs cancel. Compare first.",
            _channels_cancel,
        ),
        Mistake(
            "You ask that all channels have a gradient. A pixel counts if any of its channels does.",
            _every_channel,
        ),
        Mistake(
            "You count positive gradients only. A negative one shows a dependence as well.", _positive_only
        ),
        Mistake(
            "You compare with a threshold. However small a gradient is, the unit depends on the pixel: ask whether it is not 0.",
            _threshold,
        ),
        Mistake(
            "Your gradient went through float32, where numbers below 1e-45 become zero. Keep the dtype of x.",
            _single_precision,
        ),
        Mistake("You multiply the gradient by the image. A black pixel is seen as well.", _times_input),
        Mistake(
            "You take the size of the unit's channels before the sum. Where a channel is 0, its size has no gradient: sum the channels as they are.",
            _sizes_summed,
        ),
        Mistake(
            "You take the first and the last touched pixel in reading order. The leftmost one may stand in another row: take the first row and the first column by themselves.",
            _reading_order,
        ),
        Mistake(
            "You put another image in place of x. Which ReLUs are open depends on the image: use x.",
            _ones_for_the_image,
        ),
        Mistake(
            "Your bottom and right are one too far: the last row and column belong to the rectangle.",
            _end_excluded,
        ),
        Mistake("You return columns before rows. The order is top, left, bottom, right.", _columns_first),
        Mistake(
            "You return the rows, then the columns. The order is top, left, bottom, right.",
            _rows_then_columns,
        ),
        Mistake("You return height and width in place of bottom and right.", _with_size),
        Mistake("You return height and width alone. Asked are top, left, bottom, right.", _size_alone),
        Mistake(
            "You count the rows and columns with a gradient. Dilation and strides leave holes: take the last one, not their number.",
            _counted,
        ),
        Mistake(
            "Where no pixel has a gradient you return zeros, which is the rectangle of pixel (0, 0). Return None.",
            _zeros_for_nothing,
        ),
        Mistake(
            "Where no pixel has a gradient you return the whole image. Return None.", _whole_image_for_nothing
        ),
        Mistake(
            "Where no pixel has a gradient your function stops with an error. Return None.",
            _no_case_for_nothing,
            recognise=_stumbles,
        ),
        Mistake(
            "backward() also writes a gradient into every parameter of the network, where the next training step would find it. "
            "torch.autograd.grad(value, x) returns the one that you want.",
            _backward,
        ),
    ),
    returns=("top", "left", "bottom", "right"),
)
