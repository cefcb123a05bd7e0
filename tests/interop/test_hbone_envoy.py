"""HBONE with a real Envoy at the other end, as client of our inbound and as server of our outbound."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import envoy
from tests.support.pki import ALICE, BOB
from tests.support.proxy import App, Mesh, echo, fresh_ip, pattern, receive_all, workload

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.transport.tls.engine import TlsProvider
from hostmesh.transport.tls.select import provider

pytestmark = pytest.mark.interop

SIZE = 64 << 20
STREAMS = 120


@pytest.fixture(params=["system", "bundled"])
def tls(request: pytest.FixtureRequest) -> TlsProvider:
    """Both of our engines against BoringSSL."""
    return provider(request.param)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def body_both_ways(sock: socket.socket) -> None:
    """Send a big body up while the same comes back, and compare by hash."""
    expected = hashlib.blake2b(b"".join(pattern(SIZE))).digest()

    def send() -> None:
        for piece in pattern(SIZE):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    sock.settimeout(30)
    seen = hashlib.blake2b()
    while data := sock.recv(1 << 20):
        seen.update(data)
    sender.join()
    assert seen.digest() == expected


def ended(sock: socket.socket) -> bool:
    """Whether the other side closed without a byte; a reset says the same."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def many_streams(dial: object) -> None:
    """All open at once, each with its own bytes, half-closed by the client."""
    socks: list[socket.socket] = [dial() for _ in range(STREAMS)]  # type: ignore[operator]
    for number, sock in enumerate(socks):
        sock.sendall(number.to_bytes(2, "big") * 500)
        sock.shutdown(socket.SHUT_WR)
    for number, sock in enumerate(socks):
        with sock:
            assert receive_all(sock) == number.to_bytes(2, "big") * 500


@contextmanager
def envoy_client(mesh: Mesh, app: App, directory: Path, *, expects: Identity = BOB) -> Iterator[int]:
    """Alice's Envoy in front of our inbound; yields the port that applications connect to."""
    listen, admin = free_port(), free_port()
    config = envoy.client(
        listen, (mesh.ip, 15008), f"{mesh.ip}:{app.port}", expects, mesh.authority.issue(ALICE), admin
    )
    with envoy.running(config, directory, admin):
        yield listen


def test_envoy_as_client(tls: TlsProvider, tmp_path: Path) -> None:
    """A big body both ways, then more streams at once than one of its connections carries."""
    with Mesh(server_tls=tls) as mesh, mesh.app(echo) as app, envoy_client(mesh, app, tmp_path) as port:

        def dial() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), 20)

        with dial() as sock:
            body_both_ways(sock)
        many_streams(dial)
        records = mesh.server.main.wait_logs(1 + STREAMS)
        assert {record.level for record in records} == {"info"}
        assert {dict(record.fields)["src.identity"] for record in records} == {str(ALICE)}


def test_envoy_as_client_refuses_a_wrong_server(tmp_path: Path) -> None:
    """It looks for the identity that it expects in our certificate; ours is another one."""
    carol = Identity("cluster.local", "default", "carol")
    with Mesh() as mesh, mesh.app(echo) as app, envoy_client(mesh, app, tmp_path, expects=carol) as port:
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            assert ended(sock)
        assert app.accepted == 0


@contextmanager
def envoy_server(mesh: Mesh, app: App, directory: Path, identity: Identity = BOB) -> Iterator[None]:
    """Bob's Envoy behind our outbound."""
    ip, admin = fresh_ip(), free_port()
    config = envoy.server(15008, (app.ip, app.port), mesh.authority.issue(identity), "cluster.local", admin)
    config["static_resources"]["listeners"][0]["address"]["socket_address"]["address"] = ip
    mesh.client.put(workload("far", BOB, ip))
    mesh.client.destination = SocketAddress.of(ip, 8080)
    with envoy.running(config, directory, admin):
        yield


def test_envoy_as_server(tls: TlsProvider, tmp_path: Path) -> None:
    """Its DATA frames are 16 KiB and it accepts no larger ones; its answer carries more than a status."""
    with Mesh(client_tls=tls) as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path):
        with mesh.dial() as sock:
            body_both_ways(sock)
        many_streams(mesh.dial)
        records = mesh.client.main.wait_logs(1 + STREAMS)
        assert {record.level for record in records} == {"info"}


def test_envoy_as_server_with_a_wrong_identity_is_refused(tmp_path: Path) -> None:
    """Its certificate is valid and of our trust domain, but names somebody else."""
    carol = Identity("cluster.local", "default", "carol")
    with Mesh() as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path, carol):
        with mesh.dial() as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        error = str(dict(mesh.client.main.wait_logs(1)[0].fields)["error"])
        assert "peer did not present the expected SAN" in error
        assert app.accepted == 0


def test_envoy_hears_why_it_is_refused(tmp_path: Path) -> None:
    """An application that is not there closes the client, and the tunnel serves the next one."""
    with Mesh() as mesh, mesh.app(echo) as app, envoy_client(mesh, app, tmp_path) as port:
        address = ("127.0.0.1", port)
        app.close()
        with socket.create_connection(address, 20) as sock:
            assert ended(sock)
        record = mesh.server.main.wait_logs(1)[0]
        assert dict(record.fields)["error"] == "connection failed: Connection refused (os error 111)"
