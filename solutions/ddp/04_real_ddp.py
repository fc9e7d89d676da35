# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Real processes: start, stop, go on
#
# *Data parallelism, part 4 of 4: torchrun, batch norm across ranks, checkpoints.*
#
# **Claim.** A training script that `torchrun` starts on two processes, made of the functions that you wrote, follows the loss curve of a single process. When one of its processes is killed, the other one does not hang, and the next start goes on from the last checkpoint
# along the same curve.
#
# | | |
# |---|---|
# | **Time** | about 40 minutes; the code runs for about half a minute |
# | **You need** | [notebook 01](01_gradient_averaging.ipynb); what batch norm computes |
# | **Graded** | four exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | a script that starts on one computer, on eight GPUs or on two computers, and survives an accident |

# %% setup
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

import utils
from autograde import open_lesson, yours
from utils import plotting
from utils.distributed import RankError, run_ranks, traffic

utils.setup()
check = open_lesson("ddp/04_real_ddp")

# %% [markdown]
# ## The problem: averaged gradients are not enough
#
# Notebook 01 proved that the mean of the ranks' gradients is the full gradient, if an example's loss depends on that example alone. Batch norm subtracts the mean of the *batch* and divides by its standard deviation. On two ranks there are two batches, and so two means.
#
# Below, images of digits (8 by 8 pixels, from scikit-learn). Rank 0 has zeros to fours, rank 1 has fives to nines. For every pixel: the variance over all images, against the mean of the two ranks' variances.


# %%
def on_ranks(work: Callable, world: int) -> list:
    """run_ranks; but a function of yours that is not written yet is reported as that."""
    try:
        return run_ranks(work, world)
    except RankError as error:
        if "NotImplementedError" in str(error):
            raise NotImplementedError("A function that the ranks need is not written yet.") from None
        raise


