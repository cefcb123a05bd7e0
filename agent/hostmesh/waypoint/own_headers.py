"""Envoy's own request headers (`x-envoy-*`): what callers send is dropped, and lost connections are retried by one.

A tunnel to an endpoint is opened when the first request is already on its way, so a connection that fails there looks
to Envoy like one that was lost, which it does not try again by itself: the endpoint may have acted. Methods that may be
repeated (RFC 9110 §9.2.2) are.
"""

from __future__ import annotations

from hostmesh.waypoint.shape import Json, message, typed

RETRY_HEADER = "x-envoy-retry-on"
_REPEATABLE = {"google_re2": {}, "regex": "GET|HEAD|OPTIONS|TRACE|PUT|DELETE"}


def filters() -> list[Json]:
    """The first ones of all."""
    dropped = {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}}
    return [
        typed("hostmesh.drop_own_headers", "filters.http.header_mutation.v3.HeaderMutation", **_requests(dropped)),
        typed(
            "hostmesh.retry_lost_connections",
            "common.matching.v3.ExtensionWithMatcher",
            xds_matcher=_unless_repeatable(),
            extension_config=typed(
                "envoy.filters.http.header_mutation",
                "filters.http.header_mutation.v3.HeaderMutation",
                **_requests({"append": {"header": {"key": RETRY_HEADER, "value": "reset"}}}),
            ),
        ),
    ]


def _requests(mutation: Json) -> Json:
    return {"mutations": {"request_mutations": [mutation]}}


def _unless_repeatable() -> Json:
    """The filter is skipped for other methods."""
    method = {
        "name": "method",
        "typed_config": message("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=":method"),
    }
    skip = {"name": "skip", "typed_config": message("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")}
    repeatable = {"single_predicate": {"input": method, "value_match": {"safe_regex": _REPEATABLE}}}
    return {
        "matcher_list": {
            "matchers": [{"predicate": {"not_matcher": repeatable}, "on_match": {"action": skip}}],
        }
    }
