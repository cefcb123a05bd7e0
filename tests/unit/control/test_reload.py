"""What a reload of the control plane's configuration takes over."""

from __future__ import annotations

from hostmesh.control.config import ControlPlaneConfig
from hostmesh.control.reload import taken_over

PROVIDER = {"name": "opa", "envoyExtAuthzGrpc": {"service": "opa.lab", "port": 9191}}


def test_what_nothing_was_built_from_is_taken_over() -> None:
    """Everything else stays as it runs, and is named as its user writes it."""
    running = ControlPlaneConfig(trust_domain="one.lab")
    changed = {"trust_domain": "two.lab", "registry": {"lease": 10}, "extensionProviders": [PROVIDER]}
    written = ControlPlaneConfig.model_validate({**changed, "network_policies": {"enforce_in_tunnel": False}})
    going_on, left = taken_over(running, written)
    assert left == ["trust_domain", "registry"]
    assert going_on.trust_domain == "one.lab"
    assert [one.name for one in going_on.mesh.authorizers or ()] == ["opa"]
    assert not going_on.mesh.enforce_in_tunnel


def test_the_same_again_changes_nothing() -> None:
    """A reload may be for nothing."""
    assert taken_over(ControlPlaneConfig(), ControlPlaneConfig()) == (ControlPlaneConfig(), [])
