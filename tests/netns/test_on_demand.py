"""Two hosts that follow the mesh on demand: whole agents and a control plane, asked when a connection needs it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dns.message
import dns.query
import dns.rcode
import pytest
from tests.netns.two_hosts import enrolled_agents, entry
from tests.support.agent import RunningAgent, until
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document
from tests.support.netns import comes

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

STRANGER, UNKNOWN, OTHERS = "10.77.0.33", "10.77.0.34", 50


@dataclass
class Mesh:
    """prod/client is captured on the host, prod/web on its peer, where the control plane is; others are elsewhere."""

    lab: Lab
    plane: RunningControlPlane
    client: RunningAgent
    web: RunningAgent

    def call(self, address: str) -> socket.socket:
        """As prod/client."""
        return self.lab.connect(self.lab.host, (address, 8080), self.lab.a)

    def ask(self, name: str) -> tuple[str, list[str]]:
        """As the host's resolver: the answer's code, and the addresses in it."""
        with self.lab.host.entered():
            found = dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", port=15053, timeout=10)
        return dns.rcode.to_text(found.rcode()), [item.to_text() for each in found.answer for item in each]

    def holds(self) -> list[str]:
        """Workloads that the client's agent knows."""
        return sorted(one["name"] for one in json.loads(self.client.get(15000, "/config_dump"))["workloads"])


@pytest.fixture
def mesh(lab: Lab, tmp_path: Path) -> Iterator[Mesh]:
    device = lab.peer.run("ip", "-o", "-4", "addr", "show", "scope", "global").split()[1]
    for address in (STRANGER, UNKNOWN):
        lab.peer.ip(f"addr add {address}/24 dev {device}")
    with ExitStack() as stack:
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer))
        texts = [entry("client", lab.host.v4, "host1"), entry("web", lab.peer.v4, "host2")]
        texts += [entry(f"other{number}", f"10.99.0.{number}", "host3") for number in range(OTHERS)]
        shop = "hosts: [shop.lab]\nresolution: STATIC\nlocation: MESH_INTERNAL\nports: [{number: 8080, name: tcp}]\n"
        texts.append(
            document("ServiceEntry", f"{shop}workloadSelector: {{labels: {{app: web}}}}", "name: shop, namespace: prod")
        )
        plane.client.apply([{"source": "mesh.yaml", "text": text} for text in texts], dry_run=False)
        settings = {"workers": 2, "dns": {"enabled": True, "domains": ["lab"]}}
        names, variables = ("client", "web"), {"XDS_ON_DEMAND": "true"}
        agents = stack.enter_context(
            enrolled_agents(lab, plane, tmp_path, names, lambda _: settings, variables=variables)
        )
        yield Mesh(lab, plane, *agents)


def test_whom_a_connection_needs_is_asked_for_and_nobody_else(mesh: Mesh) -> None:
    """Tunnels and plaintext by what the control plane says; while it says nothing, nothing leaves."""
    lab = mesh.lab
    assert mesh.holds() == ["client"]
    web = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
    stranger = lab.listen(lab.peer, STRANGER, 8080, lab.other)
    unknown = lab.listen(lab.peer, UNKNOWN, 8080, lab.other)

    first = mesh.call(lab.peer.v4)
    first.sendall(b"hello")
    with lab.accept(web) as served:
        assert served.recv(5) == b"hello"
    first.close()
    until(lambda: 'src.identity="spiffe://cluster.local/ns/prod/sa/client"' in mesh.web.log)
    assert mesh.holds() == ["client", "web"]

    mesh.call(STRANGER).sendall(b"plain")
    assert lab.accept(stranger).recv(5) == b"plain"
    assert mesh.holds() == ["client", "web"]
    assert mesh.client.counter("istio_on_demand_addresses_total") >= 4  # each of the two is asked for and answered

    mesh.plane.process.send_signal(signal.SIGSTOP)
    with pytest.raises(ConnectionResetError):
        mesh.call(UNKNOWN).recv(1)
    assert not comes(unknown)
    until(lambda: f"the control plane has not said in time whose /{UNKNOWN} is" in mesh.client.log)
    mesh.call(lab.peer.v4).sendall(b"known")
    assert lab.accept(web).recv(5) == b"known"
    mesh.call(STRANGER).sendall(b"known")
    assert lab.accept(stranger).recv(5) == b"known"

    mesh.plane.process.send_signal(signal.SIGCONT)
    mesh.call(UNKNOWN).sendall(b"plain")
    assert lab.accept(unknown).recv(5) == b"plain"


def test_a_name_is_asked_for_when_somebody_looks_it_up(mesh: Mesh) -> None:
    """Its service is known then, and what it leads to; that nobody has a name only the control plane can say."""
    assert mesh.holds() == ["client"]
    code, (vip,) = mesh.ask("shop.lab")
    assert code == "NOERROR"
    assert mesh.holds() == ["client", "web"]
    assert mesh.ask("nobody.lab") == ("NXDOMAIN", [])

    web = mesh.lab.listen(mesh.lab.peer, mesh.lab.peer.v4, 8080, mesh.lab.b)
    mesh.lab.host.ip(f"route add {vip} via {mesh.lab.peer.v4}")
    call = mesh.call(vip)
    call.sendall(b"hello")
    with mesh.lab.accept(web) as served:
        assert served.recv(5) == b"hello"
    call.close()
    until(lambda: 'src.identity="spiffe://cluster.local/ns/prod/sa/client"' in mesh.web.log)

    mesh.plane.process.send_signal(signal.SIGSTOP)
    assert mesh.ask("shop.lab") == ("NOERROR", [vip])
    assert mesh.ask("nobody.lab") == ("NXDOMAIN", [])
    assert mesh.ask("other.lab") == ("SERVFAIL", [])
    mesh.plane.process.send_signal(signal.SIGCONT)
    until(lambda: mesh.ask("other.lab") == ("NXDOMAIN", []))
