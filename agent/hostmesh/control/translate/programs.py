"""What each waypoint is told: services that use it, routes, policies (istiod's configuration of waypoint proxies)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.grpc_route import GRPCRoute
from hostmesh.control.documents.http_route import HOSTNAME, BackendRef, HTTPRoute
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.request_authentication import RequestAuthentication
from hostmesh.control.documents.service import CoreService
from hostmesh.control.documents.service_entry import ServiceEntry
from hostmesh.control.documents.tcp_route import TCPRoute
from hostmesh.control.documents.wasm_plugin import WasmPlugin
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.http_routes import request_routes
from hostmesh.control.translate.parents import attached
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.telemetry import Levels
from hostmesh.control.translate.wasm_plugins import wasm_plugins
from hostmesh.control.translate.waypoint_policies import authentications, l7_policies
from hostmesh.control.translate.waypoints import Key, Waypoints
from hostmesh.model.address import NamespacedHostname
from hostmesh.model.local import server_name
from hostmesh.model.waypoint import (
    AppProtocol,
    Backend,
    JwtRule,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.model.workload import HealthStatus, Protocol, Workload

_BY_NAME = {
    "HTTP": AppProtocol.HTTP,
    "HTTP2": AppProtocol.HTTP2,
    "GRPC": AppProtocol.HTTP2,
    "GRPC-WEB": AppProtocol.HTTP,
    "TCP": AppProtocol.TCP,
    "TLS": AppProtocol.TCP,
    "HTTPS": AppProtocol.TCP,
    "MONGO": AppProtocol.TCP,
    "MYSQL": AppProtocol.TCP,
    "REDIS": AppProtocol.TCP,
}


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that programs are made of."""

    mesh: MeshConfig
    waypoints: Waypoints
    services: Sequence[Backed]
    using: Mapping[str, Sequence[Key]]
    workloads: Sequence[Workload]
    behind: Mapping[NamespacedHostname, Sequence[Workload]]
    by_host: Mapping[str, Backed]
    http_routes: Sequence[Object[HTTPRoute]]
    grpc_routes: Sequence[Object[GRPCRoute]]
    tcp_routes: Sequence[Object[TCPRoute]]
    policies: Sequence[Object[AuthorizationPolicy]]
    authentications: Sequence[Object[RequestAuthentication]]
    telemetry: Levels
    plugins: Sequence[Object[WasmPlugin]]
    described: Sequence[tuple[Object[WorkloadEntry], Workload]]


def programs(material: Material) -> tuple[WaypointProgram, ...]:
    """One for each Gateway, sorted by namespace and name.

    Args:
        material: `using` maps the keys of services and the uids of workloads to their waypoints, `behind` the names
            of services to their endpoints, `by_host` host names to services.
    """
    return tuple(_program(key, material) for key in sorted(material.waypoints.gateways))


def _program(key: Key, material: Material) -> WaypointProgram:
    namespace, name = key
    served = [backed for backed in material.services if key in material.using.get(backed.service.key, ())]
    said = material.telemetry
    made = [
        replace(
            _service(backed, material),
            ports=_routed(backed, material, namespace),
            telemetry=said.of_service(key, backed),
        )
        for backed in served
    ]
    routed = {backend.hostname for one in made for backend in _backends(one)} - {"", *(one.hostname for one in made)}
    made += [replace(_service(material.by_host[host], material), served=False) for host in sorted(routed)]
    return WaypointProgram(
        name=name,
        namespace=namespace,
        trust_domain=material.mesh.trust_domain,
        identity=str(material.waypoints.identity(key) or ""),
        port=material.waypoints.port(key),
        services=tuple(made),
        workloads=tuple(_once(by_address(material, key))),
        policies=tuple(l7_policies(material.policies, key, served, material.mesh)),
        authentications=tuple(
            replace(one, rules=tuple(_with_issuer(rule, material) for rule in one.rules))
            for one in authentications(material.authentications, key, served, material.mesh.root_namespace)
        ),
        authorizers=tuple(
            replace(one, endpoints=_inside(one.address, one.port, material)) for one in material.mesh.authorizers or ()
        ),
        telemetry=said.of_service(key, None),
        plugins=tuple(wasm_plugins(material.plugins, key, served, material.mesh.root_namespace)),
        tells_caller=material.waypoints.gateways[key].resource.tells_caller,
    )


def _inside(hostname: str, port: int, material: Material) -> tuple[WaypointEndpoint, ...] | None:
    """The endpoints of what a waypoint itself calls, if that is a service of the mesh: they are reached by HBONE."""
    backed = material.by_host.get(hostname)
    if backed is None or port not in backed.service.ports:
        return None
    return tuple(_endpoints(backed, port, material))


