"""What Envoy says about a configuration, as an operator can read it."""

from __future__ import annotations

import asyncio

import pytest

from hostmesh.waypoint.envoy import Refused, reason, validate


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "[2026-01-01][1][critical][main] [a.cc:1] error initializing configuration '/tmp/x.json': bad  thing\n",
            "bad thing",
        ),
        ("error initializing configuration '/x': dump\n: Proto constraint validation failed (X.Y: one)", "X.Y: one"),
        ("something else", "something else"),
    ],
)
def test_the_reason(said: str, expected: str) -> None:
    """Without the dump of the whole message."""
    assert reason(said) == expected


def test_envoy_itself_is_asked() -> None:
    """A right one passes, a wrong one is refused with the field."""
    asyncio.run(validate({"static_resources": {}}))
    with pytest.raises(Refused, match="static_resource"):
        asyncio.run(validate({"static_resource": {}}))
