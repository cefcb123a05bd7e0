"""One HTTP/2 connection for CONNECT tunnels, either end, sans I/O (RFC 9113).

Bytes from the peer go into `receive()`, which returns events; whatever must leave is in `take()`. The connection
owns the output buffer: `reserve()` gives a place in it for application bytes, already inside both windows and the
peer's frame size, and `commit()` writes the frame header in front of them.

Calls that name a stream which is gone do nothing (`reserve()` comes back empty), because a reset may be reported
after the owner has decided to write. Any call may raise `Http2Error` when the peer lets even the room for control
frames fill up.
"""

from __future__ import annotations

from typing import Final

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.errors import ErrorCode, Http2Error, StreamLimit
from hostmesh.wire.http2.events import Event
from hostmesh.wire.http2.frames import HEADER_SIZE
from hostmesh.wire.http2.headers import TABLE_SIZE_ZERO
from hostmesh.wire.http2.limits import CLIENT_LIMITS, MAX_SLOTS, SERVER_LIMITS, Limits, Role
from hostmesh.wire.http2.output import EMPTY
from hostmesh.wire.http2.receiver import Receiver
from hostmesh.wire.http2.settings import PeerSettings, advertisement
from hostmesh.wire.http2.state import ConnectionState

_pack_header: Final = frames.HEADER.pack_into


