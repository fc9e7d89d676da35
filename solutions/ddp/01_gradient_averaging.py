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
# # Many processes, one gradient
#
# *Data parallelism, part 1 of 4: the mean of the gradients, and what has to be equal for it to be the right one.*
#
# **Claim.** When N processes hold the same model, take equal shares of a batch and average their gradients, each of them has the gradient of the
# whole batch. With your functions two and four processes agree with a single one up to rounding, and train along the same curve. Leave
# out any one of three things, and the curve is another one.
#
# | | |
# |---|---|
# | **Time** | about 45 minutes; the code runs for about ten seconds |
# | **You need** | a training loop in PyTorch. Nothing about several processes. |
# | **Graded** | five exercises, one to three dots for how hard they are; each has its own check cell |
# | **You leave with** | the core of `DistributedDataParallel`, in four functions |

# %% setup
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

import utils
from autograde import open_lesson
from utils import plotting
from utils.distributed import RankError, run_ranks, traffic

utils.setup()
check = open_lesson("ddp/01_gradient_averaging")

# %% [markdown]
# ## The problem: models that drift apart
#
# One computer is too slow, so you take four. Each gets a quarter of the data, each trains a copy of the model, all at the same time. Then you have four
# models. Are they one?
#
# A process that takes part is a **rank**, numbered from 0; how many there are is the **world size** $N$. `run_ranks(f, N)` calls `f(rank, N)` on $N$ ranks at the
# same time, and returns what each returned. Inside, `torch.distributed` works as it does on a cluster: `dist.all_reduce(x)` replaces `x` on every rank by the sum
# over all ranks, `dist.broadcast(x, src=0)` replaces it by rank 0's. A call of this kind is a **collective**: it ends only when every rank has made it. `traffic()` lists the calls that the rank has made, and their bytes.
# Our ranks are threads of this notebook, with a real network layer (gloo) between them; notebook 04 starts real processes.


# %%
N_EXAMPLES, BATCH, EPOCHS, RATE = 240, 48, 8, 0.1
Losses = Float[Tensor, "steps"]


