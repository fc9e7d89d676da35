"""The exercise ``adder_weights`` of the lesson rnn/01_vanilla_rnn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs
from utils.reference import rnn as reference


def adder_shapes(implementation: Implementation, inputs: Inputs) -> Any:
    """What stands under each key, as text."""
    weights = implementation(inputs["gain"])
    if type(weights) is not dict:
        return weights
    return {str(name): _described(value) for name, value in sorted(weights.items())}


def _described(value: object) -> str:
    if type(value) is not Tensor and type(value) is not torch.nn.Parameter:
        return f"an object of type {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"


def added_bits(implementation: Implementation, inputs: Inputs) -> Any:
    """The bits that an RNN with these weights writes when it reads ``pairs`` [batch, time, 2]."""
    weights = implementation(inputs["gain"])
    h = weights["h0"].expand(len(inputs["pairs"]), 3)
    bits = []
    for pair in inputs["pairs"].to(weights["W_ih"]).unbind(1):
        h = torch.tanh(pair @ weights["W_ih"].T + weights["b_ih"] + h @ weights["W_hh"].T + weights["b_hh"])
        bits.append(h @ weights["w_out"] + weights["b_out"] > 0.5)
    return torch.stack(bits, 1)


def sums(implementation: Implementation, inputs: Inputs) -> Any:
    """The sums as numbers, by the text of the addition; for numbers of a few bits."""
    powers = 2 ** torch.arange(inputs["pairs"].shape[1])
    values = (added_bits(implementation, inputs).cpu() * powers).sum(1).tolist()
    terms = (inputs["pairs"].cpu() * powers[:, None]).sum(1).tolist()
    return {f"{a} + {b}": value for (a, b), value in zip(terms, values, strict=True)}


def growth(implementation: Implementation, inputs: Inputs) -> Any:
    """By how much the pre-activations' parts grow when the gain doubles: both matrices, and the sum of the biases."""
    single, double = implementation(inputs["gain"]), implementation(2 * inputs["gain"])
    parts = {"W_ih": ("W_ih",), "W_hh": ("W_hh",), "b_ih + b_hh": ("b_ih", "b_hh")}
    sizes = {
        label: [sum(weights[name] for name in names) for weights in (single, double)]
        for label, names in parts.items()
    }
    return {f"the growth of {label}": (b * a).sum() / (a * a).sum() for label, (a, b) in sizes.items()}


def _gain(value: float) -> Callable[[Draw], Inputs]:
    return lambda source: {"gain": value}


def _additions(count: int, bits: int, gain: float) -> Callable[[Draw], Inputs]:
    """Random pairs of numbers of ``bits`` bits, and one more position for the last carry."""

    def draw(source: Draw) -> Inputs:
        pairs = source.integers(count, bits, 2, low=0, high=1)
        return {"gain": gain, "pairs": torch.cat([pairs, torch.zeros(count, 1, 2, dtype=pairs.dtype)], 1)}

    return draw


def _all_pairs(bits: int, gain: float) -> Callable[[Draw], Inputs]:
    """Every pair of numbers of ``bits`` bits."""

    def draw(source: Draw) -> Inputs:
        numbers = torch.arange(2**bits)
        a, b = (side.reshape(-1, 1) for side in torch.meshgrid(numbers, numbers, indexing="ij"))
        return {"gain": gain, "pairs": torch.stack([a, b], 2) >> torch.arange(bits + 1)[None, :, None] & 1}

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


def _state_weighted_by_gain(gain: float) -> dict[str, Tensor]:
    weights = _adder(gain)
    return weights | {"W_hh": 2 * weights["W_hh"]}


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


def _own_state_only(gain: float) -> dict[str, Tensor]:
    return _adder(gain) | {"W_hh": gain / 2 * torch.eye(3)}


def _no_carry(gain: float) -> dict[str, Tensor]:
    return _adder(gain) | {"W_hh": torch.zeros(3, 3)}


