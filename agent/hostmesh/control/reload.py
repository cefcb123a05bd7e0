"""What a reload takes over of a changed configuration, and what only a restart does."""

from __future__ import annotations

from collections.abc import Sequence

from hostmesh.control.config import ControlPlaneConfig

LIVE = ("extension_providers", "network_policies", "log")
"""Settings that nothing was built from."""


def taken_over(running: ControlPlaneConfig, written: ControlPlaneConfig) -> tuple[ControlPlaneConfig, Sequence[str]]:
    """The configuration to go on with, and the settings that differ and need a restart, by the names users write."""
    fields = type(written).model_fields
    left = [name for name in fields if name not in LIVE and getattr(running, name) != getattr(written, name)]
    going_on = running.model_copy(update={name: getattr(written, name) for name in LIVE})
    return going_on, [fields[name].alias or name for name in left]
