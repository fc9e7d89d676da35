"""Right answers in other styles, and lazy or cheating ones, for the exercises of the series ``rnn``.

``RIGHT`` must get full marks. ``LAZY`` must not: answers that nobody needs a sentence for.
"""

import functools
import math
import operator

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum


def window_error_by_recursion(w, t):
    carry = 0.0
    for _ in range(max(0, t - w + 1)):
        carry = 0.25 + 0.5 * carry
    return min(carry, 1 - carry) / 2 ** (w - 1)


def window_error_in_tensors(w, t):
    unseen = torch.tensor(float(max(t - w + 1, 0)))
    return 0.5 * (1 - torch.exp2(-unseen)) * torch.exp2(torch.tensor(1.0 - w))


def window_error_in_numpy(w, t):
    return np.float64(0.5 ** (w - 1)) * -math.expm1(-math.log(2) * max(t - w + 1, 0)) / 2


def window_error_as_int_where_zero(w, t):
    return 0 if t < w else (2 ** -(w - 1) - 2**-t) / 2


def rnn_step_with_linear(x, h, W_ih, W_hh, b_ih, b_hh):
    return F.linear(x, W_ih, b_ih).add(F.linear(h, W_hh, b_hh)).tanh()


def rnn_step_concatenated(inputs, state, A, B, a, b):
    return torch.tanh(torch.cat([inputs, state], -1) @ torch.cat([A, B], -1).mT + (a + b))


def rnn_step_einsum(x, h, W_ih, W_hh, b_ih, b_hh):
    pre = einsum(x, W_ih, "b i, h i -> b h") + einsum(h, W_hh, "b k, h k -> b h")
    print("a print is not an error")
    return (pre + b_ih + b_hh).tanh()


def rnn_step_in_loops(x, h, W_ih, W_hh, b_ih, b_hh):
    rows = []
    for b in range(x.shape[0]):
        units = [
            torch.tanh((W_ih[k] * x[b]).sum() + b_ih[k] + W_hh[k].dot(h[b]) + b_hh[k])
            for k in range(len(b_ih))
        ]
        rows.append(torch.stack(units))
    return torch.stack(rows)


def rnn_step_by_exponentials(x, h, W_ih, W_hh, b_ih, b_hh):
    z = x.double() @ W_ih.double().T + b_ih + h.double() @ W_hh.double().T + b_hh
    return (2 * torch.sigmoid(2 * z) - 1).to(x.dtype)


def adder_weights_shared_rows(gain):
    W_hh = torch.zeros(3, 3)
    W_hh[:, 1] = gain / 2
    return dict(
        W_ih=gain * torch.ones(3, 2), W_hh=W_hh,
        b_ih=torch.zeros(3), b_hh=-gain * torch.arange(3.0), h0=torch.tensor([-1.0, -1.0, -1.0]),
        w_out=torch.tensor([0.5, -0.5, 0.5]), b_out=torch.tensor(0.5),
    )  # fmt: skip


def adder_weights_other_order(gain):
    """The carry is unit 0, switched the other way round (-1 means a carry)."""
    W_ih = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, 1.0]]) * gain
    W_hh = torch.tensor([[0.5, 0, 0], [-0.5, 0, 0], [-0.5, 0, 0]]) * gain
    b = torch.tensor([1.0, 0.0, -2.0]) * gain
    return {
        "W_ih": W_ih, "W_hh": W_hh, "b_ih": b / 2, "b_hh": b / 2, "h0": torch.tensor([1.0, 0.0, 0.0]),
        "w_out": torch.tensor([0.5, 0.5, 0.5]), "b_out": torch.tensor(0.5),
    }  # fmt: skip


def rnn_forward_with_masked_fill(step, x, h0, lengths):
    B, T, _ = x.shape
    ended = torch.arange(T, device=x.device).unsqueeze(0) >= lengths.unsqueeze(1)
    h, outs = h0, []
    for t in range(T):
        m = ended[:, t : t + 1]
        h = step(x[:, t, :], h).masked_fill(m, 0) + h.masked_fill(~m, 0)
        outs.append(h.masked_fill(m, 0))
    return torch.stack(outs, dim=1), h


def rnn_forward_preallocated(cell, seq, state, n):
    state = state.clone()
    out = seq.new_zeros(seq.size(0), seq.size(1), state.size(1))
    for t in range(int(n.max())):
        run = t < n
        state = torch.where(run.unsqueeze(-1), cell(seq[:, t], state), state)
        out[run, t] = state[run]
    return [out, state]


def rnn_forward_active_rows(step, x, h0, lengths):
    states = list(h0.unbind(0))
    rows = [[torch.zeros_like(h0[0]) for _ in range(x.shape[1])] for _ in states]
    for t in range(x.shape[1]):
        alive = [b for b in range(len(states)) if t < lengths[b]]
        if not alive:
            break
        new = step(x[alive, t], torch.stack([states[b] for b in alive]))
        for b, h in zip(alive, new, strict=True):
            states[b] = rows[b][t] = h
    return torch.stack([torch.stack(row) for row in rows]), torch.stack(states)


