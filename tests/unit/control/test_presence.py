"""Who is told to be out of rotation."""

from __future__ import annotations

import pytest

from hostmesh.control.presence import Presence, gone_now, in_rotation
from hostmesh.control.translate.values import Translation
from hostmesh.model.workload import HealthStatus, Workload


@pytest.mark.parametrize(
    ("known", "alive", "now", "gone"),
    [
        ({"a": True, "b": True}, {"a"}, 10, {"b"}),
        ({"a": True, "b": True}, {"a"}, 9, set()),
        ({"a": False}, set(), 10, set()),
        ({}, {"a"}, 10, set()),
    ],
)
def test_gone_now(known: dict[str, bool], alive: set[str], now: float, gone: set[str]) -> None:
    """Known, in rotation, without a lease, and not in the quiet time."""
    assert gone_now(known, alive, now, quiet_until=10) == gone


def test_only_the_host_s_own_workloads_are_marked() -> None:
    """A node may name any workload; what is registered elsewhere, or nowhere, is not its business."""
    mine, theirs, free = (Workload(f"u{node}", "web", "ns", node=node) for node in ("a", "b", ""))
    translation = Translation(workloads=(mine, theirs, free))

    def sick(presence: Presence) -> list[str]:
        told = in_rotation(translation, presence)
        return [one.node for one in told.workloads if one.status is HealthStatus.UNHEALTHY]

    assert sick(Presence()) == []
    assert sick(Presence(frozenset({"a", ""}))) == ["a"]
    assert sick(Presence(unhealthy={"a": frozenset({"ns/web"}), "": frozenset({"ns/web"})})) == ["a"]
    assert sick(Presence(unhealthy={"b": frozenset({"ns/other"})})) == []
    assert in_rotation(translation, Presence()) is translation
