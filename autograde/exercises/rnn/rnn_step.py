"""The exercise ``rnn_step`` of the lesson rnn/01_vanilla_rnn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Inputs, Observation
from autograde.probes import gradients, twice
from autograde.values import leaves
from utils.reference import rnn as reference


def _step(batch: int, inputs: int, hidden: int, scale: float = 1.0) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x": source.normal(batch, inputs, scale=scale),
            "h": source.uniform(batch, hidden, low=-1, high=1),
            "W_ih": source.normal(hidden, inputs, scale=inputs**-0.5),
            "W_hh": source.normal(hidden, hidden, scale=hidden**-0.5),
            "b_ih": source.normal(hidden, scale=0.5),
            "b_hh": source.normal(hidden, scale=0.5),
        }

    return draw


def _strided_step(source: Draw) -> Inputs:
    drawn = dict(_step(5, 4, 7)(source))
    drawn["x"] = source.normal(4, 10).t()[::2]
    drawn["h"] = source.uniform(7, 5, low=-1, high=1).t()
    drawn["W_ih"] = source.normal(4, 7, scale=0.5).t()
    drawn["W_hh"] = source.normal(7, 7, scale=0.4).t()
    return drawn


def _half_saturated(source: Draw) -> Inputs:
    """In every second row the pre-activation of every unit is about 1000; the other rows are of normal size."""
    drawn = dict(_step(6, 6, 6)(source))
    drawn["W_ih"] = torch.eye(6) + 0.01 * drawn["W_ih"]
    large = 1e3 * torch.where(drawn["x"] < 0, -1.0, 1.0)
    every_second = torch.arange(6)[:, None] % 2 == 0
    return drawn | {"x": torch.where(every_second, large, drawn["x"])}


def _large_states(source: Draw) -> Inputs:
    drawn = dict(_step(4, 3, 5)(source))
    return drawn | {"h": 3 * drawn["h"]}


def _all_zero(source: Draw) -> Inputs:
    """Inputs, state and biases are zero, where a tanh of one's own may divide zero by zero."""
    drawn = _step(3, 2, 4)(source)
    return {key: value if key.startswith("W") else torch.zeros_like(value) for key, value in drawn.items()}


def _in_double(source: Draw) -> Inputs:
    return {key: value.double() / 1.1 for key, value in _step(3, 4, 5)(source).items()}


_IN_DOUBLE = "float64, to all its digits"


