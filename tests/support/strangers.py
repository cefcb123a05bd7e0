"""A foreign HBONE peer at one end of a `Mesh`, and what is carried over it."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.support import envoy
from tests.support.addresses import free_port, fresh_ip
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import App, Mesh, pattern, workload

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity

SIZE = 32 << 20
"""More than any window."""
STREAMS = 120


@cache
def _digest() -> bytes:
    """Of the body; once for all, as it takes longer than an application should have to wait."""
    digest = hashlib.blake2b()
    for piece in pattern(SIZE):
        digest.update(piece)
    return digest.digest()


def body_both_ways(sock: socket.socket, *, half_close: bool = True) -> None:
    """Send a big body up while the same comes back, and compare by hash."""
    expected = _digest()

    def send() -> None:
        for piece in pattern(SIZE):
            sock.sendall(piece)
        if half_close:
            sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    sock.settimeout(PATIENCE)
    seen, left = hashlib.blake2b(), SIZE
    while left and (data := sock.recv(1 << 20)):
        seen.update(data)
        left -= len(data)
    sender.join()
    assert seen.digest() == expected
    assert not half_close or sock.recv(1) == b""


def ended(sock: socket.socket) -> bool:
    """Whether the other side closed without a byte; a reset says the same."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def many_streams(dial: Callable[[], socket.socket], *, half_close: bool = True) -> None:
    """All open at once, each with its own bytes, half-closed by the client if that is understood."""
    socks = [dial() for _ in range(STREAMS)]
    for number, sock in enumerate(socks):
        sock.sendall(number.to_bytes(2, "big") * 500)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
    for number, sock in enumerate(socks):
        with sock:
            assert sock.makefile("rb").read(1000) == number.to_bytes(2, "big") * 500
            assert not half_close or sock.recv(1) == b""


@contextmanager
def envoy_client(mesh: Mesh, app: App, directory: Path, *, expects: Identity = BOB) -> Iterator[int]:
    """Alice's Envoy in front of our inbound; yields the port that applications connect to."""
    listen, admin = free_port(), free_port()
    config = envoy.client(
        listen, (mesh.ip, 15008), f"{mesh.ip}:{app.port}", expects, mesh.authority.issue(ALICE), admin
    )
    with envoy.running(config, directory, admin):
        yield listen


@contextmanager
def envoy_server(
    mesh: Mesh, app: App, directory: Path, identity: Identity = BOB, adjust: Callable[[envoy.Json], None] | None = None
) -> Iterator[int]:
    """Bob's Envoy behind our outbound."""
    ip, admin = fresh_ip(), free_port()
    config = envoy.server(15008, (app.ip, app.port), mesh.authority.issue(identity), "cluster.local", admin)
    config["static_resources"]["listeners"][0]["address"]["socket_address"]["address"] = ip
    if adjust is not None:
        adjust(config)
    mesh.client.put(workload("far", BOB, ip))
    mesh.client.destination = SocketAddress.of(ip, 8080)
    with envoy.running(config, directory, admin):
        yield admin
