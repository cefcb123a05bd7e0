"""Rules of near endpoints."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.model.service import LoadBalancing, LoadBalancingMode, Scope

SERVICE = """\
hosts: [web.mesh.internal]
ports: [{number: 80, name: http, protocol: TCP}]
resolution: STATIC
location: MESH_INTERNAL
workloadSelector: {labels: {app: web}}
"""
NEAR = LoadBalancing(LoadBalancingMode.FAILOVER, (Scope.REGION, Scope.ZONE, Scope.SUBZONE))
ZONE = LoadBalancing(LoadBalancingMode.FAILOVER, (Scope.NETWORK, Scope.REGION, Scope.ZONE))


def rule(host: str, name: str = "near", namespace: str = "default") -> str:
    spec = f"host: {host}\ntrafficPolicy: {{loadBalancer: {{localityLbSetting: {{}}}}}}"
    return document("DestinationRule", spec, f"name: {name}, namespace: {namespace}")


@pytest.mark.parametrize(
    ("rules", "metadata", "balancing", "warning"),
    [
        ([], "name: web", None, ""),
        ([rule("web.mesh.internal")], "name: web", NEAR, ""),
        ([rule("web")], "name: web", NEAR, ""),
        (
            [rule("web")],
            "name: web, annotations: {networking.istio.io/traffic-distribution: PreferClose}",
            ZONE,
            "",
        ),
        ([rule("other")], "name: web", None, "there is no service 'other' in the namespace default"),
        ([rule("web", namespace="prod")], "name: web", None, "there is no service 'web' in the namespace prod"),
        (
            [rule("web"), rule("web", "second")],
            "name: web",
            NEAR,
            "DestinationRule default/near at doc1.yaml:1 is",
        ),
    ],
)
def test_who_decides(rules: list[str], metadata: str, balancing: LoadBalancing | None, warning: str) -> None:
    """The service's own annotation, else the oldest rule of its namespace for it; useless rules are named."""
    mesh = translate(objects(document("ServiceEntry", SERVICE, metadata), *rules), MeshConfig())
    [service] = mesh.services
    assert service.load_balancing == balancing
    said = [one.why for one in mesh.warnings]
    assert any(why.startswith(warning) for why in said) if warning else not said
