"""The tests of the tests: stubs fail, right answers pass, every mistake fails and is named."""

import pytest
import torch

from autograde.course import exercises, read_course, root
from autograde.exercise import Case, Exercise, Mistake, Requirement, samples
from autograde.expect import expect, strain
from autograde.killrate import answers, as_markdown, measure_exercise
from autograde.nests import map_tensors
from autograde.observe import observe
from autograde.values import SeenTensor, leaves

TOPICS = [topic.name for topic in read_course().topics if not topic.planned]
ALL = [(topic, name) for topic in TOPICS for name in exercises(topic)]


MARGIN = 0.6
"""What a learner's own check draws is at most this far on the way to being refused: rounding differs from processor to processor."""
PUBLISHED = (root() / "docs" / "kill-rate.md").read_text(encoding="utf-8")


def measured(topic, name):
    right, lazy = answers(topic)
    return measure_exercise(topic, exercises(topic)[name], right.get(name, []), lazy.get(name, []))


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_the_kill_rate_is_100_percent_and_the_published_one(topic, name):
    """Where the published row differs: run `autograde killrate` and commit docs/kill-rate.md."""
    row = measured(topic, name)
    assert row.complaints == []
    assert row.rate == 1.0
    assert row.mistakes >= 3
    assert row.right == row.right_total >= 3  # the reference and two others
    assert as_markdown([row]).splitlines()[-1] in PUBLISHED.splitlines()


def test_the_published_table_has_a_row_for_every_exercise():
    """Otherwise: run `autograde killrate` and commit docs/kill-rate.md."""
    rows = [line.split(" | ")[:2] for line in PUBLISHED.splitlines() if line.startswith("| ")][2:]
    assert rows == [[f"| {topic}", name] for topic, name in ALL]
    assert as_markdown([]).splitlines() == PUBLISHED.splitlines()[: -len(ALL)]


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_no_shown_case_is_nearly_chaotic(topic, name):
    exercise = exercises(topic)[name]
    for requirement in exercise.requirements:
        for sample in samples(requirement, graded=False, seed=0):
            nearest = max(strain(expect(exercise.reference, sample)).values(), default=0.0)
            assert nearest <= MARGIN, sample.key


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_sentences_are_different_and_speak_to_the_learner(topic, name):
    sentences = [mistake.sentence for mistake in exercises(topic)[name].mistakes]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.endswith(".") and len(sentence) > 30 for sentence in sentences)


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_requirements_and_cases_have_names_of_their_own(topic, name):
    exercise = exercises(topic)[name]
    assert len({requirement.name for requirement in exercise.requirements}) == len(exercise.requirements)
    for requirement in exercise.requirements:
        names = [case.name for case in requirement.cases]
        assert len(set(names)) == len(names)
        assert any(case.shown for case in requirement.cases), (
            "a learner must be able to see each requirement fail"
        )


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_the_reference_in_float64_returns_float64(topic, name):
    """Otherwise the tolerance would be derived from nothing."""
    exercise = exercises(topic)[name]
    for requirement in exercise.requirements:
        for sample in samples(requirement, graded=True, seed=1):
            has_tensors = False

            def double(tensor):
                nonlocal has_tensors
                has_tensors = has_tensors or tensor.dtype.is_floating_point
                return tensor.double() if tensor.dtype.is_floating_point else tensor

            inputs = map_tensors(sample.inputs, double)
            if has_tensors:
                seen = observe(requirement.probe, exercise.reference, inputs)
                floating = [v for _, v in leaves(seen.value) if isinstance(v, SeenTensor)]
                assert all(v.data.dtype == torch.float64 for v in floating if v.data.dtype.is_floating_point)


def double_it(x):
    return 2 * x


def one_too_many(x):
    return 2 * x + 1


def nearly(x):
    return 2 * x + 1e-6


def unchanged(x):
    return x


def _exercise(*mistakes):
    case = Case("three numbers", lambda source: {"x": source.normal(3)})
    return Exercise(double_it, (Requirement("doubles", (case,)),), mistakes)


GOOD = (
    Mistake("You add one to the double of x.", one_too_many),
    Mistake("You return x as it is, without doubling it.", unchanged),
    Mistake("You return the negative of what is asked.", lambda x: -2 * x),
)
RIGHT = [lambda x: x + x, lambda x: torch.add(x, x)]


def test_a_good_bank_has_no_complaints():
    assert measure_exercise("toy", _exercise(*GOOD), RIGHT).complaints == []


@pytest.mark.parametrize(
    ("mistakes", "right", "complaint"),
    [
        (GOOD[:2], RIGHT, "at least 3 are needed"),
        (GOOD, RIGHT[:1], "at least 2 are needed"),
        ((*GOOD, Mistake("You are right, in fact.", double_it)), RIGHT, "gets full marks"),
        ((*GOOD, Mistake("The same as another one.", lambda x: x * 2 + 1)), RIGHT, "is recognised as"),
        (GOOD, [*RIGHT, one_too_many], "the right answer one_too_many fails"),
        ((*GOOD, Mistake("You are very nearly right.", nearly)), RIGHT, "gets full marks"),
    ],
    ids=["few mistakes", "few right answers", "no mistake", "twins", "wrong right answer", "too near"],
)
def test_a_bad_bank_is_complained_about(mistakes, right, complaint):
    row = measure_exercise("toy", _exercise(*mistakes), right)
    assert any(complaint in text for text in row.complaints)


def test_a_lazy_answer_with_full_marks_is_complained_about():
    row = measure_exercise("toy", _exercise(*GOOD), RIGHT, lazy=[double_it])
    assert any("lazy" in text for text in row.complaints)
