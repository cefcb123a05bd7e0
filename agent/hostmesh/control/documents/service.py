"""Kubernetes Service (core v1): a name and a VIP in front of the WorkloadEntries that its selector chooses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, PortNumber, Resource, Strict, check_labels, warning
from hostmesh.control.documents.names import is_dns_label, is_ip

_WITHOUT_EFFECT = ("sessionAffinity", "externalIPs", "externalTrafficPolicy", "sessionAffinityConfig")


class CorePort(Strict):
    """`target_port` is a number, or a name that the workload's ports must have; absent means `port`."""

    port: PortNumber
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    target_port: Annotated[int, Field(ge=1, le=65535)] | Annotated[str, Field(min_length=1)] | None = None
    app_protocol: str = ""
    node_port: int = 0


class CoreServiceSpec(Strict):
    """Fields that only a cluster can honour are accepted, so that documents written for one work here."""

    selector: dict[str, str] = Field(default={})
    ports: list[CorePort] = Field(default=[])
    cluster_ip: str = Field(default="", alias="clusterIP")
    cluster_ips: list[str] = Field(default=[], alias="clusterIPs")
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    external_name: str = ""
    internal_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    traffic_distribution: Literal["", "PreferClose", "PreferSameZone", "PreferSameNode"] = ""
    publish_not_ready_addresses: bool = False
    ip_families: list[Literal["IPv4", "IPv6"]] = Field(default=[])
    ip_family_policy: Literal["", "SingleStack", "PreferDualStack", "RequireDualStack"] = ""
    session_affinity: str = ""
    session_affinity_config: object = None
    external_ips: list[str] = Field(default=[], alias="externalIPs")
    external_traffic_policy: str = ""


class CoreService(Resource):
    """The service `<name>.<namespace>.svc.<cluster domain>`."""

    spec: CoreServiceSpec

    @property
    def cluster_ips(self) -> tuple[str, ...]:
        """The addresses the user chose; empty for headless and for not chosen."""
        chosen = self.spec.cluster_ips or [self.spec.cluster_ip]
        return tuple(address for address in chosen if address not in ("", "None"))

    @property
    def headless(self) -> bool:
        """Explicitly without a VIP."""
        return self.spec.cluster_ip == "None" or self.spec.cluster_ips == ["None"]


def check_service(service: CoreService) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = service.spec
    if spec.type == "ExternalName":
        yield warning(("spec", "type"), "ExternalName is ignored in an ambient mesh; write a ServiceEntry")
        return
    if not is_dns_label(service.metadata.name):
        yield Finding(
            ("metadata", "name"), f"{service.metadata.name!r} is not a DNS label, as a Service's name must be"
        )
    if not spec.selector:
        yield warning(("spec", "selector"), "missing: no workload stands behind the service; select WorkloadEntries")
    yield from check_labels(spec.selector, ("spec", "selector"))
    if not spec.ports and not service.headless:
        yield Finding(("spec", "ports"), "a service needs at least one port")
    yield from _check_ports(spec)
    for address in service.cluster_ips:
        if not is_ip(address):
            yield Finding(("spec", "clusterIP"), f"{address!r} is not an IP address (nor the word None)")
    for name in _WITHOUT_EFFECT:
        field = next(key for key, info in CoreServiceSpec.model_fields.items() if info.alias == name)
        if getattr(spec, field) not in ("", "None", None, []):
            yield warning(("spec", name), "has no effect here")
    if spec.type != "ClusterIP":
        yield warning(("spec", "type"), f"{spec.type} is treated as ClusterIP: nothing is opened to the outside")


def _check_ports(spec: CoreServiceSpec) -> Iterator[Finding]:
    numbers: set[int] = set()
    names: set[str] = set()
    for position, port in enumerate(spec.ports):
        path: Path = ("spec", "ports", position)
        if not port.name and len(spec.ports) > 1:
            yield Finding((*path, "name"), "required where a service has several ports")
        if port.name and not is_dns_label(port.name):
            yield Finding((*path, "name"), f"the port name {port.name!r} is not a DNS label")
        if port.name and port.name in names:
            yield Finding((*path, "name"), f"the name {port.name!r} stands twice")
        if port.protocol == "TCP" and port.port in numbers:
            yield Finding((*path, "port"), f"port {port.port} stands twice")
        if port.protocol != "TCP":
            yield warning((*path, "protocol"), f"the mesh carries TCP only; the {port.protocol} port is left alone")
        else:
            numbers.add(port.port)
        names.add(port.name)
