"""NetworkPolicies as the agent's loop sees them: what xDS says goes to the kernel, what the kernel refuses is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

from hostmesh.daemon.capture import CaptureKeeper
from hostmesh.enrolment.policing import Isolated, Knowledge
from hostmesh.firewall.services import Front
from hostmesh.model.network_policy import (
    Direction,
    Member,
    Membership,
    NamespaceLabels,
    NetworkPolicy,
    PolicyResource,
)
from hostmesh.model.service import Service
from hostmesh.state.store import MeshState
from hostmesh.xds.codec import decode_policy_resource
from hostmesh.xds.held import XdsUpdate

_log = logging.getLogger("hostmesh.networkpolicy")

SETTLE = 0.1
"""Seconds in which changes are joined to one plan."""
COUNT_INTERVAL = 5.0


class PolicyKeeper:
    """Owns what is known of NetworkPolicies.

    Args:
        capture: whose workloads they hold for.
        state: the mesh's services, whose addresses egress policies judge by what they lead to.
    """

    def __init__(self, capture: CaptureKeeper, state: MeshState) -> None:
        self._capture = capture
        self._state = state
        self._resources: dict[str, PolicyResource] = {}
        self._changed = asyncio.Event()
        self._known = False
        self._error = ""
        self._gaps: tuple[str, ...] = ()
        self.counted: tuple[Isolated, ...] = ()
        self.probes: dict[str, int] = {}

    @property
    def pending(self) -> bool:
        """Whether this host enforces policies and does not know them yet."""
        return self._capture.enforces and not self._known

    @property
    def error(self) -> str:
        """Why the kernel is not as the policies say, empty when it is."""
        return self._error or "; ".join(map(str, self._capture.policing.problems))

    async def describe(self) -> dict[str, Any]:
        """What `hostmesh netpol explain` shows of this host."""
        if not self._capture.enforces:
            return {"enforce": False, "error": "", "kernel": [], "isolated": []}
        try:
            found = await asyncio.to_thread(self._capture.policing.describe)
        except OSError as error:
            return {"enforce": True, "error": str(error), "kernel": [], "isolated": []}
        return {"enforce": True, "error": self.error, **found}

    def summary(self) -> dict[str, Any]:
        """What `hostmesh status` shows."""
        return {
            "enforce": self._capture.enforces,
            "known": self._known,
            "error": self.error,
            "gaps": list(self._capture.policing.gaps),
            "isolated": [
                {
                    "workload": one.workload,
                    "direction": one.direction.value,
                    "policies": list(one.policies),
                    "dropped": one.dropped,
                }
                for one in self.counted
            ],
        }

    def known(self) -> None:
        """What was told so far is everything."""
        if not self._known:
            self._known = True
            self._learn()

    def expect(self) -> None:
        """Nothing was ever told: until it is, this host's workloads reach nobody, and nobody them."""
        if self._capture.enforces:
            self._capture.policing.close()

    def apply(self, update: XdsUpdate) -> None:
        """Take what xDS delivered; its codec has accepted every resource."""
        for name, encoded in update.network_policies.items():
            self._resources[name] = decode_policy_resource(encoded)
        for name in update.removed_network_policies:
            self._resources.pop(name, None)
        news = update.network_policies or update.removed_network_policies
        services = (update.addresses or update.removed_addresses) and self._judges_services()
        if self._known and (news or services):
            self._learn()

    async def run(self) -> None:
        """Follow until cancelled; a kernel that refuses is reported, and asked again by the capture's re-assertion."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._count(), name="NetworkPolicy counters")
            while True:
                await self._changed.wait()
                await asyncio.sleep(SETTLE)
                self._changed.clear()
                self._capture.policing.learn(self._knowledge())
                await self._police()

    def _learn(self) -> None:
        if self._capture.enforces:
            self._capture.policing.learn(self._knowledge())
            self._changed.set()

    async def _police(self) -> None:
        try:
            changes = await self._capture.police()
        except OSError as error:
            _log.error("NetworkPolicies cannot be applied, the rules stay as they were: %s", error)
            self._error = str(error)
            return
        self._error = ""
        gaps = self._capture.policing.gaps
        for gap in gaps if gaps != self._gaps else ():
            _log.warning("%s", gap)
        self._gaps = gaps
        for problem in self._capture.policing.problems:
            _log.error("NetworkPolicies cannot be applied: %s", problem)
        if changes:
            _log.info("NetworkPolicies changed: %s", "; ".join(changes))

    async def _count(self) -> None:
        while True:
            before = {one.chain: one.dropped for one in self.counted}
            try:
                self.counted = await asyncio.to_thread(self._capture.policing.count)
                self.probes = await self._capture.probes()
            except OSError as error:
                _log.error("what the kernel refuses and lets through cannot be counted: %s", error)
            for one in self.counted:
                more = one.dropped - before.get(one.chain, 0)
                if more > 0:
                    _log.warning(
                        "NetworkPolicy %s: %d packets dropped, %s of %s",
                        ", ".join(one.policies),
                        more,
                        one.direction.value.lower(),
                        one.workload,
                    )
            await asyncio.sleep(COUNT_INTERVAL)

    def _judges_services(self) -> bool:
        return any(
            isinstance(one, NetworkPolicy) and Direction.EGRESS in one.isolates for one in self._resources.values()
        )

    def _knowledge(self) -> Knowledge:
        known = tuple(self._resources.values())
        members = tuple(one for one in known if isinstance(one, Member))
        policies = tuple(one for one in known if isinstance(one, NetworkPolicy))
        namespaces = {one.name: one.labels for one in known if isinstance(one, NamespaceLabels)}
        fronts = tuple(self._fronts(members)) if self._judges_services() else ()
        return Knowledge(policies, Membership(members, namespaces), fronts)

    def _fronts(self, members: tuple[Member, ...]) -> Iterator[Front]:
        by_uid = {member.uid: member for member in members}
        for service in self._state.services():
            addresses = tuple(vip.ip for vip in service.vips)
            if addresses:
                yield from (Front(addresses, port, self._ends(service, port, by_uid)) for port in service.ports)

    def _ends(self, service: Service, port: int, by_uid: dict[str, Member]) -> tuple[tuple[Member, int], ...]:
        key = service.namespaced_hostname
        return tuple(
            (by_uid[workload.uid], workload.services[key].get(port) or service.ports[port] or port)
            for workload in self._state.endpoints(service)
            if workload.uid in by_uid
        )
