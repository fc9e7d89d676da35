"""Seeds of hidden cases: one for each student, exercise and version of a notebook, and always the same ones again."""

import itertools
import stat

import pytest

from autograde.classroom import seeds as module
from autograde.classroom.seeds import class_secret, recorded_seeds, seeds, submission_key
from autograde.course import CourseError

KEY = submission_key(b"secret", "rnn", "ann")


def first(key=KEY, notebook=b"text", exercise="rnn_step"):
    return next(seeds(key, notebook)(exercise))


def test_the_same_submission_gives_the_same_seeds():
    assert first() == first()
    twice = [list(itertools.islice(seeds(KEY, b"text")("rnn_step"), 4)) for _ in range(2)]
    assert twice[0] == twice[1]


def test_everything_that_differs_gives_other_seeds():
    found = [
        first(),
        first(notebook=b"text "),
        first(exercise="rnn_forward"),
        first(submission_key(b"secret", "rnn", "ben")),
        first(submission_key(b"secret", "gates", "ann")),
        first(submission_key(b"another", "rnn", "ann")),
        *itertools.islice(seeds(KEY, b"text")("rnn_step"), 1, 5),
    ]
    assert len(set(found)) == len(found)


def test_names_do_not_run_into_each_other():
    assert submission_key(b"s", "ab", "c") != submission_key(b"s", "a", "bc")


def test_they_are_whole_numbers_that_torch_takes_and_none_is_that_of_the_notebook():
    found = [first(notebook=str(i).encode()) for i in range(300)]
    assert all(type(seed) is int and 1 <= seed <= 2**31 for seed in found)
    assert len(set(found)) == len(found)
    assert max(found) > 2**30


def test_recorded_seeds_give_just_those():
    assert list(recorded_seeds({"rnn_step": 7})("rnn_step")) == [7]
    with pytest.raises(KeyError):
        recorded_seeds({"rnn_step": 7})("other")


def test_a_class_has_one_secret_that_only_its_owner_reads(tmp_path):
    secret = class_secret(tmp_path)
    assert len(secret) == 32
    assert class_secret(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / module.FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [module.FILE]


def test_two_classes_have_two(tmp_path):
    (tmp_path / "other").mkdir()
    assert class_secret(tmp_path) != class_secret(tmp_path / "other")


@pytest.mark.parametrize("text", ["", "\n", "not hexadecimal", "ab"])
def test_a_secret_that_was_damaged_is_not_used(tmp_path, text):
    """An empty one would give seeds that everybody can work out."""
    (tmp_path / module.FILE).write_text(text)
    with pytest.raises(CourseError, match="class-secret"):
        class_secret(tmp_path)


def test_what_a_killed_process_left_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "getpid", lambda: 4711)
    (tmp_path / f"{module.FILE}.4711").write_text("half")
    assert len(class_secret(tmp_path)) == 32
