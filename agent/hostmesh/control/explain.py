"""Both halves of what NetworkPolicies mean for a workload, in words and rules: `hostmesh netpol explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hostmesh.config.strict_yaml import suggest
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument
from hostmesh.control.documents.read import Object, of_kind
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.translate import MeshConfig, translate
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.network_policies import from_document, member_of_entry, membership
from hostmesh.firewall import names
from hostmesh.firewall.plan import Subject, plan
from hostmesh.firewall.ruleset import TABLE, Ruleset
from hostmesh.firewall.semantics import isolating_policies
from hostmesh.firewall.tunnel import derive
from hostmesh.model.authorization import Authorization, Clause, Match
from hostmesh.model.network_policy import Direction, Member, Membership, NetworkPolicy


class Unknown(LookupError):
    """There is no such workload among the documents; the message names those that are."""


def explain(objects: Iterable[Object[Resource]], key: str, mesh: MeshConfig) -> str:
    """Say what holds for one workload.

    Args:
        objects: the mesh's documents.
        key: `namespace/name` of a WorkloadEntry.
        mesh: facts of the mesh.

    Raises:
        Unknown: no WorkloadEntry of that name.
    """
    everything = list(objects)
    workloads = {workload.uid: workload for workload in translate(everything, mesh).workloads}
    entries = {
        uid: entry
        for entry in of_kind(everything, WorkloadEntry)
        if (uid := f"{mesh.cluster_id}/networking.istio.io/WorkloadEntry/{entry.key.namespace}/{entry.key.name}")
        in workloads
    }
    members = {uid: member_of_entry(entry, workloads[uid]) for uid, entry in entries.items()}
    known = membership(members.values(), Namespaces(of_kind(everything, Namespace)))
    member = next((member for member in members.values() if member.key == key), None)
    if member is None:
        raise Unknown(f"no workload {key!r}; {suggest(key, (member.key for member in members.values()))}")
    policies = [from_document(item) for item in of_kind(everything, NetworkPolicyDocument)]
    return "".join(f"{line}\n" for line in _lines(policies, known, member, by_default=mesh.enforce_in_tunnel))


def _lines(policies: Sequence[NetworkPolicy], known: Membership, member: Member, *, by_default: bool) -> Iterator[str]:
    ruleset = plan(policies, known, [Subject(member)])
    for direction in Direction:
        isolating = isolating_policies(policies, member, direction)
        word = direction.value.lower()
        if not isolating:
            yield f"{member.key}: {word} is not isolated, everything is allowed"
            continue
        yield f"{member.key}: {word} is isolated by {', '.join(policy.key for policy in isolating)}"
        yield "  on its host, for new connections:"
        yield from (f"    {line}" for line in _chain(ruleset, names.chain(member, direction)))
        if direction is Direction.INGRESS:
            yield from _inside(derive(policies, known, member, by_default=by_default))


def _chain(ruleset: Ruleset, chain: str) -> Iterator[str]:
    start = f"add rule inet {TABLE} {chain} "
    for line in ruleset.rules.splitlines():
        if line.startswith(start):
            rule, _, comment = line.removeprefix(start).partition(' comment "')
            used = [name for name in ruleset.sets if f"@{name} " in f"{rule} "]
            for name in used:
                rule = rule.replace(f"@{name}", f"{{ {', '.join(ruleset.sets[name])} }}")
            if not any(not ruleset.sets[name] for name in used):
                yield f"{rule}    # {comment[:-1]}"


def _inside(policy: Authorization | None) -> Iterator[str]:
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
