"""Istio's metrics of a waypoint: `istio_requests_total` and its kin, counted by Envoy's stats access logger.

Envoy has none of Istio's own filters, but can count what an access log sees, with any of its fields as tags. Who
calls is what the tunnel proves (principal) and what its baggage says (workload, service, version, cluster).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.model.telemetry import MetricChange
from hostmesh.model.waypoint import WaypointService
from hostmesh.waypoint import names
from hostmesh.waypoint.rbac import PEER_PRINCIPAL
from hostmesh.waypoint.shape import Json, typed

PREFIX = "mesh"
"""Of the names in Envoy, where all else that it counts has other prefixes."""

MAX_SERIES = 2048
"""Of each kind and port; baggage is a peer's word, and series beyond these are not counted."""

_SOURCE_FIELDS = {
    "workload": "k8s[.](?:deployment|pod|job|cronjob)[.]name",
    "service": "service[.]name",
    "revision": "service[.]version",
    "cluster": "k8s[.]cluster[.]name",
}
_LONGEST = 63
_BAGGAGE = "hostmesh.baggage"


@dataclass(frozen=True, slots=True)
class _Metric:
    """`value` is a histogram's, in `unit`; without it requests or connections are counted by `count`."""

    name: str
    value: str = ""
    unit: str = ""
    count: str = ""
    moment: str = ""


_HTTP = {
    "REQUEST_COUNT": _Metric("istio_requests_total"),
    "REQUEST_DURATION": _Metric("istio_request_duration_milliseconds", "%DURATION%", "Milliseconds"),
    "REQUEST_SIZE": _Metric("istio_request_bytes", "%BYTES_RECEIVED%", "Bytes"),
    "RESPONSE_SIZE": _Metric("istio_response_bytes", "%BYTES_SENT%", "Bytes"),
}
_TCP = {
    "TCP_OPENED_CONNECTIONS": _Metric("istio_tcp_connections_opened_total", moment="TcpUpstreamConnected"),
    "TCP_CLOSED_CONNECTIONS": _Metric("istio_tcp_connections_closed_total", moment="TcpConnectionEnd"),
    "TCP_SENT_BYTES": _Metric("istio_tcp_sent_bytes_total", count="%BYTES_SENT%", moment="TcpConnectionEnd"),
    "TCP_RECEIVED_BYTES": _Metric(
        "istio_tcp_received_bytes_total", count="%BYTES_RECEIVED%", moment="TcpConnectionEnd"
    ),
}


def on_tunnel() -> Json:
    """A filter that takes apart what a tunnel's baggage says about its caller."""
    rules = [
        {
            "metadata_namespace": _BAGGAGE,
            "key": key,
            # what does not match is replaced as a whole by nothing
            "regex_value_rewrite": {"pattern": {"regex": f"(?:.*,)?{member}=([^,]*).*|.*"}, "substitution": r"\1"},
        }
        for key, member in _SOURCE_FIELDS.items()
    ]
    return typed(
        _BAGGAGE,
        "filters.http.header_to_metadata.v3.Config",
        request_rules=[{"header": "baggage", "on_header_present": rule} for rule in rules],
    )


def source_state() -> list[tuple[str, str, str]]:
    """Key, factory and value of what goes along with the connection inside the tunnel."""
    return [
        (_state(key), "envoy.hashable_string", f"%DYNAMIC_METADATA({_BAGGAGE}:{key}):{_LONGEST}%")
        for key in _SOURCE_FIELDS
    ]


def http_metrics(service: WaypointService | None, changes: Iterable[MetricChange], *, grpc: bool) -> list[Json]:
    """Loggers for an HTTP chain; where there may be calls of `grpc`, they are told apart by their content type."""
    changes = tuple(changes)
    tags = {
        **_common(service),
        "request_protocol": "http",
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
    }
    if not grpc:
        return _logger(_HTTP, tags, changes, None)
    header: Json = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    header["treat_missing_header_as_empty"] = True
    call, other = ({"header_filter": {"header": one}} for one in (header, {**header, "invert_match": True}))
    calls = {**tags, "request_protocol": "grpc", "grpc_response_status": "%GRPC_STATUS_NUMBER%"}
    return [*_logger(_HTTP, tags, changes, other), *_logger(_HTTP, calls, changes, call)]


