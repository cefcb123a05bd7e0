"""The agent's three HTTP doors: admin on loopback, stats and readiness for everybody (ztunnel's)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from hostmesh.admin.http import admin_app, readiness_app, stats_app
from hostmesh.admin.server import bound, serving
from hostmesh.admin.view import AgentView
from hostmesh.config.settings import Settings


def bind_doors(settings: Settings, kept: dict[str, socket.socket]) -> None:
    """Open those listeners that are not open yet; whoever connects waits for `http_doors`.

    Raises:
        PortInUse: another program has a port.
    """
    for hosts, port, purpose in _places(settings):
        bound(hosts, port, purpose, kept)


@asynccontextmanager
async def http_doors(view: AgentView, settings: Settings, kept: dict[str, socket.socket]) -> AsyncIterator[None]:
    """Serve at all three until the context ends.

    Args:
        view: what they show.
        settings: their ports, and whether there is IPv6.
        kept: listeners by `ip:port` that are open already; afterwards those of the doors, and no others.

    Raises:
        PortInUse: another program has a port.
    """
    apps = admin_app(view), stats_app(view), readiness_app(view)
    places = _places(settings)
    async with AsyncExitStack() as doors:
        for app, (hosts, port, purpose) in zip(apps, places, strict=True):
            await doors.enter_async_context(serving(app, hosts, port, purpose, kept))
        wanted = {str(port) for _, port, _ in places}
        for name in [name for name in kept if name.rpartition(":")[2] not in wanted]:
            kept.pop(name).close()
        yield


def _places(settings: Settings) -> Sequence[tuple[list[str], int, str]]:
    """Addresses, port and purpose of each door."""
    ports = settings.ports
    families = slice(None if settings.ipv6 else 1)
    everywhere, loopback = ["0.0.0.0", "::"][families], ["127.0.0.1", "::1"][families]
    return (
        (loopback, ports.admin, "admin"),
        (everywhere, ports.stats, "stats"),
        (everywhere, ports.readiness, "readiness"),
    )
