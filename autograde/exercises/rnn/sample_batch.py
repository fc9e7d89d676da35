"""The exercise ``sample_batch`` of the lesson rnn/04_char_lm.

A right answer may draw from the generator in another order, so properties and frequencies are looked at, not values. Bounds on
frequencies are those of Bernstein's inequality for a false alarm of at most 1e-10 for one check.
"""

from __future__ import annotations

import math
import random
import re
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
    """How often each start is drawn, in 20 batches, and how often two neighbouring rows start at the same place."""
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


def pairs_of_rows(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Whether the start of a row tells anything about the start of the next row, in 50 batches."""
    drawn = starts(implementation, inputs, 50, torch.Generator().manual_seed(inputs["seed"]))
    possible = len(inputs["ids"]) - inputs["time"]
    first, second = drawn[:, 0::2].flatten(), drawn[:, 1::2].flatten()
    return {
        f"one row starts at {a}, the next at {b}": how_often(
            float(((first == a) & (second == b)).float().mean()), 1 / possible**2, len(first), possible**2
        )
        for a in range(possible)
        for b in range(possible)
    }


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


def memory(implementation: Implementation, inputs: Inputs) -> dict[str, int]:
    """The largest allocation of one call."""
    generator = torch.Generator().manual_seed(inputs["seed"])
    with AllocationMeter([inputs["ids"]]) as meter:
        implementation(inputs["ids"], inputs["batch"], inputs["time"], generator)
    return {"largest allocation": meter.largest}


def _text(length: int, batch: int, time: int, stride: int = 1) -> Callable[[Draw], Inputs]:
    """A text in which every character is different, so that a window tells where it stands."""

    def draw(source: Draw) -> Inputs:
        spread = torch.zeros(stride * length, dtype=torch.int64)
        spread[::stride] = source.uniform(length).argsort()
        return {"ids": spread[::stride], "batch": batch, "time": time, "seed": source.integer(0, 10**6)}

    return draw


def _long_text(length: int, batch: int, time: int) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        ids = source.integers(length, low=0, high=93)
        return {"ids": ids, "batch": batch, "time": time, "seed": source.integer(0, 10**6)}

    return draw


Batch = tuple[Tensor, Tensor]


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


def _from_the_beginning(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    return _windows(ids, torch.arange(batch) % (len(ids) - time), time)


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


def _all_windows_built(ids: Tensor, batch: int, time: int, generator: torch.Generator) -> Batch:
    windows = torch.stack([ids[k : len(ids) - time + k] for k in range(time + 1)], 1)
    chosen = windows[_drawn(0, len(ids) - time, batch, generator).to(ids.device)]
    return chosen[:, :-1], chosen[:, 1:]


_ONLY = "the only window, 64 rows"


def _index_error(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """64 rows of a text with one window: a start beyond is drawn with a probability of 1 - 2^-64.

    Where the first requirement has failed already, that case was not looked at: then an index that is just the length.
    """
    raised = {case: entry.raised for (_, case), entry in observed.items() if entry.raised is not None}
    if any(case == _ONLY for _, case in observed):
        return _ONLY in raised and raised[_ONLY].kind == "IndexError"
    beyond = re.compile(r"index (\d+) is out of bounds .* size \1\b")
    return any(error.kind == "IndexError" and beyond.search(error.message) for error in raised.values())


_COST = "looks at no more of the text than it needs"


def _builds_all(observed: Mapping[tuple[str, str], Observation]) -> bool:
    costs = [entry.value for (requirement, _), entry in observed.items() if requirement == _COST]
    sizes = [value["largest allocation"] for value in costs if type(value) is dict]
    return bool(sizes) and min(sizes) >= 8 * 10_000 * 32


sample_batch = Exercise(
    reference.sample_batch,
    requirements=(
        Requirement(
            "shapes and dtypes",
            (
                Case("4 windows of 6 characters", _text(30, 4, 6)),
                Case("one window of one character", _text(30, 1, 1)),
                Case("more windows than the text has starts", _text(9, 20, 5)),
            ),
            shapes,
            gate=True,
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
            "every possible start is drawn, and all equally often",
            (
                Case("10,000 windows, 8 starts", _text(11, 500, 3)),
                Case("10,000 windows, 5 starts", _text(12, 500, 7), shown=False),
            ),
            every_start,
        ),
        Requirement(
            "each row has a start of its own",
            (
                Case("pairs of rows, 3 starts", _text(7, 200, 4)),
                Case("pairs of rows, 2 starts", _text(5, 200, 3), shown=False),
            ),
            pairs_of_rows,
        ),
        Requirement(
            "all randomness comes from the generator",
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
            memory,
            bounds={
                "largest allocation": Bound(
                    most=lambda inputs: (
                        8 * (4 * len(inputs["ids"]) + 8 * inputs["batch"] * (inputs["time"] + 1))
                    ),
                    unit="bytes allocated at once",
                    why="Cut out the windows that were drawn, not all that there are.",
                    naive=lambda inputs: 8 * len(inputs["ids"]) * (inputs["time"] + 1),
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You never draw the last start. A window needs time + 1 characters, so the starts 0 to N - time - 1 are valid, and the "
            "upper limit of torch.randint is not drawn: it is N - time.",
            _last_start_missed,
        ),
        Mistake(
            "You never draw the last two starts. The last valid one is N - time - 1.", _two_starts_missed
        ),
        Mistake("You never draw the start 0.", _first_start_missed),
        Mistake(
            "You draw a start beyond the last one: y needs one character more than x. The last valid start is N - time - 1.",
            _one_too_far,
            recognise=_index_error,
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
            "Your rows start at neighbouring places. Draw one start for each row, independently of the others.",
            _side_by_side,
        ),
        Mistake(
            "You do not draw at all: every batch is the same. Draw the starts from the generator.",
            _from_the_beginning,
        ),
        Mistake(
            "You draw every character on its own. A row is a window: characters that stand one after the other.",
            _single_characters,
        ),
        Mistake(
            "You do not use the generator that is handed in, but the global one. Hand `generator=generator` to torch.randint.",
            _global_generator,
        ),
        Mistake(
            "You make a generator of your own inside the function, so that all batches are the same. Use the one that is handed in.",
            _seeded_inside,
        ),
        Mistake(
            "You set the seed of the generator inside the function, so that it draws the same batch every time.",
            _reset,
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
        Mistake("You return floats. Characters are numbers of rows in a table: keep int64.", _as_float),
        Mistake(
            "You build all windows of the text and then choose some: memory of N times time. Cut out only those that were drawn.",
            _all_windows_built,
            recognise=_builds_all,
        ),
    ),
    returns=("x", "y"),
)
