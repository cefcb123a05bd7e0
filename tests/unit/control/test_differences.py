"""The page of differences from istiod names a test for each, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "istio-differences.md"


def test_every_difference_is_held_by_a_test() -> None:
    """An entry without one would be a wish."""
    entries = PAGE.read_text(encoding="utf-8").split("\n- ")[1:]
    assert entries
    for entry in entries:
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", entry)
        assert named, entry
        for path, name in named:
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), entry
