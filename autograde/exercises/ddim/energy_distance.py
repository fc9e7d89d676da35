"""The exercise ``energy_distance`` of the lesson ddim/04_quality_inversion.

At most 25 points in a set: beyond, ``torch.cdist`` multiplies matrices, which loses digits of small distances, and a right answer
would be at its mercy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.nests import map_floats
from autograde.observe import Inputs
from utils.reference import ddim as reference


def _sets(N: int, M: int, dim: int, shift: float = 1.0) -> Callable[[Draw], Inputs]:
    return lambda source: {"a": source.normal(N, dim), "b": shift + 1.5 * source.normal(M, dim)}


def _same_points(source: Draw) -> Inputs:
    """The same points in another order: the unbiased estimate is below zero."""
    a = source.normal(7, 3)
    return {"a": a, "b": a.flip(0).clone()}


def _repeated(source: Draw) -> Inputs:
    """Points that occur twice: their distance is 0, and they are still a pair."""
    a = source.normal(4, 2)
    return {"a": torch.cat([a, a]), "b": 1 + source.normal(5, 2)}


def _strided(source: Draw) -> Inputs:
    return {"a": source.normal(3, 9).t(), "b": 1 + source.normal(14, 3)[::2]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_sets(6, 9, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _far_out(source: Draw) -> Inputs:
    """Far from the origin the squares are large, and so is what is lost where they cancel."""
    return {"a": 100 + source.normal(12, 32), "b": 101.5 + source.normal(14, 32)}


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square().sum(-1).sqrt()


def _estimate(
    a: Tensor,
    b: Tensor,
    *,
    between: float = 2.0,
    diagonal: str = "left out",
    measure: Callable[[Tensor, Tensor], Tensor] = _distances,
    within: tuple[float, float] = (1.0, 1.0),
) -> float:
    def inside(x: Tensor) -> Tensor:
        n = len(x)
        pairs = {
            "left out": n * (n - 1),
            "counted": n * n,
            "half": n * (n - 1) // 2,
            "one less": (n - 1) ** 2,
        }
        return measure(x, x).sum() / pairs[diagonal]

    return float(between * measure(a, b).mean() - within[0] * inside(a) - within[1] * inside(b))


def _no_two(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, between=1.0)


def _biased(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, diagonal="counted")


def _pairs_once(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, diagonal="half")


def _one_less_twice(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, diagonal="one less")


def _squared(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, measure=lambda x, y: (x[:, None] - y[None]).square().sum(-1))


def _mean_square(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, measure=lambda x, y: (x[:, None] - y[None]).square().mean(-1).sqrt())


def _city_block(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, measure=lambda x, y: (x[:, None] - y[None]).abs().sum(-1))


def _largest_coordinate(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, measure=lambda x, y: (x[:, None] - y[None]).abs().amax(-1))


def _between_only(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, within=(0.0, 0.0))


def _first_only(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, within=(1.0, 0.0))


def _halved_within(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, within=(0.5, 0.5))


def _added(a: Tensor, b: Tensor) -> float:
    return _estimate(a, b, within=(-1.0, -1.0))


def _rooted(a: Tensor, b: Tensor) -> float:
    return math.sqrt(max(_estimate(a, b), 0.0))


def _never_negative(a: Tensor, b: Tensor) -> float:
    return max(_estimate(a, b), 0.0)


def _absolute(a: Tensor, b: Tensor) -> float:
    return abs(_estimate(a, b))


def _turned(a: Tensor, b: Tensor) -> float:
    return -_estimate(a, b)


def _row_by_row(a: Tensor, b: Tensor) -> float:
    """Point k of one set with point k of the other."""
    n = min(len(a), len(b))
    between = (a[:n] - b[:n]).square().sum(-1).sqrt().mean()
    return float(2 * between) + _estimate(a, b, between=0.0)


def _of_means(a: Tensor, b: Tensor) -> float:
    return float((a.mean(0) - b.mean(0)).norm())


def _zeros_dropped(a: Tensor, b: Tensor) -> float:
    within = [
        d[d > 0].mean() if bool((d > 0).any()) else 0 * d.sum() for d in (_distances(a, a), _distances(b, b))
    ]
    return float(2 * _distances(a, b).mean() - within[0] - within[1])


def _sizes_exchanged(a: Tensor, b: Tensor) -> float:
    n, m = len(a), len(b)
    within = _distances(a, a).sum() / (m * (m - 1)) + _distances(b, b).sum() / (n * (n - 1))
    return float(2 * _distances(a, b).mean() - within)


def _cut_to_equal_size(a: Tensor, b: Tensor) -> float:
    n = min(len(a), len(b))
    return _estimate(a[:n], b[:n])


def _halved(a: Tensor, b: Tensor) -> float:
    return 0.5 * _estimate(a, b)


def _number_by_number(a: Tensor, b: Tensor) -> float:
    return _estimate(a.reshape(-1, 1), b.reshape(-1, 1))


def _one_set_biased(a: Tensor, b: Tensor) -> float:
    within = _distances(a, a).mean() + _distances(b, b).sum() / (len(b) * (len(b) - 1))
    return float(2 * _distances(a, b).mean() - within)


def _summed(a: Tensor, b: Tensor) -> float:
    return float(2 * _distances(a, b).sum() - _distances(a, a).sum() - _distances(b, b).sum())


def _columns(a: Tensor, b: Tensor) -> float:
    """Distances between columns, where the sets have as many points."""
    return _estimate(a.t(), b.t()) if len(a) == len(b) else _estimate(a, b)


def _squares_expanded(a: Tensor, b: Tensor) -> float:
    def measure(x: Tensor, y: Tensor) -> Tensor:
        square = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.t()
        return square.clamp(min=0).sqrt()

    return _estimate(a, b, measure=measure)


_DIFFERENCE = Tolerance(
    4.0,
    "Three means nearly cancel; summed in another order in float32 they were up to 15 units away, half a tolerance.",
)

energy_distance = Exercise(
    reference.energy_distance,
    requirements=(
        Requirement(
            "the unbiased estimate",
            (
                Case("9 and 14 points of 3 numbers", _sets(9, 14, 3)),
                Case("as many points in both sets as numbers", _sets(5, 5, 5)),
                Case("two points in each set", _sets(2, 2, 4)),
                Case("points on a line", _sets(12, 7, 1)),
                Case("points in float64", _in_double),
                Case("sets that are not contiguous", _strided),
                Case("points far from the origin", _far_out),
                Case("25 and 20 points of 8 numbers", _sets(25, 20, 8, 0.3), shown=False),
            ),
            points=2,
            tolerance=_DIFFERENCE,
        ),
        Requirement(
            "equal sets, and equal points",
            (
                Case("the same points in another order", _same_points),
                Case("points that occur twice", _repeated),
            ),
            tolerance=_DIFFERENCE,
        ),
    ),
    mistakes=(
        Mistake("The mean distance between the sets counts twice: 2 E|a - b|.", _no_two),
        Mistake(
            "Within a set you count each point's distance to itself, which is 0: the mean is too small. Divide by N (N - 1).",
            _biased,
        ),
        Mistake(
            "You divide by the number of unordered pairs, and add up all ordered ones. Divide by N (N - 1).",
            _pairs_once,
        ),
        Mistake(
            "You divide by (N - 1)^2. There are N (N - 1) ordered pairs of different points.", _one_less_twice
        ),
        Mistake(
            "You average squared distances. Then only the means of the two sets count, and their shapes do not: take the root.",
            _squared,
        ),
        Mistake(
            "Your distance averages over the coordinates. Add their squares, then take the root.",
            _mean_square,
        ),
        Mistake(
            "You add the sizes of the coordinates. The distance is the root of the sum of squares.",
            _city_block,
        ),
        Mistake(
            "You take the largest coordinate for the distance. It is the root of the sum of squares.",
            _largest_coordinate,
        ),
        Mistake(
            "You left out the distances within the sets. Without them the distance of a set to itself is not 0.",
            _between_only,
        ),
        Mistake("You left out the distances within the second set.", _first_only),
        Mistake("The distances within the sets count fully, not by half.", _halved_within),
        Mistake("You add the distances within the sets. They are taken away.", _added),
        Mistake("You took the root at the end. Here the distance is returned without a root.", _rooted),
        Mistake(
            "You cut negative values off at 0. An unbiased estimate has to be negative now and then: leave it.",
            _never_negative,
        ),
        Mistake(
            "You return the absolute value. An unbiased estimate may be negative: leave its sign.", _absolute
        ),
        Mistake(
            "Your sign is turned: sets that are far apart have to give a large positive number.", _turned
        ),
        Mistake("You pair point k of one set with point k of the other. Take all pairs.", _row_by_row),
        Mistake("You compare the means of the two sets. Take distances between points.", _of_means),
        Mistake(
            "You leave out all distances that are 0. Equal points at different positions are a pair: leave out the diagonal only.",
            _zeros_dropped,
        ),
        Mistake(
            "You exchanged N and M within the sets: each set divides by its own number of pairs.",
            _sizes_exchanged,
        ),
        Mistake(
            "You cut both sets to the same size. Use all points: the sets may have different sizes.",
            _cut_to_equal_size,
        ),
        Mistake("Your result is half of the energy distance. Leave the factor out.", _halved),
        Mistake(
            "You take distances between single numbers. Each row is one point: add squares over its numbers.",
            _number_by_number,
        ),
        Mistake(
            "In the first set you count each point's distance to itself. Divide by N (N - 1).",
            _one_set_biased,
        ),
        Mistake(
            "You add up distances. Take the mean over pairs: divide each sum by its number of pairs.", _summed
        ),
        Mistake("You take distances between columns. The points are the rows.", _columns),
        Mistake(
            "You expand |a - b|^2 into two squares and a product. Their digits cancel, and a point's distance to itself is not 0: "
            "subtract first, or call torch.cdist.",
            _squares_expanded,
        ),
    ),
)
