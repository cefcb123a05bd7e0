"""What the collection says of its plugins is what they take."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))


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
