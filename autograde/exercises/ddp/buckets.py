"""The exercises of the lesson ddp/03_buckets."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddp.averaging import NOT_ROUNDED, ROUNDED, double, rounded
from autograde.exercises.ddp.ranks import calls_and_bytes, in_ranks
from autograde.observe import Implementation, Inputs, Observation
from utils.distributed import Traffic, traffic
from utils.reference import ddp as reference

Observed = Mapping[tuple[str, str], Observation]
Parameters = list[nn.Parameter]

# --- make_buckets -------------------------------------------------------------------------------------------------------------

DTYPES = {"single": torch.float32, "double": torch.float64, "half": torch.float16, "bfloat": torch.bfloat16}


def bucketed(implementation: Implementation, inputs: Inputs) -> Any:
    """The buckets of parameters of given sizes; "frozen" ones need no gradient."""
    parameters = [
        nn.Parameter(
            torch.zeros((2, size // 2) if size % 2 == 0 else (size,), dtype=DTYPES[kind.split()[-1]]),
            requires_grad="frozen" not in kind,
        )
        for size, kind in zip(inputs["sizes"], inputs["kinds"], strict=True)
    ]
    given = list(parameters)
    buckets = implementation(parameters, inputs["cap_bytes"])
    same = len(parameters) == len(given) and all(a is b for a, b in zip(parameters, given, strict=True))
    return {"the buckets": buckets, "the list of parameters is as it was": same}


def _model(sizes: list[int], cap_bytes: int, kinds: list[str] | None = None) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "sizes": sizes,
        "kinds": kinds or ["single"] * len(sizes),
        "cap_bytes": cap_bytes,
    }


def _drawn_model(count: int, cap_bytes: int) -> Callable[[Draw], Inputs]:
    return lambda source: _model(source.integers(count, low=1, high=60).tolist(), cap_bytes)(source)


def _fill(
    parameters: Parameters,
    cap_bytes: int,
    *,
    order: Callable[[int], Any] = lambda n: reversed(range(n)),
    frozen: bool = False,
    size_of: Callable[[nn.Parameter], int] = lambda p: p.numel() * p.element_size(),
    full: Callable[[int, int, int], bool] = lambda filled, size, cap: filled + size > cap,
    by_dtype: bool = True,
    empty_first: bool = False,
) -> list[list[int]]:
    """The buckets, with switches for what goes wrong."""
    buckets: list[list[int]] = [[]] if empty_first else []
    filled, dtype = 0, None
    for i in order(len(parameters)):
        p = parameters[i]
        if p.requires_grad or frozen:
            other = by_dtype and p.dtype != dtype and dtype is not None
            if not buckets or full(filled, size_of(p), cap_bytes) or other:
                buckets.append([])
                filled = 0
            buckets[-1].append(i)
            filled, dtype = filled + size_of(p), p.dtype
    return buckets


def _forward_order(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, order=range)


def _with_frozen(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, frozen=True)


def _cap_in_numbers(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, size_of=lambda p: p.numel())


def _four_bytes_each(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, size_of=lambda p: 4 * p.numel())


def _closed_when_over(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, full=lambda filled, size, cap: filled >= cap)


def _exact_fit_refused(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, full=lambda filled, size, cap: filled + size >= cap)


def _one_each(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, full=lambda filled, size, cap: True)


def _all_in_one(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, full=lambda filled, size, cap: False)


def _dtypes_mixed(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, by_dtype=False)


def _empty_bucket_first(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, empty_first=True)


def _last_one_lost(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return reference.make_buckets(parameters, cap_bytes)[:-1]


def _ascending_inside(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return [sorted(bucket) for bucket in reference.make_buckets(parameters, cap_bytes)]


def _large_left_out(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    small = [p.numel() * p.element_size() <= cap_bytes for p in parameters]
    return _fill(parameters, cap_bytes, order=lambda n: [i for i in reversed(range(n)) if small[i]])


def _numbered_without_frozen(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return reference.make_buckets([p for p in parameters if p.requires_grad], cap_bytes)


def _first_dimension(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    return _fill(parameters, cap_bytes, size_of=lambda p: len(p) * p.element_size())


def _list_reversed(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    buckets = reference.make_buckets(parameters, cap_bytes)
    parameters.reverse()
    return buckets


def _bytes_kept_at_a_new_dtype(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    buckets: list[list[int]] = []
    filled, dtype = 0, None
    for i in reversed(range(len(parameters))):
        p = parameters[i]
        if p.requires_grad:
            if not buckets or filled + p.nbytes > cap_bytes:
                buckets.append([])
                filled = 0
            elif p.dtype != dtype:
                buckets.append([])
            buckets[-1].append(i)
            filled, dtype = filled + p.nbytes, p.dtype
    return buckets


def _frozen_dtype_counts(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    buckets: list[list[int]] = []
    filled, dtype = 0, None
    for i in reversed(range(len(parameters))):
        p = parameters[i]
        if p.requires_grad:
            if not buckets or filled + p.nbytes > cap_bytes or p.dtype != dtype:
                buckets.append([])
                filled = 0
            buckets[-1].append(i)
            filled += p.nbytes
        dtype = p.dtype
    return buckets


def _fills_gaps(parameters: Parameters, cap_bytes: int) -> list[list[int]]:
    buckets: list[list[int]] = []
    for i in reversed(range(len(parameters))):
        p = parameters[i]
        if p.requires_grad:
            for bucket in buckets:
                same = parameters[bucket[0]].dtype == p.dtype
                used = sum(parameters[j].nbytes for j in bucket)
                if same and used + p.nbytes <= cap_bytes:
                    bucket.append(i)
                    break
            else:
                buckets.append([i])
    return buckets


make_buckets = Exercise(
    reference.make_buckets,
    requirements=(
        Requirement(
            "buckets from the last parameter to the first, filled up to the cap",
            (
                Case("four parameters, 140 bytes", _model([10, 20, 30, 5], 140)),
                Case("a parameter that is larger than the cap", _model([3, 100, 1, 2, 4], 24)),
                Case("the last parameter is larger than the cap", _model([1, 2, 100], 40)),
                Case(
                    "frozen parameters",
                    _model(
                        [5, 5, 5, 5, 5], 40, ["single", "frozen single", "single", "frozen single", "single"]
                    ),
                ),
                Case("parameters in float64", _model([4, 3, 2, 6], 64, ["double"] * 4)),
                Case(
                    "two dtypes",
                    _model([2, 2, 2, 2], 1000, ["single", "double", "double", "single"]),
                ),
                Case(
                    "two dtypes of the same size",
                    _model([2, 2, 3, 2], 1000, ["half", "bfloat", "bfloat", "half"]),
                ),
                Case(
                    "two dtypes, 40 bytes",
                    _model([3, 4, 4, 2], 40, ["double", "single", "single", "double"]),
                ),
                Case(
                    "a frozen parameter of another dtype",
                    _model([2, 3, 4], 1000, ["single", "frozen double", "single"]),
                ),
                Case("a bucket that is filled exactly", _model([5, 5, 5, 5], 40)),
                Case("a small one after a large one", _model([2, 9, 9, 3], 48)),
                Case("one parameter", _model([7], 1000)),
                Case("no parameter", _model([], 1000)),
                Case("20 parameters of drawn sizes, 400 bytes", _drawn_model(20, 400), shown=False),
                Case("9 parameters of drawn sizes, 1 byte", _drawn_model(9, 1), shown=False),
            ),
            bucketed,
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You begin with the first parameter. Its gradient is the last to come: begin with the last parameter.",
            _forward_order,
        ),
        Mistake(
            "Frozen parameters are in your buckets. They never get a gradient, and their bucket would never be complete.",
            _with_frozen,
        ),
        Mistake(
            "You compare numbers of elements with a cap in bytes. Multiply by p.element_size().",
            _cap_in_numbers,
        ),
        Mistake("You take 4 bytes for each number. float64 has 8: use p.element_size().", _four_bytes_each),
        Mistake(
            "You close a bucket when it is over the cap. Look ahead: begin a new one where the next parameter would not fit.",
            _closed_when_over,
        ),
        Mistake("A bucket may hold exactly cap_bytes. Begin a new one only above.", _exact_fit_refused),
        Mistake(
            "Each parameter has a bucket of its own. Put as many into one as fit below the cap.", _one_each
        ),
        Mistake("You never begin a new bucket. Look at cap_bytes before you add a parameter.", _all_in_one),
        Mistake(
            "A bucket of yours holds two dtypes. It becomes one flat tensor, which has one dtype: begin a new bucket.",
            _dtypes_mixed,
        ),
        Mistake(
            "You have an empty bucket at the start. Begin a bucket only when there is a parameter for it.",
            _empty_bucket_first,
        ),
        Mistake(
            "The last bucket is missing. When the parameters end, what is in hand is a bucket, too.",
            _last_one_lost,
        ),
        Mistake(
            "Inside of a bucket you sort upwards. Keep the order in which the gradients come: the last parameter first.",
            _ascending_inside,
        ),
        Mistake(
            "You leave out a parameter that is larger than the cap. It gets a bucket of its own.",
            _large_left_out,
        ),
        Mistake(
            "You count positions among the trainable parameters. Positions are those in the list that is handed in.",
            _numbered_without_frozen,
        ),
        Mistake(
            "You take the length of the first dimension for the size. A matrix has more numbers: use p.numel().",
            _first_dimension,
        ),
        Mistake(
            "You turn round the list that was handed in, and its owner still needs it. Use reversed(range(len(parameters))).",
            _list_reversed,
        ),
        Mistake(
            "When a new dtype begins a bucket, the bytes of the one before are still counted. Set your count back to 0 there, too.",
            _bytes_kept_at_a_new_dtype,
        ),
        Mistake(
            "A frozen parameter of another dtype begins a new bucket. Leave frozen ones out before you compare dtypes.",
            _frozen_dtype_counts,
        ),
        Mistake(
            "You put a parameter into a gap of an earlier bucket. That bucket would wait for a gradient that comes late: keep the order.",
            _fills_gaps,
        ),
    ),
)

# --- launch_bucket ------------------------------------------------------------------------------------------------------------

_FOREVER = 0.3
"""Seconds in which a call that rank 0 has made has to return; it takes less than a thousandth of them."""
_NEVER = 5.0


def _returned(seen: list[Traffic], started: threading.Event) -> bool:
    """Whether rank 0 goes on without the other ranks, as soon as it has started its all-reduce."""
    end = time.monotonic() + _NEVER
    while not started.wait(0.002) and time.monotonic() < end:
        if seen and seen[0].messages:
            return started.wait(_FOREVER)
    return started.is_set()


def launched(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Rank 0 launches before the other ranks do, finishes while they still wait, and has the mean."""
    grads, world = inputs["grads"], inputs["world"]
    started = threading.Event()
    seen: list[Traffic] = []

    def work(rank: int, world: int) -> tuple[Any, ...]:
        bucket = [nn.Parameter(grad[rank] * 0) for grad in grads]
        for i, (parameter, grad) in enumerate(zip(bucket, grads, strict=True)):
            if (rank, i) not in inputs["unused"]:
                parameter.grad = grad[rank].clone()
        early = True
        if rank == 0:
            seen.append(traffic())
        elif inputs["late"]:
            early = _returned(seen, started)
            threading.Event().wait(0.02)
        finish = implementation(bucket)
        idle = calls_and_bytes()[0] == 0
        started.set()
        if not callable(finish):
            raise TypeError("launch_bucket has to return a function that waits and writes the means back.")
        finish()
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        return found, [p.detach() for p in bucket], early, *calls_and_bytes(), idle

    results = in_ranks(work, world)
    return {
        "the gradients": [
            torch.stack([result[0][i] for result in results]) for i in range(len(inputs["grads"]))
        ],
        "the parameters": [torch.stack([result[1][i] for result in results]) for i in range(len(grads))],
        ROUNDED: rounded(grads, [result[0] for result in results]),
        "ranks that rank 0 kept waiting": sum(not result[2] for result in results),
        "ranks that had not launched": sum(result[5] for result in results),
        "calls": max(result[3] for result in results),
        "bytes": max(result[4] for result in results),
    }


