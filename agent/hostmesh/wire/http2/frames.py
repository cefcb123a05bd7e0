"""Layout of frames and the small ones built whole (RFC 9113 §4.1, §6)."""

from __future__ import annotations

from struct import Struct
from typing import Final

HEADER_SIZE: Final = 9
HEADER: Final = Struct(">HBBBL")
"""Length as its upper 16 and lower 8 bits, type, flags, reserved bit and stream id."""
HEADER_WORD: Final = Struct(">L")

STREAM_MASK: Final = 0x7FFF_FFFF
MAX_STREAM: Final = 0x7FFF_FFFF
MAX_WINDOW: Final = 0x7FFF_FFFF
MIN_MAX_FRAME_SIZE: Final = 16384
MAX_MAX_FRAME_SIZE: Final = (1 << 24) - 1
DEFAULT_WINDOW: Final = 65535

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

_WORD_FRAME = Struct(">HBBBLL")
_GOAWAY_FRAME = Struct(">HBBBLLL")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame; `payload` below 16 MiB."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def window_update(stream: int, increment: int) -> bytes:
    """RFC 9113 §6.9; 13 bytes."""
    return _WORD_FRAME.pack(0, 4, WINDOW_UPDATE, 0, stream, increment)


def rst_stream(stream: int, code: int) -> bytes:
    """RFC 9113 §6.4; 13 bytes."""
    return _WORD_FRAME.pack(0, 4, RST_STREAM, 0, stream, code)


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """RFC 9113 §6.8."""
    size = 8 + len(debug)
    return _GOAWAY_FRAME.pack(size >> 8, size & 0xFF, GOAWAY, 0, 0, last_stream, code) + debug
