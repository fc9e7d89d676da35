"""The tests of the tests: every known mistake must fail its exercise, and be named; every right answer must pass."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from autograde.compare import compare
from autograde.course import CourseError, exercises, root
from autograde.exercise import Exercise, Mistake, samples
from autograde.expect import Expected, as_double, expect
from autograde.grade import grade, recognised
from autograde.observe import LocalObserver
from autograde.values import SeenTensor, leaves

SEEDS = (0, 1)
"""Seed 0 with the shown cases, the other with all cases."""
RIGHT_AT_MOST = 0.25
MISTAKE_AT_LEAST = 4.0
LEAST_MISTAKES = 3
LEAST_RIGHT = 2


@dataclass
class Row:
    """How one exercise fares.

    Attributes:
        killed, mistakes: mistakes that fail, and all of them.
        named: mistakes that are recognised by their own sentence and no other's.
        right: right answers, the reference among them, that pass, and ``right_total`` all of them.
        worst_right: the largest error of a right answer, in tolerances.
        nearest_mistake: the smallest of the mistakes' largest errors, in tolerances; None where only exact values,
            shapes or costs decide.
        complaints: what keeps the exercise from 100 %.
    """

    topic: str
    exercise: str
    mistakes: int = 0
    killed: int = 0
    named: int = 0
    right: int = 0
    right_total: int = 0
    worst_right: float = 0.0
    nearest_mistake: float | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Share of the mistakes that are both killed and named."""
        return min(self.killed, self.named) / self.mistakes if self.mistakes else 0.0


def measure(topics: Iterable[str], workers: int = 1) -> Iterator[Row]:
    """One row for each exercise of these topics, in their order, as it is measured; in several processes at once."""
    pairs = [(topic, name) for topic in topics for name in exercises(topic)]
    spawn = multiprocessing.get_context("spawn")  # a fork of a process that has used torch's threads may hang
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(_measured, *zip(*pairs, strict=True))


def _measured(topic: str, name: str) -> Row:
    right, lazy = answers(topic)
    return measure_exercise(topic, exercises(topic)[name], right.get(name, []), lazy.get(name, []))


