"""Service and ServiceEntry to model services, and how each maps its ports onto a workload (istiod's ambient rules)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, ObjectKey
from hostmesh.control.documents.service import CoreService
from hostmesh.control.documents.service_entry import ServiceEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.balance import of_core_service, of_service_entry
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.policies import network_of
from hostmesh.control.translate.values import Vips
from hostmesh.control.translate.vips import allocate
from hostmesh.model.address import IPAddress, NetworkAddress, NetworkCidr, parse_ip
from hostmesh.model.service import IpFamilies, Service

_NO_AUTO_ADDRESS = "networking.istio.io/enable-autoallocate-ip"


@dataclass(frozen=True, slots=True)
class PortRule:
    """Where one service port leads: to the workload's port of `target_name`, else of `name`, else to `target`."""

    port: int
    name: str
    target: int
    target_name: str = ""

    def resolve(self, ports: Mapping[str, int]) -> int | None:
        """The workload's port; None where the name that the service insists on is missing.

        Args:
            ports: the workload's named ports.
        """
        if self.target_name:
            return ports.get(self.target_name)
        return ports.get(self.name, self.target)


@dataclass(frozen=True, slots=True)
class Backed:
    """A service with what decides who stands behind it; an empty selector selects nobody."""

    service: Service
    source: Object[Resource]
    ports: tuple[PortRule, ...]
    selector: Mapping[str, str]
    auto_address: bool = False
    recorded: tuple[IPAddress, ...] = ()

    def port_map(self, ports: Mapping[str, int]) -> dict[int, int]:
        """Service port to workload port, for a workload with these named ports."""
        resolved = [(rule.port, rule.resolve(ports)) for rule in self.ports]
        return {port: target for port, target in resolved if target is not None}


@dataclass(frozen=True, slots=True)
class Services:
    """The winners, sorted by key; `selecting` (by namespace) those that choose workloads. `vips` as in Translation."""

    backed: tuple[Backed, ...]
    selecting: Mapping[str, tuple[Backed, ...]]
    by_source: Mapping[ObjectKey, tuple[Backed, ...]]
    vips: Vips
    warnings: tuple[Problem, ...]


def derive(
    cores: Sequence[Object[CoreService]],
    entries: Sequence[Object[ServiceEntry]],
    namespaces: Namespaces,
    mesh: MeshConfig,
    kept: Vips,
) -> Services:
    """All services, duplicates settled and addresses allocated.

    A Service wins over a ServiceEntry of the same name, an older ServiceEntry over a younger.
    """
    candidates = [_core(core, namespaces, mesh) for core in cores if core.resource.spec.type != "ExternalName"]
    candidates += [backed for entry in entries for backed in _entry(entry, namespaces, mesh)]
    winners: dict[str, Backed] = {}
    warnings: list[Problem] = []
    for candidate in candidates:
        winner = winners.setdefault(candidate.service.key, candidate)
        if winner is not candidate:
            why = (
                f"{candidate.service.hostname} is left out: {winner.source.key} at {winner.source.where} is it already"
            )
            warnings.append(candidate.source.document.problem(("spec", "hosts"), why))
    backed = _canonical(winners.values())
    vips = allocate({b.service.key: b.recorded for b in backed if b.auto_address}, _user_addresses(backed), kept, mesh)
    warnings += _unplaced(backed, vips, mesh)
    placed = [replace(b, service=_with_vips(b.service, vips.get(b.service.key, ()), mesh)) for b in backed]
    placed.sort(key=lambda b: b.service.key)
    selecting: dict[str, tuple[Backed, ...]] = {}
    by_source: dict[ObjectKey, tuple[Backed, ...]] = {}
    for b in placed:
        by_source[b.source.key] = (*by_source.get(b.source.key, ()), b)
        if b.selector:
            selecting[b.service.namespace] = (*selecting.get(b.service.namespace, ()), b)
    return Services(tuple(placed), selecting, by_source, vips, tuple(warnings))


