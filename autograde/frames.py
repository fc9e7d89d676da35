"""Messages between the process that grades and the process in which a notebook runs: length-prefixed parts."""

from __future__ import annotations

import struct
from typing import Protocol

MAX_PART = 600_000_000
MAX_PARTS = 4


class Reader(Protocol):
    """Where a message is read from."""

    def read(self, size: int, /) -> bytes: ...


class Writer(Protocol):
    """Where a message is written to."""

    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


class Broken(Exception):
    """The other side is gone, or does not keep to the format."""


def send(stream: Writer, *parts: bytes) -> None:
    """Write one message."""
    stream.write(struct.pack(">B", len(parts)))
    for part in parts:
        stream.write(struct.pack(">Q", len(part)))
        stream.write(part)
    stream.flush()


def receive(stream: Reader) -> list[bytes]:
    """Read one message.

    Raises:
        Broken: the stream ended, or a length is out of bounds.
    """
    (count,) = struct.unpack(">B", _exactly(stream, 1))
    if count > MAX_PARTS:
        raise Broken(f"a message of {count} parts")
    parts = []
    for _ in range(count):
        (size,) = struct.unpack(">Q", _exactly(stream, 8))
        if size > MAX_PART:
            raise Broken(f"a part of {size} bytes")
        parts.append(_exactly(stream, size))
    return parts


def _exactly(stream: Reader, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise Broken("the stream ended")
        data += more
    return bytes(data)
