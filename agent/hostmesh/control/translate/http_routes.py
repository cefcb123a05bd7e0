"""HTTPRoutes and GRPCRoutes of a service's port in the order in which they are tried (Gateway API precedence)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from hostmesh.config.durations import parse_duration
from hostmesh.control.documents.grpc_route import GRPCMethodMatch, GRPCRoute, GRPCRouteRule
from hostmesh.control.documents.http_route import (
    BackendRef,
    HeaderModifier,
    HTTPCORSFilter,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    RequestMirror,
    RequestRedirect,
    RouteFilter,
    URLRewrite,
    ValueMatch,
)
from hostmesh.control.documents.read import Object, ObjectKey
from hostmesh.model.waypoint import (
    Backend,
    Cors,
    HeaderChange,
    MatchText,
    Mirror,
    PathKind,
    Redirect,
    Retry,
    Rewrite,
    Route,
    RouteMatch,
)

Resolve = Callable[[str, BackendRef], str]
"""The host name of a backend, named in this namespace; empty when there is none."""

_KINDS = {kind.value: kind for kind in PathKind}
_ORDER = {PathKind.EXACT: 0, PathKind.PREFIX: 1, PathKind.REGEX: 2}


def request_routes(
    http: Iterable[Object[HTTPRoute]], grpc: Iterable[Object[GRPCRoute]], resolve: Resolve
) -> tuple[Route, ...]:
    """What becomes of the requests to one port.

    Args:
        http: the HTTPRoutes attached to it, the oldest first: where matches are alike the older route wins.
        grpc: the GRPCRoutes.
        resolve: finds backends.
    """
    found = [route for item in http for route in _of_http(item, resolve)]
    found += [route for item in grpc for route in _of_grpc(item, resolve)]
    return tuple(sorted(found, key=_precedence))


def _precedence(route: Route) -> tuple[int, int, bool, int, int]:
    match = route.match
    return (
        _ORDER[match.path_kind],
        -len(match.path),
        not match.method,
        -len(match.headers),
        -len(match.query),
    )


def _of_http(item: Object[HTTPRoute], resolve: Resolve) -> Iterator[Route]:
    for number, rule in enumerate(item.resource.spec.rules):
        times, retry = rule.timeouts, rule.retry
        made = replace(
            _route(item.key.namespace, rule, resolve),
            timeout=_seconds(times.request),
            try_timeout=_seconds(times.backend_request),
            retry=Retry(retry.attempts, tuple(retry.codes), _seconds(retry.backoff)) if retry else None,
        )
        for position, match in enumerate(rule.any_match):
            yield replace(made, name=f"{_name(item.key, rule, number)}.{position}", match=_match(match))


def _of_grpc(item: Object[GRPCRoute], resolve: Resolve) -> Iterator[Route]:
    for number, rule in enumerate(item.resource.spec.rules):
        made = _route(item.key.namespace, rule, resolve)
        for position, match in enumerate(rule.any_match):
            kind, path = _call(match.method)
            found = RouteMatch(kind, path, headers=tuple(_text(one) for one in match.headers))
            yield replace(made, name=f"{_name(item.key, rule, number)}.{position}", match=found)


def _name(key: ObjectKey, rule: HTTPRouteRule | GRPCRouteRule, number: int) -> str:
    return f"{key.namespace}/{key.name}.{rule.name or number}"


def _call(match: GRPCMethodMatch | None) -> tuple[PathKind, str]:
    """The path of a request is `/<service>/<method>` (gRPC over HTTP/2)."""
    if match is None:
        return PathKind.PREFIX, "/"
    exact = match.type == "Exact"
    if exact and match.service:
        path = f"/{match.service}"
        return (PathKind.EXACT, f"{path}/{match.method}") if match.method else (PathKind.PREFIX, path)
    # an expression may have alternatives, so it stands in a group
    service = f"(?:{match.service})" if match.service else "[^/]+"
    method = (match.method if exact else f"(?:{match.method})") if match.method else ".+"
    return PathKind.REGEX, f"/{service}/{method}"


def _route(namespace: str, rule: HTTPRouteRule | GRPCRouteRule, resolve: Resolve) -> Route:
    """All but what is matched."""
    filters = rule.filters
    return Route(
        name="",
        match=RouteMatch(),
        backends=tuple(
            Backend(resolve(namespace, one), one.port or 0, one.weight, _request(one.filters), _response(one.filters))
            for one in rule.backend_refs
        ),
        request_headers=_request(filters),
        response_headers=_response(filters),
        redirect=next((_redirect(f.request_redirect) for f in filters if f.request_redirect), None),
        rewrite=next((_rewrite(f.url_rewrite) for f in filters if f.url_rewrite), None),
        mirrors=tuple(
            Mirror(
                Backend(resolve(namespace, f.request_mirror.backend_ref), f.request_mirror.backend_ref.port or 0),
                _millionths(f.request_mirror),
            )
            for f in filters
            if f.request_mirror
        ),
        cors=next((_cors(f.cors) for f in filters if f.cors), None),
    )


def _cors(one: HTTPCORSFilter) -> Cors:
    return Cors(
        tuple(one.allow_origins),
        one.allow_credentials,
        tuple(one.allow_methods),
        tuple(one.allow_headers),
        tuple(one.expose_headers),
        one.max_age,
    )


def _request(filters: Iterable[RouteFilter]) -> HeaderChange:
    return _headers(next((f.request_header_modifier for f in filters if f.request_header_modifier), None))


def _response(filters: Iterable[RouteFilter]) -> HeaderChange:
    return _headers(next((f.response_header_modifier for f in filters if f.response_header_modifier), None))


def _seconds(text: str) -> float:
    return parse_duration(text) if text else 0.0


def _match(match: HTTPRouteMatch) -> RouteMatch:
    return RouteMatch(
        _KINDS[match.path.type],
        match.path.value,
        match.method or "",
        tuple(_text(one) for one in match.headers),
        tuple(_text(one) for one in match.query_params),
    )


def _text(one: ValueMatch) -> MatchText:
    return MatchText(one.name, one.value, one.type == "RegularExpression")


def _headers(one: HeaderModifier | None) -> HeaderChange:
    if one is None:
        return HeaderChange()
    return HeaderChange(
        tuple((header.name, header.value) for header in one.set),
        tuple((header.name, header.value) for header in one.add),
        tuple(one.remove),
    )


def _redirect(one: RequestRedirect) -> Redirect:
    path = one.path
    return Redirect(
        one.scheme or "",
        one.hostname,
        one.port or 0,
        (path.replace_full_path or "") if path else "",
        path.replace_prefix_match if path else None,
        one.status_code,
    )


def _rewrite(one: URLRewrite) -> Rewrite:
    path = one.path
    return Rewrite(
        one.hostname, (path.replace_full_path or "") if path else "", path.replace_prefix_match if path else None
    )


def _millionths(one: RequestMirror) -> int:
    if one.fraction is not None:
        return min(one.fraction.numerator * 1_000_000 // one.fraction.denominator, 1_000_000)
    return 1_000_000 if one.percent is None else one.percent * 10_000
