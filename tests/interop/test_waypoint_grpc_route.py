"""GRPCRoutes obeyed by a real Envoy: a gRPC client behind its agent, gRPC servers behind theirs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from tests.support.behind_waypoint import Front, Services, services
from tests.support.documents import document
from tests.support.grpc_app import Answer, GrpcApp, RawCodec
from tests.support.http_app import HttpApp
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.interop

Call = tuple[str, dict[str, str]]
METHODS = ("/shop.Cart/Add", "/shop.Cart/Get", "/shop.Bill/Get", "/shop.v2.Cart/Add")


def named(name: str) -> Answer:
    return lambda message, _: name.encode() + message


def fail(message: bytes, metadata: Mapping[str, str]) -> bytes:
    raise GRPCError(Status.ABORTED)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as made:
        yield made


@pytest.fixture
def apps(mesh: Services) -> Iterator[dict[str, GrpcApp]]:
    """Servers that answer with their name; `cart` is the service that is called."""
    with ExitStack() as stack:
        made = {}
        for name in ("cart", "v1", "v2"):
            answers: dict[str, Answer] = {path: named(name) for path in METHODS}
            answers["/shop.Cart/Fail"] = fail
            made[name] = stack.enter_context(GrpcApp(mesh.mesh.ip, answers))
            mesh.at(name, made[name].port, port_name="grpc", behind="wp" if name == "cart" else "")
        yield made


def route(rules: str) -> str:
    parents = "parentRefs: [{group: '', kind: Service, name: cart}]"
    return document("GRPCRoute", f"{parents}\nrules:\n{rules}", "name: r")


def to(name: str) -> str:
    return f"backendRefs: [{{name: {name}, port: 80}}]"


def call(front: Front, *calls: Call, service: str = "cart") -> list[str]:
    """Answers, or the names of the errors, of calls over one connection of alice's application."""

    async def run() -> list[str]:
        where = front.captured(service)
        channel = Channel(str(where.ip), where.port, codec=RawCodec())
        try:
            return [await _one(channel, path, metadata) for path, metadata in calls]
        finally:
            channel.close()

    return asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))


async def _one(channel: Channel, path: str, metadata: dict[str, str]) -> str:
    try:
        answer = await UnaryUnaryMethod[bytes, bytes](channel, path, bytes, bytes)(b"!", metadata=metadata)
    except GRPCError as error:
        return error.status.name
    return answer.decode()


def plain(paths: Sequence[str]) -> list[Call]:
    return [(path, {}) for path in paths]


def test_without_a_route_calls_reach_the_service_itself(mesh: Services, apps: dict[str, GrpcApp]) -> None:
    """And its errors come back as they are."""
    with mesh.waypoint() as front:
        assert call(front, *plain(["/shop.Cart/Add", "/shop.Cart/Fail"])) == ["cart!", Status.ABORTED.name]


MATCHES = f"""
- matches: [{{method: {{service: shop.Cart, method: Get}}}}]
  {to("v1")}
- matches: [{{method: {{service: shop.Cart}}}}]
  {to("cart")}
- matches: [{{method: {{service: shop.Cart}}, headers: [{{name: x-canary, value: "1"}}]}}]
  {to("v2")}
- matches: [{{method: {{method: Get}}}}]
  {to("v2")}
- matches: [{{method: {{type: RegularExpression, service: "shop[.]v[0-9]+[.]Cart", method: "A.*|B.*"}}}}]
  {to("v2")}
"""


def test_matches(mesh: Services, apps: dict[str, GrpcApp]) -> None:
    """Service, method, both, expressions and headers; what no rule takes is UNIMPLEMENTED, as gRPC reads a 404."""
    table: list[tuple[Call, str]] = [
        (("/shop.Cart/Get", {}), "v1!"),
        (("/shop.Cart/Add", {}), "cart!"),
        (("/shop.Cart/Add", {"x-canary": "1"}), "v2!"),
        (("/shop.Cart/Get", {"x-canary": "1"}), "v1!"),
        (("/shop.Bill/Get", {}), "v2!"),
        (("/shop.v2.Cart/Add", {}), "v2!"),
        (("/shop.v2.Cart/Cadd", {}), Status.UNIMPLEMENTED.name),
        (("/shop.Cartwheel/Add", {}), Status.UNIMPLEMENTED.name),
    ]
    with mesh.waypoint(route(MATCHES)) as front:
        assert call(front, *[asked for asked, _ in table]) == [said for _, said in table]


FILTERS = f"""
- matches: [{{method: {{service: shop.Cart, method: Add}}}}]
  filters:
  - type: RequestHeaderModifier
    requestHeaderModifier: {{set: [{{name: x-route, value: add}}], remove: [x-gone]}}
  - type: RequestMirror
    requestMirror: {{backendRef: {{name: v2, port: 80}}}}
  {to("v1")}
- backendRefs:
  - name: v1
    port: 80
    weight: 3
  - name: v2
    port: 80
    filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-share, value: canary}}]}}}}]
"""


def test_filters_and_weights(mesh: Services, apps: dict[str, GrpcApp]) -> None:
    """Headers change, for a whole rule or for one backend's share; a mirror gets the message, too."""
    with mesh.waypoint(route(FILTERS)) as front:
        assert call(front, ("/shop.Cart/Add", {"x-gone": "1"})) == ["v1!"]
        seen = apps["v1"].next()
        assert (seen.metadata.get("x-route"), seen.metadata.get("x-gone")) == ("add", None)
        copied = apps["v2"].next()
        assert (copied.path, copied.message) == ("/shop.Cart/Add", b"!")
        shares = Counter(call(front, *plain(["/shop.Cart/Get"] * 60)))
        assert set(shares) == {"v1!", "v2!"}
        assert shares["v1!"] > shares["v2!"]
        assert {apps["v2"].next().metadata.get("x-share") for _ in range(shares["v2!"])} == {"canary"}


def test_policies_judge_calls(mesh: Services, apps: dict[str, GrpcApp]) -> None:
    """By path, as one writes it for HTTP; PERMISSION_DENIED is what gRPC reads."""
    policy = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: '', kind: Service, name: cart}]\nrules: [{to: [{operation: {paths: [/shop.Cart/Get]}}]}]",
        "name: p",
    )
    with mesh.waypoint(policy) as front:
        answers = call(front, *plain(["/shop.Cart/Get", "/shop.Cart/Add"]))
        assert answers == ["cart!", Status.PERMISSION_DENIED.name]


def test_a_route_makes_an_undeclared_port_one_of_grpc(mesh: Services, apps: dict[str, GrpcApp]) -> None:
    """Nobody has to name the port, and an HTTPRoute beside it is tried together with it."""
    mesh.at("mixed", apps["cart"].port, port_name="main")
    with HttpApp(mesh.mesh.ip, "web") as web:
        mesh.at("web", web.port, behind="")
        parents = "parentRefs: [{group: '', kind: Service, name: mixed, sectionName: main}]"
        grpc = document("GRPCRoute", f"{parents}\nrules: [{{{to('v1')}}}]", "name: g")
        http = document(
            "HTTPRoute", f"{parents}\nrules: [{{matches: [{{path: {{value: /web}}}}], {to('web')}}}]", "name: h"
        )
        with mesh.waypoint(grpc, http) as front:
            assert call(front, *plain(["/shop.Cart/Get"]), service="mixed") == ["v1!"]
