"""Users, the whole host and exclusions: from what workloads.d says to what rules are made of."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment.workloads_d import Enrolled, Inbound
from hostmesh.kernel.listeners import Listener
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.subjects import CapturedHost, CapturedUnit, CapturedUser, Exclusions, Intent, Probe, Scope

UidOf = Callable[[str], int | None]
"""The uid of a user by name or number, None for one that does not exist."""


def uid_of(user: str) -> int | None:
    """As this host's user database has it; a number needs no entry."""
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class Subjects:
    """Users and the host. `mistakes` are about workloads that are left out."""

    users: tuple[CapturedUser, ...]
    host: CapturedHost | None
    mistakes: tuple[Problem, ...]


def workload_of(one: Enrolled, numbers: Mapping[str, int], trust_domain: str, unit: str = "") -> LocalWorkload:
    """The workload that an enrolment names."""
    identity = Identity(trust_domain, one.namespace, one.service_account)
    return LocalWorkload(
        numbers[one.key],
        one.name,
        one.namespace,
        identity,
        unit,
        bool(one.netns),
        one.registry_only,
        one.default_inbound,
    )


def subjects(enrolled: Iterable[Enrolled], numbers: Mapping[str, int], trust_domain: str, uid: UidOf) -> Subjects:
    """Find the users that workloads.d names.

    Args:
        enrolled: all of workloads.d.
        numbers: by workload key.
        trust_domain: of the identities.
        uid: asks this host.
    """
    users: dict[int, CapturedUser] = {}
    host: CapturedHost | None = None
    mistakes: list[Problem] = []
    for one in enrolled:
        if not one.user and not one.host:
            continue
        scope, wrong = scope_of(one, uid)
        workload = workload_of(one, numbers, trust_domain)
        found = uid(one.user) if one.user else 0
        if found is None:
            wrong = (*wrong, unknown_user(one, "capture.user", one.user))
        elif one.user and (found == 0 or found in users):
            why = "is root, who repairs the host" if found == 0 else f"is {users[found].workload.key} already"
            wrong = (*wrong, Problem(one.source, one.line, "capture.user", f"{one.user} {why}"))
        mistakes += wrong
        if wrong or found is None:
            continue
        if one.host:
            host = CapturedHost(workload, scope)
        else:
            users[found] = CapturedUser(workload, found, one.ports, scope)
    return Subjects(tuple(users.values()), host, tuple(mistakes))


def scope_of(one: Enrolled, uid: UidOf) -> tuple[Scope, tuple[Problem, ...]]:
    """What of a workload is captured, and what is wrong with what it says."""
    outbound, inbound = one.exclude.outbound, one.exclude.inbound
    owners = {name: uid(name) for name in outbound.owners}
    unknown = tuple(
        unknown_user(one, "capture.exclude.outbound.owners", name) for name, found in owners.items() if found is None
    )
    known = tuple(found for found in owners.values() if found is not None)
    probes = tuple(Probe(probe.port, tuple(probe.from_)) for probe in one.probes)
    return Scope(_exclusions(outbound, known), _exclusions(inbound), one.bypass_inbound, probes), unknown


def unknown_user(one: Enrolled, field: str, name: str) -> Problem:
    """The complaint about a user whom this host does not know."""
    return Problem(one.source, one.line, field, f"there is no user {name} on this host; next: getent passwd {name}")


def with_ports(
    users: Sequence[CapturedUser], units: Sequence[CapturedUnit], ids: Mapping[str, int], found: Sequence[Listener]
) -> tuple[tuple[CapturedUser, ...], dict[str, tuple[int, ...]]]:
    """Who listens where, as the kernel says it.

    A port at which several workloads listen, each at an address of its own, belongs to none of them here. What systemd
    listens on for a unit is that unit's alone, even while somebody listens there over loopback.

    Args:
        users: those captured; a listener of theirs inside a captured unit is the unit's.
        units: those captured.
        ids: cgroups of units that run.
        found: all listeners of this host.

    Returns:
        The users with their ports, declared and found, and the ports of units by workload key.
    """
    by_cgroup = {ids[unit.cgroup]: unit.workload.key for unit in units if unit.cgroup in ids}
    by_uid = {user.uid: user.workload.key for user in users}
    owners: dict[int, set[str]] = {}
    for one in found:
        owners.setdefault(one.port, set()).add(by_cgroup.get(one.cgroup) or by_uid.get(one.uid) or "")
    systemds = {port for unit in units for port in unit.sockets.ports}
    ports: dict[str, list[int]] = {}
    for port, keys in sorted(owners.items()):
        if port not in systemds and len(keys) == 1 and "" not in keys:
            ports.setdefault(keys.pop(), []).append(port)
    known = tuple(
        CapturedUser(
            user.workload,
            user.uid,
            tuple(sorted({*user.ports, *ports.get(user.workload.key, ())})),
            user.scope,
        )
        for user in users
    )
    return known, {key: tuple(ports[key]) for key in by_cgroup.values() if key in ports}


def with_datagrams(
    users: Sequence[CapturedUser], units: Collection[int], found: Sequence[Listener]
) -> tuple[CapturedUser, ...]:
    """The users with their UDP ports, also those that they share with somebody.

    Args:
        users: those captured.
        units: cgroups of units that run: what is inside is the unit's.
        found: sockets that take datagrams.
    """
    ports = {user.uid: {one.port for one in found if one.uid == user.uid and one.cgroup not in units} for user in users}
    return tuple(replace(user, datagrams=tuple(sorted(ports[user.uid]))) for user in users)


def host_ports(intent: Intent, running: Mapping[str, int], found: Iterable[Listener]) -> frozenset[int]:
    """Where somebody listens who is no workload, as far as the kernel's list tells: the guard has the last word.

    Args:
        intent: who is captured; if it is the whole host, every port is a workload's.
        running: cgroups of units that run.
        found: all listeners of this host.
    """
    if intent.host is not None:
        return frozenset()
    cgroups, uids = set(running.values()), {user.uid for user in intent.users}
    return frozenset(one.port for one in found) - {
        *(one.port for one in found if one.cgroup in cgroups or one.uid in uids),
        *(port for unit in intent.units for port in unit.sockets.ports),
    }


def _exclusions(written: Inbound, owners: tuple[int, ...] = ()) -> Exclusions:
    return Exclusions(tuple(written.ports), tuple(written.cidrs), tuple(written.interfaces), owners)
