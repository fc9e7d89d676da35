"""Ranks for the probes of this series: threads with a real group, and the learner's own error where one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from utils.distributed import Deadlock, RankError, run_ranks, traffic

SECONDS = 0.6
"""A probe takes a few hundredths of a second; a rank that waits longer than this waits for ever, if the processor was there for it."""
PATIENCE = 5.0
"""The limit when the ranks had not waited but worked, or the machine was busy with something else."""
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


class Idle:
    """Tells whether the threads of this process have waited for each other, not for the processor.

    While it is entered, a thread looks at the clock every few milliseconds. Where it had to wait for its own turn, so had the others.
    """

    TICK = 0.01
    GAP = 0.15
    """Seconds between two looks at the clock after which the machine counts as busy."""

    def __enter__(self) -> Idle:
        self._over = threading.Event()
        self._longest = 0.0
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self.TICK):
            now = time.monotonic()
            self._longest, before = max(self._longest, now - before), now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._busy = (time.process_time() - self._cpu) / (time.monotonic() - self._wall)

    def __bool__(self) -> bool:
        return self._longest < self.GAP and self._busy < 0.3


def in_ranks(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """What ``work(rank, world)`` returns on each rank. The first error of a rank comes out as it was raised there.

    Raises:
        Deadlock: the ranks wait for each other. On a busy machine it is tried once more, with a longer limit.
    """
    idle = Idle()
    try:
        with idle:
            return _in_ranks(work, world, SECONDS)
    except Deadlock:
        if idle:
            raise
    return _in_ranks(work, world, PATIENCE)


def _in_ranks(work: Callable[[int, int], Any], world: int, seconds: float) -> list[Any]:
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
        return run_ranks(guarded, world, seconds=seconds)
    except Deadlock:
        raise
    except RankError:
        raise errors[0] from None


def calls_and_bytes() -> tuple[int, int]:
    """How often this rank has called its group, without barriers, and the bytes that it handed over."""
    asked = [message for message in traffic().messages if "barrier" not in message.operation]
    return len(asked), sum(message.bytes for message in asked)
