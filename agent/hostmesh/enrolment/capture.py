"""Capture of this host's workloads, from workloads.d down to the kernel: the composition that the agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment import units as enrolled_units
from hostmesh.enrolment.attachments import FILE, Attachments
from hostmesh.enrolment.capture_settings import CaptureSettings, HostView
from hostmesh.enrolment.namespaces import Namespaces, OpenNamespace
from hostmesh.enrolment.naming import Naming
from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.enrolment.policing import Policing
from hostmesh.enrolment.reading import OptedOut, Reader, Reading, nobody
from hostmesh.kernel import cgroup, source_routing
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.model.health import Check
from hostmesh.model.local import PROXY_MARK, LocalWorkload
from hostmesh.redirect import choose
from hostmesh.redirect.choose import AnyRedirector, Backend
from hostmesh.redirect.failsafe import lockouts
from hostmesh.redirect.plan import Ruleset, compile_intent
from hostmesh.redirect.probes import ProbeRedirector
from hostmesh.redirect.rules import probes_name
from hostmesh.redirect.subjects import Sockets


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
        self._record = settings.state_directory / choose.FILE
        self._backend: Backend | None = None
        if redirector is None:
            self._backend = choose.choose(self._record, settings.backend)
            redirector = choose.redirector(self._backend, self._cgroups, settings.runtime_directory)
        self._redirector = redirector
        self._view = view or HostView()
        self._namespaces = namespaces or Namespaces(
            NetnsHelper(), settings.ports, settings.socks5, original_source=settings.original_source
        )
        self._policing = policing
        self._prober = prober or ProbeRedirector(settings.runtime_directory)
        self._naming = naming
        self._wanted: Reading | None = None
        self._policed: list[Sockets] = []
        self.attachments = Attachments(settings.state_directory / FILE)
        self._reader = Reader(settings, self._cgroups, self._view, self.attachments)

    @property
    def host_ports(self) -> frozenset[int]:
        """Where somebody listens who is no workload, when the host was last looked at."""
        return self._reader.host_ports

    @property
    def namespaces(self) -> Namespaces:
        """Those of workloads that have one to themselves."""
        return self._namespaces

    def read(self, *, strict: bool = False) -> Reading:
        """As Reader's, of everybody."""
        return self._reader.read(strict=strict)

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
        held = self._held()
        reading = self._reader.read(opted_out, strict=strict)
        ruleset = compile_intent(self._reader.complete(reading.intent))
        # files first: a unit that starts meanwhile finds its own, and fails closed while the table is not there
        self._wanted = reading
        if self._backend is not None:
            choose.remember(self._record, self._backend)
        self._write_unit_files(ruleset)
        changes = self._redirector.apply(ruleset)
        self._view.release(held)
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
        held = self._held()
        if held:
            self._reader.ask_again()
        ruleset = compile_intent(self._reader.complete(self._wanted.intent))
        if ruleset.intent.users or self._policed != [unit.sockets for unit in ruleset.units]:
            self._plan_policies(ruleset)  # their ports may be others now
        others = self._apply_others()
        changes = self._redirector.apply(ruleset)
        self._view.release(held)
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
        self._write_unit_files(compile_intent(self._reader.complete(self._wanted.intent)))
        return self._policing.apply()

    def preview(self, opted_out: OptedOut = nobody) -> Preview:
        """What workloads.d asks for, and how the kernel differs from it; changes nothing.

        Raises:
            InvalidYaml: a mistake, or a unit or user that this host does not know.
            NetfilterError: the kernel refused.
            OSError: as `refresh`.
        """
        reading = self._reader.read(opted_out, strict=True, keep=False)
        facts = self._view.failsafe()
        intent = replace(self._reader.complete(reading.intent), reserved=self._settings.reserved(facts))
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

    def _held(self) -> frozenset[bytes]:
        """What starts of socket units have closed until now: what they listen on is captured, and then it is opened."""
        return self._view.held() if self._redirector.ending == Backend.NFT.value else frozenset()

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

    def _plan_policies(self, ruleset: Ruleset) -> None:
        if self._policing is not None and self._wanted is not None:
            users = ruleset.intent.users
            self._policed = [unit.sockets for unit in ruleset.units]
            self._policing.plan(ruleset.units, self._wanted.namespaces, self._wanted.intent.host, users)

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
            self._plan_policies(ruleset)
            _add(texts, self._policing.unit_texts)
        if self._naming is not None:
            self._naming.plan(self._wanted.askers)
            _add(texts, self._naming.unit_texts)
        enrolled_units.write_unit_files(self._settings.runtime_directory / "units", texts)


def _add(texts: dict[str, str], more: Mapping[str, str]) -> None:
    """What is not capture is nftables' alone."""
    for unit, text in more.items():
        texts[f"{unit}.nft"] = texts.get(f"{unit}.nft", "") + text
