"""One process in which a notebook runs, as the process that grades sees it: two pipe ends, and the means to stop it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

GRACE = 3.0
"""Seconds that an interrupted process has to answer before it is killed."""
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


class Child(Protocol):
    """A process that serves as ``autograde.student`` does, and the pipe to it."""

    pipe: Pipe
    starting: bool
    """Whether it may still be importing, so that its first answer takes longer."""

    def interrupt(self) -> None:
        """Ask it to stop what it does (KeyboardInterrupt)."""

    def kill(self) -> None:
        """End it and everything that it has started; wait until it is gone. Safe to call twice."""

    def ended(self) -> tuple[str, str]:
        """After the pipe broke: the verdict ("crash", "timeout", "oom") and a sentence that says how it ended."""


Start = Callable[[Path], Child]
"""Starts a process whose working directory holds the files of a folder."""


class Pipe:
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
        """At most ``size`` bytes, as soon as there are any; nothing at the end."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.read_end, min(size, 1 << 20))
        self._ready(self.read_end, selectors.EVENT_READ)
        return os.read(self.read_end, min(size, 1 << 20))

    def write(self, data: bytes) -> None:
        """All of ``data``."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.write_end, view[: 1 << 16]) :]
            except BlockingIOError:
                self._ready(self.write_end, selectors.EVENT_WRITE)

    def flush(self) -> None:
        """Nothing is held back."""

    def answered(self, seconds: float) -> bool:
        """Whether something can be read within this time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.read_end, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read_end)
        os.close(self.write_end)


class Plain:
    """A process with the rights of whoever grades. For one's own notebooks."""

    starting = True

    def __init__(self, folder: Path) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(theirs_in), str(theirs_out)],
            cwd=folder,
            env=environment(),
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.pipe = Pipe(ours_in, ours_out)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def interrupt(self) -> None:
        """Send SIGINT."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill the process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ended(self) -> tuple[str, str]:
        """Wait a moment for the exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        code = self._process.poll()
        if code is None:
            self.kill()
            return "crash", "The process stopped answering."
        return "crash", how_it_ended(code)


def how_it_ended(code: int) -> str:
    """An exit status (negative: a signal) in words."""
    if code < 0:
        return f"The process was ended by the signal {_signal_name(-code)}."
    return f"The process ended by itself, with exit status {code}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


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
