"""What the byte path leaves behind: nothing that only the collector finds, so that a worker may freeze its heap."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator

import pytest
from tests.support.proxy import Mesh, echo, receive_all


@pytest.fixture
def saved() -> Iterator[None]:
    """The collector keeps what it finds in `gc.garbage`."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.usefixtures("saved")
def test_connections_and_tunnels_end_without_cycles() -> None:
    """Both ends of three connections, and of the tunnel that carried them."""
    with Mesh() as mesh, mesh.app(echo) as app:
        for _ in range(3):
            with mesh.connect(app.port) as sock:
                sock.sendall(b"fine")
                sock.shutdown(socket.SHUT_WR)
                assert receive_all(sock) == b"fine"
    gc.collect()
    found = {f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage}
    assert sorted(name for name in found if name.startswith("hostmesh.")) == []
