"""The registry: what is open, and who is judged again when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from hostmesh.model.address import SocketAddress
from hostmesh.model.authorization import Action, Authorization, Match, PolicyScope
from hostmesh.model.connection import Connection
from hostmesh.model.workload import Workload
from hostmesh.proxy import connections as module
from hostmesh.proxy.connections import Connections, OpenConnection
from hostmesh.proxy.failure import DRAINED, Failure
from hostmesh.state.store import MeshState
from hostmesh.transport.loop import Loop

BOB = Workload("u/bob", "bob", "shop")


def deny(port: int, **changes: object) -> Authorization:
    rules = (((Match(destination_ports=(port,)),),),)
    policy = Authorization(f"no-{port}", "shop", PolicyScope.NAMESPACE, Action.DENY, rules)
    return replace(policy, **changes)  # type: ignore[arg-type]


@dataclass(eq=False)
class Spy:
    """A connection that remembers how it was closed, and leaves the registry as real ones do."""

    registry: Connections
    port: int
    workload: Workload = BOB
    closed: list[Failure] = field(default_factory=list)

    @property
    def facts(self) -> Connection:
        return Connection(SocketAddress.parse("10.0.0.1:1"), SocketAddress.parse(f"10.0.0.2:{self.port}"))

    def describe(self) -> OpenConnection:
        return OpenConnection("inbound", "a", "b", "c", "TCP", self.workload.uid)

    def close(self, failure: Failure) -> None:
        self.closed.append(failure)
        self.registry.remove_judged(self)
        self.registry.remove(self)


@dataclass
class World:
    loop: Loop
    state: MeshState
    registry: Connections

    def open(self, port: int, workload: Workload = BOB) -> Spy:
        spy = Spy(self.registry, port, workload)
        self.registry.add_judged(spy)
        self.registry.policies(workload)
        return spy


@pytest.fixture
def world() -> World:
    loop, state = Loop(), MeshState()
    state.upsert_workload(BOB)
    return World(loop, state, Connections(loop, state))


def test_only_what_the_new_policy_forbids_is_closed(world: World) -> None:
    """With the policy's name for log and metrics."""
    doomed, spared = world.open(80), world.open(81)
    world.state.upsert_authorization(deny(80))
    world.registry.state_changed()
    assert doomed.closed == [Failure("connection closed due to policy change", "DENY", ("shop/no-80",))]
    assert spared.closed == []


def test_a_dry_run_closes_nothing(world: World) -> None:
    """It only reports."""
    spy = world.open(80)
    world.state.upsert_authorization(deny(80, dry_run=True))
    world.registry.state_changed()
    assert spy.closed == []


def test_a_new_connection_between_change_and_notice_does_not_hide_the_change(world: World) -> None:
    """It is judged by the new policies, older ones still have to be."""
    old = world.open(80)
    world.state.upsert_authorization(deny(80))
    world.registry.policies(BOB)
    world.registry.state_changed()
    assert len(old.closed) == 1


def test_a_removed_allow_policy_counts_too(world: World) -> None:
    """Changes are changes in either direction."""
    allow = Authorization("a", "shop", PolicyScope.NAMESPACE, Action.ALLOW, ())
    spy = world.open(80)
    world.state.upsert_authorization(replace(allow, rules=((),)))
    world.registry.state_changed()
    assert spy.closed == []
    world.registry.policies(BOB)
    world.state.upsert_authorization(allow)
    world.registry.state_changed()
    assert len(spy.closed) == 1


def test_other_workloads_are_left_alone(world: World) -> None:
    """Their policies did not change."""
    other = Workload("u/other", "other", "elsewhere")
    world.state.upsert_workload(other)
    spy = world.open(80, other)
    world.state.upsert_authorization(deny(80))
    world.registry.state_changed()
    assert spy.closed == []


def test_many_are_judged_over_several_turns(world: World) -> None:
    """A policy change must not stall the bytes of everybody."""
    spies = [world.open(80) for _ in range(module.JUDGED_AT_ONCE + 1)]
    world.state.upsert_authorization(deny(80))
    world.registry.state_changed()
    assert sum(len(spy.closed) for spy in spies) == module.JUDGED_AT_ONCE
    world.loop.turn(0)
    assert all(len(spy.closed) == 1 for spy in spies)


def test_another_change_meanwhile_forgets_nobody(world: World) -> None:
    """Those that still have to be judged for the first one are, though the second is about somebody else."""
    other = Workload("u/other", "other", "elsewhere")
    world.state.upsert_workload(other)
    spies = [world.open(80) for _ in range(2 * module.JUDGED_AT_ONCE + 1)]
    late = world.open(80, other)
    world.state.upsert_authorization(deny(80))
    world.registry.state_changed()
    world.state.upsert_authorization(deny(80, namespace="elsewhere"))
    world.registry.state_changed()
    for _ in range(4):
        world.loop.turn(0)
    assert [len(spy.closed) for spy in (*spies, late)] == [1] * (len(spies) + 1)


def test_what_ends_before_its_turn_is_not_ended_again(world: World) -> None:
    """Its socket may be another connection's by then."""
    spies = [world.open(80) for _ in range(module.JUDGED_AT_ONCE + 1)]
    world.state.upsert_authorization(deny(80))
    world.registry.state_changed()
    world.registry.remove_judged(spies[-1])
    world.loop.turn(0)
    assert [len(spy.closed) for spy in spies] == [1] * module.JUDGED_AT_ONCE + [0]


def test_closing_all_takes_both_directions(world: World) -> None:
    """The end of a drain."""
    inbound, outbound = world.open(80), Spy(world.registry, 1)
    world.registry.add(outbound)
    assert [one.workload for one in world.registry.describe()] == ["u/bob", "u/bob"]
    world.registry.close_all(DRAINED)
    assert inbound.closed == outbound.closed == [DRAINED]
    assert len(world.registry) == 0
