"""Where the control plane is, which this host must always reach (hostmesh.enrolment.failsafe has the rest)."""

from __future__ import annotations

import socket
from contextlib import suppress

from hostmesh.model.address import SocketAddress
from hostmesh.rpc.endpoint import Endpoint


class ControlPlaneAddresses:
    """Blocking: an asyncio program asks in a thread. When names do not resolve now, the last answer holds."""

    def __init__(self, endpoint: Endpoint | None) -> None:
        self._endpoint = endpoint
        self._last: tuple[SocketAddress, ...] = ()

    def __call__(self) -> tuple[SocketAddress, ...]:
        """Where the control plane is; nowhere without one."""
        if self._endpoint is not None:
            with suppress(OSError):
                found = socket.getaddrinfo(self._endpoint.host, self._endpoint.port, type=socket.SOCK_STREAM)
                self._last = tuple(sorted({SocketAddress.of(str(one[4][0]), int(one[4][1])) for one in found}, key=str))
        return self._last
