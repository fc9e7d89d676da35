"""The exercise ``bits_per_char`` of the lesson rnn/04_char_lm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Inputs, Observation
from autograde.probes import gradients, outputs
from autograde.values import SeenTensor
from utils.reference import rnn as reference


def _predictions(batch: int, time: int, symbols: int, scale: float = 2.0) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "logits": source.normal(batch, time, symbols, scale=scale),
            "y": source.integers(batch, time, low=0, high=symbols - 1),
        }

    return draw


def _time_first(source: Draw) -> Inputs:
    """Time first in memory, as a loop over time leaves it; y is a view, too, as sample_batch may return it."""
    drawn = dict(_predictions(4, 6, 5)(source))
    window = source.integers(4, 7, low=0, high=4)
    return drawn | {
        "logits": drawn["logits"].transpose(0, 1).contiguous().transpose(0, 1),
        "y": window[:, 1:],
    }


def _in_double(source: Draw) -> Inputs:
    drawn = dict(_predictions(3, 4, 6)(source))
    return drawn | {"logits": drawn["logits"].double()}


def _nearly_ruled_out(source: Draw) -> Inputs:
    """Another character has a logit of 200 to 210 where the others are of normal size."""
    drawn = dict(_predictions(3, 4, 6)(source))
    other = (drawn["y"] + 1) % 6
    large = 200 + 10 * source.uniform(3, 4)
    return drawn | {"logits": drawn["logits"].scatter(2, other[..., None], large[..., None])}


def _certain(source: Draw) -> Inputs:
    """The right character leads by 10,000 everywhere but in one place, where another one does."""
    drawn = dict(_predictions(2, 5, 7)(source))
    logits = torch.zeros(2, 5, 7).scatter(2, drawn["y"][..., None], 1e4)
    logits[1, 2] = logits[1, 2].roll(1)
    return drawn | {"logits": logits}


def _all_near(center: float) -> Callable[[Draw], Inputs]:
    """Predictions of normal size to which one number is added: the probabilities stay what they were."""

    def draw(source: Draw) -> Inputs:
        drawn = dict(_predictions(3, 4, 6)(source))
        return drawn | {"logits": drawn["logits"] + center}

    return draw


def _frequent_symbol(source: Draw) -> Inputs:
    """Confident predictions, of which some are wrong: the mean of the costs is not the cost of the mean."""
    drawn = dict(_predictions(6, 10, 4, scale=5.0)(source))
    return drawn | {"y": (source.uniform(6, 10) ** 3 * 4).long()}


def _chosen(logits: Tensor, y: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1).gather(-1, y[..., None])[..., 0]


def _natural_logarithm(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).mean()


def _times_ln_2(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).mean() * math.log(2)


def _per_ten(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).mean() / math.log(10)


def _sum(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).sum() / math.log(2)


def _sum_over_time(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).sum(1).mean() / math.log(2)


def _mean_over_symbols_too(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).mean() / math.log(2) / logits.shape[-1]


def _no_sign(logits: Tensor, y: Tensor) -> Tensor:
    return _chosen(logits, y).mean() / math.log(2)


def _logits_as_they_are(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.gather(-1, y[..., None]).mean() / math.log(2)


def _over_time(logits: Tensor, y: Tensor) -> Tensor:
    return -torch.log_softmax(logits, dim=1).gather(-1, y[..., None]).mean() / math.log(2)


def _over_batch(logits: Tensor, y: Tensor) -> Tensor:
    return -torch.log_softmax(logits, dim=0).gather(-1, y[..., None]).mean() / math.log(2)


def _shifted_again(logits: Tensor, y: Tensor) -> Tensor:
    if y.shape[1] == 1:
        return -_chosen(logits, y).mean() / math.log(2)
    return -_chosen(logits[:, :-1], y[:, 1:]).mean() / math.log(2)


def _last_only(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits[:, -1:], y[:, -1:]).mean() / math.log(2)


def _perplexity(logits: Tensor, y: Tensor) -> Tensor:
    return torch.exp(-_chosen(logits, y).mean())


def _mean_probability(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).exp().mean().log2()


def _entropy(logits: Tensor, y: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(-1).mean() / math.log(2)


def _softmax_then_log(logits: Tensor, y: Tensor) -> Tensor:
    return -torch.softmax(logits, dim=-1).gather(-1, y[..., None]).log2().mean()


def _plain_exponentials(logits: Tensor, y: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return -p.gather(-1, y[..., None]).log2().mean()


def _small_number_added(logits: Tensor, y: Tensor) -> Tensor:
    return -(torch.softmax(logits, dim=-1).gather(-1, y[..., None]) + 1e-9).log2().mean()


def _softmax_in_double_then_log(logits: Tensor, y: Tensor) -> Tensor:
    p = torch.softmax(logits.double(), dim=-1).gather(-1, y[..., None])
    return -p.log2().mean().to(logits.dtype)


def _softmax_twice(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(torch.softmax(logits, dim=-1), y).mean() / math.log(2)


def _sum_over_batch(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).sum(0).mean() / math.log(2)


def _base_of_symbols(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits, y).mean() / math.log(logits.shape[-1])


def _softmax_of_base_two(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits * math.log(2), y).mean() / math.log(2)


def _last_left_out(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits[:, :-1], y[:, :-1]).mean() / math.log(2)


def _symbol_zero_left_out(logits: Tensor, y: Tensor) -> Tensor:
    counts = y != 0
    return -(_chosen(logits, y) * counts).sum() / counts.sum().clamp(min=1) / math.log(2)


def _largest_for_logsumexp(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.amax(-1) - logits.gather(-1, y[..., None])[..., 0]).mean() / math.log(2)


def _time_and_batch_mixed_up(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits.flatten(0, 1), y.T.flatten()).mean() / math.log(2)


def _logsumexp_detached(logits: Tensor, y: Tensor) -> Tensor:
    nats = torch.logsumexp(logits, dim=-1).detach() - logits.gather(-1, y[..., None])[..., 0]
    return nats.mean() / math.log(2)


def _detached(logits: Tensor, y: Tensor) -> Tensor:
    return -_chosen(logits.detach(), y).mean() / math.log(2)


_CAPPED = "the right character leads by 10,000, but for one place"


def _cap(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """One character of ten should cost 14,427 bits, the others nothing: it costs the -log2 of a usual tiny number."""
    found = [entry.value for (_, case), entry in observed.items() if case == _CAPPED]
    if not found or type(found[0]) is not SeenTensor:
        return False
    cap = 10 * float(found[0].data)
    usual = [k * math.log2(10) for k in range(4, 41)] + [23.0, 52.0, 126.0, 149.0, 300 * math.log2(10)]
    return any(abs(cap - bits) < 0.02 for bits in usual)


bits_per_char = Exercise(
    reference.bits_per_char,
    requirements=(
        Requirement(
            "matches the definition",
            (
                Case("3 sequences of 5 characters, 7 symbols", _predictions(3, 5, 7)),
                Case("one sequence of one character", _predictions(1, 1, 4)),
                Case("two symbols", _predictions(4, 3, 2)),
                Case("as many sequences as characters as symbols", _predictions(5, 5, 5)),
                Case("confident predictions, some of them wrong", _frequent_symbol),
                Case("logits with time first in memory", _time_first),
                Case("logits in float64", _in_double),
                Case("16 sequences of 60 characters, 94 symbols", _predictions(16, 60, 94), shown=False),
            ),
            outputs,
            points=2,
        ),
        Requirement(
            "very large logits",
            (
                Case("logits of about 10,000", _predictions(3, 4, 6, scale=1e4)),
                Case("a wrong character with a logit of 200", _nearly_ruled_out),
                Case(_CAPPED, _certain),
                Case("all logits near 500", _all_near(500.0)),
                Case("all logits near -500", _all_near(-500.0)),
            ),
            outputs,
        ),
        Requirement(
            "gradients",
            (
                Case("gradients, 3 sequences of 5 characters", _predictions(3, 5, 7)),
                Case("gradients, time first in memory", _time_first),
                Case("gradients, a wrong character with a logit of 200", _nearly_ruled_out),
                Case("gradients, one sequence", _predictions(1, 9, 3), shown=False),
            ),
            gradients,
        ),
    ),
    mistakes=(
        Mistake("You use the natural logarithm. One bit is ln 2 of it: divide by ln 2.", _natural_logarithm),
        Mistake("You multiply by ln 2. Going from nats to bits is a division by ln 2.", _times_ln_2),
        Mistake("You use the logarithm to base 10. Bits need base 2.", _per_ten),
        Mistake("You add up the bits of all characters. Asked is the mean over all of them.", _sum),
        Mistake(
            "You add up over time and average over the sequences only. Asked is the mean over all characters.",
            _sum_over_time,
        ),
        Mistake(
            "You divide by the number of symbols as well, as the mean over a one-hot product does. Only the right character of "
            "each position counts: divide by batch times time.",
            _mean_over_symbols_too,
        ),
        Mistake("The sign is wrong: log p is negative, and a cost is -log2 p.", _no_sign),
        Mistake(
            "You take the logits for log-probabilities. Subtract logsumexp(logits) first, so that the probabilities sum to 1.",
            _logits_as_they_are,
        ),
        Mistake("Your softmax runs over time. It runs over the symbols, the last dimension.", _over_time),
        Mistake(
            "Your softmax runs over the batch. It runs over the symbols, the last dimension.", _over_batch
        ),
        Mistake(
            "You shift y once more. y[:, t] is already the character that logits[:, t] predict.",
            _shifted_again,
        ),
        Mistake("You count the last position only. Every position predicts a character.", _last_only),
        Mistake("You return the perplexity, 2 to the power of the bits. Asked are the bits.", _perplexity),
        Mistake(
            "You average the probabilities and then take the logarithm. First take the logarithm of each, then the mean: costs "
            "add up, probabilities multiply.",
            _mean_probability,
        ),
        Mistake(
            "You return the entropy of your predictions: y does not matter in it. Asked is what the characters y cost.",
            _entropy,
        ),
        Mistake(
            "You take the softmax and then its logarithm. A small probability becomes exactly 0 in float32, and costs infinitely "
            "many bits. Compute log p at once: logits - logsumexp(logits).",
            _softmax_then_log,
        ),
        Mistake(
            "exp overflows for logits above 88, and infinity by infinity is NaN. Use logsumexp or log_softmax, which subtract the "
            "largest logit first.",
            _plain_exponentials,
        ),
        Mistake(
            "You add a small number before the logarithm, or clamp the probability to one. No surprise can then cost more than its "
            "logarithm, about 30 bits for 1e-9. Compute log p at once, then there is no logarithm of zero.",
            _small_number_added,
            recognise=_cap,
        ),
        Mistake(
            "You take the softmax and then its logarithm. float64 only moves the limit: below about 1e-308 a probability is 0 there, "
            "too, and costs infinitely many bits. Compute log p at once: logits - logsumexp(logits).",
            _softmax_in_double_then_log,
        ),
        Mistake(
            "You take the softmax twice: log_softmax and logsumexp want the logits, not probabilities.",
            _softmax_twice,
        ),
        Mistake(
            "You add up over the sequences and average over time only. Asked is the mean over all characters.",
            _sum_over_batch,
        ),
        Mistake(
            "You take the number of symbols as the base of the logarithm. Bits need base 2: divide by ln 2.",
            _base_of_symbols,
        ),
        Mistake(
            "Your softmax takes powers of 2. It takes powers of e; only the cost is measured with base 2.",
            _softmax_of_base_two,
        ),
        Mistake(
            "You leave out the last position. y has been moved already: every position has its character.",
            _last_left_out,
        ),
        Mistake(
            "You leave out the positions where y is 0. Here 0 is a symbol as any other, not padding.",
            _symbol_zero_left_out,
        ),
        Mistake(
            "You subtract from the largest logit. Asked is logsumexp of all of them: the others have probability, too.",
            _largest_for_logsumexp,
        ),
        Mistake(
            "You flatten logits and y in different orders, so that a prediction pays for the character of another position.",
            _time_and_batch_mixed_up,
        ),
        Mistake(
            "The value is right, but no gradient flows through the logsumexp: it is detached, or computed under no_grad. Then the "
            "other logits do not learn to fall.",
            _logsumexp_detached,
        ),
        Mistake(
            "The value is right, but no gradient gets back to the logits: they are detached, or the result went through a plain "
            "number or NumPy. Nothing can be trained with it.",
            _detached,
        ),
    ),
    forbids=(
        "cross_entropy",
        "cross_entropy_loss",
        "nll_loss",
        "nll_loss_nd",
        "nll_loss2d",
        "nll_loss_forward",
        "nll_loss2d_forward",
    ),
)
