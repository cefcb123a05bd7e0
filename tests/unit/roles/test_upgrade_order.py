"""playbooks/upgrade.yml: who comes when, and when it ends. The hosts are names, and nothing is done to them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TASKS = """\
- name: Upgrade, or fail as a host does that went back
  ansible.builtin.assert:
    that: inventory_hostname != fails
"""
AGENTS = [f"a{number}" for number in range(1, 8)]


@pytest.fixture
def upgrade(tmp_path: Path) -> Path:
    """The playbook in a collection whose role does that."""
    collection = tmp_path / "ansible_collections" / "hostmesh" / "mesh"
    for name in ("tasks", "../../playbooks"):
        (collection / "roles" / "_common" / name).resolve().mkdir(parents=True)
    (collection / "galaxy.yml").write_text((ROOT / "galaxy.yml").read_text())
    (collection / "roles" / "_common" / "tasks" / "upgrade.yml").write_text(TASKS)
    (collection / "roles" / "_common" / "tasks" / "variables.yml").write_text("[]\n")
    for name in ("upgrade.yml", "variables.yml"):
        (collection / "playbooks" / name).write_text((ROOT / "playbooks" / name).read_text())
    playbook = collection / "playbooks" / "upgrade.yml"
    groups = {"hostmesh_control_plane": ["cp1", "cp2"], "hostmesh_agents": AGENTS}
    hosts = {
        name: {"hosts": {host: {"ansible_connection": "local"} for host in group}} for name, group in groups.items()
    }
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"children": hosts}}))
    return playbook


@pytest.mark.parametrize(
    ("fails", "settings", "touched"),
    [
        ("nobody", {}, ["cp1", "cp2", *AGENTS]),
        ("cp1", {}, ["cp1"]),
        ("a1", {}, ["cp1", "cp2", "a1"]),
        ("a3", {"serial": [1, 3]}, ["cp1", "cp2", *AGENTS[:4]]),
        ("a3", {"serial": [1, 3], "max_fail_percentage": 40}, ["cp1", "cp2", *AGENTS]),
        ("a3", {"serial": [1, 3], "max_fail_percentage": 30}, ["cp1", "cp2", *AGENTS[:4]]),
    ],
)
def test_it_ends_with_the_batch_that_fails(
    upgrade: Path, tmp_path: Path, fails: str, settings: dict[str, object], touched: list[str]
) -> None:
    """A canary that fails is the only one; more may fail only if the operator says so, and it is never a success."""
    variables = {"fails": fails, "ansible_become": False}
    variables |= {f"hostmesh_upgrade_{name}": value for name, value in settings.items()}
    command = ["ansible-playbook", "-i", str(tmp_path / "inventory.json"), str(upgrade), "-e", json.dumps(variables)]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert sorted(re.findall(r"^(?:ok|fatal): \[(\w+)\]", done.stdout, re.MULTILINE)) == sorted(touched), done.stdout
    assert (done.returncode == 0) is (fails == "nobody"), done.stdout
