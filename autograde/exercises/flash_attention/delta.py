"""The exercise ``delta`` of the lesson flash_attention/03_backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import (
    above,
    double,
    half,
    in_bf16,
    keeps_digits,
    memory_of,
    rounded_to_bf16,
    single_precision,
)
from autograde.observe import Implementation, Inputs
from autograde.probes import gradients
from utils.reference import flash_attention as reference

_HALF = "float32 for bfloat16 inputs"


def _rows(*shape: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"do": source.normal(*shape), "o": source.normal(*shape)}


def _strided(source: Draw) -> Inputs:
    return {"do": source.normal(4, 6).t(), "o": source.normal(6, 8)[:, ::2]}


def memory(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The result, and the largest tensor."""
    value, largest, _ = memory_of(implementation, inputs)
    return {"value": value, "largest tensor": above(largest, _most(inputs))}


def _most(inputs: Inputs) -> int:
    """Three copies of o."""
    return int(3 * inputs["o"].numel() * inputs["o"].element_size())


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _over_rows(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o)).sum(-2)


def _mean(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o)).mean(-1)


def _kept_dimension(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o)).sum(-1, keepdim=True)


def _total(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o)).sum().expand(o.shape[:-1]).clone()


def _square(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(o) * _wide(o)).sum(-1)


def _square_of_gradient(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(do)).sum(-1)


def _gradient_only(do: Tensor, o: Tensor) -> Tensor:
    return _wide(do).sum(-1)


def _cosine(do: Tensor, o: Tensor) -> Tensor:
    a, b = _wide(do), _wide(o)
    return torch.cosine_similarity(a, b, dim=-1)


def _scaled(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o)).sum(-1) / math.sqrt(o.shape[-1])


def _not_summed(do: Tensor, o: Tensor) -> Tensor:
    return _wide(do) * _wide(o)


def _all_pairs(do: Tensor, o: Tensor) -> Tensor:
    return _wide(do) @ _wide(o).mT


def _diagonal_of_all_pairs(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) @ _wide(o).mT).diagonal(dim1=-2, dim2=-1)


def _second_dimension(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o)).sum(1)


def _product_in_bf16(do: Tensor, o: Tensor) -> Tensor:
    return _wide(do * o).sum(-1)


def _in_bf16(do: Tensor, o: Tensor) -> Tensor:
    return (do * o).sum(-1).to(torch.promote_types(o.dtype, torch.float32))


def _detached(do: Tensor, o: Tensor) -> Tensor:
    return (_wide(do) * _wide(o).detach()).sum(-1)


delta = Exercise(
    reference.delta,
    requirements=(
        Requirement(
            "one number per query",
            (
                Case("5 queries, 4 channels", _rows(5, 4)),
                Case("as many queries as channels", _rows(4, 4)),
                Case("one query", _rows(1, 6)),
                Case("one channel", _rows(3, 1)),
                Case("2 batches of 3 heads", _rows(2, 3, 5, 4)),
                Case("inputs that are not contiguous", _strided),
                Case("in float64", double(_rows(3, 4))),
                Case("200 queries, 4 channels", _rows(200, 4)),
                Case("100 queries", _rows(100, 32), shown=False),
            ),
            memory,
            points=2,
            bounds={
                "largest tensor": Bound(
                    most=_most,
                    unit="or more bytes in the largest tensor",
                    why="Row i of do meets row i of o only. All N times N products are not needed.",
                )
            },
        ),
        keeps_digits(_rows(3, 4)),
        Requirement(_HALF, (Case("bfloat16, 128 channels", in_bf16(_rows(6, 128))),), half),
        Requirement("gradients", (Case("gradients, 3 queries", _rows(3, 4)),), gradients),
    ),
    mistakes=(
        Mistake(
            "You sum over the queries. Each query has a number of its own: sum over the channels.", _over_rows
        ),
        Mistake("You take the mean over the channels. It is a sum.", _mean),
        Mistake(
            "You keep the dimension of the channels with size 1. Return one number per query.",
            _kept_dimension,
        ),
        Mistake("You sum over everything. Sum over the channels of each query.", _total),
        Mistake("You multiply o by itself. Multiply do by o.", _square),
        Mistake("You multiply do by itself. Multiply do by o.", _square_of_gradient),
        Mistake("You sum do alone. Multiply by o first.", _gradient_only),
        Mistake("You divide by the lengths of the two rows. It is the plain inner product.", _cosine),
        Mistake("You scale by 1 / sqrt(d). The scale belongs to the scores, and enters later.", _scaled),
        Mistake("You do not sum over the channels. Return one number per query.", _not_summed),
        Mistake(
            "You multiply all rows of do with all rows of o. Only row i of do meets row i of o.", _all_pairs
        ),
        Mistake(
            "Your values are right, but you multiply all rows of do with all rows of o to get them. Multiply element by element, and sum.",
            _diagonal_of_all_pairs,
        ),
        Mistake(
            "You sum over dimension 1, which is the channels of a matrix only. Take -1: there may be batches and heads.",
            _second_dimension,
        ),
        Mistake(
            "You multiply in bfloat16 and sum in float32. The products are rounded already: convert do and o first.",
            _product_in_bf16,
        ),
        Mistake(
            "You multiply and sum in bfloat16. Convert do and o to float32 first.",
            _in_bf16,
            recognise=rounded_to_bf16(_HALF),
        ),
        Mistake("Your values are right, but you detach o: no gradient flows back to it.", _detached),
        single_precision(reference.delta),
    ),
)
