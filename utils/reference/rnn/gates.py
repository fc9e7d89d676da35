"""Gated cells in the layout of torch.nn.LSTM and torch.nn.GRU: LSTM gates i, f, g, o; GRU gates r, z, n."""

import torch
from jaxtyping import Float
from torch import Tensor


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
