"""Messages between the process that grades and the process in which a notebook runs: length-prefixed parts."""

from __future__ import annotations

import struct
from typing import Protocol

MAX_MESSAGE = 600_000_000
MAX_PARTS = 4


class Reader(Protocol):
    """Where a message is read from."""

    def read(self, size: int, /) -> bytes: ...


class Writer(Protocol):
    """Where a message is written to."""

    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


class Broken(Exception):
    """The other side is gone, or (``by_choice``) does not keep to the format."""

    def __init__(self, message: str, by_choice: bool = False) -> None:
        super().__init__(message)
        self.by_choice = by_choice


def send(stream: Writer, *parts: bytes) -> None:
    """Write one message."""
    lengths = [struct.pack(">B", len(parts)), *(struct.pack(">Q", len(part)) for part in parts)]
    stream.write(b"".join(lengths) + b"".join(parts))
    stream.flush()


def receive(stream: Reader, most: int = MAX_MESSAGE) -> list[bytes]:
    """Read one message of at most ``most`` bytes.

    Raises:
        Broken: the stream ended, or a length is out of bounds.
    """
    (count,) = struct.unpack(">B", _exactly(stream, 1))
    if count > MAX_PARTS:
        raise Broken(f"a message of {count} parts", by_choice=True)
    sizes = struct.unpack(f">{count}Q", _exactly(stream, 8 * count))
    if sum(sizes) > most:
        raise Broken(f"a message of {sum(sizes)} bytes", by_choice=True)
    return [_exactly(stream, size) for size in sizes]


def _exactly(stream: Reader, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise Broken("the stream ended")
        data += more
    return bytes(data)
