"""The exercise ``visible_tiles`` of the lesson flash_attention/02_tiling."""

from __future__ import annotations

import math
from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from utils.reference import flash_attention as reference


def _sizes(N: int, M: int, Br: int, Bc: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"N": N, "M": M, "Br": Br, "Bc": Bc}


def _drawn(source: Draw) -> Inputs:
    return {
        "N": source.integer(100, 400),
        "M": source.integer(401, 700),
        "Br": source.integer(5, 40),
        "Bc": source.integer(41, 60),
    }


def _drawn_short(source: Draw) -> Inputs:
    return {
        "N": source.integer(401, 700),
        "M": source.integer(100, 400),
        "Br": source.integer(5, 40),
        "Bc": source.integer(41, 60),
    }


def _count(N: int, M: int, Br: int, Bc: int, shift: int = 0, offset: int = 1, first: bool = False) -> int:
    total = 0
    for i in range(0, N, Br):
        row = i if first else min(i + Br, N) - 1
        last = row + offset * (M - N) + shift
        total += min(max(0, last // Bc + 1), math.ceil(M / Bc))
    return total


def _all(N: int, M: int, Br: int, Bc: int) -> int:
    return math.ceil(N / Br) * math.ceil(M / Bc)


def _half(N: int, M: int, Br: int, Bc: int) -> int:
    return _all(N, M, Br, Bc) // 2


def _triangle(N: int, M: int, Br: int, Bc: int) -> int:
    n = math.ceil(N / Br)
    return n * (n + 1) // 2


def _first_row(N: int, M: int, Br: int, Bc: int) -> int:
    return _count(N, M, Br, Bc, first=True)


def _no_offset(N: int, M: int, Br: int, Bc: int) -> int:
    return _count(N, M, Br, Bc, offset=0)


def _offset_reversed(N: int, M: int, Br: int, Bc: int) -> int:
    return _count(N, M, Br, Bc, offset=-1)


def _one_key_too_many(N: int, M: int, Br: int, Bc: int) -> int:
    return _count(N, M, Br, Bc, shift=1)


def _one_key_short(N: int, M: int, Br: int, Bc: int) -> int:
    return _count(N, M, Br, Bc, shift=-1)


def _sides_exchanged(N: int, M: int, Br: int, Bc: int) -> int:
    return _count(N, M, Bc, Br)


def _whole_tiles(N: int, M: int, Br: int, Bc: int) -> int:
    return sum(max(0, (min(i + Br, N) - 1 + M - N + 1) // Bc) for i in range(0, N, Br))


def _negative(N: int, M: int, Br: int, Bc: int) -> int:
    return sum((min(i + Br, N) - 1 + M - N) // Bc + 1 for i in range(0, N, Br))


def _ragged_rows_dropped(N: int, M: int, Br: int, Bc: int) -> int:
    return sum(max(0, (i + Br - 1 + M - N) // Bc + 1) for i in range(0, N - Br + 1, Br))


def _pairs(N: int, M: int, Br: int, Bc: int) -> int:
    return sum(max(0, i + M - N + 1) for i in range(N))


def _last_tile_too_long(N: int, M: int, Br: int, Bc: int) -> int:
    return sum(max(0, (i + Br - 1 + M - N) // Bc + 1) for i in range(0, N, Br))


visible_tiles = Exercise(
    reference.visible_tiles,
    requirements=(
        Requirement(
            "as many queries as keys",
            (
                Case("64 and 64, tiles of 8 by 8", _sizes(64, 64, 8, 8)),
                Case("64 and 64, tiles of 16 by 4", _sizes(64, 64, 16, 4)),
                Case("60 and 60, tiles of 4 by 12", _sizes(60, 60, 4, 12)),
                Case("50 and 50, tiles of 8 by 6: ragged", _sizes(50, 50, 8, 6)),
                Case("one tile", _sizes(5, 5, 9, 9)),
                Case("17 and 17, tiles of 16 by 1", _sizes(17, 17, 16, 1)),
            ),
            points=2,
        ),
        Requirement(
            "different lengths",
            (
                Case("one query, 100 keys", _sizes(1, 100, 16, 16)),
                Case("20 queries, 53 keys", _sizes(20, 53, 8, 6)),
                Case("53 queries, 20 keys: the first ones see nothing", _sizes(53, 20, 8, 6)),
                Case("more keys, drawn", _drawn, shown=False),
                Case("more queries, drawn", _drawn_short, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You count all tiles. Those above the diagonal have no visible pair and need no visit.", _all
        ),
        Mistake("You halve the number of tiles. Tiles that the diagonal crosses count in full.", _half),
        Mistake(
            "You count a triangle of n (n + 1) / 2 tiles. This is right only for square tiles and equal lengths.",
            _triangle,
        ),
        Mistake(
            "You go by the first query of each row of tiles. The last one sees most: a tile counts if any query sees a key of it.",
            _first_row,
        ),
        Mistake("You forget the offset: query i sees the keys up to i + M - N.", _no_offset),
        Mistake("Your offset has the wrong sign: query i sees the keys up to i + M - N.", _offset_reversed),
        Mistake(
            "You count one key too many: the last query of the tile sees key i + M - N, not the one after it.",
            _one_key_too_many,
        ),
        Mistake("You count one key too few: the key i + M - N itself is visible.", _one_key_short),
        Mistake("You exchange Br and Bc. Br counts queries, Bc counts keys.", _sides_exchanged),
        Mistake(
            "You count only tiles that are visible to their last column. A tile counts if one pair in it is visible.",
            _whole_tiles,
        ),
        Mistake(
            "A row of tiles that sees nothing makes your sum smaller. It counts zero: take max(0, ...).",
            _negative,
        ),
        Mistake("You leave out the last row of tiles where N is no multiple of Br.", _ragged_rows_dropped),
        Mistake("You count pairs of a query and a key. Count tiles.", _pairs),
        Mistake(
            "In the last row of tiles you go past the last query. Its last row is min(i + Br, N) - 1.",
            _last_tile_too_long,
        ),
    ),
)
