"""The exercise ``open_paths`` of the lesson receptive_field/02_probe."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs
from utils.reference import receptive_field as reference


class Residual(nn.Module):
    """x + conv(ReLU(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return x + torch.relu(self.b(torch.relu(self.a(x))))


def _layers(kind: str) -> nn.Module:
    if kind == "plain":
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, (2, 3), dilation=2))
    if kind == "pool":
        return nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(2, 2, 3),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )
    if kind == "nested":
        inner = nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU()), nn.MaxPool2d(2))
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), inner)
    if kind == "up":
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2),
            nn.Dropout(0.95),
            nn.ReLU(),
            nn.ConvTranspose2d(2, 1, 4, 2, 1),
            nn.ReLU(),
        )
    if kind == "shared":
        pool = nn.MaxPool2d(2)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), pool, nn.Conv2d(2, 2, 2), nn.ReLU(), pool)
    if kind == "long":
        return nn.Sequential(*[nn.Conv2d(13, 13, 1, bias=False) for _ in range(100)] * 3)
    if kind == "residual":
        return nn.Sequential(nn.Conv2d(1, 2, 1), Residual(2), Residual(2))
    return nn.Sequential(*[nn.Conv2d(1, 1, (31, 1), bias=False) for _ in range(100)])


def network(kind: str, seed: int) -> nn.Module:
    """A network with random weights of both signs, a tenth of them zero, biases below zero, and batch norms that turn the sign."""
    generator = torch.Generator().manual_seed(seed)
    net = _layers(kind)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                weight = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(
                    torch.where(torch.rand(weight.shape, generator=generator) < 0.1, 0.0, weight)
                )
                module.weight[..., 0] = 0.0
                if module.bias is not None:
                    module.bias.fill_(-0.7)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(-1.5)
                module.bias.fill_(-0.5)
                module.running_mean.fill_(4.0)  # type: ignore[union-attr]
    return net


def opened(implementation: Implementation, inputs: Inputs) -> Any:
    """The pixels with a gradient, whether all are positive, the dtype, and whether the network given is as it was."""
    net = network(inputs["kind"], inputs["seed"])
    before = _state(net)
    result = implementation(net)
    if not isinstance(result, nn.Module):
        return result
    if result is net:
        return {"the network returned": "the one that was given"}
    dtype = next((parameter.dtype for parameter in result.parameters()), torch.float64)
    x = torch.ones(1, inputs["channels"], *inputs["size"], dtype=dtype, requires_grad=True)
    out = result(x)
    value = out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum()
    gradient = torch.autograd.grad(value, x)[0][0] if value.requires_grad else torch.zeros_like(x[0])
    touched = gradient != 0
    return {
        "the network returned": "a copy",
        "pixels with a gradient": touched.any(0),
        "all of these gradients positive and finite": bool(
            (gradient[touched] > 0).all() and gradient.isfinite().all()
        ),
        "twice the image gives twice the map": bool(torch.allclose(result(2 * x), 2 * out, rtol=1e-6)),
        "dtype": str(dtype),
        "the network given": "as it was" if _unchanged(net, before) else "changed",
    }


def _state(net: nn.Module) -> tuple[dict[str, Tensor], list[tuple[type, bool]]]:
    values = {name: value.clone() for name, value in net.state_dict().items()}
    return values, [(type(module), module.training) for module in net.modules()]


def _unchanged(net: nn.Module, before: tuple[dict[str, Tensor], list[tuple[type, bool]]]) -> bool:
    (ours, kinds), (theirs, kinds_before) = _state(net), before
    return kinds == kinds_before and all(
        ours[name].dtype == value.dtype and torch.equal(ours[name], value) for name, value in theirs.items()
    )


def _net(kind: str, channels: int, height: int, width: int) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "kind": kind,
        "channels": channels,
        "size": (height, width),
        "seed": source.integer(0, 10_000),
    }


