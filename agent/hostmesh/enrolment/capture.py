"""Capture of this host's workloads, from workloads.d down to the kernel: the composition that the agent runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment import units as enrolled_units
from hostmesh.enrolment import workloads_d
from hostmesh.enrolment.numbers import Numbers
from hostmesh.kernel import cgroup
from hostmesh.kernel import units as systemd_units
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.plan import ListenerPorts, plan


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
    its next start begins outside the mesh until the agent notices.
    """

    workloads: tuple[LocalWorkload, ...]
    problems: tuple[Problem, ...]
    missing_drop_ins: tuple[str, ...]
    changes: tuple[str, ...]


class Capture:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        settings: where things are.
        cgroups: found on this host when not given.
        redirector: made for this host when not given.
        show: asks systemd about units.

    Raises:
        NoCgroup2: this host cannot tell services apart.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        cgroups: CgroupRoot | None = None,
        redirector: Redirector | None = None,
        show: enrolled_units.Show = systemd_units.show,
    ) -> None:
        self._settings = settings
        self._cgroups = cgroups or cgroup.find_root()
        self._redirector = redirector or Redirector(self._cgroups, settings.runtime_directory)
        self._show = show

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
        numbers = Numbers(self._settings.state_directory / "marks.json").assign(one.key for one in enrolled)
        located = enrolled_units.locate(enrolled, numbers, self._settings.trust_domain, self._show)
        ports = {*self._settings.excluded_ports, *excluded_ports}
        ruleset = plan(located.units, self._settings.ports, ports, self._cgroups.nft_prefix)
        # files first: a unit that starts meanwhile finds its own, and fails closed while the table is not there
        enrolled_units.write_unit_files(self._settings.runtime_directory / "units", ruleset)
        changes = self._redirector.apply(ruleset)
        return Captured(located.workloads, located.problems, located.missing_drop_ins, changes)

    def reassert(self) -> tuple[str, ...]:
        """Correct what others changed since; to be called every few seconds after `refresh`.

        Returns:
            What differed, empty when nothing did.

        Raises:
            CaptureFailed, NetfilterError: the kernel refused.
        """
        return self._redirector.reassert()

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
