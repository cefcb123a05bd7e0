"""Through the gateway of another network: HBONE inside HBONE, over real TLS on both levels."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

import pytest
from tests.support.hbone_peer import context, frame_types
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import CONFIG, App, Host, Mesh, assert_reset, echo, fresh_ip, pattern, receive_all, workload

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.model.trust import TrustBundle
from hostmesh.proxy.failure import DRAINED
from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED, RECEIVED, SENT
from hostmesh.wire.http2.frames import HEADERS, SETTINGS, frame

GATEWAY = Identity("cluster.local", "infra", "east-west")
SHOP = NamespacedHostname("default", "shop.lab")
VIP = "10.9.9.9"


@dataclass
class World:
    """alice in network `lab`; bob in `dc2`, behind a gateway there that is an agent of ours with a relay behind it."""

    mesh: Mesh
    gateway: Host
    relay: App
    onward: list[tuple[str, int]]
    """The last is where the relay leads."""

    def call(self) -> socket.socket:
        """Alice calls the service's VIP."""
        self.mesh.client.destination = SocketAddress.of(VIP, 80)
        return self.mesh.dial()

    def outcome(self) -> dict[str, object]:
        return dict(self.mesh.client.main.wait_logs(1)[-1].fields)


def relay_to(onwards: list[tuple[str, int]]) -> Callable[[socket.socket], None]:
    """A gateway's inside: bytes as they come to the inbound of the workload."""

    def serve(sock: socket.socket) -> None:
        with socket.create_connection(onwards[-1]) as onward:
            up = threading.Thread(target=_pump, args=(sock, onward), daemon=True)
            up.start()
            _pump(onward, sock)
            up.join()

    return serve


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        with suppress(OSError):  # who waits at it is woken, as by a close it were not
            sink.shutdown(socket.SHUT_RDWR)


def _send(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


@pytest.fixture
def sans() -> tuple[str, ...]:
    return (str(BOB),)


@pytest.fixture
def beside() -> tuple[Identity, ...]:
    """Who shares bob's address."""
    return ()


@pytest.fixture
def world(sans: tuple[str, ...], beside: tuple[Identity, ...]) -> Iterator[World]:
    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(server_config=replace(CONFIG, network="dc2"), beside_bob=beside))
        gateway_ip = fresh_ip()
        onward = [(mesh.ip, 15008)]
        relay = stack.enter_context(App(gateway_ip, relay_to(onward)))
        app = stack.enter_context(mesh.app(echo))
        gateway_workload = replace(
            workload("east-west", GATEWAY, gateway_ip), network="dc2", services={SHOP: {80: relay.port}}
        )
        gateway = Host(
            mesh.thread,
            mesh.authority,
            [LocalWorkload(1, "east-west", "infra", GATEWAY, "east-west.service")],
            [gateway_workload, Service("shop", "default", SHOP.hostname, ports={80: 80})],
            config=replace(CONFIG, network="dc2"),
        )
        gateway.listen("inbound", gateway_ip, 15008)
        stack.callback(lambda: _drained(gateway))
        service = Service(
            "shop",
            "default",
            SHOP.hostname,
            (NetworkAddress("lab", parse_ip(VIP)),),
            ports={80: app.port},
            subject_alt_names=sans,
        )
        address = GatewayAddress(NetworkAddress("dc2", parse_ip(gateway_ip)), 15008)
        bob = replace(mesh.bob, network="dc2", services={SHOP: {80: app.port}}, network_gateway=address)
        mesh.server.put(service, bob)
        mesh.client.put(service, replace(bob, addresses=()), replace(gateway_workload, services={}))
        yield World(mesh, gateway, relay, onward)


def _drained(host: Host) -> None:
    done = threading.Event()
    host.call(lambda: host.server.drain(0.0, done.set))
    assert done.wait(PATIENCE)


def test_bytes_go_both_ways_and_each_way_ends_on_its_own(world: World) -> None:
    """Half-close passes both tunnels: the rest of a large answer still arrives after the client's FIN."""
    data = b"".join(pattern(3 << 20))
    with world.call() as sock:
        sender = threading.Thread(target=_send, args=(sock, data), daemon=True)
        sender.start()
        assert receive_all(sock) == data
        sender.join()
    fields = world.outcome()
    assert "error" not in fields
    assert world.mesh.client.total(RECEIVED) == world.mesh.client.total(SENT) == len(data)


def test_the_log_names_the_gateway_as_next_hop_and_the_peer_behind_it(world: World) -> None:
    """What is dialled is the gateway; workload and identity are those that answered inside (by its baggage)."""
    with world.call() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    fields = world.outcome()
    assert str(fields["dst.addr"]).endswith(":15008")
    assert fields["dst.hbone_addr"] == "shop.lab:80"
    assert fields["dst.service"] == "shop.lab"
    assert (fields["dst.workload"], fields["dst.identity"]) == ("bob", str(BOB))
    ((labels, _),) = world.mesh.client.samples(CLOSED)
    assert (labels["destination_workload"], labels["destination_principal"]) == ("bob", str(BOB))
    assert labels["connection_security_policy"] == "mutual_tls"


