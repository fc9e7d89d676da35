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
# # Buckets: send while you compute
#
# *Data parallelism, part 3 of 4: all-reduces that run during the backward pass.*
#
# **Claim.** With hooks on the parameters, all buckets of gradients but the last are on their way before the backward pass has ended, as counted by the network layer; the gradients are the same as without overlap. A blocking all-reduce
# after the backward pass starts none before its end. And the best size of a bucket is neither the smallest nor the largest.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for about ten seconds |
# | **You need** | [notebook 01](01_gradient_averaging.ipynb); latency and bandwidth from [notebook 02](02_ring.ipynb) |
# | **Graded** | four exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | the mechanism inside of `DistributedDataParallel`: buckets, hooks, asynchronous all-reduces |

# %% setup
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import utils
from autograde import open_lesson, yours
from utils import plotting, widgets
from utils.distributed import RankError, run_ranks, traffic

utils.setup()
check = open_lesson("ddp/03_buckets")

# %% [markdown]
# ## The problem: a network that waits
#
# In notebook 01 the ranks average *after* the backward pass. Nothing is computed while gradients travel, and nothing travels while gradients are computed. Yet the gradient of the last layer is known first, long before that of the first layer, and could have gone.
#
# `dist.all_reduce(x, async_op=True)` starts an all-reduce and returns at once a handle whose `wait()` ends it. And a parameter can call you: `p.register_post_accumulate_grad_hook(f)` makes the backward pass call `f(p)` as soon as `p.grad` is there. Below, a network of eight layers, with
# blocking all-reduces after the backward pass. The ticks show in which order gradients were there and all-reduces were started.


# %%
LAYERS, WIDTH = 8, 96


def on_ranks(work: Callable, world: int) -> list:
    """run_ranks; but a function of yours that is not written yet is reported as that."""
    try:
        return run_ranks(work, world)
    except RankError as error:
        if "NotImplementedError" in str(error):
            raise NotImplementedError("A function that the ranks need is not written yet.") from None
        raise


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Eight layers, the same on every rank."""
    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, dtype=dtype) for _ in range(LAYERS)))
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=source, dtype=dtype))
    return net


def batch(rank: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The examples of a rank."""
    return torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(rank), dtype=dtype)


def watch(net: nn.Module) -> list[float]:
    """A list into which the times go at which gradients are there."""
    arrived: list[float] = []
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(lambda _: arrived.append(time.perf_counter()))
    return arrived


def events(arrived: list[float]) -> tuple[list[float], list[float]]:
    """Times of gradients and of all-reduces on this rank, in seconds of the computer's clock."""
    started = [message.time for message in traffic().messages if message.operation == "allreduce"]
    return arrived, started


def blocking(rank: int, world: int) -> tuple[list[float], list[float]]:
    """Backward first, all-reduces afterwards."""
    net = network()
    arrived = watch(net)
    net(batch(rank)).square().mean().backward()
    for p in net.parameters():
        dist.all_reduce(p.grad)
        p.grad /= world
    return events(arrived)


def draw_events(ax: Axes, arrived: list[float], started: list[float], title: str) -> None:
    """Events in their order in time: gradients above, all-reduces below, and the end of the backward pass."""
    place = {t: number for number, t in enumerate(sorted([*arrived, *started]), start=1)}
    for height, times, color in ((1, arrived, plotting.BLUE), (0, started, plotting.VERMILLION)):
        ax.plot(
            [place[t] for t in times],
            [height] * len(times),
            "|",
            color=color,
            markersize=16,
            markeredgewidth=2,
        )
    ax.axvline(place[arrived[-1]], color=plotting.GREY, linewidth=1, linestyle=":")
    ax.set(yticks=[0, 1], yticklabels=["all-reduce started", "gradient there"], ylim=(-0.6, 1.6), title=title)
    ax.set(xticks=range(0, len(place) + 1, 5))


