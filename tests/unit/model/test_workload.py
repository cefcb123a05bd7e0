"""A workload's key and identity follow from its fields; its defaults are ztunnel's."""

from __future__ import annotations

from hostmesh.model.identity import Identity
from hostmesh.model.workload import HealthStatus, NetworkMode, Protocol, Workload


def test_defaults_are_ztunnels() -> None:
    """Trust domain, service account, cluster and capacity of a workload that says nothing."""
    workload = Workload(uid="u", name="api", namespace="shop")
    assert workload.identity == Identity("cluster.local", "shop", "default")
    assert workload.key == "u"
    assert (workload.cluster_id, workload.capacity) == ("Kubernetes", 1)
    assert (workload.protocol, workload.status) == (Protocol.TCP, HealthStatus.HEALTHY)
    assert workload.network_mode is NetworkMode.STANDARD
    assert dict(workload.services) == {}


def test_equality_is_by_value() -> None:
    """An equal re-send over xDS is recognised as no change."""
    assert Workload(uid="u", name="api", namespace="shop") == Workload(uid="u", name="api", namespace="shop")
    assert Workload(uid="u", name="api", namespace="shop") != Workload(uid="u", name="api", namespace="shop", node="n")
