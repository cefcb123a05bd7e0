"""Netlink messages and the socket that carries them (linux/netlink.h, netlink(7)). Everything here blocks, briefly."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

REQUEST, ACK = 0x1, 0x4
DUMP = 0x300
EXCLUSIVE, CREATE = 0x200, 0x400
"""Flags of requests."""

ANSWER_TIMEOUT = 5.0
"""Seconds; the kernel answers in microseconds, unless somebody holds its locks."""

MAX_INTERRUPTED = 16
"""Dumps in a row that somebody else's changes may spoil before that is an error."""

_SOL_NETLINK, _GET_STRICT_CHECK = 270, 12
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_NESTED = 0x8000
_TYPE = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_LARGEST = 1 << 16


class NetlinkRefused(OSError):
    """The kernel's answer is an error; `errno` says which."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `body` begins behind the header."""

    kind: int
    flags: int
    sequence: int
    body: bytes

    def encode(self) -> bytes:
        """As bytes, with the padding behind it."""
        length = _HEADER.size + len(self.body)
        return _HEADER.pack(length, self.kind, self.flags, self.sequence, 0) + _padded(self.body)


def decode(data: bytes) -> Iterator[Message]:
    """The messages of a datagram; a short or damaged one ends it."""
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield Message(kind, flags, sequence, data[_HEADER.size : length])
        data = data[length + 3 & ~3 :]


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + _padded(payload)


def text(kind: int, value: str) -> bytes:
    """A string, which ends with a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A 32-bit number in the host's byte order."""
    return attribute(kind, struct.pack("=I", value))


def nested(kind: int, *inner: bytes) -> bytes:
    """Attributes within one."""
    return attribute(kind | _NESTED, b"".join(inner))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each; a short or damaged one ends them."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind & _TYPE, data[_ATTRIBUTE.size : length]
        data = data[length + 3 & ~3 :]


class Netlink:
    """A socket to one family of the kernel's, in the network namespace of the caller.

    Args:
        family: NETLINK_ROUTE or NETLINK_NETFILTER.
    """

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.settimeout(ANSWER_TIMEOUT)
        with suppress(OSError):  # before Linux 4.20 there is none, and a dump has more than was asked for
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHECK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all messages of a dump that nobody's change has spoilt.

        Raises:
            NetlinkRefused: the kernel's answer is an error.
            TimeoutError: it does not answer.
        """
        for _ in range(MAX_INTERRUPTED):
            self._sequence += 1
            self._socket.send(Message(kind, REQUEST | DUMP, self._sequence, body).encode())
            found, interrupted = self._dumped()
            if not interrupted:
                return found
        raise NetlinkRefused(errno.EINTR, "what is read changes all the time")

    def change(self, requests: Sequence[Message]) -> None:
        """Send requests as one datagram, and wait for the answer to each that asks for one.

        Raises:
            NetlinkRefused: the first error.
            TimeoutError: not all were answered.
        """
        first = self._sequence + 1
        self._sequence += len(requests)
        numbered = [
            Message(one.kind, one.flags | REQUEST, first + place, one.body) for place, one in enumerate(requests)
        ]
        self._socket.send(b"".join(one.encode() for one in numbered))
        waiting = {one.sequence for one in numbered if one.flags & ACK}
        while waiting:
            for sequence, code in answers(self._socket.recv(_LARGEST)):
                if code and sequence >= first:
                    raise NetlinkRefused(-code, os.strerror(-code))
                waiting.discard(sequence)

    def _dumped(self) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        interrupted = False
        while True:
            for one in decode(self._socket.recv(_LARGEST)):
                if one.sequence != self._sequence:
                    continue
                interrupted |= bool(one.flags & _DUMP_INTERRUPTED)
                if one.kind in (_ERROR, _DONE):
                    code = _code(one.body)
                    if code:
                        raise NetlinkRefused(-code, os.strerror(-code))
                    return found, interrupted
                found.append(one.body)


def answers(data: bytes) -> Iterator[tuple[int, int]]:
    """Sequence number and (negative) error code of each NLMSG_ERROR; code 0 is an acknowledgement."""
    for one in decode(data):
        if one.kind == _ERROR and len(one.body) >= _CODE.size:
            yield one.sequence, _code(one.body)


def _code(body: bytes) -> int:
    return int(_CODE.unpack_from(body)[0]) if len(body) >= _CODE.size else 0


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
