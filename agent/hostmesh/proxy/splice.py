"""Splice: one application socket joined with one HTTP/2 stream, half-closed each way on its own.

The application's bytes are received straight into the tunnel's output buffer; the tunnel's bytes go straight to the
application. Only what the application does not take is copied, bounded by the stream's window: credit is given
back after the application has taken the bytes.

Half of what was to be said never looks like the whole (RFC 9113 §8.5): an application whose connection breaks before
its end, by a reset or by silence, resets the stream with CONNECT_ERROR; a tunnel that dies, and a stream that is reset
before it ended, reset the application's connection. Who resets its connection after its end only takes no more: then
the stream is reset without error.
"""

from __future__ import annotations

import _socket
import errno
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from hostmesh.proxy import failure as failures
from hostmesh.proxy.ahead import take
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.pieces import after, send_all
from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL, TOOK_NO_MORE, error_of, keep_close, reset
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.telemetry.metrics import Counter
from hostmesh.transport.loop import BROKEN, PEER_SHUT, READABLE, WRITABLE, Loop
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.limits import Role
from hostmesh.wire.http2.output import EMPTY

CHUNK: Final = 1 << 20
"""Bytes taken from the application at once, if the windows and the tunnel's buffer have room."""

BULK: Final = 1 << 15
"""Who says so much at once says more. The kernel has not let the queue grow before that much is read."""

_NO_SLOTS: Final[list[memoryview]] = []

_CLEAN: Final = frozenset({ErrorCode.NO_ERROR, ErrorCode.CANCEL, ErrorCode.STREAM_CLOSED})
"""Resets after END_STREAM that mean no more than `I am done`."""

_READ: Final = READABLE | PEER_SHUT | BROKEN


class SpliceOwner(Protocol):
    """Whose connection it is."""

    def spliced(self, splice: Splice, failure: Failure | None) -> None:
        """It is over, the socket is closed; None: in good order."""


