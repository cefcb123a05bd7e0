"""How much a peer may make us hold or do: advertised limits and flood bounds (RFC 9113 §6.5.2, §10.5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """Which end of the connection we are."""

    CLIENT = "client"
    SERVER = "server"


# Floods are counted between our own keepalive pings, which serve as the clock: `ping()` forgives what came before.
MAX_PINGS = 1000
"""Peers measure bandwidth with a ping per round trip; a thousand within a keepalive interval is an attack."""
MAX_SETTINGS = 100
"""Each costs an acknowledgement and a walk over the streams."""
MAX_RAPID_RESETS = 10_000
"""Streams that the peer opened and reset before we answered (CVE-2023-44487), or made us reset; an answered one
forgives one. Clients that give up on a dead application do this honestly, hundreds of times a second."""
MAX_IDLE_FRAMES = 100_000
"""Frames that carry nothing: empty DATA, PRIORITY, unknown types, anything on a stream that is gone. Some of the last
cross our own END_STREAM on the way, one or two per stream. So many cost a few percent of a keepalive interval."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes. The windows and the frame size are what we advertise and receive under.

    `max_concurrent_streams` is advertised by a server; a client opens at most that many, or fewer if the peer says
    so. `output_buffer` is how much may wait to be sent before `reserve()` comes back empty. The last four are flood
    bounds.
    """

    stream_window: int = 4 << 20
    connection_window: int = 16 << 20
    max_frame_size: int = 1 << 20
    max_concurrent_streams: int = 200
    max_header_list_size: int = 65536
    output_buffer: int = 1 << 20
    max_pings: int = MAX_PINGS
    max_settings: int = MAX_SETTINGS
    max_rapid_resets: int = MAX_RAPID_RESETS
    max_idle_frames: int = MAX_IDLE_FRAMES


CLIENT_LIMITS = Limits(max_concurrent_streams=100, max_header_list_size=16384)
SERVER_LIMITS = Limits()

CONTROL_ROOM = 512 << 10
"""Output room beyond `output_buffer` that only control and header frames may use, so that a blocked tunnel can still
answer; a peer that makes us fill it does not read what it asks for. Holds 200 streams' header blocks of 2 KiB."""

STREAM_CREDIT_STEP = 1 << 20
CONNECTION_CREDIT_STEP = 4 << 20
"""Credit goes back in steps of this size, or of a quarter of a smaller window: a WINDOW_UPDATE per MiB."""

MAX_SLOTS = 64
"""Frames that one scattered read may fill: 1 MiB in frames of 16 KiB."""

MAX_CONTINUATIONS = 64
"""Per header block; the largest block we take fits in five of the smallest permitted maximum frame size."""
MAX_SETTINGS_PAYLOAD = 1024
"""170 entries; HTTP/2 has defined ten."""
MAX_GOAWAY_PAYLOAD = 16384
"""Debug data is not kept; no peer sends this much."""
MAX_REMEMBERED_RESETS = 1024
"""Streams that we reset and whose late frames are therefore no error; older ones are forgotten."""
