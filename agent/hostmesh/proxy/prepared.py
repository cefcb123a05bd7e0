"""Prepared: everything about a route that its connections share, made once (labels, log fields, encoded headers)."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.model.address import SocketAddress
from hostmesh.model.workload import Workload
from hostmesh.proxy.context import Context
from hostmesh.proxy.dial import Target
from hostmesh.proxy.route import Route
from hostmesh.telemetry.access_log import End, Parties
from hostmesh.telemetry.labels import Peer, traffic_labels
from hostmesh.telemetry.metrics import Traffic
from hostmesh.wire import baggage
from hostmesh.wire.hbone import connect_prefix


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """How an HBONE route is dialled: the pool's target with its key, and the constant part of the CONNECT."""

    target: Target
    key: str
    prefix: bytes
    authority: str
    forwarded_host: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An outbound route. `tunnelled` is None for plain TCP."""

    connect: SocketAddress
    connect_text: str
    traffic: Traffic
    parties: Parties
    source: str
    protocol: str
    tunnelled: Tunnelled | None
    cacheable: bool


def prepare(context: Context, source: Workload, route: Route) -> Prepared:
    """Work out what the connections of `source` on this route have in common."""
    hbone = route.kind == "hbone"
    principal = source.identity if hbone else None
    destination = route.workload.identity if route.workload is not None else None
    labels = traffic_labels(
        "source",
        (Peer.of(source), principal),
        (Peer.of(route.workload), destination),
        route.service,
        "mutual_tls" if hbone else "unknown",
    )
    parties = Parties.of(
        "outbound",
        End(source, principal),
        End(route.workload, destination if hbone else None),
        route.service,
    )
    return Prepared(
        connect=route.connect,
        connect_text=str(route.connect),
        traffic=context.metrics.traffic(labels),
        parties=parties,
        source=source.uid,
        protocol="HBONE" if hbone else "TCP",
        tunnelled=_tunnelled(source, route) if hbone else None,
        cacheable=route.cacheable,
    )


def _tunnelled(source: Workload, route: Route) -> Tunnelled:
    assert route.authority is not None
    target = Target(source.identity, route.expected, route.connect, route.server_name)
    return Tunnelled(
        target,
        target.key,
        connect_prefix(route.authority, baggage.encode(source)),
        route.authority,
        route.service.hostname if route.service is not None else None,
    )
