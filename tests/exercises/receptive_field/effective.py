"""Right answers in other styles, and lazy ones, for the exercises of receptive_field/03_effective."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def counts_with_loops(layers):
    counts = [1.0]
    for k, s, _, d in layers[::-1]:
        below = [0.0] * ((len(counts) - 1) * s + d * (k - 1) + 1)
        for unit, paths in enumerate(counts):
            for tap in range(k):
                below[unit * s + tap * d] += paths
        counts = below
    return torch.tensor(counts, dtype=torch.float64)


def counts_by_transposed_convolution(layers):
    counts = torch.ones(1, 1, 1, dtype=torch.float64)
    for k, s, _, d in reversed(layers):
        counts = F.conv_transpose1d(counts, torch.ones(1, 1, k, dtype=torch.float64), stride=s, dilation=d)
    return counts.flatten()


def counts_by_gradient(layers):
    rf = 1
    for k, s, _, d in reversed(layers):
        rf = (rf - 1) * s + d * (k - 1) + 1
    x = torch.zeros(1, 1, rf, dtype=torch.float64, requires_grad=True)
    out = x
    for k, s, _, d in layers:
        out = F.conv1d(out, torch.ones(1, 1, k, dtype=torch.float64), stride=s, dilation=d)
    return torch.autograd.grad(out.sum(), x)[0][0, 0]


def counts_from_the_image(layers):
    """Polynomials: each layer multiplies by 1 + z^(d j) + ... + z^(d j (k - 1)), with j the jump below it."""
    counts, jump = np.ones(1), 1
    for k, s, _, d in layers:
        kernel = np.zeros(d * (k - 1) * jump + 1)
        kernel[:: d * jump] = 1
        counts, jump = np.convolve(counts, kernel), jump * s
    return torch.from_numpy(counts)


def std_with_jumps(layers):
    variance, jump = 0.0, 1
    for k, s, _, d in layers:
        variance += (jump * d) ** 2 * (k * k - 1) / 12
        jump *= s
    return variance**0.5


def std_from_positions(layers):
    variance = 0.0
    for k, s, _, d in reversed(layers):
        taps = [d * tap for tap in range(k)]
        mean = sum(taps) / k
        variance = s * s * variance + sum((tap - mean) ** 2 for tap in taps) / k
    return math.sqrt(variance)


def std_from_paths(layers):
    counts = counts_with_loops(layers)
    place = torch.arange(len(counts), dtype=torch.float64)
    mean = (counts * place).sum() / counts.sum()
    return ((counts * (place - mean) ** 2).sum() / counts.sum()).sqrt()


def map_with_loops(net, x, power):
    total = torch.zeros_like(x[0, 0])
    for image in x:
        image = image[None].clone().requires_grad_(True)
        out = net(image)
        unit = out[0, :, out.size(2) // 2, out.size(3) // 2]
        (grad,) = torch.autograd.grad(unit.sum(), image)
        for channel in grad[0]:
            total = total + channel.abs().pow(power)
    return total / total.sum()


def map_with_vjp(net, x, power):
    out, pull = torch.func.vjp(net, x)
    seed = torch.zeros_like(out)
    seed[..., out.shape[-2] // 2, out.shape[-1] // 2] = 1.0
    influence = pull(seed)[0].abs().pow(power).sum(dim=(0, 1))
    return influence.div(influence.sum())


def map_by_einsum(net, x, power):
    x = x.clone().requires_grad_()
    value = net(x)
    _, _, h, w = value.shape
    g = torch.autograd.grad(value[:, :, h // 2, w // 2], x, torch.ones_like(value[:, :, 0, 0]))[0]
    m = torch.einsum("bchw->hw", g.abs() if power == 1 else g * g)
    return m * (1 / m.sum())


def spread_by_moments(influence):
    p = influence / influence.sum()
    h, w = p.shape
    y = torch.arange(h, dtype=p.dtype).view(-1, 1)
    x = torch.arange(w, dtype=p.dtype)
    vy = (p * (y - (p * y).sum()) ** 2).sum()
    vx = (p * (x - (p * x).sum()) ** 2).sum()
    return ((vy + vx) / 2).sqrt()


def spread_with_loops(influence):
    rows = influence.double().tolist()
    total = sum(map(sum, rows))
    points = [(y, x, value / total) for y, row in enumerate(rows) for x, value in enumerate(row)]
    my, mx = sum(y * v for y, _, v in points), sum(x * v for _, x, v in points)
    return math.sqrt(sum(((y - my) ** 2 + (x - mx) ** 2) * v for y, x, v in points) / 2)


def spread_with_numpy(influence):
    weights = influence.numpy()
    y, x = np.indices(weights.shape)
    variances = []
    for place in (y, x):
        mean = np.average(place, weights=weights)
        variances.append(np.average((place - mean) ** 2, weights=weights))
    return float(np.sqrt(np.mean(variances)))


def side_with_mask(influence, frac):
    peak = influence.max().item()
    return math.sqrt(sum(value > (1 - frac) * peak for value in influence.flatten().tolist()))


def side_relative(influence, frac):
    return torch.count_nonzero(influence / influence.max() > 1 - frac).sqrt().item()


RIGHT = {
    "path_counts": [
        counts_with_loops,
        counts_by_transposed_convolution,
        counts_by_gradient,
        counts_from_the_image,
    ],
    "predicted_std": [std_with_jumps, std_from_positions, std_from_paths],
    "erf_map": [map_with_loops, map_with_vjp, map_by_einsum],
    "erf_std": [spread_by_moments, spread_with_loops, spread_with_numpy],
    "erf_size": [side_with_mask, side_relative],
}
LAZY = {
    "path_counts": [
        lambda layers: torch.ones(1, dtype=torch.float64),
        lambda layers: torch.zeros(0, dtype=torch.float64),
    ],
    "predicted_std": [lambda layers: 0.0, lambda layers: (2 * len(layers) / 3) ** 0.5],
    "erf_map": [
        lambda net, x, power: torch.full_like(x[0, 0], 1 / x[0, 0].numel()),
        lambda net, x, power: torch.zeros_like(x[0, 0]),
    ],
    "erf_std": [lambda influence: 0.0, lambda influence: float(influence.std())],
    "erf_size": [lambda influence, frac: 5.0, lambda influence, frac: float(influence.numel()) ** 0.5],
}
