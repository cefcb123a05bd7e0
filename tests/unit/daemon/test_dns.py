"""The agent's DNS server and its questions to others, over loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from tests.support.addresses import free_port
from tests.support.mesh import background, until

from hostmesh.daemon import dns as server
from hostmesh.daemon.dns import DnsServer, DnsSettings
from hostmesh.daemon.dns_metrics import DnsMetrics
from hostmesh.daemon.dns_upstream import Unanswered, Upstream
from hostmesh.dns.answer import Client
from hostmesh.model.address import IPAddress, SocketAddress
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.state.store import MeshState
from hostmesh.wire.dns import Query, parse_query

LOOPBACK = ip_address("127.0.0.1")
QUESTION = dns.message.make_query("example.org", "A")


class Resolver(asyncio.DatagramProtocol):
    """Answers everything in one way; one without an answer stays silent."""

    def __init__(self, rcode: str) -> None:
        self.rcode = rcode
        self.asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if self.rcode:
            response = dns.message.make_response(dns.message.from_wire(data))
            response.set_rcode(dns.rcode.from_text(self.rcode))
            self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def resolvers(rcodes: Sequence[str]) -> AsyncIterator[tuple[list[Resolver], list[SocketAddress]]]:
    loop, made, at = asyncio.get_running_loop(), [], []
    for rcode in rcodes:
        transport, resolver = await loop.create_datagram_endpoint(
            lambda rcode=rcode: Resolver(rcode),  # type: ignore[misc]
            ("127.0.0.1", 0),
        )
        made.append(resolver)
        at.append(SocketAddress(LOOPBACK, transport.get_extra_info("sockname")[1]))
    try:
        yield made, at
    finally:
        for resolver in made:
            resolver.transport.close()


def question() -> Query:
    query = parse_query(QUESTION.to_wire())
    assert isinstance(query, Query)
    return query


@pytest.mark.parametrize(
    ("says", "answer", "asked"),
    [
        (("NOERROR", "NOERROR"), "NOERROR", [1, 0]),
        (("NXDOMAIN", "NOERROR"), "NXDOMAIN", [1, 0]),
        (("SERVFAIL", "NOERROR"), "NOERROR", [1, 1]),
        (("REFUSED", "NOTIMP", "NXDOMAIN"), "NXDOMAIN", [1, 1, 1]),
        (("REFUSED", "SERVFAIL"), "REFUSED", [1, 1]),
        (("", "NOERROR"), "NOERROR", [1, 1]),
        (("", "SERVFAIL"), "SERVFAIL", [1, 1]),
        (("", ""), "", [2, 2]),
    ],
)
def test_the_next_server_is_asked_where_one_does_not_answer_or_cannot(
    says: tuple[str, ...], answer: str, asked: list[int]
) -> None:
    """As the C library would, whose own attempts all come to the first server while they are captured."""
    patience = 20.0 if all(says) else 1.0 if any(says) else 0.3

    async def run() -> str:
        async with resolvers(says) as (made, at):
            try:
                whole = await Upstream(at, timeout=patience).ask(question(), tcp=False)
            except Unanswered:
                found = ""
            else:
                found = dns.rcode.to_text(dns.message.from_wire(whole).rcode())
                assert whole[:2] == QUESTION.to_wire()[:2]
            assert [resolver.asked for resolver in made] == asked
            return found

    assert asyncio.run(run()) == answer


WEB = Service("web", "prod", "web.prod.svc.cluster.local")
CALLER = ip_address("127.0.0.2")


class Elsewhere(Upstream):
    """Answers everything with nothing, and remembers what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def ask(self, query: Query, *, tcp: bool) -> bytes:
        del tcp
        self.asked.append(f"{query.type_name} {query.name}")
        return dns.message.make_response(dns.message.from_wire(query.data)).to_wire()


async def asked(
    upstream: Upstream, place: IPAddress, *kinds: str, metrics: DnsMetrics | None = None
) -> list[dns.message.Message]:
    """What the agent says of the service `web`, whose endpoints are 200: to the host or to a captured workload."""
    state, port = MeshState(), free_port()
    state.upsert_service(WEB)
    for number in range(1, 201):
        address = ip_address(f"10.0.0.{number}")
        services = {WEB.namespaced_hostname: {80: 80}}
        state.upsert_workload(Workload(f"u{number}", "web", "prod", (address,), services=services))
    metrics = metrics or DnsMetrics()
    dns_server = DnsServer(state, upstream, metrics, DnsSettings(port=port), Client("default"))
    dns_server.follow({CALLER: Client("prod", "", "prod/a", "a", "v1")})
    loop, said = asyncio.get_running_loop(), []
    async with background(dns_server.run([LOOPBACK])):
        await until(lambda: len(dns_server._doors) == 2)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect((str(place), port))
            for kind in kinds:
                client.send(dns.message.make_query(WEB.hostname, kind).to_wire())
                said.append(dns.message.from_wire(await loop.sock_recv(client, 4096)))
    return said


def test_each_answer_draws_its_order_and_what_is_left_out() -> None:
    """A client takes the first one, and all endpoints shall get clients, however few a datagram has room for."""
    answers = asyncio.run(asked(Elsewhere(), CALLER, *["A"] * 40))
    records = [[item.to_text() for item in message.answer[0]] for message in answers]
    assert {len(one) for one in records} == {29}
    assert len({one[0] for one in records}) > 1
    assert len({address for one in records for address in one}) > 100


