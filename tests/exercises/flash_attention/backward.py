"""Right answers in other styles, and lazy or cheating ones, for the exercises of flash_attention/03_backward."""

import math

import torch


def softmax_backward_by_matmul(p, dp):
    inner = (p.unsqueeze(-2) @ dp.unsqueeze(-1)).squeeze(-1)
    return p * dp - p * inner


def softmax_backward_in_loops(p, dp):
    flat, grad = p.reshape(-1, p.shape[-1]), dp.reshape(-1, p.shape[-1])
    rows = [row * (g - torch.dot(row, g)) for row, g in zip(flat, grad, strict=True)]
    return torch.stack(rows).reshape(p.shape)


def softmax_backward_by_einsum(weights, upstream):
    inner = torch.einsum("...k,...k->...", weights, upstream)
    return torch.addcmul(weights * upstream, weights, inner[..., None], value=-1)


def delta_by_einsum(do, o):
    kind = torch.promote_types(o.dtype, torch.float32)
    return torch.einsum("...d,...d->...", do.to(kind), o.to(kind))


def delta_by_matmul(do, o):
    wide = torch.float64 if o.dtype == torch.float64 else torch.float32
    return (do.to(wide)[..., None, :] @ o.to(wide)[..., :, None])[..., 0, 0]


def delta_by_channels(do, o):
    wide = torch.promote_types(do.dtype, torch.float32)
    total = 0
    for a, b in zip(do.to(wide).unbind(-1), o.to(wide).unbind(-1), strict=True):
        total = total + a * b
    return total


def _hidden(i, j, Br, Bc, N, M, device):
    rows = torch.arange(i, min(i + Br, N), device=device)[:, None]
    cols = torch.arange(j, min(j + Bc, M), device=device)[None, :]
    return cols > rows + M - N


