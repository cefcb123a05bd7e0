"""Small random worlds of workloads and NetworkPolicies, in which everything happens to meet (hypothesis)."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from hostmesh.firewall.resolve import HBONE_PORT
from hostmesh.firewall.semantics import Attempt, Endpoint
from hostmesh.model.network_policy import (
    Direction,
    IpBlock,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    Operator,
    Peer,
    PolicyPort,
    PolicyRule,
    PortRange,
    Protocol,
    Requirement,
    Selector,
    WorkloadPeer,
)

NAMESPACES = ("prod", "test")
PORTS = (1, 80, 81, 443, 15008, 65535)
NAMES = ("http", "sql")
OUTSIDE = [ip_address(text) for text in ("192.0.2.1", "192.0.2.9", "203.0.113.7", "2001:db8::9")]
MESH = [ip_address(f"10.0.{n}.1") for n in range(6)]
MESH6 = [ip_address(f"fd00::{n}:1") for n in range(6)]

_protocols = st.sampled_from(Protocol)
_keys, _values = st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])
_labels = st.dictionaries(_keys, _values, max_size=2)
_with_values = st.builds(
    Requirement,
    _keys,
    st.sampled_from([Operator.IN, Operator.NOT_IN]),
    st.frozensets(_values, min_size=1),
)
_without = st.builds(Requirement, _keys, st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]))
_selectors = st.lists(_with_values | _without, max_size=2).map(lambda found: Selector(tuple(found)))

_blocks = st.sampled_from(
    [
        IpBlock(ip_network("0.0.0.0/0")),
        IpBlock(ip_network("0.0.0.0/0"), (ip_network("10.0.0.0/8"), ip_network("192.0.2.8/29"))),
        IpBlock(ip_network("10.0.0.0/14"), (ip_network("10.0.1.0/24"), ip_network("10.0.2.0/23"))),
        IpBlock(ip_network("192.0.2.1/32")),
        IpBlock(ip_network("::/0"), (ip_network("fd00::/64"),)),
        IpBlock(ip_network("2001:db8::/32")),
    ]
)
_workload_peers = st.one_of(
    st.builds(WorkloadPeer, _selectors),
    st.builds(WorkloadPeer, st.none(), _selectors),
    st.builds(WorkloadPeer, _selectors, _selectors),
)
_peers: st.SearchStrategy[Peer] = _blocks | _workload_peers


@st.composite
def _ranges(draw: st.DrawFn) -> PortRange:
    first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    return draw(
        st.sampled_from(
            [
                PortRange(draw(_protocols), first, first),
                PortRange(Protocol.TCP, first, last),
                PortRange(draw(_protocols)),
            ]
        )
    )


_ports: st.SearchStrategy[PolicyPort] = _ranges() | st.builds(NamedPort, _protocols, st.sampled_from(NAMES))
_rules = st.builds(
    PolicyRule,
    st.lists(_peers, max_size=2).map(tuple),
    st.lists(_ports, min_size=1, max_size=3).map(tuple) | st.just(()),
)
_some_rules = st.lists(_rules, max_size=2).map(tuple)
_isolates = st.sets(st.sampled_from(Direction), min_size=1).map(frozenset)


@dataclass(frozen=True)
class World:
    membership: Membership
    policies: tuple[NetworkPolicy, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return self.membership.members


@st.composite
def worlds(draw: st.DrawFn, *, shared_addresses: bool = False) -> World:
    """Two to five workloads in two namespaces, up to four policies; addresses are unique unless they may be shared."""
    count = draw(st.integers(2, 5))
    members = []
    for number in range(count):
        at = draw(st.integers(0, 1)) if shared_addresses else number
        addresses = (MESH[at], MESH6[at])
        namespace = draw(st.sampled_from(NAMESPACES))
        ports = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PORTS), max_size=2))
        account = draw(st.sampled_from(["one", "two"]))
        member = Member(f"uid{number}", f"w{number}", namespace, draw(_labels), addresses, ports, True, account)
        members.append(replace(member, meshed=draw(st.booleans())))
    namespaces = {name: draw(_labels) for name in NAMESPACES}
    policies = [
        NetworkPolicy(
            f"p{number}",
            draw(st.sampled_from(NAMESPACES)),
            draw(_selectors),
            draw(_isolates),
            draw(_some_rules),
            draw(_some_rules),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    return World(Membership(tuple(members), namespaces), tuple(policies))


def attempts(world: World, count: int = 60) -> list[Attempt]:
    """Connections between workloads or with the outside; a third are tunnels. The same choice for the same world."""
    inside = [Endpoint(ip, member) for member in world.members for ip in member.addresses]
    everywhere = [*inside, *(Endpoint(ip) for ip in OUTSIDE)]
    found = [
        Attempt(*ends, protocol, port)
        for one in inside
        for other in everywhere
        if one.ip.version == other.ip.version
        for ends in ((one, other), (other, one))
        for protocol in Protocol
        for port in PORTS
    ]
    tunnels = [one for one in found if one.protocol is Protocol.TCP and one.port == HBONE_PORT]
    chance = random.Random(len(found))
    return chance.sample(found, count * 2 // 3) + chance.sample(tunnels, count // 3)
