"""ProxyServer, black box: applications' sockets in front, real TLS and HTTP/2 between two of them."""

from __future__ import annotations

import gc
import hashlib
import queue
import resource
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.proxy import (
    CONFIG,
    Host,
    Mesh,
    assert_reset,
    echo,
    pattern,
    receive_all,
    send_until_blocked,
)

from hostmesh.proxy import failure as failures
from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED, RECEIVED, SENT
from hostmesh.transport.tls.engine import TlsProvider
from hostmesh.transport.tls.select import provider

MB = 1 << 20
_DEAD = failures.http2("killed by the test")


@pytest.fixture(params=["system", "bundled"])
def tls(request: pytest.FixtureRequest) -> TlsProvider:
    """Both engines carry everything."""
    return provider(request.param)


def test_bytes_reach_the_application_and_come_back(tls: TlsProvider) -> None:
    """Outbound, tunnel, inbound, application and back; both ends count and log it from their own point of view."""
    with Mesh(client_tls=tls, server_tls=tls) as mesh:

        def answer(sock: socket.socket) -> None:
            assert receive_all(sock) == b"hello mesh!"
            sock.sendall(b"hello to you, in return")

        with mesh.app(answer) as app, mesh.connect(app.port) as sock:
            sock.sendall(b"hello mesh!")
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b"hello to you, in return"
            logs = dict(mesh.client.main.wait_logs(1)[0].fields), dict(mesh.server.main.wait_logs(1)[0].fields)
        assert [(log["bytes_sent"], log["bytes_recv"], log["direction"]) for log in logs] == [
            (11, 23, "outbound"),
            (23, 11, "inbound"),
        ]
        assert "error" not in {*logs[0], *logs[1]}
        for host in (mesh.client, mesh.server):
            assert [host.total(metric) for metric in (OPENED, CLOSED, FAILED, RECEIVED, SENT)] == [1, 1, 0, 11, 23]


@pytest.mark.parametrize("upwards", [True, False], ids=["up", "down"])
def test_100_mb_arrive_unchanged(tls: TlsProvider, upwards: bool) -> None:
    """Integrity through every buffer, by hash, in both directions."""
    size = 100 * MB
    expected = hashlib.blake2b(b"".join(pattern(size))).digest()

    def send(sock: socket.socket) -> None:
        for piece in pattern(size):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)

    def receive(sock: socket.socket) -> bytes:
        seen = hashlib.blake2b()
        buffer = bytearray(MB)
        while n := sock.recv_into(buffer):
            seen.update(memoryview(buffer)[:n])
        return seen.digest()

    def serve(sock: socket.socket) -> None:
        if upwards:
            sock.sendall(receive(sock))
        else:
            send(sock)

    with Mesh(client_tls=tls, server_tls=tls) as mesh, mesh.app(serve) as app, mesh.connect(app.port) as sock:
        if upwards:
            send(sock)
        digest = receive_all(sock) if upwards else receive(sock)
    assert digest == expected


def test_the_client_may_end_first(mesh: Mesh) -> None:
    """A half-closed connection still carries the answer."""
    with mesh.app(lambda sock: sock.sendall(receive_all(sock)[::-1])) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"cba"


def test_the_application_may_end_first(mesh: Mesh) -> None:
    """The other half stays open until the client ends too."""
    seen = []

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        seen.append(receive_all(sock))

    with mesh.app(greet) as app:
        with mesh.connect(app.port) as sock:
            assert receive_all(sock) == b"bye"
            sock.sendall(b"late words")
        mesh.server.main.wait_logs(1)
    assert seen == [b"late words"]


