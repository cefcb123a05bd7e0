"""WorkloadEntries and inline endpoints of ServiceEntries to model workloads (istiod's ambient derivation).

Several workloads may share one address. What tells them apart is their ports, and a workload's ports are known
by the services it is an endpoint of. A WorkloadEntry whose `spec.ports` no service leads to is therefore made an
endpoint of a service of its own, `<namespace>/<name>.<namespace>.workload.hostmesh.internal`, that maps each of
those ports to itself. It stands only in the workload: no Service of that name is ever sent. A stock ztunnel keeps
endpoints of unknown services aside until the service appears, so to it such an entry does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hostmesh.control.documents.read import Object
from hostmesh.control.documents.service_entry import WORKLOAD_DOMAIN, ServiceEntry
from hostmesh.control.documents.workload_entry import DATAPLANE_MODE, REDIRECTION, TUNNEL, WorkloadEntry
from hostmesh.control.documents.workload_entry import WorkloadEntrySpec as Endpoint
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.peer_authentication import PeerDemands
from hostmesh.control.translate.policies import Selection, selected
from hostmesh.control.translate.services import Backed, Services
from hostmesh.model.address import IPAddress, NamespacedHostname, parse_ip
from hostmesh.model.workload import (
    DEFAULT_SERVICE_ACCOUNT,
    Locality,
    PortMap,
    Protocol,
    Workload,
    WorkloadType,
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything about the mesh that a single workload depends on."""

    mesh: MeshConfig
    namespaces: Namespaces
    services: Services
    policies: Selection
    peers: PeerDemands

    def of(self, namespace: str) -> object:
        """All of it that a WorkloadEntry of that namespace depends on; equal where it is the same."""
        root, peers = self.policies.root_namespace, self.peers
        return (
            self.mesh,
            self.namespaces.labels(namespace),
            self.services.selecting.get(namespace, ()),
            [self.policies.by_namespace.get(scope) for scope in (namespace, root)],
            [peers.inherited.get(scope) for scope in (namespace, peers.root_namespace)],
            peers.selecting.get(namespace),
        )

    def policy_keys(self, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Selector-scoped policies of a workload, sorted."""
        return tuple(sorted({*self.policies.keys(namespace, labels), *self.peers.keys(namespace, labels)}))


def from_workload_entry(entry: Object[WorkloadEntry], around: Surroundings) -> Workload:
    """The workload that a WorkloadEntry describes."""
    resource, namespace, name = entry.resource, entry.key.namespace, entry.key.name
    labels = resource.labels
    group = resource.metadata.annotations.get("istio.io/autoRegistrationGroup", "")
    workload_name = group or labels.get("service.istio.io/workload-name", "") or name
    return _workload(
        resource.spec,
        around,
        Description(
            uid=f"{around.mesh.cluster_id}/networking.istio.io/WorkloadEntry/{namespace}/{name}",
            name=name,
            namespace=namespace,
            workload_name=workload_name,
            labels=labels,
            protocol=_protocol(resource, around.namespaces.labels(namespace)),
            native_tunnel="http" in labels.get(TUNNEL, "").split(","),
            node=resource.node,
        ),
        _selected_services(resource, entry, around.services),
    )


def from_service_entry(entry: Object[ServiceEntry], around: Surroundings) -> Iterator[Workload]:
    """One workload per inline endpoint, or per host that DNS is to resolve."""
    spec, backed = entry.resource.spec, around.services.by_source.get(entry.key, ())
    if spec.resolution == "NONE" or not backed:
        return
    if spec.endpoints:
        seen: dict[str, int] = {}
        for endpoint in spec.endpoints:
            repeated = seen[endpoint.address] = seen.get(endpoint.address, 0) + 1
            suffix = f"/{repeated}" if repeated > 1 else ""
            yield _endpoint(entry, endpoint, endpoint.address + suffix, backed, around)
    elif spec.workload_selector is None and spec.resolution != "STATIC":
        for service in backed:
            host = service.service.hostname
            yield _endpoint(entry, Endpoint(address=host.removeprefix("*.")), host, (service,), around)


@dataclass(frozen=True, slots=True)
class Description:
    """What a workload is called and how it is reached."""

    uid: str
    name: str
    namespace: str
    workload_name: str
    labels: Mapping[str, str]
    protocol: Protocol
    native_tunnel: bool = False
    node: str = ""


def _endpoint(
    entry: Object[ServiceEntry], endpoint: Endpoint, last: str, backed: Iterable[Backed], around: Surroundings
) -> Workload:
    name, namespace = entry.key.name, entry.key.namespace
    metadata = entry.resource.metadata
    native = "http" in metadata.labels.get(TUNNEL, "").split(",")
    hbone = native or metadata.annotations.get(REDIRECTION) == "enabled"
    return _workload(
        endpoint,
        around,
        Description(
            uid=f"{around.mesh.cluster_id}/networking.istio.io/ServiceEntry/{namespace}/{name}/{last}",
            name=name,
            namespace=namespace,
            workload_name=name,
            labels=metadata.labels,
            protocol=Protocol.HBONE if hbone else Protocol.TCP,
            native_tunnel=native,
        ),
        {b.service.namespaced_hostname: b.port_map(endpoint.ports) for b in backed},
    )


def _workload(
    endpoint: Endpoint,
    around: Surroundings,
    about: Description,
    services: Mapping[NamespacedHostname, PortMap],
) -> Workload:
    labels, mesh = about.labels, around.mesh
    address = _ip(endpoint.address)
    return Workload(
        uid=about.uid,
        name=about.name,
        namespace=about.namespace,
        addresses=(address,) if address else (),
        hostname="" if address else endpoint.address,
        network=endpoint.network or mesh.network,
        protocol=about.protocol,
        native_tunnel=about.native_tunnel,
        node=about.node,
        trust_domain=mesh.trust_domain,
        service_account=endpoint.service_account or DEFAULT_SERVICE_ACCOUNT,
        cluster_id=mesh.cluster_id,
        workload_type=WorkloadType.POD,
        workload_name=about.workload_name,
        canonical_name=_first(labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
        or about.workload_name,
        canonical_revision=_first(labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
        or "latest",
        authorization_policies=around.policy_keys(about.namespace, labels),
        services=services,
        locality=Locality(*(*endpoint.locality.split("/", 2), "", "")[:3]),
        capacity=endpoint.weight or 1,
    )


def _protocol(entry: WorkloadEntry, namespace: Mapping[str, str]) -> Protocol:
    """A workload on an enrolled node is in the mesh unless it, or else its namespace, opts out."""
    mode = entry.labels.get(DATAPLANE_MODE) or namespace.get(DATAPLANE_MODE, "")
    registered = bool(entry.node) and mode != "none"
    return Protocol.HBONE if registered or entry.hbone_markers else Protocol.TCP


def _selected_services(
    entry: WorkloadEntry, source: Object[WorkloadEntry], services: Services
) -> Mapping[NamespacedHostname, PortMap]:
    name, namespace, ports = source.key.name, source.key.namespace, entry.spec.ports
    found: dict[NamespacedHostname, PortMap] = {
        backed.service.namespaced_hostname: backed.port_map(ports)
        for backed in services.selecting.get(namespace, ())
        if selected(backed.selector, entry.labels)
    }
    served = {target for port_map in found.values() for target in port_map.values()}
    own = {port: port for port in sorted(set(ports.values()) - served)}
    if own:
        found[NamespacedHostname(namespace, f"{name}.{namespace}.{WORKLOAD_DOMAIN}")] = own
    return found


def _ip(address: str) -> IPAddress | None:
    try:
        return parse_ip(address)
    except ValueError:
        return None


def _first(labels: Mapping[str, str], *keys: str) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")
