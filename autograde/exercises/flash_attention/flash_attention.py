"""The exercise ``flash_attention`` of the lesson flash_attention/03_backward."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import LIBRARY, above, double, qkv
from autograde.meters import AllocationMeter
from autograde.observe import Counted, Implementation, Inputs
from autograde.probes import Gradients
from utils.reference import flash_attention as reference

Forward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Backward = Callable[..., tuple[Tensor, Tensor, Tensor]]


def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """A forward pass that is not attention, so that only the connection is looked at. It makes N times M numbers on its way."""
    w = torch.sin(q @ k.mT)
    return w @ v, w.sum(-1)


def backward(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Three tensors that are not the gradients of ``forward``, and that depend on everything."""
    row = (do * o).sum(-1, keepdim=True)
    dq = 2 * do + lse[..., None] * q
    dk = k * (q * row).sum(-2, keepdim=True) + v
    dv = v + do.sum(-2, keepdim=True) * k * lse.sum(-1)[..., None, None]
    return dq, dk, dv


def connected(implementation: Implementation, inputs: Inputs) -> Any:
    """The output, with these two passes."""
    return implementation(*inputs.values(), forward, backward)


def counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The gradient by q, how often the passes were called, and what is kept between them."""
    leaves = [t.detach().requires_grad_() for t in inputs.values()]
    first, second = Counted(forward), Counted(backward)
    with AllocationMeter([*inputs.values(), *leaves]) as meter:
        o = implementation(*leaves, lambda *a: first(*a), lambda *a: second(*a))
        if meter.alive(besides=[o]) > _most(inputs):
            gc.collect()  # what only a cycle of references holds is not kept for the backward pass
        saved = meter.alive(besides=[o])
    grads = torch.autograd.grad(o.sum(), leaves, allow_unused=True)
    return {
        "value": grads[0],
        "calls of forward": first.calls,
        "calls of backward": second.calls,
        "kept for backward": above(saved, _most(inputs)),
    }


def _most(inputs: Inputs) -> int:
    """lse a few times over."""
    q = inputs["q"]
    return int(4 * q.numel() // q.shape[-1] * q.element_size())


def _sizes(N: int, M: int, d: int, heads: tuple[int, ...] = ()) -> Callable[[Draw], Inputs]:
    return lambda source: qkv(source, N, M, d, heads)


def _wired(
    forward: Forward,
    backward: Callable[..., Any],
    arguments: tuple[Tensor, ...],
    save: Callable[..., tuple[Tensor, ...]] = lambda q, k, v, o, lse: (q, k, v, o, lse),
    result: int = 0,
) -> Tensor:
    """The connection, with what is kept, what is returned and how the gradients are made."""

    class Connection(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            found = forward(q, k, v)
            ctx.save_for_backward(*save(q, k, v, *found))
            return found[result]

        @staticmethod
        def backward(ctx: Any, do: Tensor) -> Any:
            return backward(*ctx.saved_tensors, do)

    out: Tensor = Connection.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


def _left_to_autograd(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    return forward(q, k, v)[0]


def _forward_again(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def again(q: Tensor, k: Tensor, v: Tensor, do: Tensor) -> Any:
        return backward(q, k, v, *forward(q, k, v), do)

    return _wired(forward, again, (q, k, v), lambda q, k, v, o, lse: (q, k, v))


def _copies_kept(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def copies(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.clone() for t in tensors)

    return _wired(forward, backward, (q, k, v), copies)


def _gradient_ignored(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def with_ones(*saved: Tensor) -> Any:
        return backward(*saved[:-1], torch.ones_like(saved[-1]))

    return _wired(forward, with_ones, (q, k, v))


def _gradients_times_do(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def times(*saved: Tensor) -> Any:
        found = backward(*saved)
        return found[0] * saved[-1], found[1], found[2]

    return _wired(forward, times, (q, k, v))


def _dk_and_dv_exchanged(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def exchanged(*saved: Tensor) -> Any:
        dq, dk, dv = backward(*saved)
        return dq, dv, dk

    return _wired(forward, exchanged, (q, k, v))


def _lse_and_o_exchanged(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def exchanged(q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor) -> Any:
        return backward(q, v, k, o, lse, do)

    return _wired(forward, exchanged, (q, k, v))


def _lse_returned(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    def from_lse(q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, do: Tensor) -> Any:
        return backward(q, k, v, o, lse, do[..., None].expand_as(o))

    return _wired(forward, from_lse, (q, k, v), result=1)


def _detached(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    with torch.no_grad():
        return forward(q, k, v)[0]


def _only_dq(q: Tensor, k: Tensor, v: Tensor, forward: Forward, backward: Backward) -> Tensor:
    return _wired(forward, lambda *saved: (backward(*saved)[0], None, None), (q, k, v))


flash_attention = Exercise(
    reference.flash_attention,
    requirements=(
        Requirement(
            "returns what forward returns",
            (
                Case("5 queries, 7 keys", _sizes(5, 7, 3)),
                Case("2 heads, in float64", double(_sizes(4, 3, 3, (2,)))),
                Case("one query", _sizes(1, 6, 2)),
            ),
            connected,
        ),
        Requirement(
            "the gradients are those of backward",
            (
                Case("gradients, 5 queries, 7 keys", _sizes(5, 7, 3)),
                Case("gradients, 2 heads", _sizes(4, 4, 3, (2,))),
                Case("gradients, 2 batches of 3 heads", _sizes(6, 5, 2, (2, 3)), shown=False),
            ),
            Gradients(of=connected),
            points=2,
        ),
        Requirement(
            "keeps o and lse, and nothing else",
            (
                Case("32 queries, 128 keys", _sizes(32, 128, 8)),
                Case("64 queries and keys", _sizes(64, 64, 16), shown=False),
            ),
            counted,
            points=2,
            bounds={
                "kept for backward": Bound(
                    most=_most,
                    unit="or more bytes kept besides the inputs and the output",
                    why="q, k, v and o are there anyway; one number per query, lse, is all that has to be kept.",
                    naive=lambda inputs: inputs["q"].shape[-2] * inputs["k"].shape[-2] * 4,
                ),
                "calls of forward": Bound(
                    most=lambda inputs: 1,
                    unit="calls of forward",
                    why="Keep o and lse in place of making them again.",
                ),
                "calls of backward": Bound(
                    most=lambda inputs: 1,
                    unit="calls of backward",
                    why="One call gives all three gradients.",
                ),
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You leave the gradients to autograd, which keeps all that forward made on its way. Connect forward and backward by a "
            "torch.autograd.Function.",
            _left_to_autograd,
        ),
        Mistake(
            "Your gradients are right, but backward runs forward again. Keep o and lse: that is one number per query more.",
            _forward_again,
        ),
        Mistake(
            "Your gradients are right, but you keep more than o and lse: copies, or numbers for each query and key. Save q, k, v, o and lse "
            "as they are, and return the same o that you save.",
            _copies_kept,
        ),
        Mistake("You ignore the gradient that arrives and use ones. Hand do to backward.", _gradient_ignored),
        Mistake(
            "You multiply the gradients by do once more. backward has used it already.", _gradients_times_do
        ),
        Mistake("You exchange dk and dv. Return them in the order of the inputs.", _dk_and_dv_exchanged),
        Mistake(
            "You hand k and v to backward in the wrong order. It is backward(q, k, v, o, lse, do).",
            _lse_and_o_exchanged,
        ),
        Mistake("You return lse. Return o, and keep lse for the backward pass.", _lse_returned),
        Mistake(
            "No gradient flows at all: forward ran without gradients, and nothing connects it with backward.",
            _detached,
        ),
        Mistake("Only q gets a gradient. Return all three from backward.", _only_dq),
    ),
    forbids=LIBRARY,
)
