"""The exercise ``softmax_backward`` of the lesson flash_attention/03_backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import above, double, memory_of
from autograde.observe import Implementation, Inputs
from autograde.probes import gradients
from utils.reference import flash_attention as reference


def _rows(*shape: int, size: float = 1.0) -> Callable[[Draw], Inputs]:
    return lambda source: {
        "p": torch.softmax(2 * source.normal(*shape), -1),
        "dp": size * source.normal(*shape),
    }


def _some_zero(source: Draw) -> Inputs:
    p = torch.softmax(source.normal(3, 6), -1)
    p[1] = 0.0
    p[2] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    return {"p": p, "dp": source.normal(3, 6)}


def _strided(source: Draw) -> Inputs:
    return {"p": torch.softmax(source.normal(5, 4), 0).t(), "dp": source.normal(5, 4).t()}


def memory(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The result, and the largest tensor."""
    value, largest, _ = memory_of(implementation, inputs)
    return {"value": value, "largest tensor": above(largest, _most(inputs))}


def _most(inputs: Inputs) -> int:
    return int(3 * inputs["p"].nbytes)


def _no_sum(p: Tensor, dp: Tensor) -> Tensor:
    return p * dp


def _sum_not_weighted(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - dp.sum(-1, keepdim=True))


def _mean(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - (p * dp).mean(-1, keepdim=True))


def _along_columns(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - (p * dp).sum(0, keepdim=True))


def _dimension_lost(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - (p * dp).sum(-1))


def _second_dimension(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - (p * dp).sum(1, keepdim=True))


def _over_everything(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - (p * dp).sum())


def _diagonal_only(p: Tensor, dp: Tensor) -> Tensor:
    return p * (1 - p) * dp


def _no_outer_p(p: Tensor, dp: Tensor) -> Tensor:
    return dp - (p * dp).sum(-1, keepdim=True)


def _added(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp + (p * dp).sum(-1, keepdim=True))


def _negative(p: Tensor, dp: Tensor) -> Tensor:
    return p * ((p * dp).sum(-1, keepdim=True) - dp)


def _sum_of_p(p: Tensor, dp: Tensor) -> Tensor:
    return p * (dp - p.sum(-1, keepdim=True))


def _p_inside(p: Tensor, dp: Tensor) -> Tensor:
    return p * dp - (p * dp).sum(-1, keepdim=True)


def _jacobian(p: Tensor, dp: Tensor) -> Tensor:
    J = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    return (J @ dp[..., None])[..., 0]


softmax_backward = Exercise(
    reference.softmax_backward,
    requirements=(
        Requirement(
            "matches the formula",
            (
                Case("4 rows of 6", _rows(4, 6)),
                Case("as many rows as columns", _rows(5, 5)),
                Case("a single row", _rows(7)),
                Case("one column: the weight is always 1", _rows(3, 1)),
                Case("2 batches of 3 heads", _rows(2, 3, 4, 5)),
                Case("large gradients", _rows(3, 4, size=1e4)),
                Case("inputs that are not contiguous", _strided),
                Case("in float64", double(_rows(2, 5))),
                Case("30 rows of 50", _rows(30, 50), shown=False),
            ),
            points=2,
        ),
        Requirement("weights of zero and one", (Case("a row of zeros, a row with one 1", _some_zero),)),
        Requirement("gradients", (Case("gradients, 3 rows of 4", _rows(3, 4)),), gradients),
        Requirement(
            "no matrix for each row",
            (Case("4 rows of 200", _rows(4, 200)),),
            memory,
            bounds={
                "largest tensor": Bound(
                    most=_most,
                    unit="or more bytes in the largest tensor",
                    why="The Jacobian of a row has M times M numbers. Its product with dp needs M multiplications and one sum.",
                    naive=lambda inputs: inputs["p"].nbytes * inputs["p"].shape[-1],
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You leave out the sum. If one weight grows, all others shrink: subtract sum_k p_k dp_k.", _no_sum
        ),
        Mistake("You subtract the sum of dp. Weight it: sum_k p_k dp_k.", _sum_not_weighted),
        Mistake("You subtract a mean. It is the sum of p_k dp_k.", _mean),
        Mistake(
            "You sum over the rows. Each row is a softmax of its own: sum over the last dimension.",
            _along_columns,
        ),
        Mistake(
            "Your sum loses its dimension, so the sum of row i is subtracted from column i. Take sum(-1, keepdim=True).",
            _dimension_lost,
        ),
        Mistake(
            "You sum over dimension 1, which is the last one of a matrix only. Take -1: there may be batches and heads, or one row.",
            _second_dimension,
        ),
        Mistake(
            "You sum over everything. Each row is a softmax of its own: sum over the last dimension.",
            _over_everything,
        ),
        Mistake(
            "You use p (1 - p), which is the derivative of a weight by its own score. The scores of the others matter, too.",
            _diagonal_only,
        ),
        Mistake("You leave out the factor p_j in front of the bracket.", _no_outer_p),
        Mistake("You add the sum. It is subtracted.", _added),
        Mistake("Your sign is reversed: it is dp minus the sum.", _negative),
        Mistake("You subtract the sum of the weights, which is 1. Subtract sum_k p_k dp_k.", _sum_of_p),
        Mistake("The factor p_j multiplies the whole bracket, the sum as well.", _p_inside),
        Mistake(
            "Your result is right, but you make the Jacobian, with M times M numbers for each row.", _jacobian
        ),
    ),
    forbids=("softmax", "_softmax", "_softmax_backward_data"),
)
