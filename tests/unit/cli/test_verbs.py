"""apply, get, diff, delete, token against a real control plane: what a user sees, from an empty mesh to a policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.support.control_plane import control_plane
from tests.support.documents import document

from hostmesh.cli import main

Run = Callable[..., Result]

ENTRY = document(
    "WorkloadEntry",
    "address: 10.0.0.1\nserviceAccount: web\nports: {http: 8080}",
    "name: web, labels: {hostmesh.io/node: mesh1, app: web}",
)
SERVICE = document("Service", "selector: {app: web}\nports: [{name: http, port: 80}]", "name: web")
STRICT = document("PeerAuthentication", "mtls: {mode: STRICT}", "name: strict")
POLICY = document("AuthorizationPolicy", "rules: [{from: [{source: {namespaces: [a]}}]}]", "name: web")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs `hostmesh ...` against a control plane of this test."""
    with control_plane(tmp_path) as running:

        def invoke(*arguments: str, text: str = "") -> Result:
            environment = {"HOSTMESH_CONTROL_SOCKET": str(running.socket)}
            return CliRunner(env=environment).invoke(main, arguments, input=text)

        yield invoke


def test_a_session(run: Run) -> None:
    """Transcript: register, look, restrict, err, change, delete."""
    applied = run("apply", "-f", "-", text="---\n".join([ENTRY, SERVICE, STRICT, POLICY]))
    assert applied.stdout.splitlines() == [
        "WorkloadEntry/default/web created",
        "Service/default/web created",
        "PeerAuthentication/default/strict created",
        "AuthorizationPolicy/default/web created",
    ]
    assert rows(run("get", "we")) == [
        "NAMESPACE NAME ADDRESS NODE SERVICE ACCOUNT PORTS",
        "default web 10.0.0.1 mesh1 web http:8080",
    ]
    assert rows(run("get", "workloads", "-o", "wide"))[1] == (
        "default web 10.0.0.1 mesh1 None HBONE spiffe://cluster.local/ns/default/sa/web "
        "istio-system/istio_converted_static_strict"
    )
    assert rows(run("get", "meshservices", "-o", "wide"))[1] == (
        "default web 240.240.0.1,2001:2::1 None 1/1 web.default.svc.cluster.local 80->80"
    )
    assert rows(run("get", "pol"))[1:] == [
        "default web Allow Namespace",
        "istio-system istio_converted_static_strict Deny WorkloadSelector",
    ]
    assert rows(run("get", "pa")) == ["NAMESPACE NAME MODE SCOPE", "default strict STRICT namespace"]
    wrong = run("apply", "-f", "-", text=POLICY.replace("namespaces", "namespace"))
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith(
        "Error: <stdin>:5: spec.rules[0].from[0].source.namespace: unknown field; did you mean 'namespaces'?"
    )
    changed = POLICY.replace("[a]", "[b]")
    diff = run("diff", "-f", "-", text=changed)
    assert diff.exit_code == 1
    assert [line.split() for line in diff.stdout.splitlines() if line[:1] in "+-"][2:] == [
        ["-", "-", "a"],
        ["+", "-", "b"],
    ]
    assert run("apply", "-f", "-", text=changed).stdout == "AuthorizationPolicy/default/web configured\n"
    assert run("diff", "-f", "-", text=changed).exit_code == 0
    assert run("delete", "ap", "web").stdout == "AuthorizationPolicy/default/web deleted\n"
    gone = run("delete", "ap", "web")
    assert (gone.exit_code, gone.stderr) == (
        1,
        "Error: AuthorizationPolicy default/web is not there; `hostmesh get authorizationpolicy` lists what is\n",
    )


def test_a_policy_on_trial(run: Run) -> None:
    """`--audit` annotates policies and nothing else; mistakes are told where they were written; later it counts."""
    applied = run("apply", "--audit", "-f", "-", text="---\n".join([ENTRY, POLICY]))
    assert applied.stdout.splitlines() == [
        "WorkloadEntry/default/web created",
        "AuthorizationPolicy/default/web created",
    ]
    kept = yaml.safe_load(run("get", "authorizationpolicies", "web", "-o", "yaml").stdout)
    assert kept["metadata"]["annotations"] == {"istio.io/dry-run": "true"}
    wrong = run("apply", "--audit", "-f", "-", text=POLICY.replace("namespaces", "namespace"))
    assert "<stdin>:5: spec.rules[0].from[0].source.namespace: unknown field" in wrong.stderr
    assert run("apply", "-f", "-", text=POLICY).stdout == "AuthorizationPolicy/default/web configured\n"


