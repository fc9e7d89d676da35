"""The exercise ``flash_kernel`` of the lesson flash_attention/04_io_and_gpu.

The learner writes a Triton kernel. It is compiled on a GPU, and runs in Triton's interpreter elsewhere. The reference and the
mistakes are functions in PyTorch that write what such a kernel writes, so that no Triton is needed to know the right result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import qkv, tensors
from autograde.exercises.flash_attention.flash_forward import _tiled
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import flash_attention as reference

Grid = tuple[int, int]


def launched(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """What the kernel writes into o and lse, started with one program per tile of queries and head.

    A compiled kernel runs on the GPU wherever the inputs are, because it cannot read the CPU's memory.
    """
    where = inputs["q"].device
    compiled = type(implementation).__name__ == "JITFunction"  # otherwise it is interpreted
    on_gpu = compiled and torch.cuda.is_available()
    q, k, v = (inputs[name].cuda() if on_gpu else inputs[name] for name in ("q", "k", "v"))
    (heads, N, d), M = q.shape, k.shape[1]
    o, lse = torch.full_like(q, 7.0), torch.full_like(q[..., 0], 7.0)
    rows, cols = inputs["BR"], inputs["BC"]
    arguments = (q, k, v, o, lse, N, M, inputs["scale"], inputs["causal"], d, rows, cols)
    if getattr(implementation, "stands_for_a_kernel", False):
        implementation(*arguments)
        return {"o": o, "lse": lse}
    if not hasattr(implementation, "__getitem__"):
        _raise_if_not_written(implementation, arguments)
        raise TypeError("flash_kernel has to be a Triton kernel: keep the line @triton.jit above it.")
    _raise_if_a_stub(implementation)
    try:
        implementation[(-(-N // rows), heads)](*arguments)
    except Exception as error:
        if type(error).__name__ != "InterpreterError":
            raise
        cause: BaseException = error
        while type(cause).__name__ == "InterpreterError" and cause.__cause__ is not None:
            cause = cause.__cause__
        raise cause from None
    return {"o": o.to(where), "lse": lse.to(where)}


def _raise_if_a_stub(implementation: Any) -> None:
    """Triton compiles no ``raise``: on a GPU a stub would end with an error of the compiler."""
    code = getattr(getattr(implementation, "fn", None), "__code__", None)
    if code is not None and "NotImplementedError" in code.co_names:
        raise NotImplementedError


def _raise_if_not_written(implementation: Implementation, arguments: tuple[Any, ...]) -> None:
    try:
        implementation(*arguments)
    except NotImplementedError:
        raise
    except Exception:
        return  # the language of kernels, where there is none


def _heads(
    heads: int,
    N: int,
    M: int,
    causal: bool = False,
    d: int = 16,
    BR: int = 16,
    BC: int = 16,
    scale: float | None = None,
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        given = qkv(source, N, M, d, (heads,))
        return {**given, "scale": d**-0.5 if scale is None else scale, "causal": causal, "BR": BR, "BC": BC}

    return draw


def _ordered(
    low: float, high: float, falling: bool = False, causal: bool = False
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        given = dict(_heads(1, 10, 40, causal)(source))
        scores = torch.linspace(high, low, 40) if falling else torch.linspace(low, high, 40)
        given["q"] = torch.ones(1, 10, 16)
        given["k"] = scores[None, :, None] / 4 + 0.2 * given["k"]
        return given

    return draw


def _far_below(source: Draw) -> Inputs:
    """Scores from -8e4 to -2e4 that differ by hundreds, so that each query sees one key alone."""
    given = dict(_heads(1, 7, 20)(source))
    levels = torch.linspace(-8e4, -4e4, 20)[torch.argsort(source.uniform(20))]
    given["q"] = source.uniform(1, 7, 1, low=0.5, high=1.0).expand(1, 7, 16).clone()
    given["k"] = (levels[:, None] / 4).expand(1, 20, 16).clone()
    return given


_FAR_BELOW = "scores between -8e4 and -2e4"
_NEAR = "scores near -150, where exp is zero"


def _lost_far_below(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Outputs of zero where the scores are far below zero, and not where they are near -150."""
    zero = {case: not bool(tensors(seen)[0].any()) for (_, case), seen in observed.items() if tensors(seen)}
    return zero.get(_FAR_BELOW, False) and not zero.get(_NEAR, True)


