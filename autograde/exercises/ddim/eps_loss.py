"""The exercise ``eps_loss`` of the lesson ddim/01_ddpm_posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import levels
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs
from autograde.probes import Gradients
from utils.reference import ddim as reference

Model = Callable[[Tensor, Tensor], Tensor]


class Toy:
    """A model that depends on everything that it gets, and notes it."""

    def __init__(self, inputs: Inputs) -> None:
        self.U, self.rate, self.T = inputs["U"], inputs["rate"], len(inputs["ab"])
        self.gain = float(inputs.get("gain", 1.0))
        self.times: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.times.append(torch.as_tensor(t).detach().clone())
        return self.gain * torch.sin(x @ self.U + (self.rate * t.to(x.dtype) / self.T)[:, None])


def _call(implementation: Implementation, model: Model, inputs: Inputs) -> Any:
    return implementation(model, inputs["x0"], inputs["t"], inputs["eps"], inputs["ab"])


def loss(implementation: Implementation, inputs: Inputs) -> Any:
    """The loss of the toy model."""
    return _call(implementation, Toy(inputs), inputs)


def asked(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The loss, how often the model is called, and for which times."""
    model = Toy(inputs)
    value = _call(implementation, lambda x, t: model(x, t), inputs)
    times = model.times[0] if model.times else torch.zeros(0, dtype=torch.int64)
    return {"value": value, "calls of the model": len(model.times), "times that the model gets": times}


def _batch(batch: int, dim: int, T: int = 20) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "x0": source.normal(batch, dim),
            "t": source.integers(batch, low=1, high=T - 2),
            "eps": source.normal(batch, dim),
            "ab": levels(source, T),
            "U": source.normal(dim, dim, scale=dim**-0.5),
            "rate": source.uniform(low=2, high=5),
        }

    return draw


def _strided(source: Draw) -> Inputs:
    return {**_batch(6, 4)(source), "x0": source.normal(4, 6).t(), "eps": source.normal(12, 4)[::2]}


def _in_double(source: Draw) -> Inputs:
    drawn: Inputs = map_floats(_batch(5, 4)(source), lambda tensor: tensor.double() / 1.1)
    return drawn


def _bright(source: Draw) -> Inputs:
    """A model that is not trained yet may predict values far beyond 1."""
    return {**_batch(4, 3)(source), "gain": 30.0}


def _noisy(x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return ab[t].sqrt()[:, None] * x0 + (1 - ab[t]).sqrt()[:, None] * eps


def _error(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return model(_noisy(x0, t, eps, ab), t) - eps


def _clipped(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t).clamp(-4, 4) - eps).square().mean()


def _summed(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).square().sum()


def _summed_over_dim(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).square().sum(1).mean()


def _absolute(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).abs().mean()


def _rooted(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).square().mean().sqrt()


def _halved(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return 0.5 * _error(model, x0, t, eps, ab).square().mean()


def _not_averaged(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).square()


def _norms(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    norms: Tensor = _error(model, x0, t, eps, ab).norm(dim=1)
    return norms.mean()


def _picture_as_target(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t) - x0).square().mean()


def _noisy_as_target(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    xt = _noisy(x0, t, eps, ab)
    return (model(xt, t) - xt).square().mean()


def _scaled_noise_as_target(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t) - (1 - ab[t]).sqrt()[:, None] * eps).square().mean()


def _clean_to_the_model(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(x0, t) - eps).square().mean()


def _noise_to_the_model(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(eps, t) - eps).square().mean()


def _no_roots(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(ab[t][:, None] * x0 + (1 - ab[t])[:, None] * eps, t) - eps).square().mean()


def _level_for_time(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), ab[t]) - eps).square().mean()


def _time_as_fraction(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t / len(ab)) - eps).square().mean()


def _one_late(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t + 1) - eps).square().mean()


