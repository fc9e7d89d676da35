"""The exercise ``rf_equal_layers`` of the lesson receptive_field/01_formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.receptive_field.counting import lines_run
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import receptive_field as reference

_WIDTH = "the width of n equal layers"
_NO_LOOP = "a formula, not a loop over the layers"
_ENOUGH = 60
_FEW, _STOP = 40, 20_000


class Counted(int):
    """A whole number whose powers and products run a line of Python, also where ``sum(map(pow, ...))`` takes them."""

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        return pow(int(self), other, modulus)

    def __mul__(self, other: Any) -> Any:
        return int(self) * other

    def __rmul__(self, other: Any) -> Any:
        return other * int(self)


def counted(implementation: Implementation, inputs: Inputs) -> dict[str, int]:
    """How many lines of Python more the answer runs than for a tenth of the layers, or what is enough where they are fewer.

    What an answer prints runs lines as well, and as many for few layers as for many: the difference leaves them out.
    """
    stride = Counted(inputs["s"])
    few = lines_run(lambda: implementation(*{**inputs, "n": _FEW, "s": stride}.values()), _STOP)
    many = lines_run(lambda: implementation(*{**inputs, "s": stride}.values()), _STOP)
    return {"more lines run": many if many > _STOP else max(many - few, _ENOUGH)}


def _stack(n: int, k: int, s: int, d: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"n": n, "k": k, "s": s, "d": d}


def _random(source: Draw) -> Inputs:
    return {
        "n": source.integer(5, 12),
        "k": source.integer(3, 9),
        "s": source.integer(2, 5),
        "d": source.integer(2, 4),
    }


def _terms(n: int, s: int) -> int:
    return n if s == 1 else int((s**n - 1) // (s - 1))


def _stride_ignored(n: int, k: int, s: int, d: int) -> int:
    return 1 + n * d * (k - 1)


def _one_too_many(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * _terms(n + 1, s)


def _one_too_few(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * _terms(max(n - 1, 0), s)


def _last_term_only(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * (n if s == 1 else s ** (n - 1))


def _power_of_stride(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * (n if s == 1 else s**n)


def _not_divided(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * (n if s == 1 else s**n - 1)


def _own_stride(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * s * _terms(n, s)


def _power_of_kernel(n: int, k: int, s: int, d: int) -> int:
    return int((d * (k - 1) + 1) ** n)


def _pixel_missing(n: int, k: int, s: int, d: int) -> int:
    return d * (k - 1) * _terms(n, s)


def _dilation_ignored(n: int, k: int, s: int, d: int) -> int:
    return 1 + (k - 1) * _terms(n, s)


def _dilation_multiplies(n: int, k: int, s: int, d: int) -> int:
    return 1 + (k * d - 1) * _terms(n, s)


def _whole_kernel(n: int, k: int, s: int, d: int) -> int:
    return 1 + (d * (k - 1) + 1) * _terms(n, s)


def _every_layer_stepped(n: int, k: int, s: int, d: int) -> int:
    return 1 + n * d * (k - 1) * s


def _true_division(n: int, k: int, s: int, d: int) -> float:
    return 1 + d * (k - 1) * (n if s == 1 else (s**n - 1) / (s - 1))


def _int_of_a_float(n: int, k: int, s: int, d: int) -> int:
    return 1 + d * (k - 1) * (n if s == 1 else int((s**n - 1) / (s - 1)))


def _divided_too_early(n: int, k: int, s: int, d: int) -> int:
    return 1 + n * d * (k - 1) if s == 1 else 1 + d * (k - 1) // (s - 1) * (s**n - 1)


def _no_special_case(n: int, k: int, s: int, d: int) -> int:
    return int(1 + d * (k - 1) * ((s**n - 1) // (s - 1)))


def _loop(n: int, k: int, s: int, d: int) -> int:
    m = 1
    for _ in range(n):
        m = (m - 1) * s + d * (k - 1) + 1
    return m


Observations = Mapping[tuple[str, str], Observation]


def _right_otherwise(observed: Observations) -> bool:
    """Whether the two shown cases with strides are right, of those that were looked at."""
    values = [
        (observed[(_WIDTH, case)].value, wanted)
        for case, wanted in (
            ("5 layers, kernel 3, stride 2", 63),
            ("4 layers, kernel 2, stride 3, dilation 2", 81),
        )
    ]
    return all(type(value) is int and value == wanted for value, wanted in values)


def _is_a_float(observed: Observations) -> bool:
    """With strides a float comes back where an int is asked for, and it is near the right number."""
    value = observed[(_WIDTH, "5 layers, kernel 3, stride 2")].value
    return type(value) is float and abs(value - 63) < 0.01


def _divides_by_zero(observed: Observations) -> bool:
    """Stride 1 stops with a division by zero, and the rest is right."""
    kinds = {entry.raised.kind for entry in observed.values() if entry.raised is not None}
    return kinds == {"ZeroDivisionError"} and _right_otherwise(observed)


def _runs_long(observed: Observations) -> bool:
    """The values are right, and the lines grow with n."""
    counts: list[Any] = [
        entry.value["more lines run"]
        for (requirement, _), entry in observed.items()
        if requirement == _NO_LOOP and type(entry.value) is dict
    ]
    return bool(counts) and all(count > _ENOUGH for count in counts) and _right_otherwise(observed)


rf_equal_layers = Exercise(
    reference.rf_equal_layers,
    requirements=(
        Requirement(
            _WIDTH,
            (
                Case("5 layers, kernel 3, stride 2", _stack(5, 3, 2, 1)),
                Case("4 layers, kernel 2, stride 3, dilation 2", _stack(4, 2, 3, 2)),
                Case("20 layers, stride 1", _stack(20, 3, 1, 1)),
                Case("6 layers, kernel 5, stride 1, dilation 3", _stack(6, 5, 1, 3)),
                Case("one layer", _stack(1, 7, 4, 2)),
                Case("3 layers, kernel 2, stride 3", _stack(3, 2, 3, 1)),
                Case("no layer", _stack(0, 3, 2, 1)),
                Case("no layer, stride 1", _stack(0, 3, 1, 2)),
                Case("one tap", _stack(9, 1, 2, 4)),
                Case("70 layers: every digit of a large number", _stack(70, 3, 3, 1)),
                Case("drawn at random", _random, shown=False),
            ),
            points=2,
        ),
        Requirement(
            _NO_LOOP,
            (
                Case("400 layers, stride 2", _stack(400, 3, 2, 1)),
                Case("400 layers, stride 1", _stack(400, 3, 1, 2)),
            ),
            counted,
            bounds={
                "more lines run": Bound(
                    most=lambda inputs: _ENOUGH,
                    unit="lines of Python more than for 40 layers",
                    why="Sum the geometric series on paper, and write the sum.",
                    naive=lambda inputs: 2 * (inputs["n"] - _FEW),
                )
            },
        ),
    ),
    mistakes=(
        Mistake("You left out the stride: the steps of layer l are s^(l - 1) pixels long.", _stride_ignored),
        Mistake("Your series has one term too many. Its powers are 0 to n - 1.", _one_too_many),
        Mistake("Your series has one term too few. Its powers are 0 to n - 1.", _one_too_few),
        Mistake("You take only the last term of the series. All n layers add theirs.", _last_term_only),
        Mistake(
            "You multiply by s^n. That is the jump; the sum of the powers 0 to n - 1 is (s^n - 1) / (s - 1).",
            _power_of_stride,
        ),
        Mistake(
            "You did not divide by s - 1: the sum of the powers 0 to n - 1 is (s^n - 1) / (s - 1).",
            _not_divided,
        ),
        Mistake(
            "Your powers are 1 to n: each layer steps with its own stride. The first layer steps over pixels: power 0.",
            _own_stride,
        ),
        Mistake(
            "You take a power of the kernel. Windows overlap, so widths do not multiply.", _power_of_kernel
        ),
        Mistake("You forgot the pixel to begin with: 1 + (K - 1) times the sum.", _pixel_missing),
        Mistake("You left out the dilation: K - 1 = d (k - 1).", _dilation_ignored),
        Mistake(
            "Your kernel spans k d positions. It is d (k - 1) + 1, so K - 1 = d (k - 1).",
            _dilation_multiplies,
        ),
        Mistake("You multiply the sum by K. Each layer adds K - 1 steps.", _whole_kernel),
        Mistake(
            "You multiply every layer's steps by s once. Strides multiply from layer to layer: powers of s.",
            _every_layer_stepped,
        ),
        Mistake(
            "You return a float, which has 16 digits: is there a / or a power with a fraction? The division leaves no rest: use //.",
            _true_division,
            recognise=_is_a_float,
        ),
        Mistake(
            "You divide with /, and make an int of the result. The float between has 16 digits, and the others are lost: use //.",
            _int_of_a_float,
        ),
        Mistake(
            "You divide d (k - 1) by s - 1, and that leaves a rest. (s^n - 1) / (s - 1) is whole: divide this one.",
            _divided_too_early,
        ),
        Mistake(
            "Stride 1 divides by zero. There all n terms of the series are 1, so their sum is n: treat it by itself.",
            _no_special_case,
            recognise=_divides_by_zero,
        ),
        Mistake(
            "You go through the layers one by one. Sum the geometric series on paper, and write the sum.",
            _loop,
            recognise=_runs_long,
        ),
    ),
)
