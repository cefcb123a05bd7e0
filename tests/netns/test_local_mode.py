"""Two hosts whose agents know the mesh from one file: no control plane, and yet mutual TLS and policy."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import local_agents
from tests.support.agent import until

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def test_two_hosts_need_no_control_plane(lab: Lab, tmp_path: Path) -> None:
    """Traffic is tunnelled, judged, and logged as told; the file is in the dump; a reload refuses a mistake in it."""
    with local_agents(lab, tmp_path) as (client, server):
        assert client.get(15021, "/healthz/ready") == "ready\n"
        answer = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
        lab.listen(lab.peer, lab.peer.v4, 9090, lab.b)
        sock = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        sock.sendall(b"hello")
        with lab.accept(answer) as served:
            assert served.recv(5) == b"hello"
            served.sendall(b"hello to you")
            assert sock.recv(12) == b"hello to you"
            to_application = lab.peer.run("ss", "-tnoH", "state", "established", "( dport = :8080 )")
            assert to_application
            assert "timer:(keepalive" not in to_application
        sock.close()
        refused = lab.connect(lab.host, (lab.peer.v4, 9090), lab.a)
        assert is_cut(refused)
        until(lambda: server.log.count("connection complete") == 2)
        assert 'src.identity="spiffe://cluster.local/ns/prod/sa/w1"' in server.log
        until(lambda: client.log.count("connection complete") == 2)
        assert "bytes_sent=5 bytes_recv=12" in client.log
        assert "bytes_sent=12 bytes_recv=5" in server.log
        for each, reporter in ((client, "source"), (server, "destination")):
            counted = each.get(15020, "/metrics")
            for name, value in (("received_bytes", 5), ("sent_bytes", 12)):
                rows = [row for row in counted.splitlines() if row.startswith(f"istio_tcp_{name}_total{{")]
                values = [float(row.rpartition(" ")[2]) for row in rows if f'reporter="{reporter}"' in row]
                assert value in values
        assert "policy rejection" in server.log
        assert "connection opened" not in server.log
        server.get(15000, "/logging?level=access=debug", "POST")

        def opened() -> bool:  # workers hear of the level when they come to it
            lab.connect(lab.host, (lab.peer.v4, 8080), lab.a).close()
            return "connection opened" in server.log

        until(opened)
        static = json.loads(client.get(15000, "/config_dump"))["staticConfig"]
        assert ([one["name"] for one in static["workloads"]], len(static["policies"])) == (["w1", "w2"], 1)
        mesh = tmp_path / "mesh.yaml"
        assert json.loads(client.get(15000, "/status"))["meshFile"] == str(mesh)
        numbers = client.get(15020, "/metrics")
        assert "hostmesh_xds" not in numbers, "nobody is missed who was never there"
        assert 'istio_build{component="hostmesh-agent",tag="' in numbers
        mesh.write_text("workload: []\n")
        assert any(note.startswith("STATUS=reload refused") for note in client.reload())
        assert f"{mesh}:1: workload: unknown field" in client.log


def is_cut(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
