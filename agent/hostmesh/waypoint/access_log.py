"""What a waypoint says about each request: by default one JSON line with ztunnel's and Istio's field names."""

from __future__ import annotations

from collections.abc import Iterable

from hostmesh.model.telemetry import AccessLog
from hostmesh.waypoint.names import CONNECT_TERMINATE
from hostmesh.waypoint.rbac import PEER_PRINCIPAL
from hostmesh.waypoint.shape import Json, typed

_RBAC = "envoy.filters.http.rbac"
_FIELDS = {
    "src.identity": f"%FILTER_STATE({PEER_PRINCIPAL}:PLAIN)%",
    "src.addr": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "dst.addr": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "dst.workload": "%UPSTREAM_METADATA(hostmesh:workload)%",
    "dst.namespace": "%UPSTREAM_METADATA(hostmesh:namespace)%",
    "dst.identity": "%UPSTREAM_METADATA(hostmesh:principal)%",
    "authority": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_recv": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "audited": "%DYNAMIC_METADATA(envoy.common:access_log_hint)%",
    "dry_run.allow": f"%DYNAMIC_METADATA({_RBAC}:istio_dry_run_allow_shadow_engine_result)%",
    "dry_run.deny": f"%DYNAMIC_METADATA({_RBAC}:istio_dry_run_deny_shadow_engine_result)%",
    "start_time": "%START_TIME%",
}

_OF_TUNNEL = (
    *("src.addr", "authority", "response_code", "response_code_details", "response_flags", "duration_ms"),
    "start_time",
)

_CEL = ("enable_string_conversion", "enable_string_concat", "enable_string_functions")

_AT_THE_END: Json = {"log_type_filter": {"types": ["TcpConnectionEnd"]}}
"""Metrics hear of connections when they begin, too."""


def access_logs(chain: str, logs: Iterable[AccessLog], *, tcp: bool = False) -> list[Json]:
    """To the standard output, which is the journal's; `chain` tells which port of which service."""
    return [_access_log(chain, one, [_AT_THE_END] if tcp else []) for one in logs]


def refused_tunnels(logs: Iterable[AccessLog]) -> list[Json]:
    """Callers that got no tunnel, whose requests no other log sees; not where all logs are off."""
    if not list(logs):
        return []
    kept = {name: _FIELDS[name] for name in _OF_TUNNEL}
    said = {"waypoint.chain": CONNECT_TERMINATE, "src.identity": "%DOWNSTREAM_PEER_URI_SAN%", **kept}
    made = typed(
        "envoy.access_loggers.stdout", "access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": said}
    )
    refused = {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "hostmesh.refused_tunnels"}}}
    return [{**made, "filter": {"status_code_filter": refused}}]


def _access_log(chain: str, log: AccessLog, conditions: list[Json]) -> Json:
    said: Json = {"json_format": {"waypoint.chain": chain, **_FIELDS}}
    if log.text:
        said = {"text_format_source": {"inline_string": log.text if log.text.endswith("\n") else f"{log.text}\n"}}
    elif log.labels:
        said = {"json_format": dict(log.labels)}
    made = typed("envoy.access_loggers.stdout", "access_loggers.stream.v3.StdoutAccessLog", log_format=said)
    if log.filter:
        expression = typed(
            "envoy.access_loggers.extension_filters.cel",
            "access_loggers.filters.cel.v3.ExpressionFilter",
            expression=log.filter,
            cel_config=dict.fromkeys(_CEL, True),
        )
        conditions = [*conditions, {"extension_filter": expression}]
    if conditions:
        made["filter"] = conditions[0] if len(conditions) == 1 else {"and_filter": {"filters": conditions}}
    return made