def examples() -> tuple[Float[Tensor, "n 8"], Float[Tensor, "n 1"]]:
    """Inputs and targets of a function that a small network can learn."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(N_EXAMPLES, 8, generator=source)
    return x, torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]


def network(seed: int) -> nn.Sequential:
    """A small network whose weights depend on the seed alone.

    torch.manual_seed is for the whole process. Ranks that are threads would disturb each other, so each has its own generator.
    """
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=source))
    return net


def train(
    rank: int,
    world: int,
    start: Callable[[nn.Module], None],
    indices: Callable[[int, int, int], Tensor],
    combine: Callable[[nn.Module], None],
) -> tuple[Losses, nn.Module]:
    """Train on one rank: start(net), then in each step combine(net) between backward and the update.

    indices(rank, world, epoch) are this rank's examples in their order. Each step takes BATCH / world of them. Returned are the losses
    over all examples before each step, and the network.
    """
    x, y = examples()
    net, losses = network(seed=rank), []
    start(net)
    for epoch in range(EPOCHS):
        for part in indices(rank, world, epoch).split(BATCH // world):
            with torch.no_grad():
                losses.append(F.mse_loss(net(x), y))
            net.zero_grad()
            F.mse_loss(net(x[part]), y[part]).backward()
            combine(net)
            with torch.no_grad():
                for p in net.parameters():
                    p -= RATE * p.grad
    return torch.stack(losses), net


def nothing(net: nn.Module) -> None:
    """Does nothing."""


def on_ranks(work: Callable, world: int) -> list:
    """run_ranks; but a function of yours that is not written yet is reported as that."""
    try:
        return run_ranks(work, world)
    except RankError as error:
        if "NotImplementedError" in str(error):
            raise NotImplementedError("A function that the ranks need is not written yet.") from None
        raise


def distance(nets: list[nn.Module]) -> float:
    """The largest difference between a weight of the first network and the same one of another."""
    flat = [nn.utils.parameters_to_vector(net.parameters()).detach() for net in nets]
    return max((other - flat[0]).abs().max().item() for other in flat)


# %% tags=["demo"]
def own_quarter(rank: int, world: int, epoch: int) -> Tensor:
    """A fixed part of the examples for each rank, shuffled anew in each epoch."""
    share = N_EXAMPLES // world
    return rank * share + torch.randperm(share, generator=torch.Generator().manual_seed(epoch))


alone = on_ranks(lambda rank, world: train(rank, world, nothing, own_quarter, nothing), 4)
fig, ax = plotting.figure(width=8.5, height=3.4)
for rank, (losses, _) in enumerate(alone):
    ax.plot(losses, color=plotting.PALETTE[rank], label=f"rank {rank}")
ax.set(xlabel="step", ylabel="loss over all examples", ylim=(0, None))
ax.legend(loc="upper right")
plotting.caption(fig, "Four ranks that do not talk: four models, which start differently and stay different.")
print(
    "largest difference between two ranks' weights at the end:", round(distance([net for _, net in alone]), 2)
)

# %% [markdown]
# Four curves, four models. Taking the mean of their weights at the end would not help: weights that were found from different starts do not belong together. The ranks have
# to talk, and the question is about what, and when.
#
# ## Notation
#
# | symbol | meaning | values or shape |
# |---|---|---|
# | $N$ | world size, the number of ranks | 1 and up |
# | $r$ | rank | 0 to $N - 1$ |
# | $n,\ n_r$ | examples of a batch, and those of them on rank $r$: $n = \sum_r n_r$ | |
# | $\ell_i$ | loss of example $i$ | number |
# | $L$ | loss of the whole batch: $\frac1n \sum_i \ell_i$ | number |
# | $L_r$ | what rank $r$ computes: the mean, or the sum, of its $\ell_i$ | number |
# | $\theta$ | all parameters; $\nabla$ is the derivative by them | |
# | $c_r$ | factor of rank $r$'s loss | number |
#
# ## When is the mean of the gradients the full gradient?
#
# The derivative of a sum is the sum of the derivatives. So nothing is lost when each rank differentiates its own terms:
#
# $$ \nabla L = \frac1n \sum_i \nabla \ell_i = \frac1n \sum_r \sum_{i \text{ on } r} \nabla \ell_i . $$
#
# What the ranks do afterwards is fixed: they average, $\frac1N \sum_r \nabla (c_r L_r)$. The factor $c_r$ is what a rank may still choose, before it calls `backward`.
# Suppose that $L_r$ is the mean over the rank's own examples. Then $\sum_{i \text{ on } r} \nabla \ell_i = n_r \nabla L_r$, and
#
# $$ \nabla L = \sum_r \frac{n_r}{n} \nabla L_r . $$
#
# Compare the two sums term by term, and you have $c_r$. For shards of equal size it is 1, and that is the case that everybody tries to be in. For a last batch that
# is shorter on some rank, or for a loss that is a sum, it is not.
#
# ### Exercise 1 · loss_factor  ●●○  7 minutes
#
# Solve for $c_r$, for both kinds of loss. (A rank without examples has the factor 0 for a mean. In a training it takes the sum: the mean over nothing is NaN, and so is 0 times NaN.)


# %% loss_factor tags=["exercise"]
def loss_factor(sizes: list[int], rank: int, reduction: str) -> float:
    """The factor of a rank's loss, such that the mean of all ranks' gradients is that of the mean over all examples.

    Arguments:
        sizes: how many examples each rank has; at least one of them has some.
        rank: whose factor.
        reduction: "mean": a rank's loss is the mean over its examples; "sum": it is their sum.

    Returns:
        The factor c_r.

    Example:
        loss_factor([1, 3], 1, "mean") is 1.5, and loss_factor([1, 3], 0, "mean") is 0.5. loss_factor([1, 3], 0, "sum") is 0.5.
    """
    ### BEGIN SOLUTION
    share = sizes[rank] if reduction == "mean" else 1
    return len(sizes) * share / sum(sizes)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# The ranks' average gives $\frac{c_r}{N} \nabla L_r$ for each rank. You want $\frac{n_r}{n} \nabla L_r$ if $L_r$ is a mean, and $\frac1n \nabla L_r$ if it is a sum.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `len(sizes) * sizes[rank] / sum(sizes)` for a mean. For a sum leave out `sizes[rank]`.
#
# </details>
#
# <details>
# <summary>"My factors are right for equal shards and wrong for others"</summary>
#
# Then a rank with more examples counts as much as one with fewer. The factors of all ranks add up to $N$ for a mean, but they need not be equal.
#
# </details>

# %% check_loss_factor tags=["check"]
check.loss_factor(loss_factor)

# %% [markdown]
# **See it.** A batch of 12 examples on two ranks, as 6 and 6, and as 10 and 2. The mean of the two gradients with and without your factor, against the gradient of all
# examples at once.

# %% tags=["demo"]
x, y = (part[:12] for part in examples())
net = network(0)


def gradient(loss: Tensor) -> Tensor:
    """The gradient of a loss by all weights, as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


