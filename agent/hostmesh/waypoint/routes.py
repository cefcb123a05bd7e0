"""HTTPRoutes and GRPCRoutes as Envoy's route configuration (Gateway API routes of a mesh service)."""

from __future__ import annotations

import re

from hostmesh.model.waypoint import (
    Backend,
    Cors,
    HeaderChange,
    MatchText,
    PathKind,
    Redirect,
    Retry,
    Rewrite,
    Route,
    RouteMatch,
    WaypointPort,
)
from hostmesh.waypoint import names
from hostmesh.waypoint.own_headers import RETRY_HEADER
from hostmesh.waypoint.shape import Json, duration, per_filter

RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""What is tried again unasked (Istio): never what the backend may already have done."""
_REDIRECTS = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT"}
_REDIRECTS[308] = "PERMANENT_REDIRECT"
_PORTS = {"http": 80, "https": 443}
"""Where another scheme leads unless a port is named; not written behind a host's name (Gateway API)."""


def http_routes(hostname: str, port: WaypointPort) -> list[Json]:
    """The routes of a port, in order; without any, everything goes to the service itself."""
    if not port.routes:
        everything = {"cluster": names.cluster(port.port, hostname), "timeout": "0s", "retry_policy": _retry(None, 0)}
        return [{"name": "default", "match": {"prefix": "/"}, "route": everything}]
    return [_route(route) for route in port.routes]


def _route(route: Route) -> Json:
    made: Json = {"name": route.name, "match": _match(route.match)}
    made |= _header_changes(route.request_headers, route.response_headers)
    if route.cors is not None:
        made["typed_per_filter_config"] = {"envoy.filters.http.cors": _cors(route.cors)}
    if route.redirect is not None:
        made["redirect"] = _redirect(route.redirect, route.match)
        return made
    if not any(backend.weight for backend in route.backends):
        made["direct_response"] = {"status": 500}
        return made
    action = _destination(route.backends)
    action["timeout"] = duration(route.timeout)
    if route.retry is not None and not route.retry.attempts:
        made["request_headers_to_remove"] = [*made.get("request_headers_to_remove", ()), RETRY_HEADER]
        if route.try_timeout:  # Envoy has it for policies of retries only
            action["timeout"] = duration(min(one for one in (route.timeout, route.try_timeout) if one))
    else:
        action["retry_policy"] = _retry(route.retry, route.try_timeout)
    action["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    if route.rewrite is not None:
        action |= _rewrite(route.rewrite, route.match)
    if route.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": _cluster(mirror.backend),
                "runtime_fraction": {"default_value": {"numerator": mirror.millionths, "denominator": "MILLION"}},
            }
            for mirror in route.mirrors
        ]
    made["route"] = action
    return made


def _cluster(backend: Backend) -> str:
    return names.cluster(backend.port, backend.hostname) if backend.hostname else names.MISSING


def _destination(backends: tuple[Backend, ...]) -> Json:
    first = backends[0]
    if len(backends) == 1 and not _header_changes(first.request_headers, first.response_headers):
        return {"cluster": _cluster(first)}
    return {"weighted_clusters": {"clusters": weighted(backends)}}


def weighted(backends: tuple[Backend, ...]) -> list[Json]:
    """Shares; those of weight 0 are left out."""
    return [
        {
            "name": _cluster(one),
            "weight": one.weight,
            **_header_changes(one.request_headers, one.response_headers),
        }
        for one in backends
        if one.weight
    ]


def _match(match: RouteMatch) -> Json:
    made: Json = {}
    if match.path_kind is PathKind.EXACT:
        made["path"] = match.path
    elif match.path_kind is PathKind.REGEX:
        made["safe_regex"] = {"regex": match.path}
    elif match.path == "/":
        made["prefix"] = "/"
    else:
        made["path_separated_prefix"] = match.path.rstrip("/")
    headers = [_text(one) for one in match.headers]
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        made["headers"] = headers
    if match.query:
        made["query_parameters"] = [_text(one) for one in match.query]
    return made


def _text(match: MatchText) -> Json:
    value = {"safe_regex": {"regex": match.value}} if match.regex else {"exact": match.value}
    return {"name": match.name, "string_match": value}


def _cors(cors: Cors) -> Json:
    made: Json = {
        "allow_origin_string_match": [_origin(one) for one in cors.origins],
        "allow_credentials": cors.credentials,
        "max_age": str(cors.max_age),
    }
    lists = {"allow_methods": cors.methods, "allow_headers": cors.headers, "expose_headers": cors.exposed}
    made |= {name: ", ".join(values) for name, values in lists.items() if values}
    return per_filter("filters.http.cors.v3.CorsPolicy", **made)


def _origin(text: str) -> Json:
    if text == "*":
        return {"safe_regex": {"regex": ".*"}}
    if "*" not in text:
        return {"exact": text}
    return {"safe_regex": {"regex": ".+".join(re.escape(part) for part in text.split("*"))}}


def _header_changes(request: HeaderChange, response: HeaderChange) -> Json:
    made: Json = {}
    for side, change in (("request", request), ("response", response)):
        added = [
            {"header": {"key": key, "value": value}, "append_action": action}
            for pairs, action in ((change.set, "OVERWRITE_IF_EXISTS_OR_ADD"), (change.add, "APPEND_IF_EXISTS_OR_ADD"))
            for key, value in pairs
        ]
        if added:
            made[f"{side}_headers_to_add"] = added
        if change.remove:
            made[f"{side}_headers_to_remove"] = list(change.remove)
    return made


def _redirect(redirect: Redirect, match: RouteMatch) -> Json:
    made: Json = {"response_code": _REDIRECTS[redirect.status]}
    if redirect.scheme:
        made["scheme_redirect"] = redirect.scheme
    if redirect.hostname:
        made["host_redirect"] = redirect.hostname
    port = redirect.port or _PORTS.get(redirect.scheme, 0)
    if port and not (redirect.hostname and port == _PORTS[redirect.scheme or "http"]):
        made["port_redirect"] = port
    if redirect.prefix is not None:
        made["regex_rewrite"] = _other_prefix(match.path, redirect.prefix)
    elif redirect.path:
        made["path_redirect"] = redirect.path
    return made


def _rewrite(rewrite: Rewrite, match: RouteMatch) -> Json:
    made: Json = {}
    if rewrite.hostname:
        made["host_rewrite_literal"] = rewrite.hostname
    if rewrite.path:
        made["regex_rewrite"] = {"pattern": {"regex": ".*"}, "substitution": _literal(rewrite.path)}
    elif rewrite.prefix is not None:
        made["regex_rewrite"] = _other_prefix(match.path, rewrite.prefix)
    return made


def _other_prefix(old: str, new: str) -> Json:
    """By expression, because the match ends before a slash that must stay when there is one, and only then."""
    old, new = old.rstrip("/"), new.rstrip("/")
    return {
        "pattern": {"regex": f"^{re.escape(old)}(/?(.*))$"},
        "substitution": _literal(new) + r"\1" if new else r"/\2",
    }


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")


def _retry(retry: Retry | None, try_timeout: float) -> Json:
    made: Json = {
        # whoever asks for retries means lost connections and late tries, too (Gateway API)
        "retry_on": RETRY_ON if retry is None else f"{RETRY_ON},reset",
        "num_retries": 2 if retry is None else retry.attempts,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if retry is not None and retry.codes:
        made["retriable_status_codes"] = list(retry.codes)
    if retry is not None and retry.backoff:
        made["retry_back_off"] = {"base_interval": duration(retry.backoff)}
    if try_timeout:
        made["per_try_timeout"] = duration(try_timeout)
    return made
