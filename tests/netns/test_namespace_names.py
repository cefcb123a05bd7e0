"""Questions of a workload that has a network namespace to itself: the agent answers them, or whoever was asked."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest
from tests.netns.test_dns import dnsmasq
from tests.support.agent import until
from tests.support.netns import Namespace, linked
from tests.support.netns_helper import running_helper
from tests.support.pods import identity

from hostmesh.daemon.dns import DnsServer, DnsSettings
from hostmesh.daemon.dns_metrics import DnsMetrics
from hostmesh.daemon.dns_upstream import Upstream
from hostmesh.dns.answer import Client
from hostmesh.enrolment.namespaces import CapturedNamespace, Namespaces
from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.model.address import NetworkAddress, SocketAddress
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.redirect.plan import ListenerPorts
from hostmesh.state.store import MeshState

pytestmark = pytest.mark.netns

ANSWERED_AT = 15053
VIP, ORDINARY = "240.240.0.1", "192.0.2.7"


def look_up(where: Namespace, name: str, server: str, *, tcp: bool = False) -> list[str]:
    """What a process there hears."""
    with where.entered():
        way = dns.query.tcp if tcp else dns.query.udp
        answer = way(dns.message.make_query(name, "A"), server, timeout=5).answer
    return [item.to_text() for each in answer for item in each]


@contextmanager
def resolver(host: Namespace) -> Iterator[None]:
    """The host's, which knows ordinary names."""
    listening = [f"--listen-address={host.v4}", f"--listen-address={host.v6}", "--except-interface=lo"]
    process = subprocess.Popen(host.command(*dnsmasq(f"--address=/plain.example.org/{ORDINARY}", *listening)))

    def answers() -> bool:
        try:
            return look_up(host, "plain.example.org", host.v6) == [ORDINARY]
        except (dns.exception.DNSException, OSError):
            return False

    try:
        until(answers)
        yield
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def answering(helper: NetnsHelper, box: Namespace, upstream: str, dns_port: int) -> AsyncIterator[Namespaces]:
    """The part of an agent that a name needs; at the end everything is closed as if its process had ended."""
    state = MeshState()
    vips = (NetworkAddress("", ip_address(VIP)),)
    state.upsert_service(Service("web", "prod", "web.prod.svc.cluster.local", vips, ports={80: 8080}))
    server = DnsServer(
        state,
        Upstream([SocketAddress.of(upstream, 53)]),
        DnsMetrics(),
        DnsSettings(port=ANSWERED_AT),
        Client("default"),
    )
    namespaces = Namespaces(helper, ListenerPorts())
    workload = LocalWorkload(1, "app", "prod", identity("app"), "", in_namespace=True)
    wanted = CapturedNamespace(workload, box.path, "app.yaml", 1, dns=dns_port)
    await asyncio.to_thread(namespaces.refresh, [wanted])
    assert namespaces.problems == ()
    (opened,) = namespaces.open
    pairs = {str(place): opened.names[place : place + 2] for place in range(0, len(opened.names), 2)}
    server.follow({}, {name: (Client("prod", workload=workload.key), *pair) for name, pair in pairs.items()})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run(()))
        yield namespaces
        running.cancel()
    namespaces.close()


def test_names_of_a_namespace(tmp_path: Path) -> None:
    """Whichever server it asks: short names are those of its own namespace, others are passed on; by UDP and TCP."""
    with linked("box", "host") as (box, host), host.entered(), resolver(host), running_helper(tmp_path) as helper:

        async def asked(name: str, server: str, *, tcp: bool = False) -> list[str]:
            return await asyncio.to_thread(look_up, box, name, server, tcp=tcp)

        async def body() -> None:
            ways = [(server, tcp) for server in (host.v4, host.v6) for tcp in (False, True)]
            for _ in range(2):  # an agent starts, and starts again
                async with answering(helper, box, host.v4, ANSWERED_AT) as namespaces:
                    for server, tcp in ways:
                        assert await asked("web", server, tcp=tcp) == [VIP]
                        assert await asked("plain.example.org", server, tcp=tcp) == [ORDINARY]
                    await asyncio.to_thread(box.run, "nft", "flush", "ruleset")
                    assert await asked("web", host.v4) == []
                    assert any("laid out again" in one for one in await asyncio.to_thread(namespaces.reassert))
                    assert await asked("web", host.v4) == [VIP]
                for server, tcp in ways:
                    assert await asked("plain.example.org", server, tcp=tcp) == [ORDINARY]
                    assert await asked("web", server, tcp=tcp) == []

        asyncio.run(body())


def test_who_has_not_asked_for_it_asks_whom_he_means(tmp_path: Path) -> None:
    """As in Istio it is an option."""
    with linked("box", "host") as (box, host), host.entered(), resolver(host), running_helper(tmp_path) as helper:

        async def body() -> None:
            async with answering(helper, box, host.v4, 0) as namespaces:
                assert namespaces.open[0].names == ()
                assert await asyncio.to_thread(look_up, box, "plain.example.org", host.v4) == [ORDINARY]
                assert await asyncio.to_thread(look_up, box, "web", host.v4) == []

        asyncio.run(body())
