"""Istio ServiceEntry (networking.istio.io): host names and VIPs in front of workloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.config.strict_yaml import Path, suggest
from hostmesh.control.documents.base import NODE_LABEL, Finding, PortNumber, Resource, Strict, check_labels, warning
from hostmesh.control.documents.names import is_cidr, is_dns_label, is_fqdn, is_ip, is_wildcard_host
from hostmesh.control.documents.workload_entry import WorkloadEntrySpec, check_endpoint

WORKLOAD_DOMAIN = "workload.hostmesh.internal"
"""Names of single workloads' ports; no service may be called like one."""

_HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS")
_PROTOCOLS = (*_HTTP, "TCP", "UDP", "MONGO", "MYSQL", "REDIS")


class ServicePort(Strict):
    """A port of the service; `target_port` 0 means the same number at the endpoint."""

    number: PortNumber
    name: str
    protocol: str = "TCP"
    target_port: Annotated[int, Field(ge=0, le=65535)] = 0


class WorkloadSelector(Strict):
    """Chooses WorkloadEntries of the same namespace."""

    labels: dict[str, str] = Field(default={})


class ServiceEntrySpec(Strict):
    """Resolution says where endpoints come from; NONE passes traffic on to the address that was dialled."""

    hosts: Annotated[list[str], Field(min_length=1, max_length=256)]
    addresses: Annotated[list[str], Field(max_length=256)] = Field(default=[])
    ports: Annotated[list[ServicePort], Field(max_length=256)] = Field(default=[])
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: Annotated[list[WorkloadEntrySpec], Field(max_length=4096)] = Field(default=[])
    export_to: list[str] = Field(default=[])
    subject_alt_names: list[str] = Field(default=[])
    workload_selector: WorkloadSelector | None = None


class AssignedAddress(Strict):
    """A VIP that was allocated to one host earlier."""

    value: str
    host: str = ""


class ServiceEntryStatus(Strict):
    """Only the addresses matter here."""

    addresses: list[AssignedAddress] = Field(default=[])
    conditions: object = None
    observed_generation: object = None
    validation_messages: object = None


class ServiceEntry(Resource):
    """One service per host."""

    spec: ServiceEntrySpec
    status: ServiceEntryStatus | None = None


def check_service_entry(entry: ServiceEntry) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = entry.spec
    yield from _check_hosts(spec)
    yield from _check_addresses(spec)
    yield from _check_ports(spec)
    yield from _check_endpoints(spec)
    yield from _check_resolution(spec)
    yield from _check_exports(spec)
    for number, address in enumerate(entry.status.addresses if entry.status else ()):
        if not is_ip(address.value):
            path: Path = ("status", "addresses", number, "value")
            yield Finding(path, f"{address.value!r} is not an IP address; remove the recorded address")


def _check_hosts(spec: ServiceEntrySpec) -> Iterator[Finding]:
    for number, host in enumerate(spec.hosts):
        path: Path = ("spec", "hosts", number)
        if host == "*":
            yield Finding(path, "a service for every host name is not supported; name the host")
        elif not is_fqdn(host) and not is_wildcard_host(host):
            yield Finding(path, f"{host!r} is not a host name")
        elif host.endswith(f".{WORKLOAD_DOMAIN}"):
            yield Finding(path, f"names under {WORKLOAD_DOMAIN} are reserved for single workloads")
        elif host.startswith("*.") and host.count(".") == 1:
            yield warning(path, f"{host!r} claims a whole top-level domain")
        if host in spec.hosts[:number]:
            yield Finding(path, f"{host!r} stands twice")


def _check_addresses(spec: ServiceEntrySpec) -> Iterator[Finding]:
    for number, address in enumerate(spec.addresses):
        path: Path = ("spec", "addresses", number)
        if not is_ip(address) and not is_cidr(address):
            yield Finding(path, f"{address!r} is not an IP address or CIDR range")
        elif is_cidr(address) and spec.resolution not in ("NONE", "STATIC"):
            yield Finding(path, f"a CIDR range is allowed only with resolution NONE or STATIC, not {spec.resolution}")


