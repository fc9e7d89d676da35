"""Ranks for the probes of this series: threads with a real group, and the learner's own error where one fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from utils.distributed import Deadlock, RankError, run_ranks, traffic

SECONDS = 3.0
"""A probe takes a few hundredths of a second; a rank that waits longer than this waits for ever."""
COLLECTIVES = ("allreduce", "broadcast", "reduce", "allgather")


class Mismatch(RuntimeError):
    """The ranks' calls do not belong together."""


class Agreement:
    """Compares the ranks' calls before gloo does, because gloo ends the whole process where their sizes differ."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: dict[int, tuple[str, int]] = {}

    def watch(self, rank: int) -> None:
        """Look at all collective calls of this thread's group from now on."""
        group: Any = dist.group.WORLD
        made = [0]
        for name in COLLECTIVES:
            setattr(group, name, self.checked(name, getattr(group, name), rank, made))

    def checked(self, name: str, call: Callable[..., Any], rank: int, made: list[int]) -> Callable[..., Any]:
        """A collective that first compares its name and size with those of the other ranks."""

        def compared(tensors: Any, *rest: Any) -> Any:
            size = sum(t.numel() for t in torch.utils._pytree.tree_leaves(tensors))
            with self.lock:
                other = self.calls.setdefault(made[0], (name, size))
                made[0] += 1
            if other != (name, size):
                raise Mismatch(
                    f"Call {made[0]} of rank {rank} is {name} with {size} numbers, and another rank's is {other[0]} with {other[1]}. "
                    "All ranks have to make the same calls in the same order."
                )
            return call(tensors, *rest)

        return compared


def in_ranks(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """What ``work(rank, world)`` returns on each rank. The first error of a rank comes out as it was raised there."""
    errors: list[BaseException] = []
    agreement = Agreement()

    def guarded(rank: int, world: int) -> Any:
        try:
            agreement.watch(rank)
            return work(rank, world)
        except BaseException as error:
            errors.append(error)
            raise

    try:
        return run_ranks(guarded, world, seconds=SECONDS)
    except Deadlock:
        raise
    except RankError:
        raise errors[0] from None


def calls_and_bytes() -> tuple[int, int]:
    """How often this rank has called its group, without barriers, and the bytes that it handed over."""
    asked = [message for message in traffic().messages if "barrier" not in message.operation]
    return len(asked), sum(message.bytes for message in asked)
