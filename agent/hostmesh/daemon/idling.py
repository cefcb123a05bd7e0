"""When a worker that was busy has nothing to do any more, and what it gives back then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import process_time

from hostmesh.transport.loop import Loop

INTERVAL = 1.0
"""Seconds between two looks."""

BUSY = 0.05
"""Share of an interval that a worker must have run to count as busy; giving back is due once after each such time, so
that a connection now and then never pays for memory that comes and goes."""


class Idling:
    """Calls all of `give_back` after each busy time, once the worker was idle for an interval.

    Args:
        loop: the worker's.
        give_back: take about a millisecond.
        used: CPU seconds of the process so far.
    """

    def __init__(
        self, loop: Loop, give_back: Iterable[Callable[[], None]], used: Callable[[], float] = process_time
    ) -> None:
        self._loop = loop
        self._give_back = tuple(give_back)
        self._used = used
        self._before = used()
        self._due = True

    def look(self) -> None:
        """Once now, and then for ever."""
        used = self._used()
        busy, self._before = used - self._before > BUSY * INTERVAL, used
        if busy:
            self._due = True
        elif self._due:
            self._due = False
            for give in self._give_back:
                give()
        self._loop.call_later(INTERVAL, self.look)