def test_a_sleeping_reader_stops_its_sender_and_nobody_else(mesh: Mesh) -> None:
    """Windows bound what is in flight; other streams of the tunnel go on; nothing is lost after waking up."""
    wake = threading.Event()
    got = []

    def sleepy(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert wake.wait(PATIENCE)
        got.append(len(receive_all(sock)))

    with mesh.app(sleepy) as slow, mesh.app(echo) as quick:
        with mesh.connect(slow.port) as sock:
            sent = send_until_blocked(sock)
            # 4 MiB of window, and the kernel's buffers on two hops of loopback.
            assert sent < 64 * MB
            with mesh.connect(quick.port) as other:
                other.sendall(b"ping")
                assert other.recv(4) == b"ping"
            wake.set()
            sock.settimeout(PATIENCE)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        mesh.server.main.wait_logs(2)
    assert got == [sent]


def test_150_connections_at_once(mesh: Mesh) -> None:
    """More than one tunnel's streams: none fails, none gets another's bytes."""
    with mesh.app(echo) as app:
        socks = [mesh.connect(app.port) for _ in range(150)]
        for number, sock in enumerate(socks):
            sock.sendall(number.to_bytes(4, "big") * 100)
        for number, sock in enumerate(socks):
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == number.to_bytes(4, "big") * 100
            sock.close()
        assert mesh.server.call(lambda: mesh.server.server.metrics.sockets_open["destination"]) == 2
        mesh.client.main.wait_logs(150)


ABRUPTLY = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER of a connection that ends by a reset."""


def failures_of(*hosts: Host) -> list[tuple[str, str]]:
    said = [dict(host.main.wait_logs(1)[0].fields) for host in hosts]
    return [(str(fields.get("error", "")), str(fields.get("response_flags", ""))) for fields in said]


def test_an_application_that_resets_resets_its_client(mesh: Mesh) -> None:
    """RST goes on as RST_STREAM and RST: half an answer is no answer. Both logs say what happened."""

    def rude(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)

    with mesh.app(rude) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert failures_of(mesh.server, mesh.client) == [
            ("receive: io error: Connection reset by peer (os error 104)", "CONNECT"),
            ("receive: stream error received: CONNECT_ERROR", "CONNECT"),
        ]


def test_an_application_that_takes_no_more_after_its_end_is_done(mesh: Mesh) -> None:
    """Its answer was whole; what is still on the way to it is dropped, and that is no failure."""
    gone = threading.Event()

    def done(sock: socket.socket) -> None:
        sock.sendall(b"whole")
        sock.shutdown(socket.SHUT_WR)
        assert_set(gone)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)

    with mesh.app(done) as app, mesh.connect(app.port) as sock:
        assert receive_all(sock) == b"whole"
        gone.set()
        assert failures_of(mesh.server, mesh.client) == [("", ""), ("", "")]


def send_for_ever(sock: socket.socket) -> None:
    while True:
        sock.sendall(bytes(1 << 20))


def assert_set(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


def test_a_client_that_resets_resets_the_application(mesh: Mesh) -> None:
    """An upload that was broken off does not look finished."""
    seen: queue.Queue[str] = queue.Queue()
    started = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        started.set()
        try:
            receive_all(sock)
        except ConnectionResetError:
            seen.put("reset")
        else:
            seen.put("whole")

    with mesh.app(serve) as app:
        sock = mesh.connect(app.port)
        sock.sendall(b"words")
        assert_set(started)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
        sock.close()
        assert seen.get(timeout=PATIENCE) == "reset"
        assert failures_of(mesh.client, mesh.server) == [
            ("send: io error: Connection reset by peer (os error 104)", "CONNECT"),
            ("receive: stream error received: CONNECT_ERROR", "CONNECT"),
        ]


def test_a_client_that_falls_silent_after_its_end_is_a_failure() -> None:
    """It has ended and then vanishes while its answer comes: no reset says that it wanted no more."""
    broken: queue.Queue[BaseException] = queue.Queue()

    def serve(sock: socket.socket) -> None:
        assert sock.recv(1) == b""
        try:
            send_for_ever(sock)
        except ConnectionError as error:
            broken.put(error)

    config = replace(CONFIG, tcp_user_timeout=True, tcp_keepalive_time=1, tcp_keepalive_probes=0, tcp_keepalive=False)
    with Mesh(client_config=config) as mesh, mesh.app(serve) as app, mesh.connect(app.port) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert broken.get(timeout=PATIENCE)
        assert failures_of(mesh.client, mesh.server) == [
            ("receive: io error: Connection timed out (os error 110)", "CONNECT"),
            ("receive: stream error received: CONNECT_ERROR", "CONNECT"),
        ]


def test_a_refused_port_closes_the_client(mesh: Mesh) -> None:
    """503 between the proxies, a reset for the application, both reasons in the logs."""
    with socket.create_server((mesh.ip, 0)) as closed:
        port = closed.getsockname()[1]
    assert_reset(lambda: mesh.connect(port))
    (client,), (server,) = mesh.client.main.wait_logs(1), mesh.server.main.wait_logs(1)
    assert dict(client.fields)["error"] == "http status: 503 Service Unavailable, the peer says APPLICATION_REFUSED"
    assert dict(server.fields)["error"] == "connection failed: Connection refused (os error 111)"
    assert dict(server.fields)["response_flags"] == dict(client.fields)["response_flags"] == "CONNECT"
    for host in (mesh.client, mesh.server):
        ((labels, value),) = host.samples(FAILED)
        assert (labels["response_flags"], value) == ("CONNECT", 1)


def test_a_tunnels_death_fails_its_streams_only(mesh: Mesh) -> None:
    """Connections are reset, not ended; the next one gets a new tunnel."""
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"a")
        assert sock.recv(1) == b"a"
        mesh.server.call(lambda: mesh.server.server._host.inbound.close_all(_DEAD))
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        with mesh.connect(app.port) as again:
            again.sendall(b"b")
            assert again.recv(1) == b"b"


def test_draining_lets_connections_finish(mesh: Mesh) -> None:
    """New connections are refused at once; the running one ends in peace, then nothing is left."""
    drained = threading.Event()
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"a")
        assert sock.recv(1) == b"a"
        mesh.server.call(lambda: mesh.server.server.drain(PATIENCE, drained.set))
        mesh.thread.settle()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((mesh.ip, 15008), PATIENCE)
        sock.sendall(b"b")
        assert sock.recv(1) == b"b"
        assert not drained.is_set()
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        assert drained.wait(PATIENCE)


def test_a_drains_deadline_ends_what_is_left(mesh: Mesh) -> None:
    """Connections that do not end are reset and logged as drained, which is no failure."""
    drained = threading.Event()
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"a")
        assert sock.recv(1) == b"a"
        mesh.client.call(lambda: mesh.client.server.drain(0.05, drained.set))
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert drained.wait(PATIENCE)
    fields = dict(mesh.client.main.wait_logs(1)[0].fields)
    assert fields["error"] == "connection closed due to connection drain"
    assert mesh.client.total(FAILED) == 0


def test_connections_are_listed_with_both_addresses(mesh: Mesh) -> None:
    """What an admin sees while they are open."""
    with mesh.app(echo) as app, mesh.connect(app.port) as sock:
        sock.sendall(b"a")
        sock.recv(1)
        (outbound,) = mesh.client.call(mesh.client.server.connections)
        (inbound,) = mesh.server.call(mesh.server.server.connections)
        assert (outbound.direction, outbound.protocol, outbound.workload) == ("outbound", "HBONE", "lab//alice")
        assert outbound.original_destination == inbound.actual_destination == f"{mesh.ip}:{app.port}"
        assert outbound.actual_destination == f"{mesh.ip}:15008"
        assert inbound.original_destination == f"{mesh.ip}:{app.port}"


def test_1000_idle_connections_cost_little() -> None:
    """Two proxies in one process, less than 12 KiB for each side of a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    config = replace(CONFIG, keepalive_ping_interval=60.0)
    with Mesh(client_config=config, server_config=config) as mesh:
        app = socket.create_server((mesh.ip, 0), backlog=1024)
        port = app.getsockname()[1]
        accepted, clients = [], []

        def open_some(count: int) -> None:
            for _ in range(count):
                clients.append(mesh.connect(port))
                accepted.append(app.accept()[0])

        open_some(100)
        before = _resident()
        open_some(1000)
        grown = _resident() - before
        for sock in (*clients, *accepted, app):
            sock.close()
        mesh.client.main.wait_logs(1100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert grown < 1000 * 2 * 12 * 1024


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
