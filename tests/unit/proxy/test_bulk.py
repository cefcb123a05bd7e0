"""Whoever carries much lets little of it wait in the kernel; whoever carries little is not asked (socket(7))."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.proxy import App, Mesh, echo, receive_all

from hostmesh.proxy.splice import BULK

_LIMITS = {socket.SO_RCVBUF: 2 << 20, socket.SO_SNDBUF: 2 << 20}
"""Of connections with applications, as the kernel reckons."""


@pytest.fixture
def apps(mesh: Mesh) -> Iterator[App]:
    """Bob's application gives everything back."""
    with mesh.app(echo) as app:
        yield app


def sizes(sock: socket.socket) -> dict[int, int]:
    """What its two queues may hold."""
    return {option: sock.getsockopt(socket.SOL_SOCKET, option) for option in _LIMITS}


def proxied(peer: object) -> dict[int, int]:
    """Queues of the one socket of this process whose peer is `peer`."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:  # no socket, or closed in the meantime
            continue
        with sock:
            try:
                if sock.getpeername() == peer:
                    found.append(sizes(sock))
            except OSError:
                continue
    (one,) = found
    return one


def test_queues_of_a_quiet_connection_are_the_kernels(mesh: Mesh, apps: App) -> None:
    """Ten small messages change nothing at either end."""
    with mesh.connect(apps.port) as sock:
        for _ in range(10):
            sock.sendall(bytes(1000))
            left = 1000
            while left:
                left -= len(sock.recv(left))
        for ours in (proxied(sock.getsockname()), proxied((apps.ip, apps.port))):
            assert all(ours[option] != limit for option, limit in _LIMITS.items()), ours
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b""


def test_queues_of_bulk_are_short_at_both_ends(mesh: Mesh) -> None:
    """Of the captured application and of the one that is called; a whole body arrives all the same."""
    body = os.urandom(32 * BULK)

    looked = threading.Event()

    def give_back(sock: socket.socket) -> None:
        sock.sendall(receive_all(sock))
        looked.wait(PATIENCE)

    with mesh.app(give_back) as app, mesh.connect(app.port) as sock:
        sock.sendall(body)
        sock.shutdown(socket.SHUT_WR)
        first = sock.recv(1)
        assert proxied(sock.getsockname()) == _LIMITS
        assert proxied((app.ip, app.port)) == _LIMITS
        looked.set()
        assert first + receive_all(sock) == body
