"""The pool: which tunnel a connection gets, and how tunnels end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.foreign import Foreign
from tests.support.hbone_peer import Peer
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import (
    CONFIG,
    App,
    Mesh,
    assert_reset,
    echo,
    fresh_ip,
    receive_all,
    send_until_blocked,
    workload,
)

from hostmesh.model.address import NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.proxy import pool
from hostmesh.proxy.dial import Target
from hostmesh.proxy.pool import choose

TWO_STREAMS = replace(CONFIG, pool_max_streams=2)
TARGET = Target(ALICE, (BOB, ALICE), SocketAddress.of("10.0.0.1", 15008), "bob")


@dataclass
class Load:
    usable: bool
    streams: int
    capacity: int
    stalled: bool


@given(st.lists(st.builds(Load, st.booleans(), st.integers(0, 5), st.integers(0, 5), st.booleans())))
def test_the_oldest_with_room_is_chosen(loads: list[Load]) -> None:
    """Never one that is full or unusable, and one that is stalled only if all are; none only if there is none."""
    fitting = [load for load in loads if load.usable and load.streams < load.capacity]
    moving = [load for load in fitting if not load.stalled]
    chosen = choose(loads)
    assert chosen is next(iter(moving or fitting), None)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh(client_config=TWO_STREAMS) as made:
        yield made


def ping(sock: socket.socket) -> None:
    sock.sendall(b"ping")
    assert sock.recv(4) == b"ping"


def tunnels(mesh: Mesh) -> int:
    return mesh.client.call(lambda: len(mesh.client.server._host.pool))


def addresses(mesh: Mesh) -> list[str]:
    """Of the targets that the pool knows."""
    pooled = mesh.client.server._host.pool
    return mesh.client.call(lambda: [str(bucket.target.address.ip) for bucket in pooled._buckets.values()])


def test_a_second_connection_shares_the_tunnel(mesh: Mesh) -> None:
    """One handshake for many connections, also one after the other."""
    with mesh.app(echo) as app:
        for number in range(3):
            with mesh.connect(app.port) as sock, mesh.connect(app.port) as other:
                ping(sock)
                ping(other)
            mesh.client.main.wait_logs(2 * (number + 1))
        assert tunnels(mesh) == 1


def test_full_tunnels_get_a_sibling_and_are_used_again(mesh: Mesh) -> None:
    """Limit two: four connections make two tunnels, five more three more; room that comes back is used."""
    with mesh.app(echo) as app:
        first = [mesh.connect(app.port) for _ in range(4)]
        for sock in first:
            ping(sock)
        assert tunnels(mesh) == 2
        second = [mesh.connect(app.port) for _ in range(5)]
        for sock in second:
            ping(sock)
        assert tunnels(mesh) == 5
        for sock in first:
            sock.close()
        mesh.client.main.wait_logs(4)
        third = [mesh.connect(app.port) for _ in range(5)]
        for sock in third:
            ping(sock)
        assert tunnels(mesh) == 5
        for sock in (*second, *third):
            sock.close()


NARROW = replace(CONFIG, stream_window=65535, connection_window=65535)


def stall(mesh: Mesh, quiet: App) -> socket.socket:
    """A connection whose application never reads: it uses up the window of its tunnel."""
    sock = mesh.connect(quiet.port)
    send_until_blocked(sock)
    return sock


def test_a_stalled_tunnel_gets_a_sibling() -> None:
    """One application that does not read holds up no other of its host: the next connection has another tunnel."""
    done = threading.Event()
    with (
        Mesh(server_config=NARROW) as mesh,
        mesh.app(lambda _: assert_set(done)) as quiet,
        mesh.app(echo) as app,
        stall(mesh, quiet),
    ):
        for _ in range(2):
            with mesh.connect(app.port) as sock:
                ping(sock)
        assert tunnels(mesh) == 2
        done.set()


def test_stalled_tunnels_are_not_heaped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many as are sensible the next connection waits on one of them; it works once somebody reads."""
    monkeypatch.setattr(pool, "SIDE_BY_SIDE", 1)
    read = threading.Event()

    def late(sock: socket.socket) -> None:
        assert_set(read)
        receive_all(sock)

    with (
        Mesh(server_config=NARROW) as mesh,
        mesh.app(late) as quiet,
        mesh.app(echo) as app,
        stall(mesh, quiet),
        mesh.connect(app.port) as sock,
    ):
        sock.sendall(b"ping")
        assert tunnels(mesh) == 1
        read.set()
        assert sock.recv(4) == b"ping"