def answers(topic: str) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Right and lazy answers of a topic by exercise, from ``tests/exercises/<topic>.py`` or a folder of that name.

    Raises:
        CourseError: there are none.
    """
    folder = root() / "tests" / "exercises"
    files = [folder / f"{topic}.py"] if (folder / f"{topic}.py").is_file() else []
    files += sorted((folder / topic).glob("*.py"))
    if not files:
        raise CourseError(
            f"There are no right answers for the topic {topic!r}: tests/exercises/{topic}.py is missing."
        )
    right: dict[str, list[Any]] = {}
    lazy: dict[str, list[Any]] = {}
    for file in files:
        more_right, more_lazy = load_answers(file)
        right |= more_right
        lazy |= more_lazy
    return right, lazy


def load_answers(path: Path) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """``RIGHT`` and ``LAZY`` of a file of answers."""
    spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RIGHT, module.LAZY


def not_written(*args: object, **kwargs: object) -> None:
    """What a learner gets: a stub."""
    raise NotImplementedError


def measure_exercise(
    topic: str,
    exercise: Exercise,
    right: Iterable[Callable[..., Any]],
    lazy: Iterable[Callable[..., Any]] = (),
) -> Row:
    """Grade the stub, the reference, the right and lazy answers and every mistake."""
    row = Row(topic, exercise.name, mistakes=len(exercise.mistakes))
    others = list(right)
    _count(row, exercise, len(others))
    stub = grade(exercise, LocalObserver(not_written, quiet=True))
    if not stub.not_written or stub.score:
        row.complaints.append('the stub does not fail with "not written yet"')
    for answer in (exercise.reference, *others):
        _right(row, exercise, answer)
    for answer in lazy:
        if any(_grade(exercise, answer, seed).ok for seed in SEEDS):
            row.complaints.append(f"the lazy answer {_name(answer)} gets full marks")
    for mistake in exercise.mistakes:
        _mistake(row, exercise, mistake)
    if row.worst_right > RIGHT_AT_MOST:
        row.complaints.append(
            f"a right answer comes as close to the tolerance as {row.worst_right:.2f} of it"
        )
    if row.nearest_mistake is not None and row.nearest_mistake < MISTAKE_AT_LEAST:
        row.complaints.append(f"a mistake is only {row.nearest_mistake:.1f} tolerances away from right")
    return row


def _count(row: Row, exercise: Exercise, right: int) -> None:
    if len(exercise.mistakes) < LEAST_MISTAKES:
        row.complaints.append(
            f"it has {len(exercise.mistakes)} mistakes, at least {LEAST_MISTAKES} are needed"
        )
    if right < LEAST_RIGHT:
        row.complaints.append(
            f"it has {right} right answers in other styles, at least {LEAST_RIGHT} are needed"
        )


def _grade(exercise: Exercise, answer: Callable[..., Any], seed: int) -> Any:
    return grade(exercise, LocalObserver(answer, quiet=True), graded=seed > 0, seed=seed)


def _name(answer: Callable[..., Any]) -> str:
    return str(getattr(answer, "__name__", answer))


def _right(row: Row, exercise: Exercise, answer: Callable[..., Any]) -> None:
    row.right_total += 1
    results = [_grade(exercise, answer, seed) for seed in SEEDS]
    failed = next((result for result in results if not result.ok), None)
    if failed is None:
        row.right += 1
        row.worst_right = max(row.worst_right, largest_error(exercise, answer) or 0.0)
    else:
        row.complaints.append(f"the right answer {_name(answer)} fails: {failed.first.message}")


def _mistake(row: Row, exercise: Exercise, mistake: Mistake) -> None:
    look = LocalObserver(mistake.implementation, quiet=True)
    judged = {seed: recognised(exercise, look, graded=seed > 0, seed=seed) for seed in SEEDS}
    if any(right for right, _ in judged.values()):
        row.complaints.append(f"the mistake {mistake.name} gets full marks")
        return
    row.killed += 1
    for seed, (_, found) in judged.items():
        if found != [mistake]:
            names = ", ".join(other.name for other in found) or "nothing"
            row.complaints.append(f"the mistake {mistake.name} is recognised as {names} (seed {seed})")
            return
    row.named += 1
    distance = largest_error(exercise, mistake.implementation, where_wrong=True)
    if distance is not None:
        row.nearest_mistake = min(distance, row.nearest_mistake or float("inf"))


def largest_error(exercise: Exercise, answer: Callable[..., Any], where_wrong: bool = False) -> float | None:
    """The largest error of an answer over all requirements with seed 1, in tolerances; None if nothing is comparable.

    With ``where_wrong`` only the cases count in which its values or gradients are found wrong, not those in which
    something else is (a shape, a cost, a missing gradient, a boolean).
    """
    largest: float | None = None
    look = LocalObserver(answer, quiet=True)
    for requirement in exercise.requirements:
        for sample in samples(requirement, graded=True, seed=1):
            expected = expect(exercise.reference, sample)
            observed = look(requirement.probe, sample.inputs)
            finding = compare(exercise, sample, expected, observed)
            telling = finding is not None and finding.kind in ("values", "gradient", "not finite")
            if observed.raised is None and (telling or not where_wrong):
                found = _errors(expected, dict(leaves(observed.value)))
                largest = max([largest or 0.0, *found]) if found else largest
    return largest


def _errors(expected: Expected, got: dict[str, Any]) -> list[float]:
    found = []
    for path in expected.unit:
        value = got.get(path)
        if isinstance(value, (SeenTensor, float, int)):
            ours, theirs = as_double(value), as_double(expected.exact[path])
            same = (ours == theirs) | (
                ours.isnan() & theirs.isnan()
            )  # infinities and NaN, where they are right
            difference = (ours - theirs).abs().nan_to_num(float("inf")).masked_fill(same, 0.0)
            tolerance = expected.tolerance(path).clamp(min=1e-300)
            if difference.numel():
                found.append(float((difference / tolerance).max()))
    return found


def as_markdown(rows: list[Row]) -> str:
    """The table of ``docs/kill-rate.md``."""
    lines = [
        "# Kill rate",
        "",
        "Every exercise is tested with wrong answers that people really write. Each must fail, and be recognised by its",
        "own sentence and by no other; right answers in other styles must pass. The last two columns are distances in",
        "tolerances: the worst right answer must stay below 0.25, the nearest mistake above 4 (a dash: only exact values,",
        "shapes or costs decide). Made by `autograde killrate`; CI fails below 100 %.",
        "",
        "| topic | exercise | mistakes | kill rate | right answers | worst right | nearest mistake |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append("| " + " | ".join(cells(row)) + " |")
    return "\n".join(lines) + "\n"


def cells(row: Row) -> list[str]:
    """One row of the table."""
    return [
        row.topic,
        row.exercise,
        str(row.mistakes),
        f"{100 * row.rate:.0f} %",
        f"{row.right} of {row.right_total}",
        "below 0.25" if row.worst_right <= RIGHT_AT_MOST else f"{row.worst_right:.2f}",
        "-" if row.nearest_mistake is None else _distance(row.nearest_mistake),
    ]


def _distance(tolerances: float) -> str:
    """Rounded down to a power of ten, so that the table does not change with the machine."""
    if tolerances < MISTAKE_AT_LEAST:
        return f"{tolerances:.1f}"
    power = 0
    while 10 ** (power + 1) <= tolerances and power < 12:
        power += 1
    return "above 4" if power == 0 else f"above 1e{power}"
