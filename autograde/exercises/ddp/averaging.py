"""The exercises of the lesson ddp/01_gradient_averaging."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddp.ranks import calls_and_bytes, in_ranks
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import ddp as reference

Observed = Mapping[tuple[str, str], Observation]


def double(draw: Callable[[Draw], Inputs]) -> Callable[[Draw], Inputs]:
    """The same inputs in float64, with digits that float32 does not have."""
    return lambda source: map_floats(draw(source), lambda t: t.double() * (1 + 2.0**-30))


ROUNDED = "results rounded to float32"


def rounded(given: Any, found: Any) -> int:
    """1 where numbers with more digits than float32 has have become numbers that float32 can hold, else 0."""

    def in_float32(nest: Any) -> bool:
        floats = [t for t in tree_leaves(nest) if isinstance(t, Tensor) and t.is_floating_point()]
        return all(torch.equal(t, t.float().to(t.dtype)) for t in floats)

    return int(in_float32(found) and not in_float32(given))


NOT_ROUNDED = Bound(
    most=lambda inputs: 0,
    unit="of the results have no more digits than float32",
    why="Work in the dtype of what is handed in. On the way through float32, float64 loses half of its digits.",
)


# --- loss_factor --------------------------------------------------------------------------------------------------------------


def all_factors(implementation: Implementation, inputs: Inputs) -> list[Any]:
    """The factors of all ranks."""
    sizes = inputs["sizes"]
    return [implementation(sizes, rank, inputs["reduction"]) for rank in range(len(sizes))]


def _sizes(sizes: list[int], reduction: str) -> Callable[[Draw], Inputs]:
    return lambda source: {"sizes": sizes, "reduction": reduction}


def _drawn_sizes(reduction: str) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {"sizes": source.integers(5, low=1, high=60).tolist(), "reduction": reduction}

    return draw


def _share_alone(sizes: list[int], rank: int, reduction: str) -> float:
    return (sizes[rank] if reduction == "mean" else 1) / sum(sizes)


def _as_if_equal(sizes: list[int], rank: int, reduction: str) -> float:
    return 1.0 if reduction == "mean" else len(sizes) / sum(sizes)


def _always_mean(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, "mean")


def _always_sum(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, "sum")


def _swapped(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, "sum" if reduction == "mean" else "mean")


def _upside_down(sizes: list[int], rank: int, reduction: str) -> float:
    factor = reference.loss_factor(sizes, rank, reduction)
    return 1 / factor if factor else 0.0


def _own_batch(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, "mean") if reduction == "mean" else 1 / max(sizes[rank], 1)


def _sum_over_all(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, "mean") if reduction == "mean" else 1 / sum(sizes)


def _ranks_with_examples(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, reduction) * sum(size > 0 for size in sizes) / len(sizes)


def _one_rank_less(sizes: list[int], rank: int, reduction: str) -> float:
    return reference.loss_factor(sizes, rank, reduction) * (len(sizes) - 1) / len(sizes)


loss_factor = Exercise(
    reference.loss_factor,
    requirements=(
        Requirement(
            "a loss that is a mean",
            (
                Case("two equal shards, mean", _sizes([4, 4], "mean")),
                Case("shards of 1, 7 and 2, mean", _sizes([1, 7, 2], "mean")),
                Case("one rank, mean", _sizes([5], "mean")),
                Case("a rank without examples, mean", _sizes([3, 0, 2], "mean")),
                Case("five shards of drawn sizes, mean", _drawn_sizes("mean"), shown=False),
            ),
            all_factors,
        ),
        Requirement(
            "a loss that is a sum",
            (
                Case("two equal shards, sum", _sizes([4, 4], "sum")),
                Case("shards of 1, 7 and 2, sum", _sizes([1, 7, 2], "sum")),
                Case("one rank, sum", _sizes([5], "sum")),
                Case("five shards of drawn sizes, sum", _drawn_sizes("sum"), shown=False),
            ),
            all_factors,
        ),
    ),
    mistakes=(
        Mistake(
            "The ranks' gradients are averaged afterwards, which divides by N. Your factor has to undo that: multiply by N.",
            _share_alone,
        ),
        Mistake(
            "For a mean you return 1, which is right for shards of equal size only. A rank with more examples has to count more.",
            _as_if_equal,
        ),
        Mistake(
            "A sum is already n_r times a mean. Take the size of the shard into account for a mean only.",
            _always_mean,
        ),
        Mistake(
            "A mean has already divided by the size of its shard. Bring that size back into the factor.",
            _always_sum,
        ),
        Mistake(
            "You have the two kinds of loss the wrong way round: a mean needs the size of its shard, a sum does not.",
            _swapped,
        ),
        Mistake("Your factor is upside down: divide by the number of all examples.", _upside_down),
        Mistake(
            "For a sum you divide by the rank's own examples. Every example must get the same weight: divide by all of them.",
            _own_batch,
        ),
        Mistake(
            "For a sum you have forgotten that the gradients are averaged afterwards. Multiply by N.",
            _sum_over_all,
        ),
        Mistake("The average divides by N, the number of ranks, not by N - 1.", _one_rank_less),
        Mistake(
            "You count only the ranks that have examples. The average divides by all ranks: multiply by the length of sizes.",
            _ranks_with_examples,
        ),
    ),
)

# --- shard --------------------------------------------------------------------------------------------------------------------


def division(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """How the examples are divided: properties, not values, because a right answer may shuffle in another way."""
    n, world, seed = inputs["n"], inputs["world"], inputs["seed"]

    def ranks(epoch: int, seed: int) -> list[list[int]]:
        found = [implementation(n, rank, world, epoch, seed) for rank in range(world)]
        return [[int(i) for i in indices] for indices in found]

    torch.manual_seed(1)
    state = torch.default_generator.get_state()
    kind = implementation(n, 0, world, 0, seed)
    if not isinstance(kind, Tensor):
        return {"the indices": kind}
    untouched = torch.equal(state, torch.default_generator.get_state())
    first = ranks(0, seed)
    torch.manual_seed(2)
    again, later, other = ranks(0, seed), ranks(1, seed), ranks(0, seed + 1)
    epochs = [first, later, ranks(2, seed), ranks(3, seed)]
    old, new = ({pair for share in shares for pair in itertools.pairwise(share)} for shares in epochs[:2])
    dealt = [i for share in first for i in share]
    counts = [dealt.count(i) for i in range(n)]
    large = n >= 12
    return {
        "dtype": str(kind.dtype),
        "indices on each rank": [len(share) for share in first],
        "examples that no rank has": counts.count(0),
        "indices that are no example": sum(not 0 <= i < n for i in dealt),
        "no example comes two times more often than another": max(counts) - min(counts) <= 1,
        "the same in a second call": first == again,
        "torch's own generator is left alone": untouched,
        "shuffled": not large or dealt != sorted(dealt),
        "in another order in the next epoch": not large or first != later,
        "in another order in each of four epochs": not large
        or not any(epoch in epochs[:i] for i, epoch in enumerate(epochs)),
        "most examples follow another one in the next epoch": n < 20 or 2 * len(old & new) < len(old),
        "a rank sees other examples in the next epoch": not large
        or world == 1
        or set(first[0]) != set(later[0]),
        "in another order with another seed": not large or (first != other and later != ranks(1, seed + 1)),
    }


def _division(n: int, world: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"n": n, "world": world, "seed": source.integer(0, 1000)}


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _dealt(order: Tensor, rank: int, world: int) -> Tensor:
    share = -(-len(order) // world)
    return order.repeat(world + 1)[: share * world][rank::world]


def _same_on_every_rank(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return reference.shard(n, 0, world, epoch, seed)


def _no_epoch(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return reference.shard(n, rank, world, 0, seed)


def _no_seed(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return reference.shard(n, rank, world, epoch, 0)


def _epoch_times_seed(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return reference.shard(n, rank, world, epoch * seed, 0)


def _rolled(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return _dealt(_order(n, seed).roll(epoch), rank, world)


def _two_orders(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return reference.shard(n, rank, world, epoch % 2, seed)


def _own_permutation(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return _dealt(_order(n, 1000 * (seed + epoch) + rank), rank, world)


def _tail_dropped(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return _order(n, seed + epoch)[: n // world * world][rank::world]


def _not_padded(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return _order(n, seed + epoch)[rank::world]


def _not_shuffled(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return _dealt(torch.arange(n), rank, world)


def _fixed_blocks(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    mine = _dealt(torch.arange(n), rank, world)
    return mine[_order(len(mine), seed + epoch)]


def _seeds_torch(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    torch.manual_seed(seed + epoch)
    return _dealt(torch.randperm(n), rank, world)


def _unseeded(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return _dealt(torch.randperm(n), rank, world)


def _padded_with_zeros(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    order, share = _order(n, seed + epoch), -(-n // world)
    return torch.cat([order, order.new_zeros(share * world - n)])[rank::world]


def _floats(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    return reference.shard(n, rank, world, epoch, seed).float()


def _padded_once(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    order, share = _order(n, seed + epoch), -(-n // world)
    return torch.cat([order, order[: share * world - n]])[rank::world]


def _overlapping(n: int, rank: int, world: int, epoch: int, seed: int) -> Tensor:
    order, share = _order(n, seed + epoch), -(-n // world)
    return order.repeat(3)[rank * (share - 1) :][:share] if n > 1 else order


def _no_seed_seen(observed: Observed) -> bool:
    """Another seed changes nothing, and all else is right: whether the seed is missing or multiplied by the epoch."""
    values = [entry.value for entry in observed.values()]
    return all(value["a rank sees other examples in the next epoch"] for value in values) and not all(
        value["in another order with another seed"] for value in values
    )


shard = Exercise(
    reference.shard,
    requirements=(
        Requirement(
            "every example once, and the same number on every rank",
            (
                Case("12 examples, 4 ranks", _division(12, 4)),
                Case("13 examples, 4 ranks", _division(13, 4)),
                Case("14 examples, 4 ranks", _division(14, 4)),
                Case("20 examples, 1 rank", _division(20, 1)),
                Case("3 examples, 8 ranks", _division(3, 8)),
                Case("1 example, 2 ranks", _division(1, 2)),
                Case("1 example, 5 ranks", _division(1, 5)),
                Case("197 examples, 3 ranks", _division(197, 3), shown=False),
                Case("64 examples, 8 ranks", _division(64, 8), shown=False),
            ),
            division,
            points=3,
        ),
    ),
    mistakes=(
        Mistake(
            "Every rank gets the same indices. Then N ranks do the work of one: take the rank into account.",
            _same_on_every_rank,
        ),
        Mistake(
            "Every epoch has the same order. Seed the generator with seed + epoch.",
            _no_epoch,
        ),
        Mistake(
            "Another seed gives the same order, at least in some epochs. Seed the generator with seed + epoch.",
            _no_seed,
            recognise=_no_seed_seen,
        ),
        Mistake(
            "Each rank draws its own permutation, so shards overlap and examples are left out. The rank must not enter the seed.",
            _own_permutation,
        ),
        Mistake(
            "You drop the examples that do not fill a round. Here every example has to be seen: pad from the beginning of the order.",
            _tail_dropped,
        ),
        Mistake(
            "Some ranks get one index less. They would end their epoch earlier, and the others wait for them: pad the order.",
            _not_padded,
        ),
        Mistake("You do not shuffle. Deal out a random permutation of the examples.", _not_shuffled),
        Mistake(
            "You shuffle inside of each rank's fixed share, so that a rank sees the same examples in every epoch. Shuffle first, then deal.",
            _fixed_blocks,
        ),
        Mistake(
            "You seed torch's own generator, and whoever draws from it next is disturbed. Make a torch.Generator of your own.",
            _seeds_torch,
        ),
        Mistake(
            "You draw from torch's own generator, which differs from rank to rank. Use a generator with the seed that is handed in.",
            _unseeded,
        ),
        Mistake(
            "You pad with one index again and again, and it counts more than others. Pad with the beginning of the shuffled order.",
            _padded_with_zeros,
        ),
        Mistake("Indices are whole numbers: return a tensor of dtype int64.", _floats),
        Mistake(
            "You go on with the old order and only shift it. Draw a new permutation in each epoch, from seed + epoch.",
            _rolled,
        ),
        Mistake(
            "Orders come back after a few epochs. Draw a new permutation in each epoch, from seed + epoch.",
            _two_orders,
        ),
        Mistake(
            "You pad with one copy of the order at most. With more ranks than examples one copy is too short: repeat it.",
            _padded_once,
        ),
        Mistake(
            "The shards of neighbouring ranks overlap, and the end of the order is left out. Begin every rank where the one before ends.",
            _overlapping,
        ),
    ),
)

# --- broadcast_params ---------------------------------------------------------------------------------------------------------


class Model(nn.Module):
    """What models have: a block inside, a tied weight, a frozen one, buffers of two types, one of them not saved."""

    def __init__(self, values: Mapping[str, Tensor], rank: int) -> None:
        super().__init__()

        def own(name: str, trainable: bool = True) -> nn.Parameter:
            return nn.Parameter(values[name][rank].clone(), requires_grad=trainable)

        self.scale = own("scale")
        self.block, self.head = nn.Module(), nn.Module()
        self.block.weight, self.block.bias = own("weight"), own("bias")
        self.frozen = own("frozen", trainable=False)
        self.head.weight = self.block.weight
        self.head.bias = own("last")
        self.register_buffer("mean", values["mean"][rank].clone())
        self.register_buffer("hidden", values["hidden"][rank].clone(), persistent=False)
        self.block.register_buffer("steps", values["steps"][rank].clone())


TRAINABLE = ("scale", "weight", "bias", "last")
SHAPES = {
    "scale": (1,),
    "weight": (3, 4),
    "bias": (5,),
    "frozen": (2, 2),
    "last": (7,),
    "mean": (4,),
    "hidden": (3,),
}


def named(model: Any) -> dict[str, Tensor]:
    """The tensors of a model, by the names of the inputs."""
    block, head = model.block, model.head
    return {
        "scale": model.scale,
        "weight": block.weight,
        "bias": block.bias,
        "frozen": model.frozen,
        "last": head.bias,
        "mean": model.mean,
        "hidden": model.hidden,
        "steps": block.steps,
    }


def broadcasts(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Models that differ, before and after; and what it cost the rank that paid most."""

    def work(rank: int, world: int) -> tuple[Any, ...]:
        model = Model(inputs["values"], rank)
        implementation(model)
        return {name: tensor.detach() for name, tensor in named(model).items()}, *calls_and_bytes()

    results = in_ranks(work, inputs["world"])
    return {
        **{name: torch.stack([result[0][name] for result in results]) for name in SHAPES},
        "ranks with another counter than rank 0": sum(
            int(result[0]["steps"]) != int(inputs["values"]["steps"][0]) for result in results
        ),
        ROUNDED: rounded(inputs["values"], [result[0] for result in results]),
        "calls": max(result[1] for result in results),
        "bytes": max(result[2] for result in results),
    }


