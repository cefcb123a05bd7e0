"""The HBONE listener against a foreign client: who gets a tunnel, and as which workload."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import replace

import h2.events
import pytest
from tests.support.hbone_peer import Peer, dial
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority, now
from tests.support.proxy import CONFIG, Mesh, echo, workload

from hostmesh.config.proxy import ProxyConfig
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload, server_name
from hostmesh.model.workload import Workload
from hostmesh.wire.client_hello import CERTIFICATE_UNOBTAINABLE

CAROL = Identity("cluster.local", "default", "carol")


def tunnel(mesh: Mesh, *, name: str | None = None, **options: object) -> Peer:
    """A connection of alice with a certificate made to order."""
    credentials = mesh.authority.issue(ALICE, **options)  # type: ignore[arg-type]
    return dial((mesh.ip, 15008), credentials, mesh.authority.pem, name)


def refused(mesh: Mesh, credentials: object, name: str | None = None) -> str:
    """What the server's log says about a connection that must not become a tunnel."""
    try:
        with dial((mesh.ip, 15008), credentials, mesh.authority.pem, name) as peer:  # type: ignore[arg-type]
            while data := peer.sock.recv(4096):
                assert b"HTTP" not in data
    except (ssl.SSLError, ConnectionError):
        pass  # an alert or a reset says the same as a close
    record = mesh.server.main.wait_logs(1)[0]
    assert (record.level, record.message) == ("warn", "connection failed")
    assert mesh.server.samples("istio_tcp_connections_opened_total") == []
    return str(dict(record.fields)["error"])


def test_a_client_without_certificate_is_refused(mesh: Mesh) -> None:
    """MTLS is not optional."""
    assert refused(mesh, None).startswith("tls handshake error: ")


def test_a_client_of_another_root_is_refused(mesh: Mesh) -> None:
    """The chain must lead to our own roots."""
    assert refused(mesh, Authority("strangers").issue(ALICE)).startswith("tls handshake error: ")


def test_a_client_of_another_trust_domain_is_refused(mesh: Mesh) -> None:
    """The same root may serve several meshes; identities of the others are not ours."""
    error = refused(mesh, mesh.authority.of_trust_domain("elsewhere.org"))
    assert "peer is not of trust domain cluster.local: spiffe://elsewhere.org/ns/default/sa/alice" in error


def test_a_client_without_identity_is_refused(mesh: Mesh) -> None:
    """A certificate that names nobody proves nothing."""
    assert "no SPIFFE identity" in refused(mesh, mesh.authority.without_san())


def test_an_expired_client_is_refused(mesh: Mesh) -> None:
    """Validity is checked."""
    assert refused(mesh, mesh.authority.expired()).startswith("tls handshake error: ")


def test_what_is_no_tls_is_closed(mesh: Mesh) -> None:
    """A port scanner or plain HTTP gets nothing, not even an alert with our version."""
    with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(1) == b""
    assert "instead of a TLS handshake" in str(mesh.server.main.wait_logs(1)[0].fields)


def test_a_silent_client_is_closed_after_the_handshake_timeout() -> None:
    """Slow loris: a connection that never says hello costs a socket for a limited time only."""
    with Mesh(server_config=replace(CONFIG, handshake_timeout=0.1)) as mesh:
        with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock:
            sock.sendall(b"\x16\x03\x01")
            assert sock.recv(1) == b""
        assert dict(mesh.server.main.wait_logs(1)[0].fields)["error"] == "tls handshake error: timed out"
        assert mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]) == 0


