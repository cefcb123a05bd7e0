"""When which certificate is fetched: pure decisions over slots (ztunnel's secret manager, with jitter).

A slot is one wanted identity. It is fetched when it is due, most urgent first; renewed shortly before half of the
certificate's life; retried after failures with exponential back-off; its last certificate serves until it expires.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

from hostmesh.model.identity import Identity

MAX_CONCURRENT = 8
BACKOFF_INITIAL = 1.0
BACKOFF_MAXIMUM = 150.0
_MAX_DOUBLINGS = 8  # 2**8 s is beyond the maximum
RENEWED_AFTER = 0.5
"""Share of a certificate's life (Istio's SECRET_GRACE_PERIOD_RATIO)."""
_JITTER_OF_LIFE = 0.1
_JITTER_OF_BACKOFF = 0.2
_SHORTEST_WAIT = 1.0


class Priority(IntEnum):
    """How urgent a slot is; a greater one goes first."""

    PREFETCH = 0
    EXPIRING = 1
    WAITING = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """`due` and `not_after` are seconds since the epoch; `not_after` None means that there is no usable certificate."""

    identity: Identity
    due: float
    waiting: bool = False
    fetching: bool = False
    failures: int = 0
    error: str = ""
    not_after: float | None = None

    @property
    def priority(self) -> Priority:
        """A connection that waits outranks a certificate that runs out, and that one a mere prefetch."""
        if self.not_after is not None:
            return Priority.EXPIRING
        return Priority.WAITING if self.waiting else Priority.PREFETCH

    @property
    def state(self) -> str:
        """As ztunnel's config dump says it."""
        if self.not_after is not None:
            return "Available"
        return f"Unavailable: {self.error}" if self.error else "Initializing"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do now: fetch `start`, in this order; look again at `wake` at the latest (None: when told something)."""

    start: tuple[Identity, ...]
    wake: float | None


def choose(slots: Iterable[Slot], now: float, limit: int = MAX_CONCURRENT) -> Choice:
    """Pick what is fetched now, and when to look again.

    Args:
        slots: all of them.
        now: seconds since the epoch.
        limit: how many fetches may run at once, those that already run included.
    """
    every = list(slots)
    free = limit - sum(slot.fetching for slot in every)
    idle = [slot for slot in every if not slot.fetching]
    due = sorted((slot for slot in idle if slot.due <= now), key=lambda slot: (-slot.priority, slot.due))
    start = tuple(slot.identity for slot in due[: max(free, 0)])
    moments = [slot.due for slot in idle if slot.due > now]
    moments += [slot.not_after for slot in every if slot.not_after is not None and slot.not_after > now]
    return Choice(start, min(moments, default=None))


def renewal_time(not_before: float, not_after: float, obtained: float, jitter: float) -> float:
    """When a certificate should be replaced: between 40 and 50 % of its life.

    A certificate that was past that when it came (a backdating longer than its life) is replaced half-way
    through what was left of it, so that no issuer can make us ask in a loop.

    Args:
        not_before: of the certificate.
        not_after: of the certificate.
        obtained: when it came.
        jitter: 0 to 1, spreads hosts that were enrolled together.
    """
    at = not_before + (not_after - not_before) * (RENEWED_AFTER - _JITTER_OF_LIFE * jitter)
    if at > obtained:
        return at
    return obtained + max((not_after - obtained) / 2, _SHORTEST_WAIT)


def retry_delay(failures: int, jitter: float) -> float:
    """Seconds until the next try after so many failures in a row: 1, 2, 4 ... 150, each ±20 %."""
    base = min(BACKOFF_INITIAL * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), BACKOFF_MAXIMUM)
    return base * (1 + _JITTER_OF_BACKOFF * (2 * jitter - 1))


def succeeded(slot: Slot, not_before: float, not_after: float, now: float, jitter: float) -> Slot:
    """The slot after its certificate has come."""
    due = renewal_time(not_before, not_after, now, jitter)
    return Slot(slot.identity, due, not_after=not_after)


def failed(slot: Slot, error: str, now: float, jitter: float, longest: float = BACKOFF_MAXIMUM) -> Slot:
    """The slot after a fetch that failed; a certificate that it has stays, and is retried before it expires."""
    failures = slot.failures + 1
    due = now + min(retry_delay(failures, jitter), longest)
    if slot.not_after is not None and slot.not_after > now:
        due = min(due, max(slot.not_after, now + _SHORTEST_WAIT))
    return replace(slot, due=due, fetching=False, failures=failures, error=error, waiting=False)


def lapsed(slot: Slot, now: float) -> bool:
    """Whether the slot still counts on a certificate that has expired."""
    return slot.not_after is not None and slot.not_after <= now


def lapse(slot: Slot, error: str) -> Slot:
    """The slot without the certificate that has expired."""
    return replace(slot, not_after=None, error=slot.error or error)
