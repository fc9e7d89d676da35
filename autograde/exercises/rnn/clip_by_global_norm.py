"""The exercise ``clip_by_global_norm`` of the lesson rnn/02_bptt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation
from autograde.values import SeenTensor, leaves
from utils.reference import rnn as reference

Grads = dict[str, Tensor]
_ZERO = "a gradient of zero"
_SAME = "the dict that was handed in comes back"
_SMALL = "small gradients stay as they are"


def clipped_and_finite(implementation: Implementation, inputs: Inputs) -> Any:
    """The clipped gradients, and whether the norm that comes with them is finite."""
    value = implementation(*inputs.values())
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return value
    return {"the gradients": value[0], "the norm is finite": math.isfinite(float(value[1]))}


def called_again(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Two calls, looked at after both; the second one gets other gradients. And a call in which nothing is clipped."""
    grads, max_norm = inputs["grads"], inputs["max_norm"]
    first = implementation(grads, max_norm)
    second = implementation({name: -1.5 * grad for name, grad in grads.items()}, max_norm)
    unclipped = implementation(grads, 1e6)
    same = isinstance(unclipped, (tuple, list)) and len(unclipped) == 2 and unclipped[0] is grads
    return {
        "the first result": first,
        "the second result": second,
        _SAME: int(same),
    }


def _grads(max_norm: float, scale: float = 10.0) -> Callable[[Draw], Inputs]:
    """Three tensors of different sizes and scales; with scale 10 their common norm is about 100."""

    def draw(source: Draw) -> Inputs:
        grads = {
            "W_hh": source.normal(5, 5, scale=scale),
            "b": source.normal(3, scale=3 * scale),
            "W_ih": source.normal(2, 7, scale=2 * scale),
        }
        return {"grads": grads, "max_norm": max_norm}

    return draw


def _one_small(source: Draw) -> Inputs:
    """One tensor is far below the threshold on its own."""
    drawn = _grads(1.0)(source)
    return {**drawn, "grads": {**drawn["grads"], "b": 1e-3 * drawn["grads"]["b"]}}


def _one_number(source: Draw) -> Inputs:
    return {"grads": {"w": source.uniform(low=-90, high=-30)}, "max_norm": 2.0}


def _strided(source: Draw) -> Inputs:
    return {
        "grads": {"W": source.normal(4, 6, scale=20).t(), "b": source.normal(8, scale=20)[::2]},
        "max_norm": 3.0,
    }


def _mixed(source: Draw) -> Inputs:
    """One tensor in float64, the others in float32."""
    drawn = _grads(5.0)(source)
    return {**drawn, "grads": {**drawn["grads"], "W_hh": drawn["grads"]["W_hh"].double()}}


def _little_above(source: Draw) -> Inputs:
    """A norm that is 1.2 times the threshold."""
    grads = _grads(1.0)(source)["grads"]
    return {"grads": grads, "max_norm": _global(grads) / 1.2}


def _zero(source: Draw) -> Inputs:
    return {"grads": {"W": torch.zeros(3, 2), "b": torch.zeros(4)}, "max_norm": 1.0}


def _double(draw: Callable[[Draw], Inputs]) -> Callable[[Draw], Inputs]:
    return lambda source: map_floats(draw(source), lambda t: t.double())


def _with(value: float) -> Callable[[Draw], Inputs]:
    """One element of one tensor is not finite."""

    def draw(source: Draw) -> Inputs:
        drawn = _grads(1.0)(source)
        drawn["grads"]["b"][1] = value
        return drawn

    return draw


def _clipped(
    grads: Grads,
    max_norm: float,
    *,
    norm: Callable[[Grads], float] | None = None,
    always: bool = False,
    to_one: bool = False,
    guard: bool = True,
    reported: str = "before",
) -> tuple[Grads, float]:
    """The clipping, with switches for what goes wrong."""
    total = (norm or _global)(grads)
    if not math.isfinite(total):
        return {name: torch.zeros_like(grad) for name, grad in grads.items()}, total
    factor = 1.0
    if total > max_norm or always:
        factor = (1.0 if to_one else max_norm) / total if total else (1.0 if guard else math.nan)
    after = {name: factor * grad for name, grad in grads.items()}
    return after, {"before": total, "after": _global(after), "factor": factor}[reported]


