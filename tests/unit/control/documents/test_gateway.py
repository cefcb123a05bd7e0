"""What the Gateway of a waypoint, or of another network, must say."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals

LISTENER = "listeners: [{name: mesh, port: 15008, protocol: HBONE}]"
REMOTE = "gatewayClassName: istio-remote\naddresses: [{value: 192.0.2.7}]"
LABELS = "labels: {topology.istio.io/network: east}"
ANSWERS = "annotations: {gateway.istio.io/service-account: eastwest}"


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
        (f"{REMOTE}\n{LISTENER}", f"name: gw, {LABELS}, {ANSWERS}", ""),
        (
            f"{REMOTE}\n{LISTENER}",
            f"name: gw, {ANSWERS}",
            "3: metadata.labels.topology.istio.io/network: needed: the network that is behind",
        ),
        (
            f"{REMOTE}\n{LISTENER}",
            f"name: gw, {LABELS}",
            "3: metadata.annotations.gateway.istio.io/service-account: needed: the service account",
        ),
        (
            f"gatewayClassName: istio-remote\n{LISTENER}",
            f"name: gw, {LABELS}, {ANSWERS}",
            "4: spec.addresses: needed: where the gateway is reached",
        ),
        (
            f"{REMOTE}\nlisteners: [{{name: xds, port: 15012, protocol: TLS}}]",
            f"name: gw, {LABELS}, {ANSWERS}",
            "7: spec.listeners: 0 listeners of protocol HBONE; exactly one is needed",
        ),
    ],
)
def test_refused(spec: str, metadata: str, complaint: str) -> None:
    """With line and field."""
    said = refusals(document("Gateway", spec, metadata))
    assert (said[0] if said else "").startswith(complaint)
    assert bool(said) is bool(complaint)
