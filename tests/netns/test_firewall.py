"""The firewall on the real kernel: who gets through, what is never cut, and that nothing else is touched."""

from __future__ import annotations

import os
import select
import socket
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.netns import Cgroup, Namespace, comes, connect, is_answered, namespace

from hostmesh.enrolment.namespaces import CapturedNamespace
from hostmesh.enrolment.policing import Knowledge, Policing
from hostmesh.firewall.apply import Firewall
from hostmesh.firewall.plan import Options, Subject, SubjectKind, plan
from hostmesh.firewall.ruleset import TABLE, Ruleset
from hostmesh.kernel.listeners import receivers
from hostmesh.kernel.notices import Notices
from hostmesh.model.address import parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.local import NOTICES, LocalWorkload
from hostmesh.model.network_policy import (
    Direction,
    IpBlock,
    Member,
    Membership,
    NetworkPolicy,
    Operator,
    PolicyRule,
    PortRange,
    Protocol,
    Requirement,
    Selector,
    WorkloadPeer,
)

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

USER = 20004
BOTH = frozenset(Direction)
DENY = NetworkPolicy("deny", "prod", isolates=BOTH)
FOREIGN = "table inet filter {\n chain input {\n type filter hook input priority 0; tcp dport 9 counter drop\n }\n}\n"


class Bench:
    """A host with the workload prod/a (the lab's unit a), and a peer that calls from two addresses."""

    def __init__(self, lab: Lab, runtime: Path) -> None:
        self.lab = lab
        self.firewall = Firewall(lab.cgroups, runtime)
        self.peer = Member("peer", "peer", "prod", addresses=(parse_ip(lab.peer.v4), parse_ip(lab.peer.v6)))
        self.a = Member("a", "a", "prod", addresses=(parse_ip(lab.host.v4), parse_ip(lab.host.v6)))
        self.unit = Subject(self.a, SubjectKind.UNIT, lab.a.path)
        device = lab.peer.run("ip", "-o", "-4", "addr", "show", "scope", "global").split()[1]
        lab.peer.ip(f"addr add 10.77.0.9/24 dev {device}")
        self.device = device

    def plan(self, *policies: NetworkPolicy, subject: Subject | None = None, peers: bool = True) -> Ruleset:
        known = Membership((self.a, self.peer) if peers else (self.a,))
        options = Options(cgroup_prefix=self.lab.cgroups.nft_prefix)
        return plan(policies, known, [subject or self.unit], options=options)

    def apply(self, ruleset: Ruleset) -> tuple[str, ...]:
        with self.lab.host.entered():
            return self.firewall.apply(ruleset)

    def differences(self, ruleset: Ruleset) -> tuple[str, ...]:
        with self.lab.host.entered():
            return self.firewall.differences(ruleset)

    def reaches(self, port: int, source: str = "", *, v6: bool = False) -> bool:
        """Whether a new connection of the peer gets an answer of the host."""
        sock = self.lab.socket(self.lab.peer, like="::" if v6 else "")
        if source:
            sock.bind((source, 0))
        return is_answered(sock, (self.lab.host.v6 if v6 else self.lab.host.v4, port))

    def leaves(self, port: int, mark: int = 0) -> bool:
        """Whether a new connection of the unit reaches the peer."""
        sock = self.lab.socket(self.lab.host, self.lab.a)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, 36, mark)
        return is_answered(sock, (self.lab.peer.v4, port))


@pytest.fixture
def bench(lab: Lab, tmp_path: Path) -> Bench:
    return Bench(lab, tmp_path)


def tcp(port: int) -> PolicyRule:
    return PolicyRule(
        (WorkloadPeer(workloads=Selector()),),
        (PortRange(Protocol.TCP, port, port),),
    )


ALLOW = NetworkPolicy("allow", "prod", isolates=BOTH, ingress=(tcp(8010),), egress=(tcp(8080),))


