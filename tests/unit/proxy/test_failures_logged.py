"""Every failure as an operator finds it: text, flag, code and level, between two real proxies, plain and as JSON.

The first column is what goes wrong; the rest is what both access logs say of it. ztunnel's words, so that what was
written for them finds ours.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from h2.errors import ErrorCodes
from tests.support.hbone_peer import Peer
from tests.support.hbone_peer import dial as dial_peer
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority
from tests.support.proxy import CONFIG, Mesh, echo, fresh_ip, receive_all, workload

from hostmesh.model.address import NamespacedHostname, NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.authorization import Action, Authorization, Match, PolicyScope
from hostmesh.model.service import Service
from hostmesh.model.trust import TrustBundle
from hostmesh.model.workload import GatewayAddress, HealthStatus
from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED
from hostmesh.telemetry.records import LogRecord, render_json, render_plain

VIP = "10.9.9.9"
DENY = Authorization("closed", "default", PolicyScope.NAMESPACE, Action.DENY, ((),))
ALLOW_NOBODY = Authorization(
    "picky", "default", PolicyScope.NAMESPACE, Action.ALLOW, (((Match(destination_ports=(1,)),),),)
)
REJECTED = "connection closed due to policy rejection"
REFUSED = r"Connection refused \(os error 111\)"


@dataclass(frozen=True)
class Logged:
    """What one side says; `flags` "" where there is none, `early` before anything is known of the connection."""

    error: str
    flags: str
    reason: str
    early: bool = False


@dataclass(frozen=True)
class Row:
    """`happen` makes it go wrong; what a side does not say is None."""

    name: str
    happen: Callable[[Mesh], None]
    client: Logged | None
    server: Logged | None = None


@contextmanager
def open_connection(mesh: Mesh) -> Iterator[socket.socket]:
    """It works."""
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        yield sock


def cut(sock: socket.socket) -> None:
    """The application's connection ends, in whatever way."""
    with contextlib.suppress(ConnectionError):
        assert receive_all(sock) == b""


def call(mesh: Mesh, port: int | None = None) -> None:
    """A call that comes to nothing."""
    with contextlib.suppress(ConnectionError), mesh.app(echo) as app, mesh.connect(port or app.port) as sock:
        cut(sock)


def dial(mesh: Mesh, ip: str, port: int) -> None:
    """A call to somebody else."""
    mesh.client.destination = SocketAddress.of(ip, port)
    with contextlib.suppress(ConnectionError), mesh.dial() as sock:
        cut(sock)


def closed_port(mesh: Mesh) -> int:
    with socket.create_server((mesh.ip, 0)) as closed:
        return int(closed.getsockname()[1])


def with_policy(policy: Authorization) -> Callable[[Mesh], None]:
    def happen(mesh: Mesh) -> None:
        mesh.server.put(policy)
        call(mesh)

    return happen


def policy_comes(mesh: Mesh) -> None:
    with open_connection(mesh) as sock:
        mesh.server.put(DENY)
        cut(sock)


def revoked(mesh: Mesh) -> None:
    bundle = TrustBundle("cluster.local", mesh.authority.pem, frozenset(), frozenset({ALICE}))
    with open_connection(mesh) as sock:
        mesh.server.call(lambda: mesh.server.server.set_trust(bundle))
        cut(sock)


def drained(mesh: Mesh) -> None:
    with open_connection(mesh) as sock:
        mesh.client.call(lambda: mesh.client.server.drain(0.0, lambda: None))
        cut(sock)


def unknown_issuer(mesh: Mesh) -> None:
    mesh.client.main.authority = Authority("elsewhere")
    call(mesh)


def another_identity(mesh: Mesh) -> None:
    mesh.client.put(replace(mesh.bob, service_account="mallory"))
    call(mesh)


def not_wanted(mesh: Mesh) -> None:
    """The client trusts the server's authority, and the server does not trust the client's."""
    strangers = Authority("elsewhere")
    issued = strangers.issue(ALICE)
    mesh.client.main.issue = False
    mesh.client.call(
        lambda: mesh.client.server.put_credentials(replace(issued, roots_pem=issued.roots_pem + mesh.authority.pem))
    )
    call(mesh)


def no_certificate(mesh: Mesh) -> None:
    mesh.client.main.issue = False
    call(mesh)


