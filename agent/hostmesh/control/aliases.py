"""What an on-demand client may ask for besides resource names, and what it is sent for it (istiod's order).

A workload's `network/ip`; a service's key, VIP or block of addresses: the service and its endpoints. With either comes
the waypoint on the way there, and its endpoints: a stock ztunnel never asks for those. `node_alias` is what a node's
client is sent unasked: its own workloads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hostmesh.model.service import Service
from hostmesh.model.workload import NetworkMode, Workload


def node_alias(node: str) -> str:
    """Stands for the workloads of a node."""
    return f"hostmesh.io/node/{node}"


def aliases(workloads: Sequence[Workload], services: Sequence[Service]) -> Mapping[str, tuple[str, ...]]:
    """Names and the resources that they mean."""
    found = _direct(workloads, services)
    hops = _hops(workloads, services)
    if not hops:
        return {name: tuple(meant) for name, meant in found.items()}
    return {name: _with_hops(meant, hops, found) for name, meant in found.items()}


def _direct(workloads: Iterable[Workload], services: Sequence[Service]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {service.key: [service.key] for service in services}
    for workload in workloads:
        if workload.network_mode is NetworkMode.STANDARD:
            for ip in workload.addresses:
                found.setdefault(f"{workload.network}/{ip}", []).append(workload.uid)
        if workload.node:
            found.setdefault(node_alias(workload.node), []).append(workload.uid)
        for backed in workload.services:
            if (meant := found.get(str(backed))) is not None:
                meant.append(workload.uid)
    for service in services:
        for address in (*service.vips, *service.cidr_vips):
            found.setdefault(str(address), []).extend(found[service.key])
    return found


def _hops(workloads: Iterable[Workload], services: Iterable[Service]) -> Mapping[str, tuple[str, ...]]:
    """By resource, the names of the waypoints in front of it."""
    found: dict[str, tuple[str, ...]] = {
        workload.uid: (str(workload.waypoint.destination),) for workload in workloads if workload.waypoint
    }
    for service in services:
        hops = [service.waypoint] if service.waypoint else []
        hops += [weighted.destination for weighted in service.weighted_waypoints]
        if hops:
            found[service.key] = tuple(str(hop.destination) for hop in hops)
    return found


def _with_hops(
    meant: Sequence[str], hops: Mapping[str, tuple[str, ...]], found: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    on_the_way = (name for resource in meant for hop in hops.get(resource, ()) for name in found.get(hop, ()))
    return tuple(dict.fromkeys((*meant, *on_the_way)))
