"""Who listens where: ports of users and units."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hostmesh.enrolment.subjects import uid_of, with_datagrams, with_ports
from hostmesh.kernel.listeners import Listener
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.plan import compile_intent
from hostmesh.redirect.subjects import CapturedUnit, CapturedUser, Intent, Sockets

UNIT = CapturedUnit(LocalWorkload(1, "a", "prod", Identity("x", "prod", "a"), "a.service"), "system.slice/a.service")
USER = CapturedUser(LocalWorkload(2, "u", "prod", Identity("x", "prod", "u"), ""), 1000, (7000,))
ANY, ONE = ip_address("::"), ip_address("10.0.0.1")


def test_a_port_is_whose_it_is_at_every_address() -> None:
    """A unit's process that runs as the user is the unit's; a port of two, or of a stranger too, is nobody's here."""
    found = [
        Listener(ANY, 80, 0, 77),
        Listener(ONE, 81, 1000, 77),
        Listener(ANY, 90, 1000, 5),
        Listener(ONE, 91, 1000, 5),
        Listener(ANY, 91, 0, 77),
        Listener(ANY, 92, 1000, 5),
        Listener(ONE, 92, 0, 5),
    ]
    users, listening = with_ports([USER], [UNIT], {UNIT.cgroup: 77}, found)
    assert [user.ports for user in users] == [(90, 7000)]
    assert listening == {"prod/a": (80, 81)}
    assert with_ports([USER], [UNIT], {}, [Listener(ANY, 80, 0, 77)])[1] == {}


def test_what_systemd_listens_on_is_nobody_elses() -> None:
    """A user that listens there over loopback does not get it: one port would have two marks."""
    unit = replace(UNIT, sockets=Sockets((80,), ("init.scope",)))
    found = [Listener(ip_address("127.0.0.1"), port, 1000, 5) for port in (80, 81)]
    users, listening = with_ports([USER], [unit], {UNIT.cgroup: 77}, found)
    assert ([user.ports for user in users], listening) == ([(81, 7000)], {})
    compile_intent(Intent((unit,), users))


def test_datagrams_are_taken_by_whoever_shares_the_port() -> None:
    """Policies of the user hold there, too; inside a captured unit it is the unit's."""
    found = [Listener(ANY, 53, 1000, 5), Listener(ONE, 53, 0, 5), Listener(ANY, 54, 1000, 77), Listener(ANY, 55, 0, 5)]
    assert [user.datagrams for user in with_datagrams([USER], [77], found)] == [(53,)]


def test_uid() -> None:
    """Numbers need no entry in the user database."""
    assert (uid_of("root"), uid_of("4242"), uid_of("no-such-user-here")) == (0, 4242, None)
