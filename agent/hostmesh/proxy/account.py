"""Account: a connection's life as metrics and the access log see it."""

from __future__ import annotations

from hostmesh.proxy import failure as failures
from hostmesh.proxy.context import Context
from hostmesh.proxy.failure import Failure
from hostmesh.telemetry.access_log import TARGET, Completion, Outcome, Parties, audited, opened
from hostmesh.telemetry.logs import enabled
from hostmesh.telemetry.metrics import Traffic
from hostmesh.telemetry.reasons import reason_of


class Account:
    """Opened once the parties are known, closed exactly once.

    Args:
        context: the worker's.
        traffic: counters of the label set.
        parties: what the log says about both ends.
        source: the client's address.
        destination: what the log calls `dst.addr`.
        hbone: the CONNECT authority, `""` for plain TCP.
        began: when it came in the loop's time, if not now.
    """

    __slots__ = ("_context", "_destination", "_hbone", "_open", "_parties", "_source", "_started", "traffic")

    def __init__(
        self,
        context: Context,
        traffic: Traffic,
        parties: Parties,
        source: str,
        destination: str,
        hbone: str = "",
        began: float | None = None,
    ) -> None:
        self._context = context
        self.traffic = traffic
        self._parties = parties
        self._source = source
        self._destination = destination
        self._hbone = hbone
        self._started = context.loop.now() if began is None else began
        self._open = True
        traffic.opened.value += 1
        if parties.logged and enabled(TARGET, "debug"):
            context.journal.add(opened(parties, source, destination, hbone))

    def audit(self, finding: str) -> None:
        """Tell of a connection that a policy on trial would refuse; an empty finding is none."""
        if finding:
            self._context.journal.add(audited(self._parties, self._source, self._destination, self._hbone, finding))

    def close(self, sent: int, received: int, failure: Failure | None) -> None:
        """Count and log the end.

        Args:
            sent: bytes that the reporter's own workload sent.
            received: bytes that it received.
            failure: None for success.
        """
        if not self._open:
            return
        self._open = False
        outcome = failure or failures.SUCCESS
        error, flags = outcome.error, outcome.flags
        reason = reason_of(error, flags, self._destination).name if error else ""
        self.traffic.ended(flags, outcome.policies, reason)
        if not self._parties.logged:
            return
        duration = self._context.loop.now() - self._started
        self._context.journal.add(
            Completion(
                self._parties,
                self._source,
                self._destination,
                self._hbone,
                Outcome(sent, received, duration, error, flags),
            )
        )
