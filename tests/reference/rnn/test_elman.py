"""The references of the series `rnn` against brute force, torch's own layers, and the identities that the text states."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from utils import data
from utils.reference.rnn import adder_weights, last_valid, n_params, rnn_forward, rnn_step, window_error

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
        ],
    ),
]
on_devices = pytest.mark.parametrize("device", DEVICES)
GATES = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def all_sums(bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of numbers of this many bits: the pairs of bits, the bits of the sum and the carries."""
    x = torch.tensor(list(product((0, 1), repeat=2 * bits))).reshape(-1, bits, 2)
    return x, *data.add_bits(x)


def random_weights(inputs: int, hidden: int, device: str = "cpu", seed: int = 0) -> list[Tensor]:
    gen = torch.Generator().manual_seed(seed)
    shapes = [(hidden, inputs), (hidden, hidden), (hidden,), (hidden,)]
    return [torch.randn(s, generator=gen, dtype=torch.float64).div(hidden**0.5).to(device) for s in shapes]


def cell(weights: list[Tensor]) -> partial[Tensor]:
    W_ih, W_hh, b_ih, b_hh = weights
    return partial(rnn_step, W_ih=W_ih, W_hh=W_hh, b_ih=b_ih, b_hh=b_hh)


def add(x: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    step = cell([weights[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")])
    lengths = torch.full((len(x),), x.shape[1])
    states, _ = rnn_forward(step, x, weights["h0"].expand(len(x), -1), lengths)
    return states, (states @ weights["w_out"] + weights["b_out"] > 0.5).int()


def chain(n: int, carry: int = 1) -> tuple[Tensor, Tensor]:
    """(2^n - 1) + carry, with four pairs of zeros after it, and the bits of the sum."""
    x = data.pairs(2**n - 1, carry, n + 4)
    return x, data.add_bits(x.int())[0]


# The window


@pytest.mark.parametrize("t", range(6))
def test_window_error_is_that_of_the_best_predictor(t: int) -> None:
    x, s, _ = all_sums(t + 1)
    for w in range(1, t + 3):
        seen = x[:, max(0, t - w + 1) :].flatten(1)
        _, group = seen.unique(dim=0, return_inverse=True)
        ones = torch.zeros(int(group.max()) + 1).index_add(0, group, s[:, t].float())
        wrong = torch.minimum(ones, group.bincount() - ones).sum() / len(x)
        assert window_error(w, t) == pytest.approx(wrong.item(), abs=1e-7), f"w = {w}"


def test_window_error_tends_to_a_power_of_two() -> None:
    for w in range(1, 12):
        assert window_error(w, 200) == pytest.approx(2.0**-w)
        assert window_error(w, w - 1) == 0


def test_window_error_is_the_line_in_the_text() -> None:
    for w, t in product(range(1, 12), range(40)):
        line = 2.0**-w * (1 - 2.0 ** -(t - w + 1)) if t >= w else 0.0
        assert window_error(w, t) == pytest.approx(line, abs=1e-15)
        assert 0 <= window_error(w, t) < 2.0**-w
        if t > 30:
            assert window_error(w, t) == pytest.approx(2 * window_error(w + 1, t), rel=1e-5)


def test_probability_of_a_carry_follows_its_recursion() -> None:
    _, _, carries = all_sums(6)
    p = 0.0
    for n, measured in enumerate(carries.double().mean(0).tolist()):
        assert measured == pytest.approx(p) == pytest.approx((1 - 2.0**-n) / 2)
        p = 1 / 4 + p / 2


def test_a_pair_decides_the_carry_or_propagates_it() -> None:
    x, s, carries = all_sums(4)
    a, b = x.unbind(dim=-1)
    assert torch.equal(s, a ^ b ^ carries)
    propagates = (a != b)[:, :-1]
    assert torch.equal(carries[:, 1:][propagates], carries[:, :-1][propagates])
    assert torch.equal(carries[:, 1:][~propagates], a[:, :-1][~propagates])


def test_two_long_chains_look_alike_to_a_window() -> None:
    (with_carry, s1), (without, s0) = chain(20), chain(20, carry=0)
    assert torch.equal(with_carry[:, 1:], without[:, 1:])
    assert (s1 != s0)[0, :21].all()


# The cell


@on_devices
def test_step_is_torchs_cell(device: str) -> None:
    weights = random_weights(3, 5, device)
    theirs = nn.RNNCell(3, 5, dtype=torch.float64, device=device)
    theirs.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True)))
    x = torch.randn(7, 3, dtype=torch.float64, device=device)
    h = torch.randn(7, 5, dtype=torch.float64, device=device)
    torch.testing.assert_close(rnn_step(x, h, *weights), theirs(x, h))


def test_step_follows_its_example() -> None:
    one = partial(torch.full, (1, 1))
    h = rnn_step(one(1.0), one(0.5), one(2.0), one(-1.0), torch.tensor([0.1]), torch.tensor([0.2]))
    assert h.item() == pytest.approx(0.9468, abs=5e-5)


def test_step_gradients() -> None:
    inputs = [torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)]
    inputs = [tensor.requires_grad_() for tensor in inputs + random_weights(3, 5)]
    assert torch.autograd.gradcheck(rnn_step, inputs)


