"""The references of receptive_field/03_effective against autograd, NumPy and the equations of the text."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_rf_formulas import apply, random_layers

from utils.reference.receptive_field import (
    erf_map,
    erf_size,
    erf_std,
    path_counts,
    predicted_std,
    rf_top_down,
)


@pytest.mark.parametrize("seed", range(20))
def test_paths_are_the_gradient_with_weights_of_one(seed):
    layers = random_layers(seed)
    x = torch.ones(1, 1, 700, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(apply(x, layers)[0, 0, 0], x)
    counts = path_counts(layers)
    assert len(counts) == rf_top_down(layers)
    torch.testing.assert_close(counts, gradient[0, 0, : len(counts)])
    assert not gradient[0, 0, len(counts) :].any()


def test_paths_of_equal_layers_are_a_power_of_a_polynomial():
    power = np.poly1d([1, 1, 1]) ** 6
    assert path_counts([(3, 1, 1, 1)] * 6).tolist() == power.coefficients.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_the_variance_is_that_of_the_paths(seed):
    layers = random_layers(seed)
    counts = path_counts(layers).numpy()
    pixels = np.arange(len(counts))
    mean = np.average(pixels, weights=counts)
    assert predicted_std(layers) == pytest.approx(np.average((pixels - mean) ** 2, weights=counts) ** 0.5)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (40, 3), (7, 5), (3, 2), (4, 1), (0, 3)])
def test_the_closed_form_of_equal_layers(n, k):
    assert predicted_std([(k, 1, 0, 1)] * n) == pytest.approx(math.sqrt(n * (k**2 - 1) / 12))


def test_the_map_of_uniform_weights_is_the_outer_product_of_paths():
    layers = [(3, 1, 0, 1), (2, 1, 0, 1)]

    def net(x):
        for k, *_ in layers:
            x = F.conv2d(x, torch.ones(1, 1, k, k, dtype=x.dtype))
        return x

    counts = path_counts(layers)
    expected = torch.outer(counts, counts)
    measured = erf_map(net, torch.randn(2, 1, 4, 4, dtype=torch.float64), 1)
    torch.testing.assert_close(measured, expected / expected.sum())


@pytest.mark.parametrize("power", [1, 2])
def test_the_map_is_the_mean_of_single_images(power):
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)

    def net(x):
        return F.relu(F.conv2d(x, weight, padding=1)) * 2

    x = torch.randn(4, 2, 7, 6, dtype=torch.float64)
    total = torch.zeros(7, 6, dtype=torch.float64)
    for image in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: net(v[None])[0, :, 3, 3].sum(), image)
        total += (jacobian.abs() ** power).sum(0)
    torch.testing.assert_close(erf_map(net, x, power), total / total.sum())


def test_the_std_of_a_gaussian():
    axis = torch.arange(101.0) - 47
    influence = torch.exp(-(axis[:, None] ** 2) / (2 * 6**2) - axis[None, :] ** 2 / (2 * 8**2))
    assert erf_std(influence) == pytest.approx(math.sqrt((36 + 64) / 2), rel=1e-4)
    assert erf_std(7 * influence) == pytest.approx(erf_std(influence))


def test_the_size_of_a_gaussian():
    """exp(-r^2 / 2 sigma^2) = 1 - f at r^2 = -2 sigma^2 log(1 - f): a disc of area 2 pi sigma^2 log(1 / (1 - f))."""
    axis = torch.arange(201.0, dtype=torch.float64) - 100
    influence = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * 12**2))
    expected = 12 * math.sqrt(2 * math.pi * math.log(1 / (1 - 0.9545)))
    assert erf_size(influence, 0.9545) == pytest.approx(expected, rel=0.005)


def test_the_size_of_a_square():
    influence = torch.zeros(9, 9)
    influence[2:6, 3:7] = 5.0
    assert erf_size(influence, 0.5) == 4.0


@pytest.mark.parametrize("seed", range(4))
def test_mean_squares_of_random_signs_count_paths(seed):
    """Over all signs of all weights, the mean of the squared gradient is the number of paths, exactly."""
    layers = [(2, 1, 0, 1), (3, 1 + seed % 2, 0, 1 + seed // 2), (2, 2, 0, 1)]
    taps = [k for k, *_ in layers]
    counts = path_counts(layers)
    total = torch.zeros_like(counts)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * sum(taps))
    for weights in signs:
        x = torch.zeros(1, 1, len(counts), dtype=torch.float64, requires_grad=True)
        out = x
        for (_, s, _, d), weight in zip(layers, weights.split(taps), strict=True):
            out = F.conv1d(out, weight[None, None], stride=s, dilation=d)
        total += torch.autograd.grad(out.sum(), x)[0][0, 0] ** 2
    torch.testing.assert_close(total / len(signs), counts)


def test_a_skip_connection_halves_the_variance():
    """With equal weights, and half of the influence on each of the two ways."""
    weight = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)

    def net(x):
        for _ in range(7):
            x = (x[:, :, 1:-1, 1:-1] + F.conv2d(x, weight)) / 2
        return x

    measured = erf_std(erf_map(net, torch.zeros(1, 1, 15, 15, dtype=torch.float64), 1))
    assert measured == pytest.approx(predicted_std([(3, 1, 0, 1)] * 7) / math.sqrt(2))
