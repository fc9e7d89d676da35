"""Buckets against DistributedDataParallel, order and time of the launches against simulations."""

import itertools
import random

import pytest
import torch
from torch import nn

from utils.distributed import run_ranks, traffic
from utils.reference.ddp import average_gradients, launch_bucket, make_buckets, on_grad_ready, timeline


def model():
    """The same on every rank. torch.manual_seed is for the whole process, and ranks may be threads of it."""
    net = nn.Sequential(*(nn.Linear(6, 6, dtype=torch.float64) for _ in range(5)))
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        nn.init.uniform_(p, -0.5, 0.5, generator=generator)
    net[2].bias.requires_grad_(False)
    return net


def parameters(*sizes, dtype=torch.float32):
    return [nn.Parameter(torch.zeros(size, dtype=dtype)) for size in sizes]


def test_buckets_by_hand():
    assert make_buckets(parameters(10, 20, 30, 5), 140) == [[3, 2], [1, 0]]
    assert make_buckets(parameters(100, 1, 1), 40) == [[2, 1], [0]]
    assert make_buckets(parameters(1, 100, 1), 40) == [[2], [1], [0]]
    assert make_buckets([*parameters(1), *parameters(1, dtype=torch.float64)], 1000) == [[1], [0]]
    assert make_buckets(parameters(10), 40) == [[0]]
    assert make_buckets([], 40) == []


def test_buckets_are_the_longest_possible():
    for seed in range(50):
        source = random.Random(seed)
        sizes = [source.randint(1, 40) for _ in range(source.randint(1, 12))]
        cap = 4 * source.randint(1, 60)
        buckets = make_buckets(parameters(*sizes), cap)
        assert list(itertools.chain(*buckets)) == list(reversed(range(len(sizes))))
        for bucket, after in itertools.pairwise([*buckets, None]):
            total = 4 * sum(sizes[i] for i in bucket)
            assert total <= cap or len(bucket) == 1
            assert after is None or total + 4 * sizes[after[0]] > cap


def overlapped(rank, world):
    net, other = model(), model()
    positions = list(net.parameters())
    buckets = [[positions[i] for i in bucket] for bucket in make_buckets(positions, 400)]
    waiting = []
    rest = on_grad_ready(buckets, lambda k: waiting.append(launch_bucket(buckets[k])))
    seen = []
    positions[0].register_post_accumulate_grad_hook(lambda _: seen.append(traffic().count("allreduce")))
    for step in range(3):
        x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(10 * step + rank))
        skipped = net[:3] if rank == 1 and step == 1 else net  # two layers are unused on rank 1
        same = other[:3] if rank == 1 and step == 1 else other
        for m in (net, other):
            m.zero_grad()
        skipped(x).square().mean().backward()
        rest()
        for finish in waiting:
            finish()
        waiting.clear()
        same(x).square().mean().backward()
        average_gradients(other)
        for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            if ours.grad is not None:
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-15)
    return seen, len(buckets)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_overlapped_means_are_those_of_average_gradients(world):
    for seen, buckets in run_ranks(overlapped, world):
        assert buckets >= 4
        assert seen[0] >= buckets - 1  # all but the last were launched before the first layer's gradient


def test_buckets_are_launched_in_order_whatever_is_used():
    for used in ((0, 1, 2), (0, 2), (1, 2), (0,), ()):
        layers = [nn.Linear(2, 2, bias=False) for _ in range(3)]
        launched = []
        rest = on_grad_ready([[layer.weight] for layer in reversed(layers)], launched.append)
        for _ in range(2):
            x = torch.ones(1, 2, requires_grad=True)
            for k in used:
                x = layers[k](x)
            x.sum().backward()
            rest()
        assert launched == [0, 1, 2] * 2


def test_timeline_by_simulation():
    """Clock ticks: one backward pass, one link, buckets in order."""
    for seed in range(100):
        source = random.Random(seed)
        n = source.randint(0, 6)
        compute, comm = ([source.randint(0, 5) for _ in range(n)] for _ in range(2))
        done, sent, left, now = 0, 0, list(comm), 0
        ready_at = list(itertools.accumulate(compute))
        while sent < n:
            while done < n and ready_at[done] <= now:
                done += 1
            if sent < done and left[sent] == 0:
                sent += 1
                continue
            if sent < done:
                left[sent] -= 1
            now += 1
        assert timeline(compute, comm) == (now if n else 0)
