"""The exercise ``gru_step`` of the lesson rnn/03_gates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.nests import map_floats
from autograde.observe import Inputs
from autograde.probes import gradients, twice
from utils.reference import rnn as reference


def _step(batch: int, inputs: int, hidden: int, state: float = 1.0) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x": source.normal(batch, inputs),
            "h": source.uniform(batch, hidden, low=-state, high=state),
            "W_ih": source.normal(3 * hidden, inputs, scale=inputs**-0.5),
            "W_hh": source.normal(3 * hidden, hidden, scale=hidden**-0.5),
            "b_ih": source.normal(3 * hidden, scale=0.5),
            "b_hh": source.normal(3 * hidden, scale=0.5),
        }

    return draw


def _strided(source: Draw) -> Inputs:
    drawn = dict(_step(5, 4, 7)(source))
    drawn["x"] = source.normal(4, 10).t()[::2]
    drawn["h"] = source.uniform(7, 5, low=-1, high=1).t()
    drawn["W_ih"] = source.normal(4, 21, scale=0.5).t()
    drawn["W_hh"] = source.normal(7, 21, scale=0.4).t()
    return drawn


def _half_saturated(source: Draw) -> Inputs:
    """In every second row all blocks are far beyond saturation; the other rows are of normal size."""
    drawn = dict(_step(6, 6, 6)(source))
    signs = torch.where(source.normal(18, 1) < 0, -1.0, 1.0)
    drawn["W_ih"] = signs * torch.eye(6).repeat(3, 1) + 0.01 * drawn["W_ih"]
    large = 1e3 * torch.where(drawn["x"] < 0, -1.0, 1.0)
    every_second = torch.arange(6)[:, None] % 2 == 0
    return drawn | {"x": torch.where(every_second, large, drawn["x"])}


def _all_zero(source: Draw) -> Inputs:
    return {
        key: value if key.startswith("W") else torch.zeros_like(value)
        for key, value in _step(3, 2, 4)(source).items()
    }


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_step(3, 4, 5)(source), lambda tensor: tensor.double())
    return drawn


def _gru(
    x: Tensor,
    h: Tensor,
    W_ih: Tensor,
    W_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    *,
    order: str = "rzn",
    reset: str = "product",
    keep: str = "z h",
    squash_n: Callable[[Tensor], Tensor] = torch.tanh,
    squash_gates: Callable[[Tensor], Tensor] = torch.sigmoid,
    bias: tuple[int, int] = (1, 1),
    interleaved: bool = False,
) -> Tensor:
    """The step, with switches for what goes wrong."""
    b_x, b_h = bias[0] * b_ih, bias[1] * b_hh
    at_x, at_h, weights, biases = (
        dict(
            zip(
                order,
                t.reshape(*t.shape[:-1], -1, 3).unbind(-1) if interleaved else t.chunk(3, -1),
                strict=True,
            )
        )
        for t in (x @ W_ih.T + b_x, h @ W_hh.T + b_h, W_hh.T, b_h)
    )
    r, z = squash_gates(at_x["r"] + at_h["r"]), squash_gates(at_x["z"] + at_h["z"])
    inside = {
        "product": at_x["n"] + r * at_h["n"],
        "state": at_x["n"] + (r * h) @ weights["n"] + biases["n"],
        "product without bias": at_x["n"] + r * (h @ weights["n"]) + biases["n"],
        "everything": r * (at_x["n"] + at_h["n"]),
        "input": r * at_x["n"] + at_h["n"],
        "nothing": at_x["n"] + at_h["n"],
        "swapped": at_x["n"] + z * at_h["n"],
        "turned": at_x["n"] + (1 - r) * at_h["n"],
    }[reset]
    n = squash_n(inside)
    return {
        "z h": (1 - z) * n + z * h,
        "z n": z * n + (1 - z) * h,
        "r": (1 - r) * n + r * h,
        "add": n + z * h,
        "write": (1 - z) * n + h,
        "n": n,
        "reset too": (1 - z) * n + z * r * h,
    }[keep]


def _original_paper(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="state")


def _bias_outside(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="product without bias")


def _reset_everything(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="everything")


def _reset_input(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="input")


def _no_reset(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="nothing")


def _reset_turned(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="turned")


def _update_for_reset(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="swapped")


def _update_turned(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, keep="z n")


def _update_first(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, order="zrn")


def _candidate_first(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, order="nrz")


def _candidate_second(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, order="rnz")


def _interleaved(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, interleaved=True)


def _mixed_by_reset(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, keep="r")


def _candidate_not_weighted(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, keep="add")


def _state_not_weighted(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, keep="write")


def _candidate_returned(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, keep="n")


def _reset_in_the_mix(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, keep="reset too")


def _sigmoid_candidate(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_n=torch.sigmoid)


def _linear_candidate(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_n=lambda n: n)


def _tanh_gates(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_gates=torch.tanh)


def _result_squashed(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return torch.tanh(_gru(x, h, W_ih, W_hh, b_ih, b_hh))


def _no_recurrent_bias(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, bias=(1, 0))


def _no_input_bias(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, bias=(0, 1))


def _no_bias(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, bias=(0, 0))


def _biases_swapped(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_hh, b_ih)


def _detached_state(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h.detach(), W_ih, W_hh, b_ih, b_hh)


def _in_place(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    h.copy_(_gru(x, h.clone(), W_ih, W_hh, b_ih, b_hh))
    return h


class _Buffer:
    """One buffer for all results."""

    result: Tensor | None = None


def _one_buffer_for_all(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    new = _gru(x, h, W_ih, W_hh, b_ih, b_hh)
    if new.requires_grad:
        return new
    old = _Buffer.result
    if old is None or old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
        old = _Buffer.result = torch.empty_like(new)
    return old.copy_(new)


gru_step = Exercise(
    reference.gru_step,
    requirements=(
        Requirement(
            "matches the formula",
            (
                Case("4 sequences, 3 inputs, 8 hidden units", _step(4, 3, 8)),
                Case("as many inputs as hidden units as sequences", _step(5, 5, 5)),
                Case("a batch of one", _step(1, 6, 3)),
                Case("one input and one hidden unit", _step(3, 1, 1)),
                Case("a batch of three, 3 hidden units", _step(3, 2, 3)),
                Case("states outside (-1, 1)", _step(4, 3, 5, state=3.0)),
                Case("inputs, state and biases all zero", _all_zero),
                Case("inputs in float64", _in_double),
                Case("more inputs than hidden units", _step(7, 11, 4), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "large arguments saturate, nothing overflows",
            (Case("every second row with inputs of size 1000", _half_saturated),),
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
                Case("gradients, inputs, state and biases all zero", _all_zero),
                Case("gradients, a batch of one", _step(1, 2, 5), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You apply r to h before the product with W_hn, as the first paper does. In torch r multiplies the product: "
            "r * (h @ W_hn.T + b_hn).",
            _original_paper,
        ),
        Mistake(
            "Your b_hn stands outside of r. It belongs to the recurrent part: r * (h @ W_hn.T + b_hn).",
            _bias_outside,
        ),
        Mistake(
            "Your r multiplies the input part of the candidate, too. It gates the recurrent part only.",
            _reset_everything,
        ),
        Mistake("Your r gates the input part of the candidate. It gates the recurrent part.", _reset_input),
        Mistake("Your reset gate has no effect: r is missing from the candidate.", _no_reset),
        Mistake("You multiply the recurrent part by 1 - r. It is multiplied by r.", _reset_turned),
        Mistake(
            "You gate the candidate with z. It is gated by r; z mixes it with the old state.",
            _update_for_reset,
        ),
        Mistake(
            "Your z is turned round. In torch z = 1 keeps the old state: h = (1 - z) * n + z * h.",
            _update_turned,
        ),
        Mistake(
            "Your blocks are in the order z, r, n, as in Keras. torch has r, z, n.",
            _update_first,
        ),
        Mistake("Your blocks begin with the candidate. torch has r, z, n.", _candidate_first),
        Mistake("Your blocks are in the order r, n, z. torch has r, z, n.", _candidate_second),
        Mistake(
            "You take every third number for a gate. The blocks lie one after the other: the first H numbers are r, the next H are z.",
            _interleaved,
        ),
        Mistake("You mix n and h with r. The mixing gate is z.", _mixed_by_reset),
        Mistake("Your candidate enters with weight 1. Its weight is 1 - z.", _candidate_not_weighted),
        Mistake("Your old state enters with weight 1. Its weight is z.", _state_not_weighted),
        Mistake(
            "You return the candidate n. The new state mixes it with the old one: (1 - z) * n + z * h.",
            _candidate_returned,
        ),
        Mistake(
            "Your r reaches the old state in the mix, too. It acts only inside the candidate.",
            _reset_in_the_mix,
        ),
        Mistake(
            "You squash the candidate n with the sigmoid. It is a value, not a gate: tanh.",
            _sigmoid_candidate,
        ),
        Mistake("You did not squash the candidate: n goes through tanh.", _linear_candidate),
        Mistake(
            "Your gates go through tanh, which may be negative. A gate lies between 0 and 1: sigmoid.",
            _tanh_gates,
        ),
        Mistake(
            "You take tanh of the new state. It is a mix of n and h and is not squashed again.",
            _result_squashed,
        ),
        Mistake(
            "You left out b_hh. torch keeps two biases, and here it matters which is which.",
            _no_recurrent_bias,
        ),
        Mistake(
            "You left out b_ih. torch keeps two biases, and here it matters which is which.", _no_input_bias
        ),
        Mistake("You left out both biases, b_ih and b_hh.", _no_bias),
        Mistake(
            "You swapped the biases: b_ih goes with x, b_hh with h. In the candidate only b_hh stands inside r.",
            _biases_swapped,
        ),
        Mistake(
            "You detached h: the values are right, but no gradient flows back to the step before.",
            _detached_state,
        ),
        Mistake("You wrote the new state into the tensor h that came in. Return a new tensor.", _in_place),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Return a new "
            "one each time.",
            _one_buffer_for_all,
        ),
    ),
    forbids=("gru", "gru_cell", "_thnn_fused_gru_cell", "lstm", "lstm_cell", "rnn_tanh", "rnn_tanh_cell"),
)
