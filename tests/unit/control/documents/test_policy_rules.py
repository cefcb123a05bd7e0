"""AuthorizationPolicy: what is refused as a whole, above all policies that would silently do nothing."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals, warnings

HINT = "attach the policy to a waypoint with targetRefs, or use principals, namespaces, ipBlocks or ports"
TARGET = "{kind: Service, name: web}"

REFUSED = [
    (
        "action: DENY",
        ["4: spec: DENY without `rules` is meaningless as it will never be triggered; add rules: [{}] to match all"],
    ),
    (
        "action: DENY\nrules: []",
        ["4: spec: DENY without `rules` is meaningless as it will never be triggered; add rules: [{}] to match all"],
    ),
    (
        "action: REFUSE",
        ["5: spec.action: input should be 'ALLOW', 'DENY', 'AUDIT' or 'CUSTOM' (got 'REFUSE')"],
    ),
    (
        "action: CUSTOM\nrules: [{}]",
        [
            "4: spec.provider.name: CUSTOM needs the name of a provider",
            (
                "5: spec.action: CUSTOM would silently do nothing: only a waypoint asks external authorizers; "
                "attach it with targetRefs"
            ),
        ],
    ),
    (
        "provider: {name: x}",
        ["5: spec.provider: only CUSTOM has a provider, the action is ALLOW"],
    ),
    (
        f"selector: {{matchLabels: {{a: b}}}}\ntargetRefs: [{TARGET}]",
        ["5: spec.selector: only one of targetRefs or selector can be set"],
    ),
    (
        f"targetRef: {TARGET}\ntargetRefs: [{TARGET}]",
        ["5: spec.targetRef: only one of targetRef or targetRefs can be set"],
    ),
    ("targetRefs: []", ["5: spec.targetRefs: empty: name a target or remove the field"]),
    (
        "targetRefs:\n- {kind: Service, name: ''}\n- {kind: Pod, name: a}\n- {kind: Service, name: a, namespace: b}",
        [
            "6: spec.targetRefs[0].name: the target's name is empty",
            (
                "7: spec.targetRefs[1].kind: cannot be attached to 'Pod' of group ''; "
                "allowed: Gateway, GatewayClass, Service, ServiceEntry"
            ),
            "8: spec.targetRefs[2].namespace: targets in other namespaces are not supported; remove the field",
        ],
    ),
    (
        "selector: {matchLabels: {'': b, c: '*'}}",
        [
            "5: spec.selector.matchLabels.: the key is empty",
            "5: spec.selector.matchLabels.c: wildcards are not supported in a selector; name the label's exact value",
        ],
    ),
]


@pytest.mark.parametrize(("spec", "complaints"), REFUSED)
def test_refused(spec: str, complaints: list[str]) -> None:
    """Istio's rules about the whole policy."""
    assert refusals(document("AuthorizationPolicy", spec)) == complaints


DEAD = [
    (
        "action: DENY\nrules:\n- to: [{operation: {methods: [GET]}}]",
        (
            f"7: spec.rules[0]: the rule would silently deny nothing: it has only HTTP attributes (methods), "
            f"which no agent sees; {HINT}"
        ),
    ),
    (
        "action: DENY\nrules:\n- from: [{source: {namespaces: [a]}}]\n- from: [{source: {requestPrincipals: ['*']}}]",
        (
            f"8: spec.rules[1]: the rule would silently deny nothing: it has only HTTP attributes (requestPrincipals), "
            f"which no agent sees; {HINT}"
        ),
    ),
    (
        "action: DENY\nrules:\n- when: [{key: 'request.headers[x]', values: [a]}]",
        (
            f"7: spec.rules[0]: the rule would silently deny nothing: it has only HTTP attributes "
            f"(request.headers[x]), which no agent sees; {HINT}"
        ),
    ),
    (
        "action: DENY\nrules:\n- from: [{source: {namespaces: [a]}}, {source: {remoteIpBlocks: [10.0.0.1]}}]",
        (
            f"7: spec.rules[0]: the rule would silently deny nothing: it has only HTTP attributes (remoteIpBlocks), "
            f"which no agent sees; {HINT}"
        ),
    ),
    (
        "rules:\n- to: [{operation: {paths: [/a]}}]",
        (
            f"5: spec.rules: every rule needs HTTP (paths), which no agent sees: "
            f"the policy would deny all TCP traffic; {HINT}"
        ),
    ),
]


@pytest.mark.parametrize(("spec", "complaint"), DEAD)
def test_a_policy_that_would_not_do_what_it_says_is_refused(spec: str, complaint: str) -> None:
    """A DENY of HTTP attributes alone protects nothing, an ALLOW of them alone cuts everything."""
    assert refusals(document("AuthorizationPolicy", spec)) == [complaint]


@pytest.mark.parametrize("spec", [spec for spec, _ in DEAD])
def test_at_a_waypoint_http_attributes_are_fine(spec: str) -> None:
    """There somebody sees them."""
    assert refusals(document("AuthorizationPolicy", f"targetRefs: [{TARGET}]\n{spec}")) == []


WARNED = [
    ("{}", []),
    ("rules: [{}]", []),
    (
        "selector: {matchLabels: {}}",
        [
            (
                "5: spec.selector: selects by no label: the policy applies to the whole namespace. "
                "Remove the selector to say so plainly"
            )
        ],
    ),
    (f"targetRefs: [{TARGET}]", []),
    (
        "action: AUDIT\nrules: [{}]",
        ["5: spec.action: AUDIT has no effect: only a waypoint audits; attach it with targetRefs"],
    ),
    (
        "rules:\n- from: [{source: {namespaces: [a]}}]\n- to: [{operation: {hosts: [a]}}]",
        [
            (
                "7: spec.rules[1]: the rule is left out, it needs HTTP (hosts), which no agent sees: "
                f"more is denied than you ask; {HINT}"
            )
        ],
    ),
    (
        "action: DENY\nrules:\n- from: [{source: {namespaces: [a]}}]\n  to: [{operation: {paths: [/a]}}]",
        [
            (
                "7: spec.rules[0]: enforced without its HTTP attributes (paths), which no agent sees: "
                f"more is denied than you ask; {HINT}"
            )
        ],
    ),
]


@pytest.mark.parametrize(("spec", "said"), WARNED)
def test_warned(spec: str, said: list[str]) -> None:
    """What is enforced otherwise than it is written."""
    assert warnings(document("AuthorizationPolicy", spec)) == said


@pytest.mark.parametrize(
    ("value", "action", "complaint"),
    [
        ("'yes'", "ALLOW", 'must be "true" or "false" (got \'yes\')'),
        ("'true'", "AUDIT", "AUDIT has no dry run; only ALLOW and DENY have"),
        ("'true'", "ALLOW", None),
    ],
)
def test_dry_run(value: str, action: str, complaint: str | None) -> None:
    """The annotation is text, true or false, and only for what agents enforce."""
    text = document("AuthorizationPolicy", f"action: {action}", f"name: x, annotations: {{istio.io/dry-run: {value}}}")
    expected = [f"3: metadata.annotations.istio.io/dry-run: {complaint}"] if complaint else []
    assert refusals(text) == expected
