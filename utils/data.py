"""Data that is generated, or that ships with Python: nothing is downloaded."""

import random
from collections.abc import Sequence
from pydoc_data.topics import topics

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def additions(
    n: int, bits: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n bits 2"], Float[Tensor, "n bits"], Float[Tensor, "n bits"]]:
    """Draw n sums of two uniformly random numbers, least significant bit first.

    Returns (x, s, c): the bit pairs x[:, t] = (a_t, b_t), the bits s of a + b, and the carries c[:, t] into
    position t, all as 0.0 or 1.0. The carry out of the last position is dropped.
    """
    x = torch.randint(0, 2, (n, bits, 2), generator=generator)
    s, c = add_bits(x)
    return x.float(), s.float(), c.float()


def add_bits(x: Int[Tensor, "n bits 2"]) -> tuple[Int[Tensor, "n bits"], Int[Tensor, "n bits"]]:
    """Add with the rule taught at school. Returns the bits of the sum and the carry into each position."""
    carry = torch.zeros_like(x[:, 0, 0])
    sums, carries = [], []
    for pair in x.unbind(dim=1):
        count = pair.sum(dim=1) + carry
        carries.append(carry)
        sums.append(count % 2)
        carry = count // 2
    return torch.stack(sums, dim=1), torch.stack(carries, dim=1)


def to_bits(value: int, bits: int) -> Int[Tensor, "bits"]:
    """The lowest `bits` bits of a non-negative integer, least significant first: to_bits(6, 4) is 0, 1, 1, 0."""
    return torch.tensor([(value >> t) & 1 for t in range(bits)])


def from_bits(bits: Tensor) -> int:
    """The integer whose bits these are, least significant first: the inverse of to_bits."""
    return sum(int(bit) << t for t, bit in enumerate(bits.tolist()))


def pairs(a: int, b: int, bits: int) -> Float[Tensor, "1 bits 2"]:
    """Two integers as one input sequence of bit pairs, least significant first."""
    return torch.stack([to_bits(a, bits), to_bits(b, bits)], dim=-1)[None].float()


def pydoc_text() -> str:
    """The language reference that ships with Python, as one text of about 460,000 ASCII characters.

    The sections are in alphabetical order of their names. The text changes a little with the version of Python: use it
    for ratios and orderings, not for digits.
    """
    text = "\n".join(topics[name] for name in sorted(topics))
    return text.encode("ascii", "ignore").decode("ascii")


def encode_text(text: str) -> tuple[Int[Tensor, "characters"], str]:
    """Characters as numbers: (ids, alphabet), where alphabet[ids[k]] is character k and the alphabet is sorted."""
    alphabet = "".join(sorted(set(text)))
    number = {character: k for k, character in enumerate(alphabet)}
    return torch.tensor([number[character] for character in text]), alphabet


def pydoc_lines(n: int, seed: int = 0) -> list[str]:
    """Draw n different non-empty lines from the documentation that ships with Python.

    The text changes a little with the version of Python: use it for ratios and orderings, not for digits.
    """
    lines = sorted({line.strip() for text in topics.values() for line in text.splitlines()} - {""})
    return random.Random(seed).sample([line for line in lines if line.isascii()], n)


def pad_lines(lines: Sequence[str]) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch"]]:
    """ASCII codes of the lines, padded with zeros to the longest one, and the length of each line."""
    lengths = torch.tensor([len(line) for line in lines])
    codes = torch.zeros(len(lines), int(lengths.max()), dtype=torch.long)
    for row, line in zip(codes, lines, strict=True):
        row[: len(line)] = torch.tensor(list(line.encode("ascii")))
    return codes, lengths


def length_mask(lengths: Int[Tensor, "batch"], time: int) -> Bool[Tensor, "batch time"]:
    """True where a position lies inside its sequence, False in the padding."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def digits() -> tuple[Float[Tensor, "n 64"], Int[Tensor, "n"]]:
    """The 1797 handwritten digits of 8 by 8 pixels that ship with scikit-learn, between -1 and 1, and what they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 8 - 1).float(), torch.tensor(labels)


def eight_gaussians() -> tuple[Float[Tensor, "8 2"], Float[Tensor, "8"], Float[Tensor, "8"]]:
    """Means on a circle of radius 2, standard deviations of 0.1 and equal weights: a mixture in the plane."""
    angle = torch.arange(8) * (torch.pi / 4)
    means = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return means, torch.full((8,), 0.1), torch.full((8,), 1 / 8)


def draw_mixture(
    n: int,
    means: Float[Tensor, "K dim"],
    stds: Float[Tensor, "K"],
    weights: Float[Tensor, "K"],
    generator: torch.Generator,
) -> Float[Tensor, "n dim"]:
    """Draw n points from a mixture of round Gaussians."""
    component = torch.multinomial(weights, n, replacement=True, generator=generator)
    return means[component] + stds[component, None] * torch.randn(n, means.shape[1], generator=generator)
