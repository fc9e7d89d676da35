"""The gated cells against torch's own layers, and the identities about gates that the text states."""

import math

import pytest
import torch
from torch import Tensor, nn

from utils.reference.rnn import cell_gradient, forget_bias, gate_biases, gru_step, lstm_step

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


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_weights(gates: int, inputs: int, hidden: int, device: str = "cpu") -> list[Tensor]:
    shapes = [(gates * hidden, inputs), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
    return [torch.randn(shape, dtype=torch.float64, device=device) / hidden**0.5 for shape in shapes]


def doubles(*shape: int, device: str = "cpu") -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, device=device)


def filled(layer: nn.Module, weights: list[Tensor]) -> nn.Module:
    """The layer with these weights; the order of the parameters is W_ih, W_hh, b_ih, b_hh."""
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), weights, strict=True):
            parameter.copy_(value)
    return layer


# The cell path


def test_cell_gradient_follows_its_example() -> None:
    f = torch.tensor([0.3, 0.5, 0.8]).reshape(3, 1, 1)
    torch.testing.assert_close(cell_gradient(f).flatten(), torch.tensor([0.4, 0.8, 1.0]))


@on_devices
def test_cell_gradient_is_that_of_automatic_differentiation(device: str) -> None:
    f = torch.rand(12, 3, 4, dtype=torch.float64, device=device)
    f[5, 0], f[7, 1] = 0.0, 1.0
    c, cells = doubles(3, 4, device=device).requires_grad_(), []
    for f_t in f:
        c = f_t * c + doubles(3, 4, device=device)
        cells.append(c)
    grads = torch.autograd.grad(cells[-1].sum(), cells)
    torch.testing.assert_close(cell_gradient(f), torch.stack(grads))


def test_one_step_of_an_lstm_has_the_forget_gate_as_derivative() -> None:
    """With W_hh = 0 there is no path through h, and the whole derivative is the one along the cell."""
    W_ih, W_hh, b_ih, b_hh = random_weights(4, 3, 5)
    x, c = doubles(9, 2, 3), doubles(2, 5).requires_grad_()
    state, cells, gates = (doubles(2, 5), c), [], []
    for x_t in x:
        gates.append(torch.sigmoid((x_t @ W_ih.T + b_ih + b_hh)[:, 5:10]))
        state = lstm_step(x_t, state, W_ih, 0 * W_hh, b_ih, b_hh)
        cells.append(state[1])
    grads = torch.autograd.grad(cells[-1].sum(), [c, *cells])
    f = torch.stack(gates)
    torch.testing.assert_close(torch.stack(grads[1:]), cell_gradient(f))
    torch.testing.assert_close(grads[0], f.prod(0))


def test_last_cell_state_is_the_weighted_sum_of_what_was_written() -> None:
    f, written, start = torch.rand(20, 3, 4).double(), doubles(20, 3, 4), doubles(3, 4)
    c = start
    for f_t, written_t in zip(f, written, strict=True):
        c = f_t * c + written_t
    torch.testing.assert_close(c, f.prod(0) * start + (cell_gradient(f) * written).sum(0))


def test_the_two_displayed_steps() -> None:
    f, written, c = torch.rand(3).double(), doubles(3), [doubles(1)]
    for t in range(3):
        c.append(f[t] * c[-1] + written[t])
    torch.testing.assert_close(c[2], f[1] * f[0] * c[0] + f[1] * written[0] + written[1])
    torch.testing.assert_close(
        c[3], f[2] * f[1] * f[0] * c[0] + f[2] * f[1] * written[0] + f[2] * written[1] + written[2]
    )


def test_cell_gradient_gradients_with_closed_gates() -> None:
    f = torch.rand(5, 2, 3, dtype=torch.float64)
    f[2, 0], f[3, 0], f[4, 1] = 0.0, 0.0, 1.0
    assert torch.autograd.gradcheck(cell_gradient, f.requires_grad_())


def test_cell_gradient_of_constant_gates_with_tied_input_gates_is_a_mean() -> None:
    f = 0.9
    weights = (1 - f) * cell_gradient(torch.full((40, 1, 1), f, dtype=torch.float64))
    assert weights.sum().item() == pytest.approx(1 - f**40)


