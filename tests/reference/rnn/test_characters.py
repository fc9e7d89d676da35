"""The character model's references against brute force and torch, and the identities that the text of notebook 04 states."""

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils import data
from utils.reference.rnn import bigram_bits, bits_per_char, conditional_entropy, generate, sample_batch
from utils.reference.rnn.characters import pair_counts

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
        ],
    ),
]
on_devices = pytest.mark.parametrize("device", DEVICES)


def random_text(length: int, symbols: int, seed: int = 0) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    return (torch.rand(length, generator=gen) ** 2 * symbols).long()


# Bits


@on_devices
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_bits_are_torchs_cross_entropy(device: str, scale: float) -> None:
    gen = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(3, 5, 7, dtype=torch.float64, generator=gen)).to(device)
    y = torch.randint(7, (3, 5), generator=gen).to(device)
    theirs = F.cross_entropy(logits.flatten(0, 1), y.flatten()) / math.log(2)
    torch.testing.assert_close(bits_per_char(logits, y), theirs)


def test_bits_gradients_and_example() -> None:
    logits = torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 200]]])
    assert bits_per_char(logits, torch.tensor([[2, 3]])).item() == pytest.approx(1.0)
    z = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randint(4, (2, 3))
    assert torch.autograd.gradcheck(lambda z: bits_per_char(z, y), z)


def test_costs_of_characters_add_up_to_the_cost_of_the_text() -> None:
    """The chain rule: P is the product of the predictions."""
    logits, y = torch.randn(1, 6, 5, dtype=torch.float64), torch.randint(5, (1, 6))
    P = torch.softmax(logits, -1).gather(-1, y[..., None]).prod()
    assert 6 * bits_per_char(logits, y).item() == pytest.approx(-math.log2(P))


def test_a_small_probability_is_zero_in_float32_and_its_cost_is_not_infinite() -> None:
    z = torch.tensor([[[0.0, 200.0]]])
    y = torch.tensor([[0]])
    assert torch.softmax(z, -1)[0, 0, 0] == 0
    assert bits_per_char(z, y).item() == pytest.approx(200 / math.log(2))
    assert torch.tensor(1e-45) > 0
    assert torch.tensor(1e-46) == 0


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_contains_a_cell_of_the_stated_number_of_digits(seed: int) -> None:
    """ceil(-log2 P) + 1 digits name a cell that lies inside the interval, and are fewer than -log2 P + 2."""
    gen = torch.Generator().manual_seed(seed)
    low, width = Fraction(0), Fraction(1)
    for _ in range(12):
        counts = torch.randint(1, 50, (6,), generator=gen).tolist()
        b = int(torch.randint(6, (1,), generator=gen))
        low, width = (
            low + width * Fraction(sum(counts[:b]), sum(counts)),
            width * Fraction(counts[b], sum(counts)),
        )
    bits = -math.log2(width)
    digits = math.ceil(bits) + 1
    cell = Fraction(1, 2**digits)
    assert cell <= width / 2
    assert digits < bits + 2
    first = -(-low // cell) * cell
    assert low <= first
    assert first + cell <= low + width


# Tables


@pytest.mark.parametrize(("n", "m", "symbols"), [(2, 2, 3), (40, 30, 5), (300, 200, 11)])
def test_bigram_bits_by_counting_in_a_loop(n: int, m: int, symbols: int) -> None:
    train, val = random_text(n, symbols, 1).tolist(), random_text(m, symbols, 2).tolist()
    pairs, firsts = Counter(pairwise(train)), Counter(train[:-1])
    costs = [-math.log2((pairs[a, b] + 1) / (firsts[a] + symbols)) for a, b in pairwise(val)]
    got = bigram_bits(torch.tensor(train), torch.tensor(val), symbols)
    assert got == pytest.approx(sum(costs) / len(costs))


def test_table_of_pairs_is_a_distribution_and_follows_its_example() -> None:
    counts = pair_counts(random_text(100, 6), 9)
    rows = ((counts + 1) / (counts.sum(1, keepdim=True) + 9)).sum(1)
    torch.testing.assert_close(rows, torch.ones_like(rows))
    assert bigram_bits(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 1]), 2) == pytest.approx(1.0, abs=1e-3)


def test_conditional_entropy_is_the_entropy_of_pairs_less_that_of_the_first() -> None:
    ids = random_text(400, 7)

    def entropy(items: list[object]) -> float:
        return sum(n / len(items) * math.log2(len(items) / n) for n in Counter(items).values())

    text = ids.tolist()
    pairs = list(pairwise(text))
    assert conditional_entropy(ids, 7) == pytest.approx(entropy(pairs) - entropy(text[:-1]))
    assert conditional_entropy(ids, 7) == pytest.approx(conditional_entropy(ids, 50))
    assert conditional_entropy(ids, 7) <= entropy(text[1:])


