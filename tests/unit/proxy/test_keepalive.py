"""When a peer is taken for dead, by an injected clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostmesh.proxy.keepalive import Keepalive
from hostmesh.transport.loop import Loop


class Watched:
    """A loop whose clock is moved by hand, and a keepalive of 10 and 20 seconds that writes down what it does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.there = True
        self.did: list[str] = []
        self.loop = Loop(clock=lambda: self.now)
        self.keepalive = Keepalive(self.loop, 10, 20, self._ping, lambda: self.did.append("gone"))

    def _ping(self) -> bool:
        self.did.append("ping")
        return self.there

    def at(self, now: float) -> list[str]:
        """What was done up to that time."""
        self.now = now
        self.loop.turn(0)
        return self.did


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.loop.close()


def test_an_answer_buys_another_interval(watched: Watched) -> None:
    """From the answer on, not from the question."""
    assert watched.at(9.9) == []
    assert watched.at(10) == ["ping"]
    watched.at(25)
    watched.keepalive.answered()
    assert watched.at(34.9) == ["ping"]
    assert watched.at(35) == ["ping", "ping"]


def test_no_answer_in_time_is_told_once(watched: Watched) -> None:
    """Twenty seconds after the question."""
    watched.at(10)
    assert watched.at(29.9) == ["ping"]
    assert watched.at(30) == ["ping", "gone"]
    assert watched.at(1000) == ["ping", "gone"]


def test_who_cannot_be_asked_is_not_waited_for(watched: Watched) -> None:
    """Its end has been told otherwise."""
    watched.there = False
    assert watched.at(10) == ["ping"]
    assert watched.at(1000) == ["ping"]


def test_cancelled_it_asks_no_more(watched: Watched) -> None:
    """Before a question, and while it waits for an answer."""
    watched.at(10)
    watched.keepalive.cancel()
    assert watched.at(1000) == ["ping"]
