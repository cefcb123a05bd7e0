"""What systemd listens on for captured services, and who else claims it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

import pytest

from hostmesh.enrolment.socket_units import assign, still_systemds
from hostmesh.enrolment.units import locate
from hostmesh.enrolment.workloads_d import Enrolled
from hostmesh.kernel.listeners import Listener
from hostmesh.kernel.units import SocketUnit, Unit
from hostmesh.redirect.subjects import CapturedUnit, Sockets

OURS = ("/etc/systemd/system/web.socket.d/50-hostmesh.conf",)
CGROUPS = ("init.scope", "system.slice/web.socket")
WEB = Enrolled("prod", "web", "web", "web.service", "web.yaml", 4)
API = Enrolled("prod", "api", "api", "api.service", "api.yaml", 5)
DB = Enrolled("prod", "db", "db", "", "db.yaml", 6, user="db", ports=(8081,))
MADE = {
    "web.socket": SocketUnit("web.socket", False, CGROUPS, (8080,), (53,), OURS),
    "admin.socket": SocketUnit("admin.socket", False, ("init.scope", "system.slice/admin.socket"), (8081,), (), OURS),
    "again.socket": SocketUnit("again.socket", False, CGROUPS, (8080,), (), OURS),
    "open.socket": SocketUnit("open.socket", False, CGROUPS, (8083,)),
    "local.socket": SocketUnit("local.socket", False, CGROUPS),
    "each.socket": SocketUnit("each.socket", True, CGROUPS, (8082,)),
}


def assigned(
    triggers: Mapping[str, Sequence[str]], *enrolled: Enrolled
) -> tuple[dict[str, tuple[int, ...]], list[str], list[str]]:
    """The ports of systemd's sockets by workload, mistakes, and what is not captured."""

    def show(units: Sequence[str]) -> Mapping[str, Unit]:
        return {one: Unit(one, True, True, f"system.slice/{one}", (), tuple(triggers.get(one, ()))) for one in units}

    everybody = (*enrolled, DB)
    numbers = {one.key: n for n, one in enumerate(everybody, 1)}
    located = locate(enrolled, numbers, "x", show)
    units, mistakes, accepted = assign(everybody, located, lambda names: {one: MADE[one] for one in names})
    ports = {unit.workload.key: unit.sockets.ports for unit in units}
    return ports, [str(one) for one in mistakes], [str(one) for one in accepted]


def test_a_socket_unit_is_its_services() -> None:
    """What else triggers a service has no ports."""
    assert assigned({"web.service": ["web.socket", "web.timer"]}, WEB, API) == (
        {"prod/web": (8080,), "prod/api": ()},
        [],
        [],
    )


@pytest.mark.parametrize(
    ("triggers", "what", "whose"),
    [
        ({"web.service": ["web.socket"], "api.service": ["web.socket"]}, "web.socket", "prod/web's"),
        ({"web.service": ["web.socket"], "api.service": ["again.socket"]}, "port 8080 of again.socket", "prod/web's"),
        ({"api.service": ["admin.socket"]}, "port 8081 of admin.socket", "prod/db's"),
    ],
)
def test_what_two_claim_is_a_mistake(triggers: Mapping[str, Sequence[str]], what: str, whose: str) -> None:
    """It stays with the first, and is named where the second is enrolled."""
    ports, (mistake,), accepted = assigned(triggers, WEB, API)
    assert mistake.startswith(f"api.yaml:5: capture.unit: {what} is {whose} already, enrolled at ")
    assert (ports["prod/api"], accepted) == ((), [])


def test_what_systemd_accepts_itself_is_named() -> None:
    """An instance for each connection cannot be enrolled by name."""
    ports, mistakes, (problem,) = assigned({"web.service": ["each.socket"]}, WEB)
    assert (ports["prod/web"], mistakes) == ((), [])
    assert "each.socket accepts connections itself (Accept=yes)" in problem


def test_a_socket_unit_that_closes_nothing_at_its_start_is_named() -> None:
    """One that has no ports has nothing to close."""
    ports, mistakes, (problem,) = assigned({"web.service": ["open.socket", "local.socket"]}, WEB)
    assert (ports["prod/web"], mistakes) == ((8083,), [])
    assert "open.socket has no drop-in of hostmesh" in problem


SYSTEMD, SOCKET, STRANGER = 1, 2, 3


@pytest.mark.parametrize(
    ("listening", "kept"),
    [
        ([], True),
        ([("10.0.0.1", 0, SYSTEMD)], True),
        ([("::", 0, SOCKET)], True),
        ([("::", 0, 0)], True),
        ([("::", 0, STRANGER)], False),
        ([("::", 1000, SYSTEMD)], False),
        ([("127.0.0.1", 1000, STRANGER)], True),
        ([("10.0.0.1", 1000, STRANGER), ("10.0.0.2", 0, SYSTEMD)], True),
        ([("10.0.0.1", 1000, STRANGER), ("127.0.0.1", 0, SYSTEMD)], False),
    ],
)
def test_ports_of_others_are_not_taken(listening: Sequence[tuple[str, int, int]], kept: bool) -> None:
    """By root and the cgroup of who listens; where nobody does, systemd may begin at any moment."""
    (unit,) = assign((WEB,), locate([WEB], {WEB.key: 1}, "x", _triggered), lambda _: MADE)[0]
    found = [Listener(ip_address(address), 8080, uid, cgroup) for address, uid, cgroup in listening]
    (known,) = still_systemds([unit], {CGROUPS[0]: SYSTEMD, CGROUPS[1]: SOCKET}.get, found)
    assert known == CapturedUnit(unit.workload, unit.cgroup, sockets=Sockets((8080,) if kept else (), CGROUPS, (53,)))


def _triggered(units: Sequence[str]) -> Mapping[str, Unit]:
    return {one: Unit(one, True, True, f"system.slice/{one}", (), ("web.socket",)) for one in units}