def digits() -> tuple[Float[Tensor, "n 64"], Tensor]:
    """1797 images, scaled to 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


# %% tags=["demo"]
images, labels = digits()
halves = [images[labels < 5], images[labels >= 5]]
whole = images.var(0, correction=0)
of_ranks = torch.stack([half.var(0, correction=0) for half in halves]).mean(0)
fig, ax = plotting.figure(width=5.6, height=3.8)
ax.plot([0, 0.2], [0, 0.2], color=plotting.GREY, linewidth=1)
ax.plot(whole, of_ranks, "o", color=plotting.VERMILLION)
ax.set(xlabel="variance of a pixel over all images", ylabel="mean of the two ranks' variances")
plotting.caption(fig, "One point for each pixel. All lie on the line or below it, none above.")
print(f"pixels above the line by more than rounding: {int((of_ranks > whole + 1e-3).sum())} of {len(whole)}")
print(f"largest ratio of the two variances: {(whole / of_ranks.clamp(min=1e-9))[whole > 0.01].max():.2f}")

# %% [markdown]
# The mean of the variances is too small, because it knows nothing of how far the ranks' means are apart. Shuffled data makes the gap smaller, and small batches make it larger again.
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $N,\ r$ | world size and rank | |
# | $x_i$ | features of example $i$ | `[features]` |
# | $n_r,\ n$ | examples on rank $r$, and on all ranks | |
# | $\mu_r,\ v_r$ | mean and variance of rank $r$'s examples | `[features]` |
# | $\mu,\ v$ | mean and variance of all examples; $v$ divides by $n$ | `[features]` |
# | $\eta$ | learning rate of one process | positive |
# | step | number of updates done | 0 and up |
#
# ## Statistics of a batch that is somewhere else
#
# The mean is a sum divided by a count, and both can be summed over ranks: $\mu = \frac1n \sum_r \sum_{i \text{ on } r} x_i$. For the variance split each distance from the common mean into two, $x_i - \mu = (x_i - \mu_r) + (\mu_r - \mu)$. Squared and summed over a rank, the product of the two vanishes, and
#
# $$ v = \sum_r \frac{n_r}{n} \left( v_r + (\mu_r - \mu)^2 \right) . $$
#
# The second term is what the mean of the variances leaves out. There are two safe ways to $v$: this formula, or a second all-reduce, of $\sum_i (x_i - \mu)^2$ with the common $\mu$. A third one is popular and unsafe: $\frac1n \sum x_i^2 - \mu^2$ subtracts two large numbers where features are far from zero. In float32, features around $10^4$ leave nothing of a variance of 1: their squares are multiples of 8.
#
# ### Exercise 1 · sync_bn_stats  ●●●  10 minutes
#
# Write the statistics, with three collectives at most. The examples stay where they are: only sums and counts for each feature go over the network. Ranks may have different numbers of examples, one of them none. (The gradient of batch norm passes through $\mu$ and $v$ as well, so that its backward pass needs collectives, too. `nn.SyncBatchNorm` does both, on GPUs; here we stay with the forward pass.)


# %% sync_bn_stats tags=["exercise"]
def sync_bn_stats(
    x: Float[Tensor, "batch features"],
) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
    """Mean and variance of each feature over the examples of all ranks. All ranks call it.

    Arguments:
        x: this rank's examples, perhaps another number than on other ranks, perhaps none. Not changed: the next layers need it.

    Returns:
        Mean and biased variance (divided by the number of all examples), the same on all ranks, in the dtype of x.

    Example:
        With the examples 1 and 3 on rank 0 and 8 on rank 1 the mean is 4 and the variance (9 + 1 + 16) / 3 = 8.67.
    """
    ### BEGIN SOLUTION
    totals = torch.cat([x.sum(0), x.new_tensor([len(x)])])
    dist.all_reduce(totals)
    mean = totals[:-1] / totals[-1]
    squares = (x - mean).square().sum(0)
    dist.all_reduce(squares)
    return mean, squares / totals[-1]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# First all-reduce: sums and the count, in one tensor. Second one: squared distances from the common mean. A sum over no examples is zero, so an empty rank needs no extra case.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `totals = torch.cat([x.sum(0), x.new_tensor([len(x)])])`, all-reduce, `mean = totals[:-1] / totals[-1]`. Then `(x - mean).square().sum(0)`, all-reduce, divided by `totals[-1]`.
#
# </details>
#
# <details>
# <summary>"NaN on the rank without examples"</summary>
#
# The mean over no examples is 0 / 0. Use sums, and divide once, at the end, by the number of all examples.
#
# </details>

# %% check_sync_bn_stats tags=["check"]
check.sync_bn_stats(sync_bn_stats)

# %% tags=["demo"]
images, labels = digits()
whole = images.var(0, correction=0)


def pooled(rank: int, world: int) -> tuple[Tensor, int]:
    """The variance over both halves, and the number of all-reduces."""
    part = images[labels < 5] if rank == 0 else images[labels >= 5]
    return sync_bn_stats(part)[1], traffic().count("allreduce")


for rank, (variance, calls) in enumerate(on_ranks(pooled, 2)):
    close = torch.allclose(variance, whole, atol=1e-6)
    print(f"rank {rank}: the variance of all images up to rounding: {close}, {calls} all-reduces")

# %% [markdown]
# ## A checkpoint that is never half
#
# With many computers, one of them fails now and then. What counts is how much is lost. A **checkpoint** holds everything that the next step depends on: the model, the state of the optimiser (here the velocity of momentum), and the number of the step, from which `shard` makes the order of the examples.
#
# Three things go wrong when several ranks save. All of them write into the same file at the same time. Or rank 0 writes, and another rank reads the file before it is complete. Or the process is killed while it writes, and the old checkpoint is lost together with the new one. The remedy for the third is old: write
# into another file *beside* it, then rename. `os.replace` is **atomic** within one disk: whoever looks sees the old file or the new one, and never half of one.
#
# ### Exercise 2 · save_on_rank0  ●●○  7 minutes
#
# Rank 0 writes with `torch.save`; all ranks return when the file is in its place. The others wait through `torch.distributed`: nobody knows how long rank 0 writes, and another computer may not even see its disk. If writing fails, the error of `torch.save` may end rank 0: the launcher then ends the others. `dist.barrier()` ends when every rank has called it.


# %% save_on_rank0 tags=["exercise"]
def save_on_rank0(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint from rank 0. All ranks call it, and none returns before the file is there.

    Arguments:
        path: where. An old checkpoint there is replaced, and stays whole if writing the new one fails.
        state: what torch.save writes, all of it. Not changed: the training goes on with it.

    Returns:
        Nothing. No other file is left beside the checkpoint that was written, and ranks other than 0 write none at all.

    Example:
        save_on_rank0(Path("checkpoint.pt"), {"step": 20}) on 2 ranks makes 1 file.
    """
    ### BEGIN SOLUTION
    if dist.get_rank() == 0:
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)
    dist.barrier()
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# An `if` for rank 0 with two lines in it, and a barrier after the `if`, which all ranks reach.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `partial = path.with_suffix(".partial")`, `torch.save(state, partial)`, `os.replace(partial, path)`.
#
# </details>
#
# <details>
# <summary>"Rank 0 was waiting in barrier"</summary>
#
# The barrier is inside of the `if`. It is a collective: every rank has to call it.
#
# </details>

