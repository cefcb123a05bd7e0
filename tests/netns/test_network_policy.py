"""NetworkPolicy from the control plane to the kernels of two hosts: who gets through, and what operators see of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import enrolled_agents, entry
from tests.support.agent import RunningAgent, start, until
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document
from tests.support.netns import is_answered

from hostmesh.firewall.ruleset import TABLE

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

STRANGER, PROBER = "10.77.0.9", "10.77.0.8"
POLICY = """
podSelector: {matchLabels: {app: web}}
ingress:
- from: [{podSelector: {matchLabels: {app: client}}}]
  ports: [{port: 8080}]
"""


@dataclass
class Mesh:
    """prod/web is unit a of the host, prod/client is unit b of the peer, where the control plane is too."""

    lab: Lab
    plane: RunningControlPlane
    web: RunningAgent
    client: RunningAgent

    def apply(self, *texts: str) -> None:
        self.plane.client.apply([{"source": "test.yaml", "text": text} for text in texts], dry_run=False)

    def reaches(self, port: int, source: str = STRANGER) -> bool:
        """Whether the kernel lets somebody of the peer who is no workload in, to be judged by the agent."""
        sock = self.lab.socket(self.lab.peer, self.lab.other)
        sock.bind((source, 0))
        return is_answered(sock, (self.lab.host.v4, port))

    def meshed(self, port: int) -> bytes:
        """What prod/client hears of prod/web; a reset may come so soon that `connect` itself already says it."""
        sock = self.lab.socket(self.lab.peer, self.lab.b)
        try:
            sock.connect((self.lab.host.v4, port))
            return sock.recv(5)
        except ConnectionResetError:
            return b""

    def probe(self, port: int) -> bytes:
        """What a health check hears, in plaintext."""
        sock = self.lab.socket(self.lab.peer, self.lab.other)
        sock.bind((PROBER, 0))
        sock.connect((self.lab.host.v4, port))
        return sock.recv(5)

    def rules(self) -> str:
        return self.lab.host.run("nft", "list", "ruleset")


@pytest.fixture
def mesh(lab: Lab, tmp_path: Path) -> Iterator[Mesh]:
    device = lab.peer.run("ip", "-o", "-4", "addr", "show", "scope", "global").split()[1]
    for address in (STRANGER, PROBER):
        lab.peer.ip(f"addr add {address}/24 dev {device}")
    with ExitStack() as stack:
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer))
        plane.client.apply(
            [
                {"source": "mesh.yaml", "text": entry("web", lab.host.v4, "host1")},
                {"source": "mesh.yaml", "text": entry("client", lab.peer.v4, "host2")},
            ],
            dry_run=False,
        )
        agents = stack.enter_context(
            enrolled_agents(
                lab,
                plane,
                tmp_path,
                ("web", "client"),
                lambda name: {"workers": 1, "network_policy": {"enforce": name == "web"}},
                f"probes: [{{port: 8080, from: [{PROBER}/32]}}]\n",
            )
        )
        for port in (8080, 9090):
            _serve(lab, lab.listen(lab.host, "::", port, lab.a), stack)
        yield Mesh(lab, plane, *agents)


def _serve(lab: Lab, listener: socket.socket, stack: ExitStack) -> None:
    """Say hello to everybody."""
    program = (
        "import socket,sys\n"
        f"listener=socket.socket(fileno={listener.fileno()})\n"
        "listener.settimeout(None)\n"
        "while True:\n connection=listener.accept()[0]\n connection.send(b'hello')\n connection.close()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[listener.fileno()])
    stack.callback(process.wait)
    stack.callback(process.kill)


def test_from_the_control_plane_to_the_kernel(mesh: Mesh) -> None:
    """Plaintext is refused by the kernel, the mesh gets through to the port that was meant; removal opens again."""
    assert mesh.reaches(8080)
    assert f"table inet {TABLE}" in mesh.rules()
    mesh.apply(document("NetworkPolicy", POLICY, "name: web, namespace: prod"))
    until(lambda: "chain in.prod.web" in mesh.rules())
    assert not mesh.reaches(8080)
    assert not mesh.reaches(9090)
    assert mesh.meshed(8080) == b"hello"
    assert mesh.meshed(9090) == b""
    until(lambda: mesh.web.counter("hostmesh_network_policy_dropped_packets_total") > 0)
    until(lambda: "NetworkPolicy prod/web: " in mesh.web.log)
    assert mesh.probe(8080) == b"hello"
    assert not mesh.reaches(9090, PROBER)
    until(lambda: mesh.web.counter("hostmesh_probe_connections_total") == 1)
    explained = mesh.lab.host.run(sys.executable, "-m", "hostmesh", "netpol", "explain", "prod/web")
    assert "ip saddr { 10.77.0.1 } tcp dport { 8080, 15008 } return    # prod/web ingress[0]" in explained
    assert "not to port 8080" in explained
    assert "WARNING" not in explained
    assert json.loads(mesh.web.get(15000, "/status"))["networkPolicy"]["isolated"][0]["policies"] == ["prod/web"]

    mesh.lab.host.run("nft", "flush", "ruleset")
    until(lambda: "chain in.prod.web" in mesh.rules())
    assert not mesh.reaches(8080)

    mesh.apply(entry("second", STRANGER, "host3").replace("app: second", "app: client"))
    until(lambda: STRANGER in mesh.rules())
    assert mesh.reaches(8080)
    mesh.plane.client.delete("NetworkPolicy", "prod", "web", dry_run=False)
    until(lambda: "chain in.prod.web" not in mesh.rules())
    assert mesh.reaches(9090)


def test_what_is_known_outlives_the_control_plane_and_the_agent(mesh: Mesh) -> None:
    """A start without the control plane has the policies of before; a host that opts out has no rule left."""
    mesh.apply(document("NetworkPolicy", POLICY, "name: web, namespace: prod"))
    until(lambda: "chain in.prod.web" in mesh.rules())
    mesh.plane.stop()
    mesh.web.process.terminate()
    mesh.web.process.wait()
    assert not mesh.reaches(8080)
    mesh.lab.host.run("nft", "delete", "table", "inet", TABLE)
    start(mesh.web)
    assert not mesh.reaches(8080)
    settings = json.loads(mesh.web.config.read_text())
    mesh.web.config.write_text(json.dumps({**settings, "network_policy": {"enforce": False}}))
    mesh.web.reload()
    until(lambda: TABLE not in mesh.rules())
    assert mesh.reaches(8080)
