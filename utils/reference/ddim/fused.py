"""A DDIM step in one pass over memory: a Triton kernel.

The step of ``derivation.ddim_step`` in PyTorch runs eight elementwise kernels; each reads and writes whole tensors. It is
linear in x_t, eps and noise, so three coefficients and one kernel do: three reads and one write for each number, two and one for
eta = 0.
"""

import functools
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from utils.reference.ddim.derivation import sigma

BLOCK = 1024


def coefficients(ab_t: float, ab_s: float, eta: float) -> tuple[float, float, float]:
    """The factors of x_t, eps and noise in a step from t to s."""
    fresh = sigma(ab_t, ab_s, eta)
    of_x = math.sqrt(ab_s / ab_t)
    of_eps = math.sqrt(max(1 - ab_s - fresh**2, 0.0)) - of_x * math.sqrt(1 - ab_t)
    return of_x, of_eps, fresh


@functools.cache
def _kernel() -> Any:
    """The kernel, made when it is first used: Triton is there only on some machines."""
    import triton
    import triton.language as tl

    globals()["tl"] = tl  # the compiler looks names up in the module

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def step(x, eps, noise, out, a, b, c, n, NOISY: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
        inside = at < n
        result = a * tl.load(x + at, mask=inside) + b * tl.load(eps + at, mask=inside)
        if NOISY:
            result += c * tl.load(noise + at, mask=inside)
        tl.store(out + at, result, mask=inside)

    return step


def fused_ddim_step(
    xt: Float[Tensor, "batch dim"],
    eps: Float[Tensor, "batch dim"],
    ab_t: float,
    ab_s: float,
    eta: float,
    noise: Float[Tensor, "batch dim"],
) -> Float[Tensor, "batch dim"]:
    """``ddim_step`` in one kernel, in float32. Runs on a GPU, and on the CPU with TRITON_INTERPRET=1."""
    if any(tensor.dtype is not torch.float32 for tensor in (xt, eps, noise)):
        raise TypeError("fused_ddim_step takes float32.")
    if eps.shape != xt.shape or noise.shape != xt.shape:
        raise ValueError("xt, eps and noise have different shapes.")
    a, b, c = coefficients(ab_t, ab_s, eta)
    tensors = [tensor.contiguous() for tensor in (xt, eps, noise)]
    out = torch.empty_like(tensors[0])
    if out.numel():
        grid = (-(-out.numel() // BLOCK),)
        _kernel()[grid](*tensors, out, a, b, c, out.numel(), NOISY=eta != 0, SIZE=BLOCK)
    return out
