"""Frames between main and a proxy worker: a 4-byte big-endian length, then one message of worker.proto. Sans I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from google.protobuf.message import Message

LENGTH = struct.Struct("!I")

MAX_TO_WORKER = 256 << 20
"""Main sends whole snapshots: 100,000 workloads are about 40 MB."""

MAX_FROM_WORKER = 16 << 20
"""A worker is less trusted than main, and its largest message is a report of its open connections."""


class FrameTooLarge(ValueError):
    """The other side announced a frame above the limit; the link cannot be resynchronised."""


def frame(message: Message) -> bytes:
    """The message as it goes over the socket pair."""
    body = message.SerializeToString()
    return LENGTH.pack(len(body)) + body


class FrameReader:
    """Collects bytes and yields the bodies of whole frames."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """The beginning of a frame whose end has not come yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield every frame that `data` completes.

        Raises:
            FrameTooLarge: a length above the limit.
        """
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > self._limit:
                raise FrameTooLarge(f"a frame of {length} bytes, at most {self._limit} are taken")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield body
