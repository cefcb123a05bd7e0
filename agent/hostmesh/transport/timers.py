"""Timers of the worker's loop: a heap with lazy cancellation."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

_GARBAGE_FLOOR: Final = 64
"""Cancelled timers that may lie in the heap before a clean-up is worth its pass."""


class Timer:
    """A callback that is due at `when` (seconds of the loop's clock) unless it is cancelled first."""

    __slots__ = ("_timers", "callback", "when")

    def __init__(self, timers: Timers, when: float, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Never call back. Harmless when the timer has fired or was cancelled before."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled()

    @property
    def active(self) -> bool:
        """Whether the callback is still to come."""
        return self.callback is not None


class Timers:
    """The pending timers. Equal times fire in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._garbage = 0

    def __len__(self) -> int:
        """Entries held, cancelled ones included: at most twice the active ones plus a constant."""
        return len(self._heap)

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once the clock has reached `when`."""
        timer = Timer(self, when, callback)
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, timer))
        return timer

    def cancelled(self) -> None:
        """Count one cancelled entry and clean up when they outnumber the active ones."""
        self._garbage += 1
        if self._garbage > _GARBAGE_FLOOR and self._garbage * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._garbage = 0

    def next_due(self) -> float | None:
        """When the earliest active timer is due; None without any."""
        heap = self._heap
        while heap:
            when, _, timer = heap[0]
            if timer.callback is not None:
                return when
            heapq.heappop(heap)
            self._garbage -= 1
        return None

    def may_be_due(self, now: float) -> bool:
        """Whether a look is worth it: most turns of a busy loop have no timer."""
        return bool(self._heap) and self._heap[0][0] <= now

    @property
    def last(self) -> int:
        """The number of the timer set last; each is one higher than the one before."""
        return self._sequence

    def pop_due(self, now: float, last: int) -> Callable[[], None] | None:
        """Remove and return the earliest callback due at `now` of those numbered up to `last`; None without any."""
        when = self.next_due()
        if when is None or when > now or self._heap[0][1] > last:
            return None
        timer = heapq.heappop(self._heap)[2]
        callback, timer.callback = timer.callback, None
        return callback
