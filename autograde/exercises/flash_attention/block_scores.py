"""The exercise ``block_scores`` of the lesson flash_attention/02_tiling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import (
    LIBRARY,
    double,
    enough_memory,
    half,
    in_bf16,
    keeps_digits,
    metered,
    rounded_to_bf16,
    single_precision,
    strided,
)
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import flash_attention as reference

_HALF = "float32 for bfloat16 inputs"


def _tile(
    N: int,
    M: int,
    d: int,
    i: int,
    j: int,
    Br: int,
    Bc: int,
    causal: bool = False,
    heads: tuple[int, ...] = (),
) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "q": source.normal(*heads, N, d),
        "k": source.normal(*heads, M, d),
        "scale": 0.3,
        "causal": causal,
        "i": i,
        "j": j,
        "Br": Br,
        "Bc": Bc,
    }


def _cut(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int,
    fill: float = -math.inf, strict: bool = False, offset: int = 1, local: bool = False,
) -> Tensor:  # fmt: skip
    """The tile, with switches for what goes wrong."""
    N, M = q.shape[-2], k.shape[-2]
    rows = torch.arange(i * Br, min((i + 1) * Br, N), device=q.device)
    cols = torch.arange(j * Bc, min((j + 1) * Bc, M), device=q.device)
    a, b = q[..., i * Br : (i + 1) * Br, :], k[..., j * Bc : (j + 1) * Bc, :]
    kind = torch.promote_types(q.dtype, torch.float32)
    s = scale * a.to(kind) @ b.to(kind).mT
    if local:
        rows, cols = rows - i * Br, cols - j * Bc
    last = rows[:, None] + offset * (M - N)
    hidden = cols[None, :] >= last if strict else cols[None, :] > last
    return s.masked_fill(hidden, fill) if causal else s


def _not_scaled(q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int) -> Tensor:
    return _cut(q, k, 1.0, causal, i, j, Br, Bc)


def _scaled_twice(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale * scale, causal, i, j, Br, Bc)


def _own_scale(q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int) -> Tensor:
    return _cut(q, k, q.shape[-1] ** -0.5, causal, i, j, Br, Bc)


def _all_visible(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, False, i, j, Br, Bc)


def _always_causal(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, True, i, j, Br, Bc)


def _own_key_hidden(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc, strict=True)


def _no_offset(q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc, offset=0)


def _offset_reversed(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc, offset=-1)


def _within_the_tile(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc, offset=0, local=True)


def _hidden_is_zero(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc, fill=0.0)


def _hidden_is_a_number(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc, fill=-1e9)


def _sides_exchanged(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Bc, Br)


def _indices_exchanged(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    return _cut(q, k, scale, causal, j, i, Br, Bc)


def _transposed(q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int) -> Tensor:
    return _cut(q, k, scale, causal, i, j, Br, Bc).mT


def _in_bf16(q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int) -> Tensor:
    s = scale * q[..., i * Br : (i + 1) * Br, :] @ k[..., j * Bc : (j + 1) * Bc, :].mT
    shape = _cut(q, k, scale, causal, i, j, Br, Bc)
    return s.to(shape.dtype).masked_fill(shape == -math.inf, -math.inf)


def _cut_out_of_all(
    q: Tensor, k: Tensor, scale: float, causal: bool, i: int, j: int, Br: int, Bc: int
) -> Tensor:
    kind = torch.promote_types(q.dtype, torch.float32)
    N, M = q.shape[-2], k.shape[-2]
    s = scale * q.to(kind) @ k.to(kind).mT
    if causal:
        s = s.masked_fill(torch.ones(N, M, dtype=torch.bool, device=q.device).triu(M - N + 1), -math.inf)
    return s[..., i * Br : (i + 1) * Br, j * Bc : (j + 1) * Bc]


block_scores = Exercise(
    reference.block_scores,
    requirements=(
        Requirement(
            "the tile of scale * q k^T",
            (
                Case("a tile of 3 by 5", _tile(11, 17, 4, 1, 2, 3, 5)),
                Case("the last tile is smaller in both directions", _tile(11, 17, 4, 3, 3, 3, 5)),
                Case("the only tile, larger than everything", _tile(4, 3, 2, 0, 0, 16, 16)),
                Case("one query, one channel", _tile(1, 9, 1, 0, 1, 2, 4)),
                Case("2 batches of 3 heads", _tile(6, 8, 3, 1, 0, 4, 4, heads=(2, 3))),
                Case("inputs that are not contiguous", strided(_tile(9, 9, 3, 1, 2, 4, 4))),
                Case("in float64", double(_tile(5, 7, 3, 1, 1, 3, 3))),
                Case("a tile far from the corner", _tile(100, 130, 8, 5, 7, 16, 16), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "hides keys: j <= i + M - N is visible",
            (
                Case("as many keys as queries, on the diagonal", _tile(9, 9, 3, 1, 1, 4, 4, True)),
                Case("below the diagonal", _tile(9, 9, 3, 2, 0, 4, 4, True)),
                Case("above the diagonal", _tile(9, 9, 3, 0, 2, 4, 4, True)),
                Case("more keys than queries, the first keys", _tile(5, 12, 3, 1, 0, 3, 4, True)),
                Case("more keys than queries", _tile(5, 12, 3, 1, 2, 3, 4, True)),
                Case("more queries than keys: the first ones see nothing", _tile(12, 5, 3, 1, 0, 5, 4, True)),
                Case("2 heads", _tile(6, 6, 2, 1, 1, 4, 3, True, heads=(2,))),
                Case("40 queries, 61 keys", _tile(40, 61, 4, 2, 3, 12, 10, True), shown=False),
            ),
            points=2,
        ),
        keeps_digits(_tile(5, 7, 3, 1, 1, 3, 3)),
        Requirement(_HALF, (Case("bfloat16, 64 channels", in_bf16(_tile(9, 10, 64, 1, 1, 4, 4))),), half),
        Requirement("gradients", (Case("gradients, a ragged tile", _tile(7, 8, 3, 1, 1, 4, 5)),), gradients),
        Requirement(
            "no more than a tile",
            (Case("256 queries, 256 keys, tiles of 16", _tile(256, 256, 4, 7, 3, 16, 16, True)),),
            metered,
            bounds={
                "largest tensor": Bound(
                    most=enough_memory,
                    unit="bytes in the largest tensor",
                    why="Cut the rows out of q and k first, and multiply what is left. A mask has the size of the tile, too.",
                    naive=lambda inputs: 4 * inputs["q"].shape[-2] * inputs["k"].shape[-2],
                )
            },
        ),
    ),
    mistakes=(
        Mistake("You do not multiply by scale. The scores are scale * q k^T.", _not_scaled),
        Mistake("You multiply by scale twice. Once is right: scale * q k^T.", _scaled_twice),
        Mistake("You take 1 / sqrt(d) and not the scale that is handed in.", _own_scale),
        Mistake("You ignore causal: a query sees keys that come after it.", _all_visible),
        Mistake("You hide keys also where causal is False.", _always_causal),
        Mistake(
            "You hide the last visible key, too. The key j = i + M - N is visible: hide only j > i + M - N.",
            _own_key_hidden,
        ),
        Mistake(
            "You compare j with i. With different lengths the last query sees the last key: compare with i + M - N.",
            _no_offset,
        ),
        Mistake("Your offset has the wrong sign: it is M - N, keys minus queries.", _offset_reversed),
        Mistake(
            "Your mask compares positions within the tile. Add the start of the tile: the row i * Br, the column j * Bc.",
            _within_the_tile,
        ),
        Mistake("Your hidden scores are 0, and exp(0) is 1. They have to be -inf.", _hidden_is_zero),
        Mistake(
            "Your hidden scores are a large negative number. A row that sees nothing then looks like one that sees all keys "
            "equally: use -inf.",
            _hidden_is_a_number,
        ),
        Mistake(
            "You exchange Br and Bc. Br counts queries, the rows; Bc counts keys, the columns.",
            _sides_exchanged,
        ),
        Mistake("You exchange i and j. i is the tile of queries, j that of keys.", _indices_exchanged),
        Mistake("Your tile is transposed: it has one row per query and one column per key.", _transposed),
        Mistake(
            "You multiply in bfloat16. Convert the two cuts to float32 first: sums of many terms lose too much otherwise.",
            _in_bf16,
            recognise=rounded_to_bf16(_HALF),
        ),
        Mistake(
            "Your tile is right, but you make all N times M scores and cut it out of them. Cut q and k, then multiply.",
            _cut_out_of_all,
        ),
        single_precision(reference.block_scores),
    ),
    forbids=LIBRARY,
)
