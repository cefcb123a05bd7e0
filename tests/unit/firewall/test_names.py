"""Names of chains and sets: unique and short."""

from __future__ import annotations

from hostmesh.firewall import names
from hostmesh.model.network_policy import Direction, Member, NetworkPolicy


def test_names_tell_apart() -> None:
    """Whatever dots and dashes names have."""
    policies = [("a", "b-c"), ("a", "b.c"), ("a-b", "c"), ("a", "b"), ("a", "n" * 253), ("a", "n" * 252 + "m")]
    found = [
        names.peers_set(NetworkPolicy(name, namespace), direction, number, family)
        for namespace, name in policies
        for direction in Direction
        for number in (1, 11)
        for family in (4, 6)
    ]
    assert len(set(found)) == len(found)
    assert max(map(len, found)) <= 120
    assert found[0] == "p.a.b_c.in1.v4"


def test_chains() -> None:
    """One for each direction."""
    web = Member("1", "web-1", "prod")
    assert [names.chain(web, direction) for direction in Direction] == ["in.prod.web_1", "out.prod.web_1"]
