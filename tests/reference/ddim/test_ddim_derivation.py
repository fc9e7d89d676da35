"""The references of ddim/01 and ddim/02 against brute force, moments of many draws, and the identities that the text states."""

import math

import pytest
import torch

from utils.reference import ddim as reference
from utils.reference.ddim import (
    alpha_bar,
    ddim_step,
    eps_loss,
    marginal_moments,
    ode_step,
    posterior,
    predict_x0,
    q_sample,
    sigma,
)

F64 = torch.float64
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
AB = alpha_bar(BETAS)
PAIRS = [(0.2, 0.5), (0.01, 0.9), (0.5, 0.51), (0.3, 1.0), (4e-5, 0.1)]
pairs = pytest.mark.parametrize(("ab_t", "ab_s"), PAIRS)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def density(x: torch.Tensor, mean: float, var: float) -> torch.Tensor:
    return (-((x - mean) ** 2) / (2 * var)).exp() / math.sqrt(2 * math.pi * var)


def test_alpha_bar_is_what_single_steps_leave() -> None:
    mean, var = 1.0, 0.0
    for t, beta in enumerate(BETAS.tolist()):
        mean, var = math.sqrt(1 - beta) * mean, (1 - beta) * var + beta
        assert AB[t].item() == pytest.approx(mean**2, rel=1e-12)
        assert AB[t].item() == pytest.approx(1 - var, rel=1e-9)


def test_the_jump_has_the_moments_of_single_steps() -> None:
    draws, betas = 200_000, torch.linspace(0.02, 0.2, 10, dtype=F64)
    x, x0 = torch.full((draws, 1), 1.5, dtype=F64), torch.full((draws, 1), 1.5, dtype=F64)
    for t, beta in enumerate(betas):
        x = (1 - beta).sqrt() * x + beta.sqrt() * normal(draws, 1, seed=t)
    times = torch.full((draws,), 9)
    jumped = q_sample(x0, times, normal(draws, 1, seed=99), alpha_bar(betas))
    assert x.mean().item() == pytest.approx(jumped.mean().item(), abs=0.01)
    assert x.var().item() == pytest.approx(jumped.var().item(), abs=0.01)


@pytest.mark.parametrize("t", [1, 3, 9])
def test_the_posterior_is_bayes_rule_on_a_grid(t: int) -> None:
    betas, x0, xt = torch.linspace(0.02, 0.2, 10, dtype=F64), 0.7, -0.4
    ab = alpha_bar(betas)
    grid = torch.linspace(-12, 12, 200_001, dtype=F64)
    before = density(grid, math.sqrt(ab[t - 1]) * x0, float(1 - ab[t - 1]))
    step = density(torch.tensor(xt, dtype=F64), (1 - betas[t]).sqrt() * grid, float(betas[t]))
    p = before * step
    p = p / p.sum()
    mean, var = posterior(
        torch.tensor([[x0]], dtype=F64), torch.tensor([[xt]], dtype=F64), torch.tensor([t]), betas
    )
    assert mean.item() == pytest.approx((p * grid).sum().item(), abs=1e-9)
    assert var.item() == pytest.approx((p * (grid - mean) ** 2).sum().item(), abs=1e-9)


def test_at_time_zero_the_posterior_is_the_picture() -> None:
    x0, xt = normal(3, 4), normal(3, 4, seed=1)
    mean, var = posterior(x0, xt, torch.zeros(3, dtype=torch.long), BETAS)
    torch.testing.assert_close(mean, x0)
    assert var.abs().max() == 0


def test_precisions_add() -> None:
    """1 / var = alpha_t / beta_t + 1 / (1 - ab_{t-1}), the line in which the square is completed."""
    t = torch.arange(1, 1000)
    _, var = posterior(normal(999, 1), normal(999, 1), t, BETAS)
    torch.testing.assert_close(1 / var, (1 - BETAS[t]) / BETAS[t] + 1 / (1 - AB[t - 1]), rtol=1e-9, atol=0)


def test_the_loss_is_the_mean_squared_error() -> None:
    x0, eps, t = normal(5, 3), normal(5, 3, seed=1), torch.arange(5) * 100
    found = eps_loss(lambda x, t: x * t[:, None] / 1000, x0, t, eps, AB)
    wanted = torch.nn.functional.mse_loss(q_sample(x0, t, eps, AB) * t[:, None] / 1000, eps)
    torch.testing.assert_close(found, wanted)


def test_the_average_of_all_noises_minimises_the_loss() -> None:
    """E[eps | x_t] on a grid of two clean values, against the loss of constant shifts of it."""
    draws = 100_000
    x0 = torch.where(normal(draws, 1) > 0, 1.0, -1.0).to(F64)
    t, eps, ab = (
        torch.zeros(draws, dtype=torch.long),
        normal(draws, 1, seed=3),
        torch.tensor([0.5], dtype=F64),
    )

    def expected(x: torch.Tensor) -> torch.Tensor:
        mean_x0 = torch.tanh(math.sqrt(0.5) * x / 0.5)
        return (x - math.sqrt(0.5) * mean_x0) / math.sqrt(0.5)

    best = eps_loss(lambda x, t: expected(x), x0, t, eps, ab)
    for shift in (-0.1, 0.1):
        assert eps_loss(lambda x, t, s=shift: expected(x) + s, x0, t, eps, ab) > best


