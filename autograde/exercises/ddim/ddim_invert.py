"""The exercise ``ddim_invert`` of the lesson ddim/04_quality_inversion.

The model and the step are toys that depend on everything that they get, so that only the loop is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import levels
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation
from autograde.probes import Gradients
from utils.reference import ddim as reference

Model = Callable[[Tensor, Tensor], Tensor]
Level = Callable[[Tensor, Tensor, float, float], Tensor]


class Toy:
    """A model and a step without noise; the model notes its times."""

    def __init__(self, inputs: Inputs) -> None:
        self.U, self.T = inputs["U"], len(inputs["ab"])
        self.times: list[Tensor] = []

    def model(self, x: Tensor, t: Tensor) -> Tensor:
        """A noise that depends on x and t. That t is one time for each picture is looked at where calls are counted."""
        given = torch.as_tensor(t)
        self.times.append(given.detach().clone())
        times = given.expand(len(x))
        return torch.sin(x @ self.U + (3.0 * times.to(x.dtype) / self.T)[:, None])

    def step(self, x: Tensor, eps: Tensor, ab_t: float, ab_s: float) -> Tensor:
        """A contraction that depends on all four."""
        a, b = float(ab_t), float(ab_s)
        return 0.8 * torch.cos(x * (1 - 0.3 * a)) + 0.4 * (b - a) * eps + 0.2 * b * x

    def told(self) -> Tensor:
        """What the model got for t, one row for each call; a flat tensor where not every call got one time for each picture."""
        if len({tuple(t.shape) for t in self.times}) == 1:
            return torch.stack(self.times)
        return torch.cat([t.reshape(-1) for t in self.times]) if self.times else torch.zeros(0)


def _call(implementation: Implementation, toy: Toy, inputs: Inputs) -> Any:
    given = {**inputs, "ab": inputs["ab"].detach()}  # levels are handed on as floats, which carry no gradient
    return implementation(
        lambda x, t: toy.model(x, t),
        lambda x, eps, ab_t, ab_s: toy.step(x, eps, ab_t, ab_s),
        *(given[name] for name in ("x0", "times", "ab")),
    )


def inverted(implementation: Implementation, inputs: Inputs) -> Any:
    """The noise."""
    return _call(implementation, Toy(inputs), inputs)


def asked(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The noise, the calls of the model, and the times that it gets."""
    toy = Toy(inputs)
    value = _call(implementation, toy, inputs)
    return {"calls of the model": len(toy.times), "times that the model gets": toy.told(), "value": value}


