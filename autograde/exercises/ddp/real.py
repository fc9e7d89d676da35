"""The exercises of the lesson ddp/04_real_ddp."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.exercises.ddp.averaging import NOT_ROUNDED, ROUNDED, double, rounded
from autograde.exercises.ddp.ranks import calls_and_bytes, in_ranks
from autograde.observe import Implementation, Inputs, Observation
from utils.distributed import traffic
from utils.reference import ddp as reference

Observed = Mapping[tuple[str, str], Observation]
Stats = tuple[Tensor, Tensor]

# --- sync_bn_stats ------------------------------------------------------------------------------------------------------------


def statistics(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Mean and variance on each rank, and what they cost."""
    x = inputs["x"]
    if "in 256ths" in inputs:  # whole numbers are handed in where rounding them would change the variance
        x = x + inputs["in 256ths"].to(x.dtype) / 256
    parts = x.split(inputs["sizes"])

    def work(rank: int, world: int) -> tuple[Any, ...]:
        own = parts[rank].clone()
        value = implementation(own)
        unchanged = torch.equal(own, parts[rank])
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise TypeError(f"Return two tensors, mean and variance; got {type(value).__name__}.")
        return *value, *calls_and_bytes(), unchanged

    results = in_ranks(work, len(inputs["sizes"]))
    return {
        "the mean on each rank": torch.stack([result[0] for result in results]),
        "the variance on each rank": torch.stack([result[1] for result in results]),
        ROUNDED: rounded(x, [result[:2] for result in results]),
        "ranks that changed x": sum(not result[4] for result in results),
        "calls": max(result[2] for result in results),
        "bytes": max(result[3] for result in results),
    }


def _batches(sizes: list[int], features: int = 4) -> Callable[[Draw], Inputs]:
    return lambda source: {"x": 2 + source.normal(sum(sizes), features), "sizes": sizes}


def _far(sizes: list[int], shift: int) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        around = (256 * source.normal(sum(sizes), 4)).round().long()
        return {"x": torch.zeros(around.shape), "in 256ths": 256 * shift + around, "sizes": sizes}

    return draw


def _world(inputs: Inputs) -> int:
    return len(inputs["sizes"])


def _summed(*tensors: Tensor) -> list[Tensor]:
    found = [tensor.clone() for tensor in tensors]
    for tensor in found:
        dist.all_reduce(tensor)
    return found


def _count(x: Tensor) -> Tensor:
    return x.new_tensor(float(len(x)))


def _local_only(x: Tensor) -> Stats:
    return x.mean(0), x.var(0, correction=0)


def _means_of_means(x: Tensor) -> Stats:
    flat = torch.cat([x.mean(0), x.var(0, correction=0)])
    dist.all_reduce(flat)
    mean, variance = (flat / dist.get_world_size()).chunk(2)
    return mean, variance


def _right_mean_mean_of_variances(x: Tensor) -> Stats:
    totals = torch.cat([x.sum(0), _count(x)[None]])
    dist.all_reduce(totals)
    variance = x.var(0, correction=0)
    dist.all_reduce(variance)
    return totals[:-1] / totals[-1], variance / dist.get_world_size()


def _within_only(x: Tensor) -> Stats:
    within = (x - (x.mean(0) if len(x) else 0)).square().sum(0)
    totals = torch.cat([x.sum(0), within, _count(x)[None]])
    dist.all_reduce(totals)
    features = x.shape[1]
    return totals[:features] / totals[-1], totals[features:-1] / totals[-1]


def _mean_of_means_pooled(x: Tensor) -> Stats:
    mean = x.mean(0)
    dist.all_reduce(mean)
    mean /= dist.get_world_size()
    totals = torch.cat([(x - mean).square().sum(0), _count(x)[None]])
    dist.all_reduce(totals)
    return mean, totals[:-1] / totals[-1]


def _unbiased(x: Tensor) -> Stats:
    mean, variance = reference.sync_bn_stats(x)
    count = _count(x)
    dist.all_reduce(count)
    return mean, variance * count / (count - 1)


