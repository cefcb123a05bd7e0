"""What failures say in the log."""

from __future__ import annotations

import pytest

from hostmesh.proxy.failure import denied


@pytest.mark.parametrize(
    ("reason", "policies", "text"),
    [
        (
            "allow policies exist, but none allowed",
            ("default/allow-nothing", "default/web-rbac"),
            "allow policies exist, but none allowed (default/allow-nothing, default/web-rbac)",
        ),
        ("explicitly denied by: default/strict", ("default/strict",), "explicitly denied by: default/strict"),
    ],
)
def test_a_denial_names_its_policies_once(reason: str, policies: tuple[str, ...], text: str) -> None:
    """Whoever reads the log at night must not have to guess which policy it was."""
    failure = denied(reason, policies)
    assert failure.error == f"connection closed due to policy rejection: {text}"
    assert (failure.flags, failure.policies) == ("DENY", policies)