def early(arrived: list[float], started: list[float]) -> int:
    """All-reduces that were started before the last gradient was there."""
    return sum(t < arrived[-1] for t in started)


# %% tags=["demo"]
times_blocking = run_ranks(blocking, 2)[0]
fig, ax = plotting.figure(width=8.5, height=2.4)
draw_events(ax, *times_blocking, title="blocking, rank 0")
ax.set(xlabel="events of rank 0, in their order", ylabel="event")
plotting.caption(
    fig, "Orange-red ticks stand behind the dotted line, the end of the backward pass: no overlap."
)
print(
    f"started before the end of the backward pass: {early(*times_blocking)} of {len(times_blocking[1])} all-reduces"
)

# %% [markdown]
# ## Notation
#
# | symbol | meaning | values |
# |---|---|---|
# | bucket | parameters whose gradients go in one message | list of positions |
# | cap | the most bytes that a bucket may have | bytes |
# | $k$ | number of a bucket, in the order in which gradients come | 0 to $K - 1$ |
# | $a_k$ | time that the backward pass takes for the gradients of bucket $k$ | seconds |
# | $c_k$ | time of the all-reduce of bucket $k$ | seconds |
# | $e_k$ | when that all-reduce ends; 0 is the beginning of the backward pass | seconds |
#
# ## What goes together
#
# Notebook 02 has two messages: small ones waste time on latency, and a large vector costs what its bytes cost. One all-reduce for each tensor means many small messages; one for everything can start only at the very end. So gradients are put into **buckets** of a moderate size. Which ones belong together? Those that come at the same time. The backward
# pass runs from the last layer to the first, and `model.parameters()` lists them from the first to the last. So we go through the list from its end.
#
# ### Exercise 1 · make_buckets  ●●○  8 minutes
#
# Fill one bucket after the other, never over the cap. A parameter that is larger than the cap gets a bucket of its own. A bucket becomes one flat tensor, so it has one dtype. Frozen parameters get no gradient and are in no bucket.


# %% make_buckets tags=["exercise"]
def make_buckets(parameters: list[nn.Parameter], cap_bytes: int) -> list[list[int]]:
    """Divide parameters into buckets, in the order in which their gradients come.

    Arguments:
        parameters: as list(model.parameters()) gives them. The list stays as it is. A number of p takes p.element_size() bytes.
        cap_bytes: the most bytes in a bucket. One that is filled exactly is full. A parameter that is larger is alone.

    Returns:
        Buckets of positions in the list. All positions of trainable parameters, put one after the other, run from the last to the first.
        A new bucket begins only where the next trainable parameter does not fit, or has another dtype. No parameter: no bucket.

    Example:
        For float32 parameters of 10, 20, 30 and 5 numbers and a cap of 140 bytes: [[3, 2], [1, 0]].
    """
    ### BEGIN SOLUTION
    buckets, filled, dtype = [], 0, None
    for i in reversed(range(len(parameters))):
        p = parameters[i]
        if p.requires_grad:
            size = p.numel() * p.element_size()
            if not buckets or filled + size > cap_bytes or p.dtype != dtype:
                buckets.append([])
                filled, dtype = 0, p.dtype
            buckets[-1].append(i)
            filled += size
    return buckets
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# One loop from the last position to the first, with the bytes of the current bucket in a variable. Before a parameter goes in, ask whether it has to go into a new bucket.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `if not buckets or filled + size > cap_bytes or p.dtype != dtype:` begin a new bucket, with `filled = 0`. Then append the position, and add its size.
#
# </details>
#
# <details>
# <summary>"I have an empty bucket"</summary>
#
# A parameter that is larger than the cap closes the bucket before it, also if that one is empty. Begin a bucket only at the moment when a parameter goes in.
#
# </details>

# %% check_make_buckets tags=["check"]
check.make_buckets(make_buckets)

