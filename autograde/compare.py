"""Comparing what an implementation showed with what the reference shows; the first difference, by name and number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Exercise, Sample
from autograde.expect import Expected, as_double
from autograde.observe import CHANGED, Observation, Raised
from autograde.shapes import explain, returned_names
from autograde.values import MAX_BITS, Foreign, SeenTensor, Value, dtype_name, kind_name, leaves


@dataclass(frozen=True, eq=False)
class Finding:
    """What is wrong with an implementation in one case.

    Attributes:
        kind: "not written", "missing", "raised", "forbidden", "none", "type", "shape", "dtype", "device",
            "not finite", "values", "gradient missing", "gradient", "changed", "cost", "gate", "timeout", "crash".
        message: one or two sentences, with numbers.
        case: the name of the case.
        frames: for "raised": the lines of the learner's own code.
        got, expected: matrices that are worth a picture, with the names of their dimensions in ``axes``.
    """

    kind: str
    message: str
    case: str = ""
    frames: tuple[str, ...] = ()
    got: Tensor | None = None
    expected: Tensor | None = None
    axes: tuple[str, ...] | None = None


def compare(exercise: Exercise, sample: Sample, expected: Expected, observed: Observation) -> Finding | None:
    """The first thing that is wrong, or None.

    The order is that of usefulness: a forbidden operator before an exception, an exception before a missing value,
    types before shapes before values, values before costs, and what was changed in place last.
    """
    case = sample.case.name
    if observed.called:
        return Finding("forbidden", _forbidden(observed.called), case)
    if observed.raised is not None:
        return _raised(observed.raised, case)
    names = _leaf_names(exercise)
    found = _structure(expected.single.value, observed.value, names, case)
    if found is None:
        found = _leaves(sample, expected, observed, names)
    if found is None and observed.changed:
        found = _changed_in_place(", ".join(observed.changed), case)
    return found


def _changed_in_place(names: str, case: str) -> Finding:
    message = (
        f"Your function changed its input in place: {names}. Whoever calls it still needs the old values."
    )
    return Finding("changed", message, case)


def _forbidden(called: tuple[str, ...]) -> str:
    return f"Your function calls {', '.join(called)}, which is what you are asked to write here yourself."


_ELEMENT = re.compile(r"(.*)\[(\d+)\]")
_CALLED_WRONGLY = re.compile(r"\(\) (takes|missing|got)|is not callable")


def _raised(raised: Raised, case: str) -> Finding:
    if raised.not_written:
        return Finding("not written", "Not written yet.", case)
    message = f"Your function raised {raised.kind}: {raised.message}".rstrip(": ")
    if not raised.frames and raised.kind == "TypeError" and _CALLED_WRONGLY.search(raised.message):
        message += " (the check calls it with the arguments that the exercise names)"
    elif not raised.frames:
        message += " (no line of yours is involved: it happened when the check called your function, or used its result)"
    return Finding("raised", message, case, raised.frames)


def _leaf_names(exercise: Exercise) -> dict[str, tuple[str, tuple[str, ...] | None]]:
    """By path within what the function returned: how to call it, and the names of its dimensions."""
    dims = returned_names(exercise.reference)
    paths = {"": "the result"} | {f"[{i}]": name for i, name in enumerate(exercise.returns)}
    named = {path: (label, dims.get(path)) for path, label in paths.items()}
    return named | {f"value{path}": entry for path, entry in named.items()}


def _label(path: str, names: Mapping[str, tuple[str, Any]]) -> str:
    """How to call a part of the result: "the loss", or "element 1 of the gradients" where it has no name of its own."""
    if path in names:
        return names[path][0]
    element = _ELEMENT.fullmatch(path)
    return f"element {element[2]} of {_label(element[1], names)}" if element else path or "the result"


def _dims(path: str, exercise_names: Mapping[str, tuple[str, Any]]) -> tuple[str, ...] | None:
    return exercise_names[path][1] if path in exercise_names else None


def _structure(
    expected: Value, got: Value, names: Mapping[str, tuple[str, Any]], case: str, path: str = ""
) -> Finding | None:
    """None, wrong types and wrong nesting, outermost first."""
    label = _label(path, names)
    if path.rsplit(".", 1)[-1].startswith("gradient of") and (got is None or expected is None):
        return _gradient_missing(expected, got, label, case)
    if got is None and expected is not None:
        what = (
            "Your function returned None: is a return missing?"
            if path in ("", "value")
            else f"{label} is None."
        )
        return Finding("none", what, case)
    if isinstance(expected, tuple) and isinstance(got, tuple) and len(expected) == len(got):
        pairs = [(f"{path}[{i}]", e, g) for i, (e, g) in enumerate(zip(expected, got, strict=True))]
    elif isinstance(expected, dict) and isinstance(got, dict) and set(expected) == set(got):
        pairs = [(f"{path}.{key}" if path else key, expected[key], got[key]) for key in expected]
    elif _compatible(expected, got):
        return None
    else:
        return Finding("type", _wrong_type(label, expected, got), case)
    found = (_structure(e, g, names, case, where) for where, e, g in pairs)
    return next((finding for finding in found if finding is not None), None)


def _wrong_type(label: str, expected: Value, got: Value) -> str:
    if isinstance(expected, dict) and isinstance(got, dict):
        missing, unknown = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
        parts = [f"missing: {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"not asked for: {', '.join(map(repr, unknown))}"] if unknown else []
        return f"Wrong keys in {label}: {'; '.join(parts)}."
    return f"Wrong type for {label}: expected {kind_name(expected)}, got {kind_name(got)}."


def _compatible(expected: Value, got: Value) -> bool:
    if isinstance(expected, (tuple, dict)) or isinstance(got, (tuple, dict, Foreign)):
        return False
    if isinstance(expected, SeenTensor):
        return isinstance(got, SeenTensor)
    if isinstance(got, SeenTensor):
        return got.data.dim() == 0 and _compatible(expected, got.data.item())
    if isinstance(expected, float):
        return isinstance(got, float) or (type(got) is int and got.bit_length() <= MAX_BITS)
    return type(expected) is type(got)


def _gradient_missing(expected: Value, got: Value, label: str, case: str) -> Finding | None:
    if got is None and isinstance(expected, SeenTensor) and bool(expected.data.any()):
        message = (
            f"The {label} is missing: no gradient flows from the result back to it. Detached, "
            "converted to a number or to NumPy, or never used?"
        )
        return Finding("gradient missing", message, case)
    return None


def _leaves(
    sample: Sample, expected: Expected, observed: Observation, names: Mapping[str, tuple[str, Any]]
) -> Finding | None:
    got = dict(leaves(observed.value))
    for path, wanted in leaves(expected.single.value):
        bound = sample.requirement.bounds.get(path)
        if path == CHANGED and got[path]:
            found: Finding | None = _changed_in_place(str(got[path]), sample.case.name)
        elif bound is not None:
            found = _cost(bound, path, got[path], sample)
        elif wanted is None or got[path] is None:
            found = None
        elif isinstance(wanted, SeenTensor):
            found = _tensor(sample, expected, path, wanted, got[path], names)
        else:
            found = _number(sample, expected, path, wanted, got[path], names)
        if found is not None:
            return found
    return None


def _tensor(
    sample: Sample,
    expected: Expected,
    path: str,
    wanted: SeenTensor,
    got: SeenTensor,
    names: Mapping[str, tuple[str, Any]],
) -> Finding | None:
    label, case = _label(path, names), sample.case.name
    if wanted.data.shape != got.data.shape:
        told = explain(tuple(wanted.data.shape), tuple(got.data.shape), _dims(path, names))
        return Finding("shape", f"Wrong shape of {label}: {told}{'' if told.endswith('?') else '.'}", case)
    if wanted.device != got.device:
        return Finding("device", f"{label} is on {got.device}, the inputs are on {wanted.device}.", case)
    if wanted.data.dtype != got.data.dtype:
        told = f"expected {dtype_name(wanted.data.dtype)}, got {dtype_name(got.data.dtype)}"
        return Finding("dtype", f"Wrong dtype of {label}: {told}.", case)
    if path not in expected.unit:
        found = _exact(label, case, wanted.data, got.data)
    else:
        exact = as_double(expected.exact[path])
        found = _values(label, case, exact, got.data.double(), expected.tolerance(path))
    return None if found is None else replace(found, axes=_dims(path, names))


def _exact(label: str, case: str, wanted: Tensor, got: Tensor) -> Finding | None:
    wrong = wanted != got
    if not bool(wrong.any()):
        return None
    where = tuple(int(i) for i in wrong.nonzero()[0])
    message = (
        f"{int(wrong.sum())} of {wrong.numel()} values of {label} differ; the first at {_at(where)}: "
        f"got {got[where].item()}, expected {wanted[where].item()}."
    )
    return Finding("values", message, case, got=got.double(), expected=wanted.double())


def _values(label: str, case: str, wanted: Tensor, got: Tensor, tolerance: Tensor) -> Finding | None:
    kind = "gradient" if label.startswith("gradient of") else "values"
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    unexpected = ~torch.isfinite(got) & ~same
    if bool(unexpected.any()):
        where = tuple(int(i) for i in unexpected.nonzero()[0])
        what = "NaN" if math.isnan(got[where].item()) else "infinity"
        message = f"There is {what} in {label}: {int(unexpected.sum())} of {got.numel()} values, the first at {_at(where)}."
        return Finding("not finite", message, case, got=got, expected=wanted)
    error = torch.where(same, 0.0, (got - wanted).abs()).nan_to_num(float("inf"))
    excess = error - tolerance
    if got.numel() == 0 or not bool((excess > 0).any()):
        return None
    flat = int(excess.argmax())
    where = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), error.shape)) if error.dim() else ()
    allowed = float(tolerance.expand(error.shape)[where])
    explained = f" (rounding would explain {allowed:.0e})" if allowed > 0 else ""
    numbers = f"got {got[where].item():.6g}, expected {wanted[where].item():.6g}{explained}."
    if not error.dim():
        return Finding(kind, f"The value of {label} differs: {numbers}", case)
    message = (
        f"{int((excess > 0).sum())} of {error.numel()} values of {label} differ. "
        f"Largest error {error[where].item():.2e} at {_at(where)}: {numbers}"
    )
    return Finding(kind, message, case, got=got, expected=wanted)


def _number(
    sample: Sample,
    expected: Expected,
    path: str,
    wanted: Value,
    got: Value,
    names: Mapping[str, tuple[str, Any]],
) -> Finding | None:
    label, case = _label(path, names), sample.case.name
    value = got.data.item() if isinstance(got, SeenTensor) else got
    if isinstance(wanted, float):
        exact = as_double(expected.exact[path])
        return _values(
            label, case, exact, torch.tensor(float(value), dtype=torch.float64), expected.tolerance(path)
        )
    if value == wanted:
        return None
    return Finding("values", f"The value of {label} differs: got {value!r}, expected {wanted!r}.", case)


def _cost(bound: Bound, path: str, got: Value, sample: Sample) -> Finding | None:
    value = got.data.item() if isinstance(got, SeenTensor) else got
    amount = math.inf if type(value) is int and value.bit_length() > MAX_BITS else float(value)
    most = bound.most(sample.inputs)
    if amount <= most:
        return None
    message = f"Too costly: {amount:,.0f} {bound.unit}, and {most:,.0f} are enough. {bound.why}"
    if bound.naive is not None:
        message += f" The naive version needs {bound.naive(sample.inputs):,.0f}."
    return Finding("cost", message, sample.case.name)


def _at(where: tuple[int, ...]) -> str:
    return "[" + ", ".join(str(i) for i in where) + "]"
