"""How the demo reads what the agent logs."""

from __future__ import annotations

import pytest
from demo.estate import fields


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("access connection complete a=1 b=2", {"a": "1", "b": "2"}),
        ('x a.b="two words" c="d"', {"a.b": "two words", "c": "d"}),
        ('x error="said \\"no\\" (x=y)" flags="DENY"', {"error": 'said \\"no\\" (x=y)', "flags": "DENY"}),
        ("no fields at all", {}),
    ],
)
def test_fields_of_a_line(line: str, expected: dict[str, str]) -> None:
    """name=value, or name="value" with escaped quotes inside."""
    assert fields(line) == expected
