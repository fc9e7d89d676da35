"""Ranks on one machine: real groups, readable errors, nothing left running."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from utils.distributed import Deadlock, RankError, run_ranks, traffic

BOTH = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


def all_reduce(rank, world):
    x = torch.full((5,), float(rank + 1))
    dist.all_reduce(x)
    return x, dist.get_rank(), dist.get_world_size()


def ring(rank, world):
    received = torch.zeros(3)
    request = dist.isend(torch.full((3,), float(rank)), (rank + 1) % world)
    dist.recv(received, (rank - 1) % world)
    request.wait()
    return received[0].item()


def trained(rank, world):
    torch.manual_seed(rank)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2))
    model(torch.full((4, 3), float(rank))).sum().backward()
    return model.module.weight.detach(), model.module.weight.grad


def stuck(rank, world):
    dist.recv(torch.ones(3), (rank + 1) % world)


def forgotten(rank, world):
    if rank != 1:
        dist.all_reduce(torch.ones(2))


def endless(rank, world):
    while rank == 1:
        pass


def broken(rank, world):
    if rank == 1:
        raise ValueError("rank 1 has no data")
    dist.all_reduce(torch.ones(2))


@BOTH
def test_collectives_between_the_ranks(processes):
    for rank, (x, number, size) in enumerate(run_ranks(all_reduce, 3, processes=processes)):
        assert x.tolist() == [6.0] * 5
        assert (number, size) == (rank, 3)


@BOTH
def test_messages_between_two_ranks(processes):
    assert run_ranks(ring, 3, processes=processes) == [2.0, 0.0, 1.0]


@BOTH
def test_torchs_own_data_parallel_model(processes):
    (first, grad), (second, other) = run_ranks(trained, 2, processes=processes)
    assert torch.equal(first, second)  # broadcast from rank 0
    assert torch.equal(grad, other)
    assert grad.tolist() == [[2.0] * 3] * 2  # the mean of 0 and 4


def test_a_function_of_a_notebook_may_use_what_is_around_it():
    """It is not in a module that another process could import."""
    space = {"torch": torch, "dist": dist}
    exec(
        "offset = 10\ndef helper(rank): return rank + offset\ndef f(rank, world): return helper(rank)", space
    )
    assert run_ranks(space["f"], 2, processes=True) == [10, 11]


class LateInRank1:
    """Delays the second process between its connections to the others and its work."""

    def __setstate__(self, state):
        if sys.argv[-1] == "1":
            before = c10d._update_default_pg
            c10d._update_default_pg = lambda group: (time.sleep(1), before(group))

    def __getstate__(self):
        return {"late": True}


def test_no_process_begins_before_all_are_connected():
    """One that is done at once would close its connections while another has not finished making them."""
    late = LateInRank1()
    begins = run_ranks(lambda rank, world: (time.monotonic(), late)[0], 2, processes=True)
    assert abs(begins[0] - begins[1]) < 0.5


@BOTH
def test_a_deadlock_says_who_waits_for_what(processes):
    begin = time.monotonic()
    with pytest.raises(Deadlock) as error:
        run_ranks(stuck, 2, processes=processes, seconds=2)
    assert time.monotonic() - begin < (40 if processes else 5)
    for rank in (0, 1):
        assert f"Rank {rank} was waiting in recv (in stuck, line " in str(error.value)
    assert "dist.recv(torch.ones(3), (rank + 1) % world)" in str(error.value)


def test_a_rank_that_does_not_come_to_the_collective():
    with pytest.raises(Deadlock) as error:
        run_ranks(forgotten, 3, seconds=1)
    lines = str(error.value).splitlines()
    assert lines[2] == "Rank 1 had returned"
    assert lines[1].startswith("Rank 0 was waiting in all_reduce (in forgotten")
    with pytest.raises(RankError) as error:  # a process that returns closes its connections
        run_ranks(forgotten, 3, seconds=5, processes=True)
    assert "it waited for a rank that had ended (in forgotten" in str(error.value)
    assert "Rank 1 had returned" in str(error.value)


@BOTH
def test_the_first_error_comes_first_and_does_not_wait_for_the_limit(processes):
    begin = time.monotonic()
    with pytest.raises(RankError) as error:
        run_ranks(broken, 3, processes=processes, seconds=60)
    assert time.monotonic() - begin < 40
    lines = str(error.value).splitlines()
    assert lines[0].startswith("Rank 1 failed first: ValueError: rank 1 has no data (in broken, line ")
    assert {line[:7] for line in lines[1:]} == {"Rank 0:", "Rank 2:"}


@BOTH
def test_an_endless_loop_is_stopped(processes):
    with pytest.raises(Deadlock, match="Rank 1 was running \\(in endless") as error:
        run_ranks(endless, 2, processes=processes, seconds=1)
    assert "Rank 0 had returned" in str(error.value)


def test_no_thread_is_left_and_the_process_is_as_before():
    threads, world = threading.active_count(), c10d._world
    for work in (stuck, endless, forgotten):
        with pytest.raises(Deadlock):
            run_ranks(work, 2, seconds=0.5)
    run_ranks(all_reduce, 4)
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == threads
    assert c10d._world is world
    assert not dist.is_initialized()


def test_a_killed_process_is_named():
    def killed(rank, world):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.all_reduce(torch.ones(2))

    with pytest.raises(RankError, match="Rank 1 failed first: its process was killed"):
        run_ranks(killed, 2, processes=True)


def test_what_cannot_be_sent_back_is_named():
    with pytest.raises(RankError, match="Rank 0 failed first: its result cannot be sent back"):
        run_ranks(lambda rank, world: threading.Lock(), 1, processes=True)


def test_traffic_is_counted_by_rank():
    def work(rank, world):
        dist.all_reduce(torch.ones(10))
        if rank == 0:
            dist.send(torch.ones(4, dtype=torch.float64), 1)
        else:
            dist.recv(torch.ones(4, dtype=torch.float64), 0)
        seen = traffic()
        return seen.count("allreduce"), seen.sent(), [(m.operation, m.bytes, m.peer) for m in seen.messages]

    first, second = run_ranks(work, 2)
    assert first == (1, 32, [("allreduce", 40, None), ("send", 32, 1)])
    assert second == (1, 0, [("allreduce", 40, None), ("recv", 32, 0)])
    with pytest.raises(RuntimeError, match="run_ranks"):
        traffic()


def test_bad_arguments_say_what_to_do():
    with pytest.raises(ValueError, match="at least 1"):
        run_ranks(all_reduce, 0)
    with pytest.raises(ValueError, match="processes=True"):
        run_ranks(all_reduce, 2, backend="nccl")


STARTER = """
import os, time
from utils.distributed import run_ranks
def wait(rank, world):
    os.write(1, b"ready\\n")  # in one piece, where print may write the end of the line later than the other rank's word
    time.sleep(100)
run_ranks(wait, 2, processes=True, seconds=100)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(how):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for _ in range(2):
        assert starter.stdout.readline() == "ready\n"
    children = _children(starter.pid)
    assert len(children) == 2
    starter.send_signal(how)
    starter.wait(30)
    starter.stdout.close()
    deadline = time.monotonic() + 10
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, children))


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_we_lean_on_in_torch_is_there():
    """Private: ranks that are threads need these. Where one is gone, look at `multi_threaded_pg` for its successor."""
    from torch.testing._internal.distributed.multi_threaded_pg import ThreadLocalWorld

    world = ThreadLocalWorld()
    for name in ("default_pg", "pg_map", "pg_names", "pg_group_ranks", "pg_backend_config", "pg_to_tag"):
        assert hasattr(world, name), name
    for name in ("_register_backend", "_set_default_backend", "_set_group_name"):
        assert hasattr(dist.ProcessGroup, name), name
    assert hasattr(dist.ProcessGroupGloo, "_Options")
