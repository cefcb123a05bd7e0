"""TlsSocket: a peer's socket and the TLS engine at this end of it; knows bytes, not their meaning."""

from __future__ import annotations

import _socket
from typing import Final

from hostmesh.kernel import sockets as options
from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL
from hostmesh.transport.loop import Loop
from hostmesh.transport.scratch import shared
from hostmesh.transport.tls.engine import RECORD_OVERHEAD, RECORD_SIZE, Engine

PLAINTEXT_BUFFER: Final = 1 << 20
CIPHERTEXT_BUFFER: Final = (PLAINTEXT_BUFFER >> 1) // RECORD_SIZE * (RECORD_SIZE + RECORD_OVERHEAD)
"""Shared by all tunnels of the process: nothing stays in them between two events. The most that a tunnel of ours sends
at once, 1 MiB in records, is two reads: a third would give the application a frame's last record by itself."""

READS_PER_EVENT: Final = 8
"""Full buffers read from one connection before the others get their turn."""

NOTHING_YET: Final = -1

NEAR: Final = 500e-6
"""Seconds of a round trip within a rack or a zone."""
UNSENT_NEAR: Final = 1 << 20
"""Twice that, as the kernel reckons, is 4 GB/s on such a path, and takes a turn's 1 MiB while the peer still reads the
last one's. More waits at the peer until it has left its processor's cache."""
UNSENT_FAR: Final = 4 << 20
"""What the kernel lets a buffer grow to, for a path that was near before."""


def unsent_limit(round_trip: float, limited: bool) -> int:
    """Bytes that may wait in the kernel on a path of `round_trip` seconds; 0 leaves it to the kernel.

    On a long path that knows best how much is on its way, but a limit that was set can only be replaced.
    """
    if round_trip <= NEAR:
        return UNSENT_NEAR
    return UNSENT_FAR if limited else 0


class Buffers:
    """Scratch space of one process."""

    __slots__ = ("ciphertext", "plaintext")

    def __init__(self) -> None:
        self.ciphertext = shared(CIPHERTEXT_BUFFER)
        self.plaintext = shared(PLAINTEXT_BUFFER)


class TlsSocket:
    """Owned by whoever has the connection: its handshake, then its tunnel, last its farewell.

    Args:
        loop: the worker's.
        buffers: the worker's scratch space.
        sock: registered.
        engine: fresh.
    """

    __slots__ = ("_loop", "_unsent", "blocked", "ciphertext", "engine", "plaintext", "sock")

    def __init__(self, loop: Loop, buffers: Buffers, sock: _socket.socket, engine: Engine) -> None:
        self._loop = loop
        self.ciphertext = buffers.ciphertext
        self.plaintext = buffers.plaintext
        self.sock = sock
        self.engine = engine
        self._unsent = 0
        self.blocked = False
        """The loop will tell when the socket takes more."""

    def receive(self) -> int:
        """Bytes that are in `ciphertext` now; 0 at the end, `NOTHING_YET` if none has come.

        Raises:
            OSError: the connection broke.
        """
        try:
            return self.sock.recv_into(self.ciphertext, 0, DONTWAIT)
        except BlockingIOError:
            return NOTHING_YET

    def send(self) -> bool:
        """Whether the socket took everything that the engine has for it; else it is blocked.

        Raises:
            OSError: the connection broke.
        """
        engine = self.engine
        if size := len(pending := engine.pending_out()):
            try:
                n = self.sock.send(pending, DONTWAIT_NOSIGNAL)
            except BlockingIOError:
                n = 0
            engine.sent(n)
            if n < size:
                self.blocked = True
                self._fit()
                self._loop.watch_writable(self.sock.fileno())
                return False
        return True

    def _fit(self) -> None:
        limit = unsent_limit(options.round_trip(self.sock), limited=self._unsent > 0)
        if limit != self._unsent:
            self._unsent = limit
            options.limit_unsent(self.sock, limit)

    def close(self) -> None:
        """At the end of this turn."""
        self._loop.close_later(self.sock)
