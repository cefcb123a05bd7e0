"""NetworkPolicy's values: selectors as Kubernetes defines them, and whom a peer means."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest

from hostmesh.model.network_policy import (
    Direction,
    IpBlock,
    Member,
    Membership,
    NetworkPolicy,
    Operator,
    PolicyRule,
    Requirement,
    Selector,
    WorkloadPeer,
)

A, AB = frozenset("a"), frozenset("ab")

REQUIREMENTS = [
    (Requirement("k", Operator.IN, AB), {"k": "a"}, True),
    (Requirement("k", Operator.IN, AB), {"k": "c"}, False),
    (Requirement("k", Operator.IN, AB), {}, False),
    (Requirement("k", Operator.NOT_IN, AB), {"k": "a"}, False),
    (Requirement("k", Operator.NOT_IN, AB), {"k": "c"}, True),
    (Requirement("k", Operator.NOT_IN, AB), {"other": "a"}, True),
    (Requirement("k", Operator.EXISTS), {"k": ""}, True),
    (Requirement("k", Operator.EXISTS), {}, False),
    (Requirement("k", Operator.DOES_NOT_EXIST), {"k": ""}, False),
    (Requirement("k", Operator.DOES_NOT_EXIST), {}, True),
]


@pytest.mark.parametrize(("requirement", "labels", "holds"), REQUIREMENTS)
def test_requirement(requirement: Requirement, labels: Mapping[str, str], holds: bool) -> None:
    """NotIn and DoesNotExist hold where the key is missing."""
    assert requirement.holds(labels) is holds


def test_selector_is_a_conjunction() -> None:
    """All requirements must hold; none selects everything."""
    both = Selector((Requirement("k", Operator.IN, A), Requirement("x", Operator.EXISTS)))
    assert both.selects({"k": "a", "x": "1"})
    assert not both.selects({"k": "a"})
    assert Selector().selects({})


def test_ip_block() -> None:
    """Inside the range and in none of the exceptions; the other family never."""
    block = IpBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16")))
    inside = [text for text in ("10.0.0.1", "10.1.0.1", "10.2.3.4", "11.0.0.1", "::1") if ip_address(text) in block]
    assert inside == ["10.0.0.1"]


MEMBERS = (
    Member("1", "web", "prod", {"app": "web"}),
    Member("2", "db", "prod", {"app": "db"}),
    Member("3", "web", "test", {"app": "web"}),
)
MEMBERSHIP = Membership(MEMBERS, {"test": {"stage": "test"}})
WEB = Selector((Requirement("app", Operator.IN, frozenset({"web"})),))
TEST = Selector((Requirement("stage", Operator.EXISTS),))
BY_NAME = Selector((Requirement("kubernetes.io/metadata.name", Operator.IN, frozenset({"prod"})),))

MEANT = [
    (WorkloadPeer(workloads=WEB), "1"),
    (WorkloadPeer(workloads=Selector()), "12"),
    (WorkloadPeer(namespaces=TEST), "3"),
    (WorkloadPeer(namespaces=Selector()), "123"),
    (WorkloadPeer(WEB, Selector()), "13"),
    (WorkloadPeer(WEB, TEST), "3"),
    (WorkloadPeer(namespaces=BY_NAME), "12"),
]


@pytest.mark.parametrize(("peer", "uids"), MEANT)
def test_who_is_meant(peer: WorkloadPeer, uids: str) -> None:
    """One selector alone means the own namespace, or whole namespaces; both are AND-ed."""
    assert "".join(member.uid for member in MEMBERSHIP.meant(peer, "prod")) == uids


def test_policy_is_of_its_namespace() -> None:
    """It selects workloads of its own namespace only."""
    policy = NetworkPolicy("p", "prod", WEB, ingress=(PolicyRule(),))
    assert [member.uid for member in MEMBERS if policy.selects(member)] == ["1"]
    assert policy.key == "prod/p"
    assert policy.rules(Direction.INGRESS) == (PolicyRule(),)
    assert policy.rules(Direction.EGRESS) == ()
    assert MEMBERS[0].key == "prod/web"