def _bucket(
    world: int,
    shapes: list[tuple[int, ...]],
    unused: list[tuple[int, int]] | None = None,
    late: bool = False,
) -> Callable[[Draw], Inputs]:
    """Gradients of a bucket on each rank. With `late` the other ranks start only when rank 0 has returned."""
    return lambda source: {
        "grads": [source.uniform(world, *shape, low=0.5, high=2) for shape in shapes],
        "world": world,
        "unused": unused or [],
        "late": late,
    }


def _bucket_bytes(inputs: Inputs) -> float:
    return float(sum(grad[0].nbytes for grad in inputs["grads"]))


def _pieces(bucket: Parameters) -> list[Tensor]:
    return [torch.zeros_like(p).detach() if p.grad is None else p.grad for p in bucket]


def _written_back(bucket: Parameters, flat: Tensor) -> None:
    for p, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
        p.grad = mean.view_as(p).clone()


def _flat_launch(
    bucket: Parameters,
    *,
    blocking: bool = False,
    divide: Callable[[], float] = lambda: dist.get_world_size(),
    back: Callable[[Parameters, Tensor], None] = _written_back,
) -> Callable[[], None]:
    """The launch, with switches for what goes wrong."""
    flat = torch.cat([piece.flatten() for piece in _pieces(bucket)])
    work = dist.all_reduce(flat, async_op=not blocking)

    def finish() -> None:
        if work is not None:
            work.wait()
        flat.div_(divide())
        back(bucket, flat)

    return finish


