"""Names on a host: real resolvers that split by domain, real clients, and what remains when the agent is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from click.testing import CliRunner
from tests.netns.two_hosts import put_certificate
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.netns import Namespace
from tests.support.pki import Authority

from hostmesh.cli.dns import integrate, remove

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

USER = 20003
VIP = "240.240.0.1"
NAME = "web.prod.svc.cluster.local"
MESH = f"""
workloads:
- {{name: w1, serviceAccount: w1, namespace: prod, workloadIps: [CLIENT], protocol: HBONE, node: host1, services: {{}}}}
- name: w2
  serviceAccount: w2
  namespace: prod
  workloadIps: [SERVER]
  protocol: HBONE
  node: host2
  services: {{prod/{NAME}: {{"80": 8080}}}}
services:
- {{name: web, namespace: prod, hostname: {NAME}, vips: [/{VIP}], ports: {{"80": 8080}}}}
"""


@dataclass
class Names:
    """The host's agent answers names; ordinary ones are known to a dnsmasq of the peer."""

    lab: Lab
    client: RunningAgent
    start_server: Callable[[], RunningAgent]
    stack: ExitStack

    def ask(
        self,
        name: str,
        where: tuple[str, int] = ("127.0.0.1", 15053),
        kind: str = "A",
        *,
        tcp: bool = False,
        timeout: float = 10,
        **more: object,
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]
        with self.lab.host.entered():
            way = dns.query.tcp if tcp else dns.query.udp
            return way(query, where[0], port=where[1], timeout=timeout)

    def addresses(self, name: str, where: tuple[str, int] = ("127.0.0.1", 15053)) -> list[str]:
        return [item.to_text() for each in self.ask(name, where).answer for item in each if each.rdtype == 1]

    def run(self, where: Namespace, *argv: str) -> subprocess.Popen[bytes]:
        """A resolver, in the foreground."""
        process = subprocess.Popen(where.command(*argv))
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def answers_at(self, where: tuple[str, int]) -> None:
        def answers() -> bool:
            try:
                self.ask("plain.example.org", where, timeout=0.3)
            except (dns.exception.DNSException, OSError):
                return False
            return True

        until(answers)

    def stop_agent(self) -> None:
        self.client.process.send_signal(signal.SIGKILL)
        self.client.process.wait()


def dnsmasq(*more: str) -> list[str]:
    return [
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
        "--user=root", "--bind-interfaces", *more,
    ]  # fmt: skip


@pytest.fixture
def names(lab: Lab, tmp_path: Path) -> Iterator[Names]:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH.replace("CLIENT", lab.host.v4).replace("SERVER", lab.peer.v4))
    authority = Authority()
    lab.host.ip(f"route add default via {lab.peer.v4}")
    with ExitStack() as stack:

        def running(name: str, where: Namespace, cgroup: str, node: str) -> RunningAgent:
            directory = tmp_path / name
            directory.mkdir()
            made = stack.enter_context(agent(where, directory, cgroup))
            put_certificate(directory / "certificates", authority, name)
            (made.workloads / "w.yaml").write_text(
                f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n"
            )
            made.configure(
                node=node,
                workers=1,
                local_xds_path=str(mesh),
                certificates={"directory": str(directory / "certificates")},
                dns={"enabled": True, "upstreams": [lab.peer.v4], "plain": True},
            )
            start(made)
            return made

        client = running("w1", lab.host, lab.a.path, "host1")
        found = Names(lab, client, lambda: running("w2", lab.peer, lab.b.path, "host2"), stack)
        texts = [f"--txt-record=long.example.org,{number:03}{'x' * 200}" for number in range(40)]
        upstream = ["--address=/plain.example.org/192.0.2.7", f"--listen-address={lab.peer.v4}", *texts]
        found.run(lab.peer, *dnsmasq(*upstream, "--except-interface=lo"))
        found.answers_at((lab.peer.v4, 53))
        yield found


