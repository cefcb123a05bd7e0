"""PeerAuthentication to Authorization (istiod's ambient conversion).

Agents know no PeerAuthentication: STRICT is a DENY of peers without identity. One static policy says it for
whole workloads; ports that differ from their workload make a policy of their own. The mode of a workload comes
from the oldest object at the most specific level that says anything: selector, namespace, mesh (root namespace).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.peer_authentication import Mode, PeerAuthentication
from hostmesh.control.documents.read import Object
from hostmesh.control.translate.policies import selected
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Clause,
    Match,
    PolicyScope,
    Rule,
    StringMatch,
    StringMatchKind,
)

STATIC_STRICT = "istio_converted_static_strict"
_ANONYMOUS = Match(not_principals=(StringMatch(StringMatchKind.PRESENCE),))
_LEVELS = {"mesh": "the mesh", "namespace": "its namespace"}

PeerObject = Object[PeerAuthentication]


@dataclass(frozen=True, slots=True)
class PeerDemands:
    """All PeerAuthentications, sorted out. `selecting` holds, per namespace, those with a selector, oldest first."""

    root_namespace: str
    inherited: Mapping[str, Mode]
    selecting: Mapping[str, Sequence[PeerObject]]
    authorizations: tuple[Authorization, ...]
    warnings: tuple[Problem, ...]

    def keys(self, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Which converted policies a workload carries: at most one."""
        inherited = _inherited(self.inherited, self.root_namespace, namespace)
        own = next((p for p in self.selecting.get(namespace, ()) if selected(p.resource.selector_labels, labels)), None)
        static = f"{self.root_namespace}/{STATIC_STRICT}"
        if own is None:
            return (static,) if inherited == "STRICT" else ()
        if _rules(own.resource, inherited):
            return (f"{namespace}/{_converted_name(own)}",)
        return (static,) if _effective(own.resource, inherited) == "STRICT" else ()


def convert(objects: Sequence[PeerObject], root_namespace: str) -> PeerDemands:
    """Sort out all PeerAuthentications of the mesh.

    Args:
        objects: oldest first.
        root_namespace: whose object without a selector speaks for the mesh.
    """
    levels: dict[str, PeerObject] = {}
    selecting: dict[str, list[PeerObject]] = {}
    warnings: list[Problem] = []
    for item in objects:
        namespace = item.key.namespace
        if item.resource.selector_labels:
            if namespace == root_namespace:
                why = f"ignored: in the root namespace {root_namespace!r} a selector chooses nothing; move the object"
                warnings.append(item.document.problem(("spec", "selector"), why))
            else:
                selecting.setdefault(namespace, []).append(item)
            continue
        first = levels.setdefault(namespace, item)
        if first is not item:
            level = _LEVELS["mesh" if namespace == root_namespace else "namespace"]
            why = f"ignored: {first.key} at {first.where} speaks for {level} already and is older; remove one"
            warnings.append(item.document.problem(("metadata", "name"), why))
    inherited = {namespace: item.resource.spec.mtls.mode for namespace, item in levels.items()}
    converted = list(_converted(selecting, inherited, root_namespace))
    for item in (item for items in selecting.values() for item in items):
        warnings += _not_exempted(item, _inherited(inherited, root_namespace, item.key.namespace))
    if objects:
        converted.append(_policy(root_namespace, STATIC_STRICT, (((_ANONYMOUS,),),)))
    return PeerDemands(root_namespace, inherited, selecting, tuple(converted), tuple(warnings))


def _inherited(modes: Mapping[str, Mode], root_namespace: str, namespace: str) -> Mode:
    for level in (namespace, root_namespace):
        mode = modes.get(level, "UNSET")
        if mode != "UNSET":
            return mode
    return "PERMISSIVE"


def _effective(policy: PeerAuthentication, inherited: Mode) -> Mode:
    mode = policy.spec.mtls.mode
    return inherited if mode == "UNSET" else mode


def _converted(
    selecting: Mapping[str, Iterable[PeerObject]], inherited: Mapping[str, Mode], root_namespace: str
) -> Iterator[Authorization]:
    for namespace, items in selecting.items():
        mode = _inherited(inherited, root_namespace, namespace)
        for item in items:
            if rules := _rules(item.resource, mode):
                yield _policy(namespace, _converted_name(item), rules)


def _rules(policy: PeerAuthentication, inherited: Mode) -> tuple[Rule, ...]:
    """Rules for ports that differ from their workload; none where the workload's mode says it all."""
    if _effective(policy, inherited) == "STRICT":
        exempt = [port for port, mode in policy.ports.items() if mode in ("PERMISSIVE", "DISABLE")]
        if not exempt or not _exemption_counts(policy):
            return ()
        clauses: list[Clause] = [(_ANONYMOUS,)]
        clauses += [(Match(not_destination_ports=(port,)),) for port in sorted(exempt)]
        return (tuple(clauses),)
    strict = sorted(port for port, mode in policy.ports.items() if mode == "STRICT")
    return tuple(((Match(not_principals=_ANONYMOUS.not_principals, destination_ports=(port,)),),) for port in strict)


def _exemption_counts(policy: PeerAuthentication) -> bool:
    """Under an inherited STRICT, ports that are only DISABLEd are not exempted, as in Istio."""
    return policy.spec.mtls.mode != "UNSET" or "PERMISSIVE" in policy.ports.values()


def _not_exempted(item: PeerObject, inherited: Mode) -> Iterator[Problem]:
    policy = item.resource
    if inherited != "STRICT" or _exemption_counts(policy):
        return
    for port, mode in policy.ports.items():
        if mode == "DISABLE":
            why = "stays STRICT: under an inherited STRICT only PERMISSIVE exempts a port; write PERMISSIVE"
            yield item.document.problem(("spec", "portLevelMtls", str(port), "mode"), why)


def _converted_name(item: PeerObject) -> str:
    return f"converted_peer_authentication_{item.key.name}"


def _policy(namespace: str, name: str, rules: tuple[Rule, ...]) -> Authorization:
    return Authorization(name, namespace, PolicyScope.WORKLOAD_SELECTOR, Action.DENY, rules)
