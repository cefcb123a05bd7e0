"""What holds inside tunnels: exactly the TCP connections that no NetworkPolicy admits are denied."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from tests.support.policies import World, attempts, worlds

from hostmesh.firewall.semantics import Attempt, Endpoint, ingress_allowed
from hostmesh.firewall.tunnel import derive
from hostmesh.model.address import SocketAddress, parse_ip
from hostmesh.model.authorization import Action, Match, PolicyScope
from hostmesh.model.connection import Connection
from hostmesh.model.identity import Identity
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
from hostmesh.rbac.decide import decide

bounded = settings(max_examples=40, deadline=None)


def connection(attempt: Attempt, *, tunnel: bool) -> Connection:
    member = attempt.source.member
    identity = Identity("cluster.local", member.namespace, member.service_account) if tunnel and member else None
    return Connection(
        SocketAddress(attempt.source.ip, 40000), SocketAddress(attempt.destination.ip, attempt.port), identity
    )


def passes(world: World, attempt: Attempt, *, tunnel: bool) -> bool:
    assert attempt.destination.member is not None
    policy = derive(world.policies, world.membership, attempt.destination.member)
    return decide([policy] if policy else [], connection(attempt, tunnel=tunnel)).allowed


@bounded
@given(worlds())
def test_agrees_with_the_definition(world: World) -> None:
    """For who has an address of his own, in a tunnel and in plaintext."""
    for attempt in attempts(world):
        if attempt.protocol is Protocol.TCP and attempt.destination.member is not None:
            wanted = ingress_allowed(world.policies, world.membership, attempt)
            assert passes(world, attempt, tunnel=True) is wanted
            assert passes(world, attempt, tunnel=False) is wanted


@bounded
@given(worlds(shared_addresses=True))
def test_shared_addresses(world: World) -> None:
    """In a tunnel the identity counts too; in plaintext an address is all there is."""
    for attempt in attempts(world):
        if attempt.protocol is not Protocol.TCP or attempt.destination.member is None:
            continue
        source = attempt.source
        there = [m for m in world.members if source.ip in m.addresses]
        me = source.member
        twins = [m for m in there if me and (m.namespace, m.service_account) == (me.namespace, me.service_account)]

        def judged(members: list[Member], one: Attempt = attempt) -> bool:
            ends = [Endpoint(one.source.ip), *(Endpoint(one.source.ip, m) for m in members)]
            return any(ingress_allowed(world.policies, world.membership, replace(one, source=end)) for end in ends)

        assert passes(world, attempt, tunnel=True) is judged(twins)
        assert passes(world, attempt, tunnel=False) is judged(there)


WEB = Member("1", "web", "prod", {"app": "web"}, (parse_ip("10.0.0.1"),), {"http": 8080})
CLIENT = Member("2", "client", "prod", {"app": "client"}, (parse_ip("10.0.0.2"),), service_account="client")
KNOWN = Membership((WEB, CLIENT))
CLIENTS = WorkloadPeer(Selector((Requirement("app", Operator.IN, frozenset({"client"})),)))
BLOCK = IpBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))
DENY = NetworkPolicy("deny", "prod")


def policy(*rules: PolicyRule, name: str = "p", in_tunnel: bool | None = None) -> NetworkPolicy:
    return NetworkPolicy(name, "prod", ingress=rules, in_tunnel=in_tunnel)


def tcp(first: int, last: int = 0) -> PortRange:
    return PortRange(Protocol.TCP, first, last or first)


def test_shape() -> None:
    """A clause for each pair, each the negation of the pair."""
    found = derive([policy(PolicyRule((BLOCK,), (tcp(80, 81),)), PolicyRule((), (tcp(443),)))], KNOWN, WEB)
    assert found is not None
    assert (found.key, found.action, found.scope) == (
        "prod/network_policy_p",
        Action.DENY,
        PolicyScope.WORKLOAD_SELECTOR,
    )
    ((block, https),) = found.rules
    assert block == (
        Match(not_source_ips=(BLOCK.cidr,)),
        Match(source_ips=BLOCK.excluded),
        Match(not_destination_ports=(80, 81)),
    )
    assert https == (Match(not_destination_ports=(443,)),)


def test_deny_all_and_admit_all() -> None:
    """No rule denies everything; one that admits everything leaves nothing to deny; rules for UDP admit nothing."""
    everything = derive([DENY], KNOWN, WEB)
    assert everything is not None
    assert everything.rules == ((),)
    assert derive([DENY, policy(PolicyRule())], KNOWN, WEB) is None
    assert derive([policy(PolicyRule(ports=(tcp(1, 65535),)))], KNOWN, WEB) is None
    udp = derive([policy(PolicyRule(ports=(PortRange(Protocol.UDP),)))], KNOWN, WEB)
    assert udp is not None
    assert udp.rules == ((),)
    assert derive([], KNOWN, WEB) is None
    assert derive([NetworkPolicy("e", "prod", isolates=frozenset({Direction.EGRESS}))], KNOWN, WEB) is None


def test_long_ranges_are_written_by_their_complement() -> None:
    """Whichever list of ports is shorter."""
    found = derive([policy(PolicyRule(ports=(tcp(1, 65533),)))], KNOWN, WEB)
    assert found is not None
    assert found.rules == (((Match(destination_ports=(65534, 65535)),),),)


def test_names_of_policies() -> None:
    """Stable while peers come and go; one for each meaning of a port's name; never too long."""
    by_name = policy(PolicyRule((CLIENTS,), (NamedPort(Protocol.TCP, "http"),)))
    one, other = derive([by_name], KNOWN, WEB), derive([by_name], KNOWN, CLIENT)
    assert one is not None
    assert other is not None
    assert (one.name, other.name) == ("network_policy_p_http-8080", "network_policy_p_http-none")
    fewer = derive([by_name], Membership((WEB,)), WEB)
    assert fewer is not None
    assert fewer.name == one.name
    assert fewer.rules != one.rules
    several = [policy(name=letter * 90) for letter in "abc"]
    long = derive(several, KNOWN, WEB)
    assert long is not None
    assert len(long.name) == 200
    assert derive(several[::-1], KNOWN, WEB) == long


def test_opting_out_of_tunnels() -> None:
    """A policy that does not hold in tunnels isolates nothing there, and takes nothing away."""
    outside = policy(PolicyRule(ports=(tcp(80),)), in_tunnel=False)
    assert derive([outside], KNOWN, WEB) is None
    both = derive([outside, DENY], KNOWN, WEB)
    assert both is not None
    assert both.rules == (((Match(not_destination_ports=(80,)),),),)
    assert derive([DENY], KNOWN, WEB, by_default=False) is None
    assert derive([replace(DENY, in_tunnel=True)], KNOWN, WEB, by_default=False) is not None