def test_ingress_of_a_unit(bench: Bench) -> None:
    """The listener's unit decides: its policy holds for its ports, in both families, and for nobody else's."""
    for port in (8010, 8011, 22):
        bench.lab.listen(bench.lab.host, "::", port, bench.lab.a)
    bench.lab.listen(bench.lab.host, "::", 8020, bench.lab.other)
    bench.apply(bench.plan(ALLOW))
    assert bench.reaches(8010)
    assert bench.reaches(8010, v6=True)
    assert not bench.reaches(8011)
    assert not bench.reaches(8011, v6=True)
    assert not bench.reaches(8010, "10.77.0.9")
    assert bench.reaches(8020, "10.77.0.9")
    assert bench.reaches(22, "10.77.0.9")
    bench.lab.connect(bench.lab.host, ("127.0.0.1", 8011))
    bench.lab.connect(bench.lab.host, (bench.lab.host.v4, 8011))


def test_egress_of_a_unit(bench: Bench) -> None:
    """Where the unit may go; the agent's marked sockets go everywhere, and so do other processes."""
    for port in (8080, 8081):
        bench.lab.listen(bench.lab.peer, bench.lab.peer.v4, port)
    bench.apply(bench.plan(ALLOW))
    assert bench.leaves(8080)
    assert not bench.leaves(8081)
    assert bench.leaves(8081, mark=0x1539)
    bench.lab.connect(bench.lab.host, (bench.lab.peer.v4, 8081), bench.lab.other)


def test_a_user_as_a_workload(bench: Bench) -> None:
    """In by the ports that the user listens on, out by the owner of the socket; a unit that runs as it is a unit."""
    lab = bench.lab
    for port in (8010, 8011, 8012):
        lab.listen(lab.host, "::", port, lab.other)
    for port in (8080, 8081):
        lab.listen(lab.peer, lab.peer.v4, port)
    user = Subject(bench.a, SubjectKind.USER, uid=USER, ports=(8010, 8011))
    unit = Subject(bench.peer, SubjectKind.UNIT, lab.b.path)
    options = Options(cgroup_prefix=lab.cgroups.nft_prefix)
    policy = replace(ALLOW, selector=Selector((Requirement("app", Operator.IN, frozenset({"a"})),)))
    a = replace(bench.a, labels={"app": "a"})
    known = Membership((a, bench.peer))
    bench.apply(plan([policy], known, [replace(user, member=a), unit], options=options))
    assert [port for port in (8010, 8011, 8012) if bench.reaches(port)] == [8010, 8012]
    assert [port for port in (8010, 8011, 8012) if bench.reaches(port, "10.77.0.9")] == [8012]

    def leaves(port: int, cgroup: Cgroup) -> bool:
        with lab.host.entered(), cgroup.entered():
            os.seteuid(USER)
            try:
                sock = lab.stack.enter_context(socket.socket())
            finally:
                os.seteuid(0)
        return is_answered(sock, (lab.peer.v4, port))

    assert [port for port in (8080, 8081) if leaves(port, lab.other)] == [8080]
    assert [port for port in (8080, 8081) if leaves(port, lab.b)] == [8080, 8081]
    known_later = replace(user, member=a, ports=(8010, 8012))
    changed = plan([policy], known, [known_later, unit], options=options)
    assert bench.apply(changed) == ("t.prod.a has other elements",)
    assert not bench.reaches(8012)


def test_what_systemd_listens_on_for_a_unit(bench: Bench) -> None:
    """A listener outside the unit's cgroup is judged by its port; other ports of that cgroup are not."""
    lab = bench.lab
    for port in (8010, 8011, 8012):
        lab.listen(lab.host, "::", port, lab.other)
    with lab.host.entered(), lab.other.entered():
        datagrams = lab.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        datagrams.bind(("", 8010))
    unit = Subject(bench.a, SubjectKind.UNIT, lab.a.path, ports=(8010, 8011), datagrams=(8010,))
    options = Options(cgroup_prefix=lab.cgroups.nft_prefix)
    bench.apply(plan([ALLOW], Membership((bench.a, bench.peer)), [unit], options=options))
    with lab.peer.entered():
        client = lab.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    client.sendto(b"?", (lab.host.v4, 8010))
    assert not comes(datagrams), "only TCP is allowed"
    assert [port for port in (8010, 8011, 8012) if bench.reaches(port)] == [8010, 8012]
    assert [port for port in (8010, 8011, 8012) if bench.reaches(port, "10.77.0.9")] == [8012]


