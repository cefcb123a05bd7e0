"""What a waypoint says about traffic: Istio's metrics and access logs, from a real Envoy under real requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.interop.test_waypoint import VIP, WEB, greeter, http_app, program
from tests.support.pki import ALICE, BOB
from tests.support.proxy import App, Mesh
from tests.support.waypoint import RunningWaypoint, waypoint

from hostmesh.model.telemetry import AccessLog, MetricChange, Telemetry
from hostmesh.model.waypoint import (
    AppProtocol,
    L7Action,
    L7Policy,
    L7Rule,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.waypoint.doors import OURS
from hostmesh.waypoint.exposition import exposition

pytestmark = pytest.mark.interop

BAGGAGE = (
    "k8s.cluster.name=Kubernetes,k8s.namespace.name=lies,k8s.deployment.name=sleep,service.name=nap,service.version=v7"
)
NO_POST = L7Policy("no-post", "default", L7Action.DENY, (L7Rule((), ({"methods": ("POST",)},)),))

REQUESTS = "istio_requests_total"

Labels = dict[str, str]


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as made:
        yield made


def bob(mesh: Mesh, app: App) -> WaypointEndpoint:
    return WaypointEndpoint(
        mesh.ip, app.port, str(BOB), "bob-1", "default", owner="bob", service="bob-svc", revision="v2", cluster="K"
    )


def said(made: WaypointProgram, telemetry: Telemetry) -> WaypointProgram:
    return replace(made, services=tuple(replace(one, telemetry=telemetry) for one in made.services))


def samples(running: RunningWaypoint, name: str) -> list[tuple[Labels, float]]:
    text = exposition(running.get(OURS))
    families = text_string_to_metric_families(text)
    return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]


def lines(running: RunningWaypoint) -> list[str]:
    return [line for line in running.log.read_text().splitlines() if not line.startswith("[")]


def test_requests_are_counted_under_istios_names(mesh: Mesh, tmp_path: Path) -> None:
    """Both ends with their canonical names; the caller's namespace is the proven one, and a refusal has no endpoint."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (bob(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port, policies=(NO_POST,))) as running:
            alice = running.client(ALICE)
            alice.baggage = BAGGAGE
            for _ in range(3):
                assert alice.ask(f"{VIP}:80").status == 200
            assert alice.ask(f"{VIP}:80", "POST / HTTP/1.1", "content-length: 0").status == 403
            running.until(lambda: len(samples(running, REQUESTS)) == 2)
            by_code = {labels["response_code"]: (labels, value) for labels, value in samples(running, REQUESTS)}
            (ok, count), (refused, _) = by_code["200"], by_code["403"]
            assert count == 3
            assert ok == {
                "reporter": "waypoint",
                "source_workload": "sleep",
                "source_canonical_service": "nap",
                "source_canonical_revision": "v7",
                "source_workload_namespace": "default",
                "source_principal": str(ALICE),
                "source_app": "nap",
                "source_version": "v7",
                "source_cluster": "Kubernetes",
                "destination_service": WEB,
                "destination_service_namespace": "default",
                "destination_service_name": WEB,
                "destination_workload": "bob",
                "destination_canonical_service": "bob-svc",
                "destination_canonical_revision": "v2",
                "destination_workload_namespace": "default",
                "destination_principal": str(BOB),
                "destination_app": "bob-svc",
                "destination_version": "v2",
                "destination_cluster": "K",
                "connection_security_policy": "mutual_tls",
                "request_protocol": "http",
                "response_code": "200",
                "response_flags": "-",
            }
            assert refused["response_code"] == "403"
            assert refused["destination_workload"] == "unknown"
            for name in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"):
                running.until(lambda name=name: [sum(v for _, v in samples(running, f"{name}_count"))] == [4])
            answered = [value for labels, value in samples(running, "istio_response_bytes_sum") if labels == ok]
            assert answered == [pytest.approx(3 * len("web GET / HTTP/1.1"), rel=0.1)]


def test_a_peer_cannot_make_series_without_end(mesh: Mesh, tmp_path: Path) -> None:
    """Baggage is cut, and a caller that says nothing is unknown."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (bob(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            for baggage in ("", "nonsense", f'k8s.deployment.name={"x" * 300},service.name="}} 1'):
                alice = running.client(ALICE)
                alice.baggage = baggage
                assert alice.ask(f"{VIP}:80").status == 200
            running.until(lambda: sum(value for _, value in samples(running, REQUESTS)) == 3)
            workloads = {labels["source_workload"] for labels, _ in samples(running, REQUESTS)}
            assert workloads == {"unknown", "x" * 63}


def test_counters_go_on_when_the_configuration_changes(mesh: Mesh, tmp_path: Path) -> None:
    """A service more makes new listeners; what was counted stays."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (bob(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            assert running.client(ALICE).ask(f"{VIP}:80").status == 200
            made = program(port)
            more = WaypointService("default", "more.default.svc.cluster.local", ("10.96.0.2",), (port,))
            running.program(replace(made, services=(*made.services, more)))
            running.obeys(2)
            assert running.client(ALICE).ask(f"{VIP}:80").status == 200
            running.until(lambda: [value for _, value in samples(running, REQUESTS)] == [2])


