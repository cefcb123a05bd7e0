"""Health probes on the real kernel: in plaintext to the port and from the network that is named, and counted."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.test_firewall import Bench
from tests.support.netns import Namespace, connect, is_answered, listen, make_socket, namespace
from tests.support.netns_helper import running_helper

from hostmesh.firewall.plan import Subject, SubjectKind
from hostmesh.model.address import IPAddress, parse_ip
from hostmesh.model.network_policy import NetworkPolicy
from hostmesh.redirect.plan import ListenerPorts, compile_intent, plan
from hostmesh.redirect.probes import SOURCES, ProbeRedirector
from hostmesh.redirect.subjects import Probe, Scope

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

STRANGER = "10.77.0.9"


def test_probes_of_a_unit(lab: Lab, tmp_path: Path) -> None:
    """From the prober to its port: direct, under a policy that isolates, too; all else is captured, or dropped."""
    bench = Bench(lab, tmp_path)
    prober = ip_network(lab.peer.v4)
    unit = replace(lab.units[0], scope=Scope(probes=(Probe(8010, (prober, ip_network("fd77::1"))),)))
    lab.apply(compile_intent(replace(plan([unit]).intent, cgroup_prefix=lab.cgroups.nft_prefix)))
    app, other = (lab.listen(lab.host, "::", port, lab.a) for port in (8010, 8011))
    proxy = lab.listen(lab.host, "::", 15006)

    def reached(port: int, source: str, *, v6: bool = False) -> int:
        if not bench.reaches(port, source, v6=v6):
            return 0
        (listener,) = select.select([app, other, proxy], [], [], 10)[0]
        return int(lab.accept(listener).getsockname()[1])

    assert reached(8010, lab.peer.v4) == 8010
    assert reached(8010, lab.peer.v6, v6=True) == 8010
    assert reached(8010, STRANGER) == 15006
    assert reached(8011, lab.peer.v4) == 15006
    with lab.host.entered():
        assert lab.redirector.counters() == {"probes_1": 2}
        assert lab.redirector.verify() == ()
    isolated = Subject(bench.a, SubjectKind.UNIT, lab.a.path, ((prober, 8010),))
    bench.apply(bench.plan(NetworkPolicy("deny", "prod"), subject=isolated))
    assert reached(8010, lab.peer.v4) == 8010
    assert reached(8010, STRANGER) == 0
    assert reached(8011, lab.peer.v4) == 0


class Containers:
    """A host with two captured containers on a bridge, and a machine beyond it."""

    def __init__(self, stack: ExitStack, directory: Path, family: int) -> None:
        self.stack = stack
        self.family = family
        self.host, self.far = (stack.enter_context(namespace(hint)) for hint in ("host", "far"))
        self.host, self.far = connect(self.host, self.far, 79)
        self.far.ip(f"route add 10.99.0.0/24 via {self.host.v4}")
        self.far.ip(f"route add fd99::/64 via {self.host.v6}")
        self.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.host.ip("link add br0 type bridge")
        self.host.ip("link set br0 addrgenmode none")
        self.host.ip("addr add fe80::1/64 dev br0 nodad")  # from which neighbours of a probe are looked for
        self.host.ip("addr add 10.99.0.1/24 dev br0")
        self.host.ip("addr add fd99::1/64 dev br0 nodad")
        self.host.ip("link set br0 up")
        self.boxes = [self._box(number) for number in (2, 3)]
        helper = stack.enter_context(running_helper(directory))
        with self.boxes[0].path.open() as inside:
            entered = helper.enter(inside.fileno(), ListenerPorts(), (), self.addresses)
        self.listeners = dict(entered.listeners)
        for _, sock in entered.listeners:
            stack.enter_context(sock)
        self.app = stack.enter_context(listen(self.boxes[0], "::", 8080))
        self.prober = ProbeRedirector(directory)

    def _box(self, number: int) -> Namespace:
        box = self.stack.enter_context(namespace(f"box{number}"))
        self.host.ip(f"link add p{number} type veth peer name eth0 netns {box.name}")
        self.host.ip(f"link set p{number} master br0 up")
        box.ip(f"addr add 10.99.0.{number}/24 dev eth0")
        box.ip(f"addr add fd99::{number}/64 dev eth0 nodad")
        box.ip("link set eth0 addrgenmode none")
        box.ip("link set eth0 up")
        box.ip("route add default via 10.99.0.1")
        box.ip("route add default via fd99::1")
        return Namespace(box.name, f"10.99.0.{number}", f"fd99::{number}")

    @property
    def addresses(self) -> list[IPAddress]:
        """Of the captured one."""
        return [parse_ip(self.boxes[0].v4), parse_ip(self.boxes[0].v6)]

    def of(self, where: Namespace) -> str:
        """Its address of the family that the test is about."""
        return where.v4 if self.family == 4 else where.v6

    def apply(self) -> tuple[str, ...]:
        with self.host.entered():
            return self.prober.apply(self.addresses)

    def seen(self, where: Namespace, source: str = "") -> tuple[str, str]:
        """Who took a connection to the container's application, and where it came from; empty: nobody did."""
        with make_socket(where, family=socket.AF_INET if self.family == 4 else socket.AF_INET6) as sock:
            if source:
                sock.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND, as an address of IPv6 takes its time
                where.run("ip", "addr", "replace", f"{source}/{32 if self.family == 4 else 128}", "dev", "lo")
                sock.bind((source, 0))
            if not is_answered(sock, (self.of(self.boxes[0]), 8080)):
                return "", ""
            names = {self.app: "app", self.listeners["inbound_plaintext"]: "proxy"}
            (listener,) = select.select(list(names), [], [], 10)[0]
            accepted, peer = listener.accept()
            accepted.close()
            return names[listener], str(peer[0]).removeprefix("::ffff:")