def test_a_client_hello_in_pieces_is_put_together(mesh: Mesh) -> None:
    """TCP may split anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as relay:
        client = socket.create_connection(relay.getsockname(), PATIENCE)
        middle, _ = relay.accept()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    hello = context.wrap_bio(incoming, outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    data = outgoing.read()
    with middle, client, socket.create_connection((mesh.ip, 15008), PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 50):
            sock.sendall(data[start : start + 50])
            mesh.thread.settle()
        assert sock.recv(3)[:1] == b"\x16"


def two_workloads(ip: str, config: ProxyConfig = CONFIG) -> Mesh:
    """Bob and carol behind one address."""
    mesh = Mesh(mesh=[workload("carol", CAROL, ip)], server_config=config)
    mesh.server.put(replace(workload("carol", CAROL, mesh.ip)))
    locals_ = [
        LocalWorkload(1, "bob", "default", BOB, "bob.service"),
        LocalWorkload(2, "carol", "default", CAROL, "carol.service"),
    ]
    mesh.server.call(lambda: mesh.server.server.set_local_workloads(locals_))
    return mesh


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_the_server_name_chooses_among_workloads_of_one_address(name: str) -> None:
    """Each workload answers with its own certificate."""
    with two_workloads("127.0.0.9") as mesh, tunnel(mesh, name=server_name(f"lab//{name}")) as peer:
        certificate = peer.sock.getpeercert()
        assert certificate is not None
        assert certificate["subjectAltName"] == (("URI", f"spiffe://cluster.local/ns/default/sa/{name}"),)


@pytest.mark.parametrize("name", [None, "nobody.example"])
def test_without_a_server_name_that_is_known_nobody_is_guessed(name: str | None) -> None:
    """Two workloads own the address: the wrong identity must not answer."""
    with two_workloads("127.0.0.9") as mesh:
        assert "no single captured workload of this host has the" in refused(mesh, mesh.authority.issue(ALICE), name)


def test_an_unknown_server_name_falls_back_to_the_only_owner_of_the_address(mesh: Mesh) -> None:
    """Stock peers send no name or one of their own."""
    with mesh.app(echo) as app, tunnel(mesh, name="some.service") as peer:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(stream)[":status"] == "200"


def test_the_first_spiffe_name_is_who_the_peer_is(mesh: Mesh) -> None:
    """For logs and policies."""
    with mesh.app(echo) as app, tunnel(mesh, uris=(str(CAROL), str(ALICE))) as peer:
        peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(1)
    fields = dict(mesh.server.main.wait_logs(1)[0].fields)
    assert fields["src.identity"] == str(CAROL)


def test_any_name_of_the_own_trust_domain_lets_a_peer_in(mesh: Mesh) -> None:
    """Who it is remains its first one."""
    foreign = "spiffe://elsewhere.org/ns/default/sa/alice"
    with mesh.app(echo) as app, tunnel(mesh, uris=(foreign, str(ALICE))) as peer:
        assert peer.answer(peer.connect(f"{mesh.ip}:{app.port}"))[":status"] == "200"
    assert dict(mesh.server.main.wait_logs(1)[0].fields)["src.identity"] == foreign


def test_a_certificate_need_not_say_what_it_is_for(mesh: Mesh) -> None:
    """One that says so must be for clients."""
    with mesh.app(echo) as app, tunnel(mesh, usages=()) as peer:
        assert peer.answer(peer.connect(f"{mesh.ip}:{app.port}"))[":status"] == "200"


def described_late(mesh: Mesh, late: Workload, name: str | None) -> str:
    """Whom a client meets that comes when its workload is captured, but not described."""
    found: list[str] = []

    def ask() -> None:
        with tunnel(mesh, name=name) as peer:
            found.append(str(peer.sock.getpeercert()))

    mesh.server.call(lambda: mesh.server.state.remove_address(late.uid))
    client = threading.Thread(target=ask)
    client.start()
    locals_ = mesh.server.server._context.locals
    while client.is_alive() and not mesh.server.call(locals_._asking.awaited):
        mesh.thread.settle()
    mesh.server.put(late)
    client.join(PATIENCE)
    return found[0]


@pytest.mark.parametrize("name", [None, server_name("lab//bob"), "some.service"])
def test_a_client_may_come_before_its_workload_is_described(name: str | None) -> None:
    """It may have heard of it earlier than the host itself: it waits, as outbound connections do."""
    with Mesh(server_config=replace(CONFIG, certificate_wait=PATIENCE)) as mesh:
        assert str(BOB) in described_late(mesh, mesh.bob, name)


def test_who_asks_for_a_workload_that_is_described_late_gets_no_neighbour() -> None:
    """Not the only one that is known yet at the address."""
    with two_workloads("127.0.0.9", replace(CONFIG, certificate_wait=PATIENCE)) as mesh:
        carol = workload("carol", CAROL, mesh.ip)
        assert str(CAROL) in described_late(mesh, carol, server_name(carol.uid))


def test_a_workload_that_is_never_described_refuses_its_clients() -> None:
    """After as long as anybody waits."""
    with Mesh(server_config=replace(CONFIG, certificate_wait=0.05)) as mesh:
        mesh.server.call(lambda: mesh.server.state.remove_address(mesh.bob.uid))
        assert "no single captured workload of this host has the" in refused(mesh, mesh.authority.issue(ALICE))


def test_a_client_that_gives_up_waiting_leaves_nothing() -> None:
    """Its workload is described when it is gone."""
    config = replace(CONFIG, certificate_wait=PATIENCE, handshake_timeout=0.05)
    with Mesh(server_config=config) as mesh:
        mesh.server.call(lambda: mesh.server.state.remove_address(mesh.bob.uid))
        assert "timed out" in refused(mesh, mesh.authority.issue(ALICE))
        mesh.server.put(mesh.bob)
        assert mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]) == 0


def test_a_certificate_that_does_not_come_refuses_the_peer() -> None:
    """No own certificate, no handshake; the peer is told so, and the reason of the CA is in the log."""
    with Mesh() as mesh:
        mesh.server.main.issue = False
        with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock:
            _hello(sock)
            while not mesh.server.main.wanted:
                mesh.thread.settle()
            mesh.server.call(lambda: mesh.server.server.credentials_failed(BOB, "CA says no"))
            assert sock.makefile("rb").read() == CERTIFICATE_UNOBTAINABLE
        said = dict(mesh.server.main.wait_logs(1)[0].fields)
        assert (said["error"], said["reason"]) == (
            "tls handshake error: identity error: CA says no",
            "CERTIFICATE_MISSING",
        )


@pytest.mark.parametrize("whose", ["the client's", "the server's"])
def test_a_tunnel_ends_when_a_certificate_expires(whose: str) -> None:
    """Either end's: what was proven then is not proven any more."""
    ahead, minute = [0.0], 60.0
    ends = {"the client's": (minute, 10 * minute), "the server's": (10 * minute, minute)}[whose]
    client, server = (now() + end for end in ends)
    with (
        Mesh(server_config=replace(CONFIG, keepalive_ping_interval=0.1), clock=lambda: now() + ahead[0]) as mesh,
        mesh.app(echo) as app,
    ):
        own = mesh.authority.issue(BOB, not_after=server)
        mesh.server.call(lambda: mesh.server.server.put_credentials(own))
        with tunnel(mesh, not_after=client) as peer:
            stream = peer.connect(f"{mesh.ip}:{app.port}")
            assert peer.answer(stream)[":status"] == "200"
            ahead[0] = minute
            with pytest.raises((ConnectionError, ssl.SSLError)):
                peer.wait(type(None))
        assert dict(mesh.server.main.wait_logs(1)[0].fields)["error"] == "connection closed: certificate expired"


def test_a_peer_that_answers_no_ping_is_dropped() -> None:
    """Dead peers are found without traffic."""
    config = replace(CONFIG, keepalive_ping_interval=0.05, keepalive_ping_timeout=0.1)
    with Mesh(server_config=config) as mesh, tunnel(mesh) as peer:
        while peer.sock.recv(65536):
            pass
        assert mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]) == 0


def test_a_peer_that_answers_pings_stays(mesh: Mesh) -> None:
    """The answer starts the next interval."""
    config = replace(CONFIG, keepalive_ping_interval=0.02, keepalive_ping_timeout=PATIENCE)
    with Mesh(server_config=config) as lively, lively.app(echo) as app, tunnel(lively) as peer:
        for _ in range(5):
            peer.wait(h2.events.PingReceived)
        stream = peer.connect(f"{lively.ip}:{app.port}")
        assert peer.answer(stream)[":status"] == "200"


def _hello(sock: socket.socket) -> None:
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x").do_handshake()
    sock.sendall(outgoing.read())
