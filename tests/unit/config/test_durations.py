"""Durations as users write them."""

from __future__ import annotations

import pytest

from hostmesh.config.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400),
        ("90s", 90),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("60", 60),
        ("1d", 86400),
        ("1.5m", 90),
        ("1h + 5m", 3900),
        ("3m31s", 211),
        ("250us", 0.00025),
        ("1mon", 30 * 86400),
        ("1y", 365 * 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A number with a unit, and sums with or without a sign, as ztunnel reads them; a bare number is seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "24x", "-5s", "+5s", "5s+", "10 parsecs"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValueError, match="write it like 24h"):
        parse_duration(text)
