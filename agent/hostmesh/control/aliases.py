"""What an on-demand client may ask for besides resource names, and what it is sent for it (istiod's order).

A workload's `network/ip`; a service's key, VIP, block of addresses, or an address of that block: the service and its
endpoints. With either come the waypoints and network gateways on the way there, and their endpoints: a stock ztunnel
never asks for those. `node_alias` is what a node's client is sent unasked: its own workloads. `node_services_alias`
stands for the services that those are endpoints of, alone: who has the name of a service must not take them for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hostmesh.model.address import IPNetwork, parse_ip
from hostmesh.model.service import Service
from hostmesh.model.workload import NetworkMode, Workload
from hostmesh.xds.types import node_alias, node_services_alias

__all__ = ["Aliases", "aliases", "node_alias"]


@dataclass(frozen=True, slots=True)
class Aliases:
    """`exact` maps names to resources, `blocks` are the ranges of addresses of each network with theirs."""

    exact: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[IPNetwork, tuple[str, ...]]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[str, ...]:
        """The resources that a name means; itself if it stands for nothing else."""
        found = self.exact.get(name)
        if not self.blocks:
            return found or (name,)
        covering = self._covering(name)
        return tuple(dict.fromkeys((*(found or ()), *covering))) or (name,)

    def _covering(self, name: str) -> list[str]:
        network, separator, text = name.rpartition("/")
        blocks = self.blocks.get(network) if separator else None
        if not blocks:
            return []
        try:
            ip = parse_ip(text)
        except ValueError:
            return []
        return [meant for block, all_meant in blocks.items() if ip in block for meant in all_meant]


def aliases(workloads: Sequence[Workload], services: Sequence[Service]) -> Aliases:
    """Names and the resources that they mean."""
    found = _direct(workloads, services)
    hops = _hops(workloads, services)
    exact = {name: _with_hops(meant, hops, found) for name, meant in found.items()}
    blocks: dict[str, dict[IPNetwork, tuple[str, ...]]] = {}
    for service in services:
        for one in service.cidr_vips:
            blocks.setdefault(one.network, {})[one.cidr] = exact[str(one)]
    return Aliases(exact, blocks)


def _direct(workloads: Iterable[Workload], services: Sequence[Service]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {service.key: [service.key] for service in services}
    for workload in workloads:
        if workload.network_mode is NetworkMode.STANDARD:
            for ip in workload.addresses:
                found.setdefault(f"{workload.network}/{ip}", []).append(workload.uid)
        if workload.node:
            found.setdefault(node_alias(workload.node), []).append(workload.uid)
        for backed in workload.services:
            key = str(backed)
            if (meant := found.get(key)) is not None:
                meant.append(workload.uid)
                if workload.node:
                    found.setdefault(node_services_alias(workload.node), []).append(key)
    for service in services:
        for address in (*service.vips, *service.cidr_vips):
            found.setdefault(str(address), []).extend(found[service.key])
    return found


def _hops(workloads: Iterable[Workload], services: Iterable[Service]) -> Mapping[str, tuple[str, ...]]:
    """By resource, the names of the waypoints and network gateways in front of it."""
    found: dict[str, tuple[str, ...]] = {}
    for workload in workloads:
        gateways = [one for one in (workload.waypoint, workload.network_gateway) if one is not None]
        if gateways:
            found[workload.uid] = tuple(str(one.destination) for one in gateways)
    for service in services:
        hops = [service.waypoint] if service.waypoint else []
        hops += [weighted.destination for weighted in service.weighted_waypoints]
        if hops:
            found[service.key] = tuple(str(hop.destination) for hop in hops)
    return found


def _with_hops(
    meant: Sequence[str], hops: Mapping[str, tuple[str, ...]], found: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """And what is on the way to what is on the way: a waypoint may be in another network."""
    whole = dict.fromkeys(meant)
    ahead = [resource for resource in whole if resource in hops] if hops else []
    for resource in ahead:  # grows on the way
        for name in hops[resource]:
            fresh = [one for one in found.get(name, ()) if one not in whole]
            whole.update(dict.fromkeys(fresh))
            ahead += [one for one in fresh if one in hops]
    return tuple(whole)
