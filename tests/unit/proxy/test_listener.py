"""Listeners: batches, pauses, options that accepted sockets inherit."""

from __future__ import annotations

import _socket
import resource
import socket
from collections.abc import Iterator

import pytest

from hostmesh.config.proxy import ProxyConfig
from hostmesh.model.address import SocketAddress
from hostmesh.proxy.listener import PAUSE, Listener
from hostmesh.transport.loop import Loop


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        yield sock


def test_accepted_sockets_inherit_the_listeners_options(bound: socket.socket) -> None:
    """Set once instead of for each connection."""
    loop = Loop()
    accepted: list[tuple[_socket.socket, SocketAddress]] = []
    listener = Listener(loop, bound, lambda *one: accepted.append(one))
    listener.watch_peers(ProxyConfig(tcp_keepalive_interval=181, tcp_user_timeout=True))
    with socket.create_connection(bound.getsockname()):
        while not accepted:
            loop.turn(0.1)
        ((sock, _),) = accepted
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 181
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == (180 + 9 * 181) * 1000
        sock.close()
    listener.close()
    loop.turn(0)
    assert bound.fileno() == -1
    loop.close()


def test_options_of_a_former_program_do_not_stay(bound: socket.socket) -> None:
    """The socket outlives a reload, and so do its options."""
    loop = Loop()
    listener = Listener(loop, bound, lambda *_: None)
    listener.watch_peers(ProxyConfig(tcp_user_timeout=True))
    listener.watch_peers(ProxyConfig(tcp_keepalive=False))
    assert not bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    loop.close()


def test_without_descriptors_it_pauses_and_goes_on(bound: socket.socket) -> None:
    """Connections wait in the kernel's queue; the loop does not spin on the level-triggered listener."""
    clock = Clock()
    loop = Loop(clock=clock)
    accepted: list[_socket.socket] = []
    Listener(loop, bound, lambda sock, _: accepted.append(sock))
    client = socket.create_connection(bound.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
    fillers = []
    try:
        while True:
            fillers.append(socket.socket())
    except OSError:
        pass  # none is left
    loop.turn(0.1)
    loop.turn(0)
    for filler in fillers:
        filler.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert accepted == []
    clock.now += PAUSE
    loop.turn(0)
    loop.turn(0.1)
    assert len(accepted) == 1
    accepted[0].close()
    client.close()
    loop.close()


def test_a_closed_listener_leaves_connections_to_those_who_share_it(bound: socket.socket) -> None:
    """The socket lives on in other processes, so its loop must not be woken for it any more."""
    loop = Loop()
    listener = Listener(loop, bound.dup(), lambda *_: None)
    listener.close()
    loop.turn(0)
    with socket.create_connection(bound.getsockname()):
        assert loop._epoll.poll(0.05) == []
    loop.close()
