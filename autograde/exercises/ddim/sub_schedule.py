"""The exercise ``sub_schedule`` of the lesson ddim/03_sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs, Observation
from autograde.values import SeenTensor
from utils.reference import ddim as reference


def _sizes(T: int, S: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"T": T, "S": S}


def _drawn(source: Draw) -> Inputs:
    return {"T": source.integer(300, 900), "S": source.integer(7, 60)}


def _right(T: int, S: int) -> Tensor:
    return reference.sub_schedule(T, S)


def _ascending(T: int, S: int) -> Tensor:
    return _right(T, S).flip(0)


def _leading(T: int, S: int) -> Tensor:
    return torch.arange(0, T, T // S)[:S].flip(0)


def _trailing(T: int, S: int) -> Tensor:
    return torch.tensor([T * (S - k) // S - 1 for k in range(S)])


def _from_T(T: int, S: int) -> Tensor:
    return torch.tensor([T * (S - 1 - k) // max(S - 1, 1) for k in range(S)] if S > 1 else [T])


def _rounded(T: int, S: int) -> Tensor:
    return torch.tensor([round((T - 1) * (S - 1 - k) / (S - 1)) for k in range(S)] if S > 1 else [T - 1])


def _rounded_up(T: int, S: int) -> Tensor:
    return torch.tensor([-(-(T - 1) * (S - 1 - k) // (S - 1)) for k in range(S)] if S > 1 else [T - 1])


def _one_step_zero(T: int, S: int) -> Tensor:
    return _right(T, S) if S > 1 else torch.tensor([0])


def _floats(T: int, S: int) -> Tensor:
    return torch.linspace(T - 1, 0, S)


def _index_only(T: int, S: int) -> Tensor:
    return torch.arange(S).flip(0)


def _one_more(T: int, S: int) -> Tensor:
    return torch.cat([_right(T, S), torch.tensor([-1])])


def _one_too_many(T: int, S: int) -> Tensor:
    return _right(T, S + 1) if T > S else torch.arange(-1, T).flip(0)


def _without_end(T: int, S: int) -> Tensor:
    return torch.tensor([(T - 1) * (S - k) // S for k in range(S)])


def _last_S(T: int, S: int) -> Tensor:
    return torch.arange(T - S, T).flip(0)


def _list(T: int, S: int) -> list[int]:
    found: list[int] = _right(T, S).tolist()
    return found


def _quadratic(T: int, S: int) -> Tensor:
    return (
        torch.tensor([int((T - 1) * ((S - 1 - k) / max(S - 1, 1)) ** 2) for k in range(S)])
        if S > 1
        else _right(T, S)
    )


def _equal_gaps(T: int, S: int) -> Tensor:
    gap = (T - 1) // max(S - 1, 1)
    return torch.tensor([T - 1 - k * gap for k in range(S)])


def _leading_from_top(T: int, S: int) -> Tensor:
    return torch.tensor([T - 1 - k * (T // S) for k in range(S)])


def _blocks(T: int, S: int) -> Tensor:
    return torch.tensor([T * (S - 1 - k) // S for k in range(S)])


def _int32(T: int, S: int) -> Tensor:
    return _right(T, S).int()


def _floats_cut_off(T: int, S: int) -> Tensor:
    return torch.linspace(T - 1, 0, S).long()


def _one_below_whole_numbers(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Right, but for some times that are whole numbers without rounding: there 1 is missing."""
    below = 0
    for one in observed.values():
        if not isinstance(one.value, SeenTensor) or one.value.data.dtype != torch.int64:
            return False
        times = one.value.data.tolist()
        last, gaps = times[0], max(len(times) - 1, 1)
        if len(times) > 1 and times[-1] != 0:
            return False
        for k, time in enumerate(times):
            exact, rest = divmod(last * (gaps - k), gaps)
            if time != exact and (rest or time != exact - 1):
                return False
            below += time != exact
    return below > 0


sub_schedule = Exercise(
    reference.sub_schedule,
    requirements=(
        Requirement(
            "evenly spaced times, from the noisiest down",
            (
                Case("T = 1000, S = 20", _sizes(1000, 20)),
                Case("T = 10, S = 4", _sizes(10, 4)),
                Case("T = 1000, S = 100", _sizes(1000, 100)),
                Case("drawn T and S", _drawn),
                # where floats that are cut off miss: linspace in float32, the same in float64, Python's fractions
                Case("T = 1000, S = 220", _sizes(1000, 220)),
                Case("T = 1009, S = 241", _sizes(1009, 241)),
                Case("T = 375, S = 155", _sizes(375, 155)),
                Case("T = 997, S = 13", _sizes(997, 13), shown=False),
                Case("T = 1156, S = 276", _sizes(1156, 276), shown=False),
                Case("T = 601, S = 301", _sizes(601, 301), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "the shortest and the longest schedule",
            (
                Case("a single step", _sizes(1000, 1)),
                Case("two steps", _sizes(50, 2)),
                Case("all the steps, S = T", _sizes(12, 12)),
                Case("T = 1 and S = 1", _sizes(1, 1)),
            ),
        ),
    ),
    mistakes=(
        Mistake("Your times rise. Sampling begins with the noisiest time: T - 1 comes first.", _ascending),
        Mistake(
            "You count in steps of T // S from 0, so the first time is below T - 1: the sampler would start from noise that is not pure.",
            _leading,
        ),
        Mistake(
            "Your last time is not 0: you take the end of each of S blocks. The last of the S times has to be 0.",
            _trailing,
        ),
        Mistake("Your times begin with T. Times run from 0 to T - 1.", _from_T),
        Mistake("You round to the nearest whole number. Here the times are rounded down.", _rounded),
        Mistake("You round up. Here the times are rounded down.", _rounded_up),
        Mistake(
            "For S = 1 you return time 0. The one step has to start from pure noise, at T - 1.",
            _one_step_zero,
        ),
        Mistake("Your times are floats. Return whole numbers, int64: they are indices.", _floats),
        Mistake("You return 0 to S - 1. These are positions in the schedule, not times.", _index_only),
        Mistake(
            "You append -1 for the clean picture. The schedule holds times at which the model is asked: S of them.",
            _one_more,
        ),
        Mistake("You return S + 1 times. The model is to be asked S times.", _one_too_many),
        Mistake(
            "You divide T - 1 by S. Between S times there are S - 1 gaps, and the last time is 0.",
            _without_end,
        ),
        Mistake("You return the S noisiest times. They have to be spread over all T.", _last_S),
        Mistake("You return a list. Return a tensor, so that it can index alpha-bar.", _list),
        Mistake(
            "Your times are spaced by squares, another schedule of the paper. Here the spacing is even.",
            _quadratic,
        ),
        Mistake(
            "You cut floats off: where a time is a whole number, its float may lie a little below, and the result is too small by 1. "
            "Count with whole numbers and //.",
            _floats_cut_off,
            recognise=_one_below_whole_numbers,
        ),
        Mistake(
            "You round the gap down and repeat it, so the times do not reach 0. Round each time, not the gap.",
            _equal_gaps,
        ),
        Mistake(
            "Your gap is T // S. Between S times from T - 1 to 0 there are S - 1 gaps: round each time, not the gap.",
            _leading_from_top,
        ),
        Mistake(
            "You take the start of each of S blocks, so the first time is below T - 1. The first has to be T - 1.",
            _blocks,
        ),
        Mistake("Your times are int32. Return int64, as all indices in PyTorch.", _int32),
    ),
)
