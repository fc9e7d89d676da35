"""The exercise ``jacobian_norms`` of the lesson rnn/02_bptt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.exercises.rnn.counting import within, work
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import rnn as reference

_LINEAR = "one product of matrices per step"
_FOR_HALF = "multiplications for half the steps"


def as_column(implementation: Implementation, inputs: Inputs) -> Any:
    """The norms below one another, so that each is compared with a tolerance of its own size."""
    return implementation(*inputs.values())[:, None]


def counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The norms, and the multiplications; those for half the steps tell how they grow."""
    half = _half(inputs)
    value, done = work(lambda: implementation(*inputs.values()))
    _, done_for_half = work(lambda: implementation(*half.values()))
    return {
        "value": value,
        "multiplications": within(done.multiplications, _enough(inputs)),
        _FOR_HALF: within(done_for_half.multiplications, _enough(half)),
    }


def called_twice(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The results of two calls, looked at after both; the second one sees the states backwards."""
    first = implementation(*inputs.values())
    second = implementation(inputs["W_hh"], inputs["h"].flip(0))
    return {"the first result": first, "the second result": second}


def _half(inputs: Inputs) -> Inputs:
    return {"W_hh": inputs["W_hh"], "h": inputs["h"][: len(inputs["h"]) // 2]}


def _one_product(inputs: Inputs) -> int:
    hidden = len(inputs["W_hh"])
    return hidden**3 + 4 * hidden**2


def _enough(inputs: Inputs) -> float:
    return 3 * len(inputs["h"]) * _one_product(inputs)


def _quadratic(inputs: Inputs) -> float:
    time = len(inputs["h"])
    return time * (time - 1) // 2 * _one_product(inputs)


def _states(time: int, hidden: int, radius: float = 1.5, size: float = 0.9) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "W_hh": source.normal(hidden, hidden, scale=radius * hidden**-0.5),
            "h": source.uniform(time, hidden, low=-size, high=size),
        }

    return draw


def _no_tanh(source: Draw) -> Inputs:
    """All states are zero, where the slope of tanh is one: a linear network."""
    return {**_states(12, 5)(source), "h": torch.zeros(12, 5)}


def _saturated(source: Draw) -> Inputs:
    """Units 0 and 2 are exactly -1 or 1, and in one step all units are."""
    drawn = dict(_states(9, 4)(source))
    drawn["h"][:, 0], drawn["h"][:, 2] = 1.0, -1.0
    drawn["h"][2] = torch.where(drawn["h"][2] > 0, 1.0, -1.0)
    return drawn


def _strided(source: Draw) -> Inputs:
    drawn = _states(8, 5)(source)
    return {
        "W_hh": drawn["W_hh"].t().contiguous().t(),
        "h": source.uniform(5, 16, low=-0.9, high=0.9).t()[::2],
    }


def _in_double(source: Draw) -> Inputs:
    return map_floats(_states(6, 4)(source), lambda t: t.double())  # type: ignore[no-any-return]


def _jacobians(
    W_hh: Tensor,
    h: Tensor,
    *,
    slope: Callable[[Tensor], Tensor] = lambda h: 1 - h**2,
    columns: bool = False,
    shift: int = 1,
    wrong_side: bool = False,
    transpose: bool = False,
) -> Tensor:
    """All Jacobians of the last state, with switches for what goes wrong."""
    W = W_hh.T if transpose else W_hh
    jacobian = torch.eye(len(W), dtype=W.dtype, device=W.device)
    jacobians = [jacobian]
    for t in reversed(range(len(h) - 1)):
        d = slope(h[t + shift])
        step = W * d if columns else d[:, None] * W
        jacobian = step @ jacobian if wrong_side else jacobian @ step
        jacobians.append(jacobian)
    return torch.stack(jacobians[::-1])


def _spectral(jacobians: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(jacobians, ord=2)
    return norms


def _no_slope(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, slope=torch.ones_like))


def _slope_not_squared(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, slope=lambda h: 1 - h))


def _tanh_twice(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, slope=lambda h: 1 - torch.tanh(h) ** 2))


def _slopes_on_columns(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, columns=True))


def _slope_of_the_state_before(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, shift=0))


def _wrong_side(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, wrong_side=True))


def _transposed(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h, transpose=True))


def _frobenius(W_hh: Tensor, h: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(_jacobians(W_hh, h))
    return norms


def _squared(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h)) ** 2


def _radius(W_hh: Tensor, h: Tensor) -> Tensor:
    radii: Tensor = torch.linalg.eigvals(_jacobians(W_hh, h)).abs().amax(-1)
    return radii


def _product_of_norms(W_hh: Tensor, h: Tensor) -> Tensor:
    norms = [torch.ones_like(h[0, 0])]
    for state in h[1:].flip(0):
        norms.append(norms[-1] * torch.linalg.matrix_norm((1 - state**2)[:, None] * W_hh, 2))
    return torch.stack(norms[::-1])


def _norms_of_single_steps(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral((1 - h**2)[:, :, None] * W_hh)


def _from_the_start(W_hh: Tensor, h: Tensor) -> Tensor:
    jacobian = torch.eye(len(W_hh), dtype=W_hh.dtype, device=W_hh.device)
    jacobians = [jacobian]
    for state in h[1:]:
        jacobian = (1 - state**2)[:, None] * W_hh @ jacobian
        jacobians.append(jacobian)
    return _spectral(torch.stack(jacobians))


def _one_step_too_far(W_hh: Tensor, h: Tensor) -> Tensor:
    more = torch.cat([torch.zeros_like(h[:1]), h])
    return _spectral(_jacobians(W_hh, more))[:-1]


def _not_turned_round(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h)).flip(0)


def _from_python_numbers(W_hh: Tensor, h: Tensor) -> Tensor:
    return torch.tensor(_spectral(_jacobians(W_hh, h)).tolist(), device=h.device)


def _largest_entry(W_hh: Tensor, h: Tensor) -> Tensor:
    return _jacobians(W_hh, h).abs().amax((1, 2))


def _column_sum(W_hh: Tensor, h: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(_jacobians(W_hh, h), ord=1)
    return norms


def _row_sum(W_hh: Tensor, h: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(_jacobians(W_hh, h), ord=torch.inf)
    return norms


def _smallest(W_hh: Tensor, h: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(_jacobians(W_hh, h))
    return values[:, -1]


def _elementwise(W_hh: Tensor, h: Tensor) -> Tensor:
    jacobians = [torch.eye(len(W_hh), dtype=W_hh.dtype, device=W_hh.device)]
    for t in reversed(range(len(h) - 1)):
        factor = (1 - h[t + 1] ** 2)[:, None] * W_hh
        jacobians.append(factor * jacobians[-1] if len(jacobians) > 1 else factor)
    return _spectral(torch.stack(jacobians[::-1]))


class _Buffer:
    """A result that outlives the call."""

    norms: Tensor | None = None


def _one_buffer(W_hh: Tensor, h: Tensor) -> Tensor:
    norms = _spectral(_jacobians(W_hh, h))
    if _Buffer.norms is None or _Buffer.norms.shape != norms.shape or _Buffer.norms.dtype != norms.dtype:
        _Buffer.norms = norms
    return _Buffer.norms.copy_(norms)


def _divided_by_first(W_hh: Tensor, h: Tensor) -> Tensor:
    norms = _spectral(_jacobians(W_hh, h))
    return norms / norms.max()


def _identity_left_out(W_hh: Tensor, h: Tensor) -> Tensor:
    return _spectral(_jacobians(W_hh, h)[:-1])


def _cut_after_thirty(W_hh: Tensor, h: Tensor) -> Tensor:
    recent = torch.arange(len(h), device=h.device) >= len(h) - 30
    return torch.where(recent, _spectral(_jacobians(W_hh, h)), 0.0)


def _anew_for_every_step(W_hh: Tensor, h: Tensor) -> Tensor:
    norms = []
    for t in range(len(h)):
        jacobian = torch.eye(len(W_hh), dtype=W_hh.dtype, device=W_hh.device)
        for state in h[t + 1 :]:
            jacobian = (1 - state**2)[:, None] * W_hh @ jacobian
        norms.append(_spectral(jacobian))
    return torch.stack(norms)


def _grows_like_the_square(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Twice the steps take more than three times the multiplications."""
    amounts = [
        (entry.value["multiplications"], entry.value[_FOR_HALF])
        for (requirement, _), entry in observed.items()
        if requirement == _LINEAR and type(entry.value) is dict
    ]
    return bool(amounts) and all(whole > 3 * half for whole, half in amounts)


jacobian_norms = Exercise(
    reference.jacobian_norms,
    requirements=(
        Requirement(
            "the norm for every step",
            (
                Case("7 steps, 4 units", _states(7, 4)),
                Case("one step", _states(1, 3)),
                Case("two steps", _states(2, 4)),
                Case("one unit", _states(5, 1)),
                Case("as many steps as units", _states(5, 5)),
                Case("all states zero, as in a linear network", _no_tanh),
                Case("inputs that are not contiguous", _strided),
                Case("more units than steps", _states(4, 9), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "far back, however small or large",
            (
                Case("60 steps that shrink", _states(60, 5, radius=1.1)),
                Case("60 steps that grow", _states(60, 5, radius=1.5, size=0.5)),
                Case("45 steps, 3 units", _states(45, 3, radius=1.1), shown=False),
            ),
            as_column,
            rows=True,
        ),
        Requirement(
            "float64 in, float64 out",
            (Case("inputs in float64", _in_double),),
            tolerance=Tolerance(1e-6, "Everything is float64 here, so that rounding is that of float64."),
        ),
        Requirement("saturated units", (Case("states that are exactly -1 or 1", _saturated),)),
        Requirement(
            _LINEAR,
            (
                Case("48 steps, 6 units", _states(48, 6)),
                Case("80 steps, 6 units", _states(80, 6), shown=False),
            ),
            counted,
            bounds={
                "multiplications": Bound(
                    most=_enough,
                    unit="multiplications",
                    why="The Jacobian for t is the one for t + 1 times one more factor: keep it from step to step.",
                    naive=_quadratic,
                ),
                _FOR_HALF: Bound(
                    most=lambda inputs: _enough(_half(inputs)),
                    unit=_FOR_HALF,
                    why="The Jacobian for t is the one for t + 1 times one more factor: keep it from step to step.",
                ),
            },
        ),
        Requirement("two calls do not disturb each other", (Case("two calls", _states(5, 4)),), called_twice),
    ),
    mistakes=(
        Mistake(
            "You multiply all factors anew for every t. Go from the end, and multiply the product that "
            "you have by one more factor.",
            _anew_for_every_step,
            recognise=_grows_like_the_square,
        ),
        Mistake("You left out the slope of tanh, 1 - h^2.", _no_slope),
        Mistake("Your slope is 1 - h. The slope of tanh is 1 - h^2.", _slope_not_squared),
        Mistake(
            "You take tanh of the state once more. The state is a value of tanh already: the slope is 1 - h^2.",
            _tanh_twice,
        ),
        Mistake(
            "Your slopes scale the columns of W_hh. Unit i's slope belongs to what unit i receives, which is row i.",
            _slopes_on_columns,
        ),
        Mistake(
            "Your slopes are those of the state before each step. The factor for the step from t to t + 1 contains h_{t+1}.",
            _slope_of_the_state_before,
        ),
        Mistake(
            "Your factors stand in the wrong order. Going back in time, the new factor is the first to act, so it stands on the right.",
            _wrong_side,
        ),
        Mistake(
            "You use W_hh.T. For the derivative of h_{t+1} by h_t, row i belongs to unit i of h_{t+1}, as in W_hh itself.",
            _transposed,
        ),
        Mistake(
            "Your norm is the root of the sum of all squares (Frobenius). Asked is the largest singular value: ord=2.",
            _frobenius,
        ),
        Mistake(
            "You return the square of the norm: the largest eigenvalue of J J^T is the largest singular value squared.",
            _squared,
        ),
        Mistake(
            "You return the spectral radius of each product. The norm is the largest singular value.",
            _radius,
        ),
        Mistake(
            "You multiply the norms of the factors. That is only an upper bound: what one step stretches most is rarely what the "
            "next one does. Multiply the matrices, then take the norm.",
            _product_of_norms,
        ),
        Mistake(
            "You return the norm of each single factor. Multiply the factors from t + 1 to the end first.",
            _norms_of_single_steps,
        ),
        Mistake(
            "Your products begin at the first state: these are the norms of dh_t/dh_0. Asked is the last state by h_t.",
            _from_the_start,
        ),
        Mistake(
            "You have one factor too many. The last state by itself is the identity, with norm 1.",
            _one_step_too_far,
        ),
        Mistake("Your norms stand in the wrong order: the 1 comes last.", _not_turned_round),
        Mistake(
            "Your norms are float32 although the inputs are float64. torch.eye, torch.zeros and torch.tensor make float32; name "
            "the dtype of h, or use torch.stack and zeros_like.",
            _from_python_numbers,
        ),
        Mistake(
            "You return the largest entry of each matrix. The norm is the largest singular value.",
            _largest_entry,
        ),
        Mistake(
            "You take ord=1, the largest sum of a column. The largest singular value is ord=2.",
            _column_sum,
        ),
        Mistake(
            "You take the largest sum of a row (ord=inf). The largest singular value is ord=2.",
            _row_sum,
        ),
        Mistake("You return the smallest singular value of each matrix. Asked is the largest.", _smallest),
        Mistake(
            "You multiply the factors element by element. A product of matrices is written with @.",
            _elementwise,
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Make a new one.",
            _one_buffer,
        ),
        Mistake("You divide all norms by the largest one. Return them as they are.", _divided_by_first),
        Mistake(
            "One norm is missing: that of the last state by itself, which is 1.",
            _identity_left_out,
        ),
        Mistake(
            "Your norms are zero far from the end. Go through all steps, not through a fixed number.",
            _cut_after_thirty,
        ),
    ),
)
