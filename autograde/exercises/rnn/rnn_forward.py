"""The exercise ``rnn_forward`` of the lesson rnn/01_vanilla_rnn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.nests import map_floats
from autograde.observe import Counted, Implementation, Inputs, Observation
from autograde.probes import Gradients
from autograde.values import SeenTensor
from utils.reference import rnn as reference


def cell(inputs: Inputs) -> Counted:
    """A recurrent cell that is not the one of the lesson, so that only the unrolling is looked at."""
    return Counted(lambda x_t, h: torch.sin(x_t @ inputs["U"] + h @ inputs["V"] + 0.3))


def unrolled(implementation: Implementation, inputs: Inputs) -> Any:
    """(out, h_last) for a cell with the weights U and V."""
    return implementation(cell(inputs), inputs["x"], inputs["h0"], inputs["lengths"])


def unrolled_and_counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """(out, h_last), and how often the cell was called."""
    step = cell(inputs)
    value = implementation(lambda x_t, h: step(x_t, h), inputs["x"], inputs["h0"], inputs["lengths"])
    return {"value": value, "calls of step": step.calls}


def _sequences(
    time: int,
    lengths: tuple[int, ...] | None,
    inputs: int = 3,
    hidden: int = 5,
    padding: float = 1.0,
    batch: int = 4,
) -> Callable[[Draw], Inputs]:
    """A batch of sequences; where ``lengths`` is None they are drawn, one of them 1 and none of them all of ``time``."""

    def draw(source: Draw) -> Inputs:
        if lengths is None:
            chosen = source.integers(batch, low=1, high=time - 1)
            chosen[source.integer(0, batch - 1)] = 1
        else:
            chosen = torch.tensor(lengths)
        x = source.normal(len(chosen), time, inputs)
        past = torch.arange(time)[None, :] >= chosen[:, None]
        return {
            "x": torch.where(past[..., None], padding * x, x),
            "h0": source.normal(len(chosen), hidden, scale=0.7),
            "lengths": chosen,
            "U": source.normal(inputs, hidden, scale=0.8 * inputs**-0.5),
            "V": source.normal(hidden, hidden, scale=0.8 * hidden**-0.5),
        }

    return draw


def _double(draw: Callable[[Draw], Inputs]) -> Callable[[Draw], Inputs]:
    """The same inputs in float64."""
    return lambda source: map_floats(draw(source), lambda t: t.double())


def _strided(source: Draw) -> Inputs:
    """Time first in memory, as many data sets are."""
    drawn = dict(_sequences(6, (6, 6, 6, 6))(source))
    drawn["x"] = drawn["x"].transpose(0, 1).contiguous().transpose(0, 1)
    drawn["h0"] = drawn["h0"].t().contiguous().t()
    return drawn


Step = Callable[[Tensor, Tensor], Tensor]


def _unroll(
    step: Step,
    x: Tensor,
    h0: Tensor,
    lengths: Tensor,
    *,
    shift: int = 0,
    freeze: bool = True,
    blank: bool = True,
    before: bool = False,
    detach: bool = False,
) -> tuple[Tensor, Tensor]:
    """The unrolling, with switches for what goes wrong."""
    h, outs = h0, []
    for t in range(x.shape[1]):
        new = step(x[:, t], h.detach() if detach else h)
        alive = (t < lengths + shift)[:, None]
        shown = h if before else new
        outs.append(torch.where(alive, shown, torch.zeros_like(new) if blank else (h if freeze else new)))
        h = torch.where(alive, new, h) if freeze else new
    return torch.stack(outs, 1), h


def _state_runs_on(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, freeze=False)


def _lengths_ignored(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, torch.full_like(lengths, x.shape[1]))


def _outputs_not_blanked(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, blank=False)


def _last_column(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, _ = _unroll(step, x, h0, lengths)
    return out, out[:, -1]


def _zero_state(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, torch.zeros_like(h0), lengths)


def _one_step_too_far(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, shift=1)


def _one_step_short(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, shift=-1)


def _state_before_step(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, before=True)


def _detached_steps(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths, detach=True)


def _time_first(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, last = _unroll(step, x, h0, lengths)
    return out.transpose(0, 1), last


def _masked_by_product(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outs = h0, []
    for t in range(x.shape[1]):
        alive = (t < lengths)[:, None].to(x.dtype)
        h = alive * step(x[:, t], h) + (1 - alive) * h
        outs.append(alive * h)
    return torch.stack(outs, 1), h


def _buffer_in_float32(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, h = torch.zeros(*x.shape[:2], h0.shape[1], device=x.device), h0
    for t in range(x.shape[1]):
        alive = (t < lengths)[:, None]
        h = torch.where(alive, step(x[:, t], h), h)
        out[:, t] = torch.where(alive, h, 0.0)
    return out, h


def _initial_state_everywhere(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    mask = torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]
    out = torch.stack([step(x_t, h0) for x_t in x.unbind(1)], 1) * mask[..., None]
    return out, out[torch.arange(len(x)), lengths - 1]


def _one_sequence_at_a_time(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    parts = [_unroll(step, x[b : b + 1], h0[b : b + 1], lengths[b : b + 1]) for b in range(len(x))]
    return torch.cat([out for out, _ in parts]), torch.cat([last for _, last in parts])


_ONCE = "calls the step once per time step"


def _calls_per_step(observed: Mapping[tuple[str, str], Observation]) -> list[float]:
    """For each case that counts: calls of the step by time steps of the outputs; empty where there are no outputs."""
    ratios = []
    for (requirement, _), entry in observed.items():
        if requirement != _ONCE:
            continue
        value = entry.value if type(entry.value) is dict else {}
        outputs, calls = value.get("value"), value.get("calls of step")
        if type(outputs) is not tuple or len(outputs) != 2 or type(outputs[0]) is not SeenTensor:
            return []
        if outputs[0].data.dim() != 3 or outputs[0].data.shape[1] == 0 or type(calls) is not int:
            return []
        ratios.append(calls / outputs[0].data.shape[1])
    return ratios


def _called_for_each_sequence(observed: Mapping[tuple[str, str], Observation]) -> bool:
    ratios = _calls_per_step(observed)
    return bool(ratios) and all(ratio > 2 for ratio in ratios)


def _called_twice(observed: Mapping[tuple[str, str], Observation]) -> bool:
    ratios = _calls_per_step(observed)
    return bool(ratios) and all(ratio == 2 for ratio in ratios)


def _two_calls_a_step(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outs = h0, []
    for t in range(x.shape[1]):
        alive = (t < lengths)[:, None]
        outs.append(torch.where(alive, step(x[:, t], h), 0.0))
        h = torch.where(alive, step(x[:, t], h), h)
    return torch.stack(outs, 1), h


def _padding_zeroed_only(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    inside = (torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None])[..., None]
    out, last = _unroll(step, torch.where(inside, x, 0.0), h0, torch.full_like(lengths, x.shape[1]))
    return torch.where(inside, out, 0.0), last


def _order_not_restored(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    order = lengths.argsort(descending=True, stable=True)
    return _unroll(step, x[order], h0[order], lengths[order])


def _reshaped_not_transposed(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, last = _unroll(step, x, h0, lengths)
    return out.transpose(0, 1).reshape(out.shape), last


def _all_stop_with_the_shortest(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return _unroll(step, x, h0, lengths.min().expand(len(lengths)))


def _first_state_kept(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, last = _unroll(step, x, h0, lengths)
    return torch.cat([h0[:, None], out], 1), last


def _cut_at_longest(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, last = _unroll(step, x, h0, lengths)
    return out[:, : int(lengths.max())], last


def _frozen_state_detached(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    out, last = _unroll(step, x, h0, lengths)
    return out, last.detach()


def _same_tensor_stored(step: Step, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    _, last = _unroll(step, x, h0, lengths)
    inside = torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]
    return last[:, None] * inside[..., None], last


rnn_forward = Exercise(
    reference.rnn_forward,
    requirements=(
        Requirement(
            "unrolls the cell over time",
            (
                Case("4 sequences of 6 steps", _sequences(6, (6, 6, 6, 6))),
                Case("a single step", _sequences(1, (1, 1, 1))),
                Case("one sequence", _sequences(7, (7,))),
                Case("one input", _sequences(5, (5, 5, 5), inputs=1)),
                Case("inputs that are not contiguous", _strided),
                Case("as many steps as sequences as inputs", _sequences(4, (4, 4, 4, 4), inputs=4, hidden=4)),
                Case("30 steps, 2 hidden units", _sequences(30, (30, 30), hidden=2), shown=False),
            ),
            unrolled,
            points=2,
        ),
        Requirement(
            "stops each sequence at its own length",
            (
                Case("lengths 3, 6, 1, 4", _sequences(6, (3, 6, 1, 4))),
                Case("no sequence as long as the batch", _sequences(8, (5, 2, 7))),
                Case("large values in the padding", _sequences(6, (2, 5, 6), padding=1e3)),
                Case("NaN in the padding", _sequences(5, (4, 1, 3), padding=float("nan"))),
                Case("inputs in float64", _double(_sequences(5, (5, 2, 4)))),
                Case("lengths drawn at random", _sequences(11, None, batch=9), shown=False),
            ),
            unrolled,
            points=2,
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, lengths 3, 6, 1, 4", _sequences(6, (3, 6, 1, 4))),
                Case("gradients, 40 steps", _sequences(40, (40, 23, 31))),
                Case("gradients, lengths drawn at random", _sequences(9, None, batch=5), shown=False),
            ),
            Gradients(of=unrolled),
        ),
        Requirement(
            _ONCE,
            (
                Case(
                    "16 sequences of 5 steps", _sequences(5, (1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 5, 5, 5, 5, 5, 5))
                ),
                Case("7 sequences of 12 steps", _sequences(12, (12, 3, 8, 1, 12, 5, 2)), shown=False),
            ),
            unrolled_and_counted,
            bounds={
                "calls of step": Bound(
                    most=lambda inputs: inputs["x"].shape[1],
                    unit="calls of step",
                    why="One call per time step serves the whole batch at once.",
                    naive=lambda inputs: inputs["x"].shape[0] * inputs["x"].shape[1],
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You call the step for each sequence separately. Hand it the whole batch x[:, t] at once: T calls, not "
            "batch times T.",
            _one_sequence_at_a_time,
            recognise=_called_for_each_sequence,
        ),
        Mistake(
            "You call the step twice at each time step, once for the output and once for the state. Call it once, and use "
            "what it returned for both.",
            _two_calls_a_step,
            recognise=_called_twice,
        ),
        Mistake(
            "Your state runs on after a sequence has ended: h_last is the state after the padding. Keep the old state "
            "where t has reached the length.",
            _state_runs_on,
        ),
        Mistake(
            "A NaN in the padding reached your result: you multiply by a mask, and 0 times NaN is NaN. Choose with "
            "torch.where.",
            _masked_by_product,
        ),
        Mistake(
            "Your out is float32 although h0 is float64. Create it with h0.new_zeros, or stack the states.",
            _buffer_in_float32,
        ),
        Mistake("You ignore lengths: every sequence runs through its padding to the end.", _lengths_ignored),
        Mistake(
            "Your outputs past the end repeat the frozen state. They have to be zero there.",
            _outputs_not_blanked,
        ),
        Mistake(
            "Your h_last is zero for sequences that ended earlier: it was read from out past their end, or a mask sets the "
            "state itself to zero. Only the output is zero there; the state stays.",
            _last_column,
        ),
        Mistake("You start from zeros. The first state is h0, which is handed in.", _zero_state),
        Mistake(
            "Each sequence runs one step too far. With steps counted from 0, the steps t < length are valid.",
            _one_step_too_far,
        ),
        Mistake(
            "Each sequence stops one step early. With steps counted from 0, the step t = length - 1 is still valid.",
            _one_step_short,
        ),
        Mistake(
            "You store the state before the step. out[:, t] is the state after reading x[:, t].",
            _state_before_step,
        ),
        Mistake(
            "Your values are right, but you cut the gradient between the steps: no detach and no .data inside the loop.",
            _detached_steps,
        ),
        Mistake(
            "Your outputs have time first. Stack along dimension 1, so that the shape is (batch, time, hidden).",
            _time_first,
        ),
        Mistake(
            "Every step starts from h0. Hand each step the state that the step before it returned.",
            _initial_state_everywhere,
        ),
        Mistake(
            "You set the padding of x to zero, but the state still runs through it: step(0, h) is not h. Choose the old state "
            "where t has reached the length.",
            _padding_zeroed_only,
        ),
        Mistake(
            "You sorted the sequences by length and did not put them back into their order.",
            _order_not_restored,
        ),
        Mistake(
            "You turned [time, batch, hidden] into [batch, time, hidden] with view or reshape, which mixes the sequences. Use "
            "transpose, or stack along dimension 1.",
            _reshaped_not_transposed,
        ),
        Mistake(
            "All your sequences stop where the shortest one ends. Compare t with each sequence's own length.",
            _all_stop_with_the_shortest,
        ),
        Mistake(
            "Your outputs begin with h0, one step too many. out[:, 0] is the state after reading x[:, 0].",
            _first_state_kept,
        ),
        Mistake(
            "Your outputs end with the longest sequence. out has as many steps as x, zero where no sequence is left.",
            _cut_at_longest,
        ),
        Mistake("Your values are right, but no gradient flows through h_last.", _frozen_state_detached),
        Mistake(
            "All your outputs are the last state: you stored the same tensor again and again, and changed it in place. Make a new "
            "one at each step, or store a clone.",
            _same_tensor_stored,
        ),
    ),
    forbids=(
        "rnn_tanh",
        "rnn_tanh_cell",
        "rnn_relu",
        "rnn_relu_cell",
        "gru",
        "gru_cell",
        "lstm",
        "lstm_cell",
    ),
    returns=("out", "h_last"),
)
