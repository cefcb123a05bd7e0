"""One HTTP/2 connection for CONNECT tunnels, either end, sans I/O (RFC 9113).

Bytes from the peer go into `receive()`, which returns events; whatever must leave is in `take()`. The connection
owns the output buffer: `reserve()` gives a place in it for application bytes, already inside both windows and the
peer's frame size, and `commit()` writes the frame header in front of them.

Calls that name a stream which is gone do nothing (`reserve()` comes back empty), because a reset may be reported
after the owner has decided to write.
"""

from __future__ import annotations

from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.events import Event
from hostmesh.wire.http2.limits import Limits, Role


class Http2Connection:
    """The state of one connection; no sockets, no clock."""

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        """Queues the preface (client), SETTINGS and the connection's WINDOW_UPDATE. `limits` None: the role's defaults."""

    def receive(self, data: memoryview) -> list[Event]:
        """Take plaintext from the peer. After an error everything further is ignored.

        Raises:
            Http2Error: the peer broke the protocol or a limit; GOAWAY is queued.
        """
        raise NotImplementedError

    # Opening and answering.
    def open_stream(self, block: bytes, end: bool = False) -> int:
        """Client: send a request's header block and return the new stream's id.

        Raises:
            StreamLimit: `can_open` is False.
        """
        raise NotImplementedError

    def send_headers(self, stream: int, block: bytes, end: bool = False) -> None:
        """Server: send a response's header block."""
        raise NotImplementedError

    # Data.
    def reserve(self, stream: int, want: int) -> memoryview:
        """A writable place for at most `want` bytes of one DATA frame; empty when blocked.

        Valid until any other call on this connection; an unused reservation needs no undoing. When blocked by a window a
        `WindowOpened` will follow; when blocked by the output buffer, try again after `sent()`.
        """
        raise NotImplementedError

    def reserve_slots(self, stream: int, want: int) -> list[memoryview]:
        """As `reserve()`, but several frames' places, in order, for scattered reads (peers with 16 KiB frames)."""
        raise NotImplementedError

    def commit(self, stream: int, n: int, end: bool = False) -> None:
        """Send the first `n` bytes of what was just reserved, `end` with END_STREAM."""
        raise NotImplementedError

    def send_data(self, stream: int, data: bytes | bytearray | memoryview, end: bool = False) -> int:
        """Copy in what fits now and return how much; `end` applies when all of it fitted."""
        raise NotImplementedError

    def end_stream(self, stream: int) -> None:
        """Half-close: an empty DATA frame with END_STREAM. Needs no window."""
        raise NotImplementedError

    def reset_stream(self, stream: int, code: ErrorCode) -> None:
        """Abandon the stream; undelivered bytes are credited to the connection. No event follows."""
        raise NotImplementedError

    def credit(self, stream: int, n: int) -> None:
        """The application took `n` bytes of the stream's `Data`; also after the stream has ended."""
        raise NotImplementedError

    # Connection.
    def ping(self, payload: bytes) -> None:
        """Send PING (8 bytes) and forgive the floods counted so far."""
        raise NotImplementedError

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, last_stream: int | None = None) -> None:
        """Take no streams above `last_stream`; None: above the highest seen; 2**31-1 announces only."""
        raise NotImplementedError

    # Output.
    def take(self) -> memoryview:
        """Everything that must leave now; valid until any other call."""
        raise NotImplementedError

    def sent(self, n: int) -> None:
        """The first `n` bytes of `take()` were handed on."""
        raise NotImplementedError

    streams_open: int
    """Streams that are not closed in both directions."""
    remote_max_streams: int
    """How many streams the peer lets us have open; 2**31-1 until it says."""
    can_open: bool
    """Client: `open_stream` will succeed now."""
    spent: bool
    """No stream can ever be opened again: GOAWAY either way, ids used up, or failed."""
    goaway_received: bool
    goaway_sent: bool
    closed: bool
    """Failed, or shut down with no stream left: flush `take()` and close."""
    pending_output: int
    """Bytes in `take()`."""
