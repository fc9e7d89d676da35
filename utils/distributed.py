"""Several ranks on one machine: a function that was written in a notebook runs on each, with real gloo groups between them.

``run_ranks`` starts the ranks as threads, which takes a tenth of a second, or as processes, which takes seconds and is what real
training does. Either way `torch.distributed` works inside: `dist.get_rank()`, `dist.all_reduce(x)`, `DistributedDataParallel`. There is
a time limit, and at the limit it says where every rank stands. Nothing is left running.
"""

from __future__ import annotations

import contextlib
import ctypes
import linecache
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, HashStore, PrefixStore
from torch.distributed import distributed_c10d as c10d

Ranked = Callable[[int, int], Any]
SECONDS = 20.0
LATER = 0.3
"""Seconds by which a group's own limit is later than ours, which says more."""
GRACE = 3.0
"""Seconds in which ranks that were told to stop have to end."""
START = 60.0
"""Seconds in which processes have to start, beside their time limit."""
PACKAGES = str(Path(torch.__file__).parent)


class RankError(RuntimeError):
    """At least one rank failed. The message says which one first, and where."""


class Deadlock(RankError):
    """The time limit was reached. The message says what every rank was waiting for."""


@dataclass(frozen=True)
class Message:
    """One call of a group of ranks.

    Attributes:
        operation: such as "allreduce", "broadcast", "send".
        bytes: the size of the tensors that this rank handed over.
        peer: the other rank of a send or a receive.
        time: in seconds; the ranks of one machine share the clock.
    """

    operation: str
    bytes: int
    peer: int | None = None
    time: float = 0.0


@dataclass
class Traffic:
    """What one rank asked of its group, in order."""

    messages: list[Message] = field(default_factory=list)

    def count(self, operation: str) -> int:
        """How often an operation was called."""
        return sum(message.operation == operation for message in self.messages)

    def sent(self) -> int:
        """Bytes in all sends from this rank to another one."""
        return sum(message.bytes for message in self.messages if message.operation == "send")


_LOCAL = threading.local()


def traffic() -> Traffic:
    """What this rank has asked of its group until now. Call it inside of a function that ``run_ranks`` runs.

    Raises:
        RuntimeError: outside of a rank.
    """
    found: Traffic | None = getattr(_LOCAL, "traffic", None)
    if found is None:
        raise RuntimeError("traffic() is for the inside of a function that run_ranks runs.")
    return found


def run_ranks(
    fn: Ranked, world_size: int, *, processes: bool = False, seconds: float = SECONDS, backend: str = "gloo"
) -> list[Any]:
    """Run ``fn(rank, world_size)`` on every rank, with `torch.distributed` ready to be used.

    Args:
        fn: the same function for all ranks.
        world_size: how many ranks.
        processes: each rank is a process, as in real training; otherwise a thread of this one. A process gets ``fn`` and what it
            uses by value, and its result comes back by value.
        seconds: the time limit.
        backend: "gloo", or with processes and one GPU for each rank "nccl".

    Returns:
        What each rank returned, by rank.

    Raises:
        RankError: a rank failed; all ranks' errors, the first one first.
        Deadlock: the time limit was reached; where each rank stood.
    """
    if world_size < 1:
        raise ValueError(f"world_size is {world_size}; it has to be at least 1.")
    if processes:
        ranks: Sequence[_Rank] = _as_processes(fn, world_size, seconds, backend)
    elif backend != "gloo":
        raise ValueError("Ranks that are threads use gloo. For another backend say processes=True.")
    else:
        ranks = _as_threads(fn, world_size, seconds)
    _complain(ranks, seconds)
    return [rank.result for rank in ranks]


# --- what came of a rank ------------------------------------------------------------------------------------------------------


@dataclass
class _Rank:
    """What is known of one rank: its result, or its error and when it came, or where it stood at the time limit."""

    number: int
    done: bool = False
    result: Any = None
    error: str = ""
    when: float = float("inf")
    lost: bool = False
    """Its error only says that another rank had gone."""
    waits: str = ""

    def fail(self, error: BaseException) -> None:
        """Keep an error, with the line of the notebook that it came from."""
        if self.waits:
            return  # it was told to stop
        text = str(error).splitlines()[0] if str(error) else ""
        place = _last_own(traceback.extract_tb(error.__traceback__))
        self.lost = isinstance(error, RuntimeError) and ("gloo" in text or "onnection" in text)
        kind = "it waited for a rank that had ended" if self.lost else f"{type(error).__name__}: {text[:300]}"
        self.error = kind.rstrip(": ") + place
        self.when = time.time()


