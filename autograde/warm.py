"""A warm process: it imports once, and forks a locked-in child for each notebook. ``classroom/sandbox.py`` starts it.

It runs inside bubblewrap, one notebook at a time, and never runs a line of a notebook itself. For each notebook there are
three processes: the *keeper*, which makes the namespaces and waits; the *first* process of the new process namespace, with
whose end everything in it ends; and the *student*, in which the notebook runs.

Messages on the control socket are JSON. It is told ``start`` (with the two ends of the student's pipe), ``interrupt``
and ``kill``, and says ``ready``, ``started`` and ``ended``. When the socket closes, everything ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from autograde import confine, student
from autograde.confine import Limits

TICK = 0.05
"""Seconds between two looks at what the children use."""
WORK = "/tmp/work"
UNPRIVILEGED = 65534
FIRST_FAILED = 120
LOCKED = "locked in"
MESSAGE = 1 << 16


@dataclass
class Running:
    """The notebook that runs now: the process numbers as this process sees them."""

    keeper: int
    first: int
    limits: Limits
    why: str = ""
    """Why it was killed."""


class Warm:
    """The loop of the warm process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._shell, self._seal = student.prepare()
        self._running: Running | None = None
        self._shared = 0

    def serve(self) -> None:
        """Until the control socket closes."""
        _first_cell(self._shell)
        gc.collect()
        gc.freeze()
        self._shared = _memory(os.getpid())
        self._say({"is": "ready"})
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            while True:
                if selector.select(TICK if self._running else None) and not self._listen():
                    break
                self._watch()
        self._end("killed")

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(message).encode())

    def _listen(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, 2)
        if not data:
            return False
        message = json.loads(data)
        if message["do"] == "start":
            self._start(Limits(**message["limits"]), descriptors)
        elif message["do"] == "interrupt" and self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._running.first, signal.SIGINT)
        elif message["do"] == "kill":
            self._end("killed")
        return True

    def _start(self, limits: Limits, descriptors: list[int]) -> None:
        told, tell = os.pipe()
        data = _status(os.getpid()).get("VmData", 0)
        keeper = os.fork()
        if keeper == 0:
            _keep(self._shell, self._seal, limits, data, descriptors, tell)
        os.close(tell)
        for descriptor in descriptors:
            os.close(descriptor)
        with os.fdopen(told) as lines:
            said = set(lines.read().splitlines())
        first = next((line for line in said if line.isdigit()), "")
        if first and LOCKED in said:
            self._running = Running(keeper, int(first), limits)
            self._say({"is": "started"})
        else:
            os.waitpid(keeper, 0)
            self._say({"is": "failed", "why": "; ".join(said - {first, LOCKED}) or "no answer"})

    def _watch(self) -> None:
        """Reap the child that has ended; kill one that uses too much."""
        running = self._running
        if running is None:
            return
        pid, status = os.waitpid(running.keeper, os.WNOHANG)
        if pid:
            self._running = None
            code = os.waitstatus_to_exitcode(status)
            self._say({"is": "ended", "code": code, "why": running.why})
        elif not running.why:
            running.why = self._too_much(running)
            if running.why:
                _kill(running.first)

    def _too_much(self, running: Running) -> str:
        """What a child uses more of than it may: "memory", "processes", "cpu"; empty when it is fine."""
        known = {1, os.getpid(), running.keeper, running.first}
        others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in known]
        if sum(_threads(pid) for pid in others) > running.limits.processes:
            return "processes"
        # A forked child shares the warm process's memory until it writes to it.
        if sum(max(0, _memory(pid) - self._shared) for pid in others) > running.limits.memory:
            return "memory"
        if sum(_cpu(pid) for pid in others) > running.limits.cpu_seconds:
            return "cpu"
        return ""

    def _end(self, why: str) -> None:
        if self._running is None:
            return
        self._running.why = self._running.why or why
        _kill(self._running.first)
        deadline = time.monotonic() + 10
        while self._running is not None and time.monotonic() < deadline:
            self._watch()
            time.sleep(0.001)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _status(pid: int) -> dict[str, int]:
    """The numbers in ``/proc/PID/status``: sizes in bytes."""
    found = {}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdigit():
                found[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found


def _memory(pid: int) -> int:
    status = _status(pid)
    return status.get("RssAnon", 0) + status.get("RssShmem", 0)


def _threads(pid: int) -> int:
    return _status(pid).get("Threads", 0)


def _cpu(pid: int) -> float:
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
        return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _keep(
    shell: student.Shell, seal: Any, limits: Limits, data: int, descriptors: list[int], tell: int
) -> None:
    """In the keeper: make the namespaces, start the first process, say its number, wait for it. Never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _close_all_but(*descriptors, tell)
        confine.new_namespaces()
        confine.end_with_parent()
        first = os.fork()
        if first == 0:
            _be_first(shell, seal, limits, data, descriptors, tell)
        os.write(tell, f"{first}\n".encode())
        os.close(tell)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(first, 0)
        _leave(os.waitstatus_to_exitcode(status))
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(tell, f"{type(error).__name__}: {error}\n".encode())
        os._exit(FIRST_FAILED)


def _close_all_but(*kept: int) -> None:
    """Close every other descriptor; standard input, output and error lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    before = 2
    for descriptor in sorted(kept):
        os.closerange(before + 1, descriptor)
        before = descriptor
    os.closerange(before + 1, os.sysconf("SC_OPEN_MAX"))


def _leave(code: int) -> None:
    """End as a child has ended: with its status, or by its signal (as 128 + its number)."""
    os._exit(code if code >= 0 else 128 - code)


def _be_first(
    shell: student.Shell, seal: Any, limits: Limits, data: int, descriptors: list[int], tell: int
) -> None:
    """In the first process: lock everything and say so, start the student, pass on interrupts, reap orphans. Never returns."""
    try:
        confine.end_with_parent()
        os.setsid()
        confine.private_files(limits)
        os.mkdir(WORK)
        os.chdir(WORK)
        confine.bounded(limits, data)
        confine.powerless()
        os.write(tell, f"{LOCKED}\n".encode())
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(tell, f"{type(error).__name__}: {error}\n".encode())
        os._exit(FIRST_FAILED)
    try:
        os.close(tell)
        pid = os.fork()
        if pid == 0:
            _be_student(shell, seal, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        signal.signal(signal.SIGINT, lambda number, frame: os.kill(pid, signal.SIGINT))
        while True:
            with contextlib.suppress(InterruptedError):
                ended, status = os.waitpid(-1, 0)
                if ended == pid:
                    _leave(os.waitstatus_to_exitcode(status))
    except BaseException:
        os._exit(FIRST_FAILED)


def _be_student(shell: student.Shell, seal: Any, descriptors: list[int]) -> None:
    """In the student: serve. Never returns."""
    code = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.append(WORK)  # last: a torch.py beside the notebook is not the torch that is imported
        with os.fdopen(descriptors[0], "rb") as commands, os.fdopen(descriptors[1], "wb") as replies:
            student.serve(shell, seal, commands, replies)
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def _first_cell(shell: student.Shell) -> None:
    """What Python, IPython and torch do once only is done here, not in every child."""
    import torch
    from safetensors.torch import save

    from autograde.observe import fixed_state

    with fixed_state():
        save({"0": torch.zeros(2)})
        (torch.ones(2, 2) @ torch.ones(2, 2)).tanh().sum().item()
    student.run_cell(shell, "import torch\nassert torch.ones(1)")
    shell.reset(new_session=True)  # type: ignore[no-untyped-call]
    student.RECORDER.take()


def _drop_root() -> None:
    """When bubblewrap was started by root it is root here, too; from here on it is nobody."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
        ctypes.CDLL(None).prctl(confine.PR_SET_DUMPABLE, 1, 0, 0, 0)  # so that it can write its own uid_map


def main() -> None:
    """``python -m autograde.warm DESCRIPTOR [MODULE ...]``: import the modules, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(True)
    import torch

    torch.set_num_threads(1)  # with more, a child that computes hangs for ever
    for name in sys.argv[2:]:
        with contextlib.suppress(Exception):  # the notebook that needs it says so
            importlib.import_module(name)
    del sys.argv[1:]
    _drop_root()
    Warm(control).serve()


if __name__ == "__main__":
    main()