full = gradient(F.mse_loss(net(x), y))
print("sizes      factor   relative error of the mean gradient")
for sizes in ([6, 6], [10, 2]):
    parts = list(zip(x.split(sizes), y.split(sizes), strict=True))
    for name, factors in (("1", [1.0, 1.0]), ("yours", [loss_factor(sizes, r, "mean") for r in (0, 1)])):
        mean = sum(gradient(c * F.mse_loss(net(a), b)) for c, (a, b) in zip(factors, parts, strict=True)) / 2
        print(f"{sizes!s:9}  {name:6}   {(mean - full).norm() / full.norm():.0e}")

# %% [markdown]
# The derivation used one thing silently: that $\ell_i$ depends on example $i$ alone. Batch norm breaks it, because an example's loss depends on the other examples of its batch. No factor mends that; notebook 04 does.
#
# ## Who gets which examples?
#
# Equal shards are wanted, and in each epoch other ones. All ranks have to agree without a word, so all draw the *same* permutation from the same seed, and each takes its own part of it. Four things go wrong in
# practice, and none of them raises an error:
#
# - the permutation depends on the rank: shards overlap, and some examples are never seen;
# - the permutation does not depend on the epoch: the batches are the same in every epoch;
# - the remainder is dropped although it was to be kept, or it is kept and one rank has a step more than the others, who then do not answer its collectives;
# - all ranks take the same part.
#
# ### Exercise 2 · shard  ●●○  8 minutes
#
# Here the remainder is **padded**: every example is seen at least once in an epoch, and every rank gets $\lceil n / N \rceil$ indices. What is missing is taken from the beginning of the same permutation, again and again if there are
# more ranks than examples. (With padding, a few examples count twice in an epoch. Dropping the remainder is the other usual choice: then a few examples, other ones in each epoch, are left out.)
# Deal the order out like cards: rank $r$ gets the positions $r, r + N, r + 2N, \dots$ Then the examples of the ranks' first batches together are those of the first batch of a single process.


