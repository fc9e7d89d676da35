"""The exercise ``bigram_bits`` of the lesson rnn/04_char_lm."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement, Tolerance
from autograde.observe import Inputs
from utils.reference import rnn as reference


def _texts(train: int, val: int, symbols: int, spare: int = 0) -> Callable[[Draw], Inputs]:
    """Two texts in which some symbols are frequent; ``spare`` symbols of the alphabet occur in neither."""

    def draw(source: Draw) -> Inputs:
        def text(length: int) -> Tensor:
            return (source.uniform(length) ** 2 * symbols).long()

        return {"train": text(train), "val": text(val), "symbols": symbols + spare}

    return draw


def _new_in_val(source: Draw) -> Inputs:
    """Symbols 0 to 3 in the training text, 0 to 6 in the held-out text."""
    return {
        "train": source.integers(40, low=0, high=3),
        "val": source.integers(30, low=0, high=6),
        "symbols": 7,
    }


def _strided(source: Draw) -> Inputs:
    drawn = dict(_texts(60, 40, 5)(source))
    return drawn | {"train": drawn["train"][::2], "val": drawn["val"][::2]}


def _repeats(source: Draw) -> Inputs:
    """A text of long runs, so that the same pair stands many times in a row."""
    runs = source.integers(12, low=0, high=3).repeat_interleave(6)
    return {"train": runs, "val": source.integers(20, low=0, high=3), "symbols": 4}


def _counts(ids: Tensor, symbols: int) -> Tensor:
    table = torch.zeros(symbols, symbols, dtype=torch.float64, device=ids.device)
    return table.index_put(
        (ids[:-1], ids[1:]), torch.ones_like(ids[1:], dtype=torch.float64), accumulate=True
    )


def _cost(p: Tensor, val: Tensor) -> float:
    return -p[val[:-1], val[1:]].log2().mean().item()


def _smoothed(counts: Tensor) -> Tensor:
    return (counts + 1) / (counts.sum(1, keepdim=True) + counts.shape[1])


def _no_smoothing(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost(counts / counts.sum(1, keepdim=True).clamp(min=1), val)


def _small_number_for_zero(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts / counts.sum(1, keepdim=True).clamp(min=1)).clamp(min=1e-9), val)


def _numerator_only(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1) / counts.sum(1, keepdim=True).clamp(min=1), val)


def _one_more_in_the_row(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1) / (counts.sum(1, keepdim=True) + 1), val)


def _one_shared_by_the_row(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1 / symbols) / (counts.sum(1, keepdim=True) + 1), val)


def _joint(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1) / (counts.sum() + symbols**2), val)


def _single_characters(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = torch.bincount(train, minlength=symbols).double()
    return -((counts + 1) / (counts.sum() + symbols))[val[1:]].log2().mean().item()


def _other_way_round(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1) / (counts.sum(0, keepdim=True) + symbols), val)


def _reversed_pairs(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train, symbols)).T, val)


def _natural_logarithm(train: Tensor, val: Tensor, symbols: int) -> float:
    return -_smoothed(_counts(train, symbols))[val[:-1], val[1:]].log().mean().item()


def _sum(train: Tensor, val: Tensor, symbols: int) -> float:
    return -_smoothed(_counts(train, symbols))[val[:-1], val[1:]].log2().sum().item()


def _per_character_of_val(train: Tensor, val: Tensor, symbols: int) -> float:
    return _sum(train, val, symbols) / len(val)


def _mean_probability(train: Tensor, val: Tensor, symbols: int) -> float:
    return -_smoothed(_counts(train, symbols))[val[:-1], val[1:]].mean().log2().item()


def _counted_in_val(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(val, symbols)), val)


def _counted_in_both(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train, symbols) + _counts(val, symbols)), val)


def _measured_on_train(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train, symbols)), train)


def _not_accumulated(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed((_counts(train, symbols) > 0).double()), val)


def _last_character_counted(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    characters = torch.bincount(train, minlength=symbols).double()
    return _cost((counts + 1) / (characters[:, None] + symbols), val)


def _joined_to_a_ring(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(torch.cat([train, train[:1]]), symbols)), val)


def _continued_from_train(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train, symbols)), torch.cat([train[-1:], val]))


def _unseen_left_out(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    seen = counts[val[:-1], val[1:]] > 0
    return -_smoothed(counts)[val[:-1], val[1:]][seen].log2().sum().item() / max(1, int(seen.sum()))


def _seen_symbols_only(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1) / (counts.sum(1, keepdim=True) + len(train.unique())), val)


def _added_twice(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols) + 1
    return _cost(counts / (counts.sum(1, keepdim=True) + symbols), val)


def _no_keepdim(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols)
    return _cost((counts + 1) / (counts.sum(1) + symbols), val)


def _all_counts_of_train(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost((_counts(train, symbols) + 1) / (len(train) + symbols), val)


def _only_zeros_get_one(train: Tensor, val: Tensor, symbols: int) -> float:
    counts = _counts(train, symbols).clamp(min=1)
    return _cost(counts / counts.sum(1, keepdim=True), val)


def _last_pair_of_val_lost(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train, symbols)), val[:-1])


def _last_pair_of_train_lost(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train[:-1], symbols)), val)


def _every_second_pair(train: Tensor, val: Tensor, symbols: int) -> float:
    even = train[: len(train) // 2 * 2].reshape(-1, 2)
    table = torch.zeros(symbols, symbols, dtype=torch.float64)
    ones = torch.ones(len(even), dtype=torch.float64)
    return _cost(_smoothed(table.index_put((even[:, 0], even[:, 1]), ones, accumulate=True)), val)


def _perplexity(train: Tensor, val: Tensor, symbols: int) -> float:
    return float(2 ** _cost(_smoothed(_counts(train, symbols)), val))


def _per_ten(train: Tensor, val: Tensor, symbols: int) -> float:
    return _cost(_smoothed(_counts(train, symbols)), val) * math.log10(2)


def _no_sign(train: Tensor, val: Tensor, symbols: int) -> float:
    return -_cost(_smoothed(_counts(train, symbols)), val)


_IN_FLOAT32 = Tolerance(
    8,
    "one who adds up thousands of costs in float32, one after the other, was seen at more than 1 of the derived one",
)


bigram_bits = Exercise(
    reference.bigram_bits,
    requirements=(
        Requirement(
            "counts pairs in the training text, pays on the other",
            (
                Case("40 and 25 characters, 5 symbols", _texts(40, 25, 5)),
                Case("a text of long runs", _repeats),
                Case("texts that are not contiguous", _strided),
                Case("one symbol", _texts(9, 6, 1)),
                Case("a training text of two characters", _texts(2, 30, 4)),
                Case("a held-out text of two characters", _texts(50, 2, 4)),
                Case("3,000 and 1,500 characters, 40 symbols", _texts(3_000, 1_500, 40)),
                Case("two symbols, every pair a few hundred times", _texts(2_500, 40, 2)),
                Case("20,000 and 5,000 characters, 60 symbols", _texts(20_000, 5_000, 60), shown=False),
            ),
            points=2,
            tolerance=_IN_FLOAT32,
        ),
        Requirement(
            "what was never seen has a finite cost",
            (
                Case("symbols that the training text does not have", _new_in_val),
                Case("symbols that occur nowhere", _texts(50, 30, 4, spare=5)),
                Case("few pairs, many symbols", _texts(30, 40, 25), shown=False),
            ),
            tolerance=_IN_FLOAT32,
        ),
    ),
    mistakes=(
        Mistake(
            "A pair that the training text does not have gets probability zero, and costs infinitely many bits. Add one to every "
            "count.",
            _no_smoothing,
        ),
        Mistake(
            "You replace zeros by a tiny probability. Add one to every count instead, and the number of symbols to every row's sum.",
            _small_number_for_zero,
        ),
        Mistake(
            "You add one to the counts and not to the sums, so that the probabilities of a row add up to more than 1. Add the number "
            "of symbols to each row's sum.",
            _numerator_only,
        ),
        Mistake(
            "You add 1 to a row's sum. Its counts have grown by 1 each, so the sum grows by the number of symbols.",
            _one_more_in_the_row,
        ),
        Mistake(
            "You add 1 / symbols to each count. Asked is Laplace's rule: add 1 to every count.",
            _one_shared_by_the_row,
        ),
        Mistake(
            "You divide by the number of all pairs: that is the probability of the pair. Asked is the probability of the next "
            "character when the current one is known: divide by the row's sum.",
            _joint,
        ),
        Mistake(
            "Your table does not look at the current character: it counts single characters, not pairs.",
            _single_characters,
        ),
        Mistake(
            "You divide by the sums of the columns. The row holds what follows a character, so its sum is the divisor.",
            _other_way_round,
        ),
        Mistake(
            "You read the table the wrong way round: the first index is the current character, the second one the next.",
            _reversed_pairs,
        ),
        Mistake("You use the natural logarithm. Bits need log2.", _natural_logarithm),
        Mistake("You add up the costs of all pairs. Asked is the mean.", _sum),
        Mistake(
            "You divide by the number of characters of val. A text of M characters has M - 1 pairs: nothing predicts its first one.",
            _per_character_of_val,
        ),
        Mistake(
            "You average the probabilities and then take the logarithm. Take the logarithm of each first: costs add up.",
            _mean_probability,
        ),
        Mistake(
            "You count the pairs in val. The model must not have seen the text that it is measured on.",
            _counted_in_val,
        ),
        Mistake(
            "You count the pairs of val, too. The model must not have seen the text that it is measured on.",
            _counted_in_both,
        ),
        Mistake("You measure on the training text. Asked is what val costs.", _measured_on_train),
        Mistake(
            "Each pair counts once, however often it occurs: counts[a, b] += 1 with index tensors writes the same place once. Use "
            "torch.bincount, or index_put with accumulate=True.",
            _not_accumulated,
        ),
        Mistake(
            "You divide by how often a character occurs in train. The last character of the text has no successor: take the "
            "sums of the rows.",
            _last_character_counted,
        ),
        Mistake(
            "You count a pair of the last and the first character of train, as torch.roll makes it. The text is no ring.",
            _joined_to_a_ring,
        ),
        Mistake(
            "You predict the first character of val from the last one of train. Only the pairs inside val count.",
            _continued_from_train,
        ),
        Mistake(
            "You leave out the pairs of val that train does not have. They are where a table pays most.",
            _unseen_left_out,
        ),
        Mistake(
            "You add the number of symbols that train has. The alphabet has `symbols` of them, also where train lacks some.",
            _seen_symbols_only,
        ),
        Mistake(
            "You add the number of symbols to the sums twice: the sums of counts that were raised by one have grown already.",
            _added_twice,
        ),
        Mistake(
            "Your sums lie along the wrong dimension: without keepdim=True a row's sum is divided out of a column.",
            _no_keepdim,
        ),
        Mistake(
            "You divide by the length of train. The pairs that begin with a are n_a, the sum of its row.",
            _all_counts_of_train,
        ),
        Mistake(
            "You turn only the zeros into ones. Laplace's rule adds one to every count, also to those that are not zero.",
            _only_zeros_get_one,
        ),
        Mistake(
            "You leave out the last pair of val. A text of M characters has M - 1 pairs.",
            _last_pair_of_val_lost,
        ),
        Mistake(
            "You leave out the last pair of train. A text of N characters has N - 1 pairs.",
            _last_pair_of_train_lost,
        ),
        Mistake(
            "You cut train into pairs side by side. Pairs overlap: every character but the last begins one.",
            _every_second_pair,
        ),
        Mistake("You return the perplexity, 2 to the power of the bits. Asked are the bits.", _perplexity),
        Mistake("You use the logarithm to base 10. Bits need log2.", _per_ten),
        Mistake("The sign is wrong: log p is negative, and a cost is -log2 p.", _no_sign),
    ),
)
