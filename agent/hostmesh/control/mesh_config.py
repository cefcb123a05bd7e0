"""What the translation takes besides documents (Istio's mesh config)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from hostmesh.model.telemetry import AccessLog
from hostmesh.model.waypoint import ExtAuthz
from hostmesh.model.workload import DEFAULT_CLUSTER, DEFAULT_TRUST_DOMAIN

_VIP4 = IPv4Network("240.240.0.0/16")
_VIP6 = IPv6Network("2001:2::/48")


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Facts of the whole mesh. `network` is that of workloads which name none; policies of `root_namespace` are global.

    `enforce_in_tunnel`: whether NetworkPolicies that do not say so hold inside tunnels.
    `authorizers`: those that CUSTOM policies may name (Istio's `extensionProviders`); None: not known here.
    `access_logs`: providers of access logs that Telemetry documents may name; None: not known here.
    `vip4` and `vip6` are where services without an address get theirs from (Istio's own ranges).
    """

    trust_domain: str = DEFAULT_TRUST_DOMAIN
    cluster_id: str = DEFAULT_CLUSTER
    network: str = ""
    root_namespace: str = "istio-system"
    cluster_domain: str = "cluster.local"
    enforce_in_tunnel: bool = True
    vip4: IPv4Network = _VIP4
    vip6: IPv6Network = _VIP6
    authorizers: tuple[ExtAuthz, ...] | None = None
    access_logs: tuple[AccessLog, ...] | None = None
