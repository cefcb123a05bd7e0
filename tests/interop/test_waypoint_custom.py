"""CUSTOM policies: real authorizers over HTTP and gRPC are asked about what the rules match, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.authorizer import check_request, grpc_authorizer, http_authorizer
from tests.support.behind_waypoint import Services, services
from tests.support.documents import document
from tests.support.http_app import HttpApp
from tests.support.proxy import fresh_ip

from hostmesh.config.strict_yaml import load_documents, parse
from hostmesh.control.config import ControlPlaneConfig

pytestmark = pytest.mark.interop

IN = "x-let: me-in"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as made:
        made.http("web")
        yield made


def configure(mesh: Services, text: str) -> None:
    """As control-plane.yaml says."""
    (written,) = load_documents(f"extensionProviders:\n{text}", "control-plane.yaml")
    mesh.config = replace(mesh.config, authorizers=parse(written, ControlPlaneConfig).mesh.authorizers)


def custom(provider: str, name: str = "ask", paths: str = "/admin*") -> str:
    return document(
        "AuthorizationPolicy",
        "targetRefs: [{group: '', kind: Service, name: web}]\naction: CUSTOM\n"
        f"provider: {{name: {provider}}}\nrules: [{{to: [{{operation: {{paths: ['{paths}']}}}}]}}]",
        f"name: {name}",
    )


def test_over_http(mesh: Services) -> None:
    """It is told method, path, the named headers and the caller; what it answers goes where the provider says."""
    with http_authorizer(fresh_ip()) as authorizer:
        configure(
            mesh,
            f"""
- name: gate
  envoyExtAuthzHttp:
    service: {authorizer.ip}
    port: {authorizer.port}
    timeout: 5s
    pathPrefix: /check
    includeRequestHeadersInCheck: [x-let, x-trace-*]
    includeAdditionalHeadersInCheck: {{x-mesh: ours}}
    headersToUpstreamOnAllow: [x-judged]
    headersToDownstreamOnDeny: [x-judged]
""",
        )
        with mesh.waypoint(custom("gate")) as front:
            assert front.ask("web", "GET /open").brief == (200, "web")
            assert authorizer.asked.empty()
            allowed = front.ask("web", "POST /admin/a", IN, "x-trace-id: 7", "x-other: 1")
            assert allowed.brief == (200, "web")
            assert allowed.asked is not None
            assert allowed.asked.headers["x-judged"] == "http"
            asked = authorizer.next()
            assert (asked.method, asked.path) == ("POST", "/check/admin/a")
            names = ("x-let", "x-trace-id", "x-mesh", "x-other", "x-forwarded-client-cert")
            caller = "URI=spiffe://cluster.local/ns/default/sa/alice"
            assert [asked.headers.get(name) for name in names] == ["me-in", "7", "ours", None, caller]
            denied = front.ask("web", "GET /admin", "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/a/sa/b")
            assert (denied.status, denied.headers["x-judged"]) == (403, "http")
            assert authorizer.next().headers["x-forwarded-client-cert"] == caller
        assert not authorizer.failures


def test_over_grpc(mesh: Services) -> None:
    """With Envoy's own service; the answer's status and body reach the caller, its headers the application."""
    with grpc_authorizer(fresh_ip()) as authorizer:
        configure(
            mesh,
            f"""
- name: gate
  envoyExtAuthzGrpc:
    service: {authorizer.ip}
    port: {authorizer.port}
    includeRequestBodyInCheck: {{maxRequestBytes: 64, allowPartialMessage: true}}
""",
        )
        with mesh.waypoint(custom("gate")) as front:
            allowed = front.ask("web", "GET /admin/a", IN)
            assert allowed.brief == (200, "web")
            assert allowed.asked is not None
            assert allowed.asked.headers["x-judged"] == "grpc"
            called = authorizer.next()
            request = check_request(called.message)
            assert (request.method, request.path, request.headers["x-let"]) == ("GET", "/admin/a", "me-in")
            caller = "URI=spiffe://cluster.local/ns/default/sa/alice"
            assert called.metadata["x-forwarded-client-cert"] == caller
            assert front.ask("web", "GET /admin").status == 418
            assert front.ask("web", "GET /").brief == (200, "web")


def test_an_authorizer_that_is_not_there(mesh: Services) -> None:
    """403, or what the provider says, unless the provider says that it may fail open; so does an unknown provider."""
    nowhere = fresh_ip()
    configure(
        mesh,
        f"""
- name: closed
  envoyExtAuthzHttp: {{service: {nowhere}, port: 9, timeout: 1s}}
- name: busy
  envoyExtAuthzGrpc: {{service: {nowhere}, port: 9, timeout: 1s, statusOnError: "503"}}
- name: open
  envoyExtAuthzGrpc: {{service: {nowhere}, port: 9, timeout: 1s, failOpen: true}}
""",
    )
    policies = [custom(name, name, f"/{name}") for name in ("closed", "busy", "open", "unknown")]
    with mesh.waypoint(*policies) as front:
        paths = {"/closed": 403, "/busy": 503, "/open": 200, "/unknown": 403, "/": 200}
        assert {path: front.ask("web", f"GET {path}", IN).status for path in paths} == paths


def test_an_authorizer_inside_the_mesh_is_asked_through_hbone(mesh: Services) -> None:
    """Under the waypoint's identity, wherever its endpoints are; nobody else has to be able to reach it."""
    with http_authorizer(mesh.mesh.ip) as authorizer:
        mesh.at("gate", authorizer.port, behind="")
        service = "default/gate.default.svc.cluster.local"
        headers = "includeRequestHeadersInCheck: [x-let]"
        configure(mesh, f"- name: gate\n  envoyExtAuthzHttp: {{service: {service}, port: 80, {headers}}}\n")
        with mesh.waypoint(custom("gate")) as front:
            assert front.ask("web", "GET /admin", IN).brief == (200, "web")
            assert front.ask("web", "GET /admin").status == 403
            records = mesh.mesh.server.main.wait_logs(3)
            assert {dict(one.fields)["src.identity"] for one in records} == {
                "spiffe://cluster.local/ns/default/sa/waypoint"
            }


def test_a_port_without_requests_is_closed_where_an_authorizer_would_have_to_decide(mesh: Services) -> None:
    """There is nothing to ask about; Istio's waypoints let it pass with an authorizer over HTTP."""
    with HttpApp(mesh.mesh.ip, "raw") as app:
        mesh.at("raw", app.port, port_name="tcp")
        configure(mesh, f"- name: gate\n  envoyExtAuthzHttp: {{service: {fresh_ip()}, port: 9}}\n")
        policy = custom("gate").replace("name: web}", "name: raw}")
        with mesh.waypoint(policy) as front:
            assert front.client().tunnel(f"{mesh.vips['raw']}:80")[1] == 403
            assert app.accepted == 0
