"""Right answers in other styles, and lazy or cheating ones, for the exercises of rnn/03_gates.

``RIGHT`` must get full marks. ``LAZY`` must not: answers that nobody needs a sentence for.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange


def cell_gradient_by_cumprod(f):
    after = torch.cat([f[1:], torch.ones_like(f[:1])])
    return torch.flip(torch.cumprod(torch.flip(after, (0,)), 0), (0,))


def cell_gradient_by_products(f):
    return torch.stack([f[t + 1 :].prod(dim=0) for t in range(f.shape[0])])


def cell_gradient_in_loops(gates):
    T, B, H = gates.shape
    rows = []
    for t in range(T):
        kept = torch.ones(B, H, dtype=gates.dtype, device=gates.device)
        for s in range(t + 1, T):
            kept = kept * gates[s]
        rows.append(kept)
    print("a print is not an error")
    return torch.stack(rows)


def cell_gradient_in_double(f):
    left, kept = [], torch.ones_like(f[0], dtype=torch.float64)
    for t in reversed(range(len(f))):
        left.insert(0, kept)
        kept = f[t].double() * kept
    return torch.stack(left).to(f.dtype)


def cell_gradient_by_autograd(f):
    with torch.enable_grad():
        c = [torch.zeros_like(f[0], requires_grad=True)]
        written = torch.zeros_like(f, requires_grad=True)
        c = torch.zeros_like(f[0])
        for t in range(len(f)):
            c = f[t] * c + written[t]
        (grad,) = torch.autograd.grad(c.sum(), written, create_graph=f.requires_grad)
    return grad


def forget_bias_by_logit(T, share):
    f = share ** (1 / T)
    return math.log(f / (1 - f))


def forget_bias_in_tensors(T, keep):
    return torch.logit(torch.tensor(keep, dtype=torch.float64) ** (1 / T))


def forget_bias_in_float32(T, keep):
    return torch.special.logit(torch.exp(torch.log(torch.tensor(keep)) / T)).item()


def forget_bias_in_numpy(T, keep):
    return np.float64(-np.log(np.power(keep, -1 / T) - 1))


def forget_bias_by_bisection(steps, keep):
    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        if -steps * math.log1p(math.exp(-middle)) < math.log(keep):
            low = middle
        else:
            high = middle
    return low


def lstm_step_with_linear(x, state, W_ih, W_hh, b_ih, b_hh):
    H = state[0].size(-1)
    z = F.linear(x, W_ih, b_ih) + F.linear(state[0], W_hh, b_hh)
    i, f, o = z[:, :H].sigmoid(), z[:, H : 2 * H].sigmoid(), z[:, 3 * H :].sigmoid()
    c = f * state[1] + i * z[:, 2 * H : 3 * H].tanh()
    return [o * c.tanh(), c]


def lstm_step_gate_by_gate(x_t, hc, A, B, a, b):
    h, c = hc
    H = h.shape[1]
    pre = []
    for k in range(4):
        rows = slice(k * H, (k + 1) * H)
        pre.append(torch.addmm(a[rows] + b[rows], x_t, A[rows].T) + torch.mm(h, B[rows].T))
    c_new = torch.addcmul(torch.sigmoid(pre[1]) * c, torch.sigmoid(pre[0]), torch.tanh(pre[2]))
    return torch.sigmoid(pre[3]) * torch.tanh(c_new), c_new


def lstm_step_concatenated(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    z = torch.cat((x, h), 1) @ torch.cat((W_ih, W_hh), 1).t() + (b_ih + b_hh)
    i, f, g, o = rearrange(z, "b (k h) -> k b h", k=4)
    return (c := torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)).tanh() * torch.sigmoid(o), c


def lstm_step_in_double(x, state, W_ih, W_hh, b_ih, b_hh):
    X, h, c, A, B, a, b = (t.double() for t in (x, *state, W_ih, W_hh, b_ih, b_hh))
    z = einsum(X, A, "b i, k i -> b k") + einsum(h, B, "b j, k j -> b k") + a + b
    i, f, g, o = torch.split(z, z.shape[1] // 4, dim=1)
    c = c * (0.5 + 0.5 * torch.tanh(f / 2)) + torch.sigmoid(i) * (2 * torch.sigmoid(2 * g) - 1)
    return (torch.sigmoid(o) * torch.tanh(c)).to(x.dtype), c.to(x.dtype)


def lstm_step_in_loops(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    H = h.shape[1]
    hs, cs = [], []
    for b in range(x.shape[0]):
        z = W_ih @ x[b] + b_ih + W_hh @ h[b] + b_hh
        cs.append(torch.sigmoid(z[H : 2 * H]) * c[b] + torch.sigmoid(z[:H]) * torch.tanh(z[2 * H : 3 * H]))
        hs.append(torch.sigmoid(z[-H:]) * torch.tanh(cs[-1]))
    return torch.stack(hs), torch.stack(cs)


def gate_biases_by_cat(b_ih, b_hh, bias):
    H = b_ih.numel() // 4
    top = torch.full((H,), float(bias), dtype=b_ih.dtype, device=b_ih.device)
    return torch.cat([-top, top, b_ih[2 * H :]]), torch.cat([0 * top, 0 * top, b_hh[2 * H :]])


def gate_biases_against_the_other(b_ih, b_hh, bias):
    new = b_ih.clone().view(4, -1)
    new[0] = -bias - b_hh.view(4, -1)[0]
    new[1] = bias - b_hh.view(4, -1)[1]
    return new.flatten(), b_hh


def gate_biases_halves(b_ih, b_hh, bias):
    out = []
    for b in (b_ih, b_hh):
        i, f, g, o = b.detach().chunk(4)
        out.append(torch.cat([torch.full_like(i, -bias / 2), torch.full_like(f, bias / 2), g, o]))
    return out


def gate_biases_in_the_sum(b_ih, b_hh, bias):
    H = len(b_ih) // 4
    total = b_ih + b_hh
    total[:H] = -bias
    total[H : 2 * H] = bias
    return total, torch.zeros_like(b_hh)


def gru_step_with_linear(x, h, W_ih, W_hh, b_ih, b_hh):
    H = h.size(1)
    u, v = F.linear(x, W_ih, b_ih), F.linear(h, W_hh, b_hh)
    rz = torch.sigmoid(u[:, : 2 * H] + v[:, : 2 * H])
    r, z = rz[:, :H], rz[:, H:]
    n = (u[:, 2 * H :] + r * v[:, 2 * H :]).tanh()
    return n + z * (h - n)


def gru_step_gate_by_gate(x, state, A, B, a, b):
    W_ir, W_iz, W_in = A.chunk(3)
    W_hr, W_hz, W_hn = B.chunk(3)
    b_ir, b_iz, b_in = a.chunk(3)
    b_hr, b_hz, b_hn = b.chunk(3)
    r = torch.sigmoid(x @ W_ir.T + state @ W_hr.T + b_ir + b_hr)
    z = torch.sigmoid(x @ W_iz.T + state @ W_hz.T + b_iz + b_hz)
    n = torch.tanh(x @ W_in.T + b_in + r * (state @ W_hn.T + b_hn))
    return torch.lerp(n, state, z)


def gru_step_in_double(x, h, W_ih, W_hh, b_ih, b_hh):
    X, S, A, B, a, b = (t.double() for t in (x, h, W_ih, W_hh, b_ih, b_hh))
    u = rearrange(einsum(X, A, "b i, k i -> b k") + a, "b (k h) -> k b h", k=3)
    v = rearrange(einsum(S, B, "b j, k j -> b k") + b, "b (k h) -> k b h", k=3)
    r, z = torch.sigmoid(u[:2] + v[:2])
    n = 1 - 2 * torch.sigmoid(-2 * (u[2] + r * v[2]))
    return ((1 - z) * n + z * S).to(x.dtype)


def gru_step_in_loops(x, h, W_ih, W_hh, b_ih, b_hh):
    H = h.shape[1]
    rows = []
    for b in range(len(x)):
        units = []
        for k in range(H):
            at_x = [W_ih[j * H + k].dot(x[b]) + b_ih[j * H + k] for j in range(3)]
            at_h = [W_hh[j * H + k].dot(h[b]) + b_hh[j * H + k] for j in range(3)]
            r, z = torch.sigmoid(at_x[0] + at_h[0]), torch.sigmoid(at_x[1] + at_h[1])
            units.append((1 - z) * torch.tanh(at_x[2] + r * at_h[2]) + z * h[b, k])
        rows.append(torch.stack(units))
    return torch.stack(rows)


def cell_gradient_filled(f):
    D = torch.ones_like(f)
    for t in range(len(f) - 2, -1, -1):
        D[t] = D[t + 1].clone() * f[t + 1]
    return D


def cell_gradient_by_mask(f):
    steps = torch.arange(len(f), device=f.device)
    later = steps[None, :] > steps[:, None]
    return torch.where(later[:, :, None, None], f[None], torch.ones_like(f)[None]).prod(1)


def cell_gradient_by_doubling(f):
    D, s = torch.cat([f[1:], torch.ones_like(f[:1])]), 1
    while s < len(f):
        D = torch.cat([D[:-s] * D[s:], D[-s:]])
        s *= 2
    return D


def cell_gradient_within_bounds(f):
    """For gates only: clamping to [0, 1] changes nothing there, nor does it cut the gradient at the ends."""
    after = torch.cat([f.clamp(0, 1)[1:], torch.ones_like(f[:1])])
    return after.flip(0).cumprod(0).flip(0)


def cell_gradient_by_func_grad(f):
    def last(written):
        c = torch.zeros_like(f[0])
        for t in range(len(f)):
            c = f[t] * c + written[t]
        return c.sum()

    return torch.func.grad(last)(torch.zeros_like(f))


def forget_bias_by_newton(steps, keep):
    b = math.log(steps / math.log(1 / keep))
    for _ in range(50):
        f = 1 / (1 + math.exp(-b))
        b -= (steps * math.log(f) - math.log(keep)) / (steps * (1 - f))
    return b


def forget_bias_as_tensor(steps, keep):
    return -torch.log(torch.tensor(keep) ** (-1 / steps) - 1)


def lstm_step_mapped(x, state, W_ih, W_hh, b_ih, b_hh):
    def one(x, h, c):
        i, f, g, o = (W_ih @ x + W_hh @ h + b_ih + b_hh).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    return torch.func.vmap(one)(x, *state)


def lstm_step_in_place_on_its_own(x, state, W_ih, W_hh, b_ih, b_hh):
    z = x @ W_ih.T
    z += state[0] @ W_hh.T
    z += b_ih
    z += b_hh
    i, f, g, o = z.view(len(x), 4, -1).unbind(1)
    c = state[1].clone()
    c = c.mul(torch.sigmoid(f))
    c.add_(torch.sigmoid(i) * torch.tanh(g))
    return torch.sigmoid(o) * torch.tanh(c), c


def gate_biases_in_numpy(b_ih, b_hh, bias):
    first, second = b_ih.numpy().copy(), b_hh.numpy().copy()
    H = len(first) // 4
    first[:H], first[H : 2 * H], second[: 2 * H] = -bias, bias, 0
    return torch.tensor(first), torch.tensor(second)


def gate_biases_by_masks(b_ih, b_hh, bias):
    block = torch.arange(len(b_ih), device=b_ih.device) // (len(b_ih) // 4)
    new = torch.where(block == 0, -bias, torch.where(block == 1, bias, b_ih.double())).to(b_ih.dtype)
    return new, torch.where(block < 2, 0.0, b_hh)


def gate_biases_unevenly(b_ih, b_hh, bias):
    b_ih, b_hh = b_ih.clone().view(4, -1), b_hh.clone().view(4, -1)
    b_ih[0], b_hh[0], b_ih[1], b_hh[1] = -0.25 * bias, -0.75 * bias, 3 * bias, -2 * bias
    return torch.nn.Parameter(b_ih.flatten()), torch.nn.Parameter(b_hh.flatten())


def gru_step_mapped(x, h, W_ih, W_hh, b_ih, b_hh):
    def one(x, h):
        u, v = (W_ih @ x + b_ih).chunk(3), (W_hh @ h + b_hh).chunk(3)
        r, z = torch.sigmoid(u[0] + v[0]), torch.sigmoid(u[1] + v[1])
        return (1 - z) * torch.tanh(u[2] + r * v[2]) + z * h

    return torch.func.vmap(one)(x, h)


def gru_step_by_what_is_missing(x, h, W_ih, W_hh, b_ih, b_hh):
    u, v = torch.addmm(b_ih, x, W_ih.t()).chunk(3, -1), torch.addmm(b_hh, h, W_hh.t()).chunk(3, -1)
    r, a = torch.sigmoid(u[0] + v[0]), u[1] + v[1]
    n = torch.addcmul(u[2], r, v[2]).tanh()
    return torch.sigmoid(-a) * n + torch.sigmoid(a) * h


RIGHT = {
    "cell_gradient": [
        cell_gradient_by_cumprod,
        cell_gradient_by_products,
        cell_gradient_in_loops,
        cell_gradient_in_double,
        cell_gradient_by_autograd,
        cell_gradient_filled,
        cell_gradient_by_mask,
        cell_gradient_by_doubling,
        cell_gradient_within_bounds,
        cell_gradient_by_func_grad,
    ],
    "forget_bias": [
        forget_bias_by_logit,
        forget_bias_in_tensors,
        forget_bias_in_float32,
        forget_bias_in_numpy,
        forget_bias_by_bisection,
        forget_bias_by_newton,
        forget_bias_as_tensor,
    ],
    "lstm_step": [
        lstm_step_with_linear,
        lstm_step_gate_by_gate,
        lstm_step_concatenated,
        lstm_step_in_double,
        lstm_step_in_loops,
        lstm_step_mapped,
        lstm_step_in_place_on_its_own,
    ],
    "gate_biases": [
        gate_biases_by_cat,
        gate_biases_against_the_other,
        gate_biases_halves,
        gate_biases_in_the_sum,
        gate_biases_in_numpy,
        gate_biases_by_masks,
        gate_biases_unevenly,
    ],
    "gru_step": [
        gru_step_with_linear,
        gru_step_gate_by_gate,
        gru_step_in_double,
        gru_step_in_loops,
        gru_step_mapped,
        gru_step_by_what_is_missing,
    ],
}


def library_lstm_cell(x, state, W_ih, W_hh, b_ih, b_hh):
    return torch.lstm_cell(x, state, W_ih, W_hh, b_ih, b_hh)


def library_lstm_layer(x, state, W_ih, W_hh, b_ih, b_hh):
    h0, c0 = (s[None].contiguous() for s in state)
    _, h, c = torch.lstm(x[None], (h0, c0), [W_ih, W_hh, b_ih, b_hh], True, 1, 0.0, False, False, False)
    return h[0], c[0]


def library_gru_cell(x, h, W_ih, W_hh, b_ih, b_hh):
    return torch.gru_cell(x, h, W_ih, W_hh, b_ih, b_hh)


def sigmoids_that_overflow(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    i, f, o = (1 / (1 + torch.exp(-z)) for z in (i, f, o))
    c = f * c + i * torch.tanh(g)
    return o * torch.tanh(c), c


def tanh_that_overflows(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * (torch.exp(c) - torch.exp(-c)) / (torch.exp(c) + torch.exp(-c)), c


def lstm_in_half_precision(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    z = (x.bfloat16() @ W_ih.bfloat16().T + h.bfloat16() @ W_hh.bfloat16().T).to(x.dtype) + b_ih + b_hh
    i, f, g, o = z.chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def lstm_that_keeps_its_state(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).chunk(4, dim=1)
    c.mul_(f.sigmoid()).add_(i.sigmoid() * g.tanh())
    h.copy_(o.sigmoid() * c.tanh())
    return h, c


def gru_sigmoids_that_overflow(x, h, W_ih, W_hh, b_ih, b_hh):
    u, v = (x @ W_ih.T + b_ih).chunk(3, 1), (h @ W_hh.T + b_hh).chunk(3, 1)
    r, z = 1 / (1 + torch.exp(-u[0] - v[0])), 1 / (1 + torch.exp(-u[1] - v[1]))
    return (1 - z) * torch.tanh(u[2] + r * v[2]) + z * h


def lstm_arguments_in_float32(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    z = torch.zeros(len(x), len(b_ih))
    z += x @ W_ih.T + b_ih
    z += h @ W_hh.T + b_hh
    i, f, g, o = z.chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def lstm_arguments_clamped_at_20(x, state, W_ih, W_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = (x @ W_ih.T + b_ih + h @ W_hh.T + b_hh).clamp(-20, 20).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_parts_in_float32(x, h, W_ih, W_hh, b_ih, b_hh):
    u, v = torch.zeros(len(x), len(b_ih)), torch.zeros(len(x), len(b_hh))
    u += x @ W_ih.T + b_ih
    v += h @ W_hh.T + b_hh
    (r_x, z_x, n_x), (r_h, z_h, n_h) = u.chunk(3, 1), v.chunk(3, 1)
    z = torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + z * h


def gate_biases_sum_in_float32(b_ih, b_hh, bias):
    H, total = len(b_ih) // 4, torch.zeros(len(b_ih))
    total[:H], total[H : 2 * H], total[2 * H :] = -bias, bias, (b_ih + b_hh)[2 * H :]
    return total.to(b_ih.dtype), torch.zeros_like(b_hh)


def forget_bias_by_short_bisection(steps, keep):
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + math.exp(-middle))) ** steps < keep else (low, middle)
    return low


def forget_bias_by_coarse_bisection(steps, keep):
    low, high = -20.0, 20.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + math.exp(-middle))) ** steps < keep else (low, middle)
    return low


def forget_bias_by_series(steps, keep):
    a = -math.log(keep) / steps
    return -math.log(a) - a / 2 - a * a / 24 + a**4 / 2880


LAZY = {
    "cell_gradient": [
        lambda f: torch.ones_like(f),
        lambda f: f.prod(0),
        lambda f: f,
        lambda f: None,
        lambda f: torch.stack([f[t + 1 :].prod(0) for t in range(len(f))]).detach(),
        lambda f: torch.stack([f[t + 1 : t + 13].prod(0) for t in range(len(f))]),
        lambda f: torch.stack([f[t + 1 : t + 149].prod(0) for t in range(len(f))]),
        lambda f: torch.stack([f[t + 1 :].prod(0) if t < len(f) - 1 else f[t] / f[t] for t in range(len(f))]),
        lambda f: torch.stack([f.float()[t + 1 :].prod(0) for t in range(len(f))]).to(f.dtype),
        lambda f: torch.cat([(f[1:] + 1e-38).log().flip(0).cumsum(0).flip(0).exp(), torch.ones_like(f[:1])]),
        lambda f: (f[1:].clamp(min=1e-6).log().flip(0).cumsum(0).flip(0)).exp(),
        lambda f: torch.tensor([[[f[t + 1 :, b, h].prod() for h in range(f.shape[2])] for b in range(f.shape[1])]
                                for t in range(f.shape[0])]),
    ],
    "forget_bias": [
        lambda steps, keep: 0.0,
        lambda steps, keep: math.log(steps),
        lambda steps, keep: math.log(steps / math.log(2)),
        lambda steps, keep: 1.0,
        lambda steps, keep: keep ** (1 / steps),
        lambda steps, keep: None,
        lambda steps, keep: float("nan"),
        lambda steps, keep: max(-10.0, min(10.0, forget_bias_by_logit(steps, keep))),
        lambda steps, keep: round(forget_bias_by_logit(steps, keep), 4),
        lambda steps, keep: (lambda f: math.log(f / (1 - f + 1e-6)))(keep ** (1 / steps)),
        forget_bias_by_short_bisection,
        forget_bias_by_coarse_bisection,
        forget_bias_by_series,
    ],
    "lstm_step": [
        lambda x, state, *_: state,
        lambda x, state, *_: (torch.zeros_like(state[0]), torch.zeros_like(state[1])),
        lambda x, state, *_: state[0],
        library_lstm_cell,
        library_lstm_layer,
        sigmoids_that_overflow,
        tanh_that_overflows,
        lstm_in_half_precision,
        lstm_that_keeps_its_state,
        lstm_arguments_in_float32,
        lstm_arguments_clamped_at_20,
    ],
    "gate_biases": [
        lambda b_ih, b_hh, bias: (b_ih, b_hh),
        lambda b_ih, b_hh, bias: (torch.zeros_like(b_ih), torch.zeros_like(b_hh)),
        lambda b_ih, b_hh, bias: b_ih + b_hh,
        lambda b_ih, b_hh, bias: None,
        lambda b_ih, b_hh, bias: (torch.full_like(b_ih, bias), torch.zeros_like(b_hh)),
        gate_biases_sum_in_float32,
    ],
    "gru_step": [
        lambda x, h, *_: h,
        lambda x, h, *_: torch.zeros_like(h),
        library_gru_cell,
        gru_sigmoids_that_overflow,
        gru_parts_in_float32,
        lambda x, h, W_ih, W_hh, b_ih, b_hh: (torch.tanh(x @ W_ih.T + h @ W_hh.T + b_ih + b_hh)[:, : h.shape[1]]),
    ],
}  # fmt: skip
