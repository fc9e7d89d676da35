"""A meter for the exercises of rnn/02_bptt: how much is computed, and whether autograd computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_INNER = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
"""Products of matrices, and which argument's last dimension is summed over."""


class Work(TorchDispatchMode):
    """Counts multiplications: numbers made by each operator, times the terms that are summed for each in a product.

    ``by_autograd`` counts the operators that run inside a backward pass of autograd, or in its forward mode.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiplications = 0
        self.by_autograd = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        forward_mode = torch.autograd.forward_ad._current_level >= 0
        self.by_autograd += forward_mode or torch._C._current_graph_task_id() != -1
        if not func.is_view:
            position = _INNER.get(func.name().removeprefix("aten::").split(".")[0])
            terms = 1 if position is None else args[position].shape[-1]
            made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
            self.multiplications += terms * sum(leaf.numel() for leaf in made if leaf.is_floating_point())
        return out


def work(call: Callable[[], Any]) -> tuple[Any, Work]:
    """What ``call`` returns, and the work that it was."""
    with Work() as meter:
        result = call()
    return result, meter


def within(done: int, enough: float) -> int:
    """An amount of work, or what is enough where less was done.

    Right answers do different amounts of work. Seen through this they show the same, so that a known mistake is
    recognised by its values, however it is written.
    """
    return max(done, int(enough))
