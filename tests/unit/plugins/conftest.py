"""What tests of the collection's plugins have in common."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


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
