"""A tunnel whose peer reads slowly keeps what waits once, as it was made or as it will leave."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from tests.support.engines import connected, read_all

from hostmesh.proxy.tls_socket import Buffers, TlsSocket
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.engine import Engine
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.limits import Role

BLOCK = b"\x88"
TOLD = 60_000
"""Inside the window that every peer has at first, and far beyond what the socket takes."""
A_PING = 64
"""More than a record with one has."""


class Nobody:
    """Owns a tunnel of which nothing is to be told."""

    def _never(self, *_: Any, **__: Any) -> None:
        raise AssertionError

    accept_stream = settled = going_away = stream_ended = closed = _never


@contextlib.contextmanager
def slow_peer(loop: Loop) -> Iterator[tuple[Tunnel, TlsSocket, socket.socket, Engine]]:
    """A tunnel, and the other end of its socket, which takes little at once, with its engine."""
    ours, theirs = socket.socketpair()
    engine, peer = connected(BundledTls(), BundledTls())
    with contextlib.closing(loop), ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least
        theirs.setblocking(False)
        tls = TlsSocket(loop, Buffers(), ours, engine)
        loop.register(ours.fileno(), lambda _: None)
        tunnel = Tunnel(loop, tls, Http2Connection(Role.CLIENT), Nobody())
        tunnel.start()
        yield tunnel, tls, theirs, peer


def test_what_was_encrypted_leaves_before_more_is() -> None:
    """Else the engine would hold both, in a larger buffer that is made, filled and thrown away for each piece."""
    errors: list[Exception] = []
    loop = Loop(lambda _, error: errors.append(error))
    with slow_peer(loop) as (tunnel, tls, sock, peer):
        loop.turn(0)
        stream = tunnel.http2.open_stream(BLOCK)
        tunnel.http2.send_data(stream, bytes(TOLD))
        tunnel.wake()
        loop.turn(0)
        tunnel.http2.ping(b"the last")
        tunnel.wake()
        heard = bytearray()
        while not heard.endswith(b"the last") and not errors:
            with contextlib.suppress(BlockingIOError):
                peer.feed(memoryview(sock.recv(1 << 16)))
                heard += read_all(peer)
            loop.turn(0)
            assert tunnel.http2.pending_output or len(tls.engine.pending_out()) <= A_PING, "encrypted behind what waits"
        assert not errors
        assert len(heard) > TOLD