# %% tags=["demo"]
parameters = list(network().parameters())
for cap in (1000, 80_000, 10**9):
    buckets = make_buckets(parameters, cap)
    print(f"cap {cap:>13,} bytes: {len(buckets):2} buckets, the first is {buckets[0]}")

# %% [markdown]
# ## Start now, finish later
#
# A bucket has two moments. When its last gradient is there, the all-reduce is *started*. When the backward pass is over and the optimiser needs the gradients, it is *finished*: wait, divide, write back. The function below returns the second half as a function.
#
# ### Exercise 2 · launch_bucket  ●●●  12 minutes
#
# Put the gradients of a bucket into one flat tensor, start one all-reduce of it, and return `finish`. Zeros stand for a gradient that is None: the flat tensors of all ranks need the same length. It has the dtype of the gradients. gloo ends the whole process where they differ. (The check looks whether rank 0 returns while the other
# ranks have not even started.)


# %% launch_bucket tags=["exercise"]
@torch.no_grad()
def launch_bucket(bucket: list[nn.Parameter]) -> Callable[[], None]:
    """Start the all-reduce of a bucket's gradients. All ranks call it with the same bucket.

    Arguments:
        bucket: parameters of one dtype. Where p.grad is None, zeros take its place.

    Returns:
        finish: a function without arguments, to be called later. It waits for the all-reduce, and puts the mean over the ranks
        into p.grad of every parameter of the bucket, also where it was None. The parameters themselves do not change.

    Example:
        Two ranks with a gradient of 1.0 and of 4.0: `finish = launch_bucket([p])` returns at once, and after `finish()` both have 2.5.
    """
    ### BEGIN SOLUTION
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    flat = torch.cat([piece.flatten() for piece in pieces])
    work = dist.all_reduce(flat, async_op=True)

    def finish() -> None:
        work.wait()
        flat.div_(dist.get_world_size())
        means = flat.split([p.numel() for p in bucket])
        for parameter, mean in zip(bucket, means, strict=True):
            parameter.grad = mean.view_as(parameter)

    return finish
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# `torch.cat` of flattened gradients; `dist.all_reduce(flat, async_op=True)`; and an inner function that uses both. The sum is not in `flat` before `wait()` has returned, so do not touch it earlier.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# In `finish`: `work.wait()`, `flat.div_(dist.get_world_size())`, and for each parameter and each piece of `flat.split([p.numel() for p in bucket])`: `p.grad = piece.view_as(p)`.
#
# </details>
#
# <details>
# <summary>"1 ranks waited in vain for rank 0 to return"</summary>
#
# Your function waits for the all-reduce before it returns: either `async_op=True` is missing, or you call `wait()` right after the start.
#
# </details>

# %% check_launch_bucket tags=["check"]
check.launch_bucket(launch_bucket)


# %% tags=["demo"]
def one_bucket(rank: int, world: int) -> list[float]:
    """Two parameters, one of them unused on rank 1."""
    used, spare = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    used.grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    spare.grad = torch.tensor([8.0]) if rank == 0 else None
    launch_bucket([used, spare])()
    return [*used.grad.tolist(), *spare.grad.tolist()]


for rank, means in enumerate(on_ranks(one_bucket, 2)):
    print(f"rank {rank}: {means}")

# %% [markdown]
# ## When is a bucket ready?
#
# Count. Each parameter has a hook that takes one off its bucket's number of missing gradients. At zero, launch.
#
# Now the trap. Collectives are matched by their order: the first one on rank 0 belongs to the first one on rank 1. Suppose that rank 1 does not use a layer of bucket 0 in this step. Then bucket 1 is ready there first. Launched at once, it would meet bucket 0 of rank 0, and the sum would be nonsense. So buckets are launched **in the
# order of their numbers**, on every rank: a bucket that is ready waits for those before it. And those that are not ready when the backward pass ends are launched then, in `rest`.
#
# ### Exercise 3 · on_grad_ready  ●●●  12 minutes
#
# Register the hooks, and return `rest`. What a launch does is not your concern here: call `launch` with the number of the bucket. After `rest` the counters have to be as at the beginning, for the next step. Use `register_post_accumulate_grad_hook`: a hook of `p.register_hook` runs before `p.grad` is set. Let the hooks count, and do
# not ask whether `p.grad` is None: before the backward pass it may be None, zeros or an old gradient.


