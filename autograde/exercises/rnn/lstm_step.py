"""The exercise ``lstm_step`` of the lesson rnn/03_gates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients, twice
from utils.reference import rnn as reference

Pair = tuple[Tensor, Tensor]


def _step(batch: int, inputs: int, hidden: int, cell: float = 1.0) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x": source.normal(batch, inputs),
            "state": (
                source.uniform(batch, hidden, low=-1, high=1),
                source.normal(batch, hidden, scale=cell),
            ),
            "W_ih": source.normal(4 * hidden, inputs, scale=inputs**-0.5),
            "W_hh": source.normal(4 * hidden, hidden, scale=hidden**-0.5),
            "b_ih": source.normal(4 * hidden, scale=0.5),
            "b_hh": source.normal(4 * hidden, scale=0.5),
        }

    return draw


def _strided(source: Draw) -> Inputs:
    drawn = dict(_step(5, 4, 7)(source))
    drawn["x"] = source.normal(4, 10).t()[::2]
    drawn["state"] = (source.uniform(7, 5, low=-1, high=1).t(), source.normal(7, 5).t())
    drawn["W_ih"] = source.normal(4, 28, scale=0.5).t()
    drawn["W_hh"] = source.normal(7, 28, scale=0.4).t()
    return drawn


def _half_saturated(source: Draw) -> Inputs:
    """In every second row all four gates are far beyond saturation; the other rows are of normal size."""
    drawn = dict(_step(6, 6, 6)(source))
    signs = torch.where(source.normal(24, 1) < 0, -1.0, 1.0)
    drawn["W_ih"] = signs * torch.eye(6).repeat(4, 1) + 0.01 * drawn["W_ih"]
    large = 1e3 * torch.where(drawn["x"] < 0, -1.0, 1.0)
    every_second = torch.arange(6)[:, None] % 2 == 0
    return drawn | {"x": torch.where(every_second, large, drawn["x"])}


def _large_cell(source: Draw) -> Inputs:
    """Cell states of size 200 in every second row: tanh of them is 1, and their exponentials overflow."""
    drawn = dict(_step(4, 3, 5)(source))
    h, c = drawn["state"]
    return drawn | {"state": (h, torch.where(torch.arange(4)[:, None] % 2 == 0, 200 * c, c))}


def _all_zero(source: Draw) -> Inputs:
    return {
        key: value if key.startswith("W") else map_floats(value, torch.zeros_like)
        for key, value in _step(3, 2, 4)(source).items()
    }


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_step(3, 4, 5)(source), lambda tensor: tensor.double())
    return drawn


def _lstm(
    x: Tensor,
    state: Pair,
    W_ih: Tensor,
    W_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    *,
    order: str = "ifgo",
    squash_g: Callable[[Tensor], Tensor] = torch.tanh,
    squash_c: Callable[[Tensor], Tensor] = torch.tanh,
    squash_gates: Callable[[Tensor], Tensor] = torch.sigmoid,
    bias: tuple[int, int] = (1, 1),
    forget: float = 0.0,
    out_old: bool = False,
    peephole: bool = False,
    interleaved: bool = False,
) -> Pair:
    """The step, with switches for what goes wrong."""
    h, c = state
    z = x @ W_ih.T + bias[0] * b_ih + h @ W_hh.T + bias[1] * b_hh
    blocks = z.reshape(len(x), -1, 4).unbind(2) if interleaved else z.chunk(4, dim=1)
    parts = dict(zip(order, blocks, strict=True))
    keep = squash_gates(parts["f"] + forget)
    new = keep * c + squash_gates(parts["i"]) * squash_g(parts["g"])
    out = squash_gates(parts["o"] + (new if peephole else 0.0))
    return out * squash_c(c if out_old else new), new


def _candidate_before_forget(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, order="igfo")


def _output_before_candidate(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, order="ifog")


def _forget_first(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, order="figo")


def _forget_first_candidate_last(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, order="fiog")


def _order_of_onnx(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, order="iofg")


def _interleaved(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, interleaved=True)


def _sigmoid_candidate(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_g=torch.sigmoid)


def _linear_candidate(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_g=lambda g: g)


def _no_output_tanh(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_c=lambda c: c)


def _output_sigmoid(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_c=torch.sigmoid)


def _tanh_gates(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_gates=torch.tanh)


def _gates_not_squashed(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_gates=lambda z: z)


def _old_cell_out(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, out_old=True)


def _peephole(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, peephole=True)


def _forget_gate_plus_one(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, forget=1.0)


def _no_forget_gate(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, forget=1e4)


def _no_recurrent_bias(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, bias=(1, 0))


def _no_input_bias(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, bias=(0, 1))


def _no_bias(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, bias=(0, 0))


def _one_bias_twice(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, bias=(2, 0))


def _pair_swapped(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh)
    return c, h


def _state_taken_swapped(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    return reference.lstm_step(x, (state[1], state[0]), W_ih, W_hh, b_ih, b_hh)


def _cell_into_gates(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, (state[1], state[1]), W_ih, W_hh, b_ih, b_hh)


def _coupled(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    _, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    f = torch.sigmoid(f)
    new = f * c + (1 - f) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def _no_recurrence(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, (torch.zeros_like(state[0]), state[1]), W_ih, W_hh, b_ih, b_hh)


def _cell_kept_squashed(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh)
    return h, torch.tanh(c)


def _detached_h(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, (state[0].detach(), state[1]), W_ih, W_hh, b_ih, b_hh)


def _detached_c(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, (state[0], state[1].detach()), W_ih, W_hh, b_ih, b_hh)


def _both_detached(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, (state[0].detach(), state[1].detach()), W_ih, W_hh, b_ih, b_hh)


def _in_place(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    c *= torch.sigmoid(f)
    c += torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class _Buffer:
    """One pair of buffers for all results."""

    result: Tensor | None = None


def _one_buffer_for_all(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    new = torch.stack(reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh))
    if new.requires_grad:
        return new[0], new[1]
    old = _Buffer.result
    if old is None or old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
        old = _Buffer.result = torch.empty_like(new)
    old.copy_(new)
    return old[0], old[1]


lstm_step = Exercise(
    reference.lstm_step,
    requirements=(
        Requirement(
            "matches the formula",
            (
                Case("4 sequences, 3 inputs, 8 hidden units", _step(4, 3, 8)),
                Case("as many inputs as hidden units as sequences", _step(5, 5, 5)),
                Case("a batch of one", _step(1, 6, 3)),
                Case("one input and one hidden unit", _step(3, 1, 1)),
                Case("a batch of four, 4 hidden units", _step(4, 2, 4, cell=3.0)),
                Case("inputs, state and biases all zero", _all_zero),
                Case("inputs in float64", _in_double),
                Case("more inputs than hidden units", _step(7, 11, 4), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "large arguments saturate, nothing overflows",
            (
                Case("every second row with inputs of size 1000", _half_saturated),
                Case("every second row with cell states of size 200", _large_cell),
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
                Case("gradients, inputs that are not contiguous", _strided),
                Case("gradients, every second row saturated", _half_saturated),
                Case("gradients, large cell states", _large_cell),
                Case("gradients, a batch of one", _step(1, 2, 5), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "Your blocks are in the order i, g, f, o, as in early TensorFlow. torch has i, f, g, o: the candidate g is the third "
            "block.",
            _candidate_before_forget,
        ),
        Mistake(
            "Your blocks are in the order i, f, o, g. torch has i, f, g, o: the candidate stands before the output gate.",
            _output_before_candidate,
        ),
        Mistake(
            "Your blocks begin with the forget gate: f, i, g, o. torch has i, f, g, o.",
            _forget_first,
        ),
        Mistake(
            "Your blocks are in the order f, i, o, g, as many texts write the equations. torch has i, f, g, o.",
            _forget_first_candidate_last,
        ),
        Mistake(
            "Your blocks are in the order i, o, f, g, that of ONNX. torch has i, f, g, o.", _order_of_onnx
        ),
        Mistake(
            "You take every fourth number for a gate. The blocks lie one after the other: the first H numbers are i, the next H are f.",
            _interleaved,
        ),
        Mistake(
            "You squash the candidate g with the sigmoid. It is a value, not a gate, and may be negative: tanh.",
            _sigmoid_candidate,
        ),
        Mistake("You did not squash the candidate: g goes through tanh.", _linear_candidate),
        Mistake(
            "Your output is o c. The cell state goes through tanh first: h = o tanh(c).",
            _no_output_tanh,
        ),
        Mistake("Your output is o sigmoid(c). The cell state goes through tanh.", _output_sigmoid),
        Mistake(
            "Your gates go through tanh, which may be negative. A gate lies between 0 and 1: sigmoid.",
            _tanh_gates,
        ),
        Mistake("Your gates are not squashed: i, f and o each go through the sigmoid.", _gates_not_squashed),
        Mistake(
            "You made h from the old cell state. The output is read from the new one: h_t = o_t tanh(c_t).",
            _old_cell_out,
        ),
        Mistake(
            "Your output gate sees the cell state (a peephole). In torch's LSTM the gates see x and h only.",
            _peephole,
        ),
        Mistake(
            "You add 1 to the argument of the forget gate. Such a start belongs into the biases, not into the step.",
            _forget_gate_plus_one,
        ),
        Mistake(
            "You have no forget gate: c = c + i g, the LSTM of 1997. Multiply the old cell state by f.",
            _no_forget_gate,
        ),
        Mistake("You left out b_hh. torch keeps two biases, and both are added.", _no_recurrent_bias),
        Mistake("You left out b_ih. torch keeps two biases, and both are added.", _no_input_bias),
        Mistake("You left out both biases, b_ih and b_hh.", _no_bias),
        Mistake("You add b_ih twice and b_hh not at all.", _one_bias_twice),
        Mistake("You return (c, h). The order is (h, c), as in the state that comes in.", _pair_swapped),
        Mistake("You unpack the state as (c, h). It is (h, c).", _state_taken_swapped),
        Mistake("Your gates read the cell state. They read h: the term is h @ W_hh.T.", _cell_into_gates),
        Mistake(
            "You write with 1 - f in place of i. The LSTM has an input gate of its own.",
            _coupled,
        ),
        Mistake("Your gates do not hear the old h. Add h @ W_hh.T.", _no_recurrence),
        Mistake(
            "You return tanh(c) as the new cell state. Only the output is squashed; the cell state stays as it is.",
            _cell_kept_squashed,
        ),
        Mistake("You detached h: the values are right, but no gradient flows back through it.", _detached_h),
        Mistake(
            "You detached c: the values are right, but the gradient along the cell path is cut.", _detached_c
        ),
        Mistake("You detached the state: no gradient flows back to the step before.", _both_detached),
        Mistake(
            "You changed the cell state that came in with *= or +=. Make a new tensor: c = f * c + i * g.",
            _in_place,
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Return new ones "
            "each time.",
            _one_buffer_for_all,
        ),
    ),
    forbids=("lstm", "lstm_cell", "_thnn_fused_lstm_cell", "gru", "gru_cell", "rnn_tanh", "rnn_tanh_cell"),
    returns=("h", "c"),
)
