"""Exercises of the series ``rnn``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Counted, Implementation, Inputs, Observation
from autograde.probes import Gradients, gradients
from utils.reference import rnn as reference

# --- 01: window_error -------------------------------------------------------------------------------------------------


def error_table(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The error for each pair (w, t) of ``pairs``, labelled."""
    return {f"window_error({w}, {t})": implementation(w, t) for w, t in inputs["pairs"]}


def _pairs(*windows: int, offset: tuple[int, int]) -> Callable[[Draw], Inputs]:
    """For each window one position t = w + offset, the offset drawn between two bounds."""

    def draw(source: Draw) -> Inputs:
        return {"pairs": [(w, w + source.integer(*offset)) for w in windows]}

    return draw


def _covering(source: Draw) -> Inputs:
    """Positions that lie inside the window, the first and the last of them always."""
    between = [(w, source.integer(0, w - 1)) for w in (2, 5, 9)]
    return {"pairs": [(1, 0), (4, 0), (4, 3), (7, 6), *between]}


def _everything_unknown_is_wrong(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) if t >= w else 0.0


def _position_itself_propagates(w: int, t: int) -> float:
    return 2.0**-w * (1 - 2.0 ** -(t - w + 1)) / 2 if t >= w else 0.0


def _stationary_everywhere(w: int, t: int) -> float:
    return 2.0**-w


def _stationary_carry(w: int, t: int) -> float:
    return 2.0**-w if t >= w else 0.0


def _carry_into_t(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0**-t) / 2 if t >= w else 0.0


def _carry_one_too_low(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0 ** -(t - w)) / 2 if t >= w else 0.0


def _negative_inside(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0 ** -(t - w + 1)) / 2


def _accuracy(w: int, t: int) -> float:
    return 1 - reference.window_error(w, t)


def _one_position_decides(w: int, t: int) -> float:
    return (1 - 2.0 ** -(w - 1)) * (1 - 2.0 ** -(t - w + 1)) / 2 if t >= w else 0.0


window_error = Exercise(
    reference.window_error,
    requirements=(
        Requirement(
            "far from the first bit",
            (
                Case("t far to the left of the window", _pairs(1, 2, 3, 5, 8, offset=(26, 60))),
                Case("wide windows", _pairs(10, 12, 17, offset=(26, 40)), shown=False),
            ),
            error_table,
        ),
        Requirement(
            "close to the first bit, where a carry is rarer",
            (
                Case("the window misses only a few bits", _pairs(1, 2, 4, 7, offset=(0, 3))),
                Case("the window misses exactly one bit", _pairs(1, 3, 6, 11, offset=(0, 0))),
                Case("the window misses two to five bits", _pairs(2, 3, 9, offset=(1, 4)), shown=False),
            ),
            error_table,
        ),
        Requirement(
            "no error where the window sees everything",
            (Case("t inside the first window", _covering),),
            error_table,
        ),
    ),
    mistakes=(
        Mistake(
            "You count every unknown carry as an error. A guess is right some of the time: multiply by the probability "
            "that the unknown carry is 1, because the best guess is 0.",
            _everything_unknown_is_wrong,
        ),
        Mistake(
            "You count w propagating positions. Position t is where the carry arrives; only the w - 1 positions before "
            "it in the window have to pass it on.",
            _position_itself_propagates,
        ),
        Mistake(
            "You return 2^-w everywhere. That is the limit for large t. Near the first bit a carry is rarer, and where "
            "the window sees everything there is no error at all.",
            _stationary_everywhere,
        ),
        Mistake(
            "You take 1/2 for the probability of a carry. It reaches 1/2 only in the limit: the carry into position n "
            "is 1 with probability (1 - 2^-n) / 2.",
            _stationary_carry,
        ),
        Mistake(
            "You take the probability of the carry into position t. What is unknown is the carry into the first "
            "position that the window sees, t - w + 1.",
            _carry_into_t,
        ),
        Mistake(
            "You take the carry into position t - w. The first position in the window is t - w + 1: count them.",
            _carry_one_too_low,
        ),
        Mistake(
            "Your probability is negative where the window reaches beyond the first bit. There nothing is unknown: "
            "return 0.",
            _negative_inside,
        ),
        Mistake(
            "You return the probability of being right. Asked is the probability of being wrong.", _accuracy
        ),
        Mistake(
            "You use the probability that at least one position decides the carry. The error happens when none does: "
            "when all w - 1 positions propagate.",
            _one_position_decides,
        ),
    ),
)