class Http2Connection:
    """The state of one connection; no sockets, no clock."""

    __slots__ = (
        "_flow",
        "_out",
        "_peer",
        "_receiver",
        "_reduced",
        "_reserved",
        "_slot",
        "_state",
        "_streams",
        "_where",
    )

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        """Queue the preface (client), SETTINGS and the connection's WINDOW_UPDATE; `limits` None: the role's."""
        if limits is None:
            limits = SERVER_LIMITS if role is Role.SERVER else CLIENT_LIMITS
        state = ConnectionState(role, limits)
        self._state = state
        self._receiver = Receiver(state)
        self._streams = state.streams
        self._flow = state.flow
        self._out = state.out
        self._peer = state.peer
        self._reduced = False
        # The last reservation: where its first header goes, payload bytes in all, and per frame.
        self._where = -1
        self._reserved = 0
        self._slot = 0
        hello = b"" if state.server else frames.PREFACE
        hello += frames.frame(frames.SETTINGS, 0, 0, advertisement(role, limits))
        if state.flow.receive > frames.DEFAULT_WINDOW:
            hello += frames.window_update(0, state.flow.receive - frames.DEFAULT_WINDOW)
        state.out.write(hello)

    def receive(self, data: memoryview) -> list[Event]:
        """Take plaintext from the peer. After an error everything further is ignored.

        Raises:
            Http2Error: the peer broke the protocol or a limit; GOAWAY is queued, every stream is gone.
        """
        events: list[Event] = []
        if not self._state.failed:
            try:
                self._receiver.receive(data, events)
            except Http2Error as error:
                self._fail(error)
                raise
        return events

    def open_stream(self, block: bytes, end: bool = False) -> int:
        """Client: send a request's header block and return the new stream's id.

        Raises:
            StreamLimit: `can_open` is False.
        """
        if not self.can_open:
            raise StreamLimit(f"{len(self._streams)} streams are open, {self.remote_max_streams} permitted")
        state = self._state
        number = state.next_stream
        state.next_stream = number + 2
        stream = state.new_stream(number)
        self._send_block(number, block, end)
        stream.local_ended = end
        return number

    def send_headers(self, stream: int, block: bytes, end: bool = False) -> None:
        """Server: send a response's header block."""
        entry = self._streams.get(stream)
        if entry is None:
            return
        state = self._state
        self._send_block(stream, block, end)
        if not entry.answered:
            entry.answered = True
            if state.rapid_resets:
                state.rapid_resets -= 1
        if end:
            state.end_local(entry)

    def reserve(self, stream: int, want: int) -> memoryview:
        """A writable place for at most `want` bytes of one DATA frame; empty when blocked.

        Valid until any other call on this connection; an unused reservation needs no undoing. When blocked by a window
        a `WindowOpened` will follow; when blocked by the output buffer, try again after `sent()`.
        """
        room = self._sendable(stream, want)
        if room > 0:
            room = self._out.room(min(room, self._peer.max_frame_size) + HEADER_SIZE) - HEADER_SIZE
        if room <= 0:
            self._where = -1
            return EMPTY
        self._reserved = self._slot = room
        out = self._out
        self._where = where = out.end
        start = where + HEADER_SIZE
        return out.view[start : start + room]

    def reserve_slots(self, stream: int, want: int) -> list[memoryview]:
        """As `reserve()`, but the places of several frames, in order, for scattered reads (peers with small frames)."""
        self._where = -1
        room = self._sendable(stream, want)
        if room <= 0:
            return []
        out = self._out
        slot = self._peer.max_frame_size
        count = min(-(-room // slot), MAX_SLOTS)
        total = out.room(room + count * HEADER_SIZE)
        where = out.end
        slots: list[memoryview] = []
        reserved = 0
        while reserved < room and len(slots) < MAX_SLOTS:
            size = min(slot, room - reserved, total - HEADER_SIZE)
            if size <= 0:
                break
            start = where + reserved + (len(slots) + 1) * HEADER_SIZE
            slots.append(out.view[start : start + size])
            reserved += size
            total -= size + HEADER_SIZE
        if slots:
            self._where = where
            self._reserved = reserved
            self._slot = slot
        return slots

    def _sendable(self, number: int, want: int) -> int:
        stream = self._streams.get(number)
        if stream is None or stream.local_ended:
            return 0
        if stream.send <= 0:
            stream.blocked = True
            return 0
        window = self._flow.send
        if window <= 0:
            self._state.blocked = True
            return 0
        room = min(stream.send, window)
        return min(want, room)

    def commit(self, stream: int, n: int, end: bool = False) -> None:
        """Send the first `n` bytes of what was just reserved, `end` with END_STREAM.

        Raises:
            ValueError: more than was reserved, or another call came between.
        """
        entry = self._streams.get(stream)
        if entry is None:
            return
        if not n:
            if end:
                self.end_stream(stream)
            return
        out = self._out
        where = self._where
        if where != out.end or n > self._reserved:
            raise ValueError(f"{n} bytes committed without a reservation for them")
        self._where = -1
        entry.send -= n
        self._flow.send -= n
        view = out.view
        slot = self._slot
        left = n
        while left > slot:
            _pack_header(view, where, slot >> 8, slot & 0xFF, frames.DATA, 0, stream)
            where += HEADER_SIZE + slot
            left -= slot
        _pack_header(view, where, left >> 8, left & 0xFF, frames.DATA, frames.END_STREAM if end else 0, stream)
        out.end = where + HEADER_SIZE + left
        if end:
            self._state.end_local(entry)

    def send_data(self, stream: int, data: bytes | bytearray | memoryview, end: bool = False) -> int:
        """Copy in what fits now and return how much; `end` applies when all of it fitted."""
        size = len(data)
        taken = 0
        with memoryview(data) as source:
            while taken < size:
                place = self.reserve(stream, size - taken)
                n = len(place)
                if not n:
                    return taken
                place[:] = source[taken : taken + n]
                taken += n
                self.commit(stream, n, end and taken == size)
        if not size and end:
            self.end_stream(stream)
        return taken

    def end_stream(self, stream: int) -> None:
        """Half-close: an empty DATA frame with END_STREAM. Needs no window."""
        entry = self._streams.get(stream)
        if entry is not None and not entry.local_ended:
            self._out.write_frame(frames.DATA, frames.END_STREAM, stream, b"")
            self._state.end_local(entry)

    def reset_stream(self, stream: int, code: ErrorCode) -> None:
        """Abandon the stream; undelivered bytes are credited to the connection. No event follows."""
        state = self._state
        entry = self._streams.get(stream)
        if entry is not None:
            state.refuse(stream, code)
            state.drop(entry)
        elif stream in state.unfinished:
            state.credit_connection(state.unfinished.pop(stream))

    def unread(self, stream: int) -> int:
        """Bytes of an open stream's `Data` that have come and were not credited yet."""
        entry = self._streams.get(stream)
        return entry.unread if entry is not None else 0

    def credit(self, stream: int, n: int) -> None:
        """The application took `n` bytes of the stream's `Data`; also after the stream has ended.

        Raises:
            ValueError: more than were delivered.
        """
        entry = self._streams.get(stream)
        if entry is None:
            self._credit_ended(stream, n)
            return
        if n > entry.unread:
            raise ValueError(f"{n} bytes credited of {entry.unread}")
        entry.unread -= n
        self._state.credit_connection(n)
        self._state.credit_stream(entry, n)

    def _credit_ended(self, stream: int, n: int) -> None:
        state = self._state
        unread = state.unfinished.get(stream)
        if unread is None:
            return
        if n > unread:
            raise ValueError(f"{n} bytes credited of {unread}")
        state.credit_connection(n)
        if n < unread:
            state.unfinished[stream] = unread - n
        else:
            del state.unfinished[stream]

    def ping(self, payload: bytes) -> None:
        """Send PING (8 bytes), forgive the floods counted so far, return memory that a burst has used.

        Meant to be called every few seconds: it is the only clock the connection has.
        """
        if len(payload) != 8:
            raise ValueError("a PING carries 8 bytes")
        self._receiver.control.forgive()
        self._out.release()
        self._out.write_frame(frames.PING, 0, 0, payload)

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, last_stream: int | None = None) -> None:
        """Take no streams above `last_stream`; None: above the highest seen; 2**31-1 announces only. Never raises."""
        state = self._state
        if state.failed:
            return
        last = state.highest_peer_stream if last_stream is None else last_stream
        state.last_accepted = min(state.last_accepted, last)
        state.goaway_sent = True
        self._out.write_last(frames.goaway(state.last_accepted, code))

    def take(self) -> memoryview:
        """Everything that must leave now; valid until any other call."""
        return self._out.pending()

    def sent(self, n: int) -> None:
        """The first `n` bytes of `take()` were handed on."""
        self._out.sent(n)

    @property
    def role(self) -> Role:
        """Which end this is."""
        return self._state.role

    @property
    def peer_settings(self) -> PeerSettings:
        """What the peer said last."""
        return self._peer

    @property
    def streams_open(self) -> int:
        """Streams that are not closed in both directions."""
        return len(self._streams)

    @property
    def remote_max_streams(self) -> int:
        """How many streams the peer lets us have open; 2**31-1 until it says."""
        return self._peer.max_concurrent_streams

    @property
    def stalled(self) -> bool:
        """The peer takes no payload on any stream until it gives credit to the connection."""
        return self._flow.send <= 0

    @property
    def congested(self) -> bool:
        """No stream can get room before the peer gives credit to the connection, or something has been `sent()`."""
        out = self._out
        return self._flow.send <= 0 or out.end - out.start >= out.limit - HEADER_SIZE

    @property
    def can_open(self) -> bool:
        """Client: `open_stream` will succeed now."""
        state = self._state
        open_now = len(self._streams)
        return (
            open_now < state.limits.max_concurrent_streams
            and open_now < self._peer.max_concurrent_streams
            and not state.spent
            and self._out.end - self._out.start < self._out.limit
            and not state.server
        )

    @property
    def spent(self) -> bool:
        """No stream can ever be opened again: GOAWAY either way, ids used up, or failed."""
        return self._state.spent

    @property
    def goaway_received(self) -> bool:
        """The peer is leaving."""
        return self._state.goaway_received

    @property
    def goaway_sent(self) -> bool:
        """We are leaving."""
        return self._state.goaway_sent

    @property
    def closed(self) -> bool:
        """Failed, or shut down with no stream left: flush `take()` and close."""
        state = self._state
        if state.failed or self._out.full:
            return True
        announced_only = state.goaway_sent and state.last_accepted == frames.MAX_STREAM
        return (state.goaway_received or (state.goaway_sent and not announced_only)) and not self._streams

    @property
    def pending_output(self) -> int:
        """Bytes in `take()`."""
        return self._out.end - self._out.start

    def _send_block(self, number: int, block: bytes, end: bool) -> None:
        if not self._reduced:
            self._reduced = True
            block = TABLE_SIZE_ZERO + block
        flags = frames.END_STREAM if end else 0
        limit = self._peer.max_frame_size
        out = self._out
        if len(block) <= limit:
            out.write_frame(frames.HEADERS, flags | frames.END_HEADERS, number, block)
            return
        kind = frames.HEADERS
        for start in range(0, len(block), limit):
            if start + limit >= len(block):
                flags |= frames.END_HEADERS
            out.write_frame(kind, flags, number, block[start : start + limit])
            kind, flags = frames.CONTINUATION, 0

    def _fail(self, error: Http2Error) -> None:
        state = self._state
        state.failed = True
        state.streams.clear()
        state.unfinished.clear()
        self._out.write_last(frames.goaway(state.highest_peer_stream, error.code, error.reason.encode()))
