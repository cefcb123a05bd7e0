"""Ahead: what an application has said before its stream is answered leaves together with the request.

Most applications speak first, so this saves them a round trip between the hosts. The bytes stay in the socket: if the
answer is no, they can still go another way.
"""

from __future__ import annotations

import _socket
from typing import Final

from hostmesh.proxy.sockets import DONTWAIT
from hostmesh.wire.http2.connection import Http2Connection

MAX_AHEAD: Final = 1 << 14
"""Bytes of an application that leave together with the request for its tunnel."""

_TAKEN: Final = memoryview(bytearray(MAX_AHEAD))
"""Where they go when they leave the socket for good; nobody reads it."""

_PEEK: Final = DONTWAIT | _socket.MSG_PEEK


def send_ahead(sock: _socket.socket, http2: Http2Connection, stream: int) -> int:
    """Send what an application has said already on a stream whose answer is still to come.

    Returns:
        how many bytes, at most `MAX_AHEAD`; the splice that follows must know.
    """
    place = http2.reserve(stream, MAX_AHEAD)
    if not place:
        return 0
    try:
        n = sock.recv_into(place, 0, _PEEK)
    except OSError:  # nothing yet; or its end, which the splice will find as well
        return 0
    if n:
        http2.commit(stream, n)
    return n


def take(sock: _socket.socket, size: int) -> None:
    """Remove from the socket what was sent ahead.

    Raises:
        OSError: the connection broke.
    """
    sock.recv_into(_TAKEN[:size], 0, DONTWAIT)
