"""Farewell: the end of a connection that owes nobody anything but its last bytes (after RFC 9112 §9.6).

A socket that is closed while something of the peer's is unread, or still arrives, is reset by the kernel, and a reset
takes from the peer whatever it has not read yet. Peers also take the end of a connection for the end of streams that
they have received whole but not handed on. So what is left is sent, and who served waits for the client to close: it
knows when it has read everything.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable

from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL
from hostmesh.transport.loop import WRITABLE, Loop
from hostmesh.transport.tls.engine import Engine

PATIENCE = 30.0
"""Seconds for the peer to read and to close: 16 MiB may be on their way, which a peer at 5 Mbit/s reads in 27."""

READS_PER_EVENT = 8
"""Full buffers thrown away before other connections get their turn."""


class Farewell:
    """Owns a registered socket from now on, and says when it is closed.

    Args:
        loop: the worker's.
        scratch: where bytes that nobody wants are received.
        sock: registered; gets this object's handler.
        engine: whose pending output is sent first; nothing more is written to it.
        serving: the peer closes first.
        done: called once when the socket is closed.
    """

    __slots__ = ("_done", "_engine", "_loop", "_scratch", "_serving", "_sock", "_timer")

    def __init__(
        self,
        loop: Loop,
        scratch: memoryview,
        sock: _socket.socket,
        engine: Engine,
        *,
        serving: bool,
        done: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._scratch = scratch
        self._sock = sock
        self._engine = engine
        self._serving = serving
        self._done: Callable[[], None] | None = done
        self._timer = loop.call_later(PATIENCE, self.end)
        loop.replace_handler(sock.fileno(), self._ready)
        self._send()
        self._discard()

    def end(self) -> None:
        """Close now."""
        done, self._done = self._done, None
        if done is not None:
            self._timer.cancel()
            self._loop.close_later(self._sock)
            done()

    def _ready(self, mask: int) -> None:
        if mask & WRITABLE:
            self._send()
        if mask & ~WRITABLE:
            self._discard()

    def _send(self) -> None:
        while self._done is not None and (size := len(pending := self._engine.pending_out())):
            try:
                n = self._sock.send(pending, DONTWAIT_NOSIGNAL)
            except BlockingIOError:
                n = 0
            except OSError:
                self.end()
                return
            self._engine.sent(n)
            if n < size:
                self._loop.watch_writable(self._sock.fileno())
                return
        if self._done is not None and not self._serving:
            try:
                self._sock.shutdown(_socket.SHUT_WR)
            except OSError:
                self.end()

    def _discard(self) -> None:
        for _ in range(READS_PER_EVENT):
            if self._done is None:
                return
            try:
                if not self._sock.recv_into(self._scratch, 0, DONTWAIT):
                    self.end()
            except BlockingIOError:
                return
            except OSError:
                self.end()
        self._loop.call_later(0, self._discard)
