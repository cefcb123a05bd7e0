"""Ports of a host that are no workload's: the word of the host's own proxy, and what the client makes of it."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from tests.support.addresses import fresh_ip
from tests.support.pki import ALICE, BOB
from tests.support.proxy import Mesh, assert_reset, echo, workload

from hostmesh.model.address import SocketAddress
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.model.trust import TrustBundle
from hostmesh.telemetry.metrics import CLOSED

DENY_ALL = Authorization("closed", "default", PolicyScope.NAMESPACE, Action.DENY, ((),))


@pytest.fixture
def closed(mesh: Mesh) -> int:
    """A port of bob's host where his proxy is refused: as the guard refuses it at somebody else's listener."""
    with socket.create_server((mesh.ip, 0)) as listener:
        return int(listener.getsockname()[1])


def hosts(mesh: Mesh, *ports: int) -> None:
    """Main has seen somebody there who is no workload."""
    bob = LocalWorkload(1, "bob", "default", BOB, "bob.service")
    mesh.server.call(lambda: mesh.server.server.set_local_workloads([bob], ports))


def outcome(mesh: Mesh) -> dict[str, object]:
    return dict(mesh.client.main.wait_logs(1)[-1].fields)


def test_the_hosts_own_port_is_passed_through_to(mesh: Mesh, closed: int) -> None:
    """Dialled as if nobody of the mesh were there, and counted so."""
    hosts(mesh, closed)
    assert_reset(lambda: mesh.connect(closed))
    assert outcome(mesh)["dst.addr"] == f"{mesh.ip}:{closed}"
    assert str(outcome(mesh)["error"]).startswith("io error: Connection refused")
    ((labels, _),) = mesh.client.samples(CLOSED)
    assert (labels["connection_security_policy"], labels["destination_workload"]) == ("unknown", "unknown")


def test_a_port_where_nobody_listens_is_not(mesh: Mesh, closed: int) -> None:
    """An application that restarts must not be called in plaintext meanwhile."""
    assert_reset(lambda: mesh.connect(closed))
    assert outcome(mesh)["error"] == "http status: 503 Service Unavailable, the peer says APPLICATION_REFUSED"
    assert outcome(mesh)["dst.hbone_addr"] == f"{mesh.ip}:{closed}"


def test_a_registered_port_is_never_passed_through_to(mesh: Mesh, closed: int) -> None:
    """Whatever the host says."""
    service = Service("shop", "default", "shop.lab", ports={80: closed})
    mesh.client.put(service, replace(mesh.bob, services={service.namespaced_hostname: {80: closed}}))
    hosts(mesh, closed)
    assert_reset(lambda: mesh.connect(closed))
    assert outcome(mesh)["error"] == "http status: 503 Service Unavailable"


def test_nor_is_any_port_for_who_may_reach_the_mesh_only(mesh: Mesh, closed: int) -> None:
    """OutboundTrafficPolicy REGISTRY_ONLY: the host's word changes nothing."""
    alice = LocalWorkload(1, "alice", "default", ALICE, "alice.service", registry_only=True)
    mesh.client.call(lambda: mesh.client.server.set_local_workloads([alice]))
    hosts(mesh, closed)
    assert_reset(lambda: mesh.connect(closed))
    assert outcome(mesh)["error"] == "http status: 503 Service Unavailable"


def test_policies_of_the_workload_are_not_the_hosts(mesh: Mesh, closed: int) -> None:
    """Who may not call the workload may still reach its host: the guard says that the port is another's."""
    mesh.server.put(DENY_ALL)
    hosts(mesh, closed)
    assert_reset(lambda: mesh.connect(closed))
    assert str(outcome(mesh)["error"]).startswith("io error: Connection refused")


def test_but_who_is_denied_never_reaches_the_workload_this_way(mesh: Mesh) -> None:
    """Main is mistaken, the port is the workload's: the kernel lets the proxy through, so the policy counts."""
    mesh.server.put(DENY_ALL)
    with mesh.app(echo) as app:
        hosts(mesh, app.port)
        assert_reset(lambda: mesh.connect(app.port))
        assert outcome(mesh)["error"] == "http status: 401 Unauthorized, the peer says POLICY_DENIED"