def tcp_metrics(service: WaypointService | None, changes: Iterable[MetricChange]) -> list[Json]:
    """Loggers for a TCP chain, one for each moment at which something is counted."""
    changes = tuple(changes)
    tags = {**_common(service), "request_protocol": "tcp", "response_flags": "%RESPONSE_FLAGS%"}
    made = []
    for moment in ("TcpUpstreamConnected", "TcpConnectionEnd"):
        at = {name: metric for name, metric in _TCP.items() if metric.moment == moment}
        made += _logger(at, tags, changes, {"log_type_filter": {"types": [moment]}})
    return made


def _common(service: WaypointService | None) -> dict[str, str]:
    hostname = service.hostname if service is not None else "unknown"
    workload, principal = _endpoint("owner"), f"%FILTER_STATE({PEER_PRINCIPAL}:PLAIN)%"
    return {
        "reporter": "waypoint",
        "source_workload": _of_source("workload"),
        "source_canonical_service": _of_source("service"),
        "source_canonical_revision": _of_source("revision"),
        # the exposition shows the namespace of it: what is proven, not what baggage says
        "source_workload_namespace": principal,
        "source_principal": principal,
        "source_app": _of_source("service"),
        "source_version": _of_source("revision"),
        "source_cluster": _of_source("cluster"),
        "destination_service": hostname,
        "destination_service_namespace": service.namespace if service is not None else "unknown",
        "destination_service_name": service.name or hostname if service is not None else "unknown",
        "destination_workload": workload,
        "destination_canonical_service": _endpoint("service"),
        "destination_canonical_revision": _endpoint("revision"),
        "destination_workload_namespace": _endpoint("namespace"),
        "destination_principal": _endpoint("principal"),
        "destination_app": _endpoint("service"),
        "destination_version": _endpoint("revision"),
        "destination_cluster": _endpoint("cluster"),
        "connection_security_policy": "mutual_tls",
    }


def _logger(
    metrics: dict[str, _Metric], tags: dict[str, str], changes: tuple[MetricChange, ...], condition: Json | None
) -> list[Json]:
    counters: list[Json] = []
    histograms: list[Json] = []
    for name, metric in metrics.items():
        applying = [one for one in changes if one.metric in ("", name)]
        if next((one.disabled for one in reversed(applying) if one.disabled is not None), False):
            continue
        stat: Json = {"name": metric.name, "tags": _tags(tags, applying)}
        if metric.value:
            histograms.append({"stat": stat, "unit": metric.unit, "value_format": metric.value})
        elif metric.count:
            counters.append({"stat": stat, "value_format": metric.count})
        else:
            counters.append({"stat": stat, "value_fixed": 1})
    if not counters and not histograms:
        return []
    scope: Json = {"prefix": PREFIX, "max_counters": MAX_SERIES, "max_histograms": MAX_SERIES}
    made = typed(
        "envoy.access_loggers.stats",
        "access_loggers.stats.v3.Config",
        stats_scope=scope,
        counters=counters,
        histograms=histograms,
    )
    return [{**made, "filter": condition}] if condition is not None else [made]


def _tags(tags: dict[str, str], changes: Iterable[MetricChange]) -> list[Json]:
    changed = dict(tags)
    for change in changes:
        for name, value in change.tags:
            if value:
                changed[name] = f"%CEL({value})%"
            else:
                changed.pop(name, None)
    return [{"name": name, "value_format": value} for name, value in changed.items()]


def _of_source(key: str) -> str:
    return f"%FILTER_STATE({_state(key)}:PLAIN)%"


def _state(key: str) -> str:
    return f"hostmesh.source.{key}"


def _endpoint(key: str) -> str:
    return f"%UPSTREAM_METADATA({names.METADATA}:{key})%"
