"""What NetworkPolicies allow: one line for each sentence of their definition."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from hostmesh.firewall.semantics import Attempt, Endpoint, allowed
from hostmesh.model.network_policy import (
    Direction,
    IpBlock,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    Operator,
    PolicyRule,
    PortRange,
    Protocol,
    Requirement,
    Selector,
    WorkloadPeer,
)

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP


def labelled(**labels: str) -> Selector:
    return Selector(tuple(Requirement(key, Operator.IN, frozenset({value})) for key, value in labels.items()))


def member(name: str, namespace: str, last: int, **ports: int) -> Member:
    return Member(f"{namespace}/{name}", name, namespace, {"app": name}, (ip_address(f"10.0.0.{last}"),), ports)


WEB = member("web", "prod", 1, http=8080)
CLIENT = member("client", "prod", 2)
OTHER = member("other", "prod", 3, http=9090)
FOREIGN = member("client", "test", 4)
MEMBERSHIP = Membership((WEB, CLIENT, OTHER, FOREIGN), {"test": {"stage": "test"}})
OUTSIDE = Endpoint(ip_address("192.0.2.9"))
ENDS = {
    **{m.name: Endpoint(m.addresses[0], m) for m in (WEB, CLIENT, OTHER)},
    "foreign": Endpoint(FOREIGN.addresses[0], FOREIGN),
    "outside": OUTSIDE,
}


APP_WEB = labelled(app="web")


def ingress(*rules: PolicyRule, selector: Selector = APP_WEB, name: str = "p") -> NetworkPolicy:
    return NetworkPolicy(name, "prod", selector, frozenset({INGRESS}), ingress=rules)


def egress(*rules: PolicyRule, selector: Selector = APP_WEB, name: str = "e") -> NetworkPolicy:
    return NetworkPolicy(name, "prod", selector, frozenset({EGRESS}), egress=rules)


def peers(*found: IpBlock | WorkloadPeer) -> PolicyRule:
    return PolicyRule(peers=found)


def ports(*found: PortRange | NamedPort) -> PolicyRule:
    return PolicyRule(ports=found)


P80 = PortRange(TCP, 80, 80)
CLIENTS = WorkloadPeer(labelled(app="client"))
BLOCK = IpBlock(ip_network("192.0.2.0/24"), (ip_network("192.0.2.8/29"),))

# policies, source, destination, protocol and port, allowed
TABLE: list[tuple[tuple[NetworkPolicy, ...], str, str, Protocol, int, bool]] = [
    # no policy selects either end: everything
    ((), "outside", "web", TCP, 80, True),
    ((ingress(selector=labelled(app="other")),), "outside", "web", TCP, 80, True),
    # isolated without a rule: nothing, of any protocol
    ((ingress(),), "client", "web", TCP, 80, False),
    ((ingress(),), "client", "web", UDP, 80, False),
    ((ingress(),), "outside", "web", SCTP, 80, False),
    # but only in that direction
    ((ingress(),), "web", "client", TCP, 80, True),
    ((egress(),), "client", "web", TCP, 80, True),
    ((egress(),), "web", "client", TCP, 80, False),
    # an empty selector selects the whole namespace, and no other
    ((ingress(selector=Selector()),), "client", "other", TCP, 80, False),
    ((ingress(selector=Selector()),), "client", "foreign", TCP, 80, True),
    # a rule without peers and ports admits everything
    ((ingress(PolicyRule()),), "outside", "web", SCTP, 1, True),
    # a peer of the own namespace
    ((ingress(peers(CLIENTS)),), "client", "web", TCP, 80, True),
    ((ingress(peers(CLIENTS)),), "foreign", "web", TCP, 80, False),
    ((ingress(peers(CLIENTS)),), "other", "web", TCP, 80, False),
    ((ingress(peers(CLIENTS)),), "outside", "web", TCP, 80, False),
    # all of a namespace
    ((ingress(peers(WorkloadPeer(namespaces=labelled(stage="test")))),), "foreign", "web", TCP, 80, True),
    ((ingress(peers(WorkloadPeer(namespaces=labelled(stage="test")))),), "client", "web", TCP, 80, False),
    # both selectors of one element: AND; of two elements: OR
    ((ingress(peers(WorkloadPeer(labelled(app="web"), Selector()))),), "foreign", "web", TCP, 80, False),
    ((ingress(peers(CLIENTS, WorkloadPeer(namespaces=labelled(stage="test")))),), "foreign", "web", TCP, 80, True),
    ((ingress(peers(CLIENTS, WorkloadPeer(namespaces=labelled(stage="test")))),), "client", "web", TCP, 80, True),
    # a block, and its exception
    ((ingress(peers(BLOCK)),), "outside", "web", TCP, 80, False),
    ((ingress(peers(IpBlock(ip_network("192.0.2.0/24")))),), "outside", "web", TCP, 80, True),
    ((ingress(peers(IpBlock(ip_network("10.0.0.0/24")))),), "client", "web", TCP, 80, True),
    # ports: protocol and number; a range with both its ends; all of a protocol
    ((ingress(ports(P80)),), "outside", "web", TCP, 80, True),
    ((ingress(ports(P80)),), "outside", "web", UDP, 80, False),
    ((ingress(ports(P80)),), "outside", "web", TCP, 81, False),
    ((ingress(ports(PortRange(UDP, 90, 92))),), "outside", "web", UDP, 90, True),
    ((ingress(ports(PortRange(UDP, 90, 92))),), "outside", "web", UDP, 92, True),
    ((ingress(ports(PortRange(UDP, 90, 92))),), "outside", "web", UDP, 93, False),
    ((ingress(ports(PortRange(SCTP))),), "outside", "web", SCTP, 65535, True),
    ((ingress(ports(PortRange(SCTP))),), "outside", "web", TCP, 65535, False),
    # a name is the destination's
    ((ingress(ports(NamedPort(TCP, "http"))),), "outside", "web", TCP, 8080, True),
    ((ingress(ports(NamedPort(TCP, "http"))),), "outside", "web", UDP, 8080, False),
    ((ingress(ports(NamedPort(TCP, "ssh"))),), "outside", "web", TCP, 8080, False),
    ((egress(ports(NamedPort(TCP, "http"))),), "web", "other", TCP, 9090, True),
    ((egress(ports(NamedPort(TCP, "http"))),), "web", "other", TCP, 8080, False),
    ((egress(ports(NamedPort(TCP, "http"))),), "web", "outside", TCP, 8080, False),
    # peers and ports of one rule: AND; of two rules: no cross product
    ((ingress(PolicyRule((CLIENTS,), (P80,))),), "client", "web", TCP, 81, False),
    ((ingress(PolicyRule((CLIENTS,), (P80,))),), "other", "web", TCP, 80, False),
    ((ingress(peers(CLIENTS), ports(P80)),), "other", "web", TCP, 80, True),
    ((ingress(peers(CLIENTS), ports(P80)),), "other", "web", TCP, 81, False),
    # policies add up, the empty one takes nothing away
    ((ingress(name="deny"), ingress(ports(P80))), "outside", "web", TCP, 80, True),
    ((ingress(peers(CLIENTS)), ingress(ports(P80), name="q")), "client", "web", TCP, 81, True),
    # both ends must allow
    ((egress(selector=labelled(app="client")), ingress(peers(CLIENTS))), "client", "web", TCP, 80, False),
    ((egress(PolicyRule(), selector=labelled(app="client")), ingress()), "client", "web", TCP, 80, False),
    ((egress(ports(P80), selector=labelled(app="client")), ingress(ports(P80))), "client", "web", TCP, 80, True),
    # itself, always
    ((ingress(), egress()), "web", "web", TCP, 80, True),
    # rules of a direction that is not isolated mean nothing
    (
        (NetworkPolicy("p", "prod", Selector(), frozenset({EGRESS}), (), (PolicyRule(),)),),
        "client",
        "web",
        TCP,
        1,
        True,
    ),
]


@pytest.mark.parametrize(("policies", "source", "destination", "protocol", "port", "expected"), TABLE)
def test_allowed(
    policies: tuple[NetworkPolicy, ...], source: str, destination: str, protocol: Protocol, port: int, expected: bool
) -> None:
    """In any order of the policies."""
    attempt = Attempt(ENDS[source], ENDS[destination], protocol, port)
    assert allowed(policies, MEMBERSHIP, attempt).allowed is expected
    assert allowed(policies[::-1], MEMBERSHIP, attempt).allowed is expected


def test_what_a_verdict_says() -> None:
    """Who refused and why, or who admitted."""
    attempt = Attempt(ENDS["client"], ENDS["web"], TCP, 80)
    refused = allowed([ingress(name="a"), ingress(name="b")], MEMBERSHIP, attempt)
    assert refused.reason == "ingress of prod/web is isolated, and no rule admits the connection"
    assert refused.policies == ("prod/a", "prod/b")
    admitted = allowed([ingress(name="a"), ingress(ports(P80), name="b")], MEMBERSHIP, attempt)
    assert admitted.reason == "admitted by: prod/b"
    assert allowed([], MEMBERSHIP, attempt).reason == "no policy isolates either end"
