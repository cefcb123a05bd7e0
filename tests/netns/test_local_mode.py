"""Two hosts whose agents know the mesh from one file: no control plane, and yet mutual TLS and policy."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import agent, start, until
from tests.support.pki import Authority

from hostmesh.model.identity import Identity

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

MESH = """
workloads:
- {name: w1, serviceAccount: w1, namespace: prod, workloadIps: [CLIENT], protocol: HBONE, node: host1, services: {}}
- {name: w2, serviceAccount: w2, namespace: prod, workloadIps: [SERVER], protocol: HBONE, node: host2, services: {}}
policies:
- name: web
  namespace: prod
  scope: Namespace
  action: Allow
  dryRun: false
  rules: [[[{principals: [{Exact: cluster.local/ns/prod/sa/w1}]}], [{destinationPorts: [8080]}]]]
"""


def put_certificate(directory: Path, authority: Authority, name: str) -> None:
    issued = authority.issue(Identity("cluster.local", "prod", name))
    folder = directory / "prod" / name
    folder.mkdir(parents=True)
    (folder / "key.pem").write_bytes(issued.key_pem)
    (folder / "key.pem").chmod(0o600)
    (folder / "cert-chain.pem").write_bytes(issued.chain_pem)
    (folder / "root-cert.pem").write_bytes(issued.roots_pem)


def test_two_hosts_need_no_control_plane(lab: Lab, tmp_path: Path) -> None:
    """Traffic is tunnelled and judged; the file is in the dump; a mistake in it is refused by a reload."""
    authority = Authority()
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH.replace("CLIENT", lab.host.v4).replace("SERVER", lab.peer.v4))
    with ExitStack() as stack:
        agents = []
        for name, where, cgroup, node in (("w1", lab.host, lab.a, "host1"), ("w2", lab.peer, lab.b, "host2")):
            directory = tmp_path / name
            directory.mkdir()
            made = stack.enter_context(agent(where, directory, cgroup.path))
            put_certificate(directory / "certificates", authority, name)
            (made.workloads / "w.yaml").write_text(
                f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n"
            )
            made.configure(
                node=node,
                workers=1,
                local_xds_path=str(mesh),
                certificates={"directory": str(directory / "certificates")},
            )
            start(made)
            agents.append(made)
        client, server = agents
        until(lambda: json.loads(client.get(15000, "/status"))["ready"])
        assert client.get(15021, "/healthz/ready") == "ready\n"
        answer = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
        lab.listen(lab.peer, lab.peer.v4, 9090, lab.b)
        sock = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        sock.sendall(b"hello")
        with lab.accept(answer) as served:
            assert served.recv(5) == b"hello"
        sock.close()
        refused = lab.connect(lab.host, (lab.peer.v4, 9090), lab.a)
        assert _is_cut(refused)
        until(lambda: server.log.count("connection complete") == 2)
        assert 'src.identity="spiffe://cluster.local/ns/prod/sa/w1"' in server.log
        assert "policy rejection" in server.log
        static = json.loads(client.get(15000, "/config_dump"))["staticConfig"]
        assert ([one["name"] for one in static["workloads"]], len(static["policies"])) == (["w1", "w2"], 1)
        mesh.write_text("workload: []\n")
        assert any(note.startswith("STATUS=reload refused") for note in client.reload())
        assert f"{mesh}:1: workload: unknown field" in client.log


def _is_cut(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
