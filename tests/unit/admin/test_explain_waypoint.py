"""What is said of a connection through a waypoint: by documents, as a user writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.documents import document
from tests.unit.control.translate.test_waypoints import GATEWAY, INSTANCE, SERVICE, WEB

from hostmesh.admin.explain import Explanation, explain
from hostmesh.admin.explain_waypoint import Asked
from hostmesh.admin.world import WaypointView
from hostmesh.cli.documents_world import from_documents
from hostmesh.telemetry.reasons import Reason

SLEEP = document(
    "WorkloadEntry",
    "address: 10.0.0.2\nserviceAccount: sleep",
    "name: sleep, labels: {hostmesh.io/node: n2, app: sleep}",
)
TARGET = "targetRefs: [{group: '', kind: Service, name: web}]\n"
GET_ONLY = document(
    "AuthorizationPolicy",
    f"{TARGET}rules: [{{from: [{{source: {{serviceAccounts: [sleep]}}}}], to: [{{operation: {{methods: [GET]}}}}]}}]",
    "name: get-only",
)
NO_ADMIN = document(
    "AuthorizationPolicy",
    f"{TARGET}action: DENY\nrules: [{{to: [{{operation: {{paths: ['/admin*']}}}}]}}]",
    "name: no-admin",
)
ROUTE = document(
    "HTTPRoute",
    """
    parentRefs: [{group: "", kind: Service, name: web}]
    rules:
    - matches: [{path: {value: /v2}}]
      backendRefs: [{name: other, port: 80}]
    - matches: [{path: {value: /v1}}]
      backendRefs: [{name: web, port: 80}]
    """,
    "name: routes",
)
AT_WEB = document(
    "AuthorizationPolicy",
    "selector: {matchLabels: {app: web}}\nrules: [{from: [{source: {serviceAccounts: [sleep]}}]}]",
    "name: only-sleep",
)
GOOD = (GATEWAY, INSTANCE, WEB, SERVICE, SLEEP)


def ask(tmp_path: Path, *more: str, asked: Asked | None = None) -> Explanation:
    file = tmp_path / "documents.yaml"
    file.write_text("---\n".join((*GOOD, *more)))
    return explain(
        from_documents([str(file)]), "default/sleep", "web.default.svc.cluster.local", 80, 0.0, asked=asked or Asked()
    )


def said(found: Explanation, about: str) -> str:
    return " | ".join(step.text for step in found.steps if step.about == about)


def test_which_waypoint_and_why(tmp_path: Path) -> None:
    """Its Gateway, who it is, and the label that names it, with its place."""
    found = ask(tmp_path)
    assert found.allowed
    text = said(found, "waypoint")
    assert text.startswith(
        "default/wp as spiffe://cluster.local/ns/default/sa/wp, because Service default/web says so ("
    )
    assert "documents.yaml:" in text
    assert said(found, "L7 route") == "its own endpoints: web.default.svc.cluster.local:80, 1 endpoint"
    assert said(found, "endpoint") == "default/web1, which is called by the waypoint"


def test_a_waypoint_of_this_host_says_how_it_is(tmp_path: Path) -> None:
    """One that is not ready is odd."""
    import dataclasses

    file = tmp_path / "documents.yaml"
    file.write_text("---\n".join(GOOD))
    world = dataclasses.replace(
        from_documents([str(file)]), waypoints={"default/wp": WaypointView(False, "not ready, envoy is DOWN")}
    )
    found = explain(world, "default/sleep", "web.default.svc.cluster.local", 80, 0.0)
    assert [step.weight for step in found.steps if "envoy is DOWN" in step.text] == ["odd"]


@pytest.mark.parametrize(
    ("asked", "allowed", "text"),
    [
        (Asked("GET", "/"), True, "allowed: ALLOW default/get-only, rule 0, matches"),
        (Asked("POST", "/"), False, "refused with 403: no rule of default/get-only allows it"),
        (Asked("GET", "/admin/x?y"), False, "refused with 403: DENY default/no-admin, rule 0, matches"),
        (Asked(), True, "open: DENY default/no-admin depends on the request"),
        (Asked(path="/"), True, "open: ALLOW default/get-only depends on the request"),
    ],
)
def test_the_rule_that_decides(tmp_path: Path, asked: Asked, allowed: bool, text: str) -> None:
    """With its place; and what is not said leaves it open."""
    found = ask(tmp_path, GET_ONLY, NO_ADMIN, asked=asked)
    assert found.allowed is allowed
    assert said(found, "L7 rule").startswith(text)
    assert "documents.yaml:" in said(found, "L7 rule")
    if not allowed:
        assert found.reason in (Reason.POLICY_DENIED, Reason.POLICY_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("path", "allowed", "text"),
    [
        ("/v1/x", True, "default/routes"),
        ("/v2", False, "default/routes"),
        ("/v3", False, "no route of web.default.svc.cluster.local:80 takes the request: 404"),
        (None, True, "or a later one; say which request with --method, --path and --header"),
    ],
)
def test_the_route_that_is_chosen(tmp_path: Path, path: str | None, allowed: bool, text: str) -> None:
    """With its backends; a missing one has no endpoint."""
    found = ask(tmp_path, ROUTE, asked=Asked(path=path))
    assert found.allowed is allowed
    assert text in said(found, "L7 route")
    assert path != "/v3" or found.reason is Reason.NO_ROUTE


def test_endpoints_see_the_waypoint_as_their_caller(tmp_path: Path) -> None:
    """The trap of ambient: an ALLOW at the workload that names the client refuses what the waypoint brings."""
    found = ask(tmp_path, AT_WEB)
    assert not found.allowed
    assert found.reason is Reason.POLICY_NOT_ALLOWED
