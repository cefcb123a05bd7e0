"""Waiting rooms: every waiter is answered exactly once."""

from __future__ import annotations

from hostmesh.proxy import waiting
from hostmesh.proxy.waiting import WaitingRoom
from hostmesh.transport.loop import Loop


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Answers = list[tuple[int | None, str]]


def room(clock: Clock) -> tuple[Loop, WaitingRoom[str, int], Answers]:
    loop = Loop(clock=clock)
    answers: Answers = []
    return loop, WaitingRoom(loop, 5.0), answers


def test_the_value_reaches_everybody_who_waits_for_its_key() -> None:
    """And nobody else; nobody is answered again when time is up."""
    clock = Clock()
    loop, waiters, answers = room(clock)
    for key in ("a", "a", "b"):
        waiters.enter(key, f"no {key}", lambda value, reason: answers.append((value, reason)))
    waiters.answer("a", 7)
    assert answers == [(7, ""), (7, "")]
    assert waiters.awaited() == ["b"]
    clock.now += 6
    loop.turn(0)
    assert answers == [(7, ""), (7, ""), (None, "no b")]
    assert not waiters.has("b")
    loop.close()


def test_a_refusal_carries_its_reason() -> None:
    """The reason of whoever knows better replaces the waiter's own."""
    loop, waiters, answers = room(Clock())
    waiters.enter("a", "late", lambda value, reason: answers.append((value, reason)))
    waiters.refuse("a", "CA says no")
    assert answers == [(None, "CA says no")]
    loop.close()


def test_the_room_is_bounded() -> None:
    """Who finds it full is refused at once."""
    loop, waiters, answers = room(Clock())
    for _ in range(waiting.MAX_WAITING):
        waiters.enter("a", "late", lambda *_: None)
    waiters.enter("a", "late", lambda value, reason: answers.append((value, reason)))
    assert answers == [(None, "late: too many connections are waiting")]
    loop.close()


def test_a_waiter_may_enter_again_while_it_is_answered() -> None:
    """A retry does not disturb the round that it comes from."""
    loop, waiters, answers = room(Clock())

    def again(value: int | None, reason: str) -> None:
        answers.append((value, reason))
        if len(answers) < 3:
            waiters.enter("a", "late", again)

    waiters.enter("a", "late", again)
    waiters.answer("a", 1)
    waiters.answer("a", 2)
    waiters.answer("a", 3)
    waiters.answer("a", 4)
    assert answers == [(1, ""), (2, ""), (3, "")]
    loop.close()