def test_conditional_entropy_follows_its_example() -> None:
    assert conditional_entropy(torch.tensor([0, 1, 0, 2, 0]), 3) == pytest.approx(0.5)
    assert conditional_entropy(torch.arange(20) % 4, 4) == pytest.approx(0.0, abs=1e-12)


def test_no_model_of_one_character_gets_below_the_conditional_entropy() -> None:
    """Gibbs' inequality, tried by descent: a free table of logits fitted to the text itself comes to the limit from above."""
    ids = random_text(120, 4)
    limit = conditional_entropy(ids, 4)
    table = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([table], lr=0.1)
    for _ in range(400):
        loss = bits_per_char(table[ids[:-1]][None], ids[None, 1:])
        assert loss.item() >= limit - 1e-12
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() == pytest.approx(limit, abs=1e-3)
    for seed in range(50):
        rule = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert bits_per_char(rule[ids[:-1]][None], ids[None, 1:]).item() >= limit - 1e-12
        assert bigram_bits(random_text(200, 4, seed), ids, 4) >= limit


# Windows


@on_devices
def test_batches_are_windows(device: str) -> None:
    ids = torch.randperm(50).to(device)
    x, y = sample_batch(ids, 200, 7, torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (200, 7)
    assert x.device == y.device == ids.device
    starts = [ids.tolist().index(k) for k in x[:, 0].tolist()]
    assert set(starts) == set(range(43))
    for start, a, b in zip(starts, x, y, strict=True):
        assert torch.equal(a, ids[start : start + 7])
        assert torch.equal(b, ids[start + 1 : start + 8])


def test_the_only_window() -> None:
    ids = torch.tensor([3, 1, 4, 1])
    x, y = sample_batch(ids, 5, 3, torch.Generator())
    assert (x == ids[:3]).all()
    assert (y == ids[1:]).all()


# Writing


@on_devices
def test_generate_draws_texts_with_the_probability_that_the_model_gives_them(device: str) -> None:
    """All texts of three characters of a model with a state, by brute force, at two temperatures."""
    R = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1)).to(device)

    def step(symbol: int, state: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        before, parity = state
        return R[parity, (before + symbol) % 3], (symbol, (parity + symbol) % 2)

    prompt, start = torch.tensor([1, 2], device=device), (0, 0)
    for temperature in (0.6, 1.7):
        gen, n = torch.Generator().manual_seed(3), 1000
        found = Counter(tuple(generate(step, start, prompt, 3, temperature, gen).tolist()) for _ in range(n))
        for text in product(range(3), repeat=3):
            p, state = 1.0, start
            for k, symbol in enumerate([1, 2, *text[:2]]):
                logits, state = step(symbol, state)
                if k >= 1:
                    p *= torch.softmax(logits / temperature, 0)[text[k - 1]].item()
            assert abs(found[text] / n - p) < 6 * (p * (1 - p) / n) ** 0.5 + 1e-3


def test_generate_reads_each_character_once_and_follows_its_example() -> None:
    read = []

    def step(symbol: int, state: None) -> tuple[Tensor, None]:
        read.append(symbol)
        return F.one_hot(torch.tensor((symbol + 1) % 10), 10).float(), None

    text = generate(step, None, torch.tensor([3, 4]), 3, 0.0, torch.Generator())
    assert text.tolist() == [5, 6, 7]
    assert read == [3, 4, 5, 6]
    assert generate(step, None, torch.tensor([3]), 0, 1.0, torch.Generator()).shape == (0,)


def test_temperature_is_a_power_of_the_probabilities() -> None:
    z = torch.randn(8, dtype=torch.float64)
    for temperature in (0.3, 1.0, 2.5):
        power = torch.softmax(z, 0) ** (1 / temperature)
        torch.testing.assert_close(torch.softmax(z / temperature, 0), power / power.sum())


# The text


def test_paragraphs_repeat_in_the_text_and_not_once_each_is_kept_once() -> None:
    text = data.pydoc_text()
    once = "\n\n".join(dict.fromkeys(text.split("\n\n")))

    def seen_before(text: str) -> float:
        cut = len(text) * 9 // 10
        known = {text[k : k + 50] for k in range(cut - 49)}
        windows = [text[k : k + 50] for k in range(cut, len(text) - 49)]
        return sum(window in known for window in windows) / len(windows)

    assert len(once) < 0.9 * len(text)
    assert seen_before(once) < 0.5 * seen_before(text)
