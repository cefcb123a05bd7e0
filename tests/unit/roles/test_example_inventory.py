"""The inventory to start from: ten hosts whose variables Ansible reads, and whose documents the control plane takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hostmesh.control.documents.read import check_together, read

EXAMPLE = Path(__file__).parents[3] / "inventories" / "example"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Variables of each host."""
    password = tmp_path_factory.mktemp("vault") / "password"
    password.write_text("example", encoding="utf-8")
    command = ["ansible-inventory", "-i", str(EXAMPLE), "--list", "--vault-password-file", str(password)]
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    environment["HOME"] = str(password.parent)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return dict(json.loads(done.stdout)["_meta"]["hostvars"])


def test_there_are_ten_hosts_with_services(found: dict[str, dict[str, object]]) -> None:
    """And a secret that is encrypted."""
    assert len(found) == 10
    assert sum("hostmesh_workloads" in one for one in found.values()) == 9
    assert "__ansible_vault" in str(found["web1.example.org"]["ansible_become_password"])


def test_its_documents_are_right(found: dict[str, dict[str, object]]) -> None:
    """As the control plane reads them."""
    documents = found["control1.example.org"]["hostmesh_documents"]
    assert isinstance(documents, list)
    objects = [item for one in documents for item in read(yaml.safe_dump_all(one["content"]), one["name"])]
    assert len(objects) >= 2
    assert not check_together(objects)
