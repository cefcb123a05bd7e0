"""What a waypoint's Gateway must say."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals

LISTENER = "listeners: [{name: mesh, port: 15008, protocol: HBONE}]"


@pytest.mark.parametrize(
    ("spec", "metadata", "complaint"),
    [
        (f"gatewayClassName: istio-waypoint\n{LISTENER}", "name: wp", ""),
        (
            f"gatewayClassName: nginx\n{LISTENER}",
            "name: wp",
            "5: spec.gatewayClassName: the class 'nginx' is not served",
        ),
        (
            "gatewayClassName: istio-waypoint\nlisteners: [{name: h, port: 80, protocol: HTTP}]",
            "name: wp",
            "6: spec.listeners[0].protocol: a waypoint speaks HBONE only, not 'HTTP'",
        ),
        (
            f"gatewayClassName: istio-waypoint\n{LISTENER}",
            "name: none",
            "3: metadata.name: a waypoint is named by a DNS label, and not 'none', which opts out",
        ),
        (
            f"gatewayClassName: istio-waypoint\n{LISTENER}",
            "name: wp, labels: {istio.io/waypoint-for: pods}",
            "3: metadata.labels.istio.io/waypoint-for: 'pods' is unknown",
        ),
        (
            f"gatewayClassName: istio-waypoint\n{LISTENER}\naddresses: [{{value: web.example.org}}]",
            "name: wp",
            "7: spec.addresses[0].value: 'web.example.org' is not of type IPAddress",
        ),
    ],
)
def test_refused(spec: str, metadata: str, complaint: str) -> None:
    """With line and field."""
    said = refusals(document("Gateway", spec, metadata))
    assert (said[0] if said else "").startswith(complaint)
    assert bool(said) is bool(complaint)
