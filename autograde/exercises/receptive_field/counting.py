"""A meter for exercises whose answer is a formula: how many lines of Python an answer takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class NoEnd(Exception):
    """More lines than anybody waits for."""


def lines_run(call: Callable[[], Any], most: int = 20_000) -> int:
    """How many lines of Python ``call`` runs, its own calls included; it is stopped after ``most``.

    Every round of a loop counts, also inside a comprehension or a generator.
    """
    return _watched(call, most)[1]


def ended(call: Callable[[], Any], most: int = 50_000) -> Any:
    """What ``call`` returns.

    Raises:
        NoEnd: it ran more than ``most`` lines of Python.
    """
    result, lines = _watched(call, most)
    if lines > most:
        raise NoEnd("your function does not come to an end: is there a loop that nothing stops?")
    return result


def _watched(call: Callable[[], Any], most: int) -> tuple[Any, int]:
    count, result = 0, None

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        if count > most:
            raise NoEnd
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call()
    except NoEnd:
        pass
    finally:
        sys.settrace(before)
    return result, count
