"""The modules of the control plane against a real one: check mode, differences, a second run, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.control_plane import control_plane

ROOT = Path(__file__).parents[3]
Run = Callable[..., dict[str, Any]]

POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"rules": [{"from": [{"source": {"namespaces": ["shop"]}}]}]},
}
WORKLOAD = {
    "name": "web-mesh1",
    "namespace": "shop",
    "address": "10.0.0.1",
    "node": "mesh1",
    "service_account": "web",
    "ports": {"http": "8080"},
    "labels": {"app": "web"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a module as Ansible does on a host: a program that reads its arguments and prints one JSON object."""
    folder = tmp_path_factory.mktemp("modules")
    collection = folder / "ansible_collections" / "hostmesh" / "mesh"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(ROOT)
    with control_plane(folder) as running:

        def call(module: str, check: bool = False, **options: object) -> dict[str, Any]:
            given = {"socket": str(running.socket), **options, "_ansible_check_mode": check, "_ansible_diff": True}
            done = subprocess.run(
                [sys.executable, "-m", f"ansible_collections.hostmesh.mesh.plugins.modules.{module}"],
                input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={**os.environ, "PYTHONPATH": str(folder), "HOME": str(folder)},
            )
            assert done.stdout, done.stderr
            return dict(json.loads(done.stdout))

        yield call


def changes(result: dict[str, Any]) -> bool:
    assert not result.get("failed"), result["msg"]
    return bool(result["changed"])


def test_a_document_is_applied_once(run: Run) -> None:
    """Check mode says what would be and changes nothing; the difference is the document's; a second run is none."""
    would = run("mesh_policy", check=True, definition=[POLICY])
    assert changes(would)
    assert "+kind: AuthorizationPolicy" in would["diff"][0]["prepared"]
    assert run("mesh_info", gather=["mesh"])["mesh"]["policies"] == []
    assert changes(run("mesh_policy", definition=[POLICY]))
    assert [one["name"] for one in run("mesh_info", gather=["mesh"])["mesh"]["policies"]] == ["web"]
    assert not changes(run("mesh_policy", definition=[POLICY]))
    assert not changes(run("mesh_policy", check=True, definition=[POLICY]))
    assert changes(run("mesh_policy", check=True, definition=[POLICY], state="absent"))
    assert changes(run("mesh_policy", definition=[POLICY], state="absent"))
    assert not changes(run("mesh_policy", definition=[POLICY], state="absent"))


def test_a_wrong_document_is_refused_with_its_field(run: Run) -> None:
    """And none of the call is applied."""
    wrong = {**POLICY, "metadata": {"name": "wrong", "namespace": "shop"}, "spec": {"rule": []}}
    result = run("mesh_policy", definition=[POLICY, wrong])
    assert result["failed"]
    assert "definition[1]" in result["msg"]
    assert "spec.rule: unknown field; did you mean 'rules'?" in result["msg"]
    assert run("mesh_info", gather=["mesh"])["mesh"]["policies"] == []


def test_files_are_read_where_the_module_runs(run: Run, tmp_path: Path) -> None:
    """As many documents as there are."""
    file = tmp_path / "policies.yaml"
    file.write_text(
        "\n---\n".join(json.dumps({**POLICY, "metadata": {"name": name}}) for name in "ab"), encoding="utf-8"
    )
    applied = run("mesh_policy", src=[str(file)])
    assert changes(applied)
    assert [one["action"] for one in applied["objects"]] == ["created", "created"]
    assert changes(run("mesh_policy", src=[str(file)], state="absent"))
    assert "No such file" in run("mesh_policy", src=[str(tmp_path / "none.yaml")])["msg"]


def test_a_workload_is_registered(run: Run) -> None:
    """With the identity and the node that it is to have; what changes is shown."""
    assert changes(run("mesh_workload", check=True, **WORKLOAD))
    assert changes(run("mesh_workload", **WORKLOAD))
    assert not changes(run("mesh_workload", **WORKLOAD))
    (found,) = run("mesh_info", gather=["mesh"])["mesh"]["workloads"]
    assert (found["name"], found["node"], found["serviceAccount"]) == ("web-mesh1", "mesh1", "web")
    moved = run("mesh_workload", **{**WORKLOAD, "address": "10.0.0.2"})
    assert {"-  address: 10.0.0.1", "+  address: 10.0.0.2"} <= set(moved["diff"][0]["prepared"].splitlines())
    assert changes(run("mesh_workload", name="web-mesh1", namespace="shop", state="absent"))
    assert not changes(run("mesh_workload", name="web-mesh1", namespace="shop", state="absent"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({**WORKLOAD, "ports": {"http": "web"}}, "ports.http: 'web' is no port"),
        ({"name": "web"}, "address, node"),
        ({**WORKLOAD, "weight": -1}, "spec.weight"),
    ],
)
def test_a_wrong_workload_is_refused(run: Run, options: dict[str, Any], why: str) -> None:
    """By the module or by the control plane, in words."""
    result = run("mesh_workload", **options)
    assert result["failed"]
    assert why in result["msg"]


def test_tokens_are_minted_and_revoked(run: Run) -> None:
    """The token is returned once; a second revocation has nothing to do."""
    assert run("mesh_join_token", check=True, node="mesh9")["token"] == ""
    assert run("mesh_info", gather=["tokens"])["tokens"] == []
    minted = run("mesh_join_token", node="mesh9", ttl=60)
    assert changes(minted)
    identifier = minted["token"].partition(".")[0]
    assert run("mesh_join_token", check=True, node="mesh9", state="absent")["revoked"] == [identifier]
    assert run("mesh_join_token", node="mesh9", state="absent")["revoked"] == [identifier]
    assert not changes(run("mesh_join_token", node="mesh9", state="absent"))


def test_identities_are_revoked_and_admitted(run: Run) -> None:
    """Each once, whatever is asked again."""
    about = {"identity": "spiffe://cluster.local/ns/shop/sa/web"}
    assert changes(run("mesh_ca", check=True, **about))
    revoked = run("mesh_ca", **about)
    assert revoked["diff"][0]["after"] == f"{about['identity']}: revoked\n"
    assert not changes(run("mesh_ca", **about))
    assert changes(run("mesh_ca", state="admitted", **about))
    assert not changes(run("mesh_ca", state="admitted", **about))


def test_a_rotation_goes_step_by_step(run: Run) -> None:
    """A step that has been taken is not taken again; after `aborted`, there is nothing to abort."""
    assert not changes(run("mesh_ca", rotation="aborted"))
    assert changes(run("mesh_ca", check=True, rotation="started"))
    assert changes(run("mesh_ca", rotation="started"))
    assert not changes(run("mesh_ca", rotation="started"))
    assert changes(run("mesh_ca", rotation="aborted"))
    # The new root may have signed meanwhile; then the rotation stays until somebody finishes it.
    assert (run("mesh_info", gather=["ca"])["ca"]["rotation"] or {"phase": "reverted"})["phase"] == "reverted"
    assert not changes(run("mesh_ca", rotation="aborted"))


def test_no_control_plane_is_said_with_the_next_step(run: Run, tmp_path: Path) -> None:
    """The usual mistake is to run it on another host."""
    result = run("mesh_info", socket=str(tmp_path / "none.sock"))
    assert result["failed"]
    assert "run this on its host (delegate_to)" in result["msg"]
    assert "systemctl status hostmesh-agent" in run("mesh_info", gather=["agent"], admin_port=1)["msg"]