def _batch(batch: int, dim: int, T: int, times: tuple[int, ...]) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x0": source.normal(batch, dim),
            "times": torch.tensor(times),
            "ab": levels(source, T),
            "U": source.normal(dim, dim, scale=dim**-0.5),
        }

    return draw


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4, 20, (19, 9, 3))(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _bright(source: Draw) -> Inputs:
    """Values far beyond 1, which a clipped answer loses. The toy step shrinks them, so a single one."""
    drawn = _batch(4, 3, 20, (4,))(source)
    return {**drawn, "x0": 60 * drawn["x0"]}


def _strided(source: Draw) -> Inputs:
    return {**_batch(6, 4, 20, (19, 12, 4, 0))(source), "x0": source.normal(4, 6).t()}


def _loop(
    model: Model,
    step: Level,
    x0: Tensor,
    times: Tensor,
    ab: Tensor,
    *,
    tell: str = "here",
    order: str = "up",
    start: str = "clean",
    stop: str = "top",
    levels: str = "right",
    detach: bool = False,
    frozen: bool = False,
) -> Tensor:
    """The loop, with switches for what goes wrong."""
    schedule = times.tolist()[::-1] if order == "up" else times.tolist()
    S = len(schedule)
    schedule = schedule[: S - 1] if stop == "short" else schedule
    x, eps = x0, None
    level = {"clean": 1.0, "lowest": float(ab[0]), "first": float(ab[schedule[0]]) if schedule else 1.0}[
        start
    ]
    now = schedule[0] if schedule else 0
    for k, t in enumerate(schedule):
        target = float(ab[t])
        told = {"here": now, "target": t, "index": k, "zero first": now if k else 0, "position": S - 1 - k}[
            tell
        ]
        if eps is None or not frozen:
            eps = model(x.detach() if detach else x, torch.full((len(x),), told, device=x.device))
        if levels == "swapped":
            x = step(x, eps, target, level)
        elif levels == "from clean":
            x = step(x, eps, 1.0, target)
        else:
            x = step(x, eps, level, target)
        level, now = target, t
    return x


def _target_told(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, tell="target")


def _index_told(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, tell="index")


def _position_told(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, tell="position")


def _zero_told_first(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, tell="zero first")


def _downwards(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, order="down")


def _starts_at_lowest(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, start="lowest")


def _starts_at_first(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, start="first")


def _one_short(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, stop="short")


def _levels_swapped(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, levels="swapped")


def _always_from_clean(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, levels="from clean")


def _asked_once(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, frozen=True)


def _all_times(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, torch.arange(len(ab)).flip(0), ab)


def _sampled_again(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    x, ends = x0, [*ab[times].tolist(), 1.0]
    for k, t in enumerate(times):
        x = step(x, model(x, t.expand(len(x))), ends[k], ends[k + 1])
    return x


def _noise_mixed_in(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    a = ab[times[0]]
    return a.sqrt() * x0 + (1 - a).sqrt() * torch.randn_like(x0)


def _detached(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab, detach=True)


def _one_number(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(lambda x, t: model(x, t[0]), step, x0, times, ab)


def _times_as_floats(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(lambda x, t: model(x, t.float()), step, x0, times, ab)


def _first_step_left_out(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    x = x0
    for k in range(len(times) - 1, 0, -1):
        x = step(x, model(x, times[k].expand(len(x))), float(ab[times[k]]), float(ab[times[k - 1]]))
    return x


def _lowest_time_always(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(lambda x, t: model(x, times[-1].expand(len(x))), step, x0, times, ab)


def _highest_told_first(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    x, level, now = x0, 1.0, times[0]
    for t in times.flip(0):
        x = step(x, model(x, now.expand(len(x))), level, float(ab[t]))
        level, now = float(ab[t]), t
    return x


def _in_one_step(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return step(x0, model(x0, times[-1].expand(len(x0))), 1.0, float(ab[times[0]]))


def _on_to_the_end(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    x = _loop(model, step, x0, times, ab)
    return step(x, model(x, times[0].expand(len(x))), float(ab[times[0]]), float(ab[-1]))


def _roots_handed_on(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return _loop(model, step, x0, times, ab.sqrt())


def _without_gradients(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    with torch.no_grad():
        return _loop(model, step, x0, times, ab)


def _in_place(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    return x0.copy_(_loop(model, step, x0.clone(), times, ab))


def _called_twice(model: Model, step: Level, x0: Tensor, times: Tensor, ab: Tensor) -> Tensor:
    def again(x: Tensor, t: Tensor) -> Tensor:
        model(x, t)
        return model(x, t)

    return _loop(again, step, x0, times, ab)


_COUNTED = "asks the model once per time, for the time at which x is"


def _twice_per_step(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Each time that the model gets comes twice in a row."""
    seen = [one for (name, _), one in observed.items() if name == _COUNTED and one.raised is None]
    times = [one.value["times that the model gets"].data for one in seen]
    return bool(times) and all(
        len(t) > 2 and torch.equal(t[::2], t[1::2]) and not torch.equal(t[1], t[-1]) for t in times
    )


def _one_number_told(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """The right times, but one number in each call."""
    seen = [one for (name, _), one in observed.items() if name == _COUNTED and one.raised is None]
    told = [one.value["times that the model gets"].data for one in seen]
    calls = [one.value["calls of the model"] for one in seen]
    return bool(told) and all(
        t.dtype == torch.int64 and t[0].numel() == 1 and len(t) == n and n == len(t.unique()) + 1
        for t, n in zip(told, calls, strict=True)
    )


ddim_invert = Exercise(
    reference.ddim_invert,
    requirements=(
        Requirement(
            "runs up the schedule to pure noise",
            (
                Case("4 pictures, 5 of 20 times", _batch(4, 3, 20, (19, 14, 9, 4, 0))),
                Case("a single time", _batch(3, 4, 20, (19,))),
                Case("times that are not evenly spaced, the lowest 2", _batch(5, 5, 30, (29, 11, 10, 2))),
                Case("a batch of one", _batch(1, 6, 20, (19, 12, 5, 0))),
                Case("pictures in float64", _in_double),
                Case("values far beyond 1", _bright),
                Case("7 pictures, 6 of 40 times", _batch(7, 2, 40, (39, 30, 21, 12, 5, 1)), shown=False),
            ),
            inverted,
            points=2,
        ),
        Requirement(
            _COUNTED,
            (
                Case("5 of 20 times, calls", _batch(4, 3, 20, (19, 14, 9, 4, 1))),
                Case("7 of 50 times, calls", _batch(2, 3, 50, (49, 40, 31, 24, 17, 6, 2)), shown=False),
            ),
            asked,
            bounds={
                "calls of the model": Bound(
                    most=lambda inputs: len(inputs["times"]),
                    unit="calls of the model",
                    why="One call for each step of the schedule.",
                    naive=lambda inputs: len(inputs["ab"]),
                )
            },
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 3 steps", _batch(3, 4, 20, (19, 9, 3))),
                Case("gradients, inputs that are not contiguous", _strided),
            ),
            Gradients(inverted),
        ),
    ),
    mistakes=(
        Mistake(
            "The model gets the time where the step ends. x is at the time where it starts.", _target_told
        ),
        Mistake("The model gets the index in the schedule. Hand it the time.", _index_told),
        Mistake("The model gets the position in the list of times. Hand it the time itself.", _position_told),
        Mistake(
            "For the first step the model gets time 0. The clean picture counts as the lowest of the times, times[-1].",
            _zero_told_first,
        ),
        Mistake(
            "You run downwards, from times[0]. The way to the noise begins at the lowest time, times[-1].",
            _downwards,
        ),
        Mistake("Your first step starts at ab[0]. The clean picture is at alpha-bar = 1.", _starts_at_lowest),
        Mistake(
            "Your first step starts at the level of the lowest time, and so does nothing. Start at alpha-bar = 1.",
            _starts_at_first,
        ),
        Mistake("The last step is missing: the noise is at times[0], the noisiest time.", _one_short),
        Mistake(
            "You exchanged the two levels: a step goes from where x is to the next, noisier level.",
            _levels_swapped,
        ),
        Mistake("Every step of yours starts at alpha-bar = 1. Only the first does.", _always_from_clean),
        Mistake("You ask the model once, before the loop. Ask it in every step.", _asked_once),
        Mistake("You visit all T times. Only those in times are to be visited.", _all_times),
        Mistake("You sample: your steps go towards less noise. Turn the order round.", _sampled_again),
        Mistake(
            "You mix random noise in. That makes one of many noisy pictures; asked is the noise that makes this one.",
            _noise_mixed_in,
        ),
        Mistake("The values are right, but the model gets a detached x, and gradients are lost.", _detached),
        Mistake("You write the noise into x0. The caller still needs the picture.", _in_place),
        Mistake(
            "You call the model twice per step. One call is enough; keep its result.",
            _called_twice,
            recognise=_twice_per_step,
        ),
        Mistake(
            "You hand the model one number for t. It wants a time for each picture: here.expand(len(x)).",
            _one_number,
            recognise=_one_number_told,
        ),
        Mistake(
            "The model gets times as floats. It wants whole numbers, int64: hand them on as they are.",
            _times_as_floats,
        ),
        Mistake(
            "The first step is missing: from the clean picture, alpha-bar = 1, to the lowest time, times[-1].",
            _first_step_left_out,
        ),
        Mistake(
            "The model gets times[-1] in every step. Hand it the time at which x is now.", _lowest_time_always
        ),
        Mistake(
            "For the first step the model gets times[0]. The clean picture counts as the lowest time, times[-1].",
            _highest_told_first,
        ),
        Mistake("You go up in one step. Visit all times, from the last to the first.", _in_one_step),
        Mistake(
            "You make a step too many: the noise is at times[0], and nothing comes after it.", _on_to_the_end
        ),
        Mistake(
            "You hand roots of alpha-bar to the step. It takes alpha-bar, and takes the roots itself.",
            _roots_handed_on,
        ),
        Mistake(
            "The values are right, but you switched gradients off inside. Leave that to the caller.",
            _without_gradients,
        ),
    ),
)
