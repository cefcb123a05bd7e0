"""Long work beside traffic: in slices, at full speed only while there is none."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

from hostmesh.daemon.background import PAUSE, SLICE, Background
from hostmesh.transport.loop import Loop


class Clock:
    """Shows what it is told, and a step more each time it is asked."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_slice_ends_when_its_time_is_up_and_the_next_turn_goes_on() -> None:
    """Ten steps of a third of a slice each: three or four in a turn, whatever else the turn has to do."""
    done: list[int] = []
    loop = Loop()
    background = Background(loop, counting(done, 10), Clock(SLICE / 3))
    background.start()
    sizes = [len(done)]
    while len(done) < 10:
        loop.turn(1.0)
        sizes.append(len(done))
    assert max(after - before for before, after in itertools.pairwise([0, *sizes])) <= 4
    assert len(sizes) >= 3
    loop.close()


def test_with_traffic_it_pauses_between_two_slices() -> None:
    """Each byte would otherwise meet a slice."""
    done: list[int] = []
    clock = Clock()
    loop = Loop(clock=clock)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.register(ours.fileno(), lambda _: None)
        background = Background(loop, counting(done, 3), Clock(1.5 * SLICE))
        theirs.send(b"a byte of somebody else")
        loop.turn(1.0)
        background.start()
        assert done == [0]
        loop.turn(0.0)
        assert done == [0]
        clock.now += PAUSE
        loop.turn(0.0)
        assert done == [0, 1]
    loop.close()


def test_its_own_events_are_no_traffic() -> None:
    """What it works on comes from a socket of the same loop."""
    done: list[int] = []
    loop = Loop(clock=Clock())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        background = Background(loop, counting(done, 3), Clock(1.5 * SLICE))
        loop.register(ours.fileno(), lambda _: background.go())
        theirs.send(b"work")
        for count in (2, 3):  # the first turn has the event and then the timer
            loop.turn(0.0)
            assert len(done) == count
    loop.close()


def test_it_rests_when_there_is_nothing_to_do() -> None:
    """Until it is told that there may be something again."""
    done: list[int] = []
    rests: list[bool] = []

    def work() -> Iterator[bool]:
        while True:
            done.append(len(done))
            rests.append(len(done) % 2 == 0)
            yield not rests[-1]

    loop = Loop()
    background = Background(loop, work(), Clock())
    background.go()
    assert len(done) == 2
    background.go()
    assert len(done) == 4
    loop.close()


def counting(done: list[int], count: int) -> Iterator[bool]:
    for number in range(count):
        done.append(number)
        yield True
    while True:
        yield False
