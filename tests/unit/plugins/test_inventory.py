"""The mesh as an inventory, by Ansible itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path


def inventory(environment: dict[str, str], *sources: Path) -> subprocess.CompletedProcess[str]:
    """What ansible-inventory makes of them."""
    settings = {**environment, "ANSIBLE_INVENTORY_ENABLED": "hostmesh.mesh.mesh"}
    asked = ["ansible-inventory", *(f"--inventory={one}" for one in sources), "--list"]
    return subprocess.run(asked, capture_output=True, text=True, env=settings, check=False)


def source(folder: Path, *command: str) -> Path:
    """An inventory whose workloads a command prints."""
    folder.mkdir(exist_ok=True)
    (folder / "mesh.yml").write_text(json.dumps({"plugin": "hostmesh.mesh.mesh", "command": command}))
    return folder / "mesh.yml"


def test_the_mesh_is_an_inventory(environment: dict[str, str], tmp_path: Path) -> None:
    """Hosts by node, groups by what runs on them; the command is the user's own."""
    workloads = [
        {"name": "web-1", "namespace": "shop", "node": "app1", "services": {"shop/web.shop.svc": {"80": 8080}}},
        {"name": "web-2", "namespace": "shop", "node": "app2", "services": {"shop/web.shop.svc": {"80": 8080}}},
        {"name": "outside", "namespace": "shop"},
    ]
    printed = tmp_path / "workloads.json"
    printed.write_text(json.dumps({"items": workloads}), encoding="utf-8")
    found = json.loads(inventory(environment, source(tmp_path, "cat", str(printed))).stdout)
    assert found["mesh_service_web"]["hosts"] == ["app1", "app2"]
    assert found["mesh_workload_web_1"]["hosts"] == ["app1"]
    # What a mesh says is no template.
    (workload,) = found["_meta"]["hostvars"]["app2"]["mesh_workloads"]
    assert workload["name"] == {"__ansible_unsafe": "web-2"}


def test_a_command_that_fails_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    """With the file, the command and its own words."""
    done = inventory(environment, source(tmp_path, "cat", "/none"))
    assert "cat /none: cat: /none: No such file or directory" in " ".join(done.stderr.split())


PRINTED = {
    b"hello": "prints no list of workloads",
    b'{"items": {}}': "prints no list of workloads",
    b'{"items": ["web"]}': "prints no list of workloads",
    b'{"items": [{"name": "\xe4"}]}': "prints no list of workloads",
    b'{"items": [{"name": "web", "node": "app1"}]}': "prints a workload without name or namespace",
}


def test_a_command_that_prints_something_else_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    """The usual mistakes are a greeting before the JSON, and another command."""
    sources = []
    for number, printed in enumerate(PRINTED):
        (tmp_path / f"printed-{number}").write_bytes(printed)
        sources.append(source(tmp_path / str(number), "cat", str(tmp_path / f"printed-{number}")))
    said = " ".join(inventory(environment, *sources).stderr.split())
    for number, why in enumerate(PRINTED.values()):
        assert f"{sources[number]}: cat {tmp_path}/printed-{number} {why}" in said
