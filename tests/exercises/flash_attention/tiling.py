"""Right answers in other styles, and lazy or cheating ones, for the exercises of flash_attention/02_tiling."""

import math

import torch
import torch.nn.functional as F


def scores_by_where(q, k, scale, causal, i, j, Br, Bc):
    N, M = q.size(-2), k.size(-2)
    a, b = q[..., i * Br : (i + 1) * Br, :], k[..., j * Bc : (j + 1) * Bc, :]
    if a.dtype in (torch.bfloat16, torch.float16):
        a, b = a.float(), b.float()
    s = torch.einsum("...id,...jd->...ij", a, b) * scale
    if causal:
        row = i * Br + torch.arange(s.shape[-2], device=s.device).view(-1, 1)
        col = j * Bc + torch.arange(s.shape[-1], device=s.device).view(1, -1)
        s = torch.where(col - row <= M - N, s, torch.full_like(s, float("-inf")))
    return s


def scores_by_triu(q, k, scale, causal, i, j, Br, Bc):
    N, M = q.shape[-2], k.shape[-2]
    wide = torch.promote_types(q.dtype, torch.float32)
    r0, c0 = i * Br, j * Bc
    s = (q[..., r0 : r0 + Br, :].to(wide) * scale) @ k[..., c0 : c0 + Bc, :].to(wide).transpose(-1, -2)
    if causal:
        hidden = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu(r0 + M - N - c0 + 1)
        s.masked_fill_(hidden, -math.inf)
    return s


def scores_row_by_row(q, k, scale, causal, i, j, Br, Bc):
    N, M = q.shape[-2], k.shape[-2]
    wide = torch.promote_types(q.dtype, torch.float32)
    keys = k[..., j * Bc : min((j + 1) * Bc, M), :].to(wide)
    rows = []
    for n in range(i * Br, min((i + 1) * Br, N)):
        row = scale * (keys * q[..., n : n + 1, :].to(wide)).sum(-1)
        if causal:
            seen = max(0, n + M - N + 1 - j * Bc)
            row = torch.cat([row[..., :seen], torch.full_like(row[..., seen:], -math.inf)], -1)
        rows.append(row)
    return torch.stack(rows, -2)