# --- 01: rnn_step -----------------------------------------------------------------------------------------------------


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
    drawn["W_hh"] = source.normal(7, 7, scale=0.4).t()
    return drawn


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
                Case("more inputs than hidden units", _step(7, 11, 4), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "large inputs saturate, nothing overflows",
            (Case("inputs of size 1000", _step(4, 3, 6, scale=1e3)),),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 sequences", _step(4, 3, 8)),
                Case("gradients, inputs that are not contiguous", _strided_step),
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
    ),
    forbids=("rnn_tanh", "rnn_tanh_cell", "rnn_relu", "rnn_relu_cell"),
)

# --- 01: adder_weights ------------------------------------------------------------------------------------------------

ADDER_SHAPES = {
    "W_ih": (3, 2),
    "W_hh": (3, 3),
    "b_ih": (3,),
    "b_hh": (3,),
    "h0": (3,),
    "w_out": (3,),
    "b_out": (),
}


def adder_shapes(implementation: Implementation, inputs: Inputs) -> Any:
    """The keys, shapes and dtypes of the weights, as text."""
    weights = implementation(inputs["gain"])
    if type(weights) is not dict or any(type(value) is not Tensor for value in weights.values()):
        return weights
    return {
        f"{name}, its shape and dtype": f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        for name, value in sorted(weights.items())
    }


def added_bits(implementation: Implementation, inputs: Inputs) -> Any:
    """The bits that an RNN with these weights writes when it reads ``pairs`` [batch, time, 2]."""
    weights = implementation(inputs["gain"])
    if type(weights) is not dict or any(tuple(weights[k].shape) != s for k, s in ADDER_SHAPES.items()):
        return weights
    h = weights["h0"].expand(len(inputs["pairs"]), 3)
    bits = []
    for pair in inputs["pairs"].to(weights["W_ih"].dtype).unbind(1):
        h = torch.tanh(pair @ weights["W_ih"].T + weights["b_ih"] + h @ weights["W_hh"].T + weights["b_hh"])
        bits.append(h @ weights["w_out"] + weights["b_out"] > 0.5)
    return torch.stack(bits, 1)


def gain_doubled(implementation: Implementation, inputs: Inputs) -> Any:
    """Whether doubling the gain doubles every pre-activation: both matrices and the sum of the biases."""
    single, double = implementation(inputs["gain"]), implementation(2 * inputs["gain"])
    if type(single) is not dict or type(double) is not dict:
        return single
    parts = {"W_ih": ("W_ih",), "W_hh": ("W_hh",), "b_ih + b_hh": ("b_ih", "b_hh")}
    return {
        f"{label} doubles": bool(
            torch.allclose(sum(double[n] for n in names), 2 * sum(single[n] for n in names))
        )
        for label, names in parts.items()
    }


def _gain(value: float) -> Callable[[Draw], Inputs]:
    return lambda source: {"gain": value}


def _additions(count: int, bits: int, gain: float) -> Callable[[Draw], Inputs]:
    """Random pairs of numbers of ``bits`` bits, and one more position for the last carry."""

    def draw(source: Draw) -> Inputs:
        pairs = source.integers(count, bits, 2, low=0, high=1)
        return {"gain": gain, "pairs": torch.cat([pairs, torch.zeros(count, 1, 2, dtype=pairs.dtype)], 1)}

    return draw


