"""The exercise ``erf_map`` of the lesson receptive_field/03_effective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs
from utils.reference import receptive_field as reference

Net = Callable[[Tensor], Tensor]


class Layers:
    """Convolutions with given weights, a smooth gate between them, and a stride in the last one."""

    def __init__(self, inputs: Inputs) -> None:
        self.weights = [weight.detach().requires_grad_() for weight in inputs["weights"]]
        self.gate, self.stride = inputs["gate"], inputs["stride"]

    def __call__(self, x: Tensor) -> Tensor:
        *first, last = self.weights
        for weight in first:
            x = F.conv2d(x, weight, padding="same")
            x = x * torch.sigmoid(2 * x) if self.gate else x
        return F.conv2d(x, last, stride=self.stride)


def influence(implementation: Implementation, inputs: Inputs) -> Any:
    """The map."""
    return implementation(Layers(inputs), inputs["x"], inputs["power"])


def left_behind(implementation: Implementation, inputs: Inputs) -> dict[str, bool]:
    """Whether the weights hold gradients afterwards."""
    net = Layers(inputs)
    implementation(net, inputs["x"], inputs["power"])
    return {"gradients left in the network": any(weight.grad is not None for weight in net.weights)}


def _inputs(
    channels: int, images: int, size: tuple[int, int], power: int, gate: bool = True, stride: int = 1
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        weights = [source.normal(3, channels, 3, 3, scale=0.5), source.normal(2, 3, 3, 4, scale=0.4)]
        x = source.normal(images, channels, *size)
        return {"weights": weights, "x": x, "power": power, "gate": gate, "stride": stride}

    return draw


def _in_double(source: Draw) -> Inputs:
    drawn = dict(_inputs(1, 2, (8, 9), 2)(source))
    return drawn | {"weights": [weight.double() for weight in drawn["weights"]], "x": drawn["x"].double()}


def _faint(source: Draw) -> Inputs:
    """In float64, gradients of about 1e-30."""
    drawn = dict(_in_double(source))
    return drawn | {"weights": [1e-15 * weight for weight in drawn["weights"]]}


def _dead(source: Draw) -> Inputs:
    """All weights are zero: no pixel has a gradient."""
    drawn = dict(_inputs(2, 2, (9, 8), 2)(source))
    return drawn | {"weights": [torch.zeros_like(weight) for weight in drawn["weights"]]}


def _black(source: Draw) -> Inputs:
    drawn = dict(_inputs(2, 2, (9, 7), 1, gate=False)(source))
    return drawn | {"x": torch.zeros_like(drawn["x"])}


def _random(source: Draw) -> Inputs:
    size = (source.integer(9, 12), source.integer(13, 16))
    return _inputs(2, source.integer(2, 4), size, source.integer(1, 2))(source)


def _gradient(net: Net, x: Tensor, unit: tuple[int, int] | None = None) -> Tensor:
    x = x.detach().requires_grad_()
    out = net(x)
    y, u = unit or (out.shape[2] // 2, out.shape[3] // 2)
    return torch.autograd.grad(out[:, :, y, u].sum(), x)[0]


def _normal(influence: Tensor) -> Tensor:
    return influence / influence.sum()


def _not_normalised(net: Net, x: Tensor, power: int) -> Tensor:
    return (_gradient(net, x).abs() ** power).sum(1).mean(0)


def _largest_one(net: Net, x: Tensor, power: int) -> Tensor:
    influence = (_gradient(net, x).abs() ** power).sum(1).mean(0)
    return influence / influence.max()


def _corner_unit(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x, (0, 0)).abs() ** power).sum(1).mean(0))


def _all_units(net: Net, x: Tensor, power: int) -> Tensor:
    x = x.detach().requires_grad_()
    gradient = torch.autograd.grad(net(x).sum(), x)[0]
    return _normal((gradient.abs() ** power).sum(1).mean(0))


def _centre_of_the_image(net: Net, x: Tensor, power: int) -> Tensor:
    rows, columns = net(x).shape[2:]
    unit = (min(x.shape[2] // 2, rows - 1), min(x.shape[3] // 2, columns - 1))
    return _normal((_gradient(net, x, unit).abs() ** power).sum(1).mean(0))


def _images_cancel(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).mean(0).abs() ** power).sum(0))


def _channels_cancel(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).sum(1).abs() ** power).mean(0))


def _both_cancel(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal(_gradient(net, x).sum(1).mean(0).abs() ** power)


def _small_number_added(net: Net, x: Tensor, power: int) -> Tensor:
    influence = (_gradient(net, x).abs() ** power).sum(1).mean(0)
    return influence / (influence.sum() + 1e-8)


def _always_one(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal(_gradient(net, x).abs().sum(1).mean(0))


def _always_two(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x) ** 2).sum(1).mean(0))


def _power_at_the_end(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal(_gradient(net, x).abs().sum(1).mean(0) ** power)


def _power_of_the_channels(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).abs().sum(1) ** power).mean(0))


def _root_taken(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).abs() ** power).sum(1).mean(0) ** (1 / power))


def _signs_kept(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x) ** power).sum(1).mean(0))


def _times_image(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal(((_gradient(net, x) * x).abs() ** power).sum(1).mean(0))


def _first_image(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x)[0].abs() ** power).sum(0))


def _first_output_channel(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(lambda image: net(image)[:, :1], x).abs() ** power).sum(1).mean(0))


def _first_channel(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x)[:, 0].abs() ** power).mean(0))


def _largest_channel(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).abs() ** power).amax(1).mean(0))


def _every_image_one(net: Net, x: Tensor, power: int) -> Tensor:
    maps = (_gradient(net, x).abs() ** power).sum(1)
    return (maps / maps.sum((1, 2), keepdim=True)).mean(0)


def _one_of_each_channel(net: Net, x: Tensor, power: int) -> Tensor:
    influence = (_gradient(net, x).abs() ** power).mean(0)
    return influence / influence.sum()


def _transposed(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).abs() ** power).sum(1).mean(0)).T


def _rounded(net: Net, x: Tensor, power: int) -> Tensor:
    return _normal((_gradient(net, x).float().abs() ** power).sum(1).mean(0))


def _backward(net: Net, x: Tensor, power: int) -> Tensor:
    x = x.detach().requires_grad_()
    out = net(x)
    out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    assert x.grad is not None
    return _normal((x.grad.abs() ** power).sum(1).mean(0))


def _zeros_for_nan(net: Net, x: Tensor, power: int) -> Tensor:
    return reference.erf_map(net, x, power).nan_to_num()


erf_map = Exercise(
    reference.erf_map,
    requirements=(
        Requirement(
            "the share of every pixel",
            (
                Case("3 images, power 2", _inputs(1, 3, (9, 12), 2)),
                Case("3 images with 2 channels, power 1", _inputs(2, 3, (10, 9), 1)),
                Case("2 channels, power 2, stride 2", _inputs(2, 2, (11, 14), 2, stride=2)),
                Case("one image, no gate, power 1", _inputs(1, 1, (7, 8), 1, gate=False)),
                Case("black images", _black),
                Case("no pixel has a gradient: nan", _dead),
                Case("in float64", _in_double),
                Case("gradients of 1e-30 in float64", _faint),
                Case("drawn at random", _random, shown=False),
            ),
            influence,
            points=2,
        ),
        Requirement(
            "leaves no gradients in the network",
            (Case("after the call", _inputs(1, 2, (8, 8), 2)),),
            left_behind,
        ),
    ),
    mistakes=(
        Mistake("Your map does not sum to 1. Divide by its sum at the end.", _not_normalised),
        Mistake(
            "You divide by the largest value. Divide by the sum, so that the map is a distribution.",
            _largest_one,
        ),
        Mistake(
            "You look at the unit in the corner. Take the central one: [:, :, height // 2, width // 2].",
            _corner_unit,
        ),
        Mistake("You look at all units at once. Take the central one.", _all_units),
        Mistake(
            "Your unit is at the centre of the image. The output has another size: use the height and width of net(x).",
            _centre_of_the_image,
        ),
        Mistake(
            "You average the gradients over the images, and signs cancel. Take the size first, then the mean.",
            _images_cancel,
        ),
        Mistake(
            "You add the gradients of the channels, and signs cancel. Take the size first, then the sum.",
            _channels_cancel,
        ),
        Mistake(
            "You add gradients of both signs over channels and images, and they cancel. Take the size of every single one first.",
            _both_cancel,
        ),
        Mistake(
            "Where no pixel has a gradient you return zeros, or other numbers. Such a map tells nothing: leave it nan, so that "
            "whoever looks at it notices.",
            _zeros_for_nan,
        ),
        Mistake(
            "You add a small number to the sum before you divide. Gradients may be smaller than that: divide by the sum itself.",
            _small_number_added,
        ),
        Mistake(
            "You left out the power: with power 2 the squares of the gradients are asked for.", _always_one
        ),
        Mistake("You always square. Use `power`.", _always_two),
        Mistake(
            "You take the power of the averaged map. Take it of every single gradient, then sum and average.",
            _power_at_the_end,
        ),
        Mistake(
            "You take the power of the sum over channels. Take it of every single gradient, then sum.",
            _power_of_the_channels,
        ),
        Mistake("You take the root at the end. Return the mean of the powers.", _root_taken),
        Mistake("You take no absolute value, and with power 1 signs cancel.", _signs_kept),
        Mistake("You multiply the gradient by the image. Asked is the gradient alone.", _times_image),
        Mistake("You look at the first image only. Average over all of them.", _first_image),
        Mistake(
            "You look at the first output channel only. Sum over all channels of the central unit.",
            _first_output_channel,
        ),
        Mistake("You look at the first input channel only. Sum over the channels.", _first_channel),
        Mistake("You take the largest channel. Sum over the channels.", _largest_channel),
        Mistake(
            "You divide each image's map by its own sum. Average first, and divide once: images with larger gradients count more.",
            _every_image_one,
        ),
        Mistake(
            "Your map still has channels. Sum over them: the map is [height, width].", _one_of_each_channel
        ),
        Mistake("Your map is transposed. Rows come first.", _transposed),
        Mistake("Your map is float32 although the images are float64.", _rounded),
        Mistake(
            "backward() also writes a gradient into every weight of the network, where the next training step would find it. Use "
            "torch.autograd.grad(value, x).",
            _backward,
        ),
    ),
)