def test_without_a_sibling_a_stalled_tunnel_is_better_than_none() -> None:
    """The dial fails, as the host's listener is gone: the connection takes the tunnel that there is."""
    read = threading.Event()

    def late(sock: socket.socket) -> None:
        assert_set(read)
        receive_all(sock)

    with Mesh(server_config=NARROW) as mesh, mesh.app(late) as quiet, mesh.app(echo) as app:
        with stall(mesh, quiet):
            mesh.server.call(mesh.server.server._host._listeners.pop().close)
            with mesh.connect(app.port) as sock:
                sock.sendall(b"ping")
                read.set()
                assert sock.recv(4) == b"ping"
        assert tunnels(mesh) == 1


def assert_set(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


def test_a_limit_of_one_works() -> None:
    """One tunnel for each connection at a time."""
    with Mesh(client_config=replace(CONFIG, pool_max_streams=1)) as mesh, mesh.app(echo) as app:
        socks = [mesh.connect(app.port), mesh.connect(app.port)]
        for sock in socks:
            ping(sock)
        assert tunnels(mesh) == 2
        for sock in socks:
            sock.close()


def test_waiters_share_one_dial_and_its_failure() -> None:
    """A peer that accepts and says nothing, then hangs up: one attempt, everybody is told."""
    with Mesh() as mesh, socket.create_server((fresh_ip(), 15008)) as peer:
        ip = peer.getsockname()[0]
        mesh.client.put(workload("ghost", Identity("cluster.local", "default", "ghost"), ip))
        mesh.client.destination = SocketAddress.of(ip, 80)
        socks = [mesh.dial() for _ in range(10)]
        peer.settimeout(PATIENCE)
        peer.accept()[0].close()
        for sock in socks:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            sock.close()
        errors = {str(dict(record.fields)["error"]) for record in mesh.client.main.wait_logs(10)}
        assert len(errors) == 1
        assert errors.pop().startswith("io error: ")
        peer.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.accept()


def test_one_waiter_too_many_is_told_at_once(monkeypatch: pytest.MonkeyPatch, mesh: Mesh) -> None:
    """The others wait on, and are served when the dial succeeds."""
    monkeypatch.setattr(pool, "MAX_WAITERS", 2)
    mesh.client.main.issue = False
    with mesh.app(echo) as app:
        waiting = [mesh.connect(app.port) for _ in range(2)]
        with pytest.raises(ConnectionResetError), mesh.connect(app.port) as refused:
            refused.recv(1)
        assert "too many connections wait" in str(dict(mesh.client.main.wait_logs(1)[0].fields)["error"])
        mesh.client.main.issue = True
        mesh.client.call(lambda: mesh.client.server.put_credentials(mesh.authority.issue(ALICE)))
        for sock in waiting:
            with sock:
                ping(sock)


def test_who_waits_longest_is_served_first() -> None:
    """Streams are opened in the order in which the applications connected."""
    heard: list[bytes] = []
    done = threading.Event()

    def serve(peer: Peer, number: int) -> None:
        del number
        while len(heard) < 4:
            heard.append(peer.wait(h2.events.DataReceived).data)  # type: ignore[attr-defined]
        done.set()

    with Foreign(serve) as world:
        world.mesh.client.main.issue = False
        socks = []
        for number in range(4):
            socks.append(world.mesh.dial())
            socks[-1].sendall(b"%d" % number)
            world.mesh.thread.settle()
        world.mesh.client.call(lambda: world.mesh.client.server.put_credentials(world.mesh.authority.issue(ALICE)))
        assert_set(done)
        assert heard == [b"0", b"1", b"2", b"3"]
        for sock in socks:
            sock.close()


def test_renewed_credentials_make_a_new_tunnel_and_spare_the_old_ones_streams(mesh: Mesh) -> None:
    """The old tunnel takes no new streams and closes after its last one."""
    with mesh.app(echo) as app, mesh.connect(app.port) as old:
        ping(old)
        mesh.client.call(lambda: mesh.client.server.put_credentials(mesh.authority.issue(ALICE)))
        with mesh.connect(app.port) as new:
            ping(new)
            ping(old)
            assert tunnels(mesh) == 2
            old.close()
            mesh.client.main.wait_logs(1)
            mesh.thread.settle()
            assert tunnels(mesh) == 1
            ping(new)


def test_an_unused_tunnel_is_released_and_a_used_one_kept() -> None:
    """A connection that is quiet for longer than that keeps its tunnel, for others as well."""
    config = replace(CONFIG, pool_unused_release=0.1)
    with Mesh(client_config=config) as mesh, mesh.app(echo) as app:
        with mesh.connect(app.port) as sock:
            ping(sock)
            threading.Event().wait(0.25)
            ping(sock)
            with mesh.connect(app.port) as another:
                ping(another)
                assert tunnels(mesh) == 1
        mesh.client.main.wait_logs(2)
        while tunnels(mesh):
            mesh.thread.settle()
        assert addresses(mesh) == []


def test_of_unused_tunnels_the_oldest_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch, mesh: Mesh) -> None:
    """A worker that calls very many peers keeps the sessions of some only; what is used stays, however old."""
    monkeypatch.setattr(pool, "MAX_UNUSED", 2)
    monkeypatch.setattr(pool, "DIALS_BETWEEN_LOOKS", 1)
    ips = [mesh.ip, *(fresh_ip() for _ in range(4))]
    bob = replace(mesh.bob, addresses=tuple(map(parse_ip, ips)))
    mesh.client.put(bob)
    mesh.server.put(bob)
    with contextlib.ExitStack() as stack:
        apps = [stack.enter_context(App(ip, echo)) for ip in ips]
        used = stack.enter_context(mesh.connect(apps[0].port))
        ping(used)
        for number, app in enumerate(apps[1:], 1):
            mesh.server.listen("inbound", app.ip, 15008)
            mesh.client.destination = SocketAddress.of(app.ip, app.port)
            with mesh.dial() as sock:
                ping(sock)
            mesh.client.main.wait_logs(number)
        assert addresses(mesh) == [ips[0], *ips[2:]]
        ping(used)


