"""Right answers in other styles, and lazy or cheating ones, for the exercises of rnn/02_bptt."""

import math

import torch
from einops import einsum


def shares_with_cumprod(w, h0, h):
    slopes = 1 - h.square()
    later = torch.cat([(w * slopes)[1:], torch.ones_like(h[:1])])
    return later.flip(0).cumprod(0).flip(0) * slopes * torch.cat([torch.full_like(h[:1], h0), h[:-1]])


def shares_from_formula(w, h0, h):
    states = [h0, *h]
    T = len(h)
    out = torch.zeros_like(h)
    for t in range(T):
        p = (1 - h[t] * h[t]) * states[t]
        for s in range(t + 1, T):
            p = p * (w * (1 - h[s] * h[s]))
        out[t] = p
    return out


def shares_in_double(w, h0, h):
    d = (1 - h.double()) * (1 + h.double())
    out, g = [], 1.0
    for t in range(len(h) - 1, -1, -1):
        out.insert(0, g * d[t] * (h[t - 1].double() if t else h0))
        g = g * d[t] * w
    return torch.stack(out).to(h.dtype)


def bptt_accumulated(x, h0, h, dL_dh, W_ih, W_hh):
    g = {"W_ih": torch.zeros_like(W_ih), "W_hh": torch.zeros_like(W_hh), "b_ih": W_hh.new_zeros(len(W_hh))}
    gx = torch.zeros_like(x)
    dh = torch.zeros_like(h0)
    for t in range(x.shape[1] - 1, -1, -1):
        dh = dh + dL_dh[:, t]
        da = dh * (1 - h[:, t] * h[:, t])
        prev = h[:, t - 1] if t > 0 else h0
        g["W_ih"] += da.T @ x[:, t]
        g["W_hh"] += da.T @ prev
        g["b_ih"] += da.sum(dim=0)
        gx[:, t] = da @ W_ih
        dh = da @ W_hh
    return {**g, "b_hh": g["b_ih"].clone(), "h0": dh, "x": gx}


def bptt_einsum(x, h0, h, dL_dh, W_ih, W_hh):
    before = torch.cat([h0.unsqueeze(1), h], 1)[:, :-1]
    da, back = torch.empty_like(h), torch.zeros_like(h0)
    for t in range(h.size(1))[::-1]:
        da[:, t] = (back + dL_dh[:, t]) * (1 - h[:, t].pow(2))
        back = einsum(da[:, t], W_hh, "b i, i j -> b j")
    bias = da.sum((0, 1))
    return dict(
        x=einsum(da, W_ih, "b t h, h i -> b t i"), h0=back, b_ih=bias, b_hh=bias,
        W_ih=einsum(da, x, "b t h, b t i -> h i"), W_hh=einsum(da, before, "b t h, b t k -> h k"),
    )  # fmt: skip


def bptt_one_sequence_at_a_time(x, h0, h, dL_dh, W_ih, W_hh):
    total = None
    gh0, gx = [], []
    for b in range(len(x)):
        g = [torch.zeros_like(W_ih), torch.zeros_like(W_hh), torch.zeros_like(W_hh[0])]
        rows, v = [None] * x.shape[1], torch.zeros_like(h0[b])
        for t in reversed(range(x.shape[1])):
            a = (1 - h[b, t] ** 2) * (dL_dh[b, t] + v)
            g[0] = g[0] + torch.outer(a, x[b, t])
            g[1] = g[1] + torch.outer(a, h[b, t - 1] if t else h0[b])
            g[2] = g[2] + a
            rows[t] = W_ih.mT @ a
            v = W_hh.mT @ a
        total = g if total is None else [p + q for p, q in zip(total, g, strict=True)]
        gh0.append(v)
        gx.append(torch.stack(rows))
    return {
        "W_ih": total[0], "W_hh": total[1], "b_ih": total[2], "b_hh": total[2],
        "h0": torch.stack(gh0), "x": torch.stack(gx),
    }  # fmt: skip


