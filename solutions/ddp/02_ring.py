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
# # The ring: a sum that nobody collects
#
# *Data parallelism, part 2 of 4: what an all-reduce sends, and how long that takes.*
#
# **Claim.** In a ring each rank sends $2 (N - 1) / N$ times the vector, which is less than twice its length however many ranks there are. The ring that you write gives the sums of
# gloo's own all-reduce, and the counter of a real network layer confirms the formula to the number. For small messages a tree is faster, up to a size that you compute.
#
# | | |
# |---|---|
# | **Time** | about 55 minutes; the code runs for about ten seconds |
# | **You need** | [notebook 01](01_gradient_averaging.ipynb) for the words rank and collective |
# | **Graded** | six exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | a ring all-reduce from sends and receives, and a formula for when to use it |

# %% setup
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

import utils
from autograde import open_lesson
from utils import plotting, widgets
from utils.distributed import RankError, run_ranks, traffic

utils.setup()
check = open_lesson("ddp/02_ring")

# %% [markdown]
# ## The problem: one rank in the middle
#
# The plainest all-reduce: everybody sends the vector to rank 0, rank 0 adds, and sends the sum back. Rank 0 is a **parameter server** then. `traffic()` counts what a rank has sent through the network.


# %%
def on_ranks(work: Callable, world: int) -> list:
    """run_ranks; but a function of yours that is not written yet is reported as that."""
    try:
        return run_ranks(work, world)
    except RankError as error:
        if "NotImplementedError" in str(error):
            raise NotImplementedError("A function that the ranks need is not written yet.") from None
        raise


def vector(n: int, rank: int) -> Float[Tensor, "n"]:
    """The numbers of one rank."""
    return torch.randn(n, generator=torch.Generator().manual_seed(rank))


def by_server(x: Float[Tensor, "n"], rank: int, world: int) -> Float[Tensor, "n"]:
    """The sum, collected and handed out by rank 0."""
    total = x.clone()
    if rank == 0:
        other = torch.empty_like(x)
        for r in range(1, world):
            dist.recv(other, r)
            total += other
        for r in range(1, world):
            dist.send(total, r)
    else:
        dist.send(x, 0)
        dist.recv(total, 0)
    return total


def sent_by_server(rank: int, world: int) -> float:
    """Numbers sent by this rank, divided by the length of the vector."""
    by_server(vector(1000, rank), rank, world)
    return traffic().sent() / 4 / 1000


# %% tags=["demo"]
fig, ax = plotting.figure(width=8.5, height=3.2)
names = {}
for at, world in enumerate((2, 4, 6)):
    shares = on_ranks(sent_by_server, world)
    print(f"{world} ranks, numbers sent / length of the vector:", *shares)
    places = [8 * at + rank for rank in range(world)]
    names |= {place: str(rank) for rank, place in enumerate(places)}
    ax.bar(places, shares, color=[plotting.VERMILLION] + [plotting.BLUE] * (world - 1))
    plotting.label(ax, 8 * at, max(shares) + 0.4, f"{world} ranks", plotting.BLACK)
ax.set(
    xticks=list(names),
    xticklabels=list(names.values()),
    xlabel="rank, in worlds of three sizes",
    ylabel="sent / length of the vector",
    ylim=(0, 6),
)
plotting.caption(fig, "Rank 0 (orange-red) sends N - 1 vectors, the others one. All wait for its connection.")

# %% [markdown]
# The others send one vector each and then wait, and rank 0 sends and receives more the more ranks there are. With 8 ranks the sum takes 7 times as long as with 2. The connections between the other ranks lie idle.
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $N$ | ranks | 1 and up |
# | $x_r$ | the vector of rank $r$; wanted is $\sum_r x_r$ on every rank | `[n]` |
# | part $c$ | a stretch of the vector, $c = 0, \dots, N - 1$ | about $n / N$ numbers |
# | $s$ | step of a phase, $s = 0, \dots, N - 2$ | |
# | $S$ | size of the whole vector | bytes |
# | $\alpha$ | latency: what each message takes, however small it is | seconds |
# | $\beta$ | bandwidth of one connection | bytes per second |
# | $D$ | depth of a tree over $N$ ranks: $\lceil \log_2 N \rceil$ | |
#
# ## Cut the vector
#
# Let every rank do a part of the adding: cut the vector into $N$ parts, and let rank $r$ be the server of one part. This way the work is the same everywhere. The ring does that, with connections from each rank to the next one only.
#
# ### Exercise 1 · chunks  ●○○  5 minutes
#
# $N$ need not divide $n$. All ranks have to cut in the same places, so the rule must be exact: lengths differ by at most one, and the longer parts come first. The ring will write into the parts, so they have to be **views** of the vector, not
# copies. (`torch.chunk` does something else: try `len(torch.ones(6).chunk(4))`. `torch.tensor_split` would be the answer itself, so the check does not accept it here. You may use it in all later exercises.)


