"""AuthorizationPolicy to Authorization: one line for each row of istiod's conversion."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from tests.support.documents import document, objects

from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.read import of_kind
from hostmesh.control.translate.policies import authorizations, network_of, selections, string_match
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Match,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)

ROOT = "istio-system"
EXACT, PREFIX, SUFFIX = StringMatchKind.EXACT, StringMatchKind.PREFIX, StringMatchKind.SUFFIX


def translated(spec: str, metadata: str = "name: x, namespace: a") -> tuple[Authorization, ...]:
    found = of_kind(objects(document("AuthorizationPolicy", spec, metadata)), AuthorizationPolicy)
    return authorizations(found, ROOT)


def exact(value: str) -> StringMatch:
    return StringMatch(EXACT, value)


RULES: list[tuple[str, tuple[Rule, ...]]] = [
    ("{}", ()),
    ("rules: [{}]", ((),)),
    (
        "rules: [{from: [{source: {principals: [p], notNamespaces: ['n*']}}, {source: {ipBlocks: [10.0.0.1]}}]}]",
        (
            (
                (
                    Match(principals=(exact("p"),), not_namespaces=(StringMatch(PREFIX, "n"),)),
                    Match(source_ips=(ip_network("10.0.0.1/32"),)),
                ),
            ),
        ),
    ),
    (
        "rules: [{from: [{source: {notPrincipals: ['*/sa/b'], notIpBlocks: ['::1']}}]}]",
        (((Match(not_principals=(StringMatch(SUFFIX, "/sa/b"),), not_source_ips=(ip_network("::1/128"),)),),),),
    ),
    (
        "rules: [{from: [{source: {serviceAccounts: [s, b/t], notServiceAccounts: [u]}}]}]",
        (
            (
                (
                    Match(
                        service_accounts=(ServiceAccountMatch("a", "s"), ServiceAccountMatch("b", "t")),
                        not_service_accounts=(ServiceAccountMatch("a", "u"),),
                    ),
                ),
            ),
        ),
    ),
    (
        "rules: [{from: [{source: {namespaces: [n]}}], to: [{operation: {ports: ['80'], notPorts: ['81']}}]}]",
        (
            (
                (Match(destination_ports=(80,), not_destination_ports=(81,)),),
                (Match(namespaces=(exact("n"),)),),
            ),
        ),
    ),
    (
        "rules: [{when: [{key: source.ip, values: [10.0.0.9/8]}, {key: destination.ip, notValues: [10.0.0.1]}]}]",
        (
            (
                (Match(source_ips=(ip_network("10.0.0.0/8"),)),),
                (Match(not_destination_ips=(ip_network("10.0.0.1/32"),)),),
            ),
        ),
    ),
    (
        (
            "rules: [{when: [{key: source.namespace, values: [n], notValues: [m]},"
            " {key: destination.port, values: ['1']}]}]"
        ),
        (
            (
                (Match(namespaces=(exact("n"),), not_namespaces=(exact("m"),)),),
                (Match(destination_ports=(1,)),),
            ),
        ),
    ),
    (
        "rules: [{when: [{key: source.principal, values: ['*']}]}]",
        (((Match(principals=(StringMatch(StringMatchKind.PRESENCE),)),),),),
    ),
    (
        "rules: [{from: [{source: {namespaces: [n]}}]}, {to: [{operation: {methods: [GET], ports: ['1']}}]}]",
        (((Match(namespaces=(exact("n"),)),),),),
    ),
    (
        "action: DENY\nrules: [{from: [{source: {namespaces: [n]}}], to: [{operation: {methods: [GET]}}]}]",
        (((Match(namespaces=(exact("n"),)),),),),
    ),
    (
        "action: DENY\nrules: [{to: [{operation: {methods: [GET], ports: ['1']}}]}]",
        (((Match(destination_ports=(1,)),),),),
    ),
    (
        (
            "action: DENY\nrules:\n- to: [{operation: {ports: ['1']}}, {operation: {paths: [/a]}}]\n"
            "  when: [{key: source.ip, values: [10.0.0.1]}, {key: connection.sni, values: [a]}]"
        ),
        (((Match(source_ips=(ip_network("10.0.0.1/32"),)),),),),
    ),
]


@pytest.mark.parametrize(("spec", "rules"), RULES)
def test_rules(spec: str, rules: tuple[Rule, ...]) -> None:
    """Clauses in the order to, from, when; an ALLOW rule with HTTP vanishes, a DENY rule only loses the HTTP."""
    (policy,) = translated(spec)
    assert policy.rules == rules


@pytest.mark.parametrize(
    ("spec", "namespace", "scope"),
    [
        ("{}", "a", PolicyScope.NAMESPACE),
        ("{}", ROOT, PolicyScope.GLOBAL),
        ("selector: {}", "a", PolicyScope.NAMESPACE),
        ("selector: {matchLabels: {}}", ROOT, PolicyScope.GLOBAL),
        ("selector: {matchLabels: {b: c}}", "a", PolicyScope.WORKLOAD_SELECTOR),
        ("selector: {matchLabels: {b: c}}", ROOT, PolicyScope.WORKLOAD_SELECTOR),
    ],
)
def test_scope(spec: str, namespace: str, scope: PolicyScope) -> None:
    """A selector without labels is no selector: it must not make a policy void."""
    (policy,) = translated(spec, f"name: x, namespace: {namespace}")
    assert (policy.scope, policy.key) == (scope, f"{namespace}/x")


def test_action_and_dry_run_are_kept() -> None:
    """A dry run is sent, for agents report it."""
    (policy,) = translated("action: DENY\nrules: [{}]", "name: x, annotations: {istio.io/dry-run: 'true'}")
    assert (policy.action, policy.dry_run) == (Action.DENY, True)


@pytest.mark.parametrize("spec", ["targetRefs: [{kind: Service, name: a}]", "action: AUDIT\nrules: [{}]"])
def test_what_agents_do_not_enforce_is_not_sent(spec: str) -> None:
    """An ALLOW for a waypoint would be a deny-all at the agents."""
    assert translated(spec) == ()


SELECTED = [
    ("a", {"app": "web", "v": "1"}, ["a/web"]),
    ("a", {"app": "db"}, []),
    ("a", {}, []),
    ("b", {"app": "web"}, []),
    ("b", {"tier": "x"}, ["istio-system/all"]),
    (ROOT, {"tier": "x"}, ["istio-system/all"]),
]


@pytest.mark.parametrize(("namespace", "labels", "keys"), SELECTED)
def test_selection(namespace: str, labels: dict[str, str], keys: list[str]) -> None:
    """A selector chooses in its own namespace, in the root namespace everywhere; no labels, no policies."""
    found = of_kind(
        objects(
            document("AuthorizationPolicy", "selector: {matchLabels: {app: web}}", "name: web, namespace: a"),
            document("AuthorizationPolicy", "selector: {matchLabels: {tier: x}}", f"name: all, namespace: {ROOT}"),
            document("AuthorizationPolicy", "{}", "name: everybody, namespace: a"),
        ),
        AuthorizationPolicy,
    )
    assert list(selections(found, ROOT).keys(namespace, labels)) == keys


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.1", "10.0.0.1/32"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
        ("::/0", "::/0"),
    ],
)
def test_networks(text: str, network: str) -> None:
    """A single address is a whole prefix; IPv4 in IPv6's clothes is IPv4."""
    assert network_of(text) == ip_network(network)


def test_a_lone_star_means_any_value_that_is_there() -> None:
    """`*` is presence, which plaintext does not have."""
    assert string_match("*") == StringMatch(StringMatchKind.PRESENCE)
