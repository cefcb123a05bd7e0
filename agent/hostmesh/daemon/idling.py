"""When a process that was busy has nothing to do any more, and what it gives back then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import process_time
from typing import Protocol

INTERVAL = 1.0
"""Seconds between two looks."""

IDLE = 0.05
"""CPU seconds of an interval in which nothing much was done."""

WORTH = 0.1
"""CPU seconds after which giving back is due again: it costs a hundredth of that, so little work never pays for it."""


class Timers(Protocol):
    """A loop: a worker's, or asyncio's."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call it in so many seconds."""
        ...


class Idling:
    """Calls all of `give_back` once the process was idle for an interval, if it has worked since the last time.

    Args:
        loop: the process's.
        give_back: take about a millisecond.
        used: CPU seconds of the process so far.
    """

    def __init__(
        self, loop: Timers, give_back: Iterable[Callable[[], None]], used: Callable[[], float] = process_time
    ) -> None:
        self._loop = loop
        self._give_back = tuple(give_back)
        self._used = used
        self._before = 0.0
        self._given = -WORTH

    def start(self) -> None:
        """Give back now, and look from now on."""
        self._before = self._used()
        self._look()

    def _look(self) -> None:
        used = self._used()
        idle, self._before = used - self._before <= IDLE, used
        if idle and used - self._given >= WORTH:
            for give in self._give_back:
                give()
            self._given = self._used()
        self._loop.call_later(INTERVAL, self._look)
