"""Reading: what workloads.d and containers want of this host, with what the host says about it now; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.enrolment import socket_units, workloads_d
from hostmesh.enrolment import units as enrolled_units
from hostmesh.enrolment.attachments import Attachments
from hostmesh.enrolment.capture_settings import CaptureSettings, HostView
from hostmesh.enrolment.namespaces import CapturedNamespace
from hostmesh.enrolment.numbers import Numbers
from hostmesh.enrolment.subjects import host_ports, subjects, with_datagrams, with_ports, workload_of
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import Listener
from hostmesh.model.health import Check
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.dns_plan import Asker
from hostmesh.redirect.subjects import CapturedUnit, Intent, Sockets

OptedOut = Callable[[LocalWorkload], bool]
"""Whether a workload's registration says that it is not captured (istio.io/dataplane-mode)."""


def nobody(_: LocalWorkload) -> bool:
    """Everybody who is enrolled is captured."""
    return False


@dataclass(frozen=True, slots=True)
class Reading:
    """What workloads.d and containers want of this host. `idle` are those of the `enrolled` that have opted out."""

    intent: Intent
    namespaces: tuple[CapturedNamespace, ...]
    enrolled: tuple[LocalWorkload, ...]
    idle: tuple[LocalWorkload, ...]
    problems: tuple[Problem, ...]
    missing_drop_ins: tuple[str, ...]
    askers: tuple[Asker, ...] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)


def ask_host(enrolled: Iterable[workloads_d.Enrolled], trust_domain: str, view: HostView) -> None:
    """Whether this host has the units and users that workloads.d names, each once; changes nothing.

    Raises:
        InvalidYaml: it has not.
        SystemdUnavailable: systemd does not answer.
    """
    everybody = tuple(enrolled)
    numbers = {one.key: number for number, one in enumerate(everybody, 1)}
    units = [one for one in everybody if one.unit]
    located = enrolled_units.locate(units, numbers, trust_domain, view.show, view.uid)
    others = subjects(everybody, numbers, trust_domain, view.uid)
    _, clashing, _ = socket_units.assign(everybody, located, view.sockets)
    if mistakes := (*located.mistakes, *others.mistakes, *clashing):
        raise InvalidYaml(mistakes)


