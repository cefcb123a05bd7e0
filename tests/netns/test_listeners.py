"""The agent's data listeners in a network namespace: which ones there are, and whose they are after a restart."""

from __future__ import annotations

import os
import socket

import pytest
from tests.support.netns import namespace

from hostmesh.daemon.listeners import open_listeners

pytestmark = pytest.mark.netns

V4 = {("127.0.0.1", 15001), ("0.0.0.0", 15006), ("0.0.0.0", 15008)}
BOTH = {("127.0.0.1", 15001), ("::1", 15001), ("::", 15006), ("::", 15008)}


def opened(kept: dict[str, list[int]], **wanted: bool) -> dict[str, socket.socket]:
    return {name: sock for name, (_, sock) in open_listeners({}, kept, **wanted).items()}


def names(sockets: dict[str, socket.socket]) -> set[tuple[str, int]]:
    return {sock.getsockname()[:2] for sock in sockets.values()}


def test_what_a_former_start_left_is_taken_or_closed() -> None:
    """A host that has lost its IPv6 keeps no door where nobody answers; SOCKS5 is there where it is asked for."""
    with namespace() as where, where.entered():
        first = opened({}, socks5=True)
        assert names(first) == {*BOTH, ("127.0.0.1", 15080)}
        stored = {name: [sock.detach()] for name, sock in first.items()}
        fd, taken = stored["outbound-v6"][0], stored["outbound"][0]
        second = opened(stored, ipv6=False)
        assert second["outbound"].fileno() == taken
        assert not stored
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        for sock in second.values():
            sock.close()
        third = opened({}, ipv6=False)
        assert names(third) == V4
        for sock in third.values():
            sock.close()
