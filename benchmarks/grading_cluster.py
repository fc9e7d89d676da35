"""A Dask cluster on this machine, started as docs/for-instructors.md says: `dask scheduler`, and `dask worker` several times."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograde.course import root

PATIENCE = 60
"""Seconds that the workers may take to start, and a process to stop."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs: the scheduler's address, and the processes of the scheduler and of each worker."""

    address: str
    pids: tuple[int, ...]


@contextlib.contextmanager
def dask_cluster(workers: int, folder: Path) -> Iterator[Cluster]:
    """A scheduler on a free port of this machine, and worker processes with one thread each, until the end of the block.

    Args:
        workers: how many worker processes.
        folder: where their logs and files are put.

    Raises:
        TimeoutError: the workers do not start in time; their logs are in ``folder``.
    """
    from distributed import Client

    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    processes = []
    try:
        place = ("--host", "127.0.0.1", "--no-dashboard")
        processes.append(_start(folder, "scheduler", *place, "--port", str(port)))
        for number in range(1, workers + 1):
            one = ("--nworkers", "1", "--nthreads", "1", "--no-nanny", "--name", f"worker-{number}")
            files = ("--local-directory", str(folder / f"worker-{number}"), "--memory-limit", "0")
            processes.append(_start(folder, "worker", address, *place, *one, *files))
        with Client(address, timeout=PATIENCE) as client:
            client.wait_for_workers(workers, timeout=PATIENCE)
        yield Cluster(address, tuple(process.pid for process in processes))
    finally:
        for process in reversed(processes):
            _stop(process)


def _start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root()), os.environ.get("PYTHONPATH", "")])),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "dask", *arguments]
    with (folder / f"dask-{arguments[0]}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does; what does not listen is killed, with everything that it has started in its session."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE / 4)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
