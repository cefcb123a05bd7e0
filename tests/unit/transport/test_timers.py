"""Timers of the worker's loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.transport.timers import Timers


def fire(timers: Timers, now: float) -> None:
    while (callback := timers.pop_due(now, timers.last)) is not None:
        callback()


def test_timers_fire_in_the_order_of_their_times() -> None:
    """Equal times in the order they were set; nothing before its time."""
    timers, fired = Timers(), []
    for name, when in (("late", 3.0), ("first", 1.0), ("second", 1.0), ("later", 4.0)):
        timers.at(when, lambda name=name: fired.append(name))  # type: ignore[misc]
    fire(timers, 0.5)
    assert fired == []
    fire(timers, 3.0)
    assert fired == ["first", "second", "late"]
    assert timers.next_due() == 4.0


def test_a_cancelled_timer_does_not_fire() -> None:
    """Also when a timer that fires at the same time cancels it."""
    timers, fired = Timers(), []
    victim = timers.at(1.0, lambda: fired.append("victim"))
    timers.at(0.5, victim.cancel)
    fire(timers, 2.0)
    assert fired == []
    assert not victim.active
    assert timers.next_due() is None


def test_cancelling_twice_or_too_late_is_harmless() -> None:
    """Owners need not remember whether it fired."""
    timers = Timers()
    timer = timers.at(1.0, lambda: None)
    fire(timers, 1.0)
    timer.cancel()
    timer.cancel()
    other = timers.at(2.0, lambda: None)
    other.cancel()
    other.cancel()
    assert timers.next_due() is None
    assert len(timers) == 0


def test_garbage_is_bounded() -> None:
    """Every connection cancels its handshake timer: the heap must not keep them until they would be due."""
    timers = Timers()
    keep = [timers.at(1000.0, lambda: None) for _ in range(100)]
    for _ in range(10_000):
        timers.at(500.0, lambda: None).cancel()
        assert len(timers) <= 2 * len(keep) + 66
    assert sum(timer.active for timer in keep) == 100


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=300), st.floats(0, 100))
def test_exactly_the_active_ones_that_are_due_fire(plan: list[tuple[float, bool]], now: float) -> None:
    """Whatever was cancelled, whenever it was set."""
    timers, fired = Timers(), []
    made = [timers.at(when, lambda i=i: fired.append(i)) for i, (when, _) in enumerate(plan)]  # type: ignore[misc]
    for timer, (_, cancel) in zip(made, plan, strict=True):
        if cancel:
            timer.cancel()
    fire(timers, now)
    due = sorted((when, i) for i, (when, cancel) in enumerate(plan) if not cancel and when <= now)
    assert fired == [i for _, i in due]
    later = [when for when, cancel in plan if not cancel and when > now]
    assert timers.next_due() == (min(later) if later else None)
