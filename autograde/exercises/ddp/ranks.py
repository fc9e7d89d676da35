"""Ranks for the probes of this series: threads with a real group, and the learner's own error where one fails."""

from __future__ import annotations

import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from utils.distributed import Deadlock, RankError, run_ranks, traffic

SECONDS = 6.0
"""A probe takes a few hundredths of a second. Only ranks that wait for a message which nobody sends come to this limit."""
NAMES = {
    "allreduce": "all_reduce",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "allgather": "all_gather",
    "_allgather_base": "all_gather_into_tensor",
    "allreduce_coalesced": "all_reduce_coalesced",
    "gather": "gather",
    "scatter": "scatter",
    "barrier": "barrier",
}
"""The calls of a group in which every rank has to take part, and what they are called in torch.distributed."""
SAME_SIZE = ("allreduce", "broadcast", "reduce", "allgather")


class Mismatch(RuntimeError):
    """The ranks' calls do not belong together."""


class Agreement:
    """Compares the ranks' calls as they are made.

    gloo ends the whole process where sizes differ, and waits where a call is missing. Collectives belong together by their order, so a
    rank that returns after fewer calls than another one has made is a deadlock: that is known without waiting for it.
    """

    def __init__(self, world: int) -> None:
        self.lock = threading.Lock()
        self.calls: list[tuple[str, int]] = []
        self.made = [0] * world
        self.returned: set[int] = set()

    def watch(self, rank: int) -> None:
        """Look at all collective calls of this thread's group from now on."""
        group: Any = dist.group.WORLD
        for name in NAMES:
            setattr(group, name, self._checked(name, weakref.ref(group), rank))

    def _checked(self, name: str, group: Callable[[], Any], rank: int) -> Callable[..., Any]:
        """A collective that is compared with those of the other ranks first. It does not keep its group alive."""

        def compared(*arguments: Any, **named: Any) -> Any:
            size = _numbers(arguments[:1]) if name in SAME_SIZE else 0
            with self.lock:
                self._count(rank, (NAMES[name], size))
            owner = group()
            return getattr(type(owner), name)(owner, *arguments, **named)

        return compared

    def _count(self, rank: int, call: tuple[str, int]) -> None:
        number = self.made[rank]
        self.made[rank] += 1
        if number == len(self.calls):
            self.calls.append(call)
        if self.calls[number] != call:
            (ours, size), (theirs, other) = call, self.calls[number]
            raise Mismatch(
                f"Call {number + 1} of rank {rank} is {ours} with {size} numbers, and another rank's is {theirs} with {other}. "
                "All ranks have to make the same calls in the same order."
            )
        gone = [other for other in self.returned if self.made[other] <= number]
        if gone:
            raise self._deadlock(rank, gone[0])

    def leave(self, rank: int) -> None:
        """A rank has returned, and makes no more calls."""
        with self.lock:
            self.returned.add(rank)
            most = max(range(len(self.made)), key=self.made.__getitem__)
            if self.made[most] > self.made[rank]:
                raise self._deadlock(most, rank)

    def _deadlock(self, waiting: int, gone: int) -> Deadlock:
        made, number = self.made[gone], self.made[waiting]
        return Deadlock(
            f"Rank {waiting} was waiting in {self.calls[number - 1][0]}, its call {number} of torch.distributed. "
            f"Rank {gone} had returned after {made}. A collective ends only when every rank has called it."
        )


def _numbers(value: Any) -> int:
    return sum(t.numel() for t in torch.utils._pytree.tree_leaves(value))


def in_ranks(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """What ``work(rank, world)`` returns on each rank. The first error of a rank comes out as it was raised there.

    An error's frames may hold the rank's group, whose end tells the other ranks not to wait. So none is kept that need not be.

    Raises:
        Deadlock: the ranks wait for each other.
    """
    first: list[BaseException] = []
    agreement = Agreement(world)

    def guarded(rank: int, world: int) -> Any:
        try:
            agreement.watch(rank)
            result = work(rank, world)
            agreement.leave(rank)
            return result
        except BaseException as error:
            if not first:
                first.append(error)
            traceback.clear_frames(error.__traceback__)
            raise

    try:
        return run_ranks(guarded, world, seconds=SECONDS)
    except Deadlock:
        raise
    except RankError:
        raise first[0] from None
    finally:
        first.clear()


def calls_and_bytes() -> tuple[int, int]:
    """How often this rank has called its group, without barriers, and the bytes that it handed over."""
    asked = [message for message in traffic().messages if "barrier" not in message.operation]
    return len(asked), sum(message.bytes for message in asked)
