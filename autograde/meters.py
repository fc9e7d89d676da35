"""Meters that are deterministic and run on a CPU: memory that is allocated, operators that are called.

Both are read in the process of the implementation that they measure. Somebody who tries can escape them (by leaving
the mode, by working in another thread or in NumPy); the documentation for instructors says so.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Memory:
    """Bytes of storage that a call allocated beyond what it was given."""

    largest: int
    """The largest single allocation."""
    peak: int
    """The most that was alive at one moment."""
    saved: int
    """What is still alive after the call, besides its result: what is kept for the backward pass."""


class AllocationMeter(TorchDispatchMode):
    """Keeps a weak reference to every new storage, and so knows the largest, the peak and what is still alive.

    Storages, not outputs, are counted: ``expand`` and other views allocate nothing. ``given`` are tensors that were
    there before.
    """

    def __init__(self, given: list[Tensor] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {StorageWeakRef(t.untyped_storage()).cdata for t in given or []}
        self._given = given or []  # kept alive, so that no new storage takes over an address
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._at_most = 0
        """At least what is alive: what was, when it was last counted, and all that is new since then."""
        self._froze = False
        self.largest = 0
        self.peak = 0

    def __enter__(self) -> Self:
        self._froze = gc.get_freeze_count() == 0
        if self._froze:  # a collection while it measures looks only at what is new, and takes no time
            gc.freeze()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        if self._froze:
            gc.unfreeze()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
                self._note(leaf)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        ref = StorageWeakRef(storage)
        if ref.cdata in self._known:
            return
        size = storage.nbytes()
        self._at_most += size  # a storage that is seen twice counts twice, until all are counted again
        self._alive[ref.cdata] = (ref, size)
        self.largest = max(self.largest, size)
        if self._at_most > self.peak:
            self.peak = max(self.peak, self.alive())

    def alive(self, besides: list[Tensor] | None = None) -> int:
        """Bytes that are alive now, not counting the storages of ``besides``."""
        skip = {StorageWeakRef(t.untyped_storage()).cdata for t in besides or []}
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self._at_most = sum(size for _, size in self._alive.values())
        return sum(size for key, (_, size) in self._alive.items() if key not in skip)


def measure_memory(call: Callable[[], Any], given: list[Tensor]) -> tuple[Any, Memory]:
    """Run ``call`` and measure it.

    Args:
        call: a function without arguments.
        given: the tensors that it works on; they do not count.

    Returns:
        What ``call`` returned, and the measurement in bytes.
    """
    with AllocationMeter(given) as meter:
        result = call()
        gc.collect()  # what only a cycle keeps alive (a recursive inner function) is not saved for backward
        saved = meter.alive(besides=[t for t in tree_leaves(result) if isinstance(t, Tensor)])
    return result, Memory(meter.largest, meter.peak, saved)


def _short(name: str) -> str:
    """``rnn_tanh`` for ``aten::rnn_tanh.input`` and for ``torch.rnn_tanh``."""
    return name.rsplit("::", 1)[-1].split(".")[0] if "::" in name else name.rsplit(".", 1)[-1]


def _function_name(func: Any) -> str:
    if isinstance(func, torch._ops.OpOverload):  # its __name__ is "rnn_tanh.input"
        return _short(func.name())
    return _short(getattr(func, "__name__", None) or str(func))


class _FunctionWatch(TorchFunctionMode):
    def __init__(self, called: set[str]) -> None:
        super().__init__()
        self._called = called

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._called.add(_function_name(func))
        return func(*args, **(kwargs or {}))


class _DispatchWatch(TorchDispatchMode):
    def __init__(self, called: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._called = called

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._called.add(_short(func.name()))
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def operators_called(found: set[str], watch: tuple[str, ...]) -> Iterator[None]:
    """Adds to ``found`` those operators of ``watch`` that are called inside, by their short names.

    Two modes are needed: the function mode sees what is called from Python before it is decomposed
    (``rnn_tanh``), the dispatch mode sees what a library function calls below (a fused attention kernel).
    """
    if not watch:
        yield
        return
    called: set[str] = set()
    try:
        with _FunctionWatch(called), _DispatchWatch(called):
            yield
    finally:
        found.update(called.intersection(watch))
