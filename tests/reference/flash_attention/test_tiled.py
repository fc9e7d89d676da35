"""The references of flash_attention in PyTorch, against library operators, autograd in float64, brute force and identities."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F

from autograde.probes import Allocations
from utils.reference.flash_attention import (
    block_scores,
    delta,
    flash_attention,
    flash_backward,
    flash_forward,
    flash_kernel,
    hbm_flash,
    hbm_standard,
    merge,
    online_stats,
    safe_softmax,
    softmax_backward,
    split_k_decode,
    visible_tiles,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
    ),
]
on_devices = pytest.mark.parametrize("device", DEVICES)
SIZES = [
    (8, 8, 4, 4),
    (13, 13, 4, 6),
    (13, 13, 6, 4),
    (7, 20, 3, 8),
    (20, 7, 3, 4),
    (1, 9, 4, 2),
    (5, 1, 2, 2),
    (3, 4, 1, 1),
]


def draw(*shape, device="cpu", seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(device)


def three(N, M, d=4, heads=(), device="cpu", dtype=torch.float64):
    return [draw(*heads, length, d, device=device, seed=k, dtype=dtype) for k, length in enumerate((N, M, M))]


def hidden(N, M, device="cpu"):
    return torch.arange(M, device=device)[None, :] > torch.arange(N, device=device)[:, None] + M - N


def plain(q, k, v, causal):
    s = q @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        s = s.masked_fill(hidden(q.shape[-2], k.shape[-2], q.device), -math.inf)
    lse = torch.logsumexp(s, -1)
    return torch.where(lse[..., None] > -math.inf, torch.softmax(s, -1), 0.0) @ v, lse


def test_softmax_is_that_of_pytorch():
    for x in (draw(9), draw(1), draw(5) - 800, draw(5) + 800, torch.tensor([1e4, -1e4, 0.0, -math.inf])):
        torch.testing.assert_close(safe_softmax(x), torch.softmax(x, 0))
    assert safe_softmax(torch.full((3,), -math.inf)).tolist() == [0, 0, 0]


def test_softmax_example():
    assert safe_softmax(torch.tensor([1000.0, 1000.0 + math.log(3)])).tolist() == pytest.approx(
        [0.25, 0.75], abs=1e-4
    )


@pytest.mark.parametrize("sizes", [[9], [4, 4, 1], [1] * 9, [2, 7]])
def test_statistics_in_one_pass_are_those_in_two(sizes):
    for x in (draw(9), draw(9).sort().values * 50, draw(9) - 1000):
        m, l = online_stats(iter(x.split(sizes)))
        assert m == x.max()
        torch.testing.assert_close(m + l.log(), torch.logsumexp(x, 0))


def test_statistics_of_nothing():
    nothing = torch.full((2,), -math.inf)
    assert [t.item() for t in online_stats([nothing, nothing])] == [-math.inf, 0]
    m, l = online_stats([nothing, torch.zeros(3)])
    assert (m.item(), l.item()) == (0, 3)


def part(seed, rows=(3,), d=2):
    s, v = 4 * draw(*rows, 5, seed=seed), draw(*rows, 5, d, seed=seed + 50)
    m = s.amax(-1)
    p = torch.exp(s - m[..., None])
    return (m, p.sum(-1), (p[..., None, :] @ v)[..., 0, :]), s, v


def test_merge_is_attention_over_both_sets_of_keys_and_associative():
    parts, scores, values = zip(*(part(seed) for seed in range(3)), strict=True)
    m, l, o = functools.reduce(merge, parts)
    s, v = torch.cat(scores, -1), torch.cat(values, -2)
    torch.testing.assert_close(o / l[..., None], (torch.softmax(s, -1)[..., None, :] @ v)[..., 0, :])
    torch.testing.assert_close(m + l.log(), torch.logsumexp(s, -1))
    for got, wanted in zip(merge(parts[0], merge(parts[1], parts[2])), (m, l, o), strict=True):
        torch.testing.assert_close(got, wanted)
    for got, wanted in zip(merge(parts[1], parts[0]), merge(parts[0], parts[1]), strict=True):
        torch.testing.assert_close(got, wanted)


def test_an_empty_part_changes_nothing():
    full = part(1)[0]
    empty = torch.full((3,), -math.inf).double(), torch.zeros(3).double(), torch.zeros(3, 2).double()
    for found in (merge(full, empty), merge(empty, full)):
        assert all(torch.equal(a, b) for a, b in zip(found, full, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(merge(empty, empty), empty, strict=True))


def test_merge_example():
    a = torch.tensor(0.0), torch.tensor(1.0), torch.tensor([4.0])
    b = torch.tensor(math.log(2)), torch.tensor(1.0), torch.tensor([6.0])
    assert [t.flatten().tolist() for t in merge(a, b)] == [[pytest.approx(math.log(2))], [1.5], [8.0]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("N", "M", "Br", "Bc"), SIZES)
def test_tiles_of_scores_make_the_matrix(N, M, Br, Bc, causal):
    q, k, _ = three(N, M, heads=(2,))
    rows = [
        torch.cat([block_scores(q, k, 0.3, causal, i, j, Br, Bc) for j in range(math.ceil(M / Bc))], -1)
        for i in range(math.ceil(N / Br))
    ]
    s = 0.3 * q @ k.mT
    wanted = s.masked_fill(hidden(N, M), -math.inf) if causal else s
    torch.testing.assert_close(torch.cat(rows, -2), wanted)


@pytest.mark.parametrize(
    ("N", "M", "Br", "Bc"), [*SIZES, (100, 100, 16, 8), (64, 200, 7, 16), (200, 64, 16, 7)]
)
def test_visible_tiles_by_brute_force(N, M, Br, Bc):
    seen = ~hidden(N, M)
    tiles = [seen[i : i + Br, j : j + Bc].any() for i in range(0, N, Br) for j in range(0, M, Bc)]
    assert visible_tiles(N, M, Br, Bc) == sum(map(int, tiles))


@on_devices
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("N", "M", "Br", "Bc"), SIZES)
def test_forward_is_the_plain_formula(N, M, Br, Bc, causal, device):
    q, k, v = three(N, M, heads=(2, 3), device=device)
    for got, wanted in zip(flash_forward(q, k, v, Br, Bc, causal), plain(q, k, v, causal), strict=True):
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, wanted)


def test_forward_is_the_library_s_attention_also_where_a_row_sees_nothing():
    q, k, v = three(9, 4, heads=(1, 2))
    o, lse = flash_forward(q, k, v, 4, 3, True)
    torch.testing.assert_close(o, F.scaled_dot_product_attention(q, k, v, ~hidden(9, 4)))
    assert (o[..., :5, :] == 0).all()
    assert (lse[..., :5] == -math.inf).all()
    o, _ = flash_forward(q[..., :4, :], k, v, 4, 3, True)
    torch.testing.assert_close(o, F.scaled_dot_product_attention(q[..., :4, :], k, v, is_causal=True))


def test_forward_with_large_scores_in_any_order():
    for order in (torch.arange(40), torch.arange(39, -1, -1)):
        k = (order[:, None] * 500.0 - 1e4).double().expand(40, 4)
        q, v = torch.full((3, 4), 0.5, dtype=torch.float64), draw(40, 2)[:, [0, 1, 0, 1]]
        o, lse = flash_forward(q, k, v, 2, 8, False)
        torch.testing.assert_close(o, v[order.argmax()].expand(3, 4))
        torch.testing.assert_close(lse, plain(q, k, v, False)[1])


def test_forward_accumulates_in_float32():
    q, k, v = (t.bfloat16() for t in three(16, 300, 32))
    o, lse = flash_forward(q, k, v, 8, 8, False)
    assert o.dtype == lse.dtype == torch.float32
    wanted = plain(q.double(), k.double(), v.double(), False)
    torch.testing.assert_close((o.double(), lse.double()), wanted, atol=1e-6, rtol=1e-6)


def test_forward_never_holds_all_scores():
    for N in (256, 512):
        q, k, v = three(N, N, 8, dtype=torch.float32)
        seen = Allocations(track_gradients=False)(
            flash_forward, {"q": q, "k": k, "v": v, "Br": 16, "Bc": 16, "c": True}
        )
        assert seen["largest allocation"] <= N * 8 * 4


def test_softmax_backward_is_autograd_s():
    s, dp = draw(2, 5, 6).requires_grad_(), draw(2, 5, 6, seed=1)
    p = torch.softmax(s, -1)
    (wanted,) = torch.autograd.grad(p, s, dp)
    torch.testing.assert_close(softmax_backward(p.detach(), dp), wanted)


def test_softmax_backward_example():
    found = softmax_backward(torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, 2.0, 0.0]))
    assert found.tolist() == [0, 0.25, -0.25]


def test_delta_is_the_sum_of_p_dp():
    q, k, v = three(6, 9)
    do = draw(6, 4, seed=5)
    p = torch.softmax(q @ k.mT / 2, -1)
    torch.testing.assert_close(delta(do, p @ v), (p * (do @ v.mT)).sum(-1))


@on_devices
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("N", "M", "Br", "Bc"), SIZES)
def test_backward_is_autograd_s(N, M, Br, Bc, causal, device):
    q, k, v = (t.requires_grad_() for t in three(N, M, heads=(2,), device=device))
    do = draw(2, N, 4, device=device, seed=9)
    o, lse = plain(q, k, v, causal)
    seen = lse > -math.inf
    wanted = torch.autograd.grad((o * do)[seen].sum(), (q, k, v))
    with torch.no_grad():
        found = flash_backward(q, k, v, o, lse, do, Br, Bc, causal)
    for got, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, expected.nan_to_num(0.0))


def test_both_passes_connected():
    q, k, v = (t.requires_grad_() for t in three(11, 14, heads=(2,)))
    o = flash_attention(
        q, k, v, lambda *a: flash_forward(*a, 4, 4, True), lambda *a: flash_backward(*a, 4, 4, True)
    )
    do = draw(2, 11, 4, seed=9)
    wanted = torch.autograd.grad(plain(q, k, v, True)[0], (q, k, v), do)
    for got, expected in zip(torch.autograd.grad(o, (q, k, v), do), wanted, strict=True):
        torch.testing.assert_close(got, expected)
    assert torch.autograd.gradcheck(
        lambda *a: flash_attention(
            *a, lambda *b: flash_forward(*b, 4, 4, True), lambda *b: flash_backward(*b, 4, 4, True)
        ),
        (q, k, v),
    )


class Traffic:
    """Counts numbers that are read from and written to a slow memory."""

    def __init__(self):
        self.moved = 0

    def read(self, tensor):
        self.moved += tensor.numel()
        return tensor

    write = read


def test_traffic_of_standard_attention_by_counting():
    q, k, v = three(20, 20, 6)
    memory = Traffic()
    s = memory.write(memory.read(q) @ memory.read(k).mT)
    p = memory.write(torch.softmax(memory.read(s), -1))
    memory.write(memory.read(p) @ memory.read(v))
    assert memory.moved == hbm_standard(20, 6)


@pytest.mark.parametrize(("N", "d", "M"), [(20, 6, 24), (20, 6, 100), (23, 4, 77), (9, 2, 1000)])
def test_traffic_of_tiles_by_counting(N, d, M):
    q, k, v = three(N, N, d)
    memory, B = Traffic(), M // (4 * d)
    o = []
    for i in range(0, N, B):
        rows = memory.read(q[i : i + B])
        state = (
            torch.full((len(rows),), -math.inf).double(),
            torch.zeros(len(rows)).double(),
            torch.zeros_like(rows),
        )
        for j in range(0, N, B):
            s = rows @ memory.read(k[j : j + B]).mT / math.sqrt(d)
            m = s.amax(-1)
            p = torch.exp(s - m[:, None])
            state = merge(state, (m, p.sum(-1), p @ memory.read(v[j : j + B])))
        o.append(memory.write(state[2] / state[1][:, None]))
        memory.write(state[1])
        assert 4 * B * d <= M
    torch.testing.assert_close(torch.cat(o), plain(q, k, v, False)[0])
    assert memory.moved == hbm_flash(N, d, M)


def test_traffic_examples():
    assert hbm_standard(1000, 64) == 4_256_000
    assert hbm_flash(1000, 64, 25_600) == 1_409_000


@on_devices
@pytest.mark.parametrize("splits", [1, 2, 3, 7, 10])
def test_decoding_in_parts_is_attention(splits, device):
    q, k, v = three(1, 10, heads=(2, 3), device=device)
    torch.testing.assert_close(split_k_decode(q, k, v, splits, merge), plain(q, k, v, False)[0])


@pytest.mark.parametrize("causal", [False, True])
def test_what_the_kernel_writes(causal):
    q, k, v = three(21, 34, 16, heads=(2,))
    o, lse = torch.zeros_like(q), torch.zeros_like(q[..., 0])
    flash_kernel(q, k, v, o, lse, 21, 34, 0.25, causal, 16, 16, 16)
    torch.testing.assert_close((o, lse), plain(q, k, v, causal))
