"""Resolve gateway addresses: which workload a waypoint or network gateway means (istio.workload.GatewayAddress)."""

from __future__ import annotations

from typing import Literal

from hostmesh.model.address import GatewayAddress, IPAddress, NamespacedHostname, NetworkAddress
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.proxy.balance import Rng, select_endpoint
from hostmesh.proxy.upstream import Refused, Unknown, Upstream, workload_at
from hostmesh.state.store import MeshState


def resolve_waypoint(
    state: MeshState, waypoint: GatewayAddress, source: Workload, rng: Rng
) -> Upstream | Refused | Unknown:
    """The workload of a waypoint that this connection goes through, at its translated port.

    A waypoint that cannot be found refuses the connection: around it, its policies would not be enforced.
    """
    return _resolve(state, waypoint, source, rng, "waypoint")


def resolve_network_gateway(
    state: MeshState, gateway: GatewayAddress, source: Workload, rng: Rng
) -> Upstream | Refused | Unknown:
    """The workload behind whose HBONE port another network begins."""
    return _resolve(state, gateway, source, rng, "network gateway")


def _resolve(
    state: MeshState, gateway: GatewayAddress, source: Workload, rng: Rng, kind: Literal["waypoint", "network gateway"]
) -> Upstream | Refused | Unknown:
    port = gateway.hbone_mtls_port
    service = _gateway_service(state, gateway.destination, source.namespace)
    if service is not None:
        chosen = select_endpoint(state, service, source, port, rng, waypoint=kind == "waypoint")
        return chosen or Refused(f"unknown {kind}: {kind} {gateway.destination} has no healthy endpoint")
    found = _gateway_workload(state, gateway)
    if found is None and not state.knows(gateway.destination):
        return Unknown(str(gateway.destination))
    if found is None:
        return Refused(f"unknown {kind}: {kind} {gateway.destination} not found")
    return Upstream(found, port) if isinstance(found, Workload) else found


def wanted_ip(gateway: GatewayAddress, original: IPAddress) -> IPAddress:
    """Whose family decides between a gateway's addresses: its own IP's, else the original destination's."""
    return gateway.destination.ip if isinstance(gateway.destination, NetworkAddress) else original


def is_gateway(state: MeshState, gateway: GatewayAddress, workload: Workload) -> bool:
    """Whether a workload is (one of) what a gateway address means."""
    service = _gateway_service(state, gateway.destination, workload.namespace)
    if service is not None:
        return service.namespaced_hostname in workload.services
    found = _gateway_workload(state, gateway)
    return isinstance(found, Workload) and found.uid == workload.uid


def _gateway_workload(state: MeshState, gateway: GatewayAddress) -> Workload | Refused | None:
    if isinstance(gateway.destination, NetworkAddress):
        return workload_at(state, gateway.destination, gateway.hbone_mtls_port)
    return next(iter(state.workloads_with_hostname(gateway.destination)), None)


def _gateway_service(
    state: MeshState, destination: NetworkAddress | NamespacedHostname, client_namespace: str
) -> Service | None:
    if isinstance(destination, NamespacedHostname):
        return state.service_by_hostname(destination)
    return state.service_at(destination, client_namespace)