def backward_keys_outside(q, k, v, o, lse, do, Br, Bc, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    D = (do.to(wide) * o.to(wide)).sum(-1)
    dq = torch.zeros(q.shape, dtype=wide, device=q.device)
    dk, dv = [], []
    for j in range(0, M, Bc):
        K, V = k[..., j : j + Bc, :].to(wide), v[..., j : j + Bc, :].to(wide)
        gk, gv = torch.zeros_like(K), torch.zeros_like(V)
        for i in range(0, N, Br):
            if causal and j > min(i + Br, N) - 1 + M - N:
                continue
            Q, dO = q[..., i : i + Br, :].to(wide), do[..., i : i + Br, :].to(wide)
            s = Q @ K.transpose(-1, -2) / math.sqrt(d)
            p = torch.exp(s - lse[..., i : i + Br, None].to(wide))
            if causal:
                p = torch.where(_hidden(i, j, Br, Bc, N, M, q.device), torch.zeros_like(p), p)
            gv += p.transpose(-1, -2) @ dO
            ds = p * (dO @ V.transpose(-1, -2) - D[..., i : i + Br, None]) / math.sqrt(d)
            gk += ds.transpose(-1, -2) @ Q
            dq[..., i : i + Br, :] += ds @ K
        dk.append(gk)
        dv.append(gv)
    return dq, torch.cat(dk, -2), torch.cat(dv, -2)


def backward_by_einsum(q, k, v, o, lse, do, Br, Bc, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    scale = q.shape[-1] ** -0.5
    N, M = q.shape[-2], k.shape[-2]
    D = torch.einsum("...d,...d->...", do.to(wide), o.to(wide))
    dq, dk, dv = [], torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
    for i in range(0, N, Br):
        rows = slice(i, min(i + Br, N))
        Q, G = q[..., rows, :].to(wide), do[..., rows, :].to(wide)
        total = torch.zeros_like(Q)
        for j in range(0, M, Bc):
            cols = slice(j, min(j + Bc, M))
            hidden = _hidden(i, j, Br, Bc, N, M, q.device)
            if causal and bool(hidden.all()):
                break
            K, V = k[..., cols, :].to(wide), v[..., cols, :].to(wide)
            s = torch.einsum("...id,...jd->...ij", scale * Q, K)
            s = s.masked_fill(hidden, -math.inf) if causal else s
            p = torch.exp(s - lse[..., rows, None].nan_to_num(neginf=0.0))
            dp = torch.einsum("...id,...jd->...ij", G, V)
            ds = scale * p * (dp - D[..., rows, None])
            dv[..., cols, :] += torch.einsum("...ij,...id->...jd", p, G)
            dk[..., cols, :] += torch.einsum("...ij,...id->...jd", ds, Q)
            total = total + torch.einsum("...ij,...jd->...id", ds, K)
        dq.append(total)
    return [torch.cat(dq, -2), dk, dv]


def backward_in_double(q, k, v, o, lse, do, Br, Bc, causal):
    kind = torch.promote_types(q.dtype, torch.float32)
    found = backward_keys_outside(*(t.double() for t in (q, k, v, o, lse, do)), Br, Bc, causal)
    return tuple(t.to(kind) for t in found)


def attention_with_context(q, k, v, forward, backward):
    class Op(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b, c):
            out, lse = forward(a, b, c)
            ctx.save_for_backward(lse, out, c, b, a)
            return out

        @staticmethod
        def backward(ctx, grad):
            lse, out, c, b, a = ctx.saved_tensors
            return tuple(backward(a, b, c, out, lse, grad))

    return Op.apply(q, k, v)


def attention_both_returned(q, k, v, forward, backward):
    class Op(torch.autograd.Function):
        @staticmethod
        def forward(q, k, v):
            return forward(q, k, v)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs, *output)
            ctx.mark_non_differentiable(output[1])

        @staticmethod
        def backward(ctx, do, _):
            dq, dk, dv = backward(*ctx.saved_tensors, do)
            return dq, dk, dv

    return Op.apply(q, k, v)[0]


def attention_with_attributes(q, k, v, forward, backward):
    class Op(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            found = forward(*inputs)
            ctx.save_for_backward(*inputs, *found)
            return found[0]

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return tuple(backward(*ctx.saved_tensors, grad))

    return Op.apply(q, k, v)


RIGHT = {
    "softmax_backward": [softmax_backward_by_matmul, softmax_backward_in_loops, softmax_backward_by_einsum],
    "delta": [delta_by_einsum, delta_by_matmul, delta_by_channels],
    "flash_backward": [backward_keys_outside, backward_by_einsum, backward_in_double],
    "flash_attention": [attention_with_context, attention_both_returned, attention_with_attributes],
}


def naive_backward(q, k, v, o, lse, do, Br, Bc, causal):
    return backward_keys_outside(q, k, v, o, lse, do, q.shape[-2], k.shape[-2], causal)


def by_autograd(q, k, v, o, lse, do, Br, Bc, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M = q.shape[-2], k.shape[-2]
    leaves = [t.detach().to(wide).requires_grad_() for t in (q, k, v)]
    s = leaves[0] @ leaves[1].mT * q.shape[-1] ** -0.5
    s = s.masked_fill(_hidden(0, 0, N, M, N, M, q.device), -1e30) if causal else s
    return torch.autograd.grad(torch.softmax(s, -1) @ leaves[2], leaves, do.to(wide))


LAZY = {
    "softmax_backward": [
        lambda p, dp: torch.zeros_like(p),
        lambda p, dp: dp,
        lambda p, dp: None,
        lambda p, dp: torch._softmax_backward_data(dp, p, -1, p.dtype),
        lambda p, dp: softmax_backward_by_matmul(p, dp).detach(),
    ],
    "delta": [
        lambda do, o: torch.zeros_like(o[..., 0]),
        lambda do, o: None,
        lambda do, o: (do.float() * o.float()).sum(-1),
    ],
    "flash_backward": [
        lambda q, k, v, *_: (torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)),
        lambda *_: None,
        naive_backward,
        by_autograd,
    ],
    "flash_attention": [
        lambda q, k, v, forward, backward: torch.zeros_like(q),
        lambda q, k, v, forward, backward: None,
        lambda q, k, v, forward, backward: forward(q, k, v)[0],
    ],
}
