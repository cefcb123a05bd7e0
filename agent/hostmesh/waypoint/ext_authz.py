"""External authorizers as Envoy's filters (Istio CUSTOM policies): rules mark a request, the marked ones are asked for.

Both kinds are told who is calling as Istio's own authorizers expect it, in `x-forwarded-client-cert`.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostmesh.model.waypoint import ExtAuthz
from hostmesh.waypoint import matchers, names
from hostmesh.waypoint.own_headers import XFCC
from hostmesh.waypoint.rbac import PEER_PRINCIPAL
from hostmesh.waypoint.shape import Json, duration, typed

_RBAC = "filters.http.rbac.v3.RBAC"
_CALLER = (XFCC, f"URI=%FILTER_STATE({PEER_PRINCIPAL}:PLAIN)%")


def filters(one: ExtAuthz) -> list[Json]:
    """Rules that only mark a request, and the question about the marked ones."""
    made: Json = {
        **(_grpc(one) if one.grpc else _http(one)),
        "transport_api_version": "V3",
        "failure_mode_allow": one.fail_open,
        "clear_route_cache": one.clear_route_cache,
        "status_on_error": {"code": one.status_on_error},
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{"key": f"{shadow_prefix(one.name)}shadow_effective_policy_id"}],
            "value": {"string_match": {"prefix": "ns["}},
        },
    }
    if one.body is not None:
        made["with_request_body"] = {
            "max_request_bytes": one.body.max_bytes,
            "allow_partial_message": one.body.partial,
            "pack_as_bytes": one.body.as_bytes,
        }
    return [
        typed(names.custom(one.name, "rbac"), _RBAC),
        typed(names.custom(one.name, "ext_authz"), "filters.http.ext_authz.v3.ExtAuthz", **made),
    ]


def shadow_prefix(authorizer: str) -> str:
    """What tells the findings of one authorizer's rules from another's."""
    return f"istio_ext_authz_{authorizer}_"


def _grpc(one: ExtAuthz) -> Json:
    return {
        "grpc_service": {
            "envoy_grpc": {"cluster_name": names.authorizer(one.name)},
            "timeout": duration(one.timeout),
            "initial_metadata": [_header(*_CALLER)],
        }
    }


def _http(one: ExtAuthz) -> Json:
    service: Json = {
        "server_uri": {
            "uri": f"http://{names.host_port(one.address, one.port)}",
            "cluster": names.authorizer(one.name),
            "timeout": duration(one.timeout),
        },
        "path_prefix": one.path_prefix,
        "authorization_request": {
            "headers_to_add": [_header(*pair) for pair in (_CALLER, *one.additional_headers)],
        },
    }
    answers = {
        "allowed_upstream_headers": one.upstream_headers,
        "allowed_client_headers_on_success": one.downstream_headers,
        "allowed_client_headers": one.denied_headers,
    }
    if any(answers.values()):
        service["authorization_response"] = {name: _patterns(values) for name, values in answers.items() if values}
    return {
        "http_service": service,
        "allowed_headers": _patterns(("authorization", *one.include_headers)),
    }


def _header(name: str, value: str) -> Json:
    return {"key": name, "value": value}


def _patterns(values: Iterable[str]) -> Json:
    return {"patterns": [matchers.text(value, ignore_case=True) for value in values]}