def test_datagrams_to_a_user(bench: Bench) -> None:
    """By the ports that are known; at one that is not, who asks gets no answer, and the agent hears of it."""
    lab, allowed, stranger = bench.lab, bench.lab.peer.v4, "10.77.0.9"
    sockets = {}
    with lab.host.entered():
        os.seteuid(USER)
        try:
            for port in (8010, 8011, 8012):
                sockets[port] = lab.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                sockets[port].bind(("", port))
        finally:
            os.seteuid(0)
        assert {one.port for one in receivers() if one.uid == USER} == {8010, 8011, 8012}

    def heard(port: int, source: str) -> tuple[bool, bool]:
        """Whether the question arrives, and the answer."""
        with lab.peer.entered():
            client = lab.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        client.bind((source, 0))
        client.sendto(b"?", (lab.host.v4, port))
        if not comes(sockets[port]):
            return False, False
        _, sender = sockets[port].recvfrom(1)
        with suppress(PermissionError):
            sockets[port].sendto(b"!", sender)
        return True, comes(client) and client.recv(1) == b"!"

    rule = PolicyRule((WorkloadPeer(workloads=Selector()),), (PortRange(Protocol.UDP, 8010, 8011),))
    policy = NetworkPolicy("allow", "prod", isolates=frozenset({Direction.INGRESS}), ingress=(rule,))
    user = Subject(bench.a, SubjectKind.USER, uid=USER, datagrams=(8010, 8011))
    bench.apply(bench.plan(policy, subject=user))
    with lab.host.entered():
        notices = lab.stack.enter_context(closing(Notices(NOTICES)))
    assert [heard(port, allowed) for port in (8010, 8011)] == [(True, True), (True, True)]
    assert select.select([notices], [], [], 0)[0] == []
    assert heard(8012, allowed) == (True, False)
    assert select.select([notices], [], [], 5)[0]
    assert [heard(port, stranger) for port in (8010, 8011, 8012)] == [(False, False), (False, False), (True, False)]


def test_the_host_as_a_workload(bench: Bench) -> None:
    """Peers reach the allowed port and tunnels, strangers reach ssh alone; forged probes reach nothing."""
    host = Subject(bench.a)
    bench.apply(bench.plan(ALLOW, subject=host))
    assert [port for port in (22, 8010, 8011, 15008) if bench.reaches(port)] == [22, 8010, 15008]
    assert [port for port in (22, 8010, 15008) if bench.reaches(port, "10.77.0.9")] == [22]
    bench.lab.peer.ip(f"addr add 169.254.7.127/16 dev {bench.device}")
    bench.lab.host.run("ip", "route", "add", "169.254.0.0/16", "via", bench.lab.peer.v4)
    probes = PolicyRule((IpBlock(ip_network("169.254.7.127/32")),))
    bench.apply(bench.plan(replace(ALLOW, ingress=(probes,)), subject=host))
    assert not bench.reaches(8010, "169.254.7.127")


def test_beside_capture(bench: Bench) -> None:
    """Captured connections are judged by the port that was meant, though the agent takes them in at 15006."""
    bench.lab.apply()
    proxy = bench.lab.listen(bench.lab.host, "::", 15006)
    for port in (8010, 8011):
        bench.lab.listen(bench.lab.host, "::", port, bench.lab.a)
    bench.apply(bench.plan(ALLOW))
    assert bench.reaches(8010)
    bench.lab.accept(proxy)
    assert not bench.reaches(8011)
    outbound = bench.lab.listen(bench.lab.host, "127.0.0.1", 15001)
    assert bench.leaves(8080)
    bench.lab.accept(outbound)
    assert not bench.leaves(8081)


