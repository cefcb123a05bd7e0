"""Rules of a chain and a policy inside tunnels, in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostmesh.firewall.ruleset import TABLE, Ruleset
from hostmesh.model.authorization import Authorization, Clause, Match


def chain_lines(ruleset: Ruleset, chain: str) -> Iterator[str]:
    """Rules as nft has them, sets written out; one that can match nobody is left out."""
    start = f"add rule inet {TABLE} {chain} "
    for line in ruleset.rules.splitlines():
        if line.startswith(start):
            rule, _, comment = line.removeprefix(start).partition(' comment "')
            rule = rule.removeprefix(f'counter name "{chain}" ')
            used = [name for name in ruleset.sets if f"@{name} " in f"{rule} "]
            for name in used:
                rule = rule.replace(f"@{name}", f"{{ {', '.join(ruleset.sets[name])} }}")
            if not any(not ruleset.sets[name] for name in used):
                yield f"{rule}    # {comment[:-1]}"


def inside_lines(policy: Authorization | None) -> Iterator[str]:
    """What a derived policy denies inside tunnels."""
    if policy is None:
        yield "  inside tunnels: nothing is denied"
        return
    yield f"  inside tunnels and for plaintext taken in by the agent, {policy.key} denies"
    for rule in policy.rules:
        if not rule:
            yield "    everything"
        for number, clause in enumerate(rule):
            yield f"    {'and ' if number else ''}what is {_clause(clause)}"


def _clause(clause: Clause) -> str:
    return ", or ".join(text for match in clause for text in _match(match))


def _match(match: Match) -> Iterator[str]:
    if match.not_source_ips:
        yield f"not from {', '.join(map(str, match.not_source_ips))}"
    if match.source_ips:
        yield f"from {', '.join(map(str, match.source_ips))}"
    for account in match.not_service_accounts:
        yield f"by an identity other than {account.namespace}/{account.service_account}"
    if match.not_destination_ports:
        yield f"not to port {_ports(match.not_destination_ports)}"
    if match.destination_ports:
        yield f"to port {_ports(match.destination_ports)}"


def _ports(ports: Sequence[int]) -> str:
    shown = ", ".join(map(str, ports[:20]))
    return shown if len(ports) <= 20 else f"{shown} and {len(ports) - 20} more"
