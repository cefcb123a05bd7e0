"""The compiled rules against the definition: random worlds, both directions, every kind of subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.firewall import FirewallModel, Packet
from tests.support.policies import PORTS, World, attempts, worlds

from hostmesh.firewall.plan import Options, Subject, SubjectKind, plan
from hostmesh.firewall.resolve import HBONE_PORT
from hostmesh.firewall.semantics import Attempt, Endpoint, egress_allowed, ingress_allowed
from hostmesh.firewall.services import Front
from hostmesh.model.address import parse_ip
from hostmesh.model.network_policy import (
    Direction,
    Member,
    Membership,
    NamedPort,
    NetworkPolicy,
    PolicyRule,
    PortRange,
    Protocol,
)

bounded = settings(max_examples=40, deadline=None)
"""Worlds; each is asked about dozens of connections."""
Judge = Callable[[Sequence[NetworkPolicy], Membership, Attempt], bool]


def expected(world: World, attempt: Attempt, direction: Direction) -> bool:
    """The definition, and 15008 wherever some TCP port is allowed for the same peer (by name: if it has tunnels)."""
    judge: Judge = ingress_allowed if direction is Direction.INGRESS else egress_allowed
    subject = attempt.destination.member if direction is Direction.INGRESS else attempt.source.member
    if judge(world.policies, world.membership, attempt):
        return True
    if attempt.protocol is not Protocol.TCP or attempt.port != HBONE_PORT or subject is None:
        return False
    numbers, names = only(world.policies, PortRange), only(world.policies, NamedPort)
    destination = attempt.destination.member
    by_name = destination is not None and destination.meshed
    inner = [replace(attempt, port=port) for port in PORTS]
    tunnel = subject.meshed and any(judge(numbers, world.membership, one) for one in inner)
    return tunnel or (by_name and any(judge(names, world.membership, one) for one in inner))


def only(policies: Iterable[NetworkPolicy], kind: type[PortRange | NamedPort]) -> tuple[NetworkPolicy, ...]:
    """The same policies with ports of one kind only."""

    def rules(several: Iterable[PolicyRule]) -> tuple[PolicyRule, ...]:
        kept = ((rule, tuple(port for port in rule.ports if isinstance(port, kind))) for rule in several)
        return tuple(
            replace(rule, ports=ports) for rule, ports in kept if ports or (kind is PortRange and not rule.ports)
        )

    return tuple(replace(p, ingress=rules(p.ingress), egress=rules(p.egress)) for p in policies)


def packet(attempt: Attempt, **facts: object) -> Packet:
    protocol = attempt.protocol.value.lower()
    return Packet(attempt.source.ip, attempt.destination.ip, protocol, attempt.port, **facts)  # type: ignore[arg-type]


@bounded
@given(worlds())
def test_workloads_behind_the_host(world: World) -> None:
    """Forwarded: both ends are judged, and a workload reaches itself."""
    subjects = [Subject(member, SubjectKind.ADDRESSES) for member in world.members]
    model = FirewallModel.of(plan(world.policies, world.membership, subjects))
    for attempt in attempts(world):
        itself = attempt.source.member == attempt.destination.member
        wanted = itself or all(expected(world, attempt, direction) for direction in Direction)
        assert model.passes("forward", packet(attempt, local=False)) is wanted
        assert model.passes("ingress", packet(attempt, local=False))


def anybody_at(world: World, end: Endpoint) -> list[Endpoint]:
    """Whom a firewall must take an address for."""
    return [Endpoint(end.ip), *(Endpoint(end.ip, m) for m in world.members if end.ip in m.addresses)]


def expected_by_address(world: World, attempt: Attempt, direction: Direction) -> bool:
    if direction is Direction.INGRESS:
        return any(
            expected(world, replace(attempt, source=one), direction) for one in anybody_at(world, attempt.source)
        )
    return any(
        expected(world, replace(attempt, destination=one), direction) for one in anybody_at(world, attempt.destination)
    )


@bounded
@given(worlds(shared_addresses=True))
def test_units_that_share_addresses(world: World) -> None:
    """Units are told apart, their peers by address only: what any workload there may do, is let through."""
    subjects = [Subject(m, SubjectKind.UNIT, f"system.slice/{m.name}.service") for m in world.members]
    model = FirewallModel.of(plan(world.policies, world.membership, subjects))
    for attempt in attempts(world):
        for base, direction, end in (
            ("ingress", Direction.INGRESS, attempt.destination),
            ("egress", Direction.EGRESS, attempt.source),
        ):
            if end.member is not None:
                seen = packet(attempt, cgroup=f"system.slice/{end.member.name}.service")
                assert model.passes(base, seen) is expected_by_address(world, attempt, direction)


@bounded
@given(worlds())
def test_the_host_as_a_workload(world: World) -> None:
    """Everything without a workload's cgroup is the host's; what a unit beside it may do is not the host's affair."""
    host, unit = world.members[:2]
    subjects = [Subject(host), Subject(unit, SubjectKind.UNIT, "system.slice/unit.service")]
    model = FirewallModel.of(plan(world.policies, world.membership, subjects))
    ends = (("ingress", Direction.INGRESS, "destination"), ("egress", Direction.EGRESS, "source"))
    for attempt, (base, direction, end) in product(attempts(world, 20), ends):
        for member, cgroup in ((host, "system.slice/other.service"), (unit, "system.slice/unit.service")):
            here = Endpoint(next(ip for ip in member.addresses if ip.version == attempt.source.ip.version), member)
            one = replace(attempt, **{end: here})
            tunnels = unit.meshed and member is host and base == "ingress"
            shared = tunnels and one.protocol is Protocol.TCP and one.port == HBONE_PORT
            wanted = shared or expected_by_address(world, one, direction)
            assert model.passes(base, packet(one, cgroup=cgroup)) is wanted


