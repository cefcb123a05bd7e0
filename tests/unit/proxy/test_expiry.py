"""Expiry: the wall clock decides, whatever it does while the loop's timers run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostmesh.proxy.expiry import Expiry
from hostmesh.transport.loop import Loop


class World:
    """A host whose two clocks the test turns."""

    def __init__(self) -> None:
        self.awake = 100.0
        self.wall = 1_000_000.0
        self.ended = 0
        self.loop = Loop(clock=lambda: self.awake)
        self.expiry = Expiry(self.loop, self.wall + 60, lambda: self.wall, self._end)

    def _end(self) -> None:
        self.ended += 1

    def pass_time(self, seconds: float, *, wall: float | None = None) -> tuple[bool, int]:
        """Whether it is over, and how often it has ended, afterwards."""
        self.awake += seconds
        self.wall += seconds if wall is None else wall
        self.loop.turn(0)
        return self.expiry.over, self.ended


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.loop.close()


def test_it_ends_when_its_time_has_come(world: World) -> None:
    """Once."""
    assert world.pass_time(59) == (False, 0)
    assert world.pass_time(1) == (True, 1)
    assert world.pass_time(60) == (True, 1)


def test_after_a_suspended_night_it_is_over_at_once(world: World) -> None:
    """The timer has not noticed; who looks ends it, and the timer does not end it again."""
    assert world.pass_time(1, wall=8 * 3600) == (True, 0)
    world.expiry.check()
    assert world.pass_time(60) == (True, 1)


def test_a_clock_that_was_set_back_gives_more_time(world: World) -> None:
    """Though not for ever."""
    assert world.pass_time(60, wall=-30) == (False, 0)
    assert world.pass_time(89) == (False, 0)
    assert world.pass_time(1) == (True, 1)


def test_a_look_before_the_time_changes_nothing(world: World) -> None:
    """Nor does one after it was cancelled."""
    world.expiry.check()
    assert world.pass_time(30) == (False, 0)
    world.expiry.cancel()
    assert world.pass_time(60) == (True, 0)


def test_what_is_over_from_the_beginning_ends_in_the_next_turn() -> None:
    """Not before: its owner is not ready yet."""
    ended: list[bool] = []
    loop = Loop()
    Expiry(loop, 5.0, lambda: 6.0, lambda: ended.append(True))
    assert not ended
    loop.turn(0)
    assert ended
    loop.close()
