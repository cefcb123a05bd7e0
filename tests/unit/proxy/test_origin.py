"""Who made an inbound connection, for labels and log."""

from __future__ import annotations

import pytest
from tests.support.proxy import workload

from hostmesh.model.address import parse_ip
from hostmesh.model.identity import Identity
from hostmesh.proxy.origin import describe_origin, find_origin
from hostmesh.state.store import MeshState
from hostmesh.wire.baggage import Baggage

A = Identity("cluster.local", "default", "a")
B = Identity("cluster.local", "default", "b")
C = Identity("cluster.local", "default", "c")
SHARED = parse_ip("10.0.0.1")
ALONE = parse_ip("10.0.0.2")


@pytest.mark.parametrize(
    ("ip", "identity", "expected"),
    [
        (SHARED, A, "a"),
        (SHARED, B, "b"),
        (SHARED, C, None),
        (SHARED, None, None),
        (ALONE, C, "c"),
        (ALONE, A, None),
        (ALONE, None, "c"),
        (parse_ip("10.0.0.3"), A, None),
    ],
)
def test_workloads_of_one_host_are_told_apart_by_identity(
    ip: object, identity: Identity | None, expected: str | None
) -> None:
    """An address alone names somebody only if nobody else has it; a wrong identity never gets a name."""
    state = MeshState()
    for name, who, address in (("a", A, SHARED), ("b", B, SHARED), ("c", C, ALONE)):
        state.upsert_workload(workload(name, who, str(address)))
    found = find_origin(state, "lab", ip, identity)  # type: ignore[arg-type]
    assert (found.name if found is not None else None) == expected


def test_what_the_control_plane_says_wins_over_baggage() -> None:
    """Baggage is what the peer says about itself."""
    peer, end = describe_origin(workload("a", A, "10.0.0.1"), A, Baggage(workload_name="liar"))
    assert peer is not None
    assert (peer.workload, end.workload is not None) == ("a", True)


def test_the_namespace_comes_from_the_certificate() -> None:
    """It decides about access elsewhere, so it must not be claimed."""
    peer, end = describe_origin(None, A, Baggage(workload_name="w", namespace="lies", cluster_id="far"))
    assert peer is not None
    assert (peer.workload, peer.namespace, peer.cluster) == ("w", "default", "far")
    assert (end.name, end.namespace, end.cluster, end.identity) == ("w", "default", "far", A)


def test_nothing_known_is_nothing_said() -> None:
    """Plaintext from a stranger."""
    peer, end = describe_origin(None, None, None)
    assert (peer, end.fields("src")) == (None, ())