def kernel(**switches: Any) -> Implementation:
    """What a kernel with a mistake writes: the tiled forward pass with a switch of ``flash_forward``."""

    def written(
        q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
    ) -> None:  # fmt: skip
        values, sums = _tiled(
            q,
            k,
            v,
            BR,
            BC,
            causal and not switches.get("full"),
            **{"scale": scale, **{k: s for k, s in switches.items() if k != "full"}},
        )
        o.copy_(values)
        lse.copy_(sums)

    written.__name__ = "_kernel_" + "_".join(f"{name}_{value}" for name, value in switches.items())
    written.stands_for_a_kernel = True  # type: ignore[attr-defined]
    return written


def _nothing_written(*arguments: Any) -> None:
    pass


def _first_head_everywhere(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
) -> None:  # fmt: skip
    values, sums = _tiled(q[:1], k[:1], v[:1], BR, BC, causal, scale=scale)
    o[:1].copy_(values)
    lse[:1].copy_(sums)


def _zeros_past_the_end_count(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
) -> None:  # fmt: skip
    """Keys past the end are read as zeros; where the mask is causal, nobody sees them."""
    missing = 0 if causal else -M % BC
    more = [torch.cat([t, torch.zeros_like(t[:, :1]).expand(-1, missing, -1)], 1) for t in (k, v)]
    values, sums = _tiled(q, more[0], more[1], BR, BC, causal, scale=scale)
    o.copy_(values)
    lse.copy_(sums)


def _lse_not_written(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
) -> None:  # fmt: skip
    o.copy_(_tiled(q, k, v, BR, BC, causal, scale=scale)[0])


def _output_not_written(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
) -> None:  # fmt: skip
    lse.copy_(_tiled(q, k, v, BR, BC, causal, scale=scale)[1])


def _whole_tiles_of_queries(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
) -> None:  # fmt: skip
    """The last, smaller tile of queries is not written."""
    values, sums = _tiled(q, k, v, BR, BC, causal, scale=scale)
    whole = N // BR * BR
    o[:, :whole].copy_(values[:, :whole])
    lse[:, :whole].copy_(sums[:, :whole])