def _blocking(bucket: Parameters) -> Callable[[], None]:
    return _flat_launch(bucket, blocking=True)


def _launched_in_finish(bucket: Parameters) -> Callable[[], None]:
    def finish() -> None:
        _flat_launch(bucket)()

    return finish


def _bucket_sums(bucket: Parameters) -> Callable[[], None]:
    return _flat_launch(bucket, divide=lambda: 1.0)


def _nothing_written(bucket: Parameters) -> Callable[[], None]:
    return _flat_launch(bucket, back=lambda bucket, flat: None)


@torch.no_grad()
def _into_the_parameters(bucket: Parameters, flat: Tensor) -> None:
    for p, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
        p.copy_(mean.view_as(p))


def _parameters_overwritten(bucket: Parameters) -> Callable[[], None]:
    return _flat_launch(bucket, back=_into_the_parameters)


def _one_call_each(bucket: Parameters) -> Callable[[], None]:
    finishes = [_flat_launch([p]) for p in bucket]

    def finish_all() -> None:
        for finish in finishes:
            finish()

    return finish_all


def _only_those_with_gradients(bucket: Parameters) -> Callable[[], None]:
    return _flat_launch([p for p in bucket if p.grad is not None])


def _none_kept(bucket: Parameters) -> Callable[[], None]:
    have = [p.grad is not None for p in bucket]

    def back(bucket: Parameters, flat: Tensor) -> None:
        means = flat.split([p.numel() for p in bucket])
        for p, mean, there in zip(bucket, means, have, strict=True):
            if there:
                p.grad = mean.view_as(p).clone()

    return _flat_launch(bucket, back=back)