def _rounded_to_float32(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """In float64 every number that came back is one of float32, and not all of them are simple ones."""
    one = next(seen[key] for key in seen if key[1] == _IN_DOUBLE)
    value = torch.cat([leaf.data.flatten() for _, leaf in leaves(one.value)])
    rounded: bool = value.dtype == torch.float64 and torch.equal(value, value.float().double())
    return rounded and not torch.equal(value, value.bfloat16().double())


def _untransposed(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh + b_hh)


def _one_bias(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T)


def _recurrent_bias_only(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return torch.tanh(x @ W_ih.T + h @ W_hh.T + b_hh)


def _no_bias(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + h @ W_hh.T)


def _sigmoid(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.sigmoid(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)


def _relu(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.relu(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)


def _linear(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return x @ W_ih.T + b_ih + h @ W_hh.T + b_hh


def _two_tanhs(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih) + torch.tanh(h @ W_hh.T + b_hh)


def _no_memory(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih + b_hh)


def _detached_state(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih + h.detach() @ W_hh.T + b_hh)


def _one_bias_twice(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_ih)


def _state_outside(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih) + h @ W_hh.T + b_hh


def _old_state_added(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return h + torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)


def _elementwise(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(x @ W_ih.T + b_ih + h * W_hh.diagonal() + b_hh)


def _in_float32(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    single = [tensor.float() for tensor in (x, h, W_ih, W_hh, b_ih, b_hh)]
    return reference.rnn_step(*single).to(x.dtype)


class _Buffer:
    """One buffer for all results."""

    result: Tensor | None = None


def _one_buffer_for_all(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    new = torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)
    if new.requires_grad:
        return new
    if _Buffer.result is None or _Buffer.result.shape != new.shape or _Buffer.result.dtype != new.dtype:
        _Buffer.result = torch.empty_like(new)
    return _Buffer.result.copy_(new)


rnn_step = Exercise(
    reference.rnn_step,
    requirements=(
        Requirement(
            "matches the formula",
            (
                Case("4 sequences, 3 inputs, 8 hidden units", _step(4, 3, 8)),
                Case("as many inputs as hidden units as sequences", _step(5, 5, 5)),
                Case("a batch of one", _step(1, 6, 3)),
                Case("one input and one hidden unit", _step(3, 1, 1)),
                Case("states outside (-1, 1)", _large_states),
                Case("inputs in float64", _in_double),
                Case("more inputs than hidden units", _step(7, 11, 4), shown=False),
            ),
        ),
        Requirement(
            "large inputs saturate, nothing overflows",
            (Case("every second row with inputs of size 1000", _half_saturated),),
        ),
        Requirement(
            "float64 stays float64 on the way",
            (Case(_IN_DOUBLE, _in_double),),
            tolerance=Tolerance(
                2.0**-22,
                "the derived tolerance is that of float32; this one refuses a detour through float32",
            ),
        ),
        Requirement(
            "two calls do not disturb each other",
            (
                Case("two calls, 4 sequences", _step(4, 3, 8)),
                Case("two calls, a batch of one", _step(1, 2, 3), shown=False),
            ),
            twice,
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 sequences", _step(4, 3, 8)),
                Case("gradients, inputs that are not contiguous", _strided_step),
                Case("gradients, every second row saturated", _half_saturated),
                Case("gradients, inputs, state and biases all zero", _all_zero),
                Case("gradients, a batch of one", _step(1, 2, 5), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You multiply by W_hh, not by its transpose. A row of h times W_hh.T gives each unit its own row of weights; "
            "the matrix is square, so nothing crashes.",
            _untransposed,
        ),
        Mistake("You left out b_hh. torch keeps two biases, and both are added.", _one_bias),
        Mistake("You left out b_ih. torch keeps two biases, and both are added.", _recurrent_bias_only),
        Mistake("You left out both biases, b_ih and b_hh.", _no_bias),
        Mistake(
            "You used the sigmoid. The cell of this notebook uses tanh, whose values lie in (-1, 1).",
            _sigmoid,
        ),
        Mistake("You used ReLU. The cell of this notebook uses tanh, whose values lie in (-1, 1).", _relu),
        Mistake(
            "You left out tanh: without it, the state is a linear function of the inputs and may grow.",
            _linear,
        ),
        Mistake(
            "You take tanh of each term and add. First add the two terms and the biases, then take one tanh.",
            _two_tanhs,
        ),
        Mistake("Your new state does not depend on the old one. Add h W_hh.T before the tanh.", _no_memory),
        Mistake(
            "You detached h: the values are right, but no gradient flows back to the step before.",
            _detached_state,
        ),
        Mistake("You add b_ih twice and b_hh not at all.", _one_bias_twice),
        Mistake(
            "The bracket of your tanh closes too early: h W_hh.T and b_hh are added after it. All four terms belong inside.",
            _state_outside,
        ),
        Mistake(
            "You add the old state to the result. In this cell h enters only through h W_hh.T, inside the tanh.",
            _old_state_added,
        ),
        Mistake(
            "Each of your units hears only itself: you use the diagonal of W_hh, or a product element by element. The term is "
            "a matrix product, h @ W_hh.T.",
            _elementwise,
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Return a new "
            "one each time.",
            _one_buffer_for_all,
        ),
        Mistake(
            "You compute in float32, or less, and convert the result. What comes in as float64 is computed in float64.",
            _in_float32,
            _rounded_to_float32,
        ),
    ),
    forbids=(
        "rnn_tanh",
        "rnn_tanh_cell",
        "rnn_relu",
        "rnn_relu_cell",
        "gru",
        "gru_cell",
        "lstm",
        "lstm_cell",
    ),
)
