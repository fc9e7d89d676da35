"""The exercise ``erf_std`` of the lesson receptive_field/03_effective."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs, Observation
from utils.reference import receptive_field as reference


def _bump(height: int, width: int, *, size: float = 1.0) -> Callable[[Draw], Inputs]:
    """A lopsided bump away from the middle, wider along one axis, on a little noise."""

    def draw(source: Draw) -> Inputs:
        y = torch.arange(height, dtype=torch.float32)[:, None]
        x = torch.arange(width, dtype=torch.float32)[None, :]
        bump = torch.exp(
            -(((y - 0.7 * height) / (0.2 * height + 1)) ** 2) - ((x - 0.3 * width) / (0.1 * width + 1)) ** 2
        )
        return {"influence": size * (bump + 0.1 * source.uniform(height, width))}

    return draw


def _one_pixel(source: Draw) -> Inputs:
    influence = torch.zeros(6, 9)
    influence[4, 2] = 3.0
    return {"influence": influence}


def _two_pixels(source: Draw) -> Inputs:
    """Two pixels of unequal weight, 3 rows and 8 columns apart."""
    influence = torch.zeros(7, 12)
    influence[1, 2], influence[4, 10] = 1.0, 3.0
    return {"influence": influence}


_FAR = "a narrow peak far from the corner"


def _far_away(source: Draw) -> Inputs:
    """Four columns, 4000 pixels from the corner: the squares of positions are ten million times the variance."""
    influence = torch.zeros(3, 4100)
    influence[:, 4003:4007] = torch.tensor([1.0, 3.0, 2.0, 1.0]) * (1 + source.uniform())
    return {"influence": influence}


def _in_double(source: Draw) -> Inputs:
    return {"influence": _bump(8, 13)(source)["influence"].double()}


def _strided(source: Draw) -> Inputs:
    return {"influence": _bump(16, 20)(source)["influence"].T[::2]}


def _profile(influence: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    weight = influence.sum(1 - axis)
    return weight / weight.sum(), torch.arange(len(weight), dtype=weight.dtype, device=weight.device)


def _variance(influence: Tensor, axis: int) -> Tensor:
    weight, place = _profile(influence, axis)
    centre = (weight * place).sum()
    return (weight * (place - centre) ** 2).sum()


def _mean(influence: Tensor) -> Tensor:
    return (_variance(influence, 0) + _variance(influence, 1)) / 2


def _not_rooted(influence: Tensor) -> float:
    return float(_mean(influence))


def _distance(influence: Tensor) -> float:
    return float((2 * _mean(influence)) ** 0.5)


def _rows_only(influence: Tensor) -> float:
    return float(_variance(influence, 0) ** 0.5)


def _columns_only(influence: Tensor) -> float:
    return float(_variance(influence, 1) ** 0.5)


def _mean_of_stds(influence: Tensor) -> float:
    return float((_variance(influence, 0) ** 0.5 + _variance(influence, 1) ** 0.5) / 2)


def _product(influence: Tensor) -> float:
    return float((_variance(influence, 0) * _variance(influence, 1)) ** 0.25)


def _largest_axis(influence: Tensor) -> float:
    return float(torch.maximum(_variance(influence, 0), _variance(influence, 1)) ** 0.5)


def _about(influence: Tensor, centres: Callable[[Tensor, Tensor], Tensor]) -> float:
    total = 0.0
    for axis in (0, 1):
        weight, place = _profile(influence, axis)
        total += float((weight * (place - centres(weight, place)) ** 2).sum())
    return float((total / 2) ** 0.5)


def _about_the_middle(influence: Tensor) -> float:
    return _about(influence, lambda weight, place: (place[-1] + place[0]) / 2)


def _about_half_the_length(influence: Tensor) -> float:
    return _about(influence, lambda weight, place: torch.tensor(float(len(place) // 2)))


def _about_the_peak(influence: Tensor) -> float:
    return _about(influence, lambda weight, place: place[weight.argmax()])


def _about_zero(influence: Tensor) -> float:
    return _about(influence, lambda weight, place: place[0])


def _absolute(influence: Tensor) -> float:
    total = 0.0
    for axis in (0, 1):
        weight, place = _profile(influence, axis)
        total += float((weight * (place - (weight * place).sum()).abs()).sum())
    return total / 2


def _not_normalised(influence: Tensor) -> float:
    total = 0.0
    for axis in (0, 1):
        weight = influence.sum(1 - axis)
        place = torch.arange(len(weight), dtype=weight.dtype, device=weight.device)
        total += float((weight * (place - (weight * place).sum()) ** 2).sum())
    return float((total / 2) ** 0.5)


def _of_the_values(influence: Tensor) -> float:
    return float(influence.std())


def _profile_spread(influence: Tensor) -> float:
    return float(((influence.sum(1).var() + influence.sum(0).var()) / 2) ** 0.5)


def _squared_weights(influence: Tensor) -> float:
    return float(_mean(influence**2) ** 0.5)


def _central_row(influence: Tensor) -> float:
    rows, columns = influence.shape
    cross = torch.zeros_like(influence)
    cross[rows // 2] = influence[rows // 2]
    return float(_variance(cross, 1) ** 0.5)


def _mean_of_squares(influence: Tensor) -> float:
    variances = []
    for axis in (0, 1):
        weight, place = _profile(influence, axis)
        variances.append((weight * place**2).sum() - (weight * place).sum() ** 2)
    return float(((variances[0] + variances[1]) / 2) ** 0.5)


def _loses_digits(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Right for two pixels near the corner, and not for the narrow peak, whose variance is lost or even negative."""
    values = {key[1]: float(entry.value) for key, entry in observed.items()}
    near = abs(values["two pixels"] - math.sqrt((9 + 64) * 3 / 32)) < 1e-4
    return near and not abs(values[_FAR] - math.sqrt((2 / 3 + 40 / 49) / 2)) < 1e-3


