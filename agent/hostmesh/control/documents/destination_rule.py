"""Istio DestinationRule (networking.istio.io): which endpoints of a service are near, and nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from hostmesh.control.documents.base import Finding, Resource, Strict, Text, warning
from hostmesh.control.documents.names import is_fqdn
from hostmesh.model.service import Scope

SCOPES = {
    "topology.istio.io/network": Scope.NETWORK,
    "topology.istio.io/cluster": Scope.CLUSTER,
    "topology.kubernetes.io/region": Scope.REGION,
    "topology.kubernetes.io/zone": Scope.ZONE,
    "topology.istio.io/subzone": Scope.SUBZONE,
    "kubernetes.io/hostname": Scope.NODE,
}
"""What an agent compares for each label of `failoverPriority`."""

_LOCALITY = (Scope.REGION, Scope.ZONE, Scope.SUBZONE)


class LocalitySetting(Strict):
    """Prefer endpoints that share the first labels with the client; by default those of its locality."""

    enabled: bool = True
    failover_priority: list[str] = Field(default=[])


class LoadBalancer(Strict):
    """`simple` is accepted for Istio's sake: agents draw among the endpoints that are equally near."""

    simple: Literal["UNSPECIFIED", "RANDOM", "ROUND_ROBIN", "LEAST_REQUEST"] = "UNSPECIFIED"
    locality_lb_setting: LocalitySetting | None = None


class TrafficPolicy(Strict):
    """For all ports of the host."""

    load_balancer: LoadBalancer | None = None


class DestinationRuleSpec(Strict):
    """`host` is a service's: its full name, or a short one in the rule's own namespace."""

    host: Text
    traffic_policy: TrafficPolicy | None = None
    export_to: list[str] = Field(default=[])


class DestinationRule(Resource):
    """Of a service in the rule's namespace."""

    spec: DestinationRuleSpec

    @property
    def preferences(self) -> tuple[Scope, ...]:
        """What endpoints are ranked by; empty if they are not."""
        policy = self.spec.traffic_policy
        balancer = policy.load_balancer if policy else None
        setting = balancer.locality_lb_setting if balancer else None
        if setting is None or not setting.enabled:
            return ()
        return tuple(SCOPES[label] for label in setting.failover_priority) or _LOCALITY


def check_destination_rule(rule: DestinationRule) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = rule.spec
    if not is_fqdn(spec.host):
        yield Finding(("spec", "host"), f"{spec.host!r} is not a service's host name")
    if spec.export_to:
        yield warning(("spec", "exportTo"), "has no effect: the rule holds for its own namespace's service everywhere")
    if spec.traffic_policy is None or spec.traffic_policy.load_balancer is None:
        why = "traffic policy must have at least one field that agents know: loadBalancer.localityLbSetting"
        yield Finding(("spec", "trafficPolicy"), why)
        return
    path = ("spec", "trafficPolicy", "loadBalancer")
    balancer = spec.traffic_policy.load_balancer
    if balancer.simple not in ("UNSPECIFIED", "RANDOM"):
        why = f"{balancer.simple} has no effect: agents draw among the endpoints that are equally near. Write RANDOM"
        yield warning((*path, "simple"), why)
    setting = balancer.locality_lb_setting
    for number, label in enumerate(setting.failover_priority if setting else []):
        if label not in SCOPES:
            why = f"agents cannot compare {label!r}; allowed: {', '.join(SCOPES)}"
            yield Finding((*path, "localityLbSetting", "failoverPriority", number), why)
