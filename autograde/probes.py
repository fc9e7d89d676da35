"""The probes that most requirements use.

A probe is a function ``probe(implementation, inputs) -> observed``. It runs where the implementation runs, also in
another process, so it holds no reference and no expected value. A topic's own probes stand beside its exercises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from autograde.meters import measure_memory
from autograde.nests import map_floats
from autograde.observe import CHANGED, Implementation, Inputs, Probe, changed_inputs, copy_inputs

PROJECTION_SEED = 20_240


def outputs(implementation: Implementation, inputs: Inputs) -> Any:
    """What the implementation returns for the inputs, handed over in their order."""
    return implementation(*inputs.values())


@dataclass(frozen=True)
class Gradients:
    """The result of ``of``, and the gradients of a random projection of it.

    Every floating-point tensor among the inputs gets a gradient. The projection is a fixed random vector per output
    tensor, so that one backward pass sees every element of the Jacobian with probability one.

    Observes ``{"value": result, "gradient of NAME": tensor or None, ..., CHANGED: names of inputs}``; the last because the
    implementation gets copies through which gradients flow, and changes those.
    """

    of: Probe = outputs

    def __call__(self, implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
        leaves: dict[str, Tensor] = {}
        tracked = _track(inputs, "", leaves)
        value = self.of(implementation, tracked)
        projected = project(value)
        if projected is None or not projected.requires_grad:
            found: tuple[Tensor | None, ...] = (None,) * len(leaves)
        else:
            found = torch.autograd.grad(projected, list(leaves.values()), allow_unused=True)
        names = (f"gradient of {name}" for name in leaves)
        changed = ", ".join(changed_inputs(inputs, tracked))
        return {"value": value, **dict(zip(names, found, strict=True)), CHANGED: changed}


def project(value: Any) -> Tensor | None:
    """The sum over all floating-point tensors in ``value`` of their inner products with fixed random tensors."""
    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    total = None
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.dtype.is_floating_point:
            direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
            term = (leaf * direction.to(leaf)).sum()
            total = term if total is None else total + term
    return total


def _track(value: Any, name: str, leaves: dict[str, Tensor]) -> Any:
    """``value`` with each floating-point tensor replaced by a non-leaf copy that tracks gradients.

    A leaf that requires gradients raises on in-place operations, which would hide an in-place change behind another
    message; a copy of one does not.
    """
    if isinstance(value, Tensor) and value.dtype.is_floating_point:
        leaf = value.detach().requires_grad_()
        leaves[name] = leaf
        return copy_strides(leaf)
    if isinstance(value, Mapping):
        return {
            key: _track(item, f"{name}[{key!r}]" if name else str(key), leaves) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_track(item, f"{name}[{i}]", leaves) for i, item in enumerate(value))
    return value


def copy_strides(leaf: Tensor) -> Tensor:
    """A copy with the same strides through which gradients flow back to ``leaf``."""
    if 0 in leaf.stride() and leaf.numel():
        return leaf * 1
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=leaf.device).copy_(leaf)


@dataclass(frozen=True)
class Allocations:
    """The result of ``of``, with what it allocated.

    Observes ``{"value": result, "largest allocation": bytes, "peak memory": bytes, "saved for backward": bytes}``;
    gradients are tracked, so that what is saved for the backward pass is seen.
    """

    of: Probe = outputs
    track_gradients: bool = True

    def __call__(self, implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
        leaves: dict[str, Tensor] = {}
        own = _track(inputs, "", leaves) if self.track_gradients else copy_inputs(inputs)
        given = [leaf for leaf in tree_leaves((own, leaves)) if isinstance(leaf, Tensor)]
        value, memory = measure_memory(lambda: self.of(implementation, own), given)
        return {
            "value": value,
            "largest allocation": memory.largest,
            "peak memory": memory.peak,
            "saved for backward": memory.saved,
        }


def twice(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The results of two calls, looked at after both: the second one gets the inputs with the opposite sign.

    An implementation that writes into a buffer of its own, or remembers an earlier result, shows it here.
    """
    opposite = map_floats(inputs, lambda tensor: -tensor)
    first, second = implementation(*inputs.values()), implementation(*opposite.values())
    return {"the first result": first, "the second result": second}


def inputs_unchanged(implementation: Implementation, inputs: Inputs) -> tuple[()]:
    """Calls the implementation and observes nothing of its result: every probe notes changed inputs anyway."""
    implementation(*inputs.values())
    return ()


gradients = Gradients()
allocations = Allocations()
