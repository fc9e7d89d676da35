"""Which tests belong to which topic, so that continuous integration can be split: `make test TOPIC=rnn`."""

import re
from pathlib import Path

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from autograde.course import read_course

HERE = Path(__file__).parent
TOPICS = [topic.name for topic in read_course().topics if not topic.planned]
SHARED = "shared"
"""The name for everything that belongs to no topic."""

LONGEST = (
    "tests/classroom/test_battery.py",
    "tests/classroom/test_class.py",
    "tests/classroom/test_battery_grader.py",
    "tests/test_grading_benchmark.py",
    "tests/classroom/test_ways_to_grade.py",
)
"""Files that take minutes. They begin first, so that no worker has one of them left when the others are done."""
PER_SUBJECT = ("tests/exercises/", "tests/lessons/", "tests/gpu/")


def pytest_addoption(parser):
    parser.addoption(
        "--topic",
        choices=[*TOPICS, SHARED],
        help=f"Only the tests of one topic, or '{SHARED}': those that belong to no topic.",
    )


def topic_of(item):
    """A topic's tests lie in a folder or file of its name, or are called with it or with one of its lessons."""
    values = getattr(item, "callspec", None)
    values = values.params if values is not None else {}
    named = str(values.get("topic") or values.get("lesson") or "").split("/")[0]
    parts = item.path.relative_to(HERE).parts
    if len(parts) > 1 and parts[0] in ("reference", "exercises"):
        named = named or parts[1].removeprefix("test_").removesuffix(".py")
    return named if named in TOPICS else SHARED


class ByFileAndSubject(LoadScopeScheduling):
    """Tests of one file share a worker and its fixtures, but those of one exercise or lesson are a group of their own.

    The two largest files would otherwise keep one worker busy when all others are idle.
    """

    def schedule(self):
        self.config.option.loadscopereorder = (
            False  # the order of collection, not the scope with most tests first
        )
        super().schedule()

    def _split_scope(self, nodeid):
        file, _, rest = nodeid.partition("::")
        subject = re.search(r"\[(\w+[/-]\w+)", rest) if file.startswith(PER_SUBJECT) else None
        return f"{file} {subject[1]}" if subject else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFileAndSubject(config, log)


def pytest_collection_modifyitems(config, items):
    place = {HERE.parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    wanted = config.getoption("--topic")
    if wanted is not None:
        dropped = [item for item in items if topic_of(item) != wanted]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if topic_of(item) == wanted]


@pytest.fixture(autouse=True, scope="session")
def full_float32():
    """TF32, which cuDNN uses for float32 unless told otherwise, keeps 10 bits of the mantissa: wrong by 1e-3, where we compare to 1e-5."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
