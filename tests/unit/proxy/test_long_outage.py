"""A day without a control plane (R8): what is established works to its end, and then nothing goes out in plaintext."""

from __future__ import annotations

import socket

from tests.support.pki import ALICE, BOB, HOUR, now
from tests.support.proxy import Mesh, echo

from hostmesh.proxy import failure as failures


class Clock:
    """Both hosts' clock, a simulated time ahead of the real one."""

    ahead = 0.0

    def __call__(self) -> float:
        return now() + self.ahead


def ask(sock: socket.socket) -> bytes:
    sock.sendall(b"ping")
    return sock.recv(4)


def expire(mesh: Mesh) -> None:
    for quarter in mesh.client.server._all():
        quarter.pool.close_all(failures.CERTIFICATE_EXPIRED)


def refused(mesh: Mesh, port: int) -> bool:
    try:
        with mesh.connect(port) as sock:
            return ask(sock) == b""
    except ConnectionResetError:
        return True


def test_a_day_without_a_control_plane() -> None:
    """Certificates of a day, none renewed: every hour old and new connections work; after it nothing gets through."""
    clock = Clock()
    with Mesh(clock=clock) as mesh:
        for host, identity in ((mesh.client, ALICE), (mesh.server, BOB)):
            issued = mesh.authority.issue(identity, not_after=now() + 24 * HOUR)
            host.call(lambda host=host, issued=issued: host.server.put_credentials(issued))
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
            clock.ahead = 24 * HOUR + 1
            # Tunnels end by timers of the time that really passes (test_rotation waits for one): do it for them.
            mesh.client.call(lambda: expire(mesh))
            for _ in range(3):
                assert refused(mesh, app.port)
            assert len(seen) == reached
