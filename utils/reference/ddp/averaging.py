"""Data parallelism without overlap: who gets which examples, equal starts, and the mean of the gradients."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor, nn


def loss_factor(sizes: list[int], rank: int, reduction: str) -> float:
    """The factor of a rank's loss with which the mean of all ranks' gradients is that of the mean over all examples.

    With n_r examples on rank r, n in all and N ranks: N n_r / n for a loss that is a mean, N / n for one that is a sum.
    """
    share = sizes[rank] if reduction == "mean" else 1
    return len(sizes) * share / sum(sizes)


def shard(n: int, rank: int, world: int, epoch: int, seed: int) -> Int[Tensor, "share"]:
    """One rank's indices: one permutation for all ranks, padded from its own beginning, dealt out like cards."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
    share = -(-n // world)
    rounds = -(-share * world // n)
    return order.repeat(rounds)[: share * world][rank::world]


@torch.no_grad()
def broadcast_params(model: nn.Module) -> None:
    """Parameters and buffers become those of rank 0, in place."""
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor, src=0)


@torch.no_grad()
def average_gradients(model: nn.Module) -> None:
    """Every gradient becomes the mean over the ranks; one that a rank does not have counts as zero."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def accumulate_no_sync(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
    average: Callable[[nn.Module], None],
) -> float:
    """The gradient of the mean over all examples of all micro batches, averaged over the ranks once, at the end."""
    model.zero_grad()
    examples = sum(len(x) for x, _ in batches)
    total = 0.0
    for x, y in batches:
        part = loss(model(x), y) * (len(x) / examples)
        part.backward()
        total += part.item()
    average(model)
    return total
