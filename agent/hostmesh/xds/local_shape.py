"""The shape of ztunnel's local configuration file, strictly: that of its config dump, read back."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hostmesh.model.address import (
    GatewayAddress,
    NamespacedHostname,
    NetworkAddress,
    NetworkCidr,
    parse_ip,
)


def destination(text: str) -> NetworkAddress | NamespacedHostname:
    """Read `network/ip`, else `namespace/hostname`, as ztunnel tells them apart.

    Raises:
        ValueError: neither.
    """
    before, slash, after = text.partition("/")
    if not slash or not after:
        raise ValueError("must be network/ip (/10.0.0.1 on the default network) or namespace/hostname")
    try:
        return NetworkAddress(before, parse_ip(after))
    except ValueError:
        return NamespacedHostname(before, after)


def vip(text: str) -> NetworkAddress:
    """Read `network/ip`.

    Raises:
        ValueError: it is not.
    """
    network, slash, ip = text.partition("/")
    if not slash:
        raise ValueError("must be network/ip; /10.0.0.1 on the default network")
    return NetworkAddress(network, parse_ip(ip))


def _checked(read: Callable[[str], object]) -> Callable[[str], str]:
    def check(text: str) -> str:
        read(text)
        return text

    return check


def _keys_as_text(value: object) -> object:
    """YAML has ports as numbers, JSON as text."""
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else value


def _port_names(value: dict[str, int]) -> dict[str, int]:
    for key in value:
        if not (key.isascii() and key.isdigit()) or not 0 < int(key) <= 65535:
            raise ValueError(f"{key!r} is not a port")
    return value


def _one_kind(value: dict[str, Any]) -> dict[str, Any]:
    [(kind, text)] = value.items() if len(value) == 1 else [("", None)]
    fits = text == [] or text is None if kind == "Presence" else isinstance(text, str)
    if kind not in ("Exact", "Prefix", "Suffix", "Presence") or not fits:
        raise ValueError("must be one of {Exact: text}, {Prefix: text}, {Suffix: text}, {Presence: []}")
    return value


Ip = Annotated[str, AfterValidator(_checked(parse_ip))]
Vip = Annotated[str, AfterValidator(_checked(vip))]
Destination = Annotated[str, AfterValidator(_checked(destination))]
Hostname = Annotated[str, AfterValidator(_checked(NamespacedHostname.parse))]
Cidr = Annotated[str, AfterValidator(_checked(lambda text: ip_network(text, strict=False)))]
Port = Annotated[int, Field(ge=1, le=65535)]
TargetPort = Annotated[int, Field(ge=0, le=65535)]
Ports = Annotated[dict[str, TargetPort], BeforeValidator(_keys_as_text), AfterValidator(_port_names)]
Text = Annotated[dict[str, Any], AfterValidator(_one_kind)]
Named = Annotated[str, Field(min_length=1)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Gateway(_Shape):
    """`destination`, and the port on which it speaks HBONE."""

    destination: Destination
    port: Port = Field(alias="hboneMtlsPort")

    def value(self) -> GatewayAddress:
        """As the model has it."""
        return GatewayAddress(destination(self.destination), self.port)


class Tunnel(_Shape):
    """What an application behind the proxy understands."""

    protocol: Literal["NONE", "PROXY"] = "NONE"
    port: Port | None = None


class Locality(_Shape):
    """Where a workload is."""

    region: str = ""
    zone: str = ""
    subzone: str = ""


class LocalWorkload(_Shape):
    """A workload; what is left out has the defaults of the mesh and not, as in ztunnel, none."""

    ips: list[Ip] = Field(alias="workloadIps")
    namespace: Named
    services: dict[Hostname, Ports]
    name: str = ""
    uid: str = ""
    protocol: Literal["TCP", "HBONE"] = "TCP"
    network_mode: Literal["Standard", "HostNetwork"] = Field("Standard", alias="networkMode")
    trust_domain: str = Field("", alias="trustDomain")
    service_account: str = Field("default", alias="serviceAccount")
    network: str = ""
    workload_name: str = Field("", alias="workloadName")
    workload_type: Literal["deployment", "cronjob", "pod", "job"] = Field("deployment", alias="workloadType")
    canonical_name: str = Field("", alias="canonicalName")
    canonical_revision: str = Field("", alias="canonicalRevision")
    hostname: str = ""
    node: str = ""
    native_tunnel: bool = Field(default=False, alias="nativeTunnel")
    tunnel: Tunnel | None = Field(None, alias="applicationTunnel")
    policies: list[Hostname] = Field(default_factory=list, alias="authorizationPolicies")
    status: Literal["Healthy", "Unhealthy"] = "Healthy"
    cluster_id: str = Field("", alias="clusterId")
    locality: Locality = Locality()
    waypoint: Gateway | None = None
    network_gateway: Gateway | None = Field(None, alias="networkGateway")
    capacity: Annotated[int, Field(ge=0, le=2**32 - 1)] = 1


class Endpoint(_Shape):
    """A workload behind a service, where the service names it."""

    uid: Named = Field(alias="workloadUid")
    ports: Ports = Field(alias="port")
    status: Literal["Healthy", "Unhealthy"] | None = None


class Weighted(_Shape):
    """One of several waypoints."""

    destination: Gateway
    weight: Annotated[int, Field(ge=0, le=2**32 - 1)]


class CidrVip(_Shape):
    """A range of addresses of a service."""

    network: str = ""
    cidr: Cidr

    def value(self) -> NetworkCidr:
        """As the model has it."""
        return NetworkCidr(self.network, ip_network(self.cidr, strict=False))


class Balancing(_Shape):
    """How endpoints are chosen."""

    preferences: list[Literal["Region", "Zone", "Subzone", "Node", "Cluster", "Network"]] = Field(
        alias="routingPreferences"
    )
    mode: Literal["Standard", "Strict", "Failover", "Passthrough"]
    health: Literal["OnlyHealthy", "AllowAll"] = Field(alias="healthPolicy")


class LocalService(_Shape):
    """A service."""

    name: Named
    namespace: Named
    hostname: Named
    vips: list[Vip]
    ports: Ports
    endpoints: dict[str, Endpoint] = Field(default_factory=dict)
    subject_alt_names: list[str] = Field(default_factory=list, alias="subjectAltNames")
    cidr_vips: list[CidrVip] = Field(default_factory=list, alias="cidrVips")
    waypoint: Gateway | None = None
    weighted_waypoints: list[Weighted] = Field(default_factory=list, alias="weightedWaypoints")
    balancing: Balancing | None = Field(None, alias="loadBalancer")
    ip_families: Literal["Dual", "IPv4", "IPv6"] | None = Field(None, alias="ipFamilies")
    canonical: bool = False
    visibility: Literal["Public", "Namespace"] = "Public"


class Account(_Shape):
    """A service account of a namespace."""

    namespace: str
    service_account: str = Field(alias="serviceAccount")


class PolicyMatch(_Shape):
    """Attributes AND-ed, values of one OR-ed."""

    namespaces: list[Text] = Field(default_factory=list)
    not_namespaces: list[Text] = Field(default_factory=list, alias="notNamespaces")
    service_accounts: list[Account] = Field(default_factory=list, alias="serviceAccounts")
    not_service_accounts: list[Account] = Field(default_factory=list, alias="notServiceAccounts")
    principals: list[Text] = Field(default_factory=list)
    not_principals: list[Text] = Field(default_factory=list, alias="notPrincipals")
    source_ips: list[Cidr] = Field(default_factory=list, alias="sourceIps")
    not_source_ips: list[Cidr] = Field(default_factory=list, alias="notSourceIps")
    destination_ips: list[Cidr] = Field(default_factory=list, alias="destinationIps")
    not_destination_ips: list[Cidr] = Field(default_factory=list, alias="notDestinationIps")
    destination_ports: list[Port] = Field(default_factory=list, alias="destinationPorts")
    not_destination_ports: list[Port] = Field(default_factory=list, alias="notDestinationPorts")


class LocalPolicy(_Shape):
    """A policy; rules of clauses of matches."""

    name: Named
    namespace: str
    scope: Literal["Global", "Namespace", "WorkloadSelector"]
    action: Literal["Allow", "Deny"]
    rules: list[list[list[PolicyMatch]]]
    dry_run: bool = Field(default=False, alias="dryRun")


class LocalFile(_Shape):
    """All of it."""

    workloads: list[LocalWorkload] = Field(default_factory=list)
    services: list[LocalService] = Field(default_factory=list)
    policies: list[LocalPolicy] = Field(default_factory=list)
