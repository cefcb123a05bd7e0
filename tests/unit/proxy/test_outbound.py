"""Captured connections: who calls, where they go, and how every refusal looks."""

from __future__ import annotations

import select
import socket
from dataclasses import replace

import pytest
from tests.support.hbone_peer import context
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority, now
from tests.support.proxy import CONFIG, App, Mesh, assert_reset, echo, fresh_ip, workload

from hostmesh.model.address import NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.model.workload import Protocol
from hostmesh.telemetry.metrics import CLOSED, OPENED, RECEIVED, SENT


def error_of(mesh: Mesh) -> str:
    return str(dict(mesh.client.main.wait_logs(1)[0].fields)["error"])


def test_a_service_is_reached_by_its_vip(mesh: Mesh) -> None:
    """The VIP is nobody's address: only the mesh knows the way; the forwarded host names the service there."""
    with mesh.app(echo) as app:
        vip = NetworkAddress("lab", parse_ip("10.9.9.9"))
        service = Service("shop", "default", "shop.lab", (vip,), ports={80: app.port})
        bob = replace(mesh.bob, services={service.namespaced_hostname: {80: app.port}})
        for host in (mesh.client, mesh.server):
            host.put(service, bob)
        mesh.client.destination = SocketAddress.of("10.9.9.9", 80)
        with mesh.dial() as sock:
            sock.sendall(b"hi")
            assert sock.recv(2) == b"hi"
        for host in (mesh.client, mesh.server):
            ((labels, _),) = host.samples(OPENED)
            assert (labels["destination_service"], labels["destination_service_name"]) == ("shop.lab", "shop")
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert fields["dst.service"] == "shop.lab"
        assert fields["dst.hbone_addr"] == f"{mesh.ip}:{app.port}"


def test_who_nobody_in_the_mesh_knows_is_passed_through(mesh: Mesh) -> None:
    """Plain TCP to the original destination; counted without a destination and without mTLS."""
    ip = fresh_ip()
    with App(ip, echo) as app:
        mesh.client.destination = SocketAddress.of(ip, app.port)
        with mesh.dial() as sock:
            sock.sendall(b"plain")
            assert sock.recv(5) == b"plain"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
    assert fields["dst.addr"] == f"{ip}:{app.port}"
    assert "dst.hbone_addr" not in fields
    assert "src.identity" not in fields
    ((labels, _),) = mesh.client.samples(CLOSED)
    assert (labels["connection_security_policy"], labels["destination_workload"]) == ("unknown", "unknown")
    assert mesh.client.total(RECEIVED) == mesh.client.total(SENT) == 5


def test_a_workload_without_hbone_is_reached_in_plaintext(mesh: Mesh) -> None:
    """Its identity is labelled, but nothing is claimed about security."""
    ip = fresh_ip()
    legacy = replace(workload("legacy", BOB, ip), protocol=Protocol.TCP)
    mesh.client.put(legacy)
    with App(ip, echo) as app:
        mesh.client.destination = SocketAddress.of(ip, app.port)
        with mesh.dial() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        mesh.client.main.wait_logs(1)
    ((labels, _),) = mesh.client.samples(OPENED)
    assert (labels["connection_security_policy"], labels["destination_workload"]) == ("unknown", "legacy")
    assert labels["destination_principal"] == str(BOB)


def test_a_passthrough_that_is_refused_is_a_failure(mesh: Mesh) -> None:
    """Connection refused, with the flag of a failed connect."""
    with socket.create_server((fresh_ip(), 0)) as closed:
        mesh.client.destination = SocketAddress.of(*closed.getsockname())
    assert_reset(mesh.dial)
    assert error_of(mesh) == "io error: Connection refused (os error 111)"
    ((labels, _),) = mesh.client.samples(CLOSED)
    assert labels["response_flags"] == "CONNECT"


@pytest.mark.parametrize("port", [15001, 15006, 15008])
def test_the_proxys_own_ports_on_loopback_are_refused(mesh: Mesh, port: int) -> None:
    """A workload cannot use the proxy to reach the proxy."""
    mesh.client.destination = SocketAddress.of("127.0.0.1", port)
    assert_reset(mesh.dial)
    assert error_of(mesh) == "attempted recursive call to ourselves"
    assert mesh.client.samples(OPENED) == []


def test_a_connection_that_was_not_redirected_is_refused(mesh: Mesh) -> None:
    """Its original destination is the listener itself: serving it would loop."""
    mesh.client.destination = mesh.outbound
    assert_reset(mesh.dial)
    assert error_of(mesh) == "attempted recursive call to ourselves"


def test_a_dead_service_is_refused_and_not_bypassed(mesh: Mesh) -> None:
    """A VIP without endpoints must not leave the host in plaintext."""
    vip = NetworkAddress("lab", parse_ip("10.9.9.8"))
    mesh.client.put(Service("dead", "default", "dead.lab", (vip,), ports={80: 80}))
    mesh.client.destination = SocketAddress.of("10.9.9.8", 80)
    assert_reset(mesh.dial)
    assert error_of(mesh) == "no healthy upstream: 10.9.9.8:80, default/dead.lab has no endpoints"


