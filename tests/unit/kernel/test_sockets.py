"""Socket options on real loopback sockets; what only redirection shows is in tests/netns."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

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
