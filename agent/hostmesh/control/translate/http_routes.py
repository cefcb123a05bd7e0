"""HTTPRoutes of a service's port to routes in the order in which they are tried (Gateway API precedence)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hostmesh.config.durations import parse_duration
from hostmesh.control.documents.http_route import (
    SERVICE_GROUPS,
    BackendRef,
    HeaderModifier,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    ParentRef,
    RequestMirror,
    RequestRedirect,
    URLRewrite,
    ValueMatch,
)
from hostmesh.control.documents.read import Object
from hostmesh.control.translate.services import Backed
from hostmesh.model.waypoint import (
    Backend,
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

Resolve = Callable[[Object[HTTPRoute], BackendRef], str]
"""The host name of a backend; empty when there is none."""

_KINDS = {kind.value: kind for kind in PathKind}
_ORDER = {PathKind.EXACT: 0, PathKind.PREFIX: 1, PathKind.REGEX: 2}


def routes_of(service: Backed, port: int, routes: Iterable[Object[HTTPRoute]], resolve: Resolve) -> tuple[Route, ...]:
    """What is attached to this port of this service.

    Args:
        service: the parent.
        port: its port.
        routes: all of the service's namespace, the oldest first: where matches are alike the older route wins.
        resolve: finds backends.
    """
    found = [
        route
        for item in routes
        if any(_refers(parent, service, port) for parent in item.resource.spec.parent_refs)
        for route in _routes(item, resolve)
    ]
    return tuple(sorted(found, key=_precedence))


def _refers(parent: ParentRef, service: Backed, port: int) -> bool:
    kind = "ServiceEntry" if parent.kind == "ServiceEntry" else "Service"
    return (
        (parent.group, parent.kind) in SERVICE_GROUPS
        and service.source.key.kind == kind
        and service.source.key.name == parent.name
        and parent.namespace in ("", service.source.key.namespace)
        and parent.port in (None, port)
    )


def _precedence(route: Route) -> tuple[int, int, bool, int, int]:
    match = route.match
    return (
        _ORDER[match.path_kind],
        -len(match.path),
        not match.method,
        -len(match.headers),
        -len(match.query),
    )


def _routes(item: Object[HTTPRoute], resolve: Resolve) -> Iterator[Route]:
    for number, rule in enumerate(item.resource.spec.rules):
        for position, match in enumerate(rule.any_match):
            name = f"{item.key.namespace}/{item.key.name}.{rule.name or number}.{position}"
            yield _route(name, item, rule, match, resolve)


def _route(name: str, item: Object[HTTPRoute], rule: HTTPRouteRule, match: HTTPRouteMatch, resolve: Resolve) -> Route:
    def backend(one: BackendRef) -> Backend:
        return Backend(resolve(item, one), one.port or 0, one.weight)

    filters = rule.filters
    times, retry = rule.timeouts, rule.retry
    return Route(
        name=name,
        match=_match(match),
        backends=tuple(backend(one) for one in rule.backend_refs),
        request_headers=_headers(next((f.request_header_modifier for f in filters if f.request_header_modifier), None)),
        response_headers=_headers(
            next((f.response_header_modifier for f in filters if f.response_header_modifier), None)
        ),
        redirect=next((_redirect(f.request_redirect) for f in filters if f.request_redirect), None),
        rewrite=next((_rewrite(f.url_rewrite) for f in filters if f.url_rewrite), None),
        mirrors=tuple(
            Mirror(backend(f.request_mirror.backend_ref), _millionths(f.request_mirror))
            for f in filters
            if f.request_mirror
        ),
        timeout=_seconds(times.request),
        try_timeout=_seconds(times.backend_request),
        retry=Retry(retry.attempts, tuple(retry.codes), _seconds(retry.backoff)) if retry else None,
    )


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
