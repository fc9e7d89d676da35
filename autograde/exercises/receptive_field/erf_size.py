"""The exercise ``erf_size`` of the lesson receptive_field/03_effective."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from utils.reference import receptive_field as reference


def _disc(height: int, width: int, frac: float, *, scale: float = 1.0) -> Callable[[Draw], Inputs]:
    """A bump away from the middle, with a little noise."""

    def draw(source: Draw) -> Inputs:
        y = torch.arange(height, dtype=torch.float32)[:, None] - 0.4 * height
        x = torch.arange(width, dtype=torch.float32)[None, :] - 0.6 * width
        bump = torch.exp(-((y / 3.1) ** 2) - (x / 4.3) ** 2)
        return {"influence": scale * (bump + 0.01 * source.uniform(height, width)), "frac": frac}

    return draw


def _all_of_it(source: Draw) -> Inputs:
    """frac 1: every pixel that is not zero."""
    influence = source.uniform(5, 8, low=0.2, high=1.0)
    influence[:, 3:6] = 0.0
    return {"influence": influence, "frac": 1.0}


def _square(source: Draw) -> Inputs:
    influence = torch.full((9, 11), 0.05)
    influence[2:7, 4:9] = 2.0
    return {"influence": influence, "frac": 0.5}


def _four_peaks(source: Draw) -> Inputs:
    """Everything is above the threshold: four pixels of 1, all others one half."""
    influence = torch.full((5, 7), 0.5)
    influence[1:3, 2:4] = 1.0
    return {"influence": influence, "frac": 0.6}


def _nothing_above(source: Draw) -> Inputs:
    """frac 0: the largest value is not greater than itself."""
    return {"influence": source.uniform(4, 6, low=0.2, high=1.0), "frac": 0.0}


def _random(source: Draw) -> Inputs:
    return _disc(source.integer(15, 25), source.integer(15, 25), float(source.uniform(low=0.6, high=0.95)))(
        source
    )


def _above(influence: Tensor, threshold: Tensor | float) -> int:
    return int((influence > threshold).sum())


def _from_below(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, frac * influence.max()))


def _not_rooted(influence: Tensor, frac: float) -> float:
    return float(_above(influence, (1 - frac) * influence.max()))


def _absolute(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, 1 - frac))


def _of_the_sum(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, (1 - frac) * influence.sum()))


def _of_the_mean(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, (1 - frac) * influence.mean()))


def _of_the_middle(influence: Tensor, frac: float) -> float:
    rows, columns = influence.shape
    return math.sqrt(_above(influence, (1 - frac) * influence[rows // 2, columns // 2]))


def _share_of_the_mass(influence: Tensor, frac: float) -> float:
    values = influence.flatten().sort(descending=True).values
    needed = int((values.cumsum(0) < frac * values.sum()).sum()) + 1
    return math.sqrt(min(needed, len(values)))


def _radius(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, (1 - frac) * influence.max()) / math.pi)


def _diameter(influence: Tensor, frac: float) -> float:
    return 2 * math.sqrt(_above(influence, (1 - frac) * influence.max()) / math.pi)


def _share_of_the_map(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, (1 - frac) * influence.max()) / influence.numel())


def _box_side(influence: Tensor, frac: float) -> float:
    inside = influence > (1 - frac) * influence.max()
    rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
    return float(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)


def _zeros_too(influence: Tensor, frac: float) -> float:
    return math.sqrt(int((influence >= (1 - frac) * influence.max()).sum()))


def _below(influence: Tensor, frac: float) -> float:
    return math.sqrt(int((influence < (1 - frac) * influence.max()).sum()))


def _rounded(influence: Tensor, frac: float) -> int:
    return math.isqrt(_above(influence, (1 - frac) * influence.max()))


def _always_the_paper(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence, (1 - 0.9545) * influence.max()))


def _squares(influence: Tensor, frac: float) -> float:
    return math.sqrt(_above(influence**2, (1 - frac) * (influence**2).max()))


erf_size = Exercise(
    reference.erf_size,
    requirements=(
        Requirement(
            "the side of a square of the same area",
            (
                Case("a bump, 95.45 %", _disc(21, 25, 0.9545)),
                Case("a bump, 70 %, not of sum 1", _disc(18, 17, 0.7, scale=6.0)),
                Case("a small map, 95.45 %", _disc(13, 16, 0.9545, scale=0.01)),
                Case("a square of 5 by 5", _square),
                Case("four peaks, 60 %: the whole map", _four_peaks),
                Case("0 %: nothing is above the largest", _nothing_above, shown=False),
                Case("100 %: everything but zeros", _all_of_it),
                Case("drawn at random", _random, shown=False),
            ),
        ),
    ),
    mistakes=(
        Mistake(
            "You count the pixels above frac of the largest value. The threshold is 1 - frac of it.",
            _from_below,
        ),
        Mistake(
            "You return the number of pixels. The side of a square is the root of its area.", _not_rooted
        ),
        Mistake("Your threshold is 1 - frac. Multiply it by the largest value of the map.", _absolute),
        Mistake("Your threshold is a part of the sum. Take a part of the largest value.", _of_the_sum),
        Mistake("Your threshold is a part of the mean. Take a part of the largest value.", _of_the_mean),
        Mistake(
            "Your threshold is a part of the value in the middle of the map. Take a part of the largest value.",
            _of_the_middle,
        ),
        Mistake(
            "You collect the largest pixels until they hold frac of the sum. Asked are the pixels above (1 - frac) of the largest value.",
            _share_of_the_mass,
        ),
        Mistake(
            "You return the radius of a disc of that area. Asked is the side of a square: the root of the number of pixels.",
            _radius,
        ),
        Mistake(
            "You return the diameter of a disc of that area. Asked is the side of a square: the root of the number of pixels.",
            _diameter,
        ),
        Mistake(
            "You divide by the size of the map. Asked is the root of the number of pixels.", _share_of_the_map
        ),
        Mistake(
            "You return the side of the bounding box. Asked is the root of the number of pixels.", _box_side
        ),
        Mistake(
            "Pixels on the threshold do not count: with frac = 1 you count the zeros. Use >.", _zeros_too
        ),
        Mistake("You count the pixels below the threshold.", _below),
        Mistake(
            "You round to a whole number. The root of the number of pixels may have a fraction.", _rounded
        ),
        Mistake("You always use 95.45 %. Use `frac`.", _always_the_paper),
        Mistake("You square the map first. Compare its values as they are.", _squares),
    ),
)