def _squares_minus_square(x: Tensor) -> Stats:
    totals = torch.cat([x.sum(0), x.square().sum(0), _count(x)[None]])
    dist.all_reduce(totals)
    features = x.shape[1]
    mean = totals[:features] / totals[-1]
    return mean, totals[features:-1] / totals[-1] - mean.square()


def _by_own_batch(x: Tensor) -> Stats:
    (total,) = _summed(x.sum(0))
    count = max(len(x), 1) * dist.get_world_size()
    mean = total / count
    (squares,) = _summed((x - mean).square().sum(0))
    return mean, squares / count


def _deviation(x: Tensor) -> Stats:
    mean, variance = reference.sync_bn_stats(x)
    return mean, variance.sqrt()


def _sums(x: Tensor) -> Stats:
    totals = torch.cat([x.sum(0), _count(x)[None]])
    dist.all_reduce(totals)
    squares = (x - totals[:-1] / totals[-1]).square().sum(0)
    dist.all_reduce(squares)
    return totals[:-1], squares


def _own_squares(x: Tensor) -> Stats:
    totals = torch.cat([x.sum(0), _count(x)[None]])
    dist.all_reduce(totals)
    mean = totals[:-1] / totals[-1]
    return mean, (x - mean).square().sum(0) / totals[-1]


def _mean_taken_off_x(x: Tensor) -> Stats:
    totals = torch.cat([x.sum(0), _count(x)[None]])
    dist.all_reduce(totals)
    mean = totals[:-1] / totals[-1]
    x -= mean
    squares = x.square().sum(0)
    dist.all_reduce(squares)
    return mean, squares / totals[-1]


def _stats_in_float32(x: Tensor) -> Stats:
    mean, variance = reference.sync_bn_stats(x.float())
    return mean.to(x.dtype), variance.to(x.dtype)


def _whole_batch_gathered(x: Tensor) -> Stats:
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64)
    counts[dist.get_rank()] = len(x)
    dist.all_reduce(counts)
    everything = x.new_zeros(int(counts.sum()), x.shape[1])
    start = int(counts[: dist.get_rank()].sum())
    everything[start : start + len(x)] = x
    dist.all_reduce(everything)
    return everything.mean(0), everything.var(0, correction=0)


_STATS_COST = {
    ROUNDED: NOT_ROUNDED,
    "ranks that changed x": Bound(
        most=lambda inputs: 0,
        unit="ranks changed x",
        why="The layers behind still need x: compute with a new tensor, x - mean.",
    ),
    "calls": Bound(
        most=lambda inputs: 3,
        unit="calls of torch.distributed",
        why="Sums and counts go in one message, and squares in another.",
    ),
    "bytes": Bound(
        most=lambda inputs: float(
            (_world(inputs) + 1) * (2 * inputs["x"].shape[1] + 2) * inputs["x"].element_size()
        ),
        unit="bytes handed over by one rank",
        why="A few sums for each feature are enough; the examples themselves stay where they are.",
        naive=lambda inputs: float(inputs["x"].nbytes),
    ),
}

