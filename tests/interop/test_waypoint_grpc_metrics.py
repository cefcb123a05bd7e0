"""Calls of gRPC as a waypoint counts them: with their status, which HTTP does not show, and the agent's own baggage."""

from __future__ import annotations

import pytest
from tests.interop.test_waypoint_grpc_route import apps, call, mesh, plain
from tests.interop.test_waypoint_telemetry import REQUESTS, samples
from tests.support.behind_waypoint import Services
from tests.support.grpc_app import GrpcApp

pytestmark = pytest.mark.interop

__all__ = ["apps", "mesh"]  # fixtures


def test_calls_are_counted_with_their_status(mesh: Services, apps: dict[str, GrpcApp]) -> None:
    """Both are 200 for HTTP; the caller is who its agent says, as the certificate proves."""
    with mesh.waypoint() as front:
        assert call(front, *plain(["/shop.Cart/Add", "/shop.Cart/Fail"])) == ["cart!", "ABORTED"]
        front.running.until(lambda: len(samples(front.running, REQUESTS)) == 2)
        found = {labels["grpc_response_status"]: labels for labels, _ in samples(front.running, REQUESTS)}
        assert set(found) == {"0", "10"}
        for labels in found.values():
            assert (labels["request_protocol"], labels["response_code"]) == ("grpc", "200")
            assert (labels["source_workload"], labels["source_workload_namespace"]) == ("alice", "default")
            assert labels["destination_workload"] == "cart-1"