# %% check_save_on_rank0 tags=["check"]
check.save_on_rank0(save_on_rank0)

# %% tags=["demo"]
with tempfile.TemporaryDirectory() as temporary:
    place = Path(temporary) / "checkpoint.pt"
    on_ranks(lambda rank, world: save_on_rank0(place, {"step": 20, "written by": rank}), 3)
    print("files:", *(file.name for file in Path(temporary).iterdir()), "with", torch.load(place))

# %% [markdown]
# ### Exercise 3 · resume  ●●○  7 minutes
#
# The way back. At the first start there is no checkpoint. Write *into* the model and the velocity: somebody else holds them. Every rank reads the file, so no broadcast is needed.


# %% resume tags=["exercise"]
def resume(path: Path, model: nn.Module, velocity: list[Tensor]) -> int:
    """Put model and velocity back to what a checkpoint holds.

    Arguments:
        path: a file with {"model": model.state_dict(), "velocity": list of tensors, "step": steps done}, or no file.
        model: parameters and buffers are changed in place. Whether they require a gradient is not.
        velocity: one tensor for each parameter, changed in place. The list stays as it is.

    Returns:
        The number of steps that are done, which is the number of the next step, counted from 0. Without a file 0, and nothing changes.

    Example:
        With a checkpoint that was written after 20 steps it returns 20, and the training goes on with `range(20, steps)`.
    """
    ### BEGIN SOLUTION
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    for mine, saved in zip(velocity, state["velocity"], strict=True):
        mine.copy_(saved)
    return state["step"]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# `path.exists()`, `torch.load`, `model.load_state_dict`, and `copy_` for each tensor of the velocity. `load_state_dict` writes into the tensors that are there, buffers included.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `for mine, saved in zip(velocity, state["velocity"], strict=True): mine.copy_(saved)`. `torch.load(path, map_location="cpu", weights_only=True)` reads tensors and numbers, and runs no code that a file may hold; `map_location` keeps rank 3 from loading onto GPU 0.
#
# </details>
#
# <details>
# <summary>"The curve has a bend where the training goes on"</summary>
#
# Something of the state is missing. Without the velocity, momentum starts from zero, and some steps are too short.
#
# </details>

# %% check_resume tags=["check"]
check.resume(resume)

# %% tags=["demo"]
with tempfile.TemporaryDirectory() as temporary:
    place, net = Path(temporary) / "checkpoint.pt", nn.Linear(2, 1)
    speed = [torch.ones_like(p) for p in net.parameters()]
    print("first start, step", resume(place, net, speed))
    torch.save({"model": net.state_dict(), "velocity": [7 * v for v in speed], "step": 20}, place)
    print("second start, step", resume(place, net, speed), "with velocity", speed[1].tolist())

# %% [markdown]
# ## A script and a launcher
#
# Now real processes. `torchrun` starts a script once for each rank, and tells each copy who it is, through environment variables:
#
# | variable | meaning |
# |---|---|
# | `RANK`, `WORLD_SIZE` | rank and number of ranks, over all computers |
# | `LOCAL_RANK` | number of the process on its own computer; this one chooses the GPU |
# | `MASTER_ADDR`, `MASTER_PORT` | where the ranks meet at the start |
#
# `dist.init_process_group("gloo")` reads them, and waits until all ranks are there. The script below has nothing else that is new. It is written into a temporary folder, together with the digits and the functions that you wrote (in a project of your own they would be in a module).


