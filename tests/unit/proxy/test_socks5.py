"""SOCKS5 clients: served as who they are, refused when nobody knows who they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import CONFIG, Mesh, echo, fresh_ip, workload

from hostmesh.model.address import NetworkAddress, parse_ip
from hostmesh.model.service import Service, Visibility
from hostmesh.proxy.socks5 import address_of
from hostmesh.state.store import MeshState
from hostmesh.telemetry.metrics import RECEIVED

VIP = "10.9.9.9"
SUCCESS = bytes.fromhex("05000001000000000000")


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh(client_config=replace(CONFIG, handshake_timeout=3.0, certificate_wait=0.5)) as made:
        yield made


def client(mesh: Mesh) -> socket.socket:
    listener = mesh.client.listen("socks5", "127.0.0.1")
    return socket.create_connection((str(listener.ip), listener.port), timeout=PATIENCE)


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def ask(sock: socket.socket, destination: bytes, port: int) -> bytes:
    """Greet and ask; the answer to the request."""
    sock.sendall(b"\x05\x01\x00")
    assert receive(sock, 2) == b"\x05\x00"
    sock.sendall(b"\x05\x01\x00" + destination + port.to_bytes(2, "big"))
    return receive(sock, 10)


def name(text: str) -> bytes:
    return bytes([3, len(text)]) + text.encode()


def error_of(mesh: Mesh) -> str:
    return str(dict(mesh.client.main.wait_logs(1)[-1].fields)["error"])


def share(mesh: Mesh, port: int) -> None:
    service = Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip(VIP)),), ports={80: port})
    bob = replace(mesh.bob, services={service.namespaced_hostname: {80: port}})
    for host in (mesh.client, mesh.server):
        host.put(service, bob)


@pytest.mark.parametrize("way", ["name", "address", "vip"])
def test_a_workload_reaches_a_service(mesh: Mesh, way: str) -> None:
    """By a name of the mesh or by an address: through HBONE, as itself; payload need not wait for an answer."""
    with mesh.app(echo) as app:
        share(mesh, app.port)
        destination, port = {
            "name": (name("Shop.lab."), 80),
            "address": (b"\x01" + parse_ip(mesh.ip).packed, app.port),
            "vip": (b"\x01" + parse_ip(VIP).packed, 80),
        }[way]
        with client(mesh) as sock:
            sock.sendall(b"\x05\x01\x00\x05\x01\x00" + destination + port.to_bytes(2, "big") + b"hi")
            assert receive(sock, 14) == b"\x05\x00" + SUCCESS + b"hi"
        fields = dict(mesh.client.main.wait_logs(1)[0].fields)
        assert (fields["src.identity"], fields["dst.identity"]) == (str(ALICE), str(BOB))
        assert mesh.client.total(RECEIVED) == 2


def test_captured_connections_of_the_workload_have_the_same_tunnel(mesh: Mesh) -> None:
    """There is one pool for all ways into the proxy."""
    with mesh.app(echo) as app, mesh.connect(app.port) as captured, client(mesh) as sock:
        captured.sendall(b"a")
        assert captured.recv(1) == b"a"
        assert ask(sock, b"\x01" + parse_ip(mesh.ip).packed, app.port) == SUCCESS
        sock.sendall(b"b")
        assert sock.recv(1) == b"b"
        tunnels = mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"])
        assert tunnels == 1


def test_another_name_is_resolved_by_the_host(mesh: Mesh) -> None:
    """What it resolves to is then routed like any address."""
    with mesh.app(echo) as app:
        mesh.client.main.names["bob.example"] = (mesh.ip,)
        with client(mesh) as sock:
            assert ask(sock, name("bob.example"), app.port) == SUCCESS
            sock.sendall(b"hi")
            assert receive(sock, 2) == b"hi"


@pytest.mark.parametrize(("answer", "reason"), [((), "no such name"), (None, "not resolved in time")])
def test_a_name_of_nobody(mesh: Mesh, answer: tuple[str, ...] | None, reason: str) -> None:
    """Reply 4, and the log says which name."""
    if answer is not None:
        mesh.client.main.names["nowhere.example"] = answer
    with client(mesh) as sock:
        assert ask(sock, name("nowhere.example"), 80)[:2] == b"\x05\x04"
        assert sock.recv(1) == b""
    assert reason in error_of(mesh)
    assert dict(mesh.client.main.wait_logs(1)[0].fields)["dst.addr"] == "nowhere.example:80"


def test_who_says_everything_at_once_hears_why_it_is_refused(mesh: Mesh) -> None:
    """What it has sent after the request stays unread, and must not take the answers with it."""
    mesh.client.main.names["nowhere.example"] = ()
    with client(mesh) as sock:
        sock.sendall(b"\x05\x01\x00\x05\x01\x00" + name("nowhere.example") + b"\x00\x50" + b"payload" * 100)
        assert receive(sock, 12)[:4] == b"\x05\x00\x05\x04"


def test_a_caller_that_nobody_attests_is_refused(mesh: Mesh) -> None:
    """Before it says a word: a process that is no workload must not get the identity of one."""
    mesh.client.number = 0
    with client(mesh) as sock:
        assert receive(sock, 2) == b"\x05\xff"
        assert sock.recv(1) == b""
    assert "captured workloads" in error_of(mesh)


def test_a_workload_that_nobody_describes_is_refused(mesh: Mesh) -> None:
    """Its identity is not known, so nothing can be done in its name."""
    mesh.client.number = 7
    with client(mesh) as sock:
        assert receive(sock, 2) == b"\x05\xff"
    assert "local workload" in error_of(mesh)


@pytest.mark.parametrize("port", [15001, 15006, 15008, 15080])
def test_the_proxys_own_ports_cannot_be_asked_for(mesh: Mesh, port: int) -> None:
    """They would lead in a circle."""
    with client(mesh) as sock:
        assert ask(sock, b"\x01\x7f\x00\x00\x01", port) == SUCCESS
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert error_of(mesh) == "attempted recursive call to ourselves"


def test_who_says_nothing_does_not_stay(mesh: Mesh) -> None:
    """A negotiation has as long as a handshake."""
    with client(mesh) as sock:
        sock.sendall(b"\x05")
        assert sock.recv(1) == b""
    assert error_of(mesh) == "SOCKS client too slow"


def test_who_has_said_where_to_may_stay_as_long_as_it_likes(mesh: Mesh) -> None:
    """The limit is the negotiation's: somebody who came later and said nothing is gone already."""
    with mesh.app(echo) as app, client(mesh) as sock:
        assert ask(sock, b"\x01" + parse_ip(mesh.ip).packed, app.port) == SUCCESS
        with client(mesh) as silent:
            assert silent.recv(1) == b""
        sock.sendall(b"hi")
        assert receive(sock, 2) == b"hi"


