"""The exercise ``online_stats`` of the lesson flash_attention/01_online_softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import above, double, memory_of, nan_in
from autograde.observe import Implementation, Inputs
from autograde.probes import Gradients
from utils.reference import flash_attention as reference

_VALUES = "maximum and sum"
_HIDDEN = "hidden scores, -inf"


def stream(x: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """The scores in blocks, each a tensor of its own that can be had once."""
    for part in x.split(sizes):
        yield part * 1


def streamed(implementation: Implementation, inputs: Inputs) -> Any:
    """(m, l) of scores that arrive in blocks."""
    return implementation(stream(inputs["x"], inputs["sizes"]))


def measured(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """(m, l), and the memory that is in use at once."""
    value, _, peak = memory_of(lambda x, sizes: implementation(stream(x, sizes)), inputs)
    return {"value": value, "memory": above(peak, _most(inputs))}


def _most(inputs: Inputs) -> int:
    return int(16 * max(inputs["sizes"]) * inputs["x"].element_size())


def _blocks(
    sizes: list[int], mean: float = 0.0, order: str = "", spread: float = 1.0
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        x = spread * source.normal(sum(sizes)) + mean
        if order:
            x = x.sort(descending=order == "falling").values
        return {"x": x, "sizes": sizes}

    return draw


def _hidden(hide: Callable[[Tensor], Tensor]) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {"x": torch.where(hide(torch.arange(12)), -math.inf, source.normal(12)), "sizes": [4, 4, 4]}

    return draw


def _run(
    blocks: Iterable[Tensor], update: Callable[..., Tensor], start: float = -math.inf
) -> tuple[Tensor, Tensor]:
    """The loop, with the new sum l from (x, old m, new m, old l)."""
    m = l = None
    for x in blocks:
        if m is None:
            m, l = x.new_tensor(start), x.new_tensor(0.0)
        new = torch.maximum(m, x.max())
        l = update(x, m, new, l)
        m = new
    assert m is not None
    assert l is not None
    return m, l


def _shift(m: Tensor) -> Tensor:
    return torch.where(m == -math.inf, 0.0, m)


def _right(x: Tensor, m: Tensor, new: Tensor, l: Tensor) -> Tensor:
    return torch.exp(m - _shift(new)) * l + torch.exp(x - _shift(new)).sum()


def _not_rescaled(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, lambda x, m, new, l: l + torch.exp(x - _shift(new)).sum())


def _rescaled_the_other_way(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(
        blocks,
        lambda x, m, new, l: torch.exp(_shift(new) - _shift(m)) * l + torch.exp(x - _shift(new)).sum(),
    )


def _block_maximum(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(
        blocks, lambda x, m, new, l: torch.exp(m - _shift(new)) * l + torch.exp(x - _shift(x.max())).sum()
    )


def _both_rescaled(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(
        blocks,
        lambda x, m, new, l: torch.exp(_shift(m) - _shift(new)) * (l + torch.exp(x - _shift(new)).sum()),
    )


def _from_zero(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, _right, start=0.0)


def _from_a_number(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, _right, start=-1e4)


def _last_block_only(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, lambda x, m, new, l: torch.exp(x - _shift(new)).sum())


def _no_maximum(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, lambda x, m, new, l: l + torch.exp(x).sum())


def _old_maximum(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, lambda x, m, new, l: torch.exp(m - _shift(new)) * l + torch.exp(x - _shift(m)).sum())


def _nan_where_hidden(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(blocks, lambda x, m, new, l: torch.exp(m - new) * l + torch.exp(x - new).sum())


def _maximum_of_last(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    m = l = None
    for x in blocks:
        new = x.max()
        part = torch.exp(x - _shift(new)).sum()
        l = part if m is None or l is None else torch.exp(m - _shift(new)) * l + part
        m = new
    assert m is not None
    assert l is not None
    return m, l


def _log_sum_exp(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    m, l = _run(blocks, _right)
    return m, m + torch.log(l)


def _maximum_only_of_blocks(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    return _run(
        blocks, lambda x, m, new, l: torch.exp(m - _shift(new)) * l + torch.exp(x.max() - _shift(new))
    )


def _short_block_dropped(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    def whole() -> Iterator[Tensor]:
        size = 0
        for x in blocks:
            size = size or len(x)
            if len(x) == size:
                yield x

    return _run(whole(), _right)


def _sum_first(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    m, l = _run(blocks, _right)
    return l, m


def _everything_kept(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    x = torch.cat(list(blocks))
    return x.max(), torch.exp(x - _shift(x.max())).sum()


online_stats = Exercise(
    reference.online_stats,
    requirements=(
        Requirement(
            _VALUES,
            (
                Case("11 scores in blocks of 4, 4 and 3", _blocks([4, 4, 3])),
                Case("the maximum rises in every block", _blocks([3, 3, 3, 3], order="rising", spread=3)),
                Case("the maximum is in the first block", _blocks([3, 3, 3, 2], order="falling", spread=3)),
                Case("blocks of one", _blocks([1] * 5, spread=2)),
                Case("one block", _blocks([6])),
                Case("scores in float64", double(_blocks([4, 2]))),
                Case("50 blocks of 20 and one of 1", _blocks([20] * 50 + [1]), shown=False),
            ),
            streamed,
            points=2,
        ),
        Requirement(
            "large scores, of either sign",
            (
                Case("scores near -200, where exp is zero", _blocks([4, 4, 1], mean=-200)),
                Case("scores between -5e4 and -2e4", _blocks([3, 3, 2], mean=-35_000, spread=5_000)),
                Case("scores near 150, where exp overflows", _blocks([2, 4, 4], mean=150)),
            ),
            streamed,
        ),
        Requirement(
            _HIDDEN,
            (
                Case("the first block is hidden", _hidden(lambda i: i < 4)),
                Case("the second block is hidden", _hidden(lambda i: (i >= 4) & (i < 8))),
                Case("all is hidden", _hidden(lambda i: i >= 0)),
            ),
            streamed,
        ),
        Requirement("gradients", (Case("gradients, 3 blocks", _blocks([4, 4, 3])),), Gradients(of=streamed)),
        Requirement(
            "one pass, one block in memory",
            (Case("1024 scores in blocks of 16", _blocks([16] * 64)),),
            measured,
            bounds={
                "memory": Bound(
                    most=_most,
                    unit="or more bytes in use at once",
                    why="Two numbers and one block are enough. list(blocks), torch.cat and itertools.tee keep all blocks.",
                    naive=lambda inputs: inputs["x"].nbytes,
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "You add to the old sum as it is. Its terms were made with the old maximum: multiply it by exp(m_old - m_new) first.",
            _not_rescaled,
        ),
        Mistake(
            "You rescale the old sum by exp(m_new - m_old), which is the inverse. The maximum rises, so the factor is at most 1.",
            _rescaled_the_other_way,
        ),
        Mistake(
            "You take the exponentials of a block with the maximum of that block. Use the new running maximum for both.",
            _block_maximum,
        ),
        Mistake(
            "You rescale old sum and new terms together. The new terms were made with the new maximum already.",
            _both_rescaled,
        ),
        Mistake(
            "Your maximum starts at 0. Where all scores are negative it stays there, and far below 0 the sum is lost: start at -inf.",
            _from_zero,
        ),
        Mistake(
            "Your maximum starts at a number that you chose. Where all scores are below it the sum is lost: start at -inf.",
            _from_a_number,
        ),
        Mistake("Your sum is that of the last block alone. Add the rescaled old sum.", _last_block_only),
        Mistake("You sum exp(x) without a maximum, which overflows at 89. Sum exp(x - m).", _no_maximum),
        Mistake(
            "You take the exponentials of a block with the old maximum. First update m, then use the new one.",
            _old_maximum,
        ),
        Mistake(
            "You get NaN where all scores so far are hidden: -inf - -inf is NaN. Subtract 0 as long as the maximum is -inf.",
            _nan_where_hidden,
            recognise=nan_in((_HIDDEN, "the first block is hidden"), (_HIDDEN, "all is hidden")),
        ),
        Mistake(
            "Your m is the maximum of the last block. Keep the larger one of the old maximum and that of the block.",
            _maximum_of_last,
        ),
        Mistake(
            "You return the log-sum-exp in place of l. Here l is the sum of exp(x - m) itself.", _log_sum_exp
        ),
        Mistake(
            "You add the largest term of each block only. Sum exp over the block.", _maximum_only_of_blocks
        ),
        Mistake("You leave out the last block where it is shorter than the others.", _short_block_dropped),
        Mistake("You return the sum first. Return (m, l), the maximum first.", _sum_first),
        Mistake(
            "Your numbers are right, but all scores are in memory at once. Update m and l block by block, and keep no block.",
            _everything_kept,
        ),
    ),
    forbids=(
        "softmax",
        "_softmax",
        "log_softmax",
        "logsumexp",
        "logaddexp",
        "logcumsumexp",
        "special_softmax",
    ),
    returns=("m", "l"),
)
