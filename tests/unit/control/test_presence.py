"""Who is told to be out of rotation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostmesh.control.presence import Presence, Rotation, gone_now
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
        told = Rotation().told(translation, presence)
        return [one.node for one in told.workloads if one.status is HealthStatus.UNHEALTHY]

    assert sick(Presence()) == []
    assert sick(Presence(frozenset({"a", ""}))) == ["a"]
    assert sick(Presence(unhealthy={"a": frozenset({"ns/web"}), "": frozenset({"ns/web"})})) == ["a"]
    assert sick(Presence(unhealthy={"b": frozenset({"ns/other"})})) == []
    assert Rotation().told(translation, Presence()) is translation


def test_who_was_not_in_rotation_before_is_not_marked_anew() -> None:
    """A lease that ends costs what hangs on it, not what hangs on all that have ended."""
    one, other = (Workload(name, name, "ns", node=name) for name in ("one", "other"))
    rotation = Rotation()
    first = rotation.told(Translation(workloads=(one, other)), Presence(frozenset({"one"}))).workloads
    second = rotation.told(Translation(workloads=(one, other)), Presence(frozenset({"one", "other"}))).workloads
    assert second[0] is first[0]
    assert (first[1], second[1].status) == (other, HealthStatus.UNHEALTHY)
    changed = replace(one, capacity=2)
    third = rotation.told(Translation(workloads=(changed,)), Presence(frozenset({"one"}))).workloads
    assert third == (replace(changed, status=HealthStatus.UNHEALTHY),)
