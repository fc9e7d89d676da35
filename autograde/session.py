"""The other end of ``autograde.student``: starts the process, runs cells in it, looks at functions, ends it in time."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cloudpickle

from autograde import course
from autograde.frames import Broken, receive, send
from autograde.observe import Inputs, Observation, Probe, Raised, Stopped
from autograde.wire import Malformed, decode

GRACE = 3.0
"""Seconds that an interrupted process has to answer before it is killed."""
START = 60.0
PROGRAM = """
import runpy, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: killed when the process that grades is killed
runpy.run_module("autograde.student", run_name="__main__")
"""
HIDDEN_ENVIRONMENT = (
    "NBGRADER_",
    "JPY_",
    "JUPYTER",
    "IPYTHONDIR",
    "REDERIVE_",
    "PYTHONPATH",
    "PYTHONSTARTUP",
)


@dataclass(frozen=True)
class CellRun:
    """What one cell showed, in notebook format, and what stopped it."""

    outputs: tuple[dict[str, Any], ...] = ()
    raised: Raised | None = None


class Session:
    """One process in which one notebook runs. Use it as a context manager; afterwards the process is gone.

    Args:
        folder: the working directory.
        topic: whose probes will be sent.
        cell_seconds, look_seconds: time limits of a cell, and of one look at a function.
    """

    def __init__(
        self, folder: Path, topic: str, cell_seconds: float = 60.0, look_seconds: float = 20.0
    ) -> None:
        self._folder = folder
        self._topic = topic
        self._cell_seconds = cell_seconds
        self._look_seconds = look_seconds
        self._first = True

    def __enter__(self) -> Session:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(theirs_in), str(theirs_out)],
            cwd=self._folder,
            env=environment(),
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._pipe = _Pipe(ours_in, ours_out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._kill()
        self._pipe.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def run(self, source: str) -> CellRun:
        """Run one cell.

        Raises:
            Stopped: it ran out of time, or took the process with it.
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
            return CellRun(tuple(dict(output) for output in data["outputs"]), raised)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Stopped(
                "malformed", "The process answered something that is no result.", self._gone()
            ) from None

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

    def look(self, name: str, probe: Probe, inputs: Inputs, watch: tuple[str, ...] = ()) -> Observation:
        """What a probe observes of a function of the notebook.

        Raises:
            Stopped: it ran out of time, took the process with it, or answered nonsense.
        """
        course.exercises(self._topic)
        with _by_value(f"autograde.exercises.{self._topic}"):
            payload = cloudpickle.dumps((probe, dict(inputs), watch))
        parts = self._ask(self._look_seconds, {"do": "look", "name": name}, payload)
        if len(parts) != 3:
            raise Stopped("malformed", "The process answered something that is no observation.", self._gone())
        try:
            return decode(parts[0], parts[1])
        except Malformed as error:
            raise Stopped(
                "malformed", f"What your function returned cannot be used: {error}.", True
            ) from None

    def _gone(self) -> bool:
        """After nonsense on the pipe nothing that follows can be trusted."""
        self._kill()
        return False

    def _ask(self, seconds: float, command: dict[str, Any], *payload: bytes) -> list[bytes]:
        limit = seconds + (START if self._first else 0)
        self._first = False
        try:
            self._pipe.deadline = time.monotonic() + limit + GRACE
            send(self._pipe, json.dumps(command).encode(), *payload)
        except TimeoutError:
            self._kill()
            raise Stopped("timeout", "The process does not listen any more.", False) from None
        except OSError:
            raise Stopped("crash", self._how_it_ended(), False) from None
        if not self._answered(limit):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)
            alive = self._answered(GRACE) and self._drain()
            if not alive:
                self._kill()
            raise Stopped("timeout", f"It ran for more than {seconds:.0f} seconds and was stopped.", alive)
        return self._receive()

    def _answered(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe.read_end, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def _drain(self) -> bool:
        try:
            self._receive()
        except Stopped:
            return False
        return True

    def _receive(self) -> list[bytes]:
        self._pipe.deadline = time.monotonic() + 3 * GRACE  # for the rest of an answer that has begun
        try:
            return receive(self._pipe)
        except TimeoutError:
            self._kill()
            raise Stopped("malformed", "The process stopped in the middle of an answer.", False) from None
        except Broken:
            raise Stopped("crash", self._how_it_ended(), False) from None

    def _how_it_ended(self) -> str:
        deadline = time.monotonic() + GRACE
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        code = self._process.poll()
        if code is None:
            self._kill()
            return "The process stopped answering."
        if code < 0:
            return f"The process was ended by the signal {_signal_name(-code)}."
        return f"The process ended by itself, with exit status {code}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


class _Pipe:
    """Both directions of the connection, neither of which waits beyond ``deadline``.

    The other side may be tampered with: it may send half a message, or stop reading.
    """

    def __init__(self, read_end: int, write_end: int) -> None:
        self.read_end, self.write_end = read_end, write_end
        self.deadline = 0.0
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)

    def _ready(self, end: int, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(end, event)
            if not selector.select(max(0.0, self.deadline - time.monotonic())):
                raise TimeoutError

    def read(self, size: int) -> bytes:
        self._ready(self.read_end, selectors.EVENT_READ)
        return os.read(self.read_end, min(size, 1 << 20))

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._ready(self.write_end, selectors.EVENT_WRITE)
            view = view[os.write(self.write_end, view[: 1 << 16]) :]

    def flush(self) -> None:
        pass

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


@contextlib.contextmanager
def _by_value(name: str) -> Iterator[None]:
    """What a module defines travels by value, so that the other process needs nothing of it."""
    module = importlib.import_module(name)
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def environment() -> dict[str, str]:
    """The environment of the process: ours, without what tells that a notebook is graded, and with one thread."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN_ENVIRONMENT)}
    package = str(Path(__file__).resolve().parents[1])
    return kept | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": package,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
    }
