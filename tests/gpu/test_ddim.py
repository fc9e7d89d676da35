"""The references of the series ddim on a GPU, and its compiled kernel."""

import pytest
import torch

from utils.reference.ddim import (
    alpha_bar,
    ddim_invert,
    ddim_sample,
    ddim_step,
    energy_distance,
    fused_ddim_step,
    gmm_eps,
    ode_step,
    posterior,
    q_sample,
    slerp,
    sub_schedule,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU that torch can use"
    ),
]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (64, 64), (7, 1025), (4096, 3072)])
@pytest.mark.parametrize(("ab_t", "ab_s", "eta"), [(0.2, 0.6, 0.5), (0.3, 1.0, 1.0), (0.1, 0.5, 0.0)])
def test_the_compiled_kernel_equals_the_plain_step(
    shape: tuple[int, int], ab_t: float, ab_s: float, eta: float
) -> None:
    pytest.importorskip("triton")
    x, eps, noise = (normal(*shape, seed=k).cuda() for k in range(3))
    found = fused_ddim_step(x, eps, ab_t, ab_s, eta, noise)
    assert found.is_cuda
    torch.testing.assert_close(found, ddim_step(x, eps, ab_t, ab_s, eta, noise), rtol=1e-5, atol=1e-5)


def test_the_sampler_gives_the_same_on_both() -> None:
    means, stds, weights = (
        normal(4, 2).double(),
        torch.full((4,), 0.2).double(),
        torch.full((4,), 0.25).double(),
    )
    ab = alpha_bar(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    times, x, noise = sub_schedule(1000, 20), normal(30, 2).double(), normal(20, 30, 2, seed=1).double()
    results = []
    for device in ("cpu", "cuda"):
        mixture, levels = [part.to(device) for part in (means, stds, weights)], ab.to(device)

        def model(x: torch.Tensor, t: torch.Tensor, levels=levels, mixture=mixture) -> torch.Tensor:
            return gmm_eps(x, levels[t[0]].item(), *mixture)

        arguments = model, ddim_step, x.to(device), times.to(device), levels, 0.5, noise.to(device)
        samples = ddim_sample(*arguments)
        back = ddim_invert(model, ode_step, samples, times.to(device), levels)
        results.append((samples.cpu(), back.cpu(), slerp(back[:5], back[5:10], 0.3).cpu()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_other_references_stay_on_the_gpu() -> None:
    betas = torch.linspace(1e-4, 0.02, 100, device="cuda")
    x0, eps, t = normal(6, 3).cuda(), normal(6, 3, seed=1).cuda(), torch.arange(6, device="cuda") * 10
    xt = q_sample(x0, t, eps, alpha_bar(betas))
    mean, var = posterior(x0, xt, t, betas)
    assert {xt.device.type, mean.device.type, var.device.type} == {"cuda"}
    assert energy_distance(x0, xt) == pytest.approx(energy_distance(x0.cpu(), xt.cpu()), rel=1e-4)
