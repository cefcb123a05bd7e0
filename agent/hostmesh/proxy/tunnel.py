"""Tunnel: one peer's socket, TLS engine and HTTP/2 connection joined; knows streams, not what they carry.

Everything that any stream produced in one turn of the loop leaves in one TLS write and one send at its end.
A tunnel is never paused for reading: what a stream may have in flight is bounded by its flow-control window.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Final

from hostmesh.model.identity import Identity
from hostmesh.proxy import failure as failures
from hostmesh.proxy import keepalive
from hostmesh.proxy.expiry import Expiry
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.farewell import Farewell
from hostmesh.proxy.handlers import StreamHandler, TunnelOwner
from hostmesh.proxy.hold import Hold
from hostmesh.proxy.keepalive import Keepalive
from hostmesh.proxy.proof import Parties
from hostmesh.proxy.streams import Streams
from hostmesh.proxy.tls_socket import CIPHERTEXT_BUFFER, NOTHING_YET, PLAINTEXT_BUFFER, READS_PER_EVENT, TlsSocket
from hostmesh.transport.loop import BROKEN, PEER_SHUT, READABLE, WRITABLE, Loop
from hostmesh.transport.tls.engine import TlsClosed, TlsError, TlsTruncated
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.events import Data, Event, GoAway, Headers, PingAck, Reset, SettingsChanged, WindowOpened
from hostmesh.wire.http2.limits import Role

_DRAIN: Final = b"draining"
_ALL_STREAMS: Final = 2**31 - 1

_READ: Final = READABLE | PEER_SHUT | BROKEN
_END: Final = PEER_SHUT | BROKEN


class Tunnel:
    """One HBONE connection, after the TLS handshake. Owns the socket, which is registered with the loop.

    Args:
        loop: the worker's.
        tls: registered, its engine handshaken; gets this tunnel's handler.
        http2: fresh.
        owner: told about streams and the end.
    """

    __slots__ = (
        "_closed",
        "_expiry",
        "_farewell",
        "_keepalive",
        "_loop",
        "_owner",
        "_peer_shut",
        "_scheduled",
        "_streams",
        "_tls",
        "_wants_close",
        "hold",
        "http2",
        "parties",
        "peer",
        "peer_address",
    )

    def __init__(self, loop: Loop, tls: TlsSocket, http2: Http2Connection, owner: TunnelOwner) -> None:
        self._loop = loop
        self._tls = tls
        self.http2 = http2
        self._owner: TunnelOwner | None = owner
        self.peer: Identity | None = None
        self.parties: Parties | None = None
        self._streams = Streams()
        self.hold = Hold(loop, http2)
        self._scheduled = False
        self._closed = False
        self._wants_close = False
        self._peer_shut = False
        self._keepalive: Keepalive | None = None
        self._expiry: Expiry | None = None
        self._farewell: Farewell | None = None

    # Life

    def start(self) -> None:
        """Take over from the handshake: send the preface, look at what came with the last handshake bytes."""
        self._loop.replace_handler(self._tls.sock.fileno(), self._ready)
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
        return len(self._streams.handlers)

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
                self._tls.engine.close()
        self._farewell = Farewell(self._loop, self._tls, serving=serving, done=self._left)

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
        self._streams.handlers[stream] = handler
        self.wake()
        return stream

    def attach(self, stream: int, handler: StreamHandler) -> None:
        """Make `handler` the one that hears about the stream from now on."""
        self._streams.handlers[stream] = handler

    def detach(self, stream: int) -> None:
        """The stream is over on this side (ended both ways, or reset)."""
        if self._streams.remove(stream) is not None and self._owner is not None:
            self.wake()
            self._owner.stream_ended(self)

    def abandon(self, stream: int, code: ErrorCode) -> None:
        """Reset the stream; its handler hears nothing more. Harmless when the tunnel or the stream is gone."""
        if self._closed:
            return
        try:
            self.http2.reset_stream(stream, code)
        except Http2Error as error:
            self._streams.remove(stream)
            self.broken(error)
        else:
            self.detach(stream)
            self.wake()

    def starved(self, stream: int, handler: StreamHandler) -> None:
        """`reserve` had no room for the stream: tell it when that may have changed."""
        self._streams.starved(stream, handler)

    def waits(self, stream: int) -> bool:
        """Whether the stream is starved: its turn will come."""
        return self._streams.waits(stream)

    def broken(self, error: Http2Error | TlsError) -> None:
        """The peer reads so little that not even control frames fit any more, or leaves the protocol."""
        if not self._closed:
            self._say_goodbye()
            self._shut(failures.http2(str(error)))

    def wake(self) -> None:
        """Something waits to be sent: it leaves at the end of this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.at_turn_end(self._flush)

    def wake_if_due(self) -> None:
        """Something may wait to be sent."""
        if self.hold.due:
            self.wake()

    # Reading

    def _ready(self, mask: int) -> None:
        if mask & WRITABLE and self._tls.blocked:
            self._tls.blocked = False
            # Before more is encrypted, or the engine would have to keep both.
            if self._send():
                self._flush()
        if mask & _READ and not self._closed:
            self._peer_shut = self._peer_shut or mask & _END != 0
            self._read()

    def _read(self) -> None:
        if self._closed:
            return
        tls = self._tls
        for _ in range(READS_PER_EVENT):
            try:
                n = tls.receive()
            except OSError as error:
                self._shut(failures.broken(error))
                return
            if n == NOTHING_YET:
                return
            if n:
                tls.engine.lend(tls.ciphertext, n)
            else:
                tls.engine.feed_eof()
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
        plaintext, engine = self._tls.plaintext, self._tls.engine
        try:
            while not self._closed:
                n = engine.read_into(plaintext)
                if not n:
                    break
                self._dispatch(self.http2.receive(plaintext[:n]))
                if n < PLAINTEXT_BUFFER and not engine.ended:  # asking again would find nothing
                    break
        except (TlsClosed, TlsTruncated):
            # A peer may vanish without close_notify; HTTP/2 says itself which streams were complete.
            self._shut(failures.http2("connection closed by peer") if self._streams.handlers else None)
        except (Http2Error, TlsError) as error:
            self.broken(error)
        self.wake_if_due()

    def _dispatch(self, events: Sequence[Event]) -> None:
        position, count = 0, len(events)
        while position < count and not self._closed:
            event = events[position]
            position += 1
            if type(event) is Data:
                position = self._streams.deliver(events, position, event)
            else:
                self._handle(event)

    def _handle(self, event: Event) -> None:
        owner = self._owner
        assert owner is not None, "nobody listens to a closed tunnel"
        match event:
            case Headers(stream, fields, end):
                handler = self._streams.handlers.get(stream)
                if handler is not None:
                    handler.headers(fields, end)
                else:
                    owner.accept_stream(self, stream, fields, end)
            case Reset(stream, code):
                handler = self._streams.remove(stream)
                if handler is not None:
                    handler.reset(code)
                    owner.stream_ended(self)
            case WindowOpened(stream):
                if stream:
                    self._streams.feed(stream)
                else:
                    self._streams.feed_all(self.http2)
            case GoAway():
                owner.going_away(self)
            case PingAck(payload):
                self._pong(bytes(payload))
            case SettingsChanged():
                owner.settled(self)
            case Data():
                raise AssertionError("DATA is delivered in runs")

    # Writing

    def _flush(self) -> None:
        self._scheduled = False
        if self._closed or self._tls.blocked:
            return
        self._encrypt()
        if not self._send():
            return
        if self._streams.starving:
            self._loop.call_later(0, self._feed_starved)
        elif self._wants_close and not self._streams.handlers:
            self.leave()

    def _send(self) -> bool:
        try:
            return self._tls.send()
        except OSError as error:
            self._shut(failures.broken(error))
            return False

    def _encrypt(self) -> None:
        http2 = self.http2
        if size := http2.pending_output:
            self.hold.end()
            self._tls.engine.write(http2.take())
            http2.sent(size)

    def _feed_starved(self) -> None:
        try:
            self._streams.feed_all(self.http2)
        except Http2Error as error:
            self.broken(error)

    def _say_goodbye(self) -> None:
        """Best effort: what the socket does not take now is dropped with it."""
        with contextlib.suppress(TlsError, OSError):
            self._encrypt()
            self._tls.engine.close()
            if not self._tls.blocked:
                self._tls.send()

    # Ends

    def _shut(self, failure: Failure | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._cancel_timers()
        self._tls.close()
        for handler in self._streams.remove_all():
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
        self.hold.end()
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
