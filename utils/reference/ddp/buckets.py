"""All-reduces that run while the backward pass does: section 3.2 and section 4 of Li et al. (2020), arXiv 2006.15704."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn


def make_buckets(parameters: list[nn.Parameter], cap_bytes: int) -> list[list[int]]:
    """Positions of the trainable parameters, last one first, in buckets of at most cap_bytes and one dtype each."""
    buckets: list[list[int]] = []
    filled, dtype = 0, None
    for i in reversed(range(len(parameters))):
        parameter = parameters[i]
        if parameter.requires_grad:
            size = parameter.numel() * parameter.element_size()
            if not buckets or filled + size > cap_bytes or parameter.dtype != dtype:
                buckets.append([])
                filled, dtype = 0, parameter.dtype
            buckets[-1].append(i)
            filled += size
    return buckets


@torch.no_grad()
def launch_bucket(bucket: list[nn.Parameter]) -> Callable[[], None]:
    """Start the sum of a bucket's gradients over the ranks; what is returned waits for it and writes the means back."""
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    flat = torch.cat([piece.flatten() for piece in pieces])
    work = dist.all_reduce(flat, async_op=True)

    def finish() -> None:
        work.wait()
        flat.div_(dist.get_world_size())
        means = flat.split([p.numel() for p in bucket])
        for parameter, mean in zip(bucket, means, strict=True):
            parameter.grad = mean.view_as(parameter)

    return finish


def on_grad_ready(buckets: list[list[nn.Parameter]], launch: Callable[[int], None]) -> Callable[[], None]:
    """Hooks that launch bucket k as soon as all gradients of the buckets 0 to k are there; `rest` launches the others."""
    missing = [len(bucket) for bucket in buckets]
    following = 0

    def ready(k: int) -> None:
        nonlocal following
        missing[k] -= 1
        while following < len(buckets) and missing[following] == 0:
            launch(following)
            following += 1

    for k, bucket in enumerate(buckets):
        for parameter in bucket:
            parameter.register_post_accumulate_grad_hook(lambda _, k=k: ready(k))

    def rest() -> None:
        nonlocal following
        for k in range(following, len(buckets)):
            launch(k)
        following = 0
        missing[:] = [len(bucket) for bucket in buckets]

    return rest


def timeline(compute: list[float], comm: list[float]) -> float:
    """When the last all-reduce ends: each waits for its gradients and for the all-reduce before it."""
    ready = end = 0.0
    for backward, reduce in zip(compute, comm, strict=True):
        ready += backward
        end = max(ready, end) + reduce
    return end
