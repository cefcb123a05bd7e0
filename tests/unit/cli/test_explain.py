"""`hostmesh explain` as somebody uses it: from documents, from a dump, from a line of the log."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.control_plane import control_plane
from tests.support.documents import document

from hostmesh.admin.dump import policy_json, service_json, workload_json
from hostmesh.admin.world import Reach
from hostmesh.cli import main
from hostmesh.cli.client import Client
from hostmesh.cli.documents_world import from_documents
from hostmesh.cli.explain import probe
from hostmesh.cli.journal import inbound_lines
from hostmesh.model.address import SocketAddress
from hostmesh.telemetry.reasons import Reason

MESH = "---\n".join(
    [
        document(
            "WorkloadEntry",
            "address: 10.0.0.1\nserviceAccount: sleep",
            "name: sleep, namespace: prod, labels: {hostmesh.io/node: app1}",
        ),
        document(
            "WorkloadEntry",
            "address: 10.0.0.2\nserviceAccount: web",
            "name: web, namespace: prod, labels: {hostmesh.io/node: app2, app: web}",
        ),
        document(
            "Service",
            "selector: {app: web}\nports: [{name: http, port: 80, targetPort: 8080}]",
            "name: web, namespace: prod",
        ),
        document(
            "AuthorizationPolicy",
            "rules: [{from: [{source: {principals: [cluster.local/ns/prod/sa/batch]}}]}]",
            "name: batch-only, namespace: prod",
        ),
    ]
)


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH, encoding="utf-8")
    return file


def hostmesh(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def test_documents_are_enough(mesh: Path) -> None:
    """Before anything is live; the policy is named with its file and line, the result with its page."""
    result = hostmesh("prod/sleep", "web.prod.svc.cluster.local:80", "-f", str(mesh))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert f"x policy    refused: allow policies exist, but none allowed (prod/batch-only at {mesh}:22)" in lines
    assert lines[-2].startswith("REFUSED  POLICY_NOT_ALLOWED: There are ALLOW policies")
    assert lines[-1].strip() == "docs/reasons/POLICY_NOT_ALLOWED.md"


def dump_of(mesh: Path) -> dict[str, Any]:
    state = from_documents([str(mesh)]).state
    return {
        "workloads": [workload_json(one) for one in state.workloads()],
        "services": [service_json(one, ()) for one in state.services()],
        "policies": [policy_json(one) for one in state.policies()],
        "certificates": [
            {"identity": "spiffe://cluster.local/ns/prod/sa/sleep", "state": "Unavailable: no", "certChain": []}
        ],
    }


def test_a_saved_dump_is_enough(mesh: Path, tmp_path: Path) -> None:
    """With the certificates of the host that it is of; the documents add where policies are written."""
    file = tmp_path / "dump.json"
    file.write_text(json.dumps(dump_of(mesh)), encoding="utf-8")
    result = hostmesh("prod/sleep", "prod/web:80", "--file", str(file), "-f", str(mesh), "-o", "json")
    found = json.loads(result.output)
    assert (found["allowed"], found["reason"]) == (False, "CERTIFICATE_MISSING")
    assert any(f"{mesh}:22" in step["text"] for step in found["steps"])


def test_every_host_knows_who_is_revoked(mesh: Path, tmp_path: Path) -> None:
    """Not only the control plane's: agents are told."""
    file = tmp_path / "dump.json"
    dump = {**dump_of(mesh), "revokedIdentities": ["spiffe://cluster.local/ns/prod/sa/web", "nonsense"]}
    file.write_text(json.dumps(dump), encoding="utf-8")
    found = json.loads(hostmesh("prod/sleep", "prod/web:80", "--file", str(file), "-o", "json").output)
    assert (found["allowed"], found["reason"]) == (False, "CERTIFICATE_REVOKED")


def test_the_journal_is_read_as_systemd_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, with its time; what is no line of the access log is passed over."""
    message = 'connection complete\\tsrc.addr=10.0.0.1:5 direction=\\"inbound\\" error=\\"connection failed: x\\"'
    lines = [f'{{"MESSAGE": "{message}", "__REALTIME_TIMESTAMP": "5000000"}}', '{"MESSAGE": null}', "{"]
    (tmp_path / "lines").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\ncat {tmp_path}/lines\n", encoding="utf-8")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (line,) = inbound_lines()
    assert (line.at, line.fields["src.addr"], line.reason) == (5.0, "10.0.0.1:5", Reason.APPLICATION_REFUSED)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (
            (
                '2026-01-01T00:00:00Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 direction="outbound" '
                'error="http status: 401 Unauthorized" response_flags="CONNECT" reason="PEER_DECLINED"'
            ),
            "PEER_DECLINED",
        ),
        (
            (
                '{"level":"error","time":"t","scope":"access","message":"connection complete",'
                '"dst.addr":"10.0.0.2:15008","error":"io error: Connection refused (os error 111)"}'
            ),
            "HBONE_REFUSED",
        ),
        (
            (
                '2026-01-01T00:00:00.1Z error access connection complete src.addr=10.0.0.1:5 src.workload="a" '
                'error="connection closed due to policy rejection: allow policies exist, but none allowed"'
            ),
            "POLICY_NOT_ALLOWED",
        ),
    ],
)
def test_a_line_of_the_log_is_explained(line: str, code: str) -> None:
    """Plain or JSON, with a code or from before there were any, of hostmesh or of ztunnel."""
    result = hostmesh("--log", line)
    assert result.exit_code == 1
    assert f"REFUSED  {code}: " in result.output
    assert json.loads(hostmesh("--log", line, "-o", "json").output)["reason"] == code


def test_a_line_without_an_error_is_no_failure() -> None:
    """And text that is no line is said to be none."""
    result = hostmesh("--log", 'src.addr=10.0.0.1:5 direction="inbound" duration="3ms"')
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "nothing failed")
    assert "not a line of the access log" in hostmesh("--log", "hello").output


@pytest.mark.parametrize("target", ["web", "web:http", "web:0", "web:65536"])
def test_a_destination_has_a_port(mesh: Path, target: str) -> None:
    """A usage error says what it should look like."""
    result = hostmesh("prod/sleep", target, "-f", str(mesh))
    assert result.exit_code == 2
    assert "is not host:port" in result.output


def test_ports_are_tried() -> None:
    """What answers, and what refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert probe(SocketAddress.of("127.0.0.1", port)) is Reach.OPEN
    assert probe(SocketAddress.of("127.0.0.1", port)) is Reach.REFUSED


def test_the_control_plane_knows_what_agents_do_not(tmp_path: Path) -> None:
    """Where policies are written, who is revoked, what NetworkPolicies say; no agent is needed on its host."""
    with control_plane(tmp_path) as running:
        client = Client(running.socket)
        client.apply([{"source": "mesh.yaml", "text": MESH}], dry_run=False)
        call = ("prod/sleep", "prod/web:80", "--socket", str(running.socket), "--port", "1", "--no-probe")
        result = hostmesh(*call)
        assert "REFUSED  POLICY_NOT_ALLOWED" in result.output
        assert f"prod/batch-only at {running.directory}" in result.output
        client.ca_revoke("spiffe://cluster.local/ns/prod/sa/sleep", "", "keyCompromise")
        assert "REFUSED  CERTIFICATE_REVOKED" in hostmesh(*call).output
