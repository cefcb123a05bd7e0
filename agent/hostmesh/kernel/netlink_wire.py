"""Netlink messages as bytes: a header and a body with attributes, each padded to four bytes (netlink(7))."""

from __future__ import annotations

import struct
from collections.abc import Iterator

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
"""Flags of a message."""

ERROR = 2
"""Kind of an answer that carries an error number below zero, or 0: the acknowledgement."""

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
ERROR_NUMBER = struct.Struct("=i")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """One request; `flags` beside REQUEST."""
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    whole = ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value
    return whole.ljust(_padded(len(whole)), b"\0")


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each message of one packet."""
    while len(data) >= HEADER.size:
        length, kind, *_ = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : length]
        data = data[max(_padded(length), HEADER.size) :]


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each attribute of a body."""
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        yield kind, data[ATTRIBUTE.size : length]
        data = data[max(_padded(length), ATTRIBUTE.size) :]


def errors(data: bytes) -> Iterator[int]:
    """The error numbers, 0 or below, of the messages of one packet that have one."""
    return (ERROR_NUMBER.unpack_from(body)[0] for kind, body in messages(data) if kind == ERROR)


def _padded(length: int) -> int:
    return length + 3 & ~3