def _with_issuer(rule: JwtRule, material: Material) -> JwtRule:
    if not rule.jwks_uri:
        return rule
    parts = urlsplit(rule.jwks_uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return replace(rule, endpoints=_inside(parts.hostname or "", port, material))


def by_address(material: Material, key: Key) -> Iterator[tuple[Workload, str]]:
    """The workloads that use a waypoint themselves, by each of their addresses."""
    for workload in material.workloads:
        if key in material.using.get(workload.uid, ()):
            yield from ((workload, str(address)) for address in workload.addresses)


def _once(addressed: Iterable[tuple[Workload, str]]) -> Iterator[WaypointEndpoint]:
    """The first of those that share an address; a waypoint could not tell which one a call is for."""
    seen: set[str] = set()
    for workload, address in addressed:
        if address not in seen:
            seen.add(address)
            yield _endpoint(workload, address, 0)


def _backends(service: WaypointService) -> Iterator[Backend]:
    for port in service.ports:
        for route in port.routes:
            yield from route.backends
            yield from (mirror.backend for mirror in route.mirrors)
        yield from port.tcp_backends


def _service(backed: Backed, material: Material) -> WaypointService:
    service = backed.service
    ports = tuple(
        WaypointPort(port, protocol(backed, port), tuple(_endpoints(backed, port, material)))
        for port in sorted(service.ports)
    )
    vips = tuple(str(vip.ip) for vip in service.vips)
    return WaypointService(service.namespace, service.hostname, vips, ports, name=service.name)


def _routed(backed: Backed, material: Material, waypoint_namespace: str) -> tuple[WaypointPort, ...]:
    """The ports of a service with what is attached to them; who attaches a route says what the port speaks."""
    ports = []
    for port in _service(backed, material).ports:
        http = attached(material.http_routes, backed, port.port, waypoint_namespace)
        grpc = attached(material.grpc_routes, backed, port.port, waypoint_namespace)
        tcp = attached(material.tcp_routes, backed, port.port, waypoint_namespace)
        undeclared = port.protocol in (AppProtocol.SNIFFED, AppProtocol.TCP)
        if http or grpc:
            said = AppProtocol.HTTP2 if grpc else AppProtocol.HTTP
            routes = request_routes(http, grpc, partial(resolve, material))
            port = replace(port, protocol=said if undeclared else port.protocol, routes=routes)
        elif tcp and undeclared:
            (item, *_) = tcp
            port = replace(port, protocol=AppProtocol.TCP, tcp_backends=tuple(_shares(item, material)))
        ports.append(port)
    return tuple(ports)


def _shares(item: Object[TCPRoute], material: Material) -> Iterator[Backend]:
    """Those of the first rule, which takes every connection."""
    for one in item.resource.spec.rules[0].backend_refs:
        yield Backend(resolve(material, item.key.namespace, one), one.port or 0, one.weight)


def protocol(backed: Backed, number: int) -> AppProtocol:
    """What the document says; a Service by `appProtocol` or the prefix of the port's name."""
    resource = backed.source.resource
    if isinstance(resource, ServiceEntry):
        said = next((port.protocol for port in resource.spec.ports if port.number == number), "")
        return _BY_NAME.get(said.upper(), AppProtocol.SNIFFED)
    if isinstance(resource, CoreService):
        port = next((port for port in resource.spec.ports if port.port == number), None)
        if port is not None:
            said = port.app_protocol.removeprefix("kubernetes.io/") or port.name.partition("-")[0]
            return _BY_NAME.get({"h2c": "HTTP2"}.get(said, said).upper(), AppProtocol.SNIFFED)
    return AppProtocol.SNIFFED


def _endpoints(backed: Backed, port: int, material: Material) -> Iterator[WaypointEndpoint]:
    name = backed.service.namespaced_hostname
    for workload in material.behind.get(name, ()):
        target = workload.services[name].get(port)
        if target is None or workload.status is not HealthStatus.HEALTHY:
            continue
        for address in workload.addresses[:1]:
            yield _endpoint(workload, str(address), target or port)


def _endpoint(workload: Workload, address: str, port: int) -> WaypointEndpoint:
    identity = str(workload.identity) if workload.protocol is Protocol.HBONE else ""
    return WaypointEndpoint(
        address,
        port,
        identity,
        workload.name,
        workload.namespace,
        workload.capacity,
        owner=workload.workload_name,
        service=workload.canonical_name,
        revision=workload.canonical_revision,
        cluster=workload.cluster_id,
        server_name=server_name(workload.uid),
    )


def resolve(material: Material, route_namespace: str, backend: BackendRef) -> str:
    """The host name of the service that is meant, if it has the port."""
    if (backend.group, backend.kind) == HOSTNAME:
        hostname = backend.name
    else:
        namespace = backend.namespace or route_namespace
        hostname = f"{backend.name}.{namespace}.svc.{material.mesh.cluster_domain}"
    backed = material.by_host.get(hostname)
    return hostname if backed is not None and backend.port in backed.service.ports else ""
