"""One recurrent layer: a step, its unrolling over a ragged batch, and an adder built by hand.

The cell is the one of Elman, "Finding Structure in Time", Cognitive Science 14 (1990), in the layout of torch.nn.RNN.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def window_error(w: int, t: int) -> float:
    """Smallest error probability for bit t of a sum, for a model that sees only the last w bit pairs.

    With n = t - w + 1 positions out of sight, the carry into the window is unknown, and matters only if all
    w - 1 earlier pairs in the window propagate it (probability 2^-(w-1)). The carry is 1 with probability
    p_n = (1 - 2^-n) / 2, the solution of p_{n+1} = 1/4 + p_n / 2, p_0 = 0. As p_n < 1/2, the best guess is 0:

        error(w, t) = 2^-(w-1) p_{t-w+1} = 2^-w (1 - 2^-(t-w+1))   for t >= w,   0 otherwise.
    """
    hidden = t - w + 1
    if hidden <= 0:
        return 0.0
    return 2.0 ** -(w - 1) * (1 - 2.0**-hidden) / 2


def rnn_step(
    x: Float[Tensor, "batch input"],
    h: Float[Tensor, "batch hidden"],
    W_ih: Float[Tensor, "hidden input"],
    W_hh: Float[Tensor, "hidden hidden"],
    b_ih: Float[Tensor, "hidden"],
    b_hh: Float[Tensor, "hidden"],
) -> Float[Tensor, "batch hidden"]:
    """One step of an Elman network: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), for rows of a batch."""
    return torch.tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)


def adder_weights(gain: float) -> dict[str, Tensor]:
    """Weights of a three-unit Elman network that adds two binary numbers, least significant bit first.

    Unit k = 1, 2, 3 is on (+1) when a + b + carry >= k and off (-1) otherwise; unit 2 is the next carry, so
    carry = (h_2 + 1) / 2. The pre-activation of unit k is gain * (a + b + carry - (k - 1/2)), and the sum bit is
    (h_1 - h_2 + h_3 + 1) / 2 > 1/2.
    """
    W_hh = torch.zeros(3, 3)
    W_hh[:, 1] = gain / 2
    return {
        "W_ih": torch.full((3, 2), float(gain)),
        "W_hh": W_hh,
        "b_ih": gain * torch.tensor([0.0, -1.0, -2.0]),
        "b_hh": torch.zeros(3),
        "h0": -torch.ones(3),
        "w_out": torch.tensor([0.5, -0.5, 0.5]),
        "b_out": torch.tensor(0.5),
    }


def rnn_forward(
    step: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "batch time input"],
    h0: Float[Tensor, "batch hidden"],
    lengths: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "batch hidden"]]:
    """Unroll `step(x_t, h) -> h` over time for a batch of sequences of different lengths (1 to time).

    Past the end of a sequence its state stays as it is and its outputs are zero, whatever the padding holds, also NaN.
    `out` has the dtype of h0. One call of `step` per position, with the whole batch.
    """
    h, out = h0, []
    for t in range(x.shape[1]):
        inside = (t < lengths)[:, None]
        h_new = step(x[:, t], h)
        h = torch.where(inside, h_new, h)
        out.append(torch.where(inside, h_new, 0.0))
    return torch.stack(out, dim=1), h


def last_valid(
    out: Float[Tensor, "batch time hidden"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch hidden"]:
    """The output at the last position of every sequence: out[b, lengths[b] - 1]."""
    return out[torch.arange(out.shape[0], device=out.device), lengths - 1]


def n_params(input_size: int, hidden_size: int, gates: int = 1) -> int:
    """Numbers in a recurrent layer: gates (H I + H^2 + 2 H). Gates: RNN 1, GRU 3, LSTM 4."""
    return gates * (hidden_size * input_size + hidden_size**2 + 2 * hidden_size)
