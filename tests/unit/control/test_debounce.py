"""Rules of the debounce."""

from __future__ import annotations

import math

import pytest

from hostmesh.control.debounce import Debounce


@pytest.mark.parametrize(
    ("first", "last", "pushed", "due"),
    [
        (0, 0, -0.05, 0.1),
        (0, 0.05, -0.05, 0.15),
        (0, 0.95, -0.05, 1.0),
        (0, 5, -0.05, 1.0),
        (10, 10.5, 9.95, 10.6),
        (10, 10, -math.inf, 10),
        (10, 10, 9.8, 10),
    ],
)
def test_due(first: float, last: float, pushed: float, due: float) -> None:
    """At once after a tenth of a second of quiet; else a tenth after the last change, a second after the first."""
    assert Debounce().due(first, last, pushed) == pytest.approx(due)
