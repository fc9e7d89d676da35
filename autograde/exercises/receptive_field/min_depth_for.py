"""The exercise ``min_depth_for`` of the lesson receptive_field/02_probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.receptive_field.counting import ended
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import receptive_field as reference

_DEPTH = "the smallest depth"
_NEVER = "refuses what no depth can do"


def depth(implementation: Implementation, inputs: Inputs) -> Any:
    """The result; a loop without an end is stopped."""
    return ended(lambda: implementation(*inputs.values()))


def refuses(implementation: Implementation, inputs: Inputs) -> dict[str, str]:
    """What was returned or raised, in words; a loop without an end is stopped."""
    try:
        return {"what happened": f"returned {depth(implementation, inputs)!r:.40}"}
    except ValueError:
        return {"what happened": "raised ValueError"}


def _asked(rf: int, k: int, s: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"rf": rf, "k": k, "s": s}


def _random(source: Draw) -> Inputs:
    k, s, n = source.integer(3, 7), source.integer(2, 3), source.integer(4, 7)
    reached = 1 + (k - 1) * (s**n - 1) // (s - 1)
    return {"rf": reached - source.integer(1, 3), "k": k, "s": s}


def _depth(
    rf: int, k: int, s: int, *, seen: int = 1, step: int = -1, own: bool = False, strict: bool = False
) -> int:
    """The loop, with switches for what goes wrong."""
    n, jump = 0, 1
    while seen < rf or (strict and seen == rf):
        jump = jump * s if own else jump
        seen += (k + step) * jump
        jump = jump if own else jump * s
        n += 1
    return n


def _checked(rf: int, k: int) -> None:
    if k == 1 and rf > 1:
        raise ValueError("never")


def _stride_ignored(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, k, 1)


def _own_stride(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, k, s, own=True)


def _strictly_more(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, k, s, strict=True)


def _whole_kernels(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, k, s, step=0)


def _half_kernels(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, 2 * (k // 2) + 1, s)


def _from_the_kernel(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, k, s, seen=k)


def _at_least_one(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return max(1, _depth(rf, k, s))


def _one_less(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return max(0, _depth(rf, k, s) - 1)


def _one_more(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _depth(rf, k, s) + 1


def _logarithm(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    if rf <= 1:
        return 0
    if s == 1:
        return math.ceil((rf - 1) / (k - 1))
    return math.ceil(math.log(1 + (rf - 1) * (s - 1) / (k - 1)) / math.log(s))


def _logarithm_with_a_margin(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    if rf <= 1 or s == 1:
        return _depth(rf, k, s)
    return math.ceil(math.log(1 + (rf - 1) * (s - 1) / (k - 1)) / math.log(s) - 1e-9)


def _rounded_down(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    if rf <= 1:
        return 0
    if s == 1:
        return (rf - 1) // (k - 1)
    return math.floor(math.log(1 + (rf - 1) * (s - 1) / (k - 1)) / math.log(s) + 1e-9)


def _jump_alone(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    if s == 1:
        return _depth(rf, k, s)
    n = 0
    while s**n < rf:
        n += 1
    return n


def _power_of_kernel(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    n = 0
    while k > 1 and k**n < rf:
        n += 1
    return n


def _zero_for_never(rf: int, k: int, s: int) -> int:
    return 0 if k == 1 else _depth(rf, k, s)


def _none_for_never(rf: int, k: int, s: int) -> int | None:
    return None if k == 1 and rf > 1 else _depth(rf, k, s)


def _minus_one_for_never(rf: int, k: int, s: int) -> int:
    return -1 if k == 1 and rf > 1 else _depth(rf, k, s)


def _never_ends(rf: int, k: int, s: int) -> int:
    n, seen, jump = 0, 1, 1
    while seen < rf:
        seen += (k - 1) * jump
        jump *= s
        n += 1
    return n


def _no_end(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Only one tap leads to a loop without an end."""
    stopped = {key[0] for key, entry in observed.items() if entry.raised is not None}
    kinds = {entry.raised.kind for entry in observed.values() if entry.raised is not None}
    return stopped == {_NEVER} and kinds == {"NoEnd"}