def unusable_key(mesh: Mesh) -> None:
    mesh.client.main.issue = False
    issued = replace(mesh.authority.issue(ALICE), key_pem=mesh.authority.issue(BOB).key_pem)
    mesh.client.call(lambda: mesh.client.server.put_credentials(issued))
    call(mesh)


def lost_waypoint(mesh: Mesh) -> None:
    waypoint = GatewayAddress(NamespacedHostname("default", "nobody.lab"), 15008)
    mesh.client.put(replace(mesh.bob, waypoint=waypoint))
    call(mesh)


def nowhere(mesh: Mesh) -> None:
    """The only workload of a service is on another network, to which there is no gateway."""
    service = Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip(VIP)),), ports={80: 80})
    away = replace(mesh.bob, network="far", services={service.namespaced_hostname: {80: 80}})
    mesh.client.put(service, away)
    dial(mesh, VIP, 80)


def unknown_caller(mesh: Mesh) -> None:
    mesh.client.call(lambda: mesh.client.state.remove_address(mesh.alice.uid))
    mesh.client.call(mesh.client.server.state_changed)
    call(mesh)


def nobody_on_15008(mesh: Mesh) -> None:
    ip = fresh_ip()
    mesh.client.put(workload("carol", replace(BOB, service_account="carol"), ip))
    dial(mesh, ip, 80)


def silent_15008(mesh: Mesh) -> None:
    """A queue that is full drops packets as a firewall does."""
    ip = fresh_ip()
    mesh.client.put(workload("carol", replace(BOB, service_account="carol"), ip))
    with socket.create_server((ip, 15008), backlog=0), contextlib.ExitStack() as stack:
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((ip, 15008))
        dial(mesh, ip, 80)


def passthrough_refused(mesh: Mesh) -> None:
    ip = fresh_ip()
    with socket.create_server((ip, 0)) as closed:
        port = int(closed.getsockname()[1])
    dial(mesh, ip, port)


def empty_service(mesh: Mesh) -> None:
    mesh.client.put(Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip(VIP)),), ports={80: 80}))
    dial(mesh, VIP, 80)


def serving(mesh: Mesh, **changes: object) -> Service:
    """A service whose only endpoint is the server's workload, as the client knows it."""
    service = Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip(VIP)),), ports={80: 80})
    mesh.client.put(service, replace(mesh.bob, services={service.namespaced_hostname: {80: 80}}, **changes))  # type: ignore[arg-type]
    return service


def unknown_port(mesh: Mesh) -> None:
    serving(mesh)
    dial(mesh, VIP, 81)


def unhealthy(mesh: Mesh) -> None:
    serving(mesh, status=HealthStatus.UNHEALTHY)
    dial(mesh, VIP, 80)


def server_without_certificate(mesh: Mesh) -> None:
    mesh.server.main.issue = False
    call(mesh)


def not_captured_there(mesh: Mesh) -> None:
    """Its host has nobody of that name."""
    mesh.server.call(lambda: mesh.server.state.remove_address(mesh.bob.uid))
    mesh.server.call(mesh.server.server.state_changed)
    call(mesh)


def hostname_without_address(mesh: Mesh) -> None:
    """The only endpoint of a service is known by a hostname that nobody resolves."""
    mesh.client.main.names["gone.example"] = ()
    serving(mesh, addresses=(), hostname="gone.example")
    dial(mesh, VIP, 80)


def socks_name_without_address(mesh: Mesh) -> None:
    mesh.client.main.names["gone.example"] = ()
    listener = mesh.client.listen("socks5", "127.0.0.1")
    with socket.create_connection((str(listener.ip), listener.port), timeout=PATIENCE) as sock:
        sock.sendall(b"\x05\x01\x00\x05\x01\x00\x03\x0cgone.example\x00\x50")
        while sock.recv(64):
            continue


def stream_is_reset(mesh: Mesh) -> None:
    """A peer of the mesh gives one stream up; its tunnel goes on."""
    with mesh.app(echo) as app, peer_of(mesh) as peer:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(stream)[":status"] == "200"
        peer.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        peer.flush()
        mesh.server.main.wait_logs(1)


def peer_of(mesh: Mesh) -> Peer:
    return dial_peer((mesh.ip, 15008), mesh.authority.issue(ALICE), mesh.authority.pem)


