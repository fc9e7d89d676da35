"""Runs the Triton kernels in Triton's interpreter, in a process of its own: python interpreted.py NAME.

Triton decides when it is imported whether it interprets, so a process that has imported it otherwise cannot do this.
"""

import math
import os
import sys
import warnings
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
warnings.filterwarnings("ignore", category=RuntimeWarning)  # the interpreter's log of zero

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

TOLERANCE = {torch.float32: 1e-5, torch.float16: 8e-3, torch.bfloat16: 6e-2}


def plain(q, k, v, causal):
    """(o, lse) in float64 by the definition."""
    group = q.shape[1] // k.shape[1]
    q, k, v = q.double(), k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    N, M = q.shape[2], k.shape[2]
    s = q @ k.mT * q.shape[-1] ** -0.5
    if causal:
        s = s.masked_fill(torch.arange(M) > torch.arange(N)[:, None] + M - N, -math.inf)
    lse = torch.logsumexp(s, -1)
    return torch.exp(s - lse.clamp(min=-1e300)[..., None]) @ v, lse


def compare(N, M, d, causal, group, dtype, **sizes):
    """One forward and one backward pass against float64."""
    from utils.reference.flash_attention import kernels

    torch.manual_seed(N + M + d)
    shapes = (1, 2, N, d), (1, 2 // group, M, d), (1, 2 // group, M, d)
    q, k, v = (torch.randn(shape).to(dtype).requires_grad_() for shape in shapes)
    wanted, wanted_lse = plain(q, k, v, causal)
    do = torch.randn_like(q)
    grads = torch.autograd.grad(wanted, (q, k, v), do.double())
    with torch.no_grad():
        o, lse = kernels.forward(q, k, v, causal, **sizes)
        found = kernels.backward(q, k, v, o, lse, do, causal, **sizes)
    assert (o.dtype, lse.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(lse.double(), wanted_lse, atol=1e-5, rtol=1e-5)
    limit = TOLERANCE[dtype]
    for got, expected in zip((o, *found), (wanted, *grads), strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected.double(), atol=limit, rtol=limit)


def shapes():
    """Causal or not, head sizes, ragged and different lengths, groups of heads."""
    for d, N, M, group in ((32, 20, 37, 1), (64, 37, 20, 2), (128, 18, 18, 1), (16, 1, 50, 2)):
        for causal in (False, True):
            compare(N, M, d, causal, group, torch.float32, BR=16, BC=32 if d == 16 else 16)


def dtypes():
    """bf16 and fp16 inputs with sums in float32, with the tiles that are chosen for a GPU."""
    for dtype in (torch.bfloat16, torch.float16):
        compare(70, 150, 32, True, 2, dtype)


def autograd():
    """The function that connects both passes, against PyTorch's attention."""
    from utils.reference.flash_attention import kernels

    q, k, v = (torch.randn(2, 2, 33, 32, requires_grad=True) for _ in range(3))
    o, wanted = (
        kernels.flash_attention(q, k, v, True),
        F.scaled_dot_product_attention(q, k, v, is_causal=True),
    )
    do = torch.randn_like(o)
    torch.testing.assert_close(o, wanted, atol=1e-5, rtol=1e-5)
    for got, expected in zip(
        torch.autograd.grad(o, (q, k, v), do), torch.autograd.grad(wanted, (q, k, v), do), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def large_scores():
    """Scores of 1e4, and scores that rise in every tile."""
    from utils.reference.flash_attention import kernels

    k = torch.linspace(-100, 100, 40)[:, None].expand(40, 16).contiguous()[None, None]
    v = torch.randn(1, 1, 40, 16)
    for size in (1.0, 25.0):
        q = torch.full((1, 1, 5, 16), size)
        o, lse = kernels.forward(q, k, v, BR=16, BC=16)
        wanted, wanted_lse = plain(q, k, v, False)
        torch.testing.assert_close((o.double(), lse.double()), (wanted, wanted_lse), atol=1e-4, rtol=1e-5)


def exercise():
    """Kernels as learners write them: right ones get full marks, wrong ones are recognised."""
    sys.path.insert(0, str(Path(__file__).parent))
    import kernel_answers

    from autograde.course import exercises
    from autograde.grade import grade, recognised
    from autograde.observe import LocalObserver

    task = exercises("flash_attention")["flash_kernel"]
    for kernel in kernel_answers.RIGHT:
        for seed in (0, 1):
            result = grade(task, LocalObserver(kernel, quiet=True), graded=seed > 0, seed=seed)
            assert result.ok, result.first
    for kernel, words in kernel_answers.WRONG.items():
        result = grade(task, LocalObserver(kernel, quiet=True))
        assert not result.ok, kernel.__name__
        _, found = recognised(task, LocalObserver(kernel, quiet=True), graded=False, seed=0)
        said = " ".join([str(result.first), *(mistake.sentence for mistake in found)])
        assert words in said, (kernel.__name__, said)
    stub = grade(task, LocalObserver(kernel_answers.stub, quiet=True))
    assert stub.not_written, stub.first


def benchmark():
    """The benchmark at toy sizes: our kernel in its table of implementations, and its memory table."""
    root = Path(__file__).resolve().parents[3]
    sys.path.insert(0, str(root / "benchmarks"))
    import flash_attention as bench

    q, k, v = (torch.randn(1, 1, 20, 32) for _ in range(3))
    assert set(bench.implementations()) == {"ours", *bench.BACKENDS}
    for name in ("ours", "MATH"):
        torch.testing.assert_close(
            bench.implementations()[name](q, k, v, True), plain(q, k, v, True)[0].float()
        )
    table = bench.memory_table((256, 512))
    largest = [[float(cell) for cell in row.split("|")[2:-1]] for row in table[2:]]
    assert largest[1][0] == 4 * largest[0][0]
    assert largest[1][5] == 2 * largest[0][5]
    assert bench.operations(2, 3, 5, 7, False, False) == 4 * 2 * 3 * 5 * 5 * 7


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]]()
