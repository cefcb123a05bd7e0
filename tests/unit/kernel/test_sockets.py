"""Socket options on real loopback sockets; what only redirection shows is in tests/netns."""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from hostmesh.kernel import sockets
from hostmesh.model.address import SocketAddress


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection to a dual-stack listener, over IPv4."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client,
        listener.accept()[0] as accepted,
    ):
        yield client, accepted


def test_addresses_of_a_dual_stack_socket_are_canonical(pair: tuple[socket.socket, socket.socket]) -> None:
    """`::ffff:127.0.0.1` comes out as 127.0.0.1."""
    client, accepted = pair
    assert sockets.peer_address(accepted) == SocketAddress.of(*client.getsockname())
    assert sockets.local_address(accepted) == SocketAddress.of(*client.getpeername())


def test_untranslated_connection_has_its_own_address_as_destination(pair: tuple[socket.socket, socket.socket]) -> None:
    """The proxy recognises such a connection by that, and refuses it."""
    _, accepted = pair
    assert sockets.original_destination(accepted) == sockets.local_address(accepted)


def test_dead_socket_is_an_error_not_an_answer() -> None:
    """Only 'not translated' is answered with the local address."""
    sock = socket.socket()
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sockets.original_destination(sock)


def test_options_reach_the_kernel() -> None:
    """Each option reads back as set."""
    with socket.socket() as sock:
        sockets.keepalive(sock, 30, 7, 3)
        sockets.nodelay(sock)
        sockets.reset_on_close(sock)
        tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_NODELAY)
        assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in tcp] == [30, 7, 3, 1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        linger = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger) == (1, 0)


@pytest.mark.parametrize(("family", "foreign"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")])
def test_freebind_takes_an_address_the_host_has_not(family: socket.AddressFamily, foreign: str) -> None:
    """Without it the bind fails, with it it works; no privilege is needed."""
    with socket.socket(family) as plain, socket.socket(family) as free:
        with pytest.raises(OSError, match="Cannot assign"):
            plain.bind((foreign, 0))
        sockets.set_freebind(free)
        free.bind((foreign, 0))


def test_reset_on_close_is_seen_by_the_peer(pair: tuple[socket.socket, socket.socket]) -> None:
    """A failure must not look like the end of the data."""
    client, accepted = pair
    sockets.reset_on_close(accepted)
    accepted.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


@pytest.mark.parametrize(
    ("limit", "option"),
    [(sockets.limit_unread, socket.SO_RCVBUF), (sockets.limit_unsent, socket.SO_SNDBUF)],
)
def test_limited_queue_is_what_was_asked_for_twice_over(
    limit: Callable[[socket.socket, int], None], option: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Even above what net.core allows everybody, if the process may."""
    size = 32 << 20
    limit(pair[0], size)
    assert pair[0].getsockopt(socket.SOL_SOCKET, option) == 2 * size


def test_queue_is_limited_without_privilege_too(pair: tuple[socket.socket, socket.socket]) -> None:
    """As far as net.core.rmem_max allows everybody."""
    os.seteuid(65534)
    try:
        sockets.limit_unread(pair[0], 4096)
    finally:
        os.seteuid(0)
    assert pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 4096


def test_round_trip_is_the_kernels(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection to this host knows it since its handshake, in seconds."""
    pair[0].sendall(b"x")
    assert pair[1].recv(1) == b"x"
    assert 0 < sockets.round_trip(pair[0]) < 40


def test_round_trip_of_no_connection_is_long() -> None:
    """No TCP at all, and TCP that has not sent anything yet."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as unused:
        assert sockets.round_trip(ours) == math.inf
        assert sockets.round_trip(unused) > 3600