def _global(grads: Grads) -> float:
    return math.sqrt(_sum_of_squares(grads))


def _sum_of_squares(grads: Grads) -> float:
    return sum(grad.double().square().sum().item() for grad in grads.values())


def _each_tensor_alone(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    after = {name: _clipped({name: grad}, max_norm)[0][name] for name, grad in grads.items()}
    total = _global(grads)
    return after if math.isfinite(total) else _clipped(grads, max_norm)[0], total


def _each_element(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    total = _global(grads)
    if not math.isfinite(total):
        return _clipped(grads, max_norm)
    return {name: grad.clamp(-max_norm, max_norm) for name, grad in grads.items()}, total


def _always_scaled(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, always=True)


def _always_scaled_no_guard(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, always=True, guard=False)


def _zero_by_zero(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    after, norm = _clipped(grads, max_norm)
    return ({name: grad * math.nan for name, grad in after.items()} if norm == 0 else after), norm


def _scaled_to_one(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, to_one=True)


def _norm_after(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, reported="after")


def _factor_returned(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, reported="factor")


def _no_root(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, norm=_sum_of_squares)


def _sum_of_norms(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, norm=lambda g: sum(v.double().norm().item() for v in g.values()))


def _largest_norm(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(
        grads, max_norm, norm=lambda g: float(torch.stack([v.double().norm() for v in g.values()]).max())
    )


def _largest_entry(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(
        grads, max_norm, norm=lambda g: float(torch.stack([v.double().abs().max() for v in g.values()]).max())
    )


def _sum_of_sizes(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, norm=lambda g: sum(v.double().abs().sum().item() for v in g.values()))


def _root_mean_square(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    def norm(g: Grads) -> float:
        return math.sqrt(_sum_of_squares(g) / sum(v.numel() for v in g.values()))

    return _clipped(grads, max_norm, norm=norm)


def _first_tensor_only(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(grads, max_norm, norm=lambda g: next(iter(g.values())).double().norm().item())


def _squares_overflow(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(
        grads, max_norm, norm=lambda g: math.sqrt(sum(v.square().sum().item() for v in g.values()))
    )


def _squares_overflow_unguarded(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = math.sqrt(sum(v.square().sum().item() for v in grads.values()))
    factor = max_norm / norm if norm > max_norm else 1.0
    return {name: factor * grad for name, grad in grads.items()}, norm


def _not_finite_kept(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = _global(grads)
    factor = min(1.0, max_norm / norm) if norm else 1.0
    return {name: factor * grad for name, grad in grads.items()}, norm


def _not_finite_unclipped(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = _global(grads)
    return _clipped(grads, max_norm) if math.isfinite(norm) else (grads, norm)


def _not_finite_replaced(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    clean = {name: grad.nan_to_num(0.0, posinf=0.0, neginf=0.0) for name, grad in grads.items()}
    return _clipped(clean, max_norm)


def _in_place(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    after, norm = _clipped(grads, max_norm)
    for name, grad in grads.items():
        grad.copy_(after[name])
    return grads, norm


def _same_dict(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = _global(grads)
    return (grads, norm) if norm <= max_norm else _clipped(grads, max_norm)


def _infinity_by_infinity(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = _global(grads)
    if not math.isfinite(norm):
        return _clipped(grads, max_norm)
    return {name: max_norm / max(norm, max_norm) * grad for name, grad in grads.items()}, norm


def _zeros_in_float32(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = _global(grads)
    if math.isfinite(norm):
        return _clipped(grads, max_norm)
    return {name: torch.zeros(grad.shape, device=grad.device) for name, grad in grads.items()}, norm


def _one_dtype(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    after, norm = _clipped(grads, max_norm)
    widest = torch.cat([grad.reshape(-1) for grad in grads.values()]).dtype
    return {name: grad.to(widest) for name, grad in after.items()}, norm


def _mean_of_norms(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    return _clipped(
        grads, max_norm, norm=lambda g: sum(v.double().norm().item() for v in g.values()) / len(g)
    )


def _one_tensor_of_zeros(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    norm = _global(grads)
    if math.isfinite(norm):
        return _clipped(grads, max_norm)
    finite = {name: grad for name, grad in grads.items() if bool(grad.isfinite().all())}
    return {name: torch.zeros_like(grad) for name, grad in grads.items()} | _clipped(finite, max_norm)[
        0
    ], norm


def _square_returned(grads: Grads, max_norm: float) -> tuple[Grads, float]:
    after, norm = _clipped(grads, max_norm)
    return after, norm**2


def _only_gradients(grads: Grads, max_norm: float) -> Grads:
    return _clipped(grads, max_norm)[0]


def _other_order(grads: Grads, max_norm: float) -> tuple[float, Grads]:
    after, norm = _clipped(grads, max_norm)
    return norm, after


def _only_zero_is_nan(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """NaN among the gradients of zero; the other small gradients unchanged, which scaling up would not leave."""

    def largest(requirement: str) -> list[float]:
        shown = [dict(leaves(entry.value)) for (name, _), entry in observed.items() if name == requirement]
        tensors = [leaf.data for case in shown for leaf in case.values() if type(leaf) is SeenTensor]
        return [float(data.abs().max()) for data in tensors if data.numel()]

    zero, tiny = largest(_ZERO), [size for size in largest(_SMALL) if size < 1e-2]
    return bool(zero) and all(map(math.isnan, zero)) and len(tiny) >= 3 and max(tiny) < 1e-3


clip_by_global_norm = Exercise(
    reference.clip_by_global_norm,
    requirements=(
        Requirement(
            "large gradients are scaled by one factor",
            (
                Case("three tensors, at most 1", _grads(1.0)),
                Case("three tensors, at most 25", _grads(25.0)),
                Case("one of the tensors is small on its own", _one_small),
                Case("a single number", _one_number),
                Case("tensors that are not contiguous", _strided),
                Case("gradients in float64", _double(_grads(5.0))),
                Case("one tensor in float64, two in float32", _mixed),
                Case("a norm a little above the threshold", _little_above),
                Case("three tensors, at most 0.1", _grads(0.1), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "a threshold below 1",
            (
                Case("a norm of about 0.8, at most 0.1", _grads(0.1, scale=0.08)),
                Case("a norm of about 0.6, at most 0.3", _grads(0.3, scale=0.06), shown=False),
            ),
            tolerance=Tolerance(
                8, "Adding 1e-6 to a norm of 0.6, as torch's own clipping does, is right as well."
            ),
        ),
        Requirement(
            _SMALL,
            (
                Case("far below the threshold", _grads(1e4)),
                Case("tiny gradients", _grads(1.0, scale=1e-6)),
                Case("max_norm is infinite: nothing to clip", _grads(math.inf)),
                Case("below the threshold, which is below 1", _grads(0.5, scale=0.005), shown=False),
            ),
        ),
        Requirement(
            _ZERO, (Case("all gradients are zero", _zero), Case("all are zero, in float64", _double(_zero)))
        ),
        Requirement(
            "large numbers do not overflow",
            (
                Case("gradients of size 1e25", _grads(1.0, scale=1e25)),
                Case("gradients of size 1e30", _grads(4.0, scale=1e30), shown=False),
            ),
        ),
        Requirement(
            "a norm that is not finite gives zeros",
            (
                Case("one element is NaN", _with(math.nan)),
                Case("one element is infinite", _with(-math.inf)),
                Case("one element is NaN, all in float64", _double(_with(math.nan))),
            ),
            clipped_and_finite,
        ),
        Requirement(
            "calls disturb neither each other nor the caller",
            (Case("three calls", _grads(2.0)),),
            called_again,
            bounds={
                _SAME: Bound(
                    most=lambda inputs: 0,
                    unit="of the calls returns the dict that was handed in",
                    why="Return a new dict, also where nothing is clipped: whoever changes the one must not change the other.",
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You clip every tensor by its own norm, which turns the direction of the whole gradient. Take one norm over all "
            "tensors, and one factor.",
            _each_tensor_alone,
        ),
        Mistake(
            "You clip every element on its own, which turns the direction. Multiply everything by one factor.",
            _each_element,
        ),
        Mistake(
            "You scale small gradients up to max_norm. Clipping only makes smaller: the factor is at most 1.",
            _always_scaled,
        ),
        Mistake(
            "You always divide by the norm: small gradients grow, and zero becomes NaN. Scale only where the norm is larger than "
            "max_norm.",
            _always_scaled_no_guard,
        ),
        Mistake(
            "For a gradient of zero you compute 0 times max_norm / 0. Scale only where the norm is larger than max_norm.",
            _zero_by_zero,
            recognise=_only_zero_is_nan,
        ),
        Mistake("You scale to norm 1. The norm after clipping is max_norm.", _scaled_to_one),
        Mistake(
            "You return the norm after clipping. Return the one before it: it tells whether training is in trouble.",
            _norm_after,
        ),
        Mistake("You return the factor in place of the norm.", _factor_returned),
        Mistake("You left out the square root: the norm is the root of the sum of all squares.", _no_root),
        Mistake(
            "You add the norms of the tensors. Add the squares of all elements, then take the root.",
            _sum_of_norms,
        ),
        Mistake(
            "You take the largest of the tensors' norms. One norm over all of them: the root of the sum of all squares.",
            _largest_norm,
        ),
        Mistake(
            "You take the largest element for the norm. It is the root of the sum of all squares.",
            _largest_entry,
        ),
        Mistake(
            "You add the sizes of all elements. The norm is the root of the sum of their squares.",
            _sum_of_sizes,
        ),
        Mistake(
            "You divide by the number of elements. The norm is the root of the sum of the squares, not of their mean.",
            _root_mean_square,
        ),
        Mistake(
            "Your norm is that of the first tensor alone. Add the squares of all of them.", _first_tensor_only
        ),
        Mistake(
            "Your squares overflow: numbers of size 1e25 have squares beyond float32. Add the squares in float64, or divide by the "
            "largest element first.",
            _squares_overflow,
        ),
        Mistake(
            "Two things are open: squares of numbers of size 1e25 overflow in float32, so add them in float64; and where the norm is "
            "not finite, return zeros.",
            _squares_overflow_unguarded,
        ),
        Mistake(
            "Where one element is NaN or infinite, your result still contains NaN. Test the norm: if it is not finite, return zeros.",
            _not_finite_kept,
        ),
        Mistake(
            "Where the norm is not finite, you return the gradients as they are. Return zeros, so that the step changes nothing.",
            _not_finite_unclipped,
        ),
        Mistake(
            "You replace NaN and infinity by numbers and go on. What is left of such a gradient is not to be trusted: return zeros, "
            "and the norm as it was.",
            _not_finite_replaced,
        ),
        Mistake(
            "You changed the gradients of the caller: the tensors in place, or the entries of the dict. Return a new dict with new "
            "tensors.",
            _in_place,
        ),
        Mistake(
            "Where nothing is clipped you return the dict that you were given, and whoever changes the one changes the other. "
            "Return a new dict.",
            _same_dict,
        ),
        Mistake(
            "For an infinite max_norm you compute inf / inf, which is NaN. Divide only where the norm is larger than max_norm.",
            _infinity_by_infinity,
        ),
        Mistake(
            "Your zeros are float32 although the gradients are float64. Make them with zeros_like.",
            _zeros_in_float32,
        ),
        Mistake(
            "All your results have one dtype. Each gradient comes back in its own.",
            _one_dtype,
        ),
        Mistake(
            "You take the mean of the tensors' norms. One norm over all of them: the root of the sum of all squares.",
            _mean_of_norms,
        ),
        Mistake(
            "Where the norm is not finite, you set only the tensor with NaN or infinity to zero. Return zeros for all of them.",
            _one_tensor_of_zeros,
        ),
        Mistake(
            "Your clipped gradients are right, but you return the square of the norm.",
            _square_returned,
        ),
        Mistake("You return only the gradients. Return the norm too: (grads, norm).", _only_gradients),
        Mistake("You return the norm first. The order is (grads, norm).", _other_order),
    ),
    returns=("the gradients", "the norm"),
)