@on_devices
def test_the_gru_keeps_its_state_by_the_update_gate(device: str) -> None:
    """With the gates and the candidate independent of h, dh_t / dh_{t-1} = z."""
    W_ih, W_hh, b_ih, b_hh = random_weights(3, 2, 4, device)
    x, h = doubles(3, 2, device=device), doubles(3, 4, device=device).requires_grad_()
    z = torch.sigmoid((x @ W_ih.T + b_ih + b_hh)[:, 4:8])
    (grad,) = torch.autograd.grad(gru_step(x, h, W_ih, 0 * W_hh, b_ih, b_hh).sum(), h)
    torch.testing.assert_close(grad, z)


# The bias


def test_forget_bias_follows_its_examples() -> None:
    assert forget_bias(2, 0.25) == pytest.approx(0.0, abs=1e-15)
    assert forget_bias(10, 0.5) == pytest.approx(2.6342, abs=5e-5)
    assert forget_bias(39, 0.5) == pytest.approx(4.02, abs=5e-3)


@pytest.mark.parametrize("steps", [1, 2, 7, 60, 1000, 10**6])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.999])
def test_forget_bias_keeps_the_share(steps: int, keep: float) -> None:
    b = forget_bias(steps, keep)
    assert -steps * math.log1p(math.exp(-b)) == pytest.approx(math.log(keep), rel=1e-6)
    f = keep ** (1 / steps)
    assert b == pytest.approx(math.log(f / (1 - f)), rel=1e-6, abs=1e-12)
    assert b == pytest.approx(-math.log(keep ** (-1 / steps) - 1), rel=1e-6, abs=1e-12)


def test_forget_bias_grows_with_the_logarithm_of_the_steps() -> None:
    for keep in (0.1, 0.5, 0.9):
        assert forget_bias(1000, keep) == pytest.approx(math.log(1000 / math.log(1 / keep)), rel=1e-3)
        assert forget_bias(10_000, keep) - forget_bias(1000, keep) == pytest.approx(2.3, abs=0.01)


def test_the_largest_bias_of_tallec_and_ollivier_for_40_steps() -> None:
    largest = math.log(40 - 1)
    assert largest == pytest.approx(3.66, abs=5e-3)
    assert (1 / (1 + math.exp(-largest))) ** 39 == pytest.approx(0.37, abs=5e-3)


def test_half_lives_in_the_text() -> None:
    def half_life(bias: float) -> float:
        return -math.log(2) / math.log(1 / (1 + math.exp(-bias)))

    assert half_life(0.0) == pytest.approx(1.0)
    assert half_life(1.0) == pytest.approx(2.2, abs=0.05)
    assert half_life(forget_bias(39, 0.5)) == pytest.approx(39)


def test_a_sigmoid_of_minus_b_is_what_is_missing_to_one() -> None:
    b = torch.linspace(-9, 9, 37, dtype=torch.float64)
    torch.testing.assert_close(torch.sigmoid(-b), 1 - torch.sigmoid(b))


# The LSTM


def test_lstm_step_follows_its_example() -> None:
    W_ih, W_hh = torch.tensor([[1.0], [2.0], [0.5], [0.0]]), torch.tensor([[0.0], [-1.0], [1.0], [2.0]])
    state = torch.tensor([[0.5]]), torch.tensor([[2.0]])
    h, c = lstm_step(torch.tensor([[1.0]]), state, W_ih, W_hh, torch.zeros(4), torch.zeros(4))
    assert c.item() == pytest.approx(2.1919, abs=1e-4)
    assert h.item() == pytest.approx(0.7131, abs=1e-4)


@on_devices
@pytest.mark.parametrize(("batch", "inputs", "hidden"), [(7, 3, 5), (1, 1, 1), (4, 6, 4)])
def test_lstm_step_is_torchs_cell(device: str, batch: int, inputs: int, hidden: int) -> None:
    weights = random_weights(4, inputs, hidden, device)
    theirs = filled(nn.LSTMCell(inputs, hidden, dtype=torch.float64, device=device), weights)
    x = doubles(batch, inputs, device=device)
    state = doubles(batch, hidden, device=device), doubles(batch, hidden, device=device)
    for mine, other in zip(lstm_step(x, state, *weights), theirs(x, state), strict=True):
        torch.testing.assert_close(mine, other)


