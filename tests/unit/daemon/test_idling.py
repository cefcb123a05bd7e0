"""A worker gives memory back after it was busy, and not at every pause."""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.daemon.idling import INTERVAL, Idling


class Turns:
    """A loop of which only the timers matter."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        assert delay == INTERVAL
        self.timers.append(callback)


def test_once_after_each_busy_time() -> None:
    """A start counts as one. A connection now and then does not; half a second of work does, when it has ended."""
    loop, given, used = Turns(), [], 0.0
    idling = Idling(loop, [lambda: given.append(len(loop.timers))], lambda: used)  # type: ignore[arg-type]
    idling.look()
    for work in (0.0, 0.01, 0.04, 0.9, 0.5, 0.0, 0.01, 0.0):
        used += work * INTERVAL
        loop.timers[-1]()
    assert given == [0, 6]