@torch.no_grad()
def _open(
    net: nn.Module,
    *,
    weight: Callable[[Tensor], Tensor] = lambda w: torch.full_like(w, 1 / w[0].numel()),
    bias: bool = True,
    norm: bool = True,
    pool: bool = True,
    up: bool = True,
    double: bool = True,
    evaluate: bool = True,
    own: bool = True,
    pool_geometry: bool = True,
    deep: bool = True,
    everywhere: bool = True,
) -> nn.Module:
    """The answer, with switches for what goes wrong."""
    net = copy.deepcopy(net) if own else net
    net = net.double() if double else net
    net = net.eval() if evaluate else net
    modules = net.named_modules(remove_duplicate=not everywhere)
    for name, module in list(modules if deep else net.named_children()):
        if isinstance(module, nn.Conv2d) or (up and isinstance(module, nn.ConvTranspose2d)):
            module.weight.copy_(weight(module.weight))
            if bias and module.bias is not None:
                module.bias.zero_()
        elif norm and isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif pool and isinstance(module, nn.MaxPool2d):
            geometry = (module.stride, module.padding, module.ceil_mode) if pool_geometry else ()
            net.set_submodule(name, nn.AvgPool2d(module.kernel_size, *geometry))
    return net


def _bias_left(net: nn.Module) -> nn.Module:
    return _open(net, bias=False)


def _bias_positive(net: nn.Module) -> nn.Module:
    net = _open(net)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None:
                module.bias.fill_(0.1)
    return net


def _norm_left(net: nn.Module) -> nn.Module:
    return _open(net, norm=False)


def _pool_left(net: nn.Module) -> nn.Module:
    return _open(net, pool=False)


def _up_left(net: nn.Module) -> nn.Module:
    return _open(net, up=False)


def _single(net: nn.Module) -> nn.Module:
    return _open(net, double=False)


def _training_mode(net: nn.Module) -> nn.Module:
    return _open(net, evaluate=False)


def _given_one_returned(net: nn.Module) -> nn.Module:
    return _open(net, own=False)


def _given_one_changed(net: nn.Module) -> nn.Module:
    return copy.deepcopy(_open(net, own=False))


def _top_level(net: nn.Module) -> nn.Module:
    return _open(net, deep=False)


def _absolute(net: nn.Module) -> nn.Module:
    return _open(net, weight=torch.abs)


def _random_again(net: nn.Module) -> nn.Module:
    return _open(net, weight=torch.randn_like)


def _tiny(net: nn.Module) -> nn.Module:
    return _open(net, weight=lambda w: torch.full_like(w, 1e-6))


def _huge(net: nn.Module) -> nn.Module:
    return _open(net, weight=lambda w: torch.full_like(w, 1e6))


def _pool_without_geometry(net: nn.Module) -> nn.Module:
    return _open(net, pool_geometry=False)


def _one_place(net: nn.Module) -> nn.Module:
    return _open(net, everywhere=False)


def _ones(net: nn.Module) -> nn.Module:
    return _open(net, weight=torch.ones_like)


def _one_by_all(net: nn.Module) -> nn.Module:
    return _open(net, weight=lambda w: torch.full_like(w, 1 / w.numel()))


def _negative(net: nn.Module) -> nn.Module:
    return _open(net, weight=lambda w: torch.full_like(w, -1.0))


def _only_copied(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net).double().eval()


def _gates_only(net: nn.Module) -> nn.Module:
    net = _only_copied(net)
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU):
            net.set_submodule(name, nn.Identity())
        elif isinstance(module, nn.MaxPool2d):
            net.set_submodule(
                name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            )
    return net


def _zeroed(net: nn.Module) -> nn.Module:
    return _open(net, weight=torch.zeros_like)