@pytest.mark.parametrize(("place", "forwarded"), [(CALLER, ["ns web.prod.svc.cluster.local"]), (LOOPBACK, [])])
def test_other_questions_about_a_service_are_asked_elsewhere(place: IPAddress, forwarded: list[str]) -> None:
    """Unless the host's resolver has sent them here, and would do so again: it is told that there is no such record."""
    upstream = Elsewhere()
    (answer,) = asyncio.run(asked(upstream, place, "NS"))
    assert (answer.rcode(), answer.answer, upstream.asked) == (dns.rcode.NOERROR, [], forwarded)


class Says(Upstream):
    """Answers with these records and this code, or not at all."""

    def __init__(self, rcode: str, *records: str) -> None:
        super().__init__()
        self.rcode = rcode
        self.records = records

    async def ask(self, query: Query, *, tcp: bool) -> bytes:
        del tcp
        if not self.rcode:
            raise Unanswered("nobody is there")
        response = dns.message.make_response(dns.message.from_wire(query.data))
        response.set_rcode(dns.rcode.from_text(self.rcode))
        response.answer += [dns.rrset.from_text(f"{WEB.hostname}.", 30, "IN", "TXT", record) for record in self.records]
        return response.to_wire()


COUNTED = [
    ("a service's address", "A", Says("REFUSED"), (1, None, None, None)),
    ("a record of somebody else's", "TXT", Says("NOERROR", "text"), (1, 1, None, 1)),
    ("no such record", "TXT", Says("NOERROR"), (1, 1, 1, 1)),
    ("no such name", "TXT", Says("NXDOMAIN"), (1, 1, 1, 1)),
    ("no answer", "TXT", Says(""), (1, 1, 1, 1)),
]


@pytest.mark.parametrize(("rule", "kind", "upstream", "expected"), COUNTED, ids=[line[0] for line in COUNTED])
def test_what_is_counted(rule: str, kind: str, upstream: Upstream, expected: tuple[int | None, ...]) -> None:
    """Under ztunnel's names, and for whom; what others answer with nothing is their failure."""
    metrics = DnsMetrics()
    asyncio.run(asked(upstream, CALLER, kind, metrics=metrics))
    labels = {
        "request_query_type": kind.lower(),
        "request_protocol": "udp",
        "source_canonical_service": "a",
        "source_canonical_revision": "v1",
    }
    counters = ("requests_total", "upstream_requests_total", "upstream_failures_total")
    names = [f"istio_dns_{name}" for name in (*counters, "upstream_request_duration_seconds_count")]
    assert tuple(metrics.registry.get_sample_value(name, labels) for name in names) == expected


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_client_that_asks_and_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its socket, whatever was written for it."""
    monkeypatch.setattr(server, "IDLE", 0.2)
    port, data = free_port(), QUESTION.to_wire()
    asked = (len(data).to_bytes(2, "big") + data) * 1000

    class Long(Upstream):
        async def ask(self, query: Query, *, tcp: bool) -> bytes:
            assert tcp
            return query.data[:2] + bytes(60_000)

    async def run() -> None:
        dns_server = DnsServer(MeshState(), Long(), DnsMetrics(), DnsSettings(port=port), Client("default"))
        async with background(dns_server.run([LOOPBACK])):
            await until(lambda: dns_server._doors)
            before = descriptors()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                client.send(asked)
                await until(lambda: descriptors() > before + 1)
                await until(lambda: descriptors() == before + 1)

    asyncio.run(run())


def test_a_flood_of_one_workload_leaves_the_others_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions wait for upstreams that are slow; whoever asks more than its share is told to come back."""
    monkeypatch.setattr(server, "MAX_WAITING", 4)
    port, data = free_port(), QUESTION.to_wire()
    flooded, other = ip_address("127.0.0.2"), ip_address("127.0.0.3")

    class Slow(Upstream):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0
            self.ready = asyncio.Event()

        async def ask(self, query: Query, *, tcp: bool) -> bytes:
            del tcp
            self.asked += 1
            await self.ready.wait()
            return dns.message.make_response(dns.message.from_wire(query.data)).to_wire()

    async def run() -> list[str]:
        loop, upstream = asyncio.get_running_loop(), Slow()
        dns_server = DnsServer(MeshState(), upstream, DnsMetrics(), DnsSettings(port=port), Client("default"))
        dns_server.follow({flooded: Client("prod", workload="a"), other: Client("prod", workload="b")})
        async with background(dns_server.run([LOOPBACK])):
            await until(lambda: len(dns_server._doors) == 3)
            with (
                socket.socket(type=socket.SOCK_DGRAM) as greedy,
                socket.socket(type=socket.SOCK_DGRAM) as modest,
            ):
                for sock, place in ((greedy, flooded), (modest, other)):
                    sock.setblocking(False)
                    sock.connect((str(place), port))
                for _ in range(20):
                    greedy.send(data)
                said = [await loop.sock_recv(greedy, 4096) for _ in range(18)]
                modest.send(data)
                await until(lambda: upstream.asked == 3)
                upstream.ready.set()
                said += [await loop.sock_recv(sock, 4096) for sock in (greedy, greedy, modest)]
        return [dns.rcode.to_text(dns.message.from_wire(one).rcode()) for one in said]

    assert asyncio.run(run()) == ["SERVFAIL"] * 18 + ["NOERROR"] * 3
