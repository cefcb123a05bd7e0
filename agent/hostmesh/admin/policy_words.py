"""An Authorization in words: what its rules say, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hostmesh.model.authorization import Authorization, Match, Rule, StringMatch, StringMatchKind


def rule_lines(policy: Authorization) -> Iterator[str]:
    """Each rule; a policy without rules matches nothing."""
    if not policy.rules:
        yield "no rule: it matches nothing"
    for rule in policy.rules:
        yield _rule(rule)


def _rule(rule: Rule) -> str:
    clauses = [" or ".join(map(_match, clause)) for clause in rule if clause]
    return " and ".join(f"({clause})" if " or " in clause else clause for clause in clauses) or "everything"


def _match(match: Match) -> str:
    parts = [
        _said("namespace", map(_string, match.namespaces), map(_string, match.not_namespaces)),
        _said("principal", map(_string, match.principals), map(_string, match.not_principals)),
        _said(
            "service account",
            (f"{one.namespace}/{one.service_account}" for one in match.service_accounts),
            (f"{one.namespace}/{one.service_account}" for one in match.not_service_accounts),
        ),
        _said("address", map(str, match.source_ips), map(str, match.not_source_ips)),
    ]
    to = [
        _said("address", map(str, match.destination_ips), map(str, match.not_destination_ips)),
        _said("port", map(str, match.destination_ports), map(str, match.not_destination_ports)),
    ]
    sides = [f"from {' and '.join(filter(None, parts))}" if any(parts) else ""]
    sides.append(f"to {' and '.join(filter(None, to))}" if any(to) else "")
    return " ".join(filter(None, sides)) or "nothing"


def _said(what: str, positive: Iterable[str], negative: Iterable[str]) -> str:
    wanted, unwanted = "|".join(positive), "|".join(negative)
    return " and ".join(filter(None, [wanted and f"{what} {wanted}", unwanted and f"{what} not {unwanted}"]))


def _string(match: StringMatch) -> str:
    match match.kind:
        case StringMatchKind.EXACT:
            return match.value or '""'
        case StringMatchKind.PREFIX:
            return f"{match.value}*"
        case StringMatchKind.SUFFIX:
            return f"*{match.value}"
        case StringMatchKind.PRESENCE:
            return "*"