# %% shard tags=["exercise"]
def shard(n: int, rank: int, world: int, epoch: int, seed: int) -> Int[Tensor, "share"]:
    """The examples of one rank in one epoch, in their order.

    Arguments:
        n: how many examples there are, at least 1.
        rank: whose share.
        world: how many ranks.
        epoch: counted from 0; in each epoch the order is drawn anew (not the old one, shifted).
        seed: the same on all ranks. Another seed gives other orders; equal arguments give equal indices.

    Returns:
        ceil(n / world) indices between 0 and n - 1, int64. All ranks' together are one random order of all examples, padded
        from its beginning. torch's own random generator is neither read nor changed.

    Example:
        For n = 5 and world = 2, if the order is 3, 0, 4, 1, 2, it is padded to 3, 0, 4, 1, 2, 3: rank 0 gets [3, 4, 2] and rank 1
        gets [0, 1, 3].
    """
    ### BEGIN SOLUTION
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
    share = -(-n // world)
    rounds = -(-share * world // n)
    return order.repeat(rounds)[: share * world][rank::world]
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Four steps: a permutation from a generator of your own, whose seed has the epoch in it and not the rank; the length $\lceil n/N \rceil \cdot N$; the permutation repeated until it is long enough, and cut; every $N$-th element from $r$ on.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))`, `share = -(-n // world)` is the division that rounds up, and the result is `order.repeat(enough)[: share * world][rank::world]`.
#
# </details>
#
# <details>
# <summary>"An index is missing although all lengths are right"</summary>
#
# Print the permutation on two ranks. If they differ, the rank is in the seed, or the generator is torch's own, which is somewhere else on each rank.
#
# </details>

# %% check_shard tags=["check"]
check.shard(shard)

# %% [markdown]
# **See it.** 13 examples, 4 ranks, three epochs. Each column is an example; a number in it is the rank that gets it.

# %% tags=["demo"]
fig, axes = plotting.figure(3, 1, width=8.5, height=3.4, sharex=True)
for epoch, ax in enumerate(axes):
    for rank in range(4):
        mine = shard(13, rank, 4, epoch, seed=7)
        for at, index in enumerate(mine.tolist()):
            ax.text(
                index, at, str(rank), ha="center", va="center", color=plotting.PALETTE[rank], weight="bold"
            )
    ax.set(xlim=(-0.6, 12.6), ylim=(3.6, -0.6), yticks=range(4), xticks=range(13), title=f"epoch {epoch}")
axes[1].set(ylabel="position in the rank's share")
axes[2].set(xlabel="example")
plotting.caption(
    fig, "Each example has at least one rank; three have two, because 13 is padded to 16. Epochs differ."
)

# %% [markdown]
# ## The same start
#
# If all ranks take the same steps from the same start, they stay the same. So the start has to be the same: whatever the ranks have drawn, rank 0's model counts. "Model" means more than the weights that are trained. Frozen weights are used, too. **Buffers**, such as the running
# statistics of batch norm or a table of positions, are used as well, and some of them are not in `state_dict()` (`persistent=False`).
#
# ### Exercise 3 · broadcast_params  ●○○  6 minutes
#
# Make all ranks' models equal to rank 0's. Write into the tensors: an optimiser that was made before holds on to them. A tied weight (one tensor that two layers share) goes over the network once,
# like every other tensor. Each goes in its own dtype: counters are whole numbers, and may be too large for float32. Your function
# runs on each rank at the same time; `dist` is `torch.distributed`.


# %% broadcast_params tags=["exercise"]
@torch.no_grad()
def broadcast_params(model: nn.Module) -> None:
    """Make this rank's model equal to that of rank 0. All ranks call it.

    Arguments:
        model: the same kind of model on all ranks. Its parameters and buffers are changed in place; whether they require a gradient
            is not.

    Returns:
        Nothing.

    Example:
        Where rank 0 has a weight of 2.0 and rank 1 has one of 5.0, both have 2.0 afterwards.
    """
    ### BEGIN SOLUTION
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor, src=0)
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# One loop over all tensors of the model, with one collective in it. `model.parameters()` and `model.buffers()` give each tensor once, from all modules inside.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# `for tensor in (*model.parameters(), *model.buffers()): dist.broadcast(tensor, src=0)`
#
# </details>
#
# <details>
# <summary>"All is equal except one small tensor"</summary>
#
# Look whether it is a buffer of whole numbers (a counter), or one that is not saved. `state_dict()` has no such buffers.
#
# </details>

# %% check_broadcast_params tags=["check"]
check.broadcast_params(broadcast_params)


# %% tags=["demo"]
def first_weight(rank: int, world: int) -> tuple[float, float, int]:
    """A weight before and after, and how many broadcasts that took."""
    net = network(seed=rank)
    before = net[0].weight[0, 0].item()
    broadcast_params(net)
    return before, net[0].weight[0, 0].item(), traffic().count("broadcast")


