"""What a DestinationRule may say here."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects, refusals

from hostmesh.control.documents.destination_rule import DestinationRule
from hostmesh.model.service import Scope

BALANCER = "host: web\ntrafficPolicy:\n  loadBalancer:\n"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("host: web", "4: spec.trafficPolicy: traffic policy must have at least one field"),
        (
            BALANCER + "    localityLbSetting: {failoverPriority: [version]}",
            "8: spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority[0]: agents cannot compare 'version'",
        ),
        (BALANCER + "    simple: PASSTHROUGH", "8: spec.trafficPolicy.loadBalancer.simple:"),
        (BALANCER.replace("web", "'*.example.org'") + "    simple: RANDOM", "5: spec.host: '*.example.org' is not"),
        ("host: web\ntrafficPolicy: {tls: {mode: DISABLE}}", "6: spec.trafficPolicy.tls:"),
    ],
)
def test_what_agents_cannot_do_is_refused(spec: str, complaint: str) -> None:
    """With line and field, instead of silently doing something else."""
    [found] = refusals(document("DestinationRule", spec))
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    ("setting", "preferences"),
    [
        ("{}", (Scope.REGION, Scope.ZONE, Scope.SUBZONE)),
        ("{enabled: false}", ()),
        ("{failoverPriority: [topology.istio.io/network, kubernetes.io/hostname]}", (Scope.NETWORK, Scope.NODE)),
    ],
)
def test_preferences(setting: str, preferences: tuple[Scope, ...]) -> None:
    """The labels in their order; the locality if none is named."""
    [rule] = objects(document("DestinationRule", BALANCER + f"    localityLbSetting: {setting}"))
    assert isinstance(rule.resource, DestinationRule)
    assert rule.resource.preferences == preferences
