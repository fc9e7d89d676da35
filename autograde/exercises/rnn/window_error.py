"""The exercise ``window_error`` of the lesson rnn/01_vanilla_rnn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs
from utils.reference import rnn as reference


def error_table(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The error for each pair (w, t) of ``pairs``, labelled."""
    return {f"window_error({w}, {t})": implementation(w, t) for w, t in inputs["pairs"]}


def _pairs(*windows: int, offset: tuple[int, int]) -> Callable[[Draw], Inputs]:
    """For each window one position t = w + offset, the offset drawn between two bounds."""

    def draw(source: Draw) -> Inputs:
        return {"pairs": [(w, w + source.integer(*offset)) for w in windows]}

    return draw


def _covering(source: Draw) -> Inputs:
    """Positions that lie inside the window, the first and the last of them always."""
    between = [(w, source.integer(0, w - 1)) for w in (2, 5, 9)]
    return {"pairs": [(1, 0), (4, 0), (4, 3), (7, 6), *between]}


def _everything_unknown_is_wrong(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) if t >= w else 0.0


def _position_itself_propagates(w: int, t: int) -> float:
    return 2.0**-w * (1 - 2.0 ** -(t - w + 1)) / 2 if t >= w else 0.0


def _stationary_everywhere(w: int, t: int) -> float:
    return 2.0**-w


def _stationary_carry(w: int, t: int) -> float:
    return 2.0**-w if t >= w else 0.0


def _carry_into_t(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0**-t) / 2 if t >= w else 0.0


def _carry_one_too_low(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0 ** -(t - w)) / 2 if t >= w else 0.0


def _negative_inside(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0 ** -(t - w + 1)) / 2


def _accuracy(w: int, t: int) -> float:
    return 1 - reference.window_error(w, t)


def _one_position_decides(w: int, t: int) -> float:
    return (1 - 2.0 ** -(w - 1)) * (1 - 2.0 ** -(t - w + 1)) / 2 if t >= w else 0.0


def _window_always_passes(w: int, t: int) -> float:
    return (1 - 2.0 ** -(t - w + 1)) / 2 if t >= w else 0.0


def _guesses_a_carry(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 + 2.0 ** -(t - w + 1)) / 2 if t >= w else 0.0


def _carry_one_too_high(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) * (1 - 2.0 ** -(t - w + 2)) / 2 if t >= w else 0.0


def _first_hidden_bit_missed(w: int, t: int) -> float:
    return reference.window_error(w, t) if t > w else 0.0


def _carry_only_made(w: int, t: int) -> float:
    return 2.0 ** -(w - 1) / 4 if t >= w else 0.0


window_error = Exercise(
    reference.window_error,
    requirements=(
        Requirement(
            "far from the first bit",
            (
                Case("positions far from bit 0", _pairs(1, 2, 3, 5, 8, offset=(26, 60))),
                Case("position 100 and beyond", _pairs(1, 4, 12, offset=(90, 300))),
                Case("wide windows, far from bit 0", _pairs(10, 12, 17, offset=(26, 40)), shown=False),
            ),
            error_table,
        ),
        Requirement(
            "close to the first bit, where a carry is rarer",
            (
                Case("the window misses only a few bits", _pairs(1, 2, 4, 7, offset=(0, 3))),
                Case("8 to 20 bits out of sight", _pairs(1, 2, 4, 7, offset=(7, 19))),
                Case("the window misses exactly one bit", _pairs(1, 3, 6, 11, offset=(0, 0))),
                Case("the window misses two to five bits", _pairs(2, 3, 9, offset=(1, 4)), shown=False),
            ),
            error_table,
        ),
        Requirement(
            "no error where the window sees everything",
            (Case("t inside the first window", _covering),),
            error_table,
        ),
    ),
    mistakes=(
        Mistake(
            "You count every unknown carry as an error. A guess is right some of the time: multiply by the probability "
            "that the unknown carry is 1, because the best guess is 0.",
            _everything_unknown_is_wrong,
        ),
        Mistake(
            "You count w propagating positions. Position t is where the carry arrives; only the w - 1 positions before "
            "it in the window have to pass it on.",
            _position_itself_propagates,
        ),
        Mistake(
            "You return 2^-w everywhere. That is the limit for large t. Near the first bit a carry is rarer, and where "
            "the window sees everything there is no error at all.",
            _stationary_everywhere,
        ),
        Mistake(
            "You take 1/2 for the probability of a carry. It reaches 1/2 only in the limit: the carry into position n "
            "is 1 with probability (1 - 2^-n) / 2.",
            _stationary_carry,
        ),
        Mistake(
            "You take the probability of the carry into position t. What is unknown is the carry into the first "
            "position that the window sees, t - w + 1.",
            _carry_into_t,
        ),
        Mistake(
            "You take the carry into position t - w. The first position in the window is t - w + 1: count them.",
            _carry_one_too_low,
        ),
        Mistake(
            "Your probability is negative where the window reaches beyond the first bit. There nothing is unknown: "
            "return 0.",
            _negative_inside,
        ),
        Mistake(
            "You left out the window: the unknown carry matters only if all w - 1 earlier pairs in it propagate, which has "
            "probability 2^-(w - 1).",
            _window_always_passes,
        ),
        Mistake(
            "You let the model guess a carry. No carry is more likely, so that is the better guess: it is wrong with the "
            "probability of a carry.",
            _guesses_a_carry,
        ),
        Mistake(
            "You return the probability of being right. Asked is the probability of being wrong.", _accuracy
        ),
        Mistake(
            "You use the probability that at least one position decides the carry. The error happens when none does: "
            "when all w - 1 positions propagate.",
            _one_position_decides,
        ),
        Mistake(
            "You take the carry one position too high: the first position in the window is t - w + 1, and before position "
            "0 there is no carry, p_0 = 0.",
            _carry_one_too_high,
        ),
        Mistake(
            "You return 0 for t = w. There bit 0 is out of sight already: everything is seen only for t < w.",
            _first_hidden_bit_missed,
        ),
        Mistake(
            "You count only carries that are made at the position just below the window. A carry that was made further down "
            "can be passed on: p_{n+1} = 1/4 + p_n / 2.",
            _carry_only_made,
        ),
    ),
)
