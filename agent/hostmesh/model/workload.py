"""Workload: one endpoint of the mesh (istio.workload.Workload)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from hostmesh.model.address import GatewayAddress, IPAddress, NamespacedHostname
from hostmesh.model.identity import Identity

DEFAULT_TRUST_DOMAIN = "cluster.local"
DEFAULT_SERVICE_ACCOUNT = "default"
DEFAULT_CLUSTER = "Kubernetes"


class Protocol(Enum):
    """How a workload is reached; values as ztunnel's config dump prints them."""

    TCP = "TCP"
    HBONE = "HBONE"


class WorkloadType(Enum):
    """What kind of controller owns the workload (telemetry and baggage only)."""

    DEPLOYMENT = "deployment"
    CRONJOB = "cronjob"
    POD = "pod"
    JOB = "job"


class HealthStatus(Enum):
    """Whether service load balancing may choose the workload."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


class NetworkMode(Enum):
    """HOST_NETWORK workloads are not found by IP."""

    STANDARD = "Standard"
    HOST_NETWORK = "HostNetwork"


class TunnelKind(Enum):
    """What a sandwiched application behind the proxy understands."""

    NONE = "NONE"
    PROXY = "PROXY"


@dataclass(frozen=True, slots=True)
class ApplicationTunnel:
    """`port` is None when the tunnel keeps the destination port."""

    protocol: TunnelKind
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Locality:
    """Region, zone and subzone; empty strings where unknown."""

    region: str = ""
    zone: str = ""
    subzone: str = ""


PortMap = Mapping[int, int]
"""Service port to target port; 0 means that the endpoint or the service must say."""

_NO_SERVICES: Mapping[NamespacedHostname, PortMap] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Workload:
    """One endpoint. `uid` is the key; `addresses` may be empty when `hostname` is to be resolved.

    `authorization_policies` are the `namespace/name` keys of selector-scoped policies only. Of its connections in the
    directions `unlogged` (outbound, inbound) its agent writes no access log.
    """

    uid: str
    name: str
    namespace: str
    addresses: tuple[IPAddress, ...] = ()
    network: str = ""
    protocol: Protocol = Protocol.TCP
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    service_account: str = DEFAULT_SERVICE_ACCOUNT
    waypoint: GatewayAddress | None = None
    network_gateway: GatewayAddress | None = None
    node: str = ""
    canonical_name: str = ""
    canonical_revision: str = ""
    workload_type: WorkloadType = WorkloadType.DEPLOYMENT
    workload_name: str = ""
    native_tunnel: bool = False
    application_tunnel: ApplicationTunnel | None = None
    authorization_policies: tuple[str, ...] = ()
    status: HealthStatus = HealthStatus.HEALTHY
    cluster_id: str = DEFAULT_CLUSTER
    hostname: str = ""
    services: Mapping[NamespacedHostname, PortMap] = field(default_factory=lambda: _NO_SERVICES)
    locality: Locality = Locality()
    network_mode: NetworkMode = NetworkMode.STANDARD
    capacity: int = 1
    unlogged: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        """The SPIFFE identity that its certificate must carry."""
        return Identity(self.trust_domain, self.namespace, self.service_account)

    @property
    def key(self) -> str:
        """The xDS resource name."""
        return self.uid
