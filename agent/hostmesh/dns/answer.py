"""What a name of a service resolves to (ztunnel's DNS proxy): virtual addresses, or endpoints where there are none."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.dns.names import Candidate, candidates, wildcards
from hostmesh.model.address import IPAddress
from hostmesh.model.service import IpFamilies, Service
from hostmesh.state.store import MeshState

_VERSIONS = {IpFamilies.IPV4: (4,), IpFamilies.IPV6: (6,), IpFamilies.DUAL: (4, 6), None: (4, 6)}


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: names are looked up as from its namespace, addresses are those of its network."""

    namespace: str
    network: str = ""
    workload: str = ""
    canonical_name: str = ""
    canonical_revision: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """`addresses` may be empty: the service is there and has none of that family.

    `alias` is a name that the answer says the question is another one for, empty for none.
    """

    service: str
    addresses: tuple[IPAddress, ...]
    alias: str = ""


def meant(asked: str, client: Client, domain: str) -> tuple[str, ...]:
    """Hostnames of services that a name may mean to a client, the best first, each once."""
    found = (name for one in candidates(asked, client.namespace, domain) for name in (one.name, *wildcards(one.name)))
    return tuple(dict.fromkeys(found))


def resolve(
    state: MeshState, client: Client, asked: str, version: int, *, domain: str, ipv6: bool = True
) -> Resolved | None:
    """The service that a name means to a client; None for a name that is no service's.

    Args:
        state: the mesh.
        client: who asks.
        asked: in lower case, without a dot at the end.
        version: 4 or 6, the family asked for.
        domain: of the cluster.
        ipv6: whether this host has it.
    """
    for candidate in candidates(asked, client.namespace, domain):
        for name in (candidate.name, *wildcards(candidate.name)):
            service = _service(state, name, client, domain)
            if service is not None:
                return _resolved(state, service, client, candidate, name, version, ipv6=ipv6)
    return None


def _service(state: MeshState, name: str, client: Client, domain: str) -> Service | None:
    local = f".svc.{domain}"
    found = state.services_by_host(name, client.namespace)
    return next((service for service in found if service.vips or service.hostname.endswith(local)), None)


def _resolved(
    state: MeshState, service: Service, client: Client, candidate: Candidate, name: str, version: int, *, ipv6: bool
) -> Resolved:
    alias = candidate.alias if name == candidate.name else ""
    if version not in _VERSIONS[service.ip_families] or (version == 6 and not ipv6):
        return Resolved(service.key, (), alias)
    if service.vips:
        found = [vip.ip for vip in service.vips if vip.network == client.network]
        return Resolved(service.key, tuple(ip for ip in found if ip.version == version), alias)
    each = ([ip for ip in one.addresses if ip.version == version] for one in state.endpoints(service))
    return Resolved(service.key, tuple(dict.fromkeys(own[0] for own in each if own)), alias)
