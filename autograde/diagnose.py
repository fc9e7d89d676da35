"""Recognising a known mistake from what an implementation showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from autograde.exercise import Exercise, Mistake, Sample
from autograde.expect import Expected, as_double
from autograde.observe import LocalObserver, Observation
from autograde.values import SeenTensor, Value, leaves

Observations = Mapping[tuple[str, str], Observation]


def diagnose(
    exercise: Exercise,
    looked_at: Sequence[Sample],
    failed: Sequence[Sample],
    expected: Mapping[tuple[str, str], Expected],
    observed: Observations,
) -> Mistake | None:
    """The mistake that an implementation shows, or None; the first, where several fit."""
    return next(iter(matches(exercise, looked_at, failed, expected, observed)), None)


def matches(
    exercise: Exercise,
    looked_at: Sequence[Sample],
    failed: Sequence[Sample],
    expected: Mapping[tuple[str, str], Expected],
    observed: Observations,
) -> list[Mistake]:
    """The mistakes whose observations agree with ``observed``.

    A mistake fits when it shows the same as the implementation in every case of the failed requirements, and in at
    least one of them something other than the reference, which is neither an exception nor NaN alone. Of those that
    fit, one with a ``recognise`` of its own wins; then those that agree in the requirements that were met, too.
    """
    special = [m for m in exercise.mistakes if _recognises(m, observed)]
    if special:
        return special
    plain = [m for m in exercise.mistakes if m.recognise is None]
    fitting = [m for m in plain if _fits(m, exercise, failed, expected, observed)]
    everywhere = [m for m in fitting if _fits(m, exercise, looked_at, expected, observed)]
    return everywhere or fitting


def _recognises(mistake: Mistake, observed: Observations) -> bool:
    """A ``recognise`` that stumbles over an odd result does not recognise it."""
    try:
        return mistake.recognise is not None and bool(mistake.recognise(observed))
    except Exception:
        return False


def _fits(
    mistake: Mistake,
    exercise: Exercise,
    failed: Sequence[Sample],
    expected: Mapping[tuple[str, str], Expected],
    observed: Observations,
) -> bool:
    telling = False
    for sample in failed:
        shown = _shown(mistake, exercise, sample)
        if not _agree(observed[sample.key], shown, expected[sample.key]):
            return False
        telling = telling or _tells(shown, expected[sample.key])
    return telling


_CACHE: dict[tuple[int, int, int, int], tuple[Mistake, Sample, Observation]] = {}
_CACHE_SIZE = 4096


def forget() -> None:
    """Drop what mistakes have shown: seeds of one submission are of no use for the next."""
    _CACHE.clear()


def _shown(mistake: Mistake, exercise: Exercise, sample: Sample) -> Observation:
    """What a mistake shows in a case; looked at once for each case and seed.

    Always on the CPU: a mistake that reads past the end of a tensor raises an exception there, and on a GPU it would end the
    use of the GPU for the whole process.
    """
    key = (id(mistake), id(sample.requirement), id(sample.case), sample.seed)
    if key not in _CACHE:
        if len(_CACHE) >= _CACHE_SIZE:
            _CACHE.clear()
        look = LocalObserver(mistake.implementation, quiet=True)
        inputs = sample.inputs if sample.device == "cpu" else sample.case.inputs(sample.seed)
        seen = look(sample.requirement.probe, inputs, exercise.forbids)
        # Mistake and sample are kept beside the observation, so that their ids are not used again.
        _CACHE[key] = (mistake, sample, seen)
    return _CACHE[key][2]


def _tells(shown: Observation, expected: Expected) -> bool:
    """Whether this differs from the reference in a way that could not be anything else's doing."""
    if shown.raised is not None:
        return False
    values = [leaf for _, leaf in leaves(shown.value)]
    if values and all(
        isinstance(v, SeenTensor) and v.data.numel() and bool(v.data.isnan().all()) for v in values
    ):
        return False
    return not _agree(expected.single, shown, expected)


def _agree(a: Observation, b: Observation, expected: Expected) -> bool:
    if (
        (a.raised is None) != (b.raised is None)
        or set(a.changed) != set(b.changed)
        or set(a.called) != set(b.called)
    ):
        return False
    if a.raised is not None and b.raised is not None:
        return a.raised.kind == b.raised.kind and a.raised.not_written == b.raised.not_written
    ours, theirs = dict(leaves(a.value)), dict(leaves(b.value))
    return ours.keys() == theirs.keys() and all(_equal(ours[p], theirs[p], expected, p) for p in ours)


def _equal(a: Value, b: Value, expected: Expected, path: str) -> bool:
    if (
        isinstance(a, (SeenTensor, float))
        and isinstance(b, (SeenTensor, float, int))
        and not isinstance(b, bool)
    ):
        return _close(a, b, expected, path)
    if isinstance(a, int) and isinstance(b, float) and not isinstance(a, bool):
        return _close(b, a, expected, path)
    return type(a) is type(b) and bool(a == b)


def _close(a: Value, b: Value, expected: Expected, path: str) -> bool:
    x, y = as_double(a), as_double(b)
    if x.shape != y.shape or _dtype(a) != _dtype(b):
        return False
    scale = float(y.abs().nan_to_num(0.0, posinf=0.0).max()) if y.numel() else 0.0
    allowed = torch.tensor(expected.factor * 2.0**-24 * scale)
    if path in expected.unit:
        wanted = as_double(expected.exact[path]).abs().nan_to_num(0.0, posinf=0.0)
        reference_scale = float(wanted.max()) if wanted.numel() else 0.0
        stretch = max(1.0, scale / reference_scale) if reference_scale > 0 else 1.0
        allowed = torch.maximum(allowed, (expected.tolerance(path) * stretch).max())
    same = (x == y) | (x.isnan() & y.isnan()) | ((x - y).abs() <= allowed)
    return bool(same.all())


def _dtype(value: Value) -> torch.dtype | None:
    return value.data.dtype if isinstance(value, SeenTensor) and value.data.dim() else None
