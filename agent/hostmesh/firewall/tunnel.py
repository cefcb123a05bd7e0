"""The half of a NetworkPolicy that holds inside the mesh's tunnels, where a firewall sees port 15008 alone.

From the policies that isolate ingress of a workload one DENY is made: the complement of the union of their rules. It
is one rule whose clauses are AND-ed, a clause for each pair of a peer and its ports, that says "not this pair": not
from there, or from an exception, or not to these ports. So it matches exactly the connections that no pair admits. A
DENY narrows what AuthorizationPolicies allow; an ALLOW would widen it.

Peers chosen by labels are their addresses, and for who comes with an identity that identity as well: so workloads that
share an address are told apart. Only TCP goes through tunnels; rules for other protocols admit nothing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from hostmesh.firewall.resolve import ports, whole
from hostmesh.firewall.semantics import isolating_policies
from hostmesh.firewall.spans import Span, complement
from hostmesh.model.address import IPNetwork
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Clause,
    Match,
    PolicyScope,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)
from hostmesh.model.network_policy import (
    LAST_PORT,
    Direction,
    IpBlock,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    Peer,
    PolicyRule,
    Protocol,
)

PREFIX = "network_policy"
_LONGEST = 200
_SOMEBODY = (StringMatch(StringMatchKind.PRESENCE),)


def derive(
    policies: Sequence[NetworkPolicy], membership: Membership, member: Member, *, by_default: bool = True
) -> Authorization | None:
    """The DENY for a workload; None where nothing isolates its ingress in tunnels, or everything is admitted.

    Args:
        policies: all of the mesh.
        membership: everybody that peers can mean.
        member: the workload.
        by_default: whether policies that do not say so hold in tunnels. One that does not isolates nothing here, but
            what it admits stays admitted.

    Returns:
        Equal for workloads that the same policies isolate, unless names of ports mean different numbers there.
    """
    isolating = in_tunnel(policies, member, by_default=by_default)
    if not isolating:
        return None
    clauses = [
        clause for policy in isolating for rule in policy.ingress for clause in _pairs(rule, policy, membership, member)
    ]
    if () in clauses:
        return None
    rule = tuple(dict.fromkeys(clauses))
    return Authorization(name(isolating, member), member.namespace, PolicyScope.WORKLOAD_SELECTOR, Action.DENY, (rule,))


def in_tunnel(policies: Sequence[NetworkPolicy], member: Member, *, by_default: bool) -> tuple[NetworkPolicy, ...]:
    """Those that isolate ingress of a workload, by name; none where none of them holds in tunnels."""
    isolating = sorted(isolating_policies(policies, member, Direction.INGRESS), key=lambda policy: policy.name)
    holds = any(by_default if policy.in_tunnel is None else policy.in_tunnel for policy in isolating)
    return tuple(isolating) if holds else ()


def name(policies: Sequence[NetworkPolicy], member: Member) -> str:
    """What the DENY of these isolating policies is called; workloads that share it share the DENY.

    It does not depend on peers: a policy whose members change stays the same policy with other contents.
    """
    wanted = {
        port.name
        for policy in policies
        for rule in policy.ingress
        for port in rule.ports
        if isinstance(port, NamedPort)
    }
    numbers = [f"{port}-{member.ports.get(port, 'none')}" for port in sorted(wanted)]
    text = "_".join((PREFIX, *(policy.name for policy in policies), *numbers))
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _pairs(rule: PolicyRule, policy: NetworkPolicy, membership: Membership, member: Member) -> Iterator[Clause]:
    """One clause for each pair; an empty one admits everything."""
    found = ports(rule, member)
    tcp = ((0, LAST_PORT),) if found is None else found.get(Protocol.TCP, ())
    if not tcp:
        return
    elsewhere = () if whole(tcp) else (_not_these(tcp),)
    if not rule.peers:
        yield elsewhere
    for peer in rule.peers:
        yield from ((*strangers, *elsewhere) for strangers in _strangers(peer, policy, membership))


def _strangers(peer: Peer, policy: NetworkPolicy, membership: Membership) -> Iterator[Clause]:
    """Who a peer is not; several times where a peer means several identities."""
    if isinstance(peer, IpBlock):
        excluded = (Match(source_ips=peer.excluded),) if peer.excluded else ()
        yield (Match(not_source_ips=(peer.cidr,)), *excluded)
        return
    for (namespace, account), addresses in _by_identity(membership.meant(peer, policy.namespace)):
        somebody_else = Match(principals=_SOMEBODY, not_service_accounts=(ServiceAccountMatch(namespace, account),))
        yield (Match(not_source_ips=addresses), somebody_else)


def _by_identity(members: Iterable[Member]) -> Iterator[tuple[tuple[str, str], tuple[IPNetwork, ...]]]:
    found: dict[tuple[str, str], dict[IPNetwork, None]] = {}
    for member in members:
        networks = found.setdefault((member.namespace, member.service_account), {})
        networks.update((ip_network(ip), None) for ip in member.addresses)
    for identity, networks in sorted(found.items(), key=lambda item: item[0]):
        if networks:
            yield identity, tuple(sorted(networks, key=str))


def _not_these(spans: Sequence[Span]) -> Match:
    """Matches other ports; written with whichever list is shorter."""
    others = complement(spans, 1, LAST_PORT)
    if _count(others) < _count(spans):
        return Match(destination_ports=tuple(_numbers(others)))
    return Match(not_destination_ports=tuple(_numbers(spans)))


def _count(spans: Iterable[Span]) -> int:
    return sum(last - first + 1 for first, last in spans)


def _numbers(spans: Iterable[Span]) -> Iterator[int]:
    for first, last in spans:
        yield from range(first, last + 1)