def rnn_forward_gather_last(step, x, h0, lengths):
    hs = functools.reduce(lambda acc, x_t: [*acc, step(x_t, acc[-1] if acc else h0)], x.unbind(1), [])
    out = torch.stack(hs, 1)
    last = out[torch.arange(len(x)), lengths - 1]
    return out.masked_fill(torch.arange(x.shape[1])[None, :, None] >= lengths[:, None, None], 0.0), last


def last_valid_gather(out, lengths):
    index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, out.shape[2])
    return torch.gather(out, 1, index).squeeze(1)


def last_valid_loop(out, lengths):
    return torch.stack([row[int(n) - 1] for row, n in zip(out, lengths, strict=True)])


def last_valid_one_hot(out, lengths):
    last = F.one_hot(lengths - 1, out.shape[1]).bool()
    return torch.where(last[..., None], out, 0).sum(1)


def n_params_from_torch(input_size, hidden_size, gates=1):
    kind = {1: torch.nn.RNN, 3: torch.nn.GRU, 4: torch.nn.LSTM}[gates]
    return sum(p.numel() for p in kind(input_size, hidden_size).parameters())


def n_params_in_numpy(input_size, hidden_size, gates=1):
    shapes = [(hidden_size, input_size), (hidden_size, hidden_size), (hidden_size,), (hidden_size,)]
    return np.int64(gates) * sum(int(np.prod(shape)) for shape in shapes)


def n_params_reduced(input_size, hidden_size, gates=1):
    return functools.reduce(operator.mul, (gates, hidden_size, input_size + hidden_size + 2))


RIGHT = {
    "window_error": [
        window_error_by_recursion,
        window_error_in_tensors,
        window_error_in_numpy,
        window_error_as_int_where_zero,
    ],
    "rnn_step": [
        rnn_step_with_linear,
        rnn_step_concatenated,
        rnn_step_einsum,
        rnn_step_in_loops,
        rnn_step_by_exponentials,
    ],
    "adder_weights": [adder_weights_shared_rows, adder_weights_other_order],
    "rnn_forward": [
        rnn_forward_with_masked_fill,
        rnn_forward_preallocated,
        rnn_forward_active_rows,
        rnn_forward_gather_last,
    ],
    "last_valid": [last_valid_gather, last_valid_loop, last_valid_one_hot],
    "n_params": [n_params_from_torch, n_params_in_numpy, n_params_reduced],
}


def library_step(x, h, W_ih, W_hh, b_ih, b_hh):
    cell = torch.nn.RNNCell(W_ih.shape[1], len(b_ih))
    cell.weight_ih.data, cell.weight_hh.data, cell.bias_ih.data, cell.bias_hh.data = W_ih, W_hh, b_ih, b_hh
    return cell(x, h)


def half_precision_step(x, h, W_ih, W_hh, b_ih, b_hh):
    x, h, W_ih, W_hh = (t.bfloat16() for t in (x, h, W_ih, W_hh))
    return torch.tanh((x @ W_ih.T + h @ W_hh.T).float() + b_ih + b_hh)


def step_that_overwrites(x, h, W_ih, W_hh, b_ih, b_hh):
    h.copy_(torch.tanh(x @ W_ih.T + b_ih + h.clone() @ W_hh.T + b_hh))
    return h


def exponentials_that_overflow(x, h, W_ih, W_hh, b_ih, b_hh):
    z = x @ W_ih.T + b_ih + h @ W_hh.T + b_hh
    return (torch.exp(z) - torch.exp(-z)) / (torch.exp(z) + torch.exp(-z))


def equal_lengths_only(step, x, h0, lengths):
    h, outs = h0, []
    for x_t in x.unbind(1):
        h = step(x_t, h)
        outs.append(h)
    return torch.stack(outs, 1), h


LAZY = {
    "window_error": [lambda w, t: 0.0, lambda w, t: 0.5, lambda w, t: 2.0**-w, lambda w, t: None],
    "rnn_step": [
        lambda x, h, *_: torch.zeros_like(h),
        lambda x, h, *_: h,
        library_step,
        half_precision_step,
        step_that_overwrites,
        exponentials_that_overflow,
    ],
    "adder_weights": [
        lambda gain: {},
        lambda gain: {
            "W_ih": torch.zeros(3, 2), "W_hh": torch.zeros(3, 3), "b_ih": torch.zeros(3), "b_hh": torch.zeros(3),
            "h0": torch.zeros(3), "w_out": torch.zeros(3), "b_out": torch.tensor(0.0),
        },
    ],
    "rnn_forward": [
        lambda step, x, h0, lengths: (torch.zeros(*x.shape[:2], h0.shape[1]), torch.zeros_like(h0)),
        equal_lengths_only,
        lambda step, x, h0, lengths: torch.nn.RNN(x.shape[-1], h0.shape[-1], batch_first=True)(x, h0[None]),
    ],
    "last_valid": [lambda out, lengths: torch.zeros_like(out[:, 0]), lambda out, lengths: out[0, lengths - 1]],
    "n_params": [lambda i, h, gates=1: 0, lambda i, h, gates=1: gates * h * (i + h + 2) + 1.0],
}  # fmt: skip
