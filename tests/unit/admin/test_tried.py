"""What a real connection adds: causes that no decision shows."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from hostmesh.admin.explain import Explanation
from hostmesh.admin.steps import Step
from hostmesh.admin.tried import Outcome, Tried, with_tried
from hostmesh.model.address import SocketAddress
from hostmesh.telemetry.reasons import Reason

OWN, STALE = ip_address("10.0.0.2"), ip_address("10.0.0.99")
DIRECT = Explanation((Step("route", "HBONE", "fine", Reason.MUTUAL_TLS),), True, Reason.MUTUAL_TLS)
WAYPOINT = Explanation((Step("route", "waypoint", "fine", Reason.THROUGH_WAYPOINT),), True, Reason.THROUGH_WAYPOINT)
UNAVAILABLE = "http status: 503 Service Unavailable"
SAN = "io error: identity verification error: peer did not present the expected SAN"


def tried(
    outcome: Outcome, error: str = "", reason: Reason | None = None, at: tuple[str, ...] = ("10.0.0.2",)
) -> Tried:
    resolved = tuple(map(ip_address, at))
    address = SocketAddress(resolved[0] if resolved else OWN, 80)
    return Tried("sleep.service", "web", resolved, address, outcome, error, reason)


CASES = {
    "accepted": (DIRECT, tried(Outcome.OPEN), True, Reason.MUTUAL_TLS),
    "accepted by a waypoint": (WAYPOINT, tried(Outcome.OPEN), True, Reason.THROUGH_WAYPOINT),
    "nobody listens there": (
        DIRECT,
        tried(Outcome.REFUSED, UNAVAILABLE, Reason.PEER_DECLINED),
        False,
        Reason.APPLICATION_REFUSED,
    ),
    "a waypoint's 503 may be anything": (
        WAYPOINT,
        tried(Outcome.REFUSED, UNAVAILABLE, Reason.PEER_DECLINED),
        False,
        Reason.PEER_DECLINED,
    ),
    "another workload answers": (
        DIRECT,
        tried(Outcome.REFUSED, SAN, Reason.IDENTITY_MISMATCH),
        False,
        Reason.IDENTITY_MISMATCH,
    ),
    "the log says nothing": (DIRECT, tried(Outcome.SILENT), False, Reason.CONNECT_FAILED),
    "the name leads elsewhere": (
        DIRECT,
        tried(Outcome.REFUSED, "io error: No route to host", Reason.CONNECT_FAILED, at=(str(STALE),)),
        False,
        Reason.NAME_ELSEWHERE,
    ),
    "the name leads elsewhere, where somebody answers": (
        DIRECT,
        tried(Outcome.OPEN, at=(str(STALE),)),
        True,
        Reason.NAME_ELSEWHERE,
    ),
    "one of the name's addresses is right": (
        DIRECT,
        tried(Outcome.OPEN, at=(str(STALE), str(OWN))),
        True,
        Reason.MUTUAL_TLS,
    ),
    "the caller does not run": (DIRECT, tried(Outcome.NOT_RUNNING), True, Reason.MUTUAL_TLS),
    "only the mesh knows the name": (DIRECT, tried(Outcome.OPEN, at=()), True, Reason.MUTUAL_TLS),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_tried_names_the_cause(name: str) -> None:
    """A cause of before counts more than its consequence."""
    found, made, allowed, reason = CASES[name]
    after = with_tried(found, made, frozenset({OWN}))
    assert (after.allowed, after.reason) == (allowed, reason)
    assert after.steps[: len(found.steps)] == found.steps
    assert after.steps[-1].about == "try"
    assert after.steps[-1].text.startswith("a connection of sleep.service to ")


def test_a_name_that_only_the_mesh_knows_is_said() -> None:
    """A client asks its resolver before it connects."""
    after = with_tried(DIRECT, tried(Outcome.OPEN, at=()), frozenset({OWN}))
    assert any("resolver does not know web" in step.text for step in after.steps)
