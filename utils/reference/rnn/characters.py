"""A language model over characters: what its predictions cost in bits, batches of windows, and text that it writes."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

State = TypeVar("State")


def bits_per_char(
    logits: Float[Tensor, "batch time symbols"], y: Int[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Mean of -log2 softmax(logits)[y] over all characters: cross-entropy in bits, differentiable.

    With -log p(y) = logsumexp(logits) - logits[y] nothing overflows, and a probability that is too small for a float
    still has a finite cost.
    """
    nats = torch.logsumexp(logits, dim=-1) - logits.gather(-1, y[..., None])[..., 0]
    return nats.mean() / math.log(2)


def bigram_bits(train: Int[Tensor, "train"], val: Int[Tensor, "val"], symbols: int) -> float:
    """Bits per character on `val` of the table p(b | a) = (n_ab + 1) / (n_a + symbols) with pairs counted in `train`.

    `train` has len(train) - 1 pairs and `val` is measured on its len(val) - 1 pairs. Adding one to every count is
    Laplace's rule of succession: no pair gets probability zero.
    """
    counts = pair_counts(train, symbols)
    p = (counts + 1) / (counts.sum(dim=1, keepdim=True) + symbols)
    return -p[val[:-1], val[1:]].log2().mean().item()


def conditional_entropy(ids: Int[Tensor, "characters"], symbols: int) -> float:
    """H(next | current) of the pairs of a text, in bits: - sum_ab n_ab log2(n_ab / n_a) / (number of pairs).

    It is the least that any model can need on this text which sees only the current character: by Gibbs' inequality
    the best prediction after a is the distribution n_ab / n_a itself. Pairs that do not occur add nothing.
    """
    counts = pair_counts(ids, symbols)
    p = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return -(counts * p.clamp(min=1e-300).log2()).sum().item() / (len(ids) - 1)


def pair_counts(ids: Int[Tensor, "characters"], symbols: int) -> Float[Tensor, "symbols symbols"]:
    """How often b follows a, at [a, b], as float64."""
    return (
        torch.bincount(symbols * ids[:-1] + ids[1:], minlength=symbols**2).reshape(symbols, symbols).double()
    )


def sample_batch(
    ids: Int[Tensor, "characters"], batch: int, time: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Windows of a text at independent, uniformly random starts: x, and y one character ahead.

    A window needs time + 1 characters, so the starts 0 to len(ids) - time - 1 are valid, and all are equally likely.
    """
    starts = torch.randint(len(ids) - time, (batch, 1), generator=generator)
    window = ids[(starts + torch.arange(time + 1)).to(ids.device)]
    return window[:, :-1], window[:, 1:]


@torch.no_grad()
def generate(
    step: Callable[[int, State], tuple[Float[Tensor, "symbols"], State]],
    state: State,
    prompt: Int[Tensor, "prompt"],
    n: int,
    temperature: float,
    generator: torch.Generator,
) -> Int[Tensor, "n"]:
    """Let a model write n characters after a prompt; each is drawn from softmax(logits / temperature).

    `step(id, state) -> (logits, state)` reads one character. Temperature 0 takes the largest logit. One call of the step
    per character of the prompt and of the text, except for the last, which nobody needs to read.
    """
    for symbol in prompt.tolist():
        logits, state = step(symbol, state)
    written: list[int] = []
    while len(written) < n:
        if written:
            logits, state = step(written[-1], state)
        if temperature == 0:
            written.append(int(logits.argmax()))
        else:
            p = torch.softmax(logits.double() / temperature, dim=-1).cpu()
            written.append(int(torch.multinomial(p, 1, generator=generator)))
    return torch.tensor(written, dtype=torch.int64, device=prompt.device)