def test_the_server_judges_the_client_by_its_own_identity(world: World) -> None:
    """Policies see alice, whoever carried her bytes; and the network she says she comes from makes her IP unknown."""
    with world.call() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    fields = dict(world.mesh.server.main.wait_logs(1)[-1].fields)
    assert fields["src.identity"] == str(ALICE)
    assert fields["src.workload"] == "alice"


def test_only_the_inner_request_says_from_which_network_it_comes(world: World) -> None:
    """Who hears of another network knows the caller by its baggage alone; who does not looks at its address."""
    namesake = replace(world.mesh.alice, uid="dc2//namesake", name="namesake", workload_name="namesake", network="dc2")
    for host in (world.gateway, world.mesh.server):
        host.put(namesake)
    with world.call() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    ((at_gateway, _),) = world.gateway.samples(OPENED)
    ((behind, _),) = world.mesh.server.samples(OPENED)
    assert (at_gateway["source_workload"], behind["source_workload"]) == ("namesake", "alice")


@pytest.mark.parametrize("beside", [(Identity("cluster.local", "default", "carol"),)])
def test_who_serves_the_service_is_asked_for_by_its_name(world: World) -> None:
    """The host behind the gateway has several workloads, and which one is meant only the server name says."""
    with world.call() as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
    assert world.outcome()["dst.identity"] == str(BOB)


def test_a_policy_behind_the_gateway_refuses(world: World) -> None:
    """The 401 from inside closes the application's connection and is counted with what was known: the gateway."""
    deny = Authorization("no", "default", PolicyScope.NAMESPACE, Action.DENY, ((),))
    world.mesh.server.put(deny)
    assert_reset(world.call)
    assert world.outcome()["error"] == "http status: 401 Unauthorized, the peer says POLICY_DENIED"
    assert world.mesh.client.total(FAILED) == 1


def test_a_peer_revoked_while_the_tunnel_inside_comes_up_gets_no_stream(world: World) -> None:
    """The list comes between its handshake and its SETTINGS, when the tunnel is nobody's yet."""
    mesh = world.mesh
    with socket.create_server((fresh_ip(), 0)) as listener:
        listener.settimeout(PATIENCE)
        world.onward.append(listener.getsockname())
        with world.call() as app:
            raw, _ = listener.accept()
            raw.settimeout(PATIENCE)
            tls = context(mesh.authority.issue(BOB), mesh.authority.pem, server=True)
            with tls.wrap_socket(raw, server_side=True) as sock:
                heard = sock.recv(24)  # the client has let the certificate pass
                revoked = TrustBundle("cluster.local", mesh.authority.pem, frozenset(), frozenset({BOB}))
                mesh.client.call(lambda: mesh.client.server.set_trust(revoked))
                sock.sendall(frame(SETTINGS, 0, 0, b""))
                with pytest.raises(ConnectionResetError):
                    app.recv(1)
                while data := sock.recv(4096):
                    heard += data
    assert heard.startswith(b"PRI * HTTP/2.0")
    assert bytes([HEADERS]) not in frame_types(heard[24:])
    assert world.outcome()["error"] == "connection closed: peer certificate revoked by CRL"


@pytest.mark.parametrize("sans", [("spiffe://cluster.local/ns/default/sa/somebody-else",)])
def test_a_peer_that_the_service_does_not_name_is_not_believed(world: World) -> None:
    """The gateway chooses the endpoint, but cannot choose who the client believes."""
    assert_reset(world.call)
    assert "did not present the expected SAN" in str(world.outcome()["error"])


@pytest.mark.parametrize("sans", [()])
def test_without_names_nobody_is_believed(world: World) -> None:
    """An empty list fails closed, before anything is dialled."""
    assert_reset(world.call)
    assert "subjectAltNames" in str(world.outcome()["error"])
    assert world.relay.accepted == 0


def test_a_gateway_whose_inside_is_dead_is_a_failure(world: World) -> None:
    """The outer 503 ends the connection with its reason."""
    world.relay.close()
    assert_reset(world.call)
    assert world.outcome()["error"] == "http status: 503 Service Unavailable, the peer says APPLICATION_REFUSED"


def test_tunnels_to_the_gateway_are_shared_and_those_inside_are_not(world: World) -> None:
    """Three applications: one outer tunnel, three streams, three inner tunnels, none left when they have ended."""
    pool = world.mesh.client.server._host.pool
    socks = [world.call() for _ in range(3)]
    for sock in socks:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    assert world.mesh.client.call(lambda: (len(pool), len(pool.nested))) == (1, 3)
    assert world.relay.accepted == 3
    for sock in socks:
        sock.close()
    world.mesh.client.main.wait_logs(3)
    world.mesh.thread.settle()
    assert world.mesh.client.call(lambda: len(pool.nested)) == 0


def test_a_forced_end_closes_both_levels(world: World) -> None:
    """At the deadline of a drain nothing stays open inside of the outer tunnel."""
    pool = world.mesh.client.server._host.pool
    with world.call() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        world.mesh.client.call(lambda: world.mesh.client.server._context.connections.close_all(DRAINED))
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    world.mesh.client.main.wait_logs(1)
    world.mesh.thread.settle()
    assert world.mesh.client.call(lambda: len(pool.nested)) == 0
    assert world.outcome()["error"] == DRAINED.error
