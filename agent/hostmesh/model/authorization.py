"""Authorization: one L4 policy (istio.security.Authorization, made from Istio AuthorizationPolicy)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostmesh.model.address import IPNetwork


class PolicyScope(Enum):
    """Which workloads a policy applies to; values as ztunnel's config dump prints them."""

    GLOBAL = "Global"
    NAMESPACE = "Namespace"
    WORKLOAD_SELECTOR = "WorkloadSelector"


class Action(Enum):
    """What a match does."""

    ALLOW = "Allow"
    DENY = "Deny"


class StringMatchKind(Enum):
    """PRESENCE matches any non-empty value."""

    EXACT = "Exact"
    PREFIX = "Prefix"
    SUFFIX = "Suffix"
    PRESENCE = "Presence"


@dataclass(frozen=True, slots=True)
class StringMatch:
    """`value` is empty for PRESENCE."""

    kind: StringMatchKind
    value: str = ""


@dataclass(frozen=True, slots=True)
class ServiceAccountMatch:
    """Exact namespace and service account; the trust domain is ignored."""

    namespace: str
    service_account: str


@dataclass(frozen=True, slots=True)
class Match:
    """One group of attributes: different attributes are AND-ed, values of one attribute OR-ed."""

    namespaces: tuple[StringMatch, ...] = ()
    not_namespaces: tuple[StringMatch, ...] = ()
    service_accounts: tuple[ServiceAccountMatch, ...] = ()
    not_service_accounts: tuple[ServiceAccountMatch, ...] = ()
    principals: tuple[StringMatch, ...] = ()
    not_principals: tuple[StringMatch, ...] = ()
    source_ips: tuple[IPNetwork, ...] = ()
    not_source_ips: tuple[IPNetwork, ...] = ()
    destination_ips: tuple[IPNetwork, ...] = ()
    not_destination_ips: tuple[IPNetwork, ...] = ()
    destination_ports: tuple[int, ...] = ()
    not_destination_ports: tuple[int, ...] = ()


Clause = tuple[Match, ...]
"""Matches OR-ed; an empty clause matches everything."""

Rule = tuple[Clause, ...]
"""Clauses AND-ed; an empty rule matches everything."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """A policy; rules are OR-ed and no rules match nothing."""

    name: str
    namespace: str
    scope: PolicyScope
    action: Action
    rules: tuple[Rule, ...] = ()
    dry_run: bool = False

    @property
    def key(self) -> str:
        """The xDS resource name `namespace/name`."""
        return f"{self.namespace}/{self.name}"