@pytest.mark.parametrize(
    "other",
    [
        replace(TARGET, source=BOB),
        replace(TARGET, expected=(ALICE,)),
        replace(TARGET, expected=(ALICE, BOB)),
        replace(TARGET, address=SocketAddress.of("10.0.0.2", 15008)),
        replace(TARGET, address=SocketAddress.of("10.0.0.1", 15009)),
        replace(TARGET, server_name="another"),
    ],
)
def test_what_tells_tunnels_apart(other: Target) -> None:
    """Who calls, who may answer and in which order, where, and who is asked for."""
    assert other.key != TARGET.key


def test_ports_of_a_workload_share_a_tunnel(mesh: Mesh) -> None:
    """Where a stream leads is said by its CONNECT."""
    with (
        mesh.app(echo) as one,
        mesh.app(echo) as two,
        mesh.connect(one.port) as first,
        mesh.connect(two.port) as second,
    ):
        ping(first)
        ping(second)
        assert tunnels(mesh) == 1


def test_a_dial_that_hangs_holds_up_no_other_target(mesh: Mesh) -> None:
    """Only who wants the same waits for it."""
    with mesh.app(echo) as app, socket.create_server((fresh_ip(), 15008)) as silent:
        ip = silent.getsockname()[0]
        mesh.client.put(workload("ghost", Identity("cluster.local", "default", "ghost"), ip))
        mesh.client.destination = SocketAddress.of(ip, 80)
        with mesh.dial() as waiting:
            with silent.accept()[0], mesh.connect(app.port) as sock:
                ping(sock)
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)


def test_a_tunnel_is_unused_from_the_end_of_its_last_stream_on(mesh: Mesh) -> None:
    """Not from its beginning: a connection of an hour leaves it as fresh as one of a second."""
    with mesh.app(echo) as app:
        sock = mesh.connect(app.port)
        ping(sock)
        ending = mesh.client.call(mesh.thread.loop.now)
        sock.close()
        mesh.client.main.wait_logs(1)
        [used] = mesh.client.call(
            lambda: [
                pooled.last_used
                for bucket in mesh.client.server._host.pool._buckets.values()
                for pooled in bucket.tunnels
            ]
        )
        assert used >= ending


