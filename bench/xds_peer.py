"""A simulated agent's side of the delta stream: gRPC over HTTP/2 and TLS, cut down to what costs the machine least.

Its settings are an agent's (windows of 4 MiB, frames of 16 KiB). A thousand whole agents would need a machine each:
this one reads messages to the end and hands them on, and leaves decoding to who needs it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import hpack
from google.protobuf.message import Message

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = END_STREAM = 0x1
_END_HEADERS = 0x4
_WINDOW = 4 << 20
_INITIAL_WINDOW_SIZE = 4
_DEFAULT_WINDOW = 65535
_PATH = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class XdsPeer(asyncio.Protocol):
    """One connection with one stream.

    Args:
        on_message: takes each serialized response.
        on_end: told why the stream or the connection ended.
    """

    def __init__(self, on_message: Callable[[XdsPeer, bytes], None], on_end: Callable[[str], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._input = bytearray()
        self._message = bytearray()
        self._unacknowledged = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the stream."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        headers = hpack.Encoder().encode(
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":path", _PATH),
                (":authority", "control-plane"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
            ]
        )
        transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _WINDOW))
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW - _DEFAULT_WINDOW))
            + _frame(_HEADERS, _END_HEADERS, 1, headers)
        )

    def send(self, message: Message) -> None:
        """Send one gRPC message; they are small, so flow control is not kept."""
        assert self._transport is not None
        body = message.SerializeToString()
        self._transport.write(_frame(_DATA, 0, 1, struct.pack(">?I", False, len(body)) + body))

    def close(self) -> None:
        """Go away at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Whole frames are taken, the rest waits."""
        held, position = self._input, 0
        held += data
        while len(held) - position >= 9:
            length = int.from_bytes(held[position : position + 3], "big")
            end = position + 9 + length
            if len(held) < end:
                break
            self._frame(held[position + 3], held[position + 4], memoryview(held)[position + 9 : end])
            position = end
        del held[:position]

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody has to know."""
        self._on_end(str(exc or "the connection was closed"))

    def _frame(self, kind: int, flags: int, payload: memoryview) -> None:
        assert self._transport is not None
        if kind == _DATA:
            self._message += payload
            self._grant(len(payload))
            payload.release()
            self._take_messages()
            return
        if kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, bytes(payload)))
        elif kind in (_RST_STREAM, _GOAWAY) or (kind == _HEADERS and flags & END_STREAM):
            self._on_end(f"the control plane ended the stream (frame type {kind})")
        payload.release()

    def _grant(self, size: int) -> None:
        """Give back half a window at a time, as agents do."""
        assert self._transport is not None
        self._unacknowledged += size
        if self._unacknowledged >= _WINDOW // 2:
            grant = struct.pack(">I", self._unacknowledged)
            self._transport.write(_frame(_WINDOW_UPDATE, 0, 0, grant) + _frame(_WINDOW_UPDATE, 0, 1, grant))
            self._unacknowledged = 0

    def _take_messages(self) -> None:
        while len(self._message) >= 5:
            end = 5 + int.from_bytes(self._message[1:5], "big")
            if len(self._message) < end:
                return
            message = bytes(memoryview(self._message)[5:end])
            del self._message[:end]
            self._on_message(self, message)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
