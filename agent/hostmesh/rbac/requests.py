"""What a waypoint decides about a request, without asking its Envoy: the L7 rule that decides, and the route.

The same documents are compiled for Envoy by `hostmesh.waypoint`; this explains them. What nobody has said about
a request (its method, a token's claims) makes a rule neither match nor not match, and the verdict is open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from hostmesh.model.waypoint import (
    Fields,
    L7Action,
    L7Policy,
    L7Rule,
    MatchText,
    PathKind,
    Route,
    RouteMatch,
)

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what; None and a header that is not there: nobody said."""

    principal: str
    namespace: str
    service_account: str
    address: str
    port: int
    destination: str
    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)


@dataclass(frozen=True, slots=True)
class RequestVerdict:
    """`allowed` is None where it depends on what is not known; `policy` is the one that decides, if one does."""

    allowed: bool | None
    reason: str
    policy: str = ""


def decide_request(policies: Iterable[L7Policy], request: Request) -> RequestVerdict:
    """Istio's order: CUSTOM, DENY, ALLOW; AUDIT and dry runs decide nothing."""
    chosen = [policy for policy in policies if not policy.dry_run]
    open_verdict: RequestVerdict | None = None
    for action in (L7Action.CUSTOM, L7Action.DENY):
        for policy in (one for one in chosen if one.action is action):
            key, number, hit = _policy(policy, request)
            if hit and action is L7Action.DENY:
                return RequestVerdict(False, f"DENY {key}, rule {number}, matches", key)
            if hit or hit is None:
                why = f"{policy.provider} is asked ({key})" if hit else f"{action.value} {key} depends on the request"
                open_verdict = open_verdict or RequestVerdict(None, why, key)
    allows = [one for one in chosen if one.action is L7Action.ALLOW]
    found = [_policy(policy, request) for policy in allows]
    if allows and not any(hit for _, _, hit in found):
        unknown = next((key for key, _, hit in found if hit is None), None)
        if unknown is None:
            names = ", ".join(f"{one.namespace}/{one.name}" for one in allows)
            return RequestVerdict(False, f"no rule of {names} allows it", names)
        return open_verdict or RequestVerdict(None, f"ALLOW {unknown} depends on the request", unknown)
    if open_verdict is not None:
        return open_verdict
    match = next(((key, number) for key, number, hit in found if hit), None)
    if match is None:
        return RequestVerdict(True, "no policy of the waypoint says otherwise")
    return RequestVerdict(True, f"ALLOW {match[0]}, rule {match[1]}, matches", match[0])


def choose_route(routes: Sequence[Route], request: Request) -> tuple[Route | None, bool]:
    """The first that matches; and whether that is certain, given what is known."""
    for route in routes:
        hit = _route(route.match, request)
        if hit or hit is None:
            return route, bool(hit)
    return None, True


def _policy(policy: L7Policy, request: Request) -> tuple[str, int, bool | None]:
    """Its name, the rule that decides, and whether it matches."""
    hits = [_rule(rule, policy, request) for rule in policy.rules]
    key = f"{policy.namespace}/{policy.name}"
    for wanted in (True, None):
        if wanted in hits:
            return key, hits.index(wanted), wanted
    return key, 0, False


def _rule(rule: L7Rule, policy: L7Policy, request: Request) -> bool | None:
    parts = [
        _either(_fields(one, policy, request) for one in options)
        for options in (rule.sources, rule.operations)
        if options
    ]
    for key, values, not_values in rule.conditions:
        if values:
            parts.append(_attribute(key, values, policy, request))
        if not_values:
            parts.append(_not(_attribute(key, not_values, policy, request)))
    return _both(parts)


def _fields(fields: Fields, policy: L7Policy, request: Request) -> bool | None:
    found = []
    for name, values in fields.items():
        negative = name.startswith("not") and name[3:4].isupper()
        plain = name[3].lower() + name[4:] if negative else name
        hit = _attribute(plain, values, policy, request)
        found.append(_not(hit) if negative else hit)
    return _both(found)


