"""The made-up mesh of the scale measurement."""

from __future__ import annotations

from bench.scale import SERVICE_PORT, mesh

from hostmesh.daemon.mesh import Mesh
from hostmesh.model.address import NetworkAddress, SocketAddress, parse_ip
from hostmesh.proxy.route import Route, route


def test_every_service_leads_to_its_endpoints() -> None:
    """What is measured is a mesh that works: VIPs are routed, each to an endpoint that lists the service."""
    known = Mesh("here")
    known.apply(mesh(workloads=12, services=3, capacity=1))
    state = known.state
    assert (len(state.workloads()), len(state.services()), len(state.staged())) == (12, 3, 0)
    vip = parse_ip("240.240.0.2")
    service = state.service_at(NetworkAddress("bench", vip))
    assert service is not None
    assert {w.name for w in state.endpoints(service)} == {"w1", "w4", "w7", "w10"}
    found = route(state, state.workloads()[0], SocketAddress(vip, SERVICE_PORT), network="bench", rng=lambda: 0.0)
    assert isinstance(found, Route)
    assert found.workload in state.endpoints(service)


def test_another_capacity_changes_every_workload_and_no_service() -> None:
    """The second push must not be taken for a repetition."""
    first, second = (mesh(workloads=6, services=2, capacity=capacity).addresses for capacity in (1, 2))
    changed = {name for name in first if first[name] != second[name]}
    assert len(changed) == 6
    assert all("WorkloadEntry" in name for name in changed)
