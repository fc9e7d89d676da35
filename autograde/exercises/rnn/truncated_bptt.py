"""The exercise ``truncated_bptt`` of the lesson rnn/02_bptt."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.meters import AllocationMeter
from autograde.nests import map_floats
from autograde.observe import Counted, Implementation, Inputs, Observation
from utils.reference import rnn as reference

Parameters = dict[str, Tensor]
StepLoss = Callable[[Parameters, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
_MEMORY = "memory for k steps, not for all"
_ONCE = "one call of step_loss per time step"


def step_loss(p: Parameters, x_t: Tensor, y_t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """A cell and a loss that are not those of the lesson, so that only the truncation is looked at."""
    h = torch.sin(x_t @ p["U"] + h @ p["V"] + p["c"])
    return ((h @ p["out"] - y_t) ** 2).sum(), h


def truncated(implementation: Implementation, inputs: Inputs) -> Any:
    """(loss, gradients) with the cell of this module."""
    return implementation(step_loss, *inputs.values())


def counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """(loss, gradients), and how often the step was called."""
    step = Counted(step_loss)
    value = implementation(lambda *arguments: step(*arguments), *inputs.values())
    return {"value": value, "calls of step_loss": step.calls}


def measured(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """(loss, gradients), and the memory: at its peak, where a chunk after the first one begins, and what stays in use."""
    given = [*inputs["parameters"].values(), inputs["x"], inputs["y"], inputs["h0"]]
    calls, at_begin, limit = 0, 0, int(_most_at_begin(inputs))
    k = inputs["k"]

    def step(p: Parameters, x_t: Tensor, y_t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls, at_begin
        if calls and calls % k == 0 and at_begin <= limit:
            at_begin = max(at_begin, _alive(meter, limit))
        calls += 1
        return step_loss(p, x_t, y_t, h)

    with AllocationMeter(given) as meter:
        value = implementation(lambda *arguments: step(*arguments), *inputs.values())
        results = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        kept = _alive(meter, _bytes_of_parameters(inputs), besides=results)
    return {
        "value": value,
        "peak memory": _around(meter.peak, _most_at_peak(inputs)),
        "memory where a chunk begins": _around(at_begin, limit),
        "memory kept": _around(kept, _bytes_of_parameters(inputs)),
        "results with a graph": sum(leaf.grad_fn is not None for leaf in results),
    }


def _alive(meter: AllocationMeter, limit: int, besides: list[Tensor] | None = None) -> int:
    """Bytes in use; where they are too many, without those that only a cycle of references holds."""
    if meter.alive(besides) > limit:
        gc.collect()
    return meter.alive(besides)


def _around(amount: int, most: float) -> int:
    """An amount of memory between the bound and a quarter more.

    Answers need different amounts of memory. Seen through this, all that need little show the same, and so do all that
    need much; a known mistake is recognised by its values, however it is written.
    """
    return min(max(amount, int(most)), int(1.25 * most))


def called_twice(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """Two calls with the same parameters; the second one sees the sequence backwards. Both looked at afterwards.

    Before a third call the parameters get a .grad, which is looked at after it.
    """
    p, x, y, h0, k = inputs.values()
    first = implementation(step_loss, p, x, y, h0, k)
    second = implementation(step_loss, p, x.flip(1), y.flip(1), h0, k)
    callers = {name: value.detach().clone() for name, value in p.items()}
    for value in callers.values():
        value.grad = torch.ones_like(value)
    implementation(step_loss, callers, x, y, h0, k)
    grads = {f"the caller's .grad for {name}": value.grad for name, value in callers.items()}
    return {"the first result": first, "the second result": second, **grads}


def _bytes_of_step(inputs: Inputs) -> int:
    """What autograd keeps of one step of this cell, generously: some [batch, hidden] and [batch, input] tensors."""
    batch, _, size = inputs["x"].shape
    return int(inputs["x"].element_size() * batch * (6 * inputs["h0"].shape[1] + 2 * size + 8))


def _bytes_of_parameters(inputs: Inputs) -> int:
    return int(sum(value.nbytes for value in inputs["parameters"].values()))


def _most_at_begin(inputs: Inputs) -> float:
    """Some states, and the parameters a few times over."""
    return 7.0 * int(inputs["h0"].nbytes) + 4 * _bytes_of_parameters(inputs)


def _most_at_peak(inputs: Inputs) -> float:
    return _peak_for(lambda inputs: inputs["k"])(inputs)


def _peak_for(steps: Callable[[Inputs], int]) -> Callable[[Inputs], float]:
    return lambda inputs: steps(inputs) * _bytes_of_step(inputs) + 8 * _bytes_of_parameters(inputs)


def _sequences(
    batch: int, time: int, k: int, inputs: int = 3, hidden: int = 5, scale: float = 1.0
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "parameters": {
                "U": source.normal(inputs, hidden, scale=0.8 * inputs**-0.5),
                "V": source.normal(hidden, hidden, scale=scale * hidden**-0.5),
                "c": source.normal(hidden, scale=0.3),
                "out": source.normal(hidden, scale=hidden**-0.5),
            },
            "x": source.normal(batch, time, inputs),
            "y": source.normal(batch, time),
            "h0": source.normal(batch, hidden),
            "k": k,
        }

    return draw


def _double(draw: Callable[[Draw], Inputs]) -> Callable[[Draw], Inputs]:
    return lambda source: map_floats(draw(source), lambda t: t.double())


def _strided(source: Draw) -> Inputs:
    """Time first in memory."""
    drawn = dict(_sequences(3, 8, 3)(source))
    for name in ("x", "y"):
        drawn[name] = drawn[name].transpose(0, 1).contiguous().transpose(0, 1)
    return drawn


def _chunks(
    step: StepLoss,
    parameters: Parameters,
    x: Tensor,
    y: Tensor,
    h0: Tensor,
    k: int,
    *,
    back_to_start: bool = False,
    drop_rest: bool = False,
    short_first: bool = False,
    last_only: bool = False,
    last_loss: bool = False,
    loss_at_end_of_chunk: bool = False,
    scale: Callable[[int], float] = lambda steps: 1.0,
) -> tuple[float, Parameters]:
    """The truncation, one gradient computation for each chunk, with switches for what goes wrong in values."""
    own = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
    time = x.shape[1] // k * k if drop_rest else x.shape[1]
    bounds = [0, *range(time % k or k, time, k), time] if short_first else [*range(0, time, k), time]
    h, total = h0, 0.0
    for start, stop in pairwise(bounds):
        h, losses = h0 if back_to_start else h.detach(), []
        for t in range(start, stop):
            loss, h = step(own, x[:, t], y[:, t], h)
            losses.append(loss)
        chunk = losses[-1] if loss_at_end_of_chunk else torch.stack(losses).sum()
        chunk = chunk * scale(len(losses))
        found = torch.autograd.grad(chunk, list(own.values()))
        for name, grad in zip(own, found, strict=True):
            grads[name] = grad if last_only else grads[name] + grad
        total = chunk.item() if last_loss else total + chunk.item()
    return total, grads


def _in_one_graph(
    step: StepLoss,
    parameters: Parameters,
    x: Tensor,
    y: Tensor,
    h0: Tensor,
    k: int,
    *,
    cut: bool = True,
    offset: int = 0,
) -> tuple[float, Parameters]:
    """The truncation with one gradient computation at the end."""
    own = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    h, total = h0, torch.zeros((), dtype=x.dtype, device=x.device)
    for t in range(x.shape[1]):
        if cut and (t - offset) % k == 0:
            h = h.detach()
        loss, h = step(own, x[:, t], y[:, t], h)
        total = total + loss
    grads = torch.autograd.grad(total, list(own.values()), allow_unused=True)
    found = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(own.items(), grads, strict=True)}
    return total.item(), found


def _never_cut(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return _in_one_graph(step, parameters, x, y, h0, k, cut=False)


def _cut_at_every_step(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return reference.truncated_bptt(step, parameters, x, y, h0, 1)


def _backward_at_the_end(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _in_one_graph(step, parameters, x, y, h0, k)


def _two_chunks_at_once(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    total, grads, h = 0.0, {name: torch.zeros_like(value) for name, value in parameters.items()}, [h0]
    for start in range(0, x.shape[1], 2 * k):

        def last(p: Parameters, x_t: Tensor, y_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            loss, h[0] = step(p, x_t, y_t, state)
            return loss, h[0]

        part = slice(start, start + 2 * k)
        loss, more = _in_one_graph(last, parameters, x[:, part], y[:, part], h[0].detach(), k)
        total, grads = total + loss, {name: grads[name] + more[name] for name in grads}
    return total, grads


def _state_from_the_start(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, back_to_start=True)


def _state_zeroed(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    total, grads = 0.0, {name: torch.zeros_like(value) for name, value in parameters.items()}
    for s in range(0, x.shape[1], k):
        state = h0 if s == 0 else torch.zeros_like(h0)
        loss, more = reference.truncated_bptt(step, parameters, x[:, s : s + k], y[:, s : s + k], state, k)
        total, grads = total + loss, {name: grads[name] + more[name] for name in grads}
    return total, grads


def _start_ignored(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return reference.truncated_bptt(step, parameters, x, y, torch.zeros_like(h0), k)


def _rest_dropped(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return _chunks(step, parameters, x, y, h0, k, drop_rest=True)


def _short_chunk_first(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, short_first=True)


def _first_chunk_only(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return reference.truncated_bptt(step, parameters, x[:, :k], y[:, :k], h0, k)


def _k_chunks(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return reference.truncated_bptt(step, parameters, x, y, h0, -(-x.shape[1] // k))


def _gradients_before_loss(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return reference.truncated_bptt(step, parameters, x, y, h0, k)[::-1]


def _gradients_as_a_list(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    loss, grads = reference.truncated_bptt(step, parameters, x, y, h0, k)
    return loss, list(grads.values())


def _last_chunk_only(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return _chunks(step, parameters, x, y, h0, k, last_only=True)


def _loss_of_last_chunk(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, last_loss=True)


def _both_of_last_chunk(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, last_only=True, last_loss=True)


def _one_step_late(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return _in_one_graph(step, parameters, x, y, h0, k, offset=1)


def _one_step_more(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return reference.truncated_bptt(step, parameters, x, y, h0, k + 1)


def _last_loss_of_each_chunk(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, loss_at_end_of_chunk=True)


def _mean_over_steps(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    loss, grads = reference.truncated_bptt(step, parameters, x, y, h0, k)
    return loss / x.shape[1], {name: grad / x.shape[1] for name, grad in grads.items()}


def _mean_over_chunks(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    loss, grads = reference.truncated_bptt(step, parameters, x, y, h0, k)
    chunks = -(-x.shape[1] // k)
    return loss / chunks, {name: grad / chunks for name, grad in grads.items()}


def _mean_in_chunks(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return _chunks(step, parameters, x, y, h0, k, scale=lambda steps: 1 / k)


def _mean_of_each_chunk(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, scale=lambda steps: 1 / steps)


def _mean_over_sequences(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    return _chunks(step, parameters, x, y, h0, k, scale=lambda steps: 1 / len(x))


def _only_gradients_averaged(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    loss, grads = reference.truncated_bptt(step, parameters, x, y, h0, k)
    return loss, {name: grad / -(-x.shape[1] // k) for name, grad in grads.items()}


def _only_loss_averaged(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    loss, grads = reference.truncated_bptt(step, parameters, x, y, h0, k)
    return loss / x.shape[1], grads


def _callers_grad_used(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    loss, grads = reference.truncated_bptt(step, parameters, x, y, h0, k)
    for name, parameter in parameters.items():
        parameter.grad = grads[name]
    return loss, grads


def _loss_with_its_graph(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    loss, grads = _chunks(step, parameters, x, y, h0, k)
    leaf = torch.full((), loss, dtype=x.dtype, device=x.device, requires_grad=True)
    return leaf + 0.0, grads


def _one_too_few(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    return reference.truncated_bptt(step, parameters, x, y, h0, max(1, k - 1))


def _looks_back_from_every_step(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    """A window of k steps behind every single loss: another truncation, with k times the cost."""
    total, states = 0.0, [h0]
    grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
    own = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    for t in range(x.shape[1]):
        first = max(0, t - k + 1)
        h = states[first].detach()
        for s in range(first, t + 1):
            loss, h = step(own, x[:, s], y[:, s], h)
        states.append(h.detach())
        total += loss.item()
        for name, grad in zip(own, torch.autograd.grad(loss, list(own.values())), strict=True):
            grads[name] += grad
    return total, grads


def _grad_not_cleared(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    h, total = h0, 0.0
    for parameter in parameters.values():
        parameter.requires_grad_()
    for start in range(0, x.shape[1], k):
        h, chunk = h.detach(), torch.zeros((), dtype=x.dtype, device=x.device)
        for t in range(start, min(start + k, x.shape[1])):
            loss, h = step(parameters, x[:, t], y[:, t], h)
            chunk = chunk + loss
        chunk.backward()
        total += chunk.item()
    return total, {name: value.grad for name, value in parameters.items()}


def _forward_first(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    with torch.no_grad():
        h, total = h0, 0.0
        for t in range(x.shape[1]):
            loss, h = step(parameters, x[:, t], y[:, t], h)
            total += loss.item()
    return total, reference.truncated_bptt(step, parameters, x, y, h0, k)[1]


def _graph_returned(step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int) -> Any:
    own = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
    h, total = h0, torch.zeros((), dtype=x.dtype, device=x.device)
    for start in range(0, x.shape[1], k):
        h, chunk = h.detach(), torch.zeros((), dtype=x.dtype, device=x.device)
        for t in range(start, min(start + k, x.shape[1])):
            loss, h = step(own, x[:, t], y[:, t], h)
            chunk = chunk + loss
        for name, grad in zip(
            own, torch.autograd.grad(chunk, list(own.values()), retain_graph=True), strict=True
        ):
            grads[name] += grad
        total = total + chunk
    return total, grads


def _steps_of_descent(
    step: StepLoss, parameters: Parameters, x: Tensor, y: Tensor, h0: Tensor, k: int
) -> Any:
    total, h = 0.0, h0
    grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for s in range(0, x.shape[1], k):
        own = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
        chunk, h = torch.zeros((), dtype=x.dtype, device=x.device), h.detach()
        for t in range(s, min(s + k, x.shape[1])):
            loss, h = step(own, x[:, t], y[:, t], h)
            chunk = chunk + loss
        for name, grad in zip(own, torch.autograd.grad(chunk, list(own.values())), strict=True):
            grads[name] += grad
            parameters[name] -= 0.01 * grad
        total += chunk.item()
    return total, grads


def _calls(observed: Mapping[tuple[str, str], Observation]) -> list[tuple[str, int]]:
    return [
        (case, entry.value["calls of step_loss"])
        for (requirement, case), entry in observed.items()
        if requirement == _ONCE and type(entry.value) is dict
    ]


_STEPS = {"calls for 11 steps": 11, "calls for 7 steps": 7}


def _called_twice_per_step(observed: Mapping[tuple[str, str], Observation]) -> bool:
    calls = _calls(observed)
    return bool(calls) and all(amount == 2 * _STEPS[case] for case, amount in calls)


truncated_bptt = Exercise(
    reference.truncated_bptt,
    requirements=(
        Requirement(
            "loss and gradients, cut every k steps",
            (
                Case("9 steps, k = 3", _sequences(4, 9, 3)),
                Case("8 steps, k = 4, one sequence", _sequences(1, 8, 4)),
                Case("one input, one unit, k = 2", _sequences(3, 6, 2, inputs=1, hidden=1)),
                Case("as many steps as sequences as inputs as units, k = 2", _sequences(4, 4, 2, 4, 4)),
                Case("inputs that are not contiguous", _strided),
                Case("inputs in float64", _double(_sequences(3, 6, 3))),
                Case("60 steps, k = 12", _sequences(2, 60, 12), shown=False),
            ),
            truncated,
            points=3,
        ),
        Requirement(
            "any k",
            (
                Case("a last chunk that is shorter, 11 steps, k = 4", _sequences(3, 11, 4)),
                Case("k = 1", _sequences(3, 5, 1)),
                Case("k as large as the number of steps", _sequences(3, 5, 5)),
                Case("k larger than the number of steps", _sequences(3, 5, 8)),
                Case("one step", _sequences(2, 1, 3)),
                Case("13 steps, k = 5", _sequences(2, 13, 5), shown=False),
            ),
            truncated,
        ),
        Requirement(
            _MEMORY,
            (
                Case("40 steps, k = 8", _sequences(24, 40, 8, hidden=16)),
                Case("31 steps, k = 6", _sequences(40, 31, 6, hidden=12), shown=False),
            ),
            measured,
            points=2,
            bounds={
                "peak memory": Bound(
                    most=_most_at_peak,
                    unit="bytes in use at once (counted up to a quarter more than enough)",
                    why="Only the graph of k steps has to be alive: compute the gradient of each chunk before the next one begins.",
                    naive=_peak_for(lambda inputs: inputs["x"].shape[1]),
                ),
                "memory where a chunk begins": Bound(
                    most=lambda inputs: int(_most_at_begin(inputs)),
                    unit="bytes in use where a new chunk begins (counted up to a quarter more than enough)",
                    why="The graph of a chunk has to be gone before the next chunk begins. A backward pass for several chunks, "
                    "retain_graph=True, or a list of states or losses keeps it.",
                ),
                "memory kept": Bound(
                    most=_bytes_of_parameters,
                    unit="bytes in use after the call (counted up to a quarter more than enough)",
                    why="The loss is a number; a tensor with its graph keeps all steps of that graph alive.",
                ),
                "results with a graph": Bound(
                    most=lambda inputs: 0,
                    unit="of the results still hold a graph",
                    why="Return numbers: loss.item(), or loss.detach().",
                ),
            },
        ),
        Requirement(
            _ONCE,
            (
                Case("calls for 11 steps", _sequences(2, 11, 4)),
                Case("calls for 7 steps", _sequences(2, 7, 7), shown=False),
            ),
            counted,
            bounds={
                "calls of step_loss": Bound(
                    most=lambda inputs: inputs["x"].shape[1],
                    unit="calls of step_loss",
                    why="Loss, gradient and next state all come from one run through the steps.",
                )
            },
        ),
        Requirement(
            "two calls do not disturb each other", (Case("two calls", _sequences(2, 6, 2)),), called_twice
        ),
    ),
    mistakes=(
        Mistake(
            "You never cut the gradient. Detach the state at the beginning of every chunk.",
            _never_cut,
        ),
        Mistake("You cut the gradient at every step. Detach the state every k steps.", _cut_at_every_step),
        Mistake(
            "Your gradients are right, but all chunks stay in memory until the end: their losses are added before one backward pass. "
            "Compute the gradient of each chunk as soon as its k steps are done.",
            _backward_at_the_end,
        ),
        Mistake(
            "Your gradients are right, but the graph of a chunk is still in memory where the next one begins. One backward pass for "
            "several chunks, retain_graph=True, or a list of states or losses keeps it.",
            _two_chunks_at_once,
        ),
        Mistake(
            "The loss that you return still holds a graph, though an empty one. Add up numbers: loss.item() or loss.detach().",
            _loss_with_its_graph,
        ),
        Mistake(
            "Every chunk starts from h0. Only the gradient is cut: the value of the state goes on from chunk to chunk.",
            _state_from_the_start,
        ),
        Mistake(
            "Every chunk after the first starts from zero. Only the gradient is cut: the value of the state goes on.",
            _state_zeroed,
        ),
        Mistake("You start from zeros. The first state is h0, which is handed in.", _start_ignored),
        Mistake(
            "You leave out the last steps where T is no multiple of k. The last chunk may be shorter.",
            _rest_dropped,
        ),
        Mistake(
            "Your short chunk is the first one, where T is no multiple of k. Count the k steps from the beginning.",
            _short_chunk_first,
        ),
        Mistake(
            "Loss and gradients are those of the first chunk alone. Look for a return inside the loop over the chunks.",
            _first_chunk_only,
        ),
        Mistake("You divide the sequence into k chunks. Each chunk has k steps.", _k_chunks),
        Mistake(
            "You return the gradients first and the loss second. The loss comes first.",
            _gradients_before_loss,
        ),
        Mistake(
            "You return the gradients as a list. Return a dictionary with the names of the parameters.",
            _gradients_as_a_list,
        ),
        Mistake(
            "Your gradients are those of the last chunk: each chunk overwrites the one before. Add them up.",
            _last_chunk_only,
        ),
        Mistake("Your loss is that of the last chunk. Add the losses of all chunks.", _loss_of_last_chunk),
        Mistake(
            "Loss and gradients are those of the last chunk alone. Add both over all chunks.",
            _both_of_last_chunk,
        ),
        Mistake(
            "You cut one step too late: the first step of a chunk still belongs to the graph before it. Detach before the step.",
            _one_step_late,
        ),
        Mistake("Your chunks have k + 1 steps: one too many.", _one_step_more),
        Mistake(
            "You take only the last loss of each chunk. Every step has a loss; add all of them.",
            _last_loss_of_each_chunk,
        ),
        Mistake("You divide by the number of steps. The losses of the steps are added.", _mean_over_steps),
        Mistake("You divide by the number of chunks. The losses of the steps are added.", _mean_over_chunks),
        Mistake(
            "You take the mean over k in each chunk. The losses of the steps are added.", _mean_in_chunks
        ),
        Mistake(
            "You take the mean over the steps of each chunk. The losses of the steps are added.",
            _mean_of_each_chunk,
        ),
        Mistake(
            "You divide by the number of sequences. step_loss takes whatever average it wants; its losses are added.",
            _mean_over_sequences,
        ),
        Mistake(
            "Your loss is right, but your gradients are averages over the chunks. They are added, like the losses.",
            _only_gradients_averaged,
        ),
        Mistake(
            "Your gradients are right, but your loss is the mean over the steps. Return the sum.",
            _only_loss_averaged,
        ),
        Mistake("Your chunks have k - 1 steps: one too few.", _one_too_few),
        Mistake(
            "Your results are right, but you change the .grad of the parameters, which belong to the caller. Use "
            "torch.autograd.grad, or leaves of your own.",
            _callers_grad_used,
        ),
        Mistake(
            "You look back k steps from every single loss. Here the sequence is divided into chunks, and the gradient is cut only "
            "between them.",
            _looks_back_from_every_step,
        ),
        Mistake(
            "Your second call contains the gradients of the first: .grad adds up, and the parameters belong to the caller. Use "
            "torch.autograd.grad, or leaves of your own.",
            _grad_not_cleared,
        ),
        Mistake(
            "You run the sequence twice, once for the loss and once for the gradient. One run gives both.",
            _forward_first,
            recognise=_called_twice_per_step,
        ),
        Mistake(
            "The loss that you return still holds a graph, and with it every step in memory. Add up numbers: loss.item() or "
            "loss.detach().",
            _graph_returned,
        ),
        Mistake(
            "You change the parameters after each chunk. That is the optimiser's business; here the gradients are added up.",
            _steps_of_descent,
        ),
    ),
    returns=("the loss", "the gradients"),
)
