"""Type URLs of the resources that an ambient proxy subscribes to (istio.workload, istio.security)."""

from __future__ import annotations

ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address"
"""Workloads and services."""

AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization"
"""L4 policies."""

TRUST_TYPE = "type.googleapis.com/hostmesh.trust.v1.TrustBundle"
"""Roots and revocations: hostmesh's own, which other control planes do not serve and other proxies do not ask for."""

NETWORK_POLICY_TYPE = "type.googleapis.com/hostmesh.policy.v1.Resource"
"""NetworkPolicies and whom they can mean: hostmesh's own too, and only for agents that enforce them."""

WAYPOINT_TYPE = "type.googleapis.com/hostmesh.waypoint.v1.Program"
"""What a waypoint has to do: only for the processes that are one."""

OWN_TYPES = (TRUST_TYPE, NETWORK_POLICY_TYPE, WAYPOINT_TYPE)
"""Never answered by another control plane than hostmesh's."""

WAYPOINT_TYPES = (TRUST_TYPE, WAYPOINT_TYPE)
TYPES = (TRUST_TYPE, ADDRESS_TYPE, AUTHORIZATION_TYPE)
ENFORCING_TYPES = (TRUST_TYPE, NETWORK_POLICY_TYPE, ADDRESS_TYPE, AUTHORIZATION_TYPE)
"""In the order in which they are subscribed to: nobody is talked to before it is known who is revoked."""


def node_alias(node: str) -> str:
    """Stands for the workloads of a node."""
    return f"hostmesh.io/node/{node}"


def node_services_alias(node: str) -> str:
    """Stands for the services that the workloads of a node are endpoints of, without their other endpoints."""
    return f"hostmesh.io/node/{node}/services"