@on_devices
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_lstm_step_unrolled_is_torchs_layer(device: str, dtype: torch.dtype, tolerance: float) -> None:
    weights = [value.to(dtype) for value in random_weights(4, 3, 6, device)]
    layer = filled(nn.LSTM(3, 6, dtype=dtype, device=device), weights)
    x, h, out = (
        torch.randn(20, 4, 3, dtype=dtype, device=device),
        torch.zeros(4, 6, dtype=dtype, device=device),
        [],
    )
    state = (h, h)
    for x_t in x:
        state = lstm_step(x_t, state, *weights)
        out.append(state[0])
    expected, (h_last, c_last) = layer(x)
    torch.testing.assert_close(torch.stack(out), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(state[0], h_last[0], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(state[1], c_last[0], atol=tolerance, rtol=tolerance)


def test_lstm_step_gradients() -> None:
    x, h, c = doubles(3, 2), doubles(3, 4), doubles(3, 4)
    inputs = [tensor.requires_grad_() for tensor in (x, h, c, *random_weights(4, 2, 4))]
    assert torch.autograd.gradcheck(lambda x, h, c, *w: lstm_step(x, (h, c), *w), inputs)


def test_an_lstm_that_is_left_alone_keeps_its_value() -> None:
    """f = 1 and i = 0 in float32, where the sigmoid saturates."""
    weights = torch.zeros(4, 1), torch.zeros(4, 1), torch.tensor([-200.0, 20.0, 0.0, 0.0]), torch.zeros(4)
    state = torch.zeros(2, 1), torch.tensor([[0.3], [-5.0]])
    for _ in range(1000):
        state = lstm_step(torch.randn(2, 1), state, *weights)
    assert state[1].tolist() == [[pytest.approx(0.3, abs=1e-7)], [-5.0]]


# The start


@pytest.mark.parametrize("hidden", [1, 6])
def test_gate_biases_set_two_gates_and_leave_two(hidden: int) -> None:
    b_ih, b_hh = torch.randn(4 * hidden), torch.randn(4 * hidden)
    before = b_ih.clone(), b_hh.clone()
    new = sum(gate_biases(b_ih, b_hh, 4.0)).chunk(4)
    torch.testing.assert_close(new[0], torch.full((hidden,), -4.0))
    torch.testing.assert_close(new[1], torch.full((hidden,), 4.0))
    torch.testing.assert_close(torch.cat(new[2:]), (b_ih + b_hh)[2 * hidden :])
    assert torch.equal(b_ih, before[0])
    assert torch.equal(b_hh, before[1])


def test_gate_biases_open_the_forget_gate_of_torchs_layer() -> None:
    """Zero weights: the cell state of nn.LSTM falls to the share that forget_bias was asked for."""
    layer = nn.LSTMCell(1, 3)
    b_ih, b_hh = gate_biases(layer.bias_ih, layer.bias_hh, forget_bias(39, 0.5))
    filled(layer, [torch.zeros(12, 1), torch.zeros(12, 3), b_ih, b_hh])
    with torch.no_grad():
        layer.bias_ih[6:9], layer.bias_hh[6:9] = 0.0, 0.0  # candidate 0: nothing is written
        state = torch.zeros(1, 3), torch.ones(1, 3)
        for _ in range(39):
            state = layer(torch.zeros(1, 1), state)
    torch.testing.assert_close(state[1], torch.full((1, 3), 0.5), atol=1e-5, rtol=0)


# The GRU


def test_gru_step_follows_its_example() -> None:
    W_ih, W_hh = torch.tensor([[1.0], [2.0], [0.5]]), torch.tensor([[0.0], [-2.0], [1.0]])
    h = gru_step(
        torch.tensor([[1.0]]),
        torch.tensor([[0.5]]),
        W_ih,
        W_hh,
        torch.zeros(3),
        torch.tensor([0.0, 0.0, 0.2]),
    )
    r = 1 / (1 + math.exp(-1))
    n = math.tanh(0.5 + r * 0.7)
    assert (round(r, 4), round(1 - r, 4), round(n, 4)) == (0.7311, 0.2689, 0.7665)
    assert h.item() == pytest.approx((1 - r) * n + r * 0.5, abs=1e-6)
    assert h.item() == pytest.approx(0.5717, abs=5e-5)


@on_devices
@pytest.mark.parametrize(("batch", "inputs", "hidden"), [(7, 3, 5), (1, 1, 1), (3, 6, 3)])
def test_gru_step_is_torchs_cell(device: str, batch: int, inputs: int, hidden: int) -> None:
    weights = random_weights(3, inputs, hidden, device)
    theirs = filled(nn.GRUCell(inputs, hidden, dtype=torch.float64, device=device), weights)
    x, h = doubles(batch, inputs, device=device), doubles(batch, hidden, device=device)
    torch.testing.assert_close(gru_step(x, h, *weights), theirs(x, h))


@on_devices
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_gru_step_unrolled_is_torchs_layer(device: str, dtype: torch.dtype, tolerance: float) -> None:
    weights = [value.to(dtype) for value in random_weights(3, 3, 6, device)]
    layer = filled(nn.GRU(3, 6, dtype=dtype, device=device), weights)
    x, h, out = (
        torch.randn(20, 4, 3, dtype=dtype, device=device),
        torch.zeros(4, 6, dtype=dtype, device=device),
        [],
    )
    for x_t in x:
        h = gru_step(x_t, h, *weights)
        out.append(h)
    torch.testing.assert_close(torch.stack(out), layer(x)[0], atol=tolerance, rtol=tolerance)


def test_gru_step_gradients() -> None:
    inputs = [t.requires_grad_() for t in (doubles(3, 2), doubles(3, 4), *random_weights(3, 2, 4))]
    assert torch.autograd.gradcheck(gru_step, inputs)


def test_the_gru_of_the_first_paper_is_another_function() -> None:
    """They agree for an open reset gate, and where all units share one reset gate and b_hn is 0; not in general."""
    W_ih, W_hh, b_ih, b_hh = random_weights(3, 2, 4)
    x, h = doubles(5, 2), doubles(5, 4)

    def first_paper(b_ih: Tensor, b_hh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Tensor:
        r, z = torch.sigmoid(x @ W_ih[:8].T + b_ih[:8] + h @ W_hh[:8].T + b_hh[:8]).chunk(2, dim=1)
        n = torch.tanh(x @ W_ih[8:].T + b_ih[8:] + (r * h) @ W_hh[8:].T + b_hh[8:])
        return (1 - z) * n + z * h

    def differ(b_ih: Tensor, b_hh: Tensor, W_ih: Tensor, W_hh: Tensor) -> float:
        other = first_paper(b_ih, b_hh, W_ih, W_hh)
        return (gru_step(x, h, W_ih, W_hh, b_ih, b_hh) - other).abs().max().item()

    assert differ(b_ih, b_hh, W_ih, W_hh) > 0.01
    is_open = b_ih.clone()
    is_open[:4] = 1e3
    assert differ(is_open, b_hh, W_ih, W_hh) < 1e-12
    shared_W, shared_U, shared_b, no_b = W_ih.clone(), W_hh.clone(), b_ih.clone(), b_hh.clone()
    shared_W[:4], shared_U[:4], shared_b[:4], no_b[:4], no_b[8:] = W_ih[0], W_hh[0], b_ih[0], 0.0, 0.0
    assert differ(shared_b, no_b, shared_W, shared_U) < 1e-12


def test_a_gru_state_stays_inside_minus_one_and_one() -> None:
    h, weights = torch.zeros(5, 4).double(), random_weights(3, 2, 4)
    for _ in range(50):
        h = gru_step(10 * doubles(5, 2), h, *weights)
        assert (h.abs() <= 1).all()


def test_spectral_radius_of_the_usual_start() -> None:
    """Entries uniform in +-1/sqrt(H) have the variance 1/(3 H): for large H the radius is about sqrt(1/3) = 0.58."""
    W = (2 * torch.rand(400, 400, dtype=torch.float64) - 1) / 400**0.5
    assert torch.linalg.eigvals(W).abs().max().item() == pytest.approx(3**-0.5, abs=0.02)
    assert pytest.approx(6e-10, rel=0.05) == 0.58**39
