"""A mesh that is followed on demand: a connection to an unknown address waits for the control plane's word."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.support.hbone_peer import dial
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import CONFIG, Mesh, assert_reset, echo, workload

from hostmesh.model.address import GatewayAddress, NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.service import Service, hostname_alias
from hostmesh.proxy.demand import MAX_REPORTED, REPORT_INTERVAL, Demand
from hostmesh.transport.loop import Loop


class Desk:
    """Demand with a clock of its own, what main was asked and told, and what those who waited were told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.loop = Loop(clock=lambda: self.now)
        self.asked: list[str] = []
        self.used: list[list[str]] = []
        self.told: list[tuple[object, str]] = []
        self.demand = Demand(self.loop, self.asked.append, lambda names: self.used.append(sorted(names)), 5.0)

    def wait(self, name: str) -> None:
        self.demand.wait_for(name, lambda known, reason: self.told.append((known, reason)))

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.loop.turn(0)


def test_main_is_asked_once_and_everybody_is_answered() -> None:
    """The second connection shares the question of the first."""
    desk = Desk()
    desk.wait("/10.0.0.1")
    desk.wait("/10.0.0.1")
    desk.wait("/10.0.0.2")
    assert desk.asked == ["/10.0.0.1", "/10.0.0.2"]
    desk.demand.learned(["/10.0.0.1", "/10.0.0.9"])
    assert desk.told == [(True, ""), (True, "")]


def test_who_waits_in_vain_is_told_so() -> None:
    """The control plane is gone or does not know: the connection ends with a reason, and the next one asks again."""
    desk = Desk()
    desk.wait("/10.0.0.1")
    desk.pass_(6)
    assert desk.told == [(None, "the control plane has not said in time whose /10.0.0.1 is")]
    desk.wait("/10.0.0.1")
    desk.demand.refused({"/10.0.0.1": "too many"})
    assert desk.told[1] == (None, "the control plane has not said whose /10.0.0.1 is: too many")
    assert desk.asked == ["/10.0.0.1", "/10.0.0.1"]


def test_what_is_used_is_reported_once_in_a_while() -> None:
    """However many connections there are; when there are none nothing is said."""
    desk = Desk()
    for last in (1, 2, 1):
        desk.demand.use("net", parse_ip(f"10.0.0.{last}"))
    desk.pass_(REPORT_INTERVAL + 1)
    desk.pass_(REPORT_INTERVAL + 1)
    desk.demand.use("", parse_ip("fd00::1"))
    desk.pass_(REPORT_INTERVAL + 1)
    assert desk.used == [["net/10.0.0.1", "net/10.0.0.2"], ["/fd00::1"]]


