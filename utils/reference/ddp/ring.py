"""The ring all-reduce of Patarasuk and Yuan (2009), and what it costs beside a tree and a parameter server."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def chunks(x: Float[Tensor, "n"], world: int) -> list[Float[Tensor, "part"]]:
    """n numbers as `world` views, whose lengths differ by at most one; the longer ones come first."""
    short, longer = divmod(len(x), world)
    sizes = [short + (i < longer) for i in range(world)]
    return list(x.split(sizes))


def reduce_scatter(
    parts: list[Float[Tensor, "part"]],
    rank: int,
    world: int,
    send: Callable[[Tensor, int], Any],
    recv: Callable[[Tensor, int], Any],
) -> int:
    """After N - 1 steps one part holds the sum over the ranks. In step s, part rank - s goes on to the right."""
    for step in range(world - 1):
        outgoing, incoming = parts[(rank - step) % world], parts[(rank - step - 1) % world]
        received = torch.empty_like(incoming)
        request = send(outgoing, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        incoming += received
    return (rank + 1) % world


def all_gather_ring(
    parts: list[Float[Tensor, "part"]],
    rank: int,
    world: int,
    owned: int,
    send: Callable[[Tensor, int], Any],
    recv: Callable[[Tensor, int], Any],
) -> None:
    """Each rank starts with one part that is right, and ends with all of them: what has come last goes on."""
    for step in range(world - 1):
        request = send(parts[(owned - step) % world], (rank + 1) % world)
        recv(parts[(owned - step - 1) % world], (rank - 1) % world)
        request.wait()


def ring_all_reduce(
    x: Float[Tensor, "n"],
    rank: int,
    world: int,
    send: Callable[[Tensor, int], Any],
    recv: Callable[[Tensor, int], Any],
) -> tuple[Float[Tensor, "n"], int]:
    """The sum over the ranks, and how many numbers this rank sent: 2 (N - 1) of its N parts, n / N numbers each."""
    total, sent = x.clone(), 0
    parts = total.tensor_split(world)
    for step in range(2 * (world - 1)):
        outgoing, incoming = parts[(rank - step) % world], parts[(rank - step - 1) % world]
        received = torch.empty_like(incoming)
        request = send(outgoing, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        sent += outgoing.numel()
        if step < world - 1:
            incoming += received
        else:
            incoming.copy_(received)
    return total, sent


def all_reduce_time(method: str, world: int, size: float, latency: float, bandwidth: float) -> float:
    """Seconds for an all-reduce of `size` bytes, where a message of b bytes takes latency + b / bandwidth.

    A rank sends one message and receives one at a time. ring: 2 (N - 1) messages of size / N. tree: ceil(log2 N)
    messages of size up, as many down. server: N - 1 messages of size in, one after the other, N - 1 out.
    """
    if method == "ring":
        messages, length = 2 * (world - 1), size / world
    elif method == "tree":
        messages, length = 2 * math.ceil(math.log2(world)), size
    else:
        messages, length = 2 * (world - 1), size
    return messages * (latency + length / bandwidth)


def crossing_bytes(world: int, latency: float, bandwidth: float) -> float:
    """Above this size the ring is faster than the tree: L B (N - 1 - D) / (D - (N - 1) / N), D = ceil(log2 N)."""
    depth = math.ceil(math.log2(world))
    return latency * bandwidth * (world - 1 - depth) / (depth - (world - 1) / world)