erf_std = Exercise(
    reference.erf_std,
    requirements=(
        Requirement(
            "the standard deviation in pixels",
            (
                Case("a lopsided bump", _bump(9, 14)),
                Case("the same kind, not of sum 1", _bump(11, 8, size=7.5)),
                Case("two pixels", _two_pixels),
                Case("all on one pixel", _one_pixel),
                Case("one row", _bump(1, 12)),
                Case(_FAR, _far_away),
                Case("not contiguous", _strided),
                Case("in float64", _in_double),
                Case("a larger bump", _bump(40, 25), shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake("You return the variance. The standard deviation is its root.", _not_rooted),
        Mistake(
            "You add the variances of both axes. Take their mean, so that it compares with one axis.",
            _distance,
        ),
        Mistake("You look along the rows only. Take the mean of both axes' variances.", _rows_only),
        Mistake("You look along the columns only. Take the mean of both axes' variances.", _columns_only),
        Mistake(
            "You average the standard deviations. Average the variances, then take the root.", _mean_of_stds
        ),
        Mistake("You multiply the two axes. Take the mean of their variances.", _product),
        Mistake("You take the wider axis. Take the mean of both axes' variances.", _largest_axis),
        Mistake(
            "You measure from the middle of the map. Measure from the map's own mean position.",
            _about_the_middle,
        ),
        Mistake(
            "You measure from half the length. Measure from the map's own mean position.",
            _about_half_the_length,
        ),
        Mistake("You measure from the largest value. Measure from the mean position.", _about_the_peak),
        Mistake(
            "You subtract the square of the mean from the mean of the squares. Far from the corner both are large and nearly "
            "equal, and their digits cancel: subtract the mean position first, then square.",
            _mean_of_squares,
            recognise=_loses_digits,
        ),
        Mistake("You measure from pixel 0. Subtract the mean position first.", _about_zero),
        Mistake("You average absolute distances. The variance averages squares.", _absolute),
        Mistake("The map need not sum to 1. Divide by its sum first.", _not_normalised),
        Mistake(
            "That is how much the values vary. Asked is how far the positions spread, weighted by the values.",
            _of_the_values,
        ),
        Mistake(
            "That is how much the sums of rows and columns vary. Asked is how far the positions spread, weighted by these sums.",
            _profile_spread,
        ),
        Mistake("You square the map first. It is the weight as it is.", _squared_weights),
        Mistake("You look at the central row only. Sum over the other axis.", _central_row),
    ),
)