# %% chunks tags=["exercise"]
def chunks(x: Float[Tensor, "n"], world: int) -> list[Float[Tensor, "part"]]:
    """Cut a vector into one part for each rank.

    Arguments:
        x: the vector, which need not be contiguous in memory.
        world: how many parts, at least 1.

    Returns:
        `world` views of x, in order. Lengths differ by at most one, and the longer ones come first. Where there are fewer numbers than
        parts, the last parts are empty.

    Example:
        Seven numbers for three ranks are cut into parts of 3, 2 and 2.
    """
    ### BEGIN SOLUTION
    short, longer = divmod(len(x), world)
    sizes = [short + (i < longer) for i in range(world)]
    return list(x.split(sizes))
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# With `short, longer = divmod(len(x), world)` the first `longer` parts have `short + 1` numbers, the others `short`. Slices are views, and so is what `x.split` gives.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `x.split(sizes)` takes a list of lengths: `[short + (i < longer) for i in range(world)]`.
#
# </details>
#
# <details>
# <summary>"x after each part was changed: values differ"</summary>
#
# The check writes into your parts and then looks at x. If x does not change, a part is a copy (`clone`, an index list, `torch.cat`).
#
# </details>

# %% check_chunks tags=["check"]
check.chunks(chunks)

# %% tags=["demo"]
for n, world in ((1003, 4), (6, 4), (3, 5)):
    print(
        f"{n} numbers, {world} ranks: yours {[len(part) for part in chunks(torch.ones(n), world)]}, "
        f"torch.chunk {[len(part) for part in torch.ones(n).chunk(world)]}"
    )

# %% [markdown]
# ## Phase one: sums that travel
#
# The ranks sit in a circle, and each sends to its right neighbour $r + 1$ and receives from its left neighbour $r - 1$, all numbers modulo $N$. Follow one part, number $c$. It starts on rank $c$, which sends it to rank $c + 1$. That one adds its own part $c$ and
# sends the sum to $c + 2$, and so on. After $N - 1$ messages it has visited all ranks: rank $c + N - 1 = c - 1$ has the sum of part $c$. At the same time the other parts travel, each from another rank, so that every connection is busy in every step.
#
# Now look from a rank. In step $s$, which part does rank $r$ send? The one that started $s$ ranks to the left:
#
# $$ \text{sent in step } s: \ r - s , \qquad \text{received and added in step } s: \ r - s - 1 . $$
#
# The sign often comes out wrong: with $r + s$ a rank sends parts to which nobody has added anything. At the end rank $r$ **owns** the part that it received last, in step $N - 2$. This phase is called **reduce-scatter**.
#
# Sending has a trap of its own. `send(tensor, to)` (as `dist.isend`) only *starts* a message and returns a request; `recv(tensor, source)` (as `dist.recv`) waits until a message is there and writes it into `tensor`. `request.wait()` returns when the other
# side has received. Until then the tensor must not change: what arrives might be the new values. If every rank waits for its send *before* it receives, nobody ever receives: a **deadlock**. Start the send, receive, then wait.
#
# ### Exercise 2 · reduce_scatter  ●●●  10 minutes
#
# Write the phase. `parts` are views of the rank's vector: write the sums into them. (A new tensor in the list would leave the vector as it was.) Receive into a tensor of its own, and add that to the right part. Return the number of the part that this rank owns at the end.