def bptt_in_double(x, h0, h, dL_dh, W_ih, W_hh):
    found = bptt_accumulated(*(t.double() for t in (x, h0, h, dL_dh, W_ih, W_hh)))
    return {k: v.to(x.dtype) for k, v in found.items()}


def norms_with_svdvals(W_hh, h):
    T, H = h.shape
    out = W_hh.new_ones(T)
    J = torch.eye(H).to(W_hh)
    for t in range(T - 2, -1, -1):
        J = J @ torch.diag(1 - h[t + 1] ** 2) @ W_hh
        out[t] = torch.linalg.svdvals(J)[0]
    return out


def norms_of_transposes(W, h):
    M = torch.eye(len(W), dtype=W.dtype)
    norms = [torch.linalg.norm(M, ord=2)]
    for s in reversed(h.unbind(0)[1:]):
        M = W.T @ ((1 - s.square()).unsqueeze(1) * M)
        norms.insert(0, torch.linalg.norm(M, ord=2))
    return torch.stack(norms)


def norms_in_double(W_hh, h):
    return norms_with_svdvals(W_hh.double(), h.double()).to(h.dtype)


def clip_like_torch(grads, max_norm):
    total = torch.linalg.vector_norm(torch.stack([g.double().norm() for g in grads.values()]))
    if not torch.isfinite(total):
        return {n: torch.zeros_like(g) for n, g in grads.items()}, total
    coef = torch.clamp(max_norm / (total + 1e-6), max=1.0)
    return {n: g * coef.to(g.dtype) for n, g in grads.items()}, total


def clip_by_largest(grads, max_norm):
    m = max(g.abs().max().item() for g in grads.values())
    bad = any(not torch.isfinite(g).all() for g in grads.values())
    if bad:
        return {k: g.new_zeros(g.shape) for k, g in grads.items()}, float("nan")
    if m == 0:
        return dict(grads), 0.0
    norm = m * sum(((g / m) ** 2).sum() for g in grads.values()).sqrt()
    return ({k: g * (max_norm / norm) for k, g in grads.items()} if norm > max_norm else dict(grads)), norm


def clip_flat(grads, max_norm):
    flat = torch.cat([g.reshape(-1) for g in grads.values()]).double()
    norm = math.sqrt(float(flat @ flat))
    if math.isnan(norm) or math.isinf(norm):
        return {k: g * 0 if torch.isfinite(g).all() else torch.zeros_like(g) for k, g in grads.items()}, norm
    scale = 1.0 if norm <= max_norm else max_norm / norm
    parts = (flat * scale).split([g.numel() for g in grads.values()])
    return {k: p.view(g.shape).to(g.dtype) for (k, g), p in zip(grads.items(), parts, strict=True)}, norm


def truncated_with_backward(step_loss, parameters, x, y, h0, k):
    leaves = {n: p.clone().detach().requires_grad_(True) for n, p in parameters.items()}
    h, chunk, total = h0, 0.0, 0.0
    T = x.size(1)
    for t in range(T):
        if t % k == 0:
            h = h.detach()
        loss, h = step_loss(leaves, x[:, t], y[:, t], h)
        chunk = chunk + loss
        if (t + 1) % k == 0 or t == T - 1:
            chunk.backward()
            total = total + chunk.detach()
            chunk = 0.0
    return total, {n: p.grad for n, p in leaves.items()}


def truncated_with_split(step_loss, parameters, x, y, h0, k):
    total, h = torch.zeros((), dtype=x.dtype), h0
    names = list(parameters)
    sums = [0.0] * len(names)
    for xs, ys in zip(x.split(k, dim=1), y.split(k, dim=1), strict=True):
        p = {n: parameters[n].detach().clone().requires_grad_() for n in names}
        losses = []
        for x_t, y_t in zip(xs.unbind(1), ys.unbind(1), strict=True):
            loss, h = step_loss(p, x_t, y_t, h)
            losses.append(loss)
        sums = [s + g for s, g in zip(sums, torch.autograd.grad(sum(losses), list(p.values())), strict=True)]
        total += sum(losses).detach()
        h = h.data
    return (total, dict(zip(names, sums, strict=True)))


