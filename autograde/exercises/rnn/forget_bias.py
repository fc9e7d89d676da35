"""The exercise ``forget_bias`` of the lesson rnn/03_gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Implementation, Inputs, Observation
from autograde.values import leaves
from utils.reference import rnn as reference


def bias_table(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The bias for each pair (steps, keep) of ``pairs``, labelled."""
    return {
        f"forget_bias({steps}, {keep:.4g})": implementation(steps, keep) for steps, keep in inputs["pairs"]
    }


def _pairs(*steps: int, keep: tuple[float, float]) -> Callable[[Draw], Inputs]:
    """For each number of steps one share to keep, drawn between two bounds."""

    def draw(source: Draw) -> Inputs:
        return {"pairs": [(n, float(source.uniform(low=keep[0], high=keep[1]))) for n in steps]}

    return draw


def _halves(source: Draw) -> Inputs:
    return {"pairs": [(n, 0.5) for n in (2, 3, 5, 10, 60, source.integer(100, 900))]}


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _gate_itself(steps: int, keep: float) -> float:
    return float(keep ** (1 / steps))


def _steps_ignored(steps: int, keep: float) -> float:
    return _logit(keep)


def _bias_divided(steps: int, keep: float) -> float:
    return _logit(keep) / steps


def _sign_turned(steps: int, keep: float) -> float:
    return -reference.forget_bias(steps, keep)


def _share_lost(steps: int, keep: float) -> float:
    return reference.forget_bias(steps, 1 - keep)


def _small_loss(steps: int, keep: float) -> float:
    return -math.log(-math.log(keep) / steps)


def _time_constant(steps: int, keep: float) -> float:
    return math.log(steps - 1) if steps > 1 else 0.0


def _time_constant_unguarded(steps: int, keep: float) -> float:
    return math.log(steps - 1)


def _keep_ignored(steps: int, keep: float) -> float:
    return reference.forget_bias(steps, 0.5)


def _logarithm_of_gate(steps: int, keep: float) -> float:
    return math.log(keep) / steps


def _half_life_exponent(steps: int, keep: float) -> float:
    return -math.log(math.expm1(-math.log2(keep) / steps))


def _loss_spread_evenly(steps: int, keep: float) -> float:
    return -math.log((1 - keep) / steps / (1 - (1 - keep) / steps))


def _one_step_more(steps: int, keep: float) -> float:
    return reference.forget_bias(steps + 1, keep)


def _one_step_less(steps: int, keep: float) -> float:
    return reference.forget_bias(max(steps - 1, 1), keep)


def _inverse_of_tanh(steps: int, keep: float) -> float:
    return math.atanh(keep ** (1 / steps))


def _decimal_logarithm(steps: int, keep: float) -> float:
    return reference.forget_bias(steps, keep) / math.log(10)


def _power_turned(steps: int, keep: float) -> float:
    return _logit(keep**steps)


def _product_for_power(steps: int, keep: float) -> float:
    return _logit(keep / steps) if steps > 1 else _logit(keep)


def _logarithm_of_rest(steps: int, keep: float) -> float:
    return -math.log(1 - keep ** (1 / steps))


def _odds(steps: int, keep: float) -> float:
    return math.exp(reference.forget_bias(steps, keep))


def _binary_logarithm(steps: int, keep: float) -> float:
    return reference.forget_bias(steps, keep) / math.log(2)


def _half_of_it(steps: int, keep: float) -> float:
    return reference.forget_bias(steps, keep) / 2


def _one_added(steps: int, keep: float) -> float:
    return -math.log(keep ** (-1 / steps) + 1)


def _never_negative(steps: int, keep: float) -> float:
    return max(0.0, reference.forget_bias(steps, keep))


def _gate_clamped(steps: int, keep: float) -> float:
    return _logit(min(max(keep ** (1 / steps), 1e-6), 1 - 1e-6))


def _without_sign(steps: int, keep: float) -> float:
    return abs(reference.forget_bias(steps, keep))


def _near_for_one_half(steps: int, keep: float) -> float:
    return math.log(steps / math.log(2))


def _square_root(steps: int, keep: float) -> float:
    return _logit(math.sqrt(keep))


