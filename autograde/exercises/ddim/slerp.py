"""The exercise ``slerp`` of the lesson ddim/04_quality_inversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.nests import map_floats
from autograde.observe import Inputs, Observation
from autograde.probes import gradients
from autograde.values import SeenTensor, leaves
from utils.reference import ddim as reference


def _batch(batch: int, dim: int, a: float) -> Callable[[Draw], Inputs]:
    """Rows of about 70 degrees: not nearly parallel, not nearly opposite."""

    def draw(source: Draw) -> Inputs:
        z0 = source.normal(batch, dim)
        other = source.normal(batch, dim)
        unit = z0 / z0.norm(dim=1, keepdim=True)
        across = other - (other * unit).sum(1, keepdim=True) * unit
        across = across / across.norm(dim=1, keepdim=True).clamp(min=1e-3)
        angle = source.uniform(batch, 1, low=0.7, high=1.9)
        length = source.uniform(batch, 1, low=0.7, high=3.0)
        return {"z0": z0, "z1": length * (angle.cos() * unit + angle.sin() * across), "a": a}

    return draw


def _parallel(source: Draw) -> Inputs:
    """Equal rows, rows of equal direction and other length, rows that are nearly parallel, and usual ones."""
    drawn = _batch(4, 6, 0.3)(source)
    z0, z1 = drawn["z0"], drawn["z1"].clone()
    z1[0], z1[1], z1[2] = z0[0], 2 * z0[1], z0[2] * (1 + 1e-5)
    return {**drawn, "z1": z1}


def _one_hot(source: Draw) -> Inputs:
    """Rows with one number that is not zero: the cosine of an equal or parallel pair is exactly 1, however it is summed."""
    drawn = _batch(5, 5, 0.3)(source)
    z0, z1 = drawn["z0"], drawn["z1"]
    z0[:3], z1[:3] = torch.eye(5)[:3], torch.eye(5)[:3]
    z1[1] *= 2
    z0[2] *= -0.5
    z1[2] *= -4
    return {**drawn, "z0": z0, "z1": z1}


def _all_equal(source: Draw) -> Inputs:
    """So many rows that the cosine of some is rounded to more than 1, in whichever order it is summed."""
    z = source.normal(64, 5)
    return {"z0": z, "z1": z.clone(), "a": 0.6}


def _near(source: Draw) -> Inputs:
    """3 to 11 degrees apart: not parallel, and an arc is not straight to seven digits."""
    z0 = source.normal(4, 6)
    unit = z0 / z0.norm(dim=1, keepdim=True)
    other = source.normal(4, 6)
    across = other - (other * unit).sum(1, keepdim=True) * unit
    across = across / across.norm(dim=1, keepdim=True)
    angle = source.uniform(4, 1, low=0.05, high=0.19)
    return {"z0": z0, "z1": 1.5 * (angle.cos() * unit + angle.sin() * across), "a": 0.4}


def _strided(source: Draw) -> Inputs:
    drawn = _batch(6, 4, 0.35)(source)
    return {**drawn, "z0": drawn["z0"].t().contiguous().t(), "z1": drawn["z1"].repeat_interleave(2, 0)[::2]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4, 0.4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _arc(
    z0: Tensor,
    z1: Tensor,
    a: float,
    *,
    angle_of: str = "rows",
    weights: str = "right",
    guard: bool = True,
    unit: str = "no",
) -> Tensor:
    """The arc, with switches for what goes wrong."""
    n0, n1 = z0.norm(dim=1, keepdim=True), z1.norm(dim=1, keepdim=True)
    product = (z0 * z1).sum(1, keepdim=True)
    cosine = {
        "rows": product / (n0 * n1),
        "batch": ((z0 * z1).sum() / (z0.norm() * z1.norm())).expand(len(z0), 1),
        "not normalised": product.clamp(-0.999, 0.999),
        "first row": (product[:1] / (n0[:1] * n1[:1])).expand(len(z0), 1),
    }[angle_of]
    theta = cosine.clamp(-1, 1).acos()
    close = theta < 1e-3
    safe = torch.where(close, torch.ones_like(theta), theta) if guard else theta
    first, second = {
        "right": (((1 - a) * safe).sin() / safe.sin(), (a * safe).sin() / safe.sin()),
        "exchanged": ((a * safe).sin() / safe.sin(), ((1 - a) * safe).sin() / safe.sin()),
        "not divided": (((1 - a) * safe).sin(), (a * safe).sin()),
        "cosine": ((a * safe).cos(), (a * safe).sin()),
        "quarter": (
            torch.cos(torch.tensor(a * torch.pi / 2)) + 0 * safe,
            torch.sin(torch.tensor(a * torch.pi / 2)) + 0 * safe,
        ),
        "roots": (torch.full_like(safe, (1 - a) ** 0.5), torch.full_like(safe, a**0.5)),
        "degrees": ((1 - a) * safe.rad2deg(), a * safe.rad2deg()),
        "divided by angle": (((1 - a) * safe).sin() / safe, (a * safe).sin() / safe),
        "sine of share": ((1 - a) * safe.sin() / safe.sin(), (a * safe).sin() / safe.sin()),
    }[weights]
    u0, u1 = (z0 / n0, z1 / n1) if unit == "directions" else (z0, z1)
    out = first * u0 + second * u1
    if guard:
        out = torch.where(close, (1 - a) * u0 + a * u1, out)
    if unit == "result":
        out = out / out.norm(dim=1, keepdim=True)
    return out


def _straight(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return (1 - a) * z0 + a * z1


def _straight_rescaled(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    line = (1 - a) * z0 + a * z1
    length = (1 - a) * z0.norm(dim=1, keepdim=True) + a * z1.norm(dim=1, keepdim=True)
    rescaled: Tensor = line / line.norm(dim=1, keepdim=True) * length
    return rescaled


def _one_angle(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, angle_of="batch")


def _first_angle(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, angle_of="first row")


def _not_normalised(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, angle_of="not normalised")


def _exchanged(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="exchanged")


def _not_divided(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="not divided")


def _cosine_and_sine(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="cosine")


def _right_angle(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="quarter")


def _root_weights(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="roots")


def _divided_by_angle(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="divided by angle")


def _share_outside(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, weights="sine of share")


def _unit_directions(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, unit="directions")


def _unit_result(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a, unit="result")


def _no_guard(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = (z0 * z1).sum(1, keepdim=True) / (z0.norm(dim=1, keepdim=True) * z1.norm(dim=1, keepdim=True))
    theta = cosine.clamp(-1, 1).acos()
    theta = torch.where(cosine > 1 - 1e-6, torch.zeros_like(theta), theta)
    return ((1 - a) * theta).sin() / theta.sin() * z0 + (a * theta).sin() / theta.sin() * z1


def _middle(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, 0.5)


def _straight_when_near(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(z0, z1)[:, None]
    return torch.where(cosine > 0.95, (1 - a) * z0 + a * z1, _arc(z0, z1, a))


def _whole_batch_straight(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(z0, z1)
    return (1 - a) * z0 + a * z1 if bool((cosine > 1 - 1e-6).any()) else _arc(z0, z1, a)


def _stays_at_the_start(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(z0, z1)[:, None]
    return torch.where(cosine > 1 - 1e-6, z0, _arc(z0, z1, a))


def _length_apart(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    length = (1 - a) * z0.norm(dim=1, keepdim=True) + a * z1.norm(dim=1, keepdim=True)
    scaled: Tensor = _arc(z0, z1, a, unit="directions") * length
    return scaled


def _acute(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(z0, z1)[:, None].abs().clamp(-1, 1)
    near = cosine > 1 - 5e-7
    angle = torch.where(near, torch.zeros_like(cosine), cosine).acos()
    out = (((1 - a) * angle).sin() * z0 + (a * angle).sin() * z1) / angle.sin()
    return torch.where(near, (1 - a) * z0 + a * z1, out)


def _over_the_batch(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(z0, z1, dim=0).clamp(-1, 1)
    near = cosine > 1 - 5e-7
    angle = torch.where(near, torch.zeros_like(cosine), cosine).acos()
    out = (((1 - a) * angle).sin() * z0 + (a * angle).sin() * z1) / angle.sin()
    return torch.where(near, (1 - a) * z0 + a * z1, out)


def _in_place(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return z0.copy_(_arc(z0.clone(), z1, a))


def _angle_in_numbers(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0.detach(), z1.detach(), a)


def _nan_gradients(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    return _arc(z0, z1, a)


def _parallel_rows_detached(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(z0, z1)[:, None]
    near = cosine > 1 - 5e-7
    angle = torch.where(near, torch.zeros_like(cosine), cosine).acos()
    out = (((1 - a) * angle).sin() * z0 + (a * angle).sin() * z1) / angle.sin()
    return torch.where(near, ((1 - a) * z0 + a * z1).detach(), out)


def _detached(z0: Tensor, z1: Tensor, a: float) -> Tensor:
    theta = torch.nn.functional.cosine_similarity(z0, z1).detach().clamp(-1, 1).acos()[:, None]
    close = theta < 1e-3
    safe = torch.where(close, torch.ones_like(theta), theta)
    out = ((1 - a) * safe).sin() / safe.sin() * z0 + (a * safe).sin() / safe.sin() * z1
    return torch.where(close, (1 - a) * z0 + a * z1, out)


def _nan_where_parallel(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """NaN among the parallel rows, and nowhere else."""
    nan = {name: False for name, _ in observed} | {
        name: True
        for (name, _), one in observed.items()
        if one.raised is None
        for _, leaf in leaves(one.value)
        if isinstance(leaf, SeenTensor) and bool(leaf.data.isnan().any())
    }
    return nan[_PARALLEL] and not nan[_ARC]


_ARC, _PARALLEL = "along the arc, row by row", "rows that are parallel"
_FLAT = "gradients where rows are parallel"

slerp = Exercise(
    reference.slerp,
    requirements=(
        Requirement(
            _ARC,
            (
                Case("4 rows of 6 numbers, a = 0.3", _batch(4, 6, 0.3)),
                Case("as many rows as numbers, a = 0.75", _batch(5, 5, 0.75)),
                Case("a batch of one", _batch(1, 8, 0.4)),
                Case("at the start, a = 0", _batch(3, 4, 0.0)),
                Case("at the end, a = 1", _batch(3, 4, 1.0)),
                Case("rows in float64", _in_double),
                Case("rows that are 3 to 11 degrees apart", _near),
                Case("6 rows of 3 numbers, a = 0.15", _batch(6, 3, 0.15), shown=False),
            ),
            points=2,
        ),
        Requirement(
            _PARALLEL,
            (
                Case("equal, parallel, nearly parallel and usual rows", _parallel),
                Case("both are equal, 64 rows", _all_equal),
            ),
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 4 rows", _batch(4, 6, 0.3)),
                Case("gradients, inputs that are not contiguous", _strided),
            ),
            gradients,
        ),
        Requirement(
            _FLAT,
            (
                Case("gradients, three rows with a cosine of exactly 1 and two usual ones", _one_hot),
                Case(
                    "gradients, two equal rows, alone",
                    lambda source: {name: torch.eye(2) for name in ("z0", "z1")} | {"a": 0.25},
                ),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake(
            "You go straight from z0 to z1. In the middle the vectors are too short: go along the arc.",
            _straight,
        ),
        Mistake(
            "You go straight and correct the length. The direction then moves faster in the middle: use sines of the angle.",
            _straight_rescaled,
        ),
        Mistake(
            "You use one angle for the whole batch. Each row has its own: sum over the last dimension only.",
            _one_angle,
        ),
        Mistake("You use the angle of the first row for all. Each row has its own.", _first_angle),
        Mistake("Your cosine is not divided by the two lengths.", _not_normalised),
        Mistake("a counts from z1 in your answer. a = 0 has to give z0.", _exchanged),
        Mistake("Your weights are not divided by sin(angle): a = 0 has to give z0 itself.", _not_divided),
        Mistake(
            "cos and sin of a times the angle are right for right angles only. Use the two sines.",
            _cosine_and_sine,
        ),
        Mistake("You take the angle for a right angle. Compute it, row by row.", _right_angle),
        Mistake(
            "Roots of the shares keep the length of right-angled vectors only. Use sines of the angle.",
            _root_weights,
        ),
        Mistake("You divide by the angle. Divide by its sine.", _divided_by_angle),
        Mistake(
            "The first weight is sin((1 - a) angle) / sin(angle): the share belongs inside the sine.",
            _share_outside,
        ),
        Mistake(
            "You mix directions of length 1, and the lengths of z0 and z1 are lost. Use unit vectors for the angle only.",
            _unit_directions,
        ),
        Mistake("Your result has length 1. a = 0 has to give z0, with its own length.", _unit_result),
        Mistake(
            "Where two rows are parallel you get NaN. Clamp the cosine to [-1, 1], for it may be rounded to more than 1, and where the "
            "angle is nearly 0 use the straight line (1 - a) z0 + a z1 in the place of 0 / 0.",
            _no_guard,
            recognise=_nan_where_parallel,
        ),
        Mistake(
            "The values are right, but the gradients of equal rows are NaN: acos has an infinite slope at 1. Replace the cosines of parallel "
            "rows before you take their angle.",
            _nan_gradients,
        ),
        Mistake(
            "The gradients of parallel rows miss a share. There the result is (1 - a) z0 + a z1, for the gradients, too.",
            _parallel_rows_detached,
        ),
        Mistake("You ignore a, and return the middle.", _middle),
        Mistake("The values are right, but the angle is detached, which changes the gradients.", _detached),
        Mistake(
            "You go straight although the rows are some degrees apart. Do so only where the angle is nearly 0, below 1e-3.",
            _straight_when_near,
        ),
        Mistake(
            "One parallel row makes your whole batch go straight. Decide row by row, with torch.where.",
            _whole_batch_straight,
        ),
        Mistake(
            "Where the rows are parallel you return z0. They may differ in length: use (1 - a) z0 + a z1.",
            _stays_at_the_start,
        ),
        Mistake(
            "You interpolate direction and length apart. The formula mixes z0 and z1 as they are, with the two sines.",
            _length_apart,
        ),
        Mistake(
            "You take the absolute value of the cosine, or the arcsine. Angles beyond 90 degrees have a negative cosine.",
            _acute,
        ),
        Mistake(
            "You compute the angle down the batch. Each row has its own: sum over the last dimension.",
            _over_the_batch,
        ),
        Mistake("You write the result into z0. The caller still needs it: return a new tensor.", _in_place),
        Mistake(
            "The values are right, but z0 and z1 are detached, and no gradient flows to them.",
            _angle_in_numbers,
        ),
    ),
)
