"""Whether the meters in a notebook's process are still what they were, and whether work was done where they see it.

Counters (calls, operators, bytes) are read in the process that they measure. Somebody who knows how can escape them; what
can be seen cheaply is seen here, and the docs for instructors say what cannot.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Iterator
from types import FunctionType, ModuleType, TracebackType
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from autograde import frames, meters, modes, observe, probes, values, wire

ELSEWHERE = {
    "_thread.start_new_thread": "started a thread",
    "_thread.start_joinable_thread": "started a thread",  # from Python 3.13 on
    "os.fork": "started a process",
    "os.posix_spawn": "started a process",
    "subprocess.Popen": "started a process",
}
"""Audit events of Python that say that work leaves the thread in which the meters are."""


class Seal:
    """The functions and methods that make observations, as they were before a notebook ran."""

    def __init__(self, *more: ModuleType) -> None:
        modules = (frames, meters, modes, observe, probes, values, wire, *more)
        places: list[Any] = [*modules, TorchDispatchMode, TorchFunctionMode]
        places += [cls for module in modules for cls in vars(module).values() if _own_class(cls, module)]
        self._places = [(place, _parts(place)) for place in places]

    def broken(self) -> str:
        """One sentence about the first part that is not what it was; empty when all is well."""
        for place, known in self._places:
            now = vars(place)
            for name, (part, code) in known.items():
                if now.get(name) is not part or getattr(part, "__code__", None) is not code:
                    return f"{getattr(place, '__name__', place)}.{name} was replaced."
        return ""


def _own_class(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__


def _parts(place: Any) -> dict[str, tuple[Any, Any]]:
    """Functions, methods and classes by name, with their code."""
    kinds = (FunctionType, type, classmethod, staticmethod, property)
    found = {name: part for name, part in vars(place).items() if isinstance(part, kinds)}
    return {name: (part, getattr(part, "__code__", None)) for name, part in found.items()}


class Alone:
    """While it is entered, notes whether work leaves this thread; ``left`` is a sentence then.

    A progress bar of tqdm's starts a thread that only watches the clock; that one is allowed.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self.left = ""

    def __enter__(self) -> Alone:
        if self._wanted:
            listen()
            _NOW.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self in _NOW:
            _NOW.remove(self)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event."""
        if not (event.startswith("_thread.") and _is_monitor(arguments)):
            self.left = f"While it was measured, your function {ELSEWHERE[event]}. The meters do not see what is done there."


_NOW: list[Alone] = []
_INSTALLED: list[bool] = []


def listen() -> None:
    """Hear of new threads and processes. Audit hooks cannot be taken away again, so there is one for good."""
    if not _INSTALLED:
        _INSTALLED.append(True)
        sys.addaudithook(_hear)
        if sys.version_info < (3, 12):
            _tell_of_threads()


def _tell_of_threads() -> None:
    """Python 3.11 raises no audit event when a thread is started, so that is done here."""
    start = _thread.start_new_thread

    def start_new_thread(function: Any, *arguments: Any) -> int:
        sys.audit("_thread.start_new_thread", function, *arguments)
        return start(function, *arguments)

    for place, name in (
        (_thread, "start_new_thread"),
        (_thread, "start_new"),
        (threading, "_start_new_thread"),
    ):
        setattr(place, name, start_new_thread)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _NOW and event in ELSEWHERE:
        for alone in _entered():
            alone.note(event, arguments)


def _entered() -> Iterator[Alone]:
    yield from list(_NOW)


def _is_monitor(arguments: tuple[Any, ...]) -> bool:
    monitor = getattr(sys.modules.get("tqdm._monitor"), "TMonitor", None)
    owner = getattr(arguments[0], "__self__", None) if arguments else None
    return monitor is not None and type(owner) is monitor and isinstance(owner, threading.Thread)
