"""DestinationRules to routing preferences of services: near endpoints first.

istiod reads DestinationRules for waypoints only. Here a rule says it for agents too, where neither the service nor its
namespace says anything about traffic distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.destination_rule import DestinationRule
from hostmesh.control.documents.read import Object
from hostmesh.control.translate.services import Backed, Services
from hostmesh.model.service import LoadBalancing, LoadBalancingMode

_Key = TypeVar("_Key")


def near_first(services: Services, rules: Iterable[Object[DestinationRule]]) -> tuple[Services, tuple[Problem, ...]]:
    """The services, ranked as the rules say, and complaints about rules for hosts that are no service."""
    found: dict[str, Object[DestinationRule]] = {}
    problems: list[Problem] = []
    for rule in rules:
        keys = [b.service.key for b in services.backed if _means(rule, b)]
        if not keys:
            why = f"there is no service {rule.resource.spec.host!r} in the namespace {rule.key.namespace}"
            problems.append(rule.document.problem(("spec", "host"), why))
        for key in keys:
            if found.setdefault(key, rule) is not rule:
                why = f"{found[key].key} at {found[key].where} is older and is for that host too: it decides"
                problems.append(rule.document.problem(("spec", "host"), why))
    if not any(rule.resource.preferences for rule in found.values()):
        return services, tuple(problems)
    changed = {b.service.key: _ranked(b, found.get(b.service.key)) for b in services.backed}
    return (
        replace(
            services,
            backed=tuple(changed.values()),
            selecting=_again(services.selecting, changed),
            by_source=_again(services.by_source, changed),
        ),
        tuple(problems),
    )


def _means(rule: Object[DestinationRule], backed: Backed) -> bool:
    host, service = rule.resource.spec.host, backed.service
    same_namespace = rule.key.namespace == service.namespace
    return same_namespace and host in (service.hostname, service.hostname.partition(".")[0])


def _ranked(backed: Backed, rule: Object[DestinationRule] | None) -> Backed:
    preferences = rule.resource.preferences if rule is not None else ()
    if not preferences or backed.service.load_balancing is not None:
        return backed
    balancing = LoadBalancing(LoadBalancingMode.FAILOVER, preferences)
    return replace(backed, service=replace(backed.service, load_balancing=balancing))


def _again(
    table: Mapping[_Key, tuple[Backed, ...]], changed: Mapping[str, Backed]
) -> Mapping[_Key, tuple[Backed, ...]]:
    return {key: tuple(changed[b.service.key] for b in backed) for key, backed in table.items()}
