"""Inputs that several exercises of the series draw."""

from __future__ import annotations

import torch
from torch import Tensor

from autograde.exercise import Draw


def short_betas(source: Draw, T: int) -> Tensor:
    """Rising variances between 0.02 and 0.25: alpha-bar falls to a few percent in 20 steps."""
    return torch.linspace(0.02, 0.2, T) * source.uniform(T, low=0.9, high=1.25)


def levels(source: Draw, T: int) -> Tensor:
    """alpha-bar of such a schedule."""
    return (1 - short_betas(source, T)).cumprod(0)


def number(source: Draw, low: float, high: float) -> float:
    """One number, with few enough digits to be the same in every dtype."""
    return round(low + (high - low) * source.integer(0, 1000) / 1000, 4)


def pair(source: Draw) -> tuple[float, float]:
    """alpha-bar at t and, larger, at s."""
    ab_t = number(source, 0.1, 0.5)
    return ab_t, round(ab_t + number(source, 0.1, 0.4), 4)
