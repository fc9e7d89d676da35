"""Backpropagation through time by hand, the norms of its Jacobians, clipping by the global norm, truncation.

The cell is the one of ``elman``: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), for t = 0 .. T-1; the state before the
first step, h_{-1}, is called ``h0``, as in torch.nn.RNN. Clipping is that of Pascanu, Mikolov, Bengio, "On the difficulty
of training recurrent neural networks" (2013), with one norm over all tensors.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_shares(w: float, h0: float, h: Float[Tensor, "time"]) -> Float[Tensor, "time"]:
    """How much the use of the weight w at each step adds to dh_{T-1}/dw, for one unit h_t = tanh(w h_{t-1} + c_t).

    share_t = (product over s = t+1 .. T-1 of w (1 - h_s^2)) (1 - h_t^2) h_{t-1}.
    """
    before = torch.cat([h.new_full((1,), h0), h[:-1]])
    shares, after = [], torch.ones_like(h[0])
    for t in reversed(range(len(h))):
        after = after * (1 - h[t] ** 2)
        shares.append(after * before[t])
        after = after * w
    return torch.stack(shares[::-1])


def bptt(
    x: Float[Tensor, "batch time input"],
    h0: Float[Tensor, "batch hidden"],
    h: Float[Tensor, "batch time hidden"],
    dL_dh: Float[Tensor, "batch time hidden"],
    W_ih: Float[Tensor, "hidden input"],
    W_hh: Float[Tensor, "hidden hidden"],
) -> dict[str, Tensor]:
    """All gradients of a tanh layer from its states and the local gradients of the loss, in one sweep backwards.

    With a_t the argument of the tanh: dL/da_t = (1 - h_t^2) (local_t + W_hh^T dL/da_{t+1}). The weights collect
    dL/dW_hh = sum_t dL/da_t h_{t-1}^T, dL/dW_ih = sum_t dL/da_t x_t^T, dL/db = sum_t dL/da_t.
    """
    before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    carry, da = torch.zeros_like(h0), []
    for t in reversed(range(h.shape[1])):
        da.append((dL_dh[:, t] + carry) * (1 - h[:, t] ** 2))
        carry = da[-1] @ W_hh
    steps = torch.stack(da[::-1], dim=1)
    flat = steps.flatten(0, 1)
    return {
        "W_ih": flat.T @ x.flatten(0, 1),
        "W_hh": flat.T @ before.flatten(0, 1),
        "b_ih": flat.sum(0),
        "b_hh": flat.sum(0),
        "h0": carry,
        "x": steps @ W_ih,
    }


def jacobian_norms(
    W_hh: Float[Tensor, "hidden hidden"], h: Float[Tensor, "time hidden"]
) -> Float[Tensor, "time"]:
    """The largest singular value of dh_{T-1}/dh_t, for every t; the last one is 1. One product of matrices per step.

    dh_{T-1}/dh_t = dh_{T-1}/dh_{t+1} diag(1 - h_{t+1}^2) W_hh.
    """
    jacobian = torch.eye(len(W_hh), dtype=W_hh.dtype, device=W_hh.device)
    jacobians = [jacobian]
    for state in h[1:].flip(0):
        jacobian = jacobian @ ((1 - state**2)[:, None] * W_hh)
        jacobians.append(jacobian)
    norms: Tensor = torch.linalg.matrix_norm(torch.stack(jacobians[::-1]), ord=2)
    return norms


def clip_by_global_norm(grads: dict[str, Tensor], max_norm: float) -> tuple[dict[str, Tensor], float]:
    """Scale all gradients by one factor, so that their common norm is at most max_norm; the norm before comes with them.

    The squares are added in float64, where those of large float32 numbers do not overflow. If the norm is not finite, the
    gradients become zero: there is no direction to keep.
    """
    norm = math.sqrt(sum(grad.double().square().sum().item() for grad in grads.values()))
    if not math.isfinite(norm):
        return {name: torch.zeros_like(grad) for name, grad in grads.items()}, norm
    factor = max_norm / norm if norm > max_norm else 1.0
    return {name: factor * grad for name, grad in grads.items()}, norm


def truncated_bptt(
    step_loss: Callable[[dict[str, Tensor], Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    parameters: dict[str, Tensor],
    x: Float[Tensor, "batch time input"],
    y: Float[Tensor, "batch time"],
    h0: Float[Tensor, "batch hidden"],
    k: int,
) -> tuple[float, dict[str, Tensor]]:
    """The loss of a whole sequence, and its gradient cut every k steps; the graph of k steps is alive at once.

    `step_loss(parameters, x_t, y_t, h) -> (loss, h)` is one step of the network with its readout. The state is handed from
    one chunk to the next as a number. The losses of the steps are added.
    """
    own = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    grads = {name: torch.zeros_like(value) for name, value in parameters.items()}
    h, total = h0, 0.0
    for start in range(0, x.shape[1], k):
        h, losses = h.detach(), []
        for t in range(start, min(start + k, x.shape[1])):
            loss, h = step_loss(own, x[:, t], y[:, t], h)
            losses.append(loss)
        loss = torch.stack(losses).sum()
        for name, grad in zip(own, torch.autograd.grad(loss, list(own.values())), strict=True):
            grads[name] += grad
        total += loss.item()
    return total, grads
