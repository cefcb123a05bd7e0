"""Decide what a CONNECT authority means at the server's side (Istio ambient inbound: HBONE destination validation)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from hostmesh.model.address import IPAddress, NetworkAddress, SocketAddress
from hostmesh.model.service import Service
from hostmesh.model.workload import TunnelKind, Workload
from hostmesh.proxy.gateway import is_gateway
from hostmesh.proxy.upstream import ILLEGAL_PORTS, RECURSIVE_CALL, Unknown, target_port
from hostmesh.state.store import MeshState

_HOST_PORT = re.compile(r"([A-Za-z0-9._*-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Destination:
    """`address` is what policies judge, `connect` what is dialled (loopback for a sandwiched proxy).

    `service` is set when the authority named it. `proxied` is the destination that a PROXY header must carry, None
    when the application takes plain bytes.
    """

    address: SocketAddress
    connect: SocketAddress
    service: Service | None = None
    proxied: SocketAddress | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The CONNECT is answered with `status`; `reason` is for logs."""

    status: int
    reason: str


def validate_destination(
    state: MeshState,
    local: Workload,
    authority: str,
    local_ip: IPAddress,
    illegal_ports: Sequence[int] = ILLEGAL_PORTS,
) -> Destination | Declined | Unknown:
    """Where a CONNECT to `authority`, accepted on `local_ip` for the workload `local`, is delivered.

    The IP is always the connection's own; the authority contributes the port, and must mean this workload.
    """
    try:
        requested = SocketAddress.parse(authority)
    except ValueError:
        return _by_hostname(state, local, authority, local_ip, illegal_ports)
    place = NetworkAddress(local.network, requested.ip)
    if requested.ip != local_ip and local.application_tunnel is None and not state.knows(place):
        return Unknown(str(place))  # this may be the waypoint of whoever is there
    if not _is_for_us(state, local, requested.ip, local_ip):
        return Declined(400, f"ip mismatch: {local_ip} != {requested.ip}")
    if requested.port in illegal_ports:
        return Declined(503, RECURSIVE_CALL)
    return _deliver(local, SocketAddress(local_ip, requested.port), requested, illegal_ports)


def local_service(state: MeshState, local: Workload, port: int, forwarded_host: str | None) -> Service | None:
    """The service of `local` that a connection to its application's `port` was meant for (labels only).

    The host that the client forwarded if it is one of them, else the first that leads to the port.
    """
    services = [service for key in local.services if (service := state.service_by_hostname(key)) is not None]
    if forwarded_host is not None:
        for service in services:
            if service.hostname == forwarded_host:
                return service
    return next((service for service in services if _leads_to(local, service, port)), None)


def _by_hostname(
    state: MeshState, local: Workload, authority: str, local_ip: IPAddress, illegal_ports: Sequence[int]
) -> Destination | Declined:
    parts = _HOST_PORT.fullmatch(authority)
    if parts is None or int(parts[2]) > 65535:
        return Declined(400, f"no valid authority pseudo header: {authority!r} is neither ip:port nor host:port")
    hostname, port = parts[1], int(parts[2])
    services = state.services_by_host(hostname, local.namespace)
    if not services:
        return Declined(503, f"no service or workload for hostname: {hostname}")
    service = services[0]
    target = _mapped_port(local, service, port)
    if not target:
        return Declined(503, f"requested service {hostname}:{port} found, but cannot resolve port")
    if target in illegal_ports:
        return Declined(503, RECURSIVE_CALL)
    vip = _preferred_vip(service, local.network)
    if vip is None and _wants_proxy_header(local):
        return Declined(503, f"requested service {hostname} found, but has no IP addresses")
    requested = SocketAddress(vip if vip is not None else local_ip, port)
    delivered = _deliver(local, SocketAddress(local_ip, target), requested, illegal_ports)
    return delivered if isinstance(delivered, Declined) else replace(delivered, service=service)


def _deliver(
    local: Workload, address: SocketAddress, requested: SocketAddress, illegal_ports: Sequence[int]
) -> Destination | Declined:
    tunnel = local.application_tunnel
    if tunnel is not None and tunnel.port is not None:
        address = SocketAddress(address.ip, tunnel.port)
        if tunnel.port in illegal_ports:
            return Declined(503, RECURSIVE_CALL)
    if not _wants_proxy_header(local):
        return Destination(address, address)
    loopback = IPv4Address("127.0.0.1") if isinstance(address.ip, IPv4Address) else IPv6Address("::1")
    return Destination(address, SocketAddress(loopback, address.port), proxied=requested)


def _is_for_us(state: MeshState, local: Workload, requested: IPAddress, local_ip: IPAddress) -> bool:
    if requested == local_ip or local.application_tunnel is not None:
        return True
    address = NetworkAddress(local.network, requested)
    attached: list[Workload | Service] = [*state.workloads_at(address)]
    if not attached:
        service = state.service_at(address, local.namespace)
        attached = [service] if service is not None else []
    gateways = [one.waypoint for one in attached if one.waypoint is not None]
    gateways += [way.destination for one in attached if isinstance(one, Service) for way in one.weighted_waypoints]
    return any(is_gateway(state, gateway, local) for gateway in gateways)


def _leads_to(local: Workload, service: Service, port: int) -> bool:
    own = local.services[service.namespaced_hostname]
    return any(target_port(local, service, service_port) == port for service_port in {**service.ports, **own})


def _mapped_port(local: Workload, service: Service, port: int) -> int:
    return local.services.get(service.namespaced_hostname, {}).get(port, 0) or service.ports.get(port, 0)


def _wants_proxy_header(local: Workload) -> bool:
    return local.application_tunnel is not None and local.application_tunnel.protocol is TunnelKind.PROXY


def _preferred_vip(service: Service, network: str) -> IPAddress | None:
    vips = sorted(service.vips, key=lambda vip: (vip.network != network, vip.ip.version))
    return vips[0].ip if vips else None
