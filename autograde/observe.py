"""Running a probe on an implementation, and writing down what was seen.

This is the only way in which an implementation is ever looked at. In a learner's notebook it happens in the same
process as the comparison; when a notebook is graded it happens in another one. Both get an ``Observation``.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from autograde.meters import operators_called
from autograde.values import Value, seen

Inputs = Mapping[str, Any]
Implementation = Callable[..., Any]
Probe = Callable[[Implementation, Inputs], Any]

MAX_MESSAGE = 2_000
CHANGED = "changed in place"
"""Under this key a probe that hands in copies of the inputs tells which of them were changed."""


@dataclass(frozen=True)
class Raised:
    """An exception that came out of an implementation, with the frames that its author wrote."""

    kind: str
    message: str
    frames: tuple[str, ...] = ()
    not_written: bool = False


@dataclass(frozen=True)
class Observation:
    """What one probe saw of one implementation in one case."""

    value: Value = None
    raised: Raised | None = None
    changed: tuple[str, ...] = ()
    """Names of inputs whose values are no longer what they were."""
    called: tuple[str, ...] = ()
    """Those of the watched operators that were called."""


class Stopped(Exception):
    """The implementation did not come to an end, in a process of its own.

    Attributes:
        verdict: "timeout", "oom", "output-limit", "crash", "tampered" or "malformed".
        alive: whether the process can go on.
    """

    def __init__(self, verdict: str, message: str, alive: bool) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.alive = alive


class Lost(Exception):
    """The place where an implementation ran was stopped from outside, which is not its doing."""


class Observer(Protocol):
    """Something that can look at one implementation: in this process, or in another one."""

    def __call__(self, probe: Probe, inputs: Inputs, watch: tuple[str, ...] = ()) -> Observation: ...


@dataclass(frozen=True)
class LocalObserver:
    """Looks at an implementation in this process."""

    implementation: Implementation
    quiet: bool = False

    def __call__(self, probe: Probe, inputs: Inputs, watch: tuple[str, ...] = ()) -> Observation:
        with silenced() if self.quiet else stderr_to_stdout():
            return observe(probe, self.implementation, inputs, watch)


def observe(
    probe: Probe, implementation: Implementation, inputs: Inputs, watch: tuple[str, ...] = ()
) -> Observation:
    """Run ``probe(implementation, inputs)`` and write down what happened.

    ``watch`` names operators whose calls are to be noted. Whatever the implementation raises becomes part of the
    observation; only KeyboardInterrupt passes through, so that an endless loop can be stopped.
    """
    handed_in = copy_inputs(inputs)
    called: set[str] = set()
    value, raised = None, None
    with fixed_state(), operators_called(called, watch):
        try:
            value = seen(probe(implementation, handed_in))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: an answer that leaves is an answer that failed
            raised = describe_exception(error)
    return Observation(value, raised, changed_inputs(inputs, handed_in), tuple(sorted(called)))


def copy_inputs(value: Any) -> Any:
    """A copy of a nest of inputs that keeps every tensor's strides."""
    if isinstance(value, Tensor):
        return _copy_tensor(value)
    if isinstance(value, Mapping):
        return {key: copy_inputs(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copy_inputs(item) for item in value)
    return value


def _copy_tensor(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided:
        return tensor.clone()
    if 0 in tensor.stride() and tensor.numel():
        small = tensor.detach()[tuple(slice(0, 1) if s == 0 else slice(None) for s in tensor.stride())]
        return small.clone().expand(tensor.shape).requires_grad_(tensor.requires_grad)
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor.detach()).requires_grad_(tensor.requires_grad)


def changed_inputs(before: Any, after: Any, name: str = "") -> tuple[str, ...]:
    """Names of the parts of a nest of inputs that are no longer what they were."""
    if isinstance(before, Tensor):
        return () if _same(before, after) else (name,)
    if isinstance(before, Mapping):
        if not isinstance(after, Mapping) or set(before) != set(after):
            return (name,)
        names = ((key, f"{name}[{key!r}]" if name else str(key)) for key in before)
        return tuple(
            found for key, label in names for found in changed_inputs(before[key], after[key], label)
        )
    if isinstance(before, (list, tuple)):
        if not isinstance(after, (list, tuple)) or len(before) != len(after):
            return (name,)
        pairs = enumerate(zip(before, after, strict=True))
        return tuple(found for i, (b, a) in pairs for found in changed_inputs(b, a, f"{name}[{i}]"))
    if type(before) in (bool, int, float, str, type(None)):
        return () if type(after) is type(before) and (after == before or after != after) else (name,)
    return ()


def _same(before: Tensor, after: object, equal: Callable[..., bool] = torch.equal) -> bool:
    """Whether two tensors hold the same; with the ``torch.equal`` of the start, whatever it is called later."""
    if type(after) is not type(before) or after.shape != before.shape or after.dtype != before.dtype:
        return False
    if before.dtype.is_floating_point:
        return bool(equal(before.detach().nan_to_num(7.25), after.detach().nan_to_num(7.25)))
    return bool(equal(before, after))


@contextlib.contextmanager
def fixed_state() -> Iterator[None]:
    """The same global state for every probe: gradients on, float32 as default, one seed; put back afterwards."""
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    generator, state = torch.default_generator, torch.default_generator.get_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    try:
        generator.manual_seed(0)
        with warnings.catch_warnings(), _on_the_cpu(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        generator.set_state(state)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)


def _on_the_cpu() -> contextlib.AbstractContextManager[Any]:
    """New tensors are made on the CPU. The mode that sees to it slows every call of torch, so only where it is needed."""
    default = torch.get_default_device().type == "cpu"
    return contextlib.nullcontext() if default else torch.device("cpu")


@contextlib.contextmanager
def stderr_to_stdout() -> Iterator[None]:
    """Warnings and progress bars go to stdout: nbgrader gives zero to a cell with anything on stderr."""
    with contextlib.redirect_stderr(sys.stdout):
        yield


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Nothing that is printed is shown."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def describe_exception(error: BaseException) -> Raised:
    """The exception in words, with only the frames of the person who wrote the implementation.

    The exception may be of a class that lies about itself, so everything is read past its own methods.
    """
    kind = type(error)
    try:
        message = plain_text(str.__str__(str(error))[:MAX_MESSAGE])
    except KeyboardInterrupt:
        raise
    except BaseException:
        message = ""
    try:
        frames = own_frames(BaseException.__dict__["__traceback__"].__get__(error))
    except Exception:  # the source of a line cannot be read
        frames = ()
    name = plain_text(str(type.__dict__["__name__"].__get__(kind)))[:200]
    not_written = issubclass(kind, NotImplementedError) and not message.strip()
    return Raised(name, message, frames, not_written)


def plain_text(text: str) -> str:
    """The text without half characters (lone surrogates), which no file and no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode()


_OURS = tuple(str(Path(__file__).resolve().parents[1] / name) for name in ("autograde", "utils"))
_OTHERS = (sys.prefix, sys.base_prefix, str(Path(torch.__file__).parent), "<frozen", "<__array_function__")


def own_frames(tb: types.TracebackType | None, limit: int = 4) -> tuple[str, ...]:
    """Frames outside this package, the libraries and the standard library, innermost last, one line each."""
    frames = []
    for frame in traceback.extract_tb(tb):
        inside = frame.filename.startswith((*_OURS, *_OTHERS)) and "ipykernel_" not in frame.filename
        if not inside:
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            frames.append(f"line {frame.lineno} in {frame.name}: {line}")
    return tuple(frames[-limit:])


@dataclass
class Counted:
    """Wraps a callable and counts its calls. What it returns, and its arguments, pass through unchanged."""

    call: Callable[..., Any]
    calls: int = field(default=0)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.call(*args, **kwargs)
