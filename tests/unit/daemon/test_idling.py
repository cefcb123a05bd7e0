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


def given(*works: float) -> list[int]:
    """At which looks memory was given back, with so much CPU used before each but the first."""
    loop, seen, used = Turns(), [], 0.0
    Idling(loop, [lambda: seen.append(len(loop.timers))], lambda: used).start()
    for work in works:
        used += work
        loop.timers[-1]()
    return seen


def test_once_after_each_busy_time() -> None:
    """The start counts as one; half a second of work does, when it has ended."""
    assert given(0.0, 0.01, 0.04, 0.9, 0.5, 0.0, 0.01, 0.0) == [0, 6]


def test_a_little_now_and_then_adds_up() -> None:
    """To as much work as is worth it."""
    assert given(0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03) == [0, 4, 8]
