"""References of L7 documents that lead nowhere: no reason to refuse a document, but its author must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hostmesh.config.strict_yaml import Path, Problem, suggest
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy, TargetRef
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.grpc_route import GRPCRoute, GRPCRouteRule
from hostmesh.control.documents.http_route import HTTPRoute, HTTPRouteRule, ParentRef
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.request_authentication import RequestAuthentication
from hostmesh.control.documents.tcp_route import TCPRoute, TCPRouteRule
from hostmesh.control.documents.telemetry import Telemetry
from hostmesh.control.documents.wasm_plugin import WasmPlugin
from hostmesh.control.translate.parents import means_port, means_service
from hostmesh.control.translate.programs import Material, by_address, protocol, resolve
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.waypoint_policies import means
from hostmesh.model.waypoint import AppProtocol
from hostmesh.model.workload import Workload

AnyRoute = Object[HTTPRoute] | Object[GRPCRoute] | Object[TCPRoute]
Attached = Object[AuthorizationPolicy] | Object[RequestAuthentication] | Object[Telemetry] | Object[WasmPlugin]

_REQUESTS = (AppProtocol.HTTP, AppProtocol.HTTP2)


def loose_ends(material: Material) -> Iterator[Problem]:
    """Parents, backends, authorizers and targets that are not there; workloads that a waypoint cannot tell apart."""
    behind = [backed for backed in material.services if material.using.get(backed.service.key)]
    yield from _routes(material, behind)
    yield from _authorizers(material.policies, material)
    attached: list[Attached] = [*material.policies, *material.authentications]
    attached += [*material.telemetry.documents, *material.plugins]
    for item in attached:
        yield from _targets(item, material, behind)
    yield from _sharing(material)


def _routes(material: Material, behind: Sequence[Backed]) -> Iterator[Problem]:
    routes: list[AnyRoute] = [*material.http_routes, *material.grpc_routes, *material.tcp_routes]
    for item in routes:
        for number, parent in enumerate(item.resource.spec.parent_refs):
            why = _unattached(item, parent, behind, material)
            if why:
                path: Path = ("spec", "parentRefs", number, "name")
                yield item.document.problem(path, f"{why}: the route has no effect there")
        yield from _backends(item, material)


def _backends(item: AnyRoute, material: Material) -> Iterator[Problem]:
    rules: Sequence[HTTPRouteRule | GRPCRouteRule | TCPRouteRule] = item.resource.spec.rules
    for number, rule in enumerate(rules):
        for position, backend in enumerate(rule.backend_refs):
            if not resolve(material, item.key.namespace, backend):
                of_tcp = isinstance(rule, TCPRouteRule)
                lost = "connections is closed" if of_tcp else "requests is answered with 500"
                why = f"backend({backend.name}) not found: its share of the {lost}"
                yield item.document.problem(("spec", "rules", number, "backendRefs", position, "name"), why)


def _unattached(item: AnyRoute, parent: ParentRef, behind: Sequence[Backed], material: Material) -> str:
    """Why a parentRef leads to no port of a service that uses a waypoint; empty if it does."""
    namespace = item.key.namespace
    where = f"{parent.kind} {parent.namespace or namespace}/{parent.name}"
    backed = next((one for one in behind if means_service(parent, namespace, one)), None)
    if backed is None:
        return f"there is no {where} that uses a waypoint"
    waypoints = [waypoint for waypoint, _ in material.using[backed.service.key]]
    if namespace not in (backed.source.key.namespace, *waypoints):
        return f"only routes of its own namespace or its waypoint's ({waypoints[0]}) are for {where}"
    ports = [port for port in backed.service.ports if means_port(parent, backed, port)]
    if not ports:
        return f"{where} has no port {parent.port or parent.section_name!r}"
    if isinstance(item.resource, TCPRoute) and all(protocol(backed, port) in _REQUESTS for port in ports):
        return f"{where} speaks HTTP there"
    return ""


def _authorizers(policies: Iterable[Object[AuthorizationPolicy]], material: Material) -> Iterator[Problem]:
    if material.mesh.authorizers is None:
        return
    known = [one.name for one in material.mesh.authorizers]
    for item in policies:
        provider = item.resource.spec.provider
        if provider is not None and provider.name not in known:
            why = (
                f"the control plane has no extensionProvider {provider.name!r}: what the rules match is denied until "
                f"there is one; {suggest(provider.name, known)}"
            )
            yield item.document.problem(("spec", "provider", "name"), why)


def _targets(item: Attached, material: Material, behind: Sequence[Backed]) -> Iterator[Problem]:
    spec = item.resource.spec
    for number, target in enumerate(spec.targets):
        why = _idle(item, target, material, behind)
        if why:
            path: Path = ("targetRefs", number) if spec.target_refs else ("targetRef",)
            yield item.document.problem(("spec", *path, "name"), f"{why}: the policy has no effect there")


def _sharing(material: Material) -> Iterator[Problem]:
    """A waypoint knows workloads by their addresses alone."""
    sources = {workload.uid: item for item, workload in material.described}
    for key in material.waypoints.gateways:
        first: dict[str, Workload] = {}
        for workload, address in by_address(material, key):
            owner = first.setdefault(address, workload)
            item = sources.get(workload.uid)
            if owner is not workload and item is not None:
                why = (
                    f"{owner.namespace}/{owner.name} uses the same waypoint at this address: calls to this workload "
                    "by address are refused; give it an address of its own, or let only its service use the waypoint"
                )
                yield item.document.problem(("spec", "address"), why)


def _idle(item: Object[Resource], target: TargetRef, material: Material, behind: Sequence[Backed]) -> str:
    """Why a target leads to no waypoint; empty if it does."""
    namespace, root = item.key.namespace, material.mesh.root_namespace
    where = f"{namespace}/{target.name}"
    if target.kind == "GatewayClass":
        return "" if namespace == root else f"only policies of the namespace {root} may be for all waypoints"
    if target.kind == "Gateway":
        return "" if (namespace, target.name) in material.waypoints.gateways else f"there is no waypoint {where}"
    if any(means(item, target, backed) for backed in behind):
        return ""
    return f"there is no {target.kind} {where} that uses a waypoint"
