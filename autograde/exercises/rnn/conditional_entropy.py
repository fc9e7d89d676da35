"""The exercise ``conditional_entropy`` of the lesson rnn/04_char_lm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Implementation, Inputs
from utils.reference import rnn as reference


def bits(implementation: Implementation, inputs: Inputs) -> Any:
    """The result, where less than a millionth of a bit counts as zero.

    Where nothing is left to guess, the reference is exactly 0, and right answers are off by a rounding: a difference of two
    entropies, or 1e-12 inside the logarithm.
    """
    value = implementation(*inputs.values())
    tiny = isinstance(value, (float, np.floating)) or (isinstance(value, Tensor) and value.dim() == 0)
    return 0.0 if tiny and abs(float(value)) < 1e-6 else value


def _text(length: int, symbols: int, spare: int = 0) -> Callable[[Draw], Inputs]:
    """A text in which the next symbol is near the current one; ``spare`` symbols of the alphabet do not occur."""

    def draw(source: Draw) -> Inputs:
        steps = (source.uniform(length) ** 3 * symbols).long()
        return {"ids": steps.cumsum(0) % symbols, "symbols": symbols + spare}

    return draw


def _strided(source: Draw) -> Inputs:
    return {"ids": source.integers(80, low=0, high=3)[::2], "symbols": 4}


def _last_is_new(source: Draw) -> Inputs:
    """The last symbol occurs nowhere else, so nothing follows it."""
    ids = source.integers(30, low=0, high=2)
    ids[-1] = 3
    return {"ids": ids, "symbols": 4}


def _cycle(source: Draw) -> Inputs:
    """Every symbol has one successor: nothing is left to guess."""
    return {"ids": torch.arange(23) % 5, "symbols": 5}


def _two_characters(source: Draw) -> Inputs:
    return {"ids": source.integers(2, low=0, high=3), "symbols": 4}


def _only_a_coin(source: Draw) -> Inputs:
    """After 0, 1 and 2 follow equally often; after them comes 0. Half a bit per character."""
    return {"ids": torch.tensor([0, 1, 0, 2] * 9 + [0]), "symbols": 3}


def _counts(ids: Tensor, symbols: int) -> Tensor:
    table = torch.zeros(symbols, symbols, dtype=torch.float64, device=ids.device)
    return table.index_put(
        (ids[:-1], ids[1:]), torch.ones_like(ids[1:], dtype=torch.float64), accumulate=True
    )


def _entropy(p: Tensor) -> Tensor:
    """Over the last dimension, in bits."""
    return -torch.xlogy(p, p).sum(-1) / math.log(2)


def _rows(counts: Tensor) -> Tensor:
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def _from_counts(counts: Tensor) -> float:
    weights = counts.sum(1) / counts.sum()
    return float((weights * _entropy(_rows(counts))).sum())


def _nan_for_zero(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    p = _rows(counts)
    return float(-(counts * p.log2()).sum() / counts.sum())


def _zero_by_zero(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    p = counts / counts.sum(1, keepdim=True)
    return float((counts.sum(1) / counts.sum() * _entropy(p)).sum())


def _joint(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    return float(_entropy((counts / counts.sum()).flatten()))


def _of_the_next(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    return float(_entropy(counts.sum(0) / counts.sum()))


def _rows_unweighted(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    return float(_entropy(_rows(counts)).mean())


def _seen_rows_unweighted(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    return float(_entropy(_rows(counts))[counts.sum(1) > 0].mean())


def _rows_added(ids: Tensor, symbols: int) -> float:
    return float(_entropy(_rows(_counts(ids, symbols))).sum())


def _backwards(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids, symbols).T)


def _natural_logarithm(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids, symbols)) * math.log(2)


def _smoothed(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    p = (counts + 1) / (counts.sum(1, keepdim=True) + symbols)
    return float(-(counts * p.log2()).sum() / counts.sum())


def _smoothed_everywhere(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids, symbols) + 1)


def _not_accumulated(ids: Tensor, symbols: int) -> float:
    return _from_counts((_counts(ids, symbols) > 0).double())


def _per_character(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids, symbols)) * (len(ids) - 1) / len(ids)


def _weights_of_all_characters(ids: Tensor, symbols: int) -> float:
    weights = torch.bincount(ids, minlength=symbols).double() / len(ids)
    return float((weights * _entropy(_rows(_counts(ids, symbols)))).sum())


def _joined_to_a_ring(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(torch.cat([ids, ids[:1]]), symbols))


def _largest_share(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    p = _rows(counts).amax(1)
    weights = counts.sum(1) / counts.sum()
    return float(-(weights * p.clamp(min=1e-300).log2())[counts.sum(1) > 0].sum())


def _total(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids, symbols)) * (len(ids) - 1)


def _information_shared(ids: Tensor, symbols: int) -> float:
    return _of_the_next(ids, symbols) - _from_counts(_counts(ids, symbols))


def _sign(ids: Tensor, symbols: int) -> float:
    return -_from_counts(_counts(ids, symbols))


def _all_characters_subtracted(ids: Tensor, symbols: int) -> float:
    """H(pairs) less the entropy of all characters, the last one among them."""
    characters = torch.bincount(ids, minlength=symbols).double() / len(ids)
    return _joint(ids, symbols) - float(_entropy(characters))


def _of_the_current(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    return float(_entropy(counts.sum(1) / counts.sum()))


def _of_all_characters(ids: Tensor, symbols: int) -> float:
    return float(_entropy(torch.bincount(ids, minlength=symbols).double() / len(ids)))


def _pairs_alike(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    return float(-_rows(counts)[counts > 0].log2().mean())


def _frequencies_for_counts(ids: Tensor, symbols: int) -> float:
    return float(_entropy(_rows(_counts(ids, symbols))).sum()) / (len(ids) - 1)


def _no_keepdim(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    p = torch.where(counts > 0, counts / counts.sum(1).clamp(min=1), 1.0)
    return float(-(counts * p.log2()).sum()) / (len(ids) - 1)


def _spoilt_rows_as_zero(ids: Tensor, symbols: int) -> float:
    counts = _counts(ids, symbols)
    rows = -(counts * (counts / counts.sum(1, keepdim=True)).log2()).sum(1)
    return float(rows.nan_to_num(0.0).sum()) / (len(ids) - 1)


def _perplexity(ids: Tensor, symbols: int) -> float:
    return float(2 ** _from_counts(_counts(ids, symbols)))


def _per_ten(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids, symbols)) * math.log10(2)


def _last_pair_lost(ids: Tensor, symbols: int) -> float:
    return _from_counts(_counts(ids[:-1], symbols)) if len(ids) > 2 else 0.0


def _every_second_pair(ids: Tensor, symbols: int) -> float:
    even = ids[: len(ids) // 2 * 2].reshape(-1, 2)
    table = torch.zeros(symbols, symbols, dtype=torch.float64)
    ones = torch.ones(len(even), dtype=torch.float64)
    return _from_counts(table.index_put((even[:, 0], even[:, 1]), ones, accumulate=True))


_IN_FLOAT32 = Tolerance(
    32,
    "one who adds up thousands of costs in float32, one after the other, was seen at more than 1 of the derived one",
)


conditional_entropy = Exercise(
    reference.conditional_entropy,
    requirements=(
        Requirement(
            "the least cost of a model that sees one character",
            (
                Case("60 characters, 4 symbols", _text(60, 4)),
                Case("half a bit per character", _only_a_coin),
                Case("a text that is not contiguous", _strided),
                Case("2,000 characters, 20 symbols", _text(2_000, 20)),
                Case("two symbols, every pair a few hundred times", _text(2_500, 2)),
                Case("4,000 characters, 30 symbols", _text(4_000, 30), shown=False),
            ),
            bits,
            points=2,
            tolerance=_IN_FLOAT32,
        ),
        Requirement(
            "pairs that do not occur cost nothing",
            (
                Case("symbols that do not occur", _text(60, 5, spare=4)),
                Case("a last symbol that has no successor", _last_is_new),
                Case("every symbol has one successor: zero bits", _cycle),
                Case("two characters: zero bits", _two_characters),
                Case("more symbols than characters", _text(30, 40), shown=False),
            ),
            bits,
            tolerance=_IN_FLOAT32,
        ),
    ),
    mistakes=(
        Mistake(
            "A pair that does not occur gives 0 times the logarithm of 0, which is NaN. Such a pair costs nothing: leave it out, or "
            "clamp the probability before the logarithm.",
            _nan_for_zero,
        ),
        Mistake(
            "A symbol with no successor gives 0 / 0, and its NaN spoils the sum. Clamp the row's sum to at least 1.",
            _zero_by_zero,
        ),
        Mistake(
            "You return the entropy of the pairs. Once the current character is known, only its row counts: p is n_ab / n_a.",
            _joint,
        ),
        Mistake(
            "You return the entropy of the next character alone. Your model may look at the current one.",
            _of_the_next,
        ),
        Mistake(
            "You take the plain mean over the rows. A row counts as often as its character occurs: weight it with n_a.",
            _rows_unweighted,
        ),
        Mistake(
            "You take the plain mean over the rows that occur. A row counts as often as its character occurs: weight it with n_a.",
            _seen_rows_unweighted,
        ),
        Mistake(
            "You add up the entropies of the rows without weights. Weight each with n_a / (number of pairs).",
            _rows_added,
        ),
        Mistake(
            "You turned it round: this is what the current character costs when the next one is known. Divide by the sums of the "
            "rows.",
            _backwards,
        ),
        Mistake("You use the natural logarithm. Bits need log2.", _natural_logarithm),
        Mistake(
            "You add one to the counts. Here the best table for this very text is asked, and that is n_ab / n_a.",
            _smoothed,
        ),
        Mistake(
            "You add one to all counts, also in the weights. Here the best table for this very text is asked: n_ab / n_a.",
            _smoothed_everywhere,
        ),
        Mistake(
            "Each pair counts once, however often it occurs: counts[a, b] += 1 with index tensors writes the same place once. Use "
            "torch.bincount, or index_put with accumulate=True.",
            _not_accumulated,
        ),
        Mistake(
            "You divide by the number of characters. A text of N characters has N - 1 pairs.", _per_character
        ),
        Mistake(
            "You weight the rows with how often a character occurs. The last character of the text has no successor: use the sums of "
            "the rows, and N - 1.",
            _weights_of_all_characters,
        ),
        Mistake(
            "You count a pair of the last and the first character, as torch.roll makes it. The text is no ring.",
            _joined_to_a_ring,
        ),
        Mistake(
            "You pay for the most likely successor each time. The others come, too, and cost more: sum over all pairs.",
            _largest_share,
        ),
        Mistake(
            "You return the bits of the whole text. Asked are bits per character: divide by N - 1.", _total
        ),
        Mistake(
            "You return what the current character tells about the next. Asked is what remains to be paid.",
            _information_shared,
        ),
        Mistake("The sign is wrong: logarithms of probabilities are negative, and a cost is -log2 p.", _sign),
        Mistake(
            "You subtract the entropy of all characters from that of the pairs. The last character begins no pair: take the entropy "
            "of the first characters of the pairs.",
            _all_characters_subtracted,
        ),
        Mistake(
            "You return the entropy of the current character. Asked is what the next one costs when the current one is known.",
            _of_the_current,
        ),
        Mistake(
            "You return the entropy of single characters. Your model may look at the current one.",
            _of_all_characters,
        ),
        Mistake(
            "Each different pair counts once in your mean. The text pays for a pair as often as it comes: weight it with n_ab.",
            _pairs_alike,
        ),
        Mistake(
            "You weight the logarithms with n_ab / n_a. The text pays for a pair n_ab times: weight with the counts.",
            _frequencies_for_counts,
        ),
        Mistake(
            "Your sums lie along the wrong dimension: without keepdim=True a row's sum is divided out of a column.",
            _no_keepdim,
        ),
        Mistake(
            "A pair that does not occur makes the sum of its row NaN, and you count this row as zero: what the others of the row "
            "cost is lost. Replace each entry that does not occur, before the sum.",
            _spoilt_rows_as_zero,
        ),
        Mistake("You return the perplexity, 2 to the power of the bits. Asked are the bits.", _perplexity),
        Mistake("You use the logarithm to base 10. Bits need log2.", _per_ten),
        Mistake("You leave out the last pair. A text of N characters has N - 1 pairs.", _last_pair_lost),
        Mistake(
            "You cut the text into pairs side by side. Pairs overlap: every character but the last begins one.",
            _every_second_pair,
        ),
    ),
)