@pytest.fixture(params=[4, 6])
def containers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Containers]:
    with ExitStack() as stack:
        yield Containers(stack, tmp_path, request.param)


def test_probes_of_a_container(containers: Containers) -> None:
    """What the host itself sends is a probe; what it forwards, and what others forge, is not."""
    host, far, neighbour = containers.host, containers.far, containers.boxes[1]
    assert containers.seen(host) == ("proxy", "10.99.0.1" if containers.family == 4 else "fd99::1")
    assert containers.apply() == ("table inet hostmesh_probes laid out",)
    assert containers.apply() == ()
    assert containers.seen(host) == ("app", SOURCES[containers.family])
    assert containers.seen(far) == ("proxy", containers.of(far))
    assert containers.seen(neighbour) == ("proxy", containers.of(neighbour))
    assert containers.seen(far, SOURCES[containers.family]) == ("", "")
    assert containers.seen(neighbour, SOURCES[containers.family]) == ("", "")
    host.run("nft", "flush", "ruleset")
    assert containers.apply() != ()
    assert containers.seen(host) == ("app", SOURCES[containers.family])


def test_a_masquerade_does_not_come_first(containers: Containers) -> None:
    """Container runtimes masquerade what the bridge sends; a probe is a probe all the same."""
    containers.host.run(
        "nft",
        "add table inet nat; add chain inet nat post { type nat hook postrouting priority 100; }; "
        "add rule inet nat post oifname br0 masquerade",
    )
    containers.apply()
    assert containers.seen(containers.host) == ("app", SOURCES[containers.family])


def test_nobody_is_probed(containers: Containers) -> None:
    """Nothing stays, whatever was there."""
    containers.apply()
    with containers.host.entered():
        assert containers.prober.apply(()) == ("table inet hostmesh_probes is gone",)
        assert containers.prober.apply(()) == ()
    assert containers.host.run("nft", "list", "ruleset") == ""
