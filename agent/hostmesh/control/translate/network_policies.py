"""NetworkPolicy documents to values, who their peers can mean, and the policies that hold inside tunnels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from hostmesh.config.strict_yaml import Path, Problem
from hostmesh.control.documents.network_policy import (
    CidrBlock,
    LabelSelector,
    NetworkPolicyDocument,
    PolicyPeer,
    Port,
)
from hostmesh.control.documents.network_policy import EgressRule as Egress
from hostmesh.control.documents.network_policy import IngressRule as Ingress
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.service_entry import ServiceEntry
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.firewall.tunnel import derive, in_tunnel, name
from hostmesh.model.authorization import Authorization
from hostmesh.model.network_policy import (
    IpBlock,
    Member,
    Membership,
    NamedPort,
    NamespaceLabels,
    NetworkPolicy,
    Operator,
    Peer,
    PolicyPort,
    PolicyResource,
    PolicyRule,
    PortRange,
    Protocol,
    Requirement,
    Selector,
    WorkloadPeer,
)
from hostmesh.model.workload import Protocol as Reached
from hostmesh.model.workload import Workload

PolicyObject = Object[NetworkPolicyDocument]


@dataclass(frozen=True, slots=True)
class InTunnel:
    """Workloads with the derived policies attached, and those policies, each once."""

    workloads: tuple[Workload, ...]
    authorizations: tuple[Authorization, ...]


def from_document(item: PolicyObject) -> NetworkPolicy:
    """The value of a checked document."""
    resource, spec = item.resource, item.resource.spec
    return NetworkPolicy(
        name=item.key.name,
        namespace=item.key.namespace,
        selector=_selector(spec.pod_selector),
        isolates=resource.isolates,
        ingress=tuple(_rule(rule) for rule in spec.ingress or ()),
        egress=tuple(_rule(rule) for rule in spec.egress or ()),
        in_tunnel=resource.in_tunnel,
    )


def member_of_entry(entry: Object[WorkloadEntry], workload: Workload) -> Member:
    """What policies see of a WorkloadEntry; `spec.ports` are its named ports."""
    return _member(workload, entry.resource.labels, entry.resource.spec.ports)


def member_of_endpoint(entry: Object[ServiceEntry], workload: Workload) -> Member:
    """What policies see of an inline endpoint: labels of its ServiceEntry, its own named ports."""
    addresses = {str(address) for address in workload.addresses}
    own = next((e.ports for e in entry.resource.spec.endpoints or () if e.address in addresses), {})
    return _member(workload, entry.resource.metadata.labels, own)


def membership(members: Iterable[Member], namespaces: Namespaces) -> Membership:
    """Everybody that peers can mean."""
    found = tuple(sorted(members, key=lambda member: member.uid))
    return Membership(found, {each: namespaces.labels(each) for each in sorted({m.namespace for m in found})})


def attach(
    workloads: Iterable[Workload], policies: Sequence[NetworkPolicy], known: Membership, *, by_default: bool
) -> InTunnel:
    """Derive what holds inside tunnels, and attach it to the workloads that the policies select."""
    if not policies:
        return InTunnel(tuple(workloads), ())
    members = {member.uid: member for member in known.members}
    derived: dict[tuple[str, str], Authorization | None] = {}
    attached: list[Workload] = []
    for workload in workloads:
        member = members[workload.uid]
        isolating = in_tunnel(policies, member, by_default=by_default)
        key = (member.namespace, name(isolating, member))
        if isolating and key not in derived:
            derived[key] = derive(policies, known, member, by_default=by_default)
        policy = derived.get(key)
        if isolating and policy is not None:
            keys = tuple(sorted({*workload.authorization_policies, policy.key}))
            workload = replace(workload, authorization_policies=keys)
        attached.append(workload)
    return InTunnel(tuple(attached), tuple(policy for policy in derived.values() if policy is not None))


def served(policies: Sequence[NetworkPolicy], known: Membership) -> tuple[PolicyResource, ...]:
    """What agents that enforce policies are told: nothing while there is no policy."""
    if not policies:
        return ()
    labels = [NamespaceLabels(name, found) for name, found in known.namespaces.items() if found]
    return (*policies, *known.members, *labels)


def warnings(items: Iterable[PolicyObject], known: Membership) -> Iterator[Problem]:
    """Selectors that select nothing: a policy that protects nobody, a peer that is nobody."""
    for item in items:
        policy = from_document(item)
        if not any(policy.selects(member) for member in known.members):
            why = f"selects no workload of the namespace {policy.namespace!r}: the policy does nothing yet"
            yield item.document.problem(("spec", "podSelector"), why)
        for path, peer in _peers(item.resource):
            if not known.meant(peer, policy.namespace):
                yield item.document.problem(path, "selects no workload: nobody is admitted by this peer yet")


def _peers(resource: NetworkPolicyDocument) -> Iterator[tuple[Path, WorkloadPeer]]:
    several: tuple[tuple[str, str, Sequence[Ingress | Egress]], ...] = (
        ("ingress", "from", resource.spec.ingress or ()),
        ("egress", "to", resource.spec.egress or ()),
    )
    for direction, word, rules in several:
        for number, rule in enumerate(rules):
            for position, written in enumerate(rule.peers):
                peer = _peer(written)
                if isinstance(peer, WorkloadPeer):
                    yield ("spec", direction, number, word, position), peer


def _member(workload: Workload, labels: Mapping[str, str], ports: Mapping[str, int]) -> Member:
    return Member(
        uid=workload.uid,
        name=workload.name,
        namespace=workload.namespace,
        labels=labels,
        addresses=workload.addresses,
        ports=ports,
        meshed=workload.protocol is Reached.HBONE,
        service_account=workload.service_account,
    )


def _rule(rule: Ingress | Egress) -> PolicyRule:
    return PolicyRule(tuple(_peer(peer) for peer in rule.peers), tuple(_port(port) for port in rule.ports or ()))


def _peer(peer: PolicyPeer) -> Peer:
    if peer.ip_block is not None:
        return _block(peer.ip_block)
    workloads, namespaces = peer.pod_selector, peer.namespace_selector
    return WorkloadPeer(
        None if workloads is None else _selector(workloads), None if namespaces is None else _selector(namespaces)
    )


def _block(block: CidrBlock) -> IpBlock:
    return IpBlock(ip_network(block.cidr), tuple(ip_network(text) for text in block.except_ or ()))


def _port(port: Port) -> PolicyPort:
    protocol = Protocol(port.protocol)
    if port.port is None:
        return PortRange(protocol)
    if isinstance(port.port, str):
        return NamedPort(protocol, port.port)
    return PortRange(protocol, port.port, port.end_port or port.port)


def _selector(selector: LabelSelector) -> Selector:
    labels = (selector.match_labels or {}).items()
    return Selector(
        (
            *(Requirement(key, Operator.IN, frozenset({value})) for key, value in labels),
            *(
                Requirement(each.key, Operator(each.operator), frozenset(each.values or ()))
                for each in selector.match_expressions or ()
            ),
        )
    )
