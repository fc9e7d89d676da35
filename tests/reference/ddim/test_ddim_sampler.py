"""The references of ddim/03 and ddim/04 against autograd, brute force, an ODE solver of high order, and each other."""

import itertools
import math

import pytest
import torch

from utils import data
from utils.reference.ddim import (
    alpha_bar,
    ddim_invert,
    ddim_sample,
    ddim_step,
    energy_distance,
    gmm_eps,
    ode_step,
    slerp,
    sub_schedule,
)

F64 = torch.float64
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
AB = alpha_bar(BETAS)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def mixture() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(part.to(F64) for part in data.eight_gaussians())  # type: ignore[return-value]


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return gmm_eps(x, AB[t[0]].item(), *mixture())


@pytest.mark.parametrize(
    ("T", "S"), [(1000, 20), (1000, 1000), (7, 3), (1, 1), (1000, 1), (13, 13), (999, 998)]
)
def test_a_schedule_falls_from_end_to_end(T: int, S: int) -> None:
    times = sub_schedule(T, S)
    assert times.dtype == torch.int64
    assert len(times) == S
    assert times[0] == T - 1
    assert S == 1 or times[-1] == 0
    gaps = times[:-1] - times[1:]
    assert S == 1 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


@pytest.mark.parametrize("ab_t", [0.05, 0.5, 0.99])
def test_the_noise_is_minus_the_score_by_autograd(ab_t: float) -> None:
    means, stds, weights = normal(4, 3), normal(4).abs() + 0.2, normal(4, seed=1).softmax(0)
    x = normal(6, 3, seed=2).requires_grad_()
    var = ab_t * stds**2 + 1 - ab_t
    components = torch.distributions.MultivariateNormal(
        math.sqrt(ab_t) * means, var[:, None, None] * torch.eye(3, dtype=F64)
    )
    log_p = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights), components
    ).log_prob(x)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    torch.testing.assert_close(gmm_eps(x.detach(), ab_t, means, stds, weights), -math.sqrt(1 - ab_t) * score)


def test_the_noise_is_the_mean_of_the_noises() -> None:
    """E[eps | x_t] by summing over a fine grid of clean values, in one dimension."""
    ab_t, x = 0.4, 0.3
    means, stds, weights = (
        torch.tensor([[-1.0], [1.5]], dtype=F64),
        torch.tensor([0.3, 0.6], dtype=F64),
        torch.tensor([0.3, 0.7], dtype=F64),
    )
    x0 = torch.linspace(-8, 8, 400_001, dtype=F64)
    prior = sum(
        w * (-((x0 - m) ** 2) / (2 * s**2)).exp() / s
        for w, m, s in zip(weights, means[:, 0], stds, strict=True)
    )
    eps = (x - math.sqrt(ab_t) * x0) / math.sqrt(1 - ab_t)
    p = prior * (-(eps**2) / 2).exp()
    wanted = ((p / p.sum()) * eps).sum()
    found = gmm_eps(torch.tensor([[x]], dtype=F64), ab_t, means, stds, weights)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-9)


