"""Grading one implementation of one exercise: every requirement, every case, the diagnosis, the points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from autograde.compare import Finding, compare
from autograde.diagnose import diagnose, matches
from autograde.exercise import Exercise, Mistake, Requirement, Sample, samples
from autograde.expect import Expected, expect
from autograde.observe import Observation, Observer, Stopped, fixed_state

Key = tuple[str, str]


@dataclass(frozen=True)
class RequirementResult:
    """How one requirement came out; ``findings`` has one entry for each case that failed."""

    name: str
    points: int
    cases: int
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every case passed."""
        return not self.findings

    @property
    def score(self) -> int:
        """The points earned."""
        return self.points if self.ok else 0


@dataclass(frozen=True)
class ExerciseResult:
    """How one exercise came out.

    Attributes:
        verdict: "ok", "wrong", "timeout", "oom", "output-limit", "crash", "tampered", "malformed" or "grader-error".
        diagnosis: the sentence of the known mistake that it shows, or None.
        seed: the seed that the cases were drawn with; None where it is not to be shown.
    """

    name: str
    requirements: tuple[RequirementResult, ...]
    verdict: str = "ok"
    diagnosis: str | None = None
    seed: int | None = 0
    note: str = ""

    @property
    def score(self) -> int:
        """The points earned."""
        return sum(requirement.score for requirement in self.requirements)

    @property
    def max_score(self) -> int:
        """The points that there are."""
        return sum(requirement.points for requirement in self.requirements)

    @property
    def ok(self) -> bool:
        """Whether all of it is right."""
        return self.verdict == "ok"

    @property
    def first(self) -> Finding | None:
        """The first finding of the first requirement that failed."""
        return next((r.findings[0] for r in self.requirements if r.findings), None)

    @property
    def not_written(self) -> bool:
        """Whether the answer is still to be written."""
        return self.first is not None and self.first.kind == "not written"

    @property
    def given(self) -> bool:
        """Whether the notebook went on with the course's version."""
        return self.first is not None and self.first.kind == "given"


@dataclass
class Sitting:
    """Everything that is looked at while one implementation is graded."""

    exercise: Exercise
    observer: Observer
    expected: dict[Key, Expected] = field(default_factory=dict)
    observed: dict[Key, Observation] = field(default_factory=dict)
    looked_at: list[Sample] = field(default_factory=list)
    failed: list[Sample] = field(default_factory=list)

    def look(self, sample: Sample) -> Finding | None:
        """Observe one sample, and say what is wrong with it."""
        key = sample.key
        self.looked_at.append(sample)
        self.expected[key] = expect(self.exercise.reference, sample)
        self.observed[key] = self.observer(sample.requirement.probe, sample.inputs, self.exercise.forbids)
        return compare(self.exercise, sample, self.expected[key], self.observed[key])


def grade(
    exercise: Exercise,
    observer: Observer,
    *,
    graded: bool = False,
    seed: int = 0,
    device: str = "cpu",
    on_progress: Callable[[str], None] | None = None,
) -> ExerciseResult:
    """Look at an implementation through every requirement.

    Args:
        exercise: what it should be.
        observer: looks at the implementation, in this process or in another one.
        graded: all cases with ``seed``, instead of the shown ones with seed 0.
        device: where the inputs are put.
        on_progress: is told the name of each requirement before it is looked at.

    Raises:
        CaseError: a case of ours is unusable. It is never the learner's fault.
    """
    with fixed_state():  # what a notebook has set changes neither the inputs nor the verdict
        return _grade(exercise, observer, graded, seed, device, on_progress)


def _grade(
    exercise: Exercise,
    observer: Observer,
    graded: bool,
    seed: int,
    device: str,
    on_progress: Callable[[str], None] | None,
) -> ExerciseResult:
    sitting = Sitting(exercise, observer)
    results: list[RequirementResult] = []
    for requirement in exercise.requirements:
        if on_progress is not None:
            on_progress(requirement.name)
        try:
            results.append(_look_at(requirement, sitting, graded, seed, device))
        except Stopped as stop:
            return _stopped(exercise, results, stop, seed if graded else 0)
        if (
            len(results) == 1
            and results[0].findings
            and results[0].findings[0].kind in ("not written", "missing")
        ):
            return failed(exercise, results[-1].findings[0], seed if graded else 0)
        if requirement.gate and results[-1].findings:
            results += [_behind(requirement, later) for later in exercise.requirements[len(results) :]]
            break
    forbidden = next((f for r in results for f in r.findings if f.kind == "forbidden"), None)
    if forbidden is not None:
        return failed(exercise, forbidden, seed if graded else 0)
    ok = all(result.ok for result in results)
    mistake = (
        None
        if ok
        else diagnose(exercise, sitting.looked_at, sitting.failed, sitting.expected, sitting.observed)
    )
    return ExerciseResult(
        exercise.name,
        tuple(results),
        "ok" if ok else "wrong",
        mistake.sentence if mistake else None,
        seed if graded else 0,
    )


def _behind(gate: Requirement, later: Requirement) -> RequirementResult:
    """A requirement that is not looked at because one before it is not met."""
    finding = Finding("gate", f"Not looked at yet. First mend: {gate.name}.")
    return RequirementResult(later.name, later.points, len(later.cases), (finding,))


def _stopped(
    exercise: Exercise, results: list[RequirementResult], stop: Stopped, seed: int
) -> ExerciseResult:
    """What was met before counts; the requirement at which it was stopped, and those after it, do not."""
    finding = Finding(stop.verdict, str(stop))
    rest = exercise.requirements[len(results) :]
    ended = [RequirementResult(r.name, r.points, len(r.cases), (finding,)) for r in rest]
    return ExerciseResult(exercise.name, (*results, *ended), stop.verdict, None, seed)


def _look_at(
    requirement: Requirement, sitting: Sitting, graded: bool, seed: int, device: str
) -> RequirementResult:
    looked = list(samples(requirement, graded, seed, device))
    findings: list[Finding] = []
    for sample in looked:
        finding = sitting.look(sample)
        if finding is not None:
            findings.append(finding)
            if finding.kind in ("not written", "missing"):
                break
    if findings:
        sitting.failed.extend(sample for sample in looked if sample.key in sitting.observed)
    return RequirementResult(requirement.name, requirement.points, len(looked), tuple(findings))


def failed(exercise: Exercise, finding: Finding, seed: int, verdict: str = "wrong") -> ExerciseResult:
    """The whole exercise fails for one reason."""
    results = tuple(
        RequirementResult(r.name, r.points, len(r.cases), (finding,)) for r in exercise.requirements
    )
    return ExerciseResult(exercise.name, results, verdict, None, seed)


def went_on(exercise: Exercise, seed: int) -> ExerciseResult:
    """The result where a notebook goes on with the course's version, which scores nothing."""
    finding = Finding("given", f"You went on with the course's version: given({exercise.name!r}).")
    return failed(exercise, finding, seed)


def recognised(
    exercise: Exercise, observer: Observer, *, graded: bool, seed: int
) -> tuple[bool, list[Mistake]]:
    """Whether an implementation is right, and every mistake of the bank that fits what it shows; for the tests of the bank."""
    sitting = Sitting(exercise, observer)
    with fixed_state():
        results = [
            _look_at(requirement, sitting, graded, seed, "cpu") for requirement in exercise.requirements
        ]
        if all(result.ok for result in results):
            return True, []
        return False, matches(exercise, sitting.looked_at, sitting.failed, sitting.expected, sitting.observed)
