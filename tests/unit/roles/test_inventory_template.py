"""The inventory's workloads as documents: what the workload role registers on the control plane."""

from __future__ import annotations

from tests.support.roles import inventory_documents

from hostmesh.control.documents.read import check_together, read
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate

HOSTS = {
    "mesh1": {"ansible_host": "10.0.0.1", "hostmesh_workloads": [{"name": "web", "ports": {"http": 8080}}]},
    "mesh2": {
        "ansible_host": "10.9.9.9",
        "hostmesh_address": "10.0.0.2",
        "hostmesh_workloads": [
            {"name": "web", "ports": {"http": 8080}},
            {"name": "batch", "namespace": "jobs", "service_account": "night", "labels": {"tier": "back"}},
            {"name": "boxed", "address": "10.1.0.7", "capture": {"netns": "boxed"}},
        ],
    },
    "mesh3": {"ansible_host": "10.0.0.3"},
}


def test_workloads_and_services_of_an_inventory() -> None:
    """One workload for each entry of each host; one service over all hosts; clients have none."""
    objects = read(inventory_documents(HOSTS), "inventory.yaml")
    assert not list(check_together(objects))
    mesh = translate(objects, MeshConfig())
    assert {(w.namespace, w.name, w.node, w.service_account, str(w.addresses[0])) for w in mesh.workloads} == {
        ("default", "web-mesh1", "mesh1", "web", "10.0.0.1"),
        ("default", "web-mesh2", "mesh2", "web", "10.0.0.2"),
        ("jobs", "batch-mesh2", "mesh2", "night", "10.0.0.2"),
        ("default", "boxed-mesh2", "mesh2", "boxed", "10.1.0.7"),
    }
    assert [service.hostname for service in mesh.services] == ["web.default.mesh.internal"]
    assert not mesh.warnings


def test_for_istiod_every_workload_asks_for_hbone() -> None:
    """It knows nothing of hosts: the annotation is what makes other proxies use a tunnel."""
    documents = read(inventory_documents(HOSTS, "istio"), "mesh.yaml")
    workloads = [one for one in documents if one.key.kind == "WorkloadEntry"]
    assert len(workloads) == 4
    assert all(one.resource.metadata.annotations == {"ambient.istio.io/redirection": "enabled"} for one in workloads)


def test_an_inventory_without_workloads() -> None:
    """A host may be in the mesh before its services are."""
    assert not read(inventory_documents({"mesh3": HOSTS["mesh3"]}), "inventory.yaml")


def test_services_and_workloads_use_waypoints() -> None:
    """The service by default, its workloads where that is asked for; a waypoint of another namespace by its name."""
    workloads = [
        {"name": "web", "ports": {"http": 8080}, "waypoint": "wp"},
        {"name": "api", "ports": {"http": 8081}, "waypoint": "infra/wp", "waypoint_for": "all"},
        {"name": "old", "ports": {"http": 8082}, "waypoint": "none", "waypoint_for": "workload"},
    ]
    read_ = read(
        inventory_documents({"mesh1": {"ansible_host": "10.0.0.1", "hostmesh_workloads": workloads}}), "inventory.yaml"
    )
    labels = {
        (one.key.kind, one.key.name): {
            name.removeprefix("istio.io/"): value
            for name, value in one.resource.metadata.labels.items()
            if name.startswith("istio.io/")
        }
        for one in read_
    }
    elsewhere = {"use-waypoint": "wp", "use-waypoint-namespace": "infra"}
    assert labels == {
        ("WorkloadEntry", "web-mesh1"): {},
        ("WorkloadEntry", "api-mesh1"): elsewhere,
        ("WorkloadEntry", "old-mesh1"): {"use-waypoint": "none"},
        ("ServiceEntry", "web"): {"use-waypoint": "wp"},
        ("ServiceEntry", "api"): elsewhere,
        ("ServiceEntry", "old"): {},
    }


def test_the_roles_own_variable_counts_as_well() -> None:
    """`workload_list` of a host is what its services are captured by; without a registration they had no identity."""
    host = {"ansible_host": "10.0.0.1", "workload_list": [{"name": "web"}], "hostmesh_workloads": [{"name": "old"}]}
    assert [one.key.name for one in read(inventory_documents({"mesh1": host}), "inventory.yaml")] == ["web-mesh1"]


def test_names_and_numbers_are_text_where_istio_has_text() -> None:
    """YAML would take them for something else: `on`, `7` and `1e3`."""
    workload = {"name": "on", "namespace": "7", "service_account": "1e3", "ports": {8080: 8080}}
    entry, service = read(
        inventory_documents({"1": {"ansible_host": "10.0.0.1", "hostmesh_workloads": [workload]}}), "inventory.yaml"
    )
    assert (entry.key.name, entry.key.namespace, entry.resource.spec.service_account) == ("on-1", "7", "1e3")
    assert (service.key.name, service.key.namespace, service.resource.spec.hosts) == ("on", "7", ["on.7.mesh.internal"])
    assert [port.name for port in service.resource.spec.ports] == ["8080"]