def bptt_with_local_jacobians(x, h0, h, dL_dh, W_ih, W_hh):
    before = torch.cat([h0[:, None], h[:, :-1]], 1)
    carry, da = torch.zeros_like(h0), [None] * h.shape[1]
    for t in range(h.shape[1] - 1, -1, -1):
        dh = dL_dh[:, t] + carry
        da[t] = dh * (1 - h[:, t] ** 2)
        carry = torch.bmm(dh[:, None], (1 - h[:, t] ** 2)[:, :, None] * W_hh)[:, 0]
    da = torch.stack(da, 1)
    bias = da.sum((0, 1))
    return {
        "W_ih": (da[..., None] * x[..., None, :]).sum((0, 1)), "b_ih": bias, "h0": carry,
        "W_hh": (da[..., None] * before[..., None, :]).sum((0, 1)), "b_hh": bias, "x": da @ W_ih,
    }  # fmt: skip


def clip_with_hypot(grads, max_norm):
    norm = math.hypot(*[torch.linalg.vector_norm(g, dtype=torch.float64).item() for g in grads.values()])
    if not norm < math.inf:
        return {n: torch.zeros_like(g) for n, g in grads.items()}, norm
    return {n: g.mul(max_norm / norm) if norm > max_norm else g.clone() for n, g in grads.items()}, norm


def truncated_with_torch_func(step_loss, parameters, x, y, h0, k):
    def chunk(p, xs, ys, h):
        total = 0.0
        for t in range(xs.shape[1]):
            loss, h = step_loss(p, xs[:, t], ys[:, t], h)
            total = total + loss
        return total, (total, h)

    sums, h, total = {n: torch.zeros_like(v) for n, v in parameters.items()}, h0, 0.0
    for s in range(0, x.shape[1], k):
        grads, (loss, h) = torch.func.grad(chunk, has_aux=True)(
            parameters, x[:, s : s + k], y[:, s : s + k], h
        )
        total += loss.item()
        sums = {n: sums[n] + grads[n] for n in sums}
    return total, sums


RIGHT = {
    "gradient_shares": [shares_with_cumprod, shares_from_formula, shares_in_double],
    "bptt": [
        bptt_accumulated,
        bptt_einsum,
        bptt_one_sequence_at_a_time,
        bptt_in_double,
        bptt_with_local_jacobians,
    ],
    "jacobian_norms": [norms_with_svdvals, norms_of_transposes, norms_in_double],
    "clip_by_global_norm": [clip_like_torch, clip_by_largest, clip_flat, clip_with_hypot],
    "truncated_bptt": [truncated_with_backward, truncated_with_split, truncated_with_torch_func],
}


def zeros_for_everything(x, h0, h, dL_dh, W_ih, W_hh):
    return {
        "W_ih": torch.zeros_like(W_ih), "W_hh": torch.zeros_like(W_hh), "b_ih": h0.new_zeros(h0.shape[1]),
        "b_hh": h0.new_zeros(h0.shape[1]), "h0": torch.zeros_like(h0), "x": torch.zeros_like(x),
    }  # fmt: skip


def autograd_with_biases_from_states(x, h0, h, dL_dh, W_ih, W_hh):
    given = [t.detach().clone().requires_grad_() for t in (W_ih, W_hh, h0, x)]
    w_ih, w_hh, start, xs = given
    before = torch.cat([h0[:, None], h[:, :-1]], 1)
    bias = (torch.atanh(h) - x @ W_ih.T - before @ W_hh.T).detach().requires_grad_()
    state, out = start, []
    for t in range(h.shape[1]):
        state = torch.tanh(xs[:, t] @ w_ih.T + state @ w_hh.T + bias[:, t])
        out.append(state)
    g = torch.autograd.grad((torch.stack(out, 1) * dL_dh).sum(), [*given, bias])
    b = g[4].sum((0, 1))
    return {"W_ih": g[0], "W_hh": g[1], "b_ih": b, "b_hh": b, "h0": g[2], "x": g[3]}


