"""Every exercise on a GPU: the reference and right answers pass, mistakes fail."""

import pytest
import torch

from autograde.course import exercises, read_course
from autograde.grade import grade
from autograde.killrate import answers
from autograde.observe import LocalObserver

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU that torch can use"
    ),
]

TOPICS = [topic.name for topic in read_course().topics if not topic.planned]
ALL = [(topic, name) for topic in TOPICS for name in exercises(topic)]


@pytest.fixture(autouse=True)
def full_float32():
    """TF32 keeps 10 bits of the mantissa; a float32 reference differs by 1e-3 then."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


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
        assert not _grade(topic, name, mistake.implementation, 1).ok, mistake.name


@pytest.mark.parametrize(("topic", "name"), ALL, ids=lambda value: value)
def test_a_result_on_the_wrong_device_is_named(topic, name):
    reference = exercises(topic)[name].reference
    right, _ = answers(topic)
    assert right[name]

    def on_the_cpu(*args):
        value = reference(*args)
        return value.cpu() if isinstance(value, torch.Tensor) and value.is_cuda else None

    result = _grade(topic, name, on_the_cpu, 1)
    assert not result.ok
