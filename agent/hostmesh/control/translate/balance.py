"""How endpoints are chosen: traffic distribution (Kubernetes Service, Istio's annotation of the same name)."""

from __future__ import annotations

from collections.abc import Mapping

from hostmesh.control.documents.service import CoreService
from hostmesh.control.documents.service_entry import ServiceEntry
from hostmesh.model.service import HealthPolicy, LoadBalancing, LoadBalancingMode, Scope

DISTRIBUTION = "networking.istio.io/traffic-distribution"

_ZONE = (Scope.NETWORK, Scope.REGION, Scope.ZONE)
_PREFERENCES: Mapping[str, tuple[Scope, ...]] = {
    "PreferClose": _ZONE,
    "PreferSameZone": _ZONE,
    "PreferSameNode": (*_ZONE, Scope.SUBZONE, Scope.NODE),
}


def of_core_service(service: CoreService, namespace: Mapping[str, str]) -> LoadBalancing | None:
    """A Service's; its own fields win over annotations, its annotation over the namespace's."""
    spec = service.spec
    health = HealthPolicy.ALLOW_ALL if spec.publish_not_ready_addresses else HealthPolicy.ONLY_HEALTHY
    if spec.internal_traffic_policy == "Local":
        return LoadBalancing(LoadBalancingMode.STRICT, (Scope.NODE,), health)
    return _distribution((spec.traffic_distribution, *_annotated(service.metadata.annotations, namespace)), health)


def of_service_entry(entry: ServiceEntry, namespace: Mapping[str, str]) -> LoadBalancing | None:
    """A ServiceEntry's; resolution NONE passes connections on to where they were going."""
    if entry.spec.resolution == "NONE":
        return LoadBalancing(LoadBalancingMode.PASSTHROUGH, (), HealthPolicy.ALLOW_ALL)
    return _distribution(_annotated(entry.metadata.annotations, namespace), HealthPolicy.ONLY_HEALTHY)


def _annotated(own: Mapping[str, str], namespace: Mapping[str, str]) -> tuple[str, ...]:
    return (own.get(DISTRIBUTION, ""), namespace.get(DISTRIBUTION, ""))


def _distribution(sources: tuple[str, ...], health: HealthPolicy) -> LoadBalancing | None:
    preferences = _PREFERENCES.get(next(filter(None, sources), ""), ())
    if preferences:
        return LoadBalancing(LoadBalancingMode.FAILOVER, preferences, health)
    if health is HealthPolicy.ALLOW_ALL:
        return LoadBalancing(health_policy=health)
    return None
