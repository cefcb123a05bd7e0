"""What the translation takes besides documents, and what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from hostmesh.config.strict_yaml import Problem
from hostmesh.model.address import IPAddress
from hostmesh.model.authorization import Authorization
from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.telemetry import AccessLog
from hostmesh.model.waypoint import ExtAuthz, WaypointProgram
from hostmesh.model.workload import DEFAULT_CLUSTER, DEFAULT_TRUST_DOMAIN, Workload
from hostmesh.xds.codec import PolicyResource

Vips = Mapping[str, tuple[IPAddress, ...]]
"""Allocated addresses of a service, by its key `namespace/hostname`."""


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


@dataclass(frozen=True, slots=True)
class Translation:
    """Everything that agents are told, each part sorted by its key.

    `network_policies`: those, and members and namespaces that they can mean; nothing while there is no policy.
    `registrations`: for each node, the identities that its agent may ask certificates for.
    `vips`: every allocated address, to be given back to the next translation so that addresses stay.
    """

    workloads: tuple[Workload, ...] = ()
    services: tuple[Service, ...] = ()
    authorizations: tuple[Authorization, ...] = ()
    network_policies: tuple[PolicyResource, ...] = ()
    waypoints: tuple[WaypointProgram, ...] = ()
    warnings: tuple[Problem, ...] = ()
    registrations: Mapping[str, frozenset[Identity]] = field(default_factory=lambda: MappingProxyType({}))
    vips: Vips = field(default_factory=lambda: MappingProxyType({}))
