"""Routes: what was decided about a destination, remembered until the state changes."""

from __future__ import annotations

from hostmesh.model.address import SocketAddress
from hostmesh.proxy.context import Context
from hostmesh.proxy.locals import Local
from hostmesh.proxy.prepared import Prepared, prepare
from hostmesh.proxy.route import Refused, Unknown, Unresolved, route

MAX_ROUTES = 4096
"""Routes remembered between two changes of the state."""


class Routes:
    """Of one worker, for all of its workloads."""

    __slots__ = ("_context", "_generation", "_known")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[tuple[str, bool, SocketAddress], Prepared] = {}
        self._generation = -1

    def find(self, local: Local, destination: SocketAddress) -> Prepared | Refused | Unresolved | Unknown:
        """Decide, or say again what was decided before."""
        context, source = self._context, local.workload
        if context.state.on_demand:
            context.demand.use(source.network, destination.ip)
        if context.state.generation != self._generation or len(self._known) >= MAX_ROUTES:
            self._known.clear()
            self._generation = context.state.generation
        key = (source.uid, local.captured.registry_only, destination)
        known = self._known.get(key)
        if known is not None:
            return known
        found = route(
            context.state,
            source,
            destination,
            network=context.config.network,
            rng=context.rng,
            illegal_ports=context.config.illegal_ports,
            names=context.names.get,
            registry_only=local.captured.registry_only,
        )
        if isinstance(found, Refused | Unresolved | Unknown):
            return found
        made = prepare(context, source, found)
        if made.cacheable:
            self._known[key] = made
        return made