def test_tcp_connections_are_counted_when_they_begin_and_when_they_end(mesh: Mesh, tmp_path: Path) -> None:
    """And their bytes at the end."""
    with mesh.app(greeter) as app:
        port = WaypointPort(25, AppProtocol.TCP, (bob(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            alice = running.client(ALICE)
            stream, _ = alice.tunnel(f"{VIP}:25")
            assert alice.read(stream) == b"220 hello\r\n"
            running.until(lambda: samples(running, "istio_tcp_connections_opened_total"))
            assert not samples(running, "istio_tcp_connections_closed_total")
            alice.peer.send(stream, b"bye", end=True)
            running.until(lambda: samples(running, "istio_tcp_connections_closed_total"))
            ((labels, sent),) = samples(running, "istio_tcp_sent_bytes_total")
            assert (sent, labels["request_protocol"], labels["destination_workload"]) == (11, "tcp", "bob")
            assert [value for _, value in samples(running, "istio_tcp_received_bytes_total")] == [3]
            running.until(lambda: len(lines(running)) == 1)  # the beginning is no line of the log


def test_tags_are_set_and_removed_and_metrics_switched_off(mesh: Mesh, tmp_path: Path) -> None:
    """As Telemetry's overrides say; expressions may contain what ends Envoy's own format."""
    changes = (
        MetricChange(tags=(("request_method", "request.method"), ("source_app", ""))),
        MetricChange(tags=(("who", "filter_state['io.istio.peer_principal']"),)),
        MetricChange("REQUEST_COUNT", tags=(("odd", r"request.path.endsWith( '\x29%' ) ? 'a' : 'b'"),)),
        MetricChange("REQUEST_SIZE", disabled=True),
    )
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (bob(mesh, app),))
        made = said(program(port), Telemetry(metrics=changes))
        with waypoint(tmp_path, mesh.authority, made) as running:
            assert running.client(ALICE).ask(f"{VIP}:80").status == 200
            running.until(lambda: samples(running, "istio_response_bytes_count"))
            ((labels, _),) = samples(running, REQUESTS)
            assert (labels["request_method"], labels["odd"], labels["who"]) == ("GET", "b", str(ALICE))
            assert "source_app" not in labels
            assert not samples(running, "istio_request_bytes_count")


def test_access_logs_as_they_are_asked_for(mesh: Mesh, tmp_path: Path) -> None:
    """A line of text for what a filter lets through, JSON with labels, and our own; none where there is none."""
    logs = (
        AccessLog("text", "%REQ(:METHOD)% %RESPONSE_CODE%", filter="response.code >= 400"),
        AccessLog("json", labels=(("who", "%FILTER_STATE(io.istio.peer_principal:PLAIN)%"),)),
        AccessLog(filter=f"string(filter_state['io.istio.peer_principal']) == '{ALICE}'"),
    )
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (bob(mesh, app),))
        made = said(program(port, policies=(NO_POST,)), Telemetry(logs))
        with waypoint(tmp_path, mesh.authority, made) as running:
            alice = running.client(ALICE)
            assert alice.ask(f"{VIP}:80").status == 200
            assert alice.ask(f"{VIP}:80", "POST / HTTP/1.1", "content-length: 0").status == 403
            running.until(lambda: len(lines(running)) == 5)
            assert "POST 403" in lines(running)
            assert "GET 200" not in lines(running)
            records = [json.loads(line) for line in lines(running) if line.startswith("{")]
            assert sorted(one["response_code"] for one in records if "route" in one) == [200, 403]
            assert [one for one in records if "who" in one] == [{"who": str(ALICE)}] * 2
            running.program(said(program(port), Telemetry(())))
            running.obeys(2)
            assert running.client(ALICE).ask(f"{VIP}:80").status == 200
            running.until(lambda: samples(running, REQUESTS))
            assert len(lines(running)) == 5


def test_a_caller_that_gets_no_tunnel_is_in_the_log(mesh: Mesh, tmp_path: Path) -> None:
    """Who it was by certificate, what it asked for, and the rule; no request is there to be logged."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (bob(mesh, app),))
        only_bob = L7Policy("bob", "default", L7Action.ALLOW, (L7Rule(({"serviceAccounts": ("bob",)},)),))
        with waypoint(tmp_path, mesh.authority, program(port, policies=(only_bob,))) as running:
            alice = running.client(ALICE)
            assert alice.tunnel(f"{VIP}:80")[1] == 403
            assert alice.tunnel("10.96.0.9:80")[1] == 404
            running.until(lambda: len(lines(running)) == 2)
            refused, unknown = (json.loads(line) for line in lines(running))
            assert (refused["src.identity"], refused["authority"]) == (str(ALICE), f"{VIP}:80")
            assert (refused["response_code"], unknown["response_code"]) == (403, 404)
            assert refused["response_code_details"].startswith("rbac_access_denied")
