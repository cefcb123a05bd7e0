"""A host with a workload has other services too: clients reach them as ever, but the workload never in plaintext."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import local_agents
from tests.support.agent import until

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def is_cut(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_workload_and_its_hosts_other_services(lab: Lab, tmp_path: Path) -> None:
    """Ssh passes through, whatever policies the workload has; the workload's unregistered port does not."""
    ssh = lab.listen(lab.peer, "0.0.0.0", 2222, lab.other)
    app = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
    lab.listen(lab.peer, lab.peer.v4, 9090, lab.b)
    with local_agents(lab, tmp_path) as (client, _):
        sock = lab.connect(lab.host, (lab.peer.v4, 2222), lab.a)
        sock.sendall(b"SSH-2.0")
        with lab.accept(ssh) as served:
            assert served.recv(7) == b"SSH-2.0"
        sock.close()
        sock = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        sock.sendall(b"hello")
        with lab.accept(app) as served:
            assert served.recv(5) == b"hello"
        sock.close()
        for refused in (9090, 7777):  # denied by policy; nobody there
            assert is_cut(lab.connect(lab.host, (lab.peer.v4, refused), lab.a))
        until(lambda: client.log.count("connection complete") == 4)
        lines = [line for line in client.log.splitlines() if "connection complete" in line]
        ways = [line.split("dst.addr=")[1].split()[0] for line in lines]
        assert sorted(ways) == [f"{lab.peer.v4}:15008"] * 3 + [f"{lab.peer.v4}:2222"]

        late = lab.listen(lab.peer, "0.0.0.0", 2223, lab.other)
        until(lambda: is_open(lab, 2223))  # once the peer's agent has seen it
        lab.accept(late)

        document = client.workloads / "w.yaml"
        document.write_text(document.read_text() + "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
        client.reload()
        assert is_cut(lab.connect(lab.host, (lab.peer.v4, 2222), lab.a))


def is_open(lab: Lab, port: int) -> bool:
    """Whether a connection to the peer on which nobody says anything stays; it may be reset before it is there."""
    try:
        with lab.connect(lab.host, (lab.peer.v4, port), lab.a) as sock:
            sock.settimeout(1)
            return sock.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False
