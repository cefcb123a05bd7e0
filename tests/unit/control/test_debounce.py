"""Rules of the debounce."""

from __future__ import annotations

import pytest

from hostmesh.control.debounce import Debounce


@pytest.mark.parametrize(
    ("first", "last", "due"),
    [(0, 0, 0.1), (0, 0.05, 0.15), (0, 0.95, 1.0), (0, 5, 1.0), (10, 10.5, 10.6)],
)
def test_due(first: float, last: float, due: float) -> None:
    """A tenth of a second after the last change, a second after the first one at the latest."""
    assert Debounce().due(first, last) == pytest.approx(due)
