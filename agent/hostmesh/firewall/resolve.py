"""Rules of a NetworkPolicy with peers resolved to addresses and port names to numbers, for one subject.

A peer that is chosen by labels becomes the addresses of the workloads that have them. Where several workloads share an
address, a firewall admits all of them; which of them it was is known, and judged, inside the tunnel only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from hostmesh.firewall.semantics import isolating_policies
from hostmesh.firewall.spans import Span, merged
from hostmesh.model.address import IPAddress
from hostmesh.model.network_policy import (
    LAST_PORT,
    Direction,
    IpBlock,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    PolicyRule,
    PortRange,
    Protocol,
    Selector,
    WorkloadPeer,
)

HBONE_PORT = 15008

Ports = Mapping[Protocol, tuple[Span, ...]]
Triple = tuple[IPAddress, Protocol, int]


@dataclass(frozen=True, slots=True)
class Resolved:
    """One rule as it is for one subject.

    `peers` is None for anybody, `ports` is None for every port of every protocol; empty ones admit nothing. `named`
    are the destinations that a name of a port leads to, each with its own number; only egress has them. `number`
    is the rule's place in its policy.
    """

    policy: NetworkPolicy
    direction: Direction
    number: int
    peers: tuple[IpBlock, ...] | None
    ports: Ports | None
    named: frozenset[Triple] = frozenset()

    @property
    def has_names(self) -> bool:
        """Whether destinations decide what its ports are."""
        named = any(isinstance(port, NamedPort) for port in self.policy.rules(self.direction)[self.number].ports)
        return named and self.direction is Direction.EGRESS

    def named_elements(self, family: int) -> tuple[str, ...]:
        """`named` as nft takes it: `10.0.0.1 . tcp . 8080`."""
        found = ((str(ip), protocol.value.lower(), port) for ip, protocol, port in self.named if ip.version == family)
        return tuple(f"{ip} . {protocol} . {port}" for ip, protocol, port in sorted(found))


def resolve(
    policies: Sequence[NetworkPolicy], membership: Membership, subject: Member, direction: Direction
) -> tuple[Resolved, ...] | None:
    """All rules of the policies that isolate the subject in one direction; None where it is not isolated."""
    isolating = isolating_policies(policies, subject, direction)
    if not isolating:
        return None
    return tuple(
        _resolved(rule, number, policy, direction, membership, subject)
        for policy in isolating
        for number, rule in enumerate(policy.rules(direction))
    )


def blocks(rule: PolicyRule, policy: NetworkPolicy, membership: Membership) -> tuple[IpBlock, ...] | None:
    """The addresses that a rule's peers mean; None for anybody."""
    if not rule.peers:
        return None
    found: dict[IpBlock, None] = {}
    for peer in rule.peers:
        if isinstance(peer, IpBlock):
            found[peer] = None
            continue
        for member in membership.meant(peer, policy.namespace):
            found.update((IpBlock(ip_network(ip)), None) for ip in member.addresses)
    return tuple(found)


def ports(rule: PolicyRule, subject: Member | None) -> Ports | None:
    """Numbers of a rule's ports; names are the subject's, and mean nothing without one. None for everything."""
    if not rule.ports:
        return None
    found: dict[Protocol, list[Span]] = {}
    for port in rule.ports:
        if isinstance(port, PortRange):
            found.setdefault(port.protocol, []).append((port.first, port.last))
        elif subject is not None and port.name in subject.ports:
            number = subject.ports[port.name]
            found.setdefault(port.protocol, []).append((number, number))
    return {protocol: merged(spans) for protocol, spans in found.items()}


def whole(spans: tuple[Span, ...]) -> bool:
    """Whether spans are all ports of a protocol; port 0 does not count, nobody listens there."""
    return any(first <= 1 and last >= LAST_PORT for first, last in spans)


def _resolved(
    rule: PolicyRule,
    number: int,
    policy: NetworkPolicy,
    direction: Direction,
    membership: Membership,
    subject: Member,
) -> Resolved:
    peers = blocks(rule, policy, membership)
    if direction is Direction.INGRESS:
        return Resolved(policy, direction, number, peers, ports(rule, subject))
    named = _named(rule, policy, membership)
    return Resolved(policy, direction, number, peers, ports(rule, None), named)


def _named(rule: PolicyRule, policy: NetworkPolicy, membership: Membership) -> frozenset[Triple]:
    names = [port for port in rule.ports if isinstance(port, NamedPort)]
    return frozenset(
        (address, name.protocol, number)
        for address, member in (_destinations(rule, policy, membership) if names else ())
        for name in names
        if name.name in member.ports
        for number in _numbers(name, member)
    )


def _destinations(
    rule: PolicyRule, policy: NetworkPolicy, membership: Membership
) -> Iterator[tuple[IPAddress, Member]]:
    """Every workload that is a peer itself: another one at its address has other ports."""
    for peer in rule.peers or (WorkloadPeer(namespaces=Selector()),):
        found = membership.members if isinstance(peer, IpBlock) else membership.meant(peer, policy.namespace)
        for member in found:
            yield from ((ip, member) for ip in member.addresses if not isinstance(peer, IpBlock) or ip in peer)


def _numbers(name: NamedPort, member: Member) -> tuple[int, ...]:
    """Through the mesh a TCP port of a member is reached at the port of its tunnels."""
    tunnels = (HBONE_PORT,) if member.meshed and name.protocol is Protocol.TCP else ()
    return (member.ports[name.name], *tunnels)
