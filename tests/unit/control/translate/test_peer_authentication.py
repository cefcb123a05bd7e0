"""PeerAuthentication to Authorization: the table of istiod's conversion, row by row."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects

from hostmesh.control.documents.peer_authentication import PeerAuthentication
from hostmesh.control.documents.read import of_kind
from hostmesh.control.translate.peer_authentication import PeerDemands, convert
from hostmesh.model.authorization import Action, Match, PolicyScope, Rule, StringMatch, StringMatchKind

ROOT = "istio-system"
STATIC = f"{ROOT}/istio_converted_static_strict"
OWN = "a/converted_peer_authentication_own"
ANY = (StringMatch(StringMatchKind.PRESENCE),)
NO_PEER = Match(not_principals=ANY)


def demands(*texts: str) -> PeerDemands:
    return convert(of_kind(objects(*texts), PeerAuthentication), ROOT)


def level(namespace: str, mode: str, extra: str = "") -> str:
    return document("PeerAuthentication", f"mtls: {{mode: {mode}}}", f"name: default, namespace: {namespace}{extra}")


def own(mode: str, ports: str = "") -> str:
    spec = f"selector: {{matchLabels: {{app: web}}}}\nmtls: {{mode: {mode}}}\n"
    return document("PeerAuthentication", spec + ports, "name: own, namespace: a")


def ports(**modes: str) -> str:
    return "portLevelMtls: {" + ", ".join(f"{port[1:]}: {{mode: {mode}}}" for port, mode in modes.items()) + "}"


def exempting(*numbers: int) -> tuple[Rule, ...]:
    return (((NO_PEER,), *((Match(not_destination_ports=(number,)),) for number in numbers)),)


def refusing(*numbers: int) -> tuple[Rule, ...]:
    return tuple(((Match(not_principals=ANY, destination_ports=(number,)),),) for number in numbers)


LEVELS = [
    ([], ()),
    ([level(ROOT, "STRICT")], (STATIC,)),
    ([level("a", "STRICT")], (STATIC,)),
    ([level("b", "STRICT")], ()),
    ([level(ROOT, "STRICT"), level("a", "PERMISSIVE")], ()),
    ([level(ROOT, "STRICT"), level("a", "DISABLE")], ()),
    ([level(ROOT, "STRICT"), level("a", "UNSET")], (STATIC,)),
    ([level(ROOT, "STRICT"), own("PERMISSIVE")], ()),
    ([level("a", "PERMISSIVE"), own("STRICT")], (STATIC,)),
    ([level("a", "STRICT"), own("UNSET")], (STATIC,)),
    ([own("UNSET")], ()),
]


@pytest.mark.parametrize(("texts", "keys"), LEVELS)
def test_the_most_specific_level_that_says_anything_decides(texts: list[str], keys: tuple[str, ...]) -> None:
    """Selector, then namespace, then mesh; UNSET asks the next, and PERMISSIVE is the end."""
    assert demands(*texts).keys("a", {"app": "web"}) == keys


STRICT, PERMISSIVE = level("a", "STRICT"), level("a", "PERMISSIVE")
PORTS = [
    ("STRICT", ports(p80="PERMISSIVE", p81="DISABLE", p82="STRICT"), [], OWN, exempting(80, 81)),
    ("STRICT", ports(p80="STRICT"), [], STATIC, ()),
    ("STRICT", ports(p80="UNSET"), [], STATIC, ()),
    ("PERMISSIVE", ports(p80="STRICT", p81="STRICT", p82="PERMISSIVE"), [], OWN, refusing(80, 81)),
    ("DISABLE", ports(p80="STRICT"), [], OWN, refusing(80)),
    ("PERMISSIVE", ports(p80="PERMISSIVE"), [STRICT], None, ()),
    ("UNSET", ports(p80="PERMISSIVE"), [STRICT], OWN, exempting(80)),
    ("UNSET", ports(p80="PERMISSIVE", p81="DISABLE"), [STRICT], OWN, exempting(80, 81)),
    ("UNSET", ports(p80="STRICT"), [STRICT], STATIC, ()),
    ("UNSET", ports(p80="DISABLE"), [STRICT], STATIC, ()),
    ("UNSET", ports(p80="STRICT"), [PERMISSIVE], OWN, refusing(80)),
    ("UNSET", ports(p80="STRICT"), [], OWN, refusing(80)),
]


@pytest.mark.parametrize(("mode", "port_modes", "others", "key", "rules"), PORTS)
def test_ports(mode: str, port_modes: str, others: list[str], key: str | None, rules: tuple[Rule, ...]) -> None:
    """A policy of its own only where ports differ from the workload; then the static one is not attached as well."""
    found = demands(own(mode, port_modes), *others)
    assert found.keys("a", {"app": "web"}) == ((key,) if key else ())
    converted = {policy.key: policy for policy in found.authorizations}
    assert (converted[OWN].rules if OWN in converted else ()) == rules


def test_the_static_policy_is_there_once_anything_is() -> None:
    """It denies peers without identity, wherever it is attached."""
    (static,) = demands(level("a", "PERMISSIVE")).authorizations
    assert (static.key, static.scope, static.action) == (STATIC, PolicyScope.WORKLOAD_SELECTOR, Action.DENY)
    assert static.rules == (((NO_PEER,),),)
    assert demands().authorizations == ()


def test_a_selector_chooses_by_label_in_its_own_namespace() -> None:
    """Other workloads of the namespace, and other namespaces, do not notice."""
    found = demands(own("STRICT"))
    assert found.keys("a", {"app": "db"}) == ()
    assert found.keys("a", {}) == ()
    assert found.keys("b", {"app": "web"}) == ()


def test_the_oldest_of_a_level_wins() -> None:
    """And the younger's author is told."""
    old = level("a", "STRICT", ", creationTimestamp: '2020-01-01T00:00:00Z'")
    young = document("PeerAuthentication", "mtls: {mode: PERMISSIVE}", "name: another, namespace: a")
    found = demands(young, old)
    assert found.keys("a", {}) == (STATIC,)
    assert [str(warning) for warning in found.warnings] == [
        (
            "doc0.yaml:3: metadata.name: ignored: PeerAuthentication a/default at doc1.yaml:1 speaks for its namespace "
            "already and is older; remove one"
        )
    ]


def test_what_has_no_effect_is_said() -> None:
    """A selector in the root namespace, and a disabled port under an inherited STRICT."""
    selector = document("PeerAuthentication", "selector: {matchLabels: {app: web}}", f"name: r, namespace: {ROOT}")
    found = demands(selector, level("a", "STRICT"), own("UNSET", ports(p80="DISABLE")))
    assert [str(warning) for warning in found.warnings] == [
        (
            "doc0.yaml:5: spec.selector: ignored: in the root namespace 'istio-system' a selector chooses nothing; "
            "move the object"
        ),
        (
            "doc2.yaml:7: spec.portLevelMtls.80.mode: stays STRICT: under an inherited STRICT only PERMISSIVE exempts "
            "a port; write PERMISSIVE"
        ),
    ]
