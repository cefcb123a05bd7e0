"""What a WorkloadGroup must say."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects, refusals

TEMPLATE = "template: {serviceAccount: web}\n"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("probe: {tcpSocket: {port: 80}}", "4: spec.template: required"),
        (TEMPLATE + "probe: {tcpSocket: {port: 0}}", "6: spec.probe.tcpSocket.port:"),
        (TEMPLATE + "probe: {periodSeconds: -1, tcpSocket: {port: 80}}", "6: spec.probe.periodSeconds:"),
        (TEMPLATE + "probe: {httpGet: {port: 80, scheme: FTP}}", "6: spec.probe.httpGet.scheme:"),
        (TEMPLATE + "probe: {httpGet: {port: 80, httpHeaders: [{name: 'a b'}]}}", "6: spec.probe.httpGet.httpHeaders"),
        (TEMPLATE + "probe: {exec: {command: []}}", "6: spec.probe.exec.command:"),
        (TEMPLATE + "probe: {}", "6: spec.probe: a probe asks in one way, not nothing"),
        (
            TEMPLATE + "probe: {tcpSocket: {port: 80}, grpc: {port: 81}}",
            "6: spec.probe: a probe asks in one way, not tcpSocket and grpc",
        ),
        ("template: {serviceAccount: A_B}", "5: spec.template.serviceAccount: 'A_B' is not a service account"),
        ("template: {ports: {Http_: 80}}", "5: spec.template.ports.Http_: the port name"),
        (TEMPLATE + "metadata: {labels: {'a b': c}}", "6: spec.metadata.labels.a b: the key"),
    ],
)
def test_mistakes_are_refused(spec: str, complaint: str) -> None:
    """With line and field."""
    [found] = refusals(document("WorkloadGroup", spec))
    assert found.startswith(complaint)


def test_it_registers_nobody() -> None:
    """As in istiod, a group alone is no workload; its author is told what is."""
    [group] = objects(document("WorkloadGroup", TEMPLATE + "probe: {httpGet: {port: 80, path: /ready}}"))
    [warning] = group.warnings
    assert "apply a WorkloadEntry for each, with the annotation istio.io/autoRegistrationGroup" in warning.why
