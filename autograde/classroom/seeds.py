"""Which numbers the hidden cases are drawn with: another seed for each student, exercise and version of a notebook.

A class has a secret, from which seeds are derived, so that nobody who knows this file knows them. Handing in a changed
notebook gives other seeds: numbers that somebody has written down are of no use. The same notebook always gives the
same, and every grade records its seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from autograde.course import CourseError
from autograde.run import Seeds

FILE = ".class-secret"
LENGTH = 32
MOST = 2**31


def class_secret(folder: Path) -> bytes:
    """The secret of a class, made the first time. Its file can be read by its owner only.

    Raises:
        CourseError: the file was damaged.
    """
    path = folder / FILE
    with contextlib.suppress(FileExistsError):
        temporary = path.with_name(f"{FILE}.{os.getpid()}")
        temporary.unlink(missing_ok=True)  # of a process that was killed here
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(LENGTH) + "\n")
            os.link(temporary, path)  # fails when another process was faster
        finally:
            temporary.unlink()
    with contextlib.suppress(ValueError):
        secret = bytes.fromhex(path.read_text().strip())
        if len(secret) == LENGTH:
            return secret
    raise CourseError(
        f"The file {FILE} of this class was damaged. Take it from a copy, or delete it: new seeds are made then."
    )


def submission_key(secret: bytes, assignment: str, student: str) -> bytes:
    """What the seeds of one student's submission are derived from."""
    return hmac.new(secret, f"{assignment}\0{student}".encode(), hashlib.sha256).digest()


def seeds(key: bytes, notebook: bytes) -> Seeds:
    """By exercise: the first seed, and others in case that its cases are unusable.

    Args:
        key: of the submission.
        notebook: the file that was handed in.
    """
    content = hashlib.sha256(notebook).digest()

    def of(exercise: str) -> Iterator[int]:
        for attempt in itertools.count():
            text = content + f"{exercise}\0{attempt}".encode()
            yield int.from_bytes(hmac.new(key, text, hashlib.sha256).digest()[:8]) % MOST + 1

    return of


def recorded_seeds(known: dict[str, int]) -> Seeds:
    """The seeds that a record names, to draw the same cases again."""
    return lambda exercise: iter((known[exercise],))
