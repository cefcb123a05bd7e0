"""The mesh from one YAML file, with no control plane (ztunnel's LOCAL_XDS_PATH)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from hostmesh.config.strict_yaml import Document, InvalidYaml, Path, Problem, load_documents, parse
from hostmesh.model.address import GatewayAddress, IPNetwork, NamespacedHostname, parse_ip
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Match,
    PolicyScope,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)
from hostmesh.model.service import (
    HealthPolicy,
    IpFamilies,
    LoadBalancing,
    LoadBalancingMode,
    Scope,
    Service,
    Visibility,
    WeightedWaypoint,
)
from hostmesh.model.workload import (
    ApplicationTunnel,
    HealthStatus,
    Locality,
    NetworkMode,
    Protocol,
    TunnelKind,
    Workload,
    WorkloadType,
)
from hostmesh.xds import local_shape as shape

ServicePorts = dict[NamespacedHostname, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class LocalMesh:
    """What the file says."""

    workloads: tuple[Workload, ...] = ()
    services: tuple[Service, ...] = ()
    policies: tuple[Authorization, ...] = ()


def read_mesh(text: str, source: str, trust_domain: str, cluster_id: str) -> LocalMesh:
    """Read the file's one document; an empty file is an empty mesh.

    Args:
        text: YAML or JSON.
        source: for complaints.
        trust_domain: of workloads that name none.
        cluster_id: of workloads that name none.

    Raises:
        InvalidYaml: with every problem, file:line:field.
    """
    documents = load_documents(text, source)
    if not documents:
        return LocalMesh()
    if len(documents) > 1:
        raise InvalidYaml([documents[1].problem((), "the file is one document; another one begins here")])
    written = parse(documents[0], shape.LocalFile)
    problems = _Problems(documents[0])
    workloads: dict[str, Workload] = {}
    for index, one in enumerate(written.workloads):
        workload = _workload(one, trust_domain, cluster_id, index)
        problems.unless_new(workload.uid, workloads, ("workloads", index))
        workloads[workload.uid] = workload
    ports: dict[str, ServicePorts] = {uid: dict(workload.services) for uid, workload in workloads.items()}
    services: dict[str, Service] = {}
    for index, service in enumerate(written.services):
        made = _service(service)
        problems.unless_new(made.key, services, ("services", index))
        services[made.key] = made
        path = ("services", index, "endpoints")
        _add_endpoints(made, service, ports, problems, path)
        _check_status(service, workloads, problems, path)
    policies: dict[str, Authorization] = {}
    for index, policy in enumerate(written.policies):
        read = _policy(policy)
        problems.unless_new(read.key, policies, ("policies", index))
        policies[read.key] = read
    problems.check()
    joined = (_with_services(workload, ports[uid]) for uid, workload in workloads.items())
    return LocalMesh(tuple(joined), tuple(services.values()), tuple(policies.values()))


class _Problems:
    """Collects what the shape alone cannot show."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[Problem] = []

    def add(self, path: Path, why: str) -> None:
        self._found.append(self._document.problem(path, why))

    def unless_new(self, key: str, known: Mapping[str, object], path: Path) -> None:
        if key in known:
            self.add(path, f"{key} is in the file already")

    def check(self) -> None:
        if self._found:
            raise InvalidYaml(self._found)


def _add_endpoints(
    made: Service, service: shape.LocalService, ports: dict[str, ServicePorts], problems: _Problems, path: Path
) -> None:
    for key, endpoint in service.endpoints.items():
        if endpoint.uid in ports:
            ports[endpoint.uid].setdefault(made.namespaced_hostname, _ports(endpoint.ports))
        else:
            problems.add((*path, key, "workloadUid"), f"no workload of the file has the uid {endpoint.uid!r}")


def _check_status(
    service: shape.LocalService, workloads: Mapping[str, Workload], problems: _Problems, path: Path
) -> None:
    """A workload is healthy or not for all its services: what an endpoint says may only repeat it."""
    for key, endpoint in service.endpoints.items():
        workload = workloads.get(endpoint.uid)
        if workload is not None and endpoint.status not in (None, workload.status.value):
            why = f"{endpoint.uid} is {workload.status.value}; its health is the status of the workload"
            problems.add((*path, key, "status"), why)