def _first_bytes_for_all(bucket: Parameters) -> Callable[[], None]:
    def back(bucket: Parameters, flat: Tensor) -> None:
        for p in bucket:
            p.grad = flat[: p.numel()].view_as(p).clone()

    return _flat_launch(bucket, back=back)


def _backwards(bucket: Parameters) -> Callable[[], None]:
    def back(bucket: Parameters, flat: Tensor) -> None:
        at = 0
        for p in reversed(bucket):
            p.grad = flat[at : at + p.numel()].view_as(p).clone()
            at += p.numel()

    return _flat_launch(bucket, back=back)


def _by_the_bucket(bucket: Parameters) -> Callable[[], None]:
    return _flat_launch(bucket, divide=lambda: float(len(bucket)))


def _flat_in_float32(bucket: Parameters) -> Callable[[], None]:
    flat = torch.cat([piece.flatten().float() for piece in _pieces(bucket)])
    work = dist.all_reduce(flat, async_op=True)

    def finish() -> None:
        work.wait()
        _written_back(bucket, (flat / dist.get_world_size()).to(bucket[0].dtype))

    return finish


def _gathers_bucket(bucket: Parameters) -> Callable[[], None]:
    flat = torch.cat([piece.flatten() for piece in _pieces(bucket)])
    all_of_them = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    work = dist.all_gather(all_of_them, flat, async_op=True)

    def finish() -> None:
        work.wait()
        _written_back(bucket, torch.stack(all_of_them).mean(0))

    return finish


_LATE = "ranks that rank 0 kept waiting"
_UNUSED = "a parameter without a gradient on one rank"


def _stuck_on_unused(observed: Observed) -> bool:
    """The ranks' sizes differ there, and nowhere else."""
    return all((entry.raised is not None) == (key[0] == _UNUSED) for key, entry in observed.items())