def _longest_carry(bits: int, gain: float) -> Callable[[Draw], Inputs]:
    """2^bits - 1 plus 1, and the same with no carry to start with."""

    def draw(source: Draw) -> Inputs:
        pairs = torch.zeros(2, bits + 1, 2, dtype=torch.int64)
        pairs[:, :bits, 0] = 1
        pairs[0, 0, 1] = 1
        return {"gain": gain, "pairs": pairs}

    return draw


def _adder(
    gain: float,
    *,
    carry: float = 0.5,
    start: float = -1.0,
    threshold: float = 0.5,
    b_out: float = 0.5,
    column: int = 1,
    w_out: tuple[float, float, float] = (0.5, -0.5, 0.5),
    transpose: bool = False,
) -> dict[str, Tensor]:
    """The adder, with switches for what goes wrong."""
    recurrent = torch.zeros(3, 3)
    recurrent[:, column] = carry * gain
    bias = torch.tensor([carry - (k - threshold) for k in (1.0, 2.0, 3.0)])
    return {
        "W_ih": torch.full((3, 2), float(gain)),
        "W_hh": recurrent.T.contiguous() if transpose else recurrent,
        "b_ih": gain * bias,
        "b_hh": torch.zeros(3),
        "h0": torch.full((3,), start),
        "w_out": torch.tensor(w_out),
        "b_out": torch.tensor(b_out),
    }


def _zero_start(gain: float) -> dict[str, Tensor]:
    return _adder(gain, start=0.0)


def _carry_starts_on(gain: float) -> dict[str, Tensor]:
    return _adder(gain, start=1.0)


def _thresholds_at_k(gain: float) -> dict[str, Tensor]:
    return _adder(gain, threshold=0.0)


def _state_read_as_bit(gain: float) -> dict[str, Tensor]:
    weights = _adder(gain, carry=1.0)
    return weights | {"b_ih": gain * torch.tensor([-0.5, -1.5, -2.5])}


def _transposed_recurrence(gain: float) -> dict[str, Tensor]:
    return _adder(gain, transpose=True)


def _carry_from_first_unit(gain: float) -> dict[str, Tensor]:
    return _adder(gain, column=0)


def _carry_as_output(gain: float) -> dict[str, Tensor]:
    return _adder(gain, w_out=(0.0, 0.5, 0.0))


def _no_output_bias(gain: float) -> dict[str, Tensor]:
    return _adder(gain, b_out=0.0)


def _gain_ignored(gain: float) -> dict[str, Tensor]:
    return _adder(10.0)


adder_weights = Exercise(
    reference.adder_weights,
    requirements=(
        Requirement("keys, shapes and dtypes", (Case("gain 8, shapes", _gain(8.0)),), adder_shapes),
        Requirement(
            "adds random numbers",
            (
                Case("64 pairs of 8-bit numbers, gain 8", _additions(64, 8, 8.0)),
                Case("16 pairs of 200-bit numbers, gain 10", _additions(16, 200, 10.0)),
                Case("64 pairs of 33-bit numbers, gain 13", _additions(64, 33, 13.0), shown=False),
            ),
            added_bits,
            points=2,
        ),
        Requirement(
            "keeps a carry for as long as it takes",
            (
                Case("a carry through 200 positions, and no carry at all", _longest_carry(200, 8.0)),
                Case("a carry through 500 positions, gain 20", _longest_carry(500, 20.0), shown=False),
            ),
            added_bits,
        ),
        Requirement(
            "the gain scales every pre-activation", (Case("gain 8 and 16", _gain(8.0)),), gain_doubled
        ),
    ),
    mistakes=(
        Mistake(
            "Your state starts at 0, which is neither on nor off. Before the first bit there is no carry: unit 2 is off, "
            "which is -1.",
            _zero_start,
        ),
        Mistake(
            "Your carry unit starts on: the first sum is one too large. h0 is -1 for unit 2.",
            _carry_starts_on,
        ),
        Mistake(
            "Your thresholds lie at 1, 2 and 3, exactly where the sums are, so that tanh sees 0. Put them half-way "
            "between two sums: at k - 1/2.",
            _thresholds_at_k,
        ),
        Mistake(
            "You add h_2 as if it were the carry bit. It is -1 or +1; the bit is (h_2 + 1) / 2, so the weight is half "
            "the gain and the rest goes into the bias.",
            _state_read_as_bit,
        ),
        Mistake(
            "The carry's weights stand in a row of W_hh. Row k holds what unit k listens to; every unit listens to "
            "unit 2, so they stand in column 2.",
            _transposed_recurrence,
        ),
        Mistake(
            "You carry unit 1, which is on when the sum is at least 1. A carry needs a sum of at least 2: unit 2.",
            _carry_from_first_unit,
        ),
        Mistake(
            "Your output is the carry, not the sum bit (reading unit 2 alone gives that, and so does adding all three). The "
            "sum bit is on for a sum of 1 or 3: unit 2 has to switch the output off again, so its sign is negative.",
            _carry_as_output,
        ),
        Mistake(
            "Your readout is off by one half: (h_1 - h_2 + h_3) / 2 is -1/2 or +1/2. With b_out = 1/2 it becomes the bit.",
            _no_output_bias,
        ),
        Mistake(
            "Your weights do not depend on the gain. It multiplies W_ih, W_hh and the bias, so that tanh is steeper.",
            _gain_ignored,
        ),
    ),
)