open_paths = Exercise(
    reference.open_paths,
    requirements=(
        Requirement(
            "every path carries a positive gradient",
            (
                Case("two convolutions and a ReLU", _net("plain", 2, 13, 11)),
                Case("max pooling", _net("pool", 1, 21, 20)),
                Case("blocks inside of blocks, a batch norm", _net("nested", 1, 15, 16)),
                Case("a transposed convolution, dropout", _net("up", 1, 13, 13)),
                Case("residual blocks with torch.relu", _net("residual", 1, 12, 13)),
                Case("one pool at two places", _net("shared", 1, 15, 14)),
            ),
            opened,
            points=2,
        ),
        Requirement(
            "deep and wide: neither zero nor infinite",
            (
                Case("100 convolutions, kernel 31", _net("deep", 1, 3001, 1)),
                Case("300 convolutions with 13 channels and one tap", _net("long", 13, 2, 1)),
            ),
            opened,
        ),
    ),
    mistakes=(
        Mistake(
            "You left the biases as they are. A bias below zero makes a ReLU pass nothing: set them to zero.",
            _bias_left,
        ),
        Mistake(
            "Your biases are positive. That opens every ReLU, and the network is no longer a mean of its image: set them to zero.",
            _bias_positive,
        ),
        Mistake(
            "You left the batch norms as they are. One with a negative weight or shift turns the sign or closes the ReLU behind "
            "it: module.reset_parameters() makes it do nothing.",
            _norm_left,
        ),
        Mistake(
            "You left the max pooling as it is. It passes the gradient to one pixel of each window: put an nn.AvgPool2d in its place.",
            _pool_left,
        ),
        Mistake("You left nn.ConvTranspose2d as it is. It is not an nn.Conv2d: name both.", _up_left),
        Mistake(
            "Your copy is in float32, where the gradient in the corner of many layers is rounded to zero. Call .double().",
            _single,
        ),
        Mistake(
            "Your copy is not in evaluation mode: dropout throws paths away. Call .eval().", _training_mode
        ),
        Mistake(
            "You return the network that came in. Work on copy.deepcopy(net), and return that.",
            _given_one_returned,
        ),
        Mistake(
            "You changed the network that came in, and copied it afterwards. Copy it first.",
            _given_one_changed,
        ),
        Mistake(
            "You go through the top level only. Blocks hold modules of their own: named_modules() finds all of them.",
            _top_level,
        ),
        Mistake(
            "You take absolute values, and a weight of zero stays zero: no path leads through it. Fill with a positive number.",
            _absolute,
        ),
        Mistake(
            "You fill with random numbers of both signs. Paths can cancel, and a ReLU can close: all weights have to be positive.",
            _random_again,
        ),
        Mistake(
            "Your weights are so small that many layers round the gradient to zero. One divided by the number of terms keeps its size.",
            _tiny,
        ),
        Mistake(
            "Your weights are so large that many layers overflow. One divided by the number of terms keeps the size.",
            _huge,
        ),
        Mistake(
            "Where the network uses one pool at two places, you replace it at the first one only: named_modules() lists a module "
            "once. named_modules(remove_duplicate=False) lists all its places.",
            _one_place,
        ),
        Mistake(
            "Your weights are too large: 300 layers overflow where 100 did not. Each layer multiplies by the weight times the number of "
            "terms that a unit adds up, all its input channels counted: with one divided by this number the size stays.",
            _ones,
        ),
        Mistake(
            "Your weights are too small: 300 layers round the gradient to zero where 100 did not. Do you divide by the number of all "
            "weights? A unit adds up those of its own output channel only: one divided by weight[0].numel() keeps the size.",
            _one_by_all,
        ),
        Mistake(
            "Your average pooling has lost the stride, the padding or the rounding of the max pooling. Hand over kernel_size, stride, "
            "padding and ceil_mode.",
            _pool_without_geometry,
        ),
        Mistake(
            "Your weights are negative. Then a ReLU passes nothing, and signs alternate: fill with a positive number.",
            _negative,
        ),
        Mistake(
            "You copied the network and changed nothing in it. Its weights, biases and pools still block paths.",
            _only_copied,
        ),
        Mistake(
            "You opened ReLU and max pooling and kept the weights. A weight of zero blocks its path, and paths of opposite "
            "sign can cancel: fill the weights with a positive number.",
            _gates_only,
        ),
        Mistake("Your weights are zero: no path carries anything. Fill with a positive number.", _zeroed),
    ),
)