_LAUNCH = {
    ROUNDED: NOT_ROUNDED,
    _LATE: Bound(
        most=lambda inputs: 0,
        unit="ranks waited in vain for rank 0 to return",
        why="launch_bucket has to return at once: use async_op=True, and wait in the function that you return.",
        naive=lambda inputs: inputs["world"] - 1,
    ),
    "ranks that had not launched": Bound(
        most=lambda inputs: 0,
        unit="ranks had launched nothing when launch_bucket returned",
        why="The all-reduce is to run during the rest of the backward pass: start it before you return.",
    ),
    "calls": Bound(
        most=lambda inputs: 1,
        unit="calls of torch.distributed",
        why="A bucket is there to send many gradients in one message: put them into one flat tensor.",
        naive=lambda inputs: len(inputs["grads"]),
    ),
    "bytes": Bound(
        most=_bucket_bytes,
        unit="bytes handed over by one rank",
        why="Each gradient has to be handed over once, in one all-reduce.",
        naive=lambda inputs: inputs["world"] * _bucket_bytes(inputs),
    ),
}

launch_bucket = Exercise(
    reference.launch_bucket,
    requirements=(
        Requirement(
            "one all-reduce that runs while the function has returned",
            (
                Case(
                    "three gradients, and rank 1 comes late",
                    _bucket(2, [(3, 2), (4,), (1,)], late=True),
                ),
                Case("two gradients on one rank", _bucket(1, [(2, 2), (3,)])),
                Case("one gradient in float64", double(_bucket(2, [(5,)]))),
                Case(
                    "two gradients on three ranks, two of which come late",
                    _bucket(3, [(2, 2), (6,)], late=True),
                    shown=False,
                ),
            ),
            launched,
            points=3,
            bounds=_LAUNCH,
        ),
        Requirement(
            _UNUSED,
            (Case("rank 0 has no gradient for the second of two", _bucket(2, [(3,), (4, 2)], [(0, 1)])),),
            launched,
            bounds=_LAUNCH,
        ),
    ),
    mistakes=(
        Mistake(
            "You wait for the other ranks before you return, and the backward pass stands still. Say async_op=True, and wait in the "
            "function that you return.",
            _blocking,
        ),
        Mistake(
            "The all-reduce starts in the function that you return, after the backward pass. Start it before you return.",
            _launched_in_finish,
        ),
        Mistake("Your gradients are sums over the ranks. Divide by the number of ranks.", _bucket_sums),
        Mistake(
            "The means are in your flat tensor, and the gradients are as before. Write each piece back to its p.grad.",
            _nothing_written,
        ),
        Mistake(
            "You write the means into the parameters. They belong into p.grad; the optimiser takes them from there.",
            _parameters_overwritten,
        ),
        Mistake(
            "You start one all-reduce for each parameter. Make one flat tensor of the bucket, and send that.",
            _one_call_each,
        ),
        Mistake(
            "You leave out parameters without a gradient, and the ranks' flat tensors differ in length. Put zeros in their place.",
            _only_those_with_gradients,
            recognise=_stuck_on_unused,
        ),
        Mistake(
            "A rank without a gradient does not keep the mean. It takes the same step as the others: set p.grad there, too.",
            _none_kept,
        ),
        Mistake(
            "Every parameter gets the beginning of the flat tensor. Go on by p.numel() after each.",
            _first_bytes_for_all,
        ),
        Mistake("You write the pieces back in the other order than you put them in.", _backwards),
        Mistake(
            "You divide by the number of parameters in the bucket. Divide by the number of ranks.",
            _by_the_bucket,
        ),
        Mistake(
            "You gather the gradients of all ranks, N times as many bytes. An all-reduce adds them on the way.",
            _gathers_bucket,
        ),
        Mistake(
            "Gradients in float64 are rounded to float32 in your flat tensor. Make it of the dtype that the gradients have.",
            _flat_in_float32,
        ),
    ),
    threads=True,
)

# --- on_grad_ready ------------------------------------------------------------------------------------------------------------


