"""Choose an endpoint of a service (Istio ambient load balancing: health, ports, locality preferences, capacity)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from hostmesh.model.service import LoadBalancing, LoadBalancingMode, Scope, Service
from hostmesh.model.workload import Workload
from hostmesh.proxy.upstream import Upstream, target_port
from hostmesh.state.store import MeshState

Rng = Callable[[], float]
"""Uniform in [0, 1)."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Endpoints of positive capacity with the running sums of their capacities."""

    workloads: tuple[Workload, ...]
    bounds: tuple[int, ...]


def select_endpoint(
    state: MeshState, service: Service, source: Workload, port: int, rng: Rng, *, waypoint: bool = False
) -> Upstream | None:
    """One endpoint, at random by capacity among those that the source may and prefers to use.

    Args:
        state: where `service` comes from.
        service: must be the state's own.
        source: whose place preferences are compared with.
        port: the service's port.
        rng: asked once, and only when there is a choice.
        waypoint: an endpoint with an application tunnel may serve a port that the service does not define.

    Returns:
        None for a service in PASSTHROUGH mode and when nothing is left.
    """
    place = (source.network, source.locality, source.node, source.cluster_id)
    candidates = state.derive(
        ("candidates", service.namespaced_hostname, port, waypoint, place),
        lambda: _candidates(state, service, source, port, waypoint),
    )
    chosen = pick_weighted(candidates.bounds, rng)
    if chosen is None:
        return None
    workload = candidates.workloads[chosen]
    target = target_port(workload, service, port)
    assert target is not None, "candidates serve the port"
    return Upstream(workload, target, service, random=len(candidates.workloads) > 1)


def pick_weighted(bounds: Sequence[int], rng: Rng) -> int | None:
    """An index at random; `bounds` are running sums of positive weights. None if there are none."""
    if len(bounds) < 2:
        return 0 if bounds else None
    return min(bisect_right(bounds, rng() * bounds[-1]), len(bounds) - 1)


def rank(preferences: Sequence[Scope], source: Workload, endpoint: Workload) -> int:
    """How well an endpoint's place fits: the number of leading preferences that match.

    If the network is the first preference, missing it does not end the count, and matching it outweighs all others.
    """
    score = 0
    network_first = bool(preferences) and preferences[0] is Scope.NETWORK
    for position, scope in enumerate(preferences):
        if _matches(scope, source, endpoint):
            score += len(preferences) if position == 0 and network_first else 1
        elif position > 0 or not network_first:
            break
    return score


def _candidates(state: MeshState, service: Service, source: Workload, port: int, waypoint: bool) -> _Candidates:
    usable = [w for w in state.endpoints(service) if _usable(w, service, source, port, waypoint)]
    preferred = [w for w in _preferred(service.load_balancing, usable, source) if w.capacity > 0]
    return _Candidates(tuple(preferred), tuple(accumulate(w.capacity for w in preferred)))


def _usable(endpoint: Workload, service: Service, source: Workload, port: int, waypoint: bool) -> bool:
    through_gateway = endpoint.network != source.network and endpoint.network_gateway is not None
    if not (endpoint.addresses or endpoint.hostname or through_gateway):
        return False
    if waypoint:
        return (port in service.ports or endpoint.application_tunnel is not None) and (
            target_port(endpoint, service, port) is not None
        )
    own = endpoint.services.get(service.namespaced_hostname, {}).get(port, 0)
    return port in service.ports and bool(own or service.ports[port])


def _preferred(balancing: LoadBalancing | None, endpoints: list[Workload], source: Workload) -> list[Workload]:
    if balancing is None:
        return endpoints
    preferences = balancing.routing_preferences
    match balancing.mode:
        case LoadBalancingMode.STANDARD:
            return endpoints
        case LoadBalancingMode.PASSTHROUGH:
            return []
        case LoadBalancingMode.STRICT:
            return [e for e in endpoints if all(_matches(scope, source, e) for scope in preferences)]
        case LoadBalancingMode.FAILOVER:
            ranks = [rank(preferences, source, endpoint) for endpoint in endpoints]
            best = max(ranks, default=0)
            return [endpoint for endpoint, score in zip(endpoints, ranks, strict=True) if score == best]


def _matches(scope: Scope, source: Workload, endpoint: Workload) -> bool:
    match scope:
        case Scope.REGION:
            return source.locality.region == endpoint.locality.region
        case Scope.ZONE:
            return source.locality.zone == endpoint.locality.zone
        case Scope.SUBZONE:
            return source.locality.subzone == endpoint.locality.subzone
        case Scope.NODE:
            return source.node == endpoint.node
        case Scope.CLUSTER:
            return source.cluster_id == endpoint.cluster_id
        case Scope.NETWORK:
            return source.network == endpoint.network
