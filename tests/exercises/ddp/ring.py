"""Right answers in other styles, and lazy or cheating ones, for the exercises of ddp/02_ring."""

import itertools
import math

import torch


def chunks_by_slices(x, world):
    ends = [i * (len(x) // world) + min(i, len(x) % world) for i in range(world + 1)]
    return [x[a:b] for a, b in itertools.pairwise(ends)]


def chunks_in_a_loop(x, world):
    parts, at = [], 0
    for i in range(world):
        size = math.ceil((len(x) - at) / (world - i))
        parts.append(x.narrow(0, at, size))
        at += size
    return tuple(parts)


def reduce_scatter_with_a_counter(parts, rank, world, send, recv):
    right, left, current = (rank + 1) % world, (rank + world - 1) % world, rank
    for _ in range(world - 1):
        work = send(parts[current], right)
        current = (current - 1) % world
        buffer = torch.zeros_like(parts[current])
        recv(buffer, left)
        parts[current].add_(buffer)
        work.wait()
    return current


def reduce_scatter_passing_sums(parts, rank, world, send, recv):
    passed = parts[rank].clone()
    for s in range(1, world):
        index = (rank - s) % world
        incoming = parts[index].clone()
        request = send(passed, (rank + 1) % world)
        recv(incoming, (rank - 1) % world)
        request.wait()
        passed = incoming + parts[index]
    owned = (rank - world + 1) % world
    parts[owned].copy_(passed)
    return torch.tensor(owned)


def all_gather_ring_with_buffers(parts, rank, world, owned, send, recv):
    have = owned
    for _ in range(world - 1):
        need = (have - 1) % world
        buffer = parts[need].clone()
        request = send(parts[have].clone(), (rank + 1) % world)
        recv(buffer, (rank - 1) % world)
        parts[need][:] = buffer
        request.wait()
        have = need


def all_gather_ring_waiting_at_the_end(parts, rank, world, owned, send, recv):
    works = []
    for step in range(world - 1):
        works.append(send(parts[(owned + world - step) % world], (rank + 1) % world))
        recv(parts[(owned + 2 * world - step - 1) % world], (rank - 1) % world)
    for work in works:
        work.wait()


def ring_all_reduce_in_two_phases(x, rank, world, send, recv):
    y = x.clone()
    parts = torch.tensor_split(y, world)
    sent = 0
    current = rank
    for phase in ("add", "copy"):
        for _ in range(world - 1):
            work = send(parts[current], (rank + 1) % world)
            sent += len(parts[current])
            current = (current - 1) % world
            got = torch.empty_like(parts[current])
            recv(got, (rank - 1) % world)
            work.wait()
            parts[current][:] = parts[current] + got if phase == "add" else got
    return y, sent


def ring_all_reduce_of_a_list(x, rank, world, send, recv):
    parts = [part.clone() for part in x.tensor_split(world)]
    sizes = []
    for step in range(2 * world - 2):
        i, j = (rank - step) % world, (rank - step - 1) % world
        got = torch.zeros_like(parts[j])
        request = send(parts[i], (rank + 1) % world)
        recv(got, (rank - 1) % world)
        request.wait()
        sizes.append(parts[i].numel())
        parts[j] = parts[j] + got if step < world - 1 else got
    return [torch.cat(parts), sum(sizes)]


def all_reduce_time_by_cases(method, world, size, latency, bandwidth):
    one = latency + size / bandwidth
    if method == "tree":
        depth = 0
        while 2**depth < world:
            depth += 1
        return 2 * depth * one
    if method == "server":
        return sum(one for _ in range(world - 1)) * 2
    return 2 * (world - 1) * latency + 2 * (world - 1) * size / (world * bandwidth)


def all_reduce_time_in_tensors(method, world, size, latency, bandwidth):
    messages = {"ring": 2 * (world - 1), "server": 2 * (world - 1), "tree": 2 * (world - 1).bit_length()}[
        method
    ]
    length = size / world if method == "ring" else size
    return torch.tensor(messages * (latency + length / bandwidth), dtype=torch.float64)


def crossing_bytes_from_lines(world, latency, bandwidth):
    depth = (world - 1).bit_length()
    ring, tree = (2 * (world - 1), 2 * (world - 1) / world), (2 * depth, 2 * depth)
    return (ring[0] - tree[0]) * latency / ((tree[1] - ring[1]) / bandwidth)


def crossing_bytes_by_bisection(world, latency, bandwidth):
    def difference(size):
        ring = all_reduce_time_by_cases("ring", world, size, latency, bandwidth)
        return ring - all_reduce_time_by_cases("tree", world, size, latency, bandwidth)

    low, high = 0.0, 1e12
    if difference(1e-6) <= 0:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(middle) > 0 else (low, middle)
    return low


RIGHT = {
    "chunks": [chunks_by_slices, chunks_in_a_loop],
    "reduce_scatter": [reduce_scatter_with_a_counter, reduce_scatter_passing_sums],
    "all_gather_ring": [all_gather_ring_with_buffers, all_gather_ring_waiting_at_the_end],
    "ring_all_reduce": [ring_all_reduce_in_two_phases, ring_all_reduce_of_a_list],
    "all_reduce_time": [all_reduce_time_by_cases, all_reduce_time_in_tensors],
    "crossing_bytes": [crossing_bytes_from_lines, crossing_bytes_by_bisection],
}

LAZY = {
    "chunks": [
        lambda x, world: list(x.tensor_split(world)),
        lambda x, world: [x] * world,
        lambda x, world: [],
        lambda x, world: None,
    ],
    "reduce_scatter": [
        lambda parts, rank, world, send, recv: (rank + 1) % world,
        lambda parts, rank, world, send, recv: None,
        lambda parts, rank, world, send, recv: [part.mul_(world) for part in parts] and (rank + 1) % world,
    ],
    "all_gather_ring": [
        lambda parts, rank, world, owned, send, recv: None,
        lambda parts, rank, world, owned, send, recv: [part.copy_(parts[owned]) for part in parts],
    ],
    "ring_all_reduce": [
        lambda x, rank, world, send, recv: (x * world, 0),
        lambda x, rank, world, send, recv: x,
        lambda x, rank, world, send, recv: None,
    ],
    "all_reduce_time": [
        lambda method, world, size, latency, bandwidth: 0.0,
        lambda method, world, size, latency, bandwidth: latency + size / bandwidth,
        lambda method, world, size, latency, bandwidth: None,
    ],
    "crossing_bytes": [
        lambda world, latency, bandwidth: 0.0,
        lambda world, latency, bandwidth: latency * bandwidth,
        lambda world, latency, bandwidth: None,
    ],
}
