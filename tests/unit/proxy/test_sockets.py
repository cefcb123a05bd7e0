"""Connects and batches of accepts."""

from __future__ import annotations

import _socket
import errno
import resource
import socket

import pytest

from hostmesh.config.proxy import ProxyConfig
from hostmesh.model.address import SocketAddress
from hostmesh.proxy.sockets import ACCEPT_BATCH, Connect, accept_all, reset, seen_source
from hostmesh.transport.loop import Loop

Outcome = list[tuple[Connect, int]]


def run(loop: Loop, outcome: Outcome) -> tuple[Connect, int]:
    for _ in range(200):
        if outcome:
            break
        loop.turn(0.05)
    ((connect, number),) = outcome
    return connect, number


def attempt(loop: Loop, address: SocketAddress, limit: float = 5.0, *, local: bool = False) -> tuple[Connect, Outcome]:
    outcome: Outcome = []
    made = Connect(loop, address, limit, lambda *result: outcome.append(result), None, local=local)
    return made, outcome


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def address_of(sock: socket.socket) -> SocketAddress:
    return SocketAddress.of(*sock.getsockname()[:2])


def test_a_connect_hands_over_a_registered_socket(listener: socket.socket) -> None:
    """TCP_NODELAY is set, the loop watches it, and the event that reported it is kept."""
    loop = Loop()
    connect, number = run(loop, attempt(loop, address_of(listener))[1])
    assert number == 0
    assert connect.seen
    assert connect.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    loop.replace_handler(connect.sock.fileno(), lambda _: None)
    connect.sock.close()
    listener.close()
    loop.close()


def test_a_connected_socket_notices_that_its_peer_is_gone(listener: socket.socket) -> None:
    """Keepalive and user timeout as configured; without them nothing is set."""
    impatient = ProxyConfig(tcp_keepalive_time=60, tcp_keepalive_interval=10, tcp_user_timeout=True)
    for given, timeout in ((impatient, 150_000), (ProxyConfig(tcp_keepalive=False), 0)):
        loop = Loop()
        outcome: Outcome = []
        Connect(loop, address_of(listener), 5.0, lambda *result: outcome.append(result), None, config=given)  # noqa: B023
        connect, _ = run(loop, outcome)
        assert bool(connect.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is given.tcp_keepalive
        assert connect.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == timeout
        connect.sock.close()
        loop.close()
    listener.close()


def test_without_descriptors_a_connect_fails_and_nothing_else(listener: socket.socket) -> None:
    """It is told from the loop like every other failure, in whichever tunnel's turn it was begun."""
    loop = Loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno(), hard))
    try:
        for local in (True, False):
            _, outcome = attempt(loop, address_of(listener), local=local)
            assert outcome == []
            assert run(loop, outcome)[1] == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    loop.turn(0)
    listener.close()
    loop.close()


def test_a_refused_connect_tells_its_errno_and_closes(listener: socket.socket) -> None:
    """Nothing is left open."""
    loop = Loop()
    address = address_of(listener)
    listener.close()
    connect, number = run(loop, attempt(loop, address)[1])
    assert number == errno.ECONNREFUSED
    assert connect.sock.fileno() == -1
    loop.close()


def test_a_refusal_is_final_after_the_last_attempt(listener: socket.socket) -> None:
    """Each attempt is a socket of its own; all but the last are closed too."""
    loop = Loop()
    address = address_of(listener)
    listener.close()
    connect, number = run(loop, attempt(loop, address, local=True)[1])
    assert number == errno.ECONNREFUSED
    assert connect.sock.fileno() == -1
    loop.close()


def test_an_unreachable_address_is_reported_from_the_loop() -> None:
    """Never from inside the constructor: the caller has not got the object yet."""
    loop = Loop()
    _, outcome = attempt(loop, SocketAddress.parse("255.255.255.255:1"))
    assert outcome == []
    assert run(loop, outcome)[1] in (errno.ENETUNREACH, errno.EACCES, errno.EINVAL)
    loop.close()


def test_a_cancelled_connect_says_nothing(listener: socket.socket) -> None:
    """And closes its socket."""
    loop = Loop()
    connect, outcome = attempt(loop, address_of(listener))
    connect.cancel()
    loop.turn(0)
    assert (outcome, connect.sock.fileno()) == ([], -1)
    listener.close()
    loop.close()


def accepted(listener: socket.socket, batch: int = ACCEPT_BATCH) -> list[tuple[_socket.socket, SocketAddress]]:
    """What is taken from the queue in one turn."""
    found: list[tuple[_socket.socket, SocketAddress]] = []
    accept_all(listener, lambda sock, peer: found.append((sock, peer)), batch)
    return found


def test_accepts_come_in_batches(listener: socket.socket) -> None:
    """No more than asked for; the rest stays in the queue; addresses are canonical."""
    listener.setblocking(False)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
    first, rest = accepted(listener, 3), accepted(listener, 3)
    assert (len(first), len(rest)) == (3, 2)
    assert [str(peer) for _, peer in (*first, *rest)] == [f"127.0.0.1:{c.getsockname()[1]}" for c in clients]
    assert accepted(listener) == []
    for sock in (*clients, listener, *(sock for sock, _ in (*first, *rest))):
        sock.close()


def test_mapped_addresses_become_ipv4() -> None:
    """A dual-stack listener must not make two names of one client."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        listener.setblocking(False)
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
            ((sock, peer),) = accepted(listener)
            sock.close()
    assert str(peer.ip) == "127.0.0.1"


def test_who_cannot_bear_the_clients_address_does_not_connect(listener: socket.socket) -> None:
    """The application would take the host's own address for its client's."""
    loop = Loop()
    outcome: Outcome = []
    foreign = SocketAddress.of("2001:db8::1", 4711)  # of the other family: no kernel binds to it here
    Connect(loop, address_of(listener), 5.0, lambda *result: outcome.append(result), None, source=foreign)
    _, number = run(loop, outcome)
    assert number != 0
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()
    loop.close()


def test_reset_is_seen_as_a_reset(listener: socket.socket) -> None:
    """A failure must not look like the end of an answer."""
    loop = Loop()
    with socket.create_connection(listener.getsockname()) as client:
        sock, _ = listener.accept()
        reset(loop, sock)
        loop.turn(0)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    listener.close()
    loop.close()


@pytest.mark.parametrize(
    ("rule", "enabled", "peer", "target", "seen"),
    [
        ("the client's", True, "10.0.0.1", "10.0.0.7", True),
        ("IPv6 too", True, "2001:db8::1", "2001:db8::7", True),
        ("not unless it is asked for", False, "10.0.0.1", "10.0.0.7", False),
        ("an application's own address cannot call it", True, "10.0.0.7", "10.0.0.7", False),
        ("a sandwiched application is called from loopback", True, "10.0.0.1", "127.0.0.1", False),
        ("one family cannot call from the other's", True, "2001:db8::1", "10.0.0.7", False),
    ],
)
def test_whose_address_an_application_sees(rule: str, enabled: bool, peer: str, target: str, seen: bool) -> None:
    """The client's with its port, else the host's own."""
    del rule
    client = SocketAddress.of(peer, 4711)
    assert seen_source(enabled, client, SocketAddress.of(target, 80)) == (client if seen else None)
