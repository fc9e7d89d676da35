"""Nests of inputs: mappings, lists and tuples with tensors in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nest with ``change`` applied to its tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def map_floats(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nest with ``change`` applied to its floating-point tensors."""
    return map_tensors(value, lambda tensor: change(tensor) if tensor.dtype.is_floating_point else tensor)
