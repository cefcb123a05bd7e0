"""What an HTTPRoute of the mesh must obey."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals, warnings

PARENT = "parentRefs: [{group: '', kind: Service, name: web}]\n"
PERCENT = "{name: a, value: a%b}"
HOST = "{name: Host, value: a}"
BACKEND = "backendRefs: [{name: web, port: 80}]"


def route(rule: str) -> str:
    return document("HTTPRoute", f"{PARENT}rules:\n- {rule}", "name: r")


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("/a[0-9]+", True),
        (r"/\\pL\\p{Greek}\\z", True),
        ("/[[:alpha:]]", True),
        ("/(?i)(?P<n>a)", False),  # flags stand at the beginning, for Python as for Envoy's expressions here
        ("(?i)/(?P<n>a)", True),
        ("/a++", False),
        ("/(?>a)", False),
        ("/(?=a)", False),
        ("/(?<!a)b", False),
        (r"/(a)\\1", False),
        (r"/\\Z", False),
        ("/(", False),
    ],
)
def test_expressions_are_re2(expression: str, right: bool) -> None:
    """What Envoy would refuse is refused in the document, and what only Envoy knows is not."""
    rule = f'{{matches: [{{path: {{type: RegularExpression, value: "{expression}"}}}}], {BACKEND}}}'
    assert (refusals(route(rule)) == []) is right


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("backendRefs: [{name: web}]", "7: spec.rules[0].backendRefs[0].port: port is required in backendRef"),
        (
            "backendRefs: [{name: web.default.svc.cluster.local, port: 80}]",
            "7: spec.rules[0].backendRefs[0].name: service name invalid; the name of the Service must be used",
        ),
        (
            f"{{matches: [{{path: {{value: api}}}}], {BACKEND}}}",
            "7: spec.rules[0].matches[0].path.value: 'api' must begin with a slash",
        ),
        (
            f"{{matches: [{{path: {{value: /a//b}}}}], {BACKEND}}}",
            "7: spec.rules[0].matches[0].path.value: '/a//b' cont",
        ),
        (
            f"{{matches: [{{path: {{type: RegularExpression, value: '(?=a)'}}}}], {BACKEND}}}",
            "7: spec.rules[0].matches[0].path.value: '(?=a)' is not an RE2 expression",
        ),
        (
            f"{{filters: [{{type: URLRewrite, requestRedirect: {{}}}}], {BACKEND}}}",
            "7: spec.rules[0].filters[0]: type URLRewrite needs exactly the field urlRewrite",
        ),
        (
            f"{{filters: [{{type: RequestRedirect, requestRedirect: {{port: 80}}}}], {BACKEND}}}",
            "7: spec.rules[0].backendRefs: a redirected request reaches no backend; remove one of the two",
        ),
        (f"{{timeouts: {{request: soon}}, {BACKEND}}}", "7: spec.rules[0].timeouts.request: 'soon' is not a duration"),
        (
            f"{{timeouts: {{request: 1s, backendRequest: 2s}}, {BACKEND}}}",
            "7: spec.rules[0].timeouts.backendRequest: longer than the time-out of the whole request",
        ),
        (
            f"{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{remove: [':path']}}}}], {BACKEND}}}",
            "7: spec.rules[0].filters[0].requestHeaderModifier.remove[0]: ':path' is not the name of a header",
        ),
        (
            f"{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{HOST}]}}}}], {BACKEND}}}",
            "7: spec.rules[0].filters[0].requestHeaderModifier.set[0].name: the host is changed by a URLRewrite",
        ),
        (
            f"{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{PERCENT}]}}}}], {BACKEND}}}",
            "7: spec.rules[0].filters[0].requestHeaderModifier.set[0].value: 'a%b': a percent sign is written %%",
        ),
        (
            f'{{matches: [{{path: {{value: "/a\\0"}}}}], {BACKEND}}}',
            "7: spec.rules[0].matches[0].path.value: contains the control character '\\x00'",
        ),
        (f"{{matches: [{{path: {{value: /a?b}}}}], {BACKEND}}}", "7: spec.rules[0].matches[0].path.value: '/a?b' cont"),
        (
            f"{{filters: [{{type: CORS, cors: {{allowOrigins: [shop.example]}}}}], {BACKEND}}}",
            "7: spec.rules[0].filters[0].cors.allowOrigins[0]: 'shop.example' is not an origin",
        ),
        (f"{{matchs: [], {BACKEND}}}", "7: spec.rules[0].matchs: unknown field; did you mean 'matches'?"),
    ],
)
def test_refused(rule: str, complaint: str) -> None:
    """With line and field."""
    assert refusals(route(rule))[0].startswith(complaint)


def test_a_gateway_is_no_parent_here() -> None:
    """Routes of the mesh are attached to services."""
    text = document("HTTPRoute", "parentRefs: [{name: wp}]", "name: r")
    assert refusals(text)[0].startswith("5: spec.parentRefs[0].kind: unsupported parent 'Gateway'")


def test_what_has_no_effect_is_said() -> None:
    """And the document passes."""
    said = warnings(document("HTTPRoute", f"{PARENT}hostnames: [a.b]\nrules: [{{}}]", "name: r"))
    assert [text.partition(": ")[2].partition(":")[0] for text in said] == ["spec.hostnames", "spec.rules[0]"]