def test_open_connections_survive(bench: Bench) -> None:
    """A policy that would not admit them leaves sessions alone."""
    listener = bench.lab.listen(bench.lab.host, bench.lab.host.v4, 8011, bench.lab.a)
    client = bench.lab.connect(bench.lab.peer, (bench.lab.host.v4, 8011))
    accepted = bench.lab.accept(listener)
    bench.apply(bench.plan(DENY))
    client.sendall(b"still")
    assert accepted.recv(5) == b"still"
    accepted.sendall(b"here")
    assert client.recv(4) == b"here"
    assert not bench.reaches(8011)


def test_applied_once(bench: Bench) -> None:
    """The second time there is nothing to do; another plan replaces everything that the first one had."""
    first = bench.plan(ALLOW)
    assert bench.apply(first) == (f"table inet {TABLE} is not there",)
    assert bench.apply(first) == ()
    assert bench.apply(bench.plan(DENY)) == ("the rules are those of another plan",)
    assert "p.prod.allow" not in bench.lab.host.run("nft", "list", "ruleset")
    bench.apply(bench.plan())
    assert "chain in." not in bench.lab.host.run("nft", "list", "ruleset")


def test_membership_changes_sets(bench: Bench) -> None:
    """Who joins is let in by an element; the rules stay the very same."""
    bench.lab.listen(bench.lab.host, "::", 8010, bench.lab.a)
    bench.apply(bench.plan(ALLOW, peers=False))
    assert not bench.reaches(8010)
    handles = bench.lab.host.run("nft", "-a", "list", "chain", "inet", TABLE, "in.prod.a")
    changed = bench.apply(bench.plan(ALLOW))
    assert set(changed) == {f"p.prod.allow.{way}0.v{f} has other elements" for way in ("in", "out") for f in (4, 6)}
    assert bench.reaches(8010)
    assert bench.lab.host.run("nft", "-a", "list", "chain", "inet", TABLE, "in.prod.a") == handles


def test_large_sets_are_filled_behind_closed_doors(bench: Bench, tmp_path: Path) -> None:
    """In pieces: what is not there yet is dropped, and in the end everything is there."""
    bench.lab.listen(bench.lab.host, "::", 8010, bench.lab.a)
    blocks = tuple(IpBlock(ip_network((0x0A4D0000 | n, 32))) for n in range(1, 100, 2))
    rule = PolicyRule(blocks, (PortRange(Protocol.TCP, 8010, 8010),))
    bench.firewall = Firewall(bench.lab.cgroups, tmp_path, piece=7)
    ruleset = bench.plan(replace(ALLOW, ingress=(rule,)))
    bench.apply(ruleset)
    assert bench.differences(ruleset) == ()
    assert bench.reaches(8010, "10.77.0.9")


@pytest.mark.parametrize(
    "change",
    [
        f"add rule inet {TABLE} in.prod.a accept",
        f"flush chain inet {TABLE} ingress",
        f"flush set inet {TABLE} p.prod.allow.in0.v4",
        f"delete table inet {TABLE}",
        "flush ruleset",
    ],
)
def test_changes_of_others_are_seen_and_corrected(bench: Bench, change: str) -> None:
    """Whatever somebody did to the table."""
    ruleset = bench.plan(ALLOW)
    bench.apply(ruleset)
    bench.lab.host.run("nft", *change.split())
    assert bench.differences(ruleset) != ()
    bench.apply(ruleset)
    assert bench.differences(ruleset) == ()
    bench.lab.listen(bench.lab.host, "::", 8011, bench.lab.a)
    assert not bench.reaches(8011)


def test_restarted_unit(bench: Bench) -> None:
    """A start has a new cgroup: it is seen as missing, added, and the old one's element removed."""
    ruleset = bench.plan(ALLOW)
    bench.apply(ruleset)
    bench.lab.a.stop()
    bench.lab.a.start()
    found = bench.differences(ruleset)
    assert f"{bench.lab.a.path} runs, but is not under its policies (Ingress)" in found
    assert [line for line in found if line.endswith("elements of no running unit")]
    bench.apply(ruleset)
    assert bench.differences(ruleset) == ()
    bench.lab.listen(bench.lab.host, "::", 8011, bench.lab.a)
    assert not bench.reaches(8011)