def _check_ports(spec: ServiceEntrySpec) -> Iterator[Finding]:
    names: dict[str, int] = {}
    numbers: dict[int, int] = {}
    for position, port in enumerate(spec.ports):
        path: Path = ("spec", "ports", position)
        if not is_dns_label(port.name):
            yield Finding((*path, "name"), f"the port name {port.name!r} is not a DNS label")
        if port.name in names:
            yield Finding((*path, "name"), f"the name {port.name!r} is also that of port {names[port.name]}")
        if port.number in numbers:
            yield Finding((*path, "number"), f"port {port.number} stands twice")
        if port.protocol.upper() not in _PROTOCOLS:
            known = suggest(port.protocol.upper(), _PROTOCOLS)
            yield Finding((*path, "protocol"), f"unknown protocol {port.protocol!r}; {known}")
        names.setdefault(port.name, port.number)
        numbers.setdefault(port.number, position)
    if len(spec.hosts) > 1 and spec.resolution != "NONE":
        for position, port in enumerate(spec.ports):
            if port.protocol.upper() in _PROTOCOLS and port.protocol.upper() not in _HTTP:
                why = "multiple hosts provided with non-HTTP, non-TLS ports; write one ServiceEntry per host"
                yield Finding(("spec", "ports", position, "protocol"), why)


def _check_endpoints(spec: ServiceEntrySpec) -> Iterator[Finding]:
    selector = spec.workload_selector
    if selector is not None:
        if spec.endpoints:
            yield Finding(("spec", "workloadSelector"), "only one of workloadSelector and endpoints can be set")
        if not selector.labels:
            yield warning(("spec", "workloadSelector"), "selects by no label: it selects no workload; add labels")
        yield from check_labels(selector.labels, ("spec", "workloadSelector", "labels"))
    names = [port.name for port in spec.ports]
    for number, endpoint in enumerate(spec.endpoints):
        path: Path = ("spec", "endpoints", number)
        yield from check_endpoint(endpoint, path)
        if NODE_LABEL in endpoint.labels:
            why = "an inline endpoint has no identity on a node; write a WorkloadEntry and select it"
            yield Finding((*path, "labels", NODE_LABEL), why)
        for name in endpoint.ports:
            if name not in names:
                yield Finding((*path, "ports", name), f"the entry has no port named {name!r}; {suggest(name, names)}")
        if spec.resolution == "STATIC" and endpoint.address and not is_ip(endpoint.address):
            why = f"resolution STATIC needs an IP address, not {endpoint.address!r}; use resolution DNS for names"
            yield Finding((*path, "address"), why)


def _check_resolution(spec: ServiceEntrySpec) -> Iterator[Finding]:
    path: Path = ("spec", "resolution")
    nowhere = not spec.endpoints and spec.workload_selector is None
    if spec.resolution == "NONE" and spec.endpoints:
        yield Finding(path, "NONE cannot have endpoints: traffic goes to the address that was dialled; use STATIC")
    if spec.resolution == "STATIC" and nowhere:
        yield warning(path, "STATIC with neither endpoints nor workloadSelector: nothing answers for it")
    if spec.resolution in ("DNS", "DNS_ROUND_ROBIN") and nowhere:
        for number, host in enumerate(spec.hosts):
            if host.startswith("*"):
                yield Finding(("spec", "hosts", number), f"{spec.resolution} without endpoints cannot resolve {host!r}")
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        yield Finding(("spec", "endpoints"), "DNS_ROUND_ROBIN takes one endpoint at most; use DNS for several")
    if spec.resolution == "DYNAMIC_DNS":
        yield from _check_dynamic_dns(spec)


def _check_dynamic_dns(spec: ServiceEntrySpec) -> Iterator[Finding]:
    for number, host in enumerate(spec.hosts):
        if not host.startswith("*."):
            yield Finding(("spec", "hosts", number), "DYNAMIC_DNS is for wildcard hosts; use DNS for a single name")
    for name, present in (("addresses", spec.addresses), ("endpoints", spec.endpoints)):
        if present:
            yield Finding(("spec", name), f"DYNAMIC_DNS cannot have {name}; remove them")
    for number, port in enumerate(spec.ports):
        if port.protocol.upper() not in ("HTTP", "HTTP2", "GRPC", "TLS"):
            yield Finding(("spec", "ports", number, "protocol"), "DYNAMIC_DNS carries HTTP, HTTP2, GRPC and TLS only")
    if spec.location != "MESH_EXTERNAL":
        yield Finding(("spec", "location"), "DYNAMIC_DNS is for MESH_EXTERNAL services")


def _check_exports(spec: ServiceEntrySpec) -> Iterator[Finding]:
    path: Path = ("spec", "exportTo")
    exports = spec.export_to
    if len(set(exports)) != len(exports):
        yield Finding(path, "a namespace stands twice")
    for everything in ("*", "~"):
        if everything in exports and len(exports) > 1:
            yield Finding(path, f"{everything!r} cannot stand with others")
    if exports and exports != ["*"]:
        yield warning(path, "ignored: in an ambient mesh every namespace sees the service")