sync_bn_stats = Exercise(
    reference.sync_bn_stats,
    requirements=(
        Requirement(
            "mean and variance of the whole batch",
            (
                Case("3 and 40 examples", _batches([3, 40])),
                Case("one rank", _batches([6])),
                Case("17 and 9 examples in float64", double(_batches([17, 9]))),
                Case("20, 30 and 50 examples of 7 features", _batches([20, 30, 50], 7), shown=False),
            ),
            statistics,
            points=2,
            bounds=_STATS_COST,
        ),
        Requirement(
            "numbers far from zero",
            (Case("features near 1000", _far([20, 30], 1000)),),
            statistics,
            tolerance=Tolerance(32, "the means of the ranks, combined afterwards, are each rounded at 1000"),
            bounds=_STATS_COST,
        ),
        Requirement(
            "a rank without examples",
            (
                Case("30 and 0 examples", _batches([30, 0])),
                Case("0 and 25 examples", _batches([0, 25]), shown=False),
            ),
            statistics,
            bounds=_STATS_COST,
        ),
    ),
    mistakes=(
        Mistake(
            "These are the rank's own statistics. Each rank would normalise in another way: add up over the ranks.",
            _local_only,
        ),
        Mistake(
            "You average the ranks' means and variances. Ranks with more examples count more, and the means differ from each other, too.",
            _means_of_means,
        ),
        Mistake(
            "Your mean is right; your variance is the mean of the ranks' variances. It leaves out how far their means are apart.",
            _right_mean_mean_of_variances,
        ),
        Mistake(
            "Your variance is measured from each rank's own mean. Measure from the mean of the whole batch.",
            _within_only,
        ),
        Mistake(
            "Your mean is the mean of the ranks' means. Where batches differ in size, add up sums and divide by the number of all examples.",
            _mean_of_means_pooled,
        ),
        Mistake(
            "You divide by n - 1. Batch norm normalises with the biased variance, which divides by n.",
            _unbiased,
        ),
        Mistake(
            "The mean of squares minus the square of the mean: far from zero two large numbers cancel. Subtract the mean first.",
            _squares_minus_square,
        ),
        Mistake(
            "You divide by the rank's own number of examples times the number of ranks. Batches may differ in size: sum the counts.",
            _by_own_batch,
        ),
        Mistake("You return the standard deviation. Asked for is the variance.", _deviation),
        Mistake("You return sums. Divide both by the number of all examples.", _sums),
        Mistake(
            "Your mean is that of all ranks, your squares are of this rank alone. The squares have to be summed, too.",
            _own_squares,
        ),
        Mistake(
            "You send all examples to all ranks. A sum, a count and a sum of squares for each feature are enough.",
            _whole_batch_gathered,
        ),
        Mistake(
            "You subtract the mean from x itself, and the layers behind get another x. Write (x - mean) instead of x -= mean.",
            _mean_taken_off_x,
        ),
        Mistake(
            "Statistics of float64 are rounded to float32 on their way. Work in the dtype of x.",
            _stats_in_float32,
        ),
    ),
    threads=True,
)

# --- save_on_rank0 ------------------------------------------------------------------------------------------------------------

State = dict[str, Any]


class Slow:
    """Writing it takes until all other ranks have looked for the file, or until they must be waiting for it."""

    SECONDS = 0.04

    def __init__(self, others: int) -> None:
        self.looked = threading.Semaphore(0)
        self.others = others

    def __reduce__(self) -> Any:
        for _ in range(self.others):
            if not self.looked.acquire(timeout=self.SECONDS):
                break
        return OrderedDict, ()


