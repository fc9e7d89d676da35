"""What is in a folder that somebody handed in: regular files of bounded size, read without following anything."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MAX_FILE = 60_000_000
MAX_BESIDE = 20_000_000
"""Bytes of all files beside the notebooks, which the notebooks may read."""
MAX_FILES = 200
MAX_DEPTH = 4
MAX_ENTRIES = 5_000
IGNORED = {".ipynb_checkpoints", "__pycache__", ".DS_Store", "timestamp.txt", "feedback.txt"}
SUFFIX = ".ipynb"


@dataclass(frozen=True)
class HandedIn:
    """A submission as it was read.

    Attributes:
        notebooks: by name without ``.ipynb``, those that were asked for and are there; None: too large to be read.
        files: others, by path, for the folder in which the notebooks run.
        notes: what was left out, and why.
    """

    notebooks: dict[str, bytes | None]
    files: dict[str, bytes]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes when anything that is graded changes."""
        found = hashlib.sha256()
        for kind, parts in (("notebook", self.notebooks), ("file", self.files)):
            for name in sorted(parts):
                data = parts[name]
                size = "too large" if data is None else len(data)
                found.update(f"{kind}\0{name}\0{size}\0".encode("utf-8", "backslashreplace"))
                found.update(data or b"")
        return found.hexdigest()


def collect(folder: Path, asked_for: Collection[str]) -> HandedIn:
    """Read a submission.

    Links, hard links, devices, pipes and sockets are left out and named, and so is what is too large.

    Args:
        asked_for: names of the assignment's notebooks.
    """
    reader = _Reader(set(asked_for))
    if folder.is_symlink() or folder.parent.is_symlink():
        return HandedIn({}, {}, ("The submission's folder is a link; nothing was read.",))
    for path, entry in reader.walk(folder, PurePosixPath()):
        reader.take(path, entry)
    return HandedIn(reader.notebooks, reader.files, tuple(reader.notes))


class _Reader:
    def __init__(self, asked_for: set[str]) -> None:
        self._asked_for = asked_for
        self.notebooks: dict[str, bytes | None] = {}
        self.files: dict[str, bytes] = {}
        self.notes: list[str] = []
        self._room = MAX_BESIDE
        self._seen = 0

    def walk(self, folder: Path, inside: PurePosixPath) -> Iterator[tuple[PurePosixPath, os.DirEntry[str]]]:
        """Every entry that is no folder, in order."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.leave_out(inside, f"it cannot be read ({error.strerror})")
            return
        for entry in entries:
            self._seen += 1
            if self._seen > MAX_ENTRIES:
                if self._seen == MAX_ENTRIES + 1:
                    self.notes.append(f"There are more than {MAX_ENTRIES:,} files; the rest was left out.")
                return
            path = inside / entry.name
            if entry.name in IGNORED:
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name.endswith(SUFFIX):
                    self.leave_out(path, "it is a folder")
                elif len(path.parts) >= MAX_DEPTH:
                    self.leave_out(path, "it lies too deep")
                else:
                    yield from self.walk(Path(entry.path), path)
            else:
                yield path, entry

    def take(self, path: PurePosixPath, entry: os.DirEntry[str]) -> None:
        """Read one file, or say why not."""
        name = path.name.removesuffix(SUFFIX)
        wanted = len(path.parts) == 1 and path.name.endswith(SUFFIX) and name in self._asked_for
        if path.name.endswith(SUFFIX) and not wanted:
            self.leave_out(path, "the assignment has no such notebook")
            return
        data = self._read(path, entry)
        if wanted:
            if data is not None:
                self.notebooks[name] = data
            elif (
                entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size > MAX_FILE
            ):
                self.notebooks[name] = None
        elif data is not None:
            if len(data) > self._room or len(self.files) >= MAX_FILES:
                self.leave_out(path, "there is too much beside the notebooks")
                return
            self._room -= len(data)
            self.files[str(path)] = data

    def _read(self, path: PurePosixPath, entry: os.DirEntry[str]) -> bytes | None:
        if entry.is_symlink():
            return self.leave_out(path, "it is a link")
        try:
            found = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                return self.leave_out(path, "it is no regular file")
            # Not blocking, and no link: somebody may replace the file between the look and the reading.
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    return self.leave_out(path, "it is no regular file")
                if found.st_nlink > 1:
                    return self.leave_out(path, "it is a hard link to another file")
                if found.st_size > MAX_FILE:
                    return self.leave_out(path, f"it has {found.st_size / 1e6:.0f} MB")
                return file.read(MAX_FILE + 1)[:MAX_FILE]
        except OSError as error:
            return self.leave_out(path, f"it cannot be read ({error.strerror})")

    def leave_out(self, path: PurePosixPath, why: str) -> bytes | None:
        """Note that something was not taken."""
        named = str(path).encode("utf-8", "backslashreplace").decode()[:120]
        self.notes.append(f"{named!r} was left out: {why}.")
        return None
