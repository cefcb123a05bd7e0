"""Capture of this host's workloads, from workloads.d down to the kernel: the composition that the agent runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.enrolment import units as enrolled_units
from hostmesh.enrolment import workloads_d
from hostmesh.enrolment.attachments import FILE, Attachments
from hostmesh.enrolment.namespaces import CapturedNamespace, Namespaces, OpenNamespace
from hostmesh.enrolment.naming import Naming
from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.enrolment.numbers import Numbers
from hostmesh.enrolment.policing import Policing
from hostmesh.enrolment.subjects import UidOf, host_ports, subjects, uid_of, with_ports, workload_of
from hostmesh.kernel import cgroup, source_routing
from hostmesh.kernel import listeners as kernel_listeners
from hostmesh.kernel import units as systemd_units
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import Listener
from hostmesh.model.health import Check
from hostmesh.model.local import PROXY_MARK, LocalWorkload
from hostmesh.redirect import choose
from hostmesh.redirect.choose import AnyRedirector
from hostmesh.redirect.dns_plan import Asker
from hostmesh.redirect.failsafe import Facts, lockouts, reserved
from hostmesh.redirect.plan import Ruleset, compile_intent
from hostmesh.redirect.probes import ProbeRedirector
from hostmesh.redirect.rules import probes_name
from hostmesh.redirect.subjects import CapturedUnit, Intent, ListenerPorts, Network, Reserved

OptedOut = Callable[[LocalWorkload], bool]
"""Whether a workload's registration says that it is not captured (istio.io/dataplane-mode)."""


def nobody(_: LocalWorkload) -> bool:
    """Everybody who is enrolled is captured."""
    return False


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Directories, listeners, and what is never captured.

    `backend` is one of redirect/choose.py's, or `auto`.
    `ssh_ports` are sshd's where the operator says them, None: those found. `excluded_ports` are further ports of this
    host, `excluded_networks` further destinations that a captured host reaches directly. `socks5` is the port of that
    proxy, 0 where there is none.
    """

    workloads_directory: Path = Path("/etc/hostmesh/workloads.d")
    state_directory: Path = Path("/var/lib/hostmesh")
    runtime_directory: Path = Path("/run/hostmesh")
    trust_domain: str = "cluster.local"
    ports: ListenerPorts = field(default_factory=ListenerPorts)
    ssh_ports: tuple[int, ...] | None = None
    excluded_ports: tuple[int, ...] = ()
    excluded_networks: tuple[Network, ...] = ()
    backend: str = "auto"
    original_source: bool = False
    socks5: int = 0

    def reserved(self, facts: Facts) -> Reserved:
        """The failsafe list."""
        return reserved(facts, self.ssh_ports, self.excluded_ports, self.excluded_networks)


@dataclass(frozen=True, slots=True)
class HostView:
    """How this host is asked: systemd about units, users, listeners, and what the failsafe list is made of."""

    show: enrolled_units.Show = systemd_units.show
    uid: UidOf = uid_of
    listeners: Callable[[], Sequence[Listener]] = kernel_listeners.listeners
    failsafe: Callable[[], Facts] = Facts


@dataclass(frozen=True, slots=True)
class Captured:
    """What is captured now. `changes` is empty when the kernel was as it should be already.

    `problems` are about single workloads and stop nothing; a unit in `missing_drop_ins` is captured while it runs, but
    its next start begins outside the mesh until the agent notices. A workload whose network namespace is captured has
    its listeners in `namespaces`. Of the `enrolled` some may have opted out.
    """

    workloads: tuple[LocalWorkload, ...]
    problems: tuple[Problem, ...]
    missing_drop_ins: tuple[str, ...]
    changes: tuple[str, ...]
    namespaces: tuple[OpenNamespace, ...] = ()
    enrolled: tuple[LocalWorkload, ...] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    """What to probe, by `namespace/name`."""


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


class Routing(Protocol):
    """How replies to clients' addresses come back (hostmesh.kernel.source_routing)."""

    def apply(self, mark: int) -> tuple[str, ...]:
        """All of it or nothing; what was missing."""

    def remove(self, mark: int) -> None:
        """Nothing is left."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The rules that workloads.d comes to, whom they would lock out, and how the kernel differs from them."""

    ruleset: Ruleset
    lockouts: tuple[str, ...]
    differences: tuple[str, ...]
    problems: tuple[Problem, ...]
    text: str