def test_a_single_gaussian_is_sampled_exactly_in_the_limit() -> None:
    """For one Gaussian the ODE is linear; its solution multiplies x / sqrt(ab) by the ratio of standard deviations."""
    std, x = 0.5, normal(5, 2)
    one = torch.zeros(1, 2, dtype=F64), torch.tensor([std], dtype=F64), torch.ones(1, dtype=F64)
    errors = []
    for S in (20, 200, 1000):
        times = sub_schedule(1000, S)
        found = ddim_sample(
            lambda x, t: gmm_eps(x, AB[t[0]].item(), *one),
            ddim_step,
            x,
            times,
            AB,
            0.0,
            torch.zeros(S, 5, 2, dtype=F64),
        )
        last = AB[-1].item()
        exact = x * std / math.sqrt(last * std**2 + 1 - last)
        errors.append((found - exact).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_all_steps_with_eta_1_are_ddpm() -> None:
    """Algorithm 2 of DDPM, written out, with the same noise; the last step adds none."""
    x, noise = normal(6, 2), normal(1000, 6, 2, seed=1)
    found = ddim_sample(model, ddim_step, x, sub_schedule(1000, 1000), AB, 1.0, noise)
    for k, t in enumerate(reversed(range(1000))):
        beta, ab = BETAS[t].item(), AB[t].item()
        before = AB[t - 1].item() if t else 1.0
        mean = (x - beta / math.sqrt(1 - ab) * model(x, torch.tensor([t]))) / math.sqrt(1 - beta)
        x = mean + math.sqrt((1 - before) / (1 - ab) * beta) * noise[k]
    torch.testing.assert_close(found, x, rtol=0, atol=1e-8)


def test_inverting_and_sampling_come_closer_with_more_steps() -> None:
    x0 = data.draw_mixture(50, *data.eight_gaussians(), torch.Generator().manual_seed(0)).to(F64)
    errors = []
    for S in (10, 100, 1000):
        times = sub_schedule(1000, S)
        z = ddim_invert(model, ode_step, x0, times, AB)
        back = ddim_sample(model, ddim_step, z, times, AB, 0.0, torch.zeros(S, *x0.shape, dtype=F64))
        errors.append((back - x0).abs().mean().item())
    assert errors[0] > errors[1] > errors[2]


def test_a_constant_noise_is_inverted_exactly() -> None:
    x0, times = normal(4, 3), sub_schedule(1000, 7)
    z = ddim_invert(lambda x, t: torch.ones_like(x), ode_step, x0, times, AB)
    back = ddim_sample(
        lambda x, t: torch.ones_like(x), ddim_step, z, times, AB, 0.0, torch.zeros(7, 4, 3, dtype=F64)
    )
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-9)


def test_the_energy_distance_is_that_of_all_pairs() -> None:
    a, b = normal(6, 3), 1 + normal(9, 3, seed=1)
    between = sum((x - y).norm() for x in a for y in b) / 54
    within = [
        sum((x - y).norm() for x, y in itertools.permutations(s, 2)) / (len(s) * (len(s) - 1)) for s in (a, b)
    ]
    assert energy_distance(a, b) == pytest.approx(float(2 * between - within[0] - within[1]), abs=1e-12)


def test_the_energy_distance_is_unbiased_and_sees_a_shift() -> None:
    same = [energy_distance(normal(40, 2, seed=k), normal(40, 2, seed=1000 + k)) for k in range(200)]
    shifted = [energy_distance(normal(40, 2, seed=k), 0.5 + normal(40, 2, seed=1000 + k)) for k in range(200)]
    error = torch.tensor(same).std().item() / math.sqrt(200)
    assert abs(sum(same) / 200) < 4 * error
    assert min(same) < 0
    assert sum(shifted) / 200 > 0.1


def test_the_energy_distance_of_two_gaussians_on_a_line() -> None:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of N(0, 1) and N(m, 1), in closed form."""
    m, draws = 1.0, 4000
    folded = 2 / math.sqrt(math.pi) * math.exp(-(m**2) / 4) + m * math.erf(m / 2)
    wanted = 2 * folded - 2 * 2 / math.sqrt(math.pi)
    assert energy_distance(normal(draws, 1), m + normal(draws, 1, seed=1)) == pytest.approx(wanted, abs=0.05)


def test_slerp_keeps_the_length_and_moves_evenly() -> None:
    z0, z1 = normal(5, 8), normal(5, 8, seed=1)
    z1 = z1 / z1.norm(dim=1, keepdim=True) * z0.norm(dim=1, keepdim=True)
    whole = torch.nn.functional.cosine_similarity(z0, z1).acos()
    for a in (0.0, 0.25, 0.5, 1.0):
        z = slerp(z0, z1, a)
        torch.testing.assert_close(z.norm(dim=1), z0.norm(dim=1))
        angle = torch.nn.functional.cosine_similarity(z0, z).clamp(-1, 1).acos()
        torch.testing.assert_close(angle, a * whole, rtol=0, atol=1e-7)


def test_slerp_of_equal_rows_is_the_row() -> None:
    z = normal(3, 4).float()
    torch.testing.assert_close(slerp(z, z.clone(), 0.3), z)
