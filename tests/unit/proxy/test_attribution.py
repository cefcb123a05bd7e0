"""What the kernel says about an accepted socket without marks or redirection; marked ones need a namespace."""

from __future__ import annotations

import socket

from hostmesh.kernel.sockets import local_address
from hostmesh.proxy.attribution import from_kernel


def test_an_unmarked_connection_belongs_to_nobody() -> None:
    """Number 0 is no workload; the destination of a connection that nobody redirected is the socket's own address."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            attributed = from_kernel(accepted)
            assert attributed.number == 0
            assert attributed.destination == local_address(accepted)
