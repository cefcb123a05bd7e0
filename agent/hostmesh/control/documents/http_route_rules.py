"""What an HTTPRoute must obey beyond its shape (Gateway API validation; Istio's for waypoints)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostmesh.config.durations import parse_duration
from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, warning
from hostmesh.control.documents.http_route import HTTPCORSFilter, HTTPRoute, HTTPRouteMatch, HTTPRouteRule, PathModifier
from hostmesh.control.documents.route_rules import (
    TOKEN,
    check_backends,
    check_filters,
    check_hostnames,
    check_parents,
    check_plain,
    check_regex,
    check_values,
)

_FILTERS = (
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
    "RequestMirror",
    "CORS",
)
_ORIGIN = re.compile(r"\*|[a-z][-+.a-z0-9]*://(\*\.)?[-.:\[\]a-zA-Z0-9]+")
_ODD = ("//", "/./", "/../", "%2f", "%2F", "#", "?")


def check_http_route(route: HTTPRoute) -> Iterator[Finding]:
    """All rules; paths are relative to the document."""
    spec = route.spec
    yield from check_plain(spec)
    yield from check_parents(spec.parent_refs)
    yield from check_hostnames(spec.hostnames)
    for number, rule in enumerate(spec.rules):
        yield from _check_rule(rule, ("spec", "rules", number))


def _check_rule(rule: HTTPRouteRule, path: Path) -> Iterator[Finding]:
    for number, match in enumerate(rule.matches):
        yield from _check_match(match, (*path, "matches", number))
    yield from check_filters(rule.filters, path, _FILTERS, "a rule")
    kinds = [one.type for one in rule.filters]
    for number, one in enumerate(rule.filters):
        where = (*path, "filters", number)
        if one.request_redirect is not None:
            yield from _check_modifier(one.request_redirect.path, rule, (*where, "requestRedirect", "path"))
        if one.url_rewrite is not None:
            yield from _check_modifier(one.url_rewrite.path, rule, (*where, "urlRewrite", "path"))
        if one.cors is not None:
            yield from _check_cors(one.cors, (*where, "cors"))
    if "RequestRedirect" in kinds and "URLRewrite" in kinds:
        yield Finding((*path, "filters"), "a redirect and a rewrite cannot be in one rule")
    if "RequestRedirect" in kinds and rule.backend_refs:
        yield Finding((*path, "backendRefs"), "a redirected request reaches no backend; remove one of the two")
    yield from check_backends(rule.backend_refs, path)
    if not rule.backend_refs and "RequestRedirect" not in kinds:
        yield warning(path, "no backendRefs: every request of this rule is answered with 500")
    yield from _check_times(rule, path)


def _check_match(match: HTTPRouteMatch, path: Path) -> Iterator[Finding]:
    value, where = match.path.value, (*path, "path", "value")
    if match.path.type == "RegularExpression":
        yield from check_regex(value, where)
    elif not value.startswith("/"):
        yield Finding(where, f"{value!r} must begin with a slash")
    elif odd := next((part for part in _ODD if part in value), None):
        yield Finding(where, f"{value!r} contains {odd!r}; requests are compared after their paths are normalized")
    yield from check_values(match.headers, (*path, "headers"))
    yield from check_values(match.query_params, (*path, "queryParams"))


def _check_modifier(modifier: PathModifier | None, rule: HTTPRouteRule, path: Path) -> Iterator[Finding]:
    if modifier is None:
        return
    full, prefix = modifier.replace_full_path, modifier.replace_prefix_match
    if (full is None) is (prefix is None) or (prefix is None) is (modifier.type == "ReplacePrefixMatch"):
        yield Finding(path, f"type {modifier.type} needs exactly the field that it names")
    elif prefix is not None and any(match.path.type != "PathPrefix" for match in rule.any_match):
        yield Finding(path, "ReplacePrefixMatch needs matches of type PathPrefix in its rule")


def _check_cors(cors: HTTPCORSFilter, path: Path) -> Iterator[Finding]:
    for number, origin in enumerate(cors.allow_origins):
        if not _ORIGIN.fullmatch(origin):
            why = f"{origin!r} is not an origin: write https://a.example, https://*.example or *"
            yield Finding((*path, "allowOrigins", number), why)
    for field, names in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for number, name in enumerate(names):
            if not TOKEN.fullmatch(name):
                yield Finding((*path, field, number), f"{name!r} is not the name of a header")


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
