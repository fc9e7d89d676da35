"""The exercise ``last_valid`` of the lesson rnn/01_vanilla_rnn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import rnn as reference


def _outputs(
    time: int, lengths: tuple[int, ...] | None, hidden: int = 5, batch: int = 6
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        chosen = source.integers(batch, low=1, high=time - 1) if lengths is None else torch.tensor(lengths)
        return {"out": source.normal(len(chosen), time, hidden), "lengths": chosen}

    return draw


def _zero_states(source: Draw) -> Inputs:
    """Valid states that are zero, as they may be, and padding that is not."""
    drawn = _outputs(6, (3, 5, 1, 6))(source)
    drawn["out"][torch.arange(4), drawn["lengths"] - 1] = 0.0
    return drawn


def _strided(source: Draw) -> Inputs:
    """Time first in memory, as torch.nn.RNN leaves it without batch_first."""
    drawn = dict(_outputs(6, (3, 6, 1, 4))(source))
    return drawn | {"out": drawn["out"].transpose(0, 1).contiguous().transpose(0, 1)}


def _in_double(source: Draw) -> Inputs:
    drawn = _outputs(5, (2, 5, 3))(source)
    return {**drawn, "out": drawn["out"].double()}


def _not_a_number_behind(time: int, lengths: tuple[int, ...] | None) -> Callable[[Draw], Inputs]:
    """What stands past each length is NaN or infinite, as a state may be that ran on through such padding."""

    def draw(source: Draw) -> Inputs:
        drawn = dict(_outputs(time, lengths)(source))
        mask = torch.arange(time)[None, :] < drawn["lengths"][:, None]
        behind = torch.where(drawn["out"] < 0, torch.inf, torch.nan)
        return drawn | {"out": torch.where(mask[..., None], drawn["out"], behind)}

    return draw


def _padded(source: Draw) -> Inputs:
    """Zero past each length, as rnn_forward leaves it."""
    drawn = dict(_outputs(7, (4, 7, 1, 6))(source))
    mask = torch.arange(7)[None, :] < drawn["lengths"][:, None]
    return drawn | {"out": drawn["out"] * mask[..., None]}


def _at_the_end(out: Tensor, lengths: Tensor) -> Tensor:
    return out[:, -1]


def _off_by_one(out: Tensor, lengths: Tensor) -> Tensor:
    return out[torch.arange(len(out), device=out.device), lengths]


def _off_by_one_clamped(out: Tensor, lengths: Tensor) -> Tensor:
    return out[torch.arange(len(out), device=out.device), lengths.clamp(max=out.shape[1] - 1)]


def _one_too_early(out: Tensor, lengths: Tensor) -> Tensor:
    return out[torch.arange(len(out), device=out.device), lengths - 2]


def _every_pair(out: Tensor, lengths: Tensor) -> Tensor:
    return out[:, lengths - 1]


def _sum_over_time(out: Tensor, lengths: Tensor) -> Tensor:
    return out.sum(1)


def _mean_over_valid(out: Tensor, lengths: Tensor) -> Tensor:
    mask = torch.arange(out.shape[1], device=out.device)[None, :, None] < lengths[:, None, None]
    return (out * mask).sum(1) / lengths[:, None]


def _max_over_time(out: Tensor, lengths: Tensor) -> Tensor:
    return out.amax(1)


def _longest_only(out: Tensor, lengths: Tensor) -> Tensor:
    return out[:, int(lengths.max()) - 1]


def _last_not_zero(out: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(out.shape[1], device=out.device)
    last = (out.ne(0).any(-1) * steps).amax(1)
    return out[torch.arange(len(out), device=out.device), last]


def _counted_from_the_end(out: Tensor, lengths: Tensor) -> Tensor:
    return out[torch.arange(len(out), device=out.device), -lengths]


def _sum_of_valid(out: Tensor, lengths: Tensor) -> Tensor:
    return (
        out * (torch.arange(out.shape[1], device=out.device)[None, :, None] < lengths[:, None, None])
    ).sum(1)


def _first_state(out: Tensor, lengths: Tensor) -> Tensor:
    return out[:, 0]


def _index_not_expanded(out: Tensor, lengths: Tensor) -> Tensor:
    return out.gather(1, (lengths - 1)[:, None, None]).squeeze(1)


def _time_kept(out: Tensor, lengths: Tensor) -> Tensor:
    return torch.stack([row[n - 1 : n] for row, n in zip(out, lengths.tolist(), strict=True)])


def _masked_sum(out: Tensor, lengths: Tensor) -> Tensor:
    last = torch.arange(out.shape[1], device=out.device)[None, :] == lengths[:, None] - 1
    return (out * last[..., None]).sum(1)


last_valid = Exercise(
    reference.last_valid,
    requirements=(
        Requirement(
            "the state at each sequence's own end",
            (
                Case("outputs of rnn_forward, lengths 4, 7, 1, 6", _padded),
                Case("the last valid state is zero, the padding is not", _zero_states),
                Case("all sequences of full length", _outputs(5, (5, 5, 5))),
                Case("one sequence", _outputs(4, (2,))),
                Case("as many steps as sequences", _outputs(5, (2, 5, 1, 4, 3))),
                Case("outputs with time first in memory", _strided),
                Case("outputs in float64", _in_double),
                Case("one step, one hidden unit", _outputs(1, (1, 1), hidden=1)),
                Case("NaN and infinity past the ends", _not_a_number_behind(6, (3, 6, 1, 4))),
                Case(
                    "NaN and infinity past ends drawn at random", _not_a_number_behind(9, None), shown=False
                ),
                Case("lengths drawn at random", _outputs(13, None, hidden=3, batch=8), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, lengths 4, 7, 1, 6", _outputs(7, (4, 7, 1, 6))),
                Case("gradients, lengths drawn at random", _outputs(9, None), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You read out[:, -1]. In a padded batch that is the last column, not each sequence's last valid state.",
            _at_the_end,
        ),
        Mistake(
            "You read position lengths. Positions count from 0: the last valid one is lengths - 1.",
            _off_by_one,
        ),
        Mistake(
            "You read one position too late, and stop at the last column. The last valid position is lengths - 1.",
            _off_by_one_clamped,
        ),
        Mistake("You read one position too early. The last valid one is lengths - 1.", _one_too_early),
        Mistake(
            "out[:, lengths - 1] takes every length for every sequence, batch x batch states. Pair the two indices: "
            "torch.arange(batch) in the first dimension.",
            _every_pair,
        ),
        Mistake(
            "You sum over time. Asked is one state for each sequence, its last valid one.", _sum_over_time
        ),
        Mistake("You average the valid states. Asked is the last one of each sequence.", _mean_over_valid),
        Mistake("You take the maximum over time. Asked is the last valid state.", _max_over_time),
        Mistake(
            "You read the same position for all sequences. Each one has its own last position.", _longest_only
        ),
        Mistake(
            "You look for the last state that is not zero. A valid state may be zero, and padding may not be: use "
            "lengths.",
            _last_not_zero,
        ),
        Mistake(
            "You count from the end: out[b, -n] is n places before the end of the batch. The last valid position is n - 1 from the start.",
            _counted_from_the_end,
        ),
        Mistake("You add up the valid states. Asked is the last one of each sequence.", _sum_of_valid),
        Mistake("You read the first state of each sequence. Asked is the last valid one.", _first_state),
        Mistake(
            "gather takes one number for each entry of its index, so you get one number for each sequence. Expand the index "
            "over the hidden dimension.",
            _index_not_expanded,
        ),
        Mistake(
            "Your states keep a time dimension of size 1: you cut a slice. Read one position instead.",
            _time_kept,
        ),
        Mistake(
            "A NaN past the end of a sequence reached your result: you multiply by a mask and add, and 0 times NaN is NaN. Read "
            "the one position that is asked for.",
            _masked_sum,
        ),
    ),
)
