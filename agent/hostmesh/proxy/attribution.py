"""Who made a captured connection and where it was going, as the kernel attests it.

On the host by SO_MARK and SO_ORIGINAL_DST, in a workload's own network namespace by the listener it came to.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.kernel.sockets import get_mark, original_destination
from hostmesh.model.address import SocketAddress
from hostmesh.model.local import MARK_SHIFT


@dataclass(slots=True, init=False)
class Attributed:
    """`number` is the local workload's, 0 for a socket without a mark.

    Not frozen, and with a constructor of its own, because every connection has one: see `wire.http2.events`.
    """

    number: int
    destination: SocketAddress

    def __init__(self, number: int, destination: SocketAddress) -> None:
        self.number = number
        self.destination = destination


Attribution = Callable[[_socket.socket], Attributed]
"""Asked once for every socket accepted on a capture listener; raises OSError when the socket is already dead."""


def in_namespace(number: int) -> Attribution:
    """For listeners in a namespace that one workload has to itself: whoever comes there is that workload's."""

    def attributed(sock: _socket.socket) -> Attributed:
        return Attributed(number, original_destination(sock))

    return attributed


def from_kernel(sock: _socket.socket) -> Attributed:
    """The mark of the SYN and the destination before redirection."""
    return Attributed(get_mark(sock) >> MARK_SHIFT, original_destination(sock))
