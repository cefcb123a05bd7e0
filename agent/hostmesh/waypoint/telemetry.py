"""What a waypoint says about each request: one JSON line with ztunnel's and Istio's field names."""

from __future__ import annotations

from hostmesh.waypoint.rbac import PEER_PRINCIPAL
from hostmesh.waypoint.shape import Json, typed

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
    "start_time": "%START_TIME%",
}


def access_log(chain: str) -> Json:
    """To the standard output, which is the journal's; `chain` tells which port of which service."""
    return typed(
        "envoy.access_loggers.stdout",
        "access_loggers.stream.v3.StdoutAccessLog",
        log_format={"json_format": {"waypoint.chain": chain, **_FIELDS}},
    )
