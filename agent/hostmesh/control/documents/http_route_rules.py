"""What an HTTPRoute must obey beyond its shape (Gateway API validation; Istio's for waypoints)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostmesh.config.durations import parse_duration
from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, warning
from hostmesh.control.documents.http_route import (
    HOSTNAME,
    SERVICE_GROUPS,
    BackendRef,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    ParentRef,
    PathModifier,
    RouteFilter,
)

_FIELDS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
    "RequestMirror": "request_mirror",
}
_ODD = ("//", "/./", "/../", "%2f", "%2F", "#")
_MAX_REGEX = 1024


def check_http_route(route: HTTPRoute) -> Iterator[Finding]:
    """All rules; paths are relative to the document."""
    spec = route.spec
    for number, parent in enumerate(spec.parent_refs):
        yield from _check_parent(parent, ("spec", "parentRefs", number))
    if spec.hostnames:
        yield warning(("spec", "hostnames"), "without effect: the service that the route is attached to is the host")
    for number, rule in enumerate(spec.rules):
        yield from _check_rule(rule, ("spec", "rules", number))


def _check_parent(parent: ParentRef, path: Path) -> Iterator[Finding]:
    if (parent.group, parent.kind) not in SERVICE_GROUPS:
        why = f"unsupported parent {parent.kind!r}: a route of the mesh is attached to a Service or ServiceEntry"
        yield Finding((*path, "kind"), why)
    if parent.namespace:
        why = "routes of other namespaces are ignored by waypoints; put the route into the service's namespace"
        yield warning((*path, "namespace"), why)


def _check_rule(rule: HTTPRouteRule, path: Path) -> Iterator[Finding]:
    for number, match in enumerate(rule.matches):
        yield from _check_match(match, (*path, "matches", number))
    kinds = [one.type for one in rule.filters]
    for number, one in enumerate(rule.filters):
        yield from _check_filter(one, rule, (*path, "filters", number))
        if one.type != "RequestMirror" and kinds.index(one.type) != number:
            yield Finding((*path, "filters", number), f"{one.type} stands twice in one rule")
    if "RequestRedirect" in kinds and "URLRewrite" in kinds:
        yield Finding((*path, "filters"), "a redirect and a rewrite cannot be in one rule")
    if "RequestRedirect" in kinds and rule.backend_refs:
        yield Finding((*path, "backendRefs"), "a redirected request reaches no backend; remove one of the two")
    for number, backend in enumerate(rule.backend_refs):
        yield from check_backend(backend, (*path, "backendRefs", number))
    if not rule.backend_refs and "RequestRedirect" not in kinds:
        yield warning(path, "no backendRefs: every request of this rule is answered with 500")
    yield from _check_times(rule, path)


def _check_match(match: HTTPRouteMatch, path: Path) -> Iterator[Finding]:
    value, where = match.path.value, (*path, "path", "value")
    if match.path.type == "RegularExpression":
        yield from _check_regex(value, where)
    elif not value.startswith("/"):
        yield Finding(where, f"{value!r} must begin with a slash")
    elif odd := next((part for part in _ODD if part in value), None):
        yield Finding(where, f"{value!r} contains {odd!r}; requests are compared after their paths are normalized")
    for field, many in (("headers", match.headers), ("queryParams", match.query_params)):
        for number, one in enumerate(many):
            if one.type == "RegularExpression":
                yield from _check_regex(one.value, (*path, field, number, "value"))


def _check_regex(value: str, path: Path) -> Iterator[Finding]:
    if len(value) > _MAX_REGEX:
        yield Finding(path, f"an expression of {len(value)} characters; at most {_MAX_REGEX} are taken")
        return
    if re.search(r"\(\?[=!<]|\\[1-9]", value):
        yield Finding(path, f"{value!r} is not an RE2 expression: it has neither look-around nor back references")
        return
    try:
        re.compile(value)
    except re.error as error:
        yield Finding(path, f"{value!r} is not a regular expression: {error}")


def _check_filter(one: RouteFilter, rule: HTTPRouteRule, path: Path) -> Iterator[Finding]:
    given = [kind for kind, field in _FIELDS.items() if getattr(one, field) is not None]
    if given != [one.type]:
        name = RouteFilter.model_fields[_FIELDS[one.type]].alias
        yield Finding(path, f"type {one.type} needs exactly the field {name}")
        return
    if one.request_redirect is not None:
        yield from _check_modifier(one.request_redirect.path, rule, (*path, "requestRedirect", "path"))
    if one.url_rewrite is not None:
        yield from _check_modifier(one.url_rewrite.path, rule, (*path, "urlRewrite", "path"))
    if one.request_mirror is not None:
        where = (*path, "requestMirror")
        yield from check_backend(one.request_mirror.backend_ref, (*where, "backendRef"))
        if one.request_mirror.percent is not None and one.request_mirror.fraction is not None:
            yield Finding((*where, "percent"), "only one of percent or fraction can be set")


def _check_modifier(modifier: PathModifier | None, rule: HTTPRouteRule, path: Path) -> Iterator[Finding]:
    if modifier is None:
        return
    full, prefix = modifier.replace_full_path, modifier.replace_prefix_match
    if (full is None) is (prefix is None) or (prefix is None) is (modifier.type == "ReplacePrefixMatch"):
        yield Finding(path, f"type {modifier.type} needs exactly the field that it names")
    elif prefix is not None and any(match.path.type != "PathPrefix" for match in rule.any_match):
        yield Finding(path, "ReplacePrefixMatch needs matches of type PathPrefix in its rule")


def check_backend(backend: BackendRef, path: Path) -> Iterator[Finding]:
    """A reference to where requests go."""
    if (backend.group, backend.kind) not in {("", "Service"), ("core", "Service"), HOSTNAME}:
        why = f"{backend.kind!r} cannot be a backend: use a Service, or kind Hostname of group networking.istio.io"
        yield Finding((*path, "kind"), why)
    elif backend.kind == "Service" and "." in backend.name:
        why = "service name invalid; the name of the Service must be used, not the hostname"
        yield Finding((*path, "name"), why)
    if backend.port is None:
        yield Finding((*path, "port"), "port is required in backendRef")


def _check_times(rule: HTTPRouteRule, path: Path) -> Iterator[Finding]:
    times: dict[str, float] = {}
    texts = {
        ("timeouts", "request"): rule.timeouts.request,
        ("timeouts", "backendRequest"): rule.timeouts.backend_request,
        ("retry", "backoff"): rule.retry.backoff if rule.retry else "",
    }
    for where, text in texts.items():
        if not text:
            continue
        try:
            times[where[1]] = parse_duration(text)
        except ValueError as error:
            yield Finding((*path, *where), str(error))
    whole, one = times.get("request", 0.0), times.get("backendRequest", 0.0)
    if whole and one > whole:
        yield Finding((*path, "timeouts", "backendRequest"), "longer than the time-out of the whole request")
