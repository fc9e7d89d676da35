"""The exercise ``hbm_flash`` of the lesson flash_attention/04_io_and_gpu."""

from __future__ import annotations

import math
from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from utils.reference import flash_attention as reference


def _sizes(N: int, d: int, M: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"N": N, "d": d, "M": M}


def _drawn(source: Draw) -> Inputs:
    d = source.integer(20, 90)
    return {
        "N": source.integer(1000, 5000),
        "d": d,
        "M": 4 * d * source.integer(10, 200) + source.integer(1, 4 * d - 1),
    }


def _count(N: int, d: int, Br: int) -> int:
    return 2 * N * d + N + math.ceil(N / Br) * 2 * N * d


def _keys_once(N: int, d: int, M: int) -> int:
    return 4 * N * d + N


def _only_keys(N: int, d: int, M: int) -> int:
    return math.ceil(N / (M // (4 * d))) * 2 * N * d


def _keys_without_values(N: int, d: int, M: int) -> int:
    return 2 * N * d + N + math.ceil(N / (M // (4 * d))) * N * d


def _lse_forgotten(N: int, d: int, M: int) -> int:
    return _count(N, d, M // (4 * d)) - N


def _tiles_of_rows_only(N: int, d: int, M: int) -> int:
    return _count(N, d, M // d)


def _tiles_not_rounded(N: int, d: int, M: int) -> int:
    return round(2 * N * d + N + N / (M // (4 * d)) * 2 * N * d)


def _tiles_rounded_down(N: int, d: int, M: int) -> int:
    return 2 * N * d + N + N // (M // (4 * d)) * 2 * N * d


def _rows_rounded_up(N: int, d: int, M: int) -> int:
    return _count(N, d, math.ceil(M / (4 * d)))


def _rows_not_rounded(N: int, d: int, M: int) -> int:
    return 2 * N * d + N + math.ceil(N / (M / (4 * d))) * 2 * N * d


def _order_of_the_theorem(N: int, d: int, M: int) -> int:
    return N * N * d * d // M


def _queries_each_time(N: int, d: int, M: int) -> int:
    n = math.ceil(N / (M // (4 * d)))
    return N * d + N + n * 3 * N * d


def _output_each_time(N: int, d: int, M: int) -> int:
    n = math.ceil(N / (M // (4 * d)))
    return 2 * N * d + n * (3 * N * d + 4 * N)


def _one_row_at_a_time(N: int, d: int, M: int) -> int:
    return _count(N, d, 1)


hbm_flash = Exercise(
    reference.hbm_flash,
    requirements=(
        Requirement(
            "numbers that are read and written",
            (
                Case("1024 tokens, 64 channels, 8192 numbers", _sizes(1024, 64, 8192)),
                Case("4096 tokens, 128 channels, 100000 numbers", _sizes(4096, 128, 100_000)),
                Case("1000 tokens, 30 channels, 7777 numbers", _sizes(1000, 30, 7777)),
                Case("a tile of one row", _sizes(50, 8, 33)),
                Case("everything fits", _sizes(100, 16, 50_000)),
                Case("drawn", _drawn, shown=False),
            ),
            points=3,
        ),
    ),
    mistakes=(
        Mistake("You read k and v once. Each tile of queries reads all of them again.", _keys_once),
        Mistake("You leave out what is moved once: q in, o out, lse out.", _only_keys),
        Mistake("Each tile of queries reads k and v: 2 N d numbers, not N d.", _keys_without_values),
        Mistake("You forget that lse is written: N numbers.", _lse_forgotten),
        Mistake(
            "Your tile of queries fills the whole memory. Tiles of q, k, v and o share it: M // (4 d) rows each.",
            _tiles_of_rows_only,
        ),
        Mistake(
            "You divide N by the rows of a tile and do not round up. The last, smaller tile reads all keys, too.",
            _tiles_not_rounded,
        ),
        Mistake(
            "You round the number of tiles down. The last, smaller tile reads all keys, too.",
            _tiles_rounded_down,
        ),
        Mistake(
            "You round the rows of a tile up. Four tiles of that size do not fit into M numbers.",
            _rows_rounded_up,
        ),
        Mistake(
            "You divide N by M / (4 d) and round once. A tile has a whole number of rows: round M / (4 d) down first.",
            _rows_not_rounded,
        ),
        Mistake("You return the order of growth from the theorem. Count the numbers.", _order_of_the_theorem),
        Mistake(
            "You read all of q again for each tile. A tile of queries is read once, with the loop over keys inside.",
            _queries_each_time,
        ),
        Mistake(
            "You count the loop order of the first paper, keys outside: there q, o and the statistics move in each round. "
            "Here queries are outside.",
            _output_each_time,
        ),
        Mistake("Your tiles have one row. They have M // (4 d) rows.", _one_row_at_a_time),
    ),
)