def bptt_in_half(x, h0, h, dL_dh, W_ih, W_hh):
    found = bptt_accumulated(*(t.bfloat16() for t in (x, h0, h, dL_dh, W_ih, W_hh)))
    return {k: v.to(x.dtype) for k, v in found.items()}


def bptt_for_six_steps(x, h0, h, dL_dh, W_ih, W_hh):
    return bptt_accumulated(x[:, -6:], h0, h[:, -6:], dL_dh[:, -6:], W_ih, W_hh)


def bptt_first_sequence(x, h0, h, dL_dh, W_ih, W_hh):
    return bptt_accumulated(x[:1], h0[:1], h[:1], dL_dh[:1], W_ih, W_hh)


def sigma_to_the_power(W_hh, h):
    return torch.linalg.matrix_norm(W_hh, 2) ** torch.arange(len(h)).flip(0)


def torchs_clipping(grads, max_norm):
    leaves = [torch.zeros_like(g, requires_grad=True) for g in grads.values()]
    for leaf, g in zip(leaves, grads.values(), strict=True):
        leaf.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    return {n: leaf.grad for n, leaf in zip(grads, leaves, strict=True)}, norm


def one_chunk(step_loss, parameters, x, y, h0, k):
    return truncated_with_backward(step_loss, parameters, x[:, :k], y[:, :k], h0, k)


def shares_by_ratio(w, h0, h):
    before = torch.cat([torch.full_like(h[:1], h0), h[:-1]])
    out = [(1 - h[-1] ** 2) * before[-1]]
    for t in range(len(h) - 2, -1, -1):
        out.append(out[-1] / before[t + 1] * w * (1 - h[t] ** 2) * before[t])
    return torch.stack(out[::-1])


def bptt_in_single(x, h0, h, dL_dh, W_ih, W_hh):
    found = bptt_accumulated(*(t.float() for t in (x, h0, h, dL_dh, W_ih, W_hh)))
    return {k: v.to(x.dtype) for k, v in found.items()}


def clip_over_one(grads, max_norm):
    norm = math.sqrt(sum(g.double().square().sum().item() for g in grads.values()))
    if not math.isfinite(norm):
        return {n: torch.zeros_like(g) for n, g in grads.items()}, norm
    return {n: g * min(1.0, max_norm / max(norm, 1.0)) for n, g in grads.items()}, norm


def states_kept(step_loss, parameters, x, y, h0, k):
    states = []

    def keep(*arguments):
        loss, h = step_loss(*arguments)
        states.append(h)
        return loss, h

    return truncated_with_backward(keep, parameters, x, y, h0, k)


LAZY = {
    "gradient_shares": [
        lambda w, h0, h: torch.zeros_like(h),
        lambda w, h0, h: h,
        shares_by_ratio,
        lambda w, h0, h: w ** torch.arange(len(h)).flip(0),
        lambda w, h0, h: None,
    ],
    "bptt": [
        zeros_for_everything,
        autograd_with_biases_from_states,
        bptt_in_half,
        bptt_in_single,
        bptt_for_six_steps,
        bptt_first_sequence,
        lambda *_: {},
    ],
    "jacobian_norms": [
        lambda W_hh, h: torch.ones(len(h)),
        lambda W_hh, h: torch.zeros(len(h)),
        sigma_to_the_power,
    ],
    "clip_by_global_norm": [
        lambda grads, max_norm: (grads, 0.0),
        lambda grads, max_norm: ({n: torch.zeros_like(g) for n, g in grads.items()}, 0.0),
        torchs_clipping,
        clip_over_one,
    ],
    "truncated_bptt": [
        lambda step_loss, p, x, y, h0, k: (0.0, {n: torch.zeros_like(v) for n, v in p.items()}),
        one_chunk,
        states_kept,
    ],
}
