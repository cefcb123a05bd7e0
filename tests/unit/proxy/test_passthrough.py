"""Plaintext that arrives at a captured workload: judged without an identity, delivered where it was going."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest
from tests.support.patience import PATIENCE
from tests.support.proxy import CONFIG, Mesh, assert_reset, echo, receive_all, workload

from hostmesh.model.address import SocketAddress
from hostmesh.model.authorization import Action, Authorization, Match, PolicyScope, StringMatch, StringMatchKind
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.workload import Workload
from hostmesh.telemetry.metrics import CLOSED, OPENED, RECEIVED, SENT

STRICT = Authorization(
    "strict",
    "default",
    PolicyScope.NAMESPACE,
    Action.DENY,
    (((Match(not_principals=(StringMatch(StringMatchKind.PRESENCE),)),),),),
)
"""What PeerAuthentication STRICT becomes."""


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as made:
        made.plaintext = made.server.listen("inbound_plaintext", made.ip)  # type: ignore[attr-defined]
        yield made


def dial(mesh: Mesh, port: int) -> socket.socket:
    mesh.server.destination = SocketAddress.of(mesh.ip, port)
    plaintext: SocketAddress = mesh.plaintext  # type: ignore[attr-defined]
    sock = socket.create_connection((str(plaintext.ip), plaintext.port), PATIENCE)
    mesh.thread.call(lambda: None)
    return sock


def test_plaintext_is_delivered_and_counted_as_such(mesh: Mesh) -> None:
    """No identity, no mTLS; the source is known by its address only."""
    with mesh.app(lambda sock: sock.sendall(receive_all(sock) * 2)) as app, dial(mesh, app.port) as sock:
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"abcabc"
        fields = dict(mesh.server.main.wait_logs(1)[0].fields)
    assert (fields["bytes_sent"], fields["bytes_recv"], fields["direction"]) == (6, 3, "inbound")
    assert fields["dst.addr"] == f"{mesh.ip}:{app.port}"
    assert "src.identity" not in fields
    ((labels, _),) = mesh.server.samples(OPENED)
    assert (labels["connection_security_policy"], labels["source_principal"]) == ("unknown", "unknown")
    assert labels["source_workload"] == "alice"
    assert (mesh.server.total(RECEIVED), mesh.server.total(SENT)) == (3, 6)


def test_strict_mtls_refuses_it(mesh: Mesh) -> None:
    """A policy that denies who has no principal; the application never hears of it."""
    mesh.server.put(STRICT)
    with mesh.app(echo) as app:
        assert_reset(lambda: dial(mesh, app.port))
        assert app.accepted == 0
    fields = dict(mesh.server.main.wait_logs(1)[0].fields)
    assert "explicitly denied by: default/strict" in str(fields["error"])
    ((labels, _),) = mesh.server.samples(CLOSED)
    assert (labels["response_flags"], labels["authorization_policy"]) == ("DENY", "default/strict")


def test_policies_judge_who_connects_and_where_to(mesh: Mesh) -> None:
    """The client's address and the port that it meant."""
    with mesh.app(echo) as app:
        for match, denied in (
            (Match(source_ips=(ip_network("127.0.0.1"),)), True),
            (Match(source_ips=(ip_network(mesh.ip),)), False),
            (Match(destination_ips=(ip_network(mesh.ip),), destination_ports=(app.port,)), True),
            (Match(destination_ports=(15006,)), False),
        ):
            mesh.server.put(replace(STRICT, rules=(((match,),),)))
            if denied:
                assert_reset(lambda: dial(mesh, app.port))
            else:
                with dial(mesh, app.port) as sock:
                    sock.sendall(b"a")
                    assert sock.recv(1) == b"a"


def test_strictness_that_comes_later_ends_it(mesh: Mesh) -> None:
    """Live connections are judged again."""
    with mesh.app(echo) as app, dial(mesh, app.port) as sock:
        sock.sendall(b"a")
        assert sock.recv(1) == b"a"
        mesh.server.put(STRICT)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    fields = dict(mesh.server.main.wait_logs(1)[0].fields)
    assert str(fields["error"]).startswith("connection closed due to policy change")
    assert (fields["bytes_sent"], fields["bytes_recv"]) == (1, 1)


def test_a_refused_port_resets_the_client(mesh: Mesh) -> None:
    """As without a proxy."""
    with socket.create_server((mesh.ip, 0)) as closed:
        port = closed.getsockname()[1]
    assert_reset(lambda: dial(mesh, port))
    assert dict(mesh.server.main.wait_logs(1)[0].fields)["response_flags"] == "CONNECT"


@pytest.mark.parametrize("port", [15001, 15006, 15008])
def test_the_proxys_own_ports_are_refused(mesh: Mesh, port: int) -> None:
    """On any address."""
    assert_reset(lambda: dial(mesh, port))
    assert dict(mesh.server.main.wait_logs(1)[0].fields)["error"] == "attempted recursive call to ourselves"


def test_an_unknown_workload_is_refused() -> None:
    """Without a workload there are no policies, so there is no connection."""
    with Mesh(server_config=replace(CONFIG, certificate_wait=0.05)) as mesh:
        mesh.plaintext = mesh.server.listen("inbound_plaintext", mesh.ip)  # type: ignore[attr-defined]
        mesh.server.number = 7
        assert_reset(lambda: dial(mesh, 80))
        assert "no captured workload has the number 7" in str(mesh.server.main.wait_logs(1)[0].fields)


def late(mesh: Mesh) -> Workload:
    """A workload that is captured and that nobody has described yet; the next connection is for it."""
    identity = Identity("cluster.local", "default", "late")
    captured = LocalWorkload(5, "late", "default", identity, "late.service")
    mesh.server.call(lambda: mesh.server.server.set_local_workloads([captured]))
    mesh.server.number = 5
    return workload("late", identity, mesh.ip)


def test_a_workload_that_is_described_late_gets_what_waited(mesh: Mesh) -> None:
    """The first connection to a unit may come before the control plane's push; it counts as the unit's."""
    described = late(mesh)
    with mesh.app(echo) as app, dial(mesh, app.port) as sock:
        sock.sendall(b"patient")
        mesh.thread.settle()
        assert (app.accepted, mesh.server.main.records) == (0, [])
        mesh.server.put(described)
        assert sock.recv(7) == b"patient"
        ((labels, _),) = mesh.server.samples(OPENED)
        assert labels["destination_workload"] == "late"


def test_a_workload_that_is_described_late_is_protected_by_what_came_with_it(mesh: Mesh) -> None:
    """Nobody slips in because its policies were not there yet."""
    described = replace(late(mesh), authorization_policies=("default/strict",))
    with mesh.app(echo) as app:
        with dial(mesh, app.port) as sock:
            mesh.server.put(described, replace(STRICT, scope=PolicyScope.WORKLOAD_SELECTOR))
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert app.accepted == 0


def test_it_is_listed_while_it_is_open(mesh: Mesh) -> None:
    """For the admin."""
    with mesh.app(echo) as app, dial(mesh, app.port) as sock:
        sock.sendall(b"a")
        sock.recv(1)
        (listed,) = mesh.server.call(mesh.server.server.connections)
        assert (listed.direction, listed.protocol, listed.workload) == ("inbound", "TCP", "lab//bob")
