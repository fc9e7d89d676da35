"""A network in memory for the exercises on the ring: it counts, and it knows at once when all ranks wait for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SECONDS = 8.0


class Stuck(RuntimeError):
    """Every rank waits for something that no rank will do."""


class _Ended(BaseException):
    """Another rank has failed; this one ends without a word."""


class Network:
    """Ranks that are threads. `send` starts a message as `dist.isend` does, `recv` waits for one as `dist.recv` does.

    A request ends only when the other rank has received, as it is for large messages on a real network.
    """

    def __init__(self, world: int) -> None:
        self.world = world
        self.changed = threading.Condition()
        self.boxes: dict[tuple[int, int], list[Request]] = {}
        self.waiting: dict[int, tuple[Callable[[], bool], str]] = {}
        self.running = world
        self.over = ""
        self.errors: list[BaseException] = []
        self.messages, self.elements = [0] * world, [0] * world
        self.elsewhere, self.forgotten, self.overwritten = [0] * world, [0] * world, [0] * world

    def wait_until(self, rank: int, ready: Callable[[], bool], what: str) -> None:
        """Wait; raise where all ranks do and nothing can happen any more. The caller holds ``changed``."""
        while not ready():
            if self.over:
                raise _Ended
            self.waiting[rank] = ready, what
            if len(self.waiting) == self.running and not any(able() for able, _ in self.waiting.values()):
                lines = [f"rank {r} in {text}" for r, (_, text) in sorted(self.waiting.items())]
                self.over = "No rank can go on: " + ", ".join(lines) + "."
                self.changed.notify_all()
                raise Stuck(self.over)
            self.changed.wait()
            self.waiting.pop(rank, None)

    def run(self, work: Callable[[int, Callable[..., Any], Callable[..., Any]], Any]) -> list[Any]:
        """What ``work(rank, send, recv)`` returns on each rank; the first error of a rank is raised here."""
        results: list[Any] = [None] * self.world

        def rank_thread(rank: int) -> None:
            try:
                results[rank] = work(rank, Sender(self, rank), Receiver(self, rank))
            except _Ended:
                pass
            except BaseException as error:
                self.errors.append(error)
                self.over = self.over or "a rank failed"
            with self.changed:
                self.running -= 1
                self.waiting.pop(rank, None)
                self.changed.notify_all()

        threads = [threading.Thread(target=rank_thread, args=(r,), daemon=True) for r in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        if self.errors:
            raise self.errors[0]
        if any(thread.is_alive() for thread in threads):
            raise Stuck(f"A rank was still running after {SECONDS:g} seconds.")
        for box in self.boxes.values():
            for request in box:
                self.forgotten[request.source] += not request.waited
        return results


class Request:
    """A message on its way."""

    def __init__(self, network: Network, source: int, target: int, tensor: Tensor) -> None:
        self.network, self.source, self.target = network, source, target
        self.tensor, self.content = tensor, tensor.detach().clone()
        self.received = self.waited = False

    def wait(self) -> None:
        """Wait until the other rank has received it."""
        with self.network.changed:
            if not self.waited:
                self.waited = True
                self.network.overwritten[self.source] += not torch.equal(self.tensor, self.content)
            self.network.wait_until(self.source, lambda: self.received, f"wait (send to {self.target})")


class Sender:
    """`send` of one rank."""

    def __init__(self, network: Network, rank: int) -> None:
        self.network, self.rank = network, rank

    def __call__(self, tensor: Tensor, dst: int) -> Request:
        network = self.network
        if not 0 <= int(dst) < network.world or dst == self.rank:
            raise ValueError(f"Rank {self.rank} of {network.world} cannot send to rank {dst}.")
        with network.changed:
            request = Request(network, self.rank, int(dst), tensor)
            network.boxes.setdefault((self.rank, int(dst)), []).append(request)
            network.messages[self.rank] += 1
            network.elements[self.rank] += tensor.numel()
            network.elsewhere[self.rank] += dst != (self.rank + 1) % network.world
            network.changed.notify_all()
        return request


class Receiver:
    """`recv` of one rank."""

    def __init__(self, network: Network, rank: int) -> None:
        self.network, self.rank = network, rank

    def __call__(self, tensor: Tensor, src: int) -> int:
        network = self.network
        if not 0 <= int(src) < network.world or src == self.rank:
            raise ValueError(f"Rank {self.rank} of {network.world} cannot receive from rank {src}.")
        with network.changed:
            box = network.boxes.setdefault((int(src), self.rank), [])
            network.wait_until(self.rank, lambda: any(not m.received for m in box), f"recv (from {src})")
            message = next(m for m in box if not m.received)
            if message.content.numel() != tensor.numel() or message.content.dtype != tensor.dtype:
                raise ValueError(
                    f"Rank {self.rank} receives {message.content.numel()} numbers ({message.content.dtype}) from rank {src} "
                    f"into a tensor of {tensor.numel()} ({tensor.dtype})."
                )
            tensor.detach().copy_(message.content.view(tensor.shape))
            message.received = True
            network.changed.notify_all()
        return int(src)


def costs(network: Network) -> dict[str, int]:
    """What the rank that paid most has paid, and what must not happen at all."""
    return {
        "messages": max(network.messages),
        "numbers sent": max(network.elements),
        "messages to another rank than rank + 1": max(network.elsewhere),
        "sends that nobody waited for": max(network.forgotten),
        "buffers changed while they were sent": max(network.overwritten),
    }
