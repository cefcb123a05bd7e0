"""What a gateway address means, and to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.proxy.gateway import is_gateway, resolve_waypoint, wanted_ip
from hostmesh.proxy.upstream import Refused, Upstream
from hostmesh.state.store import MeshState

KEY = NamespacedHostname("infra", "waypoint")
SERVICE = Service(
    name="waypoint",
    namespace="infra",
    hostname="waypoint",
    vips=(NetworkAddress("", parse_ip("240.0.0.9")),),
    ports={15008: 16008},
)
IP, HOST = parse_ip("10.0.0.9"), NamespacedHostname("infra", "wp.example")
WORKLOAD = Workload(uid="w", name="w", namespace="infra", addresses=(IP,), hostname=HOST.hostname, services={KEY: {}})
CLIENT = Workload(uid="client", name="client", namespace="shop", addresses=(parse_ip("10.0.0.1"),))


def state(*, with_service: bool = True) -> MeshState:
    mesh = MeshState()
    mesh.upsert_workload(WORKLOAD)
    if with_service:
        mesh.upsert_service(SERVICE)
    return mesh


RESOLVED = [
    ("service by hostname", KEY, Upstream(WORKLOAD, 16008, SERVICE)),
    ("service by VIP", NetworkAddress("", parse_ip("240.0.0.9")), Upstream(WORKLOAD, 16008, SERVICE)),
    ("workload by IP", NetworkAddress("", IP), Upstream(WORKLOAD, 15008)),
    ("workload by hostname", HOST, Upstream(WORKLOAD, 15008)),
    ("IP of another network", NetworkAddress("dc2", IP), None),
    ("hostname of another namespace", NamespacedHostname("shop", "waypoint"), None),
    ("workload's hostname in another namespace", NamespacedHostname("shop", "wp.example"), None),
    ("unknown hostname", NamespacedHostname("infra", "nobody"), None),
    ("unknown IP", NetworkAddress("", parse_ip("10.0.0.8")), None),
]


@pytest.mark.parametrize(("rule", "destination", "expected"), RESOLVED, ids=[line[0] for line in RESOLVED])
def test_waypoints(rule: str, destination: NetworkAddress | NamespacedHostname, expected: Upstream | None) -> None:
    """Services translate the port, workloads do not; nothing is ever skipped."""
    gateway = GatewayAddress(destination, 15008)
    found = resolve_waypoint(state(), gateway, CLIENT, lambda: 0.0)
    assert found == (expected or Refused(f"unknown waypoint: waypoint {destination} not found"))
    assert is_gateway(state(), gateway, WORKLOAD) is (expected is not None)
    assert not is_gateway(state(), gateway, CLIENT)


def test_who_shares_a_gateways_address_is_not_the_gateway() -> None:
    """On a host with several workloads the port decides."""
    mesh = state()
    neighbour = replace(CLIENT, uid="neighbour", addresses=(IP,))
    mesh.upsert_workload(neighbour)
    gateway = GatewayAddress(NetworkAddress("", IP), 16008)
    assert is_gateway(mesh, gateway, WORKLOAD)
    assert not is_gateway(mesh, gateway, neighbour)


def test_the_family_is_the_gateways_or_the_destinations() -> None:
    """An address says its family, a name does not."""
    original = parse_ip("2001:db8::1")
    assert wanted_ip(GatewayAddress(NetworkAddress("", IP), 15008), original) == IP
    assert wanted_ip(GatewayAddress(KEY, 15008), original) == original