# %%
SCRIPT = '''
"""Trains a small network on images of digits, on as many ranks as torchrun starts."""

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

import cloudpickle
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

BATCH, RATE, EVERY = 96, 0.1, 10


def network(seed):
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=source))
    return net


def train(yours, folder, steps, without="", kill_at=-1, checkpoint=None):
    """The mean loss of the ranks' batches in each step, by the number of the step."""
    rank, world = dist.get_rank(), dist.get_world_size()
    images, labels = torch.load(folder / "digits.pt")
    net, losses = network(seed=rank), {}
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    if without != "broadcast":
        yours["broadcast_params"](net)
    done = yours["resume"](checkpoint, net, velocity) if checkpoint else 0
    per_epoch, size = len(labels) // BATCH, BATCH // world
    for step in range(done, steps):
        epoch, at = divmod(step, per_epoch)
        share = yours["shard"](len(labels), 0 if without == "sharding" else rank, world, epoch, 0)
        part = share[at * size : (at + 1) * size]
        net.zero_grad()
        loss = F.cross_entropy(net(images[part]), labels[part])
        loss.backward()
        if step == kill_at and rank == world - 1:
            os.kill(os.getpid(), signal.SIGKILL)  # an accident
        if without != "average":
            yours["average_gradients"](net)
        with torch.no_grad():
            for p, v in zip(net.parameters(), velocity):
                v.mul_(0.9).add_(p.grad)
                p.sub_(RATE * v)
        mean = loss.detach() / world
        dist.all_reduce(mean)
        losses[step] = mean.item()
        if checkpoint and (step + 1) % EVERY == 0:
            state = {"model": net.state_dict(), "velocity": velocity, "step": step + 1}
            yours["save_on_rank0"](checkpoint, state)
    return losses


def main():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with the process that started this one
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    folder = Path(__file__).parent
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    yours = cloudpickle.loads((folder / "functions.pkl").read_bytes())
    curves = {name: train(yours, folder, options.steps, name) for name in options.without}
    if dist.get_rank() == 0:
        torch.save(curves, folder / "curves.pt")
    if options.checkpoint:
        losses = train(yours, folder, options.steps, "", options.kill_at, options.checkpoint)
        if dist.get_rank() == 0:
            torch.save(losses, folder / "again.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
'''


def end_with_parent() -> None:
    """On Linux: this process is told to end when the one that started it has gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def launch(folder: Path, *options: str, ranks: int = 2, seconds: float = 100) -> tuple[int, str]:
    """Run the script with torchrun; its exit status and what it printed. Nothing is left running, whatever happens."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, str(folder / "train.py"), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def prepare(functions: dict[str, Callable]) -> Path:
    """A temporary folder with the script, the digits and the functions."""
    import cloudpickle

    folder = Path(tempfile.mkdtemp(prefix="ddp-"))
    (folder / "train.py").write_text(SCRIPT)
    (folder / "functions.pkl").write_bytes(cloudpickle.dumps(functions))
    torch.save(digits(), folder / "digits.pt")
    return folder


# %% [markdown]
# ## Test the claim
#
# The first launch, `torchrun --standalone --nproc-per-node 2 train.py`, trains five times one after the other: as it should be; three times as in the **negative controls** of notebook 01; and a fifth time with checkpoints, in which rank 1 has an accident: in step 25 it kills itself, before the gradients
# are averaged. What happens to rank 0, which waits for it? The single process beside it runs here in the notebook, with the same function and world size 1. Starting processes takes some seconds, most of which goes into importing torch.

# %% tags=["demo"]
resume(Path("there is no such file"), nn.Linear(1, 1), [])  # yours has to be written before processes start
shard, broadcast_params, average_gradients = yours(
    "ddp/01_gradient_averaging", "shard", "broadcast_params", "average_gradients"
)
functions = {
    "shard": shard,
    "broadcast_params": broadcast_params,
    "average_gradients": average_gradients,
    "resume": resume,
    "save_on_rank0": save_on_rank0,
}
folder = prepare(functions)
checkpoint = str(folder / "checkpoint.pt")
controls = "", "broadcast", "average", "sharding"
status, output = launch(folder, "--without", *controls, "--checkpoint", checkpoint, "--kill-at", "25")
curves = torch.load(folder / "curves.pt")

