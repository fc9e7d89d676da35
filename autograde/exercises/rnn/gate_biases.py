"""The exercise ``gate_biases`` of the lesson rnn/03_gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Implementation, Inputs
from utils.reference import rnn as reference


def sums_of_blocks(implementation: Implementation, inputs: Inputs) -> Any:
    """The sum of the two new biases, block by block; only the sum matters."""
    first, second = implementation(*inputs.values())
    if first.shape != inputs["b_ih"].shape or second.shape != inputs["b_hh"].shape:
        return {"b_ih": first, "b_hh": second}
    blocks = (first + second).chunk(4)
    return dict(zip(("input gate", "forget gate", "candidate", "output gate"), blocks, strict=True))


def two_calls(implementation: Implementation, inputs: Inputs) -> Any:
    """The blocks' sums of two calls, looked at after both: the second one gets everything with the opposite sign."""
    b_ih, b_hh, bias = inputs.values()
    pairs = implementation(b_ih, b_hh, bias), implementation(-b_ih, -b_hh, -bias)
    first, second = (sums_of_blocks(lambda *_, pair=pair: pair, inputs) for pair in pairs)
    return {"the first result": first, "the second result": second}


def descriptions(implementation: Implementation, inputs: Inputs) -> Any:
    """Shapes and dtypes of the pair, as text."""
    pair = implementation(*inputs.values())
    if type(pair) not in (tuple, list) or len(pair) != 2:
        return pair
    return {name: _described(value) for name, value in zip(("b_ih", "b_hh"), pair, strict=True)}


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"


def _biases(hidden: int, bias: float) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {"b_ih": source.normal(4 * hidden), "b_hh": source.normal(4 * hidden), "bias": bias}

    return draw


def _drawn(source: Draw) -> Inputs:
    return _biases(source.integer(2, 9), float(source.uniform(low=0.5, high=6.0)))(source)


def _in_double(source: Draw) -> Inputs:
    """Biases that float32 does not have, and a bias that it has."""
    drawn = _biases(3, 1.75)(source)
    return {**drawn, "b_ih": drawn["b_ih"].double() / 1.1, "b_hh": drawn["b_hh"].double() / 1.1}


Pair = tuple[Tensor, Tensor]


def _set(
    b_ih: Tensor,
    b_hh: Tensor,
    forget: float,
    write: float | None,
    *,
    blocks: tuple[int, int] = (1, 0),
    add: bool = False,
    clear: bool = True,
    both: bool = False,
) -> Pair:
    """Sets the forget and the input block, with switches for what goes wrong."""
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    for block, value in zip(blocks, (forget, write), strict=True):
        if value is not None:
            rows = slice(block * hidden, (block + 1) * hidden)
            b_ih[rows] = b_ih[rows] + value if add else value
            if both:
                b_hh[rows] = value
            elif clear:
                b_hh[rows] = 0.0
    return b_ih, b_hh


def _other_left(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, -bias, clear=False)


def _twice(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, -bias, both=True)


def _added(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, -bias, add=True, clear=False)


def _gates_swapped(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, -bias, bias)


def _sign_missing(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, bias)


def _forget_only(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, None)


def _input_only(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, 0.0, -bias)


def _input_zero(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, 0.0)


def _candidate_block(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, -bias, blocks=(2, 0))


def _output_block(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, -bias, blocks=(1, 3))


def _candidate_closed(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, -bias, blocks=(1, 2))


