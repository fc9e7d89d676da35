"""The exercise ``alpha_bar`` of the lesson ddim/01_ddpm_posterior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.ddim.inputs import short_betas
from autograde.observe import Inputs
from autograde.probes import gradients
from utils.reference import ddim as reference


def _schedule(T: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"betas": short_betas(source, T)}


def _linear(source: Draw) -> Inputs:
    return {"betas": torch.linspace(1e-4, 0.02, 1000) * source.uniform(1000, low=0.95, high=1.05)}


def _strided(source: Draw) -> Inputs:
    return {"betas": short_betas(source, 18)[::2]}


def _in_double(source: Draw) -> Inputs:
    return {"betas": short_betas(source, 7).double() / 1.1}


def _all_at_once(source: Draw) -> Inputs:
    """The last step destroys everything that is left."""
    return {"betas": torch.cat([short_betas(source, 5), torch.ones(1)])}


def _betas_multiplied(betas: Tensor) -> Tensor:
    return betas.cumprod(0)


def _alphas_alone(betas: Tensor) -> Tensor:
    return 1 - betas


def _added(betas: Tensor) -> Tensor:
    return 1 - betas.cumsum(0)


def _alphas_added(betas: Tensor) -> Tensor:
    return (1 - betas).cumsum(0)


def _exponential(betas: Tensor) -> Tensor:
    return (-betas.cumsum(0)).exp()


def _root(betas: Tensor) -> Tensor:
    return (1 - betas).cumprod(0).sqrt()


def _noise_left(betas: Tensor) -> Tensor:
    return 1 - (1 - betas).cumprod(0)


def _one_late(betas: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(betas[:1]), (1 - betas).cumprod(0)[:-1]])


def _one_more(betas: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(betas[:1]), (1 - betas).cumprod(0)])


def _from_the_end(betas: Tensor) -> Tensor:
    return (1 - betas).flip(0).cumprod(0).flip(0)


def _whole_product(betas: Tensor) -> Tensor:
    return (1 - betas).prod()


def _squared_betas(betas: Tensor) -> Tensor:
    return (1 - betas**2).cumprod(0)


def _rooted_factors(betas: Tensor) -> Tensor:
    return 1 - (1 - (1 - betas).sqrt()).cumsum(0)


def _detached(betas: Tensor) -> Tensor:
    return (1 - betas).detach().cumprod(0)


def _logarithm(betas: Tensor) -> Tensor:
    return (1 - betas).log().cumsum(0)


def _amplitude_lost(betas: Tensor) -> Tensor:
    return (1 - betas.sqrt()).cumprod(0)


def _squared_factors(betas: Tensor) -> Tensor:
    return (1 - betas).square().cumprod(0)


alpha_bar = Exercise(
    reference.alpha_bar,
    requirements=(
        Requirement(
            "the share of variance that is left",
            (
                Case("8 steps", _schedule(8)),
                Case("a single step", _schedule(1)),
                Case("every second of 18 steps", _strided),
                Case("1000 small steps", _linear),
                Case("7 steps in float64", _in_double),
                Case("a last step with beta = 1", _all_at_once),
                Case("40 steps", _schedule(40), shown=False),
            ),
            points=2,
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 6 steps", _schedule(6)),
                Case("gradients, 13 steps", _schedule(13), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake("You multiply the betas. What is left after a step is 1 - beta of it.", _betas_multiplied),
        Mistake(
            "You return alpha_t = 1 - beta_t of each step alone. alpha-bar is the product of all alphas so far.",
            _alphas_alone,
        ),
        Mistake(
            "You subtract the sum of the betas. Each step acts on what the one before has left: multiply.",
            _added,
        ),
        Mistake("You add the alphas. Each step takes a share of what is left: multiply them.", _alphas_added),
        Mistake(
            "You use exp(-sum of betas), which is close for small betas only. Multiply the factors 1 - beta.",
            _exponential,
        ),
        Mistake(
            "You took the root: that is the factor of the picture. alpha-bar is its square, a share of variance.",
            _root,
        ),
        Mistake(
            "You return the variance of the noise, 1 - alpha-bar. Return what is left of the data.",
            _noise_left,
        ),
        Mistake("Your product stops one step too early. Element 0 is already 1 - beta_0, not 1.", _one_late),
        Mistake(
            "You put a 1 in front. The result has one element per beta, beginning with 1 - beta_0.", _one_more
        ),
        Mistake("You multiply from the end. Element t is the product of the factors 0 to t.", _from_the_end),
        Mistake(
            "You return the product over all steps. Return the running product, one element per step.",
            _whole_product,
        ),
        Mistake("You squared the betas. beta is a variance already: the factor is 1 - beta.", _squared_betas),
        Mistake(
            "You subtract what each step takes from the amplitude. Multiply the factors 1 - beta, from step to step.",
            _rooted_factors,
        ),
        Mistake(
            "The values are right, but no gradient flows to betas: you detached, or left torch in between.",
            _detached,
        ),
        Mistake(
            "You return the logarithm. Take its exponential, or multiply the factors 1 - beta.", _logarithm
        ),
        Mistake(
            "You took the root of beta. beta is a variance already: the factor is 1 - beta.", _amplitude_lost
        ),
        Mistake("You squared the factors. 1 - beta is a share of variance already.", _squared_factors),
    ),
)
