"""The exercise ``gru_step`` of the lesson rnn/03_gates."""

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


def _order_nzr(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, order="nzr")


def _order_znr(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, order="znr")


def _update_first_and_turned(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, order="zrn", keep="z n")


def _paper_and_turned(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, reset="state", keep="z n")


def _paper_without_bias(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    hidden = h.shape[1]
    n = torch.tanh(n_x + (r * h) @ W_hh[2 * hidden :].T)
    return (1 - z) * n + z * h


def _candidate_without_b_hn(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * (n_h - b_hh[2 * h.shape[1] :]))
    return (1 - z) * n + z * h


def _candidate_without_b_in(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x - b_ih[2 * h.shape[1] :] + r * n_h)
    return (1 - z) * n + z * h


def _both_biases_in_bracket(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    b_in = b_ih[2 * h.shape[1] :]
    n = torch.tanh(n_x - b_in + r * (n_h + b_in))
    return (1 - z) * n + z * h


def _first_bias_twice(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_ih)


def _second_bias_twice(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_hh, b_hh)


def _input_ignored(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(torch.zeros_like(x), h, W_ih, W_hh, b_ih, b_hh)


def _state_ignored(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, torch.zeros_like(h), W_ih, W_hh, b_ih, b_hh)


def _no_recurrence(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, torch.zeros_like(W_hh), b_ih, b_hh)


def _gates_from_input(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x), torch.sigmoid(z_x)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h


def _candidate_from_input(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    _, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    _, z_h, _ = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    z = torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x)
    return (1 - z) * n + z * h


def _state_without_weights(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * h)
    return (1 - z) * n + z * h


def _reset_around_tanh(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = r * torch.tanh(n_x + n_h)
    return (1 - z) * n + z * h


def _two_tanh(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x) + r * torch.tanh(n_h)
    return (1 - z) * n + z * h


def _old_state_by_reset(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + r * h


def _parts_squashed(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x) + torch.sigmoid(r_h), torch.sigmoid(z_x) + torch.sigmoid(z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h


def _gates_not_squashed(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_gates=lambda a: a)


def _state_clamped(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh).clamp(-1, 1)


def _blocks_not_transposed(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    blocks = torch.cat([block.T for block in W_hh.chunk(3)])
    return _gru(x, h, W_ih, blocks, b_ih, b_hh)


def _sigmoid_by_exp(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_gates=lambda a: 1 / (1 + torch.exp(-a)))


def _sigmoid_by_two_exp(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_gates=lambda a: torch.exp(a) / (1 + torch.exp(a)))


def _tanh_by_exp(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(
        x, h, W_ih, W_hh, b_ih, b_hh, squash_n=lambda a: (torch.exp(2 * a) - 1) / (torch.exp(2 * a) + 1)
    )


def _arguments_clamped(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    return _gru(
        x,
        h,
        W_ih,
        W_hh,
        b_ih,
        b_hh,
        squash_gates=lambda a: torch.sigmoid(a.clamp(-10, 10)),
    )


def _no_gradient(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    with torch.no_grad():
        return _gru(x, h, W_ih, W_hh, b_ih, b_hh)


def _weights_detached(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih.detach(), W_hh.detach(), b_ih.detach(), b_hh.detach())


def _detached_in_the_mix(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h.detach()


def _detached_in_the_gates(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h.detach() @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h


def _kept_part_in_place(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    h *= z
    return h + (1 - z) * n


def _in_float32(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x.float(), h.float(), W_ih.float(), W_hh.float(), b_ih.float(), b_hh.float()).to(x.dtype)


def _changed_after_its_use(
    x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    r *= n_h  # was needed for the gradient of the sigmoid
    return (1 - z) * torch.tanh(n_x + r) + z * h


def _tanh_by_one_exp(x: Tensor, h: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, h, W_ih, W_hh, b_ih, b_hh, squash_n=lambda a: 2 / (1 + torch.exp(-2 * a)) - 1)


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
        Mistake("Your blocks are in the order n, z, r. torch has r, z, n.", _order_nzr),
        Mistake("Your blocks are in the order z, n, r. torch has r, z, n.", _order_znr),
        Mistake(
            "Two things differ. Your blocks are in the order z, r, n, and your z is turned round. torch has r, z, n and h = (1 - z) * n + z * h.",
            _update_first_and_turned,
        ),
        Mistake(
            "Two things differ. Your r stands at h, before the product: torch has r * (h @ W_hn.T + b_hn). And your z is turned round: z = 1 keeps the old state.",
            _paper_and_turned,
        ),
        Mistake(
            "You apply r to h before the product, as the first paper does, and b_hn is missing. In torch r multiplies the product and its bias: r * (h @ W_hn.T + b_hn).",
            _paper_without_bias,
        ),
        Mistake("b_hn is missing from the candidate: r * (h @ W_hn.T + b_hn).", _candidate_without_b_hn),
        Mistake("b_in is missing from the candidate: x @ W_in.T + b_in.", _candidate_without_b_in),
        Mistake("Your r multiplies b_in, too. Only b_hn stands inside the bracket.", _both_biases_in_bracket),
        Mistake("You add b_ih to both products. b_hh goes with h.", _first_bias_twice),
        Mistake("You add b_hh to both products. b_ih goes with x.", _second_bias_twice),
        Mistake("Your gates and your candidate do not see the input. Add x @ W_ih.T.", _input_ignored),
        Mistake(
            "Your step ignores the old state: h is in both gates, in the candidate and in the mix.",
            _state_ignored,
        ),
        Mistake("Your gates and your candidate do not hear the old state. Add h @ W_hh.T.", _no_recurrence),
        Mistake("Your gates see the input only. Add the blocks of h @ W_hh.T + b_hh.", _gates_from_input),
        Mistake(
            "Your candidate does not hear the old state: n = tanh(n_x + r * n_h).", _candidate_from_input
        ),
        Mistake(
            "Your candidate takes r * h without the product with W_hn: r * (h @ W_hn.T + b_hn).",
            _state_without_weights,
        ),
        Mistake(
            "Your r multiplies the whole candidate, outside of tanh. It multiplies the recurrent part inside of it.",
            _reset_around_tanh,
        ),
        Mistake(
            "You squash the two parts of the candidate one by one. One tanh goes around their sum.", _two_tanh
        ),
        Mistake(
            "Your old state is weighed with r. Its weight is z, so that the two weights add up to 1.",
            _old_state_by_reset,
        ),
        Mistake(
            "You squash the two parts of a gate one by one, so it can be larger than 1. Add them, then take one sigmoid.",
            _parts_squashed,
        ),
        Mistake("Your gates are not squashed: r and z each go through the sigmoid.", _gates_not_squashed),
        Mistake(
            "You clamp the new state. A mix of n and h needs no clamping; it stays between -1 and 1 by itself if it starts there.",
            _state_clamped,
        ),
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
            "You clamp the arguments of the gates. torch.sigmoid does not overflow: leave the arguments as they are.",
            _arguments_clamped,
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
            "You detached h in the mix: the gradient along z, the path that lasts, is cut.",
            _detached_in_the_mix,
        ),
        Mistake(
            "You detached h in the gates and the candidate. The gradient flows back there, too.",
            _detached_in_the_gates,
        ),
        Mistake(
            "You changed the tensor h that came in. Whoever calls you still needs it: make a new tensor.",
            _kept_part_in_place,
        ),
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
    ),
    forbids=("gru", "gru_cell", "_thnn_fused_gru_cell", "lstm", "lstm_cell", "rnn_tanh", "rnn_tanh_cell"),
)