@pairs
def test_predicting_undoes_the_noise(ab_t: float, ab_s: float) -> None:
    x0, eps = normal(4, 3), normal(4, 3, seed=1)
    xt = math.sqrt(ab_t) * x0 + math.sqrt(1 - ab_t) * eps
    torch.testing.assert_close(predict_x0(xt, eps, ab_t), x0, rtol=1e-9, atol=1e-9)


def test_eta_1_is_ddpm() -> None:
    """Mean and variance of a step between neighbours are those of the posterior, to 1e-12."""
    for t in (1, 2, 10, 500, 999):
        x0, eps = normal(4, 3, seed=t), normal(4, 3, seed=t + 1)
        times = torch.full((4,), t)
        xt = q_sample(x0, times, eps, AB)
        mean, var = posterior(predict_x0(xt, eps, AB[t].item()), xt, times, BETAS)
        a, b = AB[t].item(), AB[t - 1].item()
        assert sigma(a, b, 1.0) ** 2 == pytest.approx(var[0].item(), rel=1e-9, abs=1e-12)
        found = ddim_step(xt, eps, a, b, 1.0, torch.zeros_like(xt))
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-12)


def test_ddpm_step_in_terms_of_the_noise() -> None:
    """(x_t - beta_t / sqrt(1 - ab_t) eps) / sqrt(alpha_t), the step of DDPM's algorithm 2."""
    for t in (1, 10, 500, 999):
        xt, eps, beta = normal(4, 3), normal(4, 3, seed=1), BETAS[t].item()
        a, b = AB[t].item(), AB[t - 1].item()
        found = ddim_step(xt, eps, a, b, 1.0, torch.zeros_like(xt))
        wanted = (xt - beta / math.sqrt(1 - a) * eps) / math.sqrt(1 - beta)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


@pairs
def test_eta_0_is_an_euler_step(ab_t: float, ab_s: float) -> None:
    xt, eps = normal(4, 3), normal(4, 3, seed=1)
    found = ddim_step(xt, eps, ab_t, ab_s, 0.0, normal(4, 3, seed=2))
    torch.testing.assert_close(found, ode_step(xt, eps, ab_t, ab_s), rtol=1e-11, atol=1e-11)


@pairs
def test_an_euler_step_can_be_undone(ab_t: float, ab_s: float) -> None:
    xt, eps = normal(4, 3), normal(4, 3, seed=1)
    there = ode_step(xt, eps, ab_t, ab_s)
    torch.testing.assert_close(ode_step(there, eps, ab_s, ab_t), xt, rtol=1e-9, atol=1e-9)


@pairs
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_the_family_keeps_the_marginals(ab_t: float, ab_s: float, share: float) -> None:
    x0 = normal(5)
    sd = share * math.sqrt(1 - ab_s)
    mean, var = marginal_moments(x0, math.sqrt(ab_t) * x0, 1 - ab_t, ab_t, ab_s, sd)
    torch.testing.assert_close(mean, math.sqrt(ab_s) * x0)
    assert var == pytest.approx(1 - ab_s, abs=1e-12)


def test_moments_are_those_of_draws() -> None:
    """Many draws of x_t, each stepped with the noise that x_t and x_0 imply."""
    draws, ab_t, ab_s, eta = 400_000, 0.2, 0.6, 0.7
    x0 = torch.tensor([0.8], dtype=F64)
    xt = 0.5 + 1.3 * normal(draws, 1)
    eps = (xt - math.sqrt(ab_t) * x0) / math.sqrt(1 - ab_t)
    xs = ddim_step(xt, eps, ab_t, ab_s, eta, normal(draws, 1, seed=1))
    mean, var = marginal_moments(
        x0, torch.tensor([0.5], dtype=F64), 1.3**2, ab_t, ab_s, sigma(ab_t, ab_s, eta)
    )
    assert xs.mean().item() == pytest.approx(mean.item(), abs=0.01)
    assert xs.var().item() == pytest.approx(var, abs=0.01)


@pairs
def test_sigma_is_largest_for_ddpm_and_fits_into_the_noise(ab_t: float, ab_s: float) -> None:
    assert (
        0 == sigma(ab_t, ab_s, 0.0) <= sigma(ab_t, ab_s, 0.5) <= sigma(ab_t, ab_s, 1.0) <= math.sqrt(1 - ab_s)
    )


@pytest.mark.parametrize("name", reference.__all__)
def test_every_reference_says_what_it_does(name: str) -> None:
    assert getattr(reference, name).__doc__