def _unplaced(backed: Iterable[Backed], vips: Vips, mesh: MeshConfig) -> Iterator[Problem]:
    """Services that should have an address and have none, because a range is used up."""
    for b in backed:
        given = {address.version for address in vips.get(b.service.key, ())}
        for network, setting in ((mesh.vip4, "vips.ipv4"), (mesh.vip6, "vips.ipv6")):
            if b.auto_address and network.version not in given:
                why = (
                    f"{b.service.hostname} gets no IPv{network.version} address: {network} is used up; set a larger "
                    f"{setting} in control-plane.yaml"
                )
                yield b.source.document.problem(("spec", "hosts"), why)


def _canonical(winners: Iterable[Backed]) -> list[Backed]:
    """Mark, per host name, the one that clients of other namespaces get: the first, as they come oldest first."""
    seen: set[str] = set()
    marked = []
    for backed in winners:
        first = backed.service.hostname not in seen
        seen.add(backed.service.hostname)
        core = isinstance(backed.source.resource, CoreService)
        marked.append(replace(backed, service=replace(backed.service, canonical=core or first)))
    return marked


def _core(core: Object[CoreService], namespaces: Namespaces, mesh: MeshConfig) -> Backed:
    spec, name, namespace = core.resource.spec, core.key.name, core.key.namespace
    rules = tuple(
        PortRule(
            port.port,
            port.name,
            port.target_port if isinstance(port.target_port, int) else port.port,
            port.target_port if isinstance(port.target_port, str) else "",
        )
        for port in spec.ports
        if port.protocol == "TCP"
    )
    service = Service(
        name=name,
        namespace=namespace,
        hostname=f"{name}.{namespace}.svc.{mesh.cluster_domain}",
        vips=tuple(NetworkAddress(mesh.network, parse_ip(address)) for address in core.resource.cluster_ips),
        ports={rule.port: 0 if rule.target_name else rule.target for rule in rules},
        load_balancing=of_core_service(core.resource, namespaces.annotations(namespace)),
        ip_families=_families(spec.ip_families),
    )
    auto = not core.resource.cluster_ips and not core.resource.headless and _may_allocate(core.resource)
    return Backed(service, core, rules, spec.selector, auto)


def _families(named: Sequence[str]) -> IpFamilies | None:
    """None is any: where nobody has chosen, it is not chosen here either."""
    return {1: IpFamilies(named[0]), 2: IpFamilies.DUAL}.get(len(named)) if named else None


def _entry(entry: Object[ServiceEntry], namespaces: Namespaces, mesh: MeshConfig) -> Iterator[Backed]:
    spec = entry.resource.spec
    rules = tuple(
        PortRule(port.number, port.name, port.target_port or port.number)
        for port in spec.ports
        if port.protocol.upper() != "UDP"
    )
    selector = spec.workload_selector.labels if spec.workload_selector else {}
    status = entry.resource.status
    networks = [network_of(text) for text in spec.addresses]
    single = [network for network in networks if network.num_addresses == 1]
    for host in spec.hosts:
        service = Service(
            name=entry.key.name,
            namespace=entry.key.namespace,
            hostname=host,
            vips=tuple(NetworkAddress(mesh.network, one.network_address) for one in single),
            cidr_vips=tuple(NetworkCidr(mesh.network, one) for one in networks if one not in single),
            ports={rule.port: rule.target for rule in rules},
            subject_alt_names=tuple(spec.subject_alt_names),
            load_balancing=of_service_entry(entry.resource, namespaces.annotations(entry.key.namespace)),
        )
        eligible = not spec.addresses and spec.resolution != "NONE" and _may_allocate(entry.resource)
        eligible = eligible and (not host.startswith("*") or spec.resolution == "DYNAMIC_DNS")
        recorded = [parse_ip(a.value) for a in status.addresses if a.host in ("", host)] if status else []
        yield Backed(service, entry, rules, selector, eligible, tuple(recorded))


def _may_allocate(resource: Resource) -> bool:
    return resource.metadata.labels.get(_NO_AUTO_ADDRESS) != "false"


def _user_addresses(backed: Iterable[Backed]) -> AbstractSet[IPAddress]:
    return {vip.ip for b in backed for vip in b.service.vips}


def _with_vips(service: Service, vips: tuple[IPAddress, ...], mesh: MeshConfig) -> Service:
    return replace(service, vips=service.vips + tuple(NetworkAddress(mesh.network, vip) for vip in vips))
