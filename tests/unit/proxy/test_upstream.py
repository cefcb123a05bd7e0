"""Which port and address of a workload are dialled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostmesh.model.address import NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.service import IpFamilies, Service
from hostmesh.model.workload import ApplicationTunnel, TunnelKind, Workload
from hostmesh.proxy.upstream import Refused, choose_ip, target_port, workload_at
from hostmesh.state.store import MeshState

KEY = NamespacedHostname("shop", "api")
SERVICE = Service(name="api", namespace="shop", hostname="api", ports={80: 8080, 443: 0})
WORKLOAD = Workload(uid="w", name="w", namespace="shop", services={KEY: {443: 8443}})
TUNNELLED = replace(WORKLOAD, application_tunnel=ApplicationTunnel(TunnelKind.NONE, 15088))

PORTS = [
    ("the service's", WORKLOAD, 80, 8080),
    ("the endpoint's own for a named one", WORKLOAD, 443, 8443),
    ("the endpoint's own goes first", replace(WORKLOAD, services={KEY: {80: 1}}), 80, 1),
    ("none", WORKLOAD, 81, None),
    ("a tunnel with a port takes any", TUNNELLED, 81, 81),
    (
        "a tunnel without one does not",
        replace(WORKLOAD, application_tunnel=ApplicationTunnel(TunnelKind.PROXY)),
        81,
        None,
    ),
    ("what is declared goes before the tunnel", TUNNELLED, 80, 8080),
]


@pytest.mark.parametrize(("rule", "workload", "port", "expected"), PORTS, ids=[line[0] for line in PORTS])
def test_target_ports(rule: str, workload: Workload, port: int, expected: int | None) -> None:
    """Own mapping, then the service's, then the tunnel's promise."""
    assert target_port(workload, SERVICE, port) == expected


V4, OTHER_V4, V6 = parse_ip("10.0.0.1"), parse_ip("10.0.0.2"), parse_ip("2001:db8::1")
ADDRESSES = [
    ("the wanted one", (V4, OTHER_V4), None, OTHER_V4, OTHER_V4),
    ("the wanted one whatever the families", (V4, V6), IpFamilies.IPV4, V6, V6),
    ("the wanted family", (V4, V6), None, parse_ip("2001:db8::9"), V6),
    ("the first otherwise", (V4, OTHER_V4), None, parse_ip("2001:db8::9"), V4),
    ("only allowed families", (V4, V6), IpFamilies.IPV6, parse_ip("10.9.9.9"), V6),
    ("both are allowed: the wanted one", (V4, V6), IpFamilies.DUAL, parse_ip("2001:db8::9"), V6),
    ("both are allowed: what is there", (V4,), IpFamilies.DUAL, parse_ip("2001:db8::9"), V4),
    ("none is allowed", (V4,), IpFamilies.IPV6, parse_ip("10.9.9.9"), None),
    ("none is there", (), None, V4, None),
]


@pytest.mark.parametrize(
    ("rule", "addresses", "families", "wanted", "expected"), ADDRESSES, ids=[line[0] for line in ADDRESSES]
)
def test_addresses(rule: str, addresses: tuple, families: IpFamilies | None, wanted: object, expected: object) -> None:  # type: ignore[type-arg]
    """Own address, family, then the first."""
    workload = replace(WORKLOAD, addresses=addresses)
    assert choose_ip(workload, replace(SERVICE, ip_families=families), wanted) == expected  # type: ignore[arg-type]


def test_two_that_claim_a_port_are_named() -> None:
    """The operator has to end the quarrel, so the reason says between whom."""
    state = MeshState()
    state.upsert_service(SERVICE)
    for uid in ("one", "two"):
        state.upsert_workload(replace(WORKLOAD, uid=uid, addresses=(V4,)))
    address = NetworkAddress("", V4)
    assert workload_at(state, address, 8080) == Refused("10.0.0.1 port 8080 is claimed by several workloads: one, two")
    assert workload_at(state, address, 22) is None
    state.remove_address("two")
    found = workload_at(state, address, 22)
    assert isinstance(found, Workload)
    assert found.uid == "one"
