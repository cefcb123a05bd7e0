"""Registry: leases of hosts and the health of their workloads, shared by the control planes of the mesh.

`alive/<node>` is held by the control plane to which the node renews its lease, and vanishes with either;
`presence/<node>` says whether the node is in rotation, so that a restart neither forgets who was gone nor drops who was
there; `health/<node>` has its unhealthy workloads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from hostmesh.control.offload import Run, inline
from hostmesh.control.presence import Presence, gone_now
from hostmesh.control.records import Conflict, Record, Records

_log = logging.getLogger(__name__)

_ALIVE, _PRESENCE, _HEALTH = "alive/", "presence/", "health/"
_STALLED = 2.0
"""Seconds without a look after which this process itself has not been running: what it has missed is nobody's fault."""
CHECK_INTERVAL = 0.5


class Registry:
    """Run `run`; nodes come by `renew`.

    Args:
        records: shared with other control planes.
        name: of this one.
        lease: seconds.
        changed: called, in any thread, when `presence` may be another.
        problem: why what is known may be old, empty if it is not.
        run: runs what writes.
        now: seconds since the epoch.
        monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        records: Records,
        name: str,
        lease: float,
        changed: Callable[[], None],
        *,
        problem: Callable[[], str] = lambda: "",
        run: Run = inline,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._name = name
        self.lease = lease
        self._changed = changed
        self._problem = problem
        self._run = run
        self._now = now
        self._monotonic = monotonic
        self._until: dict[str, float] = {}
        """When the leases run out that are renewed here."""
        self._known: dict[str, float] = {}
        """Every node that ever had a lease; since when it is gone, 0 if it is not."""
        self._unhealthy: dict[str, Mapping[str, str]] = {}
        self._looked = monotonic()
        self._quiet_until = self._looked + lease
        records.follow(_PRESENCE, self._take_presence)
        records.follow(_HEALTH, self._take_health)

    @property
    def presence(self) -> Presence:
        """Who is not in rotation."""
        gone = frozenset(node for node, since in list(self._known.items()) if since)
        return Presence(gone, {node: frozenset(reasons) for node, reasons in list(self._unhealthy.items())})

    def describe(self) -> dict[str, object]:
        """For `hostmesh get leases`."""
        leases = [
            {"name": node, "goneSince": since, "unhealthy": dict(self._unhealthy.get(node, {}))}
            for node, since in sorted(self._known.items())
        ]
        return {"lease": self.lease, "leases": leases}

    async def renew(self, node: str, reported: Mapping[str, str | None]) -> None:
        """A node is there.

        Args:
            node: as its certificate says.
            reported: why its probed workloads are not healthy, empty if they are, None if that is not known yet; those
                that are not named are healthy.

        Raises:
            OSError: it cannot be written down that it is back.
        """
        self._until[node] = self._monotonic() + self.lease
        held = self._records.get(_alive(node))
        if held is None or held.value != self._name:
            self._records.hold(_alive(node), self._name)
        if self._known.get(node, 1.0):
            await self._run(lambda: self._write_presence(node, 0.0))
        before = self._unhealthy.get(node, {})
        unhealthy = {key: before.get(key) if why is None else why for key, why in reported.items()}
        after = {key: why for key, why in unhealthy.items() if why}
        if before.keys() != after.keys():
            text = json.dumps(after, sort_keys=True) if after else None
            await self._run(lambda: self._records.commit({f"{_HEALTH}{node}": text}))

    async def run(self) -> None:
        """Look for hosts that have gone until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                await self.check()
            except (OSError, Conflict) as error:
                _log.debug("presence is not written down: %s", error)

    async def check(self) -> None:
        """What `run` does again and again.

        Raises:
            OSError: what was found cannot be written down; the next look finds it again.
        """
        now = self._monotonic()
        self._be_patient(now)
        for node in [node for node, until in self._until.items() if until <= now]:
            del self._until[node]
            self._records.release(_alive(node))
        alive = {key.removeprefix(_ALIVE) for key in self._records.under(_ALIVE)} | self._until.keys()
        known = {node: not since for node, since in list(self._known.items())}
        for node in sorted(gone_now(known, alive, now, self._quiet_until)):
            _log.warning("node %s has not renewed its lease of %g s: its endpoints leave rotation", node, self.lease)
            await self._run(partial(self._write_presence, node, self._now()))

    def _be_patient(self, now: float) -> None:
        """After a time in which nobody could have been heard everybody has the time of a lease."""
        if now - self._looked > _STALLED:
            self._until = {node: max(until, now + self.lease) for node, until in self._until.items()}
            self._quiet_until = now + self.lease
        if self._problem():
            self._quiet_until = now + self.lease
        self._looked = now

    def _write_presence(self, node: str, gone_since: float) -> None:
        self._records.commit({f"{_PRESENCE}{node}": json.dumps({"gone": gone_since})})

    def _take_presence(self, key: str, record: Record | None) -> None:
        node = key.removeprefix(_PRESENCE)
        if record is None:
            self._known.pop(node, None)
        else:
            since = _gone(record.value)
            if self._known.get(node) and not since:
                _log.info("node %s is back: its endpoints return to rotation", node)
            self._known[node] = since
        self._changed()

    def _take_health(self, key: str, record: Record | None) -> None:
        node = key.removeprefix(_HEALTH)
        reasons = _reasons(record.value) if record is not None else {}
        if reasons:
            self._unhealthy[node] = reasons
        else:
            self._unhealthy.pop(node, None)
        self._changed()


def _alive(node: str) -> str:
    return f"{_ALIVE}{node}"


def _gone(text: str) -> float:
    """What cannot be read counts as there: its next look decides."""
    try:
        return float(json.loads(text)["gone"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _reasons(text: str) -> Mapping[str, str]:
    try:
        return {str(key): str(why) for key, why in json.loads(text).items()}
    except (ValueError, AttributeError):
        return {}
