"""Pieces: payload as it came in frames, sent by one call (sendmsg(2))."""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from typing import Final

from hostmesh.proxy.sockets import DONTWAIT_NOSIGNAL

MAX_GATHER: Final = 512
"""Pieces in one sendmsg; the kernel takes 1024."""


def send_all(sock: _socket.socket, views: Sequence[memoryview], size: int) -> int:
    """How many of the `size` bytes the socket took.

    Raises:
        BlockingIOError: none.
        OSError: the connection broke.
    """
    if len(views) == 1:
        return sock.send(views[0], DONTWAIT_NOSIGNAL)
    if len(views) <= MAX_GATHER:
        return sock.sendmsg(views, (), DONTWAIT_NOSIGNAL)
    return sock.send(memoryview(b"".join(views))[:size], DONTWAIT_NOSIGNAL)


def after(views: Sequence[memoryview], taken: int) -> list[memoryview]:
    """What is left behind the first `taken` bytes."""
    left = []
    for view in views:
        if taken >= len(view):
            taken -= len(view)
        else:
            left.append(view[taken:])
            taken = 0
    return left
