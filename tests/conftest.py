"""Which tests belong to which topic, so that continuous integration can be split: `make test TOPIC=rnn`."""

from pathlib import Path

import pytest

from autograde.course import read_course

HERE = Path(__file__).parent
TOPICS = [topic.name for topic in read_course().topics if not topic.planned]
SHARED = "shared"
"""The name for everything that belongs to no topic."""


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


def _group(item):
    """Tests of one file share a process and its fixtures; each lesson and each exercise is a group of its own."""
    values = getattr(item, "callspec", None)
    values = values.params if values is not None else {}
    own = [str(values[key]) for key in ("topic", "name", "lesson") if key in values]
    return "/".join([item.path.name, *own])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    wanted = config.getoption("--topic")
    if wanted is not None:
        dropped = [item for item in items if topic_of(item) != wanted]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if topic_of(item) == wanted]
