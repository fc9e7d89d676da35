"""The exercise ``flash_backward`` of the lesson flash_attention/03_backward."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import (
    LIBRARY,
    ONE_TILE,
    TILE_COUNT,
    DrawInputs,
    all_scores,
    attend,
    double,
    enough_memory,
    in_bf16,
    keeps_digits,
    most_multiplications,
    multiplied,
    plain,
    rounded_to_bf16,
    shifted,
    single_precision,
    strided,
    tile_by_tile,
    to_half,
)
from autograde.observe import Implementation, Inputs
from utils.reference import flash_attention as reference

_HALF = "float32 accumulation for bfloat16 inputs"
Result = tuple[Tensor, Tensor, Tensor]


def backward(draw: DrawInputs) -> DrawInputs:
    """The inputs of a forward pass, with what it left, o and lse, and a gradient do."""

    def drawn(source: Draw) -> Inputs:
        given = dict(draw(source))
        q, k, v = (given.pop(name) for name in "qkv")
        o, lse = plain(q, k, v, given["causal"])
        do = source.normal(*q.shape).to(q.dtype)
        return {"q": q, "k": k, "v": v, "o": o.to(q.dtype), "lse": lse.to(q.dtype), "do": do, **given}

    return drawn


def half_but_statistics(implementation: Implementation, inputs: Inputs) -> Any:
    """The result for q, k, v and do in bfloat16; o and lse stay in float32, as the forward pass left them."""
    given = {name: to_half(x) if name in ("q", "k", "v", "do") else x for name, x in inputs.items()}
    return implementation(*given.values())


def _bf16(draw: DrawInputs) -> DrawInputs:
    def drawn(source: Draw) -> Inputs:
        given = dict(backward(in_bf16(draw))(source))
        return given | {"do": given["do"].bfloat16().float()}

    return drawn


def _tiled(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool, *,
    scale_q: int = 1, scale_k: int = 1, D: str = "right", mask: bool = True, offset: int = 1, p: str = "right",
    dv: str = "right", dp: str = "right", accumulate: bool = True, ragged: bool = True, skip: str = "right", swap: bool = False,
    guard: bool = True, kind: torch.dtype | None = None, scale: float | None = None, fill: str = "mask",
) -> Result:  # fmt: skip
    """The tiled backward pass, with switches for what goes wrong."""
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    s0 = d**-0.5
    kind = kind or torch.promote_types(q.dtype, torch.float32)
    q, k, v, do, o, lse = (t.to(kind) for t in (q, k, v, do, o, lse))
    gq, gk, gv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    rowsum = {"right": do * o, "square": o * o, "none": 0 * o, "mean": do * o / d}.get(D, do * o).sum(-1)
    for i in range(0, N, Br):
        rows = torch.arange(i, min(i + Br, N), device=q.device)
        last = {"right": min(i + Br, N) - 1 + M - N, "first row": i + M - N, "none": M - 1}[skip]
        for j in range(0, M, Bc):
            if (causal and j > last) or (not ragged and j + Bc > M):
                break
            cols = torch.arange(j, min(j + Bc, M), device=q.device)
            s = (s0 if scale is None else scale) * q[..., rows, :] @ k[..., cols, :].mT
            hidden = (cols[None, :] > rows[:, None] + offset * (M - N)) & causal & mask
            s = s.masked_fill(hidden, -math.inf if fill == "mask" else 0.0)
            at = lse[..., rows, None]
            shift = torch.where(at == -math.inf, 0.0, at) if guard else at
            P = torch.exp(s - shift)
            if p == "raw":
                P = torch.exp(s)
            elif p == "tile":
                P = torch.softmax(s, -1).nan_to_num(0.0)
            elif p == "divided":
                P = torch.exp(s) / at.masked_fill(at == -math.inf, 1.0)
            dP = (do if dp == "right" else o)[..., rows, :] @ v[..., cols, :].mT
            own = rowsum[..., rows]
            if D == "dP":
                own = dP.sum(-1)
            elif D == "tile":
                own = (P * dP).sum(-1)
            dS = P * (dP - own[..., None]) if D != "added" else P * (dP + own[..., None])
            if D == "outside":
                dS = P * dP - own[..., None]
            left = {"right": P, "dS": dS, "dP": dP}[dv]
            step_v = left.mT @ do[..., rows, :]
            step_k = s0**scale_k * dS.mT @ q[..., rows, :]
            step_q = s0**scale_q * dS @ k[..., cols, :]
            gv[..., cols, :] = (gv[..., cols, :] if accumulate else 0) + step_v
            gk[..., cols, :] = (gk[..., cols, :] if accumulate else 0) + step_k
            gq[..., rows, :] = gq[..., rows, :] + step_q
    return (gq, gv, gk) if swap else (gq, gk, gv)


def _scale_left_out(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, scale_q=0, scale_k=0)


def _scale_only_in_dq(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, scale_k=0)


def _scale_twice(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, scale_q=2, scale_k=2)


def _no_scale_in_scores(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, scale=1.0)


def _delta_left_out(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, D="none")


def _delta_from_dp(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, D="dP")


def _delta_of_one_tile(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, D="tile")


def _delta_added(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, D="added")


def _delta_outside(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, D="outside")


def _causal_ignored(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, False)


def _diagonal_tile_not_masked(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, mask=False)


def _no_offset(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, offset=0, skip="none")


def _tiles_by_first_row(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, skip="first row")


def _not_normalised(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, p="raw")


def _normalised_in_the_tile(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, p="tile")


def _one_query_at_a_time(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    dq, dk, dv = [], torch.zeros_like(_float(k)), torch.zeros_like(_float(v))
    for i in range(q.shape[-2]):
        end = max(0, i + 1 + k.shape[-2] - q.shape[-2] if causal else k.shape[-2])
        own = slice(i, i + 1)
        gq, gk, gv = _tiled(
            q[..., own, :], k[..., :end, :], v[..., :end, :], o[..., own, :], lse[..., own], do[..., own, :],
            1, max(1, end), False,
        )  # fmt: skip
        dq.append(gq)
        dk[..., :end, :] += gk
        dv[..., :end, :] += gv
    return torch.cat(dq, -2), dk, dv


def _float(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _divided_by_lse(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, p="divided")


def _dv_from_ds(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, dv="dS")


def _dv_from_dp(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, dv="dP")


def _dp_from_o(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, dp="o")


def _overwritten(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, accumulate=False)


def _ragged_tile_dropped(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, ragged=False)


def _keys_and_values_exchanged(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, swap=True)


def _nan_where_hidden(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, guard=False)


def _hidden_is_zero(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, fill="zero", skip="none")


def _in_bf16(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    found = _tiled(q, k, v, o, lse, do, Br, Bc, causal, kind=q.dtype)
    kind = torch.promote_types(q.dtype, torch.float32)
    return found[0].to(kind), found[1].to(kind), found[2].to(kind)


def _all_at_once(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, q.shape[-2], k.shape[-2], causal)


def _sides_exchanged(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Bc, Br, causal)


def _rows_for_both(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Br, causal)


def _columns_for_both(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Bc, Bc, causal)


def _own_sizes(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, 8, 8, causal)


def _every_tile(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor, Br: int, Bc: int, causal: bool
) -> Result:
    return _tiled(q, k, v, o, lse, do, Br, Bc, causal, skip="none")


flash_backward = Exercise(
    reference.flash_backward,
    requirements=(
        Requirement(
            "the gradients of attention",
            (
                Case("12 queries, 16 keys, tiles of 4 by 4", backward(attend(12, 16, 4, 4, 4))),
                Case("ragged: 13 queries, 22 keys, tiles of 4 by 6", backward(attend(13, 22, 4, 4, 6))),
                Case("one query, 9 keys", backward(attend(1, 9, 3, 4, 2))),
                Case("5 queries, 3 keys, tiles of 2 by 1", backward(attend(5, 3, 3, 2, 1))),
                Case("tiles larger than everything", backward(attend(5, 7, 2, 16, 32))),
                Case("2 batches of 3 heads", backward(attend(5, 6, 3, 2, 4, heads=(2, 3)))),
                Case("inputs that are not contiguous", strided(backward(attend(6, 6, 6, 4, 4, heads=(6,))))),
                Case("in float64", double(backward(attend(5, 7, 3, 2, 3)))),
                Case(
                    "50 queries, 71 keys, tiles of 16 by 12", backward(attend(50, 71, 8, 16, 12)), shown=False
                ),
            ),
            points=2,
        ),
        Requirement(
            "causal: query i sees the keys j <= i + M - N",
            (
                Case("16 queries and keys, tiles of 4 by 4", backward(attend(16, 16, 4, 4, 4, True))),
                Case("tall tiles, ragged", backward(attend(19, 19, 4, 6, 4, True))),
                Case("wide tiles, ragged", backward(attend(19, 19, 4, 4, 7, True))),
                Case("more keys than queries", backward(attend(7, 20, 3, 3, 4, True))),
                Case(
                    "more queries than keys: the first ones see nothing",
                    backward(attend(20, 7, 3, 3, 4, True)),
                ),
                Case(
                    "61 queries and keys, tiles of 8 by 16",
                    backward(attend(61, 61, 8, 8, 16, True)),
                    shown=False,
                ),
            ),
            points=2,
        ),
        Requirement(
            "large scores",
            (Case("scores near 95, where exp overflows", backward(shifted(95))),),
        ),
        keeps_digits(backward(attend(5, 7, 4, 2, 3))),
        Requirement(
            _HALF,
            (Case("bfloat16, 96 keys, tiles of 8", _bf16(attend(24, 96, 20, 8, 8))),),
            half_but_statistics,
        ),
        Requirement(
            "never more than a tile",
            (
                Case("32 queries, 272 keys, tiles of 16", backward(attend(32, 272, 4, 16, 16))),
                Case("7 queries, 81 keys, tiles of 2 by 30", backward(attend(7, 81, 4, 2, 30))),
                Case("5 queries, 9 keys, tiles of 2 by 3", backward(attend(5, 9, 4, 2, 3))),
            ),
            tile_by_tile,
            bounds={
                "largest tensor": Bound(
                    most=enough_memory,
                    unit="or more bytes in the largest tensor",
                    why="p and ds are made again for one tile at a time, from q, k and lse.",
                    naive=all_scores,
                ),
                "exponentials": ONE_TILE,
                "tiles": TILE_COUNT,
            },
        ),
        Requirement(
            "skips the tiles that nobody sees",
            (Case("causal, 48 queries and keys, tiles of 8", backward(attend(48, 48, 8, 8, 8, True))),),
            multiplied,
            bounds={
                "multiplications": Bound(
                    most=most_multiplications,
                    unit="or more multiplications in matrix products",
                    why="Five products for each tile that some query sees are enough.",
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You leave the scale out of dq and dk. s is scale * q k^T, so both gradients carry the factor.",
            _scale_left_out,
        ),
        Mistake("Your dq has the factor scale and your dk has not. Both need it.", _scale_only_in_dq),
        Mistake("You apply the scale twice in dq and dk.", _scale_twice),
        Mistake(
            "You make the scores again without the scale, so that they do not fit to lse.",
            _no_scale_in_scores,
        ),
        Mistake("You leave out D: ds is p (dp - D), not p dp.", _delta_left_out),
        Mistake(
            "You sum dp over the keys to get D. D_i is sum_j p_ij dp_ij, which is do_i . o_i.", _delta_from_dp
        ),
        Mistake(
            "Your D sums over the keys of one tile only. It needs all keys of the row: take do_i . o_i, which the forward pass has made.",
            _delta_of_one_tile,
        ),
        Mistake("You add D. It is subtracted: ds = p (dp - D).", _delta_added),
        Mistake("The factor p multiplies the whole bracket: ds = p (dp - D), not p dp - D.", _delta_outside),
        Mistake("You ignore causal: hidden keys get gradients.", _causal_ignored),
        Mistake(
            "You skip tiles above the diagonal but do not mask those that it crosses: p has to be zero where a key is hidden.",
            _diagonal_tile_not_masked,
        ),
        Mistake(
            "Your causal mask compares j with i. With different lengths compare with i + M - N.", _no_offset
        ),
        Mistake(
            "You skip tiles by the first query of a row of tiles. Its last query sees most: a tile counts if any of them sees a key.",
            _tiles_by_first_row,
        ),
        Mistake("Your p is exp(s), not normalised. It is exp(s - lse).", _not_normalised),
        Mistake(
            "You normalise p within each tile. It has to add up to 1 over all keys: p = exp(s - lse).",
            _normalised_in_the_tile,
        ),
        Mistake(
            "Your gradients are right, but one query meets all its keys at once. Loop over tiles of keys, too.",
            _one_query_at_a_time,
        ),
        Mistake("You divide exp(s) by lse. lse is a logarithm: p = exp(s - lse).", _divided_by_lse),
        Mistake("You make dv from ds. o = p v, so dv = p^T do.", _dv_from_ds),
        Mistake("You make dv from dp. o = p v, so dv = p^T do.", _dv_from_dp),
        Mistake("You make dp from o. It is do v^T.", _dp_from_o),
        Mistake(
            "Each tile of queries overwrites dk and dv. A key meets all of them: add up the parts.",
            _overwritten,
        ),
        Mistake("You leave out the last tile of keys where M is no multiple of Bc.", _ragged_tile_dropped),
        Mistake("You return dv before dk. The order is (dq, dk, dv).", _keys_and_values_exchanged),
        Mistake(
            "A row that sees nothing has lse = -inf, and -inf - -inf is NaN. Subtract 0 there: its p is then zero.",
            _nan_where_hidden,
        ),
        Mistake("Your hidden scores are 0. They have to be -inf, so that p is zero there.", _hidden_is_zero),
        Mistake(
            "You compute in bfloat16 throughout. Convert the tiles to float32, and add up dq, dk and dv there.",
            _in_bf16,
            recognise=rounded_to_bf16(_HALF),
        ),
        Mistake(
            "Your gradients are right, but all N times M weights exist at once. Loop over tiles.",
            _all_at_once,
        ),
        Mistake(
            "Your gradients are right, but you visit tiles that no query sees. End the loop over keys earlier.",
            _every_tile,
        ),
        Mistake(
            "Your gradients are right, but you exchange Br and Bc: a tile has Br queries and Bc keys. Step through the keys by Bc.",
            _sides_exchanged,
        ),
        Mistake(
            "Your gradients are right, but you use Br for the keys, too. A tile has Br queries and Bc keys: step through the keys by Bc.",
            _rows_for_both,
        ),
        Mistake(
            "Your gradients are right, but you use Bc for the queries, too. A tile has Br queries and Bc keys: step through the queries by Br.",
            _columns_for_both,
        ),
        Mistake(
            "Your gradients are right, but your tiles have a size of their own. Take Br queries and Bc keys: whoever calls knows what fits.",
            _own_sizes,
        ),
        single_precision(reference.flash_backward),
    ),
    forbids=LIBRARY,
    returns=("dq", "dk", "dv"),
)
