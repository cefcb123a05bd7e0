"""The other end of an HTTP/2 connection, frame by frame: it says anything, right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.events import Event, Field
from hostmesh.wire.http2.frames import frame
from hostmesh.wire.http2.headers import TABLE_SIZE_ZERO, encode
from hostmesh.wire.http2.limits import Limits, Role

CONNECT: Sequence[Field] = ((b":method", b"CONNECT"), (b":authority", b"10.0.0.7:8080"))
OK: Sequence[Field] = ((b":status", b"200"),)

CONNECT_BLOCK = encode(CONNECT)
OK_BLOCK = encode(OK)


class Frame(NamedTuple):
    """A frame as it went over the wire."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def parse(data: bytes) -> list[Frame]:
    """Whole frames; fails on a rest."""
    found = []
    while data:
        high, low, kind, flags, stream = frames.HEADER.unpack_from(data)
        size = high << 8 | low
        payload = data[9 : 9 + size]
        assert len(payload) == size, "a truncated frame"
        found.append(Frame(kind, flags, stream, payload))
        data = data[9 + size :]
    return found


def settings(*entries: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(setting.to_bytes(2, "big") + value.to_bytes(4, "big") for setting, value in entries)
    return frame(frames.SETTINGS, 0, 0, payload)


def headers(stream: int, block: bytes = CONNECT_BLOCK, flags: int = frames.END_HEADERS) -> bytes:
    """A HEADERS frame, by default a whole CONNECT. Always reduces the header table, as the first block must."""
    return frame(frames.HEADERS, flags, stream, TABLE_SIZE_ZERO + block)


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """A DATA frame."""
    return frame(frames.DATA, flags, stream, payload)


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    """A PING frame."""
    return frame(frames.PING, flags, 0, payload)


SETTINGS_ACK = frame(frames.SETTINGS, frames.ACK, 0, b"")


class Wire:
    """A connection under test and what it said; greeted (preface, SETTINGS both ways) unless told otherwise."""

    def __init__(self, role: Role, limits: Limits | None = None, *, greet: bool = True) -> None:
        self.connection = Http2Connection(role, limits)
        if greet:
            preface = frames.PREFACE if role is Role.SERVER else b""
            self.feed(preface + settings() + SETTINGS_ACK)
            self.sent()

    def feed(self, *parts: bytes) -> list[Event]:
        """Receive the frames in one piece."""
        return self.connection.receive(memoryview(b"".join(parts)))

    def raw(self) -> bytes:
        """What was said since the last time."""
        said = bytes(self.connection.take())
        self.connection.sent(len(said))
        return said

    def sent(self) -> list[Frame]:
        """The same as frames, the preface taken for granted."""
        return parse(self.raw().removeprefix(frames.PREFACE))

    def fails(self, *parts: bytes) -> ErrorCode:
        """The code of the error that the frames cause; also checks that GOAWAY says so."""
        with pytest.raises(Http2Error) as caught:
            self.feed(*parts)
        last = self.sent()[-1]
        assert last.kind == frames.GOAWAY
        assert int.from_bytes(last.payload[4:8], "big") == caught.value.code
        assert self.connection.closed
        return caught.value.code


def server(limits: Limits | None = None, *, streams: int = 0) -> Wire:
    """A greeted server, with this many CONNECT streams accepted (1, 3, ...)."""
    wire = Wire(Role.SERVER, limits)
    for number in range(1, 2 * streams, 2):
        wire.feed(headers(number))
        wire.connection.send_headers(number, OK_BLOCK)
    wire.sent()
    return wire


def client(limits: Limits | None = None, *, streams: int = 0) -> Wire:
    """A greeted client, with this many CONNECT streams answered by 200."""
    wire = Wire(Role.CLIENT, limits)
    for _ in range(streams):
        wire.feed(headers(wire.connection.open_stream(CONNECT_BLOCK), OK_BLOCK))
    wire.sent()
    return wire
