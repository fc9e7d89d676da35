"""Memory of tiled attention, and the speed of the course's Triton kernels beside PyTorch's.

    python benchmarks/flash_attention.py

writes benchmarks/results/flash_attention.md. On a CPU it measures memory only, and keeps the table of speeds that is there; on an
NVIDIA GPU it measures both, in a few minutes. Run it from the root of the repository.
"""

import datetime
import functools
import platform
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autograde.meters import AllocationMeter
from autograde.progress import write_atomically
from utils.reference.flash_attention import flash_attention, flash_backward, flash_forward

RESULTS = Path(__file__).parent / "results" / "flash_attention.md"
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
TIMED = (1024, 2048, 4096, 8192, 16384)
BACKENDS = ("MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "CUDNN_ATTENTION")
TOKENS = 16384
"""Tokens in a batch: the number of sequences follows from their length."""
NO_GPU = "No GPU was at hand: this table needs an NVIDIA GPU."
SPEED = "## Speed on a GPU"


def standard(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by its formula."""
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def tiled(q: Tensor, k: Tensor, v: Tensor, tile: int = 128) -> Tensor:
    """Attention in tiles, with its backward pass."""
    return flash_attention(
        q,
        k,
        v,
        functools.partial(flash_forward, Br=tile, Bc=tile, causal=False),
        functools.partial(flash_backward, Br=tile, Bc=tile, causal=False),
    )


def memory(
    attention: Callable[[Tensor, Tensor, Tensor], Tensor], N: int, d: int = 64
) -> tuple[int, int, int]:
    """Bytes of the largest tensor, at the peak, and kept for backward, in a forward pass in float32."""
    q, k, v = (torch.randn(N, d, requires_grad=True) for _ in range(3))
    with AllocationMeter([q, k, v]) as meter:
        o = attention(q, k, v)
        saved = meter.alive(besides=[o])
    return meter.largest, meter.peak, saved


def memory_table(lengths: tuple[int, ...] = LENGTHS) -> list[str]:
    """One row for each length, in MiB."""
    lines = [
        "| N | standard: largest | peak | kept | tiles: largest | peak | kept |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for N in lengths:
        numbers = (*memory(standard, N), *memory(tiled, N))
        lines.append(f"| {N} | " + " | ".join(f"{number / 2**20:.3f}" for number in numbers) + " |")
    return lines


def milliseconds(call: Callable[[], Any]) -> float:
    """The median over a tenth of a second, by CUDA events, with an empty L2 cache before each call."""
    from triton.testing import do_bench

    return float(do_bench(call, warmup=25, rep=100, return_mode="median"))


def operations(batch: int, heads: int, N: int, d: int, causal: bool, backward: bool) -> float:
    """Multiplications and additions of the matrix products: two forward, five backward, half of them where causal."""
    return 4 * batch * heads * N * N * d * (2.5 if backward else 1) / (2 if causal else 1)


def implementations() -> dict[str, Callable[..., Tensor]]:
    """Ours, and PyTorch's attention with each of its backends."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from utils.reference.flash_attention import kernels

    def library(backend: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    found: dict[str, Callable[..., Tensor]] = {"ours": kernels.flash_attention}
    for name in BACKENDS:
        if hasattr(SDPBackend, name):
            found[name] = functools.partial(library, getattr(SDPBackend, name))
    return found


def measured(
    attention: Callable[..., Tensor], N: int, d: int, causal: bool, heads: int = 16
) -> tuple[str, float, float]:
    """TFLOP/s forward and backward and peak memory as text, and both speeds; zero where it cannot run."""
    batch = max(1, TOKENS // N)
    q, k, v = (
        torch.randn(batch, heads, N, d, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    )
    do = torch.randn_like(q)
    try:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        o = attention(q, k, v, causal)
        torch.autograd.grad(o, (q, k, v), do)
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20
        with torch.no_grad():
            forward = milliseconds(lambda: attention(q, k, v, causal))
        o = attention(q, k, v, causal)
        backward = milliseconds(lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True))
    except (RuntimeError, torch.OutOfMemoryError) as error:
        why = "out of memory" if isinstance(error, torch.OutOfMemoryError) else "cannot run"
        return f"{why} | | ", 0.0, 0.0
    speeds = [
        operations(batch, heads, N, d, causal, back) / (time * 1e9)
        for back, time in ((False, forward), (True, backward))
    ]
    return f"{speeds[0]:.0f} | {speeds[1]:.0f} | {peak:.0f}", speeds[0], speeds[1]


def summary(ratios: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Our speed over each backend's: the least, the median and the largest ratio of all settings."""
    lines = [
        "| ours over | forward: least | median | largest | backward: least | median | largest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, pairs in ratios.items():
        found = [
            f"{statistic(values):.2f}"
            for values in zip(*pairs, strict=True)
            for statistic in (min, statistics.median, max)
        ]
        lines.append(f"| {name} | {' | '.join(found)} |")
    return lines


def speed_table() -> list[str]:
    """The ratios in short, and one row for each setting and implementation, with ours over it."""
    short: dict[str, list[tuple[float, float]]] = {}
    lines = [
        "bfloat16, 16 heads, 16,384 tokens in a batch. TFLOP/s count the two (backward: five) matrix products, half of them where "
        "causal. Ratio: ours over the row's, above 1 where ours is faster. Peak: MiB beyond the inputs, forward and backward.",
        "",
        "| d | N | causal | implementation | forward TFLOP/s | backward TFLOP/s | peak MiB | ratio forward | ratio backward |",
        "| ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for d in (64, 128):
        for N in TIMED:
            for causal in (False, True):
                ours = (0.0, 0.0)
                for name, attention in implementations().items():
                    text, forward, backward = measured(attention, N, d, causal)
                    if name == "ours":
                        ours = forward, backward
                    elif forward and backward:
                        short.setdefault(name, []).append((ours[0] / forward, ours[1] / backward))
                    ratios = [
                        f"{a / b:.2f}" if b else "" for a, b in zip(ours, (forward, backward), strict=True)
                    ]
                    lines.append(
                        f"| {d} | {N} | {'yes' if causal else 'no'} | {name} | {text} | {' | '.join(ratios)} |"
                    )
                    print(lines[-1], file=sys.stderr)
    return [*summary(short), "", *lines]


def speeds_before() -> list[str]:
    """The table of speeds that is in the file, made on another machine; or that there is none."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    return text.partition(SPEED)[2].strip().splitlines() or [NO_GPU]


def main() -> None:
    """Measure, and write the tables."""
    has_gpu = torch.cuda.is_available()
    stamp = f"{datetime.date.today():%Y-%m-%d}, Python {platform.python_version()}, torch {torch.__version__}"
    speed = speeds_before()
    if has_gpu:
        card = f"Triton {version('triton')}, {torch.cuda.get_device_name()}"
        speed = [f"{stamp}, {card}.", "", *speed_table()]
    lines = [
        "# Attention in tiles",
        "",
        "Made by `python benchmarks/flash_attention.py`.",
        "",
        "## Memory of a forward pass",
        "",
        "float32, d = 64, tiles of 128 by 128, in MiB: the largest tensor, the most in use at once, and what is kept for the backward "
        "pass besides inputs and output. Counted, so that it is the same on every machine. Written in PyTorch (`flash_forward`).",
        "",
        *memory_table(),
        "",
        SPEED,
        "",
        *speed,
    ]
    write_atomically(RESULTS, "\n".join(lines) + "\n")
    print(RESULTS.read_text(encoding="utf-8"))
    if not has_gpu:
        print("The table of speeds needs an NVIDIA GPU; it was left as it is.")


if __name__ == "__main__":
    main()
