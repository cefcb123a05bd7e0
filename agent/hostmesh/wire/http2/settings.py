"""SETTINGS: what we advertise and what a peer may say (RFC 9113 §6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.frames import (
    DEFAULT_WINDOW,
    MAX_MAX_FRAME_SIZE,
    MAX_STREAM,
    MAX_WINDOW,
    MIN_MAX_FRAME_SIZE,
)
from hostmesh.wire.http2.limits import Limits, Role

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

_ENTRY = Struct(">HL")


@dataclass(slots=True)
class PeerSettings:
    """What the peer has said last, or the protocol's defaults. Header blocks are sent stateless whatever it allows."""

    max_concurrent_streams: int = MAX_STREAM
    initial_window: int = DEFAULT_WINDOW
    max_frame_size: int = MIN_MAX_FRAME_SIZE
    max_header_list_size: int = MAX_WINDOW

    def apply(self, payload: bytes, role: Role) -> None:
        """Take a SETTINGS payload from the peer of a connection whose our end is `role`; unknown settings are ignored.

        Raises:
            Http2Error: a length that is no multiple of 6, or a value out of range.
        """
        if len(payload) % _ENTRY.size:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes is no multiple of 6")
        for setting, value in _ENTRY.iter_unpack(payload):
            self._set(setting, value, role)

    def _set(self, setting: int, value: int, role: Role) -> None:
        if setting == ENABLE_PUSH:
            if value > 1 or (value and role is Role.CLIENT):
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH {value} from a {_peer(role)}")
        elif setting == MAX_CONCURRENT_STREAMS:
            self.max_concurrent_streams = min(value, MAX_STREAM)
        elif setting == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value} above 2^31-1")
            self.initial_window = value
        elif setting == MAX_FRAME_SIZE:
            if not MIN_MAX_FRAME_SIZE <= value <= MAX_MAX_FRAME_SIZE:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value} not in 2^14..2^24-1")
            self.max_frame_size = value
        elif setting == MAX_HEADER_LIST_SIZE:
            self.max_header_list_size = value


def advertisement(role: Role, limits: Limits) -> bytes:
    """The payload of our SETTINGS, in the order of the ids.

    HEADER_TABLE_SIZE 0 makes the peer's header blocks stateless once it has acknowledged.
    """
    entries = {
        HEADER_TABLE_SIZE: 0,
        INITIAL_WINDOW_SIZE: limits.stream_window,
        MAX_FRAME_SIZE: limits.max_frame_size,
        MAX_HEADER_LIST_SIZE: limits.max_header_list_size,
    }
    if role is Role.CLIENT:
        entries[ENABLE_PUSH] = 0
    else:
        entries[MAX_CONCURRENT_STREAMS] = limits.max_concurrent_streams
    return b"".join(_ENTRY.pack(setting, entries[setting]) for setting in sorted(entries))


def _peer(role: Role) -> str:
    return "server" if role is Role.CLIENT else "client"
