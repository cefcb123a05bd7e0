"""A day without a control plane (R8): what is established works to its end, and then nothing goes out in plaintext."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import h2.events
import pytest
from tests.support.hbone_peer import dial
from tests.support.pki import ALICE, BOB, HOUR, now
from tests.support.proxy import CONFIG, Mesh, echo

DAY = 24 * HOUR
EXPIRED = "connection closed: certificate expired"


class Clock:
    """Both hosts' clock, a simulated time ahead of the real one."""

    ahead = 0.0

    def __call__(self) -> float:
        return now() + self.ahead


def ask(sock: socket.socket) -> bytes:
    sock.sendall(b"ping")
    return sock.recv(4)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mesh(clock: Clock, request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """Certificates of a day; the parameter is how often, in seconds, tunnels are looked at."""
    config = replace(CONFIG, keepalive_ping_interval=getattr(request, "param", 60.0))
    with Mesh(client_config=config, server_config=config, clock=clock) as made:
        for host, identity in ((made.client, ALICE), (made.server, BOB)):
            issued = made.authority.issue(identity, not_after=now() + DAY)
            host.call(lambda host=host, issued=issued: host.server.put_credentials(issued))  # type: ignore[misc]
        yield made


def refused(mesh: Mesh, port: int) -> bool:
    try:
        with mesh.connect(port) as sock:
            return ask(sock) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("mesh", [0.1], indirect=True)
def test_a_day_without_a_control_plane(mesh: Mesh, clock: Clock) -> None:
    """Certificates of a day, none renewed: every hour old and new connections work; after it nothing gets through."""
    seen: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        seen.append(b"")
        echo(sock)

    with mesh.app(serve) as app, mesh.connect(app.port) as old:
        assert ask(old) == b"ping"
        for hour in range(1, 24):
            clock.ahead = hour * HOUR
            assert ask(old) == b"ping"
            with mesh.connect(app.port) as new:
                assert ask(new) == b"ping"
        reached = len(seen)
        assert reached == 24
        clock.ahead = DAY + 1
        for _ in range(3):
            assert refused(mesh, app.port)
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        assert len(seen) == reached


def test_a_tunnel_takes_no_stream_after_a_suspended_night(mesh: Mesh, clock: Clock) -> None:
    """The server's side refuses by its own clock, and ends what was open; no timer has counted the night."""
    with (
        mesh.app(echo) as app,
        dial((mesh.ip, 15008), mesh.authority.issue(ALICE, not_after=now() + 3600), mesh.authority.pem) as peer,
    ):
        first = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(first)[":status"] == "200"
        peer.send(first, b"here")
        peer.wait(h2.events.DataReceived)  # so the application has accepted, not only its kernel
        clock.ahead = 8 * HOUR
        peer.connect(f"{mesh.ip}:{app.port}")
        peer.wait(h2.events.ConnectionTerminated)
        assert app.accepted == 1
    assert dict(mesh.server.main.wait_logs(1)[0].fields)["error"] == EXPIRED


def test_a_tunnel_is_replaced_when_the_clock_has_passed_half_of_its_time(mesh: Mesh, clock: Clock) -> None:
    """Though no timer has noticed; the streams that it has stay."""
    with mesh.app(echo) as app, mesh.connect(app.port) as old:
        assert ask(old) == b"ping"
        clock.ahead = DAY / 2 + HOUR
        with mesh.connect(app.port) as new:
            assert ask(new) == b"ping"
            assert mesh.client.call(lambda: len(mesh.client.server._host.pool)) == 2
            assert ask(old) == b"ping"
