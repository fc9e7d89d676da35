"""The exercise ``lstm_step`` of the lesson rnn/03_gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.nests import map_floats
from autograde.observe import Inputs, Observation
from autograde.probes import gradients, twice
from autograde.values import leaves
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
    drawn: Inputs = map_floats(_step(3, 4, 5)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _half_saturated_in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_half_saturated(source), lambda tensor: tensor.double() / 1.1)
    return drawn


IN_DOUBLE = "float64, to all its digits"


def _rounded_to_float32(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """In float64 every number that came back is one of float32, and not all of them are simple ones."""
    one = next(seen[key] for key in seen if key[1] == IN_DOUBLE)
    value = torch.cat([leaf.data.flatten() for _, leaf in leaves(one.value)])
    rounded: bool = value.dtype == torch.float64 and torch.equal(value, value.float().double())
    return rounded and not torch.equal(value, value.bfloat16().double())


def _changed_after_use(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """Backward refuses, and not because what came in was changed."""
    refused = any(
        one.raised is not None and "modified by an inplace operation" in one.raised.message
        for one in seen.values()
    )
    return refused and not any(one.changed for one in seen.values())


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


def _no_input_gate(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def _no_output_gate(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.tanh(new), new


def _forget_turned(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = (1 - torch.sigmoid(f)) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def _forget_all(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * (c + torch.sigmoid(i) * torch.tanh(g))
    return torch.sigmoid(o) * torch.tanh(new), new


def _output_of_candidate(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(g), new


def _h_in_place_of_c(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * h + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def _nothing_squashed(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * g
    return torch.sigmoid(o) * new, new


def _candidate_squashed_twice(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(torch.sigmoid(g))
    return torch.sigmoid(o) * torch.tanh(new), new


def _sigmoid_everywhere(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.sigmoid(g)
    return torch.sigmoid(o) * torch.sigmoid(new), new


def _old_cell_returned(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), c


def _old_output_returned(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return h, new


def _output_twice(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), torch.sigmoid(o) * torch.tanh(new)


def _cell_twice(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return new, new


def _other_bias_twice(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, state, W_ih, W_hh, b_hh, b_hh)


def _input_ignored(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(torch.zeros_like(x), state, W_ih, W_hh, b_ih, b_hh)


def _blocks_not_transposed(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    blocks = torch.cat([block.T for block in W_hh.chunk(4)])
    return reference.lstm_step(x, state, W_ih, blocks, b_ih, b_hh)


def _sigmoid_by_exp(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    i, f, o = (1 / (1 + torch.exp(-gate)) for gate in (i, f, o))
    new = f * c + i * torch.tanh(g)
    return o * torch.tanh(new), new


def _sigmoid_by_two_exp(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    i, f, o = (torch.exp(gate) / (1 + torch.exp(gate)) for gate in (i, f, o))
    new = f * c + i * torch.tanh(g)
    return o * torch.tanh(new), new


def _tanh_by_exp(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    e = torch.exp(2 * g)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * (e - 1) / (e + 1)
    e = torch.exp(2 * new)
    return torch.sigmoid(o) * (e - 1) / (e + 1), new


def _arguments_clamped(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    i, f, g, o = (gate.clamp(-10, 10) for gate in (i, f, g, o))
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def _cell_clamped(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    new = (torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)).clamp(-10, 10)
    return torch.sigmoid(o) * torch.tanh(new), new


def _gates_detached(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).detach().chunk(4, dim=1)
    new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


def _no_gradient(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    with torch.no_grad():
        return reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh)


def _weights_detached(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    return reference.lstm_step(x, state, W_ih.detach(), W_hh.detach(), b_ih.detach(), b_hh.detach())


def _result_cell_detached(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh)
    return h, c.detach()


def _both_in_place(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh)
    state[0].copy_(h)
    state[1].copy_(c)
    return state


def _h_in_place(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = reference.lstm_step(x, state, W_ih, W_hh, b_ih, b_hh)
    return state[0].copy_(h), c


def _in_float32(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    h, c = reference.lstm_step(
        x.float(),
        (state[0].float(), state[1].float()),
        W_ih.float(),
        W_hh.float(),
        b_ih.float(),
        b_hh.float(),
    )
    return h.to(x.dtype), c.to(x.dtype)


def _changed_after_its_use(
    x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Pair:
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    new = i * g
    i *= 0  # was needed for the gradient of i * g
    new = new + f * c
    return o * torch.tanh(new), new


def _ordered(order: str) -> Callable[..., Pair]:
    """The step with the blocks in another order."""

    def step(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
        return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, order=order)

    step.__name__ = f"_order_{order}"
    return step


_OTHER_ORDERS = tuple(
    Mistake(f"Your blocks are in the order {', '.join(order)}. torch has i, f, g, o.", _ordered(order))
    for order in ("gifo", "gfio", "fgio", "fogi", "oifg", "ofig", "ogfi", "iogf")
)


def _tanh_by_one_exp(x: Tensor, state: Pair, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Pair:
    def tanh(a: Tensor) -> Tensor:
        return 1 - 2 / (1 + torch.exp(2 * a))

    return _lstm(x, state, W_ih, W_hh, b_ih, b_hh, squash_g=tanh, squash_c=tanh)


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
            "float64 stays float64 on the way",
            (
                Case(IN_DOUBLE, _in_double),
                Case("float64, every second row saturated", _half_saturated_in_double),
            ),
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
            "Your input and forget gates are exchanged, as if the blocks were in the order f, i, g, o. torch has i, f, g, o.",
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
            "You changed the cell state that came in (with *=, += or the like). Make a new tensor: c = f * c + i * g.",
            _in_place,
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Return new ones "
            "each time.",
            _one_buffer_for_all,
        ),
        Mistake("Your candidate is written without the input gate: c = f c + i g.", _no_input_gate),
        Mistake("Your output gate has no effect: h = o tanh(c).", _no_output_gate),
        Mistake(
            "Your forget gate is turned round. f = 1 keeps the old cell state: c = f c + i g.", _forget_turned
        ),
        Mistake(
            "Your forget gate multiplies what is written now, too. It multiplies the old cell state only.",
            _forget_all,
        ),
        Mistake(
            "You made h from the candidate. The output is read from the new cell state: h = o tanh(c).",
            _output_of_candidate,
        ),
        Mistake(
            "Your forget gate keeps the old h. It keeps the old cell state: c = f c + i g.", _h_in_place_of_c
        ),
        Mistake(
            "Both tanh are missing: the candidate goes through tanh, and so does the cell state on its way out.",
            _nothing_squashed,
        ),
        Mistake(
            "Your candidate goes through the sigmoid and then through tanh. Only the three gates go through the sigmoid.",
            _candidate_squashed_twice,
        ),
        Mistake(
            "You use the sigmoid everywhere. The candidate, and the cell state on its way out, go through tanh.",
            _sigmoid_everywhere,
        ),
        Mistake("You return the old cell state beside the new h. Return the new one.", _old_cell_returned),
        Mistake("You return the old h beside the new cell state. Return the new one.", _old_output_returned),
        Mistake("You return h twice. The second of the pair is the new cell state.", _output_twice),
        Mistake(
            "You return the cell state twice. The first of the pair is the output h = o tanh(c).", _cell_twice
        ),
        Mistake("You add b_hh twice and b_ih not at all.", _other_bias_twice),
        Mistake("Your gates do not see the input. Add x @ W_ih.T.", _input_ignored),
        Mistake(
            "You multiply h by the blocks of W_hh as they stand. Each is to be transposed: h @ W_hh.T.",
            _blocks_not_transposed,
        ),
        Mistake(
            "Your values are right, but your sigmoid is made of exp, which overflows for large arguments, and the gradient becomes NaN. Use torch.sigmoid.",
            _sigmoid_by_exp,
        ),
        Mistake(
            "In exp(a) / (1 + exp(a)) both overflow for large arguments, and infinity by infinity is NaN. Use torch.sigmoid.",
            _sigmoid_by_two_exp,
        ),
        Mistake(
            "Your tanh is made of exponentials, which overflow for large arguments. Use torch.tanh.",
            _tanh_by_exp,
        ),
        Mistake(
            "You clamp the arguments of the gates. torch.sigmoid and torch.tanh do not overflow: leave the arguments as they are.",
            _arguments_clamped,
        ),
        Mistake("You clamp the cell state. It may be large; torch.tanh does not overflow.", _cell_clamped),
        Mistake(
            "You detached the arguments of the gates: only the cell path has a gradient. It flows back through the gates, too.",
            _gates_detached,
        ),
        Mistake(
            "Your values are right, but no gradient flows back from them at all (no_grad, detach, NumPy, or numbers in between).",
            _no_gradient,
        ),
        Mistake(
            "You detached the weights (or took their .data): they get no gradient and cannot be trained.",
            _weights_detached,
        ),
        Mistake(
            "You detached the new cell state that you return: the gradient of the next step cannot flow back through it.",
            _result_cell_detached,
        ),
        Mistake("You wrote the new state into the tensors that came in. Return new ones.", _both_in_place),
        Mistake("You wrote the new h into the tensor that came in. Return a new one.", _h_in_place),
        Mistake(
            "Your values are right, but your tanh is made of exp, which overflows for large arguments, and the gradient becomes NaN. Use torch.tanh.",
            _tanh_by_one_exp,
        ),
        Mistake(
            "You compute in float32, or less, and convert the result. What comes in as float64 is computed in float64.",
            _in_float32,
            _rounded_to_float32,
        ),
        Mistake(
            "You change a tensor in place from which you have already computed: the gradient needs its old values, and backward "
            "refuses. Make new tensors.",
            _changed_after_its_use,
            _changed_after_use,
        ),
        *_OTHER_ORDERS,
    ),
    forbids=("lstm", "lstm_cell", "_thnn_fused_lstm_cell", "gru", "gru_cell", "rnn_tanh", "rnn_tanh_cell"),
    returns=("h", "c"),
)