def test_an_open_connection_outlives_what_led_to_it(mesh: Mesh) -> None:
    """Service and endpoint go, the connection stays; only the next one finds nobody."""
    api = Service("api", "default", "api.lab", (NetworkAddress("lab", parse_ip("10.9.9.7")),), ports={80: 80})
    with mesh.app(echo) as app:
        mesh.client.put(api, replace(mesh.bob, services={api.namespaced_hostname: {80: app.port}}))
        mesh.client.destination = SocketAddress.of("10.9.9.7", 80)
        with mesh.dial() as sock:
            sock.sendall(b"before")
            assert sock.recv(6) == b"before"

            def remove(key: str) -> None:
                mesh.client.call(lambda: (mesh.client.state.remove_address(key), mesh.client.server.state_changed()))

            remove(mesh.bob.uid)
            sock.sendall(b"since")
            assert sock.recv(5) == b"since"
            assert_reset(mesh.dial)
            assert error_of(mesh) == "no healthy upstream: 10.9.9.7:80, default/api.lab has no endpoints"
            remove(api.key)
            sock.sendall(b"after")
            assert sock.recv(5) == b"after"


def test_a_workload_that_is_described_late_waits() -> None:
    """The first connection of a unit may come before the control plane's push, and before one about somebody else."""
    with Mesh(client_config=replace(CONFIG, certificate_wait=PATIENCE)) as mesh:
        late = LocalWorkload(5, "late", "default", Identity("cluster.local", "default", "late"), "late.service")
        mesh.client.call(lambda: mesh.client.server.set_local_workloads([late]))
        mesh.client.number = 5
        with mesh.app(echo) as app, mesh.connect(app.port) as sock:
            sock.sendall(b"patient")
            for name in ("somebody", "late"):
                mesh.thread.settle()
                assert select.select([sock], [], [], 0) == ([], [], [])
                mesh.client.put(workload(name, Identity("cluster.local", "default", name), "127.0.0.1"))
            assert sock.recv(7) == b"patient"


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (1, "failed to fetch information about local workload: alice.default (alice)"),
        (9, "failed to fetch information about local workload: no captured workload has the number 9"),
    ],
)
def test_an_unknown_caller_is_refused_after_a_while(number: int, error: str) -> None:
    """Without an identity nothing may leave."""
    with Mesh(client_config=replace(CONFIG, certificate_wait=0.1)) as mesh:
        mesh.client.call(lambda: mesh.client.state.remove_address("lab//alice"))
        mesh.client.number = number
        mesh.client.destination = SocketAddress.of(mesh.ip, 80)
        assert_reset(mesh.dial)
        assert error_of(mesh) == error


def test_a_certificate_that_cannot_be_had_fails_with_the_reason(mesh: Mesh) -> None:
    """The CA's words reach the log; nothing goes out in plaintext."""
    mesh.client.main.issue = False
    mesh.client.destination = SocketAddress.of(mesh.ip, 80)
    with mesh.dial() as sock:
        while not mesh.client.main.wanted:
            mesh.thread.settle()
        reason = "signing gRPC error (PermissionDenied): not registered"
        mesh.client.call(lambda: mesh.client.server.credentials_failed(ALICE, reason))
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    fields = dict(mesh.client.main.wait_logs(1)[0].fields)
    assert (fields["error"], fields["response_flags"]) == (f"identity error: {reason}", "IDENTITY_ERROR")


def test_a_server_with_another_identity_is_refused() -> None:
    """Somebody else's certificate of the same mesh is not good enough."""
    with Mesh() as mesh:
        mesh.client.put(replace(mesh.bob, service_account="robert"))
        mesh.client.destination = SocketAddress.of(mesh.ip, 80)
        assert_reset(mesh.dial)
        assert error_of(mesh) == (
            "io error: identity verification error: peer did not present the expected SAN "
            f"(spiffe://cluster.local/ns/default/sa/robert), got {BOB}"
        )


def test_any_of_a_servers_identities_may_be_the_expected_one() -> None:
    """A certificate may name several."""
    with Mesh() as mesh, mesh.app(echo) as app:
        both = mesh.authority.issue(BOB, uris=(str(ALICE), str(BOB)))
        mesh.server.call(lambda: mesh.server.server.put_credentials(both))
        with mesh.connect(app.port) as sock:
            sock.sendall(b"a")
            assert sock.recv(1) == b"a"
        assert dict(mesh.client.main.wait_logs(1)[0].fields)["dst.identity"] == str(BOB)