class Reader:
    """Blocking, as Capture.

    Args:
        settings: where things are.
        cgroups: found on this host.
        view: how this host is asked.
        attachments: containers that CNI has enrolled.
    """

    def __init__(
        self, settings: CaptureSettings, cgroups: CgroupRoot, view: HostView, attachments: Attachments
    ) -> None:
        self._settings = settings
        self._cgroups = cgroups
        self._view = view
        self._attachments = attachments
        self.host_ports: frozenset[int] = frozenset()
        self._ask_again: Callable[[], Iterable[CapturedUnit]] = tuple
        self._sockets: Mapping[str, Sockets] = {}
        self._roots: frozenset[tuple[int, int]] | None = None

    def read(self, opted_out: OptedOut = nobody, *, strict: bool = False, keep: bool = True) -> Reading:
        """Read workloads.d, and find on this host what it names; changes nothing but the file of numbers.

        Args:
            opted_out: who is not captured, though enrolled.
            strict: whether a unit or user that does not exist, or is named twice, is refused; else it is a problem.
            keep: False to leave the file of numbers alone, too.

        Raises:
            InvalidYaml: a mistake.
            NumbersUnreadable: the file of numbers is damaged.
            SystemdUnavailable: systemd does not answer.
        """
        enrolled = workloads_d.read(self._settings.workloads_directory)
        keys = {one.key for one in enrolled} | self._attachments.workloads
        numbers = Numbers(self._settings.state_directory / "marks.json").assign(keys, keep=keep)
        domain = self._settings.trust_domain
        units = [one for one in enrolled if one.unit]
        located = enrolled_units.locate(units, numbers, domain, self._view.show, self._view.uid)
        others = subjects(enrolled, numbers, domain, self._view.uid)
        with_sockets, clashing, unheard = socket_units.assign(enrolled, located, self._view.sockets)
        self._remember(enrolled, numbers, with_sockets)
        mistakes = (*located.mistakes, *others.mistakes, *clashing)
        if strict and mistakes:
            raise InvalidYaml(mistakes)
        named = [self._named(one, numbers) for one in enrolled if one.netns]
        attached, clashes = self._attachments.captured(enrolled, numbers, domain, self._settings.dns)
        everybody = Intent(
            with_sockets,
            others.users,
            others.host,
            self._settings.ports,
            cgroup_prefix=self._cgroups.nft_prefix,
            socks5=self._settings.socks5,
        )
        namespaces = (*named, *attached)
        workloads = (*everybody.workloads, *(one.workload for one in namespaces))
        idle = tuple(workload for workload in workloads if opted_out(workload))
        return Reading(
            _without(everybody, idle),
            tuple(one for one in namespaces if one.workload not in idle),
            workloads,
            idle,
            (*located.mistakes, *others.mistakes, *clashing, *unheard, *clashes, *self._unheard(enrolled)),
            located.missing_drop_ins,
            tuple(_askers(enrolled, _without(everybody, idle))),
            {one.key: one.health for one in enrolled if one.health is not None},
        )

    def complete(self, intent: Intent) -> Intent:
        """The intent with what the host says now: who listens where, and the failsafe list.

        Raises:
            ListenersUnknown: the kernel does not answer.
            SystemdUnavailable: systemd does not answer.
        """
        found = self._view.listeners()
        ids = {unit.cgroup: self._cgroups.id(unit.cgroup) for unit in intent.units}
        running = {path: number for path, number in ids.items() if number is not None}
        units = self._with_sockets(intent.units, found)
        intent = replace(intent, units=socket_units.still_systemds(units, self._cgroups.id, found))
        self.host_ports = host_ports(intent, running, found)
        users, listening = with_ports(intent.users, intent.units, running, found)
        if users:
            users = with_datagrams(users, running.values(), self._view.receivers())
        kept = self._settings.reserved(self._view.failsafe())
        return replace(intent, users=users, listening=listening, reserved=kept)

    def ask_again(self) -> None:
        """Have systemd asked at the next `complete`, whoever listens then."""
        self._roots = None

    def _remember(
        self, enrolled: Iterable[workloads_d.Enrolled], numbers: Mapping[str, int], units: Iterable[CapturedUnit]
    ) -> None:
        everybody, view, domain = tuple(enrolled), self._view, self._settings.trust_domain

        def ask_again() -> Iterable[CapturedUnit]:
            named = [one for one in everybody if one.unit]
            located = enrolled_units.locate(named, numbers, domain, view.show, view.uid)
            return socket_units.assign(everybody, located, view.sockets)[0]

        self._ask_again = ask_again
        self._sockets = {unit.workload.key: unit.sockets for unit in units}

    def _with_sockets(self, units: Iterable[CapturedUnit], found: Iterable[Listener]) -> tuple[CapturedUnit, ...]:
        """Systemd is asked again when root listens elsewhere than before: that may be systemd, for a unit."""
        roots = frozenset((one.port, one.cgroup) for one in found if one.uid == 0)
        if roots != self._roots:
            self._sockets = {unit.workload.key: unit.sockets for unit in self._ask_again()}
            self._roots = roots
        return tuple(replace(unit, sockets=self._sockets.get(unit.workload.key, unit.sockets)) for unit in units)

    def _named(self, one: workloads_d.Enrolled, numbers: Mapping[str, int]) -> CapturedNamespace:
        workload = workload_of(one, numbers, self._settings.trust_domain)
        dns = self._settings.dns if one.dns else 0
        return CapturedNamespace(workload, Path(one.netns), one.source, one.line, one.addresses, dns=dns)

    def _unheard(self, enrolled: Iterable[workloads_d.Enrolled]) -> Iterator[Problem]:
        if not self._settings.dns:
            why = "names are not answered on this host; next: dns: {enabled: true} in agent.yaml"
            yield from (Problem(one.source, one.line, "capture.dns", why) for one in enrolled if one.dns)


def _askers(enrolled: Iterable[workloads_d.Enrolled], captured: Intent) -> Iterator[Asker]:
    asking = {one.key for one in enrolled if one.dns}
    yield from (Asker(unit.workload, unit.cgroup) for unit in captured.units if unit.workload.key in asking)
    yield from (Asker(user.workload, uid=user.uid) for user in captured.users if user.workload.key in asking)


def _without(intent: Intent, idle: Collection[LocalWorkload]) -> Intent:
    host = intent.host if intent.host is not None and intent.host.workload not in idle else None
    return replace(
        intent,
        units=tuple(unit for unit in intent.units if unit.workload not in idle),
        users=tuple(user for user in intent.users if user.workload not in idle),
        host=host,
    )
