"""What an AuthorizationPolicy must obey beyond its shape (Istio's validation, and what L4 enforcement adds).

A policy that would silently do nothing is refused here: the user believes in a protection that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostmesh.config.strict_yaml import Path, suggest
from hostmesh.control.documents.authorization_policy import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Rule,
    TargetRef,
    enforceable,
    l7_fields,
)
from hostmesh.control.documents.base import DRY_RUN, Finding, check_selector, warning
from hostmesh.control.documents.policy_values import check_agents_know, check_rule
from hostmesh.control.documents.route_rules import check_plain

_TARGETS = {
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
}
_WAYPOINT_HINT = "attach the policy to a waypoint with targetRefs, or use principals, namespaces, ipBlocks or ports"


def check_authorization_policy(policy: AuthorizationPolicy) -> Iterator[Finding]:
    """All rules; paths are relative to the document."""
    spec = policy.spec
    yield from check_plain(spec)
    yield from _check_attachment(policy)
    yield from _check_action(spec)
    yield from _check_dry_run(policy)
    for number, rule in enumerate(spec.rules):
        yield from check_rule(rule, ("spec", "rules", number))
    if policy.at_waypoint:
        return
    for number, rule in enumerate(spec.rules):
        yield from check_agents_know(rule, ("spec", "rules", number))
    if spec.action in ("ALLOW", "DENY"):
        yield from _check_l4(spec)


def _check_attachment(policy: AuthorizationPolicy) -> Iterator[Finding]:
    spec = policy.spec
    if spec.selector is not None:
        yield from check_selector(policy.selector_labels, ("spec", "selector"))
    if spec.target_ref and spec.target_refs:
        yield Finding(("spec", "targetRef"), "only one of targetRef or targetRefs can be set")
    if spec.selector and policy.at_waypoint:
        yield Finding(("spec", "selector"), "only one of targetRefs or selector can be set")
    if spec.target_refs is not None and not spec.target_refs:
        yield Finding(("spec", "targetRefs"), "empty: name a target or remove the field")
    if spec.target_ref:
        yield from check_target(spec.target_ref, ("spec", "targetRef"))
    for number, target in enumerate(spec.target_refs or ()):
        yield from check_target(target, ("spec", "targetRefs", number))


def check_target(target: TargetRef, path: Path) -> Iterator[Finding]:
    """What a policy of a waypoint may be attached to."""
    if not target.name:
        yield Finding((*path, "name"), "the target's name is empty")
    if target.namespace:
        yield Finding((*path, "namespace"), "targets in other namespaces are not supported; remove the field")
    if (target.group, target.kind) not in _TARGETS:
        known = suggest(target.kind, {kind for _, kind in _TARGETS})
        yield Finding((*path, "kind"), f"cannot be attached to {target.kind!r} of group {target.group!r}; {known}")


def _check_action(spec: AuthorizationPolicySpec) -> Iterator[Finding]:
    action = spec.action
    if action in ("DENY", "CUSTOM") and not spec.rules:
        why = f"{action} without `rules` is meaningless as it will never be triggered; add rules: [{{}}] to match all"
        yield Finding(("spec",), why)
    if action == "CUSTOM" and (spec.provider is None or not spec.provider.name):
        yield Finding(("spec", "provider", "name"), "CUSTOM needs the name of a provider")
    if action != "CUSTOM" and spec.provider is not None:
        yield Finding(("spec", "provider"), f"only CUSTOM has a provider, the action is {action}")
    if spec.target_ref or spec.target_refs:
        return
    if action == "CUSTOM":
        why = "CUSTOM would silently do nothing: only a waypoint asks external authorizers; attach it with targetRefs"
        yield Finding(("spec", "action"), why)
    if action == "AUDIT":
        yield warning(("spec", "action"), "AUDIT has no effect: only a waypoint audits; attach it with targetRefs")


def _check_dry_run(policy: AuthorizationPolicy) -> Iterator[Finding]:
    value = policy.metadata.annotations.get(DRY_RUN)
    path: Path = ("metadata", "annotations", DRY_RUN)
    if value is None:
        return
    if value not in ("true", "false"):
        yield Finding(path, f'must be "true" or "false" (got {value!r})')
    elif policy.spec.action in ("AUDIT", "CUSTOM"):
        yield Finding(path, f"{policy.spec.action} has no dry run; only ALLOW and DENY have")


def _check_l4(spec: AuthorizationPolicySpec) -> Iterator[Finding]:
    found = [(number, rule, l7_fields(rule)) for number, rule in enumerate(spec.rules)]
    l7 = [(number, rule, fields) for number, rule, fields in found if fields]
    if spec.action == "ALLOW" and l7 and len(l7) == len(found):
        names = ", ".join(dict.fromkeys(name for _, _, fields in l7 for name in fields))
        why = f"every rule needs HTTP ({names}), which no agent sees: the policy would deny all TCP traffic; "
        yield Finding(("spec", "rules"), why + _WAYPOINT_HINT)
        return
    for number, rule, fields in l7:
        yield _l7_finding(spec, rule, ("spec", "rules", number), ", ".join(fields))


def _l7_finding(spec: AuthorizationPolicySpec, rule: Rule, path: Path, names: str) -> Finding:
    if spec.action == "ALLOW":
        why = f"the rule is left out, it needs HTTP ({names}), which no agent sees: more is denied than you ask; "
        return warning(path, why + _WAYPOINT_HINT)
    if not enforceable(rule):
        why = f"the rule would silently deny nothing: it has only HTTP attributes ({names}), which no agent sees; "
        return Finding(path, why + _WAYPOINT_HINT)
    why = f"enforced without its HTTP attributes ({names}), which no agent sees: more is denied than you ask; "
    return warning(path, why + _WAYPOINT_HINT)
