"""Playbooks: mistakes of an inventory are told before a host is touched. No host can be reached here."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CONTROL_PLANE = {"hosts": {"cp1": {}}}
REACHED = "UNREACHABLE"


def play(
    name: str,
    tmp_path: Path,
    control_plane: Mapping[str, Any],
    variables: Mapping[str, Any],
    playbooks: Path = ROOT / "playbooks",
) -> str:
    """What the playbook says for one agent with these variables; on one line, as Ansible breaks lines anywhere."""
    collections = tmp_path / "ansible_collections" / "hostmesh"
    collections.mkdir(parents=True)
    (collections / "mesh").symlink_to(ROOT)
    groups = {"hostmesh_control_plane": control_plane, "hostmesh_agents": {"hosts": {"a1": variables, "a2": {}}}}
    nobody = {"ansible_ssh_executable": "/bin/false"}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"children": groups, "vars": nobody}}))
    command = ["ansible-playbook", "-i", str(tmp_path / "inventory.json"), str(playbooks / f"{name}.yml")]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_SSH_RETRIES": "0"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"agent_workers": "many"}, "agent_workers"),
        ({"agent_enrolment": "sometimes"}, "agent_enrolment must be one of: host_key, token"),
        ({"hostmesh_workloads": [{"name": "web", "prots": {"http": 80}}]}, "workload_list.prots"),
        ({"hostmesh_workloads": [{"ports": {"http": 80}}]}, "missing required arguments: name found in workload_list"),
        ({"hostmesh_workloads": "web"}, "hostmesh_workloads"),
        ({"hostmesh_waypoint": {"nmae": "wp"}}, "hostmesh_waypoint.nmae"),
    ],
)
def test_a_mistake_is_named_and_nobody_is_touched(tmp_path: Path, variables: dict[str, Any], why: str) -> None:
    """Of the wrong type, not one of the choices, unknown, missing."""
    said = play("site", tmp_path, CONTROL_PLANE, variables)
    assert why in said
    assert re.search(r"(failed|fatal): \[a1\]", said)
    assert REACHED not in said


@pytest.mark.parametrize(
    ("playbook", "variables", "why"),
    [
        (
            "site",
            {"hostmesh_wrokloads": [], "agent_certifcate_ttl": "1h"},
            r"_certifcate_ttl.*: did you mean agent_certificate_ttl\?.*_wrokloads.*: did you mean hostmesh_workloads\?",
        ),
        (
            "rotate_ca",
            {"hostmesh_rotaton": "finished"},
            r"hostmesh_rotaton( \(\S+\))?: did you mean hostmesh_rotation\?",
        ),
        ("rotate_ca", {"hostmesh_rotation": "finish"}, "value of hostmesh_rotation must be one of: started, switched"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_one_that_was_meant(
    tmp_path: Path, playbook: str, variables: dict[str, Any], why: str
) -> None:
    """It would have been ignored: services gone from the mesh, a default instead of what was wanted."""
    said = play(playbook, tmp_path, CONTROL_PLANE, variables)
    assert re.search(why, said)
    assert REACHED not in said


def test_a_role_of_its_own_checks_names_of_variables_as_well(tmp_path: Path) -> None:
    """For playbooks of users'."""
    playbook = [{"hosts": "hostmesh_agents", "gather_facts": False, "roles": ["hostmesh.mesh.agent"]}]
    (tmp_path / "own.yml").write_text(json.dumps(playbook))
    said = play("own", tmp_path, CONTROL_PLANE, {"hostmesh_wrokloads": []}, tmp_path)
    assert "did you mean hostmesh_workloads?" in said


def test_a_mesh_has_a_control_plane(tmp_path: Path) -> None:
    """The group is empty, and it is not said that somebody else is one."""
    said = play("site", tmp_path, {}, {})
    assert "put a host into the group hostmesh_control_plane" in said
    assert REACHED not in said


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"hostmesh_workloads": [{"name": "web", "ports": {"http": 80}}]},
        {"hostmesh_rack": "12", "agent_smith": 1, "hostmesh_own_variables": ["hostmesh_rack"]},
    ],
)
def test_what_is_right_goes_on_to_the_hosts(tmp_path: Path, variables: dict[str, Any]) -> None:
    """Then they are asked."""
    assert REACHED in play("site", tmp_path, CONTROL_PLANE, variables)


def test_a_host_that_is_added_is_checked_as_well(tmp_path: Path) -> None:
    """By itself: others, of which nothing is wrong, are asked."""
    said = play("enrol", tmp_path, CONTROL_PLANE, {"hostmesh_workloads": [{"name": "web", "prots": {}}]})
    assert "workload_list.prots" in said
    assert "Look at the host" in said
