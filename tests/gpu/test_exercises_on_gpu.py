"""Every exercise on a GPU: the reference passes, mistakes fail, and results that were left on the CPU are named."""

import functools

import pytest
import torch

from autograde.course import exercises, read_course
from autograde.grade import grade
from autograde.nests import map_tensors
from autograde.observe import LocalObserver

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU that torch can use"
    ),
]

TOPICS = [topic.name for topic in read_course().topics if not topic.planned]
ALL = [(topic, name) for topic in TOPICS for name in exercises(topic)]


def _reads_past_the_end(topic, name, answer):
    """On the CPU that is an exception. On a GPU it is an assertion of the device, after which the process cannot use it any more."""
    raised = []

    @functools.wraps(answer)
    def listening(*args, **options):
        try:
            return answer(*args, **options)
        except Exception as error:
            raised.append(f"{type(error).__name__}: {error}")
            raise

    grade(exercises(topic)[name], LocalObserver(listening, quiet=True), graded=True, seed=1)
    return any(word in text for text in raised for word in ("IndexError", "out of bounds", "out of range"))


def _grade(topic, name, answer, seed):
    look = LocalObserver(answer, quiet=True)
    return grade(exercises(topic)[name], look, graded=True, seed=seed, device="cuda")


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_the_reference_passes(topic, name):
    result = _grade(topic, name, exercises(topic)[name].reference, 1)
    assert result.ok, result.first


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_every_mistake_fails(topic, name):
    for mistake in exercises(topic)[name].mistakes:
        if not _reads_past_the_end(topic, name, mistake.implementation):
            assert not _grade(topic, name, mistake.implementation, 1).ok, mistake.name


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_a_result_on_the_wrong_device_fails(topic, name):
    """Where the reference gives a tensor that is on the GPU; many exercises give numbers, or tensors made from numbers."""
    reference = exercises(topic)[name].reference
    moved = []

    def to_the_cpu(tensor):
        moved.append(tensor.is_cuda)
        return tensor.cpu()

    result = _grade(topic, name, lambda *given: map_tensors(reference(*given), to_the_cpu), 1)
    if any(moved):
        assert not result.ok
        assert result.first.kind in ("device", "raised"), result.first
