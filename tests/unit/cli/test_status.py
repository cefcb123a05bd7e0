"""What `hostmesh status` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from hostmesh.cli.status import render, status

FACTS: dict[str, Any] = {
    "node": "mesh2",
    "version": "1.0",
    "ready": True,
    "pending": [],
    "controlPlane": {"address": "192.0.2.1:15012", "connected": True, "error": ""},
    "nodeCertificate": {"state": "Available", "expires": 1000.0 + 7200, "serial": "3", "lastError": ""},
    "mesh": {"workloads": 5, "services": 3, "policies": 4},
    "dns": {"enabled": False, "domains": [], "addresses": [], "port": 15053, "problem": ""},
    "networkPolicy": {"enforce": False, "known": False, "error": "", "isolated": []},
    "workers": [{"pid": 11, "ready": True}, {"pid": 12, "ready": False}],
    "tlsEngine": "bundled",
    "workloads": [
        {
            "name": "recommendation",
            "namespace": "default",
            "identity": "spiffe://cluster.local/ns/default/sa/recommendation",
            "unit": "recommendation.service",
            "capture": "captured",
            "certificate": {"state": "Available", "expires": 1000.0 + 3 * 3600 + 62, "lastError": ""},
        },
        {
            "name": "batch",
            "namespace": "prod",
            "identity": "spiffe://cluster.local/ns/prod/sa/batch",
            "unit": "batch.service",
            "capture": "drop-in missing",
            "certificate": {"state": "Initializing", "expires": None, "lastError": ""},
        },
    ],
}

SCREEN = """\
node            mesh2 (hostmesh 1.0): ready
control plane   192.0.2.1:15012: connected
certificate     Available, 2h00m00s left
mesh            5 workloads, 3 services, 4 policies
proxy workers   11, 12 (starting); TLS engine bundled

WORKLOAD                 UNIT                     CAPTURE           IDENTITY                                              CERTIFICATE
default/recommendation   recommendation.service   captured          spiffe://cluster.local/ns/default/sa/recommendation   Available, 3h01m02s left
prod/batch               batch.service            drop-in missing   spiffe://cluster.local/ns/prod/sa/batch               Initializing"""  # noqa: E501 -- a screen


def test_one_screen_says_what_the_agent_is_doing() -> None:
    """Control plane, workers, and each workload with its certificate's time left."""
    assert render(FACTS, 1000.0) == SCREEN


def test_without_a_control_plane_none_is_missed() -> None:
    """The mesh is what a file says; the node has no certificate, and needs none."""
    plane = {"address": "localhost:15012", "connected": False, "error": ""}
    lines = render(FACTS | {"meshFile": "/etc/hostmesh/mesh.yaml", "controlPlane": plane}, 1000.0).splitlines()
    assert lines[1:3] == ["mesh file       /etc/hostmesh/mesh.yaml", SCREEN.splitlines()[3]]


def test_what_is_wrong_stands_in_capitals() -> None:
    """Not ready, not connected, expired."""
    facts = FACTS | {
        "ready": False,
        "pending": ["certificates", "state manager"],
        "controlPlane": {"address": "a:1", "connected": False, "error": "unreachable"},
        "captureProblems": ["w.yaml:3: capture.unit: inbound is not captured"],
    }
    screen = render(facts, 1000.0 + 4 * 3600)
    assert "NOT READY, pending: certificates, state manager" in screen
    assert "NOT CONNECTED (unreachable)" in screen
    assert "Available, expired" in screen
    assert "\nWARNING  w.yaml:3: capture.unit: inbound is not captured" in screen


def test_a_renewal_that_fails_is_shown_long_before_it_hurts() -> None:
    """With the reason, for the node and for workloads."""
    node = FACTS["nodeCertificate"] | {"lastError": "the control plane is unreachable"}
    lines = render(FACTS | {"nodeCertificate": node}, 1000.0).splitlines()
    assert lines[-2:] == ["", "WARNING  certificate of node mesh2: the control plane is unreachable"]


def test_network_policies_of_a_host_that_enforces_them() -> None:
    """How many workloads, how much was refused; what keeps them from being in place stands in capitals."""
    one = {"workload": "prod/a", "direction": "Ingress", "policies": ["prod/p"], "dropped": 3}
    policies: dict[str, Any] = {"enforce": True, "known": True, "error": "", "isolated": [one, one]}

    def line(**more: Any) -> str:
        screen = render(FACTS | {"networkPolicy": policies | more}, 1000.0)
        return next(found for found in screen.splitlines() if found.startswith("NetworkPolicy"))

    assert line() == "NetworkPolicy   1 workloads isolated, 6 packets dropped"
    assert line(known=False) == "NetworkPolicy   the control plane has not told them yet"
    assert line(error="nft: no") == "NetworkPolicy   FAILED: nft: no"


def test_names_where_they_are_answered() -> None:
    """Which ones and where, or why not."""
    dns = {"enabled": True, "domains": ["svc.x"], "addresses": ["127.0.0.1"], "port": 15053, "problem": ""}
    assert "DNS             names of svc.x at 127.0.0.1 port 15053" in render(FACTS | {"dns": dns}, 0.0)
    assert "DNS             FAILED: in use" in render(FACTS | {"dns": dns | {"problem": "in use"}}, 0.0)


def test_an_agent_that_does_not_answer_is_told_with_the_next_step() -> None:
    """Exit status 1; port 1 is nobody's."""
    result = CliRunner().invoke(status, ["--port", "1"])
    assert result.exit_code == 1
    assert "the agent does not answer on http://127.0.0.1:1/status" in result.output
    assert "systemctl status hostmesh-agent" in result.output


def test_a_saved_status_is_as_good_as_the_agents(tmp_path: Path) -> None:
    """A bug report has it: somebody elsewhere sees the same screen."""
    saved = tmp_path / "status.json"
    saved.write_text(json.dumps(FACTS), encoding="utf-8")
    shown = CliRunner().invoke(status, ["--file", str(saved)])
    assert (shown.exit_code, shown.output.splitlines()[0]) == (0, SCREEN.splitlines()[0])
    assert yaml.safe_load(CliRunner().invoke(status, ["--file", str(saved), "-o", "yaml"]).output) == FACTS
    saved.write_text("{}", encoding="utf-8")
    refused = CliRunner().invoke(status, ["--file", str(saved)])
    assert refused.exit_code == 1
    assert "not what `hostmesh status -o json` prints: it has no 'ready'; a config dump is shown by" in refused.output


def test_watching_is_for_people() -> None:
    """And looks at the agent, not at a file."""
    assert CliRunner().invoke(status, ["--watch", "-o", "json"]).exit_code == 2