def test_a_scan_does_not_grow_the_report() -> None:
    """Main follows no more names than that; the others are let go a while after their last word."""
    desk = Desk()
    for number in range(MAX_REPORTED + 10):
        desk.demand.use("", parse_ip(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    desk.pass_(REPORT_INTERVAL)
    assert [len(names) for names in desk.used] == [MAX_REPORTED]


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """The client's host knows its own workload and nobody else's."""
    with Mesh(client_config=replace(CONFIG, certificate_wait=0.3)) as made:

        def forget() -> None:
            made.client.state.follow_on_demand()
            made.client.state.remove_address(made.bob.uid)

        made.client.call(forget)
        yield made


def answering(mesh: Mesh, then: Callable[[], None]) -> Callable[[str], None]:
    """The control plane's word: `then` changes the state, and all is known that was asked for."""

    def answer(name: str) -> None:
        then()
        mesh.client.state.learn(name)
        mesh.client.server.addresses_known([name], {})

    return answer


def test_a_connection_waits_until_it_is_known_whose_the_address_is(mesh: Mesh) -> None:
    """Then it goes through a tunnel; the next one asks nobody."""
    mesh.client.main.answer_address = answering(mesh, lambda: bool(mesh.client.state.upsert_workload(mesh.bob)))
    with mesh.app(echo) as app:
        for _ in range(2):
            with mesh.connect(app.port) as sock:
                sock.sendall(b"hi")
                assert sock.recv(2) == b"hi"
        fields = dict(mesh.client.main.wait_logs(2)[0].fields)
    assert mesh.client.main.wanted_addresses == [f"lab/{mesh.ip}"]
    assert fields["dst.identity"] == str(BOB)


def test_plaintext_leaves_only_once_the_control_plane_has_said_that_nobody_is_there(mesh: Mesh) -> None:
    """Its silence and its refusal are no such word, and the application gets no connection."""
    with mesh.app(echo) as app:
        mesh.client.destination = SocketAddress.of(mesh.ip, app.port)
        assert_reset(mesh.dial)
        mesh.client.main.answer_address = lambda name: mesh.client.server.addresses_known([], {name: "it was rejected"})
        assert_reset(mesh.dial)
        assert app.accepted == 0
        mesh.client.main.answer_address = answering(mesh, lambda: None)
        with mesh.dial() as sock:
            sock.sendall(b"hi")
            assert sock.recv(2) == b"hi"
        errors = [dict(record.fields).get("error") for record in mesh.client.main.wait_logs(3)]
    assert errors == [
        f"the control plane has not said in time whose lab/{mesh.ip} is",
        f"the control plane has not said whose lab/{mesh.ip} is: it was rejected",
        None,
    ]


def test_a_waypoint_asks_whom_it_is_for(mesh: Mesh) -> None:
    """Where its agent does not hold who is behind it; whoever is not is declined, as ever."""
    server = mesh.server
    server.call(server.state.follow_on_demand)
    gateway = GatewayAddress(NetworkAddress("lab", parse_ip(mesh.ip)), 15008)
    far = replace(workload("far", ALICE, "10.9.9.8"), waypoint=gateway)

    def answer(name: str) -> None:
        if name == "lab/10.9.9.8":
            server.state.upsert_workload(far)
        server.state.learn(name)
        server.server.addresses_known([name], {})

    with mesh.app(echo) as app, dial((mesh.ip, 15008), mesh.authority.issue(ALICE), mesh.authority.pem) as peer:

        def status(address: str) -> str:
            return peer.answer(peer.connect(f"{address}:{app.port}"))[":status"]

        assert status("10.9.9.8") == "503"
        server.main.answer_address = answer
        assert status("10.9.9.8") == "200"
        assert status("10.9.9.7") == "400"


def socks(mesh: Mesh, hostname: str, port: int) -> bytes:
    """What a captured application gets that names its destination: the answer to its request, and an echo."""
    listener = mesh.client.listen("socks5", "127.0.0.1")
    with socket.create_connection((str(listener.ip), listener.port), timeout=PATIENCE) as sock:
        sock.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(hostname)]) + hostname.encode())
        sock.sendall(port.to_bytes(2, "big"))
        data = sock.recv(2) + sock.recv(10, socket.MSG_WAITALL)
        if data[3] == 0:
            sock.sendall(b"hi")
            data += sock.recv(2)
        return data


def test_a_name_said_by_socks_waits_for_the_control_plane_too(mesh: Mesh) -> None:
    """First for whose name it is, then for whose the address is; while it says nothing the application is refused."""
    with mesh.app(echo) as app:
        vip = NetworkAddress("lab", parse_ip("10.9.9.9"))
        service = Service("shop", "default", "shop.lab", (vip,), ports={80: app.port})
        bob = replace(mesh.bob, services={service.namespaced_hostname: {80: app.port}})
        mesh.server.put(service, bob)
        assert socks(mesh, "shop.lab", 80)[2:4] == b"\x05\x04"

        def arrive() -> None:
            mesh.client.state.upsert_service(service)
            mesh.client.state.upsert_workload(bob)

        mesh.client.main.wanted_addresses.clear()
        mesh.client.main.answer_address = answering(mesh, arrive)
        assert socks(mesh, "shop.lab", 80).endswith(b"hi")
        assert mesh.client.main.wanted_addresses == [hostname_alias("shop.lab"), "lab/10.9.9.9"]


def test_what_is_forgotten_is_asked_for_again(mesh: Mesh) -> None:
    """Although a route to it was remembered."""
    mesh.client.main.answer_address = answering(mesh, lambda: bool(mesh.client.state.upsert_workload(mesh.bob)))
    with mesh.app(echo) as app:
        for _ in range(2):
            mesh.connect(app.port).close()
            mesh.client.call(lambda: mesh.client.state.forget(f"lab/{mesh.ip}"))
    assert mesh.client.main.wanted_addresses == [f"lab/{mesh.ip}"] * 2
