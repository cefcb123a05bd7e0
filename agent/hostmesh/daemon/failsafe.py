"""What the host itself must always reach, whatever NetworkPolicies say: its control plane and its resolvers."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from hostmesh.model.address import IPAddress, SocketAddress
from hostmesh.rpc.endpoint import Endpoint

RESOLV_CONF = Path("/etc/resolv.conf")


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


def resolvers(file: Path = RESOLV_CONF) -> tuple[IPAddress, ...]:
    """The name servers of resolv.conf(5); lines that are none are passed over, as the C library does."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found: list[IPAddress] = []
    for words in map(str.split, lines):
        if len(words) >= 2 and words[0] == "nameserver":
            with suppress(ValueError):
                found.append(ip_address(words[1].partition("%")[0]))
    return tuple(found)
