"""What an exercise is: a reference, a few requirements and a bank of mistakes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autograde.nests import map_tensors
from autograde.observe import Implementation, Inputs, Observation, Probe
from autograde.probes import outputs


class Draw:
    """A seeded source of inputs. Everything is drawn on the CPU, so that a seed means the same everywhere."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """float32, independent, mean 0, standard deviation ``scale``."""
        return scale * torch.randn(shape, generator=self._generator, dtype=torch.float32, device="cpu")

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32, independent, uniform in [low, high)."""
        return low + (high - low) * torch.rand(
            shape, generator=self._generator, dtype=torch.float32, device="cpu"
        )

    def integers(self, *shape: int, low: int, high: int) -> Tensor:
        """int64, independent, uniform in low .. high inclusive."""
        return torch.randint(low, high + 1, shape, generator=self._generator)

    def integer(self, low: int, high: int) -> int:
        """One int in low .. high inclusive."""
        return int(self.integers(low=low, high=high))


@dataclass(frozen=True)
class Case:
    """Named inputs. Shown cases run in the notebook; all cases run, with another seed, when it is graded.

    Attributes:
        name: what is special about these inputs, in words that help: "a batch of one".
        draw: draws the inputs, in the order in which the implementation takes them.
        shown: whether the check in the notebook uses it.
    """

    name: str
    draw: Callable[[Draw], Inputs]
    shown: bool = True

    def inputs(self, seed: int) -> Inputs:
        """The inputs for a seed; different cases draw different numbers from the same seed."""
        return self.draw(Draw(zlib.crc32(self.name.encode()) + 1_000_003 * seed))


@dataclass(frozen=True)
class Bound:
    """The most that a cost may be.

    Attributes:
        most: the bound for given inputs.
        unit: what is counted: "calls of step", "bytes allocated at once".
        why: one sentence: what needs that much, and what needs more.
        naive: what the naive version needs for given inputs.
    """

    most: Callable[[Inputs], float]
    unit: str
    why: str
    naive: Callable[[Inputs], float] | None = None


@dataclass(frozen=True)
class Tolerance:
    """A tolerance written by hand, as a multiple of the derived one, with the reason for it."""

    factor: float
    reason: str


@dataclass(frozen=True)
class Requirement:
    """One property that an implementation must show.

    Attributes:
        name: in words a learner understands: "calls the cell once per time step".
        cases: the inputs on which it is looked at.
        probe: how an implementation is used, and what is observed.
        points: what it is worth.
        bounds: for observed numbers that are costs, by their path: the most they may be.
        tolerance: only where the derived tolerance does not fit.
        gate: the requirements after it are looked at only when it is met.
        rows: compare each row (last dimension) with a tolerance of its own, where magnitudes differ within a tensor.
    """

    name: str
    cases: tuple[Case, ...]
    probe: Probe = outputs
    points: int = 1
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    tolerance: Tolerance | None = None
    gate: bool = False
    rows: bool = False


Recognise = Callable[[Mapping[tuple[str, str], Observation]], bool]


@dataclass(frozen=True)
class Mistake:
    """A wrong implementation that people really write, and the sentence that helps them.

    ``recognise`` decides from the observations, keyed by (requirement, case), where equal values cannot: precision,
    deadlock, cost.
    """

    sentence: str
    implementation: Implementation
    recognise: Recognise | None = None

    @property
    def name(self) -> str:
        """The name of the function that makes the mistake."""
        return getattr(self.implementation, "__name__", repr(self.implementation))


@dataclass(frozen=True)
class Exercise:
    """A function that a learner writes.

    Attributes:
        reference: our own implementation. Its name is the exercise's name; its jaxtyping annotations name the
            dimensions in reports.
        requirements: what is asked; every one carries points.
        mistakes: the bank of known mistakes, at least three.
        forbids: short names of operators that would be the answer itself.
        returns: names of the elements, where a tuple is returned.
        threads: whether its probes start threads or processes. Otherwise an answer whose operators or costs are counted
            may start none: the meters would not see what is done there.
    """

    reference: Implementation
    requirements: tuple[Requirement, ...]
    mistakes: tuple[Mistake, ...]
    forbids: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    threads: bool = False

    @property
    def counted(self) -> bool:
        """Whether something is counted that an answer could hide in a thread."""
        metered = bool(self.forbids) or any(requirement.bounds for requirement in self.requirements)
        return metered and not self.threads

    @property
    def name(self) -> str:
        """The name of the function to write."""
        return str(self.reference.__name__)

    @property
    def points(self) -> int:
        """What the exercise is worth."""
        return sum(requirement.points for requirement in self.requirements)


@dataclass(frozen=True)
class Sample:
    """One requirement looked at in one case, with the inputs drawn."""

    requirement: Requirement
    case: Case
    inputs: Inputs
    seed: int = 0
    device: str = "cpu"

    @property
    def key(self) -> tuple[str, str]:
        """(requirement, case)."""
        return self.requirement.name, self.case.name


def samples(requirement: Requirement, graded: bool, seed: int, device: str = "cpu") -> Iterator[Sample]:
    """The samples of a requirement: the shown ones with seed 0 in a notebook, all with ``seed`` when graded."""
    for case in requirement.cases:
        if graded or case.shown:
            drawn_with = seed if graded else 0
            yield Sample(requirement, case, to_device(case.inputs(drawn_with), device), drawn_with, device)


def to_device(value: Any, device: str) -> Any:
    """A nest of inputs with its tensors on ``device``, with their strides: views stay views."""

    def moved(tensor: Tensor) -> Tensor:
        storage = tensor.new_empty(0).set_(tensor.untyped_storage())
        return storage.to(device).as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    return value if device == "cpu" else map_tensors(value, moved)
