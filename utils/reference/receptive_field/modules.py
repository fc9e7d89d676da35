"""What a node of a traced module reads, for ``rf_of_module``."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from utils.reference.receptive_field.formulas import Reads, effective_kernel, upsampling_reads

SAME = (operator.add, operator.iadd, operator.mul, torch.add, torch.cat, torch.relu, F.relu)
"""Functions whose output u reads input u, of each of their inputs."""
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


def layer_reads(node: fx.Node, traced: fx.GraphModule, axis: int) -> Reads | None:
    """The first and the last input that some neighbouring outputs of a node read; None for the image.

    Raises:
        ValueError: an operation that is not known here. Guessing would make the table wrong without a word.
    """
    if node.op == "placeholder":
        return None
    if node.op == "call_module":
        return module_reads(traced.get_submodule(str(node.target)), axis)
    if node.op == "call_function" and node.target in SAME:
        if node.target is torch.cat and (*node.args[1:], *node.kwargs.values())[:1] not in ((1,), (-3,)):
            raise ValueError(f"{node.name} does not join along the channels")
        return lambda first, last: (first, last)
    raise ValueError(f"do not know what {node.name} reads")


def module_reads(module: nn.Module, axis: int) -> Reads:
    """What a module's outputs ``first`` to ``last`` read along an axis.

    Raises:
        ValueError: another module, or one with a padding by name, another mode of padding, or a factor that is not whole.
    """
    if isinstance(module, SAME_MODULES):
        return lambda first, last: (first, last)
    if isinstance(module, nn.ZeroPad2d):
        front = module.padding[2 if axis == 0 else 0]
        return lambda first, last: (first - front, last - front)
    if isinstance(module, nn.Upsample) and module.mode == "nearest" and module.scale_factor is not None:
        factor = _along(module, "scale_factor", axis)
        return lambda first, last: upsampling_reads(factor, factor, 0, first, last)
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)):
        raise ValueError(f"do not know what {type(module).__name__} reads")
    if getattr(module, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"do not know what {module.padding_mode} padding reads")
    k, s, p, d = (_along(module, name, axis) for name in ("kernel_size", "stride", "padding", "dilation"))
    if isinstance(module, nn.ConvTranspose2d):
        if d != 1:
            raise ValueError("do not know what a dilated transposed convolution reads")
        return lambda first, last: upsampling_reads(k, s, p, first, last)
    wide = effective_kernel(k, d)
    return lambda first, last: (first * s - p, last * s - p + wide - 1)


def _along(module: nn.Module, name: str, axis: int) -> int:
    value: Any = getattr(module, name, 1)
    value = value[axis] if isinstance(value, tuple) else value
    if isinstance(value, str) or value != int(value):
        raise ValueError(f"do not know what {type(module).__name__} with {name} {value} reads")
    return int(value)