# %% on_grad_ready tags=["exercise"]
def on_grad_ready(buckets: list[list[nn.Parameter]], launch: Callable[[int], None]) -> Callable[[], None]:
    """Register hooks that launch each bucket in the backward pass, as early as the order allows.

    Arguments:
        buckets: parameters of each bucket, in the order in which the buckets are to be launched. Inside of a bucket gradients may
            come in any order. The lists stay as they are.
        launch: called with the number of a bucket, it starts the all-reduce of that bucket.

    Returns:
        rest: to be called after each backward pass. It launches the buckets that are not launched yet, in order, and makes everything
        ready for the next backward pass.

    Example:
        With two buckets, and all gradients there: launch(0) and launch(1) are called in the backward pass, and nothing by rest. Where a
        gradient of bucket 0 is missing, rest calls launch(0) and launch(1).
    """
    ### BEGIN SOLUTION
    missing = [len(bucket) for bucket in buckets]
    following = 0

    def ready(k: int) -> None:
        nonlocal following
        missing[k] -= 1
        while following < len(buckets) and missing[following] == 0:
            launch(following)
            following += 1

    for k, bucket in enumerate(buckets):
        for parameter in bucket:
            parameter.register_post_accumulate_grad_hook(lambda _, k=k: ready(k))

    def rest() -> None:
        nonlocal following
        for k in range(following, len(buckets)):
            launch(k)
        following = 0
        missing[:] = [len(bucket) for bucket in buckets]

    return rest
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Two variables: a list of missing gradients for each bucket, and the number of the next bucket to be launched. Each hook changes the list, and then launches as long as the *next* bucket is complete: that may be none, one or several.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# The hook of a parameter in bucket `k` is `lambda _, k=k: ready(k)`. In `ready`: `missing[k] -= 1`, then `while following < len(buckets) and missing[following] == 0: launch(following); following += 1`, with `nonlocal following`.
#
# </details>
#
# <details>
# <summary>"All my hooks report to the last bucket"</summary>
#
# A lambda looks its variables up when it runs, and the loop is over by then. Bind the value at once: `lambda _, k=k: ...`.
#
# </details>

# %% check_on_grad_ready tags=["check"]
check.on_grad_ready(on_grad_ready)

# %% [markdown]
# ## Test the claim
#
# All of it together, on two and four ranks: buckets, hooks and asynchronous all-reduces. The **negative control** is the blocking version of the beginning, through the same measurement. The gradients are compared with those of `average_gradients` from notebook 01, in float64.


# %% tags=["demo"]
average_gradients = yours("ddp/01_gradient_averaging", "average_gradients")
CAP = 80_000


def overlapped(rank: int, world: int) -> tuple[tuple[list[float], list[float]], float, int]:
    """Events of one backward pass with overlap, the difference to average_gradients, and the number of buckets."""
    net = network(torch.float64)
    arrived = watch(net)
    parameters = list(net.parameters())
    buckets = [[parameters[i] for i in bucket] for bucket in make_buckets(parameters, 2 * CAP)]
    finishes: list[Callable[[], None]] = []
    rest = on_grad_ready(buckets, lambda k: finishes.append(launch_bucket(buckets[k])))
    net(batch(rank, torch.float64)).square().mean().backward()
    rest()
    times = events(arrived)
    for finish in finishes:
        finish()
    plain = network(torch.float64)
    plain(batch(rank, torch.float64)).square().mean().backward()
    average_gradients(plain)
    pairs = zip(net.parameters(), plain.parameters(), strict=True)
    return times, max((p.grad - q.grad).abs().max().item() for p, q in pairs), len(buckets)


