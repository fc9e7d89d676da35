"""The exercises of the lesson ddp/02_ring."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddp.averaging import NOT_ROUNDED, ROUNDED, double, rounded
from autograde.exercises.ddp.network import Network, costs
from autograde.observe import Implementation, Inputs, Observation
from autograde.probes import copy_strides
from utils.reference import ddp as reference

Observed = Mapping[tuple[str, str], Observation]
Call = Callable[..., Any]

# --- chunks -------------------------------------------------------------------------------------------------------------------


def cut(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The parts, and what the vector is after each part was multiplied by its number."""
    x = copy_strides(inputs["x"])
    parts = implementation(x, inputs["world"])
    lengths = [len(part) for part in parts]
    values = torch.cat([*parts, torch.zeros_like(x)])[: len(x)]
    for number, part in enumerate(parts, 1):
        part.mul_(number)
    return {"lengths": lengths, "the parts in a row": values, "x after each part was changed": x}


def _vector(n: int, world: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"x": source.uniform(n, low=0.5, high=2), "world": world}


def _as_chunk(x: Tensor, world: int) -> list[Tensor]:
    return list(x.chunk(world))


def _padded_chunk(x: Tensor, world: int) -> list[Tensor]:
    size = -(-len(x) // world)
    return [x[i * size : (i + 1) * size] for i in range(world)]


def _rest_to_the_last(x: Tensor, world: int) -> list[Tensor]:
    size = len(x) // world
    return [x[i * size : (i + 1) * size if i < world - 1 else len(x)] for i in range(world)]


def _rest_to_the_first(x: Tensor, world: int) -> list[Tensor]:
    size = len(x) // world
    first = len(x) - size * (world - 1)
    return [x[:first], *x[first:].split(size)] if size and world > 1 else [x, *[x[:0]] * (world - 1)]


def _rest_dropped(x: Tensor, world: int) -> list[Tensor]:
    size = len(x) // world
    return [x[i * size : (i + 1) * size] for i in range(world)]


def _longer_last(x: Tensor, world: int) -> list[Tensor]:
    return [x[i * len(x) // world : (i + 1) * len(x) // world] for i in range(world)]


def _copied(x: Tensor, world: int) -> list[Tensor]:
    return [part.clone() for part in reference.chunks(x, world)]


def _contiguous_first(x: Tensor, world: int) -> list[Tensor]:
    return reference.chunks(x.contiguous(), world)


def _dealt_out(x: Tensor, world: int) -> list[Tensor]:
    return [x[i::world] for i in range(world)]


def _pieces_of_world(x: Tensor, world: int) -> list[Tensor]:
    return list(x.split(world))


def _one_too_many(x: Tensor, world: int) -> list[Tensor]:
    size = len(x) // world
    return [*(x[i * size : (i + 1) * size] for i in range(world)), x[world * size :]]


chunks = Exercise(
    reference.chunks,
    requirements=(
        Requirement(
            "as many parts as ranks, of nearly equal length, that are views",
            (
                Case("12 numbers for 4 ranks", _vector(12, 4)),
                Case("14 numbers for 4 ranks", _vector(14, 4)),
                Case("15 numbers for 4 ranks", _vector(15, 4)),
                Case("3 numbers for 5 ranks", _vector(3, 5)),
                Case("6 numbers for 4 ranks", _vector(6, 4)),
                Case("5 numbers for 1 rank", _vector(5, 1)),
                Case("1 number for 1 rank", _vector(1, 1)),
                Case(
                    "every second of 22 numbers for 3 ranks",
                    lambda source: {"x": source.uniform(22, low=0.5, high=2)[::2], "world": 3},
                ),
                Case("1003 numbers for 4 ranks", _vector(1003, 4), shown=False),
                Case("17 numbers for 5 ranks in float64", double(_vector(17, 5)), shown=False),
            ),
            cut,
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "torch.chunk makes parts of ceil(n / world), and may make fewer parts than there are ranks. Every rank needs one.",
            _as_chunk,
        ),
        Mistake(
            "Your parts have ceil(n / world) numbers until nothing is left, so the last ones are short or empty. "
            "Lengths may differ by one.",
            _padded_chunk,
        ),
        Mistake(
            "The last part takes the whole rest. Give one number more to each of the first n % world parts.",
            _rest_to_the_last,
        ),
        Mistake(
            "The first part takes the whole rest. Give one number more to each of the first n % world parts.",
            _rest_to_the_first,
        ),
        Mistake(
            "You drop the rest of the division. All n numbers have to be in a part.",
            _rest_dropped,
        ),
        Mistake(
            "Your longer parts do not come first. It works as well, but all ranks have to agree: the first n % world parts are longer.",
            _longer_last,
        ),
        Mistake("Your parts are copies. The ring writes into them: return views of x.", _copied),
        Mistake(
            "x.contiguous() is a copy where x is not contiguous, and your parts are views of that copy. Cut x itself.",
            _contiguous_first,
        ),
        Mistake(
            "You deal the numbers out one by one. A part has to be a stretch of memory that can be sent as it is.",
            _dealt_out,
        ),
        Mistake(
            "x.split(k) makes parts of k numbers. You need k parts: give it a list of lengths.",
            _pieces_of_world,
        ),
        Mistake(
            "You have a part too many, for the rest. There are as many parts as ranks: spread the rest.",
            _one_too_many,
        ),
    ),
    forbids=("tensor_split",),
)

# --- the ring -----------------------------------------------------------------------------------------------------------------

_NEIGHBOUR = "messages to another rank than rank + 1"


def scattered(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """What the ranks own after a reduce-scatter, put together, and what it cost."""
    xs = inputs["x"]
    world = len(xs)
    network = Network(world)

    def work(rank: int, send: Call, recv: Call) -> tuple[int, Tensor]:
        vector = xs[rank].clone()
        owned = implementation(list(vector.tensor_split(world)), rank, world, send, recv)
        if owned is None:
            raise TypeError(
                "reduce_scatter returned None. Return the number of the part that this rank owns."
            )
        number = operator.index(owned)
        return number, vector.tensor_split(world)[number % world]

    results = network.run(work)
    places = xs.new_full((xs.shape[1],), 0.0).tensor_split(world)
    for owned, part in results:
        places[owned % world].copy_(part)
    return {
        "the sums that the ranks own": torch.cat(places),
        **costs(network),
        "parts that two ranks own": world - len({owned % world for owned, _ in results}),
        "numbers that no part has": sum(not -world <= owned < world for owned, _ in results),
        "the part of rank 0": results[0][0] % world,
    }


def _lengths(n: int, world: int) -> list[int]:
    return [len(part) for part in torch.empty(n).tensor_split(world)]


def _all_but_the_shortest(inputs: Inputs) -> float:
    lengths = _lengths(inputs["x"].shape[1], len(inputs["x"]))
    return sum(lengths) - min(lengths)


def _forbidden(what: str, why: str) -> Bound:
    return Bound(most=lambda inputs: 0, unit=what, why=why)


def _bounds(phases: int) -> dict[str, Bound]:
    return {
        "messages": Bound(
            most=lambda inputs: phases * (len(inputs["x"]) - 1),
            unit="messages from one rank",
            why=f"{'Each phase' if phases == 2 else 'The phase'} takes N - 1 steps, with one message from each rank in each step.",
        ),
        "numbers sent": Bound(
            most=lambda inputs: phases * _all_but_the_shortest(inputs),
            unit="numbers sent by one rank",
            why="In each step a rank sends one part, about 1 / N of the vector.",
            naive=lambda inputs: phases * (len(inputs["x"]) - 1) * inputs["x"].shape[1],
        ),
        _NEIGHBOUR: _forbidden(
            _NEIGHBOUR,
            "In a ring every rank talks to two others: it sends to rank + 1 and receives from rank - 1.",
        ),
        "sends that nobody waited for": _forbidden(
            "sends that nobody waited for",
            "send only starts a message. Until request.wait() has returned, the tensor may still be on its way.",
        ),
        "buffers changed while they were sent": _forbidden(
            "buffers changed while they were sent",
            "Do not write into a tensor before request.wait() has returned: the other rank may get the new values.",
        ),
        "parts that two ranks own": _forbidden(
            "parts that two ranks own",
            "Each rank owns another part: the number that you return depends on the rank.",
        ),
        "numbers that no part has": _forbidden(
            "numbers that no part has",
            "The caller looks up parts[owned]: return a number from 0 to world - 1, (rank + 1) % world.",
        ),
        "the part of rank 0": Bound(
            most=lambda inputs: len(inputs["x"]),
            unit="as the number of a part",
            why="Any part will do; two mistakes differ in it.",
        ),
    }


def _ranks_with(n: int, world: int, shift: int | None = None) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        x = source.uniform(world, n, low=0.5, high=2)
        return {"x": x} if shift is None else {"x": x, "shift": shift}

    return draw


def _scatter(
    parts: list[Tensor],
    rank: int,
    world: int,
    send: Call,
    recv: Call,
    *,
    steps: int | None = None,
    sign: int = -1,
    to: int = 1,
    add: str = "incoming",
    order: str = "send recv wait",
    owned: Callable[[int, int], int] = lambda rank, world: (rank + 1) % world,
) -> int:
    """The phase, with switches for what goes wrong."""
    for step in range(world - 1 if steps is None else steps):
        outgoing, incoming = parts[(rank + sign * step) % world], parts[(rank + sign * step - 1) % world]
        received = torch.empty_like(incoming)
        for action in order.split():
            if action == "send":
                request = send(outgoing, (rank + to) % world)
            elif action == "recv":
                recv(received, (rank - to) % world)
            elif action == "wait":
                request.wait()
        if add == "copy":
            incoming.copy_(received)
        else:
            incoming += received
    return owned(rank, world)


def _wrong_sign(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, sign=1)


def _one_step_short(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, steps=max(world - 2, 0))


def _one_step_more(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, steps=world if world > 1 else 0)


def _replaced(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, add="copy")


def _owns_its_number(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, owned=lambda rank, world: rank)


def _owns_the_left(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, owned=lambda rank, world: (rank - 1) % world)


def _waits_first(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, order="send wait recv")


def _receives_first(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, order="recv send wait")


def _never_waits(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, order="send recv")


def _to_the_left(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    for step in range(world - 1):
        outgoing, incoming = parts[(rank + step) % world], parts[(rank + step + 1) % world]
        received = torch.empty_like(incoming)
        request = send(outgoing, (rank - 1) % world)
        recv(received, (rank + 1) % world)
        request.wait()
        incoming += received
    return (rank - 1) % world


def _averaged(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    owned = _scatter(parts, rank, world, send, recv)
    parts[owned] /= world
    return owned


def _whole_vector(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    passed = torch.cat(parts)
    lengths = [len(part) for part in parts]
    for _ in range(world - 1):
        received = torch.empty_like(passed)
        request = send(passed, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        passed = received
        for part, more in zip(parts, received.split(lengths), strict=True):
            part += more
    return (rank + 1) % world


def _straight_to_the_owner(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    requests = [send(parts[r].clone(), r) for r in range(world) if r != rank]
    for r in range(world):
        if r != rank:
            received = torch.empty_like(parts[rank])
            recv(received, r)
            parts[rank] += received
    for request in requests:
        request.wait()
    return rank


def _same_part_each_step(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, sign=0)


def _without_modulo(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, owned=lambda rank, world: rank + 1)


def _new_tensors_in_the_list(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter([part.clone() for part in parts], rank, world, send, recv)


def _always_part_0(parts: list[Tensor], rank: int, world: int, send: Call, recv: Call) -> int:
    return _scatter(parts, rank, world, send, recv, owned=lambda rank, world: 0)


def _stuck_in(what: str) -> Callable[[Observed], bool]:
    """All ranks waited in the same call, which a message of the network names; a world of one has nothing to wait for."""

    def recognise(observed: Observed) -> bool:
        raised = [entry.raised for entry in observed.values() if entry.raised is not None]
        other = "recv (" if what == "wait (" else "wait ("
        return bool(raised) and all(
            r.kind == "Stuck" and what in r.message and other not in r.message for r in raised
        )

    return recognise


_STUCK_IN_WAIT = "All ranks wait until somebody receives, and nobody does: a deadlock. Start your send, receive, and wait for the send after that."
_STUCK_IN_RECV = (
    "All ranks wait to receive, and nobody has sent: a deadlock. Start the send before you receive."
)
_RING_CASES = (
    Case("12 numbers on 3 ranks", _ranks_with(12, 3)),
    Case("11 numbers on 4 ranks", _ranks_with(11, 4)),
    Case("5 numbers on 2 ranks", _ranks_with(5, 2)),
    Case("3 numbers on 5 ranks", _ranks_with(3, 5)),
    Case("4 numbers on 1 rank", _ranks_with(4, 1)),
    Case("9 numbers on 4 ranks in float64", double(_ranks_with(9, 4))),
    Case("1003 numbers on 6 ranks", _ranks_with(1003, 6), shown=False),
)

reduce_scatter = Exercise(
    reference.reduce_scatter,
    requirements=(
        Requirement(
            "each rank owns the sum of one part", _RING_CASES, scattered, points=3, bounds=_bounds(1)
        ),
    ),
    mistakes=(
        Mistake(
            "The number of the part has the wrong sign: you send parts that nobody has added to. In step s, part rank - s goes right.",
            _wrong_sign,
        ),
        Mistake(
            "You take a step too few: every sum lacks a rank. A part has to visit all N ranks, which takes N - 1 steps.",
            _one_step_short,
        ),
        Mistake(
            "You take a step too many. After N - 1 steps every part has visited all ranks.",
            _one_step_more,
        ),
        Mistake("You replace your part by what comes in. Add what comes in to it.", _replaced),
        Mistake(
            "You return the rank's own number. Count the steps: the part that is complete here is the last one that came in, rank + 1.",
            _owns_its_number,
        ),
        Mistake(
            "You return rank - 1. The part that is complete on a rank is the last one that came in: (rank + 1) % world.",
            _owns_the_left,
        ),
        Mistake(_STUCK_IN_WAIT, _waits_first, recognise=_stuck_in("wait (")),
        Mistake(_STUCK_IN_RECV, _receives_first, recognise=_stuck_in("recv (")),
        Mistake(
            "You never wait for your sends. A tensor that is still being sent must not change: call request.wait() in each step.",
            _never_waits,
        ),
        Mistake(
            "Your ring runs the other way round. It works, but here rank sends to rank + 1, so that all parts of the series fit.",
            _to_the_left,
        ),
        Mistake("You return means. An all-reduce adds up; who wants the mean divides.", _averaged),
        Mistake(
            "You send the whole vector in each step. Send one part: then all links carry something else, and each carries 1 / N.",
            _whole_vector,
        ),
        Mistake(
            "You send every part straight to its owner. That needs a link between any two ranks; in a ring there are N links.",
            _straight_to_the_owner,
        ),
        Mistake(
            "You send the same part in each step. What you have added to must go on: part rank - s in step s.",
            _same_part_each_step,
        ),
        Mistake("You return the same number on every rank. Each rank owns another part.", _always_part_0),
        Mistake(
            "You return world where there is no such part: the last rank owns part 0. Take (rank + 1) % world.",
            _without_modulo,
        ),
        Mistake(
            "The sums are in new tensors, and the vector behind the parts is as before. Write into the parts: incoming += received.",
            _new_tensors_in_the_list,
        ),
    ),
    threads=True,
)


def gathered(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Every rank starts with one right part, and zeros elsewhere; what it has at the end, and what it cost."""
    xs, shift = inputs["x"], inputs["shift"]
    world = len(xs)
    network = Network(world)
    right = xs[0]

    def work(rank: int, send: Call, recv: Call) -> Any:
        owned = (rank + shift) % world
        buffer = -xs[rank].clone()
        parts = list(buffer.tensor_split(world))
        parts[owned].copy_(right.tensor_split(world)[owned])
        implementation(parts, rank, world, owned, send, recv)
        return buffer

    return {"the vector on each rank": torch.stack(network.run(work)), **costs(network)}


def _gather(
    parts: list[Tensor],
    rank: int,
    world: int,
    owned: int,
    send: Call,
    recv: Call,
    *,
    steps: int | None = None,
    index: Callable[[int, int], int] = lambda owned, step: owned - step,
    add: bool = False,
    order: str = "send recv wait",
) -> None:
    """The phase, with switches for what goes wrong."""
    for step in range(world - 1 if steps is None else steps):
        outgoing, incoming = parts[index(owned, step) % world], parts[(owned - step - 1) % world]
        received = torch.empty_like(incoming)
        for action in order.split():
            if action == "send":
                request = send(outgoing, (rank + 1) % world)
            elif action == "recv":
                recv(received, (rank - 1) % world)
            elif action == "wait":
                request.wait()
        if add:
            incoming += received
        else:
            incoming.copy_(received)


def _assumes_rank_plus_1(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    _gather(parts, rank, world, (rank + 1) % world, send, recv)


def _assumes_rank(parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call) -> None:
    _gather(parts, rank, world, rank, send, recv)


def _own_part_each_step(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    for _ in range(world - 1):
        request = send(parts[owned], (rank + 1) % world)
        recv(parts[(owned - 1) % world], (rank - 1) % world)
        request.wait()


def _added(parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call) -> None:
    _gather(parts, rank, world, owned, send, recv, add=True)


def _gather_short(parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call) -> None:
    _gather(parts, rank, world, owned, send, recv, steps=max(world - 2, 0))


def _gather_long(parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call) -> None:
    _gather(parts, rank, world, owned, send, recv, steps=world if world > 1 else 0)


def _gather_waits_first(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    _gather(parts, rank, world, owned, send, recv, order="send wait recv")


def _gather_receives_first(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    _gather(parts, rank, world, owned, send, recv, order="recv send wait")


def _gather_never_waits(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    _gather(parts, rank, world, owned, send, recv, order="send recv")


def _gather_to_all(parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call) -> None:
    requests = [send(parts[owned], r) for r in range(world) if r != rank]
    for r in range(world):
        if r != rank:
            recv(parts[(owned + r - rank) % world], r)
    for request in requests:
        request.wait()


def _lost_in_new_tensors(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    for step in range(world - 1):
        received = torch.empty_like(parts[(owned - step - 1) % world])
        request = send(parts[(owned - step) % world], (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        parts[(owned - step - 1) % world] = received


def _gather_whole_vector(
    parts: list[Tensor], rank: int, world: int, owned: int, send: Call, recv: Call
) -> None:
    lengths = [len(part) for part in parts]
    for step in range(world - 1):
        received = torch.empty(sum(lengths), dtype=parts[0].dtype)
        request = send(torch.cat(parts), (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        here = (owned - step - 1) % world
        parts[here].copy_(received.split(lengths)[here])


all_gather_ring = Exercise(
    reference.all_gather_ring,
    requirements=(
        Requirement(
            "every rank gets all parts",
            (
                Case("12 numbers on 3 ranks, owned rank + 1", _ranks_with(12, 3, 1)),
                Case("11 numbers on 4 ranks, owned rank + 1", _ranks_with(11, 4, 1)),
                Case("13 numbers on 5 ranks, owned rank", _ranks_with(13, 5, 0)),
                Case("11 numbers on 4 ranks, owned rank + 2", _ranks_with(11, 4, 2)),
                Case("5 numbers on 2 ranks, owned rank", _ranks_with(5, 2, 0)),
                Case("3 numbers on 5 ranks, owned rank + 1", _ranks_with(3, 5, 1)),
                Case("4 numbers on 1 rank, owned rank", _ranks_with(4, 1, 0)),
                Case("9 numbers on 4 ranks in float64, owned rank + 3", double(_ranks_with(9, 4, 3))),
                Case("1003 numbers on 6 ranks, owned rank + 1", _ranks_with(1003, 6, 1), shown=False),
            ),
            gathered,
            points=2,
            bounds=_bounds(1),
        ),
    ),
    mistakes=(
        Mistake(
            "You assume that the part rank + 1 is right at the start. Which one it is, is handed in: owned.",
            _assumes_rank_plus_1,
        ),
        Mistake(
            "You assume that the part with the rank's own number is right at the start. Which one it is, is handed in: owned.",
            _assumes_rank,
        ),
        Mistake(
            "You send your own part in each step, and only the right neighbour ever sees it. Send on what has come in last.",
            _own_part_each_step,
        ),
        Mistake("You add what comes in. The sums are complete: copy them over your old values.", _added),
        Mistake(
            "You take a step too few: each rank lacks a part. N - 1 parts have to come in.",
            _gather_short,
        ),
        Mistake("You take a step too many. After N - 1 steps every part has come in.", _gather_long),
        Mistake(_STUCK_IN_WAIT, _gather_waits_first, recognise=_stuck_in("wait (")),
        Mistake(_STUCK_IN_RECV, _gather_receives_first, recognise=_stuck_in("recv (")),
        Mistake(
            "You never wait for your sends. A tensor that is still being sent must not change: call request.wait() in each step.",
            _gather_never_waits,
        ),
        Mistake(
            "You send your part to every rank yourself. In a ring a rank sends to rank + 1 only, and passes on what it gets.",
            _gather_to_all,
        ),
        Mistake(
            "You put new tensors into the list, and the vector behind the parts does not change. Write into the parts: they are views.",
            _lost_in_new_tensors,
        ),
        Mistake(
            "You send the whole vector in each step. One part is enough, the one that has come in last.",
            _gather_whole_vector,
        ),
    ),
    threads=True,
)


# --- ring_all_reduce ----------------------------------------------------------------------------------------------------------


def reduced(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The sums on all ranks, and what they cost."""
    xs = inputs["x"]
    network = Network(len(xs))

    def work(rank: int, send: Call, recv: Call) -> Any:
        value = implementation(xs[rank], rank, len(xs), send, recv)
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise TypeError(
                f"Return two things, the sum and how many numbers were sent; got {type(value).__name__}."
            )
        return value

    results = network.run(work)
    totals = [total for total, _ in results]
    return {
        "the sum on each rank": torch.stack(totals),
        ROUNDED: rounded(xs, totals),
        **costs(network),
    }


def bookkeeping(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """What is exact: the number that is returned, the same bits everywhere, and x as it was."""
    xs = inputs["x"].clone()
    network = Network(len(xs))
    results = network.run(lambda rank, send, recv: implementation(xs[rank], rank, len(xs), send, recv))
    found = {
        "the numbers returned, minus what was sent": [
            operator.index(sent) - seen for (_, sent), seen in zip(results, network.elements, strict=True)
        ],
        "all ranks have the same bits": all(torch.equal(total, results[0][0]) for total, _ in results),
        "x is as it was": torch.equal(xs, inputs["x"]),
    }
    for total, _ in results:
        total.zero_()
    return {**found, "x stays when the sum is changed": torch.equal(xs, inputs["x"])}


def _ring(
    x: Tensor,
    rank: int,
    world: int,
    send: Call,
    recv: Call,
    *,
    steps: Callable[[int], int] = lambda world: 2 * (world - 1),
    adds: Callable[[int, int], bool] = lambda step, world: step < world - 1,
    sign: int = -1,
    parts_of: Call = lambda x, world: list(x.tensor_split(world)),
    in_place: bool = False,
    order: str = "send recv wait",
    scale: Callable[[int], float] = lambda world: 1.0,
    count: Callable[[int, Tensor, int], int] = lambda sent, x, world: sent,
) -> tuple[Tensor, int]:
    """The ring, with switches for what goes wrong."""
    total, sent = x if in_place else x.clone(), 0
    parts = parts_of(total, world)
    for step in range(steps(world)):
        outgoing, incoming = parts[(rank + sign * step) % world], parts[(rank + sign * step - 1) % world]
        received = torch.empty_like(incoming)
        for action in order.split():
            if action == "send":
                request = send(outgoing, (rank + 1) % world)
            elif action == "recv":
                recv(received, (rank - 1) % world)
            elif action == "wait":
                request.wait()
        sent += outgoing.numel()
        if adds(step, world):
            incoming += received
        else:
            incoming.copy_(received)
    return total * scale(world), count(sent, x, world)


def _in_place(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, in_place=True)


def _means(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, scale=lambda world: 1 / world)


def _only_the_first_phase(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, steps=lambda world: world - 1)


def _adds_in_both_phases(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, adds=lambda step, world: True)


def _phases_of_world_steps(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, adds=lambda step, world: step < world)


def _short_by_one(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, steps=lambda world: max(2 * (world - 1) - 1, 0))


def _long_by_one(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, steps=lambda world: 2 * world - 1 if world > 1 else 0)


def _all_stuck_in_wait(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, order="send wait recv")


def _all_stuck_in_recv(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, order="recv send wait")


def _no_wait(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, order="send recv")


def _counts_two_vectors(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, count=lambda sent, x, world: 2 * len(x))


def _counts_steps(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, count=lambda sent, x, world: 2 * (world - 1))


def _counts_bytes(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv, count=lambda sent, x, world: sent * x.element_size())


def _tail_left_out(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    def even(x: Tensor, world: int) -> list[Tensor]:
        size = len(x) // world
        return [x[i * size : (i + 1) * size] for i in range(world)]

    return _ring(x, rank, world, send, recv, parts_of=even)


def _whole_vectors(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    total, passed, sent = x.clone(), x.clone(), 0
    for _ in range(world - 1):
        received = torch.empty_like(passed)
        request = send(passed, (rank + 1) % world)
        recv(received, (rank - 1) % world)
        request.wait()
        sent += passed.numel()
        passed, total = received, total + received
    return total, sent


def _x_itself(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    return _ring(x, rank, world, send, recv) if world > 1 else (x, 0)


def _ring_in_float32(x: Tensor, rank: int, world: int, send: Call, recv: Call) -> tuple[Tensor, int]:
    total, sent = _ring(x.float(), rank, world, send, recv)
    return total.to(x.dtype), sent


_EXACT = "the count, the bits and the input"

ring_all_reduce = Exercise(
    reference.ring_all_reduce,
    requirements=(
        Requirement(
            "every rank has the sum, for 2 (N - 1) parts sent",
            _RING_CASES,
            reduced,
            points=3,
            bounds={**_bounds(2), ROUNDED: NOT_ROUNDED},
        ),
        Requirement(
            _EXACT,
            (
                Case("11 numbers on 4 ranks, exactly", _ranks_with(11, 4)),
                Case("7 numbers on 2 ranks, exactly", _ranks_with(7, 2)),
                Case("4 numbers on 1 rank, exactly", _ranks_with(4, 1)),
                Case("30 numbers on 5 ranks, exactly", _ranks_with(30, 5), shown=False),
            ),
            bookkeeping,
        ),
    ),
    mistakes=(
        Mistake("You change x. Whoever calls the function still needs it: work on a copy.", _in_place),
        Mistake("You return means. An all-reduce adds up; who wants the mean divides.", _means),
        Mistake(
            "You stop after the first phase: every rank has the sum of one part only. Another N - 1 steps hand the sums round.",
            _only_the_first_phase,
        ),
        Mistake(
            "You go on adding in the second phase, and sums are counted again. After N - 1 steps copy what comes in.",
            _adds_in_both_phases,
        ),
        Mistake(
            "The second phase begins one step too late: you add in N steps. Sums are complete after N - 1.",
            _phases_of_world_steps,
        ),
        Mistake("You take a step too few. There are 2 (N - 1) steps.", _short_by_one),
        Mistake("You take a step too many. There are 2 (N - 1) steps.", _long_by_one),
        Mistake(_STUCK_IN_WAIT, _all_stuck_in_wait, recognise=_stuck_in("wait (")),
        Mistake(_STUCK_IN_RECV, _all_stuck_in_recv, recognise=_stuck_in("recv (")),
        Mistake(
            "You never wait for your sends. In the second phase a part may be overwritten that is still on its way: request.wait().",
            _no_wait,
        ),
        Mistake(
            "The sum is right; you return twice the length as the number sent. Add up the lengths of the parts that you send.",
            _counts_two_vectors,
        ),
        Mistake(
            "You return how many messages were sent. Asked for is how many numbers: add up the lengths of the parts.",
            _counts_steps,
        ),
        Mistake(
            "You return bytes. Asked for is how many numbers were sent, whatever their dtype.",
            _counts_bytes,
        ),
        Mistake(
            "The end of the vector is not summed where N does not divide its length. Parts may differ in length: x.tensor_split(world).",
            _tail_left_out,
        ),
        Mistake(
            "You send whole vectors round. The sum is right, at N / 2 times the cost: send one part in each step.",
            _whole_vectors,
        ),
        Mistake(
            "On one rank you return x itself. Who divides the sum afterwards changes x: return a copy.",
            _x_itself,
        ),
        Mistake(
            "Vectors in float64 are rounded to float32 on their way. Work in the dtype of x: torch.empty_like.",
            _ring_in_float32,
        ),
    ),
    threads=True,
)


# --- costs --------------------------------------------------------------------------------------------------------------------


def _link(method: str, world: int, size: float, latency: float, bandwidth: float) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "method": method,
        "world": world,
        "size": size,
        "latency": latency,
        "bandwidth": bandwidth,
    }


def _formula(
    ring: tuple[Callable[[int], float], Callable[[int, float], float]] | None = None,
    tree: tuple[Callable[[int], float], Callable[[int, float], float]] | None = None,
    server: tuple[Callable[[int], float], Callable[[int, float], float]] | None = None,
    combine: Callable[[float, float, float, float], float] = lambda messages, length, latency, bandwidth: (
        messages * (latency + length / bandwidth)
    ),
) -> Call:
    """The formula with other numbers of messages and lengths."""
    right = {
        "ring": (lambda n: 2 * (n - 1), lambda n, size: size / n),
        "tree": (lambda n: 2 * math.ceil(math.log2(n)), lambda n, size: size),
        "server": (lambda n: 2 * (n - 1), lambda n, size: size),
    }
    given = {"ring": ring, "tree": tree, "server": server}

    def wrong(method: str, world: int, size: float, latency: float, bandwidth: float) -> float:
        messages, length = given[method] or right[method]
        return float(combine(messages(world), length(world, size), latency, bandwidth))

    return wrong


def _named(name: str, function: Call) -> Call:
    function.__name__ = name
    return function


_whole = lambda n, size: size  # noqa: E731
_part = lambda n, size: size / n  # noqa: E731

_TIME_MISTAKES = (
    Mistake(
        "Your ring takes N steps in each phase. A part is complete after N - 1.",
        _named("ring_of_n_steps", _formula(ring=(lambda n: 2 * n, _part))),
    ),
    Mistake(
        "Your ring has one phase only. The sums have to be handed round as well, which takes N - 1 more steps.",
        _named("ring_of_one_phase", _formula(ring=(lambda n: n - 1, _part))),
    ),
    Mistake(
        "Your ring sends the whole vector in each step. A message of the ring has size / N bytes.",
        _named("ring_of_whole_vectors", _formula(ring=(lambda n: 2 * (n - 1), _whole))),
    ),
    Mistake(
        "Your tree goes in one direction only. The sum has to come down again: twice its depth.",
        _named("tree_one_way", _formula(tree=(lambda n: math.ceil(math.log2(n)), _whole))),
    ),
    Mistake(
        "The depth of a tree is a whole number: round log2 N up. Seven ranks need three levels.",
        _named("tree_not_rounded", _formula(tree=(lambda n: 2 * math.log2(n), _whole))),
    ),
    Mistake(
        "The depth of a tree is rounded up, not down: seven ranks need three levels.",
        _named("tree_rounded_down", _formula(tree=(lambda n: 2 * math.floor(math.log2(n)), _whole))),
    ),
    Mistake(
        "You round the depth of the tree to the nearest whole number. Round it up: five ranks need three levels.",
        _named("tree_rounded_to_nearest", _formula(tree=(lambda n: 2 * round(math.log2(n)), _whole))),
    ),
    Mistake(
        "The messages of your tree are parts of the vector. In a tree each message is the whole vector.",
        _named("tree_of_parts", _formula(tree=(lambda n: 2 * math.ceil(math.log2(n)), _part))),
    ),
    Mistake(
        "Your server receives from all ranks at the same time. Its link carries one message after the other: N - 1 in, N - 1 out.",
        _named("server_in_parallel", _formula(server=(lambda n: 2 if n > 1 else 0, _whole))),
    ),
    Mistake(
        "Your server sends to itself. It is one of the ranks, so N - 1 others send and receive.",
        _named("server_beside_the_ranks", _formula(server=(lambda n: 2 * n, _whole))),
    ),
    Mistake(
        "Your server only receives. It has to send the sum back to each rank, one after the other.",
        _named("server_one_way", _formula(server=(lambda n: n - 1, _whole))),
    ),
    Mistake(
        "You count the latency once. Every message pays it.",
        _named("one_latency", _formula(combine=lambda m, b, a, w: (a if m else 0) + m * b / w)),
    ),
    Mistake(
        "You multiply by the bandwidth. A message of b bytes takes b / bandwidth seconds, plus the latency.",
        _named("times_bandwidth", _formula(combine=lambda m, b, a, w: m * (a + b * w))),
    ),
    Mistake(
        "You leave out the latency. Every message pays it, and for small vectors it is all that counts.",
        _named("no_latency", _formula(combine=lambda m, b, a, w: m * b / w)),
    ),
)

all_reduce_time = Exercise(
    reference.all_reduce_time,
    requirements=tuple(
        Requirement(
            f"the time of {label}",
            (
                Case(f"{method}, 4 ranks, 1 MB", _link(method, 4, 1e6, 1e-5, 1e9)),
                Case(f"{method}, 5 ranks, 2 kB", _link(method, 5, 2e3, 1e-5, 1e9)),
                Case(f"{method}, 7 ranks, 400 bytes", _link(method, 7, 400.0, 1e-5, 1e9)),
                Case(f"{method}, 2 ranks, 3 bytes a second", _link(method, 2, 12.0, 0.5, 3.0)),
                Case(f"{method}, 1 rank", _link(method, 1, 1e6, 1e-5, 1e9)),
                Case(f"{method}, 100 ranks, 400 MB", _link(method, 100, 4e8, 3e-6, 2e10), shown=False),
            ),
        )
        for method, label in (("ring", "a ring"), ("tree", "a tree"), ("server", "a parameter server"))
    ),
    mistakes=_TIME_MISTAKES,
)


def _crossing(change: Call) -> Call:
    """The crossing from N, depth, latency and bandwidth."""

    def wrong(world: int, latency: float, bandwidth: float) -> float:
        return float(change(world, math.ceil(math.log2(world)), latency, bandwidth))

    return wrong


def _pair(world: int, latency: float, bandwidth: float) -> Callable[[Draw], Inputs]:
    return lambda source: {"world": world, "latency": latency, "bandwidth": bandwidth}


crossing_bytes = Exercise(
    reference.crossing_bytes,
    requirements=(
        Requirement(
            "where ring and tree are equally fast",
            (
                Case("4 ranks", _pair(4, 1e-5, 1e9)),
                Case("8 ranks", _pair(8, 2e-5, 1e9)),
                Case("11 ranks, a slow link", _pair(11, 0.5, 3.0)),
                Case("3 ranks: no size is too small for the ring", _pair(3, 1e-5, 1e9)),
                Case("2 ranks: no size is too small for the ring", _pair(2, 1e-5, 1e9)),
                Case("100 ranks", _pair(100, 3e-6, 2e10), shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You leave out what the ring sends: its messages have size / N bytes, so it sends (N - 1) / N of the size in each phase.",
            _named("ring_sends_nothing", _crossing(lambda n, d, a, w: a * w * (n - 1 - d) / d)),
        ),
        Mistake(
            "You let the ring send the whole size in each phase. It sends (N - 1) / N of it.",
            _named(
                "ring_sends_all",
                _crossing(lambda n, d, a, w: a * w * (n - 1 - d) / (d - 1) if d > 1 else 0.0),
            ),
        ),
        Mistake(
            "You let the ring send 1 / N of the size in each phase. It sends N - 1 such parts.",
            _named("ring_sends_one_part", _crossing(lambda n, d, a, w: a * w * (n - 1 - d) / (d - 1 / n))),
        ),
        Mistake(
            "Your ring takes N steps in a phase. It takes N - 1.",
            _named(
                "ring_of_n_steps", _crossing(lambda n, d, a, w: a * w * (n - d) / (d - 1) if d > 1 else a * w)
            ),
        ),
        Mistake(
            "Your result is negative: the ring's latency minus the tree's is paid back by the tree's bytes minus the ring's.",
            _named("negative", _crossing(lambda n, d, a, w: -a * w * (n - 1 - d) / (d - (n - 1) / n))),
        ),
        Mistake(
            "You divide the latency by the bandwidth. Bytes are seconds times bytes per second: latency times bandwidth.",
            _named(
                "latency_over_bandwidth",
                _crossing(lambda n, d, a, w: a / w * (n - 1 - d) / (d - (n - 1) / n)),
            ),
        ),
        Mistake(
            "The depth of the tree is a whole number: round log2 N up.",
            _named(
                "depth_not_rounded",
                _crossing(lambda n, d, a, w: a * w * (n - 1 - math.log2(n)) / (math.log2(n) - (n - 1) / n)),
            ),
        ),
        Mistake(
            "Your fraction is upside down: the difference in messages stands above, the difference in bytes below.",
            _named(
                "upside_down",
                _crossing(lambda n, d, a, w: a * w * (d - (n - 1) / n) / (n - 1 - d) if n - 1 - d else 0.0),
            ),
        ),
        Mistake(
            "You compare the ring with a server. The tree has 2 ceil(log2 N) messages.",
            _named("against_a_server", _crossing(lambda n, d, a, w: 0.0)),
        ),
    ),
)
