"""The exercise ``cell_gradient`` of the lesson rnn/03_gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Implementation, Inputs, Observation
from autograde.probes import gradients
from utils.reference import rnn as reference


def final_cell(implementation: Implementation, inputs: Inputs) -> Any:
    """The last cell state, put together from what was written at each step: the sum of D_t i_t g_t."""
    return (implementation(inputs["f"]) * inputs["written"]).sum(0)


def two_calls(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The results of two calls, looked at after both: the second one gets 1 - f, which are gates as well."""
    first, second = implementation(inputs["f"]), implementation(1 - inputs["f"])
    return {"the first result": first, "the second result": second}


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
    """Gates of exactly 0 and exactly 1, also in the first and in the last step."""
    f = source.uniform(7, 4, 3, low=0.3, high=1.0)
    f[3, :, 0], f[5, :, 1], f[1:, 2] = 0.0, 0.0, 1.0
    f[2, 0], f[4, 0] = 0.0, 0.0
    f[0, 1], f[6, 3, 1] = 0.0, 0.0  # the first gate of all, which is in no product, and the last one
    return {"f": f}


def _strided(source: Draw) -> Inputs:
    """Batch first in memory."""
    return {"f": source.uniform(4, 6, 3, low=0.3, high=1.0).transpose(0, 1)}


def _in_double(source: Draw) -> Inputs:
    """Numbers that float32 does not have."""
    return {"f": 1 - source.uniform(5, 2, 3, high=0.7).double() / 3}


CLOSED = "gates of exactly 0 and exactly 1"
IN_DOUBLE = "gates in float64, to all their digits"


def _rounded_to_float32(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """In float64 every number that came back is one of float32, and not all of them are simple ones."""
    value = next(seen[key].value for key in seen if key[1] == IN_DOUBLE).data
    rounded: bool = value.dtype == torch.float64 and torch.equal(value, value.float().double())
    return rounded and not torch.equal(value, value.bfloat16().double())


def _lets_a_little_through(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """Behind the two gates that ``_closed`` closes for a whole sequence there is a little instead of nothing."""
    value = seen["a closed gate cuts, an open one passes", CLOSED].value.data[:4, 0]
    return bool((value > 0).any()) and bool((value >= 0).all()) and bool((value < 1e-5).all())


def _filled_after_use(seen: Mapping[tuple[str, str], Observation]) -> bool:
    return any(
        one.raised is not None and "modified by an inplace operation" in one.raised.message
        for one in seen.values()
    )


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


def _one_step_further(f: Tensor) -> Tensor:
    return torch.stack([f[t + 2 :].prod(0) for t in range(len(f))])


def _forwards(f: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(f[:1]), f[1:].cumprod(0)])


def _forwards_then_reversed(f: Tensor) -> Tensor:
    return _forwards(f).flip(0)


def _all_reversed(f: Tensor) -> Tensor:
    return f.cumprod(0).flip(0)


def _one_at_the_front(f: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(f[:1]), _own_gate_too(f[1:])])


def _rolled(f: Tensor) -> Tensor:
    return _own_gate_too(torch.roll(f, -1, 0))


def _over_the_units(f: Tensor) -> Tensor:
    after = f[:, :, 1:].flip(2).cumprod(2).flip(2)
    return torch.cat([after, torch.ones_like(f[:, :, :1])], 2)


def _averaged_over_batch(f: Tensor) -> Tensor:
    return reference.cell_gradient(f.mean(1, keepdim=True)).expand(f.shape)


def _share_lost(f: Tensor) -> Tensor:
    return reference.cell_gradient(1 - f)


def _own_gate_divided_out(f: Tensor) -> Tensor:
    return _own_gate_too(f) / f


def _divided_by_a_bit_more(f: Tensor) -> Tensor:
    return f.prod(0) / (f.cumprod(0) + 1e-12)


def _divided_nan_replaced(f: Tensor) -> Tensor:
    return (f.prod(0) / f.cumprod(0)).nan_to_num(0.0)


def _logarithms_of_a_bit_more(f: Tensor) -> Tensor:
    logs = (f[1:] + 1e-12).log().flip(0).cumsum(0).flip(0).exp()
    return torch.cat([logs, torch.ones_like(f[:1])])