def test_names_of_services(names: Names) -> None:
    """Their addresses, over UDP and TCP, in whatever way they are written; a client that asks reaches the service."""
    for name in (NAME, "web.prod.svc", "WEB.prod"):
        assert names.addresses(name) == [VIP]
    assert names.ask(NAME, tcp=True).answer[0][0].to_text() == VIP
    assert names.ask(NAME, ("::1", 15053)).answer[0][0].to_text() == VIP
    there = names.ask(NAME, kind="AAAA")
    assert (there.rcode(), there.answer) == (dns.rcode.NOERROR, [])
    assert names.ask(NAME, kind="TXT").rcode() == dns.rcode.NOERROR
    gone = names.ask("nobody.prod.svc.cluster.local")
    assert gone.rcode() == dns.rcode.NXDOMAIN
    assert gone.flags & dns.flags.AA

    names.start_server()
    until(lambda: json.loads(names.client.get(15000, "/status"))["ready"])
    listener = names.lab.listen(names.lab.peer, names.lab.peer.v4, 8080, names.lab.b)
    sock = names.lab.connect(names.lab.host, (names.addresses(NAME)[0], 80), names.lab.a)
    sock.sendall(b"hello")
    with names.lab.accept(listener) as served:
        assert served.recv(5) == b"hello"


def test_questions_of_a_captured_workload(names: Names) -> None:
    """Whatever server it asks, the agent answers, and knows who asks; others ask whom they mean to."""
    (names.client.workloads / "w.yaml").write_text(
        "workload: prod/w1\nserviceAccount: w1\ncapture: {unit: w1.service, dns: true}\n"
    )
    names.client.reload()
    server = (names.lab.peer.v4, 53)

    def asked_by_the_unit(name: str) -> list[str]:
        with names.lab.a.entered():
            return names.addresses(name, server)

    for name in (NAME, "web"):
        until(lambda name=name: asked_by_the_unit(name) == [VIP])
    assert asked_by_the_unit("plain.example.org") == ["192.0.2.7"]
    with names.lab.a.entered():
        assert names.ask(NAME, server, tcp=True).answer[0][0].to_text() == VIP
        assert names.addresses("web", ("127.0.0.53", 53)) == [VIP]
    assert names.addresses(NAME, server) == []
    names.lab.host.run("nft", "flush", "ruleset")
    until(lambda: asked_by_the_unit("web") == [VIP])

    (names.client.workloads / "w.yaml").write_text(
        f"workload: prod/w1\nserviceAccount: w1\ncapture: {{user: '{USER}', dns: true}}\n"
    )
    names.client.reload()

    def asked_by_the_user(name: str) -> list[str]:
        with names.lab.host.entered():
            os.seteuid(USER)
            try:
                answer = dns.query.udp(dns.message.make_query(name, "A"), server[0], timeout=10).answer
            finally:
                os.seteuid(0)
        return [item.to_text() for each in answer for item in each]

    until(lambda: asked_by_the_user("web") == [VIP])
    assert asked_by_the_user("plain.example.org") == ["192.0.2.7"]
    assert asked_by_the_unit("web") == []


@pytest.mark.parametrize("capture", ["unit: w1.service", f"user: '{USER}'"])
def test_without_the_agent_a_captured_workload_resolves_ordinary_names(names: Names, capture: str) -> None:
    """At whomever it asks, over UDP and TCP, however the agent went; with the agent it is answered by it again."""
    (names.client.workloads / "w.yaml").write_text(
        f"workload: prod/w1\nserviceAccount: w1\ncapture: {{{capture}, dns: true}}\n"
    )
    names.client.reload()

    def asked(name: str, *, tcp: bool) -> list[str]:
        query = dns.message.make_query(name, "A")
        with names.lab.a.entered(), names.lab.host.entered():
            os.seteuid(USER)
            try:
                way = dns.query.tcp if tcp else dns.query.udp
                answer = way(query, names.lab.peer.v4, timeout=10).answer
            finally:
                os.seteuid(0)
        return [item.to_text() for each in answer for item in each]

    until(lambda: asked("web", tcp=False) == [VIP])
    assert asked("web", tcp=True) == [VIP]
    names.stop_agent()
    for tcp in (False, True):
        assert asked("plain.example.org", tcp=tcp) == ["192.0.2.7"]
        assert asked("web", tcp=tcp) == []
    start(names.client)
    until(lambda: asked("web", tcp=False) == [VIP])