print("ranks   version      all-reduces   started before the last gradient   gradients as without overlap")
for world in (2, 4):
    times, _ = zip(*on_ranks(lambda rank, world: (blocking(rank, world), None), world), strict=True)
    print(f"{world:5}   blocking   {len(times[0][1]):13}   {early(*times[0]):32}")
    results = on_ranks(overlapped, world)
    same = all(difference < 1e-12 for _, difference, _ in results)
    print(f"{world:5}   overlapped {results[0][2]:13}   {early(*results[0][0]):32}   {same}")

fig, axes = plotting.figure(2, 1, width=8.5, height=4.2)
draw_events(
    axes[0], *run_ranks(blocking, 2)[0], title="negative control: blocking, one all-reduce for each tensor"
)
draw_events(axes[1], *on_ranks(overlapped, 2)[0][0], title="buckets and hooks")
axes[0].set(ylabel="event")
axes[1].set(xlabel="events of rank 0, in their order", ylabel="event")
plotting.caption(
    fig,
    "With hooks all buckets but the last are started left of the dotted line, the end of the backward pass.",
)

# %% [markdown]
# All buckets but the last are started before the last gradient is there. The last one holds the first layer, whose gradient comes last, and can never overlap: that is why it should be small. The blocking version starts none.
#
# ## How much time is hidden?
#
# Starting early is not the same as being done early. There is one network, and the all-reduces run one after the other. All-reduce $k$ starts when its gradients are there *and* the one before it has ended:
#
# $$ e_k = \max \left( a_0 + \dots + a_k , \; e_{k-1} \right) + c_k , \qquad e_{-1} = 0 . $$
#
# ### Exercise 4 · timeline  ●●○  7 minutes
#
# Compute the end of the last all-reduce.


# %% timeline tags=["exercise"]
def timeline(compute: list[float], comm: list[float]) -> float:
    """When the last all-reduce ends, counted from the beginning of the backward pass.

    Arguments:
        compute: for each bucket, how long the backward pass takes for its gradients. The backward pass does not wait for anything.
        comm: for each bucket, how long its all-reduce takes. One at a time, in order.

    Returns:
        The end of the last all-reduce; 0.0 if there is no bucket.

    Example:
        timeline([1.0, 1.0], [3.0, 1.0]) is 5.0: the first all-reduce runs from 1 to 4, and the second one waits until then.
    """
    ### BEGIN SOLUTION
    ready = end = 0.0
    for backward, reduce in zip(compute, comm, strict=True):
        ready += backward
        end = max(ready, end) + reduce
    return end
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Keep two clocks: one of the backward pass, which only adds `compute`, and one of the network.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# In the loop: `ready += compute[k]`, `end = max(ready, end) + comm[k]`.
#
# </details>
#
# <details>
# <summary>"My result is too small with a slow network"</summary>
#
# Your all-reduces run at the same time. Each has to wait for the end of the one before.
#
# </details>

# %% check_timeline tags=["check"]
check.timeline(timeline)

# %% [markdown]
# **See it.** A model of 60 layers with 1 MB of gradients each. The backward pass takes 1 ms for each layer. An all-reduce takes a latency plus its bytes divided by the bandwidth, as in notebook 02 for a fixed number of ranks. How large should a bucket be?


# %%
DEPTH, LAYER_MS = 60, 1.0


def step_ms(layers_per_bucket: int, latency_ms: float, mb_per_ms: float) -> float:
    """Time of backward pass and all-reduces, for buckets of that many layers of 1 MB each."""
    sizes = [min(layers_per_bucket, DEPTH - start) for start in range(0, DEPTH, layers_per_bucket)]
    return timeline([LAYER_MS * size for size in sizes], [latency_ms + size / mb_per_ms for size in sizes])