def _own_noise(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    drawn = torch.randn_like(eps)
    return (model(_noisy(x0, t, drawn, ab), t) - drawn).square().mean()


def _weighted(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    weight = ab[t] / (1 - ab[t])
    return (weight[:, None] * _error(model, x0, t, eps, ab).square()).mean()


def _detached(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t).detach() - eps).square().mean()


def _called_twice(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    xt = _noisy(x0, t, eps, ab)
    model(xt, t)
    return (model(xt, t) - eps).square().mean()


def _one_by_one(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    xt = _noisy(x0, t, eps, ab)
    rows = [model(xt[k : k + 1], t[k : k + 1]) for k in range(len(xt))]
    return (torch.cat(rows) - eps).square().mean()


def _picture_and_noise_exchanged(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(eps, t, x0, ab), t) - eps).square().mean()


def _variance_of_error(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).var(correction=0)


def _mean_before_square(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return _error(model, x0, t, eps, ab).mean().square()


def _first_time_for_all(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> Tensor:
    return (model(_noisy(x0, t, eps, ab), t[:1].expand(len(t))) - eps).square().mean()


def _number_returned(model: Model, x0: Tensor, t: Tensor, eps: Tensor, ab: Tensor) -> float:
    return _error(model, x0, t, eps, ab).square().mean().item()


def _calls(observed: Any) -> list[tuple[int, int]]:
    """For each case in which calls are counted: how many, and of how many pictures the first."""
    return [
        (one.value["calls of the model"], len(one.value["times that the model gets"].data))
        for (name, _), one in observed.items()
        if name == "asks the model once" and one.raised is None
    ]


def _twice_called(observed: Any) -> bool:
    return bool(_calls(observed)) and all(calls == 2 and many > 1 for calls, many in _calls(observed))


def _called_one_by_one(observed: Any) -> bool:
    return bool(_calls(observed)) and all(calls > 2 and many == 1 for calls, many in _calls(observed))


eps_loss = Exercise(
    reference.eps_loss,
    requirements=(
        Requirement(
            "the mean squared error of the noise",
            (
                Case("4 pictures of 3 numbers", _batch(4, 3)),
                Case("as many pictures as numbers in each", _batch(5, 5)),
                Case("a batch of one", _batch(1, 6)),
                Case("pictures in float64", _in_double),
                Case("predictions far beyond 1", _bright),
                Case("9 pictures of 2 numbers", _batch(9, 2), shown=False),
            ),
            loss,
            points=2,
        ),
        Requirement(
            "asks the model once",
            (
                Case("5 pictures, calls and times", _batch(5, 3)),
                Case("8 pictures, calls and times", _batch(8, 2), shown=False),
            ),
            asked,
            bounds={
                "calls of the model": Bound(
                    most=lambda inputs: 1,
                    unit="calls of the model",
                    why="Training pays for every call: hand over the whole batch once.",
                    naive=lambda inputs: len(inputs["x0"]),
                )
            },
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, also to the weights of the model", _batch(4, 3)),
                Case("gradients, inputs that are not contiguous", _strided),
                Case("gradients, 7 pictures", _batch(7, 5), shown=False),
            ),
            Gradients(loss),
        ),
    ),
    mistakes=(
        Mistake("You add the squares. Take their mean, over pictures and numbers.", _summed),
        Mistake(
            "You add over the numbers of a picture and average over pictures. Here everything is averaged.",
            _summed_over_dim,
        ),
        Mistake("You take absolute values. The loss of a Gaussian is the squared error.", _absolute),
        Mistake("You take the root of the mean square. The loss is the mean square itself.", _rooted),
        Mistake("Your loss is half of the mean squared error. Leave the factor out.", _halved),
        Mistake("You return one number per element. Take the mean over all of them.", _not_averaged),
        Mistake("You average lengths of the errors. Average their squares, element by element.", _norms),
        Mistake(
            "You compare the prediction with the picture x0. This model predicts the noise: compare with eps.",
            _picture_as_target,
        ),
        Mistake(
            "You compare the prediction with x_t. It has to be compared with the noise eps.", _noisy_as_target
        ),
        Mistake(
            "You compare with the noise as it is scaled in x_t. The target is eps itself, of variance 1 at every t.",
            _scaled_noise_as_target,
        ),
        Mistake("The model gets the clean picture. It has to see the noisy one, x_t.", _clean_to_the_model),
        Mistake(
            "The model gets the noise itself, and has nothing to do. It has to see x_t.", _noise_to_the_model
        ),
        Mistake("Your x_t lacks the roots: sqrt(alpha-bar_t) x0 + sqrt(1 - alpha-bar_t) eps.", _no_roots),
        Mistake("The model gets alpha-bar_t. It wants the time t, as whole numbers.", _level_for_time),
        Mistake("The model gets t / T. It wants the time t, as whole numbers.", _time_as_fraction),
        Mistake("The model gets t + 1. It wants the time t at which x_t was made.", _one_late),
        Mistake("You draw noise of your own. Use eps, which comes in.", _own_noise),
        Mistake(
            "You weight the error by alpha-bar / (1 - alpha-bar), which is the error of the picture. Here all times count alike.",
            _weighted,
        ),
        Mistake(
            "The value is right, but the prediction is detached: no gradient reaches the weights, and nothing is learned.",
            _detached,
        ),
        Mistake(
            "You call the model twice. One call gives all you need; keep its result.",
            _called_twice,
            recognise=_twice_called,
        ),
        Mistake(
            "You call the model for one picture at a time. Hand it the whole batch at once.",
            _one_by_one,
            recognise=_called_one_by_one,
        ),
        Mistake(
            "You exchanged picture and noise in x_t: sqrt(alpha-bar_t) belongs to x0.",
            _picture_and_noise_exchanged,
        ),
        Mistake(
            "You return the variance of the error, which does not see its mean. Average the squares.",
            _variance_of_error,
        ),
        Mistake(
            "You average before you square, so errors of both signs cancel. Square first.",
            _mean_before_square,
        ),
        Mistake(
            "The model gets the first time for all pictures. Hand it the whole of t.", _first_time_for_all
        ),
        Mistake(
            "You return a Python number, from which nothing can be learned. Return the tensor, without item().",
            _number_returned,
        ),
        Mistake(
            "You clip what the model predicts. Where it is far off, the loss has to say so: take the prediction as it is.",
            _clipped,
        ),
    ),
)
