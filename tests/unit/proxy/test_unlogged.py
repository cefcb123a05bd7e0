"""A workload whose access log Telemetry switched off: its connections are counted and not written."""

from __future__ import annotations

import socket
from dataclasses import replace

from tests.support.pki import BOB
from tests.support.proxy import Mesh, workload

from hostmesh.telemetry.metrics import OPENED


def greet(sock: socket.socket) -> None:
    sock.sendall(b"hello")


def test_only_the_direction_that_is_switched_off_is_silent() -> None:
    """The server's host writes nothing and counts, the client's writes as ever."""
    bob = replace(workload("bob", BOB, "127.0.0.1"), unlogged=("inbound",))
    with Mesh(bob=bob) as mesh, mesh.app(greet) as app:
        for _ in range(2):
            with mesh.connect(app.port) as sock:
                assert sock.recv(100) == b"hello"
        assert len(mesh.client.main.wait_logs(2)) == 2
        assert mesh.server.total(OPENED) == 2
    assert mesh.server.main.records == []