def _third_unit_not_read(gain: float) -> dict[str, Tensor]:
    return _adder(gain, w_out=(0.5, -0.5, 0.0), b_out=0.0)


def _bias_sign(gain: float) -> dict[str, Tensor]:
    return _adder(gain) | {"b_ih": gain * torch.tensor([0.0, 1.0, 2.0])}


def _bias_not_scaled(gain: float) -> dict[str, Tensor]:
    return _adder(gain) | {"b_ih": torch.tensor([0.0, -1.0, -2.0])}


def _bias_in_both(gain: float) -> dict[str, Tensor]:
    weights = _adder(gain)
    return weights | {"b_hh": weights["b_ih"]}


def _carry_not_scaled(gain: float) -> dict[str, Tensor]:
    recurrent = torch.zeros(3, 3)
    recurrent[:, 1] = 0.5
    return _adder(gain) | {"W_hh": recurrent}


def _readout_inverted(gain: float) -> dict[str, Tensor]:
    return _adder(gain, w_out=(-0.5, 0.5, -0.5))


adder_weights = Exercise(
    reference.adder_weights,
    requirements=(
        Requirement("keys, shapes and dtypes", (Case("gain 8", _gain(8.0)),), adder_shapes, gate=True),
        Requirement(
            "adds small numbers",
            (
                Case("all pairs of 3-bit numbers, gain 8", _all_pairs(3, 8.0)),
                Case("40 pairs of 8-bit numbers, gain 13", _additions(40, 8, 13.0), shown=False),
            ),
            sums,
        ),
        Requirement(
            "adds large numbers",
            (
                Case("16 pairs of 200-bit numbers, gain 10", _additions(16, 200, 10.0)),
                Case("16 pairs of 133-bit numbers, gain 8", _additions(16, 133, 8.0), shown=False),
            ),
            added_bits,
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
            "the gain multiplies every pre-activation",
            (Case("gain 8, then 16", _gain(8.0)), Case("gain 0.75, then 1.5", _gain(0.75))),
            growth,
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
            "In effect your thresholds lie at 1, 2 and 3, exactly where the sums are. Either k stands where k - 1/2 should, "
            "or gain / 2 is missing from the bias: c = (h_2 + 1) / 2 leaves it behind.",
            _thresholds_at_k,
        ),
        Mistake(
            "You add h_2 as if it were the carry bit. It is -1 or +1; the bit is (h_2 + 1) / 2, so the weight is half "
            "the gain and the rest goes into the bias.",
            _state_read_as_bit,
        ),
        Mistake(
            "You gave the carry the weight gain. The carry is (h_2 + 1) / 2, so the weight of h_2 is gain / 2.",
            _state_weighted_by_gain,
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
        Mistake(
            "Each of your units listens to itself. All three have to hear the carry, which is unit 2: its weights fill column 2 "
            "of W_hh.",
            _own_state_only,
        ),
        Mistake("Your units do not hear the carry: W_hh is zero, or its column 2 is.", _no_carry),
        Mistake(
            "Your readout leaves out unit 3. It is right for sums of 0, 1 and 2, but where three ones meet the sum bit is 1 again.",
            _third_unit_not_read,
        ),
        Mistake(
            "The sign of your thresholds is wrong: unit k switches where the sum reaches k - 1/2, so the bias is negative, "
            "gain * (1 - k).",
            _bias_sign,
        ),
        Mistake(
            "Your bias is not multiplied by the gain. The whole argument of the tanh is, the threshold too.",
            _bias_not_scaled,
        ),
        Mistake(
            "b_ih and b_hh hold the whole bias each, so it counts twice. Only their sum matters.",
            _bias_in_both,
        ),
        Mistake(
            "The carry's weight is not multiplied by the gain: W_hh holds 1/2 instead of gain / 2. A carry then fades.",
            _carry_not_scaled,
        ),
        Mistake(
            "Your output is inverted: it says 1 where the sum bit is 0. Turn the signs of w_out round.",
            _readout_inverted,
        ),
    ),
)
