"""The fused step against the plain one, on the CPU with Triton's interpreter, in a process of its own."""

import os
import subprocess
import sys

import pytest
import torch

from utils.reference.ddim import ddim_step, fused_ddim_step
from utils.reference.ddim.fused import coefficients

PROGRAM = """
import torch
from utils.reference.ddim import ddim_step, fused_ddim_step

generator = torch.Generator().manual_seed(0)
for shape in ((3, 5), (1, 1), (64, 64), (7, 1025), (0, 4)):
    for ab_t, ab_s, eta in ((0.2, 0.6, 0.5), (0.3, 1.0, 1.0), (0.1, 0.5, 0.0)):
        x, eps, noise = (torch.randn(shape, generator=generator) for _ in range(3))
        if shape[0] > 1:
            x = x.t().contiguous().t()
        wanted = ddim_step(x, eps, ab_t, ab_s, eta, noise)
        torch.testing.assert_close(fused_ddim_step(x, eps, ab_t, ab_s, eta, noise), wanted, rtol=1e-5, atol=1e-5)
print("equal")
"""


def test_the_kernel_equals_the_plain_step() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr


@pytest.mark.parametrize(("ab_t", "ab_s", "eta"), [(0.2, 0.6, 0.5), (0.3, 1.0, 1.0), (0.1, 0.5, 0.0)])
def test_three_coefficients_are_the_step(ab_t: float, ab_s: float, eta: float) -> None:
    x, eps, noise = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = coefficients(ab_t, ab_s, eta)
    torch.testing.assert_close(a * x + b * eps + c * noise, ddim_step(x, eps, ab_t, ab_s, eta, noise))


def test_other_dtypes_and_shapes_are_refused() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(TypeError, match="float32"):
        fused_ddim_step(x.double(), x, 0.2, 0.5, 0.0, x)
    with pytest.raises(ValueError, match="shapes"):
        fused_ddim_step(x, torch.zeros(3, 2), 0.2, 0.5, 0.0, x)
