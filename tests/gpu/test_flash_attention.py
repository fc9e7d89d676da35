"""The Triton kernels, compiled on a GPU, against the plain formula in float64 and PyTorch's attention."""

import math

import pytest
import torch
import torch.nn.functional as F

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU that torch can use"
    ),
]

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.fixture(scope="module")
def kernels():
    """The module with the kernels; Triton comes with PyTorch for CUDA."""
    pytest.importorskip("triton")
    from utils.reference.flash_attention import kernels

    return kernels


def draw(N, M, d, group, dtype, batch=2, heads=4):
    torch.manual_seed(N + M + d)
    shapes = (batch, heads, N, d), (batch, heads // group, M, d), (batch, heads // group, M, d)
    return [torch.randn(shape, device="cuda").to(dtype).requires_grad_() for shape in shapes]


def plain(q, k, v, causal):
    group = q.shape[1] // k.shape[1]
    q, k, v = q.double(), k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    N, M = q.shape[2], k.shape[2]
    s = q @ k.mT * q.shape[-1] ** -0.5
    if causal:
        hidden = torch.arange(M, device="cuda") > torch.arange(N, device="cuda")[:, None] + M - N
        s = s.masked_fill(hidden, -math.inf)
    lse = torch.logsumexp(s, -1)
    return torch.exp(s - lse.clamp(min=-1e300)[..., None]) @ v, lse


def close(got, wanted, dtype):
    limit = TOLERANCE[dtype]
    torch.testing.assert_close(
        got.double(), wanted.double(), atol=limit * float(wanted.abs().max()), rtol=limit
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("d", [32, 64, 128])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("N", "M", "group"), [(128, 128, 1), (300, 300, 2), (77, 513, 4), (513, 77, 1), (1, 1000, 4)]
)
def test_both_passes_are_the_plain_formula(kernels, N, M, group, causal, d, dtype):
    q, k, v = draw(N, M, d, group, dtype)
    wanted, wanted_lse = plain(q, k, v, causal)
    do = torch.randn_like(q)
    grads = torch.autograd.grad(wanted, (q, k, v), do.double())
    with torch.no_grad():
        o, lse = kernels.forward(q, k, v, causal)
        found = kernels.backward(q, k, v, o, lse, do, causal)
    torch.testing.assert_close(lse.double(), wanted_lse, atol=1e-4, rtol=1e-5)
    for got, expected in zip((o, *found), (wanted, *grads), strict=True):
        assert got.dtype == dtype
        close(got, expected, dtype)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("d", [64, 128])
def test_it_is_pytorch_s_attention(kernels, d, causal):
    q, k, v = draw(1000, 1000, d, 1, torch.bfloat16)
    o, wanted = (
        kernels.flash_attention(q, k, v, causal),
        F.scaled_dot_product_attention(q, k, v, is_causal=causal),
    )
    do = torch.randn_like(o)
    close(o, wanted, torch.bfloat16)
    for got, expected in zip(
        torch.autograd.grad(o, (q, k, v), do), torch.autograd.grad(wanted, (q, k, v), do), strict=True
    ):
        close(got, expected, torch.bfloat16)


def test_memory_grows_with_the_length_and_not_with_its_square(kernels):
    peaks = []
    for N in (2048, 4096, 8192):
        q, k, v = draw(N, N, 64, 1, torch.bfloat16, batch=1)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.autograd.grad(kernels.flash_attention(q, k, v, True).sum(), (q, k, v))
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del q, k, v
    assert peaks[2] / peaks[0] < 4.5
    assert peaks[2] < 8192 * 8192 * 2


def test_the_exercise_with_compiled_kernels(kernels):
    import importlib.util
    from pathlib import Path

    from autograde.course import exercises
    from autograde.grade import grade
    from autograde.observe import LocalObserver

    path = Path(__file__).parents[1] / "reference" / "flash_attention" / "kernel_answers.py"
    spec = importlib.util.spec_from_file_location("kernel_answers", path)
    answers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(answers)
    task = exercises("flash_attention")["flash_kernel"]
    for kernel in answers.RIGHT:
        result = grade(task, LocalObserver(kernel, quiet=True), graded=True, seed=1, device="cuda")
        assert result.ok, result.first
    for kernel in answers.WRONG:
        assert not grade(task, LocalObserver(kernel, quiet=True), device="cuda").ok