spec = importlib.util.spec_from_file_location("train", folder / "train.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
single = on_ranks(lambda rank, world: script.train(functions, folder, 40), 1)[0]


def off(losses: dict[int, float], other: dict[int, float]) -> float:
    """The largest difference between two curves, at the steps of the first."""
    return max(abs(losses[step] - other[step]) for step in losses)


names = {
    "": "two processes",
    "broadcast": "without the broadcast",
    "average": "without the average",
    "sharding": "the same share on both",
}
print("largest difference from the curve of one process:")
for key, name in names.items():
    print(f"  {name:24}{off(curves[key], single):.0e}   (below 1e-5: {off(curves[key], single) < 1e-5})")

# %% tags=["demo"]
resume(Path("there is no such file"), nn.Linear(1, 1), [])
fig, (left, right) = plotting.figure(1, 2, width=10, height=3.8, width_ratios=[1.2, 1])
left.plot(single.keys(), single.values(), color=plotting.PALE, linewidth=7, label="one process")
styles = (plotting.BLUE, "-"), (plotting.VERMILLION, "-"), (plotting.ORANGE, "--"), (plotting.GREEN, "-.")
for (key, name), (color, line) in zip(names.items(), styles, strict=True):
    left.plot(curves[key].keys(), curves[key].values(), line, color=color, label=name)
    differences = [max(abs(loss - single[step]), 1e-8) for step, loss in curves[key].items()]
    right.semilogy(differences, line, color=color)
left.set(xlabel="step", ylabel="loss of the batch", ylim=(0, None))
right.set(xlabel="step", ylabel="difference from one process", ylim=(5e-9, 5))
left.legend(loc="lower left")
plotting.caption(
    fig,
    "Left: two real processes lie on the curve of one. Right: the difference, on a logarithmic scale (cut off at 1e-8). Each negative "
    "control is far from rounding.",
)

# %% [markdown]
# The two processes lie on the curve of one; the differences are those of float32 sums in another order.
#
# Now the accident at the end of that launch, and the second launch, with the same checkpoint.

# %% tags=["demo"]
resume(Path("there is no such file"), nn.Linear(1, 1), [])
print("first launch: exit status", status)
for line in output.splitlines():
    name, _, value = line.partition(":")
    if name.strip() == "rank":
        ended = value.split()[0]
    elif name.strip() == "exitcode":
        print(f"  rank {ended} ended with exit code {value.split()[0]}")
print("the checkpoint is from step", torch.load(checkpoint)["step"])

status, output = launch(folder, "--checkpoint", checkpoint)
print("second launch: exit status", status, output if status else "")
again = torch.load(folder / "again.pt")
equal = off(again, curves[""]) < 1e-6
print(
    f"it made the steps {min(again)} to {max(again)}; equal to the training that was not interrupted: {equal}"
)

fig, ax = plotting.figure(width=8.5, height=3.2)
ax.plot(curves[""].keys(), curves[""].values(), color=plotting.PALE, linewidth=7, label="not interrupted")
ax.plot(again.keys(), again.values(), color=plotting.BLUE, label="after the second start")
ax.axvline(25, color=plotting.VERMILLION, linestyle="--", linewidth=1.2, label="rank 1 is killed")
ax.set(xlabel="step", ylabel="loss of the batch", ylim=(0, None), xlim=(0, 40))
ax.legend(loc="upper right")
plotting.caption(fig, "The second start goes on at the checkpoint, along the same curve.")
shutil.rmtree(folder)

# %% [markdown]
# torchrun sees that a process has gone, ends the others, and says how each ended: `-9` is the signal SIGKILL, which is also what a system sends that runs out of memory. (`-15` is SIGTERM, with which torchrun ends a rank. Rank 0 may be faster, and end with an error of its own: its connection is broken.) The checkpoint of step 20 is whole. The second start repeats the steps that were lost, and meets the old curve, because everything that a step depends on is in
# the checkpoint or follows from the step's number. `torchrun --max-restarts 3` starts again by itself.
#
# ## A larger batch, another rate
#
# So far the batch was divided, and the training stayed the same. Usually one wants more: each rank keeps the batch that fits into its memory, and the whole batch becomes $N$ times as large. There are $N$ times fewer steps in an epoch, so each should go $N$ times as far: the **linear scaling rule** multiplies the rate by $N$. At the start, where
# the loss changes fast, such steps are too long. Goyal and others (2017) let the rate grow from $\eta$ to $N \eta$ by the same amount in each step, over the first five epochs, and trained ResNet-50 with batches of 8192 images on 256 GPUs in one hour.
# <!-- not printed: 50, 8192, 256 (the name of the network, and the abstract of Goyal et al.) -->
#
# ### Exercise 4 · warmup_lr  ●○○  5 minutes
#
# Write the rate.


# %% warmup_lr tags=["exercise"]
def warmup_lr(step: int, base: float, world: int, warmup: int) -> float:
    """The learning rate with linear scaling and a gradual warm-up.

    Arguments:
        step: number of the step, counted from 0.
        base: the rate of one process.
        world: how many ranks, each with the batch of one process.
        warmup: after this many steps the rate is world * base. With 0 it is so from the start.

    Returns:
        base at step 0, growing by the same amount in each step to world * base at step warmup, constant from there on.

    Example:
        warmup_lr(0, 0.1, 4, 3), warmup_lr(1, 0.1, 4, 3), ... are 0.1, 0.2, 0.3, 0.4, 0.4, 0.4.
    """
    ### BEGIN SOLUTION
    done = min(step / warmup, 1.0) if warmup else 1.0
    return base * (1 + (world - 1) * done)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The share of the warm-up that is done goes from 0 to 1 and stays there. The rate is base plus that share of the difference between the two rates.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `base * (1 + (world - 1) * min(step / warmup, 1.0))`, and a case for `warmup == 0`.
#
# </details>
#
# <details>
# <summary>"My rate begins at 0"</summary>
#
# Then the whole rate is multiplied by the share. Only the part above `base` grows.
#
# </details>

# %% check_warmup_lr tags=["check"]
check.warmup_lr(warmup_lr)

# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=3.2)
for world, color in ((1, plotting.GREY), (2, plotting.GREEN), (8, plotting.BLUE)):
    rates = [warmup_lr(step, 0.1, world, 20) for step in range(41)]
    ax.plot(rates, color=color)
    plotting.label(ax, 40.5, rates[-1], f"N = {world}: {rates[-1]:.1f}", color)
ax.set(xlabel="step", ylabel="learning rate", ylim=(0, 0.9), xlim=(0, 47))
plotting.caption(fig, "All begin at the rate of one process, and reach N times that rate at step 20.")
print("8 ranks, steps 0, 10, 20, 30:", *(round(warmup_lr(step, 0.1, 8, 20), 3) for step in (0, 10, 20, 30)))

# %% [markdown]
# ## Eight GPUs, two computers
#
# What changes on real clusters is little, and it is in the script's first lines. We have run the script on two processes of one computer only; the commands below follow PyTorch's documentation, and **are not tested here**.
#
# - One computer with eight GPUs: `torchrun --standalone --nproc-per-node 8 train.py`. The backend is `"nccl"`, and the device `torch.device("cuda", int(os.environ["LOCAL_RANK"]))`, set with `torch.cuda.set_device` before anything else. With `RANK` in its place the script works until there is a second computer.
# - Two computers with eight GPUs each, the same command on both:
#   `torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint FIRST_HOST:29500 --rdzv-id 7 train.py`. The first host's name has to be known to the other, and its port open. The checkpoint has to lie on a disk that both see, or rank 0's file must be copied.
# - In place of your functions: `DistributedDataParallel(model, device_ids=[local_rank])` does what notebooks 01 and 03 do; `DistributedSampler` with `set_epoch(epoch)` is `shard`; `with model.no_sync():` accumulates; `nn.SyncBatchNorm.convert_sync_batchnorm(model)` synchronises batch norm.
#
# ## What you built
#
# 1. Statistics of a batch that is spread over ranks of different size.
# 2. Checkpoints that are whole or not there, and a training that goes on from them along the same curve.
# 3. A script that torchrun starts; two processes follow the curve of one.
#
# **Limits.** Whatever else a step depends on has to go into the checkpoint, too: states of random generators (dropout), a schedule, a gradient scaler. Each rank must have a state of its own there. Sharded optimisers and models need another way to save.
#
# **Cost.** Starting processes takes seconds. A checkpoint stops all ranks for as long as rank 0 writes, which is why large trainings copy first and write beside the training.
#
# ## Sources
#
# - P. Goyal, P. Dollár, R. Girshick and others, *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour* (2017), arXiv:1706.02677, section 2.1 (linear scaling) and section 2.2 (warm-up).
# - S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift* (2015), arXiv:1502.03167, algorithm 1.
# - S. Li, Y. Zhao, R. Varma and others, *PyTorch Distributed: Experiences on Accelerating Data Parallel Training* (2020), arXiv:2006.15704.
# - PyTorch, [torchrun](https://docs.pytorch.org/docs/stable/elastic/run.html): the launcher, its environment variables, restarts.
