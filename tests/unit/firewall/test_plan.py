"""The table of the firewall: what is never cut, the exceptions that the mesh needs, and what cannot be planned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.firewall import FirewallModel, Packet

from hostmesh.firewall.chain import Hbone
from hostmesh.firewall.plan import Options, Subject, SubjectKind, plan
from hostmesh.model.address import SocketAddress, parse_ip
from hostmesh.model.network_policy import (
    Direction,
    Member,
    Membership,
    NetworkPolicy,
    PolicyRule,
    PortRange,
    Protocol,
)

HERE, PEER = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
HERE6, PEER6 = parse_ip("fd00::1"), parse_ip("fd00::2")
PROBE, PROBE6 = parse_ip("169.254.7.127"), parse_ip("fd16:9254:7127:1337:ffff:ffff:ffff:ffff")
WEB = Member("1", "web", "prod", addresses=(HERE,))
HOST = Member("2", "host", "prod", addresses=(HERE,))
UNIT = Subject(WEB, SubjectKind.UNIT, "system.slice/web.service")
BOTH = frozenset(Direction)
DENY = NetworkPolicy("deny", "prod", isolates=BOTH)
OPEN_80 = NetworkPolicy("allow", "prod", ingress=(PolicyRule(ports=(PortRange(Protocol.TCP, 80, 80),)),))
MARKED = 0x5539


def model(*subjects: Subject, policies: tuple[NetworkPolicy, ...] = (DENY,), **options: object) -> FirewallModel:
    known = Membership(tuple(subject.member for subject in subjects))
    return FirewallModel.of(plan(policies, known, subjects, options=Options(**options)))  # type: ignore[arg-type]


IN = Packet(PEER, HERE, dport=80)
OUT = Packet(HERE, PEER, dport=80)
CUT = [
    ("ingress", IN),
    ("ingress", replace(IN, protocol="udp", dport=53)),
    ("ingress", replace(IN, protocol="sctp")),
    ("ingress", replace(IN, saddr=PEER6, daddr=HERE6)),
    ("ingress", replace(IN, dport=15008)),
    ("ingress", replace(IN, dport=15006)),
    ("ingress", replace(IN, mark=0x539)),
    ("ingress", replace(IN, dport=2222)),
    ("egress", OUT),
    ("egress", replace(OUT, protocol="udp", dport=53)),
    ("egress", replace(OUT, saddr=HERE6, daddr=PEER6)),
    ("egress", replace(OUT, dport=22)),
    ("egress", replace(OUT, dport=15012)),
    ("egress", replace(OUT, mark=0x5000)),
]
NEVER_CUT = [
    ("ingress", replace(IN, established=True)),
    ("ingress", replace(IN, syn=False)),
    ("ingress", replace(IN, device="lo")),
    ("ingress", replace(IN, device="lo", saddr=PROBE)),
    ("ingress", replace(IN, dport=22)),
    ("ingress", replace(IN, protocol="udp", dport=68)),
    ("ingress", replace(IN, protocol="udp", dport=546, saddr=PEER6, daddr=HERE6)),
    ("ingress", replace(IN, protocol="icmp")),
    ("ingress", replace(IN, protocol="ipv6-icmp", saddr=PEER6, daddr=HERE6)),
    ("ingress", replace(IN, local=False)),
    ("egress", replace(OUT, established=True)),
    ("egress", replace(OUT, syn=False)),
    ("egress", replace(OUT, device="lo")),
    ("egress", replace(OUT, mark=MARKED)),
    ("egress", replace(OUT, mark=0x111)),
    ("egress", replace(OUT, protocol="udp", dport=67)),
    ("egress", replace(OUT, protocol="ipv6-icmp", saddr=HERE6, daddr=PEER6)),
    ("egress", replace(OUT, dport=15012, daddr=parse_ip("10.0.0.9"))),
    ("egress", replace(OUT, dport=15012, saddr=HERE6, daddr=parse_ip("fd00::9"))),
]
CONTROL_PLANE = (SocketAddress.parse("10.0.0.9:15012"), SocketAddress.parse("[fd00::9]:15012"))


@pytest.mark.parametrize(("base", "packet"), CUT)
def test_cut(base: str, packet: Packet) -> None:
    """A policy that denies everything denies it to the host and to a unit."""
    assert not model(Subject(HOST)).passes(base, packet)
    assert not model(UNIT).passes(base, replace(packet, cgroup=UNIT.cgroup))


@pytest.mark.parametrize(("base", "packet"), NEVER_CUT)
def test_never_cut(base: str, packet: Packet) -> None:
    """Whatever the policy: who operates the host is not locked out, and the mesh lives."""
    options = {"control_plane": CONTROL_PLANE}
    assert model(Subject(HOST), **options).passes(base, packet)
    assert model(UNIT, **options).passes(base, replace(packet, cgroup=UNIT.cgroup))


def test_ssh_is_where_it_is() -> None:
    """The ports of sshd are the host's own; none means that ssh is a port like others."""
    custom = model(Subject(HOST), ssh_ports=(2222, 22))
    assert custom.passes("ingress", replace(IN, dport=2222))
    assert not model(Subject(HOST), ssh_ports=()).passes("ingress", replace(IN, dport=22))


