"""Judge a connection by L4 policies (Istio AuthorizationPolicy, ambient: ALLOW and DENY, no CUSTOM or AUDIT)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, eq

from hostmesh.model.address import IPAddress, IPNetwork
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Clause,
    Match,
    Rule,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)
from hostmesh.model.connection import Connection
from hostmesh.model.identity import Identity

NONE_ALLOWED = "allow policies exist, but none allowed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`policies` are the keys that the decision rests on, `dry_run` one line for each dry-run finding.

    A refusal by default names every enforced ALLOW policy that was considered.
    """

    allowed: bool
    reason: str
    policies: tuple[str, ...] = ()
    dry_run: tuple[str, ...] = ()

    @property
    def would_refuse(self) -> str:
        """The findings by which the connection would be refused if dry-run policies counted, as one text."""
        return "; ".join(one for one in self.dry_run if not one.startswith("dry-run: allow"))


def decide(policies: Sequence[Authorization], connection: Connection) -> Verdict:
    """Judge one connection.

    Any enforced DENY match denies; without an enforced ALLOW policy everything else is allowed; with one, some
    ALLOW policy must match. Dry-run policies are reported and never change the outcome.

    Args:
        policies: those that select the destination workload; their order only decides which of several matches
            is named.
        connection: `source_identity` is None for plaintext, which no principal or service account matches and
            whose namespace is the empty string.
    """
    dry_run = _dry_run_findings([policy for policy in policies if policy.dry_run], connection)
    enforced = [policy for policy in policies if not policy.dry_run]
    denied = _first_match((p for p in enforced if p.action is Action.DENY), connection)
    if denied is not None:
        return Verdict(False, f"explicitly denied by: {denied.key}", (denied.key,), dry_run)
    allowing = [policy for policy in enforced if policy.action is Action.ALLOW]
    if not allowing:
        return Verdict(True, "no allow policies exist", (), dry_run)
    allowed = _first_match(allowing, connection)
    if allowed is not None:
        return Verdict(True, f"allowed by: {allowed.key}", (allowed.key,), dry_run)
    return Verdict(False, NONE_ALLOWED, tuple(policy.key for policy in allowing), dry_run)


def matches(policy: Authorization, connection: Connection) -> bool:
    """Whether any rule matches; a policy without rules never does. Scope, action and dry-run play no part."""
    return any(_rule_matches(rule, connection) for rule in policy.rules)


def _first_match(policies: Iterable[Authorization], connection: Connection) -> Authorization | None:
    return next((policy for policy in policies if matches(policy, connection)), None)


def _dry_run_findings(policies: Sequence[Authorization], connection: Connection) -> tuple[str, ...]:
    if not policies:
        return ()
    hits = [policy for policy in policies if matches(policy, connection)]
    findings = [f"dry-run: {policy.action.value.lower()} policy match: {policy.key}" for policy in hits]
    has_allow = any(policy.action is Action.ALLOW for policy in policies)
    if has_allow and not any(policy.action is Action.ALLOW for policy in hits):
        findings.append("dry-run: no allow policies match")
    return tuple(findings)


def _rule_matches(rule: Rule, connection: Connection) -> bool:
    return all(_clause_matches(clause, connection) for clause in rule)


def _clause_matches(clause: Clause, connection: Connection) -> bool:
    return not clause or any(_group_matches(group, connection) for group in clause)


def _group_matches(group: Match, connection: Connection) -> bool:
    constrained = False
    for lists, fact, hits in _ATTRIBUTES:
        positive, negative = lists(group)
        if not positive and not negative:
            continue
        constrained = True
        value = fact(connection)
        if positive and not any(hits(pattern, value) for pattern in positive):
            return False
        if any(hits(pattern, value) for pattern in negative):
            return False
    return constrained


def _source_namespace(connection: Connection) -> str:
    return connection.source_identity.namespace if connection.source_identity is not None else ""


def _source_principal(connection: Connection) -> str | None:
    return connection.source_identity.principal if connection.source_identity is not None else None


def _contains(cidr: IPNetwork, value: IPAddress) -> bool:
    return value in cidr


def _string_hits(pattern: StringMatch, value: str) -> bool:
    match pattern.kind:
        case StringMatchKind.EXACT:
            return value == pattern.value
        case StringMatchKind.PREFIX:
            return value.startswith(pattern.value)
        case StringMatchKind.SUFFIX:
            return value.endswith(pattern.value)
        case StringMatchKind.PRESENCE:
            return value != ""


def _principal_hits(pattern: StringMatch, principal: str | None) -> bool:
    return principal is not None and _string_hits(pattern, principal)


def _account_hits(pattern: ServiceAccountMatch, identity: Identity | None) -> bool:
    if identity is None:
        return False
    return pattern.namespace == identity.namespace and pattern.service_account == identity.service_account


_ATTRIBUTES: tuple[
    tuple[attrgetter[tuple[tuple[object, ...], ...]], Callable[..., object], Callable[..., bool]], ...
] = (
    (attrgetter("destination_ports", "not_destination_ports"), attrgetter("destination.port"), eq),
    (attrgetter("namespaces", "not_namespaces"), _source_namespace, _string_hits),
    (attrgetter("principals", "not_principals"), _source_principal, _principal_hits),
    (attrgetter("service_accounts", "not_service_accounts"), attrgetter("source_identity"), _account_hits),
    (attrgetter("source_ips", "not_source_ips"), attrgetter("source.ip"), _contains),
    (attrgetter("destination_ips", "not_destination_ips"), attrgetter("destination.ip"), _contains),
)
"""For each attribute: its two lists in a group, the fact of the connection, and what a hit is."""