def test_foreign_rules_are_the_same_to_the_byte(bench: Bench) -> None:
    """Those of the administrator and of capture, while it is applied and after it is removed."""
    bench.lab.host.run("nft", "-f", "-", stdin=FOREIGN)
    bench.lab.apply()
    before = bench.lab.host.run("nft", "-a", "list", "ruleset")
    bench.apply(bench.plan(ALLOW))
    assert bench.lab.host.run("nft", "-a", "list", "ruleset").startswith(before)
    with bench.lab.host.entered():
        assert bench.lab.redirector.verify() == ()
        bench.firewall.remove()
        bench.firewall.remove()
    assert bench.lab.host.run("nft", "-a", "list", "ruleset") == before


def test_workloads_behind_the_host(lab: Lab, tmp_path: Path) -> None:
    """Forwarded connections: a workload in a namespace of its own is known by its address, in both directions."""
    with namespace("inner") as inner:
        _, box = connect(lab.host, inner, 78)
        box.ip("route add default via 10.78.0.1")
        lab.peer.ip(f"route add 10.78.0.0/24 via {lab.host.v4}")
        lab.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        member = Member("box", "box", "prod", addresses=(parse_ip(box.v4),))
        peer = Member("peer", "peer", "prod", addresses=(parse_ip(lab.peer.v4),))
        subject = Subject(member, SubjectKind.ADDRESSES)
        with lab.host.entered():
            Firewall(lab.cgroups, tmp_path).apply(plan([ALLOW], Membership((member, peer)), [subject]))

        def reaches(where: Namespace, address: str, port: int) -> bool:
            return is_answered(lab.socket(where), (address, port))

        assert [p for p in (8010, 8011, 15008) if reaches(lab.peer, box.v4, p)] == [8010, 15008]
        assert [p for p in (8080, 8081, 15008) if reaches(box, lab.peer.v4, p)] == [8080, 15008]
        assert reaches(lab.host, box.v4, 8011)
        assert reaches(box, "10.78.0.1", 8011)


@pytest.mark.parametrize(("net", "switch"), [("10.78.0.", "iptables"), ("fd78::", "ip6tables")])
def test_neighbours_on_a_bridge(lab: Lab, tmp_path: Path, net: str, switch: str) -> None:
    """Where the host's rules do not see what goes from port to port, that is said; where they do, policies hold."""
    host = lab.host
    for command in ("link add br7 type bridge", "link set br7 addrgenmode none", "link set br7 up"):
        host.ip(command)
    length = 24 if "." in net else 64
    host.ip(f"addr add {net}1/{length} dev br7")
    with ExitStack() as stack:
        boxes = [stack.enter_context(namespace(f"box{number}")) for number in (2, 3)]
        for number, box in enumerate(boxes, 2):
            host.ip(f"link add q{number} type veth peer name eth0 netns {box.name}")
            host.ip(f"link set q{number} master br7 up")
            box.ip(f"addr add {net}{number}/{length} dev eth0 {'nodad' if ':' in net else ''}")
            box.ip("link set eth0 up")
        addresses = (parse_ip(f"{net}2"), parse_ip(f"{net}3"))
        one, other = (Member(str(ip), f"box{ip.packed[-1]}", "prod", addresses=(ip,)) for ip in addresses)
        listener = lab.listen(boxes[0], f"{net}2", 8011)

        def reaches() -> bool:
            return is_answered(lab.socket(boxes[1], like=net), listener.getsockname()[:2])

        workload = LocalWorkload(7, "box2", "prod", Identity("cluster.local", "prod", "default"), "", in_namespace=True)
        captured = CapturedNamespace(workload, boxes[0].path, "", 0, addresses[:1])
        with host.entered():
            policing = Policing(Firewall(lab.cgroups, tmp_path))
            policing.learn(Knowledge((DENY,), Membership((one, other))))
            for value, expected in (("0", ["br7"]), ("1", [])):
                host.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{switch}={value}")
                policing.plan((), (captured,))
                policing.apply()
                assert [gap.split(" on ")[1].split()[0] for gap in policing.gaps] == expected
                assert reaches() == bool(expected)
