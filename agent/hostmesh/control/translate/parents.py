"""Which routes are attached to a port of a service (Gateway API parentRefs on mesh services)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from hostmesh.control.documents.grpc_route import GRPCRoute
from hostmesh.control.documents.http_route import SERVICE_GROUPS, HTTPRoute, ParentRef
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.service import CoreService
from hostmesh.control.documents.service_entry import ServiceEntry
from hostmesh.control.documents.tcp_route import TCPRoute
from hostmesh.control.translate.services import Backed

RouteT = TypeVar("RouteT", bound=HTTPRoute | GRPCRoute | TCPRoute)


def attached(
    routes: Iterable[Object[RouteT]], service: Backed, port: int, waypoint_namespace: str
) -> list[Object[RouteT]]:
    """Those of the service's own namespace or of its waypoint's that name this port, or no port."""
    namespaces = (service.source.key.namespace, waypoint_namespace)
    return [
        route
        for route in routes
        if route.key.namespace in namespaces
        and any(
            means_service(parent, route.key.namespace, service) and means_port(parent, service, port)
            for parent in route.resource.spec.parent_refs
        )
    ]


def means_service(parent: ParentRef, namespace: str, service: Backed) -> bool:
    """Whether a parentRef of a route in this namespace names this service."""
    key = service.source.key
    kind = "ServiceEntry" if parent.kind == "ServiceEntry" else "Service"
    return (parent.group, parent.kind) in SERVICE_GROUPS and (kind, parent.namespace or namespace, parent.name) == (
        key.kind,
        key.namespace,
        key.name,
    )


def means_port(parent: ParentRef, service: Backed, port: int) -> bool:
    """By number and by name, where they are given."""
    return parent.port in (None, port) and parent.section_name in ("", _port_name(service, port))


def _port_name(service: Backed, number: int) -> str:
    match service.source.resource:
        case CoreService() as core:
            return next((port.name for port in core.spec.ports if port.port == number), "")
        case ServiceEntry() as entry:
            return next((port.name for port in entry.spec.ports if port.number == number), "")
        case _:
            return ""
