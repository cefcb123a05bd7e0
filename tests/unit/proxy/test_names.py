"""Hostnames of workloads: asked for once, waited for, remembered for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.pki import BOB
from tests.support.proxy import CONFIG, Mesh, assert_reset, echo

from hostmesh.model.address import NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.service import Service
from hostmesh.proxy import names as module
from hostmesh.proxy.names import MAX_LIFETIME, Names
from hostmesh.transport.loop import Loop

ONE, TWO = parse_ip("192.0.2.1"), parse_ip("192.0.2.2")


class Desk:
    """Names with a clock of its own, what was asked of main, and what those who waited were told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.loop = Loop(clock=lambda: self.now)
        self.asked: list[str] = []
        self.told: list[tuple[object, str]] = []
        self.names = Names(self.loop, self.asked.append, 5.0)

    def wait(self, hostname: str) -> None:
        self.names.wait_for(hostname, lambda addresses, reason: self.told.append((addresses, reason)))

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.loop.turn(0)


def test_main_is_asked_once_and_everybody_is_answered() -> None:
    """The second connection shares the question of the first; afterwards nobody needs to ask."""
    desk = Desk()
    assert desk.names.get("db") is None
    desk.wait("db")
    desk.wait("db")
    assert desk.asked == ["db"]
    desk.names.put("db", (ONE, TWO), 30.0)
    assert desk.told == [((ONE, TWO), ""), ((ONE, TWO), "")]
    assert desk.names.get("db") == (ONE, TWO)


def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    """Also one that promises to be good for ever."""
    desk = Desk()
    desk.names.put("a", (ONE,), 30.0)
    desk.names.put("b", (ONE,), 1e9)
    desk.pass_(31)
    assert (desk.names.get("a"), desk.names.get("b")) == (None, (ONE,))
    desk.pass_(MAX_LIFETIME)
    assert desk.names.get("b") is None


def test_a_failure_is_told_and_remembered_as_well() -> None:
    """A name that does not exist must not cost a look-up for each connection."""
    desk = Desk()
    desk.wait("db")
    desk.names.put("db", (), 5.0, "db: Name or service not known")
    assert desk.told == [(None, "db: Name or service not known")]
    assert desk.names.get("db") == ()
    desk.pass_(6)
    assert desk.names.get("db") is None


def test_who_waits_in_vain_is_told_so() -> None:
    """Main is slow or gone: the connection ends with a reason, and the next one asks again."""
    desk = Desk()
    desk.wait("db")
    desk.pass_(6)
    assert desk.told == [(None, "db was not resolved in time")]
    desk.wait("db")
    assert desk.asked == ["db", "db"]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answer makes room."""
    monkeypatch.setattr(module, "MAX_NAMES", 2)
    desk = Desk()
    for name in "abc":
        desk.names.put(name, (ONE,), 30.0)
    assert len(desk.names) == 2
    assert desk.names.get("a") is None


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """Bob is known by his hostname only, behind a VIP."""
    with Mesh(client_config=replace(CONFIG, certificate_wait=0.3)) as made:
        yield made


def call_by_name(mesh: Mesh, port: int) -> None:
    vip = NetworkAddress("lab", parse_ip("10.9.9.9"))
    service = Service("shop", "default", "shop.lab", (vip,), ports={80: port})
    bob = replace(mesh.bob, services={service.namespaced_hostname: {80: port}})
    mesh.server.put(service, bob)
    mesh.client.put(service, replace(bob, addresses=(), hostname="bob.example"))
    mesh.client.destination = SocketAddress.of("10.9.9.9", 80)


def test_a_workload_is_reached_by_its_hostname(mesh: Mesh) -> None:
    """Its identity is what counts, whatever the resolver says; the second connection asks nobody."""
    with mesh.app(echo) as app:
        call_by_name(mesh, app.port)
        mesh.client.main.names["bob.example"] = (mesh.ip,)
        for _ in range(2):
            with mesh.dial() as sock:
                sock.sendall(b"hi")
                assert sock.recv(2) == b"hi"
        assert mesh.client.main.wanted_names == ["bob.example"]
        fields = dict(mesh.client.main.wait_logs(2)[0].fields)
    assert (fields["dst.hbone_addr"], fields["dst.identity"]) == (f"{mesh.ip}:{app.port}", str(BOB))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((), "no ip addresses were resolved for workload: bob.example: no such name"),
        (None, "no ip addresses were resolved for workload: bob.example was not resolved in time"),
    ],
)
def test_a_hostname_without_an_answer_refuses_the_connection(
    mesh: Mesh, answer: tuple[str, ...] | None, error: str
) -> None:
    """Never in plaintext to somewhere else; the log names the hostname."""
    call_by_name(mesh, 80)
    if answer is not None:
        mesh.client.main.names["bob.example"] = answer
    assert_reset(mesh.dial)
    assert dict(mesh.client.main.wait_logs(1)[0].fields)["error"] == error