@pytest.mark.parametrize(("saddr", "daddr"), [(PROBE, HERE), (PROBE6, HERE6)])
def test_forged_probes(saddr: object, daddr: object) -> None:
    """The address of probes never comes over the wire; inside a workload's own namespace it does."""
    probe = replace(IN, saddr=saddr, daddr=daddr)
    for policies in ((), (OPEN_80,)):
        assert not model(Subject(HOST), policies=policies).passes("ingress", replace(probe, established=True))
    assert model(Subject(HOST), inside=True).passes("ingress", probe)
    assert not model(Subject(HOST), inside=True).passes("ingress", replace(probe, protocol="udp"))


@pytest.mark.parametrize(
    ("policies", "hbone", "meshed", "passes"),
    [
        ((DENY,), Hbone.PEERS, True, False),
        ((DENY,), Hbone.ANYBODY, True, True),
        ((DENY,), Hbone.ANYBODY, False, False),
        ((OPEN_80,), Hbone.PEERS, True, True),
        ((OPEN_80,), Hbone.PEERS, False, False),
        ((OPEN_80,), Hbone.ANYBODY, True, True),
    ],
)
def test_tunnels(policies: tuple[NetworkPolicy, ...], hbone: Hbone, meshed: bool, passes: bool) -> None:
    """15008 is open to the peers of rules for TCP, or to anybody; only where there is a mesh."""
    found = model(Subject(replace(HOST, meshed=meshed)), policies=policies, hbone=hbone)
    assert found.passes("ingress", replace(IN, dport=15008)) is passes
    if policies == (DENY,):
        assert found.passes("egress", replace(OUT, dport=15008)) is passes


def test_units_have_policies_of_their_own() -> None:
    """The host's policy does not cut a unit that nothing isolates, nor its tunnels; other processes are the host."""
    deny_host = replace(DENY, namespace="infra")
    host = Subject(replace(HOST, namespace="infra"))
    found = model(host, UNIT, policies=(deny_host,))
    assert found.passes("ingress", replace(IN, cgroup=UNIT.cgroup))
    assert found.passes("egress", replace(OUT, cgroup=f"{UNIT.cgroup}/worker"))
    assert not found.passes("ingress", replace(IN, cgroup="system.slice/db.service"))
    assert found.passes("ingress", replace(IN, dport=15008, cgroup="system.slice/hostmesh-agent.service"))
    assert not model(host, policies=(deny_host,)).passes("ingress", replace(IN, dport=15008))


def test_users_have_policies_of_their_own() -> None:
    """The host's policy does not cut a user whom nothing isolates: before it comes into question, all is accepted."""
    host = Subject(replace(HOST, namespace="infra"))
    user = Subject(WEB, SubjectKind.USER, uid=1234, ports=(80,))
    rules = plan((replace(DENY, namespace="infra"),), Membership((WEB, HOST)), (host, user)).rules.splitlines()
    for base, match in (("ingress", "tcp dport @t.prod.web"), ("egress", "meta skuid 1234")):
        said = [rule.partition(f"hostmesh_firewall {base} ")[2].partition(" comment")[0] for rule in rules]
        to_the_host = next(number for number, rule in enumerate(said) if rule.startswith("goto "))
        assert said.index(f"{match} accept") < to_the_host