def saved(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Each rank has a disk of its own; rank 0 writes slowly. What is on the disks when each rank goes on?"""
    world, values = inputs["world"], inputs["values"]
    slow = [Slow(world - 1) for _ in values]
    with tempfile.TemporaryDirectory() as temporary:
        disks = [Path(temporary) / f"rank{rank}" for rank in range(world)]
        for disk in disks:
            disk.mkdir()

        def work(rank: int, world: int) -> tuple[list[bool], bool, bool]:
            there, kept, met = [], True, True
            for step, value in enumerate(values):
                path = disks[rank] / "checkpoint.pt"
                state = {
                    "model": {"weight": value[rank], "more": slow[step]},
                    "velocity": 2 * value[rank],
                    "step": step,
                }
                before = len(traffic().messages)
                implementation(path, state)
                kept = kept and list(state) == ["model", "velocity", "step"]
                met = met and (world == 1 or len(traffic().messages) > before)
                here = disks[0] / "checkpoint.pt"
                there.append(here.exists() and torch.load(here)["step"] == step)
                slow[step].looked.release()
                dist.barrier()
            return there, kept, met

        results = in_ranks(work, world)
        found = disks[0] / "checkpoint.pt"
        content: Any = {"model": {"weight": None}, "velocity": None, "step": -1}
        content = torch.load(found) if found.exists() else content
        return {
            "the weight in the file": content["model"]["weight"],
            "the velocity in the file": content.get("velocity"),
            "the step in the file": float(content["step"]),
            "ranks that changed the state": sum(not kept for _, kept, _ in results),
            "ranks that went on before the file was there": sum(not all(there) for there, _, _ in results),
            "ranks that waited for no other": sum(not met for _, _, met in results),
            "files beside the checkpoint": len(list(disks[0].iterdir())) - found.exists(),
            "files written by other ranks": sum(len(list(disk.iterdir())) for disk in disks[1:]),
        }


class Unwritable:
    """Writing it fails half-way, as on a full disk."""

    def __reduce__(self) -> Any:
        raise OSError("No space left on device")


def interrupted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """What is left of the checkpoint before, when writing the next one fails."""
    with tempfile.TemporaryDirectory() as temporary:
        path, old = Path(temporary) / "checkpoint.pt", Path(temporary) / "the same file by another name"

        def work(rank: int, world: int) -> None:
            implementation(path, {"weight": inputs["values"][0][0], "step": 1})
            if path.exists():
                os.link(path, old)
            try:
                implementation(path, {"weight": inputs["values"][1][0], "more": Unwritable(), "step": 2})
            except Exception as error:
                if "No space left" not in str(error):
                    raise

        in_ranks(work, 1)
        first, second = inputs["values"][0][0], inputs["values"][1][0]
        try:
            content = torch.load(path)
        except Exception:
            lost = -1.0 if path.exists() else -2.0
            content = {"weight": torch.zeros_like(first), "step": lost}
        in_ranks(lambda rank, world: implementation(path, {"weight": second, "step": 3}), 1)
        try:
            untouched = torch.load(old)["step"] == 1
        except Exception:
            untouched = False
        return {
            "the weight in the file": content["weight"],
            "the step in the file": float(content["step"]),
            "the old file was never written into": untouched,
        }


def _checkpoints(world: int, times: int = 2) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "world": world,
        "values": [source.uniform(world, 3, low=0.5, high=2) for _ in range(times)],
    }


def _to(path: Path, state: State) -> None:
    partial = path.with_name(path.name + ".new")
    torch.save(state, partial)
    os.replace(partial, path)


def _every_rank_saves(path: Path, state: State) -> None:
    _to(path, state)
    dist.barrier()


def _no_barrier(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        _to(path, state)


def _barrier_on_rank_0(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        _to(path, state)
        dist.barrier()


def _not_atomic(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        torch.save(state, path)
    dist.barrier()


def _old_one_removed_first(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        path.unlink(missing_ok=True)
        _to(path, state)
    dist.barrier()


def _copied_and_left(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        partial = path.with_name("checkpoint.new")
        torch.save(state, partial)
        shutil.copy(partial, path)
    dist.barrier()


def _never_renamed(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        torch.save(state, path.with_suffix(".partial"))
    dist.barrier()


def _last_rank_saves(path: Path, state: State) -> None:
    if dist.get_rank() == dist.get_world_size() - 1:
        _to(path, state)
    dist.barrier()


def _sleeps(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        _to(path, state)
    else:
        threading.Event().wait(4 * Slow.SECONDS)


def _written_over_and_restored(path: Path, state: State) -> None:
    if dist.get_rank() == 0:
        before = path.read_bytes() if path.exists() else None
        try:
            torch.save(state, path)
        except Exception:
            if before is not None:
                path.write_bytes(before)
            raise
    dist.barrier()


def _parts_left_out(path: Path, state: State) -> None:
    names = ("model", "weight", "more", "step")
    if dist.get_rank() == 0:
        _to(path, {name: state[name] for name in names if name in state})
    dist.barrier()


def _only_once(path: Path, state: State) -> None:
    if dist.get_rank() == 0 and not path.exists():
        _to(path, state)
    dist.barrier()


_ATOMIC = "the old checkpoint survives when writing fails"


def _waits_alone(observed: Observed) -> bool:
    stuck = [entry.raised for entry in observed.values() if entry.raised is not None]
    return bool(stuck) and all(raised.kind == "Deadlock" and "barrier" in raised.message for raised in stuck)


save_on_rank0 = Exercise(
    reference.save_on_rank0,
    requirements=(
        Requirement(
            "rank 0 writes, and nobody goes on before the file is there",
            (
                Case("two checkpoints of two ranks", _checkpoints(2)),
                Case("one rank saves", _checkpoints(1)),
                Case("one checkpoint of three ranks", _checkpoints(3, 1), shown=False),
            ),
            saved,
            points=2,
            bounds={
                "ranks that went on before the file was there": Bound(
                    most=lambda inputs: 0,
                    unit="ranks went on before the file was complete",
                    why="The next thing that they do may be to read it: dist.barrier() after writing, on all ranks.",
                ),
                "ranks that changed the state": Bound(
                    most=lambda inputs: 0,
                    unit="ranks changed the state",
                    why="The training goes on with it: only write it.",
                ),
                "ranks that waited for no other": Bound(
                    most=lambda inputs: 0,
                    unit="ranks called nothing of torch.distributed",
                    why="How long rank 0 writes is not known in advance: dist.barrier() waits as long as it takes.",
                ),
                "files beside the checkpoint": Bound(
                    most=lambda inputs: 0,
                    unit="files were left beside the checkpoint",
                    why="os.replace moves the file that you wrote to its place, and nothing is left.",
                ),
                "files written by other ranks": Bound(
                    most=lambda inputs: 0,
                    unit="files were written by other ranks than 0",
                    why="All ranks have the same model: one file is enough, and on a shared disk they would write over each other.",
                    naive=lambda inputs: inputs["world"] - 1,
                ),
            },
        ),
        Requirement(_ATOMIC, (Case("the disk is full", _checkpoints(1)),), interrupted),
    ),
    mistakes=(
        Mistake(
            "Every rank writes. On a shared disk they write into the same file at the same time: only rank 0 may.",
            _every_rank_saves,
        ),
        Mistake(
            "The other ranks do not wait until rank 0 has written. Call dist.barrier() behind the writing, on all ranks.",
            _no_barrier,
        ),
        Mistake(
            "A rank waits at a barrier to which the others never come. All ranks have to call dist.barrier(), outside of the if.",
            _barrier_on_rank_0,
            recognise=_waits_alone,
        ),
        Mistake(
            "You write straight over the old checkpoint. Where writing fails, both are lost: write beside it, then os.replace.",
            _not_atomic,
        ),
        Mistake(
            "You remove the old checkpoint before the new one is complete. os.replace takes its place in one step.",
            _old_one_removed_first,
        ),
        Mistake(
            "You copy the file to its place, which can be interrupted half-way, and leave the first one behind. Use os.replace.",
            _copied_and_left,
        ),
        Mistake(
            "You write beside the path and leave it there. Rename it: os.replace(partial, path).",
            _never_renamed,
        ),
        Mistake("The last rank writes. By convention, and here, it is rank 0.", _last_rank_saves),
        Mistake(
            "The other ranks wait for some time, not for rank 0. A large file takes longer: call dist.barrier() on all ranks.",
            _sleeps,
            recognise=lambda observed: _waits_by_the_clock(observed),
        ),
        Mistake(
            "You write into the old checkpoint and mend it after an error. A process that is killed mends nothing: use os.replace.",
            _written_over_and_restored,
        ),
        Mistake(
            "You save some of the entries of state. Save all of it: torch.save(state, partial).",
            _parts_left_out,
        ),
        Mistake(
            "You keep the first checkpoint for ever. The new one has to take its place: os.replace does that.",
            _only_once,
            recognise=lambda observed: _stale(observed),
        ),
    ),
    threads=True,
)


def _waits_by_the_clock(observed: Observed) -> bool:
    """Nobody was too early, and somebody met no other rank."""
    values = [entry.value for (name, _), entry in observed.items() if name != _ATOMIC]
    early = any(value["ranks that went on before the file was there"] for value in values)
    return not early and any(value["ranks that waited for no other"] for value in values)


def _stale(observed: Observed) -> bool:
    """The steps of the first checkpoint where there were two, and nothing else is wrong in the first requirement."""
    ours = [
        entry.value
        for (name, case), entry in observed.items()
        if name != _ATOMIC and "one checkpoint" not in case
    ]
    return all(
        value["the step in the file"] == 0.0 and not value["files written by other ranks"] for value in ours
    )


# --- resume -------------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two parameters and a buffer."""

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.register_buffer("mean", mean.clone())


def resumed(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """A model and its velocity, from a checkpoint or without one; looked at through references that were taken before."""
    old, new = inputs["old"], inputs["new"]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "checkpoint.pt"
        if inputs["there"]:
            other = Net(old["weight"], old["bias"], old["mean"])
            velocity = [old["v0"], old["v1"]]
            torch.save({"model": other.state_dict(), "velocity": velocity, "step": inputs["step"]}, path)
        model, velocity = Net(new["weight"], new["bias"], new["mean"]), [new["v0"].clone(), new["v1"].clone()]
        held = [model.weight, model.bias, *velocity]
        given = [value for values in (old, new) for value in values.values()]
        step = implementation(path, model, velocity)
        return {
            "the step": step,
            "parameters and velocity, as an optimiser sees them": [
                tensor.detach().clone() for tensor in held
            ],
            "the model": [model.weight.detach().clone(), model.bias.detach().clone(), model.mean],
            "velocity, as the list has it": [tensor.clone() for tensor in velocity],
            "parameters without a gradient": sum(not p.requires_grad for p in model.parameters()),
            ROUNDED: max(rounded(given, tensor) for tensor in held),
            "files": len(list(Path(temporary).iterdir())),
        }


def _resumed(there: bool, step: int = 7) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        def tensors() -> dict[str, Tensor]:
            shapes = {"weight": (3, 2), "bias": (3,), "mean": (2,), "v0": (3, 2), "v1": (3,)}
            return {name: source.uniform(*shape, low=0.5, high=2) for name, shape in shapes.items()}

        return {"old": tensors(), "new": tensors(), "there": there, "step": step}

    return draw


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _resume(
    path: Path,
    model: Any,
    velocity: list[Tensor],
    *,
    load_velocity: bool = True,
    load_model: bool = True,
    step: Callable[[int], int] = lambda step: step,
    missing: Callable[[], Any] = lambda: 0,
) -> Any:
    """Going on, with switches for what goes wrong."""
    if not path.exists():
        return missing()
    state = _load(path)
    if load_model:
        model.load_state_dict(state["model"])
    if load_velocity:
        for mine, theirs in zip(velocity, state["velocity"], strict=True):
            mine.copy_(theirs)
    return step(state["step"])


def _velocity_not_loaded(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    return _resume(path, model, velocity, load_velocity=False)


def _model_not_loaded(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    return _resume(path, model, velocity, load_model=False)


def _one_step_skipped(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    return _resume(path, model, velocity, step=lambda step: step + 1)


def _one_step_again(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    return _resume(path, model, velocity, step=lambda step: step - 1)


def _starts_from_0(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    return _resume(path, model, velocity, step=lambda step: 0)


def _no_number(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    return _resume(path, model, velocity, missing=lambda: None)


def _list_refilled(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    step = _resume(path, model, velocity, load_velocity=False)
    if path.exists():
        velocity[:] = _load(path)["velocity"]
    return step


def _parameters_replaced(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    if path.exists():
        state = _load(path)["model"]
        model.weight, model.bias = nn.Parameter(state["weight"]), nn.Parameter(state["bias"])
        model.mean.copy_(state["mean"])
    return _resume(path, model, velocity, load_model=False)


@torch.no_grad()
def _buffers_forgotten(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    if path.exists():
        state = _load(path)["model"]
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])
    return _resume(path, model, velocity, load_model=False)


def _velocity_in_float32(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    step = _resume(path, model, velocity)
    for tensor in velocity:
        tensor.copy_(tensor.float())
    return step


def _all_frozen(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    step = _resume(path, model, velocity)
    model.requires_grad_(False)
    return step


def _velocity_zeroed(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    step = _resume(path, model, velocity, load_velocity=False)
    for tensor in velocity:
        tensor.zero_()
    return step


def _velocity_added(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    step = _resume(path, model, velocity, load_velocity=False)
    if path.exists():
        for mine, theirs in zip(velocity, _load(path)["velocity"], strict=True):
            mine += theirs
    return step


def _needs_the_file(path: Path, model: Any, velocity: list[Tensor]) -> Any:
    state = _load(path)
    model.load_state_dict(state["model"])
    for mine, theirs in zip(velocity, state["velocity"], strict=True):
        mine.copy_(theirs)
    return state["step"]


_RESUMED = {
    ROUNDED: NOT_ROUNDED,
    "parameters without a gradient": Bound(
        most=lambda inputs: 0,
        unit="parameters no longer require a gradient",
        why="The training goes on: use torch.no_grad() for copying.",
    ),
}
_FIRST = "a first start, without a checkpoint"


resume = Exercise(
    reference.resume,
    requirements=(
        Requirement(
            "everything is as it was when it was saved",
            (
                Case("after 7 steps", _resumed(True)),
                Case("after 1 step", _resumed(True, 1)),
                Case("after 40 steps in float64", double(_resumed(True, 40))),
            ),
            resumed,
            points=2,
            bounds=_RESUMED,
        ),
        Requirement(_FIRST, (Case("no file", _resumed(False)),), resumed, bounds=_RESUMED),
    ),
    mistakes=(
        Mistake(
            "The velocity is not loaded. The next steps would differ from those of a training that was not interrupted.",
            _velocity_not_loaded,
        ),
        Mistake("The model is not loaded. Use model.load_state_dict.", _model_not_loaded),
        Mistake(
            "You skip a step. step is the number of steps that are done, and so the number of the next one, counted from 0.",
            _one_step_skipped,
        ),
        Mistake(
            "You do a step again. step is the number of steps that are done, and so the number of the next one, counted from 0.",
            _one_step_again,
        ),
        Mistake(
            "You return 0 in any case. The training has to go on at the step of the checkpoint.",
            _starts_from_0,
        ),
        Mistake("Where there is no checkpoint the training begins: return 0, not None.", _no_number),
        Mistake(
            "You put new tensors into the list. Whoever holds the old ones goes on with them: copy into them, mine.copy_(saved).",
            _list_refilled,
        ),
        Mistake(
            "You give the model new parameters. Whoever holds the old ones goes on with them: use load_state_dict.",
            _parameters_replaced,
        ),
        Mistake(
            "The buffers are not loaded. state_dict has them: use load_state_dict, or go through buffers, too.",
            _buffers_forgotten,
        ),
        Mistake(
            "You set the velocity to zero. Momentum starts anew then, and the curve shows a bend: load it.",
            _velocity_zeroed,
        ),
        Mistake("You add the saved velocity to the present one. Copy it.", _velocity_added),
        Mistake(
            "Velocities in float64 are rounded to float32. Copy them as they are: mine.copy_(saved).",
            _velocity_in_float32,
        ),
        Mistake(
            "The parameters no longer require a gradient, and training stands still. Use torch.no_grad() for copying.",
            _all_frozen,
        ),
        Mistake(
            "Where there is no file your function raises. At the first start there is none: look with path.exists().",
            _needs_the_file,
            recognise=lambda observed: all(
                (entry.raised is not None) == (name == _FIRST) for (name, _), entry in observed.items()
            ),
        ),
    ),
)

# --- warmup_lr ----------------------------------------------------------------------------------------------------------------


def rates(implementation: Implementation, inputs: Inputs) -> list[Any]:
    """The rates of several steps."""
    base, world, warmup = inputs["base"], inputs["world"], inputs["warmup"]
    return [implementation(step, base, world, warmup) for step in inputs["steps"]]


def _rates(
    world: int, warmup: int, base: float = 0.1, steps: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 9, 50)
) -> Callable[[Draw], Inputs]:
    return lambda source: {"base": base, "world": world, "warmup": warmup, "steps": list(steps)}


def _fraction(step: int, warmup: int) -> float:
    return min(step / warmup, 1.0) if warmup else 1.0


def _no_scaling(step: int, base: float, world: int, warmup: int) -> float:
    return base * _fraction(step, warmup)


def _no_warmup(step: int, base: float, world: int, warmup: int) -> float:
    return base * world


def _never_scaled(step: int, base: float, world: int, warmup: int) -> float:
    return base


def _from_zero(step: int, base: float, world: int, warmup: int) -> float:
    return base * world * _fraction(step, warmup)


def _root(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + (math.sqrt(world) - 1) * _fraction(step, warmup))


def _unbounded(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + (world - 1) * (step / warmup if warmup else 1.0))


def _jump(step: int, base: float, world: int, warmup: int) -> float:
    return base * world if step >= warmup else base


def _one_step_ahead(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + (world - 1) * _fraction(step + 1, warmup))


def _one_step_behind(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + (world - 1) * max(0.0, min((step - 1) / warmup, 1.0) if warmup else 1.0))


def _geometric(step: int, base: float, world: int, warmup: int) -> float:
    return float(base * world ** _fraction(step, warmup))


def _world_times_more(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + world * _fraction(step, warmup))


def _base_without_warmup(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + (world - 1) * min(step / warmup, 1.0)) if warmup else base


def _divides_by_zero(step: int, base: float, world: int, warmup: int) -> float:
    return base * (1 + (world - 1) * min(step / warmup, 1.0))


_NONE = "no warm-up"

warmup_lr = Exercise(
    reference.warmup_lr,
    requirements=(
        Requirement(
            "from base to world times base in equal steps",
            (
                Case("8 ranks, 4 steps", _rates(8, 4)),
                Case("2 ranks, 5 steps", _rates(2, 5, 0.3)),
                Case("1 rank, 4 steps", _rates(1, 4)),
                Case("32 ranks, 7 steps", _rates(32, 7), shown=False),
            ),
            rates,
        ),
        Requirement(_NONE, (Case("8 ranks, 0 steps", _rates(8, 0)),), rates),
    ),
    mistakes=(
        Mistake(
            "Without a warm-up you return base. The rate is then world times base from the first step.",
            _base_without_warmup,
        ),
        Mistake(
            "Your rate ends at base. With N times as many examples per step the rate is to become N times as large.",
            _no_scaling,
        ),
        Mistake(
            "You have no warm-up: the large rate comes at once. Let it grow from base over the first steps.",
            _no_warmup,
        ),
        Mistake(
            "Your rate never changes. It has to grow to world times base over the warm-up.", _never_scaled
        ),
        Mistake("Your warm-up starts from 0. It starts from base, the rate of one process.", _from_zero),
        Mistake(
            "You scale with the square root of the number of ranks. The rule of the lesson is linear.", _root
        ),
        Mistake("Your rate never stops growing. After the warm-up it stays at world times base.", _unbounded),
        Mistake("Your rate jumps after the warm-up. It has to grow by the same amount in each step.", _jump),
        Mistake(
            "Your rate is a step ahead. At step 0 it is base, and at step warmup it is world times base.",
            _one_step_ahead,
        ),
        Mistake(
            "Your rate is a step behind. At step 0 it is base, and at step warmup it is world times base.",
            _one_step_behind,
        ),
        Mistake(
            "Your rate grows by the same factor in each step. Let it grow by the same amount.", _geometric
        ),
        Mistake(
            "Your rate ends at (world + 1) times base. It grows by (world - 1) times base.", _world_times_more
        ),
        Mistake(
            "You divide by zero where there is no warm-up. Then the rate is world times base from the start.",
            _divides_by_zero,
            recognise=lambda observed: all(
                (entry.raised is not None and entry.raised.kind == "ZeroDivisionError") == (name == _NONE)
                for (name, _), entry in observed.items()
            ),
        ),
    ),
)
