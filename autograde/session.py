"""The other end of ``autograde.student``: runs cells in a process, looks at functions, ends it in time."""

from __future__ import annotations

import contextlib
import importlib
import json
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cloudpickle
from torch import Tensor

from autograde import course, process
from autograde.frames import Broken, receive, send
from autograde.observe import Inputs, Lost, Observation, Probe, Raised, Stopped
from autograde.process import Plain, Start
from autograde.wire import Malformed, decode

START = 60.0
MAX_REPLY = 40_000_000
"""Bytes of a reply that holds outputs; one that holds tensors may be larger, as ``wire`` allows."""
MAX_LOOK = 300_000_000
OUT_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory", "std::bad_alloc")


@dataclass(frozen=True)
class CellRun:
    """What one cell showed, in notebook format, and what stopped it."""

    outputs: tuple[dict[str, Any], ...] = ()
    raised: Raised | None = None


class Session:
    """One process in which one notebook runs. Use it as a context manager; afterwards the process is gone.

    Args:
        folder: the working directory, or the files to put there.
        topic: whose probes will be sent.
        cell_seconds, look_seconds: time limits of a cell, and of one look at a function.
        start: starts the process; by default one with the caller's rights.
    """

    def __init__(
        self,
        folder: Path,
        topic: str,
        cell_seconds: float = 60.0,
        look_seconds: float = 20.0,
        start: Start = Plain,
    ) -> None:
        self._folder = folder
        self._topic = topic
        self._cell_seconds = cell_seconds
        self._look_seconds = look_seconds
        self._start = start
        self._starting = True

    def __enter__(self) -> Session:
        self._process = self._start(self._folder)
        self._starting = self._process.starting
        self._pipe = self._process.pipe
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.kill()
        self._pipe.close()

    def run(self, source: str) -> CellRun:
        """Run one cell.

        Raises:
            Stopped: it ran out of time or memory, printed without end, or took the process with it.
        """
        parts = self._ask(self._cell_seconds, {"do": "run", "source": source})
        try:
            (text,) = parts
            data = json.loads(text)
            kind, message, frames, not_written = data["raised"] or (None, "", [], False)
            raised = (
                None
                if kind is None
                else Raised(str(kind), str(message), tuple(map(str, frames)), bool(not_written))
            )
            shown = CellRun(tuple(dict(output) for output in data["outputs"]), raised)
            state = data["state"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._nonsense("no result") from None
        self._refuse(state, shown.raised)
        return shown

    def has(self, name: str) -> bool:
        """Whether the notebook has defined ``name``."""
        return self._ask(self._look_seconds, {"do": "has", "name": name}) == [b'{"has": true}']

    def give(self, name: str, function: Callable[..., Any]) -> None:
        """Hand over the reference that the notebook asks for with ``given(name)``.

        Raises:
            Stopped: the process is gone.
        """
        with _by_value("utils.reference"):
            payload = cloudpickle.dumps(function)
        self._ask(self._look_seconds, {"do": "give", "name": name}, payload)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Put files into the working directory.

        Raises:
            Stopped: the process is gone.
        """
        for name, data in files.items():
            self._ask(self._look_seconds, {"do": "put", "name": name}, data)

    def look(
        self, name: str, probe: Probe, inputs: Inputs, watch: tuple[str, ...] = (), alone: bool = False
    ) -> Observation:
        """What a probe observes of a function of the notebook.

        Args:
            alone: refuse work in other threads and processes, which the meters do not see.

        Raises:
            Stopped: it ran out of time or memory, took the process with it, or answered nonsense.
        """
        course.exercises(self._topic)
        with _by_value(f"autograde.exercises.{self._topic}"):
            payload = _probe_bytes(probe), _input_bytes(dict(inputs))
        command = {"do": "look", "name": name, "alone": alone, "watch": watch}
        parts = self._ask(self._look_seconds, command, *payload)
        if len(parts) != 3:
            raise self._nonsense("no observation")
        try:
            state = json.loads(parts[2])["state"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._nonsense("no observation") from None
        try:
            observation = decode(parts[0], parts[1])
        except Malformed as error:
            self._refuse(state, None)
            raise Stopped(
                "malformed", f"What your function returned cannot be used: {error}.", True
            ) from None
        self._refuse(state, observation.raised)
        return observation

    def _nonsense(self, expected: str) -> Stopped:
        """After nonsense on the pipe nothing that follows can be trusted."""
        self._process.kill()
        return Stopped("malformed", f"The process answered something that is {expected}.", False)

    def _refuse(self, state: object, raised: Raised | None) -> None:
        """Turn what the process says of itself into a stop.

        Raises:
            Stopped: it printed too much, was out of memory, or found itself tampered with.
        """
        if not isinstance(state, dict) or not all(isinstance(v, str) for v in state.values()):
            raise self._nonsense("no result")
        if state.get("tampered"):
            raise Stopped("tampered", f"{state['tampered'][:300]}", True)
        if state.get("flooded"):
            raise Stopped("output-limit", state["flooded"][:300], True)
        if raised is not None and (
            raised.kind == "MemoryError" or any(text in raised.message for text in OUT_OF_MEMORY)
        ):
            raise Stopped("oom", "It asked for more memory than there is.", True)

    def _ask(self, seconds: float, command: dict[str, Any], *payload: bytes) -> list[bytes]:
        limit = seconds + (START if self._starting else 0)
        self._starting = False
        if self._pipe.answered(0):
            return self._spoke_first()
        try:
            self._pipe.deadline = time.monotonic() + limit + process.GRACE
            send(self._pipe, json.dumps(command).encode(), *payload)
        except TimeoutError:
            self._process.kill()
            raise Stopped("timeout", "The process does not listen any more.", False) from None
        except OSError:
            raise self._broken() from None
        if not self._pipe.answered(limit):
            self._process.interrupt()
            alive = self._pipe.answered(process.GRACE) and self._drain()
            if not alive:
                self._process.kill()
            raise Stopped("timeout", f"It ran for more than {seconds:.0f} seconds and was stopped.", alive)
        return self._receive(MAX_LOOK if command["do"] == "look" else MAX_REPLY)

    def _spoke_first(self) -> list[bytes]:
        """Something stands in the pipe that nobody asked for: the process is gone, or somebody writes answers by hand."""
        try:
            said = self._pipe.read(1)
        except ConnectionError:
            said = b""  # reset: it ended before it had read everything
        if not said:
            raise self._broken()
        self._process.kill()
        raise Stopped("tampered", "The process answered before it was asked.", False)

    def _drain(self) -> bool:
        try:
            self._receive(MAX_LOOK)
        except Stopped:
            return False
        return True

    def _receive(self, most: int) -> list[bytes]:
        self._pipe.deadline = time.monotonic() + 3 * process.GRACE  # for the rest of an answer that has begun
        try:
            return receive(self._pipe, most)
        except TimeoutError:
            self._process.kill()
            raise Stopped("malformed", "The process stopped in the middle of an answer.", False) from None
        except Broken as broken:
            if broken.by_choice:
                raise self._nonsense("no result") from None
            raise self._broken() from None

    def _broken(self) -> Stopped | Lost:
        verdict, why = self._process.ended()
        return Lost(why) if verdict == "grader-error" else Stopped(verdict, why, False)


_PROBES: dict[int, tuple[Probe, bytes]] = {}


def _probe_bytes(probe: Probe) -> bytes:
    """A probe by value; made once, because collecting what it uses takes milliseconds."""
    if id(probe) not in _PROBES:
        _PROBES[id(probe)] = (
            probe,
            cloudpickle.dumps(probe),
        )  # kept beside it, so that its id is not used again
    return _PROBES[id(probe)][1]


def _input_bytes(inputs: Inputs) -> bytes:
    return pickle.dumps(inputs) if _plain(inputs) else cloudpickle.dumps(inputs)


def _plain(value: Any) -> bool:
    """Whether plain pickle is enough: nothing in a nest is a function or an object of ours."""
    if isinstance(value, dict):
        return all(_plain(item) for item in value.values())
    if type(value) in (list, tuple):
        return all(_plain(item) for item in value)
    return type(value) in (Tensor, bool, int, float, str, type(None))


@contextlib.contextmanager
def _by_value(name: str) -> Iterator[None]:
    """What a module defines travels by value, so that the other process needs nothing of it."""
    module = importlib.import_module(name)
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