# The unrolled network


def torch_layer(weights: list[Tensor], x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    hidden, inputs = weights[0].shape
    layer = nn.RNN(inputs, hidden, batch_first=True, dtype=x.dtype, device=x.device)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    layer.load_state_dict(dict(zip(names, weights, strict=True)))
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    out, h_last = layer(packed, h0[None])
    out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
    return out, h_last[0]


@on_devices
@pytest.mark.parametrize("lengths", [[7, 3, 1, 5], [1, 1, 1], [6], [2, 9, 9, 4, 8, 1, 3]])
@pytest.mark.parametrize("spare", [0, 3])
def test_forward_is_torchs_layer(device: str, lengths: list[int], spare: int) -> None:
    batch, time = len(lengths), max(lengths) + spare
    x = torch.randn(batch, time, 3, dtype=torch.float64, device=device)
    h0 = torch.randn(batch, 5, dtype=torch.float64, device=device)
    ends, weights = torch.tensor(lengths, device=device), random_weights(3, 5, device)
    out, h_last = rnn_forward(cell(weights), x, h0, ends)
    expected_out, expected_last = torch_layer(weights, x, h0, ends)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(h_last, expected_last)
    assert torch.equal(last_valid(out, ends), h_last)
    assert out.device == x.device
    assert out.dtype == torch.float64


def test_forward_gradients() -> None:
    lengths = torch.tensor([4, 1, 3])
    x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    weights = [tensor.requires_grad_() for tensor in random_weights(2, 3)]
    assert torch.autograd.gradcheck(
        lambda x, h0, *w: rnn_forward(cell(list(w)), x, h0, lengths), (x, h0, *weights)
    )


@pytest.mark.parametrize("filling", [1e6, float("inf"), float("nan")])
def test_padding_does_not_matter(filling: float) -> None:
    lengths = torch.tensor([2, 4, 1])
    x, h0, step = torch.randn(3, 6, 2).double(), torch.zeros(3, 4).double(), cell(random_weights(2, 4))
    inside = data.length_mask(lengths, 6)
    filled = torch.where(inside[..., None], x, filling)
    for clean, padded in zip(
        rnn_forward(step, x, h0, lengths), rnn_forward(step, filled, h0, lengths), strict=True
    ):
        assert torch.equal(clean, padded)
    assert (rnn_forward(step, filled, h0, lengths)[0][~inside] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_have_the_dtype_of_the_first_state(dtype: torch.dtype) -> None:
    x, h0 = torch.randn(2, 3, 2, dtype=dtype), torch.zeros(2, 4, dtype=dtype)
    weights = [tensor.to(dtype) for tensor in random_weights(2, 4)]
    out, h_last = rnn_forward(cell(weights), x, h0, torch.tensor([3, 1]))
    assert out.dtype == h_last.dtype == dtype


def test_step_is_called_once_per_time_step() -> None:
    calls = []

    def step(x: Tensor, h: Tensor) -> Tensor:
        calls.append(x.shape)
        return h + x

    out, h_last = rnn_forward(
        step, torch.tensor([[[1.0], [2], [3]], [[4], [5], [6]]]), torch.zeros(2, 1), torch.tensor([3, 1])
    )
    assert calls == [(2, 1)] * 3
    assert out.tolist() == [[[1], [3], [6]], [[4], [0], [0]]]
    assert h_last.tolist() == [[6], [4]] == last_valid(out, torch.tensor([3, 1])).tolist()


@pytest.mark.parametrize("layer", GATES)
@pytest.mark.parametrize(("inputs", "hidden"), [(2, 3), (1, 1), (7, 16)])
def test_n_params_counts_what_torch_has(layer: type[nn.RNNBase], inputs: int, hidden: int) -> None:
    assert n_params(inputs, hidden, GATES[layer]) == sum(
        p.numel() for p in layer(inputs, hidden).parameters()
    )


# The adder


def test_units_count_the_ones_that_meet() -> None:
    for ones in range(4):
        h1, h2, h3 = (1 if ones >= k else -1 for k in (1, 2, 3))
        assert (h1 + 1) / 2 - (h2 + 1) / 2 + (h3 + 1) / 2 == ones % 2
        assert (h2 + 1) / 2 == ones // 2


@pytest.mark.parametrize("gain", [0.7, 8.0])
def test_adder_is_the_equation_with_the_thresholds(gain: float) -> None:
    weights = adder_weights(gain)
    h = torch.rand(4, 3) * 2 - 1
    pairs = torch.tensor([[0.0, 0.0], [0, 1], [1, 0], [1, 1]])
    k = torch.tensor([1.0, 2.0, 3.0])
    count = pairs.sum(1) + (h[:, 1] + 1) / 2
    step = cell([weights[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")])
    torch.testing.assert_close(step(pairs, h), torch.tanh(gain * (count[:, None] - (k - 0.5))))


def test_adder_follows_the_arguments_of_its_example() -> None:
    states, _ = add(torch.ones(1, 1, 2), adder_weights(8.0))
    torch.testing.assert_close(states[0, 0], torch.tanh(torch.tensor([12.0, 4.0, -4.0])))


@pytest.mark.parametrize("gain", [8.0, 20.0, 300.0])
def test_adder_adds(gain: float) -> None:
    x, s, c = data.additions(500, 200, torch.Generator().manual_seed(0))
    states, said = add(x, adder_weights(gain))
    assert torch.equal(said, s.int())
    assert torch.equal((states[:, :-1, 1] > 0).float(), c[:, 1:])


@pytest.mark.parametrize("gain", [8, 8.0, 50.0])
def test_adder_survives_the_longest_chains(gain: float) -> None:
    for n, carry in product((1, 50, 200), (0, 1)):
        x, s = chain(n, carry)
        assert torch.equal(add(x, adder_weights(gain))[1], s.int())


def test_adder_has_the_stated_shapes_and_example() -> None:
    weights = adder_weights(8)
    shapes = {
        "W_ih": (3, 2),
        "W_hh": (3, 3),
        "b_ih": (3,),
        "b_hh": (3,),
        "h0": (3,),
        "w_out": (3,),
        "b_out": (),
    }
    assert {name: tuple(value.shape) for name, value in weights.items()} == shapes
    assert all(value.dtype == torch.float32 for value in weights.values())
    states, _ = add(torch.ones(1, 1, 2), weights)
    assert states[0, 0].tolist() == pytest.approx([1, 1, -1], abs=1e-3)
    assert (states[0, 0] @ weights["w_out"] + weights["b_out"]).item() == pytest.approx(0.0007, abs=5e-5)


@pytest.mark.parametrize("gain", [0.5, 1.9, 3.0, 8.0])
def test_carry_unit_follows_its_map_on_propagating_pairs(gain: float) -> None:
    carry = add(chain(40)[0], adder_weights(gain))[0][0, :40, 1]
    torch.testing.assert_close(carry[1:], torch.tanh(gain / 2 * carry[:-1]))


def test_memory_starts_at_gain_two() -> None:
    for gain in (1.0, 1.5, 1.9):
        carry = add(chain(100)[0], adder_weights(gain))[0][0, :100, 1]
        assert (carry <= (gain / 2) ** torch.arange(100) + 1e-6).all()
    for gain in (2.05, 2.5, 8.0):
        carry = add(chain(2000)[0], adder_weights(gain))[0][0, :2000, 1]
        rest = carry[-1]
        assert rest > 0.2
        torch.testing.assert_close(rest, torch.tanh(gain / 2 * rest))
        assert gain / 2 * (1 - rest**2) < 1


def test_at_gain_two_the_carry_fades_slowly() -> None:
    carry = add(chain(3000)[0], adder_weights(2.0))[0][0, :3000, 1]
    for j in (300, 1000, 2999):
        assert carry[j].item() == pytest.approx((3 / (2 * j)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("u", [1.025, 1.5, 4.0])
def test_the_map_is_flatter_than_the_diagonal_at_the_outer_crossings(u: float) -> None:
    h = torch.tensor(1.0, dtype=torch.float64)
    for _ in range(5000):
        h = torch.tanh(u * h)
    rest = h.clone().requires_grad_()
    (slope,) = torch.autograd.grad(torch.tanh(u * rest), rest)
    assert slope.item() == pytest.approx(u * (1 - h.item() ** 2)) != 1
    assert slope < 1 < u


def chain_fails(gain: float, bits: int) -> bool:
    x, s = chain(bits)
    return not torch.equal(add(x, adder_weights(gain))[1], s.int())


def test_gain_needed_for_a_chain_stops_just_above_two() -> None:
    needed = {5: 1.5, 20: 1.85, 80: 2.0, 320: 2.0, 1280: 2.05}
    for bits, smallest in needed.items():
        gains = [0.5 + 0.05 * k for k in range(33)]
        assert next(round(gain, 2) for gain in gains if not chain_fails(gain, bits)) == smallest
        assert not any(chain_fails(gain, bits) for gain in gains if gain > smallest - 0.01)
    assert not chain_fails(2.05, 5000)


def test_random_sums_do_not_show_that_the_carry_fades() -> None:
    x, s, c = data.additions(5000, 200, torch.Generator().manual_seed(99))
    assert torch.equal(add(x, adder_weights(1.9))[1], s.int())
    carried = ((x.sum(-1) == 1) & (c == 1)).unfold(1, 18, 1).all(-1)
    assert carried.any()
    assert not (carried[:, 1:] & carried[:, :-1]).any(), "no chain of 19 propagating pairs"
    assert [chain_fails(1.9, bits) for bits in (2, 18, 39, 40, 60)] == [False, False, False, True, True]


def test_step_along_the_line_of_the_adder_is_the_map_of_its_carry_unit() -> None:
    """The recipe for the trained networks, on a network whose map is known."""
    gain, alpha = 3.0, torch.linspace(-1.3, 1.3, 27)
    weights = adder_weights(gain)
    split = torch.zeros(2, 101, 2)
    split[:, 1:, 0] = 1
    split[0, 0] = 1
    with_carry, without = add(split, weights)[0][:, -1]
    m, d = (with_carry + without) / 2, (with_carry - without) / 2
    step = cell([weights[name] for name in ("W_ih", "W_hh", "b_ih", "b_hh")])
    after = step(torch.tensor([[1.0, 0.0]]).expand(27, 2), m + alpha[:, None] * d)
    rest = d[1]
    torch.testing.assert_close(after[:, 1] / rest, torch.tanh(gain / 2 * rest * alpha) / rest)
    on_line = (after - m) @ d / (d @ d)
    assert (torch.sign(on_line - alpha) == -torch.sign(alpha * (alpha.abs() - 1)))[
        [0, 7, 10, 16, 19, 26]
    ].all()
    ends = step(torch.tensor([[1.0, 0.0]]).expand(2, 2), torch.stack([with_carry, without]))
    torch.testing.assert_close(ends, torch.stack([with_carry, without]))


def test_states_come_together_at_least_by_the_largest_singular_value() -> None:
    weights = random_weights(2, 6, seed=3)
    sigma = torch.linalg.matrix_norm(weights[1], 2)
    x, h, other = torch.randn(9, 2).double(), torch.randn(9, 6).double(), torch.randn(9, 6).double()
    after = (rnn_step(x, h, *weights) - rnn_step(x, other, *weights)).norm(dim=1)
    assert (after <= sigma * (h - other).norm(dim=1)).all()
