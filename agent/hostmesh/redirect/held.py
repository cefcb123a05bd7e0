"""Ports that the start of a socket unit has closed until they are captured (roles/_common/files/hold-sockets.sh).

systemd listens for a unit before anything of the unit runs, at boot long before the agent does. So a drop-in closes the
ports, in a table of its own, and whoever has captured them since opens them.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from hostmesh.kernel import netlink
from hostmesh.kernel.netfilter import NetfilterError

TABLE = "hostmesh_held"
_PORTS = "ports"


def held() -> frozenset[bytes]:
    """What is closed now, as the kernel holds it; blocking.

    Raises:
        NetfilterError: the kernel refused.
    """
    return frozenset(key for key, _ in netlink.elements(TABLE, [_PORTS])[_PORTS])


def release(ports: Collection[bytes]) -> None:
    """Open these and no others; what cannot be is found again at the next look."""
    if ports:
        with suppress(NetfilterError):  # somebody else has flushed it
            netlink.delete_elements(TABLE, {_PORTS: ports})
