"""Ten thousand connections that say nothing (or as many as the limits of the machine let): what they cost and leave."""

from __future__ import annotations

import gc
import resource
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.proxy import CONFIG, Mesh

from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

WANTED = 10_000
EACH = 4
"""Descriptors: the client's, one of each proxy, the application's."""
SPARE = 1000
"""For a hundred tunnels at both ends, and for the test."""
BYTES_PER_SIDE = 12 << 10


@pytest.fixture
def idle() -> Iterator[int]:
    """How many connections one process may have here; the soft limit is raised for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(WANTED, (hard - SPARE) // EACH)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_ten_thousand_idle_connections(idle: int) -> None:
    """A hundred tunnels carry them, each side costs at most 12 KiB; they work, end in order and leave nothing."""
    config = replace(CONFIG, keepalive_ping_interval=60.0)
    with Mesh(client_config=config, server_config=config) as mesh:
        app = socket.create_server((mesh.ip, 0), backlog=1024)
        port = app.getsockname()[1]
        with mesh.connect(port), app.accept()[0]:
            before, held = open_descriptors(), resident()
            clients, accepted = [], []
            for _ in range(idle):
                clients.append(mesh.connect(port))
                accepted.append(app.accept()[0])
            grown = resident() - held
            assert open_descriptors() - before <= EACH * idle + SPARE
            assert len(mesh.server.server._host.inbound) <= 1 + idle // config.pool_max_streams
            for at in (0, idle // 2, idle - 1):
                clients[at].sendall(b"still there")
            heard = [sock.recv(11) for sock in (accepted[0], accepted[idle // 2], accepted[-1])]
            assert heard == [b"still there"] * 3
            for sock in (*clients, *accepted):
                sock.close()
            for host in (mesh.client, mesh.server):
                host.main.wait_logs(idle)
                host.call(lambda: None)
            assert grown <= idle * 2 * BYTES_PER_SIDE
        app.close()
        for host in (mesh.client, mesh.server):
            host.main.wait_logs(idle + 1)
            assert host.total(OPENED) == host.total(CLOSED) == idle + 1
            assert host.total(FAILED) == 0
            mesh.thread.settle()
        assert open_descriptors() <= before + 2 * len(
            mesh.server.server._host.inbound
        )  # unused, until they are released
