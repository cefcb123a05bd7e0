"""Listener: accepts on one socket in batches and pauses when the process has no descriptors left."""

from __future__ import annotations

import _socket
import errno
import logging
import os
import socket
from collections.abc import Callable

from hostmesh.config.proxy import ProxyConfig
from hostmesh.kernel import sockets as options
from hostmesh.model.address import SocketAddress
from hostmesh.proxy.sockets import accept_all, watch_peer
from hostmesh.transport.loop import Loop
from hostmesh.transport.timers import Timer

PAUSE = 0.1
"""Seconds without accepting when descriptors or memory ran out: connections then wait in the kernel's queue."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("hostmesh.proxy")


class Listener:
    """Owns the listening socket. Accepted sockets inherit its options (tcp(7))."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        accepted: Callable[[_socket.socket, SocketAddress], None],
        *,
        alone: bool = False,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._accepted = accepted
        self._alone = alone
        self._paused: Timer | None = None
        self.address = options.local_address(sock)
        sock.setblocking(False)
        options.nodelay(sock)
        loop.register_listener(sock.fileno(), self._ready)

    def watch_peers(self, config: ProxyConfig) -> None:
        """Notice peers of accepted sockets that are gone; nothing stays of what a former program had set."""
        options.no_keepalive(self._sock)
        options.user_timeout(self._sock, 0)
        watch_peer(self._sock, config)

    def close(self) -> None:
        """Stop accepting; what waits in the queue belongs to other holders of the socket, or is reset."""
        if self._paused is not None:
            self._paused.cancel()
        # Other processes hold the socket too: closing it here would leave it in this epoll, which would be woken
        # for connections in their stead (epoll(7)).
        self._loop.unregister(self._sock.fileno())
        self._loop.close_later(self._sock)

    def _ready(self, mask: int) -> None:
        del mask
        try:
            accept_all(self._sock, self._accepted)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._pause(error.errno)
            return
        if not self._alone:  # two system calls for each batch, to be fair to siblings
            self._loop.requeue_listener(self._sock.fileno())

    def _pause(self, number: int) -> None:
        fields = {"address": str(self.address), "error": os.strerror(number)}
        _log.error("cannot accept connections, pausing; raise LimitNOFILE", extra={"fields": fields})
        self._loop.unregister(self._sock.fileno())
        self._paused = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self._loop.register_listener(self._sock.fileno(), self._ready)