def test_all_other_names_are_asked_elsewhere(names: Names) -> None:
    """Byte for byte what the upstream says: EDNS, truncation, TCP; and it is counted."""
    upstream = (names.lab.peer.v4, 53)
    for name, kind, tcp, more in (
        ("plain.example.org", "A", False, {}),
        ("plain.example.org", "A", True, {}),
        ("nothing.example.org", "A", False, {}),
        ("long.example.org", "TXT", True, {}),
        ("long.example.org", "TXT", False, {}),
        ("long.example.org", "TXT", False, {"use_edns": 0, "payload": 1232}),
    ):
        here = names.ask(name, kind=kind, tcp=tcp, **more)
        there = names.ask(name, upstream, kind=kind, tcp=tcp, **more)
        assert (here.rcode(), here.flags, sorted(map(str, here.answer))) == (
            there.rcode(),
            there.flags,
            sorted(map(str, there.answer)),
        )
    assert names.ask("long.example.org", kind="TXT").flags & dns.flags.TC
    assert len(names.ask("long.example.org", kind="TXT", tcp=True).to_wire()) > 8000
    metrics = names.client.get(15020, "/metrics")
    assert 'istio_dns_upstream_failures_total{request_protocol="udp",request_query_type="a"' in metrics
    assert "istio_dns_upstream_request_duration_seconds_bucket" in metrics


def test_dnsmasq_splits_and_does_without_the_agent(names: Names, tmp_path: Path) -> None:
    """With the drop-in: names of the mesh from the agent, ordinary ones from upstream, whoever is stopped."""
    drop_in = integrated(tmp_path, names, "dnsmasq", "etc/dnsmasq.d")
    names.run(
        names.lab.host,
        *dnsmasq("--listen-address=127.0.0.1", f"--server={names.lab.peer.v4}", f"--conf-dir={drop_in}"),
    )
    splits(names, ("127.0.0.1", 53))


def test_unbound_splits_and_does_without_the_agent(names: Names, tmp_path: Path) -> None:
    """As dnsmasq."""
    drop_in = integrated(tmp_path, names, "unbound", "etc/unbound/unbound.conf.d")
    config = tmp_path / "unbound.conf"
    config.write_text(
        'server:\n  interface: 127.0.0.1\n  username: ""\n  chroot: ""\n  do-daemonize: no\n  pidfile: ""\n'
        "  use-syslog: no\n  module-config: iterator\n"
        f'include: "{drop_in}/*.conf"\nforward-zone:\n  name: "."\n  forward-addr: {names.lab.peer.v4}\n'
    )
    names.run(names.lab.host, "unbound", "-d", "-c", str(config))
    splits(names, ("127.0.0.1", 53))


def test_a_plain_resolv_conf(names: Names, tmp_path: Path) -> None:
    """The agent is asked first and passes on what is not its own; while it is stopped the others are asked."""
    file = tmp_path / "root" / "etc" / "resolv.conf"
    file.parent.mkdir(parents=True)
    before = f"# ours\nnameserver {names.lab.peer.v4}\noptions attempts:1"
    file.write_text(before)
    arguments = ["--config", str(names.client.config), "--root", str(tmp_path / "root")]
    assert CliRunner().invoke(integrate, arguments).output == "resolv.conf: changed\n"
    assert CliRunner().invoke(integrate, arguments).output == "resolv.conf: unchanged\n"

    def look_up(name: str) -> str:
        script = f"mount --bind {file} /etc/resolv.conf && exec getent ahostsv4 {name}"
        done = subprocess.run(
            names.lab.host.command("unshare", "--mount", "sh", "-c", script),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split(maxsplit=1)[0] if done.stdout else ""

    assert look_up(NAME) == VIP
    assert look_up("plain.example.org") == "192.0.2.7"
    names.stop_agent()
    assert look_up(NAME) == ""
    assert look_up("plain.example.org") == "192.0.2.7"
    assert CliRunner().invoke(remove, ["--root", str(tmp_path / "root")]).output == "changed\n"
    assert file.read_text() == before


def integrated(directory: Path, names: Names, resolver: str, drop_ins: str) -> Path:
    """The directory of drop-ins, after the command."""
    (directory / "root" / drop_ins).mkdir(parents=True)
    arguments = ["--config", str(names.client.config), "--root", str(directory / "root"), "--resolver", resolver]
    assert CliRunner().invoke(integrate, arguments).output == f"{resolver}: changed\n"
    return directory / "root" / drop_ins


def splits(names: Names, resolver: tuple[str, int]) -> None:
    names.answers_at(resolver)
    assert names.addresses(NAME, resolver) == [VIP]
    assert names.ask("nobody.prod.svc.cluster.local", resolver).rcode() == dns.rcode.NXDOMAIN
    assert names.addresses("plain.example.org", resolver) == ["192.0.2.7"]
    names.stop_agent()
    assert names.addresses("plain.example.org", resolver) == ["192.0.2.7"]
    start(names.client)
    assert names.addresses(NAME, resolver) == [VIP]