# --- 01: rnn_forward --------------------------------------------------------------------------------------------------


def cell(inputs: Inputs) -> Counted:
    """A recurrent cell that is not the one of the lesson, so that only the unrolling is looked at."""
    return Counted(lambda x_t, h: torch.sin(x_t @ inputs["U"] + h @ inputs["V"] + 0.3))


def unrolled(implementation: Implementation, inputs: Inputs) -> Any:
    """(out, h_last) for a cell with the weights U and V."""
    return implementation(cell(inputs), inputs["x"], inputs["h0"], inputs["lengths"])


def unrolled_and_counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """(out, h_last), and how often the cell was called."""
    step = cell(inputs)
    value = implementation(step, inputs["x"], inputs["h0"], inputs["lengths"])
    return {"value": value, "calls of step": step.calls}


def _sequences(
    time: int,
    lengths: tuple[int, ...] | None,
    inputs: int = 3,
    hidden: int = 5,
    padding: float = 1.0,
    batch: int = 4,
) -> Callable[[Draw], Inputs]:
    """A batch of sequences; where ``lengths`` is None they are drawn, one of them 1 and none of them all of ``time``."""

    def draw(source: Draw) -> Inputs:
        if lengths is None:
            chosen = source.integers(batch, low=1, high=time - 1)
            chosen[source.integer(0, batch - 1)] = 1
        else:
            chosen = torch.tensor(lengths)
        x = source.normal(len(chosen), time, inputs)
        past = torch.arange(time)[None, :] >= chosen[:, None]
        return {
            "x": torch.where(past[..., None], padding * x, x),
            "h0": source.normal(len(chosen), hidden, scale=0.7),
            "lengths": chosen,
            "U": source.normal(inputs, hidden, scale=0.8 * inputs**-0.5),
            "V": source.normal(hidden, hidden, scale=0.8 * hidden**-0.5),
        }

    return draw


Step = Callable[[Tensor, Tensor], Tensor]


def _unroll(
    step: Step,
    x: Tensor,
    h0: Tensor,
    lengths: Tensor,
    *,
    shift: int = 0,
    freeze: bool = True,
    blank: bool = True,
    before: bool = False,
    detach: bool = False,
) -> tuple[Tensor, Tensor]:
    """The unrolling, with switches for what goes wrong."""
    h, outs = h0, []
    for t in range(x.shape[1]):
        new = step(x[:, t], h.detach() if detach else h)
        alive = (t < lengths + shift)[:, None]
        shown = h if before else new
        outs.append(torch.where(alive, shown, torch.zeros_like(new) if blank else (h if freeze else new)))
        h = torch.where(alive, new, h) if freeze else new
    return torch.stack(outs, 1), h


def _state_runs_on(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, freeze=False)


