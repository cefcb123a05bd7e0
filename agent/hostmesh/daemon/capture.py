"""Capture as the agent's loop runs it: the blocking work in a thread, re-asserted every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress

from hostmesh.config.agent import AgentConfig
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.daemon.capture_settings import capture_settings
from hostmesh.daemon.failsafe import ControlPlaneAddresses
from hostmesh.daemon.strangers import Strangers
from hostmesh.enrolment import failsafe
from hostmesh.enrolment.attachments import Attachments
from hostmesh.enrolment.capture import Capture, Captured
from hostmesh.enrolment.capture_settings import HostView
from hostmesh.enrolment.namespaces import Namespaces
from hostmesh.enrolment.naming import Naming
from hostmesh.enrolment.numbers import NumbersUnreadable
from hostmesh.enrolment.policing import Policing
from hostmesh.enrolment.reading import OptedOut, nobody
from hostmesh.firewall.apply import Firewall
from hostmesh.firewall.chain import Hbone
from hostmesh.firewall.plan import Options
from hostmesh.kernel import cgroup
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.health import Check
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.dns_apply import DnsRedirector
from hostmesh.redirect.failsafe import DNS_PORT

_log = logging.getLogger("hostmesh.capture")

REASSERT_INTERVAL = 4.0
"""With PAUSE, and what a look takes, another tool's flush of our rules lasts less than five seconds."""
PAUSE = 0.5
"""Between looks, however often a stranger knocks."""


