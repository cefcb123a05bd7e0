"""Headers of requests that are the proxy's own: what callers send of them is dropped.

`x-envoy-*` gives orders to Envoy, and `x-forwarded-client-cert` says who calls (Istio's annotation of Gateways).

A tunnel to an endpoint is opened when the first request is already on its way, so a connection that fails there looks
to Envoy like one that was lost, which it does not try again by itself: the endpoint may have acted. Methods that may be
repeated (RFC 9110 §9.2.2) are.
"""

from __future__ import annotations

from hostmesh.model.waypoint import WaypointProgram
from hostmesh.waypoint.rbac import PEER_PRINCIPAL
from hostmesh.waypoint.shape import Json, message, typed

_MUTATION = "filters.http.header_mutation.v3.HeaderMutation"
RETRY_HEADER = "x-envoy-retry-on"
XFCC = "x-forwarded-client-cert"
_REPEATABLE = {"google_re2": {}, "regex": "GET|HEAD|OPTIONS|TRACE|PUT|DELETE"}


def filters(program: WaypointProgram) -> list[Json]:
    """The first ones of all."""
    changes: list[Json] = [{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}}]
    if program.tells_caller:
        value = f"By={program.identity};URI=%FILTER_STATE({PEER_PRINCIPAL}:PLAIN)%"
        changes.append(_set(XFCC, value))
    return [
        typed("hostmesh.own_headers", _MUTATION, mutations={"request_mutations": changes}),
        typed(
            "hostmesh.retry_lost_connections",
            "common.matching.v3.ExtensionWithMatcher",
            xds_matcher=_unless_repeatable(),
            extension_config=typed(
                "envoy.filters.http.header_mutation",
                _MUTATION,
                mutations={"request_mutations": [_set(RETRY_HEADER, "reset")]},
            ),
        ),
    ]


def _set(name: str, value: str) -> Json:
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


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