@bounded
@given(st.data())
def test_services_are_judged_by_their_endpoints(data: st.DataObject) -> None:
    """A service's address is allowed exactly if every endpoint is, and other ports of it as any address is."""
    world = data.draw(worlds())
    subject = data.draw(st.sampled_from(world.members))
    chosen = data.draw(st.lists(st.tuples(st.sampled_from(world.members), st.sampled_from(PORTS)), max_size=3))
    vip = parse_ip("203.0.113.80")
    front = Front((vip,), 80, tuple(chosen))
    unit = Subject(subject, SubjectKind.UNIT, "system.slice/a.service")
    model = FirewallModel.of(plan(world.policies, world.membership, [unit], [front]))
    source = Endpoint(subject.addresses[0], subject)

    def reaches(member: Member, port: int) -> bool:
        ends = (Endpoint(ip, member) for ip in member.addresses)
        return all(
            egress_allowed(world.policies, world.membership, Attempt(source, end, Protocol.TCP, port)) for end in ends
        )

    plain = Attempt(source, Endpoint(vip), Protocol.TCP, 80)
    wanted = all(reaches(*one) for one in chosen) if chosen else expected(world, plain, Direction.EGRESS)
    assert model.passes("egress", packet(plain, cgroup="system.slice/a.service")) is wanted
    other = replace(plain, port=81)
    assert model.passes("egress", packet(other, cgroup="system.slice/a.service")) is expected(
        world, other, Direction.EGRESS
    )


@bounded
@given(st.data())
def test_membership_changes_sets_only(data: st.DataObject) -> None:
    """Workloads that join, leave or change labels change no rule, as long as the subject stays as it is."""
    before, after = data.draw(worlds()), data.draw(worlds())
    subject = before.members[0]
    unit = [Subject(subject, SubjectKind.UNIT, "system.slice/a.service")]
    one = plan(before.policies, before.membership, unit, options=Options())
    other = plan(before.policies, after.membership, unit, options=Options())
    assert one.rules == other.rules
    assert one.sets.keys() == other.sets.keys()
    assert one.units == other.units
