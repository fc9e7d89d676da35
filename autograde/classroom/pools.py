"""Where submissions are graded: in worker processes on this machine, or on a Dask cluster.

On one machine a process pool of the standard library is enough, and safer: it talks through pipes. Dask listens on ports,
and whoever reaches them can run code as the grader; so Dask is used only where its address is given. Both give
``concurrent.futures``, so that the rest does not tell them apart.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol

from autograde.classroom.grader import (
    Job,
    Outcome,
    Settings,
    close_sandboxes,
    fingerprint,
    grade_job,
    warm_up,
)
from autograde.classroom.sandbox import NoSandbox
from autograde.course import CourseError

SECONDS = 20


class Pool(Protocol):
    """Grades jobs, several at once."""

    width: int
    """How many at once."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Begin with a job when there is room."""

    def renew(self) -> None:
        """After a worker has died: go on with new ones."""


@dataclass
class Local:
    """Worker processes on this machine."""

    width: int
    topic: str
    settings: Settings

    def __post_init__(self) -> None:
        self._executor = self._made()

    def _made(self) -> Executor:
        return ProcessPoolExecutor(
            self.width,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(self.topic, self.settings),
        )

    def submit(self, job: Job) -> Future[Outcome]:
        """Begin with a job when there is room."""
        return self._executor.submit(grade_job, job)

    def renew(self) -> None:
        """After a worker has died: go on with new ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._made()

    def close(self, at_once: bool) -> None:
        """End the workers; ``at_once``: without waiting for what they do."""
        if at_once:
            for process in list((getattr(self._executor, "_processes", None) or {}).values()):
                process.terminate()
        self._executor.shutdown(wait=not at_once, cancel_futures=True)


def _begin(topic: str, settings: Settings) -> None:
    """In a new worker: Ctrl-C is for the process that writes; end when that process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    with contextlib.suppress(NoSandbox):  # the first job says so
        warm_up(topic, settings)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    close_sandboxes()
    os._exit(1)


@contextlib.contextmanager
def local(width: int, topic: str, settings: Settings) -> Iterator[Local]:
    """Worker processes on this machine, which end with the block."""
    pool = Local(width, topic, settings)
    try:
        yield pool
    except BaseException:
        pool.close(at_once=True)
        raise
    pool.close(at_once=False)


@dataclass
class Cluster:
    """The workers of a Dask cluster. A worker that dies is replaced by Dask itself."""

    width: int
    executor: Any

    def submit(self, job: Job) -> Future[Outcome]:
        """Begin with a job when there is room."""
        future: Future[Outcome] = self.executor.submit(grade_job, job)
        return future

    def renew(self) -> None:
        """Nothing to do."""


@contextlib.contextmanager
def cluster(address: str, topic: str, settings: Settings) -> Iterator[Cluster]:
    """The workers of the Dask scheduler at ``address``.

    Raises:
        CourseError: there is no scheduler or no worker, a worker has no sandbox, or grades with another version.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CourseError(f"There is no Dask scheduler at {address}: {error}.") from None
    with client:
        workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        if not workers:
            raise CourseError(
                f"The Dask scheduler at {address} has no workers. Start some: dask worker {address} --nthreads 1"
            )
        _agree(client, workers, topic, settings)
        width = sum(client.nthreads().values())
        with client.get_executor(pure=False) as executor:
            yield Cluster(width, executor)


def _agree(client: Any, workers: list[str], topic: str, settings: Settings) -> None:
    """Warm every worker up, and see that all of them grade with what is here."""
    started = {w: client.submit(warm_up, topic, settings, workers=[w], pure=False) for w in workers}
    for worker, future in started.items():
        try:
            theirs = future.result(timeout=180)
        except Exception as error:  # of the worker's, of any kind
            raise CourseError(
                f"The Dask worker {worker} cannot grade: {type(error).__name__}: {error}."
            ) from None
        if theirs != fingerprint():
            raise CourseError(
                f"The Dask worker {worker} grades with something else. There: {theirs}. Here: {fingerprint()}. Install the same "
                "version of the course and of torch everywhere."
            )
