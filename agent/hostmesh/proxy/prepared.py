"""Prepared: everything about a route that its connections share, made once (labels, log fields, encoded headers)."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.model.address import SocketAddress
from hostmesh.model.local import server_name
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.proxy.context import Context
from hostmesh.proxy.dial import Target
from hostmesh.proxy.route import Route
from hostmesh.telemetry.access_log import End, Parties
from hostmesh.telemetry.labels import Peer, traffic_labels
from hostmesh.telemetry.metrics import Traffic
from hostmesh.wire import baggage
from hostmesh.wire.hbone import connect_prefix

_PROTOCOLS = {"hbone": "HBONE", "double": "DOUBLEHBONE", "tcp": "TCP", "passthrough": "TCP"}
"""As ztunnel's config dump names them."""


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """How an HBONE route is dialled: the pool's target with its key, and the constant part of the CONNECT."""

    target: Target
    key: str
    prefix: bytes
    authority: str
    forwarded_host: str | None


@dataclass(frozen=True, slots=True)
class Beyond:
    """What lies behind a network gateway: who is reached there; the rest is told once it has answered."""

    target: Target
    source: Workload
    service: Service


@dataclass(frozen=True, slots=True)
class Prepared:
    """An outbound route. `tunnelled` is None for plain TCP, `beyond` unless it leads into another network.

    `otherwise` is the way to the host itself, if its proxy says that the port is no workload's; `following` leads to a
    neighbour that is tried if this one refuses.
    """

    connect: SocketAddress
    connect_text: str
    traffic: Traffic
    parties: Parties
    source: str
    protocol: str
    tunnelled: Tunnelled | None
    cacheable: bool
    beyond: Beyond | None = None
    otherwise: Prepared | None = None
    following: Prepared | None = None


def prepare(context: Context, source: Workload, route: Route) -> Prepared:
    """Work out what the connections of `source` on this route have in common."""
    hbone = route.kind in ("hbone", "double")
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
        protocol=_PROTOCOLS[route.kind],
        tunnelled=_tunnelled(source, route) if hbone else None,
        cacheable=route.cacheable,
        beyond=_beyond(source, route) if route.kind == "double" else None,
        otherwise=_otherwise(context, source, route) if route.or_host else None,
        following=prepare(context, source, route.following) if route.following is not None else None,
    )


def _otherwise(context: Context, source: Workload, route: Route) -> Prepared:
    assert route.authority is not None
    return prepare(context, source, Route("passthrough", SocketAddress.parse(route.authority)))


def _beyond(source: Workload, route: Route) -> Beyond:
    assert route.service is not None
    target = Target(source.identity, route.inner, route.connect, server_name(route.service.key))
    return Beyond(target, source, route.service)


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
