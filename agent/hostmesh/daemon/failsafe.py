"""Where the control plane is, which this host must always reach (hostmesh.enrolment.failsafe has the rest)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress

from hostmesh.model.address import SocketAddress
from hostmesh.model.endpoint import Endpoint


class ControlPlaneAddresses:
    """Blocking: an asyncio program asks in a thread. When names do not resolve now, the last answer holds."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._last: dict[Endpoint, set[SocketAddress]] = {}

    def __call__(self) -> tuple[SocketAddress, ...]:
        """Where the control plane is; nowhere without one."""
        for endpoint in self._endpoints:
            with suppress(OSError):
                found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
                self._last[endpoint] = {SocketAddress.of(str(one[4][0]), int(one[4][1])) for one in found}
        return tuple(sorted(set().union(*self._last.values()), key=str))
