"""The exercise ``ddim_sample`` of the lesson ddim/03_sampler.

The model and the step are toys that depend on everything that they get, so that only the loop is looked at.
"""

from __future__ import annotations

import math
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
Step = Callable[[Tensor, Tensor, float, float, float, Tensor], Tensor]


class Toy:
    """A model and a step that note what they get."""

    def __init__(self, inputs: Inputs) -> None:
        self.U, self.T = inputs["U"], len(inputs["ab"])
        self.times: list[Tensor] = []
        self.levels: list[float] = []

    def model(self, x: Tensor, t: Tensor) -> Tensor:
        """A noise that depends on x and t. That t is one time for each picture is looked at where calls are counted."""
        given = torch.as_tensor(t)
        self.times.append(given.detach().clone())
        times = given.expand(len(x))
        return torch.sin(x @ self.U + (3.0 * times.to(x.dtype) / self.T)[:, None])

    def step(self, x: Tensor, eps: Tensor, ab_t: float, ab_s: float, eta: float, noise: Tensor) -> Tensor:
        """A contraction that depends on all six."""
        self.levels += [float(ab_t), float(ab_s)]
        a, b = float(ab_t), float(ab_s)
        return (
            0.8 * torch.cos(x * (1 - 0.3 * a))
            + 0.3 * (b - a) * eps
            + 0.2 * b * x
            + eta * math.sqrt(1 - a) * noise
        )

    def told(self) -> Tensor:
        """What the model got for t, one row for each call; a flat tensor where not every call got one time for each picture."""
        if len({tuple(t.shape) for t in self.times}) == 1:
            return torch.stack(self.times)
        return torch.cat([t.reshape(-1) for t in self.times]) if self.times else torch.zeros(0)


def _call(implementation: Implementation, toy: Toy, inputs: Inputs) -> Any:
    given = {**inputs, "ab": inputs["ab"].detach()}  # levels are handed on as floats, which carry no gradient
    return implementation(
        lambda x, t: toy.model(x, t),
        lambda x, eps, ab_t, ab_s, eta, noise: toy.step(x, eps, ab_t, ab_s, eta, noise),
        *(given[name] for name in ("x_T", "times", "ab", "eta", "noise")),
    )


def sampled(implementation: Implementation, inputs: Inputs) -> Any:
    """The samples."""
    return _call(implementation, Toy(inputs), inputs)


