"""Other networks and the gateways that lead to them (Istio ambient multi-network: Gateways of class `istio-remote`).

A workload on another network is reached by HBONE inside HBONE: the outer tunnel ends at the gateway, which must answer
with the identity that its Gateway names; the inner one at an endpoint of the service, which must answer with one of the
service's `subjectAltNames`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.gateway import NETWORK, SERVICE_ACCOUNT, TRUST_DOMAIN, Gateway, GatewayAddressSpec
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.services import Backed
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.workload import Protocol, Workload


@dataclass(frozen=True, slots=True)
class Networks:
    """By network, where its gateway is; and the gateways as workloads, which is how agents know who must answer."""

    addresses: Mapping[str, GatewayAddress]
    gateways: tuple[Workload, ...]

    def lead_to(self, workloads: Iterable[Workload]) -> Iterator[Workload]:
        """The workloads with the gateways of their networks, their own network's too, as agents of others need it."""
        for workload in workloads:
            gateway = self.addresses.get(workload.network)
            yield workload if gateway is None else replace(workload, network_gateway=gateway)

    def unreachable(
        self, described: Iterable[tuple[Object[WorkloadEntry], Workload]], services: Sequence[Backed], mesh: MeshConfig
    ) -> Iterator[Problem]:
        """What will be refused for want of a gateway, or of names."""
        by_name = {backed.service.namespaced_hostname: backed for backed in services}
        anonymous: dict[str, Object[Resource]] = {}
        for item, workload in described:
            if workload.network == mesh.network:
                continue
            if workload.network not in self.addresses:
                why = (
                    f"no Gateway of class istio-remote with the label {NETWORK}: {workload.network} says how that "
                    "network is reached: connections to this workload are refused until there is one"
                )
                yield item.document.problem(("spec", "network"), why)
            for name in workload.services:
                backed = by_name.get(name)
                if backed is not None and not backed.service.subject_alt_names:
                    anonymous[backed.service.key] = backed.source
        for key, source in sorted(anonymous.items()):
            why = (
                f"{key} has endpoints on another network: connections to them are refused until it names who may "
                "answer there (subjectAltNames of a ServiceEntry)"
            )
            yield source.document.problem(("spec", "subjectAltNames"), why)


def networks(gateways: Iterable[Object[Gateway]], mesh: MeshConfig) -> Networks:
    """Of several gateways of one network the first by namespace and name is used, and its first address."""
    addresses: dict[str, GatewayAddress] = {}
    workloads: list[Workload] = []
    for item in gateways:
        for given in item.resource.spec.addresses:
            address = _address(item, given)
            addresses.setdefault(item.resource.network, address)
            workloads.append(_workload(item, given, address, mesh))
    return Networks(addresses, tuple({workload.uid: workload for workload in workloads}.values()))


def _address(item: Object[Gateway], given: GatewayAddressSpec) -> GatewayAddress:
    gateway = item.resource
    if given.type == "Hostname":
        return GatewayAddress(NamespacedHostname(item.key.namespace, given.value), gateway.hbone_port)
    return GatewayAddress(NetworkAddress(gateway.network, parse_ip(given.value)), gateway.hbone_port)


def _workload(item: Object[Gateway], given: GatewayAddressSpec, address: GatewayAddress, mesh: MeshConfig) -> Workload:
    gateway, annotations = item.resource, item.resource.metadata.annotations
    ip = address.destination.ip if isinstance(address.destination, NetworkAddress) else None
    return Workload(
        uid=f"NetworkGateway/{gateway.network}/{given.value}/{gateway.hbone_port}",
        name=item.key.name,
        namespace=item.key.namespace,
        addresses=() if ip is None else (ip,),
        hostname=given.value if ip is None else "",
        network=gateway.network,
        protocol=Protocol.HBONE,
        trust_domain=annotations.get(TRUST_DOMAIN) or mesh.trust_domain,
        service_account=annotations[SERVICE_ACCOUNT],
    )
