"""Ways around a waypoint: closed by agents, by the waypoint itself, and by policies that say so."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.behind_waypoint import GATEWAY, Front, Services, services
from tests.support.documents import document
from tests.support.hbone_peer import dial
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE
from tests.support.proxy import fresh_ip

pytestmark = pytest.mark.interop


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as made:
        made.http("web")
        yield made


def through_the_agent(front: Front, service: str = "web") -> bytes:
    """The first line that an application of alice gets when it asks a service; nothing if it is cut off."""
    where = front.captured(service)
    try:
        with socket.create_connection((str(where.ip), where.port), timeout=PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
            return sock.makefile("rb").readline().strip()
    except ConnectionError:
        return b""


def straight(mesh: Services) -> int:
    """The status of alice's own CONNECT to the endpoint, as an agent that knows of no waypoint would send it."""
    credentials = mesh.mesh.authority.issue(ALICE)
    with dial((mesh.mesh.ip, 15008), credentials, credentials.roots_pem) as peer:
        stream = peer.connect(f"{mesh.mesh.ip}:{mesh.apps['web'].port}")
        return int(peer.answer(stream)[":status"])


ONLY_THE_WAYPOINT = document(
    "AuthorizationPolicy",
    "rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/waypoint]}}]}]",
    "name: only-the-waypoint",
)


def test_an_endpoint_refuses_who_comes_past_the_waypoint_where_its_policy_says_so(mesh: Services) -> None:
    """The endpoint's agent sees the waypoint's identity; a policy that names nobody else leaves one way in."""
    with mesh.waypoint() as front:
        assert straight(mesh) == 200
        mesh.mesh.server.put(*mesh.told(ONLY_THE_WAYPOINT).authorizations)
        assert straight(mesh) == 401
        assert through_the_agent(front) == b"HTTP/1.1 200 OK"
        asked = mesh.apps["web"].next()
        assert (asked.app, mesh.apps["web"].asked.empty()) == ("web", True)


def test_an_agent_does_not_go_around_a_waypoint_that_is_gone(mesh: Services) -> None:
    """The connection is refused, although the endpoint is there and would answer."""
    with mesh.waypoint() as front:
        assert through_the_agent(front) == b"HTTP/1.1 200 OK"
    assert through_the_agent(front) == b""
    assert mesh.apps["web"].asked.qsize() == 1


def test_an_agent_takes_the_address_of_a_workload_to_its_waypoint(mesh: Services) -> None:
    """Of any port; and nowhere else when the waypoint is gone."""
    mesh.gateway = GATEWAY.replace("name: wp}", "name: wp, labels: {istio.io/waypoint-for: workload}}")
    workloads = document("Namespace", "", "name: default, labels: {istio.io/use-waypoint: wp}")
    no_post = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]\naction: DENY\n"
        "rules: [{to: [{operation: {methods: [POST]}}]}]",
        "name: p",
    )
    client = mesh.mesh.client

    def ask(method: str) -> bytes:
        try:
            with mesh.mesh.connect(mesh.apps["web"].port) as sock:
                sock.sendall(f"{method} / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n".encode())
                return sock.makefile("rb").readline().strip()
        except ConnectionError:
            return b""

    with mesh.waypoint(workloads, no_post):
        told = {workload.name: workload for workload in mesh.told(workloads).workloads}
        client.put(told["wp1"], replace(mesh.mesh.bob, waypoint=told["web-1"].waypoint))
        assert [ask("GET"), ask("POST")] == [b"HTTP/1.1 200 OK", b"HTTP/1.1 403 Forbidden"]
    assert ask("GET") == b""
    assert mesh.apps["web"].asked.qsize() == 1


def test_a_waypoint_serves_only_what_uses_it(mesh: Services) -> None:
    """Not services of another waypoint or of none, not their endpoints, not the rest of the network."""
    mesh.http("free", behind="")
    mesh.http("elsewhere", behind="other")
    other = GATEWAY.replace("name: wp", "name: other")
    host = document(
        "WorkloadEntry",
        f"address: {fresh_ip()}\nserviceAccount: waypoint",
        "name: other1, labels: {hostmesh.io/node: n8, gateway.networking.k8s.io/gateway-name: other}",
    )
    # free is a backend of a route here, which does not make it a service of this waypoint
    route = document(
        "HTTPRoute",
        "parentRefs: [{group: '', kind: Service, name: web}]\nrules: [{backendRefs: [{name: free, port: 80}]}]",
        "name: r",
    )
    with mesh.waypoint(route, other, host) as front:
        assert front.ask("web").brief == (200, "free")
        alice = front.client()
        refused = [
            f"{mesh.vips['free']}:80",
            f"{mesh.vips['elsewhere']}:80",
            "free.default.svc.cluster.local:80",
            f"{mesh.mesh.ip}:{mesh.apps['web'].port}",
            f"{mesh.vips['web']}:81",
            "127.0.0.1:22",
            "nonsense",
        ]
        assert {authority: alice.tunnel(authority)[1] for authority in refused} == dict.fromkeys(refused, 404)


def _connect(ip: str, roots: bytes) -> None:
    with dial((ip, 15008), None, roots) as peer:
        peer.answer(peer.connect("10.96.0.1:80"))


def test_it_accepts_nobody_without_a_certificate_of_the_mesh(mesh: Services) -> None:
    """Neither plaintext nor TLS without a client certificate gets as far as a request."""
    with mesh.waypoint() as front:
        with socket.create_connection((front.running.ip, 15008), timeout=PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
            assert sock.recv(100) == b""
        roots = mesh.mesh.authority.issue(ALICE).roots_pem
        with pytest.raises((ConnectionError, ssl.SSLError)):  # in TLS 1.3 the client is through before it is judged
            _connect(front.running.ip, roots)
