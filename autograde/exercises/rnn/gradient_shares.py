"""The exercise ``gradient_shares`` of the lesson rnn/02_bptt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Implementation, Inputs, Observation
from autograde.probes import twice
from autograde.values import SeenTensor
from utils.reference import rnn as reference

_ZERO = "factors that are exactly zero"


def one_by_one(implementation: Implementation, inputs: Inputs) -> Any:
    """Every share by itself, so that each is compared with a tolerance of its own size."""
    return {f"the share of step {t}": share for t, share in enumerate(implementation(*inputs.values()))}


def _unit(time: int, low: float, high: float, size: float = 0.95) -> Callable[[Draw], Inputs]:
    """A weight between two bounds, and states between -size and size."""

    def draw(source: Draw) -> Inputs:
        return {
            "w": source.uniform(low=low, high=high).item(),
            "h0": source.uniform(low=0.2, high=0.9).item(),
            "h": source.uniform(time, low=-size, high=size),
        }

    return draw


def _saturated(source: Draw) -> Inputs:
    """One state is exactly 1, as tanh returns it in float32 for arguments above 10."""
    drawn = dict(_unit(7, 1.2, 2.0)(source))
    drawn["h"][3] = 1.0
    return drawn


def _zero_weight(source: Draw) -> Inputs:
    return {**_unit(5, 1.0, 2.0)(source), "w": 0.0}


def _in_double(source: Draw) -> Inputs:
    drawn = _unit(8, -1.7, -1.2)(source)
    return {**drawn, "h": drawn["h"].double()}


def _zero_states(source: Draw) -> Inputs:
    drawn = dict(_unit(7, 1.2, 2.0)(source))
    drawn["h"][1], drawn["h"][4] = 0.0, 0.0
    return drawn


def _strided(source: Draw) -> Inputs:
    return {**_unit(6, 1.1, 1.6)(source), "h": source.uniform(12, low=-0.9, high=0.9)[::2]}


def _shares(
    w: float,
    h0: float,
    h: Tensor,
    *,
    slope: Callable[[Tensor], Tensor] = lambda h: 1 - h**2,
    own_slope: bool = True,
    factor: bool = True,
    slope_of_previous: bool = False,
    start: bool = True,
    state_after: bool = False,
) -> Tensor:
    """The shares, with switches for what goes wrong."""
    before = torch.cat([h.new_full((1,), h0 if start else 0.0), h[:-1]])
    shares, after = [], torch.ones_like(h[0])
    for t in reversed(range(len(h))):
        d = slope(before[t] if slope_of_previous else h[t])
        shares.append((after * d if own_slope else after) * (h[t] if state_after else before[t]))
        after = after * d * (w if factor else 1.0)
    return torch.stack(shares[::-1])


def _only_the_own_step(w: float, h0: float, h: Tensor) -> Tensor:
    return (1 - h**2) * torch.cat([h.new_full((1,), h0), h[:-1]])


def _no_slopes(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, slope=torch.ones_like)


def _own_slope_missing(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, own_slope=False)


def _state_after_the_step(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, state_after=True)


def _slope_of_the_previous_state(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, slope_of_previous=True)


def _slope_not_squared(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, slope=lambda h: 1 - h)


def _slope_of_the_sigmoid(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, slope=lambda h: h * (1 - h))


def _slope_of_tanh_of_the_state(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, slope=lambda h: 1 - torch.tanh(h) ** 2)


def _weight_missing(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, factor=False)


def _one_weight_too_many(w: float, h0: float, h: Tensor) -> Tensor:
    return w * _shares(w, h0, h)


def _start_ignored(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h, start=False)


def _index_minus_one(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h[-1].item(), h)


def _state_missing(w: float, h0: float, h: Tensor) -> Tensor:
    return torch.cumprod(torch.cat([1 - h[-1:] ** 2, w * (1 - h[:-1].flip(0) ** 2)]), 0).flip(0)


def _last_slope_missing(w: float, h0: float, h: Tensor) -> Tensor:
    slopes = torch.cat([1 - h[:-1] ** 2, torch.ones_like(h[:1])])
    before = torch.cat([h.new_full((1,), h0), h[:-1]])
    return torch.cumprod(torch.cat([slopes[-1:], w * slopes[:-1].flip(0)]), 0).flip(0) * before


def _not_turned_round(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h).flip(0)


def _collected_forwards(w: float, h0: float, h: Tensor) -> Tensor:
    before = torch.cat([h.new_full((1,), h0), h[:-1]])
    shares, after = [], torch.ones_like(h[0])
    for t in range(len(h)):
        after = after * (1 - h[t] ** 2)
        shares.append(after * before[t])
        after = after * w
    return torch.stack(shares)


def _running_sum(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h).flip(0).cumsum(0).flip(0)


def _whole_gradient(w: float, h0: float, h: Tensor) -> Tensor:
    return _shares(w, h0, h).sum()


def _by_division(w: float, h0: float, h: Tensor) -> Tensor:
    forwards = torch.cumprod(w * (1 - h**2), 0)
    before = torch.cat([h.new_full((1,), h0), h[:-1]])
    return forwards[-1] / forwards * (1 - h**2) * before


def _cut_after_twenty(w: float, h0: float, h: Tensor) -> Tensor:
    recent = torch.arange(len(h), device=h.device) >= len(h) - 20
    return torch.where(recent, _shares(w, h0, h), 0.0)


def _in_float32(w: float, h0: float, h: Tensor) -> Tensor:
    return torch.tensor(_shares(w, h0, h).tolist(), device=h.device)


def _not_finite_where_zero(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """NaN or infinity in the cases with a factor of zero, and nowhere else."""
    bad = {
        requirement
        for (requirement, _), entry in observed.items()
        if type(entry.value) is SeenTensor and not bool(entry.value.data.isfinite().all())
    }
    return bad == {_ZERO}


gradient_shares = Exercise(
    reference.gradient_shares,
    requirements=(
        Requirement(
            "the share of every step",
            (
                Case("6 steps", _unit(6, 1.1, 1.9)),
                Case("a single step", _unit(1, 1.1, 1.9)),
                Case("a negative weight, two steps", _unit(2, -1.8, -1.2)),
                Case("states that are not contiguous", _strided),
                Case("9 steps, a small weight", _unit(9, 0.3, 0.7), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "the early shares, however small or large",
            (
                Case("70 steps that shrink", _unit(70, 0.6, 0.9, size=0.6)),
                Case("60 steps that grow", _unit(60, 1.6, 1.8, size=0.5)),
                Case("45 steps with a negative weight", _unit(45, -1.1, -0.7, size=0.7), shown=False),
                Case("130 steps", _unit(130, 0.95, 1.0, size=0.4), shown=False),
            ),
            one_by_one,
        ),
        Requirement(
            _ZERO,
            (
                Case("a saturated state in the middle", _saturated),
                Case("the weight is zero", _zero_weight),
                Case("two states are zero", _zero_states),
            ),
        ),
        Requirement(
            "float64 in, float64 out",
            (Case("inputs in float64, a negative weight", _in_double),),
            tolerance=Tolerance(1e-6, "Everything is float64 here, so that rounding is that of float64."),
        ),
        Requirement("two calls do not disturb each other", (Case("two calls", _unit(5, 1.1, 1.6)),), twice),
    ),
    mistakes=(
        Mistake(
            "Your shares contain only the step itself. What the step changes still has to pass the later steps: multiply by "
            "w (1 - h_s^2) for every s after t.",
            _only_the_own_step,
        ),
        Mistake(
            "You left out the slopes of tanh. Every step multiplies by 1 - h^2 of the state that it makes.",
            _no_slopes,
        ),
        Mistake(
            "You left out the slope of the step itself: w stands inside its tanh, so share t contains 1 - h_t^2.",
            _own_slope_missing,
        ),
        Mistake(
            "You multiply by h_t, the state after the step. The weight is multiplied by the state before it: h_{t-1}.",
            _state_after_the_step,
        ),
        Mistake(
            "Your slopes belong to the state before each step. The slope of tanh at step t is 1 - h_t^2, with the state that "
            "the step makes.",
            _slope_of_the_previous_state,
        ),
        Mistake("Your slope is 1 - h. The slope of tanh is 1 - h^2.", _slope_not_squared),
        Mistake(
            "Your slope is h (1 - h), which belongs to the sigmoid. That of tanh is 1 - h^2.",
            _slope_of_the_sigmoid,
        ),
        Mistake(
            "You take tanh of the state once more. The state is a value of tanh already: the slope is 1 - h^2.",
            _slope_of_tanh_of_the_state,
        ),
        Mistake(
            "You left out w on the way through the later steps. Each of them multiplies by w (1 - h_s^2).",
            _weight_missing,
        ),
        Mistake(
            "You have one factor w too many. At step t itself we differentiate by w, so w appears only for the later steps.",
            _one_weight_too_many,
        ),
        Mistake(
            "Your first share is zero: the state before the first step is h0, and its share counts, too.",
            _start_ignored,
        ),
        Mistake(
            "Your first share contains the last state in place of h0. With t = 0 the index t - 1 is -1, which Python counts "
            "from the end.",
            _index_minus_one,
        ),
        Mistake(
            "You left out the state in front. A change of w_t changes the argument of tanh by h_{t-1} times as much.",
            _state_missing,
        ),
        Mistake(
            "You left out the slope of the last step. Its own share contains 1 - h[-1]^2, and so do all others.",
            _last_slope_missing,
        ),
        Mistake(
            "Your shares stand in the wrong order: the last step comes first. Turn the list round.",
            _not_turned_round,
        ),
        Mistake(
            "You collect the factors of the steps before t. A change at step t passes the steps after it, so the product runs "
            "from the end.",
            _collected_forwards,
        ),
        Mistake(
            "Each of your values contains the shares of all later steps as well. Return them one by one.",
            _running_sum,
        ),
        Mistake(
            "You return the whole gradient, the sum of the shares. Asked is one share for each step.",
            _whole_gradient,
        ),
        Mistake(
            "Your shares are not finite where a factor is zero: in a saturated step, for w = 0, or for a state of zero. Do not "
            "divide, and take no logarithm; multiply the factors from the end instead.",
            _by_division,
            recognise=_not_finite_where_zero,
        ),
        Mistake(
            "Your early shares are zero where there are many steps. Run through all steps, not through a fixed number.",
            _cut_after_twenty,
        ),
        Mistake(
            "Your shares are float32 although the states are float64. torch.zeros, torch.ones and torch.tensor make float32; "
            "name the dtype of h, or use torch.stack and zeros_like.",
            _in_float32,
        ),
    ),
)