for rank, (before, after, calls) in enumerate(on_ranks(first_weight, 3)):
    print(f"rank {rank}: weight [0, 0] was {before:+.4f}, is {after:+.4f}, after {calls} broadcasts")

# %% [markdown]
# ## The mean of the gradients
#
# Now the step in the middle. After `backward`, each rank has the gradient of its own shard in `p.grad`. An all-reduce adds them up, and a division makes the mean.
#
# A collective ends only when *every* rank has called it. This makes one case dangerous: a parameter that one rank did not use in this step has `p.grad = None` there. If that rank skips it, the others wait for ever. So it takes part with zeros, which is
# right, too: the examples of this rank do not depend on the parameter. A frozen parameter has no gradient on any rank, and is left alone on all.
#
# ### Exercise 4 · average_gradients  ●●○  8 minutes
#
# Replace every gradient by its mean over the ranks, with one all-reduce for each trainable tensor; a tied weight is one tensor. Add up in the dtype that the gradient has. Everything else of the model stays as it is. (`dist.ReduceOp.AVG` exists only in some backends; divide yourself.)


# %% average_gradients tags=["exercise"]
@torch.no_grad()
def average_gradients(model: nn.Module) -> None:
    """Replace the gradient of every trainable parameter by its mean over all ranks. All ranks call it after backward.

    Arguments:
        model: its parameters hold gradients. A trainable one whose gradient is None was not used on this rank: it counts as zero
            here, and gets the mean like the others. Frozen ones (requires_grad False) stay without a gradient.

    Returns:
        Nothing. The means are in p.grad, on every rank.

    Example:
        Two ranks with the gradients 1.0 and 4.0 both have 2.5 afterwards; with None and 4.0 both have 2.0.
    """
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Which tensors take part must depend on the model alone, not on what this rank has computed: on `requires_grad`, not on whether there is a gradient.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# For each trainable `p`: set `p.grad = torch.zeros_like(p)` where it is None, then `dist.all_reduce(p.grad)`, then `p.grad /= dist.get_world_size()`.
#
# </details>
#
# <details>
# <summary>"Rank 1 was waiting in all_reduce, its call 4 of torch.distributed. Rank 0 had returned after 3."</summary>
#
# A deadlock: rank 0 made a call less than rank 1. Look for an `if` around the all-reduce whose condition differs from rank to rank.
#
# </details>

# %% check_average_gradients tags=["check"]
check.average_gradients(average_gradients)

# %% [markdown]
# **See it.** The same batch of 48 examples on one, two and four ranks. In float32, numbers that are added in another order differ in the last digit, and nothing else should differ.


