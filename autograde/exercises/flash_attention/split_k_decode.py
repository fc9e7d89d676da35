"""The exercise ``split_k_decode`` of the lesson flash_attention/04_io_and_gpu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.flash_attention.common import (
    LIBRARY,
    double,
    in_bf16,
    keeps_digits,
    qkv,
    rounded_to_bf16,
    single_precision,
    strided,
    to_half,
)
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs
from autograde.probes import Gradients
from utils.reference import flash_attention as reference

_HALF = "float32 accumulation for bfloat16 inputs"
Part = tuple[Tensor, Tensor, Tensor]
Join = Callable[[Part, Part], Part]


def join(a: Part, b: Part) -> Part:
    """The two parts together, by their log-sum-exp; o and l are sums relative to m."""
    m = torch.logaddexp(a[0], b[0])
    x, y = (a[0] - m).exp(), (b[0] - m).exp()
    return m, a[1] * x + b[1] * y, a[2] * x[..., None] + b[2] * y[..., None]


def decoded(implementation: Implementation, inputs: Inputs) -> Any:
    """The output, with a merge that is not the learner's."""
    return implementation(*inputs.values(), join)


def decoded_half(implementation: Implementation, inputs: Inputs) -> Any:
    """The same for bfloat16 inputs."""
    return decoded(implementation, map_floats(dict(inputs), to_half))


@dataclass
class Recorded:
    """A merge that notes which keys the parts hold that it gets, and whether their maxima are their own.

    It wants the identity for values and the scores of the keys: o exp(m - score) then has a one for each key of the part.
    """

    scores: Tensor
    parts: list[Tensor] = field(default_factory=list)
    made: list[Tensor] = field(default_factory=list)
    foreign: int = 0

    def __call__(self, a: Part, b: Part) -> Part:
        both = join(a, b)
        for part in (a, b):
            keys = self._held(part)
            if bool(keys.any()) and not any(torch.equal(keys, made) for made in self.made):
                self.parts.append(keys)
                self.foreign += self._is_foreign(keys, part[0])
        self.made.append(self._held(both))
        return both

    def _held(self, part: Part) -> Tensor:
        m, _, o = (t.detach().double() for t in part)
        return (o.nan_to_num() * (m[..., None] - self.scores).exp()).round().flatten()

    def _is_foreign(self, keys: Tensor, m: Tensor) -> bool:
        """Whether m is larger than anything that these keys can give, their log-sum-exp."""
        own = torch.logsumexp(self.scores.masked_fill(keys == 0, -torch.inf), -1)
        return bool((m.detach().double() > own + 1e-2).any())


@dataclass
class Marked:
    """A merge whose results are not attention, so that it shows whether the output was made of them."""

    last: Part | None = None

    def __call__(self, a: Part, b: Part) -> Part:
        m, l, o = join(a, b)
        self.last = m, l, o + 3 * l[..., None]
        return self.last

    def unused(self, output: object) -> int:
        """1 where the output is not o / l of the last result."""
        if self.last is None or not isinstance(output, Tensor) or output.shape != self.last[2].shape:
            return 1
        _, l, o = self.last
        return int(not torch.allclose(output.double(), (o / l[..., None]).double(), rtol=1e-3, atol=1e-3))


