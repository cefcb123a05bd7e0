"""The rules that judge one direction of one subject: `return` where a policy admits, `drop` at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from hostmesh.firewall import names
from hostmesh.firewall.resolve import HBONE_PORT, Resolved, whole
from hostmesh.firewall.spans import FAMILIES, merged, port_text
from hostmesh.model.network_policy import Direction, Member, Protocol

_WORD = {4: "ip", 6: "ip6"}
_COMMENT_LIMIT = 120

CommentedRule = tuple[str, str]


class Hbone(Enum):
    """Who may open tunnels to 15008 of an isolated workload: the peers of rules that admit TCP, or anybody."""

    PEERS = "peers"
    ANYBODY = "anybody"


def subject_rules(
    member: Member, direction: Direction, rules: Iterable[Resolved], hbone: Hbone, fronts: bool
) -> Iterator[CommentedRule]:
    """All rules of a chain, each with its comment."""
    if member.meshed and hbone is Hbone.ANYBODY:
        yield f"tcp dport {HBONE_PORT} return", "tunnels of the mesh"
    if direction is Direction.EGRESS and fronts:
        for family in FAMILIES:
            key = _key(family)
            yield f"{key} @{names.services_set(member, family)} return", "services with allowed endpoints"
        for family in FAMILIES:
            yield f"{_key(family)} @{names.all_services_set(family)} drop", "other services"
    for rule in rules:
        yield from _rule(rule, member)
    yield (
        f'counter name "{names.chain(member, direction)}" drop',
        f"{direction.value.lower()} of {member.key} is isolated"[:_COMMENT_LIMIT],
    )


def _rule(rule: Resolved, member: Member) -> Iterator[CommentedRule]:
    comment = f"{rule.policy.key} {rule.direction.value.lower()}[{rule.number}]"[-_COMMENT_LIMIT:]
    word = "saddr" if rule.direction is Direction.INGRESS else "daddr"
    peers = [""]
    if rule.peers is not None:
        found = {family: names.peers_set(rule.policy, rule.direction, rule.number, family) for family in FAMILIES}
        peers = [f"{_WORD[family]} {word} @{name} " for family, name in found.items()]
    for peer in peers:
        yield from ((f"{peer}{ports}return", comment) for ports in _ports(rule, meshed=member.meshed))
    if rule.has_names:
        for family in FAMILIES:
            yield f"{_key(family)} @{names.named_set(rule.policy, rule.number, family)} return", comment


def _ports(rule: Resolved, *, meshed: bool) -> Iterator[str]:
    """One match for each protocol; one that matches everything where a rule names no ports."""
    if rule.ports is None:
        yield ""
        return
    for protocol in Protocol:
        spans = rule.ports.get(protocol, ())
        if protocol is Protocol.TCP and spans and meshed:
            spans = merged([*spans, (HBONE_PORT, HBONE_PORT)])
        if not spans:
            continue
        word = protocol.value.lower()
        texts = ", ".join(port_text(span) for span in spans)
        yield f"meta l4proto {word} " if whole(spans) else f"{word} dport {{ {texts} }} "


def _key(family: int) -> str:
    return f"{_WORD[family]} daddr . meta l4proto . th dport"
