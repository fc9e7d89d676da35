"""The references of receptive_field/02_probe against brute force, autograd and each other."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.reference.receptive_field import (
    min_depth_for,
    open_paths,
    rf_bottom_up,
    rf_by_gradient,
    rf_dag,
    rf_equal_layers,
    rf_of_module,
    unit_center,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def poked(net, x, unit):
    """Which pixels change a unit when they are changed, tried one by one."""
    before = net(x)[0, :, unit[0], unit[1]]
    found = []
    for c in range(x.shape[1]):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                changed = x.clone()
                changed[0, c, row, column] += 0.5
                if not torch.equal(net(changed)[0, :, unit[0], unit[1]], before):
                    found.append((row, column))
    rows, columns = zip(*found, strict=True)
    return min(rows), min(columns), max(rows), max(columns)


NETS = [
    nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(1, 0)), nn.Conv2d(3, 2, 3, dilation=(2, 1))
    ),
    nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3, padding=1)),
    nn.Sequential(nn.Conv2d(1, 2, 2), nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1)),
]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("unit", [(0, 0), (2, 1), (1, 3)])
@torch.no_grad()
def test_the_gradient_finds_what_poking_finds(net, unit):
    net = open_paths(net)
    x = torch.rand(1, net[0].in_channels, 11, 13, dtype=torch.float64) + 0.5
    with torch.enable_grad():
        box = rf_by_gradient(net, x, unit)
    assert box == poked(net, x, unit)


def test_no_gradient_is_none():
    assert rf_by_gradient(lambda x: F.relu(x - 5), torch.zeros(1, 1, 4, 4), (1, 1)) is None


def test_the_probe_leaves_no_gradients():
    net = nn.Conv2d(1, 1, 3)
    rf_by_gradient(net, torch.ones(1, 1, 5, 5), (0, 0))
    assert all(p.grad is None for p in net.parameters())


def nested():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=True),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 2, 3)),
    )
    with torch.no_grad():
        net[0].weight[:, :, 0] = 0.0
        net[0].bias.fill_(-3.0)
        net[1].weight.fill_(-1.0)
    return net


def test_open_paths_touch_the_square_of_the_formula():
    layers = [(3, 1, 0, 1), (3, 2, 1, 1), (3, 1, 0, 1)]
    rf, jump, start = rf_bottom_up(layers)
    opened, x = open_paths(nested()), torch.ones(1, 2, 23, 23, dtype=torch.float64)
    first = start + 4 * jump
    assert rf_by_gradient(opened, x, (4, 4)) == (first, first, first + rf - 1, first + rf - 1)
    closed = rf_by_gradient(nested().eval(), torch.ones(1, 2, 23, 23), (4, 4))
    assert closed is None or closed != (first, first, first + rf - 1, first + rf - 1)


def test_open_paths_copies():
    net = nested()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    open_paths(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert isinstance(net[3][0], nn.MaxPool2d)
    assert net.training


def test_forty_layers_neither_vanish_nor_overflow():
    net = open_paths(nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(40)]))
    assert rf_by_gradient(net, torch.ones(1, 1, 81, 81, dtype=torch.float64), (0, 0)) == (0, 0, 80, 80)


@pytest.mark.parametrize(
    "layers", [[(3, 2, 1, 1), (2, 1, 0, 1)], [(11, 4, 2, 1), (3, 2, 0, 1)], [(4, 1, 3, 2)], []]
)
def test_the_centre_is_the_middle_of_the_interval(layers):
    rf, jump, start = rf_bottom_up(layers)
    pixels = range(start + 5 * jump, start + 5 * jump + rf)
    y, x = unit_center(layers, [], (5, 7))
    assert y == sum(pixels) / rf
    assert x == 7


@pytest.mark.parametrize(("k", "s"), [(3, 1), (2, 2), (3, 2), (5, 3), (7, 1)])
def test_the_depth_is_the_smallest(k, s):
    for rf in [1, 2, 3, 4, 31, 32, 33, 212, 224]:
        n = min_depth_for(rf, k, s)
        assert rf_equal_layers(n, k, s, 1) >= rf
        assert n == 0 or rf_equal_layers(n - 1, k, s, 1) < rf


def test_one_tap_is_never_enough():
    assert min_depth_for(1, 1, 2) == 0
    with pytest.raises(ValueError, match="one tap"):
        min_depth_for(2, 1, 2)


class Tiny(nn.Module):
    """Down, a bottom, up, and a skip."""

    def __init__(self):
        super().__init__()
        self.left, self.down, self.bottom = (
            nn.Conv2d(1, 2, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(2, 2, 3, padding=1),
        )
        self.up, self.right = nn.ConvTranspose2d(2, 2, 2, stride=2), nn.Conv2d(4, 1, (3, 1), padding=(1, 0))

    def forward(self, x):
        skip = self.left(x)
        return self.right(torch.cat([skip, self.up(self.bottom(self.down(skip)))], 1))


@pytest.mark.parametrize("axis", [0, 1])
def test_the_table_is_what_the_gradient_says(axis):
    net = Tiny()
    name, size, jump, rf, start = rf_of_module(net, (1, 24, 32), rf_dag, axis, 2)[-1]
    assert (name, size, jump) == ("right", (24, 32)[axis], 1.0)
    opened, x = open_paths(net), torch.ones(1, 1, 24, 32, dtype=torch.float64)
    widths, firsts = [], []
    for unit in (10, 11):
        box = rf_by_gradient(opened, x, (unit, unit))
        widths.append(box[axis + 2] - box[axis] + 1)
        firsts.append(box[axis])
    assert rf == max(widths)
    assert start == firsts[0] - 10


def test_the_table_of_a_stack():
    net = nn.Sequential(
        nn.ZeroPad2d((2, 0, 1, 0)), nn.Conv2d(1, 1, 3, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2)
    )
    table = rf_of_module(net, (1, 20, 20), rf_dag, 1, 2)
    assert [row[1:] for row in table] == [
        (20, 1.0, 1, 0),
        (22, 1.0, 1, -2),
        (10, 2.0, 3, -2),
        (10, 2.0, 3, -2),
        (20, 1.0, 3, -2),
    ]


@pytest.mark.parametrize(
    "layer",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(size=(9, 9)),
        nn.Upsample(scale_factor=1.5),
        nn.ConvTranspose2d(1, 1, 3, dilation=2),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.Softmax2d(),
    ],
)
def test_what_is_not_known_is_refused(layer):
    with pytest.raises(ValueError, match="do not know"):
        rf_of_module(nn.Sequential(nn.Conv2d(1, 1, 3), layer), (1, 8, 8), rf_dag)


def test_a_factor_for_each_axis_gives_whole_numbers():
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=(2, 3)))
    rows = [rf_of_module(net, (1, 8, 9), rf_dag, axis, 6)[-1][1:] for axis in (0, 1)]
    assert rows == [(12, 0.5, 3, 0), (21, pytest.approx(1 / 3), 3, 0)]
    assert all(type(rf) is int and type(start) is int for _, _, rf, start in rows)


class Joined(nn.Module):
    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, x):
        return torch.cat([x, x], self.axis)


def test_only_channels_are_joined():
    assert rf_of_module(Joined(1), (1, 8, 8), rf_dag)[-1][1:] == (8, 1.0, 1, 0)
    with pytest.raises(ValueError, match="along the channels"):
        rf_of_module(Joined(2), (1, 8, 8), rf_dag)


def test_the_table_leaves_the_statistics_of_batch_norms_alone():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    rf_of_module(net, (1, 3, 3), rf_dag)
    assert net.training
    assert net[1].num_batches_tracked == 0


def test_a_pool_that_stands_at_two_places_is_replaced_at_both():
    pool = nn.MaxPool2d(2)
    opened = open_paths(nn.Sequential(pool, nn.Conv2d(1, 1, 3), pool))
    assert [type(layer) for layer in opened] == [nn.AvgPool2d, nn.Conv2d, nn.AvgPool2d]


class Pools(nn.Module):
    def forward(self, x):
        return torch.nn.functional.max_pool2d(x, 2)


def test_functions_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="do not know what max_pool2d"):
        rf_of_module(Pools(), (1, 8, 8), rf_dag)


def test_the_centre_is_the_sum_of_the_text():
    layers = [(5, 2, 1, 2), (4, 3, 0, 1), (3, 1, 2, 1)]
    place, jump = 0.0, 1
    for k, s, p, d in layers:
        place += (d * (k - 1) / 2 - p) * jump
        jump *= s
    assert unit_center(layers, layers, (2, 6)) == (place + 2 * jump, place + 6 * jump)
