"""The exercise ``effective_kernel`` of the lesson receptive_field/01_formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs, Observation
from utils.reference import receptive_field as reference


def _kernel(k: int, d: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"k": k, "d": d}


def _random_kernel(source: Draw) -> Inputs:
    return {"k": source.integer(4, 40), "d": source.integer(41, 90)}


def _product(k: int, d: int) -> int:
    return k * d


def _dilation_ignored(k: int, d: int) -> int:
    return k


def _sum(k: int, d: int) -> int:
    return k + d - 1


def _steps_only(k: int, d: int) -> int:
    return d * (k - 1)


def _holes_counted(k: int, d: int) -> int:
    return k + d * (k - 1)


def _three_taps(k: int, d: int) -> int:
    return k + 2 * (d - 1)


def _swapped(k: int, d: int) -> int:
    return k * (d - 1) + 1


def _one_too_many(k: int, d: int) -> int:
    return d * k + 1


def _holes_only(k: int, d: int) -> int:
    return (k - 1) * (d - 1)


def _taps_and_ends(k: int, d: int) -> int:
    return k + (k + 1) * (d - 1)


def _as_float(k: int, d: int) -> float:
    return float(d * (k - 1) + 1)


def _a_float(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """The number is right, and of the wrong type."""
    shown = {case: entry.value for (_, case), entry in observed.items()}
    return all(type(value) is float for value in shown.values()) and shown["3 taps, 2 apart"] == 5.0


def _gap_for_every_tap(k: int, d: int) -> int:
    return k * d - 1


effective_kernel = Exercise(
    reference.effective_kernel,
    requirements=(
        Requirement(
            "from the first tap to the last",
            (
                Case("3 taps, 2 apart", _kernel(3, 2)),
                Case("no dilation", _kernel(5, 1)),
                Case("one tap, whatever the dilation", _kernel(1, 6)),
                Case("2 taps, 7 apart", _kernel(2, 7)),
                Case("more taps than distance", _kernel(9, 4)),
                Case("drawn at random", _random_kernel, shown=False),
            ),
        ),
    ),
    mistakes=(
        Mistake("You multiply k by d. Between k taps there are only k - 1 distances.", _product),
        Mistake(
            "You return k, without the dilation. The taps are d positions apart, not one.", _dilation_ignored
        ),
        Mistake(
            "You add the dilation once. Each of the k - 1 distances between taps is d long, not only one of them.",
            _sum,
        ),
        Mistake(
            "You count the distances, d (k - 1), which lead from the first tap to the last. Positions are one more.",
            _steps_only,
        ),
        Mistake(
            "You take d for the number of holes between two taps. With dilation d there are d - 1 holes; d = 1 is a usual kernel.",
            _holes_counted,
        ),
        Mistake("You count two distances. That is right for 3 taps only; k taps have k - 1.", _three_taps),
        Mistake("You mixed up k and d: there are k - 1 distances of d positions each.", _swapped),
        Mistake(
            "You count k distances and one more. Between k taps there are k - 1 distances.", _one_too_many
        ),
        Mistake(
            "You count only the holes, (k - 1)(d - 1). The taps themselves are positions, too: add k.",
            _holes_only,
        ),
        Mistake(
            "You also count holes in front of the first tap and behind the last. Holes are only between taps.",
            _taps_and_ends,
        ),
        Mistake("You return a float. Positions are counted: return an int.", _as_float, recognise=_a_float),
        Mistake(
            "You count k distances less one position. It is k - 1 distances plus one position: d (k - 1) + 1.",
            _gap_for_every_tap,
        ),
    ),
)
