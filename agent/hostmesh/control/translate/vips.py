"""Addresses for services that have none (Istio's ServiceEntry IP auto-allocation).

An address, once given, stays with its service as long as the service is there: the caller keeps what was
allocated and hands it back. New services take the lowest free address. They mean something only to clients
whose DNS (or hosts file) answers with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_network
from itertools import islice

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.values import Vips
from hostmesh.model.address import IPAddress, IPNetwork


def allocate(
    wanted: Mapping[str, tuple[IPAddress, ...]], taken: AbstractSet[IPAddress], kept: Vips, mesh: MeshConfig
) -> dict[str, tuple[IPAddress, ...]]:
    """One IPv4 and one IPv6 address for each service.

    Args:
        wanted: services by key, oldest first, with addresses that their documents record as given earlier.
        taken: addresses that users chose for other services.
        kept: what earlier translations allocated.
        mesh: the ranges.
    """
    used = set(taken)
    given: dict[str, dict[int, IPAddress]] = {key: {} for key in wanted}
    for source in (wanted, kept):
        for key in wanted:
            for address in source.get(key, ()):
                inside = any(address in network for network in (mesh.vip4, mesh.vip6))
                if inside and address not in used and address.version not in given[key]:
                    given[key][address.version] = address
                    used.add(address)
    for network in (mesh.vip4, mesh.vip6):
        free = _free(network, used)
        for key in wanted:
            if network.version not in given[key]:
                given[key].update((address.version, address) for address in islice(free, 1))
    return {key: tuple(by_version[version] for version in sorted(by_version)) for key, by_version in given.items()}


def _free(network: IPNetwork, used: Iterable[IPAddress]) -> Iterator[IPAddress]:
    occupied = set(used)
    last = 1 if network.version == 4 else 0
    for offset in range(1, ip_network(network).num_addresses - last):
        address = network[offset]
        if address not in occupied:
            yield address