def test_output_for_programs(run: Run, tmp_path: Path) -> None:
    """JSON and YAML of what was written, one object bare, many in a list."""
    done = json.loads(run("apply", "-o", "json", "-f", "-", text=ENTRY).stdout)
    assert done["outcomes"][0]["file"] == f"{tmp_path}/documents/workloadentry.default.web.yaml"
    assert json.loads(run("get", "we", "web", "-o", "json").stdout) == yaml.safe_load(ENTRY)
    assert json.loads(run("get", "we", "-o", "json").stdout) == {"items": [yaml.safe_load(ENTRY)]}
    assert yaml.safe_load(run("get", "we", "web", "-o", "yaml").stdout) == yaml.safe_load(ENTRY)
    assert json.loads(run("get", "workloads", "web", "-o", "json").stdout)["serviceAccount"] == "web"
    assert json.loads(run("get", "nodes", "-o", "json").stdout) == {"items": []}
    assert json.loads(run("get", "leases", "-o", "json").stdout) == {"items": []}


def test_what_is_not_there(run: Run) -> None:
    """Nothing at all is not an error; one that was named is."""
    nothing = run("get", "ap")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nothing found\n")
    assert run("get", "ap", "x").exit_code == 1
    assert run("get", "workloads", "x").exit_code == 1
    usage = run("get", "polices")
    assert usage.exit_code == 2
    assert "did you mean 'policies'?" in usage.stderr


def test_mistakes_on_disk_are_shown(run: Run, tmp_path: Path) -> None:
    """Beside what is live in spite of them; and nothing can be applied on top."""
    (tmp_path / "documents" / "x.yaml").write_text("kind: Pod\napiVersion: v1\n")
    refused = run("apply", "-f", "-", text=ENTRY)
    assert refused.exit_code == 1
    assert f"{tmp_path}/documents/x.yaml:1: kind: unknown kind 'Pod'" in refused.stderr
    shown = run("get", "we")
    assert shown.exit_code == 0
    assert shown.stderr.startswith(f"nothing found\nnot live: {tmp_path}/documents/x.yaml:1: kind: unknown kind 'Pod'")


def test_warnings_are_shown_and_do_not_fail(run: Run) -> None:
    """On standard error, with the line."""
    done = run("apply", "--dry-run", "-f", "-", text=document("AuthorizationPolicy", "selector: {}", "name: a"))
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: <stdin>:5: spec.selector: selects by no label")
    assert done.stdout == "AuthorizationPolicy/default/a created (dry run)\n"


def test_tokens(run: Run) -> None:
    """Shown once, alone on a line, for a shell to take."""
    minted = run("token", "create", "--node", "mesh2", "--ttl", "10m")
    assert minted.exit_code == 0
    assert len(minted.stdout.split()) == 1
    assert json.loads(run("token", "create", "--node", "mesh2", "-o", "json").stdout)["ttl"] == 3600
    assert run("token", "create", "--node", "mesh2", "--ttl", "soon").exit_code == 2
    assert run("token", "create", "--node", "a b").stderr.startswith("Error: 'a b' is not a node name")


def test_errors_of_diff_are_told_from_differences(run: Run) -> None:
    """Status 2, for 1 means that something would change."""
    assert run("diff", "-f", "-", text="kind: Pod").exit_code == 2


def rows(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_network_policies(run: Run) -> None:
    """Applied like any document, with what its author should know; agents are told the half inside tunnels."""
    spec = "podSelector: {matchLabels: {app: web}}\ningress: [{from: [{podSelector: {}}], ports: [{port: http}]}]"
    policy = document("NetworkPolicy", f"{spec}\negress: []", "name: allow")
    applied = run("apply", "-f", "-", text=f"{ENTRY}---\n{policy}")
    assert applied.stdout.splitlines() == ["WorkloadEntry/default/web created", "NetworkPolicy/default/allow created"]
    assert "spec.egress: says nothing about egress" in applied.stderr
    assert rows(run("get", "netpol")) == [
        "NAMESPACE NAME POD-SELECTOR POLICY TYPES",
        "default allow app=web Ingress",
    ]
    key = "network_policy_allow_http-8080"
    assert rows(run("get", "pol"))[1:] == [f"default {key} Deny WorkloadSelector"]
    assert rows(run("get", "workloads", "-o", "wide"))[1].endswith(f"default/{key}")
    assert run("delete", "netpol", "allow").stdout == "NetworkPolicy/default/allow deleted\n"
    assert rows(run("get", "pol"))[1:] == []