def _attribute(name: str, values: tuple[str, ...], policy: L7Policy, request: Request) -> bool | None:
    """Whether an attribute has any of the values."""
    match name:
        case "principals" | "source.principal":
            return _text(request.principal.removeprefix("spiffe://"), values)
        case "namespaces" | "source.namespace":
            return _text(request.namespace, values)
        case "serviceAccounts" | "source.serviceAccount":
            own = f"{request.namespace}/{request.service_account}"
            return any(own == (value if "/" in value else f"{policy.namespace}/{value}") for value in values)
        case "trustDomains" | "source.trustDomain":
            return _text(request.principal.removeprefix("spiffe://").partition("/")[0], values)
        case "ipBlocks" | "source.ip" | "remoteIpBlocks" | "remote.ip":
            return _network(request.address, values)
        case "ports" | "destination.port":
            return str(request.port) in values
        case "destination.ip":
            return _network(request.destination, values)
        case "methods":
            return _text(request.method, values)
        case "paths":
            path = request.path.partition("?")[0] if request.path is not None else None
            return _either(_path(path, value) for value in values)
        case "hosts":
            host = request.host.lower() if request.host is not None else None
            return _text(host, tuple(value.lower() for value in values))
        case _:
            pass
    if name.startswith("request.headers["):
        return _text(request.headers.get(name[16:-1].lower()), values)
    return None  # a token's


def _text(given: str | None, values: tuple[str, ...]) -> bool | None:
    return None if given is None else any(_like(given, value) for value in values)


def _like(given: str, value: str) -> bool:
    if value == "*":
        return bool(given)
    if value.startswith("*"):
        return given.endswith(value[1:])
    return given.startswith(value[:-1]) if value.endswith("*") else given == value


def _path(given: str | None, value: str) -> bool | None:
    if given is None:
        return None
    if "{" not in value:
        return _like(given, value)
    pattern = re.escape(value).replace(r"\{\*\*\}", ".*").replace(r"\{\*\}", "[^/]+")
    return re.fullmatch(pattern, given) is not None


def _network(given: str, values: tuple[str, ...]) -> bool | None:
    if not given:
        return None
    return any(ip_address(given) in ip_network(value, strict=False) for value in values)


def _route(match: RouteMatch, request: Request) -> bool | None:
    parts = [_route_path(match, request.path)]
    if match.method:
        parts.append(_text(request.method, (match.method,)))
    parts += [_value(one, request.headers.get(one.name.lower())) for one in match.headers]
    query = dict(part.partition("=")[::2] for part in (request.path or "").partition("?")[2].split("&"))
    for one in match.query:
        parts.append(None if request.path is None else _value(one, query.get(one.name)) or False)
    return _both(parts)


def _route_path(match: RouteMatch, path: str | None) -> bool | None:
    if match.path_kind is PathKind.PREFIX and match.path == "/":
        return True
    if path is None:
        return None
    path = path.partition("?")[0]
    match match.path_kind:
        case PathKind.EXACT:
            return path == match.path
        case PathKind.PREFIX:
            return f"{path}/".startswith(f"{match.path.rstrip('/')}/")
        case PathKind.REGEX:
            return _expression(match.path, path)


def _value(match: MatchText, given: str | None) -> bool | None:
    if given is None:
        return None
    return _expression(match.value, given) if match.regex else given == match.value


def _expression(pattern: str, given: str) -> bool | None:
    try:
        return re.fullmatch(pattern, given) is not None
    except re.error:
        return None  # Envoy's expressions are RE2


def _either(parts: Iterable[bool | None]) -> bool | None:
    found = list(parts)
    if True in found:
        return True
    return None if None in found else False


def _both(parts: Iterable[bool | None]) -> bool | None:
    found = list(parts)
    if False in found:
        return False
    return None if None in found else True


def _not(part: bool | None) -> bool | None:
    return None if part is None else not part
