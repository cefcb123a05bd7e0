"""`hostmesh netpol` as an operator types it."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click import ClickException
from click.testing import CliRunner
from tests.support.documents import document

from hostmesh.cli import main
from hostmesh.cli.netpol import enforced

POLICY = document(
    "NetworkPolicy",
    """
    podSelector: {matchLabels: {app: web}}  # the shop
    ingress:
    - from: [{podSelector: {matchLabels: {app: client}}}]
      ports: [{port: http}]
    """,
    "name: allow",
)
DOCUMENTS = (
    document("WorkloadEntry", "address: 10.0.0.1\nports: {http: 8080}\nlabels: {app: web}", "name: web"),
    document("WorkloadEntry", "address: 10.0.0.2\nserviceAccount: client\nlabels: {app: client}", "name: client"),
    POLICY,
)


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["netpol", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def written(directory: Path, *texts: str) -> str:
    path = directory / "policy.yaml"
    path.write_text("---\n".join(texts))
    return str(path)


def test_check_adapt_check(tmp_path: Path) -> None:
    """What check complains about, adapt adds; then check is content, and adapting again changes nothing."""
    path = written(tmp_path, POLICY)
    said = run("check", "-f", path, status=1)
    assert len(json.loads(run("check", "-f", path, "-o", "json", status=1))["missing"]) == len(said.splitlines()) - 1
    assert f"{path}:8: spec.ingress[0].ports: connections of the mesh arrive at TCP port 15008" in said
    assert "169.254.7.127/32" in said
    printed = run("adapt", "-f", path)
    assert "# the shop" in printed
    assert Path(path).read_text() == POLICY
    assert run("adapt", "-i", "-f", path) == ""
    assert Path(path).read_text() == printed
    assert run("check", "-f", path) == "nothing of the mesh is cut\n"
    assert run("adapt", "-f", path) == printed
    assert run("check", "--ipv6", "-f", path, status=1).startswith(f"{path}:6: spec.ingress: no rule admits health")


def test_check_leads_to_adapt_only_where_that_helps(tmp_path: Path) -> None:
    """A policy with a mistake is the author's to mend."""
    path = written(tmp_path, POLICY.replace("podSelector: {matchLabels: {app: client}}", "ipBlock: {cidr: 10.0.0.1/8}"))
    said = run("check", "-f", path, status=1)
    assert "has host bits set" in said
    assert "netpol adapt" not in said


def test_adapt_shows_the_difference(tmp_path: Path) -> None:
    """Only added lines of a policy written in blocks."""
    path = written(tmp_path, document("NetworkPolicy", "podSelector: {}"))
    lines = run("adapt", "--diff", "-f", path).splitlines()
    assert [line for line in lines if line.startswith("+  ")] == [
        "+  ingress:",
        "+  - from:",
        "+    - ipBlock:",
        "+        cidr: 169.254.7.127/32",
    ]
    assert not [line for line in lines[2:] if line.startswith("-")]


def test_mistakes_stop_everything(tmp_path: Path) -> None:
    """With their lines, and no file written."""
    bad = POLICY.replace("port: http", "port: 0")
    path = written(tmp_path, POLICY, bad)
    said = run("adapt", "-i", "-f", path, status=1)
    assert "spec.ingress[0].ports[0].port: a number between 1 and 65535" in said
    assert Path(path).read_text() == f"{POLICY}---\n{bad}"
    assert "a number between" in run("check", "-f", path, status=1)


def test_explain(tmp_path: Path) -> None:
    """Both halves: rules of the host, and what is denied inside tunnels."""
    said = run("explain", "default/web", "-f", written(tmp_path, *DOCUMENTS))
    assert said == dedent(
        """\
        default/web: ingress is isolated by default/allow
          on its host, for new connections:
            ip saddr { 10.0.0.2 } tcp dport { 8080 } return    # default/allow ingress[0]
            drop    # ingress of default/web is isolated
          inside tunnels and for plaintext taken in by the agent, default/network_policy_allow_http-8080 denies
            what is not from 10.0.0.2/32, or by an identity other than default/client, or not to port 8080
        default/web: egress is not isolated, everything is allowed
        """
    )


def test_explain_somebody_unknown(tmp_path: Path) -> None:
    """With the names that there are."""
    said = run("explain", "default/wbe", "-f", written(tmp_path, *DOCUMENTS), status=1)
    assert "no workload 'default/wbe'; did you mean 'default/web'? allowed: default/client, default/web" in said


def test_compile_for_a_host_without_a_control_plane(tmp_path: Path) -> None:
    """Written once, told when it changes; a mistake is named with its place, and nothing is written."""
    documents, target = tmp_path / "d.yaml", tmp_path / "p.json"
    policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: prod}\nspec: SPEC\n"
    documents.write_text(policy.replace("SPEC", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"))
    arguments = ["netpol", "compile", "-f", str(documents), "-o", str(target)]
    dry = CliRunner().invoke(main, [*arguments, "--dry-run"])
    assert (dry.stdout, target.exists()) == ("changed\n", False)
    assert CliRunner().invoke(main, arguments).stdout == "changed\n"
    again = CliRunner().invoke(main, arguments)
    assert again.stdout == "unchanged\n"
    assert f"{documents}:4: spec.podSelector: selects no workload" in again.stderr
    before = target.read_text()
    documents.write_text(
        policy.replace("SPEC", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]}")
    )
    wrong = CliRunner().invoke(main, arguments)
    assert wrong.exit_code == 1
    assert f"{documents}:4: spec.ingress[0].from[0].ipBlock.cidr" in wrong.stderr
    assert target.read_text() == before


def test_what_the_agent_of_a_host_says() -> None:
    """Rules with what they dropped, the half inside, and what is wrong; a name that is none gets a suggestion."""
    one = {"workload": "prod/web", "direction": "Ingress", "policies": ["prod/p"], "dropped": 2, "rules": ["drop"]}
    inside = {"prod/web": ["  inside"], "b": []}
    facts: dict[str, Any] = {"enforce": True, "error": "", "kernel": ["gone"], "isolated": [one], "inside": inside}
    assert enforced(facts, "prod/web").splitlines() == [
        "WARNING  the kernel is not as it should be: gone",
        "prod/web: ingress is isolated by prod/p",
        "  in the kernel of this host, for new connections (2 packets dropped so far):",
        "    drop",
        "  inside",
    ]
    assert enforced(facts | {"kernel": []}, "b") == "b: no NetworkPolicy holds, everything is allowed\n"
    assert "does not enforce" in enforced(facts | {"enforce": False}, "b")
    with pytest.raises(ClickException, match="prod/web"):
        enforced(facts, "prod/wed")
