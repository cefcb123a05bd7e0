"""Rules for validity: half-life must not lie in the past, however short the life."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.issue import BACKDATE, backdating
from hostmesh.identity.schedule import renewal_time


@given(st.floats(1, 1e7), st.floats(0, 1))
def test_backdating_leaves_the_renewal_in_the_future(ttl: float, jitter: float) -> None:
    """An agent that renews by the schedule waits at least a third of what it was granted."""
    now = 1_800_000_000.0
    assert 0 < backdating(ttl) <= BACKDATE
    assert renewal_time(now - backdating(ttl), now + ttl, now, jitter) - now >= ttl / 3
