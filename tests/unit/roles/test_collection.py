"""The collection as a tarball: built, installed without a network, and complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ansible-galaxy put it."""
    folder = tmp_path_factory.mktemp("galaxy")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
    }
    galaxy = ("ansible-galaxy", "collection")

    def must(*command: str) -> None:
        done = subprocess.run(
            [*galaxy, *command], capture_output=True, text=True, env=environment, cwd=folder, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    must("build", str(ROOT), "--output-path", str(folder))
    (tarball,) = folder.glob("*.tar.gz")
    must("install", "--offline", str(tarball), "-p", str(folder / "collections"))
    return folder / "collections" / "ansible_collections" / "hostmesh" / "mesh"


def test_hostmesh_can_be_built_from_it(installed: Path) -> None:
    """The same version as from the repository: nothing that decides what hosts get is left out."""

    def version(source: Path) -> str:
        build = source / "roles" / "_common" / "files" / "build_bundle.py"
        command = ["/usr/bin/python3", str(build), "--source", str(source), "--check"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["version"])

    assert version(installed) == version(ROOT)


def test_what_users_need_is_in_it_and_what_developers_need_is_not(installed: Path) -> None:
    """Playbooks, documents, dashboards; no tests, labs and caches."""
    there = {path.name for path in installed.iterdir()}
    assert {"playbooks", "roles", "plugins", "docs", "monitoring", "inventories", "systemd", "agent"} <= there
    assert not there & {
        "tests",
        "lab",
        "demo",
        "bench",
        "molecule",
        "deb",
        "dist",
        ".venv",
        ".hypothesis",
        ".git",
        ".ansible",
    }
    assert (installed / "playbooks" / "upgrade.yml").exists()
    assert not (installed / "inventories" / "demo").exists()
