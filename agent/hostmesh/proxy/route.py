"""Decide where a captured connection goes (Istio ambient: service waypoint, load balancing, workload waypoint, direct).

The order of the steps is part of the contract with other ambient proxies: a service's waypoint comes before ports,
health and balancing; only what nobody in the mesh claims passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from hostmesh.model.address import GatewayAddress, IPAddress, NetworkAddress, SocketAddress
from hostmesh.model.identity import Identity, InvalidIdentity
from hostmesh.model.local import server_name
from hostmesh.model.service import LoadBalancingMode, Service
from hostmesh.model.workload import Protocol, Workload
from hostmesh.proxy.balance import Rng, pick_weighted, select_endpoint
from hostmesh.proxy.gateway import is_gateway, resolve_network_gateway, resolve_waypoint, wanted_ip
from hostmesh.proxy.upstream import (
    ILLEGAL_PORTS,
    RECURSIVE_CALL,
    Refused,
    Unknown,
    Unresolved,
    Upstream,
    choose_ip,
    draw_ip,
    host_spokesmen,
    is_nobodys,
    target_port,
    workload_at,
)
from hostmesh.state.store import MeshState

__all__ = ["HBONE_PORT", "Refused", "Route", "Unknown", "Unresolved", "route"]

HBONE_PORT = 15008


Names = Callable[[str], Sequence[IPAddress] | None]


def no_names(hostname: str) -> None:
    """For callers who resolve nothing."""


@dataclass(frozen=True, slots=True)
class Route:
    """The next hop.

    `hbone` dials `connect` with TLS, accepts any of `expected` (in order, never empty), asks for `server_name` and
    opens a CONNECT to `authority`. `double` does so with the gateway of another network, and inside of that stream once
    more with whoever serves `authority` there, who must be one of `inner`. `tcp` (a workload without HBONE) and
    `passthrough` (nobody of the mesh) dial `connect` in plaintext and leave these empty. `workload` is who is dialled,
    perhaps a waypoint or gateway; `service` is what the application addressed. A `cacheable` route is what every equal
    question gets until the state changes. With `or_host` nobody has registered the port: only the peer knows whether it
    is the workload's, and if it says that it is not, the connection passes through to the host; if it refuses, the
    `following` one may be the workload's neighbour whose port it is.
    """

    kind: Literal["hbone", "double", "tcp", "passthrough"]
    connect: SocketAddress
    authority: str | None = None
    expected: tuple[Identity, ...] = ()
    server_name: str | None = None
    workload: Workload | None = None
    service: Service | None = None
    cacheable: bool = True
    inner: tuple[Identity, ...] = ()
    or_host: bool = False
    following: Route | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """What every step needs to know."""

    state: MeshState
    source: Workload
    destination: SocketAddress
    rng: Rng
    names: Names
    registry_only: bool


def route(
    state: MeshState,
    source: Workload,
    destination: SocketAddress,
    *,
    network: str,
    rng: Rng,
    illegal_ports: Sequence[int] = ILLEGAL_PORTS,
    names: Names = no_names,
    registry_only: bool = False,
) -> Route | Refused | Unresolved | Unknown:
    """Where a connection of `source` to `destination` goes.

    Args:
        state: what the control plane told.
        source: the workload that the kernel says is calling.
        destination: the original one, before redirection.
        network: of this host; service waypoints are looked up there, everything else on the source's network.
        rng: uniform in [0, 1); asked only when there is a choice.
        illegal_ports: of this host that lead into the proxy itself.
        names: the addresses of a hostname, None while they are not known.
        registry_only: whether what nobody in the mesh has is refused (Istio's outboundTrafficPolicy).
    """
    ours = destination.ip.is_loopback or destination.ip in source.addresses
    if ours and destination.port in illegal_ports:
        return Refused(RECURSIVE_CALL)
    unknown = _unknown(state, source, destination.ip, network)
    if unknown is not None:
        return unknown
    call = _Call(state, source, destination, rng, names, registry_only)
    service = _addressed_service(call, network)
    if service is not None:
        waypoint, random = _service_waypoint(service, rng)
        if waypoint is not None:
            return _through_waypoint(call, waypoint, service, random=random)
    upstream = _select_upstream(call)
    match upstream:
        case Refused():
            return upstream
        case None:
            return _unclaimed(call, service)
        case Upstream():
            return _towards(call, upstream, service)


def _unknown(state: MeshState, source: Workload, ip: IPAddress, network: str) -> Unknown | None:
    """Until the control plane has said whose an address is, nobody's is a guess, and its plaintext a leak.

    What is here about it may be a part: another workload of the same host, a service that came with something else.
    """
    if not state.on_demand:
        return None
    places = (NetworkAddress(network, ip), NetworkAddress(source.network, ip))
    return next((Unknown(str(place)) for place in places if not state.knows(place)), None)


def _addressed_service(call: _Call, network: str) -> Service | None:
    """A workload's own address is looked at first: it is not service-addressed even if a service claims it too."""
    address = NetworkAddress(network, call.destination.ip)
    return None if call.state.workloads_at(address) else call.state.service_at(address, call.source.namespace)


def _service_waypoint(service: Service, rng: Rng) -> tuple[GatewayAddress | None, bool]:
    """The waypoint for this call, and whether it was drawn by lot."""
    if not service.weighted_waypoints:
        return service.waypoint, False
    weighted = [waypoint for waypoint in service.weighted_waypoints if waypoint.weight > 0]
    chosen = pick_weighted(tuple(accumulate(waypoint.weight for waypoint in weighted)), rng)
    if chosen is None:
        return service.waypoint, False
    return weighted[chosen].destination, len(weighted) > 1


def _through_waypoint(
    call: _Call, waypoint: GatewayAddress, service: Service | None, *, random: bool
) -> Route | Refused | Unresolved | Unknown:
    hop = resolve_waypoint(call.state, waypoint, call.source, call.rng)
    if isinstance(hop, Refused | Unknown):
        return hop
    if hop.workload.network != call.source.network:
        if service is None:
            return Refused(f"no service for target address: {call.destination}")
        return _remote(call, hop, service, cacheable=not (random or hop.random))
    ip = _address(call, hop, wanted_ip(waypoint, call.destination.ip))
    if isinstance(ip, Refused | Unresolved):
        return ip
    cacheable = not (random or hop.random or hop.by_name)
    return _hbone(SocketAddress(ip, hop.port), str(call.destination), hop, service, cacheable=cacheable)


def _select_upstream(call: _Call) -> Upstream | Refused | None:
    address = NetworkAddress(call.source.network, call.destination.ip)
    service = call.state.service_at(address, call.source.namespace)
    if service is not None:
        if _passes_through(service):
            return None
        chosen = select_endpoint(call.state, service, call.source, call.destination.port, call.rng)
        if chosen is not None:
            return chosen
    port = call.destination.port
    found = workload_at(call.state, address, port)
    if found is None:
        asked = host_spokesmen(call.state, address)
        return Upstream(asked[0], port, others=asked[1:]) if asked else None
    return Upstream(found, port) if isinstance(found, Workload) else found


def _unclaimed(call: _Call, service: Service | None) -> Route | Refused:
    if service is not None and not _passes_through(service):
        return Refused(f"no healthy upstream: {call.destination}{_lacking(call, service)}")
    if service is None and call.registry_only:
        return Refused(f"outboundTrafficPolicy is REGISTRY_ONLY, and nobody in the mesh has {call.destination}")
    return Route("passthrough", call.destination)


def _lacking(call: _Call, service: Service) -> str:
    """What is said more of a service that has nobody to send to, and why that is."""
    endpoints, port = call.state.listed(service), call.destination.port
    if not endpoints:
        return f", {service.key} has no endpoints"
    if port not in service.ports or not any(target_port(one, service, port) for one in endpoints):
        return f", no endpoint of {service.key} serves port {port}"
    return ""


def _towards(call: _Call, upstream: Upstream, service: Service | None) -> Route | Refused | Unresolved | Unknown:
    workload = upstream.workload
    if workload.network != call.source.network:
        if service is None:
            return Refused(f"no service for target address: {call.destination}")
        return _remote(call, upstream, service, cacheable=not upstream.random)
    waypoint = workload.waypoint
    if service is None and waypoint is not None and not is_gateway(call.state, waypoint, call.source):
        return _through_waypoint(call, waypoint, None, random=upstream.random)
    ip = _address(call, upstream, call.destination.ip)
    if isinstance(ip, Refused | Unresolved):
        return ip
    target = SocketAddress(ip, upstream.port)
    cacheable = not (upstream.random or upstream.by_name)
    if workload.protocol is Protocol.TCP:
        return Route("tcp", target, workload=workload, service=upstream.service, cacheable=cacheable)
    hbone = _hbone(SocketAddress(ip, HBONE_PORT), str(target), upstream, upstream.service, cacheable=cacheable)
    if upstream.service is not None or not is_nobodys(call.state, workload, upstream.port):
        return hbone
    others = upstream.others
    following = _towards(call, Upstream(others[0], upstream.port, others=others[1:]), None) if others else None
    return replace(hbone, or_host=not call.registry_only, following=following if isinstance(following, Route) else None)


def _hbone(connect: SocketAddress, authority: str, hop: Upstream, service: Service | None, *, cacheable: bool) -> Route:
    return Route(
        kind="hbone",
        connect=connect,
        authority=authority,
        expected=_expected(hop),
        server_name=server_name(hop.workload.uid),
        workload=hop.workload,
        service=service,
        cacheable=cacheable,
    )


def _passes_through(service: Service) -> bool:
    return service.load_balancing is not None and service.load_balancing.mode is LoadBalancingMode.PASSTHROUGH


def _expected(upstream: Upstream) -> tuple[Identity, ...]:
    """Who may answer: the service's names that are SPIFFE ids, in order, then the workload itself."""
    own = upstream.workload.identity
    if upstream.service is None or not upstream.service.subject_alt_names:
        return (own,)
    return tuple(dict.fromkeys([*_named_identities(upstream.service), own]))


def _named_identities(service: Service | None) -> tuple[Identity, ...]:
    names = service.subject_alt_names if service is not None else ()
    return tuple(dict.fromkeys(identity for identity in map(_parse_or_none, names) if identity is not None))


def _parse_or_none(name: str) -> Identity | None:
    try:
        return Identity.parse(name)
    except InvalidIdentity:
        return None


def _remote(
    call: _Call, upstream: Upstream, service: Service, *, cacheable: bool
) -> Route | Refused | Unresolved | Unknown:
    """Through the gateway of the upstream's network, which chooses the endpoint: only the service is known of it.

    Without names of the service nobody could tell who may answer in there, so nobody is believed.
    """
    workload = upstream.workload
    if workload.network_gateway is None:
        return Refused(f"no valid routing destination for workload: {workload.uid}")
    inner = _named_identities(upstream.service)
    if not inner:
        named = upstream.service.key if upstream.service is not None else workload.uid
        return Refused(
            f"{named} is on network {workload.network!r}, and its subjectAltNames do not say which identities may "
            "answer there"
        )
    hop = resolve_network_gateway(call.state, workload.network_gateway, call.source, call.rng)
    if isinstance(hop, Refused | Unknown):
        return hop
    ip = _address(call, hop, wanted_ip(workload.network_gateway, call.destination.ip))
    if isinstance(ip, Refused | Unresolved):
        return ip
    authority = f"{service.hostname}:{call.destination.port}"
    cacheable = cacheable and not (hop.random or hop.by_name)
    outer = _hbone(SocketAddress(ip, hop.port), authority, hop, service, cacheable=cacheable)
    return replace(outer, kind="double", inner=inner)


def _address(call: _Call, hop: Upstream, wanted: IPAddress) -> IPAddress | Refused | Unresolved:
    """Where the workload is dialled. Only one without any address is looked for by its hostname."""
    workload = hop.workload
    ip = choose_ip(workload, hop.service, wanted)
    if ip is not None:
        return ip
    if not hop.by_name:
        return Refused(f"no valid routing destination for workload: {workload.uid}")
    answers = call.names(workload.hostname)
    if answers is None:
        return Unresolved(workload.hostname)
    found = draw_ip(answers, hop.service, wanted, call.rng)
    return found or Refused(f"no ip addresses were resolved for workload: {workload.uid} ({workload.hostname})")
