"""The exercise ``bptt`` of the lesson rnn/02_bptt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.exercises.rnn.counting import within, work
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation
from autograde.probes import twice
from utils.reference import rnn as reference

_BY_HAND = "by hand, not by autograd"
_PASSES = "operators run by autograd"
_ONE_SWEEP = "one sweep backwards"
_FOR_HALF = "multiplications for half the steps"


def by_hand(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The gradients, and how many operators autograd ran, in a backward pass or in forward mode."""
    value, done = work(lambda: implementation(*inputs.values()))
    return {"value": value, _PASSES: done.by_autograd}


def counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The gradients, and the multiplications; those for half the steps tell how they grow."""
    half = _half(inputs)
    value, done = work(lambda: implementation(*inputs.values()))
    _, done_for_half = work(lambda: implementation(*half.values()))
    return {
        "value": value,
        "multiplications": within(done.multiplications, _enough(inputs)),
        _FOR_HALF: within(done_for_half.multiplications, _enough(half)),
    }


def _half(inputs: Inputs) -> Inputs:
    """The same with the first half of the steps only."""
    steps = inputs["x"].shape[1] // 2
    return {
        name: value[:, :steps] if name in ("x", "h", "dL_dh") else value for name, value in inputs.items()
    }


def _sizes(inputs: Inputs) -> tuple[int, int, int, int]:
    batch, time, size = inputs["x"].shape
    return batch, time, size, inputs["h0"].shape[1]


def _per_step(inputs: Inputs) -> int:
    """Multiplications of one step backwards, generously: four products, sums of the weights, what is elementwise."""
    batch, _, size, hidden = _sizes(inputs)
    return 2 * (batch + 1) * hidden * (size + hidden) + 12 * batch * (hidden + size)


def _enough(inputs: Inputs) -> float:
    return 3.0 * int(inputs["x"].shape[1]) * _per_step(inputs)


def _quadratic(inputs: Inputs) -> float:
    time = int(inputs["x"].shape[1])
    return time * (time + 1) / 2 * _per_step(inputs)


def _layer(batch: int, time: int, inputs: int, hidden: int, size: float = 0.9) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x": source.normal(batch, time, inputs),
            "h0": source.uniform(batch, hidden, low=-size, high=size),
            "h": source.uniform(batch, time, hidden, low=-size, high=size),
            "dL_dh": source.normal(batch, time, hidden),
            "W_ih": source.normal(hidden, inputs),
            "W_hh": source.normal(hidden, hidden, scale=hidden**-0.5),
        }

    return draw


def _last_only(batch: int, time: int, hidden: int) -> Callable[[Draw], Inputs]:
    """The loss looks at the last state only; the states are small, so that the gradient travels far."""

    def draw(source: Draw) -> Inputs:
        drawn = dict(_layer(batch, time, 2, hidden, size=0.3)(source))
        drawn["dL_dh"][:, :-1] = 0.0
        return drawn

    return draw


def _first_only(source: Draw) -> Inputs:
    drawn = dict(_layer(3, 5, 2, 4)(source))
    drawn["dL_dh"][:, 1:] = 0.0
    return drawn


def _saturated(source: Draw) -> Inputs:
    """All states of step 3, and one unit throughout, are exactly -1 or 1."""
    drawn = dict(_layer(3, 7, 2, 4)(source))
    drawn["h"][:, 3] = torch.where(drawn["h"][:, 3] > 0, 1.0, -1.0)
    drawn["h"][:, :, 1] = 1.0
    return drawn


def _strided(source: Draw) -> Inputs:
    """Time first in memory, weights transposed in memory."""
    drawn = dict(_layer(4, 5, 3, 6)(source))
    for name in ("x", "h", "dL_dh"):
        drawn[name] = drawn[name].transpose(0, 1).contiguous().transpose(0, 1)
    for name in ("h0", "W_ih", "W_hh"):
        drawn[name] = drawn[name].t().contiguous().t()
    return drawn


def _in_double(source: Draw) -> Inputs:
    return map_floats(_layer(3, 4, 2, 5)(source), lambda t: t.double())  # type: ignore[no-any-return]


Grads = dict[str, Tensor]


def _sweep(
    x: Tensor,
    h0: Tensor,
    h: Tensor,
    dL_dh: Tensor,
    W_ih: Tensor,
    W_hh: Tensor,
    *,
    slope: Callable[[Tensor], Tensor] = lambda h: 1 - h**2,
    slope_of_previous: bool = False,
    carry_on: bool = True,
    carry_before_slope: bool = False,
    transpose: bool = False,
    start: bool = True,
    window: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(gradients of the arguments of tanh, states before each step, gradient of h0), with switches for what goes wrong."""
    before = torch.cat([(h0 if start else torch.zeros_like(h0))[:, None], h[:, :-1]], dim=1)
    carry, da = torch.zeros_like(h0), []
    for t in reversed(range(h.shape[1])):
        if window is not None and (h.shape[1] - 1 - t) % window == 0:
            carry = torch.zeros_like(carry)
        dh = dL_dh[:, t] + (carry if carry_on else 0.0)
        da.append(dh * slope(before[:, t] if slope_of_previous else h[:, t]))
        carry = (dh if carry_before_slope else da[-1]) @ (W_hh.T if transpose else W_hh)
    return torch.stack(da[::-1], dim=1), before, carry


