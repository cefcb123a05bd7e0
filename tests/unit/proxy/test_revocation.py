"""Revoked certificates: refused at the handshake by either side, and their tunnels closed while they live (R10)."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from tests.support.hbone_peer import context, frame_types
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority
from tests.support.proxy import Host, Mesh, assert_reset, echo, fresh_ip, workload

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.trust import CertificateKey, TrustBundle
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.engine import TlsProvider
from hostmesh.transport.tls.system import SystemTls
from hostmesh.wire.http2.frames import HEADERS, SETTINGS, frame
from hostmesh.wire.x509 import certificate_key

REVOKED = "connection closed: peer certificate revoked by CRL"
OWN_REVOKED = "connection closed: own certificate revoked by CRL"

PROVIDERS: list[Callable[[], TlsProvider]] = [SystemTls, BundledTls]


def key_of(credentials: Credentials) -> CertificateKey:
    return certificate_key(load_pem_x509_certificate(credentials.chain_pem).public_bytes(Encoding.DER))


@dataclass
class World:
    mesh: Mesh
    alice: Credentials
    bob: Credentials

    def trust(
        self,
        *hosts: Host,
        serials: tuple[CertificateKey, ...] = (),
        identities: tuple[Identity, ...] = (),
        roots: bytes | None = None,
    ) -> None:
        """Push a bundle to hosts."""
        bundle = TrustBundle(
            "cluster.local", roots or self.mesh.authority.pem, frozenset(serials), frozenset(identities)
        )
        for host in hosts:
            host.call(lambda host=host: host.server.set_trust(bundle))  # type: ignore[misc]


@pytest.fixture(params=PROVIDERS, ids=["system", "bundled"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with Mesh(client_tls=request.param(), server_tls=request.param()) as mesh:
        alice, bob = mesh.authority.issue(ALICE), mesh.authority.issue(BOB)
        mesh.client.call(lambda: mesh.client.server.put_credentials(alice))
        mesh.server.call(lambda: mesh.server.server.put_credentials(bob))
        yield World(mesh, alice, bob)


AT_ONCE = 9.0
"""Seconds: a bound for a busy machine, yet below whatever looks from time to time, as keepalive does."""


def ping(sock: socket.socket) -> None:
    sock.sendall(b"ping")
    assert sock.recv(4) == b"ping"


def assert_cut(sock: socket.socket) -> None:
    """An open connection ends, visibly."""
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def rejections(host: Host) -> dict[str, int]:
    return {s.labels[0]: s.value for s in host.call(host.server.metrics.snapshot) if s.metric.startswith("istio_crl")}


def flags(host: Host) -> set[str]:
    return {labels["response_flags"] for labels, _ in host.samples("istio_tcp_connections_closed_total")}


def last_error(host: Host) -> object:
    return dict(host.main.wait_logs(1)[-1].fields)["error"]


@pytest.mark.parametrize("by", ["serial", "identity"])
@pytest.mark.parametrize("judge", ["server", "client"])
def test_a_live_tunnel_of_a_revoked_peer_is_closed_within_a_second(world: World, judge: str, by: str) -> None:
    """Inbound the revoked client's, outbound the one to the revoked server; the flag and the counter say why."""
    mesh = world.mesh
    host, revoked = (mesh.server, world.alice) if judge == "server" else (mesh.client, world.bob)
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        ping(sock)
        began = time.monotonic()
        if by == "serial":
            world.trust(host, serials=(key_of(revoked),))
        else:
            world.trust(host, identities=(revoked.identity,))
        assert_cut(sock)
        assert time.monotonic() - began < AT_ONCE
        assert last_error(host) == REVOKED
        assert flags(host) == {"CERT_REVOKED"}
        assert rejections(host) == {"destination" if judge == "server" else "source": 1}


def test_a_revoked_client_gets_no_tunnel(world: World) -> None:
    """The server's side refuses it after the handshake, before its first request."""
    world.trust(world.mesh.server, serials=(key_of(world.alice),))
    with world.mesh.app(echo) as app:
        assert_reset(lambda: world.mesh.connect(app.port))
        assert app.accepted == 0
    assert last_error(world.mesh.server) == "tls handshake error: peer certificate revoked by CRL"
    assert rejections(world.mesh.server) == {"destination": 1}


def test_a_revoked_server_is_not_talked_to(world: World) -> None:
    """The client's side closes before it says anything."""
    world.trust(world.mesh.client, serials=(key_of(world.bob),))
    with world.mesh.app(echo) as app:
        assert_reset(lambda: world.mesh.connect(app.port))
        assert app.accepted == 0
    assert last_error(world.mesh.client) == "io error: peer certificate revoked by CRL"
    assert flags(world.mesh.client) == {"CERT_REVOKED"}
    assert rejections(world.mesh.client) == {"source": 1}


