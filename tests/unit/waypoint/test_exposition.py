"""Envoy's numbers under Istio's names."""

from __future__ import annotations

from hostmesh.waypoint.exposition import exposition

ENVOY = r"""# TYPE envoy_mesh_istio_requests_total counter
envoy_mesh_istio_requests_total{source_workload_namespace="spiffe://td/ns/prod/sa/x",source_app="",odd="a\"}b"} 3
envoy_mesh_istio_requests_total{destination_app="-",response_flags="-",grpc_response_status=""} 4
envoy_mesh_istio_requests_total{} 1
# TYPE envoy_server_live gauge
envoy_server_live{} 1
"""


def test_ours_are_renamed_and_what_is_missing_is_unknown() -> None:
    """The caller's namespace is the one of its principal; what Envoy counts for itself stays as it is."""
    assert exposition(ENVOY).splitlines() == [
        "# TYPE istio_requests_total counter",
        'istio_requests_total{source_workload_namespace="prod",source_app="unknown",odd="a\\"}b"} 3',
        'istio_requests_total{destination_app="unknown",response_flags="-",grpc_response_status=""} 4',
        "istio_requests_total{} 1",
        "# TYPE envoy_server_live gauge",
        "envoy_server_live{} 1",
    ]