def _complain(ranks: Sequence[_Rank], seconds: float) -> None:
    failed = sorted((rank for rank in ranks if rank.error), key=lambda rank: (rank.lost, rank.when))
    stuck = [rank for rank in ranks if rank.waits]
    if failed and not (stuck and failed[0].lost):
        lines = [f"Rank {failed[0].number} failed first: {failed[0].error}"]
        lines += [f"Rank {rank.number}: {rank.error}" for rank in failed[1:]]
        lines += [f"Rank {rank.number} was still {rank.waits}" for rank in stuck]
        lines += [f"Rank {rank.number} had returned" for rank in ranks if rank.done]
        raise RankError("\n".join(lines))
    if stuck:
        lines = [f"After {seconds:g} seconds not all ranks had ended."]
        for rank in ranks:
            state = rank.waits or ("returned" if rank.done else f"failed: {rank.error}")
            lines.append(f"Rank {rank.number} {'was ' if rank.waits else 'had '}{state}")
        lines.append("A collective ends only when every rank has called it, and a receive needs its send.")
        raise Deadlock("\n".join(lines))


def _last_own(frames: Sequence[traceback.FrameSummary]) -> str:
    """The innermost line that is neither PyTorch's nor ours."""
    for frame in reversed(frames):
        if not frame.filename.startswith(PACKAGES) and frame.filename != __file__:
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            return f" (in {frame.name}, line {frame.lineno}: {line})"
    return ""


def _where(frame: FrameType | None) -> str:
    """Where a rank stands: the call of torch.distributed that it waits in, and the line that made the call."""
    stack = traceback.extract_stack(frame)
    calls = [f.name for f in stack if f.filename == c10d.__file__ and not f.name.startswith(("_", "wrap"))]
    what = f"waiting in {calls[0]}" if calls else "running"
    return what + _last_own(stack)


# --- ranks that are threads ---------------------------------------------------------------------------------------------------


class _CountingGroup(dist.ProcessGroup):
    """A group that writes down what is asked of it, and hands it on to a group that does it."""

    def __init__(self, inner: dist.ProcessGroup) -> None:
        super().__init__(inner.rank(), inner.size())  # type: ignore[call-arg]
        self.inner = inner
        self.traffic = Traffic()


def _counted(operation: str, takes_peer: bool) -> Callable[..., Any]:
    def call(self: _CountingGroup, *arguments: Any, **named: Any) -> Any:
        peer = arguments[1] if takes_peer and len(arguments) > 1 else None
        self.traffic.messages.append(Message(operation, _bytes(arguments[:1]), peer, time.perf_counter()))
        return getattr(self.inner, operation)(*arguments, **named)

    call.__name__ = operation
    return call


for _name in (
    *(
        "allreduce",
        "allreduce_coalesced",
        "broadcast",
        "reduce",
        "allgather",
        "_allgather_base",
        "gather",
        "scatter",
    ),
    *(
        "reduce_scatter",
        "_reduce_scatter_base",
        "alltoall",
        "alltoall_base",
        "barrier",
        "monitored_barrier",
        "send",
        "recv",
    ),
):
    setattr(_CountingGroup, _name, _counted(_name, _name in ("send", "recv")))


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0


_ONE_WORLD = threading.Lock()


@contextlib.contextmanager
def _a_world_for_each_thread() -> Iterator[None]:
    """While it is entered, the default group of `torch.distributed` belongs to a thread, not to the process."""
    from torch.testing._internal.distributed.multi_threaded_pg import ThreadLocalWorld

    with _ONE_WORLD:
        before = c10d._world
        c10d._world = ThreadLocalWorld()  # type: ignore[assignment]
        try:
            yield
        finally:
            c10d._world = before


def _join_group(store: Any, rank: int, world_size: int, limit: timedelta, device: Any) -> _CountingGroup:
    """Make this thread a rank. What `init_process_group` does, for a thread."""
    options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = limit
    options._devices = [device]
    gloo = dist.ProcessGroupGloo(PrefixStore("gloo", store), rank, world_size, options)
    inner = dist.ProcessGroup(store, rank, world_size)
    group = _CountingGroup(inner)
    for made in (inner, group):
        for kind in ("cpu", "cuda"):  # as init_process_group does for gloo
            made._register_backend(torch.device(kind), dist.ProcessGroup.BackendType.GLOO, gloo)
        made._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
    name: Any = f"rank {rank} of {world_size}, {id(store)}"
    group._set_group_name(name)
    world = c10d._world
    world.default_pg = group
    world.pg_map[group] = ("gloo", store)
    world.pg_names[group] = name
    world.pg_group_ranks[group] = {i: i for i in range(world_size)}
    world.pg_backend_config[group] = "cpu:gloo"
    world.pg_to_tag[group] = "default"
    return group


