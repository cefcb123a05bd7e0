"""Ten thousand connections that say nothing: what they cost each of two agents, and what they leave.

Four processes hold them, as each may have less than twice ten thousand descriptors: the client's applications, the
client's proxy (the test's own process), the server's proxy, the server's application.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from tests.support.pki import BOB, Authority
from tests.support.proxy import CONFIG, Host, Mesh, workload

from hostmesh.model.address import SocketAddress
from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

IDLE = 10_000
AT_ONCE = 250
"""Connects before somebody looks whether they have arrived; a listener's queue holds more."""
SPARE = 1000
"""Descriptors for a hundred tunnels, and for the test."""
BYTES_EACH = 12 << 10

QUIET = replace(CONFIG, keepalive_ping_interval=60.0)


class Process:
    """One that answers questions until it is told to end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, *question: object) -> Any:
        """What it answers."""
        self._pipe.send(question)
        return self.answer()

    def answer(self) -> Any:
        """The next thing that it says."""
        assert self._pipe.poll(60), "no answer"
        return self._pipe.recv()

    def end(self) -> None:
        """It closes what it holds."""
        self._pipe.send(None)


@contextmanager
def process(target: Callable[..., None], *args: object) -> Iterator[Process]:
    """A fork: it has what this one has now."""
    here, there = multiprocessing.Pipe()
    made = multiprocessing.get_context("fork").Process(target=target, args=(there, *args), daemon=True)
    made.start()
    with here, there:
        yield Process(here)
        made.join(60)
        assert made.exitcode == 0


def callers(pipe: Connection) -> None:
    """The client's applications."""
    made: list[socket.socket] = []
    for what, *rest in iter(pipe.recv, None):
        if what == "connect":
            address, count = rest
            made += [socket.create_connection(address, 10) for _ in range(count)]
        else:
            made[rest[0]].sendall(b"still there")
        pipe.send(len(made))
    for sock in made:
        sock.close()


def callee(pipe: Connection, ip: str) -> None:
    """The server's application."""
    made: list[socket.socket] = []
    with socket.create_server((ip, 0), backlog=1024) as listener:
        pipe.send(listener.getsockname()[1])
        for what, value in iter(pipe.recv, None):
            if what == "accept":
                made += [listener.accept()[0] for _ in range(value)]
                pipe.send(len(made))
            else:
                pipe.send(made[value].recv(11))
    for sock in made:
        sock.close()


def server(pipe: Connection, authority: Authority) -> None:
    """The server's proxy."""
    with Mesh(server_config=QUIET, server_authority=authority) as mesh:
        pipe.send(mesh.ip)
        for what, *rest in iter(pipe.recv, None):
            pipe.send(ended(mesh.server, *rest) if what == "ended" else held(mesh.server))


def held(host: Host) -> tuple[int, int, int]:
    """Bytes of memory, descriptors, tunnels."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return resident, descriptors, host.call(lambda: len(host.server._host.inbound) + len(host.server._host.pool))


def ended(host: Host, count: int) -> tuple[int, int, int]:
    """Numbers of opened, closed and failed connections, once as many have ended."""
    with host.main.logged:
        assert host.main.logged.wait_for(lambda: len(host.main.records) >= count, 60)
    return host.total(OPENED), host.total(CLOSED), host.total(FAILED)


@pytest.fixture
def descriptors() -> Iterator[None]:
    """The soft limit is raised; the hard one must do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= IDLE + SPARE, "`ulimit -Hn` is too small"
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + SPARE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
def test_ten_thousand_idle_connections() -> None:
    """A hundred tunnels carry them, each costs each agent at most 12 KiB; they work, end in order and leave nothing."""
    authority = Authority()
    with ExitStack() as stack:
        far = stack.enter_context(process(server, authority))
        far_ip = far.answer()
        app = stack.enter_context(process(callee, far_ip))
        clients = stack.enter_context(process(callers))
        mesh = stack.enter_context(Mesh(client_config=QUIET, client_authority=authority))
        mesh.client.put(workload("bob", BOB, far_ip))
        mesh.client.destination = SocketAddress.of(far_ip, app.answer())
        outbound = (str(mesh.outbound.ip), mesh.outbound.port)

        def grow(count: int) -> list[tuple[int, int, int]]:
            clients.ask("connect", outbound, count)
            app.ask("accept", count)
            return [held(mesh.client), far.ask("held")]

        before = grow(1)
        for _ in range(IDLE // AT_ONCE - 1):
            clients.ask("connect", outbound, AT_ONCE)
            app.ask("accept", AT_ONCE)
        after = grow(AT_ONCE)
        for (bytes_before, open_before, _), (bytes_after, open_after, tunnels) in zip(before, after, strict=True):
            assert bytes_after - bytes_before <= IDLE * BYTES_EACH
            assert IDLE <= open_after - open_before <= IDLE + SPARE
            assert tunnels <= 1 + IDLE // QUIET.pool_max_streams
        for at in (0, IDLE // 2, IDLE):
            clients.ask("say", at)
            assert app.ask("hear", at) == b"still there"
        clients.end()
        app.end()
        for numbers in (ended(mesh.client, IDLE + 1), far.ask("ended", IDLE + 1)):
            assert numbers == (IDLE + 1, IDLE + 1, 0)
        for (_, open_before, _), (_, open_after, tunnels) in zip(
            before, (held(mesh.client), far.ask("held")), strict=True
        ):
            assert open_after <= open_before + tunnels  # unused, until they are released
        far.end()
