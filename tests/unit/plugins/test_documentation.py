"""What the collection says of its plugins is what they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the collection is found under its own name."""
    folder = tmp_path_factory.mktemp("collections")
    collection = folder / "ansible_collections" / "hostmesh" / "mesh"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(ROOT)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Python 3.11 in the C locale is not enough for Ansible.
    return {"PATH": path, "ANSIBLE_COLLECTIONS_PATH": str(folder), "HOME": str(folder), "LC_ALL": "C.UTF-8"}


def test_every_module_is_documented(environment: dict[str, str]) -> None:
    """As ansible-doc reads it: each option has a description, there are examples, and what is returned is named."""
    names = [f"hostmesh.mesh.{name}" for name in MODULES]
    done = subprocess.run(["ansible-doc", "-j", *names], capture_output=True, text=True, env=environment, check=True)
    found = json.loads(done.stdout)
    assert sorted(found) == names
    for name, one in found.items():
        assert one["doc"]["short_description"], name
        assert one["examples"].strip(), name
        assert one["return"], name
        assert {"check_mode", "diff_mode", "platform"} <= set(one["doc"]["attributes"]), name
        assert all(option["description"] for option in one["doc"].get("options", {}).values()), name


def test_the_mesh_is_an_inventory(environment: dict[str, str], tmp_path: Path) -> None:
    """Hosts by node, groups by what runs on them; the command is the user's own."""
    workloads = [
        {"name": "web-1", "namespace": "shop", "node": "app1", "services": {"shop/web.shop.svc": {"80": 8080}}},
        {"name": "web-2", "namespace": "shop", "node": "app2", "services": {"shop/web.shop.svc": {"80": 8080}}},
        {"name": "outside", "namespace": "shop"},
    ]
    (tmp_path / "workloads.json").write_text(json.dumps({"items": workloads}), encoding="utf-8")
    source = tmp_path / "mesh.yml"
    source.write_text(f"plugin: hostmesh.mesh.mesh\ncommand: [cat, {tmp_path}/workloads.json]\n", encoding="utf-8")
    command = ["ansible-inventory", "-i", str(source), "--list"]
    settings = {**environment, "ANSIBLE_INVENTORY_ENABLED": "hostmesh.mesh.mesh"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=True)
    found = json.loads(done.stdout)
    assert found["mesh_service_web"]["hosts"] == ["app1", "app2"]
    assert found["mesh_workload_web_1"]["hosts"] == ["app1"]
    # What a mesh says is no template.
    (workload,) = found["_meta"]["hostvars"]["app2"]["mesh_workloads"]
    assert workload["name"] == {"__ansible_unsafe": "web-2"}


def test_a_command_that_fails_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    """With the file, the command and its own words."""
    source = tmp_path / "mesh.yml"
    source.write_text("plugin: hostmesh.mesh.mesh\ncommand: [cat, /none]\n", encoding="utf-8")
    command = ["ansible-inventory", "-i", str(source), "--list"]
    settings = {**environment, "ANSIBLE_INVENTORY_ENABLED": "hostmesh.mesh.mesh"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)
    assert "cat /none: cat: /none: No such file or directory" in " ".join(done.stderr.split())