def _as_threads(fn: Ranked, world_size: int, seconds: float) -> list[_Rank]:
    ranks = [_Rank(number) for number in range(world_size)]
    groups: dict[int, _CountingGroup] = {}
    store = HashStore()
    limit = timedelta(seconds=seconds + LATER)
    device = dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")  # one for all: to close one takes time

    def work(rank: _Rank) -> None:
        try:
            groups[rank.number] = _join_group(store, rank.number, world_size, limit, device)
            _LOCAL.traffic = groups[rank.number].traffic
            rank.result = fn(rank.number, world_size)
            rank.done = True  # its group stays until all have ended, in case that another one still receives
        except BaseException as error:
            rank.fail(error)
            groups.pop(
                rank.number, None
            )  # its connections end with it, so that the others do not wait for this rank

    with _a_world_for_each_thread():
        threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in ranks]
        try:
            for thread in threads:
                thread.start()
            _join(threads, seconds)
            _note_where(ranks, threads)
        finally:
            _stop(threads)
            groups.clear()
    return ranks


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _note_where(ranks: Sequence[_Rank], threads: Sequence[threading.Thread]) -> None:
    frames = sys._current_frames()
    for rank, thread in zip(ranks, threads, strict=True):
        if thread.is_alive() and thread.ident in frames:
            rank.waits = _where(frames[thread.ident])


def _stop(threads: Sequence[threading.Thread]) -> None:
    """End what still runs: a rank that computes gets an exception, one that waits gets one when its group's limit is over."""
    alive = [thread for thread in threads if thread.is_alive()]
    deadline = time.monotonic() + GRACE
    while alive and time.monotonic() < deadline:
        for thread in alive:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
            )
        _join(alive, 0.05)
        alive = [thread for thread in alive if thread.is_alive()]


# --- ranks that are processes -------------------------------------------------------------------------------------------------


def _as_processes(fn: Ranked, world_size: int, seconds: float, backend: str) -> list[_Rank]:
    with tempfile.TemporaryDirectory(prefix="ranks-") as temporary:
        place = Path(temporary)
        (place / "job").write_bytes(cloudpickle.dumps((fn, world_size, seconds, backend)))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.setdefault("OMP_NUM_THREADS", "1")
        command = [sys.executable, "-m", "utils.distributed", temporary]
        started = [
            subprocess.Popen([*command, str(rank)], env=environment, start_new_session=True)
            for rank in range(world_size)
        ]
        try:
            _wait(started, place, seconds)
        finally:
            for process in started:
                _end(process)
        return [_read(place, rank, process.returncode) for rank, process in enumerate(started)]


def _wait(started: Sequence[subprocess.Popen[bytes]], place: Path, seconds: float) -> None:
    """Until all have ended, or one has failed, or the limit that they keep themselves is over."""
    deadline = time.monotonic() + START + seconds + GRACE
    failed_at = None
    while any(process.poll() is None for process in started) and time.monotonic() < deadline:
        if failed_at is None and any(process.poll() for process in started):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() > failed_at + GRACE:
            break  # the others have had time to say what they lost
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(place: Path, number: int, status: int | None) -> _Rank:
    """What a process left: a rank, or nothing when it was killed."""
    path = place / str(number)
    if path.exists():
        found: _Rank = cloudpickle.loads(path.read_bytes())
        return found
    rank = _Rank(number)
    if status is not None and status < 0 and status != -signal.SIGKILL:
        rank.error = f"its process ended by {signal.Signals(-status).name}"
    else:
        rank.error = (
            "its process was killed"
            if status == -signal.SIGKILL
            else f"its process ended with status {status}"
        )
    rank.when = 0.0
    return rank


def _leave(place: Path, rank: _Rank) -> None:
    path = place / f".{rank.number}"
    try:
        data = cloudpickle.dumps(rank)
    except Exception as error:
        rank.result, rank.error = None, f"its result cannot be sent back: {type(error).__name__}: {error}"
        data = cloudpickle.dumps(rank)
    path.write_bytes(data)
    path.rename(place / str(rank.number))


def _watch(place: Path, rank: _Rank, seconds: float, parent: int) -> None:
    """In a process, beside its work: ends it at the time limit, and when the process that started it has gone."""
    main = threading.main_thread().ident
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.getppid() != parent:
            os._exit(1)
        time.sleep(0.1)
    rank.waits = _where(sys._current_frames().get(main or 0))
    _leave(place, rank)
    os._exit(1)


def main(place: Path, number: int) -> int:
    """What each process of ``run_ranks`` does."""
    rank, parent = _Rank(number), os.getppid()
    fn, world_size, seconds, backend = cloudpickle.loads((place / "job").read_bytes())
    if backend == "nccl":
        torch.cuda.set_device(number)
    torch.set_num_threads(1)
    os.environ["TORCH_DIST_INIT_BARRIER"] = "1"  # nobody begins, let alone ends, before all are connected
    try:
        store = FileStore(str(place / "store"), world_size)
        limit = timedelta(seconds=START + seconds)
        dist.init_process_group(backend, store=store, rank=number, world_size=world_size, timeout=limit)
        watcher = threading.Thread(target=_watch, args=(place, rank, seconds, parent), daemon=True)
        watcher.start()
        rank.result = fn(number, world_size)
        rank.done = True
    except BaseException as error:
        rank.fail(error)
    _leave(place, rank)
    os._exit(0 if rank.done else 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
