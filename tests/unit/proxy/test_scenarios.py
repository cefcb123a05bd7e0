"""Scenarios of ztunnel's namespaced tests that need more than two ends; see docs/ztunnel-scenarios.md."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h2.events
import pytest
from tests.support.hbone_peer import Peer, PeerServer
from tests.support.pki import BOB
from tests.support.proxy import Mesh, fresh_ip, receive_all, workload

from hostmesh.model.address import NamespacedHostname, NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.workload import GatewayAddress
from hostmesh.telemetry.metrics import OPENED

WAYPOINT = Identity("cluster.local", "default", "waypoint")
VIP = "10.9.9.9"
TABLE = Path(__file__).parents[3] / "docs" / "ztunnel-scenarios.md"


class Endpoint:
    """Speaks HBONE in a foreign tongue, says its name on every stream, remembers what it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, peer: Peer, number: int) -> None:
        del number
        while True:
            request = peer.wait(h2.events.RequestReceived)
            assert isinstance(request, h2.events.RequestReceived)
            with self._lock:
                self.asked.append(dict(request.headers)[":authority"])  # type: ignore[arg-type]
            peer.h2.send_headers(request.stream_id, [(":status", "200")])
            peer.send(request.stream_id, self.name.encode(), end=True)


def call(mesh: Mesh) -> bytes:
    """What answers at the client's destination."""
    with mesh.dial() as sock:
        sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)


def test_a_service_spreads_its_connections() -> None:
    """Fifty connections to a VIP reach both endpoints, each with its own port; all of them count for the service."""
    ips = [fresh_ip(), fresh_ip()]
    ends = [Endpoint("one"), Endpoint("two")]
    service = Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip(VIP)),), ports={80: 8080})
    identities = [replace_account(end.name) for end in ends]
    with Mesh() as mesh:
        servers = [
            PeerServer(ip, mesh.authority.issue(identity), end)
            for ip, identity, end in zip(ips, identities, ends, strict=True)
        ]
        mesh.client.put(service)
        for number, (ip, identity, end) in enumerate(zip(ips, identities, ends, strict=True)):
            ports = {service.namespaced_hostname: {80: 8080 + number}}
            mesh.client.put(replace(workload(end.name, identity, ip), services=ports))
        mesh.client.destination = SocketAddress.of(VIP, 80)
        answers = Counter(call(mesh) for _ in range(50))
        assert set(answers) == {b"one", b"two"}
        assert {authority for end in ends for authority in end.asked} == {f"{ips[0]}:8080", f"{ips[1]}:8081"}
        mesh.client.main.wait_logs(50)
        counted = mesh.client.samples(OPENED)
        assert sum(value for _, value in counted) == 50
        assert {labels["destination_service"] for labels, _ in counted} == {"shop.lab"}
        assert {labels["destination_workload"] for labels, _ in counted} == {"one", "two"}
    for server in servers:
        server.close()


def replace_account(name: str) -> Identity:
    """An identity of the lab's namespace."""
    return replace(BOB, service_account=name)


@pytest.mark.parametrize("named", ["address", "hostname"])
@pytest.mark.parametrize("of", ["service", "workload"])
def test_a_service_is_reached_through_its_waypoint(of: str, named: str) -> None:
    """The next hop is the waypoint with its own identity, and is asked for what the client wanted, untouched."""
    ip, waypoint = fresh_ip(), Endpoint("waypoint")
    with Mesh() as mesh:
        server = PeerServer(ip, mesh.authority.issue(WAYPOINT), waypoint)
        key = NamespacedHostname("default", "waypoint.lab")
        infra = Service("waypoint", "default", "waypoint.lab", ports={15008: 15008})
        where = NetworkAddress("lab", parse_ip(ip)) if named == "address" else key
        gateway = GatewayAddress(where, 15008)
        service = Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip(VIP)),), ports={80: 8080})
        bob = replace(mesh.bob, services={service.namespaced_hostname: {80: 8080}})
        if of == "service":
            service = replace(service, waypoint=gateway)
            wanted = f"{VIP}:80"
        else:
            bob = replace(bob, waypoint=gateway)
            wanted = f"{mesh.ip}:8080"
        own = replace(workload("waypoint", WAYPOINT, ip), services={key: {15008: 15008}})
        mesh.client.put(infra, own, service, bob)
        mesh.client.destination = SocketAddress.parse(wanted)
        assert call(mesh) == b"waypoint"
        assert waypoint.asked == [wanted]
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert fields["dst.addr"] == f"{ip}:15008"
        assert fields["dst.hbone_addr"] == wanted
        assert (fields["dst.workload"], fields["dst.identity"]) == ("waypoint", str(WAYPOINT))
        assert fields.get("dst.service") == ("shop.lab" if of == "service" else None)
    server.close()


def test_every_scenario_names_a_test_that_exists() -> None:
    """The table of scenarios is kept: a test that is renamed or removed is missed there."""
    root = TABLE.parents[1]
    heads = ("| Scenario |", "| Rule |", "| Input |", "| Difference |", "|---|")
    rows = [row for row in TABLE.read_text().splitlines() if row.startswith("|") and not row.startswith(heads)]
    assert len(rows) > 150
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert tests or "Left out: " in row, row
        for path, name in tests:
            assert re.search(rf"^(?:async )?def {name}\(", (root / path).read_text(), re.MULTILINE), (path, name)


def test_every_difference_has_a_test() -> None:
    """What is meant to be otherwise must not become so, or cease to be so, by chance."""
    _, _, table = TABLE.read_text().partition("\n## Differences\n")
    begins = [
        words for row in table.splitlines() if row.startswith("| ") for words in row.split(" | ")[0][2:].split("<br>")
    ]
    page = TABLE.with_name("ztunnel-differences.md").read_text().replace("**", "")
    differences = [
        " ".join(one.split()) for one in re.findall(r"^- (.*?)(?=^- |^$|\Z)", page, re.MULTILINE | re.DOTALL)
    ]
    assert len(differences) > 90
    for one in differences:
        assert [words for words in begins if one.startswith(words)], one
    for words in begins[1:]:
        assert [one for one in differences if one.startswith(words)], words
