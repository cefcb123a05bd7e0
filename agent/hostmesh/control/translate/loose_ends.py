"""References of L7 documents that lead nowhere: no reason to refuse a document, but its author must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hostmesh.config.strict_yaml import Path, Problem, suggest
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy, TargetRef
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.request_authentication import RequestAuthentication
from hostmesh.control.translate.programs import Material, resolve
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.waypoint_policies import means

Attached = Object[AuthorizationPolicy] | Object[RequestAuthentication]


def loose_ends(material: Material) -> Iterator[Problem]:
    """Backends, authorizers and targets that are not there."""
    yield from _backends(material)
    yield from _authorizers(material.policies, material)
    behind = [backed for backed in material.services if backed.service.key in material.using]
    attached: list[Attached] = [*material.policies, *material.authentications]
    for item in attached:
        yield from _targets(item, material, behind)


def _backends(material: Material) -> Iterator[Problem]:
    for item in material.routes:
        for number, rule in enumerate(item.resource.spec.rules):
            for position, backend in enumerate(rule.backend_refs):
                if not resolve(material, item, backend):
                    why = f"backend({backend.name}) not found: its share of the requests is answered with 500"
                    yield item.document.problem(("spec", "rules", number, "backendRefs", position, "name"), why)


def _authorizers(policies: Iterable[Object[AuthorizationPolicy]], material: Material) -> Iterator[Problem]:
    if material.mesh.authorizers is None:
        return
    known = [one.name for one in material.mesh.authorizers]
    for item in policies:
        provider = item.resource.spec.provider
        if provider is not None and provider.name not in known:
            why = (
                f"the control plane has no extensionProvider {provider.name!r}: what the rules match is denied until "
                f"there is one; {suggest(provider.name, known)}"
            )
            yield item.document.problem(("spec", "provider", "name"), why)


def _targets(item: Attached, material: Material, behind: Sequence[Backed]) -> Iterator[Problem]:
    spec = item.resource.spec
    for number, target in enumerate(spec.targets):
        why = _idle(item, target, material, behind)
        if why:
            path: Path = ("targetRefs", number) if spec.target_refs else ("targetRef",)
            yield item.document.problem(("spec", *path, "name"), f"{why}: the policy has no effect there")


def _idle(item: Object[Resource], target: TargetRef, material: Material, behind: Sequence[Backed]) -> str:
    """Why a target leads to no waypoint; empty if it does."""
    namespace, root = item.key.namespace, material.mesh.root_namespace
    where = f"{namespace}/{target.name}"
    if target.kind == "GatewayClass":
        return "" if namespace == root else f"only policies of the namespace {root} may be for all waypoints"
    if target.kind == "Gateway":
        return "" if (namespace, target.name) in material.waypoints.gateways else f"there is no waypoint {where}"
    if any(means(item, target, backed) for backed in behind):
        return ""
    return f"there is no {target.kind} {where} that uses a waypoint"
