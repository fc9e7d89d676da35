"""What the exercises of the series ``flash_attention`` share: inputs, and counters of memory and multiplications."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from autograde.exercise import Bound, Case, Draw, Mistake, Requirement, Tolerance
from autograde.meters import AllocationMeter
from autograde.nests import map_floats
from autograde.observe import Implementation, Inputs, Observation, Probe
from autograde.probes import outputs
from autograde.values import SeenTensor, leaves

LIBRARY = (
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "multi_head_attention_forward",
    "flex_attention",
)

DrawInputs = Callable[[Draw], Inputs]


def qkv(source: Draw, N: int, M: int, d: int, heads: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """q, k and v with scores of normal size."""
    return {
        "q": source.normal(*heads, N, d),
        "k": source.normal(*heads, M, d),
        "v": source.normal(*heads, M, d),
    }


def attend(
    N: int, M: int, d: int, Br: int, Bc: int, causal: bool = False, heads: tuple[int, ...] = ()
) -> DrawInputs:
    """q, k, v and tiles of Br times Bc."""
    return lambda source: {**qkv(source, N, M, d, heads), "Br": Br, "Bc": Bc, "causal": causal}


def ordered(
    low: float, high: float, order: str, Br: int = 4, Bc: int = 4, causal: bool = False
) -> DrawInputs:
    """24 keys whose scores go from ``low`` to ``high``, rising, falling or mixed, the same for all 9 queries but for noise."""

    def draw(source: Draw) -> Inputs:
        N, M, d = 9, 24, 4
        scores = torch.linspace(low, high, M) if order != "falling" else torch.linspace(high, low, M)
        if order == "mixed":
            scores = scores[torch.argsort(source.uniform(M))]
        q = torch.ones(N, d) + 0.02 * source.uniform(N, d, low=-1, high=1)
        k = scores[:, None] * d**-0.5 + 0.3 * source.normal(M, d)
        v = source.normal(M, d)
        if order == "mixed":
            v += 2.0  # a mean of many values would be small beside its rounding
        return {"q": q, "k": k, "v": v, "Br": Br, "Bc": Bc, "causal": causal}

    return draw


def shifted(shift: float) -> DrawInputs:
    """9 queries and 24 keys whose scores all lie near ``shift``, because one channel is the same in all of them."""

    def draw(source: Draw) -> Inputs:
        N, M, d = 9, 24, 4
        q, k = source.normal(N, d), source.normal(M, d)
        q[:, 0], k[:, 0] = 2 * shift, 1.0
        return {"q": q, "k": k, "v": source.normal(M, d), "Br": 4, "Bc": 4, "causal": False}

    return draw


def saturated(Br: int, Bc: int) -> DrawInputs:
    """Scores between -1e4 and 1e4 that differ by hundreds, so that each query sees one key alone."""

    def draw(source: Draw) -> Inputs:
        N, M, d = 7, 20, 4
        levels = torch.linspace(-1e4, 1e4, M)[torch.argsort(source.uniform(M))]
        signs = torch.where(torch.arange(N) % 2 == 0, 1.0, -1.0)[:, None]
        q = signs * source.uniform(N, 1, low=0.5, high=1.0).expand(N, d)
        k = (levels[:, None] * d**-0.5).expand(M, d)
        return {"q": q.clone(), "k": k.clone(), "v": source.normal(M, d), "Br": Br, "Bc": Bc, "causal": False}

    return draw


def far_below(Br: int, Bc: int) -> DrawInputs:
    """``saturated``, with scores between -8e4 and -2e4."""

    def draw(source: Draw) -> Inputs:
        N, M, d = 7, 20, 4
        levels = torch.linspace(-8e4, -4e4, M)[torch.argsort(source.uniform(M))]
        q = source.uniform(N, 1, low=0.5, high=1.0).expand(N, d).clone()
        k = (levels[:, None] * d**-0.5).expand(M, d).clone()
        return {"q": q, "k": k, "v": source.normal(M, d), "Br": Br, "Bc": Bc, "causal": False}

    return draw


def strided(draw: DrawInputs) -> DrawInputs:
    """The same with q, k and v that are not contiguous."""

    def transposed(source: Draw) -> Inputs:
        given: Inputs = map_floats(draw(source), lambda t: t.mT.contiguous().mT)
        return given

    return transposed


def double(draw: DrawInputs) -> DrawInputs:
    """The same in float64."""
    return lambda source: map_floats(draw(source), lambda t: t.double())


def in_bf16(draw: DrawInputs) -> DrawInputs:
    """The same with numbers that bfloat16 holds exactly; still in float32."""
    return lambda source: map_floats(draw(source), lambda t: t.bfloat16().float())


def half(implementation: Implementation, inputs: Inputs) -> Any:
    """The result for bfloat16 inputs. Inputs in float64 stay, so that the exact result is known."""
    return implementation(*map_floats(dict(inputs), to_half).values())


def to_half(t: Tensor) -> Tensor:
    """bfloat16 for float32."""
    return t.bfloat16() if t.dtype == torch.float32 else t


IN_DOUBLE = "float64 inputs keep their digits"


def keeps_digits(draw: DrawInputs, probe: Probe = outputs) -> Requirement:
    """The requirement that nothing is rounded to float32 on the way, for inputs that come in float64."""
    fine = Tolerance(1e-3, "The usual one allows what float32 rounds. These inputs are in float64.")
    return Requirement(IN_DOUBLE, (Case("float64, all digits", double(draw)),), probe, tolerance=fine)


def in_single(right: Implementation) -> Implementation:
    """The same, but for inputs in float64 computed in float32, and converted back."""

    def _in_single(*arguments: Any) -> Any:
        if not any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in arguments):
            return right(*arguments)
        found = right(*map_floats(arguments, lambda t: t.float()))
        return map_floats(found, lambda t: t.double())

    return _in_single


def rounded_to_single(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Recognises results in float64 that float32 holds exactly."""
    found = [t for key, seen in observed.items() if key[0] == IN_DOUBLE for t in tensors(seen)]
    return bool(found) and all(
        t.dtype == torch.float64 and bool(t.any()) and torch.equal(t, t.float().double()) for t in found
    )