def _sizes_exchanged(
    q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, N: int, M: int, scale: float, causal: bool, D: int, BR: int, BC: int
) -> None:  # fmt: skip
    """One program per BR queries is started, and each writes BC rows from BC times its number on."""
    values, sums = _tiled(q, k, v, BC, BR, causal, scale=scale)
    written = -(-N // BR) * BC
    o[:, :written].copy_(values[:, :written])
    lse[:, :written].copy_(sums[:, :written])


STAND_INS: tuple[Any, ...] = (
    _nothing_written,
    _first_head_everywhere,
    _zeros_past_the_end_count,
    _lse_not_written,
    _output_not_written,
    _whole_tiles_of_queries,
    _sizes_exchanged,
)
for _function in STAND_INS:
    _function.stands_for_a_kernel = True


flash_kernel = Exercise(
    reference.flash_kernel,
    requirements=(
        Requirement(
            "attention and its log-sum-exp",
            (
                Case("one head, 16 queries, 32 keys", _heads(1, 16, 32)),
                Case("2 heads, ragged: 20 queries, 39 keys", _heads(2, 20, 39)),
                Case("one query, 50 keys", _heads(1, 1, 50)),
                Case("tiles of 16 by 32", _heads(1, 18, 40, BC=32)),
                Case("tiles of 32 by 16", _heads(1, 50, 20, BR=32)),
                Case("another scale", _heads(1, 16, 20, scale=0.7)),
                Case("2 heads, 70 queries, 45 keys", _heads(2, 70, 45, d=32, BR=32), shown=False),
            ),
            launched,
            points=3,
        ),
        Requirement(
            "causal: query i sees the keys j <= i + M - N",
            (
                Case("40 queries and keys", _heads(1, 40, 40, True)),
                Case("more keys than queries", _heads(1, 20, 45, True)),
                Case("more queries than keys: the first ones see nothing", _heads(1, 45, 20, True)),
                Case("2 heads, tiles of 16 by 32", _heads(2, 33, 50, True, BC=32), shown=False),
            ),
            launched,
            points=2,
        ),
        Requirement(
            "large scores in any order",
            (
                Case("the maximum rises in every tile, from -120 to 120", _ordered(-120, 120)),
                Case(_NEAR, _ordered(-152, -148, falling=True)),
                Case(_FAR_BELOW, _far_below),
                Case("causal: hidden scores are the largest", _ordered(-300, 300, causal=True)),
            ),
            launched,
        ),
    ),
    mistakes=(
        Mistake("Your kernel ignores CAUSAL: queries see keys that come after them.", kernel(full=True)),
        Mistake("Your causal mask compares j with i. With different lengths compare with i + M - N.", kernel(offset=0, skip="none")),
        Mistake("You hide the last visible key, too. The key j = i + M - N is visible.", kernel(strict=True)),
        Mistake(
            "You end the loop over keys by the first query of the tile. Its last query sees most.", kernel(skip="first row")
        ),
        Mistake("You use no running maximum: exp overflows at 89, and is zero for scores near -150.", kernel(no_maximum=True)),
        Mistake("Your maximum starts at 0. Far below 0 everything is lost: start at -inf.", kernel(start=0.0)),
        Mistake(
            "Your maximum starts at a number that you chose. Where all scores are below it everything is lost: start at -inf.",
            kernel(start=-1e4),
            recognise=_lost_far_below,
        ),
        Mistake("You exchange BR and BC. The tile of queries has BR rows and starts at program_id(0) * BR.", _sizes_exchanged),
        Mistake("You rescale l and not the accumulator when the maximum rises.", kernel(rescale_o=False)),
        Mistake("You rescale the accumulator and not l when the maximum rises.", kernel(rescale_l=False)),
        Mistake("You rescale nothing when the maximum rises.", kernel(rescale_l=False, rescale_o=False)),
        Mistake("Your factor is inverse: rescale by exp(m_old - m_new), which is at most 1.", kernel(inverse=True)),
        Mistake("You divide by l in each tile. Divide once, after the last tile.", kernel(divide_in_tile=True)),
        Mistake("You never divide by l. The output is the accumulator over l.", kernel(divide=False)),
        Mistake("You leave out the last tile of keys where M is no multiple of BC: round the number of tiles up.", kernel(ragged=False)),
        Mistake("You do not multiply the scores by scale.", kernel(scale=1.0)),
        Mistake("A tile in which a query has seen nothing yet gives NaN: -inf - -inf. Subtract 0 there.", kernel(guard=False, skip="none")),
        Mistake("Your hidden scores are a large negative number. A row that sees nothing then averages all values: use -inf.",
                kernel(fill=-1e9, skip="none")),
        Mistake("You make 1 / sqrt(D) yourself and ignore the scale that is handed in.", kernel(scale=None)),
        Mistake(
            "You take the maximum before you apply the mask. A large hidden score then presses all visible ones to zero: mask first.",
            kernel(mask_after=True, skip="none"),
        ),
        Mistake("Your hidden scores are 0, and exp(0) is 1. They have to be -inf.", kernel(fill=0.0, skip="none")),
        Mistake(
            "You end the loop over keys early, but do not mask the tiles that the diagonal crosses. Hide the columns after i + M - N.",
            kernel(mask=False),
        ),
        Mistake("Your lse is the maximum. It is m + log(l).", kernel(lse="m")),
        Mistake("Your lse is log(l). The sum was made relative to m: lse = m + log(l).", kernel(lse="log l")),
        Mistake(
            "Keys past the end are read as zeros, and you count them: each adds exp(0 - m) to l. Hide the columns from M on.",
            _zeros_past_the_end_count,
        ),
        Mistake("Your kernel writes neither o nor lse. Store both at the end.", _nothing_written),
        Mistake("Your kernel does not write lse. Store it with store_row.", _lse_not_written),
        Mistake("Your kernel does not write o. Store it with store_tile.", _output_not_written),
        Mistake("All programs work on the first head. The head is tl.program_id(1).", _first_head_everywhere),
        Mistake("The last, smaller tile of queries is not written.", _whole_tiles_of_queries),
    ),
    forbids=(),
)  # fmt: skip
