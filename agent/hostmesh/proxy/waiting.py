"""WaitingRoom: connections that wait for something main has to tell, each for a bounded time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from hostmesh.transport.loop import Loop
from hostmesh.transport.timers import Timer

MAX_WAITING = 4096
"""Connections that may wait for one key; more are refused at once, they would only time out later."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Waiter(Generic[Value]):
    __slots__ = ("reason", "then", "timer")

    def __init__(self, reason: str, then: Callable[[Value | None, str], None]) -> None:
        self.reason = reason
        self.then = then
        self.timer: Timer | None = None


class WaitingRoom(Generic[Key, Value]):
    """Answers each waiter exactly once: with the value, with a refusal, or with its own reason when time is up."""

    def __init__(self, loop: Loop, limit: float) -> None:
        self._loop = loop
        self._limit = limit
        self._waiters: dict[Key, dict[_Waiter[Value], None]] = {}

    def awaited(self) -> list[Key]:
        """What somebody waits for."""
        return list(self._waiters)

    def has(self, key: Key) -> bool:
        """Whether somebody waits for `key`."""
        return key in self._waiters

    def enter(self, key: Key, reason: str, then: Callable[[Value | None, str], None]) -> None:
        """Wait for `key`; `then` gets the value and `""`, or None and why not."""
        waiters = self._waiters.setdefault(key, {})
        if len(waiters) >= MAX_WAITING:
            then(None, f"{reason}: too many connections are waiting")
            return
        waiter: _Waiter[Value] = _Waiter(reason, then)
        waiter.timer = self._loop.call_later(self._limit, lambda: self._give_up(key, waiter))
        waiters[waiter] = None

    def answer(self, key: Key, value: Value) -> None:
        """Everybody who waits for `key` gets it."""
        for waiter in self._leave(key):
            waiter.then(value, "")

    def refuse(self, key: Key, reason: str) -> None:
        """Everybody who waits for `key` is told why it will not come."""
        for waiter in self._leave(key):
            waiter.then(None, reason)

    def _leave(self, key: Key) -> list[_Waiter[Value]]:
        waiters = list(self._waiters.pop(key, ()))
        for waiter in waiters:
            if waiter.timer is not None:
                waiter.timer.cancel()
        return waiters

    def _give_up(self, key: Key, waiter: _Waiter[Value]) -> None:
        waiters = self._waiters.get(key, {})
        waiters.pop(waiter, None)
        if not waiters:
            self._waiters.pop(key, None)
        waiter.then(None, waiter.reason)
