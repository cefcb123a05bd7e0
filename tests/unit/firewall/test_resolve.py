"""Rules of policies as they are for one workload: what is easily a port too many."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from hostmesh.firewall.resolve import resolve, whole
from hostmesh.firewall.spans import Span
from hostmesh.model.network_policy import (
    Direction,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    PolicyRule,
    Protocol,
)


@pytest.mark.parametrize(
    ("spans", "found"),
    [(((0, 65535),), True), (((1, 65535),), True), (((2, 65535),), False), (((1, 65534),), False), ((), False)],
)
def test_all_ports(spans: tuple[Span, ...], found: bool) -> None:
    """All but port 0, where nobody listens."""
    assert whole(spans) is found


@pytest.mark.parametrize(
    ("protocol", "meshed", "numbers"),
    [(Protocol.TCP, True, {53, 15008}), (Protocol.TCP, False, {53}), (Protocol.UDP, True, {53})],
)
def test_a_name_of_a_port_opens_tunnels_to_who_has_them(protocol: Protocol, meshed: bool, numbers: set[int]) -> None:
    """Tunnels carry TCP, and only members of the mesh end them."""
    server = Member("1", "names", "prod", addresses=(ip_address("10.0.0.1"),), ports={"dns": 53}, meshed=meshed)
    client = Member("2", "client", "prod", addresses=(ip_address("10.0.0.2"),))
    policy = NetworkPolicy(
        "p",
        "prod",
        isolates=frozenset({Direction.EGRESS}),
        egress=(PolicyRule(ports=(NamedPort(protocol, "dns"),)),),
    )
    (rule,) = resolve([policy], Membership((server, client)), client, Direction.EGRESS) or ()
    assert rule.named == {(ip_address("10.0.0.1"), protocol, number) for number in numbers}
