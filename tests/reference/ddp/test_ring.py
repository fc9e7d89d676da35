"""The ring against gloo's all-reduce, its traffic against the count of a real group, its time against a simulation."""

import math

import pytest
import torch
import torch.distributed as dist

from utils.distributed import run_ranks, traffic
from utils.reference.ddp import (
    all_gather_ring,
    all_reduce_time,
    chunks,
    crossing_bytes,
    reduce_scatter,
    ring_all_reduce,
)


@pytest.mark.parametrize(("n", "world"), [(12, 4), (13, 4), (3, 5), (1, 1), (0, 2), (1003, 4)])
def test_chunks_are_views_of_even_length(n, world):
    x = torch.randn(n, dtype=torch.float64)
    parts = chunks(x, world)
    for ours, theirs in zip(parts, x.tensor_split(world), strict=True):
        assert ours.data_ptr() == theirs.data_ptr() or not len(ours)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("n", "world", "processes"),
    [(1003, 2, False), (1003, 4, False), (2, 3, False), (5, 1, False), (1003, 4, True)],
    ids=str,
)
def test_the_ring_is_gloos_all_reduce(n, world, processes):
    def work(rank, world):
        x = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))
        library = x.clone()
        dist.all_reduce(library)
        before = x.clone()
        total, sent = ring_all_reduce(x, rank, world, dist.isend, dist.recv)
        assert torch.equal(x, before)
        return total, library, sent, None if processes else traffic().sent()

    results = run_ranks(work, world, processes=processes)
    for total, library, sent, measured in results:
        torch.testing.assert_close(total, library)
        assert torch.equal(total, results[0][0])  # the same bits everywhere
        assert measured is None or measured == 8 * sent
        assert abs(sent - 2 * (world - 1) / world * n) <= 2


def test_the_two_phases():
    def work(rank, world):
        x = torch.randn(11, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))
        library = x.clone()
        dist.all_reduce(library)
        parts = chunks(x, world)
        owned = reduce_scatter(parts, rank, world, dist.isend, dist.recv)
        torch.testing.assert_close(parts[owned], chunks(library, world)[owned])
        all_gather_ring(parts, rank, world, owned, dist.isend, dist.recv)
        return x, library

    for ours, library in run_ranks(work, 3):
        torch.testing.assert_close(ours, library)


def simulated(method, world, size, latency, bandwidth):
    """Messages of an all-reduce, one after the other for each rank that sends and for each that receives.

    A message that rank a sends to b starts when a's earlier sends, b's earlier receives and what it depends on are over.
    """
    sends, receives, known = [0.0] * world, [0.0] * world, [0.0] * world

    def message(a, b, length):
        start = max(sends[a], receives[b], known[a])
        end = start + latency + length / bandwidth
        sends[a] = receives[b] = end
        return b, end

    def together(pairs, length):
        for b, end in [message(a, b, length) for a, b in pairs]:
            known[b] = max(known[b], end)

    if method == "ring":
        for _ in range(2 * (world - 1)):
            together([(r, (r + 1) % world) for r in range(world)], size / world)
    elif method == "server":
        for r in range(1, world):
            together([(r, 0)], size)
        for r in range(1, world):
            together([(0, r)], size)
    else:
        strides = [2**k for k in range(math.ceil(math.log2(world)))]
        for s in strides:
            together([(r + s, r) for r in range(0, world, 2 * s) if r + s < world], size)
        for s in reversed(strides):
            together([(r, r + s) for r in range(0, world, 2 * s) if r + s < world], size)
    return max(known)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 5, 8, 13, 64])
@pytest.mark.parametrize("method", ["ring", "tree", "server"])
def test_the_time_is_that_of_a_simulation(method, world):
    for size, latency, bandwidth in ((4e6, 1e-5, 1e9), (100.0, 1e-3, 1e9), (0.0, 1.0, 1.0)):
        expected = simulated(method, world, size, latency, bandwidth)
        assert all_reduce_time(method, world, size, latency, bandwidth) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("world", [2, 3, 4, 5, 8, 9, 100])
def test_at_the_crossing_both_take_the_same_time(world):
    size = crossing_bytes(world, 1e-5, 1e9)
    ring, tree = (all_reduce_time(method, world, size, 1e-5, 1e9) for method in ("ring", "tree"))
    assert ring == pytest.approx(tree, rel=1e-9)
    assert all_reduce_time("ring", world, size + 1e4, 1e-5, 1e9) < all_reduce_time(
        "tree", world, size + 1e4, 1e-5, 1e9
    )