@pytest.mark.parametrize(("named", "answers"), [(str(BOB), True), (str(ALICE), False)])
def test_a_service_may_say_who_answers_for_it(mesh: Mesh, named: str, answers: bool) -> None:
    """One of the names of the service is as good as the workload's own; any other is not."""
    vip = NetworkAddress("lab", parse_ip("10.9.9.9"))
    with mesh.app(echo) as app:
        service = Service("shop", "default", "shop.lab", (vip,), ports={80: app.port}, subject_alt_names=(named,))
        services = {service.namespaced_hostname: {80: app.port}}
        mesh.client.put(service, replace(mesh.bob, service_account="robert", services=services))
        mesh.client.destination = SocketAddress.of("10.9.9.9", 80)
        if answers:
            with mesh.dial() as sock:
                sock.sendall(b"a")
                assert sock.recv(1) == b"a"
            assert "error" not in dict(mesh.client.main.wait_logs(1)[0].fields)
        else:
            assert_reset(mesh.dial)
            assert "did not present the expected SAN" in error_of(mesh)


@pytest.mark.parametrize("whose", ["the client's", "the server's"])
def test_a_connection_ends_when_a_certificate_expires(whose: str) -> None:
    """Either end's: what was proven then is not proven any more."""
    ahead, minute = [0.0], 60.0
    client, server = {"the client's": (minute, 10 * minute), "the server's": (10 * minute, minute)}[whose]
    impatient = replace(CONFIG, keepalive_ping_interval=0.1)
    with Mesh(client_config=impatient, clock=lambda: now() + ahead[0]) as mesh, mesh.app(echo) as app:
        for host, identity, good_for in ((mesh.client, ALICE, client), (mesh.server, BOB, server)):
            issued = mesh.authority.issue(identity, not_after=now() + good_for)
            host.call(lambda host=host, issued=issued: host.server.put_credentials(issued))  # type: ignore[misc]
        with mesh.connect(app.port) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            ahead[0] = minute
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert (fields["error"], fields["response_flags"]) == (
            "connection closed: certificate expired",
            "IDENTITY_ERROR",
        )


def test_a_server_of_another_root_is_refused() -> None:
    """TLS fails before anything is sent."""
    with Mesh(server_authority=Authority("strangers")) as mesh:
        mesh.client.destination = SocketAddress.of(mesh.ip, 80)
        assert_reset(mesh.dial)
        assert error_of(mesh).startswith("io error: ")


def test_a_server_that_rejects_our_certificate_is_a_failed_handshake() -> None:
    """In TLS 1.3 the client learns it with the first read: it must still be an error of the connection."""
    authority = Authority()
    with Mesh(client_authority=authority, server_authority=authority) as mesh:
        stranger = authority.of_trust_domain("elsewhere.org")
        fake = replace(stranger, identity=ALICE)
        mesh.client.call(lambda: mesh.client.server.put_credentials(fake))
        mesh.client.destination = SocketAddress.of(mesh.ip, 80)
        assert_reset(mesh.dial)
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert str(fields["error"]).startswith("http2 handshake failed: ")
        assert fields["response_flags"] == "H2_HANDSHAKE_FAILURE"


def test_a_peer_that_does_not_answer_is_a_network_policy_suspect() -> None:
    """A full backlog drops SYNs as a firewall would."""
    with Mesh(client_config=replace(CONFIG, connect_timeout=0.2)) as mesh:
        ip = fresh_ip()
        mesh.client.put(workload("walled", BOB, ip))
        mesh.client.destination = SocketAddress.of(ip, 80)
        with socket.create_server((ip, 15008), backlog=0) as wall:
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(wall.getsockname())
            assert_reset(mesh.dial)
            for filler in fillers:
                filler.close()
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert fields["response_flags"] == "NETWORK_POLICY"
        assert "maybe a NetworkPolicy is blocking HBONE port 15008" in str(fields["error"])


def test_a_silent_peer_is_given_up() -> None:
    """TCP accepts, TLS never answers: the handshake has a limit."""
    with Mesh(client_config=replace(CONFIG, handshake_timeout=0.1)) as mesh:
        with socket.create_server((fresh_ip(), 15008)) as silent:
            ip = silent.getsockname()[0]
            mesh.client.put(workload("silent", BOB, ip))
            mesh.client.destination = SocketAddress.of(ip, 80)
            assert_reset(mesh.dial)
            silent.settimeout(PATIENCE)
            silent.accept()[0].close()
        assert error_of(mesh) == "io error: TLS handshake timed out"


def test_a_peer_that_says_nothing_after_its_handshake_is_given_up() -> None:
    """TLS is done, SETTINGS never come: the same limit."""
    with Mesh(client_config=replace(CONFIG, handshake_timeout=0.5)) as mesh:
        ip = fresh_ip()
        mesh.client.put(workload("mute", BOB, ip))
        mesh.client.destination = SocketAddress.of(ip, 80)
        made = context(mesh.authority.issue(BOB), mesh.authority.pem, server=True)
        with socket.create_server((ip, 15008)) as listener:
            listener.settimeout(PATIENCE)
            with (
                mesh.dial() as sock,
                made.wrap_socket(listener.accept()[0], server_side=True),
                pytest.raises(ConnectionResetError),
            ):
                sock.recv(1)
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert fields["error"] == "http2 handshake failed: no SETTINGS from the peer in time"
        assert fields["response_flags"] == "H2_HANDSHAKE_FAILURE"