def test_the_workloads_own_port_goes_on_as_ever(mesh: Mesh) -> None:
    """What main says matters only where the proxy is refused."""
    with mesh.app(echo) as app:
        hosts(mesh, app.port)
        with mesh.connect(app.port) as sock:
            sock.sendall(b"hi")
            assert sock.recv(2) == b"hi"
        assert outcome(mesh)["dst.identity"] == str(BOB)


CAROL = Identity("cluster.local", "default", "carol")


def test_neighbours_at_one_address_are_tried_one_after_the_other(mesh: Mesh) -> None:
    """Neither has registered the port: bob's proxy does not get there, carol's does. The log names her."""
    carol = workload("carol", CAROL, mesh.ip)
    mesh.client.put(carol)
    mesh.server.put(carol, replace(mesh.bob, authorization_policies=("default/not-bob",)))
    mesh.server.put(Authorization("not-bob", "default", PolicyScope.WORKLOAD_SELECTOR, Action.DENY, ((),)))
    here = [
        LocalWorkload(1, "bob", "default", BOB, "bob.service"),
        LocalWorkload(2, "carol", "default", CAROL, "carol.service"),
    ]
    mesh.server.call(lambda: mesh.server.server.set_local_workloads(here))
    with mesh.app(echo) as app:
        for _ in range(2):
            with mesh.connect(app.port) as sock:
                sock.sendall(b"hi")
                assert sock.recv(2) == b"hi"
        records = mesh.client.main.wait_logs(2)
    assert [dict(record.fields)["dst.identity"] for record in records] == [str(CAROL)] * 2
    ((labels, count),) = mesh.client.samples(CLOSED)
    assert (labels["destination_workload"], count) == ("carol", 2)


def test_a_neighbour_that_cannot_prove_itself_does_not_stand_in_the_way(mesh: Mesh) -> None:
    """Bob is revoked, carol is not: what asks for a port that neither has registered gets to carol's."""
    carol = workload("carol", CAROL, mesh.ip)
    for host in (mesh.client, mesh.server):
        host.put(carol)
        bundle = TrustBundle("cluster.local", mesh.authority.pem, frozenset(), frozenset({BOB}))
        host.call(lambda host=host, bundle=bundle: host.server.set_trust(bundle))  # type: ignore[misc]
    here = [
        LocalWorkload(1, "bob", "default", BOB, "bob.service"),
        LocalWorkload(2, "carol", "default", CAROL, "carol.service"),
    ]
    mesh.server.call(lambda: mesh.server.server.set_local_workloads(here))
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"hi")
        assert sock.recv(2) == b"hi"
    assert outcome(mesh)["dst.identity"] == str(CAROL)


def test_a_host_that_cannot_be_reached_is_not_dialled_again_for_a_neighbour(mesh: Mesh) -> None:
    """Nobody answers there, whoever was meant: what a timeout costs is paid once."""
    ip = fresh_ip()
    mesh.client.put(workload("walled", BOB, ip), workload("walled-too", CAROL, ip))
    mesh.client.destination = SocketAddress.of(ip, 80)
    assert_reset(mesh.dial)
    assert outcome(mesh)["error"] == "io error: Connection refused (os error 111)"
    assert outcome(mesh)["dst.identity"] == str(BOB)


def test_when_no_neighbour_gets_there_the_last_refusal_counts(mesh: Mesh, closed: int) -> None:
    """One connection, one record."""
    carol = workload("carol", CAROL, mesh.ip)
    mesh.client.put(carol)
    mesh.server.put(carol)
    here = [
        LocalWorkload(1, "bob", "default", BOB, "bob.service"),
        LocalWorkload(2, "carol", "default", CAROL, "carol.service"),
    ]
    mesh.server.call(lambda: mesh.server.server.set_local_workloads(here))
    assert_reset(lambda: mesh.connect(closed))
    assert outcome(mesh)["error"] == "http status: 503 Service Unavailable, the peer says APPLICATION_REFUSED"
    assert sum(count for _, count in mesh.client.samples(CLOSED)) == 1


def test_in_a_network_namespace_of_its_own_a_workload_has_no_neighbours(mesh: Mesh, closed: int) -> None:
    """The host's listeners are elsewhere: a port where nobody listens there is refused."""
    hosts(mesh, closed)
    inbound = mesh.server.server._host.inbound
    inbound.context = replace(inbound.context, namespace=1)
    assert_reset(lambda: mesh.connect(closed))
    assert outcome(mesh)["error"] == "http status: 503 Service Unavailable, the peer says APPLICATION_REFUSED"
