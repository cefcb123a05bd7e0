"""Which Telemetry documents hold for a service of a waypoint: Istio's precedence."""

from __future__ import annotations

from tests.support.documents import document, objects
from tests.unit.control.translate.test_waypoints import GATEWAY, INSTANCE, SERVICE, WEB

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Translation, translate
from hostmesh.model.telemetry import UNCHANGED, AccessLog, MetricChange, Telemetry

CUSTOM = AccessLog("custom", text="%RESPONSE_CODE%")
MESH = MeshConfig(access_logs=(CUSTOM,))
ROOT = "namespace: istio-system"
OLD = "creationTimestamp: '2020-01-01T00:00:00Z'"
TO_GATEWAY = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]\n"
TO_SERVICE = "targetRefs: [{group: '', kind: Service, name: web}]\n"


def telemetry(spec: str, metadata: str = "name: t") -> str:
    return document("Telemetry", spec, metadata)


def told(*texts: str) -> Translation:
    return translate(objects(GATEWAY, INSTANCE, WEB, SERVICE, *texts), MESH)


def said(*texts: str) -> Telemetry:
    (program,) = told(*texts).waypoints
    return program.services[0].telemetry


def logs(*providers: str, rest: str = "") -> str:
    names = ", ".join(f"{{name: {name}}}" for name in providers)
    return f"accessLogging: [{{providers: [{names}]{rest}}}]"


def test_without_documents_every_request_is_logged() -> None:
    """As before there were any."""
    assert said() == UNCHANGED


def test_the_more_special_document_counts() -> None:
    """Mesh, namespace, waypoint, service: each step switches off, and the next one on again."""
    off, on = "accessLogging: [{disabled: true}]", logs("custom")
    steps = [
        telemetry(off, f"name: mesh, {ROOT}"),
        telemetry(on, "name: namespace"),
        telemetry(TO_GATEWAY + logs("custom", rest=", disabled: true"), "name: waypoint"),
        telemetry(TO_SERVICE + logs("envoy"), "name: service"),
    ]
    expected = [(), (CUSTOM,), (), (AccessLog(),)]
    for number, logged in enumerate(expected, 1):
        assert said(*steps[:number]).logs == logged
    (program,) = told(*steps).waypoints
    assert program.telemetry.logs == ()  # workloads that are served by address: the waypoint's word


def test_who_names_no_provider_means_those_that_hold_already() -> None:
    """A filter is added to them; the connection is the one that the tunnel proves."""
    text = "accessLogging: [{filter: {expression: connection.uri_san_peer_certificate == 'a'}}]"
    (log,) = said(telemetry(logs("custom"), f"name: m, {ROOT}"), telemetry(text)).logs
    assert (log.provider, log.text) == ("custom", CUSTOM.text)
    assert log.filter == "string(filter_state['io.istio.peer_principal']) == 'a'"


def test_a_waypoint_is_called_and_calls_nobody() -> None:
    """What is said of clients is not said of it."""
    assert said(telemetry("accessLogging: [{match: {mode: CLIENT}, disabled: true}]")) == UNCHANGED
    assert said(telemetry("accessLogging: [{match: {mode: SERVER}, disabled: true}]")).logs == ()
    assert said(telemetry("metrics: [{overrides: [{match: {mode: CLIENT}, disabled: true}]}]")) == UNCHANGED


def test_changes_of_metrics_add_up() -> None:
    """In order, the special ones last."""
    first = "metrics: [{overrides: [{tagOverrides: {host: {value: request.host}, source_app: {operation: REMOVE}}}]}]"
    second = "metrics: [{overrides: [{match: {metric: REQUEST_SIZE}, disabled: true}]}]"
    changes = said(telemetry(first, f"name: m, {ROOT}"), telemetry(TO_SERVICE + second)).metrics
    assert changes == (
        MetricChange(tags=(("host", "request . host"), ("source_app", ""))),
        MetricChange("REQUEST_SIZE", disabled=True),
    )


def test_what_has_no_effect_is_said() -> None:
    """A provider that is not there, and a document that an older one beats."""
    found = told(telemetry(logs("custm")), telemetry("{}", f"name: a, {OLD}")).warnings
    first, second = (str(one).partition(": ")[2] for one in found)
    assert first == "metadata.name: has no effect: Telemetry default/a at doc5.yaml:1 is older and speaks for the same"
    assert second.startswith(
        "spec.accessLogging[0].providers[0].name: there is no access log provider 'custm', nothing"
    )
    assert second.endswith("did you mean 'custom'? allowed: custom, envoy")
    assert said(telemetry(logs("custm"))).logs == ()


def test_agents_log_what_is_not_switched_off() -> None:
    """By mode and by the workload's own document; a filter is for waypoints."""
    off = "accessLogging: [{disabled: true}]"
    clients = telemetry("accessLogging: [{match: {mode: CLIENT}, disabled: true}]", f"name: m, {ROOT}")
    web = "selector: {matchLabels: {app: web}}\n"

    def unlogged(*texts: str) -> dict[str, tuple[str, ...]]:
        return {one.name: one.unlogged for one in told(*texts).workloads}

    assert unlogged() == {"web1": (), "wp1": ()}
    assert unlogged(clients) == {"web1": ("outbound",), "wp1": ("outbound",)}
    assert unlogged(clients, telemetry(web + off)) == {"web1": ("outbound", "inbound"), "wp1": ("outbound",)}
    assert unlogged(telemetry(off), telemetry(web + logs("envoy"), "name: w")) == {
        "web1": (),
        "wp1": ("outbound", "inbound"),
    }
    filtered = told(telemetry("accessLogging: [{filter: {expression: 'true'}}]"))
    assert "for waypoints only: agents evaluate no expressions" in str(filtered.warnings[0])
