"""Background: long work done in small slices between the events of a worker's loop, so that no byte waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hostmesh.transport.loop import Loop

SLICE = 0.0001
"""Seconds of work at a time: less than what a byte needs on its way through two proxies varies by itself."""

PAUSE = 0.001
"""Seconds between two slices while there is traffic. Without a pause every byte would meet a slice."""

BUSY_FOR = 0.02
"""Seconds after the last event of somebody else that count as traffic."""


class Background:
    """Does the work of one iterator. It goes at full speed while the loop has nothing else to do.

    Args:
        loop: the worker's.
        work: yields True wherever it may be interrupted, False when there is nothing to do until `go`.
        clock: monotonic seconds.
    """

    def __init__(self, loop: Loop, work: Iterator[bool], clock: Callable[[], float]) -> None:
        self._loop = loop
        self._work = work
        self._clock = clock
        self._scheduled = False
        self._own = 0
        self._seen = 0
        self._busy_until = 0.0

    def go(self) -> None:
        """An event of the loop says that there may be something to do now."""
        self._own += 1
        self.start()

    def start(self) -> None:
        """There may be something to do, and no event says so."""
        if not self._scheduled:
            self._slice()

    def _slice(self) -> None:
        self._scheduled = False
        began = self._clock()
        for more in self._work:
            if not more:
                return
            now = self._clock()
            if now - began >= SLICE:
                self._scheduled = True
                self._loop.call_later(PAUSE if self._traffic(now) else 0.0, self._slice)
                return

    def _traffic(self, now: float) -> bool:
        """Whether there were events of others since the last slice, or a moment ago: pings leave gaps."""
        events = self._loop.events - self._own
        if events > self._seen:
            self._seen = events
            self._busy_until = now + BUSY_FOR
        return now < self._busy_until