def test_different_callers_never_share(mesh: Mesh) -> None:
    """A tunnel proves one identity."""
    carol = Identity("cluster.local", "default", "carol")
    mesh.client.put(workload("carol", carol, "127.0.0.1"))
    captured = [
        LocalWorkload(1, "alice", "default", ALICE, "alice.service"),
        LocalWorkload(2, "carol", "default", carol, "carol.service"),
    ]
    mesh.client.call(lambda: mesh.client.server.set_local_workloads(captured))
    with mesh.app(echo) as app, mesh.connect(app.port) as first:
        mesh.client.number = 2
        with mesh.connect(app.port) as second:
            ping(first)
            ping(second)
            assert tunnels(mesh) == 2
        seen = {dict(record.fields).get("src.identity") for record in mesh.server.main.wait_logs(1)}
        assert seen == {str(carol)}


def accept(peer: Peer) -> int:
    """Take the next CONNECT."""
    event = peer.wait(h2.events.RequestReceived)
    stream: int = event.stream_id  # type: ignore[attr-defined]
    peer.h2.send_headers(stream, [(":status", "200")])
    peer.flush()
    return stream


def echo_once(peer: Peer, stream: int) -> None:
    data: bytes = peer.wait(h2.events.DataReceived, stream).data  # type: ignore[attr-defined]
    peer.send(stream, data)


def test_a_peer_that_goes_away_finishes_its_streams_and_gets_no_new_ones() -> None:
    """GOAWAY after the first stream: it goes on, the next connection dials again."""

    def serve(peer: Peer, number: int) -> None:
        stream = accept(peer)
        if number == 0:
            peer.h2.close_connection(last_stream_id=stream)
            peer.flush()
            peer.h2.state_machine.state = h2.connection.ConnectionState.SERVER_OPEN
        echo_once(peer, stream)
        peer.wait(h2.events.ConnectionTerminated)

    with Foreign(serve) as world, world.mesh.dial() as first:
        world.mesh.thread.settle()
        while world.server.accepted < 1 or tunnels(world.mesh) != 1:
            world.mesh.thread.settle()
        ping(first)
        with world.mesh.dial() as second:
            ping(second)
        assert world.server.accepted == 2


def test_what_a_retired_tunnel_still_hears_does_not_touch_its_successor() -> None:
    """Its peer may change its settings while the last streams run: the pool goes on to know the new tunnel."""
    change, changed, done = threading.Event(), threading.Event(), threading.Event()

    def serve(peer: Peer, number: int) -> None:
        echo_once(peer, accept(peer))
        if number == 0:
            assert change.wait(PATIENCE)
            peer.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 7})
            peer.flush()
            peer.wait(h2.events.SettingsAcknowledged)
            changed.set()
        assert done.wait(PATIENCE)

    with Foreign(serve) as far:
        mesh = far.mesh
        with mesh.dial() as old:
            ping(old)
            mesh.client.call(lambda: mesh.client.server.put_credentials(mesh.authority.issue(ALICE)))
            with mesh.dial() as new:
                ping(new)
                change.set()
                assert changed.wait(PATIENCE)
                mesh.thread.settle()
                assert (addresses(mesh), tunnels(mesh)) == ([far.ip], 2)
                done.set()


def test_streams_that_a_leaving_peer_never_looked_at_are_tried_again() -> None:
    """The application notices nothing: its bytes had not been sent yet."""

    def serve(peer: Peer, number: int) -> None:
        if number == 0:
            peer.wait(h2.events.RequestReceived)
            peer.h2.close_connection(last_stream_id=0)
            peer.flush()
            while peer.sock.recv(4096):
                pass
        else:
            stream = accept(peer)
            echo_once(peer, stream)
            peer.wait(h2.events.ConnectionTerminated)

    with Foreign(serve) as world, world.mesh.dial() as sock:
        ping(sock)
        assert world.server.accepted == 2


def test_the_peers_limit_counts_if_it_is_smaller() -> None:
    """MAX_CONCURRENT_STREAMS of one: nobody is refused, another tunnel is made."""

    def serve(peer: Peer, number: int) -> None:
        del number
        peer.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        peer.flush()
        stream = accept(peer)
        echo_once(peer, stream)
        peer.wait(h2.events.StreamEnded, stream)
        peer.h2.end_stream(stream)
        peer.flush()
        peer.wait(h2.events.ConnectionTerminated)

    with Foreign(serve) as world, world.mesh.dial() as first:
        ping(first)
        with world.mesh.dial() as second:
            ping(second)
            assert world.server.accepted == 2