def own_port(mesh: Mesh) -> None:
    dial(mesh, "127.0.0.1", 15001)


def application_resets(mesh: Mesh) -> None:
    """Before its end: the client must not take half an answer for a whole one."""

    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with mesh.app(serve) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"x")
        cut(sock)


def declined(status: str, reason: str) -> Logged:
    """What the client's side says when the server's has answered so: the same code."""
    return Logged(f"http status: {status}, the peer says {reason}", "CONNECT", reason)


ROWS = [
    Row(
        "a DENY policy",
        with_policy(DENY),
        declined("401 Unauthorized", "POLICY_DENIED"),
        Logged(
            "connection closed due to policy rejection: explicitly denied by: default/closed", "DENY", "POLICY_DENIED"
        ),
    ),
    Row(
        "no ALLOW policy fits",
        with_policy(ALLOW_NOBODY),
        declined("401 Unauthorized", "POLICY_NOT_ALLOWED"),
        Logged(
            rf"{REJECTED}: allow policies exist, but none allowed \(default/picky\)",
            "DENY",
            "POLICY_NOT_ALLOWED",
        ),
    ),
    Row(
        "a policy comes later",
        policy_comes,
        Logged("receive: stream error received: CANCEL", "CONNECT", "INTERRUPTED"),
        Logged("connection closed due to policy change", "DENY", "POLICY_CHANGED"),
    ),
    Row(
        "the client is revoked later",
        revoked,
        Logged("h2 failed: .*", "H2_HANDSHAKE_FAILURE", "TUNNEL_LOST"),
        Logged("connection closed: peer certificate revoked by CRL", "CERT_REVOKED", "CERTIFICATE_REVOKED"),
    ),
    Row("the drain is over", drained, Logged("connection closed due to connection drain", "", "DRAINED")),
    Row(
        "the application does not listen",
        lambda mesh: call(mesh, closed_port(mesh)),
        declined("503 Service Unavailable", "APPLICATION_REFUSED"),
        Logged(f"connection failed: {REFUSED}", "CONNECT", "APPLICATION_REFUSED"),
    ),
    Row(
        "the server's issuer is unknown",
        unknown_issuer,
        Logged("io error: .*unknown issuer.*", "CONNECT", "UNTRUSTED_ISSUER"),
        Logged("tls handshake error: .*", "", "", early=True),
    ),
    Row(
        "the server is somebody else",
        another_identity,
        Logged("io error: identity verification error: .*mallory.*", "CONNECT", "IDENTITY_MISMATCH"),
    ),
    Row(
        "the server does not trust the client",
        not_wanted,
        Logged("http2 handshake failed: .*", "H2_HANDSHAKE_FAILURE", ""),
        Logged("tls handshake error: .*unknown issuer.*", "", "UNTRUSTED_ISSUER", early=True),
    ),
    Row(
        "no certificate of our own",
        no_certificate,
        Logged(f"identity error: no certificate came for {ALICE}", "IDENTITY_ERROR", "CERTIFICATE_MISSING"),
    ),
    Row("a key of somebody else", unusable_key, Logged("tls error: .*", "TLS_FAILURE", "CERTIFICATE_UNUSABLE")),
    Row(
        "a waypoint that is not there",
        lost_waypoint,
        Logged("unknown waypoint: .*nobody.lab.*", "", "WAYPOINT_UNKNOWN", early=True),
    ),
    Row(
        "no way to another network",
        nowhere,
        Logged("no valid routing destination for workload: .*", "", "", early=True),
    ),
    Row(
        "nobody has described the caller",
        unknown_caller,
        Logged("failed to fetch information about local workload: .*", "", "SOURCE_UNKNOWN", early=True),
    ),
    Row("nobody on 15008", nobody_on_15008, Logged(f"io error: {REFUSED}", "CONNECT", "HBONE_REFUSED")),
    Row(
        "15008 does not answer",
        silent_15008,
        Logged(
            r"connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: .*",
            "NETWORK_POLICY",
            "HBONE_BLOCKED",
        ),
    ),
    Row("a stranger does not listen", passthrough_refused, Logged(f"io error: {REFUSED}", "CONNECT", "CONNECT_FAILED")),
    Row(
        "a service without endpoints",
        empty_service,
        Logged("no healthy upstream: 10.9.9.9:80, default/shop.lab has no endpoints", "", "NO_ENDPOINT", early=True),
    ),
    Row(
        "a port that the service has not",
        unknown_port,
        Logged(
            "no healthy upstream: 10.9.9.9:81, no endpoint of default/shop.lab serves port 81",
            "",
            "PORT_UNKNOWN",
            early=True,
        ),
    ),
    Row(
        "no endpoint is healthy",
        unhealthy,
        Logged("no healthy upstream: 10.9.9.9:80", "", "NO_HEALTHY_ENDPOINT", early=True),
    ),
    Row(
        "the server has no certificate",
        server_without_certificate,
        Logged("io error: the peer has no certificate for the server name", "CONNECT", "CERTIFICATE_MISSING"),
        Logged(f"tls handshake error: identity error: .*{BOB}", "", "CERTIFICATE_MISSING", early=True),
    ),
    Row(
        "the server is not captured",
        not_captured_there,
        Logged("io error: the peer does not know the server name", "CONNECT", "DESTINATION_NOT_CAPTURED"),
        Logged("tls handshake error: no single captured workload .*", "", "DESTINATION_NOT_CAPTURED", early=True),
    ),
    Row(
        "a hostname without an address",
        hostname_without_address,
        Logged("no ip addresses were resolved for workload: gone.example: no such name", "", "NO_ADDRESS", early=True),
    ),
    Row(
        "a name said by SOCKS that nobody has",
        socks_name_without_address,
        Logged("dns lookup: .*no such name", "", "NO_ADDRESS", early=True),
    ),
    Row(
        "the peer resets a stream",
        stream_is_reset,
        None,
        Logged("receive: stream error received: INTERNAL_ERROR", "CONNECT", "INTERRUPTED"),
    ),
    Row(
        "the application resets its connection",
        application_resets,
        Logged("receive: stream error received: CONNECT_ERROR", "CONNECT", "INTERRUPTED"),
        Logged("receive: io error: Connection reset by peer .*", "CONNECT", "INTERRUPTED"),
    ),
    Row(
        "our own port",
        own_port,
        Logged("attempted recursive call to ourselves", "", "RECURSIVE_CALL", early=True),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_failure_is_logged_and_counted(row: Row) -> None:
    """What is early has no numbers; everything else was opened, has failed, and is closed with its flag."""
    with Mesh(client_config=replace(CONFIG, connect_timeout=1.0)) as mesh:
        row.happen(mesh)
        for host, expected in ((mesh.client, row.client), (mesh.server, row.server)):
            if expected is None:
                continue
            record = next(one for one in reversed(host.main.wait_logs(1)) if dict(one.fields).get("error"))
            check(record, expected)
            numbers = {metric: host.total(metric) for metric in (OPENED, CLOSED, FAILED)}
            if expected.early:
                assert numbers == {OPENED: 0, CLOSED: 0, FAILED: 0}
            else:
                assert numbers[OPENED] == numbers[CLOSED] == 1
                assert numbers[FAILED] == bool(expected.flags)
                [labels] = [labels for labels, _ in host.samples(CLOSED)]
                assert labels["response_flags"] == (expected.flags or "-")


def check(record: LogRecord, expected: Logged) -> None:
    """Fields, order, level and both renderings."""
    fields = dict(record.fields)
    assert re.fullmatch(expected.error, str(fields["error"])), fields["error"]
    assert fields.get("response_flags", "") == expected.flags
    assert expected.reason in ("", fields["reason"])
    level, message = ("warn", "connection failed") if expected.early else ("error", "connection complete")
    assert (record.level, record.message, record.target) == (level, message, "access")
    names = [name for name, _ in record.fields]
    assert names[-2 - bool(expected.flags) :] == ["error", *(["response_flags"] if expected.flags else []), "reason"]
    said = json.loads(render_json(record, 0.0))
    assert list(said)[:4] == ["level", "time", "scope", "message"]
    assert {name: said[name] for name in names} == fields
    plain = render_plain(record, 0.0).split("\t")
    assert plain[1:4] == [level, "access", message]
    assert f"error={json.dumps(fields['error'], ensure_ascii=False)}" in plain[4]