def hooked(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """When each bucket is launched in several backward passes, and what is in it then."""
    weights = [nn.Parameter(weight.clone()) for weight in inputs["weights"]]
    arrived: list[int] = []
    for i, weight in enumerate(weights):
        weight.register_post_accumulate_grad_hook(lambda _, i=i: arrived.append(i))
    buckets = [[weights[i] for i in bucket] for bucket in inputs["buckets"]]
    log: list[list[int]] = []
    sums: list[Tensor] = []

    def launch(k: int) -> None:
        grads = [weights[i].grad for i in inputs["buckets"][k]]
        total = [
            weights[0].new_zeros(()) if grad is None else grad.detach().double().abs().sum() for grad in grads
        ]
        sums.append(torch.stack([t.double() for t in total]).sum())
        log.append([k, len(arrived)])

    rest = implementation(buckets, launch)
    seen = []
    for used in inputs["used"]:
        for weight in weights:
            weight.grad = torch.zeros_like(weight) if inputs["zeroed"] else None
        arrived.clear()
        log.clear()
        x = inputs["x"].clone().requires_grad_()
        for i in used:
            x = torch.tanh(x @ weights[i])
        x.sum().backward()
        in_backward = [list(entry) for entry in log]
        log.clear()
        rest()
        seen.append(
            {
                "launched in the backward pass": [k for k, _ in in_backward],
                "gradients there at each of these": [count for _, count in in_backward],
                "launched by rest": [k for k, _ in log],
            }
        )
    return {
        "passes": seen,
        "the buckets are as they were": [len(bucket) for bucket in buckets]
        == [len(b) for b in inputs["buckets"]],
        "gradients in the buckets at launch": torch.stack(sums)
        if sums
        else torch.zeros(0, dtype=torch.float64),
    }


def _layers(
    count: int, buckets: list[list[int]], used: list[list[int]], zeroed: bool = False
) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "weights": [source.normal(3, 3) for _ in range(count)],
        "x": source.normal(4, 3),
        "buckets": buckets,
        "used": used,
        "zeroed": zeroed,
    }


Rest = Callable[[], None]
Launch = Callable[[int], None]


def _hooks(
    buckets: list[Parameters],
    launch: Launch,
    *,
    in_order: bool = True,
    reset: bool = True,
    hook: str = "after",
    closes_over_last: bool = False,
    only_last: bool = False,
    complete_at: Callable[[int], int] = lambda left: left,
    in_rest: str = "missing",
    in_backward: bool = True,
) -> Rest:
    """The hooks, with switches for what goes wrong."""
    sizes = [1 if only_last else len(bucket) for bucket in buckets]
    missing, done = list(sizes), [False] * len(buckets)

    def go(k: int) -> None:
        done[k] = True
        launch(k)

    def ready(k: int) -> None:
        missing[k] -= 1
        if not in_backward:
            return
        if in_order:
            while False in done and complete_at(missing[done.index(False)]) <= 0:
                go(done.index(False))
        elif missing[k] == 0:
            go(k)

    for k, bucket in enumerate(buckets):
        number = len(buckets) - 1 if closes_over_last else k
        for p in bucket[-1:] if only_last else bucket:
            if hook == "before":
                p.register_hook(lambda grad, k=number: ready(k))
            else:
                p.register_post_accumulate_grad_hook(lambda _, k=number: ready(k))

    def rest() -> None:
        for k in range(len(buckets)):
            if in_rest == "all" or (in_rest == "missing" and not done[k]):
                launch(k)
        if reset:
            missing[:] = sizes
            done[:] = [False] * len(buckets)

    return rest


def _all_in_rest(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, in_backward=False)


def _out_of_order(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, in_order=False)


def _no_reset(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, reset=False)


def _gradient_not_there(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, hook="before")


def _late_binding(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, closes_over_last=True)


def _hook_on_the_last_only(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, only_last=True)


def _unused_forgotten(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, in_rest="nothing")


def _all_again_in_rest(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, in_rest="all")


def _one_gradient_early(buckets: list[Parameters], launch: Launch) -> Rest:
    return _hooks(buckets, launch, complete_at=lambda left: left - 1)


def _at_every_gradient(buckets: list[Parameters], launch: Launch) -> Rest:
    for k, bucket in enumerate(buckets):
        for p in bucket:
            p.register_post_accumulate_grad_hook(lambda _, k=k: launch(k))
    return lambda: None


def _launched_at_once(buckets: list[Parameters], launch: Launch) -> Rest:
    for k in range(len(buckets)):
        launch(k)
    return lambda: None


def _looks_for_none(buckets: list[Parameters], launch: Launch) -> Rest:
    following = 0

    def ready(_: Any) -> None:
        nonlocal following
        while following < len(buckets) and all(p.grad is not None for p in buckets[following]):
            launch(following)
            following += 1

    for p in itertools.chain.from_iterable(buckets):
        p.register_post_accumulate_grad_hook(ready)

    def rest() -> None:
        nonlocal following
        for k in range(following, len(buckets)):
            launch(k)
        following = 0

    return rest