def _rest_cleared(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(torch.zeros_like(b_ih), torch.zeros_like(b_hh), bias, -bias)


def _b_hh_cleared(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, torch.zeros_like(b_hh), bias, -bias)


def _every_fourth(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[0::4], b_ih[1::4] = -bias, bias
    b_hh[0::4], b_hh[1::4] = 0.0, 0.0
    return b_ih, b_hh


def _one_unit(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[0], b_ih[hidden] = -bias, bias
    b_hh[0], b_hh[hidden] = 0.0, 0.0
    return b_ih, b_hh


def _through_sigmoid(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    gate = float(torch.sigmoid(torch.tensor(bias, dtype=torch.float64)))
    return _set(b_ih, b_hh, gate, 1 - gate)


def _in_place(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[: 2 * hidden] = 0.0
    return b_ih, b_hh


def _only_forget_cleared(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[hidden : 2 * hidden] = 0.0
    return b_ih, b_hh


def _only_input_cleared(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[:hidden] = 0.0
    return b_ih, b_hh


def _other_vector_left(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_hh[:hidden], b_hh[hidden : 2 * hidden] = -bias, bias
    return b_ih, b_hh


def _forget_twice(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[:hidden], b_hh[hidden : 2 * hidden] = 0.0, bias
    return b_ih, b_hh


def _half_of_it(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias / 2, -bias / 2)


def _output_gate_too(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    first, second = _set(b_ih, b_hh, bias, -bias)
    return _set(first, second, bias, None, blocks=(3, 0))


def _all_gates_open(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    first, second = _set(b_ih, b_hh, bias, bias)
    return _set(first, second, bias, None, blocks=(3, 0))


def _sign_dropped(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, abs(bias), -abs(bias))


def _whole_numbers(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, int(bias), -int(bias))


def _one_minus_bias(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    return _set(b_ih, b_hh, bias, 1 - bias)


def _halves_of_the_vector(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    half = len(b_ih) // 2
    first = torch.cat([torch.full_like(b_ih[:half], -bias), torch.full_like(b_ih[half:], bias)])
    return first, torch.zeros_like(b_hh)


def _sum_added_again(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    total = b_ih + b_hh
    total[:hidden], total[hidden : 2 * hidden] = -bias, bias
    return total, b_hh.clone()


def _first_in_place(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh = b_hh.clone()
    b_hh[: 2 * hidden] = 0.0
    return b_ih, b_hh


def _second_in_place(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    hidden = len(b_ih) // 4
    b_ih = b_ih.clone()
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[: 2 * hidden] = 0.0
    return b_ih, b_hh


class _Buffer:
    """One pair of buffers for all results."""

    result: Tensor | None = None


def _one_buffer_for_all(b_ih: Tensor, b_hh: Tensor, bias: float) -> Pair:
    new = torch.stack(_set(b_ih, b_hh, bias, -bias))
    old = _Buffer.result
    if old is None or old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
        old = _Buffer.result = torch.empty_like(new)
    old.copy_(new)
    return old[0], old[1]


gate_biases = Exercise(
    reference.gate_biases,
    requirements=(
        Requirement(
            "two bias vectors like the ones that came in",
            (
                Case("8 hidden units", _biases(8, 2.0)),
                Case("3 hidden units, float64", _in_double),
            ),
            descriptions,
            gate=True,
        ),
        Requirement(
            "opens the forget gate, closes the input gate, leaves the rest",
            (
                Case("8 hidden units, bias 4.2", _biases(8, 4.2)),
                Case("3 hidden units, bias 1", _biases(3, 1.0)),
                Case("5 hidden units, a negative bias", _biases(5, -2.5)),
                Case("one hidden unit", _biases(1, 3.0)),
                Case("4 hidden units, bias 0", _biases(4, 0.0)),
                Case("6 hidden units, a whole number as bias", _biases(6, 2)),
                Case("in float64", _in_double),
                Case("sizes and bias drawn at random", _drawn, shown=False),
            ),
            sums_of_blocks,
            points=2,
        ),
        Requirement(
            "float64 stays float64 on the way",
            (Case("float64, to all its digits", _in_double),),
            sums_of_blocks,
            tolerance=Tolerance(
                2.0**-22,
                "the derived tolerance is that of float32; this one refuses a detour through float32",
            ),
        ),
        Requirement(
            "two calls do not disturb each other",
            (Case("two calls, 4 hidden units", _biases(4, 1.5)),),
            two_calls,
        ),
    ),
    mistakes=(
        Mistake(
            "You set b_ih and left the forget and input blocks of b_hh as they were. The gate sees the sum of both, so the old "
            "random numbers are still in it.",
            _other_left,
        ),
        Mistake(
            "You wrote the bias into b_ih and into b_hh. They are added, so the gate starts at twice the bias.",
            _twice,
        ),
        Mistake(
            "You added the bias to what was there. The sum of the two biases has to be the bias itself.",
            _added,
        ),
        Mistake(
            "You opened the input gate and closed the forget gate. The order of the blocks is i, f, g, o.",
            _gates_swapped,
        ),
        Mistake("Both gates got +bias. The input gate gets -bias, so that i = 1 - f.", _sign_missing),
        Mistake("You did not set the input gate. It gets -bias.", _forget_only),
        Mistake("Your forget gate is at 0, half open. It gets +bias.", _input_only),
        Mistake("Your input gate is at 0, half open. It gets -bias, so that i = 1 - f.", _input_zero),
        Mistake(
            "You set block 2, the candidate, instead of the forget gate. Counted from 0, the blocks are i 0, f 1, g 2, o 3.",
            _candidate_block,
        ),
        Mistake("You closed the output gate instead of the input gate, which is block 0.", _output_block),
        Mistake(
            "You set the bias of the candidate g instead of the input gate, which is block 0.",
            _candidate_closed,
        ),
        Mistake(
            "You set all other biases to 0. The candidate and the output gate keep theirs.", _rest_cleared
        ),
        Mistake(
            "You cleared all of b_hh. Its blocks of the candidate and the output gate belong to the sum and have to stay.",
            _b_hh_cleared,
        ),
        Mistake(
            "You set every fourth number. The gates lie in blocks: first all units of i, then all units of f.",
            _every_fourth,
        ),
        Mistake("You set one unit only. Each block has one number for each hidden unit.", _one_unit),
        Mistake(
            "You wrote sigmoid(bias), the gate itself. The step applies the sigmoid; the bias goes in as it is.",
            _through_sigmoid,
        ),
        Mistake(
            "You wrote into the tensors that came in. Make copies first, with clone().",
            _in_place,
        ),
        Mistake(
            "Your forget gate is right, but the input block of b_hh still holds its random numbers. Clear both blocks.",
            _only_forget_cleared,
        ),
        Mistake(
            "Your input gate is right, but the forget block of b_hh still holds its random numbers. Clear both blocks.",
            _only_input_cleared,
        ),
        Mistake(
            "You set b_hh and left the forget and input blocks of b_ih as they were. The gate sees the sum of both, so the old random numbers are still in it.",
            _other_vector_left,
        ),
        Mistake(
            "You wrote the bias of the forget gate into both vectors. They are added, so it starts at twice the bias.",
            _forget_twice,
        ),
        Mistake(
            "Your gates start at half the bias. If you split it between the two vectors, write a half into each of them.",
            _half_of_it,
        ),
        Mistake(
            "You set the output gate, too. The candidate and the output gate keep what they have.",
            _output_gate_too,
        ),
        Mistake(
            "You set all three gates to +bias. The forget gate gets +bias, the input gate -bias, and the output gate keeps what it has.",
            _all_gates_open,
        ),
        Mistake(
            "You took the bias without its sign. It may be negative; then the input gate is the open one.",
            _sign_dropped,
        ),
        Mistake("You cut the bias to a whole number.", _whole_numbers),
        Mistake(
            "Your input gate got 1 - bias. For the gates i = 1 - f; for the biases this means -bias, since sigmoid(-b) = 1 - sigmoid(b).",
            _one_minus_bias,
        ),
        Mistake(
            "You cut the vector into two halves. It has four blocks, and only the first two, i and f, are set.",
            _halves_of_the_vector,
        ),
        Mistake(
            "You put the sum into the first vector and returned b_hh beside it: it counts twice now. Return zeros as the second one.",
            _sum_added_again,
        ),
        Mistake(
            "You wrote into the b_ih that came in. Make a copy of it first, with clone().", _first_in_place
        ),
        Mistake(
            "You wrote into the b_hh that came in. Make a copy of it first, with clone().", _second_in_place
        ),
        Mistake(
            "A second call overwrites the result of the first: you write into a tensor that outlives the call. Return new ones "
            "each time.",
            _one_buffer_for_all,
        ),
    ),
    returns=("b_ih", "b_hh"),
)
