"""The exercise ``cell_gradient`` of the lesson rnn/03_gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs
from autograde.probes import gradients, twice
from utils.reference import rnn as reference


def final_cell(implementation: Implementation, inputs: Inputs) -> Any:
    """The last cell state, put together from what was written at each step: the sum of D_t i_t g_t."""
    return (implementation(inputs["f"]) * inputs["written"]).sum(0)


def _gates(
    time: int, batch: int, hidden: int, low: float = 0.0, high: float = 1.0
) -> Callable[[Draw], Inputs]:
    return lambda source: {"f": source.uniform(time, batch, hidden, low=low, high=high)}


def _writes(time: int, batch: int, hidden: int) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        f = source.uniform(time, batch, hidden, low=0.4, high=1.0)
        return {"f": f, "written": source.normal(time, batch, hidden)}

    return draw


def _closed(source: Draw) -> Inputs:
    """In every sequence one gate is exactly 0 and another one exactly 1."""
    f = source.uniform(7, 4, 3, low=0.3, high=1.0)
    f[3, :, 0], f[5, :, 1], f[1:, 2] = 0.0, 0.0, 1.0
    f[2, 0], f[4, 0] = 0.0, 0.0
    return {"f": f}


def _strided(source: Draw) -> Inputs:
    """Batch first in memory."""
    return {"f": source.uniform(4, 6, 3, low=0.3, high=1.0).transpose(0, 1)}


def _in_double(source: Draw) -> Inputs:
    return {"f": source.uniform(5, 2, 3, low=0.3).double()}


def _own_gate_too(f: Tensor) -> Tensor:
    return f.flip(0).cumprod(0).flip(0)


def _one_for_all(f: Tensor) -> Tensor:
    return f.prod(0).expand(f.shape)


def _from_the_start(f: Tensor) -> Tensor:
    return f.cumprod(0)


def _before_instead_of_after(f: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(f[:1]), f[:-1].cumprod(0)])


def _not_reversed_back(f: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(f[:1]), f.flip(0)[:-1].cumprod(0)])


def _one_gate_missing(f: Tensor) -> Tensor:
    """The last gate is left out: the product ends at T - 2."""
    return torch.cat([_own_gate_too(f[:-1])[1:], torch.ones_like(f[:2])])[: len(f)]


def _single_gate(f: Tensor) -> Tensor:
    return torch.cat([f[1:], torch.ones_like(f[:1])])


def _summed(f: Tensor) -> Tensor:
    after = f[1:].flip(0).cumsum(0).flip(0)
    return torch.cat([after, torch.ones_like(f[:1])])


def _divided(f: Tensor) -> Tensor:
    return f.prod(0) / f.cumprod(0)


def _logarithms(f: Tensor) -> Tensor:
    logs = f[1:].log().flip(0).cumsum(0).flip(0).exp()
    return torch.cat([logs, torch.ones_like(f[:1])])


def _sum_of_logs(f: Tensor) -> Tensor:
    logs = f[1:].clamp(min=1e-9).log().flip(0).cumsum(0).flip(0)
    return torch.cat([logs, torch.zeros_like(f[:1])])


def _last_is_zero(f: Tensor) -> Tensor:
    after = f[1:].flip(0).cumprod(0).flip(0)
    return torch.cat([after, torch.zeros_like(f[:1])])


def _over_the_batch(f: Tensor) -> Tensor:
    after = f[:, 1:].flip(1).cumprod(1).flip(1)
    return torch.cat([after, torch.ones_like(f[:, :1])], 1)


def _averaged_over_units(f: Tensor) -> Tensor:
    return reference.cell_gradient(f.mean(2, keepdim=True)).expand(f.shape)


def _power_of_the_mean(f: Tensor) -> Tensor:
    left = torch.arange(len(f) - 1, -1, -1, device=f.device)[:, None, None]
    return f.mean(0) ** left


def _gate_squashed_again(f: Tensor) -> Tensor:
    return reference.cell_gradient(torch.sigmoid(f))


def _detached(f: Tensor) -> Tensor:
    return reference.cell_gradient(f.detach())


cell_gradient = Exercise(
    reference.cell_gradient,
    requirements=(
        Requirement(
            "matches the derivative along the cell path",
            (
                Case("6 steps, 4 sequences, 3 units", _gates(6, 4, 3, 0.3)),
                Case("as many steps as sequences as units", _gates(4, 4, 4, 0.3)),
                Case("two steps", _gates(2, 3, 5)),
                Case("a single step", _gates(1, 3, 2)),
                Case("one sequence, one unit", _gates(9, 1, 1, 0.3)),
                Case("gates that are not contiguous", _strided),
                Case("gates in float64", _in_double),
                Case("150 steps with open gates", _gates(150, 2, 3, 0.98)),
                Case("11 steps, 5 sequences, 2 units", _gates(11, 5, 2, 0.2), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "weighs what was written into the cell",
            (
                Case("the last cell state of 8 steps", _writes(8, 3, 4)),
                Case("the last cell state of 40 steps", _writes(40, 2, 3), shown=False),
            ),
            final_cell,
        ),
        Requirement(
            "a closed gate cuts, an open one passes",
            (
                Case("gates of exactly 0 and exactly 1", _closed),
                Case(
                    "150 steps with gates near one half, where products underflow",
                    _gates(150, 2, 2, 0.2, 0.7),
                ),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 6 steps", _gates(6, 4, 3, 0.3)),
                Case("gradients, gates of exactly 0 and exactly 1", _closed),
                Case("gradients, 12 steps, not drawn before", _gates(12, 1, 4, 0.5), shown=False),
            ),
            gradients,
        ),
        Requirement(
            "two calls do not disturb each other",
            (Case("two calls, 5 steps", _gates(5, 3, 2, 0.3)),),
            twice,
        ),
    ),
    mistakes=(
        Mistake(
            "Your product for step t contains f_t itself. The gate f_t is applied before the step writes, so what is written at "
            "step t meets only the gates after t.",
            _own_gate_too,
        ),
        Mistake(
            "You return the product of all gates at every step. What is written late meets fewer gates: each t has its own product.",
            _one_for_all,
        ),
        Mistake(
            "You multiply the gates from the first one up to t. What is written at step t still has the gates after t before it.",
            _from_the_start,
        ),
        Mistake(
            "You multiply the gates before t. Asked is what happens to a value after it was written: the gates t + 1 to T - 1.",
            _before_instead_of_after,
        ),
        Mistake(
            "Your products are right, but in the wrong order of time: you went backwards and did not turn the result round.",
            _not_reversed_back,
        ),
        Mistake(
            "You left out the last gate. The product runs up to and including f[T - 1].", _one_gate_missing
        ),
        Mistake(
            "You return only the next gate, the derivative over one step. Over several steps the factors multiply.",
            _single_gate,
        ),
        Mistake("You add the gates. By the chain rule the derivatives of the steps multiply.", _summed),
        Mistake(
            "You divide by a product of gates, which fails where a gate is 0 or the product underflows. Multiply backwards from the "
            "last step instead.",
            _divided,
        ),
        Mistake(
            "You go through logarithms. A gate may be exactly 0, where the logarithm is minus infinity and its gradient is NaN. "
            "Multiply.",
            _logarithms,
        ),
        Mistake("You return the logarithm of the product. Take exp, or multiply.", _sum_of_logs),
        Mistake(
            "Your last entry is 0. After the last step no gate follows, and a product without factors is 1.",
            _last_is_zero,
        ),
        Mistake("You multiply along the batch. Time is dimension 0.", _over_the_batch),
        Mistake("You average over the units first. Every unit has its own gates.", _averaged_over_units),
        Mistake(
            "You take the mean gate to a power. Gates change from step to step: multiply them.",
            _power_of_the_mean,
        ),
        Mistake(
            "You apply the sigmoid to f. The gates that come in have passed it already.", _gate_squashed_again
        ),
        Mistake("Your values are right, but you cut the gradient back to the gates.", _detached),
    ),
)
