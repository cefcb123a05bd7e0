"""Capture as the agent's loop runs it: the blocking work in a thread, re-asserted every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hostmesh.config.agent import AgentConfig
from hostmesh.daemon.failsafe import ControlPlaneAddresses, resolvers
from hostmesh.enrolment.attachments import Attachments
from hostmesh.enrolment.capture import Capture, Captured, CaptureSettings
from hostmesh.enrolment.namespaces import Namespaces
from hostmesh.enrolment.policing import Policing
from hostmesh.firewall.apply import Firewall
from hostmesh.firewall.chain import Hbone
from hostmesh.firewall.plan import Options
from hostmesh.kernel import cgroup
from hostmesh.model.local import LocalWorkload
from hostmesh.rpc.endpoint import Endpoint

_log = logging.getLogger("hostmesh.capture")

REASSERT_INTERVAL = 5.0
"""How long another tool's flush of our rules can last."""


class CaptureKeeper:
    """Owns the rules of this host. What was captured stays captured when an update is refused."""

    def __init__(self, config: AgentConfig, endpoint: Endpoint) -> None:
        settings = config.settings
        cgroups = cgroup.find_root()
        self._excluded_ports = settings.capture.excluded_inbound_ports
        self.policing = Policing(
            Firewall(cgroups, settings.runtime_dir),
            enforce=settings.network_policy.enforce,
            host=settings.network_policy.host,
            options=self._options,
        )
        self._hbone = Hbone(settings.network_policy.hbone)
        self._cgroup_prefix = cgroups.nft_prefix
        self._control_plane = ControlPlaneAddresses(None if settings.local else endpoint)
        self.enforces = settings.network_policy.enforce
        self._capture = Capture(
            CaptureSettings(
                workloads_directory=settings.workloads_dir,
                state_directory=settings.state_dir,
                runtime_directory=settings.runtime_dir,
                trust_domain=settings.trust_domain,
            ),
            cgroups,
            policing=self.policing,
        )
        self._captured = Captured((), (), (), ())
        self._lock = asyncio.Lock()
        self._error = "not applied yet"

    @property
    def workloads(self) -> tuple[LocalWorkload, ...]:
        """What is captured here."""
        return self._captured.workloads

    @property
    def namespaces(self) -> Namespaces:
        """Network namespaces of workloads."""
        return self._capture.namespaces

    @property
    def attachments(self) -> Attachments:
        """Containers that CNI has enrolled."""
        return self._capture.attachments

    @property
    def in_place(self) -> bool:
        """Whether the kernel is as planned."""
        return not self._error

    def describe(self, workload: LocalWorkload) -> str:
        """One word or two for `hostmesh status`."""
        if self._error:
            return f"FAILED: {self._error}"
        if workload.in_namespace and not self._capture.namespaces.is_open(workload.key):
            return "waiting for its network namespace"
        if workload.unit in self._captured.missing_drop_ins:
            return "drop-in missing"
        return "captured"

    def paused(self) -> asyncio.Lock:
        """While it is held nothing is read, and nothing in the kernel is half done."""
        return self._lock

    async def refresh(self) -> None:
        """Read workloads.d and make the kernel agree.

        Raises:
            InvalidYaml: nothing was changed.
            NumbersUnreadable: the file of numbers is damaged.
            OSError: the kernel or systemd refused.
        """
        async with self._lock:
            captured = await asyncio.to_thread(self._capture.refresh, self._excluded_ports)
        for problem in captured.problems:
            _log.warning("%s", problem)
        for unit in captured.missing_drop_ins:
            _log.warning("%s has no drop-in of hostmesh: its next start begins outside the mesh", unit)
        if captured.changes:
            _log.info("rules changed: %s", "; ".join(captured.changes))
        self._captured, self._error = captured, ""

    async def police(self) -> tuple[str, ...]:
        """Make the kernel agree with what is known of NetworkPolicies; what differed, one line each.

        Raises:
            OSError: the kernel refused.
        """
        async with self._lock:
            return await asyncio.to_thread(self._capture.police)

    def _options(self) -> Options:
        return Options(
            ssh_ports=(22, *self._excluded_ports),
            control_plane=self._control_plane(),
            resolvers=resolvers(),
            hbone=self._hbone,
            cgroup_prefix=self._cgroup_prefix,
        )

    async def run(self, changed: Callable[[], None]) -> None:
        """Correct what other tools change, until cancelled; a kernel that refuses is reported and tried again.

        Args:
            changed: called after something differed: namespaces come and go.
        """
        while True:
            await asyncio.sleep(REASSERT_INTERVAL)
            try:
                async with self._lock:
                    differed = await asyncio.to_thread(self._capture.reassert)
            except OSError as error:
                if self._error != str(error):
                    _log.error("rules cannot be re-asserted: %s", error)
                self._error = str(error)
                continue
            self._error = ""
            if differed:
                _log.warning("rules were changed by somebody else and put back: %s", "; ".join(differed))
                changed()
