"""A tunnel whose peer reads slowly keeps what waits once, as it was made or as it will leave."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from tests.support.plain import Plain

from hostmesh.proxy.tls_socket import Buffers, TlsSocket
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.transport.loop import Loop
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.limits import Role

BLOCK = b"\x88"
TOLD = 60_000
"""Inside the window that every peer has at first, and far beyond what the socket takes."""


class Nobody:
    """Owns a tunnel of which nothing is to be told."""

    def _never(self, *_: Any, **__: Any) -> None:
        raise AssertionError

    accept_stream = settled = going_away = stream_ended = closed = _never


@contextlib.contextmanager
def slow_peer(loop: Loop) -> Iterator[tuple[Tunnel, socket.socket]]:
    """A tunnel, and the other end of its socket, which takes little at once."""
    ours, theirs = socket.socketpair()
    with contextlib.closing(loop), ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least
        theirs.setblocking(False)
        tls = TlsSocket(loop, Buffers(), ours, Plain())
        loop.register(ours.fileno(), lambda _: None)
        tunnel = Tunnel(loop, tls, Http2Connection(Role.CLIENT), Nobody())
        tunnel.start()
        yield tunnel, theirs


def test_what_was_encrypted_leaves_before_more_is() -> None:
    """Else the engine would hold both, in a larger buffer that is made, filled and thrown away for each piece."""
    errors: list[Exception] = []
    loop = Loop(lambda _, error: errors.append(error))
    with slow_peer(loop) as (tunnel, peer):
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
                heard += peer.recv(1 << 16)
            loop.turn(0)
        assert not errors
        assert len(heard) > TOLD
