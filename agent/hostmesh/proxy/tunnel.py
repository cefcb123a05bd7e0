"""Tunnel: one peer's socket, TLS engine and HTTP/2 connection joined; knows streams, not what they carry.

Everything that any stream produced in one turn of the loop leaves in one TLS write and one send at its end.
A tunnel is never paused for reading: what a stream may have in flight is bounded by its flow-control window.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import math
import os
from collections.abc import Callable, Sequence

from hostmesh.model.identity import Identity
from hostmesh.proxy import failure as failures
from hostmesh.proxy import keepalive
from hostmesh.proxy.expiry import Expiry
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.farewell import Farewell
from hostmesh.proxy.handlers import StreamHandler, TunnelOwner
from hostmesh.proxy.keepalive import Keepalive
from hostmesh.proxy.proof import Parties
from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL
from hostmesh.transport.loop import BROKEN, PEER_SHUT, READABLE, WRITABLE, Loop
from hostmesh.transport.scratch import shared
from hostmesh.transport.tls.engine import Engine, TlsClosed, TlsError, TlsTruncated
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.events import Data, Event, GoAway, Headers, PingAck, Reset, SettingsChanged, WindowOpened
from hostmesh.wire.http2.limits import Role

CIPHERTEXT_BUFFER = 1 << 18
PLAINTEXT_BUFFER = 1 << 20
"""Shared by all tunnels of the process: nothing stays in them between two events."""

READS_PER_EVENT = 8
"""Full buffers read from one tunnel before the others get their turn."""

_DRAIN = b"draining"
_ALL_STREAMS = 2**31 - 1

_READ = READABLE | PEER_SHUT | BROKEN
_END = PEER_SHUT | BROKEN


class Buffers:
    """Scratch space of one process."""

    __slots__ = ("ciphertext", "plaintext")

    def __init__(self) -> None:
        self.ciphertext = shared(CIPHERTEXT_BUFFER)
        self.plaintext = shared(PLAINTEXT_BUFFER)


class Tunnel:
    """One HBONE connection, after the TLS handshake. Owns the socket, which is registered with the loop.

    Args:
        loop: the worker's.
        buffers: the worker's scratch space.
        sock: connected and registered; gets this tunnel's handler.
        engine: handshaken.
        http2: fresh.
        owner: told about streams and the end.
    """

    __slots__ = (
        "_blocked",
        "_buffers",
        "_closed",
        "_engine",
        "_expiry",
        "_farewell",
        "_keepalive",
        "_loop",
        "_owner",
        "_peer_shut",
        "_scheduled",
        "_sock",
        "_starved",
        "_streams",
        "_wants_close",
        "http2",
        "parties",
        "peer",
        "peer_address",
    )

    def __init__(
        self,
        loop: Loop,
        buffers: Buffers,
        sock: _socket.socket,
        engine: Engine,
        http2: Http2Connection,
        owner: TunnelOwner,
    ) -> None:
        self._loop = loop
        self._buffers = buffers
        self._sock = sock
        self._engine = engine
        self.http2 = http2
        self._owner: TunnelOwner | None = owner
        self.peer: Identity | None = None
        self.parties: Parties | None = None
        self._streams: dict[int, StreamHandler] = {}
        self._starved: dict[int, StreamHandler] = {}
        self._scheduled = False
        self._blocked = False
        self._closed = False
        self._wants_close = False
        self._peer_shut = False
        self._keepalive: Keepalive | None = None
        self._expiry: Expiry | None = None
        self._farewell: Farewell | None = None

    # Life

    def start(self) -> None:
        """Take over from the handshake: send the preface, look at what came with the last handshake bytes."""
        self._loop.replace_handler(self._sock.fileno(), self._ready)
        self.wake()
        self._loop.at_turn_end(self._begin)

    def keep_alive(self, interval: float, timeout: float) -> None:
        """Ping every `interval` seconds; no answer within `timeout` ends the tunnel."""
        self._keepalive = Keepalive(self._loop, interval, timeout, self._ping, self._unanswered)

    def expire_at(self, moment: float, clock: Callable[[], float]) -> None:
        """End the tunnel, streams included, when a certificate of either end expires (in `clock`'s seconds)."""
        self._expiry = Expiry(self._loop, moment, clock, self._expired)

    @property
    def expires(self) -> float:
        """When, in seconds since the epoch."""
        return self._expiry.at if self._expiry is not None else math.inf

    @property
    def expired(self) -> bool:
        """Whether it must take no more streams, even if it has not ended yet."""
        return self._expiry is not None and self._expiry.over

    @property
    def streams(self) -> int:
        """Streams that are in use."""
        return len(self._streams)

    def drain(self) -> None:
        """Take no new streams, tell the peer, close after the last one (RFC 9113 §6.8)."""
        if self._closed or self._wants_close:
            return
        self._wants_close = True
        try:
            self.http2.goaway(ErrorCode.NO_ERROR, _ALL_STREAMS)
            self.http2.ping(_DRAIN)
        except Http2Error as error:
            self.broken(error)
        else:
            self.wake()

    def close(self, failure: Failure | None = None) -> None:
        """Say GOAWAY and close_notify as far as the socket takes them, then close. Streams are lost."""
        if self._farewell is not None:
            self._farewell.end()
        elif not self._closed:
            with contextlib.suppress(Http2Error):  # no room even for that: the peer does not read
                self.http2.goaway(ErrorCode.NO_ERROR)
            self._say_goodbye()
            self._shut(failure)

    def leave(self) -> None:
        """After the last stream: say GOAWAY and close, and see to it that the peer can read everything before."""
        if self._closed:
            return
        self._closed = True
        self._cancel_timers()
        serving = self.http2.role is Role.SERVER
        with contextlib.suppress(Http2Error, TlsError):
            self.http2.goaway(ErrorCode.NO_ERROR)
            self._encrypt()
            if not serving:
                self._engine.close()
        self._farewell = Farewell(
            self._loop, self._buffers.ciphertext, self._sock, self._engine, serving=serving, done=self._left
        )

    def hand_over(self, owner: TunnelOwner) -> None:
        """From now on somebody else is told."""
        self._owner = owner

    # Streams

    def open(self, block: bytes, handler: StreamHandler) -> int:
        """Client: open a stream with an encoded header block.

        Raises:
            StreamLimit: the peer allows no more at this time.
        """
        stream = self.http2.open_stream(block)
        self._streams[stream] = handler
        self.wake()
        return stream

    def attach(self, stream: int, handler: StreamHandler) -> None:
        """Make `handler` the one that hears about the stream from now on."""
        self._streams[stream] = handler

    def detach(self, stream: int) -> None:
        """The stream is over on this side (ended both ways, or reset)."""
        self._starved.pop(stream, None)
        if self._streams.pop(stream, None) is not None and self._owner is not None:
            self.wake()
            self._owner.stream_ended(self)

    def abandon(self, stream: int, code: ErrorCode) -> None:
        """Reset the stream; its handler hears nothing more. Harmless when the tunnel or the stream is gone."""
        if self._closed:
            return
        try:
            self.http2.reset_stream(stream, code)
        except Http2Error as error:
            self._streams.pop(stream, None)
            self.broken(error)
        else:
            self.detach(stream)
            self.wake()

    def starved(self, stream: int, handler: StreamHandler) -> None:
        """`reserve` had no room for the stream: tell it when that may have changed."""
        self._starved[stream] = handler

    def broken(self, error: Http2Error) -> None:
        """The peer reads so little that not even control frames fit any more, or leaves the protocol."""
        if not self._closed:
            self._say_goodbye()
            self._shut(failures.http2(str(error)))

    def wake(self) -> None:
        """Something waits to be sent: it leaves at the end of this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.at_turn_end(self._flush)

    # Reading

    def _ready(self, mask: int) -> None:
        if mask & WRITABLE and self._blocked:
            self._blocked = False
            self._flush()
        if mask & _READ and not self._closed:
            self._peer_shut = self._peer_shut or mask & _END != 0
            self._read()

    def _read(self) -> None:
        if self._closed:
            return
        buffer = self._buffers.ciphertext
        for _ in range(READS_PER_EVENT):
            try:
                n = self._sock.recv_into(buffer, 0, DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                self._shut(failures.http2(os.strerror(error.errno or errno.EIO)))
                return
            if n:
                self._engine.lend(buffer[:n])
            else:
                self._engine.feed_eof()
            self._decrypt()
            if self._closed or not n:
                return
            # A short read means that nothing is left, unless the end has been announced with it.
            if n < CIPHERTEXT_BUFFER and not self._peer_shut:
                return
        self._loop.call_later(0, self._read)

    def _begin(self) -> None:
        """The handshake may have seen the event that announced what is to be read now."""
        if not self._closed:
            self._decrypt()
            self._peer_shut = True
            self._read()
            self._peer_shut = False

    def _decrypt(self) -> None:
        plaintext = self._buffers.plaintext
        try:
            while not self._closed:
                n = self._engine.read_into(plaintext)
                if not n:
                    break
                self._dispatch(self.http2.receive(plaintext[:n]))
                if n < PLAINTEXT_BUFFER and not self._engine.ended:  # asking again would find nothing
                    break
        except Http2Error as error:
            self.broken(error)
        except (TlsClosed, TlsTruncated):
            # A peer may vanish without close_notify; HTTP/2 says itself which streams were complete.
            self._shut(failures.http2("connection closed by peer") if self._streams else None)
        except TlsError as unreadable:
            self._say_goodbye()
            self._shut(failures.http2(unreadable.reason))
        if self.http2.pending_output:
            self.wake()

    def _dispatch(self, events: Sequence[Event]) -> None:
        position, count = 0, len(events)
        while position < count and not self._closed:
            event = events[position]
            position += 1
            if type(event) is Data:
                position = self._deliver(events, position, event)
            else:
                self._handle(event)

    def _deliver(self, events: Sequence[Event], position: int, first: Data) -> int:
        """Hand consecutive DATA of one stream on together; returns the position behind them."""
        views, size, end = [first.view], len(first.view), first.end
        while position < len(events):
            event = events[position]
            if type(event) is not Data or event.stream != first.stream:
                break
            views.append(event.view)
            size += len(event.view)
            end = event.end
            position += 1
        handler = self._streams.get(first.stream)
        if handler is not None:
            handler.data(views, size, end)
        return position

    def _handle(self, event: Event) -> None:
        owner = self._owner
        assert owner is not None, "nobody listens to a closed tunnel"
        match event:
            case Headers(stream, fields, end):
                handler = self._streams.get(stream)
                if handler is not None:
                    handler.headers(fields, end)
                else:
                    owner.accept_stream(self, stream, fields, end)
            case Reset(stream, code):
                handler = self._streams.pop(stream, None)
                self._starved.pop(stream, None)
                if handler is not None:
                    handler.reset(code)
                    owner.stream_ended(self)
            case WindowOpened(stream):
                self._window_opened(stream)
            case GoAway():
                owner.going_away(self)
            case PingAck(payload):
                self._pong(bytes(payload))
            case SettingsChanged():
                owner.settled(self)
            case Data():
                raise AssertionError("DATA is delivered in runs")

    def _window_opened(self, stream: int) -> None:
        if stream:
            handler = self._starved.pop(stream, None)
            if handler is not None:
                handler.writable()
        else:
            self._feed_starved()

    # Writing

    def _flush(self) -> None:
        self._scheduled = False
        if self._closed or self._blocked:
            return
        self._encrypt()
        if not self._send():
            return
        if self._starved:
            self._loop.call_later(0, self._feed_starved)
        elif self._wants_close and not self._streams:
            self.leave()

    def _encrypt(self) -> None:
        http2 = self.http2
        if size := http2.pending_output:
            self._engine.write(http2.take())
            http2.sent(size)

    def _send(self) -> bool:
        """Whether the socket took everything."""
        engine = self._engine
        if size := len(pending := engine.pending_out()):
            try:
                n = self._sock.send(pending, DONTWAIT_NOSIGNAL)
            except BlockingIOError:
                n = 0
            except OSError as error:
                self._shut(failures.http2(os.strerror(error.errno or errno.EIO)))
                return False
            engine.sent(n)
            if n == size:  # and the engine has given all it had
                return True
            self._blocked = True
            self._loop.watch_writable(self._sock.fileno())
            return False
        return True

    def _feed_starved(self) -> None:
        starved, self._starved = self._starved, {}
        try:
            for stream, handler in starved.items():
                if stream in self._streams:
                    handler.writable()
        except Http2Error as error:
            self.broken(error)

    def _say_goodbye(self) -> None:
        """Best effort: what the socket does not take now is dropped with it."""
        try:
            self._encrypt()
            self._engine.close()
        except TlsError:
            return
        if not self._blocked:
            self._send()

    # Ends

    def _shut(self, failure: Failure | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._cancel_timers()
        self._loop.close_later(self._sock)
        streams, self._streams, self._starved = self._streams, {}, {}
        for handler in streams.values():
            handler.lost(failure or failures.http2("connection closed"))
        self._part(failure)

    def _left(self) -> None:
        self._farewell = None
        self._part(None)

    def _part(self, failure: Failure | None) -> None:
        # It and its owner would refer to each other until the collector comes, which is not to have much to do.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.closed(self, failure)

    def _cancel_timers(self) -> None:
        for watch in (self._keepalive, self._expiry):
            if watch is not None:
                watch.cancel()

    def _expired(self) -> None:
        self.close(failures.CERTIFICATE_EXPIRED)

    # Keepalive

    def _ping(self) -> bool:
        if self.expired:
            self._expired()
            return False
        try:
            self.http2.ping(keepalive.PAYLOAD)
        except Http2Error as error:
            self.broken(error)
            return False
        self.wake()
        return True

    def _unanswered(self) -> None:
        self._shut(failures.http2("HBONE ping timeout/error"))

    def _pong(self, payload: bytes) -> None:
        if payload == _DRAIN:
            self.http2.goaway(ErrorCode.NO_ERROR)
            self.wake()
        elif payload == keepalive.PAYLOAD and self._keepalive is not None:
            self._keepalive.answered()
