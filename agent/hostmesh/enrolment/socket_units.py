"""Socket units of captured services: what systemd listens on for them (systemd.socket(5), sd_listen_fds(3)).

Such a listener is of no process of the service: systemd makes it, before the service runs, and the kernel knows it as
one of systemd's own cgroup, or of the socket unit's where systemd can filter by cgroup. So systemd tells its ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment.units import Located, has_drop_in
from hostmesh.enrolment.workloads_d import Enrolled
from hostmesh.kernel.listeners import Listener
from hostmesh.kernel.units import SocketUnit
from hostmesh.redirect.subjects import CapturedUnit, Sockets

ShowSockets = Callable[[Sequence[str]], Mapping[str, SocketUnit]]


def assign(
    enrolled: Iterable[Enrolled], located: Located, show: ShowSockets
) -> tuple[tuple[CapturedUnit, ...], tuple[Problem, ...], tuple[Problem, ...]]:
    """Give units what systemd listens on for them; what two claim stays with the first.

    Args:
        enrolled: all of workloads.d.
        located: the units among them, with the names of their socket units.
        show: asks systemd about socket units.

    Returns:
        The units, mistakes (what two workloads claim), and warnings: of what systemd itself accepts, which is not
        captured, and of what lacks the drop-in that closes its ports until they are captured.
    """
    places = {one.key: one for one in enrolled}
    found = show(sorted({name for names in located.sockets.values() for name in names}))
    owners: dict[str, Enrolled] = {}
    ports = {port: one for one in places.values() for port in one.ports}
    units: list[CapturedUnit] = []
    mistakes: list[Problem] = []
    warnings: list[Problem] = []
    for unit in located.units:
        one = places[unit.workload.key]
        mine = [found[name] for name in located.sockets.get(one.key, ()) if name in found]
        warnings += [_accepted(one, made) for made in mine if made.accepts]
        handed = [made for made in mine if not made.accepts]
        warnings += [_not_held(one, made) for made in handed if made.ports and not has_drop_in(made.drop_ins)]
        shared = [made for made in handed if owners.setdefault(made.name, one) is not one]
        mistakes += [_claimed(one, made.name, owners[made.name]) for made in shared]
        handed = [made for made in handed if made not in shared]
        wanted = {port: made.name for made in handed for port in made.ports}
        taken = [port for port in wanted if ports.setdefault(port, one) is not one]
        mistakes += [_claimed(one, f"port {port} of {wanted[port]}", ports[port]) for port in sorted(taken)]
        sockets = Sockets(
            tuple(sorted({*wanted} - {*taken})),
            tuple(sorted({cgroup for made in handed for cgroup in made.cgroups})),
            tuple(sorted({port for made in handed for port in made.datagrams})),
        )
        units.append(replace(unit, sockets=sockets))
    return tuple(units), tuple(mistakes), tuple(warnings)


def still_systemds(
    units: Iterable[CapturedUnit], cgroup_id: Callable[[str], int | None], found: Iterable[Listener]
) -> tuple[CapturedUnit, ...]:
    """The units without ports that only somebody else listens on, as he may while a socket unit is stopped.

    A port on which nobody listens is kept, so that systemd finds it captured whenever it begins to.

    Args:
        units: those captured.
        cgroup_id: the id of a cgroup that exists.
        found: all listeners of this host.
    """
    by_port: dict[int, list[Listener]] = {}
    for one in found:
        by_port.setdefault(one.port, []).append(one)
    return tuple(
        replace(unit, sockets=replace(unit.sockets, ports=tuple(_kept(unit.sockets, cgroup_id, by_port))))
        if unit.sockets.ports
        else unit
        for unit in units
    )


def _kept(
    sockets: Sockets, cgroup_id: Callable[[str], int | None], by_port: Mapping[int, Sequence[Listener]]
) -> Iterable[int]:
    systemds = {0, *map(cgroup_id, sockets.cgroups)}
    for port in sockets.ports:
        listening = by_port.get(port, ())
        mine = [one for one in listening if one.uid == 0 and one.cgroup in systemds]
        others = [one for one in listening if one not in mine and not one.address.is_loopback]
        # what is reached over loopback only is no reason to take a port from somebody who is reached from outside
        if not others or any(not one.address.is_loopback for one in mine):
            yield port


def _claimed(one: Enrolled, what: str, other: Enrolled) -> Problem:
    why = f"{what} is {other.key}'s already, enrolled at {other.source}:{other.line}"
    return Problem(one.source, one.line, "capture.unit", f"{why}; next: systemctl show -p Listen,Triggers '*.socket'")


def _accepted(one: Enrolled, made: SocketUnit) -> Problem:
    why = f"{made.name} accepts connections itself (Accept=yes), for an instance each: inbound is not captured"
    return Problem(one.source, one.line, "capture.unit", f"{why}; next: let one service accept them (Accept=no)")


def _not_held(one: Enrolled, made: SocketUnit) -> Problem:
    why = f"{made.name} has no drop-in of hostmesh: whoever connects while it starts is captured five seconds later"
    return Problem(one.source, one.line, "capture.unit", f"{why}; next: run the playbook, or see docs/capture.md")
