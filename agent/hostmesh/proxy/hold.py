"""Hold: an answer that nobody waits for leaves with what follows it, or a moment later.

A peer that has sent an application's words ahead does not wait for the 200 but for what the other application says to
them. Both in one record save each end a turn of its loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hostmesh.proxy.ahead import MAX_AHEAD
from hostmesh.transport.loop import Loop
from hostmesh.transport.timers import Timer
from hostmesh.wire.http2.connection import Http2Connection

PATIENCE: Final = 0.001
"""Seconds. Most applications have answered by then; and more would be noticed by one that has more to say first."""


class Hold:
    """Of one tunnel: how much of its output may wait."""

    __slots__ = ("_http2", "_loop", "_size", "_timer")

    def __init__(self, loop: Loop, http2: Http2Connection) -> None:
        self._loop = loop
        self._http2 = http2
        self._size = 0
        self._timer: Timer | None = None

    @property
    def due(self) -> bool:
        """Whether there is output that may not wait."""
        return self._http2.pending_output > self._size

    def answer(self, stream: int, block: bytes, wake: Callable[[], None]) -> None:
        """Begin the response, and `wake` now or later. Who has sent all that may be sent ahead waits to send more."""
        due = self.due
        self._http2.send_headers(stream, block)
        if due or not 0 < self._http2.unread(stream) < MAX_AHEAD:
            wake()
            return
        self._size = self._http2.pending_output
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, wake)

    def end(self) -> None:
        """All of it leaves now, or never."""
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
