"""The references of receptive_field/01_formulas against autograd, brute force and published values."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.reference.receptive_field import (
    effective_kernel,
    rf_bottom_up,
    rf_dag,
    rf_equal_layers,
    rf_top_down,
    upsampling_reads,
)

ALEXNET = [(11, 4, 2, 1), (3, 2, 0, 1), (5, 1, 2, 1), (3, 2, 0, 1), *[(3, 1, 1, 1)] * 3, (3, 2, 0, 1)]
VGG = [layer for depth in (2, 2, 3, 3, 3) for layer in [*[(3, 1, 1, 1)] * depth, (2, 2, 0, 1)]]


def resnet50(stride_in_3x3):
    layers = [(7, 2, 3, 1), (3, 2, 1, 1)]
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            s = 2 if block == 0 and stage > 0 else 1
            layers += [
                (1, 1 if stride_in_3x3 else s, 0, 1),
                (3, s if stride_in_3x3 else 1, 1, 1),
                (1, 1, 0, 1),
            ]
    return layers


def random_layers(seed: int) -> list[tuple[int, int, int, int]]:
    draw = random.Random(seed)
    layers = []
    for _ in range(draw.randint(1, 4)):
        k, s, d = draw.randint(1, 4), draw.randint(1, 3), draw.randint(1, 3)
        layers.append((k, s, draw.randint(0, d * (k - 1)), d))
    return layers


def touched(x: Tensor, value: Tensor) -> list[int]:
    """Pixels with a gradient."""
    return torch.autograd.grad(value, x, retain_graph=True)[0].flatten().nonzero()[:, 0].tolist()


def apply(x: Tensor, layers: list[tuple[int, int, int, int]]) -> Tensor:
    """The layers with weights of one and no padding. What padding moves is added to the positions by hand."""
    for k, s, _, d in layers:
        x = F.conv1d(x, torch.ones(1, 1, k, dtype=x.dtype), stride=s, dilation=d)
    return x


@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 5), (2, 1), (3, 2), (4, 7), (5, 1)])
def test_effective_kernel_is_the_span_of_the_gradient(k, d):
    x = torch.ones(1, 1, 40, requires_grad=True)
    pixels = touched(x, apply(x, [(k, 1, 0, d)])[0, 0, 0])
    assert effective_kernel(k, d) == pixels[-1] - pixels[0] + 1
    assert len(pixels) == k


@pytest.mark.parametrize("seed", range(40))
def test_both_recursions_give_the_span_of_the_gradient_and_its_place(seed):
    layers = random_layers(seed)
    x = torch.ones(1, 1, 2500, dtype=torch.float64, requires_grad=True)
    rf, jump, start = rf_bottom_up(layers)
    out = apply(x, layers)[0, 0]
    first, second = touched(x, out[0]), touched(x, out[1])
    assert first[-1] - first[0] + 1 == rf == rf_top_down(layers)
    assert second[0] - first[0] == jump
    assert first[0] == 0
    padded = sum(p * _jump(layers[:at]) for at, (_, _, p, _) in enumerate(layers))
    assert start == -padded


def _jump(layers):
    product = 1
    for _, s, _, _ in layers:
        product *= s
    return product


@pytest.mark.parametrize("seed", range(20))
def test_the_place_is_right_with_real_padding(seed):
    layers = random_layers(seed)
    x = torch.ones(1, 1, 800, dtype=torch.float64, requires_grad=True)
    out = x
    for k, s, p, d in layers:
        out = F.conv1d(F.pad(out, (p, 0)), torch.ones(1, 1, k, dtype=x.dtype), stride=s, dilation=d)
    rf, jump, start = rf_bottom_up(layers)
    unit = -(start // jump) + 3  # far enough from the border
    pixels = touched(x, out[0, 0, unit])
    assert (pixels[0], pixels[-1]) == (start + unit * jump, start + unit * jump + rf - 1)


def test_no_layers_see_one_pixel():
    assert rf_top_down([]) == 1
    assert rf_bottom_up([]) == (1, 1, 0)
    assert rf_equal_layers(0, 3, 2, 1) == 1


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize(("k", "s", "d"), [(3, 1, 1), (3, 2, 1), (2, 2, 3), (1, 4, 1), (5, 3, 2)])
def test_the_closed_form_is_the_recursion(n, k, s, d):
    assert (
        rf_equal_layers(n, k, s, d) == rf_top_down([(k, s, 0, d)] * n) == rf_bottom_up([(k, s, 4, d)] * n)[0]
    )


@pytest.mark.parametrize("seed", range(20))
def test_both_recursions_evaluate_the_same_sum(seed):
    layers = random_layers(seed)
    total = sum((effective_kernel(k, d) - 1) * _jump(layers[:at]) for at, (k, _, _, d) in enumerate(layers))
    assert rf_top_down(layers) == 1 + total


def test_published_sizes():
    """Araujo, Norris, Sim (2019) list 195 for AlexNet, 212 for VGG-16 and 483 for ResNet-50."""
    assert rf_top_down(ALEXNET) == 195
    assert rf_top_down(VGG) == 212
    assert rf_top_down(VGG[:-1]) == 196
    assert rf_top_down(resnet50(stride_in_3x3=False)) == 483
    assert rf_top_down(resnet50(stride_in_3x3=True)) == 427


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("p", [0, 1, 2])
def test_upsampling_reads_what_the_gradient_says(k, s, p):
    x = torch.ones(1, 1, 14, requires_grad=True)
    out = F.conv_transpose1d(x, torch.ones(1, 1, k), stride=s, padding=p)[0, 0]
    for first in range(4, 9):
        for last in range(first, 10):
            pixels = touched(x, out[first : last + 1].sum())
            low, high = upsampling_reads(k, s, p, first, last)
            assert list(range(low, high + 1)) == pixels


def random_graph(seed: int):
    """A random graph of convolutions that keep the size, and the same as a function of a signal."""
    draw = random.Random(seed)
    graph, layers, names = {"image": ([], None)}, {}, ["image"]
    for at in range(draw.randint(2, 7)):
        k, p = draw.randint(1, 4), draw.randint(0, 3)
        sources = draw.sample(names, draw.randint(1, min(3, len(names))))
        graph[f"n{at}"] = (sources, lambda first, last, k=k, p=p: (first - p, last - p + k - 1))
        layers[f"n{at}"] = (k, p)
        names.append(f"n{at}")
    return graph, layers


@pytest.mark.parametrize("seed", range(30))
def test_a_graph_depends_on_the_span_of_the_gradient(seed):
    graph, layers = random_graph(seed)
    x = torch.ones(1, 1, 120, dtype=torch.float64, requires_grad=True)
    values = {"image": x}
    for name, (sources, reads) in graph.items():
        if reads is not None:
            k, p = layers[name]
            total = sum(values[source] for source in sources)
            moved = F.pad(total, (p, k - 1 - p))
            values[name] = F.conv1d(moved, torch.ones(1, 1, k, dtype=x.dtype))
    pixels = touched(x, values[list(graph)[-1]][0, 0, 60])
    assert rf_dag(graph, 60) == (pixels[0], pixels[-1])


def test_a_graph_asks_every_layer_once():
    calls = []

    def reads(first, last):
        calls.append(first)
        return first - 1, last + 1

    graph = {"x0": ([], None)}
    for block in range(1, 13):
        graph[f"a{block}"] = ([f"x{block - 1}"], reads)
        graph[f"x{block}"] = ([f"x{block - 1}", f"a{block}"], reads)
    rf_dag(graph, 0)
    assert len(calls) == 24
