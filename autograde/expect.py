"""What the reference shows in a case, and how far a right answer may be from it.

The tolerance is derived, not guessed. Per returned tensor, with f64 and f32 the reference in float64 and float32,

    u   = max(|f32 - f64|, max over 4 draws |f64(x (1 + 2^-24 xi)) - f64|, 2^-24 max|f64|),    xi uniform in [-1, 1]
    tol = 32 u

The second term is what rounding the inputs alone can do; without it, a reference that happens to be exact in float32
would reject right answers that sum in another order. Right answers were seen at up to 2.6 u, half precision at 100 u
and more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autograde.exercise import Case, Requirement, Sample
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation, observe, silenced
from autograde.values import SeenTensor, Value, leaves

ROUNDING = 2.0**-24
FACTOR = 32.0
DRAWS = 4
MOST_RELATIVE = 1e-3
"""A case whose tolerance exceeds this share of its scale tells nothing, and is refused."""


class CaseError(Exception):
    """A requirement's case is unusable: the reference fails in it, or it is chaotic. Our mistake, never a learner's."""


@dataclass(frozen=True, eq=False)
class Expected:
    """The reference in one case.

    Attributes:
        single: what the reference shows for the inputs as they are: types, shapes, dtypes, device.
        exact: the same in float64.
        unit: for each floating-point leaf, by path: u, a scalar, or a column where rows are compared.
        factor: the tolerance is this many units.
    """

    single: Observation
    exact: dict[str, Value]
    unit: dict[str, Tensor]
    factor: float = FACTOR

    def tolerance(self, path: str) -> Tensor:
        """The largest error allowed at a leaf; broadcasts against it."""
        return self.factor * self.unit[path]


_CACHE: dict[tuple[int, int, int, int, str], tuple[Implementation, Requirement, Case, Expected]] = {}
_CACHE_SIZE = 4096


def expect(reference: Implementation, sample: Sample) -> Expected:
    """What the reference shows in a case; derived once for each case, seed and device.

    Raises:
        CaseError: the reference raised, changed its inputs, returned something unusable, or the case is chaotic.
    """
    key = (id(reference), id(sample.requirement), id(sample.case), sample.seed, sample.device)
    if key not in _CACHE:
        if len(_CACHE) >= _CACHE_SIZE:
            _CACHE.clear()
        # Reference, requirement and case are kept beside the value, so that their ids are not used again.
        _CACHE[key] = (reference, sample.requirement, sample.case, derive(reference, sample))
    return _CACHE[key][3]


def forget() -> None:
    """Drop what was derived: seeds of one submission are of no use for the next."""
    _CACHE.clear()


def derive(reference: Implementation, sample: Sample) -> Expected:
    """Run the reference in a case, as it is, in float64 and shaken, and derive the tolerances."""
    requirement, inputs = sample.requirement, sample.inputs
    single = _run(reference, requirement, inputs, sample)
    exact = dict(leaves(_run(reference, requirement, map_floats(inputs, _double), sample).value))
    shaken = [_shaken(reference, sample, draw) for draw in range(DRAWS)]
    units = {
        path: _unit(leaf, exact[path], [other[path] for other in shaken], requirement.rows)
        for path, leaf in leaves(single.value)
        if path not in requirement.bounds and _is_floating(leaf)
    }
    factor = FACTOR * (requirement.tolerance.factor if requirement.tolerance else 1.0)
    expected = Expected(single, exact, units, factor)
    _refuse_chaos(expected, sample)
    return expected


def _run(reference: Implementation, requirement: Requirement, inputs: Inputs, sample: Sample) -> Observation:
    with silenced():
        observation = observe(requirement.probe, reference, inputs)
    where = f"{reference.__name__}, {sample.requirement.name!r}, case {sample.case.name!r}"
    if observation.raised is not None:
        raised = observation.raised
        raise CaseError(f"The reference of {where} raised {raised.kind}: {raised.message}")
    if observation.changed:
        raise CaseError(f"The reference of {where} changed its inputs: {', '.join(observation.changed)}.")
    return observation


def _shaken(reference: Implementation, sample: Sample, draw: int) -> dict[str, Value]:
    generator = torch.Generator().manual_seed(7 + draw)

    def shake(tensor: Tensor) -> Tensor:
        noise = 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1
        double = _double(tensor)
        return double + double * (ROUNDING * noise).to(double.device)

    return dict(leaves(_run(reference, sample.requirement, map_floats(sample.inputs, shake), sample).value))


def _double(tensor: Tensor) -> Tensor:
    """The tensor in float64, with its strides."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=torch.float64, device=tensor.device
    ).copy_(tensor)


def _is_floating(leaf: Value) -> bool:
    return isinstance(leaf, float) or (isinstance(leaf, SeenTensor) and leaf.data.dtype.is_floating_point)


def as_double(leaf: Value) -> Tensor:
    """A floating-point leaf as a float64 tensor."""
    return (
        leaf.data.double() if isinstance(leaf, SeenTensor) else torch.tensor(float(leaf), dtype=torch.float64)
    )


def _unit(single: Value, exact: Value, shaken: list[Value], rows: bool) -> Tensor:
    f64 = as_double(exact)
    terms = [as_double(single) - f64, ROUNDING * f64, *(as_double(other) - f64 for other in shaken)]
    sizes = torch.stack([term.abs() for term in terms]).nan_to_num(0.0, posinf=0.0)
    if f64.numel() == 0:
        return torch.zeros((), dtype=torch.float64)
    largest = sizes.amax(0)
    by_row: Tensor = largest.amax(-1, keepdim=True) if rows and f64.dim() > 0 else largest.amax()
    return by_row


def strain(expected: Expected) -> dict[str, float]:
    """How near each leaf is to being refused as chaotic: its tolerance over the largest one allowed. Above 1 it is refused."""
    found = {}
    for path, unit in expected.unit.items():
        scale = as_double(expected.exact[path]).abs().nan_to_num(0.0, posinf=0.0)
        biggest = float(scale.amax()) if scale.numel() else 0.0
        if biggest > 0:
            found[path] = float((expected.factor * unit).max()) / (MOST_RELATIVE * biggest)
    return found


def _refuse_chaos(expected: Expected, sample: Sample) -> None:
    for path, share in strain(expected).items():
        if share > 1:
            biggest = float(as_double(expected.exact[path]).abs().nan_to_num(0.0, posinf=0.0).amax())
            raise CaseError(
                f"Case {sample.case.name!r} of {sample.requirement.name!r} is chaotic at {path or 'the result'}: rounding"
                f" alone moves the reference by {float(expected.unit[path].max()):.1e}, and its largest value is {biggest:.1e}."
                " Take smaller values, or values that saturate fully."
            )