# %% reduce_scatter tags=["exercise"]
def reduce_scatter(
    parts: list[Float[Tensor, "part"]],
    rank: int,
    world: int,
    send: Callable[[Tensor, int], Any],
    recv: Callable[[Tensor, int], Any],
) -> int:
    """Add up the parts of all ranks in a ring, so that each rank owns the sum of one part. All ranks call it.

    Arguments:
        parts: `world` views of this rank's vector, of which some may be empty. Written into.
        rank: this rank.
        world: how many ranks.
        send: send(tensor, to) starts a message to rank `to` and returns a request, whose method wait() ends it. Send to the right
            neighbour only, and wait for each request.
        recv: recv(tensor, source) waits for a message and writes it into the tensor, which has to have its length and dtype.

    Returns:
        The number of the part that is the sum over all ranks here, an int from 0 to world - 1. The other parts may hold anything.

    Example:
        On two ranks with the parts [1], [2] and [10], [20], rank 0 returns 1 and has [22] there, and rank 1 returns 0 and has [11].
    """
    ### BEGIN SOLUTION
    for step in range(world - 1):
        outgoing, incoming = parts[(rank - step) % world], parts[(rank - step - 1) % world]
        received = torch.empty_like(incoming)
        request = send(outgoing, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        incoming += received
    return (rank + 1) % world
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# $N - 1$ rounds of the same four things: start the send of part $r - s$ to the right; receive from the left into a new tensor; wait for the send; add what came in to part $r - s - 1$. The last part that came in has number $r - (N - 2) - 1 = r + 1$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `received = torch.empty_like(parts[(rank - step - 1) % world])`, `request = send(parts[(rank - step) % world], (rank + 1) % world)`, `recv(received, (rank - 1) % world)`, `request.wait()`, and `+=`.
#
# </details>
#
# <details>
# <summary>"No rank can go on: rank 0 in wait (send to 1), rank 1 in wait (send to 2), ..."</summary>
#
# All wait for somebody to receive. Put `request.wait()` after `recv`. If all are "in recv", nobody has sent: start the send first.
#
# </details>

# %% check_reduce_scatter tags=["check"]
check.reduce_scatter(reduce_scatter)


# %% [markdown]
# **See it.** On real ranks, with `dist.isend` and `dist.recv`. Rank $r$ holds $2^r$ everywhere, so that a number shows which ranks have been added: the sum over four ranks is 15.


# %% tags=["demo"]
def scattered(rank: int, world: int) -> tuple[int, Tensor]:
    """What a rank has after the phase."""
    x = torch.full((world,), 2.0**rank)
    owned = reduce_scatter(list(x.tensor_split(world)), rank, world, dist.isend, dist.recv)
    return owned, x


for rank, (owned, x) in enumerate(on_ranks(scattered, 4)):
    print(f"rank {rank} has {x.int().tolist()} and owns part {owned}")

# %% [markdown]
# ## Phase two: sums that are handed round
#
# Each rank owns one finished part. The same circle hands them on: in each step a rank sends the part that has come in last, at first its own, and *replaces* its old values by what comes in. This is an **all-gather**. After $N - 1$ steps every rank has all parts.
#
# ### Exercise 3 · all_gather_ring  ●●○  8 minutes
#
# Which part is finished at the start is handed in, `owned`. It is `rank` plus a number that is the same for all ranks; do not rely on which number. Write into the parts again, as they are views.


# %% all_gather_ring tags=["exercise"]
def all_gather_ring(
    parts: list[Float[Tensor, "part"]],
    rank: int,
    world: int,
    owned: int,
    send: Callable[[Tensor, int], Any],
    recv: Callable[[Tensor, int], Any],
) -> None:
    """Hand the finished parts round in a ring, until every rank has all of them. All ranks call it.

    Arguments:
        parts: `world` views of this rank's vector, of which one is finished. Changed in place: at the end all are.
        rank: this rank.
        world: how many ranks.
        owned: the number of the finished part. On the left neighbour it is owned - 1, modulo world.
        send: as in reduce_scatter.
        recv: as in reduce_scatter.

    Returns:
        Nothing; the parts are changed.

    Example:
        On two ranks with [7], [0] and owned = 0 on the one, [0], [9] and owned = 1 on the other, both have [7], [9] afterwards.
    """
    ### BEGIN SOLUTION
    for step in range(world - 1):
        request = send(parts[(owned - step) % world], (rank + 1) % world)
        recv(parts[(owned - step - 1) % world], (rank - 1) % world)
        request.wait()
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# What comes in during step $s$ goes out in step $s + 1$. In step 0 `owned` goes out, and the left neighbour's own part, `owned - 1`, comes in.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# Send `parts[(owned - step) % world]`, receive straight into `parts[(owned - step - 1) % world]`, wait.
#
# </details>
#
# <details>
# <summary>"Only the right neighbour gets my part"</summary>
#
# Then you send your own part in every step. Send on what came in: the index of what goes out has `step` in it.
#
# </details>

# %% check_all_gather_ring tags=["check"]
check.all_gather_ring(all_gather_ring)


# %% tags=["demo"]
def both_phases(rank: int, world: int) -> Tensor:
    """The vector after both phases."""
    x = torch.full((world,), 2.0**rank)
    parts = list(x.tensor_split(world))
    owned = reduce_scatter(parts, rank, world, dist.isend, dist.recv)
    all_gather_ring(parts, rank, world, owned, dist.isend, dist.recv)
    return x


for rank, x in enumerate(on_ranks(both_phases, 4)):
    print(f"rank {rank} has {x.int().tolist()}")

# %% [markdown]
# ## Both in one
#
# Compare what goes out in the two phases. In phase one it is $r - s$, for $s$ up to $N - 2$. Phase two begins with the owned part $r + 1$, and $r + 1 = r - (N - 1)$ modulo $N$: the next value of the same sequence. So the ring is *one* loop of $2 (N - 1)$ steps, whose second half copies
# where the first half adds. Each step sends one part, of $n / N$ numbers:
#
# $$ \text{sent by each rank} = 2 (N - 1) \cdot \frac nN = 2\, \frac{N - 1}{N}\, n \; < \; 2 n . $$
#
# All ranks together send $2 (N - 1)\, n$. So they do with the server: to sum one number, $N - 1$ messages bring the terms together, and $N - 1$ hand the sum out. No order of messages needs fewer (Patarasuk and Yuan derive the bound, see the sources). The ring divides them equally, so no rank is the slow one.
#
# ### Exercise 4 · ring_all_reduce  ●●●  10 minutes
#
# Write the whole ring as one loop, and count what you send. `x` stays as it is, also when somebody changes the sum later. `x.tensor_split(world)` makes the parts of exercise 1. Every rank must have the same bits in the end, which the ring gives for free, as each sum is made once and copied: models that differ in their last bit drift apart.


# %% ring_all_reduce tags=["exercise"]
def ring_all_reduce(
    x: Float[Tensor, "n"],
    rank: int,
    world: int,
    send: Callable[[Tensor, int], Any],
    recv: Callable[[Tensor, int], Any],
) -> tuple[Float[Tensor, "n"], int]:
    """The sum of the ranks' vectors, on every rank, by a ring. All ranks call it.

    Arguments:
        x: this rank's vector, of the same length on all ranks. Not changed.
        rank: this rank.
        world: how many ranks; with one there is nothing to send.
        send: as in reduce_scatter.
        recv: as in reduce_scatter.

    Returns:
        The sum, a new tensor (on one rank, too) in the dtype of x, and how many numbers this rank has sent, an int.

    Example:
        On two ranks with [1, 2] and [10, 20] both return [11, 22] and 2.
    """
    ### BEGIN SOLUTION
    total, sent = x.clone(), 0
    parts = total.tensor_split(world)
    for step in range(2 * (world - 1)):
        outgoing, incoming = parts[(rank - step) % world], parts[(rank - step - 1) % world]
        received = torch.empty_like(incoming)
        request = send(outgoing, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        sent += outgoing.numel()
        if step < world - 1:
            incoming += received
        else:
            incoming.copy_(received)
    return total, sent
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Take `reduce_scatter`, let it work on the parts of a copy, let it run for `2 * (world - 1)` steps, and decide in each step between adding and copying.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `total = x.clone()`, `parts = total.tensor_split(world)`, in the loop `incoming += received` while `step < world - 1` and `incoming.copy_(received)` afterwards; `sent += outgoing.numel()`.
#
# </details>
#
# <details>
# <summary>"Some sums are too large"</summary>
#
# The second half adds as well, or it begins a step too late. Sums are complete after `world - 1` steps.
#
# </details>

# %% check_ring_all_reduce tags=["check"]
check.ring_all_reduce(ring_all_reduce)

# %% [markdown]
# **Test the claim.** 1003 numbers, which 4 does not divide. The traffic is counted by the network layer, not by your function. The **negative control** is a ring that sends whole vectors: each rank passes on what it gets, and adds it up. It gives the same sums.


# %%
def whole_vectors(
    x: Tensor, rank: int, world: int, send: Callable[[Tensor, int], Any], recv: Callable[[Tensor, int], Any]
) -> tuple[Tensor, int]:
    """The naive ring: N - 1 steps, in each of which the whole vector goes on."""
    total, passed = x.clone(), x.clone()
    for _ in range(world - 1):
        received = torch.empty_like(passed)
        request = send(passed, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        passed = received
        total += received
    return total, (world - 1) * x.numel()


def measured(all_reduce: Callable, n: int) -> Callable[[int, int], tuple[bool, float, bool]]:
    """Runs an all-reduce on a rank: right?, numbers sent / n, is the count that it returns right?"""

    def work(rank: int, world: int) -> tuple[bool, float, bool]:
        x = vector(n, rank)
        library = x.clone()
        total, sent = all_reduce(x, rank, world, dist.isend, dist.recv)
        counted = traffic().sent() // 4
        dist.all_reduce(library)
        return torch.allclose(total, library, atol=1e-5), counted / n, sent == counted

    return work


# %% tags=["demo"]
print("ranks   formula   rank 0 sent, counted   count returned is right   sum is gloo's   whole vectors")
for world in (2, 3, 4, 8):
    results = on_ranks(measured(ring_all_reduce, 1003), world)
    naive = on_ranks(measured(whole_vectors, 1003), world)
    right, counts = all(ok for ok, _, _ in results), all(ok for _, _, ok in results)
    print(
        f"{world:5}   {2 * (world - 1) / world:7.4f}   {results[0][1]:20.4f}   {counts!s:23}   {right!s:13}   {naive[0][1]:13.1f}"
    )

# %% [markdown]
# With two ranks each sends 1.0 times the vector, with four 1.4995 times: the formula says 1.5, and the difference is the part that is one number shorter. However many ranks there are, it stays below 2, where whole vectors need $N - 1$.
#
# **Play.** Rows are ranks, columns are parts. A number says how many ranks are in the sum that stands there; orange-red is what arrived in this step. With 4 ranks: in which step does the first finished part appear, and on which rank is part 0 finished last?


# %%
def ring_states(world: int, step: int) -> tuple[Float[Tensor, "ranks parts"], list[tuple[int, int]]]:
    """How many ranks are in each part of each rank after `step` steps, and where something arrived in the last of them."""
    counts, arrived = torch.ones(world, world), []
    for s in range(step):
        before = counts.clone()
        arrived = []
        for rank in range(world):
            part = (rank - s - 1) % world
            here = before[(rank - 1) % world, part]
            counts[rank, part] = here + before[rank, part] if s < world - 1 else here
            arrived.append((rank, part))
    return counts, arrived


def draw_ring(world: int, step: int) -> Figure:
    """The state of the ring after a step."""
    step = min(step, 2 * (world - 1))
    counts, arrived = ring_states(world, step)
    fig, ax = plotting.figure(width=7, height=3.9)
    plotting.heatmap(ax, counts / world, xlabel="part", ylabel="rank")
    for rank in range(world):
        for part in range(world):
            color = plotting.VERMILLION if (rank, part) in arrived else plotting.BLACK
            ax.text(
                part,
                rank,
                f"{int(counts[rank, part])}",
                ha="center",
                va="center",
                color=color,
                weight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )
    phase = "start" if step == 0 else ("reduce-scatter" if step < world else "all-gather")
    ax.set(xticks=range(world), yticks=range(world), title=f"after step {step} of {2 * (world - 1)}: {phase}")
    plotting.caption(fig, "Numbers: how many ranks are in the sum. Orange-red: arrived in this step.")
    return fig


# %% tags=["demo"]
widgets.explore(
    draw_ring,
    world=widgets.slider("ranks N", 4, 2, 8, 1),
    step=widgets.slider("steps done", 1, 0, 14, 1),
)

# %% [markdown]
# ## How long does it take?
#
# Bytes are not all. Each message also has a **latency** $\alpha$: a message of $b$ bytes takes $\alpha + b / \beta$ seconds. We let a rank send one message and receive one at the same time, and not more. Three ways to sum $S$ bytes:
#
# - **ring**: $2 (N - 1)$ steps, one after the other, with messages of $S / N$ bytes;
# - **tree**: pairs of ranks add up, then pairs of pairs, and so on: $D = \lceil \log_2 N \rceil$ levels up, and as many down, each with a message of $S$ bytes;
# - **server**: rank 0 receives $N - 1$ messages of $S$ bytes one after the other, and sends as many.
#
# ### Exercise 5 · all_reduce_time  ●●○  7 minutes
#
# Write the three times. Count the messages that come one after the other, and how long each is.


# %% all_reduce_time tags=["exercise"]
def all_reduce_time(method: str, world: int, size: float, latency: float, bandwidth: float) -> float:
    """How long an all-reduce takes.

    Arguments:
        method: "ring", "tree" or "server" (one of the ranks is the server).
        world: N, at least 1.
        size: bytes of the vector.
        latency: seconds for each message.
        bandwidth: bytes per second of a connection.

    Returns:
        Seconds. 0.0 for one rank.

    Example:
        For 4 ranks, 8 bytes, a latency of 1 s and 1 byte per second: ring 18.0, tree 36.0, server 54.0.
    """
    ### BEGIN SOLUTION
    depth = (world - 1).bit_length()
    messages = {"ring": 2 * (world - 1), "tree": 2 * depth, "server": 2 * (world - 1)}[method]
    length = size / world if method == "ring" else size
    return messages * (latency + length / bandwidth)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Every time is a number of messages, times latency plus length over bandwidth. Only the ring's messages are short, and only the tree has few.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# Messages: `2 * (world - 1)`, `2 * ceil(log2(world))`, `2 * (world - 1)`. `(world - 1).bit_length()` is the logarithm rounded up, without rounding errors.
#
# </details>
#
# <details>
# <summary>"My tree is wrong for 7 ranks only"</summary>
#
# A tree over 7 ranks has as many levels as one over 8. Round the logarithm up.
#
# </details>

# %% check_all_reduce_time tags=["check"]
check.all_reduce_time(all_reduce_time)

# %% [markdown]
# **See it.** 16 ranks, a latency of 10 microseconds, 10 gigabytes per second.


# %%
METHODS = {"ring": plotting.BLUE, "tree": plotting.GREEN, "server": plotting.VERMILLION}


def draw_times(world: int, microseconds: float, gigabytes: float, crossing: float | None = None) -> Figure:
    """The time of the three methods against the size, with the size at which ring and tree are equally fast."""
    sizes = np.logspace(2, 9, 60)
    fig, ax = plotting.figure(width=8, height=3.8)
    for method, color in METHODS.items():
        times = [all_reduce_time(method, world, size, microseconds * 1e-6, gigabytes * 1e9) for size in sizes]
        ax.loglog(sizes, times, color=color, linestyle="--" if method == "tree" else "-")
        plotting.label(ax, sizes[-1] * 1.3, times[-1], method, color)
    if crossing is not None and crossing >= sizes[0]:
        ax.axvline(crossing, color=plotting.GREY, linewidth=1, linestyle=":")
        ax.set(title=f"ring is faster above {crossing / 1e3:,.0f} kB")
    ax.set(xlabel="size of the vector (bytes)", ylabel="time (s)", xlim=(1e2, 1e10))
    text = "Left, latency decides: few messages win. Right, bandwidth decides: short messages win."
    plotting.caption(fig, text + (" Dotted: your crossing point." if crossing is not None else ""))
    return fig


# %% tags=["demo"]
for size in (1e3, 1e6, 1e9):
    times = {method: all_reduce_time(method, 16, size, 1e-5, 1e10) * 1e3 for method in METHODS}
    print(f"{size:13,.0f} bytes:", ", ".join(f"{method} {ms:.2f} ms" for method, ms in times.items()))
fig = draw_times(16, 10, 10)

# %% [markdown]
# On the left all lines are flat: latency decides, and the tree with its few messages wins. On the right all rise: bandwidth decides, and the ring wins. A server is never faster than the ring.
#
# Where do ring and tree cross? Set the two times equal, and collect latencies on one side and bytes on the other:
#
# $$ \underbrace{(N - 1 - D)}_{\text{more messages}} \alpha \; = \; \underbrace{\left( D - \frac{N - 1}{N} \right)}_{\text{fewer bytes}} \frac{S}{\beta} . $$
#
# ### Exercise 6 · crossing_bytes  ●○○  5 minutes
#
# Solve for $S$.


# %% crossing_bytes tags=["exercise"]
def crossing_bytes(world: int, latency: float, bandwidth: float) -> float:
    """The size at which ring and tree take the same time. Above it the ring is faster.

    Arguments:
        world: N, at least 2.
        latency: seconds for each message.
        bandwidth: bytes per second of a connection.

    Returns:
        Bytes. 0.0 for two and three ranks, where the ring is never slower.

    Example:
        For 4 ranks, 1 s and 1 byte per second it is 0.8.
    """
    ### BEGIN SOLUTION
    depth = (world - 1).bit_length()
    return latency * bandwidth * (world - 1 - depth) / (depth - (world - 1) / world)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Divide both sides of the equation by the bracket in front of $S / \beta$, and multiply by $\beta$.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `latency * bandwidth * (world - 1 - depth) / (depth - (world - 1) / world)`
#
# </details>
#
# <details>
# <summary>"My crossing is negative"</summary>
#
# A sign is turned round: the ring has *more* messages and *fewer* bytes than the tree. Both brackets are positive for four ranks and more.
#
# </details>

# %% check_crossing_bytes tags=["check"]
check.crossing_bytes(crossing_bytes)

# %% tags=["demo"]
print("ranks   ring is faster above, with 10 microseconds and 10 GB/s")
for world in (2, 4, 8, 16, 64, 256):
    size = crossing_bytes(world, 1e-5, 1e10)
    ring, tree = (all_reduce_time(method, world, size, 1e-5, 1e10) for method in ("ring", "tree"))
    print(
        f"{world:5}   {size / 1e3:12,.0f} kB   (there: ring {ring * 1e6:,.0f} µs, tree {tree * 1e6:,.0f} µs)"
    )

# %% [markdown]
# **Play.** A model of one million parameters has gradients of 4 MB. On 64 ranks with a slow network of 1 gigabyte per second: up to which latency is the ring the better choice? And up to which one if you send the gradients in messages of 40 kB, one for each
# parameter tensor?
# <!-- not printed: 40 (a size to try) -->


# %% tags=["demo"]
def draw_crossing(world: int, microseconds: float, gigabytes: float) -> Figure:
    """The three times with the crossing point for these settings."""
    return draw_times(
        world, microseconds, gigabytes, crossing_bytes(world, microseconds * 1e-6, gigabytes * 1e9)
    )


widgets.explore(
    draw_crossing,
    world=widgets.slider("ranks N", 64, 2, 256, 1),
    microseconds=widgets.slider("latency (µs)", 20, 1, 500, 1),
    gigabytes=widgets.slider("bandwidth (GB/s)", 1, 1, 100, 1),
)

# %% [markdown]
# The same gradients cost more in small messages: each pays the latency, and below the crossing point the ring is the wrong choice for it. This is why gradients are put together into **buckets** before they are sent, the subject of [notebook 03](03_buckets.ipynb).
#
# ## What you built
#
# 1. A reduce-scatter and an all-gather out of sends and receives, without deadlock, for any length of vector.
# 2. A ring all-reduce whose traffic is $2 (N - 1) / N$ vectors on each rank, as counted by the network layer.
# 3. The times of ring, tree and server, and the size at which ring and tree cross.
#
# **Limits.** The model knows one latency and one bandwidth. A real cluster has fast connections inside of a computer and slow ones between computers, and libraries (NCCL) choose between rings and trees, cut messages into pieces that follow each other, and use several connections at a time.
# A ring is as slow as its slowest connection.
#
# **Cost.** $2 (N - 1)$ messages and $2 (N - 1) / N$ times the bytes of the vector on each rank, and memory for one part.
#
# ## Sources
#
# - P. Patarasuk, X. Yuan, *Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations*, Journal of Parallel and Distributed Computing 69 (2009): the ring, and the proof that no algorithm sends less.
# - A. Sergeev, M. Del Balso, the paper on *Horovod* (2018), arXiv:1802.05799, section 3: the ring against parameter servers in deep learning.
# - PyTorch, [`torch.distributed`](https://docs.pytorch.org/docs/stable/distributed.html): `isend`, `recv`, `all_reduce`.
