"""Rules of the schedule: what is fetched first, when certificates are renewed, how failures are retried."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.mesh import workload

from hostmesh.identity.schedule import (
    BACKOFF_MAXIMUM,
    MAX_CONCURRENT,
    Choice,
    Priority,
    Slot,
    choose,
    failed,
    lapse,
    lapsed,
    renewal_time,
    retry_delay,
    succeeded,
)

NOW = 1_800_000_000.0
DAY = 86400.0


def slot(name: str, due: float = 0, **fields: object) -> Slot:
    return replace(Slot(workload(name), NOW + due), **fields)  # type: ignore[arg-type]


PREFETCH = slot("prefetch")
WAITING = slot("waiting", waiting=True)
EXPIRING = slot("expiring", not_after=NOW + 60)

CHOICES = [
    ([], (), None),
    ([PREFETCH], ("prefetch",), None),
    ([PREFETCH, EXPIRING, WAITING], ("waiting", "expiring", "prefetch"), 60),
    ([slot("b", -1), slot("a", -2)], ("a", "b"), None),
    ([slot("later", 5)], (), 5),
    ([slot("later", 5), slot("sooner", 3, waiting=True)], (), 3),
    ([slot("busy", fetching=True)], (), None),
    ([slot("held", 100, not_after=NOW + 40)], (), 40),
]


@pytest.mark.parametrize(("slots", "start", "wake"), CHOICES)
def test_choose(slots: list[Slot], start: tuple[str, ...], wake: float | None) -> None:
    """Waiting connections first, then certificates that run out, then prefetches; of equals the one due longest."""
    identities = tuple(workload(name) for name in start)
    assert choose(slots, NOW) == Choice(identities, None if wake is None else NOW + wake)


def test_never_more_than_eight_at_once() -> None:
    """Fetches that run already count."""
    idle = [slot(f"w{number}", -number) for number in range(20)]
    assert len(choose(idle, NOW).start) == MAX_CONCURRENT
    busy = [slot(f"b{number}", fetching=True) for number in range(6)]
    assert choose([*idle, *busy], NOW).start == (workload("w19"), workload("w18"))
    assert choose([*idle, *busy, *busy], NOW).start == ()


@pytest.mark.parametrize(
    ("not_before", "not_after", "jitter", "renewed"),
    [
        (-120, DAY, 0, (DAY - 120) / 2),
        (0, 100, 0, 50),
        (0, 100, 1, 40),
        (-120, 20, 0, 10),  # a backdating longer than the life must not make us ask in a loop
        (-100, 0, 0, 1),
        (-100, -50, 0, 1),
    ],
)
def test_renewal_time(not_before: float, not_after: float, jitter: float, renewed: float) -> None:
    """Half-life, or up to a tenth of the life before; always in the future."""
    assert renewal_time(NOW + not_before, NOW + not_after, NOW, jitter) == pytest.approx(NOW + renewed)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_a_new_certificate_is_never_renewed_at_once(not_before: float, not_after: float, jitter: float) -> None:
    """Whatever the issuer says, there is some time before the next request; a short life is renewed within it."""
    at = renewal_time(NOW + not_before, NOW + not_after, NOW, jitter)
    assert at > NOW
    if not_before <= 0 and not_after > 2:
        assert at <= NOW + not_after / 2 + 1e-6


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_retries_are_spread_and_bounded(failures: int, jitter: float) -> None:
    """Between 0.8 s and 180 s, and longer after more failures on average."""
    delay = retry_delay(failures, jitter)
    assert 0.8 <= delay <= BACKOFF_MAXIMUM * 1.2
    assert retry_delay(failures, 0.5) <= retry_delay(failures + 1, 0.5)


def test_backoff_doubles_to_its_maximum() -> None:
    """1, 2, 4 ... 128, 150, 150."""
    delays = [retry_delay(failures, 0.5) for failures in range(1, 11)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]


def test_a_failure_keeps_the_certificate_and_tries_before_it_expires() -> None:
    """Valid certificates are used as long as they are valid, whatever the CA does."""
    held = slot("web", not_after=NOW + 5, failures=7, fetching=True)
    after = failed(held, "down", NOW, 0.5)
    assert (after.state, after.due, after.fetching) == ("Available", NOW + 5, False)
    assert after.priority is Priority.EXPIRING
    assert lapsed(after, NOW + 5)
    assert lapse(after, "expired").state == "Unavailable: down"


def test_a_failure_without_certificate_makes_unavailable() -> None:
    """The error is the state; success forgets it."""
    after = failed(WAITING, "refused", NOW, 0.5)
    assert (after.state, after.due, after.waiting) == ("Unavailable: refused", NOW + 1, False)
    again = succeeded(failed(after, "refused", NOW, 0.5), NOW, NOW + 100, NOW, 0)
    assert (again.state, again.failures, again.error, again.due) == ("Available", 0, "", NOW + 50)
    assert slot("new").state == "Initializing"