class Splice:
    """Owns the application's socket until the end.

    Args:
        loop: the worker's.
        sock: connected.
        tunnel: carries `stream`.
        stream: open both ways.
        owner: told about the end, once.
        from_app: counts the application's bytes.
        to_app: counts the peer's bytes.
    """

    __slots__ = (
        "_app_dead",
        "_app_ended",
        "_app_error",
        "_app_shut",
        "_bulk",
        "_from_app",
        "_loop",
        "_owner",
        "_peer_ended",
        "_pending",
        "_sock",
        "_stream",
        "_to_app",
        "_tunnel",
        "bytes_from_app",
        "bytes_to_app",
    )

    def __init__(
        self,
        loop: Loop,
        sock: _socket.socket,
        tunnel: Tunnel,
        stream: int,
        owner: SpliceOwner,
        from_app: Counter,
        to_app: Counter,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._tunnel = tunnel
        self._stream = stream
        self._owner: SpliceOwner | None = owner
        self._from_app = from_app
        self._to_app = to_app
        self._pending: deque[memoryview] = deque()
        self._app_shut = False  # its FIN has arrived, perhaps behind bytes that are still to be read
        self._app_ended = False  # nothing more will come from it, and the peer was told
        self._app_dead = False  # it takes nothing any more
        self._app_error = 0  # what broke its connection, if the kernel has told
        self._peer_ended = False
        self._bulk = False
        self.bytes_from_app = 0
        self.bytes_to_app = 0

    def start(
        self,
        seen: int | None = None,
        early: Sequence[memoryview] = (),
        *,
        ahead: int = 0,
        peer_ended: bool = False,
    ) -> None:
        """Begin to carry.

        Args:
            seen: the last event of a socket that the loop watches already: it will not be reported again. None: the
                socket is not registered yet.
            early: what the peer sent before there was an application to take it.
            ahead: bytes of the application that the peer has already, see `ahead`.
            peer_ended: whether the peer is already done.
        """
        self._tunnel.attach(self._stream, self)
        if seen is None:
            # What the application has said in the meantime leaves in this turn. Behind what was sent ahead there is
            # seldom more; if there is, the loop will tell.
            if ahead:
                self._take(ahead)
            else:
                self._carry(READABLE)
            if self._owner is None:
                return
            self._loop.register(self._sock.fileno(), self._ready)
        else:
            self._loop.replace_handler(self._sock.fileno(), self._ready)
        size = sum(map(len, early))
        if size or peer_ended:
            self.data(early, size, peer_ended)
        if seen is not None and seen & _READ and self._owner is not None:
            self._carry(seen)

    def abort(self, failure: Failure) -> None:
        """End it now, both ways, visibly."""
        if self._owner is not None:
            self._tunnel.abandon(self._stream, ErrorCode.CANCEL)
            self._fail(failure)

    # From the application

    def _ready(self, mask: int) -> None:
        try:
            self._carry(mask)
        except Http2Error as error:
            self._tunnel.broken(error)

    def _carry(self, mask: int) -> None:
        if mask & PEER_SHUT and not mask & BROKEN:
            self._app_shut = True
        if mask & WRITABLE and self._pending:
            self._write_pending()
        if mask & BROKEN and not self._app_dead:
            self._app_dead = True
            self._drop_pending()
        if mask & _READ and self._owner is not None:
            if not self._app_ended:
                if not self._tunnel.waits(self._stream):
                    self.writable()
            else:
                if self._app_dead:
                    self._app_error = self._app_error or error_of(self._sock)
                self._finish_if_done()

    def _take(self, ahead: int) -> None:
        """Remove from the socket what the peer has."""
        self._count(ahead)
        try:
            take(self._sock, ahead)
        except OSError as error:
            self._app_broke(error)

    def _count(self, taken: int) -> None:
        self.bytes_from_app += taken
        self._from_app.value += taken
        if taken >= BULK:
            self._carries_bulk()

    def writable(self) -> None:
        """Take what the application has sent, as far as the tunnel has room."""
        http2, stream, sock = self._tunnel.http2, self._stream, self._sock
        place, slots = EMPTY, _NO_SLOTS
        taken = 0
        gone = False
        while not self._app_ended:
            if not taken:
                place = http2.reserve(stream, CHUNK)
                size = len(place)
            else:  # there may be much more than a frame of this peer holds: fill several at once
                slots = http2.reserve_slots(stream, CHUNK)
                size = sum(map(len, slots))
            if not size:
                self._tunnel.starved(stream, self)
                break
            try:
                n = sock.recvmsg_into(slots, 0, DONTWAIT)[0] if taken else sock.recv_into(place, 0, DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                self._app_error, gone = error.errno or errno.EIO, True
                break
            taken += n
            drained = n < size
            if n == 0 and self._app_error and not self._app_shut:  # told before, when something was written
                gone = True
                break
            if n == 0 or (drained and self._app_shut):
                http2.commit(stream, n, end=True)
                self._app_ended = True
                break
            http2.commit(stream, n)
            if drained and not self._app_dead:
                break
        if taken:
            self._count(taken)
            self._tunnel.wake()
        if gone:
            self._app_is_dead()
        elif self._app_ended:
            self._tunnel.wake()
            self._finish_if_done()

    # From the peer

    def headers(self, fields: Fields, end: bool) -> None:
        """A second response: HTTP/2 does not let it through."""
        raise AssertionError(f"headers on a running stream: {fields}, end={end}")

    def data(self, views: Sequence[memoryview], size: int, end: bool) -> None:
        """Give payload to the application."""
        if end:
            self._peer_ended = True
        if size:
            if self._pending:
                self._keep(views)
            else:
                self._write(views, size)
        if end and self._owner is not None and not self._pending:
            self._end_to_app()

    def reset(self, code: ErrorCode) -> None:
        """The peer will neither send nor take anything more; what it had not ended is torn off (RFC 9113 §8.5)."""
        if not self._peer_ended or code not in _CLEAN:
            self._fail(failures.receive(f"stream error received: {code.name}"))
            return
        self._app_ended = True
        if not self._pending:
            self._end_to_app()

    def lost(self, failure: Failure) -> None:
        """The tunnel died under it. If both ways had ended, what the application has not taken yet is still its due."""
        if not (self._peer_ended and self._app_ended and self._pending):
            self._fail(failure)

    def _write(self, views: Sequence[memoryview], size: int) -> None:
        if self._app_dead:
            self._credit(size)
            return
        try:
            n = send_all(self._sock, views, size)
        except BlockingIOError:
            n = 0
        except OSError as error:
            self._credit(size)
            self._app_refused(error)
            return
        self._written(n)
        if n < size:
            self._keep(after(views, n))
            self._loop.watch_writable(self._sock.fileno())

    def _carries_bulk(self) -> None:
        if not self._bulk:
            self._bulk = True
            keep_close(self._sock)

    def _keep(self, views: Sequence[memoryview]) -> None:
        """One copy of what is left; the peer's window bounds it."""
        self._pending.append(memoryview(b"".join(views)))

    def _write_pending(self) -> None:
        while self._pending:
            view = self._pending[0]
            try:
                n = self._sock.send(view, DONTWAIT_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                self._drop_pending()
                self._app_refused(error)
                return
            self._written(n)
            if n < len(view):
                self._pending[0] = view[n:]
                return
            self._pending.popleft()
        if self._peer_ended and self._owner is not None:
            self._end_to_app()

    def _written(self, n: int) -> None:
        if n:
            self.bytes_to_app += n
            self._to_app.value += n
            if n >= BULK:
                self._carries_bulk()
            self._credit(n)

    def _credit(self, n: int) -> None:
        self._tunnel.http2.credit(self._stream, n)
        self._tunnel.wake_if_due()

    # Ends

    def _end_to_app(self) -> None:
        """All of the peer's bytes are delivered and no more will come."""
        if self._app_ended or self._app_dead:
            self._finish_if_done()
            return
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError as error:
            self._app_broke(error)

    def _app_refused(self, error: OSError) -> None:
        """It takes no more; what it sent before is still to be read."""
        self._app_dead = True
        self._app_error = error.errno or errno.EIO
        if self._app_ended:
            self._finish_if_done()
        else:
            self.writable()

    def _app_broke(self, error: OSError) -> None:
        self._app_error = error.errno or errno.EIO
        self._app_is_dead()

    def _app_is_dead(self) -> None:
        """Its connection is broken, and all that it sent before has been read."""
        self._app_dead = True
        self._drop_pending()
        if self._app_ended:
            self._finish_if_done()
        else:
            self._tear_off()

    def _tear_off(self) -> None:
        # Where it had ended before, it is the other way that broke.
        upwards = (self._tunnel.http2.role is Role.CLIENT) is not self._app_ended
        self._tunnel.abandon(self._stream, ErrorCode.CONNECT_ERROR)
        self._fail(failures.relayed(self._app_error, upwards=upwards))

    def _drop_pending(self) -> None:
        if self._pending:
            self._credit(sum(map(len, self._pending)))
            self._pending.clear()

    def _finish_if_done(self) -> None:
        if not self._app_ended or self._pending or self._owner is None:
            return
        if self._app_error not in TOOK_NO_MORE:
            self._tear_off()
            return
        if not self._peer_ended:
            if not self._app_dead:
                return
            self._tunnel.http2.reset_stream(self._stream, ErrorCode.NO_ERROR)
        self._finish(None)

    def _fail(self, failure: Failure) -> None:
        if self._owner is not None:
            reset(self._loop, self._sock)
            self._finish(failure, closed=True)

    def _finish(self, failure: Failure | None, *, closed: bool = False) -> None:
        owner, self._owner = self._owner, None
        if not closed:
            self._loop.close_later(self._sock)
        self._pending.clear()
        self._tunnel.detach(self._stream)
        if owner is not None:
            owner.spliced(self, failure)