@pytest.mark.parametrize("judge", ["server", "client"])
def test_a_revoked_intermediate_revokes_what_it_signed(judge: str) -> None:
    """The whole chain that a peer shows is looked at: what is open is cut, and the next handshake refused."""
    with Mesh() as mesh:
        host, other, identity = (
            (mesh.server, mesh.client, ALICE) if judge == "server" else (mesh.client, mesh.server, BOB)
        )
        below = mesh.authority.intermediate()
        shown = below.issue(identity)
        other.call(lambda: other.server.put_credentials(shown))
        with mesh.app(echo) as app, mesh.connect(app.port) as sock:
            ping(sock)
            intermediate = certificate_key(below.certificate.public_bytes(Encoding.DER))
            bundle = TrustBundle("cluster.local", mesh.authority.pem, frozenset({intermediate}))
            host.call(lambda: host.server.set_trust(bundle))
            assert_cut(sock)
            assert rejections(host) == {"destination" if judge == "server" else "source": 1}
            assert_reset(lambda: mesh.connect(app.port))
            assert app.accepted == 1
            assert sum(rejections(host).values()) == 2


def test_others_keep_their_tunnels(world: World) -> None:
    """Same issuer, another serial; same serial, another issuer; somebody else's identity."""
    mesh = world.mesh
    issuer, serial = key_of(world.alice)
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        ping(sock)
        strangers = ((issuer, serial + 1), (b"another issuer", serial))
        other = Identity("cluster.local", "default", "eve")
        world.trust(mesh.server, mesh.client, serials=strangers, identities=(other,))
        ping(sock)
        assert rejections(mesh.server) == rejections(mesh.client) == {}


def test_own_revoked_certificate_is_not_used_any_more(world: World) -> None:
    """Its tunnels end, main is asked for another one, and with that one traffic goes on."""
    mesh = world.mesh
    with mesh.app(echo) as app:
        with mesh.connect(app.port) as sock:
            ping(sock)
            mesh.client.main.wanted.clear()
            world.trust(mesh.client, serials=(key_of(world.alice),))
            assert_cut(sock)
            assert last_error(mesh.client) == OWN_REVOKED
        with mesh.connect(app.port) as sock:
            ping(sock)
        assert mesh.client.main.wanted == [ALICE]


def test_a_new_certificate_after_revocation_is_accepted(world: World) -> None:
    """A serial number is revoked, not the workload."""
    mesh = world.mesh
    with mesh.app(echo) as app:
        world.trust(mesh.server, serials=(key_of(world.alice),))
        fresh = mesh.authority.issue(ALICE)
        mesh.client.call(lambda: mesh.client.server.put_credentials(fresh))
        with mesh.connect(app.port) as sock:
            ping(sock)


def test_new_roots_count_from_the_next_handshake_on(world: World) -> None:
    """Overlap: a peer with a certificate of the new root is talked to, the tunnels of the old one live on."""
    mesh = world.mesh
    new = Authority("new root")
    with mesh.app(echo) as app, mesh.connect(app.port) as old:
        ping(old)
        world.trust(mesh.server, mesh.client, roots=mesh.authority.pem + new.pem)
        fresh = new.issue(ALICE)
        mesh.client.call(lambda: mesh.client.server.put_credentials(fresh))
        with mesh.connect(app.port) as sock:
            ping(sock)
            ping(old)


def test_a_dismissed_root_ends_what_it_carried(world: World) -> None:
    """The end of a rotation that was forced: who still lives on the old root is cut off at once, both ways."""
    mesh = world.mesh
    new = Authority("new root")
    with mesh.app(echo) as app, mesh.connect(app.port) as old:
        ping(old)
        world.trust(mesh.server, roots=new.pem)
        assert_cut(old)
        assert last_error(mesh.server) == "connection closed: the mesh trusts the peer's issuer no more"
        assert_reset(lambda: mesh.connect(app.port))


def test_a_peer_revoked_during_its_handshake_gets_nothing(world: World) -> None:
    """The list may come after the certificate was sent for and before it is looked at."""
    mesh = world.mesh
    with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock:
        mesh.thread.settle()
        world.trust(mesh.server, serials=(key_of(world.alice),))
        tls = context(world.alice, mesh.authority.pem, server=False)
        try:
            with tls.wrap_socket(sock) as secured:
                assert secured.recv(1) == b""
        except (ConnectionError, ssl.SSLError):
            pass  # a reset says the same as a close
    assert rejections(mesh.server) == {"destination": 1}


def test_a_server_revoked_while_its_tunnel_comes_up_gets_no_stream(world: World) -> None:
    """The list comes between its handshake and its SETTINGS, when the tunnel is nobody's yet."""
    mesh, ip = world.mesh, fresh_ip()
    mesh.client.put(workload("far", BOB, ip))
    mesh.client.destination = SocketAddress.of(ip, 80)
    with socket.create_server((ip, 15008)) as listener:
        listener.settimeout(PATIENCE)
        with mesh.dial() as app:
            raw, _ = listener.accept()
            raw.settimeout(PATIENCE)
            with context(world.bob, mesh.authority.pem, server=True).wrap_socket(raw, server_side=True) as sock:
                heard = sock.recv(24)  # the client has let the certificate pass
                world.trust(mesh.client, serials=(key_of(world.bob),))
                sock.sendall(frame(SETTINGS, 0, 0, b""))
                assert_cut(app)
                while data := sock.recv(4096):
                    heard += data
    assert heard.startswith(b"PRI * HTTP/2.0")
    assert bytes([HEADERS]) not in frame_types(heard[24:])
    assert last_error(mesh.client) == REVOKED
    assert rejections(mesh.client) == {"source": 1}
