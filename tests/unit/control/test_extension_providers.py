"""Istio's extensionProviders in control-plane.yaml: the words of its mesh config, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.config import load
from hostmesh.model.telemetry import AccessLog
from hostmesh.model.waypoint import CheckedBody, ExtAuthz

FULL = """
extensionProviders:
- name: opa
  envoyExtAuthzGrpc:
    service: default/opa.default.svc.cluster.local
    port: 9191
    timeout: 1.5s
    failOpen: true
    clearRouteCache: true
    statusOnError: "503"
    includeRequestBodyInCheck: {maxRequestBytes: 4096, allowPartialMessage: true, packAsBytes: true}
- name: oauth2-proxy
  envoyExtAuthzHttp:
    service: 127.0.0.1
    port: 4180
    pathPrefix: /auth
    includeRequestHeadersInCheck: [cookie, x-auth-*]
    includeAdditionalHeadersInCheck: {x-mesh: ours}
    headersToUpstreamOnAllow: [authorization]
    headersToDownstreamOnAllow: [set-cookie]
    headersToDownstreamOnDeny: [location, "*-reason"]
- name: short
  envoyFileAccessLog: {path: /dev/stdout, logFormat: {text: "%RESPONSE_CODE%"}}
- name: labelled
  envoyFileAccessLog: {logFormat: {labels: {code: "%RESPONSE_CODE%"}}}
"""


def test_all_fields(tmp_path: Path) -> None:
    """All kinds; what is left out is as in Istio: ten minutes, closed, 403."""
    path = tmp_path / "c.yaml"
    path.write_text(FULL)
    mesh = load(path).mesh
    assert mesh.access_logs == (
        AccessLog("short", text="%RESPONSE_CODE%"),
        AccessLog("labelled", labels=(("code", "%RESPONSE_CODE%"),)),
    )
    assert mesh.authorizers == (
        ExtAuthz(
            "opa",
            "opa.default.svc.cluster.local",
            9191,
            grpc=True,
            timeout=1.5,
            fail_open=True,
            clear_route_cache=True,
            status_on_error=503,
            body=CheckedBody(4096, partial=True, as_bytes=True),
        ),
        ExtAuthz(
            "oauth2-proxy",
            "127.0.0.1",
            4180,
            timeout=600.0,
            status_on_error=403,
            path_prefix="/auth",
            include_headers=("cookie", "x-auth-*"),
            additional_headers=(("x-mesh", "ours"),),
            upstream_headers=("authorization",),
            downstream_headers=("set-cookie",),
            denied_headers=("location", "*-reason"),
        ),
    )


@pytest.mark.parametrize(
    ("provider", "complaint"),
    [
        ("{name: a}", "2: extensionProviders[0]: needs exactly one of envoyExtAuthzHttp, envoyExtAuthzGrpc and"),
        ("{name: a, envoyFileAccessLog: {path: /var/log/x}}", "2: extensionProviders[0].envoyFileAccessLog.path: "),
        (
            "{name: a, envoyFileAccessLog: {logFormat: {text: x, labels: {a: b}}}}",
            "2: extensionProviders[0].envoyFile",
        ),
        ("{name: a, envoyExtAuthzHttp: {service: x}}", "2: extensionProviders[0].envoyExtAuthzHttp.port: required"),
        (
            "{name: a, envoyExtAuthzHttp: {service: a b, port: 1}}",
            "2: extensionProviders[0].envoyExtAuthzHttp.service: 'a b' is neither a host name",
        ),
        (
            "{name: a, envoyExtAuthzGrpc: {service: a.b, port: 1, timeout: soon}}",
            "2: extensionProviders[0].envoyExtAuthzGrpc.timeout: 'soon' is not a duration",
        ),
        (
            "{name: a, envoyExtAuthzGrpc: {service: a.b, port: 1, pathPrefix: /a}}",
            "2: extensionProviders[0].envoyExtAuthzGrpc.pathPrefix: unknown field",
        ),
        (
            "{name: a, envoyExtAuthzGrpc: {service: a.b, port: 1, statusOnError: '42'}}",
            "2: extensionProviders[0].envoyExtAuthzGrpc.statusOnError: '42' is not an HTTP status",
        ),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.b, port: 1, pathPrefix: a}}",
            "2: extensionProviders[0].envoyExtAuthzHttp.pathPrefix: 'a' must begin with a slash",
        ),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.b, port: 1, headersToUpstreamOnAllow: [a*b]}}",
            "2: extensionProviders[0].envoyExtAuthzHttp.headersToUpstreamOnAllow[0]: 'a*b' is not a header's name",
        ),
        (
            "\n- ".join(f"{{name: a, envoyExtAuthzGrpc: {{service: a.b, port: {port}}}}}" for port in (1, 2)),
            "1: extensionProviders: 'a' is there twice",
        ),
    ],
)
def test_mistakes(tmp_path: Path, provider: str, complaint: str) -> None:
    """File, line, field, reason."""
    path = tmp_path / "c.yaml"
    path.write_text(f"extensionProviders:\n- {provider}\n")
    with pytest.raises(InvalidYaml) as caught:
        load(path)
    assert str(caught.value.problems[0]).removeprefix(f"{path}:").startswith(complaint), caught.value
