"""What the tests of the sandbox share: a reason to skip, cells that print JSON, and looks at processes from outside."""

import contextlib
import json
import os
import time
from pathlib import Path

import pytest

from autograde.classroom.sandbox import why_not
from autograde.session import Session

REASON = f"no sandbox: {why_not()}"
NEEDS_SANDBOX = pytest.mark.skipif(bool(why_not()) and not os.environ.get("CI"), reason=REASON)
"""In continuous integration a missing sandbox is a failure."""


@contextlib.contextmanager
def session(box, limits=None, cell=20.0, look=10.0):
    """A notebook in a sandbox, with other limits where they are given."""
    before = box.limits
    box.limits = limits or before
    try:
        with Session(Path(), "rnn", cell, look, box.start) as opened:
            yield opened
    finally:
        box.limits = before


def shown(opened, expression, *lines):
    """The value of an expression in a notebook, after some lines."""
    ran = opened.run("\n".join([*lines, f"import json\nprint(json.dumps({expression}))"]))
    assert ran.raised is None, ran.raised
    return json.loads("".join(output["text"] for output in ran.outputs))


def raised(opened, *lines):
    """What a cell raises: the exception's kind and message."""
    ran = opened.run("\n".join(lines))
    return None if ran.raised is None else (ran.raised.kind, ran.raised.message)


def below(pid):
    """The numbers of all processes below a process."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                words = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if words[0] != "Z":
                    parents[int(name)] = int(words[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def gone(pids, seconds=10.0):
    """Wait until none of these processes is there; those that still are."""
    deadline = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if _alive(pid)}
        time.sleep(0.02)
    return left


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
