"""What roles refuse, and what a check leaves out: played on this machine, as a check, so that nothing changes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
NEVER_RUN = {"_common_version": "1", "_common_host": {"installed": "", "documents": []}}
DOCUMENT = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "documents of another role": (
        "control_plane",
        {"control_plane_documents": [{"name": "waypoints", "content": [DOCUMENT]}]},
    ),
    "two files of one name": (
        "control_plane",
        {"control_plane_documents": [{"name": "a", "content": [DOCUMENT]}, {"name": "a", "src": "a.yaml"}]},
    ),
    "a file of nothing": ("control_plane", {"control_plane_documents": [{"name": "a"}]}),
    "a file of both": (
        "control_plane",
        {"control_plane_documents": [{"name": "a", "src": "a", "content": [DOCUMENT]}]},
    ),
    "no control plane": ("network_policy", {"network_policy_documents": [DOCUMENT]}),
}


def play(folder: Path, *tasks: dict[str, Any], options: tuple[str, ...] = (), **variables: object) -> None:
    """Give tasks to ansible-playbook on this machine; fails as it does, with what it said."""
    (folder / "ansible_collections" / "hostmesh").mkdir(parents=True)
    (folder / "ansible_collections" / "hostmesh" / "mesh").symlink_to(ROOT)
    variables |= {"ansible_python_interpreter": sys.executable}
    host = {"hosts": "local", "gather_facts": False, "vars": variables, "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([host]))
    command = ["ansible-playbook", "-i", "local,", "-c", "local", *options, str(folder / "play.yml")]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By case."""
    folder = tmp_path_factory.mktemp("play")
    tasks: list[dict[str, Any]] = [
        {
            "block": [{"ansible.builtin.include_role": {"name": f"hostmesh.mesh.{role}"}, "vars": variables}],
            "rescue": [
                {"ansible.builtin.set_fact": {"said": "{{ said | combine({case: ansible_failed_result.msg}) }}"}}
            ],
            "vars": {"case": case},
        }
        for case, (role, variables) in CASES.items()
    ]
    shared = {"_common_shared_file": "x.yaml", "_common_shared_text": "", "_common_shared_host": "local"}
    fresh = {"ansible.builtin.include_role": {"name": "hostmesh.mesh._common", "tasks_from": "apply_shared"}}
    tasks += [{**fresh, "vars": shared, "name": "A host that has no hostmesh yet"}]
    note = {"content": "{{ said | to_json }}", "dest": f"{folder}/said", "mode": "0600"}
    tasks += [{"ansible.builtin.copy": note, "check_mode": False}]
    play(folder, *tasks, options=("--check",), **NEVER_RUN, said={})
    return dict(json.loads((folder / "said").read_text()))


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("documents of another role", "the roles write files of the names inventory, network-policies, waypoints"),
        ("two files of one name", "two entries"),
        ("a file of nothing", "src or content"),
        ("a file of both", "src or content"),
        ("no control plane", "network_policy_local"),
    ],
)
def test_a_mistake_is_named(said: dict[str, str], case: str, why: str) -> None:
    """The user's policies would be replaced by another role's documents, or by each other, without a word."""
    assert why in said[case]


def test_a_host_without_hostmesh_gets_no_plugin(tmp_path: Path) -> None:
    """It is told what has to come first, and nothing is made."""
    plugins = tmp_path / "plugins"
    extra = json.dumps({"cni_package": str(tmp_path / "nothing"), "cni_bin_dir": str(plugins)})
    role = {"ansible.builtin.include_role": {"name": "hostmesh.mesh.cni"}}
    with pytest.raises(RuntimeError, match=r"local has no hostmesh in .*: let the role hostmesh\.mesh\.agent"):
        play(tmp_path, role, options=("--extra-vars", extra))
    assert not plugins.exists()


def test_the_archive_is_put_where_nobody_else_writes() -> None:
    """Who could write there beforehand could hold it open, and change what root is about to run."""
    variables = yaml.safe_load((ROOT / "roles" / "_common" / "vars" / "main.yml").read_text())
    folder = Path(variables["_common_archive"]).parent
    assert not folder.stat().st_mode & stat.S_IWOTH
