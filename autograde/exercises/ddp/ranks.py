"""Ranks for the probes of this series: threads with a real group, and the learner's own error where one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from utils.distributed import Deadlock, RankError, run_ranks, traffic

SECONDS = 3.0
"""A probe takes a few hundredths of a second; a rank that waits longer than this waits for ever."""


def in_ranks(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """What ``work(rank, world)`` returns on each rank. The first error of a rank comes out as it was raised there."""
    errors: list[BaseException] = []

    def guarded(rank: int, world: int) -> Any:
        try:
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
