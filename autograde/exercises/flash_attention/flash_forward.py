"""The exercise ``flash_forward`` of the lesson flash_attention/02_tiling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Exercise, Mistake, Requirement, Tolerance
from autograde.exercises.flash_attention.common import (
    LIBRARY,
    ONE_TILE,
    TILE_COUNT,
    all_scores,
    attend,
    double,
    enough_memory,
    far_below,
    half,
    in_bf16,
    keeps_digits,
    most_multiplications,
    multiplied,
    ordered,
    rounded_to_bf16,
    saturated,
    single_precision,
    strided,
    tile_by_tile,
)
from utils.reference import flash_attention as reference

_HALF = "float32 accumulation for bfloat16 inputs"
Result = tuple[Tensor, Tensor]


def _shift(m: Tensor) -> Tensor:
    return torch.where(m == -math.inf, 0.0, m)


def _tiled(
    q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool, *, scale: float | None = None, offset: int = 1,
    strict: bool = False, start: float = -math.inf, rescale_o: bool = True, rescale_l: bool = True, inverse: bool = False,
    divide_in_tile: bool = False, divide: bool = True, guard: bool = True, ragged: bool = True, mask: bool = True,
    mask_after: bool = False, fill: float = -math.inf, lse: str = "right", no_maximum: bool = False, skip: str = "right",
    kind: torch.dtype | None = None, tile_maximum: bool = False, times_mask: bool = False,
) -> Result:  # fmt: skip
    """The tiled forward pass, with switches for what goes wrong."""
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    kind = kind or torch.promote_types(q.dtype, torch.float32)
    q, k, v = q.to(kind), k.to(kind), v.to(kind)
    shift = _shift if guard else (lambda m: m)
    outputs, sums = [], []
    for i in range(0, N, Br):
        rows = torch.arange(i, min(i + Br, N), device=q.device)
        m = torch.full_like(q[..., rows, 0], start)
        l, acc = torch.zeros_like(m), torch.zeros_like(q[..., rows, :])
        last = {
            "right": min(i + Br, N) - 1 + M - N,
            "first row": i + M - N,
            "strict": min(i + Br, N) - 2 + M - N,
            "none": M - 1,
        }[skip]
        for j in range(0, M, Bc):
            if causal and j > last:
                break
            if not ragged and j + Bc > M:
                break
            cols = torch.arange(j, min(j + Bc, M), device=q.device)
            s = (d**-0.5 if scale is None else scale) * q[..., rows, :] @ k[..., cols, :].mT
            limit = rows[:, None] + offset * (M - N)
            hidden = (cols[None, :] >= limit if strict else cols[None, :] > limit) & causal & mask
            if not mask_after:
                s = s.masked_fill(hidden, fill)
            new = torch.maximum(m, s.amax(-1)) if not no_maximum else torch.zeros_like(m)
            if tile_maximum:
                new = s.amax(-1)
            p = torch.exp(s - shift(new)[..., None])
            if times_mask:
                visible = (cols[None, :] <= rows[:, None] + M - N) | (not causal)
                full = (d**-0.5 if scale is None else scale) * q[..., rows, :] @ k[..., cols, :].mT
                p = torch.exp(full - shift(new)[..., None]) * visible
            if mask_after:
                p = p.masked_fill(hidden, 0.0)
            r = torch.exp(shift(new) - shift(m)) if inverse else torch.exp(m - shift(new))
            r = torch.ones_like(m) if no_maximum else r
            l = (r if rescale_l else 1) * l + p.sum(-1)
            acc = (r[..., None] if rescale_o else 1) * acc + p @ v[..., cols, :]
            if divide_in_tile:
                acc = acc / torch.where(l == 0, 1.0, l)[..., None]
            m = new
        divisor = torch.where(l == 0, 1.0, l)[..., None] if guard else l[..., None]
        outputs.append(acc / divisor if divide and not divide_in_tile else acc)
        sums.append({"right": m + torch.log(l), "log l": torch.log(l), "m": m, "m + l": m + l}[lse])
    return torch.cat(outputs, -2), torch.cat(sums, -1)


def _causal_ignored(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, False)


def _no_offset(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, offset=0, skip="none")


def _own_key_hidden(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, strict=True)


def _diagonal_tile_not_masked(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, mask=False)


def _tiles_by_first_row(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, skip="first row")


def _last_tile_skipped(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, skip="strict")


def _no_running_maximum(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, no_maximum=True)


def _maximum_from_zero(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    o, lse = _tiled(q, k, v, Br, Bc, causal, start=0.0)
    return o, lse


def _maximum_from_a_number(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, start=-1e4)


def _scaled_in_bf16(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q * q.shape[-1] ** -0.5, k, v, Br, Bc, causal, scale=1.0)


def _multiplied_by_the_mask(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, times_mask=True)


def _one_query_at_a_time(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    outputs, sums = [], []
    for i in range(q.shape[-2]):
        end = i + 1 + k.shape[-2] - q.shape[-2] if causal else k.shape[-2]
        row = q[..., i : i + 1, :]
        keys, values = (t[..., : max(1, end), :] for t in (k, v))
        o, lse = _tiled(row, keys, values, 1, max(1, end), False)
        outputs.append(o if end > 0 else torch.zeros_like(o))
        sums.append(lse if end > 0 else torch.full_like(lse, -math.inf))
    return torch.cat(outputs, -2), torch.cat(sums, -1)


def _maximum_of_the_tile(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, tile_maximum=True, rescale_o=False, rescale_l=False)


def _output_not_rescaled(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, rescale_o=False)


def _sum_not_rescaled(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, rescale_l=False)


def _nothing_rescaled(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, rescale_l=False, rescale_o=False)


def _inverse_factor(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, inverse=True)


def _divided_in_each_tile(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, divide_in_tile=True)


def _not_divided(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, divide=False)


def _ragged_tile_dropped(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, ragged=False)


def _ragged_tile_padded(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    """Keys of zeros fill the last tile, and count with score 0; the mask lets nobody see them where it is causal."""
    missing = -k.shape[-2] % Bc
    if causal:
        return _tiled(q, k, v, Br, Bc, causal)
    more = [
        torch.cat([t, torch.zeros_like(t[..., :1, :]).expand(*t.shape[:-2], missing, -1)], -2) for t in (k, v)
    ]
    return _tiled(q, more[0], more[1], Br, Bc, False)


def _not_scaled(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, scale=1.0)


def _divided_by_d(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, scale=1 / q.shape[-1])


def _nan_where_hidden(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, guard=False, skip="none")


def _nan_only_without_keys(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    """0 / 0 in rows that see nothing."""
    o, lse = _tiled(q, k, v, Br, Bc, causal)
    return torch.where((lse == -math.inf)[..., None], math.nan, o), lse


def _hidden_is_a_number(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, fill=-1e9, skip="none")


def _masked_after_the_maximum(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, mask_after=True, skip="none")


def _hidden_is_zero(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, fill=0.0, skip="none")


def _log_of_sum_only(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, lse="log l")


def _maximum_as_lse(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, lse="m")


def _sum_without_log(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, lse="m + l")


def _in_bf16(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    o, lse = _tiled(q, k, v, Br, Bc, causal, kind=q.dtype)
    kind = torch.promote_types(q.dtype, torch.float32)
    return o.to(kind), lse.to(kind)


def _all_at_once(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, max(q.shape[-2], 1), max(k.shape[-2], 1), causal)


def _whole_rows(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, k.shape[-2], causal)


def _sides_exchanged(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Bc, Br, causal)


def _rows_for_both(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Br, causal)


def _columns_for_both(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Bc, Bc, causal)


def _own_sizes(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, 8, 8, causal)


def _every_tile(q: Tensor, k: Tensor, v: Tensor, Br: int, Bc: int, causal: bool) -> Result:
    return _tiled(q, k, v, Br, Bc, causal, skip="none")


flash_forward = Exercise(
    reference.flash_forward,
    requirements=(
        Requirement(
            "attention and its log-sum-exp",
            (
                Case("24 queries, 40 keys, tiles of 8 by 8", attend(24, 40, 4, 8, 8)),
                Case("ragged: 13 queries, 22 keys, tiles of 4 by 6", attend(13, 22, 4, 4, 6)),
                Case("one query, 9 keys", attend(1, 9, 3, 4, 2)),
                Case("5 queries, one key", attend(5, 1, 3, 2, 2)),
                Case("tiles larger than everything", attend(5, 7, 2, 16, 32)),
                Case("tiles of one by one", attend(3, 4, 2, 1, 1)),
                Case("2 batches of 3 heads", attend(5, 6, 3, 2, 4, heads=(2, 3))),
                Case("inputs that are not contiguous", strided(attend(6, 7, 3, 4, 4))),
                Case("in float64", double(attend(5, 7, 3, 2, 3))),
                Case("50 queries, 71 keys, tiles of 16 by 12", attend(50, 71, 8, 16, 12), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "causal: query i sees the keys j <= i + M - N",
            (
                Case("16 queries and keys, tiles of 4 by 4", attend(16, 16, 4, 4, 4, True)),
                Case("tall tiles, ragged", attend(19, 19, 4, 6, 4, True)),
                Case("wide tiles, ragged", attend(19, 19, 4, 4, 7, True)),
                Case("more keys than queries", attend(7, 20, 3, 3, 4, True)),
                Case("more queries than keys: the first ones see nothing", attend(20, 7, 3, 3, 4, True)),
                Case("one query sees all keys", attend(1, 10, 3, 4, 4, True)),
                Case("2 heads", attend(6, 6, 2, 4, 3, True, heads=(2,))),
                Case("61 queries and keys, tiles of 8 by 16", attend(61, 61, 8, 8, 16, True), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "large scores in any order",
            (
                Case("the maximum rises in every tile, from -150 to 150", ordered(-150, 150, "rising")),
                Case("the maximum is in the first tile", ordered(-150, 150, "falling")),
                Case("scores between -1e4 and 1e4", saturated(4, 6)),
                Case(
                    "causal, rising: hidden scores are the largest", ordered(-150, 150, "rising", 4, 5, True)
                ),
                Case("causal, rising, one tile of keys", ordered(-150, 150, "rising", 4, 24, True)),
                Case("causal, falling from 120", ordered(-20, 120, "falling", 4, 5, True), shown=False),
            ),
            tolerance=Tolerance(16, "answers that carry log-sum-exps of 150 round them by 1e-5"),
        ),
        Requirement(
            "scores far below zero",
            (
                Case("all scores near -150, where exp is zero", ordered(-152, -148, "mixed")),
                Case("scores between -8e4 and -2e4", far_below(4, 6)),
            ),
        ),
        keeps_digits(attend(5, 7, 4, 2, 3)),
        Requirement(_HALF, (Case("bfloat16, 96 keys, tiles of 8", in_bf16(attend(8, 96, 20, 8, 8))),), half),
        Requirement(
            "never more than a tile",
            (
                Case("32 queries, 272 keys, tiles of 16", attend(32, 272, 4, 16, 16)),
                Case("7 queries, 81 keys, tiles of 2 by 30", attend(7, 81, 4, 2, 30)),
                Case("5 queries, 9 keys, tiles of 2 by 3", attend(5, 9, 4, 2, 3)),
                Case("causal, 32 queries, 400 keys", attend(32, 400, 4, 16, 16, True), shown=False),
            ),
            tile_by_tile,
            points=2,
            bounds={
                "largest tensor": Bound(
                    most=enough_memory,
                    unit="or more bytes in the largest tensor",
                    why="A tile of scores has Br times Bc numbers. Neither all scores nor all scores of one row may exist at a time.",
                    naive=all_scores,
                ),
                "exponentials": ONE_TILE,
                "tiles": TILE_COUNT,
            },
        ),
        Requirement(
            "skips the tiles that nobody sees",
            (
                Case("causal, 48 queries and keys, tiles of 8", attend(48, 48, 8, 8, 8, True)),
                Case("causal, 60 queries, 80 keys", attend(60, 80, 8, 10, 8, True), shown=False),
            ),
            multiplied,
            bounds={
                "multiplications": Bound(
                    most=most_multiplications,
                    unit="or more multiplications in matrix products",
                    why="A tile above the diagonal adds nothing: stop the loop over keys at the last key that the tile's last query sees.",
                )
            },
        ),
    ),
    mistakes=(
        Mistake("You ignore causal: queries see keys that come after them.", _causal_ignored),
        Mistake(
            "Your causal mask compares j with i. With different lengths the last query sees the last key: compare with i + M - N.",
            _no_offset,
        ),
        Mistake("You hide the last visible key, too. The key j = i + M - N is visible.", _own_key_hidden),
        Mistake(
            "You skip tiles above the diagonal but do not mask those that it crosses: some queries of a tile see keys that others do not.",
            _diagonal_tile_not_masked,
        ),
        Mistake(
            "You skip tiles by the first query of a row of tiles. Its last query sees most: a tile counts if any of them sees a key.",
            _tiles_by_first_row,
        ),
        Mistake(
            "You skip a tile of which only the last query sees only the first key. Skip when j > last, not when j >= last.",
            _last_tile_skipped,
        ),
        Mistake(
            "You use no running maximum: exp overflows at 89, and is zero for scores near -150.",
            _no_running_maximum,
        ),
        Mistake(
            "Your maximum starts at 0. Where all scores are negative it stays there, and far below 0 everything is lost: start at -inf.",
            _maximum_from_zero,
        ),
        Mistake(
            "Your maximum starts at a number that you chose. Where all scores are below it everything is lost: start at -inf.",
            _maximum_from_a_number,
        ),
        Mistake(
            "You scale q in bfloat16, which rounds it. Convert q to float32 first, then scale.",
            _scaled_in_bf16,
        ),
        Mistake(
            "You multiply exp by the mask. Where a hidden score is far above the maximum, exp is infinite, and infinity times 0 is NaN: "
            "set the score to -inf before exp.",
            _multiplied_by_the_mask,
        ),
        Mistake(
            "Your results are right, but one query meets all its keys at once. Loop over tiles of keys, with a running maximum, and rescale.",
            _one_query_at_a_time,
        ),
        Mistake(
            "You use the maximum of each tile alone, and add what belongs to different maxima. Keep a running one, and rescale.",
            _maximum_of_the_tile,
        ),
        Mistake(
            "You rescale l and not the accumulator when the maximum rises. Both need exp(m_old - m_new).",
            _output_not_rescaled,
        ),
        Mistake(
            "You rescale the accumulator and not l when the maximum rises. Both need exp(m_old - m_new).",
            _sum_not_rescaled,
        ),
        Mistake(
            "You rescale nothing when the maximum rises. What was summed before belongs to the old maximum: multiply by exp(m_old - m_new).",
            _nothing_rescaled,
        ),
        Mistake(
            "Your factor is inverse: rescale by exp(m_old - m_new), which is at most 1.", _inverse_factor
        ),
        Mistake(
            "You divide by l in each tile. The accumulator is a sum: divide once, after the last tile.",
            _divided_in_each_tile,
        ),
        Mistake("You never divide by l. The output is the accumulator over l.", _not_divided),
        Mistake("You leave out the last tile of keys where M is no multiple of Bc.", _ragged_tile_dropped),
        Mistake(
            "You fill the last tile of keys with zeros and let the queries see them: each adds exp(0 - m) to l. Hide them, or cut the tile.",
            _ragged_tile_padded,
        ),
        Mistake("You do not scale the scores by 1 / sqrt(d).", _not_scaled),
        Mistake("You divide the scores by d. The scale is 1 / sqrt(d).", _divided_by_d),
        Mistake(
            "A tile in which a query has seen nothing yet gives NaN: -inf - -inf. Subtract 0 as long as the maximum is -inf.",
            _nan_where_hidden,
        ),
        Mistake(
            "Rows that see nothing give 0 / 0. Their output is zero: divide by 1 where l is 0.",
            _nan_only_without_keys,
        ),
        Mistake(
            "Your hidden scores are a large negative number. A row that sees nothing then averages all values: use -inf.",
            _hidden_is_a_number,
        ),
        Mistake(
            "You take the maximum before you apply the mask. A large hidden score then presses all visible ones to zero: mask first.",
            _masked_after_the_maximum,
        ),
        Mistake("Your hidden scores are 0, and exp(0) is 1. They have to be -inf.", _hidden_is_zero),
        Mistake("Your lse is log(l). The sum was made relative to m: lse = m + log(l).", _log_of_sum_only),
        Mistake("Your lse is the maximum. It is m + log(l).", _maximum_as_lse),
        Mistake("Your lse is m + l. It is m + log(l).", _sum_without_log),
        Mistake(
            "You compute in bfloat16 throughout. Convert the tiles to float32 before you multiply, and keep m, l and the accumulator there.",
            _in_bf16,
            recognise=rounded_to_bf16(_HALF),
        ),
        Mistake(
            "Your results are right, but all N times M scores exist at once. Loop over tiles of queries and of keys.",
            _all_at_once,
        ),
        Mistake(
            "Your results are right, but a tile of queries meets all keys at once. Loop over tiles of keys inside, and rescale.",
            _whole_rows,
        ),
        Mistake(
            "Your results are right, but you visit tiles that no query sees: about twice the work. End the loop over keys earlier.",
            _every_tile,
        ),
        Mistake(
            "Your results are right, but you exchange Br and Bc: a tile has Br queries and Bc keys. Step through the keys by Bc.",
            _sides_exchanged,
        ),
        Mistake(
            "Your results are right, but you use Br for the keys, too. A tile has Br queries and Bc keys: step through the keys by Bc.",
            _rows_for_both,
        ),
        Mistake(
            "Your results are right, but you use Bc for the queries, too. A tile has Br queries and Bc keys: step through the queries by Br.",
            _columns_for_both,
        ),
        Mistake(
            "Your results are right, but your tiles have a size of their own. Take Br queries and Bc keys: whoever calls knows what fits.",
            _own_sizes,
        ),
        single_precision(reference.flash_forward),
    ),
    forbids=LIBRARY,
    returns=("o", "lse"),
)
