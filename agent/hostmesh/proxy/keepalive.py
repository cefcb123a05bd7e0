"""Keepalive: a peer that does not answer PING in time is taken for dead (RFC 9113 §6.7)."""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.transport.loop import Loop
from hostmesh.transport.timers import Timer

PAYLOAD = b"alive..."


class Keepalive:
    """Asks `interval` seconds after each answer, and waits `timeout` seconds for the next.

    Args:
        loop: the worker's.
        interval: seconds.
        timeout: seconds.
        ping: sends PING with PAYLOAD; False when nobody is there any more to be asked.
        gone: called once, when no answer came.
    """

    __slots__ = ("_gone", "_interval", "_loop", "_ping", "_timeout", "_timer")

    def __init__(
        self, loop: Loop, interval: float, timeout: float, ping: Callable[[], bool], gone: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._interval = interval
        self._timeout = timeout
        self._ping: Callable[[], bool] | None = ping
        self._gone: Callable[[], None] | None = gone
        self._timer: Timer = loop.call_later(interval, self._due)

    def answered(self) -> None:
        """The peer lives."""
        self._timer.cancel()
        self._timer = self._loop.call_later(self._interval, self._due)

    def cancel(self) -> None:
        """Ask no more; who was to be told is let go."""
        self._ping = self._gone = None
        self._timer.cancel()

    def _due(self) -> None:
        if self._ping is not None and self._ping():
            self._timer = self._loop.call_later(self._timeout, self._unanswered)

    def _unanswered(self) -> None:
        if self._gone is not None:
            self._gone()
