"""All documents of the mesh to all that agents are told, and what their authors should know about the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.destination_rule import DestinationRule
from hostmesh.control.documents.gateway import Gateway
from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument
from hostmesh.control.documents.peer_authentication import PeerAuthentication
from hostmesh.control.documents.read import Documents, Object, of_kind
from hostmesh.control.documents.service import CoreService
from hostmesh.control.documents.service_entry import ServiceEntry
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.attachment import attach as attach_waypoints
from hostmesh.control.translate.attachment import material
from hostmesh.control.translate.loose_ends import loose_ends
from hostmesh.control.translate.memo import Memo
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.near_first import near_first
from hostmesh.control.translate.network_policies import (
    attach,
    from_document,
    member_of_endpoint,
    member_of_entry,
    membership,
    served,
)
from hostmesh.control.translate.network_policies import warnings as network_policy_warnings
from hostmesh.control.translate.networks import networks
from hostmesh.control.translate.peer_authentication import convert
from hostmesh.control.translate.policies import authorizations, selections
from hostmesh.control.translate.programs import programs
from hostmesh.control.translate.services import derive
from hostmesh.control.translate.values import Translation, Vips
from hostmesh.control.translate.waypoints import collect
from hostmesh.control.translate.workloads import Surroundings, from_service_entry
from hostmesh.model.address import IPAddress
from hostmesh.model.identity import Identity
from hostmesh.model.network_policy import Member
from hostmesh.model.workload import Protocol, Workload

Described = tuple[Object[WorkloadEntry], Workload]


def translate(
    objects: Iterable[Object[Resource]], mesh: MeshConfig, vips: Vips | None = None, memo: Memo | None = None
) -> Translation:
    """Derive everything from documents that have each been checked, and of which none is there twice.

    Args:
        objects: in any order; the result does not depend on it.
        mesh: facts of the whole mesh.
        vips: the previous translation's, so that allocated addresses stay with their services.
        memo: the previous translation's; the result does not depend on it, only the time until it is there.
    """
    memo = memo or Memo()
    everything = Documents(objects)
    policies = of_kind(everything, AuthorizationPolicy)
    entries = of_kind(everything, ServiceEntry)
    namespaces = Namespaces(of_kind(everything, Namespace))
    services = memo.step(derive, of_kind(everything, CoreService), entries, namespaces, mesh, vips or {})
    services, unknown_hosts = memo.step(near_first, services, of_kind(everything, DestinationRule))
    peers = memo.step(convert, of_kind(everything, PeerAuthentication), mesh.root_namespace)
    around = Surroundings(mesh, namespaces, services, memo.step(selections, policies, mesh.root_namespace), peers)
    described = memo.described(of_kind(everything, WorkloadEntry), around)
    inline = [(entry, workload) for entry in entries for workload in from_service_entry(entry, around)]
    network_policies = of_kind(everything, NetworkPolicyDocument)
    known = membership(_members(described, inline) if network_policies else (), namespaces)
    policy_values = [from_document(item) for item in network_policies]
    in_tunnel = attach(
        [workload for _, workload in (*described, *inline)],
        policy_values,
        known,
        by_default=mesh.enforce_in_tunnel,
    )
    gateways = of_kind(everything, Gateway)
    waypoints = collect(
        (item for item in gateways if item.resource.is_waypoint), of_kind(everything, WorkloadEntry), namespaces, mesh
    )
    attached = attach_waypoints(waypoints, services.backed, described, in_tunnel.workloads)
    beyond = networks([item for item in gateways if not item.resource.is_waypoint], mesh)
    told = material(everything, attached, waypoints, mesh, described)
    logged = told.telemetry.unlogged(beyond.lead_to(attached.workloads), _members(described, inline))
    workloads = (*logged, *beyond.gateways)
    enforced = (
        *memo.step(authorizations, policies, mesh.root_namespace),
        *peers.authorizations,
        *in_tunnel.authorizations,
    )
    warnings = [warning for item in everything for warning in item.warnings]
    warnings += [*services.warnings, *peers.warnings, *waypoints.missing(), *loose_ends(told)]
    warnings += told.telemetry.problems()
    warnings += [*_ambiguous_ports(described), *unknown_hosts, *beyond.unreachable(described, services.backed, mesh)]
    warnings += network_policy_warnings(network_policies, known)
    return Translation(
        workloads=tuple(sorted(workloads, key=lambda workload: workload.uid)),
        services=tuple(one.service for one in attached.services),
        waypoints=programs(told),
        authorizations=tuple(sorted(enforced, key=lambda policy: policy.key)),
        network_policies=served(policy_values, known),
        warnings=tuple(sorted(warnings, key=lambda problem: (problem.source, problem.line, problem.field))),
        registrations=_registrations(workloads),
        vips=services.vips,
    )


def _members(
    described: Iterable[Described], inline: Iterable[tuple[Object[ServiceEntry], Workload]]
) -> Iterator[Member]:
    """Whom NetworkPolicies and selectors can mean."""
    yield from (member_of_entry(item, workload) for item, workload in described)
    yield from (member_of_endpoint(entry, workload) for entry, workload in inline)


def _registrations(workloads: Iterable[Workload]) -> Mapping[str, frozenset[Identity]]:
    """Identities in the mesh, by the node that runs them. One that opted out gets no certificate."""
    found: dict[str, set[Identity]] = {}
    for workload in workloads:
        if workload.node and workload.protocol is Protocol.HBONE:
            found.setdefault(workload.node, set()).add(workload.identity)
    return {node: frozenset(identities) for node, identities in sorted(found.items())}


def _ambiguous_ports(described: Sequence[Described]) -> Iterator[Problem]:
    """Workloads that share an address must not share a port: nobody could tell which one is meant."""
    owners: dict[tuple[str, IPAddress, int], Object[WorkloadEntry]] = {}
    for item, workload in described:
        ports = {target for port_map in workload.services.values() for target in port_map.values()}
        for address in workload.addresses:
            for port in sorted(ports):
                owner = owners.setdefault((workload.network, address, port), item)
                if owner is not item:
                    why = (
                        f"{owner.key} at {owner.where} has port {port} of {address} too: nobody can tell which one "
                        "a connection is for; give each workload its own port or address"
                    )
                    yield item.document.problem(("spec", "address"), why)
