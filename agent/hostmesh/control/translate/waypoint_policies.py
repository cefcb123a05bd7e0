"""Policies that waypoints enforce: AuthorizationPolicy and RequestAuthentication with targetRefs (Istio)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hostmesh.config.durations import parse_duration
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy, Operation, Rule, Source, TargetRef
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.request_authentication import JwtRuleSpec, RequestAuthentication
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.waypoints import Key
from hostmesh.model.waypoint import Fields, JwtRule, L7Action, L7Authentication, L7Policy, L7Rule


def l7_policies(
    policies: Iterable[Object[AuthorizationPolicy]], gateway: Key, services: Sequence[Backed], mesh: MeshConfig
) -> Iterator[L7Policy]:
    """Those that this waypoint has to enforce, for all that it serves or for the services that they name.

    What an authorizer would have to decide that nobody has configured is denied, as in Istio.
    """
    known = {one.name for one in mesh.authorizers or ()}
    for item in policies:
        spec = item.resource.spec
        hostnames = hostnames_of(item, spec.targets, gateway, services, mesh.root_namespace)
        provider = spec.provider.name if spec.provider else ""
        if hostnames is not None:
            yield L7Policy(
                name=item.key.name,
                namespace=item.key.namespace,
                action=L7Action.DENY if provider and provider not in known else L7Action(spec.action),
                rules=tuple(_rule(rule) for rule in spec.rules),
                hostnames=hostnames,
                dry_run=item.resource.dry_run,
                provider=provider,
            )


def authentications(
    policies: Iterable[Object[RequestAuthentication]], gateway: Key, services: Sequence[Backed], root_namespace: str
) -> Iterator[L7Authentication]:
    """The same for tokens."""
    for item in policies:
        spec = item.resource.spec
        hostnames = hostnames_of(item, spec.targets, gateway, services, root_namespace)
        if hostnames is not None and spec.jwt_rules:
            rules = tuple(_jwt(rule) for rule in spec.jwt_rules)
            yield L7Authentication(item.key.name, item.key.namespace, rules, hostnames)


def hostnames_of(
    item: Object[Resource], targets: Sequence[TargetRef], gateway: Key, services: Sequence[Backed], root: str
) -> tuple[str, ...] | None:
    """The services meant, all of the waypoint's for `()`; None when the policy is not for this waypoint."""
    found: set[str] = set()
    for target in targets:
        if target.kind == "GatewayClass":
            if item.key.namespace == root:
                return ()
        elif target.kind == "Gateway":
            if (item.key.namespace, target.name) == gateway:
                return ()
        else:
            found |= {backed.service.hostname for backed in services if means(item, target, backed)}
    return tuple(sorted(found)) if found else None


def means(item: Object[Resource], target: TargetRef, backed: Backed) -> bool:
    """Whether a target is this service."""
    key = backed.source.key
    return (key.kind, key.namespace, key.name) == (target.kind, item.key.namespace, target.name)


def _rule(rule: Rule) -> L7Rule:
    return L7Rule(
        tuple(_fields(entry.source) for entry in rule.from_ or ()),
        tuple(_fields(entry.operation) for entry in rule.to or ()),
        tuple((one.key, tuple(one.values or ()), tuple(one.not_values or ())) for one in rule.when or ()),
    )


def _fields(part: Source | Operation) -> Fields:
    """By the names that the user wrote."""
    written: Fields = {
        type(part).model_fields[name].alias or name: tuple(value) for name, value in part if value is not None
    }
    return written


def _jwt(rule: JwtRuleSpec) -> JwtRule:
    return JwtRule(
        issuer=rule.issuer,
        audiences=tuple(rule.audiences),
        jwks=rule.jwks,
        jwks_uri=rule.jwks_uri,
        from_headers=tuple((one.name, one.prefix) for one in rule.from_headers),
        from_params=tuple(rule.from_params),
        from_cookies=tuple(rule.from_cookies),
        payload_header=rule.output_payload_to_header,
        forward=rule.forward_original_token,
        claim_headers=tuple((one.header, one.claim) for one in rule.output_claim_to_headers),
        space_delimited=tuple(rule.space_delimited_claims),
        timeout=parse_duration(rule.timeout or "5s"),
    )
