"""How much of a tunnel waits in the kernel (tcp(7)): little on a short path, what the kernel likes on a long one."""

from __future__ import annotations

import contextlib
import socket

import pytest
from tests.support.engines import connected

from hostmesh.proxy.tls_socket import (
    CIPHERTEXT_BUFFER,
    NEAR,
    UNSENT_FAR,
    UNSENT_NEAR,
    Buffers,
    TlsSocket,
    unsent_limit,
)
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.engine import Engine
from hostmesh.wire.http2.limits import SERVER_LIMITS


@pytest.mark.parametrize(
    ("round_trip", "limited", "limit"),
    [
        (0.00005, False, UNSENT_NEAR),
        (0.00005, True, UNSENT_NEAR),
        (NEAR, False, UNSENT_NEAR),
        (0.0006, False, 0),
        (0.2, False, 0),
        (0.2, True, UNSENT_FAR),
        (float("inf"), False, 0),
    ],
)
def test_short_paths_are_limited_and_long_ones_left_to_the_kernel(round_trip: float, limited: bool, limit: int) -> None:
    """A limit that a path has grown out of becomes what the kernel would allow at most."""
    assert unsent_limit(round_trip, limited) == limit


def fresh() -> Engine:
    """At one end of a connection that nobody has used."""
    return connected(BundledTls(), BundledTls())[0]


def fill(tls: TlsSocket) -> None:
    """Send until the peer, who reads nothing, takes no more."""
    while not tls.blocked:
        tls.engine.write(memoryview(bytes(1 << 20)))
        tls.send()


def test_what_a_full_turn_sends_is_two_reads() -> None:
    """Not three, of which the last gives an application a few kilobytes and wakes it up for them."""
    engine = fresh()
    engine.write(memoryview(bytes(SERVER_LIMITS.output_buffer)))
    assert len(engine.pending_out()) == 2 * CIPHERTEXT_BUFFER


def test_blocked_tunnel_to_a_peer_nearby_is_limited() -> None:
    """Not before: a tunnel that carries little costs no call."""
    with (
        contextlib.closing(Loop()) as loop,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0],
    ):
        loop.register(ours.fileno(), lambda _: None)
        tls = TlsSocket(loop, Buffers(), ours, fresh())
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        tls.engine.write(memoryview(b"little"))
        assert tls.send()
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        fill(tls)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * UNSENT_NEAR


def test_tunnel_over_a_path_of_unknown_length_is_left_to_the_kernel() -> None:
    """As one through another tunnel is."""
    ours, theirs = socket.socketpair()
    with contextlib.closing(Loop()) as loop, ours, theirs:
        loop.register(ours.fileno(), lambda _: None)
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        fill(TlsSocket(loop, Buffers(), ours, fresh()))
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
