"""Who comes to the HBONE listener and is no client of the mesh, and what becomes of it: one row each."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.hbone_peer import Peer, context
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority
from tests.support.proxy import CONFIG, Mesh, echo

from hostmesh.model.identity import Credentials
from hostmesh.model.trust import TrustBundle
from hostmesh.proxy import inbound
from hostmesh.telemetry.metrics import OPENED
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.engine import TlsProvider
from hostmesh.transport.tls.system import SystemTls

Attack = Callable[[Mesh], None]


def handshake(mesh: Mesh, made: ssl.SSLContext) -> None:
    """Shake hands and read: in TLS 1.3 a client hears only afterwards that it is not wanted."""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection((mesh.ip, 15008), PATIENCE) as raw,
        made.wrap_socket(raw) as sock,
    ):
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        while sock.recv(4096):
            continue


def with_certificate(make: Callable[[Authority], Credentials | None]) -> Attack:
    return lambda mesh: handshake(mesh, context(make(mesh.authority), mesh.authority.pem, server=False))


def with_alpn(*protocols: str) -> Attack:
    def attack(mesh: Mesh) -> None:
        made = context(mesh.authority.issue(ALICE), mesh.authority.pem, server=False)
        made.set_alpn_protocols(protocols)
        handshake(mesh, made)

    return attack


def tls_1_2(mesh: Mesh) -> None:
    made = context(mesh.authority.issue(ALICE), mesh.authority.pem, server=False)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    handshake(mesh, made)


def revoked(mesh: Mesh) -> None:
    bundle = TrustBundle("cluster.local", mesh.authority.pem, frozenset(), frozenset({ALICE}))
    mesh.server.call(lambda: mesh.server.server.set_trust(bundle))
    with_certificate(lambda authority: authority.issue(ALICE))(mesh)


def say(data: bytes) -> Attack:
    """Bytes, then nothing until the other side closes."""

    def attack(mesh: Mesh) -> None:
        with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(data)
            assert sock.recv(1) == b""

    return attack


def drip(mesh: Mesh) -> None:
    """Slow loris: an endless ClientHello, a byte at a time, each soon enough to look alive."""
    closed = threading.Event()
    with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"\x16\x03\x01\x20\x00\x01\x00\x1f\xfc")
        sock.settimeout(0.01)
        while not closed.is_set():
            with contextlib.suppress(TimeoutError):
                assert sock.recv(1) == b""
                closed.set()
            if not closed.is_set():
                sock.sendall(b"\x00")


def stop_after_hello(mesh: Mesh) -> None:
    """A whole ClientHello, and not a byte of an answer to what the server says to it."""
    outgoing = ssl.MemoryBIO()
    made = context(None, mesh.authority.pem, server=False).wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
    with socket.create_connection((mesh.ip, 15008), PATIENCE) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(outgoing.read())
        while sock.recv(4096):
            continue


SILENT = "timed out"
"""Why those are refused who say nothing more."""

REFUSED: list[tuple[str, Attack, str]] = [
    ("TLS 1.2", tls_1_2, "the peer does not speak TLS 1.3"),
    ("no ALPN", with_alpn(), "does not offer the application protocol h2"),
    ("ALPN http/1.1", with_alpn("http/1.1"), "does not offer the application protocol h2"),
    ("no certificate", with_certificate(lambda _: None), "the peer sent no certificate"),
    ("certificate of another root", with_certificate(lambda _: Authority("x").issue(ALICE)), "unknown issuer"),
    ("certificate without SPIFFE SAN", with_certificate(lambda a: a.without_san()), "no SPIFFE identity"),
    ("SAN of another scheme", with_certificate(lambda a: a.issue(ALICE, uris=("https://x/ns/a/sa/b",))), "no SPIFFE"),
    (
        "SAN that is no identity",
        with_certificate(lambda a: a.issue(ALICE, uris=("spiffe://cluster.local/x",))),
        "no SPIFFE",
    ),
    ("another trust domain", with_certificate(lambda a: a.of_trust_domain("elsewhere.org")), "not of trust domain"),
    ("expired certificate", with_certificate(lambda a: a.expired()), "certificate has expired"),
    ("certificate of tomorrow", with_certificate(lambda a: a.not_yet_valid()), "certificate is not yet valid"),
    ("revoked certificate", revoked, "peer certificate revoked by CRL"),
    ("silence", say(b""), SILENT),
    ("half a ClientHello", say(b"\x16\x03\x01\x02\x00\x01"), SILENT),
    ("slow loris", drip, SILENT),
    ("half a handshake", stop_after_hello, SILENT),
    ("plain HTTP", say(b"GET / HTTP/1.1\r\n\r\n"), "instead of a TLS handshake"),
    ("HTTP/2 without TLS", say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "instead of a TLS handshake"),
    (
        "an endless ClientHello",
        say(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16381)),
        "ClientHello of 16777219 bytes",
    ),
    (
        "a ClientHello in crumbs",
        say(b"".join(b"\x16\x03\x01\x00\x01" + bytes((byte,)) for byte in b"\x01\x00\x10\x00" + bytes(100))),
        "in more than 64 records",
    ),
    ("a record too long", say(b"\x16\x03\x01\xff\xff\x01"), "TLS record of 65535 bytes"),
]


@pytest.mark.parametrize("tls", [SystemTls, BundledTls])
@pytest.mark.parametrize(("attack", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_is_refused_before_any_http(tls: Callable[[], TlsProvider], attack: Attack, error: str) -> None:
    """No tunnel, no metrics, one line in the log that says why; the socket is gone and the next client is served."""
    config = replace(CONFIG, handshake_timeout=0.3) if error == SILENT else CONFIG
    with Mesh(server_tls=tls(), server_config=config) as mesh:
        attack(mesh)
        record = mesh.server.main.wait_logs(1)[0]
        assert (record.level, record.message) == ("warn", "connection failed")
        told = str(dict(record.fields)["error"])
        assert told.startswith("tls handshake error: ")
        assert error in told
        assert mesh.server.samples(OPENED) == []
        mesh.thread.settle()
        assert mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]) == 0


def test_a_client_that_says_nothing_after_its_handshake_is_dropped() -> None:
    """It has proven who it is, and is asked whether it is there like any other: no answer, no tunnel."""
    config = replace(CONFIG, keepalive_ping_interval=0.05, keepalive_ping_timeout=0.1)
    with Mesh(server_config=config) as mesh:
        made = context(mesh.authority.issue(ALICE), mesh.authority.pem, server=False)
        with socket.create_connection((mesh.ip, 15008), PATIENCE) as raw, made.wrap_socket(raw) as sock:
            while sock.recv(4096):
                continue
        mesh.thread.settle()
        assert mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]) == 0


def test_a_certificate_of_two_identities_is_its_first() -> None:
    """Policies and logs know the first SPIFFE name only, as other ambient proxies do."""
    with Mesh() as mesh, mesh.app(echo) as app:
        made = context(mesh.authority.with_two_sans(ALICE, BOB), mesh.authority.pem, server=False)
        with socket.create_connection((mesh.ip, 15008), PATIENCE) as raw, made.wrap_socket(raw) as sock:
            peer = Peer(sock, client=True)
            stream = peer.connect(f"{mesh.ip}:{app.port}")
            assert peer.answer(stream)[":status"] == "200"
        assert dict(mesh.server.main.wait_logs(1)[0].fields)["src.identity"] == str(ALICE)


def half_open(mesh: Mesh, hello: bytes, number: int) -> list[socket.socket]:
    """Peers that stop somewhere in their handshake: with nothing said, within their ClientHello, or behind it."""
    said = (b"", hello[:100], hello)
    socks = []
    for place in range(number):
        sock = socket.create_connection((mesh.ip, 15008), PATIENCE)
        sock.sendall(said[place % len(said)])
        socks.append(sock)
    return socks


def client_hello(mesh: Mesh) -> bytes:
    outgoing = ssl.MemoryBIO()
    made = context(None, mesh.authority.pem, server=False).wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
    return outgoing.read()


def test_a_thousand_half_open_handshakes_stand_in_nobodys_way() -> None:
    """Open connections go on, new ones and new tunnels are made, and all of the thousand are gone after their time."""
    patient = replace(CONFIG, handshake_timeout=8.0)
    with Mesh(server_config=patient, client_tls=BundledTls(), server_tls=BundledTls()) as mesh, mesh.app(echo) as app:
        with mesh.connect(app.port) as before:
            socks = half_open(mesh, client_hello(mesh), 1000)
            for number in range(20):
                if number % 5 == 0:
                    mesh.client.call(mesh.client.server._host.pool.retire_all)
                with mesh.connect(app.port) as during:
                    for sock in (before, during):
                        sock.sendall(b"still here")
                        assert sock.recv(10) == b"still here"
        for sock in socks:
            sock.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionError), sock:
                while sock.recv(4096):
                    continue
        records = mesh.server.main.wait_logs(1021)
        refused = [dict(record.fields)["error"] for record in records if record.message == "connection failed"]
        assert refused == ["tls handshake error: timed out"] * 1000


def test_one_handshake_too_many_costs_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What half-open handshakes hold is bounded; whoever comes with a certificate gets in, and then stays."""
    monkeypatch.setattr(inbound, "MAX_UNPROVEN", 10)
    with Mesh(server_config=replace(CONFIG, handshake_timeout=60.0)) as mesh, mesh.app(echo) as app:
        with mesh.connect(app.port) as before:
            before.sendall(b"here")
            assert before.recv(10) == b"here"
            mesh.client.call(mesh.client.server._host.pool.retire_all)
            socks = half_open(mesh, client_hello(mesh), 30)
            with mesh.connect(app.port) as during:
                for sock in (during, before):
                    sock.sendall(b"still here")
                    assert sock.recv(10) == b"still here"
            errors = [str(dict(record.fields)["error"]) for record in mesh.server.main.wait_logs(21)[:21]]
            assert set(errors) == {"tls handshake error: too many handshakes at once, and this one has taken longest"}
            assert mesh.server.call(lambda: len(mesh.server.server._host.inbound)) == 11
        for sock in socks:
            sock.close()
