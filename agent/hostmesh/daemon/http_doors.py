"""The agent's three HTTP doors: admin on loopback, stats and readiness for everybody (ztunnel's)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from hostmesh.admin.http import admin_app, readiness_app, stats_app
from hostmesh.admin.server import serving
from hostmesh.admin.view import AgentView
from hostmesh.config.settings import Settings


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
    ports = settings.ports
    families = slice(None if settings.ipv6 else 1)
    everywhere, loopback = ["0.0.0.0", "::"][families], ["127.0.0.1", "::1"][families]
    async with AsyncExitStack() as doors:
        for app, hosts, port, purpose in (
            (admin_app(view), loopback, ports.admin, "admin"),
            (stats_app(view), everywhere, ports.stats, "stats"),
            (readiness_app(view), everywhere, ports.readiness, "readiness"),
        ):
            await doors.enter_async_context(serving(app, hosts, port, purpose, kept))
        wanted = {str(port) for port in (ports.admin, ports.stats, ports.readiness)}
        for name in [name for name in kept if name.rpartition(":")[2] not in wanted]:
            kept.pop(name).close()
        yield