def _product_detached(f: Tensor) -> Tensor:
    left = [torch.ones_like(f[0])]
    for f_t in f[1:].flip(0):
        left.append(left[-1].detach() * f_t)
    return torch.stack(left[::-1])


def _one_tensor_filled(f: Tensor) -> Tensor:
    left = torch.ones_like(f)
    for t in range(len(f) - 2, -1, -1):
        left[t] = left[t + 1] * f[t + 1]
    return left


def _in_float32(f: Tensor) -> Tensor:
    return reference.cell_gradient(f.float()).to(f.dtype)


class _Buffer:
    """One buffer for all results."""

    result: Tensor | None = None


def _one_buffer_for_all(f: Tensor) -> Tensor:
    new = reference.cell_gradient(f)
    if new.requires_grad:
        return new
    old = _Buffer.result
    if old is None or old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
        old = _Buffer.result = torch.empty_like(new)
    return old.copy_(new)


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
                Case(
                    "150 steps with gates near one half, where products underflow",
                    _gates(150, 2, 2, 0.2, 0.7),
                ),
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
            (Case(CLOSED, _closed),),
            rows=True,  # behind a step with all gates closed exactly 0 is left
        ),
        Requirement(
            "float64 stays float64 on the way",
            (Case(IN_DOUBLE, _in_double),),
            tolerance=Tolerance(
                2.0**-22,
                "the derived tolerance is that of float32; this one refuses a detour through float32",
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
            (Case("two calls, 5 steps", _gates(5, 3, 2)),),
            two_calls,
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
        Mistake(
            "You leave out the gate right after the step: your product begins at f[t + 2]. It begins at f[t + 1].",
            _one_step_further,
        ),
        Mistake(
            "You multiply forwards from f[1]. D_t holds the gates after t: begin at the last step and go back in time.",
            _forwards,
        ),
        Mistake(
            "You turn the result round, but the products grew from the first gates. The first factor to take, going back from the "
            "end, is the last gate: go through f[1:].flip(0).",
            _forwards_then_reversed,
        ),
        Mistake(
            "You multiply from the first gate on and turn only the result round. Turn the gates round before you multiply, too.",
            _all_reversed,
        ),
        Mistake(
            "Your 1 stands at the front, and so every product is one step late. The 1 belongs to the last step.",
            _one_at_the_front,
        ),
        Mistake(
            "You shifted the gates with roll, which brings the first gate back in at the end. A 1 has to stand there.",
            _rolled,
        ),
        Mistake("You multiply along the units. Time is dimension 0.", _over_the_units),
        Mistake("You average over the batch first. Every sequence has its own gates.", _averaged_over_batch),
        Mistake("You multiply 1 - f, what each step loses. What a step keeps is f.", _share_lost),
        Mistake(
            "You divide the gate f_t out of a product that holds it, which fails where that gate is 0. Leave it out from the start.",
            _own_gate_divided_out,
        ),
        Mistake(
            "You divide by a product of gates with a small number added. Behind a closed gate, or where the products underflow, this "
            "leaves 0 instead of what is left. Multiply backwards from the last step.",
            _divided_by_a_bit_more,
        ),
        Mistake(
            "You divide by a product of gates and replace the NaN of 0/0 by 0. After a closed gate the share left is not 0. "
            "Multiply backwards from the last step.",
            _divided_nan_replaced,
        ),
        Mistake(
            "A closed gate lets a little through in your answer: you add a small number somewhere, or keep the gates away from 0. A "
            "gate may be exactly 0. Then exactly nothing is left, and a gradient flows back to it. Multiply the gates as they are.",
            _logarithms_of_a_bit_more,
            _lets_a_little_through,
        ),
        Mistake(
            "You detach the product from step to step. The gradient has to flow back through all its factors.",
            _product_detached,
        ),
        Mistake(
            "You write into a tensor from which you have already computed: the gradient needs its old values, and backward refuses. "
            "Collect the steps in a list and stack them.",
            _one_tensor_filled,
            _filled_after_use,
        ),
        Mistake(
            "You compute in float32, or less, and convert the result. Gates in float64 are computed in float64.",
            _in_float32,
            _rounded_to_float32,
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Return a new "
            "one each time.",
            _one_buffer_for_all,
        ),
        Mistake("Your values are right, but you cut the gradient back to the gates.", _detached),
    ),
)