def stays(implementation: Implementation, inputs: Inputs) -> dict[str, bool]:
    """What of a model has to stay as it is, looked at on one rank."""

    def work(rank: int, world: int) -> dict[str, bool]:
        model = Model(inputs["values"], rank)
        before = named(model)
        implementation(model)
        after = named(model)
        return {
            "the tensors are the same objects": all(after[name] is before[name] for name in before),
            "requires_grad is as it was": all(
                after[name].requires_grad == (name in TRAINABLE) for name in after
            ),
        }

    found: dict[str, bool] = in_ranks(work, 1)[0]
    return found


def _models(world: int) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        values = {name: source.normal(world, *shape) for name, shape in SHAPES.items()}
        return {
            "values": values | {"steps": 2**25 + 1 + 2 * torch.arange(world) + 4 * source.integer(1, 50)},
            "world": world,
        }

    return draw


def _model_bytes(inputs: Inputs) -> float:
    return float(sum(tensor[0].nbytes for tensor in inputs["values"].values()))


@torch.no_grad()
def _parameters_only(model: nn.Module) -> None:
    for p in model.parameters():
        dist.broadcast(p, 0)


@torch.no_grad()
def _state_dict(model: nn.Module) -> None:
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, 0)


@torch.no_grad()
def _trainable_only(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.requires_grad or not isinstance(tensor, nn.Parameter):
            dist.broadcast(tensor, 0)


@torch.no_grad()
def _from_the_last(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor, dist.get_world_size() - 1)


@torch.no_grad()
def _averaged(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()
        else:
            dist.broadcast(tensor, 0)


@torch.no_grad()
def _new_objects(model: nn.Module) -> None:
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                value = p.detach().clone()
                dist.broadcast(value, 0)
                setattr(module, name, nn.Parameter(value, p.requires_grad))
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)


@torch.no_grad()
def _copies(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.clone(), 0)


@torch.no_grad()
def _top_level(model: nn.Module) -> None:
    for tensor in (*model.parameters(recurse=False), *model.buffers(recurse=False)):
        dist.broadcast(tensor, 0)


@torch.no_grad()
def _one_send_for_each_rank(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if dist.get_rank() == 0:
            for other in range(1, dist.get_world_size()):
                dist.send(tensor.contiguous(), other)
        else:
            dist.recv(tensor, 0)


@torch.no_grad()
def _flat_in_float32(model: nn.Module) -> None:
    tensors = [*model.parameters(), *model.buffers()]
    flat = torch.cat([tensor.flatten().float() for tensor in tensors])
    dist.broadcast(flat, 0)
    for tensor, new in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(new.view_as(tensor))


@torch.no_grad()
def _tied_twice(model: nn.Module) -> None:
    for _, p in model.named_parameters(remove_duplicate=False):
        dist.broadcast(p, 0)
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)


def _freezes_all(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.requires_grad_(False), 0)


def _floating_only_equal(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            dist.broadcast(tensor.data, 0)


_BROADCAST = {
    "ranks with another counter than rank 0": Bound(
        most=lambda inputs: 0,
        unit="ranks have another counter than rank 0 had",
        why="Buffers may hold whole numbers, also large ones: broadcast each tensor in its own dtype.",
    ),
    ROUNDED: NOT_ROUNDED,
    "calls": Bound(
        most=lambda inputs: len(SHAPES) + 1,
        unit="calls of torch.distributed",
        why="One broadcast for each different tensor: a tied weight is one tensor with two names.",
    ),
    "bytes": Bound(
        most=_model_bytes,
        unit="bytes handed over by one rank",
        why="Each tensor has to be handed over once; the group brings it to all ranks.",
        naive=lambda inputs: (inputs["world"] - 1) * _model_bytes(inputs),
    ),
}

broadcast_params = Exercise(
    reference.broadcast_params,
    requirements=(
        Requirement(
            "all ranks have rank 0's model",
            (
                Case("three ranks that were seeded differently", _models(3)),
                Case("one rank", _models(1)),
                Case("two ranks in float64", double(_models(2))),
                Case("two ranks", _models(2), shown=False),
            ),
            broadcasts,
            points=2,
            bounds=_BROADCAST,
        ),
        Requirement(
            "an optimiser can go on: the same tensors, which require a gradient or not as before",
            (Case("the objects on one rank", _models(1)),),
            stays,
        ),
    ),
    mistakes=(
        Mistake(
            "The buffers still differ: running statistics and counters of batch norm, for example. Broadcast model.buffers(), too.",
            _parameters_only,
        ),
        Mistake(
            "state_dict() leaves out buffers that are not saved, and names a tied weight twice. Go through model.parameters() and "
            "model.buffers().",
            _state_dict,
        ),
        Mistake(
            "Frozen parameters still differ. They get no gradient, but the forward pass uses them: broadcast them, too.",
            _trainable_only,
        ),
        Mistake("You send from the last rank. All ranks start from rank 0's model: src=0.", _from_the_last),
        Mistake(
            "You average the models. Random weights that are averaged are smaller than they should be: broadcast those of rank 0.",
            _averaged,
        ),
        Mistake(
            "You put new parameters in place of the old ones. An optimiser holds the old ones: write into them.",
            _new_objects,
        ),
        Mistake(
            "You broadcast copies, and the model keeps its own values. Hand over the tensors themselves.",
            _copies,
        ),
        Mistake(
            "Only the tensors of the outermost module are equal now. Go through all modules: model.parameters() without recurse=False.",
            _top_level,
        ),
        Mistake(
            "Rank 0 sends every tensor to every other rank. One broadcast lets the group share that work.",
            _one_send_for_each_rank,
        ),
        Mistake("A tied weight goes over the network twice. Broadcast each tensor once.", _tied_twice),
        Mistake(
            "Tensors lose digits on their way through float32: counters above 2^24, and float64. Broadcast each in its own dtype.",
            _flat_in_float32,
        ),
        Mistake(
            "After your function no parameter requires a gradient. Use torch.no_grad() instead of requires_grad_(False).",
            _freezes_all,
        ),
        Mistake(
            "Buffers of whole numbers still differ, such as the counter of batch norm. Broadcast tensors of any dtype.",
            _floating_only_equal,
        ),
    ),
    threads=True,
)

# --- average_gradients --------------------------------------------------------------------------------------------------------

_UNUSED = "a parameter that some ranks did not use"
_MEAN = "every rank has the mean of the gradients"


def averages(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Models with gradients, of which some ranks have none for the last parameter."""

    def work(rank: int, world: int) -> tuple[Any, ...]:
        model = Model(inputs["values"], rank)
        tensors = named(model)
        for name in TRAINABLE:
            if name != "last" or rank not in inputs["unused"]:
                tensors[name].grad = inputs["grads"][name][rank].clone()
        implementation(model)
        grads = [tensors[name].grad for name in TRAINABLE]
        found = [
            torch.zeros_like(tensors[n]) if g is None else g for n, g in zip(TRAINABLE, grads, strict=True)
        ]
        values = torch.cat([tensors[name].detach().flatten() for name in SHAPES])
        return found, values, *calls_and_bytes()

    results = in_ranks(work, inputs["world"])
    return {
        **{
            f"gradient of {name}": torch.stack([result[0][i] for result in results])
            for i, name in enumerate(TRAINABLE)
        },
        "parameters and buffers": torch.stack([result[1] for result in results]),
        ROUNDED: rounded(inputs["grads"], [result[0] for result in results]),
        "calls": max(result[2] for result in results),
        "bytes": max(result[3] for result in results),
    }


def frozen_stays(implementation: Implementation, inputs: Inputs) -> dict[str, bool]:
    """Whether a frozen parameter stays without a gradient, and the others trainable, looked at on one rank."""

    def work(rank: int, world: int) -> dict[str, bool]:
        model = Model(inputs["values"], rank)
        for name in TRAINABLE:
            named(model)[name].grad = inputs["grads"][name][rank].clone()
        implementation(model)
        tensors = named(model).items()
        return {
            "a frozen parameter has no gradient": model.frozen.grad is None,
            "requires_grad is as it was": all(t.requires_grad == (name in TRAINABLE) for name, t in tensors),
        }

    found: dict[str, bool] = in_ranks(work, 1)[0]
    return found


def _gradients(world: int, unused: list[int] | None = None) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        grads = {name: source.uniform(world, *SHAPES[name], low=0.5, high=3) for name in TRAINABLE}
        return {**_models(world)(source), "grads": grads, "unused": unused or []}

    return draw


def _gradient_bytes(inputs: Inputs) -> float:
    return float(sum(tensor[0].nbytes for tensor in inputs["grads"].values()))


@torch.no_grad()
def _sums(model: nn.Module) -> None:
    reference.average_gradients(model)
    for p in model.parameters():
        if p.grad is not None:
            p.grad *= dist.get_world_size()


@torch.no_grad()
def _divided_twice(model: nn.Module) -> None:
    reference.average_gradients(model)
    for p in model.parameters():
        if p.grad is not None:
            p.grad /= dist.get_world_size()


@torch.no_grad()
def _skips_none(model: nn.Module) -> None:
    for p in model.parameters():
        if p.grad is not None:
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()


@torch.no_grad()
def _averages_parameters(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            dist.all_reduce(p)
            p.div_(dist.get_world_size())


@torch.no_grad()
def _reduces_to_rank_0(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            total = p.grad.clone()
            dist.reduce(total, 0)
            if dist.get_rank() == 0:
                p.grad = total / dist.get_world_size()


@torch.no_grad()
def _not_written_back(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            total = torch.zeros_like(p) if p.grad is None else p.grad.clone()
            dist.all_reduce(total)
            total /= dist.get_world_size()


@torch.no_grad()
def _zeros_for_frozen(model: nn.Module) -> None:
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        dist.all_reduce(p.grad)
        p.grad /= dist.get_world_size()


@torch.no_grad()
def _gathers(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            own = torch.zeros_like(p) if p.grad is None else p.grad
            all_of_them = [torch.empty_like(own) for _ in range(dist.get_world_size())]
            dist.all_gather(all_of_them, own)
            p.grad = torch.stack(all_of_them).mean(0)


@torch.no_grad()
def _tied_averaged_twice(model: nn.Module) -> None:
    for _, p in model.named_parameters(remove_duplicate=False):
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()


@torch.no_grad()
def _zeros_not_kept(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(grad)
            grad /= dist.get_world_size()


@torch.no_grad()
def _over_those_who_have_one(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            have = torch.tensor(float(p.grad is not None))
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad)
            dist.all_reduce(have)
            p.grad /= have.clamp(min=1).item()


@torch.no_grad()
def _rank_0s_gradient(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.broadcast(p.grad, 0)


@torch.no_grad()
def _in_float32(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            total = (torch.zeros_like(p) if p.grad is None else p.grad).float()
            dist.all_reduce(total)
            p.grad = (total / dist.get_world_size()).to(p.dtype)


@torch.no_grad()
def _over_the_elements(model: nn.Module) -> None:
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad)
            p.grad /= p.shape[0]


def _stuck_on_unused(observed: Observed) -> bool:
    return all(
        (entry.raised is not None and entry.raised.kind == "Deadlock") == (requirement == _UNUSED)
        for (requirement, _), entry in observed.items()
    )


_AVERAGE = {
    ROUNDED: NOT_ROUNDED,
    "calls": Bound(
        most=lambda inputs: len(TRAINABLE),
        unit="calls of torch.distributed",
        why="One all-reduce for each trainable tensor; a tied weight is one tensor, and a frozen one has no gradient.",
    ),
    "bytes": Bound(
        most=_gradient_bytes,
        unit="bytes handed over by one rank",
        why="Each gradient has to be handed over once, in one all-reduce.",
        naive=lambda inputs: inputs["world"] * _gradient_bytes(inputs),
    ),
}

average_gradients = Exercise(
    reference.average_gradients,
    requirements=(
        Requirement(
            _MEAN,
            (
                Case("gradients of two ranks", _gradients(2)),
                Case("gradients of one rank", _gradients(1)),
                Case("gradients of two ranks in float64", double(_gradients(2))),
                Case("gradients of three ranks", _gradients(3), shown=False),
            ),
            averages,
            points=2,
            bounds=_AVERAGE,
        ),
        Requirement(
            _UNUSED,
            (
                Case("unused on rank 0 of two", _gradients(2, [0])),
                Case("unused on rank 1 of three", _gradients(3, [1]), shown=False),
            ),
            averages,
            bounds=_AVERAGE,
        ),
        Requirement(
            "frozen parameters are left alone",
            (Case("a frozen parameter on one rank", _gradients(1)),),
            frozen_stays,
        ),
    ),
    mistakes=(
        Mistake("Your gradients are sums over the ranks. Divide by the number of ranks.", _sums),
        Mistake("You divide by the number of ranks twice. Once is enough.", _divided_twice),
        Mistake(
            "A rank whose gradient is None skips the all-reduce, and the others wait for it for ever. It has to take part with zeros.",
            _skips_none,
            recognise=_stuck_on_unused,
        ),
        Mistake(
            "You average the parameters. Average their gradients, p.grad, before the optimiser uses them.",
            _averages_parameters,
        ),
        Mistake(
            "Only rank 0 gets the mean: that is a reduce. Every rank takes the step itself, so every rank needs it: all_reduce.",
            _reduces_to_rank_0,
        ),
        Mistake(
            "You compute the means and leave the gradients as they were. Write the mean into p.grad.",
            _not_written_back,
        ),
        Mistake(
            "Frozen parameters get gradients of zero from you, and cost an all-reduce each. Leave out those without requires_grad.",
            _zeros_for_frozen,
        ),
        Mistake(
            "You gather the gradients of all ranks on each of them, which sends and stores N times as much. One all_reduce does it.",
            _gathers,
        ),
        Mistake(
            "A tied weight is averaged twice. The result is the same, but it is sent twice: go through model.parameters().",
            _tied_averaged_twice,
        ),
        Mistake(
            "A rank without a gradient takes part, but forgets the result. It takes the same step as the others: keep the mean in p.grad.",
            _zeros_not_kept,
        ),
        Mistake(
            "You divide by the number of ranks that have a gradient. A rank that did not use the parameter counts as zero: divide by all.",
            _over_those_who_have_one,
        ),
        Mistake(
            "All ranks get rank 0's gradient, and what the others computed is lost. Add up, then divide.",
            _rank_0s_gradient,
        ),
        Mistake("You divide by a size of the gradient. Divide by the number of ranks.", _over_the_elements),
        Mistake(
            "Gradients in float64 are rounded to float32 on their way. Add them up in the dtype that they have.",
            _in_float32,
        ),
    ),
    threads=True,
)

# --- accumulate_no_sync -------------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A linear map that knows how many of its graphs are alive, and how often it ran."""

    def __init__(self, weight: Tensor, stale: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.weight.grad = stale.clone()
        self.alive = self.most = self.runs = self.largest = 0

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(x @ self.weight)
        self.runs += 1
        self.largest = max(self.largest, len(x))
        self.alive += 1
        self.most = max(self.most, self.alive)
        y.register_hook(self._gone)
        return y

    def _gone(self, _: Tensor) -> None:
        self.alive -= 1


def accumulates(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Loss and gradient, where the ranks' average is one that the probe makes up."""
    model = Watched(inputs["weight"], inputs["stale"])
    calls = 0

    def average(given: Any) -> None:
        nonlocal calls
        calls += 1
        given.weight.grad.mul_(0.75).add_(inputs["others"])

    def loss(y: Tensor, target: Tensor) -> Tensor:
        return (y - target).square().mean()

    batches = list(zip(inputs["x"].split(inputs["sizes"]), inputs["y"].split(inputs["sizes"]), strict=True))
    given = list(batches)
    value = implementation(model, loss, batches, average)
    return {
        "the loss": float(value),
        "gradient of weight": None if model.weight.grad is None else model.weight.grad.clone(),
        "calls of average": calls,
        "average was called": calls > 0,
        "graphs alive at once": model.most,
        "forward passes": model.runs,
        "examples in one forward pass": model.largest,
        "batches taken out of the list": len(given) - sum(any(a is b for b in batches) for a in given),
        "changes of the model's mode": int(not model.training),
        "the weight": model.weight.detach().clone(),
    }


def _micro(sizes: list[int]) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        n = sum(sizes)
        return {
            "weight": source.normal(4, 3),
            "stale": source.normal(4, 3),
            "others": source.normal(4, 3),
            "x": source.normal(n, 4),
            "y": source.normal(n, 3),
            "sizes": sizes,
        }

    return draw


def _accumulated(
    model: Any,
    loss: Any,
    batches: Any,
    average: Any,
    *,
    fresh: str = "start",
    weight: Callable[[int, int, int], float] = lambda size, n, k: size / n,
    when: str = "end",
    one_graph: bool = False,
    report: str = "mean",
) -> float:
    """The accumulation, with switches for what goes wrong."""
    n, k, losses, parts = sum(len(x) for x, _ in batches), len(batches), [], []
    if fresh == "start":
        model.zero_grad()
    if when == "start":
        model.weight.grad = torch.zeros_like(model.weight) if model.weight.grad is None else model.weight.grad
        average(model)
    for x, y in batches:
        if fresh == "each":
            model.zero_grad()
        part = loss(model(x), y) * weight(len(x), n, k)
        if one_graph:
            parts.append(part)
        else:
            part.backward()
        losses.append(part.item())
        if when == "each":
            average(model)
    if one_graph:
        torch.stack(parts).sum().backward()
    if when == "end":
        average(model)
    return float(losses[-1] if report == "last" else sum(losses))


def _syncs_each_time(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, when="each")


def _not_divided(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, weight=lambda size, n, k: 1.0)


def _by_number_of_batches(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, weight=lambda size, n, k: 1 / k)


def _by_examples_alone(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, weight=lambda size, n, k: 1 / n)


def _stale_kept(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, fresh="never")


def _zeroed_each_time(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, fresh="each")


def _one_backward(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, one_graph=True)


def _never_averaged(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, when="never")


def _averaged_first(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, when="start")


def _last_loss(model: Any, loss: Any, batches: Any, average: Any) -> float:
    return _accumulated(model, loss, batches, average, report="last")


def _losses_added(model: Any, loss: Any, batches: Any, average: Any) -> float:
    with torch.no_grad():
        runs = model.runs
        total = sum(loss(torch.tanh(x @ model.weight), y).item() for x, y in batches)
        model.runs = runs
    _accumulated(model, loss, batches, average)
    return float(total)


def _only_gradient_divided(model: Any, loss: Any, batches: Any, average: Any) -> float:
    value = _accumulated(model, loss, batches, average, weight=lambda size, n, k: 1.0)
    if model.weight.grad is not None:
        model.weight.grad /= len(batches)
    return value / len(batches)


def _all_in_one_batch(model: Any, loss: Any, batches: Any, average: Any) -> float:
    x, y = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    return _accumulated(model, loss, [(x, y)], average)


def _list_emptied(model: Any, loss: Any, batches: Any, average: Any) -> float:
    mine = [batches.pop(0) for _ in range(len(batches))]
    return _accumulated(model, loss, mine, average)


accumulate_no_sync = Exercise(
    reference.accumulate_no_sync,
    requirements=(
        Requirement(
            "loss and gradient of the mean over all examples, averaged once",
            (
                Case("three micro batches of 4", _micro([4, 4, 4])),
                Case("a last micro batch that is shorter", _micro([5, 5, 2])),
                Case("one micro batch", _micro([6])),
                Case("micro batches of one example", _micro([1, 1])),
                Case("three micro batches in float64", double(_micro([2, 3, 4])), shown=False),
                Case("six micro batches", _micro([3, 3, 3, 3, 3, 1]), shown=False),
            ),
            accumulates,
            points=3,
            bounds={
                "calls of average": Bound(
                    most=lambda inputs: 1,
                    unit="calls of average",
                    why="Gradients add up in .grad without any network; one average at the end covers all micro batches.",
                    naive=lambda inputs: len(inputs["sizes"]),
                ),
                "graphs alive at once": Bound(
                    most=lambda inputs: 1,
                    unit="graphs alive at once",
                    why="Micro batches are there to save memory: call backward for each before the next forward pass.",
                    naive=lambda inputs: len(inputs["sizes"]),
                ),
                "forward passes": Bound(
                    most=lambda inputs: len(inputs["sizes"]),
                    unit="forward passes",
                    why="Each micro batch goes through the model once.",
                ),
                "batches taken out of the list": Bound(
                    most=lambda inputs: 0,
                    unit="batches are missing from the list",
                    why="The list belongs to the caller, who may go through it again: leave it as it is.",
                ),
                "changes of the model's mode": Bound(
                    most=lambda inputs: 0,
                    unit="changes of the model's mode",
                    why="The model is being trained: leave it in training mode.",
                ),
                "examples in one forward pass": Bound(
                    most=lambda inputs: max(inputs["sizes"]),
                    unit="examples in one forward pass",
                    why="Micro batches are there to save memory: put one of them after the other through the model.",
                    naive=lambda inputs: sum(inputs["sizes"]),
                ),
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You average after every micro batch. Once at the end is enough: one all-reduce instead of one for each of them.",
            _syncs_each_time,
        ),
        Mistake(
            "You add the losses of the micro batches without dividing. The gradient is then too large by their number.",
            _not_divided,
        ),
        Mistake(
            "You divide by the number of micro batches, which is right for equal ones only. Weight each with len(x) / examples.",
            _by_number_of_batches,
        ),
        Mistake(
            "You divide by the number of examples, but the loss of a micro batch is a mean already. Multiply by len(x) first.",
            _by_examples_alone,
        ),
        Mistake(
            "The gradients that were there before are still in yours. Begin with model.zero_grad().",
            _stale_kept,
        ),
        Mistake(
            "You clear the gradients before every micro batch, and only the last one is left. Clear them once, at the start.",
            _zeroed_each_time,
        ),
        Mistake(
            "All graphs stay in memory until one backward pass at the end. Call backward for each micro batch.",
            _one_backward,
        ),
        Mistake("You never average over the ranks. Call average(model) at the end.", _never_averaged),
        Mistake(
            "You average before the gradients are there. Call average(model) after the last backward pass.",
            _averaged_first,
        ),
        Mistake(
            "Your gradient is right, but you return the last micro batch's part of the loss. Add up the parts.",
            _last_loss,
        ),
        Mistake(
            "Your gradient is right, but you return the sum of the micro batches' means. Weight the losses as you weight the gradients.",
            _losses_added,
        ),
        Mistake(
            "You put all micro batches together and run them at once, which takes the memory that they should save. Run them one by one.",
            _all_in_one_batch,
        ),
        Mistake(
            "You take the batches out of the caller's list. Go through it with a for loop, and leave it as it is.",
            _list_emptied,
        ),
        Mistake(
            "You divide the gradient after it was averaged with the other ranks'. Divide the loss of each micro batch before backward.",
            _only_gradient_divided,
        ),
    ),
)
