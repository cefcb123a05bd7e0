"""Main's own series."""

from __future__ import annotations

from collections import Counter

from hostmesh.daemon.metrics import xds_metrics
from hostmesh.telemetry.exposition import render
from hostmesh.xds.client import XdsStatus
from hostmesh.xds.counts import XdsCounts


def test_the_stream_to_the_control_plane_is_told_under_ztunnels_names() -> None:
    """Responses and bytes by type URL, ends by reason; each says that it is not a stable name."""
    url = "type.googleapis.com/istio.workload.Address"
    counts = XdsCounts(Counter({url: 2}), Counter({url: 300}), Counter({"Complete": 1}))
    status = XdsStatus(True, True, False, "", 0.0, 1, 2, 3, 4, 5)
    lines = render((), xds_metrics(status, counts)).splitlines()
    assert f'istio_xds_message_total{{url="{url}"}} 2.0' in lines
    assert f'istio_xds_message_bytes_total{{url="{url}"}} 300.0' in lines
    assert 'istio_xds_connection_terminations_total{reason="Complete"} 1.0' in lines
    assert {"hostmesh_xds_connected 1.0", "hostmesh_xds_rejected_resources_total 3.0"} <= set(lines)
    assert all("unstable" in line for line in lines if line.startswith("# HELP istio"))