def asked(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The samples, the calls of the model, and the times that it gets."""
    toy = Toy(inputs)
    value = _call(implementation, toy, inputs)
    return {"calls of the model": len(toy.times), "times that the model gets": toy.told(), "value": value}


def _batch(batch: int, dim: int, T: int, times: tuple[int, ...], eta: float) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x_T": source.normal(batch, dim),
            "times": torch.tensor(times),
            "ab": levels(source, T),
            "eta": eta,
            "noise": source.normal(len(times), batch, dim),
            "U": source.normal(dim, dim, scale=dim**-0.5),
        }

    return draw


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(
        _batch(5, 4, 20, (19, 9, 3), 0.5)(source), lambda tensor: tensor.double() / 1.1
    )
    return drawn


def _bright(source: Draw) -> Inputs:
    """Values far beyond 1, which a clipped answer loses."""
    drawn = _batch(4, 3, 20, (19, 12, 6), 0.9)(source)
    return {**drawn, "x_T": 30 * drawn["x_T"], "noise": 30 * drawn["noise"]}


def _strided(source: Draw) -> Inputs:
    drawn = _batch(6, 4, 20, (19, 12, 4, 0), 0.7)(source)
    return {**drawn, "x_T": source.normal(4, 6).t(), "noise": source.normal(8, 6, 4)[::2]}


def _loop(
    model: Model,
    step: Step,
    x_T: Tensor,
    times: Tensor,
    ab: Tensor,
    eta: float,
    noise: Tensor,
    *,
    tell: str = "time",
    start: str = "t",
    end: str = "clean",
    fresh: str = "each",
    order: str = "down",
    ask: str = "once",
    detach: bool = False,
    clip: bool = False,
) -> Tensor:
    """The loop, with switches for what goes wrong."""
    T, S = len(ab), len(times)
    schedule = times.tolist() if order == "down" else times.tolist()[::-1]
    x, eps = x_T, None
    for k, t in enumerate(schedule):
        following = schedule[k + 1] if k + 1 < S else None
        told = {
            "time": t,
            "index": k,
            "position": S - 1 - k,
            "next": following if following is not None else 0,
            "fraction": t / T,
            "level": float(ab[t]),
            "one more": t + 1,
        }[tell]
        if eps is None or ask != "first":
            eps = model(x.detach() if detach else x, torch.full((len(x),), told, device=x.device))
        if ask == "twice":
            eps = model(x, torch.full((len(x),), told, device=x.device))
        a = {"t": float(ab[t]), "before": float(ab[t - 1]) if t else 1.0, "index": float(ab[k])}[start]
        last = {"clean": 1.0, "lowest": float(ab[0]), "wraps": float(ab[-1]), "first": float(ab[schedule[0]])}
        if end == "neighbour":
            b = float(ab[t - 1]) if t > 0 else 1.0
        elif end == "stops":
            if following is None:
                return x
            b = float(ab[following])
        else:
            b = float(ab[following]) if following is not None else last[end]
        z = {
            "each": noise[k],
            "first": noise[0],
            "reversed": noise[S - 1 - k],
            "none": torch.zeros_like(x),
            "not at the end": noise[k] if following is not None else torch.zeros_like(x),
            "own": torch.randn_like(x),
            "late": noise[min(k + 1, S - 1)],
        }[fresh]
        x = step(x, eps, a, b, eta, z)
        x = x.clamp(-1, 1) if clip else x
    return x


def _index_for_time(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, tell="index")


def _position_for_time(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, tell="position")


def _next_time_told(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, tell="next")


def _fraction_told(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, tell="fraction")


def _level_told(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, tell="level")


def _one_more_told(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, tell="one more")


def _ends_at_lowest(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, end="lowest")


def _wraps_round(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, end="wraps")


def _one_step_short(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, end="stops")


def _neighbour_for_next(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, end="neighbour")


def _level_before(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, start="before")


def _level_of_index(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, start="index")


def _upwards(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, order="up")


def _one_noise(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, fresh="first")


def _noise_reversed(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, fresh="reversed")


def _noise_late(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, fresh="late")


def _no_noise(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, 0.0, noise)


def _always_one(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, 1.0, noise)


def _own_noise(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, fresh="own")


def _asked_first_only(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, ask="first")


def _asked_twice(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, ask="twice")


def _all_times(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    every = torch.arange(len(ab), device=times.device).flip(0)
    more = noise[torch.arange(len(ab)) % len(noise)]
    return _loop(model, step, x_T, every, ab, eta, more)


def _clipped(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, clip=True)


def _detached(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, detach=True)


def _one_number(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(lambda x, t: model(x, t[0]), step, x_T, times, ab, eta, noise)


def _one_by_one(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    rows = [_loop(model, step, x_T[i : i + 1], times, ab, eta, noise[:, i : i + 1]) for i in range(len(x_T))]
    return torch.cat(rows)


def _no_noise_at_the_end(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab, eta, noise, fresh="not at the end")


def _times_as_floats(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(lambda x, t: model(x, t.float()), step, x_T, times, ab, eta, noise)


def _levels_exchanged(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, lambda x, e, a, b, h, z: step(x, e, b, a, h, z), x_T, times, ab, eta, noise)


def _roots_handed_on(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times, ab.sqrt(), eta, noise)


def _first_time_left_out(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return _loop(model, step, x_T, times[1:], ab, eta, noise[1:]) if len(times) > 1 else x_T


def _without_gradients(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    with torch.no_grad():
        return _loop(model, step, x_T, times, ab, eta, noise)


def _in_place(
    model: Model, step: Step, x_T: Tensor, times: Tensor, ab: Tensor, eta: float, noise: Tensor
) -> Tensor:
    return x_T.copy_(_loop(model, step, x_T.clone(), times, ab, eta, noise))


def _called_twice_per_step(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Twice as many calls as times, in every case that was counted."""
    seen = [one for (name, _), one in observed.items() if name == _COUNTED and one.raised is None]
    found = [(one.value["calls of the model"], one.value["times that the model gets"].data) for one in seen]
    return bool(found) and all(
        calls == 2 * len(times.unique()) and torch.equal(times[0], times[1]) for calls, times in found
    )


def _one_number_told(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """The right times, but one number in each call."""
    seen = [one for (name, _), one in observed.items() if name == _COUNTED and one.raised is None]
    told = [one.value["times that the model gets"].data for one in seen]
    calls = [one.value["calls of the model"] for one in seen]
    return bool(told) and all(
        t.dtype == torch.int64 and t[0].numel() == 1 and len(t) == n == len(t.unique())
        for t, n in zip(told, calls, strict=True)
    )


def _picture_by_picture(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """More calls than times, each for one picture."""
    seen = [one for (name, _), one in observed.items() if name == _COUNTED and one.raised is None]
    found = [(one.value["calls of the model"], one.value["times that the model gets"].data) for one in seen]
    return bool(found) and all(
        t.dim() == 2 and t.shape[1] == 1 and calls > len(t.unique()) for calls, t in found
    )


_COUNTED = "asks the model once per time, for the right time"

ddim_sample = Exercise(
    reference.ddim_sample,
    requirements=(
        Requirement(
            "runs down the schedule to the clean picture",
            (
                Case("4 pictures, 5 of 20 times", _batch(4, 3, 20, (19, 14, 9, 4, 0), 0.5)),
                Case("a single time", _batch(3, 4, 20, (19,), 1.0)),
                Case("times that are not evenly spaced", _batch(5, 5, 30, (29, 11, 10, 2), 0.3)),
                Case("a batch of one, eta = 0", _batch(1, 6, 20, (19, 12, 5, 0), 0.0)),
                Case("all times of a schedule", _batch(3, 2, 6, (5, 4, 3, 2, 1, 0), 1.0)),
                Case("pictures in float64", _in_double),
                Case("values far beyond 1", _bright),
                Case("7 pictures, 6 of 40 times", _batch(7, 2, 40, (39, 30, 21, 12, 5, 1), 0.8), shown=False),
            ),
            sampled,
            points=2,
        ),
        Requirement(
            _COUNTED,
            (
                Case("5 of 20 times, calls", _batch(4, 3, 20, (19, 14, 9, 4, 1), 0.5)),
                Case("7 of 50 times, calls", _batch(2, 3, 50, (49, 40, 31, 24, 17, 6, 2), 0.2), shown=False),
            ),
            asked,
            bounds={
                "calls of the model": Bound(
                    most=lambda inputs: len(inputs["times"]),
                    unit="calls of the model",
                    why="The number of calls is the cost of a sample: one for each time of the schedule.",
                    naive=lambda inputs: len(inputs["ab"]),
                )
            },
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 3 steps", _batch(3, 4, 20, (19, 9, 3), 0.5)),
                Case("gradients, inputs that are not contiguous", _strided),
            ),
            Gradients(sampled),
        ),
    ),
    mistakes=(
        Mistake(
            "The model gets the index k in the schedule. It was trained on times: hand it times[k].",
            _index_for_time,
        ),
        Mistake(
            "The model gets the position S - 1 - k. It was trained on times of the long schedule: hand it times[k].",
            _position_for_time,
        ),
        Mistake(
            "The model gets the time where the step ends. x is at the time where it starts.", _next_time_told
        ),
        Mistake("The model gets t / T. It wants the time t, as whole numbers.", _fraction_told),
        Mistake("The model gets alpha-bar. It wants the time t, as whole numbers.", _level_told),
        Mistake("The model gets t + 1. It wants the time t at which x is.", _one_more_told),
        Mistake(
            "Your last step ends at ab[0], where a little noise is left. It has to end at alpha-bar = 1.",
            _ends_at_lowest,
        ),
        Mistake(
            "Your last step ends at ab[-1], which is pure noise. It has to end at alpha-bar = 1.",
            _wraps_round,
        ),
        Mistake(
            "The last step is missing: you stop at the last of the times. One more step ends at alpha-bar = 1.",
            _one_step_short,
        ),
        Mistake(
            "Each step ends at t - 1 of the long schedule. It has to end at the next time of the short one.",
            _neighbour_for_next,
        ),
        Mistake("Your steps start from ab[t - 1]. x is at time t: start from ab[t].", _level_before),
        Mistake(
            "Your steps start from ab[k] with the index k. Look up ab at the time times[k].", _level_of_index
        ),
        Mistake("You run through the schedule upwards. Start with the noisiest time, times[0].", _upwards),
        Mistake("You use noise[0] in every step. Step k gets noise[k].", _one_noise),
        Mistake(
            "You hand out the noise in reverse. Step k gets noise[k], counted from the start.",
            _noise_reversed,
        ),
        Mistake("You hand out the noise one step late. Step k gets noise[k].", _noise_late),
        Mistake("You hand eta = 0 to the step. Hand on the eta that comes in.", _no_noise),
        Mistake("You hand eta = 1 to the step. Hand on the eta that comes in.", _always_one),
        Mistake("You draw noise of your own. Use the noise that comes in, noise[k] for step k.", _own_noise),
        Mistake(
            "You ask the model once, before the loop. Its noise changes with x and t: ask in every step.",
            _asked_first_only,
        ),
        Mistake(
            "You call the model twice per step. One call is enough; keep its result.",
            _asked_twice,
            recognise=_called_twice_per_step,
        ),
        Mistake("You run through all T times. Only those in times are to be visited.", _all_times),
        Mistake("You clip x to [-1, 1] after each step. A noisy picture is larger than that.", _clipped),
        Mistake("The values are right, but the model gets a detached x, and gradients are lost.", _detached),
        Mistake("You write the samples into x_T. The caller still needs that noise.", _in_place),
        Mistake(
            "You hand the model one number for t. It wants a time for each picture: t.expand(len(x)).",
            _one_number,
            recognise=_one_number_told,
        ),
        Mistake(
            "You run the loop for one picture at a time. Hand the model the whole batch at once.",
            _one_by_one,
            recognise=_picture_by_picture,
        ),
        Mistake(
            "You leave the noise out of the last step. Hand on noise[k] and eta always: the step itself adds none at alpha-bar = 1.",
            _no_noise_at_the_end,
        ),
        Mistake(
            "The model gets times as floats. It wants whole numbers, int64: hand them on as they are.",
            _times_as_floats,
        ),
        Mistake(
            "You exchanged the two levels: a step goes from where x is to the next, cleaner level.",
            _levels_exchanged,
        ),
        Mistake(
            "You hand roots of alpha-bar to the step. It takes alpha-bar, and takes the roots itself.",
            _roots_handed_on,
        ),
        Mistake(
            "You leave out the first step. x_T is at times[0]: ask the model there.", _first_time_left_out
        ),
        Mistake(
            "The values are right, but you switched gradients off inside. Leave that to the caller.",
            _without_gradients,
        ),
    ),
)