def _whole_division(steps: int, keep: float) -> float:
    return _logit(keep ** (1 // steps))


def _rounded(steps: int, keep: float) -> float:
    return round(reference.forget_bias(steps, keep), 3)


def _one_over_e(steps: int, keep: float) -> float:
    return _logit(math.exp(-1 / steps))


def _sigmoid_for_its_inverse(steps: int, keep: float) -> float:
    return float(1 / (1 + math.exp(-(keep ** (1 / steps)))))


def _sum_of_logarithms(steps: int, keep: float) -> float:
    f = keep ** (1 / steps)
    return math.log(f) + math.log(1 - f)


def _quotient_of_logarithms(steps: int, keep: float) -> float:
    f = keep ** (1 / steps)
    return math.log(f) / math.log(1 - f)


def _logarithm_of_rest_as_it_is(steps: int, keep: float) -> float:
    return math.log(1 - keep ** (1 / steps))


def _root_of_the_loss(steps: int, keep: float) -> float:
    return _logit(1 - (1 - keep) ** (1 / steps))


def _times_steps(steps: int, keep: float) -> float:
    return _logit(keep) * steps


def _root_turned(steps: int, keep: float) -> float:
    return -math.log(keep ** (1 / steps) - 1)


def _always_outside_the_logarithm(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """Every case ends with the error that math.log has for a number that is not positive."""
    said = {one.raised.message if one.raised else "" for one in seen.values()}
    return all("math domain error" in text or "expected a positive input" in text for text in said)


def _raises_but_for_one_step(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """A gate of exactly 1 for every number of steps but one."""
    kinds = {key[1]: one.raised.kind if one.raised else "" for key, one in seen.items()}
    one_step = kinds.pop("a single step")
    kinds.pop("a single step that keeps next to nothing")
    return not one_step and set(kinds.values()) == {"ZeroDivisionError"}


def _has_four_decimals(seen: Mapping[tuple[str, str], Observation]) -> bool:
    """All numbers have at most four decimals, and they are not a few constants or whole numbers."""
    found = {v for one in seen.values() for _, v in leaves(one.value)}
    simple = {float(round(v)) for v in found}
    return all(v == round(v, 4) for v in found) and len(found) >= 15 and len(simple) < len(found) / 2


forget_bias = Exercise(
    reference.forget_bias,
    requirements=(
        Requirement(
            "keeps half",
            (Case("half of it, over 2 to 900 steps", _halves),),
            bias_table,
            tolerance=Tolerance(
                256, "in float32, 1 - sigmoid(b) has few digits left; that is right enough here"
            ),
        ),
        Requirement(
            "keeps any share",
            (
                Case("a few steps, shares of all sizes", _pairs(1, 2, 3, 5, 8, keep=(0.15, 0.85))),
                Case("a single step", _pairs(1, 1, 1, keep=(0.1, 0.9))),
                Case("a single step that keeps next to nothing", _pairs(1, keep=(1e-8, 4e-7))),
                Case("nearly everything", _pairs(2, 5, 20, 100, keep=(0.9, 0.99))),
                Case("nearly nothing", _pairs(1, 3, 20, 200, keep=(0.01, 0.1))),
                Case("hundreds of steps", _pairs(100, 365, 1000, keep=(0.2, 0.8))),
                Case("a thousand steps, most of it kept", _pairs(1000, keep=(0.85, 0.88))),
                Case("other steps and shares", _pairs(4, 13, 77, 640, keep=(0.05, 0.95)), shown=False),
            ),
            bias_table,
            tolerance=Tolerance(
                256, "in float32, 1 - sigmoid(b) has few digits left; that is right enough here"
            ),
        ),
        Requirement(
            "is exact, not only near",
            (
                Case("few steps, a large share, to more digits", _pairs(1, 1, 2, 3, 5, keep=(0.65, 0.85))),
                Case("few steps, a small share, to more digits", _pairs(1, 1, 2, 2, keep=(0.04, 0.12))),
            ),
            bias_table,
            tolerance=Tolerance(4, "float32 is right enough; for few steps it has more digits"),
        ),
    ),
    mistakes=(
        Mistake(
            "You return the gate f. Asked is the bias: the number whose sigmoid is f, that is the logit ln(f / (1 - f)).",
            _gate_itself,
        ),
        Mistake(
            "Your bias leaves the share after a single step. Over all the steps the share is the product of the gates.",
            _steps_ignored,
        ),
        Mistake(
            "You divide the bias by the number of steps. It is the gate that enters as a power: first take the root of keep, then "
            "the logit.",
            _bias_divided,
        ),
        Mistake("The sign is turned round: an open gate, near 1, has a positive bias.", _sign_turned),
        Mistake(
            "You keep 1 - keep: the share that should be lost is kept. Insert keep itself.",
            _share_lost,
        ),
        Mistake(
            "You used exp(a) - 1 = a, or 1 - f = -ln f. This is near for many steps only; the exact formula is as short.",
            _small_loss,
        ),
        Mistake(
            "You return ln(steps - 1). That gate is 1 - 1/steps, which leaves about 1/e. Solve for the share that is asked for.",
            _time_constant,
        ),
        Mistake(
            "You return ln(steps - 1), which does not exist for one step and leaves about 1/e for many. Solve for the share that is "
            "asked for.",
            _time_constant_unguarded,
        ),
        Mistake("You always keep one half. The share is the argument keep.", _keep_ignored),
        Mistake(
            "You return ln f. The inverse of the sigmoid is the logit, ln f - ln(1 - f): the second part is missing.",
            _logarithm_of_gate,
        ),
        Mistake(
            "You mix powers of 2 with powers of e: take the same logarithm and the same exponential.",
            _half_life_exponent,
        ),
        Mistake(
            "You lose the same amount at every step. A gate takes a share of what is left, so the shares multiply: f is a root of "
            "keep.",
            _loss_spread_evenly,
        ),
        Mistake("You count one step too many. The gate is applied exactly steps times.", _one_step_more),
        Mistake("You count one step too few. The gate is applied exactly steps times.", _one_step_less),
        Mistake(
            "You inverted tanh. The gate is a sigmoid; its inverse is ln(f / (1 - f)), twice atanh(2f - 1).",
            _inverse_of_tanh,
        ),
        Mistake(
            "You took the logarithm to base 10. The sigmoid has the base e: math.log.", _decimal_logarithm
        ),
        Mistake(
            "You take keep to the power of steps. The gate to this power is keep, so the gate is the root, keep ** (1 / steps).",
            _power_turned,
        ),
        Mistake(
            "You divide keep by the number of steps. The gate is the root, keep ** (1 / steps), since the shares multiply.",
            _product_for_power,
        ),
        Mistake(
            "You return -ln(1 - f). The inverse of the sigmoid is ln f - ln(1 - f): the first part is missing.",
            _logarithm_of_rest,
        ),
        Mistake("You return f / (1 - f). The bias is the logarithm of that.", _odds),
        Mistake("You took the logarithm to base 2. The sigmoid has the base e: math.log.", _binary_logarithm),
        Mistake(
            "You return half of the bias. Asked is the whole sum of which the gate is the sigmoid: ln(f / (1 - f)), which is twice "
            "atanh(2f - 1).",
            _half_of_it,
        ),
        Mistake("You add 1 to 1/f. From 1/f = 1 + exp(-b) follows exp(-b) = 1/f - 1.", _one_added),
        Mistake(
            "You do not let the bias fall below 0. Where the gate has to be below one half, its bias is negative.",
            _never_negative,
        ),
        Mistake(
            "You keep the gate away from 0 and 1 by a small number, as torch.logit does with an eps. Then no bias is below about -13.8, "
            "and one may have to be: do not clamp.",
            _gate_clamped,
        ),
        Mistake(
            "Your bias has lost its sign. Where the gate has to be below one half, its bias is negative.",
            _without_sign,
        ),
        Mistake(
            "You return ln(steps / ln 2). This is near for keep = 1/2 and many steps only; the share is the argument keep, and the "
            "exact formula is as short.",
            _near_for_one_half,
        ),
        Mistake("You take the square root, which is for two steps. Take keep ** (1 / steps).", _square_root),
        Mistake(
            "Your gate is exactly 1 for two and more steps, and 1 - f is 0. Is 1 // steps in your formula? It is a division of whole "
            "numbers: write 1 / steps.",
            _whole_division,
            _raises_but_for_one_step,
        ),
        Mistake(
            "Your gate is exp(-1/steps), which leaves 1/e. Solve for the share that is asked for: keep ** (1 / steps).",
            _one_over_e,
        ),
        Mistake(
            "You apply the sigmoid to f. Asked is the number whose sigmoid is f: the inverse, ln(f / (1 - f)).",
            _sigmoid_for_its_inverse,
        ),
        Mistake(
            "You add ln f and ln(1 - f). The logarithm of the quotient f / (1 - f) is their difference.",
            _sum_of_logarithms,
        ),
        Mistake(
            "You divide ln f by ln(1 - f). The logarithm of the quotient f / (1 - f) is their difference.",
            _quotient_of_logarithms,
        ),
        Mistake(
            "You return ln(1 - f). The inverse of the sigmoid is ln f - ln(1 - f).",
            _logarithm_of_rest_as_it_is,
        ),
        Mistake(
            "You take the root of 1 - keep, and 1 minus that as the gate. What is left after all steps is keep, so the root of "
            "keep is the gate.",
            _root_of_the_loss,
        ),
        Mistake(
            "You multiply the bias by the number of steps. It is the gate that enters as a power: first take the root of keep, "
            "then the logit.",
            _times_steps,
        ),
        Mistake(
            "You take the logarithm of a number that is not positive. From f = 1 / (1 + exp(-b)) follows exp(-b) = 1/f - 1, and "
            "1/f is keep ** (-1 / steps).",
            _root_turned,
            _always_outside_the_logarithm,
        ),
        Mistake(
            "You round the result to four decimals or fewer. Return all digits.", _rounded, _has_four_decimals
        ),
    ),
)
