"""Who made a captured connection and where it was going, as the kernel attests it (SO_MARK, SO_ORIGINAL_DST)."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.kernel.sockets import get_mark, original_destination
from hostmesh.model.address import SocketAddress
from hostmesh.model.local import MARK_SHIFT


@dataclass(frozen=True, slots=True)
class Attributed:
    """`number` is the local workload's, 0 for a socket without a mark."""

    number: int
    destination: SocketAddress


Attribution = Callable[[_socket.socket], Attributed]
"""Asked once for every socket accepted on a capture listener; raises OSError when the socket is already dead."""


def from_kernel(sock: _socket.socket) -> Attributed:
    """The mark of the SYN and the destination before redirection."""
    return Attributed(get_mark(sock) >> MARK_SHIFT, original_destination(sock))