def _one_bucket_late(buckets: list[Parameters], launch: Launch) -> Rest:
    """Launches a bucket when the next one is complete."""
    missing = [len(bucket) for bucket in buckets]
    following = 0

    def ready(k: int) -> None:
        nonlocal following
        missing[k] -= 1
        while following + 1 < len(buckets) and missing[following] == 0 and missing[following + 1] == 0:
            launch(following)
            following += 1

    for k, bucket in enumerate(buckets):
        for p in bucket:
            p.register_post_accumulate_grad_hook(lambda _, k=k: ready(k))

    def rest() -> None:
        nonlocal following
        for k in range(following, len(buckets)):
            launch(k)
        following = 0
        missing[:] = [len(bucket) for bucket in buckets]

    return rest


on_grad_ready = Exercise(
    reference.on_grad_ready,
    requirements=(
        Requirement(
            "each bucket is launched with its last gradient, in the backward pass",
            (
                Case("four layers, two buckets", _layers(4, [[3, 2], [1, 0]], [[0, 1, 2, 3]])),
                Case("three layers, three buckets", _layers(3, [[2], [1], [0]], [[0, 1, 2]])),
                Case("the last in the list comes first", _layers(4, [[2, 3], [0, 1]], [[0, 1, 2, 3]])),
                Case("a weight that is used twice", _layers(3, [[2, 1], [0]], [[0, 1, 2, 1]])),
                Case("one bucket", _layers(2, [[1, 0]], [[0, 1]])),
                Case(
                    "gradients that are zero at the start, not None",
                    _layers(4, [[3, 2], [1, 0]], [[0, 1, 2, 3], [0, 1, 2, 3]], zeroed=True),
                ),
                Case("two passes", _layers(4, [[3, 2], [1, 0]], [[0, 1, 2, 3], [0, 1, 2, 3]])),
                Case(
                    "seven layers, uneven buckets",
                    _layers(7, [[6], [5, 4, 3], [2, 1], [0]], [[*range(7)], [*range(7)]]),
                    shown=False,
                ),
                Case("layers in float64", double(_layers(3, [[2], [1, 0]], [[0, 1, 2]])), shown=False),
            ),
            hooked,
            points=3,
        ),
        Requirement(
            "the same order on every rank, whatever a rank uses",
            (
                Case(
                    "the first bucket lacks a gradient",
                    _layers(4, [[3, 2], [1, 0]], [[0, 1, 3], [0, 1, 2, 3]]),
                ),
                Case(
                    "the middle bucket lacks a gradient",
                    _layers(4, [[3], [2, 1], [0]], [[0, 1, 3], [0, 1, 2, 3]]),
                ),
                Case("the last bucket lacks a gradient", _layers(3, [[2], [1, 0]], [[1, 2], [0, 1, 2]])),
                Case("nothing but the input is used", _layers(2, [[1], [0]], [[], [0, 1]])),
                Case(
                    "layers in another order in each pass",
                    _layers(4, [[3, 2], [1, 0]], [[3, 2, 1, 0], [0, 2, 1, 3]]),
                    shown=False,
                ),
            ),
            hooked,
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You launch everything after the backward pass. Then nothing overlaps: launch a bucket in the hook of its last gradient.",
            _all_in_rest,
        ),
        Mistake(
            "You launch a bucket before an earlier one. On a rank that uses other layers the order is another, and ranks add up "
            "buckets that do not belong together: launch them in the order of the list.",
            _out_of_order,
        ),
        Mistake(
            "After the first pass your counters are not set back, and nothing is launched any more. Set them back in rest.",
            _no_reset,
        ),
        Mistake(
            "p.register_hook runs before the gradient is in p.grad. Use p.register_post_accumulate_grad_hook.",
            _gradient_not_there,
        ),
        Mistake(
            "All your hooks report to the last bucket: a lambda looks k up when it runs. Bind it: lambda _, k=k: ...",
            _late_binding,
        ),
        Mistake(
            "You wait for one parameter of each bucket. The last in the list is not always the last to come: count all of them.",
            _hook_on_the_last_only,
        ),
        Mistake(
            "A bucket that lacks a gradient on this rank is never launched, and the other ranks wait for it. Launch what is left in rest.",
            _unused_forgotten,
        ),
        Mistake(
            "rest launches buckets that were launched before. Only those that are left may follow.",
            _all_again_in_rest,
        ),
        Mistake(
            "You launch a bucket one gradient too early. It is complete when no gradient is missing.",
            _one_gradient_early,
        ),
        Mistake(
            "You launch a bucket at each of its gradients. Count them, and launch at the last.",
            _at_every_gradient,
        ),
        Mistake(
            "You launch the buckets before there is any gradient. Launch them in hooks of their parameters.",
            _launched_at_once,
        ),
        Mistake(
            "You launch a bucket only when the next one is complete. Launch it at once: time is lost that could overlap.",
            _one_bucket_late,
        ),
        Mistake(
            "You look whether p.grad is None. Gradients may be zero or old instead, and buckets go too early: count in the hooks.",
            _looks_for_none,
        ),
    ),
)

