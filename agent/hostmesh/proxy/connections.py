"""Connections: what is open now, and the judge of inbound ones when policies change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hostmesh.model.authorization import Authorization
from hostmesh.model.connection import Connection
from hostmesh.model.workload import Workload
from hostmesh.proxy import failure as failures
from hostmesh.proxy.failure import Failure
from hostmesh.rbac.decide import decide
from hostmesh.state.store import MeshState
from hostmesh.transport.loop import Loop

JUDGED_AT_ONCE = 256
"""Connections judged in one turn after a policy change, so that a push never stalls the bytes of the others."""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """One connection for the admin's list; addresses are printed."""

    direction: str
    source: str
    original_destination: str
    actual_destination: str
    protocol: str
    workload: str


class Open(Protocol):
    """A connection that is open."""

    def describe(self) -> OpenConnection:
        """For the admin's list."""

    def close(self, failure: Failure) -> None:
        """End it now; it is logged with the failure."""


class Judged(Open, Protocol):
    """An inbound connection that was let in by policies."""

    @property
    def facts(self) -> Connection:
        """What policies judge."""

    @property
    def workload(self) -> Workload:
        """The destination as it was when the connection was accepted."""


class Connections:
    """Every connection registers before it is judged, so that no policy change can slip between."""

    def __init__(self, loop: Loop, state: MeshState) -> None:
        self._loop = loop
        self._state = state
        self._outbound: dict[Open, None] = {}
        self._inbound: dict[Judged, None] = {}
        self._judged_by: dict[str, tuple[Authorization, ...]] = {}
        self._to_judge: list[Judged] = []

    def __len__(self) -> int:
        return len(self._outbound) + len(self._inbound)

    def add(self, connection: Open) -> None:
        """An outbound one; established ones outlive every change."""
        self._outbound[connection] = None

    def add_judged(self, connection: Judged) -> None:
        """An inbound one."""
        self._inbound[connection] = None

    def remove(self, connection: Open) -> None:
        """It has ended."""
        self._outbound.pop(connection, None)

    def remove_judged(self, connection: Judged) -> None:
        """It has ended."""
        self._inbound.pop(connection, None)

    def describe(self) -> Iterator[OpenConnection]:
        """All that are open now, one after the other; those that end meanwhile are left out."""
        for connection in self._everything():
            if connection in self._outbound or connection in self._inbound:
                yield connection.describe()

    def close_all(self, failure: Failure) -> None:
        """The process ends, or its deadline has come."""
        for connection in self._everything():
            connection.close(failure)

    def policies(self, workload: Workload) -> tuple[Authorization, ...]:
        """What selects a workload now.

        What its oldest connection was judged by is remembered until the next `state_changed`, however many changes
        lie between.
        """
        found = self._state.policies_for(workload)
        self._judged_by.setdefault(workload.uid, found)
        return found

    def state_changed(self) -> None:
        """Judge again those connections whose destination's policies are not what they were.

        A workload's own list of policies counts as it is now: a policy that is attached to a workload later must
        also end what it forbids.
        """
        changed = {uid for uid, before in self._judged_by.items() if self._current(uid) != before}
        if not changed:
            return
        self._judged_by = {uid: found for uid, found in self._judged_by.items() if uid not in changed}
        waiting = set(self._to_judge)  # of an earlier change: they are judged by what counts when it is their turn
        self._to_judge += (
            connection
            for connection in self._inbound
            if connection.workload.uid in changed and connection not in waiting
        )
        if not waiting:
            self._judge_some()

    def _current(self, uid: str) -> tuple[Authorization, ...] | None:
        workload = self._state.workload(uid)
        return None if workload is None else self._state.policies_for(workload)

    def _judge_some(self) -> None:
        some, self._to_judge = self._to_judge[:JUDGED_AT_ONCE], self._to_judge[JUDGED_AT_ONCE:]
        for connection in some:
            if connection in self._inbound:
                workload = self._state.workload(connection.workload.uid) or connection.workload
                verdict = decide(self.policies(workload), connection.facts)
                if not verdict.allowed:
                    connection.close(failures.policy_changed(verdict.policies))
        if self._to_judge:
            self._loop.call_later(0, self._judge_some)

    def _everything(self) -> Iterable[Open]:
        return [*self._outbound, *self._inbound]
