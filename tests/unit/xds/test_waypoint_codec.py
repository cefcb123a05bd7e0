"""A waypoint's program survives the wire, and one that is not understood is refused as a whole."""

from __future__ import annotations

import json

import pytest

from hostmesh.model.waypoint import (
    AppProtocol,
    Backend,
    CheckedBody,
    ExtAuthz,
    JwtRule,
    L7Action,
    L7Authentication,
    L7Policy,
    L7Rule,
    PathKind,
    Redirect,
    Retry,
    Route,
    RouteMatch,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.wire.proto import waypoint_pb2 as pb
from hostmesh.xds.codec import Rejected, decode_program, encode_program

ROUTES = (
    Route("r", RouteMatch(PathKind.EXACT, "/a"), (Backend("b", 80, 3),), retry=Retry(1, (503,), 0.5)),
    Route("s", RouteMatch(), redirect=Redirect(prefix="/x")),
)
PROGRAM = WaypointProgram(
    "wp",
    "default",
    "cluster.local",
    "spiffe://cluster.local/ns/default/sa/wp",
    15088,
    (WaypointService("default", "b", ("10.96.0.1",), (WaypointPort(80, AppProtocol.HTTP, (), ROUTES),)),),
    (WaypointEndpoint("10.0.0.1", 0, "spiffe://cluster.local/ns/default/sa/a"),),
    (L7Policy("p", "default", L7Action.CUSTOM, (L7Rule(({"notPorts": ("80",)},)),), ("b",), provider="opa"),),
    (L7Authentication("j", "default", (JwtRule("iss", claim_headers=(("h", "c"),)),)),),
    (ExtAuthz("opa", "127.0.0.1", 9000, endpoints=(), body=CheckedBody(9), additional_headers=(("a", "b"),)),),
)


def test_everything_comes_back() -> None:
    """And the same content has the same bytes."""
    assert decode_program(encode_program(PROGRAM)) == PROGRAM
    assert encode_program(decode_program(encode_program(PROGRAM))) == encode_program(PROGRAM)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trust_domain": 7}, "program of a waypoint: trust_domain: Input should be a valid string"),
        ({"quota": {}}, "program of a waypoint: quota: Unexpected keyword argument"),
        ({"policies": [{"name": "p", "namespace": "n", "action": "ASK"}]}, "program of a waypoint: policies.0.action"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, object], why: str) -> None:
    """Leaving out what a newer control plane says might leave out a policy."""
    content = {"name": "wp", "namespace": "default", "trust_domain": "cluster.local"} | change
    with pytest.raises(Rejected) as refused:
        decode_program(
            pb.Program(namespace="default", name="wp", json=json.dumps(content).encode()).SerializeToString()
        )
    assert refused.value.reason.startswith(why)