def draw_sizes(latency_ms: float, mb_per_ms: float) -> Figure:
    """The time of a step against the size of a bucket."""
    sizes = np.arange(1, DEPTH + 1)
    times = [step_ms(int(size), latency_ms, mb_per_ms) for size in sizes]
    best = int(np.argmin(times))
    fig, ax = plotting.figure(width=8, height=3.5)
    ax.plot(sizes, times, color=plotting.BLUE)
    ax.plot(sizes[best], times[best], "o", color=plotting.ORANGE, markersize=8)
    blocked = DEPTH * LAYER_MS + latency_ms + DEPTH / mb_per_ms
    ax.axhline(blocked, color=plotting.VERMILLION, linestyle="--", linewidth=1.2)
    ax.axhline(DEPTH * LAYER_MS, color=plotting.GREY, linestyle=":", linewidth=1.2)
    ax.set(
        xlabel="size of a bucket (MB)",
        ylabel="time of a step (ms)",
        ylim=(0, 1.15 * max(*times, blocked)),
        title=f"best: {sizes[best]} MB, {times[best]:.1f} ms",
    )
    plotting.caption(
        fig,
        "Dashed: everything in one message after the backward pass. Dotted: the backward pass alone, which no overlap can beat.",
    )
    return fig


# %% tags=["demo"]
for size in (1, 4, 60):
    print(
        f"buckets of {size:2} MB: {step_ms(size, 0.8, 2.0):6.1f} ms; the backward pass alone: {DEPTH * LAYER_MS:.1f} ms"
    )
fig = draw_sizes(0.8, 2.0)

# %% [markdown]
# With buckets of one layer, the latencies add up to more than the backward pass can hide, and the network falls behind. With one bucket nothing overlaps. In between there is a wide valley; PyTorch's default is 25 MB. (The teeth of the curve come from the last bucket: it is smaller where the size does not divide 60.)
# <!-- not printed: 25 (bucket_cap_mb in the documentation of DistributedDataParallel) -->
#
# **Play.** Set the bandwidth to 1 MB per ms: the network needs as long as the backward pass. Which latency makes small buckets *worse* than no overlap at all? And how far down does the best time come when the latency is zero?

# %% tags=["demo"]
widgets.explore(
    draw_sizes,
    latency_ms=widgets.slider("latency (ms)", 2.0, 0.0, 4.0, 0.1),
    mb_per_ms=widgets.slider("bandwidth (MB/ms)", 4.0, 0.5, 8.0, 0.5),
)

# %% [markdown]
# ## What you built
#
# 1. Buckets in the order in which gradients come, with one message for many tensors.
# 2. An all-reduce that is started by a hook and finished later, in the same order on every rank, also where a rank does not use a layer.
# 3. A model of the time, with a best size for a bucket.
#
# **Limits.** The flat tensor is a copy of the gradients; `DistributedDataParallel` lets the gradients live in it from the start (`gradient_as_bucket_view`). The order of the gradients is guessed from the order of the parameters; the real class looks at it in the first step, and divides anew. On a GPU the overlap needs a second stream, which NCCL brings along. Ranks that are threads
# share two processor cores here, so the pictures show the order of events and no speed-up.
#
# **Cost.** One more copy of the gradients, and one hook call for each parameter in each step.
#
# ## Sources
#
# - S. Li, Y. Zhao, R. Varma and others, *PyTorch Distributed: Experiences on Accelerating Data Parallel Training* (2020), arXiv:2006.15704, section 3.2: bucketing, overlap, and why the order of the buckets must be the same.
# - A. Sergeev, M. Del Balso, the paper on *Horovod* (2018), arXiv:1802.05799: small tensors are put together before they are sent (tensor fusion).
# - PyTorch, [`DistributedDataParallel`](https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html): `bucket_cap_mb`, `find_unused_parameters`, `gradient_as_bucket_view`.
