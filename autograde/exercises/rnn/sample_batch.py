"""The exercise ``sample_batch`` of the lesson rnn/04_char_lm.

A right answer may draw from the generator in another order, so properties and frequencies are looked at, not values. Bounds on
frequencies are those of Bernstein's inequality for a false alarm of at most 1e-10 for one check.
"""

from __future__ import annotations

import math
import random
import re
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.meters import AllocationMeter
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import rnn as reference


def shapes(implementation: Implementation, inputs: Inputs) -> Any:
    """The batch with all values set to zero: its shapes, dtypes and devices."""
    result = implementation(
        inputs["ids"], inputs["batch"], inputs["time"], torch.Generator().manual_seed(inputs["seed"])
    )
    if type(result) not in (tuple, list) or not all(isinstance(part, Tensor) for part in result):
        return result
    return tuple(torch.zeros_like(part) for part in result)


def batch_itself(implementation: Implementation, inputs: Inputs) -> Any:
    """The batch, where only one is possible."""
    generator = torch.Generator().manual_seed(inputs["seed"])
    return implementation(inputs["ids"], inputs["batch"], inputs["time"], generator)


def rows_of_text(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """How many rows are windows of a text in which every window is different."""
    ids, time = inputs["ids"].cpu(), inputs["time"]
    x, y = implementation(inputs["ids"], inputs["batch"], time, torch.Generator().manual_seed(inputs["seed"]))
    windows = {tuple(ids[k : k + time + 1].tolist()) for k in range(len(ids) - time)}
    of_x, of_y = {window[:-1] for window in windows}, {window[1:] for window in windows}
    rows = list(zip(x.cpu().tolist(), y.cpu().tolist(), strict=True))
    return {
        "rows of x that stand in the text": sum(tuple(a) in of_x for a, _ in rows),
        "rows of y that stand in the text": sum(tuple(b) in of_y for _, b in rows),
        "rows in which y is x, one character further": sum(((a[0], *b) in windows) for a, b in rows),
    }


def starts(implementation: Implementation, inputs: Inputs, calls: int, generator: torch.Generator) -> Tensor:
    """Where the rows of ``calls`` batches start [calls, batch], -1 for a character that is not in the text."""
    place = {symbol: k for k, symbol in enumerate(inputs["ids"].tolist())}
    found = []
    for _ in range(calls):
        x, _ = implementation(inputs["ids"], inputs["batch"], inputs["time"], generator)
        found.append([place.get(symbol, -1) for symbol in x[:, 0].tolist()])
    return torch.tensor(found)


def deviation(p: float, n: int, events: int) -> float:
    """By how much a frequency of n draws may differ from p: more has a probability below 1e-10 for all events together."""
    log = math.log(2 * events / 1e-10)
    return log / (3 * n) + math.sqrt((log / (3 * n)) ** 2 + 2 * log * p * (1 - p) / n)


def how_often(share: float, p: float, n: int, events: int) -> str:
    """A frequency in words."""
    if abs(share - p) <= deviation(p, n, events):
        return "as often as it should"
    return "never" if share == 0 else "too often" if share > p else "too seldom"


def every_start(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """How often each start is drawn, in 20 batches."""
    generator = torch.Generator().manual_seed(inputs["seed"])
    drawn = starts(implementation, inputs, 20, generator)
    possible = len(inputs["ids"]) - inputs["time"]
    words = {
        f"windows that start at {k}": how_often(
            float((drawn == k).float().mean()), 1 / possible, drawn.numel(), possible
        )
        for k in range(possible)
    }
    beyond = ((drawn < 0) | (drawn >= possible)).any()
    return {**words, "windows that start elsewhere": "some" if beyond else "none"}


def rows_of_small_batches(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Where each row of a small batch starts, how often two of its rows start at the same place, and how often one starts
    right after the row before, in 400 batches.
    """
    drawn = starts(implementation, inputs, 400, torch.Generator().manual_seed(inputs["seed"]))
    possible, rows = len(inputs["ids"]) - inputs["time"], drawn.shape[1]
    pairs = [(a, b) for a in range(rows) for b in range(a + 1, rows)]
    events = possible * rows + len(pairs) + rows - 1

    def word(share: Tensor) -> str:
        return how_often(float(share), 1 / possible, len(drawn), events)

    places = {
        f"row {row} starts at {k}": word((drawn[:, row] == k).float().mean())
        for row in range(rows)
        for k in range(possible)
    }
    alike = {
        f"rows {a} and {b} start at the same place": word((drawn[:, a] == drawn[:, b]).float().mean())
        for a, b in pairs
    }
    follows = {
        f"row {a + 1} starts one further than row {a}": word(
            ((drawn[:, a + 1] - drawn[:, a]) % possible == 1).float().mean()
        )
        for a in range(rows - 1)
    }
    return {**places, **alike, **follows}


def global_states() -> tuple[list[int], object, str]:
    """The states of the global generators of torch, Python and NumPy."""
    return torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())


def randomness(implementation: Implementation, inputs: Inputs) -> dict[str, bool]:
    """What the batch depends on. Two batches of a long text are equal by chance with a probability below 1e-30."""
    ids, size = inputs["ids"], (inputs["batch"], inputs["time"])

    def draw(generator: torch.Generator) -> Tensor:
        return torch.cat([part.clone() for part in implementation(ids, *size, generator)])

    before = global_states()
    generator, again, other = (torch.Generator().manual_seed(inputs["seed"] + offset) for offset in (0, 0, 1))
    first, same, different = draw(generator), draw(again), draw(other)
    second = draw(generator)
    return {
        "the same seed gives the same batch": torch.equal(first, same),
        "another seed gives another batch": not torch.equal(first, different),
        "a second call gives another batch": not torch.equal(first, second),
        "no other source of randomness is used": global_states() == before,
    }


class _Meter(AllocationMeter):
    """Counts the operators, too."""

    operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operators += 1
        return super().__torch_dispatch__(func, types, args, kwargs)


def effort(implementation: Implementation, inputs: Inputs) -> dict[str, int]:
    """The largest tensor that one call allocates, what it needs in lists and arrays, and how many operators it calls."""

    def call() -> None:
        implementation(
            inputs["ids"], inputs["batch"], inputs["time"], torch.Generator().manual_seed(inputs["seed"])
        )

    with _Meter([inputs["ids"]]) as meter:
        call()
    already = tracemalloc.is_tracing()
    if not already:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not already:
            tracemalloc.stop()
    return {
        "largest allocation": meter.largest,
        "lists and arrays": max(0, peak - before) // 2**20 * 2**20,  # whole MiB: small things vary
        "operators": meter.operators,
    }


def _text(
    length: int, batch: int, time: int, stride: int = 1, dtype: torch.dtype = torch.int64
) -> Callable[[Draw], Inputs]:
    """A text in which every character is different, so that a window tells where it stands."""

    def draw(source: Draw) -> Inputs:
        spread = torch.zeros(stride * length, dtype=dtype)
        spread[::stride] = source.uniform(length).argsort().to(dtype)
        return {"ids": spread[::stride], "batch": batch, "time": time, "seed": source.integer(0, 10**6)}

    return draw


def _long_text(length: int, batch: int, time: int) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        ids = source.integers(length, low=0, high=93)
        return {"ids": ids, "batch": batch, "time": time, "seed": source.integer(0, 10**6)}

    return draw


Batch = tuple[Tensor, Tensor]
Observations = Mapping[tuple[str, str], Observation]


def _windows(ids: Tensor, begin: Tensor, time: int) -> Batch:
    window = ids[(begin.reshape(-1, 1) + torch.arange(time + 1)).to(ids.device) % len(ids)]
    return window[:, :-1], window[:, 1:]


def _drawn(low: int, high: int, batch: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(low, max(high, low + 1), (batch,), generator=generator)


def _last_start_missed(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids) - time - 1, batch, generator), time)


def _two_starts_missed(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids) - time - 2, batch, generator), time)


def _first_start_missed(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(min(1, len(ids) - time - 1), len(ids) - time, batch, generator), time)


def _one_too_far(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    begin = _drawn(0, len(ids) - time + 1, batch, generator)
    window = ids[(begin[:, None] + torch.arange(time + 1)).to(ids.device)]
    return window[:, :-1], window[:, 1:]


def _round_the_end(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids), batch, generator), time)


def _clamped(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids), batch, generator).clamp(max=len(ids) - time - 1), time)


def _multiples_of_time(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, time * _drawn(0, (len(ids) - 1) // time, batch, generator), time)


def _ends_too_seldom(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    begin = torch.rand(batch, generator=generator) * (len(ids) - time - 1)
    return _windows(ids, begin.round().long(), time)


def _not_shifted(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, _ = reference.sample_batch(ids, batch, time, generator)
    return x, x.clone()


def _other_direction(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, y = reference.sample_batch(ids, batch, time, generator)
    return y, x


def _two_ahead(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    begin = _drawn(0, len(ids) - time, batch, generator)
    steps = (begin[:, None] + torch.arange(time)).to(ids.device)
    return ids[steps], ids[(steps + 2).clamp(max=len(ids) - 1)]


def _rolled(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, _ = reference.sample_batch(ids, batch, time, generator)
    return x, x.roll(-1, 1)


def _independent_y(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, _ = reference.sample_batch(ids, batch, time, generator)
    _, y = reference.sample_batch(ids, batch, time, generator)
    return x, y


def _one_start_for_all(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids) - time, 1, generator).expand(batch), time)


def _side_by_side(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    begin = _drawn(0, len(ids) - time, 1, generator) + torch.arange(batch)
    return _windows(ids, begin % (len(ids) - time), time)


def _single_characters(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    places = torch.randint(len(ids) - 1, (batch, time), generator=generator).to(ids.device)
    return ids[places], ids[places + 1]


def _global_generator(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids) - time, batch, None), time)


def _seeded_inside(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, _drawn(0, len(ids) - time, batch, torch.Generator().manual_seed(0)), time)


def _reset(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    generator.manual_seed(generator.initial_seed())
    return _windows(ids, _drawn(0, len(ids) - time, batch, generator), time)


def _time_first(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, y = reference.sample_batch(ids, batch, time, generator)
    return x.T, y.T


def _one_longer(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, y = reference.sample_batch(ids, batch, time, generator)
    return torch.cat([x, y[:, -1:]], 1), torch.cat([x, y[:, -1:]], 1)


def _one_shorter(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, _ = reference.sample_batch(ids, batch, time, generator)
    return x[:, :-1], x[:, 1:]


def _as_float(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, y = reference.sample_batch(ids, batch, time, generator)
    return x.float(), y.float()


def _seeded_by_the_clock(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    own = torch.Generator()
    own.seed()
    return _windows(ids, _drawn(0, len(ids) - time, batch, own), time)


def _seeds_a_global_one(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
    return _windows(ids, _drawn(0, len(ids) - time, batch, None), time)


def _always_int64(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    x, y = reference.sample_batch(ids, batch, time, generator)
    return x.long(), y.long()


def _without_putting_back(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    places = torch.ones(len(ids) - time)
    again = batch > len(places)
    return _windows(ids, torch.multinomial(places, batch, replacement=again, generator=generator), time)


def _permutation(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, torch.randperm(len(ids) - time, generator=generator)[:batch], time)


def _all_windows_built(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    windows = torch.stack([ids[k : len(ids) - time + k] for k in range(time + 1)], 1)
    chosen = windows[_drawn(0, len(ids) - time, batch, generator).to(ids.device)]
    return chosen[:, :-1], chosen[:, 1:]


_ONLY = "the only window, 64 rows"


_FIRST = "4 windows of 6 characters"
_BEYOND = re.compile(r"index (\d+) is out of bounds .* size \1\b")
_UNEQUAL = re.compile(r"equal size, but got \[(\d+)\] at entry \d+ and \[(\d+)\]")


def _beyond(observed: Observations) -> bool:
    """64 rows of a text with one window: a start beyond is drawn with a probability of 1 - 2^-64.

    Where the first requirement has failed already, that case was not looked at: then an index that is just the length, or
    slices of which one is shorter by one, if a batch in which no row runs over the end has the right shape.
    """
    raised = {case: entry.raised for (_, case), entry in observed.items() if entry.raised is not None}
    first = next((entry for (_, case), entry in observed.items() if case == _FIRST), None)
    if (
        first is not None
        and first.raised is None
        and [tuple(part.data.shape) for part in first.value] != [(4, 6)] * 2
    ):
        return False

    def short(message: str) -> bool:
        found = _UNEQUAL.search(message)
        return found is not None and abs(int(found[1]) - int(found[2])) == 1

    if any(case == _ONLY for _, case in observed):
        error = raised.get(_ONLY)
        return error is not None and (error.kind == "IndexError" or short(error.message))
    return any(
        (error.kind == "IndexError" and _BEYOND.search(error.message) is not None) or short(error.message)
        for error in raised.values()
    )


_EVERY = "every possible start is drawn, and all equally often"


def _never(*places: int) -> Callable[[Observations], bool]:
    """Whether just these starts are never drawn, in every case; negative ones count from the end."""

    def recognise(observed: Observations) -> bool:
        values = [entry.value for (requirement, _), entry in observed.items() if requirement == _EVERY]
        for value in values:
            if value["windows that start elsewhere"] != "none":
                return False
            words = [word for key, word in value.items() if key.startswith("windows that start at ")]
            missing = [k for k, word in enumerate(words) if word == "never"]
            if missing != sorted(place % len(words) for place in places):
                return False
        return bool(values)

    return recognise


_RANDOM = "all randomness comes from the generator"


def _random_as(*shown: bool) -> Callable[[Observations], bool]:
    """Whether the four questions about randomness have these answers in every case."""

    def recognise(observed: Observations) -> bool:
        values = [entry.value for (requirement, _), entry in observed.items() if requirement == _RANDOM]
        return bool(values) and all(tuple(value.values()) == shown for value in values)

    return recognise


_COST = "looks at no more of the text than it needs"


def _builds_all(observed: Observations) -> bool:
    costs = [entry.value for (requirement, _), entry in observed.items() if requirement == _COST]
    return bool(costs) and all(
        value["largest allocation"] >= 8 * 10_000 * 32
        or value["lists and arrays"] >= 8 * 10_000 * 32
        or value["operators"] >= 9_000
        for value in costs
    )


sample_batch = Exercise(
    reference.sample_batch,
    requirements=(
        Requirement(
            "shapes and dtypes",
            (
                Case(_FIRST, _text(30, 4, 6)),
                Case("one window of one character", _text(30, 1, 1)),
                Case("more windows than the text has starts", _text(9, 20, 5)),
            ),
            shapes,
            gate=True,
        ),
        Requirement(
            "x and y have the dtype of the text",
            (
                Case("a text in int32", _text(30, 4, 6, dtype=torch.int32)),
                Case("a text in uint8", _text(30, 3, 5, dtype=torch.uint8), shown=False),
            ),
            shapes,
        ),
        Requirement(
            "rows are windows of the text, and y is one character further",
            (
                Case("50 windows of 6 characters", _text(40, 50, 6)),
                Case("as many windows as characters", _text(40, 8, 8)),
                Case("windows of one character", _text(25, 30, 1)),
                Case("a text that is not contiguous", _text(30, 50, 4, stride=2)),
                Case("300 windows of 17 characters", _text(100, 300, 17), shown=False),
            ),
            rows_of_text,
            points=2,
        ),
        Requirement(
            "the end of the text",
            (
                Case(_ONLY, _text(7, 64, 6)),
                Case("a text of two characters", _text(2, 3, 1)),
            ),
            batch_itself,
        ),
        Requirement(
            _EVERY,
            (
                Case("10,000 windows, 7 starts", _text(10, 500, 3)),
                Case("10,000 windows, 5 starts", _text(12, 500, 7), shown=False),
            ),
            every_start,
        ),
        Requirement(
            "each row has a start of its own",
            (
                Case("400 batches of 4 rows, 4 starts", _text(8, 4, 4)),
                Case("400 batches of 5 rows, 3 starts", _text(6, 5, 3), shown=False),
            ),
            rows_of_small_batches,
        ),
        Requirement(
            _RANDOM,
            (
                Case("a text of 5,000 characters", _long_text(5_000, 16, 20)),
                Case("a text of 7,000 characters", _long_text(7_000, 24, 9), shown=False),
            ),
            randomness,
        ),
        Requirement(
            _COST,
            (
                Case("4 windows of a text of 10,000 characters", _long_text(10_000, 4, 64)),
                Case("2 windows of a text of 12,000 characters", _long_text(12_000, 2, 90), shown=False),
            ),
            effort,
            bounds={
                "largest allocation": Bound(
                    most=lambda inputs: (
                        8 * (4 * len(inputs["ids"]) + 8 * inputs["batch"] * (inputs["time"] + 1))
                    ),
                    unit="bytes allocated at once",
                    why="Cut out the windows that were drawn, not all that there are.",
                    naive=lambda inputs: 8 * len(inputs["ids"]) * (inputs["time"] + 1),
                ),
                "lists and arrays": Bound(
                    most=lambda inputs: (
                        1_000_000 + 64 * (len(inputs["ids"]) + 8 * inputs["batch"] * (inputs["time"] + 1))
                    ),
                    unit="bytes in lists and arrays",
                    why="Cut out the windows that were drawn, not all that there are.",
                    naive=lambda inputs: 8 * len(inputs["ids"]) * (inputs["time"] + 1),
                ),
                "operators": Bound(
                    most=lambda inputs: 300 + 20 * inputs["batch"] * (inputs["time"] + 1),
                    unit="calls of torch operators",
                    why="Cut out the windows that were drawn, not all that there are.",
                    naive=lambda inputs: len(inputs["ids"]) - inputs["time"],
                ),
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You never draw the last start. A window needs time + 1 characters, so the starts 0 to N - time - 1 are valid, and the "
            "upper limit of torch.randint is not drawn: it is N - time.",
            _last_start_missed,
            recognise=_never(-1),
        ),
        Mistake(
            "You never draw the last two starts. The last valid one is N - time - 1.",
            _two_starts_missed,
            recognise=_never(-2, -1),
        ),
        Mistake("You never draw the start 0, which is allowed.", _first_start_missed, recognise=_never(0)),
        Mistake(
            "You draw a start beyond the last one: y needs one character more than x. The last valid start is N - time - 1.",
            _one_too_far,
            recognise=_beyond,
        ),
        Mistake(
            "Windows that reach the end of the text go on at its beginning. Draw only starts at which the whole window fits.",
            _round_the_end,
        ),
        Mistake(
            "You draw any start and move those that are too late to the last valid one, which is drawn too often.",
            _clamped,
        ),
        Mistake(
            "Your windows start at multiples of time only. Every start from 0 to N - time - 1 has to be possible.",
            _multiples_of_time,
        ),
        Mistake(
            "The first and the last start are drawn half as often as the others, as rounding a random number makes it. Use "
            "torch.randint.",
            _ends_too_seldom,
        ),
        Mistake(
            "Your y is x. The model would learn to repeat what it sees: y is one character ahead.",
            _not_shifted,
        ),
        Mistake("You mixed up x and y: y is one character ahead of x, not behind.", _other_direction),
        Mistake("Your y is two characters ahead of x. It is one ahead.", _two_ahead),
        Mistake(
            "You roll x: the last character of each row of y is the first one of the window. It is the next one of the text.",
            _rolled,
        ),
        Mistake("You draw new starts for y. Both come from the same window.", _independent_y),
        Mistake("All rows start at the same place. Draw one start for each row.", _one_start_for_all),
        Mistake(
            "The rows of a batch lie at fixed distances: one number decides where all of them start. Draw one start for each row, "
            "independently of the others.",
            _side_by_side,
        ),
        Mistake(
            "You draw every character on its own. A row is a window: characters that stand one after the other.",
            _single_characters,
        ),
        Mistake(
            "You do not use the generator that is handed in, but a global one, of torch, NumPy or Python. Hand `generator=generator` "
            "to torch.randint.",
            _global_generator,
            recognise=_random_as(False, True, True, False),
        ),
        Mistake(
            "Every call gives the same batch, whatever generator is handed in: you do not draw, keep an old batch, or draw from a "
            "generator of your own with a fixed seed. Draw the starts from the one that is handed in.",
            _seeded_inside,
            recognise=_random_as(True, False, False, True),
        ),
        Mistake(
            "A second call with the same generator gives the same batch again: you set its seed, or draw from a copy of it. Draw "
            "from the one that is handed in, so that it moves on.",
            _reset,
            recognise=_random_as(True, True, False, True),
        ),
        Mistake(
            "The same seed does not give the same batch: you draw from a generator of your own, or give the one that is handed in a "
            "new seed from the clock. Draw from the one that is handed in.",
            _seeded_by_the_clock,
            recognise=_random_as(False, True, True, True),
        ),
        Mistake(
            "You seed a global generator with a number from the one that is handed in. That changes what everybody else draws: draw "
            "the starts from the one that is handed in.",
            _seeds_a_global_one,
            recognise=_random_as(True, True, True, False),
        ),
        Mistake("Your batch has time first. Asked is [batch, time].", _time_first),
        Mistake(
            "x and y are one character too long: you return the whole window of time + 1 characters. x is without its last one, y "
            "without its first one.",
            _one_longer,
        ),
        Mistake(
            "x and y are one character too short. Cut windows of time + 1 characters, so that time are left.",
            _one_shorter,
        ),
        Mistake(
            "You return floats. Characters are numbers of rows in a table: keep the dtype of ids.", _as_float
        ),
        Mistake("You return int64, whatever the text has. Asked is the dtype of ids.", _always_int64),
        Mistake(
            "Two rows of a batch never start at the same place: you draw without putting back. Each row draws its own start, whatever "
            "the others drew.",
            _without_putting_back,
        ),
        Mistake(
            "You draw without putting back, so a batch never has more rows than there are starts. Each row draws its own start, "
            "whatever the others drew: use torch.randint.",
            _permutation,
        ),
        Mistake(
            "You build all windows of the text and then choose some. Cut out only those that were drawn.",
            _all_windows_built,
            recognise=_builds_all,
        ),
    ),
    returns=("x", "y"),
)
