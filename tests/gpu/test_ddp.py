"""The functions of the series ddp with NCCL: as many ranks as there are GPUs, at least a world of one."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from utils.distributed import run_ranks
from utils.reference.ddp import (
    average_gradients,
    broadcast_params,
    launch_bucket,
    make_buckets,
    on_grad_ready,
    ring_all_reduce,
    sync_bn_stats,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or not dist.is_nccl_available(),
        reason="this machine has no NVIDIA GPU that torch can use with NCCL",
    ),
]


def on_gpus(work):
    return run_ranks(work, torch.cuda.device_count(), processes=True, seconds=60, backend="nccl")


def network(seed):
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        nn.init.uniform_(p, -0.5, 0.5, generator=generator)
    return net.double().cuda()


def batch(rank):
    return torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(rank)).cuda()


def gradients(rank, world):
    """Those of torch's own class, of average_gradients, and with buckets and hooks."""
    ours = network(seed=rank)
    broadcast_params(ours)
    bucketed = copy.deepcopy(ours)
    theirs = DistributedDataParallel(copy.deepcopy(ours), device_ids=[rank])
    parameters = list(bucketed.parameters())
    buckets = [[parameters[i] for i in bucket] for bucket in make_buckets(parameters, 600)]
    finishes = []
    rest = on_grad_ready(buckets, lambda k: finishes.append(launch_bucket(buckets[k])))
    for model in (ours, bucketed, theirs):
        model(batch(rank)).square().mean().backward()
    rest()
    for finish in finishes:
        finish()
    average_gradients(ours)
    return [[p.grad.cpu() for p in model.parameters()] for model in (theirs.module, ours, bucketed)]


def test_gradients_are_those_of_torchs_own_class():
    for theirs, *others in on_gpus(gradients):
        for ours in others:
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_statistics_are_those_of_the_whole_batch():
    def work(rank, world):
        mean, variance = sync_bn_stats(batch(rank))
        return mean.cpu(), variance.cpu()

    whole = torch.cat([batch(rank) for rank in range(torch.cuda.device_count())]).cpu()
    for mean, variance in on_gpus(work):
        torch.testing.assert_close(mean, whole.mean(0))
        torch.testing.assert_close(variance, whole.var(0, correction=0))


def test_the_ring_is_nccls_all_reduce():
    def work(rank, world):
        x = torch.randn(1003, dtype=torch.float64, generator=torch.Generator().manual_seed(rank)).cuda()
        library = x.clone()
        dist.all_reduce(library)
        total, _ = ring_all_reduce(x, rank, world, dist.isend, dist.recv)
        return total.cpu(), library.cpu()

    for total, library in on_gpus(work):
        torch.testing.assert_close(total, library)