def test_what_a_name_means_depends_on_who_asks() -> None:
    """VIPs of the caller's network, IPv4 first; endpoints of a service without one; nothing private to others."""
    state = MeshState()
    caller = workload("caller", ALICE, fresh_ip())
    far, six, four = (
        NetworkAddress(network, parse_ip(ip)) for network, ip in (("dc2", VIP), ("lab", "fd00::9"), ("lab", "10.9.9.8"))
    )
    headless = Service("bare", "default", "bare.lab", ports={80: 80})
    endpoint = replace(workload("one", BOB, "10.0.0.5"), services={headless.namespaced_hostname: {}})
    for service in (
        Service("both", "default", "both.lab", (far, six, four)),
        Service("far", "default", "far.lab", (far,)),
        Service("own", "other", "own.lab", (four,), visibility=Visibility.NAMESPACE),
        headless,
    ):
        state.upsert_service(service)
    state.upsert_workload(replace(endpoint, uid="lab//far", network="dc2", addresses=(parse_ip("10.0.0.4"),)))
    state.upsert_workload(endpoint)
    found = {host: address_of(state, caller, f"{host}.lab") for host in ("both", "far", "own", "bare", "none")}
    assert {host: str(ip) for host, ip in found.items() if ip is not None} == {"both": "10.9.9.8", "bare": "10.0.0.5"}