def _collect(da: Tensor, before: Tensor, dh0: Tensor, x: Tensor, W_ih: Tensor) -> Grads:
    flat = da.flatten(0, 1)
    return {
        "W_ih": flat.T @ x.flatten(0, 1),
        "W_hh": flat.T @ before.flatten(0, 1),
        "b_ih": flat.sum(0),
        "b_hh": flat.sum(0),
        "h0": dh0,
        "x": da @ W_ih,
    }


def _local_only(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, carry_on=False)
    return _collect(da, before, dh0, x, W_ih)


def _last_step_only(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    last = torch.zeros_like(dL_dh)
    last[:, -1] = dL_dh[:, -1]
    return reference.bptt(x, h0, h, last, W_ih, W_hh)


def _transposed(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, transpose=True)
    return _collect(da, before, dh0, x, W_ih)


def _no_slope(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, slope=torch.ones_like)
    return _collect(da, before, dh0, x, W_ih)


def _slope_not_squared(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, slope=lambda h: 1 - h)
    return _collect(da, before, dh0, x, W_ih)


def _sigmoid_slope(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, slope=lambda h: h * (1 - h))
    return _collect(da, before, dh0, x, W_ih)


def _tanh_twice(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, slope=lambda h: 1 - torch.tanh(h) ** 2)
    return _collect(da, before, dh0, x, W_ih)


def _slope_of_previous(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, slope_of_previous=True)
    return _collect(da, before, dh0, x, W_ih)


def _carry_before_slope(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, carry_before_slope=True)
    return _collect(da, before, dh0, x, W_ih)


def _cut_after_ten(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, window=10)
    return _collect(da, before, dh0, x, W_ih)


def _start_ignored(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh, start=False)
    return _collect(da, before, dh0, x, W_ih)


def _state_after(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, _, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh)
    return _collect(da, h, dh0, x, W_ih)


def _recurrent_transposed(
    x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor
) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return right | {"W_hh": right["W_hh"].T.contiguous()}


def _mean_over_batch(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return {name: grad if name in ("h0", "x") else grad / len(x) for name, grad in right.items()}


def _mean_over_time(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return {name: grad if name in ("h0", "x") else grad / h.shape[1] for name, grad in right.items()}


def _mean_over_both(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    both = h.shape[0] * h.shape[1]
    return {name: grad if name in ("h0", "x") else grad / both for name, grad in right.items()}


def _index_minus_one(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, _, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh)
    return _collect(da, h.roll(1, dims=1), dh0, x, W_ih)


def _local_without_slope(
    x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor
) -> Grads:
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    carry, da = torch.zeros_like(h0), []
    for t in reversed(range(h.shape[1])):
        da.append(dL_dh[:, t] + carry * (1 - h[:, t] ** 2))
        carry = da[-1] @ W_hh
    return _collect(torch.stack(da[::-1], dim=1), before, carry, x, W_ih)


def _carry_without_slope(
    x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor
) -> Grads:
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    carry, da = torch.zeros_like(h0), []
    for t in reversed(range(h.shape[1])):
        da.append(dL_dh[:, t] * (1 - h[:, t] ** 2) + carry)
        carry = da[-1] @ W_hh
    return _collect(torch.stack(da[::-1], dim=1), before, carry, x, W_ih)


def _limited(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return {name: grad if name in ("h0", "x") else grad.clamp(-5, 5) for name, grad in right.items()}


def _bias_of_local(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    bias = dL_dh.sum((0, 1))
    return reference.bptt(x, h0, h, dL_dh, W_ih, W_hh) | {"b_ih": bias, "b_hh": bias.clone()}


def _start_with_slope(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return right | {"h0": right["h0"] * (1 - h0**2)}


def _overwritten(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh)
    first = _collect(da[:, :1], before[:, :1], dh0, x[:, :1], W_ih)
    return first | {"x": da @ W_ih}


def _start_not_through_weights(
    x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor
) -> Grads:
    da, before, _ = _sweep(x, h0, h, dL_dh, W_ih, W_hh)
    return _collect(da, before, da[:, 0], x, W_ih)


def _one_bias(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return right | {"b_hh": torch.zeros_like(right["b_hh"])}


def _bias_halved(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return right | {"b_ih": right["b_ih"] / 2, "b_hh": right["b_hh"] / 2}


def _forwards(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    carry, da = torch.zeros_like(h0), []
    for t in range(h.shape[1]):
        da.append((dL_dh[:, t] + carry) * (1 - h[:, t] ** 2))
        carry = da[-1] @ W_hh
    return _collect(torch.stack(da, dim=1), before, da[0] @ W_hh, x, W_ih)


def _order_not_turned(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    da, before, dh0 = _sweep(x, h0, h, dL_dh, W_ih, W_hh)
    return _collect(da.flip(1), before, dh0, x, W_ih)


def _adds_into_the_input(
    x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor
) -> Grads:
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    for t in reversed(range(h.shape[1])):
        back = dL_dh[:, t] * (1 - h[:, t] ** 2) @ W_hh
        if t > 0:
            dL_dh[:, t - 1] += back
    da = dL_dh * (1 - h**2)
    return _collect(da, before, da[:, 0] @ W_hh, x, W_ih)


def _buffers_in_float32(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    right = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    return {name: torch.zeros(grad.shape, device=grad.device).copy_(grad) for name, grad in right.items()}


class _Buffers:
    """Sums that outlive the call."""

    sums: Grads | None = None


def _sums_of_all_calls(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    new = reference.bptt(x, h0, h, dL_dh, W_ih, W_hh)
    old = _Buffers.sums
    if old is None or any(
        old[name].shape != new[name].shape or old[name].dtype != new[name].dtype for name in new
    ):
        _Buffers.sums = new
        return new
    for name, grad in new.items():
        old[name].copy_(grad)
    return old


def _anew_for_every_step(
    x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor
) -> Grads:
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    da, dh0 = torch.zeros_like(h), torch.zeros_like(h0)
    for t in range(h.shape[1]):
        dh = dL_dh[:, t]
        for s in reversed(range(t + 1)):
            da[:, s] += dh * (1 - h[:, s] ** 2)
            dh = dh * (1 - h[:, s] ** 2) @ W_hh
        dh0 = dh0 + dh
    return _collect(da, before, dh0, x, W_ih)


def _by_autograd(x: Tensor, h0: Tensor, h: Tensor, dL_dh: Tensor, W_ih: Tensor, W_hh: Tensor) -> Grads:
    given = {"W_ih": W_ih, "W_hh": W_hh, "h0": h0, "x": x}
    own = {name: value.detach().clone().requires_grad_() for name, value in given.items()}
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    slopes = 1 - h**2
    state, states, moved = own["h0"], [], []
    for t in range(h.shape[1]):
        a = own["x"][:, t] @ own["W_ih"].T + state @ own["W_hh"].T
        moved.append(torch.zeros_like(h0, requires_grad=True))
        step = (a - a.detach() + moved[-1]) * slopes[:, t]
        state = h[:, t] + step
        states.append(state)
    loss = (torch.stack(states, dim=1) * dL_dh).sum()
    found = torch.autograd.grad(loss, [*own.values(), *moved])
    da = torch.stack(found[4:], dim=1)
    return _collect(da, before, found[2], x, W_ih)


def _autograd_ran(observed: Mapping[tuple[str, str], Observation]) -> bool:
    return any(
        type(entry.value) is dict and entry.value.get(_PASSES, 0) > 0
        for (requirement, _), entry in observed.items()
        if requirement == _BY_HAND
    )


def _grows_like_the_square(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Twice the steps take more than three times the multiplications, and autograd does none of them."""
    amounts = [
        (entry.value["multiplications"], entry.value[_FOR_HALF])
        for (requirement, _), entry in observed.items()
        if requirement == _ONE_SWEEP and type(entry.value) is dict
    ]
    return bool(amounts) and all(whole > 3 * half for whole, half in amounts) and not _autograd_ran(observed)


bptt = Exercise(
    reference.bptt,
    requirements=(
        Requirement(
            "every gradient",
            (
                Case("4 sequences of 6 steps, 3 inputs, 5 units", _layer(4, 6, 3, 5)),
                Case("one sequence", _layer(1, 5, 2, 3)),
                Case("one step", _layer(3, 1, 2, 4)),
                Case("one input, one unit", _layer(2, 4, 1, 1)),
                Case("as many steps as sequences as inputs as units", _layer(4, 4, 4, 4)),
                Case("inputs that are not contiguous", _strided),
                Case("more inputs than units", _layer(5, 7, 9, 2), shown=False),
            ),
            points=3,
        ),
        Requirement(
            "gradients that travel",
            (
                Case("the loss looks at the last of 40 states only", _last_only(2, 40, 6)),
                Case("the loss looks at the first state only", _first_only),
                Case(
                    "the loss looks at the last of 25 states only, one sequence",
                    _last_only(1, 25, 4),
                    shown=False,
                ),
            ),
            points=2,
        ),
        Requirement(
            "float64 in, float64 out",
            (Case("inputs in float64", _in_double),),
            tolerance=Tolerance(1e-6, "Everything is float64 here, so that rounding is that of float64."),
        ),
        Requirement("saturated units", (Case("states that are exactly -1 or 1", _saturated),)),
        Requirement(
            _BY_HAND,
            (
                Case("by hand, 3 sequences of 5 steps", _layer(3, 5, 2, 4)),
                Case("by hand, one sequence", _layer(1, 8, 3, 2), shown=False),
            ),
            by_hand,
            bounds={
                _PASSES: Bound(
                    most=lambda inputs: 0,
                    unit=_PASSES,
                    why="Here you write the backward pass yourself.",
                )
            },
        ),
        Requirement(
            _ONE_SWEEP,
            (
                Case("64 steps", _layer(1, 64, 2, 6, size=0.8)),
                Case("100 steps", _layer(2, 100, 3, 5, size=0.8), shown=False),
            ),
            counted,
            bounds={
                "multiplications": Bound(
                    most=_enough,
                    unit="multiplications",
                    why="Each step is visited once: what comes back from all later steps is already added up in one carry.",
                    naive=_quadratic,
                ),
                _FOR_HALF: Bound(
                    most=lambda inputs: _enough(_half(inputs)),
                    unit=_FOR_HALF,
                    why="Each step is visited once: what comes back from all later steps is already added up in one carry.",
                ),
            },
        ),
        Requirement("two calls do not disturb each other", (Case("two calls", _layer(3, 4, 2, 5)),), twice),
    ),
    mistakes=(
        Mistake(
            "You let autograd compute the gradients. Here you write what it does: the local gradient plus the carry, times the "
            "slope of tanh, from the last step to the first.",
            _by_autograd,
            recognise=_autograd_ran,
        ),
        Mistake(
            "You start a new sweep for every step of the loss. Add the local gradient to the carry "
            "and go through the steps once.",
            _anew_for_every_step,
            recognise=_grows_like_the_square,
        ),
        Mistake(
            "You use only the local gradient of each step. Add the carry: what comes back from step t + 1 through W_hh.",
            _local_only,
        ),
        Mistake(
            "You use the local gradient of the last step only; before it your carry stands alone. Every step may have one: add "
            "dL_dh[:, t] to the carry.",
            _last_step_only,
        ),
        Mistake(
            "Your carry goes through W_hh.T. Forwards a row is multiplied by W_hh.T, so backwards it is multiplied by W_hh.",
            _transposed,
        ),
        Mistake("You left out the slope of tanh, 1 - h_t^2.", _no_slope),
        Mistake("Your slope is 1 - h. The slope of tanh is 1 - h^2.", _slope_not_squared),
        Mistake(
            "Your slope is h (1 - h), which belongs to the sigmoid. That of tanh is 1 - h^2.", _sigmoid_slope
        ),
        Mistake(
            "You take tanh of the state once more. The state is a value of tanh already: the slope is 1 - h^2.",
            _tanh_twice,
        ),
        Mistake(
            "Your slope at step t is that of the state before it. It is 1 - h_t^2, with the state that the step makes.",
            _slope_of_previous,
        ),
        Mistake(
            "Your carry leaves the step before the slope of tanh. Multiply by 1 - h_t^2 first, then by W_hh.",
            _carry_before_slope,
        ),
        Mistake(
            "Your carry is lost every ten steps, or after ten. Go through all steps, however many there are.",
            _cut_after_ten,
        ),
        Mistake(
            "The share of the first step is missing in your gradient of W_hh. The state before that step is h0.",
            _start_ignored,
        ),
        Mistake(
            "Your gradient of W_hh uses h_t. At step t the matrix is multiplied by the state before it, h_{t-1}.",
            _state_after,
        ),
        Mistake(
            "Your gradient of W_hh uses the last state in place of h0. With t = 0 the index t - 1 is -1, which Python counts "
            "from the end.",
            _index_minus_one,
        ),
        Mistake(
            "Only your carry goes through the slope of tanh. The local gradient has to, too: add first, then multiply by 1 - h_t^2.",
            _local_without_slope,
        ),
        Mistake(
            "Only your local gradient goes through the slope of tanh. The carry has to, too: add first, then multiply by 1 - h_t^2.",
            _carry_without_slope,
        ),
        Mistake(
            "You limit the gradients to a range, as training code does later. Asked are the gradients as they are.",
            _limited,
        ),
        Mistake(
            "You divide by the number of sequences and of steps. dL_dh holds whatever average the loss takes; the gradients of the "
            "weights are sums.",
            _mean_over_both,
        ),
        Mistake(
            "Your gradients of the biases are sums of dL_dh. A bias is added inside the tanh, so they are sums of the deltas.",
            _bias_of_local,
        ),
        Mistake(
            "Your gradient of h0 has one slope too many. The state h0 is given, no tanh made it: it is the last carry as it is.",
            _start_with_slope,
        ),
        Mistake(
            "Your gradient of W_hh is transposed. Row i belongs to unit i that listens: da.T @ h_before.",
            _recurrent_transposed,
        ),
        Mistake(
            "You divide by the number of sequences. dL_dh holds whatever average the loss takes; the gradients of the weights are "
            "sums.",
            _mean_over_batch,
        ),
        Mistake(
            "You divide by the number of steps. dL_dh holds whatever average the loss takes; the gradients of the weights are "
            "sums.",
            _mean_over_time,
        ),
        Mistake(
            "Your weights' gradients come from the first step alone: each step overwrites the one before. Add them up.",
            _overwritten,
        ),
        Mistake(
            "Your gradient of h0 stops at the argument of the first tanh. It still has to go through W_hh: it is the last carry.",
            _start_not_through_weights,
        ),
        Mistake(
            "Your gradient of b_hh is zero. Both biases are added, so both have the same gradient.", _one_bias
        ),
        Mistake(
            "You divide the gradient of the bias between b_ih and b_hh. Each of them gets the whole of it.",
            _bias_halved,
        ),
        Mistake(
            "You go through time forwards. The carry comes from step t + 1, so begin at the last step.",
            _forwards,
        ),
        Mistake(
            "You collect the steps from the last to the first and do not turn them round, so that they meet the wrong inputs.",
            _order_not_turned,
        ),
        Mistake(
            "You add the carry into dL_dh itself, which belongs to the caller. Use a variable of your own.",
            _adds_into_the_input,
        ),
        Mistake(
            "Your gradients are float32 although the inputs are float64. Make your buffers with zeros_like, and convert nothing.",
            _buffers_in_float32,
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into tensors that outlive the call. Make new ones.",
            _sums_of_all_calls,
        ),
    ),
)