# %% tags=["demo"]
def batch_gradient(rank: int, world: int) -> tuple[Tensor, int, int]:
    """The averaged gradient of the first batch; calls of all-reduce, and bytes handed over."""
    x, y = examples()
    net = network(seed=rank)
    broadcast_params(net)
    mine = shard(N_EXAMPLES, rank, world, 0, seed=0)[: BATCH // world]
    F.mse_loss(net(x[mine]), y[mine]).backward()
    average_gradients(net)
    calls = [message for message in traffic().messages if message.operation == "allreduce"]
    flat = torch.cat([p.grad.flatten() for p in net.parameters()])
    return flat, len(calls), sum(message.bytes for message in calls)


single = on_ranks(batch_gradient, 1)[0][0]
print(f"{single.numel()} parameters in {len(list(network(0).parameters()))} tensors")
for world in (2, 4):
    results = on_ranks(batch_gradient, world)
    worst = max((flat - single).norm() / single.norm() for flat, _, _ in results)
    same = all(torch.equal(flat, results[0][0]) for flat, _, _ in results)
    print(
        f"{world} ranks: relative difference to one process below 1e-6: {bool(worst < 1e-6)} ({worst:.1e}); "
        f"equal bits on all ranks: {same}; {results[0][1]} all-reduces, {results[0][2]} bytes"
    )

# %% [markdown]
# ## Test the claim
#
# The whole training, on one rank and on two, with the same global batches. Beside them the **negative controls**, each of which leaves out one thing: the broadcast, the average, or the division of the data (both ranks
# take rank 0's share). All go through the same function.


# %% tags=["demo"]
def own_share(rank: int, world: int, epoch: int) -> Tensor:
    """What a rank should train on."""
    return shard(N_EXAMPLES, rank, world, epoch, seed=0)


def same_share(rank: int, world: int, epoch: int) -> Tensor:
    """Rank 0's share, on every rank."""
    return shard(N_EXAMPLES, 0, world, epoch, seed=0)


settings = {
    "one process": (1, broadcast_params, own_share, average_gradients),
    "two ranks": (2, broadcast_params, own_share, average_gradients),
    "without the broadcast": (2, nothing, own_share, average_gradients),
    "without the average": (2, broadcast_params, own_share, nothing),
    "the same share on both": (2, broadcast_params, same_share, average_gradients),
}
curves, apart = {}, {}
for name, (world, *parts) in settings.items():
    results = on_ranks(lambda rank, world, parts=parts: train(rank, world, *parts), world)
    curves[name], apart[name] = results[-1][0], distance([net for _, net in results])

print(f"{'':24}largest difference from one process   between the ranks' weights")
for name, losses in curves.items():
    off = (losses - curves["one process"]).abs().max().item()
    print(f"{name:24}{off:<38.0e}{apart[name]:.0e}")
fig, (left, right) = plotting.figure(1, 2, width=10, height=3.8, width_ratios=[1.2, 1])
left.plot(curves["one process"], color=plotting.PALE, linewidth=7, label="one process")
styles = (plotting.BLUE, "-"), (plotting.VERMILLION, "-"), (plotting.ORANGE, "--"), (plotting.GREEN, "-.")
for (name, losses), (color, line) in zip(list(curves.items())[1:], styles, strict=True):
    left.plot(losses, line, color=color, label=name)
    right.semilogy((losses - curves["one process"]).abs().clamp(min=1e-8), line, color=color)
left.set(xlabel="step", ylabel="loss over all examples", ylim=(0, None))
right.set(xlabel="step", ylabel="difference from one process", ylim=(5e-9, 5))
left.legend(loc="upper right")
plotting.caption(
    fig,
    "Left: two ranks lie on the curve of one process. Right: the difference, on a logarithmic scale (cut off at 1e-8). Two ranks differ "
    "by rounding, each of the three negative controls by far more.",
)

# %% [markdown]
# The blue line runs inside of the pale one. Without the broadcast the ranks apply equal gradients to different models, and stay as far apart as they started. Without the average they drift. With the same share
# on both ranks they agree with each other perfectly, and train on half of the data: no comparison between the ranks will ever show that mistake. Only the comparison with one process does.
#
# ## Talk less: gradient accumulation
#
# A batch that does not fit into memory is cut into **micro batches**. Each adds its gradient to `p.grad`, which costs no network at all: only the sum has to be averaged. Averaging after each micro batch gives the same result at a
# multiple of the cost.
#
# ### Exercise 5 · accumulate_no_sync  ●●○  8 minutes
#
# Accumulate over micro batches, and average once. `loss` is a mean over its micro batch, and the last one may be shorter: you know from exercise 1 what that means. All ranks have the same number of examples here. Call `backward` for each micro batch before the next forward pass, or all their graphs are in memory at
# once. Each micro batch goes through the model once: a second forward pass costs time, and would count twice in the statistics of batch norm.


# %% accumulate_no_sync tags=["exercise"]
def accumulate_no_sync(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
    average: Callable[[nn.Module], None],
) -> float:
    """The gradient of the mean over all examples of all micro batches, averaged over the ranks once.

    Arguments:
        model: gradients that it holds at the start are thrown away. Its mode and its weights stay as they are.
        loss: loss(prediction, target) is the mean over the examples that it is given.
        batches: micro batches (x, y) of this rank, which may differ in length. The list stays as it is.
        average: called with the model, it replaces the gradients by their mean over the ranks: average_gradients.

    Returns:
        This rank's mean loss over all its examples.

    Example:
        With micro batches of 2 and 1 examples and losses of 3.0 and 9.0 the result is 5.0, and `average` was called once.
    """
    ### BEGIN SOLUTION
    model.zero_grad()
    examples = sum(len(x) for x, _ in batches)
    total = 0.0
    for x, y in batches:
        part = loss(model(x), y) * (len(x) / examples)
        part.backward()
        total += part.item()
    average(model)
    return total
    ### END SOLUTION


# %% [markdown]
# <details>
# <summary>Hint 1: the idea</summary>
#
# Weight each micro batch's loss with its share of the examples, before `backward`. The weighted losses add up to what is returned.
#
# </details>
#
# <details>
# <summary>Hint 2: nearly the line</summary>
#
# In the loop: `part = loss(model(x), y) * (len(x) / examples)`, `part.backward()`, `total += part.item()`. Before it `model.zero_grad()`, after it `average(model)`.
#
# </details>
#
# <details>
# <summary>"My gradient is too large by the number of micro batches"</summary>
#
# `backward` adds. If each micro batch's loss is a mean, the sum of three means is three times too large: weight them.
#
# </details>

# %% check_accumulate_no_sync tags=["check"]
check.accumulate_no_sync(accumulate_no_sync)


# %% tags=["demo"]
def accumulated(rank: int, world: int) -> tuple[Tensor, int]:
    """The gradient of the first batch in three micro batches on each rank, and the number of all-reduces."""
    x, y = examples()
    net = network(seed=rank)
    broadcast_params(net)
    mine = shard(N_EXAMPLES, rank, world, 0, seed=0)[: BATCH // world]
    micro = [(x[part], y[part]) for part in mine.split(10)]
    accumulate_no_sync(net, F.mse_loss, micro, average_gradients)
    return torch.cat([p.grad.flatten() for p in net.parameters()]), traffic().count("allreduce")


in_one = on_ranks(batch_gradient, 1)[0][0]
for rank, (flat, calls) in enumerate(on_ranks(accumulated, 2)):
    off = (flat - in_one).norm() / in_one.norm()
    print(
        f"rank {rank}: micro batches of 10, 10 and 4, {calls} all-reduces, below 1e-6 from one process: {bool(off < 1e-6)}"
    )

# %% [markdown]
# ## What you built
#
# 1. The factor that makes the mean of the ranks' gradients the full gradient, for shards of any size.
# 2. Shards that cover all examples, other ones in each epoch, with the same number on each rank.
# 3. Equal starts and averaged gradients, also with tied, frozen and unused parameters; and accumulation with one all-reduce for each tensor.
#
# **Limits.** Losses in which examples meet each other (batch norm, contrastive losses) are not covered by the derivation. The ranks wait in every step for the slowest of them. And each rank holds the whole model, with its gradients and the
# optimiser's state.
#
# **Cost.** Each rank hands over each gradient once in each step. How many bytes an all-reduce then sends is the subject of [notebook 02](02_ring.ipynb), and how to hide the time, of notebook 03.
#
# ## Sources
#
# - S. Li, Y. Zhao, R. Varma and others, *PyTorch Distributed: Experiences on Accelerating Data Parallel Training* (2020), arXiv:2006.15704, section 3: equal starts, averaged gradients, unused parameters, `no_sync`.
# - P. Goyal, P. Dollár, R. Girshick and others, *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour* (2017), arXiv:1706.02677, section 3: subtleties and pitfalls of distributed SGD, among them how a loss is scaled.
# - PyTorch, [`DistributedSampler`](https://docs.pytorch.org/docs/stable/data.html): the same shards as exercise 2. Its documentation asks for `set_epoch`.
