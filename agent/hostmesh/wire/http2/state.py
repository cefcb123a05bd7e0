"""What the two halves of a connection share: streams, windows, output and how things end (RFC 9113 §5)."""

from __future__ import annotations

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.errors import ErrorCode, Http2Error, StreamError
from hostmesh.wire.http2.events import Event, Reset
from hostmesh.wire.http2.flow import Flow, Stream
from hostmesh.wire.http2.limits import (
    CONNECTION_CREDIT_STEP,
    MAX_REMEMBERED_RESETS,
    STREAM_CREDIT_STEP,
    Limits,
    Role,
)
from hostmesh.wire.http2.output import OutputBuffer
from hostmesh.wire.http2.settings import PeerSettings


class ConnectionState:
    """Streams in `streams` are those not closed both ways; `unfinished` holds the unread bytes of those that ended."""

    __slots__ = (
        "acknowledged",
        "blocked",
        "failed",
        "flow",
        "goaway_received",
        "goaway_sent",
        "highest_peer_stream",
        "initial_receive",
        "last_accepted",
        "last_processed",
        "limits",
        "next_stream",
        "out",
        "peer",
        "rapid_resets",
        "remembered",
        "role",
        "server",
        "stream_step",
        "streams",
        "unfinished",
    )

    def __init__(self, role: Role, limits: Limits) -> None:
        self.role = role
        self.server = role is Role.SERVER
        self.limits = limits
        self.out = OutputBuffer(limits.output_buffer)
        self.peer = PeerSettings()
        self.streams: dict[int, Stream] = {}
        self.unfinished: dict[int, int] = {}
        self.remembered: dict[int, None] = {}
        # Until the peer has acknowledged a smaller initial window it may use the default one.
        self.initial_receive = max(limits.stream_window, frames.DEFAULT_WINDOW)
        self.stream_step = min(STREAM_CREDIT_STEP, max(limits.stream_window >> 2, 1))
        window = max(limits.connection_window, frames.DEFAULT_WINDOW)
        self.flow = Flow(frames.DEFAULT_WINDOW, window, min(CONNECTION_CREDIT_STEP, window >> 2))
        self.next_stream = 1
        self.highest_peer_stream = 0
        self.last_accepted = frames.MAX_STREAM
        self.last_processed = frames.MAX_STREAM
        self.goaway_received = False
        self.goaway_sent = False
        self.failed = False
        self.blocked = False
        self.acknowledged = False
        self.rapid_resets = 0

    def new_stream(self, number: int) -> Stream:
        """A stream in the open state, with the windows as they are initially."""
        stream = Stream(number, self.peer.initial_window, self.initial_receive, self.stream_step)
        self.streams[number] = stream
        return stream

    def is_idle(self, number: int) -> bool:
        """Whether no end has opened this stream yet, nor any after it; `number` is not 0."""
        if number & 1:
            return number > self.highest_peer_stream if self.server else number >= self.next_stream
        return True

    def end_remote(self, stream: Stream) -> None:
        """The peer sent END_STREAM."""
        stream.remote_ended = True
        stream.receiving = False
        if stream.local_ended:
            self._finish(stream)

    def end_local(self, stream: Stream) -> None:
        """We sent END_STREAM."""
        stream.local_ended = True
        if stream.remote_ended:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        del self.streams[stream.id]
        if stream.unread:
            self.unfinished[stream.id] = stream.unread

    def drop(self, stream: Stream) -> None:
        """The stream was reset by either end: nobody will read what it still holds."""
        del self.streams[stream.id]
        if stream.unread:
            self.credit_connection(stream.unread)

    def credit_connection(self, n: int) -> None:
        """`n` bytes of DATA have left our memory."""
        increment = self.flow.give_back(n)
        if increment:
            self.out.write(frames.window_update(0, increment))

    def credit_stream(self, stream: Stream, n: int) -> None:
        """`n` bytes of a stream that the peer has not ended have left our memory."""
        increment = stream.give_back(n)
        if increment and not stream.remote_ended:
            self.out.write(frames.window_update(stream.id, increment))

    def refuse(self, number: int, code: ErrorCode) -> None:
        """Send RST_STREAM and remember that late frames of the stream are no error."""
        self.out.write(frames.rst_stream(number, code))
        self.remembered[number] = None
        if len(self.remembered) > MAX_REMEMBERED_RESETS:
            del self.remembered[next(iter(self.remembered))]

    def fail_stream(self, error: StreamError, events: list[Event]) -> None:
        """The peer broke a rule of one stream: reset it and tell the owner, if it knew the stream."""
        self.count_rapid_reset()
        self.refuse(error.stream, error.code)
        stream = self.streams.get(error.stream)
        if stream is not None:
            self.drop(stream)
            events.append(Reset(error.stream, error.code))

    def count_rapid_reset(self) -> None:
        """A stream came to nothing before it was answered, by the peer's doing.

        Raises:
            Http2Error: too many.
        """
        self.rapid_resets += 1
        if self.rapid_resets > self.limits.max_rapid_resets and self.server:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many streams opened and reset")

    @property
    def spent(self) -> bool:
        """No stream can be opened any more."""
        return self.failed or self.goaway_received or self.goaway_sent or self.next_stream > frames.MAX_STREAM
