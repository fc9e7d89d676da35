"""The exercise ``hbm_standard`` of the lesson flash_attention/04_io_and_gpu."""

from __future__ import annotations

from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from utils.reference import flash_attention as reference


def _sizes(N: int, d: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"N": N, "d": d}


def _drawn(source: Draw) -> Inputs:
    return {"N": source.integer(100, 5000), "d": source.integer(20, 90)}


def _scores_once(N: int, d: int) -> int:
    return 4 * N * d + N * N


def _scores_written_only(N: int, d: int) -> int:
    return 4 * N * d + 2 * N * N


def _weights_not_read(N: int, d: int) -> int:
    return 4 * N * d + 3 * N * N


def _scores_only(N: int, d: int) -> int:
    return 4 * N * N


def _output_forgotten(N: int, d: int) -> int:
    return 3 * N * d + 4 * N * N


def _inputs_each_time(N: int, d: int) -> int:
    return 5 * N * d + 4 * N * N


def _multiplications(N: int, d: int) -> int:
    return 2 * N * N * d


def _in_bytes(N: int, d: int) -> int:
    return 4 * (4 * N * d + 4 * N * N)


def _in_half_bytes(N: int, d: int) -> int:
    return 2 * (4 * N * d + 4 * N * N)


def _two_passes_of_softmax(N: int, d: int) -> int:
    return 4 * N * d + 5 * N * N


hbm_standard = Exercise(
    reference.hbm_standard,
    requirements=(
        Requirement(
            "numbers that are read and written",
            (
                Case("1024 tokens, 64 channels", _sizes(1024, 64)),
                Case("4096 tokens, 128 channels", _sizes(4096, 128)),
                Case("more channels than tokens", _sizes(10, 64)),
                Case("one token, one channel", _sizes(1, 1)),
                Case("drawn", _drawn, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake("You count s once. It is written and read, and so is p: four times N^2.", _scores_once),
        Mistake(
            "You count what is written and not what is read back: s and p go both ways.", _scores_written_only
        ),
        Mistake(
            "One of the four passes over N^2 numbers is missing: s out, s in, p out, p in.", _weights_not_read
        ),
        Mistake("You leave out q, k, v and o. Each is N d numbers.", _scores_only),
        Mistake(
            "You count three tensors of N d numbers. q, k and v are read, and o is written.",
            _output_forgotten,
        ),
        Mistake(
            "You count five tensors of N d numbers. q, k and v are read once, and o is written once.",
            _inputs_each_time,
        ),
        Mistake("You count multiplications. Count numbers that move between the memories.", _multiplications),
        Mistake("You count bytes of float32. Count numbers.", _in_bytes),
        Mistake("You count bytes of a 16-bit type. Count numbers.", _in_half_bytes),
        Mistake("You read s twice for the softmax. A row of s is read once here.", _two_passes_of_softmax),
    ),
)
