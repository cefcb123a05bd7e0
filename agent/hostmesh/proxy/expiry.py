"""Expiry: when what the two ends of a tunnel have proven to each other is proven no more, by the wall clock.

Timers count the time that a host is awake; certificates do not. After a suspended night or a corrected clock the timer
would come too late, so whoever opens a stream asks the clock, and the tunnel's keepalive asks now and then.
"""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.transport.loop import Loop
from hostmesh.transport.timers import Timer


class Expiry:
    """Calls `end` once when the moment has come.

    Args:
        loop: the worker's.
        at: seconds since the epoch.
        clock: seconds since the epoch, now.
        end: what happens then; never called before this returns to the loop.
    """

    __slots__ = ("_clock", "_end", "_loop", "_timer", "at")

    def __init__(self, loop: Loop, at: float, clock: Callable[[], float], end: Callable[[], None]) -> None:
        self.at = at
        self._loop = loop
        self._clock = clock
        self._end: Callable[[], None] | None = end
        self._timer: Timer = loop.call_later(max(0.0, at - clock()), self.check)

    @property
    def over(self) -> bool:
        """Whether the moment has come."""
        return self._clock() >= self.at

    def check(self) -> None:
        """End it if it is over. If the clock was set back there is more time, and another timer."""
        left = self.at - self._clock()
        if left <= 0:
            end = self._end
            self.cancel()
            if end is not None:
                end()
        elif not self._timer.active:
            self._timer = self._loop.call_later(left, self.check)

    def cancel(self) -> None:
        """Nothing happens any more; who was to be told is let go."""
        self._end = None
        self._timer.cancel()
