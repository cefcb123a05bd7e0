"""Capture of this host's workloads, from workloads.d down to the kernel: the composition that the agent runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment import units as enrolled_units
from hostmesh.enrolment import workloads_d
from hostmesh.enrolment.attachments import FILE, Attachments
from hostmesh.enrolment.namespaces import CapturedNamespace, Namespaces, OpenNamespace
from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.enrolment.numbers import Numbers
from hostmesh.enrolment.policing import Policing
from hostmesh.kernel import cgroup
from hostmesh.kernel import units as systemd_units
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.plan import ListenerPorts, Ruleset, plan


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Directories, listeners, and the ports of this host (sshd's) that are never captured inbound."""

    workloads_directory: Path = Path("/etc/hostmesh/workloads.d")
    state_directory: Path = Path("/var/lib/hostmesh")
    runtime_directory: Path = Path("/run/hostmesh")
    trust_domain: str = "cluster.local"
    ports: ListenerPorts = field(default_factory=ListenerPorts)
    excluded_ports: tuple[int, ...] = (22,)


@dataclass(frozen=True, slots=True)
class Captured:
    """What is captured now. `changes` is empty when the kernel was as it should be already.

    `problems` are about single workloads and stop nothing; a unit in `missing_drop_ins` is captured while it runs, but
    its next start begins outside the mesh until the agent notices. A workload whose network namespace is captured has
    its listeners in `namespaces`.
    """

    workloads: tuple[LocalWorkload, ...]
    problems: tuple[Problem, ...]
    missing_drop_ins: tuple[str, ...]
    changes: tuple[str, ...]
    namespaces: tuple[OpenNamespace, ...] = ()


class Capture:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        settings: where things are.
        cgroups: found on this host when not given.
        redirector: made for this host when not given.
        show: asks systemd about units.
        namespaces: made for this host when not given.
        policing: NetworkPolicies; none are enforced when not given.

    Raises:
        NoCgroup2: this host cannot tell services apart.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        cgroups: CgroupRoot | None = None,
        redirector: Redirector | None = None,
        show: enrolled_units.Show = systemd_units.show,
        namespaces: Namespaces | None = None,
        policing: Policing | None = None,
    ) -> None:
        self._settings = settings
        self._cgroups = cgroups or cgroup.find_root()
        self._redirector = redirector or Redirector(self._cgroups, settings.runtime_directory)
        self._show = show
        self._namespaces = namespaces or Namespaces(NetnsHelper(), settings.ports)
        self._policing = policing
        self._policed: tuple[Ruleset, list[CapturedNamespace]] | None = None
        self.attachments = Attachments(settings.state_directory / FILE)

    @property
    def namespaces(self) -> Namespaces:
        """Those of workloads that have one to themselves."""
        return self._namespaces

    def refresh(self, excluded_ports: Iterable[int] = ()) -> Captured:
        """Read workloads.d again and make the host agree with it.

        Args:
            excluded_ports: in addition to those of the settings.

        Raises:
            InvalidYaml: nothing was changed; what was captured stays captured.
            NumbersUnreadable: the file of numbers is damaged.
            SystemdUnavailable: systemd does not answer.
            CaptureFailed, NetfilterError: the kernel refused.
            OSError: a directory cannot be written.
        """
        enrolled = workloads_d.read(self._settings.workloads_directory)
        keys = {one.key for one in enrolled} | self.attachments.workloads
        numbers = Numbers(self._settings.state_directory / "marks.json").assign(keys)
        units = [one for one in enrolled if one.unit]
        located = enrolled_units.locate(units, numbers, self._settings.trust_domain, self._show)
        named = [self._named(one, numbers) for one in enrolled if one.netns]
        attached, clashes = self.attachments.captured(enrolled, numbers, self._settings.trust_domain)
        excluded = set(excluded_ports)
        ports = {*self._settings.excluded_ports, *excluded}
        ruleset = plan(located.units, self._settings.ports, ports, self._cgroups.nft_prefix)
        # files first: a unit that starts meanwhile finds its own, and fails closed while the table is not there
        self._policed = ruleset, [*named, *attached]
        self._write_unit_files()
        changes = self._redirector.apply(ruleset)
        if self._policing is not None:
            changes += self._policing.apply()
        changes += self._namespaces.refresh([*named, *attached], excluded)
        return Captured(
            (*located.workloads, *(one.workload for one in (*named, *attached))),
            (*located.problems, *clashes, *self._namespaces.problems),
            located.missing_drop_ins,
            changes,
            self._namespaces.open,
        )

    def reassert(self) -> tuple[str, ...]:
        """Correct what others changed since; to be called every few seconds after `refresh`.

        Returns:
            What differed, empty when nothing did.

        Raises:
            CaptureFailed, NetfilterError: the kernel refused.
        """
        policies = self._policing.apply() if self._policing is not None else ()
        return (*self._redirector.reassert(), *policies, *self._namespaces.reassert())

    def police(self) -> tuple[str, ...]:
        """Follow what has become known of NetworkPolicies since `refresh`; what differed, one line each.

        Raises:
            NetfilterError, FirewallUnsettled: the kernel refused.
            OSError: a directory cannot be written.
        """
        if self._policed is None or self._policing is None:
            return ()
        self._write_unit_files()
        return self._policing.apply()

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
        self._redirector.remove()

    def _write_unit_files(self) -> None:
        if self._policed is None:
            return
        ruleset, namespaces = self._policed
        texts: Mapping[str, str] = {}
        if self._policing is not None:
            self._policing.plan(ruleset.units, namespaces)
            texts = self._policing.unit_texts
        enrolled_units.write_unit_files(self._settings.runtime_directory / "units", ruleset, texts)

    def _named(self, one: workloads_d.Enrolled, numbers: Mapping[str, int]) -> CapturedNamespace:
        identity = Identity(self._settings.trust_domain, one.namespace, one.service_account)
        workload = LocalWorkload(numbers[one.key], one.name, one.namespace, identity, "", in_namespace=True)
        return CapturedNamespace(workload, Path(one.netns), one.source, one.line, one.addresses)
