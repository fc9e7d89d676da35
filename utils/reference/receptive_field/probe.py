"""Receptive fields measured by gradient, and the table of a real module.

Sources: Luo, Li, Urtasun, Zemel, Understanding the Effective Receptive Field in Deep Convolutional Neural Networks, NIPS 2016,
section 2 (a unit depends on a pixel where the gradient is not zero); Araujo, Norris, Sim, Distill 2019.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from utils.reference.receptive_field.formulas import Graph, Layer, rf_bottom_up
from utils.reference.receptive_field.modules import layer_reads

Row = tuple[str, int, float, int, int]
"""Name, size, jump, receptive field, start."""


def rf_by_gradient(
    net: Callable[[Tensor], Tensor], x: Float[Tensor, "1 channels height width"], unit: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Smallest rectangle (top, left, bottom, right), both ends included, of the pixels on which a unit's gradient is not zero.

    The unit is the sum of all channels at ``unit``. None where the gradient is zero everywhere.
    """
    x = x.detach().requires_grad_()
    value = net(x)[0, :, unit[0], unit[1]].sum()
    (gradient,) = torch.autograd.grad(value, x)
    touched = (gradient[0] != 0).any(0)
    if not bool(touched.any()):
        return None
    rows, columns = touched.any(1).nonzero()[:, 0], touched.any(0).nonzero()[:, 0]
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])


@torch.no_grad()
def open_paths(net: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode in which every path from a positive image to a unit carries a positive gradient.

    Weights are positive and average over what they read, biases are zero, batch norms do nothing, and maxima become means.
    """
    net = copy.deepcopy(net).double().eval()
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            net.set_submodule(name, nn.Identity())
        elif isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            net.set_submodule(name, mean)
    return net


def unit_center(rows: list[Layer], columns: list[Layer], unit: tuple[int, int]) -> tuple[float, float]:
    """Middle of a unit's receptive field in pixels: start + u jump + (rf - 1) / 2 along each axis."""

    def middle(layers: list[Layer], u: int) -> float:
        rf, jump, start = rf_bottom_up(layers)
        return start + u * jump + (rf - 1) / 2

    return middle(rows, unit[0]), middle(columns, unit[1])


def min_depth_for(rf: int, k: int, s: int) -> int:
    """The smallest number of equal layers without dilation whose receptive field has at least ``rf`` pixels.

    Raises:
        ValueError: k is 1, and rf is larger: no number of such layers is enough.
    """
    if k == 1 and rf > 1:
        raise ValueError("layers with one tap never see more than one pixel")
    n, seen, jump = 0, 1, 1
    while seen < rf:
        seen += (k - 1) * jump
        jump *= s
        n += 1
    return n


def rf_of_module(
    net: nn.Module,
    input_shape: tuple[int, int, int],
    field: Callable[[Graph, int], tuple[int, int]],
    axis: int = 0,
    period: int = 1,
) -> list[tuple[str, int, float, int, int]]:
    """One row (name, size, jump, rf, start) for the input and for each operation of a module, along one axis.

    ``field(graph, unit)`` is ``rf_dag``. After upsampling, receptive fields differ from unit to unit and repeat after
    ``period`` units: ``rf`` is the largest of them, ``start`` the first pixel of unit 0.
    """
    traced = fx.symbolic_trace(copy.deepcopy(net).eval())
    ShapeProp(traced).propagate(torch.zeros(1, *input_shape))
    graph: Graph = {}
    rows: list[Row] = []
    for node in traced.graph.nodes:
        if node.op == "output":
            break
        graph[node.name] = [source.name for source in node.all_input_nodes], layer_reads(node, traced, axis)
        size = _size(node.meta, axis)
        fields = [field(graph, unit) for unit in range(period + 1)]
        rf = max(last - first + 1 for first, last in fields[:period])
        start = fields[0][0]
        rows.append((node.name, size, (fields[period][0] - start) / period, rf, start))
    return rows


def _size(meta: dict[str, Any], axis: int) -> int:
    return int(meta["tensor_meta"].shape[2 + axis])
