"""The exercise ``unit_center`` of the lesson receptive_field/02_probe."""

from __future__ import annotations

from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.receptive_field.stacks import ALEXNET, DILATED, MIXED, STRIDED, Layer, random_stack
from autograde.observe import Inputs
from utils.reference import receptive_field as reference

Point = tuple[float, float]
Unit = tuple[int, int]


def _inputs(rows: list[Layer], columns: list[Layer], unit: Unit) -> Callable[[Draw], Inputs]:
    return lambda source: {"rows": list(rows), "columns": list(columns), "unit": unit}


def _random(source: Draw) -> Inputs:
    unit = (source.integer(3, 9), source.integer(10, 19))
    return {"rows": random_stack(source), "columns": random_stack(source), "unit": unit}


def _axis(
    layers: list[Layer],
    u: int,
    *,
    half: Callable[[int], float] = lambda rf: (rf - 1) / 2,
    padding: int = -1,
    stride: bool = True,
    dilation: bool = True,
    scaled: bool = True,
) -> float:
    """The middle along one axis, with switches for what goes wrong."""
    rf, jump, start = 1, 1, 0
    for k, s, p, d in layers:
        rf += (d if dilation else 1) * (k - 1) * jump
        start += padding * p * (jump if scaled else 1)
        jump *= s
    return start + u * (jump if stride else 1) + half(rf)


def _both(rows: list[Layer], columns: list[Layer], unit: Unit, **options: object) -> Point:
    return _axis(rows, unit[0], **options), _axis(columns, unit[1], **options)  # type: ignore[arg-type]


def _half_the_width(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, half=lambda rf: rf / 2)


def _rounded(rows: list[Layer], columns: list[Layer], unit: Unit) -> tuple[int, int]:
    y, x = _both(rows, columns, unit, half=lambda rf: (rf - 1) // 2)
    return int(y), int(x)


def _rounded_up(rows: list[Layer], columns: list[Layer], unit: Unit) -> tuple[int, int]:
    y, x = _both(rows, columns, unit, half=lambda rf: rf // 2)
    return int(y), int(x)


def _half_kernel_rounded(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    def axis(layers: list[Layer], u: int) -> float:
        place, jump = 0.0, 1
        for k, s, p, d in layers:
            place += (d * (k - 1) // 2 - p) * jump
            jump *= s
        return place + u * jump

    return axis(rows, unit[0]), axis(columns, unit[1])


def _first_pixel(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, half=lambda rf: 0)


def _last_pixel(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, half=lambda rf: rf - 1)


def _padding_ignored(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, padding=0)


def _padding_to_the_right(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, padding=1)


def _padding_in_units(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, scaled=False)


def _jump_ignored(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, stride=False)


def _jump_alone(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    def axis(layers: list[Layer], u: int) -> float:
        jump = 1
        for _, s, _, _ in layers:
            jump *= s
        return float(u * jump)

    return axis(rows, unit[0]), axis(columns, unit[1])


def _middle_of_the_cell(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    def axis(layers: list[Layer], u: int) -> float:
        jump = 1
        for _, s, _, _ in layers:
            jump *= s
        return (u + 0.5) * jump

    return axis(rows, unit[0]), axis(columns, unit[1])


def _dilation_ignored(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _both(rows, columns, unit, dilation=False)


def _rows_for_both(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _axis(rows, unit[0]), _axis(rows, unit[1])


def _unit_swapped(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _axis(rows, unit[1]), _axis(columns, unit[0])


def _x_first(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _axis(columns, unit[1]), _axis(rows, unit[0])


def _unit_zero(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    return _axis(rows, 0), _axis(columns, 0)


def _cut_off(rows: list[Layer], columns: list[Layer], unit: Unit) -> Point:
    def axis(layers: list[Layer], u: int) -> float:
        rf, jump, start = reference.rf_bottom_up(layers)
        first, last = start + u * jump, start + u * jump + rf - 1
        return (max(first, 0) + last) / 2

    return axis(rows, unit[0]), axis(columns, unit[1])


unit_center = Exercise(
    reference.unit_center,
    requirements=(
        Requirement(
            "the middle of the receptive field",
            (
                Case("the same layers along both axes", _inputs(ALEXNET, ALEXNET, (2, 5))),
                Case("other layers along the columns", _inputs(STRIDED, MIXED, (4, 1))),
                Case(
                    "an even receptive field: a half pixel", _inputs([(2, 2, 0, 1)], [(4, 1, 1, 1)], (3, 2))
                ),
                Case("unit (0, 0), which reads padding", _inputs(MIXED, DILATED, (0, 0))),
                Case("no layers", _inputs([], [], (3, 8))),
                Case("drawn at random", _random, shown=False),
            ),
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "You add half the width, rf / 2. From the first pixel to the middle it is half the way to the last one: (rf - 1) / 2.",
            _half_the_width,
        ),
        Mistake(
            "You round the middle down. An even number of pixels has its middle between two of them: return a half.",
            _rounded,
        ),
        Mistake(
            "You add rf // 2. From the first pixel to the middle it is (rf - 1) / 2, which may be a half.",
            _rounded_up,
        ),
        Mistake(
            "You round half a kernel down. An even kernel has its middle between two positions: d (k - 1) / 2.",
            _half_kernel_rounded,
        ),
        Mistake("You return the first pixel. The middle is (rf - 1) / 2 further.", _first_pixel),
        Mistake("You return the last pixel. The middle is half the way to it.", _last_pixel),
        Mistake(
            "You left out the padding, which moves the start to the left: use the start of rf_bottom_up.",
            _padding_ignored,
        ),
        Mistake(
            "Your padding moves the unit to the right. Padding in front moves the start to the left.",
            _padding_to_the_right,
        ),
        Mistake(
            "You subtract p pixels for each layer. Padding is counted in units of the layer below: p times the jump.",
            _padding_in_units,
        ),
        Mistake("Your units are one pixel apart. They are a jump apart.", _jump_ignored),
        Mistake(
            "You return the unit times the jump. That is the middle only where every padding is exactly half of K - 1.",
            _jump_alone,
        ),
        Mistake(
            "You return the middle of the unit's cell in a grid of jumps. Where unit 0 lies depends on kernels and padding.",
            _middle_of_the_cell,
        ),
        Mistake("You left out the dilation: K - 1 = d (k - 1).", _dilation_ignored),
        Mistake("You use the layers of the rows along both axes.", _rows_for_both),
        Mistake("You mixed up the unit's row and column.", _unit_swapped),
        Mistake("You return x before y. The order is row, then column.", _x_first),
        Mistake("You return the middle of unit (0, 0). Add the unit times the jump.", _unit_zero),
        Mistake(
            "You cut the receptive field off at pixel 0 before you take its middle. The padding counts here.",
            _cut_off,
        ),
    ),
    returns=("y", "x"),
)
