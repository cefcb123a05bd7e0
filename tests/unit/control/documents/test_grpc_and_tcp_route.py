"""What GRPCRoutes and TCPRoutes of the mesh must obey."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals, warnings

PARENT = "parentRefs: [{group: '', kind: Service, name: web}]\n"
BACKEND = "backendRefs: [{name: web, port: 80}]"
MIRROR = "{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (
            f"{{matches: [{{method: {{}}}}], {BACKEND}}}",
            "7: spec.rules[0].matches[0].method: names neither a service nor a method",
        ),
        (
            f"{{matches: [{{method: {{service: a/b}}}}], {BACKEND}}}",
            "7: spec.rules[0].matches[0].method.service: 'a/b' is not the name of a gRPC service",
        ),
        (
            f"{{matches: [{{method: {{type: RegularExpression, method: '('}}}}], {BACKEND}}}",
            "7: spec.rules[0].matches[0].method.method: '(' is not a regular expression",
        ),
        (
            f"{{filters: [{{type: URLRewrite, urlRewrite: {{}}}}], {BACKEND}}}",
            "7: spec.rules[0].filters[0].type: URLRewrite is not supported for a GRPCRoute; it takes RequestHeaderM",
        ),
        (
            f"{{backendRefs: [{{name: web, port: 80, filters: [{MIRROR}]}}]}}",
            "7: spec.rules[0].backendRefs[0].filters[0].type: RequestMirror is not supported for a backend",
        ),
        (f"{{timeouts: {{}}, {BACKEND}}}", "7: spec.rules[0].timeouts: unknown field"),
        ("{backendRefs: [{name: web}]}", "7: spec.rules[0].backendRefs[0].port: port is required in backendRef"),
    ],
)
def test_grpc_refused(rule: str, complaint: str) -> None:
    """With line and field."""
    assert refusals(document("GRPCRoute", f"{PARENT}rules:\n- {rule}", "name: r"))[0].startswith(complaint)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (f"{PARENT}rules: [{{}}]", "6: spec.rules[0].backendRefs: required"),
        (f"{PARENT}rules: []", "6: spec.rules: "),
        (f"{PARENT}rules: [{{backendRefs: [{{name: web}}]}}]", "6: spec.rules[0].backendRefs[0].port: port is requi"),
        (f"parentRefs: [{{name: wp}}]\nrules: [{{{BACKEND}}}]", "5: spec.parentRefs[0].kind: unsupported parent"),
    ],
)
def test_tcp_refused(spec: str, complaint: str) -> None:
    """With line and field."""
    assert refusals(document("TCPRoute", spec, "name: r"))[0].startswith(complaint)


def test_what_has_no_effect_is_said() -> None:
    """And the document passes."""
    tcp = document("TCPRoute", f"{PARENT}rules: [{{{BACKEND}}}, {{{BACKEND}}}]", "name: r")
    assert warnings(tcp) == ["6: spec.rules[1]: without effect: the first rule takes every connection"]
    grpc = document("GRPCRoute", f"{PARENT}hostnames: [a.b]\nrules: [{{}}]", "name: r")
    assert [text.partition(": ")[2].partition(":")[0] for text in warnings(grpc)] == ["spec.hostnames", "spec.rules[0]"]
