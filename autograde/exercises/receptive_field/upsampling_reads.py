"""The exercise ``upsampling_reads`` of the lesson receptive_field/01_formulas."""

from __future__ import annotations

from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from utils.reference import receptive_field as reference

Interval = tuple[int, int]


def _reads(k: int, s: int, p: int, first: int, last: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"k": k, "s": s, "p": p, "first": first, "last": last}


def _random(source: Draw) -> Inputs:
    s, first = source.integer(3, 6), source.integer(40, 90)
    return {
        "k": source.integer(s + 2, 3 * s),
        "s": s,
        "p": source.integer(1, 5),
        "first": first,
        "last": first + source.integer(1, 30),
    }


def _up(a: int, s: int) -> int:
    return -(-a // s)


def _first_rounded_down(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return (first + p - k + 1) // s, (last + p) // s


def _last_rounded_up(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first + p - k + 1, s), _up(last + p, s)


def _roundings_swapped(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return (first + p - k + 1) // s, _up(last + p, s)


def _cut_to_zero(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return int((first + p - k + 1) / s), int((last + p) / s)


def _last_cut_to_zero(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first + p - k + 1, s), int((last + p) / s)


def _nearest(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return round((first + p - k + 1) / s), round((last + p) / s)


def _padding_ignored(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first - k + 1, s), last // s


def _padding_subtracted(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first - p - k + 1, s), (last - p) // s


def _as_convolution(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return first * s - p, last * s - p + k - 1


def _kernel_ignored(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first + p, s), (last + p) // s


def _kernel_ignored_rounded_down(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return (first + p) // s, (last + p) // s


def _kernel_behind(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first + p, s), (last + p + k - 1) // s


def _whole_kernel(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first + p - k, s), (last + p) // s


def _not_negative(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return max(_up(first + p - k + 1, s), 0), (last + p) // s


def _other_order(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return (last + p) // s, _up(first + p - k + 1, s)


def _not_divided(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return first + p - k + 1, last + p


def _one_output(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first + p - k + 1, s), (first + p) // s


def _with_fractions(k: int, s: int, p: int, first: int, last: int) -> tuple[float, float]:
    return (first + p - k + 1) / s, (last + p) / s


def _padding_divided_alone(k: int, s: int, p: int, first: int, last: int) -> Interval:
    return _up(first - k + 1, s) + p, last // s + p


upsampling_reads = Exercise(
    reference.upsampling_reads,
    requirements=(
        Requirement(
            "the first and the last input",
            (
                Case("kernel 4, stride 2, padding 1, outputs 6 to 9", _reads(4, 2, 1, 6, 9)),
                Case("kernel 4, stride 2, padding 1, outputs 7 to 10", _reads(4, 2, 1, 7, 10)),
                Case("kernel 2, stride 2: one input for each output", _reads(2, 2, 0, 5, 5)),
                Case("kernel 5, stride 3, padding 2, one output", _reads(5, 3, 2, 13, 13)),
                Case("kernel 9, stride 4, output 0: inputs below 0", _reads(9, 4, 1, 0, 1)),
                Case("kernel 7, stride 3, outputs below 0", _reads(7, 3, 1, -5, 4)),
                Case("kernel 4, stride 2, padding 1, all outputs below 0", _reads(4, 2, 1, -9, -4)),
                Case("stride 1, kernel 3, padding 1", _reads(3, 1, 1, 4, 8)),
                Case("drawn at random", _random, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You round the first input down. It must reach at least output `first`: the smallest i with "
            "i s - p + k - 1 >= first, so round up.",
            _first_rounded_down,
        ),
        Mistake(
            "You round the last input up. It must not begin behind output `last`: the largest i with i s - p <= last, so round down.",
            _last_rounded_up,
        ),
        Mistake(
            "You round both the wrong way. The first input is rounded up, the last one down.",
            _roundings_swapped,
        ),
        Mistake(
            "You cut the fraction off, which rounds towards zero. The first input is rounded up, the last one down, also "
            "below 0.",
            _cut_to_zero,
        ),
        Mistake(
            "You cut the fraction of the last input off, which rounds up below 0. Round it down: // or math.floor.",
            _last_cut_to_zero,
        ),
        Mistake("You round to the nearest. The first input is rounded up, the last one down.", _nearest),
        Mistake("You left out the padding: input i writes from i s - p on.", _padding_ignored),
        Mistake(
            "You subtract the padding. Input i writes from i s - p on; solved for i, p is added to the output.",
            _padding_subtracted,
        ),
        Mistake(
            "That is what a convolution reads. A transposed one works the other way: input i writes to i s - p to "
            "i s - p + k - 1. Ask which i write to the outputs.",
            _as_convolution,
        ),
        Mistake(
            "You left out the kernel: input i writes to k outputs, up to i s - p + k - 1.", _kernel_ignored
        ),
        Mistake(
            "You left out the kernel. An input that begins before `first` may still reach it, because it writes k outputs.",
            _kernel_ignored_rounded_down,
        ),
        Mistake(
            "Your kernel reaches to the wrong side. An input writes to outputs from i s - p on, so an output is reached "
            "from inputs before it: the kernel belongs to the first input.",
            _kernel_behind,
        ),
        Mistake(
            "Your first input is k outputs away. It writes to k outputs, so the last of them is k - 1 away.",
            _whole_kernel,
        ),
        Mistake(
            "You cut the interval off at 0. Inputs in front of the first one are counted as well: return them.",
            _not_negative,
        ),
        Mistake("You return the last input first. The order is first, last.", _other_order),
        Mistake("You did not divide by the stride.", _not_divided),
        Mistake("You look at output `first` alone. The last input comes from output `last`.", _one_output),
        Mistake(
            "You return fractions. Inputs are whole: round the first one up and the last one down.",
            _with_fractions,
        ),
        Mistake(
            "You add the padding after dividing. Padding is counted in outputs: add it before.",
            _padding_divided_alone,
        ),
    ),
    returns=("the first input", "the last input"),
)