# --- timeline -----------------------------------------------------------------------------------------------------------------


def _times(compute: list[float], comm: list[float]) -> Callable[[Draw], Inputs]:
    return lambda source: {"compute": compute, "comm": comm}


def _drawn_times(count: int) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "compute": source.uniform(count, low=0.1, high=2).tolist(),
        "comm": source.uniform(count, low=0.1, high=2).tolist(),
    }


def _no_overlap(compute: list[float], comm: list[float]) -> float:
    return sum(compute) + sum(comm)


def _free_overlap(compute: list[float], comm: list[float]) -> float:
    return max(sum(compute), sum(comm))


def _only_the_last(compute: list[float], comm: list[float]) -> float:
    return sum(compute) + (comm[-1] if comm else 0)


def _links_without_end(compute: list[float], comm: list[float]) -> float:
    ready = itertools.accumulate(compute)
    return max((r + c for r, c in zip(ready, comm, strict=True)), default=0.0)


def _not_waiting_for_gradients(compute: list[float], comm: list[float]) -> float:
    return (compute[0] if compute else 0) + sum(comm)


def _each_alone(compute: list[float], comm: list[float]) -> float:
    return sum(max(a, b) for a, b in zip(compute, comm, strict=True))


def _compute_is_when_ready(compute: list[float], comm: list[float]) -> float:
    end = 0.0
    for a, b in zip(compute, comm, strict=True):
        end = max(a, end) + b
    return end


def _reversed_order(compute: list[float], comm: list[float]) -> float:
    return reference.timeline(compute[::-1], comm[::-1])


def _end_of_backward(compute: list[float], comm: list[float]) -> float:
    return float(sum(compute))


def _minimum(compute: list[float], comm: list[float]) -> float:
    ready = end = 0.0
    for i, (a, b) in enumerate(zip(compute, comm, strict=True)):
        ready += a
        end = (min(ready, end) if i else ready) + b
    return end


timeline = Exercise(
    reference.timeline,
    requirements=(
        Requirement(
            "the end of the last all-reduce",
            (
                Case("fast network", _times([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])),
                Case("slow network", _times([1.0, 2.0, 1.0], [4.0, 3.0, 5.0])),
                Case("one large bucket in the middle", _times([1.0, 1.0, 1.0, 1.0], [0.5, 4.0, 0.25, 0.5])),
                Case("one bucket", _times([2.0], [3.0])),
                Case("all-reduces that take no time", _times([1.5, 0.5], [0.0, 0.0])),
                Case("no bucket", _times([], [])),
                Case("eight buckets of drawn times", _drawn_times(8)),
                Case("thirty buckets of drawn times", _drawn_times(30), shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You add everything up, as if nothing overlapped. While an all-reduce runs, the backward pass goes on.",
            _no_overlap,
        ),
        Mistake(
            "You take the larger of the two sums. The first all-reduce cannot start before its gradients are there, nor the last one.",
            _free_overlap,
        ),
        Mistake(
            "You assume that all but the last all-reduce are over when the backward pass ends. They may queue up.",
            _only_the_last,
        ),
        Mistake(
            "You let all-reduces run at the same time. There is one network: each waits for the one before it.",
            _links_without_end,
        ),
        Mistake(
            "After the first all-reduce you no longer wait for gradients. Each starts when its own are there and the network is free.",
            _not_waiting_for_gradients,
        ),
        Mistake(
            "You overlap each bucket with itself. A bucket's all-reduce begins after its gradients; it overlaps with the next buckets'.",
            _each_alone,
        ),
        Mistake(
            "compute[k] is how long bucket k takes, not when it is ready. It is ready at compute[0] + ... + compute[k].",
            _compute_is_when_ready,
        ),
        Mistake(
            "You go through the buckets from the end. They come in the order of the lists.", _reversed_order
        ),
        Mistake(
            "You return the end of the backward pass. The last all-reduce starts there at the earliest.",
            _end_of_backward,
        ),
        Mistake(
            "An all-reduce starts when its gradients are there AND the network is free: the later of the two, not the earlier.",
            _minimum,
        ),
    ),
)