def single_precision(right: Implementation) -> Mistake:
    """The mistake to compute in float32 whatever comes in."""
    return Mistake(
        "You compute in float32, also where the inputs are in float64, and their digits are lost. Convert only inputs with fewer digits: "
        "torch.promote_types(x.dtype, torch.float32) says to what.",
        in_single(right),
        recognise=rounded_to_single,
    )


class Multiplications(TorchDispatchMode):
    """Counts the multiplications of matrix products."""

    FIRST: ClassVar = {
        "mm": 0,
        "bmm": 0,
        "mv": 0,
        "dot": 0,
        "addmm": 1,
        "baddbmm": 1,
        "addmv": 1,
        "addbmm": 1,
    }

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[-1].split(".")[0]
        if name in self.FIRST:
            self.count += out.numel() * args[self.FIRST[name]].shape[-1]
        return out


def multiplied(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The result, and how many multiplications its matrix products made, as ``above`` shows it."""
    with Multiplications() as counter:
        value = implementation(*inputs.values())
    return {"value": value, "multiplications": above(counter.count, most_multiplications(inputs))}


def most_multiplications(inputs: Inputs) -> int:
    """Those of the tiles that a query sees, and a tenth more. Forward two products per tile, backward five."""
    (N, d), M, heads = inputs["q"].shape[-2:], inputs["k"].shape[-2], inputs["q"][..., 0, 0].numel()
    Br, Bc, products = inputs["Br"], inputs["Bc"], 5 if "do" in inputs else 2
    tiles = 0
    for i in range(0, N, Br):
        tiles += max(0, (min(i + Br, N) - 1 + M - N) // Bc + 1)
    return int(1.1 * heads * products * d * Br * Bc * tiles)


def above(amount: int, most: int) -> int:
    """The bound for all that keep it, one more for all others ("or more"): answers that need much look the same."""
    return most if amount <= most else most + 1


TILE_CALLS = 3
"""So many exponentials may be taken of each tile: its log-sum-exp first, and its weights again."""


def most_tile_calls(inputs: Inputs) -> int:
    """A few for each tile, or one for each query and tile of keys."""
    N, M, Br, Bc = inputs["q"].shape[-2], inputs["k"].shape[-2], inputs["Br"], inputs["Bc"]
    return int(max(TILE_CALLS * math.ceil(N / Br), N) * math.ceil(M / Bc))


def tile_calls_level(count: int, inputs: Inputs) -> int:
    """The bound for all that keep it, one more for those not far above it, three times the bound for all others."""
    most = most_tile_calls(inputs)
    return above(count, most) if count <= 3 * most else 3 * most


TILE_COUNT = Bound(
    most=most_tile_calls,
    unit="or more calls that take the exponentials of a tile",
    why="There are ceil(N / Br) times ceil(M / Bc) tiles: Br counts queries, Bc counts keys.",
)


def metered(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The result, and the largest tensor: ``enough``, a whole row of tiles, or all scores."""
    value, largest, _ = memory_of(implementation, inputs)
    return {"value": value, "largest tensor": level(largest, inputs)}


class Exponentials(TorchDispatchMode):
    """Notes the most numbers of which exponentials were taken at once, and how often they were taken of more than ``Br``."""

    NAMES: ClassVar = {
        "exp",
        "exp_",
        "exp2",
        "exp2_",
        "expm1",
        "expm1_",
        "softmax",
        "_softmax",
        "logsumexp",
        "logcumsumexp",
    }

    def __init__(self, Br: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.Br, self.most, self.calls = Br, 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.name().split("::")[-1].split(".")[0] in self.NAMES:
            self.most = max(self.most, args[0].numel())
            self.calls += args[0].numel() > self.Br  # scores, not the factors of a tile's queries
        return func(*args, **(kwargs or {}))


def tile_by_tile(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """``metered``, of how many scores the exponentials were taken at once, and how often."""
    with Exponentials(inputs["Br"]) as counter:
        found = metered(implementation, inputs)
    return {
        **found,
        "exponentials": above(counter.most, inputs["Br"] * inputs["Bc"]),
        "tiles": tile_calls_level(counter.calls, inputs),
    }


ONE_TILE = Bound(
    most=lambda inputs: inputs["Br"] * inputs["Bc"],
    unit="or more exponentials at once",
    why="Take exp of one tile, Br queries by Bc keys, at a time. A query that meets all keys at once needs no tiles of keys.",
    naive=lambda inputs: inputs["q"].shape[-2] * inputs["k"].shape[-2],
)


def memory_of(implementation: Implementation, inputs: Inputs) -> tuple[Any, int, int]:
    """The result, the largest tensor and the most memory in use at once, in bytes."""
    with AllocationMeter([t for t in inputs.values() if isinstance(t, Tensor)]) as meter:
        value = implementation(*inputs.values())
    return value, meter.largest, meter.peak


def level(amount: int, inputs: Inputs) -> int:
    """What is enough, for all that need no more; otherwise a byte more ("or more"), or as much as all scores take."""
    enough, everything = enough_memory(inputs), all_scores(inputs)
    return above(amount, enough) if amount < everything else max(enough, everything)


def enough_memory(inputs: Inputs) -> int:
    """Four tiles of scores, or two copies of q, k or v; bytes."""
    (N, d), M = inputs["q"].shape[-2:], inputs["k"].shape[-2]
    size = inputs["q"].element_size()
    return int(max(4 * inputs["Br"] * inputs["Bc"] * size, 2 * max(N, M) * d * size))


def all_scores(inputs: Inputs) -> int:
    """All N times M scores; bytes."""
    return int(inputs["q"].shape[-2] * inputs["k"].shape[-2] * inputs["q"].element_size())


def tensors(observation: Observation) -> list[Tensor]:
    """The tensors that were seen."""
    return [leaf.data for _, leaf in leaves(observation.value) if isinstance(leaf, SeenTensor)]


def rounded_to_bf16(requirement: str) -> Callable[[Mapping[tuple[str, str], Observation]], bool]:
    """Recognises results that bfloat16 holds exactly, in the cases of a requirement."""

    def recognise(observed: Mapping[tuple[str, str], Observation]) -> bool:
        found = [t for key, seen in observed.items() if key[0] == requirement for t in tensors(seen)]
        return bool(found) and all(
            t.dtype == torch.bfloat16 or bool((t == t.bfloat16().to(t.dtype)).all()) for t in found
        )

    return recognise


def nan_in(*keys: tuple[str, str]) -> Callable[[Mapping[tuple[str, str], Observation]], bool]:
    """Recognises NaN in these cases, and in no other."""

    def recognise(observed: Mapping[tuple[str, str], Observation]) -> bool:
        bad = {key for key, seen in observed.items() if any(bool(t.isnan().any()) for t in tensors(seen))}
        return bool(bad) and bad <= set(keys)

    return recognise


def plain(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """(o, lse) by the definition, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    N, M = q.shape[-2], k.shape[-2]
    s = q @ k.mT * q.shape[-1] ** -0.5
    if causal:
        s = s.masked_fill(torch.arange(M)[None, :] > torch.arange(N)[:, None] + M - N, -math.inf)
    lse = torch.logsumexp(s, -1)
    return torch.exp(s - lse.clamp(min=-1e300)[..., None]) @ v, lse
