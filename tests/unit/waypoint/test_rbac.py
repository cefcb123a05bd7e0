"""What of a policy is judged where: never less strict in the end, never stricter than said at the first judgement."""

from __future__ import annotations

import pytest

from hostmesh.model.waypoint import Fields, L7Action, L7Policy, L7Rule
from hostmesh.waypoint.rbac import Judge, Place, rules
from hostmesh.waypoint.shape import Json

ANY: Json = {"any": True}
ORG: Json = {"name": ":authority", "string_match": {"suffix": ".example.org", "ignore_case": True}}
A_OR_B: Json = {"rules": [{"url_path": {"path": {"prefix": "/a"}}}, {"url_path": {"path": {"exact": "/b"}}}]}
ALICE: Fields = {"principals": ("cluster.local/ns/default/sa/alice",)}
GET: Fields = {"methods": ("GET",)}


def judged(action: L7Action, judge: Judge, *rules_: L7Rule) -> Json | None:
    made = rules([L7Policy("p", "default", action, rules_)], action, Place(judge, 80, ("10.96.0.1",)))
    assert made is not None
    return {name.rpartition("rule")[2]: entry for name, entry in made["policies"].items()}


def tls(value: str, kind: str = "exact") -> Json:
    matcher = {"safe_regex": {"regex": value}} if kind == "regex" else {kind: value}
    return {"authenticated": {"principal_name": matcher}}


@pytest.mark.parametrize(
    ("action", "judge", "expected"),
    [
        # an ALLOW with HTTP attributes: the caller is judged at the CONNECT, the method later
        (L7Action.ALLOW, Judge.CONNECT_HTTP, ANY),
        # and on a TCP port it allows nothing
        (L7Action.ALLOW, Judge.CONNECT_TCP, None),
        (L7Action.ALLOW, Judge.TCP, None),
        # a DENY with HTTP attributes must not refuse other methods at the CONNECT
        (L7Action.DENY, Judge.CONNECT_HTTP, None),
        # but where there are no methods it refuses the caller altogether
        (L7Action.DENY, Judge.CONNECT_TCP, ANY),
        (L7Action.DENY, Judge.TCP, ANY),
    ],
)
def test_a_rule_with_a_method(action: L7Action, judge: Judge, expected: Json | None) -> None:
    """What a place cannot know makes the rule wider or drops it, whichever is safe there."""
    made = judged(action, judge, L7Rule((ALICE,), (GET,)))
    assert made is not None
    permissions = made["[0]"]["permissions"] if made else None
    assert permissions == (None if expected is None else [expected])


def test_at_a_request_everything_is_judged() -> None:
    """Caller and method."""
    made = judged(L7Action.ALLOW, Judge.HTTP, L7Rule((ALICE,), (GET,)))
    who = {
        "filter_state": {
            "key": "io.istio.peer_principal",
            "string_match": {"exact": f"spiffe://{ALICE['principals'][0]}"},
        }
    }
    method = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
    assert made == {"[0]": {"permissions": [method], "principals": [who]}}


def test_an_allow_without_rules_allows_nothing_and_no_policy_leaves_it_open() -> None:
    """Istio's allow-nothing."""
    place = Place(Judge.HTTP, 80)
    made = rules([L7Policy("none", "default", L7Action.ALLOW)], L7Action.ALLOW, place)
    never = {"permissions": [{"not_rule": ANY}], "principals": [{"not_id": ANY}]}
    assert made == {"action": "ALLOW", "policies": {"ns[default]-policy[none]-rule[none]": never}}
    assert rules([], L7Action.ALLOW, place) is None


def test_a_dry_run_is_never_among_the_enforced() -> None:
    """It is reported beside them."""
    policy = L7Policy("p", "default", L7Action.DENY, (L7Rule(),), dry_run=True)
    place = Place(Judge.HTTP, 80)
    assert rules([policy], L7Action.DENY, place) is None
    assert rules([policy], L7Action.DENY, place, dry_run=True) is not None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ports": ("80",)}, [ANY]),
        ({"ports": ("81",)}, [{"not_rule": ANY}]),
        ({"notPorts": ("81",)}, [{"not_rule": {"not_rule": ANY}}]),
        ({"hosts": ("*.example.org",)}, [{"header": ORG}]),
        ({"paths": ("/a*", "/b")}, [{"or_rules": A_OR_B}]),
    ],
)
def test_operations(fields: Fields, expected: list[Json]) -> None:
    """The service's port is known when the rule is compiled."""
    made = judged(L7Action.ALLOW, Judge.HTTP, L7Rule((), (fields,)))
    assert made is not None
    assert made["[0]"]["permissions"] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (ALICE, tls("spiffe://cluster.local/ns/default/sa/alice")),
        ({"namespaces": ("prod-*",)}, tls(r".*/ns/prod\-.*/.*", "regex")),
        ({"trustDomains": ("td",)}, tls("spiffe://td/", "prefix")),
        ({"ipBlocks": ("10.0.0.0/8",)}, {"direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}),
        ({"principals": ("*",)}, tls(".+", "regex")),
    ],
)
def test_callers_at_the_connect(fields: Fields, expected: Json) -> None:
    """By what TLS proved and where the packets come from."""
    made = judged(L7Action.DENY, Judge.CONNECT_TCP, L7Rule((fields,)))
    assert made is not None
    assert made["[0]"]["principals"] == [expected]
