"""The references of rnn/02_bptt against autograd, torch's own functions, and the identities that the text states."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from utils.reference.rnn import (
    bptt,
    clip_by_global_norm,
    gradient_shares,
    jacobian_norms,
    rnn_step,
    truncated_bptt,
)

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


def layer(inputs: int, hidden: int, device: str = "cpu") -> nn.RNN:
    return nn.RNN(inputs, hidden, batch_first=True, dtype=torch.float64, device=device)


def unit(w: list[Tensor], h0: float, c: Tensor) -> Tensor:
    """States of one unit, with a weight of its own at every step."""
    h, states = torch.tensor(h0, dtype=torch.float64), []
    for w_t, c_t in zip(w, c, strict=True):
        h = torch.tanh(w_t * h + c_t)
        states.append(h)
    return torch.stack(states)


# One unit


@pytest.mark.parametrize(("w", "h0", "time"), [(0.7, 0.5, 6), (-1.8, 0.3, 12), (1.2, 0.0, 1), (0.0, 0.4, 5)])
def test_shares_are_the_gradients_of_separate_weights(w: float, h0: float, time: int) -> None:
    c = torch.randn(time, dtype=torch.float64)
    separate = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for _ in range(time)]
    h = unit(separate, h0, c)
    expected = torch.stack(torch.autograd.grad(h[-1], separate))
    torch.testing.assert_close(gradient_shares(w, h0, h.detach()), expected)
    shared = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(unit([shared] * time, h0, c)[-1], shared)
    torch.testing.assert_close(expected.sum(), whole)


def test_shares_of_the_example() -> None:
    shares = gradient_shares(2.0, 0.5, torch.tensor([0.6, 0.8]))
    assert shares.tolist() == pytest.approx([0.2304, 0.216])


# Backpropagation through time


@on_devices
@pytest.mark.parametrize(("batch", "time", "inputs", "hidden"), [(4, 6, 3, 5), (1, 1, 2, 3), (2, 40, 1, 8)])
def test_bptt_is_autograd_through_torchs_layer(
    device: str, batch: int, time: int, inputs: int, hidden: int
) -> None:
    rnn = layer(inputs, hidden, device)
    x = torch.randn(batch, time, inputs, dtype=torch.float64, device=device, requires_grad=True)
    h0 = torch.randn(batch, hidden, dtype=torch.float64, device=device, requires_grad=True)
    local = torch.randn(batch, time, hidden, dtype=torch.float64, device=device)
    h, _ = rnn(x, h0[None])
    names = {
        "W_ih": rnn.weight_ih_l0,
        "W_hh": rnn.weight_hh_l0,
        "b_ih": rnn.bias_ih_l0,
        "b_hh": rnn.bias_hh_l0,
    }
    wanted = torch.autograd.grad((h * local).sum(), [*names.values(), h0, x])
    with torch.no_grad():
        found = bptt(x, h0, h, local, rnn.weight_ih_l0, rnn.weight_hh_l0)
    assert list(found) == [*names, "h0", "x"]
    for got, expected in zip(found.values(), wanted, strict=True):
        torch.testing.assert_close(got, expected)


def test_bptt_of_one_unit_is_the_sum_of_its_shares() -> None:
    w, h0, c = 1.3, 0.4, torch.randn(9, dtype=torch.float64)
    h = unit([torch.tensor(w)] * 9, h0, c)
    local = torch.zeros(1, 9, 1, dtype=torch.float64)
    local[0, -1] = 1
    one = torch.ones(1, 1, dtype=torch.float64)
    found = bptt(c[None, :, None], h0 * one, h[None, :, None], local, one, w * one)
    torch.testing.assert_close(found["W_hh"][0, 0], gradient_shares(w, h0, h).sum())


def test_bptt_example() -> None:
    h, one = torch.tensor([[[0.6], [0.8]]]), torch.ones(1, 1)
    found = bptt(
        torch.tensor([[[1.0], [2.0]]]), 0.5 * one, h, torch.tensor([[[0.0], [1.0]]]), 3 * one, 2 * one
    )
    numbers = {name: value.flatten().tolist() for name, value in found.items()}
    assert numbers["W_ih"] == pytest.approx([1.1808])
    assert numbers["W_hh"] == pytest.approx([0.4464])
    assert numbers["b_ih"] == numbers["b_hh"] == pytest.approx([0.8208])
    assert numbers["h0"] == pytest.approx([0.9216])
    assert numbers["x"] == pytest.approx([1.3824, 1.08])


# Jacobians


@on_devices
def test_norms_are_those_of_autograds_jacobians(device: str) -> None:
    rnn = layer(2, 5, device)
    x = torch.randn(1, 7, 2, dtype=torch.float64, device=device)
    h = rnn(x)[0][0].detach()
    weights = [rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0]
    norms = jacobian_norms(rnn.weight_hh_l0.detach(), h)
    for t in range(7):

        def last(state: Tensor, t: int = t) -> Tensor:
            for s in range(t + 1, 7):
                state = rnn_step(x[:, s], state, *weights)
            return state

        jacobian = torch.autograd.functional.jacobian(last, h[t : t + 1])[0, :, 0]
        torch.testing.assert_close(norms[t], torch.linalg.matrix_norm(jacobian, 2))
    assert norms[-1].item() == pytest.approx(1.0)


def test_norms_example() -> None:
    W = torch.tensor([[0.0, 2.0], [0.5, 0.0]])
    h = torch.tensor([[0.9, 0.9], [0.0, 0.0], [0.6, 0.0]])
    assert jacobian_norms(W, h).tolist() == pytest.approx([1.0, 1.28, 1.0])


def scaled(hidden: int, radius: float, seed: int) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    W = torch.randn(hidden, hidden, generator=gen, dtype=torch.float64)
    return W * radius / torch.linalg.eigvals(W).abs().max()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("radius", [0.8, 1.0, 1.2])
def test_the_radius_predicts_fifty_steps_and_the_singular_value_does_not(radius: float, seed: int) -> None:
    W = scaled(64, radius, seed)
    norm = jacobian_norms(W, torch.zeros(51, 64, dtype=torch.float64))[0].item()
    sigma = torch.linalg.matrix_norm(W, 2).item()
    assert 1 < norm / radius**50 < 8
    assert sigma**50 / norm > 1e10


def test_the_radius_is_a_lower_bound_and_sigma_an_upper_bound_at_every_step() -> None:
    W = scaled(16, 0.9, 3)
    norms = jacobian_norms(W, torch.zeros(60, 16, dtype=torch.float64)).flip(0)
    steps = torch.arange(60)
    assert (norms >= 0.9**steps * (1 - 1e-9)).all()
    assert (norms <= torch.linalg.matrix_norm(W, 2) ** steps * (1 + 1e-9)).all()
    h = torch.rand(60, 16, dtype=torch.float64)
    assert (jacobian_norms(W, h).flip(0) <= torch.linalg.matrix_norm(W, 2) ** steps * (1 + 1e-9)).all()


def test_long_powers_grow_at_the_rate_of_the_radius() -> None:
    W = scaled(16, 0.9, 3)
    norms = jacobian_norms(W, torch.zeros(2001, 16, dtype=torch.float64))
    assert norms[0].item() ** (1 / 2000) == pytest.approx(0.9, rel=2e-3)


def test_a_delay_line_has_radius_zero_and_keeps_everything_for_a_while() -> None:
    W = torch.diag(torch.ones(31, dtype=torch.float64), -1)
    norms = jacobian_norms(W, torch.zeros(40, 32, dtype=torch.float64)).flip(0)
    assert norms[:32].tolist() == pytest.approx([1.0] * 32)
    assert norms[32:].tolist() == [0.0] * 8


def test_an_orthogonal_matrix_keeps_the_norm() -> None:
    W = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    assert jacobian_norms(W, torch.zeros(50, 16, dtype=torch.float64)).tolist() == pytest.approx([1.0] * 50)


# Clipping


@on_devices
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_is_torchs(device: str, max_norm: float) -> None:
    grads = {
        "a": torch.randn(5, 3, dtype=torch.float64, device=device),
        "b": torch.randn(7, dtype=torch.float64, device=device),
    }
    before = {name: grad.clone() for name, grad in grads.items()}
    leaves = [torch.zeros_like(grad, requires_grad=True) for grad in grads.values()]
    for leaf, grad in zip(leaves, grads.values(), strict=True):
        leaf.grad = grad.clone()
    total = nn.utils.clip_grad_norm_(leaves, max_norm)
    clipped, norm = clip_by_global_norm(grads, max_norm)
    assert norm == pytest.approx(total.item())
    for name, leaf in zip(grads, leaves, strict=True):
        torch.testing.assert_close(clipped[name], leaf.grad, rtol=1e-5, atol=0)
        assert torch.equal(grads[name], before[name])


def test_clipping_example_and_edges() -> None:
    grads = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    clipped, norm = clip_by_global_norm(grads, 1.0)
    assert norm == 5.0
    assert clipped["a"].tolist() == pytest.approx([0.6, 0.0])
    assert clipped["b"].tolist() == pytest.approx([0.8])
    zero, norm = clip_by_global_norm({"a": torch.zeros(3)}, 1.0)
    assert norm == 0
    assert zero["a"].tolist() == [0, 0, 0]
    large, norm = clip_by_global_norm({"a": torch.tensor([3e30, 4e30])}, 1.0)
    assert norm == pytest.approx(5e30)
    assert large["a"].tolist() == pytest.approx([0.6, 0.8])
    for bad in (math.inf, math.nan):
        nothing, norm = clip_by_global_norm({"a": torch.tensor([1.0, bad]), "b": torch.ones(2)}, 1.0)
        assert not math.isfinite(norm)
        assert not any(value.any() for value in nothing.values())


# Truncation


def step_loss(p: dict[str, Tensor], x: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    h = rnn_step(x, h, p["W_ih"], p["W_hh"], p["b_ih"], p["b_hh"])
    return ((h @ p["w_out"] - y) ** 2).sum(), h


def problem(time: int, hidden: int = 4) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "W_ih": (hidden, 2),
        "W_hh": (hidden, hidden),
        "b_ih": (hidden,),
        "b_hh": (hidden,),
        "w_out": (hidden,),
    }
    parameters = {name: 0.5 * torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    x, y = torch.randn(3, time, 2, dtype=torch.float64), torch.randn(3, time, dtype=torch.float64)
    return parameters, x, y, torch.randn(3, hidden, dtype=torch.float64)


def detached_every(k: int) -> Callable[[dict[str, Tensor], Tensor, Tensor, Tensor], Tensor]:
    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor, h: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for t in range(x.shape[1]):
            if t % k == 0:
                h = h.detach()
            term, h = step_loss(p, x[:, t], y[:, t], h)
            total = total + term
        return total

    return loss


@pytest.mark.parametrize("k", [1, 3, 4, 10, 99])
def test_truncated_is_autograd_with_detached_states(k: int) -> None:
    parameters, x, y, h0 = problem(10)
    own = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    expected = detached_every(k)(own, x, y, h0)
    wanted = torch.autograd.grad(expected, list(own.values()))
    loss, grads = truncated_bptt(step_loss, parameters, x, y, h0, k)
    assert loss == pytest.approx(expected.item())
    for got, gradient in zip(grads.values(), wanted, strict=True):
        torch.testing.assert_close(got, gradient)
    assert not any(value.requires_grad for value in grads.values())


def test_truncated_example() -> None:
    def sum_of_states(p: dict[str, Tensor], x: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = p["w"] * h + x
        return (h[:, 0] - y).sum(), h

    w, x, h0 = {"w": torch.tensor(2.0)}, torch.ones(1, 2, 1), torch.ones(1, 1)
    whole = truncated_bptt(sum_of_states, w, x, torch.zeros(1, 2), h0, 2)
    cut = truncated_bptt(sum_of_states, w, x, torch.zeros(1, 2), h0, 1)
    assert (whole[0], whole[1]["w"].item()) == (10.0, 6.0)
    assert (cut[0], cut[1]["w"].item()) == (10.0, 4.0)
