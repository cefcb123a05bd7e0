"""The operator's socket, spoken to as the CLI does: answers, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document

from hostmesh.cli.client import Client, RequestRefused

ENTRY = document(
    "WorkloadEntry",
    "address: 10.0.0.1\nserviceAccount: a\nports: {http: 80}",
    "name: a, labels: {hostmesh.io/node: n, app: a}",
)
SERVICE = document("Service", "selector: {app: a}\nports: [{port: 80}]", "name: a")
NOTHING = document("AuthorizationPolicy", "{}", "name: nothing")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningControlPlane]:
    with control_plane(tmp_path_factory.mktemp("cp")) as running:
        (running.documents / "two.yaml").write_text(ENTRY + "---\n" + SERVICE)
        apply(running.client, NOTHING)
        yield running


def apply(client: Client, *texts: str, dry_run: bool = False) -> dict[str, Any]:
    return client.apply([{"source": f"in{n}.yaml", "text": text} for n, text in enumerate(texts)], dry_run=dry_run)


def test_objects(running: RunningControlPlane) -> None:
    """As they were written, with the place."""
    (found,) = running.client.objects("WorkloadEntry", None, None)
    assert (found["namespace"], found["name"]) == ("default", "a")
    assert found["object"]["spec"]["ports"] == {"http": 80}
    assert found["where"] == f"{running.documents}/two.yaml:1"
    assert running.client.objects("WorkloadEntry", "other", None) == []


def test_mesh(running: RunningControlPlane) -> None:
    """What agents are told, in ztunnel's words."""
    mesh = running.client.mesh()
    assert [workload["name"] for workload in mesh["workloads"]] == ["a"]
    assert mesh["services"][0]["endpoints"] == {
        "Kubernetes/networking.istio.io/WorkloadEntry/default/a": {
            "workloadUid": "Kubernetes/networking.istio.io/WorkloadEntry/default/a",
            "port": {"80": 80},
            "status": "Healthy",
        }
    }
    assert [policy["name"] for policy in mesh["policies"]] == ["nothing"]


def test_a_dry_run_and_a_diff_change_nothing(running: RunningControlPlane) -> None:
    """Both tell what would."""
    new = NOTHING.replace("nothing", "other")
    assert [o["action"] for o in apply(running.client, new, dry_run=True)["outcomes"]] == ["created"]
    (outcome,) = running.client.diff([{"source": "x", "text": new}])["outcomes"]
    assert outcome["diff"].startswith("--- /dev/null\n+++ new/AuthorizationPolicy default/other\n")
    assert [o["name"] for o in running.client.objects("AuthorizationPolicy", None, None)] == ["nothing"]


def test_create_and_delete(running: RunningControlPlane) -> None:
    """And the audit log knows who asked."""
    assert apply(running.client, NOTHING.replace("nothing", "b"))["outcomes"][0]["action"] == "created"
    assert running.client.delete("AuthorizationPolicy", "default", "b", dry_run=False)["outcomes"][0]["name"] == "b"
    events = [json.loads(line) for line in (running.directory / "state" / "audit.log").read_text().splitlines()]
    assert [(event["event"], "uid" in event) for event in events][-2:] == [("apply", True), ("delete", True)]


def test_tokens(running: RunningControlPlane) -> None:
    """One for each call, never the same."""
    first, second = running.client.token("mesh2", 60), running.client.token("mesh2", 60)
    assert first["node"] == "mesh2"
    assert first["token"] != second["token"]


REFUSED: list[tuple[Callable[[Client], object], str]] = [
    (
        lambda client: apply(client, ENTRY.replace("address", "adress")),
        (
            "in0.yaml:5: spec.adress: unknown field; did you mean 'address'? allowed: address, labels, locality, "
            "network, ports, serviceAccount, weight\nnot valid; nothing was changed"
        ),
    ),
    (
        lambda client: client.delete("Service", "default", "a", dry_run=False),
        "Service default/a shares {documents}/two.yaml with 1 other objects; remove it from that file",
    ),
    (
        lambda client: client.objects("Service", "x", "web"),
        "Service 'web' is not there in namespace x; `hostmesh get service` lists what is",
    ),
    (
        lambda client: client.objects("Servic", None, None),
        "unknown kind 'Servic'; did you mean 'Service'? allowed: AuthorizationPolicy, ",
    ),
    (lambda client: client.token("a b", 60), "'a b' is not a node name"),
    (lambda client: client.token("a", 0), "a join token lives 1 s to 604800 s, not 0 s"),
    (lambda client: client._request("POST", "/v1/apply", {"file": []}), "request:1: files: required, but missing"),
]


@pytest.mark.parametrize(("ask", "why"), REFUSED)
def test_refusals(running: RunningControlPlane, ask: Callable[[Client], object], why: str) -> None:
    """What, why and what to do next."""
    with pytest.raises(RequestRefused) as raised:
        ask(running.client)
    assert str(raised.value).startswith(why.format(documents=running.documents))


def test_status(running: RunningControlPlane) -> None:
    """Where it is, how much is live and what is wrong."""
    status = running.client.status()
    assert (status["port"], status["trustDomain"], status["nodes"]) == (running.port, "cluster.local", [])
    assert status["documents"]["objects"] == 3
    assert status["documents"]["problems"] == []
    assert Path(status["rootCert"]).is_file()