@pytest.mark.parametrize(
    ("subject", "named"),
    [
        (Subject(WEB, SubjectKind.USER, uid=1234), True),
        (Subject(WEB, SubjectKind.USER, uid=1234, datagrams=(53,)), True),
        (UNIT, False),
        (replace(UNIT, ports=(80,)), True),
        (replace(UNIT, datagrams=(53,)), True),
    ],
)
def test_rules_and_sets_of_ports_go_together(subject: Subject, named: bool) -> None:
    """The kernel takes no rule by a set that is not there. A user may listen at any time, a unit's ports are known."""
    found = plan((DENY,), Membership((WEB,)), (subject,))
    for name in ("t.prod.web", "d.prod.web"):
        assert (f"dport @{name} " in found.rules, name in str(found.sets)) == (named, named)


def test_a_users_answers_are_judged_where_it_is_isolated_for_ingress() -> None:
    """One that is isolated for egress alone may answer from ports that are not known yet."""
    user = Subject(WEB, SubjectKind.USER, uid=1234, ports=(80,))
    for direction, judged in ((Direction.INGRESS, True), (Direction.EGRESS, False)):
        policy = replace(DENY, isolates=frozenset({direction}))
        rules = plan((policy,), Membership((WEB,)), (user,)).rules
        assert ("answers where it is not known yet" in rules) is judged


def test_deepest_cgroup_decides() -> None:
    """A template instance in a slice of its own is found at its depth."""
    deep = Subject(WEB, SubjectKind.UNIT, "system.slice/app.slice/app@1.service")
    found = model(deep)
    assert not found.passes("ingress", replace(IN, cgroup="system.slice/app.slice/app@1.service/child"))
    assert found.passes("ingress", replace(IN, cgroup="system.slice/app.slice/app@2.service"))


def test_nothing_isolated_judges_nothing() -> None:
    """Without a policy for a subject every packet passes."""
    found = model(UNIT, Subject(HOST), policies=())
    assert all(found.passes(base, replace(packet, cgroup=UNIT.cgroup)) for base, packet in CUT)


ADDRESSED = Subject(WEB, SubjectKind.ADDRESSES)
IMPOSSIBLE = [
    ((Subject(HOST), Subject(WEB)), "prod/host and prod/web have the same host: all of it"),
    ((UNIT, replace(UNIT, member=HOST)), "prod/host and prod/web have the same cgroup: system.slice/web.service"),
    ((ADDRESSED, replace(ADDRESSED, member=HOST)), "prod/host and prod/web have the same address: 10.0.0.1"),
    ((UNIT, ADDRESSED), "prod/web and prod/web have the same name: prod/web"),
    ((replace(UNIT, cgroup=""),), "prod/web cannot be known by the cgroup ''"),
    ((replace(UNIT, cgroup='a"b'),), "prod/web cannot be known by the cgroup 'a\"b'"),
    ((Subject(HOST, cgroup="a.slice"),), "prod/host cannot be known by the cgroup 'a.slice'"),
]


@pytest.mark.parametrize(("subjects", "why"), IMPOSSIBLE)
def test_impossible(subjects: tuple[Subject, ...], why: str) -> None:
    """Subjects that the kernel could not tell apart."""
    with pytest.raises(ValueError, match="prod") as raised:
        plan((), Membership(), subjects)
    assert str(raised.value) == why


def test_plan_is_a_value() -> None:
    """Neither the order of policies nor that of subjects changes anything; a changed policy changes the digest."""
    members = Membership((WEB, HOST))
    one = plan((DENY, OPEN_80), members, (UNIT, Subject(HOST)))
    assert one == plan((OPEN_80, DENY), members, (Subject(HOST), UNIT))
    assert one.digest != plan((DENY,), members, (UNIT, Subject(HOST))).digest
