"""Services and workloads with the waypoints that they use, and what the waypoints are told because of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.grpc_route import GRPCRoute
from hostmesh.control.documents.http_route import HTTPRoute
from hostmesh.control.documents.read import Object, of_kind
from hostmesh.control.documents.request_authentication import RequestAuthentication
from hostmesh.control.documents.tcp_route import TCPRoute
from hostmesh.control.documents.telemetry import Telemetry
from hostmesh.control.documents.wasm_plugin import WasmPlugin
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.programs import Material
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.telemetry import Levels
from hostmesh.control.translate.waypoints import Key, Waypoints
from hostmesh.model.address import NamespacedHostname
from hostmesh.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Attachment:
    """The same services and workloads as before, each with its waypoint; `using` by service key and workload uid.

    A canary is used beside the waypoint itself.
    """

    services: tuple[Backed, ...]
    workloads: tuple[Workload, ...]
    using: Mapping[str, Sequence[Key]]


def attach(
    waypoints: Waypoints,
    services: Iterable[Backed],
    described: Iterable[tuple[Object[WorkloadEntry], Workload]],
    workloads: Iterable[Workload],
) -> Attachment:
    """Find every object's waypoint.

    Args:
        waypoints: all of them.
        services: all services.
        described: WorkloadEntries with their workloads; endpoints that stand in a ServiceEntry use its waypoint only.
        workloads: all workloads.
    """
    using: dict[str, Sequence[Key]] = {}
    attached_services = []
    for backed in services:
        labels = backed.source.resource.metadata.labels
        if waypoints.for_ingress(backed.source, labels):
            backed = replace(backed, service=replace(backed.service, ingress_use_waypoint=True))
        found = waypoints.of(backed.source, labels, "service")
        if found is not None:
            service = replace(backed.service, waypoint=found.address, weighted_waypoints=found.weighted)
            backed = replace(backed, service=service)
            using[backed.service.key] = [key for key in (found.gateway, found.canary) if key is not None]
        attached_services.append(backed)
    sources = {workload.uid: item for item, workload in described}
    attached_workloads = []
    for workload in workloads:
        item = sources.get(workload.uid)
        found = waypoints.of(item, item.resource.labels, "workload") if item is not None else None
        if found is not None:
            workload = replace(workload, waypoint=found.address)
            if found.gateway is not None:
                using[workload.uid] = [found.gateway]
        attached_workloads.append(workload)
    return Attachment(tuple(attached_services), tuple(attached_workloads), using)


def material(
    everything: Sequence[Object[Resource]],
    attachment: Attachment,
    waypoints: Waypoints,
    mesh: MeshConfig,
    described: Sequence[tuple[Object[WorkloadEntry], Workload]],
) -> Material:
    """What the waypoints' programs are made of."""
    behind: dict[NamespacedHostname, list[Workload]] = {}
    for workload in attachment.workloads:
        for name in workload.services:
            behind.setdefault(name, []).append(workload)
    return Material(
        mesh=mesh,
        waypoints=waypoints,
        services=attachment.services,
        using=attachment.using,
        workloads=attachment.workloads,
        behind=behind,
        by_host={backed.service.hostname: backed for backed in reversed(attachment.services)},
        http_routes=of_kind(everything, HTTPRoute),
        grpc_routes=of_kind(everything, GRPCRoute),
        tcp_routes=of_kind(everything, TCPRoute),
        policies=[item for item in of_kind(everything, AuthorizationPolicy) if item.resource.at_waypoint],
        authentications=of_kind(everything, RequestAuthentication),
        telemetry=Levels.of(of_kind(everything, Telemetry), mesh),
        plugins=of_kind(everything, WasmPlugin),
        described=described,
    )
