"""A service is known by namespace and hostname."""

from __future__ import annotations

from hostmesh.model.address import NamespacedHostname
from hostmesh.model.service import LoadBalancing, LoadBalancingMode, Service, Visibility


def test_the_key_is_the_xds_resource_name() -> None:
    """Not the object's name: several hostnames may come from one ServiceEntry."""
    service = Service(name="entry", namespace="shop", hostname="api.example.com")
    assert service.key == "shop/api.example.com"
    assert service.namespaced_hostname == NamespacedHostname("shop", "api.example.com")


def test_a_service_that_says_nothing_is_public_and_balanced_plainly() -> None:
    """Defaults of istio.workload.Service."""
    service = Service(name="a", namespace="b", hostname="c")
    assert service.visibility is Visibility.PUBLIC
    assert service.load_balancing is None
    assert LoadBalancing().mode is LoadBalancingMode.STANDARD
