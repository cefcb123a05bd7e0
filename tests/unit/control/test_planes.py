"""Control planes that disagree about the time are named, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.records import records

from hostmesh.control.planes import TOLERATED, Planes

NOW = 1_800_000_000.0


def test_a_clock_that_differs_is_named_with_both_hosts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When it begins and when it is over, and not with every message."""
    shared, ahead = records(tmp_path), [0.0]
    here = Planes(shared, "a", "cp1", lambda: NOW)
    there = Planes(shared, "b", "cp2", lambda: NOW + ahead[0])
    caplog.set_level("INFO")
    for seconds in (0.0, TOLERATED - 1, -90.0, -91.0, 0.0):
        ahead[0] = seconds
        there.tell()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the clock of the control plane cp2 is 90 s behind that of cp1",
        "the clock of the control plane cp2 agrees with this one again",
    ]
    here.tell()
    assert [(one["host"], one["self"]) for one in here.describe()] == [("cp1", True), ("cp2", False)]


def test_what_was_said_before_we_listened_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was right when it was said."""
    shared = records(tmp_path)
    Planes(shared, "b", "cp2", lambda: NOW - 3600).tell()
    Planes(shared, "a", "cp1", lambda: NOW)
    assert caplog.records == []
