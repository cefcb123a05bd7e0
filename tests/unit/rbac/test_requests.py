"""What a waypoint decides about a request: one line for each sentence; None is where it depends on what nobody said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostmesh.model.waypoint import L7Action, L7Policy, L7Rule, MatchText, PathKind, Route, RouteMatch
from hostmesh.rbac.requests import Request, choose_route, decide_request

ASKED = Request(
    principal="spiffe://cluster.local/ns/shop/sa/web",
    namespace="shop",
    service_account="web",
    address="10.0.0.1",
    port=80,
    destination="10.96.0.1",
    method="GET",
    path="/v1/carts?full=1",
    host="Carts.example",
    headers={"x-team": "red"},
)
UNSAID = replace(ASKED, method=None, path=None, host=None, headers={})


def policy(
    action: L7Action = L7Action.ALLOW, *, source: object = None, operation: object = None, name: str = "p"
) -> L7Policy:
    rule = L7Rule((source,) if source else (), (operation,) if operation else ())  # type: ignore[arg-type]
    return L7Policy(name, "prod", action, (rule,))


@pytest.mark.parametrize(
    ("kind", "fields", "hit"),
    [
        ("source", {"serviceAccounts": ("shop/web",)}, True),
        ("source", {"serviceAccounts": ("web",)}, False),  # of the policy's own namespace
        ("source", {"serviceAccounts": ("eb",)}, False),
        ("source", {"principals": ("cluster.local/ns/shop/*",)}, True),
        ("source", {"principals": ("*/sa/web",), "notNamespaces": ("shop",)}, False),
        ("source", {"trustDomains": ("cluster",)}, False),
        ("source", {"ipBlocks": ("10.0.0.0/24",)}, True),
        ("source", {"notIpBlocks": ("10.0.0.0/24",)}, False),
        ("source", {"requestPrincipals": ("*",)}, None),
        ("operation", {"ports": ("8080", "80")}, True),
        ("operation", {"methods": ("POST",)}, False),
        ("operation", {"notMethods": ("POST",)}, True),
        ("operation", {"paths": ("/v1/carts",)}, True),  # without the query
        ("operation", {"paths": ("/{*}/carts",)}, True),
        ("operation", {"paths": ("/{*}",)}, False),
        ("operation", {"paths": ("/{**}",)}, True),
        ("operation", {"hosts": ("carts.EXAMPLE",)}, True),
    ],
)
def test_attributes(kind: str, fields: dict[str, tuple[str, ...]], hit: bool | None) -> None:
    """A DENY refuses what it matches, and nothing else."""
    found = decide_request([policy(L7Action.DENY, **{kind: fields})], ASKED)  # type: ignore[arg-type]
    assert found.allowed == {True: False, False: True, None: None}[hit]


GET, POST, GUEST = ({"methods": ("GET",)}, {"methods": ("POST",)}, {"namespaces": ("guest",)})


@pytest.mark.parametrize(
    ("policies", "request_", "allowed"),
    [
        ((), ASKED, True),
        ((policy(operation=POST),), ASKED, False),
        ((policy(operation=POST), policy(operation=GET)), ASKED, True),
        ((policy(operation=POST),), UNSAID, None),
        ((policy(source=GUEST), policy(operation=POST)), UNSAID, None),
        ((policy(source=GUEST),), UNSAID, False),
        ((policy(L7Action.DENY, operation=GET), policy(operation=GET)), ASKED, False),
        ((policy(L7Action.DENY, operation=GET), policy(source=GUEST)), UNSAID, False),
        ((policy(L7Action.DENY, operation=GET),), UNSAID, None),
        ((policy(L7Action.CUSTOM, operation=GET),), ASKED, None),
        ((policy(L7Action.CUSTOM, operation=GET), policy(L7Action.DENY, operation=GET)), ASKED, False),
        ((policy(L7Action.AUDIT, operation=POST),), ASKED, True),
        ((replace(policy(L7Action.DENY, operation=GET), dry_run=True),), ASKED, True),
        ((L7Policy("nobody", "prod", L7Action.ALLOW, ()),), ASKED, False),
    ],
)
def test_the_order_of_actions(policies: tuple[L7Policy, ...], request_: Request, allowed: bool | None) -> None:
    """DENY before ALLOW; an ALLOW refuses the rest; what nobody said leaves open what it decides."""
    assert decide_request(policies, request_).allowed is allowed


@pytest.mark.parametrize(
    ("match", "chosen", "certain"),
    [
        (RouteMatch(), True, True),
        (RouteMatch(PathKind.PREFIX, "/v1"), True, True),
        (RouteMatch(PathKind.PREFIX, "/v1/"), True, True),
        (RouteMatch(PathKind.PREFIX, "/v1/cart"), False, True),  # whole elements only
        (RouteMatch(PathKind.EXACT, "/v1/carts"), True, True),
        (RouteMatch(PathKind.EXACT, "/v1"), False, True),
        (RouteMatch(PathKind.REGEX, "/v./carts"), True, True),
        (RouteMatch(PathKind.REGEX, "/v."), False, True),
        (RouteMatch(method="POST"), False, True),
        (RouteMatch(headers=(MatchText("X-Team", "red", False),)), True, True),
        (RouteMatch(headers=(MatchText("X-Team", "r", True),)), False, True),
        (RouteMatch(headers=(MatchText("X-Other", "red", False),)), True, False),
        (RouteMatch(query=(MatchText("full", "1", False),)), True, True),
        (RouteMatch(query=(MatchText("empty", "1", False),)), False, True),
    ],
)
def test_routes(match: RouteMatch, chosen: bool, certain: bool) -> None:
    """The first that matches, or may."""
    route = Route("r", match)
    assert choose_route([route], ASKED) == (route if chosen else None, certain)