def test_a_refused_stream_is_not_tried_forever() -> None:
    """A peer that refuses every stream fails the connection after a few attempts."""

    def serve(peer: Peer, number: int) -> None:
        del number
        while True:
            event = peer.wait(h2.events.RequestReceived)
            peer.h2.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)  # type: ignore[attr-defined]
            peer.flush()

    with Foreign(serve) as world:
        assert_reset(world.mesh.dial)
        record = world.mesh.client.main.wait_logs(1)[0]
        assert dict(record.fields)["error"] == "h2 failed: stream error received: REFUSED_STREAM"


def test_a_dead_server_is_found_without_traffic() -> None:
    """It answers no PING: its streams are reset, and the next connection has another tunnel."""
    done = threading.Event()

    def serve(peer: Peer, number: int) -> None:
        echo_once(peer, accept(peer))
        if number:
            peer.wait(h2.events.ConnectionTerminated)
        assert done.wait(PATIENCE)

    config = replace(CONFIG, keepalive_ping_interval=0.05, keepalive_ping_timeout=2.0)
    with Foreign(serve, config) as far, far.mesh.dial() as sock:
        ping(sock)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert "HBONE ping timeout/error" in str(far.mesh.client.main.wait_logs(1)[0].fields)
        with far.mesh.dial() as again:
            ping(again)
        done.set()


def test_a_request_as_a_stranger_sees_it() -> None:
    """No :scheme, no :path; who asks, for whom, and a trace of its own for each connection."""
    seen: list[list[tuple[str, str]]] = []
    done = threading.Event()

    def serve(peer: Peer, number: int) -> None:
        del number
        for _ in range(2):
            event = peer.wait(h2.events.RequestReceived)
            seen.append(list(event.headers))  # type: ignore[attr-defined]
            stream: int = event.stream_id  # type: ignore[attr-defined]
            peer.h2.send_headers(stream, [(":status", "200")])
            peer.flush()
            echo_once(peer, stream)
        assert done.wait(PATIENCE)

    with Foreign(serve, port=8080) as far:
        clients = []
        for _ in range(2):
            with far.mesh.dial() as sock:
                ping(sock)
                clients.append("{}:{}".format(*sock.getsockname()))
        done.set()
    for client, headers in zip(clients, seen, strict=True):
        names = [name for name, _ in headers]
        assert names == [":method", ":authority", "baggage", "forwarded", "traceparent"]
        assert headers[:2] == [(":method", "CONNECT"), (":authority", f"{far.ip}:8080")]
        assert "k8s.deployment.name=alice" in headers[2][1]
        assert headers[3][1] == f'for="{client}"'
    assert seen[0][4] != seen[1][4]


def test_a_stranger_is_told_which_service_was_called() -> None:
    """By its hostname; what it is asked for is the endpoint and its own port."""
    seen: dict[str, str] = {}
    done = threading.Event()

    def serve(peer: Peer, number: int) -> None:
        del number
        event = peer.wait(h2.events.RequestReceived)
        seen.update(event.headers)  # type: ignore[attr-defined]
        peer.h2.send_headers(event.stream_id, [(":status", "200")])  # type: ignore[attr-defined]
        peer.flush()
        echo_once(peer, event.stream_id)  # type: ignore[attr-defined]
        assert done.wait(PATIENCE)

    with Foreign(serve) as far:
        shop = Service("shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip("10.9.9.9")),), ports={80: 8080})
        endpoint = replace(workload("far", BOB, far.ip), services={shop.namespaced_hostname: {}})
        far.mesh.client.put(shop, endpoint)
        far.mesh.client.destination = SocketAddress.of("10.9.9.9", 80)
        with far.mesh.dial() as sock:
            ping(sock)
            client = "{}:{}".format(*sock.getsockname())
        done.set()
    assert seen[":authority"] == f"{far.ip}:8080"
    assert seen["forwarded"] == f'for="{client}";host=shop.lab'


def test_no_answer_to_a_connect_is_a_failure_after_a_while() -> None:
    """The tunnel stays, the connection does not hang."""
    done = threading.Event()

    def serve(peer: Peer, number: int) -> None:
        del number
        peer.wait(h2.events.RequestReceived)
        assert peer.wait(h2.events.StreamReset) is not None
        done.set()
        peer.wait(h2.events.ConnectionTerminated)

    config = replace(CONFIG, connect_timeout=0.1, handshake_timeout=3.0)
    with Foreign(serve, config) as world:
        assert_reset(world.mesh.dial)
        assert done.wait(PATIENCE)
        record = world.mesh.client.main.wait_logs(1)[0]
        assert dict(record.fields)["error"] == "h2 failed: no response to CONNECT in time"
