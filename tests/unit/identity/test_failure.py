"""Rules for failed fetches."""

from __future__ import annotations

from hostmesh.identity.failure import FetchFailed


def test_the_text_is_the_reason() -> None:
    """It is shown as it is, in states and logs."""
    assert str(FetchFailed("the control plane is unreachable")) == "the control plane is unreachable"
