"""The exercise ``n_params`` of the lesson rnn/01_vanilla_rnn."""

from __future__ import annotations

from collections.abc import Callable

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs
from utils.reference import rnn as reference


def _count(input_size: int, hidden_size: int, gates: int | None = None) -> Callable[[Draw], Inputs]:
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    return lambda source: sizes if gates is None else sizes | {"gates": gates}


def _random_count(source: Draw) -> Inputs:
    return {"input_size": source.integer(2, 300), "hidden_size": source.integer(301, 900), "gates": 4}


def _one_bias_vector(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2 + hidden_size)


def _no_biases(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2)


def _biases_once(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2) + 2 * hidden_size


def _gates_ignored(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return hidden_size * input_size + hidden_size**2 + 2 * hidden_size


def _input_squared(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + input_size**2 + 2 * hidden_size)


def _no_recurrence(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + 2 * hidden_size)


def _bracket_missing(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * hidden_size * input_size + hidden_size**2 + 2 * hidden_size


def _hidden_doubled(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + 2 * hidden_size + 2 * hidden_size)


def _bias_per_input(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + hidden_size**2 + input_size + hidden_size)


def _sizes_swapped(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * (hidden_size * input_size + input_size**2 + 2 * input_size)


def _gates_squared(input_size: int, hidden_size: int, gates: int = 1) -> int:
    return gates * hidden_size * input_size + (gates * hidden_size) ** 2 + 2 * gates * hidden_size


n_params = Exercise(
    reference.n_params,
    requirements=(
        Requirement(
            "counts what torch counts",
            (
                Case("3 inputs, 8 hidden units, gates left out", _count(3, 8)),
                Case("1 input, 1 hidden unit", _count(1, 1, 1)),
                Case("a GRU: 28 inputs, 64 hidden units, 3 gates", _count(28, 64, 3)),
                Case("an LSTM with more inputs than hidden units", _count(300, 20, 4)),
                Case("an LSTM of a size drawn at random", _random_count, shown=False),
            ),
        ),
    ),
    mistakes=(
        Mistake("You count one bias vector. torch keeps two for each gate, b_ih and b_hh.", _one_bias_vector),
        Mistake("You left out the biases: two vectors of hidden_size for each gate.", _no_biases),
        Mistake("You count the biases once. Every gate has its own two.", _biases_once),
        Mistake("You left out gates: a GRU has three sets of weights, an LSTM four.", _gates_ignored),
        Mistake(
            "W_hh maps hidden to hidden: its size is hidden_size squared, not input_size squared.",
            _input_squared,
        ),
        Mistake("You left out W_hh, the weights from the old state to the new one.", _no_recurrence),
        Mistake(
            "Only H I is multiplied by gates: a bracket is missing. Every gate has its own W_ih, W_hh and biases.",
            _bracket_missing,
        ),
        Mistake(
            "You count 2 H numbers for W_hh. It has hidden_size rows and hidden_size columns: H squared.",
            _hidden_doubled,
        ),
        Mistake("Both biases have hidden_size numbers. You gave one of them input_size.", _bias_per_input),
        Mistake("You mixed up the two sizes: input_size comes first.", _sizes_swapped),
        Mistake(
            "You squared gates * H. W_hh of a gated layer is [gates * H, H]: every gate hears H states, not gates * H.",
            _gates_squared,
        ),
    ),
)
