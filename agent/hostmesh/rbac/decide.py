"""Judge a connection by L4 policies (Istio AuthorizationPolicy, ambient: ALLOW and DENY, no CUSTOM or AUDIT)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

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

_Pattern = TypeVar("_Pattern")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`policies` are the keys that the decision rests on, `dry_run` one line for each dry-run finding.

    A refusal by default names every enforced ALLOW policy that was considered.
    """

    allowed: bool
    reason: str
    policies: tuple[str, ...] = ()
    dry_run: tuple[str, ...] = ()


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
    if group == _EMPTY:
        return False
    identity = connection.source_identity
    namespace = identity.namespace if identity is not None else ""
    principal = identity.principal if identity is not None else None
    source, destination = connection.source.ip, connection.destination
    return (
        _passes(group.destination_ports, group.not_destination_ports, destination.port, _equal)
        and _passes(group.source_ips, group.not_source_ips, source, _contains)
        and _passes(group.destination_ips, group.not_destination_ips, destination.ip, _contains)
        and _passes(group.namespaces, group.not_namespaces, namespace, _string_hits)
        and _passes(group.principals, group.not_principals, principal, _principal_hits)
        and _passes(group.service_accounts, group.not_service_accounts, identity, _account_hits)
    )


_EMPTY = Match()
_Value = TypeVar("_Value")


def _passes(
    positive: tuple[_Pattern, ...],
    negative: tuple[_Pattern, ...],
    value: _Value,
    hits: Callable[[_Pattern, _Value], bool],
) -> bool:
    if positive and not any(hits(pattern, value) for pattern in positive):
        return False
    return not any(hits(pattern, value) for pattern in negative)


def _equal(port: int, value: int) -> bool:
    return port == value


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
