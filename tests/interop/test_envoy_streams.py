"""What happens to streams between us and a real Envoy: ends of either side, resets, frame sizes, GOAWAY."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from tests.support import envoy
from tests.support.patience import PATIENCE
from tests.support.proxy import App, Mesh, echo, receive_all
from tests.support.strangers import body_both_ways, ended, envoy_client, envoy_server

pytestmark = pytest.mark.interop

Dial = Callable[[], socket.socket]
Way = Callable[[Mesh, App, Path], AbstractContextManager[Dial]]

MAX_FRAME_SIZE = 5
"""The identifier of the setting (RFC 9113 §6.5.2)."""


@contextmanager
def through_envoy(mesh: Mesh, app: App, directory: Path) -> Iterator[Dial]:
    """Envoy is the client of our inbound."""
    with envoy_client(mesh, app, directory) as port:
        yield lambda: socket.create_connection(("127.0.0.1", port), PATIENCE)


@contextmanager
def to_envoy(mesh: Mesh, app: App, directory: Path) -> Iterator[Dial]:
    """Envoy is the server of our outbound."""
    with envoy_server(mesh, app, directory):
        yield mesh.dial


@pytest.fixture(params=[through_envoy, to_envoy])
def way(request: pytest.FixtureRequest) -> Way:
    """Both roles."""
    chosen: Way = request.param
    return chosen


def test_the_client_may_end_first(way: Way, tmp_path: Path) -> None:
    """Its FIN reaches the application, whose answer of 4 MiB comes after it."""

    def count_then_answer(sock: socket.socket) -> None:
        heard = len(receive_all(sock))
        sock.sendall(heard.to_bytes(4, "big") + bytes(4 << 20))

    with Mesh() as mesh, mesh.app(count_then_answer) as app, way(mesh, app, tmp_path) as dial, dial() as sock:
        sock.sendall(b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        said = receive_all(sock)
        assert int.from_bytes(said[:4], "big") == 100_000
        assert len(said) == 4 + (4 << 20)


def test_the_application_may_end_first(tmp_path: Path) -> None:
    """Its FIN reaches Envoy's client, whose bytes still reach the application."""
    heard = bytearray()

    def end_then_listen(sock: socket.socket) -> None:
        sock.sendall(b"that is all")
        sock.shutdown(socket.SHUT_WR)
        heard.extend(receive_all(sock))

    with Mesh() as mesh, mesh.app(end_then_listen) as app, through_envoy(mesh, app, tmp_path) as dial:
        with dial() as sock:
            assert receive_all(sock) == b"that is all"
            sock.sendall(b"one thing more")
            sock.shutdown(socket.SHUT_WR)
            assert mesh.server.main.wait_logs(1)[0].level == "info"
        app.close()
    assert bytes(heard) == b"one thing more"


def test_a_client_that_resets_frees_the_application(way: Way, tmp_path: Path) -> None:
    """A reset in the middle ends that stream at both ends, and the tunnel goes on."""
    with Mesh() as mesh, mesh.app(echo) as app, way(mesh, app, tmp_path) as dial:
        with dial() as stays:
            stays.sendall(b"here")
            assert stays.recv(4) == b"here"
            with dial() as goes:
                goes.sendall(b"x")
                assert goes.recv(1) == b"x"
                goes.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            host = mesh.client if way is to_envoy else mesh.server
            host.main.wait_logs(1)
            stays.sendall(b"still")
            assert stays.recv(5) == b"still"
        assert app.accepted == 2


def test_an_application_that_resets_ends_its_client(way: Way, tmp_path: Path) -> None:
    """No half answer looks whole, and the next stream of the tunnel is served."""
    numbers = iter(range(10))

    def reset_the_first(sock: socket.socket) -> None:
        if next(numbers):
            echo(sock)
            return
        assert sock.recv(1) == b"x"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with Mesh() as mesh, mesh.app(reset_the_first) as app, way(mesh, app, tmp_path) as dial:
        with dial() as sock:
            sock.sendall(b"x")
            assert ended(sock)
        with dial() as sock:
            sock.sendall(b"next")
            assert sock.recv(4) == b"next"


def test_frames_of_1_mib_go_to_an_envoy_that_takes_them(tmp_path: Path) -> None:
    """Envoy raises its MAX_FRAME_SIZE from 16 KiB to 1 MiB; its own frames stay at 16 KiB either way."""

    def large_frames(config: envoy.Json) -> None:
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http2_protocol_options"]["custom_settings_parameters"] = [
            {"identifier": MAX_FRAME_SIZE, "value": 1 << 20}
        ]

    with Mesh() as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path, adjust=large_frames):
        with mesh.dial() as sock:
            body_both_ways(sock)
            assert mesh.client.call(lambda: frame_sizes(mesh)) == [1 << 20]
        assert [record.level for record in mesh.client.main.wait_logs(1)] == ["info"]


def frame_sizes(mesh: Mesh) -> list[int]:
    """What the peers of the client's tunnels take."""
    return [tunnel.http2.peer_settings.max_frame_size for tunnel in mesh.client.server._host.pool.tunnels()]


def test_an_envoy_that_says_goaway_all_the_time_loses_nothing(tmp_path: Path) -> None:
    """Every connection ends after seven requests: streams that are open finish, the next one finds another tunnel."""

    def seven_requests(config: envoy.Json) -> None:
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        manager["common_http_protocol_options"] = {"max_requests_per_connection": 7}
        manager["drain_timeout"] = "0.2s"

    with Mesh() as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path, adjust=seven_requests) as admin:
        with mesh.dial() as long:
            long.sendall(b"begin")
            assert long.recv(5) == b"begin"
            for number in range(60):
                with mesh.dial() as sock:
                    sock.sendall(number.to_bytes(4, "big"))
                    sock.shutdown(socket.SHUT_WR)
                    assert receive_all(sock) == number.to_bytes(4, "big")
            long.sendall(b"end")
            assert long.recv(3) == b"end"
        records = mesh.client.main.wait_logs(61)
        assert {record.level for record in records} == {"info"}
        assert connections(admin) >= 61 // 7


def test_streams_outlive_the_drain_of_an_envoy(tmp_path: Path) -> None:
    """`drain_listeners` in the middle of a body: nothing of it is lost."""
    with Mesh() as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path) as admin:
        with mesh.dial() as sock:
            drained = threading.Timer(0.05, drain_listeners, [admin])
            drained.start()
            body_both_ways(sock)
            drained.join()
        assert [record.level for record in mesh.client.main.wait_logs(1)] == ["info"]


def connections(admin: int) -> int:
    """How many Envoy has accepted on its HBONE listener."""
    url = f"http://127.0.0.1:{admin}/stats?filter=^http.hbone.downstream_cx_total$"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.read().split()[-1])


def drain_listeners(admin: int) -> None:
    """Envoy stops listening and asks its peers to go."""
    url = f"http://127.0.0.1:{admin}/drain_listeners?graceful"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as answer:
        assert answer.status == 200


def test_an_envoy_hears_that_we_go_and_keeps_its_streams(tmp_path: Path) -> None:
    """Our GOAWAY lets what is open finish, byte for byte, before we close."""
    done = threading.Event()
    with Mesh() as mesh, mesh.app(echo) as app, through_envoy(mesh, app, tmp_path) as dial:
        with dial() as sock:
            sock.sendall(b"begin")
            assert sock.recv(5) == b"begin"
            mesh.server.call(lambda: mesh.server.server.drain(PATIENCE, done.set))
            body_both_ways(sock)
        assert done.wait(PATIENCE)
        assert [record.level for record in mesh.server.main.wait_logs(1)] == ["info"]