class Capture:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        settings: where things are.
        cgroups: found on this host when not given.
        redirector: made for this host when not given.
        view: how this host is asked.
        namespaces: made for this host when not given.
        policing: NetworkPolicies; none are enforced when not given.
        routing: this host's.
        prober: health probes of containers.
        naming: questions about names; none are captured when not given.

    Raises:
        NoCgroup2: this host cannot tell services apart.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        cgroups: CgroupRoot | None = None,
        redirector: AnyRedirector | None = None,
        view: HostView | None = None,
        namespaces: Namespaces | None = None,
        policing: Policing | None = None,
        routing: Routing = source_routing,
        naming: Naming | None = None,
        prober: ProbeRedirector | None = None,
    ) -> None:
        self._routing = routing
        self._settings = settings
        self._cgroups = cgroups or cgroup.find_root()
        self._redirector = redirector or self._chosen()
        self._view = view or HostView()
        self._namespaces = namespaces or Namespaces(NetnsHelper(), settings.ports)
        self._policing = policing
        self._prober = prober or ProbeRedirector(settings.runtime_directory)
        self._naming = naming
        self._wanted: Reading | None = None
        self.host_ports: frozenset[int] = frozenset()
        self.attachments = Attachments(settings.state_directory / FILE)

    def _chosen(self) -> AnyRedirector:
        s = self._settings
        backend = choose.choose(s.state_directory / choose.FILE, s.backend)
        return choose.redirector(backend, self._cgroups, s.runtime_directory)

    @property
    def namespaces(self) -> Namespaces:
        """Those of workloads that have one to themselves."""
        return self._namespaces

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
        keys = {one.key for one in enrolled} | self.attachments.workloads
        numbers = Numbers(self._settings.state_directory / "marks.json").assign(keys, keep=keep)
        domain = self._settings.trust_domain
        units = [one for one in enrolled if one.unit]
        located = enrolled_units.locate(units, numbers, domain, self._view.show, self._view.uid)
        others = subjects(enrolled, numbers, domain, self._view.uid)
        mistakes = (*located.mistakes, *others.mistakes)
        if strict and mistakes:
            raise InvalidYaml(mistakes)
        named = [self._named(one, numbers) for one in enrolled if one.netns]
        attached, clashes = self.attachments.captured(enrolled, numbers, domain)
        everybody = Intent(
            located.units,
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
            (*located.problems, *others.mistakes, *clashes),
            located.missing_drop_ins,
            tuple(_askers(units, [unit for unit in located.units if unit.workload not in idle])),
            {one.key: one.health for one in enrolled if one.health is not None},
        )

    def complete(self, intent: Intent) -> Intent:
        """The intent with what the host says now: who listens where, and the failsafe list.

        Raises:
            ListenersUnknown: the kernel does not answer.
        """
        found = self._view.listeners()
        ids = {unit.cgroup: self._cgroups.id(unit.cgroup) for unit in intent.units}
        running = {path: number for path, number in ids.items() if number is not None}
        self.host_ports = host_ports(intent, running, found)
        users, listening = with_ports(intent.users, intent.units, running, found)
        kept = self._settings.reserved(self._view.failsafe())
        return replace(intent, users=users, listening=listening, reserved=kept)

    def refresh(self, opted_out: OptedOut = nobody, *, strict: bool = False) -> Captured:
        """Read workloads.d again and make the host agree with it.

        Args:
            opted_out: as `read`.
            strict: as `read`.

        Raises:
            InvalidYaml: nothing was changed; what was captured stays captured.
            NumbersUnreadable: the file of numbers is damaged.
            SystemdUnavailable: systemd does not answer.
            CaptureFailed, NetfilterError, RoutingUnavailable: the kernel refused.
            OSError: a directory cannot be written.
        """
        reading = self.read(opted_out, strict=strict)
        ruleset = compile_intent(self.complete(reading.intent))
        # files first: a unit that starts meanwhile finds its own, and fails closed while the table is not there
        self._wanted = reading
        self._write_unit_files(ruleset)
        changes = self._redirector.apply(ruleset)
        changes += self._route_replies()
        changes += self._apply_others()
        changes += self._namespaces.refresh(reading.namespaces, self._settings.excluded_ports)
        return Captured(
            (*reading.intent.workloads, *(one.workload for one in reading.namespaces)),
            (*reading.problems, *self._namespaces.problems),
            reading.missing_drop_ins,
            changes,
            self._namespaces.open,
            reading.enrolled,
            reading.checks,
        )

    def reassert(self) -> tuple[str, ...]:
        """Correct what others changed since; to be called every few seconds after `refresh`.

        Returns:
            What differed, empty when nothing did.

        Raises:
            CaptureFailed, NetfilterError: the kernel refused.
        """
        if self._wanted is None:
            return self._namespaces.reassert()
        others = self._apply_others()
        changes = self._redirector.apply(compile_intent(self.complete(self._wanted.intent)))
        routing = self._routing.apply(PROXY_MARK) if self._settings.original_source else ()
        return (*changes, *routing, *others, *self._namespaces.reassert())

    def police(self) -> tuple[str, ...]:
        """Follow what has become known of NetworkPolicies since `refresh`; what differed, one line each.

        Raises:
            NetfilterError, FirewallUnsettled: the kernel refused.
            OSError: a directory cannot be written.
        """
        if self._wanted is None or self._policing is None:
            return ()
        self._write_unit_files(compile_intent(self.complete(self._wanted.intent)))
        return self._policing.apply()

    def preview(self, opted_out: OptedOut = nobody) -> Preview:
        """What workloads.d asks for, and how the kernel differs from it; changes nothing.

        Raises:
            InvalidYaml: a mistake, or a unit or user that this host does not know.
            NetfilterError: the kernel refused.
            OSError: as `refresh`.
        """
        reading = self.read(opted_out, strict=True, keep=False)
        facts = self._view.failsafe()
        intent = replace(self.complete(reading.intent), reserved=self._settings.reserved(facts))
        ruleset = compile_intent(intent)
        text, differences = self._redirector.text(ruleset), self._redirector.differences(ruleset)
        return Preview(ruleset, lockouts(intent, facts), differences, reading.problems, text)

    def probes(self) -> dict[str, int]:
        """Health probes that were let through in plaintext, by workload.

        Raises:
            NetfilterError: the kernel refused.
        """
        if self._wanted is None:
            return {}
        intent = self._wanted.intent
        host = (intent.host,) if intent.host is not None else ()
        probed = [one.workload for one in (*intent.units, *intent.users, *host) if one.scope.probes]
        counted = self._redirector.counters() if probed else {}
        return {workload.key: counted.get(probes_name(workload), 0) for workload in probed}

    def verify(self) -> tuple[str, ...]:
        """What differs now, without correcting it.

        Raises:
            NetfilterError: the kernel refused.
        """
        return self._redirector.verify()

    def remove(self) -> None:
        """Capture nothing any more; units then start outside the mesh only once their drop-ins are gone.

        Raises:
            CaptureFailed, NetfilterError: the kernel refused.
        """
        self._wanted = None
        self._redirector.remove()
        self._routing.remove(PROXY_MARK)

    def rest(self) -> None:
        """End what helps; the next call starts it again."""
        self._redirector.rest()

    def _route_replies(self) -> tuple[str, ...]:
        """Applications that see foreign addresses answer to them; what an earlier setting left goes away."""
        if self._settings.original_source:
            return self._routing.apply(PROXY_MARK)
        self._routing.remove(PROXY_MARK)
        return ()

    def _apply_others(self) -> tuple[str, ...]:
        policies = self._policing.apply() if self._policing is not None else ()
        names = self._naming.apply() if self._naming is not None else ()
        namespaces = self._wanted.namespaces if self._wanted is not None else ()
        probes = self._prober.apply(address for one in namespaces for address in one.addresses)
        return (*policies, *names, *probes)

    def _write_unit_files(self, ruleset: Ruleset) -> None:
        assert self._wanted is not None
        ending, fate = self._redirector.ending, "has opted out of the mesh, and starts outside it"
        texts: dict[str, str] = {
            f"{one.unit}.{ending}": f"# {one.key} {fate}.\n" for one in self._wanted.idle if one.unit
        }
        for unit in ruleset.units:
            files = self._redirector.start_files(ruleset, unit)
            texts |= {f"{unit.workload.unit}.{ending}": text for ending, text in files.items()}
        if self._policing is not None:
            self._policing.plan(ruleset.units, self._wanted.namespaces, self._wanted.intent.host)
            _add(texts, self._policing.unit_texts)
        if self._naming is not None:
            self._naming.plan(self._wanted.askers)
            _add(texts, self._naming.unit_texts)
        enrolled_units.write_unit_files(self._settings.runtime_directory / "units", texts)

    def _named(self, one: workloads_d.Enrolled, numbers: Mapping[str, int]) -> CapturedNamespace:
        workload = workload_of(one, numbers, self._settings.trust_domain)
        return CapturedNamespace(workload, Path(one.netns), one.source, one.line, one.addresses)


def _askers(enrolled: Iterable[workloads_d.Enrolled], units: Iterable[CapturedUnit]) -> Iterator[Asker]:
    asking = {one.key for one in enrolled if one.dns}
    return (Asker(unit.workload, unit.cgroup) for unit in units if unit.workload.key in asking)


def _add(texts: dict[str, str], more: Mapping[str, str]) -> None:
    """What is not capture is nftables' alone."""
    for unit, text in more.items():
        texts[f"{unit}.nft"] = texts.get(f"{unit}.nft", "") + text


def _without(intent: Intent, idle: Collection[LocalWorkload]) -> Intent:
    host = intent.host if intent.host is not None and intent.host.workload not in idle else None
    return replace(
        intent,
        units=tuple(unit for unit in intent.units if unit.workload not in idle),
        users=tuple(user for user in intent.users if user.workload not in idle),
        host=host,
    )
