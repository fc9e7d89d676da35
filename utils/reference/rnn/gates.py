"""Gated cells in the layout of torch.nn.LSTM and torch.nn.GRU, and what a gate does to a derivative.

The LSTM is the one of Gers, Schmidhuber, Cummins, "Learning to Forget", Neural Computation 12 (2000), without peepholes; gates
in torch's order i, f, g, o. The GRU is torch's variant of Cho et al., arXiv:1406.1078; order r, z, n.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def cell_gradient(f: Float[Tensor, "time batch hidden"]) -> Float[Tensor, "time batch hidden"]:
    """What is left at the last step of a change of c_t, along the cell path: D_t = f_{t+1} ... f_{T-1}, D_{T-1} = 1.

    From c_t = f_t c_{t-1} + i_t g_t with the gates held fixed, dc_t/dc_{t-1} = f_t, so dc_{T-1}/dc_t is the product of the
    gates after t. It underflows to zero where the derivative does; a sum of logarithms would not avoid that.
    """
    left = [torch.ones_like(f[0])]
    for f_t in f[1:].flip(0):
        left.append(left[-1] * f_t)
    return torch.stack(left[::-1])


def forget_bias(steps: int, keep: float) -> float:
    """The bias b for which sigmoid(b)^steps = keep: b = logit(keep^(1/steps)) = -ln(keep^(-1/steps) - 1)."""
    return -math.log(math.expm1(-math.log(keep) / steps))


def lstm_step(
    x: Float[Tensor, "batch input"],
    state: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]],
    W_ih: Float[Tensor, "4*hidden input"],
    W_hh: Float[Tensor, "4*hidden hidden"],
    b_ih: Float[Tensor, "4*hidden"],
    b_hh: Float[Tensor, "4*hidden"],
) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
    """One step of an LSTM, (h, c) -> (h, c): c_t = f c_{t-1} + i g, h_t = o tanh(c_t)."""
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gate_biases(
    b_ih: Float[Tensor, "4*hidden"], b_hh: Float[Tensor, "4*hidden"], bias: float
) -> tuple[Float[Tensor, "4*hidden"], Float[Tensor, "4*hidden"]]:
    """LSTM biases whose sum is +bias in the forget block and -bias in the input block; the other blocks as they were.

    The start of Tallec and Ollivier, arXiv:1804.11188, with one bias for all units.
    """
    hidden = len(b_ih) // 4
    b_ih, b_hh = b_ih.clone(), b_hh.clone()
    b_ih[:hidden], b_ih[hidden : 2 * hidden] = -bias, bias
    b_hh[: 2 * hidden] = 0.0
    return b_ih, b_hh


def gru_step(
    x: Float[Tensor, "batch input"],
    h: Float[Tensor, "batch hidden"],
    W_ih: Float[Tensor, "3*hidden input"],
    W_hh: Float[Tensor, "3*hidden hidden"],
    b_ih: Float[Tensor, "3*hidden"],
    b_hh: Float[Tensor, "3*hidden"],
) -> Float[Tensor, "batch hidden"]:
    """One step of a GRU as torch computes it: h_t = (1 - z) n + z h_{t-1}, with r inside the recurrent part of n."""
    r_x, z_x, n_x = (x @ W_ih.T + b_ih).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ W_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h
