"""The documents by which the demo shows its waypoint: they lead somewhere."""

from __future__ import annotations

from pathlib import Path

import yaml
from demo.estate import ADDRESSES
from tests.support.documents import document
from tests.support.roles import inventory_documents

from hostmesh.control.documents.read import read
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate

ROOT = Path(__file__).parents[3]
WAYPOINT = (
    document(
        "Gateway",
        "gatewayClassName: istio-waypoint\nlisteners: [{name: mesh, port: 15008, protocol: HBONE}]",
        "name: wp",
    ),
    document(
        "WorkloadEntry",
        f"address: {ADDRESSES['mesh2']}\nserviceAccount: wp\nports: {{mesh: 15088}}",
        "name: wp-mesh2, labels: {hostmesh.io/node: mesh2, gateway.networking.k8s.io/gateway-name: wp}",
    ),
)


def test_the_rule_and_the_route_are_attached_to_a_service_of_the_inventory() -> None:
    """No document of the demo leads nowhere, and the route goes to the other service."""
    hosts = {}
    for name in ("mesh1", "mesh2", "mesh3"):
        variables = yaml.safe_load((ROOT / "inventories" / "demo" / "host_vars" / f"{name}.yml").read_text())
        hosts[name] = {"ansible_host": ADDRESSES[name], **variables}
    texts = [inventory_documents(hosts), *WAYPOINT]
    texts += [(ROOT / "demo" / "policies" / f"{name}.yaml").read_text() for name in ("get-only", "echo-v1")]
    objects = [item for number, text in enumerate(texts) for item in read(text, f"{number}.yaml")]
    told = translate(objects, MeshConfig(authorizers=(), access_logs=()))
    assert not told.warnings
    (program,) = told.waypoints
    (policy,) = program.policies
    assert policy.hostnames == ("echo.default.mesh.internal",)
    (route,) = program.services[0].ports[0].routes
    assert [backend.hostname for backend in route.backends] == ["echo-v1.default.mesh.internal"]
