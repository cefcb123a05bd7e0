"""What an on-demand client may ask for besides resource names, and what it is sent for it (istiod's order).

A workload's `network/ip`; a service's key, VIP, block of addresses, or an address of that block, and its hostname
(`hostname_alias`, of whatever namespace): the service and its endpoints. With either come the waypoints and network
gateways on the way there, and their endpoints: a stock ztunnel never asks for those. `node_alias` is what a node's
client is sent unasked: its own workloads. `node_services_alias` stands for the services that those are endpoints of,
alone: who has the name of a service must not take them for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hostmesh.model.address import IPNetwork, parse_ip
from hostmesh.model.service import Service, hostname_alias
from hostmesh.model.workload import NetworkMode, Workload
from hostmesh.xds.types import node_alias, node_services_alias

__all__ = ["AliasIndex", "Aliases", "aliases", "node_alias"]

Change = tuple[Workload | Service | None, Workload | Service | None]
"""An object as it was and as it is, of the same name."""


@dataclass(frozen=True, slots=True)
class Aliases:
    """`exact` maps names to resources, `blocks` are the ranges of addresses of each network with the names of each."""

    exact: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[IPNetwork, str]] = field(default_factory=dict)

    def of(self, name: str) -> frozenset[str]:
        """The resources that a name means; itself if it stands for nothing else."""
        found = self.exact.get(name)
        if self.blocks:
            covering = [meant for block in self._covering(name) for meant in self.exact.get(block, ())]
            found = (found or frozenset()).union(covering)
        return found or frozenset((name,))

    def _covering(self, name: str) -> Iterator[str]:
        network, separator, text = name.rpartition("/")
        blocks = self.blocks.get(network) if separator else None
        if not blocks:
            return
        try:
            ip = parse_ip(text)
        except ValueError:
            return
        yield from (block_name for block, block_name in blocks.items() if ip in block)


def aliases(workloads: Iterable[Workload], services: Iterable[Service]) -> Aliases:
    """Names and the resources that they mean."""
    index = AliasIndex()
    index.update([*((None, one) for one in workloads), *((None, one) for one in services)])
    return index.aliases


class AliasIndex:
    """Keeps `aliases` up to date, at a cost that grows with what changes and not with the mesh (but for one copy)."""

    def __init__(self) -> None:
        self.aliases = Aliases()
        self._at: dict[str, set[str]] = {}
        """Workloads by the names of their addresses and nodes."""
        self._endpoints: dict[str, set[str]] = {}
        self._fronts: dict[str, set[str]] = {}
        """Services by the names of their hosts, addresses and blocks."""
        self._workloads: dict[str, Workload] = {}
        self._services: dict[str, Service] = {}
        self._behind: dict[str, set[str]] = {}
        """Resources by the names of the waypoints and network gateways in front of them."""

    def update(self, changes: Iterable[Change]) -> frozenset[str]:
        """Take changes, each of another object. Returns the names that mean something else now."""
        dirty: set[str] = set()
        blocks_change = False
        for before, after in changes:
            if before is not None and after is not None and _meaning(before) == _meaning(after):
                self._replace(after)
                continue
            if before is not None:
                dirty.update(self._names(before))
                self._take_out(before)
            if after is not None:
                self._put_in(after)
                dirty.update(self._names(after))
            blocks_change = blocks_change or any(isinstance(one, Service) and one.cidr_vips for one in (before, after))
        changed = self._renew(self._with_those_before(dirty))
        if blocks_change:
            self.aliases = Aliases(self.aliases.exact, self._blocks())
        return frozenset(changed)

    def _renew(self, dirty: set[str]) -> list[str]:
        old = self.aliases.exact
        fresh = {name: frozenset(self._meant(name)) for name in dirty}
        changed = [name for name, meant in fresh.items() if old.get(name, frozenset()) != meant]
        if changed:
            exact = {**old, **{name: fresh[name] for name in changed}}
            for name in changed:
                if not exact[name]:
                    del exact[name]
            self.aliases = Aliases(exact, self.aliases.blocks)
        return changed

    def _blocks(self) -> dict[str, dict[IPNetwork, str]]:
        found: dict[str, dict[IPNetwork, str]] = {}
        for service in self._services.values():
            for one in service.cidr_vips:
                found.setdefault(one.network, {})[one.cidr] = str(one)
        return found

    def _replace(self, after: Workload | Service) -> None:
        if isinstance(after, Workload):
            self._workloads[after.uid] = after
        else:
            self._services[after.key] = after

    def _put_in(self, one: Workload | Service) -> None:
        self._replace(one)
        if isinstance(one, Workload):
            for name in _places(one):
                self._at.setdefault(name, set()).add(one.uid)
            for key in one.services:
                self._endpoints.setdefault(str(key), set()).add(one.uid)
        else:
            for name in _addresses(one):
                self._fronts.setdefault(name, set()).add(one.key)
        for hop in _hops(one):
            self._behind.setdefault(hop, set()).add(one.key)

    def _take_out(self, one: Workload | Service) -> None:
        if isinstance(one, Workload):
            del self._workloads[one.uid]
            for name in _places(one):
                _discard(self._at, name, one.uid)
            for key in one.services:
                _discard(self._endpoints, str(key), one.uid)
        else:
            del self._services[one.key]
            for name in _addresses(one):
                _discard(self._fronts, name, one.key)
        for hop in _hops(one):
            _discard(self._behind, hop, one.key)

    def _names(self, one: Workload | Service) -> Iterator[str]:
        """All names that mean the object, or the services of whose endpoints it is one."""
        if isinstance(one, Workload):
            yield from _places(one)
            if one.node:
                yield node_services_alias(one.node)
            keys = [str(key) for key in one.services]
        else:
            keys = [one.key]
            yield from _addresses(one)
            for uid in self._endpoints.get(one.key, ()):
                if (node := self._workloads[uid].node) != "":
                    yield node_services_alias(node)
        for key in keys:
            yield key
            if (service := self._services.get(key)) is not None:
                yield from _addresses(service)

    def _with_those_before(self, dirty: set[str]) -> set[str]:
        """And all names of what has one of these on its way, whatever is in between."""
        if not self._behind:
            return dirty
        ahead = list(dirty)
        for name in ahead:  # grows on the way
            for resource in self._behind.get(name, ()):
                one = self._workloads.get(resource) or self._services[resource]
                fresh = [other for other in self._names(one) if other not in dirty]
                dirty.update(fresh)
                ahead += fresh
        return dirty

    def _meant(self, name: str) -> set[str]:
        if name.endswith("/services") and name.startswith(node_alias("")):
            at_home = self._at.get(name.removesuffix("/services"), ())
            keys = {str(key) for uid in at_home for key in self._workloads[uid].services}
            return keys & self._services.keys()
        found = self._direct(name)
        ahead = list(found) if self._behind else []
        for resource in ahead:  # grows on the way
            one = self._workloads.get(resource) or self._services[resource]
            for hop in _hops(one):
                fresh = self._direct(hop) - found
                found |= fresh
                ahead += fresh
        return found

    def _direct(self, name: str) -> set[str]:
        found = set(self._at.get(name, ()))
        for key in (name, *self._fronts.get(name, ())):
            if key in self._services:
                found.add(key)
                found.update(self._endpoints.get(key, ()))
        return found


def _places(one: Workload) -> Iterator[str]:
    if one.network_mode is NetworkMode.STANDARD:
        for ip in one.addresses:
            yield f"{one.network}/{ip}"
    if one.node:
        yield node_alias(one.node)


def _addresses(one: Service) -> Iterator[str]:
    yield hostname_alias(one.hostname)
    yield from map(str, (*one.vips, *one.cidr_vips))


def _hops(one: Workload | Service) -> Iterator[str]:
    """Waypoints and network gateways in front of it."""
    gateways = [one.waypoint, one.network_gateway] if isinstance(one, Workload) else [one.waypoint]
    if isinstance(one, Service):
        gateways += [weighted.destination for weighted in one.weighted_waypoints]
    yield from (str(gateway.destination) for gateway in gateways if gateway is not None)


def _meaning(one: Workload | Service) -> tuple[object, ...]:
    """What of an object decides about names."""
    if isinstance(one, Workload):
        place = (one.network_mode, one.network, one.addresses, one.node)
        return (*place, one.services.keys(), one.waypoint, one.network_gateway)
    return (one.vips, one.cidr_vips, one.waypoint, one.weighted_waypoints)


def _discard(index: dict[str, set[str]], name: str, resource: str) -> None:
    """Not an error if it is gone: an object may have a name twice."""
    left = index.get(name, set())
    left.discard(resource)
    if not left:
        index.pop(name, None)
