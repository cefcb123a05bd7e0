"""Enrolling and withdrawing a running workload with a real agent and a real database: nothing that is open notices."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import RunningAgent, agent, start, until

from hostmesh.model.workload import Protocol, Workload

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

CONNECTIONS = 100
PORT = 6379


@pytest.fixture
def running(lab: Lab, tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent that captures nothing yet."""
    with agent(lab.host, tmp_path, lab.a.path) as made:
        address = ip_address(lab.host.v4)
        made.knows(Workload("node/w1", "w1", "prod", (address,), node="host1", protocol=Protocol.HBONE))
        made.configure(node="host1", workers=1)
        start(made)
        yield made


@pytest.fixture
def database(lab: Lab, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A Redis on another host; its server's program is that of its tools, and goes by its name."""
    command = ["redis-server", "--bind", lab.peer.v4, "--port", str(PORT), "--protected-mode", "no", "--save", ""]
    with lab.peer.entered():
        process = subprocess.Popen(
            [*command, "--dir", str(tmp_path)], executable="/usr/bin/redis-check-rdb", stdout=subprocess.DEVNULL
        )
    try:
        until(lambda: lab.socket(lab.peer).connect_ex((lab.peer.v4, PORT)) == 0)
        yield lab.peer.v4, PORT
    finally:
        process.kill()
        process.wait()


def ask(connection: socket.socket, command: str) -> str:
    connection.sendall(f"{command}\r\n".encode())
    return connection.recv(4096).decode()


def captured_connections(running: RunningAgent) -> int:
    state = json.loads(running.get(15000, "/config_dump"))["workloadState"]
    return sum(len(one["connections"]["outbound"]) for one in state.values())


def test_open_database_connections_live_on(lab: Lab, running: RunningAgent, database: tuple[str, int]) -> None:
    """A hundred are open before; enrolled, they are still open and the next one is captured; withdrawn, likewise."""
    with ExitStack() as stack:

        def connect() -> socket.socket:
            sock = stack.enter_context(lab.socket(lab.host, lab.a))
            sock.connect(database)
            return sock

        everybody = [connect() for _ in range(CONNECTIONS)]
        assert {ask(one, f"SET key{number} {number}") for number, one in enumerate(everybody)} == {"+OK\r\n"}
        document = running.workloads / "w1.yaml"
        document.write_text("workload: prod/w1\nserviceAccount: default\ncapture: {unit: a.service}\n")
        running.reload()
        assert [ask(one, f"GET key{number}").splitlines()[1] for number, one in enumerate(everybody)] == [
            str(number) for number in range(CONNECTIONS)
        ]
        assert captured_connections(running) == 0
        fresh = connect()
        assert ask(fresh, "PING") == "+PONG\r\n"
        assert captured_connections(running) == 1

        document.unlink()
        running.reload()
        assert {ask(one, "PING") for one in (*everybody, fresh)} == {"+PONG\r\n"}
        assert ask(connect(), "PING") == "+PONG\r\n"
        clients = ask(fresh, "CLIENT LIST").count("addr=")
        assert clients >= 2
