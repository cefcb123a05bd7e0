"""Windows (RFC 9113 §6.9)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.http2.flow import Flow


@given(st.lists(st.integers(1, 5000)))
def test_credit_is_neither_lost_nor_invented(amounts: list[int]) -> None:
    """What was given back is announced, but for less than a step."""
    flow = Flow(0, 0, 1000)
    announced = [flow.give_back(n) for n in amounts]
    assert all(n == 0 or n >= 1000 for n in announced)
    assert sum(announced) == flow.receive
    assert sum(amounts) - sum(announced) == flow.owed < 1000


def test_the_send_window_ends_at_two_to_the_31() -> None:
    """2^31-1 is the largest legal window."""
    flow = Flow(2**31 - 2, 0, 1)
    assert flow.widen(1)
    assert not flow.widen(1)


def test_the_send_window_may_be_negative() -> None:
    """After a smaller INITIAL_WINDOW_SIZE (§6.9.2)."""
    flow = Flow(10, 0, 1)
    assert flow.widen(-100)
    assert flow.send == -90
