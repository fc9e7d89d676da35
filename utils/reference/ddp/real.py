"""What a training on several processes needs beside gradients: statistics, checkpoints, a learning rate."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


def sync_bn_stats(
    x: Float[Tensor, "batch features"],
) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
    """Mean and (biased) variance over the examples of all ranks, which may have different numbers of them."""
    totals = torch.cat([x.sum(0), x.new_tensor([len(x)])])
    dist.all_reduce(totals)
    mean = totals[:-1] / totals[-1]
    squares = (x - mean).square().sum(0)
    dist.all_reduce(squares)
    return mean, squares / totals[-1]


def save_on_rank0(path: Path, state: dict[str, Any]) -> None:
    """Rank 0 writes beside the path and then renames, which is atomic; all ranks return when the file is there."""
    if dist.get_rank() == 0:
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)
    dist.barrier()


def resume(path: Path, model: nn.Module, velocity: list[Tensor]) -> int:
    """Load model and velocity in place; the number of steps that are done, 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    for mine, saved in zip(velocity, state["velocity"], strict=True):
        mine.copy_(saved)
    return int(state["step"])


def warmup_lr(step: int, base: float, world: int, warmup: int) -> float:
    """From base to world times base in equal steps, then constant: section 2.2 of Goyal et al. (2017), arXiv 1706.02677."""
    done = min(step / warmup, 1.0) if warmup else 1.0
    return base * (1 + (world - 1) * done)
