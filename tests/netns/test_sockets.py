"""Options that need CAP_NET_ADMIN."""

from __future__ import annotations

import socket

import pytest
from tests.support.netns import namespace

from hostmesh.kernel import sockets

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(("family", "foreign"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")])
def test_mark_and_transparent(family: socket.AddressFamily, foreign: str) -> None:
    """A mark reads back; a transparent socket binds to a client's address."""
    with namespace() as host, host.entered(), socket.socket(family) as sock:
        sockets.set_mark(sock, 0x1539)
        assert sockets.get_mark(sock) == 0x1539
        sockets.set_transparent(sock)
        sock.bind((foreign, 0))
