"""AuthorizationPolicy: values inside a rule."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals

SOURCES = [
    ("{}", "7: spec.rules[0].from[0].source: the source is empty; remove it to match everybody, or say who"),
    (
        "{principals: []}",
        "7: spec.rules[0].from[0].source.principals: list should have at least 1 item after validation, not 0 (got [])",
    ),
    (
        "{principals: ['']}",
        "7: spec.rules[0].from[0].source.principals[0]: string should have at least 1 character (got '')",
    ),
    (
        "{principals: [spiffe://a/ns/b/sa/c]}",
        (
            "7: spec.rules[0].from[0].source.principals[0]: 'spiffe://a/ns/b/sa/c' would never match: "
            "principals are written without spiffe://"
        ),
    ),
    (
        "{principals: ['a/ns/*/sa/c']}",
        (
            "7: spec.rules[0].from[0].source.principals[0]: 'a/ns/*/sa/c' would never match: "
            "`*` is understood only at the start or at the end"
        ),
    ),
    (
        "{notNamespaces: ['*a*']}",
        "7: spec.rules[0].from[0].source.notNamespaces[0]: '*a*' has `*` at both ends and would never match",
    ),
    ("{ipBlocks: [10.0.0]}", "7: spec.rules[0].from[0].source.ipBlocks[0]: bad IP address '10.0.0'"),
    ("{ipBlocks: [10.0.0.0/33]}", "7: spec.rules[0].from[0].source.ipBlocks[0]: bad CIDR range '10.0.0.0/33'"),
    (
        "{serviceAccounts: [a], namespaces: [b]}",
        (
            "7: spec.rules[0].from[0].source.serviceAccounts: serviceAccounts cannot stand with principals or "
            "namespaces; use one of them"
        ),
    ),
    (
        "{serviceAccounts: ['a/*']}",
        (
            "7: spec.rules[0].from[0].source.serviceAccounts[0]: 'a/*' is not a service account: "
            "`name` or `namespace/name`, without wildcards"
        ),
    ),
    (
        "{serviceAccounts: [/a]}",
        (
            "7: spec.rules[0].from[0].source.serviceAccounts[0]: '/a' is not a service account: "
            "`name` or `namespace/name`, without wildcards"
        ),
    ),
    (
        "{trustDomains: [example.org]}",
        (
            "7: spec.rules[0].from[0].source.trustDomains: agents do not compare trust domains, the field would "
            'vanish; write principals: ["example.org/*"]'
        ),
    ),
    (
        "{principal: [a]}",
        (
            "7: spec.rules[0].from[0].source.principal: unknown field; did you mean 'principals'? allowed: ipBlocks, "
            "namespaces, notIpBlocks, notNamespaces, notPrincipals, notRemoteIpBlocks, notRequestPrincipals, "
            "notServiceAccounts, notTrustDomains, principals, remoteIpBlocks, requestPrincipals, serviceAccounts, "
            "trustDomains"
        ),
    ),
]


@pytest.mark.parametrize(("source", "complaint"), SOURCES)
def test_source(source: str, complaint: str) -> None:
    """A value that could never match, or says something else than it seems, is refused."""
    text = document("AuthorizationPolicy", f"action: DENY\nrules:\n- from: [{{source: {source}}}]")
    assert refusals(text) == [complaint]


@pytest.mark.parametrize(
    "source",
    [
        "{principals: ['*']}",
        "{principals: ['td/ns/a/sa/b', 'td/*', '*/sa/b']}",
        "{namespaces: ['prod-*']}",
        "{ipBlocks: [10.0.0.1, 10.0.0.5/8, '2001:db8::/32']}",
        "{serviceAccounts: [a, b/c]}",
    ],
)
def test_right_sources(source: str) -> None:
    """Istio's own forms."""
    assert refusals(document("AuthorizationPolicy", f"rules: [{{from: [{{source: {source}}}]}}]")) == []


