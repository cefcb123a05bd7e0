"""Leases: who is silent for too long leaves rotation, who is back returns, and a restart of ours is nobody's fault."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.records import records, unwritable

from hostmesh.control.presence import Presence
from hostmesh.control.records import Records
from hostmesh.control.registry import Registry

LEASE = 30.0


class World:
    """Control planes over one store, and a clock."""

    def __init__(self, shared: Records) -> None:
        self.shared = shared
        self.time = 1000.0
        self.problem = ""
        self.changes = 0

    def changed(self) -> None:
        self.changes += 1

    def start(self, name: str = "cp") -> Registry:
        return Registry(
            self.shared,
            name,
            LEASE,
            self.changed,
            problem=lambda: self.problem,
            now=lambda: 1_800_000_000.0 + self.time,
            monotonic=lambda: self.time,
        )

    def run(self, seconds: float, *looking: Registry, renewing: str = "", at: Registry | None = None) -> None:
        """Time passes, in steps of a second, in which control planes look and a node may renew."""
        for _ in range(int(seconds)):
            self.time += 1
            if renewing and at is not None:
                renew(at, renewing)
            for registry in looking:
                asyncio.run(registry.check())


def renew(registry: Registry, node: str, **reported: str | None) -> None:
    asyncio.run(registry.renew(node, {f"ns/{name}": why for name, why in reported.items()}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(records(tmp_path))


def test_a_silent_host_leaves_within_its_lease_and_comes_back(world: World) -> None:
    """Those that renew stay."""
    registry = world.start()
    world.run(LEASE, registry)
    renew(registry, "dead")
    world.run(LEASE - 1, registry, renewing="alive", at=registry)
    assert not registry.presence
    world.run(2, registry, renewing="alive", at=registry)
    assert registry.presence.gone == {"dead"}
    renew(registry, "dead")
    assert not registry.presence


def test_a_restart_drops_nobody_and_forgets_nobody(world: World) -> None:
    """Those that were there get the time of a lease to come back; those that were gone stay so."""
    registry = world.start()
    world.run(LEASE, registry)
    renew(registry, "gone")
    world.run(LEASE + 1, registry)
    renew(registry, "there")
    renew(registry, "dies")
    for node in ("there", "dies"):  # the process ends: what it held vanishes
        world.shared.release(f"alive/{node}")
    again = world.start()
    assert again.presence.gone == {"gone"}
    world.run(LEASE - 1, again)
    assert again.presence.gone == {"gone"}
    renew(again, "there")
    world.run(2, again)
    assert again.presence.gone == {"gone", "dies"}


def test_who_never_had_a_lease_cannot_lose_one(world: World) -> None:
    """Stock ztunnels and hosts without an agent are in rotation as their documents say."""
    registry = world.start()
    world.run(10 * LEASE, registry)
    assert not registry.presence


def test_a_node_that_moves_to_another_control_plane_is_not_gone(world: World) -> None:
    """The first one lets go of the lease, and that is not the end of it."""
    first, second = world.start("first"), world.start("second")
    world.run(LEASE, first, second)
    renew(first, "n")
    world.run(3 * LEASE, first, second, renewing="n", at=second)
    assert not first.presence
    assert not second.presence
    world.run(LEASE + 1, first, second)
    assert first.presence.gone == second.presence.gone == {"n"}


def test_a_control_plane_that_stood_still_judges_nobody_for_a_lease(world: World) -> None:
    """A suspended virtual machine wakes up, and finds all leases run out at once."""
    registry = world.start()
    world.run(LEASE, registry)
    renew(registry, "n")
    world.time += 3600
    world.run(LEASE - 1, registry)
    assert not registry.presence
    renew(registry, "n")
    world.run(2, registry)
    assert not registry.presence


def test_a_control_plane_that_cannot_see_the_store_judges_nobody(world: World) -> None:
    """What it does not see may be there."""
    registry = world.start("cut off")
    world.run(LEASE, registry)
    renew(registry, "n")
    world.problem = "no answer"
    world.run(5 * LEASE, registry)
    assert not registry.presence
    world.problem = ""
    world.run(LEASE + 1, registry)
    assert registry.presence.gone == {"n"}


def test_health_moves_a_workload_out_and_in(world: World) -> None:
    """What is not known yet stays as it was; what is no longer probed is healthy; reasons are kept."""
    registry = world.start()
    renew(registry, "n", web="", db="refused")
    assert registry.presence == Presence(unhealthy={"n": frozenset({"ns/db"})})
    renew(registry, "n", web="refused", db=None)
    assert registry.presence.unhealthy == {"n": frozenset({"ns/web", "ns/db"})}
    assert world.start().presence == registry.presence
    assert registry.describe()["leases"] == [
        {"name": "n", "goneSince": 0.0, "unhealthy": {"ns/db": "refused", "ns/web": "refused"}}
    ]
    renew(registry, "n", db="")
    assert not registry.presence


def test_renewals_of_the_same_cost_no_write(world: World, tmp_path: Path) -> None:
    """A thousand hosts renew every ten seconds."""
    registry = world.start()
    renew(registry, "n", db="refused")
    with unwritable(tmp_path):
        for _ in range(3):
            renew(registry, "n", db="refused")
