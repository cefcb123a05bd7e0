"""Both halves of what NetworkPolicies mean for a workload, in words and rules: `hostmesh netpol explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hostmesh.config.strict_yaml import suggest
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument
from hostmesh.control.documents.read import Object, of_kind
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.network_policies import from_document, member_of_entry, membership
from hostmesh.firewall import names
from hostmesh.firewall.describe import chain_lines, inside_lines
from hostmesh.firewall.plan import Subject, SubjectKind, plan
from hostmesh.firewall.semantics import isolating_policies
from hostmesh.firewall.tunnel import derive
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
    ruleset = plan(policies, known, [Subject(member, SubjectKind.UNIT, "of.the.workload")])
    for direction in Direction:
        isolating = isolating_policies(policies, member, direction)
        word = direction.value.lower()
        if not isolating:
            yield f"{member.key}: {word} is not isolated, everything is allowed"
            continue
        yield f"{member.key}: {word} is isolated by {', '.join(policy.key for policy in isolating)}"
        yield "  on its host, for new connections:"
        yield from (f"    {line}" for line in chain_lines(ruleset, names.chain(member, direction)))
        if direction is Direction.INGRESS:
            yield from inside_lines(derive(policies, known, member, by_default=by_default))