def _lengths_ignored(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, torch.full_like(lengths, x.shape[1]))


def _outputs_not_blanked(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, blank=False)


def _last_column(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, _ = _unroll(step, x, h0, lengths)
    return out, out[:, -1]


def _zero_state(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, torch.zeros_like(h0), lengths)


def _one_step_too_far(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, shift=1)


def _one_step_short(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, shift=-1)


def _state_before_step(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, before=True)


def _detached_steps(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, detach=True)


def _time_first(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, last = _unroll(step, x, h0, lengths)
    return out.transpose(0, 1), last


def _initial_state_everywhere(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    mask = torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]
    out = torch.stack([step(x_t, h0) for x_t in x.unbind(1)], 1) * mask[..., None]
    return out, out[torch.arange(len(x)), lengths - 1]


def _one_sequence_at_a_time(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    parts = [_unroll(step, x[b : b + 1], h0[b : b + 1], lengths[b : b + 1]) for b in range(len(x))]
    return torch.cat([out for out, _ in parts]), torch.cat([last for _, last in parts])


_ONCE = "calls the step once per time step"


def _right_but_often(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """More calls than time steps, although the outputs have a value for every sequence."""
    found = [entry.value for (requirement, _), entry in observed.items() if requirement == _ONCE]
    return bool(found) and all(
        type(value) is dict
        and type(value.get("calls of step")) is int
        and type(value.get("value")) is tuple
        and hasattr(value["value"][0], "data")
        and value["value"][0].data.dim() == 3
        and value["calls of step"] > value["value"][0].data.shape[1]
        for value in found
    )


rnn_forward = Exercise(
    reference.rnn_forward,
    requirements=(
        Requirement(
            "unrolls the cell over time",
            (
                Case("4 sequences of 6 steps", _sequences(6, (6, 6, 6, 6))),
                Case("a single step", _sequences(1, (1, 1, 1))),
                Case("one sequence", _sequences(7, (7,))),
                Case("as many steps as sequences as inputs", _sequences(4, (4, 4, 4, 4), inputs=4, hidden=4)),
                Case("30 steps, 1 hidden unit", _sequences(30, (30, 30), hidden=1), shown=False),
            ),
            unrolled,
            points=2,
        ),
        Requirement(
            "stops each sequence at its own length",
            (
                Case("lengths 3, 6, 1, 4", _sequences(6, (3, 6, 1, 4))),
                Case("no sequence as long as the batch", _sequences(8, (5, 2, 7))),
                Case("large values in the padding", _sequences(6, (2, 5, 6), padding=1e3)),
                Case("lengths drawn at random", _sequences(11, None, batch=9), shown=False),
            ),
            unrolled,
            points=2,
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, lengths 3, 6, 1, 4", _sequences(6, (3, 6, 1, 4))),
                Case("gradients, lengths drawn at random", _sequences(9, None, batch=5), shown=False),
            ),
            Gradients(of=unrolled),
        ),
        Requirement(
            _ONCE,
            (
                Case(
                    "16 sequences of 5 steps", _sequences(5, (1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 5, 5, 5, 5, 5, 5))
                ),
                Case("7 sequences of 12 steps", _sequences(12, (12, 3, 8, 1, 12, 5, 2)), shown=False),
            ),
            unrolled_and_counted,
            bounds={
                "calls of step": Bound(
                    most=lambda inputs: inputs["x"].shape[1],
                    unit="calls",
                    why="One call per time step serves the whole batch at once.",
                    naive=lambda inputs: inputs["x"].shape[0] * inputs["x"].shape[1],
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You call the step for each sequence separately. Hand it the whole batch x[:, t] at once: T calls, not "
            "batch times T.",
            _one_sequence_at_a_time,
            recognise=_right_but_often,
        ),
        Mistake(
            "Your state runs on after a sequence has ended: h_last is the state after the padding. Keep the old state "
            "where t has reached the length.",
            _state_runs_on,
        ),
        Mistake("You ignore lengths: every sequence runs through its padding to the end.", _lengths_ignored),
        Mistake(
            "Your outputs past the end repeat the frozen state. They have to be zero there.",
            _outputs_not_blanked,
        ),
        Mistake(
            "You read h_last from out[:, -1]. For a sequence that ended earlier that is padding, which is zero.",
            _last_column,
        ),
        Mistake("You start from zeros. The first state is h0, which is handed in.", _zero_state),
        Mistake(
            "Each sequence runs one step too far. With steps counted from 0, the steps t < length are valid.",
            _one_step_too_far,
        ),
        Mistake(
            "Each sequence stops one step early. With steps counted from 0, the step t = length - 1 is still valid.",
            _one_step_short,
        ),
        Mistake(
            "You store the state before the step. out[:, t] is the state after reading x[:, t].",
            _state_before_step,
        ),
        Mistake(
            "Your values are right, but you cut the gradient between the steps: no detach and no .data inside the loop.",
            _detached_steps,
        ),
        Mistake(
            "Your outputs have time first. Stack along dimension 1, so that the shape is (batch, time, hidden).",
            _time_first,
        ),
        Mistake(
            "Every step starts from h0. Hand each step the state that the step before it returned.",
            _initial_state_everywhere,
        ),
    ),
    forbids=("rnn_tanh", "rnn_tanh_cell", "rnn_relu", "rnn_relu_cell", "gru", "lstm"),
    returns=("out", "h_last"),
)

# --- 01: last_valid ---------------------------------------------------------------------------------------------------


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


def _padded(source: Draw) -> Inputs:
    """Zero past each length, as rnn_forward leaves it."""
    drawn = dict(_outputs(7, (4, 7, 1, 6))(source))
    mask = torch.arange(7)[None, :] < drawn["lengths"][:, None]
    return drawn | {"out": drawn["out"] * mask[..., None]}


def _at_the_end(out: Tensor, lengths: Tensor) -> Tensor:
    return out[:, -1]


def _off_by_one(out: Tensor, lengths: Tensor) -> Tensor:
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
                Case("one step, one hidden unit", _outputs(1, (1, 1), hidden=1)),
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
    ),
)

# --- 01: n_params -----------------------------------------------------------------------------------------------------


def _count(input_size: int, hidden_size: int, gates: int | None = None) -> Callable[[Draw], Inputs]:
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    return lambda source: sizes if gates is None else sizes | {"gates": gates}


def _random_count(source: Draw) -> Inputs:
    return {"input_size": source.integer(2, 300), "hidden_size": source.integer(301, 900), "gates": 4}


def _one_bias_vector(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2 + hidden_size)


def _no_biases(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2)


def _biases_once(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2) + 2 * hidden_size


def _gates_ignored(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return hidden_size * input_size + hidden_size**2 + 2 * hidden_size


def _input_squared(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + input_size**2 + 2 * hidden_size)


def _no_recurrence(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + 2 * hidden_size)


n_params = Exercise(
    reference.n_params,
    requirements=(
        Requirement(
            "counts what torch counts",
            (
                Case("3 inputs, 8 hidden units, gates left out", _count(3, 8)),
                Case("1 input, 1 hidden unit", _count(1, 1, 1)),
                Case("a GRU: 28 inputs, 64 hidden units, 3 gates", _count(28, 64, 3)),
                Case("an LSTM of a size drawn at random", _random_count, shown=False),
            ),
        ),
    ),
    mistakes=(
        Mistake("You count one bias vector. torch keeps two for each gate, b_ih and b_hh.", _one_bias_vector),
        Mistake("You left out the biases: two vectors of hidden_size for each gate.", _no_biases),
        Mistake("You count the biases once. Every gate has its own two.", _biases_once),
        Mistake("You left out gates: a GRU has three sets of weights, an LSTM four.", _gates_ignored),
        Mistake(
            "W_hh maps hidden to hidden: its size is hidden_size squared, not input_size squared.",
            _input_squared,
        ),
        Mistake("You left out W_hh, the weights from the old state to the new one.", _no_recurrence),
    ),
)