def in_parts(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The output; by how many parts too few or too many were put together; the largest part; whether merge made the output."""
    value = decoded(implementation, inputs)
    q, k, splits = inputs["q"], inputs["k"], inputs["splits"]
    M = k.shape[-2]
    scores = torch.linspace(0, 8, M, dtype=torch.float64, device=k.device)
    recorded, marked = Recorded(scores), Marked()
    keys, values = torch.diag(scores * M**0.5), torch.eye(M, device=k.device)
    implementation(k.new_ones(1, M), keys.to(k), values.to(k), splits, recorded)
    output = implementation(q, k, inputs["v"], splits, marked)
    most = most_keys(inputs)
    largest = max((int(part.sum()) for part in recorded.parts), default=M)
    return {
        "value": value,
        "parts left out": abs(splits - len(recorded.parts)),
        "largest part": largest if largest > most else most,
        "foreign maxima": recorded.foreign,
        "outputs not merged": marked.unused(output),
    }


def most_keys(inputs: Inputs) -> int:
    """One more than M / splits."""
    return int(-(-inputs["k"].shape[-2] // inputs["splits"]) + 1)


def _keys(
    M: int, d: int, splits: int, heads: tuple[int, ...] = (), shift: float = 0.0
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        given = qkv(source, 1, M, d, heads)
        if shift:
            given["q"] = torch.ones_like(given["q"])
            given["k"] = given["k"] + shift * d**-0.5
        return {**given, "splits": splits}

    return draw


def _rising(source: Draw) -> Inputs:
    drawn = dict(_keys(24, 4, 6)(source))
    drawn["q"] = torch.ones(1, 4)
    drawn["k"] = torch.linspace(-60, 60, 24)[:, None] * 0.5 + 0.2 * drawn["k"]
    return drawn


def _split(
    q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join, *, kind: torch.dtype | None = None, scale: bool = True,
    shift: bool = True, divided: bool = False, drop: bool = False,
) -> list[Part]:  # fmt: skip
    """The parts, with switches for what goes wrong."""
    kind = kind or torch.promote_types(q.dtype, torch.float32)
    q, k, v = q.to(kind), k.to(kind), v.to(kind)
    M = k.shape[-2]
    size = max(1, M // splits) if drop else -(-M // splits)
    parts = []
    for start in range(0, size * splits if drop else M, size):
        s = q @ k[..., start : start + size, :].mT
        s = s * q.shape[-1] ** -0.5 if scale else s
        if not s.shape[-1]:
            continue
        m = s.amax(-1)
        p = torch.exp(s - m[..., None]) if shift else torch.exp(s)
        l, o = p.sum(-1), p @ v[..., start : start + size, :]
        parts.append((m, l, o / l[..., None] if divided else o))
    return parts


def _done(part: Part) -> Tensor:
    return part[2] / part[1][..., None]


def _keys_dropped(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return _done(reduce(merge, _split(q, k, v, splits, merge, drop=True)))


def _averaged(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    parts = _split(q, k, v, splits, merge)
    reduce(merge, parts)
    return torch.stack([_done(part) for part in parts]).mean(0)


def _summed(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    parts = _split(q, k, v, splits, merge)
    reduce(merge, parts)
    return torch.stack([_done(part) for part in parts]).sum(0)


def _not_divided(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return reduce(merge, _split(q, k, v, splits, merge))[2]


def _divided_in_each_part(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return reduce(merge, _split(q, k, v, splits, merge, divided=True))[2]


def _divided_twice(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return _done(reduce(merge, _split(q, k, v, splits, merge, divided=True)))


def _last_part_only(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    parts = _split(q, k, v, splits, merge)
    reduce(merge, parts)
    return _done(parts[-1])


def _first_and_last(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    parts = _split(q, k, v, splits, merge)
    reduce(merge, parts)
    return _done(merge(parts[0], parts[-1]) if len(parts) > 1 else parts[0])


def _not_scaled(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return _done(reduce(merge, _split(q, k, v, splits, merge, scale=False)))


def _maximum_not_subtracted(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return _done(reduce(merge, _split(q, k, v, splits, merge, shift=False)))


def _parts_as_size(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    parts = -(-k.shape[-2] // splits)
    return _done(reduce(merge, _split(q, k, v, parts, merge)[:splits]))


def _not_split(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return _done(_split(q, k, v, 1, merge)[0])


def _one_key_in_each_part(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    return _done(reduce(merge, _split(q, k, v, k.shape[-2], merge)))


def _one_part_many_calls(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    """All keys at once; merge is called with the whole, and what it returns is not used."""
    whole = _split(q, k, v, 1, merge)[0]
    reduce(merge, [whole] * splits)
    return _done(whole)


def _maximum_of_all(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    """All scores and their maximum first, then parts of the exponentials."""
    kind = torch.promote_types(q.dtype, torch.float32)
    s = q.to(kind) @ k.to(kind).mT * q.shape[-1] ** -0.5
    m = s.amax(-1)
    p, values = torch.exp(s - m[..., None]), v.to(kind)
    pairs = zip(p.tensor_split(splits, -1), values.tensor_split(splits, -2), strict=True)
    return _done(reduce(merge, [(m, x.sum(-1), x @ y) for x, y in pairs]))


def _merged_in_vain(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    """The right parts are merged, and the output is made of all keys at once."""
    reduce(merge, _split(q, k, v, splits, merge))
    return _done(_split(q, k, v, 1, merge)[0])


def _small_parts_and_the_rest(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    """One key in each part but the last, which has all others."""
    ends = [*range(splits), k.shape[-2]]
    return _done(
        reduce(merge, [_split(q, k[..., a:b, :], v[..., a:b, :], 1, merge)[0] for a, b in pairwise(ends)])
    )


def _in_bf16(q: Tensor, k: Tensor, v: Tensor, splits: int, merge: Join) -> Tensor:
    o = _done(reduce(merge, _split(q, k, v, splits, merge, kind=q.dtype)))
    return o.to(torch.promote_types(q.dtype, torch.float32))


split_k_decode = Exercise(
    reference.split_k_decode,
    requirements=(
        Requirement(
            "attention of one query",
            (
                Case("12 keys in 3 parts", _keys(12, 4, 3)),
                Case("ragged: 14 keys in 4 parts", _keys(14, 4, 4)),
                Case("one part", _keys(6, 3, 1)),
                Case("keys and values that are not contiguous", strided(_keys(8, 3, 2, (2,)))),
                Case("as many parts as keys", _keys(5, 3, 5)),
                Case("2 batches of 3 heads", _keys(10, 3, 3, (2, 3))),
                Case("in float64", double(_keys(9, 3, 2))),
                Case("500 keys in 7 parts", _keys(500, 8, 7), shown=False),
            ),
            decoded,
            points=2,
        ),
        Requirement(
            "large scores",
            (
                Case("scores near 150, where exp overflows", _keys(12, 4, 4, shift=150)),
                Case("scores near -150, where exp is zero", _keys(12, 4, 4, shift=-150)),
                Case("each part has larger scores than the one before", _rising),
            ),
            decoded,
        ),
        Requirement(
            "puts the parts together with merge",
            (
                Case("16 keys in 4 parts", _keys(16, 4, 4)),
                Case("60 keys in 6 parts", _keys(60, 4, 6), shown=False),
            ),
            in_parts,
            points=2,
            bounds={
                "parts left out": Bound(
                    most=lambda inputs: 0,
                    unit="parts that merge got too few or too many",
                    why="Divide the keys into `splits` parts, and put them together with splits - 1 calls of merge.",
                    naive=lambda inputs: inputs["splits"] - 1,
                ),
                "largest part": Bound(
                    most=most_keys,
                    unit="keys in the largest part",
                    why="The largest part decides how long it takes. Divide the keys into `splits` parts of about the same size.",
                    naive=lambda inputs: inputs["k"].shape[-2],
                ),
                "foreign maxima": Bound(
                    most=lambda inputs: 0,
                    unit="parts with a maximum that is not their own",
                    why="Parts know nothing of each other: m is the maximum of the part's own scores.",
                ),
                "outputs not merged": Bound(
                    most=lambda inputs: 0,
                    unit="outputs that are not o / l of the last merge",
                    why="The output has to be made of what merge returns, whatever merge does.",
                ),
            },
        ),
        keeps_digits(_keys(9, 4, 2), decoded),
        Requirement(
            _HALF, (Case("bfloat16, 128 keys in 8 parts", in_bf16(_keys(128, 32, 8))),), decoded_half
        ),
        Requirement(
            "gradients", (Case("gradients, 10 keys in 3 parts", _keys(10, 3, 3)),), Gradients(of=decoded)
        ),
    ),
    mistakes=(
        Mistake(
            "You leave out the last keys where M is no multiple of splits. The last part may be smaller.",
            _keys_dropped,
        ),
        Mistake(
            "You average the outputs of the parts. They have different weights: merge (m, l, o), then divide once.",
            _averaged,
        ),
        Mistake("You add the outputs of the parts. Merge (m, l, o), then divide once.", _summed),
        Mistake("You do not divide by l at the end.", _not_divided),
        Mistake(
            "You divide o by l in each part and add. merge wants the sums: divide once, at the end.",
            _divided_in_each_part,
        ),
        Mistake(
            "You divide o by l in each part, and again at the end. merge wants the sums.", _divided_twice
        ),
        Mistake("Your result is that of the last part alone. Merge all parts.", _last_part_only),
        Mistake("You merge the first part with the last one and forget those between.", _first_and_last),
        Mistake("You do not scale the scores by 1 / sqrt(d).", _not_scaled),
        Mistake(
            "Your l and o are sums of exp(s), and m goes along as if it had been subtracted. Take exp(s - m).",
            _maximum_not_subtracted,
        ),
        Mistake(
            "You take splits for the number of keys in a part, and then the first parts only.", _parts_as_size
        ),
        Mistake(
            "Your output is right, but merge gets no parts. Divide the keys into `splits` parts, and put them together with the merge that is "
            "handed in.",
            _not_split,
        ),
        Mistake(
            "Your output is right, but you ignore `splits`: each key is a part of its own. Make `splits` parts of about the same size.",
            _one_key_in_each_part,
        ),
        Mistake(
            "Your output is right, but each part that merge gets holds all keys. Divide the keys first, and make (m, l, o) of each part.",
            _one_part_many_calls,
        ),
        Mistake(
            "You take the maximum over all keys before you divide them. Parts know nothing of each other: each has its own maximum.",
            _maximum_of_all,
        ),
        Mistake(
            "You merge the parts, and then make the output of all keys at once. Take o / l of what merge returned last.",
            _merged_in_vain,
        ),
        Mistake(
            "Your output is right, but the last part has nearly all keys: all others wait for it. Make parts of about the same size.",
            _small_parts_and_the_rest,
        ),
        Mistake(
            "You compute in bfloat16 throughout. Convert to float32 first.",
            _in_bf16,
            recognise=rounded_to_bf16(_HALF),
        ),
        single_precision(reference.split_k_decode),
    ),
    forbids=(*LIBRARY, "softmax", "_softmax", "special_softmax"),
)
