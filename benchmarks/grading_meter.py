"""What a command costs, with everything that it starts: `python grading_meter.py RESULT.json COMMAND ...`.

CPU seconds come from two accounts, and the larger one counts. One is the kernel's, of children that were waited for: the meter
is a process of its own, which adopts processes whose parent has ended (Linux: PR_SET_CHILD_SUBREAPER) and waits for all of them.
It does not have what a killed sandbox takes with it. The other is read twice a second from /proc, for every process
below the command; it misses at most the last half second before a kill. Memory is read there, too: the proportional share (PSS)
of every process, in which a page that several processes share counts once.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

EVERY = 0.5
"""Seconds between two looks."""
PATIENCE = 10.0
"""Seconds that processes may outlive the command."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall: seconds until it ended.
        cpu: CPU seconds, user and system, of it and of everything that it started.
        memory: the largest sum over all of its processes at one moment, in MB.
        status: its exit status.
        output: the end of what it said.
    """

    wall: float
    cpu: float
    memory: float
    status: int = 0
    output: str = ""


def cost_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], patience: float = 600
) -> Cost:
    """Run a command in ``folder`` and measure it.

    Raises:
        RuntimeError: it did not end with status 0; the message has the end of its output.
        subprocess.TimeoutExpired: it did not end in time. Everything that it had started is gone then.
    """
    result = folder / "cost.json"
    meter = [sys.executable, str(Path(__file__).resolve()), str(result), *command]
    process = subprocess.Popen(meter, cwd=folder, env=dict(environment), start_new_session=True)
    try:
        process.wait(patience)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    cost = Cost(**json.loads(result.read_text()))
    result.unlink()
    if cost.status:
        raise RuntimeError(f"{' '.join(command)} ended with {cost.status}:\n{cost.output}")
    return cost


class Watch(threading.Thread):
    """Adds up the CPU seconds of processes and of everything below them from now on, and finds their largest memory."""

    def __init__(self, *pids: int) -> None:
        super().__init__(daemon=True)
        self._pids, self._over = pids, threading.Event()
        self._last = cpu_of(pids)
        self.cpu = self.memory = 0.0

    def run(self) -> None:
        """Look, until ``stop`` is called."""
        while not self._over.wait(EVERY):
            self._look()
            self.memory = max(self.memory, memory_of(self._pids))

    def stop(self) -> Watch:
        """Look once more, and end."""
        self._over.set()
        self.join()
        self._look()
        return self

    def _look(self) -> None:
        # A process that was killed, and that nobody waited for, takes its seconds out of the sum.
        now = cpu_of(self._pids)
        self.cpu += max(0.0, now - self._last)
        self._last = now


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds so far of running processes, of what runs below them, and of what has ended below them."""
    return sum(ticks for _, ticks in _below(pids)) / TICK


def memory_of(pids: Iterable[int]) -> float:
    """MB that running processes and everything below them use together."""
    return sum(_share(pid) for pid, _ in _below(pids)) / 1000


def _below(pids: Iterable[int]) -> list[tuple[int, int]]:
    """The processes, their children, and theirs, each with its ticks and those of children that it has waited for."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                ticks[int(entry)] = sum(map(int, words[11:15]))  # utime, stime, cutime, cstime
                children.setdefault(int(words[1]), []).append(int(entry))
    found, pending = [], [pid for pid in pids if pid in ticks]
    while pending:
        pid = pending.pop()
        found.append((pid, ticks[pid]))
        pending += children.get(pid, [])
    return found


def _share(pid: int) -> int:
    """kB of one process, its shared pages by share; resident kB where the kernel does not say."""
    for file, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
            return int(next(line for line in lines if line.startswith(key)).split()[1])
    return 0


def _measure(command: Sequence[str]) -> Cost:
    """In the meter's own process."""
    signal.signal(signal.SIGTERM, lambda number, frame: _end_all())
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)  # when the benchmark is killed
    with open(f"{os.getpid()}.log", "w+b") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        watch = Watch(process.pid)
        watch.start()
        status = process.wait()
        wall = time.perf_counter() - began
        watch.stop()
        _wait_for_orphans()
        os.unlink(said.name)
        said.seek(0)
        text = said.read().decode(errors="replace")[-3000:]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = max(used.ru_utime + used.ru_stime, watch.cpu)
    return Cost(wall, cpu, watch.memory or used.ru_maxrss / 1000, status, text)


def _wait_for_orphans() -> None:
    """Wait for what the command left behind; kill what does not end."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    _kill_all()
                time.sleep(0.01)


def _kill_all() -> None:
    for pid, _ in _below([os.getpid()])[1:]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _end_all() -> None:
    _kill_all()
    os._exit(1)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asdict(_measure(sys.argv[2:]))))
