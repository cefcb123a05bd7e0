"""Values in one rule of an AuthorizationPolicy: names, patterns, addresses, ports, conditions (Istio's validation)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from hostmesh.config.strict_yaml import Path, suggest
from hostmesh.control.documents.authorization_policy import L4_CONDITIONS, Condition, Operation, Rule, Source
from hostmesh.control.documents.base import Finding
from hostmesh.control.documents.names import is_cidr, is_dns_label, is_dns_subdomain, is_ip

Complain = Callable[[str], str | None]

_L7_CONDITIONS = (
    "remote.ip",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "connection.sni",
    "source.serviceAccount",
    "source.trustDomain",
)
_KEYED_CONDITIONS = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_KEYED_EXAMPLES = ("request.headers[name]", "request.auth.claims[name]")
_LEGACY = ("destination.labels", "destination.name", "destination.namespace", "destination.user")
_TEMPLATE = re.compile(r"\{[^{}]*\}|[{}]")


def check_rule(rule: Rule, path: Path) -> Iterator[Finding]:
    """Everything about one rule that its own text tells."""
    for name, entries in (("from", rule.from_), ("to", rule.to)):
        if entries is not None and not entries:
            why = f"empty list, found at rule {path[-1]}: it could mean all or none; remove it to match all"
            yield Finding((*path, name), why)
    for number, entry in enumerate(rule.from_ or ()):
        yield from _check_source(entry.source, (*path, "from", number, "source"))
    for number, target in enumerate(rule.to or ()):
        yield from _check_operation(target.operation, (*path, "to", number, "operation"))
    for number, condition in enumerate(rule.when or ()):
        yield from _check_condition(condition, (*path, "when", number))


def check_agents_know(rule: Rule, path: Path) -> Iterator[Finding]:
    """What waypoints compare and agents do not."""
    for number, entry in enumerate(rule.from_ or ()):
        source = entry.source
        for name, values in (("trustDomains", source.trust_domains), ("notTrustDomains", source.not_trust_domains)):
            if values is not None:
                hint = "principals" if name == "trustDomains" else "notPrincipals"
                why = f'agents do not compare trust domains, the field would vanish; write {hint}: ["{values[0]}/*"]'
                yield Finding((*path, "from", number, "source", name), why)


def _check_source(source: Source, path: Path) -> Iterator[Finding]:
    if not source.model_fields_set:
        yield Finding(path, "the source is empty; remove it to match everybody, or say who")
    accounts, others = source.service_accounts, (source.principals, source.namespaces)
    negative, not_others = source.not_service_accounts, (source.not_principals, source.not_namespaces)
    if (accounts or negative) and any(value is not None for value in (*others, *not_others)):
        why = "serviceAccounts cannot stand with principals or namespaces; use one of them"
        yield Finding((*path, "serviceAccounts" if accounts else "notServiceAccounts"), why)
    checks: tuple[tuple[str, list[str] | None, Complain], ...] = (
        ("principals", source.principals, _principal),
        ("notPrincipals", source.not_principals, _principal),
        ("namespaces", source.namespaces, _pattern),
        ("notNamespaces", source.not_namespaces, _pattern),
        ("ipBlocks", source.ip_blocks, _ip_block),
        ("notIpBlocks", source.not_ip_blocks, _ip_block),
        ("remoteIpBlocks", source.remote_ip_blocks, _ip_block),
        ("notRemoteIpBlocks", source.not_remote_ip_blocks, _ip_block),
        ("serviceAccounts", source.service_accounts, _service_account),
        ("notServiceAccounts", source.not_service_accounts, _service_account),
        ("trustDomains", source.trust_domains, _trust_domain),
        ("notTrustDomains", source.not_trust_domains, _trust_domain),
    )
    for name, values, complain in checks:
        yield from _each(values, (*path, name), complain)


def _check_operation(operation: Operation, path: Path) -> Iterator[Finding]:
    if not operation.model_fields_set:
        yield Finding(path, "the operation is empty; remove it to match everything, or say what")
    checks: tuple[tuple[str, list[str] | None, Complain], ...] = (
        ("ports", operation.ports, _port),
        ("notPorts", operation.not_ports, _port),
        ("paths", operation.paths, _path),
        ("notPaths", operation.not_paths, _path),
    )
    for name, values, complain in checks:
        yield from _each(values, (*path, name), complain)


def _check_condition(condition: Condition, path: Path) -> Iterator[Finding]:
    key = condition.key
    if complaint := _condition_key(key):
        yield Finding((*path, "key"), complaint)
    if condition.values is None and condition.not_values is None:
        yield Finding(path, "neither values nor notValues is given: the condition says nothing")
    complain = _CONDITION_VALUES.get(key)
    if complain:
        yield from _each(condition.values, (*path, "values"), complain)
        yield from _each(condition.not_values, (*path, "notValues"), complain)


def _each(values: Iterable[str] | None, path: Path, complain: Complain) -> Iterator[Finding]:
    for number, value in enumerate(values or ()):
        if complaint := complain(value):
            yield Finding((*path, number), complaint)


def _condition_key(key: str) -> str | None:
    if not key:
        return "the key is empty"
    if key in L4_CONDITIONS or key in _L7_CONDITIONS:
        return None
    if key.startswith(_LEGACY):
        return f"{key!r} is not supported since Istio 1.4; choose the destination with selector"
    prefix = next((prefix for prefix in _KEYED_CONDITIONS if key.startswith(prefix)), None)
    if prefix is None:
        return f"unknown attribute {key!r}; {suggest(key, (*L4_CONDITIONS, *_L7_CONDITIONS, *_KEYED_EXAMPLES))}"
    if not prefix.endswith(".") and not re.fullmatch(r"(\[[^][]+\])+", key[len(prefix) :]):
        return f"{key!r} needs a name in brackets: {prefix}[name]"
    return None


def _pattern(value: str) -> str | None:
    if value == "*" or "*" not in value.removeprefix("*").removesuffix("*"):
        both_ends = len(value) > 1 and value.startswith("*") and value.endswith("*")
        return f"{value!r} has `*` at both ends and would never match" if both_ends else None
    return f"{value!r} would never match: `*` is understood only at the start or at the end"


def _principal(value: str) -> str | None:
    if value.startswith("spiffe://"):
        return f"{value!r} would never match: principals are written without spiffe://"
    return _pattern(value)


def _trust_domain(value: str) -> str | None:
    return f"{value!r} is not a trust domain: it contains a slash" if "/" in value else _pattern(value)


def _ip_block(value: str) -> str | None:
    if "/" in value:
        return None if is_cidr(value) else f"bad CIDR range {value!r}"
    return None if is_ip(value) else f"bad IP address {value!r}"


def _port(value: str) -> str | None:
    if value.isascii() and value.isdigit() and len(value) <= 5 and 1 <= int(value) <= 65535:
        return None
    return f"bad port {value!r}: a number between 1 and 65535, in quotes"


def _service_account(value: str) -> str | None:
    if len(value) > 320:
        return "longer than 320 characters"
    namespace, separator, account = value.rpartition("/")
    if (separator and not is_dns_label(namespace)) or not is_dns_subdomain(account):
        return f"{value!r} is not a service account: `name` or `namespace/name`, without wildcards"
    return None


def _path(value: str) -> str | None:
    templates = _TEMPLATE.findall(value)
    if not templates:
        return None
    last = value.rsplit("/", 1)[-1]
    segments = value.split("/")
    whole = all(part in ("{*}", "{**}") for part in segments if "{" in part or "}" in part)
    rest = any("*" in part for part in segments if part not in ("{*}", "{**}"))
    if not whole or rest or "{**}" in segments[:-1] or (last != "{**}" and "{**}" in templates):
        return f"invalid or unsupported path {value!r}: {{*}} is one whole segment, {{**}} only the last one"
    return None


_CONDITION_VALUES: dict[str, Complain] = {
    "source.ip": _ip_block,
    "destination.ip": _ip_block,
    "remote.ip": _ip_block,
    "destination.port": _port,
    "source.principal": _principal,
    "source.namespace": _pattern,
}