def _workload(one: shape.LocalWorkload, trust_domain: str, cluster_id: str, index: int) -> Workload:
    cluster = one.cluster_id or cluster_id
    name = one.name or one.workload_name or f"workload-{index}"
    tunnel = one.tunnel
    return Workload(
        uid=one.uid or f"{cluster}//local/{one.namespace}/{name}",
        name=name,
        namespace=one.namespace,
        addresses=tuple(parse_ip(ip) for ip in one.ips),
        network=one.network,
        protocol=Protocol(one.protocol),
        trust_domain=one.trust_domain or trust_domain,
        service_account=one.service_account,
        waypoint=_gateway(one.waypoint),
        network_gateway=_gateway(one.network_gateway),
        node=one.node,
        canonical_name=one.canonical_name,
        canonical_revision=one.canonical_revision,
        workload_type=WorkloadType(one.workload_type),
        workload_name=one.workload_name or name,
        native_tunnel=one.native_tunnel,
        application_tunnel=ApplicationTunnel(TunnelKind(tunnel.protocol), tunnel.port) if tunnel is not None else None,
        authorization_policies=tuple(one.policies),
        status=HealthStatus(one.status),
        cluster_id=cluster,
        hostname=one.hostname,
        services={NamespacedHostname.parse(key): _ports(ports) for key, ports in one.services.items()},
        locality=Locality(one.locality.region, one.locality.zone, one.locality.subzone),
        network_mode=NetworkMode(one.network_mode),
        capacity=one.capacity,
    )


def _gateway(one: shape.Gateway | None) -> GatewayAddress | None:
    return one.value() if one is not None else None


def _with_services(workload: Workload, services: ServicePorts) -> Workload:
    return workload if services == workload.services else replace(workload, services=services)


def _service(one: shape.LocalService) -> Service:
    return Service(
        name=one.name,
        namespace=one.namespace,
        hostname=one.hostname,
        vips=tuple(shape.vip(vip) for vip in one.vips),
        cidr_vips=tuple(vip.value() for vip in one.cidr_vips),
        ports=_ports(one.ports),
        subject_alt_names=tuple(one.subject_alt_names),
        waypoint=_gateway(one.waypoint),
        weighted_waypoints=tuple(WeightedWaypoint(w.destination.value(), w.weight) for w in one.weighted_waypoints),
        load_balancing=_balancing(one.balancing),
        ip_families=IpFamilies(one.ip_families) if one.ip_families else None,
        canonical=one.canonical,
        visibility=Visibility(one.visibility),
    )


def _balancing(one: shape.Balancing | None) -> LoadBalancing | None:
    if one is None:
        return None
    preferences = tuple(Scope(preference) for preference in one.preferences)
    return LoadBalancing(LoadBalancingMode(one.mode), preferences, HealthPolicy(one.health))


def _policy(one: shape.LocalPolicy) -> Authorization:
    return Authorization(
        name=one.name,
        namespace=one.namespace,
        scope=PolicyScope(one.scope),
        action=Action(one.action),
        rules=tuple(tuple(tuple(map(_match, clause)) for clause in rule) for rule in one.rules),
        dry_run=one.dry_run,
    )


def _match(one: shape.PolicyMatch) -> Match:
    return Match(
        namespaces=_strings(one.namespaces),
        not_namespaces=_strings(one.not_namespaces),
        service_accounts=_accounts(one.service_accounts),
        not_service_accounts=_accounts(one.not_service_accounts),
        principals=_strings(one.principals),
        not_principals=_strings(one.not_principals),
        source_ips=_cidrs(one.source_ips),
        not_source_ips=_cidrs(one.not_source_ips),
        destination_ips=_cidrs(one.destination_ips),
        not_destination_ips=_cidrs(one.not_destination_ips),
        destination_ports=tuple(one.destination_ports),
        not_destination_ports=tuple(one.not_destination_ports),
    )


def _strings(written: Iterable[dict[str, Any]]) -> tuple[StringMatch, ...]:
    return tuple(StringMatch(StringMatchKind(kind), text or "") for one in written for kind, text in one.items())


def _accounts(written: Iterable[shape.Account]) -> tuple[ServiceAccountMatch, ...]:
    return tuple(ServiceAccountMatch(one.namespace, one.service_account) for one in written)


def _cidrs(written: Iterable[str]) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(cidr, strict=False) for cidr in written)


def _ports(written: Mapping[str, int]) -> dict[int, int]:
    return {int(port): target for port, target in written.items()}
