"""What NetworkPolicies allow, written straight from their definition (Kubernetes networking.k8s.io/v1).

Nothing here is fast or clever: rules for the kernel and policies for the tunnels are checked against it.

A direction of a workload is isolated if some policy that selects the workload says so; then the union of the rules of
all those policies is allowed, and nothing else. A connection needs both its ends. There are no denying rules, no order
and no priorities; replies are not asked about, and a workload always reaches itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.model.address import IPAddress
from hostmesh.model.network_policy import (
    Direction,
    IpBlock,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    Peer,
    PolicyPort,
    PolicyRule,
    Protocol,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection; `member` is None where it is no workload."""

    ip: IPAddress
    member: Member | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A new connection to a port of the destination, after all address translation."""

    source: Endpoint
    destination: Endpoint
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`policies` are the keys of those that isolate the end that refused, or, when allowed, of those that admit."""

    allowed: bool
    reason: str
    policies: tuple[str, ...] = ()


def allowed(policies: Sequence[NetworkPolicy], membership: Membership, attempt: Attempt) -> Verdict:
    """Judge one connection.

    Args:
        policies: all of the mesh, in any order.
        membership: all workloads and namespaces.
        attempt: the connection.
    """
    source, destination = attempt.source.member, attempt.destination.member
    if source is not None and destination is not None and source.uid == destination.uid:
        return Verdict(True, "a workload always reaches itself")
    verdicts = (
        _judge(policies, membership, attempt, Direction.EGRESS, source),
        _judge(policies, membership, attempt, Direction.INGRESS, destination),
    )
    refusal = next((verdict for verdict in verdicts if not verdict.allowed), None)
    if refusal is not None:
        return refusal
    admitting = tuple(key for verdict in verdicts for key in verdict.policies)
    reason = f"admitted by: {', '.join(admitting)}" if admitting else "no policy isolates either end"
    return Verdict(True, reason, admitting)


def egress_allowed(policies: Sequence[NetworkPolicy], membership: Membership, attempt: Attempt) -> bool:
    """Whether the source's own policies allow the connection."""
    return _judge(policies, membership, attempt, Direction.EGRESS, attempt.source.member).allowed


def ingress_allowed(policies: Sequence[NetworkPolicy], membership: Membership, attempt: Attempt) -> bool:
    """Whether the destination's own policies allow the connection."""
    return _judge(policies, membership, attempt, Direction.INGRESS, attempt.destination.member).allowed


def _judge(
    policies: Sequence[NetworkPolicy],
    membership: Membership,
    attempt: Attempt,
    direction: Direction,
    subject: Member | None,
) -> Verdict:
    isolating = () if subject is None else isolating_policies(policies, subject, direction)
    if subject is None or not isolating:
        return Verdict(True, "not isolated")
    admitting = tuple(policy.key for policy in isolating if _admits(policy, direction, membership, attempt))
    if admitting:
        return Verdict(True, "admitted", admitting)
    reason = f"{direction.value.lower()} of {subject.key} is isolated, and no rule admits the connection"
    return Verdict(False, reason, tuple(policy.key for policy in isolating))


def isolating_policies(
    policies: Sequence[NetworkPolicy], member: Member, direction: Direction
) -> tuple[NetworkPolicy, ...]:
    """Those that isolate a workload in one direction; without any, everything is allowed there."""
    return tuple(policy for policy in policies if direction in policy.isolates and policy.selects(member))


def _admits(policy: NetworkPolicy, direction: Direction, membership: Membership, attempt: Attempt) -> bool:
    other = attempt.source if direction is Direction.INGRESS else attempt.destination
    return any(_rule_admits(rule, policy, other, membership, attempt) for rule in policy.rules(direction))


def _rule_admits(
    rule: PolicyRule, policy: NetworkPolicy, other: Endpoint, membership: Membership, attempt: Attempt
) -> bool:
    peer = not rule.peers or any(_is_peer(peer, policy, other, membership) for peer in rule.peers)
    port = not rule.ports or any(_is_port(port, attempt) for port in rule.ports)
    return peer and port


def _is_peer(peer: Peer, policy: NetworkPolicy, other: Endpoint, membership: Membership) -> bool:
    if isinstance(peer, IpBlock):
        return other.ip in peer
    return other.member is not None and other.member in membership.meant(peer, policy.namespace)


def _is_port(port: PolicyPort, attempt: Attempt) -> bool:
    if port.protocol is not attempt.protocol:
        return False
    if isinstance(port, NamedPort):
        destination = attempt.destination.member
        return destination is not None and destination.ports.get(port.name) == attempt.port
    return port.first <= attempt.port <= port.last
