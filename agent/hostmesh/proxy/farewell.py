"""Farewell: the end of a connection that owes nobody anything but its last bytes (after RFC 9112 §9.6).

A socket that is closed while something of the peer's is unread, or still arrives, is reset by the kernel, and a reset
takes from the peer whatever it has not read yet. Peers also take the end of a connection for the end of streams that
they have received whole but not handed on. So what is left is sent, and who served waits for the client to close: it
knows when it has read everything.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable

from hostmesh.proxy.tls_socket import NOTHING_YET, READS_PER_EVENT, TlsSocket
from hostmesh.transport.loop import WRITABLE, Loop

PATIENCE = 30.0
"""Seconds for the peer to read and to close: 16 MiB may be on their way, which a peer at 5 Mbit/s reads in 27."""


class Farewell:
    """Owns a registered socket from now on, and says when it is closed.

    Args:
        loop: the worker's.
        tls: gets this object's handler; what its engine has is sent first, and nothing more is written to it.
        serving: the peer closes first.
        done: called once when the socket is closed.
    """

    __slots__ = ("_done", "_loop", "_serving", "_timer", "_tls")

    def __init__(self, loop: Loop, tls: TlsSocket, *, serving: bool, done: Callable[[], None]) -> None:
        self._loop = loop
        self._tls = tls
        self._serving = serving
        self._done: Callable[[], None] | None = done
        self._timer = loop.call_later(PATIENCE, self.end)
        loop.replace_handler(tls.sock.fileno(), self._ready)
        self._send()
        self._discard()

    def end(self) -> None:
        """Close now."""
        done, self._done = self._done, None
        if done is not None:
            self._timer.cancel()
            self._tls.close()
            done()

    def _ready(self, mask: int) -> None:
        if mask & WRITABLE:
            self._send()
        if mask & ~WRITABLE:
            self._discard()

    def _send(self) -> None:
        if self._done is None:
            return
        try:
            if self._tls.send() and not self._serving:
                self._tls.sock.shutdown(_socket.SHUT_WR)
        except OSError:
            self.end()

    def _discard(self) -> None:
        for _ in range(READS_PER_EVENT):
            if self._done is None:
                return
            try:
                n = self._tls.receive()
            except OSError:
                n = 0
            if n == NOTHING_YET:
                return
            if not n:
                self.end()
        self._loop.call_later(0, self._discard)
