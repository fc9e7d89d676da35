"""Modes of torch that a notebook has entered and not left: they must neither see nor change what is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import overrides
from torch.utils import _python_dispatch


@contextlib.contextmanager
def no_modes() -> Iterator[None]:
    """Inside, no mode is active; those that were are active again afterwards.

    A mode below a meter's could replace an operator by another one, which the meter then does not see.
    """
    with contextlib.ExitStack() as stack:
        while torch._C._len_torch_function_stack():
            stack.enter_context(overrides._pop_mode_temporarily())
        while torch._C._len_torch_dispatch_stack():
            stack.enter_context(_python_dispatch._pop_mode_temporarily())
        yield


def entered() -> str:
    """One sentence when a mode is active that was not there inside ``no_modes``."""
    left = torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack()
    return "A mode of torch was entered while it was looked at, and not left." if left else ""
