"""Local workloads: by mark, by server name, by address."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.proxy import workload

from hostmesh.model.address import parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload, server_name
from hostmesh.proxy.locals import Local, LocalWorkloads, Shared
from hostmesh.state.store import MeshState
from hostmesh.transport.loop import Loop

A = Identity("cluster.local", "default", "a")
B = Identity("cluster.local", "default", "b")
CAPTURED = [LocalWorkload(1, "a", "default", A, "a.service"), LocalWorkload(2, "b", "default", B, "b.service")]
HERE = parse_ip("10.0.0.1")


@pytest.fixture
def state() -> MeshState:
    made = MeshState()
    made.upsert_workload(workload("a", A, "10.0.0.1"))
    return made


@pytest.fixture
def found(state: MeshState) -> LocalWorkloads:
    made = LocalWorkloads(Loop(), state, "here", 5.0)
    made.set(CAPTURED)
    return made


def name(local: Local | Shared | None) -> str | None:
    return local.captured.name if isinstance(local, Local) else None


def test_a_mark_means_a_workload_once_it_is_described(found: LocalWorkloads, state: MeshState) -> None:
    """Captured alone is not enough: address, policies and identity come from the control plane."""
    assert (name(found.by_number(1)), name(found.by_number(2)), name(found.by_number(3))) == ("a", None, None)
    state.upsert_workload(workload("b", B, "10.0.0.1"))
    assert name(found.by_number(2)) == "b"


def test_a_workload_of_another_node_is_not_ours(found: LocalWorkloads, state: MeshState) -> None:
    """The same name may exist elsewhere."""
    state.upsert_workload(replace(workload("b", B, "10.0.0.9"), node="there"))
    assert found.by_number(2) is None


def test_the_only_owner_of_an_address_answers_for_it(found: LocalWorkloads, state: MeshState) -> None:
    """A second owner makes the address ambiguous, a server name decides."""
    assert name(found.for_server(None, HERE)) == "a"
    assert name(found.for_server("whatever.example", HERE)) == "a"
    state.upsert_workload(workload("b", B, "10.0.0.1"))
    assert found.for_server(None, HERE) is None
    assert name(found.for_server(server_name("lab//b"), HERE)) == "b"
    assert found.for_server(None, parse_ip("10.0.0.7")) is None


def test_of_several_owners_all_are_meant_or_the_default(state: MeshState) -> None:
    """All where they may share a certificate, else the default, else nobody; a server name comes first."""
    state.upsert_workload(workload("b", B, "10.0.0.1"))
    found = LocalWorkloads(Loop(), state, "here", 5.0)
    found.set([CAPTURED[0], replace(CAPTURED[1], default=True)])
    assert found.for_server(None, HERE, shared=True) == Shared(HERE)
    assert [name(one) for one in found.at(HERE)] == ["a", "b"]
    assert name(found.for_server(server_name("lab//a"), HERE, shared=True)) == "a"
    assert name(found.for_server(None, HERE)) == "b"
    assert found.for_server(None, parse_ip("10.0.0.7"), shared=True) is None


def test_who_waits_is_answered_by_the_push(found: LocalWorkloads, state: MeshState) -> None:
    """Exactly the workload that was waited for."""
    answers: list[str | None] = []
    found.wait_for(2, lambda local, _: answers.append(name(local)))
    found.changed()
    assert answers == []
    state.upsert_workload(workload("b", B, "10.0.0.1"))
    found.changed()
    assert answers == ["b"]


def test_captured_means_exactly_the_same(found: LocalWorkloads) -> None:
    """A unit that became another workload is another one."""
    assert found.is_captured(CAPTURED[0])
    assert not found.is_captured(replace(CAPTURED[0], identity=B))