def tiles_by_brute_force(N, M, Br, Bc):
    tiles = {(i // Br, j // Bc) for i in range(N) for j in range(min(M, i + M - N + 1))}
    return len(tiles)


def tiles_by_loops(N, M, Br, Bc):
    total = 0
    for i in range(math.ceil(N / Br)):
        for j in range(math.ceil(M / Bc)):
            last_query = min((i + 1) * Br, N) - 1
            total += j * Bc <= last_query + M - N
    return total


def tiles_in_tensors(N, M, Br, Bc):
    last = torch.arange(Br, N + Br, Br).clamp(max=N) + M - N
    return int(torch.ceil(last.clamp(min=0) / Bc).sum())


def _visible(i, j, Br, Bc, N, M, device):
    rows = torch.arange(i, min(i + Br, N), device=device)[:, None]
    cols = torch.arange(j, min(j + Bc, M), device=device)[None, :]
    return cols <= rows + M - N


def forward_in_place(q, k, v, Br, Bc, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    *heads, N, d = q.shape
    M = k.shape[-2]
    o = torch.zeros(*heads, N, d, dtype=wide, device=q.device)
    lse = torch.zeros(*heads, N, dtype=wide, device=q.device)
    for i in range(0, N, Br):
        Q = q[..., i : i + Br, :].to(wide) / math.sqrt(d)
        m = torch.full(Q.shape[:-1], float("-inf"), dtype=wide, device=q.device)
        l = torch.zeros_like(m)
        for j in range(0, M, Bc):
            if causal and j > min(i + Br, N) - 1 + M - N:
                continue
            s = Q @ k[..., j : j + Bc, :].to(wide).transpose(-2, -1)
            if causal:
                s.masked_fill_(~_visible(i, j, Br, Bc, N, M, q.device), float("-inf"))
            new = torch.max(m, s.max(dim=-1).values)
            base = new.clone()
            base[base == float("-inf")] = 0
            p = (s - base.unsqueeze(-1)).exp_()
            r = (m - base).exp_()
            l.mul_(r).add_(p.sum(-1))
            o[..., i : i + Br, :].mul_(r.unsqueeze(-1)).add_(p @ v[..., j : j + Bc, :].to(wide))
            m = new
        o[..., i : i + Br, :] /= l.masked_fill(l == 0, 1).unsqueeze(-1)
        lse[..., i : i + Br] = m + l.log()
    return o, lse


def forward_keys_outside(q, k, v, Br, Bc, causal):
    """The loop order of the first paper, with normalised outputs and log-sum-exps."""
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    o = torch.zeros_like(q, dtype=wide)
    lse = torch.full_like(o[..., 0], -math.inf)
    for j in range(0, M, Bc):
        keys, values = k[..., j : j + Bc, :].to(wide), v[..., j : j + Bc, :].to(wide)
        for i in range(0, N, Br):
            if causal and j > min(i + Br, N) - 1 + M - N:
                continue
            s = q[..., i : i + Br, :].to(wide) @ keys.mT * d**-0.5
            if causal:
                s = torch.where(_visible(i, j, Br, Bc, N, M, q.device), s, -math.inf)
            part = torch.logsumexp(s, -1)
            old = lse[..., i : i + Br]
            new = torch.logaddexp(old, part)
            base = new.nan_to_num(neginf=0.0)
            p = torch.exp(s - base[..., None])
            o[..., i : i + Br, :] = torch.exp(old - base)[..., None] * o[..., i : i + Br, :] + p @ values
            lse[..., i : i + Br] = new
    return o, lse


def forward_by_merging(q, k, v, Br, Bc, causal):
    """Each tile for itself, then put together; recursive functions and einsum."""
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]

    def tile(i, j):
        s = (
            torch.einsum("...id,...jd->...ij", q[..., i : i + Br, :].to(wide), k[..., j : j + Bc, :].to(wide))
            / d**0.5
        )
        if causal:
            s = s.masked_fill(~_visible(i, j, Br, Bc, N, M, q.device), -math.inf)
        m = s.amax(-1)
        p = torch.exp(s - m.nan_to_num(neginf=0.0)[..., None])
        return m, p.sum(-1), torch.einsum("...ij,...jd->...id", p, v[..., j : j + Bc, :].to(wide))

    def together(a, b):
        m = torch.maximum(a[0], b[0])
        base = m.nan_to_num(neginf=0.0)
        r, s = torch.exp(a[0] - base), torch.exp(b[0] - base)
        return m, r * a[1] + s * b[1], r[..., None] * a[2] + s[..., None] * b[2]

    outs, sums = [], []
    for i in range(0, N, Br):
        end = min(i + Br, N) + M - N if causal else M
        rows = q[..., i : i + Br, :].to(wide)
        part = (
            torch.full_like(rows[..., 0], -math.inf),
            torch.zeros_like(rows[..., 0]),
            torch.zeros_like(rows),
        )
        for j in range(0, min(M, max(end, 0)), Bc):
            part = together(part, tile(i, j))
        m, l, acc = part
        outs.append((acc / l[..., None]).nan_to_num(0.0))
        sums.append(m + l.log())
    return torch.cat(outs, dim=-2), torch.cat(sums, dim=-1)


def forward_in_double(q, k, v, Br, Bc, causal):
    kind = torch.promote_types(q.dtype, torch.float32)
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    o, lse = [], []
    for i in range(0, N, Br):
        queries = q[..., i : i + Br, :].double()
        m = torch.full(queries.shape[:-1], -1e300, dtype=torch.float64, device=q.device)
        l, acc = torch.zeros_like(m), torch.zeros_like(queries)
        for j in range(0, M, Bc):
            seen = _visible(i, j, Br, Bc, N, M, q.device)
            if causal and not bool(seen.any()):
                break
            s = queries @ k[..., j : j + Bc, :].double().mT * d**-0.5
            s = s.masked_fill(~seen, -math.inf) if causal else s
            new = torch.maximum(m, s.amax(-1))
            p, r = torch.exp(s - new[..., None]), torch.exp(m - new)
            l, acc, m = r * l + p.sum(-1), r[..., None] * acc + p @ v[..., j : j + Bc, :].double(), new
        o.append((acc / l.clamp(min=1e-300)[..., None]).to(kind))
        lse.append(torch.where(l > 0, m + l.log(), -math.inf).to(kind))
    return torch.cat(o, -2), torch.cat(lse, -1)


def forward_in_padded_tiles(q, k, v, Br, Bc, causal):
    """Zeros fill the last tiles and are hidden, as in a kernel; the scale is a tensor."""
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    rows, cols = math.ceil(N / Br), math.ceil(M / Bc)
    q = F.pad(q.to(wide), (0, 0, 0, rows * Br - N)) / torch.sqrt(torch.tensor(d, dtype=wide))
    k, v = (F.pad(t.to(wide), (0, 0, 0, cols * Bc - M)) for t in (k, v))
    outs, sums = [], []
    for i in range(rows):
        Q = q[..., i * Br : (i + 1) * Br, :]
        m = torch.full_like(Q[..., :1], -math.inf)
        l, acc = torch.zeros_like(m), torch.zeros_like(Q)
        for j in range(cols):
            if causal and j * Bc > min((i + 1) * Br, N) - 1 + M - N:
                break
            c = torch.arange(j * Bc, (j + 1) * Bc, device=q.device)[None]
            r = torch.arange(i * Br, (i + 1) * Br, device=q.device)[:, None]
            seen = (c < M) & (c <= r + M - N) if causal else c < M
            s = torch.matmul(Q, k[..., j * Bc : (j + 1) * Bc, :].transpose(-1, -2)).masked_fill(
                ~seen, -math.inf
            )
            new = torch.maximum(m, s.max(-1, keepdim=True).values)
            base = new.nan_to_num(neginf=0.0)
            p, factor = torch.exp(s - base), torch.exp(m - base)
            l, acc, m = (
                factor * l + p.sum(-1, keepdim=True),
                factor * acc + p @ v[..., j * Bc : (j + 1) * Bc, :],
                new,
            )
        outs.append(acc / torch.where(l == 0, 1.0, l))
        sums.append((m + l.log())[..., 0])
    return torch.cat(outs, -2)[..., :N, :], torch.cat(sums, -1)[..., :N]


RIGHT = {
    "block_scores": [scores_by_where, scores_by_triu, scores_row_by_row],
    "visible_tiles": [tiles_by_brute_force, tiles_by_loops, tiles_in_tensors],
    "flash_forward": [
        forward_in_place,
        forward_keys_outside,
        forward_by_merging,
        forward_in_double,
        forward_in_padded_tiles,
    ],
}


def naive(q, k, v, Br, Bc, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    s = q.to(wide) @ k.to(wide).mT * d**-0.5
    if causal:
        s = s.masked_fill(~_visible(0, 0, N, M, N, M, q.device), -math.inf)
    lse = torch.logsumexp(s, -1)
    return torch.exp(s - lse.nan_to_num(neginf=0.0)[..., None]) @ v.to(wide), lse


def library(q, k, v, Br, Bc, causal):
    wide = torch.promote_types(q.dtype, torch.float32)
    N, M = q.shape[-2], k.shape[-2]
    mask = _visible(0, 0, N, M, N, M, q.device) if causal else None
    o = F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), mask)
    return o, naive(q, k, v, Br, Bc, causal)[1]


def row_by_row_of_keys(q, k, v, Br, Bc, causal):
    """Tiles of queries, all keys at once."""
    outs, sums = [], []
    N, M = q.shape[-2], k.shape[-2]
    for i in range(0, N, Br):
        end = max(0, min(i + Br, N) + M - N) if causal else M
        rows = q[..., i : i + Br, :]
        if end == 0:
            o, lse = torch.zeros_like(rows), torch.full_like(rows[..., 0], -math.inf)
        else:
            o, lse = naive(rows, k[..., :end, :], v[..., :end, :], Br, Bc, causal)
        kind = torch.promote_types(q.dtype, torch.float32)
        outs.append(o.to(kind))
        sums.append(lse.to(kind))
    return torch.cat(outs, -2), torch.cat(sums, -1)


def probabilities_in_bf16(q, k, v, Br, Bc, causal):
    o, lse = forward_in_place(q, k, v, Br, Bc, causal)
    return o.bfloat16().to(o), lse


LAZY = {
    "block_scores": [
        lambda q, k, scale, causal, i, j, Br, Bc: torch.zeros(*q.shape[:-2], Br, Bc),
        lambda q, k, scale, causal, i, j, Br, Bc: None,
        lambda q, k, scale, causal, i, j, Br, Bc: scores_by_where(q, k, scale, causal, i, j, Br, Bc).detach(),
        lambda q, k, scale, causal, i, j, Br, Bc: scores_by_where(
            q.float(), k.float(), scale, causal, i, j, Br, Bc
        ),
    ],
    "visible_tiles": [
        lambda N, M, Br, Bc: 0,
        lambda N, M, Br, Bc: 36,
        lambda N, M, Br, Bc: round(N * M / (2 * Br * Bc) + (N / Br) / 2),
        lambda N, M, Br, Bc: None,
    ],
    "flash_forward": [
        lambda q, k, v, Br, Bc, causal: (torch.zeros_like(q), torch.zeros_like(q[..., 0])),
        lambda q, k, v, Br, Bc, causal: None,
        naive,
        library,
        row_by_row_of_keys,
        probabilities_in_bf16,
    ],
}