ONLY_WHOLE = "{*} is one whole segment, {**} only the last one"
OPERATIONS = [
    ("{}", "7: spec.rules[0].to[0].operation: the operation is empty; remove it to match everything, or say what"),
    ("{ports: [8080]}", "7: spec.rules[0].to[0].operation.ports[0]: input should be a valid string (got 8080)"),
    (
        "{ports: ['http']}",
        "7: spec.rules[0].to[0].operation.ports[0]: bad port 'http': a number between 1 and 65535, in quotes",
    ),
    (
        "{notPorts: ['65536']}",
        "7: spec.rules[0].to[0].operation.notPorts[0]: bad port '65536': a number between 1 and 65535, in quotes",
    ),
    (
        "{ports: ['1'], paths: ['/{**}/a']}",
        (
            "7: spec.rules[0].to[0].operation.paths[0]: invalid or unsupported path '/{**}/a': "
            "{*} is one whole segment, {**} only the last one"
        ),
    ),
    *(
        (
            f"{{ports: ['1'], paths: ['{path}']}}",
            f"7: spec.rules[0].to[0].operation.paths[0]: invalid or unsupported path '{path}': {ONLY_WHOLE}",
        )
        for path in ("/a/b{**}", "/x{*}", "/a*/{*}", "/{*}/b*", "/a{**}/b", "/a/{x}")
    ),
    (
        "{ports: ['1'], paths: ['/a{*}/b']}",
        (
            "7: spec.rules[0].to[0].operation.paths[0]: invalid or unsupported path '/a{*}/b': "
            "{*} is one whole segment, {**} only the last one"
        ),
    ),
]


@pytest.mark.parametrize(("operation", "complaint"), OPERATIONS)
def test_operation(operation: str, complaint: str) -> None:
    """Ports are text in Istio's schema."""
    text = document("AuthorizationPolicy", f"action: DENY\nrules:\n- to: [{{operation: {operation}}}]")
    assert refusals(text) == [complaint]


@pytest.mark.parametrize("path", ["/a/{*}/b", "/a/{**}", "/a*", "*.html"])
def test_right_paths(path: str) -> None:
    """Templates as Istio knows them, where a waypoint sees paths."""
    spec = f"targetRefs: [{{kind: Service, name: a}}]\nrules: [{{to: [{{operation: {{paths: ['{path}']}}}}]}}]"
    assert refusals(document("AuthorizationPolicy", spec)) == []


CONDITIONS = [
    ("{key: '', values: [a]}", "7: spec.rules[0].when[0].key: the key is empty"),
    (
        "{key: source.ip}",
        "7: spec.rules[0].when[0]: neither values nor notValues is given: the condition says nothing",
    ),
    ("{key: source.ip, values: [a]}", "7: spec.rules[0].when[0].values[0]: bad IP address 'a'"),
    (
        "{key: destination.port, notValues: ['0']}",
        "7: spec.rules[0].when[0].notValues[0]: bad port '0': a number between 1 and 65535, in quotes",
    ),
    (
        "{key: destination.labels, values: [a]}",
        (
            "7: spec.rules[0].when[0].key: 'destination.labels' is not supported since Istio 1.4; "
            "choose the destination with selector"
        ),
    ),
    (
        "{key: request.headers, values: [a]}",
        "7: spec.rules[0].when[0].key: 'request.headers' needs a name in brackets: request.headers[name]",
    ),
    (
        "{key: source.namespac, values: [a]}",
        (
            "7: spec.rules[0].when[0].key: unknown attribute 'source.namespac'; did you mean 'source.namespace'? "
            "allowed: connection.sni, destination.ip, destination.port, remote.ip, request.auth.audiences, "
            "request.auth.claims[name], request.auth.presenter, request.auth.principal, request.headers[name], "
            "source.ip, source.namespace, source.principal, source.serviceAccount, source.trustDomain"
        ),
    ),
]


@pytest.mark.parametrize(("condition", "complaint"), CONDITIONS)
def test_condition(condition: str, complaint: str) -> None:
    """A condition must be one that somebody can judge."""
    rule = f"- from: [{{source: {{namespaces: [a]}}}}]\n  when: [{condition}]"
    text = document("AuthorizationPolicy", f"action: DENY\nrules:\n{rule}")
    assert refusals(text) == [complaint.replace("7:", "8:", 1)]


@pytest.mark.parametrize(("name", "line"), [("from", 6), ("to", 6)])
def test_empty_lists_match_in_no_way(name: str, line: int) -> None:
    """`from: []` is neither everybody nor nobody to a reader."""
    assert refusals(document("AuthorizationPolicy", f"rules:\n- {name}: []")) == [
        f"{line}: spec.rules[0].{name}: empty list, found at rule 0: it could mean all or none; remove it to match all"
    ]