def _refuses_too_much(rf: int, k: int, s: int) -> int:
    if k == 1:
        raise ValueError("never")
    return _depth(rf, k, s)


def _refuses_one_pixel(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """One pixel is refused where there is one tap, and nothing else is."""
    stopped = [(key[1], entry.raised.kind) for key, entry in observed.items() if entry.raised is not None]
    return stopped == [("1 pixel, one tap", "ValueError"), ("1 pixel, one tap, no stride", "ValueError")]


def _refuses_small_strides(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return _logarithm(rf, k, s) if s > 1 else math.ceil((rf - 1) / (k - s) / (s - 1))


def _divides_by_zero(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Stride 1 stops with a division by zero, and strides above 1 are right; whatever one tap does."""
    stopped = {
        key[1]: entry.raised.kind
        for key, entry in observed.items()
        if key[0] == _DEPTH and "one tap" not in key[1] and entry.raised is not None
    }
    ours = {case for requirement, case in observed if requirement == _DEPTH and case.endswith("stride 1")}
    right = observed[(_DEPTH, "32 pixels, kernel 3, stride 2")].value == 5
    return right and set(stopped) == ours and set(stopped.values()) == {"ZeroDivisionError"}


def _one_tap_divides_by_zero(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Only one tap stops, with a division by zero, and the rest is right."""
    stopped = {(key[0], entry.raised.kind) for key, entry in observed.items() if entry.raised is not None}
    right = [("32 pixels, kernel 3, stride 2", 5), ("224 pixels, kernel 3, stride 1", 112)]
    right += [("225 pixels exactly, kernel 3, stride 1", 112), ("31 pixels exactly, kernel 3, stride 2", 4)]
    otherwise = all(observed[(_DEPTH, case)].value == depth for case, depth in right)
    return otherwise and stopped in (
        {(_NEVER, "ZeroDivisionError")},
        {(_NEVER, "ZeroDivisionError"), (_DEPTH, "ZeroDivisionError")},
    )


def _divided_in_floats(rf: int, k: int, s: int) -> int:
    _checked(rf, k)
    return math.ceil((rf - 1) / (k - 1)) if s == 1 and k > 1 else _depth(rf, k, s)


def _one_tap_divided(rf: int, k: int, s: int) -> int:
    return -(-(rf - 1) // (k - 1)) if s == 1 or (k == 1 and rf > 1) else _depth(rf, k, s)


min_depth_for = Exercise(
    reference.min_depth_for,
    requirements=(
        Requirement(
            _DEPTH,
            (
                Case("31 pixels exactly, kernel 3, stride 2", _asked(31, 3, 2)),
                Case("32 pixels, kernel 3, stride 2", _asked(32, 3, 2)),
                Case("224 pixels, kernel 3, stride 1", _asked(224, 3, 1)),
                Case("225 pixels exactly, kernel 3, stride 1", _asked(225, 3, 1)),
                Case("125 pixels exactly, kernel 5, stride 5", _asked(125, 5, 5)),
                Case("16 pixels exactly, kernel 2, stride 2", _asked(16, 2, 2)),
                Case("1000 pixels, kernel 7, stride 3", _asked(1000, 7, 3)),
                Case("2 pixels", _asked(2, 5, 2)),
                Case("17 pixels, kernel 2, stride 2", _asked(17, 2, 2)),
                Case("2^61 pixels, kernel 3, stride 2", _asked(2**61, 3, 2)),
                Case("3 * 2^60 + 2 pixels, kernel 2^60 + 1, stride 1", _asked(3 * 2**60 + 2, 2**60 + 1, 1)),
                Case("1 pixel: no layer is needed", _asked(1, 3, 2)),
                Case("1 pixel, one tap", _asked(1, 1, 2)),
                Case("1 pixel, one tap, no stride", _asked(1, 1, 1)),
                Case("13 pixels exactly, kernel 4, stride 1", _asked(13, 4, 1), shown=False),
                Case("drawn at random", _random, shown=False),
            ),
            depth,
            points=2,
        ),
        Requirement(
            _NEVER,
            (
                Case("one tap, 2 pixels", _asked(2, 1, 1)),
                Case("one tap, 9 pixels, stride 2", _asked(9, 1, 2)),
            ),
            refuses,
        ),
    ),
    mistakes=(
        Mistake("You left out the stride: layer l adds (k - 1) s^(l - 1) pixels.", _stride_ignored),
        Mistake(
            "Each layer steps with its own stride here. The first layer adds k - 1 pixels, the second (k - 1) s.",
            _own_stride,
        ),
        Mistake(
            "You add a layer although rf pixels are seen exactly: stop at >=. And begin with one pixel, not with 0.",
            _strictly_more,
        ),
        Mistake("You add k jumps for each layer. It adds k - 1.", _whole_kernels),
        Mistake(
            "You add k // 2 jumps on both sides. For an even kernel these are k jumps, and a layer adds k - 1.",
            _half_kernels,
        ),
        Mistake(
            "You start with k pixels, and do not count that layer. Without any layer, a pixel sees one pixel.",
            _from_the_kernel,
        ),
        Mistake("You return at least one layer. For one pixel none is needed.", _at_least_one),
        Mistake("Your depth is one too small: its receptive field has fewer than rf pixels.", _one_less),
        Mistake("Your depth is one too large: one layer fewer is enough.", _one_more),
        Mistake(
            "You take a logarithm and round up. Where rf is reached exactly, its rounding error can cost a layer. Compare whole numbers.",
            _logarithm,
        ),
        Mistake(
            "You take a logarithm with a margin. A float has 16 digits, so for large numbers no margin is right. Compare whole numbers.",
            _logarithm_with_a_margin,
        ),
        Mistake(
            "You round the depth down. The smallest depth with at least rf pixels is rounded up.",
            _rounded_down,
        ),
        Mistake(
            "You compare the jump s^n with rf. The receptive field is 1 + (k - 1) (s^n - 1) / (s - 1).",
            _jump_alone,
        ),
        Mistake("You compare k^n with rf. Windows overlap, so widths do not multiply.", _power_of_kernel),
        Mistake(
            "With one tap you return 0 layers. They see one pixel, however many they are: raise ValueError.",
            _zero_for_never,
        ),
        Mistake(
            "With one tap you return None. Raise ValueError, so that nobody goes on with it.", _none_for_never
        ),
        Mistake(
            "With one tap you return -1. Raise ValueError, so that nobody goes on with it.",
            _minus_one_for_never,
        ),
        Mistake(
            "With one tap your loop never ends, because such layers see one pixel, however many they are. Raise ValueError before it.",
            _never_ends,
            recognise=_no_end,
        ),
        Mistake(
            "You refuse one tap also for one pixel. That is reached without any layer: return 0.",
            _refuses_too_much,
            recognise=_refuses_one_pixel,
        ),
        Mistake(
            "Stride 1 divides by zero. There each layer adds k - 1 pixels: treat it by itself, or count in a loop.",
            _refuses_small_strides,
            recognise=_divides_by_zero,
        ),
        Mistake(
            "With one tap you divide by zero, and ZeroDivisionError is no ValueError. Ask for k == 1 first, and raise ValueError.",
            _one_tap_divided,
            recognise=_one_tap_divides_by_zero,
        ),
        Mistake(
            "For stride 1 you divide with / and round up. A float has 16 digits: for large numbers divide with //, -(-a // b) rounds up.",
            _divided_in_floats,
        ),
    ),
)