class CaptureKeeper:
    """Owns the rules of this host. What was captured stays captured when an update is refused.

    Args:
        config: of the agent.
        endpoints: the control planes.
        opted_out: who is not captured, though enrolled, as the mesh says now.
    """

    def __init__(self, config: AgentConfig, endpoints: Sequence[Endpoint], opted_out: OptedOut = nobody) -> None:
        settings = config.settings
        cgroups = cgroup.find_root()
        self._hbone = Hbone(settings.network_policy.hbone)
        self._cgroup_prefix = cgroups.nft_prefix
        self._control_plane = ControlPlaneAddresses(() if settings.local else endpoints)
        self._host = HostView(failsafe=lambda: failsafe.read(cgroups, self._control_plane(), settings.proxy_user))
        self._settings = capture_settings(config)
        self.policing = Policing(
            Firewall(cgroups, settings.runtime_dir),
            enforce=settings.network_policy.enforce,
            host=settings.network_policy.host,
            options=self._options,
        )
        dns = settings.dns
        self.naming = Naming(
            DnsRedirector(cgroups, settings.runtime_dir),
            dns.port if dns.enabled else 0,
            plain=dns.plain,
            cgroup_prefix=cgroups.nft_prefix,
        )
        self.enforces = settings.network_policy.enforce
        self._capture = Capture(self._settings, cgroups, view=self._host, policing=self.policing, naming=self.naming)
        self._opted_out = opted_out
        self._idle: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._reread = False
        self._captured = Captured((), (), (), ())
        self._lock = asyncio.Lock()
        self._error = "not applied yet"

    @property
    def workloads(self) -> tuple[LocalWorkload, ...]:
        """What is captured here."""
        return self._captured.workloads

    @property
    def opted_out(self) -> tuple[LocalWorkload, ...]:
        """Who is enrolled here, but not captured as the registration says so."""
        return tuple(one for one in self._captured.enrolled if one.key in self._idle)

    @property
    def checks(self) -> Mapping[str, Check]:
        """What to probe, by `namespace/name`."""
        return self._captured.checks

    @property
    def namespaces(self) -> Namespaces:
        """Network namespaces of workloads."""
        return self._capture.namespaces

    @property
    def host_ports(self) -> frozenset[int]:
        """Where somebody listens on this host who is no workload, as it was when last looked."""
        return self._capture.host_ports

    @property
    def attachments(self) -> Attachments:
        """Containers that CNI has enrolled."""
        return self._capture.attachments

    @property
    def in_place(self) -> bool:
        """Whether the kernel is as planned."""
        return not self._error

    @property
    def problems(self) -> list[str]:
        """What of workloads.d could not be done, or not as it may be thought, with file and line."""
        return [str(problem) for problem in self._captured.problems]

    def describe(self, workload: LocalWorkload) -> str:
        """One word or two for `hostmesh status`."""
        if self._error:
            return f"FAILED: {self._error}"
        if workload.key in self._idle:
            return "opted out"
        if workload.in_namespace and not self._capture.namespaces.is_open(workload.key):
            return "waiting for its network namespace"
        if workload.unit in self._captured.missing_drop_ins:
            return "drop-in missing"
        return "captured"

    def paused(self) -> asyncio.Lock:
        """While it is held nothing is read, and nothing in the kernel is half done."""
        return self._lock

    def rest(self) -> None:
        """Have no processes that the program after this one would not know of; while `paused`."""
        self._capture.rest()

    def reconsider(self) -> None:
        """The mesh has changed: whoever has opted in or out since is captured, or let go, in a moment."""
        if any(self._opted_out(one) != (one.key in self._idle) for one in self._captured.enrolled):
            self._reread = True
            self._wake.set()

    async def refresh(self, *, strict: bool = False) -> None:
        """Read workloads.d and make the kernel agree.

        Args:
            strict: whether a unit or user that does not exist is refused; else it is reported, and the rest captured.

        Raises:
            InvalidYaml: nothing was changed.
            NumbersUnreadable: the file of numbers is damaged.
            OSError: the kernel or systemd refused.
        """
        async with self._lock:
            # the mesh is this loop's, and is not asked in the thread
            enrolled = (await asyncio.to_thread(self._capture.read, strict=strict)).enrolled
            idle = frozenset(one.key for one in enrolled if self._opted_out(one))
            captured = await asyncio.to_thread(self._capture.refresh, lambda one: one.key in idle, strict=strict)
        for problem in captured.problems:
            _log.warning("%s", problem)
        for unit in captured.missing_drop_ins:
            _log.warning("%s has no drop-in of hostmesh: its next start begins outside the mesh", unit)
        for key in sorted(idle - self._idle):
            _log.warning("%s is not captured: its registration says istio.io/dataplane-mode: none", key)
        if captured.changes:
            _log.info("rules changed: %s", "; ".join(captured.changes))
        self._captured, self._idle, self._error = captured, idle, ""

    async def police(self) -> tuple[str, ...]:
        """Make the kernel agree with what is known of NetworkPolicies; what differed, one line each.

        Raises:
            OSError: the kernel refused.
        """
        async with self._lock:
            return await asyncio.to_thread(self._capture.police)

    async def probes(self) -> dict[str, int]:
        """Health probes that were let through in plaintext, by workload.

        Raises:
            OSError: the kernel refused.
        """
        return await asyncio.to_thread(self._capture.probes)

    def _options(self) -> Options:
        facts = self._host.failsafe()
        return Options(
            ssh_ports=self._settings.reserved(facts).inbound_ports,
            control_plane=self._control_plane(),
            resolvers=tuple(way.address for way in facts.away if way.port == DNS_PORT and way.address is not None),
            hbone=self._hbone,
            cgroup_prefix=self._cgroup_prefix,
        )

    async def run(self, changed: Callable[[], None]) -> None:
        """Correct what other tools change, until cancelled; a kernel that refuses is reported and tried again.

        Args:
            changed: called after something differed: namespaces come and go, and so do listeners.
        """
        with closing(Strangers(self._wake.set)):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(REASSERT_INTERVAL):
                        await self._wake.wait()
                self._wake.clear()
                await self._look(changed)
                await asyncio.sleep(PAUSE)

    async def _look(self, changed: Callable[[], None]) -> None:
        try:
            if self._reread:
                self._reread = False
                await self.refresh()
                changed()
                return
            before = self.host_ports
            async with self._lock:
                differed = await asyncio.to_thread(self._capture.reassert)
        except (InvalidYaml, NumbersUnreadable, OSError) as error:
            if self._error != str(error):
                _log.error("rules cannot be re-asserted: %s", error)
            self._error = str(error)
            return
        self._error = ""
        if differed:
            _log.warning("rules were not as they should be, and are now: %s", "; ".join(differed))
        if differed or self.host_ports != before:
            changed()
