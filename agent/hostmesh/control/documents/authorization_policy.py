"""Istio AuthorizationPolicy (security.istio.io): its shape, and which attributes L4 can enforce.

Without a waypoint only addresses, ports and the peer's certificate are known. Attributes of HTTP (and of
JWTs inside it) are "L7": nothing can judge them on a plain connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.control.documents.base import DRY_RUN, Resource, Selector, Strict, Text

Values = Annotated[list[Text], Field(min_length=1)]
Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]


class Source(Strict):
    """Who is calling; fields AND-ed, values of a field OR-ed."""

    principals: Values | None = None
    not_principals: Values | None = None
    request_principals: Values | None = None
    not_request_principals: Values | None = None
    namespaces: Values | None = None
    not_namespaces: Values | None = None
    ip_blocks: Values | None = None
    not_ip_blocks: Values | None = None
    remote_ip_blocks: Values | None = None
    not_remote_ip_blocks: Values | None = None
    service_accounts: Annotated[Values, Field(max_length=16)] | None = None
    not_service_accounts: Annotated[Values, Field(max_length=16)] | None = None
    trust_domains: Values | None = None
    not_trust_domains: Values | None = None


class From(Strict):
    """One caller description; a rule's are OR-ed."""

    source: Source


class Operation(Strict):
    """What is called."""

    hosts: Values | None = None
    not_hosts: Values | None = None
    ports: Values | None = None
    not_ports: Values | None = None
    methods: Values | None = None
    not_methods: Values | None = None
    paths: Values | None = None
    not_paths: Values | None = None


class To(Strict):
    """One operation; a rule's are OR-ed."""

    operation: Operation


class Condition(Strict):
    """One more attribute that must hold."""

    key: str
    values: Values | None = None
    not_values: Values | None = None


class Rule(Strict):
    """`from`, `to` and `when` AND-ed; an absent one holds always."""

    from_: Annotated[list[From], Field(max_length=512)] | None = Field(default=None, alias="from")
    to: Annotated[list[To], Field(max_length=512)] | None = None
    when: list[Condition] | None = None


class TargetRef(Strict):
    """An object whose waypoint enforces the policy."""

    group: str = ""
    kind: str
    name: str
    namespace: str = ""


class Provider(Strict):
    """The external authorizer of a CUSTOM policy."""

    name: str = ""


class AuthorizationPolicySpec(Strict):
    """`{}` is an ALLOW without rules: it allows nothing."""

    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: Annotated[list[TargetRef], Field(max_length=16)] | None = None
    rules: Annotated[list[Rule], Field(max_length=512)] = Field(default=[])
    action: Action = "ALLOW"
    provider: Provider | None = None

    @property
    def targets(self) -> list[TargetRef]:
        """What it is attached to."""
        return [*([self.target_ref] if self.target_ref else []), *(self.target_refs or [])]


class AuthorizationPolicy(Resource):
    """An access rule for the workloads it selects, or for the waypoints it is attached to."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()

    @property
    def selector_labels(self) -> Mapping[str, str]:
        """Empty when the policy speaks for its whole namespace."""
        return self.spec.selector.match_labels if self.spec.selector else {}

    @property
    def at_waypoint(self) -> bool:
        """Whether a waypoint enforces it rather than the agents."""
        return self.spec.target_ref is not None or bool(self.spec.target_refs)

    @property
    def dry_run(self) -> bool:
        """Judged and reported, never enforced."""
        return self.metadata.annotations.get(DRY_RUN) == "true"


L7_SOURCE = ("request_principals", "not_request_principals", "remote_ip_blocks", "not_remote_ip_blocks")
L7_OPERATION = ("hosts", "not_hosts", "methods", "not_methods", "paths", "not_paths")
L4_CONDITIONS = ("source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port")


def has_l4(part: Source | Operation) -> bool:
    """Whether anything of a source or operation can be judged on a plain connection."""
    l7 = L7_SOURCE if isinstance(part, Source) else L7_OPERATION
    return any(value is not None for name, value in part if name not in l7)


def l7_fields(rule: Rule) -> tuple[str, ...]:
    """The L7 attributes that a rule uses, as the user wrote them, in order and once each."""
    found: dict[str, None] = {}
    sources = [(entry.source, L7_SOURCE) for entry in rule.from_ or ()]
    operations = [(entry.operation, L7_OPERATION) for entry in rule.to or ()]
    for part, names in (*sources, *operations):
        for name in names:
            if getattr(part, name) is not None:
                found[type(part).model_fields[name].alias or name] = None
    for condition in rule.when or ():
        if condition.key not in L4_CONDITIONS:
            found[condition.key] = None
    return tuple(found)


def enforceable(rule: Rule) -> bool:
    """Whether L4 can judge anything of the rule once its L7 attributes are left out of a DENY.

    Leaving one of several OR-ed entries out altogether makes the whole list hold always, so a list counts
    only if each of its entries keeps something. A rule that says nothing at all matches everything: enforceable.
    """
    if rule.from_ is None and rule.to is None and not rule.when:
        return True
    parts: list[list[Source | Operation]] = [
        [entry.source for entry in rule.from_ or ()],
        [entry.operation for entry in rule.to or ()],
    ]
    if any(entries and all(has_l4(part) for part in entries) for entries in parts):
        return True
    return any(condition.key in L4_CONDITIONS for condition in rule.when or ())
