"""Exponential back-off with jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.transport.backoff import Backoff


@pytest.mark.parametrize(
    ("uniform", "waits"),
    [
        (0.5, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]),
        (0.0, [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 120, 120]),
        (1.0, [1.2, 2.4, 4.8, 9.6, 19.2, 38.4, 76.8, 150, 150, 150]),
    ],
)
def test_waits_double_within_the_jitter_up_to_the_maximum(uniform: float, waits: list[float]) -> None:
    """1 s, doubled, ±20 %, never above 150 s."""
    backoff = Backoff(uniform=lambda: uniform)
    assert [backoff.next() for _ in waits] == pytest.approx(waits)


def test_success_starts_over() -> None:
    """The next failure is the first again."""
    backoff = Backoff(0.02, 15, uniform=lambda: 0.5)
    assert [backoff.next(), backoff.next()] == [0.02, 0.04]
    backoff.reset()
    assert backoff.next() == 0.02


@given(st.integers(0, 50), st.randoms(use_true_random=False))
def test_a_wait_is_never_long_and_never_zero(failures: int, random: object) -> None:
    """For any number of failures and any luck."""
    backoff = Backoff(0.1, 30, uniform=random.random)  # type: ignore[attr-defined]
    for _ in range(failures):
        backoff.next()
    assert 0.08 <= backoff.next() <= 30
