"""Service: VIPs and a hostname in front of workloads (istio.workload.Service)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, NetworkCidr

_HOST = "hostmesh.io/host/"


def hostname_alias(hostname: str) -> str:
    """Stands for the services of all namespaces that have the hostname, where a mesh is followed on demand."""
    return _HOST + hostname


def hostname_of(alias: str) -> str:
    """The hostname that an alias stands for, empty for what is no such alias."""
    hostname = alias.removeprefix(_HOST)
    return hostname if hostname != alias and "/" not in hostname else ""


class Scope(Enum):
    """What a routing preference compares."""

    REGION = "Region"
    ZONE = "Zone"
    SUBZONE = "Subzone"
    NODE = "Node"
    CLUSTER = "Cluster"
    NETWORK = "Network"


class LoadBalancingMode(Enum):
    """STRICT drops endpoints that miss a preference; FAILOVER ranks; PASSTHROUGH does not balance."""

    STANDARD = "Standard"
    STRICT = "Strict"
    FAILOVER = "Failover"
    PASSTHROUGH = "Passthrough"


class HealthPolicy(Enum):
    """Whether unhealthy endpoints are used."""

    ONLY_HEALTHY = "OnlyHealthy"
    ALLOW_ALL = "AllowAll"


class Visibility(Enum):
    """NAMESPACE hides the service from clients of other namespaces."""

    PUBLIC = "Public"
    NAMESPACE = "Namespace"


class IpFamilies(Enum):
    """Which endpoint addresses a service may use; None on the service means any."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"
    DUAL = "Dual"


@dataclass(frozen=True, slots=True)
class LoadBalancing:
    """How to choose among the endpoints of a service."""

    mode: LoadBalancingMode = LoadBalancingMode.STANDARD
    routing_preferences: tuple[Scope, ...] = ()
    health_policy: HealthPolicy = HealthPolicy.ONLY_HEALTHY


@dataclass(frozen=True, slots=True)
class WeightedWaypoint:
    """One of several waypoints; share = weight / sum; 0 gets no traffic."""

    destination: GatewayAddress
    weight: int


_NO_PORTS: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Service:
    """A service; its key is `namespace/hostname`. `ports` maps service port to target port (0: named)."""

    name: str
    namespace: str
    hostname: str
    vips: tuple[NetworkAddress, ...] = ()
    cidr_vips: tuple[NetworkCidr, ...] = ()
    ports: Mapping[int, int] = field(default_factory=lambda: _NO_PORTS)
    subject_alt_names: tuple[str, ...] = ()
    waypoint: GatewayAddress | None = None
    weighted_waypoints: tuple[WeightedWaypoint, ...] = ()
    load_balancing: LoadBalancing | None = None
    ip_families: IpFamilies | None = None
    canonical: bool = False
    ingress_use_waypoint: bool = False
    visibility: Visibility = Visibility.PUBLIC

    @property
    def namespaced_hostname(self) -> NamespacedHostname:
        """The key other objects refer to it by."""
        return NamespacedHostname(self.namespace, self.hostname)

    @property
    def key(self) -> str:
        """The xDS resource name."""
        return f"{self.namespace}/{self.hostname}"
