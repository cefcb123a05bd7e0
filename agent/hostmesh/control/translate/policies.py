"""AuthorizationPolicy to Authorization: what agents can judge on a plain connection (istiod's ambient rules)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_network

from hostmesh.control.documents.authorization_policy import (
    L4_CONDITIONS,
    AuthorizationPolicy,
    Condition,
    Operation,
    Source,
    enforceable,
    has_l4,
    l7_fields,
)
from hostmesh.control.documents.authorization_policy import Rule as PolicyRule
from hostmesh.control.documents.read import Object
from hostmesh.model.address import IPNetwork
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Clause,
    Match,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which policies are attached to single workloads: a selector's labels, in one namespace or (root) in all."""

    root_namespace: str
    by_namespace: Mapping[str, Sequence[tuple[str, Mapping[str, str]]]]

    def keys(self, namespace: str, labels: Mapping[str, str]) -> Iterator[str]:
        """Keys of the policies whose selector matches; a workload without labels matches none."""
        for scope in dict.fromkeys((namespace, self.root_namespace)):
            for key, selector in self.by_namespace.get(scope, ()):
                if selected(selector, labels):
                    yield key


def selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether all of a selector's labels are there. An empty selector is not asked: it means the namespace."""
    return all(labels.get(key) == value for key, value in selector.items())


def authorizations(policies: Iterable[Object[AuthorizationPolicy]], root_namespace: str) -> tuple[Authorization, ...]:
    """Those policies that agents enforce; a waypoint's, and those that only audit, are not among them."""
    return tuple(_authorization(policy, root_namespace) for policy in policies if _enforced(policy.resource))


def selections(policies: Iterable[Object[AuthorizationPolicy]], root_namespace: str) -> Selection:
    """The selector-scoped ones among them."""
    found: dict[str, list[tuple[str, Mapping[str, str]]]] = {}
    for policy in policies:
        if _enforced(policy.resource) and policy.resource.selector_labels:
            entry = (f"{policy.key.namespace}/{policy.key.name}", policy.resource.selector_labels)
            found.setdefault(policy.key.namespace, []).append(entry)
    return Selection(root_namespace, found)


def _enforced(policy: AuthorizationPolicy) -> bool:
    return policy.spec.action in ("ALLOW", "DENY") and not policy.at_waypoint


def _authorization(policy: Object[AuthorizationPolicy], root_namespace: str) -> Authorization:
    spec, namespace = policy.resource.spec, policy.key.namespace
    scope = PolicyScope.GLOBAL if namespace == root_namespace else PolicyScope.NAMESPACE
    action = Action.ALLOW if spec.action == "ALLOW" else Action.DENY
    return Authorization(
        name=policy.key.name,
        namespace=namespace,
        scope=PolicyScope.WORKLOAD_SELECTOR if policy.resource.selector_labels else scope,
        action=action,
        rules=tuple(_rule(rule, namespace) for rule in spec.rules if _judgeable(rule, action)),
        dry_run=policy.resource.dry_run,
    )


def _judgeable(rule: PolicyRule, action: Action) -> bool:
    """An ALLOW must be judged whole, or it would allow too much; a DENY may deny more than was asked."""
    return not l7_fields(rule) if action is Action.ALLOW else enforceable(rule)


def _rule(rule: PolicyRule, namespace: str) -> Rule:
    """The clauses `to`, `from` and one per condition, without what only L7 could judge."""
    operations = [entry.operation for entry in rule.to or ()]
    sources = [entry.source for entry in rule.from_ or ()]
    clauses: list[Clause] = []
    if operations and all(has_l4(operation) for operation in operations):
        clauses.append(tuple(_operation(operation) for operation in operations))
    if sources and all(has_l4(source) for source in sources):
        clauses.append(tuple(_source(source, namespace) for source in sources))
    clauses += [(_condition(condition),) for condition in rule.when or () if condition.key in L4_CONDITIONS]
    return tuple(clauses)


def _operation(operation: Operation) -> Match:
    return Match(
        destination_ports=_ports(operation.ports),
        not_destination_ports=_ports(operation.not_ports),
    )


def _source(source: Source, namespace: str) -> Match:
    return Match(
        namespaces=_strings(source.namespaces),
        not_namespaces=_strings(source.not_namespaces),
        service_accounts=_accounts(source.service_accounts, namespace),
        not_service_accounts=_accounts(source.not_service_accounts, namespace),
        principals=_strings(source.principals),
        not_principals=_strings(source.not_principals),
        source_ips=_networks(source.ip_blocks),
        not_source_ips=_networks(source.not_ip_blocks),
    )


def _condition(condition: Condition) -> Match:
    values, negative = condition.values, condition.not_values
    match condition.key:
        case "source.ip":
            return Match(source_ips=_networks(values), not_source_ips=_networks(negative))
        case "destination.ip":
            return Match(destination_ips=_networks(values), not_destination_ips=_networks(negative))
        case "destination.port":
            return Match(destination_ports=_ports(values), not_destination_ports=_ports(negative))
        case "source.namespace":
            return Match(namespaces=_strings(values), not_namespaces=_strings(negative))
        case "source.principal":
            return Match(principals=_strings(values), not_principals=_strings(negative))
        case key:
            raise AssertionError(f"{key} is no L4 condition")


def _strings(values: list[str] | None) -> tuple[StringMatch, ...]:
    return tuple(string_match(value) for value in values or ())


def string_match(value: str) -> StringMatch:
    """`*` any non-empty value, `*x` a suffix, `x*` a prefix, else exactly the value."""
    if value == "*":
        return StringMatch(StringMatchKind.PRESENCE)
    if value.startswith("*"):
        return StringMatch(StringMatchKind.SUFFIX, value[1:])
    if value.endswith("*"):
        return StringMatch(StringMatchKind.PREFIX, value[:-1])
    return StringMatch(StringMatchKind.EXACT, value)


def _accounts(values: list[str] | None, namespace: str) -> tuple[ServiceAccountMatch, ...]:
    split = [value.rpartition("/") for value in values or ()]
    return tuple(ServiceAccountMatch(given or namespace, account) for given, _, account in split)


def _ports(values: list[str] | None) -> tuple[int, ...]:
    return tuple(int(value) for value in values or ())


def _networks(values: list[str] | None) -> tuple[IPNetwork, ...]:
    return tuple(network_of(value) for value in values or ())


def network_of(text: str) -> IPNetwork:
    """An address or CIDR range; host bits are cleared, an IPv4-mapped IPv6 range becomes the IPv4 one."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        return ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network
